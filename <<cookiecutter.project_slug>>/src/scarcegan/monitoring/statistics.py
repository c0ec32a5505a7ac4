"""Statistics: a summary of each column of a population, and constraints that later rows must keep.

The files have the structure of Amazon SageMaker Model Monitor's (developer guide, "Schema for Statistics" and "Schema
for Constraints"), so that either tool reads them; the KLL sketch is left out, its buckets are written. Rows are
summarised batch by batch into counts that add up, so memory does not grow with the number of rows. drift.py compares
later rows with these files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from scarcegan.data.categories import CODES, MOST_TEXTS, Categories, Texts, text_of

SCORES = ("rarity", "unknown")
LABEL = "label"
UNKNOWN = "unknown"
BUCKET_QUANTILES = np.array([0, 0.01, *np.arange(1, 20) / 20, 0.99, 1])
SCORE_CUTS = np.arange(1, 20) / 20
ROUNDING_TOLERANCE = 1e-6
COMPLETENESS_SLACK = 0.05
QUALITY_SHARE = 0.8
REST = "(all others)"  # of a category's texts
CATEGORY_STATISTICS = "category_statistics"  # ours; Model Monitor sees a column of whole numbers


@dataclass(frozen=True)
class ColumnSummary:
    """Summary of d numeric columns over a number of rows. Summaries of different rows add up, see combine.

    - rows: number of rows
    - missing: int64 [d], cells without a value; text that is not a number is not among them
    - text: int64 [d], how many cells have text that is not a number
    - infinite, finite: int64 [d], how many values are so
    - negative, fractional: int64 [d], how many of the finite values are so
    - mean, minimum, maximum: float64 [d], of the finite values; without any: 0, infinity, -infinity
    - m2: float64 [d], sum of squared deviations from the mean
    - counts: per column int64 [len(edges) + 1], values below the first edge, in each bucket, above the last edge
    """

    rows: int
    missing: np.ndarray
    text: np.ndarray
    infinite: np.ndarray
    negative: np.ndarray
    fractional: np.ndarray
    finite: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    counts: tuple[np.ndarray, ...]


def sample_rows(batches: Iterable[np.ndarray], size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `size` rows from batches [n, d], each row with the same chance: [size, d], in the order of the batches.

    All rows when there are at most `size`; an empty array [0, 0] when there is no batch.
    """
    kept, keys = None, np.empty(0)
    for values in batches:
        keys = np.concatenate([keys, rng.random(len(values))])
        kept = values if kept is None else np.concatenate([kept, values])
        if len(keys) > size:
            first = np.sort(np.argpartition(keys, size)[:size])
            kept, keys = kept[first], keys[first]
    return np.empty((0, 0), np.float32) if kept is None else kept


def bucket_edges(column: np.ndarray, cuts: Sequence[float] | np.ndarray = ()) -> np.ndarray:
    """Edges of the buckets of a numeric column [n], float64, ascending, from its minimum to its maximum.

    There is about a twentieth of the values in each bucket, but a hundredth and four hundredths in the two at either
    end; a value that repeats often has a bucket of its own. Inner
    edges are half-way between neighbouring values, so that a number that is rounded later stays in its bucket. cuts:
    further edges, of which those between minimum and maximum are taken. Empty when no value is finite; twice the same
    edge when all finite values are equal.
    """
    finite = column[np.isfinite(column)].astype(np.float64)
    if not len(finite):
        return np.empty(0)
    distinct = np.unique(finite)
    values, times = np.unique(np.quantile(finite, BUCKET_QUANTILES, method="inverted_cdf"), return_counts=True)
    at = np.searchsorted(distinct, values)
    starts, stops = at[at > 0], at[(times > 1) & (at < len(distinct) - 1)] + 1
    own = np.concatenate([starts, stops])
    inner = np.concatenate(
        [(distinct[own - 1] + distinct[own]) / 2, [c for c in cuts if distinct[0] < c < distinct[-1]]]
    )
    return np.concatenate([distinct[:1], np.unique(inner), distinct[-1:]])


def category_edges(column: np.ndarray) -> np.ndarray:
    """Edges of buckets for a category's codes [n], float64, ascending; empty when all codes are missing (NaN).

    Each of the most frequent codes (see frequent_codes) has a bucket of its own, half a unit to both sides; the buckets
    between hold all other codes. The buckets are counted and written like those of a number; category_counts gives the
    counts by name.
    """
    present = column[np.isfinite(column)]
    if not len(present):
        return np.empty(0)
    codes = frequent_codes(present).astype(np.float64)
    return np.unique(np.concatenate([[-0.5, CODES - 0.5], codes - 0.5, codes + 0.5]))


def frequent_codes(codes: np.ndarray) -> np.ndarray:
    """The most frequent codes in a category column [n], the most frequent first, at most MOST_TEXTS.

    Missing values (NaN) and numbers that are no code (negative, too large, or fractions) are left out. Equally frequent
    codes are in ascending order.
    """
    found, rows = np.unique(codes[(codes >= 0) & (codes < CODES) & (codes == np.trunc(codes))], return_counts=True)
    return found[np.argsort(-rows, kind="stable")][:MOST_TEXTS]


def named_codes(column: np.ndarray, texts: Texts) -> dict[str, int]:
    """Text -> code for each of the frequent_codes in a category column [n], the most frequent first.

    texts: the known texts -> code; a code that is not among them has the text "code <n>".
    """
    codes = frequent_codes(column[np.isfinite(column)])
    return {text_of(float(code), texts): int(code) for code in codes}


def category_counts(counts: np.ndarray, edges: np.ndarray, texts: Texts) -> dict[str, int]:
    """Text -> rows of a category column, from its counts over its buckets.

    The key REST holds the rows of all other codes. counts: int [len(edges) + 1]; edges: from category_edges; texts:
    text -> code, of codes with a bucket of their own.
    """
    found = {text: int(counts[np.searchsorted(edges, code, side="right")]) for text, code in texts.items()}
    return found | {REST: int(counts.sum()) - sum(found.values())}


def summarise_columns(values: np.ndarray, edges: Sequence[np.ndarray], text: np.ndarray | None = None) -> ColumnSummary:
    """Summarise rows `values` [n, d], NaN for missing. edges: bucket edges of each of the d columns.

    text: bool [n, d], where there was text that is not a number (the value is NaN); None: nowhere.
    """
    columns = np.ascontiguousarray(np.asarray(values, np.float32).T)
    written = np.zeros(len(columns), np.int64) if text is None else text.sum(axis=0).astype(np.int64)
    finite = np.isfinite(columns)
    exact = np.where(finite, columns, 0).astype(np.float64)
    size = finite.sum(axis=1)
    mean = exact.sum(axis=1) / np.maximum(size, 1)
    return ColumnSummary(
        rows=len(values),
        missing=np.isnan(columns).sum(axis=1) - written,
        text=written,
        infinite=np.isinf(columns).sum(axis=1),
        negative=(exact < 0).sum(axis=1),
        fractional=(exact != np.trunc(exact)).sum(axis=1),
        finite=size,
        mean=mean,
        m2=(np.where(finite, exact - mean[:, None], 0) ** 2).sum(axis=1),
        minimum=np.where(finite, exact, np.inf).min(axis=1, initial=np.inf),
        maximum=np.where(finite, exact, -np.inf).max(axis=1, initial=-np.inf),
        counts=tuple(bucket_counts(c[f], e) for c, f, e in zip(columns, finite, edges, strict=True)),
    )


def bucket_counts(finite: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How many of the finite values [n] lie below the first edge, in each bucket, and above the last edge.

    The result is int64 [len(edges) + 1]. edges: ascending; a value that equals an inner edge lies in the bucket above
    it, and values that differ from an outer edge by rounding alone lie inside. Without edges there is one count, of all
    values.
    """
    cuts = edges.astype(np.float64)
    if len(cuts):
        room = np.abs(cuts) * ROUNDING_TOLERANCE + np.finfo(np.float32).tiny
        cuts = np.concatenate([cuts[:1] - room[:1], cuts[1:-1], np.nextafter(cuts[-1:] + room[-1:], np.inf)])
    return np.bincount(np.searchsorted(cuts, finite, side="right"), minlength=len(edges) + 1)


def empty_summary(edges: Sequence[np.ndarray]) -> ColumnSummary:
    """The summary of no rows of d columns. edges: bucket edges of each of the d columns."""
    return summarise_columns(np.empty((0, len(edges)), np.float32), edges)


def combine(a: ColumnSummary, b: ColumnSummary) -> ColumnSummary:
    """The summary of the rows of both, which must have the same columns and bucket edges.

    Means and squared deviations are combined after Chan, Golub and LeVeque (1983).
    """
    finite = a.finite + b.finite
    weight = b.finite / np.maximum(finite, 1)
    gap = b.mean - a.mean
    return ColumnSummary(
        rows=a.rows + b.rows,
        missing=a.missing + b.missing,
        text=a.text + b.text,
        infinite=a.infinite + b.infinite,
        negative=a.negative + b.negative,
        fractional=a.fractional + b.fractional,
        finite=finite,
        mean=a.mean + gap * weight,
        m2=a.m2 + b.m2 + gap**2 * a.finite * weight,
        minimum=np.minimum(a.minimum, b.minimum),
        maximum=np.maximum(a.maximum, b.maximum),
        counts=tuple(x + y for x, y in zip(a.counts, b.counts, strict=True)),
    )


def combine_all(parts: Iterable[ColumnSummary], edges: Sequence[np.ndarray]) -> ColumnSummary:
    """The summary of the rows of all parts; that of no rows when there is no part.

    edges: bucket edges per column, those of the parts.
    """
    return reduce(combine, parts, empty_summary(edges))


def join_columns(a: ColumnSummary, b: ColumnSummary) -> ColumnSummary:
    """The summary of the columns of a, then those of b. Both must be of the same rows."""
    joined = {key: np.concatenate([x, getattr(b, key)]) for key, x in vars(a).items() if isinstance(x, np.ndarray)}
    return ColumnSummary(rows=a.rows, counts=a.counts + b.counts, **joined)


def statistics(
    names: Sequence[str],
    numbers: ColumnSummary,
    edges: Sequence[np.ndarray],
    labels: Mapping[str, int] | None = None,
    categories: Categories | None = None,
) -> dict[str, Any]:
    """The content of statistics.json: an entry per column, then one, called "label", for the predicted classes.

    - names: of the columns, which are numbers or category codes
    - numbers: the summary of these columns
    - edges: bucket edges of each of these columns
    - labels: predicted class -> rows; None: no entry for it
    - categories: category column -> text -> code, for the codes with a bucket of their own; None: no categories
    """
    known = categories or {}
    features = [
        category_feature(name, numbers, i, edges[i], known[name])
        if name in known
        else numeric_feature(name, numbers, i, edges[i])
        for i, name in enumerate(names)
    ]
    if labels is not None:
        features.append(string_feature(LABEL, labels))
    return {"version": 0, "dataset": {"item_count": numbers.rows}, "features": features}


def numeric_feature(name: str, numbers: ColumnSummary, i: int, edges: np.ndarray) -> dict[str, Any]:
    """The entry in statistics.json of the numeric column `name`.

    i: its position in `numbers`; edges: its bucket edges. Infinite values and text count as present; when there are
    any, num_infinite and num_text count them. mean, sum, std_dev (with divisor n), min and max are those of the finite
    values, and are left out without any.
    """
    common = {"num_present": int(numbers.rows - numbers.missing[i]), "num_missing": int(numbers.missing[i])}
    odd = {"num_infinite": int(numbers.infinite[i]), "num_text": int(numbers.text[i])}
    common |= {key: count for key, count in odd.items() if count}
    found: dict[str, Any] = {"common": common}
    size = int(numbers.finite[i])
    if size:
        found |= {
            "mean": float(numbers.mean[i]),
            "sum": float(numbers.mean[i] * size),
            "std_dev": float(np.sqrt(numbers.m2[i] / size)),
            "min": float(numbers.minimum[i]),
            "max": float(numbers.maximum[i]),
        }
    found["distribution"] = {"kll": {"buckets": bucket_entries(numbers, i, edges)}}
    return {"name": name, "inferred_type": inferred_type(numbers, i), "numerical_statistics": found}


def category_feature(name: str, numbers: ColumnSummary, i: int, edges: np.ndarray, texts: Texts) -> dict[str, Any]:
    """The entry in statistics.json of the category column `name`: that of its codes, and the number of rows per text.

    The codes have no mean, sum and std_dev. The rows of all other texts are counted under REST, last. i: the column's
    position in `numbers`; edges: its bucket edges; texts: text -> code, of codes with a bucket of their own.
    """
    entry = numeric_feature(name, numbers, i, edges)
    for figure in ("mean", "sum", "std_dev"):
        entry["numerical_statistics"].pop(figure, None)
    counts = category_counts(numbers.counts[i], edges, texts) if len(edges) else {}
    rest = [{"value": REST, "count": counts.pop(REST, 0)}]
    named = [{"value": text, "code": texts[text], "count": count} for text, count in counts.items()]
    entry[CATEGORY_STATISTICS] = {"distribution": {"categorical": {"buckets": named + rest}}}
    return entry


def category_buckets(feature: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The buckets (value, code, count) of a category, most frequent first when it was written; [] for a numeric column.

    feature: the column's entry in statistics.json. The bucket of all other texts is left out.
    """
    found = feature.get(CATEGORY_STATISTICS, {}).get("distribution", {}).get("categorical", {}).get("buckets", [])
    return [bucket for bucket in found if "code" in bucket]


def typical_row(found: Mapping[str, Any], features: Sequence[str], figure: str = "mean") -> tuple[float, ...]:
    """One number per feature from statistics.json: its mean, or another figure such as "min"; 0 when there is none.

    found: the content of statistics.json; features: names of the features, in the order of the result;
    figure: key of numerical_statistics.
    """
    figures = {column["name"]: column.get("numerical_statistics", {}).get(figure) for column in found["features"]}
    return tuple(float(figures.get(name) or 0.0) for name in features)


def bucket_entries(numbers: ColumnSummary, i: int, edges: np.ndarray) -> list[dict[str, float]]:
    """The buckets of the numeric column at position i in `numbers`: lower_bound, upper_bound and count each, ascending.

    edges: its bucket edges; without any, one bucket reaches from the minimum to the maximum. The buckets beyond the
    outer edges are listed only when they hold values. [] when no value is finite.
    """
    if not numbers.finite[i]:
        return []
    low, high = float(numbers.minimum[i]), float(numbers.maximum[i])
    if not len(edges):
        return [{"lower_bound": low, "upper_bound": high, "count": int(numbers.finite[i])}]
    bounds = [min(low, edges[0]), *edges, max(high, edges[-1])]
    found = [
        {"lower_bound": float(a), "upper_bound": float(b), "count": int(n)}
        for a, b, n in zip(bounds, bounds[1:], numbers.counts[i], strict=False)
    ]
    return [b for k, b in enumerate(found) if b["count"] or 0 < k < len(found) - 1]


def string_feature(name: str, counts: Mapping[str, int]) -> dict[str, Any]:
    """The entry in statistics.json of a text column without missing cells. name: its name; counts: text -> rows."""
    return {
        "name": name,
        "inferred_type": "String",
        "string_statistics": {
            "common": {"num_present": sum(counts.values()), "num_missing": 0},
            "distinct_count": sum(1 for count in counts.values() if count),
            "distribution": {"categorical": {"buckets": [{"value": v, "count": int(n)} for v, n in counts.items()]}},
        },
    }


def inferred_type(numbers: ColumnSummary, i: int) -> str:
    """Model Monitor's type of the column at position i in `numbers`: "Integral", "Fractional" or "Unknown".

    It is unknown when no value is finite.
    """
    if not numbers.finite[i]:
        return "Unknown"
    return "Fractional" if numbers.fractional[i] else "Integral"


def stretch_outer_edges(numbers: ColumnSummary, edges: Sequence[np.ndarray]) -> tuple[ColumnSummary, list[np.ndarray]]:
    """Move the outer edges of each column's buckets outwards to its true minimum and maximum.

    Returns a new summary and the new edges; the arguments stay as they are. The edges may come from a sample. Values
    below the first and above the last edge are added to the outer buckets. A column without edges stays without.
    """
    counts, stretched = [], []
    for i, (count, edge) in enumerate(zip(numbers.counts, edges, strict=True)):
        if len(edge):
            count, edge = count.copy(), edge.copy()
            edge[0], edge[-1] = min(edge[0], numbers.minimum[i]), max(edge[-1], numbers.maximum[i])
            count[1], count[-2] = count[1] + count[0], count[-2] + count[-1]
            count[0] = count[-1] = 0
        counts.append(count)
        stretched.append(edge)
    return ColumnSummary(**(vars(numbers) | {"counts": tuple(counts)})), stretched


def constraints(found: Mapping[str, Any], domain: Sequence[str], recall: float | None = None) -> dict[str, Any]:
    """The content of constraints.json that a baseline's statistics suggest; a person may edit it.

    - found: the content of statistics.json
    - domain: names of the classes that may be predicted
    - recall: the rare class's recall on validation rows; QUALITY_SHARE of it is the least allowed; None: no constraint

    There is no comparison_threshold: monitor.drift_threshold counts, until a person writes one. A column that was
    complete must stay complete; in another one, the share of missing values may be COMPLETENESS_SLACK larger than it
    was. There is no constraint on precision, because it depends on how rare the class is among the rows at hand.
    """
    suggested: dict[str, Any] = {
        "version": 0,
        "features": [column_constraints(feature, domain) for feature in found["features"]],
        "monitoring_config": {
            "evaluate_constraints": "Enabled",
            "emit_metrics": "Enabled",
            "datatype_check_threshold": 0.1,
            "domain_content_threshold": 0.1,
            "distribution_constraints": {
                "perform_comparison": "Enabled",
                "comparison_method": "Robust",
                "categorical_drift_method": "LInfinity",
            },
        },
    }
    if recall is not None:
        least = {"threshold": round(QUALITY_SHARE * recall, 4), "comparison_operator": "LessThanThreshold"}
        suggested["binary_classification_constraints"] = {"recall": least}
    return suggested


def column_constraints(feature: Mapping[str, Any], domain: Sequence[str]) -> dict[str, Any]:
    """The entry of a column in constraints.json: its type, and the share of rows that must have a value.

    For a column of numbers it also says whether they may be negative: only when some were, or no value was finite. For
    a column of text it says which texts are allowed, those in `domain`. feature: the column's entry in statistics.json.
    """
    kind = "string_statistics" if feature["inferred_type"] == "String" else "numerical_statistics"
    present, missing = (feature[kind]["common"][key] for key in ("num_present", "num_missing"))
    share = present / max(present + missing, 1)
    completeness = 1.0 if not missing and present else round(max(share - COMPLETENESS_SLACK, 0.0), 4)
    entry = {"name": feature["name"], "inferred_type": feature["inferred_type"], "completeness": completeness}
    if kind == "string_statistics":
        return entry | {"string_constraints": {"domains": list(domain)}}
    return entry | {"num_constraints": {"is_non_negative": feature[kind].get("min", -1.0) >= 0}}
