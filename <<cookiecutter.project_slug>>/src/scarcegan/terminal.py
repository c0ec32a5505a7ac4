"""Text from elsewhere on a terminal: control characters, which could erase or imitate lines, are printed as text."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

# Control characters but tab and newline; and the characters that end a line or turn the direction of writing:
# https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Return a text with each control character and change of direction as Python spells it: \x1b, \r or \u202e."""
    return HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def on_one_line(text: str) -> str:
    """Return a `visible` text with each run of spaces and line ends as one space, so that it begins no other line."""
    return visible(" ".join(text.split()))


class VisibleStream:
    """A text stream to which `visible` texts are written; in all else the stream that it is given.

    - stream: such as sys.stdout.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text. Returns its length."""
        self.stream.write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def visible_output() -> Iterator[None]:
    """Context manager inside which stdout and stderr are VisibleStreams. JSON of json.dumps passes unchanged: it is
    ASCII without control characters.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(Any, stream and VisibleStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
