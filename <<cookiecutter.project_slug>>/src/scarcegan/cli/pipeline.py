"""The verbs of the group `pipeline`: copies of the training pipeline in AWS, and its earlier versions.

The work is in sagemaker/copies.py and sagemaker/versions.py.
"""

from dataclasses import asdict
from typing import Annotated

import typer

from scarcegan.cli.cloud import OnePipeline, aws_connection
from scarcegan.cli.console import AsJson, DryRun, emit, example, print_progress, table_lines, workspace

pipeline_app = typer.Typer(
    help="Copy the training pipeline in AWS, or restore it. A copy tries a change out on a sample.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
CopyName = Annotated[str, typer.Argument(metavar="NAME", help="Of the copy: the pipeline is training-NAME.")]


@pipeline_app.callback()
def pipeline_group() -> None:
    pass


@pipeline_app.command("copy", epilog=example("scarcegan pipeline copy faster"))
def copy_command(context: typer.Context, name: CopyName, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Create or update a copy of the training pipeline. Runs on a sample, and registers no model."""
    from scarcegan.aws import client
    from scarcegan.sagemaker import copies, upsert

    project = workspace(context)
    if dry_run:
        plan = copies.plan_copy(project.root, project.config, client.planned_names(project.config), name)
        more = f"It reads {project.config.cloud.copy_sample:.0%} of the users without a label (cloud.copy_sample)."
        emit(plan.describe(), as_json, [*upsert.plan_lines(plan), "", more, "Nothing in AWS was read or changed."])
        return
    with aws_connection(context) as aws:
        plan = copies.plan_copy(project.root, upsert.with_volume_key(project.config, aws), aws.names, name)
        done = copies.write_copy(plan, aws, print_progress)
    lines = [f"{pipeline}: {what}" for pipeline, what in done["pipelines"].items()]
    emit(done, as_json, [*lines, f"Next: scarcegan start --pipeline training-{name}"])


@pipeline_app.command("copies", epilog=example("scarcegan pipeline copies"))
def copies_command(context: typer.Context, as_json: AsJson = False) -> None:
    """List the copies of the training pipeline in AWS."""
    from scarcegan.sagemaker import copies

    with aws_connection(context) as aws:
        found = copies.copies(aws)
    emit(found, as_json, found or ["There is no copy. Make one: scarcegan pipeline copy NAME"])


@pipeline_app.command("remove", epilog=example("scarcegan pipeline remove faster"))
def remove_command(context: typer.Context, name: CopyName, dry_run: DryRun = False) -> None:
    """Delete a copy of the training pipeline in AWS. Outputs of its executions stay in S3 until they expire."""
    from scarcegan.aws import client
    from scarcegan.sagemaker import copies

    pipeline = copies.copy_pipeline(name)
    if dry_run:
        deployed = client.planned_names(workspace(context).config).pipeline(pipeline)
        print(f"{deployed} would be deleted, unless an execution of it is running")
        return
    with aws_connection(context) as aws:
        print(f"{copies.remove_copy(aws, name)} is deleted")


@pipeline_app.command("versions", epilog=example("scarcegan pipeline versions"))
def versions_command(
    context: typer.Context,
    pipeline: OnePipeline = "training",
    newest: Annotated[int, typer.Option(min=1, max=100, help="How many to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """List the versions of a pipeline in AWS, newest first. Shows time, commit, code and last execution."""
    from scarcegan.errors import short
    from scarcegan.sagemaker import versions
    from scarcegan.sagemaker.pipelines import pipeline_of

    pipeline_of(pipeline, workspace(context).config)
    with aws_connection(context) as aws:
        found = [asdict(version) for version in versions.newest_versions(aws, pipeline, newest)]
    rows = [{**row, **{key: short(row[key]) for key in ("commit", "code")}} for row in found]
    emit(found, as_json, table_lines(rows, ("version", "created", "commit", "code", "execution")))


@pipeline_app.command("restore", epilog=example("scarcegan pipeline restore 3 --dry-run"))
def restore_command(
    context: typer.Context,
    version: Annotated[int, typer.Argument(min=1, help="As `scarcegan pipeline versions` lists it.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Restore an earlier version of the training pipeline. The next push replaces it."""
    from scarcegan.sagemaker import versions

    with aws_connection(context) as aws:
        plan = versions.plan_restoration(aws, version)
        if not dry_run:
            versions.restore(aws, plan)
    commit = plan.version.commit or "unknown"
    about = f"version {version} of {plan.pipeline} ({plan.version.created}, commit {commit})"
    if not plan.definition:
        lines = [f"{about} is what the newest version does already: nothing to do"]
    else:
        lines = [f"{about} {'would become' if dry_run else 'is'} the newest version. It changes:"]
        lines += [f"  {change}" for change in plan.changes]
        lines += ["The next push replaces it: undo the change in git too (git revert)."]
    emit({"restored": bool(plan.definition) and not dry_run, **asdict(plan)}, as_json, lines)
