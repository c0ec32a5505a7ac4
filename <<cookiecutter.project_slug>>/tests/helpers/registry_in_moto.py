"""SageMaker's model registry in moto, with what moto lacks: DeleteModelPackage, numbers used once, groups by ARN.

Also the breaking of a call: at a registry's nth call to AWS it fails, once or for good, before or after it was done.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core.responses import ActionResult
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse

from registry_contract import clock
from scarcegan.aws.names import Names
from scarcegan.registry.contract import ModelPackage
from scarcegan.registry.sagemaker.registry import SageMakerRegistry

NAMES = Names("risky", "123456789012", "eu-west-1")
GROUP = "risky-players"
SERVICES = ("s3", "sagemaker", "ssm", "sts")
SHARED = "arn:aws:sagemaker:eu-west-1:210987654321:model-package-group/risky-players"


class Session:
    """A boto3 session whose clients are made once for all tests; to make one takes longer than most tests do."""

    clients: ClassVar[dict[str, Any]] = {}

    def client(self, service: str, **_: Any) -> Any:
        if service not in self.clients:
            session = boto3.Session("testing", "testing", region_name=NAMES.region)
            self.clients[service] = session.client(service)
        return self.clients[service]


@contextmanager
def aws(patch: pytest.MonkeyPatch) -> Iterator[Session]:
    """An account with the project's bucket and model package group."""
    complete_moto(patch)
    with mock_aws():
        session = Session()
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


def open_registry(group: str = GROUP, *, later: float = 0, patience_seconds: float = 300) -> SageMakerRegistry:
    """A registry as another process would open it. later: by how many seconds its clock is ahead."""
    tick = clock()
    return SageMakerRegistry(
        NAMES,
        group,
        Session(),
        clock=lambda: tick() + timedelta(seconds=later),
        user=lambda: "ada",
        sleep=lambda _: None,
        patience_seconds=patience_seconds,
    )


def forget_digest(registry: SageMakerRegistry, version: int) -> None:
    """Make a package one of before the digests, as an earlier version of this project has registered it."""
    package, arn = registry.package(version), registry.arn(version)
    s3, key = Session().client("s3"), f"packages/{package.set_id}/set.{NAMES.account}.{GROUP}.json"
    record = json.loads(s3.get_object(Bucket=NAMES.bucket, Key=key)["Body"].read())
    for facts in record["packages"]:
        if facts["arn"] == arn:
            del facts["model_digest"], facts["evaluation_digest"]
    s3.put_object(Bucket=NAMES.bucket, Key=key, Body=json.dumps(record).encode())
    model_packages = sagemaker_backends[NAMES.account][NAMES.region].model_packages
    for name in ("model_digest", "evaluation_digest"):
        del model_packages[arn].customer_metadata_properties[name]


def keys(prefix: str = "") -> set[str]:
    """Every key of the bucket below a prefix."""
    pages = Session().client("s3").get_paginator("list_objects_v2").paginate(Bucket=NAMES.bucket, Prefix=prefix)
    return {item["Key"] for page in pages for item in page.get("Contents", [])}


def versions() -> list[int]:
    """Every version in the group, whoever registered it."""
    pages = Session().client("sagemaker").get_paginator("list_model_packages").paginate(ModelPackageGroupName=GROUP)
    return sorted(seen["ModelPackageVersion"] for page in pages for seen in page["ModelPackageSummaryList"])


class Broken(Exception):
    """The power went."""


class Breaker:
    """While it is entered, calls to AWS break by their number.

    how: `once` before the nth is done, `answer` after it was done, `dead` from the nth on.
    only: the operations that count; none: all.
    """

    def __init__(self, nth: int, how: str, *only: str) -> None:
        self.nth, self.how, self.only, self.calls, self.broke = nth, how, only, 0, False

    def __enter__(self) -> "Breaker":
        self.hook("register")
        return self

    def __exit__(self, *_: object) -> None:
        self.hook("unregister")

    def hook(self, verb: str) -> None:
        for service in SERVICES:
            events = Session().client(service).meta.events
            getattr(events, verb)(f"before-call.{service}", self.before)
            getattr(events, verb)(f"after-call.{service}", self.after)

    def before(self, model: Any, **_: Any) -> None:
        self.counts = not self.only or model.name in self.only
        self.calls += self.counts
        if (self.how == "once" and self.calls == self.nth and not self.broke) or self.is_dead:
            self.broke = True
            raise Broken(model.name)

    @property
    def is_dead(self) -> bool:
        return self.how == "dead" and self.calls >= self.nth

    def after(self, model: Any, **_: Any) -> None:
        if self.how == "answer" and self.counts and self.calls == self.nth and not self.broke:
            self.broke = True
            raise Broken(model.name)


@contextmanager
def at_call(nth: int, act: Callable[[], None], operation: str = "") -> Iterator[None]:
    """While it is entered: before the nth call to AWS (or of SageMaker's operation) is done, something else happens."""
    calls = count(1)

    def before(**_: Any) -> None:
        if next(calls) == nth:
            act()

    everything = [f"before-call.{service}" for service in SERVICES]
    with hooked([f"before-call.sagemaker.{operation}"] if operation else everything, before):
        yield


@contextmanager
def refused(service: str, operation: str, code: str, message: str = "no") -> Iterator[None]:
    """While it is entered, AWS refuses an operation with this code."""

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": message}}, operation)

    with hooked([f"before-call.{service}.{operation}"], refuse):
        yield


@contextmanager
def asked(service: str, operation: str) -> Iterator[list[dict[str, Any]]]:
    """A list that grows with the parameters of every such call, while it is entered."""
    found: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        found.append(params)

    with hooked([f"before-parameter-build.{service}.{operation}"], note):
        yield found


@contextmanager
def hooked(events: list[str], act: Callable[..., None]) -> Iterator[None]:
    for event in events:
        Session().client(event.split(".")[1]).meta.events.register(event, act)
    try:
        yield
    finally:
        for event in events:
            Session().client(event.split(".")[1]).meta.events.unregister(event, act)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
