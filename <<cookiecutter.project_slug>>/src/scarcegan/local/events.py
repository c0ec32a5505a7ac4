"""What a runner tells whoever watches, and how it says that a run ended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scarcegan.local.state import FINISHED, StepState


@dataclass(frozen=True)
class Event:
    """Something an observer may show.

    kind: begin, waiting, started, line, retry, finished, cached, kept, failed, skipped, opened, closed, interrupted,
    tick (nothing new, some time has passed) or end. text: a line of the log, a reason, or at the begin the run's id.
    """

    kind: str
    step: str = ""
    text: str = ""
    state: StepState | None = None


Observer = Callable[[Event], None]


@dataclass(frozen=True)
class RunResult:
    """How a run ended. status: finished, gate closed, failed or interrupted; seconds: of this command alone."""

    run: str
    folder: Path
    status: str
    reason: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    steps: Mapping[str, StepState] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.status == FINISHED

    def output(self, step: str, output: str) -> Path:
        """The folder of an output, whether it was written or not."""
        return self.folder / step / output
