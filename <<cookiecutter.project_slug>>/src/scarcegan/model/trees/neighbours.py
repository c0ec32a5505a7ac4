"""Neighbours: how near the crowd of unlabelled rows is, as a layer that is saved inside the model.

A label says which kinds of the rare class were found; how empty the place is where a row lies says something of the
kinds that were not (after XGBOD, Zhao and Hryniewicki 2018). Only the trees look at it (boosting.py).
"""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

RANKS = (1, 5, 20)  # to which neighbours a distance is taken
SAME = 1e-12  # of the squared length: nearer rows are copies but for the rounding of float32
ROWS_AT_ONCE = 2_000  # x 2,000 reference rows x 8 bytes: 32 MB


class Neighbours(keras.layers.Layer):
    """Scaled rows [n, features] -> [n, 3]: log1p of the distance to the nearest, 5th and 20th nearest reference row.

    One copy of the row does not count, because it may be the row itself: who is scored may stand in the reference, who
    was labelled never did. Fewer reference rows than that: the farthest of them. Distances are taken in float64:
    between near rows the difference of squares would be mere rounding.
    """

    def __init__(self, reference: NDArray) -> None:
        super().__init__(name="neighbours", trainable=False)
        self.reference = tf.Variable(reference, dtype=tf.float64, trainable=False)
        self.ranks = [min(rank, len(reference)) - 1 for rank in RANKS]
        self.ranks_but_one = [min(rank + 1, len(reference)) - 1 for rank in RANKS]
        self.built = True

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        wide = tf.cast(rows, tf.float64)
        count = tf.shape(wide)[0]

        def block(first: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            last = tf.minimum(first + ROWS_AT_ONCE, count)
            return last, tf.concat([found, self._block(wide[first:last])], axis=0)

        _, found = tf.while_loop(
            lambda first, _: first < count,
            block,
            (tf.constant(0), tf.zeros([0, len(RANKS)])),
            (tf.TensorShape([]), tf.TensorShape([None, len(RANKS)])),
            parallel_iterations=1,
        )
        return found

    def _block(self, rows: tf.Tensor) -> tf.Tensor:
        size = tf.reduce_sum(tf.square(rows), axis=1, keepdims=True)
        squares = (
            size + tf.reduce_sum(tf.square(self.reference), 1) - 2 * tf.matmul(rows, self.reference, transpose_b=True)
        )
        nearest = -tf.math.top_k(-squares, self.ranks_but_one[-1] + 1)[0]
        nearest = tf.where(nearest > SAME * (1 + size), nearest, 0)
        others = tf.gather(nearest, self.ranks_but_one, axis=1)
        squares = tf.where(nearest[:, :1] > 0, tf.gather(nearest, self.ranks, axis=1), others)
        return tf.cast(tf.math.log1p(tf.sqrt(squares)), tf.float32)


def learn(rows: NDArray, most: int, seed: int) -> Neighbours | None:
    """The layer for at most `most` of these unlabelled scaled rows [u, features]; None for 0.

    More of them are not better: among all rows a row that is common in small numbers would have its like beside it.
    """
    if not most:
        return None
    drawn = np.random.default_rng([seed, 21]).permutation(len(rows))[:most]
    return Neighbours(rows[drawn])
