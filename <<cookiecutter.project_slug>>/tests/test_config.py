"""config.yaml: what is refused, in which words, and that every value reaches a step."""

import pytest

from scarcegan.errors import UserError
from scarcegan.pipeline import config as settings
from scarcegan.pipeline import definition


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("labels:\n  rare_class: risky\nsplit:\n  folds: 3\n", encoding="utf-8")
    return path


def refusal(path, *changes):
    with pytest.raises(UserError) as error:
        settings.load(path, changes)
    return str(error.value)


def test_what_is_not_written_has_a_default(file):
    config = settings.load(file)
    assert config.labels.classes == ("dormant", "normal", "heavy", "risky")
    assert config.gate.minimum == 0.3


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one(file):
    file.write_text("split:\n  folds: 3\n  test_weks: 2\n", encoding="utf-8")
    assert refusal(file) == f"{file}, line 3: 'split.test_weks' is no setting. Did you mean 'test_weeks'?"


def test_a_change_for_one_run_is_applied_and_a_wrong_one_is_named_as_typed(file):
    assert settings.load(file, ["train.iterations=12"]).train.iterations == 12
    assert refusal(file, "train.iterations=abc").startswith("--set train.iterations=abc: train.iterations: ")
    assert "expected key=value" in refusal(file, "train.iterations")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("gate.minimum=2", "less than or equal to 1 (found: 2)"),
        ("gate.definition=foo", "no business definition"),
        ("labels.rare_class=unknown", "has a meaning of its own"),
        ("labels.negative_classes=[normal, risky]", "stands twice"),
        ("monitor.retrain_windows=9", "would never be suggested"),
        ("data.start=2026-13-01", "a day such as 2026-01-05"),
        ("features.window_days=59", "leave 46 days"),
        ("split.test_share=0.8", "less than a tenth"),
        (
            "business_definitions.high_recall.recall_floor=0.5",
            "takes precision_floor (found: precision_floor, recall_floor)",
        ),
        ("train=3", "valid dictionary"),
        ("project.name=Bad Name", "should match pattern"),
    ],
)
def test_a_value_no_step_could_use_is_refused_before_anything_runs(file, change, words):
    file.write_text(
        "business_definitions:\n"
        "  high_recall: {keep: highest_recall, precision_floor: 0.5}\n"
        "  best_ranking: {keep: highest_pr_auc}\n",
        encoding="utf-8",
    )
    assert words in refusal(file, change)


def test_a_missing_file_broken_yaml_and_wrong_encoding_are_one_sentence_each(tmp_path):
    path = tmp_path / "config.yaml"
    assert "no such file" in refusal(path)
    path.write_text("split: [1, 2\n", encoding="utf-8")
    assert "not valid YAML" in refusal(path)
    path.write_bytes("project: {team: caf\xe9}".encode("latin-1"))
    assert "not UTF-8" in refusal(path)
    path.write_text("- a\n- b\n", encoding="utf-8")
    assert "holds a list" in refusal(path)


def test_every_value_of_a_section_reaches_a_step():
    config = settings.Config.model_validate(
        {"train": {"iterations": 123}, "gate": {"alpha": 0.07}, "split": {"folds": 5}}
    )
    pipeline = definition.training(config)
    assert pipeline.step("train").arguments["iterations"] == 123
    assert pipeline.step("evaluate").arguments["gate-alpha"] == 0.07
    assert pipeline.step("split").arguments["folds"] == 5
    assert pipeline.step("features").arguments["as-of-weeks"] == "2,0"
