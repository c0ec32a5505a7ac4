"""Metrics of one model on labelled rows, each computed for many bootstrap resamples at once.

A resample is a row of whole-number weights: how often each test row was drawn. Every metric takes weights [b, n], or
what was counted with them, and returns [b] values, so that a figure, its interval and a paired difference come from the
same few lines. Row 0 of the weights is all ones, the test split as it is: values[0] is the figure itself.

Labels are class positions, the rare class last; a predicted label K (the number of classes) means unknown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scarcegan.jsonfile import replace_nan

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
ClassPositions = NDArray[np.integer]

CELLS_AT_ONCE = 30_000_000  # resamples x rows held in memory


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval over the resamples; NaN where undefined.

    - value: the metric on the rows as they are
    - low, high: ends of the interval
    - sd: standard deviation over the resamples
    """

    value: float
    low: float
    high: float
    sd: float


def resamples(positive: Flags, count: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield weights uint8 [b, n], some resamples at a time: first one row of ones, then `count` draws with replacement.

    A weight is how often a row was drawn; b varies from one array to the next. positive: bool [n]. Each draw holds as
    many positive and as many negative rows as the test split (stratified; Efron & Tibshirani 1993, ch. 8), so a
    resample never lacks the rare class. The same seed gives every model the same resamples, so that differences are
    paired.
    """
    rng = np.random.default_rng(seed)
    strata = [rows for rows in (np.flatnonzero(positive), np.flatnonzero(~positive)) if len(rows)]
    block = max(1, CELLS_AT_ONCE // max(len(positive), 1))
    yield np.ones((1, len(positive)), np.uint8)
    for start in range(0, count, block):
        size = min(block, count - start)
        weights = np.zeros((size, len(positive)), np.uint8)
        for rows in strata:
            for line in weights:
                line[rows] = np.bincount(rng.integers(len(rows), size=len(rows)), minlength=len(rows))
        yield weights


def estimate(values: Floats, alpha: float = 0.05) -> Estimate:
    """The figure values[0] with its two-sided percentile interval of level 1 - alpha over the resamples values[1:].

    Resamples in which the metric is NaN are left out; when none is left, low, high and sd are NaN.
    """
    drawn = values[1:][~np.isnan(values[1:])]
    if len(drawn) == 0:
        return Estimate(float(values[0]), *[float("nan")] * 3)
    low, high = np.quantile(drawn, [alpha / 2, 1 - alpha / 2])
    return Estimate(float(values[0]), float(low), float(high), float(drawn.std()))


@dataclass(frozen=True)
class Curve:
    """What a threshold at each of m distinct scores of positive rows would flag, highest score first.

    - thresholds: [m], descending; a row is flagged when its score is at least the threshold
    - hits: [b, m], number of positive rows flagged, in each of b resamples; a row counts as often as it was drawn
    - flagged: [b, m], number of all rows flagged, counted likewise
    - positives, negatives: [b], number of all positive and of all negative rows, flagged or not, counted likewise
    """

    thresholds: Floats
    hits: Floats
    flagged: Floats
    positives: Floats
    negatives: Floats


def threshold_curve(positive: Flags, score: Floats, weights: NDArray | None = None) -> Curve:
    """The curve over all thresholds at which recall changes: the distinct scores of positive rows.

    positive: bool [n]; score: float [n], higher is more likely positive; weights: [b, n], how often each row was drawn
    in each resample, None for the rows as they are (b = 1).

    Raises ValueError for a score that is NaN.
    """
    if np.isnan(score).any():
        raise ValueError(f"{np.isnan(score).sum()} of {len(score)} scores are NaN")
    weights = np.ones((1, len(score)), np.uint8) if weights is None else weights
    thresholds = np.unique(score[positive])
    # Row i is flagged from the threshold at place[i] on (counted from the highest); the lowest rows never are.
    place = len(thresholds) - np.searchsorted(thresholds, score, side="right")
    return Curve(
        thresholds[::-1],
        _cumulate(weights, np.flatnonzero(positive), place, len(thresholds)),
        _cumulate(weights, np.arange(len(score)), place, len(thresholds)),
        weights[:, positive].sum(axis=1, dtype=np.float64),
        weights[:, ~positive].sum(axis=1, dtype=np.float64),
    )


def _cumulate(weights: NDArray, rows: NDArray, place: NDArray, places: int) -> Floats:
    """Running sums of weights over ordered places: float [b, places], at each place the sum up to and with it.

    weights: [b, n]; rows: positions of the rows that are summed; place: int [n], the place of each row, here the
    position of the highest threshold that flags it. Rows of a place beyond the last are left out; every place must have
    at least one of `rows`.
    """
    if places == 0:
        return np.zeros((len(weights), 0))
    rows = rows[place[rows] < places]
    rows = rows[np.argsort(place[rows], kind="stable")]
    starts = np.searchsorted(place[rows], np.arange(places))
    return np.cumsum(np.add.reduceat(weights[:, rows], starts, axis=1, dtype=np.float64), axis=1)


def pr_auc(at: Curve) -> Floats:
    """Area under the precision-recall curve, as average precision: float [b], 0 … 1, one per resample.

    It is the sum over thresholds of (gain in recall) x precision, without interpolation (Davis & Goadrich 2006). It
    equals the share of positives for constant scores, and is NaN without a positive row.
    """
    gain = np.diff(at.hits, axis=1, prepend=0.0)
    return _ratio((gain * _ratio(at.hits, at.flagged, 0.0)).sum(axis=1), at.positives)


def recall_at_false_positive_rate(at: Curve, rate: float) -> Floats:
    """The largest recall of any threshold that flags at most the share `rate` of the negatives, float [b].

    The thresholds are those of the curve. 0 when every threshold flags more; NaN without a positive row; 1 without a
    negative row.
    """
    false_alarms = at.flagged - at.hits
    allowed = false_alarms <= rate * at.negatives[:, None] + 1e-9
    return _ratio(np.max(np.where(allowed, at.hits, 0.0), axis=1, initial=0.0), at.positives)


def roc_auc(positive: Flags, score: Floats) -> float:
    """The area under the ROC curve; NaN without rows of both kinds. positive: bool [n]; score: float [n].

    It is the chance that a positive row scores higher than a negative one, ties counted half.
    """
    low = np.sort(score[~positive])
    if len(low) == 0 or not positive.any():
        return float("nan")
    below, up_to = (np.searchsorted(low, score[positive], side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(low)))


def confusion_matrix(
    label: ClassPositions, predicted: ClassPositions, classes: int, weights: NDArray | None = None
) -> Floats:
    """Counts float [b, K, K + 1] of rows by true class and predicted class; the last column is unknown.

    label: int [n], 0 … K - 1; predicted: int [n], 0 … K; classes: K; weights: [b, n], how often each row was drawn in
    each resample, None for the rows as they are (b = 1).
    """
    weights = np.ones((1, len(label)), np.uint8) if weights is None else weights
    cell = label.astype(np.int64) * (classes + 1) + predicted
    counts = np.zeros((len(weights), classes * (classes + 1)))
    for place in np.unique(cell):
        counts[:, place] = weights[:, cell == place].sum(axis=1, dtype=np.float64)
    return counts.reshape(len(weights), classes, classes + 1)


def recall(matrix: Floats, k: int) -> Floats:
    """Share [b] of the rows of class k that were predicted k; NaN where there is no row of class k.

    matrix: counts [b, K, K + 1] from confusion_matrix.
    """
    return _ratio(matrix[:, k, k], matrix[:, k].sum(axis=1))


def precision(matrix: Floats, k: int) -> Floats:
    """Share [b] of the rows predicted k that are of class k; NaN where no row was predicted k.

    matrix: counts [b, K, K + 1] from confusion_matrix.
    """
    return _ratio(matrix[:, k, k], matrix[:, :, k].sum(axis=1))


def f_beta(matrix: Floats, k: int, beta: float) -> Floats:
    """F-beta of class k, [b]; recall counts beta times as much as precision (van Rijsbergen 1979).

    It is (1 + beta^2) hits / ((1 + beta^2) hits + beta^2 misses + false alarms): 0 where nothing was predicted k, NaN
    without a row of class k. matrix: counts [b, K, K + 1] from confusion_matrix.
    """
    hits = matrix[:, k, k]
    misses = matrix[:, k].sum(axis=1) - hits
    false_alarms = matrix[:, :, k].sum(axis=1) - hits
    value = _ratio((1 + beta**2) * hits, (1 + beta**2) * hits + beta**2 * misses + false_alarms)
    return np.where(hits + misses > 0, value, np.nan)


def false_alarms_per_hit(matrix: Floats, k: int) -> Floats:
    """Number of rows of other classes predicted k for each row of class k predicted k, [b]; NaN without such a hit.

    matrix: counts [b, K, K + 1] from confusion_matrix.
    """
    hits = matrix[:, k, k]
    return _ratio(matrix[:, :, k].sum(axis=1) - hits, hits)


def false_positive_rate(matrix: Floats, k: int) -> Floats:
    """Share [b] of the rows of other classes that were predicted k; NaN where there is no row of another class.

    matrix: counts [b, K, K + 1] from confusion_matrix.
    """
    others = matrix.sum(axis=(1, 2)) - matrix[:, k].sum(axis=1)
    return _ratio(matrix[:, :, k].sum(axis=1) - matrix[:, k, k], others)


def accuracy(matrix: Floats) -> Floats:
    """Share [b] of the rows whose predicted class is the true one; a prediction of unknown counts as wrong.

    matrix: counts [b, K, K + 1] from confusion_matrix. NaN without rows.
    """
    return _ratio(np.trace(matrix[:, :, :-1], axis1=1, axis2=2), matrix.sum(axis=(1, 2)))


def share_unknown(matrix: Floats) -> Floats:
    """Share [b] of the rows that were predicted unknown; NaN without rows.

    matrix: counts [b, K, K + 1] from confusion_matrix.
    """
    return _ratio(matrix[:, :, -1].sum(axis=1), matrix.sum(axis=(1, 2)))


def brier(positive: Flags, probability: Floats, weights: NDArray | None = None) -> Floats:
    """Brier score [b]: mean squared distance of a predicted probability from the truth, 1 or 0 (Brier 1950).

    NaN without rows. positive: bool [n], rows of the rare class; probability: float [n], that of the rare class;
    weights: [b, n], how often each row was drawn in each resample, None for the rows as they are (b = 1).
    """
    weights = np.ones((1, len(positive)), np.uint8) if weights is None else weights
    return _ratio(weights @ (probability - positive) ** 2, weights.sum(axis=1, dtype=np.float64))


@dataclass(frozen=True)
class Reliability:
    """Calibration in m bins of predicted probability, from low to high.

    - expected: float [m], mean predicted probability in the bin
    - observed: float [m], share of the bin's rows that are of the rare class
    - low, high: float [m], Wilson 95 % interval of `observed`
    - rows: int [m], number of rows in the bin
    """

    expected: Floats
    observed: Floats
    low: Floats
    high: Floats
    rows: NDArray[np.integer]

    @property
    def error(self) -> float:
        """Expected calibration error: mean over bins of |observed - expected|, weighted by rows (Naeini 2015)."""
        return float(np.average(np.abs(self.observed - self.expected), weights=self.rows))


def reliability(positive: Flags, probability: Floats, bins: int = 10) -> Reliability:
    """Calibration in at most `bins` bins with about equally many rows; rows of equal probability share a bin.

    positive: bool [n], rows of the rare class, n at least 1; probability: float [n], that of the rare class. With a
    rare class, bins of equal width would put nearly all rows in one.
    """
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, probability, side="left")
    rows = np.bincount(place, minlength=len(edges) + 1)
    expected, hits = (np.bincount(place, x, minlength=len(rows)) for x in (probability, positive.astype(float)))
    kept = rows > 0
    low, high = wilson(hits[kept], rows[kept])
    return Reliability(expected[kept] / rows[kept], hits[kept] / rows[kept], low, high, rows[kept])


def wilson(hits: NDArray, rows: NDArray, z: float = 1.96) -> tuple[Floats, Floats]:
    """Lower and upper ends of the interval of a share hits / rows (Wilson 1927), arrays of their shape, within 0 … 1.

    z: width in standard deviations; 1.96 gives the 95 % interval. It is sound near 0 and 1 and for few rows; every
    number of rows must be at least 1.
    """
    middle = (hits + z**2 / 2) / (rows + z**2)
    half = z / (rows + z**2) * np.sqrt(hits * (rows - hits) / rows + z**2 / 4)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def _ratio(top: Floats, bottom: Floats, otherwise: float = np.nan) -> Floats:
    """top / bottom, element by element, and `otherwise` where the bottom is not above zero."""
    return np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, otherwise), where=bottom > 0)


# ---------------------------------------------------------------------------------------------------------------------
# The shapes of SageMaker's model quality reports:
# https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-model-quality-metrics.html

CURVE_POINTS = 200


def model_quality(
    truth: ClassPositions,
    predicted: ClassPositions,
    rarity: Floats,
    classes: tuple[str, ...],
    count: int,
    seed: int = 0,
) -> dict[str, dict]:
    """SageMaker's model quality blocks: metrics over all classes, and of the rare class against all others.

    - truth: int [n], class position, K for behaviour that is none of the classes
    - predicted: int [n], class position, K for unknown
    - rarity: float [n], not NaN
    - classes: the K class names, the rare class last
    - count, seed: number of bootstrap resamples behind each standard_deviation, and the seed they are drawn with

    The keys are multiclass_classification_metrics (see `multiclass_block`) and binary_classification_metrics (see
    `binary_block`). Rows of truth K count as not of the rare class and are left out of the multiclass metrics; if there
    are any, the multiclass confusion matrix counts them in a row of their own, "unknown". What cannot be measured is
    the text "NaN". The best constant classifier always gives one answer, as in SageMaker: the most frequent class, or
    in the binary block the rare class.

    Raises ValueError for a rarity that is NaN.
    """
    positive, known = truth == len(classes) - 1, truth < len(classes)
    flagged = predicted == len(classes) - 1

    def of_known(answer: NDArray) -> Floats:
        """Confusion matrices [1 + count, K, K + 1] of the rows of known class. answer: int [n], predicted class."""
        draws = (weights[:, known] for weights in resamples(positive, count, seed))
        return np.concatenate([confusion_matrix(truth[known], answer[known], len(classes), w) for w in draws])

    def of_rare(answer: NDArray) -> Floats:
        """Confusion matrices [1 + count, 2, 3] of the rare class (1) against the rest (0).

        answer: bool [n], rows that are flagged.
        """
        return np.concatenate([confusion_matrix(positive, answer, 2, w) for w in resamples(positive, count, seed)])

    most_frequent = np.full_like(truth, np.bincount(truth[known], minlength=1).argmax())
    blocks = {
        "multiclass_classification_metrics": multiclass_block(of_known(predicted), of_known(most_frequent), classes),
        "binary_classification_metrics": binary_block(
            of_rare(flagged), of_rare(np.ones_like(flagged)), positive, rarity
        ),
    }
    if not known.all():
        others = np.bincount(predicted[~known], minlength=len(classes) + 1).tolist()
        row = dict(zip((*classes, "unknown"), others, strict=True))
        blocks["multiclass_classification_metrics"]["confusion_matrix"]["unknown"] = row
    return replace_nan(blocks, "NaN")


def multiclass_block(matrix: Floats, constant: Floats, classes: tuple[str, ...]) -> dict:
    """SageMaker's multiclass_classification_metrics: a confusion matrix by class name, and averages over classes.

    The key confusion_matrix holds {true class: {predicted class or "unknown": count}}, of the rows as they are. The
    other keys are accuracy, weighted_recall, weighted_precision, weighted_f0_5, weighted_f1 and weighted_f2 (see
    `_weighted`), {value, standard_deviation} each; the same of the best constant classifier are named
    "<name>_best_constant_classifier". What cannot be measured is NaN, a number.

    matrix: counts [b, K, K + 1] of the model from confusion_matrix, in each of b resamples, of which the first is the
    rows as they are. constant: the same of the best constant classifier. classes: the K class names.
    """
    columns = (*classes, "unknown")
    counts = {
        name: {column: int(n) for column, n in zip(columns, line, strict=True)}
        for name, line in zip(classes, matrix[0], strict=True)
    }
    return {
        "confusion_matrix": counts,
        **_weighted(matrix),
        **{f"{name}_best_constant_classifier": value for name, value in _weighted(constant).items()},
    }


def _weighted(matrix: Floats) -> dict[str, dict]:
    """Accuracy, and averages over classes, weighted by their rows, of recall, precision, f0_5, f1 and f2.

    The result is {name: {value, standard_deviation}} with the names accuracy, weighted_recall and so on. The standard
    deviation is that over the resamples. A class never predicted has precision 0. matrix: counts [b, K, K + 1] from
    confusion_matrix, of which the first is the rows as they are.
    """
    share = _ratio(matrix.sum(axis=2), matrix.sum(axis=(1, 2))[:, None])
    of_classes = {
        "recall": recall,
        "precision": precision,
        "f0_5": lambda m, k: f_beta(m, k, 0.5),
        "f1": lambda m, k: f_beta(m, k, 1),
        "f2": lambda m, k: f_beta(m, k, 2),
    }
    values = {"accuracy": accuracy(matrix)}
    for name, metric in of_classes.items():
        each = np.stack([metric(matrix, k) for k in range(matrix.shape[1])], axis=1)
        values[f"weighted_{name}"] = (share * np.nan_to_num(each)).sum(axis=1)
    return {name: _measured(value) for name, value in values.items()}


def binary_block(matrix: Floats, constant: Floats, positive: Flags, score: Floats) -> dict:
    """SageMaker's binary_classification_metrics, where 1 is the rare class.

    The keys are confusion_matrix ({"0" or "1" in truth: {"0" or "1" predicted: count}}); recall, precision, accuracy,
    f0_5, f1 and f2, also of the best constant classifier (as "<name>_best_constant_classifier"); the true and false,
    positive and negative rates, such as true_positive_rate; auc (of the ROC curve), whose standard deviation is NaN;
    and two curves, thinned to about CURVE_POINTS points (see `_curves`). What cannot be measured is NaN, a number.

    matrix: counts [b, 2, 3] of the model from confusion_matrix, in each of b resamples, of which the first is the rows
    as they are; constant: the same of a classifier that always says 1; positive: bool [n], rows of the rare class;
    score: float [n], rarity.

    Raises ValueError for a rarity that is NaN.
    """
    rates = {
        "true_positive_rate": recall(matrix, 1),
        "true_negative_rate": 1 - false_positive_rate(matrix, 1),
        "false_positive_rate": false_positive_rate(matrix, 1),
        "false_negative_rate": 1 - recall(matrix, 1),
    }
    return {
        "confusion_matrix": {str(i): {str(j): int(matrix[0, i, j]) for j in (0, 1)} for i in (0, 1)},
        **_one_class(matrix),
        **{f"{name}_best_constant_classifier": value for name, value in _one_class(constant).items()},
        **{name: _measured(value) for name, value in rates.items()},
        "auc": _measured(np.array([roc_auc(positive, score)])),
        **_curves(threshold_curve(positive, score)),
    }


def _one_class(matrix: Floats) -> dict[str, dict]:
    """Recall, precision, accuracy, f0_5, f1 and f2 of the rare class: {name: {value, standard_deviation}}.

    matrix: counts [b, 2, 3] from confusion_matrix, where 1 is the rare class; the first is the rows as they are.
    """
    values = {"recall": recall(matrix, 1), "precision": precision(matrix, 1), "accuracy": accuracy(matrix)}
    values |= {name: f_beta(matrix, 1, beta) for name, beta in (("f0_5", 0.5), ("f1", 1.0), ("f2", 2.0))}
    return {name: _measured(value) for name, value in values.items()}


def _curves(at: Curve) -> dict[str, dict]:
    """ROC curve and precision-recall curve of the test split: {name of a curve: {name of an axis: numbers}}.

    The names are SageMaker's: receiver_operating_characteristic_curve with false_positive_rates and
    true_positive_rates, precision_recall_curve with precisions and recalls. at: the curve over thresholds of the rows
    as they are (b = 1).
    """
    kept = spread_evenly(len(at.thresholds), CURVE_POINTS)
    hits, flagged = at.hits[0, kept], at.flagged[0, kept]
    recalls = _ratio(hits, at.positives)
    false_alarms = _ratio(flagged - hits, at.negatives)
    return {
        "receiver_operating_characteristic_curve": {
            "false_positive_rates": [0.0, *false_alarms.tolist(), 1.0],
            "true_positive_rates": [0.0, *recalls.tolist(), 1.0],
        },
        "precision_recall_curve": {"precisions": _ratio(hits, flagged).tolist(), "recalls": recalls.tolist()},
    }


def spread_evenly(length: int, most: int) -> NDArray[np.integer]:
    """At most `most` positions, ascending, spread evenly over a sequence of that length, its first and last among them.

    int [at most `most`]; empty for an empty sequence.
    """
    return np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(int))


def _measured(values: Floats) -> dict[str, float]:
    """{value, standard_deviation} of a metric; NaN where undefined.

    values: [b], the metric on the rows as they are, then on each resample.
    """
    figure = estimate(values)
    return {"value": figure.value, "standard_deviation": figure.sd}
