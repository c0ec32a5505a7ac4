"""The verbs doctor and teardown: what would fail before anything is made, and the way back. boto3 only with --cloud."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scarcegan.cli.cloud import aws_connection
from scarcegan.cli.console import AsJson, DryRun, emit, example, print_progress, workspace
from scarcegan.cli.toolchain import pairs
from scarcegan.errors import USER_ERROR, UserError

if TYPE_CHECKING:
    from scarcegan.aws.findings import Finding

operations_app = typer.Typer()


@operations_app.command("doctor", epilog=example("scarcegan doctor --cloud"))
def doctor_command(
    context: typer.Context,
    cloud: Annotated[bool, typer.Option("--cloud", help="Look at the AWS account too. Every call only reads.")] = False,
    repository: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="As for toolchain deploy; default: what is deployed.")
    ] = None,
    connection_arn: Annotated[
        str | None, typer.Option(metavar="ARN", help="As for toolchain deploy; default: what is deployed.")
    ] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter, as for toolchain deploy.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find what would fail, before anything is made. Says how to correct it. Exit code: 2 when something would fail."""
    from scarcegan.aws.findings import WOULD_FAIL
    from scarcegan.doctor import examine

    options = {"Repository": repository, "ConnectionArn": connection_arn}
    given = {**pairs(values or []), **{name: value for name, value in options.items() if value is not None}}
    if given and not cloud:
        raise UserError("--repository, --connection-arn and --set are about AWS. Type: scarcegan doctor --cloud …")
    found: list[Finding] = []
    for finding in examine(context.obj, cloud, given):
        found.append(finding)
        if not as_json:
            print("\n".join(finding_lines(finding)), flush=True)
    bad = [finding for finding in found if finding.state == WOULD_FAIL]
    about, lines = cost_of(context, found) if cloud else (None, [])
    summary = f"{len(bad)} of {len(found)} would fail" if bad else f"{len(found)} checks, none would fail"
    described: dict[str, Any] = {"findings": [asdict(finding) for finding in found], "would_fail": len(bad)}
    emit({**described, **({"costs": about} if about else {})}, as_json, [*lines, summary])
    raise typer.Exit(USER_ERROR if bad else 0)


def finding_lines(finding: "Finding") -> list[str]:
    """Return a finding as lines of text: state, check and fact; below them what to do."""
    head = f"{finding.state:<14}  {finding.check}: {finding.found}"
    return [head, f"{'':<14}    -> {finding.fix}"] if finding.fix else [head]


def cost_of(context: typer.Context, found: "Sequence[Finding]") -> tuple[Any, list[str]]:
    """Return the estimate of the costs, as values and as lines; (None, []) when config.yaml is not valid."""
    from scarcegan.aws import prices
    from scarcegan.aws.findings import OK

    if not any(finding.check == "config.yaml" and finding.state == OK for finding in found):
        return None, []
    estimate = prices.estimate(workspace(context).config, prices.load_prices())
    return estimate.describe(), prices.cost_lines(estimate)


@operations_app.command("teardown", epilog=example("scarcegan teardown --cloud --dry-run"))
def teardown_command(
    context: typer.Context,
    cloud: Annotated[bool, typer.Option("--cloud", help="Must be given: only AWS is taken down.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the project's name.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take the project down in AWS. Prints the plan, asks for the project's name, then acts; names what stays."""
    from scarcegan.aws import teardown

    if not cloud:
        raise UserError(
            "teardown takes down what is in AWS. Type: scarcegan teardown --cloud --dry-run. On this machine, delete "
            "the folder of runs."
        )
    project = workspace(context).config.project.name
    with aws_connection(context) as aws:
        config = workspace(context).config
        plan = teardown.plan_teardown(aws, config)
        if not (as_json and dry_run):
            print("\n".join(teardown.plan_lines(plan)), file=sys.stderr if as_json else sys.stdout, flush=True)
        if dry_run or not plan.removals:
            emit(plan.describe(), as_json, ["Nothing was removed."])
            return
        if not yes:
            require_name(project)
        teardown.carry_out(plan, aws, print_progress)
        left = list(teardown.what_stays(aws, config))
    emit({**plan.describe(), "left": [asdict(one) for one in left]}, as_json, ["", *teardown.left_lines(left)])


def require_name(project: str) -> None:
    """Ask, on stderr, for the name of the project, and read it from stdin.

    Raises UserError for anything else.
    """
    print(f"Type the project's name, {project}, to remove all of this: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != project:
        raise UserError(f"that is not {project}, so nothing was removed. Without a terminal, give --yes.")
