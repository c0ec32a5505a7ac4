"""ScarceGAN: the algorithm. Losses stand in losses.py, layers in networks.py, the reading of files in steps/train.py.

A labelled row teaches the class head, with leeway for weak negative labels; an unlabelled row teaches the source head what
is real; a generated row teaches it what is not. The generator is a bad one on purpose: it fills the low-density regions
between the classes, so that the class boundaries move there. Source: ScarceGAN (CIKM 2021, arXiv 2505.03811).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from scarcegan.model import losses, networks, noise

LABELLED, UNLABELLED, LATENT = 0, 1, 2  # salts of the random streams


@dataclass(frozen=True)
class Hyperparameters:
    """The defaults are what we recommend; the others show what the paper's variants and the first code's faults do.

    alpha: leeway of weak labels, 1 is none. generator: bad (feature matching and pull-away), ordinary, none.
    trunk_follows_generator: the generator's step also trains the trunk, as in the authors' code.
    pull_away_over: rows, or the whole matrix, as in the authors' code. match: rows the generator is matched to.
    source_weight: of the unsupervised losses; 0 is a supervised network. anchor: labelled rows are healthy.
    """

    iterations: int = 2000
    batch_size: int = 64
    learning_rate: float = 0.001
    alpha: float = 0.7
    source_weight: float = 1.0
    anchor: float = 1.0
    generator: Literal["bad", "ordinary", "none"] = "bad"
    feature_matching: float = 1.0
    pull_away: float = 1.0
    pull_away_over: Literal["rows", "matrix"] = "rows"
    match: Literal["unlabelled", "labelled"] = "unlabelled"
    trunk_follows_generator: bool = False
    trunk: tuple[int, ...] = (15, 21, 8)
    generator_units: tuple[int, ...] = (30,)
    latent: int = 10


@dataclass(frozen=True)
class Rows:
    """What the members learn from, scaled: labelled [n, d], unlabelled [m, d].

    members: per member and class the row numbers it may see, [members, K, longest]; shorter lists are repeated.
    counts: how many of them count, [members, K].
    """

    labelled: np.ndarray
    unlabelled: np.ndarray
    members: np.ndarray
    counts: np.ndarray


def rows_of_members(labels: np.ndarray, seen: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The tables `members` and `counts` of Rows. labels int [n]; seen bool [members, n]."""
    lists = [[np.flatnonzero(mask & (labels == c)) for c in range(classes)] for mask in seen]
    longest = max(len(rows) for member in lists for rows in member)
    table = np.array([[np.resize(rows, longest) for rows in member] for member in lists], np.int32)
    return table, np.array([[len(rows) for rows in member] for member in lists], np.int32)


class ScarceGAN(keras.Model):
    """Members trained side by side in one program. seeds: one per member; the same seed and rows, the same weights."""

    def __init__(self, settings: Hyperparameters, rows: Rows, seeds: Sequence[int]) -> None:
        super().__init__()
        self.settings, self.seeds = settings, tf.constant(np.asarray(seeds, np.int64) % 2**31, tf.int32)
        self.classes, self.width = rows.members.shape[1], rows.labelled.shape[1]
        self.labelled, self.unlabelled = tf.constant(rows.labelled), tf.constant(rows.unlabelled)
        self.members, self.counts = tf.constant(rows.members), tf.constant(rows.counts)
        self.trunk = networks.trunk(settings.trunk, seeds)
        self.class_head = networks.class_head(self.classes, seeds)
        self.source_head = networks.source_head(seeds)
        self.generator = networks.generator(settings.generator_units, self.width, seeds)
        self.iteration = tf.Variable(0, dtype=tf.int32, trainable=False)
        self._build(len(seeds))

    def _build(self, members: int) -> None:
        features = self.trunk(tf.zeros([members, 1, self.width]))
        self.class_head(features), self.source_head(features)
        self.generator(tf.zeros([members, 2, self.settings.latent]))
        schedule = keras.optimizers.schedules.CosineDecay(self.settings.learning_rate, self.settings.iterations, alpha=0.01)
        self.discriminator_optimizer = keras.optimizers.Adam(schedule, beta_1=0.5)
        self.generator_optimizer = keras.optimizers.Adam(schedule, beta_1=0.5)
        self.discriminator_optimizer.build(self.discriminator_weights)
        self.generator_optimizer.build(self.generator_weights)

    @property
    def discriminator_weights(self) -> list:
        parts = (self.trunk, self.class_head, self.source_head)
        return [weight for part in parts for weight in part.trainable_variables]

    @property
    def generator_weights(self) -> list:
        own = list(self.generator.trainable_variables)
        return own + list(self.trunk.trainable_variables) if self.settings.trunk_follows_generator else own

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        """Class logits [members, n, K + 1] of scaled rows [members, n, d]."""
        return self.class_head(self.trunk(rows))

    def train_step(self, _: object = None) -> tf.Tensor:
        """One iteration of every member. Returns [4, members]: three losses and the labelled accuracy."""
        labelled, targets = self.draw_labelled()
        unlabelled = self.draw_unlabelled()
        latent = self.draw_latent()
        with tf.GradientTape() as tape:
            supervised, accuracy = self.supervised(labelled, targets)
            unsupervised = self.unsupervised(labelled, unlabelled, self.generator(latent))
            total = tf.reduce_sum(supervised + unsupervised)
        descend(self.discriminator_optimizer, tape, total, self.discriminator_weights)

        with tf.GradientTape() as tape:
            loss = self.generator_loss(labelled, unlabelled, self.generator(latent))
            total = tf.reduce_sum(loss)
        descend(self.generator_optimizer, tape, total, self.generator_weights)

        self.iteration.assign_add(1)
        return tf.stack([supervised, unsupervised, loss, accuracy])

    def supervised(self, labelled: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Supervised loss with leeway, and the share of labelled rows whose class is the likeliest, [members] each."""
        logits = self(labelled)
        known = logits[..., : self.classes]
        hits = tf.equal(tf.argmax(known, axis=-1), tf.argmax(targets[..., : self.classes], axis=-1))
        return losses.supervised(logits, targets), tf.reduce_mean(tf.cast(hits, tf.float32), axis=-1)

    def unsupervised(self, labelled: tf.Tensor, unlabelled: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
        """Source losses of unlabelled, generated and labelled rows, [members]."""
        settings = self.settings
        real = self.source_head(self.trunk(unlabelled))
        known = self.source_head(self.trunk(labelled))
        loss = losses.unlabelled_source(real, settings.alpha) + settings.anchor * losses.known_source(known)
        if settings.generator != "none":
            loss += losses.generated_source(self.source_head(self.trunk(generated)))
        return settings.source_weight * loss

    def generator_loss(self, labelled: tf.Tensor, unlabelled: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
        """Bad generator: feature matching and pull-away. Ordinary: to be taken for real. [members]"""
        settings = self.settings
        features = self.trunk(generated)
        if settings.generator == "none":
            return tf.zeros_like(features[:, 0, 0]) * tf.reduce_sum(features)
        if settings.generator == "ordinary":
            return losses.fool_the_source_head(self.source_head(features))
        real = self.trunk(unlabelled if settings.match == "unlabelled" else labelled)
        apart = losses.pull_away if settings.pull_away_over == "rows" else losses.pull_away_whole_matrix
        return settings.feature_matching * losses.feature_matching(real, features) + settings.pull_away * apart(features)

    def draw_labelled(self) -> tuple[tf.Tensor, tf.Tensor]:
        """A class-balanced batch [members, b, d] of the rows each member may see, and its targets [b, K + 1]."""
        size = self.settings.batch_size
        classes = tf.range(size) % self.classes
        share = noise.uniform(self.seeds, self.iteration, LABELLED, size)
        place = tf.cast(share * tf.cast(tf.gather(self.counts, classes, axis=1), tf.float32), tf.int32)
        pairs = tf.stack([tf.broadcast_to(classes, tf.shape(place)), place], axis=-1)
        rows = tf.gather_nd(self.members, pairs, batch_dims=1)
        return tf.gather(self.labelled, rows), tf.gather(losses.class_targets(self.classes, self.settings.alpha), classes)

    def draw_unlabelled(self) -> tf.Tensor:
        share = noise.uniform(self.seeds, self.iteration, UNLABELLED, self.settings.batch_size)
        return tf.gather(self.unlabelled, tf.cast(share * float(len(self.unlabelled)), tf.int32))

    def draw_latent(self) -> tf.Tensor:
        settings = self.settings
        flat = noise.normal(self.seeds, self.iteration, LATENT, settings.batch_size * settings.latent)
        return tf.reshape(flat, [-1, settings.batch_size, settings.latent])

    @tf.function(jit_compile=True)
    def train_iterations(self, count: tf.Tensor) -> tf.Tensor:
        """`count` iterations as one compiled program; the mean of what train_step returns, [4, members]."""
        total = tf.zeros([4, len(self.seeds)])
        for _ in tf.range(count):
            total += self.train_step()
        return total / tf.cast(count, tf.float32)


def descend(optimizer: keras.optimizers.Optimizer, tape: tf.GradientTape, loss: tf.Tensor, weights: list) -> None:
    """One step of the optimizer down the gradient of the loss; a weight the loss does not see stays."""
    gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    optimizer.apply(gradients, weights)
