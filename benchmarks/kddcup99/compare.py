"""The same treatment for every method: five cross-fitted members, a threshold from training rows, figures.

Each of five members leaves one fold of the labelled rows out; rows asked about get the mean over members. The
threshold is where F1 is highest over the training rows: labelled ones by the member that did not see them, unlabelled
ones (taken for normal) by the mean.
"""

from collections.abc import Callable, Iterator

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from kddcup99.protocol import Draw
from kddcup99.scores import best_threshold, figures

MEMBERS = 5
LOOKED_AT = 20_000  # of the unlabelled rows, behind the threshold

Scorer = Callable[[np.ndarray], np.ndarray]
Method = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Scorer]


def folds(values: np.ndarray, rare: np.ndarray, seed: int, count: int = MEMBERS) -> np.ndarray:
    """Fold int [n] of every labelled row, by class; equal rows (drawn with replacement) share a fold."""
    _, same = np.unique(values, axis=0, return_inverse=True)
    fold = np.empty(len(rare), int)
    parts = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(values, rare, same)
    for number, (_, rows) in enumerate(parts):
        fold[rows] = number
    return fold


def preprocessing(labelled: np.ndarray, unlabelled: np.ndarray, log: bool = True) -> Callable[[np.ndarray], np.ndarray]:
    """log1p (all features are counts or rates, none below 0), then mean 0 and variance 1 over the training rows."""
    squeeze = np.log1p if log else np.asarray
    scaler = StandardScaler().fit(squeeze(np.concatenate([labelled, unlabelled])))
    return lambda values: scaler.transform(squeeze(values)).astype(np.float32)


def cross_fitted(method: Method, draw: Draw, members: int = MEMBERS) -> tuple[np.ndarray, dict[str, float]]:
    """Rarity float [n] of the rows asked about, and the thresholds."""
    prepare = preprocessing(draw.labelled.values, draw.unlabelled)
    labelled, unlabelled, asked = (prepare(rows) for rows in (draw.labelled.values, draw.unlabelled, draw.test.values))
    rare, some = draw.labelled.rare, unlabelled[:LOOKED_AT]
    fold = folds(draw.labelled.values, rare, draw.seed)
    parts = [
        one_member(method, labelled, rare, unlabelled, fold != number, draw.seed * 100 + number, (some, asked))
        for number in range(members)
    ]
    own = np.concatenate([part[0] for part in parts])
    truth = np.concatenate([rare[fold == number] for number in range(members)])
    return np.mean([part[2] for part in parts], axis=0), {
        "labelled": best_threshold(own, truth),
        "population": threshold_of(own, truth, np.mean([part[1] for part in parts], axis=0), len(unlabelled)),
    }


def one_member(
    method: Method,
    labelled: np.ndarray,
    rare: np.ndarray,
    unlabelled: np.ndarray,
    seen: np.ndarray,
    seed: int,
    others: tuple[np.ndarray, ...],
) -> list[np.ndarray]:
    """Fit on the labelled rows that are `seen`; score those that are not, then the others."""
    score = method(labelled[seen], rare[seen], unlabelled, seed)
    return [score(rows) for rows in (labelled[~seen], *others)]


def threshold_of(own: np.ndarray, rare: np.ndarray, unlabelled: np.ndarray, population: int) -> float:
    """Highest F1 over labelled rows (rarity `own`) and unlabelled ones, these standing for `population` normal rows."""
    weights = np.concatenate([np.ones(len(own)), np.full(len(unlabelled), population / len(unlabelled))])
    truth = np.concatenate([rare, np.zeros(len(unlabelled), bool)])
    return best_threshold(np.concatenate([own, unlabelled]), truth, weights)


def judge(rarity: np.ndarray, thresholds: dict[str, float], draw: Draw) -> dict[str, float]:
    r = figures(rarity, draw.test.rare, thresholds["labelled"], draw.weights)
    q = figures(rarity, draw.test.rare, thresholds["population"], draw.weights)
    return r | {"f1_population": q["f1"]}


def over_seeds(
    run: Callable[[Draw], tuple[np.ndarray, dict[str, float]]], draws: Iterator[Draw]
) -> list[dict[str, float]]:
    return [judge(*run(draw), draw) for draw in draws]
