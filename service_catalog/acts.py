"""What a plan consists of: acts in AWS, each of which can be printed as a command of the AWS CLI, or done.

What --dry-run prints does what the real run does. versions.py and account.py read what a plan depends on.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import sleep, time
from typing import Any, Protocol

NO_ACCOUNT = "000000000000"  # stands in plans that are made without credentials
STACK = "scarcegan-administration"
POLL_SECONDS = 5
CREDENTIAL_CODES = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)
LOG_IN = "Log in, such as with `aws sso login`, or name a profile in AWS_PROFILE. Then type the same again."
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
PrintLine = Callable[[str], None]


class UserError(Exception):
    """A sentence for whoever types: the fact, what was there, the next move."""


class Aws:
    """An account in a region, through boto3. Without credentials, only what makes no call can be asked.

    Raises UserError where no region is set.
    """

    def __init__(self, region: str = "") -> None:
        try:
            import boto3
        except ModuleNotFoundError:
            raise UserError("boto3 is not installed. Type: python -m pip install boto3") from None
        self.session = boto3.Session(region_name=region or None)
        self.clients: dict[str, Any] = {}
        if not self.session.region_name:
            raise UserError("no AWS region is set. Name one with --region, such as --region eu-west-1.")
        self.region = str(self.session.region_name)
        self.partition = str(self.session.get_partition_for_region(self.region))

    @property
    def has_credentials(self) -> bool:
        return self.session.get_credentials() is not None

    @cached_property
    def account(self) -> str:
        """The account's number; NO_ACCOUNT without credentials."""
        return str(self.client("sts").get_caller_identity()["Account"]) if self.has_credentials else NO_ACCOUNT

    def client(self, service: str) -> Any:
        """boto3's client of a service; the same each time."""
        if service not in self.clients:
            self.clients[service] = self.session.client(service)
        return self.clients[service]

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


class Act(Protocol):
    """One step of a plan. why: what will be so afterwards, as a sentence without a full stop."""

    @property
    def why(self) -> str: ...

    def command(self) -> str:
        """The same for the shell: a command, or a few, one a line."""

    def do(self, aws: Aws) -> None:
        """Do it, and wait until it is done."""


@dataclass(frozen=True)
class Call:
    """One call of AWS's API.

    - service, operation: as boto3 has them, such as s3 and put_object.
    - parameters: of the call. A Path stands for the bytes of that file.
    """

    why: str
    service: str
    operation: str
    parameters: Mapping[str, Any]

    def command(self) -> str:
        from botocore import xform_name

        service = {"s3": "s3api"}.get(self.service, self.service)
        words = [f"aws {service} {self.operation.replace('_', '-')}"]
        for name, value in self.parameters.items():
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            text = str(value) if isinstance(value, Path) else text
            option = f"--{xform_name(name).replace('_', '-')}"
            if isinstance(value, bool):
                words.append(option if value else f"--no-{option[2:]}")
            else:
                words += [option, shlex.quote(text)]
        return " ".join(words)

    def do(self, aws: Aws) -> None:
        values = {name: v.read_bytes() if isinstance(v, Path) else v for name, v in self.parameters.items()}
        getattr(aws.client(self.service), self.operation)(**values)


@dataclass(frozen=True)
class DeployStack:
    """Create or update the administration's stack. A parameter that is not given keeps its value."""

    why: str
    template: Path
    parameters: Mapping[str, str]

    def command(self) -> str:
        values = " ".join(shlex.quote(f"{name}={value}") for name, value in self.parameters.items())
        return (
            f"aws cloudformation deploy --stack-name {STACK} --template-file {shlex.quote(str(self.template))} "
            f"--capabilities CAPABILITY_NAMED_IAM --no-fail-on-empty-changeset --parameter-overrides {values}"
        )

    def do(self, aws: Aws) -> None:
        """Raises UserError when CloudFormation refuses the change, or fails to make it."""
        cloudformation = aws.client("cloudformation")
        found = find_stack(aws)
        status = found["StackStatus"] if found else "REVIEW_IN_PROGRESS"
        if status == "ROLLBACK_COMPLETE":
            DeleteStack("").do(aws)
            found, status = None, "REVIEW_IN_PROGRESS"
        new = status == "REVIEW_IN_PROGRESS"
        if not new and status.endswith(("_IN_PROGRESS", "_FAILED")):
            raise UserError(
                f"stack {STACK} is {status}. Wait or repair it in CloudFormation's console, then try again."
            )
        body = self.template.read_text(encoding="utf-8")
        declared = cloudformation.get_template_summary(TemplateBody=body)["Parameters"]
        there = set() if new else {item["ParameterKey"] for item in (found or {}).get("Parameters", [])}
        kept = sorted(there & {item["ParameterKey"] for item in declared} - set(self.parameters))
        names = {"StackName": STACK, "ChangeSetName": f"{STACK}-{int(time())}"}
        cloudformation.create_change_set(
            **names,
            ChangeSetType="CREATE" if new else "UPDATE",
            TemplateBody=body,
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[
                *({"ParameterKey": name, "ParameterValue": value} for name, value in self.parameters.items()),
                *({"ParameterKey": name, "UsePreviousValue": True} for name in kept),
            ],
        )
        made = wait_while_in_progress(lambda: cloudformation.describe_change_set(**names), "Status")
        if made["Status"] == "FAILED":
            cloudformation.delete_change_set(**names)
            reason = made.get("StatusReason", "no reason given")
            if any(words in reason for words in NO_CHANGES):
                return
            raise UserError(f"CloudFormation refuses {self.template.name}: {reason.rstrip('.')}. Nothing was changed.")
        cloudformation.execute_change_set(**names)
        ended = wait_while_in_progress(lambda: find_stack(aws) or {"StackStatus": "gone"}, "StackStatus")
        if ended["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise UserError(failure(aws, STACK, ended["StackStatus"]))


@dataclass(frozen=True)
class DeleteStack:
    """Delete the administration's stack."""

    why: str

    def command(self) -> str:
        calls = ("delete-stack", "wait stack-delete-complete")
        return "\n".join(f"aws cloudformation {call} --stack-name {STACK}" for call in calls)

    def do(self, aws: Aws) -> None:
        """Raises UserError when CloudFormation cannot delete it."""
        found = find_stack(aws)
        if found is None:
            return
        cloudformation, stack = aws.client("cloudformation"), found["StackId"]
        cloudformation.delete_stack(StackName=stack)
        ended = wait_while_in_progress(
            lambda: cloudformation.describe_stacks(StackName=stack)["Stacks"][0], "StackStatus"
        )
        if ended["StackStatus"] != "DELETE_COMPLETE":
            raise UserError(failure(aws, stack, ended["StackStatus"]))


@dataclass(frozen=True)
class DeleteBucket:
    """Delete a bucket with every version of every object in it, if it is there."""

    why: str
    bucket: str

    def command(self) -> str:
        bucket = f"--bucket {self.bucket}"
        listed = "--output text --query '[Versions, DeleteMarkers][].[Key, VersionId]'"
        return (
            f"aws s3api list-object-versions {bucket} {listed} | while read -r key version; do "
            f'aws s3api delete-object {bucket} --key "$key" --version-id "$version"; done\n'
            f"aws s3api delete-bucket {bucket}"
        )

    def do(self, aws: Aws) -> None:
        """Raises UserError when an object cannot be deleted."""
        s3 = aws.client("s3")
        try:
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
                self.delete(s3, [*page.get("Versions", []), *page.get("DeleteMarkers", [])])
        except s3.exceptions.NoSuchBucket:
            return
        s3.delete_bucket(Bucket=self.bucket)

    def delete(self, s3: Any, listed: Sequence[Mapping[str, Any]]) -> None:
        """Delete at most 1,000 versions of objects. Raises UserError when one cannot be deleted."""
        objects = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in listed]
        asked = {"Objects": objects, "Quiet": True}
        failed = s3.delete_objects(Bucket=self.bucket, Delete=asked).get("Errors", []) if objects else []
        for one in failed:
            why = one.get("Message") or one["Code"]
            raise UserError(f"{self.bucket} keeps {one['Key']}: {why}. Correct that, then type the same again.")


def walk(plan: Sequence[Act], aws: Aws, report: PrintLine) -> None:
    """Do what is planned, in order, and report each act before it is done.

    Raises UserError, or botocore's ClientError, at the first act that fails.
    """
    for act in plan:
        report(act.why)
        act.do(aws)


@contextmanager
def refusals_as_sentences() -> Iterator[None]:
    """Raises UserError in place of an error of AWS or of boto3. Without boto3, every error passes unchanged."""
    try:
        from botocore import exceptions as refused
    except ModuleNotFoundError:
        yield
        return
    unreachable = (refused.ConnectionError, refused.HTTPClientError, refused.UnknownRegionError)
    try:
        yield
    except refused.ParamValidationError:  # a mistake in here
        raise
    except refused.ClientError as error:
        code, message = (error.response["Error"].get(name, "") for name in ("Code", "Message"))
        said = (message or code).rstrip(".")
        if code in CREDENTIAL_CODES:
            raise UserError(f"AWS does not take your credentials: {said}. {LOG_IN}") from error
        raise UserError(
            f"AWS refused {error.operation_name}: {said}. Correct that, then type the same again."
        ) from error
    except refused.ProfileNotFound as error:
        raise UserError(
            f"{error}. Name in AWS_PROFILE one that `aws configure list-profiles` shows, or unset it."
        ) from error
    except unreachable as error:
        said = str(error).rstrip(".")
        raise UserError(
            f"AWS cannot be reached: {said}. Check the region and the network, then type the same again."
        ) from error
    except refused.BotoCoreError as error:
        raise UserError(f"AWS cannot be asked: {str(error).rstrip('.')}. {LOG_IN}") from error


def find_stack(aws: Aws) -> dict[str, Any] | None:
    """CloudFormation's description of the administration's stack, None when there is none."""
    from botocore.exceptions import ClientError

    try:
        return dict(aws.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0])
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise


def wait_while_in_progress(describe: Callable[[], dict[str, Any]], key: str) -> dict[str, Any]:
    """Ask every POLL_SECONDS until the status is final. Returns the last answer.

    It does not ask at once: for a moment after a call, CloudFormation may still tell the earlier status.
    """
    while True:
        sleep(POLL_SECONDS)
        found = describe()
        if not found[key].endswith(("_PENDING", "_IN_PROGRESS")):
            return found


def failure(aws: Aws, stack: str, status: str) -> str:
    """A sentence about a stack that failed, with the first resource that did in its last change."""
    pages = aws.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack)
    first = None
    for event in (event for page in pages for event in page["StackEvents"]):  # newest first
        whole = event["ResourceType"] == "AWS::CloudFormation::Stack"
        if whole and event["ResourceStatus"] in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"):
            break
        if event["ResourceStatus"].endswith("_FAILED") and not whole:
            first = event
    if first is None:
        return f"stack {STACK} is {status}. Read its events in CloudFormation's console."
    reason = str(first.get("ResourceStatusReason", "no reason given")).rstrip(".")
    what = f"{first['LogicalResourceId']} ({first['ResourceType']})"
    return f"stack {STACK} failed at {what}: {reason}. Correct the cause, then type the same again."
