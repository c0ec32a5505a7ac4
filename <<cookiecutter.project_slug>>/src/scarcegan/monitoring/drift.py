"""Drift: how far each column of later rows has moved from a baseline, and which constraints the rows break.

Distances are Kolmogorov-Smirnov's over the baseline's buckets (for a category the largest gap between two shares of a
name), less what chance alone explains at the number of rows at hand, so that a few hundred rows of the same population
raise no alarm (the `Robust` comparison of Model Monitor, as its library Deequ computes it). Shares and missing values
are compared with the binomial distribution for the same reason. No files are read or written here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.special import bdtrc, bdtrik

from scarcegan.monitoring.baseline import Baseline
from scarcegan.monitoring.statistics import LABEL, SCORES, UNKNOWN, ColumnSummary

# sqrt((n + m) / nm) times this is exceeded by two samples of one population about three times in a thousand.
CHANCE_FACTOR = 1.8
ALPHA = 1e-4  # chance of a false alarm per check
SPARE_ROWS = 3  # rows by which a count in the baseline may be off, because it is a sample
DRIFT, WRONG_TYPE, COMPLETENESS = "baseline_drift_check", "data_type_check", "completeness_check"
COMPARISON = "comparison_threshold"
MISSING_COLUMN, EXTRA_COLUMN, UNKNOWN_VALUES = "missing_column_check", "extra_column_check", "categorical_values_check"


@dataclass(frozen=True)
class CurrentRows:
    """Later rows, summarised for the comparison with a baseline.

    - numbers: the summary of the baseline's columns, in its order
    - labels: predicted class -> rows; rows without a predicted class are not counted
    - absent: names of columns of the baseline that no captured row had, of whichever window
    - extra: name of each column that the baseline does not have -> captured rows that had it, of all windows
    """

    numbers: ColumnSummary
    labels: Mapping[str, int]
    absent: frozenset[str] = frozenset()
    extra: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Violation:
    """A broken constraint, with the fields of constraint_violations.json.

    - feature_name: the column ("label" for the predicted classes), or the name of a quality metric
    - constraint_check_type: which check found it, such as "baseline_drift_check"; of a quality metric the comparison,
      such as "LessThanThreshold"
    - description: what was found and what is allowed, in words
    """

    feature_name: str
    constraint_check_type: str
    description: str


@dataclass(frozen=True)
class DriftDistance:
    """How far one column has moved from the baseline.

    - raw: the largest gap between the two distribution functions, or of a category between two shares, 0 … 1
    - robust: `raw` less what chance explains, at least 0
    - psi: population stability index less its expected value without drift, at least 0
    """

    raw: float
    robust: float
    psi: float


def distance(baseline: np.ndarray, current: np.ndarray) -> DriftDistance:
    """The distance between a column's counts in the baseline and in later rows, over the same buckets, int [buckets].

    It is all 0 when either has no rows. The expected population stability index without drift, which is subtracted, is
    (buckets - 1) (1/n + 1/m) for n and m rows.
    """
    m, n = int(baseline.sum()), int(current.sum())
    if not m or not n:
        return DriftDistance(0.0, 0.0, 0.0)
    raw = float(np.abs(np.cumsum(baseline) / m - np.cumsum(current) / n).max())
    p, q = ((c + 0.5) / (c.sum() + 0.5 * len(c)) for c in (baseline, current))
    index = float(((q - p) * np.log(q / p)).sum()) - (len(p) - 1) * (1 / n + 1 / m)
    return DriftDistance(raw, max(0.0, raw - chance_distance(n, m)), max(0.0, index))


def chance_distance(n: int, m: int) -> float:
    """The distance (`raw` in DriftDistance) that two samples of one population exceed about three times in a thousand.

    n, m: how many rows they have, at least 1 each.
    """
    return CHANCE_FACTOR * float(np.sqrt((n + m) / (n * m)))


def distances(baseline: Baseline, numbers: ColumnSummary) -> dict[str, DriftDistance]:
    """Column name -> its distance from the baseline, for each column of the baseline.

    - A column of numbers has the `distance` of its bucket counts, a category the label_distance of its texts.
    - For a column that was empty in the baseline, `raw` is the share of later rows with a finite value, psi 0.
    numbers: the summary of the later rows, over the baseline's columns.
    """
    found = {}
    for i, name in enumerate(baseline.names):
        if len(baseline.edges[i]) and name in baseline.categories:
            found[name] = label_distance(*text_counts(baseline, numbers, name))
        elif len(baseline.edges[i]):
            found[name] = distance(baseline.counts[i], numbers.counts[i])
        else:
            share = float(numbers.finite[i] / max(numbers.rows, 1))
            found[name] = DriftDistance(
                share, max(0.0, share - chance_distance(max(numbers.rows, 1), max(baseline.rows, 1))), 0.0
            )
    return found


def text_counts(baseline: Baseline, numbers: ColumnSummary, name: str) -> tuple[dict[str, int], dict[str, int]]:
    """Text -> rows of the category column `name`, in the baseline and in the later rows (`numbers`), each with REST."""
    return baseline.text_counts(name, baseline.counts), baseline.text_counts(name, numbers.counts)


def label_distance(baseline: Mapping[str, int], current: Mapping[str, int]) -> DriftDistance:
    """The distance between two counts of names (name -> rows); all 0 when one of the two is empty.

    `raw` is the largest change of a name's share, `robust` is `raw` less what chance explains, at least 0, and `psi` is
    that of the names' counts. A name that one of the two lacks has 0 rows there.
    """
    names = sorted({*baseline, *current})
    b, c = (np.array([counts.get(name, 0) for name in names]) for counts in (baseline, current))
    m, n = int(b.sum()), int(c.sum())
    if not m or not n:
        return DriftDistance(0.0, 0.0, 0.0)
    raw = float(np.abs(b / m - c / n).max())
    return DriftDistance(raw, max(0.0, raw - chance_distance(n, m)), distance(b, c).psi)


def allowed_share(count: int, of: int, rows: int, threshold: float) -> tuple[float, float]:
    """The smallest and largest share a class may have among `rows` rows, when `count` of `of` baseline rows had it.

    The share may halve or double, but move by no more than `threshold`. Chance may move it further, as far as it does
    with a probability of ALPHA, one in ten thousand. The baseline's count is taken SPARE_ROWS larger for the upper
    limit and smaller for the lower one, because it is a sample too. of, rows: at least 1.
    """
    most, least = min(1.0, (count + SPARE_ROWS) / of), max(0.0, (count - SPARE_ROWS) / of)
    upper, lower = most + min(most, threshold), least - min(least / 2, threshold)
    high = 1.0 if upper >= 1 else binomial_quantile(1 - ALPHA, rows, upper) / rows
    low = 0.0 if lower <= 0 else binomial_quantile(ALPHA, rows, lower) / rows
    return low, high


def binomial_quantile(level: float, rows: int, share: float) -> int:
    """The smallest count of a binomial distribution (rows, share) whose cumulative probability reaches `level`."""
    return max(0, int(np.ceil(np.nan_to_num(bdtrik(level, rows, share)))))


def violations(
    baseline: Baseline,
    current: CurrentRows,
    threshold: float,
    rare: str,
    found: Mapping[str, DriftDistance] | None = None,
) -> list[Violation]:
    """Every broken constraint, one violation each; [] when there is none.

    They are in this order: missing columns, extra columns, types, missing values, predicted classes that the model does
    not give, shares of predicted classes, and columns that drifted, the largest robust distance first. In
    constraints.json, monitoring_config can switch off the last two kinds ("perform_comparison") or all the others
    ("evaluate_constraints").

    - current: the later rows
    - threshold: largest robust distance allowed, unless constraints.json has another one for a column
    - rare: name of the rare class
    - found: column -> distance, when the distances are known already; None: they are computed

    A column in current.absent is reported as missing, unless it is a score, and is not checked further.
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
            *(v for name in compared for v in missing_values(baseline, current.numbers, name)),
            *unknown_classes(baseline, current),
        ]
    if config.get("distribution_constraints", {}).get("perform_comparison", "Enabled") != "Enabled":
        return rules
    farthest = sorted(compared, key=lambda name: -found[name].robust)
    drifted = [v for name in farthest for v in drifted_column(baseline, current.numbers, name, found[name], threshold)]
    return [*rules, *drifted_classes(baseline, current, threshold, rare), *drifted]


def missing_columns(baseline: Baseline, current: CurrentRows) -> list[Violation]:
    """A violation for each column in current.absent, in the order of the baseline; none for the scores."""
    return [
        Violation(name, MISSING_COLUMN, "the baseline has this column, the captured rows do not")
        for name in baseline.names
        if name in current.absent and not (name in SCORES and baseline.scored)
    ]


def extra_columns(current: CurrentRows) -> list[Violation]:
    """A violation for each column that later rows have and the baseline does not, in name order."""
    return [
        Violation(name, EXTRA_COLUMN, f"{rows:,} captured rows have this column, the baseline does not")
        for name, rows in sorted(current.extra.items())
    ]


def wrong_types(baseline: Baseline, numbers: ColumnSummary, name: str) -> list[Violation]:
    """Violations of the column `name` by text, infinite values, fractions or negative numbers.

    There is one violation for each kind whose share is larger than datatype_check_threshold (0.1 unless
    constraints.json says otherwise). It is the share of all values that are not missing, text included. [] without a
    constraint or without values. Fractions and negative numbers count only where the column's constraint excludes them.
    numbers: the summary of the later rows.
    """
    i, rule = baseline.names.index(name), baseline.constraint(name)
    present = int(numbers.rows - numbers.missing[i])
    if not rule or not present:
        return []
    odd = {"text": numbers.text[i], "infinite": numbers.infinite[i]}
    if rule.get("inferred_type") == "Integral":
        odd["fractions"] = numbers.fractional[i]
    if rule.get("num_constraints", {}).get("is_non_negative"):
        odd["negative"] = numbers.negative[i]
    allowed = constraint_setting(baseline, name, "datatype_check_threshold", 0.1)
    return [
        Violation(
            name, WRONG_TYPE, f"{what}: {count / present:.1%} of {present:,} values, at most {allowed:.0%} allowed"
        )
        for what, count in odd.items()
        if count / present > allowed
    ]


def missing_values(baseline: Baseline, numbers: ColumnSummary, name: str) -> list[Violation]:
    """A list with one violation when too many later rows have no value in the column `name`; otherwise [].

    Allowed is the share that the column's constraint leaves open, or the share missing in the baseline (SPARE_ROWS
    added) if that is larger, and on top what chance alone explains. [] also without rows, or when the constraint asks
    for no completeness. numbers: the summary of the later rows.
    """
    i, rule = baseline.names.index(name), baseline.constraint(name)
    if "completeness" not in rule or not numbers.rows:
        return []
    before, missing = baseline.column(name)["common"]["num_missing"], int(numbers.missing[i])
    allowed = max(1 - rule["completeness"], (before + SPARE_ROWS) / max(baseline.rows, 1))
    if not missing or allowed >= 1 or bdtrc(missing - 1, numbers.rows, allowed) >= ALPHA:
        return []
    words = (
        f"{1 - missing / numbers.rows:.1%} of {numbers.rows:,} rows have a value, {rule['completeness']:.1%} required"
    )
    return [Violation(name, COMPLETENESS, words)]


def drifted_column(
    baseline: Baseline, numbers: ColumnSummary, name: str, found: DriftDistance, threshold: float
) -> list[Violation]:
    """A list with one violation when the robust distance of the column `name` is larger than allowed; otherwise [].

    numbers: the summary of the later rows; found: the column's distance; threshold: the distance allowed, unless
    constraints.json has one for this column.
    """
    allowed = distance_limit(baseline, name, threshold)
    if found.robust <= allowed:
        return []
    words = f"distance {found.robust:.3f} beyond chance, at most {allowed:g} allowed (PSI {found.psi:.2f})"
    if name in baseline.categories and len(baseline.edges[baseline.names.index(name)]):
        before, now = text_counts(baseline, numbers, name)
        text = max(now, key=lambda text: abs(share_of(now, text) - share_of(before, text)))
        words = f"share of '{text}' {share_of(now, text):.1%}, {share_of(before, text):.1%} in the baseline: {words}"
    return [Violation(name, DRIFT, words)]


def drifted_classes(baseline: Baseline, current: CurrentRows, threshold: float, rare: str) -> list[Violation]:
    """Violations of the predicted classes; [] when there are none, or one of the two sides has no predicted classes.

    First the shares as a whole, when the largest change of a share beyond chance exceeds the limit; then the rare class
    and unknown, each when its own share is outside allowed_class_share.
    threshold: how far a share may move; for the shares as a whole, constraints.json may have another limit, for the
    column "label". rare: name of the rare class.
    """
    n = sum(current.labels.values())
    if not n or not baseline.labels:
        return []
    found = []
    overall = label_distance(baseline.labels, current.labels)
    limit = distance_limit(baseline, LABEL, threshold)
    if overall.robust > limit:
        words = f"the share of a class moved by {overall.robust:.3f} beyond chance, at most {limit:g} allowed"
        found.append(Violation(LABEL, DRIFT, words))
    for name in (rare, UNKNOWN):
        share, before = share_of(current.labels, name), share_of(baseline.labels, name)
        low, high = allowed_class_share(baseline, name, n, threshold)
        if not low <= share <= high:
            words = f"share of '{name}' {share:.2%} of {n:,} rows, {before:.2%} in the baseline"
            words += f", {low:.2%} to {high:.2%} allowed"
            found.append(Violation(LABEL, DRIFT, words))
    return found


def allowed_class_share(baseline: Baseline, name: str, rows: int, threshold: float) -> tuple[float, float]:
    """(smallest, largest) share that the predicted class `name` may have among `rows` later rows.

    The baseline's share may halve or double, but move by no more than `threshold`; what chance explains
    is allowed on top.
    """
    return allowed_share(baseline.labels.get(name, 0), sum(baseline.labels.values()), rows, threshold)


def share_of(labels: Mapping[str, int], name: str) -> float:
    """The share of `name` in counts (name -> rows), 0 … 1; 0 when they are empty."""
    return labels.get(name, 0) / max(sum(labels.values()), 1)


def unknown_classes(baseline: Baseline, current: CurrentRows) -> list[Violation]:
    """A list with one violation when too many later rows have a predicted class that constraints.json does not list.

    Too many is a share, of the rows with a predicted class, above domain_content_threshold (0.1 unless constraints.json
    says otherwise). [] otherwise, and when constraints.json lists no classes.
    """
    domain = baseline.constraint(LABEL).get("string_constraints", {}).get("domains")
    n = sum(current.labels.values())
    if domain is None or not n:
        return []
    others = {name: count for name, count in current.labels.items() if name not in domain}
    allowed = constraint_setting(baseline, LABEL, "domain_content_threshold", 0.1)
    share, names = sum(others.values()) / n, ", ".join(sorted(others))
    if share <= allowed:
        return []
    words = f"{share:.1%} of {n:,} rows have a class that the baseline lacks ({names}), {allowed:.0%} allowed"
    return [Violation(LABEL, UNKNOWN_VALUES, words)]


def constraint_setting(baseline: Baseline, name: str, key: str, default: float) -> float:
    """The value of `key` in monitoring_config of constraints.json, or `default` when it is missing.

    name: of a column, whose own monitoringConfigOverrides come first.
    """
    own = baseline.constraint(name).get("monitoringConfigOverrides", {})
    return float({**baseline.constraints.get("monitoring_config", {}), **own}.get(key, default))


def distance_limit(baseline: Baseline, name: str, threshold: float) -> float:
    """The largest distance allowed to the column `name`: its own in constraints.json, or else the general one there, or
    else `threshold`.

    The general one is comparison_threshold for numbers, categorical_comparison_threshold for categories and for the
    predicted classes.
    """
    own = baseline.constraint(name).get("monitoringConfigOverrides", {}).get("distribution_constraints", {})
    general = baseline.constraints.get("monitoring_config", {}).get("distribution_constraints", {})
    kind = "categorical_comparison_threshold" if name == LABEL or name in baseline.categories else COMPARISON
    return float(own.get(COMPARISON, general.get(kind, threshold)))


def violations_json(found: Sequence[Violation]) -> dict[str, Any]:
    """The content of constraint_violations.json: the key "violations" with a mapping for each of the violations.

    Its structure is that of Model Monitor (developer guide, "Schema for Violations").
    """
    return {"violations": [asdict(violation) for violation in found]}
