"""Metrics against numbers worked out by hand, against scikit-learn, and under resampling."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from scarcegan.evaluation import metrics

# Five rows, two of them rare, from the highest score down: rare, not, rare, not, not.
POSITIVE = np.array([True, False, True, False, False])
SCORE = np.array([0.9, 0.8, 0.7, 0.2, 0.1])


def many(n=400, rare=0.1, seed=3, ties=False):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < rare
    score = rng.normal(size=n) + positive
    return positive, np.round(score, 1) if ties else score


def weights(positive, count=50, seed=1):
    return np.concatenate(list(metrics.resamples(positive, count, seed)))


def test_pr_auc_of_five_rows_is_worked_out_by_hand():
    # The first rare row is found at precision 1/1, the second at 2/3: the mean is 5/6.
    assert metrics.pr_auc(metrics.threshold_curve(POSITIVE, SCORE)) == pytest.approx([5 / 6])


@pytest.mark.parametrize("ties", [False, True])
def test_pr_auc_is_scikit_learns_average_precision(ties):
    positive, score = many(ties=ties)
    ours = metrics.pr_auc(metrics.threshold_curve(positive, score))
    assert ours == pytest.approx([reference.average_precision_score(positive, score)])


@pytest.mark.parametrize("ties", [False, True])
def test_a_weight_of_three_is_the_row_three_times(ties):
    positive, score = many(ties=ties)
    drawn = weights(positive, count=1)
    again = np.repeat(np.arange(len(positive)), drawn[1])
    values = metrics.pr_auc(metrics.threshold_curve(positive, score, drawn))
    assert values[1] == pytest.approx(reference.average_precision_score(positive[again], score[again]))
    assert values[0] != values[1]


def test_pr_auc_of_constant_scores_is_the_share_of_the_rare_class():
    assert metrics.pr_auc(metrics.threshold_curve(POSITIVE, np.full(5, 0.5))) == pytest.approx([2 / 5])


def test_pr_auc_without_a_rare_row_is_undefined():
    assert np.isnan(metrics.pr_auc(metrics.threshold_curve(np.zeros(5, bool), SCORE, weights(np.zeros(5, bool))))).all()


def test_a_score_that_is_nan_is_refused():
    with pytest.raises(ValueError, match="1 of 5 scores are NaN"):
        metrics.threshold_curve(POSITIVE, np.array([0.9, np.nan, 0.7, 0.2, 0.1]))


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0.5), (0.3, 0.5), (1 / 3, 1.0), (1.0, 1.0)])
def test_recall_at_a_false_positive_rate_is_worked_out_by_hand(rate, expected):
    assert metrics.recall_at_false_positive_rate(metrics.threshold_curve(POSITIVE, SCORE), rate) == pytest.approx(
        [expected]
    )


def test_recall_at_a_false_positive_rate_counts_a_tie_as_flagged():
    # The rare row cannot be flagged without the negative that has the same score.
    at = metrics.threshold_curve(np.array([True, False, False]), np.array([0.5, 0.5, 0.1]))
    assert metrics.recall_at_false_positive_rate(at, 0.4) == pytest.approx([0.0])
    assert metrics.recall_at_false_positive_rate(at, 0.5) == pytest.approx([1.0])


def test_roc_auc_is_scikit_learns():
    positive, score = many(ties=True)
    assert metrics.roc_auc(positive, score) == pytest.approx(reference.roc_auc_score(positive, score))


# Three classes, the last one rare; 3 is unknown.
LABEL = np.array([0, 0, 0, 1, 1, 2, 2, 2])
PREDICTED = np.array([0, 0, 3, 1, 2, 2, 2, 0])
MATRIX = metrics.confusion_matrix(LABEL, PREDICTED, 3)


def test_a_confusion_matrix_has_a_column_for_unknown():
    assert MATRIX[0].tolist() == [[2, 0, 0, 1], [0, 1, 1, 0], [1, 0, 2, 0]]


def test_threshold_metrics_of_the_rare_class_are_worked_out_by_hand():
    assert metrics.recall(MATRIX, 2) == pytest.approx([2 / 3])
    assert metrics.precision(MATRIX, 2) == pytest.approx([2 / 3])
    assert metrics.false_alarms_per_hit(MATRIX, 2) == pytest.approx([1 / 2])
    assert metrics.false_positive_rate(MATRIX, 2) == pytest.approx([1 / 5])
    assert metrics.accuracy(MATRIX) == pytest.approx([5 / 8])
    assert metrics.share_unknown(MATRIX) == pytest.approx([1 / 8])


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_f_beta_is_scikit_learns(beta):
    expected = reference.fbeta_score(LABEL == 0, PREDICTED == 0, beta=beta)
    assert metrics.f_beta(MATRIX, 0, beta) == pytest.approx([expected])


def test_nothing_flagged_has_no_precision_and_an_f_beta_of_zero():
    matrix = metrics.confusion_matrix(LABEL, np.zeros(8, int), 3)
    assert np.isnan(metrics.precision(matrix, 2)[0])
    assert metrics.f_beta(matrix, 2, 2.0)[0] == 0
    assert np.isnan(metrics.false_alarms_per_hit(matrix, 2)[0])


def test_a_class_without_rows_has_no_recall():
    matrix = metrics.confusion_matrix(np.array([0, 1]), np.array([0, 1]), 3)
    assert np.isnan(metrics.recall(matrix, 2)[0]) and np.isnan(metrics.f_beta(matrix, 2, 1)[0])


def test_every_resample_holds_as_many_rare_rows_as_the_test_split():
    drawn = weights(POSITIVE, count=20)
    assert drawn.shape == (21, 5) and (drawn[0] == 1).all()
    assert (drawn[:, POSITIVE].sum(axis=1) == 2).all() and (drawn[:, ~POSITIVE].sum(axis=1) == 3).all()
    assert len(np.unique(drawn, axis=0)) > 5


def test_the_same_seed_draws_the_same_resamples_and_another_seed_others():
    assert (weights(POSITIVE, seed=1) == weights(POSITIVE, seed=1)).all()
    assert (weights(POSITIVE, seed=1) != weights(POSITIVE, seed=2)).any()


def test_resamples_do_not_depend_on_the_size_of_the_blocks(monkeypatch):
    whole = weights(POSITIVE, count=7)
    monkeypatch.setattr(metrics, "CELLS_AT_ONCE", 10)
    blocks = list(metrics.resamples(POSITIVE, 7, 1))
    assert len(blocks) == 5 and (np.concatenate(blocks).sum(axis=1) == whole.sum(axis=1)).all()


def test_an_interval_holds_the_middle_of_the_resamples():
    values = np.concatenate([[50.0], np.arange(101.0)])
    assert metrics.estimate(values, alpha=0.1).value == 50
    assert (metrics.estimate(values, alpha=0.1).low, metrics.estimate(values, alpha=0.1).high) == (5, 95)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(60):  # recall of 0.7 among 50 rare rows
        label, predicted = np.ones(50, int), (rng.random(50) < 0.7).astype(int)
        values = metrics.recall(metrics.confusion_matrix(label, predicted, 2, weights(label == 1, 200, seed)), 1)
        covered += metrics.estimate(values).low <= 0.7 <= metrics.estimate(values).high
    assert covered >= 52


def test_a_figure_without_resamples_has_no_interval():
    assert np.isnan(metrics.estimate(np.array([0.4])).low)


def test_the_brier_score_is_worked_out_by_hand():
    assert metrics.brier(np.array([True, False]), np.array([0.8, 0.4])) == pytest.approx([(0.04 + 0.16) / 2])


def test_probabilities_that_come_true_have_no_calibration_error():
    probability = np.repeat([0.25, 0.75], 4)
    positive = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    at = metrics.reliability(positive, probability)
    assert at.expected.tolist() == [0.25, 0.75] and at.observed.tolist() == [0.25, 0.75]
    assert at.error == 0


def test_calibration_error_is_worked_out_by_hand():
    at = metrics.reliability(np.array([True, True, False, False]), np.array([0.6, 0.6, 0.1, 0.1]))
    assert at.error == pytest.approx((0.4 + 0.1) / 2)


def test_constant_probabilities_make_one_bin():
    at = metrics.reliability(POSITIVE, np.full(5, 0.3))
    assert at.rows.tolist() == [5] and at.error == pytest.approx(0.1)


def test_a_share_of_nothing_out_of_few_is_uncertain():
    low, high = metrics.wilson(np.array([0.0]), np.array([10]))
    assert low[0] == 0 and 0.2 < high[0] < 0.35


def quality(count=0):
    return metrics.model_quality(LABEL, PREDICTED, np.linspace(0, 1, 8), ("calm", "keen", "risky"), count=count)


def test_model_quality_has_the_keys_sagemaker_documents():
    multi, two = quality().values()
    weighted = {"accuracy", *(f"weighted_{m}" for m in ("recall", "precision", "f0_5", "f1", "f2"))}
    assert set(multi) == {"confusion_matrix", *weighted, *(f"{m}_best_constant_classifier" for m in weighted)}
    assert {"auc", "f2", "recall_best_constant_classifier", "precision_recall_curve", "false_negative_rate"} <= set(two)
    assert set(two["receiver_operating_characteristic_curve"]) == {"false_positive_rates", "true_positive_rates"}


def test_model_quality_is_json_without_a_bare_nan():
    text = json.dumps(quality(), allow_nan=False)
    assert json.loads(text)["binary_classification_metrics"]["recall"] == {
        "value": pytest.approx(2 / 3),
        "standard_deviation": "NaN",
    }


def test_model_quality_agrees_with_scikit_learn():
    multi = quality(count=20)["multiclass_classification_metrics"]
    expected = reference.precision_score(LABEL, PREDICTED, average="weighted", labels=[0, 1, 2], zero_division=0)
    assert multi["weighted_precision"]["value"] == pytest.approx(expected)
    assert multi["confusion_matrix"]["keen"] == {"calm": 0, "keen": 1, "risky": 1, "unknown": 0}
    assert multi["accuracy"]["standard_deviation"] > 0


def test_positions_are_thinned_evenly_and_keep_both_ends():
    assert metrics.spread_evenly(5, 200).tolist() == [0, 1, 2, 3, 4]
    assert metrics.spread_evenly(1001, 3).tolist() == [0, 500, 1000]
