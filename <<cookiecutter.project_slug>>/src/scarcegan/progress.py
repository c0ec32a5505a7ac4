"""Progress of a long loop, as lines on stderr."""

import sys
import time


class Progress:
    """Counts what a loop has done, and writes `<title>: <count> <unit>` to stderr at most once every `seconds`.

    Call `add` in the loop, and `write` once after it, so that the last line shows the total.
    """

    def __init__(self, title: str, unit: str = "rows", seconds: float = 2.0) -> None:
        self.title, self.unit, self.seconds = title, unit, seconds
        self.count, self.written_at = 0, time.monotonic()

    def add(self, count: int) -> None:
        """Add to the count, and write a line when the last one is older than `seconds`."""
        self.count += count
        if time.monotonic() - self.written_at >= self.seconds:
            self.write()

    def write(self) -> None:
        """Write a line with the present count."""
        self.written_at = time.monotonic()
        print(f"{self.title}: {self.count:,} {self.unit}", file=sys.stderr, flush=True)
