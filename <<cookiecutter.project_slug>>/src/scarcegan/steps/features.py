"""Features: from telemetry, or a ready table, to one row of numbers per user and day of observation.

Reads and checks through data/, computes through features/history.py, a batch of users at a time. The split step decides
who is trained on.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import duckdb

from scarcegan.data import files, ready_tables, telemetry
from scarcegan.data.labels import UserLabels, labels_of, labels_without_rows, read_labels
from scarcegan.data.rules import Layout, Problem
from scarcegan.data.schema import FeatureTable, parse_classes, write_features
from scarcegan.errors import UserError, run_step
from scarcegan.features.history import History, feature_rows
from scarcegan.features.user_features import feature_names
from scarcegan.progress import Progress


@dataclass
class ProblemLog:
    """Problems in the data whose rows are left out.

    drop: whether droppable problems may be left out; otherwise every problem ends the step.
    """

    drop: bool
    dropped: list[Problem] = field(default_factory=list)

    def report(self, problems: Sequence[Problem]) -> None:
        """Add problems to the log.

        Raises UserError for the first one that may not be left out.
        """
        blocking = [problem for problem in problems if not (self.drop and problem.droppable)]
        if blocking:
            others = f"\n(and {len(blocking) - 1} more: scarcegan data check lists all)" if len(blocking) > 1 else ""
            raise UserError(blocking[0].message + others)
        self.dropped += problems


def from_telemetry(
    connection: duckdb.DuckDBPyConnection,
    args: argparse.Namespace,
    layout: Layout,
    log: ProblemLog,
    scratch: Path,
) -> Iterator[FeatureTable]:
    """Yield features of telemetry, a bucket of users at a time. scratch: folder for temporary files.

    Raises UserError for data that cannot be used; most problems are found before the first row.
    """
    history = history_of(args, layout)
    sources = telemetry.open_telemetry(args.telemetry, layout)
    found = telemetry.scan_telemetry(connection, sources, layout)
    log.report(found.problems)
    known = known_labels(connection, args.labels, sources, layout, log)
    names = feature_names(layout.counters, history.windows)
    for bucket in telemetry.write_buckets(connection, found, layout, scratch, args.batch_users):
        users = telemetry.read_bucket(bucket, found.window.days, len(layout.counters))
        bucket.unlink()
        log.report(telemetry.find_conflicts(connection, users, found, layout))
        table = feature_rows(users, found.window, history, names)
        yield table if known is None else with_labels(table, known)


def from_ready_table(
    connection: duckdb.DuckDBPyConnection, args: argparse.Namespace, layout: Layout, log: ProblemLog
) -> Iterator[FeatureTable]:
    """Yield the rows of a ready feature table in batches.

    Raises UserError for data that cannot be used; all problems are found before the first row.
    """
    refuse_column_twice(args, layout)
    sources = ready_tables.open_ready_table(args.telemetry, layout, args.columns)
    columns = ready_tables.select_feature_columns(connection, sources, layout, args.columns)
    log.report(ready_tables.scan_ready_table(connection, sources, layout, columns)[1])
    known = known_labels(connection, args.labels, sources, layout, log)
    for table in ready_tables.read_ready_table(connection, sources, layout, columns, args.batch_users):
        yield table if known is None else with_labels(table, known)


def refuse_column_twice(args: argparse.Namespace, layout: Layout) -> None:
    """Check that no category is also a number, user, time or label column, or listed twice.

    Raises UserError when one is.
    """
    taken = {*args.columns, layout.user, layout.time, layout.label}
    twice = [name for name in layout.categories if name in taken or layout.categories.count(name) > 1]
    if twice:
        raise UserError(
            f"data.categories: '{twice[0]}' is named twice in config.yaml: a column is a category, or a number, "
            "or user, time or label. Name it once."
        )


def known_labels(
    connection: duckdb.DuckDBPyConnection,
    path: Path | None,
    sources: Sequence[files.Source],
    layout: Layout,
    log: ProblemLog,
) -> UserLabels | None:
    """The labels of the labels channel; None when it is absent or an empty folder.

    Raises UserError for labels that cannot be used, or when the data has no user column.
    """
    if path is None or (path.is_dir() and not any(path.iterdir())):
        return None
    if not layout.user:
        raise UserError(f"{path}: labels need a user column to go by. Name it under data.user_column in config.yaml.")
    known, problems = read_labels(connection, path, layout)
    log.report(problems)
    log.report(labels_without_rows(connection, known, sources, layout, path))
    return known


def with_labels(table: FeatureTable, known: UserLabels) -> FeatureTable:
    """The table with labels from `known` in place of its own."""
    return replace(table, label=labels_of(known, table.user_id))


def history_of(args: argparse.Namespace, layout: Layout) -> History:
    """The days that feature rows are made of, from the arguments.

    Raises UserError when they are impossible, or longer than the days of telemetry.
    """
    longest = args.window_days + 7 * max(args.as_of_weeks)
    if longest > layout.days:
        raise UserError(
            f"features.window_days {args.window_days} and {max(args.as_of_weeks)} weeks need {longest} days, "
            f"data.days is {layout.days}. Shorten one or lengthen the other in config.yaml."
        )
    if min(args.windows) < 1 or min(args.as_of_weeks) < 0:
        raise UserError("features.windows are days, at least 1 each, and as-of-weeks are weeks back, at least 0.")
    if max(args.windows) > args.window_days:
        raise UserError(f"features.windows: {max(args.windows)} days do not fit into window_days {args.window_days}.")
    if not layout.counters or len(set(layout.counters)) < len(layout.counters):
        raise UserError(f"counters '{','.join(layout.counters)}': name each once under data.counters in config.yaml.")
    return History(args.window_days, args.windows, args.as_of_weeks)


def write_tables(tables: Iterator[FeatureTable], folder: Path) -> tuple[int, int]:
    """Write every table as a part of a feature table; return the number of rows and of features.

    When one fails, the parts before it are removed.

    Raises UserError when there is no row.
    """
    written: list[Path] = []
    width, progress = 0, Progress("features")
    try:
        for table in tables:
            written.append(write_features(table, folder, len(written)))
            width = len(table.names)
            progress.add(len(table))
        if not progress.count:
            raise UserError(
                "no row is left: every record was dropped, or is before the days that are read. Check data.start and "
                "data.days, and the rows that were dropped."
            )
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return progress.count, width


def write_dropped(log: ProblemLog, folder: Path) -> None:
    """Print what was left out to stderr, and write it to dropped.json when there is something."""
    for problem in log.dropped:
        print(f"dropped: {problem.message}", file=sys.stderr)
    if log.dropped:
        rows = [{"rows": problem.rows, "first": problem.message} for problem in log.dropped]
        (folder / "dropped.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")


def names(text: str) -> tuple[str, ...]:
    """Split "a, b" at commas into names."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def a_day(text: str) -> str:
    """Check a day such as 2026-01-31; "" is returned as it is.

    Raises ValueError for other text.
    """
    return text and date.fromisoformat(text).isoformat()


def numbers(text: str) -> tuple[int, ...]:
    """Split "7,14" at commas into whole numbers.

    Raises ValueError for other text.
    """
    return tuple(int(part) for part in names(text))


def parser() -> argparse.ArgumentParser:
    """The step's channels, output and arguments."""
    arguments = argparse.ArgumentParser(description=__doc__)
    add = arguments.add_argument
    add("--telemetry", type=Path, required=True, help="file or folder of Parquet or CSV")
    add("--labels", type=Path, help="file or folder with a label per user; absent when scoring")
    add("--features-out", type=Path, required=True)
    add("--classes", type=parse_classes, required=True, help="names, the rare class last")
    add("--kind", choices=("telemetry", "features"), required=True)
    add("--user-column", required=True, help="empty for a ready table: rows are numbered")
    add("--time-column", required=True)
    add("--label-column", required=True)
    add("--counters", type=names, required=True)
    add("--columns", type=names, required=True, help="feature columns of a ready table; empty: every numeric one")
    add("--categories", type=names, required=True, help="further columns of a ready table, which hold names")
    add("--start", type=a_day, required=True, help="first day; empty: the last --days days found")
    add("--days", type=int, required=True)
    add("--window-days", type=int, required=True)
    add("--windows", type=numbers, required=True)
    add("--as-of-weeks", type=numbers, required=True, help="weeks before the last day at which a row is taken")
    add("--batch-users", type=int, required=True)
    add("--bad-rows", choices=("refuse", "drop"), required=True)
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    layout = Layout(
        args.classes,
        args.user_column,
        args.time_column,
        args.label_column,
        args.counters,
        args.start,
        args.days,
        args.categories,
    )
    log = ProblemLog(drop=args.bad_rows == "drop")
    args.features_out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".scratch-", dir=args.features_out) as scratch,
        closing(files.connect_duckdb(Path(scratch))) as connection,
    ):
        if args.kind == "telemetry":
            tables = from_telemetry(connection, args, layout, log, Path(scratch))
        else:
            tables = from_ready_table(connection, args, layout, log)
        rows, width = write_tables(tables, args.features_out)
    write_dropped(log, args.features_out)
    print(f"features: {rows:,} rows of {width} features", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_step(main))
