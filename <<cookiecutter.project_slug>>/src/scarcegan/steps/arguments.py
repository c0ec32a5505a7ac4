"""Types of the steps' arguments: each function turns the text of an argument into its value, for argparse's `type=`.

argparse turns the errors that they raise into its own message, which names the argument.
"""

import argparse
from datetime import date


def parse_names(text: str) -> tuple[str, ...]:
    """Split a text such as "a, b" at commas into names, without blanks around them.

    Empty names are left out, so "" gives ().
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_whole_numbers(text: str) -> tuple[int, ...]:
    """Split a text such as "7,14" at commas into whole numbers; empty parts are left out, so "" gives ().

    Raises ValueError for a part that is not a whole number.
    """
    return tuple(int(part) for part in parse_names(text))


def parse_numbers(text: str) -> tuple[float, ...]:
    """Split a text such as "0.1,2" at commas into numbers; empty parts are left out, so "" gives ().

    Raises ValueError for a part that is not a number.
    """
    return tuple(float(part) for part in parse_names(text))


def parse_count(text: str) -> int:
    """Return the whole number, at least 1, that is written in `text`.

    Raises argparse.ArgumentTypeError if it is less than 1, and ValueError if it is no whole number.
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def parse_boolean(text: str) -> bool:
    """Return True for "true", False for "false", both in lower case only.

    Raises argparse.ArgumentTypeError for any other text.
    """
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text == "true"


def parse_day(text: str) -> str:
    """Read a day in ISO 8601, such as 2026-01-31 or 20260131, and return it in the form 2026-01-31.

    "" (no day given) stays "".
    Raises ValueError for other text, also for a day with a time.
    """
    return text and date.fromisoformat(text).isoformat()
