"""The verb `demo`: runs every part of the project once, and prints each command before it runs it."""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from scarcegan.cli.console import print_progress
from scarcegan.errors import UserError
from scarcegan.monitoring.statistics import typical_row
from scarcegan.progress import seconds_text
from scarcegan.workspace import Workspace

REQUEST_SECONDS = 120  # to wait for an answer of the endpoint
LATER = {
    "data/later": "2026-03-06",
    "data/latest": "2026-03-13",
}  # first days of two user bases whose behaviour has drifted


def run_demo(config: Path) -> None:
    """Make telemetry, train and approve a model, answer a request, score users, and write a drift report.

    Each part is an ordinary command, printed to stderr before it runs. Data that is there already is kept, a model is
    approved only when there is no champion, and steps that have not changed come from the cache.

    - config: the path of the project's config.yaml.

    Raises SystemExit with the exit code of the first command that fails, which is 3 when the gate is closed; UserError
    for a bad config.yaml; and the errors of `approve_gate_model` and `answer_one_request`.
    """
    project = Workspace.open(config)
    begun = time.monotonic()
    print_progress("the demo takes about three minutes on two cores; what is done already is not done again")
    if not project.path(project.config.data.path).exists():
        run_verb(config, "data", "make")
    run_verb(config, "run")
    if project.champion() is None:
        approve_gate_model(project, config)
    answer_one_request(project, config)
    run_verb(config, "score")
    for folder, start in LATER.items():
        if not project.path(folder).exists():
            run_verb(config, "data", "make", "--out", folder, "--start", start, "--drift", "1", "--users", "3000")
        run_verb(config, "score", f"{folder}/telemetry")
    run_verb(config, "monitor")
    print_progress(f"done in {seconds_text(time.monotonic() - begun)}. Where to look:")
    for title, path in where_to_look(project):
        print_progress(f"  {title:<22} {path}")
    print_progress("  runs and models        scarcegan ui      (MLflow, in the browser)")
    print_progress("  your own data          data: in config.yaml, then scarcegan data check and scarcegan run")


def approve_gate_model(project: Workspace, config: Path) -> None:
    """Approve the newest registered model, on this machine, of the business definition gate.definition of config.yaml.

    - config: the path of the project's config.yaml.

    Raises UserError when no such model is registered, and SystemExit when the command fails.
    """
    versions = [p.version for p in project.registry().packages() if p.definition == project.config.gate.definition]
    if not versions:
        raise UserError(
            "the gate is closed, so no model was registered. Read why in the report, change config.yaml, and run again."
        )
    run_verb(config, "approve", str(max(versions)), "--note", "approved by scarcegan demo")


def answer_one_request(project: Workspace, config: Path) -> None:
    """Start the champion's endpoint on a free port, send it the features of one user, print the answer, and stop it.

    The request is recorded for monitoring, as any other.

    - config: the path of the project's config.yaml.

    Raises UserError when there is no champion, RuntimeError when the endpoint ends before it answers, and the errors of
    `post`.
    """
    package = project.package(None)
    row = example_row(project.exported(package))
    print_progress("$ scarcegan serve --port 0")
    server = subprocess.Popen(
        [sys.executable, "-m", "scarcegan", "--config", str(config), "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = wait_for_url(server)
        body = f'{{"instances": [[…{len(row)} features…]]}}'
        print_progress(f"$ curl {url}/invocations -H 'Content-Type: application/json' -d '{body}'")
        print(json.dumps(post(f"{url}/invocations", {"instances": [row]}), indent=2))
    finally:
        server.terminate()
        server.wait(timeout=30)


def example_row(package: Path) -> list[float]:
    """Return the features of an average user: the mean of each in a package's baseline, in the order of the model's
    features.

    A feature without a mean, such as a category, gets 0.

    - package: the folder that the package was exported to.
    """
    statistics = json.loads((package / "baseline" / "statistics.json").read_text(encoding="utf-8"))
    features = json.loads((package / "model" / "model.json").read_text(encoding="utf-8"))["features"]
    return list(typical_row(statistics, features))


def wait_for_url(server: subprocess.Popen) -> str:
    """Read a server's stderr until it prints its address, and return the address, such as http://127.0.0.1:8080.

    A thread goes on reading stderr afterwards, so that the server never waits for a reader.

    - server: a process whose stderr is a pipe of text.

    Raises RuntimeError, with the lines that were read, when the server ends before.
    """
    lines = []
    assert server.stderr is not None
    for line in server.stderr:
        lines.append(line)
        if match := re.search(r"http://[\d.]+:\d+", line):
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return match.group()
    raise RuntimeError("the server ended before it answered:\n" + "".join(lines))


def post(url: str, body: object) -> object:
    """Send a value as JSON with HTTP POST, and return the value that the JSON of the answer holds.

    Raises urllib.error.URLError when the server cannot be reached or answers with an error status, and TimeoutError
    when no answer comes within REQUEST_SECONDS.
    """
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
        return json.load(answer)


def run_verb(config: Path, *words: str) -> None:
    """Print a command of scarcegan to stderr, run it in a process of its own, and wait until it has ended.

    - config: the path of the project's config.yaml.
    - words: the verb and its arguments.

    Raises SystemExit with the command's exit code when that is not 0.
    """
    print_progress("$ scarcegan " + " ".join(f"'{word}'" if " " in word else word for word in words))
    code = subprocess.run([sys.executable, "-m", "scarcegan", "--config", str(config), *words]).returncode
    if code:
        raise SystemExit(code)


def where_to_look(project: Workspace) -> list[tuple[str, str]]:
    """Return (description, path as text) of the newest result of each kind: training, scoring, drift.

    The path is that of a report, or of the flagged users. Kinds without a result are left out; the kind whose result is
    newest comes first.
    """
    wanted = {
        "training": ("evaluation report", "evaluate/evaluation/report.html"),
        "scoring": ("flagged users", "score/scored/flagged.csv"),
        "monitoring": ("drift report", "monitor/monitoring/report.html"),
    }
    found = {}
    for run in project.runs():
        title, path = wanted.get(run["pipeline"], ("", ""))
        file = project.runs_folder / run["run"] / path
        if title not in found and file.exists():
            found[title] = project.show(file)
    return list(found.items())
