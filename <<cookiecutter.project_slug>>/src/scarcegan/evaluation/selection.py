"""Selection: which version of a model each business definition keeps, and with which thresholds.

Pure functions of arrays. A candidate is a version's scores on held-out rows, on which it was not trained. A choice is a
candidate and the thresholds that turn its scores into labels; it depends on the order of the scores alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scarcegan.evaluation import metrics


@dataclass(frozen=True)
class Candidate:
    """The scores of n held-out rows by one version of a model; held-out rows are rows it was not trained on.

    - rarity: float [n], higher is more like the rare class
    - unknown: float [n] in [0, 1], higher is less like the training rows
    """

    rarity: NDArray
    unknown: NDArray


@dataclass(frozen=True)
class Choice:
    """The candidate and the thresholds that a business definition keeps.

    - candidate: the candidate's position among the candidates
    - rare: threshold of rarity: a row that reaches it is labelled rare
    - unknown: threshold of unknown: a row that reaches it, and not `rare`, is labelled unknown
    - floor_met: whether the definition's floor was reached; True for a definition without one
    - validation: figures on the held-out rows: recall, precision and f1 at the threshold `rare`, and pr_auc, all of the
      rare class on the labelled rows; share_unknown and share_unknown_of_known (see unknown_shares)
    """

    candidate: int
    rare: float
    unknown: float
    floor_met: bool
    validation: dict[str, float]


@dataclass(frozen=True)
class ThresholdOptions:
    """The m thresholds of rarity that one candidate can have, from high to low, with recall and precision at each.

    - recall, precision: float [m], of the rare class, at each threshold
    - threshold: float [m], descending
    - pr_auc: the candidate's, which no threshold changes
    """

    recall: NDArray
    precision: NDArray
    threshold: NDArray
    pr_auc: float

    @property
    def f1(self) -> NDArray:
        """F1 of the rare class at each threshold, float [m]; 0 where recall and precision are 0."""
        return 2 * self.recall * self.precision / np.maximum(self.recall + self.precision, 1e-12)


def threshold_options(rare: NDArray, rarity: NDArray) -> ThresholdOptions:
    """The thresholds to choose from, on labelled rows: one per distinct rarity of a rare row.

    Each lies half way between the rarity of a rare row and the next lower rarity of any row; the lowest rarity is a
    threshold itself when it is a rare row's. rare: bool [n], rows of the rare class; rarity: float [n].

    Raises ValueError if no row is rare, or for a rarity that is NaN.
    """
    at = metrics.threshold_curve(rare, rarity)
    if not len(at.thresholds):
        raise ValueError("no row of the rare class to choose by")
    recall = at.hits[0] / at.positives[0]
    precision = at.hits[0] / at.flagged[0]
    return ThresholdOptions(recall, precision, _between(at.thresholds, np.unique(rarity)), float(metrics.pr_auc(at)[0]))


def _between(thresholds: NDArray, scores: NDArray) -> NDArray:
    """For each threshold [m], which is one of the scores: half way down to the next lower score, float [m].

    scores: [k], distinct and ascending. The lowest score has no lower one and is returned as it is.
    """
    place = np.searchsorted(scores, thresholds)
    return np.where(place > 0, (thresholds + scores[np.maximum(place - 1, 0)]) / 2, thresholds)


def best_position(allowed: NDArray, *keys: NDArray) -> int:
    """The position with the largest first key among those marked in `allowed`.

    allowed: bool [m]; when none is marked, all are allowed. keys: [m] each; ties in the first key are decided by the
    next keys, then by the lowest position.
    """
    order = np.lexsort((-np.arange(len(allowed)), *reversed(keys), allowed))
    return int(order[-1])


def highest_recall(found: ThresholdOptions, definition: Mapping[str, Any]) -> tuple[int, bool]:
    """Position of the threshold of highest recall whose precision is at least definition["precision_floor"], and True.

    If there is none: position of the threshold of highest precision, and False. Ties in recall go to the higher
    precision, ties in precision to the higher recall.
    """
    allowed = found.precision >= definition["precision_floor"]
    if not allowed.any():
        return best_position(np.ones_like(allowed), found.precision, found.recall), False
    return best_position(allowed, found.recall, found.precision), True


def highest_precision(found: ThresholdOptions, definition: Mapping[str, Any]) -> tuple[int, bool]:
    """Position of the threshold of highest precision whose recall is at least definition["recall_floor"], and True.

    Ties go to the higher recall. With a floor of at most 1 there always is one, as the lowest threshold has recall 1.
    """
    allowed = found.recall >= definition["recall_floor"]
    return best_position(allowed, found.precision, found.recall), bool(allowed.any())


def best_f1(found: ThresholdOptions, definition: Mapping[str, Any]) -> tuple[int, bool]:
    """Position of the threshold of highest F1, ties going to the higher recall, and True, as there is no floor.

    The definition is not read.
    """
    return best_position(np.ones(len(found.f1), bool), found.f1, found.recall), True


THRESHOLD: dict[str, Callable[[ThresholdOptions, Mapping[str, Any]], tuple[int, bool]]] = {
    "highest_recall": highest_recall,
    "highest_precision": highest_precision,
    "highest_pr_auc": best_f1,
    "fewest_unknown": best_f1,
}


def choose_candidate(
    definition: Mapping[str, Any], candidates: Sequence[Candidate], label: NDArray, rare: int, known_share: float
) -> Choice:
    """The candidate and thresholds that a business definition keeps.

    First each candidate gets its thresholds: of rarity by the function THRESHOLD[keep], which for "highest_pr_auc" and
    "fewest_unknown" is best_f1, and of `unknown` by unknown_threshold. Then `_preferred` chooses among the candidates.

    - definition: `keep`, a key of THRESHOLD (the rule to choose by), and the precision_floor, recall_floor or
      recall_tolerance that the rule needs
    - candidates: scores of the same n held-out rows, from the earliest version of the model to the latest; at least one
    - label: int [n], class position of each row, or -1 without a label; rows without one count for the
      share of unknown only
    - rare: class position of the rare class
    - known_share: largest share, 0 … 1, of the labelled rows whose `unknown` may reach its threshold

    Raises ValueError if no labelled row is rare, or for a rarity of a labelled row that is NaN.
    """
    keep, labelled = definition["keep"], label >= 0
    choices = []
    for number, candidate in enumerate(candidates):
        found = threshold_options(label[labelled] == rare, candidate.rarity[labelled])
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
    return choices[_preferred(keep, definition, choices)]


def _preferred(keep: str, definition: Mapping[str, Any], choices: Sequence[Choice]) -> int:
    """Position of the choice that a business definition prefers, given one choice per candidate.

    keep: the rule by which it prefers, definition["keep"]; definition: has recall_tolerance for "fewest_unknown".

    - "highest_recall", "highest_precision", "highest_pr_auc": the highest of this figure among the choices that meet
      their floor; when none does, the highest precision
    - "fewest_unknown": the smallest share_unknown among the choices whose recall is at most recall_tolerance below the
      highest

    Ties go to the higher PR-AUC, then to the later candidate.
    """

    def figure(name: str) -> NDArray:
        """The figure of that name in each choice's `validation`, float, one per choice."""
        return np.array([choice.validation[name] for choice in choices])

    met = np.array([choice.floor_met for choice in choices])
    later = np.arange(len(choices))
    all_choices = np.ones(len(choices), bool)
    if keep == "highest_recall":
        if not met.any():
            return best_position(all_choices, figure("precision"), figure("pr_auc"), later)
        return best_position(met, figure("recall"), figure("pr_auc"), later)
    if keep == "highest_precision":
        return best_position(met, figure("precision"), figure("pr_auc"), later)
    if keep == "highest_pr_auc":
        return best_position(all_choices, figure("pr_auc"), later)
    tolerated = figure("recall") >= figure("recall").max() - definition["recall_tolerance"]
    return best_position(tolerated, -figure("share_unknown"), figure("pr_auc"), later)


def unknown_threshold(unknown: NDArray, known_share: float) -> float:
    """The lowest threshold that at most a share `known_share` of these scores reaches; 0 when all may reach it, or
    when there are none.

    unknown: float [n] in [0, 1], the scores of the labelled rows. Any threshold between two neighbouring scores has the
    same effect; the one half way is returned, or one just above the highest score.
    """
    descending = np.sort(unknown)[::-1]
    allowed = int(known_share * len(unknown))
    if allowed >= len(unknown):
        return 0.0
    higher = descending[descending > descending[allowed]]
    return float((descending[allowed] + higher[-1]) / 2) if len(higher) else float(np.nextafter(descending[0], 2))


def unknown_shares(candidate: Candidate, label: NDArray, rare: float, unknown: float) -> dict[str, float]:
    """The shares of rows that would be labelled unknown.

    They are "share_unknown", of all rows, and "share_unknown_of_known", of the labelled rows; a share of no rows is
    NaN. candidate: the rows' scores; label: int [n], -1 for a row without a label; rare, unknown: the thresholds. A row
    whose rarity reaches `rare` is labelled rare and not unknown.
    """
    sent = (candidate.rarity < rare) & (candidate.unknown >= unknown)
    return {"share_unknown": float(sent.mean()), "share_unknown_of_known": float(sent[label >= 0].mean())}
