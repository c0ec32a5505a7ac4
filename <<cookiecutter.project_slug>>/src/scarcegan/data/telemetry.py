"""Telemetry: one record per user and day, checked and then read in pieces of whole users.

Every record that breaks no rule is written to one of up to 128 bucket files, chosen by a hash of its user. A bucket
holds all records of its users and fits in memory, so memory stays the same for any number of users. ready_tables.py
reads tables of features instead.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from scarcegan.data import files
from scarcegan.data.days import day_rule, day_sql
from scarcegan.data.files import Source
from scarcegan.data.rules import (
    LARGEST_COUNT,
    ONE_LABEL,
    Layout,
    Problem,
    Rule,
    count_broken_rules,
    filled_sql,
    first_places,
    label_position_sql,
    no_number_sql,
    number_sql,
    open_sources,
    unknown_label_rule,
)
from scarcegan.data.schema import UNLABELLED
from scarcegan.data.users import user_rules, user_sql
from scarcegan.errors import UserError
from scarcegan.sql import first_record, sql_literal, sql_name

BUCKETS = 128  # files open at once; macOS allows 256
BUCKET_RECORDS = 4_000_000  # more only when BUCKETS files do not suffice
SCAN_ROWS = 50_000
PAUSE = 7  # days without a record; after fewer, no date looks wrong
# The last dates look wrong when the window before the pause holds this many records for each record after it: the
# first number for a pause as long as data.days or longer, the second for a shorter pause.
FEW_AFTER_ALL, FEW_AFTER_SOME = 10, 100


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
    - window: the days that are read; records of other days are left out
    - problems: mistakes that can be seen in a single record, a Problem per kind and source
    - dated: whether any record has a day; without one, the window is arbitrary
    - before, after: numbers of records before and after the window
    - latest: where a record of the last day is, and that day, when it is after the window
    - unlabelled_files: how many files have no label column, when others have one
    """

    sources: tuple[Source, ...]
    rows: int
    users: int
    window: DayRange
    problems: list[Problem] = field(default_factory=list)
    before: int = 0
    after: int = 0
    latest: str = ""
    unlabelled_files: int = 0
    dated: bool = True


@dataclass(frozen=True)
class UserRecords:
    """All records of u users, by user and day, over t days and c counters.

    - user_id: str [u], ascending
    - counts: float32 [u, t, c], 0 on a day without a record; of several records of a day what layout.aggregate says,
      without it those of the largest (by the first counter, of equal ones by the second, …)
    - records: int [u, t], number of records; without layout.aggregate, more than one is a mistake
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
    cannot be read, lacks the user, time or a counter column, or has one of them twice. The label column may be missing
    unless layout.labels_in asks for it.
    """
    return open_sources(Path(path), layout, (layout.user, layout.time, *layout.counted), (layout.label,))


def record_rules(source: Source, layout: Layout) -> list[Rule]:
    """The rules for a single telemetry record, about its user, day, counters and label (of a label column only).

    A blank counter breaks a rule, as does one that is NaN, negative (but for layout.signed), no number, or larger than
    LARGEST_COUNT.
    """
    found = [*user_rules(source, layout), day_rule(source, layout)]
    for counter in layout.counted:
        value = number_sql(source, counter)
        empty = f"CASE WHEN {value} IS NULL THEN NOT {filled_sql(source, counter)} ELSE isnan({value}) END"
        far = f"abs({value}) > {LARGEST_COUNT} AND NOT isnan({value})"
        found += [
            Rule(counter, empty, "is empty", "Write 0 for no activity."),
            Rule(counter, no_number_sql(source, counter), "is not a number", "Numbers are written as 1234.5."),
            Rule(counter, far, "is infinite or far too large"),
        ]
        if counter not in layout.signed:
            advice = "Counters count from 0; list those that may be negative under data.signed_counters."
            found.append(Rule(counter, f"{value} < 0 AND {value} >= -{LARGEST_COUNT}", "is negative", advice))
    if source.class_name is None and layout.label in source.columns:
        found.append(unknown_label_rule(source, layout))
    return found


def scan_telemetry(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> TelemetryScan:
    """Scan telemetry: count the records, find the days to read, and list the mistakes that a single record shows.

    Raises UserError when the files hold no record, none in the days to read, or cannot be read.
    """
    users, per_day = 0, Counter[date]()
    rows, extras, problems = count_broken_rules(
        connection,
        sources,
        lambda source: record_rules(source, layout),
        lambda source: (
            f"approx_count_distinct({user_sql(source, layout.user)})",
            f"histogram({day_sql(source, layout)})",
        ),
    )
    for about, counts in extras:
        users += about
        per_day.update(counts or {})
    if rows == 0:
        raise UserError(f"{sources[0].files[0].parent}: the files have a header but no rows. Export them again.")
    if problems:  # a bad record must not decide which days are read, unless there are no others
        per_day = good_per_day(connection, sources, layout) or per_day
    first, last = (min(per_day), max(per_day)) if per_day else (None, None)
    usual, strays = wrong_last_days(connection, sources, layout, per_day)
    window = days_of_interest(usual or last, layout)
    if first and last and (last < window.first or first > window.last):
        raise UserError(
            f"{sources[0].root}: no record in the days that are read ({window}); the records are from {first} to "
            f"{last}. Correct data.start or data.days; for one command, --set data.start= reads the last days."
        )
    problems += strays
    before = sum(count for day, count in per_day.items() if day < window.first)
    after = sum(count for day, count in per_day.items() if day > window.last)
    latest = f"{last}: {place_of_day(connection, sources, layout, last)}" if last and after else ""
    lacking = [len(one.files) for one in sources if one.class_name is None and layout.label not in one.columns]
    unlabelled = sum(lacking) if len(lacking) < len(sources) else 0
    return TelemetryScan(
        tuple(sources), rows, users, window, problems, before, after, latest, unlabelled, bool(per_day)
    )


def good_per_day(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> Counter[date]:
    """How many records that break no rule each day has.

    Raises UserError for a file that cannot be read.
    """
    per_day = Counter[date]()
    for source in sources:
        broken = " OR ".join(f"({rule.test})" for rule in record_rules(source, layout))
        query = f"SELECT histogram({day_sql(source, layout)}) FROM {source.table} WHERE NOT coalesce({broken}, false)"
        with files.naming_the_damaged_file([source]):
            per_day.update(first_record(connection, query)[0] or {})
    return per_day


def wrong_last_days(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout, per_day: Mapping[date, int]
) -> tuple[date | None, list[Problem]]:
    """The last day before those that are most likely mistakes, and a list with a droppable problem; (None, []) when no
    day looks wrong.

    Without layout.start the last days are read, so one wrong date moves all of them. per_day: the records of each day.

    Raises UserError for a file that cannot be read.
    """
    known = sorted(per_day)
    late = 0 if layout.start else first_stray(known, per_day, layout)
    if not late:
        return None, []
    count, last, usual = sum(per_day[day] for day in known[late:]), known[-1], known[late - 1]
    place = place_of_day(connection, sources, layout, last)
    fact = (
        f"{place}, column '{layout.time}': {last} is {(last - usual).days:,} days after {usual}, and {count:,} of the "
        f"{sum(per_day.values()):,} records {'is' if count == 1 else 'are'} so late"
    )
    advice = "The last day decides which days are read. Correct it, or set data.bad_rows to drop."
    return usual, [Problem(fact, advice, count, droppable=True)]


def first_stray(known: Sequence[date], per_day: Mapping[date, int], layout: Layout) -> int:
    """The position in `known`, the days with a record, from which on the days are most likely mistakes; 0 for none.

    They are so when a PAUSE lies before them, and so few records are after it that they cannot be what goes on.
    """
    total, late = sum(per_day.values()), 0
    for i in range(len(known) - 1, 0, -1):
        late += per_day[known[i]]
        if late * FEW_AFTER_ALL > total:
            break
        empty = (known[i] - known[i - 1]).days - 1
        if empty < PAUSE:
            continue
        window = days_of_interest(known[i - 1], layout)
        before = sum(count for day, count in per_day.items() if window.first <= day <= window.last)
        if late * (FEW_AFTER_ALL if empty >= layout.days else FEW_AFTER_SOME) <= before:
            return i
    return 0


def place_of_day(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout, day: date) -> str:
    """File and row, as text, of the first record of a day that some record has.

    Raises UserError for a file that cannot be read.
    """
    with files.naming_the_damaged_file(sources):
        places = first_places(connection, sources, lambda source: f"{day_sql(source, layout)} = DATE '{day}'")
    return f"{places[0][0]} row {places[0][1]}"


def count_users(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> int:
    """The number of users in all files, exactly; also those whose records are bad, or of days that are not read.

    Raises UserError for a file that cannot be read.
    """
    ids = " UNION ALL ".join(f"SELECT {user_sql(source, layout.user)} AS u FROM {source.table}" for source in sources)
    with files.naming_the_damaged_file(sources):
        return int(first_record(connection, f"SELECT count(DISTINCT u) FROM ({ids})")[0])


def days_of_interest(last: date | None, layout: Layout) -> DayRange:
    """The days to read: `layout.days` days from `layout.start` on; when that is "", so many days up to and with `last`.

    last: the last day in the data; None when no record has a valid day: without a `layout.start`, the result is then an
    arbitrary range in 1970.
    """
    if layout.start:
        begin = date.fromisoformat(layout.start)
        return DayRange(begin, begin + timedelta(layout.days - 1))
    last = last or date(1970, 1, 1) + timedelta(layout.days)
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
    count = min(max(-(-found.users // max(users, 1)), -(-found.rows // BUCKET_RECORDS), 1), BUCKETS)
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
        kind = "DOUBLE" if layout.aggregate else "FLOAT"  # sums are rounded once
        values = [
            f"CAST({number_sql(source, name) if name in layout.counted else 1} AS {kind}) AS {sql_name(f'c{i}')}"
            for i, name in enumerate(layout.counters)
        ]
        selected = [
            f"{user_sql(source, layout.user)} AS user",
            f"CAST({day_sql(source, layout)} - DATE '{found.window.first}' AS INTEGER) AS day",
            f"{label_position_sql(source, layout)} AS label",
            f"CAST(hash({user_sql(source, layout.user)}) % {count} AS INTEGER) AS bucket",
        ]
        where = f"WHERE NOT {left_out_sql(source, found, layout)}"
        query = f"SELECT {', '.join(selected + values)} FROM {source.table} {where}"
        yield from connection.sql(query).to_arrow_reader(SCAN_ROWS)


def left_out_sql(source: Source, found: TelemetryScan, layout: Layout) -> str:
    """SQL condition: a record breaks a rule, or is of a day that is not read. found: what scan_telemetry returned."""
    tests = [f"({rule.test})" for rule in record_rules(source, layout)] if found.problems else []
    if found.before or found.after:
        inside = f"BETWEEN DATE '{found.window.first}' AND DATE '{found.window.last}'"
        tests.append(f"NOT {day_sql(source, layout)} {inside}")
    return f"coalesce({' OR '.join(tests)}, false)" if tests else "false"


def labels_left_out(
    connection: duckdb.DuckDBPyConnection, found: TelemetryScan, layout: Layout
) -> dict[str, tuple[int, int]]:
    """User -> (lowest class position, highest) of the labels on records that good_records leaves out.

    found: what scan_telemetry returned.

    Raises UserError for a file that cannot be read.
    """
    labels: dict[str, tuple[int, int]] = {}
    for source in found.sources if found.problems or found.before or found.after else ():
        if source.class_name is None and layout.label not in source.columns:
            continue
        user, label = user_sql(source, layout.user), label_position_sql(source, layout)
        query = f"SELECT {user} AS u, {label} AS l FROM {source.table} WHERE {left_out_sql(source, found, layout)}"
        with files.naming_the_damaged_file([source]):
            rows = connection.execute(
                f"SELECT u, min(l), max(l) FROM ({query}) WHERE u IS NOT NULL AND l <> {UNLABELLED} GROUP BY u"
            ).fetchall()
        for one, low, high in rows:
            known = labels.get(one, (low, high))
            labels[one] = min(low, known[0]), max(high, known[1])
    return labels


def with_labels(users: UserRecords, labels: Mapping[str, tuple[int, int]]) -> UserRecords:
    """The users with further labels. labels: what labels_left_out returned; it may name other users, too."""
    label, lowest = users.label.copy(), users.lowest.copy()
    for place, user in enumerate(users.user_id.tolist()) if labels else ():
        if user in labels:
            low, high = labels[user]
            label[place] = max(label[place], high)
            lowest[place] = low if lowest[place] == UNLABELLED else min(lowest[place], low)
    return replace(users, label=label, lowest=lowest)


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


def read_bucket(bucket: Path, days: int, counters: int, aggregate: Sequence[str] = ()) -> UserRecords:
    """Read a bucket file, written by write_buckets, into UserRecords of `days` days and `counters` counters.

    - aggregate: "sum", "mean", "max" or "count" for each counter: how a user's records of a day become one value. ():
      of several records `counts` holds all counters of one: the one whose first counter is the largest, of equal ones
      the second, and so on. So the order of the files does not matter.
    """
    with pa.memory_map(str(bucket)) as file:
        table = pa.ipc.open_file(file).read_all()
    names, user = rank_names(table.column("user"))
    place = user * days + table.column("day").to_numpy()
    values = np.stack([table.column(f"c{i}").to_numpy() for i in range(counters)], axis=1)
    records = np.bincount(place, minlength=len(names) * days)
    label, lowest = label_range(user, table.column("label").to_numpy(), len(names))
    counts = np.zeros((len(names) * days, counters), np.float32)
    if aggregate:
        for i, how in enumerate(aggregate):
            counts[:, i] = one_per_place(place, values[:, i], records, how)
    else:
        largest_last = np.lexsort(values.T[::-1]) if records.max() > 1 else slice(None)
        counts[place[largest_last]] = values[largest_last]  # of writes to one place the last one stays
    return UserRecords(names, counts.reshape(-1, days, counters), records.reshape(-1, days), label, lowest)


def one_per_place(place: np.ndarray, values: np.ndarray, records: np.ndarray, how: str) -> np.ndarray:
    """One value per place from all values of a place: float [m], 0 for a place without values.

    place: int [n], 0 … m - 1; values: float [n]; records: int [m], the number of values of each place; how: "sum",
    "mean", "max" or "count".
    """
    if how == "count":
        return records.astype(float)
    if how == "max":
        largest = np.full(len(records), -np.inf)
        np.maximum.at(largest, place, values)
        return np.where(records > 0, largest, 0.0)
    total = np.bincount(place, weights=values, minlength=len(records))
    return total / np.maximum(records, 1) if how == "mean" else total


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

    - without layout.aggregate, several records of a user on one day: droppable; the fact names the first user by
      name and that user's first such day, with file and row of two records; Problem.rows counts the records beyond one
      a day
    - two labels of a user: not droppable; the fact names the first user by name and the folder of the first data
      file; Problem.rows counts the users

    users: all records of some users; found: the scan they come from.
    """
    problems = []
    repeated = np.argwhere(users.records > 1)
    if len(repeated) and not layout.aggregate:
        who, when = users.user_id[repeated[0, 0]], found.window.first + timedelta(int(repeated[0, 1]))

        def test(source: Source) -> str:
            return f"{user_sql(source, layout.user)} = {sql_literal(who)} AND {day_sql(source, layout)} = DATE '{when}'"

        places = " and ".join(f"{file} row {row}" for file, row in first_places(connection, found.sources, test))
        more = f" ({len(repeated):,} such user-days)" if len(repeated) > 1 else ""
        # As read_bucket does; of equal ones it goes on with the next counter.
        kept = f"dropping keeps the one with the largest '{layout.counters[0]}'"
        fact = f"{places}: two records of user '{who}' on {when}{more}; {kept}"
        ways = "Keep one a day, say under data.aggregate how the records of a day become one, or"
        beyond = int((users.records - 1)[users.records > 1].sum())
        problems.append(Problem(fact, f"{ways} set data.bad_rows to drop.", beyond, droppable=True))
    with_two_labels = np.flatnonzero(users.label != users.lowest)
    if len(with_two_labels):
        first, second = (layout.classes[position[with_two_labels[0]]] for position in (users.lowest, users.label))
        who = users.user_id[with_two_labels[0]]
        fact = f"{found.sources[0].files[0].parent}: user '{who}' is labelled '{first}' and '{second}'"
        problems.append(Problem(fact, ONE_LABEL, len(with_two_labels)))
    return problems


def is_weekend(start: np.datetime64, days: int) -> np.ndarray:
    """Whether each of `days` days from `start` on is a Saturday or Sunday, bool [days]."""
    return (start.astype("datetime64[D]").astype(int) + np.arange(days) + 3) % 7 >= 5
