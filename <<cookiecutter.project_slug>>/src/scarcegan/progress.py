"""Progress of a long loop, printed as lines on stderr."""

import sys
import time
from collections.abc import Callable

PrintLine = Callable[[str], None]  # what shows a line of progress


class Progress:
    """Counts the items that a loop has done, and prints `<title>: <count> <unit>` to stderr at most once per `seconds`.

    With a total the line is `<title>: <count> of <total> <unit>, about 25 s left`.

    Call `add` in the loop, and `write` once after it, so that the last line shows the total.

    - title, unit: texts of the line.
    - seconds: the least time between the start or a line and the next line of `add`.
    - total: how many items there will be; 0: not known.
    """

    def __init__(self, title: str, unit: str = "rows", seconds: float = 2.0, total: int = 0) -> None:
        self.title, self.unit, self.seconds, self.total = title, unit, seconds, total
        self.count, self.begun = 0, time.monotonic()
        self.written_at = self.begun

    def add(self, count: int) -> None:
        """Add `count` items to the total. Prints a line when the last one, or the start, was `seconds` ago or more."""
        self.count += count
        if time.monotonic() - self.written_at >= self.seconds:
            self.write()

    def write(self) -> None:
        """Print a line with the total so far to stderr at once, whenever the last one was."""
        self.written_at = time.monotonic()
        of = f" of {self.total:,}" if self.count < self.total else ""
        left = time_left(self.written_at - self.begun, self.count, self.total)
        print(f"{self.title}: {self.count:,}{of} {self.unit}{left}", file=sys.stderr, flush=True)


def time_left(seconds: float, done: int, total: int) -> str:
    """Return ", about 25 s left" for a loop that took so many seconds for `done` of `total` items; "" when none or all
    are done.
    """
    return f", about {seconds_text(seconds / done * (total - done))} left" if 0 < done < total else ""


def seconds_text(seconds: float) -> str:
    """Return a duration, given in seconds, as text: 0.4 s (below 10 s), 12 s, 3 min 05 s or (from an hour on)
    2 h 07 min.
    """
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if round(seconds, 1) < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
