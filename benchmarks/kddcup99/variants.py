"""ScarceGAN as the benchmark runs it: default and ablations, each a change of the settings of the project's model.

Five cross-fitted members per draw, like every other method. The compiled loop of one draw is used again for the next.
"""

import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from default_settings import default_settings

from kddcup99.compare import LOOKED_AT, MEMBERS, Rated, even_weights, folds
from kddcup99.protocol import Draw

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.append(str(Path(__file__).resolve().parents[2] / "<<cookiecutter.project_slug>>" / "src"))

ROWS_AT_ONCE = 20_000
PARTS = 4  # calls of the compiled loop per training


# Chosen on held-out training rows (bench_kddcup99_models.py --choose); all else is the project's default.
CHOSEN = {"bins": 16, "learning_rate": 3e-3, "unsupervised_weight": 0.2}


@dataclass(frozen=True)
class Variant:
    """A change of the default: of the settings, of how many members there are, or leaving the networks out."""

    settings: dict[str, Any] = field(default_factory=dict)
    network: bool = True
    members: int = MEMBERS
    iterations: int = 1_500


DEFAULT = "ScarceGAN"
ALONE = {"boosting": 0, "even": 0.0, "caution": 0.0}
VANILLA = ALONE | {"alpha": 1.0, "bad_generator": False, "unlabelled_weight": 0.0, "anchor": False}
VARIANTS = {
    DEFAULT: Variant(),
    "  no trees": Variant({"boosting": 0}),
    "  trees alone": Variant(network=False),
    "  no neighbours": Variant({"neighbours": 0}),
    "  no caution": Variant({"caution": 0.0}),
    "  no leeway": Variant({"alpha": 1.0}),
    "  ordinary generator": Variant({"bad_generator": False}),
    "  unlabelled_weight 0": Variant({"unlabelled_weight": 0.0}),
    "  no expert": Variant({"expert": False}),
    "  vanilla SSGAN": Variant(VANILLA | {"unsupervised_weight": 1.0}),
    "  authors' behaviour": Variant(
        ALONE
        | {
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
    "  not evened out": Variant({"even": 0.0}),
    "  class head alone (no GAN)": Variant({"alpha": 1.0, "unlabelled_weight": 0.0, "unsupervised_weight": 0.0}),
    "  no codes (bins 0)": Variant({"bins": 0}),
}
Scores = dict[str, np.ndarray]  # of rows "asked" about, "own" labelled ones, "unlabelled" ones: [members, n]


@dataclass
class Kept:
    """Scores of one task's draws, for variants that differ in what is made of them only."""

    task: str = ""
    scores: dict[Any, Scores] = field(default_factory=dict)

    def get(self, draw: Draw, what: Any, compute: Callable[[], Scores]) -> Scores:
        if draw.task.name != self.task:
            self.task, self.scores = draw.task.name, {}
        key = (draw.seed, zlib.crc32(draw.test.values.tobytes()), what)
        if key not in self.scores:
            self.scores[key] = compute()
        return self.scores[key]


KEPT = Kept()


@dataclass(frozen=True)
class Scaled:
    """A draw as networks see it, `wide`: before its values are clipped, and which rows each member sees."""

    rows: dict[str, np.ndarray]
    wide: dict[str, np.ndarray]
    rare: np.ndarray
    unlabelled: np.ndarray
    fold: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, draw: Draw, members: int) -> "Scaled":
        from scarcegan.model import preprocessing

        unlabelled = draw.unlabelled[: len(draw.unlabelled) // 1_000 * 1_000]  # the same number for every draw
        scaling = preprocessing.learn_scaling(np.concatenate([draw.labelled.values, unlabelled]), draw.task.features)
        raw = {"asked": draw.test.values, "own": draw.labelled.values, "unlabelled": unlabelled[:LOOKED_AT]}
        rows, wide = (
            {name: scaling(values, bound=bound).numpy() for name, values in raw.items()}
            for bound in (preprocessing.CLIP, preprocessing.WIDE)
        )
        fold = folds(draw.labelled.values, draw.labelled.rare, draw.seed)
        seen = fold[None] != np.arange(members)[:, None]
        return cls(rows, wide, draw.labelled.rare, scaling(unlabelled).numpy(), fold, seen)

    def read_by_trees(self, settings: Any, seed: int) -> dict[str, np.ndarray]:
        """The rows with their distance to some of the unlabelled ones."""
        from scarcegan.model.trees import boosting, neighbours

        near = neighbours.draw_neighbours(self.wide["unlabelled"], settings.neighbours, seed)
        return {name: boosting.tree_inputs(rows, self.wide[name], near).numpy() for name, rows in self.rows.items()}


def scores(rows: dict[str, np.ndarray], score: Callable[[np.ndarray], np.ndarray]) -> Scores:
    """What `score` says of all rows; equal ones are asked about once."""
    asked, place = np.unique(rows["asked"], axis=0, return_inverse=True)
    others = {name: score(each) for name, each in rows.items() if name != "asked"}
    return others | {"asked": score(asked)[:, place.ravel()]}


@dataclass
class Runner:
    """Trains a variant on one draw after another. Draws of a task have the same shapes, so the loop compiles once."""

    variant: Variant
    _program: Any = None

    def __call__(self, draw: Draw) -> Rated:
        from scarcegan.model.gan.settings import GanSettings
        from scarcegan.model.trees.settings import TreeSettings

        changes = CHOSEN | self.variant.settings
        settings, trees = default_settings(GanSettings, changes), default_settings(TreeSettings, changes)
        scaled = Scaled.of(draw, self.variant.members)
        odds: list[Scores] = []
        if self.variant.network:
            same = replace(settings, caution=0.0)  # networks are trained without it
            found = KEPT.get(draw, (same, self.variant.members), lambda: self._networks(draw, scaled, settings))
            odds.append(cautious(found, 1.0, settings.caution))
        if trees.boosting:
            what = (trees.boosting, trees.neighbours, trees.even)
            found = KEPT.get(draw, what, lambda: self._trees(draw, scaled, trees))
            odds.append(cautious(found, trees.boosting_weight, trees.caution))
        whole = {name: sum(part[name] for part in odds) for name in scaled.rows}
        own = [np.flatnonzero(~seen) for seen in scaled.seen]
        place = np.concatenate(own)
        return Rated(
            asked=whole["asked"].mean(axis=0),
            own=np.concatenate([member[rows] for member, rows in zip(whole["own"], own, strict=True)]),
            own_rare=scaled.rare[place],
            own_weights=even_weights(scaled.rows["own"], scaled.rare)[place],
            unlabelled=whole["unlabelled"].mean(axis=0),
            population=len(scaled.unlabelled),
        )

    def _networks(self, draw: Draw, scaled: Scaled, settings: Any) -> Scores:
        """Log odds of the rare class by the networks."""
        from scarcegan.model import preprocessing
        from scarcegan.model.gan import scarcegan

        labelled, members = scaled.rows["own"], len(scaled.seen)
        edges = preprocessing.bin_edges(np.concatenate([labelled, scaled.unlabelled]), settings.bins)
        seeds = scarcegan.network_seeds(draw.seed, 1, members)
        model = scarcegan.ScarceGAN(labelled.shape[1], 2, seeds, settings, self.variant.iterations, edges)
        pool = scarcegan.make_pool(labelled, scaled.rare.astype(int), scaled.unlabelled, scaled.seen, 2, settings.even)
        model = self._train(model, pool)
        return scores(scaled.rows, lambda rows: log_odds(model, rows))

    def _trees(self, draw: Draw, scaled: Scaled, settings: Any) -> Scores:
        """Log odds of the rare class by the trees."""
        from scarcegan.model import evenness
        from scarcegan.model.trees import boosting

        rows = scaled.read_by_trees(settings, draw.seed)
        weight = evenness.weigh_rare_rows(scaled.rows["own"], scaled.rare, settings.even)
        trees = boosting.grow_trees(rows["own"], scaled.rare, weight, scaled.seen, settings.boosting, draw.seed)
        return scores(rows, trees.log_odds)

    def _train(self, model: Any, pool: Any) -> Any:
        """Train; the weights of later draws are put into the first draw's model, whose loop is compiled already."""
        from scarcegan.model.gan import scarcegan

        if self._program is None:
            self._program = scarcegan.Program(model, pool, self.variant.iterations // PARTS)
        else:
            for mine, fresh in zip(variables(self._program.model), variables(model), strict=True):
                mine.assign(fresh)
            self._program.draw_from(pool, model.seeds)
        for part in range(PARTS):
            self._program(part * self._program.iterations)
        return self._program.model


def cautious(found: Scores, weight: float, caution: float) -> Scores:
    """Log odds as they count: bounded, times their weight."""
    import tensorflow as tf
    from scarcegan.model.member import bounded

    return {name: weight * bounded(tf.constant(each, tf.float32), caution).numpy() for name, each in found.items()}


def variables(model: Any) -> list:
    """All that differs between two models of the same settings: weights, optimisers, the edges of the codes."""
    return [*model.state, *model.discriminator.non_trainable_variables]


def log_odds(model: Any, rows: np.ndarray) -> np.ndarray:
    """Log odds of the rare class [members, n] of scaled rows [n, d]."""
    from scarcegan.model.gan.networks import rare_log_odds

    parts = [rows[i : i + ROWS_AT_ONCE] for i in range(0, len(rows), ROWS_AT_ONCE)]
    return np.concatenate([rare_log_odds(model(part[None])[0]).numpy() for part in parts], axis=1)
