"""data.missing_days: zero: a day without a record is a day of zeros, by hand and from files of transactions."""

import numpy as np
import pytest

from scarcegan.data.rules import Layout
from scarcegan.data.telemetry import is_weekend
from scarcegan.features.user_features import feature_names, user_features
from scarcegan.profile.check import check_data
from telemetry_samples import GOOD, run_features, write

MONDAY = np.datetime64("2026-01-05")


def test_every_feature_is_that_of_a_row_of_zeros_but_the_share_of_recorded_days():
    rng = np.random.default_rng(0)
    present = rng.random((50, 28)) > 0.7
    counts = rng.gamma(1, 1, (50, 28, 2)) * present[:, :, None]
    weekend = is_weekend(MONDAY, 28)
    zero = user_features(counts, present, weekend, (7,), missing_is_zero=True)
    written = user_features(counts, np.ones_like(present), weekend, (7,))
    np.testing.assert_array_equal(zero[:, :-1], written[:, :-1])
    np.testing.assert_allclose(zero[:, -1], present.mean(axis=1), rtol=1e-6)
    assert np.isfinite(zero).all() and np.isnan(user_features(counts, present, weekend, (7,))).any()


def test_a_missing_day_as_zero_by_hand():
    counts, present = np.zeros((1, 7, 1)), np.zeros((1, 7), bool)
    counts[0, [1, 5], 0], present[0, [1, 5]] = [6, 8], True  # Tuesday and Saturday
    values = user_features(counts, present, is_weekend(MONDAY, 7), (1, 2), missing_is_zero=True)[0].tolist()
    found = dict(zip(feature_names(("n",), (1, 2)), values, strict=True))
    assert (found["n_mean"], found["n_mean_2d"], found["n_ratio_2d"]) == (2, 4, 2)
    assert (found["n_mean_1d"], found["n_ratio_1d"]) == (0, 0), "a window without a record has no activity"
    assert found["n_weekend_effect"] == pytest.approx((8 / 2 - 6 / 5) / 2)
    assert found["n_variation"] == pytest.approx(np.sqrt(100 / 7 - 4) / 2)
    assert found["n_zero_share"] == pytest.approx(5 / 7) and found["n_peak"] == 4
    assert (found["n_days_since_last"], found["n_longest_silence"]) == (1, 3)
    assert found["days_recorded"] == pytest.approx(2 / 7)


def test_silence_begins_with_the_first_day_of_the_window():
    counts = np.array([0, 0, 0, 0, 9.0])[None, :, None]
    found = user_features(counts, counts[:, :, 0] > 0, np.zeros(5, bool), (2,), missing_is_zero=True)[0]
    assert found[feature_names(("n",), (2,)).index("n_longest_silence")] == 4


def test_the_setting_reaches_the_features_and_gives_no_row_without_a_record(tmp_path):
    path = write(tmp_path / "in.csv", *GOOD, "cyd,2026-01-05,9,9")
    counted = {how: run_features(path, tmp_path / how, missing_days=how) for how in ("unknown", "zero")}
    bob = {how: table.values[1, table.names.index("sessions_mean")] for how, table in counted.items()}
    assert bob["unknown"] == 2 and bob["zero"] == pytest.approx(4 / 3)
    last = run_features(path, tmp_path / "last", missing_days="zero", window_days=2)
    assert last.user_id.tolist() == ["ann", "bob"], "cyd has no record in the last two days"


def test_orders_a_day_of_transactions_are_those_of_all_days(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"u{user},{MONDAY + day},9.5" for user in range(300) for day in rng.integers(0, 60, 1)]
    lines += [f"thief{n},{MONDAY + 59},999" for n in range(6) for _ in range(30)]
    path = write(tmp_path / "in.csv", "user_id,date,amount", *lines)
    days = {"days": 60, "start": "2026-01-05", "aggregate": {"orders": "count", "amount": "sum"}}
    layout = Layout(("calm", "risky"), "user_id", "date", "label", ("orders", "amount"), **days)
    problems, summary = check_data(path, None, layout)
    assert not problems and "Set data.missing_days to zero" in " ".join(summary["notes"])
    given = days | {"counters": "orders,amount", "aggregate": "orders=count,amount=sum", "window_days": 60}
    for how, usual, thief in (("unknown", 1, 30), ("zero", 1 / 60, 0.5)):
        found = run_features(path, tmp_path / how, missing_days=how, **given)
        orders = found.values[:, found.names.index("orders_mean")]
        stolen = np.char.startswith(found.user_id.astype(str), "thief")
        assert orders[~stolen] == pytest.approx(usual) and orders[stolen] == pytest.approx(thief)
