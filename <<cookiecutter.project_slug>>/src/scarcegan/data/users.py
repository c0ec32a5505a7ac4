"""Users: the id of a record's user as text, and ids that one file writes in another way than the next."""

import re
from collections.abc import Sequence

import duckdb
import pyarrow as pa

from scarcegan.data import files
from scarcegan.data.files import Source
from scarcegan.data.rules import Layout, Problem, Rule, number_sql, text_sql
from scarcegan.sql import sql_literal, sql_name

WHOLE_FLOATS = {16: 2**11, 32: 2**24, 64: 2**53}  # bits of a float -> whole numbers up to this one are exact
WHOLE_NUMBER = r"[0-9]+(\.0*)?"


def user_sql(source: Source, column: str) -> str:
    """SQL expression of a user id as text without SPACES around it, NULL where it is blank.

    A whole number in a column of floats or decimals is written as an integer: 100000.0 is user "100000", as in a file
    of integers. column: its name, a key of source.columns.
    """
    type_, words = source.columns[column], text_sql(column)
    if pa.types.is_decimal(type_):
        return f"regexp_replace({words}, '\\.0*$', '')"
    if not pa.types.is_floating(type_):
        return words
    number = number_sql(source, column)
    integer = f"CAST(CAST({number} AS BIGINT) AS VARCHAR)"
    return f"(CASE WHEN {exact_sql(source, column)} THEN {integer} WHEN NOT isnan({number}) THEN {words} END)"


def exact_sql(source: Source, column: str) -> str:
    """SQL condition: the number in a column of floats is a whole one, so small that no other one is stored alike."""
    number = number_sql(source, column)
    return f"({number} = trunc({number}) AND abs({number}) <= {WHOLE_FLOATS[source.columns[column].bit_width]})"


def user_rules(source: Source, layout: Layout) -> list[Rule]:
    """The rules that a record breaks when its user is missing or unusable (see unusable_user_rules)."""
    missing = f"{user_sql(source, layout.user)} IS NULL"
    return [
        Rule(layout.user, missing, "is empty", "Every row needs a user."),
        *unusable_user_rules(source, layout.user),
    ]


def unusable_user_rules(source: Source, user: str) -> list[Rule]:
    """The rules that a record breaks when its user has a NUL character, is a number with a fraction, or a whole number
    too large to be exact in a column of floats. user: name of the column.
    """
    type_ = source.columns[user]
    rules = []
    if source.kind(user) == "text":
        nul = f"contains(CAST({sql_name(user)} AS VARCHAR), chr(0))"
        rules.append(Rule(user, nul, "holds a NUL character", "Export the id again."))
    if pa.types.is_floating(type_):
        test = f"NOT isnan({number_sql(source, user)}) AND NOT {exact_sql(source, user)}"
    elif pa.types.is_decimal(type_):
        test = f"contains({user_sql(source, user)}, '.')"
    else:
        return rules
    return [*rules, Rule(user, test, f"is no whole number, or not exact as {type_}", "Export users as text.")]


def number_key(user: str) -> str:
    """A whole number in a user id, without leading zeros and trailing .0: "7" for "007" and "7.0". "" for other ids."""
    return re.sub(r"^0+(?=[0-9])", "", re.sub(r"\.0*$", "", user)) if re.fullmatch(WHOLE_NUMBER, user) else ""


def users_spelled_twice(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout
) -> list[Problem]:
    """A list with one problem when ids of two files differ only in leading zeros or a trailing .0; otherwise [].

    Such ids are most likely one user, whose id lost its zeros or became a float in one of the files. Where some file
    has two spellings of a number, these are two users, and spellings mean nothing anywhere. The problem names the first
    two spellings, each with a file; it is not droppable.

    sources: the files of the data and of the labels.

    Raises UserError for a file that cannot be read.
    """
    union = " UNION ALL ".join(
        f"SELECT {user_sql(source, layout.user)} AS u, {sql_name(files.FILE_COLUMN)} AS f FROM {source.table}"
        for source in sources
    )
    key = "regexp_replace(regexp_replace(u, '\\.0*$', ''), '^0+([0-9])', '\\1')"
    numbers = f"SELECT u, f, {key} AS k FROM ({union}) WHERE regexp_full_match(u, {sql_literal(WHOLE_NUMBER)})"
    with files.naming_the_damaged_file(sources):
        twice = f"SELECT k FROM (SELECT DISTINCT u, k FROM ({numbers})) GROUP BY k HAVING count(*) > 1"
        if not connection.execute(f"{twice} LIMIT 1").fetchall():
            return []
        placed = f"SELECT DISTINCT u, f, k FROM ({numbers}) WHERE k IN ({twice})"
        found = connection.execute(
            "SELECT min(u), arg_min(f, u), max(u), arg_max(f, u), count(*) OVER (), "
            f"bool_or(count(*) > count(DISTINCT f)) OVER () FROM ({placed}) GROUP BY k ORDER BY k LIMIT 1"
        ).fetchall()
    if found[0][-1]:
        return []
    low_id, low_file, high_id, high_file, count, _ = found[0]
    more = f" ({count:,} such users)" if count > 1 else ""
    fact = (
        f"{low_file}: user '{low_id}', but {high_file}: user '{high_id}'{more}. These look like one user whose id lost "
        "its leading zeros or became a number with a decimal point"
    )
    return [Problem(fact, "Export ids as text, the same in every file.", count)]
