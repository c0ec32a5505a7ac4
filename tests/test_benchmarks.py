"""The KDD Cup 99 protocol on a handful of made-up rows: what is drawn, what is asked about, what is refused."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from kddcup99 import compare, protocol, scores, table

TASK = protocol.Task("r2l", protocol.EIGHT, normal=30, rare=8)


def row(attack: str, count: int) -> str:
    """A connection of 42 columns; `count` tells rows apart."""
    values = ["0"] * 41
    values[1:4] = "tcp", "http", "SF"
    values[protocol.COLUMNS.index("count")] = str(count)
    return ",".join([*values, f"{attack}."])


def write(path: Path, attacks: list[str]) -> None:
    with gzip.open(path, "wt") as file:
        file.writelines(row(attack, place) + "\n" for place, attack in enumerate(attacks))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    protocol.read.cache_clear()
    write(tmp_path / protocol.TRAIN_FILE, ["normal"] * 60 + ["spy"] * 6 + ["phf"] * 4 + ["smurf"] * 5 + ["perl"])
    write(tmp_path / protocol.TEST_FILE, ["normal"] * 20 + ["phf"] * 3 + ["imap", "snmpguess", "perl"])
    return tmp_path


def test_the_test_rows_are_normal_or_of_an_attack_name_seen_in_training(folder):
    assert sorted(set(protocol.test_rows(folder, TASK).attack)) == ["normal", "phf"]
    assert len(protocol.test_rows(folder, TASK).attack) == 23


def test_rare_rows_not_drawn_are_among_the_unlabelled(folder):
    drawn = protocol.draw(folder, TASK, seed=0)
    assert (len(drawn.labelled.attack), drawn.labelled.rare.sum()) == (38, 8)
    count = protocol.EIGHT.index("count")
    labelled_rare = set(drawn.labelled.values[drawn.labelled.rare][:, count])
    unlabelled_rare = {value for value in drawn.unlabelled[:, count] if 60 <= value < 70}
    assert labelled_rare | unlabelled_rare == set(range(60, 70)) and not labelled_rare & unlabelled_rare


def test_the_same_seed_draws_the_same_rows_and_another_seed_others(folder):
    first, again, other = (protocol.draw(folder, TASK, seed).labelled.values for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_held_out_rows_are_never_trained_on(folder):
    held = protocol.held_out(folder, TASK, seed=0)
    count = protocol.EIGHT.index("count")
    asked = set(held.test.values[:, count])
    assert asked and not asked & set(held.labelled.values[:, count]) and not asked & set(held.unlabelled[:, count])


def test_an_attack_name_left_out_is_only_asked_about(folder):
    held = protocol.held_out(folder, TASK, seed=0, left_out=("phf",))
    assert set(held.labelled.attack) == {"normal", "spy"} and set(held.test.attack) == {"normal", "phf"}


def test_held_out_rows_of_another_time_are_one_half_of_every_name_normal_included(folder):
    count = protocol.EIGHT.index("count")
    early, late = (set(range(first, last)) for first, last in ((0, 30), (30, 60)))
    for seed, normal, spy, phf in ((0, late, {63, 64, 65}, {68, 69}), (1, early, {60, 61, 62}, {66, 67})):
        held = protocol.later(folder, TASK, seed, normal=True)
        assert set(held.test.values[:, count]) == normal | spy | phf
        trained = set(held.labelled.values[:, count]) | set(held.unlabelled[:, count])
        assert trained == set(range(70)) - (normal | spy | phf)


def test_attack_names_weigh_alike_when_held_out():
    weights = protocol.by_name(np.array(["normal", "normal", "phf", "spy", "spy"]), odds=0.5)
    assert weights.tolist() == [1.0, 1.0, 0.5, 0.25, 0.25]


def test_a_missing_or_damaged_file_ends_with_a_sentence(folder):
    protocol.read.cache_clear()
    whole = (folder / protocol.TRAIN_FILE).read_bytes()
    (folder / protocol.TRAIN_FILE).write_bytes(whole[:-20])
    with pytest.raises(SystemExit, match="not a whole gzip"):
        protocol.read(folder / protocol.TRAIN_FILE)
    with pytest.raises(SystemExit, match="no such file"):
        protocol.read(folder / "elsewhere.gz")


def test_figures_of_a_ranking_worked_out_by_hand():
    rarity, rare = np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])
    found = scores.figures(rarity, rare, threshold=0.75)
    assert found["pr_auc"] == pytest.approx((1 + 2 / 3) / 2)
    assert (found["recall"], found["precision"], found["f1"], found["alarms_per_hit"]) == (0.5, 0.5, 0.5, 1.0)
    assert found["recall_at_0.01"] == 0.5


def test_the_threshold_of_highest_f1_lies_between_two_scores():
    assert scores.best_threshold(np.array([0.9, 0.6, 0.2]), np.array([True, True, False])) == pytest.approx(0.4)


def test_the_unlabelled_rows_raise_the_threshold_and_the_labelled_rule_leaves_them_out():
    """Rare rows at 0.9 and 0.4, labelled normal ones at 0.1 and 0.2, and a crowd of unlabelled ones at 0.5."""
    own, rare = np.array([0.9, 0.4, 0.2, 0.1]), np.array([True, True, False, False])
    rated = compare.Rated(np.array([0.45, 0.95, 0.0]), own, rare, np.ones(4), np.full(100, 0.5), population=100)
    assert rated.labelled_threshold == pytest.approx(0.3)
    assert rated.threshold == pytest.approx(0.7)
    asked = protocol.Rows(np.zeros((3, 8), np.float32), np.array(["phf", "phf", "normal"]))
    found = compare.judge(rated, protocol.Draw(TASK, 0, asked, asked.values, asked, np.ones(3)))
    assert (found["recall"], found["recall_labelled"], found["f1_labelled"]) == (0.5, 1.0, 1.0)


def test_equal_rows_share_a_fold():
    values = np.repeat(np.arange(20.0), 3)[:, None]
    fold = compare.folds(values, np.repeat(np.arange(20) % 2 == 0, 3), seed=0)
    assert all(len(set(fold[values[:, 0] == value])) == 1 for value in range(20))


def test_a_paired_comparison_counts_wins_over_the_same_seeds():
    versus = scores.paired([0.5, 0.6, 0.7], [0.4, 0.7, 0.6])
    assert (versus["wins"], versus["of"]) == (2, 3) and versus["low"] <= versus["difference"] <= versus["high"]


def test_the_table_stars_the_best_and_shows_what_ours_wins():
    seed = dict.fromkeys([*table.COLUMNS.values(), "alarms_per_hit"], 0.5)
    lines = table.lines("r2l-8", {"ours": [seed], "theirs": [seed | {"pr_auc": 0.6}]}, "ours")
    assert "theirs *" in lines[3] and "0/1  -0.100" in lines[3]


def test_views_count_alike_however_many_draws_each_has():
    figures = [{"pr_auc": value} for value in (0.1, 0.2, 0.3, 0.8)]
    head, line = table.by_view({"ours": figures}, ["half", "half", "half", "later"])
    assert head.split()[-2:] == ["half", "later"] and line.split() == ["ours", "0.500", "0.200", "0.800"]
