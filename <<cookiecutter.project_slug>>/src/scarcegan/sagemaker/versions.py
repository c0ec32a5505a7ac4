"""Versions of the SageMaker pipelines: of which commit each is, and how an earlier one becomes the newest again.

SageMaker keeps the definition of every version of a pipeline; a change makes a new version. The commit stands in the
definition, under Metadata.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineVersions.html
"""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scarcegan.aws.client import Aws, none_if_missing
from scarcegan.aws.storage import project_bucket
from scarcegan.errors import UserError
from scarcegan.sagemaker.bundle import COMPLETE
from scarcegan.sagemaker.pipelines import find_pipeline, missing_pipeline_error, parameter_defaults

COMMIT = "commit"  # key in the definition's Metadata
CODE = re.compile(r"s3://[^/\"]+/(code/[0-9a-f]+)/")
WHEELS = re.compile(r"s3://[^/\"]+/(wheels/[0-9a-f]+)/")
ESSENTIAL = {CODE: "source.tar.gz", WHEELS: COMPLETE}  # objects without which no job of a version can start


@dataclass(frozen=True)
class PipelineVersion:
    """A version of a pipeline in AWS.

    - version: its number.
    - created: when it became the newest, as text.
    - commit: the git commit of its code and config.yaml, with "+" when files had been changed since; "" when unknown.
    - code: the digest of the jobs' code.
    - execution: id of the last execution of this version; "" without one.
    """

    version: int
    created: str
    commit: str
    code: str
    execution: str = ""


@dataclass(frozen=True)
class Restoration:
    """The plan of making an earlier version of the training pipeline the newest again.

    - pipeline: the pipeline's name in AWS.
    - version: the earlier version.
    - definition: its definition, as JSON text; "" when the newest version has the same.
    - changes: what differs from the newest version, a line of text each.
    """

    pipeline: str
    version: PipelineVersion
    definition: str
    changes: Sequence[str]


def commit_of(root: Path) -> str:
    """Return the git commit of a project's folder, with "+" at its end when files have been changed since.

    In CodeBuild it is the commit that CodePipeline gave to the build. "" outside of a repository, or without git.
    https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html
    """
    given = os.environ.get("CODEBUILD_RESOLVED_SOURCE_VERSION", "")
    if re.fullmatch(r"[0-9a-f]{40}", given):
        return given
    try:
        found = [
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."])
        ]
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
    return found[0] + ("+" if found[1] else "")


def with_commit(definition: str, commit: str) -> str:
    """Return a definition as JSON text that names its commit; unchanged when the commit is ""."""
    if not commit:
        return definition
    made = json.loads(definition)
    made["Metadata"] = {**made.get("Metadata", {}), COMMIT: commit}
    return json.dumps(made, indent=1, ensure_ascii=True) + "\n"


def same_definition(one: str, other: str) -> bool:
    """Whether two definitions differ at most in the commit that they name, so that executions of both do the same."""

    def told(text: str) -> dict[str, Any]:
        made = json.loads(text)
        metadata = {key: value for key, value in made.pop("Metadata", {}).items() if key != COMMIT}
        return {**made, "Metadata": metadata}

    return told(one) == told(other)


def described_version(version: int, described: Mapping[str, Any], execution_arn: str = "") -> PipelineVersion:
    """Return a version of a pipeline.

    - described: SageMaker's description of it.
    - execution_arn: of its last execution; "" without one.
    """
    definition = described["PipelineDefinition"]
    code = CODE.search(definition)
    return PipelineVersion(
        version,
        f"{described['LastModifiedTime']:%Y-%m-%d %H:%M}",
        json.loads(definition).get("Metadata", {}).get(COMMIT, ""),
        code[1].removeprefix("code/") if code else "",
        execution_arn.rpartition("/")[2],
    )


def newest_versions(aws: Aws, name: str, most: int) -> list[PipelineVersion]:
    """Ask SageMaker for the versions of a pipeline, newest first, at most `most` (up to 100) of them.

    - name: training, scoring or that of a copy.

    Raises UserError when the pipeline is not in AWS yet.
    """
    sagemaker, pipeline = aws.client("sagemaker"), aws.names.pipeline(name)
    answer = none_if_missing(
        lambda: sagemaker.list_pipeline_versions(PipelineName=pipeline, SortOrder="Descending", MaxResults=most)
    )
    if answer is None:
        raise missing_pipeline_error(aws, name)
    found = []
    for item in answer["PipelineVersionSummaries"]:
        number = item["PipelineVersionId"]
        described = sagemaker.describe_pipeline(PipelineName=pipeline, PipelineVersionId=number)
        made = {**described, "LastModifiedTime": item["CreationTime"]}
        found.append(described_version(number, made, item.get("LastExecutionPipelineExecutionArn", "")))
    return found


def plan_restoration(aws: Aws, version: int) -> Restoration:
    """Plan to make an earlier version of the training pipeline the newest again. Changes nothing in AWS.

    Raises UserError when there is no such version, or when the code or the wheels of its jobs are no longer in S3.
    """
    sagemaker, pipeline = aws.client("sagemaker"), aws.names.pipeline("training")
    newest = find_pipeline(aws, "training")
    if newest is None:
        raise missing_pipeline_error(aws, "training")
    earlier = none_if_missing(lambda: sagemaker.describe_pipeline(PipelineName=pipeline, PipelineVersionId=version))
    if earlier is None:
        raise UserError(f"{pipeline} has no version {version}. See those that there are: scarcegan pipeline versions")
    definition = earlier["PipelineDefinition"]
    found = described_version(version, earlier)
    refuse_without_code(aws, found, definition)
    if same_definition(definition, newest["PipelineDefinition"]):
        return Restoration(pipeline, found, "", [])
    return Restoration(pipeline, found, definition, differences(newest["PipelineDefinition"], definition))


def refuse_without_code(aws: Aws, version: PipelineVersion, definition: str) -> None:
    """Check that what the jobs of a version need is still in the project's bucket.

    - definition: of that version, as JSON text.

    Raises UserError when it is not.
    """
    bucket = project_bucket(aws)
    for pattern, name in ESSENTIAL.items():
        for prefix in sorted(set(pattern.findall(definition))):
            if not bucket.exists(f"{prefix}/{name}"):
                commit = version.commit.rstrip("+") or "that version's commit"
                raise UserError(
                    f"s3://{aws.names.bucket}/{prefix}/{name} is gone, so jobs of version {version.version} cannot "
                    f"start. Publish it anew: git checkout {commit}, then scarcegan upsert"
                )


def differences(before: str, after: str) -> list[str]:
    """Return what differs between two definitions, a line of text each: code, wheels, parameters, steps.

    - before, after: the definitions as JSON text.
    """
    one, other = json.loads(before), json.loads(after)
    found = []
    for what, pattern in (("code", CODE), ("wheels", WHEELS)):
        old, new = (",".join(sorted(set(pattern.findall(text)))) for text in (before, after))
        if old != new:
            found.append(f"{what}: {old} -> {new}")
    old_defaults, new_defaults = parameter_defaults(one), parameter_defaults(other)
    for name in sorted(old_defaults.keys() | new_defaults.keys()):
        if old_defaults.get(name) != new_defaults.get(name):
            found.append(f"{name}: {old_defaults.get(name, 'none')} -> {new_defaults.get(name, 'none')}")
    plain = [CODE.sub("", WHEELS.sub("", json.dumps(made["Steps"]))) for made in (one, other)]
    if plain[0] != plain[1]:
        found.append("steps: they differ in more than their code")
    return found


def restore(aws: Aws, plan: Restoration) -> None:
    """Make the definition of the plan the newest version of the training pipeline. Safe to repeat.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdatePipeline.html
    """
    if plan.definition:
        aws.client("sagemaker").update_pipeline(
            PipelineName=plan.pipeline,
            PipelineDefinition=plan.definition,
            RoleArn=aws.names.pipeline_role_arn("training"),
        )
