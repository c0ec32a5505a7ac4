"""Profile: everything that the page of `scarcegan data profile` shows, computed from files that may be bad."""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scarcegan.data import files
from scarcegan.data.labels import UserLabels, open_labels, read_labels
from scarcegan.data.reading import left_out_notes
from scarcegan.data.schema import UNLABELLED, UNLABELLED_NAME
from scarcegan.data.telemetry import DayRange, days_of_interest
from scarcegan.errors import UserError
from scarcegan.monitoring.drift import DriftDistance
from scarcegan.profile.columns import ColumnFacts, EmptyFile, column_facts
from scarcegan.profile.comparison import Buckets, Part, buckets_of, count_parts
from scarcegan.profile.population import Days, Population, count_days, describe_population, write_users
from scarcegan.profile.records import DataSource, Records, read_records

UNFINISHED = "The check stopped at a file that cannot be read. Other problems may show when it is mended."


@dataclass(frozen=True)
class FileGroup:
    """Files with the same columns and types: how many, the first of them, their records, and their form."""

    files: int
    first: str
    records: int
    form: str


@dataclass(frozen=True)
class Against:
    """Other data, such as that which is scored, compared with the profiled data.

    - path: of the other data; problems: its problems
    - buckets: what both were counted by; before, now: the profiled data and the other
    - distances: per compared column
    - shared_users: how many users are in both
    - days: the days of the other data, "" without days
    """

    path: Path
    problems: Sequence[str]
    buckets: Buckets
    before: Part
    now: Part
    distances: Sequence[DriftDistance]
    shared_users: int
    days: str


@dataclass(frozen=True)
class Profile:
    """All facts of a profile.

    - problems, notes: what check_data says of the data, and each file that cannot be read
    - window: the days of telemetry that a training reads; None for a ready table, or without days
    - groups: the files by their columns and types
    - columns, emptier: the columns of the files, and files with many missing values
    - days, population: days, users and labels
    - buckets, months: what months were counted by, and a Part for each; () when records have no day
    - against: the comparison with other data, None without
    """

    source: DataSource
    problems: Sequence[str]
    notes: Sequence[str]
    window: DayRange | None
    groups: Sequence[FileGroup]
    columns: Sequence[ColumnFacts]
    emptier: Sequence[EmptyFile]
    days: Days
    population: Population
    buckets: Buckets
    months: Sequence[Part]
    against: Against | None = None

    def as_json(self) -> dict[str, Any]:
        """The main figures, as JSON can hold them:

        - problems, notes: as check_data gives them; records, users: how many
        - first_day, last_day: as 2026-01-31, None without days
        - labels: {class name or "unlabelled": users, or records of data without users}
        - columns: a dictionary per column: name, role, types ({type: files}), values, missing, text (that is no number)
          and, of a column of numbers, mean, minimum, maximum, zero, negative, infinite and outliers (their number)
        - outliers: a dictionary per named outlier: the fields of Outlier
        - distances: {column: its distance from the other data}; {} without other data
        """
        names = {**dict(enumerate(self.source.layout.classes)), UNLABELLED: UNLABELLED_NAME}
        first, last = (str(self.days.day[i]) if len(self.days.day) else None for i in (0, -1))
        return {
            "problems": list(self.problems),
            "notes": list(self.notes),
            "records": self.population.records,
            "users": self.population.users,
            "first_day": first,
            "last_day": last,
            "labels": {name: self.population.per_class.get(position, 0) for position, name in names.items()},
            "columns": [column.as_json() for column in self.columns],
            "outliers": [
                asdict(outlier)
                for column in self.columns
                for outlier in (column.numbers.farthest if column.numbers else ())
            ],
            "distances": {
                name: round(found.robust, 4)
                for name, found in zip(self.buckets.names, self.against.distances if self.against else (), strict=False)
            },
        }


def make_profile(source: DataSource, against: Path | None = None) -> Profile:
    """Describe data, good or bad, and, if `against` is given, compare it with the data at that path.

    Progress goes to stderr; temporary files are deleted again.

    Raises UserError when nothing can be read at all; OSError when the disk is full.
    """
    problems, summary = checked(source)
    layout = source.layout
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(files.connect_duckdb(Path(scratch), layout.time_zone)) as connection,
    ):
        own = Path(scratch, "own")
        own.mkdir()
        records = read_records(connection, source, own)
        labels, faults = known_labels(records, source)
        problems = list(dict.fromkeys([*records.unread, *problems, *faults]))
        notes = list(summary.get("notes") or left_out_notes(source.path))
        if "missing_days" in summary:
            notes.insert(0, f"Days without a record, from a user's first record on: {summary['missing_days']}.")
        if "columns_left_out" in summary:
            notes.append(f"Columns that are not used: {summary['columns_left_out']}")
        if records.unread:
            notes.append(UNFINISHED)
        print("profile: counting", file=sys.stderr)
        users = write_users(records, labels, own / "users.parquet")
        days = count_days(records, users)
        dated = len(days.day) > 1
        columns, emptier, per_file = column_facts(records, dated and bool(layout.user))
        population = describe_population(records, users)
        buckets = buckets_of(records)
        months = count_parts(records, buckets, monthly=True) if len(days.day) else []
        window = None
        if source.telemetry and len(days.day):
            window = days_of_interest(days.day[-1].item(), layout)
        groups = file_groups(records, per_file)
        found = compare(records, source, buckets, users, against, Path(scratch)) if against else None
    return Profile(source, problems, notes, window, groups, columns, emptier, days, population, buckets, months, found)


def checked(source: DataSource) -> tuple[list[str], dict[str, Any]]:
    """The problems and the summary that check_data gives for a source."""
    print(f"profile: checking {source.path}", file=sys.stderr)
    return source.check()


def known_labels(records: Records, source: DataSource) -> tuple[UserLabels, list[str]]:
    """The labels of the source's labels file and their problems; ({}, []) without one."""
    path = source.labels
    if path is None or not source.layout.user or (path.is_dir() and not any(path.iterdir())):
        return {}, []
    try:
        labels, problems = read_labels(records.connection, open_labels(path, source.layout), path, source.layout)
    except UserError as error:
        return {}, [str(error)]
    return labels, [problem.message for problem in problems if not (source.drop and problem.droppable)]


def file_groups(records: Records, per_file: dict[str, int]) -> list[FileGroup]:
    """The sources of the records as FileGroups. per_file: {file: number of records}."""
    found = []
    for source in records.sources:
        form = f"CSV, fields separated by {source.delimiter!r}" if source.delimiter else "Parquet"
        form += f", class folder {source.class_name}" if source.class_name else ""
        count = sum(per_file.get(str(file), 0) for file in source.files)
        found.append(FileGroup(len(source.files), str(source.files[0]), count, form))
    return found


def compare(records: Records, source: DataSource, buckets: Buckets, users: str, path: Path, scratch: Path) -> Against:
    """Compare the records of a source with the data at `path`. users: the records' users, from write_users.

    Raises UserError when nothing at `path` can be read; OSError when the disk is full.
    """
    other = scratch / "other"
    other.mkdir()
    layout = replace(source.layout, labels_in="", start="" if source.telemetry else source.layout.start)
    columns = source.columns if source.telemetry else buckets.numbers
    their = replace(source, path=path, labels=None, layout=layout, columns=columns, needed=None, shares=None)
    problems, _ = checked(their)
    later = read_records(records.connection, their, other)
    people = write_users(later, {}, other / "users.parquet")
    before, now = (count_parts(one, buckets, monthly=False)[0] for one in (records, later))
    shared = records.rows(f"SELECT count(*) FROM {users} SEMI JOIN {people} USING (u)")[0][0]
    first, last = records.rows(f"SELECT min(d), max(d) FROM {later.table}")[0]
    return Against(
        path,
        list(dict.fromkeys([*later.unread, *problems])),
        buckets,
        before,
        now,
        before.distance(now),
        shared,
        f"{first} to {last}" if first else "",
    )
