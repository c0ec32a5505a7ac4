"""Check: everything that is wrong with the data at once, and a short summary; nothing is written that stays."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import duckdb

from scarcegan.data import files, ready_tables, telemetry
from scarcegan.data.labels import Labels, empty_classes, lookup, read_labels, strangers
from scarcegan.data.rules import Layout
from scarcegan.data.schema import UNLABELLED, UNLABELLED_NAME
from scarcegan.errors import UserError

BUCKET_USERS = 5_000
Summary = dict[str, object]


def check(
    path: Path,
    labels: Path | None,
    layout: Layout,
    kind: Literal["telemetry", "features"] = "telemetry",
    columns: Sequence[str] = (),
) -> tuple[list[str], Summary]:
    """Problems, a sentence each (none: the data can be used), and a summary of rows, users, days and users per class.

    What keeps the files from being read at all is the only problem that is then found.
    """
    problems: list[str] = []
    summary: Summary = {}
    with tempfile.TemporaryDirectory() as scratch, closing(files.connect(Path(scratch))) as connection:
        try:
            if kind == "telemetry":
                check_telemetry(connection, Path(path), labels, layout, Path(scratch), problems, summary)
            else:
                check_table(connection, Path(path), labels, layout, columns, problems, summary)
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
    """Fill `problems` and `summary` from telemetry."""
    sources = telemetry.open_telemetry(path, layout)
    found = telemetry.survey(connection, sources, layout)
    problems += [problem.message for problem in found.problems]
    known = check_labels(connection, labels, sources, layout, problems)
    per_class: Counter[int] = Counter()
    for bucket in telemetry.buckets(connection, found, layout, scratch, BUCKET_USERS):
        users = telemetry.dense(bucket, found.window.days, len(layout.counters))
        problems += [problem.message for problem in telemetry.mistakes(connection, users, found, layout)]
        per_class.update((users.label if known is None else lookup(known, users.user_id)).tolist())
    if known is None and set(per_class) != {UNLABELLED}:
        problems += [problem.message for problem in empty_classes(per_class, path, layout)]
    summary |= {"files": sum(len(source.files) for source in sources), "rows": found.rows}
    summary |= {"users": per_class.total(), "days": str(found.window), "users_per_class": by_name(per_class, layout)}


def check_table(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    labels: Path | None,
    layout: Layout,
    columns: Sequence[str],
    problems: list[str],
    summary: Summary,
) -> None:
    """Fill `problems` and `summary` from a ready feature table."""
    sources = ready_tables.open_ready(path, layout, columns)
    chosen, columns = columns, ready_tables.feature_columns(connection, sources, layout, columns)
    rows, found = ready_tables.survey(connection, sources, layout, columns)
    problems += [problem.message for problem in found]
    known = check_labels(connection, labels, sources, layout, problems)
    per_class: Counter[int] = Counter()
    for table in ready_tables.tables(connection, sources, layout, columns, 50_000):
        per_class.update((table.label if known is None else lookup(known, table.user_id)).tolist())
    if known is None and set(per_class) != {UNLABELLED}:
        problems += [problem.message for problem in empty_classes(per_class, path, layout)]
    summary |= {"files": sum(len(source.files) for source in sources), "rows": rows, "features": len(columns)}
    unused = [] if chosen else ready_tables.unused_columns(sources, layout, columns)
    if unused:
        summary["columns_left_out"] = f"{', '.join(unused)} (text or empty). {ready_tables.NAMES}"
    summary |= {"rows_per_class": by_name(per_class, layout)}


def check_labels(
    connection: duckdb.DuckDBPyConnection,
    path: Path | None,
    sources: list[files.Source],
    layout: Layout,
    problems: list[str],
) -> Labels | None:
    """Labels of the labels file, if there is one, its problems added to `problems`."""
    if path is None:
        return None
    known, found = read_labels(connection, Path(path), layout)
    problems += [problem.message for problem in found + strangers(connection, known, sources, layout, Path(path))]
    return known


def by_name(counts: Counter[int], layout: Layout) -> dict[str, int]:
    """Counts under the names of the classes, the unlabelled last."""
    return {name: counts[i] for i, name in enumerate(layout.classes)} | {UNLABELLED_NAME: counts[UNLABELLED]}
