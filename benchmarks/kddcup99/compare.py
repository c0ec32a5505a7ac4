"""The same treatment for every method: five cross-fitted members, a threshold from training rows, figures.

Each of five members leaves one fold of the labelled rows out; rows asked about get the mean over members. Labelled
rare rows count by evenness (scarcegan.model.evenness), in the fit and behind the threshold. The threshold is where F1
is highest over training rows, each rated by members that did not see its label.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import StandardScaler

from kddcup99.protocol import Draw
from kddcup99.scores import best_threshold, figures
from kddcup99.simple_models import balance

MEMBERS = 5
LOOKED_AT = 20_000  # of the unlabelled rows, behind the threshold

Scorer = Callable[[np.ndarray], np.ndarray]
Method = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], Scorer]


@dataclass(frozen=True)
class Rated:
    """What a method says: rarity of the rows asked about, of labelled rows by the member that did not see them (with
    their truth and weights), and of some unlabelled rows, which stand for `population` of them."""

    asked: np.ndarray
    own: np.ndarray
    own_rare: np.ndarray
    own_weights: np.ndarray
    unlabelled: np.ndarray
    population: int

    @property
    def threshold(self) -> float:
        """Highest F1 over labelled rows and unlabelled ones, these taken for normal.

        How rare the class is where the model will be used is unknown: labelled rows hold too many, because they were
        picked, and in the population all unlabelled rows would have to be normal. The unlabelled rows count for the
        geometric mean of the two.
        """
        normal = float((~self.own_rare).sum())
        count = np.sqrt(normal * self.population)
        weights = np.concatenate([self.own_weights, np.full(len(self.unlabelled), count / len(self.unlabelled))])
        truth = np.concatenate([self.own_rare, np.zeros(len(self.unlabelled), bool)])
        return best_threshold(np.concatenate([self.own, self.unlabelled]), truth, weights)

    @property
    def labelled_threshold(self) -> float:
        """Highest F1 over the labelled rows as they are: right where the class is as frequent as among them.

        The project's own rule: its labelled users are drawn from the population.
        """
        return best_threshold(self.own, self.own_rare)


def folds(values: np.ndarray, rare: np.ndarray, seed: int, count: int = MEMBERS) -> np.ndarray:
    """Fold int [n] of every labelled row, by class; equal rows (drawn with replacement) share a fold."""
    _, same = np.unique(np.column_stack([values, rare]), axis=0, return_inverse=True)
    rng, fold = np.random.default_rng(seed), np.empty(same.max() + 1, int)
    for kind in (True, False):
        groups = rng.permutation(np.unique(same[rare == kind]))
        fold[groups] = np.arange(len(groups)) % count
    return fold[same]


def even_weights(labelled: np.ndarray, rare: np.ndarray) -> np.ndarray:
    """Weights [n] of scaled labelled rows: 1, and of rare rows by how many there are around each, 1 on average."""
    from scarcegan.model import evenness

    return evenness.weigh_rare_rows(np.clip(labelled, -4, 4), rare, 1.0)


def preprocessing(labelled: np.ndarray, unlabelled: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """log1p (all features are counts or rates, none below 0), then mean 0 and variance 1 over the training rows."""
    scaler = StandardScaler().fit(np.log1p(np.concatenate([labelled, unlabelled])))
    return lambda values: scaler.transform(np.log1p(values)).astype(np.float32)


def cross_fitted(method: Method, draw: Draw, members: int = MEMBERS) -> Rated:
    """Fit a simple model's members and rate."""
    prepare = preprocessing(draw.labelled.values, draw.unlabelled)
    labelled, unlabelled, asked = (prepare(rows) for rows in (draw.labelled.values, draw.unlabelled, draw.test.values))
    rare, fold = draw.labelled.rare, folds(draw.labelled.values, draw.labelled.rare, draw.seed)
    weights = even_weights(labelled, rare)
    distinct, place = np.unique(asked, axis=0, return_inverse=True)
    own, truth, counts, some, answers = [], [], [], [], []
    for number in range(members):
        seen = fold != number
        balanced = balance(rare[seen], weights[seen])
        score = method(labelled[seen], rare[seen], balanced, unlabelled, draw.seed * 100 + number)
        own.append(score(labelled[~seen]))
        truth.append(rare[~seen])
        counts.append(weights[~seen])
        some.append(score(unlabelled[:LOOKED_AT]))
        answers.append(score(distinct)[place])
    mean_some, mean_answers = np.mean(some, axis=0), np.mean(answers, axis=0)
    seen_by_others = (np.concatenate(parts) for parts in (own, truth, counts))
    return Rated(mean_answers, *seen_by_others, mean_some, len(unlabelled))


def judge(rated: Rated, draw: Draw) -> dict[str, float]:
    """Figures on the rows asked about; those at the labelled rows' own threshold end in _labelled."""
    found, by_labelled = (
        figures(rated.asked, draw.test.rare, threshold, draw.weights)
        for threshold in (rated.threshold, rated.labelled_threshold)
    )
    return found | {f"{name}_labelled": by_labelled[name] for name in ("f1", "recall")}
