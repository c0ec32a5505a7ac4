"""The steps' arguments: parse_folders reads a command line; each other function turns the text of one argument into its
value, for argparse's `type=`.

argparse puts the name of the argument before the words of an ArgumentTypeError. Nothing here needs numpy, which the
Lambda function of the register step does not have.
"""

import argparse
import math
import os
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TypeVar

from scarcegan.errors import UserError, shortened
from scarcegan.limits import FIRST_DAY, LAST_DAY, MOST_DAYS, RESERVED_CLASSES

T = TypeVar("T")


def parse_folders(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a step whose outputs are apart from its inputs, as a step replaces what is in its outputs.

    parser: of the step; of its arguments that are paths, those named …-out are outputs. argv: the command line without
    the program's name; None: that of this process.

    Raises UserError when an output folder is an input, holds one or lies in one.
    """
    args = parser.parse_args(argv)
    paths = {name: value for name, value in vars(args).items() if isinstance(value, Path)}
    outputs = {name: path for name, path in paths.items() if name.endswith("_out")}
    for name, out in outputs.items():
        for other, path in paths.items():
            real, given = Path(os.path.realpath(out)), Path(os.path.realpath(path))
            if other not in outputs and (real.is_relative_to(given) or given.is_relative_to(real)):
                names = f"--{name.replace('_', '-')} {out} and --{other.replace('_', '-')} {path}"
                raise UserError(
                    f"{names}: one folder, or one holds the other, so the step could replace what it reads. "
                    "Name another output folder."
                )
    return args


def parse_classes(text: str) -> tuple[str, ...]:
    """Split `dormant,normal,risky` into class names, in this order; the last one is the rare class.

    Blanks around a name are cut off; empty names are left out.

    Raises UserError for fewer than two classes, a class named twice, or one named unknown, unlabelled or generated.
    """
    classes = parse_names(text)
    if len(classes) < 2:
        raise UserError(f"classes '{text}': at least one negative class and the rare class (last) are needed.")
    for name in classes:
        if classes.count(name) > 1:
            raise UserError(f"classes '{text}': '{name}' is named twice. Give every class its own name.")
        if name in RESERVED_CLASSES:
            raise UserError(
                f"classes '{text}': '{name}' is reserved (so are {', '.join(RESERVED_CLASSES)}). Rename the class."
            )
    return classes


def parse_names(text: str) -> tuple[str, ...]:
    """Split a text such as "a, b" at commas into names, without blanks around them.

    Empty names are left out, so "" gives ().
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_whole_numbers(text: str) -> tuple[int, ...]:
    """Split a text such as "7,14" at commas into whole numbers; empty parts are left out.

    Raises argparse.ArgumentTypeError for a part that is not a whole number, and for a text without any.
    """
    found = tuple(converted(int, part, "a whole number") for part in parse_names(text))
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' holds no number")
    return found


def parse_pairs(text: str) -> dict[str, str]:
    """Split a text such as "minutes=sum,sessions=count" into {"minutes": "sum", "sessions": "count"}; "" gives {}.

    Raises argparse.ArgumentTypeError for a part without `=`.
    """
    pairs = [part.rpartition("=") for part in parse_names(text)]
    if not all(equals for _, equals, _ in pairs):
        raise argparse.ArgumentTypeError(f"'{text}': expected name=value, name=value")
    return {name: value for name, _, value in pairs}


def parse_numbers(text: str) -> tuple[float, ...]:
    """Split a text such as "0.1,2" at commas into numbers; empty parts are left out, so "" gives ().

    Raises argparse.ArgumentTypeError for a part that is not a finite number.
    """
    return tuple(parse_number(part) for part in parse_names(text))


def parse_number(text: str) -> float:
    """Return the number that is written in `text`.

    Raises argparse.ArgumentTypeError for any other text, for NaN and for an infinite number.
    """
    value = converted(float, text, "a number")
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not a finite number")
    return value


def parse_count(text: str) -> int:
    """Return the whole number, at least 1, that is written in `text`.

    Raises argparse.ArgumentTypeError for any other text.
    """
    value = converted(int, text, "a whole number")
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def parse_days(text: str) -> int:
    """Return the number of days, from 1 to MOST_DAYS, that is written in `text`.

    Raises argparse.ArgumentTypeError for any other text.
    """
    value = parse_count(text)
    if value > MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text} days are more than a century")
    return value


def parse_boolean(text: str) -> bool:
    """Return True for "true", False for "false".

    Raises argparse.ArgumentTypeError for any other text.
    """
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text == "true"


def parse_day(text: str) -> str:
    """Read a day in ISO 8601 and return it in the form 2026-01-31; "" (no day given) stays "".

    Raises argparse.ArgumentTypeError for other text, and for a day before FIRST_DAY or after LAST_DAY.
    """
    if not text:
        return ""
    day = converted(date.fromisoformat, text, "a day such as 2026-01-31")
    if not FIRST_DAY <= day <= LAST_DAY:
        raise argparse.ArgumentTypeError(f"{day} is not between {FIRST_DAY} and {LAST_DAY}")
    return day.isoformat()


def converted(read: Callable[[str], T], text: str, what: str) -> T:
    """Return read(text). Raises argparse.ArgumentTypeError, "'<text>' is not <what>", when it raises ValueError."""
    try:
        return read(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{shortened(text)}' is not {what}") from None
