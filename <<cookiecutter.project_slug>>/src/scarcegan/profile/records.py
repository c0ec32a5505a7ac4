"""Records: all records of telemetry or of a ready table, good and bad, copied once into Parquet for every later count.

A file that cannot be read is left out and named. A value that cannot be read stays a value that cannot be read: nothing
here is refused or dropped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from scarcegan.data import files
from scarcegan.data.class_sizes import Shares
from scarcegan.data.coverage import DaysNeeded
from scarcegan.data.days import day_sql
from scarcegan.data.files import Source
from scarcegan.data.ready_tables import LARGEST_FLOAT32, category_sql
from scarcegan.data.rules import (
    Layout,
    class_folders,
    filled_sql,
    label_position_sql,
    number_sql,
)
from scarcegan.data.users import user_sql
from scarcegan.errors import UserError
from scarcegan.profile.check import check_data
from scarcegan.progress import Progress
from scarcegan.sql import aggregates, sql_literal, sql_name

BYTES_AT_ONCE = 64 << 20  # of data files that are copied between two lines of progress
MOSTLY = 0.5  # of a column's values must be numbers for a column of numbers, when config.yaml names none
NUMBER, CATEGORY, UNUSED = "number", "category", "not used"
USER, TIME, LABEL, COUNTER = "user", "time", "label", "counter"


@dataclass(frozen=True)
class DataSource:
    """What is profiled.

    - path: file or folder of the data; labels: file or folder of labels, None when they are in the data or there are
      none
    - layout: names and meaning of the columns, and the classes
    - telemetry: whether it is telemetry; otherwise a ready table
    - columns: feature columns of a ready table; empty: every column of numbers
    - needed, shares, drop: as in check_data
    """

    path: Path
    labels: Path | None
    layout: Layout
    telemetry: bool
    columns: Sequence[str] = ()
    needed: DaysNeeded | None = None
    shares: Shares | None = None
    drop: bool = False

    def check(self) -> tuple[list[str], dict[str, Any]]:
        """The problems and the summary that check_data gives for this data."""
        return check_data(
            self.path,
            self.labels,
            self.layout,
            "telemetry" if self.telemetry else "features",
            self.columns,
            self.needed,
            self.shares,
            self.drop,
        )


@dataclass(frozen=True)
class Records:
    """Data files copied to Parquet: a row per record, with these columns. i is a column's position in `columns`.

    - f: path of the record's file
    - u: user, d: day, l: class position or UNLABELLED; u and d are NULL where they are missing or cannot be read
    - m<i>: whether the value is missing (blank or NaN), NULL in a file without the column
    - v<i>, of counters, numbers and categories: the value, NULL where it is missing or is no number
    - t<i>, of counters and numbers: whether there is text that is no number

    Fields:

    - sources: the files that could be read; unread: a sentence for each file that could not
    - columns: names of all columns of the files, and of those that config.yaml names
    - roles: column name -> what it is used for: one of the constants above
    - parts: the Parquet files
    - daily: Parquet files of one record per user and day, as layout.aggregate says; () without it
    """

    connection: duckdb.DuckDBPyConnection
    layout: Layout
    sources: Sequence[Source]
    unread: Sequence[str]
    columns: Sequence[str]
    roles: dict[str, str]
    parts: Sequence[Path]
    daily: Sequence[Path] = field(default=())

    @property
    def table(self) -> str:
        """SQL to follow FROM: every record of the files."""
        return parquet_table(self.parts)

    @property
    def values(self) -> str:
        """SQL to follow FROM: the records that are described: those of `daily`, or all."""
        return parquet_table(self.daily or self.parts)

    def named(self, *roles: str) -> dict[str, int]:
        """{name: position} of the columns with one of these roles, in order."""
        return {name: i for i, name in enumerate(self.columns) if self.roles[name] in roles}

    def counted(self) -> dict[str, int]:
        """{name: position} of the columns of numbers that are described: counters, also those without a column of their
        own, or numbers.
        """
        return self.named(COUNTER, NUMBER)

    def rows(self, query: str) -> list[tuple]:
        """All rows that an SQL query gives."""
        return self.connection.execute(query).fetchall()

    def aggregates(self, asked: Sequence[str], table: str, key: str = "") -> list[tuple]:
        """The values of SQL aggregates over a table (see sql.aggregates)."""
        return aggregates(self.connection, asked, table, key)


def finite_sql(i: int) -> str:
    """SQL expression of the value of the column at position i, NULL when it is infinite or as large."""
    return f"CASE WHEN abs(v{i}) <= {LARGEST_FLOAT32} THEN v{i} END"


def parquet_table(parts: Sequence[Path]) -> str:
    """SQL to follow FROM: Parquet files as one table."""
    return f"read_parquet([{', '.join(sql_literal(str(part)) for part in parts)}])"


def read_records(connection: duckdb.DuckDBPyConnection, source: DataSource, scratch: Path) -> Records:
    """Copy the records of some data to Parquet files in the folder `scratch`. Progress goes to stderr.

    Feature columns of a ready table are, when none are named, those of which most values are numbers.

    Raises UserError when nothing there can be read, or there is no record; OSError when the disk is full.
    """
    path, layout, telemetry, columns = source.path, source.layout, source.telemetry, source.columns
    values = layout.counted if telemetry else (*columns, *layout.categories)
    keys = [name for name in (layout.user, layout.time, layout.label) if name]
    sources, unread = open_readable(path, layout, (*keys, *values))
    found = dict.fromkeys(name for source in sources for name in source.columns)
    names = list(found | dict.fromkeys([*([layout.user] if layout.user else []), *values]))
    if telemetry:
        names = list(dict.fromkeys([*names, layout.time, *layout.counters]))
    open_ended = not telemetry and not columns
    numbers = {name for name in (names if open_ended else values) if name not in (*keys, *layout.categories)}
    parts, damaged = copy_files(connection, sources, layout, names, numbers, scratch)
    unread += damaged.values()
    sources = [replace(source, files=tuple(file for file in source.files if file not in damaged)) for source in sources]
    sources = [source for source in sources if source.files]
    records = Records(connection, layout, sources, unread, names, dict.fromkeys(names, UNUSED), parts)
    if not parts or not records.rows(f"SELECT 1 FROM {records.table} LIMIT 1"):
        raise UserError(unread[0] if unread else f"{path}: the files have a header but no rows. Export them again.")
    if open_ended:
        numbers = mostly_numbers(records, numbers)
    roles = records.roles
    roles.update(dict.fromkeys(numbers, COUNTER if telemetry else NUMBER))
    roles.update(dict.fromkeys(layout.counters if telemetry else (), COUNTER))
    roles.update(dict.fromkeys(() if telemetry else layout.categories, CATEGORY))
    known = {layout.user: USER, layout.time: TIME, layout.label: LABEL}
    roles.update({name: role for name, role in known.items() if name in roles})
    if not layout.aggregate or not telemetry:
        return records
    daily = scratch / "daily.parquet"
    connection.execute(f"COPY ({daily_sql(records)}) TO {sql_literal(str(daily))} (FORMAT parquet)")
    return replace(records, daily=(daily,))


def open_readable(path: Path, layout: Layout, expected: Sequence[str]) -> tuple[list[Source], list[str]]:
    """The sources of the data files of `path` whose header can be read, and a sentence for each other file.

    expected: column names that are looked for, also in folder names.

    Raises UserError when there are no data files.
    """
    try:
        folders = class_folders(path, layout.classes)
    except UserError:  # `data check` tells it
        folders = []
    sources: list[Source] = []
    unread: list[str] = []
    for place in folders or [path]:
        class_name = place.name if folders else None
        found = files.find_data_files(place)

        def group(some: list[Path]) -> list[Source]:
            return files.group_by_header(some, tuple(expected), class_name, place, layout.time)  # noqa: B023

        try:
            sources += group(found)
        except UserError:
            good = []
            for file in found:
                try:
                    group([file])
                    good.append(file)
                except UserError as error:
                    unread.append(str(error))
            sources += group(good)
    return sources, unread


def copy_files(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[Source],
    layout: Layout,
    names: Sequence[str],
    numbers: set[str],
    scratch: Path,
) -> tuple[list[Path], dict[Path, str]]:
    """Copy all records of the sources to Parquet files in `scratch`; return their paths, and a sentence for each file
    that is damaged, {its path: sentence}. No record of such a file is copied.

    names: all column names; numbers: those read as numbers.

    Raises OSError when the disk is full.
    """
    parts: list[Path] = []
    damaged: dict[Path, str] = {}
    progress = Progress("profile", f"of {sum(len(source.files) for source in sources):,} files read")

    def copy(source: Source) -> None:
        part = scratch / f"records-{len(parts)}.parquet"
        query = records_sql(source, layout, names, numbers)
        connection.execute(f"COPY ({query}) TO {sql_literal(str(part))} (FORMAT parquet)")
        parts.append(part)

    for source in sources:
        for some in split_by_size(source):
            try:
                copy(some)
            except duckdb.Error:
                for file in some.files:
                    try:
                        with files.naming_the_damaged_file([some.only(file)]):
                            copy(some.only(file))
                    except UserError as error:
                        damaged[file] = str(error)
            progress.add(len(some.files))
    progress.write()
    return parts, damaged


def split_by_size(source: Source) -> Iterator[Source]:
    """Yield parts of a source, each of whole files, of about BYTES_AT_ONCE or one file."""
    some: list[Path] = []
    size = 0
    for file in source.files:
        some.append(file)
        size += file.stat().st_size
        if size >= BYTES_AT_ONCE:
            yield replace(source, files=tuple(some))
            some, size = [], 0
    if some:
        yield replace(source, files=tuple(some))


def records_sql(source: Source, layout: Layout, names: Sequence[str], numbers: set[str]) -> str:
    """SQL query that selects the records of a source, with the columns of Records."""
    user = user_sql(source, layout.user) if layout.user in source.columns else "CAST(NULL AS VARCHAR)"
    day = day_sql(source, layout) if layout.time in source.columns else "CAST(NULL AS DATE)"
    read = [f"{sql_name(files.FILE_COLUMN)} AS f", f"{user} AS u", f"{day} AS d"]
    read.append(f"{label_position_sql(source, layout)} AS l")
    selected = ["f", "u", "d", "l"]
    for i, name in enumerate(names):
        there = name in source.columns
        # Read in an inner query, because an expression that several others repeat is planned slowly.
        value = number_sql(source, name) if there else "CAST(NULL AS DOUBLE)"
        read += [f"{filled_sql(source, name) if there else 'false'} AS filled{i}", f"{value} AS number{i}"]
        missing = f"(NOT filled{i} OR coalesce(isnan(number{i}), false))"
        if name in layout.categories:
            missing = f"(NOT filled{i})"
            read.append(f"CAST({category_sql(source, name) if there else 'NULL'} AS VARCHAR) AS v{i}")
            selected.append(f"v{i}")
        elif name in numbers:
            selected.append(f"CASE WHEN NOT isnan(number{i}) THEN number{i} END AS v{i}")
            selected.append(f"(filled{i} AND number{i} IS NULL) AS t{i}")
        selected.append(f"{missing if there else 'CAST(NULL AS BOOLEAN)'} AS m{i}")
    return f"SELECT {', '.join(selected)} FROM (SELECT {', '.join(read)} FROM {source.table})"


def mostly_numbers(records: Records, candidates: set[str]) -> set[str]:
    """Those of the columns `candidates` of which at least MOSTLY of the values that are there are numbers."""
    places = [(name, i) for i, name in enumerate(records.columns) if name in candidates]
    if not places:
        return set()
    asked = [count for _, i in places for count in (f"count(v{i})", f"count(*) FILTER (t{i})")]
    _, *row = records.aggregates(asked, records.table)[0]
    return {
        name
        for (name, _), good, bad in zip(places, row[::2], row[1::2], strict=True)
        if good and good >= MOSTLY * (good + bad)
    }


def daily_sql(records: Records) -> str:
    """SQL query: one record per user and day, with the counters that layout.aggregate makes of their records."""
    how = {"sum": "sum(v{i})", "mean": "avg(v{i})", "max": "max(v{i})", "count": "count(*)"}
    values = [
        f"CAST({how[records.layout.aggregate[name]].format(i=i)} AS DOUBLE) AS v{i}"
        for name, i in records.named(COUNTER).items()
    ]
    kept = "any_value(f) AS f, u, d, max(l) AS l"
    where = "u IS NOT NULL AND d IS NOT NULL"
    return f"SELECT {', '.join([kept, *values])} FROM {records.table} WHERE {where} GROUP BY u, d"
