"""The local engine: implements Engine of pipeline/engine.py with runs of the training pipeline on this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

from scarcegan.local.runner import list_runs, read_run
from scarcegan.pipeline.config import Config, differences, with_present_names
from scarcegan.pipeline.definition import Gate, Pipeline, Step
from scarcegan.pipeline.engine import RunFacts
from scarcegan.progress import PrintLine

LOCAL_KINDS = get_args(get_type_hints(Step)["kind"])


def cannot_run(pipeline: Pipeline) -> list[str]:
    """Return the parts of a pipeline that the local engine cannot run, a sentence each; [] when it can run all of it.

    It can run gates, and steps of every kind in LOCAL_KINDS, each step as a Python module in a process of its own.
    """
    return [
        f"step '{step.name}': a step of kind '{step.kind}' has no stand-in on this machine"
        for step in pipeline.steps
        if not isinstance(step, Gate) and step.kind not in LOCAL_KINDS
    ]


@dataclass(frozen=True)
class LocalEngine:
    """Runs the training pipeline on this machine; it implements the protocol pipeline.engine.Engine.

    - runs_folder: the folder that holds a folder per run.
    - config: the present settings, with which `runs` compares those of earlier runs.
    - train: a function that is given changes (KEY=VALUE each), runs the training pipeline to its end, and returns the
      id of the run.
    - name: of the engine, for people.
    """

    runs_folder: Path
    config: Config
    train: Callable[[Sequence[str]], str]
    name: str = "local"

    def cannot_run(self, pipeline: Pipeline) -> list[str]:
        """Return the parts of a pipeline that this engine cannot run, a sentence each; [] when it can run all of it."""
        return cannot_run(pipeline)

    def start(self, changes: Sequence[str]) -> str:
        """Run the training pipeline to its end with `train`, and return the id of the run, also of one that failed.

        - changes: KEY=VALUE each, with a key of config.yaml, for this run only.

        Raises the errors of `train`, such as UserError when the run cannot start.
        """
        return self.train(changes)

    def watch(self, run: str, report: PrintLine) -> str:
        """Report the status of each step of a run, and return the status of the run, as in RunSummary.

        It does not wait: a run on this machine has ended when `start` returns.

        - run: the id of the run.
        - report: is called once for each step and gate, with a line such as "train: finished, 12 s", then with the
          reason why the run did not finish, or with the run's status if there is none.

        Raises UserError when there is no such run.
        """
        about = read_run(self.runs_folder, run)
        for step, state in about["steps"].items():
            report(f"{step}: {state['status']}{' (cached)' if state['cached'] else ''}, {state['seconds']:.0f} s")
        report(about["reason"] or about["status"])
        return about["status"]

    def runs(self, newest: int) -> list[RunFacts]:
        """Return the newest training runs, newest first, at most `newest`; also those that failed or still go on.

        Each is a dictionary with these keys:
        - run: its id.
        - status, started: as in RunSummary.
        - changed: dotted key of config.yaml, by its present name -> value in the run, for each setting of the run that
          has another value at present, or does not exist any more.
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
        """Return the path of one output's folder in a run. Nothing is checked: when the step has not finished there, or
        there is no such run, step or output, the path does not exist.

        - run: the id of the run.
        - step, output: their names, such as "evaluate" and "gate".
        """
        return self.runs_folder / run / step / output
