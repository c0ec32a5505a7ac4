"""Training speed: the compiled program against a plain train_on_batch loop of the same algorithm, on one core.

    python benchmarks/bench_training.py

Both run the published network (trunk 15-21-8, generator 30, batches of 64) on random rows. The plain loop is how a GAN
is usually written in Keras: a model per step, `train_on_batch` for labelled, unlabelled and generated rows and for the
generator, and `predict` to generate. Without the two `predict` calls it is given as well.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "<<cookiecutter.project_slug>>" / "src"))

import numpy as np
from default_settings import default_settings

PUBLISHED = {"trunk": (15, 21, 8), "bins": 0, "expert": False, "anchor": False, "unlabelled_weight": 0.0}
FEATURES, ROWS, CLASSES, BATCH, LATENT = 38, 100_000, 2, 64, 10
SECONDS = 3.0  # of measuring, after warming up; of the processor's time, so that neighbours on the machine do not count


def program(networks: int = 1, features: int = FEATURES, rows: int = ROWS, iterations: int = 250, **change) -> Callable:
    """A call that runs `iterations` iterations of `networks` networks on random rows."""
    from scarcegan.model.gan import scarcegan
    from scarcegan.model.gan.settings import GanSettings

    rng = np.random.default_rng(0)
    labelled = rng.normal(size=(6000, features)).astype(np.float32)
    unlabelled = rng.normal(size=(rows, features)).astype(np.float32)
    label = np.repeat([0, 1], [5000, 1000])
    settings = default_settings(GanSettings, PUBLISHED | {"batch_size": BATCH, "latent": LATENT} | change)
    edges = np.tile(np.linspace(-2, 2, settings.bins + 1), (features, 1)) if settings.bins else None
    model = scarcegan.ScarceGAN(features, CLASSES, scarcegan.network_seeds(0, networks, 1), settings, edges=edges)
    pool = scarcegan.make_pool(labelled, label, unlabelled, np.ones((networks, 6000), bool), CLASSES)
    return scarcegan.Program(model, pool, iterations)


def plain(predicting: bool) -> Callable[[], None]:
    """One iteration of the algorithm as a plain Keras loop."""
    import keras
    import tensorflow as tf
    from keras import layers
    from scarcegan.model.gan import losses

    def dense(sizes: tuple[int, ...]) -> list:
        return [layer for size in sizes for layer in (layers.Dense(size), layers.LeakyReLU(negative_slope=0.2))]

    trunk = keras.Sequential([keras.Input((FEATURES,)), *dense((15, 21, 8))])
    norm = layers.BatchNormalization()
    generator_layers = [layers.Dense(30), norm, layers.LeakyReLU(negative_slope=0.2), layers.Dense(FEATURES)]
    generator = keras.Sequential([keras.Input((LATENT,)), *generator_layers])
    inputs = keras.Input((FEATURES,))
    classes = keras.Model(inputs, layers.Dense(CLASSES + 1, activation="softmax")(trunk(inputs)))
    source = keras.Model(inputs, layers.Dense(3, activation="softmax")(trunk(inputs)))
    for model in (classes, source):
        model.compile(keras.optimizers.Adam(1e-3, beta_1=0.5), "categorical_crossentropy")
    frozen = keras.models.clone_model(trunk)
    frozen.trainable = False
    latent = keras.Input((LATENT,))
    generator_and_trunk = keras.Model(latent, frozen(generator(latent)))
    generator_and_trunk.compile(
        keras.optimizers.Adam(1e-3, beta_1=0.5),
        lambda real, generated: losses.feature_matching(real, generated) + losses.pull_away(generated),
    )
    rng = np.random.default_rng(0)
    labelled, unlabelled = rng.normal(size=(6000, FEATURES)), rng.normal(size=(ROWS, FEATURES))
    targets = losses.class_targets(CLASSES, 0.7).numpy()[np.arange(BATCH) % CLASSES]
    unlabelled_targets, generated_targets = np.tile([0.7, 0.3, 0], (BATCH, 1)), np.tile([0.0, 0, 1], (BATCH, 1))

    def iteration() -> None:
        noise = rng.normal(size=(BATCH, LATENT))
        real = unlabelled[rng.integers(0, ROWS, BATCH)]
        generated = generator.predict(noise, verbose=0) if predicting else generator(tf.constant(noise)).numpy()
        classes.train_on_batch(labelled[rng.integers(0, 6000, BATCH)], targets)
        source.train_on_batch(real, unlabelled_targets)
        source.train_on_batch(generated, generated_targets)
        frozen.set_weights(trunk.get_weights())
        real_features = trunk.predict(real, verbose=0) if predicting else trunk(tf.constant(real)).numpy()
        generator_and_trunk.train_on_batch(noise, real_features)

    return iteration


def rate(call: Callable[[], object], each: int, seconds: float = SECONDS) -> float:
    """Iterations per second of processor time of a call that runs `each`, warmed up."""
    call()
    began, calls = time.process_time(), 0
    while time.process_time() - began < seconds:
        call()
        calls += 1
    return each * calls / (time.process_time() - began)


def compiled_rate(**options) -> float:
    """Model-iterations per second."""
    run = program(**options)
    return rate(lambda: run(0), run.iterations * len(run.model.seeds))


def first_step() -> None:
    """In a process of its own: seconds from start to the first compiled call done, and peak memory."""
    run = program()
    run(0)
    factor = 1024 if sys.platform == "darwin" else 1
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / factor)


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    began = time.perf_counter()
    peak = subprocess.run([sys.executable, __file__, "first"], check=True, capture_output=True, text=True).stdout
    print(f"time to first step {time.perf_counter() - began:.1f} s (start of Python and TensorFlow included), ", end="")
    print(f"peak memory {float(peak):,.0f} MB\n", flush=True)
    with_predict, without = (rate(plain(predicting), 1) for predicting in (True, False))
    print(f"{'':38}{'iterations/s':>14}{'against plain':>15}{'without predict':>17}")
    for words, speed in (("plain train_on_batch loop", with_predict), ("  the same without predict", without)):
        print(f"{words:38}{speed:14,.1f}", flush=True)
    for networks in (1, 3, 10):
        speed = compiled_rate(networks=networks)
        name = f"compiled, {networks} network{'s' * (networks > 1)} (per network x {networks})"
        print(f"{name:38}{speed:14,.0f}{speed / with_predict:14,.0f}x{speed / without:16,.0f}x", flush=True)
    scaling()


def scaling() -> None:
    """How the speed of one network changes with the size of the data and of the network."""
    print("\none network, how iterations/s change")
    for words, options in (
        ("1,000 unlabelled rows", {"rows": 1_000}),
        ("1,000,000 unlabelled rows", {"rows": 1_000_000}),
        ("8 features", {"features": 8}),
        ("100 features", {"features": 100}),
        ("the project's default settings", project_settings()),
    ):
        print(f"{words:38}{compiled_rate(**options):14,.0f}", flush=True)


def project_settings() -> dict:
    """The settings of a new project, in place of the published ones."""
    from dataclasses import asdict

    from scarcegan.model.gan.settings import GanSettings

    return asdict(default_settings(GanSettings, {}))


if __name__ == "__main__":
    first_step() if sys.argv[1:] == ["first"] else main()
