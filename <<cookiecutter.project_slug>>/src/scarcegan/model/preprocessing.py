"""Preprocessing: raw features in, scaled ones out, as a layer inside the saved model. Learnt on training rows only."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from scarcegan.errors import UserError

LIMIT = 10.0
HEAVY_TAIL = 2.0


class Preprocessing(keras.layers.Layer):
    """Signed log1p of heavy-tailed columns, standardising, missing values filled and marked.

    float32 [rows, d] -> [rows, d + m], m the number of columns with missing values in training. A missing value becomes the
    column's mean (0 once scaled) and 1 in its marker. A column that was constant in training becomes 0. Scaled values
    are held within ±10, so that one absurd counter cannot drown the others.
    """

    def __init__(
        self,
        heavy: Sequence[bool],
        mean: Sequence[float],
        deviation: Sequence[float],
        marked: Sequence[int],
        **options,
    ) -> None:
        super().__init__(**options)
        self.heavy, self.marked = np.asarray(heavy, bool), np.asarray(marked, np.int32)
        self.mean, self.deviation = np.asarray(mean, np.float32), np.asarray(deviation, np.float32)

    @property
    def width(self) -> int:
        """Number of columns that come out."""
        return len(self.mean) + len(self.marked)

    def call(self, values: tf.Tensor) -> tf.Tensor:
        missing = tf.math.is_nan(values)
        bent = tf.where(self.heavy, signed_log1p(values), values)
        scaled = tf.clip_by_value((bent - self.mean) / self.deviation, -LIMIT, LIMIT)
        filled = tf.where(missing, tf.zeros_like(scaled), scaled)
        markers = tf.cast(tf.gather(missing, self.marked, axis=1), values.dtype)
        return tf.concat([filled, markers], axis=1)


def signed_log1p(values: tf.Tensor) -> tf.Tensor:
    """sign(x) log(1 + |x|): bends long tails on both sides."""
    return tf.sign(values) * tf.math.log1p(tf.abs(values))


def learn(values: np.ndarray, names: Sequence[str]) -> Preprocessing:
    """Learn the layer from training rows, float32 [n, d], NaN where missing.

    Raises UserError for an infinite value and for a column without a single value.
    """
    refuse(values, names)
    heavy = np.abs(skewness(values)) > HEAVY_TAIL
    bent = np.where(heavy, np.sign(values) * np.log1p(np.abs(values)), values).astype(np.float64)
    mean, deviation = np.nanmean(bent, axis=0), np.nanstd(bent, axis=0)
    constant = deviation <= 1e-6 * np.maximum(1.0, np.abs(mean))
    marked = np.flatnonzero(np.isnan(values).any(axis=0))
    return Preprocessing(heavy, mean, np.where(constant, np.inf, deviation), marked, name="preprocessing")


def refuse(values: np.ndarray, names: Sequence[str]) -> None:
    infinite = np.flatnonzero(np.isinf(values).any(axis=0))
    if len(infinite):
        row = int(np.flatnonzero(np.isinf(values[:, infinite[0]]))[0])
        raise UserError(
            f"feature '{names[infinite[0]]}' is infinite in training row {row}. Mend the data, or leave the row out."
        )
    empty = np.flatnonzero(np.isnan(values).all(axis=0))
    if len(empty):
        raise UserError(f"feature '{names[empty[0]]}' has no value in any training row. Leave it out under data.columns.")


def skewness(values: np.ndarray) -> np.ndarray:
    """Third standardised moment of each column [d]; 0 for a constant one."""
    centred = values.astype(np.float64) - np.nanmean(values, axis=0, dtype=np.float64)
    variance = np.nanmean(centred**2, axis=0)
    return np.nanmean(centred**3, axis=0) / np.where(variance > 0, variance, 1.0) ** 1.5
