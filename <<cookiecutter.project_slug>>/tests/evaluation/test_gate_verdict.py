"""The gate on both sides of every rule, the challenger and the champion always with different numbers."""

import json

import numpy as np
import pytest

from scarcegan.errors import UserError
from scarcegan.evaluation.comparison import Comparison, GateRules, decide_gate, prefer
from scarcegan.pipeline.config import GateSettings


def samples(value: float, sd: float = 0.02, seed: int = 0) -> np.ndarray:
    """A figure and 400 resamples around it."""
    return np.append(value, np.random.default_rng(seed).normal(value, sd, 400))


def rules(definition: str, metric: str, minimum: float, **more: str | float) -> GateRules:
    """The rules of config.yaml's defaults but for these."""
    return GateRules(**(GateSettings(definition=definition, metric=metric, minimum=minimum, **more).model_dump()))


def judge_against(challenger: float, champion: float, rule: str) -> dict:
    ours, theirs = samples(challenger, seed=1), samples(champion, seed=2)
    return decide_gate(
        rules("best_ranking", "pr_auc", 0.5, champion=rule), ours, Comparison("version 3", ours, theirs), None
    )


@pytest.mark.parametrize(("value", "passed"), [(0.49, False), (0.50, True), (0.60, True)])
def test_without_a_champion_the_minimum_decides(value, passed):
    verdict = decide_gate(rules("best_ranking", "pr_auc", 0.5), samples(value), None, None)
    assert verdict["passed"] is passed
    assert verdict["champion"] is None and verdict["difference"] is None


@pytest.mark.parametrize(
    ("challenger", "champion", "not_worse", "better"),
    [(0.80, 0.60, True, True), (0.60, 0.80, False, False), (0.70, 0.69, True, False), (0.69, 0.70, True, False)],
)
def test_the_champion_is_measured_with_its_own_number(challenger, champion, not_worse, better):
    for rule, expected in (("not_worse", not_worse), ("better", better)):
        verdict = judge_against(challenger, champion, rule)
        assert verdict["passed"] is expected
        assert (verdict["challenger"], verdict["champion"]) == (challenger, champion)
        assert verdict["difference"]["value"] == pytest.approx(challenger - champion)


def test_the_champion_itself_is_not_worse_and_not_better_than_the_champion():
    same = samples(0.7)
    for rule, passed in (("not_worse", True), ("better", False)):
        verdict = decide_gate(rules("d", "pr_auc", 0.5, champion=rule), same, Comparison("version 3", same, same), None)
        assert verdict["passed"] is passed
        assert verdict["difference"] == {"value": 0, "low": 0, "high": 0}


def test_the_difference_is_paired():
    # The resamples vary far more than the challenger's lead over the champion, which every resample shows.
    champion = samples(0.6, sd=0.1)
    verdict = decide_gate(
        rules("d", "pr_auc", 0.5, champion="better"),
        champion + 0.01,
        Comparison("", champion + 0.01, champion),
        None,
    )
    assert verdict["passed"]


def test_a_smaller_alpha_asks_for_more_evidence():
    ours, theirs = samples(0.70, seed=1), samples(0.63, seed=2)
    strict, loose = (
        decide_gate(rules("d", "pr_auc", 0.5, champion="better", alpha=a), ours, Comparison("", ours, theirs), None)[
            "passed"
        ]
        for a in (0.001, 0.05)
    )
    assert (strict, loose) == (False, True)


def test_a_champion_below_the_minimum_does_not_open_the_gate():
    verdict = judge_against(0.45, 0.30, "better")
    assert not verdict["passed"] and "0.450 is below the minimum 0.5" in verdict["reason"]


def test_only_the_rules_that_failed_are_named():
    reason = judge_against(0.60, 0.80, "not_worse")["reason"]
    assert "worse than the champion's 0.800" in reason and "minimum" not in reason


def test_the_reason_is_one_sentence_with_the_figures():
    reason = judge_against(0.80, 0.60, "not_worse")["reason"]
    assert reason.startswith("The gate opens for best_ranking: ") and reason.endswith(".")
    assert all(figure in reason for figure in ("0.800", "0.5", "0.600", "+0.200", "95 % interval"))


def test_a_figure_that_cannot_be_measured_keeps_the_gate_shut():
    nothing = np.full(401, np.nan)
    verdict = decide_gate(rules("d", "pr_auc", 0.5), nothing, Comparison("version 3", nothing, samples(0.6)), None)
    assert not verdict["passed"] and "holds no row of the rare class" in verdict["reason"]
    assert json.loads(json.dumps(verdict, allow_nan=False))["challenger"] is None


def test_a_precision_without_a_flagged_user_keeps_the_gate_shut():
    nothing = np.full(11, np.nan)
    verdict = decide_gate(rules("d", "precision", 0.0), nothing, None, None)
    assert not verdict["passed"] and "flags no test user" in verdict["reason"]


def test_a_champion_whose_figure_cannot_be_measured_is_not_beaten():
    ours = samples(0.7)
    for rule, passed in (("not_worse", False), ("better", False), ("report", True)):
        rival = Comparison("version 3", ours, np.full(len(ours), np.nan))
        assert decide_gate(rules("d", "pr_auc", 0.5, champion=rule), ours, rival, None)["passed"] is passed


@pytest.mark.parametrize(("rule", "passed"), [("not_worse", False), ("better", False), ("report", True)])
def test_a_champion_that_cannot_be_compared_stops_the_gate_and_says_what_to_do(rule, passed):
    ours = samples(0.7)
    rival = Comparison("version 3", ours, None, "it needs features that the test rows lack (nights)")
    verdict = decide_gate(rules("d", "pr_auc", 0.5, champion=rule), ours, rival, None)
    assert verdict["passed"] is passed and "version 3 cannot be compared" in verdict["reason"]
    assert ("gate.champion to report" in verdict["reason"]) is not passed


@pytest.mark.parametrize(("simple", "passed"), [(0.60, True), (0.69, False), (0.80, False)])
def test_a_win_over_the_best_simple_model_can_be_required(simple, passed):
    ours = samples(0.70, seed=1)
    rival = Comparison("logistic regression", ours, samples(simple, seed=3))
    reported = decide_gate(rules("d", "pr_auc", 0.5, simple_models="report"), ours, None, rival)
    assert reported["passed"] and reported["best_simple_model"]["value"] == simple
    required = decide_gate(rules("d", "pr_auc", 0.5, simple_models="required"), ours, None, rival)
    assert required["passed"] is passed and "logistic regression" in required["reason"]


def test_a_required_win_over_a_simple_model_that_is_missing_keeps_the_gate_shut():
    assert not decide_gate(rules("d", "pr_auc", 0.5, simple_models="required"), samples(0.9), None, None)["passed"]


def test_a_metric_that_the_gate_cannot_use_is_refused():
    with pytest.raises(UserError, match=r"'accuracy' cannot be used by the gate.*pr_auc, recall"):
        GateRules("d", "accuracy", 0.5, "report", "report", 0.05)


TITLES = {"simple": "logistic regression", "trees": "gradient boosting", "ours": "ScarceGAN"}


def preferred(**values: float):
    return prefer({name: samples(value, seed=i) for i, (name, value) in enumerate(values.items())}, TITLES, "ours")


def test_the_best_method_is_preferred_when_the_spread_cannot_explain_its_lead():
    found = preferred(simple=0.5, trees=0.6, ours=0.8)
    assert found.method == "ours" and found.sentence.startswith("Prefer ScarceGAN")
    assert "next is gradient boosting with 0.600 (" in found.sentence
    assert found.sentence.endswith("The lead is beyond the spread.")


def test_another_method_is_preferred_when_ours_is_shown_to_be_worse():
    found = preferred(simple=0.6, trees=0.8, ours=0.5)
    assert found.method == "trees" and found.sentence.endswith("ScarceGAN has 0.500.")


def test_the_simpler_method_is_preferred_when_there_is_no_difference_beyond_the_spread():
    found = preferred(simple=0.69, trees=0.5, ours=0.70)
    assert found.method == "simple" and found.best == "ours"
    assert "PR-AUC, 0.690, is within the spread of the best: ScarceGAN with 0.700 (" in found.sentence


def test_the_simplest_method_is_preferred_when_it_is_also_the_best():
    found = preferred(simple=0.70, trees=0.5, ours=0.69)
    assert found.method == found.best == "simple"
    assert found.sentence.endswith("The lead is within the spread; of the methods within it, this is the simplest.")


def test_a_method_is_preferred_where_ours_could_not_be_measured():
    found = prefer({"simple": samples(0.6), "trees": samples(0.9, seed=1), "ours": np.full(11, np.nan)}, TITLES, "ours")
    assert found.method == "trees" and "ScarceGAN" not in found.sentence


def test_no_method_is_preferred_where_nothing_could_be_measured():
    nothing = np.full(11, np.nan)
    assert "No method can be preferred" in prefer({"simple": nothing, "ours": nothing}, TITLES, "ours").sentence
