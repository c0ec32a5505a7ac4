"""Rules: SQL conditions under which a record is bad, and the sentence for each rule that a file breaks.

A broken rule becomes a Problem that names file, row, column and the next move. The rules themselves are in
telemetry.py, labels.py and ready_tables.py.
"""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import duckdb

from scarcegan.data import files
from scarcegan.data.categories import SPACES
from scarcegan.data.files import Source
from scarcegan.data.schema import UNLABELLED, UNLABELLED_NAME
from scarcegan.errors import UserError
from scarcegan.sql import aggregates, first_record, sql_literal, sql_name

LARGEST_COUNT = 1e15  # a larger number is refused like an infinite one
# A name of a column that is more likely a value: a number, or a date.
RECORD_CELL = re.compile(
    r"[+-]?[0-9]+([.,][0-9]+)?|[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?|[0-9]{1,2}([./])[0-9]{1,2}\3[0-9]{4}.*"
)
ONE_LABEL = "Keep one label per user."


@dataclass(frozen=True)
class Layout:
    """The names of columns and classes in the user's data, and which days are read.

    - classes: class names, the rare class last
    - user, time, label: names of these columns; user "": rows have no user and are numbered (ready tables only)
    - counters: telemetry columns that hold a count per day
    - start: first day of telemetry to read, as 2026-01-31; "": the last `days` days in the data are read. In a ready
      table without a time column it is the day of every row
    - days: how many days of telemetry are read
    - categories: columns of a ready table that hold names, not numbers
    - time_zone: the zone in which an instant (a time with a UTC offset or zone) becomes a day; that of the connection
    - time_format: how a time that is no date or timestamp of Parquet is written: "" for ISO 8601, "epoch" or "epoch_ms"
      for seconds or milliseconds since 1970, or a pattern such as %d.%m.%Y
    - signed: counters that may be negative
    - aggregate: {counter: "sum", "mean", "max" or "count"}, how a user's records of a day become one value, for every
      counter; {}: a user has one record a day. "count" is the number of records and needs no column
    - missing_days: what a day without a record means: "unknown", or "zero" in every counter
    - labels_in: "inside" when a label column, "folders" when class folders must be in the data; "": neither
    """

    classes: tuple[str, ...]
    user: str = "user_id"
    time: str = "date"
    label: str = "label"
    counters: tuple[str, ...] = ()
    start: str = ""
    days: int = 60
    categories: tuple[str, ...] = ()
    time_zone: str = "UTC"
    time_format: str = ""
    signed: tuple[str, ...] = ()
    aggregate: Mapping[str, str] = field(default_factory=dict)
    missing_days: str = "unknown"
    labels_in: str = ""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Layout":
        """The Layout that settings give. They have the names of the features step's arguments, with "_" for "-": those
        of `data` in config.yaml, "classes" and "labels_in". Others are not looked at.

        Raises KeyError when one is missing.
        """
        key = {"user": "user_column", "time": "time_column", "label": "label_column", "signed": "signed_counters"}
        found = {each.name: settings[key.get(each.name, each.name)] for each in fields(cls)}
        values: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in found.items()}
        return cls(**values)

    @property
    def counted(self) -> tuple[str, ...]:
        """The counters that have a column of their own: all but those whose aggregate is "count"."""
        return tuple(name for name in self.counters if self.aggregate.get(name) != "count")


@dataclass(frozen=True)
class Problem:
    """One kind of mistake in the data.

    - fact: what is wrong, with the file and, where there is one, the row, column or user of the first case; without a
      full stop
    - advice: what to do, a sentence or more
    - rows: how many rows (or users) have it, 0 when that is not counted
    - droppable: whether these rows may be left out when data.bad_rows is "drop"
    """

    fact: str
    advice: str
    rows: int = 0
    droppable: bool = False

    @property
    def message(self) -> str:
        """The fact and the advice."""
        return f"{self.fact}. {self.advice}"


@dataclass(frozen=True)
class Rule:
    """A condition under which a record is bad.

    - column: the column to name in the problem
    - test: the condition, in SQL; a record for which it is false or NULL is not bad
    - fault: what is wrong, for use after the value: "is negative"
    - advice: what is right, a sentence, before the words that such a record is to be corrected or dropped; "": none
    - among: the condition, in SQL, of the records that the rule is about; "": all
    - hint: what the data itself says about the next move, looked up only when a record breaks the rule
    """

    column: str
    test: str
    fault: str
    advice: str = ""
    among: str = ""
    hint: Callable[[duckdb.DuckDBPyConnection], str] = lambda connection: ""

    @property
    def key(self) -> tuple[str, str]:
        """What the rule of one source has in common with that of another."""
        return self.column, self.fault


def require_columns(source: Source, layout: Layout, expected: Sequence[str]) -> None:
    """Check that a source has all the columns `expected`, and can read them.

    Raises UserError when some are missing, or for the first one that holds lists, times of day or another type that is
    read neither as numbers nor as text; the message names the source's first file and the keys of config.yaml under
    which missing columns are set.
    """
    missing = [column for column in dict.fromkeys(expected) if column not in source.columns]
    if missing:
        raise UserError(f"{source.files[0]}: {missing_columns_text(source, layout, missing)}")
    for column in expected:
        if source.kind(column) == "other":
            raise UserError(
                f"{source.files[0]}: column '{column}' holds {source.columns[column]}, which is read neither as "
                "numbers nor as text. Export it as one of them."
            )


def missing_columns_text(source: Source, layout: Layout, missing: Sequence[str]) -> str:
    """Sentences on columns that a source lacks: their names, what its first file has instead, and what to do."""
    own, folders = [*source.columns], files.folder_keys(source.files[0], source.root)
    keys = {layout.user: "data.user_column", layout.time: "data.time_column", layout.label: "data.label_column"}
    keys |= dict.fromkeys(layout.counters, "data.counters") | dict.fromkeys(layout.categories, "data.categories") | keys
    near = [name for column in missing for name in similar_names(column, [*own, *folders])]
    quoted = ", ".join(f"'{column}'" for column in missing)
    text = (
        f"no {'column' if len(missing) == 1 else 'columns'} {quoted} (found: {', '.join(own)}"
        + (f"; folders give: {', '.join(folders)}). " if folders else "). ")
        + ("Did you mean " + ", ".join(f"'{name}'" for name in dict.fromkeys(near)) + "? " if near else "")
        + f"Name {'it' if len(missing) == 1 else 'them'} under "
        + ", ".join(dict.fromkeys(keys.get(column, "data.columns") for column in missing))
        + " in config.yaml."
    )
    if (
        source.delimiter
        and not {*keys}.intersection(own)
        and any(RECORD_CELL.fullmatch(name) or name in layout.classes for name in own)
    ):
        text += " Its first line looks like a record: give the file a first line with the names of its columns."
    if layout.time in missing and layout.counters:
        text += " For a table with one row per user, set data.kind to features."
    return text


def similar_names(column: str, names: Sequence[str]) -> list[str]:
    """The names that differ from a column's in case only, else the nearest one, if any."""
    same = [name for name in names if name.casefold() == column.casefold()]
    return same or difflib.get_close_matches(column, names, n=1)


def open_sources(path: Path, layout: Layout, expected: Sequence[str], optional: Sequence[str] = ()) -> list[Source]:
    """The data files of `path`, grouped by header and class folder: a Source per group.

    path: a file, a folder of files, or a folder with a sub-folder per class, of which only the sub-folders are then
    read; expected: columns that each file must have, in it or as a folder `column=value` below path; optional: columns
    that a folder may give too.

    Raises UserError when there are no files (also in one class folder), when one cannot be read, lacks an expected
    column or has one twice, when two expected names differ in case only, or when a sub-folder beside class folders is
    not named after a class.
    """
    folders = class_folders(path, layout.classes)
    groups: list[tuple[str | None, Path]] = [(folder.name, folder) for folder in folders] or [(None, path)]
    wanted = tuple(dict.fromkeys(name for name in (*expected, *optional) if name))
    found = [
        source
        for class_name, place in groups
        for source in files.group_by_header(files.find_data_files(place), wanted, class_name, place, layout.time)
    ]
    for source in found:
        require_columns(source, layout, [*expected, *(name for name in optional if name in source.columns)])
    if layout.labels_in == "folders" and not folders:
        raise UserError(
            f"{path}: no folder of it is named after a class ({', '.join(layout.classes)}). Put the files of each "
            "class into a folder of its name, or say under data.labels where the labels are."
        )
    if layout.labels_in == "inside" and not any(layout.label in source.columns for source in found):
        require_columns(found[0], layout, [layout.label])
    return found


def class_folders(path: Path, classes: Sequence[str]) -> list[Path]:
    """The paths of the sub-folders of `path`, in name order, when any is named after a class; otherwise [].

    A path to a file, or to nothing, gives []. classes: the class names. A sub-folder "unlabelled" may be beside them
    and is then returned too; hidden folders are ignored.

    Raises UserError when some are named after a class and another is not.
    """
    inside = sorted(folder for folder in path.iterdir() if folder.is_dir()) if path.is_dir() else []
    inside = [folder for folder in inside if not files.is_hidden(folder.name)]
    if not any(folder.name in classes for folder in inside):
        return []
    for folder in inside:
        if folder.name not in (*classes, UNLABELLED_NAME):
            raise UserError(f"{folder}: {unknown_class_text(folder.name, classes)}")
    return inside


def unknown_class_text(label: str, classes: Sequence[str]) -> str:
    """Two or three sentences on a label that is not one of the classes: what is wrong and what to do.

    When a class, or "unlabelled", has a similar name, one sentence asks whether it was meant.
    """
    near = difflib.get_close_matches(label, [*classes, UNLABELLED_NAME], n=1)
    return (
        f"'{label}' is not one of the classes ({', '.join(classes)}). "
        + (f"Did you mean '{near[0]}'? " if near else "")
        + "Correct it, or add the class under labels in config.yaml."
    )


def number_sql(source: Source, column: str) -> str:
    """SQL expression of a column as a number (DOUBLE), NULL where it is blank or cannot be read as one. It may be NaN
    or infinite.

    Text is a number as in Python, but for underscores: 1_000 is none. column: its name, a key of source.columns.
    """
    if source.kind(column) == "number":
        return f"CAST({sql_name(column)} AS DOUBLE)"
    # Most text is a number or blank without SPACES around it, and plain_sql is slow.
    words = f"replace(CAST({sql_name(column)} AS VARCHAR), '_', 'x')"
    return f"coalesce(TRY_CAST({words} AS DOUBLE), TRY_CAST({plain_sql(column)} AS DOUBLE))"


def no_number_sql(source: Source, column: str) -> str:
    """SQL condition: a cell holds more than SPACES, but no number. column: its name, a key of source.columns."""
    # Not with AND, which would look for SPACES in numbers too.
    return f"CASE WHEN {number_sql(source, column)} IS NULL THEN {filled_sql(source, column)} ELSE false END"


def plain_sql(column: str) -> str:
    """SQL expression of a column as text in which SPACES are blanks and an underscore, which no number has, is an x."""
    blanks = " " * len(SPACES)
    return f"translate(CAST({sql_name(column)} AS VARCHAR), {sql_literal('_' + SPACES)}, 'x{blanks}')"


def filled_sql(source: Source, column: str) -> str:
    """SQL condition: a cell holds more than SPACES; false for NULL. column: its name, a key of source.columns."""
    if source.kind(column) == "number":
        return f"({sql_name(column)} IS NOT NULL)"
    # Not with text_sql: DuckDB plans what it names twice in a time that grows with the square of the columns.
    return f"coalesce(regexp_matches(CAST({sql_name(column)} AS VARCHAR), {sql_literal(f'[^{SPACES}]')}), false)"


def text_sql(column: str) -> str:
    """SQL expression of a column as text without SPACES around it, NULL where it is blank. column: its name."""
    words = f"CAST({sql_name(column)} AS VARCHAR)"
    # Most values neither begin nor end with a space, and trim with a list of characters is slow.
    plain = " AND ".join(f"{side}({words}, 1) BETWEEN '!' AND '~'" for side in ("left", "right"))
    return f"(CASE WHEN {plain} THEN {words} ELSE nullif(trim({words}, {sql_literal(SPACES)}), '') END)"


def label_text_sql(source: Source, layout: Layout) -> str:
    """SQL expression of the label of a record as text, NULL for a record without a label.

    The label is the name of the class folder that the record's file lies in; outside class folders it is the value of
    the label column, NULL when there is no such column. "unlabelled", in lower case, counts as no label.
    """
    if source.class_name is not None:
        return "NULL" if source.class_name == UNLABELLED_NAME else sql_literal(source.class_name)
    if layout.label not in source.columns:
        return "NULL"
    return f"nullif({text_sql(layout.label)}, {sql_literal(UNLABELLED_NAME)})"


def label_position_sql(source: Source, layout: Layout) -> str:
    """SQL expression of the position of a record's label among the classes, from 0 on.

    It is UNLABELLED for a record without a label, or with one that is not a class.
    """
    names = "[" + ", ".join(map(sql_literal, layout.classes)) + "]"
    return f"CAST(coalesce(list_position({names}, {label_text_sql(source, layout)}) - 1, {UNLABELLED}) AS TINYINT)"


def unknown_label_rule(source: Source, layout: Layout) -> Rule:
    """The rule that a record breaks when its label is not one of the classes.

    A record without a label does not break it.
    """
    names, label = ", ".join(map(sql_literal, layout.classes)), label_text_sql(source, layout)
    fault = f"is not one of the classes ({', '.join(layout.classes)})"
    advice = "A new class is added under labels in config.yaml."
    return Rule(layout.label, f"{label} NOT IN ({names})", fault, advice, f"{label} IS NOT NULL")


def count_broken_rules(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[Source],
    rules_of: Callable[[Source], Sequence[Rule]],
    extra_of: Callable[[Source], Sequence[str]] = lambda source: (),
    can_drop: bool = True,
) -> tuple[int, list[tuple], list[Problem]]:
    """Count the rows of sources, compute further aggregates, and check rules: in one scan, but for wide tables.

    - rules_of, extra_of: give the rules and the SQL aggregates of a source
    - can_drop: whether the caller leaves bad rows out when data.bad_rows is "drop"

    Returns the number of rows, the values of the aggregates of each source, and a Problem, droppable if `can_drop`, for
    each rule that some row of a source breaks, in the order of sources and rules. A row that breaks two rules counts in
    both.

    Raises UserError for a file that cannot be read.
    """
    rows, extras = 0, []
    broken: list[tuple[Source, Rule, int]] = []
    counts: Counter[tuple[str, str]] = Counter()  # key of a rule -> records of all sources that break it
    about: Counter[tuple[str, str]] = Counter()  # key of a rule with `among` -> records of all sources it is about
    for source in sources:
        rules = rules_of(source)
        special = [rule for rule in rules if rule.among]
        tests = [*(rule.test for rule in rules), *(rule.among for rule in special)]
        asked = ["count(*)", *(f"count_if({test})" for test in tests), *extra_of(source)]
        with files.naming_the_damaged_file([source]):
            _, own, *found = aggregates(connection, asked, source.table)[0]
        extras.append(tuple(found[len(tests) :]))
        found = [count or 0 for count in found[: len(tests)]]  # NULL where a condition is NULL for every row
        rows += own
        about.update({rule.key: count for rule, count in zip(special, found[len(rules) :], strict=False)})
        counts.update({rule.key: count for rule, count in zip(rules, found, strict=False)})
        broken += [(source, rule, count) for rule, count in zip(rules, found, strict=False) if count]
    problems = []
    for source, rule, count in broken:
        every = counts[rule.key] == (about[rule.key] if rule.among else rows)
        problems.append(rule_problem(connection, source, rule, count, every, can_drop))
    return rows, extras, problems


def rule_problem(
    connection: duckdb.DuckDBPyConnection, source: Source, rule: Rule, count: int, every: bool, can_drop: bool
) -> Problem:
    """The Problem for a rule that `count` rows of the source break.

    Its fact names the first such row with its file, and the value in the rule's column. every: all rows of all sources
    that the rule is about break it, so that none would be left; can_drop: as in count_broken_rules.
    """
    file, row = first_row(connection, source, rule.test)
    query = f"SELECT CAST({sql_name(rule.column)} AS VARCHAR) FROM {source.only(file).table} WHERE {rule.test} LIMIT 1"
    shown = first_record(connection, query)
    value = f": '{shown[0][:60].replace(chr(0), '�')}'" if shown and shown[0] else ""
    more = f" ({count:,} such rows)" if count > 1 else ""
    if every:
        subject = f"Every row with a '{rule.column}'" if rule.among else "Every row"
        move = f"{subject} has it: correct the setting or the export."
    else:
        move = "Correct it, or set data.bad_rows to drop." if can_drop else "Correct it."
    advice = f"{rule.hint(connection)}{rule.advice} {move}".strip()
    return Problem(f"{file} row {row}, column '{rule.column}'{value} {rule.fault}{more}", advice, count, can_drop)


def first_places(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], test: Callable[[Source], str]
) -> list[tuple[Path, int]]:
    """The file and row number of the first two records for which a condition holds, by the order of sources and paths.

    test: gives the condition, in SQL, for a source. Row numbers are as in `first_row`. Fewer than two places are
    returned when there are no more.
    """
    places: list[tuple[Path, int]] = []
    for source in sources:
        where = test(source)
        counted = f"SELECT {sql_name(files.FILE_COLUMN)}, count(*) FROM {source.table} WHERE {where}"
        for file, count in connection.execute(f"{counted} GROUP BY 1 ORDER BY 1 LIMIT 2").fetchall():
            path = Path(file)
            places += [(path, files.row_number(connection, source, path, where, nth)) for nth in range(min(count, 2))]
    return places[:2]


def first_row(connection: duckdb.DuckDBPyConnection, source: Source, test: str) -> tuple[Path, int]:
    """The file, and the row number in it, of the first record for which the SQL condition `test` holds.

    Files are taken in path order. The row number in CSV is that of the line in an editor, the header being 1; in
    Parquet the first record is 1. The condition must hold for at least one record.
    """
    query = f"SELECT min({sql_name(files.FILE_COLUMN)}) FROM {source.table} WHERE {test}"
    found = first_record(connection, query)
    file = Path(found[0]) if found and found[0] else source.files[0]
    return file, files.row_number(connection, source, file, test)
