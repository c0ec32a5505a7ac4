"""Comparison: every method on the same resampled test rows, which to prefer, and whether the gate opens.

Samples of a metric are an array [1 + b]: the figure on the test split, then on each resample (see metrics.py).
Two methods' samples are paired: the same resample of the same rows stands at the same place.
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
CHAMPION = "champion"  # its place among the methods
RATES = (0.001, 0.01, 0.05)  # false-positive rates at which recall is read
GATE_METRICS = ("pr_auc", "recall", "precision", "f_beta", *(f"recall_at_fpr_{rate}" for rate in RATES))


@dataclass(frozen=True)
class Answers:
    """What a method says of the labelled test rows: rarity [n], and for ScarceGAN also the predicted label [n].

    calibrated: rarity is meant as a probability.
    """

    rarity: NDArray
    label: NDArray | None = None
    calibrated: bool = False


def sample(
    label: NDArray, methods: Mapping[str, Answers], classes: int, beta: float, count: int, seed: int
) -> dict[str, dict[str, Samples]]:
    """Method -> metric -> samples, all methods on the same `count` resamples. label [n] in 0..classes-1."""
    found: dict[str, dict[str, list[Samples]]] = {name: {} for name in methods}
    for weights in metrics.resamples(label == classes - 1, count, seed):
        for name, answers in methods.items():
            for metric, values in figures(label, answers, classes, beta, weights).items():
                found[name].setdefault(metric, []).append(values)
    return {name: {m: np.concatenate(v) for m, v in of.items()} for name, of in found.items()}


def figures(label: NDArray, answers: Answers, classes: int, beta: float, weights: NDArray) -> dict[str, Samples]:
    """Every metric of the rare class [b], and with predicted labels those of each class (`recall_0` …)."""
    rare = classes - 1
    at = metrics.threshold_curve(label == rare, answers.rarity, weights)
    values = {"pr_auc": metrics.pr_auc(at)}
    values |= {f"recall_at_fpr_{rate}": metrics.recall_at_false_positive_rate(at, rate) for rate in RATES}
    if answers.calibrated:
        values["brier"] = metrics.brier(label == rare, answers.rarity, weights)
    if answers.label is None:
        return values
    matrix = metrics.confusion_matrix(label, answers.label, classes, weights)
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


def difference(ours: Samples, theirs: Samples, alpha: float = 0.05) -> Estimate:
    """ours - theirs with the two-sided interval of level 1 - alpha over the paired resamples."""
    return metrics.estimate(ours - theirs, alpha)


@dataclass(frozen=True)
class Preference:
    """Which method to use, and why in one sentence. best: the one with the highest figure."""

    method: str
    best: str
    sentence: str


def prefer(samples: Mapping[str, Samples], titles: Mapping[str, str], ours: str, metric: str = "PR-AUC") -> Preference:
    """The simplest method that is not shown to be worse than the best one.

    samples: method -> samples, simplest method first. A method is shown to be worse when the paired 95 % interval
    of (best - method) lies above zero. ours: the method whose figure the sentence never leaves out.
    """
    measured = {name: values for name, values in samples.items() if not np.isnan(values[0])}
    if not measured:
        return Preference("", "", "No method can be preferred: the test split holds no row of the rare class.")
    best = max(measured, key=lambda name: measured[name][0])
    equal = [name for name in measured if name == best or not difference(measured[best], measured[name]).low > 0]
    chosen = equal[0]
    value = f"{metric} {measured[chosen][0]:.3f}"
    if chosen != best:
        gap = difference(measured[best], measured[chosen])
        words = (
            f"no difference beyond the spread between {titles[chosen]} ({value}) and {titles[best]} "
            f"({measured[best][0]:.3f}; {interval(gap)})"
        )
        known = "" if ours in (chosen, best) else f"; {titles[ours]} has {measured[ours][0]:.3f}"
        return Preference(
            chosen, best, f"Prefer {titles[chosen]} on this data: {words}, and it is the simpler one{known}."
        )
    rest = [name for name in measured if name != best]
    if not rest:
        return Preference(chosen, best, f"{titles[chosen]} ({value}) was not compared with any other method.")
    second = max(rest, key=lambda name: measured[name][0])
    gap = difference(measured[best], measured[second])
    known = "" if ours in (best, second) else f"; {titles[ours]} has {measured[ours][0]:.3f}"
    beyond = (
        " beyond the spread" if gap.low > 0 else ", though not beyond the spread, and is the simplest of its equals"
    )
    return Preference(
        chosen,
        best,
        f"Prefer {titles[chosen]} on this data: its {value} is ahead of the next best, {titles[second]} "
        f"({measured[second][0]:.3f}; {interval(gap)}){beyond}{known}.",
    )


def interval(gap: Estimate, alpha: float = 0.05) -> str:
    """`difference +0.030, 95 % interval -0.020 to +0.080`."""
    return f"difference {gap.value:+.3f}, {100 * (1 - alpha):g} % interval {gap.low:+.3f} to {gap.high:+.3f}"


@dataclass(frozen=True)
class Rules:
    """What the gate asks of the model of one business definition.

    minimum: of the figure itself. champion: "not_worse" stops a challenger that is shown to be worse (the whole
    two-sided interval of challenger - champion below zero), "better" asks that it is shown to be better (the whole
    interval above zero), "report" only reports. simple_models: "required" asks the same of ScarceGAN's PR-AUC
    against that of the best simple model (simple models only rank), "report" only reports.
    """

    definition: str
    metric: str
    minimum: float
    champion: Literal["not_worse", "better", "report"]
    simple_models: Literal["report", "required"]
    alpha: float

    def __post_init__(self) -> None:
        if self.metric not in GATE_METRICS:
            raise UserError(
                f"gate metric '{self.metric}' is not one the gate knows (there are: {', '.join(GATE_METRICS)}). "
                "Choose one under gate.metric in config.yaml."
            )
        if not 0 < self.alpha < 1:
            raise UserError(f"gate alpha is {self.alpha}: give a share between 0 and 1, such as 0.05.")


@dataclass(frozen=True)
class Rival:
    """Who the challenger is held against, both on the same resamples. refused: why it cannot be compared, or ""."""

    name: str
    challenger: Samples | None = None
    rival: Samples | None = None
    refused: str = ""


def judge(rules: Rules, challenger: Samples, champion: Rival | None, simple_model: Rival | None) -> dict:
    """The gate's verdict as it is written to gate.json: `passed`, and one sentence with the figures in `reason`."""
    checks = [_against_minimum(rules, challenger), *_against_champion(rules, champion)]
    checks += _against_simple_model(rules, simple_model)
    failed = [words for passed, words in checks if not passed]
    start = f"The gate stays shut for {rules.definition}" if failed else f"The gate opens for {rules.definition}"
    clauses = failed or [words for _, words in checks]
    found = {
        "passed": not failed,
        "reason": f"{start}: {'; '.join(clauses)}.",
        "definition": rules.definition,
        "metric": rules.metric,
        "challenger": float(challenger[0]),
        "minimum": rules.minimum,
        "champion": float(champion.rival[0]) if champion and champion.rival is not None else None,
        "difference": _gap(champion, rules.alpha),
        "best_simple_model": simple_model
        and {
            "name": simple_model.name,
            "metric": "pr_auc",
            "value": float(simple_model.rival[0]) if simple_model.rival is not None else None,
            "difference": _gap(simple_model, rules.alpha),
        },
        "rules": asdict(rules),
    }
    return replace_nan(found)


Check = tuple[bool, str]


def _against_minimum(rules: Rules, challenger: Samples) -> Check:
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


def _against_champion(rules: Rules, champion: Rival | None) -> list[Check]:
    if champion is None:
        return [(True, "there is no champion to compare with yet")]
    if champion.refused or champion.challenger is None or champion.rival is None:
        move = "Set gate.champion to report to register without the comparison" if rules.champion != "report" else ""
        words = f"the champion {champion.name} cannot be compared: {champion.refused}"
        return [(rules.champion == "report", f"{words}. {move}" if move else words)]
    gap = difference(champion.challenger, champion.rival, rules.alpha)
    against = f"the champion's {champion.rival[0]:.3f} ({interval(gap, rules.alpha)})"
    if np.isnan(gap.value) or np.isnan(gap.low):
        return [(rules.champion == "report", f"its difference from the champion {champion.name} cannot be measured")]
    if gap.low > 0:
        return [(True, f"it is better than {against}")]
    if gap.high < 0:
        return [(rules.champion == "report", f"it is worse than {against}")]
    return [(rules.champion != "better", f"it is neither shown to be worse nor better than {against}")]


def _against_simple_model(rules: Rules, best: Rival | None) -> list[Check]:
    if rules.simple_models != "required":
        return []
    if best is None or best.challenger is None or best.rival is None:
        return [(False, "no simple model could be trained to compare with")]
    gap = difference(best.challenger, best.rival, rules.alpha)
    against = f"the best simple model, {best.name}, with pr_auc {best.rival[0]:.3f} ({interval(gap, rules.alpha)})"
    return [(bool(gap.low > 0), f"it {'beats' if gap.low > 0 else 'is not shown to beat'} {against}")]


def _gap(rival: Rival | None, alpha: float) -> dict | None:
    if rival is None or rival.challenger is None or rival.rival is None:
        return None
    gap = difference(rival.challenger, rival.rival, alpha)
    return {"value": gap.value, "low": gap.low, "high": gap.high}


def best(samples: Mapping[str, Samples], names: Sequence[str]) -> str | None:
    """The name with the highest figure, None without names or where nothing could be measured."""
    measured = [name for name in names if not np.isnan(samples[name][0])]
    return max(measured, key=lambda name: samples[name][0], default=None)
