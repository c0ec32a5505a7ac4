"""Columns: types and missing values by file, and the distribution and the outliers of each column of numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from scarcegan.data.ready_tables import LARGEST_FLOAT32
from scarcegan.monitoring.statistics import sample_rows
from scarcegan.profile.records import COUNTER, Records, finite_sql

ABSENT = "no such column"  # in the place of a type
SAMPLE_CELLS = 10_000_000  # of records times columns from which quantiles are taken
SAMPLE_RECORDS = 100_000
SAMPLE_USERS = 100_000
BATCH = 65_536
QUANTILES = (0.25, 0.5, 0.75, 0.99)
FAR = 5.0  # robust standard deviations from the median: an outlier
NARROWEST = 0.1  # of the standard deviations, in units of the logarithm
NAMED_OUTLIERS = 5  # per column
NAMED_FILES = 20
MUCH_EMPTIER = 0.05  # share of missing values in a file above that of the column in all files


@dataclass(frozen=True)
class Outlier:
    """A value that lies far from the others of its column. times: the value divided by the column's usual size.

    user and day are "" when the record has none.
    """

    column: str
    user: str
    day: str
    value: float
    times: float
    file: str


@dataclass(frozen=True)
class DayValues:
    """The values of a column on one day: the share that is zero; of the others [10 %, median, 90 %]."""

    day: np.datetime64
    zero: float
    quantiles: Sequence[float]


@dataclass(frozen=True)
class Distribution:
    """The values of a column of numbers.

    - values: how many there are; zero, negative, infinite (or as large): how many are so
    - mean, minimum, maximum: of the finite values
    - quantiles: {share: value} of QUANTILES, from a sample when there are many records
    - usual: the usual size, which is the median of all sizes but 0; NaN without any
    - sample: float64 [n], finite values of some records
    - per_user: float64 [u], the mean of some users over their records; empty when records have no user and day
    - by_day: of each day with a value but 0, in order; empty without days
    - outliers: how many values are farther than FAR from the others; farthest: some of them, the farthest first
    """

    values: int
    zero: int
    negative: int
    infinite: int
    mean: float
    minimum: float
    maximum: float
    quantiles: Mapping[float, float]
    usual: float
    sample: np.ndarray
    per_user: np.ndarray = field(default_factory=lambda: np.empty(0))
    by_day: Sequence[DayValues] = ()
    outliers: int = 0
    farthest: Sequence[Outlier] = ()


@dataclass(frozen=True)
class ColumnFacts:
    """A column of the files.

    - role: what it is used for (see Records.roles)
    - types: type -> number of files; ABSENT is one of them
    - values: records of the files that have it; missing: how many have no value; text: how many have text that is no
      number, in a column of numbers
    - numbers: of a column of numbers; None when it has no value
    """

    name: str
    role: str
    types: Mapping[str, int]
    values: int
    missing: int
    text: int = 0
    numbers: Distribution | None = None

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON can hold them (see Profile.as_json)."""
        found: dict[str, Any] = {name: value for name, value in vars(self).items() if name != "numbers"}
        shown = ("mean", "minimum", "maximum", "zero", "negative", "infinite", "outliers")
        return found | {name: getattr(self.numbers, name) for name in shown if self.numbers}


@dataclass(frozen=True)
class EmptyFile:
    """A file in which a column has fewer values than in the others: the shares of missing values here and in all."""

    file: str
    column: str
    missing: float
    everywhere: float


def column_facts(records: Records, days: bool) -> tuple[list[ColumnFacts], list[EmptyFile], dict[str, int]]:
    """All columns, the files with many missing values, the worst first, and {file: its number of records}.

    days: whether records have days and users, of which the distributions are then given too.
    """
    counted = {name for name in records.counted() if not is_made(records, name)}
    asked = [
        count
        for i, name in enumerate(records.columns)
        if not is_made(records, name)
        for count in (
            f"count(m{i})",
            f"count(*) FILTER (m{i})",
            f"count(*) FILTER ({f't{i}' if name in counted else 'false'})",
        )
    ]
    names = [name for name in records.columns if not is_made(records, name)]
    found = records.aggregates(["count(*)", *asked], records.table, "f")
    per_file = np.array([row[2:] for row in found], np.int64).reshape(len(found), len(names), 3)
    totals = per_file.sum(axis=0)
    distributions = dict(zip(records.counted(), describe_numbers(records, days), strict=True))
    columns = [
        ColumnFacts(
            name, records.roles[name], column_types(records, name), there, missing, text, distributions.get(name)
        )
        for name, (there, missing, text) in zip(names, totals.tolist(), strict=True)
    ]
    made = [name for name in records.columns if is_made(records, name)]
    columns += [ColumnFacts(name, COUNTER, {}, 0, 0, 0, distributions[name]) for name in made]
    shares = per_file[:, :, 1] / np.maximum(per_file[:, :, 0], 1)
    everywhere = totals[:, 1] / np.maximum(totals[:, 0], 1)
    above = shares - everywhere
    places = [divmod(int(at), len(names)) for at in np.argsort(-above, axis=None, kind="stable")[:NAMED_FILES]]
    emptier = [
        EmptyFile(found[row][0], names[column], float(shares[row, column]), float(everywhere[column]))
        for row, column in places
        if above[row, column] >= MUCH_EMPTIER
    ]
    return columns, emptier, {row[0]: row[1] for row in found}


def is_made(records: Records, name: str) -> bool:
    """Whether a column is a counter without a column of its own: the number of a user's records of a day."""
    return records.roles[name] == COUNTER and records.layout.aggregate.get(name) == "count"


def column_types(records: Records, name: str) -> dict[str, int]:
    """{type: number of files} of a column; a column of a CSV file has the type "CSV text", one of a folder "folder"."""
    found: Counter[str] = Counter()
    for source in records.sources:
        own = "CSV text" if source.delimiter else str(source.columns.get(name, ""))
        own = "folder name" if name in source.folders else own
        found[own if name in source.columns else ABSENT] += len(source.files)
    return dict(found.most_common())


def describe_numbers(records: Records, days: bool) -> list[Distribution | None]:
    """The distribution of each column of Records.counted(), None for one without a value."""
    counted = records.counted()
    if not counted:
        return []
    finite = {name: finite_sql(i) for name, i in counted.items()}
    asked = [
        aggregate
        for name, i in counted.items()
        for aggregate in (
            f"count(v{i})",
            *(f"count(*) FILTER ({test})" for test in (f"v{i} = 0", f"v{i} < 0", f"abs(v{i}) > {LARGEST_FLOAT32}")),
            *(f"{function}({finite[name]})" for function in ("avg", "min", "max")),
        )
    ]
    _, *row = records.aggregates(asked, records.values)[0]
    rows = sample_of(records)
    per_user = user_means(records, finite) if days else np.empty((0, len(counted)))
    found: list[Distribution | None] = []
    for place, name in enumerate(counted):
        values, zero, negative, infinite, mean, low, high = row[7 * place : 7 * place + 7]
        sample = rows[np.isfinite(rows[:, place]), place]
        if not len(sample):
            found.append(None)
            continue
        sizes = np.abs(sample[sample != 0])
        usual = float(np.median(sizes)) if len(sizes) else float("nan")
        quantiles = dict(zip(QUANTILES, map(float, np.quantile(sample, QUANTILES)), strict=True))
        count, farthest = outliers_of(records, name, sample, usual) if len(sizes) else (0, [])
        means = per_user[np.isfinite(per_user[:, place]), place]
        by_day = day_values(records, finite[name]) if days else []
        found.append(
            Distribution(
                values,
                zero,
                negative,
                infinite,
                mean,
                low,
                high,
                quantiles,
                usual,
                sample,
                means,
                by_day,
                count,
                farthest,
            )
        )
    return found


def sample_of(records: Records) -> np.ndarray:
    """The values of the columns of numbers in some records, NaN for missing: float64 [n, d].

    They are drawn with a fixed seed.
    """
    places = records.counted().values()
    query = f"SELECT {', '.join(map(finite_sql, places))} FROM {records.values}"
    records.connection.execute("SET preserve_insertion_order = true")
    reader = records.connection.sql(query).to_arrow_reader(BATCH)
    size = min(SAMPLE_RECORDS, max(1, SAMPLE_CELLS // len(places)))
    rows = sample_rows(map(as_rows, reader), size, np.random.default_rng(7))
    return rows.reshape(-1, len(places))


def as_rows(batch: pa.RecordBatch) -> np.ndarray:
    """The columns of an Arrow batch of numbers as an array [n, d], NaN for NULL."""
    columns = [column.to_numpy(zero_copy_only=False).astype(np.float64) for column in batch.columns]
    return np.stack(columns, axis=1)


def user_means(records: Records, finite: Mapping[str, str]) -> np.ndarray:
    """The mean of each column of numbers over the records of a user, for some users: float64 [u, d], NaN for missing.

    finite: {column: SQL expression of its values}.
    """
    some = f"SELECT u FROM {records.values} WHERE u IS NOT NULL GROUP BY u ORDER BY hash(u) LIMIT {SAMPLE_USERS}"
    means = [f"avg({value})" for value in finite.values()]
    found = records.aggregates(means, f"{records.values} SEMI JOIN ({some}) chosen USING (u)", "u")
    return np.array([row[1:] for row in found], np.float64).reshape(-1, len(finite))


def day_values(records: Records, value: str) -> list[DayValues]:
    """A column on each day that has values but 0. value: SQL expression of its values."""
    query = (
        f"SELECT d, avg(CAST({value} = 0 AS INTEGER)), approx_quantile(nullif({value}, 0), [0.1, 0.5, 0.9]) "
        f"FROM {records.values} WHERE d IS NOT NULL GROUP BY d ORDER BY d"
    )
    return [DayValues(np.datetime64(day), zero, found) for day, zero, found in records.rows(query) if found]


def outliers_of(records: Records, name: str, sample: np.ndarray, usual: float) -> tuple[int, list[Outlier]]:
    """How many values of a column of numbers are outliers, and the farthest NAMED_OUTLIERS.

    A size s, the value without its sign, has the logarithm log(1 + s / usual). It is an outlier when that is more than
    FAR robust standard deviations (the interquartile range / 1.349) above the median of all sizes but 0.
    sample: values of some records; usual: their median size without 0.
    """
    i = records.counted()[name]
    low, middle, high = np.quantile(np.log1p(np.abs(sample[sample != 0]) / usual), [0.25, 0.5, 0.75])
    with np.errstate(over="ignore"):
        limit = usual * np.expm1(middle + FAR * max((high - low) / 1.349, NARROWEST))
    if not np.isfinite(limit):
        return 0, []
    far = f"{records.values} WHERE {finite_sql(i)} IS NOT NULL AND abs(v{i}) > {float(limit)!r}"
    count = records.rows(f"SELECT count(*) FROM {far}")[0][0]
    farthest = f"SELECT u, d, v{i}, f FROM {far} ORDER BY abs(v{i}) DESC, u, d, f LIMIT {NAMED_OUTLIERS}"
    named = records.rows(farthest) if count else []
    return count, [
        Outlier(name, user or "", str(day or ""), value, value / usual, file) for user, day, value, file in named
    ]
