"""Simple models: what a user would try first, trained on the same labelled rows as the delivered model.

They only rank users: they give a rarity (higher is more like the rare class), no label and no threshold. All but the
trees read standardised signed logarithms, with the median in place of a missing value and a column that marks it.
Models that depend on their seed are averaged over several seeds.
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
from scarcegan.model.signed_log import signed_log

BALANCED_ROWS = 8_000  # rows an MLP sees per epoch, spread evenly over the classes
PSEUDO_ROWS = 20_000  # unlabelled rows that self-training uses at most
SURE = 0.99  # probability from which self-training takes a prediction for a label
ROUNDS = 3  # of self-training


@dataclass(frozen=True)
class SimpleModel:
    """A trained simple model.

    - name: used in files, such as "balanced_mlp". title: shown to people, such as "balanced MLP".
    - score: a function from raw features [n, d], NaN for missing, to rarity [n] in [0, 1]. It only ranks: as
      probabilities of the rare class the values are too high, because the training balanced the classes.
    """

    name: str
    title: str
    score: Callable[[NDArray], NDArray]


def train_simple_models(
    values: NDArray,
    label: NDArray,
    seed: int,
    seeds: int = 5,
    unlabelled: NDArray | None = None,
    say: Callable[[str], object] = lambda words: None,
) -> list[SimpleModel]:
    """Train the simple models on labelled rows and return them: logistic regression, self-training (only with
    unlabelled rows), gradient boosting and a balanced MLP, in this order.

    - values [n, d]: raw features, NaN for missing. They are read as numbers, so codes of categories must be expanded
      before (lookups.expander). label int [n]: classes; the largest number that occurs is taken as the rare class.
    - seed: of the whole training. seeds: how many models of different seeds are averaged (of trees, at most 3).
    - unlabelled [u, d]: raw features of rows without a label, for self-training, which uses at most PSEUDO_ROWS of
      them, drawn at random; None: there are none.
    - say: is called with a line of progress before each model is trained.
    Raises UserError if there is no row, or if all rows are of one class.
    """
    rare = label == label.max(initial=0)
    if len(label) == 0 or rare.all() or not rare.any():
        raise UserError("The labelled training rows hold one class only: simple models need rare and other rows.")
    rng = np.random.default_rng(seed)
    recipes: list[tuple[str, str, Callable[[], Callable[[NDArray], NDArray]]]] = [
        ("logistic_regression", "logistic regression", lambda: _logistic(values, rare)),
        ("gradient_boosting", "gradient boosting", lambda: _boosted_trees(values, rare, seed, min(seeds, 3))),
        ("balanced_mlp", "balanced MLP", lambda: _networks(values, label, seed, seeds)),
    ]
    if unlabelled is not None and len(unlabelled):
        some = unlabelled[rng.permutation(len(unlabelled))[:PSEUDO_ROWS]]
        recipes.insert(1, ("self_training", "self-training", lambda: _self_training(values, rare, some)))
    fitted = []
    # One thread: on small tables, and on a machine that has other work, threads waiting for each other cost tenfold.
    with threadpool_limits(limits=1):
        for name, title, recipe in recipes:
            say(f"training the simple model {title}")
            fitted.append(SimpleModel(name, title, recipe()))
    return fitted


def _logistic(values: NDArray, rare: NDArray) -> Callable[[NDArray], NDArray]:
    """Train a logistic regression that tells rare rows from others; both sides have equal total weight.

    values [n, d]: raw features. rare: bool [n]. Returns its scoring function: raw features [m, d] -> rarity [m].
    """
    model = _scaled(LogisticRegression(class_weight="balanced", max_iter=300))
    return _rarity([_without_warnings(model, values, rare)])


def _self_training(values: NDArray, rare: NDArray, unlabelled: NDArray) -> Callable[[NDArray], NDArray]:
    """Train a logistic regression by self-training: at most ROUNDS times, train it, and add the unlabelled rows that it
    calls rare, or not rare, with a probability of at least SURE to its training rows, labelled as predicted.

    values [n, d], unlabelled [u, d]: raw features. rare: bool [n]. Returns the scoring function of a model that is then
    trained on all these rows: raw features [m, d] -> rarity [m].
    """
    rows, target, rest = values, rare, unlabelled
    for _ in range(ROUNDS):
        score = _logistic(rows, target)(rest)
        sure = (score >= SURE) | (score <= 1 - SURE)
        rows, target, rest = np.vstack([rows, rest[sure]]), np.append(target, score[sure] >= SURE), rest[~sure]
        if not sure.any() or not len(rest):
            break
    return _logistic(rows, target)


def _boosted_trees(values: NDArray, rare: NDArray, seed: int, seeds: int) -> Callable[[NDArray], NDArray]:
    """Train `seeds` gradient-boosted tree models, with the random seeds `seed`, `seed` + 1, … Rare rows and others have
    equal total weight.

    values [n, d]: raw features. rare: bool [n]. Returns a scoring function: raw features [m, d] -> rarity [m], averaged
    over the models.
    """
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
    """Train `seeds` neural networks, with the random seeds `seed`, `seed` + 1, …, each on equally many rows per class.

    values [n, d]: raw features. label int [n]: class. Returns a scoring function: raw features [m, d] -> rarity [m],
    averaged over the networks.
    """
    models = []
    for i in range(seeds):
        rows = _balanced(label, np.random.default_rng(seed + i))
        network = MLPClassifier(
            (64, 32), alpha=1e-3, batch_size=min(128, len(rows)), max_iter=20, random_state=seed + i
        )
        models.append(_without_warnings(_scaled(network), values[rows], label[rows]))
    return _rarity(models)


def _balanced(label: NDArray, rng: np.random.Generator) -> NDArray:
    """Positions, int [m], of randomly drawn rows, equally many of each class: as many as the largest class has, but at
    most BALANCED_ROWS in all.

    Of a class with fewer rows than that, rows are drawn with replacement. label: int [n], the class of each row.
    """
    names, counts = np.unique(label, return_counts=True)
    each = min(int(counts.max()), BALANCED_ROWS // len(names))
    return np.concatenate(
        [rng.choice(np.flatnonzero(label == k), each, replace=each > n) for k, n in zip(names, counts, strict=True)]
    )


def _scaled(model: LogisticRegression | MLPClassifier) -> Pipeline:
    """An unfitted scikit-learn pipeline that turns raw features [n, d], NaN for missing, into standardised signed
    logarithms, with medians and indicators for missing values and without constant columns, and gives them to `model`.
    """
    return make_pipeline(
        FunctionTransformer(signed_log),
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        VarianceThreshold(),
        StandardScaler(),
        model,
    )


def _without_warnings(model: Pipeline, values: NDArray, target: NDArray) -> Pipeline:
    """Fit the model on raw features values [n, d] with target [n] and return it.

    Scikit-learn's warning that it has not converged is suppressed, because stopping early is intended.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(values, target)


def _rarity(models: Sequence) -> Callable[[NDArray], NDArray]:
    """A function from raw features [n, d] to rarity [n]: the probability that the models give their last class,
    averaged over the models. models: fitted on these d features, the rare class as the last.
    """
    return lambda values: np.mean([model.predict_proba(values)[:, -1] for model in models], axis=0)
