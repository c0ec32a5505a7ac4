"""The verbs doctor, audit and teardown: what would fail, who did what, and the way back. boto3 only for AWS."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scarcegan.cli.cloud import aws_connection
from scarcegan.cli.console import AsJson, DryRun, emit, example, print_progress, table_lines, workspace
from scarcegan.cli.release import aws_and_registry
from scarcegan.cli.toolchain import ConnectionArn, Parameters, Repository, given_parameters
from scarcegan.errors import USER_ERROR, UserError
from scarcegan.terminal import on_one_line

if TYPE_CHECKING:
    from scarcegan.audit import Audit
    from scarcegan.aws.findings import Finding

operations_app = typer.Typer()


@operations_app.command("doctor", epilog=example("scarcegan doctor --cloud"))
def doctor_command(
    context: typer.Context,
    cloud: Annotated[bool, typer.Option("--cloud", help="Look at the AWS account too. Every call only reads.")] = False,
    repository: Repository = None,
    connection_arn: ConnectionArn = None,
    values: Parameters = None,
    as_json: AsJson = False,
) -> None:
    """Find what would fail, before anything is made. Says how to correct it; what is not given is as deployed. Exit
    code: 2 when something would fail.
    """
    from scarcegan.aws.findings import COULD_NOT_LOOK, WOULD_FAIL
    from scarcegan.doctor import examine

    given = given_parameters(values, {"Repository": repository, "ConnectionArn": connection_arn})
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
    if unseen := sum(finding.state == COULD_NOT_LOOK for finding in found):
        summary += f", {unseen} could not look"
    described: dict[str, Any] = {"findings": [asdict(finding) for finding in found], "would_fail": len(bad)}
    emit({**described, **({"costs": about} if about else {})}, as_json, [*lines, summary])
    raise typer.Exit(USER_ERROR if bad else 0)


def finding_lines(finding: "Finding") -> list[str]:
    """Return a finding as lines of text: state, check and fact; below them what to do."""
    found = finding.found.replace("\n", f"\n{'':<18}")  # words from elsewhere begin no line
    head = f"{finding.state:<14}  {finding.check}: {found}"
    return [head, f"{'':<14}    -> {finding.fix}"] if finding.fix else [head]


def cost_of(context: typer.Context, found: "Sequence[Finding]") -> tuple[Any, list[str]]:
    """Return the estimate of the costs, as values and as lines; (None, []) when config.yaml is not valid.

    Raises UserError when the table of prices is missing or damaged.
    """
    from scarcegan.aws import prices
    from scarcegan.aws.findings import OK

    if not any(finding.check == "config.yaml" and finding.state == OK for finding in found):
        return None, []
    project = workspace(context)
    estimate = prices.estimate(project.config, prices.load_prices(project.root))
    return estimate.describe(), prices.cost_lines(estimate)


@operations_app.command("audit", epilog=example("scarcegan audit --days 30"))
def audit_command(
    context: typer.Context,
    days: Annotated[int, typer.Option(min=1, max=36500, help="How far to look back.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Show who started, approved and released what in AWS. Only reads. Exit code: 2 when something does not fit."""
    from scarcegan import audit as auditing

    with aws_and_registry(context) as (aws, registry):
        found = auditing.audit(aws, registry, datetime.now(UTC) - timedelta(days=days))
    emit(found.describe(), as_json, audit_lines(found))
    raise typer.Exit(USER_ERROR if found.problems else 0)


def audit_lines(found: "Audit") -> list[str]:
    """Return an audit as lines of text: a table, then what does not fit, then what could not be seen."""
    from scarcegan.audit import minute, short_name

    rows = [{**asdict(act), "when_UTC": minute(act.at), "by": short_name(act.by)} for act in found.acts]
    lines = (
        table_lines(rows, ("when_UTC", "act", "what", "by", "details"))
        if rows
        else [f"nothing since {minute(found.since)}"]
    )
    for title, sentences in (("What does not fit:", found.problems), ("What is not known:", found.unknown)):
        lines += ["", title, *(f"- {on_one_line(sentence)}" for sentence in sentences)] if sentences else []
    return lines if found.problems else [*lines, "", "Nothing of what was seen contradicts itself."]


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
        left = [*plan.elsewhere, *teardown.what_stays(aws, config)]
    emit({**plan.describe(), "left": [asdict(one) for one in left]}, as_json, ["", *teardown.left_lines(left)])


def require_name(project: str) -> None:
    """Ask, on stderr, for the name of the project, and read it from stdin.

    Raises UserError for anything else.
    """
    print(f"Type the project's name, {project}, to remove all of this: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != project:
        raise UserError(f"that is not {project}, so nothing was removed. Without a terminal, give --yes.")
