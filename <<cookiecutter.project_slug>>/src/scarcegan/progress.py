"""Progress of a long loop, printed as lines on stderr."""

import sys
import time


class Progress:
    """Counts the items that a loop has done, and prints `<title>: <count> <unit>` to stderr at most once per `seconds`.

    Call `add` in the loop, and `write` once after it, so that the last line shows the total.

    - title, unit: texts of the line.
    - seconds: the least time between the start or a line and the next line of `add`.
    """

    def __init__(self, title: str, unit: str = "rows", seconds: float = 2.0) -> None:
        self.title, self.unit, self.seconds = title, unit, seconds
        self.count, self.written_at = 0, time.monotonic()

    def add(self, count: int) -> None:
        """Add `count` items to the total. Prints a line when the last one, or the start, was `seconds` ago or more."""
        self.count += count
        if time.monotonic() - self.written_at >= self.seconds:
            self.write()

    def write(self) -> None:
        """Print a line with the total so far to stderr at once, whenever the last one was."""
        self.written_at = time.monotonic()
        print(f"{self.title}: {self.count:,} {self.unit}", file=sys.stderr, flush=True)
