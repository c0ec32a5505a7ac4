"""Settings of the boosted trees: what a user may change about them. No TensorFlow and no scikit-learn here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TreeSettings:
    """Hyperparameters of the boosted trees. The default values are in pipeline/config.py.

    - even: from 0 to 1. 0: each rare row has the same weight; 1: each kind of rare rows has the same total weight,
      however many rows it has (evenness.py).
    - caution: keeps the log odds of each group of trees within about log(1 / caution) of 0; 0: no bound
      (member.bounded).
    - boosting: how many trees are grown per fold; 0: no trees.
    - boosting_weight: weight of the trees' log odds in the sum, in which those of the networks have weight 1.
    - neighbours: how many unlabelled rows are drawn as reference rows. The trees read a row's distances to the nearest
      of these; 0: they read no distances.
    """

    even: float
    caution: float
    boosting: int
    boosting_weight: float
    neighbours: int
