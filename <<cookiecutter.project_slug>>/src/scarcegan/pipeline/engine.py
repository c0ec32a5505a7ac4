"""The interface of an engine, which runs pipelines of definition.py: on this machine (local/) or in
AWS (sagemaker/).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scarcegan.pipeline.definition import Pipeline

Report = Callable[[str], None]
RunFacts = Mapping[str, Any]


class Engine(Protocol):
    """Runs the training pipeline and tells about its runs.

    A run is named by its id. Every method raises UserError for a mistake of the user's, such as an unknown run.
    """

    @property
    def name(self) -> str:
        """The engine's name for people: "local" or "sagemaker"."""
        ...

    def cannot_run(self, pipeline: Pipeline) -> list[str]:
        """The parts of a pipeline that this engine cannot run, a sentence each; an empty list: it can run all of it."""
        ...

    def start(self, changes: Sequence[str]) -> str:
        """Start the training pipeline and return the id of the run; an engine may run it to its end first.

        - changes: KEY=VALUE each, with a key of config.yaml, for this run only.
        """
        ...

    def watch(self, run: str, report: Report) -> str:
        """Wait until the run with this id has ended, and call `report` with a line of text for each step whose status
        changes. Returns the status of the run at the end, in the words of the engine.
        """
        ...

    def runs(self, newest: int) -> list[RunFacts]:
        """The newest training runs, newest first, at most `newest` of them. Each has these keys:

        - run: its id.
        - status: in the words of the engine.
        - started: ISO 8601.
        - changed: key of config.yaml, or pipeline parameter -> value in the run, where it differs from the present one.
        """
        ...

    def folder(self, run: str, step: str, output: str) -> Path:
        """A folder on this machine that holds one output of a step in a run; it is downloaded first if
        it is elsewhere.
        """
        ...
