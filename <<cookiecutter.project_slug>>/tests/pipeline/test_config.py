"""config.yaml: what is refused, in which words, and that every value reaches a step."""

import re
from pathlib import Path

import pytest

from scarcegan.errors import UserError
from scarcegan.pipeline import config as settings
from scarcegan.pipeline import definition

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("labels:\n  rare_class: risky\nsplit:\n  folds: 3\n", encoding="utf-8")
    return path


def refusal(path, *changes):
    with pytest.raises(UserError) as error:
        settings.load_config(path, changes)
    return str(error.value)


def test_what_is_not_written_has_a_default(file):
    config = settings.load_config(file)
    assert config.labels.classes == ("dormant", "normal", "heavy", "risky")
    assert config.gate.minimum == 0.3


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one(file):
    file.write_text("split:\n  folds: 3\n  test_weks: 2\n", encoding="utf-8")
    assert refusal(file) == f"{file}, line 3: 'split.test_weks' is no setting. Did you mean 'split.test_weeks'?"


@pytest.mark.parametrize("name", ["best", "keep", "recall_floor"])
def test_an_unknown_key_of_a_definition_is_refused_whatever_the_definition_is_called(file, name):
    file.write_text(f"business_definitions:\n  {name}: {{kep: highest_pr_auc}}\n", encoding="utf-8")
    assert f"Did you mean 'business_definitions.{name}.keep'?" in refusal(file)


@pytest.mark.parametrize(
    "region", ["mars", "mars-north-1", "eu west 1", "eu-west-1 && rm -rf /", "EU-WEST-1", "eu-west-1\\n"]
)
def test_what_is_not_shaped_like_a_region_is_refused_as_commands_hold_it(file, region):
    file.write_text(f'project:\n  region: "{region}"\n', encoding="utf-8")
    assert "project.region: String should match pattern" in refusal(file)
    assert "as does eu-west-1" in refusal(file)


@pytest.mark.parametrize(
    "region", ["", "us-gov-west-1", "cn-north-1", "ap-southeast-5", "eu-isoe-west-1", "eusc-de-east-1"]
)
def test_regions_of_every_partition_pass_and_a_laptop_needs_none(file, region):
    file.write_text(f'project:\n  region: "{region}"\n', encoding="utf-8")
    assert settings.load_config(file).project.region == region


def test_a_change_for_one_run_is_applied_and_a_wrong_one_is_named_as_typed(file):
    assert settings.load_config(file, ["train.iterations=12"]).train.iterations == 12
    assert refusal(file, "train.iterations=abc").startswith("--set train.iterations=abc: train.iterations: ")
    assert "expected key=value" in refusal(file, "train.iterations")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("gate.minimum=2", "less than or equal to 1 (found: 2)"),
        ("gate.definition=foo", "no business definition"),
        ("labels.rare_class=unknown", "has a meaning of its own"),
        ("labels.negative_classes=[normal, risky]", "occurs twice"),
        ("monitor.retrain_windows=9", "would never be suggested"),
        ("data.start=2026-13-01", "a day such as 2026-01-05"),
        ("features.window_days=59", "leave 46 days"),
        ("split.test_share=0.8", "less than a tenth"),
        (
            "business_definitions.high_recall.recall_floor=0.5",
            "takes precision_floor (found: precision_floor, recall_floor)",
        ),
        ("train=3", "train: a section: indented 'key: value' lines"),
        ("project.name=Bad Name", "*$', as does rare-players (found: 'Bad Name')"),
        ("project.name=aws-x", "AWS keeps names that begin with aws, ssm, amzn-s3-demo-, sthree- for itself"),
        ("labels.rare_class=class", "has a meaning of its own"),
        ("cloud.instances.train=p3", "+$', as does ml.m5.xlarge (found: 'p3')"),
        ("cloud.scoring_schedule=weekly", ": expected rate(7 days) or cron(0 5 ? * MON *) (found: 'weekly')"),
        ("project.team=R&D", "letters, digits, spaces and _ . : / = + - @ but not &; write for example R and D"),
        ("project.team=''", "takes 1 to 256 letters"),
        ('project.description="two\\nlines"', "write it in one line"),
        ('project.description="turned \\u202e round"', "write it in one line"),
        ("cloud.tags={team: fraud}", "made of project.team"),
        ("cloud.tags={Team: fraud}", "made of project.team"),
        ("cloud.tags={a: R&D}", "as does cost-centre"),
        ("train.scarcegan.alpha=0", "train.scarcegan.alpha: "),
        ("train.scarcegan.alhpa=1", "Did you mean 'train.scarcegan.alpha'?"),
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


def test_a_merge_conflict_is_named_with_its_line_and_what_to_do(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("split:\n<<<<<<< ours\n  folds: 3\n=======\n  folds: 4\n>>>>>>> theirs\n", encoding="utf-8")
    assert "config.yaml, line 2: a merge conflict (<<<<<<<). Keep what you want of both sides" in refusal(path)


def test_a_missing_file_broken_yaml_and_wrong_encoding_are_one_sentence_each(tmp_path):
    path = tmp_path / "config.yaml"
    assert "no such file" in refusal(path)
    path.write_text("split: [1, 2\n", encoding="utf-8")
    assert "not valid YAML" in refusal(path)
    path.write_bytes("project: {team: caf\xe9}".encode("latin-1"))
    assert "not UTF-8" in refusal(path)
    path.write_text("- a\n- b\n", encoding="utf-8")
    assert "holds no sections" in refusal(path)


def test_every_value_of_a_section_reaches_a_step():
    config = settings.Config.model_validate(
        {"train": {"iterations": 123}, "gate": {"alpha": 0.07}, "split": {"folds": 5}}
    )
    pipeline = definition.training(config)
    assert pipeline.step("train").arguments["iterations"] == 123
    assert pipeline.step("evaluate").arguments["gate-alpha"] == 0.07
    assert pipeline.step("split").arguments["folds"] == 5
    assert pipeline.step("features").arguments["as-of-weeks"] == "2,0"


def test_a_value_that_stands_twice_is_refused_and_not_quietly_the_last_one(file):
    file.write_text("train:\n  iterations: 5\n  iterations: 6\n", encoding="utf-8")
    assert "'iterations' occurs twice" in refusal(file) and "line 3" in refusal(file)


def test_a_wrong_item_of_a_changed_list_is_named_as_typed_not_as_a_line_of_the_file(file):
    file.write_text("features:\n  windows: [7, 14]\n", encoding="utf-8")
    assert refusal(file, "features.windows=[0]").startswith("--set features.windows=[0]: features.windows.0: ")


def test_a_folder_in_the_place_of_the_file_is_refused_in_a_sentence(tmp_path):
    assert "not a file" in refusal(tmp_path) and "--config" in refusal(tmp_path)


def test_the_train_step_takes_every_hyperparameter_that_the_definition_passes_and_no_other():
    from scarcegan.steps import train

    arguments = definition.training(settings.Config()).step("train").arguments
    words = [
        word
        for name, value in arguments.items()
        for word in (f"--{name}", str(value).lower() if isinstance(value, bool) else str(value))
    ]
    folders = ["labelled", "unlabelled", "validation", "folds", "models-out", "curves-out"]
    args = vars(train.parser().parse_args([*words, *(word for name in folders for word in (f"--{name}", "x"))]))
    optional = {"checkpoints", "reports"}
    assert {name.replace("_", "-") for name in set(args) - optional} == {*arguments, *folders}


def test_class_weights_are_one_per_class_or_none(file):
    assert "3 numbers, there are 4 classes" in refusal(file, "train.class_weights=[1.0, 2.0, 3.0]")


def test_a_batch_holds_a_row_of_each_class(file):
    assert "batch_size is 3, there are 4 classes" in refusal(file, "train.batch_size=3")


def test_a_category_is_a_column_of_a_ready_table_and_nothing_else(file):
    assert "telemetry has counters only" in refusal(file, "data.categories=[country]")
    for change in ("data.columns=[country]", "data.user_column=country"):
        with pytest.raises(UserError, match=r"the column 'country' is named twice: .* and data.categories"):
            settings.load_config(file, ["data.kind=features", "data.categories=[country]", change])


def test_a_model_package_group_is_a_name_or_the_arn_of_one_that_another_account_shares(file):
    arn = "arn:aws:sagemaker:eu-west-1:123456789012:model-package-group/risky"
    assert settings.load_config(file, [f"project.model_package_group={arn}"]).project.model_package_group == arn
    digits = arn.replace("123456789012", "١" * 12)
    for wrong in ("-risky", "team/risky", arn.replace("123456789012", "me"), digits, "g" * 64, "g" + 70 * "-" + "g"):
        assert "model_package_group" in refusal(file, f"project.model_package_group={wrong}")


@pytest.mark.parametrize(
    ("text", "line", "old", "new"),
    [
        ("train:\n  iterations: 3\n  alpha: 0.7\n", 3, "train.alpha", "train.scarcegan.alpha"),
        ("local:\n  retries: 2\n", 2, "local.retries", "retries"),
        ("gate:\n  baseline: required\n", 2, "gate.baseline", "gate.simple_models"),
    ],
)
def test_a_renamed_key_is_refused_with_its_new_name(file, text, line, old, new):
    file.write_text(text, encoding="utf-8")
    assert refusal(file) == f"{file}, line {line}: '{old}' is now '{new}'. Move it there."
    file.write_text("{}", encoding="utf-8")
    assert refusal(file, f"{old}=1") == f"--set {old}=1: '{old}' is now '{new}'. Type that instead."


def test_every_new_name_of_a_renamed_key_is_a_key(file):
    for new in settings.RENAMED.values():
        *section, key = new.split(".")
        assert key in settings.known_keys(tuple(section))


def test_a_setting_that_is_gone_says_what_to_do(tmp_path):
    (tmp_path / "config.yaml").write_text("cloud:\n  approval: Approved\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2: 'cloud\.approval' is no setting any more\. Delete the line: "):
        settings.load_config(tmp_path / "config.yaml")


def test_research_values_reach_the_train_step_under_their_flat_names(file):
    config = settings.load_config(file, ["train.scarcegan.alpha=1", "train.scarcegan.pull_away=matrix"])
    train = definition.training(config).step("train")
    assert (train.arguments["alpha"], train.arguments["pull-away"]) == (1.0, "matrix")
    assert train.parameters["pull-away"] == "train.scarcegan.pull_away"


def test_an_empty_number_of_workers_is_left_to_the_machine(file):
    file.write_text("local:\n  workers:\n", encoding="utf-8")
    assert settings.load_config(file).local.workers is None
    assert settings.load_config(file, ["local.workers=3"]).local.workers == 3


def test_a_team_may_have_letters_of_any_alphabet_and_the_signs_of_a_tag(file):
    for team in ("Équipe Jeu 2 @ R+D", "日本 チーム", "a" * 256):
        assert settings.load_config(file, [f"project.team={team}"]).project.team == team
    assert "project.team" in refusal(file, f"project.team={'a' * 257}")


def test_the_rule_for_a_team_is_the_one_of_sagemakers_own_model():
    import botocore.session

    found = botocore.session.get_session().get_service_model("sagemaker").shape_for("TagValue").metadata
    assert found == {"min": 0, "max": settings.LONGEST_TAG_VALUE, "pattern": r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)"}


def test_docs_model_md_explains_every_key_of_training_and_no_other():
    text = (DOCS / "model.md").read_text(encoding="utf-8").partition("## Every setting")[2].partition("\n## ")[0]
    usual, research = (re.findall(r"^\| `(\w+)` \|", part, re.M) for part in text.split("`train.scarcegan:`"))
    assert usual == [name for name in settings.TrainSettings.model_fields if name != "scarcegan"]
    assert research == list(settings.ScarceganSettings.model_fields)


@pytest.mark.parametrize("name", ["features", "split", "baseline", "evaluate", "score", "monitor", "register"])
def test_a_step_requires_every_argument_that_the_definition_gives_and_knows_no_other(name):
    from importlib import import_module

    config = settings.Config()
    pipelines = (definition.training(config), definition.scoring(config), definition.monitoring(config))
    [step, *_] = [step for pipeline in pipelines for step in pipeline.steps if step.name == name]
    actions = {action.dest.replace("_", "-"): action for action in import_module(step.module).parser()._actions}
    folders = {*step.inputs, *(f"{output}-out" for output in step.outputs), "help", "labels"}
    assert actions.keys() - folders == step.arguments.keys()
    assert [name for name in step.arguments if not actions[name].required] == []


def test_settings_that_an_older_run_recorded_are_compared_under_their_present_names():
    recorded = {"train": {"iterations": 5, "alpha": 0.2}, "local": {"retries": 3, "workers": 2}, "gate": {}}
    assert settings.with_present_names(recorded) == {
        "train": {"iterations": 5, "scarcegan": {"alpha": 0.2}},
        "local": {"workers": 2},
        "retries": 3,
        "gate": {},
    }
    assert recorded["local"] == {"retries": 3, "workers": 2}


def test_what_was_changed_is_named_by_its_key():
    before = {"train": {"iterations": 5, "trunk": [1]}, "seed": 1}
    after = {"train": {"iterations": 6, "trunk": [1]}, "seed": 2}
    assert dict(settings.differences(before, after)) == {"train.iterations": 6, "seed": 2}


def test_a_time_format_needs_no_quotes_on_the_command_line(file):
    for pattern in ("%d.%m.%Y", "%Y-%m-%dT%H:%M:%S%z"):
        assert settings.load_config(file, [f"data.time_format={pattern}"]).data.time_format == pattern


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.time_format=%d.%m", "pattern with year, month and day"),
        ("data.time_format=%c", "pattern with year, month and day"),
        ("data.time_zone=Europe/Berlinn", "for example, Europe/Berlin"),
        ("data.aggregate={sessions: sum}", "says nothing of 'minutes'"),
        ("data.aggregate={clicks: sum}", "'clicks' is no counter"),
        ("data.signed_counters=[balance]", "'balance' is no counter"),
    ],
)
def test_what_the_data_settings_cannot_mean_is_refused(file, change, words):
    assert words in refusal(file, change)
