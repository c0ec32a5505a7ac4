"""The arguments of CreateModelPackage, as a pure function of a package's facts and the S3 URIs of its files.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html; versioned packages have no tags.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scarcegan.model import TENSORFLOW
from scarcegan.registry.contract import PENDING, PackageRequest
from scarcegan.registry.sagemaker.package_facts import short_facts

INSTANCES = ["ml.m5.large", "ml.m5.xlarge", "ml.m5.2xlarge", "ml.c5.large", "ml.c5.xlarge", "ml.c5.2xlarge"]
TRANSFORM_INSTANCES = ["ml.m5.large", "ml.m5.xlarge", "ml.m5.2xlarge", "ml.c5.xlarge", "ml.c5.2xlarge"]
MODEL = "model.tar.gz"
DESCRIPTION_LENGTH = 1024
SERVED_DIGEST = "served_digest"  # key in the entry of a set's record; infra/lambdas/check_approval.py reads it too


def create_request(
    group: str, set_id: str, request: PackageRequest, uri: Callable[[str], str], image: str, token: str, made_by: str
) -> dict[str, Any]:
    """Return the arguments of CreateModelPackage for a package of the model set `set_id`, pending approval.

    - group: name or ARN of the model package group.
    - request: the package to create.
    - uri: a function from a path inside the package to the S3 URI of that file.
    - image: the URI of the container image that serves the model.
    - token: of the claim under which the set is registered; it is stored with the package (see set_record.py).
    - made_by: ARN of the pipeline execution that registers; "" is left out.
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
        "InferenceSpecification": inference_specification(image, uri(MODEL)),
        "ModelMetrics": {"ModelQuality": quality, "ModelDataQuality": data_quality},
        "DriftCheckBaselines": {"ModelQuality": quality, "ModelDataQuality": data_quality},
        "MetadataProperties": {name: value for name, value in lineage.items() if value},
        "CustomerMetadataProperties": {**short_facts(set_id, request), "attempt": token},
        "ClientToken": hashlib.sha256(f"{token} {request.definition}".encode()).hexdigest()[:36],
    }


def inference_specification(image: str, model: str) -> dict[str, Any]:
    """Return the argument InferenceSpecification of CreateModelPackage: TensorFlow Serving, JSON or CSV in, JSON out.

    - image: URI of the serving image, whose tag begins with TensorFlow's version.
    - model: the S3 URI of model.tar.gz.
    """
    framework = {"Framework": "TENSORFLOW", "FrameworkVersion": image.partition(":")[2].partition("-")[0]}
    return {
        "Containers": [{"Image": image, "ModelDataUrl": model, **framework, "Environment": TENSORFLOW}],
        "SupportedContentTypes": ["application/json", "text/csv"],
        "SupportedResponseMIMETypes": ["application/json"],
        "SupportedRealtimeInferenceInstanceTypes": INSTANCES,
        "SupportedTransformInstanceTypes": TRANSFORM_INSTANCES,
    }


def served_digest(containers: Sequence[Mapping[str, Any]]) -> str:
    """Return a digest of what an endpoint of a package would run, 64 hexadecimal digits.

    It stands for image with tag, model and environment of each container, and for every other S3 address in it. What
    SageMaker adds by itself does not count. infra/lambdas/check_approval.py has a copy.

    - containers: of the package's InferenceSpecification, as sent to or returned by SageMaker.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ModelPackageContainerDefinition.html
    """
    facts = [
        [
            container.get("Image", ""),
            container.get("ModelDataUrl", ""),
            sorted(container.get("Environment", {}).items()),
            sorted(set(re.findall(r's3://[^"]*', json.dumps(container, default=str)))),
        ]
        for container in containers
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def description(set_id: str, request: PackageRequest) -> str:
    """Return the description of a package, which Studio shows, at most DESCRIPTION_LENGTH characters.

    It is the business definition, the request's description and, last, the set_id, by which the packages of a set are
    found in a listing. Text before the set_id is cut when it is too long; control characters are removed.
    """
    end = description_end(set_id)
    text = "".join(c for c in f"{request.definition}: {request.description}" if unicodedata.category(c)[0] != "C")
    return text[: DESCRIPTION_LENGTH - len(end)] + end


def description_end(set_id: str) -> str:
    """Return the text with which the description of every package of a model set ends: " (set <set_id>)"."""
    return f" (set {set_id})"
