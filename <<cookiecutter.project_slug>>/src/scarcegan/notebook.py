"""Retraining from a notebook: the same functions for runs on this machine and executions in AWS. No plots.

project = open_project(cloud=False)
run = project.start({"train.iterations": 2000})
project.watch(run)
project.scores(run)
"""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scarcegan.errors import UserError
from scarcegan.pipeline.engine import Engine, RunFacts
from scarcegan.workspace import Workspace

Changes = Mapping[str, Any]


@dataclass(frozen=True)
class NotebookProject:
    """A project whose training pipeline is started and watched from a notebook, here or in AWS.

    - workspace: the project's folder on this machine, with its settings
    - engine: what runs the training pipeline

    Every method raises UserError for a mistake of the user's.
    """

    workspace: Workspace
    engine: Engine

    def start(self, changes: Changes) -> str:
        """Start the training pipeline and return the id of the run. On this machine it runs to its end first.

        changes: dotted key of config.yaml -> value, for this run only, such as {"train.iterations": 2000}.
        """
        return self.engine.start(as_set_values(changes))

    def watch(self, run: str) -> str:
        """Print each change of a run's steps until it has ended, and return its status."""
        return self.engine.watch(run, lambda line: print(line, flush=True))

    def runs(self, newest: int) -> list[RunFacts]:
        """The newest training runs, newest first, each with "run" (its id), "status", "started" and "changed".

        changed: name -> value of each setting in which the run differs from the present config.yaml, or from the
        defaults of the pipeline in AWS.
        """
        return self.engine.runs(newest)

    def folder(self, run: str, step: str, output: str) -> Path:
        """A folder on this machine with an output of a step of a run; it is downloaded when it lies in AWS."""
        return self.engine.folder(run, step, output)


def engine_here(workspace: Workspace) -> Engine:
    """The engine that runs the project's training pipeline on this machine."""
    from scarcegan.local.engine import LocalEngine

    def train(changes: Sequence[str]) -> str:
        return Workspace.open(workspace.root / "config.yaml", changes).train().run

    return LocalEngine(workspace.runs_folder, workspace.config, train)


def engine_in_aws(workspace: Workspace) -> Engine:
    """The engine that runs the project's training pipeline in AWS."""
    from scarcegan.sagemaker.engine import SageMakerEngine

    return SageMakerEngine(workspace.root / "config.yaml", workspace.config, workspace.runs_folder / ".cloud")


def open_project(cloud: bool = False, start: Path | None = None) -> NotebookProject:
    """Open the project of a notebook: the nearest config.yaml in the folder `start` (default: the present) or above it.

    cloud: True runs the training pipeline in AWS, False on this machine. In a notebook, user mistakes are from then on
    shown as one sentence. Raises UserError when there is no config.yaml.
    """
    here = (start or Path.cwd()).resolve()
    show_mistakes_as_sentences()
    for folder in (here, *here.parents):
        if (folder / "config.yaml").is_file():
            workspace = Workspace.open(folder / "config.yaml")
            return NotebookProject(workspace, engine_in_aws(workspace) if cloud else engine_here(workspace))
    raise UserError(f"{here}: no config.yaml in this folder or above it. Open the notebook in the project's folder.")


def show_mistakes_as_sentences() -> None:
    """Make IPython show a UserError as one sentence on stderr instead of a traceback. The cell still fails."""
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        shell.set_custom_exc((UserError,), lambda *arguments, **_: print(f"error: {arguments[2]}", file=sys.stderr))


def gate_result(project: NotebookProject, run: str) -> dict[str, Any]:
    """The content of a run's gate.json: "passed", "reason", "definition", "metric", "challenger", "champion" …"""
    return json.loads((project.folder(run, "evaluate", "gate") / "gate.json").read_text(encoding="utf-8"))


def scores(project: NotebookProject, run: str) -> list[dict[str, Any]]:
    """The rows of a run's evaluation.csv: "model", "metric", "value", and the 95 % interval "low" to "high".

    A number is None where it is undefined. The models are those of the four business definitions, the simple models
    and, when there is one, the champion.
    """
    with open(project.folder(run, "evaluate", "evaluation") / "evaluation.csv", encoding="utf-8", newline="") as file:
        return [
            {**row, **{key: float(row[key]) if row[key] else None for key in ("value", "low", "high")}}
            for row in csv.DictReader(file)
        ]


def comparison(project: NotebookProject, newest: int = 10) -> list[dict[str, Any]]:
    """A row for each of the newest runs, newest first; runs that have not reached the gate are left out.

    run: its id.
    changed: the settings that were changed for it, as text.
    metric: the name of the gate's metric.
    value, low, high: the metric of the run's model with its 95 % interval.
    champion: the metric of the champion on the same users, or None.
    gate: "open" or "closed".
    """
    rows = []
    for about in project.runs(newest):
        try:
            gate, found = gate_result(project, about["run"]), scores(project, about["run"])
        except (UserError, FileNotFoundError):
            continue
        of = {row["model"]: row for row in found if row["metric"] == gate["metric"]}
        ours, champion = of[gate["definition"]], of.get("champion", {})
        rows.append(
            {
                "run": about["run"],
                "changed": ", ".join(f"{key}={value}" for key, value in about["changed"].items()) or "nothing",
                "metric": gate["metric"],
                "value": ours["value"],
                "low": ours["low"],
                "high": ours["high"],
                "champion": champion.get("value"),
                "gate": "open" if gate["passed"] else "closed",
            }
        )
    return rows


def as_set_values(changes: Changes) -> list[str]:
    """Changes as texts KEY=VALUE, as --set takes them. Values are written as JSON, which is valid YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]
