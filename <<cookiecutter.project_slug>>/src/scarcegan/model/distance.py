"""Distance: how far a row lies from every labelled class, as a layer that is saved inside the model.

The source head cannot say this: its unlabelled targets are the same for every row (paper 3.3), so it knows where rows
are many, not where a row is strange. The distance to the nearest class mean, in the spread that rows have within
classes (Mahalanobis; for novelty see Lee et al. 2018), can.
"""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.model.member import TrainingRows, seen_by_fold

SHRINK = 0.1  # part of the covariance that is replaced by a sphere, so that few rows suffice


class ClassDistance(keras.layers.Layer):
    """Scaled rows [n, width] -> float32 [n]: log(1 + squared distance) from each row to the nearest class mean.

    The distance is Mahalanobis: Euclidean after whitening. `learn_distance` makes such a layer.
    - means [classes, width]: the mean scaled row of each class, not whitened yet (the layer's weight `means` is).
    - whitening [width, width]: matrix by which rows and means are multiplied before distances are taken, so that the
      spread within classes becomes 1 in every direction.
    """

    def __init__(self, means: NDArray, whitening: NDArray) -> None:
        super().__init__(name="distance", trainable=False, dtype="float64")
        for name, value in (("means", means @ whitening), ("whitening", whitening)):
            start = tf.constant(value, tf.float64)
            setattr(self, name, self.add_weight(name=name, shape=value.shape, initializer=lambda *_, v=start, **__: v))
        self.built = True

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        """float32 [n]: log(1 + squared distance) to the nearest class mean, for scaled, unwhitened rows [n, width]."""
        white = tf.matmul(rows, self.whitening)
        squares = [tf.reduce_sum(tf.square(white - mean), axis=1) for mean in tf.unstack(self.means)]
        return tf.cast(tf.math.log1p(tf.reduce_min(tf.stack(squares), axis=0)), tf.float32)


def learn_distance(rows: NDArray, label: NDArray, numeric_width: int = 0) -> ClassDistance:
    """Learn the ClassDistance of labelled rows: scaled rows [n, width] whose classes are label int [n].

    It uses the means of the classes that occur in `label`, and one covariance within classes for all of them, shrunk
    towards a sphere (a multiple of the identity).
    numeric_width: how many columns, from the first, are numbers, the rest being 0 or 1 for categories; 0: all columns
    are numbers. The sphere has the mean variance of the numbers only, because many columns of categories are nearly
    constant. A category that no labelled row has is then about as far as a number three standard deviations away,
    however many categories there are.
    """
    labels = np.unique(label)
    means = np.stack([rows[label == k].mean(axis=0) for k in labels]).astype(np.float64)
    residuals = rows - means[np.searchsorted(labels, label)]
    covariance = residuals.T @ residuals / len(rows)
    width = len(covariance)
    size = numeric_width or width
    sphere = max(np.trace(covariance[:size, :size]) / size, 1e-6)
    values, vectors = np.linalg.eigh((1 - SHRINK) * covariance + SHRINK * sphere * np.eye(width))
    return ClassDistance(means, vectors / np.sqrt(values))


def out_of_fold(rows: NDArray, label: NDArray, fold: NDArray, numeric_width: int = 0) -> NDArray:
    """float32 [n]: for each labelled row, what a ClassDistance gives that was learnt on the rows of all other folds.

    A class whose rows are all in one fold is learnt with them, as in seen_by_fold: measured from other classes only,
    they would seem strange.
    rows, label, numeric_width: as for learn_distance. fold int [n]: the fold of each row, from 0 without gaps.
    """
    found = np.empty(len(rows), np.float32)
    for one, seen in enumerate(seen_by_fold(fold, label)):
        inside = fold == one
        found[inside] = learn_distance(rows[seen], label[seen], numeric_width)(rows[inside]).numpy()
    return found


def learn_from_training(rows: TrainingRows) -> tuple[ClassDistance, NDArray]:
    """The ClassDistance learnt on all labelled training rows, and the distances of the held-out rows, float32 [h].

    Held-out rows are those of TrainingRows.held_out, in its order. For a held-out row from the labelled training rows
    the distance is learnt on the other folds (see out_of_fold); for a validation row it is the returned layer's. All
    are read clipped to [-CLIP, CLIP].
    """
    labelled, width = rows.labelled.clipped, rows.inputs.numeric_width
    distance = learn_distance(labelled, rows.label, width)
    of_labelled = out_of_fold(labelled, rows.label, rows.fold, width)
    return distance, rows.held_out(of_labelled, distance(rows.validation.clipped).numpy())
