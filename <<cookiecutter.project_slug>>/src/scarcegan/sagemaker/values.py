"""Values of pipeline parameters: texts and the rules of config.yaml in, checked values out. Makes no call to AWS.

SageMaker checks a parameter's type and its list of words, and nothing else. Of a pipeline that registers models, the
Lambda function of the register step checks the rest, in the step `check` and again before it records anything. So this
file imports Python's own library only.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-parameters.html
"""

import copy
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from scarcegan.errors import UserError, shortened
from scarcegan.sagemaker.job import EMPTY_VALUE

DECIMAL = r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?"
BOUNDS = {  # keyword of JSON Schema -> whether a value keeps it, and how to say it
    "minimum": (lambda value, limit: value >= limit, "at least {}"),
    "exclusiveMinimum": (lambda value, limit: value > limit, "more than {}"),
    "maximum": (lambda value, limit: value <= limit, "at most {}"),
    "exclusiveMaximum": (lambda value, limit: value < limit, "less than {}"),
}
Rule = Mapping[str, Any]


def checked_values(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return pipeline parameter -> checked value, of an event of the register function.

    - event: its field "rules" is JSON text, pipeline parameter -> rule; each parameter is a field of its own, with the
      value that it has in the execution.

    Raises UserError, with a line per value that its rule refuses or that the event lacks.
    """
    found, problems = {}, []
    for name, rule in json.loads(event["rules"]).items():
        try:
            found[name] = checked_value(name, rule, event.get(name, ""))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return found


def checked_value(name: str, rule: Rule, given: Any) -> Any:
    """Return the value of one pipeline parameter, in the type of its rule.

    - name: of the parameter, for the message.
    - rule: a part of a JSON Schema: "type" (integer, number, boolean, string or array), and any of enum, pattern,
      minimum, maximum, exclusiveMinimum, exclusiveMaximum, minItems, items. Two more are not of JSON Schema: "lengths",
      how many items an array may have, and "not", a pattern with which a text may not begin. An array is written with
      commas; "(empty)" is an empty array or text.
    - given: its text, or a number.

    Raises UserError for a value that the rule refuses.
    """
    text = "" if given == EMPTY_VALUE else str(given)
    problem, value = read(rule, text)
    if problem:
        said = shortened(" ".join(text.split()))
        raise UserError(f"{name}={said}: must be {problem}. Start the execution again with such a value.")
    return value


def read(rule: Rule, text: str) -> tuple[str, Any]:
    """Return what a text should be, "" when it is that, and its value, None when it is not. rule: as `checked_value`"""
    kind = rule["type"]
    if kind == "array":
        parts = [read(rule["items"], part.strip(" ")) for part in text.split(",")] if text else []
        wrong = next((f"a list with commas, each {problem}" for problem, _ in parts if problem), "")
        if len(parts) < rule.get("minItems", 0):
            wrong = f"a list of at least {rule['minItems']} items"
        if len(parts) not in rule.get("lengths", [len(parts)]):
            wrong = f"a list of {' or '.join(map(str, rule['lengths']))} items"
        return wrong, None if wrong else [value for _, value in parts]
    if kind == "boolean":
        return ("", text == "true") if text in ("true", "false") else ("true or false", None)
    if kind == "string":
        wrong = text_problem(rule, text)
        return wrong, None if wrong else text
    pattern, convert, what = (
        (r"-?[0-9]{1,20}", int, "a whole number") if kind == "integer" else (DECIMAL, float, "a number")
    )
    value = convert(text) if re.fullmatch(pattern, text, re.ASCII) else None
    limits = [(keeps, words, rule[key]) for key, (keeps, words) in BOUNDS.items() if key in rule]
    if value is None or not math.isfinite(value) or not all(keeps(value, limit) for keeps, _, limit in limits):
        return " ".join([what, " and ".join(words.format(limit) for _, words, limit in limits)]).strip(), None
    return "", value


def text_problem(rule: Rule, text: str) -> str:
    """Return what a text should be, "" when its rule, which is of the type string, allows it."""
    if text not in rule.get("enum", [text]):
        return f"one of {', '.join(rule['enum'])}"
    if "pattern" in rule and not re.fullmatch(rule["pattern"].removeprefix("^").removesuffix("$"), text, re.ASCII):
        return f"a text such as {rule['pattern']}"
    if "not" in rule and re.match(rule["not"], text):
        return "a machine without a local disk, which takes no key"
    return ""


def with_values(config: Mapping[str, Any], rules: Mapping[str, Rule], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the values of an execution's parameters; a key that the settings lack is not added.

    - config: nested settings, section -> key -> value.
    - rules: pipeline parameter -> rule, whose "key" is the dotted key of config.yaml that the parameter sets.
    - values: pipeline parameter -> value.
    """
    found = copy.deepcopy(dict(config))
    for name, value in values.items():
        *sections, key = rules[name].get("key", "").split(".")
        section: Any = found
        for part in sections:
            section = section.get(part, {})
        if key in section:
            section[key] = value
    return found
