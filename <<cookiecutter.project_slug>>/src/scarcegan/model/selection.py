"""Selection: which snapshot and which thresholds each business definition keeps. Pure numpy, never sees the test users.

Chosen on users the members did not learn from: the validation users, and each labelled training user as scored by the
members whose fold left that user out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

IMPOSSIBLE = 2.0  # a threshold no score reaches


@dataclass(frozen=True)
class Candidate:
    """One snapshot as seen by selection. rarity [n] and rare bool [n] of labelled users; unknown_share: of the unlabelled
    validation users, those at or above the unknown threshold."""

    iteration: int
    rarity: np.ndarray
    rare: np.ndarray
    unknown_share: float


@dataclass(frozen=True)
class Choice:
    """What a business definition keeps. floor_met: whether any snapshot kept the floor; figures: on validation users."""

    candidate: int
    threshold: float
    floor_met: bool
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Points:
    """Every distinct threshold of one candidate, highest first, and what it gives."""

    threshold: np.ndarray
    recall: np.ndarray
    precision: np.ndarray


def points(candidate: Candidate) -> Points:
    """Thresholds lie halfway between neighbouring scores, so a user is never exactly on one."""
    order = np.argsort(-candidate.rarity, kind="stable")
    score, rare = candidate.rarity[order], candidate.rare[order]
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    following = np.append(score[last[:-1] + 1], 0.0)
    hits = np.cumsum(rare)[last]
    return Points((score[last] + following) / 2, hits / max(rare.sum(), 1), hits / (last + 1))


def choose(definition: Mapping[str, Any], candidates: Sequence[Candidate]) -> Choice:
    """Apply one business definition, as config.yaml has it, to the candidates."""
    return RULES[definition["keep"]](definition, candidates)


def highest_recall(definition: Mapping[str, Any], candidates: Sequence[Candidate]) -> Choice:
    """Highest recall among thresholds whose precision keeps the floor; if none does, the highest precision there is."""
    return floored(candidates, definition["precision_floor"], lambda p: p.precision, lambda p: p.recall)


def highest_precision(definition: Mapping[str, Any], candidates: Sequence[Candidate]) -> Choice:
    """Highest precision among thresholds whose recall keeps the floor."""
    return floored(candidates, definition["recall_floor"], lambda p: p.recall, lambda p: p.precision)


def floored(
    candidates: Sequence[Candidate],
    floor: float,
    kept: Callable[[Points], np.ndarray],
    wanted: Callable[[Points], np.ndarray],
) -> Choice:
    """The candidate and threshold with the most of `wanted` where `kept` is at least the floor (ties: more of `kept`)."""
    best = None
    for number, candidate in enumerate(candidates):
        found = points(candidate)
        met = kept(found) >= floor
        rank = np.where(met, wanted(found), -1.0) + np.where(met, 1e-6, 1.0) * kept(found)
        place = int(np.argmax(rank))
        key = (bool(met.any()), float(rank[place]), candidate.iteration)
        if best is None or key > best[0]:
            best = (key, number, place)
    assert best is not None, "no candidate"
    return choice(candidates, best[1], best[2], best[0][0])


def highest_pr_auc(_: Mapping[str, Any], candidates: Sequence[Candidate]) -> Choice:
    """Highest area under the precision-recall curve; its threshold is that of the highest F1."""
    number = int(np.argmax([average_precision_score(c.rare, c.rarity) for c in candidates]))
    return choice(candidates, number, best_f1(points(candidates[number])), True)


def fewest_unknown(definition: Mapping[str, Any], candidates: Sequence[Candidate]) -> Choice:
    """Fewest unlabelled users sent to unknown, among snapshots whose recall at the highest F1 is within the tolerance."""
    places = [best_f1(points(candidate)) for candidate in candidates]
    recall = np.array([points(c).recall[place] for c, place in zip(candidates, places, strict=True)])
    share = np.array([candidate.unknown_share for candidate in candidates])
    number = int(np.argmin(np.where(recall >= recall.max() - definition["recall_tolerance"], share, np.inf)))
    return choice(candidates, number, places[number], True)


def best_f1(found: Points) -> int:
    """Place of the threshold with the highest F1."""
    return int(np.argmax(2 * found.recall * found.precision / np.maximum(found.recall + found.precision, 1e-12)))


def choice(candidates: Sequence[Candidate], number: int, place: int, met: bool) -> Choice:
    candidate, found = candidates[number], points(candidates[number])
    figures = {
        "recall": float(found.recall[place]),
        "precision": float(found.precision[place]),
        "pr_auc": float(average_precision_score(candidate.rare, candidate.rarity)),
        "unknown_share": candidate.unknown_share,
    }
    return Choice(number, float(found.threshold[place]), met, figures)


RULES = {
    "highest_recall": highest_recall,
    "highest_precision": highest_precision,
    "highest_pr_auc": highest_pr_auc,
    "fewest_unknown": fewest_unknown,
}
