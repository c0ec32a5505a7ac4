"""Check: list every mistake in telemetry or in a ready feature table at once, and count users or rows per class.

Nothing is written but temporary files, which are deleted again.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import duckdb

from scarcegan.data import files, ready_tables, telemetry
from scarcegan.data.labels import UserLabels, classes_without_users, labels_of, labels_without_rows, read_labels
from scarcegan.data.rules import Layout
from scarcegan.data.schema import UNLABELLED, UNLABELLED_NAME
from scarcegan.errors import UserError

BUCKET_USERS = 5_000
Summary = dict[str, object]


def check_data(
    path: Path,
    labels: Path | None,
    layout: Layout,
    kind: Literal["telemetry", "features"] = "telemetry",
    columns: Sequence[str] = (),
) -> tuple[list[str], Summary]:
    """Check telemetry or a ready feature table, with its labels. Bad data is returned as problems, not raised.

    - path: file or folder of the data
    - labels: file or folder of labels, None when they are in the data (in a column, or by class folder). With a labels
      file, labels in the data are checked, too, but do not count
    - layout: names of the columns and of the classes, and which days are read
    - kind: what `path` holds
    - columns: feature columns of a ready table, without layout.categories; empty: every numeric column

    Returns the problems, a message of a sentence or more each ([]: the data can be used), and a summary:

    - "files", "rows": how many there are, bad rows included
    - of telemetry "users" (how many have a good record), "days" (the days that are read, as one text, such as
      "2026-01-01 to 2026-01-31") and "users_per_class" ({class name or "unlabelled": count})
    - of a ready table "features" (how many) and "rows_per_class" (of good rows); "columns_left_out", the names of
      columns that are not used and an advice, as one text, only when there are such columns and `columns` is empty

    A mistake that stops the check, such as a missing path, file or column, is the last problem; the summary is then {}.

    Raises OSError when the disk is full.
    """
    problems: list[str] = []
    summary: Summary = {}
    with tempfile.TemporaryDirectory() as scratch, closing(files.connect_duckdb(Path(scratch))) as connection:
        try:
            if kind == "telemetry":
                check_telemetry(connection, Path(path), labels, layout, Path(scratch), problems, summary)
            else:
                check_ready_table(connection, Path(path), labels, layout, columns, problems, summary)
        except UserError as error:
            problems.append(str(error))
    return problems, summary


def check_telemetry(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    labels: Path | None,
    layout: Layout,
    scratch: Path,
    problems: list[str],
    summary: Summary,
) -> None:
    """Check telemetry; messages about mistakes are appended to `problems`, the figures are added to `summary`.

    connection: from `connect_duckdb`; path: file or folder of the telemetry; layout: names of columns and classes, and
    the days that are read; labels: file or folder of labels, None when they are in the data; scratch: an empty folder
    for temporary files, which are left there; summary: gets the keys that `check_data` lists.

    Raises UserError when the data has no rows, when the data or the labels are missing, cannot be read or lack a
    column, or when a folder beside class folders is not named after a class; OSError when the disk is full.
    """
    sources = telemetry.open_telemetry(path, layout)
    found = telemetry.scan_telemetry(connection, sources, layout)
    problems += [problem.message for problem in found.problems]
    known = check_labels(connection, labels, sources, layout, problems)
    per_class: Counter[int] = Counter()
    for bucket in telemetry.write_buckets(connection, found, layout, scratch, BUCKET_USERS):
        users = telemetry.read_bucket(bucket, found.window.days, len(layout.counters))
        problems += [problem.message for problem in telemetry.find_conflicts(connection, users, found, layout)]
        per_class.update((users.label if known is None else labels_of(known, users.user_id)).tolist())
    if known is None and set(per_class) != {UNLABELLED}:
        problems += [problem.message for problem in classes_without_users(per_class, path, layout)]
    summary |= {"files": sum(len(source.files) for source in sources), "rows": found.rows}
    summary |= {
        "users": per_class.total(),
        "days": str(found.window),
        "users_per_class": users_by_class(per_class, layout),
    }


def check_ready_table(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    labels: Path | None,
    layout: Layout,
    columns: Sequence[str],
    problems: list[str],
    summary: Summary,
) -> None:
    """Check a ready feature table; messages about mistakes are appended to `problems`, figures are added to `summary`.

    path: file or folder of the table; labels: file or folder of labels, None when they are in the data; columns: the
    feature columns without the categories, empty for every numeric one; summary: gets the keys that `check_data` lists.

    Raises UserError when the data has no rows, no feature, a feature with a reserved name, or (without `columns`) other
    numeric columns in some files; when the data or the labels are missing, cannot be read or lack a column; or when a
    folder beside class folders is not named after a class. Raises OSError when the disk is full.
    """
    sources = ready_tables.open_ready_table(path, layout, columns)
    chosen, columns = columns, ready_tables.select_feature_columns(connection, sources, layout, columns)
    rows, found = ready_tables.scan_ready_table(connection, sources, layout, columns)
    problems += [problem.message for problem in found]
    known = check_labels(connection, labels, sources, layout, problems)
    per_class: Counter[int] = Counter()
    for table in ready_tables.read_ready_table(connection, sources, layout, columns, 50_000):
        per_class.update((table.label if known is None else labels_of(known, table.user_id)).tolist())
    if known is None and set(per_class) != {UNLABELLED}:
        problems += [problem.message for problem in classes_without_users(per_class, path, layout)]
    summary |= {"files": sum(len(source.files) for source in sources), "rows": rows, "features": len(columns)}
    unused = [] if chosen else ready_tables.unused_columns(sources, layout, columns)
    if unused:
        summary["columns_left_out"] = f"{', '.join(unused)} (text or empty). {ready_tables.CATEGORY_ADVICE}"
    summary |= {"rows_per_class": users_by_class(per_class, layout)}


def check_labels(
    connection: duckdb.DuckDBPyConnection,
    path: Path | None,
    sources: list[files.Source],
    layout: Layout,
    problems: list[str],
) -> UserLabels | None:
    """Read the labels file or folder `path`; the messages about mistakes in it are appended to `problems`.

    sources: the data files; a labelled user without a row in them is a mistake. layout: names of the columns and of the
    classes.

    Returns {user: class position} of the labelled users, those without a row in the data included; None when `path` is
    None.

    Raises UserError when there is no labels file, or when one cannot be read, lacks the user or label column, or is a
    CSV file that has one of them twice.
    """
    if path is None:
        return None
    known, found = read_labels(connection, Path(path), layout)
    problems += [
        problem.message for problem in found + labels_without_rows(connection, known, sources, layout, Path(path))
    ]
    return known


def users_by_class(counts: Counter[int], layout: Layout) -> dict[str, int]:
    """{class name: count} in the order of the classes, then the count of "unlabelled".

    counts: class position (or UNLABELLED) -> count of users or rows; a class that is not in it gets 0.
    """
    return {name: counts[i] for i, name in enumerate(layout.classes)} | {UNLABELLED_NAME: counts[UNLABELLED]}
