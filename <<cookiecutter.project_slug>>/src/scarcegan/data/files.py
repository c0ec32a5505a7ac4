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
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from scarcegan.data.schema import first_line
from scarcegan.errors import UserError
from scarcegan.sql import first_record, sql_literal, sql_name

PARQUET_SUFFIXES = (".parquet", ".pq")
TEXT_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".gz")
DELIMITERS = ",;\t|"
NUMERIC_TYPES = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,  # Hive and Impala write text so
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
)
CANNOT_BE_READ_AS_TEXT = (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error)
DATE_FOLDERS = ("year", "month", "day")  # keys of nested folders year=2026/month=01/day=05
LONGEST_LINE = 2_000_000  # bytes; DuckDB's own limit
READ_AT_ONCE = 1 << 20  # bytes of a file that are read at once
FILE_COLUMN = "scarcegan: file of the record"  # name of the scan's column with each row's file
csv.field_size_limit(LONGEST_LINE)  # Python's own limit is less, so that valid files could not be counted through
DUCKDB_MEMORY = "1GB"  # the most that DuckDB may use; a scan needs far less


@dataclass(frozen=True)
class Source:
    """Files that have the same columns, of the same types and in the same order, and are all zipped or all not.

    - files: their paths
    - columns: {column name: Arrow type} in file order, then the columns of `folders`; every column of a CSV file is
      text. Names are unique also when case is ignored, as SQL needs
    - delimiter: the character between two fields of CSV files; "" for Parquet
    - class_name: the name of the class folder that the files lie in, None when they lie in no class folder
    - root: the file or folder that was searched for the files
    - folders: {column that the files lack: the keys of the folders `key=value` below `root` that give it}
    """

    files: tuple[Path, ...]
    columns: dict[str, pa.DataType]
    delimiter: str = ""
    class_name: str | None = None
    root: Path = Path()
    folders: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """SQL to follow FROM: the files as one table of all columns, with each row's file in the column FILE_COLUMN."""
        files = "[" + ", ".join(sql_literal(glob.escape(str(file))) for file in self.files) + "]"
        own = [name for name in self.columns if name not in self.folders]
        options = f"hive_partitioning=false, filename={sql_literal(FILE_COLUMN)}"
        if self.delimiter:
            columns = "{" + ", ".join(f"{sql_literal(name)}: 'VARCHAR'" for name in own) + "}"
            zipped = "gzip" if is_zipped(self.files[0]) else "none"  # DuckDB is misled by a ? in a path
            table = (
                f"read_csv({files}, columns={columns}, delim={sql_literal(self.delimiter)}, quote='\"', escape='\"', "
                f"header=true, auto_detect=false, null_padding=false, compression='{zipped}', {options})"
            )
        else:
            # By position: names in a Parquet file may differ in case only.
            names = ", ".join(map(sql_name, [*own, FILE_COLUMN]))
            table = f"read_parquet({files}, binary_as_string=true, {options}) AS records({names})"
        if not self.folders:
            return table
        values = ", ".join(f"{self.folder_sql(name)} AS {sql_name(name)}" for name in self.folders)
        return f"(SELECT *, {values} FROM {table})"

    def folder_sql(self, column: str) -> str:
        """SQL expression of a column of `folders`: the value in the folder name, or the date of DATE_FOLDERS."""
        above = len(os.path.join(self.root, "")) if self.root.parts else 0  # paths of files below "." lack it
        below = f"concat('/', substr({sql_name(FILE_COLUMN)}, {above + 1}))"
        values = [
            f"nullif(url_decode(regexp_extract({below}, {sql_literal(f'/{re.escape(key)}=([^/]*)/')}, 1)), "
            "'__HIVE_DEFAULT_PARTITION__')"
            for key in self.folders[column]
        ]
        return f"TRY_CAST(concat_ws('-', {', '.join(values)}) AS DATE)" if len(values) > 1 else values[0]

    def kind(self, column: str) -> str:
        """How a column is read, as by column_kind. column: a key of `columns`."""
        return column_kind(self.columns[column])

    def only(self, file: Path) -> "Source":
        """A Source of `file` alone, one of these files; all else is the same."""
        return replace(self, files=(file,))


def connect_duckdb(scratch: Path, time_zone: str = "UTC") -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB connection; the caller closes it.

    scratch: the folder to which DuckDB writes what does not fit into DUCKDB_MEMORY. time_zone: the zone, such as
    Europe/Berlin, in which an instant becomes a day, and which a time without an offset is in.

    Raises UserError for a zone that DuckDB does not know.
    """
    extensions = {"autoload_known_extensions": False, "autoinstall_known_extensions": False}
    connection = duckdb.connect(config={"memory_limit": DUCKDB_MEMORY, "temp_directory": str(scratch), **extensions})
    # Both trust a Parquet file's minimum and maximum, which leave NaN out.
    connection.execute("SET disabled_optimizers = 'statistics_propagation,filter_pushdown'")
    try:
        connection.execute(f"SET TimeZone = {sql_literal(time_zone)}")
    except duckdb.Error:
        connection.close()
        raise UserError(
            f"data.time_zone: '{time_zone}' is no time zone. Write UTC, or a name such as Europe/Berlin."
        ) from None
    return connection


def find_data_files(path: Path) -> list[Path]:
    """The Parquet and CSV files of `path`, in path order.

    A path to a file is returned as it is, whatever its name ends with. Of a folder, the files at any depth are taken
    whose names end, in any case, with one of PARQUET_SUFFIXES or TEXT_SUFFIXES (.csv, .tsv and .txt, each also with
    .gz, and others); files and folders whose names start with a dot or an underscore are left out, and links to a file
    that is there itself. `files_left_out` lists the others.

    Raises UserError when the path does not exist, when the folder holds no such file, or for a file name that is not
    UTF-8.
    """
    path = Path(path)
    if path.is_file():
        return [with_readable_name(path)]
    if not path.is_dir():
        raise UserError(
            f"{path}: no such file or folder. Correct data.path or data.labels, or make a sample: scarcegan data make."
        )
    found = sorted(with_readable_name(file) for file in visible_files(path) if has_data_suffix(file))
    again = second_names(found)
    found = [file for file in found if file not in again]
    if not found:
        raise UserError(f"{path}: no Parquet or CSV file in it. Put the records there, or correct the path.")
    return found


def second_names(files: Collection[Path]) -> set[Path]:
    """Those of some files that are links to another of them, or to the same file as another link before them."""
    first: dict[str, Path] = {}
    for file in sorted(files, key=lambda file: (file.is_symlink(), file)):
        first.setdefault(os.path.realpath(file), file)
    return {file for file in files if first[os.path.realpath(file)] != file}


def is_zipped(file: Path) -> bool:
    """Whether a file's name ends, in any case, with .gz."""
    return file.name.lower().endswith(".gz")


def has_data_suffix(file: Path) -> bool:
    """Whether a file's name ends, in any case, with one of PARQUET_SUFFIXES or TEXT_SUFFIXES."""
    return file.name.lower().endswith(PARQUET_SUFFIXES + TEXT_SUFFIXES)


def with_readable_name(file: Path) -> Path:
    """The path unchanged.

    Raises UserError for a name that is not UTF-8, which DuckDB cannot open.
    """
    try:
        str(file).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(file).decode(errors="replace")
        raise UserError(f"{shown}: the file's name is not UTF-8. Rename it.") from None
    return file


def files_left_out(
    path: Path,
    folders: Collection[Path] = (),
    endings: tuple[str, ...] = PARQUET_SUFFIXES + TEXT_SUFFIXES,
    kinds: str = "Parquet or CSV",
) -> dict[str, list[Path]]:
    """The files below a folder that are not read: {why: their paths, in path order}. {} for a path to a file.

    endings: those of the files that are read, in lower case; kinds: how to call these files.

    They are links to nothing, second names of a file, files with another ending, pipes and devices, and, when `folders`
    are the class folders that are read instead of `path`, data files beside them. Hidden ones are not listed.
    """
    found: dict[str, list[Path]] = {}
    entries = sorted(visible_entries(Path(path)))
    within = [[file for file in entries if folder in file.parents] for folder in folders or [Path(path)]]
    again = set().union(*map(second_names, within))
    for file in entries:
        if not file.exists():
            found.setdefault("links to nothing", []).append(file)
        elif not file.is_file():
            found.setdefault("no regular files", []).append(file)
        elif not file.name.lower().endswith(endings):
            found.setdefault(f"no {kinds} by their ending", []).append(file)
        elif file in again:
            found.setdefault("links to a file that is read itself", []).append(file)
        elif folders and not any(folder in file.parents for folder in folders):
            found.setdefault("beside the class folders", []).append(file)
    return found


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files at any depth below a folder, in no certain order, without links to nothing, pipes and devices.

    Links to folders are followed, each folder once. Files and folders whose names start with a dot or an underscore are
    left out. A missing folder yields nothing.
    """
    return (path for path in visible_entries(folder) if path.is_file())


def visible_entries(folder: Path) -> Iterator[Path]:
    """Yield all that is no folder at any depth below a folder: visible_files, links to nothing, pipes and devices.

    Of a folder that is there under several names the real one counts, else the link that is found first: links
    to folders are followed once all else has been walked.

    Raises OSError, while it is iterated, for a folder that cannot be opened.
    """

    def give_up(error: OSError) -> None:
        raise error

    visited, starts = set(), [str(folder)]
    for start in starts:
        for place, inside, names in os.walk(start, onerror=give_up if folder.is_dir() else None):
            inside[:] = sorted(name for name in inside if not is_hidden(name))
            if os.path.realpath(place) in visited:
                inside.clear()
                continue
            visited.add(os.path.realpath(place))
            starts += [path for name in inside if os.path.islink(path := os.path.join(place, name))]
            yield from (Path(place, name) for name in names if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """Whether the name of a file or folder starts with a dot or an underscore, as those do that tools leave behind.

    Examples are `.part.crc` and `_SUCCESS`.
    """
    return name.startswith((".", "_"))


def group_by_header(
    files: list[Path],
    expected: tuple[str, ...] = (),
    class_name: str | None = None,
    root: Path = Path(),
    time_column: str = "",
) -> list[Source]:
    """Group files with the same columns (names, types and order) and delimiter, zipped or not: a Source for each group.

    The groups are in the order of their first files.

    - expected: column names that are looked for; a CSV file's delimiter is the one that finds most of them, of equal
      ones the one that gives most columns. A file that lacks one has it from a folder `name=value` below root, if it
      lies in one
    - class_name: the name of the class folder that the files lie in, None for none
    - root: the file or folder that was searched for the files
    - time_column: the expected column, if any, that the folders DATE_FOLDERS may give

    Raises UserError for a file that cannot be read, an empty CSV file, a file that has an expected column twice or from
    two folders of one key, and expected names that differ in case only.
    """
    by_case: dict[str, str] = {}
    for name in expected:
        if by_case.setdefault(name.lower(), name) != name:
            raise UserError(
                f"the columns '{by_case[name.lower()]}' and '{name}' differ in case only. Rename one in the data "
                "and in config.yaml."
            )
    groups: dict[tuple, list[Path]] = {}
    for file in files:
        columns, delimiter = read_header(file, expected)
        keys = folder_keys(file, root)
        folders = columns_in_folders(keys, columns, expected, time_column)
        for column, key in ((column, key) for column, its in folders.items() for key in its if keys.count(key) > 1):
            raise UserError(
                f"{file}: two of its folders are named '{key}=…', and the column '{column}' is taken from them. "
                "Rename one."
            )
        groups.setdefault((tuple(columns.items()), delimiter, tuple(folders.items()), is_zipped(file)), []).append(file)
    found = []
    for (columns, delimiter, folders, _), group in groups.items():
        given = {name: pa.string() if len(keys) == 1 else pa.date32() for name, keys in folders}
        found.append(Source(tuple(group), dict(columns) | given, delimiter, class_name, root, dict(folders)))
    return found


def folder_keys(file: Path, root: Path) -> list[str]:
    """The keys of the folders `key=value` that a file lies in, below the folder `root` that was searched."""
    folders = file.relative_to(root).parts[:-1] if root in file.parents else ()
    return [key for key, equals, _ in (folder.partition("=") for folder in folders) if equals]


def columns_in_folders(
    keys: Sequence[str], columns: Collection[str], expected: Sequence[str], time_column: str
) -> dict[str, tuple[str, ...]]:
    """The expected columns that a file lacks and that the names of its folders give: {column: keys of the folders}.

    keys: those of the file's folders; columns: those in the file. A column comes from a folder `column=value`,
    time_column also from the three folders DATE_FOLDERS.
    """
    own = {column.lower() for column in columns}
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in expected if name in keys and name.lower() not in own}
    if (
        time_column in expected
        and time_column not in found
        and time_column.lower() not in own
        and set(keys).issuperset(DATE_FOLDERS)
    ):
        found[time_column] = DATE_FOLDERS
    return found


def read_header(file: Path, expected: tuple[str, ...]) -> tuple[dict[str, pa.DataType], str]:
    """The columns of a file, {name: Arrow type}, and its delimiter ("" for Parquet).

    A file whose name does not end with one of PARQUET_SUFFIXES is read as CSV, all of it text. Blank and repeated
    column names are changed (see unique_names). expected: column names that are looked for; a CSV file's delimiter is
    the one that finds most of them, of equal ones the one that gives most columns.

    Raises UserError for a file that cannot be read, an empty CSV file, or a file that has an expected column twice.
    """
    if file.name.lower().endswith(PARQUET_SUFFIXES):
        columns, types = parquet_columns(file)
        delimiter = ""
    else:
        columns, delimiter = csv_columns(file, expected)
        types = [pa.string()] * len(columns)
    repeated = [column for column in expected if columns.count(column) > 1]
    if repeated:
        raise UserError(f"{file}: two columns are named '{repeated[0]}'. Rename or remove one.")
    return dict(zip(unique_names(columns, expected), types, strict=True)), delimiter


def unique_names(columns: list[str], expected: tuple[str, ...]) -> list[str]:
    """The column names of a file, in order, changed so that no two are equal when case is ignored, as SQL needs.

    columns: the names in the file. expected: names that are looked for, which stay. A blank name becomes
    "column <position>", counted from 1, and another that equals an expected or earlier one "<name> (column
    <position>)"; underscores are added while the file has a column of that name.
    """
    taken, names = {FILE_COLUMN, *(column.lower() for column in expected if column in columns)}, []
    found = {column.lower() for column in [*columns, *expected]}
    for position, column in enumerate(columns, start=1):
        usable = column in expected or (column and column.lower() not in taken)
        instead = f"{column} (column {position})" if column else f"column {position}"
        while instead.lower() in found:
            instead += "_"
        names.append(column if usable else instead)
        taken.add(column.lower())
    return names


def parquet_columns(file: Path) -> tuple[list[str], list[pa.DataType]]:
    """The names and the types of the columns of a Parquet file, in file order; of a dictionary the type of its values.

    A decimal of more than 38 digits is a float64, as DuckDB reads it.

    Raises UserError for a file that cannot be read, or is not Parquet.
    """
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{file}: damaged or truncated Parquet ({first_line(error)}). Copy or export it again."
        ) from error
    types = [field.type for field in schema]
    types = [type_.value_type if pa.types.is_dictionary(type_) else type_ for type_ in types]
    return schema.names, [pa.float64() if pa.types.is_decimal256(type_) else type_ for type_ in types]


def column_kind(type_: pa.DataType) -> str:
    """How the values of an Arrow type are read: "number" (bools too), "time" (dates and timestamps), "text" or "other".

    A column without any value, of Arrow's type null, is "text".
    """
    if any(test(type_) for test in NUMERIC_TYPES):
        return "number"
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        return "time"
    return "text" if pa.types.is_null(type_) or any(test(type_) for test in TEXT_TYPES) else "other"


def csv_columns(file: Path, expected: tuple[str, ...]) -> tuple[list[str], str]:
    """The column names in the first line of a CSV file, and the file's delimiter.

    The blanks around a name are cut off; a name may be blank or occur twice.

    The delimiter is the one of `,`, `;`, tab and `|` under which most of the names `expected` are found, and of equal
    ones the one that gives the most columns.

    Raises UserError for a file that cannot be opened, is of another kind, not UTF-8 text or a damaged gzip file, or
    that has a blank first line or a last line of more than LONGEST_LINE bytes.
    """
    try:
        refuse_other_kinds(file)
        refuse_unfinished_text(file)
        with open_text(file) as lines:
            first = next(lines, "")
        readings = [([column.strip() for column in next(csv.reader([first], delimiter=d), [])], d) for d in DELIMITERS]
    except CANNOT_BE_READ_AS_TEXT as error:
        raise UserError(
            f"{file}: cannot be read as text ({first_line(error)}). Export it again as UTF-8 CSV."
        ) from error
    if not first.strip():
        raise UserError(f"{file}: empty. Remove it, or export it again.")
    return max(readings, key=lambda reading: (len(set(expected) & set(reading[0])), len(reading[0])))


def refuse_other_kinds(file: Path) -> None:
    """Check that a file that is read as text is no other kind of file, whose name ends in the wrong way.

    Raises UserError for a gzip file, an Excel workbook and the like; OSError when the file cannot be read.
    """
    with file.open("rb") as content:
        begin = content.read(4)
    if begin and is_zipped(file) != begin.startswith(b"\x1f\x8b"):
        fact = f"no gzip file. Name it {file.stem}" if is_zipped(file) else f"a gzip file. Name it {file.name}.gz"
        raise UserError(f"{file}: it is {fact}.")
    if begin == b"PAR1":
        raise UserError(f"{file}: it is a Parquet file. Name it {file.stem}.parquet.")
    if begin == b"PK\x03\x04":
        raise UserError(f"{file}: it is an Excel workbook or a zip archive. Export it as UTF-8 CSV.")


def refuse_unfinished_text(file: Path) -> None:
    """Check what DuckDB does not: the checksum of a gzip file, and that the last line is not longer than LONGEST_LINE.

    DuckDB leaves such a line out without a word, but refuses one in the middle.

    Raises UserError for such a line, and OSError, EOFError or zlib.error for a damaged gzip file.
    """
    with gzip.open(file, "rb") if is_zipped(file) else file.open("rb") as content:
        if not is_zipped(file):  # the end is enough, with room for blank lines
            content.seek(max(0, file.stat().st_size - LONGEST_LINE - READ_AT_ONCE))
        found = last_line_length(content)
    if found > LONGEST_LINE:
        raise UserError(f"{file}: its last line is longer than {LONGEST_LINE:,} bytes. Export it again.")


def last_line_length(content: IO[bytes] | gzip.GzipFile) -> int:
    """The bytes of the last line that is not blank, without its line end; 0 when there is none.

    content: an open file, read from where it is to its end, READ_AT_ONCE bytes at a time.
    """
    found = begun = 0  # begun: bytes of a line that the next block goes on with
    while block := content.read(READ_AT_ONCE):
        text = block.rstrip(b"\r\n")
        if text:
            newline = text.rfind(b"\n")
            found = begun = len(text) - newline - 1 if newline >= 0 else begun + len(text)
        begun = 0 if b"\n" in block[len(text) :] else begun + len(block) - len(text)
    return found


@contextmanager
def open_text(file: Path) -> Iterator[Iterator[str]]:
    """Context manager: open a UTF-8 text file as an iterator over its lines, unzipped when the name ends with `.gz`.

    Lines keep their line ends; a byte order mark is left out.
    """
    open_ = gzip.open if is_zipped(file) else open
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
                broken = broken_record(file, source.delimiter) if source.delimiter else ""
                return f"{file}{broken or duckdb_message(damage)}"
    return duckdb_message(error).removeprefix(": ")


def broken_record(file: Path, delimiter: str) -> str:
    """The row of a CSV file at which reading fails, and why, such as ` row 4: the line is longer than …`; "" when all
    of it can be read here.

    DuckDB's own message may name another row, or none.
    """
    begins, length = 1, 0

    def measured(lines: Iterator[str]) -> Iterator[str]:
        nonlocal length
        for line in lines:
            length = len(line)
            if length > LONGEST_LINE:
                raise csv.Error
            yield line

    with open_text(file) as lines, suppress(OSError, EOFError, UnicodeDecodeError, zlib.error):
        reader = csv.reader(measured(lines), delimiter=delimiter, strict=True)
        try:
            for _ in reader:
                begins = reader.line_num + 1
        except csv.Error as error:
            if length > LONGEST_LINE:
                return f" row {reader.line_num + 1}: the line is longer than {LONGEST_LINE:,} bytes"
            in_one_line = reader.line_num <= begins and "unexpected end" not in str(error)
            why = (
                "text follows a closing quotation mark"
                if in_one_line
                else "a quotation mark opens here and is not closed"
            )
            return f" row {begins}: {why}"
    return ""


def duckdb_message(error: duckdb.Error) -> str:
    """DuckDB's error message without its advice, to be appended to a file name.

    For an error in a line of a CSV file, such as ` row 4: expected number of columns: 3 found: 2`; otherwise `: ` and
    the first line of the message.
    """
    if "state machine" in str(error):
        return ": its lines end in more than one way, or in CR alone, or a quotation mark is not closed"
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
    found = first_record(
        connection, f'SELECT "row number" FROM ({numbered}) WHERE {test} ORDER BY 1 LIMIT 1 OFFSET {nth}'
    )
    record = found[0] if found else 0
    return line_number(file, record, source.delimiter) if source.delimiter else record


def line_number(file: Path, record: int, delimiter: str) -> int:
    """The line, counted from 1, on which a record of a CSV file begins, as an editor shows it.

    record: number of the record, counted from 1; 0 is the header. Blank lines are counted as lines but are no records,
    and a record may span several lines. When the file has fewer records, the result is record + 1. delimiter: the
    character between two fields.
    """
    with open_text(file) as lines, suppress(*CANNOT_BE_READ_AS_TEXT):
        reader = csv.reader(lines, delimiter=delimiter)
        begins, seen = 1, -1
        for row in reader:
            seen += bool(row)
            if seen == record and row:
                return begins
            begins = reader.line_num + 1
    return record + 1
