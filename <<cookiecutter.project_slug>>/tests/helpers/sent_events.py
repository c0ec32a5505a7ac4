"""Events as AWS sends them, and whether a rule matches one; moto's matcher stands for EventBridge's."""

import json
from collections.abc import Mapping
from typing import Any

from moto.events.models import EventPattern

from stacks import ACCOUNT, REGION


def matches(rule: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """rule: properties of a rule. sent: an event."""
    pattern = rule["EventPattern"]
    return bool(EventPattern(json.dumps(pattern), pattern).matches_event(json.loads(json.dumps(sent))))


def event(source: str, kind: str, detail: Mapping[str, Any], resources: tuple[str, ...] = ()) -> dict[str, Any]:
    """The envelope every event has. https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html"""
    return {
        "version": "0",
        "id": "844e2571-85d4-695f-b930-0153b71dcb42",
        "detail-type": kind,
        "source": source,
        "account": ACCOUNT,
        "time": "2026-11-21T10:00:00Z",
        "region": REGION,
        "resources": list(resources),
        "detail": dict(detail),
    }


def package_event(group: str, **changes: Any) -> dict[str, Any]:
    """What SageMaker sends when a package of a group changes; as it comes, an approval. None leaves a field out.

    https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
    """
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/{group}/7"
    detail = {
        "ModelPackageGroupName": group,
        "ModelPackageVersion": 7,
        "ModelPackageArn": arn,
        "CreationTime": 1795000000000,
        "InferenceSpecification": {"Containers": [{"Image": "image", "ModelDataUrl": "s3://bucket/model.tar.gz"}]},
        "ModelPackageStatus": "Completed",
        "ModelApprovalStatus": "Approved",
        "UpdatedModelPackageFields": ["ModelApprovalStatus"],
        "ApprovalDescription": "looks right",
        "CustomerMetadataProperties": {"set_id": "s1"},
    } | changes
    kept = {key: value for key, value in detail.items() if value is not None}
    return event("aws.sagemaker", "SageMaker Model Package State Change", kept, (arn,))


def codepipeline_event(pipeline: str, state: str) -> dict[str, Any]:
    """https://docs.aws.amazon.com/codepipeline/latest/userguide/detect-state-changes-cloudwatch-events.html"""
    detail = {"pipeline": pipeline, "execution-id": "e-1", "state": state, "version": 3.0}
    return event("aws.codepipeline", "CodePipeline Pipeline Execution State Change", detail)
