"""Rows: captured rows as batches in the baseline's columns, and a tally of what was met while reading them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

BLANK = frozenset({"", "na", "nan", "null", "none"})
MISSING_ID = ""


@dataclass(frozen=True)
class Rows:
    """n captured rows in the baseline's columns.

    id: user, inference or event, str [n]; day: datetime64[D] [n], NaT if not told; values: float32 [n, d]; text: bool
    [n, d], where something unreadable stood; rarity, unknown: float32 [n], NaN where the output was not captured;
    label: predicted class, str [n], "" where it was not captured.
    """

    id: np.ndarray
    day: np.ndarray
    values: np.ndarray
    text: np.ndarray
    rarity: np.ndarray
    unknown: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.id)


@dataclass
class Tally:
    """What was met while reading: filled by read_captured as it goes."""

    files: int = 0
    rows: int = 0
    partial: int = 0
    unreadable: int = 0
    complaint: str = ""
    widths: Counter[int] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    extra: Counter[str] = field(default_factory=Counter)

    def complain(self, words: str) -> None:
        """Count something unreadable; the first of them is remembered."""
        self.unreadable += 1
        self.complaint = self.complaint or words

    def words(self) -> str:
        """A sentence for the report and for stderr."""
        parts = [f"{plural(self.rows, 'row')} in {plural(self.files, 'file')}"]
        if self.partial:
            parts.append(f"{plural(self.partial, 'unfinished last line')} left out")
        if self.unreadable:
            parts.append(f"{plural(self.unreadable, 'unreadable record')} left out ({self.complaint})")
        if self.widths:
            parts.append(f"{plural(self.widths.total(), 'row')} of another width left out")
        return "; ".join(parts)


def plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def words(column: np.ndarray) -> np.ndarray:
    """A column of names [n] -> str [n], "" where there is none."""
    return np.array(["" if cell is None else str(cell) for cell in column.tolist()], str)


def days(column: np.ndarray) -> np.ndarray:
    """A column of dates, times or ISO 8601 text [n] -> datetime64[D] [n], NaT where there is none."""
    if column.dtype.kind == "M":
        return column.astype("datetime64[D]")
    return np.array([day_of(None if cell is None else str(cell)) for cell in column.tolist()], "datetime64[D]")


def day_of(moment: str | None) -> np.datetime64:
    """The day of an ISO 8601 time in UTC; NaT if there is none."""
    try:
        return np.datetime64((moment or "NaT")[:10], "D")
    except ValueError:
        return np.datetime64("NaT", "D")


def read_column(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A column of anything [n] -> float32 [n], and where it was text: bool [n]."""
    if column.dtype.kind in "fiub":
        with np.errstate(over="ignore"):
            return column.astype(np.float32), np.zeros(len(column), bool)
    values, text = read_cells([[cell] for cell in column.tolist()], 1)
    return values[:, 0], text[:, 0]


def read_cells(rows: Sequence[Sequence[Any]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of cells as they came (numbers, text, None) -> float32 [n, width], and where text stood: bool [n, width]."""
    with np.errstate(over="ignore"):
        try:
            values = np.array(rows, np.float32).reshape(len(rows), width)
            return values, np.zeros(values.shape, bool)
        except (ValueError, TypeError, OverflowError):
            pairs = [[read_cell(cell) for cell in row] for row in rows]
            both = np.array(pairs, np.float64).reshape(len(rows), width, 2)
            return both[..., 0].astype(np.float32), both[..., 1] > 0


def read_cell(cell: Any) -> tuple[float, bool]:
    """One cell -> (its number or NaN, whether it was text)."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in BLANK):
        return np.nan, False
    try:
        return float(cell), False
    except OverflowError:
        return np.inf, False
    except (ValueError, TypeError):
        return np.nan, True
