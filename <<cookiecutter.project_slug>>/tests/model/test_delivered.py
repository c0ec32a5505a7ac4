"""What is delivered: calibration and the graph, on numbers small enough to check."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from scarcegan.errors import UserError
from scarcegan.model import delivered, distance, inputs
from scarcegan.model.gan.member import NetworksLayer
from scarcegan.model.gan.networks import Discriminator
from scarcegan.model.preprocessing import WIDE, bin_edges
from scarcegan.model.scorer import Scorer, load_scorer
from scarcegan.model.trees.boosting import grow_trees, tree_inputs
from scarcegan.model.trees.member import TreesLayer
from scarcegan.model.trees.neighbours import draw_neighbours


def test_calibration_finds_the_line_behind_the_labels():
    rng = np.random.default_rng(0)
    score = rng.normal(size=50_000)
    rare = rng.random(50_000) < 1 / (1 + np.exp(-(2 * score - 3)))
    found = delivered.calibrate(score, rare, score)
    assert (found.slope, found.shift) == pytest.approx((2, -3), abs=0.1)


def test_few_rare_rows_told_apart_perfectly_still_give_a_finite_slope_and_keep_the_order():
    score = np.array([-3.0, -2, -1, 4])
    found = delivered.calibrate(score, score > 0, score)
    rarity = found.rarity(score)
    assert 0 < found.slope < 10
    assert (np.diff(rarity) > 0).all()


def test_a_ranking_that_is_upside_down_is_doubted_not_reversed():
    score = np.linspace(-1, 1, 50)
    assert delivered.calibrate(score, score < -0.5, score).slope == delivered.LEAST_SLOPE


def test_unknown_is_the_share_of_known_rows_that_are_less_strange():
    known = np.arange(1001) / 1000
    found = delivered.calibrate(known, known > 0.9, known).unknown(np.array([-5, 0.5, 1.0, 2.0, 50.0]))
    assert found[:3] == pytest.approx([0, 0.99 / 2, 0.99], abs=1e-3)
    assert 0.99 < found[3] < found[4] < 1


def test_distance_is_to_the_nearest_class_in_the_spread_within_classes():
    """Two classes around 0 and 10 on one axis: 5 is far from both, 0 and 10 are near, and order does not matter."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2)).astype(np.float32)
    label = np.repeat([0, 1], 100)
    rows[label == 1, 0] += 10
    far = distance.learn_distance(rows, label)
    asked = np.array([[0, 0], [10, 0], [5, 0], [5, 50]], np.float32)
    near0, near1, between, off = far(asked).numpy()
    assert max(near0, near1) < 0.5 < 2 < between < off
    shuffled = distance.learn_distance(rows[::-1].copy(), label[::-1].copy())
    assert shuffled(asked).numpy() == pytest.approx(far(asked).numpy(), abs=1e-3)


def test_distance_takes_one_row_a_class_and_constant_columns():
    rows = np.array([[0, 1], [4, 1]], np.float32)
    found = distance.learn_distance(rows, np.array([0, 1]))(rows).numpy()
    assert found == pytest.approx([0, 0], abs=1e-3)


def test_a_class_that_is_wholly_in_one_fold_is_not_strange_to_that_fold():
    """The rows around 10 are all in fold 0; learnt without them, they would be far from every class."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 2)).astype(np.float32)
    label, fold = np.repeat([0, 1], [50, 10]), np.arange(60) % 2
    rows[label == 1, 0] += 10
    fold[label == 1] = 0
    found = distance.out_of_fold(rows, label, fold)
    assert found[label == 1].max() < 3
    assert found[label == 0].max() < 3


def test_the_rare_class_goes_before_unknown_and_unknown_before_the_negatives():
    flat = delivered.Calibration(1.0, 0.0, np.linspace(0, 1, delivered.KNOTS).astype(np.float32))
    model = delivered.Delivered(None, [], None, flat, rare_threshold=0.5, unknown_threshold=0.95)
    negatives = tf.constant([[0.2, 0.8]] * 4)
    rarity, unknown = tf.constant([0.5, 0.4, 0.4, 0.9]), tf.constant([0.0, 0.95, 0.9, 0.99])
    assert model.label(negatives, rarity, unknown).numpy().tolist() == [2, 3, 1, 2]


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of 60 features with networks and trees, large enough for TensorFlow to sum in different orders."""
    rng = np.random.default_rng(0)
    rows = rng.lognormal(size=(600, 60)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.05] = np.nan
    names, rare = tuple(f"f{i}" for i in range(60)), rng.random(600) < 0.2
    layer = inputs.learn_inputs(rows, names, {})
    scaled, far = layer(rows).numpy(), layer(rows, bound=WIDE).numpy()
    networks = Discriminator((64, 32), 3, range(4), edges=bin_edges(scaled, 5))
    networks.build((4, None, layer.width))
    near = draw_neighbours(far, 300, seed=0)
    read = tree_inputs(scaled, far, near)
    trees = grow_trees(read.numpy(), rare, np.ones(600), np.ones((2, 600), bool), 20, 0, near)
    members = [(1.0, NetworksLayer(networks, 0.01)), (1.0, TreesLayer(trees, 0.01))]
    far_from_classes = distance.learn_distance(scaled, rare.astype(int))
    strangeness = far_from_classes(scaled).numpy()
    calibration = delivered.calibrate(rng.normal(size=600), rare, strangeness)
    folder = tmp_path_factory.mktemp("wide")
    model = delivered.Delivered(layer, members, far_from_classes, calibration, 0.3, 0.9)
    delivered.save(model, len(names), folder / "1")
    facts = {"classes": ("calm", "busy", "risky"), "features": names, "thresholds": {"rare": 0.3, "unknown": 0.9}}
    (folder / "model.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def wide_model(wide_folder: Path) -> Scorer:
    return load_scorer(wide_folder)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables.index", "variables.data-00000-of-00001"])
def test_a_saved_model_that_lost_its_end_is_refused_with_a_sentence(
    wide_folder: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(wide_folder, tmp_path / "model")
    [file] = tmp_path.rglob(name)
    os.truncate(file, file.stat().st_size * 2 // 3)
    with pytest.raises(UserError, match=r"damaged SavedModel .*Type scarcegan run"):
        load_scorer(tmp_path / "model")


def test_a_row_gets_the_same_answer_alone_and_among_any_number_of_others(wide_model: Scorer) -> None:
    rows = np.random.default_rng(1).lognormal(size=(512, 60)).astype(np.float32)
    together = wide_model.score(rows)
    for size in (1, 3, 32, 100):
        parts = [wide_model.score(rows[i : i + size]) for i in range(0, len(rows), size)]
        for name in ("probabilities", "rarity", "unknown", "label"):
            alone = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(alone, getattr(together, name), f"{name}, {size} rows a call")
