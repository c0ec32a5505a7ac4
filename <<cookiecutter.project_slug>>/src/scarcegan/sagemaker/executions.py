"""Executions of the SageMaker pipelines: look, read logs, stop, fetch what a step wrote. See start.py, upsert.py."""

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
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from scarcegan.sagemaker.pipelines import PIPELINES, not_there, pipeline_of

ENDED = ("Stopped", "Failed", "Succeeded", "CompletedWithFailures")
SUCCEEDED = "Succeeded"
POLL_SECONDS = 20.0
LOG_GROUPS = {"training-job": "/aws/sagemaker/TrainingJobs", "processing-job": "/aws/sagemaker/ProcessingJobs"}
JOBS = ("TrainingJob", "ProcessingJob", "Lambda")


@dataclass(frozen=True)
class StepStatus:
    """One step of an execution. kind: TrainingJob, ProcessingJob, Lambda, Condition, Fail or "" while not known;
    minutes: None before it starts; job: its ARN, "" for a step without one."""

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
class Status:
    """An execution and its steps, first to last. started: ISO 8601 in UTC."""

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
        return self.status in ENDED

    @property
    def gate_closed(self) -> bool:
        """Whether nothing failed but the gate's else-branch."""
        return {step.kind for step in self.steps if step.status == "Failed"} == {"Fail"}


def find(aws: Aws, execution: str | None = None, pipeline: str | None = None) -> str:
    """ARN of an execution: given as ARN, by its id, or the newest of a pipeline (training unless named)."""
    if execution and execution.startswith("arn:"):
        return execution
    if execution:
        return by_id(aws, execution, pipeline)
    name = pipeline or "training"
    found = executions(aws, name, 1)
    if not found:
        raise UserError(f"the pipeline {aws.names.pipeline(name)} has never run. Type: scarcegan start")
    return found[0]["PipelineExecutionArn"]


def by_id(aws: Aws, execution: str, pipeline: str | None) -> str:
    """ARN of the execution of that id, in the named pipeline or in any; UserError when there is none."""
    sagemaker = aws.client("sagemaker")
    for name in [pipeline] if pipeline else PIPELINES:
        arn = aws.names.arn("sagemaker", f"pipeline/{aws.names.pipeline(name)}/execution/{execution}")
        if none_if_missing(partial(sagemaker.describe_pipeline_execution, PipelineExecutionArn=arn)) is not None:
            return arn
    raise UserError(f"no execution '{execution}' of this project. The newest one is shown by: scarcegan status")


def executions(aws: Aws, name: str, newest: int) -> list[dict[str, Any]]:
    """Summaries of the newest executions of a pipeline, newest first; UserError when there is no such pipeline."""
    pipeline_of(name, Config())
    asked = {"PipelineName": aws.names.pipeline(name), "SortBy": "CreationTime", "SortOrder": "Descending"}
    found = none_if_missing(lambda: aws.client("sagemaker").list_pipeline_executions(**asked, MaxResults=newest))
    if found is None:
        raise not_there(aws, name)
    return found["PipelineExecutionSummaries"]


def watch(aws: Aws, arn: str, seconds: float = POLL_SECONDS) -> Iterator[tuple[Status, list[StepStatus]]]:
    """Ask for the status of an execution every `seconds` until it has ended.

    Yields the status, and those of its steps whose line has changed: at first, after each change, and at the end.
    """
    before: set[str] = set()
    while True:
        found = status(aws, arn)
        changed = [step for step in found.steps if step.line not in before]
        if changed or found.ended:
            yield found, changed
        if found.ended:
            return
        before.update(step.line for step in changed)
        time.sleep(seconds)


def status(aws: Aws, arn: str) -> Status:
    """An execution with its steps, and what the training job measured."""
    about = aws.client("sagemaker").describe_pipeline_execution(PipelineExecutionArn=arn)
    begun = about["CreationTime"]
    ended = about["LastModifiedTime"] if about["PipelineExecutionStatus"] in ENDED else datetime.now(UTC)
    _, pipeline, _, execution = arn.rsplit(":", 1)[1].split("/")
    return Status(
        execution,
        pipeline,
        about["PipelineExecutionStatus"],
        begun.astimezone(UTC).isoformat(timespec="seconds"),
        minutes(begun, ended) or 0.0,
        arn,
        about.get("FailureReason", ""),
        [step_status(aws, step) for step in raw_steps(aws, arn)],
    )


def raw_steps(aws: Aws, arn: str) -> list[dict[str, Any]]:
    """The steps begun so far as SageMaker lists them, first to last."""
    pages = aws.client("sagemaker").get_paginator("list_pipeline_execution_steps")
    listed = pages.paginate(PipelineExecutionArn=arn, SortOrder="Ascending")
    return [step for page in listed for step in page["PipelineExecutionSteps"]]


def step_status(aws: Aws, step: Mapping[str, Any]) -> StepStatus:
    about = step.get("Metadata", {})
    arn = job(step)
    return StepStatus(
        step["StepName"],
        step["StepStatus"],
        next(iter(about), ""),
        minutes(step.get("StartTime"), step.get("EndTime") or datetime.now(UTC)),
        "CacheHitResult" in step,
        step.get("AttemptCount", 1),
        step.get("FailureReason") or about.get("Fail", {}).get("ErrorMessage", ""),
        arn,
        training_metrics(aws, arn) if ":training-job/" in arn else {},
    )


def job(step: Mapping[str, Any]) -> str:
    """ARN of the job or function behind a step, "" when there is none."""
    about = step.get("Metadata", {})
    return next((about[kind]["Arn"] for kind in JOBS if kind in about), "")


def minutes(begun: datetime | None, ended: datetime | None) -> float | None:
    return round((ended - begun).total_seconds() / 60, 1) if begun and ended else None


def training_metrics(aws: Aws, arn: str) -> dict[str, float]:
    """The last value of each metric that the training job's log lines told."""
    name = arn.rsplit("/", 1)[1]
    about = none_if_missing(lambda: aws.client("sagemaker").describe_training_job(TrainingJobName=name)) or {}
    return {metric["MetricName"]: metric["Value"] for metric in about.get("FinalMetricDataList", [])}


def log_lines(aws: Aws, arn: str, step: str | None = None) -> Iterator[str]:
    """What the step's job or function has logged so far. step: default the one that failed, else the latest.

    https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html
    """
    place = log_place(choose(raw_steps(aws, arn), step))
    pages = iter(aws.client("logs").get_paginator("filter_log_events").paginate(**place))
    first: Mapping[str, Any] | None = none_if_missing(lambda: next(pages, {"events": []}))
    if first is None:
        raise UserError("nothing is logged yet: the job is being prepared. Type the command again later.")
    yield from (event["message"].rstrip("\n") for page in chain([first], pages) for event in page["events"])


def choose(steps: Sequence[Mapping[str, Any]], name: str | None) -> Mapping[str, Any]:
    """The named step, or the one that failed, or the latest with a job. UserError when there is none."""
    able = [step for step in steps if job(step)]
    if name is not None:
        able = [step for step in able if step["StepName"] == name]
    failed = [step for step in able if step["StepStatus"] == "Failed"]
    if able:
        return (failed or able)[-1]
    with_logs = ", ".join(step["StepName"] for step in steps if job(step)) or "none yet"
    raise UserError(f"no log of step '{name or 'any'}' in this execution. Steps with a log: {with_logs}.")


def log_place(step: Mapping[str, Any]) -> dict[str, Any]:
    """Where the logs of a step lie, as the arguments of FilterLogEvents."""
    kind, _, name = job(step).rsplit(":", 1)[1].partition("/")
    if kind in LOG_GROUPS:
        return {"logGroupName": LOG_GROUPS[kind], "logStreamNamePrefix": f"{name}/"}
    function = job(step).split(":function:")[1].split(":")[0]
    found = {"logGroupName": f"/aws/lambda/{function}", "startTime": epoch(step["StartTime"])}
    return {**found, "endTime": epoch(step["EndTime"])} if "EndTime" in step else found


def epoch(moment: datetime) -> int:
    """Milliseconds, as CloudWatch counts."""
    return int(moment.timestamp() * 1000)


def stop(aws: Aws, arn: str) -> None:
    """Ask an execution to stop: its running jobs are stopped too, what is finished stays."""
    aws.client("sagemaker").stop_pipeline_execution(PipelineExecutionArn=arn)


def changed_parameters(aws: Aws, arn: str, defaults: Mapping[str, Any]) -> dict[str, str]:
    """Parameters an execution was given that differ from the pipeline's defaults; fingerprints of data left out."""
    pages = aws.client("sagemaker").get_paginator("list_pipeline_parameters_for_execution")
    given = [item for page in pages.paginate(PipelineExecutionArn=arn) for item in page["PipelineParameters"]]
    return {
        item["Name"]: item["Value"]
        for item in given
        if str(defaults.get(item["Name"], "")) != item["Value"] and not item["Name"].endswith("Fingerprint")
    }


def fetch(aws: Aws, arn: str, step: str, output: str, folder: Path) -> Path:
    """Copy one output of a step into a folder, also when it came from the cache of an earlier execution.

    UserError when the step has not succeeded in this execution, or has no such output.
    """
    found = next((s for s in raw_steps(aws, arn) if s["StepName"] == step and s["StepStatus"] == SUCCEEDED), None)
    if found is None:
        raise UserError(f"step '{step}' has not succeeded in execution {arn.rsplit('/', 1)[1]}. See: scarcegan status")
    if not job(found) and "CacheHitResult" in found:
        return fetch(aws, found["CacheHitResult"]["SourcePipelineExecutionArn"], step, output, folder)
    kind, _, name = job(found).rsplit(":", 1)[1].partition("/")
    if kind == "training-job":
        return fetch_from_model(aws, name, output, folder)
    about = aws.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    outputs = {o["OutputName"]: o["S3Output"]["S3Uri"] for o in about["ProcessingOutputConfig"]["Outputs"]}
    if output not in outputs:
        raise UserError(f"step '{step}' has no output '{output}'. It has: {', '.join(outputs)}.")
    return storage.download(aws.client("s3"), outputs[output], folder)


def fetch_from_model(aws: Aws, training_job: str, output: str, folder: Path) -> Path:
    """One output of a training job: a folder of its model.tar.gz."""
    about = aws.client("sagemaker").describe_training_job(TrainingJobName=training_job)
    return storage.download(aws.client("s3"), about["ModelArtifacts"]["S3ModelArtifacts"], folder, below=output)
