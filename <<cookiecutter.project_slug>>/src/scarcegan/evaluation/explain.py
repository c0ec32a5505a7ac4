"""Explanations: which features raise or lower a user's rarity, next to a reference row.

Shapley values by sampling (Štrumbelj & Kononenko 2014): features are switched from the reference's value to the user's
one after another, in random orders and their reverses; a feature's attribution is the mean change of rarity at its
turn. The attributions of a row add up exactly to its rarity less the reference's, for any model and for missing values.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 20_000


class Scores(Protocol):
    @property
    def rarity(self) -> NDArray: ...


class Scorer(Protocol):
    def score(self, values: NDArray) -> Scores: ...


def explain(scorer: Scorer, rows: NDArray, baseline: NDArray, orders: int = 8, seed: int = 0) -> NDArray:
    """Attributions float64 [n, d]: by how much each feature moves rarity from the baseline row's to the row's own.

    rows [n, d] and baseline [d] are raw features, NaN = missing. orders: random orders per row, each also taken
    backwards; the error of an attribution falls with its square root. Cost: 2 x orders x (d + 1) scored rows per row.
    """
    rng = np.random.default_rng(seed)
    attributions = np.zeros(rows.shape)
    for i, row in enumerate(rows):
        for _ in range(orders):
            order = rng.permutation(rows.shape[1])
            for way in (order, order[::-1]):
                attributions[i, way] += np.diff(_along(scorer, row, baseline, way))
    return attributions / (2 * orders)


def _along(scorer: Scorer, row: NDArray, baseline: NDArray, order: NDArray) -> NDArray:
    """Rarity [d + 1] while the features are switched from the baseline's to the row's in this order."""
    turn = np.empty(len(order), int)
    turn[order] = np.arange(len(order))
    switched = np.arange(len(order) + 1)[:, None] > turn
    path = np.where(switched, row, baseline).astype(np.float32)
    parts = [scorer.score(path[i : i + ROWS_AT_ONCE]).rarity for i in range(0, len(path), ROWS_AT_ONCE)]
    return np.concatenate(parts).astype(np.float64)


def reference(values: NDArray, categories: Sequence[int] = ()) -> NDArray:
    """The median row [d] of training rows [n, d]; NaN where a feature is missing more often than not.

    categories: which columns hold codes of names; of these it is the most frequent one.
    """
    mostly_missing = np.isnan(values).mean(axis=0) > 0.5
    median = np.nanmedian(np.where(mostly_missing, 0.0, values), axis=0)
    for place in categories:
        codes, rows = np.unique(values[~np.isnan(values[:, place]), place], return_counts=True)
        median[place] = codes[np.argmax(rows)] if len(codes) else np.nan
    return np.where(mostly_missing, np.nan, median).astype(np.float32)


def importance(
    scorer: Scorer, values: NDArray, metric: Callable[[NDArray], float], rng: np.random.Generator
) -> NDArray:
    """Permutation importance [d] (Breiman 2001): what `metric(rarity)` loses when a feature is shuffled among rows."""
    whole = metric(scorer.score(values).rarity)
    losses = np.zeros(values.shape[1])
    for j in range(values.shape[1]):
        shuffled = values.copy()
        shuffled[:, j] = rng.permutation(values[:, j])
        losses[j] = whole - metric(scorer.score(shuffled).rarity)
    return losses
