"""Days: the day of a record from its time column, whatever the column holds: dates, timestamps, text or an epoch.

An instant belongs to the day in data.time_zone; other times to the day that is written.
"""

from dataclasses import replace

import duckdb

from scarcegan.data import files
from scarcegan.data.files import Source, sql_literal, sql_name
from scarcegan.data.rules import DROP_ADVICE, Layout, Rule, number_sql, text_sql
from scarcegan.data.users import user_sql

EARLIEST, LATEST = "1900-01-01", "2199-12-31"  # days outside are no days
SECONDS_PER_UNIT = {"epoch": 1, "epoch_ms": 0.001}  # values of data.time_format besides patterns
# Formats that are proposed when they fit every time in a file.
COMMON_TIME_FORMATS = ("%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%Y %H:%M", *SECONDS_PER_UNIT)


def day_sql(source: Source, layout: Layout) -> str:
    """SQL expression (DATE) of a record's day, NULL where the time column is not a day from EARLIEST to LATEST.

    A time with a UTC offset or a zone, also in Parquet and also as an epoch, is an instant: its day is the one in
    layout.time_zone, which must be that of the connection. A time without one has the day that is written.
    """
    column, words = sql_name(layout.time), text_sql(layout.time)
    if source.kind(layout.time) == "time":
        found = f"CAST({column} AS DATE)"
    elif layout.time_format in SECONDS_PER_UNIT:
        seconds = f"{number_sql(source, layout.time)} * {SECONDS_PER_UNIT[layout.time_format]}"
        sane = f"epoch(DATE '{EARLIEST}') AND epoch(DATE '{LATEST}') + 86400"
        found = f"CAST(CASE WHEN {seconds} BETWEEN {sane} THEN to_timestamp({seconds}) END AS DATE)"
    elif layout.time_format:
        found = f"CAST(try_strptime({user_sql(source, layout.time)}, {sql_literal(layout.time_format)}) AS DATE)"
    else:
        digit = f"left({words}, 1) BETWEEN '0' AND '9'"  # DuckDB reads "epoch" and "infinity" as times
        instant = f"CAST(TRY_CAST({words} AS TIMESTAMPTZ) AS DATE)"
        written = f"TRY_CAST({words} AS DATE)"
        found = f"(CASE WHEN {digit} THEN CASE WHEN length({words}) <= 10 THEN {written} ELSE {instant} END END)"
    return f"(CASE WHEN {found} BETWEEN DATE '{EARLIEST}' AND DATE '{LATEST}' THEN {found} END)"


def day_rule(source: Source, layout: Layout) -> Rule:
    """The rule that a record breaks when its time cannot be read as a day.

    Its hint names the formats that would read every time of the source's first file, if there are any.
    """

    def hint(connection: duckdb.DuckDBPyConnection) -> str:
        fitting = fitting_time_formats(connection, source, layout) if source.kind(layout.time) != "time" else []
        return f"This fits all of them: {' or '.join(fitting)}. " if fitting else ""

    how = layout.time_format or "2026-01-31, or 2026-01-31T13:45:00+01:00"
    advice = f"Times are read as {how}; data.time_format sets another format. {DROP_ADVICE}"
    return Rule(
        layout.time,
        f"{day_sql(source, layout)} IS NULL",
        f"is not a date from {EARLIEST[:4]} to {LATEST[:4]}",
        advice,
        hint,
    )


def fitting_time_formats(connection: duckdb.DuckDBPyConnection, source: Source, layout: Layout) -> list[str]:
    """Those of COMMON_TIME_FORMATS, and "" for ISO 8601, that read every time in the source's first file; [] when
    layout.time_format does, or none.

    An epoch before the year 2000 does not count, because 20260131 would be one.

    Raises UserError for a file that cannot be read.
    """
    layouts = [replace(layout, time_format=one) for one in (layout.time_format, "", *COMMON_TIME_FORMATS)]
    tests = []
    for one in layouts:
        day = day_sql(source, one)
        after = f" AND coalesce(min({day}) >= DATE '2000-01-01', false)" if one.time_format in SECONDS_PER_UNIT else ""
        tests.append(f"count({day}) = count({text_sql(layout.time)}){after}")
    first = source.only(source.files[0])
    with files.naming_the_damaged_file([first]):
        query = f"SELECT count({text_sql(layout.time)}) = 0, {', '.join(tests)} FROM {first.table}"
        empty, fits_now, *fits = files.first_record(connection, query)
    if empty or fits_now:
        return []
    return [one.time_format or "ISO 8601" for one, fit in zip(layouts[1:], fits, strict=True) if fit]
