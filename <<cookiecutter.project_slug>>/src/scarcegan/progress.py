"""Progress of a long loop: a line on stderr now and then, and one at the end."""

import sys
import time


class Progress:
    """Says `<words>: <count> <unit>` at most every `seconds`, and once more when done."""

    def __init__(self, words: str, unit: str = "rows", seconds: float = 2.0) -> None:
        self.words, self.unit, self.seconds = words, unit, seconds
        self.count, self.said = 0, time.monotonic()

    def add(self, count: int) -> None:
        self.count += count
        if time.monotonic() - self.said >= self.seconds:
            self.say()

    def say(self) -> None:
        self.said = time.monotonic()
        print(f"{self.words}: {self.count:,} {self.unit}", file=sys.stderr, flush=True)
