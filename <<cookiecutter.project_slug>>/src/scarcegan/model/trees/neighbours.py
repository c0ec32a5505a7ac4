"""Neighbours: a layer, saved inside the model, that tells how near the nearest unlabelled rows of a row are.

Labels show only the kinds of rare rows that somebody found. A row with few rows nearby may be of a kind that nobody
found (after XGBOD, Zhao and Hryniewicki 2018). Only the trees read these distances (boosting.py).
"""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

RANKS = (1, 5, 20)  # the neighbours to which a distance is taken
SAME = 1e-12  # of the squared length: nearer rows are equal but for the rounding of float32
BLOCK_ROWS = 2_000  # x 2,000 reference rows x 8 bytes: 32 MB


class Neighbours(keras.layers.Layer):
    """A layer that turns scaled rows [n, width] into float32 [n, 3]: log(1 + Euclidean distance) to the nearest, the
    5th and the 20th nearest of the reference rows.

    reference [r, width]: scaled unlabelled rows, at least one, kept in the layer. If reference rows equal the row, one
    of them is not counted, because it may be the row itself: a user who is scored may be among the reference rows, a
    labelled user never is. With fewer than 5, or 20, reference rows the distance to the farthest one is given.
    Distances are taken in float64: between near rows, the difference of squares would be mere rounding in float32.
    """

    def __init__(self, reference: NDArray) -> None:
        super().__init__(name="neighbours", trainable=False)
        self.reference = tf.Variable(reference, dtype=tf.float64, trainable=False)
        # Stored, because one row would otherwise wait for the sums over all reference rows.
        self.squared_lengths = tf.Variable(tf.reduce_sum(tf.square(self.reference), axis=1), trainable=False)
        self.ranks = [min(rank, len(reference)) - 1 for rank in RANKS]
        self.ranks_but_one = [min(rank + 1, len(reference)) - 1 for rank in RANKS]
        self.built = True

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        """float32 [n, 3]: log(1 + distance) to the nearest, 5th and 20th nearest reference row, for rows [n, width]."""
        wide = tf.cast(rows, tf.float64)
        count = tf.shape(wide)[0]

        def block(first: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            last = tf.minimum(first + BLOCK_ROWS, count)
            return last, tf.concat([found, self._distances(wide[first:last])], axis=0)

        _, found = tf.while_loop(
            lambda first, _: first < count,
            block,
            (tf.constant(0), tf.zeros([0, len(RANKS)])),
            (tf.TensorShape([]), tf.TensorShape([None, len(RANKS)])),
            parallel_iterations=1,
        )
        return found

    def _distances(self, rows: tf.Tensor) -> tf.Tensor:
        """The layer's output float32 [n, 3] for scaled rows float64 [n, width]; the distances to all reference rows are
        in memory at once.
        """
        size = tf.reduce_sum(tf.square(rows), axis=1, keepdims=True)
        squares = size + self.squared_lengths - 2 * tf.matmul(rows, self.reference, transpose_b=True)
        nearest = -tf.math.top_k(-squares, self.ranks_but_one[-1] + 1)[0]
        nearest = tf.where(nearest > SAME * (1 + size), nearest, 0)
        others = tf.gather(nearest, self.ranks_but_one, axis=1)
        squares = tf.where(nearest[:, :1] > 0, tf.gather(nearest, self.ranks, axis=1), others)
        return tf.cast(tf.math.log1p(tf.sqrt(squares)), tf.float32)


def draw_neighbours(rows: NDArray, most: int, seed: int) -> Neighbours | None:
    """A Neighbours layer whose reference rows are drawn at random from these unlabelled scaled rows [u, width], at
    least one; None if `most` is 0.

    most: how many are drawn, none twice; if there are not so many, all are used. seed: of the draw.
    More reference rows are not better: among all users, even a rare kind has rows like it nearby.
    """
    if not most:
        return None
    drawn = np.random.default_rng([seed, 21]).permutation(len(rows))[:most]
    return Neighbours(rows[drawn])
