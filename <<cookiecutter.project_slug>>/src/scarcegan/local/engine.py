"""The local engine behind the interface of pipeline/engine.py: runs of the training pipeline on this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

from scarcegan.local.runner import list_runs, read_run
from scarcegan.pipeline.config import Config, differences, with_present_names
from scarcegan.pipeline.definition import Gate, Pipeline, Step
from scarcegan.pipeline.engine import Report, RunFacts

LOCAL_KINDS = get_args(get_type_hints(Step)["kind"])


def cannot_run(pipeline: Pipeline) -> list[str]:
    """The parts of a pipeline that the local engine cannot run, a sentence each; an empty list: it can run all of it.

    It can run every kind of step in LOCAL_KINDS, each step as a Python module in a process of its own, and gates.
    """
    return [
        f"step '{step.name}': a step of kind '{step.kind}' has no stand-in on this machine"
        for step in pipeline.steps
        if not isinstance(step, Gate) and step.kind not in LOCAL_KINDS
    ]


@dataclass(frozen=True)
class LocalEngine:
    """Runs the training pipeline on this machine; it follows the protocol pipeline.engine.Engine.

    - runs_folder: the folder that holds a folder per run.
    - config: the present settings, with which those of earlier runs are compared.
    - train: a function that runs the training pipeline to its end, given changes (KEY=VALUE each), and returns the id
      of the run.
    - name: of the engine, for people.
    """

    runs_folder: Path
    config: Config
    train: Callable[[Sequence[str]], str]
    name: str = "local"

    def cannot_run(self, pipeline: Pipeline) -> list[str]:
        """The parts of a pipeline that this engine cannot run, a sentence each; an empty list: it can run all of it."""
        return cannot_run(pipeline)

    def start(self, changes: Sequence[str]) -> str:
        """Run the training pipeline to its end, printing its progress, and return the id of the run.

        changes: KEY=VALUE each, with a key of config.yaml, for this run only.
        """
        return self.train(changes)

    def watch(self, run: str, report: Report) -> str:
        """Call `report` with a line for each step of a run (status and seconds), and return the status of the run.

        run: its id. It does not wait: a run on this machine has ended when `start` returns. The last line reported says
        why the run did not finish, or gives its status.
        Raises UserError when there is no such run.
        """
        about = read_run(self.runs_folder, run)
        for step, state in about["steps"].items():
            report(f"{step}: {state['status']}{' (cached)' if state['cached'] else ''}, {state['seconds']:.0f} s")
        report(about["reason"] or about["status"])
        return about["status"]

    def runs(self, newest: int) -> list[RunFacts]:
        """The newest training runs, at most `newest` of them, newest first, a dictionary each with these keys:

        - run: its id. status: as in RunSummary. started: local time, ISO 8601.
        - changed: dotted key of config.yaml -> value in the run, where it differs from the present settings.
        """
        found = [run for run in list_runs(self.runs_folder) if run.pipeline == "training"][:newest]
        present = self.config.model_dump()
        recorded = {run.run: read_run(self.runs_folder, run.run)["settings"].get("config", {}) for run in found}
        used = {run: with_present_names(config) for run, config in recorded.items()}
        return [
            {"run": r.run, "status": r.status, "started": r.started, "changed": dict(differences(present, used[r.run]))}
            for r in found
        ]

    def folder(self, run: str, step: str, output: str) -> Path:
        """The folder of one output of a step in a run; it does not exist when the step has not finished in that run."""
        return self.runs_folder / run / step / output
