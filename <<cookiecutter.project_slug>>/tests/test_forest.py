"""Trees beside the networks, and kinds of the rare class that count alike."""

import numpy as np
import pytest
import tensorflow as tf

from scarcegan.model import evenness, forest, networks

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 3)).astype(np.float32)
RARE = (ROWS[:, 0] > 0.5) & (ROWS[:, 1] > 0)
SEEN = np.arange(60)[None] % 2 != np.arange(2)[:, None]


def test_the_saved_graph_says_what_the_trees_said(tmp_path):
    trees = forest.learn(ROWS, RARE, SEEN, 5, seed=1)
    module = tf.Module()
    module.layer = forest.Forest(trees)
    module.serve = tf.function(lambda rows: module.layer(rows), input_signature=[tf.TensorSpec([None, 3])])
    tf.saved_model.save(module, str(tmp_path))
    asked = RNG.normal(size=(500, 3)).astype(np.float32)
    assert tf.saved_model.load(str(tmp_path)).serve(asked).numpy() == pytest.approx(trees.shares(asked), abs=1e-6)


def test_a_group_knows_the_rows_it_saw_by_heart_and_not_the_others():
    """A tree grown to the end says 0 or 1 of every row it saw."""
    shares = forest.learn(ROWS, RARE, SEEN, 5, seed=1).shares(ROWS)
    assert (shares[SEEN] == np.tile(RARE, (2, 1))[SEEN]).all()
    assert (shares[~SEEN] != np.tile(RARE, (2, 1))[~SEEN]).any()


def test_unseen_rows_are_asked_of_the_group_that_did_not_see_them():
    trees = forest.learn(ROWS, RARE, SEEN, 5, seed=1)
    odds = trees.unseen_log_odds(ROWS, ~SEEN, caution=0.5)
    share = trees.shares(ROWS)[~SEEN]
    assert sorted(odds) == pytest.approx(sorted(np.log((share + 0.5) / (1.5 - share))), abs=1e-4)


def test_a_row_on_the_threshold_goes_the_same_way_in_both():
    """float32 rows, float64 thresholds between them: rounding must not put a row on the other side."""
    rows = np.array([[0.1], [np.nextafter(np.float32(0.1), np.float32(1))]], np.float32)
    trees = forest.learn(np.repeat(rows, 5, axis=0), np.repeat([False, True], 5), np.ones((1, 10), bool), 20, seed=3)
    assert forest.Forest(trees)(tf.constant(rows)).numpy() == pytest.approx(trees.shares(rows))


def test_no_trees_are_no_forest():
    assert forest.learn(ROWS, RARE, SEEN, 0, seed=1) is None


def test_a_kind_of_ninety_rows_counts_like_a_kind_of_ten():
    rows = np.concatenate([np.zeros((90, 2)), np.full((10, 2), 5.0)]) + 1e-3 * RNG.normal(size=(100, 2))
    weights = evenness.weights(rows, 1.0)
    assert weights.mean() == pytest.approx(1)
    assert weights[:90].sum() == pytest.approx(weights[90:].sum(), rel=0.01)
    drawn = evenness.resampled(np.arange(100), weights)
    assert (drawn < 90).sum() == pytest.approx(50, abs=1)


def test_copies_of_a_row_share_the_weight_of_one():
    weights = evenness.weights(np.array([[0.0], [0.0], [0.0], [9.0]]), 1.0)
    assert weights == pytest.approx([2 / 3] * 3 + [2])


def test_without_evening_every_row_is_drawn_once():
    assert evenness.weights(ROWS, 0.0).tolist() == [1] * 60
    assert evenness.resampled(np.arange(60), np.ones(60)).tolist() == list(range(60))


def test_caution_bounds_log_odds_and_keeps_their_order():
    """Probability 1/2 stays even; caution 0.25 keeps all within log(1.25 / 0.25)."""
    odds = networks.bounded(tf.constant([-60.0, -1.0, 0.0, 1.0, 60.0]), 0.25).numpy()
    assert odds[2] == pytest.approx(0) and odds[4] == pytest.approx(np.log(5))
    assert (np.diff(odds) > 0).all()
    assert networks.bounded(tf.constant(7.0), 0.0).numpy() == 7
