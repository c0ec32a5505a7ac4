"""Telemetry: a record per user and day, checked and scanned with flat memory.

A scan sends every record to a bucket by its user, on disk; a bucket then fits in memory and holds whole users. So
memory depends on the size of a bucket, not on the number of users. Ready feature tables: ready.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from scarcegan.data import files
from scarcegan.data.files import Source, literal, name
from scarcegan.data.rules import (
    DROP,
    LARGEST,
    Layout,
    Problem,
    Rule,
    class_folders,
    day,
    label_code,
    need_columns,
    number,
    tally,
    text,
    unknown_label,
)
from scarcegan.data.schema import UNLABELLED
from scarcegan.errors import UserError

BUCKETS = 128  # files open at once; macOS allows 256
SCAN_ROWS = 50_000


@dataclass(frozen=True)
class Window:
    """First and last day, both within."""

    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Survey:
    """What one pass over the records found. users is an estimate within a few per cent."""

    sources: tuple[Source, ...]
    rows: int
    users: int
    window: Window
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Users:
    """Whole users by name, dense: user_id str [u], counts float32 [u, t, c], records int [u, t] (more than one is a
    mistake), label int [u], and lowest int [u], the smallest label their records carry (another one is a mistake).
    """

    user_id: np.ndarray
    counts: np.ndarray
    records: np.ndarray
    label: np.ndarray
    lowest: np.ndarray


def open_telemetry(path: Path, layout: Layout) -> list[Source]:
    """The files of the telemetry, class folders told apart; UserError if there are none or a column is missing."""
    expected = (layout.user, layout.time, *layout.counters)
    found = class_folders(Path(path), layout.classes)
    groups = [(folder.name, files.find(folder)) for folder in found] if found else [(None, files.find(path))]
    opened = [source for class_name, inside in groups for source in files.sources(inside, expected, class_name)]
    for source in opened:
        need_columns(source, layout, expected)
    return opened


def rules(source: Source, layout: Layout) -> list[Rule]:
    """Every way in which a record can be bad, its place in time apart."""
    found = [
        Rule(layout.user, f"{text(layout.user)} IS NULL", "is empty", f"A record needs its user. {DROP}"),
        Rule(layout.time, f"{day(source, layout.time)} IS NULL", "is no date", f"Write dates as 2026-01-31. {DROP}"),
    ]
    for counter in layout.counters:
        value, words = number(source, counter), text(counter)
        found += [
            Rule(counter, f"{words} IS NULL OR isnan({value})", "is empty", f"Write 0 for no activity. {DROP}"),
            Rule(counter, f"{words} IS NOT NULL AND {value} IS NULL", "is not a number", DROP),
            Rule(counter, f"abs({value}) > {LARGEST} AND NOT isnan({value})", "is infinite or far too large", DROP),
            Rule(counter, f"{value} < 0", "is negative", f"Counters count from 0. {DROP}"),
        ]
    if source.class_name is None and layout.label in source.columns:
        found.append(unknown_label(source, layout))
    return found


def window_rules(source: Source, layout: Layout, window: Window) -> list[Rule]:
    """Records outside the days of interest."""
    moved = "Move the window (data.start, data.days), correct the date, or set data.bad_rows to drop."
    words = f"the window ({window}{'' if layout.start else ', the last day found'})"
    then = day(source, layout.time)
    return [
        Rule(layout.time, f"{then} < DATE '{window.first}'", f"is before {words}", moved),
        Rule(layout.time, f"{then} > DATE '{window.last}'", f"is after {words}", moved),
    ]


def survey(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> Survey:
    """One pass over all records: how many, which days, and every problem that a record shows by itself."""
    rows, users, first, last = 0, 0, date.max, date.min
    problems: list[Problem] = []
    for source in sources:
        then = day(source, layout.time)
        extra = f"approx_count_distinct({text(layout.user)}), min({then}), max({then})"
        own, (about, begin, end), bad = tally(connection, source, rules(source, layout), extra)
        rows, users = rows + own, users + about
        first, last = min(first, begin or date.max), max(last, end or date.min)
        problems += bad
    if rows == 0:
        raise UserError(f"{sources[0].files[0].parent}: the files hold a header and no rows. Export them again.")
    window = days_of_interest(first, last, layout)
    if first < window.first or last > window.last:
        for source in sources:
            problems += tally(connection, source, window_rules(source, layout, window), "NULL")[2]
    return Survey(tuple(sources), rows, users, window, problems)


def days_of_interest(first: date, last: date, layout: Layout) -> Window:
    """`days` days from `start` on, or the last ones found."""
    if layout.start:
        begin = date.fromisoformat(layout.start)
        return Window(begin, begin + timedelta(layout.days - 1))
    last = max(last, first) if first < date.max else date(1970, 1, 1) + timedelta(layout.days)
    return Window(last - timedelta(layout.days - 1), last)


def buckets(
    connection: duckdb.DuckDBPyConnection, found: Survey, layout: Layout, scratch: Path, users: int
) -> list[Path]:
    """Write the good records of the window to files that hold about `users` whole users each."""
    count = min(max(-(-found.users // max(users, 1)), 1), BUCKETS)
    paths = [str(scratch / f"bucket-{bucket}.arrow") for bucket in range(count)]
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with ExitStack() as stack, files.reading(found.sources):
        writers: dict[int, pa.RecordBatchFileWriter] = {}
        for batch in records(connection, found, layout, count):
            for bucket, part in by_bucket(batch, count):
                if bucket not in writers:
                    writers[bucket] = stack.enter_context(pa.ipc.new_file(paths[bucket], part.schema, options=options))
                writers[bucket].write_batch(part)
    return [Path(path) for path in paths if Path(path).exists()]


def records(
    connection: duckdb.DuckDBPyConnection, found: Survey, layout: Layout, count: int
) -> Iterator[pa.RecordBatch]:
    """Good records in pieces: user, day (0 is the window's first), label, bucket, counters."""
    connection.execute("SET preserve_insertion_order = false")
    for source in found.sources:
        good = [*rules(source, layout), *window_rules(source, layout, found.window)]
        values = [
            f"CAST({number(source, counter)} AS FLOAT) AS {name(f'c{i}')}" for i, counter in enumerate(layout.counters)
        ]
        selected = [
            f"{text(layout.user)} AS user",
            f"CAST({day(source, layout.time)} - DATE '{found.window.first}' AS INTEGER) AS day",
            f"{label_code(source, layout)} AS label",
            f"CAST(hash({text(layout.user)}) % {count} AS INTEGER) AS bucket",
        ]
        where = f"WHERE NOT coalesce({' OR '.join(f'({rule.test})' for rule in good)}, false)" if found.problems else ""
        query = f"SELECT {', '.join(selected + values)} FROM {source.table} {where}"
        yield from connection.sql(query).to_arrow_reader(SCAN_ROWS)


def by_bucket(batch: pa.RecordBatch, count: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Split a piece by its bucket column."""
    its = batch.column("bucket").to_numpy()
    order = np.argsort(its, kind="stable")
    edges = np.searchsorted(its[order], np.arange(count + 1))
    ordered = batch.take(pa.array(order))
    for bucket in np.flatnonzero(np.diff(edges)):
        yield int(bucket), ordered.slice(edges[bucket], edges[bucket + 1] - edges[bucket])


def dense(bucket: Path, days: int, counters: int) -> Users:
    """The users of a bucket. Of several records for one day the largest (by the counters in turn) is taken, so that the
    order of the files does not matter.
    """
    with pa.memory_map(str(bucket)) as file:
        table = pa.ipc.open_file(file).read_all()
    names, user = ranked(table.column("user"))
    place = user * days + table.column("day").to_numpy()
    values = np.stack([table.column(f"c{i}").to_numpy() for i in range(counters)], axis=1)
    records = np.bincount(place, minlength=len(names) * days)
    if records.max() > 1:
        largest_last = np.lexsort(values.T[::-1])  # of writes to one place the last one stays
        place, values, user = place[largest_last], values[largest_last], user[largest_last]
        table = table.take(pa.array(largest_last))
    counts = np.zeros((len(names) * days, counters), np.float32)
    counts[place] = values
    label, lowest = label_range(user, table.column("label").to_numpy(), len(names))
    return Users(names, counts.reshape(-1, days, counters), records.reshape(-1, days), label, lowest)


def ranked(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct names in order [u], and the position of every record's name among them [n]."""
    encoded = column.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_numpy(zero_copy_only=False)
    order = np.argsort(names)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return names[order], rank[encoded.indices.to_numpy()]


def label_range(user: np.ndarray, label: np.ndarray, users: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest and smallest label each user's records carry, UNLABELLED where none does: int [u] each."""
    highest = np.full(users, UNLABELLED)
    np.maximum.at(highest, user, label)
    lowest = highest.copy()
    known = label != UNLABELLED
    np.minimum.at(lowest, user[known], label[known])
    return highest, lowest


def mistakes(connection: duckdb.DuckDBPyConnection, users: Users, found: Survey, layout: Layout) -> list[Problem]:
    """What only shows when a user's records lie side by side: two for one day, or two labels."""
    problems = []
    repeated = np.argwhere(users.records > 1)
    if len(repeated):
        who, when = users.user_id[repeated[0, 0]], found.window.first + timedelta(int(repeated[0, 1]))
        places = " and ".join(f"{file} row {row}" for file, row in places_of(connection, found, layout, who, when))
        more = f" ({len(repeated):,} such user-days)" if len(repeated) > 1 else ""
        message = (
            f"{places}: two records of user '{who}' on {when}{more}. Keep one a day, or set data.bad_rows to drop."
        )
        problems.append(Problem(message, int((users.records - 1)[users.records > 1].sum()), droppable=True))
    torn = np.flatnonzero(users.label != users.lowest)
    if len(torn):
        first, second = (layout.classes[code[torn[0]]] for code in (users.lowest, users.label))
        message = f"user '{users.user_id[torn[0]]}' is labelled '{first}' and '{second}'. Keep one label per user."
        problems.append(Problem(f"{found.sources[0].files[0].parent}: {message}", len(torn)))
    return problems


def places_of(
    connection: duckdb.DuckDBPyConnection, found: Survey, layout: Layout, who: str, when: date
) -> list[tuple[Path, int]]:
    """File and row of the first two records of a user's day."""
    places: list[tuple[Path, int]] = []
    for source in found.sources:
        test = f"{text(layout.user)} = {literal(who)} AND {day(source, layout.time)} = DATE '{when}'"
        query = f"SELECT {name(files.FILE)}, count(*) FROM {source.table} WHERE {test} GROUP BY 1 ORDER BY 1 LIMIT 2"
        for file, count in connection.execute(query).fetchall():
            path = Path(file)
            places += [(path, files.row_of(connection, source, path, test, nth)) for nth in range(min(count, 2))]
    return places[:2]


def is_weekend(start: np.datetime64, days: int) -> np.ndarray:
    """Saturday or Sunday, bool [days]. Day 0 of the calendar, 1970-01-01, was a Thursday."""
    return (start.astype("datetime64[D]").astype(int) + np.arange(days) + 3) % 7 >= 5
