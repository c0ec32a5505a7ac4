"""Training: intervals of compiled iterations, a look at unseen rows after each, a checkpoint that survives a kill.

What an iteration does stands in gan.py; what is made of the looks in selection.py.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.evaluation import metrics
from scarcegan.model.gan.networks import bounded, rare_log_odds, unknown_log_odds
from scarcegan.model.gan.scarcegan import Program, ScarceGAN


@dataclass(frozen=True)
class Unseen:
    """Rows to look at: labelled training rows out of fold, then validation rows.

    values [n, features] scaled; label [n]; by [members, n]: which members never trained on the row. Every row has one.
    """

    values: NDArray
    label: NDArray
    by: NDArray


@dataclass(frozen=True)
class Look:
    """After `iteration` iterations: means of the reported figures since the last look [4, members], weights of the
    discriminator, log odds [n] of rare and unknown over the members that never saw the row, PR-AUC per member."""

    iteration: int
    figures: NDArray
    weights: list[NDArray]
    rare: NDArray
    unknown: NDArray
    pr_auc: NDArray


def train(
    program: Program,
    unseen: Unseen,
    intervals: int,
    report: Callable[[Look], None],
    checkpoint: "Checkpoint | None" = None,
    patience: int = 0,
) -> list[Look]:
    """Run `intervals` intervals, or until `stalled`, and return a look after each.

    A checkpoint is taken up where it stands.
    """
    looks = checkpoint.load(program.model) if checkpoint else []
    look = Looker(program.model, unseen)
    while len(looks) < intervals and not stalled(looks, patience):
        figures = program(len(looks) * program.iterations)
        looks.append(look((len(looks) + 1) * program.iterations, figures))
        report(looks[-1])
        if checkpoint:
            checkpoint.save(program.model, looks)
    return looks


def stalled(looks: list[Look], patience: int) -> bool:
    """Whether the best PR-AUC on unseen rows, averaged over members, is `patience` looks old. 0: never."""
    means = [np.nanmean(look.pr_auc) for look in looks]
    return 0 < patience < len(looks) and int(np.argmax(means)) < len(looks) - patience


@dataclass
class Looker:
    """Scores the unseen rows with the model as it stands."""

    model: ScarceGAN
    unseen: Unseen
    _score: Callable = field(init=False)

    def __post_init__(self) -> None:
        @tf.function
        def score(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            class_logits, source_logits = self.model(rows[None])
            rare = bounded(rare_log_odds(class_logits), self.model.settings.caution)
            return rare, unknown_log_odds(source_logits)

        self._score = score

    def __call__(self, iteration: int, figures: NDArray) -> Look:
        rare, unknown = (odds.numpy() for odds in self._score(tf.constant(self.unseen.values)))
        weights = [variable.numpy() for variable in self.model.discriminator.trainable_variables]
        each = np.array([self._pr_auc(odds, by) for odds, by in zip(rare, self.unseen.by, strict=True)])
        return Look(iteration, figures, weights, self._mean(rare), self._mean(unknown), each)

    def _mean(self, odds: NDArray) -> NDArray:
        return np.where(self.unseen.by, odds, 0).sum(axis=0) / self.unseen.by.sum(axis=0)

    def _pr_auc(self, odds: NDArray, by: NDArray) -> float:
        """Of one member, on the labelled rows it never saw; NaN if none of them is rare."""
        rows = by & (self.unseen.label >= 0)
        rare = np.asarray(self.unseen.label[rows] == self.model.discriminator.class_head.units - 2)
        return float(metrics.pr_auc(metrics.threshold_curve(rare, odds[rows]))[0]) if rare.any() else float("nan")


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds a training as it stands. One of other data or settings (fingerprint) is not taken up."""

    folder: Path
    fingerprint: str

    @property
    def path(self) -> Path:
        return self.folder / "training.npz"

    def save(self, model: ScarceGAN, looks: list[Look]) -> None:
        """Write the state and the looks so far; the file is the old one or the new one, never half of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"state_{i}": np.asarray(variable) for i, variable in enumerate(model.state)}
        arrays |= {"fingerprint": np.array(self.fingerprint), "looks": np.array(len(looks))}
        for number, look in enumerate(looks):
            arrays |= {f"look_{number}_{key}": np.asarray(getattr(look, key)) for key in self.KEYS}
            arrays |= {f"look_{number}_weight_{i}": weight for i, weight in enumerate(look.weights)}
        unfinished = self.folder / ".training.npz.unfinished"
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self.path)

    def load(self, model: ScarceGAN) -> list[Look]:
        """Put the state into the model and return the looks; no looks if there is nothing to take up."""
        try:
            with np.load(self.path) as found:
                arrays = dict(found)
        except (FileNotFoundError, BadZipFile, ValueError, EOFError):
            return []
        if str(arrays["fingerprint"]) != self.fingerprint:
            return []
        for i, variable in enumerate(model.state):
            variable.assign(arrays[f"state_{i}"])
        weights = len(model.discriminator.trainable_variables)
        return [self._look(arrays, number, weights) for number in range(int(arrays["looks"]))]

    KEYS = ("iteration", "figures", "rare", "unknown", "pr_auc")

    def _look(self, arrays: dict[str, NDArray], number: int, weights: int) -> Look:
        found = {key: arrays[f"look_{number}_{key}"] for key in self.KEYS}
        own = [arrays[f"look_{number}_weight_{i}"] for i in range(weights)]
        return Look(int(found["iteration"]), found["figures"], own, found["rare"], found["unknown"], found["pr_auc"])
