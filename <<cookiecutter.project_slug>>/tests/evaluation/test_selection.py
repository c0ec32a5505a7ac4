"""Selection: the four business definitions on rankings of a few rows."""

import numpy as np
import pytest

from scarcegan.evaluation.selection import Candidate, choose_candidate, unknown_threshold

RARE = 1
LABEL = np.array([1, 0, 1, 0, 0, 1, 0, 0])
ORDERED = np.array(
    [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
)  # recall, precision at the rare rows: 1/3 1, 2/3 2/3, 1 1/2
PERFECT = np.where(LABEL == 1, 0.9, 0.1)
NOBODY = np.zeros(8)


def pick(definition, *rarities, unknown=NOBODY, label=LABEL, share=0.0):
    candidates = [Candidate(rarity, unknown) for rarity in rarities]
    return choose_candidate(definition, candidates, label, RARE, share)


def test_highest_recall_goes_as_low_as_the_precision_floor_allows():
    choice = pick({"keep": "highest_recall", "precision_floor": 0.6}, ORDERED)
    assert choice.validation["recall"] == pytest.approx(2 / 3)
    assert choice.validation["precision"] == pytest.approx(2 / 3)
    assert choice.rare == pytest.approx(0.65)  # half way from 0.7 down to 0.6
    assert choice.floor_met


def test_highest_precision_goes_as_high_as_the_recall_floor_allows():
    choice = pick({"keep": "highest_precision", "recall_floor": 0.5}, ORDERED)
    assert choice.validation["precision"] == pytest.approx(2 / 3)
    assert choice.validation["recall"] == pytest.approx(2 / 3)


def test_a_floor_out_of_reach_gives_the_nearest_and_says_so():
    worst = -ORDERED
    choice = pick({"keep": "highest_recall", "precision_floor": 0.9}, worst)
    assert not choice.floor_met
    assert choice.validation["precision"] == pytest.approx(3 / 8)


def test_best_ranking_keeps_the_candidate_that_ranks_best():
    choice = pick({"keep": "highest_pr_auc"}, ORDERED, PERFECT, ORDERED)
    assert choice.candidate == 1
    assert choice.validation["pr_auc"] == 1


def test_of_equal_candidates_the_later_is_kept():
    assert pick({"keep": "highest_pr_auc"}, ORDERED, ORDERED).candidate == 1


def test_fewest_unknown_keeps_the_recall_within_its_tolerance():
    """Candidate 0 finds all and calls two of eight unknown; candidate 1 calls none unknown and finds two of three."""
    two = np.array([0, 0, 0, 0, 0, 0, 1, 1.0])
    weak = np.array([0.9, 0.5, 0.8, 0.5, 0.5, 0.1, 0.5, 0.5])
    candidates = [Candidate(PERFECT, two), Candidate(weak, NOBODY)]
    for tolerance, kept in ((0.05, 0), (0.9, 1)):
        definition = {"keep": "fewest_unknown", "recall_tolerance": tolerance}
        assert choose_candidate(definition, candidates, LABEL, RARE, 0.25).candidate == kept


def test_unlabelled_rows_count_for_the_share_of_unknown_alone():
    label = np.array([1, 0, -1, -1])
    rarity, unknown = np.array([0.9, 0.1, 0.2, 0.3]), np.array([0.0, 0.1, 0.8, 0.9])
    choice = pick({"keep": "highest_pr_auc"}, rarity, unknown=unknown, label=label)
    assert choice.validation["recall"] == choice.validation["precision"] == 1
    assert choice.validation["share_unknown"] == 0.5
    assert choice.validation["share_unknown_of_known"] == 0


def test_the_unknown_threshold_lets_a_share_of_the_known_through_and_no_more():
    scores = np.arange(1, 101) / 100
    assert (scores >= unknown_threshold(scores, 0.05)).sum() == 5
    assert (np.ones(10) >= unknown_threshold(np.ones(10), 0.05)).sum() == 0


def test_the_order_of_rows_changes_nothing():
    order = np.random.default_rng(0).permutation(8)
    for definition in ({"keep": "highest_pr_auc"}, {"keep": "highest_recall", "precision_floor": 0.6}):
        assert pick(definition, ORDERED) == pick(definition, ORDERED[order], label=LABEL[order])


def test_without_a_rare_row_there_is_nothing_to_choose_by():
    with pytest.raises(ValueError, match="no row of the rare class"):
        pick({"keep": "highest_pr_auc"}, ORDERED, label=np.zeros(8, int))
