"""Evenness: weights for the rows of the rare class, so that kinds with few rows count as much as kinds with many.

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
    """Weights float64 [n] of scaled rows [n, width]: 1 for rows that are not rare, and for rare rows lower where there
    are more rare rows around (density_weights of the rare rows alone, 1 on average).

    rare: bool [n], whether a row is of the rare class. power: how strongly, from 0 (all weights 1) to 1.
    """
    weights = np.ones(len(rare))
    weights[rare] = density_weights(rows[rare], power)
    return weights


def density_weights(rows: NDArray, power: float) -> NDArray:
    """Weights float64 [n], 1 on average, of scaled rows [n, width]: lower where there are more rows around.

    A weight is proportional to the number of rows around, counted with a Gaussian of width KERNEL_WIDTH, raised to
    -power. power 0: all weights are 1. power 1: every region that holds rows has the same weight in all, however many
    rows it holds. With many features no row has another nearby, and only identical rows count as rows around.
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
    """float64 [n]: how many rows are around each of rows [n, width].

    It is the sum over centres [c, width] of masses [c] (the number of rows that each centre stands for) times
    exp(-mean squared distance per feature / (2 KERNEL_WIDTH^2)).
    """
    squares = (rows**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * rows @ centres.T
    return np.exp(-np.maximum(squares, 0) / rows.shape[1] / (2 * KERNEL_WIDTH**2)) @ masses


def resample(places: NDArray, weight: NDArray) -> NDArray:
    """An array of PLACES_PER_ROW * n entries that repeats the values of `places` [n], in their order.

    A value's share of the entries is about its share of the sum of `weight` [n]. Nothing is random. The result is
    longer than `places`, because a value of less than half the mean weight would often be missing among n entries; one
    of a very low weight can still be missing.
    """
    share = np.cumsum(weight) / weight.sum()
    wanted = (np.arange(PLACES_PER_ROW * len(places)) + 0.5) / (PLACES_PER_ROW * len(places))
    return places[np.minimum(np.searchsorted(share, wanted), len(places) - 1)]
