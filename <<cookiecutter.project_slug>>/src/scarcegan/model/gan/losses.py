"""Losses of the networks: functions of tensors, one number per network. scarcegan.py adds them up and minimises them.

Shapes: logits and features are [networks, rows, width]; every loss is [networks]. The leading axis may be missing;
a loss is then one number.
Source: ScarceGAN (CIKM 2021, arXiv 2505.03811), section 3; the paper's alpha is `alpha` here. The bad generator's
two terms are older: feature matching is from Salimans et al. 2016, pull-away from Zhao et al. 2017.
"""

import tensorflow as tf

from scarcegan.model.gan.networks import GENERATED, HEALTHY, UNKNOWN

TINY = 1e-8


def class_targets(classes: int, alpha: float) -> tf.Tensor:
    """Target probabilities float32 [K, K + 1] of the class head (paper 3.2, leeway): row k holds the targets of a
    labelled row of class k; the columns are the classes and, last, unknown.

    classes: K; the rare class is the last. A row of the rare class has 1 for its class. A row of any other class has
    `alpha` for its class and `1 - alpha` for unknown, because such labels are weak. alpha = 1 is no leeway.
    """
    trust = tf.concat([tf.fill([classes - 1], float(alpha)), [1.0]], axis=0)
    return tf.concat([tf.linalg.diag(trust), 1.0 - trust[:, None]], axis=1)


def cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each row, [..., rows]: minus the sum over outputs of target times log probability.

    targets, logits [..., rows, width]; the targets of a row sum to 1.
    """
    return -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=-1)


def supervised(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Supervised loss [networks] (paper 3.2): weighted mean over labelled rows of the cross-entropy to their targets.

    The mean is the sum of weight times cross-entropy, divided by the sum of the weights.
    - logits [networks, rows, K + 1]: of the class head for the labelled rows.
    - targets [rows, K + 1], or in the shape of the logits: target probabilities of each row, see class_targets.
    - weights [rows]: the class weight of each row; or one number for all.
    """
    each = cross_entropy(targets, logits)
    weights = tf.broadcast_to(tf.cast(weights, each.dtype), tf.shape(each))
    return tf.reduce_sum(weights * each, axis=-1) / tf.reduce_sum(weights, axis=-1)


def unlabelled_source(logits: tf.Tensor, alpha: float) -> tf.Tensor:
    """Unsupervised loss of unlabelled rows (paper 3.3): their mean cross-entropy to the targets `alpha` for the output
    HEALTHY and `1 - alpha` for UNKNOWN.

    logits [networks, rows, 3]: of the source head for unlabelled rows. Returns [networks].
    """
    targets = tf.one_hot(HEALTHY, 3) * alpha + tf.one_hot(UNKNOWN, 3) * (1.0 - alpha)
    return tf.reduce_mean(cross_entropy(targets, logits), axis=-1)


def not_rare(logits: tf.Tensor) -> tf.Tensor:
    """Loss of unlabelled rows in the class head (not in the paper): minus the mean log probability of not being rare.

    Unlabelled rows are hardly ever rare, and they are many: they show kinds of negatives that no labelled row is of.
    logits [networks, rows, K + 1]: of the class head for unlabelled rows, the rare class last but one, unknown last.
    The probability of not being rare is the sum over all outputs but the rare class. Returns [networks].
    """
    log_probability = tf.nn.log_softmax(logits)
    others = tf.concat([log_probability[..., :-2], log_probability[..., -1:]], axis=-1)
    return -tf.reduce_mean(tf.reduce_logsumexp(others, axis=-1), axis=-1)


def known_source(logits: tf.Tensor) -> tf.Tensor:
    """Anchor (not in the paper): minus the mean log probability that the source head gives labelled rows, the rare ones
    too, for HEALTHY, which then stands for every known class.

    It counteracts the loss of unlabelled rows, so that UNKNOWN rises only where unlabelled rows are denser than
    labelled ones. logits [networks, rows, 3]: of the source head for labelled rows. Returns [networks].
    """
    return tf.reduce_mean(cross_entropy(tf.one_hot(HEALTHY, 3), logits), axis=-1)


def generated_source(logits: tf.Tensor) -> tf.Tensor:
    """Unsupervised loss of generated rows (paper 3.3): minus the mean log probability of the output GENERATED.

    logits [networks, rows, 3] of the source head for generated rows. Returns [networks].
    """
    return tf.reduce_mean(cross_entropy(tf.one_hot(GENERATED, 3), logits), axis=-1)


def feature_matching(real: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
    """Feature matching (paper 3.4): mean over trunk features of |mean over real rows - mean over generated rows|.

    Trunk features are the outputs of the discriminator's shared layers. real, generated [networks, rows, features]:
    those of real and of generated rows; the numbers of rows may differ. Returns [networks].
    """
    return tf.reduce_mean(tf.abs(tf.reduce_mean(real, axis=-2) - tf.reduce_mean(generated, axis=-2)), axis=-1)


def pull_away(features: tf.Tensor) -> tf.Tensor:
    """Pull-away (paper 3.4): mean, over pairs of different generated rows, of the squared cosine between
    their features.

    features [networks, rows, features]: trunk features of at least two generated rows. Returns [networks]: 0 when all
    rows are at right angles to each other, 1 when all point in the same or the opposite direction.
    """
    unit = features * tf.math.rsqrt(tf.reduce_sum(tf.square(features), axis=-1, keepdims=True) + TINY)
    return _mean_squared_pairs(unit)


def pull_away_whole_matrix(features: tf.Tensor) -> tf.Tensor:
    """Pull-away as the paper authors' code computes it, for comparison: the whole matrix of features of a network, not
    each row, is scaled to length one.

    The squared inner products, and the gradient, are then all near 0. features [networks, rows, features]: trunk
    features of at least two generated rows. Returns [networks].
    """
    unit = features * tf.math.rsqrt(tf.reduce_sum(tf.square(features), axis=[-2, -1], keepdims=True) + TINY)
    return _mean_squared_pairs(unit)


def _mean_squared_pairs(rows: tf.Tensor) -> tf.Tensor:
    """Mean, over pairs of different rows, of the squared inner product. rows [..., n, width], n at least 2 -> [...]."""
    count = tf.cast(tf.shape(rows)[-2], rows.dtype)
    squares = tf.square(tf.matmul(rows, rows, transpose_b=True))
    off_diagonal = tf.reduce_sum(squares, axis=[-2, -1]) - tf.reduce_sum(tf.linalg.diag_part(squares), axis=-1)
    return off_diagonal / (count * (count - 1.0))


def fool_the_source_head(logits: tf.Tensor) -> tf.Tensor:
    """Loss of an ordinary generator (Goodfellow et al. 2014), for comparison: minus the mean log probability that the
    source head gives generated rows for HEALTHY or UNKNOWN, that is, for not being GENERATED.

    logits [networks, rows, 3]: of the source head for generated rows. Returns [networks].
    """
    log_probability = tf.nn.log_softmax(logits)
    real = tf.reduce_logsumexp(tf.gather(log_probability, [HEALTHY, UNKNOWN], axis=-1), axis=-1)
    return -tf.reduce_mean(real, axis=-1)
