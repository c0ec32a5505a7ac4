"""The networks as a member: ScarceGANs (seeds x folds) trained as one program and evaluated after every interval."""

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
    """Means over the networks of a trained discriminator, as part of the delivered graph. See member.MemberLayer."""

    def __init__(self, discriminator: Discriminator, caution: float) -> None:
        super().__init__(name="networks")
        self.discriminator, self.caution = discriminator, caution

    def __call__(self, rows: tf.Tensor, wide: tf.Tensor) -> MemberScores:
        """MemberScores of rows [n, width]; `wide` is not read."""
        class_logits, source_logits = self.discriminator(rows[None])
        return MemberScores(
            rare=tf.reduce_mean(bounded(rare_log_odds(class_logits), self.caution), axis=0),
            unknown=tf.reduce_mean(unknown_log_odds(source_logits), axis=0),
            negatives=tf.reduce_mean(class_logits[..., :-2], axis=0),
        )


@dataclass(frozen=True)
class FittedNetworks:
    """Trained networks: a version per evaluation. networks: how many there are. See member.Fitted."""

    discriminator: Discriminator
    evaluations: list[Evaluation]
    caution: float
    networks: int
    weight: float = 1.0

    @property
    def held_out(self) -> list[MemberScores]:
        return [MemberScores(evaluation.rare, evaluation.unknown) for evaluation in self.evaluations]

    def layer(self, version: int) -> NetworksLayer:
        """The networks with the weights of that evaluation. Layers share their variables: the latest call sets them."""
        weights = self.evaluations[version].weights
        for variable, weight in zip(self.discriminator.trainable_variables, weights, strict=True):
            variable.assign(weight)
        return NetworksLayer(self.discriminator, self.caution)


@dataclass(frozen=True)
class Networks:
    """ScarceGANs, a number of them per fold. See member.Member.

    - seeds: networks per fold. iterations: of each.
    - reports: evaluations, evenly spread over the iterations.
    - patience: evaluations without a better PR-AUC after which training ends; 0: it goes on to the end.
    - report: is given each evaluation as soon as it is made.
    - checkpoint: where the state is kept while training goes on.
    """

    settings: GanSettings
    seeds: int
    iterations: int
    reports: int
    patience: int
    report: Callable[[Evaluation], None]
    checkpoint: Checkpoint | None = None

    def fit(self, rows: TrainingRows, seed: int) -> FittedNetworks:
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
