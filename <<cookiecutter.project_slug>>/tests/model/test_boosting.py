"""Trees beside the networks, what they are told of the crowd, and kinds of the rare class that count alike."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import average_precision_score

from scarcegan.model import evenness, member
from scarcegan.model.trees import boosting, neighbours

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 3)).astype(np.float32)
RARE = (ROWS[:, 0] > 0.5) & (ROWS[:, 1] > 0)
SEEN = np.arange(60)[None] % 2 != np.arange(2)[:, None]
ALIKE = np.ones(60)


def saved(function: Callable[[tf.Tensor], tf.Tensor], layer: tf.Module, folder: str) -> tf.Module:
    """A layer as a SavedModel that was loaded again; `serve` calls it. Keep it: its functions hold weak references."""
    module = tf.Module()
    module.layer = layer
    module.serve = tf.function(function, input_signature=[tf.TensorSpec([None, 3])])
    tf.saved_model.save(module, folder)
    return tf.saved_model.load(folder)


def test_the_saved_graph_says_what_the_trees_said(tmp_path):
    """Trees read clipped rows; the neighbours are those of the rows as they were."""
    near = neighbours.draw_neighbours(RNG.normal(size=(90, 3)), 50, seed=0)
    asked = 3 * RNG.normal(size=(500, 3)).astype(np.float32)

    def read(rows):
        return boosting.tree_inputs(tf.clip_by_value(rows, -2, 2), rows, near).numpy()

    trees = boosting.grow_trees(read(ROWS), RARE, ALIKE, SEEN, 9, seed=1, neighbours=near)
    layer = boosting.Boosting(trees)
    graph = saved(lambda rows: layer(tf.clip_by_value(rows, -2, 2), wide=rows), layer, str(tmp_path))
    said = graph.serve(asked).numpy()
    assert said.shape == (2, 500) and np.ptp(said) > 1
    assert said == pytest.approx(trees.log_odds(read(asked)), abs=1e-5)


def test_among_very_many_rows_every_rare_one_is_read(monkeypatch):
    """40 rare rows among 20,000, of which trees read 2,000: a tenth of the rare ones would teach next to nothing."""
    monkeypatch.setattr(boosting, "MOST_OF_A_SIDE", 2_000)
    rng = np.random.default_rng(5)
    rare = np.arange(20_000) % 500 == 0
    rows = rng.normal(size=(20_000, 5)).astype(np.float32) + 1.5 * rare[:, None]
    trees = boosting.grow_trees(rows, rare, np.ones(20_000), np.ones((1, 20_000), bool), 100, seed=1)
    fresh_rare = np.arange(20_000) % 100 == 0
    fresh = rng.normal(size=(20_000, 5)).astype(np.float32) + 1.5 * fresh_rare[:, None]
    assert average_precision_score(fresh_rare, trees.log_odds(fresh)[0]) > 0.4


def test_trees_rank_rows_that_they_did_not_see():
    odds = boosting.grow_trees(ROWS, RARE, ALIKE, SEEN, 30, seed=1).held_out_log_odds(ROWS, ~SEEN, caution=0.01)
    assert odds[RARE].mean() > odds[~RARE].mean() + 1


def test_unseen_rows_are_asked_of_the_group_that_did_not_see_them():
    trees = boosting.grow_trees(ROWS, RARE, ALIKE, SEEN, 5, seed=1)
    odds = trees.held_out_log_odds(ROWS, ~SEEN, caution=0.5)
    chance = 1 / (1 + np.exp(-trees.log_odds(ROWS)[~SEEN]))
    assert sorted(odds) == pytest.approx(sorted(np.log((chance + 0.5) / (1.5 - chance))), abs=1e-4)


def test_a_row_on_the_threshold_goes_the_same_way_in_both():
    """float32 rows, float64 thresholds between them: rounding must not put a row on the other side."""
    rows = np.array([[1e3], [np.nextafter(np.float32(1e3), np.float32(np.inf))]], np.float32)
    many, rare = np.repeat(rows, 5, axis=0), np.repeat([False, True], 5)
    trees = boosting.grow_trees(many, rare, np.ones(10), np.ones((1, 10), bool), 20, seed=3)
    said = boosting.Boosting(trees)(tf.constant(rows), wide=tf.constant(rows)).numpy()
    assert said == pytest.approx(trees.log_odds(rows), abs=1e-5) and said[0, 1] > said[0, 0]


def test_the_weight_of_a_row_counts_against_its_own_side_only():
    """The two sides weigh alike, so trees that have nothing to split by say even odds, whatever the weights."""
    same = np.zeros((60, 3), np.float32)
    weight = np.where(RARE, 7.0, 1.0)
    odds = boosting.grow_trees(same, RARE, weight, np.ones((1, 60), bool), 3, seed=1).log_odds(same)
    assert odds == pytest.approx(0, abs=1e-6)


def test_no_neighbours_are_none():
    assert neighbours.draw_neighbours(ROWS, 0, seed=1) is None
    assert boosting.tree_inputs(tf.constant(ROWS), tf.constant(ROWS), None).shape == (60, 3)


def test_neighbours_are_the_nearest_fifth_and_twentieth_reference_row():
    """Reference rows at 1, 2, … 30 on a line, a row at 0: log1p of 1, 5 and 20."""
    near = neighbours.Neighbours(np.arange(1.0, 31)[:, None])
    assert near(tf.constant([[0.0]])).numpy()[0] == pytest.approx(np.log1p([1, 5, 20]), abs=1e-6)


def test_one_copy_of_a_row_is_taken_for_the_row_itself(tmp_path):
    """A user among the reference has the neighbours it would have if it were not among them; rounding hides nothing."""
    reference = 100 * RNG.normal(size=(50, 3)).astype(np.float32)
    others = neighbours.Neighbours(reference[1:])
    near = neighbours.Neighbours(reference)
    row = reference[:1]
    for same in (row, np.nextafter(row, np.float32(np.inf))):
        assert near(tf.constant(same)).numpy() == pytest.approx(others(tf.constant(row)).numpy(), abs=1e-5)
    twice = neighbours.Neighbours(np.concatenate([reference, row]))
    assert twice(tf.constant(row)).numpy()[0, 0] == 0


def test_fewer_reference_rows_than_twenty_stand_in_with_the_farthest():
    found = neighbours.draw_neighbours(np.array([[1.0], [3.0]]), most=2_000, seed=0)(tf.constant([[0.0]])).numpy()
    assert found[0] == pytest.approx(np.log1p([1, 3, 3]), abs=1e-6)


def test_neighbours_of_a_row_do_not_depend_on_how_many_are_asked_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 7)
    near = neighbours.Neighbours(RNG.normal(size=(40, 3)))
    graph = saved(near, near, str(tmp_path))
    alone = np.concatenate([graph.serve(row[None]).numpy() for row in ROWS])
    squares = ((ROWS[:, None].astype(float) - near.reference.numpy()) ** 2).sum(axis=2)
    by_numpy = np.log1p(np.sqrt(np.sort(squares, axis=1)[:, [0, 4, 19]]))
    assert graph.serve(ROWS).numpy() == pytest.approx(alone, abs=1e-6)
    assert alone == pytest.approx(by_numpy, abs=1e-6)
    assert graph.serve(ROWS[:0]).shape == (0, 3)


def test_a_kind_of_ninety_rows_counts_like_a_kind_of_ten():
    rows = np.concatenate([np.zeros((90, 2)), np.full((10, 2), 5.0)]) + 1e-3 * RNG.normal(size=(100, 2))
    weights = evenness.density_weights(rows, 1.0)
    assert weights.mean() == pytest.approx(1)
    assert weights[:90].sum() == pytest.approx(weights[90:].sum(), rel=0.01)
    drawn = evenness.resample(np.arange(100), weights)
    assert (drawn < 90).mean() == pytest.approx(0.5, abs=0.01)
    assert set(drawn) == set(range(100)), "the common kind is drawn less often, but all of it"


def test_copies_of_a_row_share_the_weight_of_one():
    weights = evenness.density_weights(np.array([[0.0], [0.0], [0.0], [9.0]]), 1.0)
    assert weights == pytest.approx([2 / 3] * 3 + [2])


def test_without_evening_rows_are_drawn_alike():
    assert evenness.density_weights(ROWS, 0.0).tolist() == [1] * 60
    assert (np.bincount(evenness.resample(np.arange(60), np.ones(60))) == evenness.PLACES_PER_ROW).all()


def test_caution_bounds_log_odds_and_keeps_their_order():
    """Probability 1/2 stays even; caution 0.25 keeps all within log(1.25 / 0.25)."""
    odds = member.bounded(tf.constant([-60.0, -1.0, 0.0, 1.0, 60.0]), 0.25).numpy()
    assert odds[2] == pytest.approx(0) and odds[4] == pytest.approx(np.log(5))
    assert (np.diff(odds) > 0).all()
    assert member.bounded(tf.constant(7.0), 0.0).numpy() == 7


def test_only_rows_of_the_rare_class_are_evened_out():
    weight = evenness.weigh_rare_rows(np.array([[0.0], [0.0], [0.0], [9.0], [0.0]]), np.arange(5) < 4, 1.0)
    assert weight == pytest.approx([2 / 3] * 3 + [2, 1])
