"""Faults in how files were read, each with the generated files that found it, and how to bring it back.

A change of how files are read may move its mend. Then `undo` no longer brings the fault back, and a test says so.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from scarcegan.data import days, files, labels, reading, ready_tables, rules, telemetry, users
from scarcegan.data.files import Source, sql_name
from scarcegan.data.rules import Layout, Rule, text_sql
from scarcegan.monitoring import quality
from scarcegan.profile import check

MODULES = (files, rules, users, days, telemetry, labels, ready_tables, reading, check, quality)
Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Fault:
    """seed: of generated files that show the fault; undo: puts the fault back, in this process and through a patch."""

    seed: int
    undo: Callable[[Patch], object]


def everywhere(patch: Patch, name: str, value: object) -> None:
    """Replace a function in all modules that have imported it."""
    for module in MODULES:
        if hasattr(module, name):
            patch.setattr(module, name, value)


def with_types_of_the_first_file(patch: Patch) -> None:
    known: dict[tuple, dict[str, pa.DataType]] = {}
    read = files.read_header

    def read_header(file: Path, expected: tuple[str, ...]) -> tuple[dict[str, pa.DataType], str]:
        columns, delimiter = read(file, expected)
        return known.setdefault((*columns, delimiter), columns), delimiter

    patch.setattr(files, "read_header", read_header)


def with_table(old: str, new: str) -> Callable[[Patch], None]:
    """In the SQL that reads files, `new` stands where the regular expression `old` matches."""
    table: Any = Source.table
    return lambda patch: patch.setattr(Source, "table", property(lambda source: re.sub(old, new, table.fget(source))))


def with_columns_by_name(patch: Patch) -> None:
    patch.setattr(files, "unique_names", lambda columns, _: columns)
    with_table(r" AS records\(.*\)$", "")(patch)


def with_the_first_of_two_columns(patch: Patch) -> None:
    read = files.read_header
    patch.setattr(files, "read_header", lambda file, _: read(file, ()))


def with_connection(setting: str = "", zone: str = "") -> Callable[[Patch], None]:
    """Each connection carries out `setting` first, and days are those of `zone` instead of the given one."""
    connect = files.connect_duckdb

    def connect_duckdb(scratch: Path, time_zone: str = "UTC") -> duckdb.DuckDBPyConnection:
        connection = connect(scratch, zone or time_zone)
        connection.execute(setting or "SELECT 1")
        return connection

    return lambda patch: everywhere(patch, "connect_duckdb", connect_duckdb)


def as_written(source: Source, layout: Layout) -> str:
    return f"left({text_sql(layout.time)}, 10)" if source.kind(layout.time) == "text" else sql_name(layout.time)


def without_word_of(why: str) -> Callable[[Patch], None]:
    """Files that are left out for this reason are not told."""
    find = files.files_left_out

    def files_left_out(*given: Any, **more: Any) -> dict[str, list[Path]]:
        return {reason: paths for reason, paths in find(*given, **more).items() if reason != why}

    return lambda patch: everywhere(patch, "files_left_out", files_left_out)


def without_a_rule(fault: str) -> Callable[[Patch], None]:
    """The rule for users whose fault begins so is not applied."""
    find = users.user_rules

    def user_rules(source: Source, layout: Layout) -> list[Rule]:
        return [rule for rule in find(source, layout) if not rule.fault.startswith(fault)]

    return lambda patch: everywhere(patch, "user_rules", user_rules)


def without_asking_for_labels(patch: Patch) -> None:
    def open_sources(path: Path, layout: Layout, expected: Sequence[str], *more: Sequence[str]) -> list[Source]:
        return rules.open_sources(path, replace(layout, labels_in=""), expected, *more)

    for module in (telemetry, ready_tables):
        patch.setattr(module, "open_sources", open_sources)


def with_any_word_as_a_day(patch: Patch) -> None:
    everywhere(patch, "day_sql", lambda source, layout: f"TRY_CAST({text_sql(layout.time)} AS DATE)")


def with_a_last_day(*given: Any) -> telemetry.DayRange:
    """As if some record had a day. given: the last two are the last day and the layout."""
    last, layout = given[-2:]
    return telemetry.DayRange(last - timedelta(layout.days - 1), last)


def with_underscores_in_numbers(patch: Patch) -> None:
    everywhere(patch, "number_sql", lambda source, column: f"TRY_CAST({sql_name(column)} AS DOUBLE)")


def with_users_as_text(module: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(module, "user_sql", lambda source, column: text_sql(column))


FAULTS = {
    "truth values first: 17 becomes 1": Fault(137, with_types_of_the_first_file),
    "whole numbers first: 15.5 becomes 16": Fault(597, with_types_of_the_first_file),
    "small whole numbers first: large ones are refused": Fault(49, with_types_of_the_first_file),
    "a folder key=value replaces the file's own column": Fault(3, with_table("(hive_partitioning)=false", r"\1=true")),
    "a folder key=value replaces a text file's own column": Fault(
        1259, with_table("(hive_partitioning)=false", r"\1=true")
    ),
    "a day that is only in the folder's name is not found": Fault(
        131, lambda patch: patch.setattr(files, "columns_in_folders", lambda *_: {})
    ),
    "NaN behind ordinary statistics passes": Fault(47, with_connection("SET disabled_optimizers = ''")),
    "of two names that differ in case the wrong column is read": Fault(31, with_columns_by_name),
    "of two columns of one name one is read": Fault(767, with_the_first_of_two_columns),
    "a text time with an offset falls on the day that is written": Fault(
        91, lambda patch: everywhere(patch, "moment_sql", as_written)
    ),
    "data.time_zone is not followed": Fault(111, with_connection(zone="UTC")),
    "users that became floats are other users": Fault(
        2, lambda patch: everywhere(patch, "user_sql", lambda source, column: text_sql(column))
    ),
    "users that lost their leading zeros are other users": Fault(
        151, lambda patch: everywhere(patch, "users_spelled_twice", lambda *_: [])
    ),
    "users with tabs around them are other users": Fault(399, lambda patch: patch.setattr(rules, "SPACES", " ")),
    "users with ideographic spaces around them are other users": Fault(
        908, lambda patch: patch.setattr(rules, "SPACES", " \t\n\r")
    ),
    "wide decimals make one user of two": Fault(1975, without_a_rule("is no whole number")),
    "a link to nothing is left out without a word": Fault(75, without_word_of("links to nothing")),
    "a file beside class folders is left out without a word": Fault(479, without_word_of("beside the class folders")),
    "a label column that no file has is not missed": Fault(11, without_asking_for_labels),
    "1_000 is a number": Fault(211, with_underscores_in_numbers),
    "the word epoch is a day": Fault(5883, with_any_word_as_a_day),
    "a duration is a number": Fault(
        251, lambda patch: patch.setattr(files, "NUMERIC_TYPES", (*files.NUMERIC_TYPES, pa.types.is_duration))
    ),
    "a zipped file is empty because of a ? in its path": Fault(
        2243, with_table("compression='gzip'", "compression='auto'")
    ),
    "data without a good row ends in a traceback": Fault(
        133, lambda patch: everywhere(patch, "days_of_interest", with_a_last_day)
    ),
    "ground truth of users that became floats is of other users": Fault(21, with_users_as_text(quality)),
    "ground truth of classes that became decimals is of no class": Fault(1009, with_users_as_text(quality)),
}
