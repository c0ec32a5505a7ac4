"""Files of records: find Parquet and CSV files, read their headers, and let DuckDB scan them as one table.

What a damaged or odd file says is turned into one sentence here. Nothing here knows what the columns mean.
"""

import csv
import errno
import glob
import gzip
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from scarcegan.data.schema import first_line
from scarcegan.errors import UserError

PARQUET = (".parquet", ".pq")
TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".gz")
DELIMITERS = ",;\t|"
NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
FILE = "file of the record"  # DuckDB's column for it; no user calls a column so
MEMORY = "1GB"  # at most, of DuckDB's own; a scan needs far less


@dataclass(frozen=True)
class Source:
    """Files that share a header. columns: name -> number, time, text or other; those of CSV files are all text."""

    files: tuple[Path, ...]
    columns: dict[str, str]
    delimiter: str = ""  # of CSV; Parquet has none
    class_name: str | None = None  # of the class folder they lie in

    @property
    def table(self) -> str:
        """What stands behind FROM: the columns, and FILE."""
        files = "[" + ", ".join(literal(glob.escape(str(file))) for file in self.files) + "]"
        if not self.delimiter:
            return f"read_parquet({files}, filename={literal(FILE)})"
        columns = "{" + ", ".join(f"{literal(name)}: 'VARCHAR'" for name in self.columns) + "}"
        return (
            f"read_csv({files}, columns={columns}, delim={literal(self.delimiter)}, quote='\"', escape='\"', "
            f"header=true, auto_detect=false, null_padding=false, filename={literal(FILE)})"
        )

    def only(self, file: Path) -> "Source":
        """The same, of one of the files."""
        return Source((file,), self.columns, self.delimiter, self.class_name)


def literal(text: str) -> str:
    """Text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def name(column: str) -> str:
    """A column's name in SQL."""
    return '"' + column.replace('"', '""') + '"'


def connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own, which spills into `scratch`. It loads no extensions, so days are those of UTC."""
    extensions = {"autoload_known_extensions": False, "autoinstall_known_extensions": False}
    return duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(scratch), **extensions})


def find(path: Path) -> list[Path]:
    """The data files of a file or folder, in name order; hidden ones and other kinds are left out."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"{path}: no such file or folder. Correct data.path or data.labels, or make a sample: scarcegan data make."
        )
    found = sorted(file for file in visible_files(path) if file.name.lower().endswith(PARQUET + TEXT))
    if not found:
        raise UserError(f"{path}: no Parquet or CSV file in it. Put the records there, or correct the path.")
    return found


def visible_files(folder: Path) -> Iterator[Path]:
    """Files below a folder, linked folders included, each folder once; hidden names are left out."""
    met = set()
    for place, inside, names in os.walk(folder, followlinks=True):
        inside[:] = [name for name in inside if not hidden(name)]
        if os.path.realpath(place) in met:
            inside.clear()
            continue
        met.add(os.path.realpath(place))
        yield from (path for name in names if not hidden(name) and (path := Path(place, name)).is_file())


def hidden(name: str) -> bool:
    """Names that tools leave behind: .crc, _SUCCESS."""
    return name.startswith((".", "_"))


def sources(files: list[Path], expected: tuple[str, ...] = (), class_name: str | None = None) -> list[Source]:
    """Group files by header. `expected`: columns that are looked for, which tell the delimiter of a CSV file."""
    groups: dict[tuple, list[Path]] = {}
    for file in files:
        columns, delimiter = header(file, expected)
        groups.setdefault((tuple(columns.items()), delimiter), []).append(file)
    return [
        Source(tuple(group), dict(columns), delimiter, class_name) for (columns, delimiter), group in groups.items()
    ]


def header(file: Path, expected: tuple[str, ...]) -> tuple[dict[str, str], str]:
    """Columns with what they hold, and the delimiter (empty for Parquet)."""
    if file.name.lower().endswith(PARQUET):
        return parquet_columns(file), ""
    columns, delimiter = csv_columns(file, expected)
    twins = [column for column in expected if columns.count(column) > 1]
    if twins:
        raise UserError(f"{file}: two columns are called '{twins[0]}'. Rename or remove one.")
    return dict.fromkeys(distinct(columns, expected), "text"), delimiter


def distinct(columns: list[str], expected: tuple[str, ...]) -> list[str]:
    """The names, with another one for those that nobody asked for and that SQL would refuse: blank or not the first."""
    taken, names = {column.casefold() for column in expected if column in columns}, []
    for position, column in enumerate(columns, start=1):
        usable = column in expected or (column and column.casefold() not in taken)
        names.append(column if usable else f"column {position}")
        taken.add(column.casefold())
    return names


def parquet_columns(file: Path) -> dict[str, str]:
    """Columns with what they hold, from the file's footer."""
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{file}: damaged or truncated Parquet ({first_line(error)}). Copy or export it again."
        ) from error
    return {field.name: kind(field.type) for field in schema}


def kind(type_: pa.DataType) -> str:
    """What an Arrow type can stand for."""
    if any(test(type_) for test in NUMBERS):
        return "number"
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        return "time"
    if pa.types.is_dictionary(type_):
        return kind(type_.value_type)
    return "text" if pa.types.is_string(type_) or pa.types.is_large_string(type_) else "other"


def csv_columns(file: Path, expected: tuple[str, ...]) -> tuple[list[str], str]:
    """Names in a CSV file's first line, and the delimiter under which most expected names are found."""
    try:
        with opened(file) as lines:
            first = next(lines, "")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file}: cannot be read as text ({first_line(error)}). Export it again as UTF-8 CSV."
        ) from error
    if not first.strip():
        raise UserError(f"{file}: empty. Remove it, or export it again.")
    readings = [([column.strip() for column in next(csv.reader([first], delimiter=d))], d) for d in DELIMITERS]
    return max(readings, key=lambda reading: (len(set(expected) & set(reading[0])), len(reading[0])))


@contextmanager
def opened(file: Path) -> Iterator[Iterator[str]]:
    """Lines of a text file, compressed or not."""
    open_ = gzip.open if file.name.lower().endswith(".gz") else open
    with open_(file, "rt", encoding="utf-8-sig", newline="") as lines:
        yield lines


@contextmanager
def reading(sources: Sequence[Source]) -> Iterator[None]:
    """Turn what DuckDB says of a file it cannot scan into a sentence that names the file and, in CSV, the row."""
    try:
        yield
    except duckdb.Error as error:
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "no space left", tempfile.gettempdir()) from error
        raise UserError(f"{damage(sources, error)}. Mend the file, or export it again.") from error


def damage(sources: Sequence[Source], error: duckdb.Error) -> str:
    """Where the damage is, found by reading each file alone, and what it is."""
    for source in sources:
        for file in source.files:
            try:
                with connect(Path(tempfile.gettempdir())) as connection:
                    columns = ", ".join(f"max({name(column)})" for column in source.columns)
                    connection.execute(f"SELECT {columns} FROM {source.only(file).table}")
            except duckdb.Error as own:
                return f"{file}{said(own)}"
    return said(error).removeprefix(": ")


def said(error: duckdb.Error) -> str:
    """DuckDB's message without its advice: ` row 4: expected number of columns: 3 found: 2`."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    place = re.search(r"CSV Error on Line: (\d+)", lines[0])
    if not place:
        return f": {lines[0][:200]}"
    known = (line for line in lines[1:] if line.startswith(("Expected", "Value", "Maximum", "Invalid")))
    return f" row {place[1]}: {next(known, 'cannot be read')[:200].lower()}"


def row_of(connection: duckdb.DuckDBPyConnection, source: Source, file: Path, test: str, nth: int = 0) -> int:
    """Row of the first (or nth further) record in `file` for which `test` holds, as a person counts.

    In CSV the header is row 1 and the number is that of the line; in Parquet the first record is row 1.
    """
    connection.execute("SET preserve_insertion_order = true")
    numbered = f'SELECT *, row_number() OVER () AS "row number" FROM {source.only(file).table}'
    found = connection.execute(
        f'SELECT "row number" FROM ({numbered}) WHERE {test} ORDER BY 1 LIMIT 1 OFFSET {nth}'
    ).fetchone()
    record = found[0] if found else 0
    return line_of(file, record, source.delimiter) if source.delimiter else record


def line_of(file: Path, record: int, delimiter: str) -> int:
    """The line on which a CSV record begins; the header is record 0. Blank lines count, as they do in an editor."""
    with opened(file) as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        begins, seen = 1, -1
        for row in reader:
            seen += bool(row)
            if seen == record and row:
                return begins
            begins = reader.line_num + 1
    return record + 1
