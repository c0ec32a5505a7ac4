"""The verbs of the cloud: upsert, start, status, logs, stop. Part of main.py; imports neither boto3 nor the SDK."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scarcegan.cli.console import AsJson, Changes, DryRun, emit, example, table, workspace

if TYPE_CHECKING:
    from scarcegan.aws.client import Aws
    from scarcegan.sagemaker.executions import Status
    from scarcegan.workspace import Workspace

POLL_SECONDS = 20
FOUND = (
    "sagemaker:ListPipelineExecutions",
    "sagemaker:DescribePipelineExecution",
    "sagemaker:ListPipelineExecutionSteps",
)
STATUS_CALLS = (*FOUND, "sagemaker:DescribeTrainingJob")
LOGS_CALLS = (*FOUND, "logs:FilterLogEvents")
FAILED, GATE_CLOSED = 1, 3  # as `scarcegan run` ends

app = typer.Typer()

Execution = Annotated[str | None, typer.Argument(help="Id or ARN; default: the newest.")]
OfPipeline = Annotated[str | None, typer.Option("--pipeline", help="training or scoring.")]


@contextmanager
def aws_door(context: typer.Context) -> "Iterator[Aws]":
    """The project's door to AWS; what AWS refuses becomes a sentence."""
    from scarcegan.aws import client

    config = workspace(context).config
    with client.plainly(config):
        yield client.connect(config)


def plainly(place: "Workspace", cloud: bool) -> AbstractContextManager[None]:
    """For verbs that go either way: with --cloud, what AWS refuses becomes a sentence."""
    if not cloud:
        return nullcontext()
    from scarcegan.aws import client

    client.library("boto3")
    return client.plainly(place.config)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@app.command(epilog=example("scarcegan upsert --dry-run"))
def upsert(
    context: typer.Context,
    upload_only: Annotated[
        bool, typer.Option("--upload-only", help="Code, wheels and build/*.json; no pipeline is touched.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put code and pipelines into AWS. Writes build/*.json; a dry run needs no account and no network."""
    from scarcegan.aws import client
    from scarcegan.sagemaker import upsert as upserting

    place = workspace(context)
    if dry_run:
        plan = upserting.make_plan(place.root, place.config, client.planned_names(place.config))
        written = [place.show(path) for path in upserting.write(plan)]
        lines = [
            *upserting.lines(plan),
            "",
            f"wrote     {', '.join(written)}",
            "Nothing in AWS was looked at or changed; what lies there already is not uploaded again.",
        ]
        emit({**plan.describe(), "written": written}, as_json, lines)
        return
    with aws_door(context) as door:
        plan = upserting.make_plan(place.root, upserting.with_volume_key(place.config, door), door.names)
        upserting.write(plan)
        done = upserting.walk(plan, door, upload_only, say)
    lines = [f"{len(done['uploaded'])} objects and {done['wheels']} wheels uploaded to {door.names.bucket}"]
    lines += [f"{name}: {what}" for name, what in done["pipelines"].items()]
    emit(done, as_json, [*lines, *([] if upload_only else ["Next: scarcegan start"])])


@app.command(epilog=example("scarcegan start --set train.iterations=2000"))
def start(
    context: typer.Context,
    changes: Changes = None,
    pipeline: Annotated[str, typer.Option(help="training or scoring.")] = "training",
    if_data: Annotated[
        bool, typer.Option("--if-data", help="Where no data lies yet, start nothing and succeed.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Start a pipeline in AWS. Returns at once; --set also takes a pipeline parameter: TelemetryUri=s3://…"""
    from scarcegan.aws import client
    from scarcegan.sagemaker import start as starting
    from scarcegan.sagemaker.pipelines import configured

    place = workspace(context)
    base = configured(pipeline, place.config, client.planned_names(place.config))
    plan = starting.make_plan(base, context.obj, changes or [])
    if dry_run:
        head = f"start {place.config.project.name}-{pipeline}"
        more = "All else as config.yaml has it, with fingerprints of the data in S3. Nothing was started."
        emit(asdict(plan), as_json, [head, *shown_parameters(plan.parameters), more])
        return
    with aws_door(context) as door:
        try:
            plan = starting.complete(plan, base, door)
        except starting.NoData as error:
            if not if_data:
                raise
            emit({"execution": "", "arn": ""}, as_json, [f"Nothing was started. {error}"])
            return
        for note in plan.notes:
            say(note)
        arn = starting.start(plan, door)
    execution = arn.rsplit("/", 1)[1]
    head = f"execution {execution} of {door.names.pipeline(pipeline)} has started"
    found = {"execution": execution, "arn": arn, **asdict(plan)}
    emit(found, as_json, [head, *shown_parameters(plan.parameters), f"Next: scarcegan status {execution} --watch"])


def shown_parameters(parameters: Mapping[str, str]) -> list[str]:
    return [f"  {name}={value}" for name, value in sorted(parameters.items())]


@app.command(epilog=example("scarcegan status --watch"))
def status(
    context: typer.Context,
    execution: Execution = None,
    pipeline: OfPipeline = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for the end; exit code 0 succeeded, 3 gate closed, 1 failed.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Show the steps of an execution in AWS. Status, minutes, metrics of the training, reasons."""
    from scarcegan.sagemaker import executions

    if dry_run:
        would_ask(context, execution, pipeline, STATUS_CALLS)
        return
    with aws_door(context) as door:
        arn = executions.find(door, execution, pipeline)
        found = executions.status(door, arn)
        said: set[str] = set()
        while watch and not found.ended:
            for line in news(found, said):
                say(line)
            time.sleep(POLL_SECONDS)
            found = executions.status(door, arn)
    emit({**asdict(found), "gate_closed": found.gate_closed}, as_json, status_lines(found))
    if watch and found.status != executions.SUCCEEDED:
        raise typer.Exit(GATE_CLOSED if found.gate_closed else FAILED)


@app.command(epilog=example("scarcegan logs train"))
def logs(
    context: typer.Context,
    step: Annotated[str | None, typer.Argument(help="Default: the step that failed, else the latest.")] = None,
    execution: Annotated[str | None, typer.Option(help="Id or ARN; default: the newest.")] = None,
    pipeline: OfPipeline = None,
    dry_run: DryRun = False,
) -> None:
    """Print what a step in AWS has logged."""
    from scarcegan.sagemaker import executions

    if dry_run:
        would_ask(context, execution, pipeline, LOGS_CALLS)
        return
    with aws_door(context) as door:
        for line in executions.log_lines(door, executions.find(door, execution, pipeline), step):
            print(line)


@app.command(epilog=example("scarcegan stop --dry-run"))
def stop(
    context: typer.Context,
    execution: Execution = None,
    pipeline: OfPipeline = None,
    dry_run: DryRun = False,
) -> None:
    """Stop an execution in AWS. Finished steps stay; the next start takes them from the cache."""
    from scarcegan.sagemaker import executions

    with aws_door(context) as door:
        arn = executions.find(door, execution, pipeline)
        found = executions.status(door, arn)
        words = f"execution {found.execution} of {found.pipeline}"
        if found.ended:
            print(f"{words} has ended already: {found.status}")
        elif dry_run:
            print(f"{words} is {found.status} and would be stopped")
        else:
            executions.stop(door, arn)
            print(f"{words} is being stopped. Next: scarcegan status {found.execution}")


def news(found: "Status", said: set[str]) -> Iterator[str]:
    """A line per step whose status has changed since the last look."""
    for step in found.steps:
        line = f"{step.step}: {step.status}{' (cached)' if step.cached else ''}"
        if line not in said:
            said.add(line)
            yield line


def would_ask(context: typer.Context, execution: str | None, pipeline: str | None, calls: tuple[str, ...]) -> None:
    """What a verb that only reads would ask AWS, without asking."""
    from scarcegan.aws import client

    names = client.planned_names(workspace(context).config)
    which = execution or f"the newest execution of {names.pipeline(pipeline or 'training')}"
    print(f"would ask {names.region}, account {names.account}, about {which}: {', '.join(calls)}")


def status_lines(found: "Status") -> list[str]:
    """An execution for people: a line per step, then figures, reasons and ARNs of what failed."""
    head = f"execution {found.execution} of {found.pipeline}: {found.status}"
    lines = [f"{head}, {found.minutes:.0f} min, began {found.started}"]
    rows: list[dict[str, Any]] = [asdict(step) | {"minutes": shown(step.minutes)} for step in found.steps]
    lines += (
        table(rows, ("step", "status", "cached", "minutes", "attempts", "job")) if rows else ["no step has begun yet"]
    )
    for step in found.steps:
        if step.metrics:
            lines.append(f"{step.step}: " + ", ".join(f"{name} {value:.4g}" for name, value in step.metrics.items()))
        if step.reason:
            lines.append(f"{step.step}: {step.reason}")
    if found.reason:
        lines.append(found.reason)
    if found.status == "Failed" and not found.gate_closed:
        lines.append(f"Next: scarcegan logs --execution {found.execution}")
    return lines


def shown(minutes: float | None) -> str:
    return "" if minutes is None else f"{minutes:.1f}"
