"""Reading: the users of telemetry or the rows of a ready table, checked, with their labels. `data check` and the
features step read through the same functions, so that the one refuses what the other would.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from scarcegan.data import ready_tables, telemetry
from scarcegan.data.coverage import Coverage, DaysNeeded
from scarcegan.data.days import time_zone_notes
from scarcegan.data.files import Source, files_left_out
from scarcegan.data.labels import UserLabels, labels_of, labels_without_rows, open_labels, read_labels
from scarcegan.data.rules import Layout, Problem, class_folders, similar_names
from scarcegan.data.schema import FeatureTable
from scarcegan.data.users import users_spelled_twice
from scarcegan.errors import UserError


@dataclass
class Reading:
    """What is to be read, and, once it has been read, what was found.

    - connection: from connect_duckdb, with the layout's time zone
    - path: file or folder of the data; labels: file or folder of labels, None when they are in the data or not needed
    - layout: the names and the meaning of the columns, and the classes
    - report: is called with problems as they are found; it may raise UserError
    - needed: the days that feature rows of telemetry need; None when no rows are computed

    - sources: the files; rows: how many there are, bad rows included
    - columns: the feature columns of a ready table; unused: columns of its files that nothing reads
    - notes: sentences about what is left out or should be looked at, which is no reason to stop
    - scan, coverage: of telemetry
    """

    connection: duckdb.DuckDBPyConnection
    path: Path
    labels: Path | None
    layout: Layout
    report: Callable[[Sequence[Problem]], None]
    needed: DaysNeeded | None = None
    sources: Sequence[Source] = ()
    rows: int = 0
    columns: tuple[str, ...] = ()
    unused: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    scan: telemetry.TelemetryScan | None = None
    coverage: Coverage | None = None

    @property
    def files(self) -> int:
        """How many files are read."""
        return sum(len(source.files) for source in self.sources)

    def users(self, scratch: Path, batch_users: int) -> Iterator[telemetry.UserRecords]:
        """Yield all users of telemetry, about `batch_users` at a time.

        Their labels are those of the labels file, if there is one. scratch: an empty folder for temporary files, which
        are deleted when they have been read, also when the caller stops early.

        Raises UserError, while it is iterated, for data that cannot be read, what `report` raises, and OSError when the
        disk is full.
        """
        layout, connection = self.layout, self.connection
        sources = telemetry.open_telemetry(self.path, layout)
        self._note_files(sources)
        self.scan = telemetry.scan_telemetry(connection, sources, layout)
        self.rows, self.coverage = self.scan.rows, Coverage(self.scan.window, self.needed)
        self.report(self.scan.problems)
        known = self._known_labels(sources)
        more_labels = telemetry.labels_left_out(connection, self.scan, layout) if known is None else {}
        aggregate = [layout.aggregate[name] for name in layout.counters] if layout.aggregate else []
        buckets = telemetry.write_buckets(connection, self.scan, layout, scratch, batch_users)
        try:
            for bucket in buckets:
                users = telemetry.read_bucket(bucket, self.scan.window.days, len(layout.counters), aggregate)
                users = telemetry.with_labels(users, more_labels)
                bucket.unlink()
                self.report(telemetry.find_conflicts(connection, users, self.scan, layout))
                if known is not None:
                    label = labels_of(known, users.user_id)
                    users = replace(users, label=label, lowest=label)
                self.coverage.add(users)
                yield users
        finally:
            for bucket in buckets:
                bucket.unlink(missing_ok=True)
        if self.scan.dated and (self.scan.problems or self.scan.before or self.scan.after):
            self.coverage.nowhere = telemetry.count_users(connection, sources, layout) - self.coverage.users
        self.notes += self.coverage.notes(layout, self.scan)

    def table(self, columns: Sequence[str], batch_rows: int) -> Iterator[FeatureTable]:
        """Yield the good rows of a ready table, at most `batch_rows` at a time, with the labels of the labels file, if
        there is one. columns: the columns of numbers; empty: every one.

        Raises UserError, while it is iterated, for data that cannot be read, and what `report` raises.
        """
        layout, connection = self.layout, self.connection
        sources = ready_tables.open_ready_table(self.path, layout, columns)
        self._note_files(sources)
        near = similar_names(layout.time, list({column: None for source in sources for column in source.columns}))
        if near and layout.time not in near:
            self.notes.append(
                f"no column '{layout.time}', so rows have no day. If '{near[0]}' is theirs, set data.time_column to it."
            )
        self.columns = ready_tables.select_feature_columns(connection, sources, layout, columns)
        self.unused = [] if columns else ready_tables.unused_columns(sources, layout, self.columns)
        self.rows, problems = ready_tables.scan_ready_table(connection, sources, layout, self.columns)
        self.report(problems)
        known = self._known_labels(sources)
        some_bad = bool(problems)  # a test of all columns takes longer than to read them
        for table in ready_tables.read_ready_table(connection, sources, layout, self.columns, batch_rows, some_bad):
            yield table if known is None else replace(table, label=labels_of(known, table.user_id))

    def _note_files(self, sources: Sequence[Source]) -> None:
        """Store `sources`. Add notes on files below `path` that are not read, and on days in the default time zone.

        Raises UserError for a file that cannot be read.
        """
        self.sources = sources
        self.notes += left_out_notes(self.path, class_folders(self.path, self.layout.classes))
        self.notes += time_zone_notes(self.connection, sources, self.layout)

    def _known_labels(self, sources: Sequence[Source]) -> UserLabels | None:
        """User -> class position, for every labelled user, from the labels file; None without one, or when it is an
        empty folder.

        Raises UserError for labels that cannot be used, or when there are labels but layout.user is "".
        """
        path, layout = self.labels, self.layout
        if path is None or (path.is_dir() and not any(path.iterdir())):
            if layout.user:
                self.report(users_spelled_twice(self.connection, sources, layout))
            return None
        if not layout.user:
            raise UserError(
                f"{path}: labels need a user column to go by. Name it under data.user_column in config.yaml."
            )
        own = open_labels(path, layout)
        known, problems = read_labels(self.connection, own, path, layout)
        self.notes += left_out_notes(path)
        self.report(problems)
        twice = users_spelled_twice(self.connection, [*sources, *own], layout)
        self.report(twice or labels_without_rows(self.connection, known, sources, layout, path))
        return known


def left_out_notes(path: Path, folders: Sequence[Path] = (), **endings: Any) -> list[str]:
    """A sentence for each reason why files below `path` are not read: how many, and the first of them.

    folders: the class folders that are read instead of `path`; empty: none. endings: as in files_left_out.
    """
    found = files_left_out(path, folders, **endings)
    return [
        f"{len(paths):,} {'file is' if len(paths) == 1 else 'files are'} not read, {why}: {paths[0]}"
        f"{' and others' if len(paths) > 1 else ''}."
        for why, paths in found.items()
    ]
