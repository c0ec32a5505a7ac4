"""Split: by user and by time, stratified, the same whatever the order, and refused when a class is too small."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scarcegan.data.schema import UNLABELLED, FeatureTable, read_features, write_features
from scarcegan.errors import UserError
from scarcegan.steps import split
from step_arguments import arguments

EARLY, LATE = np.datetime64("2026-02-01"), np.datetime64("2026-02-15")
OUTPUTS = ("labelled", "unlabelled", "validation", "test")


def table(calm: int = 20, risky: int = 10, unlabelled: int = 100, days=(EARLY, LATE)) -> FeatureTable:
    """A row per user and day; the feature is the user's number."""
    label = np.repeat([0, 1, UNLABELLED], [calm, risky, unlabelled]).astype(np.int8)
    number = np.arange(len(label))
    every = np.tile(number, len(days))
    as_of = np.repeat(np.array(days, "datetime64[D]"), len(number))
    names = np.array([f"user {n}" for n in every], object)
    return FeatureTable(names, as_of, label[every], ("number",), every[:, None].astype(np.float32))


def run_split(features: FeatureTable, folder: Path, **changes: object) -> dict[str, FeatureTable]:
    """The step's outputs by name, folds left in `folder`."""
    write_features(features, folder / "features")
    words = ["--features", str(folder / "features")]
    for output in (*OUTPUTS, "folds"):
        words += [f"--{output}-out", str(folder / output)]
    split.main([*words, *arguments("split", classes="calm,risky", **changes)])
    return {output: read_features(folder / output) for output in OUTPUTS}


def test_a_user_is_never_in_two_splits_and_none_is_lost(tmp_path):
    found = run_split(table(), tmp_path)
    users = [user for part in found.values() for user in part.user_id]
    assert len(users) == len(set(users)) == 130


def test_test_users_are_seen_later_than_all_others(tmp_path):
    found = run_split(table(), tmp_path)
    assert set(found["test"].as_of) == {LATE}
    assert all(set(found[name].as_of) == {EARLY} for name in ("labelled", "unlabelled", "validation"))


def test_every_class_and_the_unlabelled_are_split_by_the_shares(tmp_path):
    found = run_split(table(), tmp_path, test_share=0.3, validation_share=0.2)
    counts = {name: [int((part.label == label).sum()) for label in (0, 1, UNLABELLED)] for name, part in found.items()}
    assert counts == {"labelled": [10, 5, 0], "unlabelled": [0, 0, 50], "validation": [4, 2, 20], "test": [6, 3, 30]}


def test_a_row_keeps_its_values_and_label(tmp_path):
    features = table()
    label = dict(zip(features.user_id, features.label, strict=True))
    for part in run_split(features, tmp_path).values():
        assert [f"user {number:.0f}" for number in part.values[:, 0]] == part.user_id.tolist()
        assert [label[user] for user in part.user_id] == part.label.tolist()


def test_a_label_that_stands_in_one_row_of_a_user_is_the_users(tmp_path):
    whole = table()
    torn = replace(whole, label=np.where(whole.as_of == EARLY, np.int8(UNLABELLED), whole.label))
    found, expected = run_split(torn, tmp_path / "torn"), run_split(whole, tmp_path / "whole")
    for name in OUTPUTS:
        assert found[name].label.tolist() == expected[name].label.tolist(), name


def test_the_order_of_rows_does_not_matter_and_the_seed_does(tmp_path):
    features = table()
    shuffled = features.take(np.random.default_rng(1).permutation(len(features)))
    one = run_split(features, tmp_path / "one")
    two = run_split(shuffled, tmp_path / "two")
    other = run_split(features, tmp_path / "other", seed=8)
    for name in OUTPUTS:
        assert set(one[name].user_id) == set(two[name].user_id)
    assert set(one["test"].user_id) != set(other["test"].user_id)


def test_new_users_hardly_move_the_old_ones(tmp_path):
    before = run_split(table(risky=20, calm=200), tmp_path / "before")
    after = run_split(table(risky=20, calm=200, unlabelled=120), tmp_path / "after")
    assert set(before["labelled"].user_id) == set(after["labelled"].user_id)
    moved = set(before["unlabelled"].user_id) & set(after["test"].user_id)
    assert len(moved) <= 6


def test_folds_deal_out_each_class_of_the_labelled_training_users_evenly(tmp_path):
    found = run_split(table(), tmp_path, folds=3)
    folds = pq.read_table(tmp_path / "folds/folds.parquet").to_pydict()
    assert sorted(folds["user_id"]) == sorted(found["labelled"].user_id)
    label = dict(zip(found["labelled"].user_id, found["labelled"].label, strict=True))
    for one in (0, 1):
        dealt = [fold for user, fold in zip(*folds.values(), strict=True) if label[user] == one]
        assert max(np.bincount(dealt, minlength=3)) - min(np.bincount(dealt, minlength=3)) <= 1


def test_ten_rare_users_are_enough(tmp_path):
    assert (run_split(table(risky=10), tmp_path)["labelled"].label == 1).sum() == 5


def test_a_class_too_small_is_refused_with_the_fewest_it_needs(tmp_path):
    with pytest.raises(UserError, match=r"has 5 labelled users .* 6 are the fewest for 3 folds") as refused:
        run_split(table(risky=5), tmp_path)
    assert "split.folds" in str(refused.value)
    with pytest.raises(UserError, match=r"0 labelled users.*data\.labels"):
        run_split(table(risky=0), tmp_path / "none")
    assert len(run_split(table(risky=6), tmp_path / "six")["test"]) > 0
    with pytest.raises(UserError, match="class 'risky' has 0 labelled users"):
        run_split(table(risky=0), tmp_path)


def test_with_one_day_users_alone_are_split_and_that_is_said(tmp_path, capsys):
    found = run_split(table(days=(EARLY,)), tmp_path)
    assert sum(len(part) for part in found.values()) == 130
    assert "one day of observation" in capsys.readouterr().err


def test_a_user_seen_on_the_last_day_only_is_left_out_and_counted(tmp_path, capsys):
    features = table()
    newcomer = (features.user_id == "user 50") & (features.as_of == EARLY)
    found = run_split(features.take(~newcomer), tmp_path)
    assert "user 50" not in {user for part in found.values() for user in part.user_id}
    assert "1 users seen on the last day only are left out" in capsys.readouterr().err


def test_without_unlabelled_users_that_output_is_an_empty_table(tmp_path):
    found = run_split(table(unlabelled=0), tmp_path)
    assert len(found["unlabelled"]) == 0 and found["unlabelled"].names == ("number",)


def test_a_smaller_table_leaves_no_part_of_a_larger_one(tmp_path):
    write_features(table(), tmp_path / "labelled", part=3)
    assert len(run_split(table(), tmp_path)["labelled"]) == 15
    assert len(list((tmp_path / "labelled").iterdir())) == 1


def test_shares_that_leave_nothing_for_training_are_refused(tmp_path):
    with pytest.raises(UserError, match="below 1"):
        run_split(table(), tmp_path, test_share=0.6, validation_share=0.4)
