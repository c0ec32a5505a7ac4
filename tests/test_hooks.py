"""The hooks' rules as functions, each boundary on both sides, and the same rules in config.yaml."""

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROJECT, ROOT
from post_gen_project import as_typed, next_commands, origin, record, without_password
from pre_gen_project import (
    LIBRARIES,
    SLUG,
    TAGS,
    corrected,
    negative_names,
    one_line,
    refusals,
    refused_classes,
    refused_names,
    refused_slug,
)

HOOK = ROOT / "hooks/pre_gen_project.py"
GOOD = {
    "project_name": "Rare Players",
    "project_slug": "rare-players",
    "description": "Finds rare players",
    "team": "data-science",
    "aws_region": "eu-west-1",
    "model_package_group": "rare-players",
    "rare_class": "risky",
    "negative_classes": "dormant, normal, heavy",
}


def test_the_defaults_pass():
    assert list(refusals(GOOD)) == []


def test_a_cookiecutter_that_does_not_know_the_delimiters_is_told_to_be_upgraded():
    """cookiecutter before 2.6 runs the hook as it stands, with its tags (seen with 2.1.1 and 2.5.0)."""
    ran = subprocess.run([sys.executable, "-B", str(HOOK)], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == "This template needs cookiecutter 2.6 or newer. Type: pip install -U cookiecutter\n"


@pytest.mark.parametrize(
    "region", ["us-east-1", "us-gov-west-1", "cn-north-1", "ap-southeast-5", "eu-isoe-west-1", "eusc-de-east-1"]
)
def test_regions_of_every_partition_pass(region):
    assert list(refused_names({**GOOD, "aws_region": region})) == []


@pytest.mark.parametrize(
    ("slug", "passes"),
    [
        ("a", True),
        ("a-1", True),
        ("a" * 32, True),
        ("a" * 33, False),
        ("1a", False),
        ("a-", False),
        ("a--b", False),
        ("a_b", False),
        ("numpy", False),
        ("numpy-players", True),
    ],
)
def test_a_slug_is_what_s3_and_sagemaker_both_take(slug, passes):
    assert (list(refused_names({**GOOD, "project_slug": slug})) == []) is passes


def test_the_names_that_no_project_may_have_are_those_of_all_it_installs():
    pins = (ROOT / PROJECT / "requirements-cloud.txt").read_text(encoding="utf-8")
    names = {re.sub("[-_.]+", "-", name).lower() for name in re.findall(r"^([\w.-]+)==", pins, re.MULTILINE)}
    taken = sorted(
        name for name in {*names, "pip", "setuptools", "uv", "wheel"} if SLUG.fullmatch(name) and len(name) <= 32
    )
    assert sorted(LIBRARIES.split()) == taken, f"in hooks/pre_gen_project.py: {' '.join(taken)}"


@pytest.mark.parametrize("region", ["eu-west", "EU-WEST-1", "eu-west-1a", "xx-west-1", "eu-west-0", "eu_west_1"])
def test_what_is_not_shaped_like_a_region_is_refused(region):
    assert list(refused_names({**GOOD, "aws_region": region})) != []


@pytest.mark.parametrize(
    ("question", "text", "passes"),
    [
        ("team", "Équipe Jeu 2 @ R+D", True),
        ("team", "R&D", False),
        ("team", "R and D", True),
        ("team", "日本 チーム", True),
        ("team", "hard\u00a0space", True),
        ("team", "e\u0301quipe", False),
        ("team", 'the "team"', False),
        ("team", "a" * 256, True),
        ("team", "a" * 257, False),
        ("description", "", True),
        ("description", "#" + "% for all", True),
        ("description", "a" * 1024, True),
        ("description", "a" * 1025, False),
        ("description", "tab\there", False),
        ("description", "hard\u00a0space", True),
        ("description", "turned \u202e round", False),
        ("project_name", "1 < 2 > 0", True),
        ("project_name", "1 <\u0000", False),
        ("project_name", "<" * 2, False),
        ("model_package_group", "9-Lives", True),
        ("model_package_group", "arn:aws:sagemaker:eu-west-1:123456789012:model-package-group/ours", True),
        ("model_package_group", "arn:aws:sagemaker:eu-west-1:12345678901:model-package-group/ours", False),
        ("model_package_group", "lives-", False),
        ("project_slug", "sthree-x", False),
    ],
)
def test_text_passes_when_aws_and_a_line_of_a_file_can_hold_it(question, text, passes):
    assert (list(refusals({**GOOD, question: text})) == []) is passes


@pytest.mark.parametrize(
    ("rare", "negatives", "passes"),
    [
        ("risky", "normal", True),
        ("r2l", "normal,dos , probe", True),
        ("risky", "normal,", False),
        ("risky", "", False),
        ("", "normal", False),
        ("r" * 40, "normal", True),
        ("r" * 41, "normal", False),
        ("generated", "normal", False),
        ("lambda", "normal", False),
        ("risky", "normal, risky", False),
    ],
)
def test_class_names_are_columns_each_once_and_none_of_ours(rare, negatives, passes):
    assert (list(refused_classes(rare, negatives)) == []) is passes


def test_every_refusal_gives_an_example():
    broken = [
        {"project_slug": "A"},
        {"aws_region": "x"},
        {"team": "R&D"},
        {"description": "a\n"},
        {"rare_class": "A b"},
        {"model_package_group": "-"},
        {"negative_classes": ""},
        {"project_slug": "aws"},
        {"rare_class": "normal"},
    ]
    for answers in broken:
        said = list(refusals({**GOOD, **answers}))
        assert said and all("or example:" in message for message in said), answers


def test_the_next_three_commands_go_where_the_project_is():
    lines = [line for line in next_commands("demo/fraud").splitlines() if line.startswith("    ")]
    assert len(lines) == 3 and lines[0] == "    cd demo/fraud"


def test_a_folder_is_named_as_one_would_type_it():
    assert as_typed(Path("/home/ann/out/fraud"), Path("/home/ann")) == "out/fraud"
    assert as_typed(Path("/srv/my projects/fraud"), Path("/home/ann")) == "'/srv/my projects/fraud'"


def test_no_sentence_and_no_command_holds_a_letter_that_a_terminal_would_obey_or_cannot_show():
    for answers in generated_answers(500):
        for words in (*refusals(answers), *corrected(answers).values()):
            assert one_line(words) == words


def test_a_tag_in_an_answer_is_not_told_as_a_record_that_lacks_a_derived_answer():
    typed = {**GOOD, "description": "1 <" + "< 2", "__description_escaped": "1 <" + "< 2"}
    assert [words.split(",")[0] for words in refusals(typed)] == ["description holds <" + "<"]


# -- generated answers: the hook and config.yaml, and what a refusal suggests ------------------------------------------

WORDS = {
    "project_name": ("Rare Players", "日本", "1 < 2", "a" * 256, "<" + "<", "", " ", "naïve", "\u202e", "👩\u200d🔬"),
    "project_slug": (
        "rare-players",
        "aws",
        "ssm-x",
        "sthree-",
        "amzn-s3-demo-x",
        "a" * 32,
        "..",
        ".",
        "/",
        "Ü",
        "numpy",
    ),
    "description": (
        "",
        " ",
        "Finds it",
        "#" + "%",
        "\u2028",
        "\x85",
        "\ufffe",
        "\ud800",
        "\u3000",
        "\\",
        '"',
        "a" * 1024,
    ),
    "team": (
        "data-science",
        "R&D",
        "Équipe",
        "e\u0301",
        "\x1b[31m",
        "\ud800",
        "\u200d",
        "\u3000",
        "日本",
        "a" * 256,
        "",
        "١",
    ),
    "aws_region": (
        "eu-west-1",
        "us-isob-east-1",
        "ap-southeast-5",
        "aws-x",
        "us-gov-west-1",
        "xx-west-1",
        "",
        "١",
        "\n",
    ),
    "model_package_group": (
        "rare-players",
        "-",
        "9",
        "g" * 63,
        "-" * 60,
        "arn:aws-cn:sagemaker:cn-north-1:123456789012:model-package-group/",
        f"arn:aws:sagemaker:eu-west-1:{'١' * 12}:model-package-group/x",
    ),
    "rare_class": ("risky", "class", "unknown", "", "R", "_a", "a" * 40, "ü", "normal", "\x1b"),
    "negative_classes": ("normal", ",", " ", "heavy", "lambda", "a b", "\t", "n" * 40, "generated", "risky"),
}


def generated_answers(count: int, seed: int = 7) -> Iterator[dict[str, str]]:
    """One or two answers of each set are hostile: several words at random, or one with a letter changed."""
    rng = random.Random(seed)
    for _ in range(count):
        answers = dict(GOOD)
        for question in rng.sample(sorted(WORDS), rng.choice([1, 1, 2])):
            words = [*WORDS[question], GOOD[question]]
            text = "".join(rng.choice(words) for _ in range(rng.choice([1, 1, 1, 2, 3])))
            if text and rng.random() < 0.5:
                place = rng.randrange(len(text))
                text = (
                    text[:place]
                    + rng.choice(["", *"aA1-_,. \n<#ü١\u2028\u200d\x00"])
                    + text[place + rng.choice([0, 1]) :]
                )
            answers[question] = text
        yield answers


def test_the_hook_and_config_yaml_take_the_same_answers(monkeypatch):
    """But for tags, and for names of libraries: what pip installs is named by the slug, whatever config.yaml says."""
    monkeypatch.syspath_prepend(str(ROOT / PROJECT / "src"))
    from pydantic import BaseModel, ValidationError
    from scarcegan.pipeline.config import LabelSettings, ProjectSettings

    def takes(section: type[BaseModel], **values: object) -> bool:
        try:
            section.model_validate(values)
        except ValidationError:
            return False
        return True

    keys = {"project_slug": "name", "description": "description", "team": "team", "aws_region": "region"}
    keys["model_package_group"] = "model_package_group"
    both: set[tuple[str, bool]] = set()
    for answers in generated_answers(2000):
        for question, key in keys.items():
            text = answers[question]
            if text in LIBRARIES.split() or any(tag in text for tag in TAGS):
                continue
            passes = not any(refusals({**GOOD, question: text}))
            assert takes(ProjectSettings, **{key: text}) is passes, (question, text)
            both.add((question, passes))
        rare, negatives = answers["rare_class"], answers["negative_classes"]
        passes = not any(refused_classes(rare, negatives))
        assert takes(LabelSettings, rare_class=rare, negative_classes=negative_names(negatives)) is passes, answers
        both.add(("classes", passes))
    assert len(both) == 2 * 6, "each rule has let something through and refused something"


def test_corrected_answers_pass_and_accepted_ones_are_left_as_they_are():
    changed = 0
    for answers in generated_answers(2000):
        better = corrected(answers)
        assert not any(refusals(better)), (answers, better)
        refused = any(refusals(answers))
        assert (better != answers) is refused, (answers, better)
        changed += refused
    assert 500 < changed < 1900


@pytest.mark.parametrize(
    ("slug", "instead"),
    [
        ("Bad_Slug", "bad-slug"),
        ("aws-players", "our-aws-players"),
        ("numpy", "numpy-players"),
        ("..", "rare-players"),
        ("Équipe/1", "equipe-1"),
        ("a" * 300, "a" * 32),
    ],
)
def test_a_refused_slug_comes_back_as_near_as_the_rule_allows(slug, instead):
    assert any(refused_slug(slug)) and corrected({**GOOD, "project_slug": slug})["project_slug"] == instead


def test_the_record_names_the_remote_of_a_clone_without_a_password_and_says_when_changes_were_not_committed(tmp_path):
    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "cookiecutter.json").write_text("{}", encoding="utf-8")
    (tmp_path / "VERSION").write_text("1.2.3\n", encoding="utf-8")
    git("add", "-A")
    git("commit", "-q", "-m", "template")
    git("remote", "add", "origin", "https://ann:secret@example.com/team/template.git")
    found = origin(tmp_path, "gh:team/template", "1.0.0")
    assert found["template"] == "https://example.com/team/template.git" and found["version"] == "1.2.3"
    assert re.fullmatch("[0-9a-f]{40}", found["commit"]) and found["uncommitted_changes"] is False
    (tmp_path / "cookiecutter.json").write_text("{ }", encoding="utf-8")
    assert origin(tmp_path, "gh:team/template", "1.0.0")["uncommitted_changes"] is True
    assert found["commit"] in record(found, {"team": "ours"})


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("git@example.com:team/template.git", "git@example.com:team/template.git"),
        ("https://example.com/template.zip?token=secret", "https://example.com/template.zip"),
        ("/home/ann/what?", "/home/ann/what?"),
    ],
)
def test_a_recorded_address_holds_no_secret(address, kept):
    assert without_password(address) == kept
