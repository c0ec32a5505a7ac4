"""What a user would pick instead: seven plain methods, given our preprocessing and our ensemble size.

A method is a function (values, rare, unlabelled, seed) -> scorer; the values come in log1p and standardised. How
methods are cross-fitted, thresholded and compared stands in compare.py.
"""

from collections.abc import Callable

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier

Scorer = Callable[[np.ndarray], np.ndarray]


def probability(model: object) -> Scorer:
    return lambda values: model.predict_proba(values)[:, 1]  # type: ignore[attr-defined]


def balance(rare: np.ndarray) -> np.ndarray:
    """Row weights that give either class half of the whole."""
    share = rare.mean()
    return np.where(rare, 0.5 / share, 0.5 / (1 - share))


def logistic_regression(values: np.ndarray, rare: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scorer:
    return probability(LogisticRegression(max_iter=1000).fit(values, rare, balance(rare)))


def mlp(values: np.ndarray, rare: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scorer:
    """Two hidden layers, balanced classes, about 2,000 steps of 64 rows."""
    epochs = max(1, 2_000 * 64 // len(values))
    model = MLPClassifier((64, 32), batch_size=64, max_iter=epochs, n_iter_no_change=epochs, random_state=seed)
    return probability(model.fit(values, rare, balance(rare)))


def extra_trees(values: np.ndarray, rare: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scorer:
    model = ExtraTreesClassifier(100, class_weight="balanced", random_state=seed)
    return probability(model.fit(values, rare))


def gradient_boosting(values: np.ndarray, rare: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scorer:
    model = HistGradientBoostingClassifier(class_weight="balanced", random_state=seed)
    return probability(model.fit(values, rare))


def self_training(values: np.ndarray, rare: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scorer:
    """Logistic regression that labels the unlabelled rows it is surest of (0.99), and learns again, twice."""
    rows = unlabelled[:10_000]
    score = logistic_regression(values, rare, unlabelled, seed)
    for _ in range(2):
        guess = score(rows)
        sure = (guess > 0.99) | (guess < 0.01)
        more, guesses = np.concatenate([values, rows[sure]]), np.concatenate([rare, guess[sure] > 0.5])
        score = logistic_regression(more, guesses, unlabelled, seed)
    return score


def isolation_forest(values: np.ndarray, rare: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scorer:
    """No labels at all: what is easily told apart from the unlabelled rows is taken for rare."""
    model = IsolationForest(n_estimators=100, random_state=seed).fit(unlabelled)
    return lambda rows: -model.score_samples(rows)


def outlier_boosting(values: np.ndarray, rare: np.ndarray, unlabelled: np.ndarray, seed: int) -> Scorer:
    """After XGBOD (Zhao and Hryniewicki 2018): gradient boosting over the features and unsupervised outlier scores."""
    near = NearestNeighbors(n_neighbors=20).fit(unlabelled[:2_000])
    forest = isolation_forest(values, rare, unlabelled, seed)

    def widened(rows: np.ndarray) -> np.ndarray:
        distances = near.kneighbors(rows)[0]
        return np.column_stack([rows, distances[:, [0, 4, 19]], distances.mean(axis=1), forest(rows)])

    score = gradient_boosting(widened(values), rare, unlabelled, seed)
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
