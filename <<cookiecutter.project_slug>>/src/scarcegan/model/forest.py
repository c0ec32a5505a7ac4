"""Forest: extremely randomised trees (Geurts et al. 2006) beside the networks, as a layer saved inside the model.

A tree finds at once the sharp step that a network smooths over, a network the slope that a tree cuts to pieces: they
err on different rows. A group of trees per fold, which leaves that fold out; the networks' folds are the same. Only the
rare class against the rest, on the rows that the networks see.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.model import evenness
from scarcegan.model.networks import bounded

STRIDE = 6  # steps between two looks at who has arrived


@dataclass(frozen=True)
class Trees:
    """As scikit-learn grew them: groups of trees, one per fold."""

    groups: Sequence[Sequence[Any]]

    def shares(self, rows: NDArray) -> NDArray:
        """Scaled rows [n, features] -> [groups, n]: what `Forest` says of them, without a graph."""
        return np.stack([np.mean([_share(tree.predict(rows)) for tree in trees], axis=0) for trees in self.groups])

    def unseen_log_odds(self, rows: NDArray, by: NDArray, caution: float) -> NDArray:
        """[n]: log odds of rows [n, features], over the groups that never saw the row (by [groups, n] bool)."""
        mean = np.where(by, self.shares(rows), 0).sum(axis=0) / by.sum(axis=0)
        return log_odds(mean, caution).numpy()


class Forest(keras.layers.Layer):
    """Scaled rows [n, features] -> [groups, n]: mean over a group's trees of the share of rare rows in the leaf.

    A node is feature, threshold and the place of its first child; the second one stands beside it. A leaf is its own
    child whatever the row: its threshold is infinite.
    """

    def __init__(self, trees: Trees) -> None:
        super().__init__(name="forest", trainable=False)
        packed = [_packed(group) for group in trees.groups]
        self.roots = [roots for roots, _, _ in packed]
        self.nodes = [tf.Variable(nodes, trainable=False) for _, nodes, _ in packed]
        self.share = [tf.Variable(share, trainable=False) for _, _, share in packed]
        self.built = True

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.stack([self._group(rows, *one) for one in zip(self.roots, self.nodes, self.share, strict=True)])

    def _group(self, rows: tf.Tensor, roots: NDArray, nodes: tf.Variable, share: tf.Variable) -> tf.Tensor:
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
        return tf.reduce_mean(tf.reshape(tf.gather(share, ended), [-1, len(roots)]), axis=1)


def _share(value: NDArray) -> NDArray:
    """Of the rare class, the last column."""
    return value[:, -1] / value.sum(axis=1)


def _packed(trees: Sequence[Any]) -> tuple[NDArray, NDArray, NDArray]:
    """Roots int32 [trees], nodes float32 [all, 3] and shares float32 [all] of scikit-learn trees, one after another."""
    roots, nodes, shares = [], [], []
    first = 0
    for tree in trees:
        inner = np.flatnonzero(tree.children_left >= 0)
        place = np.zeros(tree.node_count, int)
        place[tree.children_left[inner]] = 1 + 2 * np.arange(len(inner))
        place[tree.children_right[inner]] = 2 + 2 * np.arange(len(inner))
        own = np.full((tree.node_count, 3), [0, np.inf, 0], np.float64)
        own[place, 2] = place + first
        columns = tree.feature[inner], _not_above(tree.threshold[inner]), place[tree.children_left[inner]] + first
        own[place[inner]] = np.stack(columns, axis=1)
        each = np.empty(tree.node_count)
        each[place] = _share(tree.value[:, 0, :])
        roots.append(first)
        nodes.append(own)
        shares.append(each)
        first += tree.node_count
    if first >= 2**24:
        raise ValueError(f"{first} nodes in a group of trees: places beyond 2^24 are no float32")
    return np.array(roots, np.int32), np.concatenate(nodes).astype(np.float32), np.concatenate(shares).astype("f4")


def _not_above(threshold: NDArray) -> NDArray:
    """The largest float32 that is at most the float64 threshold: rows are float32, so they go the same way."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)


def learn(rows: NDArray, rare: NDArray, seen: NDArray, trees: int, seed: int, even: float = 0.0) -> Trees | None:
    """A group of `trees` trees per row of seen [groups, n] bool; None for 0 trees.

    rows [n, features] scaled, rare [n] bool. Rare rows weigh as much as the others together, one against another by
    evenness.weights.
    """
    if not trees:
        return None
    from sklearn.ensemble import ExtraTreesClassifier

    weight = np.ones(len(rare))
    weight[rare] = evenness.weights(rows[rare], even)
    groups = []
    for number, own in enumerate(seen):
        half = np.where(rare[own], weight[own & rare].sum(), weight[own & ~rare].sum())
        model = ExtraTreesClassifier(trees, random_state=np.random.RandomState([seed, number]))
        model.fit(rows[own], rare[own], weight[own] / half * own.sum() / 2)
        groups.append([one.tree_ for one in model.estimators_])
    return Trees(groups)


def log_odds(share: tf.Tensor | NDArray, caution: float) -> tf.Tensor:
    """Bounded log odds of shares of any shape."""
    safe = tf.clip_by_value(tf.cast(share, tf.float32), 1e-6, 1 - 1e-6)
    return bounded(tf.math.log(safe) - tf.math.log1p(-safe), caution)
