"""Trend and seasonality in closed form for thousands of short daily series at once.

The model is Prophet's (Taylor and Letham, "Forecasting at scale", 2018): a line whose slope may change at fixed
changepoints, plus sines and cosines, under Gaussian noise, with Prophet's priors. The periods are the three strongest
of each series' own periodogram. Where Prophet runs an optimiser per series, the most likely weights are found here by
solving a small linear system (a ridge regression) REFITS times, for all series together: the Laplace prior of a change
of slope d with scale b acts like a normal prior of variance b |d|, and |d| and the noise are known from the last fit.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

PERIODS = 3  # per series
FEWEST_CYCLES = 3  # a period seen fewer times than this cannot be told from a trend
CHANGEPOINTS = 8  # evenly over the first four fifths of the days
CHANGES = slice(2, 2 + CHANGEPOINTS)  # their place among the terms, after offset and slope
CHANGE_SCALE = 0.05  # Prophet's scale of the Laplace prior of a change of slope
LEVEL_SCALE = 5.0  # Prophet's prior deviation of slope and offset
SEASON_SCALE = 10.0  # Prophet's prior deviation of the waves
LEAST_NOISE = 1e-6  # variance; without any noise the system would be singular
LEAST_CHANGE = 1e-3  # a smaller change of slope counts as this much, or it could never grow again
REFITS = 4


@dataclass(frozen=True)
class Trends:
    """Trend and seasonality of s series. Values are shares of a series' largest absolute value; time runs from 0, the
    first day, to 1.

    - offset: float [s], value of the trend's line on the first day
    - slope: float [s], slope of that line up to the first changepoint: how much it would change from first to last day
    - changes: float [s, CHANGEPOINTS], what is added to the slope at each changepoint
    - strength: float [s], share of the variance about the trend that the sines and cosines explain, 0 … 1
    """

    offset: np.ndarray
    slope: np.ndarray
    changes: np.ndarray
    strength: np.ndarray


@dataclass(frozen=True)
class Terms:
    """All q regressors from which a series of t days may take its own.

    - columns: float [t, q], their values
    - variance: float [q], prior variances of their weights before the first fit
    - products: float [t, q (q + 1) / 2], the product of each pair of columns, each pair once
    - pair: int [q, q], for columns i and j of `columns` the column of `products` that holds their product
    """

    columns: np.ndarray
    variance: np.ndarray
    products: np.ndarray
    pair: np.ndarray


@lru_cache(maxsize=8)
def terms(days: int) -> Terms:
    """The regressors for series of `days` days. Calls share the result, so its arrays must not be changed.

    They are 1, time, a hinge (0 before a changepoint, then rising) per changepoint, then a cosine and a sine for each
    whole number of cycles in these days, from FEWEST_CYCLES to last_cycle(days); none if the latter is smaller.
    """
    time = np.arange(days) / max(days - 1, 1)
    knots = 0.8 * np.arange(1, CHANGEPOINTS + 1) / CHANGEPOINTS
    hinges = np.maximum(time[:, None] - knots, 0)
    angle = 2 * np.pi * np.arange(days)[:, None] * np.arange(FEWEST_CYCLES, last_cycle(days) + 1) / days
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(days, -1)
    columns = np.column_stack([np.ones(days), time, hinges, waves])
    variance = np.repeat([LEVEL_SCALE**2, CHANGE_SCALE / 2, SEASON_SCALE**2], [2, CHANGEPOINTS, waves.shape[1]])
    one, other = np.triu_indices(columns.shape[1])
    pair = np.zeros((columns.shape[1],) * 2, int)
    pair[one, other] = pair[other, one] = np.arange(len(one))
    return Terms(columns, variance, columns[:, one] * columns[:, other], pair)


def fit_trends(series: np.ndarray, present: np.ndarray) -> Trends:
    """Fit trend and seasonality to the daily series of u users and c counters over t days.

    - series: float [u, c, t].
    - present: bool [u, t], the days with a record (all days, if a day without one is a day of zeros); values of other
      days are ignored.
    The result has s = u * c series, all counters of the first user first. A series of zeros, or without a record, gives
    zeros.
    """
    _, counters, days = series.shape
    known = np.where(present[:, None], series, 0.0)
    scaled = (known / np.maximum(np.abs(known).max(axis=2, keepdims=True), 1e-9)).reshape(-1, days)
    seen = np.repeat(present.astype(float), counters, axis=0)
    rest = subtract_line(scaled, seen)
    chosen = select_terms(rest)
    gram, moment = normal_equations(scaled, present, chosen, counters)
    count = np.maximum(seen.sum(axis=1), 1)
    noise, variance = (rest**2).sum(axis=1) / count, terms(days).variance[chosen]
    for _ in range(REFITS):
        weights = ridge(gram, moment, noise, variance)
        noise = residual_squares(scaled, gram, moment, weights) / count
        variance[:, CHANGES] = CHANGE_SCALE * np.maximum(np.abs(weights[:, CHANGES]), LEAST_CHANGE)
    return as_trends(weights, chosen, seen, scaled)


def select_terms(rest: np.ndarray) -> np.ndarray:
    """The columns of `terms` that each series uses, int [s, p]: those of the trend, then the cosines of its strongest
    periods, then their sines, the strongest period first.

    rest: float [s, t], each series less its least-squares line. PERIODS periods are taken, or all if there are fewer.
    """
    power = np.abs(np.fft.rfft(rest))[:, FEWEST_CYCLES : last_cycle(rest.shape[1]) + 1]
    strongest = np.argsort(-power, axis=1, kind="stable")[:, :PERIODS]
    trend = np.broadcast_to(np.arange(CHANGES.stop), (len(rest), CHANGES.stop))
    cosine = CHANGES.stop + 2 * strongest
    return np.concatenate([trend, cosine, cosine + 1], axis=1)


def last_cycle(days: int) -> int:
    """The largest whole number of cycles in `days` days below half of the days; faster ones repeat slower ones."""
    return (days - 1) // 2


def subtract_line(scaled: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Each series less its least-squares line over the days with a record, float [s, t]; 0 on absent days.

    scaled: float [s, t], the series, 0 on absent days. seen: float [s, t], 1 on days with a record, 0 on absent days.
    """
    time = np.arange(scaled.shape[1], dtype=float)
    count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    centred = (time - (seen * time).sum(axis=1, keepdims=True) / count) * seen
    level = scaled.sum(axis=1, keepdims=True) / count
    slope = (centred * scaled).sum(axis=1, keepdims=True) / np.maximum((centred**2).sum(axis=1, keepdims=True), 1e-9)
    return (scaled - level) * seen - slope * centred


def normal_equations(
    scaled: np.ndarray, present: np.ndarray, chosen: np.ndarray, counters: int
) -> tuple[np.ndarray, np.ndarray]:
    """X'X float [s, p, p] and X'y float [s, p] of the least-squares fit of each series y, over its days with a record.

    - scaled: float [s, t], the series, 0 on absent days
    - present: bool [u, t], the users' days with a record; s = u * counters
    - chosen: int [s, p], the columns X of `terms` that each series uses
    - counters: number of counters per user

    The counters of a user have the same present days, so X'X is summed once per user.
    """
    basis = terms(scaled.shape[1])
    every = present.astype(float) @ basis.products
    owner = np.repeat(np.arange(len(present)), counters)
    gram = every[owner[:, None, None], basis.pair[chosen[:, :, None], chosen[:, None, :]]]
    return gram, np.take_along_axis(scaled @ basis.columns, chosen, axis=1)


def ridge(gram: np.ndarray, moment: np.ndarray, noise: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The most likely weights of the terms that each series uses, float [s, p], by ridge regression.

    - gram, moment: X'X [s, p, p] and X'y [s, p] of each series, from normal_equations
    - noise [s]: variance of each series' noise; less than LEAST_NOISE counts as LEAST_NOISE
    - variance [s, p]: prior variances of the weights, whose prior means are 0
    """
    system = gram.copy()
    diagonal = np.arange(gram.shape[1])
    system[:, diagonal, diagonal] += np.maximum(noise, LEAST_NOISE)[:, None] / variance
    return np.linalg.solve(system, moment[:, :, None])[:, :, 0]


def residual_squares(scaled: np.ndarray, gram: np.ndarray, moment: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sum of squared residuals of each series' fit over its days with a record, float [s]:
    |y - Xw|² = y'y - 2 w'X'y + w'X'Xw.

    scaled: the series y [s, t]; gram, moment: X'X and X'y from normal_equations; weights: w [s, p].
    """
    fitted = (gram @ weights[:, :, None])[:, :, 0] - 2 * moment
    return (scaled**2).sum(axis=1) + (weights * fitted).sum(axis=1)


def as_trends(weights: np.ndarray, chosen: np.ndarray, seen: np.ndarray, scaled: np.ndarray) -> Trends:
    """Trends of s series from the fitted weights of their terms.

    - weights: float [s, p], of the columns in `chosen`, in that order
    - chosen: int [s, p], columns of `terms`, as select_terms returns them
    - seen: float [s, t], 1 on days with a record, 0 on absent days
    - scaled: float [s, t], the series, 0 on absent days
    """
    trend = CHANGES.stop
    basis = terms(scaled.shape[1]).columns
    line = weights[:, :trend] @ basis[:, :trend].T
    waves = np.zeros((len(weights), basis.shape[1]))
    np.put_along_axis(waves, chosen[:, trend:], weights[:, trend:], axis=1)
    season = (waves @ basis.T) * seen
    rest = (scaled - line) * seen
    left = ((rest - season) ** 2).sum(axis=1)
    strength = 1 - left / np.maximum((rest**2).sum(axis=1), 1e-12)
    return Trends(
        weights[:, 0], weights[:, 1], weights[:, CHANGES], np.where(scaled.any(axis=1), strength.clip(0, 1), 0)
    )
