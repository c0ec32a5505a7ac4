"""The hooks' rules as functions, each boundary on both sides."""

import subprocess
import sys
from pathlib import Path

import pytest
from post_gen_project import as_typed, next_commands
from pre_gen_project import DERIVED_NAMES, refusals, refused_classes, refused_names

HOOK = Path(__file__).resolve().parents[1] / "hooks/pre_gen_project.py"
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


def test_the_longest_slug_fits_every_derived_name_in_the_longest_region():
    longest = {**GOOD, "project_slug": "a" * 32, "aws_region": "ap-southeast-1"}
    assert list(refused_names(longest)) == []
    for pattern, most in DERIVED_NAMES.values():
        assert len(pattern.format(slug="a" * 32, account="0" * 12, region="ap-southeast-1")) <= most


@pytest.mark.parametrize(
    ("slug", "passes"), [("a", True), ("a-1", True), ("1a", False), ("a-", False), ("a--b", False), ("a_b", False)]
)
def test_a_slug_is_what_s3_and_sagemaker_both_take(slug, passes):
    assert (list(refused_names({**GOOD, "project_slug": slug})) == []) is passes


@pytest.mark.parametrize("region", ["", "eu-west", "EU-WEST-1", "eu-west-1a", "xx-west-1", "eu-west-0", "eu_west_1"])
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
        ("description", "a" * 1024, True),
        ("description", "a" * 1025, False),
        ("description", "tab\there", False),
        ("description", "hard\u00a0space", True),
        ("description", "turned \u202e round", False),
        ("project_name", "1 < 2 > 0", True),
        ("project_name", "1 <\u0000", False),
        ("project_name", "<" * 2, False),
        ("model_package_group", "9-Lives", True),
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
        {"description": ""},
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
