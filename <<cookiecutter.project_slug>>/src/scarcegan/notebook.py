"""Retraining as a notebook needs it: one face for runs on this machine and executions in AWS. No plots; see notebooks/.

project = open_project(cloud=False)
run = project.start({"train.iterations": 2000})
project.watch(run)
project.scores(run)
"""

import csv
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from scarcegan.errors import UserError
from scarcegan.workspace import Workspace

if TYPE_CHECKING:
    from scarcegan.aws.client import Aws
    from scarcegan.sagemaker.executions import Status

Changes = Mapping[str, Any]
POLL_SECONDS = 30


class Project(Protocol):
    """Where training pipelines run. Methods raise UserError for a mistake of the user's."""

    @property
    def place(self) -> Workspace:
        """The project's folder on this machine."""
        ...

    def start(self, changes: Changes) -> str:
        """Start the training pipeline with values of config.yaml changed for this time; returns the run's id."""
        ...

    def watch(self, run: str) -> str:
        """Say what its steps do until it ends; returns its status."""
        ...

    def runs(self, newest: int) -> list[dict[str, Any]]:
        """The newest training runs, newest first: run, status, started, and what was changed for it."""
        ...

    def folder(self, run: str, step: str, output: str) -> Path:
        """A folder on this machine with what a step wrote."""
        ...


def open_project(cloud: bool = False, start: Path | None = None) -> Project:
    """The project a notebook belongs to: config.yaml lies in its folder or above. UserError when there is none."""
    here = (start or Path.cwd()).resolve()
    say_mistakes_plainly()
    for folder in (here, *here.parents):
        if (folder / "config.yaml").is_file():
            place = Workspace.open(folder / "config.yaml")
            return Executions(place) if cloud else Runs(place)
    raise UserError(f"{here}: no config.yaml here or above. Open the notebook in the project's folder.")


def say_mistakes_plainly() -> None:
    """In a notebook too a user's mistake is a sentence, not a traceback. The cell still counts as failed."""
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        shell.set_custom_exc((UserError,), lambda *said, **_: print(f"error: {said[2]}", file=sys.stderr))


def verdict(project: Project, run: str) -> dict[str, Any]:
    """gate.json of a run: passed, reason, metric, challenger, champion …"""
    return json.loads((project.folder(run, "evaluate", "gate") / "gate.json").read_text(encoding="utf-8"))


def scores(project: Project, run: str) -> list[dict[str, Any]]:
    """evaluation.csv of a run: model, metric, value, low and high (95 %; None where undefined).

    The models are the four business definitions, the simple baselines and, when there is one, the champion.
    """
    with open(project.folder(run, "evaluate", "evaluation") / "evaluation.csv", encoding="utf-8", newline="") as file:
        return [
            {**row, **{key: float(row[key]) if row[key] else None for key in ("value", "low", "high")}}
            for row in csv.DictReader(file)
        ]


def comparison(project: Project, newest: int = 10) -> list[dict[str, Any]]:
    """A row per run, newest first: what was changed, the gate's metric with its interval, the champion's on the same
    users, and whether the gate opened. Runs that have not come as far as the gate are left out."""
    rows = []
    for about in project.runs(newest):
        try:
            gate, found = verdict(project, about["run"]), scores(project, about["run"])
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


def words(changes: Changes) -> list[str]:
    """Changes as --set takes them; JSON is YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys whose value in `other` is not that in `one`, with the other value."""
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(one.get(key), Mapping):
            yield from differences(one[key], value, f"{prefix}{key}.")
        elif one.get(key) != value:
            yield f"{prefix}{key}", value


@dataclass(frozen=True)
class Runs:
    """Runs on this machine."""

    place: Workspace

    def start(self, changes: Changes) -> str:
        """Runs the whole pipeline; its progress is printed meanwhile."""
        return Workspace.open(self.place.root / "config.yaml", words(changes)).train().run

    def watch(self, run: str) -> str:
        from scarcegan.local.runner import read_run

        about = read_run(self.place.runs_folder, run)
        for step, state in about["steps"].items():
            print(f"{step}: {state['status']}{' (cached)' if state['cached'] else ''}, {state['seconds']:.0f} s")
        print(about["reason"] or about["status"])
        return about["status"]

    def runs(self, newest: int) -> list[dict[str, Any]]:
        from scarcegan.local.runner import list_runs, read_run

        found = [run for run in list_runs(self.place.runs_folder) if run.pipeline == "training"][:newest]
        present = self.place.config.model_dump()
        told = {run.run: read_run(self.place.runs_folder, run.run)["settings"].get("config", {}) for run in found}
        return [
            {"run": r.run, "status": r.status, "started": r.started, "changed": dict(differences(present, told[r.run]))}
            for r in found
        ]

    def folder(self, run: str, step: str, output: str) -> Path:
        return self.place.runs_folder / run / step / output


@dataclass(frozen=True)
class Executions:
    """Executions of the training pipeline in AWS. What is looked at is kept below runs/.cloud/."""

    place: Workspace
    seconds: float = POLL_SECONDS
    said: set[str] = field(default_factory=set)

    @contextmanager
    def door(self) -> "Iterator[Aws]":
        from scarcegan.aws import client

        with client.plainly(self.place.config):
            yield client.connect(self.place.config)

    def start(self, changes: Changes) -> str:
        from scarcegan.sagemaker import start as starting
        from scarcegan.sagemaker.pipelines import configured

        with self.door() as door:
            base = configured("training", self.place.config, door.names)
            plan = starting.make_plan(base, self.place.root / "config.yaml", words(changes))
            return starting.start(starting.complete(plan, base, door), door).rsplit("/", 1)[1]

    def watch(self, run: str) -> str:
        from scarcegan.sagemaker import executions

        with self.door() as door:
            arn = executions.find(door, run, "training")
            found = executions.status(door, arn)
            self.tell(found)
            while not found.ended:
                time.sleep(self.seconds)
                found = executions.status(door, arn)
                self.tell(found)
        print(found.reason or found.status)
        return found.status

    def tell(self, found: "Status") -> None:
        """A line per step whose status is new."""
        for step in found.steps:
            line = f"{step.step}: {step.status}{' (cached)' if step.cached else ''}"
            if (mark := f"{found.execution} {line}") not in self.said:
                self.said.add(mark)
                print(line, flush=True)

    def runs(self, newest: int) -> list[dict[str, Any]]:
        from scarcegan.sagemaker import executions
        from scarcegan.sagemaker.pipelines import deployed_parameters

        with self.door() as door:
            defaults = deployed_parameters(door, "training")
            return [
                {
                    "run": found["PipelineExecutionArn"].rsplit("/", 1)[1],
                    "status": found["PipelineExecutionStatus"],
                    "started": str(found["StartTime"]),
                    "changed": executions.changed_parameters(door, found["PipelineExecutionArn"], defaults),
                }
                for found in executions.executions(door, "training", newest)
            ]

    def folder(self, run: str, step: str, output: str) -> Path:
        from scarcegan.local.durable import remove
        from scarcegan.sagemaker import executions

        folder = self.place.runs_folder / ".cloud" / run / step / output
        if not folder.exists():
            unfinished = folder.with_name(f".{output}.unfinished")
            remove(unfinished)
            unfinished.mkdir(parents=True)
            with self.door() as door:
                executions.fetch(door, executions.find(door, run, "training"), step, output, unfinished)
            unfinished.rename(folder)
        return folder
