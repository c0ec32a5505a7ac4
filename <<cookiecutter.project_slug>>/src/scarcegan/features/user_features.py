"""One row of features per user from daily counters: a pure function of a batch of users, the same under any scheduler.

Under Spark it is called by `applyInPandas` per bucket of users; here by history.py.
"""

from collections.abc import Sequence

import numpy as np

from scarcegan.features import trend


def user_features(counts: np.ndarray, present: np.ndarray, weekend: np.ndarray, windows: Sequence[int]) -> np.ndarray:
    """Features float32 [u, d] of u users, in the order of `feature_names`.

    counts [u, t, c]: counters per day, at least 0; present bool [u, t]: days with a record; weekend bool [t]. A day
    without a record is unknown, not zero: means, trends and seasons leave it out. NaN: a window without any record.
    """
    daily = np.where(present[:, None, :], np.moveaxis(np.asarray(counts, float), 2, 1), 0.0)
    blocks = [
        window_means(daily, present, windows),
        trends(daily, present),
        weekend_effect(daily, present, weekend)[:, :, None],
        silences(daily, present),
        variability(daily, present),
    ]
    per_counter = np.concatenate(blocks, axis=2).reshape(len(daily), -1)
    return np.column_stack([per_counter, per_first(daily), present.mean(axis=1)]).astype(np.float32)


def feature_names(counters: Sequence[str], windows: Sequence[int]) -> tuple[str, ...]:
    """Names of the columns of `user_features`."""
    means = ["mean", *(f"mean_{days}d" for days in windows)]
    ratios = [f"ratio_{days}d" for days in windows]
    shapes = ["trend_offset", "trend_slope", "trend_change_early", "trend_change_late", "season_strength"]
    rest = ["weekend_effect", "days_since_last", "longest_silence", "variation", "zero_share", "peak"]
    own = [f"{counter}_{name}" for counter in counters for name in means + ratios + shapes + rest]
    return (*own, *(f"{counter}_per_{counters[0]}" for counter in counters[1:]), "days_recorded")


def window_means(daily: np.ndarray, present: np.ndarray, windows: Sequence[int]) -> np.ndarray:
    """Mean per recorded day, whole and in the last days, then each of the latter over the whole: [u, c, 1 + 2 w].

    A counter that is zero throughout has ratio 1: nothing changed.
    """
    whole = mean(daily, present)
    recent = [mean(daily[:, :, -days:], present[:, -days:]) for days in windows]
    ratios = [
        np.where(whole > 0, part / np.maximum(whole, 1e-12), np.where(np.isnan(part), np.nan, 1.0)) for part in recent
    ]
    return np.stack([whole, *recent, *ratios], axis=2)


def mean(daily: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Mean over recorded days [u, c]; NaN where there is none. daily is zero on days without a record."""
    days = present.sum(axis=1)[:, None]
    return np.where(days > 0, daily.sum(axis=2) / np.maximum(days, 1), np.nan)


def trends(daily: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Offset, slope, change of slope in the first and second half of the changepoints, seasonal strength: [u, c, 5]."""
    found = trend.fit(daily, present)
    half = found.changes.shape[1] // 2
    early, late = found.changes[:, :half].sum(axis=1), found.changes[:, half:].sum(axis=1)
    columns = np.stack([found.offset, found.slope, early, late, found.strength], axis=1)
    return columns.reshape(*daily.shape[:2], -1)


def weekend_effect(daily: np.ndarray, present: np.ndarray, weekend: np.ndarray) -> np.ndarray:
    """How much more a weekend day sees than another day, in units of the mean day: [u, c]; 0 where nothing is seen."""
    apart = mean(daily[:, :, weekend], present[:, weekend]) - mean(daily[:, :, ~weekend], present[:, ~weekend])
    whole = mean(daily, present)
    return np.where(whole > 0, apart / np.maximum(whole, 1e-12), 0.0)


def silences(daily: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Days since the last day with activity and the longest stretch without, from the first record on: [u, c, 2]."""
    day = np.arange(daily.shape[2])
    before_first = np.where(present.any(axis=1), present.argmax(axis=1), len(day))[:, None, None] - 1
    last_active = np.maximum.accumulate(np.where(daily > 0, day, -1), axis=2)
    silent = np.maximum(day - np.maximum(last_active, before_first), 0)
    return np.stack([silent[:, :, -1], silent.max(axis=2)], axis=2)


def variability(daily: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Standard deviation over mean, share of recorded days without activity, highest day over mean: [u, c, 3]."""
    whole = mean(daily, present)
    squares = mean(daily**2, present)
    spread = np.sqrt(np.maximum(squares - whole**2, 0))
    scale = np.maximum(whole, 1e-12)
    active = mean((daily > 0).astype(float), present)
    nothing = ~(whole > 0)
    return np.stack(
        [np.where(nothing, 0, spread / scale), 1 - active, np.where(nothing, 0, daily.max(axis=2) / scale)], axis=2
    )


def per_first(daily: np.ndarray) -> np.ndarray:
    """Every further counter per unit of the first (minutes per session, say): [u, c - 1]; 0 where the first is 0."""
    total = daily.sum(axis=2)
    first = total[:, :1]
    return np.where(first > 0, total[:, 1:] / np.maximum(first, 1e-12), 0.0)
