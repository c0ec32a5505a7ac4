"""Ready feature tables: features per user that were made elsewhere, with the label in a column or in a file of its own.

Columns are numbers, or names when listed under data.categories; a name is replaced by its code (categories.py).
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scarcegan.data import files
from scarcegan.data.categories import MOST_TEXTS, TRUTHS, Categories, code, places, with_codes
from scarcegan.data.days import day_rule, day_sql
from scarcegan.data.files import Source
from scarcegan.data.rules import (
    ONE_LABEL,
    Layout,
    Problem,
    Rule,
    count_broken_rules,
    first_places,
    label_position_sql,
    no_number_sql,
    number_sql,
    open_sources,
    require_columns,
    text_sql,
    unknown_label_rule,
)
from scarcegan.data.schema import KEYS, UNLABELLED, FeatureTable
from scarcegan.data.users import user_rules, user_sql
from scarcegan.errors import UserError
from scarcegan.sql import aggregates, first_record, sql_literal, sql_name

CATEGORY_ADVICE = "List a column of names under data.categories."
LARGEST_FLOAT32 = 1e38  # a larger number may not fit into 32 bits


def open_ready_table(path: Path, layout: Layout, columns: Sequence[str]) -> list[Source]:
    """The files of a ready table at `path`, grouped by header and class folder: a Source per group.

    columns: the feature columns without the categories, empty when they are still to be found. When `layout.user` is
    "", the table needs no user column. The time column may be missing in all files, the label column in any.

    Raises UserError when there are no files, when a folder beside class folders is not named after a class, or when a
    file cannot be read, lacks the user column, a feature or a category, or is a CSV file that has one of them twice.
    """
    users = [layout.user] if layout.user else []
    found = open_sources(Path(path), layout, (*users, *columns, *layout.categories), (layout.time, layout.label))
    if any(layout.time in source.columns for source in found):
        for source in found:
            require_columns(source, layout, [layout.time])
    return found


def select_feature_columns(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout, columns: Sequence[str]
) -> tuple[str, ...]:
    """The names of the feature columns: `columns`, or every numeric column when it is empty; then the categories.

    Raises UserError for a feature or category named user_id, as_of or label; when `columns` is empty, also when there
    is neither a numeric column nor a category, when files have different numeric columns, or when a file cannot be
    read.
    """
    taken = sorted({*columns, *layout.categories} & set(KEYS))
    if taken:
        key = "data.columns" if taken[0] in columns else "data.categories"
        raise UserError(f"{key}: '{taken[0]}' is a reserved column name in feature tables. Rename that column.")
    return (*(columns or common_numeric_columns(connection, sources, layout)), *layout.categories)


def common_numeric_columns(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout
) -> tuple[str, ...]:
    """The columns that hold only numbers and blanks in every group of files, and at least one number, in file order.

    Categories, the user, time and label columns, and columns named user_id, as_of or label are not among them.

    Raises UserError when there is neither such a column nor a category, when a column with numbers is missing from a
    group, or holds something else there, or when a file cannot be read.
    """
    keys = {layout.user, layout.time, layout.label, *KEYS, *layout.categories}
    found = [numbers_in(connection, source, [c for c in source.columns if c not in keys]) for source in sources]
    numeric = [column for column in dict.fromkeys(chain(*found)) if any(own.get(column) for own in found)]
    if not numeric and not layout.categories:
        raise UserError(
            f"{sources[0].files[0]}: no numeric column (found: {', '.join(sources[0].columns)}). Check the file."
        )
    for source, own in zip(sources, found, strict=True):
        odd = [column for column in numeric if column not in own]
        if odd:
            raise UserError(
                f"{source.files[0]}: column '{odd[0]}' is not in every file, or not a number in every file. "
                "Name the feature columns under data.columns in config.yaml."
            )
    return tuple(numeric)


def unused_columns(sources: Sequence[Source], layout: Layout, columns: Sequence[str]) -> list[str]:
    """The columns of the files that nothing reads, in the order of the files, each once.

    Not among them are the feature columns `columns` (categories included) and the user, time and label columns.
    """
    used = {layout.user, layout.time, layout.label, *columns}
    return list(dict.fromkeys(column for source in sources for column in source.columns if column not in used))


def numbers_in(connection: duckdb.DuckDBPyConnection, source: Source, candidates: Sequence[str]) -> dict[str, int]:
    """Those of the columns `candidates`, in their order, that hold only numbers and blanks -> how many numbers.

    Raises UserError for a file that cannot be read.
    """
    if not candidates:
        return {}
    tests = []
    for column in candidates:
        other = "0" if source.kind(column) == "number" else f"count_if({no_number_sql(source, column)})"
        tests.append(f"CASE WHEN {other} = 0 THEN count({number_sql(source, column)}) END")
    with files.naming_the_damaged_file([source]):
        _, *row = aggregates(connection, tests, source.table)[0]
    return {column: numbers for column, numbers in zip(candidates, row, strict=True) if numbers is not None}


def row_rules(source: Source, layout: Layout, columns: Sequence[str]) -> list[Rule]:
    """The rules for a single row of a ready table, about its user, day, features (`columns`, categories too) and label.

    A column that layout or the source does not have gets no rule; nor does the label in a class folder. A blank or NaN
    feature is a missing value and breaks no rule.
    """
    found = []
    if layout.user:
        found += user_rules(source, layout)
    if layout.time in source.columns:
        found.append(day_rule(source, layout))
    for column in columns:
        found += category_rules(source, column) if column in layout.categories else number_rules(source, column)
    if source.class_name is None and layout.label in source.columns:
        found.append(unknown_label_rule(source, layout))
    return found


def good_sql(source: Source, layout: Layout, columns: Sequence[str]) -> str:
    """SQL condition: a row breaks none of its row_rules. columns: the feature columns, categories included."""
    bad = " OR ".join(f"({rule.test})" for rule in row_rules(source, layout, columns)) or "false"
    return f"NOT coalesce({bad}, false)"


def number_rules(source: Source, column: str) -> list[Rule]:
    """The rules for a numeric feature: its value must be a number, and neither infinite nor beyond LARGEST_FLOAT32.

    A blank value and NaN break neither.
    """
    value = number_sql(source, column)
    large = f"abs({value}) > {LARGEST_FLOAT32} AND NOT isnan({value})"
    rules = [Rule(column, large, "is infinite or far too large")]
    if source.kind(column) == "number":
        return rules
    return [Rule(column, no_number_sql(source, column), "is not a number", CATEGORY_ADVICE), *rules]


def category_rules(source: Source, column: str) -> list[Rule]:
    """The rules for a category column: none for text; in a numeric column a value must be a whole number or missing."""
    if source.kind(column) != "number":
        return []
    value = number_sql(source, column)
    test = f"({value} != trunc({value}) OR isinf({value})) AND NOT isnan({value})"
    return [Rule(column, test, "is not a whole number", "Categories are text or whole numbers.")]


def category_sql(source: Source, column: str) -> str:
    """SQL expression of a category as text without spaces around it, NULL where it is blank.

    A number 6.0 in a numeric column of a Parquet file becomes "6", a NaN "nan", and True in any case "true"; other text
    stays as it is. column: its name, a key of source.columns.
    """
    words, type_ = text_sql(column), source.columns[column]
    if source.kind(column) != "number":
        truths = ", ".join(map(sql_literal, TRUTHS))
        return f"(CASE WHEN length({words}) < 6 AND lower({words}) IN ({truths}) THEN lower({words}) ELSE {words} END)"
    if pa.types.is_floating(type_):  # as text 1e16 would be "1e+16"
        value, whole = sql_name(column), f"CAST(TRY_CAST({sql_name(column)} AS HUGEINT) AS VARCHAR)"
        return f"(CASE WHEN {value} = trunc({value}) THEN coalesce({whole}, {words}) ELSE {words} END)"
    return f"regexp_replace({words}, '\\.0+$', '')"


def known_texts(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> Categories:
    """The most frequent texts of each category column with their codes: {column: {text: code}} (see categories.code).

    There are at most MOST_TEXTS texts per column, the most frequent first. sources: the data files; layout: names the
    category columns.

    Raises UserError for a file that cannot be read.
    """
    found = {}
    for column in layout.categories:
        parts = [f"SELECT {category_sql(source, column)} AS category FROM {source.table}" for source in sources]
        union = " UNION ALL ".join(parts)
        with files.naming_the_damaged_file(sources):
            rows = connection.execute(
                f"SELECT category FROM ({union}) WHERE category IS NOT NULL GROUP BY category "
                f"ORDER BY count(*) DESC, category LIMIT {MOST_TEXTS}"
            ).fetchall()
        found[column] = with_codes(category for (category,) in rows)
    return found


def scan_ready_table(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout, columns: Sequence[str]
) -> tuple[int, list[Problem]]:
    """Count the rows of a ready table and list its mistakes. Returns the number of rows and the problems ([]: none).

    - mistakes in a single row: a Problem per rule (see `row_rules`) and group of files, droppable
    - with a user column, users with two rows for a day, and users with two labels: a Problem each, not droppable

    columns: the feature columns, categories included.

    Raises UserError when the files hold no row or cannot be read.
    """
    rows, _, problems = count_broken_rules(connection, sources, lambda source: row_rules(source, layout, columns))
    if rows == 0:
        raise UserError(f"{sources[0].files[0]}: it has a header but no rows. Export it again.")
    if layout.user:
        conflicts = (users_with_two_rows, users_with_two_labels)
        problems += [one for find in conflicts for one in find(connection, sources, layout, columns, bool(problems))]
    problems += categories_spelled_twice(connection, sources, layout)
    return rows, problems


def users_with_two_rows(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[Source],
    layout: Layout,
    columns: Sequence[str],
    some_bad: bool,
) -> list[Problem]:
    """A list with one problem when users have more than one row for one day; otherwise [].

    The problem names the first of these users by name, with two of the rows; it is not droppable. Without a time column
    all rows count as of one day. Rows that break a rule do not count. columns: the feature columns;
    some_bad: whether there are such rows.

    Raises UserError for a file that cannot be read.
    """
    union = " UNION ALL ".join(
        f"SELECT {user_sql(source, layout.user)} AS u, {as_of_sql(source, layout)} AS d FROM {source.table} "
        f"WHERE {good_sql(source, layout, columns) if some_bad else 'true'}"
        for source in sources
    )
    twice = f"SELECT u, d, count(*) AS n FROM ({union}) WHERE u IS NOT NULL GROUP BY u, d HAVING count(*) > 1"
    with files.naming_the_damaged_file(sources):
        found = first_record(connection, f"SELECT u, d, count(DISTINCT u) OVER () FROM ({twice}) ORDER BY u, d LIMIT 1")
    if not found:
        return []
    user, day, count = found

    def test(source: Source) -> str:
        same_day = f"{as_of_sql(source, layout)} IS NOT DISTINCT FROM TRY_CAST('{day}' AS DATE)"
        good = good_sql(source, layout, columns) if some_bad else "true"
        return f"{user_sql(source, layout.user)} = {sql_literal(user)} AND {same_day} AND {good}"

    places = " and ".join(f"{file} row {row}" for file, row in first_places(connection, sources, test))
    more = f" ({count:,} such users)" if count > 1 else ""
    dated = any(layout.time in source.columns for source in sources)
    advice = (
        "Keep one row per user and day."
        if dated
        else "Keep one row per user, or name the day of a row under data.time_column."
    )
    when = f" on {day}" if dated and day else ""
    return [Problem(f"{places}: user '{user}' has more than one row{when}{more}", advice, count)]


def users_with_two_labels(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[Source],
    layout: Layout,
    columns: Sequence[str],
    some_bad: bool,
) -> list[Problem]:
    """A list with one problem when the rows of a user have different labels; otherwise []. Unlabelled rows are ignored.

    The problem names the first of these users by name; it is not droppable. Rows that break a rule do not count.
    columns: the feature columns; some_bad: whether there are such rows.

    Raises UserError for a file that cannot be read.
    """
    union = " UNION ALL ".join(
        f"SELECT {user_sql(source, layout.user)} AS u, {label_position_sql(source, layout)} AS l, "
        f"{sql_name(files.FILE_COLUMN)} AS f FROM {source.table} "
        f"WHERE {good_sql(source, layout, columns) if some_bad else 'true'}"
        for source in sources
    )
    with files.naming_the_damaged_file(sources):
        found = first_record(
            connection,
            f"SELECT u, min(l), max(l), arg_max(f, l), count(*) OVER () FROM ({union}) "
            f"WHERE u IS NOT NULL AND l <> {UNLABELLED} GROUP BY u HAVING min(l) < max(l) ORDER BY u LIMIT 1",
        )
    if not found:
        return []
    user, low, high, where, count = found
    names = " and ".join(f"'{layout.classes[place]}'" for place in (low, high))
    more = f" ({count:,} such users)" if count > 1 else ""
    return [Problem(f"{where}: user '{user}' is labelled {names}{more}", ONE_LABEL, count)]


def categories_spelled_twice(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout
) -> list[Problem]:
    """A problem, not droppable, for each category that is a number in some files and text such as "6.0" in others.

    The number 6.0 is the name "6", so one category would have two names.

    Raises UserError for a file that cannot be read.
    """
    problems = []
    for column in layout.categories:
        numbers = [source for source in sources if source.kind(column) == "number"]
        for source in (one for one in sources if numbers and one.kind(column) != "number"):
            test = f"regexp_full_match({text_sql(column)}, '[+-]?[0-9]+\\.0*')"
            with files.naming_the_damaged_file([source]):
                query = f"SELECT any_value({text_sql(column)}), count(*) FROM {source.table} WHERE {test}"
                shown, count = first_record(connection, query)
            if count:
                fact = f"{source.files[0]}: category '{column}' is text such as '{shown}', but a number in"
                fact = f"{fact} {numbers[0].files[0]}"
                problems.append(Problem(fact, "Export it the same in every file.", count))
                break
    return problems


def as_of_sql(source: Source, layout: Layout) -> str:
    """SQL expression (DATE) of the last day that a row's features take into account.

    It is the day in the time column; in a table without one, `layout.start`, or NULL when that is "".
    """
    if layout.time in source.columns:
        return day_sql(source, layout)
    return f"DATE '{layout.start}'" if layout.start else "CAST(NULL AS DATE)"


def read_ready_table(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[Source],
    layout: Layout,
    columns: Sequence[str],
    batch_rows: int,
    some_bad: bool = True,
) -> Iterator[FeatureTable]:
    """Yield the rows that break no rule as feature tables of at most `batch_rows` rows, in the order of the files.

    some_bad: whether some rows may break one.

    All rows of a user with two rows for a day or two labels are yielded. columns: the feature columns, categories
    included. Without a user column, user_id is the number of the yielded row as text, from 1 on through all files.

    Raises UserError, while rows are read, for a file that cannot be read.
    """
    categories = known_texts(connection, sources, layout)
    connection.execute("SET preserve_insertion_order = true")
    numbered = 0
    for source in sources:
        who = user_sql(source, layout.user) if layout.user else f"CAST(row_number() OVER () + {numbered} AS VARCHAR)"
        values = [f"{feature_sql(source, column, layout)} AS {sql_name(f'f{i}')}" for i, column in enumerate(columns)]
        selected = [
            f"{who} AS user",
            f"{as_of_sql(source, layout)} AS as_of",
            f"{label_position_sql(source, layout)} AS label",
            *values,
        ]
        where = f"WHERE {good_sql(source, layout, columns)}" if some_bad else ""
        query = f"SELECT {', '.join(selected)} FROM {source.table} {where}"
        with files.naming_the_damaged_file([source]):
            for batch in connection.sql(query).to_arrow_reader(batch_rows):
                numbered += batch.num_rows
                yield as_feature_table(batch, columns, categories)


def feature_sql(source: Source, column: str, layout: Layout) -> str:
    """SQL expression of a feature: a 32-bit number, or a category's text (see `category_sql`); NULL when blank.

    A value that is not a number is NULL, too.
    """
    if column in layout.categories:
        return category_sql(source, column)
    return f"CAST({number_sql(source, column)} AS FLOAT)"


def as_feature_table(batch: pa.RecordBatch, columns: Sequence[str], categories: Categories) -> FeatureTable:
    """A FeatureTable from an Arrow batch with the columns user, as_of, label, f0, f1, …; text becomes its code.

    columns: the feature names, in the order f0, f1, …; categories: {feature name: {text: code}} of the categories, kept
    in the result. A code is computed from the text, so it need not be among `categories`.
    """
    user_id = batch.column("user").to_numpy(zero_copy_only=False).astype(object)
    texts = places(columns, categories)
    values = [
        category_codes(batch.column(f"f{i}")) if i in texts else batch.column(f"f{i}").to_numpy(zero_copy_only=False)
        for i in range(len(columns))
    ]
    as_of = batch.column("as_of").to_numpy(zero_copy_only=False).astype("datetime64[D]")
    rows = np.stack(values, axis=1).astype(np.float32)
    return FeatureTable(user_id, as_of, batch.column("label").to_numpy(), tuple(columns), rows, categories)


def category_codes(column: pa.Array) -> np.ndarray:
    """The codes (see categories.code) of a column of category texts [n]: float [n], NaN for NULL, blank or "nan"."""
    encoded = pc.dictionary_encode(column)
    known = np.array([*(code(text) for text in encoded.dictionary.to_pylist()), np.nan])
    return known[pc.fill_null(encoded.indices, len(known) - 1).to_numpy(zero_copy_only=False)]
