"""What the local engine reports: an Event for each change while a run goes on, and a RunResult when it has ended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scarcegan.local.state import FINISHED, StepState


class Expected(NamedTuple):
    """How long something will take: seconds, and whether that is a rough guess because no earlier run tells."""

    seconds: float
    rough: bool = False


@dataclass(frozen=True)
class Event:
    """A change in a run, given to the run's observer.

    - kind: what has happened; the words are listed below.
    - step: the name of the step or gate; "" for an event of the whole run.
    - text: what the list below says; otherwise "".
    - state: the step's state, an object that the run goes on changing; None for an event of the whole run.
    - expected: of "begin" and "started", how long the run or the process will probably take; None if unknown.

    Kinds of the whole run:
    - begin: the run starts or is continued; text is its id.
    - tick: the processes were checked; it comes several times a second, whether or not something has changed.
    - end: the run has ended; text is why it did not finish, or "".

    Kinds of one step or gate:
    - waiting: another run is computing the same step; text names that run.
    - started: a process of the step was started.
    - line: the process has written to its log; text is the newest line.
    - retry: the process failed and another will be started; text is the exit code and the seconds until then.
    - failed: the step or gate has failed; text is the reason.
    - finished: the step's process ended well and its outputs are stored.
    - cached: the step's outputs come from the cache.
    - kept: this run had finished the step earlier, before an interruption.
    - skipped: the step or gate will not run, because a gate before it is closed; text says so.
    - interrupted: the run was stopped while a process of the step ran or the step waited for its next try.
    - opened, closed: the gate is open or closed; text is the reason.
    """

    kind: str
    step: str = ""
    text: str = ""
    state: StepState | None = None
    expected: Expected | None = None


Observer = Callable[[Event], None]


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    - run: its id.
    - folder: the run's folder.
    - status: "finished", "gate closed", "failed" or "interrupted".
    - reason: why it did not finish; "" when it did.
    - exit_code: for the process that ran it: 0 finished; 3 gate closed; 2 failed, and each failed step has exit_code 2
      (StepState); 1 failed otherwise; 128 + number of the first signal when interrupted.
    - seconds: how long this process worked on the run. When it continued a run, the time before does not count.
    - steps: name of a step or gate -> its state.
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
        """Whether the run finished: every step has finished and every gate was open."""
        return self.status == FINISHED

    def output(self, step: str, output: str) -> Path:
        """Return the path of one output's folder in this run. It does not exist when the step did not finish."""
        return self.folder / step / output
