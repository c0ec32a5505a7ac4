"""Inputs: a layer, saved inside the model, that turns raw rows into the scaled rows that the model's members read.

Numbers are scaled (preprocessing.py). A feature of categories becomes several columns of 0 and 1 (lookups.py), which
are neither scaled nor clipped and get no piecewise-linear encoding.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.data.categories import Categories, places
from scarcegan.model import lookups, preprocessing
from scarcegan.model.lookups import Lookup
from scarcegan.model.preprocessing import CLIP, Preprocessing, Scaling

FORGOTTEN_SHARE = 0.02


class Inputs(keras.layers.Layer):
    """A layer that turns raw rows float32 [n, columns], NaN for missing, into float32 [n, width]: first the scaled
    numbers, then their indicators of missing values, then the columns of 0 and 1 for the features of categories.

    `learn_inputs` makes such a layer.
    - numbers: the layer that scales the numbers; None if there are none.
    - columns: how many raw columns there are.
    - lookups: for each feature of categories, its position among the raw columns and its Lookup.
    Called with `bound`, it clips scaled numbers to [-bound, bound] instead of [-CLIP, CLIP].
    """

    def __init__(self, numbers: Preprocessing | None, columns: int, lookups: Sequence[tuple[int, Lookup]]) -> None:
        super().__init__(name="inputs", trainable=False)
        self.scaling = numbers
        self.lookups = list(lookups)
        categories = {place for place, _ in lookups}
        self.numbers = [place for place in range(columns) if place not in categories]
        self.built = True

    @property
    def numeric_width(self) -> int:
        """How many of this layer's output columns, from the first, are scaled numbers and their indicators."""
        return self.scaling.width if self.scaling else 0

    @property
    def width(self) -> int:
        """How many output columns this layer has: those of numbers, their indicators and the categories."""
        return self.numeric_width + sum(one.width for _, one in self.lookups)

    def call(self, raw: tf.Tensor, bound: float = CLIP) -> tf.Tensor:
        """Scaled rows float32 [n, width] of raw rows [n, columns]; scaled numbers are clipped to [-bound, bound]."""
        if self.scaling and not self.lookups:
            return self.scaling(raw, bound=bound)
        parts = [self.scaling(tf.gather(raw, self.numbers, axis=1), bound=bound)] if self.scaling else []
        return tf.concat([*parts, *(_columns(raw[:, place], one) for place, one in self.lookups)], axis=1)

    def forget_categories(self, rows: NDArray, seed: int) -> NDArray:
        """A copy of this layer's output rows [n, width] in which some categories are replaced by "other".

        For each feature of categories, each row is drawn with a probability of FORGOTTEN_SHARE; drawn rows whose
        category has a column of its own get "other" instead, and missing values stay missing. seed: of the drawing.
        Members are trained on such rows. Otherwise, where every category of the training rows has a column, the weights
        of "other" would never be trained, and a new category would be scored by untrained weights.
        """
        rng, rows, first = np.random.default_rng([seed, 11]), rows.copy(), self.numeric_width
        for _, one in self.lookups:
            drawn = np.flatnonzero(rng.random(len(rows)) < FORGOTTEN_SHARE)
            named = drawn[rows[drawn, first : first + len(one.codes)].any(axis=1)]
            rows[named, first : first + one.width] = np.eye(one.width, dtype=np.float32)[len(one.codes)]
            first += one.width
        return rows


def _columns(values: tf.Tensor, one: Lookup) -> tf.Tensor:
    """float32 [n, width] of 0 and 1 for the codes [n] of one feature, NaN for missing: 1 in the column of the
    row's code.

    The columns are those of the Lookup: one per code in its `codes`, "other" and, if it has one, "missing".
    """
    own = tf.equal(values[:, None], tf.constant([one.codes or ()], tf.float32, shape=(1, len(one.codes))))
    gone = tf.math.is_nan(values)[:, None]
    gone = gone if one.missing else tf.zeros_like(gone)
    other = tf.logical_not(tf.reduce_any(own, axis=1, keepdims=True) | gone)
    return tf.cast(tf.concat([own, other, *([gone] if one.missing else [])], axis=1), tf.float32)


def learn_inputs(rows: NDArray, names: Sequence[str], categories: Categories, scaling: Scaling = "standard") -> Inputs:
    """Learn the Inputs layer from raw training rows [n, columns], NaN for missing.

    - names: the feature name of each column.
    - categories: feature name -> category (a text) -> its code. Only the feature names are read: these features are not
      scaled as numbers. A name that is not in `names` is ignored.
    - scaling: how numbers are scaled, "standard" by mean and standard deviation or "robust" by median and
      interquartile range.
    Raises UserError when a number is infinite, or when there are features of numbers but no rows.
    """
    where = places(names, categories)
    numbers = [place for place in range(len(names)) if place not in where]
    scaled = None
    if numbers:
        scaled = preprocessing.learn_scaling(rows[:, numbers], [names[place] for place in numbers], scaling=scaling)
    return Inputs(scaled, len(names), [(place, lookups.learn_lookup(rows[:, place])) for place in where])
