"""The verb `release` with prepare, smoke, load, promote, status and --rollback. The work is done in release/."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scarcegan.cli.cloud import aws_connection
from scarcegan.cli.console import AsJson, DryRun, emit, example, print_progress, table_lines, workspace
from scarcegan.errors import UserError

if TYPE_CHECKING:
    from scarcegan.aws.client import Aws
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry
    from scarcegan.release.load import LoadResult
    from scarcegan.release.smoke import Sample
    from scarcegan.workspace import Workspace

release_app = typer.Typer(
    help="Deploy an approved model to staging and production. Or an earlier one again.", rich_markup_mode=None
)
Server = Annotated[str, typer.Option("--url", help="Test this server instead, such as one of `scarcegan serve`.")]
ServedPackage = Annotated[
    Path | None, typer.Option("--package", help="Folder of the package that --url serves; default: the champion's.")
]


@contextmanager
def aws_and_registry(context: typer.Context) -> "Iterator[tuple[Aws, SageMakerRegistry]]":
    """Context manager: connect to AWS for the project, and yield (connection, model registry in SageMaker).

    - context: of the verb, from typer; its `obj` is the path of config.yaml.

    Raises UserError as `aws_connection` does.
    """
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry

    with aws_connection(context) as aws:
        group = workspace(context).config.project.model_package_group
        yield aws, SageMakerRegistry(aws.names, group, aws.session)


@release_app.callback(invoke_without_command=True, epilog=example("scarcegan release --rollback 5 --dry-run"))
def release_command(
    context: typer.Context,
    rollback: Annotated[
        int | None, typer.Option("--rollback", metavar="VERSION", min=1, help="Deploy this approved version again.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    if context.invoked_subcommand:
        return
    if rollback is None:
        print(context.get_help())
        return
    from scarcegan.release import release as releasing

    with aws_and_registry(context) as (aws, registry):
        request = releasing.rollback_request(registry, aws.names, rollback)
        execution = "" if dry_run else releasing.start_deploy(aws, request)
    outcome = "would be started" if dry_run else f"has started, execution {execution}"
    lines = [f"{request['name']} {outcome}: version {rollback} goes to staging, then waits for your approval"]
    emit({**request, "execution": execution}, as_json, lines)


@release_app.command("prepare", epilog=example("scarcegan release prepare --version 5"))
def prepare_command(
    context: typer.Context,
    version: Annotated[str, typer.Option(help="An approved version; newest: the one approved last.")] = "newest",
    dry_run: DryRun = False,
) -> None:
    """Write files into build/ that deploy an approved model. The deploy pipeline calls it. Changes nothing in AWS."""
    from scarcegan.release import release as releasing
    from scarcegan.sagemaker.bundle import code_bundle

    project = workspace(context)
    with aws_and_registry(context) as (aws, registry):
        if dry_run:
            package = releasing.approved_package(registry, version)
            print(f"version {package.version} ({package.definition}) would be released")
            return
        moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        project_id = os.environ.get("SAGEMAKER_PROJECT_ID", "")
        code = code_bundle(project.root).digest
        prepared = releasing.prepare_release(aws, registry, project.config, version, moment, project_id, code)
    written = releasing.write_release(prepared, project.root / "build")
    for name, value in prepared.variables.items():
        print(f"{name}={value}")
    print(f"wrote {', '.join(project.show(path) for path in written)}", file=sys.stderr)


@release_app.command("smoke", epilog=example("scarcegan release smoke staging"))
def smoke_command(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(help="staging or production; ignored with --url.")] = "staging",
    version: Annotated[int | None, typer.Option(min=1, help="Fail unless the stage serves this version.")] = None,
    url: Server = "",
    package: ServedPackage = None,
) -> None:
    """Send requests to an endpoint and check the answers. Fails unless it serves the expected model."""
    from scarcegan.release import smoke as smoking

    if url:
        project = workspace(context)
        lines = smoking.run_smoke_test(smoking.sender_to_url(url), sample_here(project, package))
    else:
        lines = smoke_stage(context, stage, version)
    print("\n".join(lines))


def sample_here(project: "Workspace", package: Path | None) -> "Sample":
    """Return a sample of users for a package on this machine. package: its folder; None: the champion's.

    Raises UserError when there is no such package, or its files are incomplete.
    """
    from scarcegan.release import smoke

    return smoke.sample_of(project.path(package) if package else project.exported(project.package(None)))


def smoke_stage(context: typer.Context, stage: str, version: int | None) -> list[str]:
    """Check that the endpoint of a stage serves the package of the version that its CloudFormation stack names, with
    the bytes that were registered, then check its answers.

    Returns lines for people.

    - context: of the verb, from typer; its `obj` is the path of config.yaml.
    - stage: staging or production.
    - version: the version that it must serve; None accepts any.

    Raises UserError when a check fails or the stage is unknown, and as `aws_and_registry` does.
    """
    from scarcegan.release import smoke as smoking

    with served_package(context, stage, version) as (aws, wanted, sample):
        lines = smoking.run_smoke_test(smoking.sender_to_stage(aws, stage), sample)
    return [f"{wanted['EndpointName']} serves version {wanted['Version']}, as expected", *lines]


@contextmanager
def served_package(
    context: typer.Context, stage: str, version: int | None = None
) -> "Iterator[tuple[Aws, dict[str, str], Sample]]":
    """Context manager: check that a stage serves the version that its stack names, with the bytes that were registered.

    Yields (connection, outputs of the stack, a sample of users for that package). The arguments are those of
    `smoke_stage`.

    Raises UserError as `smoke_stage` does.
    """
    import tempfile

    from scarcegan.aws.accounts import STAGES, access_to_stage
    from scarcegan.release import smoke as smoking

    if stage not in STAGES:
        raise UserError(f"no stage '{stage}'. There are: {', '.join(STAGES)}.")
    with aws_and_registry(context) as (aws, registry), tempfile.TemporaryDirectory() as scratch:
        there = access_to_stage(aws, stage, "ask")
        wanted = smoking.verify_stage(there, stage, version)
        smoking.require_served_package(there, wanted, registry.arn(int(wanted["Version"])))
        folder = registry.export(int(wanted["Version"]), Path(scratch) / "package")
        yield there, wanted, smoking.sample_of(folder)


@release_app.command("load", epilog=example("scarcegan release load --url http://127.0.0.1:8080 --seconds 10"))
def load_command(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(help="staging; ignored with --url.")] = "staging",
    url: Server = "",
    package: ServedPackage = None,
    seconds: Annotated[int, typer.Option(min=1, max=300, help="For how long requests are sent.")] = 60,
    rate: Annotated[
        float | None,
        typer.Option(
            "--requests-per-second",
            min=0.1,
            max=200,
            help="Default: what production's scaling gives one instance (cloud.endpoint.invocations_per_instance).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send staging as many requests as one instance may get in production. Fails when errors or p99 would raise an
    alarm of the release. The deploy pipeline calls it before a person approves.
    """
    from scarcegan.release import load as loading

    project = workspace(context)
    result = load_url(project, url, package, seconds, rate) if url else load_stage(context, stage, seconds, rate)
    variables = project.root / "build" / "variables"
    variables.mkdir(parents=True, exist_ok=True)
    (variables / "LOAD").write_text(result.summary, encoding="utf-8")
    emit(asdict(result), as_json, result.lines())
    loading.require_passed(result)


def load_url(project: "Workspace", url: str, package: Path | None, seconds: int, rate: float | None) -> "LoadResult":
    """Run a load test against a server. The arguments are the verb's.

    Raises UserError when the server cannot be reached or does not answer single requests.
    """
    from scarcegan.release import load as loading
    from scarcegan.release import smoke as smoking

    plan = loading.plan_load(project.config.cloud.endpoint, "", seconds, rate)
    sample = sample_here(project, package)
    ask = loading.asker(smoking.sender_to_url(url, loading.LOAD_TEST, loading.TIMEOUT), sample)
    print_progress(f"asking {url} {plan.requests:,} times in {seconds} s")
    return loading.load_test_server(plan, ask, loading.Clock())


def load_stage(context: typer.Context, stage: str, seconds: int, rate: float | None) -> "LoadResult":
    """Run a load test against the endpoint of staging, after `served_package` has checked it. Arguments: the verb's.

    Raises UserError for production, whose users would wait, and as `served_package` and `warm_up` do.
    """
    from scarcegan.release import load as loading
    from scarcegan.release import smoke as smoking

    if stage == "production":
        raise UserError("production answers users, who would wait. Test staging: scarcegan release load staging")
    with served_package(context, stage) as (aws, wanted, sample):
        machine = loading.machine_of(smoking.variants(aws, wanted["EndpointConfigName"]))
        plan = loading.plan_load(workspace(context).config.cloud.endpoint, machine, seconds, rate)
        ask = loading.asker(loading.load_sender(aws, stage, plan.connections), sample)
        print_progress(f"asking {wanted['EndpointName']} {plan.requests:,} times in {seconds} s, then CloudWatch")
        return loading.load_test_stage(aws, stage, plan, ask, loading.Clock())


@release_app.command("promote", epilog=example("scarcegan release promote 5"))
def promote_command(
    context: typer.Context,
    version: Annotated[int, typer.Argument(min=1, help="The version that production serves.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make the model in production the champion. Fails unless production serves VERSION. Scoring uses the champion, and
    new models are compared with it.
    """
    from scarcegan.release import release as releasing

    with aws_and_registry(context) as (aws, registry):
        package = releasing.promote_served_version(aws, registry, version, dry_run)
    verb = "would be" if dry_run else "is"
    emit(asdict(package), as_json, [f"version {version} ({package.definition}) {verb} the champion"])


@release_app.command("status", epilog=example("scarcegan release status --json"))
def release_status_command(context: typer.Context, as_json: AsJson = False) -> None:
    """Show which version each stage serves. Also whether its endpoint is in service."""
    from scarcegan.release import release as releasing

    with aws_and_registry(context) as (aws, _):
        found = releasing.stage_statuses(aws)
    emit(found, as_json, table_lines(found, ("stage", "version", "endpoint", "state")))
