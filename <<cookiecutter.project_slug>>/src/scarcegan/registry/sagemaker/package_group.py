"""A model package group in SageMaker: list, read, create and delete packages. Model sets: register_set.py."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from scarcegan.aws.client import none_if_missing
from scarcegan.errors import UserError
from scarcegan.registry.contract import PENDING, ApprovalStatus, Decision, ModelPackage, iso, one_line
from scarcegan.registry.sagemaker.package_facts import decisions_in, recorded_name

RECORDED_FIELDS = (
    "definition",
    "metrics",
    "gate",
    "run",
    "data_fingerprint",
    "code_version",
    "description",
    "model_digest",
    "evaluation_digest",
)
MOST_CHECKS = 60  # of a package that SageMaker is still creating
CHECK_SECONDS = 2.0  # between two of them
UNLIKE_SECONDS = 600  # between the times of one decision by two clocks there are fewer
GROUP_ARN = re.compile(
    r"arn:[\w-]+:sagemaker:(?P<region>[\w-]+):(?P<account>[0-9]{12}):model-package-group/(?P<name>[\w-]+)",
    re.ASCII,
)

Response = Mapping[str, Any]  # a model package as DescribeModelPackage or ListModelPackages returns it


@dataclass(frozen=True)
class Group:
    """A model package group in SageMaker. Errors of AWS are raised as boto3's ClientError.

    - client: boto3's SageMaker client.
    - name_or_arn: the group's name, or its ARN when another account owns it.
    """

    client: Any
    name_or_arn: str

    def listed(self, **filters: str) -> dict[str, Response]:
        """Return ARN -> package as ListModelPackages returns it (without some fields), for the packages of the group.

        - filters: further arguments of ListModelPackages, such as ModelApprovalStatus="Approved"; without any, all
          packages.
        """
        pages = self.client.get_paginator("list_model_packages")
        found: dict[str, Response] = {}
        arguments = {"ModelPackageGroupName": self.name_or_arn, "PaginationConfig": {"PageSize": 100}, **filters}
        for page in pages.paginate(**arguments):
            found.update({response["ModelPackageArn"]: response for response in page["ModelPackageSummaryList"]})
        return found

    def describe(self, arn: str) -> Response:
        """Return the package with this ARN, as DescribeModelPackage does. Raises ClientError when there is none."""
        return self.client.describe_model_package(ModelPackageName=arn)

    def find(self, arn: str) -> Response | None:
        """Return the package with this ARN as DescribeModelPackage returns it; None when it is missing or being
        deleted.
        """
        response = none_if_missing(lambda: self.describe(arn))
        return None if response is None or response["ModelPackageStatus"] == "Deleting" else response

    def create(self, request: Mapping[str, Any]) -> str:
        """Start to create a package, and return its ARN without waiting. request: arguments of CreateModelPackage."""
        return str(self.client.create_model_package(**request)["ModelPackageArn"])

    def wait_until_created(self, arn: str, sleep: Callable[[float], None]) -> None:
        """Wait until SageMaker has created the package with this ARN.

        - sleep: a function that waits for a number of seconds.

        Raises UserError when the creation fails or takes longer than MOST_CHECKS times CHECK_SECONDS.
        """
        for _ in range(MOST_CHECKS):
            response = self.describe(arn)
            if response["ModelPackageStatus"] not in ("Pending", "InProgress"):
                break
            sleep(CHECK_SECONDS)
        if response["ModelPackageStatus"] != "Completed":
            details = json.dumps(response.get("ModelPackageStatusDetails", {}), default=str)
            raise UserError(
                f"SageMaker has not completed the package {arn} ({response['ModelPackageStatus']}: {details}). "
                "Nothing was registered; start the execution again."
            )

    def delete(self, arn: str) -> None:
        """Delete the package with this ARN. Raises ClientError when there is none."""
        self.client.delete_model_package(ModelPackageName=arn)


def version_of(response: Response) -> int:
    """Return the version number of a package that SageMaker returned: the last part of its ARN."""
    return int(response["ModelPackageArn"].rsplit("/", 1)[1])


def decisions_of(response: Response) -> list[Decision]:
    """Return the decisions about a package that SageMaker returned in full, oldest first.

    They are those that this registry stored in the package's properties. When the last of these is not the package's
    present status, or has another note than the package, the present approval or rejection was made elsewhere, such as
    in Studio, and is added as the last one. One that repeats status and note is not noticed.

    AWS tells who changed a package last, and nothing about earlier changes; properties are written by whoever may
    update the package. So of the last decision only, `by` is the identity that AWS names. Its `recorded` is "" when
    that identity, at about that time, is also what the properties say.

    - response: the package as DescribeModelPackage returns it.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UserContext.html
    """
    found = decisions_in(response.get("CustomerMetadataProperties", {}), version_of(response))
    decision = str(response.get("ModelApprovalStatus", PENDING)).lower()
    note = response.get("ApprovalDescription", "")
    if decision not in ("approved", "rejected"):
        return found
    who = response.get("LastModifiedBy", {})
    arn = who.get("IamIdentity", {}).get("Arn", "")
    changed = response.get("LastModifiedTime", response["CreationTime"])
    if found and is_recorded(found[-1], decision, note):
        return [*found[:-1], confirmed(found[-1], arn, changed)]
    by = who.get("UserProfileName") or arn or "unknown"
    return [*found, Decision(iso(changed), version_of(response), cast(Any, decision), by, note)]


def confirmed(last: Decision, arn: str, changed: datetime) -> Decision:
    """Return the last decision about a package with what AWS tells about the package's last change.

    - last: as the properties have it.
    - arn: of who changed the package last; "" when AWS does not tell: the decision is then returned as it is.
    - changed: when that was.
    """
    if not arn:
        return last
    try:
        seconds = abs((datetime.fromisoformat(last.at) - changed).total_seconds())
    except (ValueError, TypeError):  # no time, or one without a time zone
        seconds = UNLIKE_SECONDS
    if recorded_name(arn) == last.recorded and seconds < UNLIKE_SECONDS:
        return replace(last, by=arn, recorded="")
    return replace(last, at=iso(changed), by=arn)


def is_recorded(last: Decision, decision: str, note: str) -> bool:
    """Whether the last recorded decision is the package's present one.

    - decision: approved or rejected.
    - note: the package's ApprovalDescription, which `_decide` of registry.py writes on one line.
    """
    cut = last.note.endswith("...")
    return last.decision == decision and (cut or one_line(last.note) == note)


def model_package(
    group: str, set_id: str, facts: Mapping[str, Any], response: Response, champion: str = ""
) -> ModelPackage:
    """Return the ModelPackage for a package in SageMaker.

    - group: the name of its group.
    - set_id: the name of its model set.
    - facts: its entry in the record of that set, with RECORDED_FIELDS (see set_record.py).
    - response: the package as DescribeModelPackage returns it; for a pending one, the entry of ListModelPackages will
      do.
    - champion: the ARN of the champion, "" when there is none.
    """
    status = cast(ApprovalStatus, response.get("ModelApprovalStatus", PENDING))
    decided = next((found for found in reversed(decisions_of(response)) if found.decision == status.lower()), None)
    return ModelPackage(
        version=version_of(response),
        group=group,
        set_id=set_id,
        status=status,
        champion=bool(champion) and response["ModelPackageArn"] == champion,
        created=iso(response["CreationTime"]),
        decided_at=decided.at if decided else "",
        decided_by=decided.by if decided else "",
        note=response.get("ApprovalDescription", "") if decided else "",
        **{name: facts[name] for name in RECORDED_FIELDS if name in facts},  # an old record lacks the digests
    )
