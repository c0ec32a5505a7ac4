"""Checks: what users call their columns, how a column is read, and bad records put into words.

A rule is an SQL condition; a broken rule becomes a Problem that names file, row, column and the next move. Which rules
hold for telemetry, labels and ready tables stands in telemetry.py, labels.py and ready.py.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from scarcegan.data import files
from scarcegan.data.files import Source, literal, name
from scarcegan.data.schema import UNLABELLED, UNLABELLED_NAME
from scarcegan.errors import UserError

LARGEST = 1e15  # a number beyond it is as good as infinite
DROP = "Correct it, or set data.bad_rows to drop."


@dataclass(frozen=True)
class Layout:
    """What the user calls things, and the days of interest. start empty: the last `days` days found.

    categories: the columns of a ready table that hold names instead of numbers.
    """

    classes: tuple[str, ...]
    user: str = "user_id"
    time: str = "date"
    label: str = "label"
    counters: tuple[str, ...] = ()
    start: str = ""
    days: int = 60
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """One kind of mistake in the data: where it is first met, and how many rows have it."""

    message: str
    rows: int = 0
    droppable: bool = False


@dataclass(frozen=True)
class Rule:
    """A condition, in SQL, under which a record is bad."""

    column: str
    test: str
    fault: str
    advice: str


def need_columns(source: Source, layout: Layout, expected: Sequence[str]) -> None:
    """UserError for the first expected column that is not there, with the key of config.yaml that names it."""
    keys = {layout.user: "data.user_column", layout.time: "data.time_column", layout.label: "data.label_column"}
    for column in expected:
        if column not in source.columns:
            near = [other for other in source.columns if other.casefold() == column.casefold()]
            near = near or difflib.get_close_matches(column, source.columns, n=1)
            rest = {"data.counters": layout.counters, "data.categories": layout.categories}
            key = keys.get(column) or next((key for key, own in rest.items() if column in own), "data.columns")
            raise UserError(
                f"{source.files[0]}: no column '{column}' (found: {', '.join(source.columns)}). "
                + (f"Did you mean '{near[0]}'? " if near else "")
                + f"Name it under {key} in config.yaml."
            )


def class_folders(path: Path, classes: Sequence[str]) -> list[Path]:
    """The folders of `path` if they are called after classes; else none. UserError for one that is called otherwise."""
    inside = sorted(folder for folder in path.iterdir() if folder.is_dir()) if path.is_dir() else []
    inside = [folder for folder in inside if not files.hidden(folder.name)]
    if not any(folder.name in classes for folder in inside):
        return []
    for folder in inside:
        if folder.name not in (*classes, UNLABELLED_NAME):
            raise UserError(f"{folder}: {no_class(folder.name, classes)}")
    return inside


def no_class(label: str, classes: Sequence[str]) -> str:
    """What to say of a label that is none."""
    near = difflib.get_close_matches(label, [*classes, UNLABELLED_NAME], n=1)
    return (
        f"'{label}' is none of the classes ({', '.join(classes)}). "
        + (f"Did you mean '{near[0]}'? " if near else "")
        + "Correct it, or add the class under labels in config.yaml."
    )


def number(source: Source, column: str) -> str:
    """SQL: the column as a number, NULL where it is none."""
    if source.columns[column] == "number":
        return f"CAST({name(column)} AS DOUBLE)"
    return f"TRY_CAST(CAST({name(column)} AS VARCHAR) AS DOUBLE)"


def text(column: str) -> str:
    """SQL: the column as text, NULL where it is blank."""
    return f"nullif(trim(CAST({name(column)} AS VARCHAR)), '')"


def day(source: Source, column: str) -> str:
    """SQL: the column as a day (of UTC), NULL where it is none of this age; 9999-12-31 is none."""
    if source.columns[column] == "time":
        found = f"CAST({name(column)} AS DATE)"
    else:
        words = f"CAST({name(column)} AS VARCHAR)"
        found = f"coalesce(TRY_CAST({words} AS DATE), CAST(TRY_CAST({words} AS TIMESTAMP) AS DATE))"
    return f"(CASE WHEN {found} BETWEEN DATE '1900-01-01' AND DATE '2199-12-31' THEN {found} END)"


def label_text(source: Source, layout: Layout) -> str:
    """SQL: the label a record carries, NULL for none. It may stand in a column or in the name of the class folder."""
    if source.class_name is not None:
        return "NULL" if source.class_name == UNLABELLED_NAME else literal(source.class_name)
    if layout.label not in source.columns:
        return "NULL"
    return f"nullif({text(layout.label)}, {literal(UNLABELLED_NAME)})"


def label_code(source: Source, layout: Layout) -> str:
    """SQL: position of the label in the classes, UNLABELLED for none."""
    names = "[" + ", ".join(map(literal, layout.classes)) + "]"
    return f"CAST(coalesce(list_position({names}, {label_text(source, layout)}) - 1, {UNLABELLED}) AS TINYINT)"


def unknown_label(source: Source, layout: Layout) -> Rule:
    """The rule for labels beside the data."""
    names = ", ".join(map(literal, layout.classes))
    fault = f"is none of the classes ({', '.join(layout.classes)})"
    advice = "Correct it, add the class under labels in config.yaml, or set data.bad_rows to drop."
    return Rule(layout.label, f"{label_text(source, layout)} NOT IN ({names})", fault, advice)


def tally(
    connection: duckdb.DuckDBPyConnection, source: Source, rules: Sequence[Rule], extra: str
) -> tuple[int, tuple, list[Problem]]:
    """Rows of a source, the aggregates `extra`, and a problem for every rule that some row breaks."""
    counts = ", ".join(["count(*)", *(f"count_if({rule.test})" for rule in rules)])
    with files.reading([source]):
        row = connection.execute(f"SELECT {counts}, {extra} FROM {source.table}").fetchone() or ()
    broken = [(rule, count) for rule, count in zip(rules, row[1:], strict=False) if count]
    return row[0], row[1 + len(rules) :], [describe(connection, source, rule, count) for rule, count in broken]


def describe(connection: duckdb.DuckDBPyConnection, source: Source, rule: Rule, count: int) -> Problem:
    """A broken rule in words, with the first record that breaks it."""
    file, row = first_row(connection, source, rule.test)
    shown = connection.execute(
        f"SELECT CAST({name(rule.column)} AS VARCHAR) FROM {source.only(file).table} WHERE {rule.test} LIMIT 1"
    ).fetchone()
    value = f": '{shown[0][:60]}'" if shown and shown[0] else ""
    more = f" ({count:,} such rows)" if count > 1 else ""
    return Problem(f"{file} row {row}, column '{rule.column}'{value} {rule.fault}{more}. {rule.advice}", count, True)


def first_row(connection: duckdb.DuckDBPyConnection, source: Source, test: str) -> tuple[Path, int]:
    """File and row of the first record for which `test` holds, in the order of file names."""
    found = connection.execute(f"SELECT min({name(files.FILE)}) FROM {source.table} WHERE {test}").fetchone()
    file = Path(found[0]) if found and found[0] else source.files[0]
    return file, files.row_of(connection, source, file, test)
