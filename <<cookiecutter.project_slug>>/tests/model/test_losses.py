"""Losses against numbers worked out by hand, and against numpy."""

import numpy as np
import pytest
import tensorflow as tf

from scarcegan.model.gan import losses, networks

EVEN = tf.zeros([2, 3])  # two rows, three outputs, all as likely: every log probability is -log 3


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_leeway_moves_trust_from_a_weak_label_to_unknown_but_not_from_the_rare_class():
    assert losses.class_targets(3, 0.7).numpy() == pytest.approx(
        np.array([[0.7, 0, 0, 0.3], [0, 0.7, 0, 0.3], [0, 0, 1.0, 0]])
    )


def test_without_leeway_the_targets_are_the_classes():
    assert losses.class_targets(2, 1.0).numpy() == pytest.approx(np.array([[1, 0, 0], [0, 1, 0]]))


def test_a_network_that_knows_nothing_loses_log_3():
    targets = losses.class_targets(2, 0.7)
    assert float(losses.supervised(EVEN, targets)) == pytest.approx(np.log(3))
    assert float(losses.unlabelled_source(EVEN, 0.7)) == pytest.approx(np.log(3))
    assert float(losses.generated_source(EVEN)) == pytest.approx(np.log(3))
    assert float(losses.known_source(EVEN)) == pytest.approx(np.log(3))


def test_class_weights_weigh_rows():
    """Row 0 is right for sure (loss 0), row 1 wrong by 10 (loss 10): weighted 3 to 1, the mean is 2.5."""
    logits = tf.constant([[20.0, 0.0], [10.0, 0.0]])
    targets = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    assert float(losses.supervised(logits, targets, tf.constant([3.0, 1.0]))) == pytest.approx(2.5, abs=1e-3)


def test_feature_matching_is_the_mean_distance_of_means():
    """Means are (2, 3) and (1, 5): (1 + 2) / 2."""
    real = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    generated = tf.constant([[1.0, 5.0], [1.0, 5.0]])
    assert float(losses.feature_matching(real, generated)) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([[1, 0], [0, 2]], 0.0), ([[1, 0], [5, 0]], 1.0), ([[1, 0], [1, 1]], 0.5), ([[1, 0], [-3, 0]], 1.0)],
)
def test_pull_away_is_the_squared_cosine_of_different_rows_whatever_their_length(rows, expected):
    assert float(losses.pull_away(tf.constant(rows, tf.float32))) == pytest.approx(expected, abs=1e-6)


def test_pull_away_over_the_whole_matrix_hardly_sees_parallel_rows():
    """Ten equal rows: every cosine is 1, but with the matrix brought to length one each product is 1 / 100 of 1."""
    rows = tf.ones([10, 4])
    assert float(losses.pull_away(rows)) == pytest.approx(1.0, abs=1e-6)
    assert float(losses.pull_away_whole_matrix(rows)) == pytest.approx(0.01, abs=1e-6)


def test_an_ordinary_generator_is_glad_to_be_taken_for_real():
    taken = tf.constant([[9.0, 0.0, -9.0]])
    caught = tf.constant([[-9.0, -9.0, 9.0]])
    assert float(losses.fool_the_source_head(taken)) < 1e-3 < 10 < float(losses.fool_the_source_head(caught))


def test_every_loss_agrees_with_numpy_for_several_members_at_once():
    rng = np.random.default_rng(0)
    logits, rows, other = rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 5, 6)), rng.normal(size=(3, 7, 6))
    targets, weights = softmax(rng.normal(size=(5, 4))), rng.uniform(1, 2, 5)
    each = -(targets * np.log(softmax(logits))).sum(axis=-1)
    assert losses.supervised(tf.constant(logits), tf.constant(targets), tf.constant(weights)).numpy() == pytest.approx(
        (each * weights).sum(axis=-1) / weights.sum()
    )
    source = softmax(logits[..., :3])
    assert losses.unlabelled_source(tf.constant(logits[..., :3], tf.float32), 0.7).numpy() == pytest.approx(
        -(0.7 * np.log(source[..., 0]) + 0.3 * np.log(source[..., 1])).mean(axis=-1), rel=1e-5
    )
    gap = np.abs(rows.mean(axis=1) - other.mean(axis=1)).mean(axis=-1)
    assert losses.feature_matching(tf.constant(rows), tf.constant(other)).numpy() == pytest.approx(gap)
    unit = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    cosines = (unit @ unit.transpose(0, 2, 1)) ** 2
    expected = (cosines.sum(axis=(1, 2)) - 5) / 20
    assert losses.pull_away(tf.constant(rows)).numpy() == pytest.approx(expected, rel=1e-5)


def test_an_unlabelled_row_costs_little_unless_the_class_head_calls_it_rare():
    """Three outputs, the rare one in the middle: all as likely costs -log(2/3); surely not rare costs nothing."""
    assert float(losses.not_rare(EVEN)) == pytest.approx(np.log(1.5))
    assert float(losses.not_rare(tf.constant([[0.0, -30.0, 0.0]]))) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.not_rare(tf.constant([[0.0, 30.0, 0.0]]))) > 20


def test_rows_in_another_order_lose_the_same():
    rng = np.random.default_rng(1)
    order = rng.permutation(9)
    logits, rows, other = (rng.normal(size=(2, 9, 5)).astype(np.float32) for _ in range(3))
    targets, weights = softmax(rng.normal(size=(9, 5))).astype(np.float32), rng.uniform(1, 2, 9).astype(np.float32)

    def lost(by):
        return [
            losses.supervised(tf.constant(logits[:, by]), tf.constant(targets[by]), tf.constant(weights[by])),
            losses.unlabelled_source(tf.constant(logits[:, by, :3]), 0.7),
            losses.not_rare(tf.constant(logits[:, by])),
            losses.feature_matching(tf.constant(rows[:, by]), tf.constant(other[:, by])),
            losses.pull_away(tf.constant(rows[:, by])),
        ]

    for shuffled, straight in zip(lost(order), lost(np.arange(9)), strict=True):
        assert shuffled.numpy() == pytest.approx(straight.numpy(), rel=1e-5)


def test_negative_classes_in_another_order_lose_the_same_and_are_as_rarely_rare():
    """Four negatives, the rare class, unknown: only the negatives change places."""
    rng = np.random.default_rng(2)
    order = np.array([2, 0, 3, 1, 4, 5])
    logits = rng.normal(size=(2, 9, 6)).astype(np.float32)
    label = rng.integers(0, 5, 9)
    targets = losses.class_targets(5, 0.7).numpy()
    straight = losses.supervised(tf.constant(logits), tf.constant(targets[label]))
    shuffled = losses.supervised(tf.constant(logits[..., order]), tf.constant(targets[np.argsort(order)[label]]))
    assert shuffled.numpy() == pytest.approx(straight.numpy(), rel=1e-5)
    assert losses.not_rare(tf.constant(logits[..., order])).numpy() == pytest.approx(
        losses.not_rare(tf.constant(logits)).numpy(), rel=1e-5
    )
    assert networks.rare_log_odds(tf.constant(logits[..., order])).numpy() == pytest.approx(
        networks.rare_log_odds(tf.constant(logits)).numpy(), abs=1e-5
    )
