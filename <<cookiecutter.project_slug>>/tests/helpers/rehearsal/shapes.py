"""Requests checked against the service's own model, as the service does: members, types, lengths, enums, patterns.

botocore itself checks only names and types on the client's side; the rest is in the same file, so it is read here.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

KINDS: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "structure": dict,
    "map": dict,
    "list": list,
}


@cache
def model(service: str) -> dict[str, Any]:
    from botocore.loaders import Loader

    return Loader().load_service_model(service, "service-2")


def problems(operation: str, request: Any, service: str = "sagemaker") -> list[str]:
    """Everything the service would refuse of a request; empty when nothing."""
    name = model(service)["operations"][operation]["input"]["shape"]
    return list(check(model(service)["shapes"], name, request, operation))


def check(shapes: dict[str, Any], name: str, value: Any, where: str) -> Iterator[str]:
    """Problems of a value of one shape, and of all below it."""
    shape = shapes[name]
    kind = shape["type"]
    if kind in KINDS and (not isinstance(value, KINDS[kind]) or isinstance(value, bool) != (kind == "boolean")):
        yield f"{where}: {value!r} is no {kind}"
        return
    yield from limits(shape, value, where)
    if kind == "structure":
        yield from (f"{where}: unknown member {key}" for key in value if key not in shape["members"])
        yield from (f"{where}: {key} is missing" for key in shape.get("required", ()) if key not in value)
        for key in value.keys() & shape["members"].keys():
            yield from check(shapes, shape["members"][key]["shape"], value[key], f"{where}.{key}")
    elif kind == "map":
        for key, each in value.items():
            yield from check(shapes, shape["key"]["shape"], key, f"{where} key {key}")
            yield from check(shapes, shape["value"]["shape"], each, f"{where}.{key}")
    elif kind == "list":
        for number, each in enumerate(value):
            yield from check(shapes, shape["member"]["shape"], each, f"{where}[{number}]")


def limits(shape: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    """Lengths or ranges, enums and patterns of one value."""
    size = value if isinstance(value, int | float) else len(value)
    shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "…"
    if size < shape.get("min", size):
        yield f"{where}: {shown} is below the least, {shape['min']}"
    if size > shape.get("max", size):
        yield f"{where}: {shown} is above the most, {shape['max']} (it has {size})"
    if "enum" in shape and value not in shape["enum"]:
        yield f"{where}: {shown} is none of the service's values"
    if "pattern" in shape and isinstance(value, str) and not fits(shape["pattern"], value):
        yield f"{where}: {shown} does not fit {shape['pattern']}"


def fits(pattern: str, value: str) -> bool:
    """Whether a text matches the model's pattern; those only Java understands are let pass."""
    try:
        return re.fullmatch(pattern, value, re.DOTALL) is not None
    except re.error:
        return True
