"""References of a pipeline definition: `Get`, `Std:Join` and `Std:JsonGet`, resolved strictly.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-properties.html
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

VARIABLES = (
    "PipelineName",
    "PipelineArn",
    "PipelineExecutionId",
    "PipelineExecutionArn",
    "StartDateTime",
    "CurrentDateTime",
)
NAMED_BY = ("OutputName", "InputName", "ChannelName")  # what a list is indexed by when the index is a text
TOKEN = re.compile(r"\.?([A-Za-z0-9_-]+)|\['([^']*)'\]|\[(\d+)\]")


class Refused(Exception):
    """What the service refuses: at CreatePipeline, at StartPipelineExecution, or when a step is about to start."""


@dataclass
class Scope:
    """What references are resolved against. steps: step name -> its description, as Describe… would answer.

    property_file: (step, name) -> the JSON that the step left under that name; Refused when there is none.
    """

    parameters: Mapping[str, Any]
    execution: Mapping[str, str]
    property_file: Callable[[str, str], Any]
    steps: dict[str, Any] = field(default_factory=dict)


def resolve(value: Any, scope: Scope) -> Any:
    """The value with every reference in it replaced; Refused for one that leads nowhere."""
    if isinstance(value, list):
        return [resolve(part, scope) for part in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"Get"}:
        return get(value["Get"], scope)
    if set(value) == {"Std:Join"}:
        return join(value["Std:Join"], scope)
    if set(value) == {"Std:JsonGet"}:
        return json_get(value["Std:JsonGet"], scope)
    unknown = [key for key in value if key.startswith("Std:")]
    if unknown:
        raise Refused(f"unknown function {unknown[0]} (there are: Std:Join, Std:JsonGet)")
    return {key: resolve(part, scope) for key, part in value.items()}


def get(reference: str, scope: Scope) -> Any:
    root, *path = tokens(reference)
    if root == "Parameters":
        return walk(scope.parameters, path, reference)
    if root == "Execution":
        return walk(scope.execution, path, reference)
    if root == "Steps":
        return walk(scope.steps, path, reference)
    raise Refused(f"'{reference}' begins with {root} (there are: Parameters, Execution, Steps)")


def join(arguments: Mapping[str, Any], scope: Scope) -> str:
    parts = [resolve(part, scope) for part in arguments["Values"]]
    wrong = [part for part in parts if isinstance(part, list | dict)]
    if wrong:
        raise Refused(f"Std:Join takes texts and numbers, not {wrong[0]!r}")
    return arguments.get("On", "").join(plain(part) for part in parts)


def json_get(arguments: Mapping[str, Any], scope: Scope) -> Any:
    """A figure out of a property file."""
    _, step, kind, name = map(str, tokens(arguments["PropertyFile"]["Get"]))
    if kind != "PropertyFiles":
        raise Refused(f"'{arguments['PropertyFile']['Get']}' names no property file")
    content = scope.property_file(step, name)
    return walk(content, tokens(arguments["Path"]), f"{arguments['Path']} of property file {step}.{name}")


def plain(value: Any) -> str:
    """A parameter's value as Std:Join writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def tokens(reference: str) -> list[str | int]:
    """`Steps.a.Outputs['b'].Uri` -> ["Steps", "a", "Outputs", "b", "Uri"]; list positions are whole numbers."""
    found: list[str | int] = []
    place = 0
    while place < len(reference):
        match = TOKEN.match(reference, place)
        if not match:
            raise Refused(f"'{reference}' cannot be read from '{reference[place:]}' on")
        name, quoted, number = match.groups()
        found.append(int(number) if number is not None else quoted if quoted is not None else name)
        place = match.end()
    return found


def walk(value: Any, path: list[str | int], reference: str) -> Any:
    """Follow a path through mappings and lists; Refused names what was there instead."""
    for key in path:
        there = index(value)
        if key not in there:
            raise Refused(f"'{reference}' leads nowhere: there is no '{key}' (there are: {', '.join(map(str, there))})")
        value = there[key]
    return value


def index(value: Any) -> dict[str | int, Any]:
    """What one step of a path may name: members, positions, or the names of named items."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list):
        named = {item[key]: item for item in value if isinstance(item, Mapping) for key in NAMED_BY if key in item}
        return named or dict(enumerate(value))
    return {}


def references(value: Any) -> Iterator[str]:
    """Every `Get` below a value, steps of branches included."""
    if isinstance(value, list):
        for part in value:
            yield from references(part)
    elif isinstance(value, Mapping):
        if set(value) == {"Get"}:
            yield value["Get"]
        else:
            yield from references(list(value.values()))
