"""Members: the models (networks, trees) that are blended into the delivered model, and the rows they are trained on.

Each kind of member is a folder beside this file (gan/, trees/) with a class that follows the protocol `Member`, and an
entry in `steps/train.members`. Nothing in this file depends on a kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.model.inputs import Inputs
from scarcegan.model.preprocessing import WIDE


@dataclass(frozen=True)
class ScaledRows:
    """Rows of one table, raw and as the members read them. `clipped` and `wide` hold the scaled rows; each is computed
    when first read, then kept in this object.

    raw: float32 [n, columns], features before scaling, NaN for missing. inputs: the layer that scales them.
    """

    raw: NDArray
    inputs: Inputs

    @cached_property
    def clipped(self) -> NDArray:
        """float32 [n, width]: scaled numbers within [-CLIP, CLIP], then the columns of categories."""
        return self.inputs(self.raw).numpy()

    @cached_property
    def wide(self) -> NDArray:
        """float32 [n, width]: as `clipped`, but with numbers within [-WIDE, WIDE], so that far rows stay apart."""
        return self.inputs(self.raw, bound=WIDE).numpy()


@dataclass(frozen=True)
class TrainingRows:
    """All rows that one training reads.

    - inputs: the layer that scaled the rows; it is saved in the delivered model.
    - classes: how many classes there are; the rare one is `classes - 1`.
    - labelled, label: ScaledRows of n labelled training rows, and the class of each, int [n].
    - fold: int [n], the fold of each labelled row, from 0 without gaps.
    - unlabelled: ScaledRows of u training rows without a label.
    - validation, validation_label: ScaledRows of v validation rows, and the class of each, int [v]; -1 for a row
      without a label.

    Its h held-out rows, by which members are compared, are the labelled rows that the model of some fold does not train
    on, then all validation rows; all arrays [h] are in this order.
    """

    inputs: Inputs
    classes: int
    labelled: ScaledRows
    label: NDArray
    fold: NDArray
    unlabelled: ScaledRows
    validation: ScaledRows
    validation_label: NDArray

    @property
    def rare(self) -> NDArray:
        """bool [n]: which labelled rows are of the rare class."""
        return np.asarray(self.label == self.classes - 1)

    @cached_property
    def seen(self) -> NDArray:
        """bool [folds, n]: which labelled rows the model of each fold trains on; see seen_by_fold."""
        return seen_by_fold(self.fold, self.label)

    @property
    def left_out(self) -> NDArray:
        """bool [n]: which labelled rows the model of at least one fold does not train on."""
        return np.asarray(~self.seen.all(axis=0))

    def held_out(self, of_labelled: NDArray, of_validation: NDArray) -> NDArray:
        """Pick the entries of the held-out rows from two arrays: an array [h, …], first from of_labelled [n, …], which
        has an entry per labelled row, then all of of_validation [v, …], which has an entry per validation row."""
        return np.concatenate([of_labelled[self.left_out], of_validation])

    @property
    def held_out_label(self) -> NDArray:
        """int [h]: class of each held-out row; -1 for a validation row without a label."""
        return self.held_out(self.label, self.validation_label)

    @property
    def never_saw(self) -> NDArray:
        """bool [folds, h]: which held-out rows the model of each fold did not train on. Every held-out row has at least
        one such model; validation rows have all."""
        validation = np.ones((len(self.seen), len(self.validation_label)), bool)
        return np.concatenate([~self.seen[:, self.left_out], validation], axis=1)


def seen_by_fold(fold: NDArray, label: NDArray) -> NDArray:
    """bool [folds, n]: which labelled rows the model of each fold trains on: those of the other folds.

    There are two exceptions. If all rows of a class are in one fold, every model trains on them, because a model that
    sees no row of a class would learn that there is no such class. If there is one fold, its model trains on all rows.
    fold int [n]: from 0 without gaps. label int [n]: class.
    """
    seen = fold[None] != np.arange(int(fold.max()) + 1)[:, None]
    for k in np.unique(label):
        rows = label == k
        if len(np.unique(fold[rows])) < 2:
            seen[:, rows] = True
    return seen


def mean_over_models(log_odds: NDArray, never_saw: NDArray) -> NDArray:
    """float64 [h]: for each held-out row, the mean of its log odds over the models that did not train on it.

    log_odds [models, h]: by model and held-out row. never_saw bool [models, h]: whether the model did not train on the
    row; every row needs at least one True.
    """
    return np.where(never_saw, log_odds, 0).sum(axis=0) / never_saw.sum(axis=0)


def bounded(log_odds: tf.Tensor, caution: float) -> tf.Tensor:
    """Log odds of the same shape, moved to within about log(1 / caution) of 0, so that no model outvotes all others.

    Log odds of a probability p become log((p + caution) / (1 - p + caution)). caution 0 returns them unchanged.
    """
    if not caution:
        return log_odds
    return tf.math.log(tf.sigmoid(log_odds) + caution) - tf.math.log(tf.sigmoid(-log_odds) + caution)


class MemberScores(NamedTuple):
    """A member's scores of n rows: tensors when the delivered graph computes them, numpy arrays in training.

    - rare [n]: log odds of the rare class against all other classes together, uncalibrated. A member bounds them by its
      caution (see bounded) before it averages them over its models.
    - unknown [n]: log odds that a row is like none of the known classes; None from a member without such a score.
    - negatives [n, K - 1]: logits of the classes that are not rare, in class order; None from a member without them.
    """

    rare: Any
    unknown: Any = None
    negatives: Any = None


class MemberLayer(Protocol):
    """A trained member as part of the TensorFlow graph that is saved."""

    def __call__(self, rows: tf.Tensor, wide: tf.Tensor) -> MemberScores:
        """The MemberScores, as float64 tensors, of n scaled rows.

        rows, wide float32 [n, width]: the same rows with numbers clipped to [-CLIP, CLIP] and to [-WIDE, WIDE].
        """


class Fitted(Protocol):
    """A trained member, in one or more versions: states that it had during training, the earliest first.

    - weight: factor of its log odds in the sum over members.
    - held_out: its scores of the held-out rows (see TrainingRows), each by the models of the folds that were not
      trained on the row; one entry per version.
    Networks keep a version per evaluation during training; trees have only one.
    """

    @property
    def weight(self) -> float: ...

    @property
    def held_out(self) -> Sequence[MemberScores]: ...

    def layer(self, version: int) -> MemberLayer:
        """The layer, for the delivered graph, of a version.

        version: its position, from 0, in the `held_out` of the member with several versions; a member with one version
        returns that one, whatever the number. A later call may change the layers that earlier calls returned.
        """


class Member(Protocol):
    """An untrained member with its settings: networks or trees that score how likely a row is of the rare class."""

    def fit(self, rows: TrainingRows, seed: int) -> Fitted:
        """Train on these rows and return the trained member. Equal rows, settings and seeds give equal results."""


def blend(fitted: Sequence[Fitted]) -> list[MemberScores]:
    """The blended scores [h] of the held-out rows (see TrainingRows): one entry per version of the first member.

    `rare` is the sum over members of weight times log odds (no mean, no further bound); `unknown` and `negatives` are
    the first member's. The first member may have several versions; of every other member the first version is taken
    each time.
    """
    first, *others = fitted
    blended = []
    for scores in first.held_out:
        rare = first.weight * scores.rare
        for other in others:
            rare = rare + other.weight * other.held_out[0].rare
        blended.append(scores._replace(rare=rare))
    return blended
