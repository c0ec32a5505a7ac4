"""Simple models on users that are easy to tell apart, and on tables that are not fit to learn from."""

import numpy as np
import pytest

from scarcegan.errors import UserError
from scarcegan.evaluation import metrics
from scarcegan.model.signed_log import signed_log
from scarcegan.model.simple import simple_models
from tiny_models import users

TRAINED = users({0: 120, 1: 80, 2: 20}, seed=2)
FRESH = users({0: 300, 1: 200, 2: 30}, seed=3)
POSITIVE = FRESH.label == 2


def fitted(table=TRAINED, **more):
    return simple_models.train_simple_models(table.values, table.label, seed=7, seeds=2, **more)


def pr_auc(score):
    return float(metrics.pr_auc(metrics.threshold_curve(POSITIVE, score))[0])


def test_every_simple_model_finds_users_that_are_easy_to_find():
    for model in fitted(unlabelled=users({-1: 200}, seed=4).values):
        score = model.score(FRESH.values)
        assert pr_auc(score) > 0.75, model.name
        assert score.shape == POSITIVE.shape and ((score >= 0) & (score <= 1)).all()


def test_the_simplest_model_comes_first():
    assert [model.name for model in fitted()] == ["logistic_regression", "gradient_boosting", "balanced_mlp"]


def test_self_training_joins_where_there_are_unlabelled_rows():
    assert fitted(unlabelled=users({-1: 50}, seed=4).values)[1].name == "self_training"


def test_the_same_seed_trains_the_same_models():
    for one, again in zip(fitted(), fitted(), strict=True):
        assert (one.score(FRESH.values) == again.score(FRESH.values)).all()


def test_a_column_without_values_and_one_that_never_varies_are_not_learnt_from():
    odd = [np.full((len(t), 1), x) for t in (TRAINED, FRESH) for x in (np.nan, 1.0)]
    trained = np.hstack([TRAINED.values, *odd[:2]])
    usual, strange = (np.hstack([FRESH.values, odd[2], times * odd[3]]) for times in (1, 1e9))
    for model in simple_models.train_simple_models(trained, TRAINED.label, seed=7, seeds=1):
        assert model.score(strange) == pytest.approx(model.score(usual)), model.name
        assert pr_auc(model.score(strange)) > 0.6, model.name


def test_two_rare_users_are_enough_to_train_on():
    assert len(fitted(users({0: 30, 1: 30, 2: 2}, seed=5))) == 3


@pytest.mark.parametrize("counts", [{}, {2: 20}])
def test_one_class_alone_is_refused(counts):
    table = users(counts or {0: 1})
    with pytest.raises(UserError, match="one class only"):
        simple_models.train_simple_models(
            table.values[: sum(counts.values())], table.label[: sum(counts.values())], seed=7
        )


def test_signed_log_keeps_sign_and_zero():
    assert signed_log(np.array([-np.e + 1, 0, np.e - 1])) == pytest.approx([-1, 0, 1])
