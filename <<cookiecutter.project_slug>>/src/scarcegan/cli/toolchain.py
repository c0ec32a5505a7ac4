"""The verb `toolchain`: deploys the stacks in AWS that builds and deployments need. The work is in aws/toolchain.py."""

from collections.abc import Mapping
from typing import Annotated

import typer

from scarcegan.cli.console import AsJson, emit, example, print_progress, workspace
from scarcegan.errors import UserError, shortened

toolchain_app = typer.Typer(
    help="Create what everything else in AWS needs. Key, bucket, roles, CodePipelines.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Repository = Annotated[
    str | None, typer.Option(metavar="OWNER/NAME", help="Repository of the code; for CodeCommit its name only.")
]
ConnectionArn = Annotated[
    str | None, typer.Option(metavar="ARN", help="CodeConnections connection to GitHub, GitLab or Bitbucket.")
]
Parameters = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another parameter of infra/*.yaml.")
]


@toolchain_app.callback()
def toolchain_group() -> None:
    pass


@toolchain_app.command("deploy", epilog=example("scarcegan toolchain deploy --dry-run"))
def deploy_command(
    context: typer.Context,
    repository: Repository = None,
    connection_arn: ConnectionArn = None,
    notification_email: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Gets a message when a build or a deployment ends.")
    ] = None,
    values: Parameters = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the same as commands of the AWS CLI; write build/functions/*.zip for them."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create or update the toolchain's stacks. What is not given keeps its value; typed again, it changes nothing."""
    from scarcegan.aws import client
    from scarcegan.aws import toolchain as stacks
    from scarcegan.aws.parameter_rules import combination_problem
    from scarcegan.sagemaker import bundle

    project = workspace(context)
    options = {"Repository": repository, "ConnectionArn": connection_arn, "NotificationEmail": notification_email}
    given = given_parameters(values, options)
    folder = stacks.folder_in_repository(project.root)
    if folder is not None:
        given.setdefault("ProjectFolder", folder)
    plan = stacks.plan_toolchain(project.root, project.config, given, bundle.function_code(project.root))
    for note in filter(None, [*plan.notes, stacks.update_note(project.root, given.get("UpdateSchedule", ""))]):
        print_progress(note)
    if dry_run:
        for name in plan.ungiven:
            option = stacks.where_given(name)
            print_progress(f"{name} is not given. A first deployment needs {option}; a later one keeps its value.")
        account = client.planned_names(project.config).account
        if refused := combination_problem(plan.given, account):
            print_progress(f"For a first deployment, {refused}")
        stacks.write_function_files(plan, project.root)
        lines = stacks.shell_commands(plan)
        emit({**plan.describe(), "commands": "\n".join(lines)}, as_json, lines)
        return
    with client.errors_as_sentences(project.config):
        done = stacks.deploy_toolchain(plan, project.root, client.connect_to_aws(project.config), print_progress)
    width = max(len(name) for name in done["outputs"])
    lines = [f"{name:<{width}}  {value}" for name, value in done["outputs"].items()]
    emit(done, as_json, [*lines, "Next: git push, which starts the build pipeline"])


@toolchain_app.command(
    "deploy-target", epilog=example("scarcegan toolchain deploy-target production --profile acme-production --dry-run")
)
def deploy_target_command(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(help="staging or production, which has an account of its own.")],
    profile: Annotated[
        str,
        typer.Option(metavar="NAME", help="Profile of ~/.aws/config: an administrator of that account."),
    ],
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another parameter of infra/target.yaml.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the same as commands of the AWS CLI, change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prepare another account for the releases of a stage. Your usual credentials are the toolchain's."""
    from scarcegan.aws import accounts, client

    project = workspace(context)
    plan = accounts.plan_target(project.root, project.config, stage, given_parameters(values))
    if dry_run:
        lines = accounts.target_commands(plan, profile)
        emit({**plan.describe(), "commands": "\n".join(lines)}, as_json, lines)
        return
    with client.errors_as_sentences(project.config):
        aws = client.connect_to_aws(project.config)
        done = accounts.deploy_target(plan, stage, profile, project.root, aws, print_progress)
    lines = [f"{done['stack']} in account {done['account']}: {done['done']}"]
    emit(done, as_json, [*lines, "Next: approve a model; the deploy pipeline releases it there"])


def given_parameters(values: list[str] | None, options: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return template parameter -> value, as given on the command line.

    - values: texts NAME=VALUE of --set; the last one counts when a name is repeated.
    - options: template parameter -> value of its own option, which counts before --set; None: not given.

    Raises UserError for a text without "=".
    """
    for text in values or []:
        if "=" not in text:
            raise UserError(f"--set {shortened(text)}: write NAME=VALUE, such as VpcId=vpc-0a1b2c3d.")
    found = dict(text.split("=", 1) for text in values or [])
    return {**found, **{name: value for name, value in (options or {}).items() if value is not None}}
