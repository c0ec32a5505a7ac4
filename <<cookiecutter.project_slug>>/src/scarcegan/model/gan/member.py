"""The networks as a member of the delivered model: seeds x folds ScarceGANs, trained as one program and evaluated at
regular intervals.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from scarcegan.model.gan.networks import Discriminator, rare_log_odds, unknown_log_odds
from scarcegan.model.gan.scarcegan import Program, ScarceGAN, make_pool, network_seeds
from scarcegan.model.gan.settings import GanSettings
from scarcegan.model.gan.training import Checkpoint, Evaluation, HeldOutRows, train
from scarcegan.model.member import MemberScores, TrainingRows, bounded
from scarcegan.model.preprocessing import bin_edges


class NetworksLayer(tf.Module):
    """A trained discriminator as a MemberLayer of the delivered graph. Each of its scores is a mean over its networks,
    of log odds or logits, not of probabilities.

    caution: bounds the log odds of the rare class of each network before the mean (see member.bounded); 0: no bound.
    """

    def __init__(self, discriminator: Discriminator, caution: float) -> None:
        super().__init__(name="networks")
        self.discriminator, self.caution = discriminator, caution

    def __call__(self, rows: tf.Tensor, wide: tf.Tensor) -> MemberScores:
        """The MemberScores [n], float64 and with all fields, of clipped rows [n, width]; `wide` is not read."""
        class_logits, source_logits = self.discriminator(tf.cast(rows[None], tf.float64))
        return MemberScores(
            rare=tf.reduce_mean(bounded(rare_log_odds(class_logits), self.caution), axis=0),
            unknown=tf.reduce_mean(unknown_log_odds(source_logits), axis=0),
            negatives=tf.reduce_mean(class_logits[..., :-2], axis=0),
        )


@dataclass(frozen=True)
class FittedNetworks:
    """Trained networks, which follow the protocol member.Fitted with a version per evaluation.

    - discriminator: all networks in one; `layer` sets its weights to those of a version.
    - evaluations: those made during the training, the earliest first.
    - caution: bound of the log odds of each network, see member.bounded.
    - networks: how many there are (seeds x folds).
    - weight: of their log odds in the sum over members.
    """

    discriminator: Discriminator
    evaluations: list[Evaluation]
    caution: float
    networks: int
    weight: float = 1.0

    @property
    def held_out(self) -> list[MemberScores]:
        """The MemberScores of the held-out rows, one entry per evaluation: its `rare` and `unknown` (see Evaluation),
        which are means over the networks that were not trained on the row; `negatives` are None."""
        return [MemberScores(evaluation.rare, evaluation.unknown) for evaluation in self.evaluations]

    def layer(self, version: int) -> NetworksLayer:
        """The layer with the networks' weights at the evaluation of this position, counted from 0.

        All layers share one discriminator, so each call changes the layers that earlier calls returned.
        """
        weights = self.evaluations[version].weights
        for variable, weight in zip(self.discriminator.trainable_variables, weights, strict=True):
            variable.assign(weight)
        return NetworksLayer(self.discriminator, self.caution)


@dataclass(frozen=True)
class Networks:
    """Untrained ScarceGANs, which follow the protocol member.Member.

    - settings: hyperparameters. seeds: how many networks there are per fold.
    - iterations: how many each network is trained for, rounded up to a whole number of intervals.
    - reports: how many evaluations are made at most, one after each interval. An interval is iterations / reports,
      rounded up.
    - patience: training ends after so many evaluations in a row without a better PR-AUC (see training.stalled); 0: it
      never ends early.
    - report: is called with each evaluation as soon as it is made.
    - checkpoint: names the file from which an interrupted training goes on, and which is written after each
      evaluation; None: no file is read or written.
    """

    settings: GanSettings
    seeds: int
    iterations: int
    reports: int
    patience: int
    report: Callable[[Evaluation], None]
    checkpoint: Checkpoint | None = None

    def fit(self, rows: TrainingRows, seed: int) -> FittedNetworks:
        """Train the networks on these rows and return them; a line on stderr says so if training ended early.

        seed: of the whole training; each network gets a seed of its own from it.
        """
        seeds = network_seeds(seed, self.seeds, len(rows.seen))
        numbers = np.concatenate([rows.labelled.clipped, rows.unlabelled.clipped])[:, : rows.inputs.numeric_width]
        edges = bin_edges(numbers, self.settings.bins)
        model = ScarceGAN(rows.inputs.width, rows.classes, seeds, self.settings, self.iterations, edges)
        labelled = rows.inputs.forget_categories(rows.labelled.clipped, seed)
        unlabelled = rows.inputs.forget_categories(rows.unlabelled.clipped, seed + 1)
        seen, never_saw = (np.tile(folds, (self.seeds, 1)) for folds in (rows.seen, rows.never_saw))
        pool = make_pool(labelled, rows.label, unlabelled, seen, rows.classes, self.settings.even)
        held_out = rows.held_out(rows.labelled.clipped, rows.validation.clipped)
        interval = -(-self.iterations // self.reports)
        intervals = -(-self.iterations // interval)
        evaluations = train(
            Program(model, pool, interval),
            HeldOutRows(held_out, rows.held_out_label, never_saw),
            intervals,
            self.report,
            self.checkpoint,
            self.patience,
        )
        if len(evaluations) < intervals:
            print(
                f"train: stopped at iteration {evaluations[-1].iteration} of {self.iterations}: validation PR-AUC has "
                f"not risen for {self.patience} reports",
                file=sys.stderr,
            )
        return FittedNetworks(model.discriminator, evaluations, self.settings.caution, len(seeds))
