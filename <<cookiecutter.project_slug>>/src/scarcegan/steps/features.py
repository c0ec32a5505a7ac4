"""Features: from telemetry, or a ready table, to one row of numbers per user and day of observation.

Reads and checks through data/, computes through features/history.py, a batch of users at a time. The split step decides
who is trained on.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from scarcegan.data import files
from scarcegan.data.coverage import COVERAGE_FILE, DaysNeeded
from scarcegan.data.reading import Reading
from scarcegan.data.rules import Layout, Problem
from scarcegan.data.schema import UNLABELLED, FeatureTable, write_features
from scarcegan.data.telemetry import UserRecords
from scarcegan.errors import UserError, run_step
from scarcegan.features.history import History, feature_rows
from scarcegan.features.user_features import feature_names
from scarcegan.jsonfile import write_json
from scarcegan.progress import Progress
from scarcegan.steps._arguments import (
    parse_classes,
    parse_day,
    parse_days,
    parse_folders,
    parse_names,
    parse_number,
    parse_pairs,
    parse_whole_numbers,
)
from scarcegan.steps._inputs import INPUTS_FILE, describe_files, sources_of, visible_signatures
from scarcegan.steps._outputs import replacing_parts


@dataclass
class ProblemLog:
    """Collects the problems in the input data whose rows are left out of the features.

    - drop: whether the rows of a problem may be left out when the problem is marked droppable; False: every problem
      ends the step.
    - dropped: the problems reported so far, whose rows are left out.
    """

    drop: bool
    dropped: list[Problem] = field(default_factory=list)

    def report(self, problems: Sequence[Problem]) -> None:
        """Add all these problems to `dropped`, or none if the rows of one of them may not be left out.

        Raises UserError, with the message of the first problem whose rows may not be left out and the number of others.
        """
        blocking = [problem for problem in problems if not (self.drop and problem.droppable)]
        if blocking:
            others = f"\n(and {len(blocking) - 1} more: scarcegan data check lists all)" if len(blocking) > 1 else ""
            raise UserError(blocking[0].message + others)
        self.dropped += problems


@dataclass
class Sample:
    """Chooses users: all with a label, and a share of the others, by a hash of their id.

    - share: 1 chooses everybody.
    - left_out: how many users, or rows of a ready table, were not chosen so far.
    """

    share: float
    left_out: int = 0

    def choose(self, users: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Whether each user is chosen: bool [n]. users: str [n], their ids. label: int [n], UNLABELLED for none."""
        if self.share >= 1:
            return np.ones(len(users), dtype=bool)
        chosen = (label != UNLABELLED) | np.array([self.draw(user) < self.share for user in users], dtype=bool)
        self.left_out += int((~chosen).sum())
        return chosen

    @staticmethod
    def draw(user: str) -> float:
        """Return a number in [0, 1) that depends on the user alone. The split hashes the bare id: it is independent."""
        return int.from_bytes(blake2b(f"sample of {user}".encode(), digest_size=8).digest()) / 2**64

    def records(self, users: UserRecords) -> UserRecords:
        """Return the records of the chosen users."""
        kept = self.choose(users.user_id, users.label)
        return users if kept.all() else replace(users, **{key: value[kept] for key, value in vars(users).items()})

    def note(self) -> str:
        """Return a sentence about a sample; "" when everybody was chosen."""
        return (
            f"a sample: all users with a label and {self.share:.0%} of the others; {self.left_out:,} were left out."
            if self.share < 1
            else ""
        )


def from_telemetry(
    reading: Reading, history: History, scratch: Path, batch_users: int, sample: Sample
) -> Iterator[FeatureTable]:
    """Yield the feature rows of telemetry, one table per bucket of about `batch_users` users, of the sample's users.

    A bucket whose users have no rows gives an empty table. scratch: folder for temporary files, which are deleted.
    Raises UserError, while it is iterated, for data that cannot be used; most problems are found before the first
    table.
    """
    names = feature_names(reading.layout.counters, history.windows)
    for users in reading.users(scratch, batch_users):
        assert reading.scan is not None
        chosen = sample.records(users)
        if len(chosen.user_id):
            yield feature_rows(chosen, reading.scan.window, history, names)


def refuse_column_twice(args: argparse.Namespace, layout: Layout) -> None:
    """Check that no column in layout.categories is listed there twice, is also in args.columns (the columns of
    numbers), or is also the user, time or label column.

    Raises UserError when one is.
    """
    taken = {*args.columns, layout.user, layout.time, layout.label}
    twice = [name for name in layout.categories if name in taken or layout.categories.count(name) > 1]
    if twice:
        raise UserError(
            f"data.categories: '{twice[0]}' is named twice in config.yaml: a column is a category, or a number, "
            "or user, time or label. Name it once."
        )


def history_of(args: argparse.Namespace, layout: Layout) -> History:
    """The History that args.window_days, args.windows and args.as_of_weeks give. The last two have an entry at least.

    Raises UserError when a window is shorter than a day or longer than window_days, when weeks are negative, when
    window_days and the most weeks back need more days than are read (layout.days), or when layout.counters is empty or
    names a counter twice.
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
    return History(DaysNeeded(args.window_days, args.as_of_weeks), args.windows, layout.missing_days == "zero")


def write_tables(
    tables: Iterator[FeatureTable], folder: Path, expected: Callable[[], int] = lambda: 0
) -> tuple[int, int]:
    """Write every table into `folder` as one part of a feature table; return the numbers of rows and of features.

    An empty table becomes a part, too. An older table is replaced at the end; after an error it stays. Progress goes to
    stderr. expected: a function that gives, once there is a table, about how many rows there will be; 0: not known.
    Raises UserError when there is no row.
    """
    width, progress = 0, Progress("features")
    with replacing_parts(folder) as unfinished:
        for part, table in enumerate(tables):
            write_features(table, unfinished, part)
            width, progress.total = len(table.names), expected()
            progress.add(len(table))
        if not progress.count:
            raise UserError(
                "no row is left: every record was dropped, or is before the days that are read. Check data.start and "
                "data.days, and the rows that were dropped."
            )
    return progress.count, width


def write_left_out(log: ProblemLog, reading: Reading, folder: Path) -> None:
    """Print what was left out or should be looked at to stderr, and write it to `folder`, in place of older files.

    - dropped.json, when rows were dropped: a list with an object per problem, "rows" (their number) and "first" (the
      fact)
    - coverage.json: "users", how many there are in telemetry (null for a ready table); "without_row", {why: how many of
      them, or rows of a ready table, are not in the features}; "notes", sentences that say the same as those printed
    """
    for problem in log.dropped:
        print(f"dropped: {problem.fact}.", file=sys.stderr)
    for note in reading.notes:
        print(f"note: {note}", file=sys.stderr)
    (folder / "dropped.json").unlink(missing_ok=True)
    if log.dropped:
        rows = [{"rows": problem.rows, "first": problem.fact} for problem in log.dropped]
        write_json(folder / "dropped.json", rows)
    found = reading.coverage
    without_row = found.left_out() if found else {p.fact: p.rows for p in log.dropped}
    users = found.users + found.nowhere if found else None
    notes = [*(f"left out: {problem.fact}." for problem in log.dropped), *reading.notes]
    write_json(folder / COVERAGE_FILE, {"users": users, "without_row": without_row, "notes": notes})


def inputs_json(reading: Reading, telemetry: Mapping[Path, str], labels: Mapping[Path, str]) -> dict[str, Any]:
    """The content of inputs.json: {"telemetry" or "labels": what describe_files returns}, [] without a labels file.

    telemetry, labels: what `visible_signatures` returned for the two before they were read.

    Raises UserError when a file has changed since, or is gone.
    """
    layout = reading.layout
    found: dict[str, Any] = {"telemetry": describe_files(reading.sources, reading.path, telemetry), "labels": []}
    read = {file: labels[file] for file in sorted(labels) if file == reading.labels or files.has_data_suffix(file)}
    if reading.labels and read:
        sources = sources_of(read, reading.labels, (layout.user, layout.label))
        found["labels"] = describe_files(sources, reading.labels, read)
    return found


def parser() -> argparse.ArgumentParser:
    """The parser of this step's command line: its input files, its output folder and its settings."""
    arguments = argparse.ArgumentParser(description=__doc__)
    add = arguments.add_argument
    add("--telemetry", type=Path, required=True, help="file or folder of Parquet or CSV")
    add("--labels", type=Path, help="file or folder with a label per user; absent when scoring")
    add("--features-out", type=Path, required=True)
    add("--inputs-out", type=Path, help="where to record which files were read; absent: nowhere")
    add("--classes", type=parse_classes, required=True, help="names, the rare class last")
    add("--kind", choices=("telemetry", "features"), required=True)
    add("--user-column", required=True, help="empty for a ready table: rows are numbered")
    add("--time-column", required=True)
    add("--label-column", required=True)
    add("--labels-in", choices=("", "inside", "folders"), required=True, help="where the data must have labels")
    add("--time-format", required=True, help="empty for ISO 8601; epoch, epoch_ms, or a pattern such as %%d.%%m.%%Y")
    add("--time-zone", required=True, help="in which an instant becomes a day")
    add("--counters", type=parse_names, required=True)
    add("--signed-counters", type=parse_names, required=True, help="those of the counters that may be negative")
    add("--aggregate", type=parse_pairs, required=True, help="minutes=sum,sessions=count; empty: one record a day")
    add("--missing-days", choices=("unknown", "zero"), required=True)
    add("--columns", type=parse_names, required=True, help="feature columns of a ready table; empty: every numeric one")
    add("--categories", type=parse_names, required=True, help="further columns of a ready table, which hold names")
    add("--start", type=parse_day, required=True, help="first day; empty: the last --days days found")
    add("--days", type=parse_days, required=True)
    add("--window-days", type=parse_days, required=True)
    add("--windows", type=parse_whole_numbers, required=True)
    add(
        "--as-of-weeks",
        type=parse_whole_numbers,
        required=True,
        help="for each row: weeks before the last day",
    )
    add("--batch-users", type=int, required=True)
    add("--bad-rows", choices=("refuse", "drop"), required=True)
    add("--sample", type=parse_number, required=True, help="share of the users without a label; 1: everybody")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step: write a feature table, and what write_left_out writes, into the output folder, and inputs.json into
    the folder of inputs.

    What was left out, and the numbers of rows and features, are printed to stderr.
    argv: the command line without the program's name; None: that of this process.
    Raises UserError for data or settings that cannot be used, when no row is left, or when a file changes meanwhile.
    """
    args = parse_folders(parser(), argv)
    layout = Layout.of(vars(args))
    if not 0 < args.sample <= 1:
        raise UserError(f"--sample {args.sample}: it is a share above 0, at most 1. Correct cloud.copy_sample.")
    log, sample = ProblemLog(drop=args.bad_rows == "drop"), Sample(args.sample)
    args.features_out.mkdir(parents=True, exist_ok=True)
    before = visible_signatures(args.telemetry), visible_signatures(args.labels)
    with (
        tempfile.TemporaryDirectory(prefix=".scratch-", dir=args.features_out) as scratch,
        closing(files.connect_duckdb(Path(scratch), layout.time_zone)) as connection,
    ):
        reading = Reading(connection, args.telemetry, args.labels, layout, log.report)
        if args.kind == "telemetry":
            history = history_of(args, layout)
            reading.needed = history.needed
            tables = from_telemetry(reading, history, Path(scratch), args.batch_users, sample)
        else:
            refuse_column_twice(args, layout)
            whole = reading.table(args.columns, args.batch_users)
            tables = (table.take(sample.choose(table.user_id, table.label)) for table in whole)
        rows, width = write_tables(
            tables, args.features_out, lambda: reading.scan.users * len(args.as_of_weeks) if reading.scan else 0
        )
    reading.notes += filter(None, [sample.note()])
    write_left_out(log, reading, args.features_out)
    if args.inputs_out:
        args.inputs_out.mkdir(parents=True, exist_ok=True)
        write_json(args.inputs_out / INPUTS_FILE, inputs_json(reading, *before))
    print(f"features: {rows:,} rows of {width} features", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_step(main))
