"""Take a project down in AWS: a plan as data, the walk that carries it out, and what stays.

The walk is safe to repeat and to interrupt: it looks for each thing before it removes it, and removes the storage stack
last, whose outputs name what stays.
"""

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from scarcegan.aws import client, toolchain, watch
from scarcegan.aws.accounts import accounts_of_stages, target_stack
from scarcegan.aws.client import Aws, none_if_missing
from scarcegan.aws.names import COPY_TAG, PIPELINES, Names
from scarcegan.pipeline.config import Config
from scarcegan.progress import PrintLine

CODE_PIPELINES = ("deploy", "build", "update")
# In order of deletion: CloudFormation deletes the first three with roles of those below.
DELETION_ORDER = (*reversed(toolchain.LATER_STACKS), *reversed(toolchain.STACKS))
MOST_SSM_NAMES = 10  # that SSM deletes in one call


@dataclass(frozen=True)
class Removal:
    """One thing that is removed.

    - kind: "execution", "code execution", "pipeline", "stack" or "parameter".
    - name: its name in AWS; of an execution its id or ARN.
    - owner: of an execution the pipeline it is of, else "".
    """

    kind: str
    name: str
    owner: str = ""

    @property
    def line(self) -> str:
        """The removal as a line of text, such as: delete stack rare-players-staging."""
        if self.kind in ("execution", "code execution"):
            return f"stop execution {self.name.rsplit('/', 1)[-1]} of {self.owner}"
        words = {"pipeline": "SageMaker pipeline", "stack": "stack", "parameter": "SSM parameter"}
        return f"delete {words[self.kind]} {self.name}"


@dataclass(frozen=True)
class Left:
    """Something that stays.

    - what: the thing, and why it stays.
    - by_hand: the command that deletes it, or how; "" where nothing can or need be done.
    """

    what: str
    by_hand: str = ""


@dataclass(frozen=True)
class TeardownPlan:
    """What is removed, in order, and what stays.

    - names: the project's names in AWS.
    - elsewhere: what stays in accounts of the stages' own. Once the stacks here are gone, nothing names them.
    """

    names: Names
    removals: Sequence[Removal]
    left: Sequence[Left]
    elsewhere: Sequence[Left] = ()

    def describe(self) -> dict[str, Any]:
        """Return the plan as values that JSON can hold."""
        about = {"project": self.names.project, "account": self.names.account, "region": self.names.region}
        removed = [{**asdict(one), "line": one.line} for one in self.removals]
        return {**about, "removed": removed, "left": [asdict(one) for one in (*self.elsewhere, *self.left)]}


# -- the plan -------------------------------------------------------------------------------------------------------


def plan_teardown(aws: Aws, config: Config) -> TeardownPlan:
    """Look at what the project has in AWS. Returns what a teardown would remove, and what would stay."""
    owned = owned_by_stacks(aws)
    here = pipelines(aws)
    ends = [*executions(aws, here), *(Removal("pipeline", one) for one in here)]
    removals = [*ends, *stacks(aws), *parameters(aws, owned)]
    return TeardownPlan(aws.names, removals, list(what_stays(aws, config, owned)), list(stages_elsewhere(aws)))


def executions(aws: Aws, pipelines: Sequence[str]) -> Iterator[Removal]:
    """Yield the executions that run now, of the CodePipelines first: a deployment must not make a stack again.

    - pipelines: names of SageMaker pipelines in AWS.
    """
    for name in CODE_PIPELINES:
        owner = aws.names.pipeline(name)
        pages = aws.client("codepipeline").get_paginator("list_pipeline_executions").paginate(pipelineName=owner)
        for one in listed(pages, "pipelineExecutionSummaries"):
            if one["status"] == "InProgress":
                yield Removal("code execution", one["pipelineExecutionId"], owner)
    for owner in pipelines:
        pages = aws.client("sagemaker").get_paginator("list_pipeline_executions").paginate(PipelineName=owner)
        for one in listed(pages, "PipelineExecutionSummaries"):
            if one["PipelineExecutionStatus"] in ("Executing", "Stopping"):
                yield Removal("execution", one["PipelineExecutionArn"], owner)


def listed(pages: Any, key: str) -> Iterator[dict[str, Any]]:
    """Yield all items of the pages that a call of AWS answers with; none when what was asked for does not exist.

    - key: the key of the items in a page.
    """
    from botocore.exceptions import ClientError

    try:
        for page in pages:
            yield from page[key]
    except ClientError as error:
        if not client.is_missing(error):
            raise


def pipelines(aws: Aws) -> list[str]:
    """Return the names of the project's SageMaker pipelines that exist, copies of training last.

    Another project's name may begin like this one's, so a copy is known by its tag.
    """
    sagemaker, start = aws.client("sagemaker"), aws.names.pipeline("training-")
    found = []
    for pipeline in map(aws.names.pipeline, sorted(PIPELINES)):
        if none_if_missing(partial(sagemaker.describe_pipeline, PipelineName=pipeline)) is not None:
            found.append(pipeline)
    for one in listed(
        sagemaker.get_paginator("list_pipelines").paginate(PipelineNamePrefix=start), "PipelineSummaries"
    ):
        name = one["PipelineName"]
        tag = [{"Key": COPY_TAG, "Value": name.removeprefix(start)}]
        arn = aws.names.arn("sagemaker", f"pipeline/{name}")
        if none_if_missing(partial(client.has_tags, sagemaker, arn, tag)):
            found.append(name)
    return found


def stacks(aws: Aws) -> Iterator[Removal]:
    """Yield the project's stacks that exist, each before those that it needs."""
    for name in DELETION_ORDER:
        stack = aws.names.stack(name)
        if toolchain.find_stack(aws, stack):
            yield Removal("stack", stack)


def parameters(aws: Aws, owned: Collection[str]) -> Iterator[Removal]:
    """Yield the SSM parameters of the project that no stack owns.

    - owned: as `owned_by_stacks` returns it.
    """
    pages = aws.client("ssm").get_paginator("get_parameters_by_path")
    for one in listed(pages.paginate(Path=f"/{aws.names.project}", Recursive=True), "Parameters"):
        if one["Name"] not in owned:
            yield Removal("parameter", one["Name"])


def owned_by_stacks(aws: Aws) -> set[str]:
    """Return the physical ids of all resources of the project's stacks: names or ARNs, as CloudFormation has them."""
    pages = aws.client("cloudformation").get_paginator("list_stack_resources")
    names = [aws.names.stack(name) for name in DELETION_ORDER]
    found = [one for name in names for one in listed(pages.paginate(StackName=name), "StackResourceSummaries")]
    return {one["PhysicalResourceId"] for one in found if one.get("PhysicalResourceId")}


# -- what stays -----------------------------------------------------------------------------------------------------


def what_stays(aws: Aws, config: Config, owned: Collection[str] = ()) -> Iterator[Left]:
    """Yield what a teardown leaves, each with the way to delete it by hand.

    - owned: as `owned_by_stacks` returns it; () once the stacks are gone.
    """
    names, region = aws.names, shlex.quote(aws.names.region)
    outputs = toolchain.outputs_of(toolchain.find_stack(aws, names.stack("storage")))
    for bucket, why in buckets(aws, outputs):
        yield Left(f"bucket {bucket}: {why}", bucket_commands(bucket, names.region))
    yield from group_left(aws, config.project.model_package_group)
    tagged = list(tagged_resources(aws))
    for kind in ("model", "endpoint-config"):
        for arn in tagged:
            name = arn.rsplit("/", 1)[-1]
            if f":sagemaker:{names.region}:" in arn and f":{kind}/" in arn and not {arn, name} & set(owned):
                command = f"aws sagemaker delete-{kind} --region {region} --{kind}-name {name}"
                yield Left(f"SageMaker {kind} {name}: of a release that was replaced", command)
    for arn in dict.fromkeys([*filter(None, [outputs.get("KeyArn")]), *(a for a in tagged if ":kms:" in a)]):
        command = f"aws kms schedule-key-deletion --region {region} --key-id {arn} --pending-window-in-days 30"
        yield Left(f"key {arn}: without it nothing in the buckets can be read", command)
    yield from forward_left(aws)
    yield from logs_left(names)
    if config.cloud.mlflow_app:
        yield Left(f"MLflow App {config.cloud.mlflow_app}: it is not this project's alone", "in SageMaker Studio")
    yield Left("records of jobs, pipeline executions and lineage in SageMaker: AWS has no call that deletes jobs")


def bucket_commands(bucket: str, region: str) -> str:
    """Return the commands that delete a bucket with every version of every object, as one line for a shell.

    The bucket's policy goes first, because it forbids most deletions to everybody (infra/storage.yaml). Where the
    storage stack is deleted, its policy is gone too, and the first command changes nothing.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketPolicy.html
    """
    empty = f'import boto3; boto3.resource("s3", region_name="{region}").Bucket("{bucket}").object_versions.delete()'
    at = f"--region {shlex.quote(region)}"
    return (
        f"aws s3api delete-bucket-policy {at} --bucket {bucket} && python -c {shlex.quote(empty)} && "
        f"aws s3 rb {at} s3://{bucket}"
    )


def stages_elsewhere(aws: Aws) -> Iterator[Left]:
    """Yield each stage that is in an account of its own; nothing once the storage stack is gone, which names them."""
    names, storage = aws.names, toolchain.find_stack(aws, aws.names.stack("storage"))
    for stage, account in accounts_of_stages(toolchain.parameters_of(storage), names.account).items():
        stacks = [names.stack(stage), names.stack(target_stack(stage))]
        commands = [
            f"aws cloudformation {verb} --region {shlex.quote(names.region)} --stack-name {stack}"
            for stack in stacks
            for verb in ("delete-stack", "wait stack-delete-complete")
        ]
        yield Left(
            f"stacks {' and '.join(stacks)} in account {account}: {stage} goes on there",
            f"with that account's credentials, in this order: {' && '.join(commands)}",
        )


def buckets(aws: Aws, outputs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield name of each of the project's buckets that exists, and what is in it.

    - outputs: of the storage stack; {} once that is deleted. CloudFormation then has forgotten the artifacts bucket's
      name, which begins with the stack's.
    """
    from botocore.exceptions import ClientError

    s3, names = aws.client("s3"), aws.names
    main = names.bucket
    if exists(lambda: s3.head_bucket(Bucket=main, ExpectedBucketOwner=names.account)):
        yield main, "models, data, code and recorded requests"
    found = [outputs["ArtifactsBucketName"]] if "ArtifactsBucketName" in outputs else []
    if not found:
        with suppress(ClientError):  # who may not list buckets is not told this one
            answer = s3.list_buckets(Prefix=f"{names.stack('storage')}-artifacts-", BucketRegion=names.region)
            found = [one["Name"] for one in answer["Buckets"]]
    for bucket in found:
        yield bucket, "what builds handed on; its objects go after a month"


def exists(call: Callable[[], Any]) -> bool:
    """Whether what a call asks for exists. It counts as there when the user may not look, so that it is not forgotten.

    - call: a function without arguments that makes the call.

    Raises botocore's ClientError for any other error of the call.
    """
    from botocore.exceptions import ClientError

    try:
        return none_if_missing(call) is not None
    except ClientError as error:
        if client.is_denied(error):
            return True
        raise


def group_left(aws: Aws, group: str) -> Iterator[Left]:
    """Yield the model package group; nothing when it does not exist.

    - group: its name, or its ARN when another account shares it.
    """
    if group.startswith("arn:"):
        yield Left(f"model package group {group}: it was not made by this project")
        return
    sagemaker, region = aws.client("sagemaker"), aws.names.region
    if not exists(lambda: sagemaker.describe_model_package_group(ModelPackageGroupName=group)):
        return
    packages = (
        f"aws sagemaker list-model-packages --region {region} --model-package-group-name {group} "
        "--query 'ModelPackageSummaryList[].ModelPackageArn' --output text | xargs -n 1 "
        f"aws sagemaker delete-model-package --region {region} --model-package-name"
    )
    yield Left(
        f"model package group {group} and its packages: models and their decisions outlive the toolchain",
        f"{packages}; aws sagemaker delete-model-package-group --region {region} --model-package-group-name {group}",
    )


def forward_left(aws: Aws) -> Iterator[Left]:
    """Yield the stack of infra/home-region.yaml, which lies in another region; nothing when it does not exist."""
    names, home = aws.names, watch.home_region(aws.names)
    stack = watch.forward_rule(names)
    there = Aws(Names(names.project, names.account, home), aws.session)
    if home != names.region and exists(lambda: there.client("cloudformation").describe_stacks(StackName=stack)):
        command = f"aws cloudformation delete-stack --region {home} --stack-name {stack}"
        yield Left(f"stack {stack} in {home}: it hands changes of roles on", command)


def tagged_resources(aws: Aws) -> Iterator[str]:
    """Yield the ARN of everything in the region that has the project's tag; nothing for who may not ask.

    https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
    """
    from botocore.exceptions import ClientError

    filters = [{"Key": "sagemaker:project-name", "Values": [aws.names.project]}]
    try:
        for page in aws.client("resourcegroupstaggingapi").get_paginator("get_resources").paginate(TagFilters=filters):
            yield from (one["ResourceARN"] for one in page["ResourceTagMappingList"])
    except ClientError as error:
        if not client.is_denied(error):
            raise


def logs_left(names: Names) -> Iterator[Left]:
    """Yield the log groups that SageMaker makes itself."""
    for stage in ("staging", "production"):
        group = f"/aws/sagemaker/Endpoints/{names.endpoint(stage)}"
        yield Left(f"log group {group}", f"aws logs delete-log-group --region {names.region} --log-group-name {group}")
    yield Left(
        "log groups /aws/sagemaker/ProcessingJobs and TrainingJobs, which all projects of the account share",
        "set a retention in CloudWatch rather than delete them",
    )


# -- the walk -------------------------------------------------------------------------------------------------------


def carry_out(plan: TeardownPlan, aws: Aws, report: PrintLine) -> None:
    """Remove what the plan names, in its order, and wait for each. Safe to repeat, and to interrupt at any time.

    - report: called with a line of text before each removal.

    Raises UserError for a stack that CloudFormation cannot delete, with the first resource that failed.
    """
    parameters = [one.name for one in plan.removals if one.kind == "parameter"]
    walk: dict[str, Callable[[Aws, Removal], None]] = {
        "code execution": stop_code_execution,
        "execution": stop_execution,
        "pipeline": delete_pipeline,
        "stack": delete_stack,
    }
    others = [one for one in plan.removals if one.kind in walk]
    for number, one in enumerate(others, 1):
        report(f"{number}/{len(others) + bool(parameters)} {one.line}")
        walk[one.kind](aws, one)
    if parameters:
        report(f"{len(others) + 1}/{len(others) + 1} delete SSM parameters {', '.join(parameters)}")
    for start in range(0, len(parameters), MOST_SSM_NAMES):
        aws.client("ssm").delete_parameters(Names=parameters[start : start + MOST_SSM_NAMES])


def stop_code_execution(aws: Aws, one: Removal) -> None:
    """Stop an execution of a CodePipeline, and wait until it has ended. One that has ended meanwhile is left alone.

    Raises UserError when it has not ended after toolchain.LONGEST_WAIT seconds.
    """
    from botocore.exceptions import ClientError

    codepipeline = aws.client("codepipeline")
    about = {"pipelineName": one.owner, "pipelineExecutionId": one.name}
    try:
        # Abandoned: an approval that nobody gives would be waited for. `delete_stack` waits for a change that goes on.
        codepipeline.stop_pipeline_execution(**about, abandon=True, reason="scarcegan teardown")
    except ClientError as error:  # it has ended, or is being stopped already
        if error.response["Error"]["Code"] not in (
            "DuplicatedStopRequestException",
            "PipelineExecutionNotStoppableException",
            "PipelineExecutionNotFoundException",
        ):
            raise
    toolchain.wait_until(
        lambda: (
            codepipeline.get_pipeline_execution(**about)["pipelineExecution"]["status"]
            not in ("InProgress", "Stopping")
        ),
        one.line,
    )


def stop_execution(aws: Aws, one: Removal) -> None:
    """Stop an execution of a SageMaker pipeline, and wait until it has ended.

    Raises UserError when it has not ended after toolchain.LONGEST_WAIT seconds.
    """
    sagemaker = aws.client("sagemaker")

    def status() -> str:
        return str(sagemaker.describe_pipeline_execution(PipelineExecutionArn=one.name)["PipelineExecutionStatus"])

    if status() == "Executing":
        sagemaker.stop_pipeline_execution(PipelineExecutionArn=one.name)
    toolchain.wait_until(lambda: status() not in ("Executing", "Stopping"), one.line)


def delete_pipeline(aws: Aws, one: Removal) -> None:
    """Delete a SageMaker pipeline; one that is gone already is left alone."""
    none_if_missing(lambda: aws.client("sagemaker").delete_pipeline(PipelineName=one.name))


def delete_stack(aws: Aws, one: Removal) -> None:
    """Delete a stack, and wait until it is gone. A change that goes on is waited for first.

    Raises UserError when CloudFormation cannot delete it.
    """
    found: dict[str, Any] | None = None

    def rests() -> bool:
        nonlocal found
        found = toolchain.find_stack(aws, one.name)
        return not re.match("(CREATE|UPDATE|ROLLBACK|IMPORT).*_IN_PROGRESS", found["StackStatus"] if found else "")

    toolchain.wait_until(rests, one.line)
    if found:
        toolchain.delete_stack(aws, found)


def plan_lines(plan: TeardownPlan) -> list[str]:
    """Return a plan as lines of text for people."""
    names = plan.names
    lines = [f"{names.project} in {names.region}, account {names.account}"]
    lines += [f"  {one.line}" for one in plan.removals] or ["  nothing is there to remove"]
    return [*lines, *left_lines([*plan.elsewhere, *plan.left])]


def left_lines(left: Sequence[Left]) -> list[str]:
    """Return what stays as lines of text for people, with the way to delete each by hand."""
    found = ["What stays: below each thing, what deletes it once the rest is gone."]
    for one in left:
        found += [f"  {one.what}", *([f"      {one.by_hand}"] if one.by_hand else [])]
    return found
