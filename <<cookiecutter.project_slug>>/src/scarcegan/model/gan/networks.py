"""Networks: trunk, class head, source head and generator. No losses and no training here; see losses.py, gan.py.

Every layer carries a leading axis of members, so that several seeds and folds are one program: inputs and outputs
are [members, rows, features]. Members share no weight and no random number: an ensemble equals its members
trained one by one.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

HEALTHY, UNKNOWN, GENERATED = 0, 1, 2  # outputs of the source head
SLOPE = 0.2


def glorot_uniform(shape: Sequence[int], seeds: Sequence[int], salt: int) -> np.ndarray:
    """Weights [members, inputs, outputs], uniform within sqrt(6 / (inputs + outputs)); one stream per member."""
    limit = np.sqrt(6.0 / (shape[-2] + shape[-1]))
    draws = [np.random.default_rng([seed, salt]).uniform(-limit, limit, tuple(shape[-2:])) for seed in seeds]
    return np.stack(draws).astype(np.float32)


class EnsembleDense(keras.layers.Layer):
    """A dense layer per member: [members, rows, inputs] -> [members, rows, units].

    seeds: one per member. salt: tells the layers of one network apart; without it they would start alike.
    zero: start at zero weights (for a head that should begin by saying nothing). biased: add a bias.
    """

    def __init__(self, units: int, seeds: Sequence[int], salt: int, zero: bool = False, biased: bool = True) -> None:
        super().__init__()
        self.units, self.seeds, self.salt, self.zero, self.biased = units, tuple(seeds), salt, zero, biased

    def build(self, shape: Sequence[int | None]) -> None:
        size = (len(self.seeds), int(shape[-1] or 0), self.units)
        start = np.zeros(size, np.float32) if self.zero else glorot_uniform(size, self.seeds, self.salt)
        self.kernel = self.add_weight(name="kernel", shape=size, initializer=lambda *_, **__: tf.constant(start))
        self.bias = (
            self.add_weight(name="bias", shape=(size[0], 1, size[2]), initializer="zeros") if self.biased else 0.0
        )

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.matmul(rows, self.kernel) + self.bias


class EnsembleBatchNorm(keras.layers.Layer):
    """Batch normalisation per member, by the statistics of the batch.

    The generator runs in training only, so there are no moving averages to keep.
    """

    def build(self, shape: Sequence[int]) -> None:
        size = (shape[0], 1, shape[-1])
        self.scale = self.add_weight(name="scale", shape=size, initializer="ones")
        self.shift = self.add_weight(name="shift", shape=size, initializer="zeros")

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        centred = rows - tf.reduce_mean(rows, axis=1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=1, keepdims=True)
        return centred * tf.math.rsqrt(variance + 1e-3) * self.scale + self.shift


def trunk(sizes: Sequence[int], seeds: Sequence[int]) -> keras.Sequential:
    """The discriminator's shared layers: dense and LeakyReLU in turn (paper: 15-21-8)."""
    layers: list[keras.layers.Layer] = []
    for place, units in enumerate(sizes):
        layers += [EnsembleDense(units, seeds, salt=place), keras.layers.LeakyReLU(negative_slope=SLOPE)]
    return keras.Sequential(layers, name="trunk")


def class_head(classes: int, seeds: Sequence[int]) -> EnsembleDense:
    """Logits of K classes and, last, unknown."""
    return EnsembleDense(classes + 1, seeds, salt=100)


def source_head(seeds: Sequence[int]) -> EnsembleDense:
    """Logits of healthy, unknown, generated."""
    return EnsembleDense(3, seeds, salt=101)


def generator(sizes: Sequence[int], features: int, seeds: Sequence[int]) -> keras.Sequential:
    """Latent vectors in, rows of (scaled) features out: dense, batch norm, LeakyReLU, dense."""
    layers: list[keras.layers.Layer] = []
    for place, units in enumerate(sizes):
        layers += [
            EnsembleDense(units, seeds, salt=200 + place, biased=False),  # the norm takes a bias away again
            EnsembleBatchNorm(),
            keras.layers.LeakyReLU(negative_slope=SLOPE),
        ]
    return keras.Sequential([*layers, EnsembleDense(features, seeds, salt=300)], name="generator")


class Codes(keras.layers.Layer):
    """Piecewise-linear codes of features (Gorishniy et al. 2022, "On embeddings for numerical features").

    A number per bin: 0 below it, 1 above it, the part of the way within. A network is slow to learn the sharp steps
    that a tree finds at once; from the codes it reads them off. edges [features, bins + 1], ascending.
    [members, n, features] -> [members, n, features * bins].
    """

    def __init__(self, edges: np.ndarray) -> None:
        super().__init__(name="codes")
        low, per_width = edges[:, :-1], 1 / np.maximum(np.diff(edges, axis=1), 1e-4)
        self.low = self.add_weight(name="low", shape=low.shape, initializer="zeros", trainable=False)
        self.per_width = self.add_weight(name="per_width", shape=low.shape, initializer="zeros", trainable=False)
        self.low.assign(low.astype(np.float32))
        self.per_width.assign(per_width.astype(np.float32))
        self.built = True

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        numbers = rows[..., : self.low.shape[0], None]  # columns of categories, which come last, have no codes
        codes = tf.clip_by_value((numbers - self.low) * self.per_width, 0.0, 1.0)
        return tf.reshape(codes, tf.concat([tf.shape(rows)[:-1], [np.prod(self.low.shape)]], axis=0))


class Discriminator(keras.Model):
    """The trunk and its two heads: rows [members or 1, n, features] -> class logits, source logits.

    expert: adds to the class logits a linear reading of the features themselves, which a narrow trunk tends to blur.
    edges [features, bins + 1]: trunks of members with an even seed see codes of the features beside them; None: none
    do. Members of two kinds err in different places: with codes far from all training rows, without at sharp steps.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        classes: int,
        seeds: Sequence[int],
        expert: bool = True,
        edges: np.ndarray | None = None,
    ) -> None:
        super().__init__(name="discriminator")
        self.seeds, self.traits_width = tuple(seeds), sizes[-1]
        self.trunk = trunk(sizes, seeds)
        self.codes = Codes(edges) if edges is not None else None
        self.code_reader = EnsembleDense(sizes[0], seeds, salt=103)
        self.reads_codes = (1.0 - np.array(seeds) % 2).astype(np.float32)[:, None, None]
        self.class_head = class_head(classes, seeds)
        self.source_head = source_head(seeds)
        self.expert = EnsembleDense(classes + 1, seeds, salt=102, zero=True) if expert else None

    def build(self, shape: Sequence[int | None]) -> None:
        members, features = len(self.seeds), shape[-1]
        self.trunk.build((members, None, features))  # traits() calls its layers one by one
        for head in (self.class_head, self.source_head):
            head.build((members, None, self.traits_width))
        if self.expert is not None:
            self.expert.build((members, None, features))
        if self.codes is not None:
            self.code_reader.build((members, None, int(np.prod(self.codes.low.shape))))
        self.built = True

    def traits(self, rows: tf.Tensor) -> tf.Tensor:
        """Trunk features of rows."""
        first, *rest = self.trunk.layers
        traits = first(rows)
        if self.codes is not None:
            traits += self.reads_codes * self.code_reader(self.codes(rows))
        for layer in rest:
            traits = layer(traits)
        return traits

    def classes(self, rows: tf.Tensor, traits: tf.Tensor) -> tf.Tensor:
        """Class logits of rows whose trunk features are `traits`."""
        logits = self.class_head(traits)
        return logits + self.expert(rows) if self.expert is not None else logits

    def call(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        traits = self.traits(rows)
        return self.classes(rows, traits), self.source_head(traits)


def rare_log_odds(class_logits: tf.Tensor) -> tf.Tensor:
    """[members, n, K + 1] -> [members, n]: log odds of the rare class against the negatives.

    Unknown is left out: it is a verdict of its own.
    """
    return class_logits[..., -2] - tf.reduce_logsumexp(class_logits[..., :-2], axis=-1)


def bounded(log_odds: tf.Tensor, caution: float) -> tf.Tensor:
    """Log odds that stay within about log(1 / caution): log((p + caution) / (1 - p + caution)) of probability p.

    So that among members one that is very sure of itself does not outvote the rest. caution 0: as they are.
    """
    if not caution:
        return log_odds
    return tf.math.log(tf.sigmoid(log_odds) + caution) - tf.math.log(tf.sigmoid(-log_odds) + caution)


def unknown_log_odds(source_logits: tf.Tensor) -> tf.Tensor:
    """[members, n, 3] -> [members, n]: log odds of unknown against healthy in the source head."""
    return source_logits[..., UNKNOWN] - source_logits[..., HEALTHY]
