"""Copies of the training pipeline in AWS: written beside it for trying a change out on a sample, and removed again.

A copy ends with the evaluation. It registers no model, and nothing starts it but `scarcegan start`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scarcegan.aws import client
from scarcegan.aws.client import Aws
from scarcegan.aws.names import COPY_TAG, Names, project_tags
from scarcegan.errors import UserError, shortened
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import copy_name
from scarcegan.progress import PrintLine
from scarcegan.sagemaker import bundle, upsert
from scarcegan.sagemaker.pipelines import find_pipeline
from scarcegan.sagemaker.upsert import UpsertPlan


def copy_pipeline(name: str) -> str:
    """Return the name of a copy's pipeline, training-<name>. name: of the copy.

    Raises UserError for a name that a copy cannot have.
    """
    pipeline = f"training-{name}"
    if not copy_name(pipeline):
        raise UserError(
            f"'{shortened(name)}' cannot be the name of a copy: at most 30 lower-case letters, digits and single "
            "hyphens, a letter first, and not …training or …scoring at its end. Choose another one."
        )
    return pipeline


def plan_copy(root: Path, config: Config, names: Names, name: str) -> UpsertPlan:
    """Plan to write a copy of the training pipeline with the code of this folder. Makes no call to AWS.

    - root: the project's folder.
    - name: of the copy.

    Raises UserError for a name that a copy cannot have, and as `plan_upsert` does.
    """
    pipeline = copy_pipeline(name)
    client.region_of(config)
    client.library("sagemaker.core")
    from scarcegan.sagemaker import compiler

    code = bundle.code_bundle(root)
    tags = {**project_tags(config), COPY_TAG: name}
    objects = {**code.objects, **bundle.markers()}
    made = compiler.compile_copy(config, names, code, name)
    return UpsertPlan(names, root, objects, f"{code.wheels_prefix}/", {pipeline: made}, {}, tags)


def write_copy(plan: UpsertPlan, aws: Aws, say: PrintLine) -> dict[str, Any]:
    """Upload the code of a plan, and create or update the copy. Safe to repeat. Returns what `apply_plan` does.

    Raises UserError for a pipeline of that name that is no copy of this project, and as `apply_plan` does.
    """
    [pipeline] = plan.pipelines
    refuse_unless_copy(aws, pipeline, find_pipeline(aws, pipeline))
    return upsert.apply_plan(plan, aws, False, say, plan.pipelines)


def refuse_unless_copy(aws: Aws, pipeline: str, described: Mapping[str, Any] | None) -> None:
    """Check that a pipeline in AWS is a copy that this project made.

    - pipeline: training-<name of the copy>.
    - described: SageMaker's description of it; None when there is none, which is no fault.

    Raises UserError when it is not.
    """
    if described is None:
        return
    tag = {"Key": COPY_TAG, "Value": copy_name(pipeline)}
    if not client.has_tags(aws.client("sagemaker"), described["PipelineArn"], [tag]):
        raise UserError(
            f"the pipeline {aws.names.pipeline(pipeline)} is in AWS, but no copy that `scarcegan pipeline copy` made. "
            "Choose another name."
        )


def copies(aws: Aws) -> list[str]:
    """Return the names of this project's copies in AWS, sorted."""
    start = aws.names.pipeline("")
    pages = aws.client("sagemaker").get_paginator("list_pipelines").paginate(PipelineNamePrefix=f"{start}training-")
    named = [item["PipelineName"] for page in pages for item in page["PipelineSummaries"]]
    return sorted(filter(None, (copy_name(name.removeprefix(start)) for name in named if name.startswith(start))))


def remove_copy(aws: Aws, name: str) -> str:
    """Delete a copy in AWS, and return its pipeline's name. Outputs of its executions stay in S3 until they expire.

    Raises UserError when there is no such copy, when it is not this project's, and while an execution of it is running.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeletePipeline.html
    """
    from botocore.exceptions import ClientError

    pipeline = copy_pipeline(name)
    described = find_pipeline(aws, pipeline)
    if described is None:
        there = ", ".join(copies(aws)) or "none"
        raise UserError(f"there is no copy '{name}' in {aws.names.region} (there are: {there}).")
    refuse_unless_copy(aws, pipeline, described)
    sagemaker, deployed = aws.client("sagemaker"), aws.names.pipeline(pipeline)
    try:
        sagemaker.delete_pipeline(PipelineName=deployed)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConflictException":
            raise
        raise UserError(
            f"SageMaker does not delete {deployed}: {client.flat(error.response['Error']['Message'])}. Its executions "
            f"must have ended. Look: scarcegan status --pipeline {pipeline}; end one: scarcegan stop --pipeline "
            f"{pipeline}"
        ) from error
    return deployed
