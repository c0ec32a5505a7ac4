"""Selection: what each business definition keeps, chosen on validation rows alone. Pure functions of arrays.

A candidate is a checkpoint and its scores on rows that it was not trained on. A choice is a candidate and the
thresholds that turn its scores into labels. Only the order of the scores matters here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scarcegan.evaluation import metrics


@dataclass(frozen=True)
class Candidate:
    """A checkpoint's scores [n]; label of row i is known to the caller. unknown is in [0, 1]."""

    iteration: int
    rarity: NDArray
    unknown: NDArray


@dataclass(frozen=True)
class Choice:
    """Candidate number, thresholds, whether the floor was met, and the figures on validation rows."""

    candidate: int
    rare: float
    unknown: float
    floor_met: bool
    validation: dict[str, float]


@dataclass(frozen=True)
class Options:
    """What the thresholds of one candidate can give: recall, precision, threshold [m], most demanding first."""

    recall: NDArray
    precision: NDArray
    threshold: NDArray
    pr_auc: float

    @property
    def f1(self) -> NDArray:
        return 2 * self.recall * self.precision / np.maximum(self.recall + self.precision, 1e-12)


def options(rare: NDArray, rarity: NDArray) -> Options:
    """Options on labelled rows: a threshold between each rare row's score and the next lower one."""
    at = metrics.threshold_curve(rare, rarity)
    if not len(at.thresholds):
        raise ValueError("no row of the rare class to choose by")
    recall = at.hits[0] / at.positives[0]
    precision = at.hits[0] / at.flagged[0]
    return Options(recall, precision, _between(at.thresholds, np.unique(rarity)), float(metrics.pr_auc(at)[0]))


def _between(thresholds: NDArray, scores: NDArray) -> NDArray:
    """Halfway from each threshold (itself a score) down to the next lower score; the lowest score stays."""
    place = np.searchsorted(scores, thresholds)
    return np.where(place > 0, (thresholds + scores[np.maximum(place - 1, 0)]) / 2, thresholds)


def best(mask: NDArray, *keys: NDArray) -> int:
    """Position of the largest first key among `mask`; ties by the next key, then the earliest."""
    order = np.lexsort((-np.arange(len(mask)), *reversed(keys), mask))
    return int(order[-1])


def highest_recall(found: Options, definition: Mapping[str, Any]) -> tuple[int, bool]:
    """The threshold of highest recall with precision at the floor, or else the most precise one."""
    kept = found.precision >= definition["precision_floor"]
    if not kept.any():
        return best(np.ones_like(kept), found.precision, found.recall), False
    return best(kept, found.recall, found.precision), True


def highest_precision(found: Options, definition: Mapping[str, Any]) -> tuple[int, bool]:
    """The threshold of highest precision with recall at the floor. Flagging everybody has recall 1, so there is one."""
    kept = found.recall >= definition["recall_floor"]
    return best(kept, found.precision, found.recall), bool(kept.any())


def best_f1(found: Options, definition: Mapping[str, Any]) -> tuple[int, bool]:
    """The threshold of highest F1."""
    return best(np.ones(len(found.f1), bool), found.f1, found.recall), True


THRESHOLD: dict[str, Callable[[Options, Mapping[str, Any]], tuple[int, bool]]] = {
    "highest_recall": highest_recall,
    "highest_precision": highest_precision,
    "highest_pr_auc": best_f1,
    "fewest_unknown": best_f1,
}


def choose(
    definition: Mapping[str, Any], candidates: Sequence[Candidate], label: NDArray, rare: int, known_share: float
) -> Choice:
    """The candidate and thresholds that a definition keeps.

    label [n]: class, or -1 for unlabelled rows, which count for the share of unknown only. rare: label of the rare
    class. known_share: share of the labelled rows whose `unknown` may reach the threshold.
    Raises ValueError without a rare row.
    """
    keep = definition["keep"]
    choices, ranking = [], []
    for number, candidate in enumerate(candidates):
        labelled = label >= 0
        found = options(label[labelled] == rare, candidate.rarity[labelled])
        place, met = THRESHOLD[keep](found, definition)
        limit = unknown_threshold(candidate.unknown[labelled], known_share)
        figures = {
            "recall": found.recall[place],
            "precision": found.precision[place],
            "f1": found.f1[place],
            "pr_auc": found.pr_auc,
            **unknown_shares(candidate, label, found.threshold[place], limit),
        }
        figures = {name: float(value) for name, value in figures.items()}
        choices.append(Choice(number, float(found.threshold[place]), limit, met, figures))
        ranking.append(found.pr_auc)
    return choices[_preferred(keep, definition, choices)]


def _preferred(keep: str, definition: Mapping[str, Any], choices: Sequence[Choice]) -> int:
    """Number of the choice that a definition prefers; ties go to the better ranking, then to the later checkpoint."""

    def figure(name: str) -> NDArray:
        return np.array([choice.validation[name] for choice in choices])

    met = np.array([choice.floor_met for choice in choices])
    later = np.arange(len(choices))
    everyone = np.ones(len(choices), bool)
    if keep == "highest_recall":
        if not met.any():
            return best(everyone, figure("precision"), figure("pr_auc"), later)
        return best(met, figure("recall"), figure("pr_auc"), later)
    if keep == "highest_precision":
        return best(met, figure("precision"), figure("pr_auc"), later)
    if keep == "highest_pr_auc":
        return best(everyone, figure("pr_auc"), later)
    near = figure("recall") >= figure("recall").max() - definition["recall_tolerance"]
    return best(near, -figure("share_unknown"), figure("pr_auc"), later)


def unknown_threshold(unknown: NDArray, known_share: float) -> float:
    """The lowest threshold that at most `known_share` of these scores of labelled rows reach."""
    descending = np.sort(unknown)[::-1]
    allowed = int(known_share * len(unknown))
    if allowed >= len(unknown):
        return 0.0
    higher = descending[descending > descending[allowed]]
    return float((descending[allowed] + higher[-1]) / 2) if len(higher) else float(np.nextafter(descending[0], 2))


def unknown_shares(candidate: Candidate, label: NDArray, rare: float, unknown: float) -> dict[str, float]:
    """Share of all rows, and of the labelled ones, that would be labelled unknown (the rare class goes first)."""
    sent = (candidate.rarity < rare) & (candidate.unknown >= unknown)
    return {"share_unknown": float(sent.mean()), "share_unknown_of_known": float(sent[label >= 0].mean())}
