"""Settings of a ScarceGAN: what a user may change about the networks and how they are trained. No TensorFlow here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GanSettings:
    """Hyperparameters of the networks. The values that a project begins with stand in pipeline/config.py.

    Networks
    - trunk: units of the discriminator's shared layers, one number per layer.
    - bins: bins per feature of the piecewise-linear encoding, which every other network reads; 0: none reads it.
    - expert: add to the class logits a linear function of the features.
    - generator: units of the generator's hidden layers, one number per layer.
    - latent: length of the random vectors that the generator turns into rows.

    Optimisation
    - batch_size: labelled rows per iteration; as many unlabelled and as many generated ones.
    - learning_rate: at the first iteration. decay: the part of it that is left at the last one.
    - weight_decay: of the discriminator (AdamW); 0 is none.
    - class_weights: weight of each class in the supervised loss, in class order; empty: all 1.

    Losses (ScarceGAN, CIKM 2021, arXiv 2505.03811, section 3)
    - alpha: leeway. A labelled negative counts as `alpha` its class and `1 - alpha` unknown; 1 is no leeway.
    - unlabelled_weight: weight of losses.not_rare; 0 as in the paper.
    - unsupervised_weight: weight of the source head's losses beside the supervised one; 1 as in the paper.
    - anchor: train the source head to call labelled rows healthy.
    - bad_generator: train the generator to fill regions of low density, as in the paper; False: an ordinary generator
      (with alpha 1, this is a vanilla SSGAN).
    - pull_away, pull_away_weight: "rows" is Zhao et al. 2017, "matrix" the authors' code; weight in the generator's
      loss.
    - matching: which rows the generated ones should resemble on average; "labelled" is the authors' code.
    - generator_trains_trunk: let the generator's step change the trunk too, as the authors' code does.

    Rare class
    - even: 0 draws rare rows alike; 1 draws kinds of rare rows alike, however many rows each has (evenness.py).
    - caution: bounds the log odds of each network (member.bounded); 0 is no bound.
    """

    trunk: tuple[int, ...]
    bins: int
    generator: tuple[int, ...]
    latent: int
    batch_size: int
    learning_rate: float
    decay: float
    weight_decay: float
    alpha: float
    unlabelled_weight: float
    unsupervised_weight: float
    bad_generator: bool
    pull_away: Literal["rows", "matrix"]
    pull_away_weight: float
    matching: Literal["unlabelled", "labelled"]
    generator_trains_trunk: bool
    anchor: bool
    expert: bool
    even: float
    caution: float
    class_weights: tuple[float, ...]
