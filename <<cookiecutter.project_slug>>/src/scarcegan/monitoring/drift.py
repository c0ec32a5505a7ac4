"""Drift: which constraints later rows break against a baseline, and how far each column has moved. No files here.

Distances are Kolmogorov-Smirnov's over the baseline's buckets (for a category the largest gap between two shares of a
name), less what chance alone explains at the number of rows at hand, so that a few hundred rows of the same population
raise no alarm (the `Robust` comparison of Model Monitor, as its library Deequ computes it). Shares and gaps are held
against the binomial distribution for the same reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.special import bdtrc, bdtrik

from scarcegan.monitoring.baseline import Baseline
from scarcegan.monitoring.statistics import LABEL, SCORES, UNKNOWN, Numbers

# sqrt((n + m) / nm) times this is exceeded by two samples of one population about three times in a thousand.
CHANCE = 1.8
ALPHA = 1e-4
FEW = 3
DRIFT, TYPE, COMPLETENESS = "baseline_drift_check", "data_type_check", "completeness_check"
MISSING, EXTRA, VALUES = "missing_column_check", "extra_column_check", "categorical_values_check"


@dataclass(frozen=True)
class Current:
    """Rows to be compared with a baseline. numbers: its numeric columns, in its order; labels: predicted class -> rows.

    absent: columns of the baseline that no row had; extra: columns that the baseline does not know -> rows.
    """

    numbers: Numbers
    labels: Mapping[str, int]
    absent: frozenset[str] = frozenset()
    extra: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Violation:
    """A broken constraint, as constraint_violations.json has it."""

    feature_name: str
    constraint_check_type: str
    description: str


@dataclass(frozen=True)
class Distance:
    """How far one column moved. raw: the largest gap between the two distribution functions; robust: less chance."""

    raw: float
    robust: float
    psi: float


def distance(baseline: np.ndarray, current: np.ndarray) -> Distance:
    """Between two columns' counts over the same buckets.

    psi is the population stability index, less its expectation under no drift, (buckets - 1) (1/n + 1/m).
    """
    m, n = int(baseline.sum()), int(current.sum())
    if not m or not n:
        return Distance(0.0, 0.0, 0.0)
    raw = float(np.abs(np.cumsum(baseline) / m - np.cumsum(current) / n).max())
    p, q = ((c + 0.5) / (c.sum() + 0.5 * len(c)) for c in (baseline, current))
    index = float(((q - p) * np.log(q / p)).sum()) - (len(p) - 1) * (1 / n + 1 / m)
    return Distance(raw, max(0.0, raw - chance(n, m)), max(0.0, index))


def chance(n: int, m: int) -> float:
    """The distance that two samples of one population, of n and m rows, hardly ever exceed."""
    return CHANCE * float(np.sqrt((n + m) / (n * m)))


def distances(baseline: Baseline, numbers: Numbers) -> dict[str, Distance]:
    """Every numeric column's distance. A column that was empty has moved by the share of rows that now fill it."""
    found = {}
    for i, name in enumerate(baseline.names):
        if len(baseline.edges[i]) and name in baseline.categories:
            found[name] = label_distance(*by_name(baseline, numbers, name))
        elif len(baseline.edges[i]):
            found[name] = distance(baseline.counts[i], numbers.counts[i])
        else:
            share = float(numbers.finite[i] / max(numbers.rows, 1))
            found[name] = Distance(share, max(0.0, share - chance(max(numbers.rows, 1), max(baseline.rows, 1))), 0.0)
    return found


def by_name(baseline: Baseline, numbers: Numbers, name: str) -> tuple[dict[str, int], dict[str, int]]:
    """How often each text of a category stood, in the baseline and now."""
    return baseline.by_name(name, baseline.counts), baseline.by_name(name, numbers.counts)


def label_distance(baseline: Mapping[str, int], current: Mapping[str, int]) -> Distance:
    """Between two counts of class names: the largest gap between two shares (L infinity), less chance."""
    names = sorted({*baseline, *current})
    b, c = (np.array([counts.get(name, 0) for name in names]) for counts in (baseline, current))
    m, n = int(b.sum()), int(c.sum())
    if not m or not n:
        return Distance(0.0, 0.0, 0.0)
    raw = float(np.abs(b / m - c / n).max())
    return Distance(raw, max(0.0, raw - chance(n, m)), distance(b, c).psi)


def band(count: int, of: int, rows: int, threshold: float) -> tuple[float, float]:
    """Between which shares of `rows` a class may lie that had `count` of `of` rows in the baseline.

    It may halve or double, and move by no more than `threshold`; beyond that come the limits that chance passes once in
    ten thousand times (1 / ALPHA), with a few users more or less granted to the baseline.
    """
    most, least = min(1.0, (count + FEW) / of), max(0.0, (count - FEW) / of)
    upper, lower = most + min(most, threshold), least - min(least / 2, threshold)
    high = 1.0 if upper >= 1 else quantile(1 - ALPHA, rows, upper) / rows
    low = 0.0 if lower <= 0 else quantile(ALPHA, rows, lower) / rows
    return low, high


def quantile(level: float, rows: int, share: float) -> int:
    """The quantile of the binomial distribution: the least count whose cumulative probability reaches `level`."""
    return max(0, int(np.ceil(np.nan_to_num(bdtrik(level, rows, share)))))


def violations(
    baseline: Baseline, current: Current, threshold: float, rare: str, found: Mapping[str, Distance] | None = None
) -> list[Violation]:
    """Every broken constraint: columns first, then types, gaps and drift, the farthest column first.

    threshold: the largest robust distance allowed, unless constraints.json overrides it for a column.
    """
    found = distances(baseline, current.numbers) if found is None else found
    compared = [name for name in baseline.names if name not in current.absent]
    config = baseline.constraints.get("monitoring_config", {})
    rules: list[Violation] = []
    if config.get("evaluate_constraints", "Enabled") == "Enabled":
        rules = [
            *missing_columns(baseline, current),
            *extra_columns(current),
            *(v for name in compared for v in wrong_types(baseline, current.numbers, name)),
            *(v for name in compared for v in gaps(baseline, current.numbers, name)),
            *unknown_values(baseline, current),
        ]
    if config.get("distribution_constraints", {}).get("perform_comparison", "Enabled") != "Enabled":
        return rules
    farthest = sorted(compared, key=lambda name: -found[name].robust)
    drifted = [v for name in farthest for v in moved(baseline, current.numbers, name, found[name], threshold)]
    return [*rules, *moved_labels(baseline, current, threshold, rare), *drifted]


def missing_columns(baseline: Baseline, current: Current) -> list[Violation]:
    return [
        Violation(name, MISSING, "the baseline has this column, the captured rows do not")
        for name in baseline.names
        if name in current.absent and not (name in SCORES and baseline.scored)
    ]


def extra_columns(current: Current) -> list[Violation]:
    return [
        Violation(name, EXTRA, f"{rows:,} captured rows have this column, the baseline does not")
        for name, rows in sorted(current.extra.items())
    ]


def wrong_types(baseline: Baseline, numbers: Numbers, name: str) -> list[Violation]:
    """Text or infinity among numbers, fractions among whole numbers, negatives where there were none."""
    i, rule = baseline.names.index(name), baseline.constraint(name)
    present = int(numbers.rows - numbers.missing[i])
    if not rule or not present:
        return []
    odd = {"text": numbers.text[i], "infinite": numbers.infinite[i]}
    if rule["inferred_type"] == "Integral":
        odd["fractions"] = numbers.fractional[i]
    if rule.get("num_constraints", {}).get("is_non_negative"):
        odd["negative"] = numbers.negative[i]
    allowed = setting(baseline, name, "datatype_check_threshold", 0.1)
    return [
        Violation(name, TYPE, f"{what}: {count / present:.1%} of {present:,} values, at most {allowed:.0%} allowed")
        for what, count in odd.items()
        if count / present > allowed
    ]


def gaps(baseline: Baseline, numbers: Numbers, name: str) -> list[Violation]:
    """More rows without a value than the constraint and chance allow."""
    i, rule = baseline.names.index(name), baseline.constraint(name)
    if "completeness" not in rule or not numbers.rows:
        return []
    before, missing = baseline.column(name)["common"]["num_missing"], int(numbers.missing[i])
    allowed = max(1 - rule["completeness"], (before + FEW) / max(baseline.rows, 1))
    if not missing or allowed >= 1 or bdtrc(missing - 1, numbers.rows, allowed) >= ALPHA:
        return []
    words = f"{1 - missing / numbers.rows:.1%} of {numbers.rows:,} rows have a value, {rule['completeness']:.1%} wanted"
    return [Violation(name, COMPLETENESS, words)]


def moved(baseline: Baseline, numbers: Numbers, name: str, found: Distance, threshold: float) -> list[Violation]:
    """A column farther from its baseline than allowed."""
    allowed = limit(baseline, name, threshold)
    if found.robust <= allowed:
        return []
    words = f"distance {found.robust:.3f} beyond chance, at most {allowed:g} allowed (PSI {found.psi:.2f})"
    if name in baseline.categories and len(baseline.edges[baseline.names.index(name)]):
        before, now = by_name(baseline, numbers, name)
        text = max(now, key=lambda text: abs(share_of(now, text) - share_of(before, text)))
        words = f"share of '{text}' {share_of(now, text):.1%}, {share_of(before, text):.1%} in the baseline: {words}"
    return [Violation(name, DRIFT, words)]


def moved_labels(baseline: Baseline, current: Current, threshold: float, rare: str) -> list[Violation]:
    """The shares of the classes as a whole, and of the rare class and of unknown against their bands."""
    n = sum(current.labels.values())
    if not n or not baseline.labels:
        return []
    found = []
    overall = label_distance(baseline.labels, current.labels)
    if overall.robust > limit(baseline, LABEL, threshold):
        words = f"the share of a class moved by {overall.robust:.3f} beyond chance, at most {threshold:g} allowed"
        found.append(Violation(LABEL, DRIFT, words))
    for name in (rare, UNKNOWN):
        share, before = share_of(current.labels, name), share_of(baseline.labels, name)
        low, high = label_band(baseline, name, n, threshold)
        if not low <= share <= high:
            words = f"share of '{name}' {share:.2%} of {n:,} rows, {before:.2%} in the baseline"
            words += f", {low:.2%} to {high:.2%} allowed"
            found.append(Violation(LABEL, DRIFT, words))
    return found


def label_band(baseline: Baseline, name: str, rows: int, threshold: float) -> tuple[float, float]:
    """The band of a predicted class at that many rows."""
    return band(baseline.labels.get(name, 0), sum(baseline.labels.values()), rows, threshold)


def share_of(labels: Mapping[str, int], name: str) -> float:
    return labels.get(name, 0) / max(sum(labels.values()), 1)


def unknown_values(baseline: Baseline, current: Current) -> list[Violation]:
    """Class names that the baseline's model does not give."""
    domain = baseline.constraint(LABEL).get("string_constraints", {}).get("domains")
    n = sum(current.labels.values())
    if domain is None or not n:
        return []
    strange = {name: count for name, count in current.labels.items() if name not in domain}
    allowed = setting(baseline, LABEL, "domain_content_threshold", 0.1)
    share, names = sum(strange.values()) / n, ", ".join(sorted(strange))
    if share <= allowed:
        return []
    words = f"{share:.1%} of {n:,} rows have a class that the baseline lacks ({names}), {allowed:.0%} allowed"
    return [Violation(LABEL, VALUES, words)]


def setting(baseline: Baseline, name: str, key: str, default: float) -> float:
    """A value of monitoring_config, or of the column's own monitoringConfigOverrides."""
    own = baseline.constraint(name).get("monitoringConfigOverrides", {})
    return float({**baseline.constraints.get("monitoring_config", {}), **own}.get(key, default))


def limit(baseline: Baseline, name: str, threshold: float) -> float:
    """The largest distance allowed to a column: `threshold`, or its own override in constraints.json."""
    own = baseline.constraint(name).get("monitoringConfigOverrides", {}).get("distribution_constraints", {})
    return float(own.get("comparison_threshold", threshold))


def document(found: Sequence[Violation]) -> dict[str, Any]:
    """constraint_violations.json (developer guide, "Schema for Violations")."""
    return {"violations": [asdict(violation) for violation in found]}
