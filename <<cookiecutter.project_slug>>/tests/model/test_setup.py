"""TensorFlow is set up once, for training, scoring and serving alike."""

import importlib
import os
import re

import pytest

import house
from scarcegan import model
from scarcegan.registry.sagemaker.package_request import inference_specification


def test_whoever_uses_a_model_adds_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    importlib.reload(model)
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_an_endpoint_in_aws_has_the_same_settings() -> None:
    [container] = inference_specification("image:2.21.0-cpu", "s3://bucket/model.tar.gz")["Containers"]
    assert container["Environment"] == {"TF_ENABLE_ONEDNN_OPTS": "0"}


def test_no_other_file_sets_tensorflow_up_or_loads_it() -> None:
    told = re.compile(r"\"TF_|^\s*(import|from) (tensorflow|keras)", re.MULTILINE)
    found = {path.relative_to(house.SOURCE).parts[0] for path in house.files() if told.search(path.read_text("utf-8"))}
    assert found == {"model"}
    inside = [path.name for path in house.files() if '"TF_' in path.read_text("utf-8")]
    assert inside == ["__init__.py"]
