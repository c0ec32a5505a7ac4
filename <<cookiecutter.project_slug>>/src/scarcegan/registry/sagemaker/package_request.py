"""What SageMaker is asked when a model package is created. Pure: facts and places in, the request out.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html; versioned packages take no tags.
"""

import hashlib
import unicodedata
from collections.abc import Callable
from typing import Any

from scarcegan.registry.contract import PENDING, PackageRequest
from scarcegan.registry.sagemaker.package_facts import facts

INSTANCES = ["ml.m5.large", "ml.m5.xlarge", "ml.m5.2xlarge", "ml.c5.large", "ml.c5.xlarge", "ml.c5.2xlarge"]
TRANSFORM_INSTANCES = ["ml.m5.large", "ml.m5.xlarge", "ml.m5.2xlarge", "ml.c5.xlarge", "ml.c5.2xlarge"]
MODEL = "model.tar.gz"
DESCRIPTION_LENGTH = 1024


def create_request(
    group: str, set_id: str, request: PackageRequest, uri: Callable[[str], str], image: str, token: str, made_by: str
) -> dict[str, Any]:
    """The arguments of CreateModelPackage, pending approval. uri: path inside the package -> where it lies in S3.

    token: of the claim it is made under; made_by: ARN of the execution.
    """

    def source(path: str) -> dict[str, str]:
        return {"ContentType": "application/json", "S3Uri": uri(path)}

    statistics, constraints = source("baseline/statistics.json"), source("baseline/constraints.json")
    quality = {"Statistics": source("evaluation/evaluation.json")}
    data_quality = {"Statistics": statistics, "Constraints": constraints}
    lineage = {"CommitId": request.code_version, "GeneratedBy": made_by}
    return {
        "ModelPackageGroupName": group,
        "ModelPackageDescription": description(set_id, request),
        "ModelApprovalStatus": PENDING,
        "InferenceSpecification": inference(image, uri(MODEL)),
        "ModelMetrics": {"ModelQuality": quality, "ModelDataQuality": data_quality},
        "DriftCheckBaselines": {"ModelQuality": quality, "ModelDataQuality": data_quality},
        "MetadataProperties": {name: value for name, value in lineage.items() if value},
        "CustomerMetadataProperties": {**facts(set_id, request), "attempt": token},
        "ClientToken": hashlib.sha256(f"{token} {request.definition}".encode()).hexdigest()[:36],
    }


def inference(image: str, model: str) -> dict[str, Any]:
    """TensorFlow Serving behind AWS's image: JSON or CSV in, JSON out."""
    version = image.partition(":")[2].partition("-")[0]
    return {
        "Containers": [{"Image": image, "ModelDataUrl": model, "Framework": "TENSORFLOW", "FrameworkVersion": version}],
        "SupportedContentTypes": ["application/json", "text/csv"],
        "SupportedResponseMIMETypes": ["application/json"],
        "SupportedRealtimeInferenceInstanceTypes": INSTANCES,
        "SupportedTransformInstanceTypes": TRANSFORM_INSTANCES,
    }


def description(set_id: str, request: PackageRequest) -> str:
    """A line for people in Studio. It ends with the set's id, by which a listing finds what belongs together."""
    end = ending(set_id)
    words = "".join(c for c in f"{request.definition}: {request.description}" if unicodedata.category(c)[0] != "C")
    return words[: DESCRIPTION_LENGTH - len(end)] + end


def ending(set_id: str) -> str:
    return f" (set {set_id})"
