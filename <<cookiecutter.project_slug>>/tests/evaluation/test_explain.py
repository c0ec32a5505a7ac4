"""Attributions on models whose answer is known by heart."""

from types import SimpleNamespace

import numpy as np
import pytest

from scarcegan.evaluation.explain import permutation_importance, shapley_values, typical_training_row


class Model:
    """Rarity by a formula of the features, NaN counting as 0."""

    def __init__(self, formula):
        self.formula = formula

    def score(self, values):
        return SimpleNamespace(rarity=self.formula(np.nan_to_num(values.astype(float))))


LINEAR = Model(lambda x: 0.1 + 0.2 * x[:, 0] - 0.3 * x[:, 1])
CURVED = Model(lambda x: 1 / (1 + np.exp(-x.prod(axis=1) - x[:, 0])))
ROWS = np.array([[1.0, 2.0, 3.0], [-1.0, np.nan, 0.5]], np.float32)
USUAL = np.array([0.5, 1.0, np.nan], np.float32)


def test_a_linear_model_is_explained_exactly():
    assert shapley_values(LINEAR, ROWS[:1], USUAL)[0] == pytest.approx([0.2 * 0.5, -0.3 * 1.0, 0.0])


@pytest.mark.parametrize("orders", [1, 5])
def test_attributions_add_up_to_the_difference_in_rarity(orders):
    found = shapley_values(CURVED, ROWS, USUAL, orders=orders)
    difference = CURVED.score(ROWS).rarity - CURVED.score(USUAL[None]).rarity
    assert found.sum(axis=1) == pytest.approx(difference)


def test_two_features_that_only_count_together_share_what_they_add():
    both = Model(lambda x: x[:, 0] * x[:, 1])
    assert shapley_values(both, np.array([[1.0, 1.0]]), np.zeros(2), orders=1)[0] == pytest.approx([0.5, 0.5])


def test_a_row_like_the_usual_one_has_nothing_to_explain():
    assert (shapley_values(CURVED, USUAL[None], USUAL) == 0).all()


def test_an_attribution_does_not_depend_on_the_other_rows():
    assert shapley_values(LINEAR, ROWS, USUAL)[1] == pytest.approx(shapley_values(LINEAR, ROWS[1:], USUAL)[0])


def test_the_usual_row_is_the_median_and_missing_where_most_rows_are():
    values = np.array([[1, np.nan], [2, np.nan], [9, 5]], np.float32)
    assert typical_training_row(values)[0] == 2 and np.isnan(typical_training_row(values)[1])


def test_only_features_the_model_reads_are_important():
    values = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    target = LINEAR.score(values).rarity
    losses = permutation_importance(
        LINEAR, values, lambda rarity: -np.mean((rarity - target) ** 2), np.random.default_rng(1)
    )
    assert losses[1] > losses[0] > 0 and losses[2] == 0
