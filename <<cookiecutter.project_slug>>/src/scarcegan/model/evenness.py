"""Evenness: how often rows of the rare class are drawn, so that its rarest kinds count beside its commonest one.

Labelled rare rows are what somebody happened to find, often one kind many times over. A model that is right on that
kind looks good and misses the others. Who draws by these weights: gan.pool, boosting.learn.
"""

import numpy as np
from numpy.typing import NDArray

NEAR = 0.3  # of a standard deviation, per feature: how near rows are of one kind
MOST_CENTRES = 2_000
ROWS_AT_ONCE = 2_000
FINE = 16  # places a row has on average, so that a seldom one still has one


def among_all(rows: NDArray, rare: NDArray, power: float) -> NDArray:
    """Weights [n] of rows [n, features]: those of the rare ones (bool [n]) by `weights`, 1 of all others."""
    each = np.ones(len(rare))
    each[rare] = weights(rows[rare], power)
    return each


def weights(rows: NDArray, power: float) -> NDArray:
    """[n], mean 1: of scaled rows [n, features], the number of rows around each (a Gaussian of width NEAR) to -power.

    power 0: all alike; 1: regions that hold rows count alike, however many rows they hold. With many features every
    row is alone, and only copies share their weight.
    """
    if not power or not len(rows):
        return np.ones(len(rows))
    distinct, place, counts = np.unique(rows.astype(np.float64), axis=0, return_inverse=True, return_counts=True)
    step = -(-len(distinct) // MOST_CENTRES)
    centres, masses = distinct[::step], counts[::step] * float(step)
    parts = [distinct[i : i + ROWS_AT_ONCE] for i in range(0, len(distinct), ROWS_AT_ONCE)]
    around = np.maximum(np.concatenate([_around(part, centres, masses) for part in parts]), counts)
    each = around[place.ravel()] ** -power
    return each / each.mean()


def _around(rows: NDArray, centres: NDArray, masses: NDArray) -> NDArray:
    """Sum [n] over the centres of mass times exp(-mean squared distance per feature / (2 NEAR^2))."""
    squares = (rows**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * rows @ centres.T
    return np.exp(-np.maximum(squares, 0) / rows.shape[1] / (2 * NEAR**2)) @ masses


def resampled(places: NDArray, weight: NDArray) -> NDArray:
    """FINE times as many of `places` [n] as there are, each about as often as its weight says; in order, no chance.

    With n places alone, rows of less than half the mean weight would often have none.
    """
    share = np.cumsum(weight) / weight.sum()
    wanted = (np.arange(FINE * len(places)) + 0.5) / (FINE * len(places))
    return places[np.minimum(np.searchsorted(share, wanted), len(places) - 1)]
