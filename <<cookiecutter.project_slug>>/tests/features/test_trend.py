"""Trend and seasonality in closed form: known lines, bends and waves are found; zeros and gaps do no harm."""

import numpy as np
import pytest

from scarcegan.features import trend

DAYS = 42
TIME = np.arange(DAYS) / (DAYS - 1)
NOISE = np.random.default_rng(3).normal(size=DAYS)


def fit_one(series: np.ndarray, present: np.ndarray | None = None) -> trend.Trends:
    """The fit of one series of one user."""
    everywhere = np.ones((1, len(series)), bool)
    return trend.fit_trends(series[None, None], everywhere if present is None else present[None])


def test_a_straight_line_is_found_in_units_of_its_maximum():
    found = fit_one(20 + 80 * TIME)
    assert found.offset[0] == pytest.approx(0.2, abs=0.01)
    assert found.slope[0] == pytest.approx(0.8, abs=0.02)
    assert np.abs(found.changes).max() < 0.02


def test_a_bend_is_found_where_it_is():
    early = fit_one(np.maximum(TIME - 0.2, 0)).changes[0]
    late = fit_one(np.maximum(TIME - 0.7, 0)).changes[0]
    assert early.sum() == pytest.approx(1 / 0.8, rel=0.1), "from flat to its maximum 1 within the last 0.8"
    assert late.sum() > 0.5
    half = trend.CHANGEPOINTS // 2
    assert early[:half].sum() > early[half:].sum()
    assert late[half:].sum() > late[:half].sum()


def test_a_weekly_wave_is_strong_and_noise_is_weak():
    weekly = 10 + 5 * np.sin(2 * np.pi * np.arange(DAYS) / 7)
    assert fit_one(weekly).strength[0] > 0.99
    assert fit_one(10 + NOISE).strength[0] < 0.6


def test_a_wave_does_not_bend_the_line():
    waves = 2 * np.sin(2 * np.pi * np.arange(DAYS) / 7)
    found, plain = fit_one(10 + 10 * TIME + waves), fit_one(10 + 10 * TIME)
    peak = (10 + 10 * TIME + waves).max()
    assert found.slope[0] * peak == pytest.approx(plain.slope[0] * 20, rel=0.1)


def test_days_without_a_record_are_not_looked_at():
    present = np.arange(DAYS) % 5 != 0
    series = 20 + 80 * TIME
    spoilt = np.where(present, series, 1e6)
    assert fit_one(spoilt, present).slope == pytest.approx(fit_one(np.where(present, series, 0), present).slope)
    assert fit_one(spoilt, present).slope[0] == pytest.approx(0.8, abs=0.02)


def test_the_line_is_that_of_the_recorded_days():
    present = np.arange(DAYS) % 3 == 0
    series = np.where(present, NOISE, 0.0)
    line = np.polyval(np.polyfit(TIME[present], series[present], 1), TIME)
    rest = trend.subtract_line(series[None], present[None].astype(float))[0]
    np.testing.assert_allclose(rest, np.where(present, series - line, 0), atol=1e-9)


def test_zeros_and_a_single_record_give_finite_numbers():
    assert not any(np.any(part) for part in vars(fit_one(np.zeros(DAYS))).values())
    alone = np.arange(DAYS) == 9
    assert all(np.isfinite(part).all() for part in vars(fit_one(5.0 * alone, alone)).values())


def test_a_series_is_fitted_the_same_alone_and_among_others():
    series = np.random.default_rng(0).gamma(1, 1, (20, 3, DAYS))
    present = np.random.default_rng(1).random((20, DAYS)) > 0.1
    together = trend.fit_trends(series, present)
    alone = trend.fit_trends(series[7:8], present[7:8])
    np.testing.assert_allclose(together.slope.reshape(20, 3)[7], alone.slope, atol=1e-9)
    np.testing.assert_allclose(together.changes.reshape(20, 3, -1)[7], alone.changes, atol=1e-9)


def test_with_more_refits_the_fit_becomes_the_most_likely_one(monkeypatch):
    monkeypatch.setattr(trend, "REFITS", 200)
    series = 3 + NOISE.cumsum() - NOISE.cumsum().min()
    scaled = series / series.max()
    rest = scaled - np.polyval(np.polyfit(TIME, scaled, 1), TIME)
    chosen = trend.select_terms(rest[None])[0]
    x, variance = trend.terms(DAYS).columns[:, chosen], trend.terms(DAYS).variance[chosen]
    change = trend.CHANGES
    for _ in range(200):
        weights = np.linalg.inv(x.T @ x + rest.var() * np.diag(1 / variance)) @ x.T @ scaled
        variance[change] = trend.CHANGE_SCALE * np.maximum(np.abs(weights[change]), 1e-9)
        rest = scaled - x @ weights
    found = fit_one(series)
    np.testing.assert_allclose([found.offset[0], found.slope[0]], weights[:2], atol=5e-3)


@pytest.mark.parametrize("days", [1, 2, 5, 7, 8, 14, 61])
def test_any_length_of_window_works(days):
    found = fit_one(np.arange(1.0, days + 1))
    assert all(np.isfinite(part).all() for part in vars(found).values())
