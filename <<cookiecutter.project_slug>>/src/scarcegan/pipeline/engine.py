"""The interface of an engine, which runs pipelines of definition.py: here (local/) or in AWS (sagemaker/)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scarcegan.pipeline.definition import Pipeline
from scarcegan.progress import PrintLine

RunFacts = Mapping[str, Any]


class Engine(Protocol):
    """The interface of an object that runs the training pipeline and tells about its runs. A run is named by its id.

    Its methods raise UserError for a mistake of the user's, such as an unknown run.
    """

    @property
    def name(self) -> str:
        """The engine's name for people: "local" or "sagemaker"."""
        ...

    def cannot_run(self, pipeline: Pipeline) -> list[str]:
        """Return the parts of a pipeline that this engine cannot run, a sentence each; [] when it can run all of it."""
        ...

    def start(self, changes: Sequence[str]) -> str:
        """Start the training pipeline and return the id of the run; an engine may run it to its end first.

        - changes: KEY=VALUE each, with a key of config.yaml, for this run only.
        """
        ...

    def watch(self, run: str, report: PrintLine) -> str:
        """Wait until a run has ended, and return its status in the words of the engine.

        - run: the id of the run.
        - report: is called with a line of text for each change in the status of a step (once for each step if the run
          has ended already), and at the end with the reason why the run did not finish, or its status.
        """
        ...

    def runs(self, newest: int) -> list[RunFacts]:
        """Return the newest training runs, newest first, at most `newest` of them. Each is a dictionary with these
        keys:

        - run: its id.
        - status: in the words of the engine.
        - started: the time as text.
        - changed: dotted key of config.yaml, or name of a pipeline parameter -> value in the run, where it differs from
          the present one.
        """
        ...

    def folder(self, run: str, step: str, output: str) -> Path:
        """Return the path of a folder on this machine with one output of a step in a run.

        An output that is elsewhere is downloaded first. For an output that the run does not have, the local engine
        returns a path that does not exist; another engine may return an empty folder or raise UserError.
        """
        ...
