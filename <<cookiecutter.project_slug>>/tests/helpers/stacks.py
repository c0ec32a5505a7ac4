"""A CloudFormation template as the plain data it comes to: intrinsic functions worked out, conditions decided.

Just enough for the templates in infra/; a function that is not known is an error, never passed over.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

INFRA = Path(__file__).resolve().parents[2] / "infra"
ACCOUNT, REGION = "111122223333", "eu-west-1"
# In order of deployment.
ROLES = ("roles-models.yaml", "roles-build.yaml", "roles-release.yaml")
TOOLCHAIN = ("storage.yaml", *ROLES, "security.yaml", "toolchain.yaml")
PUBLISHED = {  # what `scarcegan toolchain deploy` gives by itself
    "RegisterCodeKey": "functions/register-0a.zip",
    "CheckApprovalCodeKey": "functions/check-approval-0a.zip",
    "RareShareCodeKey": "functions/rare-share-0a.zip",
    "ToolchainVersion": "0a1b2c3d",
}
NO_VALUE = object()
OWN_NAME = {
    "AWS::S3::Bucket": "BucketName",
    "AWS::IAM::Role": "RoleName",
    "AWS::SageMaker::ModelPackageGroup": "ModelPackageGroupName",
    "AWS::CodeBuild::Project": "Name",
    "AWS::CodePipeline::Pipeline": "Name",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::Scheduler::ScheduleGroup": "Name",
}
POLICIES = {  # type of a policy -> property that names what it is of, type of that
    "AWS::S3::BucketPolicy": ("Bucket", "AWS::S3::Bucket"),
    "AWS::SNS::TopicPolicy": ("Topics", "AWS::SNS::Topic"),
    "AWS::SQS::QueuePolicy": ("Queues", "AWS::SQS::Queue"),
}
# Who writes a log -> where it goes unless another group is named.
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
# https://docs.aws.amazon.com/codebuild/latest/userguide/change-project.html
LOG_WRITERS = {"AWS::Lambda::Function": "/aws/lambda/", "AWS::CodeBuild::Project": "/aws/codebuild/"}


class Loader(yaml.SafeLoader):
    """YAML whose tags become {"Fn::Name": argument}."""


def function(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", function)
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def body_of(template: str) -> dict[str, Any]:
    """A template of infra/ as data, with its functions as mappings."""
    return deepcopy(parsed((INFRA / template).read_text(encoding="utf-8")))


@cache
def parsed(text: str) -> dict[str, Any]:
    return dict(yaml.load(text, Loader))


class Stack:
    """A template with values for its parameters. `resources`: name -> Properties of those whose condition holds."""

    def __init__(self, template: str, parameters: Mapping[str, Any], account: str = ACCOUNT) -> None:
        self.body = self.read(template)
        declared = self.body["Parameters"]
        unknown = set(parameters) - set(declared)
        assert not unknown, f"{template} has no parameter {sorted(unknown)}"
        given = {name: parameters.get(name, about.get("Default")) for name, about in declared.items()}
        missing = [name for name, value in given.items() if value is None]
        assert not missing, f"{template} needs {missing}"
        lists = {name for name, about in declared.items() if "List" in about["Type"]}
        self.values: dict[str, Any] = {
            name: value.split(",") if name in lists and isinstance(value, str) else value
            for name, value in given.items()
        } | {
            "AWS::AccountId": account,
            "AWS::Region": REGION,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": "stack",
            "AWS::NoValue": NO_VALUE,
        }

    def read(self, template: str) -> dict[str, Any]:
        """The template as data."""
        return body_of(template)

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        return {
            name: self.resolve(about.get("Properties", {}))
            for name, about in self.body["Resources"].items()
            if "Condition" not in about or self.holds(about["Condition"])
        }

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties of the resources of one type."""
        names = {name for name, about in self.body["Resources"].items() if about["Type"] == kind}
        return {name: properties for name, properties in self.resources.items() if name in names}

    @property
    def outputs(self) -> dict[str, Any]:
        """Name -> value of the outputs whose condition holds."""
        return {
            name: self.resolve(about["Value"])
            for name, about in self.body.get("Outputs", {}).items()
            if "Condition" not in about or self.holds(about["Condition"])
        }

    @property
    def refusals(self) -> list[str]:
        """The names of the rules that refuse the values of the parameters."""
        return [
            name
            for name, rule in self.body.get("Rules", {}).items()
            if self.resolve(rule["RuleCondition"])
            and not all(self.resolve(each["Assert"]) for each in rule["Assertions"])
        ]

    def holds(self, condition: str) -> bool:
        return bool(self.resolve(self.body["Conditions"][condition]))

    def resolve(self, value: Any) -> Any:
        """The value with every intrinsic function worked out; entries that come to NoValue are left out."""
        if isinstance(value, dict):
            if is_function(value):
                return self.call(*next(iter(value.items())))
            found = {key: self.resolve(part) for key, part in value.items()}
            return {key: part for key, part in found.items() if part is not NO_VALUE}
        if isinstance(value, list):
            return [part for part in map(self.resolve, value) if part is not NO_VALUE]
        return value

    def call(self, name: str, argument: Any) -> Any:
        """One intrinsic function."""
        match name:
            case "Ref":
                return self.reference(argument)
            case "Condition":
                return self.holds(argument)
            case "Fn::GetAtt":
                return self.attribute(*argument)
            case "Fn::Sub":
                return self.substitute(*(argument if isinstance(argument, list) else [argument, {}]))
            case "Fn::If":
                return self.resolve(argument[1] if self.holds(argument[0]) else argument[2])
            case "Fn::FindInMap":
                found, row, column = map(self.resolve, argument)
                return self.body["Mappings"][found][row][column]
            case "Fn::Join":
                return argument[0].join(self.resolve(argument[1]))
            case "Fn::Split":
                return self.resolve(argument[1]).split(argument[0])
            case "Fn::Select":
                return self.resolve(argument[1])[int(argument[0])]
            case "Fn::Equals":
                left, right = map(self.resolve, argument)
                return str(left) == str(right)
            case "Fn::Not":
                return not self.resolve(argument[0])
            case "Fn::And":
                return all(map(self.resolve, argument))
            case "Fn::Or":
                return any(map(self.resolve, argument))
            case "Fn::Contains":
                return self.resolve(argument[1]) in self.resolve(argument[0])
        raise NotImplementedError(name)

    def reference(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        about = self.body["Resources"][name]
        named = about.get("Properties", {}).get(OWN_NAME.get(about["Type"], ""))
        return self.resolve(named) if named else f"made-{name.lower()}"

    def attribute(self, resource: str, attribute: str) -> str:
        """Stands for what AWS would answer; ARNs of buckets and keys are as AWS writes them.

        An attribute that is called like a property, such as EndpointName, is what the template gives.
        """
        about = self.body["Resources"][resource]
        kind, given = about["Type"], about.get("Properties", {})
        if attribute in given:
            return str(self.resolve(given[attribute]))
        if attribute == "Arn" and kind == "AWS::S3::Bucket":
            return f"arn:aws:s3:::{self.reference(resource)}"
        if attribute == "Arn" and kind == "AWS::KMS::Key":
            return f"arn:aws:kms:{REGION}:{self.values['AWS::AccountId']}:key/{resource}"
        if attribute == "Arn" and kind == "AWS::IAM::Role":
            return f"arn:aws:iam::{self.values['AWS::AccountId']}:role/{self.reference(resource)}"
        return f"made-{resource.lower()}.{attribute.lower()}"

    def substitute(self, text: str, more: Mapping[str, Any]) -> str:
        def one(found: re.Match[str]) -> str:
            name = found[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in more:
                return str(self.resolve(more[name]))
            return str(self.attribute(*name.split(".", 1)) if "." in name else self.reference(name))

        return re.sub(r"\$\{([^}]+)\}", one, text)


class Toolchain(Stack):
    """The stacks of the toolchain read as one: a parameter named like an output has the value of that output."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        super().__init__("the toolchain", {**PUBLISHED, **parameters})

    def read(self, template: str) -> dict[str, Any]:
        """The sections of the templates put together, without the parameters that outputs fill."""
        merged: dict[str, Any] = {}
        for body in map(body_of, TOOLCHAIN):
            for section in ("Parameters", "Rules", "Mappings", "Conditions", "Resources", "Outputs"):
                merged.setdefault(section, {}).update(body.get(section, {}))
        for name in set(merged["Parameters"]) & set(merged["Outputs"]):
            del merged["Parameters"][name]
        return merged

    def reference(self, name: str) -> Any:
        known = name in self.values or name in self.body["Resources"]
        return super().reference(name) if known else self.resolve(self.body["Outputs"][name]["Value"])


def log_group(kind: str, properties: Mapping[str, Any]) -> str:
    """The log group that a function or a build writes to. kind: of LOG_WRITERS."""
    named = properties.get("LoggingConfig", {}).get("LogGroup")
    named = named or properties.get("LogsConfig", {}).get("CloudWatchLogs", {}).get("GroupName")
    own = properties[OWN_NAME[kind]]
    return str(named or f"{LOG_WRITERS[kind]}{own}")


def log_faults(stack: Stack) -> Iterator[str]:
    """What is wrong with the log groups of a stack, in words.

    A group that a template does not make, or makes too late, comes to be by itself: without a key and kept for ever.
    """
    made = {about["LogGroupName"]: name for name, about in stack.of_type("AWS::Logs::LogGroup").items()}
    written = set()
    for kind in LOG_WRITERS:
        for name, properties in stack.of_type(kind).items():
            group = log_group(kind, properties)
            written.add(group)
            if group not in made:
                yield f"{name} writes to {group}, which the template does not make"
            elif made[group] not in waits_for(stack.body["Resources"][name]):
                yield f"{name} does not wait for {made[group]}"
    yield from (f"nobody writes to {name}" for group, name in made.items() if group not in written)


def policy_faults(stack: Stack) -> Iterator[str]:
    """What is wrong with the policies of buckets, topics and queues, in words: each has one, which speaks of it."""
    for kind, (key, holder) in POLICIES.items():
        unprotected = {stack.reference(name): name for name in stack.of_type(holder)}
        for name, about in stack.of_type(kind).items():
            named = about[key] if isinstance(about[key], list) else [about[key]]
            if not set(named) <= set(unprotected):
                yield f"{name} is the policy of {named}, which has one or is not made here"
            for statement in about["PolicyDocument"]["Statement"]:
                resources = statement.get("Resource", statement.get("NotResource"))
                for resource in resources if isinstance(resources, list) else [resources]:
                    whose = resource.rpartition(":")[2].split("/")[0].removesuffix(".arn")
                    if whose not in {each.rpartition(":")[2] for each in named}:
                        yield f"{name} is the policy of {named} and speaks of {resource}"
            unprotected = {each: found for each, found in unprotected.items() if each not in named}
        yield from (f"{name} has no policy" for name in unprotected.values())


def waits_for(about: Mapping[str, Any]) -> set[str]:
    """The names of what a resource refers to, or names in DependsOn; CloudFormation makes those before it."""
    named = about.get("DependsOn", [])
    return {*([named] if isinstance(named, str) else named), *references(about.get("Properties", {}))}


def references(value: Any) -> Iterator[str]:
    """What Ref, GetAtt and Sub name below a value."""
    if isinstance(value, dict):
        for key, part in value.items():
            match key:
                case "Ref":
                    yield part
                case "Fn::GetAtt":
                    yield part[0]
                case "Fn::Sub":
                    text, more = part if isinstance(part, list) else (part, {})
                    yield from (name.split(".")[0] for name in re.findall(r"\$\{([^!}][^}]*)\}", text))
                    yield from references(more)
                case _:
                    yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def is_function(value: Mapping[str, Any]) -> bool:
    """Whether a mapping is a call. {"Condition": …} is one with a name in it; in a policy it holds a mapping."""
    if len(value) != 1:
        return False
    [(name, argument)] = value.items()
    return name == "Ref" or name.startswith("Fn::") or (name == "Condition" and isinstance(argument, str))


def transformed(transformer: Mapping[str, Any], sent: Mapping[str, Any]) -> str:
    """An input transformer's text for an event; paths are of the form $.detail.name.

    What a path does not find is left out of the text.
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
    """
    text = transformer["InputTemplate"]
    for name, path in transformer["InputPathsMap"].items():
        value: Any = sent
        for key in path.removeprefix("$.").split("."):
            value = value.get(key, "") if isinstance(value, Mapping) else ""
        text = text.replace(f"<{name}>", str(value))
    return text
