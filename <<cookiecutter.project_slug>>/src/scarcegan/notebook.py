"""Retraining from a notebook: the same functions for runs on this machine and executions in AWS. No plots.

project = open_project(cloud=False)
run = project.start({"train.iterations": 2000})
project.watch(run)
scores(project, run)
"""

import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scarcegan.errors import UserError
from scarcegan.pipeline.engine import Engine, RunFacts
from scarcegan.workspace import Workspace

Changes = Mapping[str, Any]


@dataclass(frozen=True)
class NotebookProject:
    """A project whose training pipeline is started and watched from a notebook, on this machine or in AWS.

    - workspace: the project's folder on this machine, with its settings.
    - engine: what runs the training pipeline, here or in AWS.

    Every method raises UserError for a mistake of the user's.
    """

    workspace: Workspace
    engine: Engine

    def start(self, changes: Changes) -> str:
        """Start the training pipeline and return the id of the run. On this machine it has ended by then, well or not.

        - changes: {key of config.yaml with dots: value}, for this run only, such as {"train.iterations": 2000}; {} for
          none.
        """
        return self.engine.start(as_set_values(changes))

    def watch(self, run: str) -> str:
        """Wait until a run has ended, print its steps to stdout, and return its status as text, as in `runs`.

        In AWS each change of a step is printed. On this machine the run has ended already, and each step's end is
        printed.

        - run: the id of the run, as `start` returns it.
        """
        return self.engine.watch(run, lambda line: print(line, flush=True))

    def runs(self, newest: int) -> list[RunFacts]:
        """Return the newest training runs, newest first, as dictionaries with these keys:

        - run: its id.
        - status: such as "finished" on this machine, or "Succeeded" in AWS.
        - started: the time as text.
        - changed: {name: value in the run} of each setting in which the run differs from the present config.yaml, or,
          in AWS, from the defaults of the pipeline there.

        newest: how many to return at most; in AWS, from 1 to 100.
        """
        return self.engine.runs(newest)

    def folder(self, run: str, step: str, output: str) -> Path:
        """Return a folder on this machine with an output of a step of a run; it is downloaded when it lies in AWS.

        When the step has not finished, or there is no such run, step or output: on this machine the path returned does
        not exist; in AWS, UserError is raised.

        - run: the id of the run.
        - step, output: their names, such as "evaluate" and "gate".
        """
        return self.engine.folder(run, step, output)


def open_project(cloud: bool = False, start: Path | None = None) -> NotebookProject:
    """Open the project of a notebook: the nearest config.yaml in the folder `start` or above it.

    From then on, a UserError in the notebook is shown as one sentence without a traceback.

    - cloud: True runs the training pipeline in AWS, False on this machine.
    - start: the folder to begin the search in; None: the current one.

    Raises UserError when there is no config.yaml, or it has a bad value. AWS is not contacted yet.
    """
    here = (start or Path.cwd()).resolve()
    show_mistakes_as_sentences()
    for folder in (here, *here.parents):
        if (folder / "config.yaml").is_file():
            workspace = Workspace.open(folder / "config.yaml")
            if not cloud:
                return NotebookProject(workspace, workspace.local_engine())
            from scarcegan.sagemaker.engine import sagemaker_engine

            return NotebookProject(workspace, sagemaker_engine(workspace))
    raise UserError(f"{here}: no config.yaml in this folder or above it. Open the notebook in the project's folder.")


def show_mistakes_as_sentences() -> None:
    """Make IPython show a UserError as one sentence on stderr instead of a traceback. The cell still fails.

    Outside IPython it does nothing.
    """
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        shell.set_custom_exc((UserError,), lambda *arguments, **_: print(f"error: {arguments[2]}", file=sys.stderr))


def gate_result(project: NotebookProject, run: str) -> dict[str, Any]:
    """Return the content of a run's gate.json: whether the gate opened, and why.

    - passed: whether it opened.
    - reason: a sentence.
    - definition: the name of the business definition whose model it compared.
    - metric: the name of the metric.
    - challenger, champion: the metric of that model and of the champion; None where it is missing or undefined.
    - Further keys: see decide_gate in evaluation/comparison.py.

    run: the id of the run.

    Raises UserError (in AWS) or FileNotFoundError (on this machine) for a run that has not reached the gate.
    """
    return json.loads((project.folder(run, "evaluate", "gate") / "gate.json").read_text(encoding="utf-8"))


def scores(project: NotebookProject, run: str) -> list[dict[str, Any]]:
    """Return the rows of a run's evaluation.csv, a dictionary per model and metric.

    - model: the name of a business definition or of a simple model, or "champion" if there was one.
    - metric: its name.
    - value: the metric of the model; None where it is undefined.
    - low, high: the ends of its 95 % interval, or None.

    run: the id of the run.

    Raises UserError (in AWS) or FileNotFoundError (on this machine) for a run that has not been evaluated.
    """
    with open(project.folder(run, "evaluate", "evaluation") / "evaluation.csv", encoding="utf-8", newline="") as file:
        return [
            {**row, **{key: float(row[key]) if row[key] else None for key in ("value", "low", "high")}}
            for row in csv.DictReader(file)
        ]


def comparison(project: NotebookProject, newest: int = 10) -> list[dict[str, Any]]:
    """Return a dictionary for each of the newest training runs that have reached the gate, newest first.

    - run: its id.
    - changed: the settings that were changed for it, as text (see NotebookProject.runs); "nothing" for none.
    - metric: the name of the gate's metric.
    - value, low, high: the metric of the run's model that the gate compared, with its 95 % interval; None if undefined.
    - champion: the metric of the champion on the same users, or None.
    - gate: "open" or "closed".

    newest: how many runs are looked at, those that are left out included.
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
    """Return changes as texts KEY=VALUE, as --set takes them. Values are written as JSON, which is valid YAML.

    - changes: {key of config.yaml with dots: value}.
    """
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]
