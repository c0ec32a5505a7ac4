"""What an AWS account has and allows, checked before anything is created in it. Every call only reads.

`check_account` runs all checks. Each is a generator of findings and makes its own calls, so that one that the user may
not make does not hide what the others find.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scarcegan.aws import client, toolchain
from scarcegan.aws.accounts import PARAMETERS, accounts_of_stages, enter
from scarcegan.aws.client import Aws, none_if_missing
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WARNING, WOULD_FAIL, Finding, from_sentence, look
from scarcegan.aws.names import Names, project_tags
from scarcegan.aws.parameter_rules import combination_problem, connection_problem
from scarcegan.aws.quotas import (
    endpoint_machine,
    job_machines,
    quota_findings,
    refused_endpoint_machine,
    refused_machines,
)
from scarcegan.aws.stack_states import creation_was_undone, is_new, obstacle
from scarcegan.aws.vpc import vpc_findings
from scarcegan.aws.watch import watch_findings
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config

# CloudFormation's type of a resource of the toolchain -> the action that creates it, for whoever deploys.
# https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
CREATES = {
    "AWS::CloudWatch::Alarm": "cloudwatch:PutMetricAlarm",
    "AWS::CodeBuild::Project": "codebuild:CreateProject",
    "AWS::CodePipeline::Pipeline": "codepipeline:CreatePipeline",
    "AWS::Events::EventBusPolicy": "events:PutPermission",
    "AWS::Events::Rule": "events:PutRule",
    "AWS::IAM::Policy": "iam:PutRolePolicy",
    "AWS::IAM::Role": "iam:CreateRole",
    "AWS::KMS::Alias": "kms:CreateAlias",
    "AWS::KMS::Key": "kms:CreateKey",
    "AWS::Lambda::Function": "lambda:CreateFunction",
    "AWS::Lambda::Permission": "lambda:AddPermission",
    "AWS::Logs::LogGroup": "logs:CreateLogGroup",
    "AWS::S3::Bucket": "s3:CreateBucket",
    "AWS::S3::BucketPolicy": "s3:PutBucketPolicy",
    "AWS::SNS::Subscription": "sns:Subscribe",
    "AWS::SNS::Topic": "sns:CreateTopic",
    "AWS::SNS::TopicPolicy": "sns:SetTopicAttributes",
    "AWS::SQS::Queue": "sqs:CreateQueue",
    "AWS::SQS::QueuePolicy": "sqs:SetQueueAttributes",
    "AWS::SSM::Parameter": "ssm:PutParameter",
    "AWS::SageMaker::ModelPackageGroup": "sagemaker:CreateModelPackageGroup",
    "AWS::Scheduler::Schedule": "scheduler:CreateSchedule",
    "AWS::Scheduler::ScheduleGroup": "scheduler:CreateScheduleGroup",
}
REPLACED_BY = {**dict.fromkeys(toolchain.STACKS, "deployment"), "pipeline": "push"}
CLOSED_SINCE = "2026-07-30"  # https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-availability-change.html


@dataclass(frozen=True)
class Account:
    """What the checks of an account work on.

    - root: the project's folder.
    - given: template parameter -> value, as `scarcegan toolchain deploy` would be given it.
    - code: of the Lambda functions.
    - stacks: stack, without the project's name -> CloudFormation's description, None for one that does not exist.
      Those that the user may not look at are left out.
    """

    aws: Aws
    config: Config
    root: Path
    given: Mapping[str, str]
    code: toolchain.FunctionCode
    stacks: Mapping[str, dict[str, Any] | None]

    @property
    def names(self) -> Names:
        """The project's names in AWS."""
        return self.aws.names

    @property
    def values(self) -> dict[str, str]:
        """Template parameter -> value: those that the toolchain has in AWS, replaced by those that are given."""
        kept = {k: v for name in toolchain.STACKS for k, v in toolchain.parameters_of(self.stacks.get(name)).items()}
        return {**kept, **toolchain.from_config(self.config), **self.given}

    def left_over(self, check: str, stack: str, fact: str, fix: str) -> Finding:
        """Return the finding about something that is there although the stack that makes it may not be.

        - stack: without the project's name. It is missing, or the user may not look.
        - fact, fix: of the finding when the stack is missing.
        """
        if stack in self.stacks:
            return Finding(check, WOULD_FAIL, fact, fix)
        fact = f"{fact}, or it is the toolchain's: the stacks cannot be seen"
        return Finding(
            check, COULD_NOT_LOOK, fact, "Ask an administrator for cloudformation:DescribeStacks, or look there."
        )


def check_account(
    aws: Aws, config: Config, root: Path, given: Mapping[str, str], code: toolchain.FunctionCode
) -> Iterator[Finding]:
    """Yield everything that the checks of the account find.

    - root: the project's folder.
    - given: template parameter -> value, as `scarcegan toolchain deploy` would be given it.
    - code: of the Lambda functions.
    """
    stacks: dict[str, dict[str, Any] | None] = {}
    yield from look("stacks", lambda: stack_findings(aws, stacks))
    account = Account(aws, config, root, given, code, stacks)
    yield from look("plan of the toolchain", lambda: region_findings(account))
    checks: dict[str, Callable[[Account], Iterator[Finding]]] = {
        "parameters": combination_findings,
        "deploying": deploying_findings,
        "repository": repository_findings,
        "bucket": bucket_findings,
        "data": data_findings,
        "machines": machine_findings,
        "model package group": group_findings,
        "roles": role_findings,
        "permissions boundary": boundary_findings,
        "key": key_findings,
        "stages' accounts": stage_account_findings,
        "cost tags": tag_findings,
        "Model Monitor": model_monitor_findings,
    }
    for check, findings in checks.items():
        yield from look(check, partial(findings, account))
    yield from look("quotas", lambda: quota_findings(aws, config, account.values))
    yield from look("VPC", lambda: vpc_findings(aws, config, account.values))
    boundary = account.values.get("PermissionsBoundaryArn", "")
    yield from watch_findings(aws, bool(stacks.get("security")), project_tags(config), boundary)


def check_credentials(aws: Aws) -> Iterator[Finding]:
    """Yield a finding about the user's credentials, and the account that they belong to."""
    found = aws.client("sts").get_caller_identity()
    if found["Account"] != aws.names.account:
        fix = "Log in to that account, or unset AWS_ACCOUNT_ID."
        fact = f"{found['Arn']}, but AWS_ACCOUNT_ID is {aws.names.account}"
        yield Finding("credentials", WOULD_FAIL, fact, fix)
    else:
        yield Finding("credentials", OK, f"{found['Arn']}, account {found['Account']}")


def stack_findings(aws: Aws, stacks: dict[str, dict[str, Any] | None]) -> Iterator[Finding]:
    """Look at the project's stacks. Yields a finding for each that cannot be changed, else one for all.

    - stacks: is filled with stack, without the project's name -> CloudFormation's description, None when it is missing.
    """
    bad = 0
    for name in (*toolchain.STACKS, *toolchain.LATER_STACKS):
        stacks[name] = found = toolchain.find_stack(aws, aws.names.stack(name))
        finding = stack_finding(aws.names, name, found)
        if finding:
            bad += finding.state == WOULD_FAIL
            yield finding
    if not bad:
        present = [aws.names.stack(name) for name, found in stacks.items() if found and not is_new(found)]
        yield Finding("stacks", OK, f"there are {', '.join(present)}" if present else "none of this project yet")


def stack_finding(names: Names, name: str, found: Mapping[str, Any] | None) -> Finding | None:
    """Return the finding about a stack that cannot be changed now; None for any other.

    - name: of the stack, without the project's name.
    - found: CloudFormation's description of it; None when it is missing.
    """
    check, stands = f"stack {names.stack(name)}", obstacle(names.stack(name), names.region, found)
    if stands and creation_was_undone(found) and name in REPLACED_BY:
        return Finding(check, WARNING, stands.fact, f"Nothing: the next {REPLACED_BY[name]} replaces it.")
    return Finding(check, WARNING if stands.passes else WOULD_FAIL, stands.fact, stands.move) if stands else None


def region_findings(account: Account) -> Iterator[Finding]:
    """Yield findings about what the region has: AWS's images, and CloudFormation's types of resources.

    Raises UserError for a region that lacks an image or a resource of the toolchain, and for a refused parameter.
    """
    account.names.image("training")
    given = {name: value for name, value in account.given.items() if value}
    for note in toolchain.plan_toolchain(account.root, account.config, given, account.code).notes:
        yield Finding(
            "plan of the toolchain", WARNING, note, "Choose another region under project.region in config.yaml."
        )
    yield Finding(
        "plan of the toolchain", OK, f"{account.names.region} has the images and all that the toolchain creates"
    )


def combination_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding about parameters that do not fit each other or the account; none when they do.

    What is wrong with the repository alone is said by `repository_findings`.
    """
    problem = combination_problem(account.values, account.names.account)
    if problem and problem != connection_problem(account.values):
        yield from_sentence("parameters", WOULD_FAIL, problem)


def deploying_findings(account: Account) -> Iterator[Finding]:
    """Ask IAM's simulator whether the user may create what the toolchain consists of. Yields one finding.

    The simulator knows neither every condition nor a denial by a resource's own policy.
    https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
    """
    iam, who = account.aws.client("iam"), account.aws.client("sts").get_caller_identity()["Arn"]
    session = re.fullmatch(r"arn:[\w-]+:sts::\d+:assumed-role/([^/]+)/.+", who)
    if session:  # the simulator takes the role, whose path the session's ARN lacks
        who = iam.get_role(RoleName=session[1])["Role"]["Arn"]
    elif who.endswith(":root"):
        yield Finding("deploying", WARNING, "these are the root user's credentials", "Use a role or user of IAM.")
        return
    actions = ["cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet", *creating_actions(account.root)]
    denied = []
    for page in iam.get_paginator("simulate_principal_policy").paginate(PolicySourceArn=who, ActionNames=actions):
        denied += [one["EvalActionName"] for one in page["EvaluationResults"] if one["EvalDecision"] != "allowed"]
    if denied:
        fix = "Have somebody deploy who may, or ask an administrator for these actions (docs/permissions.md)."
        yield Finding("deploying", WARNING, f"by IAM's simulator you may not {', '.join(sorted(denied))}", fix)
    else:
        yield Finding("deploying", OK, "by IAM's simulator you may create all that the toolchain consists of")


def creating_actions(root: Path) -> list[str]:
    """Return the actions that create the resources of the toolchain's templates, each once, sorted.

    - root: the project's folder.

    Raises UserError when a template is missing or damaged.
    """
    bodies = [toolchain.read_template(root, Path("infra") / f"{name}.yaml") for name in toolchain.STACKS]
    return sorted({CREATES[about["Type"]] for body in bodies for about in body["Resources"].values()})


def repository_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding about the repository and the connection to it, or about CodeCommit's repository.

    Raises UserError for a connection of another region.
    """
    values, names = account.values, account.names
    repository, arn = values.get("Repository", ""), values.get("ConnectionArn", "")
    if not repository:
        fix = "Type it as you will deploy it: scarcegan doctor --cloud --repository … --connection-arn …"
        yield Finding("repository", COULD_NOT_LOOK, "it is not given yet", fix)
    elif arn:
        about = toolchain.read_template(account.root, Path("infra/toolchain.yaml"))["Parameters"]["ConnectionArn"]
        if toolchain.why_refused(about, arn):
            return  # the plan of the toolchain says so
        toolchain.refuse_other_region("--connection-arn", "connection", arn, names.region)
        yield connection_finding(account.aws, repository, arn)
    elif problem := connection_problem(values):
        yield from_sentence("repository", WOULD_FAIL, problem)
    else:
        found = none_if_missing(lambda: account.aws.client("codecommit").get_repository(repositoryName=repository))
        fix = f"Create it, or correct --repository: aws codecommit create-repository --repository-name {repository}"
        if found:
            yield Finding("repository", OK, f"CodeCommit has {repository}")
        else:
            yield Finding("repository", WOULD_FAIL, f"CodeCommit in {names.region} has no {repository}", fix)


def connection_finding(aws: Aws, repository: str, arn: str) -> Finding:
    """Return the finding about a CodeConnections connection of the project's region.

    https://docs.aws.amazon.com/codeconnections/latest/APIReference/API_Connection.html

    - arn: of the connection; its service is codeconnections, or codestar-connections for one made before 2024.
    """
    service, region = arn.split(":")[2:4]
    found = none_if_missing(lambda: aws.client(service).get_connection(ConnectionArn=arn))
    if found is None:
        fix = "Create one: console, Developer Tools, Connections. Then give its ARN: --connection-arn"
        return Finding("repository", WOULD_FAIL, f"there is no connection {arn}", fix)
    connection = found["Connection"]
    provider, status = connection.get("ProviderType", ""), connection["ConnectionStatus"]
    if status != "AVAILABLE":
        fix = f"Finish its handshake: console ({region}), Developer Tools, Connections, Update pending connection."
        return Finding("repository", WOULD_FAIL, f"the connection to {provider} is {status}, not AVAILABLE", fix)
    if "/" not in repository:
        fix = f"Write its owner too: --repository OWNER/{repository}"
        return Finding("repository", WOULD_FAIL, f"'{repository}' has no owner, and {provider} needs one", fix)
    fix = "Whether the connection may read that repository is seen at the first push: AWS cannot be asked."
    return Finding("repository", OK, f"{repository}, through a connection to {provider} that is AVAILABLE", fix)


def bucket_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding about the project's bucket: there, free, left from an earlier toolchain, or somebody else's."""
    from botocore.exceptions import ClientError

    bucket, mine = account.names.bucket, bool(account.stacks.get("storage"))
    try:
        account.aws.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=account.names.account)
    except ClientError as error:
        if client.is_missing(error):
            yield Finding("bucket", OK, f"the name {bucket} is free; the toolchain creates it")
        elif mine:
            raise
        elif client.is_denied(error):
            fix = "If it is somebody else's, give the project another name in config.yaml; if yours, ask for the right."
            fact = f"{bucket} exists, but it is another account's or you lack s3:ListBucket for it"
            yield account.left_over("bucket", "storage", fact, fix)
        else:
            fix = "Give the project another name under project.name in config.yaml."
            yield Finding("bucket", WOULD_FAIL, f"{bucket} exists, but not in {account.names.region}", fix)
        return
    if mine:
        yield Finding("bucket", OK, f"{bucket} is the toolchain's")
    else:
        fix = "Empty and delete it, or give the project another name: the toolchain cannot make its own beside it."
        yield account.left_over("bucket", "storage", f"{bucket} is left from an earlier toolchain", fix)


def data_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding for each address of data in S3: whether jobs may read there. None for data that is not in S3."""
    bucket, prefix = account.values.get("DataBucketName", ""), account.values.get("DataPrefix", "")
    readable = [f"s3://{account.names.bucket}/data/", *([f"s3://{bucket}/{prefix}"] if bucket and prefix else [])]
    for key in ("path", "labels"):
        place = getattr(account.config.data, key)
        if not place.startswith("s3://"):
            continue
        if f"{place.rstrip('/')}/".startswith(tuple(readable)):
            yield Finding(f"data.{key}", OK, f"jobs may read {place}")
        else:
            fix = "Type: scarcegan toolchain deploy --set DataBucketName=… --set DataPrefix=…/, one folder for both."
            yield Finding(f"data.{key}", WOULD_FAIL, f"jobs read {' and '.join(readable)}, not {place}", fix)


def machine_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding about the machines of jobs, then about those of endpoints in this account: whether the toolchain
    lets them have what config.yaml says.

    Raises UserError when a template is missing or damaged.
    """
    here = [stage for stage in PARAMETERS if stage not in accounts_of_stages(account.values, account.names.account)]
    endpoints = {key: it for stage in here for key, it in endpoint_machine(account.config, stage).items()}
    for whose, template, machines in (
        ("job", "roles-models", job_machines(account.config)),
        ("endpoint", "roles-release", endpoints),
    ):
        parameter = f"{whose.capitalize()}InstanceTypes"
        declared = toolchain.read_template(account.root, Path("infra") / f"{template}.yaml")["Parameters"]
        refused = refused_machines(machines, account.values.get(parameter) or declared[parameter]["Default"], whose)
        if refused:
            yield from_sentence("machines", WOULD_FAIL, refused)
        elif machines:
            yield Finding("machines", OK, f"{whose}s may have {', '.join(sorted(set(machines.values())))}")


def group_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding about the model package group: there, free, or left from an earlier toolchain.

    Raises UserError for a group of another region.
    """
    group = account.config.project.model_package_group
    where = "config.yaml: project.model_package_group"
    toolchain.refuse_other_region(where, "group", group, account.names.region)
    sagemaker = account.aws.client("sagemaker")
    found = none_if_missing(lambda: sagemaker.describe_model_package_group(ModelPackageGroupName=group))
    made_here = account.values.get("CreateModelPackageGroup", "yes") == "yes"
    if found and toolchain.makes_group(account.stacks.get("storage"), account.values):
        fix = toolchain.keep_group(found["ModelPackageGroupArn"])
        yield account.left_over("model package group", "storage", f"{group} is left, or another project's", fix)
    elif not made_here and not found:
        fix = "Create it, or correct project.model_package_group in config.yaml."
        yield Finding("model package group", WOULD_FAIL, f"there is no {group}", fix)
    else:
        yield Finding("model package group", OK, f"{group} exists" if found else f"the name {group} is free")


def role_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding about the project's roles: as many as the templates have, or some that should not be there."""
    iam, names = account.aws.client("iam"), account.names
    roles = [names.role(actor) for actor in role_actors(account.root)]
    present = [role for role in roles if none_if_missing(partial(iam.get_role, RoleName=role))]
    missing = sorted({*roles} - {*present})
    if not account.stacks.get("roles-models"):
        if present:
            fix = "Take the earlier toolchain down, or delete them, or give the project another name."
            yield account.left_over("roles", "roles-models", f"{', '.join(present)} are left", fix)
        else:
            yield Finding("roles", OK, f"the names of all {len(roles)} are free")
    elif missing:
        fix = "Type: scarcegan toolchain deploy. A role that was deleted by hand comes back only with its stack."
        yield Finding("roles", WARNING, f"{', '.join(missing)} do not exist", fix)
    else:
        yield Finding("roles", OK, f"all {len(roles)} exist")


def role_actors(root: Path) -> list[str]:
    """Return the actors that the templates of roles name, such as job: the ends of the roles' names, sorted.

    - root: the project's folder.
    """
    texts = [(root / "infra" / f"{name}.yaml").read_text(encoding="utf-8") for name in toolchain.STACKS]
    pattern = r"RoleName: !Sub \"?\$\{SageMakerProjectName\}-\$\{AWS::Region\}-([a-z-]+)"
    return sorted({actor for text in texts for actor in re.findall(pattern, text)})


def boundary_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding about the permissions boundary, if one is given."""
    arn = account.values.get("PermissionsBoundaryArn", "")
    if not arn:
        return
    if none_if_missing(lambda: account.aws.client("iam").get_policy(PolicyArn=arn)):
        yield Finding("permissions boundary", OK, f"{arn} exists")
    else:
        yield Finding(
            "permissions boundary", WOULD_FAIL, f"there is no policy {arn}", "Correct PermissionsBoundaryArn."
        )


def key_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding for each KMS key: the toolchain's, that of jobs' disks, and that of your data."""
    made = toolchain.outputs_of(account.stacks.get("storage")).get("KeyArn", "")
    volume, data = account.config.cloud.volume_key, account.values.get("DataKeyArn", "")
    keys = {"key": made, "key of disks": volume if volume.startswith("arn:") else "", "key of your data": data}
    if not made and "storage" in account.stacks:
        yield Finding("key", OK, "the toolchain creates it")
    for check, arn in keys.items():
        if not arn:
            continue
        found = none_if_missing(partial(account.aws.client("kms").describe_key, KeyId=arn))
        state = found["KeyMetadata"]["KeyState"] if found else "missing"
        if state == "Enabled":
            yield Finding(check, OK, f"{arn} is enabled")
        else:
            fix = "Enable it, or cancel its deletion, in KMS: without it nothing that it encrypted can be read."
            yield Finding(check, WOULD_FAIL, f"{arn} is {state}", fix)


def stage_account_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding for each stage that has an account of its own: whether that is prepared for releases."""
    for stage, number in accounts_of_stages(account.values, account.names.account).items():
        check = f"account {number} of {stage}"
        try:
            there = enter(account.aws, number, stage, "look")
        except UserError as error:
            yield from_sentence(check, WOULD_FAIL, str(error))
            continue
        refused = refused_endpoint_machine(account.aws, there, account.config, stage)
        if refused:
            yield from_sentence(check, WOULD_FAIL, refused)
        else:
            yield Finding(check, OK, "its roles are there, and let you look")


def tag_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding about the tags by which AWS's bills can tell this project's costs.

    https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/activating-tags.html
    """
    wanted = list(project_tags(account.config))
    found = account.aws.client("ce").list_cost_allocation_tags(TagKeys=wanted, Type="UserDefined")
    active = {tag["TagKey"] for tag in found["CostAllocationTags"] if tag["Status"] == "Active"}
    missing = [tag for tag in wanted if tag not in active]
    if not missing:
        yield Finding("cost tags", OK, f"{', '.join(wanted)} are active")
        return
    fix = (
        "Activate them in the account that pays: Billing, Cost allocation tags. A tag is listed there a day after the "
        "first resource has it."
    )
    yield Finding("cost tags", WARNING, f"bills do not tell costs by {', '.join(missing)}", fix)


def model_monitor_findings(account: Account) -> Iterator[Finding]:
    """Yield a finding about SageMaker Model Monitor, which AWS has closed to new customers."""
    found = account.aws.client("sagemaker").list_monitoring_schedules(MaxResults=1)["MonitoringScheduleSummaries"]
    if found:
        yield Finding("Model Monitor", OK, "open to this account, which has monitoring schedules")
        return
    fact = (
        f"closed to new customers since {CLOSED_SINCE}; AWS has no call that says whether this account is one, and it "
        "has no monitoring schedule in this region"
    )
    yield Finding(
        "Model Monitor",
        COULD_NOT_LOOK,
        fact,
        "Do not plan on it in this account: read drift from `scarcegan monitor` and the endpoint's alarms instead.",
    )
