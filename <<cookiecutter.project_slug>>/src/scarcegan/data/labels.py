"""Labels: the known class of each labelled user, read from a file with one row per labelled user.

Labels in class folders or in a column of the data are read by telemetry.py and ready_tables.py.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from scarcegan.data import files
from scarcegan.data.files import Source
from scarcegan.data.rules import (
    ONE_LABEL,
    Layout,
    Problem,
    count_broken_rules,
    label_position_sql,
    require_columns,
    unknown_label_rule,
)
from scarcegan.data.schema import UNLABELLED
from scarcegan.data.users import user_rules, user_sql
from scarcegan.sql import first_record

UserLabels = dict[str, int]


def open_labels(path: Path, layout: Layout) -> list[Source]:
    """The files of a labels file or folder, grouped by header: a Source per group.

    Raises UserError when `path` does not exist or holds no data file, or when a file cannot be read, lacks the user or
    label column, or has one of them twice.
    """
    expected = (layout.user, layout.label)
    sources = files.group_by_header(files.find_data_files(path), expected, root=path)
    for source in sources:
        require_columns(source, layout, expected)
    return sources


def read_labels(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], path: Path, layout: Layout
) -> tuple[UserLabels, list[Problem]]:
    """Read labels: {user: class position} of every labelled user, and the problems found ([]: none).

    sources: what open_labels returned for `path`.

    Rows with a blank label or with "unlabelled" are skipped. The problems are:

    - a row without a user, whatever its label: skipped, droppable
    - a row whose label is not one of the classes: skipped, droppable
    - two different labels of one user: not droppable; the user keeps the one that is read first
    - a class without users: not droppable; reported only when there is no other problem

    Raises UserError for a file that cannot be read.
    """
    labels: UserLabels = {}
    _, _, problems = count_broken_rules(
        connection, sources, lambda source: [*user_rules(source, layout), unknown_label_rule(source, layout)]
    )
    for source in sources:
        who = user_sql(source, layout.user)
        with files.naming_the_damaged_file([source]):
            rows = connection.execute(
                f"SELECT {who}, {label_position_sql(source, layout)} FROM {source.table} "
                f"WHERE {who} IS NOT NULL AND {label_position_sql(source, layout)} <> {UNLABELLED}"
            ).fetchall()
        problems += add_labels(labels, rows, source, layout)
    if not problems:
        problems += classes_without_users(Counter(labels.values()), path, layout)
    return labels, problems


def add_labels(labels: UserLabels, rows: list[tuple[str, int]], source: Source, layout: Layout) -> list[Problem]:
    """Add (user, class position) pairs to `labels`, {user: class position}, which is changed.

    Returns a list with one problem, which is not droppable, when a user has two different labels, among the pairs or in
    `labels` already; otherwise []. Such a user keeps the first. source: the files the pairs come from, whose first is
    named in the problem.
    """
    twice = [(user, labels[user], label) for user, label in rows if labels.setdefault(user, label) != label]
    if not twice:
        return []
    user, first, second = twice[0]
    names = f"'{layout.classes[first]}' and '{layout.classes[second]}'"
    more = f" ({len(twice):,} such users)" if len(twice) > 1 else ""
    file = source.files[0]
    return [Problem(f"{file}: user '{user}' is labelled {names}{more}", ONE_LABEL, len(twice))]


def classes_without_users(counts: Counter[int], path: Path, layout: Layout) -> list[Problem]:
    """A list with one problem, which names the first class without a labelled user; [] when every class has one.

    The problem is not droppable. counts: class position -> number of users; a class that is not in it has none. path:
    where the labels were read, named in the problem.
    """
    missing = [name for i, name in enumerate(layout.classes) if not counts[i]]
    if not missing:
        return []
    found = ", ".join(f"{name} {counts[i]:,}" for i, name in enumerate(layout.classes))
    return [
        Problem(
            f"{path}: no user is labelled '{missing[0]}' (found: {found})",
            "Label some users with it, or remove the class under labels in config.yaml.",
        )
    ]


def labels_without_rows(
    connection: duckdb.DuckDBPyConnection, labels: UserLabels, sources: Sequence[Source], layout: Layout, path: Path
) -> list[Problem]:
    """A list with one problem when labelled users have no row in the data; otherwise [].

    The problem names the first of these users, and a user of the data when no labelled one is there; it is droppable
    when some labelled user is there, because the labels of the others may be left out.

    labels: {user: class position}; sources: the data files; path: the labels file or folder, named in the problem. The
    connection keeps a view named labelled.
    """
    connection.register("labelled", pa.table({"known": pa.array(labels, pa.string())}))
    seen: set[str] = set()
    for source in sources:
        who = f"SELECT {user_sql(source, layout.user)} AS u FROM {source.table}"
        with files.naming_the_damaged_file([source]):
            found = connection.execute(f"SELECT DISTINCT u FROM ({who}) SEMI JOIN labelled ON u = known").fetchall()
        seen.update(user for (user,) in found)
    missing = [user for user in labels if user not in seen]
    if not missing:
        return []
    more = f" ({len(missing):,} such users)" if len(missing) > 1 else ""
    fact = f"{path}: user '{missing[0]}' is labelled, but is not in the data{more}"
    advice = "Add the user's rows, remove the label, or set data.bad_rows to drop."
    if not seen:
        advice = "Export both with the same ids."
        query = f"SELECT min({user_sql(sources[0], layout.user)}) FROM {sources[0].table}"
        fact += f", where a user is called '{first_record(connection, query)[0]}'"
    return [Problem(fact, advice, len(missing), droppable=bool(seen))]


def labels_of(labels: UserLabels, user_id: np.ndarray) -> np.ndarray:
    """The class position of each user, int8 [n]; UNLABELLED for a user without a label.

    labels: {user: class position}; user_id: names of the users [n].
    """
    return np.fromiter((labels.get(user, UNLABELLED) for user in user_id), np.int8, len(user_id))
