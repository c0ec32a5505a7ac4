"""Data files made from a seed: telemetry, ready tables, labels and ground truth as other tools export them.

A case is a few files and how to read them (names of columns, classes). Three of four cases pair two column types in one
role, in the first and in the second file; the others have natural types and a twist or two, such as a folder named
`date=2026-03-01`. What the files say is not known here: see independent_reader.py.
"""

import csv
import gzip
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FIRST = date(2026, 1, 5)
CLASSES = ("calm", "risky")
ZONE = "America/New_York"
TYPES: dict[str, pa.DataType | None] = {
    **{
        name: getattr(pa, name)() for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    **{name: getattr(pa, name)() for name in ("float16", "float32", "float64", "date32", "date64", "string", "null")},
    "bool": pa.bool_(),
    "decimal": pa.decimal128(20, 4),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    **{f"timestamp[{unit}]": pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")},
    **{
        f"timestamp[{unit}, zone]": pa.timestamp(unit, zone)
        for unit, zone in zip(("s", "ms", "us", "ns"), ("UTC", ZONE, "UTC", ZONE), strict=True)
    },
    "csv": None,
}
ROLES = ("counter", "user", "time", "label", "feature", "category")
PAIRS = [(role, first, second) for role in ROLES for first in TYPES for second in TYPES]
random.Random(11).shuffle(PAIRS)

NUMBERS = (0, 1, 2, 17, 100, 0.4, 15.5, 7, 12, 3e4, 10**14)
IDS = (7, 12, 31, 100, 5, 100000, 300, 4096)
BAD_NUMBERS = (
    "1_000",
    "nan",
    "inf",
    "",
    "-1",
    "1,5",
    "0x1A",
    "１２",
    "1e400",
    "true",
    "-Infinity",
    "1e16",
    "many",
    "5\t",
)
BAD_NUMBERS += ("--1", "1d", "1 000", "0b1", "٣", "1e", "NaN", "null", "\u00a05", "1__0", "_1", "1e1_0")
NAMES = (
    "7",
    "12",
    "31",
    "100",
    "5",
    "100000",
    "ann",
    "bob",
    "ü",
    "O'Neil",
    'a"b',
    "a,b;c",
    "NULL",
    "1e5",
    "Ann",
    "u\u0308",
)
ODD_NAMES = (
    "007",
    " 7",
    "7\t",
    "\u00a012",
    "100000.0",
    "",
    " ",
    "\t",
    "7.0",
    "00100",
    "31\n",
    "\u300031",
    "ann ",
    "nan",
    "\ufeff7",
)
DAYS = (
    "2026-01-{d:02} 23:30:00",
    "2026-01-{d:02}T00:30:00",
    "2026-01-{d:02}T23:30:00Z",
    "2026-01-{d:02}T23:30:00-05:00",
)
DAYS += ("2026-01-{d:02} 01:30:00+02:00", "2026-01-{d:02}", "2026-01-{d:02}T00:30:00.250+05:30", "2026-01-{d:02}")
ODD_DAYS = (
    "{d:02}.01.2026",
    "01/{d:02}/2026",
    "202601{d:02}",
    "2026-02-30",
    "2026-1-{d}",
    "today",
    "epoch",
    "infinity",
)
ODD_DAYS += ("2026-01-{d:02} 25:00", f"2026-01-{{d:02}} 23:30:00 {ZONE}", "1767571200", "2026-01-{d:02} (BC)", "", "-5")
ODD_DAYS += ("2026-01-{d:02} 23:30:00+0530", "2026-01-{d:02} 01:00:00+02", "2026/01/{d:02}", "9999-12-31", "1800-01-01")
ODD_DAYS += (" 2026-01-{d:02} ", "2026-01-{d:02}x", "2026-01-{d:02} 23:30:00 UTC", "20{d:02}", "2026-01")


@dataclass
class Column:
    """A column of a file: its name, its Arrow type (None in a text file) and its cells."""

    name: str
    type: pa.DataType | None
    cells: list[Any]


@dataclass
class File:
    """A file of a case: where it lies and what it holds.

    - place: "data", "labels" or "truth", the part of the case that it belongs to
    - folder: its folder below that part's path, "" for none
    - read: False for a file that must not be read, such as a hidden one
    - delimiter, encoding, quoting, newline: of a text file, whose columns have no type
    - options: further arguments of pyarrow's write_table
    - edit: changes its bytes before they are written
    """

    place: str
    folder: str
    name: str
    columns: list[Column]
    read: bool = True
    delimiter: str = ","
    encoding: str = "utf-8"
    quoting: Any = csv.QUOTE_MINIMAL
    newline: str = "\n"
    options: dict[str, Any] = field(default_factory=dict)
    edit: Callable[[bytes], bytes] = bytes

    @property
    def is_text(self) -> bool:
        """Whether the file is a text file; otherwise it is Parquet."""
        return self.columns[0].type is None

    def column(self, name: str) -> Column | None:
        """The first column of this name, None when there is none."""
        return next((column for column in self.columns if column.name == name), None)

    def content(self) -> bytes:
        """The bytes of the file."""
        return self.edit(self.text() if self.is_text else self.parquet())

    def text(self) -> bytes:
        """The file as text, zipped when its name ends with .gz."""
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.delimiter, quoting=self.quoting, lineterminator=self.newline)
        writer.writerow([column.name for column in self.columns])
        writer.writerows(zip(*(column.cells for column in self.columns), strict=True))
        raw = out.getvalue().encode(self.encoding, "replace")
        return gzip.compress(raw, mtime=0) if self.name.lower().endswith(".gz") else raw

    def parquet(self) -> bytes:
        """The file as Parquet."""
        out = pa.BufferOutputStream()
        arrays = [arrow_array(column.cells, column.type) for column in self.columns if column.type is not None]
        pq.write_table(pa.Table.from_arrays(arrays, [column.name for column in self.columns]), out, **self.options)
        return bytes(out.getvalue())


@dataclass
class Case:
    """Files to be read together, and how.

    - kind: "telemetry" or "features" (a ready table); "truth" for ground truth
    - layout: arguments of rules.Layout
    - columns: the feature columns of a ready table; empty: to be found
    - root: the folder of the data below the case's folder
    - notes: what is special about the case, a word or two each
    - extras: paths below the data -> the target of a link; None for a file that no reader knows
    """

    seed: int
    kind: str
    layout: dict[str, Any]
    files: list[File]
    columns: tuple[str, ...] = ()
    root: str = "data"
    notes: list[str] = field(default_factory=list)
    extras: dict[str, str | None] = field(default_factory=dict)

    def place(self, name: str) -> Path:
        """The path of a part of the case ("data", "labels", "truth") below the case's folder."""
        return Path(self.root if name == "data" else name)

    def path_of(self, file: File) -> Path:
        """The path of one of its files below the case's folder."""
        return self.place(file.place) / file.folder / file.name

    def has(self, place: str) -> bool:
        """Whether it has files of a place."""
        return any(file.place == place for file in self.files)

    def data(self) -> list[File]:
        """Its data files that are to be read."""
        return [file for file in self.files if file.place == "data" and file.read]

    def write(self, folder: Path) -> None:
        """Write all files below a folder."""
        for file in self.files:
            path = folder / self.path_of(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content())
        for name, target in self.extras.items():
            path = folder / self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}", encoding="utf-8") if target is None else path.symlink_to(target)

    def __str__(self) -> str:
        """One line: the seed, the kind and what is special."""
        return f"seed {self.seed}: {self.kind}, {', '.join(self.notes)}"


def arrow_array(cells: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Cells as an Arrow array of the type."""
    if pa.types.is_float16(type_):
        return pa.array([None if cell is None else np.float16(cell) for cell in cells], type_)
    if pa.types.is_dictionary(type_):
        return pa.array(cells, type_.value_type).dictionary_encode().cast(type_)
    return pa.array(cells, type_)


def make_case(seed: int) -> Case:
    """The case of a seed, a whole number from 0 on. Three of four are pairs of types; PAIRS has them all."""
    rng = random.Random(seed)
    if seed % 4 == 3:
        return twisted_case(seed, rng)
    return paired_case(seed, rng, *PAIRS[(seed - seed // 4) % len(PAIRS)])


# Pairs of types in one role


def paired_case(seed: int, rng: random.Random, role: str, first: str, second: str) -> Case:
    """A case whose first file has a column of type `first` in a role, and whose second one has `second` there."""
    kind = "features" if role in ("feature", "category") else "telemetry"
    if role in ("user", "label") and rng.random() < 0.4:
        kind = rng.choice(("features", "truth"))
    places = ["data", "data"]
    if kind == "truth":
        places = ["truth", "truth"]
    elif role in ("user", "label") and rng.random() < 0.5:
        places = ["labels", rng.choice(("labels", "data")) if role == "user" else "labels"]
    folders = rng.choice(("flat", "class", "hive")) if role != "label" and "labels" not in places else "flat"
    case = Case(seed, kind, layout_of(kind), [], ("score", "rate") if kind == "features" else ())
    if role == "label":
        case.layout["classes"] = ("0", "1")
    case.notes += [f"{role}: {first} then {second}", *places[:1], folders]
    inside = role == "label" or (folders != "class" and places == ["data", "data"] and rng.random() < 0.5)
    for number, (name, place) in enumerate(zip((first, second), places, strict=True)):
        case.files.append(a_file(rng, case, number, role, name, place, with_label=inside or place != "data"))
    if "data" not in places and kind != "truth":
        case.files.append(a_file(rng, case, 2, "", "csv", "data"))
        share_users(rng, case)
    if folders == "class":
        for file, folder in zip(case.files, CLASSES, strict=False):
            file.folder = folder
    if folders == "hive" and kind != "truth":
        rng.choice((any_folder, own_column_and_folder, day_in_folder))(case, rng)
    return case


def layout_of(kind: str) -> dict[str, Any]:
    """Arguments of rules.Layout for a kind of data."""
    if kind == "features":
        return {"classes": CLASSES, "categories": ("protocol",)}
    return {"classes": CLASSES, "counters": ("sessions", "wagers")}


def a_file(
    rng: random.Random, case: Case, number: int, role: str, type_: str, place: str, with_label: bool = False
) -> File:
    """A file with one column of a type in a role, and natural columns beside it.

    number: of the file in its case, so that no two files have the same user and day unless the role makes them.
    """
    rows = rng.randint(2, 5)
    is_text = type_ == "csv" or (not role and rng.random() < 0.5)
    users = [f"u{number}{i}" for i in range(rows)]
    days = [FIRST + timedelta(number * 6 + i) for i in range(rows)]
    natural: dict[str, tuple[str, str, list[Any]]] = {"user_id": ("user", "string", users)}
    if place == "data":
        natural["date"] = ("time", rng.choice(("date32", "string")), days)
    if with_label:
        alternating = [case.layout["classes"][i % 2] for i in range(rows)]
        natural["label"] = ("label", "string", alternating)
    if place == "data" and case.kind == "telemetry":
        natural["sessions"] = ("counter", "int64", [rng.randint(0, 9) for _ in range(rows)])
        natural["wagers"] = ("", "float64", [rng.randint(0, 99) / 4 for _ in range(rows)])
    elif place == "data":
        natural["score"] = ("feature", "float64", [rng.randint(0, 99) / 4 for _ in range(rows)])
        natural["rate"] = ("", "float32", [rng.randint(0, 99) / 4 for _ in range(rows)])
        natural["protocol"] = ("category", "string", [rng.choice(("tcp", "udp")) for _ in range(rows)])
    columns = []
    for name, (own, usual, cells) in natural.items():
        if own == role and role:
            cells, usual = role_cells(rng, role, type_, rows, number), type_
        if is_text:
            columns.append(Column(name, None, [as_text(cell) for cell in cells]))
        else:
            cells = [cell.isoformat() if isinstance(cell, date) and usual == "string" else cell for cell in cells]
            columns.append(Column(name, TYPES[usual], cells))
    file = File(place, "", f"{number}.csv" if is_text else f"{number}.parquet", columns)
    vary_text(rng, file) if is_text else vary_parquet(rng, file)
    return file


def as_text(cell: Any) -> str:
    """A natural cell as it is written to a text file."""
    return "" if cell is None else str(cell)


def vary_text(rng: random.Random, file: File) -> None:
    """Give a text file an encoding, delimiter, quoting and line end."""
    file.encoding = rng.choices(("utf-8", "utf-8-sig", "utf-16", "latin-1"), (70, 20, 5, 5))[0]
    file.delimiter = rng.choice((",", ",", ",", ";", "\t", "|"))
    file.quoting = rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    file.newline = rng.choice(("\n", "\n", "\r\n"))
    if rng.random() < 0.15:
        file.name += ".gz"


def vary_parquet(rng: random.Random, file: File) -> None:
    """Give a Parquet file statistics or none, a compression, and the Arrow schema or none."""
    file.options = {
        "write_statistics": rng.random() < 0.7,
        "compression": rng.choice(("snappy", "gzip", "zstd", "none")),
        "store_schema": rng.random() < 0.7,
        "use_dictionary": rng.random() < 0.7,
        "row_group_size": rng.choice((1, 2, 100)),
    }


def role_cells(rng: random.Random, role: str, type_: str, rows: int, number: int) -> list[Any]:
    """Cells of a type for a role; in a fourth of the columns one of them is odd.

    number: of the file: the cells of a user column are other ones in the first file than in the second in half of the
    cases, so that class folders do not always contradict each other.
    """
    usual, odd = cells_of(role, type_)
    rng.shuffle(usual)
    if role == "user" and rng.random() < 0.5:
        usual = usual[number % 2 :: 2] or usual
    cells = [usual[i % len(usual)] for i in range(rows)]
    if role == "label" and len(usual) > 1:
        cells[:2] = usual[:2]
    if odd and rng.random() < 0.25:
        cells[rng.randrange(rows)] = rng.choice(odd)
    return cells


def cells_of(role: str, type_: str) -> tuple[list[Any], list[Any]]:
    """Usual cells and odd ones of a type for a role."""
    if type_ == "null":
        return [None], []
    if type_ == "bool":
        return [True, False], [None]
    if type_.startswith(("date", "timestamp")):
        return time_cells(type_)
    if type_ in ("csv", "string", "dictionary"):
        usual, odd = text_cells(role)
        return usual, odd if type_ == "csv" else [*odd, None]
    numbers = {"user": IDS, "label": (0, 1), "category": (6, 17, 80), "time": (20260105, 1767571200, 20458, 105)}
    return numeric_cells(numbers.get(role, NUMBERS), role, type_)


def time_cells(type_: str) -> tuple[list[Any], list[Any]]:
    """Usual and odd cells of a date or timestamp type."""
    usual = [FIRST + timedelta(i) for i in range(6)]
    if type_.startswith("date"):
        return usual, [None, date(1800, 1, 1), date(9999, 12, 31)]
    hours = (0, 4, 12, 23)
    return [datetime(d.year, d.month, d.day, hours[i % 4], 30) for i, d in enumerate(usual)], [
        None,
        datetime(1800, 1, 1),
    ]


def text_cells(role: str) -> tuple[list[Any], list[Any]]:
    """Usual and odd cells of text for a role."""
    if role == "user":
        return list(NAMES), list(ODD_NAMES)
    if role == "time":
        return ([form.format(d=day) for form in DAYS for day in (6, 7, 12)], [form.format(d=9) for form in ODD_DAYS])
    if role == "label":
        return ["0", "1"], ["2", "", "unlabelled", " 1 ", "1.0", "01", "1\t", "Unlabelled", "nan", "None"]
    if role == "category":
        return ["tcp", "udp", "6", "17"], ["\ttcp", " tcp ", "", "nan", "6.0", "TCP", "ü", "NULL", "\u00a0tcp", "a,b;c"]
    return ["0", "0.4", "15.5", "17", "1e3", " 5", "+3", "7.", "-0", ".5"], list(BAD_NUMBERS)


def numeric_cells(numbers: Sequence[float], role: str, type_: str) -> tuple[list[Any], list[Any]]:
    """Those of the numbers that a numeric type holds, and odd ones of that type."""
    if type_ == "decimal":
        return [Decimal(str(n)) for n in numbers if n < 1e15], [None, Decimal("-1.5"), Decimal("9007199254740993")]
    if type_.startswith("float"):
        largest = {"float16": 2048, "float32": 2**24, "float64": 2**53}[type_]
        odd = [None, float("nan"), float("inf"), -0.5, 1.5, -float("inf")]
        large = {"float16": [4100.0], "float32": [2.0**24 + 2, 3e38], "float64": [2.0**53 + 2, 1e300, 1e16]}
        odd += large[type_] if role != "category" else []
        return [float(n) for n in numbers if n <= largest], odd
    bits, signed = int(type_.lstrip("uint")), type_.startswith("int")
    largest = 2 ** (bits - signed) - 1
    usual = [int(n) for n in numbers if n == int(n) and n <= largest] or [1, 2, 5]
    odd = [None, *([-1] if signed else []), largest if role != "user" or bits < 64 else 2**53 + 1]
    return usual, odd


def share_users(rng: random.Random, case: Case) -> None:
    """Give the data of a case the users of its labels, as text, so that each labelled user has a row."""
    users = [file.column("user_id") for file in case.files if file.place == "labels"]
    cells = [cell for column in users if column is not None for cell in column.cells]
    texts = list(dict.fromkeys(text for cell in cells if (text := plain_id(cell))))
    for file in case.data()[-1:]:
        rows = len(texts) + 1
        for column in file.columns:
            column.cells = [column.cells[i % len(column.cells)] for i in range(rows)]
            if column.name == "user_id":
                column.cells = [*texts, "someone else"]


def plain_id(cell: Any) -> str:
    """A cell of a user column as a data file of text would most likely have it."""
    if isinstance(cell, (float, Decimal)):
        return str(int(cell)) if cell == cell and abs(cell) != float("inf") and cell == int(cell) else ""
    if isinstance(cell, bool) or cell is None:
        return "" if cell is None else str(cell).lower()
    return str(cell).strip()


# Twists


def twisted_case(seed: int, rng: random.Random) -> Case:
    """A case of natural types with one or two twists."""
    kind = rng.choice(("telemetry", "telemetry", "features"))
    case = Case(seed, kind, layout_of(kind), [], ("score", "rate") if kind == "features" else ())
    if kind == "features" and rng.random() < 0.4:
        case.columns = ()
    labels = rng.choice(("inside", "file", "none"))
    for number in range(rng.randint(2, 3)):
        case.files.append(a_file(rng, case, number, "", "", "data", with_label=labels == "inside"))
    if labels == "file":
        users = [cell for file in case.data() for cell in file.columns[0].cells]
        case.files.append(labels_file(rng, users))
    names = rng.sample(sorted(TWISTS), rng.choice((1, 1, 2)))
    for name in sorted(names, key="no rows".__eq__):  # the others need rows
        case.notes.append(name)
        TWISTS[name](case, rng)
    return case


def labels_file(rng: random.Random, users: Sequence[str]) -> File:
    """A labels file that gives some users a class each, alternating."""
    chosen = sorted(rng.sample(list(users), max(2, len(users) // 2)))
    cells = [CLASSES[i % 2] for i in range(len(chosen))]
    return File("labels", "", "labels.csv", [Column("user_id", None, chosen), Column("label", None, cells)])


TWISTS: dict[str, Callable[[Case, random.Random], None]] = {}


def twist(function: Callable[[Case, random.Random], None]) -> Callable[[Case, random.Random], None]:
    """Register a function that changes a case under its name, with blanks for underscores."""
    TWISTS[function.__name__.replace("_", " ")] = function
    return function


def used_columns(case: Case) -> list[str]:
    """The columns that the case's data is read by."""
    return [column.name for column in case.data()[0].columns]


def some_file(case: Case, rng: random.Random) -> File:
    """One of the data files."""
    return rng.choice(case.data())


def other_value(name: str, rng: random.Random) -> str:
    """A value for a column that no file has in it."""
    known = {"date": "2026-01-29", "user_id": "nobody", "label": rng.choice(CLASSES), "protocol": "icmp"}
    return known.get(name, "777")


@twist
def any_folder(case: Case, rng: random.Random) -> None:
    """A folder key that no column has."""
    for number, file in enumerate(case.data()):
        file.folder = str(Path(file.folder, f"region=eu{number}"))


@twist
def own_column_and_folder(case: Case, rng: random.Random) -> None:
    """A folder key that equals a file's own column, with another value."""
    name = rng.choice(used_columns(case))
    case.notes.append(f"folder key {name}")
    for file in case.data()[: rng.randint(1, 3)]:
        file.folder = str(Path(file.folder, f"{name}={other_value(name, rng)}"))


@twist
def day_in_folder(case: Case, rng: random.Random) -> None:
    """The day only in the name of a folder."""
    form = rng.choice(("date={}", "date={}", "year={:%Y}/month={:%m}/day={:%d}", "year={:%Y}/month={:%-m}/day={:%-d}"))
    for number, file in enumerate(case.data()):
        if any(column.name == "date" and case_uses_time(case) for column in file.columns) and len(file.columns) > 1:
            file.columns = [column for column in file.columns if column.name != "date"]
            day = FIRST + timedelta(number)
            file.folder = str(Path(file.folder, form.format(day, day, day)))


def case_uses_time(case: Case) -> bool:
    """Whether the pair of types of a case is in another role than the time."""
    return not any(note.startswith("time:") for note in case.notes)


@twist
def column_in_folder(case: Case, rng: random.Random) -> None:
    """A column, other than the day, only in the name of a folder, in one file or in all."""
    name = rng.choice([name for name in used_columns(case) if name != "date"])
    values = {
        "user_id": ("ann%20b", "o%27neil", "7", "a+b", "50%", "a=b", "%zz", "%C3%BC"),
        "label": CLASSES,
        "protocol": ("tcp", "6", "a%2Fb"),
    }
    case.notes.append(f"only in the folder: {name}")
    for file in case.data() if rng.random() < 0.6 else case.data()[:1]:
        file.columns = [column for column in file.columns if column.name != name]
        value = rng.choice((*values.get(name, ("5", "0.25", "1_0", "x")), "__HIVE_DEFAULT_PARTITION__"))
        file.folder = str(Path(file.folder, f"{name}={value}"))


@twist
def labels_in_folders(case: Case, rng: random.Random) -> None:
    """Labels files in folders that name the class, without a label column, or with one that says otherwise."""
    users = [str(cell) for file in case.data() for cell in file.columns[0].cells]
    case.files = [file for file in case.files if file.place == "data"]
    for number, name in enumerate(CLASSES):
        columns = [Column("user_id", None, users[number::2])]
        if rng.random() < 0.3:
            columns.append(Column("label", None, [CLASSES[1 - number]] * len(users[number::2])))
        case.files.append(File("labels", f"label={name}", "users.csv", columns))


@twist
def key_above_the_data(case: Case, rng: random.Random) -> None:
    """A folder key in the path of the data itself."""
    name = rng.choice(used_columns(case))
    case.root = f"{name}={other_value(name, rng)}/data"
    if rng.random() < 0.2:
        for file in case.data():
            file.columns = [column for column in file.columns if column.name != name]


@twist
def key_in_another_case(case: Case, rng: random.Random) -> None:
    """A folder key in another case than the column's name."""
    file = some_file(case, rng)
    name = rng.choice(used_columns(case))
    file.folder = str(Path(file.folder, f"{name.upper()}={other_value(name, rng)}"))


@twist
def another_case(case: Case, rng: random.Random) -> None:
    """A column whose name differs from an expected one only in case, before or after it, with other values."""
    if case.kind == "features":  # where columns are to be found, the second of the two is named by its position
        case.columns = ("score", "rate")
    name = rng.choice(used_columns(case))
    for file in case.data()[: rng.randint(1, 3)]:
        own = file.column(name)
        if own is not None and own.cells:
            twin = Column(name.upper(), own.type, [own.cells[-1]] * len(own.cells))
            if own.type in (pa.int64(), pa.float64(), pa.float32()):
                twin.cells = [999] * len(own.cells)
            elif own.type is None and name in ("sessions", "wagers", "score", "rate"):
                twin.cells = ["999"] * len(own.cells)
            file.columns.insert(rng.choice((0, len(file.columns))), twin)


@twist
def only_another_case(case: Case, rng: random.Random) -> None:
    """A column that is there in another case only."""
    column = rng.choice(some_file(case, rng).columns)
    column.name = column.name.upper()


@twist
def named_twice(case: Case, rng: random.Random) -> None:
    """Two columns of one name, used or unused."""
    file = some_file(case, rng)
    if rng.random() < 0.5:
        own = rng.choice(file.columns)
        file.columns.append(Column(own.name, own.type, list(reversed(own.cells))))
    else:
        cells = ["x"] * len(file.columns[0].cells)
        type_ = None if file.is_text else pa.string()
        file.columns += [Column(name, type_, cells) for name in ("note", "note", "NOTE")]


@twist
def unused_columns(case: Case, rng: random.Random) -> None:
    """Columns that nothing uses, with the names of the reader's own, and of types that have no number or text."""
    file = some_file(case, rng)
    rows = len(file.columns[0].cells)
    names = ["records", "filename", "row number", "bucket", "day", "user", "c0", "u", "f0", "", "as_of2"]
    if file.is_text:
        file.columns += [Column(name, None, ["3"] * rows) for name in rng.sample(names, 3)]
        return
    types = [pa.list_(pa.int8()), pa.struct([("user_id", pa.int8())]), pa.binary(), pa.time64("us"), pa.duration("s")]
    for name, type_ in zip(rng.sample(names, 3), rng.sample([*types, pa.string(), pa.int64()], 3), strict=True):
        file.columns.insert(0, Column(name, type_, [None] * rows))


@twist
def odd_type(case: Case, rng: random.Random) -> None:
    """A used column of a type that has no number or text."""
    file = some_file(case, rng)
    column = rng.choice(file.columns)
    case.notes.append(column.name)
    if file.is_text:
        return
    choices: list[tuple[pa.DataType, Any]] = [
        (pa.list_(pa.int8()), [1]),
        (pa.struct([("x", pa.int8())]), {"x": 1}),
        (pa.map_(pa.string(), pa.int8()), [("x", 1)]),
        (pa.binary(), b"\xff\xfe"),
        (pa.binary(), b"7"),
        (pa.binary(4), b"abcd"),
        (pa.time64("us"), 5_000_000),
        (pa.time32("ms"), 5_000),
        (pa.duration("s"), 5),
        (pa.decimal256(60, 2), Decimal("5.25")),
        (pa.decimal256(60, 0), Decimal(10) ** 40 + 1),
        (pa.large_string(), "7"),
        (pa.decimal128(38, 0), Decimal(10) ** 30 + 1),
        (pa.dictionary(pa.int8(), pa.int64()), 5),
        (pa.dictionary(pa.int8(), pa.timestamp("us", "UTC")), datetime(2026, 1, 7, 3)),
    ]
    column.type, cell = rng.choice(choices)
    column.cells = [cell] * len(column.cells)


@twist
def nan_in_numbers(case: Case, rng: random.Random) -> None:
    """A NaN in a column of numbers, with or without statistics of the file."""
    for file in case.data():
        for column in file.columns:
            if column.type in (pa.float64(), pa.float32()):
                column.cells[rng.randrange(len(column.cells))] = float("nan")
                return


@twist
def a_bad_number(case: Case, rng: random.Random) -> None:
    """A text that is no number, or one that only some readers take for a number."""
    file = some_file(case, rng)
    column = file.column("sessions") or file.column("score")
    if column is not None:
        column.type, column.cells = None if file.is_text else pa.string(), [str(cell) for cell in column.cells]
        column.cells[-1] = rng.choice((*BAD_NUMBERS, *("1_000", "1_0.5", "0_1") * 4))


@twist
def blanks_around_users(case: Case, rng: random.Random) -> None:
    """White space around user ids of one file."""
    column = some_file(case, rng).column("user_id")
    if column is not None:
        before, after = (rng.choice((" ", "\t", "\u00a0", "\u3000", "\n", "\r\n", "")) for _ in range(2))
        column.cells = [f"{before}{cell}{after}" for cell in column.cells]


@twist
def numbered_users(case: Case, rng: random.Random) -> None:
    """User ids that are numbers, spelled in another way in one file or in the labels."""
    spellings: list[Callable[[int], str]] = [str, "{:05}".format, "{}.0".format, "{:.1e}".format, "u{:03}".format]
    for file in case.files:
        column = file.column("user_id")
        if column is not None and column.type in (None, pa.string()):
            spell = rng.choice(spellings[: rng.choice((1, 3, 5))])
            column.cells = [spell(100 + 17 * i) for i in range(len(column.cells))]


@twist
def float_users(case: Case, rng: random.Random) -> None:
    """User ids that are whole numbers, as float in one Parquet file, as int or text in the others."""
    start = rng.choice((100_000, 2**24 - 3, 2**53 - 3))
    for file in case.files:
        column = file.column("user_id")
        if column is None:
            continue
        ids = [start + i for i in range(len(column.cells))]
        if file.is_text:
            column.cells = [str(one) for one in ids]
        else:
            column.type = rng.choice(
                (pa.float64(), pa.float32(), pa.int64(), pa.decimal128(38, 3), pa.decimal128(38, 0))
            )
            whole = pa.types.is_integer(column.type) or pa.types.is_decimal(column.type)
            column.cells = [one if whole else float(one) for one in ids]


@twist
def times_with_offsets(case: Case, rng: random.Random) -> None:
    """Times as text, with and without an offset, or as Parquet times with and without a zone."""
    for file in case.data():
        column = file.column("date")
        if column is None:
            continue
        if file.is_text or rng.random() < 0.3:
            column.type = None if file.is_text else pa.string()
            column.cells = [rng.choice(DAYS).format(d=6 + i) for i, _ in enumerate(column.cells)]
        else:
            column.type = pa.timestamp(rng.choice(("ms", "us", "ns")), rng.choice((None, "UTC", ZONE, "+05:30")))
            column.cells = [datetime(2026, 1, 6 + i, rng.choice((0, 4, 23)), 30) for i, _ in enumerate(column.cells)]
            file.options["use_deprecated_int96_timestamps"] = rng.random() < 0.3


@twist
def time_zone(case: Case, rng: random.Random) -> None:
    """Another zone for days, and times with and without an offset."""
    case.layout["time_zone"] = rng.choice((ZONE, "Asia/Kolkata", "Pacific/Auckland"))
    times_with_offsets(case, rng)


@twist
def time_format(case: Case, rng: random.Random) -> None:
    """Times as seconds or milliseconds since 1970, or in a national format, and one file perhaps in another."""
    forms = ("epoch", "epoch_ms", "%Y%m%d", "%d.%m.%Y", "%m/%d/%Y %H:%M", "%d-%b-%Y", "%Y-%m-%dT%H:%M:%S%z")
    case.layout["time_format"] = rng.choice(forms)
    case.notes.append(case.layout["time_format"])
    for file in case.data():
        column = file.column("date")
        if column is None or rng.random() < 0.1:
            continue
        days = [datetime(2026, 1, 8 + i, rng.choice((0, 12, 23)), 30, tzinfo=UTC) for i in range(len(column.cells))]
        form = case.layout["time_format"] if rng.random() < 0.85 else rng.choice(forms)
        texts = [day.strftime(form) for day in days]
        if form.startswith("epoch"):
            texts = [str(int(day.timestamp()) * (1 if form == "epoch" else 1000)) for day in days]
        column.type, column.cells = (None if file.is_text else pa.string()), texts
        if texts and texts[0].isdigit() and not file.is_text:
            column.type = rng.choice((pa.int64(), pa.float64(), pa.string()))
            make = {pa.int64(): int, pa.float64(): float}.get(column.type, str)
            column.cells = [make(text) for text in texts]


@twist
def an_odd_day(case: Case, rng: random.Random) -> None:
    """A day as text that only some readers take for a day."""
    file = some_file(case, rng)
    column = file.column("date")
    if column is not None:
        column.type, column.cells = None if file.is_text else pa.string(), [str(cell) for cell in column.cells]
        column.cells[-1] = rng.choice(ODD_DAYS).format(d=9)


@twist
def the_same_day_twice(case: Case, rng: random.Random) -> None:
    """Two records of a user for a day."""
    for column in some_file(case, rng).columns:
        column.cells.append(column.cells[0] if column.name in ("user_id", "date", "label") else column.cells[-1])


@twist
def events(case: Case, rng: random.Random) -> None:
    """Several records of a user for a day, which become one."""
    if case.kind == "telemetry":
        ways = ("sum", "mean", "max", "count")
        case.layout["aggregate"] = {name: rng.choice(ways) for name in case.layout["counters"]}
        case.notes.append("/".join(case.layout["aggregate"].values()))
        for file in case.data():
            for column in file.columns:
                again = column.name in (case.layout.get("user", "user_id"), case.layout.get("time", "date"))
                cells = column.cells if again or column.name == "label" else column.cells[::-1]
                column.cells = [*column.cells, *cells]
            if rng.random() < 0.5:
                counted = [name for name, way in case.layout["aggregate"].items() if way == "count"]
                file.columns = [column for column in file.columns if column.name not in counted]


@twist
def signed_counters(case: Case, rng: random.Random) -> None:
    """A counter that may be negative, and negative counters, declared or not."""
    if case.kind == "telemetry":
        case.layout["signed"] = ("wagers",)
        for file in case.data():
            column = file.column(rng.choice(("wagers", "wagers", "wagers", "sessions")))
            if column is not None and column.cells and pa.types.is_floating(column.type or pa.string()):
                column.cells[0] = -1.25
            elif column is not None and column.cells:
                column.cells[0] = "-2" if file.is_text else -2


@twist
def labels_asked_for(case: Case, rng: random.Random) -> None:
    """A case whose labels must be in the data, and are there or not."""
    case.layout["labels_in"] = rng.choice(("inside", "folders"))
    case.files = [file for file in case.files if file.place == "data"]
    if case.layout["labels_in"] == "folders" and rng.random() < 0.5:
        class_folders(case, rng)


@twist
def two_labels(case: Case, rng: random.Random) -> None:
    """A user with two labels."""
    file = rng.choice([file for file in case.files if file.column("label")] or case.files)
    if file.column("label"):
        for column in file.columns:
            cell = column.cells[0]
            if column.name == "label":
                cell = CLASSES[1] if cell == CLASSES[0] else CLASSES[0]
            if column.name == "date":
                cell = "2026-01-28" if isinstance(cell, str) else type(cell)(2026, 1, 28)
            column.cells.append(cell)


@twist
def class_folders(case: Case, rng: random.Random) -> None:
    """Class folders, and perhaps a file beside them."""
    case.files = [file for file in case.files if file.place == "data"]
    for number, file in enumerate(case.data()):
        file.folder = str(Path((*CLASSES, "unlabelled")[number % 3], file.folder))
    if rng.random() < 0.5:
        beside = a_file(rng, case, 7, "", "", "data")
        beside.read = False
        case.notes.append("a file beside class folders")
        case.files.append(beside)


@twist
def files_nobody_reads(case: Case, rng: random.Random) -> None:
    """A link to nothing, or a file of a kind that is not read, beside the data."""
    if rng.random() < 0.5:
        case.extras["2026-01-20.csv"] = "moved-away.csv"
        case.notes.append("a link to nothing")
    else:
        case.extras[rng.choice(("more.xlsx", "more.json", "more.parquet.tmp", "more.avro", "more.csv.bz2"))] = None
        case.notes.append("an unknown extension")


@twist
def hidden_files(case: Case, rng: random.Random) -> None:
    """A hidden file or folder that other tools leave behind; nobody reads or counts it."""
    file = a_file(rng, case, 8, "", "", "data")
    file.read, file.folder = False, rng.choice(("", ".old", "_temporary"))
    if not file.folder:
        file.name = rng.choice((".", "_")) + file.name
    case.files.append(file)
    case.notes.append("hidden")


@twist
def an_encoding(case: Case, rng: random.Random) -> None:
    """Letters that need an encoding."""
    file = some_file(case, rng)
    column = file.column("user_id")
    if column is not None and column.type in (None, pa.string()):
        column.cells = [f"{cell}-ü漢"[: rng.choice((5, 6))] for cell in column.cells]
        file.encoding = rng.choice(("utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "cp1252"))


@twist
def damaged(case: Case, rng: random.Random) -> None:
    """A file that is cut off, or has rows of other lengths, or is of another kind than its name says."""
    file = rng.choice([file for file in case.files if file.read])
    choice = rng.randrange(6)
    if choice == 0:
        file.edit = lambda raw: raw[: len(raw) * 2 // 3]
    elif choice == 1:
        file.edit = lambda raw: b""
    elif choice == 2:
        file.edit = lambda raw: raw + b"one,field,more,than,there,should,be,in,a,row\n"
    elif choice == 3:
        file.edit = lambda raw: raw + b"one\n"
    elif choice == 4:
        file.name = file.name.split(".")[0] + (".parquet" if file.is_text else ".csv")
    else:
        file.name += ".gz"
        file.edit = lambda raw: raw[:-9]


@twist
def no_rows(case: Case, rng: random.Random) -> None:
    """A file with a header and no row, or all of them."""
    for file in case.data() if rng.random() < 0.3 else [some_file(case, rng)]:
        for column in file.columns:
            column.cells.clear()


@twist
def odd_lines(case: Case, rng: random.Random) -> None:
    """Blank lines, blanks around the column names, and line ends in a text file."""
    file = some_file(case, rng)
    if file.is_text and not file.name.endswith(".gz") and file.encoding.startswith("utf-8"):
        choice = rng.randrange(4)
        if choice == 0:
            file.edit = lambda raw: raw + file.newline.encode() * 2
        elif choice == 1:
            for column in file.columns:
                column.name = f" {column.name} "
        elif choice == 2:
            file.edit = lambda raw: raw.rstrip(b"\r\n")
        else:
            file.newline = "\r"


@twist
def file_names(case: Case, rng: random.Random) -> None:
    """Names of files and folders with characters that mean something to a reader, and other endings."""
    for file in case.data():
        file.folder = str(
            Path(file.folder, rng.choice(("a b", "[a-z]*", "it's", "ü#?", "{x}", "a%20b", "100%", "k=", "=")))
        )
        if file.is_text and not file.name.endswith(".gz"):
            file.name = f"{Path(file.name).stem}{rng.choice(('.csv', '.CSV', '.txt', '.tsv', '.csv.gz', '.txt.GZ'))}"
        elif not file.is_text:
            file.name = f"{Path(file.name).stem}{rng.choice(('.pq', '.PARQUET', '.parquet'))}"


@twist
def column_names(case: Case, rng: random.Random) -> None:
    """Expected columns with names that mean something to a reader."""
    role = rng.choice(("user", "time", "label", "number"))
    new = rng.choice(("records", "row number", "bucket", "day", "user", "c0", 'a "b"', "it's", "ü", "select"))
    old = {"user": "user_id", "time": "date", "label": "label"}.get(
        role, "sessions" if case.kind == "telemetry" else "score"
    )
    for file in case.files:
        for column in file.columns:
            if column.name == old:
                column.name = new
        if role in ("time", "number"):
            file.folder = file.folder.replace(f"{old}=", f"{new}=")
    if role == "number":
        case.columns = tuple(new if name == old else name for name in case.columns)
        if "counters" in case.layout:
            case.layout["counters"] = tuple(new if name == old else name for name in case.layout["counters"])
    else:
        case.layout[role] = new
    case.notes.append(f"{old} is named {new}")


@twist
def no_user_column(case: Case, rng: random.Random) -> None:
    """A ready table without users."""
    if case.kind == "features":
        case.layout["user"] = ""
        case.files = [file for file in case.files if file.place == "data"]
        for file in case.files:
            file.columns = [column for column in file.columns if column.name != "user_id"]


@twist
def no_time_column(case: Case, rng: random.Random) -> None:
    """A ready table without times, in one file or in all."""
    if case.kind == "features":
        for file in case.data() if rng.random() < 0.6 else case.data()[:1]:
            file.columns = [column for column in file.columns if column.name != "date"]


@twist
def other_columns_in_one_file(case: Case, rng: random.Random) -> None:
    """Another order of columns, and one more, in one file."""
    file = some_file(case, rng)
    rng.shuffle(file.columns)
    rows = len(file.columns[0].cells)
    file.columns.append(Column("extra", None if file.is_text else pa.int64(), ["3" if file.is_text else 3] * rows))


@twist
def users_that_differ_in_case(case: Case, rng: random.Random) -> None:
    """User ids that differ only in case, in how an umlaut is composed, or in a zero inside."""
    for file in case.data():
        column = file.column("user_id")
        if column is not None and column.type in (None, pa.string()):
            column.cells = [
                ("Ann", "ann", "\u00fc", "u\u0308", "u07", "u7", "ANN")[i] for i, _ in enumerate(column.cells)
            ]
