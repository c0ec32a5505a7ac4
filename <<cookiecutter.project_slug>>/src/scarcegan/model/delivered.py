"""The delivered model: inputs, members, calibration and thresholds as one TensorFlow graph, and its SavedModel.

Input `features` float32 [n, columns]: raw values, NaN for missing. Outputs, where K is the number of classes and the
rare class is the last one:
- `probabilities` float32 [n, K]: calibrated probability of each class, in class order.
- `rarity` float32 [n]: calibrated probability of the rare class.
- `unknown` float32 [n] in [0, 1): about the share of labelled rows that are less strange than the row.
- `label` int32 [n]: position of the predicted class in class order; K means "unknown".

A row gets the same outputs alone and among any number of other rows. TensorFlow adds in another order for one row than
for many, so every sum is taken in float64 and then rounded to float32, where the order no longer shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.model.distance import ClassDistance
from scarcegan.model.inputs import Inputs
from scarcegan.model.member import MemberLayer
from scarcegan.model.preprocessing import WIDE

KNOTS = 201  # quantiles of the labelled rows' strangeness that are kept
LEAST_SLOPE = 1e-3  # of a calibration: it may doubt the scores, not reverse their order


@dataclass(frozen=True)
class Calibration:
    """Learnt numbers that turn log odds of the rare class into a probability, and a row's strangeness into a share.

    Strangeness is any number that is higher for rows less like the labelled ones.
    - slope (above 0), shift: rarity = sigmoid(slope * log odds + shift).
    - knots float32 [KNOTS], ascending: evenly spaced quantiles (from minimum to maximum) of the strangeness of the
      labelled rows from which the calibration was learnt.
    """

    slope: float
    shift: float
    knots: NDArray

    def rarity(self, log_odds: NDArray) -> NDArray:
        """Calibrated probability [n] of the rare class, in [0, 1], from the uncalibrated log odds [n] of that class."""
        return 1 / (1 + np.exp(-np.clip(self.slope * log_odds + self.shift, -80, 80)))

    def unknown(self, strangeness: NDArray) -> NDArray:
        """float32 [n] in [0, 1): about the share of labelled rows that are less strange, for rows of strangeness [n].

        It is the `unknown` of the delivered graph, computed by the same function, interpolate_unknown.
        """
        return interpolate_unknown(tf.constant(strangeness, tf.float32), tf.constant(self.knots, tf.float32)).numpy()


def calibrate(log_odds: NDArray, rare: NDArray, strangeness: NDArray) -> Calibration:
    """Learn a Calibration from n labelled rows that the model was not trained on.

    - log_odds [n]: what the model gives for the rare class.
    - rare bool [n]: whether the row's label is the rare class.
    - strangeness [n]: of the same rows; its quantiles become the knots.
    Slope and shift are Platt scaling (1999), with his prior on the targets, which keeps the slope finite when the log
    odds tell a few rare rows apart perfectly.
    """
    positives, negatives = rare.sum(), (~rare).sum()
    target = np.where(rare, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, shift = fit_line(log_odds.astype(np.float64), target)
    knots = np.quantile(strangeness.astype(np.float64), np.linspace(0, 1, KNOTS))
    return Calibration(slope, shift, knots.astype(np.float32))


def fit_line(score: NDArray, target: NDArray, steps: int = 50) -> tuple[float, float]:
    """(slope, shift) for which sigmoid(slope * score + shift) has the least cross-entropy to the targets.

    score [n]: any numbers. target [n]: probabilities in (0, 1). steps: how many damped Newton steps are taken. A slope
    below LEAST_SLOPE is replaced by LEAST_SLOPE; the value at the mean score then stays what it was.
    """
    centre, spread = score.mean(), max(float(score.std()), 1e-9)
    design = np.stack([(score - centre) / spread, np.ones_like(score)], axis=1)
    line = np.array([1.0, np.log(target.mean() / (1 - target.mean()))])

    def cost(at: NDArray) -> float:
        z = design @ at
        return float(np.mean(np.logaddexp(0, z) - target * z))

    for _ in range(steps):
        chance = 1 / (1 + np.exp(-np.clip(design @ line, -80, 80)))
        gradient = design.T @ (chance - target) / len(score)
        hessian = (design * (chance * (1 - chance))[:, None]).T @ design / len(score) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while cost(line - step) > cost(line) and np.abs(step).max() > 1e-12:
            step = step / 2
        line = line - step
    slope = max(line[0] / spread, LEAST_SLOPE)
    return float(slope), float(line[1] - slope * centre)


def interpolate_unknown(strangeness: tf.Tensor, knots: tf.Tensor) -> tf.Tensor:
    """float32 [n] in [0, 1): 0.99 times the share of labelled rows that are less strange, for strangeness float32 [n].

    knots float32 [KNOTS], ascending: evenly spaced quantiles of the labelled rows' strangeness; between two knots the
    share is interpolated. The result is 0 below the first knot. Above the last knot it rises from 0.99 towards 1, so
    that rows stranger than every labelled one can still be ranked.
    """
    steps = KNOTS - 1
    place = tf.clip_by_value(tf.searchsorted(knots, strangeness, side="right") - 1, 0, steps - 1)
    low, high = tf.gather(knots, place), tf.gather(knots, place + 1)
    within = tf.clip_by_value((strangeness - low) / tf.maximum(high - low, 1e-12), 0.0, 1.0)
    among = 0.99 * (tf.cast(place, tf.float32) + within) / steps
    above = tf.maximum(strangeness - knots[-1], 0.0)
    return among + 0.01 * above / (1.0 + above)


class Delivered(tf.Module):
    """The graph, called with raw features float32 [n, columns], NaN for missing. It returns a dict of probabilities
    [n, K], rarity [n], unknown [n] and label [n], which the docstring of this module describes.

    - inputs: the layer that scales the features and gives categories their columns.
    - members: pairs (weight, layer). The log odds of the rare class are the sum over members of weight times the
      layer's log odds. The first layer also gives the logits of the other classes (the negatives), by whose softmax
      these classes share 1 - rarity.
    - distance: the layer that gives a row's strangeness; None: the first member's `unknown` is used in its place.
    - calibration: turns log odds into rarity, and strangeness into `unknown`.
    - rare_threshold: the lowest rarity that is labelled rare.
    - unknown_threshold: the lowest `unknown` that is labelled unknown, in a row that is not labelled rare.
    """

    def __init__(
        self,
        inputs: Inputs,
        members: Sequence[tuple[float, MemberLayer]],
        distance: ClassDistance | None,
        calibration: Calibration,
        rare_threshold: float,
        unknown_threshold: float,
    ) -> None:
        super().__init__(name="scarcegan_delivered")
        self.inputs, self.distance = inputs, distance
        self.weights, self.members = [weight for weight, _ in members], [layer for _, layer in members]
        self.slope = tf.constant(calibration.slope, tf.float64)
        self.shift = tf.constant(calibration.shift, tf.float64)
        self.knots = tf.constant(calibration.knots, tf.float32)
        self.rare_threshold = tf.constant(rare_threshold, tf.float32)
        self.unknown_threshold = tf.constant(unknown_threshold, tf.float32)

    def __call__(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Name -> output (probabilities, rarity, unknown, label) for raw features float32 [n, columns], NaN missing."""
        rows, wide = self.inputs(features), self.inputs(features, bound=WIDE)
        first, *others = (member(rows, wide) for member in self.members)
        log_odds = self.weights[0] * first.rare
        for weight, other in zip(self.weights[1:], others, strict=True):
            log_odds += weight * other.rare
        exact = tf.sigmoid(self.slope * log_odds + self.shift)[:, None]
        strangeness = self.distance(rows) if self.distance else tf.cast(first.unknown, tf.float32)
        unknown = interpolate_unknown(strangeness, self.knots)
        negatives = tf.nn.softmax(first.negatives)
        rarity = tf.cast(exact[:, 0], tf.float32)
        return {
            "probabilities": tf.cast(tf.concat([negatives * (1 - exact), exact], axis=1), tf.float32),
            "rarity": rarity,
            "unknown": unknown,
            "label": self.label(negatives, rarity, unknown),
        }

    def label(self, negatives: tf.Tensor, rarity: tf.Tensor, unknown: tf.Tensor) -> tf.Tensor:
        """Label int32 [n] of each row: a class position, or K for unknown.

        A row is of the rare class (K - 1) where rarity [n] reaches rare_threshold; if not, unknown where `unknown` [n]
        reaches unknown_threshold; otherwise of the class with the highest value in negatives [n, K - 1].
        """
        rare = tf.fill(tf.shape(rarity), negatives.shape[1])
        likeliest = tf.argmax(negatives, axis=1, output_type=tf.int32)
        otherwise = tf.where(unknown >= self.unknown_threshold, rare + 1, likeliest)
        return tf.where(rarity >= self.rare_threshold, rare, otherwise)


def save(delivered: Delivered, columns: int, folder: Path) -> None:
    """Write the graph into `folder` as a TensorFlow SavedModel with the signature serving_default, whose input is
    `features`, float32 [n, columns]. The folder is made when missing; an older SavedModel there is replaced.

    columns: how many raw features the model reads. folder: its name is the version number that TensorFlow Serving
    reads, such as <model>/1.
    """
    signature = tf.TensorSpec([None, columns], tf.float32, name="features")
    function = tf.function(lambda features: delivered(features), input_signature=[signature])
    delivered.serve = function
    tf.saved_model.save(delivered, str(folder), signatures={"serving_default": function})
