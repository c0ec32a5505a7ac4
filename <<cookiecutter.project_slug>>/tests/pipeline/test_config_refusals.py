"""config.yaml as nobody should write it: each file is refused in a sentence, soon, and without a traceback."""

import pytest

from scarcegan.errors import UserError
from scarcegan.pipeline import config as settings


@pytest.fixture
def refusal(tmp_path):
    """refusal(text, *changes): why a config.yaml with this text is refused."""

    def of(text, *changes):
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(UserError) as error:
            settings.load_config(path, changes)
        return str(error.value).replace(str(path), "config.yaml")

    return of


@pytest.fixture
def accepted(tmp_path):
    """accepted(text, *changes): the settings of a config.yaml with this text."""

    def of(text, *changes):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return settings.load_config(path, changes)

    return of


# -- what is no settings at all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[]", "0", "false", "''", "5", "- a", "{{}: 1}"])
def test_a_file_that_holds_no_sections_is_refused_whatever_else_it_holds(refusal, text):
    assert refusal(text).startswith("config.yaml")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null"])
def test_an_empty_file_stands_for_the_defaults(accepted, text):
    assert accepted(text) == settings.Config()


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: " + "[" * 2000 + "]" * 2000, "nested more than"),
        ("data: {" + "a: {" * 2000 + "}" * 2001, "nested more than"),
        ("data: &me {path: *me}", "line 1: 'me' contains itself"),
        ("data: &me\n  <<: *me\n", "line 2: 'me' contains itself"),
        ("data: &me [*me]", "'me' contains itself"),
        (BOMB, "more than 20,000 values"),
        ("".join(f"key_{n}: 1\n" for n in range(50_000)), "more than 20,000 values"),
        ("data: {columns: [" + "x, " * 50_000 + "]}", "more than 20,000 values"),
        ("data: {path: " + "x" * 2_000_000 + "}", "2,000,014 characters, settings have at most 1,000,000"),
    ],
    ids=[
        "deep lists",
        "deep sections",
        "self",
        "self-merging",
        "list in itself",
        "bomb",
        "50,000 keys",
        "50,000 items",
        "long",
    ],
)
def test_a_file_that_grows_or_turns_in_a_circle_is_refused_before_it_is_built(refusal, text, words):
    found = refusal(text)
    assert words in found and len(found) < 300 and "\n" not in found
    if "\n" not in text:
        found = refusal("{}", f"data={text.partition(': ')[2]}")
        assert "not a value that a setting can have" in found and len(found) < 300


@pytest.mark.parametrize(
    "text",
    [
        "split: {seed: !!int abc}",
        "split: {seed: !!int ''}",
        "split: {test_share: !!float ''}",
        "split: {seed: !!bool maybe}",
        "data: {start: !!timestamp soon}",
        "data: {start: !!timestamp 2026-99-99}",
        "data: !!python/object:os.system {}",
        "data: !!set {a, b}",
        "split: {seed: " + "9" * 5000 + "}",
        "? [a, b]\n: c",
        "? {a: b}\n: c",
        "1: 2",
        "true: 2",
        "train: {1: 2}",
        "a: *nobody",
        "--- {}\n--- {}",
        "a: 'b",
        "\x00",
        "data: {path: a\x00b}",
        b"\xff\xfe",
        "a: 1\n\tb: 2",
        "%YAML 9.9\n--- {}",
        "business_definitions: {1: {keep: highest_pr_auc}}",
        "business_definitions: []",
        "cloud: {tags: {1: 2}}",
        "cloud: {tags: [a]}",
        "data: {counters: {a: b}}",
    ],
)
def test_what_yaml_or_its_tags_cannot_mean_here_is_a_sentence(refusal, text):
    assert refusal(text).startswith("config.yaml")


def test_a_key_that_is_merged_from_a_named_section_counts(accepted):
    config = accepted("business_definitions:\n  best_ranking: &best {keep: highest_pr_auc}\n  other: {<<: *best}\n")
    assert config.business_definitions["other"].keep == "highest_pr_auc"


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1:30", "017", "0x1F", "0b11", "1:30.5", "190:20:30"])
def test_what_old_yaml_reads_as_another_number_is_no_number(refusal, text):
    assert f"data.days: Input should be a valid integer (found: '{text}')" in refusal(f"data: {{days: {text}}}")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("1E-3", 0.001), ("0.5", 0.5), (".5", 0.5), ("5e-1", 0.5)]
)
def test_a_number_is_written_as_anywhere_else(accepted, text, value):
    assert accepted(f"train: {{learning_rate: {text}}}").train.learning_rate == value


def numbers(kind=settings.Config, prefix=""):
    """The dotted key of every setting that may be a number."""
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, settings.ConfigSection):
            yield from numbers(field.annotation, f"{prefix}{name}.")
        elif field.annotation in (int, float, int | None, float | None):
            yield f"{prefix}{name}"


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e309", "99999999999999999999", "1e300"])
def test_no_setting_is_no_number_endless_or_absurdly_large(refusal, value):
    keys = list(numbers())
    assert len(keys) > 40 and "train.scarcegan.weight_decay" in keys
    for key in keys:
        assert refusal("{}", f"{key}={value}").startswith(f"--set {key}={value}: {key}: "), key


@pytest.mark.parametrize("value", [".nan", ".inf", "1e39"])
def test_an_endless_weight_in_a_list_is_refused(refusal, value):
    assert "train.class_weights.0" in refusal(f"train: {{class_weights: [{value}, 1.0, 1.0, 1.0]}}")


def test_weights_that_are_all_zero_are_refused(refusal, accepted):
    assert "class_weights are all 0" in refusal("train: {class_weights: [0, 0.0, 0, 0]}")
    assert accepted("train: {class_weights: [0, 0, 0, 1]}").train.class_weights[3] == 1


# -- days -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", ["9999999", "99999999999999999999", "0", "-1"])
def test_more_days_than_a_calendar_has_are_refused(refusal, days):
    assert "data.days: Input should be " in refusal(f"data: {{days: {days}}}")


@pytest.mark.parametrize(
    "start", ["9999-12-31", "0001-01-01", "1500-01-01", "2300-01-01", "2026-13-01", "2026-W01-1", "2026-1-5"]
)
def test_a_day_that_no_telemetry_has_is_refused(refusal, start):
    assert "data.start: " in refusal(f"data: {{start: {start}}}")


@pytest.mark.parametrize(
    ("windows", "words"), [("[7, 7]", "7 is named twice"), ("[7, 60]", "60 days do not fit into window_days 46")]
)
def test_windows_differ_and_fit_into_the_history(refusal, windows, words):
    assert words in refusal(f"features: {{windows: {windows}}}")


# -- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("user_column: id, time_column: id", "the column 'id' is named twice: data.user_column and data.time_column"),
        ("user_column: id, label_column: id", "data.user_column and data.label_column"),
        ("time_column: id, label_column: id", "data.time_column and data.label_column"),
        ("counters: [a, b, a]", "the column 'a' is named twice: data.counters and data.counters"),
        ("counters: [a, user_id]", "data.user_column and data.counters"),
        ("counters: [a, label], labels: inside", "data.label_column and data.counters"),
        ("kind: features, columns: [a, a]", "data.columns and data.columns"),
        ("kind: features, columns: [a, date]", "data.time_column and data.columns"),
        ("user_column: ''", "telemetry needs the name of a user column"),
        ("time_column: ''", "telemetry needs the name of a time column"),
        ("counters: ['a,b']", "data.counters.0: "),
        ("counters: [' a']", "data.counters.0: "),
        ("counters: ['']", "data.counters.0: "),
        ("counters: []", "telemetry needs at least one counter"),
    ],
)
def test_a_column_has_one_part_and_a_name_that_a_list_can_hold(refusal, data, words):
    assert words in refusal(f"data: {{{data}}}")


def test_a_counter_may_be_called_like_the_label_of_another_file_and_a_ready_table_needs_no_user(accepted):
    assert accepted("data: {counters: [label]}").data.counters == ["label"]
    table = accepted("data: {kind: features, user_column: '', time_column: ''}").data
    assert (table.user_column, table.time_column) == ("", "")


@pytest.mark.parametrize("text", ['"a\\0b"', '"a\\ud800b"', '"a\\nb"', '"a\\x1bb"'])
@pytest.mark.parametrize(
    "key", ["data.path", "data.user_column", "data.counters", "local.folder", "project.description"]
)
def test_text_that_no_file_and_no_command_can_hold_is_refused(refusal, key, text):
    value = f"[{text}]" if key == "data.counters" else text
    found = refusal("{}", f"{key}={value}")
    assert key in found and "\0" not in found and "\x1b" not in found


@pytest.mark.parametrize("key", ["data.path", "data.labels"])
def test_an_address_in_s3_names_a_bucket(refusal, accepted, key):
    for wrong in ("s3://", "s3:///folder", "s3://A_B/folder", "s3:/bucket/folder", "S3://bucket/folder"):
        assert f"{key}: " in refusal("{}", f"{key}={wrong}") and "s3://bucket/folder/" in refusal(
            "{}", f"{key}={wrong}"
        )
    accepted("{}", f"{key}=s3://bucket/folder/")


# -- messages ---------------------------------------------------------------------------------------------------------

LONG = "x" * 100_000


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (f"train: {{iterations: {LONG}}}", ()),
        (f"{LONG}: 1", ()),
        (f"train: {{{LONG}: 1}}", ()),
        (f"business_definitions: {{{LONG}: {{keep: highest_pr_auc}}}}", ()),
        (f"gate: {{definition: {LONG}}}", ()),
        (f"a: {LONG}\n{LONG}: 1\n{LONG}: 2", ()),
        (f"cloud: {{tags: {{{LONG}: a}}}}", ()),
        ("project: {team: '" + "".join(map(chr, range(0x2190, 0x2600))) + "'}", ()),
        (f"data: {{columns: [{LONG}, {LONG}], kind: features}}", ()),
        ("{}", (f"train.iterations={LONG}",)),
        ("{}", (LONG,)),
        ("{}", (f"{LONG}=1",)),
        ("{}", (f"train.{LONG}.x=1",)),
        ("{}", (f"train.iterations.{LONG}=1", "train.iterations.x=1")),
        ("{}", ("train=" + "[" + LONG,)),
    ],
)
def test_a_long_value_is_cut_and_many_problems_are_counted(refusal, text, changes):
    found = refusal(text, *changes)
    assert len(found) < 12_000 and max(map(len, found.splitlines())) < 1000


def test_many_problems_are_shown_up_to_a_number_and_the_rest_are_counted(refusal):
    lines = refusal("".join(f"key_{n}: 1\n" for n in range(100))).splitlines()
    assert len(lines) == settings.MOST_PROBLEMS + 1 and lines[-1] == "… and 80 more problems."


def test_only_a_name_that_is_near_is_suggested(refusal):
    assert "Did you mean" not in refusal("split: {nonsense: 2}")
    assert "Known here: folds, seed, test_share" in refusal("split: {nonsense: 2}")
    assert "Did you mean 'split.folds'?" in refusal("split: {fold: 2}")


@pytest.mark.parametrize(
    "change",
    [
        "gate.definition=other",
        "features.window_days=60",
        "train.batch_size=2",
        "train.class_weights=[1]",
        "data.user_column=date",
        "monitor.of_windows=1",
        "split.test_share=0.8",
        "labels.rare_class=normal",
        "cloud.subnets=[subnet-1]",
        "train=3",
        "nonsense.key=1",
    ],
)
def test_what_a_change_breaks_is_told_of_the_change_and_not_of_the_file(refusal, change):
    text = "split: {folds: 3}\ngate: {minimum: 0.3}\ndata: {days: 60}\nmonitor: {of_windows: 3}\n"
    assert refusal(text, "split.seed=8", change).startswith(f"--set {change}: ")


def test_what_the_file_breaks_is_told_of_the_file_also_beside_a_change(refusal):
    found = refusal("gate:\n  definition: other\n", "split.seed=8")
    assert found.startswith("config.yaml")


def test_two_changes_that_do_not_fit_together_are_both_named(refusal):
    found = refusal("{}", "data.days=50", "split.seed=1", "features.window_days=40")
    assert "--set data.days=50" in found and "--set features.window_days=40" in found


# -- machines ---------------------------------------------------------------------------------------------------------


def test_the_machines_with_a_local_disk_are_those_of_ec2s_own_list():
    import botocore.session
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    sagemaker = botocore.session.get_session().get_service_model("sagemaker")
    shapes = ("TrainingInstanceType", "ProcessingInstanceType", "ProductionVariantInstanceType")
    types = {name for shape in shapes for name in sagemaker.shape_for(shape).enum}
    about = {name: INSTANCE_TYPES.get(name.removeprefix("ml.")) for name in types}
    known = {name: found["InstanceStorageSupported"] for name, found in about.items() if found}
    assert len(known) > 200 and len(set(known.values())) == 2
    assert {name: bool(settings.LOCAL_DISK.match(name)) for name in known} == known


@pytest.mark.parametrize("step", list(settings.InstanceTypes.model_fields))
@pytest.mark.parametrize("instance", ["ml.m5d.xlarge", "ml.g5.2xlarge", "ml.p4d.24xlarge"])
def test_a_key_for_a_disk_that_takes_none_is_refused(refusal, accepted, step, instance):
    change = f"cloud.instances.{step}={instance}"
    found = refusal("{}", change)
    assert found.startswith(f"--set {change}: cloud: the machine {instance} of {step} has a local disk, ")
    assert "set cloud.volume_key to none" in found
    assert getattr(accepted("{}", change, "cloud.volume_key=none").cloud.instances, step) == instance


def test_an_endpoint_has_a_hundred_instances_at_most(refusal):
    found = refusal("{}", "cloud.endpoint.max_instances=500")
    assert "cloud.endpoint.max_instances" in found and "500" in found and "100" in found


def test_an_endpoint_whose_disk_the_projects_key_encrypts_has_no_local_one(refusal):
    found = refusal("{}", "cloud.endpoint.instance=ml.g5.xlarge", "cloud.volume_key=none")
    assert found.startswith("--set cloud.endpoint.instance=ml.g5.xlarge: cloud.endpoint.instance: ")
    assert "local disk" in found


@pytest.mark.parametrize(
    "key", ["arn:aws:kms:x", "arn:aws:kms:eu-west-1:123456789012:alias/mine", "alias/mine", "a1234"]
)
def test_the_key_of_a_disk_is_the_arn_of_a_key(refusal, accepted, key):
    assert "as does project, none, or a key's ARN" in refusal("{}", f"cloud.volume_key={key}")
    accepted("{}", "cloud.volume_key=arn:aws-cn:kms:cn-north-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")


def all_settings(section=settings.Config, prefix=""):
    """Dotted key of each setting that is no section."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, settings.ConfigSection):
            yield from all_settings(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize("value", ["", "''", "null", "~"])
def test_an_empty_value_is_taken_or_refused_in_our_words(refusal, accepted, value):
    for key in all_settings():
        try:
            accepted("", f"{key}={value}")
        except UserError as error:
            said = str(error)
            assert "Input should" not in said and "String should" not in said and "List should" not in said, said
            assert said.startswith(f"--set {key}={value}: "), said
    assert "telemetry needs the name of a time column" in refusal("", "data.time_column=")
    assert "data.days: it has no value; give a whole number" in refusal("", f"data.days={value}")
