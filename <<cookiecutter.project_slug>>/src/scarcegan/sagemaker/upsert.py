"""Upsert: plan which code, wheels and pipelines should be in AWS, then upload, create or update them.

Planning needs no credentials and no network, and equal sources give equal plans. The key of code contains its digest,
so a second upsert uploads nothing, and SageMaker's cache of unchanged steps stays valid. An object that is there
already is compared: its key alone does not prove who wrote its bytes.
"""

import hashlib
import json
import os
import re
import tempfile
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scarcegan.aws import client
from scarcegan.aws.client import Aws
from scarcegan.aws.findings import refused
from scarcegan.aws.names import PIPELINES, UNKNOWN_ACCOUNT, Names, project_tags
from scarcegan.aws.storage import Bucket, project_bucket
from scarcegan.errors import UserError, short
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import every_pipeline
from scarcegan.progress import PrintLine
from scarcegan.sagemaker import bundle, versions
from scarcegan.sagemaker.pipelines import find_pipeline, parameter_defaults

NOT_COMPARED = "Whether the toolchain in AWS is that of this folder is not known"
WITHOUT_EFFECT = (  # keys of config.yaml that nothing in AWS reads yet: no monitoring job runs there
    "cloud.instances.monitor",
    "monitor.drift_threshold",
    "monitor.window_days",
    "monitor.retrain_windows",
    "monitor.of_windows",
)


@dataclass(frozen=True)
class UpsertPlan:
    """What `scarcegan upsert` will upload, create and change.

    - names: the project's names in AWS.
    - root: the project's folder.
    - objects: key in the project's bucket -> content: the code of jobs, and `bundle.markers`.
    - wheels: prefix of the wheels' keys in that bucket, which ends in a slash.
    - pipelines: "training" and "scoring" -> compiled pipeline.
    - template: the values of infra/pipeline.yaml, as CloudFormation's TemplateConfiguration (Parameters, Tags).
    - tags: tag -> value, for the pipelines.
    - cannot_run: the parts of the defined pipelines that SageMaker cannot run, a sentence each.
    """

    names: Names
    root: Path
    objects: Mapping[str, bytes]
    wheels: str
    pipelines: Mapping[str, Any]
    template: Mapping[str, Any]
    tags: Mapping[str, str]
    cannot_run: Sequence[str] = ()

    @property
    def files(self) -> dict[str, str]:
        """The files to write into the folder build: training.json, scoring.json and pipeline.json -> text.

        The first two are the compiled pipelines; pipeline.json holds `template`.
        """
        definitions = {f"{name}.json": json_text(json.loads(made.definition)) for name, made in self.pipelines.items()}
        return {**definitions, "pipeline.json": json_text(self.template)}

    def describe(self) -> dict[str, Any]:
        """Return the plan as a dictionary that JSON can hold, without the content of the objects:

        - account, region, bucket: texts.
        - uploads: for each object, its key and bytes (how many).
        - wheels: prefix, and requirements (the name of the file with the list).
        - pipelines: for each, pipeline (its name in SageMaker), role (its ARN), bytes (of the definition), steps (as
          `compiled_steps` returns them) and parameters (name -> default).
        - cannot_run: as in the plan.
        - without_effect: the keys of config.yaml that nothing in AWS reads yet.
        """
        return {
            "account": self.names.account,
            "region": self.names.region,
            "bucket": self.names.bucket,
            "uploads": [{"key": key, "bytes": len(body)} for key, body in sorted(self.objects.items())],
            "wheels": {"prefix": self.wheels, "requirements": bundle.REQUIREMENTS},
            "pipelines": [
                {
                    "pipeline": made.name,
                    "role": self.names.pipeline_role_arn(name),
                    "bytes": len(made.definition),
                    "steps": compiled_steps(json.loads(made.definition)),
                    "parameters": parameter_defaults(json.loads(made.definition)),
                }
                for name, made in self.pipelines.items()
            ],
            "cannot_run": list(self.cannot_run),
            "without_effect": list(WITHOUT_EFFECT),
        }


def plan_upsert(root: Path, config: Config, names: Names) -> UpsertPlan:
    """Plan an upsert: read the code, and compile the training and the scoring pipeline. Makes no call to AWS.

    - root: the project's folder.
    - names: the project's names in AWS.

    SAGEMAKER_PROJECT_ID, if set in the environment, becomes the tag sagemaker:project-id.

    Raises UserError when config.yaml names no region, the SageMaker SDK is not installed, requirements-jobs.txt is
    missing or the region has no TensorFlow image, and InvalidPipeline when SageMaker would not run a pipeline.
    """
    client.region_of(config)
    client.library("sagemaker.core")
    from scarcegan.sagemaker import compiler, engine

    code = bundle.code_bundle(root)
    tags = project_tags(config, os.environ.get("SAGEMAKER_PROJECT_ID", ""))
    return UpsertPlan(
        names,
        root,
        {**code.objects, **bundle.markers()},
        f"{code.wheels_prefix}/",
        compiler.compile_all(config, names, code),
        template_configuration(tags),
        tags,
        [part for pipeline in every_pipeline(config).values() for part in engine.cannot_run(pipeline)],
    )


def with_volume_key(config: Config, aws: Aws) -> Config:
    """Return the settings with the ARN of the project's KMS key in cloud.volume_key, if that is "project".

    AWS is asked for the ARN. With another value, the settings are returned as they are. The disks of jobs do not take
    an alias of a key.
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html

    Raises UserError when the toolchain, which creates the key, is not deployed.
    """
    if config.cloud.volume_key != "project":
        return config
    cloud = config.cloud.model_copy(update={"volume_key": client.require_ssm_parameter(aws, "key")})
    return config.model_copy(update={"cloud": cloud})


def template_configuration(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of infra/pipeline.yaml that the toolchain does not set, as CodePipeline's configuration file.

    That is {"Parameters": {}, "Tags": tag -> value}.

    - tags: tag -> value, for everything in the stack.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/continuous-delivery-codepipeline-cfn-artifacts.html
    """
    return {"Parameters": {}, "Tags": dict(tags)}


def compiled_steps(compiled: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return every step of a compiled pipeline, those in conditions included, as a dictionary of texts.

    Each has "step" (its name), "type" (as SageMaker names it, such as Processing) and "instance" (its instance type, ""
    for a step without a job).

    - compiled: the JSON of the SageMaker pipeline, parsed.
    """
    parameters = parameter_defaults(compiled)

    def walk(level: list[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
        for step in level:
            arguments = step.get("Arguments", {})
            yield {"step": step["Name"], "type": step["Type"], "instance": instance_type(step, parameters)}
            for branch in ("IfSteps", "ElseSteps"):
                yield from walk(arguments.get(branch, []))

    return list(walk(compiled["Steps"]))


def instance_type(step: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Return the instance type of a compiled step's job; "" for a step without a job.

    - step: a step of the JSON of a SageMaker pipeline, parsed.
    - parameters: pipeline parameter -> default, which is returned where a parameter sets the instance type.
    """
    arguments = step.get("Arguments", {})
    place = arguments.get("ProcessingResources", {}).get("ClusterConfig") or arguments.get("ResourceConfig") or {}
    found = place.get("InstanceType", "")
    return str(parameters.get(found["Get"].split(".")[-1], "")) if isinstance(found, Mapping) else found


def json_text(value: Any) -> str:
    """Return a value as JSON text for a file: indented by one space, with a newline at the end."""
    return json.dumps(value, indent=1) + "\n"


def write_build_files(plan: UpsertPlan) -> list[Path]:
    """Write `plan.files`, the compiled pipelines and the template's configuration, into build in the project's folder.

    The folder is made when it is missing, and existing files are replaced. Returns the paths of the files.
    """
    folder = plan.root / "build"
    folder.mkdir(exist_ok=True)
    for name, text in plan.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in plan.files]


def plan_lines(plan: UpsertPlan) -> list[str]:
    """Return the plan as lines of text for people."""
    about = plan.describe()
    names = plan.names
    unknown = names.account == UNKNOWN_ACCOUNT
    note = f"{UNKNOWN_ACCOUNT} is a placeholder for your account; set AWS_ACCOUNT_ID to see the real names"
    found = [note] if unknown else []
    found += [f"bucket    {names.bucket}"]
    found += [f"upload    {item['key']}  {item['bytes']:,} bytes" for item in about["uploads"]]
    found += [
        f"wheels    {plan.wheels}  of {bundle.REQUIREMENTS}; downloaded and uploaded unless they are complete there"
    ]
    wrapped = textwrap.TextWrapper(118, "  ", "    ", break_on_hyphens=False, break_long_words=False)
    for item in about["pipelines"]:
        found += ["", f"pipeline  {item['pipeline']}  (role {item['role'].split('/')[1]}, {item['bytes']:,} bytes)"]
        width = max(len(step["step"]) for step in item["steps"])
        found += [f"  {s['step']:<{width}}  {s['type']:<11}{s['instance']}".rstrip() for s in item["steps"]]
        values = ", ".join(f"{key}={value}" for key, value in item["parameters"].items())
        found += wrapped.wrap(f"parameters: {values}")
    found += ["", *(f"SageMaker cannot run {part}" for part in plan.cannot_run)]
    found += ["These keys of config.yaml change nothing in AWS yet:"]
    return [*found, *wrapped.wrap(", ".join(WITHOUT_EFFECT))]


def apply_plan(
    plan: UpsertPlan, aws: Aws, upload_only: bool, say: PrintLine, pipelines: Collection[str] = PIPELINES
) -> dict[str, Any]:
    """Upload the objects and wheels of a plan, and create or update pipelines. Safe to repeat and to interrupt.

    The scoring pipeline alone is written without an upload: a release writes it, with a role that must not write code.
    The code that the build has uploaded for the same commit is then compared with that of the plan.

    - upload_only: leave the pipelines as they are.
    - say: called with a line of text per change.
    - pipelines: which of the plan's pipelines to create or update.

    Returns "uploaded" (the keys that were not there), "wheels" (how many were uploaded) and "pipelines" (name in
    SageMaker -> created, changed or unchanged; {} with upload_only).

    Raises UserError when `require_bucket` refuses the project's bucket, when an object in S3 is not that of the plan or
    is missing although nothing is uploaded, or when pip cannot download a wheel.
    """
    require_bucket(aws)
    bucket = project_bucket(aws)
    uploaded, wheels = [], 0
    if set(pipelines) == {"scoring"} and not upload_only:
        require_code(plan, bucket)
    else:
        uploaded = [key for key, body in sorted(plan.objects.items()) if upload_once(bucket, key, body, say)]
        wheels = upload_wheels(plan, bucket, say)
    written = () if upload_only else pipelines
    made = {plan.pipelines[name].name: put_pipeline(plan, aws, name, say) for name in plan.pipelines if name in written}
    return {"uploaded": uploaded, "wheels": wheels, "pipelines": made}


def require_code(plan: UpsertPlan, bucket: Bucket) -> None:
    """Check that the code of jobs in S3 is that of the plan, byte by byte, and that its wheels were uploaded. Below the
    prefixes of both there must be nothing else, because a job gets every object whose key begins with its channel's.

    The content of the wheels is not compared here: each job checks it against the hashes in requirements-jobs.txt, a
    part of the code.

    Raises UserError when an object differs, is missing, or is one too many.
    """
    wanted = {key: body for key, body in plan.objects.items() if key.startswith("code/")}
    missing = [key for key, body in wanted.items() if not bucket.same_content(key, hashlib.sha256(body).hexdigest())]
    missing += [] if has_wheels(plan, bucket) else [plan.wheels]
    if missing:
        raise UserError(
            f"{bucket.uri(missing[0])}: not there. A push uploads the code and the wheels of its commit; wait until "
            "the build pipeline has ended, then retry the stage. From here, type: scarcegan upsert"
        )
    listed = {key for folder in {key.rpartition("/")[0] for key in wanted} for key in bucket.keys(folder)}
    strange = sorted(listed - wanted.keys())
    wheel = re.compile(rf"{re.escape(plan.wheels)}([^/]+\.whl|{re.escape(bundle.COMPLETE)})")
    strange += [key for key in bucket.keys(plan.wheels.rstrip("/")) if not wheel.fullmatch(key)]
    if strange:
        raise UserError(
            f"{bucket.uri(strange[0])}: no upsert of this project writes it, and jobs would get it with their code. "
            "Find out who wrote it (CloudTrail) and let an administrator delete it, then retry the stage."
        )


def require_bucket(aws: Aws) -> None:
    """Check that the project's bucket exists in the project's account and that the user may list it.

    Raises UserError when it does not, or the user may not.
    """
    from botocore.exceptions import ClientError

    try:
        aws.client("s3").head_bucket(Bucket=aws.names.bucket, ExpectedBucketOwner=aws.names.account)
    except ClientError as error:
        if client.is_missing(error):
            raise UserError(client.missing_bucket_sentence(aws.names)) from error
        if error.response["Error"].get("Code") in client.ACCESS_DENIED_CODES:
            raise UserError(
                f"access to bucket {aws.names.bucket} is denied: it belongs to another account, or you lack "
                f"s3:ListBucket for it (docs/permissions.md). This project's account is {aws.names.account}."
            ) from error
        raise


def upload_once(bucket: Bucket, key: str, body: bytes | Path, say: PrintLine) -> bool:
    """Upload an object unless it is there. Returns whether it was uploaded.

    - body: the content, or the file that has it.
    - say: called with a line of text after the upload.

    Raises UserError when there is an object with the same key and another content.
    """
    uploaded = bucket.put_once(key, body)
    if uploaded:
        say(f"uploaded {key}")
    return uploaded


def has_wheels(plan: UpsertPlan, bucket: Bucket) -> bool:
    """Whether the wheels that jobs install are in S3: the object that marks them as complete, and one per library.

    The mark alone is not believed, as whoever may write the wheels may write it first.
    """
    if not bucket.exists(plan.wheels + bundle.COMPLETE):
        return False
    files = [key.removeprefix(plan.wheels) for key in bucket.keys(plan.wheels)]
    return not bundle.lacking_wheels(plan.root / bundle.REQUIREMENTS, files)


def upload_wheels(plan: UpsertPlan, bucket: Bucket, say: PrintLine) -> int:
    """Download the wheels that jobs install and upload them to S3, followed by an object that marks them as complete.

    - say: called with a line of text before the download, and with one per wheel.

    Returns how many wheels were uploaded: those that were missing.

    Raises UserError when pip cannot download one, or there is one with another content.
    """
    if has_wheels(plan, bucket):
        return 0
    with tempfile.TemporaryDirectory() as folder:
        say(f"download the wheels of {bundle.REQUIREMENTS}")
        wheels = bundle.download_wheels(plan.root / bundle.REQUIREMENTS, Path(folder))
        uploaded = sum(upload_once(bucket, plan.wheels + wheel.name, wheel, say) for wheel in wheels)
    bucket.put_once(plan.wheels + bundle.COMPLETE, bundle.PLACEHOLDER)
    return uploaded


def put_pipeline(plan: UpsertPlan, aws: Aws, name: str, say: PrintLine) -> str:
    """Create or update one SageMaker pipeline of a plan. Returns "created", "changed" or "unchanged".

    A pipeline whose definition, role and tags are those of the plan is left unchanged, whichever commit its definition
    names; further tags stay as they are.

    - name: training or scoring.
    - say: called with a line of text before the pipeline is created or changed.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreatePipeline.html
    """
    sagemaker, role = aws.client("sagemaker"), plan.names.pipeline_role_arn(name)
    made = plan.pipelines[name]
    definition = versions.with_commit(made.definition, versions.commit_of(plan.root))
    wanted = {"PipelineDefinition": definition, "RoleArn": role}
    tags = [{"Key": key, "Value": value} for key, value in plan.tags.items()]
    present = find_pipeline(aws, name)
    if present is None:
        say(f"create {made.name}")
        sagemaker.create_pipeline(PipelineName=made.name, Tags=tags, **wanted)
        return "created"
    same = present.get("RoleArn") == role and versions.same_definition(present["PipelineDefinition"], definition)
    if same and client.has_tags(sagemaker, present["PipelineArn"], tags):
        return "unchanged"
    say(f"change {made.name}")
    sagemaker.add_tags(ResourceArn=present["PipelineArn"], Tags=tags)  # first: a second upsert then repeats both
    if not same:
        sagemaker.update_pipeline(PipelineName=made.name, **wanted)
    return "changed"


def build_note(aws: Aws) -> str:
    """Return a text about the build pipeline's newest execution when it has not succeeded: its status, start, commit.

    It is "" as well when the pipeline has no execution, or AWS does not let us read them.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    name = aws.names.pipeline("build")
    try:
        answer = aws.client("codepipeline").list_pipeline_executions(pipelineName=name, maxResults=1)
    except (ClientError, BotoCoreError):
        return ""
    run = next(iter(answer.get("pipelineExecutionSummaries", [])), None)
    if run is None or run["status"] == "Succeeded":
        return ""
    words = [run["status"], f"started {run['startTime'].astimezone(UTC):%Y-%m-%d %H:%M} UTC"]
    words += [f"commit {short(source['revisionId'])}" for source in run.get("sourceRevisions", [])[:1]]
    command = f"aws codepipeline list-action-executions --pipeline-name {name} --filter pipelineExecutionId="
    why = f". Why: {command}{run['pipelineExecutionId']}" if run["status"] == "Failed" else ""
    return f"the build pipeline {name}: {', '.join(words)}{why}"


def toolchain_note(aws: Aws, root: Path) -> str:
    """Return a sentence when the toolchain in AWS is not the one of this folder, or AWS does not tell; "" when it is.

    Its version is compared, a digest of the templates and of the functions' code. Which of two is newer is known when
    both name the time of their commit. It is "" as well when the project's folder lacks these files.

    - root: the project's folder.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        here = bundle.function_code(root).parameters["ToolchainVersion"]
    except (UserError, OSError):
        return ""
    try:
        there = client.find_ssm_parameter(aws, "toolchain-version")
    except ClientError as error:
        return f"{NOT_COMPARED}: {refused('toolchain', error).found}."
    except BotoCoreError as error:
        return f"{NOT_COMPARED}: {client.flat(error)}"
    return toolchain_difference(*bundle.split_version(there), *bundle.split_version(here))


def toolchain_difference(there: str, deployed: int, here: str, committed: int) -> str:
    """Return a sentence about two versions of the toolchain; "" for equal ones.

    - there, deployed: digest of the one in AWS, "" for one of before there were versions, and the time of its commit.
    - here, committed: the same of this folder. Times are in seconds since 1970; 0: unknown.
    """
    if there == here:
        return ""
    if there and not (deployed and committed and deployed != committed):
        return (
            "The toolchain in AWS has another version than this folder; which is newer is not known. If this folder is "
            "the branch's newest commit, an administrator can update it: scarcegan toolchain deploy"
        )
    if committed < deployed:
        return (
            f"The toolchain of this folder ({day(committed)}) is older than the one in AWS ({day(deployed)}). Update "
            "the folder (git pull): scarcegan toolchain deploy would take the toolchain back."
        )
    return (
        "The toolchain in AWS is older than that of this folder. An administrator can update it: scarcegan toolchain "
        "deploy"
    )


def day(seconds: int) -> str:
    """Return a time in seconds since 1970 as text, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
