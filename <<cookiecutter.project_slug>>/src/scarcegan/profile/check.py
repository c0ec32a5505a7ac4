"""Check: list every mistake in telemetry or in a ready feature table at once, and count users or rows per class.

Nothing is written but temporary files, which are deleted again.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np

from scarcegan.data import files, ready_tables
from scarcegan.data.class_sizes import Shares, class_too_small, users_to_split
from scarcegan.data.coverage import DaysNeeded
from scarcegan.data.labels import classes_without_users
from scarcegan.data.reading import Reading
from scarcegan.data.rules import Layout, Problem
from scarcegan.data.schema import UNLABELLED, UNLABELLED_NAME
from scarcegan.errors import UserError

BATCH_USERS = 5_000
BATCH_ROWS = 50_000
Summary = dict[str, object]


def check_data(
    path: Path,
    labels: Path | None,
    layout: Layout,
    kind: Literal["telemetry", "features"] = "telemetry",
    columns: Sequence[str] = (),
    needed: DaysNeeded | None = None,
    shares: Shares | None = None,
    drop: bool = False,
) -> tuple[list[str], Summary]:
    """Check telemetry or a ready feature table, with its labels. Bad data is returned as problems, not raised.

    - path: file or folder of the data
    - labels: file or folder of labels, None when they are in the data (in a column, or by class folder). With a labels
      file, labels in the data are checked, too, but do not count
    - layout: names and meaning of the columns, the classes, and which days are read
    - kind: what `path` holds
    - columns: feature columns of a ready table, without layout.categories; empty: every numeric column
    - needed: the days that training needs of telemetry; None: any day of a user counts
    - shares: how training splits users; without another problem, a class with too few users is then one. None: no class
      is too small
    - drop: whether rows of a droppable problem are left out, so that it is a note and no problem

    Returns the problems, a message of a sentence or more each ([]: the data can be used), and a summary:

    - "files", "rows": how many there are, bad rows included
    - of telemetry "users" (how many have a good record), "days" (the days that are read, as one text, such as
      "2026-01-01 to 2026-01-31"), "time_zone" (that of these days), "missing_days" (the share of days without a record,
      and how they are read, as text) and "users_per_class" ({class name or "unlabelled": count})
    - of a ready table "features" (how many) and "rows_per_class" (of good rows); "columns_left_out", the names of
      columns that are not used and an advice, as one text, only when there are such columns and `columns` is empty
    - "notes", only when there are any: sentences about what is left out or should be looked at

    A mistake that stops the check, such as a missing path, file or column, is the last problem; the summary then has
    only "files", "rows" and "notes", as far as they were known before it.

    Raises UserError for a time zone that does not exist, and OSError when the disk is full.
    """
    problems: list[str] = []
    dropped: list[str] = []
    summary: Summary = {}

    def report(found: Sequence[Problem]) -> None:
        for problem in found:
            if drop and problem.droppable:
                dropped.append(problem.fact)
            else:
                problems.append(problem.message)

    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(files.connect_duckdb(Path(scratch), layout.time_zone)) as connection,
    ):
        reading = Reading(connection, Path(path), labels, layout, report, needed)
        try:
            if kind == "telemetry":
                check_telemetry(reading, Path(scratch), shares, problems, summary)
            else:
                check_ready_table(reading, columns, shares, problems, summary)
        except UserError as error:
            problems.append(str(error))
            summary |= {"files": reading.files, "rows": reading.rows} if reading.rows else {}
    if dropped or reading.notes:
        summary["notes"] = [*(f"left out: {fact}." for fact in dropped), *reading.notes]
    return problems, summary


def check_telemetry(
    reading: Reading, scratch: Path, shares: Shares | None, problems: list[str], summary: Summary
) -> None:
    """Check telemetry; messages about mistakes are appended to `problems`, the figures are added to `summary`.

    scratch: an empty folder for temporary files; shares, summary: as `check_data` explains them.

    Raises UserError for data or labels that cannot be read at all; OSError when the disk is full.
    """
    layout = reading.layout
    per_class: Counter[int] = Counter()
    for users in reading.users(scratch, BATCH_USERS):
        per_class.update(users.label.tolist())
    if not reading.scan or not reading.coverage:
        return
    if reading.needed and not reading.coverage.with_rows and not problems:
        left_out = "; ".join(reading.coverage.left_out())
        problems.append(f"{reading.path}: no user has a feature row: {left_out}. Correct data.start and data.days.")
    report_small_classes(per_class, reading.coverage.trainable, reading, shares, problems)
    summary |= {"files": reading.files, "rows": reading.rows, "users": per_class.total()}
    days = str(reading.scan.window) if reading.scan.dated else "none could be read"
    summary |= {"days": days, "time_zone": layout.time_zone}
    summary |= {"missing_days": f"{reading.coverage.missing():.0%}, read as {layout.missing_days}"}
    summary |= {"users_per_class": users_by_class(per_class, layout)}


def check_ready_table(
    reading: Reading, columns: Sequence[str], shares: Shares | None, problems: list[str], summary: Summary
) -> None:
    """Check a ready feature table; messages about mistakes are appended to `problems`, figures are added to `summary`.

    columns, shares, summary: as `check_data` explains them.

    Raises UserError for data or labels that cannot be read at all; OSError when the disk is full.
    """
    per_class: Counter[int] = Counter()
    keys = []
    for table in reading.table(columns, BATCH_ROWS):
        per_class.update(table.label.tolist())
        keys.append((table.user_id, table.as_of, table.label))
    trainable = users_to_split(*map(np.concatenate, zip(*keys, strict=True))).label.tolist() if keys else []
    report_small_classes(per_class, Counter(trainable), reading, shares, problems)
    summary |= {"files": reading.files, "rows": reading.rows, "features": len(reading.columns)}
    if reading.unused:
        why = "(text, empty, or named like a feature table's own user_id, as_of and label)"
        advice = (
            f"{ready_tables.CATEGORY_ADVICE} A day is named under data.time_column, a label under data.label_column."
        )
        summary["columns_left_out"] = f"{', '.join(reading.unused)} {why}. {advice}"
    summary |= {"rows_per_class": users_by_class(per_class, reading.layout)}


def report_small_classes(
    per_class: Counter[int], trainable: Mapping[int, int], reading: Reading, shares: Shares | None, problems: list[str]
) -> None:
    """Append a problem to `problems` when a class has no user, or too few to be split, unless there is another problem.

    per_class: class position -> users; trainable: class position -> users with a row to train on. Nothing is appended
    when no user has a label and none is needed.
    """
    layout = reading.layout
    labelled = set(per_class) - {UNLABELLED}
    if problems or not (labelled or layout.labels_in or reading.labels):
        return
    found = classes_without_users(per_class, reading.path, layout) if labelled and not reading.labels else []
    problems += [problem.message for problem in found]
    if shares and not found and (small := class_too_small(trainable, layout.classes, shares)):
        problems.append(f"{reading.labels or reading.path}: {small}")


def users_by_class(counts: Counter[int], layout: Layout) -> dict[str, int]:
    """{class name: count} in the order of the classes, then the count of "unlabelled".

    counts: class position (or UNLABELLED) -> count of users or rows; a class that is not in it gets 0.
    """
    return {name: counts[i] for i, name in enumerate(layout.classes)} | {UNLABELLED_NAME: counts[UNLABELLED]}
