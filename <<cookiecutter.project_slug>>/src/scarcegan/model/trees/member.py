"""The boosted trees as a member of the delivered model: a group of trees per fold, which read the scaled rows and how
near the nearest unlabelled rows are.
"""

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
    """Grown trees as a MemberLayer of the delivered graph: log odds of the rare class, averaged over the groups.

    caution: bounds the log odds of each group before the mean (see member.bounded); 0: no bound.
    """

    def __init__(self, trees: Trees, caution: float) -> None:
        super().__init__(name="trees")
        self.boosting, self.caution = Boosting(trees), caution

    def __call__(self, rows: tf.Tensor, wide: tf.Tensor) -> MemberScores:
        """The MemberScores of n scaled rows: `rare` float64 [n]; `unknown` and `negatives` are None.

        rows, wide [n, width]: the same rows with numbers clipped to [-CLIP, CLIP] and to [-WIDE, WIDE].
        """
        return MemberScores(rare=tf.reduce_mean(bounded(self.boosting(rows, wide=wide), self.caution), axis=0))


@dataclass(frozen=True)
class FittedTrees:
    """Grown trees, which follow the protocol member.Fitted with one version.

    - trees: all groups, as scikit-learn grew them.
    - held_out: one entry, their scores of the held-out rows; only `rare` is there: log odds averaged over the groups
      that were not grown on the row.
    - weight: of their log odds in the sum over members.
    - caution: bound of the log odds of each group, see member.bounded.
    """

    trees: Trees
    held_out: list[MemberScores]
    weight: float
    caution: float

    def layer(self, version: int) -> TreesLayer:
        """The trees for the delivered graph; `version` is not read, because there is only one."""
        return TreesLayer(self.trees, self.caution)


@dataclass(frozen=True)
class BoostedTrees:
    """Boosted trees before growing, `settings.boosting` (at least 1) per fold; follows the protocol member.Member."""

    settings: TreeSettings

    def fit(self, rows: TrainingRows, seed: int) -> FittedTrees:
        """Grow the trees on these rows and return them; a line of progress goes to stderr.

        seed: of all that is drawn at random; equal seeds give equal trees.
        """
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
