"""Training: the compiled loop in pieces, with progress and a checkpoint between them. Files in and out: steps/train.py."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from scarcegan.model.gan import Hyperparameters, Rows, ScarceGAN

REPORTS = 20
STATE = "state.npz"


@dataclass(frozen=True)
class Snapshot:
    """The discriminator of every member after some iterations. weights: kernels and biases in layer order;
    losses [4, members]: supervised, unsupervised, generator, labelled accuracy, means since the last snapshot."""

    iteration: int
    weights: tuple[np.ndarray, ...]
    losses: np.ndarray


def train(
    rows: Rows,
    settings: Hyperparameters,
    seeds: Sequence[int],
    checkpoints: Path | None = None,
    report: Callable[[Snapshot], None] = lambda snapshot: None,
) -> list[Snapshot]:
    """Train the members and return REPORTS snapshots, the last one after the last iteration.

    With `checkpoints` the state is saved after each snapshot; a training that was killed goes on from there and ends with the
    weights of one that was not. A checkpoint of other rows, settings or seeds is left alone and not used.
    """
    gan = ScarceGAN(settings, rows, seeds)
    place = checkpoints / fingerprint(rows, settings, seeds) if checkpoints else None
    history = restore(gan, place) if place else []
    for stop in stops(settings.iterations)[len(history) :]:
        means = gan.train_iterations(tf.constant(stop - int(gan.iteration))).numpy()
        if not np.isfinite(means).all():
            raise FloatingPointError(f"the loss is no number after {stop} iterations; lower the learning rate")
        history.append(Snapshot(stop, tuple(w.numpy() for w in gan.discriminator_weights), means))
        if place:
            save(gan, history, place)
        report(history[-1])
    return history


def stops(iterations: int) -> list[int]:
    """Where the loop pauses: REPORTS times, evenly, the last time at the end."""
    return sorted({round(iterations * (i + 1) / REPORTS) for i in range(REPORTS)} - {0})


def fingerprint(rows: Rows, settings: Hyperparameters, seeds: Sequence[int]) -> str:
    """Identity of a training: its rows, settings and seeds."""
    digest = hashlib.sha256(repr((asdict(settings), list(seeds))).encode())
    for part in (rows.labelled, rows.unlabelled, rows.members, rows.counts):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def variables(gan: ScarceGAN) -> list:
    """Everything that changes in training, in a fixed order."""
    optimizers = (gan.discriminator_optimizer, gan.generator_optimizer)
    return [
        gan.iteration,
        *gan.discriminator_weights,
        *gan.generator.trainable_variables,
        *(variable for optimizer in optimizers for variable in optimizer.variables),
    ]


def save(gan: ScarceGAN, history: Sequence[Snapshot], folder: Path) -> None:
    """Write state and history; the file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"variable_{i}": np.asarray(v) for i, v in enumerate(variables(gan))}
    for i, snapshot in enumerate(history):
        arrays |= {f"weights_{i}_{j}": array for j, array in enumerate(snapshot.weights)}
        arrays |= {f"losses_{i}": snapshot.losses, f"iteration_{i}": np.asarray(snapshot.iteration)}
    partial = folder / f"{STATE}.{os.getpid()}"
    with partial.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / STATE)


def restore(gan: ScarceGAN, folder: Path) -> list[Snapshot]:
    """Put a saved state back and return its history; nothing saved gives an empty one."""
    if not (folder / STATE).exists():
        return []
    with np.load(folder / STATE) as state:
        for i, variable in enumerate(variables(gan)):
            variable.assign(state[f"variable_{i}"])
        count, width = sum(name.startswith("losses_") for name in state), len(gan.discriminator_weights)
        return [
            Snapshot(
                int(state[f"iteration_{i}"]),
                tuple(state[f"weights_{i}_{j}"] for j in range(width)),
                state[f"losses_{i}"],
            )
            for i in range(count)
        ]
