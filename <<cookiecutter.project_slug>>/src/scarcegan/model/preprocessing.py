"""Preprocessing: a layer, saved inside the model, that scales raw columns of numbers.

It is learnt once, on training rows without their labels. A missing value (NaN) becomes the column's median, and a
column with some but not only missing values in training gets an indicator column. A column that was constant in
training comes out as 0. A scaled value outside [-CLIP, CLIP], infinite values included, becomes the nearer bound; in
training an infinite value is refused. Computed in float64, as all of the delivered graph (see delivered.py).
"""

from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.errors import UserError
from scarcegan.model.signed_log import signed_log

Scaling = Literal["standard", "robust"]
NORMAL_IQR = 1.349  # interquartile range of a normal distribution, in standard deviations
CLIP = 4.0
WIDE = 1_000.0  # a bound that keeps values finite and hardly ever moves one
MOST_BINS = 640  # features x bins; beyond it training is slow and the encoding gained nothing (95 features)


class Preprocessing(keras.layers.Layer):
    """A layer that turns raw rows [n, columns], NaN for missing, into scaled rows float32 [n, columns + indicators].

    `learn_scaling` makes such a layer.
    - columns: how many raw columns there are.
    - indicators: positions of the raw columns that get an indicator column (1 where a value is missing, 0 elsewhere);
      these columns come after all scaled ones.
    A missing value is replaced by the median of its column before scaling, so the result has no NaN. Called with
    `bound`, the layer clips scaled values to [-bound, bound] instead of [-CLIP, CLIP].
    """

    def __init__(self, columns: int, indicators: Sequence[int]) -> None:
        super().__init__(name="preprocessing", dtype="float64")
        self.indicators = list(indicators)
        names = ("logarithmic", "median", "centre", "inverse_scale")
        for name in names:
            value = self.add_weight(name=name, shape=(columns,), initializer="zeros", trainable=False)
            setattr(self, name, value)
        self.built = True

    @property
    def width(self) -> int:
        """How many output columns this layer has: scaled columns and indicators."""
        return self.median.shape[0] + len(self.indicators)

    def call(self, raw: tf.Tensor, bound: float = CLIP) -> tf.Tensor:
        """Scaled rows float32 [n, width] of raw rows [n, columns]; scaled values are clipped to [-bound, bound]."""
        missing = tf.math.is_nan(raw)
        filled = tf.where(missing, self.median, raw)
        signed_log_or_plain = tf.where(self.logarithmic > 0, tf.sign(filled) * tf.math.log1p(tf.abs(filled)), filled)
        scaled = tf.where(self.inverse_scale > 0, (signed_log_or_plain - self.centre) * self.inverse_scale, 0.0)
        scaled = tf.cast(tf.clip_by_value(scaled, -bound, bound), tf.float32)
        if not self.indicators:
            return scaled
        return tf.concat([scaled, tf.cast(tf.gather(missing, self.indicators, axis=1), scaled.dtype)], axis=1)


def learn_scaling(
    rows: NDArray, names: Sequence[str], logarithms: bool = True, scaling: Scaling = "standard"
) -> Preprocessing:
    """Learn the Preprocessing layer from raw training rows [n, columns], NaN for missing.

    - names: of the columns, for the error message.
    - logarithms: take the signed logarithm of each column that it makes less skewed, before scaling; False: of none.
    - scaling: "standard" by mean and standard deviation, or "robust" by median and interquartile range.
    Raises UserError when a value is infinite or there are no rows.
    """
    if not len(rows):
        raise UserError("no training rows to learn the scaling from. Check the counts that the split step printed.")
    refuse_infinite(rows, names)
    missing = np.isnan(rows)
    layer = Preprocessing(rows.shape[1], np.flatnonzero(missing.any(axis=0) & ~missing.all(axis=0)).tolist())
    learnt = np.stack([_column(rows[:, j], logarithms, scaling) for j in range(rows.shape[1])], axis=1)
    for weight, value in zip((layer.logarithmic, layer.median, layer.centre, layer.inverse_scale), learnt, strict=True):
        weight.assign(value)
    return layer


def refuse_infinite(rows: NDArray, names: Sequence[str]) -> None:
    """Check that raw rows [n, columns] hold no infinite value; NaN is allowed. names: of the columns, for the error.

    Raises UserError, which names the first column with an infinite value and counts its infinite values.
    """
    infinite = np.isinf(rows).any(axis=0)
    if infinite.any():
        column = int(np.argmax(infinite))
        count = int(np.isinf(rows[:, column]).sum())
        raise UserError(
            f"feature '{names[column]}': {count} infinite values. Correct them where features are made, "
            f"or leave them empty (missing values are allowed)."
        )


def _column(values: NDArray, logarithms: bool, scaling: Scaling) -> NDArray:
    """The four numbers, float64 [4], that scale one raw column [n], NaN for missing:

    - 1 if its signed logarithm is taken (only with `logarithms`, and if it is less skewed), else 0.
    - the median of the raw values, which replaces missing ones.
    - the centre, and 1 / scale (0 for a constant column), of the values or of their signed logarithms.
    All four are 0 for a column without any value.
    """
    present = values[~np.isnan(values)].astype(np.float64)
    if not len(present):
        return np.zeros(4)
    median = np.median(present)
    logs = signed_log(present)
    logarithmic = logarithms and abs(skewness(logs)) < abs(skewness(present))
    centre, spread = centre_and_scale(logs if logarithmic else present, scaling)
    return np.array([logarithmic, median, centre, 1 / spread if spread > 0 else 0.0])


def centre_and_scale(values: NDArray, scaling: Scaling) -> tuple[float, float]:
    """(centre, scale) of one column's values [n], none missing; the scale of a constant column is 0.

    - "standard": mean and standard deviation.
    - "robust": median, and interquartile range / NORMAL_IQR, which equals the standard deviation for a normal
      distribution and hardly changes with outliers. A column whose interquartile range is 0 up to rounding (most users
      have the same value) is scaled as by "standard".
    """
    if scaling == "robust":
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        if high - low > 1e-6 * np.abs(values).max():
            return float(middle), float(high - low) / NORMAL_IQR
    return float(values.mean()), scale(values)


def skewness(values: NDArray) -> float:
    """Third standardised moment of values [n], none missing; 0 for constant values."""
    spread = scale(values)
    centred = values - values.mean()
    return float(np.mean(centred * centred * centred)) / spread**3 if spread > 0 else 0.0


def scale(values: NDArray) -> float:
    """Standard deviation of values [n], none missing; 0 if it is at most a millionth of the largest absolute value."""
    spread = float(values.std())
    return spread if spread > 1e-6 * max(float(np.abs(values).max()), 1e-30) else 0.0


def bin_edges(scaled: NDArray, bins: int) -> NDArray | None:
    """Edges [features, bins + 1], ascending, that divide the range of each feature of scaled rows [n, features] into
    `bins` bins, for the networks' piecewise-linear encoding.

    The edges are evenly spaced quantiles of the feature's distinct values; quantiles of all rows would lie where nearly
    all users are.
    Returns None when bins is 0, when there are no features, and when features * bins is more than MOST_BINS.
    """
    if not bins or not 0 < bins * scaled.shape[1] <= MOST_BINS:
        return None
    return np.stack([_edges(np.unique(column), bins) for column in scaled.T])


def _edges(values: NDArray, bins: int) -> NDArray:
    """Edges [bins + 1], ascending, at evenly spaced ranks among the sorted distinct values [k] of a feature.

    The first edge is the least value, the last one the greatest; an edge between two ranks is interpolated linearly. A
    single value v gets edges from v to v + 1.
    """
    if len(values) == 1:
        values = np.array([values[0], values[0] + 1])
    return np.interp(np.linspace(0, len(values) - 1, bins + 1), np.arange(len(values)), values)
