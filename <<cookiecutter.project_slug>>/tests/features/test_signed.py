"""Counters that may be negative: each feature by hand, its mirror image, and no explosion when the mean is near 0."""

import numpy as np
import pytest

from scarcegan.data.telemetry import is_weekend
from scarcegan.features import trend
from scarcegan.features.user_features import feature_names, user_features
from telemetry_samples import run_features, write

WINDOWS = (2, 7)
MIRRORED = ("mean", "mean_2d", "mean_7d", "trend_offset", "trend_slope", "trend_change_early", "trend_change_late")


def features(*counters: list[float]) -> dict[str, float]:
    """The features of one user, by name; the counters are a, b, …, from a Monday on, with a record on every day."""
    counts = np.array(counters, float).T[None]
    weekend = is_weekend(np.datetime64("2026-01-05"), counts.shape[1])
    values = user_features(counts, np.ones(counts.shape[:2], bool), weekend, WINDOWS)[0].tolist()
    return dict(zip(feature_names("abcdef"[: len(counters)], WINDOWS), values, strict=True))


def mixed(users: int, days: int = 28, counters: int = 1) -> np.ndarray:
    """Random series [u, t, c] of both signs, with days of zeros and of many sizes."""
    rng = np.random.default_rng(0)
    active = rng.random((users, days, counters)) > 0.3
    level, size = rng.normal(size=(users, 1, counters)), 10.0 ** rng.integers(-3, 6, (users, 1, counters))
    return rng.normal(level, 1, active.shape) * active * size


def named(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> that feature of all users of one counter `a`, with a record on every day."""
    weekend = is_weekend(np.datetime64("2026-01-05"), counts.shape[1])
    values = user_features(counts, np.ones(counts.shape[:2], bool), weekend, WINDOWS).astype(float)
    return dict(zip(feature_names(("a",), WINDOWS), values.T, strict=True))


def test_a_series_of_both_signs_by_hand():
    found = features([-4, 0, 0, 4])  # mean 0, mean of the absolute values 2
    assert (found["a_mean"], found["a_mean_2d"], found["a_ratio_2d"], found["a_ratio_7d"]) == (0, 2, 2, 1)
    assert found["a_variation"] == pytest.approx(np.sqrt(8) / 2)
    assert (found["a_zero_share"], found["a_peak"]) == (0.5, 2)
    assert (found["a_days_since_last"], found["a_longest_silence"]) == (0, 2)


def test_a_negative_series_by_hand():
    found = features([-1, -1, -3, -3])  # mean -2, mean of the absolute values 2
    assert (found["a_mean"], found["a_mean_2d"], found["a_ratio_2d"]) == (-2, -3, 0.5)
    assert (found["a_variation"], found["a_zero_share"], found["a_peak"]) == (0.5, 0, 1.5)
    assert (found["a_days_since_last"], found["a_longest_silence"]) == (0, 0), "a debt is activity"


def test_debts_at_the_weekend_have_a_negative_effect():
    assert features([1, 1, 1, 1, 1, -8, -8])["a_weekend_effect"] == pytest.approx((-8 - 1) / 3)


@pytest.mark.parametrize("level", [5.0, 0.0, -5.0])
def test_a_series_that_does_not_change_is_like_itself_whatever_its_sign(level):
    found = features([level] * 14)
    assert found["a_ratio_2d"] == found["a_ratio_7d"] == 1
    assert found["a_variation"] == found["a_weekend_effect"] == 0


def test_other_counters_are_given_per_unit_of_the_first_without_its_sign():
    assert features([2, -2], [4, 6])["b_per_a"] == 2.5
    assert features([0, 0], [4, 6])["b_per_a"] == 0
    assert features([1, 3], [-4, -4])["b_per_a"] == -2


def test_the_trend_is_in_units_of_the_largest_absolute_value():
    time = np.arange(42) / 41
    found = trend.fit_trends(np.stack([-100 * time, 60 - 100 * time])[None], np.ones((1, 42), bool))
    assert found.slope == pytest.approx([-1, -100 / 60], abs=0.05)
    assert found.offset == pytest.approx([0, 1], abs=0.02)


def test_the_opposite_series_has_the_opposite_direction_and_the_same_shape():
    found, opposite = named(mixed(100)), named(-mixed(100))
    for name, values in found.items():
        short = name.removeprefix("a_")
        if short in MIRRORED or short == "weekend_effect":
            expected = -values
        elif short.startswith("ratio"):
            expected = 2 - values
        else:
            expected = values
        np.testing.assert_allclose(opposite[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_only_the_means_depend_on_the_unit():
    found, scaled = named(mixed(100)), named(mixed(100) * 1024)
    for name, values in found.items():
        expected = values * 1024 if "_mean" in name else values
        np.testing.assert_allclose(scaled[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_mean_near_zero_makes_no_feature_large():
    counts = mixed(200, counters=3)
    counts[:, -1] -= counts.sum(axis=1)  # so that every sum is 0, but for rounding
    values = user_features(counts, np.ones(counts.shape[:2], bool), np.arange(28) % 7 > 4, WINDOWS)
    names = feature_names(("a", "b", "c"), WINDOWS)
    free = [not ("_mean" in name or "_per_" in name) for name in names]
    assert np.isfinite(values).all() and np.abs(values[:, free]).max() <= 28
    assert np.abs(values[:, [name == "b_per_a" for name in names]]).max() < 1e-6


def test_series_of_zero_or_more_have_the_features_of_plain_ratios():
    counts = np.abs(mixed(100))
    found, mean = named(counts), counts[:, :, 0].mean(axis=1)
    np.testing.assert_allclose(found["a_ratio_7d"], counts[:, -7:, 0].mean(axis=1) / mean, rtol=1e-6)
    np.testing.assert_allclose(found["a_variation"], counts[:, :, 0].std(axis=1) / mean, rtol=1e-6)
    np.testing.assert_allclose(found["a_peak"], counts[:, :, 0].max(axis=1) / mean, rtol=1e-6)


def test_a_declared_balance_goes_through_the_step(tmp_path):
    path = write(tmp_path / "in.csv", "user_id,date,balance", "ann,2026-01-05,-4", "ann,2026-01-07,2")
    found = run_features(path, tmp_path / "out", counters="balance", signed_counters="balance")
    values = dict(zip(found.names, found.values[0].tolist(), strict=True))
    assert values["balance_mean"] == -1 and values["balance_peak"] == pytest.approx(4 / 3)
