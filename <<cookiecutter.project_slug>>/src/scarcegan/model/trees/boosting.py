"""Boosting: gradient-boosted trees (Friedman 2001) that rank rows by rarity, and the layer that is saved in the model.

Trees find sharp steps that a network smooths over, a network finds slopes that trees cut to pieces: they err on
different rows. There is a group of trees per fold, grown on the rows of the other folds. The trees tell the rare class
from the rest; they read the scaled rows and the distances to the nearest unlabelled rows (neighbours.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.model.member import bounded, mean_over_models
from scarcegan.model.trees.neighbours import Neighbours

LEVELS_AT_ONCE = 6  # descend 6 levels, then drop the rows that have reached a leaf
LEAVES = 31
MOST_OF_A_SIDE = 20_000  # rare rows, and as many others, that a group is grown on at most
MIN_LEAF_ROWS = 20  # a leaf holds at least so many rows, or a quarter of the rare ones if these are fewer


def tree_inputs(rows: tf.Tensor, wide: tf.Tensor, neighbours: Neighbours | None) -> tf.Tensor:
    """The rows float32 [n, inputs] that trees read.

    These are the scaled rows [n, width], clipped to [-CLIP, CLIP], and, as further columns, the distances that the
    layer `neighbours` gives for `wide` [n, width], the same rows clipped to [-WIDE, WIDE]. neighbours None: `rows`
    alone.
    """
    return tf.concat([rows, neighbours(wide)], axis=1) if neighbours else tf.convert_to_tensor(rows)


@dataclass(frozen=True)
class Trees:
    """Trees as scikit-learn grew them.

    groups: a fitted GradientBoostingClassifier per fold. neighbours: the layer whose distances the trees read beside
    the scaled rows; None: they read the scaled rows alone.
    """

    groups: Sequence[Any]
    neighbours: Neighbours | None = None

    def log_odds(self, rows: NDArray) -> NDArray:
        """Unbounded log odds float64 [groups, n] of the rare class, by group, for rows [n, inputs] from tree_inputs."""
        return np.stack([model.decision_function(rows) for model in self.groups])

    def held_out_log_odds(self, rows: NDArray, never_saw: NDArray, caution: float) -> NDArray:
        """Log odds float64 [h] of the rare class for held-out rows [h, inputs] from tree_inputs.

        They are bounded by `caution` (see member.bounded; 0: not at all), then averaged over the groups that were not
        grown on the row. never_saw bool [groups, h]: whether a group was not grown on a row, with a True for every row.
        """
        each = bounded(tf.constant(self.log_odds(rows), tf.float32), caution).numpy()
        return mean_over_models(each, never_saw)


class Boosting(keras.layers.Layer):
    """Trees as a layer of the TensorFlow graph: scaled rows [n, width], clipped to [-CLIP, CLIP] and, as `wide`, to
    [-WIDE, WIDE], become unbounded log odds of the rare class, float64 [groups, n].

    The log odds are a constant plus the values of the leaves that the row reaches, one leaf per tree. Each node is
    stored as its feature, its threshold and the position of its first child in the array of nodes; the second child
    comes right after the first. A leaf has an infinite threshold and is its own child.
    """

    def __init__(self, trees: Trees) -> None:
        super().__init__(name="boosting", trainable=False)
        self.neighbours = trees.neighbours
        self.start = [_start(model) for model in trees.groups]
        self.roots, nodes, leaves = _packed(trees.groups)
        self.nodes, self.leaves = tf.Variable(nodes, trainable=False), tf.Variable(leaves, trainable=False)
        self.built = True

    def call(self, rows: tf.Tensor, wide: tf.Tensor) -> tf.Tensor:
        """Unbounded log odds float64 [groups, n] of the rare class for n scaled rows [n, width].

        rows, wide: the same rows with numbers clipped to [-CLIP, CLIP] and to [-WIDE, WIDE].
        """
        leaves = tf.gather(self.leaves, self._ends(tree_inputs(rows, wide, self.neighbours)))
        groups = len(self.start)
        by_group = tf.reshape(leaves, [-1, groups, len(self.roots) // groups])
        return tf.transpose(tf.reduce_sum(by_group, axis=2) + self.start)

    def _ends(self, rows: tf.Tensor) -> tf.Tensor:
        """Position int32 [n * trees] of the leaf that each of rows [n, inputs] reaches in each tree, row after row.

        A walk is a row's way down one tree. All walks descend LEVELS_AT_ONCE levels, then those that have reached a
        leaf are dropped, and so on.
        """
        count, flat = tf.shape(rows)[0], tf.reshape(rows, [-1])
        begin = tf.repeat(tf.range(count) * rows.shape[1], len(self.roots))

        def descend(ended: tf.Tensor, walk: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, ...]:
            first = tf.gather(begin, walk)
            for _ in range(LEVELS_AT_ONCE):
                feature, threshold, child = tf.unstack(tf.gather(self.nodes, place), axis=-1)
                value = tf.gather(flat, first + tf.cast(feature, tf.int32))
                place = tf.cast(child, tf.int32) + tf.cast(value > threshold, tf.int32)
            ended = tf.tensor_scatter_nd_update(ended, walk[:, None], place)
            goes_on = tf.where(tf.gather(self.nodes, place)[:, 1] < np.inf)[:, 0]
            return ended, tf.gather(walk, goes_on), tf.gather(place, goes_on)

        start = tf.tile(tf.constant(self.roots), [count])
        some = tf.TensorShape([None])
        ended, _, _ = tf.while_loop(
            lambda ended, walk, place: tf.size(walk) > 0,
            descend,
            (start, tf.range(tf.size(start)), start),
            (some, some, some),
            parallel_iterations=1,
        )
        return ended


def _start(model: Any) -> float:
    """The constant part of a fitted GradientBoostingClassifier's log odds, to which the values of its
    trees are added.
    """
    row = np.zeros((1, model.n_features_in_), np.float32)
    return float(
        model.decision_function(row)[0] - model.learning_rate * sum(t.predict(row)[0] for t in _regression_trees(model))
    )


def _regression_trees(model: Any) -> list[Any]:
    """The trees of a GradientBoostingClassifier of two classes, first to last."""
    return model.estimators_[:, 0].tolist()


def _packed(models: Sequence[Any]) -> tuple[NDArray, NDArray, NDArray]:
    """The trees of fitted GradientBoostingClassifiers as three arrays, model after model and tree after tree.

    - roots int32 [trees]: position of each tree's first node among all nodes.
    - nodes float32 [all, 3]: feature, threshold and position of the first child of each node.
    - leaves float64 [all]: what each node adds to the log odds if it is a leaf; not used for other nodes.
    Raises ValueError for 2^24 nodes or more, whose positions float32 cannot hold.
    """
    roots, nodes, leaves = [], [], []
    first = 0
    for rate, tree in ((model.learning_rate, one.tree_) for model in models for one in _regression_trees(model)):
        inner = np.flatnonzero(tree.children_left >= 0)
        place = np.zeros(tree.node_count, int)
        place[tree.children_left[inner]] = 1 + 2 * np.arange(len(inner))
        place[tree.children_right[inner]] = 2 + 2 * np.arange(len(inner))
        own = np.full((tree.node_count, 3), [0, np.inf, 0], np.float64)
        own[place, 2] = place + first
        columns = tree.feature[inner], _not_above(tree.threshold[inner]), place[tree.children_left[inner]] + first
        own[place[inner]] = np.stack(columns, axis=1)
        each = np.empty(tree.node_count)
        each[place] = rate * tree.value[:, 0, 0]
        roots.append(first)
        nodes.append(own)
        leaves.append(each)
        first += tree.node_count
    if first >= 2**24:
        raise ValueError(f"{first} nodes in the trees: places beyond 2^24 are no float32")
    return np.array(roots, np.int32), np.concatenate(nodes).astype(np.float32), np.concatenate(leaves)


def _not_above(threshold: NDArray) -> NDArray:
    """For each threshold float64 [n], the largest float32 that is not above it, so that comparing float32 values with
    it gives the same answers.
    """
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)


def grow_trees(
    rows: NDArray,
    rare: NDArray,
    weight: NDArray,
    seen: NDArray,
    trees: int,
    seed: int,
    neighbours: Neighbours | None = None,
) -> Trees:
    """Grow groups of gradient-boosted trees that tell rare rows from others.

    - rows [n, inputs], from tree_inputs. rare bool [n]: whether a row is of the rare class.
    - weight [n]: of each row, relative to the others on its side. One side are the rare rows, the other all other rows;
      in each group the weights are scaled so that both sides have the same total.
    - seen bool [groups, n]: the rows that each group is grown on. Of a side with more than MOST_OF_A_SIDE such rows, a
      group is grown on that many, drawn at random.
    - trees: how many per group, at least 1. seed: of all that is drawn at random; equal seeds give equal trees.
    - neighbours: the layer whose distances are among the inputs, stored in the result; None: there are none.
    """
    from sklearn.ensemble import GradientBoostingClassifier

    groups = []
    for number, own in enumerate(seen):
        read = _draw_rows(own, rare, np.random.default_rng([seed, number]))
        target, each = rare[read], weight[read]
        half = np.where(target, each[target].sum(), each[~target].sum())
        model = GradientBoostingClassifier(
            n_estimators=trees,
            max_depth=None,
            max_leaf_nodes=LEAVES,
            min_samples_leaf=int(np.clip(target.sum() // 4, 1, MIN_LEAF_ROWS)),
            max_features=0.5,
            random_state=np.random.RandomState([seed, number]),
        )
        groups.append(model.fit(rows[read], target, each / half * len(read) / 2))
    return Trees(groups, neighbours)


def _draw_rows(own: NDArray, rare: NDArray, rng: np.random.Generator) -> NDArray:
    """Ascending positions of the rows on which a group is grown, out of those marked in `own`, bool [n].

    rare bool [n]: whether a row is rare. Of the rare rows and of the others all are taken, or MOST_OF_A_SIDE drawn by
    `rng` where there are more.
    """
    sides = [np.flatnonzero(own & rare), np.flatnonzero(own & ~rare)]
    some = [rng.choice(side, MOST_OF_A_SIDE, replace=False) if len(side) > MOST_OF_A_SIDE else side for side in sides]
    return np.sort(np.concatenate(some))
