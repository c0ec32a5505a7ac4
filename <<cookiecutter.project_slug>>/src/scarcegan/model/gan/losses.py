"""Losses: functions of tensors, one number per network. scarcegan.py sums them up and trains on the sums.

Shapes: logits and features are [networks, rows, width]; every loss is [networks]. The leading axis may be missing;
a loss is then one number.
Source: ScarceGAN (CIKM 2021, arXiv 2505.03811), section 3; the paper's alpha is `alpha` here. The bad generator's
two terms are older: feature matching is from Salimans et al. 2016, pull-away from Zhao et al. 2017.
"""

import tensorflow as tf

from scarcegan.model.gan.networks import GENERATED, HEALTHY, UNKNOWN

TINY = 1e-8


def class_targets(classes: int, alpha: float) -> tf.Tensor:
    """Targets float32 [K, K + 1] of the class head (paper 3.2, leeway): a row per class, the rare class last; a column
    per class and, last, unknown.

    classes: K. A labelled negative is `alpha` its class and `1 - alpha` unknown, because its label is weak; the rare
    class is wholly itself. alpha = 1 is no leeway.
    """
    trust = tf.concat([tf.fill([classes - 1], float(alpha)), [1.0]], axis=0)
    return tf.concat([tf.linalg.diag(trust), 1.0 - trust[:, None]], axis=1)


def cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each row, [..., rows]: minus the sum over outputs of target times log probability.

    targets, logits [..., rows, width]; the targets of a row sum to 1.
    """
    return -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=-1)


def supervised(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Supervised loss (paper 3.2): the weighted mean over labelled rows of the cross-entropy to their targets.

    logits [networks, rows, K + 1] of the class head; targets [rows, K + 1] or as the logits; weights [rows], the class
    weight of each row, or one number for all. Returns [networks].
    """
    each = cross_entropy(targets, logits)
    weights = tf.broadcast_to(tf.cast(weights, each.dtype), tf.shape(each))
    return tf.reduce_sum(weights * each, axis=-1) / tf.reduce_sum(weights, axis=-1)


def unlabelled_source(logits: tf.Tensor, alpha: float) -> tf.Tensor:
    """Unsupervised loss of unlabelled rows (paper 3.3): mean cross-entropy to `alpha` healthy and `1 - alpha` unknown.

    logits [networks, rows, 3] of the source head. Returns [networks].
    """
    targets = tf.one_hot(HEALTHY, 3) * alpha + tf.one_hot(UNKNOWN, 3) * (1.0 - alpha)
    return tf.reduce_mean(cross_entropy(targets, logits), axis=-1)


def not_rare(logits: tf.Tensor) -> tf.Tensor:
    """Loss of unlabelled rows in the class head (not in the paper): minus the mean log probability of not being rare.

    Unlabelled rows are hardly ever rare, and they are many: they show kinds of negatives that no labelled row is of.
    logits [networks, rows, K + 1]: the rare class last but one; not rare is any other output. Returns [networks].
    """
    log_probability = tf.nn.log_softmax(logits)
    others = tf.concat([log_probability[..., :-2], log_probability[..., -1:]], axis=-1)
    return -tf.reduce_mean(tf.reduce_logsumexp(others, axis=-1), axis=-1)


def known_source(logits: tf.Tensor) -> tf.Tensor:
    """Anchor (not in the paper): mean cross-entropy of labelled rows to `healthy`, the output for kinds with a name.

    It holds against the loss of unlabelled rows, so that `unknown` grows only where these are denser than labelled
    ones. logits [networks, rows, 3] of the source head for labelled rows. Returns [networks].
    """
    return tf.reduce_mean(cross_entropy(tf.one_hot(HEALTHY, 3), logits), axis=-1)


def generated_source(logits: tf.Tensor) -> tf.Tensor:
    """Unsupervised loss of generated rows (paper 3.3): minus the mean log probability of `generated`.

    logits [networks, rows, 3] of the source head for generated rows. Returns [networks].
    """
    return tf.reduce_mean(cross_entropy(tf.one_hot(GENERATED, 3), logits), axis=-1)


def feature_matching(real: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
    """Feature matching (paper 3.4): mean over trunk features of |mean over real rows - mean over generated rows|.

    real, generated [networks, rows, features]: trunk features of real and of generated rows. Returns [networks].
    """
    return tf.reduce_mean(tf.abs(tf.reduce_mean(real, axis=-2) - tf.reduce_mean(generated, axis=-2)), axis=-1)


def pull_away(features: tf.Tensor) -> tf.Tensor:
    """Pull-away (paper 3.4): mean squared cosine between the trunk features of two different generated rows.

    features [networks, rows, features] of generated rows. Returns [networks]: 0 when all rows are at right angles to
    each other, 1 when all point one way.
    """
    unit = features * tf.math.rsqrt(tf.reduce_sum(tf.square(features), axis=-1, keepdims=True) + TINY)
    return _mean_squared_pairs(unit)


def pull_away_whole_matrix(features: tf.Tensor) -> tf.Tensor:
    """Pull-away as the authors' code computes it, for comparison: the matrix, not each row, is scaled to length one.

    All "cosines" then are near 0, and so is the gradient. features and what is returned: as for pull_away.
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
    """Loss of an ordinary generator (Goodfellow et al. 2014), for comparison: minus the mean log probability that
    generated rows are not `generated`. logits [networks, rows, 3] of the source head for them. Returns [networks].
    """
    log_probability = tf.nn.log_softmax(logits)
    real = tf.reduce_logsumexp(tf.gather(log_probability, [HEALTHY, UNKNOWN], axis=-1), axis=-1)
    return -tf.reduce_mean(real, axis=-1)
