"""What each engine says it cannot run."""

from dataclasses import replace

import pytest

from scarcegan.local import engine as local
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Gate, Pipeline, Step, every_pipeline
from scarcegan.sagemaker import engine as sagemaker

PIPELINES = every_pipeline(Config())


@pytest.mark.parametrize("name", PIPELINES)
def test_this_machine_runs_every_pipeline_whole(name):
    assert local.cannot_run(PIPELINES[name]) == []


@pytest.mark.parametrize("name", ["training", "scoring"])
def test_sagemaker_runs_training_and_scoring_whole(name):
    assert sagemaker.cannot_run(PIPELINES[name]) == []


def test_sagemaker_names_the_monitoring_pipeline_and_what_it_would_read():
    [part] = sagemaker.cannot_run(PIPELINES["monitoring"])
    assert "the whole monitoring pipeline" in part and "captured, baseline, truth" in part


def test_a_step_of_an_unknown_kind_is_named_by_both_engines():
    training = PIPELINES["training"]
    glue = replace(training.step("split"), kind="glue")
    changed = replace(training, steps=(training.steps[0], glue, *training.steps[2:]))
    assert [part.split(":")[0] for part in local.cannot_run(changed)] == ["step 'split'"]
    assert [part.split(":")[0] for part in sagemaker.cannot_run(changed)] == ["step 'split'"]


def test_sagemaker_names_a_function_that_is_not_there_and_gates_side_by_side():
    steps = (
        Step("a", "toy.a", {}, ("gate",)),
        Step("b", "toy.b", {}, ("gate",)),
        Gate("first", on="a.gate"),
        Gate("second", on="b.gate"),
        Step("act", "toy.act", {}, ("done",), kind="lambda", after=("first", "second")),
    )
    parts = sagemaker.cannot_run(Pipeline("training", (), steps))
    assert any("of which neither waits for the other" in part for part in parts)
    assert any("step 'act': it has no Lambda function" in part for part in parts)
