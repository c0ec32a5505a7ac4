"""Features of a user from daily counters, as a pure function of a batch of users.

history.py calls it; under Spark, `applyInPandas` can call it per bucket of users.
"""

from collections.abc import Sequence

import numpy as np

from scarcegan.features import trend


def user_features(
    counts: np.ndarray,
    present: np.ndarray,
    weekend: np.ndarray,
    windows: Sequence[int],
    missing_is_zero: bool = False,
) -> np.ndarray:
    """Compute the features of u users, float32 [u, d], in the order of `feature_names`; docs/features.md explains each.

    - counts: [u, t, c], counters per day; some may be negative
    - present: bool [u, t], days with a record; every user should have one
    - weekend: bool [t], days that are a Saturday or Sunday
    - windows: lengths, in days, of the windows that end on the last day
    - missing_is_zero: whether a day without a record is a day of zeros in every counter, also before the user's first
      record. Otherwise it is unknown and left out; only `inactivity` counts it as a day without activity

    When missing days are unknown, the mean and the ratio of a window without a record are NaN, and so is the weekend
    effect when no weekend day or no other day has a record, except for a counter that is zero throughout. When they are
    zeros, only the weekend effect can be NaN: when there is no weekend day, or no other day, at all.

    What would be divided by a counter's mean is divided by the mean of its absolute values. For a counter of at least 0
    that is its mean; for others a mean near 0 makes no feature large.
    """
    daily = np.where(present[:, None, :], np.moveaxis(np.asarray(counts, float), 2, 1), 0.0)
    known = np.ones_like(present) if missing_is_zero else present
    scale = mean_per_day(np.abs(daily), known)
    blocks = [
        window_means(daily, known, scale, windows),
        trend_features(daily, known),
        weekend_effect(daily, known, scale, weekend)[:, :, None],
        inactivity(daily, known),
        variability(daily, known, scale),
    ]
    per_counter = np.concatenate(blocks, axis=2).reshape(len(daily), -1)
    return np.column_stack([per_counter, per_first_counter(daily), present.mean(axis=1)]).astype(np.float32)


def feature_names(counters: Sequence[str], windows: Sequence[int]) -> tuple[str, ...]:
    """The names of the columns of `user_features`, in order, such as `minutes_mean_7d`.

    First come all features of the first counter, then of the next, and so on; then the totals per first counter, such
    as `minutes_per_sessions`; last `days_recorded`, the share of days with a record.
    counters: names of the counters; windows: lengths of the windows, in days.
    """
    means = ["mean", *(f"mean_{days}d" for days in windows)]
    ratios = [f"ratio_{days}d" for days in windows]
    shapes = ["trend_offset", "trend_slope", "trend_change_early", "trend_change_late", "season_strength"]
    rest = ["weekend_effect", "days_since_last", "longest_silence", "variation", "zero_share", "peak"]
    own = [f"{counter}_{name}" for counter in counters for name in means + ratios + shapes + rest]
    return (*own, *(f"{counter}_per_{counters[0]}" for counter in counters[1:]), "days_recorded")


def window_means(daily: np.ndarray, known: np.ndarray, scale: np.ndarray, windows: Sequence[int]) -> np.ndarray:
    """Means per known day, float [u, c, 1 + 2 w] for w windows: that of all days, that of each window, then the ratio
    of each window.

    - daily: [u, c, t], zero on days that are not known
    - known: bool [u, t], days with a record; all days when a day without one is a day of zeros
    - scale: [u, c], mean of the absolute values per known day
    - windows: lengths, in days, of the windows that end on the last day

    The ratio is 1 + (window's mean - mean of all days) / scale: 1 when the window is like all days. For a counter of at
    least 0 it is the window's mean divided by that of all days. A window without a known day has mean and ratio NaN. In
    a window with one, a counter that is zero on all days has ratio 1.
    """
    whole = mean_per_day(daily, known)
    recent = [mean_per_day(daily[:, :, -days:], known[:, -days:]) for days in windows]
    below = scale - whole  # exactly 0 for a counter of at least 0, so that nothing is lost to rounding
    ratios = [
        np.where(scale > 0, (part + below) / np.maximum(scale, 1e-12), np.where(np.isnan(part), np.nan, 1.0))
        for part in recent
    ]
    return np.stack([whole, *recent, *ratios], axis=2)


def mean_per_day(daily: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mean of each counter over the user's known days, float [u, c]; NaN for a user without one.

    daily: [u, c, t], zero on days that are not known; known: bool [u, t], as in window_means.
    """
    days = known.sum(axis=1)[:, None]
    return np.where(days > 0, daily.sum(axis=2) / np.maximum(days, 1), np.nan)


def trend_features(daily: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Five figures of each series' trend and season, float [u, c, 5], as in trend.Trends.

    They are offset, slope, the sum of the changes of slope in the first half of the changepoints, the same in the
    second half, and seasonal strength. daily: [u, c, t]; known: bool [u, t], as in window_means.
    """
    found = trend.fit_trends(daily, known)
    half = found.changes.shape[1] // 2
    early, late = found.changes[:, :half].sum(axis=1), found.changes[:, half:].sum(axis=1)
    columns = np.stack([found.offset, found.slope, early, late, found.strength], axis=1)
    return columns.reshape(*daily.shape[:2], -1)


def weekend_effect(daily: np.ndarray, known: np.ndarray, scale: np.ndarray, weekend: np.ndarray) -> np.ndarray:
    """Mean of weekend days less mean of other days, divided by the scale, float [u, c].

    The means are over known days. 0 for a counter that is zero throughout; otherwise NaN when no weekend day, or no
    other day, is known.
    daily, known, scale: as in window_means; weekend: bool [t], days that are a Saturday or Sunday.
    """
    apart = mean_per_day(daily[:, :, weekend], known[:, weekend]) - mean_per_day(
        daily[:, :, ~weekend], known[:, ~weekend]
    )
    return np.where(scale > 0, apart / np.maximum(scale, 1e-12), 0.0)


def inactivity(daily: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How many days without activity there are at the end, and in the longest stretch: int [u, c, 2], in this order.

    A day has activity in a counter when the counter is not 0; a day that is not known has none. Days before the user's
    first known day are not counted, so a user without one gets 0.
    daily, known: as in window_means.
    """
    day = np.arange(daily.shape[2])
    before_first = np.where(known.any(axis=1), known.argmax(axis=1), len(day))[:, None, None] - 1
    last_active = np.maximum.accumulate(np.where(daily != 0, day, -1), axis=2)
    silent = np.maximum(day - np.maximum(last_active, before_first), 0)
    return np.stack([silent[:, :, -1], silent.max(axis=2)], axis=2)


def variability(daily: np.ndarray, known: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Three figures over the known days, float [u, c, 3]: standard deviation (with divisor n) divided by the scale,
    share of days on which the counter is 0, and largest absolute value of a day divided by the scale.

    For a counter of zeros the first and the last are 0. For a user without a known day the second is NaN.
    daily, known, scale: as in window_means.
    """
    spread = np.sqrt(np.maximum(mean_per_day(daily**2, known) - mean_per_day(daily, known) ** 2, 0))
    active = mean_per_day(daily != 0, known)
    unit = np.maximum(scale, 1e-12)
    nothing = ~(scale > 0)
    peak = np.abs(daily).max(axis=2)
    return np.stack([np.where(nothing, 0, spread / unit), 1 - active, np.where(nothing, 0, peak / unit)], axis=2)


def per_first_counter(daily: np.ndarray) -> np.ndarray:
    """Each further counter's total divided by the total of the first counter's absolute values (say, minutes per
    session): float [u, c - 1].

    daily: [u, c, t], zero on days that are not known. 0 where the first counter is zero throughout.
    """
    total = daily.sum(axis=2)
    first = np.abs(daily).sum(axis=2)[:, :1]
    return np.where(first > 0, total[:, 1:] / np.maximum(first, 1e-12), 0.0)
