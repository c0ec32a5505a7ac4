"""AWS that answers from a table: real botocore clients whose calls end before the network.

botocore checks the arguments of each call as always, and the answers against the shape of the operation, as its Stubber
does. Unlike the Stubber it keeps no order, which checks that ask many services do not have. A call that the table lacks
is denied, in AWS's own words.
"""

from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.validate import validate_parameters

from scarcegan.aws.client import Aws
from scarcegan.aws.names import Names

NAMES = Names("rare-players", "123456789012", "eu-west-1")
ME = f"arn:aws:iam::{NAMES.account}:role/team/developer"


class Refusal:
    """An answer that is an error of AWS: its code, message and HTTP status."""

    def __init__(self, code: str, message: str = "no", status: int = 400) -> None:
        self.parsed = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
        self.status = status


MISSING = Refusal("ResourceNotFoundException", "it does not exist")


class Canned:
    """A boto3 session whose clients answer from a table, and the calls that were made.

    - answers: "service:Operation" -> the answer; a Refusal; or a function of the call's arguments that returns one.
    - calls: ("service:Operation", arguments) of each call, in order.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    @property
    def made(self) -> list[str]:
        """The operations that were called, in order."""
        return [name for name, _ in self.calls]

    @property
    def actions(self) -> set[str]:
        """The IAM actions of the calls that were made; GetCallerIdentity needs none.

        https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
        """
        others = {
            "s3:HeadBucket": "s3:ListBucket",
            "s3:ListBuckets": "s3:ListAllMyBuckets",
            "s3:ListObjectsV2": "s3:ListBucket",
            "resourcegroupstaggingapi:GetResources": "tag:GetResources",
        }
        found = set()
        for name in {*self.made} - {"sts:GetCallerIdentity"}:
            service, operation = name.split(":")
            signed = boto3.client(service, region_name=NAMES.region).meta.service_model.signing_name
            found.add(others.get(name, f"{signed}:{operation}"))
        return found

    def client(self, service: str, region_name: str = NAMES.region, **options: Any) -> Any:
        """A client of a service, as boto3.Session.client returns it."""
        credentials = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        client = boto3.client(service, region_name=region_name, **credentials, **options)
        asked: dict[str, Any] = {}

        def remember(params: dict[str, Any], **_: Any) -> None:
            asked.clear()
            asked.update(params)

        def answer(model: Any, **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
            name = f"{service}:{model.name}"
            self.calls.append((name, dict(asked)))
            found = self.answers.get(name, denied(model))
            found = found(dict(asked)) if isinstance(found, Callable) else found  # type: ignore[arg-type]
            status = found.status if isinstance(found, Refusal) else 200
            if not isinstance(found, Refusal) and model.output_shape:
                validate_parameters(found, model.output_shape)
            parsed = found.parsed if isinstance(found, Refusal) else found
            return AWSResponse("", status, {}, None), parsed

        client.meta.events.register_first("provide-client-params.*.*", remember)
        client.meta.events.register_first("before-call.*.*", answer)
        return client


def denied(model: Any) -> Refusal:
    """The refusal of a call that the user may not make. S3 answers HEAD requests without words."""
    if model.name.startswith("Head"):
        return Refusal("403", "Forbidden", 403)
    action = f"{model.service_model.signing_name}:{model.name}"
    return Refusal("AccessDeniedException", f"User: {ME} is not authorized to perform: {action} on resource: *", 403)


def connected(answers: Mapping[str, Any]) -> tuple[Aws, Canned]:
    """Access to AWS that answers from a table, and its session."""
    session = Canned(answers)
    return Aws(NAMES, session), session
