"""What a user would pick instead: seven simple models, given our preprocessing and our ensemble size.

A method is a function (values, rare, weights, unlabelled, seed) -> scorer; the values come in log1p and standardised,
the weights balance the classes and even out the kinds of the rare one. How methods are cross-fitted, thresholded and
compared stands in compare.py.
"""

from collections.abc import Callable

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier

Rows = np.ndarray
Scorer = Callable[[Rows], Rows]


def probability(model: object) -> Scorer:
    return lambda values: model.predict_proba(values)[:, 1]  # type: ignore[attr-defined]


def balance(rare: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The row weights, brought to where either class has half of the whole and the mean is 1."""
    halves = np.where(rare, weights[rare].sum(), weights[~rare].sum())
    return weights * 0.5 * len(rare) / halves


def logistic_regression(values: Rows, rare: Rows, weights: Rows, unlabelled: Rows, seed: int) -> Scorer:
    return probability(LogisticRegression(max_iter=1000).fit(values, rare, weights))


def mlp(values: Rows, rare: Rows, weights: Rows, unlabelled: Rows, seed: int) -> Scorer:
    """Two hidden layers, balanced classes, about 2,000 steps of 64 rows."""
    epochs = max(1, 2_000 * 64 // len(values))
    model = MLPClassifier((64, 32), batch_size=64, max_iter=epochs, n_iter_no_change=epochs, random_state=seed)
    return probability(model.fit(values, rare, weights))


def extra_trees(values: Rows, rare: Rows, weights: Rows, unlabelled: Rows, seed: int) -> Scorer:
    model = ExtraTreesClassifier(100, random_state=seed)
    return probability(model.fit(values, rare, weights))


def gradient_boosting(values: Rows, rare: Rows, weights: Rows, unlabelled: Rows, seed: int) -> Scorer:
    model = HistGradientBoostingClassifier(random_state=seed)
    return probability(model.fit(values, rare, weights))


def self_training(values: Rows, rare: Rows, weights: Rows, unlabelled: Rows, seed: int) -> Scorer:
    """Logistic regression that labels the unlabelled rows it is surest of (0.99), and learns again, twice."""
    rows = unlabelled[:10_000]
    score = logistic_regression(values, rare, weights, unlabelled, seed)
    for _ in range(2):
        guess = score(rows)
        sure = (guess > 0.99) | (guess < 0.01)
        more, guesses = np.concatenate([values, rows[sure]]), np.concatenate([rare, guess[sure] > 0.5])
        every = balance(guesses, np.concatenate([weights, np.full(sure.sum(), weights[~rare].mean())]))
        score = logistic_regression(more, guesses, every, unlabelled, seed)
    return score


def isolation_forest(values: Rows, rare: Rows, weights: Rows, unlabelled: Rows, seed: int) -> Scorer:
    """No labels at all: what is easily told apart from the unlabelled rows is taken for rare."""
    model = IsolationForest(n_estimators=100, random_state=seed).fit(unlabelled)
    return lambda rows: -model.score_samples(rows)


def outlier_boosting(values: Rows, rare: Rows, weights: Rows, unlabelled: Rows, seed: int) -> Scorer:
    """After XGBOD (Zhao and Hryniewicki 2018): gradient boosting over the features and unsupervised outlier scores."""
    near = NearestNeighbors(n_neighbors=20).fit(unlabelled[:2_000])
    forest = isolation_forest(values, rare, weights, unlabelled, seed)

    def widened(rows: np.ndarray) -> np.ndarray:
        distances = near.kneighbors(rows)[0]
        return np.column_stack([rows, distances[:, [0, 4, 19]], distances.mean(axis=1), forest(rows)])

    score = gradient_boosting(widened(values), rare, weights, unlabelled, seed)
    return lambda rows: score(widened(rows))


METHODS = {
    "logistic regression": logistic_regression,
    "MLP": mlp,
    "extra trees": extra_trees,
    "gradient boosting": gradient_boosting,
    "self-training": self_training,
    "outlier boosting (XGBOD)": outlier_boosting,
    "isolation forest": isolation_forest,
}
