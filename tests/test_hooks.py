"""The hooks' rules as functions, each boundary on both sides."""

import pytest
from post_gen_project import next_commands
from pre_gen_project import DERIVED_NAMES, refusals, refused_names
from pre_prompt import new_enough

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


@pytest.mark.parametrize(("version", "enough"), [("1.7.3", False), ("2.5.0", False), ("2.6.0", True), ("2.10.1", True)])
def test_cookiecutter_is_new_enough_from_2_6_on(version, enough):
    assert new_enough(version) is enough


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "cn-north-1", "ap-southeast-5", "eu-isoe-west-1"])
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


def test_the_next_three_commands_name_the_project():
    said = [line.split("  ")[0] for line in next_commands("fraud").splitlines() if line.startswith("    ")]
    assert len([line for line in next_commands("fraud").splitlines() if line.startswith("    ")]) == 3
    assert "cd fraud" in next_commands("fraud") and len(said) == 3
