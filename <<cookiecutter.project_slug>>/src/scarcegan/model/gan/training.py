"""Training of the networks: intervals of compiled iterations, with an evaluation and a saved checkpoint after each.

An iteration is defined in scarcegan.py; evaluation/selection.py decides which evaluation a delivered model is made of.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.errors import UserError
from scarcegan.evaluation import metrics
from scarcegan.model.gan.networks import rare_log_odds, unknown_log_odds
from scarcegan.model.gan.scarcegan import Program, ScarceGAN
from scarcegan.model.member import bounded, mean_over_models


@dataclass(frozen=True)
class HeldOutRows:
    """The rows on which networks are evaluated (see member.TrainingRows), as the networks read them.

    - values float32 [h, width]: clipped rows.
    - label int [h]: class of each row, or -1 for a row without a label.
    - never_saw bool [networks, h]: whether a network was not trained on a row; every row has at least one such network.
    """

    values: NDArray
    label: NDArray
    never_saw: NDArray


@dataclass(frozen=True)
class Evaluation:
    """The state and the figures of all networks after a number of iterations.

    - iteration: how many iterations were done since the training began.
    - figures float32 [4, networks]: supervised loss, unsupervised loss, generator's loss and accuracy, averaged over
      the iterations since the evaluation before.
    - weights: of the discriminators, an array [networks, …] per trainable variable, in the model's order.
    - rare, unknown float64 [h]: log odds of the rare class (bounded by settings.caution) and of unknown for each
      held-out row, averaged over the networks that were not trained on it.
    - pr_auc float [networks]: area under each network's precision-recall curve on the labelled held-out rows that it
      was not trained on; NaN if none of them is rare.
    """

    iteration: int
    figures: NDArray
    weights: list[NDArray]
    rare: NDArray
    unknown: NDArray
    pr_auc: NDArray


def train(
    program: Program,
    rows: HeldOutRows,
    intervals: int,
    report: Callable[[Evaluation], None],
    checkpoint: "Checkpoint | None" = None,
    patience: int = 0,
) -> list[Evaluation]:
    """Call the program, which trains its model, `intervals` times, and evaluate the model after each call; return the
    evaluations, the earliest first.

    - rows: the held-out rows on which the model is evaluated.
    - report: is called with each evaluation as soon as it is made.
    - checkpoint: the training goes on from the state that `checkpoint.load` finds, if any; the evaluations in the file
      count among the `intervals` and are returned, but not reported again. The file is written after each call. None:
      no file is read or written.
    - patience: training ends early when it has `stalled` with this patience; 0: never.
    """
    evaluations = checkpoint.load(program.model) if checkpoint else []
    evaluate = Evaluator(program.model, rows)
    while len(evaluations) < intervals and not stalled(evaluations, patience):
        figures = program(len(evaluations) * program.iterations)
        evaluations.append(evaluate((len(evaluations) + 1) * program.iterations, figures))
        report(evaluations[-1])
        if checkpoint:
            checkpoint.save(program.model, evaluations)
    return evaluations


def stalled(evaluations: Sequence[Evaluation], patience: int) -> bool:
    """Whether none of the last `patience` evaluations has a better PR-AUC, averaged over networks, than the best before
    them.

    Networks whose PR-AUC is NaN are left out of the mean; an evaluation in which all are counts as worst. False when
    that is so in every evaluation, when there are not more than `patience` evaluations, and always for patience 0.
    """
    known = [evaluation.pr_auc[~np.isnan(evaluation.pr_auc)] for evaluation in evaluations]
    means = [float(values.mean()) if len(values) else -np.inf for values in known]
    late = 0 < patience < len(evaluations) and int(np.argmax(means)) < len(evaluations) - patience
    return late and max(means) > -np.inf


@dataclass
class Evaluator:
    """A function object that makes an Evaluation of the present weights of `model`. rows: those it is evaluated on."""

    model: ScarceGAN
    rows: HeldOutRows
    _log_odds: Callable = field(init=False)

    def __post_init__(self) -> None:
        @tf.function
        def log_odds(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            class_logits, source_logits = self.model(rows[None])
            rare = bounded(rare_log_odds(class_logits), self.model.settings.caution)
            return rare, unknown_log_odds(source_logits)

        self._log_odds = log_odds

    def __call__(self, iteration: int, figures: NDArray) -> Evaluation:
        """The Evaluation of the model as it is now. iteration, figures: stored in it unchanged (see Evaluation).

        Raises UserError when a network gives what is not a number, because its training has diverged.
        """
        rare, unknown = (odds.numpy() for odds in self._log_odds(tf.constant(self.rows.values)))
        if wrong := int((np.isnan(rare) | np.isnan(unknown)).any(axis=1).sum()):
            raise UserError(
                f"the training diverged: after {iteration} iterations {wrong} of {len(rare)} networks give no numbers. "
                "Lower train.learning_rate, or set train.scaling to robust."
            )
        weights = [variable.numpy() for variable in self.model.discriminator.trainable_variables]
        pr_auc = np.array([self._pr_auc(odds, own) for odds, own in zip(rare, self.rows.never_saw, strict=True)])
        rare, unknown = (mean_over_models(odds, self.rows.never_saw) for odds in (rare, unknown))
        return Evaluation(iteration, figures, weights, rare, unknown, pr_auc)

    def _pr_auc(self, log_odds: NDArray, never_saw: NDArray) -> float:
        """PR-AUC of one network from its log odds [h], on the labelled rows among never_saw bool [h]; NaN if none of
        these is rare."""
        own = never_saw & (self.rows.label >= 0)
        rare = np.asarray(self.rows.label[own] == self.model.discriminator.class_head.units - 2)
        return float(metrics.pr_auc(metrics.threshold_curve(rare, log_odds[own]))[0]) if rare.any() else float("nan")


@dataclass(frozen=True)
class Checkpoint:
    """The file training.npz in `folder`, from which an interrupted training can go on. `save` makes both.

    fingerprint: a text that differs for other data, settings or code. A file with another fingerprint is ignored.
    """

    folder: Path
    fingerprint: str

    @property
    def path(self) -> Path:
        """The file, whether it exists or not."""
        return self.folder / "training.npz"

    def save(self, model: ScarceGAN, evaluations: Sequence[Evaluation]) -> None:
        """Write the model's state and the evaluations so far, in place of the old file.

        If the process is killed meanwhile, the file is either the complete old one or the complete new one.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"state_{i}": np.asarray(variable) for i, variable in enumerate(model.state)}
        arrays |= {"fingerprint": np.array(self.fingerprint), "evaluations": np.array(len(evaluations))}
        for number, evaluation in enumerate(evaluations):
            arrays |= {f"evaluation_{number}_{key}": np.asarray(getattr(evaluation, key)) for key in self.KEYS}
            arrays |= {f"evaluation_{number}_weight_{i}": weight for i, weight in enumerate(evaluation.weights)}
        unfinished = self.folder / ".training.npz.unfinished"
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self.path)

    def load(self, model: ScarceGAN) -> list[Evaluation]:
        """Put the saved state into the model and return the saved evaluations.

        Without a file, or with a damaged one or one of another fingerprint, the model stays as it is and the list
        is empty.
        """
        weights = len(model.discriminator.trainable_variables)
        try:
            with np.load(self.path) as arrays:
                if str(arrays["fingerprint"]) != self.fingerprint:
                    return []
                state = [arrays[f"state_{i}"] for i in range(len(model.state))]
                evaluations = [self._evaluation(arrays, i, weights) for i in range(int(arrays["evaluations"]))]
        except Exception:
            return []
        for variable, value in zip(model.state, state, strict=True):
            variable.assign(value)
        return evaluations

    KEYS = ("iteration", "figures", "rare", "unknown", "pr_auc")

    def _evaluation(self, arrays: dict[str, NDArray], number: int, weights: int) -> Evaluation:
        """The Evaluation at position `number`, from the arrays of the file; weights: how many weight arrays it has."""
        found = {key: arrays[f"evaluation_{number}_{key}"] for key in self.KEYS}
        own = [arrays[f"evaluation_{number}_weight_{i}"] for i in range(weights)]
        return Evaluation(
            int(found["iteration"]), found["figures"], own, found["rare"], found["unknown"], found["pr_auc"]
        )
