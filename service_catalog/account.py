"""The administration of an account: plans to deploy it, to show its templates in Studio, and to take it down.

What it consists of is in administration.yaml.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from acts import STACK, Act, Aws, Call, DeleteBucket, DeleteStack, DeployStack, UserError, find_stack
from versions import Package, State, bucket_name, module_at, plan_files, upload

TEMPLATE = Path(__file__).resolve().with_name("administration.yaml")
LOCATION = "sagemaker:projectS3TemplatesLocation"  # one per domain
SCHEDULE = TEMPLATE.parents[1] / "<<cookiecutter.project_slug>>/src/scarcegan/pipeline/schedule.py"
OPTIONS = {  # parameter of administration.yaml -> what publish.py calls it
    "StudioRoleArns": "--studio-role",
    "TemplateRepositoryUrl": "--template-repository",
    "UpdateSchedule": "--update-schedule",
    "Owner": "--owner",
    "CostCenter": "--cost-center",
    "LogDays": "--log-days",
    "SpokeAccountIds": "--spoke",
    "HubAccountId": "--hub",
    "PortfolioId": "--portfolio",
}


def plan_deploy(package: Package, state: State, given: Mapping[str, str], aws: Aws) -> list[Act]:
    """Return the acts that deploy the administration, with a version of the template as the product's first one.

    - given: parameter of administration.yaml -> value. What is not given keeps its value in AWS.

    Raises UserError for parameters that do not fit together, and for a first deployment without those that it needs.
    """
    kept = dict(state.parameters)
    hub = given.get("HubAccountId") or kept.get("HubAccountId") or aws.account
    is_hub = hub == aws.account
    refuse_values(given, aws.account)
    refuse_parameters({**kept, **given}, is_hub)
    bucket = bucket_name(aws, hub)
    seed = {"HandlerKey": package.handler[0], "BuildspecKey": package.buildspec[0]}
    wanted = {**given, "HubAccountId": hub}
    if not is_hub:
        return [DeployStack(f"account {aws.account} is a spoke of {hub}", TEMPLATE, {**wanted, **seed})]
    plan: list[Act] = []
    if not (state.bucket and state.known):
        plan.append(DeployStack("the bucket and the roles are there", TEMPLATE, wanted))
    there = replace(state, bucket=bucket)
    for key, path in (package.handler, package.buildspec):
        plan += upload(key, path, there, "The seed has other bytes under this name")
    first = kept.get("FirstVersion") or package.version
    if not kept.get("FirstVersion"):
        plan += plan_files(package, there)
    values = {**wanted, **seed, "FirstVersion": first}
    plan.append(DeployStack("the seed, the portfolio and the product are there", TEMPLATE, values))
    return plan


def publishes(plan: Sequence[Act], package: Package) -> bool:
    """Whether a plan uploads the version itself, as the first deployment does."""
    keys = [act.parameters.get("Key") for act in plan if isinstance(act, Call)]
    return package.template in keys


def refuse_values(given: Mapping[str, str], account: str) -> None:
    """Raises UserError for a value that administration.yaml refuses, or that AWS refuses where the stack is made."""
    declared = declared_parameters()
    for name, option in OPTIONS.items():
        value, about = given.get(name), declared[name]
        if value is None:
            continue
        taken = [str(one) for one in about.get("AllowedValues", [])]
        fits = about.get("MinLength", 0) <= len(value) <= about.get("MaxLength", 4096)
        if not (fits and re.fullmatch(about.get("AllowedPattern", ".*"), value)) or (taken and value not in taken):
            rule = about.get("ConstraintDescription") or (
                f"One of {', '.join(taken)}" if taken else about["Description"]
            )
            raise UserError(f"{option}: '{value}' is refused. {rule.removeprefix('Optional. ').rstrip('.')}.")
    for name in ("StudioRoleArns", "SpokeAccountIds"):
        values = given.get(name, "").split(",")
        for value in values:
            if value and values.count(value) > 1:
                raise UserError(f"{OPTIONS[name]} {value} is given twice. Name each once.")
    if account in given.get("SpokeAccountIds", "").split(","):
        raise UserError(f"--spoke {account} is this account, the hub, which needs no share. Leave it out.")
    why = update_schedule_problem(given.get("UpdateSchedule", ""))
    if why:
        raise UserError(f"--update-schedule '{given['UpdateSchedule']}': {why}.")


def declared_parameters() -> dict[str, dict[str, Any]]:
    """The parameters of administration.yaml with their rules. Raises UserError without PyYAML."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise UserError("PyYAML is not installed. Type: python -m pip install cookiecutter, which brings it") from None

    class Loader(yaml.SafeLoader):
        """CloudFormation's functions come to nothing; no parameter has one."""

    Loader.add_multi_constructor("!", lambda *_: None)
    return dict(yaml.load(TEMPLATE.read_text(encoding="utf-8"), Loader)["Parameters"])


def update_schedule_problem(schedule: str) -> str:
    """Why a schedule is refused, as the end of a sentence, by the rule of every project; "" for one that is taken."""
    return str(module_at(SCHEDULE).rule_schedule_problem(schedule)) if schedule else ""


def refuse_parameters(values: Mapping[str, str], is_hub: bool) -> None:
    """Raises UserError for parameters of administration.yaml that a hub or a spoke cannot have, or lacks."""
    if is_hub and values.get("PortfolioId", "none") != "none":
        raise UserError("--portfolio is for a spoke. Name the hub's account too, with --hub.")
    if not is_hub and values.get("PortfolioId", "none") == "none":
        raise UserError("a spoke needs --portfolio: the output PortfolioId of the hub's stack.")
    if not is_hub and values.get("SpokeAccountIds"):
        raise UserError("a spoke has no spokes. Name all of them with --spoke in the hub.")


def studio_roles(arns: Sequence[str]) -> dict[str, str]:
    """Return the parameters that name Studio's execution roles. Raises UserError for what is no ARN of a role."""
    for arn in arns:
        if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", arn, re.ASCII):
            raise UserError(f"--studio-role {arn}: no ARN of a role. The domain's page in the console shows it.")
    if len(arns) > 3:
        raise UserError(f"{len(arns)} roles are given; the stack takes three. README, 'More than three', has the way.")
    names = [arn.rpartition("/")[2] for arn in arns]
    return {"StudioRoleArns": ",".join(arns), "StudioRoleNames": ",".join(names)} if arns else {}


def plan_domain(domain: str, tags: Mapping[str, str], state: State, aws: Aws) -> list[Act]:
    """Return the act after which Studio shows the templates in S3 to a domain's users; none when it does.

    - domain: its id, such as d-abc123.
    - tags: of the domain.

    Raises UserError when the domain shows other templates: it has one location only.
    """
    location = f"s3://{state.bucket}/projects/"
    shown = tags.get(LOCATION, location)
    if shown != location:
        raise UserError(
            f"the domain {domain} shows the templates in {shown} already, and it takes one location. Keep to Service "
            f"Catalog, or delete its tag {LOCATION} first."
        )
    if LOCATION in tags:
        return []
    asked = {"ResourceArn": aws.arn("sagemaker", f"domain/{domain}"), "Tags": [{"Key": LOCATION, "Value": location}]}
    return [Call(f"{domain} shows the templates in {location}", "sagemaker", "add_tags", asked)]


def domain_tags(domain: str, aws: Aws) -> dict[str, str]:
    """Ask AWS for the tags of a domain."""
    pages = (
        aws.client("sagemaker")
        .get_paginator("list_tags")
        .paginate(ResourceArn=aws.arn("sagemaker", f"domain/{domain}"))
    )
    return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}


def bounded_roles(aws: Aws) -> list[str]:
    """Ask AWS which roles carry the boundary: those of the projects that there are. Without a boundary, none.

    Raises botocore's ClientError when that may not be asked.
    """
    iam = aws.client("iam")
    policy = f"arn:{aws.partition}:iam::{aws.account}:policy/scarcegan-projects-{aws.region}-boundary"
    asked = {"PolicyArn": policy, "EntityFilter": "Role", "PolicyUsageFilter": "PermissionsBoundary"}
    pages = iam.get_paginator("list_entities_for_policy").paginate(**asked)
    try:
        return sorted(role["RoleName"] for page in pages for role in page["PolicyRoles"])
    except iam.exceptions.NoSuchEntityException:  # deleted by a teardown that was stopped
        return []


def plan_teardown(
    roles: Sequence[str], tagged: Sequence[str], state: State, aws: Aws, *, with_templates: bool
) -> list[Act]:
    """Return the acts that take the administration down.

    - roles: that carry the boundary.
    - tagged: ids of domains that show the templates in S3.
    - with_templates: delete the bucket too, also when the stack is gone already.

    Raises UserError while there are projects: nobody could update or delete them any more.
    """
    if roles:
        projects = sorted({re.sub(rf"-{re.escape(aws.region)}-[a-z-]+$", "", role) for role in roles})
        raise UserError(
            f"there are projects still ({', '.join(projects)}). Delete them in Studio first; a role of theirs that is "
            "left carries the boundary, so delete it too."
        )
    if state.known and not state.stack and not with_templates:
        raise UserError(f"there is no stack {STACK} in {aws.region} (account {aws.account}). Nothing is to be done.")
    plan: list[Act] = []
    for domain in tagged:
        asked = {"ResourceArn": aws.arn("sagemaker", f"domain/{domain}"), "TagKeys": [LOCATION]}
        plan.append(Call(f"{domain} shows no templates in S3", "sagemaker", "delete_tags", asked))
    plan.append(DeleteStack("portfolio, product, seed and roles are gone"))
    is_hub = state.parameters.get("HubAccountId", aws.account) == aws.account
    if with_templates and is_hub:
        plan.append(DeleteBucket("the bucket of templates is gone", bucket_name(aws)))
    return plan


def what_stays(state: State, *, with_templates: bool) -> list[str]:
    """Sentences about what a teardown leaves."""
    kept = [f"the bucket {state.bucket} with every template (--templates deletes it)"]
    bucket = kept if state.bucket and not with_templates else []
    return [*bucket, "the repositories, models and data of every project", "the spokes' stacks, each for its account"]


def outputs_of(aws: Aws) -> dict[str, str]:
    """The outputs of the administration's stack."""
    return {item["OutputKey"]: item["OutputValue"] for item in (find_stack(aws) or {}).get("Outputs", [])}
