"""What generated files say, read by pyarrow and the csv module, a cell at a time, without DuckDB or the project's code.

The rules are those that config.yaml states: a file's own column wins over a folder's key, user ids are text, a day with
an offset is the day in UTC, and so on.
"""

import csv
import gzip
import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from generated_files import Case, File

Cell = tuple[pa.DataType | None, Any]  # the type (None: text of a text file or folder) and the value
EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
LARGEST_COUNT, LARGEST_FEATURE = 1e15, 1e38
TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)\s*(Z|[+-]\d\d:\d\d)?)?")
LOOSE_TIME = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s*(\S+)?)?")
SPACE = re.compile(r"[\s\u200b\ufeff]*")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE | re.ASCII)


class Bad(Exception):
    """A cell, or a file, that has no value: the project must refuse it. The message says why."""


@dataclass
class Row:
    """A row: its file, and per role the value or None. A row with `bad` must be refused, for that reason.

    raw: its categories as they are written; records: how many rows of the files it stands for.
    """

    file: str
    user: str | None = None
    day: date | None = None
    label: str | None = None
    numbers: tuple[Any, ...] = ()
    raw: tuple[Any, ...] = ()
    bad: str = ""
    records: int = 1


@dataclass
class Said:
    """What the files of a case say.

    - rows, labels, truth: the rows of the data, of the labels files and of the ground truth, in no certain order
    - must: reasons why the project must refuse the case
    - may: reasons why the project may refuse it
    """

    rows: list[Row] = field(default_factory=list)
    labels: list[Row] = field(default_factory=list)
    truth: list[Row] = field(default_factory=list)
    must: list[str] = field(default_factory=list)
    may: list[str] = field(default_factory=list)


@dataclass
class Reader:
    """Reads one case, written below `folder`.

    labelled, in_class_folders: whether a file that it has read is so; timed: whether files have times.
    """

    case: Case
    folder: Path
    said: Said = field(default_factory=Said)
    timed: set[bool] = field(default_factory=set)
    labelled: bool = False
    in_class_folders: bool = False

    @property
    def names(self) -> dict[str, str]:
        """Role -> column name."""
        return {role: self.case.layout.get(role, usual) for role, usual in DEFAULTS.items()}

    def read(self) -> Said:
        """All files of the case."""
        for file in self.case.files:
            if not file.read:
                continue
            try:
                rows = getattr(self.said, "rows" if file.place == "data" else file.place)
                rows += self.read_file(file)
            except Bad as reason:
                self.said.must.append(f"{self.case.path_of(file)}: {reason}")
        if not self.said.must:
            self.compare_rows()
        return self.said

    def read_file(self, file: File) -> list[Row]:
        """The rows of one file. Raises Bad when the file must be refused."""
        path = self.folder / self.case.path_of(file)
        self.note(file.newline == "\r", "line ends of an old Macintosh")
        columns = read_text(path, file.delimiter) if not is_parquet(path) else read_parquet(path)
        count = max((len(cells) for _, cells in columns), default=0)
        inside = path.parent.relative_to(self.folder / self.case.place(file.place))
        keys = folder_keys(inside)
        wanted = list(self.wanted(file.place))
        found: dict[str, list[Cell]] = {}
        for name in wanted:
            same = [cells for own, cells in columns if own == name]
            if len(same) > 1:
                raise Bad(f"two columns named {name}")
            if same:
                found[name] = same[0]
            elif (key := key_of(keys, name, self.names["time"])) is not None:
                found[name] = [(None, key)] * count
                self.note(len([1 for part in inside.parts if part.startswith(f"{name}=")]) > 1, "a key twice")
        for name in wanted:
            optional = name == self.names["label"] and file.place == "data"
            optional |= name == self.names["time"] and self.case.kind == "features"
            if name not in found and not optional:
                raise Bad(f"no column {name}")
            if name not in found and any(own.casefold() == name.casefold() for own, _ in columns):
                self.note(True, f"{name} in another case")
        for name, cells in found.items():
            if cells and cells[0][0] is not None and has_no_value(cells[0][0]):
                raise Bad(f"{name} is {cells[0][0]}")
        class_name = self.class_folder(inside) if file.place == "data" else None
        if file.place == "data":
            self.timed.add(self.names["time"] in found)
        self.labelled |= self.names["label"] in found
        self.in_class_folders |= class_name is not None
        return [self.read_row(file, i, found, class_name) for i in range(count)]

    def wanted(self, place: str) -> Sequence[str]:
        """The columns that a file of a place must or may have, without doubles."""
        names, layout = self.names, self.case.layout
        if place != "data":
            return names["user"], names["label"]
        users = [names["user"]] if names["user"] else []
        features = () if self.case.kind == "telemetry" else (*self.case.columns, *layout["categories"])
        counters = [name for name in layout.get("counters", ()) if self.aggregate.get(name) != "count"]
        return tuple(dict.fromkeys([*users, names["time"], names["label"], *counters, *features]))

    @property
    def aggregate(self) -> dict[str, str]:
        """Counter -> how the records of a day become one value; {} for one record a day."""
        return self.case.layout.get("aggregate", {})

    def class_folder(self, inside: Path) -> str | None:
        """The class folder in a path below the data, None when the case has none."""
        first = inside.parts[0] if inside.parts else ""
        return first if first in (*self.case.layout["classes"], "unlabelled") else None

    def read_row(self, file: File, i: int, found: dict[str, list[Cell]], class_name: str | None) -> Row:
        """Row i of a file; one that must be refused has its reason in `bad`."""
        names, layout = self.names, self.case.layout
        row = Row(str(self.case.path_of(file)))
        try:
            if names["user"]:
                row.user = self.user(found[names["user"]][i])
            if names["time"] in found and file.place == "data":
                row.day = self.day(found[names["time"]][i])
            if class_name is not None:
                row.label = None if class_name == "unlabelled" else class_name
            elif names["label"] in found:
                row.label = self.label(found[names["label"]][i], file.place)
            if file.place == "data" and self.case.kind == "telemetry":
                row.numbers = tuple(
                    self.counter(found[name][i], name in layout.get("signed", ())) if name in found else 1
                    for name in layout["counters"]
                )
            elif file.place == "data":
                row.numbers = tuple(self.feature(found[name][i]) for name in self.case.columns)
                row.numbers += tuple(self.category(found[name][i]) for name in layout["categories"])
                row.raw = tuple(found[name][i][1] for name in layout["categories"])
        except Bad as reason:
            row.bad = str(reason)
        return row

    def note(self, condition: object, reason: str) -> None:
        """Remember that the project may refuse the case for this reason, when the condition holds."""
        if condition:
            self.said.may.append(reason)

    def user(self, cell: Cell) -> str:
        """A user id. Raises Bad for a blank one, or a number that is not whole or not exact."""
        text = self.text(cell, exact=True)
        if text is None:
            raise Bad("a blank user")
        return text

    def text(self, cell: Cell, exact: bool = False) -> str | None:
        """A cell as text, None for a blank one.

        exact: whether a number must be whole and exactly representable; otherwise Bad is raised.
        """
        type_, value = cell
        if value is None:
            return None
        if isinstance(value, bool):
            self.note(True, "a truth value as text")
            return str(value).lower()
        if isinstance(value, (float, Decimal)):
            if value != value:
                self.note(True, "NaN as text")
                return None
            if not math.isfinite(value) or value != int(value):
                if exact:
                    raise Bad(f"{value!r} as a user")
                self.note(True, "a fraction as text")
                return str(value)
            limit = EXACT.get(type_, 10**38)
            if exact and abs(value) > limit:
                raise Bad(f"{value!r} as a user: not exact")
            self.note(abs(value) > 2**53 or not exact, "a float or decimal as text")
            return str(int(value))
        if isinstance(value, (date, datetime)):
            self.note(True, "a time as text")
            return str(value).replace("+00:00", "+00")
        if isinstance(value, bytes):
            self.note(True, "binary as text")
            value = decoded(value)
        return stripped(str(value)) or None

    def day(self, cell: Cell) -> date:
        """The day of a time. Raises Bad for anything else, and for a year before 1900 or after 2199."""
        _, value = cell
        if self.case.layout.get("time_format") and not isinstance(value, date):
            value = self.formatted_time(cell)
        elif isinstance(value, str):
            value = self.parsed_time(value)
        if isinstance(value, datetime):
            value = value.astimezone(ZoneInfo(self.case.layout.get("time_zone", "UTC"))) if value.tzinfo else value
            value = value.date()
        if not isinstance(value, date):
            raise Bad(f"{value!r} is no time")
        if not 1900 <= value.year <= 2199:
            raise Bad(f"{value} is out of range")
        return value

    def formatted_time(self, cell: Cell) -> datetime:
        """A time that is written as layout.time_format says: seconds or milliseconds since 1970, or a pattern."""
        form, words = self.case.layout["time_format"], self.text(cell) or ""
        try:
            if form.startswith("epoch"):
                seconds = float(words) / (1 if form == "epoch" else 1000)
                return datetime.fromtimestamp(seconds, UTC)
            return datetime.strptime(words, form)
        except (ValueError, OverflowError, OSError) as error:
            raise Bad(f"{words!r} is not {form}") from error

    def parsed_time(self, text: str) -> date | datetime:
        """A time from text: 2026-01-31, with or without a time of day and an offset. Raises Bad for other text.

        A time in a looser form gives its value, and the project may refuse it.
        """
        words = stripped(text)
        self.note(text != words, "blanks around a time")
        found = TIME.fullmatch(words)
        if not found:
            return self.loosely_parsed_time(words)
        try:
            if not found[2]:
                return date.fromisoformat(found[1])
            clock = re.sub(r"(\.\d{6})\d+", r"\1", found[2])
            when = datetime.fromisoformat(f"{found[1]}T{clock}")
            offset = timedelta() if found[3] in (None, "Z") else offset_of(found[3])
        except ValueError as error:
            raise Bad(f"'{text}' is no time") from error
        return when if found[3] is None else (when - offset).replace(tzinfo=UTC)

    def loosely_parsed_time(self, text: str) -> date | datetime:
        """A time in a form that the project may refuse. Raises Bad when it is none at all."""
        found = LOOSE_TIME.fullmatch(text)
        try:
            if not found:
                raise ValueError(text)
            self.note(True, "a time in a loose form")
            day = date(int(found[1]), int(found[2]), int(found[3]))
            if not found[4]:
                return day
            when = datetime.fromisoformat(f"{day}T{found[4]}")
            if not found[5]:
                return when
            if re.fullmatch(r"[+-]\d\d(:?\d\d)?", found[5]):
                return (when - offset_of(found[5])).replace(tzinfo=UTC)
            return when.replace(tzinfo=ZoneInfo(found[5])).astimezone(UTC)
        except (ValueError, KeyError) as error:
            raise Bad(f"'{text}' is no time") from error

    def label(self, cell: Cell, place: str) -> str | None:
        """A class name, None for no label. Raises Bad for another name (but not in ground truth)."""
        text = self.text(cell)
        if text is None or (text == "unlabelled" and place != "truth"):
            return None
        if place == "truth":
            return text.removesuffix(".0") if text.removesuffix(".0") in self.case.layout["classes"] else "other"
        if text not in self.case.layout["classes"]:
            raise Bad(f"label {text!r}")
        return text

    def number(self, cell: Cell) -> float | None:
        """A number, None for a blank cell. Raises Bad for what is no number."""
        _, value = cell
        if isinstance(value, bool):
            self.note(True, "a truth value as a number")
        if isinstance(value, bytes):
            self.note(True, "binary as a number")
            value = decoded(value)
        if value is None or isinstance(value, (bool, int, float, Decimal)):
            return None if value is None else float(value)
        if not isinstance(value, str):
            raise Bad(f"{value!r} is no number")
        self.note(not value.isascii(), "not ASCII")
        if not stripped(value):
            return None
        if not NUMBER.fullmatch(stripped(value)):
            raise Bad(f"{value!r} is no number")
        return float(stripped(value))

    def counter(self, cell: Cell, signed: bool) -> float:
        """A counter. Raises Bad for what is blank, NaN, infinite, too large or, unless it is signed, negative."""
        value = self.number(cell)
        if value is None or not abs(value) <= LARGEST_COUNT or (value < 0 and not signed):
            raise Bad(f"counter {value!r}")
        return value

    def feature(self, cell: Cell) -> float | None:
        """A feature, None for a missing one. Raises Bad for what is infinite or too large."""
        value = self.number(cell)
        if value is None or value != value:
            return None
        if abs(value) > LARGEST_FEATURE:
            raise Bad(f"feature {value!r}")
        return value

    def category(self, cell: Cell) -> float | None:
        """The code of a category, None for a missing one. Raises Bad for a fraction."""
        _, value = cell
        if isinstance(value, (float, Decimal)) and value == value and (not math.isfinite(value) or value != int(value)):
            raise Bad(f"category {value!r}")
        text = self.text(cell)
        if text is None or text.lower() == "nan":
            return None
        self.note(isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+\.0*", text), "a category such as 6.0, as text")
        return float(int(hashlib.sha256(text.encode()).hexdigest()[:6], 16))

    # Rows against each other

    def compare_rows(self) -> None:
        """Add the reasons to refuse that only show when all rows are compared."""
        said = self.said
        every = [*said.rows, *said.labels]
        self.note(any(row.bad for row in said.truth), "ground truth without a user")
        self.note(len(self.timed) > 1, "times in some files only")
        said.must += [f"{row.file}: {row.bad}" for row in every if row.bad]
        if not self.case.has("truth") and not said.rows:
            said.must.append("no row")
        if self.names["user"]:
            said.must += [] if self.aggregate else twice(said.rows)
            said.must += spelled_twice([*said.rows, *said.labels])
        for rows in (said.rows, said.labels):
            labels: dict[str | None, set[str]] = {}
            for row in rows:
                if row.label is not None and self.names["user"]:
                    labels.setdefault(row.user, set()).add(row.label)
            said.must += [f"two labels of {user}" for user, own in labels.items() if len(own) > 1]
        if self.case.has("labels"):
            users = {row.user for row in said.rows}
            said.must += [f"{row.user} has no row" for row in said.labels if row.user not in users and row.label]
        labels_in = self.case.layout.get("labels_in", "")
        said.must += ["no label column"] * (labels_in == "inside" and not self.labelled)
        said.must += ["no class folder"] * (labels_in == "folders" and not self.in_class_folders)
        given = said.labels if self.case.has("labels") else said.rows or said.truth
        missing = set(self.case.layout["classes"]) - {row.label for row in given}
        self.note(missing and (self.case.has("labels") or len(missing) == 1 or said.truth), "a class without users")
        self.note(self.case.has("labels") and not self.names["user"], "labels without users")


DEFAULTS = {"user": "user_id", "time": "date", "label": "label"}


def stripped(text: str) -> str:
    """Text without white space around it, of any kind, also of no width."""
    return text.strip("".join(letter for letter in set(text) if SPACE.fullmatch(letter)))


def decoded(value: bytes) -> str:
    """Bytes as text. Raises Bad when they are not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Bad(f"{value!r} is not UTF-8") from error


def is_parquet(path: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return path.name.lower().endswith((".parquet", ".pq"))


def read_parquet(path: Path) -> list[tuple[str, list[Cell]]]:
    """The columns of a Parquet file, in file order. Raises Bad for a damaged one."""
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise Bad(f"damaged: {error}") from error
    return [(name, arrow_cells(column)) for name, column in zip(table.column_names, table.columns, strict=True)]


def arrow_cells(column: pa.ChunkedArray) -> list[Cell]:
    """The cells of an Arrow column, each with its type; those of a dictionary have the type of their value."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return arrow_cells(column.cast(type_.value_type))
    if pa.types.is_timestamp(type_):
        return [(type_, None if n is None else instant(n, type_)) for n in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_time(type_) or pa.types.is_duration(type_):
        return [(type_, None)] * len(column)
    return [(type_, cell) for cell in column.to_pylist()]


def instant(number: int, type_: pa.TimestampType) -> datetime | None:
    """A timestamp from its number of units since 1970; a date outside Python's years becomes year 1."""
    micro = {"s": 1_000_000, "ms": 1_000, "us": 1}
    microseconds = number // 1000 if type_.unit == "ns" else number * micro[type_.unit]
    try:
        return datetime(1970, 1, 1, tzinfo=UTC if type_.tz else None) + timedelta(microseconds=microseconds)
    except OverflowError:
        return datetime(1, 1, 1)


def read_text(path: Path, delimiter: str) -> list[tuple[str, list[Cell]]]:
    """The columns of a text file.

    Raises Bad for one that is damaged, empty, not UTF-8, or has rows of other lengths.
    """
    try:
        raw = path.read_bytes()
        words = (gzip.decompress(raw) if path.name.lower().endswith(".gz") else raw).decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(words, newline=""), delimiter=delimiter) if row]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise Bad(f"damaged or not UTF-8: {error}") from error
    if not rows:
        raise Bad("empty")
    if any(len(row) != len(rows[0]) for row in rows):
        raise Bad("rows of other lengths")
    return [(name.strip(), [(None, row[i]) for row in rows[1:]]) for i, name in enumerate(rows[0])]


def has_no_value(type_: pa.DataType) -> bool:
    """Whether cells of a type are neither numbers nor times nor text."""
    return pa.types.is_nested(type_) or pa.types.is_time(type_) or pa.types.is_duration(type_)


def folder_keys(inside: Path) -> dict[str, str | None]:
    """The key=value folders of a path below the data, the values decoded, None for a missing value.

    Of two folders of one key the outer one counts.
    """
    parts = [part.split("=", 1) for part in reversed(inside.parts) if "=" in part]
    return {unquote(k): None if v == "__HIVE_DEFAULT_PARTITION__" else unquote(v) for k, v in parts if k}


def key_of(keys: dict[str, str | None], name: str, time: str) -> date | str | None:
    """The value of a folder key of this name, "" for a missing value; None when there is no such key.

    For the time also year=, month= and day= together, as a date.
    """
    if name in keys:
        return keys[name] or ""
    if name == time and {"year", "month", "day"} <= keys.keys():
        return date(*(int(keys[part] or 0) for part in ("year", "month", "day")))
    return None


def offset_of(text: str) -> timedelta:
    """An offset such as +05:30, -0500 or +02."""
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    return timedelta(hours=hours, minutes=minutes) * (-1 if text[0] == "-" else 1)


def twice(rows: Sequence[Row]) -> list[str]:
    """The reasons to refuse two rows of a user for a day, bad rows left out."""
    days: dict[tuple[str | None, date | None], int] = {}
    for row in rows:
        if not row.bad:
            days[row.user, row.day] = days.get((row.user, row.day), 0) + 1
    return [f"two rows of {user} on {day}" for (user, day), count in days.items() if count > 1]


def spelled_twice(rows: Sequence[Row]) -> list[str]:
    """The reasons to refuse ids that differ in leading zeros or a trailing .0, in files of which none has both."""
    spellings: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        found = re.fullmatch(r"0*(\d+?)(\.0+)?", row.user or "", re.ASCII)
        if found and row.user is not None:
            spellings.setdefault(found[1], {}).setdefault(row.user, set()).add(row.file)
    return [
        f"{first!r} and {second!r}"
        for own in spellings.values()
        for first in own
        for second in own
        if first < second and not own[first] & own[second]
    ]
