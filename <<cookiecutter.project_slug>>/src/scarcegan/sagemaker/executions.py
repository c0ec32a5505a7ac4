"""Executions of the SageMaker pipelines: find, show, read logs, stop, download outputs. start.py starts them."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from scarcegan.aws import storage
from scarcegan.aws.client import Aws, none_if_missing
from scarcegan.aws.names import PIPELINES
from scarcegan.errors import UserError, shortened
from scarcegan.pipeline.config import Config
from scarcegan.sagemaker.pipelines import missing_pipeline_error, pipeline_of

ENDED = ("Stopped", "Failed", "Succeeded", "CompletedWithFailures")
SUCCEEDED = "Succeeded"
REPORT_STEP = "evaluate"  # writes report.html
STEP_ENDED = (SUCCEEDED, "Failed", "Stopped")
POLL_SECONDS = 20.0
LISTED_AT_ONCE = 100  # executions that SageMaker lists at once
LOG_GROUPS = {"training-job": "/aws/sagemaker/TrainingJobs", "processing-job": "/aws/sagemaker/ProcessingJobs"}
KINDS_OF_JOB = ("TrainingJob", "ProcessingJob", "Lambda")
EXECUTION_ID = re.compile(r"[A-Za-z0-9]{1,64}")
EXECUTION_ARN = re.compile(
    rf"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{{12}}:pipeline/[A-Za-z0-9-]+/execution/{EXECUTION_ID.pattern}"
)


@dataclass(frozen=True)
class StepStatus:
    """The status of one step of an execution, as SageMaker reports it.

    - step: the name of the step.
    - status: such as Executing, Succeeded or Failed.
    - kind: TrainingJob, ProcessingJob, Lambda, Condition or Fail; "" while SageMaker does not say. A step of the kind
      Fail ends the execution when a gate has not passed.
    - minutes: since the step started, or that it took once it has ended; None before it starts.
    - cached: whether its result was taken from the cache.
    - attempts: how many times it was started.
    - reason: why it failed; "" when it did not.
    - job: ARN of its job or Lambda function; "" for a step without one.
    - metrics: of a training job: name -> last value in its log; {} for other steps.
    """

    step: str
    status: str
    kind: str = ""
    minutes: float | None = None
    cached: bool = False
    attempts: int = 1
    reason: str = ""
    job: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The step and its status as a line of text, such as "train: Succeeded (cached)"."""
        return f"{self.step}: {self.status}{' (cached)' if self.cached else ''}"


@dataclass(frozen=True)
class ExecutionStatus:
    """The status of an execution of a pipeline, as SageMaker reports it.

    - execution: its id, the last part of its ARN.
    - pipeline: the pipeline's name in SageMaker.
    - status: Executing, Stopping, or one of ENDED.
    - started: ISO 8601 in UTC.
    - minutes: since the execution started, or that it took once it has ended.
    - arn: the ARN of the execution.
    - reason: why it failed; "" when it did not.
    - steps: those that have begun, first to last.
    """

    execution: str
    pipeline: str
    status: str
    started: str
    minutes: float
    arn: str
    reason: str = ""
    steps: Sequence[StepStatus] = ()

    @property
    def ended(self) -> bool:
        """Whether the execution has ended, with or without success."""
        return self.status in ENDED

    @property
    def gate_closed(self) -> bool:
        """Whether the execution failed because a gate did not pass, and no job or Lambda function of it failed."""
        return {step.kind for step in self.steps if step.status == "Failed"} == {"Fail"}


def find_execution(aws: Aws, execution: str | None = None, pipeline: str | None = None) -> str:
    """Return the ARN of an execution.

    - execution: its id or ARN; an ARN is returned as it is, whether or not it exists. None finds the newest execution
      of the pipeline.
    - pipeline: training, scoring or training-NAME, a copy. None searches training and scoring for an id, and takes
      training for the newest. Has no effect on an ARN.

    Raises UserError for text that is no id and no ARN of an execution, for an ARN of another region or account, and
    when no execution has the id. For the newest, raises UserError when there is no such pipeline or it has never run.
    """
    if execution and EXECUTION_ARN.fullmatch(execution):
        region, account = execution.split(":")[3:5]
        if (region, account) != (aws.names.region, aws.names.account):
            raise UserError(
                f"execution {execution.rsplit('/', 1)[1]} is in {region} (account {account}), this project in "
                f"{aws.names.region} (account {aws.names.account}). Name an execution of this project."
            )
        return execution
    if execution:
        if not EXECUTION_ID.fullmatch(execution):
            raise UserError(
                f"'{shortened(execution)}' is neither the id nor the ARN of an execution, such as abcdef123456. "
                "The newest one is shown by: scarcegan status"
            )
        return find_execution_by_id(aws, execution, pipeline)
    name = pipeline or "training"
    found = newest_executions(aws, name, 1)
    if not found:
        raise UserError(f"the pipeline {aws.names.pipeline(name)} has never run. Type: scarcegan start")
    return found[0]["PipelineExecutionArn"]


def find_execution_by_id(aws: Aws, execution: str, pipeline: str | None) -> str:
    """Ask SageMaker which pipeline has an execution with this id. Returns the ARN of the execution.

    - execution: the id, the last part of the ARN.
    - pipeline: training, scoring or training-NAME, in which to search; None searches training and scoring.

    Raises UserError when there is no such execution, also when the pipeline itself is not in AWS.
    """
    sagemaker = aws.client("sagemaker")
    for name in [pipeline] if pipeline else PIPELINES:
        arn = aws.names.arn("sagemaker", f"pipeline/{aws.names.pipeline(name)}/execution/{execution}")
        if none_if_missing(partial(sagemaker.describe_pipeline_execution, PipelineExecutionArn=arn)) is not None:
            return arn
    raise missing_execution_error(execution)


def missing_execution_error(execution: str) -> UserError:
    """Return, without raising it, the error for an execution that does not exist. execution: its id."""
    return UserError(
        f"no execution '{execution}' of this project. The newest one is shown by: scarcegan status (no id is searched "
        "in copies: name an execution of a copy by its ARN, or give --pipeline training-NAME)"
    )


def execution_name(arn: str) -> str:
    """Return what the verbs find an execution by: its id; its ARN for one of a copy, in which no id is searched."""
    pipeline, _, execution = arn.rpartition("/execution/")
    return execution if pipeline.endswith(("-training", "-scoring")) else arn


def newest_executions(aws: Aws, name: str, newest: int) -> list[dict[str, Any]]:
    """Return SageMaker's summaries of the newest executions of a pipeline, newest first.

    A summary is a dictionary with PipelineExecutionArn, PipelineExecutionStatus, StartTime and more.

    - name: training, scoring or training-NAME, a copy.
    - newest: how many to return at most.

    Raises UserError for another name, or when the pipeline is not in AWS yet.
    """
    pipeline_of(name, Config())
    asked = {"PipelineName": aws.names.pipeline(name), "SortBy": "CreationTime", "SortOrder": "Descending"}
    pages = aws.client("sagemaker").get_paginator("list_pipeline_executions")
    size = {"MaxItems": newest, "PageSize": min(newest, LISTED_AT_ONCE)}
    found = none_if_missing(lambda: list(pages.paginate(**asked, PaginationConfig=size)))
    if found is None:
        raise missing_pipeline_error(aws, name)
    return [one for page in found for one in page["PipelineExecutionSummaries"]]


def watch(aws: Aws, arn: str, seconds: float = POLL_SECONDS) -> Iterator[tuple[ExecutionStatus, list[StepStatus]]]:
    """Ask for the status of an execution every `seconds` until it has ended.

    Yields (status of the execution, those of its steps whose `line` has changed since the last yield), after each
    change and once at the end. At first every step that has begun counts as changed. At the end there may be no changed
    step.

    - arn: the ARN of the execution.

    Raises UserError, when the first item is asked for, if there is no such execution.
    """
    before: dict[str, str] = {}  # step -> its line when it was last yielded
    while True:
        found = execution_status(aws, arn)
        changed = [step for step in found.steps if before.get(step.step) != step.line]
        if changed or found.ended:
            yield found, changed
        if found.ended:
            return
        before |= {step.step: step.line for step in changed}
        time.sleep(seconds)


def execution_status(aws: Aws, arn: str) -> ExecutionStatus:
    """Ask SageMaker for the status of an execution, of its steps, and for the metrics of its training job.

    - arn: the ARN of the execution.

    Raises UserError when there is no such execution.
    """
    _, pipeline, _, execution = arn.rsplit(":", 1)[1].split("/")
    about = none_if_missing(lambda: aws.client("sagemaker").describe_pipeline_execution(PipelineExecutionArn=arn))
    if about is None:
        raise missing_execution_error(execution)
    begun = about["CreationTime"]
    ended = about["LastModifiedTime"] if about["PipelineExecutionStatus"] in ENDED else datetime.now(UTC)
    return ExecutionStatus(
        execution,
        pipeline,
        about["PipelineExecutionStatus"],
        begun.astimezone(UTC).isoformat(timespec="seconds"),
        minutes_between(begun, ended) or 0.0,
        arn,
        about.get("FailureReason", ""),
        [step_status(aws, step) for step in raw_steps(aws, arn)],
    )


def raw_steps(aws: Aws, arn: str) -> list[dict[str, Any]]:
    """Return the steps of an execution that have begun, first to last, each a dictionary as SageMaker lists it.

    - arn: the ARN of the execution.

    Raises UserError when there is no such execution.
    """
    pages = aws.client("sagemaker").get_paginator("list_pipeline_execution_steps")
    listed = none_if_missing(lambda: list(pages.paginate(PipelineExecutionArn=arn, SortOrder="Ascending")))
    if listed is None:
        raise missing_execution_error(arn.rsplit("/", 1)[1])
    return [step for page in listed for step in page["PipelineExecutionSteps"]]


def step_status(aws: Aws, step: Mapping[str, Any]) -> StepStatus:
    """Return the status of a step, with its metrics if it is a training job; SageMaker is asked for those.

    - step: the step as `raw_steps` returns it.
    """
    about = step.get("Metadata", {})
    arn = job_arn(step)
    return StepStatus(
        step["StepName"],
        step["StepStatus"],
        next(iter(about), ""),
        minutes_between(step.get("StartTime"), step.get("EndTime") or datetime.now(UTC)),
        "CacheHitResult" in step,
        step.get("AttemptCount", 1),
        step.get("FailureReason") or about.get("Fail", {}).get("ErrorMessage", ""),
        arn,
        training_metrics(aws, arn) if ":training-job/" in arn else {},
    )


def job_arn(step: Mapping[str, Any]) -> str:
    """Return the ARN of the job or Lambda function of a step; "" when it has none. step: as `raw_steps` returns it."""
    about = step.get("Metadata", {})
    return next((about[kind]["Arn"] for kind in KINDS_OF_JOB if kind in about), "")


def minutes_between(begun: datetime | None, ended: datetime | None) -> float | None:
    """Return the minutes between two times, to one decimal place; None when one of them is missing."""
    return round((ended - begun).total_seconds() / 60, 1) if begun and ended else None


def training_metrics(aws: Aws, arn: str) -> dict[str, float]:
    """Return metric -> last value that SageMaker read from the log of a training job; {} when there are none, or no
    such job.

    - arn: the ARN of the job.
    """
    name = arn.rsplit("/", 1)[1]
    about = none_if_missing(lambda: aws.client("sagemaker").describe_training_job(TrainingJobName=name)) or {}
    return {metric["MetricName"]: metric["Value"] for metric in about.get("FinalMetricDataList", [])}


def log_lines(aws: Aws, arn: str, step: str | None = None) -> Iterator[str]:
    """Yield the lines that the job or Lambda function of a step has logged so far, without waiting for more.

    Of a Lambda function, these are the lines from the start of the step to its end. Nothing is yielded when the step
    has logged nothing yet but its log group exists.

    - arn: the ARN of the execution.
    - step: the name of the step; None takes, of the steps that have a job or Lambda function, the last one that failed,
      or else the last one that began.

    https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html

    Raises UserError, when the first line is asked for, if there is no such step, if it has no job or Lambda function,
    if its log group does not exist yet, or if it has ended without a log.
    """
    found = step_with_log(raw_steps(aws, arn), step)
    place, logged = log_location(found), False
    pages = iter(aws.client("logs").get_paginator("filter_log_events").paginate(**place))
    first: Mapping[str, Any] | None = none_if_missing(lambda: next(pages, {"events": []}))
    for page in chain([first], pages) if first is not None else ():
        for event in page["events"]:
            logged = True
            yield event["message"].rstrip("\n")
    if not logged and found["StepStatus"] in STEP_ENDED:
        raise UserError(
            f"step '{found['StepName']}' has ended ({found['StepStatus']}) and logged nothing: its program did not "
            f"start, or the log was deleted. Why it ended: scarcegan status {arn.rsplit('/', 1)[1]}"
        )
    if first is None:
        raise UserError("nothing is logged yet: the job is being prepared. Type the command again later.")


def step_with_log(steps: Sequence[Mapping[str, Any]], name: str | None) -> Mapping[str, Any]:
    """Return the step whose log to show, one of `steps`. Only steps that have a job or Lambda function count.

    - steps: as `raw_steps` returns them.
    - name: the name of the step; None takes the last step that failed, or else the last one that began.

    Raises UserError when no such step has a job or Lambda function.
    """
    able = [step for step in steps if job_arn(step)]
    if name is not None:
        able = [step for step in able if step["StepName"] == name]
    failed = [step for step in able if step["StepStatus"] == "Failed"]
    if able:
        return (failed or able)[-1]
    with_logs = ", ".join(step["StepName"] for step in steps if job_arn(step)) or "none yet"
    raise UserError(f"no log of step '{name or 'any'}' in this execution. Steps with a log: {with_logs}.")


def log_location(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which CloudWatch's FilterLogEvents finds the log of a step.

    - step: a step that has a job or Lambda function, as `raw_steps` returns it.
    """
    kind, _, name = job_arn(step).rsplit(":", 1)[1].partition("/")
    if kind in LOG_GROUPS:
        return {"logGroupName": LOG_GROUPS[kind], "logStreamNamePrefix": f"{name}/"}
    function = job_arn(step).split(":function:")[1].split(":")[0]
    found = {"logGroupName": f"/aws/lambda/{function}", "startTime": milliseconds(step["StartTime"])}
    return {**found, "endTime": milliseconds(step["EndTime"])} if "EndTime" in step else found


def milliseconds(moment: datetime) -> int:
    """Return a time as milliseconds since 1970, as CloudWatch takes it."""
    return int(moment.timestamp() * 1000)


def stop_execution(aws: Aws, arn: str) -> bool:
    """Ask SageMaker to stop an execution and its running jobs. Returns at once whether it was still running.

    Outputs of finished steps stay.

    - arn: the ARN of the execution.

    Raises botocore's ClientError when SageMaker refuses for another reason than that it has ended.
    """
    from botocore.exceptions import ClientError

    try:
        aws.client("sagemaker").stop_pipeline_execution(PipelineExecutionArn=arn)
    except ClientError as error:
        if "can be stopped" not in error.response["Error"].get("Message", ""):
            raise
        return False
    return True


def changed_parameters(aws: Aws, arn: str, defaults: Mapping[str, Any]) -> dict[str, str]:
    """Ask SageMaker for the parameters of an execution. Returns those that differ from the defaults: name -> value.

    Fingerprints of data are left out.

    - arn: the ARN of the execution.
    - defaults: pipeline parameter -> default, compared as text; one that is missing here counts as "".
    """
    pages = aws.client("sagemaker").get_paginator("list_pipeline_parameters_for_execution")
    given = [item for page in pages.paginate(PipelineExecutionArn=arn) for item in page["PipelineParameters"]]
    return {
        item["Name"]: item["Value"]
        for item in given
        if str(defaults.get(item["Name"], "")) != item["Value"] and not item["Name"].endswith("Fingerprint")
    }


def fetch_output(aws: Aws, arn: str, step: str, output: str, folder: Path) -> Path:
    """Download one output of a step of an execution into `folder`. Returns `folder`.

    A step that was taken from the cache is downloaded from the execution that ran it.

    - arn: the ARN of the execution.
    - step, output: such as "evaluate" and "gate". The step runs as a processing or training job.
    - folder: where to write; it is made when it is missing. Files of the same name are replaced, others stay.

    Raises UserError when this execution has no such step or the step has not succeeded in it, when a processing step
    has no such output, or when there is nothing to download and the folder does not exist.
    """
    kind, name = job_with_output(aws, arn, step)
    if kind == "training-job":
        return fetch_model_output(aws, name, output, folder)
    place = processing_output_uri(aws, name, step, output)
    return storage.download(aws.client("s3"), place, folder, owner=aws.names.account)


def report_uri(aws: Aws, found: ExecutionStatus) -> str:
    """Return the S3 URI of the report of an execution's evaluation.

    It is "" before the step evaluate has succeeded, in a pipeline without that step, and when AWS does not tell it.
    """
    from botocore.exceptions import ClientError

    if not any((step.step, step.status) == (REPORT_STEP, SUCCEEDED) for step in found.steps):
        return ""
    try:
        _, name = job_with_output(aws, found.arn, REPORT_STEP)
        return f"{processing_output_uri(aws, name, REPORT_STEP, 'evaluation')}/report.html"
    except (ClientError, UserError):
        return ""


def job_with_output(aws: Aws, arn: str, step: str) -> tuple[str, str]:
    """Return the job that wrote the outputs of a step of an execution: (processing-job or training-job, its name).

    For a step that was taken from the cache, this is the job of the execution that ran it.

    - arn: the ARN of the execution.

    Raises UserError when this execution has no such step, when the step has not succeeded in it, and when it runs as
    no job.
    """
    found = next((s for s in raw_steps(aws, arn) if s["StepName"] == step and s["StepStatus"] == SUCCEEDED), None)
    if found is None:
        raise UserError(f"step '{step}' has not succeeded in execution {arn.rsplit('/', 1)[1]}. See: scarcegan status")
    kinds = list(found.get("Metadata", {}))
    if kinds and not {"ProcessingJob", "TrainingJob"} & set(kinds):
        raise UserError(
            f"step '{step}' is of the kind {kinds[0]}, which writes no output that can be fetched. Name a step that "
            "runs as a job, such as evaluate."
        )
    if not job_arn(found) and "CacheHitResult" in found:
        return job_with_output(aws, found["CacheHitResult"]["SourcePipelineExecutionArn"], step)
    kind, _, name = job_arn(found).rsplit(":", 1)[1].partition("/")
    return kind, name


def processing_output_uri(aws: Aws, job: str, step: str, output: str) -> str:
    """Ask SageMaker for the S3 URI of one output of a processing job. Returns it, without a slash at its end.

    - job: the name of the job.
    - step: whose job it is, for the error.

    Raises UserError when the job has no such output.
    """
    about = aws.client("sagemaker").describe_processing_job(ProcessingJobName=job)
    outputs = {o["OutputName"]: o["S3Output"]["S3Uri"] for o in about["ProcessingOutputConfig"]["Outputs"]}
    if output not in outputs:
        raise UserError(f"step '{step}' has no output '{output}'. It has: {', '.join(outputs)}.")
    return str(outputs[output])


def fetch_model_output(aws: Aws, training_job: str, output: str, folder: Path) -> Path:
    """Download one output of a training job, a folder of its model.tar.gz, into `folder`. Returns `folder`.

    The files lie directly in `folder`, without the output's name.

    - training_job: the name of the job.
    - output: the name of the output and of its folder in the archive.

    Raises UserError when the archive has no such output and `folder` does not exist.
    """
    about = aws.client("sagemaker").describe_training_job(TrainingJobName=training_job)
    place = about["ModelArtifacts"]["S3ModelArtifacts"]
    return storage.download(aws.client("s3"), place, folder, below=output, owner=aws.names.account)
