"""Calls to moto as one of the toolchain's roles, decided as IAM decides.

moto knows who calls and which policies the caller's role holds. Which resource a call is about and what its conditions
ask, moto does not look at (its access_control.py says so): that is read off the request here. A call whose resource is
not known here is an error, never let through.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partialmethod
from typing import Any
from urllib.parse import parse_qs

import boto3
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import JsonRESTError
from moto.iam.access_control import IAMRequestBase

from stacks import ACCOUNT, REGION, Stack

Need = tuple[str, str, dict[str, str]]  # action, resource, context

SAGEMAKER = {  # operation -> kind of resource, parameter that names it
    "CreateModelPackage": ("model-package-group", "ModelPackageGroupName"),
    "DescribeModelPackageGroup": ("model-package-group", "ModelPackageGroupName"),
    "DescribeModelPackage": ("model-package", "ModelPackageName"),
    "DeleteModelPackage": ("model-package", "ModelPackageName"),
    "UpdateModelPackage": ("model-package", "ModelPackageArn"),
    "ListModelPackages": ("", ""),
    "CreatePipeline": ("pipeline", "PipelineName"),
    "UpdatePipeline": ("pipeline", "PipelineName"),
    "DescribePipeline": ("pipeline", "PipelineName"),
    "StartPipelineExecution": ("pipeline", "PipelineName"),
    "ListPipelineExecutions": ("pipeline", "PipelineName"),
    "DescribePipelineExecution": ("pipeline", "PipelineExecutionArn"),
    "CreateProcessingJob": ("processing-job", "ProcessingJobName"),
    "CreateTrainingJob": ("training-job", "TrainingJobName"),
    "ListTags": ("", "ResourceArn"),
    "AddTags": ("", "ResourceArn"),
}
S3_SAID_OTHERWISE = {"HeadObject": "GetObject", "HeadBucket": "ListBucket", "ListObjectsV2": "ListBucket"}
TAKES_A_ROLE = ("CreatePipeline", "UpdatePipeline", "CreateProcessingJob", "CreateTrainingJob")


def arn(service: str, resource: str, account: str = ACCOUNT) -> str:
    return f"arn:aws:{service}:{REGION}:{account}:{resource}"


# -- what a policy says -----------------------------------------------------------------------------------------------


def allowed(statements: Iterable[Mapping[str, Any]], action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether the statements together allow it: one of them does, and none denies.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
    """
    speaking = [s["Effect"] for s in statements if concerns(s, action, resource, context)]
    return "Allow" in speaking and "Deny" not in speaking


def concerns(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether a statement speaks about this call. NotAction, NotResource and the like are refused: we write none."""
    strange = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}
    assert not strange, f"{statement.get('Sid')}: {strange} is not understood"
    return (
        any(like(pattern.lower(), action.lower()) for pattern in several(statement["Action"]))
        and any(like(pattern, resource) for pattern in several(statement.get("Resource", "*")))
        and all(
            holds(operator, key, several(values), context)
            for operator, asked in statement.get("Condition", {}).items()
            for key, values in asked.items()
        )
    )


def holds(operator: str, key: str, values: list[str], context: Mapping[str, str]) -> bool:
    """One condition. A key the call does not carry fails it, but for …IfExists, ForAllValues: and …Not….

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    lenient = operator.endswith("IfExists") or operator.startswith("ForAllValues:") or "Not" in operator
    test = operator.removesuffix("IfExists").removeprefix("ForAllValues:").removeprefix("ForAnyValue:")
    present = {name.lower(): value for name, value in context.items()}.get(key.lower())
    if test == "Null":
        return values == ["true" if present is None else "false"]
    if present is None:
        return lenient
    match test:
        case "StringEquals" | "ArnEquals" | "Bool":
            return present in values
        case "StringLike" | "ArnLike":
            return any(like(value, present) for value in values)
        case "StringNotEquals":
            return present not in values
        case "ArnNotEquals" | "StringNotLike":
            return not any(like(value, present) for value in values)
    raise NotImplementedError(operator)


def like(pattern: str, text: str) -> bool:
    """Stars and question marks, as IAM reads them: a star crosses slashes and colons."""
    return expression(pattern).fullmatch(text) is not None


@cache
def expression(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern), re.DOTALL)


def several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# -- who comes to act as a role ---------------------------------------------------------------------------------------


def acts_as(kind: str, properties: Mapping[str, Any]) -> list[str]:
    """What a service names as aws:SourceArn when it takes the role of a resource; [] where it names nothing.

    - A build is one of its project: https://docs.aws.amazon.com/codebuild/latest/userguide/setting-up-service-role.html
    - A schedule is named by its group:
      https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
    """
    named = str(properties.get("Name", ""))
    match kind:
        case "AWS::CodeBuild::Project":
            return [arn("codebuild", f"project/{named}"), arn("codebuild", f"build/{named}:1a2b")]
        case "AWS::CodePipeline::Pipeline":
            return [arn("codepipeline", named)]
        case "AWS::Events::Rule":
            return [arn("events", f"rule/{named}")]
        case "AWS::Scheduler::Schedule":
            return [arn("scheduler", f"schedule-group/{properties.get('GroupName', 'default')}")]
        case "AWS::SageMaker::Model":
            return [arn("sagemaker", "endpoint/made")]
    return []


def may_assume(trust: Iterable[Mapping[str, Any]], service: str, source: str) -> bool:
    """Whether a role's trust lets a service take it for what it names as aws:SourceArn; "" where it names nothing."""
    told = {"aws:SourceArn": source, "aws:SourceAccount": source.split(":")[4]} if source else {}
    principal = f"{service}.amazonaws.com"
    to_it = [
        s for s in trust if isinstance(s["Principal"], dict) and principal in several(s["Principal"].get("Service", []))
    ]
    return allowed(to_it, "sts:AssumeRole", "*", told)


# -- the roles of the toolchain ---------------------------------------------------------------------------------------


class Roles:
    """The roles of a toolchain stack by actor: `statements(actor)`, `trust(actor)`.

    `denials` are the denying statements of its buckets' policies, which count for every actor. What such a policy
    allows, it allows to other accounts (test_several_accounts.py).
    """

    def __init__(self, stack: Stack) -> None:
        self.denials = [
            statement
            for policy in stack.of_type("AWS::S3::BucketPolicy").values()
            for statement in policy["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Deny"
        ]
        self.account = stack.values.get("AWS::AccountId", ACCOUNT)
        start = f"{stack.values['SageMakerProjectName']}-{REGION}-"
        self.properties = {
            role["RoleName"].removeprefix(start): role for role in stack.of_type("AWS::IAM::Role").values()
        }
        for policy in stack.of_type("AWS::IAM::Policy").values():
            for role in self.properties.values():
                if role["RoleName"] in policy["Roles"]:
                    role["Policies"] = [*role["Policies"], policy]

    def statements(self, actor: str) -> list[dict[str, Any]]:
        policies = self.properties[actor]["Policies"]
        return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]

    def trust(self, actor: str) -> list[dict[str, Any]]:
        return self.properties[actor]["AssumeRolePolicyDocument"]["Statement"]

    def arn(self, actor: str) -> str:
        return f"arn:aws:iam::{self.account}:role/{self.properties[actor]['RoleName']}"

    def may(self, actor: str, action: str, resource: str, context: Mapping[str, str]) -> bool:
        """Whether the actor's policies allow it and no bucket's policy denies it.

        context: condition keys that come with the call, beside those that every call of the actor carries.
        """
        return allowed(
            [*self.statements(actor), *self.denials], action, resource, {**of_every_call(self.arn(actor)), **context}
        )

    @contextmanager
    def acting(self, actor: str) -> Iterator[boto3.Session]:
        """A session of the role in moto; until the end, every call is one of the role's and is decided.

        boto3.client(...) gives clients of the role meanwhile. Inside moto's mock_aws.
        """
        role = self.properties[actor]
        iam, sts = boto3.client("iam", region_name=REGION), boto3.client("sts", region_name=REGION)
        made = iam.create_role(
            RoleName=role["RoleName"], AssumeRolePolicyDocument=json.dumps(role["AssumeRolePolicyDocument"])
        )
        for policy in role["Policies"]:
            document = json.dumps(policy["PolicyDocument"])
            iam.put_role_policy(RoleName=role["RoleName"], PolicyName=policy["PolicyName"], PolicyDocument=document)
        key = sts.assume_role(RoleArn=made["Role"]["Arn"], RoleSessionName="test")["Credentials"]
        session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], key["SessionToken"], REGION)
        with deciding(self.denials, of_every_call(self.arn(actor))), standing_in(session):
            yield session


def of_every_call(role: str) -> dict[str, str]:
    """The condition keys that every call of a role carries. S3 calls here are whole objects, not parts of them."""
    return {"aws:PrincipalArn": role, "aws:SecureTransport": "true", "s3:ObjectCreationOperation": "true"}


@contextmanager
def standing_in(session: boto3.Session) -> Iterator[None]:
    """boto3's own functions speak for this session."""
    before = boto3.DEFAULT_SESSION
    boto3.DEFAULT_SESSION = session
    try:
        yield
    finally:
        boto3.DEFAULT_SESSION = before


@contextmanager
def deciding(denials: list[Mapping[str, Any]], context: Mapping[str, str]) -> Iterator[None]:
    """moto asks `decide` about every call. denials: of the buckets' policies; context: of every call."""
    before = settings.INITIAL_NO_AUTH_ACTION_COUNT, IAMRequestBase.check_action_permitted
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    ActionAuthenticatorMixin.request_count = 0
    IAMRequestBase.check_action_permitted = partialmethod(decide, denials, context)  # type: ignore[assignment]
    try:
        yield
    finally:
        settings.INITIAL_NO_AUTH_ACTION_COUNT, IAMRequestBase.check_action_permitted = before  # type: ignore[method-assign]


def decide(
    request: IAMRequestBase, denials: list[Mapping[str, Any]], everywhere: Mapping[str, str], resource: str
) -> None:
    """Raise AWS's AccessDenied unless the caller's policies allow all that a request needs and no bucket denies it."""
    policies = [json.loads(policy) for policy in request._access_key.collect_policies()]
    statements = [statement for policy in policies for statement in policy["Statement"]]
    for action, about, context in needs(request, resource):
        if not allowed([*statements, *denials], action, about, {**everywhere, **context}):
            if request._service == "s3":
                request._raise_access_denied()
            who = f"User: {request._access_key.arn} is not authorized to perform: {action} on resource: {about}"
            raise JsonRESTError("AccessDeniedException", who)


def needs(request: IAMRequestBase, resource: str) -> list[Need]:
    """What a call needs: the action itself, and what AWS asks for besides (iam:PassRole, sagemaker:AddTags)."""
    service, operation = request._action.split(":")
    if service == "s3":
        asked = {name.lower(): value for name, value in request._headers.items()}.get("if-none-match")
        once = {"s3:if-none-match": asked} if asked and operation == "PutObject" else {}
        return [(f"s3:{S3_SAID_OTHERWISE.get(operation, operation)}", resource, once)]
    parameters = parameters_of(request)
    if service == "ssm":
        names = parameters.get("Names") or [parameters["Name"]]
        return [(request._action, arn("ssm", f"parameter/{name.lstrip('/')}"), {}) for name in names]
    if service == "sagemaker":
        return sagemaker_needs(operation, parameters)
    if request._action == "sts:GetCallerIdentity":
        return []
    raise NotImplementedError(request._action)


def sagemaker_needs(operation: str, parameters: Mapping[str, Any]) -> list[Need]:
    kind, name = SAGEMAKER[operation]
    given = parameters.get(name, "*")
    about = given if given.startswith("arn:") or not kind else arn("sagemaker", f"{kind}/{given}")
    found: list[Need] = [(f"sagemaker:{operation}", about, {**machine(parameters), **decision(parameters)})]
    if parameters.get("Tags") and operation.startswith("Create"):
        found.append(("sagemaker:AddTags", about, {}))
    if operation in TAKES_A_ROLE and "RoleArn" in parameters:
        found.append(("iam:PassRole", parameters["RoleArn"], {"iam:PassedToService": "sagemaker.amazonaws.com"}))
    return found


def decision(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The status that a model package is to have, as IAM is told of it."""
    asked = parameters.get("ModelApprovalStatus")
    return {"sagemaker:ModelApprovalStatus": asked} if isinstance(asked, str) else {}


def machine(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The instance type that a new job asks for, as IAM is told of it."""
    place = parameters.get("ProcessingResources", {}).get("ClusterConfig") or parameters.get("ResourceConfig") or {}
    return {"sagemaker:InstanceTypes": place["InstanceType"]} if "InstanceType" in place else {}


def parameters_of(request: IAMRequestBase) -> dict[str, Any]:
    """The parameters of a call, whichever way its protocol writes them."""
    body = request._body.decode() if isinstance(request._body, bytes) else request._body or ""
    return json.loads(body) if body.startswith("{") else {name: values[0] for name, values in parse_qs(body).items()}
