"""Labels: who is known to be what, from a file with a row per labelled user.

Labels may also stand in class folders or in a column beside the data; checks.py reads those.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from scarcegan.data import files
from scarcegan.data.files import Source
from scarcegan.data.rules import Layout, Problem, Rule, label_code, need_columns, tally, text, unknown_label
from scarcegan.data.schema import UNLABELLED

Labels = dict[str, int]


def read_labels(connection: duckdb.DuckDBPyConnection, path: Path, layout: Layout) -> tuple[Labels, list[Problem]]:
    """Label of every labelled user of a file or folder, and what is wrong with it. Blank labels are none."""
    labels: Labels = {}
    problems = []
    for source in files.sources(files.find(path), (layout.user, layout.label)):
        need_columns(source, layout, (layout.user, layout.label))
        empty = Rule(layout.user, f"{text(layout.user)} IS NULL", "is empty", "A label needs its user. Correct it.")
        problems += tally(connection, source, [empty, unknown_label(source, layout)], "NULL")[2]
        with files.reading([source]):
            rows = connection.execute(
                f"SELECT {text(layout.user)}, {label_code(source, layout)} FROM {source.table} "
                f"WHERE {text(layout.user)} IS NOT NULL AND {label_code(source, layout)} <> {UNLABELLED}"
            ).fetchall()
        problems += merge(labels, rows, source, layout)
    if not problems:
        problems += empty_classes(Counter(labels.values()), path, layout)
    return labels, problems


def merge(labels: Labels, rows: list[tuple[str, int]], source: Source, layout: Layout) -> list[Problem]:
    """Add rows to `labels`; a user labelled twice differently keeps the first label and is a problem."""
    twice = [(user, labels[user], label) for user, label in rows if labels.setdefault(user, label) != label]
    if not twice:
        return []
    user, first, second = twice[0]
    names = f"'{layout.classes[first]}' and '{layout.classes[second]}'"
    more = f" ({len(twice):,} such users)" if len(twice) > 1 else ""
    file = source.files[0]
    return [Problem(f"{file}: user '{user}' is labelled {names}{more}. Keep one label per user.", len(twice))]


def empty_classes(counts: Counter[int], path: Path, layout: Layout) -> list[Problem]:
    """A problem if a class has no user, given the users per label."""
    missing = [name for i, name in enumerate(layout.classes) if not counts[i]]
    if not missing:
        return []
    found = ", ".join(f"{name} {counts[i]:,}" for i, name in enumerate(layout.classes))
    return [
        Problem(
            f"{path}: nobody is labelled '{missing[0]}' (found: {found}). "
            "Label some users so, or remove the class under labels in config.yaml."
        )
    ]


def strangers(
    connection: duckdb.DuckDBPyConnection, labels: Labels, sources: Sequence[Source], layout: Layout, path: Path
) -> list[Problem]:
    """A problem if a labelled user is not in the data."""
    connection.register("labelled", pa.table({"known": pa.array(labels, pa.string())}))
    seen: set[str] = set()
    for source in sources:
        who = f"SELECT {text(layout.user)} AS u FROM {source.table}"
        found = connection.execute(f"SELECT DISTINCT u FROM ({who}) SEMI JOIN labelled ON u = known").fetchall()
        seen.update(user for (user,) in found)
    missing = [user for user in labels if user not in seen]
    if not missing:
        return []
    more = f" ({len(missing):,} such users)" if len(missing) > 1 else ""
    message = (
        f"{path}: user '{missing[0]}' is labelled, but is not in the data{more}. "
        "Add the user's rows, remove the label, or set data.bad_rows to drop."
    )
    return [Problem(message, len(missing), droppable=True)]


def lookup(labels: Labels, user_id: np.ndarray) -> np.ndarray:
    """Label of each user, int8 [n]; UNLABELLED where there is none."""
    return np.fromiter((labels.get(user, UNLABELLED) for user in user_id), np.int8, len(user_id))
