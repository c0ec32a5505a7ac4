"""The verbs upsert, start, status, logs and stop, which work in AWS. boto3 is imported only when it is needed."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scarcegan.cli.console import AsJson, DryRun, SetValues, emit, example, print_progress, table_lines, workspace
from scarcegan.errors import UserError

if TYPE_CHECKING:
    from scarcegan.aws.client import Aws
    from scarcegan.sagemaker.executions import ExecutionStatus
    from scarcegan.workspace import Workspace

FIND_CALLS = (
    "sagemaker:ListPipelineExecutions",
    "sagemaker:DescribePipelineExecution",
    "sagemaker:ListPipelineExecutionSteps",
)
STATUS_CALLS = (
    "codepipeline:ListPipelineExecutions",
    "ssm:GetParameter",
    *FIND_CALLS,
    "sagemaker:DescribeTrainingJob",
    "sagemaker:DescribeProcessingJob",
)
LOGS_CALLS = (*FIND_CALLS, "logs:FilterLogEvents")
FAILED, GATE_CLOSED = 1, 3  # the exit codes of `scarcegan run` too

cloud_app = typer.Typer()

ExecutionId = Annotated[str | None, typer.Argument(help="Id or ARN of an execution; default: the newest.")]
OnePipeline = Annotated[str, typer.Option("--pipeline", help="training, scoring, or training-NAME for a copy.")]
PipelineName = Annotated[
    str | None,
    typer.Option(
        "--pipeline", help="training, scoring or training-NAME; default: training, or the one that has the id."
    ),
]


@contextmanager
def aws_connection(context: typer.Context) -> "Iterator[Aws]":
    """Context manager: connect to AWS for the project, and yield the connection.

    - context: of the verb, from typer; its `obj` is the path of config.yaml.

    Raises UserError when config.yaml is missing or has a bad value, when the connection is refused as `connect_to_aws`
    describes, and for errors of AWS inside the block that a user can act on, such as missing credentials.
    """
    from scarcegan.aws import client

    config = workspace(context).config
    with client.errors_as_sentences(config):
        yield client.connect_to_aws(config)


def errors_as_sentences(project: "Workspace", cloud: bool) -> AbstractContextManager[None]:
    """Return a context manager for a verb with the option --cloud: in its block, an error of AWS becomes a UserError.

    - cloud: whether the option was given; False returns a context manager that changes nothing.

    Raises UserError at once when cloud is True and boto3 is not installed. The context manager raises UserError for
    errors of AWS that a user can act on, such as missing credentials; other errors pass unchanged.
    """
    if not cloud:
        return nullcontext()
    from scarcegan.aws import client

    client.library("boto3")
    return client.errors_as_sentences(project.config)


@cloud_app.command("upsert", epilog=example("scarcegan upsert --dry-run"))
def upsert_command(
    context: typer.Context,
    upload_only: Annotated[
        bool,
        typer.Option("--upload-only", help="Upload code and wheels and write build/*.json, but change no pipeline."),
    ] = False,
    pipeline: Annotated[
        str | None,
        typer.Option(
            help="Only training or scoring; default: both. Scoring alone uploads nothing: it compares the code in S3."
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Create or update the pipelines in AWS. Uploads the code and writes build/*.json; --dry-run only writes these
    files, and needs no account.
    """
    from scarcegan.aws import client, prices, quotas
    from scarcegan.aws.names import PIPELINES
    from scarcegan.pipeline.definition import copy_name
    from scarcegan.sagemaker import upsert as upserting
    from scarcegan.sagemaker.pipelines import pipeline_of

    project = workspace(context)
    if pipeline and upload_only:
        raise UserError("--upload-only changes no pipeline, so --pipeline has no effect. Leave one of them out.")
    if pipeline and copy_name(pipeline):
        raise UserError(f"{pipeline} is a copy. Type: scarcegan pipeline copy {copy_name(pipeline)}")
    chosen = (pipeline_of(pipeline, project.config).name,) if pipeline else PIPELINES
    if dry_run:
        plan = upserting.plan_upsert(project.root, project.config, client.planned_names(project.config))
        plan = replace(plan, pipelines={name: plan.pipelines[name] for name in chosen})
        written = [project.show(path) for path in upserting.write_build_files(plan)]
        estimate = prices.estimate(project.config, prices.load_prices(project.root))
        lines = [
            *upserting.plan_lines(plan),
            "",
            *prices.cost_lines(estimate),
            "",
            f"wrote     {', '.join(written)}",
            "Nothing in AWS was read or changed. A real upsert uploads only what is not there yet.",
        ]
        emit({**plan.describe(), "costs": estimate.describe(), "written": written}, as_json, lines)
        return
    with aws_connection(context) as aws:
        quotas.require_allowed_machines(aws, quotas.job_machines(project.config))
        plan = upserting.plan_upsert(project.root, upserting.with_volume_key(project.config, aws), aws.names)
        upserting.write_build_files(plan)
        done = upserting.apply_plan(plan, aws, upload_only, print_progress, chosen)
        note = upserting.toolchain_note(aws, project.root)
    if note:
        print_progress(note)
    lines = [f"{len(done['uploaded'])} objects and {done['wheels']} wheels uploaded to {aws.names.bucket}"]
    lines += [f"{name}: {what}" for name, what in done["pipelines"].items()]
    emit(done, as_json, [*lines, *([] if upload_only else ["Next: scarcegan start"])])


@cloud_app.command("start", epilog=example("scarcegan start --set train.iterations=2000"))
def start_command(
    context: typer.Context,
    changes: SetValues = None,
    pipeline: OnePipeline = "training",
    if_data: Annotated[
        bool, typer.Option("--if-data", help="When there is no data yet, start nothing and exit with 0.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Start a pipeline in AWS, and return at once. --set also takes a pipeline parameter: TrainIterations=2000"""
    from scarcegan.aws import client
    from scarcegan.sagemaker import executions
    from scarcegan.sagemaker import start as starting
    from scarcegan.sagemaker.pipelines import configured

    project = workspace(context)
    base = configured(pipeline, project.config, client.planned_names(project.config))
    plan = starting.plan_start(base, context.obj, changes or [])
    if dry_run:
        head = f"start {project.config.project.name}-{pipeline}"
        more = (
            "All other parameters come from config.yaml and the data in S3. Nothing in AWS was read or started: "
            "whether there is data is only seen at the start."
        )
        emit(asdict(plan), as_json, [head, *parameter_lines(plan.parameters), more])
        return
    with aws_connection(context) as aws:
        try:
            plan = starting.complete(plan, base, aws)
        except starting.NoData as error:
            if not if_data:
                raise
            emit({"execution": "", "arn": ""}, as_json, [f"Nothing was started. {error}"])
            return
        for note in plan.notes:
            print_progress(note)
        arn = starting.start_execution(plan, aws)
    execution = arn.rsplit("/", 1)[1]
    head = f"execution {execution} of {aws.names.pipeline(pipeline)} has started"
    found = {"execution": execution, "arn": arn, **asdict(plan)}
    move = f"Next: scarcegan status {executions.execution_name(arn)} --watch"
    emit(found, as_json, [head, *parameter_lines(plan.parameters), move])


def parameter_lines(parameters: Mapping[str, str]) -> list[str]:
    """Return pipeline parameters as indented lines NAME=VALUE, sorted by name."""
    return [f"  {name}={value}" for name, value in sorted(parameters.items())]


@cloud_app.command("status", epilog=example("scarcegan status --watch"))
def status_command(
    context: typer.Context,
    execution: ExecutionId = None,
    pipeline: PipelineName = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait until it has ended. Exit code: 0 succeeded, 3 gate closed, 1 failed.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Show the steps of an execution in AWS. Gives status, minutes, training metrics, why a step failed, and where the
    report is; and says when the latest build is still running or has failed.
    """
    from scarcegan.sagemaker import executions
    from scarcegan.sagemaker.upsert import build_note, toolchain_note

    if dry_run:
        print_calls(context, execution, pipeline, STATUS_CALLS)
        return
    with aws_connection(context) as aws:
        if note := build_note(aws):
            print_progress(note)
        arn = executions.find_execution(aws, execution, pipeline)
        if note := toolchain_note(aws, workspace(context).root):
            print_progress(note)
        if not watch:
            found = executions.execution_status(aws, arn)
        else:
            for found, changed in executions.watch(aws, arn):
                for step in changed if not found.ended else ():
                    print_progress(step.line)
        report = executions.report_uri(aws, found)
    described = {**asdict(found), "gate_closed": found.gate_closed, "report": report}
    emit(described, as_json, status_lines(found, report))
    if watch and found.status != executions.SUCCEEDED:
        raise typer.Exit(GATE_CLOSED if found.gate_closed else FAILED)


@cloud_app.command("logs", epilog=example("scarcegan logs train"))
def logs_command(
    context: typer.Context,
    step: Annotated[str | None, typer.Argument(help="Default: the step that failed, otherwise the latest.")] = None,
    execution: Annotated[str | None, typer.Option(help="Id or ARN of an execution; default: the newest.")] = None,
    pipeline: PipelineName = None,
    dry_run: DryRun = False,
) -> None:
    """Print what a step in AWS has logged so far. Does not wait for more."""
    from scarcegan.sagemaker import executions

    if dry_run:
        print_calls(context, execution, pipeline, LOGS_CALLS)
        return
    with aws_connection(context) as aws:
        arn = executions.find_execution(aws, execution, pipeline)
        logged = False
        for line in executions.log_lines(aws, arn, step):
            print(line)
            logged = True
    if not logged:
        look = f"scarcegan status {executions.execution_name(arn)}"
        print_progress(f"the step has logged nothing so far. Type the command again later, or see: {look}")


@cloud_app.command("stop", epilog=example("scarcegan stop --dry-run"))
def stop_command(
    context: typer.Context,
    execution: ExecutionId = None,
    pipeline: PipelineName = None,
    dry_run: DryRun = False,
) -> None:
    """Stop an execution in AWS, by default training's newest. The next start uses the results of its finished steps."""
    from scarcegan.sagemaker import executions

    with aws_connection(context) as aws:
        arn = executions.find_execution(aws, execution, pipeline)
        found = executions.execution_status(aws, arn)
        name = f"execution {found.execution} of {found.pipeline}"
        if found.ended:
            print(f"{name} has ended already: {found.status}")
        elif dry_run:
            print(f"{name} is {found.status} and would be stopped")
        else:
            what = "is being stopped" if executions.stop_execution(aws, arn) else "has ended meanwhile"
            print(f"{name} {what}. Next: scarcegan status {executions.execution_name(arn)}")


def print_calls(context: typer.Context, execution: str | None, pipeline: str | None, calls: tuple[str, ...]) -> None:
    """Print, to stdout, which calls of AWS a verb that only reads would make. Makes none.

    - execution: the id or ARN that the user gave; None means the newest.
    - pipeline: training or scoring; None means training.
    - calls: the IAM actions of the calls, such as "sagemaker:DescribeTrainingJob".

    Raises UserError when config.yaml is missing or has a bad value, or when AWS_ACCOUNT_ID is set but not 12 digits.
    """
    from scarcegan.aws import client

    names = client.planned_names(workspace(context).config)
    which = execution or f"the newest execution of {names.pipeline(pipeline or 'training')}"
    print(f"would ask AWS in {names.region}, account {names.account}, about {which}: {', '.join(calls)}")


def status_lines(found: "ExecutionStatus", report: str) -> list[str]:
    """Return the status of an execution as lines for people.

    - the execution, its status and minutes
    - a table of its steps
    - metrics and reasons of failures, step by step
    - the command that fetches the report
    - the next move, after a failure

    report: the S3 URI of the report; "" for none.
    """
    from scarcegan.sagemaker import executions

    head = f"execution {found.execution} of {found.pipeline}: {found.status}"
    lines = [f"{head}, {found.minutes:.0f} min, started {found.started}"]
    rows: list[dict[str, Any]] = [asdict(step) | {"minutes": minutes_text(step.minutes)} for step in found.steps]
    lines += (
        table_lines(rows, ("step", "status", "cached", "minutes", "attempts", "job"))
        if rows
        else ["no step has started yet"]
    )
    for step in found.steps:
        if step.metrics:
            lines.append(f"{step.step}: " + ", ".join(f"{name} {value:.4g}" for name, value in step.metrics.items()))
        if step.reason:
            lines.append(f"{step.step}: {step.reason}")
    if found.reason:
        lines.append(found.reason)
    if report:
        lines.append(f"report: aws s3 cp {report} .")
    if found.gate_closed:
        lines.append("Next: change config.yaml, the code or the data, and start again; nothing is broken")
    elif found.status == "Failed":
        lines.append(f"Next: scarcegan logs --execution {executions.execution_name(found.arn)}")
    return lines


def minutes_text(minutes: float | None) -> str:
    """Return minutes as text with one decimal; "" for None, which a step has that has not started."""
    return "" if minutes is None else f"{minutes:.1f}"
