"""Ready feature tables: a row per user, made elsewhere, with the label beside it or in a file of its own.

Columns are numbers, or names where data.categories says so; a name is handed on as its code (categories.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scarcegan.data import files
from scarcegan.data.categories import MOST_TEXTS, Categories, code, places, with_codes
from scarcegan.data.files import Source, literal, name
from scarcegan.data.rules import (
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
from scarcegan.data.schema import KEYS, UNLABELLED, FeatureTable
from scarcegan.errors import UserError

NAMES = "A column of names belongs under data.categories."
NO_DAY = date(1970, 1, 1)  # a table without a time column knows none
LARGEST = 1e38  # of a 32-bit number, about


def open_ready(path: Path, layout: Layout, columns: Sequence[str]) -> list[Source]:
    """The files of the table; UserError if there are none or a named column is missing. Without a user column rows are
    numbered.
    """
    expected = (*([layout.user] if layout.user else []), *columns, *layout.categories)
    folders = class_folders(Path(path), layout.classes)
    groups = [(folder.name, files.find(folder)) for folder in folders] if folders else [(None, files.find(path))]
    opened = [source for class_name, inside in groups for source in files.sources(inside, expected, class_name)]
    for source in opened:
        need_columns(source, layout, expected)
    return opened


def feature_columns(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout, columns: Sequence[str]
) -> tuple[str, ...]:
    """The chosen columns, or every one that holds nothing but numbers; then the categories.

    UserError if none is left or files disagree.
    """
    taken = sorted({*columns, *layout.categories} & set(KEYS))
    if taken:
        key = "data.columns" if taken[0] in columns else "data.categories"
        raise UserError(f"{key}: '{taken[0]}' has a meaning of its own in feature tables. Rename that column.")
    return (*(columns or numbers(connection, sources, layout)), *layout.categories)


def numbers(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> tuple[str, ...]:
    """Every column that holds nothing but numbers and is no category; UserError if files disagree."""
    keys = {layout.user, layout.time, layout.label, *KEYS, *layout.categories}
    found = [numeric_columns(connection, source, [c for c in source.columns if c not in keys]) for source in sources]
    if not found[0] and not layout.categories:
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


def unused_columns(sources: Sequence[Source], layout: Layout, columns: Sequence[str]) -> list[str]:
    """Columns that are neither a feature nor a key, in the order of the first file that has them."""
    used = {layout.user, layout.time, layout.label, *KEYS, *columns}
    return list(dict.fromkeys(column for source in sources for column in source.columns if column not in used))


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
        found += category_rules(source, column) if column in layout.categories else number_rules(source, column)
    if source.class_name is None and layout.label in source.columns:
        found.append(unknown_label(source, layout))
    return found


def number_rules(source: Source, column: str) -> list[Rule]:
    value, words = number(source, column), text(column)
    return [
        Rule(column, f"{words} IS NOT NULL AND {value} IS NULL", "is not a number", f"{NAMES} {DROP}"),
        Rule(column, f"abs({value}) > {LARGEST} AND NOT isnan({value})", "is infinite or far too large", DROP),
    ]


def category_rules(source: Source, column: str) -> list[Rule]:
    """Any text is a category, and so is a whole number; other numbers are something else."""
    if source.columns[column] != "number":
        return []
    value = number(source, column)
    test = f"{value} != trunc({value}) AND NOT isnan({value})"
    return [Rule(column, test, "is no whole number", f"Categories are text or whole numbers. {DROP}")]


def category(source: Source, column: str) -> str:
    """SQL: a category as text. In Parquet 6.0 is the number 6; in CSV it is what the file says."""
    words = text(column)
    return f"regexp_replace({words}, '\\.0+$', '')" if source.columns[column] == "number" else words


def known_texts(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> Categories:
    """The most frequent texts of each category, with their codes."""
    found = {}
    for column in layout.categories:
        parts = [f"SELECT {category(source, column)} AS said FROM {source.table}" for source in sources]
        union = " UNION ALL ".join(parts)
        with files.reading(sources):
            rows = connection.execute(
                f"SELECT said FROM ({union}) WHERE said IS NOT NULL GROUP BY said "
                f"ORDER BY count(*) DESC, said LIMIT {MOST_TEXTS}"
            ).fetchall()
        found[column] = with_codes(said for (said,) in rows)
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
    if layout.user:
        problems += repeated(connection, sources, layout) + torn(connection, sources, layout)
    return rows, problems


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


def torn(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> list[Problem]:
    """A problem if a user's rows carry two labels."""
    who, file = text(layout.user), name(files.FILE)
    parts = [f"SELECT {who} AS u, {label_code(one, layout)} AS l, {file} AS f FROM {one.table}" for one in sources]
    union = " UNION ALL ".join(parts)
    with files.reading(sources):
        found = connection.execute(
            f"SELECT u, min(l), max(l), arg_max(f, l), count(*) OVER () FROM ({union}) "
            f"WHERE u IS NOT NULL AND l <> {UNLABELLED} GROUP BY u HAVING min(l) < max(l) ORDER BY u LIMIT 1"
        ).fetchone()
    if not found:
        return []
    user, low, high, where, count = found
    names = " and ".join(f"'{layout.classes[place]}'" for place in (low, high))
    more = f" ({count:,} such users)" if count > 1 else ""
    return [Problem(f"{where}: user '{user}' is labelled {names}{more}. Keep one label per user.", count)]


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
    categories = known_texts(connection, sources, layout)
    connection.execute("SET preserve_insertion_order = true")
    numbered = 0
    for source in sources:
        bad = " OR ".join(f"({rule.test})" for rule in rules(source, layout, columns)) or "false"
        who = text(layout.user) if layout.user else f"CAST(row_number() OVER () + {numbered} AS VARCHAR)"
        values = [f"{value(source, column, layout)} AS {name(f'f{i}')}" for i, column in enumerate(columns)]
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
                yield table(batch, columns, categories)


def value(source: Source, column: str, layout: Layout) -> str:
    """SQL: a feature as it is read, a category as text."""
    if column in layout.categories:
        return category(source, column)
    return f"CAST({number(source, column)} AS FLOAT)"


def table(batch: pa.RecordBatch, columns: Sequence[str], categories: Categories) -> FeatureTable:
    """A piece as a feature table."""
    user_id = batch.column("user").to_numpy(zero_copy_only=False).astype(object)
    texts = places(columns, categories)
    values = [
        codes(batch.column(f"f{i}")) if i in texts else batch.column(f"f{i}").to_numpy(zero_copy_only=False)
        for i in range(len(columns))
    ]
    as_of = batch.column("as_of").to_numpy(zero_copy_only=False).astype("datetime64[D]")
    rows = np.stack(values, axis=1).astype(np.float32)
    return FeatureTable(user_id, as_of, batch.column("label").to_numpy(), tuple(columns), rows, categories)


def codes(column: pa.Array) -> np.ndarray:
    """A column of texts [n] as codes, float [n], NaN where there is none; every text is hashed once."""
    told = pc.dictionary_encode(column)
    known = np.array([*(code(text) for text in told.dictionary.to_pylist()), np.nan])
    return known[pc.fill_null(told.indices, len(known) - 1).to_numpy(zero_copy_only=False)]
