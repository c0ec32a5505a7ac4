"""Stages in accounts of their own: which they are, access to them, and the stack that prepares one for releases.

The registry, the champion, trainings and scorings stay in the toolchain's account. infra/target.yaml says who may enter
a stage's account.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scarcegan.aws import client, toolchain
from scarcegan.aws.client import Aws
from scarcegan.aws.names import Names, project_tags
from scarcegan.aws.parameter_rules import VPC_PARTS, boundary_problem, value_problem
from scarcegan.aws.stack_states import creation_was_undone, is_new, refuse_unless_changeable
from scarcegan.aws.toolchain import FunctionCode, Stack, ToolchainPlan
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from scarcegan.progress import PrintLine

TEMPLATE = Path("infra") / "target.yaml"
PARAMETERS = {"staging": "StagingAccount", "production": "ProductionAccount"}  # of the toolchain's stacks
STAGES = tuple(PARAMETERS)


def target_stack(stage: str) -> str:
    """Return the name, without the project's, of the stack that prepares the account of a stage."""
    return f"target-{stage}"


# -- access ---------------------------------------------------------------------------------------------------------


def access_to_stage(aws: Aws, stage: str, actor: str = "look") -> Aws:
    """Return access to the account that a stage is in: `aws` itself unless the toolchain names another account.

    - aws: access to the account of the toolchain.
    - stage: staging or production.
    - actor: whose role is assumed there: look (reads) or ask (sends test requests too).

    Raises UserError when the account lets nobody in with that role.
    """
    published = client.find_ssm_parameter(aws, "accounts")
    account = json.loads(published).get(stage) if published else None
    return enter(aws, account, stage, actor) if account else aws


def enter(aws: Aws, account: str, stage: str, actor: str) -> Aws:
    """Assume a role in the account of a stage. Returns access to that account, for an hour.

    - account: 12 digits.
    - actor: look or ask, as infra/target.yaml names its roles.

    Raises UserError when it is denied.
    """
    from botocore.exceptions import ClientError

    there = Names(aws.names.project, account, aws.names.region)
    role = there.role_arn(f"{actor}-{stage}")
    try:
        found = aws.client("sts").assume_role(RoleArn=role, RoleSessionName=f"{aws.names.project}-{actor}")
    except ClientError as error:
        if not client.is_denied(error):
            raise
        raise UserError(
            f"{stage} is in account {account}, which does not let you in as {role} "
            f"({client.flat(error.response['Error'].get('Message', ''))}). If that account is not prepared yet, type: "
            f"scarcegan toolchain deploy-target {stage} --profile … . If it is, you need sts:AssumeRole for that role "
            "(docs/several-accounts.md)."
        ) from error
    key = found["Credentials"]
    session = client.library("boto3").Session(
        key["AccessKeyId"], key["SecretAccessKey"], key["SessionToken"], aws.names.region
    )
    return Aws(there, session)


def profile_to_type(aws: Aws, there: Aws) -> str:
    """Return what stands for a profile in a command for the account of a stage, such as PROFILE-OF-333344445555; "" for
    the account of the toolchain.

    - aws: access to the account of the toolchain. there: what `access_to_stage` returns of it.
    """
    return "" if there is aws else f"PROFILE-OF-{there.names.account}"


def endpoint_parameters_elsewhere(aws: Aws, stage: str) -> dict[str, str]:
    """Return those parameters of infra/endpoint.yaml (name -> value) that are other ones in an account of the stage's
    own: key, topic, buckets and network. {} for a stage in the account of the toolchain.

    Raises UserError when that account is not prepared.
    """
    there = access_to_stage(aws, stage)
    if there is aws:
        return {}
    stack = there.names.stack(target_stack(stage))
    outputs = toolchain.outputs_of(toolchain.find_stack(there, stack))
    if not {"StageKeyArn", "StageTopicArn", "CaptureBucketName"} <= outputs.keys():
        raise UserError(
            f"stack {stack} in account {there.names.account} is not complete, so {stage} has no key, topic and bucket. "
            f"Type: scarcegan toolchain deploy-target {stage} --profile …"
        )
    return {
        "KmsKeyArn": outputs["StageKeyArn"],
        "TopicArn": outputs["StageTopicArn"],
        "CodeBucketName": aws.names.bucket,
        "CaptureBucketName": outputs["CaptureBucketName"],
        "Subnets": outputs.get("SubnetIds", ""),
        "SecurityGroups": outputs.get("SecurityGroupIds", ""),
        "FunctionSubnets": outputs.get("SubnetIds", ""),
        "FunctionSecurityGroups": outputs.get("SecurityGroupIds", ""),
    }


def accounts_of_stages(parameters: Mapping[str, str], own: str) -> dict[str, str]:
    """Return stage -> account of the stages that are in another account than the toolchain.

    - parameters: template parameter -> value, of one of the toolchain's stacks.
    - own: the account of the toolchain.
    """
    named = {stage: parameters.get(parameter, "") for stage, parameter in PARAMETERS.items()}
    return {stage: account for stage, account in named.items() if account not in ("", own)}


# -- the account's stack --------------------------------------------------------------------------------------------


def plan_target(root: Path, config: Config, stage: str, given: Mapping[str, str]) -> ToolchainPlan:
    """Return the plan of the stack that prepares the account of a stage. Makes no call to AWS.

    - root: the project's folder.
    - stage: staging or production.
    - given: template parameter -> value, from the command line.

    Raises UserError for an unknown stage or parameter, for a parameter that comes from config.yaml, the stage or the
    toolchain, for a value that the template would refuse, and for a template that is missing or damaged.
    """
    if stage not in PARAMETERS:
        raise UserError(f"no stage '{stage}'. There are: {', '.join(PARAMETERS)}.")
    if "Stage" in given:
        raise UserError(f"--set Stage: it is the stage that you name. Type: scarcegan toolchain deploy-target {stage}")
    region = client.region_of(config)
    body = toolchain.read_template(root, TEMPLATE)
    storage = toolchain.STACKS[0]
    makers = dict.fromkeys(toolchain.read_template(root, Path("infra") / f"{storage}.yaml").get("Outputs", {}), storage)
    declared, none = body["Parameters"], FunctionCode({}, {})
    toolchain.check_given_parameters(given, declared, makers, none)
    values = {name: value for name, value in toolchain.from_config(config).items() if name in declared}
    values |= {"Stage": stage, **given}
    for name, value in values.items():
        why = toolchain.why_refused(declared[name], value) or value_problem(name, value, region)
        if why:
            raise UserError(f"{toolchain.where_given(name)}: '{value}' is refused for {name}: {why}")
    project = config.project.name
    stack = Stack(
        f"{project}-{target_stack(stage)}",
        TEMPLATE,
        values,
        {name: f"{project}-{storage}" for name in declared if name in makers},
        [],
        list(declared),
        ["CAPABILITY_NAMED_IAM"],
    )
    return ToolchainPlan(region, [stack], project_tags(config), none)


def target_commands(plan: ToolchainPlan, profile: str) -> list[str]:
    """Return the plan as lines of shell commands with the AWS CLI: the toolchain's outputs are asked for with the usual
    credentials, and the stack is deployed with those of a profile.
    """
    deploy = "aws cloudformation deploy "
    return [
        line.replace(deploy, f"{deploy}--profile {shlex.quote(profile)} ", 1) for line in toolchain.shell_commands(plan)
    ]


def deploy_target(
    plan: ToolchainPlan, stage: str, profile: str, root: Path, aws: Aws, report: PrintLine
) -> dict[str, Any]:
    """Create or update the stack that prepares the account of a stage, and wait for it. Safe to repeat.

    - profile: of ~/.aws/config, with the credentials of that account.
    - root: the project's folder.
    - aws: access to the account of the toolchain.
    - report: called with a line of text when the change begins.

    Returns {"stack": its name, "account": its account, "done": created, updated or unchanged, "outputs": output ->
    value}.

    Raises UserError when the toolchain is not deployed or names another account for the stage than the profile's, when
    the VPC lacks a part or the boundary is another account's, and for a change that CloudFormation refuses or fails to
    make.
    """
    [stack] = plan.stacks
    storage = toolchain.find_stack(aws, next(iter(stack.inputs.values())))
    ours = toolchain.outputs_of(storage)
    if not stack.inputs.keys() <= ours.keys():
        raise UserError(f"the toolchain is not deployed, or is older than {TEMPLATE}. {client.DEPLOY_TOOLCHAIN}")
    session = client.library("boto3").Session(profile_name=profile, region_name=plan.region)
    account = session.client("sts").get_caller_identity()["Account"]
    wanted = accounts_of_stages(toolchain.parameters_of(storage), aws.names.account).get(stage)
    if account != wanted:
        fact = f"of the toolchain, {wanted}" if wanted else f"that of the toolchain itself, {aws.names.account}"
        raise UserError(
            f"profile {profile} is of account {account}, but the account of {stage} is {fact}. Name another profile, "
            f"or type: scarcegan toolchain deploy --set {PARAMETERS[stage]}={account}"
        )
    there = Aws(Names(aws.names.project, account, plan.region), session)
    found = toolchain.find_stack(there, stack.name)
    if not creation_was_undone(found):
        refuse_unless_changeable(stack.name, plan.region, found, shlex.quote(profile))
    values = {**toolchain.parameters_of(found), **stack.parameters}
    present = [name for name in VPC_PARTS if values.get(name)]
    if 0 < len(present) < len(VPC_PARTS):
        raise UserError(f"an endpoint in a VPC needs {', '.join(VPC_PARTS)}, but only {', '.join(present)} is given.")
    if problem := boundary_problem(values, account):
        raise UserError(problem)
    if found and creation_was_undone(found):
        report(f"{stack.name}: its first deployment failed, so what is left of it is deleted")
        toolchain.delete_stack(there, found)
        found = None
    request = toolchain.change_set_parameters(stack, toolchain.parameters_of(found), {}, ours)
    done = toolchain.deploy_stack(plan, stack, root, there, request, new=is_new(found), report=report)
    outputs = toolchain.outputs_of(toolchain.find_stack(there, stack.name))
    return {"stack": stack.name, "account": account, "done": done, "outputs": outputs}
