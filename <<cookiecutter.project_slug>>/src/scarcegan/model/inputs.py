"""Categories inside the model: a layer that is saved in it, codes of names in, a column per name out, beside numbers.

Which columns there are: lookups.py. They are 0 or 1 and stay so: no logarithm, no scaling, no clipping, no codes of
numbers (networks.Codes). What becomes of numbers: preprocessing.py.
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

FORGOTTEN = 0.02


class Inputs(keras.layers.Layer):
    """Raw rows [n, columns] -> [n, width]: the numbers scaled, with their indicators; then the categories' columns.

    Make one with `learn`. places: where the categories stand among the raw columns, lookups: one for each of them.
    bound: where scaled numbers end (see Preprocessing).
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
        """How many of the columns that come out are numbers and their indicators; they come first."""
        return self.scaling.width if self.scaling else 0

    @property
    def width(self) -> int:
        """Columns that come out."""
        return self.numeric_width + sum(one.width for _, one in self.lookups)

    def call(self, raw: tf.Tensor, bound: float = CLIP) -> tf.Tensor:
        if self.scaling and not self.lookups:
            return self.scaling(raw, bound=bound)
        parts = [self.scaling(tf.gather(raw, self.numbers, axis=1), bound=bound)] if self.scaling else []
        return tf.concat([*parts, *(_columns(raw[:, place], one) for place, one in self.lookups)], axis=1)

    def forgetful(self, rows: NDArray, seed: int) -> NDArray:
        """Rows [n, width] as they come out, of which one in fifty forgets a category: its name becomes "other".

        For training only. Without it a model could be told names that all have a column, and would answer a new one by
        weights that were never trained.
        """
        rng, rows, first = np.random.default_rng([seed, 11]), rows.copy(), self.numeric_width
        for _, one in self.lookups:
            forgets = np.flatnonzero(rng.random(len(rows)) < FORGOTTEN)
            told = forgets[rows[forgets, first : first + len(one.codes)].any(axis=1)]
            rows[told, first : first + one.width] = np.eye(one.width, dtype=np.float32)[len(one.codes)]
            first += one.width
        return rows


def _columns(values: tf.Tensor, one: Lookup) -> tf.Tensor:
    """Lookup.columns as a graph."""
    own = tf.equal(values[:, None], tf.constant([one.codes or ()], tf.float32, shape=(1, len(one.codes))))
    gone = tf.math.is_nan(values)[:, None]
    gone = gone if one.missing else tf.zeros_like(gone)
    other = tf.logical_not(tf.reduce_any(own, axis=1, keepdims=True) | gone)
    return tf.cast(tf.concat([own, other, *([gone] if one.missing else [])], axis=1), tf.float32)


def learn(rows: NDArray, names: Sequence[str], categories: Categories, scaling: Scaling = "standard") -> Inputs:
    """The layer for these training rows [n, columns], of which `categories` are names. UserError as preprocessing's."""
    where = places(names, categories)
    numbers = [place for place in range(len(names)) if place not in where]
    scaled = None
    if numbers:
        scaled = preprocessing.learn(rows[:, numbers], [names[place] for place in numbers], scaling=scaling)
    return Inputs(scaled, len(names), [(place, lookups.learn(rows[:, place])) for place in where])
