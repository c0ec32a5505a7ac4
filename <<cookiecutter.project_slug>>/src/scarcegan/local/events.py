"""What the local engine reports: an Event for each change while a run goes on, and a RunResult when it has ended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scarcegan.local.state import FINISHED, StepState


@dataclass(frozen=True)
class Event:
    """A change in a run, given to the run's observer.

    kind: what has happened.
    - begin: the run starts; text is its id. end: the run has ended; text is why it did not finish, or "".
    - waiting: another run computes the same step. started: the step's process runs. line: it wrote `text` to its log.
    - retry: the step's process failed and will be started again. failed: the step has failed; text is the reason.
    - skipped: the step will not run, because a gate before it is closed. interrupted: the step was stopped.
    - finished: the step's process ended well and its outputs are stored. cached: its outputs come from the cache. kept:
      this run had finished the step earlier, before an interruption.
    - opened, closed: the step is a gate that is open or closed; text is the reason.
    - tick: nothing has changed, but time has passed.
    step: the name of the step or gate, "" for an event of the whole run.
    text: "" where nothing is said about it above.
    state: the step's state, None for an event of the whole run.
    """

    kind: str
    step: str = ""
    text: str = ""
    state: StepState | None = None


Observer = Callable[[Event], None]


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    run: its id.
    folder: the run's folder.
    status: "finished", "gate closed", "failed" or "interrupted".
    reason: why it did not finish, "" when it did.
    exit_code: for the process that ran it: 0 finished, 3 gate closed, 2 a mistake of the user, 1 another failure, 128 +
    number of the signal when interrupted.
    seconds: how long this process worked on it, without earlier ones whose run it continued.
    steps: name of a step -> its state.
    """

    run: str
    folder: Path
    status: str
    reason: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    steps: Mapping[str, StepState] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether every step has finished and every gate was open."""
        return self.status == FINISHED

    def output(self, step: str, output: str) -> Path:
        """The folder of one output of a step in this run; it does not exist when the step did not finish."""
        return self.folder / step / output
