"""Who comes to act as a role: the service that is handed the role, for this account, and nobody else.

Statically: who is handed a role is read off the templates and the rights to pass roles; IAM itself was never asked.
People and roles of other accounts are in test_several_accounts.py.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from enforcement import acts_as, arn, may_assume, several
from every_template import ELSEWHERE, PROJECT, Everything, everything
from stacks import ACCOUNT, REGION

WORLDS = {
    "everything on": everything("everything on"),
    "on CodeCommit": Everything("updates on CodeCommit", ScoringSchedule="rate(7 days)"),
    "elsewhere": Everything("plain", ELSEWHERE),
}
FROM_THE_TOOLCHAIN = ("enter-", "look-", "ask-")  # roles of a stage's own account that no service assumes
USES = {  # type of resource, property that names a role -> the service that gets the role
    ("AWS::CodeBuild::Project", "ServiceRole"): "codebuild",
    ("AWS::CodePipeline::Pipeline", "RoleArn"): "codepipeline",
    ("AWS::Events::Rule", "RoleArn"): "events",
    ("AWS::Lambda::Function", "Role"): "lambda",
    ("AWS::SageMaker::Model", "ExecutionRoleArn"): "sagemaker",
    ("AWS::Scheduler::Schedule", "RoleArn"): "scheduler",
}
UNTOLD = {"lambda.amazonaws.com", "cloudformation.amazonaws.com"}  # they do not tell IAM for whom they act


def actor_of(role: str) -> str:
    found = re.fullmatch(rf"arn:aws:iam::\d+:role/{PROJECT}-{REGION}-([a-z-]+)", role)
    assert found, f"{role} is no role of the project"
    return found[1]


def named(world: Everything) -> Iterator[tuple[str, str]]:
    """(actor, service) of every role that a resource names."""
    for _, kind, properties in world.resources():
        for holder, key, role in roles_in(properties):
            inside = holder == "Configuration"  # what CodePipeline hands on to CloudFormation
            if (kind, key) in USES and role:
                yield actor_of(role), "cloudformation" if inside else USES[kind, key]


def roles_in(value: Any, holder: str = "") -> Iterator[tuple[str, str, str]]:
    """(key above, key, ARN) of every role's ARN below a value."""
    if isinstance(value, dict):
        for key, part in value.items():
            if isinstance(part, str) and ":role/" in part:
                yield holder, key, part
            else:
                yield from roles_in(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from roles_in(part, holder)


def passed(world: Everything) -> Iterator[tuple[str, str]]:
    """(actor, service) of every role that a role may pass."""
    for actor in world.roles.properties:
        for statement in world.roles.statements(actor):
            if "iam:PassRole" in several(statement["Action"]):
                service = statement["Condition"]["StringEquals"]["iam:PassedToService"]
                assert isinstance(service, str), f"{actor}, {statement['Sid']}: one service"
                for role in several(statement["Resource"]):
                    yield actor_of(role), service.removesuffix(".amazonaws.com")


def uses(world: Everything) -> Iterator[tuple[str, str, str]]:
    """(actor, service, aws:SourceArn) of every time that a service takes a role; "" where it names nothing."""
    for (kind, key), service in USES.items():
        for properties in world.of_both_stages(kind):
            for holder, named, role in roles_in(properties):
                if named == key and holder != "Configuration":
                    yield from ((actor_of(role), service, source) for source in acts_as(kind, properties) or [""])
    runs = [arn("sagemaker", what) for what in (f"pipeline/{PROJECT}-x", "processing-job/x", "training-job/x")]
    for actor, service in passed(world):
        if service == "sagemaker" or f"{service}.amazonaws.com" in UNTOLD:
            yield from ((actor, service, source) for source in (runs if service == "sagemaker" else [""]))


def trusted(world: Everything, actor: str) -> set[str]:
    """The services that may assume a role."""
    principals = [statement["Principal"] for statement in world.roles.trust(actor)]
    return {one.removesuffix(".amazonaws.com") for p in principals for one in several(p.get("Service", []))}


@pytest.mark.parametrize("name", WORLDS)
def test_a_role_is_assumed_by_the_one_service_that_is_handed_it_checked_statically(name: str) -> None:
    world = WORLDS[name]
    handed: dict[str, set[str]] = {}
    for actor, service in (*named(world), *passed(world)):
        handed.setdefault(actor, set()).add(service)
    services = {actor: trusted(world, actor) for actor in world.roles.properties}
    assert {actor: found for actor, found in services.items() if found} == {
        actor: found for actor, found in handed.items() if actor in services
    }


@pytest.mark.parametrize("name", WORLDS)
def test_a_service_takes_a_role_for_what_has_it_checked_statically(name: str) -> None:
    world = WORLDS[name]
    taken = [use for use in uses(world) if use[0] in world.roles.properties]
    assert {a for a in world.roles.properties if not a.startswith(FROM_THE_TOOLCHAIN)} == {actor for actor, *_ in taken}
    assert [use for use in taken if not may_assume(world.roles.trust(use[0]), *use[1:])] == []


@pytest.mark.parametrize("name", WORLDS)
def test_a_service_takes_a_role_for_nothing_else_checked_statically(name: str) -> None:
    """No other resource of the project that has a role gets it, and none of another project or account."""
    world = WORLDS[name]
    own: dict[tuple[str, str], set[str]] = {}
    for actor, service, source in uses(world):
        if source and actor in world.roles.properties:
            own.setdefault((actor, service), set()).add(source)
    everybodys = set().union(*own.values())
    for (actor, service), sources in own.items():
        strangers = {source.replace(ACCOUNT, "999988887777") for source in sources}
        if service != "sagemaker":  # of which no ARN says whose it is: pipelines name jobs alike
            strangers |= everybodys - sources | {re.sub(f"\\b{PROJECT}", "another", source) for source in sources}
        if service == "events":  # by the beginning of the rule's name
            strangers = {source for source in strangers if f":rule/{PROJECT}-" not in source or ACCOUNT not in source}
        trust = world.roles.trust(actor)
        assert [source for source in strangers if may_assume(trust, service, source)] == [], actor


@pytest.mark.parametrize("name", WORLDS)
def test_a_service_assumes_a_role_for_this_account_only_checked_statically(name: str) -> None:
    """Otherwise somebody else's rule, build or job could use it, as a confused deputy.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
    """
    roles = WORLDS[name].roles
    for actor in roles.properties:
        for statement in roles.trust(actor):
            if actor.startswith(FROM_THE_TOOLCHAIN):
                continue
            assert list(statement["Principal"]) == ["Service"], actor
            if statement["Principal"]["Service"] not in UNTOLD:
                asked = statement["Condition"]
                keys = {key for operator in asked.values() for key in operator}
                assert keys == {"aws:SourceAccount", "aws:SourceArn"}, actor
                assert asked["StringEquals"]["aws:SourceAccount"] == ACCOUNT, actor
                assert f":{ACCOUNT}:" in json.dumps(asked), f"{actor}: the ARN of what acts"
