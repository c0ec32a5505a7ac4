"""Synthetic players: the same for the same seed, rarely risky, weakly labelled, not to be told apart by sight."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scarcegan.data import synthetic
from scarcegan.data.rules import Layout
from scarcegan.profile.check import check_data


def column(path: Path, name: str) -> list[str]:
    with path.open(newline="") as lines:
        return [row[name] for row in csv.DictReader(lines)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Ten thousand players."""
    out = tmp_path_factory.mktemp("players")
    synthetic.generate(out)
    return out


def test_the_same_seed_makes_the_same_players_and_another_makes_others(tmp_path):
    for name, seed in {"one": 7, "two": 7, "other": 8}.items():
        synthetic.generate(tmp_path / name, users=300, days=10, seed=seed)
    one, two, other = (pq.read_table(tmp_path / name / "telemetry") for name in ("one", "two", "other"))
    assert one.equals(two) and not one.equals(other)
    assert (tmp_path / "one/labels.csv").read_bytes() == (tmp_path / "two/labels.csv").read_bytes()


def test_a_player_does_not_depend_on_how_many_there_are(tmp_path, made):
    synthetic.generate(tmp_path, users=1_500)
    few = pq.read_table(tmp_path / "telemetry").to_pandas()
    many = pq.read_table(made / "telemetry").to_pandas()
    assert few.equals(many[many["user_id"] <= few["user_id"].max()].reset_index(drop=True))


def test_risky_players_are_at_most_about_one_in_a_hundred(made):
    behaviour = Counter(column(made / "truth.csv", "behaviour"))
    assert behaviour.total() == 10_000
    assert 50 <= behaviour["risky"] <= 120
    assert behaviour["normal"] > behaviour["dormant"] > behaviour["heavy"] > 1_000
    assert behaviour["bot"] > 40 and behaviour["bonus_hunter"] > 40


def test_labels_are_few_partly_wrong_and_never_unseen_behaviour(made):
    truth = dict(zip(column(made / "truth.csv", "user_id"), column(made / "truth.csv", "behaviour"), strict=True))
    users, label = column(made / "labels.csv", "user_id"), column(made / "labels.csv", "label")
    true = [truth[user] for user in users]
    assert set(label) == set(synthetic.CLASSES) and not set(true) & set(synthetic.NEVER_LABELLED)
    wrong = np.mean([given != real for given, real in zip(label, true, strict=True)])
    assert 0.03 < wrong < 0.09
    assert 40 <= true.count("risky") <= 70 and all(300 <= true.count(name) <= 500 for name in synthetic.CLASSES[:3])


def test_days_are_missing_and_none_is_recorded_twice(made):
    table = pq.read_table(made / "telemetry", columns=["user_id", "date"])
    assert 0.90 < len(table) / 600_000 < 0.97
    assert len(table.group_by(["user_id", "date"]).aggregate([])) == len(table)


def test_the_telemetry_passes_its_own_check(made):
    layout = Layout(synthetic.CLASSES, counters=synthetic.COUNTERS, days=60)
    problems, summary = check_data(made / "telemetry", made / "labels.csv", layout)
    assert not problems
    assert summary["days"] == "2026-01-05 to 2026-03-05"


def test_habits_overlap_so_that_no_counter_alone_tells_risky_from_heavy():
    behaviour = synthetic.behaviours(seed=7, block=0)
    counters, _ = synthetic.simulate_block(behaviour, 60, np.datetime64("2026-01-05"), 7, 0, 0.0)
    risky, heavy = (behaviour == synthetic.BEHAVIOURS.index(name) for name in ("risky", "heavy"))
    for name, values in counters.items():
        level = values.mean(axis=1)
        above = (level[risky][:, None] > level[heavy]).mean()  # the ROC AUC of this counter alone
        assert 0.1 < above < 0.95, name


def test_drift_raises_deposits_and_moves_play_into_the_night():
    def share_and_deposits(drift: float) -> tuple[float, float]:
        counters, _ = synthetic.simulate_block(synthetic.behaviours(7, 0), 30, np.datetime64("2026-01-05"), 7, 0, drift)
        return counters["night_minutes"].sum() / counters["minutes"].sum(), counters["deposits"].sum()

    (night, deposits), (later_night, later_deposits) = share_and_deposits(0.0), share_and_deposits(1.0)
    assert later_night > 1.5 * night
    assert later_deposits == pytest.approx(1.5 * deposits, rel=0.01)


def test_weekends_are_livelier_for_normal_players():
    behaviour = synthetic.behaviours(7, 0)
    counters, _ = synthetic.simulate_block(behaviour, 56, np.datetime64("2026-01-05"), 7, 0, 0.0)
    sessions = counters["sessions"][behaviour == synthetic.BEHAVIOURS.index("normal")]
    weekend = np.arange(56) % 7 >= 5  # 2026-01-05 was a Monday
    assert sessions[:, weekend].mean() > 1.3 * sessions[:, ~weekend].mean()


@pytest.mark.parametrize("classes", [("honest", "crook"), ("a", "b", "fraud"), ("a", "b", "c", "d", "e", "fraud")])
def test_the_sample_speaks_of_the_projects_own_classes(tmp_path, classes):
    synthetic.generate(tmp_path, users=2_000, days=2, classes=classes)
    assert set(column(tmp_path / "labels.csv", "label")) == set(classes)
    assert set(column(tmp_path / "truth.csv", "behaviour")) == {*classes, *synthetic.NEVER_LABELLED}
    assert column(tmp_path / "truth.csv", "behaviour").count(classes[-1]) < 100, "the rare class stays rare"
