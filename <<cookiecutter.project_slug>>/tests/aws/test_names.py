"""Names in AWS: where AWS keeps its images, and that a bucket's name leads back to its project."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from scarcegan.aws.names import IMAGE_ACCOUNTS, IMAGES, Names, project_tags
from scarcegan.errors import UserError
from scarcegan.pipeline.config import REGION_PATTERN, Config

NAMES = Names("rare-players", "123456789012", "eu-west-1")


def test_an_image_lies_in_the_region_and_partition_of_the_project() -> None:
    tag = "2.20-cpu-py312-amzn2023-sagemaker"
    assert NAMES.image("inference") == f"763104351884.dkr.ecr.eu-west-1.amazonaws.com/tensorflow-inference:{tag}"
    china = Names("rare-players", "123456789012", "cn-north-1")
    assert china.image("inference") == f"727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/tensorflow-inference:{tag}"


@pytest.mark.parametrize("kind", sorted(IMAGES))
def test_the_accounts_of_images_are_those_the_sagemaker_sdk_knows(kind: str) -> None:
    package = importlib.util.find_spec("sagemaker")
    assert package is not None and package.submodule_search_locations
    [table] = [
        path
        for place in package.submodule_search_locations
        for path in Path(place).glob("core/image_uri_config/tensorflow.json")
    ]
    versions = json.loads(table.read_text())[kind]["versions"]
    version = next(v for v in versions if v.startswith(IMAGES[kind].split(":")[1].split("-")[0]))
    known = versions[version]["registries"]
    assert {region: known[region] for region in IMAGE_ACCOUNTS} == IMAGE_ACCOUNTS


def test_a_region_without_images_is_refused_with_those_that_have_them() -> None:
    with pytest.raises(UserError, match=r"no TensorFlow image of AWS is known in 'mars-north-1' \(known: af-south-1, "):
        Names("rare-players", "123456789012", "mars-north-1").image("training")


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1"])
def test_a_bucket_leads_back_to_its_project(region: str) -> None:
    names = Names("rare-123456789012-eu", "210987654321", region)
    assert Names.of_bucket(names.bucket) == names


def test_a_bucket_of_another_kind_is_refused() -> None:
    with pytest.raises(UserError, match="'my-bucket' is not named <project>-<account>-<region>"):
        Names.of_bucket("my-bucket")
    with pytest.raises(UserError, match="is not named"):
        Names.of_bucket(f"rare-{'١' * 12}-eu-west-1")


def test_every_name_fits_into_what_aws_takes_with_the_longest_project_and_region() -> None:
    """17 characters are the most that REGION_PATTERN lets through."""
    names = Names("p" * 32, "1" * 12, "us-isob-central-1")
    assert re.fullmatch(REGION_PATTERN, names.region) and len(names.region) == 17
    assert len(names.bucket) == 63
    assert all(len(name) <= 63 for name in (names.endpoint("production"), names.register_function))


def test_the_tags_of_a_project_are_its_name_its_team_and_those_of_config_yaml() -> None:
    config = Config.model_validate(
        {"project": {"team": "Équipe Jeu"}, "cloud": {"tags": {"owner": "us", "cost": "42"}}}
    )
    tags = project_tags(config, "p-1")
    assert tags == {
        "sagemaker:project-name": "rare-players",
        "sagemaker:project-id": "p-1",
        "team": "Équipe Jeu",
        "cost": "42",
        "owner": "us",
    }
    assert "sagemaker:project-id" not in project_tags(config)
