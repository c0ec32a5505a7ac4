"""Preprocessing: learnt on training rows, said in numbers small enough to check."""

import numpy as np
import pytest

from scarcegan.errors import UserError
from scarcegan.model import preprocessing
from scarcegan.model.preprocessing import CLIP, learn_scaling

NAN, INF = np.nan, np.inf


def column(*values):
    return np.array(values, np.float32)[:, None]


def test_a_plain_column_gets_mean_0_and_variance_1():
    layer = learn_scaling(column(1, 2, 3, 4, 5), ["a"], logarithms=False)
    assert layer(column(3, 5)).numpy()[:, 0] == pytest.approx([0, 2 / np.sqrt(2)], abs=1e-6)


def test_robust_scaling_is_by_median_and_quartiles():
    """1, 2, 3, 4, 100: median 3, quartiles 2 and 4. 4.349 lies 1.349 above the median of a column whose IQR is 2."""
    layer = learn_scaling(column(1, 2, 3, 4, 100), ["a"], logarithms=False, scaling="robust")
    assert layer(column(3, 3 + 2 / 1.349, 1)).numpy()[:, 0] == pytest.approx([0, 1, -1.349], abs=1e-6)


def test_a_column_without_spread_between_its_quartiles_is_scaled_as_by_standard():
    """Eight zeros, 5 and 10: quartiles 0 and 0; mean 1.5, variance (25 + 100) / 10 - 1.5 ** 2 = 10.25."""
    values = column(*[0] * 8, 5, 10)
    robust, standard = (learn_scaling(values, ["a"], logarithms=False, scaling=how) for how in ("robust", "standard"))
    assert robust(column(5)).numpy()[0, 0] == pytest.approx(3.5 / np.sqrt(10.25), abs=1e-6)
    assert (robust(values).numpy() == standard(values).numpy()).all()


def test_one_wild_value_moves_standard_scaling_and_not_robust_scaling():
    calm, wild = column(*range(100)), column(*range(99), 1e6)
    for how, moved in (("robust", False), ("standard", True)):
        found = [
            learn_scaling(rows, ["a"], logarithms=False, scaling=how)(column(20, 50)).numpy() for rows in (calm, wild)
        ]
        assert (np.abs(found[0] - found[1]).max() > 0.05) == moved


def test_a_heavy_tail_is_bent_and_an_even_column_is_not():
    tail = np.expm1(np.linspace(0, 8, 50))
    rows = np.stack([tail, np.linspace(-1, 1, 50)], axis=1).astype(np.float32)
    assert learn_scaling(rows, ["tail", "even"]).logarithmic.numpy().tolist() == [1, 0]


def test_a_missing_value_is_the_median_and_raises_its_flag():
    layer = learn_scaling(np.array([[1, 0], [2, 1], [6, 0], [NAN, 1]], np.float32), ["a", "b"], logarithms=False)
    out = layer(np.array([[NAN, 0], [2, 1]], np.float32)).numpy()
    assert layer.width == 3
    assert out[0, 0] == out[1, 0]
    assert out[:, 2].tolist() == [1, 0]


def test_a_value_missing_only_when_scoring_is_the_median():
    layer = learn_scaling(column(1, 2, 6), ["a"])
    assert layer(column(NAN)).numpy() == layer(column(2)).numpy()


@pytest.mark.parametrize("scaling", ["standard", "robust"])
@pytest.mark.parametrize("values", [(5, 5, 5), (NAN, NAN, NAN), (1e8, 1e8, 1e8)])
def test_a_column_that_says_nothing_comes_out_as_0(values, scaling):
    layer = learn_scaling(column(*values), ["a"], scaling=scaling)
    assert layer(column(7, NAN, INF)).numpy().tolist() == [[0], [0], [0]]


def test_an_infinite_value_is_refused_in_training_by_name():
    rows = np.array([[1, 2], [3, -INF]], np.float32)
    with pytest.raises(UserError, match="feature 'b': 1 infinite values"):
        learn_scaling(rows, ["a", "b"])


def test_an_infinite_value_is_the_bound_when_scoring():
    layer = learn_scaling(column(1, 2, 3), ["a"])
    assert layer(column(INF, -INF)).numpy()[:, 0].tolist() == [CLIP, -CLIP]


def test_no_rows_are_refused():
    with pytest.raises(UserError, match="no training rows"):
        learn_scaling(np.empty((0, 1), np.float32), ["a"])


def test_edges_are_quantiles_of_distinct_values():
    """Ninety-nine zeros count once: distinct values 0, 1, 2 in two bins."""
    scaled = column(*[0] * 99, 1, 2)
    assert preprocessing.bin_edges(scaled, 2).tolist() == [[0, 1, 2]]
    assert preprocessing.bin_edges(scaled, 0) is None


def test_a_wide_table_is_not_encoded():
    most = preprocessing.MOST_BINS // 8
    assert preprocessing.bin_edges(np.zeros((5, most), np.float32), 8) is not None
    assert preprocessing.bin_edges(np.zeros((5, most + 1), np.float32), 8) is None
