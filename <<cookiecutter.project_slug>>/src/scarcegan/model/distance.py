"""Distance: how far a row lies from every labelled class, as a layer that is saved inside the model.

The source head cannot say this: its unlabelled targets are the same for every row (paper 3.3), so it knows where rows
are many, not where a row is strange. The distance to the nearest class mean, in the spread that rows have within
classes (Mahalanobis; for novelty see Lee et al. 2018), can.
"""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

SHRINK = 0.1  # part of the covariance that is replaced by a sphere, so that few rows suffice


class Distance(keras.layers.Layer):
    """Scaled rows [n, features] -> [n], log(1 + squared distance) to the nearest class mean. Make one with `learn`."""

    def __init__(self, means: NDArray, whitening: NDArray) -> None:
        super().__init__(name="distance", trainable=False)
        for name, value in (("means", means @ whitening), ("whitening", whitening)):
            start = tf.constant(value, tf.float32)
            setattr(self, name, self.add_weight(name=name, shape=value.shape, initializer=lambda *_, v=start, **__: v))
        self.built = True

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        white = tf.matmul(rows, self.whitening)
        squares = [tf.reduce_sum(tf.square(white - mean), axis=1) for mean in tf.unstack(self.means)]
        return tf.math.log1p(tf.reduce_min(tf.stack(squares), axis=0))


def learn(rows: NDArray, label: NDArray, numbers: int = 0) -> Distance:
    """From labelled rows [n, features]: class means, and the covariance within classes, shrunk towards a sphere.

    numbers: how many features, the first, are numbers; 0 is all. The sphere has their size, not that of the 0 and 1 of
    categories, of which many are nearly constant: a category that no labelled row has then counts like a number some
    three standard deviations away, and not more the more categories there are.
    """
    labels = np.unique(label)
    means = np.stack([rows[label == k].mean(axis=0) for k in labels]).astype(np.float64)
    residuals = rows - means[np.searchsorted(labels, label)]
    covariance = residuals.T @ residuals / len(rows)
    width = len(covariance)
    size = numbers or width
    sphere = max(np.trace(covariance[:size, :size]) / size, 1e-6)
    values, vectors = np.linalg.eigh((1 - SHRINK) * covariance + SHRINK * sphere * np.eye(width))
    return Distance(means, vectors / np.sqrt(values))


def out_of_fold(rows: NDArray, label: NDArray, fold: NDArray, numbers: int = 0) -> NDArray:
    """[n]: the distance of each row to the classes as rows of the other folds show them (one fold: its own)."""
    folds = np.unique(fold)
    found = np.empty(len(rows), np.float32)
    for one in folds:
        inside = fold == one
        others = ~inside if len(folds) > 1 else inside
        found[inside] = learn(rows[others], label[others], numbers)(rows[inside]).numpy()
    return found
