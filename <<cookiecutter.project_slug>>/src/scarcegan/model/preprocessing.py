"""Preprocessing: raw feature columns in, scaled numbers out, as a layer that is saved inside the model.

What it needs is learnt once, on training rows, labels unseen. Missing values (NaN) become the median, and a column that
missed values in training gets an indicator. A constant column says nothing and comes out as 0. Outside [-CLIP, CLIP]
(infinite values too, when scoring) a value counts as the bound; in training an infinite value is refused.
"""

from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.errors import UserError

Scaling = Literal["standard", "robust"]
NORMAL_IQR = 1.349  # interquartile range of a normal distribution, in standard deviations
CLIP = 4.0
WIDE = 1_000.0  # where a bound is wanted only so that nothing is infinite
MOST_CODES = 640  # features x bins; beyond it training is slow and codes gained nothing (95 features)


class Preprocessing(keras.layers.Layer):
    """[n, columns] raw -> [n, columns + indicators] scaled. Make one with `learn`."""

    def __init__(self, columns: int, indicators: Sequence[int]) -> None:
        super().__init__(name="preprocessing")
        self.indicators = list(indicators)
        names = ("logarithmic", "median", "centre", "inverse_scale")
        for name in names:
            value = self.add_weight(name=name, shape=(columns,), initializer="zeros", trainable=False)
            setattr(self, name, value)
        self.built = True

    @property
    def width(self) -> int:
        """Columns that come out."""
        return self.median.shape[0] + len(self.indicators)

    def call(self, raw: tf.Tensor, bound: float = CLIP) -> tf.Tensor:
        missing = tf.math.is_nan(raw)
        filled = tf.where(missing, self.median, raw)
        bent = tf.where(self.logarithmic > 0, tf.sign(filled) * tf.math.log1p(tf.abs(filled)), filled)
        scaled = tf.where(self.inverse_scale > 0, (bent - self.centre) * self.inverse_scale, 0.0)
        scaled = tf.clip_by_value(scaled, -bound, bound)
        if not self.indicators:
            return scaled
        return tf.concat([scaled, tf.cast(tf.gather(missing, self.indicators, axis=1), scaled.dtype)], axis=1)


def learn(rows: NDArray, names: Sequence[str], logarithms: bool = True, scaling: Scaling = "standard") -> Preprocessing:
    """The layer for these training rows [n, columns]. UserError for an infinite value or no rows.

    logarithms: bend heavy-tailed columns; without, all are scaled as they are. scaling: see centre_and_scale.
    """
    if not len(rows):
        raise UserError("no training rows to learn the scaling from. Look at the split step's counts.")
    refuse_infinite(rows, names)
    missing = np.isnan(rows)
    layer = Preprocessing(rows.shape[1], np.flatnonzero(missing.any(axis=0) & ~missing.all(axis=0)).tolist())
    learnt = np.stack([_column(rows[:, j], logarithms, scaling) for j in range(rows.shape[1])], axis=1)
    for weight, value in zip((layer.logarithmic, layer.median, layer.centre, layer.inverse_scale), learnt, strict=True):
        weight.assign(value.astype(np.float32))
    return layer


def refuse_infinite(rows: NDArray, names: Sequence[str]) -> None:
    """UserError naming the first column that holds an infinite value."""
    infinite = np.isinf(rows).any(axis=0)
    if infinite.any():
        column = int(np.argmax(infinite))
        count = int(np.isinf(rows[:, column]).sum())
        raise UserError(
            f"feature '{names[column]}': {count} infinite values. Mend them where features are made, "
            f"or leave them empty (missing values are allowed)."
        )


def _column(values: NDArray, logarithms: bool, scaling: Scaling) -> NDArray:
    """(whether logarithmic, median, centre, one over scale) of one column; all zeros if it has no value at all."""
    present = values[~np.isnan(values)].astype(np.float64)
    if not len(present):
        return np.zeros(4)
    median = np.median(present)
    bent = signed_log(present)
    logarithmic = logarithms and abs(skewness(bent)) < abs(skewness(present))
    seen = bent if logarithmic else present
    centre, spread = centre_and_scale(seen, scaling)
    return np.array([logarithmic, median, centre, 1 / spread if spread > 0 else 0.0])


def centre_and_scale(values: NDArray, scaling: Scaling) -> tuple[float, float]:
    """standard: mean and standard deviation. robust: median, and interquartile range / 1.349, which is the standard
    deviation of a normal column and is moved by no outlier; a column whose IQR is 0 (a counter that most users leave
    at 0) is scaled as by standard. The scale is 0 for a constant column."""
    if scaling == "robust":
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        if high - low > 1e-6 * np.abs(values).max():
            return float(middle), float(high - low) / NORMAL_IQR
    return float(values.mean()), scale(values)


def signed_log(values: NDArray) -> NDArray:
    """sign(x) log(1 + |x|): tames heavy tails on both sides and keeps zero where it is."""
    return np.sign(values) * np.log1p(np.abs(values))


def skewness(values: NDArray) -> float:
    """Third standardised moment; 0 for a constant column."""
    spread = scale(values)
    centred = values - values.mean()
    return float(np.mean(centred * centred * centred)) / spread**3 if spread > 0 else 0.0


def scale(values: NDArray) -> float:
    """Standard deviation; 0 where it is no more than rounding."""
    spread = float(values.std())
    return spread if spread > 1e-6 * max(float(np.abs(values).max()), 1e-30) else 0.0


def edges(scaled: NDArray, bins: int) -> NDArray | None:
    """Edges [features, bins + 1] of the bins of each scaled feature, for networks.Codes.

    None for 0 bins or features, and for a table so wide that the codes would be more than MOST_CODES.

    Quantiles of its distinct values: quantiles of the rows would all lie where nearly everybody is. Labels unseen.
    """
    if not bins or not 0 < bins * scaled.shape[1] <= MOST_CODES:
        return None
    return np.stack([_edges(np.unique(column), bins) for column in scaled.T])


def _edges(values: NDArray, bins: int) -> NDArray:
    """bins + 1 ascending edges over sorted distinct values; fewer values than edges are joined by straight lines."""
    if len(values) == 1:
        values = np.array([values[0], values[0] + 1])
    return np.interp(np.linspace(0, len(values) - 1, bins + 1), np.arange(len(values)), values)
