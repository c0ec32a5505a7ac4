"""The compiled ensemble: the same weights twice, and the same as its networks alone."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from scarcegan.model.gan import scarcegan
from scarcegan.model.gan.settings import GanSettings
from tiny_splits import settings

pytestmark = pytest.mark.slow

TINY = settings(GanSettings, trunk=(4, 3), generator=(5,), latent=2, batch_size=8)
RNG = np.random.default_rng(0)
LABEL = np.repeat([0, 1, 2], [12, 6, 3]).astype(np.int8)
LABELLED = (RNG.normal(size=(21, 4)) + LABEL[:, None]).astype(np.float32)
UNLABELLED = RNG.normal(size=(30, 4)).astype(np.float32)
SEEN = np.ones((2, 21), bool)
SEEN[0, [0, 3, 20]] = False
SEEN[1, [1, 12, 19]] = False


def trained(seeds, seen, chosen=TINY, calls=2, compiled=True):
    model = scarcegan.ScarceGAN(4, 3, seeds, chosen, 10)
    program = scarcegan.Program(model, scarcegan.make_pool(LABELLED, LABEL, UNLABELLED, seen, 3), 5, compiled)
    for call in range(calls):
        figures = program(call * 5)
    return model, figures


def weights(model):
    return [np.asarray(variable) for variable in (*model.discriminator.weights, *model.generator.weights)]


@pytest.fixture(scope="module")
def together():
    """Weights of two networks trained side by side by the compiled program."""
    return weights(trained([3, 4], SEEN)[0])


def test_a_fixed_seed_gives_the_same_weights_twice(together):
    assert all((a == b).all() for a, b in zip(together, weights(trained([3, 4], SEEN)[0]), strict=True))


def test_an_ensemble_equals_its_networks_trained_one_by_one_by_the_plain_program(together):
    for network, seed in enumerate([3, 4]):
        alone = weights(trained([seed], SEEN[[network]], compiled=False)[0])
        for a, b in zip(together, alone, strict=True):
            assert a[network] == pytest.approx(b[0], abs=1e-5)


def test_the_compiled_program_equals_the_plain_one(together):
    for a, b in zip(together, weights(trained([3, 4], SEEN, compiled=False)[0]), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_draws_are_class_by_class_in_turn_and_only_of_rows_the_network_sees():
    model = scarcegan.ScarceGAN(4, 3, [3, 4], TINY)
    program = scarcegan.Program(model, scarcegan.make_pool(LABELLED, LABEL, UNLABELLED, SEEN, 3), 50)
    rows, others, latent = (a.numpy() for a in program._draw(program._places, tf.constant(30), tf.constant(0)))
    assert (LABEL[rows] == np.arange(8) % 3).all()
    for network in range(2):
        assert set(rows[:, network].ravel()) == set(np.flatnonzero(SEEN[network]))
    assert others.min() >= 0
    assert others.max() < 30
    assert latent.shape == (50, 2, 8, 2)


def test_a_network_without_a_class_is_refused():
    with pytest.raises(ValueError, match="no row of some class"):
        scarcegan.make_pool(LABELLED, LABEL, UNLABELLED, (LABEL < 2)[None], 3)


def changed_by_the_generator_step(chosen):
    """Whether the trunk moves when the discriminator's own step is left out."""
    model = scarcegan.ScarceGAN(4, 3, [1], chosen)
    object.__setattr__(model.discriminator_optimiser, "apply", lambda *_: None)
    before = [np.asarray(v) for v in model.discriminator.trunk.weights]
    labelled = tf.constant(LABELLED[None, :8])
    model.train_step(labelled, tf.constant(UNLABELLED[None, :8]), tf.ones([1, 8, 2]) * tf.range(8.0)[None, :, None])
    return any((np.asarray(v) != w).any() for v, w in zip(model.discriminator.trunk.weights, before, strict=True))


def test_the_generator_step_leaves_the_trunk_as_it_is_unless_told_otherwise():
    assert not changed_by_the_generator_step(TINY)
    assert changed_by_the_generator_step(replace(TINY, generator_trains_trunk=True))


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 1.0, "bad_generator": False},
        {"pull_away": "matrix", "matching": "labelled", "generator_trains_trunk": True},
        {"expert": False, "anchor": False, "unlabelled_weight": 0.0},
        {"class_weights": (1.0, 2.0, 3.0)},
    ],
)
def test_every_variant_trains_to_finite_numbers(change):
    _, figures = trained([1], SEEN[:1], replace(TINY, **change), calls=1, compiled=False)
    assert np.isfinite(figures).all()


def test_training_tells_the_classes_apart():
    model = scarcegan.ScarceGAN(4, 3, [1], replace(TINY, learning_rate=0.02), 300)
    apart = (LABELLED + 4 * LABEL[:, None]).astype(np.float32)
    program = scarcegan.Program(model, scarcegan.make_pool(apart, LABEL, UNLABELLED, SEEN[:1], 3), 300)
    assert program(0)[3, 0] > 0.7
    logits, _ = model(tf.constant(apart)[None])
    assert (logits.numpy()[0, :, :3].argmax(axis=1) == LABEL).mean() > 0.9


def test_more_networks_begin_with_the_same_seeds():
    assert scarcegan.network_seeds(7, 1, 3) == scarcegan.network_seeds(7, 2, 3)[:3]
    assert len(set(scarcegan.network_seeds(7, 5, 3))) == 15
