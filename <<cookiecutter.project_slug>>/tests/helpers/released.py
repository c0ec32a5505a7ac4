"""Model packages to release: a registered set in moto whose files say what release and smoke test read."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from moto import mock_aws

import stack_server
from registry_contract import clock, requests
from scarcegan.aws.client import Aws
from scarcegan.aws.names import Names
from scarcegan.registry.contract import ModelPackage, PackageRequest
from scarcegan.registry.sagemaker.registry import SageMakerRegistry
from scarcegan.release.smoke import CSV, by_row

NAMES = Names("risky", "123456789012", "eu-west-1")
GROUP = "risky-players"
KEY = f"arn:aws:kms:{NAMES.region}:{NAMES.account}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
TOPIC = f"arn:aws:sns:{NAMES.region}:{NAMES.account}:{NAMES.project}-notifications"
CLASSES, FEATURES = ("calm", "keen", "risky"), ("deposits", "visits", "nights")
CONFIG = f"""\
project: {{name: {NAMES.project}, region: {NAMES.region}, model_package_group: {GROUP}}}
labels: {{rare_class: risky, negative_classes: [calm, keen]}}
"""


@contextmanager
def account(patch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    """An account in moto with the project's bucket and model package group; a verb that is typed finds it too."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "testing")
    patch.delenv("AWS_PROFILE", raising=False)
    for name, value in stack_server.environment().items():
        patch.setenv(name, value)
    stack_server.STACKS.clear()
    with mock_aws():
        session = boto3.Session(region_name=NAMES.region)
        place = {"LocationConstraint": NAMES.region}
        session.client("s3").create_bucket(Bucket=NAMES.bucket, CreateBucketConfiguration=place)
        session.client("sagemaker").create_model_package_group(ModelPackageGroupName=GROUP)
        yield session


def evaluation(flagged_labelled: int = 20, flagged_unlabelled: int = 80) -> dict:
    """evaluation.json of 400 labelled and 2,000 unlabelled test users, so far as a release reads it."""
    return {
        "binary_classification_metrics": {
            "confusion_matrix": {"0": {"0": 370, "1": flagged_labelled - 15}, "1": {"0": 10, "1": 15}}
        },
        "scarcegan": {
            "test_rows": {"labelled": 400, "rare": 25, "unlabelled": 2000},
            "share_flagged_unlabelled": flagged_unlabelled / 2000,
            "metrics": {
                "pr_auc": {"value": 0.531, "low": 0.44, "high": 0.61},
                "recall": {"value": 0.6, "low": None, "high": None},
                "precision": {"value": None, "low": None, "high": None},
            },
        },
    }


def statistics() -> dict:
    """statistics.json of the baseline: deposits were never missing, nights always."""
    numbers = {"deposits": {"mean": 2.5, "min": 0.0, "max": 9.0}, "visits": {"mean": 1e-7, "min": -3.0, "max": 4e9}}
    return {"features": [{"name": name, "numerical_statistics": numbers.get(name, {})} for name in FEATURES]}


def package_files(folder: Path) -> dict[str, Path]:
    """Files that a release reads, by their path in the package."""
    contents = {
        "model/model.json": {"classes": CLASSES, "features": FEATURES},
        "evaluation/evaluation.json": evaluation(),
        "baseline/statistics.json": statistics(),
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return {name: folder / name for name in contents}


def request_set(folder: Path, mark: str = "first", **facts: object) -> list[PackageRequest]:
    """Four packages of one run."""
    read = package_files(folder / mark)
    return [replace(r, files={**r.files, **read}, **facts) for r in requests(folder, mark)]  # type: ignore[arg-type]


def four(session: boto3.Session, folder: Path) -> SageMakerRegistry:
    """A registry with versions 1 to 4, pending."""
    registry = SageMakerRegistry(NAMES, GROUP, session, clock=clock(), user=lambda: "ada", sleep=lambda _: None)
    registry.register_set("set-1", request_set(folder))
    return registry


def connection(session: boto3.Session) -> Aws:
    """Access to an account in which the toolchain is deployed."""
    for name, value in (("key", KEY), ("topic", TOPIC), ("rare-share-code", "functions/rare-share-0a.zip")):
        put(session, name, value)
    return Aws(NAMES, session)


def put(session: boto3.Session, name: str, value: str) -> None:
    session.client("ssm").put_parameter(Name=NAMES.parameter(name), Value=value, Type="String", Overwrite=True)


def package(**facts: object) -> ModelPackage:
    """A package that was approved."""
    known = {"version": 5, "group": GROUP, "set_id": "s", "definition": "best_ranking", "status": "Approved"}
    figures = {"pr_auc": 0.531, "recall": 0.6}
    known |= {"model_digest": "0123456789abcdef" * 4, "run": "run-1", "data_fingerprint": "d4t4"}
    return ModelPackage(**{**known, "champion": False, "created": "", "metrics": figures, **facts})  # type: ignore[arg-type]


def stubbed(**clients: object) -> Aws:
    """Access to AWS whose clients are Stubber's."""
    return Aws(NAMES, SimpleNamespace(client=lambda service, **_: clients[service.replace("-", "_")]))


def client(service: str) -> object:
    return boto3.client(service, region_name=NAMES.region, aws_access_key_id="x", aws_secret_access_key="x")


def image(body: str, kind: str) -> tuple[int, str]:
    """TensorFlow Serving behind the image's front: CSV lines in brackets are JSON rows; answers are printed wide."""
    if kind == CSV:
        body = '{"instances":[' + ",".join(f"[{line}]" for line in body.strip().split("\n")) + "]}"
    try:
        asked = json.loads(body)
        rows = asked.get("instances") or asked["inputs"]
        rarities = [1 / (1 + math.exp(-float(row[0]))) for row in rows if all(type(cell) is float for cell in row)]
        assert len(rarities) == len(rows)
    except (ValueError, AssertionError):
        return 400, '{\n    "error": "JSON Value not of expected type: float"\n}'
    columns = {
        "label": [2 if rarity > 0.5 else 0 for rarity in rarities],
        "rarity": rarities,
        "probabilities": [[1 - rarity, 0.0, rarity] for rarity in rarities],
        "unknown": [0.0] * len(rows),
    }
    if "inputs" in asked:
        return 200, json.dumps({"outputs": columns}, indent=4)
    return 200, json.dumps({"predictions": by_row(columns)}, indent=4)
