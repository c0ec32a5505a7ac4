"""Inputs: raw rows in, the rows that members read out, as a layer that is saved inside the model.

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
    """Raw rows [n, columns] -> [n, width]: the scaled numbers and their indicators, then the columns of categories.

    `learn_inputs` makes one.
    - numbers: the layer that scales the numbers; None if there are none.
    - columns: how many raw columns there are.
    - lookups: for each feature of categories, its position among the raw columns and its Lookup.
    Called with `bound`, it moves scaled numbers to within [-bound, bound] instead of [-CLIP, CLIP].
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
        """How many of the columns that come out, from the first, are numbers and their indicators."""
        return self.scaling.width if self.scaling else 0

    @property
    def width(self) -> int:
        """How many columns come out."""
        return self.numeric_width + sum(one.width for _, one in self.lookups)

    def call(self, raw: tf.Tensor, bound: float = CLIP) -> tf.Tensor:
        if self.scaling and not self.lookups:
            return self.scaling(raw, bound=bound)
        parts = [self.scaling(tf.gather(raw, self.numbers, axis=1), bound=bound)] if self.scaling else []
        return tf.concat([*parts, *(_columns(raw[:, place], one) for place, one in self.lookups)], axis=1)

    def forget_categories(self, rows: NDArray, seed: int) -> NDArray:
        """A copy of rows [n, width] that came out of this layer; in each feature of categories, one row in fifty, drawn
        at random, becomes "other".

        Members are trained on such rows. Otherwise, where every category of the training rows has a column, the weights
        of "other" would never be trained, and a new category would be scored by them.
        """
        rng, rows, first = np.random.default_rng([seed, 11]), rows.copy(), self.numeric_width
        for _, one in self.lookups:
            drawn = np.flatnonzero(rng.random(len(rows)) < FORGOTTEN_SHARE)
            named = drawn[rows[drawn, first : first + len(one.codes)].any(axis=1)]
            rows[named, first : first + one.width] = np.eye(one.width, dtype=np.float32)[len(one.codes)]
            first += one.width
        return rows


def _columns(values: tf.Tensor, one: Lookup) -> tf.Tensor:
    """What Lookup.columns returns, in TensorFlow: codes [n], NaN for missing -> float32 [n, width] of 0 and 1."""
    own = tf.equal(values[:, None], tf.constant([one.codes or ()], tf.float32, shape=(1, len(one.codes))))
    gone = tf.math.is_nan(values)[:, None]
    gone = gone if one.missing else tf.zeros_like(gone)
    other = tf.logical_not(tf.reduce_any(own, axis=1, keepdims=True) | gone)
    return tf.cast(tf.concat([own, other, *([gone] if one.missing else [])], axis=1), tf.float32)


def learn_inputs(rows: NDArray, names: Sequence[str], categories: Categories, scaling: Scaling = "standard") -> Inputs:
    """The layer for rows like these raw training rows [n, columns], NaN for missing.

    names: of the columns. categories: those columns that hold codes of categories. scaling: of the numbers, see
    preprocessing.centre_and_scale.
    Raises UserError for an infinite number or no rows.
    """
    where = places(names, categories)
    numbers = [place for place in range(len(names)) if place not in where]
    scaled = None
    if numbers:
        scaled = preprocessing.learn_scaling(rows[:, numbers], [names[place] for place in numbers], scaling=scaling)
    return Inputs(scaled, len(names), [(place, lookups.learn_lookup(rows[:, place])) for place in where])
