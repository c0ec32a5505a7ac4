"""SQL for DuckDB: names and values as text, and queries of one record or of many aggregates."""

from collections.abc import Sequence

import duckdb

EXPRESSIONS_PER_SCAN = 200  # DuckDB plans more of them in a time that grows with their square


def sql_literal(text: str) -> str:
    """A text as an SQL literal in single quotes; single quotes in the text are escaped."""
    return "'" + text.replace("'", "''") + "'"


def sql_name(column: str) -> str:
    """A column name as an SQL identifier in double quotes; double quotes in the name are escaped."""
    return '"' + column.replace('"', '""') + '"'


def first_record(connection: duckdb.DuckDBPyConnection, query: str) -> tuple:
    """The first record that an SQL query gives, () when it gives none. Its result is finished, so that others can run.

    Raises duckdb.Error for a query that fails.
    """
    found = connection.execute(query).fetchall()
    return found[0] if found else ()


def aggregates(connection: duckdb.DuckDBPyConnection, asked: Sequence[str], table: str, key: str = "") -> list[tuple]:
    """A row (key, *values) per value of the SQL expression `key`, in its order; without one, a single row.

    asked: SQL aggregates over `table`, which is scanned for EXPRESSIONS_PER_SCAN of them at a time.

    Raises duckdb.Error for a query that fails.
    """
    groups = " GROUP BY 1 ORDER BY 1" if key else ""
    found: list[tuple] = []
    for start in range(0, len(asked), EXPRESSIONS_PER_SCAN):
        some = ", ".join(asked[start : start + EXPRESSIONS_PER_SCAN])
        rows = connection.execute(f"SELECT {key or 'NULL'}, {some} FROM {table}{groups}").fetchall()
        found = [known + row[1:] for known, row in zip(found, rows, strict=True)] if found else rows
    return found
