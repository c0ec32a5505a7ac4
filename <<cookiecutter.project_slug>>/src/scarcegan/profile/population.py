"""Population: records and users per day, how long users are seen, and the labels by class and day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from scarcegan.data.labels import UserLabels
from scarcegan.data.schema import UNLABELLED
from scarcegan.profile.records import Records, finite_sql, parquet_table
from scarcegan.sql import sql_literal


@dataclass(frozen=True)
class Days:
    """The days that records have.

    - undated: records without a day that can be read
    - day: datetime64[D] [t], each day with a record, ascending
    - records, users: int [t], how many there are on that day
    - first_seen: int [t], users whose first record is on that day
    """

    undated: int
    day: np.ndarray
    records: np.ndarray
    users: np.ndarray
    first_seen: np.ndarray


@dataclass(frozen=True)
class Population:
    """The users of the records.

    - records: how many there are; users: how many have a name, 0 without a user column; nameless: records without user
    - days_per_user: {days with a record: users}; {} without days
    - per_class: class position (or UNLABELLED) -> users, of a table without users rows
    - class_days: class position -> (days [m], users of the class with a record on each of them)
    - class_means: class position -> {column of numbers: mean over the records of the class}
    """

    records: int
    users: int
    nameless: int
    days_per_user: Mapping[int, int]
    per_class: Mapping[int, int]
    class_days: Mapping[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    class_means: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


def write_users(records: Records, labels: UserLabels, path: Path) -> str:
    """Write a Parquet file with a row per user: u, l (class position), first day, days (with a record).

    labels: class positions of users, which count before those in the records. Returns the SQL to follow FROM.
    """
    known = pa.table({"known": pa.array(labels, pa.string()), "position": pa.array(labels.values(), pa.int8())})
    records.connection.register("known", known)
    query = (
        "SELECT u, coalesce(any_value(position), max(l)) AS l, min(d) AS first, count(DISTINCT d) AS days "
        f"FROM {records.table} LEFT JOIN known ON u = known WHERE u IS NOT NULL GROUP BY u"
    )
    records.connection.execute(f"COPY ({query}) TO {sql_literal(str(path))} (FORMAT parquet)")
    return parquet_table([path])


def count_days(records: Records, users: str) -> Days:
    """Count records and users per day. users: what write_users returned."""
    found = records.rows(f"SELECT d, count(*), count(DISTINCT u) FROM {records.table} GROUP BY d ORDER BY d")
    dated = [row for row in found if row[0]]
    first = dict(records.rows(f"SELECT first, count(*) FROM {users} WHERE first IS NOT NULL GROUP BY first"))
    day, counts, people = zip(*dated, strict=True) if dated else ((), (), ())
    return Days(
        sum(row[1] for row in found if not row[0]),
        np.array(day, "datetime64[D]"),
        np.array(counts, np.int64),
        np.array(people, np.int64),
        np.array([first.get(one, 0) for one in day], np.int64),
    )


def describe_population(records: Records, users: str) -> Population:
    """Count users and labels. users: what write_users returned."""
    total, nameless = records.rows(f"SELECT count(*), count(*) FILTER (u IS NULL) FROM {records.table}")[0]
    named = bool(records.layout.user)
    people = records.rows(f"SELECT count(*) FROM {users}")[0][0]
    source = users if named else records.table
    per_class = dict(records.rows(f"SELECT l, count(*) FROM {source} GROUP BY l ORDER BY l"))
    dated = records.rows(f"SELECT days, count(*) FROM {users} WHERE days > 0 GROUP BY days ORDER BY days")
    labelled = (
        f"(SELECT r.*, coalesce(users.l, r.l) AS class FROM {records.values} r LEFT JOIN {users} users USING (u))"
    )
    by_day: dict[int, list[tuple[date, int]]] = {}
    for position, day, count in records.rows(
        f"SELECT class, d, {'count(DISTINCT u)' if named else 'count(*)'} FROM {labelled} "
        f"WHERE d IS NOT NULL AND class <> {UNLABELLED} GROUP BY class, d ORDER BY class, d"
    ):
        by_day.setdefault(position, []).append((day, count))
    return Population(
        total,
        people,
        nameless if named else 0,
        dict(dated),
        per_class,
        {position: as_arrays(rows) for position, rows in by_day.items()},
        class_means(records, labelled),
    )


def as_arrays(rows: Sequence[tuple[date, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(day, count) pairs as an array of days and one of counts."""
    return np.array([day for day, _ in rows], "datetime64[D]"), np.array([count for _, count in rows], np.int64)


def class_means(records: Records, labelled: str) -> dict[int, dict[str, float]]:
    """{class position: {column of numbers: mean over the records of its users}}; NaN without a value.

    labelled: SQL of the records with a column `class`.
    """
    counted = records.counted()
    if not counted:
        return {}
    found = records.aggregates([f"avg({finite_sql(i)})" for i in counted.values()], labelled, "class")
    return {
        position: {name: float("nan") if mean is None else mean for name, mean in zip(counted, rest, strict=True)}
        for position, *rest in found
    }
