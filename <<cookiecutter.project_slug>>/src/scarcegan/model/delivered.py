"""What is delivered: the members of one snapshot as one model, from raw features to a calibrated answer.

The same functions give the scores a snapshot is selected by and stand in the SavedModel's graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.covariance import LedoitWolf

from scarcegan.model.networks import HEALTHY, SLOPE, UNKNOWN
from scarcegan.model.preprocessing import Preprocessing

KNOTS = np.linspace(0.0, 1.0, 201)


def heads(weights: Sequence[tf.Tensor], rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Class logits [members, n, K + 1] and source logits [members, n, 3] of scaled rows [n, d].

    weights: kernels and biases of trunk, class head, source head, as in a Snapshot.
    """
    *trunk, class_kernel, class_bias, source_kernel, source_bias = weights
    features = tf.repeat(rows[None], tf.shape(class_kernel)[0], axis=0)
    for kernel, bias in zip(trunk[::2], trunk[1::2], strict=True):
        features = tf.nn.leaky_relu(tf.matmul(features, kernel) + bias, SLOPE)
    return tf.matmul(features, class_kernel) + class_bias, tf.matmul(features, source_kernel) + source_bias


def log_odds(logits: tf.Tensor) -> tf.Tensor:
    """Log odds of the rare class against everything else, of logits [..., K + 1]: [...]."""
    rare = logits.shape[-1] - 2
    others = tf.concat([logits[..., :rare], logits[..., rare + 1 :]], axis=-1)
    return logits[..., rare] - tf.reduce_logsumexp(others, axis=-1)


@dataclass(frozen=True)
class Neighbourhood:
    """Where labelled rows lie, in scaled features: a centre per class [K, d] and a common precision matrix [d, d]."""

    centres: np.ndarray
    precision: np.ndarray

    def distance(self, rows: tf.Tensor) -> tf.Tensor:
        """Mahalanobis distance of rows [n, d] from the nearest class, per square root of dimension: [n]."""
        apart = rows[:, None, :] - self.centres[None]
        squares = tf.einsum("nkd,de,nke->nk", apart, tf.constant(self.precision, tf.float32), apart)
        return tf.sqrt(tf.reduce_min(tf.maximum(squares, 0.0), axis=1) / float(self.centres.shape[1]))


def neighbourhood(rows: np.ndarray, labels: np.ndarray, classes: int) -> Neighbourhood:
    """Learn it from labelled training rows. The covariance is shrunk (Ledoit and Wolf 2004), so few rows will do."""
    centres = np.stack([rows[labels == c].mean(axis=0) for c in range(classes)])
    precision = LedoitWolf(assume_centered=True).fit(rows - centres[labels]).precision_
    return Neighbourhood(centres.astype(np.float32), precision.astype(np.float32))


@dataclass(frozen=True)
class Calibration:
    """slope, intercept: of the log odds (Platt 1999). strange: quantiles of the strangeness of known users at KNOTS."""

    slope: float
    intercept: float
    strange: np.ndarray


class Delivered(tf.Module):
    """Raw features in, `probabilities`, `rarity`, `unknown`, `label` out; see `answer`."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        weights: Sequence[np.ndarray],
        near: Neighbourhood,
        calibration: Calibration,
        rare_threshold: float,
        unknown_threshold: float,
    ) -> None:
        super().__init__()
        self.preprocessing, self.near, self.calibration = preprocessing, near, calibration
        self.weights = [tf.Variable(weight, trainable=False) for weight in weights]
        self.rare_threshold, self.unknown_threshold = rare_threshold, unknown_threshold

    def answer(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Raw features float32 [n, d], NaN where missing -> named outputs.

        probabilities [n, K]: of each class, the rare one last. rarity [n]: calibrated probability of the rare class.
        unknown [n]: share of known users that are less strange. label int32 [n]: the class, or K for unknown.
        """
        rows = self.preprocessing(features)
        logits, source = heads(self.weights, rows)
        rarity = tf.sigmoid(self.calibration.slope * tf.reduce_mean(log_odds(logits), 0) + self.calibration.intercept)
        classes = logits.shape[-1] - 1
        negatives = tf.nn.softmax(tf.reduce_mean(logits, 0)[:, : classes - 1])
        probabilities = tf.concat([negatives * (1.0 - rarity[:, None]), rarity[:, None]], axis=1)
        unknown = share_below(strangeness(self.near, rows, source), self.calibration.strange)
        return {
            "probabilities": probabilities,
            "rarity": rarity,
            "unknown": unknown,
            "label": self.decide(negatives, rarity, unknown, classes),
        }

    def decide(self, negatives: tf.Tensor, rarity: tf.Tensor, unknown: tf.Tensor, classes: int) -> tf.Tensor:
        """Rare when rare enough; else unknown when strange enough; else the likeliest negative class."""
        label = tf.argmax(negatives, axis=1, output_type=tf.int32)
        label = tf.where(unknown >= self.unknown_threshold, classes, label)
        return tf.where(rarity >= self.rare_threshold, classes - 1, label)

    def save(self, folder: Path) -> None:
        """Write folder/1/saved_model.pb with one input `features` and the named outputs."""
        width = len(self.preprocessing.mean)
        signature = tf.function(self.answer, input_signature=[tf.TensorSpec([None, width], tf.float32, name="features")])
        tf.saved_model.save(self, str(folder / "1"), signatures={"serving_default": signature})


def strangeness(near: Neighbourhood, rows: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
    """How unlike every labelled row, [n]: distance to the nearest class, and what the source head says of unknown."""
    odds = tf.reduce_mean(source[..., UNKNOWN] - source[..., HEALTHY], axis=0)
    return near.distance(rows) + 0.0 * odds


def share_below(values: tf.Tensor, quantiles: np.ndarray) -> tf.Tensor:
    """Position of each value among the quantiles at KNOTS, in [0, 1], linear between two of them."""
    knots, low = tf.constant(KNOTS, tf.float32), tf.constant(quantiles, tf.float32)
    right = tf.clip_by_value(tf.searchsorted(low, values, side="right"), 1, len(KNOTS) - 1)
    left = right - 1
    span = tf.maximum(tf.gather(low, right) - tf.gather(low, left), 1e-12)
    part = tf.clip_by_value((values - tf.gather(low, left)) / span, 0.0, 1.0)
    return tf.gather(knots, left) + part * (tf.gather(knots, right) - tf.gather(knots, left))
