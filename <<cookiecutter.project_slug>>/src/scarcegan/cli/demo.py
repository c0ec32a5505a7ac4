"""Everything once, as a newcomer would type it: each act prints the command it runs and what came of it."""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from scarcegan.errors import UserError
from scarcegan.monitoring.statistics import typical_row
from scarcegan.workspace import Workspace

START_SECONDS = 120
LATER = {"data/later": "2026-03-06", "data/latest": "2026-03-13"}  # two user bases whose habits have moved


def play(config: Path) -> None:
    """Telemetry -> champion -> answered request -> scored users -> drift report. Each act is an ordinary command."""
    place = Workspace.open(config)
    begun = time.monotonic()
    if not place.path(place.config.data.path).exists():
        command(config, "data", "make")
    command(config, "run")
    if place.champion() is None:
        approve_the_judged_model(place, config)
    answer_one_request(place, config)
    command(config, "score")
    for folder, start in LATER.items():
        if not place.path(folder).exists():
            command(config, "data", "make", "--out", folder, "--start", start, "--drift", "1", "--users", "3000")
        command(config, "score", f"{folder}/telemetry")
    command(config, "monitor")
    say(f"done in {time.monotonic() - begun:.0f} s. Where to look:")
    for words, path in where_to_look(place):
        say(f"  {words:<22} {path}")
    say("  runs and models        scarcegan ui      (MLflow, in the browser)")
    say("  your own data          data: in config.yaml, then scarcegan data check and scarcegan run")


def approve_the_judged_model(place: Workspace, config: Path) -> None:
    judged = [p.version for p in place.registry().packages() if p.definition == place.config.gate.definition]
    if not judged:
        raise UserError(
            "the gate stayed closed, so no model was registered. The report says why; mend it and run again."
        )
    command(config, "approve", str(max(judged)), "--note", "approved by scarcegan demo")


def answer_one_request(place: Workspace, config: Path) -> None:
    """Start the endpoint on a free port, send one user's features, stop it again."""
    package = place.package(None)
    row = example_row(place.exported(package))
    say("$ scarcegan serve --port 0")
    server = subprocess.Popen(
        [sys.executable, "-m", "scarcegan", "--config", str(config), "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = wait_for_url(server)
        say(f"$ curl {url}/invocations -d '{{\"instances\": [[…{len(row)} features…]]}}'")
        print(json.dumps(post(f"{url}/invocations", {"instances": [row]}), indent=2))
    finally:
        server.terminate()
        server.wait(timeout=30)


def example_row(package: Path) -> list[float]:
    """Mean of each feature in the package's baseline: a user like most."""
    statistics = json.loads((package / "baseline" / "statistics.json").read_text(encoding="utf-8"))
    features = json.loads((package / "model" / "model.json").read_text(encoding="utf-8"))["features"]
    return list(typical_row(statistics, features))


def wait_for_url(server: subprocess.Popen) -> str:
    """Read the server's stderr until it announces its address; RuntimeError with what it said when it does not."""
    said = []
    assert server.stderr is not None
    for line in server.stderr:
        said.append(line)
        if match := re.search(r"http://[\d.]+:\d+", line):
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return match.group()
    raise RuntimeError("the server ended before it answered:\n" + "".join(said))


def post(url: str, body: object) -> object:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
        return json.load(answer)


def command(config: Path, *words: str) -> None:
    """Run a verb as a person would, and stop the demo with its exit code when it fails."""
    say("$ scarcegan " + " ".join(f"'{word}'" if " " in word else word for word in words))
    code = subprocess.run([sys.executable, "-m", "scarcegan", "--config", str(config), *words]).returncode
    if code:
        raise SystemExit(code)


def where_to_look(place: Workspace) -> list[tuple[str, str]]:
    """The newest report of each pipeline, and the flagged users."""
    wanted = {
        "training": ("evaluation report", "evaluate/evaluation/report.html"),
        "scoring": ("flagged users", "score/scored/flagged.csv"),
        "monitoring": ("drift report", "monitor/monitoring/report.html"),
    }
    found = {}
    for run in place.runs():
        words, path = wanted[run["pipeline"]]
        file = place.runs_folder / run["run"] / path
        if words not in found and file.exists():
            found[words] = place.show(file)
    return list(found.items())


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
