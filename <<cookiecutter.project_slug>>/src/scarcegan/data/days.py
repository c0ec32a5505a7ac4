"""Days: the day of a record from its time column, whatever the column holds: dates, timestamps, text or an epoch.

An instant belongs to the day in data.time_zone; other times to the day that is written.
"""

from collections.abc import Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa

from scarcegan.data import files
from scarcegan.data.files import Source
from scarcegan.data.rules import Layout, Rule, number_sql, text_sql
from scarcegan.data.users import user_sql
from scarcegan.limits import FIRST_DAY, LAST_DAY
from scarcegan.sql import first_record, sql_literal, sql_name

SECONDS_PER_UNIT = {"epoch": 1, "epoch_ms": 0.001}  # values of data.time_format besides patterns
FIRST_RECORDS = 10_000  # that are looked at for a note
ZONE = "[0-9] ?([+-][0-9]{2}(:?[0-9]{2})?|Z|[A-Za-z]{2}[A-Za-z0-9_/+:-]*)$"  # how a text that is an instant ends
# Formats that are proposed when they fit every time in a file.
COMMON_TIME_FORMATS = ("%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%Y %H:%M", *SECONDS_PER_UNIT)


def day_sql(source: Source, layout: Layout) -> str:
    """SQL expression (DATE) of a record's day, NULL where the time column is not a day from FIRST_DAY to LAST_DAY.

    A time with a UTC offset or a zone, also in Parquet and also as an epoch, is an instant: its day is the one in
    layout.time_zone, which must be that of the connection. A time without one has the day that is written.
    """
    if source.kind(layout.time) == "time" or layout.time_format:
        found = f"CAST({moment_sql(source, layout)} AS DATE)"
    else:
        words = text_sql(layout.time)
        digit = f"left({words}, 1) BETWEEN '0' AND '9'"  # DuckDB reads "epoch" and "infinity" as times
        instant = f"CAST({moment_sql(source, layout)} AS DATE)"
        written = f"TRY_CAST({words} AS DATE)"
        found = f"(CASE WHEN {digit} THEN CASE WHEN length({words}) <= 10 THEN {written} ELSE {instant} END END)"
    return f"(CASE WHEN {found} BETWEEN DATE '{FIRST_DAY}' AND DATE '{LAST_DAY}' THEN {found} END)"


def moment_sql(source: Source, layout: Layout) -> str:
    """SQL expression of a record's time, NULL where it cannot be read. An instant is a TIMESTAMPTZ, as is any time that
    is text of ISO 8601; other times are a TIMESTAMP or DATE.
    """
    if source.kind(layout.time) == "time":
        return sql_name(layout.time)
    if layout.time_format in SECONDS_PER_UNIT:
        seconds = f"{number_sql(source, layout.time)} * {SECONDS_PER_UNIT[layout.time_format]}"
        sane = f"epoch(DATE '{FIRST_DAY}') AND epoch(DATE '{LAST_DAY}') + 86400"
        return f"CASE WHEN {seconds} BETWEEN {sane} THEN to_timestamp({seconds}) END"
    if layout.time_format:
        return f"try_strptime({user_sql(source, layout.time)}, {sql_literal(layout.time_format)})"
    return f"TRY_CAST({text_sql(layout.time)} AS TIMESTAMPTZ)"


def time_zone_notes(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], layout: Layout) -> list[str]:
    """A sentence when days are those of UTC only because nobody chose a time zone; otherwise [].

    That is so when a time in the first file of a source, among its first records, is an instant, and not midnight in
    UTC.

    Raises UserError for a file that cannot be read.
    """
    for source in sources if layout.time_zone == "UTC" else ():
        type_ = source.columns.get(layout.time)
        if type_ is None or not may_be_instants(type_, layout):
            continue
        first = source.only(source.files[0])
        offset = f"regexp_matches({text_sql(layout.time)}, '{ZONE}')"
        where = "true" if source.kind(layout.time) == "time" or layout.time_format else offset
        records = f"(SELECT {sql_name(layout.time)} FROM {first.table} LIMIT {FIRST_RECORDS})"
        moments = f"SELECT {moment_sql(source, layout)} AS t FROM {records} WHERE {where}"
        with files.naming_the_damaged_file([first]):
            query = f"SELECT 1 FROM ({moments}) WHERE epoch_ms(CAST(t AS TIMESTAMPTZ)) % 86400000 <> 0 LIMIT 1"
            found = first_record(connection, query)
        if found:
            return [
                f"{source.files[0]}: times in '{layout.time}' are instants, and data.time_zone is UTC, so a day begins "
                "at midnight in UTC. If your days begin at another hour, set data.time_zone."
            ]
    return []


def may_be_instants(type_: pa.DataType, layout: Layout) -> bool:
    """Whether times in a column of an Arrow type may be instants."""
    if pa.types.is_timestamp(type_):
        return type_.tz is not None
    zoned = layout.time_format in ("", *SECONDS_PER_UNIT) or "%z" in layout.time_format.lower()
    return zoned and not pa.types.is_date(type_)


def day_rule(source: Source, layout: Layout) -> Rule:
    """The rule that a record breaks when its time cannot be read as a day.

    Its hint names the formats that would read every time of the source's first file, if there are any.
    """

    def hint(connection: duckdb.DuckDBPyConnection) -> str:
        fitting = fitting_time_formats(connection, source, layout) if source.kind(layout.time) != "time" else []
        return f"This fits all of them: {' or '.join(fitting)}. " if fitting else ""

    how = layout.time_format or "2026-01-31, or 2026-01-31T13:45:00+01:00"
    advice = f"Times are read as {how}; data.time_format sets another format."
    return Rule(
        layout.time,
        f"{day_sql(source, layout)} IS NULL",
        f"is not a date from {FIRST_DAY.year} to {LAST_DAY.year}",
        advice,
        hint=hint,
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
        empty, fits_now, *fits = first_record(connection, query)
    if empty or fits_now:
        return []
    return [one.time_format or "ISO 8601" for one, fit in zip(layouts[1:], fits, strict=True) if fit]
