"""What is delivered: preprocessing, members, calibration and thresholds as one graph, and its SavedModel.

Input `features` [n, columns] raw, NaN allowed. Outputs: `probabilities` [n, K] calibrated, in class order; `rarity`
[n], the calibrated probability of the rare class; `unknown` [n] in [0, 1], the share of known rows that look more
usual; `label` [n], where K is unknown.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.model.distance import Distance
from scarcegan.model.gan.networks import Discriminator, bounded, rare_log_odds, unknown_log_odds
from scarcegan.model.inputs import Inputs
from scarcegan.model.preprocessing import WIDE
from scarcegan.model.trees.boosting import Boosting, Trees

QUANTILES = 201
FLAT = 1e-3  # least slope of a calibration: it may doubt the scores, not reverse their order


@dataclass(frozen=True)
class Calibration:
    """From scores to probabilities: rarity = sigmoid(slope * log odds + shift); unknown by quantiles of known rows."""

    slope: float
    shift: float
    knots: NDArray

    def rarity(self, log_odds: NDArray) -> NDArray:
        """Calibrated probability of the rare class."""
        return 1 / (1 + np.exp(-np.clip(self.slope * log_odds + self.shift, -80, 80)))

    def unknown(self, strangeness: NDArray) -> NDArray:
        """Share of known rows that are less strange; a smooth tail above the strangest of them."""
        return interpolate_unknown(tf.constant(strangeness, tf.float32), tf.constant(self.knots, tf.float32)).numpy()


def calibrate(rare_odds: NDArray, rare: NDArray, strangeness: NDArray) -> Calibration:
    """Fit on labelled rows [n] that the scores were not trained on: Platt scaling (1999) with his prior on the targets.

    The prior keeps the slope finite when few rare rows are told apart perfectly.
    """
    positives, negatives = rare.sum(), (~rare).sum()
    target = np.where(rare, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, shift = fit_line(rare_odds.astype(np.float64), target)
    knots = np.quantile(strangeness.astype(np.float64), np.linspace(0, 1, QUANTILES))
    return Calibration(slope, shift, knots.astype(np.float32))


def fit_line(score: NDArray, target: NDArray, steps: int = 50) -> tuple[float, float]:
    """Slope and shift of the least cross-entropy, by damped Newton steps; the slope is at least FLAT."""
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
    slope = max(line[0] / spread, FLAT)
    return float(slope), float(line[1] - slope * centre)


def interpolate_unknown(strangeness: tf.Tensor, knots: tf.Tensor) -> tf.Tensor:
    """[n] -> [n] in [0, 1): position among the knots (quantiles of known rows); 1 is approached far above them all.

    Known rows take up 0 to 0.99, so that rows stranger than every known one can still be ranked.
    """
    steps = QUANTILES - 1
    place = tf.clip_by_value(tf.searchsorted(knots, strangeness, side="right") - 1, 0, steps - 1)
    low, high = tf.gather(knots, place), tf.gather(knots, place + 1)
    within = tf.clip_by_value((strangeness - low) / tf.maximum(high - low, 1e-12), 0.0, 1.0)
    among = 0.99 * (tf.cast(place, tf.float32) + within) / steps
    above = tf.maximum(strangeness - knots[-1], 0.0)
    return among + 0.01 * above / (1.0 + above)


class Delivered(tf.Module):
    """The graph. `unknown` follows the distance to the labelled classes, or without one the source head."""

    def __init__(
        self,
        preprocessing: Inputs,
        discriminator: Discriminator,
        distance: Distance | None,
        calibration: Calibration,
        rare_threshold: float,
        unknown_threshold: float,
        trees: Trees | None = None,
        boosting_weight: float = 1.0,
        caution: float = 0.0,
    ) -> None:
        super().__init__(name="scarcegan_delivered")
        self.preprocessing, self.discriminator, self.distance = preprocessing, discriminator, distance
        self.boosting, self.boosting_weight, self.caution = Boosting(trees) if trees else None, boosting_weight, caution
        self.slope = tf.constant(calibration.slope, tf.float32)
        self.shift = tf.constant(calibration.shift, tf.float32)
        self.knots = tf.constant(calibration.knots, tf.float32)
        self.rare_threshold = tf.constant(rare_threshold, tf.float32)
        self.unknown_threshold = tf.constant(unknown_threshold, tf.float32)

    def __call__(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = self.preprocessing(features)
        class_logits, source_logits = self.discriminator(rows[None])
        strangeness = self.distance(rows) if self.distance else tf.reduce_mean(unknown_log_odds(source_logits), axis=0)
        rarity = tf.sigmoid(self.slope * self.rare_odds(features, rows, class_logits) + self.shift)
        unknown = interpolate_unknown(strangeness, self.knots)
        negatives = tf.nn.softmax(tf.reduce_mean(class_logits[..., :-2], axis=0))
        probabilities = tf.concat([negatives * (1 - rarity[:, None]), rarity[:, None]], axis=1)
        return {
            "probabilities": probabilities,
            "rarity": rarity,
            "unknown": unknown,
            "label": self.label(negatives, rarity, unknown),
        }

    def rare_odds(self, features: tf.Tensor, rows: tf.Tensor, class_logits: tf.Tensor) -> tf.Tensor:
        """Log odds [n] of the rare class: mean over members, and the trees' mean over folds beside it."""
        odds = tf.reduce_mean(bounded(rare_log_odds(class_logits), self.caution), axis=0)
        if self.boosting is None:
            return odds
        trees = self.boosting(rows, wide=self.preprocessing(features, bound=WIDE))
        return odds + self.boosting_weight * tf.reduce_mean(bounded(trees, self.caution), axis=0)

    def label(self, negatives: tf.Tensor, rarity: tf.Tensor, unknown: tf.Tensor) -> tf.Tensor:
        """Rare where rarity reaches its threshold, else unknown likewise, else the likeliest negative."""
        rare = tf.fill(tf.shape(rarity), negatives.shape[1])
        likeliest = tf.argmax(negatives, axis=1, output_type=tf.int32)
        otherwise = tf.where(unknown >= self.unknown_threshold, rare + 1, likeliest)
        return tf.where(rarity >= self.rare_threshold, rare, otherwise)


def save(delivered: Delivered, columns: int, folder: Path) -> None:
    """Write `folder` (ending in a version number) as a SavedModel with signature serving_default."""
    signature = tf.TensorSpec([None, columns], tf.float32, name="features")
    function = tf.function(lambda features: delivered(features), input_signature=[signature])
    delivered.serve = function
    tf.saved_model.save(delivered, str(folder), signatures={"serving_default": function})
