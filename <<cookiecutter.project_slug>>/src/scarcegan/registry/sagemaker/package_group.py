"""A model package group in SageMaker: its packages listed, looked at, made and deleted. Sets are registering.py's."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from scarcegan.aws.client import known
from scarcegan.errors import UserError
from scarcegan.registry.contract import PENDING, Event, ModelPackage, Status, iso
from scarcegan.registry.sagemaker.package_facts import decisions

FACTS = ("definition", "metrics", "gate", "run", "data_fingerprint", "code_version", "description")
LOOKS = 60  # at a package that SageMaker is still making, two seconds apart
GROUP = re.compile(r"arn:[\w-]+:sagemaker:(?P<region>[\w-]+):(?P<account>\d{12}):model-package-group/(?P<name>[\w-]+)")

Seen = Mapping[str, Any]  # a model package as DescribeModelPackage or ListModelPackages shows it


@dataclass(frozen=True)
class Group:
    """A group through one SageMaker client. asked: its name, or its ARN where another account shares it."""

    client: Any
    asked: str

    def listed(self, **filters: str) -> dict[str, Seen]:
        """ARN -> package, of every package in the group, whoever registered it."""
        pages = self.client.get_paginator("list_model_packages")
        found: dict[str, Seen] = {}
        for page in pages.paginate(ModelPackageGroupName=self.asked, PaginationConfig={"PageSize": 100}, **filters):
            found.update({seen["ModelPackageArn"]: seen for seen in page["ModelPackageSummaryList"]})
        return found

    def describe(self, arn: str) -> Seen:
        return self.client.describe_model_package(ModelPackageName=arn)

    def find(self, arn: str) -> Seen | None:
        """A package, or None when it is not there (any more)."""
        seen = known(lambda: self.describe(arn))
        return None if seen is None or seen["ModelPackageStatus"] == "Deleting" else seen

    def create(self, request: Mapping[str, Any]) -> str:
        return str(self.client.create_model_package(**request)["ModelPackageArn"])

    def settle(self, arn: str, sleep: Callable[[float], None]) -> None:
        """Wait until SageMaker has made the package; UserError when it cannot."""
        for _ in range(LOOKS):
            seen = self.describe(arn)
            if seen["ModelPackageStatus"] not in ("Pending", "InProgress"):
                break
            sleep(2)
        if seen["ModelPackageStatus"] != "Completed":
            details = json.dumps(seen.get("ModelPackageStatusDetails", {}), default=str)
            raise UserError(
                f"SageMaker has not completed the package {arn} ({seen['ModelPackageStatus']}: {details}). "
                "Nothing was registered; start the execution again."
            )

    def delete(self, arn: str) -> None:
        self.client.delete_model_package(ModelPackageName=arn)


def version_of(seen: Seen) -> int:
    return int(seen["ModelPackageArn"].rsplit("/", 1)[1])


def events_of(seen: Seen) -> list[Event]:
    """The decisions about a package, oldest first; one that was made elsewhere, as in Studio, comes last."""
    events = decisions(seen.get("CustomerMetadataProperties", {}), version_of(seen))
    decision = str(seen.get("ModelApprovalStatus", PENDING)).lower()
    if decision in ("approved", "rejected") and (not events or events[-1].decision != decision):
        who = seen.get("LastModifiedBy", {})
        by = who.get("UserProfileName") or who.get("IamIdentity", {}).get("Arn", "unknown")
        at = iso(seen.get("LastModifiedTime", seen["CreationTime"]))
        events.append(Event(at, version_of(seen), cast(Any, decision), by, seen.get("ApprovalDescription", "")))
    return events


def model_package(group: str, set_id: str, facts: Mapping[str, Any], seen: Seen, champion: str = "") -> ModelPackage:
    """A package out of the set's record and what SageMaker shows. champion: the ARN of the one that is."""
    status = cast(Status, seen.get("ModelApprovalStatus", PENDING))
    decided = next((event for event in reversed(events_of(seen)) if event.decision == status.lower()), None)
    return ModelPackage(
        version=version_of(seen),
        group=group,
        set_id=set_id,
        status=status,
        champion=bool(champion) and seen["ModelPackageArn"] == champion,
        created=iso(seen["CreationTime"]),
        decided_at=decided.at if decided else "",
        decided_by=decided.by if decided else "",
        note=seen.get("ApprovalDescription", "") if decided else "",
        **{name: facts[name] for name in FACTS},
    )
