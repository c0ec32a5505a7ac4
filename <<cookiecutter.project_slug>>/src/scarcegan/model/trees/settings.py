"""Settings of the boosted trees: what a user may change about them. No TensorFlow and no scikit-learn here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TreeSettings:
    """Hyperparameters of the boosted trees. The values that a project begins with stand in pipeline/config.py.

    - even: 0 weighs rare rows alike; 1 weighs kinds of rare rows alike, however many rows each has (evenness.py).
    - caution: bounds the log odds of each group of trees (member.bounded); 0 is no bound.
    - boosting: trees per fold; 0: no trees.
    - boosting_weight: weight of the trees' log odds in the sum, in which those of the networks have weight 1.
    - neighbours: unlabelled rows to which the trees are told the distance; 0: no distances.
    """

    even: float
    caution: float
    boosting: int
    boosting_weight: float
    neighbours: int
