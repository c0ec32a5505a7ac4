"""The endpoint on this machine, on one core: requests of one row, and /ping beside large bodies.

    python benchmarks/bench_serving.py

The model is trained here with the default settings on sample telemetry (--package FOLDER takes an exported one). Each
server is held to one core. Every caller keeps its connection and sends the next request when the last is answered.

The first table compares it with the same model in a plain Starlette app. A core's rate is the rows answered per second
of the server's processor time, so that other work on the machine hardly counts. The two servers take turns, and the
best of three rounds is shown. The second table shows how long /ping takes alone and while four callers send bodies of
6 MiB. What is compared takes turns, and the figures are of all three rounds together.
"""

import argparse
import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import measure

ROUNDS, SECONDS, WARM_UP = 3, 4.0, 1.0
CALLERS = (1, 32)
LARGE_CALLERS, LARGE_BYTES = 4, 6 * 2**20
PING_SECONDS, PING_PAUSE = 10.0, 0.01
SERVERS = {"plain": "plain Starlette app", "ours": "scarcegan serve"}


# -- the servers, each in a process of its own ----------------------------------------------------------------------


def serve(kind: str, package: Path) -> None:
    """Serve a package, print the port, and answer each line of stdin with the processor time used so far."""
    from scarcegan import serving

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    listener = serving.listen("127.0.0.1", 0)
    server = (ours if kind == "ours" else plain)(package)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=tell_processor_time, daemon=True).start()
    server.run(sockets=[listener])


def tell_processor_time() -> None:
    for _ in sys.stdin:
        print(time.process_time(), flush=True)
    os._exit(0)


def ours(package: Path):
    """The endpoint as `scarcegan serve` runs it, which records every request."""
    from scarcegan import serving
    from scarcegan.monitoring.data_capture import Capture

    endpoint = serving.Endpoint(serving.read_package_facts(package), Capture(Path(tempfile.mkdtemp(dir=package))))
    endpoint.model = serving.load_model(package / "model")
    endpoint.hosts = serving.Hosts(frozenset({"x"}))
    return serving.server_of(endpoint)


def plain(package: Path):
    """What one would write first: parse, call the model in a thread, answer. It checks and records nothing."""
    import numpy as np
    import tensorflow as tf
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    model = tf.saved_model.load(str(package / "model" / "1"))
    signature = model.signatures["serving_default"]

    def score(rows: list) -> list[dict]:
        found = {name: value.numpy().tolist() for name, value in signature(tf.constant(rows, tf.float32)).items()}
        return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]

    async def invocations(request):
        rows = (await request.json())["instances"]
        return JSONResponse({"predictions": await run_in_threadpool(score, rows)})

    columns = signature.structured_input_signature[1]["features"].shape[1]
    score(np.zeros((1, columns)).tolist())
    app = Starlette(routes=[Route("/invocations", invocations, methods=["POST"])])
    app.state.keep = model  # the signature holds only weak references
    return uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))


@contextmanager
def started(kind: str, package: Path) -> Iterator[subprocess.Popen]:
    """A server in a process of its own, with its port as `port`."""
    command = [sys.executable, __file__, "--package", str(package), "--serve", kind]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    server.port = int(server.stdout.readline())
    try:
        yield server
    finally:
        server.stdin.close()
        server.wait()


def processor_time(server: subprocess.Popen) -> float:
    server.stdin.write("\n")
    server.stdin.flush()
    return float(server.stdout.readline())


# -- the callers ----------------------------------------------------------------------------------------------------


class Caller:
    """One connection, which sends the same request again and again."""

    def __init__(self, port: int, request: bytes) -> None:
        self.connection, self.request = socket.create_connection(("127.0.0.1", port)), request
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send()

    def send(self) -> None:
        self.sent, self.heard, self.length = time.perf_counter(), b"", None
        self.connection.sendall(self.request)

    def seconds_when_answered(self) -> float | None:
        """Read what has come; the seconds since the request was sent if the answer is whole, else None."""
        self.heard += self.connection.recv(65536)
        head, end, _ = self.heard.partition(b"\r\n\r\n")
        if self.length is None and end:
            assert head.startswith(b"HTTP/1.1 200"), self.heard
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            self.length = len(head) + 4 + int(fields[b"content-length"])
        return time.perf_counter() - self.sent if self.length is not None and len(self.heard) >= self.length else None


def load(server: subprocess.Popen, request: bytes, callers: int) -> tuple[float, float, float]:
    """(rows per second of the server's processor time, rows per second, p50 in ms) with so many callers at once."""
    chosen = selectors.DefaultSelector()
    for caller in [Caller(server.port, request) for _ in range(callers)]:
        chosen.register(caller.connection, selectors.EVENT_READ, caller)
    seconds: list[float] = []

    def call_for(duration: float) -> float:
        begun = time.perf_counter()
        while time.perf_counter() < begun + duration:
            for key, _ in chosen.select(1):
                if (took := key.data.seconds_when_answered()) is not None:
                    seconds.append(took)
                    key.data.send()
        return time.perf_counter() - begun

    call_for(WARM_UP)
    seconds.clear()
    before = processor_time(server)
    wall = call_for(SECONDS)
    used = processor_time(server) - before
    for key in list(chosen.get_map().values()):
        key.data.connection.close()
    return len(seconds) / used, len(seconds) / wall, sorted(seconds)[len(seconds) // 2] * 1e3


def request_of(package: Path) -> bytes:
    """The example request of a package: the typical user."""
    from scarcegan import serving

    row = serving.read_package_facts(package).typical
    return post("application/json", json.dumps({"instances": [row]}))


def post(kind: str, body: str) -> bytes:
    head = ("POST /invocations HTTP/1.1", "Host: x", f"Content-Type: {kind}", f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "", body)).encode()


# -- /ping beside large bodies --------------------------------------------------------------------------------------


def large_requests(package: Path) -> dict[str, bytes]:
    """{words for a row of the table: the request}: as many users as fit, each about the typical one; b"" for none."""
    import numpy as np
    from scarcegan import serving

    typical = np.array(serving.read_package_facts(package).typical)
    drawn = np.random.default_rng(0).lognormal(size=(1_000, len(typical))) * typical
    rows = [json.dumps([float(f"{value:.6g}") for value in row]) for row in drawn]
    bodies = {"JSON": ("application/json", '{"instances": [%s]}', ", "), "CSV": ("text/csv", "%s", "\n")}
    requests = {"alone": b""}
    for name, (kind, form, between) in bodies.items():
        one = [row.strip("[]") for row in rows] if name == "CSV" else rows
        many = int((LARGE_BYTES - len(form)) / (sum(map(len, one)) / len(one) + len(between)) * 0.999)
        body = form % between.join(one[i % len(one)] for i in range(many))
        requests[f"beside {LARGE_CALLERS} of {len(body) / 2**20:.1f} MiB, {name}, {many:,} rows"] = post(kind, body)
    return requests


def ping_seconds(server: subprocess.Popen, request: bytes) -> tuple[list[float], int]:
    """(the seconds that each /ping took, the number of large bodies answered meanwhile)."""
    answered, stopped = [0] * LARGE_CALLERS, threading.Event()

    def call(place: int) -> None:
        caller = Caller(server.port, request)
        while not stopped.is_set():
            if caller.seconds_when_answered() is not None:
                answered[place] += 1
                caller.send()
        caller.connection.close()

    callers = [threading.Thread(target=call, args=(place,)) for place in range(LARGE_CALLERS if request else 0)]
    for caller in callers:
        caller.start()
    time.sleep(WARM_UP)
    ping, seconds, end = (
        Caller(server.port, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"),
        [],
        time.perf_counter() + PING_SECONDS,
    )
    while time.perf_counter() < end:
        while (took := ping.seconds_when_answered()) is None:
            pass
        seconds.append(took)
        time.sleep(PING_PAUSE)
        ping.send()
    stopped.set()
    for caller in callers:
        caller.join()
    return seconds, sum(answered)


def show_ping(package: Path) -> None:
    """Print the table: /ping alone, beside large bodies of JSON, and of CSV."""
    requests = large_requests(package)
    found: dict[str, list[float]] = {name: [] for name in requests}
    bodies = dict.fromkeys(requests, 0)
    for _ in range(ROUNDS):
        with started("ours", package) as server:
            for name, request in requests.items():
                seconds, answered = ping_seconds(server, request)
                found[name] += seconds
                bodies[name] += answered
    rows = []
    for name, seconds in found.items():
        seconds.sort()
        shares = (f"{seconds[int(share * len(seconds))] * 1e3:.1f}" for share in (0.5, 0.95, 0.99))
        rows.append([name, *shares, f"{seconds[-1] * 1e3:.1f}", len(seconds), bodies[name]])
    measure.show(["/ping, ms", "p50", "p95", "p99", "longest", "pings", "bodies answered"], rows)


# -- the model ------------------------------------------------------------------------------------------------------


def trained_package(folder: Path) -> Path:
    """The model best_ranking of the default settings, trained on 3,000 users, and its baseline. It takes minutes."""
    from scarcegan.data import synthetic
    from scarcegan.local import runner
    from scarcegan.pipeline import config
    from scarcegan.pipeline.definition import Pipeline, training

    synthetic.generate(folder / "data", users=3_000)
    (folder / "config.yaml").write_text("{}", encoding="utf-8")
    whole = training(config.load_config(folder / "config.yaml", []))
    steps = tuple(step for step in whole.steps if step.name in ("features", "split", "train", "baseline"))
    sources = {"telemetry": folder / "data" / "telemetry", "labels": folder / "data" / "labels.csv"}
    result = runner.run_pipeline(Pipeline("serving", whole.sources, steps, whole.optional), sources, folder / "runs")
    if not result.finished:
        raise SystemExit(result.reason)
    for step, output, name in (("train", "models", "model"), ("baseline", "baseline", "baseline")):
        shutil.copytree(result.output(step, output) / "best_ranking", folder / "package" / name)
    return folder / "package"


def main() -> None:
    it = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    it.add_argument("--package", type=Path, help="the folder of an exported package")
    it.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    args = it.parse_args()
    if args.serve:
        return serve(args.serve, args.package)
    with tempfile.TemporaryDirectory() as folder:
        package = args.package or trained_package(Path(folder))
        compare(package)
        show_ping(package)


def compare(package: Path) -> None:
    """Print the table: each server with each number of callers."""
    best: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    request = request_of(package)
    for _ in range(ROUNDS):
        for kind in SERVERS:
            with started(kind, package) as server:
                for callers in CALLERS:
                    best.setdefault((kind, callers), []).append(load(server, request, callers))
    rows = []
    for callers in CALLERS:
        for kind, words in SERVERS.items():
            rates, walls, medians = zip(*best[kind, callers], strict=True)
            rows.append(
                [f"{words}, {callers} at once", f"{max(rates):,.0f}", f"{max(walls):,.0f}", f"{min(medians):.2f}"]
            )
    measure.show(["one row a request", "rows/s per core", "rows/s here", "p50, ms"], rows)


if __name__ == "__main__":
    main()
