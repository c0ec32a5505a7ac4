"""Data files: find Parquet and CSV files, read their headers, and scan them with DuckDB as one table.

Errors of DuckDB and Arrow become one sentence that names the file. What the columns mean is not known here.
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

PARQUET_SUFFIXES = (".parquet", ".pq")
TEXT_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".gz")
DELIMITERS = ",;\t|"
NUMERIC_TYPES = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
FILE_COLUMN = "file of the record"  # name of the scan's column with each row's file
DUCKDB_MEMORY = "1GB"  # the most that DuckDB may use; a scan needs far less


@dataclass(frozen=True)
class Source:
    """Files that have the same header.

    - files: their paths
    - columns: {column name: "number", "time", "text" or "other"} in file order; every column of a CSV file is "text"
    - delimiter: the character between two fields of CSV files; "" for Parquet
    - class_name: the name of the class folder that the files lie in, None when they lie in no class folder
    """

    files: tuple[Path, ...]
    columns: dict[str, str]
    delimiter: str = ""
    class_name: str | None = None

    @property
    def table(self) -> str:
        """SQL to follow FROM: the files as one table of all columns, with each row's file in the column FILE_COLUMN."""
        files = "[" + ", ".join(sql_literal(glob.escape(str(file))) for file in self.files) + "]"
        if not self.delimiter:
            return f"read_parquet({files}, filename={sql_literal(FILE_COLUMN)})"
        columns = "{" + ", ".join(f"{sql_literal(name)}: 'VARCHAR'" for name in self.columns) + "}"
        return (
            f"read_csv({files}, columns={columns}, delim={sql_literal(self.delimiter)}, quote='\"', escape='\"', "
            f"header=true, auto_detect=false, null_padding=false, filename={sql_literal(FILE_COLUMN)})"
        )

    def only(self, file: Path) -> "Source":
        """A Source of `file` alone, one of these files, with the same columns, delimiter and class folder."""
        return Source((file,), self.columns, self.delimiter, self.class_name)


def sql_literal(text: str) -> str:
    """A text as an SQL literal in single quotes; single quotes in the text are escaped."""
    return "'" + text.replace("'", "''") + "'"


def sql_name(column: str) -> str:
    """A column name as an SQL identifier in double quotes; double quotes in the name are escaped."""
    return '"' + column.replace('"', '""') + '"'


def connect_duckdb(scratch: Path) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB connection; the caller closes it.

    It loads no extensions. Without the one for time zones, a Parquet timestamp is read in UTC. scratch: the folder to
    which DuckDB writes what does not fit into DUCKDB_MEMORY.
    """
    extensions = {"autoload_known_extensions": False, "autoinstall_known_extensions": False}
    return duckdb.connect(config={"memory_limit": DUCKDB_MEMORY, "temp_directory": str(scratch), **extensions})


def find_data_files(path: Path) -> list[Path]:
    """The Parquet and CSV files of `path`, in path order.

    A path to a file is returned as it is, whatever its name ends with. Of a folder, the files at any depth are taken
    whose names end, in any case, with one of PARQUET_SUFFIXES or TEXT_SUFFIXES (.csv, .tsv and .txt, each also with
    .gz, and others); files and folders whose names start with a dot or an underscore are left out.

    Raises UserError when the path does not exist, or when the folder holds no such file.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"{path}: no such file or folder. Correct data.path or data.labels, or make a sample: scarcegan data make."
        )
    found = sorted(file for file in visible_files(path) if file.name.lower().endswith(PARQUET_SUFFIXES + TEXT_SUFFIXES))
    if not found:
        raise UserError(f"{path}: no Parquet or CSV file in it. Put the records there, or correct the path.")
    return found


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files at any depth below a folder, in no certain order.

    Links to folders are followed, each folder once. Files and folders whose names start with a dot or an underscore are
    left out. A missing folder yields nothing.
    """
    visited = set()
    for place, inside, names in os.walk(folder, followlinks=True):
        inside[:] = [name for name in inside if not is_hidden(name)]
        if os.path.realpath(place) in visited:
            inside.clear()
            continue
        visited.add(os.path.realpath(place))
        yield from (path for name in names if not is_hidden(name) and (path := Path(place, name)).is_file())


def is_hidden(name: str) -> bool:
    """Whether the name of a file or folder starts with a dot or an underscore, as those do that tools leave behind.

    Examples are `.part.crc` and `_SUCCESS`.
    """
    return name.startswith((".", "_"))


def group_by_header(files: list[Path], expected: tuple[str, ...] = (), class_name: str | None = None) -> list[Source]:
    """Group files whose columns (names, kinds and order) and delimiter are the same: a Source for each group.

    The groups are in the order of their first files. expected: column names that are looked for; a CSV file's delimiter
    is the one that finds most of them, of equal ones the one that gives most columns. class_name: the name of the class
    folder that the files lie in, None for none.

    Raises UserError for a file that cannot be read, an empty CSV file, or a CSV file that has an expected column twice.
    """
    groups: dict[tuple, list[Path]] = {}
    for file in files:
        columns, delimiter = read_header(file, expected)
        groups.setdefault((tuple(columns.items()), delimiter), []).append(file)
    return [
        Source(tuple(group), dict(columns), delimiter, class_name) for (columns, delimiter), group in groups.items()
    ]


def read_header(file: Path, expected: tuple[str, ...]) -> tuple[dict[str, str], str]:
    """The columns of a file, {name: "number", "time", "text" or "other"}, and its delimiter ("" for Parquet).

    A file whose name does not end with one of PARQUET_SUFFIXES is read as CSV; a blank or repeated column name becomes
    "column <position>", counted from 1 (see unique_names). expected: column names that are looked for; a CSV file's
    delimiter is the one that finds most of them, of equal ones the one that gives most columns.

    Raises UserError for a file that cannot be read, an empty CSV file, or a CSV file that has an expected column twice.
    """
    if file.name.lower().endswith(PARQUET_SUFFIXES):
        return parquet_columns(file), ""
    columns, delimiter = csv_columns(file, expected)
    repeated = [column for column in expected if columns.count(column) > 1]
    if repeated:
        raise UserError(f"{file}: two columns are named '{repeated[0]}'. Rename or remove one.")
    return dict.fromkeys(unique_names(columns, expected), "text"), delimiter


def unique_names(columns: list[str], expected: tuple[str, ...]) -> list[str]:
    """The column names of a CSV file, in order, changed so that no two are equal when case is ignored, as SQL needs.

    columns: the names in the file. expected: names that are looked for, which stay. Another name becomes
    "column <position>", counted from 1, when it is blank or equals an expected or earlier name; underscores are added
    while the file has a column of that name.
    """
    taken, names = {column.casefold() for column in expected if column in columns}, []
    found = {column.casefold() for column in [*columns, *expected]}
    for position, column in enumerate(columns, start=1):
        usable = column in expected or (column and column.casefold() not in taken)
        instead = f"column {position}"
        while instead in found:
            instead += "_"
        names.append(column if usable else instead)
        taken.add(column.casefold())
    return names


def parquet_columns(file: Path) -> dict[str, str]:
    """The columns of a Parquet file, in file order: {name: "number", "time", "text" or "other"}.

    Raises UserError for a file that cannot be read, or is not Parquet.
    """
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{file}: damaged or truncated Parquet ({first_line(error)}). Copy or export it again."
        ) from error
    return {field.name: column_kind(field.type) for field in schema}


def column_kind(type_: pa.DataType) -> str:
    """How the values of an Arrow type are read: "number" (bools too), "time" (dates and timestamps), "text" or "other".

    A dictionary type is read like the type of its values.
    """
    if any(test(type_) for test in NUMERIC_TYPES):
        return "number"
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        return "time"
    if pa.types.is_dictionary(type_):
        return column_kind(type_.value_type)
    return "text" if pa.types.is_string(type_) or pa.types.is_large_string(type_) else "other"


def csv_columns(file: Path, expected: tuple[str, ...]) -> tuple[list[str], str]:
    """The column names in the first line of a CSV file, and the file's delimiter.

    The blanks around a name are cut off; a name may be blank or occur twice.

    The delimiter is the one of `,`, `;`, tab and `|` under which most of the names `expected` are found, and of equal
    ones the one that gives the most columns.

    Raises UserError for a file that cannot be opened, is not UTF-8 text, or has a blank first line.
    """
    try:
        with open_text(file) as lines:
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
def open_text(file: Path) -> Iterator[Iterator[str]]:
    """Context manager: open a UTF-8 text file as an iterator over its lines, unzipped when the name ends with `.gz`.

    Lines keep their line ends; a byte order mark is left out.
    """
    open_ = gzip.open if file.name.lower().endswith(".gz") else open
    with open_(file, "rt", encoding="utf-8-sig", newline="") as lines:
        yield lines


@contextmanager
def naming_the_damaged_file(sources: Sequence[Source]) -> Iterator[None]:
    """Context manager: turn a DuckDB error inside it into a UserError that names the damaged file and, in CSV, the row.

    sources: the files that are scanned inside. When each of them can be read alone, the message is DuckDB's.

    Raises UserError for a DuckDB error, but OSError (ENOSPC) for a full disk.
    """
    try:
        yield
    except duckdb.Error as error:
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "no space left", tempfile.gettempdir()) from error
        raise UserError(f"{describe_damage(sources, error)}. Repair the file, or export it again.") from error


def describe_damage(sources: Sequence[Source], error: duckdb.Error) -> str:
    """A sentence without full stop that says which of the sources' files cannot be read, in which CSV row, and why.

    error: what the scan of all files raised. Each file is scanned alone to find the damaged one; when each alone can be
    read, the sentence is the message of `error`, without a file.
    """
    for source in sources:
        for file in source.files:
            try:
                with connect_duckdb(Path(tempfile.gettempdir())) as connection:
                    columns = ", ".join(f"max({sql_name(column)})" for column in source.columns)
                    connection.execute(f"SELECT {columns} FROM {source.only(file).table}")
            except duckdb.Error as damage:
                return f"{file}{duckdb_message(damage)}"
    return duckdb_message(error).removeprefix(": ")


def duckdb_message(error: duckdb.Error) -> str:
    """DuckDB's error message without its advice, to be appended to a file name.

    For an error in a line of a CSV file, such as ` row 4: expected number of columns: 3 found: 2`; otherwise `: ` and
    the first line of the message.
    """
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    place = re.search(r"CSV Error on Line: (\d+)", lines[0])
    if not place:
        return f": {lines[0][:200]}"
    known = (line for line in lines[1:] if line.startswith(("Expected", "Value", "Maximum", "Invalid")))
    return f" row {place[1]}: {next(known, 'cannot be read')[:200].lower()}"


def row_number(connection: duckdb.DuckDBPyConnection, source: Source, file: Path, test: str, nth: int = 0) -> int:
    """The row number in `file` of a record for which the SQL condition `test` holds.

    file: one of the source's files; nth: which of these records, 0 for the first. In CSV the number is that of the line
    in an editor, with the header on line 1; in Parquet the first record is row 1. When there is no such record: the
    header's line in CSV, 0 in Parquet. The connection keeps the order of rows from then on.
    """
    connection.execute("SET preserve_insertion_order = true")
    numbered = f'SELECT *, row_number() OVER () AS "row number" FROM {source.only(file).table}'
    found = connection.execute(
        f'SELECT "row number" FROM ({numbered}) WHERE {test} ORDER BY 1 LIMIT 1 OFFSET {nth}'
    ).fetchone()
    record = found[0] if found else 0
    return line_number(file, record, source.delimiter) if source.delimiter else record


def line_number(file: Path, record: int, delimiter: str) -> int:
    """The line, counted from 1, on which a record of a CSV file begins, as an editor shows it.

    record: number of the record, counted from 1; 0 is the header. Blank lines are counted as lines but are no records,
    and a record may span several lines. When the file has fewer records, the result is record + 1. delimiter: the
    character between two fields.
    """
    with open_text(file) as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        begins, seen = 1, -1
        for row in reader:
            seen += bool(row)
            if seen == record and row:
                return begins
            begins = reader.line_num + 1
    return record + 1
