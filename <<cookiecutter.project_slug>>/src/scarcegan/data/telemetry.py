"""Telemetry: one record per user and day, checked and then read in pieces of whole users.

Every record that breaks no rule is written to one of up to 128 bucket files, chosen by a hash of its user. A bucket
holds all records of its users and fits in memory, so memory stays the same for any number of users. ready_tables.py
reads tables of features instead.
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
from scarcegan.data.days import day_rule, day_sql
from scarcegan.data.files import Source, sql_literal, sql_name
from scarcegan.data.rules import (
    DROP_ADVICE,
    LARGEST_COUNT,
    Layout,
    Problem,
    Rule,
    count_broken_rules,
    first_places,
    label_position_sql,
    number_sql,
    open_sources,
    text_sql,
    unknown_label_rule,
)
from scarcegan.data.schema import UNLABELLED
from scarcegan.data.users import user_rules, user_sql
from scarcegan.errors import UserError

BUCKETS = 128  # files open at once; macOS allows 256
SCAN_ROWS = 50_000


@dataclass(frozen=True)
class DayRange:
    """The days that are read: first and last day, both included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        """Number of days, both ends included."""
        return (self.last - self.first).days + 1

    def __str__(self) -> str:
        """The two days as text, such as `2026-01-01 to 2026-01-31`."""
        return f"{self.first} to {self.last}"


@dataclass(frozen=True)
class TelemetryScan:
    """What one scan of all telemetry records gives.

    - sources: the files, by header and class folder
    - rows: number of records, bad ones included
    - users: number of users, estimated within a few per cent; a user in several sources counts in each
    - window: the days that are read; records of other days are a problem
    - problems: mistakes that can be seen in a single record, a Problem per kind and source
    """

    sources: tuple[Source, ...]
    rows: int
    users: int
    window: DayRange
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class UserRecords:
    """All records of u users, by user and day, over t days and c counters.

    - user_id: str [u], ascending
    - counts: float32 [u, t, c], 0 on a day without a record; of several records of a day those of the largest (by the
      first counter, of equal ones by the second, …)
    - records: int [u, t], number of records; more than one is a mistake
    - label: int [u], the largest class position in the user's records, UNLABELLED for none
    - lowest: int [u], the smallest class position, UNLABELLED for none; when it differs from `label`, the user has
      two labels, a mistake
    """

    user_id: np.ndarray
    counts: np.ndarray
    records: np.ndarray
    label: np.ndarray
    lowest: np.ndarray


def open_telemetry(path: Path, layout: Layout) -> list[Source]:
    """The telemetry files of `path` (a file or folder), grouped by header and class folder: a Source per group.

    Raises UserError when there are none, when a folder beside class folders is not named after a class, or when a file
    cannot be read, lacks the user, time or a counter column, or is a CSV file that has one of them twice. The label
    column may be missing.
    """
    return open_sources(Path(path), layout, (layout.user, layout.time, *layout.counters), (layout.label,))


def record_rules(source: Source, layout: Layout) -> list[Rule]:
    """The rules for a single telemetry record, about its user, day, counters and label (of a label column only).

    A blank counter breaks a rule, as does one that is NaN, negative, no number, or larger than LARGEST_COUNT. The rules
    about the days that are read are not among them; they are `window_rules`.
    """
    found = [*user_rules(source, layout), day_rule(source, layout)]
    for counter in layout.counters:
        value, words = number_sql(source, counter), text_sql(counter)
        found += [
            Rule(counter, f"{words} IS NULL OR isnan({value})", "is empty", f"Write 0 for no activity. {DROP_ADVICE}"),
            Rule(counter, f"{words} IS NOT NULL AND {value} IS NULL", "is not a number", DROP_ADVICE),
            Rule(
                counter,
                f"abs({value}) > {LARGEST_COUNT} AND NOT isnan({value})",
                "is infinite or far too large",
                DROP_ADVICE,
            ),
            Rule(counter, f"{value} < 0", "is negative", f"Counters count from 0. {DROP_ADVICE}"),
        ]
    if source.class_name is None and layout.label in source.columns:
        found.append(unknown_label_rule(source, layout))
    return found


def window_rules(source: Source, layout: Layout, window: DayRange) -> list[Rule]:
    """Two rules: a record whose day is before `window` breaks the first, one whose day is after it the second.

    window: the days that are read.
    """
    moved = "Move the window (data.start, data.days), correct the date, or set data.bad_rows to drop."
    words = f"the window ({window}{'' if layout.start else ', the last day found'})"
    then = day_sql(source, layout)
    return [
        Rule(layout.time, f"{then} < DATE '{window.first}'", f"is before {words}", moved),
        Rule(layout.time, f"{then} > DATE '{window.last}'", f"is after {words}", moved),
    ]


def scan_telemetry(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> TelemetryScan:
    """Scan telemetry: count the records, find the days to read, and list the mistakes that a single record shows.

    Raises UserError when the files hold no record or cannot be read.
    """
    rows, users, first, last = 0, 0, date.max, date.min
    problems: list[Problem] = []
    for source in sources:
        then = day_sql(source, layout)
        extra = f"approx_count_distinct({user_sql(source, layout.user)}), min({then}), max({then})"
        own, (about, begin, end), bad = count_broken_rules(connection, source, record_rules(source, layout), extra)
        rows, users = rows + own, users + about
        first, last = min(first, begin or date.max), max(last, end or date.min)
        problems += bad
    if rows == 0:
        raise UserError(f"{sources[0].files[0].parent}: the files have a header but no rows. Export them again.")
    window = days_of_interest(first, last, layout)
    if first < window.first or last > window.last:
        for source in sources:
            problems += count_broken_rules(connection, source, window_rules(source, layout, window), "NULL")[2]
    return TelemetryScan(tuple(sources), rows, users, window, problems)


def days_of_interest(first: date, last: date, layout: Layout) -> DayRange:
    """The days to read: `layout.days` days from `layout.start` on; when that is "", so many days up to and with `last`.

    first, last: the first and last day in the data; date.max and date.min when no record has a valid day: without a
    `layout.start`, the result is then an arbitrary range in 1970.
    """
    if layout.start:
        begin = date.fromisoformat(layout.start)
        return DayRange(begin, begin + timedelta(layout.days - 1))
    last = max(last, first) if first < date.max else date(1970, 1, 1) + timedelta(layout.days)
    return DayRange(last - timedelta(layout.days - 1), last)


def write_buckets(
    connection: duckdb.DuckDBPyConnection, found: TelemetryScan, layout: Layout, scratch: Path, users: int
) -> list[Path]:
    """Write the records that break no rule to bucket files in the folder `scratch`, all records of a user to one file.

    - found: what scan_telemetry returned
    - scratch: an existing folder without bucket files
    - users: about how many users a file may hold (more when BUCKETS files do not suffice)

    Returns the paths of the files that were written, by bucket number, for read_bucket; a bucket without records has no
    file.

    Raises UserError for a data file that cannot be read, and OSError for a full disk.
    """
    count = min(max(-(-found.users // max(users, 1)), 1), BUCKETS)
    paths = [str(scratch / f"bucket-{bucket}.arrow") for bucket in range(count)]
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with ExitStack() as stack, files.naming_the_damaged_file(found.sources):
        writers: dict[int, pa.RecordBatchFileWriter] = {}
        for batch in good_records(connection, found, layout, count):
            for bucket, part in split_by_bucket(batch, count):
                if bucket not in writers:
                    writers[bucket] = stack.enter_context(pa.ipc.new_file(paths[bucket], part.schema, options=options))
                writers[bucket].write_batch(part)
    return [Path(path) for path in paths if Path(path).exists()]


def good_records(
    connection: duckdb.DuckDBPyConnection, found: TelemetryScan, layout: Layout, count: int
) -> Iterator[pa.RecordBatch]:
    """Yield the telemetry records that break no rule, in batches with the columns user, day, label, bucket, c0, c1, ….

    - user: its name
    - day: number of days after the first day of the window
    - label: class position, UNLABELLED for none
    - bucket: number of the user's bucket, 0 … count - 1
    - c<i>: value of the counter at position i in layout.counters

    found: what scan_telemetry returned; count: number of buckets. The records are in no certain order, and the
    connection no longer keeps the order of rows.

    Raises duckdb.Error, while batches are read, for a file that cannot be read.
    """
    connection.execute("SET preserve_insertion_order = false")
    for source in found.sources:
        good = [*record_rules(source, layout), *window_rules(source, layout, found.window)]
        values = [
            f"CAST({number_sql(source, counter)} AS FLOAT) AS {sql_name(f'c{i}')}"
            for i, counter in enumerate(layout.counters)
        ]
        selected = [
            f"{user_sql(source, layout.user)} AS user",
            f"CAST({day_sql(source, layout)} - DATE '{found.window.first}' AS INTEGER) AS day",
            f"{label_position_sql(source, layout)} AS label",
            f"CAST(hash({user_sql(source, layout.user)}) % {count} AS INTEGER) AS bucket",
        ]
        where = f"WHERE NOT coalesce({' OR '.join(f'({rule.test})' for rule in good)}, false)" if found.problems else ""
        query = f"SELECT {', '.join(selected + values)} FROM {source.table} {where}"
        yield from connection.sql(query).to_arrow_reader(SCAN_ROWS)


def split_by_bucket(batch: pa.RecordBatch, count: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (bucket number, the records of that bucket) for each bucket that occurs in a batch, ascending.

    count: number of buckets.
    """
    its = batch.column("bucket").to_numpy()
    order = np.argsort(its, kind="stable")
    edges = np.searchsorted(its[order], np.arange(count + 1))
    ordered = batch.take(pa.array(order))
    for bucket in np.flatnonzero(np.diff(edges)):
        yield int(bucket), ordered.slice(edges[bucket], edges[bucket + 1] - edges[bucket])


def read_bucket(bucket: Path, days: int, counters: int) -> UserRecords:
    """Read a bucket file, written by write_buckets, into UserRecords of `days` days and `counters` counters.

    Of several records of a user for one day, `counts` holds all counters of one: the one whose first counter is the
    largest, of equal ones the second, and so on. So the order of the files does not matter.
    """
    with pa.memory_map(str(bucket)) as file:
        table = pa.ipc.open_file(file).read_all()
    names, user = rank_names(table.column("user"))
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
    return UserRecords(names, counts.reshape(-1, days, counters), records.reshape(-1, days), label, lowest)


def rank_names(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct names in a column, ascending, str [u], and each record's position among them, int [n].

    column: the user name of each record [n].
    """
    encoded = column.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_numpy(zero_copy_only=False)
    order = np.argsort(names)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return names[order], rank[encoded.indices.to_numpy()]


def label_range(user: np.ndarray, label: np.ndarray, users: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest and the smallest class position of each user, int [u] each; UNLABELLED for a user without a label.

    user: int [n], position of each record's user, 0 … u - 1; label: int [n], class position of each record, or
    UNLABELLED; users: u. Records without a label count for neither, unless a user has no others.
    """
    highest = np.full(users, UNLABELLED)
    np.maximum.at(highest, user, label)
    lowest = highest.copy()
    known = label != UNLABELLED
    np.minimum.at(lowest, user[known], label[known])
    return highest, lowest


def find_conflicts(
    connection: duckdb.DuckDBPyConnection, users: UserRecords, found: TelemetryScan, layout: Layout
) -> list[Problem]:
    """Mistakes that only show when all records of a user are compared: a Problem for each kind, [] without mistakes.

    - several records of a user on one day: droppable; the message names the first user by name and that user's first
      such day, with file and row of two records; Problem.rows counts the records beyond one a day
    - two labels of a user: not droppable; the message names the first user by name and the folder of the first data
      file; Problem.rows counts the users

    users: all records of some users; found: the scan they come from.
    """
    problems = []
    repeated = np.argwhere(users.records > 1)
    if len(repeated):
        who, when = users.user_id[repeated[0, 0]], found.window.first + timedelta(int(repeated[0, 1]))

        def test(source: Source) -> str:
            return f"{user_sql(source, layout.user)} = {sql_literal(who)} AND {day_sql(source, layout)} = DATE '{when}'"

        places = " and ".join(f"{file} row {row}" for file, row in first_places(connection, found.sources, test))
        more = f" ({len(repeated):,} such user-days)" if len(repeated) > 1 else ""
        message = (
            f"{places}: two records of user '{who}' on {when}{more}. Keep one a day, or set data.bad_rows to drop."
        )
        problems.append(Problem(message, int((users.records - 1)[users.records > 1].sum()), droppable=True))
    with_two_labels = np.flatnonzero(users.label != users.lowest)
    if len(with_two_labels):
        first, second = (layout.classes[position[with_two_labels[0]]] for position in (users.lowest, users.label))
        message = (
            f"user '{users.user_id[with_two_labels[0]]}' is labelled '{first}' and '{second}'. Keep one label per user."
        )
        problems.append(Problem(f"{found.sources[0].files[0].parent}: {message}", len(with_two_labels)))
    return problems


def is_weekend(start: np.datetime64, days: int) -> np.ndarray:
    """Whether each of `days` days from `start` on is a Saturday or Sunday, bool [days]."""
    return (start.astype("datetime64[D]").astype(int) + np.arange(days) + 3) % 7 >= 5
