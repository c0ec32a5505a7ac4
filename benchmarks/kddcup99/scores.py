"""Figures of a ranking and of a threshold, for weighted rows. What is ranked, and by whom, stands elsewhere."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

RATES = (0.001, 0.01, 0.05)


def best_threshold(rarity: np.ndarray, rare: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The rarity at and above which F1 is highest. Give rows that the scorer was not fitted on."""
    precision, recall, thresholds = precision_recall_curve(rare, rarity, sample_weight=weights)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1[:-1]))
    # Halfway to the next lower score seen: the threshold itself lies exactly on a row.
    return float(thresholds[best] if best == 0 else (thresholds[best] + thresholds[best - 1]) / 2)


def figures(
    rarity: np.ndarray, rare: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> dict[str, float]:
    """rarity float [n], rare bool [n], weights float [n] -> figure by name.

    pr_auc is average precision; recall_at_x is recall at a false-positive rate of at most x; alarms_per_hit is
    false alarms per true hit at the threshold.
    """
    weights = np.ones(len(rare)) if weights is None else weights
    flagged = rarity >= threshold
    hits, alarms, all_rare = (float(weights[rows].sum()) for rows in (flagged & rare, flagged & ~rare, rare))
    rate, recall, _ = roc_curve(rare, rarity, sample_weight=weights, drop_intermediate=False)
    return {
        "pr_auc": float(average_precision_score(rare, rarity, sample_weight=weights)),
        "f1": 2 * hits / (hits + alarms + all_rare),
        "recall": hits / all_rare,
        "precision": hits / max(hits + alarms, 1e-12),
        **{f"recall_at_{x}": float(recall[rate <= x].max()) for x in RATES},
        "alarms_per_hit": alarms / hits if hits else float("inf"),
    }


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def paired(ours: Sequence[float], theirs: Sequence[float], resamples: int = 10_000) -> dict[str, float]:
    """Ours minus theirs over the same seeds: wins, mean difference and its 95 % bootstrap interval over seeds."""
    difference = np.asarray(ours, float) - np.asarray(theirs, float)
    rng = np.random.default_rng(0)
    means = difference[rng.integers(0, len(difference), (resamples, len(difference)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {
        "wins": int((difference > 0).sum()),
        "of": len(difference),
        "difference": float(difference.mean()),
        "low": float(low),
        "high": float(high),
    }
