"""Retraining from a notebook: the same functions for runs on this machine and executions in AWS. No plots.

project = open_project(cloud=False)
run = project.start({"train.iterations": 2000})
project.watch(run)
project.scores(run)
"""

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from scarcegan.errors import UserError
from scarcegan.workspace import Workspace

if TYPE_CHECKING:
    from scarcegan.aws.client import Aws

Changes = Mapping[str, Any]


class NotebookProject(Protocol):
    """A project whose training pipeline is started and watched from a notebook, here or in AWS.

    Every method raises UserError for a mistake of the user's.
    """

    @property
    def workspace(self) -> Workspace:
        """The project's folder on this machine, with its settings."""
        ...

    def start(self, changes: Changes) -> str:
        """Start the training pipeline and return the id of the run.

        changes: dotted key of config.yaml -> value, for this run only, such as {"train.iterations": 2000}.
        """
        ...

    def watch(self, run: str) -> str:
        """Print each change of a run's steps until it has ended, and return its status."""
        ...

    def runs(self, newest: int) -> list[dict[str, Any]]:
        """The newest training runs, newest first, each with "run" (its id), "status", "started" and "changed".

        changed: name -> value of each setting in which the run differs from the present config.yaml, or from the
        defaults of the pipeline in AWS.
        """
        ...

    def folder(self, run: str, step: str, output: str) -> Path:
        """A folder on this machine with an output of a step of a run."""
        ...


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
            return CloudProject(workspace) if cloud else LocalProject(workspace)
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


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value in `other`) of each setting whose value in `other` differs from the one in `one`.

    prefix: put before each key.
    """
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(one.get(key), Mapping):
            yield from differences(one[key], value, f"{prefix}{key}.")
        elif one.get(key) != value:
            yield f"{prefix}{key}", value


@dataclass(frozen=True)
class LocalProject:
    """A project whose training pipeline runs on this machine."""

    workspace: Workspace

    def start(self, changes: Changes) -> str:
        """Run the training pipeline to its end, printing its progress, and return the id of the run."""
        return Workspace.open(self.workspace.root / "config.yaml", as_set_values(changes)).train().run

    def watch(self, run: str) -> str:
        """Print the status and time of each step of a run, and return the status of the run."""
        from scarcegan.local.runner import read_run

        about = read_run(self.workspace.runs_folder, run)
        for step, state in about["steps"].items():
            print(f"{step}: {state['status']}{' (cached)' if state['cached'] else ''}, {state['seconds']:.0f} s")
        print(about["reason"] or about["status"])
        return about["status"]

    def runs(self, newest: int) -> list[dict[str, Any]]:
        """The newest training runs; see NotebookProject."""
        from scarcegan.local.runner import list_runs, read_run

        found = [run for run in list_runs(self.workspace.runs_folder) if run.pipeline == "training"][:newest]
        present = self.workspace.config.model_dump()
        used = {run.run: read_run(self.workspace.runs_folder, run.run)["settings"].get("config", {}) for run in found}
        return [
            {"run": r.run, "status": r.status, "started": r.started, "changed": dict(differences(present, used[r.run]))}
            for r in found
        ]

    def folder(self, run: str, step: str, output: str) -> Path:
        """The folder of an output of a step. It is missing when the step has not finished."""
        return self.workspace.runs_folder / run / step / output


@dataclass(frozen=True)
class CloudProject:
    """A project whose training pipeline runs in AWS. Outputs that are read are downloaded to runs/.cloud/ once."""

    workspace: Workspace

    @contextmanager
    def aws(self) -> "Iterator[Aws]":
        """Context manager: connect to AWS for the project, and yield the connection.

        Raises UserError for errors of AWS inside the block, such as missing credentials.
        """
        from scarcegan.aws import client

        with client.errors_as_sentences(self.workspace.config):
            yield client.connect_to_aws(self.workspace.config)

    def start(self, changes: Changes) -> str:
        """Start the training pipeline in AWS, and return the id of the execution at once."""
        from scarcegan.sagemaker import start as starting
        from scarcegan.sagemaker.pipelines import configured

        with self.aws() as aws:
            base = configured("training", self.workspace.config, aws.names)
            plan = starting.make_plan(base, self.workspace.root / "config.yaml", as_set_values(changes))
            return starting.start(starting.complete(plan, base, aws), aws).rsplit("/", 1)[1]

    def watch(self, run: str) -> str:
        """Print each change of an execution's steps until it has ended, and return its status."""
        from scarcegan.sagemaker import executions

        with self.aws() as aws:
            for found, changed in executions.watch(aws, executions.find(aws, run, "training")):
                last = [found.reason or found.status] if found.ended else []
                for line in [*(step.line for step in changed), *last]:
                    print(line, flush=True)
        return found.status

    def runs(self, newest: int) -> list[dict[str, Any]]:
        """The newest executions of the training pipeline; see NotebookProject."""
        from scarcegan.sagemaker import executions
        from scarcegan.sagemaker.pipelines import deployed_parameters

        with self.aws() as aws:
            defaults = deployed_parameters(aws, "training")
            return [
                {
                    "run": found["PipelineExecutionArn"].rsplit("/", 1)[1],
                    "status": found["PipelineExecutionStatus"],
                    "started": str(found["StartTime"]),
                    "changed": executions.changed_parameters(aws, found["PipelineExecutionArn"], defaults),
                }
                for found in executions.executions(aws, "training", newest)
            ]

    def folder(self, run: str, step: str, output: str) -> Path:
        """Download an output of a step, unless it is there already, and return its folder on this machine."""
        from scarcegan.local.durable import remove
        from scarcegan.sagemaker import executions

        folder = self.workspace.runs_folder / ".cloud" / run / step / output
        if not folder.exists():
            unfinished = folder.with_name(f".{output}.unfinished")
            remove(unfinished)
            unfinished.mkdir(parents=True)
            with self.aws() as aws:
                executions.fetch(aws, executions.find(aws, run, "training"), step, output, unfinished)
            unfinished.rename(folder)
        return folder
