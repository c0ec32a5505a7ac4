"""Explanations: which features raise or lower a user's rarity, next to a reference row.

Shapley values by sampling (Štrumbelj & Kononenko 2014): features are switched from the reference's value to the user's
one after another, in random orders and their reverses; a feature's attribution is the mean change of rarity at its
turn. The attributions of a row add up exactly to its rarity less the reference's, for any model and for missing values.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

EXPLAINED_ROWS_AT_ONCE = 20_000


class RarityScores(Protocol):
    """What a scorer returns: at least a rarity score per row."""

    @property
    def rarity(self) -> NDArray:
        """Rarity score of each row, float [n], higher for a row that is more like the rare class."""


class RarityScorer(Protocol):
    """A model whose method `score` gives feature rows their rarity."""

    def score(self, values: NDArray) -> RarityScores:
        """Scores of the raw feature rows [n, d], NaN for missing, in the order of the rows."""


def shapley_values(scorer: RarityScorer, rows: NDArray, reference: NDArray, orders: int = 8, seed: int = 0) -> NDArray:
    """How much each feature moves a row's rarity from that of a reference row: float64 [n, d] (sampled Shapley values).

    - rows: [n, d], raw features, NaN for missing
    - reference: [d], the reference row
    - orders: random orders per row, each also used backwards; the error falls with the square root of their number
    - seed: of the random orders

    A value above zero means that the feature raises the rarity. The values of a row add up to the row's rarity less the
    reference's. The scorer scores 2 x orders x (d + 1) rows for each row.
    """
    rng = np.random.default_rng(seed)
    attributions = np.zeros(rows.shape)
    for i, row in enumerate(rows):
        for _ in range(orders):
            order = rng.permutation(rows.shape[1])
            for way in (order, order[::-1]):
                attributions[i, way] += np.diff(_rarity_along(scorer, row, reference, way))
    return attributions / (2 * orders)


def _rarity_along(scorer: RarityScorer, row: NDArray, reference: NDArray, order: NDArray) -> NDArray:
    """Rarity [d + 1] while the features change, one after another, from the reference row's value to the row's.

    row, reference: [d]; order: the d feature positions, in the order in which they change. The first value is the
    reference's rarity, the last the row's.
    """
    turn = np.empty(len(order), int)
    turn[order] = np.arange(len(order))
    switched = np.arange(len(order) + 1)[:, None] > turn
    path = np.where(switched, row, reference).astype(np.float32)
    parts = [
        scorer.score(path[i : i + EXPLAINED_ROWS_AT_ONCE]).rarity for i in range(0, len(path), EXPLAINED_ROWS_AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.float64)


def typical_training_row(values: NDArray, categories: Sequence[int] = ()) -> NDArray:
    """The median of each feature over the training rows that have a value: float32 [d].

    values: the training rows [n, d], NaN for missing; categories: positions of the features that hold codes, for which
    the result has the most frequent code, of equally frequent ones the lowest, in place of the median. A feature of
    either kind that more than half of the rows lack is NaN.
    """
    mostly_missing = np.isnan(values).mean(axis=0) > 0.5
    median = np.nanmedian(np.where(mostly_missing, 0.0, values), axis=0)
    for place in categories:
        codes, rows = np.unique(values[~np.isnan(values[:, place]), place], return_counts=True)
        median[place] = codes[np.argmax(rows)] if len(codes) else np.nan
    return np.where(mostly_missing, np.nan, median).astype(np.float32)


def permutation_importance(
    scorer: RarityScorer, values: NDArray, metric: Callable[[NDArray], float], rng: np.random.Generator
) -> NDArray:
    """How much `metric` falls when a feature is shuffled among the rows: float [d], one per feature (Breiman 2001).

    values: feature rows [n, d], which stay unchanged; metric: a function from rarity [n] to a figure, larger is better;
    rng: shuffles. Each feature is shuffled once, alone; a negative value means that the metric rose.
    """
    whole = metric(scorer.score(values).rarity)
    losses = np.zeros(values.shape[1])
    for j in range(values.shape[1]):
        shuffled = values.copy()
        shuffled[:, j] = rng.permutation(values[:, j])
        losses[j] = whole - metric(scorer.score(shuffled).rarity)
    return losses
