"""Rows: batches of captured rows, and the reading of cells of any kind as numbers, text and days.

A captured row holds the features that a deployed model was given and the scores that it returned. A tally counts what
was read and what was left out.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, csv.Error)
BLANK_CELLS = frozenset({"", "na", "nan", "null", "none"})
MISSING_ID = ""
INFERENCE_ID = "x-amzn-sagemaker-inference-id"  # header: what a request is called by its caller
LOAD_TEST = (
    "scarcegan-load-test"  # the inferenceId of requests that are no users'; infra/lambdas/rare_share.py has it too
)
JSON_LINES = ".jsonl"  # how the name of a file of JSON lines ends, in any case


@dataclass(frozen=True)
class Rows:
    """A batch of n captured rows in the baseline's d features.

    - id: str [n], of the user, inference or event; "" when not known
    - day: datetime64[D] [n], NaT when not known
    - values: float32 [n, d], NaN for missing, and for text that is not a number
    - text: bool [n, d], where there was text that is not a number; never the text of a category, which became a code
    - rarity, unknown: float32 [n], NaN where the answer was not captured
    - label: str [n], predicted class, "" where the answer was not captured
    """

    id: np.ndarray
    day: np.ndarray
    values: np.ndarray
    text: np.ndarray
    rarity: np.ndarray
    unknown: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        """The number of rows, n."""
        return len(self.id)


@dataclass
class Tally:
    """Counts of what was read and what was left out; read_captured fills it.

    - files, rows: how many were read; rows that were left out are not among them
    - partial: how many unfinished last lines were left out
    - unreadable: how many records could not be read; first_fault: what was wrong with the first of them, "" for none
    - load_tests: how many requests of load tests were left out
    - left_out: a sentence for each reason why files were not read: how many, and the first of them
    - widths: a number of values other than that of the features -> rows of so many values, which were left out
    - seen: names of the baseline's features that some row had
    - extra: name of each column that the baseline does not have -> rows that had it
    """

    files: int = 0
    rows: int = 0
    partial: int = 0
    unreadable: int = 0
    first_fault: str = ""
    load_tests: int = 0
    left_out: list[str] = field(default_factory=list)
    widths: Counter[int] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    extra: Counter[str] = field(default_factory=Counter)

    def add_unreadable(self, words: str) -> None:
        """Count a record that could not be read. words: what is wrong with it; kept for the first one."""
        self.unreadable += 1
        self.first_fault = self.first_fault or words

    def as_sentence(self) -> str:
        """What was read and what was left out, as "1,234 rows in 2 files; 1 unfinished last line left out", without
        full stop. Columns that the baseline does not have are not in it.
        """
        parts = [f"{plural(self.rows, 'row')} in {plural(self.files, 'file')}"]
        if self.partial:
            parts.append(f"{plural(self.partial, 'unfinished last line')} left out")
        if self.unreadable:
            parts.append(f"{plural(self.unreadable, 'unreadable record')} left out ({self.first_fault})")
        if self.load_tests:
            parts.append(f"{plural(self.load_tests, 'request')} of load tests left out")
        if self.widths:
            parts.append(f"{plural(self.widths.total(), 'row')} of another width left out")
        return "; ".join([*parts, *(sentence.removesuffix(".") for sentence in self.left_out)])


def plural(count: int, what: str) -> str:
    """A count and a noun as text: "1 row", "1,234 rows". what: the noun in the singular; its plural gets an "s"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def text_column(column: np.ndarray) -> np.ndarray:
    """A column of any values [n] as text, str [n], "" where it is None."""
    return np.array(["" if cell is None else str(cell) for cell in column.tolist()], str)


def day_column(column: np.ndarray) -> np.ndarray:
    """The days in a column [n] of dates, times or ISO 8601 text, datetime64[D] [n]; NaT where a cell is none of these.

    The day of text is the one that is written: its time zone is ignored.
    """
    if column.dtype.kind == "M":
        return column.astype("datetime64[D]")
    return np.array([day_of(None if cell is None else str(cell)) for cell in column.tolist()], "datetime64[D]")


def day_of(moment: str | None) -> np.datetime64:
    """The day of an ISO 8601 date or time, as datetime64[D]; NaT when the text is not one, or None.

    The day is the one that is written: a time zone is ignored.
    """
    try:
        return np.datetime64((moment or "NaT")[:10], "D")
    except ValueError:
        return np.datetime64("NaT", "D")


def read_column(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A column of any values [n] as numbers, float32 [n], and where it was text that is not a number, bool [n].

    Text of a number is read as that number and does not count as text. Blank cells, None, and words for "missing" such
    as "NA" are NaN and do not count as text; other text is NaN and does.
    """
    if column.dtype.kind in "fiub":
        with np.errstate(over="ignore"):
            return column.astype(np.float32), np.zeros(len(column), bool)
    values, text = read_cells([[cell] for cell in column.tolist()], 1)
    return values[:, 0], text[:, 0]


def read_cells(rows: Sequence[Sequence[Any]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `width` cells (numbers, text, None) as numbers, float32 [n, width], and where they were text that is not
    a number, bool [n, width]. Cells are read as by read_column.

    Raises ValueError when a row has another number of cells.
    """
    with np.errstate(over="ignore"):
        try:
            values = np.array(rows, np.float32).reshape(len(rows), width)
            return values, np.zeros(values.shape, bool)
        except (ValueError, TypeError, OverflowError):
            pairs = [[read_cell(cell) for cell in row] for row in rows]
            both = np.array(pairs, np.float64).reshape(len(rows), width, 2)
            return both[..., 0].astype(np.float32), both[..., 1] > 0


def read_cell(cell: Any) -> tuple[float, bool]:
    """One cell as a number, and whether it held something else: text that is not a number, or a list or mapping.

    The number is NaN for such a cell. It is NaN, with False, for None, blank text, and words for "missing" such as
    "NA". A number too large for a float is infinite, with its sign.
    """
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in BLANK_CELLS):
        return np.nan, False
    try:
        return float(cell), False
    except OverflowError:
        return np.copysign(np.inf, 1 if cell > 0 else -1), False
    except (ValueError, TypeError):
        return np.nan, True
