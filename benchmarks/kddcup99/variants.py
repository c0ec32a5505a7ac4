"""ScarceGAN as the benchmark runs it: default and ablations, each a change of the settings of the project's model.

Five cross-fitted members per draw, like every other method. The compiled loop of one draw is used again for the next.
"""

import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kddcup99.compare import LOOKED_AT, MEMBERS, Rated, folds
from kddcup99.protocol import Draw

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.append(str(Path(__file__).resolve().parents[2] / "<<cookiecutter.project_slug>>" / "src"))

ROWS_AT_ONCE = 20_000
PARTS = 4  # calls of the compiled loop per training


# Chosen on held-out training rows (bench_kddcup99_models.py --choose); all else is the project's default.
CHOSEN = {"bins": 16, "learning_rate": 3e-3, "unsupervised_weight": 0.2}


@dataclass(frozen=True)
class Variant:
    """A change of the default: settings of gan.Settings, or how rows are prepared, or how many members there are."""

    settings: dict[str, Any] = field(default_factory=dict)
    logarithms: bool = True
    members: int = MEMBERS
    iterations: int = 1_500


DEFAULT = "ScarceGAN"
VARIANTS = {
    DEFAULT: Variant(),
    "  no leeway": Variant({"alpha": 1.0}),
    "  ordinary generator": Variant({"bad_generator": False}),
    "  vanilla SSGAN": Variant(
        {
            "alpha": 1.0,
            "bad_generator": False,
            "unlabelled_weight": 0.0,
            "unsupervised_weight": 1.0,
            "anchor": False,
        }
    ),
    "  class head alone (no GAN)": Variant({"alpha": 1.0, "unlabelled_weight": 0.0, "unsupervised_weight": 0.0}),
    "  unlabelled rows not in class head": Variant({"unlabelled_weight": 0.0}),
    "  no codes (bins 0)": Variant({"bins": 0}),
    "  no log1p": Variant(logarithms=False),
    "  one member": Variant(members=1),
    "  authors' behaviour": Variant(
        {
            "trunk": (15, 21, 8),
            "bins": 0,
            "expert": False,
            "anchor": False,
            "unlabelled_weight": 0.0,
            "unsupervised_weight": 1.0,
            "learning_rate": 1e-3,
            "generator_trains_trunk": True,
            "pull_away": "matrix",
            "matching": "labelled",
        },
        members=1,
    ),
}


@dataclass
class Runner:
    """Trains a variant on one draw after another. Draws of a task have the same shapes, so the loop compiles once."""

    variant: Variant
    _program: Any = None

    def __call__(self, draw: Draw) -> Rated:
        from scarcegan.model import gan, preprocessing

        settings = replace(gan.Settings(), **CHOSEN | self.variant.settings)
        unlabelled = draw.unlabelled[: len(draw.unlabelled) // 1_000 * 1_000]  # the same number for every draw
        raw = np.concatenate([draw.labelled.values, unlabelled])
        scaling = preprocessing.learn(raw, draw.task.features, self.variant.logarithms)
        labelled, unlabelled = scaling(draw.labelled.values).numpy(), scaling(unlabelled).numpy()
        rare = draw.labelled.rare
        fold = folds(draw.labelled.values, rare, draw.seed)
        seen = fold[None] != np.arange(self.variant.members)[:, None]
        edges = preprocessing.edges(np.concatenate([labelled, unlabelled]), settings.bins)
        seeds = gan.member_seeds(draw.seed, 1, self.variant.members)
        model = gan.ScarceGAN(labelled.shape[1], 2, seeds, settings, self.variant.iterations, edges)
        model = self._train(model, gan.pool(labelled, rare.astype(int), unlabelled, seen, 2))

        def score(rows: np.ndarray) -> np.ndarray:
            return log_odds(model, rows)

        own = score(labelled)
        return Rated(
            asked=score(scaling(draw.test.values).numpy()).mean(axis=0),
            own=np.concatenate([own[k][fold == k] for k in range(self.variant.members)]),
            own_rare=np.concatenate([rare[fold == k] for k in range(self.variant.members)]),
            unlabelled=score(unlabelled[:LOOKED_AT]).mean(axis=0),
            population=len(unlabelled),
        )

    def _train(self, model: Any, pool: Any) -> Any:
        """Train; the weights of later draws are put into the first draw's model, whose loop is compiled already."""
        from scarcegan.model import gan

        if self._program is None:
            self._program = gan.Program(model, pool, self.variant.iterations // PARTS)
        else:
            for mine, fresh in zip(variables(self._program.model), variables(model), strict=True):
                mine.assign(fresh)
            self._program.feed(pool, model.seeds)
        for part in range(PARTS):
            self._program(part * self._program.iterations)
        return self._program.model


def variables(model: Any) -> list:
    """All that differs between two models of the same settings: weights, optimisers, the edges of the codes."""
    return [*model.state, *model.discriminator.non_trainable_variables]


def log_odds(model: Any, rows: np.ndarray) -> np.ndarray:
    """Log odds of the rare class [members, n] of scaled rows [n, d]."""
    from scarcegan.model.networks import rare_log_odds

    parts = [rows[i : i + ROWS_AT_ONCE] for i in range(0, len(rows), ROWS_AT_ONCE)]
    return np.concatenate([rare_log_odds(model(part[None])[0]).numpy() for part in parts], axis=1)
