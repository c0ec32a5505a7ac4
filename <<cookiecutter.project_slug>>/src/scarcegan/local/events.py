"""What the local engine reports: an event for each change while a run goes on, and the result when it has ended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scarcegan.local.state import FINISHED, StepState


@dataclass(frozen=True)
class Event:
    """A change in a run, given to its observer.

    kind: what has happened.
    - begin: the run starts; text is its id. end: it has ended; text is the reason, or "".
    - waiting: another run computes the same step. started: the step's process runs. line: it wrote text to its log.
    - retry: the process failed and will be started again. failed: it will not be. skipped: a gate before it is closed.
    - finished: the outputs are stored. cached: they come from the cache. kept: this run had finished it earlier.
    - opened, closed: a gate, with the reason as text. interrupted: the step was stopped.
    - tick: nothing has changed, but time has passed.
    step: the name of the step, "" for an event of the whole run.
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
    exit_code: 0 finished, 3 gate closed, 2 a mistake of the user, 1 another failure, 128 + signal when interrupted.
    seconds: how long this command took, without earlier commands that the run continues.
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
        """The folder of a step's output. It is not there when the step did not finish."""
        return self.folder / step / output
