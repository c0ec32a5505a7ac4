"""Comparison: one month with the next, and the data that a model learns from with the data that it scores.

The distances are those of monitoring/drift.py, over buckets of about a twentieth of the values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scarcegan.data.categories import MOST_TEXTS
from scarcegan.monitoring.drift import DriftDistance, distance, label_distance
from scarcegan.monitoring.statistics import REST, ColumnSummary, bucket_edges, combine, empty_summary, summarise_columns
from scarcegan.profile.columns import BATCH, as_rows, sample_of
from scarcegan.profile.records import CATEGORY, Records, finite_sql
from scarcegan.sql import sql_literal

Counts = np.ndarray | dict[str, int]
UNDATED = ""


@dataclass(frozen=True)
class Part:
    """The records of one month, or of all days.

    - name: such as "2026-01"; UNDATED for records without a day
    - records, users: how many there are
    - counts: per compared column the number of values in each bucket, or {text: how often} of a category
    - missing: per compared column the share without a value
    - mean: per compared column; NaN for a category and without values
    """

    name: str
    records: int
    users: int
    counts: Sequence[Counts]
    missing: Sequence[float]
    mean: Sequence[float]

    def distance(self, later: "Part") -> list[DriftDistance]:
        """The distance of each compared column between this part and a later one."""
        return [
            label_distance(a, b) if isinstance(a, dict) and isinstance(b, dict) else distance(a, b)  # type: ignore[arg-type]
            for a, b in zip(self.counts, later.counts, strict=True)
        ]


@dataclass(frozen=True)
class Buckets:
    """What the values of compared columns are counted by. Columns of numbers come first.

    - numbers, categories: names of the columns
    - edges: of the buckets of each column of numbers (see bucket_edges)
    - texts: the most frequent texts of each category
    """

    numbers: Sequence[str]
    categories: Sequence[str]
    edges: Sequence[np.ndarray]
    texts: Sequence[Sequence[str]]

    @property
    def names(self) -> list[str]:
        """Names of the compared columns, in the order of Part.counts."""
        return [*self.numbers, *self.categories]


def compared(records: Records, monthly: bool) -> str:
    """SQL to follow FROM: the records as they are compared, with the columns month and v<i>.

    monthly: month is the record's, as "2026-01"; otherwise, and without a day, it is UNDATED.
    """
    month = f"coalesce(strftime(d, '%Y-%m'), '{UNDATED}')" if monthly else f"'{UNDATED}'"
    numbers, categories = records.counted().values(), records.named(CATEGORY).values()
    values = [*(f"{finite_sql(i)} AS v{i}" for i in numbers), *(f"v{i}" for i in categories)]
    return f"(SELECT {', '.join(['u', f'{month} AS month', *values])} FROM {records.values})"


def buckets_of(records: Records) -> Buckets:
    """The buckets that fit the values of some records."""
    numbers, categories = records.counted(), records.named(CATEGORY)
    sample = sample_of(records) if numbers else np.empty((0, 0))
    texts = [[text for (text,) in records.rows(frequent_sql(records, i))] for i in categories.values()]
    edges = [bucket_edges(sample[:, place].astype(np.float32)) for place in range(len(numbers))]
    return Buckets(list(numbers), list(categories), edges, texts)


def frequent_sql(records: Records, i: int) -> str:
    """SQL query: the most frequent texts of a category. i: its position."""
    frequent = f"SELECT v{i} FROM {records.values} WHERE v{i} IS NOT NULL GROUP BY 1"
    return f"{frequent} ORDER BY count(*) DESC, 1 LIMIT {MOST_TEXTS}"


def count_parts(records: Records, buckets: Buckets, monthly: bool) -> list[Part]:
    """Count the values of each month, in order, undated ones first; unless `monthly`, of all records as one part.

    A column that the records lack counts as missing.
    """
    table = compared(records, monthly)
    sizes = records.rows(f"SELECT month, count(*), count(DISTINCT u) FROM {table} GROUP BY 1 ORDER BY 1")
    numbers = count_numbers(records, table, buckets)
    texts = [
        count_texts(records, table, name, known) for name, known in zip(buckets.categories, buckets.texts, strict=True)
    ]
    parts = []
    for name, rows, users in sizes or ([] if monthly else [(UNDATED, 0, 0)]):
        summary = numbers.get(name) or empty_summary(buckets.edges)
        its = [counts.get(name, {}) for counts in texts]
        there = [*summary.finite, *(sum(counts.values()) for counts in its)]
        parts.append(
            Part(
                name,
                rows,
                users,
                [*summary.counts, *its],
                [1 - float(count) / max(rows, 1) for count in there],
                [*np.where(summary.finite > 0, summary.mean, np.nan).tolist(), *([float("nan")] * len(its))],
            )
        )
    return parts


def count_numbers(records: Records, table: str, buckets: Buckets) -> dict[str, ColumnSummary]:
    """{month: summary} of the columns of numbers. table: from `compared`."""
    there = records.counted()
    if not buckets.numbers:
        return {}
    values = ", ".join(f"v{there[name]}" if name in there else "CAST(NULL AS DOUBLE)" for name in buckets.numbers)
    reader = records.connection.sql(f"SELECT {values}, month FROM {table}").to_arrow_reader(BATCH)
    found: dict[str, ColumnSummary] = {}
    for batch in reader:
        batch_values = as_rows(batch.select(range(len(buckets.numbers))))
        months = batch.column(len(buckets.numbers)).to_numpy(zero_copy_only=False)
        for one in np.unique(months):
            summary = summarise_columns(batch_values[months == one], buckets.edges)
            found[one] = combine(found[one], summary) if one in found else summary
    return found


def count_texts(records: Records, table: str, name: str, known: Sequence[str]) -> dict[str, dict[str, int]]:
    """{month: {text: how often}} of a category; texts that are not `known` count as REST.

    table: from `compared`.
    """
    i = records.named(CATEGORY).get(name)
    if i is None:
        return {}
    texts = ", ".join(map(sql_literal, known)) or "NULL"
    query = (
        f"SELECT month, CASE WHEN v{i} IN ({texts}) THEN v{i} ELSE '{REST}' END, count(*) FROM {table} "
        f"WHERE v{i} IS NOT NULL GROUP BY 1, 2"
    )
    found: dict[str, dict[str, int]] = {}
    for month, text, count in records.rows(query):
        found.setdefault(month, {})[text] = count
    return found
