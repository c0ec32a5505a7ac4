"""Members: the families of models that are blended into the delivered one, and the rows they are trained on.

A family is a folder beside this file (gan/, trees/) with a class that follows `Member`, and an entry in
`steps/train.members`. Nothing here knows a family.
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
    """Rows of one table, as the features came and as members read them.

    raw: float32 [n, columns], NaN for missing. inputs: the layer that scales them.
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
    """All rows that a training reads. The held-out rows, in their order here, are those that members are compared by:
    labelled rows that some fold leaves out, then all validation rows.

    - inputs: the layer that scaled the rows; it is saved in the delivered model.
    - classes: how many classes there are; the rare one is `classes - 1`.
    - labelled, label: n rows, and the class of each, int [n].
    - fold: int [n], the fold of each labelled row, from 0 without gaps.
    - unlabelled: u rows.
    - validation, validation_label: v rows, and the class of each, int [v]; -1 for a row without a label.
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
        """bool [folds, n]: which labelled rows the model of each fold trains on."""
        return seen_by_fold(self.fold, self.label)

    @property
    def left_out(self) -> NDArray:
        """bool [n]: which labelled rows some fold leaves out."""
        return np.asarray(~self.seen.all(axis=0))

    def held_out(self, of_labelled: NDArray, of_validation: NDArray) -> NDArray:
        """Values of the held-out rows [h, …], from values of all labelled rows [n, …] and validation rows [v, …]."""
        return np.concatenate([of_labelled[self.left_out], of_validation])

    @property
    def held_out_label(self) -> NDArray:
        """int [h]: class of each held-out row; -1 without a label."""
        return self.held_out(self.label, self.validation_label)

    @property
    def never_saw(self) -> NDArray:
        """bool [folds, h]: for which held-out rows the model of each fold may be asked. Every row has one."""
        validation = np.ones((len(self.seen), len(self.validation_label)), bool)
        return np.concatenate([~self.seen[:, self.left_out], validation], axis=1)


def seen_by_fold(fold: NDArray, label: NDArray) -> NDArray:
    """bool [folds, n]: which labelled rows the model of each fold trains on: those of the other folds.

    All models train on a class whose rows are all in one fold, because a model that sees no row of a class would learn
    that there is no such class; and the only model trains on all rows when there is one fold. fold, label: int [n].
    """
    seen = fold[None] != np.arange(int(fold.max()) + 1)[:, None]
    for k in np.unique(label):
        rows = label == k
        if len(np.unique(fold[rows])) < 2:
            seen[:, rows] = True
    return seen


def mean_over_models(log_odds: NDArray, never_saw: NDArray) -> NDArray:
    """float64 [h]: mean log odds of each held-out row over the models that never saw it.

    log_odds [models, h]; never_saw bool [models, h], with a True for every row.
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
    """What a member says of n rows, as tensors in the graph and as arrays in training.

    - rare [n]: log odds of the rare class against all others.
    - unknown [n]: log odds that a row is of no known kind; None from a member that cannot tell.
    - negatives [n, K - 1]: logits of the other classes among themselves; None from a member that cannot tell.
    """

    rare: Any
    unknown: Any = None
    negatives: Any = None


class MemberLayer(Protocol):
    """A trained member as part of the TensorFlow graph that is saved."""

    def __call__(self, rows: tf.Tensor, wide: tf.Tensor) -> MemberScores:
        """MemberScores of rows [n, width], given clipped and wide (see ScaledRows)."""


class Fitted(Protocol):
    """A trained member.

    - weight: of its log odds in the sum over members.
    - held_out: what it says of the held-out rows, one entry per version. A member that is trained step by step keeps
      several versions of itself; one that is trained at once has one.
    """

    @property
    def weight(self) -> float: ...

    @property
    def held_out(self) -> Sequence[MemberScores]: ...

    def layer(self, version: int) -> MemberLayer:
        """The graph of one version, counted from 0 (the only one of a member that has one)."""


class Member(Protocol):
    """A family of models that rank users by rarity, with its settings."""

    def fit(self, rows: TrainingRows, seed: int) -> Fitted:
        """Train on these rows. Equal rows, settings and seeds give equal members."""


def blend(fitted: Sequence[Fitted]) -> list[MemberScores]:
    """What the members together say of the held-out rows: one entry per version of the first member.

    `rare` is the weighted sum of the members' log odds; `unknown` and `negatives` are the first member's. The others
    have one version, which goes with each of the first member's.
    """
    first, *others = fitted
    blended = []
    for scores in first.held_out:
        rare = first.weight * scores.rare
        for other in others:
            rare = rare + other.weight * other.held_out[0].rare
        blended.append(scores._replace(rare=rare))
    return blended
