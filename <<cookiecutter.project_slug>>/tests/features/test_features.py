"""Features: numbers that can be worked out by hand, whatever the files look like; as of the right day; flat memory."""

import functools
import gzip
import re
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import house
from scarcegan.data import telemetry
from scarcegan.data.schema import UNLABELLED, FeatureTable
from scarcegan.data.telemetry import is_weekend
from scarcegan.errors import UserError
from scarcegan.features.user_features import feature_names, user_features
from scarcegan.steps import features
from telemetry_samples import GOOD, HEADER, LABELS, run_features, write


def row(counts: list[float], present: list[bool] | None = None, windows: tuple[int, ...] = (2,)) -> dict[str, float]:
    """The features of one user with one counter `n`, by name."""
    here = np.ones(len(counts), bool) if present is None else np.array(present)
    weekend = is_weekend(np.datetime64("2026-01-05"), len(counts))
    values = user_features(np.array(counts, float)[None, :, None], here[None], weekend, windows)
    return dict(zip(feature_names(("n",), windows), values[0].tolist(), strict=True))


def cell(table: FeatureTable, user: str, name: str, as_of: str | None = None) -> float:
    """One value of a table."""
    mine = (table.user_id == user) & (True if as_of is None else table.as_of == np.datetime64(as_of))
    return float(table.values[mine, table.names.index(name)].item())


def test_means_and_ratios_by_hand():
    found = row([0, 2, 4, 6])
    assert found["n_mean"] == 3 and found["n_mean_2d"] == 5
    assert found["n_ratio_2d"] == pytest.approx(5 / 3)


def test_a_day_without_a_record_is_unknown_and_not_zero():
    found = row([0, 2, 4, 6], present=[True, True, False, True])
    assert found["n_mean"] == pytest.approx(8 / 3) and found["n_mean_2d"] == 6
    assert found["days_recorded"] == 0.75
    assert np.isnan(row([1, 1, 0, 0], present=[True, True, False, False])["n_mean_2d"])


def test_recency_and_silence_by_hand():
    found = row([5, 0, 0, 0, 1, 0, 0])
    assert found["n_days_since_last"] == 2 and found["n_longest_silence"] == 3
    assert row([0, 0, 1])["n_days_since_last"] == 0


def test_silence_begins_with_the_first_record():
    found = row([0, 0, 0, 0, 9], present=[False, False, False, True, True])
    assert found["n_longest_silence"] == 1


def test_variability_by_hand():
    found = row([0, 0, 4, 4])
    assert found["n_variation"] == 1 and found["n_zero_share"] == 0.5 and found["n_peak"] == 2


def test_the_weekend_effect_is_in_units_of_the_mean_day():
    assert is_weekend(np.datetime64("2026-01-05"), 7).tolist() == [False] * 5 + [True] * 2  # a Monday
    found = row([1, 1, 1, 1, 1, 8, 8])
    assert found["n_weekend_effect"] == pytest.approx((8 - 1) / 3)


def test_growth_has_a_positive_slope_and_decline_a_negative_one():
    assert row(list(range(1, 29)))["n_trend_slope"] > 0.5
    assert row(list(range(28, 0, -1)))["n_trend_slope"] < -0.5


def test_a_player_who_never_plays_has_no_infinite_feature():
    assert all(np.isfinite(value) for value in row([0] * 10).values())


def test_other_counters_are_given_per_unit_of_the_first():
    counts = np.array([[[2.0, 10.0], [0.0, 0.0], [2.0, 30.0]]])
    values = user_features(counts, np.ones((1, 3), bool), np.zeros(3, bool), (2,))
    names = feature_names(("sessions", "minutes"), (2,))
    assert values[0, names.index("minutes_per_sessions")] == 10
    assert values.shape == (1, len(names)) and values.dtype == np.float32


def test_docs_features_md_explains_every_feature_and_no_other():
    text = (house.ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    explained = [name for cell in table for name in re.findall(r"`(\w+)`", cell)]
    assert [f"n_{name}" for name in explained] + ["days_recorded"] == list(feature_names(("n",), (7,)))


def test_a_user_is_the_same_alone_and_among_others():
    rng = np.random.default_rng(0)
    counts, present, weekend = rng.gamma(1, 1, (9, 20, 2)), rng.random((9, 20)) > 0.1, np.arange(20) % 7 > 4
    every = user_features(counts, present, weekend, (7,))
    np.testing.assert_allclose(user_features(counts[4:5], present[4:5], weekend, (7,))[0], every[4], rtol=1e-5)


def test_csv_gzip_and_parquet_in_one_file_or_many_give_the_same_rows(tmp_path):
    expected = run_features(write(tmp_path / "one.csv", *GOOD), tmp_path / "out0")
    write(tmp_path / "many/a.csv", *GOOD[:3])
    (tmp_path / "many/deeper").mkdir()
    (tmp_path / "many/deeper/b.csv.gz").write_bytes(gzip.compress("\n".join([HEADER, *GOOD[3:5]]).encode()))
    write(tmp_path / "many/c.csv", "wagers;date;user_id;sessions", "2;2026-01-07 23:59:00;bob;1")
    columns = {"user_id": ["ann"] * 3 + ["bob"] * 2, "sessions": [1, 0, 2, 3, 1], "wagers": [10, 0, 30.5, 1, 2]}
    days = np.array([5, 6, 7, 5, 7]) - 5 + np.datetime64("2026-01-05")
    pq.write_table(pa.table(columns | {"date": days}), tmp_path / "one.parquet")
    for number, path in enumerate([tmp_path / "many", tmp_path / "one.parquet"]):
        found = run_features(path, tmp_path / f"out{number + 1}")
        assert found.user_id.tolist() == ["ann", "bob"]
        np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize("name", ["week [1]", "all*", "what?", "[a-c]*", "a]b[", "back\\slash"])
def test_a_file_name_that_looks_like_a_pattern_is_a_name(tmp_path, name):
    telemetry = write(tmp_path / "odd" / f"{name}.csv", *GOOD[:3])
    write(tmp_path / "odd" / "all others.csv", *GOOD)  # what the pattern would find as well
    assert run_features(telemetry, tmp_path / "out").user_id.tolist() == ["ann"]


def test_labels_come_from_a_file_from_folders_or_from_a_column(tmp_path):
    good = write(tmp_path / "good.csv", *GOOD, "cyd,2026-01-06,1,1")
    labels = write(tmp_path / "labels.csv", *LABELS, "cyd,unlabelled")
    write(tmp_path / "folders/calm/1.csv", *GOOD[:4])
    write(tmp_path / "folders/risky/1.csv", HEADER, *GOOD[4:])
    write(tmp_path / "folders/unlabelled/1.csv", HEADER, "cyd,2026-01-06,1,1")
    beside = [line + end for line, end in zip(GOOD, [",label", ",calm", "", ",calm", ",risky", ","], strict=True)]
    beside[2] += ","  # one of ann's records carries no label
    inside = write(tmp_path / "inside.csv", *beside, "cyd,2026-01-06,1,1,")
    for number, (path, given) in enumerate([(good, labels), (tmp_path / "folders", None), (inside, None)]):
        found = run_features(path, tmp_path / f"out{number}", given)
        assert dict(zip(found.user_id, found.label.tolist(), strict=True)) == {"ann": 0, "bob": 1, "cyd": UNLABELLED}


def test_an_empty_labels_folder_means_nobody_is_labelled(tmp_path):
    (tmp_path / "labels").mkdir()
    found = run_features(write(tmp_path / "in.csv", *GOOD), tmp_path / "out", tmp_path / "labels")
    assert found.label.tolist() == [UNLABELLED, UNLABELLED]


def test_rows_are_taken_as_of_each_week_asked_for_and_look_at_nothing_later(tmp_path):
    days = [np.datetime64("2026-01-05") + day for day in range(28)]
    lines = [f"ann,{day},{1 if number < 14 else 100},1" for number, day in enumerate(days)]
    path = write(tmp_path / "in.csv", HEADER, *lines, "bob,2026-02-01,1,1")
    found = run_features(path, tmp_path / "out", days=28, window_days=14, as_of_weeks="2,0", start="")
    assert cell(found, "ann", "sessions_mean", "2026-01-18") == 1
    assert cell(found, "ann", "sessions_mean", "2026-02-01") == 100
    assert found.user_id.tolist().count("bob") == 1, "bob was not there two weeks before"


def test_telemetry_shorter_than_the_weeks_asked_for_has_rows_of_the_last_day_only(tmp_path):
    lines = [f"ann,2026-01-{day:02},1,1" for day in range(5, 10)]
    path = write(tmp_path / "in.csv", HEADER, *lines)
    found = run_features(path, tmp_path / "out", days=28, window_days=14, as_of_weeks="2,0", start="")
    assert found.as_of.tolist() == [date(2026, 1, 9)]


def test_a_history_that_does_not_fit_into_the_days_is_refused(tmp_path):
    path = write(tmp_path / "in.csv", *GOOD)
    with pytest.raises(UserError, match=r"window_days 4 and 0 weeks need 4 days, data\.days is 3"):
        run_features(path, tmp_path / "out", window_days=4)
    with pytest.raises(UserError, match=r"features\.windows: 9 days do not fit into window_days 3"):
        run_features(path, tmp_path / "out", windows=9)


def test_small_batches_give_the_same_rows_as_one(tmp_path):
    lines = [f"u{user:03},2026-01-0{5 + day},{user % 7},{day}" for user in range(200) for day in range(3)]
    path = write(tmp_path / "in.csv", HEADER, *lines)
    one = run_features(path, tmp_path / "one")
    many = run_features(path, tmp_path / "many", batch_users=20)
    assert len(list((tmp_path / "many").glob("part-*"))) > 5
    order = np.argsort(many.user_id.astype(str))
    assert many.user_id[order].tolist() == one.user_id.tolist()
    np.testing.assert_allclose(many.values[order], one.values, rtol=1e-5, atol=1e-6)


def test_the_same_telemetry_gives_the_same_bytes(tmp_path):
    lines = [f"u{user:03},2026-01-0{5 + day},{user % 7},{day}" for user in range(200) for day in range(3)]
    path = write(tmp_path / "in.csv", HEADER, *lines)
    for name in ("one", "two"):
        run_features(path, tmp_path / name, batch_users=50)
    for part in (tmp_path / "one").iterdir():
        assert part.read_bytes() == (tmp_path / "two" / part.name).read_bytes()


def test_nothing_but_the_table_and_its_coverage_is_left_in_the_output(tmp_path):
    run_features(write(tmp_path / "in.csv", *GOOD), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"part-00000.parquet", "coverage.json"}


def test_a_ready_table_keeps_its_numbers_and_numbers_its_rows(tmp_path):
    path = write(tmp_path / "in.csv", "a,b,word,label", "1,2.5,x,calm", ",-3,y,risky", "7,8,z,")
    found = run_features(path, tmp_path / "out", kind="features", user_column="")
    assert found.user_id.tolist() == ["1", "2", "3"] and found.names == ("a", "b")
    assert found.label.tolist() == [0, 1, UNLABELLED]
    np.testing.assert_array_equal(found.values, np.array([[1, 2.5], [np.nan, -3], [7, 8]], np.float32))


def test_a_ready_table_takes_named_columns_users_days_and_labels(tmp_path):
    path = write(tmp_path / "in.csv", "user_id,date,a,b", "ann,2026-01-05,1,2", "bob,2026-01-06,3,4")
    labels = write(tmp_path / "labels.csv", *LABELS)
    found = run_features(path, tmp_path / "out", labels, kind="features", columns="b")
    assert found.names == ("b",) and found.values[:, 0].tolist() == [2, 4]
    assert found.label.tolist() == [0, 1] and [str(day) for day in found.as_of] == ["2026-01-05", "2026-01-06"]


def test_a_bucket_holds_all_records_of_its_users(tmp_path):
    batch = pa.record_batch({"user": ["b", "a", "b"], "bucket": pa.array([1, 0, 1], pa.int32())})
    split = {bucket: part.column("user").to_pylist() for bucket, part in telemetry.split_by_bucket(batch, 2)}
    assert split == {0: ["a"], 1: ["b", "b"]}


def test_the_step_says_how_much_is_left(tmp_path, monkeypatch, capsys):
    records = (f"user {n},2026-01-0{day},1,1" for n in range(40) for day in (5, 6, 7))
    monkeypatch.setattr(features, "Progress", functools.partial(features.Progress, seconds=0.0))
    run_features(write(tmp_path / "in.csv", HEADER, *records), tmp_path / "out", batch_users=10)
    said = [line for line in capsys.readouterr().err.splitlines() if line.endswith(" left")]
    assert said and all(re.match(r"features: \d+ of \d+ rows, about [\d.]+ s left", line) for line in said)
