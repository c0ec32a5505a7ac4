"""Statistics: what a population looks like, column by column, and what later rows must satisfy. Comparing: drift.py.

The files have the shapes of Amazon SageMaker Model Monitor (developer guide, "Schema for Statistics" and "Schema for
Constraints"), so that either tool reads them; the KLL sketch is left out, its materialised buckets are written. Rows
are summarised batch by batch into counts that add up, so memory does not grow with the number of rows.
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
QUANTILES = np.array([0, 0.01, *np.arange(1, 20) / 20, 0.99, 1])
SCORE_CUTS = np.arange(1, 20) / 20
ROUNDING = 1e-6
SLACK = 0.05
QUALITY_SHARE = 0.8
REST = "(all others)"  # of a category's texts
CATEGORY = "category_statistics"  # ours; Model Monitor sees a column of whole numbers


@dataclass(frozen=True)
class Numbers:
    """n rows of d numeric columns, summarised. Everything adds up, see combine().

    missing, text, infinite, negative, fractional, finite: int64 [d]; mean, m2 (sum of squared deviations), minimum,
    maximum: float64 [d]; counts: per column int64 [len(edges) + 1], what lies below, between and above the edges.
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
    """At most `size` rows [size, d], every row of every batch [n, d] equally likely."""
    kept, keys = None, np.empty(0)
    for values in batches:
        keys = np.concatenate([keys, rng.random(len(values))])
        kept = values if kept is None else np.concatenate([kept, values])
        if len(keys) > size:
            first = np.sort(np.argpartition(keys, size)[:size])
            kept, keys = kept[first], keys[first]
    return np.empty((0, 0), np.float32) if kept is None else kept


def bucket_edges(column: np.ndarray, cuts: Sequence[float] | np.ndarray = ()) -> np.ndarray:
    """Edges of buckets that hold about a twentieth of the column [n] each; a value that repeats gets its own bucket.

    Inner edges lie half-way between neighbouring values, so that a number rounded on its way stays in its bucket. cuts
    are further edges. Returns float64, the first the minimum and the last the maximum; empty if nothing is finite.
    """
    finite = column[np.isfinite(column)].astype(np.float64)
    if not len(finite):
        return np.empty(0)
    distinct = np.unique(finite)
    values, times = np.unique(np.quantile(finite, QUANTILES, method="inverted_cdf"), return_counts=True)
    at = np.searchsorted(distinct, values)
    starts, stops = at[at > 0], at[(times > 1) & (at < len(distinct) - 1)] + 1
    own = np.concatenate([starts, stops])
    inner = np.concatenate(
        [(distinct[own - 1] + distinct[own]) / 2, [c for c in cuts if distinct[0] < c < distinct[-1]]]
    )
    return np.concatenate([distinct[:1], np.unique(inner), distinct[-1:]])


def category_edges(column: np.ndarray) -> np.ndarray:
    """Edges of buckets for the codes of a category [n]: one bucket for each of the most frequent codes, others between.

    They add up, and are written, like those of a number; what they hold is counted by name, see category_counts().
    """
    present = column[np.isfinite(column)]
    if not len(present):
        return np.empty(0)
    codes = frequent(present).astype(np.float64)
    return np.unique(np.concatenate([[-0.5, CODES - 0.5], codes - 0.5, codes + 0.5]))


def frequent(codes: np.ndarray) -> np.ndarray:
    """The codes that have a bucket of their own, the most frequent first."""
    found, rows = np.unique(codes[(codes >= 0) & (codes < CODES) & (codes == np.trunc(codes))], return_counts=True)
    return found[np.argsort(-rows, kind="stable")][:MOST_TEXTS]


def named_codes(column: np.ndarray, texts: Texts) -> dict[str, int]:
    """Text -> code of the codes that category_edges gives a bucket; an unnamed one is called by its number."""
    codes = frequent(column[np.isfinite(column)])
    return {text_of(float(code), texts): int(code) for code in codes}


def category_counts(counts: np.ndarray, edges: np.ndarray, texts: Texts) -> dict[str, int]:
    """Text -> rows, out of a column's counts over its buckets; REST holds all other codes."""
    found = {text: int(counts[np.searchsorted(edges, code, side="right")]) for text, code in texts.items()}
    return found | {REST: int(counts.sum()) - sum(found.values())}


def summarise(values: np.ndarray, edges: Sequence[np.ndarray], text: np.ndarray | None = None) -> Numbers:
    """Summarise a batch [n, d] of float32. text: bool [n, d], where something unreadable stood (its value is NaN)."""
    columns = np.ascontiguousarray(np.asarray(values, np.float32).T)
    written = np.zeros(len(columns), np.int64) if text is None else text.sum(axis=0).astype(np.int64)
    finite = np.isfinite(columns)
    exact = np.where(finite, columns, 0).astype(np.float64)
    size = finite.sum(axis=1)
    mean = exact.sum(axis=1) / np.maximum(size, 1)
    return Numbers(
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
    """How many values lie below the first edge, in each bucket, and above the last edge: int64 [len(edges) + 1]."""
    cuts = edges.astype(np.float64)
    if len(cuts):
        room = np.abs(cuts) * ROUNDING + np.finfo(np.float32).tiny
        cuts = np.concatenate([cuts[:1] - room[:1], cuts[1:-1], np.nextafter(cuts[-1:] + room[-1:], np.inf)])
    return np.bincount(np.searchsorted(cuts, finite, side="right"), minlength=len(edges) + 1)


def nothing(edges: Sequence[np.ndarray]) -> Numbers:
    """The summary of no rows."""
    return summarise(np.empty((0, len(edges)), np.float32), edges)


def combine(a: Numbers, b: Numbers) -> Numbers:
    """The summary of the rows of both (means and squared deviations after Chan, Golub and LeVeque 1983)."""
    finite = a.finite + b.finite
    weight = b.finite / np.maximum(finite, 1)
    gap = b.mean - a.mean
    return Numbers(
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


def total(parts: Iterable[Numbers], edges: Sequence[np.ndarray]) -> Numbers:
    """All the parts in one."""
    return reduce(combine, parts, nothing(edges))


def beside(a: Numbers, b: Numbers) -> Numbers:
    """The columns of both, of the same rows."""
    joined = {key: np.concatenate([x, getattr(b, key)]) for key, x in vars(a).items() if isinstance(x, np.ndarray)}
    return Numbers(rows=a.rows, counts=a.counts + b.counts, **joined)


def statistics(
    names: Sequence[str],
    numbers: Numbers,
    edges: Sequence[np.ndarray],
    labels: Mapping[str, int] | None = None,
    categories: Categories | None = None,
) -> dict[str, Any]:
    """statistics.json: the columns, then `label` with how often each class name was given.

    categories: of the columns that are names, what the codes with a bucket of their own are called.
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


def numeric_feature(name: str, numbers: Numbers, i: int, edges: np.ndarray) -> dict[str, Any]:
    """A numeric column's entry. Infinite values and text count as present, and apart, where there are any."""
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
    found["distribution"] = {"kll": {"buckets": buckets(numbers, i, edges)}}
    return {"name": name, "inferred_type": inferred_type(numbers, i), "numerical_statistics": found}


def category_feature(name: str, numbers: Numbers, i: int, edges: np.ndarray, texts: Texts) -> dict[str, Any]:
    """A category's entry: that of its codes, which are whole numbers of no size, and beside it how often each name."""
    entry = numeric_feature(name, numbers, i, edges)
    for figure in ("mean", "sum", "std_dev"):
        entry["numerical_statistics"].pop(figure, None)
    counts = category_counts(numbers.counts[i], edges, texts) if len(edges) else {}
    rest = [{"value": REST, "count": counts.pop(REST, 0)}]
    named = [{"value": text, "code": texts[text], "count": count} for text, count in counts.items()]
    entry[CATEGORY] = {"distribution": {"categorical": {"buckets": named + rest}}}
    return entry


def category_buckets(feature: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The named buckets (value, code, count) of a category's entry, the most frequent first; none of a number's."""
    found = feature.get(CATEGORY, {}).get("distribution", {}).get("categorical", {}).get("buckets", [])
    return [bucket for bucket in found if "code" in bucket]


def buckets(numbers: Numbers, i: int, edges: np.ndarray) -> list[dict[str, float]]:
    """The buckets of a column; those below the first edge and above the last only where something lies in them."""
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
    """A text column's entry."""
    return {
        "name": name,
        "inferred_type": "String",
        "string_statistics": {
            "common": {"num_present": sum(counts.values()), "num_missing": 0},
            "distinct_count": sum(1 for count in counts.values() if count),
            "distribution": {"categorical": {"buckets": [{"value": v, "count": int(n)} for v, n in counts.items()]}},
        },
    }


def inferred_type(numbers: Numbers, i: int) -> str:
    if not numbers.finite[i]:
        return "Unknown"
    return "Fractional" if numbers.fractional[i] else "Integral"


def fold(numbers: Numbers, edges: Sequence[np.ndarray]) -> tuple[Numbers, list[np.ndarray]]:
    """A baseline's own edges may come from a sample: stretch the outer ones to the true minimum and maximum."""
    counts, stretched = [], []
    for i, (count, edge) in enumerate(zip(numbers.counts, edges, strict=True)):
        if len(edge):
            count, edge = count.copy(), edge.copy()
            edge[0], edge[-1] = min(edge[0], numbers.minimum[i]), max(edge[-1], numbers.maximum[i])
            count[1], count[-2] = count[1] + count[0], count[-2] + count[-1]
            count[0] = count[-1] = 0
        counts.append(count)
        stretched.append(edge)
    return Numbers(**(vars(numbers) | {"counts": tuple(counts)})), stretched


def constraints(
    found: Mapping[str, Any], domain: Sequence[str], recall: float | None = None, threshold: float = 0.1
) -> dict[str, Any]:
    """constraints.json suggested by a baseline's statistics; a person may edit it.

    A column that was complete must stay so, another may lose SLACK more of its rows. domain: the values that `label`
    may take. recall: the rare class's recall when the model was chosen; QUALITY_SHARE of it is the least allowed later.
    Precision depends on how rare the class is among the rows at hand, so no constraint is suggested for it.
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
                "comparison_threshold": threshold,
                "comparison_method": "Robust",
                "categorical_comparison_threshold": threshold,
                "categorical_drift_method": "LInfinity",
            },
        },
    }
    if recall is not None:
        least = {"threshold": round(QUALITY_SHARE * recall, 4), "comparison_operator": "LessThanThreshold"}
        suggested["binary_classification_constraints"] = {"recall": least}
    return suggested


def column_constraints(feature: Mapping[str, Any], domain: Sequence[str]) -> dict[str, Any]:
    """What one column must satisfy."""
    kind = "string_statistics" if feature["inferred_type"] == "String" else "numerical_statistics"
    present, missing = (feature[kind]["common"][key] for key in ("num_present", "num_missing"))
    share = present / max(present + missing, 1)
    completeness = 1.0 if not missing and present else round(max(share - SLACK, 0.0), 4)
    entry = {"name": feature["name"], "inferred_type": feature["inferred_type"], "completeness": completeness}
    if kind == "string_statistics":
        return entry | {"string_constraints": {"domains": list(domain)}}
    return entry | {"num_constraints": {"is_non_negative": feature[kind].get("min", -1.0) >= 0}}
