"""The verb `release`: prepare, smoke, promote, status, and the way back. Part of main.py; see release/release.py."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scarcegan.cli.console import AsJson, DryRun, emit, example, table, workspace
from scarcegan.errors import UserError

if TYPE_CHECKING:
    from scarcegan.aws.client import Aws
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry

app = typer.Typer(
    help="Bring an approved model to staging and production. Or an earlier one back.", rich_markup_mode=None
)


@contextmanager
def door_and_registry(context: typer.Context) -> "Iterator[tuple[Aws, SageMakerRegistry]]":
    """The project's door to AWS and its model package group; what AWS refuses becomes a sentence."""
    from scarcegan.aws import client

    config = workspace(context).config
    with client.plainly(config):
        from scarcegan.registry.sagemaker.registry import SageMakerRegistry

        door = client.connect(config)
        yield door, SageMakerRegistry(door.names, config.project.model_package_group, door.session)


@app.callback(invoke_without_command=True, epilog=example("scarcegan release --rollback 5 --dry-run"))
def release(
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

    with door_and_registry(context) as (door, registry):
        request = releasing.roll_back(registry, door.names, rollback)
        execution = "" if dry_run else releasing.start_deploy(door, request)
    said = "would be started" if dry_run else f"has started, execution {execution}"
    lines = [f"{request['name']} {said}: version {rollback} goes to staging, then waits for you before production"]
    emit({**request, "execution": execution}, as_json, lines)


@app.command(epilog=example("scarcegan release prepare --version 5"))
def prepare(
    context: typer.Context,
    version: Annotated[str, typer.Option(help="Of an approved model; newest: the one approved last.")] = "newest",
    dry_run: DryRun = False,
) -> None:
    """Write the parameters of both stages for an approved model. Used by the deploy pipeline."""
    from scarcegan.release import release as releasing

    place = workspace(context)
    with door_and_registry(context) as (door, registry):
        if dry_run:
            package = releasing.choose(registry, version)
            print(f"version {package.version} ({package.definition}) would be released")
            return
        moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        project_id = os.environ.get("SAGEMAKER_PROJECT_ID", "")
        prepared = releasing.gather(door, registry, place.config, place.root, version, moment, project_id)
    written = releasing.write(prepared, place.root / "build")
    for name, value in prepared.variables.items():
        print(f"{name}={value}")
    print(f"wrote {', '.join(place.show(path) for path in written)}", file=sys.stderr)


@app.command(epilog=example("scarcegan release smoke staging"))
def smoke(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(help="staging or production; not looked at with --url.")] = "staging",
    version: Annotated[int | None, typer.Option(min=1, help="Fail unless the stage serves this version.")] = None,
    url: Annotated[str, typer.Option(help="Ask a server instead, such as `scarcegan serve`.")] = "",
    package: Annotated[
        Path | None, typer.Option(help="Folder of the package that answers at --url; default: the champion's.")
    ] = None,
) -> None:
    """Send real requests to an endpoint. Fails unless it answers well and runs the model that was wanted."""
    from scarcegan.release import smoke as smoking

    if url:
        place = workspace(context)
        folder = place.path(package) if package else place.exported(place.package(None))
        lines = smoking.smoke(smoking.server(url), smoking.sample_of(folder))
    else:
        lines = smoke_stage(context, stage, version)
    print("\n".join(lines))


def smoke_stage(context: typer.Context, stage: str, version: int | None) -> list[str]:
    """The smoke test of a stage in AWS: as its stack wants it, then real requests."""
    import tempfile

    from scarcegan.release import release as releasing
    from scarcegan.release import smoke as smoking

    if stage not in releasing.STAGES:
        raise UserError(f"no stage '{stage}'. There are: {', '.join(releasing.STAGES)}.")
    with door_and_registry(context) as (door, registry), tempfile.TemporaryDirectory() as place:
        wanted = smoking.verify(door, stage, version)
        folder = registry.export(int(wanted["Version"]), Path(place) / "package")
        lines = smoking.smoke(smoking.endpoint(door, stage), smoking.sample_of(folder))
    return [f"{wanted['EndpointName']} serves version {wanted['Version']}, as wanted", *lines]


@app.command(epilog=example("scarcegan release promote 5"))
def promote(
    context: typer.Context,
    version: Annotated[int, typer.Argument(min=1, help="The version that production serves.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make the model in production the champion. Scoring uses it, new models are compared with it."""
    from scarcegan.release import release as releasing

    with door_and_registry(context) as (door, registry):
        package = releasing.promote(door, registry, version, dry_run)
    said = "would be" if dry_run else "is"
    emit(asdict(package), as_json, [f"version {version} ({package.definition}) {said} the champion"])


@app.command(epilog=example("scarcegan release status --json"))
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show which version each stage serves, and whether it runs as wanted."""
    from scarcegan.release import release as releasing

    with door_and_registry(context) as (door, _):
        found = releasing.status(door)
    emit(found, as_json, table(found, ("stage", "version", "endpoint", "state")))
