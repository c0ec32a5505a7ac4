"""The pipelines as data: order, channels, and what cannot be written."""

import functools

import pytest

from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Gate, Pipeline, Step, argument_value, monitoring, scoring, training


def step(name, outputs=("out",), **inputs):
    return Step(name, f"toy.{name}", inputs=inputs, outputs=outputs)


def test_nothing_is_registered_before_the_gate():
    pipeline = training(Config())
    assert pipeline.parents(pipeline.step("register")) == ("train", "evaluate", "baseline", "gate")
    assert pipeline.parents(pipeline.step("gate")) == ("evaluate",)


def test_scoring_and_training_make_features_by_the_same_step_and_differ_in_days_and_labels_only():
    one, other = (pipeline(Config()).step("features") for pipeline in (training, scoring))
    assert one.module == other.module
    differing = {k for k in one.arguments if one.arguments[k] != other.arguments[k]}
    assert differing == {"as-of-weeks"}
    assert set(one.inputs) - set(other.inputs) == {"labels"}


def test_ground_truth_may_be_missing_when_monitoring():
    assert monitoring(Config()).optional == ("truth",)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((step("a"), step("a")), "two steps are called 'a'"),
        ((step("a", data="b.out"), step("b")), "reads 'b.out', which no earlier step writes"),
        ((step("a", data="a.out"),), "reads 'a.out'"),
        ((step("a"), step("b", data="a.oot")), "reads 'a.oot'"),
        ((Gate("gate", on="a.gate"),), "reads 'a.gate'"),
    ],
)
def test_a_cycle_a_misspelt_channel_and_a_name_used_twice_cannot_be_written(steps, words):
    with pytest.raises(ValueError, match=words):
        Pipeline("toy", sources=("data",), steps=steps)


def test_an_unknown_step_is_answered_with_the_nearest_name():
    with pytest.raises(KeyError, match="did you mean 'train'"):
        training(Config()).step("trian")


def test_every_parameter_names_the_key_of_config_yaml_its_value_comes_from():
    changed = {"train": {"iterations": 123, "scarcegan": {"alpha": 0.5}}, "gate": {"minimum": 0.42}}
    config = Config.model_validate({**changed, "split": {"seed": 99}})
    for pipeline in (training(config), scoring(config), monitoring(config)):
        for found in (found for found in pipeline.steps if isinstance(found, Step)):
            for argument, key in found.parameters.items():
                value = functools.reduce(getattr, key.split("."), config)
                assert argument_value(value) == found.arguments[argument], key
