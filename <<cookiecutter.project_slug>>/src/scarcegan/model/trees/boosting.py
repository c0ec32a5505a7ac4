"""Boosting: gradient-boosted trees (Friedman 2001) beside the networks, as a layer that is saved inside the model.

A tree finds at once the sharp step that a network smooths over, a network the slope that a tree cuts to pieces: they
err on different rows. A group of trees per fold, which leaves that fold out; the networks' folds are the same. Only the
rare class against the rest, on the rows that the networks see and how near the crowd is (neighbours.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.model.gan.networks import bounded
from scarcegan.model.trees.neighbours import Neighbours

STRIDE = 6  # steps between two looks at who has arrived
LEAVES = 31
MOST_OF_A_SIDE = 20_000  # rare rows, or others, that a group reads at most
MOST_IN_A_LEAF = 20  # a leaf holds at least so many rows, or a quarter of the rare ones if these are fewer


def inputs(rows: tf.Tensor, wide: tf.Tensor, near: Neighbours | None) -> tf.Tensor:
    """What trees read of scaled rows [n, features]: they themselves, and the nearness of the unclipped ones, `wide`."""
    return tf.concat([rows, near(wide)], axis=1) if near else tf.convert_to_tensor(rows)


@dataclass(frozen=True)
class Trees:
    """As scikit-learn grew them: a GradientBoostingClassifier per group, and the neighbours that they are told of."""

    groups: Sequence[Any]
    near: Neighbours | None = None

    def log_odds(self, rows: NDArray) -> NDArray:
        """Rows [n, inputs] -> [groups, n]: what `Boosting` says of them, without a graph."""
        return np.stack([model.decision_function(rows) for model in self.groups])

    def unseen_log_odds(self, rows: NDArray, by: NDArray, caution: float) -> NDArray:
        """[n]: bounded log odds of rows [n, inputs], over the groups that never saw the row (by [groups, n] bool)."""
        each = bounded(tf.constant(self.log_odds(rows), tf.float32), caution).numpy()
        return np.where(by, each, 0).sum(axis=0) / by.sum(axis=0)


class Boosting(keras.layers.Layer):
    """Scaled rows and unclipped ones -> [groups, n]: log odds of the rare class, a start plus the leaves of all trees.

    A node is feature, threshold and the place of its first child; the second one stands beside it. A leaf is its own
    child whatever the row: its threshold is infinite.
    """

    def __init__(self, trees: Trees) -> None:
        super().__init__(name="boosting", trainable=False)
        self.near = trees.near
        packed = [_packed(model) for model in trees.groups]
        self.start = [_start(model) for model in trees.groups]
        self.roots = [roots for roots, _, _ in packed]
        self.nodes = [tf.Variable(nodes, trainable=False) for _, nodes, _ in packed]
        self.leaves = [tf.Variable(leaves, trainable=False) for _, _, leaves in packed]
        self.built = True

    def call(self, rows: tf.Tensor, wide: tf.Tensor) -> tf.Tensor:
        read = inputs(rows, wide, self.near)
        groups = zip(self.start, self.roots, self.nodes, self.leaves, strict=True)
        return tf.stack([start + self._group(read, *one) for start, *one in groups])

    def _group(self, rows: tf.Tensor, roots: NDArray, nodes: tf.Variable, leaves: tf.Variable) -> tf.Tensor:
        """Each row walks each tree, STRIDE steps at a time; walks that reached a leaf stay behind."""
        count, flat = tf.shape(rows)[0], tf.reshape(rows, [-1])
        begin = tf.repeat(tf.range(count) * rows.shape[1], len(roots))

        def stride(ended: tf.Tensor, walk: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, ...]:
            first = tf.gather(begin, walk)
            for _ in range(STRIDE):
                feature, threshold, child = tf.unstack(tf.gather(nodes, place), axis=-1)
                value = tf.gather(flat, first + tf.cast(feature, tf.int32))
                place = tf.cast(child, tf.int32) + tf.cast(value > threshold, tf.int32)
            ended = tf.tensor_scatter_nd_update(ended, walk[:, None], place)
            goes_on = tf.where(tf.gather(nodes, place)[:, 1] < np.inf)[:, 0]
            return ended, tf.gather(walk, goes_on), tf.gather(place, goes_on)

        start = tf.tile(tf.constant(roots), [count])
        some = tf.TensorShape([None])
        ended, _, _ = tf.while_loop(
            lambda ended, walk, place: tf.size(walk) > 0,
            stride,
            (start, tf.range(tf.size(start)), start),
            (some, some, some),
            parallel_iterations=1,
        )
        return tf.reduce_sum(tf.reshape(tf.gather(leaves, ended), [-1, len(roots)]), axis=1)


def _start(model: Any) -> float:
    """The log odds that a model's trees are added to."""
    row = np.zeros((1, model.n_features_in_), np.float32)
    return float(model.decision_function(row)[0] - model.learning_rate * sum(t.predict(row)[0] for t in _trees(model)))


def _trees(model: Any) -> list[Any]:
    return model.estimators_[:, 0].tolist()


def _packed(model: Any) -> tuple[NDArray, NDArray, NDArray]:
    """Roots int32 [trees], nodes float32 [all, 3] and leaves float32 [all] of a model's trees, one after another."""
    roots, nodes, leaves = [], [], []
    first = 0
    for tree in (one.tree_ for one in _trees(model)):
        inner = np.flatnonzero(tree.children_left >= 0)
        place = np.zeros(tree.node_count, int)
        place[tree.children_left[inner]] = 1 + 2 * np.arange(len(inner))
        place[tree.children_right[inner]] = 2 + 2 * np.arange(len(inner))
        own = np.full((tree.node_count, 3), [0, np.inf, 0], np.float64)
        own[place, 2] = place + first
        columns = tree.feature[inner], _not_above(tree.threshold[inner]), place[tree.children_left[inner]] + first
        own[place[inner]] = np.stack(columns, axis=1)
        each = np.empty(tree.node_count)
        each[place] = model.learning_rate * tree.value[:, 0, 0]
        roots.append(first)
        nodes.append(own)
        leaves.append(each)
        first += tree.node_count
    if first >= 2**24:
        raise ValueError(f"{first} nodes in a group of trees: places beyond 2^24 are no float32")
    return np.array(roots, np.int32), np.concatenate(nodes).astype(np.float32), np.concatenate(leaves).astype("f4")


def _not_above(threshold: NDArray) -> NDArray:
    """The largest float32 that is at most the float64 threshold: rows are float32, so they go the same way."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)


def learn(
    rows: NDArray,
    rare: NDArray,
    weight: NDArray,
    seen: NDArray,
    trees: int,
    seed: int,
    near: Neighbours | None = None,
) -> Trees:
    """A group of `trees` trees, at least 1, per row of seen [groups, n] bool.

    rows [n, inputs], rare [n] bool, weight [n] of one row against another of its side. Rare rows weigh as much as the
    others together. Where there are very many of a side, a group reads some of them.
    """
    from sklearn.ensemble import GradientBoostingClassifier

    groups = []
    for number, own in enumerate(seen):
        read = _read(own, rare, np.random.default_rng([seed, number]))
        target, each = rare[read], weight[read]
        half = np.where(target, each[target].sum(), each[~target].sum())
        model = GradientBoostingClassifier(
            n_estimators=trees,
            max_depth=None,
            max_leaf_nodes=LEAVES,
            min_samples_leaf=int(np.clip(target.sum() // 4, 1, MOST_IN_A_LEAF)),
            max_features=0.5,
            random_state=np.random.RandomState([seed, number]),
        )
        groups.append(model.fit(rows[read], target, each / half * len(read) / 2))
    return Trees(groups, near)


def _read(own: NDArray, rare: NDArray, rng: np.random.Generator) -> NDArray:
    """Positions of rows of own [n] bool, in order: all, or MOST_OF_A_SIDE rare ones or others where there are more."""
    sides = [np.flatnonzero(own & rare), np.flatnonzero(own & ~rare)]
    some = [rng.choice(side, MOST_OF_A_SIDE, replace=False) if len(side) > MOST_OF_A_SIDE else side for side in sides]
    return np.sort(np.concatenate(some))
