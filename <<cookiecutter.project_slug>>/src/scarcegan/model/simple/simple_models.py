"""Baselines: the simple models a user would try first, trained on the same labelled rows as ScarceGAN.

They only rank (rarity, higher = more like the rare class); thresholds and the unknown class are ScarceGAN's.
All but the trees see signed log1p, standardised features with the median in place of missing values and a column
that says so. Models that depend on their seed are averaged over several seeds.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits

from scarcegan.errors import UserError

BALANCED_ROWS = 8_000  # rows an MLP sees per epoch, spread evenly over the classes
PSEUDO_ROWS = 20_000  # unlabelled rows that self-training looks at
SURE = 0.99  # probability from which self-training believes itself
ROUNDS = 3


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline. name: for files; title: for people; score: raw features [n, d] -> rarity [n] in [0, 1]."""

    name: str
    title: str
    score: Callable[[NDArray], NDArray]


def fit(
    values: NDArray,
    label: NDArray,
    seed: int,
    seeds: int = 5,
    unlabelled: NDArray | None = None,
    say: Callable[[str], object] = lambda words: None,
) -> list[Baseline]:
    """The baselines, simplest first. values [n, d] raw with NaN for missing, label [n] with the rare class the largest.

    unlabelled [u, d]: rows without a label; with them self-training joins. UserError without a rare or another row.
    """
    rare = label == label.max(initial=0)
    if len(label) == 0 or rare.all() or not rare.any():
        raise UserError("The labelled training rows hold one class only: baselines need rare and other rows.")
    rng = np.random.default_rng(seed)
    recipes: list[tuple[str, str, Callable[[], Callable[[NDArray], NDArray]]]] = [
        ("logistic_regression", "logistic regression", lambda: _logistic(values, rare)),
        ("gradient_boosting", "gradient boosting", lambda: _trees(values, rare, seed, min(seeds, 3))),
        ("balanced_mlp", "balanced MLP", lambda: _networks(values, label, seed, seeds)),
    ]
    if unlabelled is not None and len(unlabelled):
        some = unlabelled[rng.permutation(len(unlabelled))[:PSEUDO_ROWS]]
        recipes.insert(1, ("self_training", "self-training", lambda: _self_training(values, rare, some)))
    fitted = []
    # One thread: on small tables, and on a machine that has other work, threads waiting for each other cost tenfold.
    with threadpool_limits(limits=1):
        for name, title, recipe in recipes:
            say(f"training the baseline {title}")
            fitted.append(Baseline(name, title, recipe()))
    return fitted


def _logistic(values: NDArray, rare: NDArray) -> Callable[[NDArray], NDArray]:
    model = _scaled(LogisticRegression(class_weight="balanced", max_iter=300))
    return _rarity([_quietly(model, values, rare)])


def _self_training(values: NDArray, rare: NDArray, unlabelled: NDArray) -> Callable[[NDArray], NDArray]:
    """Logistic regression that adds the unlabelled rows it is sure of to its training rows, three times over."""
    rows, target, rest = values, rare, unlabelled
    for _ in range(ROUNDS):
        score = _logistic(rows, target)(rest)
        sure = (score >= SURE) | (score <= 1 - SURE)
        rows, target, rest = np.vstack([rows, rest[sure]]), np.append(target, score[sure] >= SURE), rest[~sure]
        if not sure.any() or not len(rest):
            break
    return _logistic(rows, target)


def _trees(values: NDArray, rare: NDArray, seed: int, seeds: int) -> Callable[[NDArray], NDArray]:
    leaf = int(np.clip(rare.sum() // 4, 1, 20))
    seen = ~np.isnan(values).all(axis=0)  # a column without any value cannot be binned
    rarity = _rarity(
        [
            HistGradientBoostingClassifier(
                max_iter=100,
                max_leaf_nodes=15,
                max_bins=63,  # a third of the time of the default, and no worse on a few thousand rows
                min_samples_leaf=leaf,
                max_features=0.5,
                class_weight="balanced",
                early_stopping=False,
                random_state=seed + i,
            ).fit(values[:, seen], rare)
            for i in range(seeds)
        ]
    )
    return lambda rows: rarity(rows[:, seen])


def _networks(values: NDArray, label: NDArray, seed: int, seeds: int) -> Callable[[NDArray], NDArray]:
    models = []
    for i in range(seeds):
        rows = _balanced(label, np.random.default_rng(seed + i))
        network = MLPClassifier(
            (64, 32), alpha=1e-3, batch_size=min(128, len(rows)), max_iter=20, random_state=seed + i
        )
        models.append(_quietly(_scaled(network), values[rows], label[rows]))
    return _rarity(models)


def _balanced(label: NDArray, rng: np.random.Generator) -> NDArray:
    """Positions drawn so that every class is there equally often; no more than a few copies of the largest class."""
    names, counts = np.unique(label, return_counts=True)
    each = min(counts.max(), BALANCED_ROWS // len(names))
    return np.concatenate(
        [rng.choice(np.flatnonzero(label == k), each, replace=each > n) for k, n in zip(names, counts, strict=True)]
    )


def _scaled(model: LogisticRegression | MLPClassifier) -> Pipeline:
    """Preprocessing learnt on the training rows; a column that never varies there is left out."""
    return make_pipeline(
        FunctionTransformer(signed_log),
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        VarianceThreshold(),
        StandardScaler(),
        model,
    )


def signed_log(values: NDArray) -> NDArray:
    """sign(x) log(1 + |x|), float64: tames counters with heavy tails and keeps zero and sign."""
    wide = np.asarray(values, np.float64)
    return np.sign(wide) * np.log1p(np.abs(wide))


def _quietly(model: Pipeline, values: NDArray, target: NDArray) -> Pipeline:
    """Fit; a baseline that stops before it has wholly converged is a choice here, not news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(values, target)


def _rarity(models: Sequence) -> Callable[[NDArray], NDArray]:
    """Mean over the models of the probability of the rare class, which is the last one of each."""
    return lambda values: np.mean([model.predict_proba(values)[:, -1] for model in models], axis=0)
