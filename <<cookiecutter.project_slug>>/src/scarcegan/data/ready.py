"""Ready feature tables: a row per user, made elsewhere, with the label beside it or in a file of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from scarcegan.data import files
from scarcegan.data.checks import (
    DROP,
    Layout,
    Problem,
    Rule,
    class_folders,
    day,
    describe,
    label_code,
    need_columns,
    number,
    tally,
    text,
    unknown_label,
)
from scarcegan.data.files import Source, literal, name
from scarcegan.data.schema import KEYS, FeatureTable
from scarcegan.errors import UserError

NO_DAY = date(1970, 1, 1)  # a table without a time column knows none
LARGEST = 1e38  # of a 32-bit number, about


def open_ready(path: Path, layout: Layout, columns: Sequence[str]) -> list[Source]:
    """The files of the table; UserError if there are none or a named column is missing. Without a user column rows are
    numbered.
    """
    expected = (*([layout.user] if layout.user else []), *columns)
    folders = class_folders(Path(path), layout.classes)
    groups = [(folder.name, files.find(folder)) for folder in folders] if folders else [(None, files.find(path))]
    opened = [source for class_name, inside in groups for source in files.sources(inside, expected, class_name)]
    for source in opened:
        need_columns(source, layout, expected)
    return opened


def feature_columns(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout, columns: Sequence[str]
) -> tuple[str, ...]:
    """The chosen columns, or every one that holds nothing but numbers. UserError if none is left or files disagree."""
    taken = sorted(set(columns) & set(KEYS))
    if taken:
        raise UserError(f"data.columns: '{taken[0]}' has a meaning of its own in feature tables. Rename that column.")
    if columns:
        return tuple(columns)
    keys = {layout.user, layout.time, layout.label, *KEYS}
    found = [numeric_columns(connection, source, [c for c in source.columns if c not in keys]) for source in sources]
    if not found[0]:
        raise UserError(
            f"{sources[0].files[0]}: no numeric column (found: {', '.join(sources[0].columns)}). Check the file."
        )
    for source, own in zip(sources, found, strict=True):
        odd = [column for column in [*found[0], *own] if (column in found[0]) != (column in own)]
        if odd:
            raise UserError(
                f"{source.files[0]}: column '{odd[0]}' is not in every file, or not a number in every file. "
                "Name the feature columns under data.columns in config.yaml."
            )
    return tuple(found[0])


def numeric_columns(connection: duckdb.DuckDBPyConnection, source: Source, candidates: Sequence[str]) -> list[str]:
    """Those candidates without any text; an entirely empty one is left out."""
    if not candidates:
        return []
    tests = [f"count({number(source, c)}) > 0 AND count({text(c)}) = count({number(source, c)})" for c in candidates]
    with files.reading([source]):
        row = connection.execute(f"SELECT {', '.join(tests)} FROM {source.table}").fetchone() or ()
    return [column for column, numeric in zip(candidates, row, strict=True) if numeric]


def rules(source: Source, layout: Layout, columns: Sequence[str]) -> list[Rule]:
    """Every way in which a row can be bad by itself. An empty feature is a missing value, no mistake."""
    found = []
    if layout.user:
        found.append(Rule(layout.user, f"{text(layout.user)} IS NULL", "is empty", f"A row needs its user. {DROP}"))
    if layout.time in source.columns:
        bad = f"{day(source, layout.time)} IS NULL"
        found.append(Rule(layout.time, bad, "is no date", f"Write dates as 2026-01-31. {DROP}"))
    for column in columns:
        value, words = number(source, column), text(column)
        found += [
            Rule(column, f"{words} IS NOT NULL AND {value} IS NULL", "is not a number", DROP),
            Rule(column, f"abs({value}) > {LARGEST} AND NOT isnan({value})", "is infinite or far too large", DROP),
        ]
    if source.class_name is None and layout.label in source.columns:
        found.append(unknown_label(source, layout))
    return found


def survey(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout, columns: Sequence[str]
) -> tuple[int, list[Problem]]:
    """Number of rows, and every problem found."""
    rows = 0
    problems: list[Problem] = []
    for source in sources:
        own, _, bad = tally(connection, source, rules(source, layout, columns), "NULL")
        rows, problems = rows + own, problems + bad
    if rows == 0:
        raise UserError(f"{sources[0].files[0]}: a header and no rows. Export it again.")
    return rows, problems + (repeated(connection, sources, layout) if layout.user else [])


def repeated(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> list[Problem]:
    """A problem if a user has two rows for one day."""
    parts = [f"SELECT {text(layout.user)} AS u, {as_of(source, layout)} AS d FROM {source.table}" for source in sources]
    union = " UNION ALL ".join(parts)
    with files.reading(sources):
        twice = f"SELECT u FROM ({union}) WHERE u IS NOT NULL GROUP BY u, d HAVING count(*) > 1"
        found = connection.execute(f"SELECT u, count(*) OVER () FROM ({twice}) ORDER BY u LIMIT 1").fetchone()
    if not found:
        return []
    test = f"{text(layout.user)} = {literal(found[0])}"
    rule = Rule(layout.user, test, "has more than one row", "Keep one row per user.")
    owner = next(s for s in sources if connection.execute(f"SELECT 1 FROM {s.table} WHERE {test} LIMIT 1").fetchone())
    return [replace(describe(connection, owner, rule, found[1]), droppable=False)]


def as_of(source: Source, layout: Layout) -> str:
    """SQL: the day a row knows about."""
    return day(source, layout.time) if layout.time in source.columns else f"DATE '{layout.start or NO_DAY}'"


def tables(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[Source],
    layout: Layout,
    columns: Sequence[str],
    batch_rows: int,
) -> Iterator[FeatureTable]:
    """The good rows in pieces, in the order of the files."""
    connection.execute("SET preserve_insertion_order = true")
    numbered = 0
    for source in sources:
        bad = " OR ".join(f"({rule.test})" for rule in rules(source, layout, columns)) or "false"
        who = text(layout.user) if layout.user else f"CAST(row_number() OVER () + {numbered} AS VARCHAR)"
        values = [f"CAST({number(source, column)} AS FLOAT) AS {name(f'f{i}')}" for i, column in enumerate(columns)]
        selected = [
            f"{who} AS user",
            f"{as_of(source, layout)} AS as_of",
            f"{label_code(source, layout)} AS label",
            *values,
        ]
        query = f"SELECT {', '.join(selected)} FROM {source.table} WHERE NOT coalesce({bad}, false)"
        with files.reading([source]):
            for batch in connection.sql(query).to_arrow_reader(batch_rows):
                numbered += batch.num_rows
                yield table(batch, columns)


def table(batch: pa.RecordBatch, columns: Sequence[str]) -> FeatureTable:
    """A piece as a feature table."""
    user_id = batch.column("user").to_numpy(zero_copy_only=False).astype(object)
    values = [batch.column(f"f{i}").to_numpy(zero_copy_only=False) for i in range(len(columns))]
    as_of = batch.column("as_of").to_numpy(zero_copy_only=False).astype("datetime64[D]")
    return FeatureTable(
        user_id, as_of, batch.column("label").to_numpy(), tuple(columns), np.stack(values, axis=1).astype(np.float32)
    )
