"""Comparison: every method on the same resampled test rows, which method to prefer, and whether the gate opens.

A method is a model, a simple model or the champion (the model in use). Samples of a metric are an array [1 + b]: the
figure on the test split, then on each of b bootstrap resamples. Samples of two methods are paired: the same position is
the same resample. The gate decides whether a new model, the challenger, may be registered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scarcegan.errors import UserError
from scarcegan.evaluation import metrics
from scarcegan.evaluation.metrics import Estimate
from scarcegan.jsonfile import replace_nan

Samples = NDArray[np.floating]
CHAMPION_METHOD = "champion"  # the champion's name among the methods
FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)  # false-positive rates at which recall is read
GATE_METRICS = ("pr_auc", "recall", "precision", "f_beta", *(f"recall_at_fpr_{rate}" for rate in FALSE_POSITIVE_RATES))


@dataclass(frozen=True)
class MethodScores:
    """A method's scores of the n labelled test rows.

    - rarity: float [n], higher is more like the rare class; not NaN
    - label: int [n], predicted class position, the number of classes for unknown; None for a method that only ranks
    - calibrated: whether rarity is meant as a probability, so that its Brier score is measured
    """

    rarity: NDArray
    label: NDArray | None = None
    calibrated: bool = False


def resample_metrics(
    label: NDArray, methods: Mapping[str, MethodScores], classes: int, beta: float, count: int, seed: int
) -> dict[str, dict[str, Samples]]:
    """{name of a method: {metric: samples [1 + count]}}: the figure on all rows, then on each resample.

    - label: int [n], class positions 0 … classes - 1, the rare class last
    - methods: name -> its scores of these rows; all are measured on the same resamples
    - classes: number of classes
    - beta: of F-beta
    - count, seed: number of bootstrap resamples, and the seed they are drawn with

    The metrics are those of `method_metrics`.

    Raises ValueError for a rarity that is NaN.
    """
    found: dict[str, dict[str, list[Samples]]] = {name: {} for name in methods}
    for weights in metrics.resamples(label == classes - 1, count, seed):
        for name, scores in methods.items():
            for metric, values in method_metrics(label, scores, classes, beta, weights).items():
                found[name].setdefault(metric, []).append(values)
    return {name: {m: np.concatenate(v) for m, v in of.items()} for name, of in found.items()}


def method_metrics(
    label: NDArray, scores: MethodScores, classes: int, beta: float, weights: NDArray
) -> dict[str, Samples]:
    """{metric: values [b]} of a method in each of b resamples; NaN where a metric is undefined.

    - of every method: pr_auc, recall_at_fpr_0.001, recall_at_fpr_0.01, recall_at_fpr_0.05
    - of a calibrated one: brier
    - of one with predicted labels, for the rare class: recall, precision, f_beta, false_alarms_per_hit,
      false_positive_rate; over all classes: accuracy, share_unknown; for each class position k: recall_<k>,
      precision_<k>, f_beta_<k>

    label: int [n], class positions; scores: the method's; classes: number of classes, of which the last is rare; beta:
    of F-beta; weights: [b, n], how often each row was drawn in each resample.

    Raises ValueError for a rarity that is NaN.
    """
    rare = classes - 1
    at = metrics.threshold_curve(label == rare, scores.rarity, weights)
    values = {"pr_auc": metrics.pr_auc(at)}
    values |= {
        f"recall_at_fpr_{rate}": metrics.recall_at_false_positive_rate(at, rate) for rate in FALSE_POSITIVE_RATES
    }
    if scores.calibrated:
        values["brier"] = metrics.brier(label == rare, scores.rarity, weights)
    if scores.label is None:
        return values
    matrix = metrics.confusion_matrix(label, scores.label, classes, weights)
    values |= {
        "recall": metrics.recall(matrix, rare),
        "precision": metrics.precision(matrix, rare),
        "f_beta": metrics.f_beta(matrix, rare, beta),
        "false_alarms_per_hit": metrics.false_alarms_per_hit(matrix, rare),
        "false_positive_rate": metrics.false_positive_rate(matrix, rare),
        "accuracy": metrics.accuracy(matrix),
        "share_unknown": metrics.share_unknown(matrix),
    }
    for k in range(classes):
        values |= {f"recall_{k}": metrics.recall(matrix, k), f"precision_{k}": metrics.precision(matrix, k)}
        values[f"f_beta_{k}"] = metrics.f_beta(matrix, k, beta)
    return values


def paired_difference(ours: Samples, theirs: Samples, alpha: float = 0.05) -> Estimate:
    """The figure ours - theirs (above zero: ours is higher), with its two-sided interval of level 1 - alpha.

    Both are samples of one metric and must come from the same resamples, in the same order.
    """
    return metrics.estimate(ours - theirs, alpha)


@dataclass(frozen=True)
class Preference:
    """The method to use.

    - method: its name, "" when nothing could be measured
    - best: the name of the method with the highest figure, which may be another method; "" when nothing could be
      measured
    - sentence: what to use and why
    """

    method: str
    best: str
    sentence: str


def prefer(samples: Mapping[str, Samples], titles: Mapping[str, str], ours: str, metric: str = "PR-AUC") -> Preference:
    """Choose the simplest method that is not shown to be worse than the best one.

    - samples: {name of a method: samples of the metric}, the simplest method first
    - titles: {name of a method: what the sentence calls it}
    - ours: name of the method whose figure the sentence gives even if it is neither the preferred nor the best one
    - metric: what the sentence calls the metric, of which higher is better

    A method is shown to be worse when the paired 95 % interval of (best - method) lies above zero. A method whose
    figure is NaN is left out; when all are, the names in the result are "" and the sentence says so.
    """
    measured = {name: values for name, values in samples.items() if not np.isnan(values[0])}
    if not measured:
        return Preference("", "", "No method can be preferred: the test split holds no row of the rare class.")
    best = max(measured, key=lambda name: measured[name][0])
    equal = [name for name in measured if name == best or not paired_difference(measured[best], measured[name]).low > 0]
    chosen, rest = equal[0], [name for name in measured if name != equal[0]]
    value = f"{metric} {measured[chosen][0]:.3f}"
    if not rest:
        return Preference(chosen, best, f"{titles[chosen]} ({value}) was not compared with any other method.")
    other = max(rest, key=lambda name: measured[name][0])
    its = f"{measured[other][0]:.3f}"
    gap = paired_difference(measured[best], measured[other if chosen == best else chosen])
    if chosen == best:
        within = "within the spread; of the methods within it, this is the simplest"
        lead = "beyond the spread" if gap.low > 0 else within
        why = f"Its {value} is the highest; next is {titles[other]} with {its} ({difference_text(gap)}). "
        why += f"The lead is {lead}."
    else:
        why = f"It is the simplest method whose {metric}, {measured[chosen][0]:.3f}, is within the spread of the best: "
        why += f"{titles[best]} with {its} ({difference_text(gap)})."
    known = f" {titles[ours]} has {measured[ours][0]:.3f}." if ours in measured and ours not in (chosen, other) else ""
    return Preference(chosen, best, f"Prefer {titles[chosen]} on this data. {why}{known}")


def difference_text(gap: Estimate, alpha: float = 0.05) -> str:
    """A difference in words: `difference +0.030, 95 % interval -0.020 to +0.080`.

    gap: the difference with its interval, which is of level 1 - alpha.
    """
    return f"difference {gap.value:+.3f}, {100 * (1 - alpha):g} % interval {gap.low:+.3f} to {gap.high:+.3f}"


@dataclass(frozen=True)
class GateRules:
    """What the gate requires of the model of one business definition, the challenger.

    - definition: name of the business definition
    - metric: one of GATE_METRICS: pr_auc, recall, precision, f_beta (of the rare class), recall_at_fpr_0.001,
      recall_at_fpr_0.01, recall_at_fpr_0.05
    - minimum: least value of the metric, with which the gate still opens
    - champion: "not_worse" stops a challenger that is shown to be worse than the champion (the whole two-sided interval
      of the difference below zero), "better" requires that it is shown to be better (above zero), "report" only
      reports; the first two also stop a challenger that cannot be compared with the champion
    - simple_models: "required" requires that the challenger's PR-AUC is shown to be better than the best simple
      model's, "report" only reports
    - alpha: the intervals are of level 1 - alpha

    Raises UserError for a metric that is not in GATE_METRICS, or an alpha that is not between 0 and 1.
    """

    definition: str
    metric: str
    minimum: float
    champion: Literal["not_worse", "better", "report"]
    simple_models: Literal["report", "required"]
    alpha: float

    def __post_init__(self) -> None:
        """Raises UserError for a metric that is not in GATE_METRICS, or an alpha that is not between 0 and 1."""
        if self.metric not in GATE_METRICS:
            raise UserError(
                f"gate metric '{self.metric}' cannot be used by the gate (it can use: {', '.join(GATE_METRICS)}). "
                "Choose one under gate.metric in config.yaml."
            )
        if not 0 < self.alpha < 1:
            raise UserError(f"gate alpha is {self.alpha}: give a share between 0 and 1, such as 0.05.")


@dataclass(frozen=True)
class Comparison:
    """The challenger and another method on the same resamples.

    - name: of the other method
    - challenger, other: each one's samples of one metric; None when they cannot be compared
    - refused: why they cannot be compared, to follow "cannot be compared: "; "" when they can
    """

    name: str
    challenger: Samples | None = None
    other: Samples | None = None
    refused: str = ""


def decide_gate(
    rules: GateRules, challenger: Samples, champion: Comparison | None, simple_model: Comparison | None
) -> dict:
    """Decide whether the gate opens for a model. Returns the content of gate.json, in which None stands for NaN.

    - challenger: samples of the gate's metric
    - champion: comparison by that metric; None without a champion
    - simple_model: comparison by PR-AUC with the best simple model; None without any

    The keys of the result:

    - passed: whether the gate opens
    - reason: a sentence with the failed requirements, or with all of them when the gate opens
    - definition, metric, minimum: as in the rules
    - challenger, champion: each one's figure of the metric; None for a champion that is absent or not comparable
    - difference: challenger less champion, {"value", "low", "high"}, or None
    - best_simple_model: None without one, or {"name", "metric", "value", "difference"}: name, "pr_auc", the simple
      model's figure, and {"value", "low", "high"} of challenger less simple model
    - rules: all of them, as a dict
    """
    checks = [_against_minimum(rules, challenger), *_against_champion(rules, champion)]
    checks += _against_simple_model(rules, simple_model)
    failed = [words for passed, words in checks if not passed]
    start = f"The gate stays closed for {rules.definition}" if failed else f"The gate opens for {rules.definition}"
    clauses = failed or [words for _, words in checks]
    found = {
        "passed": not failed,
        "reason": f"{start}: {'; '.join(clauses)}.",
        "definition": rules.definition,
        "metric": rules.metric,
        "challenger": float(challenger[0]),
        "minimum": rules.minimum,
        "champion": float(champion.other[0]) if champion and champion.other is not None else None,
        "difference": _gap(champion, rules.alpha),
        "best_simple_model": simple_model
        and {
            "name": simple_model.name,
            "metric": "pr_auc",
            "value": float(simple_model.other[0]) if simple_model.other is not None else None,
            "difference": _gap(simple_model, rules.alpha),
        },
        "rules": asdict(rules),
    }
    return replace_nan(found)


Check = tuple[bool, str]


def _against_minimum(rules: GateRules, challenger: Samples) -> Check:
    """Whether the gate's metric reaches rules.minimum, and a clause of the reason that says so.

    challenger: samples of the metric. A metric that is NaN does not reach it.
    """
    value = float(challenger[0])
    if np.isnan(value):
        why = (
            "it flags no test user" if rules.metric == "precision" else "the test split holds no row of the rare class"
        )
        return False, f"its {rules.metric} cannot be measured because {why}"
    passed = value >= rules.minimum
    return (
        passed,
        f"its {rules.metric} {value:.3f} is {'at least' if passed else 'below'} the minimum {rules.minimum:g}",
    )


def _against_champion(rules: GateRules, champion: Comparison | None) -> list[Check]:
    """[(whether the comparison with the champion lets the gate open, a clause of the reason)], always one pair.

    champion: None without a champion; then the gate may open. With rules.champion "report" it always may. With the
    other two it may not when the difference or its interval is NaN.
    """
    if champion is None:
        return [(True, "there is no champion to compare with yet")]
    if champion.refused or champion.challenger is None or champion.other is None:
        move = "Set gate.champion to report to register without the comparison" if rules.champion != "report" else ""
        words = f"the champion {champion.name} cannot be compared: {champion.refused}"
        return [(rules.champion == "report", f"{words}. {move}" if move else words)]
    gap = paired_difference(champion.challenger, champion.other, rules.alpha)
    against = f"the champion's {champion.other[0]:.3f} ({difference_text(gap, rules.alpha)})"
    if np.isnan(gap.value) or np.isnan(gap.low):
        return [(rules.champion == "report", f"its difference from the champion {champion.name} cannot be measured")]
    if gap.low > 0:
        return [(True, f"it is better than {against}")]
    if gap.high < 0:
        return [(rules.champion == "report", f"it is worse than {against}")]
    return [(rules.champion != "better", f"it is neither shown to be worse nor better than {against}")]


def _against_simple_model(rules: GateRules, simple_model: Comparison | None) -> list[Check]:
    """[(whether the comparison with the best simple model lets the gate open, a clause of the reason)], or [].

    [] when the rules do not require the comparison. Where it is required but cannot be made, the gate may
    not open.
    """
    if rules.simple_models != "required":
        return []
    if simple_model is None or simple_model.challenger is None or simple_model.other is None:
        return [(False, "no simple model could be trained to compare with")]
    gap = paired_difference(simple_model.challenger, simple_model.other, rules.alpha)
    pr_auc, words = simple_model.other[0], difference_text(gap, rules.alpha)
    against = f"the best simple model, {simple_model.name}, with pr_auc {pr_auc:.3f} ({words})"
    return [(bool(gap.low > 0), f"it {'beats' if gap.low > 0 else 'is not shown to beat'} {against}")]


def _gap(found: Comparison | None, alpha: float) -> dict | None:
    """The difference challenger - other as {"value", "low", "high"}, with its interval of level 1 - alpha.

    None without a comparison, or when the two cannot be compared. The numbers may be NaN.
    """
    if found is None or found.challenger is None or found.other is None:
        return None
    gap = paired_difference(found.challenger, found.other, alpha)
    return {"value": gap.value, "low": gap.low, "high": gap.high}


def best_method(samples: Mapping[str, Samples], names: Sequence[str]) -> str | None:
    """The one of `names` with the highest figure, the first of equals; None when nothing could be measured.

    samples: {name of a method: its samples of one metric}, for all `names`; the first sample is the figure.
    """
    measured = [name for name in names if not np.isnan(samples[name][0])]
    return max(measured, key=lambda name: samples[name][0], default=None)
