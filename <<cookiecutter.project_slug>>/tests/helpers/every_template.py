"""All templates of infra/ with values for their parameters: each role with all its policies, each resource's policy.

Roles are known by the end of their name, wherever they and the policies that are attached to them are written.
"""

import re
from collections.abc import Iterable, Iterator
from copy import copy
from functools import cache, cached_property
from typing import Any

from enforcement import Roles, arn
from stacks import ACCOUNT, INFRA, REGION, Stack, body_of

PROJECT = "rare-players"
BUCKET = f"{PROJECT}-{ACCOUNT}-{REGION}"
GIVEN = {  # what every template that has such a parameter is given
    "SageMakerProjectName": PROJECT,
    "KeyArn": arn("kms", "key/1234abcd"),
    "KmsKeyArn": arn("kms", "key/1234abcd"),
    "BucketName": BUCKET,
    "ArtifactsBucketName": f"{PROJECT}-storage-artifacts-0a1b2c",
    "TopicArn": arn("sns", f"{PROJECT}-notifications"),
    "Repository": "rare-players",  # on CodeCommit; a connection's has an owner
    "ModelPackageGroupName": "rare-group",
    "ToolchainAccount": "444455556666",  # of templates that are deployed in another one
    "ModelPackageArn": arn("sagemaker", "model-package/rare-group/3"),
    "Version": "3",
    "Release": "r3",
    "Stage": "production",
    "InstanceType": "ml.m5.large",
    "MinInstances": "2",
    "MaxInstances": "4",
    "InvocationsPerInstance": "600",
    "Traffic": "CANARY",
    "WaitSeconds": "300",
    "LatencyMicroseconds": "500000",
    "CapturePercentage": "100",
    "RareLabel": "3",
    "LowestRareShare": "0.01",
    "HighestRareShare": "0.2",
    "MinimumRows": "100",
    "ToolchainVersion": "0a1b",
    "ProjectRegion": REGION,
    "Serverless": "false",
    "ServerlessMemory": "2048",
    "MonthlyBudget": "300",
    "NotificationEmail": "ada@example.com",
}
OPTIONAL = {  # what an optional parameter is given where a template is looked at with everything on
    "ConnectionArn": arn("codeconnections", "connection/0a1b"),
    "Repository": "acme/rare-players",
    "ModelPackageGroupReaders": "999988887777",
    "DataBucketName": "telemetry-of-acme",
    "DataPrefix": "players/",
    "DataKeyArn": arn("kms", "key/data"),
    "PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/boundary",
    "MlflowAppArn": arn("sagemaker", "mlflow-app/app-1"),
    "VpcId": "vpc-1",
    "SubnetIds": "subnet-1",
    "SecurityGroupIds": "sg-1",
    "Subnets": "subnet-1",
    "SecurityGroups": "sg-1",
    "FunctionSubnets": "subnet-1",
    "FunctionSecurityGroups": "sg-1",
    "SecurityEmail": "grace@example.com",
    "AccessLogBucketName": "logs-of-acme",
    "ScoringSchedule": "rate(7 days)",
    "UpdateSchedule": "rate(7 days)",
    "TemplateRepository": "acme/template",
    "TemplatesBucketName": "templates-of-acme",
}
VARIANTS = {
    "plain": {},
    "everything on": OPTIONAL,
    "serverless": {"Serverless": "true", "MlflowAppArn": arn("sagemaker", "mlflow-tracking-server/server-1")},
    "updates on CodeCommit": {"UpdateSchedule": "rate(7 days)", "TemplateRepository": "template"},
}
ARNS = {  # type of resource, attribute -> service, what stands before the name in the ARN, property with the name
    ("AWS::SNS::Topic", "Arn"): ("sns", "", "TopicName"),
    ("AWS::SNS::Topic", "TopicArn"): ("sns", "", "TopicName"),
    ("AWS::SQS::Queue", "Arn"): ("sqs", "", "QueueName"),
    ("AWS::Events::Rule", "Arn"): ("events", "rule/", "Name"),
    ("AWS::Lambda::Function", "Arn"): ("lambda", "function:", "FunctionName"),
}
ELSEWHERE = ("registry-forward.yaml", "target.yaml")  # deployed in other accounts than the toolchain's
TEMPLATES = sorted({path.name for path in INFRA.glob("*.yaml")} - set(ELSEWHERE))


class Named(Stack):
    """A stack whose topics, queues, rules and functions have ARNs as AWS writes them. It is worked out once."""

    @cached_property
    def resources(self) -> dict[str, dict[str, Any]]:
        return super().resources

    def reference(self, name: str) -> Any:
        about = self.body["Resources"].get(name, {})
        return self.attribute(name, "Arn") if about.get("Type") == "AWS::SNS::Topic" else super().reference(name)

    def attribute(self, resource: str, attribute: str) -> str:
        about = self.body["Resources"][resource]
        if (about["Type"], attribute) in ARNS:
            service, kind, naming = ARNS[about["Type"], attribute]
            named = about.get("Properties", {}).get(naming)
            return arn(service, kind + (self.resolve(named) if named else f"made-{resource.lower()}"))
        return super().attribute(resource, attribute)


class Everything:
    """Every template as a stack. `stacks`: name of the file -> stack. `of_type` as a stack has it, over all of them."""

    def __init__(self, variant: str, templates: Iterable[str] = TEMPLATES, **more: str) -> None:
        given = GIVEN | VARIANTS[variant] | more
        self.values = given
        self.stacks = {name: Named(name, known(name, given)) for name in templates}

    @cache  # noqa: B019 - there are as many as variants
    def of_stage(self, template: str, stage: str) -> Stack:
        """The stack of a template; where it has stages, that of one."""
        stack = self.stacks[template]
        staged = {"Stage": stage} if "Stage" in stack.body.get("Parameters", {}) else {}
        if stage == "staging" and template == "endpoint.yaml":
            staged |= {"MinInstances": "1", "MaxInstances": "1"}  # as stage_parameters of release.py has it
        return Named(template, known(template, {**self.values, **staged}))

    def of_both_stages(self, kind: str) -> list[dict[str, Any]]:
        """Properties of the resources of one type; of a template that has stages, those of each stage."""
        found = [
            self.of_stage(template, stage).of_type(kind)
            for template, stack in self.stacks.items()
            for stage in (("staging", "production") if "Stage" in stack.body.get("Parameters", {}) else ("",))
        ]
        return [properties for named in found for properties in named.values()]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """ "template resource" -> Properties of the resources of one type."""
        return {
            f"{template} {name}": properties
            for template, stack in self.stacks.items()
            for name, properties in stack.of_type(kind).items()
        }

    def resources(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """("template resource", type, Properties) of everything."""
        for template, stack in self.stacks.items():
            for name, properties in stack.resources.items():
                yield f"{template} {name}", stack.body["Resources"][name]["Type"], properties

    @cached_property
    def roles(self) -> Roles:
        """The roles by actor, each with the policies that templates attach to it.

        The roles of a stage's own account have the names of the toolchain's. Where both are there, the toolchain's are
        meant; ELSEWHERE alone gives the others.
        """
        ours = copy(self)
        if "roles-models.yaml" in self.stacks:
            ours.stacks = {name: stack for name, stack in self.stacks.items() if name != "target.yaml"}
        return Roles(ours)  # type: ignore[arg-type]

    def own_policies(self) -> dict[str, list[dict[str, Any]]]:
        """ "template resource" -> statements of the policy of that resource: a key's, a bucket's, a role's trust."""
        found: dict[str, list[dict[str, Any]]] = {}
        for name, kind, properties in self.resources():
            if kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
                continue
            kept = {key: value for key, value in properties.items() if key != "Policies"}
            statements = [statement for document in documents(kept) for statement in document["Statement"]]
            if statements:
                found[name] = statements
        return found


@cache
def everything(variant: str) -> Everything:
    """Everything with the values of a variant, worked out once. What it gives is not to be changed: copy it first."""
    return Everything(variant)


def known(template: str, given: dict[str, str]) -> dict[str, str]:
    """The given values of the parameters that a template has."""
    declared = body_of(template).get("Parameters", {})
    given = {name: code_key(about) for name, about in declared.items() if name.endswith("CodeKey")} | given
    missing = [name for name, about in declared.items() if "Default" not in about and name not in given]
    assert not missing, f"{template}: give {missing} a value in GIVEN of every_template.py"
    return {name: value for name, value in given.items() if name in declared}


def code_key(parameter: dict[str, Any]) -> str:
    """A key of a function's code that the parameter takes, such as functions/register-0a1b.zip."""
    return re.sub(r"[\^$\\()]", "", re.sub(r"\[[^]]*\][+*]", "0a1b", parameter["AllowedPattern"]))


def documents(value: Any) -> Iterator[dict[str, Any]]:
    """Every policy document below a value."""
    if isinstance(value, dict) and isinstance(value.get("Statement"), list):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from documents(part)
