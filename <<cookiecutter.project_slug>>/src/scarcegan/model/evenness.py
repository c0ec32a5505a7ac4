"""Evenness: weights of the rows of the rare class, so that its rarest kinds count beside its commonest one.

Labelled rare rows are what somebody happened to find, often one kind many times over. A model that is right on that
kind looks good and misses the others. Networks draw rows by these weights (gan/scarcegan.make_pool), trees weigh them.
"""

import numpy as np
from numpy.typing import NDArray

KERNEL_WIDTH = 0.3  # of a standard deviation, per feature: how near rows are of one kind
MOST_CENTRES = 2_000
KERNEL_ROWS = 2_000  # rows whose distances to the centres are held in memory at once
PLACES_PER_ROW = 16  # on average, so that a row of low weight still has one


def weigh_rare_rows(rows: NDArray, rare: NDArray, power: float) -> NDArray:
    """Weights float64 [n] of scaled rows [n, width]: density_weights of the rare ones among themselves, 1 for others.

    rare: bool [n]. power: see density_weights.
    """
    weights = np.ones(len(rare))
    weights[rare] = density_weights(rows[rare], power)
    return weights


def density_weights(rows: NDArray, power: float) -> NDArray:
    """Weights float64 [n], 1 on average, of scaled rows [n, width]: lower where there are more rows around.

    A weight is proportional to the number of rows around (under a Gaussian of width KERNEL_WIDTH) to the power of
    -power. power 0: all weights are 1. power 1: regions that hold rows weigh alike, however many rows they hold. With
    many features every row is alone, and only equal rows share their weight.
    """
    if not power or not len(rows):
        return np.ones(len(rows))
    distinct, place, counts = np.unique(rows.astype(np.float64), axis=0, return_inverse=True, return_counts=True)
    step = -(-len(distinct) // MOST_CENTRES)
    centres, masses = distinct[::step], counts[::step] * float(step)
    parts = [distinct[i : i + KERNEL_ROWS] for i in range(0, len(distinct), KERNEL_ROWS)]
    around = np.maximum(np.concatenate([_density(part, centres, masses) for part in parts]), counts)
    weights = around[place.ravel()] ** -power
    return weights / weights.mean()


def _density(rows: NDArray, centres: NDArray, masses: NDArray) -> NDArray:
    """For each of rows [n, width]: the sum over centres [c, width] of mass [c] times exp(-mean squared distance per
    feature / (2 KERNEL_WIDTH^2)). Returns float64 [n]."""
    squares = (rows**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * rows @ centres.T
    return np.exp(-np.maximum(squares, 0) / rows.shape[1] / (2 * KERNEL_WIDTH**2)) @ masses


def resample(places: NDArray, weight: NDArray) -> NDArray:
    """PLACES_PER_ROW * n of the values of `places` [n], each about as often as its weight [n] says, in their order.

    Nothing is random. There are more places than rows, because a row of less than half the mean weight would often have
    none among n places.
    """
    share = np.cumsum(weight) / weight.sum()
    wanted = (np.arange(PLACES_PER_ROW * len(places)) + 0.5) / (PLACES_PER_ROW * len(places))
    return places[np.minimum(np.searchsorted(share, wanted), len(places) - 1)]
