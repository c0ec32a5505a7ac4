"""Publish the template to SageMaker Studio. README.md says what to type when.

validate -> package -> publish, by Service Catalog, by S3 or both; then which version is offered. Every verb that
changes something in AWS makes a plan first: --dry-run prints it as commands of the AWS CLI, the real run walks it.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE)]

import account  # noqa: E402  (siblings of a script that is run by its path)
import versions  # noqa: E402
from acts import Act, Aws, Call, UserError, refusals_as_sentences, walk  # noqa: E402

OUT = ROOT / "build/service_catalog"
ODD = {"project_name": "naïve 日本語 'x' $HOME", "project_slug": "odd", "team": "a/b", "negative_classes": "normal"}
QUICK_TESTS = ("tests/test_bake.py", "tests/test_hooks.py")


def say(words: str) -> None:
    """Print a line for people; stdout is for plans and results."""
    print(words, file=sys.stderr, flush=True)


# -- validate ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One check of the template. command: what runs it; tool: what must be installed for it, "" for none."""

    name: str
    command: Sequence[str]
    tool: str = ""


def checks(scratch: Path) -> Iterator[Check]:
    """What is checked before a version is published. scratch: an empty folder for generated projects."""
    folder, kind = "service_catalog", "cloudformation"
    templates = sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob("*.yaml"))
    yield Check("CloudFormation accepts the templates", [tool("cfn-lint"), *templates], "cfn-lint")
    checkov = [tool("checkov"), "--directory", folder, "--framework", kind, "--skip-download", "--quiet", "--compact"]
    yield Check("the templates are closed and encrypted", checkov, "checkov")
    yield Check("a project can be generated", [sys.executable, "-B", "bake.py", str(scratch / "default")])
    yield Check("… also from odd answers", [sys.executable, "-B", "-c", BAKE_ODD, str(scratch / "odd")])
    tests = [sys.executable, "-B", "-m", "pytest", "-q", *QUICK_TESTS]
    yield Check("the template's quick tests pass", tests, "pytest")


BAKE_ODD = f"import sys; from pathlib import Path; from bake import bake; bake(Path(sys.argv[1]), {ODD!r})"


def tool(name: str) -> str:
    """The path of a tool beside this Python, or on the path; its name where there is none."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.is_file() else shutil.which(name) or name


def is_installed(check: Check) -> bool:
    """Whether what runs a check is there: a module of this Python, or a program."""
    return bool(importlib.util.find_spec(check.tool) if "-m" in check.command else shutil.which(check.command[0]))


def validate(run: Callable[..., "subprocess.CompletedProcess[str]"] = subprocess.run) -> None:
    """Run the checks; name a tool that is not installed. Raises UserError with the words of the first that fails."""
    with tempfile.TemporaryDirectory() as scratch:
        for check in checks(Path(scratch)):
            if check.tool and not is_installed(check):
                say(f"not checked, as {check.tool} is not installed: {check.name}")
                continue
            say(check.name)
            done = run(check.command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
                raise UserError(f"this is not so: {check.name}. {' '.join(check.command[:4])} says:\n{said}")


# -- the verbs --------------------------------------------------------------------------------------------------------


def package_of(arguments: argparse.Namespace) -> versions.Package:
    """Build the version of this checkout. A dry run downloads nothing, and notes what a real run refuses."""
    version = versions.version_of(ROOT)
    try:
        commit = versions.commit_of(ROOT, version)
    except UserError as error:
        if not arguments.dry_run:
            raise
        say(f"A real run stops here: {error}")
        commit = versions.git(ROOT, "rev-parse", "HEAD")
    return versions.build(ROOT, version, commit, OUT / version, fetch=not arguments.dry_run)


def state_of(
    aws: Aws, arguments: argparse.Namespace, package: versions.Package | None = None, *, only_stack: bool = False
) -> versions.State:
    """Ask what is published. A dry run without credentials assumes that nothing is."""
    if arguments.dry_run and not aws.has_credentials:
        say("Without credentials, the plan is that of an account in which nothing is published.")
        return versions.unknown_state(aws)
    if only_stack:
        return versions.read_stack(aws)
    keys = [*package.files, package.handler[0], package.buildspec[0]] if package else []
    return versions.read_state(aws, keys)


def act(plan: Sequence[Act], aws: Aws, arguments: argparse.Namespace) -> None:
    """Print a plan, or walk it."""
    if not plan:
        say("Nothing is to be done: it is so already.")
    elif arguments.dry_run:
        print(as_script(plan, aws))
    else:
        walk(plan, aws, say)


def as_script(plan: Sequence[Act], aws: Aws) -> str:
    """A plan as commands for a shell. None runs after one that failed, and none of a plan that is to be read only.

    They go to a bash of their own: `set -e` would close the terminal, and zsh takes no comment between commands.
    """
    why = why_to_read_only(plan, aws)
    lines = [
        *([f"# To read, not to paste: {why}"] if why else []),
        "bash -eo pipefail <<'END'",
        *(["exit 1"] if why else []),
        f"export AWS_REGION={aws.region} AWS_DEFAULT_REGION={aws.region}",  # of the AWS CLI's versions 2 and 1
        *(f"# {step.why}\n{step.command()}" for step in plan),
        "END",
    ]
    return "\n".join(lines)


def why_to_read_only(plan: Sequence[Act], aws: Aws) -> str:
    """Why a plan's commands would not do what they say, and the next move; "" for commands that would."""
    if not aws.has_credentials:
        return "without credentials, account and product are not known. Log in, then type the same again."
    files = [value for step in plan if isinstance(step, Call) for value in step.parameters.values()]
    if any(isinstance(file, Path) and not file.is_file() for file in files):
        return "the wheels are not downloaded. Type: publish.py package, then the same again."
    return ""


def package_verb(arguments: argparse.Namespace) -> None:
    made = package_of(arguments)
    for key, path in [*made.files.items(), made.handler, made.buildspec]:
        print(f"{path.relative_to(ROOT)}  ->  {key}")


def logged_in(arguments: argparse.Namespace) -> Aws:
    """The account. A real run asks who it is, so that whoever is not logged in learns it before minutes of work."""
    aws = Aws(arguments.region)
    if not arguments.dry_run:
        say(f"account {aws.client('sts').get_caller_identity()['Account']}, region {aws.region}")
    return aws


def check_first(arguments: argparse.Namespace) -> None:
    """Validate the template. A dry run says what would be checked."""
    if arguments.dry_run:
        say("A real run checks first: " + "; ".join(check.name for check in checks(Path())))
    else:
        validate()


def publish_verb(arguments: argparse.Namespace) -> None:
    aws = logged_in(arguments)
    check_first(arguments)
    package = package_of(arguments)
    state = state_of(aws, arguments, package)
    routes = versions.ROUTES if arguments.route == "both" else (arguments.route,)
    plan = versions.plan_publish(package, state, aws.region, routes)
    name_missing_tags([*state.versions, package.version])
    act(plan, aws, arguments)


def name_missing_tags(published: Sequence[str]) -> None:
    """Say which versions this clone has no tag of, as the bundle leaves them out."""
    missing = [f"v{version}" for version in dict.fromkeys(published) if not versions.tagged_commit(ROOT, version)]
    if missing:
        say(
            f"No tag here: {', '.join(missing)}. Without it a later {versions.BUNDLE} lacks that version, and projects "
            "that have it may get no updates. Type git fetch --tags; or tag the commit, which the version's "
            "description in Service Catalog names, and push the tag."
        )


def version_verb(arguments: argparse.Namespace) -> None:
    aws = Aws(arguments.region)
    act(plan_of(arguments, versions.read_state(aws)), aws, arguments)


def plan_of(arguments: argparse.Namespace, state: versions.State) -> list[Act]:
    """Plan a verb, with the bundle where that has other versions as withdrawn than there will be."""
    if arguments.verb == "roll-back":  # the bundle first: after the rest, the same command would go back further
        plan = versions.plan_roll_back(state)
        return [*bundle_without(state.withdrawn, state), *plan]
    version = arguments.version
    if arguments.verb == "withdraw":
        plan = versions.plan_state(version, versions.WITHDRAWN, state)
        return [*plan, *bundle_without(state.withdrawn | {version}, state, also_for_tags=True)]
    default = arguments.verb == "make-default"
    plan = versions.plan_default(version, state) if default else versions.plan_state(version, versions.KEPT, state)
    return [*plan, *bundle_without(state.withdrawn - {version}, state)]


def bundle_without(withdrawn: frozenset[str], state: versions.State, *, also_for_tags: bool = False) -> list[Act]:
    """Plan the bundle without these versions. One that cannot be made does not keep the rest from being done.

    - also_for_tags: replace one that has the same versions as withdrawn, but other tags than this clone.
    """
    if not state.bundle.etag or (withdrawn == state.bundle.withdrawn and not also_for_tags):
        return []
    name_missing_tags(state.versions)
    try:
        return versions.plan_bundle_without(withdrawn, state, ROOT, OUT / versions.BUNDLE)
    except UserError as error:
        say(f"{versions.BUNDLE} stays as it is, and builds of projects follow it: {error}")
        return []


def list_verb(arguments: argparse.Namespace) -> None:
    aws = Aws(arguments.region)
    state = versions.read_state(aws)
    if not state.bucket:
        raise UserError("this account has no administration yet. Type: publish.py administration deploy --dry-run")
    print(f"{'version':<12}{'Service Catalog':<18}S3")
    for version in reversed(state.versions):
        artifact = state.artifacts.get(version)
        row = f"{version:<12}{artifact.state if artifact else '-':<18}{state.template(version):<15}"
        print(f"{row}{unfinished(version, state)}".rstrip())
    if state.strays:
        say(f"Left alone, as they are no versions such as 1.4.0: {', '.join(state.strays)}.")


def unfinished(version: str, state: versions.State) -> str:
    """What a killed command left half done with a version, and the commands that end it; "" for nothing."""
    if state.is_half_withdrawn(version):
        return f"half withdrawn: publish.py withdraw {version} completes it, make-default {version} brings it back"
    if not state.bundle.etag or state.is_withdrawn(version) == (version in state.bundle.withdrawn):
        return ""
    if state.is_withdrawn(version):
        return f"not withdrawn in {versions.BUNDLE}: publish.py withdraw {version}"
    verb = "make-default" if state.is_offered(version) else "deprecate"
    return f"withdrawn in {versions.BUNDLE}: publish.py {verb} {version}"


def deploy_verb(arguments: argparse.Namespace) -> None:
    aws = logged_in(arguments)
    given = {
        "Owner": arguments.owner,
        "CostCenter": arguments.cost_center,
        "HubAccountId": arguments.hub,
        "PortfolioId": arguments.portfolio,
        "SpokeAccountIds": ",".join(arguments.spoke or ()) or None,
        "TemplateRepositoryUrl": arguments.template_repository,
        "UpdateSchedule": arguments.update_schedule,
        "LogDays": arguments.log_days,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    chosen |= account.studio_roles(arguments.studio_role or ())
    package = package_of(arguments)
    state = state_of(aws, arguments, package)
    plan = account.plan_deploy(package, state, chosen, aws)
    if account.publishes(plan, package):
        check_first(arguments)
        name_missing_tags([*state.versions, package.version])
    if not (chosen.get("StudioRoleArns") or state.parameters.get("StudioRoleArns")):
        say("No --studio-role: nobody sees the product in Studio. Deploy with the execution role, now or later.")
    act(plan, aws, arguments)
    if not arguments.dry_run:
        for name, value in account.outputs_of(aws).items():
            print(f"{name:<22}{value}")


def domain_verb(arguments: argparse.Namespace) -> None:
    aws = Aws(arguments.region)
    state = state_of(aws, arguments)
    if not state.bucket:
        raise UserError("this account has no administration yet. Type: publish.py administration deploy --dry-run")
    tags = account.domain_tags(arguments.domain, aws) if state.known else {}
    act(account.plan_domain(arguments.domain, tags, state, aws), aws, arguments)


def teardown_verb(arguments: argparse.Namespace) -> None:
    aws = Aws(arguments.region)
    state = state_of(aws, arguments, only_stack=True)  # a teardown that was stopped may have deleted the rest
    roles = account.bounded_roles(aws) if state.known else []
    if not state.known:
        say("A real run refuses while a role of a project is left, and names the projects.")
    plan = account.plan_teardown(roles, arguments.domain or (), state, aws, with_templates=arguments.templates)
    act(plan, aws, arguments)
    say("These stay: " + "; ".join(account.what_stays(state, with_templates=arguments.templates)) + ".")


# -- the command line -------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="publish.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str,
        run: Callable[[argparse.Namespace], None],
        words: str,
        within: Any = verbs,
    ) -> argparse.ArgumentParser:
        made = within.add_parser(name, help=words, description=words)
        made.set_defaults(run=run, dry_run=False)
        made.add_argument("--region", default="", metavar="REGION", help="otherwise the one of your AWS profile")
        return made

    def changes(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made.add_argument("--dry-run", action="store_true", help="print the plan as commands; change nothing")
        return made

    verb("validate", lambda _: validate(), "Lint the templates, generate projects, run the quick tests.")
    changes(verb("package", package_verb, "Write this checkout's version into build/service_catalog."))
    published = changes(verb("publish", publish_verb, "Validate, package and publish this checkout's version."))
    published.add_argument("--route", choices=["both", *versions.ROUTES], default="both", help="default: both")
    verb("list", list_verb, "Show which versions are published, and whether they are offered.")
    for name, words in (
        ("make-default", "Offer this version only; the others stay for updates."),
        ("deprecate", "Keep a version for projects that have it; new projects do not get it."),
        ("withdraw", "Take a version away; nobody can choose it or update to it."),
    ):
        changes(verb(name, version_verb, words)).add_argument("version", type=number, metavar="VERSION")
    changes(verb("roll-back", version_verb, "Offer the version before the newest offered one."))

    group = verbs.add_parser("administration", help="Deploy what an account needs, once; take it down.")
    parts = group.add_subparsers(dest="part", required=True, metavar="VERB")
    deploy = changes(verb("deploy", deploy_verb, "Create or update the stack; what is not given stays.", parts))
    deploy.add_argument("--studio-role", action="append", metavar="ARN", help="execution role of Studio; repeat it")
    deploy.add_argument(
        "--template-repository", metavar="URL", help="where projects find later versions; otherwise the bucket's bundle"
    )
    deploy.add_argument("--update-schedule", metavar="RATE", help="how often they look; 'rate(7 days)' without it")
    deploy.add_argument("--owner", metavar="NAME", help="who offers the product")
    deploy.add_argument("--cost-center", metavar="TEXT", help="tag of what Service Catalog creates")
    deploy.add_argument("--log-days", metavar="DAYS", help="how long logs of the seed are kept")
    deploy.add_argument("--spoke", action="append", metavar="ACCOUNT", help="account that uses the product; repeat it")
    deploy.add_argument("--hub", metavar="ACCOUNT", help="make this account a spoke of that one")
    deploy.add_argument("--portfolio", metavar="ID", help="the hub's portfolio, in a spoke")
    shown = changes(verb("show-in-domain", domain_verb, "Show the templates in S3 to the users of a domain.", parts))
    shown.add_argument("domain", metavar="DOMAIN")
    down = changes(verb("teardown", teardown_verb, "Take the administration down, once no project is left.", parts))
    down.add_argument("--domain", action="append", metavar="DOMAIN", help="domain that shows the templates; repeat it")
    down.add_argument("--templates", action="store_true", help="delete the bucket of templates too")
    return top


def number(text: str) -> str:
    if not re.fullmatch(versions.NUMBER, text):
        raise argparse.ArgumentTypeError(f"'{text}' is no version such as 1.4.0")
    return text


def main(words: Sequence[str]) -> int:
    """Do what is typed. Returns the exit code."""
    arguments = parser().parse_args(words)
    try:
        with refusals_as_sentences():
            arguments.run(arguments)
    except UserError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
