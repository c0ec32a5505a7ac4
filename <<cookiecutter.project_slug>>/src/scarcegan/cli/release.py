"""The verb `release` with prepare, smoke, promote, status and --rollback. The work is done in release/."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scarcegan.cli.console import AsJson, DryRun, emit, example, table_lines, workspace
from scarcegan.errors import UserError

if TYPE_CHECKING:
    from scarcegan.aws.client import Aws
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry

release_app = typer.Typer(
    help="Deploy an approved model to staging and production. Or an earlier one again.", rich_markup_mode=None
)


@contextmanager
def aws_and_registry(context: typer.Context) -> "Iterator[tuple[Aws, SageMakerRegistry]]":
    """Context manager: connect to AWS for the project, and yield (connection, model registry in SageMaker).

    - context: of the verb, from typer; its `obj` is the path of config.yaml.

    Raises UserError when config.yaml is missing or has a bad value, when the connection is refused as `connect_to_aws`
    describes, and for errors of AWS inside the block that a user can act on, such as missing credentials.
    """
    from scarcegan.aws import client

    config = workspace(context).config
    with client.errors_as_sentences(config):
        from scarcegan.registry.sagemaker.registry import SageMakerRegistry

        aws = client.connect_to_aws(config)
        yield aws, SageMakerRegistry(aws.names, config.project.model_package_group, aws.session)


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

    project = workspace(context)
    with aws_and_registry(context) as (aws, registry):
        if dry_run:
            package = releasing.approved_package(registry, version)
            print(f"version {package.version} ({package.definition}) would be released")
            return
        moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        project_id = os.environ.get("SAGEMAKER_PROJECT_ID", "")
        prepared = releasing.prepare_release(aws, registry, project.config, version, moment, project_id)
    written = releasing.write_release(prepared, project.root / "build")
    for name, value in prepared.variables.items():
        print(f"{name}={value}")
    print(f"wrote {', '.join(project.show(path) for path in written)}", file=sys.stderr)


@release_app.command("smoke", epilog=example("scarcegan release smoke staging"))
def smoke_command(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(help="staging or production; ignored with --url.")] = "staging",
    version: Annotated[int | None, typer.Option(min=1, help="Fail unless the stage serves this version.")] = None,
    url: Annotated[str, typer.Option(help="Test this server instead, such as one of `scarcegan serve`.")] = "",
    package: Annotated[
        Path | None, typer.Option(help="Folder of the package that --url serves; default: the champion's.")
    ] = None,
) -> None:
    """Send requests to an endpoint and check the answers. Fails unless it serves the expected model."""
    from scarcegan.release import smoke as smoking

    if url:
        project = workspace(context)
        folder = project.path(package) if package else project.exported(project.package(None))
        lines = smoking.run_smoke_test(smoking.sender_to_url(url), smoking.sample_of(folder))
    else:
        lines = smoke_stage(context, stage, version)
    print("\n".join(lines))


def smoke_stage(context: typer.Context, stage: str, version: int | None) -> list[str]:
    """Check that the endpoint of a stage serves the package of the version that its CloudFormation stack names, with
    the bytes that were registered, then check its answers.

    Returns lines for people.

    - context: of the verb, from typer; its `obj` is the path of config.yaml.
    - stage: staging or production.
    - version: the version that it must serve; None accepts any.

    Raises UserError when a check fails or the stage is unknown, and as `aws_and_registry` does.
    """
    import tempfile

    from scarcegan.release import release as releasing
    from scarcegan.release import smoke as smoking

    if stage not in releasing.STAGES:
        raise UserError(f"no stage '{stage}'. There are: {', '.join(releasing.STAGES)}.")
    with aws_and_registry(context) as (aws, registry), tempfile.TemporaryDirectory() as scratch:
        wanted = smoking.verify_stage(aws, stage, version)
        smoking.require_served_package(aws, wanted, registry.arn(int(wanted["Version"])))
        folder = registry.export(int(wanted["Version"]), Path(scratch) / "package")
        lines = smoking.run_smoke_test(smoking.sender_to_stage(aws, stage), smoking.sample_of(folder))
    return [f"{wanted['EndpointName']} serves version {wanted['Version']}, as expected", *lines]


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
