"""The boosted trees as a member: a group of trees per fold, told how near their unlabelled neighbours are."""

import sys
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from scarcegan.model import evenness
from scarcegan.model.member import MemberScores, ScaledRows, TrainingRows, bounded
from scarcegan.model.trees.boosting import Boosting, Trees, grow_trees, tree_inputs
from scarcegan.model.trees.neighbours import draw_neighbours
from scarcegan.model.trees.settings import TreeSettings


class TreesLayer(tf.Module):
    """Mean over the groups of trees, as part of the delivered graph. See member.MemberLayer."""

    def __init__(self, trees: Trees, caution: float) -> None:
        super().__init__(name="trees")
        self.boosting, self.caution = Boosting(trees), caution

    def __call__(self, rows: tf.Tensor, wide: tf.Tensor) -> MemberScores:
        """MemberScores of rows [n, width], clipped and wide. `unknown` and `negatives` are None."""
        return MemberScores(rare=tf.reduce_mean(bounded(self.boosting(rows, wide=wide), self.caution), axis=0))


@dataclass(frozen=True)
class FittedTrees:
    """Grown trees, in one version. See member.Fitted."""

    trees: Trees
    held_out: list[MemberScores]
    weight: float
    caution: float

    def layer(self, version: int) -> TreesLayer:
        return TreesLayer(self.trees, self.caution)


@dataclass(frozen=True)
class BoostedTrees:
    """Gradient-boosted trees, `settings.boosting` per fold, at least 1. See member.Member."""

    settings: TreeSettings

    def fit(self, rows: TrainingRows, seed: int) -> FittedTrees:
        neighbours = draw_neighbours(rows.unlabelled.wide, self.settings.neighbours, seed)

        def inputs(clipped: np.ndarray, table: ScaledRows) -> np.ndarray:
            return tree_inputs(clipped, table.wide, neighbours).numpy()

        print(f"train: growing {self.settings.boosting} trees for each of {len(rows.seen)} folds", file=sys.stderr)
        labelled = rows.inputs.forget_categories(rows.labelled.clipped, seed)
        weight = evenness.weigh_rare_rows(labelled, rows.rare, self.settings.even)
        trees = grow_trees(
            inputs(labelled, rows.labelled), rows.rare, weight, rows.seen, self.settings.boosting, seed, neighbours
        )
        held_out = rows.held_out(
            inputs(rows.labelled.clipped, rows.labelled), inputs(rows.validation.clipped, rows.validation)
        )
        rare = trees.held_out_log_odds(held_out, rows.never_saw, self.settings.caution)
        return FittedTrees(trees, [MemberScores(rare)], self.settings.boosting_weight, self.settings.caution)
