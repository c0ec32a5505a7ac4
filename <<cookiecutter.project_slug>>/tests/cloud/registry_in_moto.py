"""SageMaker's model registry in moto, with what moto lacks: DeleteModelPackage, numbers used once, groups by ARN.

Also the breaking of a call: at a registry's nth call to AWS it fails, once or for good, before or after it was done.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core.responses import ActionResult
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from registry_contract import clock
from scarcegan.pipeline.names import Names
from scarcegan.registry.base import ModelPackage
from scarcegan.registry.sagemaker import SageMakerRegistry

NAMES = Names("risky", "123456789012", "eu-west-1")
GROUP = "risky-players"
SHARED = "arn:aws:sagemaker:eu-west-1:210987654321:model-package-group/risky-players"


@contextmanager
def aws(patch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    """An account with the project's bucket and model package group."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "testing")
    patch.setenv("AWS_DEFAULT_REGION", NAMES.region)
    patch.delenv("AWS_PROFILE", raising=False)
    complete_moto(patch)
    with mock_aws():
        session = boto3.Session(region_name=NAMES.region)
        place = {"LocationConstraint": NAMES.region}
        session.client("s3").create_bucket(Bucket=NAMES.bucket, CreateBucketConfiguration=place)
        session.client("sagemaker").create_model_package_group(ModelPackageGroupName=GROUP)
        yield session


def complete_moto(patch: pytest.MonkeyPatch) -> None:
    """Give moto's registry what it lacks, for the length of a test."""
    gone = count(1)
    create, listing = SageMakerModelBackend.create_model_package, SageMakerModelBackend.list_model_packages

    def delete_model_package(self: SageMakerResponse) -> ActionResult:
        packages, name = self.sagemaker_backend.model_packages, self._get_param("ModelPackageName")
        if name not in packages:
            raise ValidationError(f"Model package {name} does not exist.")
        # A number is used once, and moto counts what it has: something must stay.
        group = packages.pop(name).model_package_group_name
        packages[f"deleted-{next(gone)}"] = SimpleNamespace(model_package_group_name=group, deleted=True)
        return ActionResult({})

    def create_model_package(self: Any, **asked: Any) -> str:
        asked["model_package_group_name"] = asked["model_package_group_name"].rsplit("/", 1)[-1]
        return create(self, **asked)

    def list_model_packages(self: Any, **asked: Any) -> Any:
        everything = self.model_packages
        self.model_packages = {name: each for name, each in everything.items() if not hasattr(each, "deleted")}
        try:
            return listing(self, **asked)
        finally:
            self.model_packages = everything

    patch.setattr(SageMakerResponse, "delete_model_package", delete_model_package, raising=False)
    patch.setattr(SageMakerModelBackend, "create_model_package", create_model_package)
    patch.setattr(SageMakerModelBackend, "list_model_packages", list_model_packages)


class Deployed(SageMakerRegistry):
    """A registry behind which the deploy pipeline promotes at once what is approved."""

    def approve(self, version: int, note: str = "") -> ModelPackage:
        super().approve(version, note)
        self.promote(version)
        return self.package(version)


def open_registry(
    session: boto3.Session, group: str = GROUP, now: Callable[[], Any] | None = None
) -> SageMakerRegistry:
    """A registry as another process would open it."""
    return SageMakerRegistry(NAMES, group, session, clock=now or clock(), user=lambda: "ada", sleep=lambda _: None)


def keys(session: boto3.Session, prefix: str = "") -> set[str]:
    """Every key of the bucket below a prefix."""
    pages = session.client("s3").get_paginator("list_objects_v2").paginate(Bucket=NAMES.bucket, Prefix=prefix)
    return {item["Key"] for page in pages for item in page.get("Contents", [])}


def versions(session: boto3.Session) -> list[int]:
    """Every version in the group, whoever registered it."""
    pages = session.client("sagemaker").get_paginator("list_model_packages").paginate(ModelPackageGroupName=GROUP)
    return sorted(seen["ModelPackageVersion"] for page in pages for seen in page["ModelPackageSummaryList"])


class Broken(Exception):
    """The power went."""


class Breaker:
    """Breaks calls to AWS by their number. how: `once` before the nth, `answer` after it was done, `dead` from it on."""

    def __init__(self, registry: SageMakerRegistry, nth: int, how: str) -> None:
        self.nth, self.how, self.calls = nth, how, 0
        self.seen: list[str] = []
        for service in ("s3", "sagemaker", "ssm", "sts"):
            events = registry.client(service).meta.events
            events.register(f"before-call.{service}", self.before)
            events.register(f"after-call.{service}", self.after)

    def before(self, model: Any, **_: Any) -> None:
        self.calls += 1
        self.seen.append(model.name)
        if (self.how == "once" and self.calls == self.nth) or (self.how == "dead" and self.calls >= self.nth):
            raise Broken(model.name)

    def after(self, model: Any, **_: Any) -> None:
        if self.how == "answer" and self.calls == self.nth:
            self.calls += 1  # once
            raise Broken(model.name)


def refusing(registry: SageMakerRegistry, service: str, operation: str, code: str, message: str = "no") -> None:
    """Let AWS refuse an operation with this code."""

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": message}}, operation)

    registry.client(service).meta.events.register(f"before-call.{service}.{operation}", refuse)


def asked(registry: SageMakerRegistry, service: str, operation: str) -> list[dict[str, Any]]:
    """A list that grows with the parameters of every such call."""
    found: list[dict[str, Any]] = []
    events = registry.client(service).meta.events
    events.register(f"provide-client-params.{service}.{operation}", lambda params, **_: found.append(params))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
