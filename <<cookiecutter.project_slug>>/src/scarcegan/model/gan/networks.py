"""Networks: trunk, class head, source head and generator. Losses stand in losses.py, training in scarcegan.py.

Every layer has a leading axis of networks, so that networks of several seeds and folds are one program: inputs and
outputs are [networks, rows, features]. Networks share no weight and no random number: an ensemble equals its networks
trained one by one. Weights are float32. The discriminator computes in the type of the rows it is given: float32 in
training, float64 in the delivered graph.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

HEALTHY, UNKNOWN, GENERATED = 0, 1, 2  # outputs of the source head
SLOPE = 0.2


def glorot_uniform(shape: Sequence[int], seeds: Sequence[int], salt: int) -> np.ndarray:
    """Random first weights, float32 of `shape` [networks, inputs, outputs], uniform between plus and minus
    sqrt(6 / (inputs + outputs)).

    seeds: one per network; its weights depend on nothing but its seed, the salt and the shape. salt: a number per
    layer, so that layers of one network start with different weights.
    """
    limit = np.sqrt(6.0 / (shape[-2] + shape[-1]))
    draws = [np.random.default_rng([seed, salt]).uniform(-limit, limit, tuple(shape[-2:])) for seed in seeds]
    return np.stack(draws).astype(np.float32)


class EnsembleDense(keras.layers.Layer):
    """A dense layer per network: [networks, rows, inputs] -> [networks, rows, units], without an activation.

    Rows [1, rows, inputs] are given to every network. seeds: one per network, for the first weights. salt: a number of
    its own for each layer of a network; layers with the same salt and shape would start alike. zero: start with weights
    0, not random ones. biased: add a bias, which starts at 0.
    """

    def __init__(self, units: int, seeds: Sequence[int], salt: int, zero: bool = False, biased: bool = True) -> None:
        super().__init__(autocast=False)
        self.units, self.seeds, self.salt, self.zero, self.biased = units, tuple(seeds), salt, zero, biased

    def build(self, shape: Sequence[int | None]) -> None:
        size = (len(self.seeds), int(shape[-1] or 0), self.units)
        start = np.zeros(size, np.float32) if self.zero else glorot_uniform(size, self.seeds, self.salt)
        self.kernel = self.add_weight(name="kernel", shape=size, initializer=lambda *_, **__: tf.constant(start))
        self.bias = (
            self.add_weight(name="bias", shape=(size[0], 1, size[2]), initializer="zeros") if self.biased else 0.0
        )

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.matmul(rows, tf.cast(self.kernel, rows.dtype)) + tf.cast(self.bias, rows.dtype)


class EnsembleBatchNorm(keras.layers.Layer):
    """Batch normalisation per network: [networks, rows, features] in and out, by mean and variance of the batch.

    The generator is used in training only, so no moving averages are kept.
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
    """The untrained trunk: the layers of a discriminator that both its heads share.

    It is a dense layer and a LeakyReLU per entry of `sizes`, the numbers of units (in the paper 15, 21, 8), and turns
    rows [networks, n, features] into trunk features [networks, n, last of sizes]. seeds: one per network.
    """
    layers: list[keras.layers.Layer] = []
    for place, units in enumerate(sizes):
        activation = keras.layers.LeakyReLU(negative_slope=SLOPE, autocast=False)
        layers += [EnsembleDense(units, seeds, salt=place), activation]
    return keras.Sequential(layers, name="trunk")


def class_head(classes: int, seeds: Sequence[int]) -> EnsembleDense:
    """The untrained layer that turns trunk features [networks, n, features] into logits [networks, n, classes + 1]:
    those of the classes in order, the rare one last, and then unknown. seeds: one per network.
    """
    return EnsembleDense(classes + 1, seeds, salt=100)


def source_head(seeds: Sequence[int]) -> EnsembleDense:
    """The untrained layer that turns trunk features [networks, n, features] into logits [networks, n, 3], in the order
    HEALTHY, UNKNOWN, GENERATED. seeds: one per network."""
    return EnsembleDense(3, seeds, salt=101)


def generator(sizes: Sequence[int], features: int, seeds: Sequence[int]) -> keras.Sequential:
    """The untrained generator: random latent vectors [networks, n, latent] -> scaled rows [networks, n, features].

    It is a dense layer, batch normalisation and LeakyReLU per entry of `sizes`, the numbers of units, then a dense
    layer. features: width of the scaled rows. seeds: one per network.
    """
    layers: list[keras.layers.Layer] = []
    for place, units in enumerate(sizes):
        layers += [
            EnsembleDense(units, seeds, salt=200 + place, biased=False),  # the norm takes a bias away again
            EnsembleBatchNorm(),
            keras.layers.LeakyReLU(negative_slope=SLOPE),
        ]
    return keras.Sequential([*layers, EnsembleDense(features, seeds, salt=300)], name="generator")


class PiecewiseLinearEncoding(keras.layers.Layer):
    """Piecewise-linear encoding of features (Gorishniy et al. 2022, "On embeddings for numerical features").

    Scaled rows [networks, n, width] -> [networks, n, features * bins], a number per feature and bin: 0 for a value
    below the bin, 1 above it, and within it the fraction of the bin's width that lies below the value. A network is
    slow to learn sharp steps that a tree finds at once; this helps it.
    edges [features, bins + 1], ascending: bounds of the bins of the first `features` columns, the numbers and their
    indicators; the columns after them, those of categories, are not encoded.
    """

    def __init__(self, edges: np.ndarray) -> None:
        super().__init__(name="encoding", autocast=False)
        low, per_width = edges[:, :-1], 1 / np.maximum(np.diff(edges, axis=1), 1e-4)
        self.low = self.add_weight(name="low", shape=low.shape, initializer="zeros", trainable=False)
        self.per_width = self.add_weight(name="per_width", shape=low.shape, initializer="zeros", trainable=False)
        self.low.assign(low.astype(np.float32))
        self.per_width.assign(per_width.astype(np.float32))
        self.built = True

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        numbers = rows[..., : self.low.shape[0], None]
        low, per_width = tf.cast(self.low, rows.dtype), tf.cast(self.per_width, rows.dtype)
        encoded = tf.clip_by_value((numbers - low) * per_width, 0.0, 1.0)
        return tf.reshape(encoded, tf.concat([tf.shape(rows)[:-1], [np.prod(self.low.shape)]], axis=0))


class Discriminator(keras.Model):
    """The trunk and its two heads: scaled rows [networks or 1, n, width] -> a pair of class logits [networks, n, K + 1]
    (K classes, the rare one last, then unknown) and source logits [networks, n, 3] (HEALTHY, UNKNOWN, GENERATED).

    - sizes: numbers of units of the trunk's layers. classes: K.
    - seeds: one per network, for the first weights.
    - expert: add to the class logits a linear function of the rows, whose weights start at 0.
    - edges [features, bins + 1]: bins of the piecewise-linear encoding, which the trunk of each network with an even
      seed reads beside the rows; None: no network reads it. Networks of the two kinds err on different rows: those with
      the encoding far from all training rows, those without it at sharp steps.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        classes: int,
        seeds: Sequence[int],
        expert: bool = True,
        edges: np.ndarray | None = None,
    ) -> None:
        super().__init__(name="discriminator", autocast=False)
        self.seeds, self.trunk_width = tuple(seeds), sizes[-1]
        self.trunk = trunk(sizes, seeds)
        self.encoding = PiecewiseLinearEncoding(edges) if edges is not None else None
        self.encoding_dense = EnsembleDense(sizes[0], seeds, salt=103)
        self.reads_encoding = (1.0 - np.array(seeds) % 2).astype(np.float32)[:, None, None]
        self.class_head = class_head(classes, seeds)
        self.source_head = source_head(seeds)
        self.expert = EnsembleDense(classes + 1, seeds, salt=102, zero=True) if expert else None

    def build(self, shape: Sequence[int | None]) -> None:
        networks, features = len(self.seeds), shape[-1]
        self.trunk.build((networks, None, features))  # trunk_features() calls its layers one by one
        for head in (self.class_head, self.source_head):
            head.build((networks, None, self.trunk_width))
        if self.expert is not None:
            self.expert.build((networks, None, features))
        if self.encoding is not None:
            self.encoding_dense.build((networks, None, int(np.prod(self.encoding.low.shape))))
        self.built = True

    def trunk_features(self, rows: tf.Tensor) -> tf.Tensor:
        """Output of the trunk [networks, n, trunk_width] for scaled rows [networks or 1, n, width]."""
        first, *rest = self.trunk.layers
        features = first(rows)
        if self.encoding is not None:
            features += self.reads_encoding * self.encoding_dense(self.encoding(rows))
        for layer in rest:
            features = layer(features)
        return features

    def class_logits(self, rows: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        """Class logits [networks, n, K + 1] (K classes, then unknown) of scaled rows [networks or 1, n, width].

        features [networks, n, trunk_width]: the output of trunk_features for these rows.
        """
        logits = self.class_head(features)
        return logits + self.expert(rows) if self.expert is not None else logits

    def call(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Class logits [networks, n, K + 1] and source logits [networks, n, 3] of rows [networks or 1, n, width]."""
        features = self.trunk_features(rows)
        return self.class_logits(rows, features), self.source_head(features)


def rare_log_odds(class_logits: tf.Tensor) -> tf.Tensor:
    """Log odds [networks, n] of the rare class against the other classes together.

    class_logits [networks, n, K + 1]: the rare class last but one, unknown last. The logit of unknown is left out,
    because unknown rows are found by other scores.
    """
    return class_logits[..., -2] - tf.reduce_logsumexp(class_logits[..., :-2], axis=-1)


def unknown_log_odds(source_logits: tf.Tensor) -> tf.Tensor:
    """Log odds [networks, n] of UNKNOWN against HEALTHY, from logits [networks, n, 3] of the source head."""
    return source_logits[..., UNKNOWN] - source_logits[..., HEALTHY]
