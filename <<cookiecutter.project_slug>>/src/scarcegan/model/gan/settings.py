"""Settings of a ScarceGAN: what a user may change about the networks and how they are trained. No TensorFlow here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GanSettings:
    """Hyperparameters of the networks. The default values are in pipeline/config.py.

    Networks
    - trunk: units of the discriminator's shared layers, one number per layer.
    - bins: bins per feature of the piecewise-linear encoding, which every second network reads; 0, or too many for the
      number of features (see bin_edges): no network reads it.
    - expert: add to the class logits a linear function of the scaled features.
    - generator: units of the generator's hidden layers, one number per layer.
    - latent: length of the random vectors that the generator turns into rows.

    Optimisation
    - batch_size: labelled rows per iteration; as many unlabelled and as many generated ones.
    - learning_rate: at the first iteration. decay: at the last iteration the rate is `decay` times the first; 1: it
      does not change.
    - weight_decay: of the discriminator (AdamW); 0: none.
    - class_weights: weight of each class in the supervised loss, in class order; empty: all 1.

    Losses (ScarceGAN, CIKM 2021, arXiv 2505.03811, section 3)
    - alpha: leeway. A labelled row of any class but the rare one has the targets `alpha` for its class and `1 - alpha`
      for unknown; 1: no leeway.
    - unlabelled_weight: weight of losses.not_rare; 0 as in the paper.
    - unsupervised_weight: weight of the source head's losses beside the supervised one; 1 as in the paper.
    - anchor: train the source head to call labelled rows healthy.
    - bad_generator: train the generator to fill regions of low density, as in the paper; False: an ordinary generator
      (with alpha 1, this is a vanilla SSGAN).
    - pull_away: how the pull-away term is computed, "rows" as in Zhao et al. 2017, "matrix" as in the authors' code.
    - pull_away_weight: of that term in the generator's loss.
    - matching: which rows the generated ones should resemble on average, "unlabelled", or "labelled" as in the authors'
      code. It, pull_away and pull_away_weight are read only with bad_generator.
    - generator_trains_trunk: let the generator's step change the trunk too, as the authors' code does.

    Rare class
    - even: from 0 to 1. 0: each rare row is drawn equally often; 1: each kind of rare rows is drawn equally often,
      however many rows it has (evenness.py).
    - caution: keeps the log odds of each network within about log(1 / caution) of 0; 0: no bound (member.bounded).
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
