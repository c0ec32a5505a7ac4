"""Networks: an ensemble equals its networks alone."""

import numpy as np
import pytest
import tensorflow as tf

from scarcegan.model.gan import networks


def test_a_network_starts_alike_whoever_is_beside_it():
    together = networks.glorot_uniform((3, 4, 5), seeds=[1, 2, 3], salt=0)
    alone = networks.glorot_uniform((1, 4, 5), seeds=[2], salt=0)
    assert (together[1] == alone[0]).all()
    assert np.abs(together).max() <= np.sqrt(6 / 9)


def test_layers_of_one_network_start_differently():
    first, second = (networks.glorot_uniform((1, 4, 4), seeds=[1], salt=salt) for salt in (0, 1))
    assert (first != second).any()


def test_a_dense_layer_multiplies_each_network_by_its_own_matrix():
    layer = networks.EnsembleDense(2, seeds=[1, 2], salt=0)
    rows = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    found = layer(rows).numpy()
    kernel = layer.kernel.numpy()
    assert found == pytest.approx(np.stack([rows[0] @ kernel[0], rows[1] @ kernel[1]]), abs=1e-5)


def test_batch_norm_uses_the_rows_of_its_own_network():
    """Network 0 holds -1 and 1, network 1 holds 9 and 11: both become -1 and 1, nearly."""
    rows = tf.constant([[[-1.0], [1.0]], [[9.0], [11.0]]])
    found = networks.EnsembleBatchNorm()(rows).numpy()
    assert found == pytest.approx(np.array([[[-1], [1]], [[-1], [1]]]), abs=1e-3)


def test_the_expert_says_nothing_at_first():
    rows = tf.ones([1, 2, 3])
    with_expert, without = (networks.Discriminator((4,), 2, [5], expert) for expert in (True, False))
    assert with_expert(rows)[0].numpy() == pytest.approx(without(rows)[0].numpy())


def test_the_encoding_rises_through_the_bins_one_after_another():
    """Edges 0, 1, 3: 0.5 is half way through the first bin; 2 is through it and half way through the second."""
    encoded = networks.PiecewiseLinearEncoding(np.array([[0.0, 1.0, 3.0]]))(
        tf.constant([[[0.5], [2.0], [9.0], [-9.0]]])
    ).numpy()
    assert encoded[0] == pytest.approx(np.array([[0.5, 0], [1, 0.5], [1, 1], [0, 0]]))


def test_networks_with_an_even_seed_read_the_encoding_and_others_do_not():
    """The edges differ, the features do not: only the even network's answer changes."""
    rows, edges = tf.fill([1, 1, 1], 0.5), ([0.0, 1.0], [5.0, 9.0])
    near, far = (networks.Discriminator((4,), 2, [6, 7], False, np.array([each])) for each in edges)
    changed = np.abs(near(rows)[0] - far(rows)[0]).max(axis=(1, 2))
    assert changed[0] > 0 and changed[1] == 0


def test_rare_log_odds_leave_unknown_out():
    """Logits of two negatives, rare, unknown: log(e^2 / (e^0 + e^0)) whatever unknown says."""
    for unknown in (0.0, 50.0):
        odds = networks.rare_log_odds(tf.constant([[[0.0, 0.0, 2.0, unknown]]])).numpy()
        assert odds == pytest.approx(2 - np.log(2), abs=1e-6)
