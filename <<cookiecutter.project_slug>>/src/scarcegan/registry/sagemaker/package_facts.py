"""CustomerMetadataProperties of a model package, here called properties: short texts by name that SageMaker stores.
They hold facts about the package, and the decisions about it. Pure functions.

SageMaker allows at most 50 properties of at most 256 characters, and not every character
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html). Longer values are in
package.json beside the model.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, cast

from scarcegan.registry.contract import HEADLINE_METRICS, Decision, PackageRequest

MOST_PROPERTIES, LONGEST_VALUE = 50, 256
MOST_DECISIONS = 16  # the newest are kept
MOST_FACTS = MOST_PROPERTIES - MOST_DECISIONS - 1  # one property is the token of the claim
DECISION_PREFIX = "decision."  # + number
DIGESTS = ("model_digest", "evaluation_digest")  # properties; infra/lambdas/check_approval.py reads them too
GATE = ("passed", "definition", "metric", "challenger", "minimum", "champion")


def short_facts(set_id: str, request: PackageRequest) -> dict[str, str]:
    """Return facts about a package (set, run, gate, metrics, …) as properties, name -> text, for people in Studio.

    Empty values are left out. Names are cut to 128 characters, values to LONGEST_VALUE, and characters that SageMaker
    refuses become spaces. Only the first MOST_FACTS are returned.
    """
    lines: dict[str, Any] = {
        "set_id": set_id,
        "business_definition": request.definition,
        **{name: getattr(request, name) for name in DIGESTS},
        "team": request.config.get("project", {}).get("team"),
        "run": request.run,
        "data_fingerprint": request.data_fingerprint,
        "code_version": request.code_version,
        **{f"gate_{name}": request.gate.get(name) for name in GATE},
        "gate_reason": request.gate.get("reason"),
        **{f"metric_{name}": request.metrics.get(name) for name in HEADLINE_METRICS},
        **{f"metric_{name}": value for name, value in sorted(request.metrics.items())},
    }
    found = {
        without_refused(name)[:128]: without_refused(as_property(value))[:LONGEST_VALUE]
        for name, value in lines.items()
    }
    return dict([(name, value) for name, value in found.items() if value][:MOST_FACTS])


def as_property(value: Any) -> str:
    """Return a value as text: a float with six significant digits, True as "true", None as "", others by str()."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def is_allowed(character: str) -> bool:
    """Whether SageMaker allows a character in the text of a property: letters and digits of any script, space and
    _.:/=+-@
    """
    return character in "_.:/=+-@" or unicodedata.category(character)[0] in "LN" or character == " "


def without_refused(text: str) -> str:
    """Return the text with each run of spaces and of characters that SageMaker refuses in properties as one space.

    Spaces at the beginning and end are cut off.
    """
    return " ".join("".join(c if is_allowed(c) else " " for c in text).split())


def escaped(text: str, also: str = "") -> str:
    """Return the text in a form that a property can hold, which `unescaped` turns back into it.

    "=", each character that SageMaker refuses, and each character in `also` is written as =XX for each of its UTF-8
    bytes.
    """
    kept = (c if is_allowed(c) and c not in f"={also}" else "".join(f"={b:02X}" for b in c.encode()) for c in text)
    return "".join(kept)


def unescaped(text: str) -> str:
    """Return the original of a text that `escaped` has returned.

    In a text that was cut, bytes that are not UTF-8 any more become the replacement character.
    """
    return re.sub(
        r"(=[0-9A-F]{2})+", lambda found: bytes.fromhex(found[0].replace("=", "")).decode(errors="replace"), text
    )


def short_escape(name: str) -> str:
    """Return a name as a property holds it: escaped, also a colon, and cut to 100 characters."""
    return escaped(name, also=":")[:100]


def recorded_name(identity: str) -> str:
    """Return the name that a decision of an AWS identity is recorded with, as `decisions_in` reads it.

    - identity: an ARN. arn:aws:sts::123456789012:assumed-role/Admin/ada gives assumed-role/Admin/ada.
    """
    return unescaped(short_escape(identity.split(":", 5)[-1]))


def decision_line(decision: Decision) -> str:
    """Return a decision as the text of a property: `2026-03-01T12:00:00Z approved by ada: reviewed`.

    Characters that SageMaker refuses are escaped, and so is a colon in the name. The name is cut to 100 characters; if
    the whole text is longer than LONGEST_VALUE, the note is cut and ends with "...".
    """
    by = short_escape(decision.by)
    line = f"{decision.at} {decision.decision} by {by}: {escaped(decision.note)}".rstrip()
    return re.sub(r"(=[0-9A-F]?)$", "", line[: LONGEST_VALUE - 3]) + "..." if len(line) > LONGEST_VALUE else line


def decisions_in(properties: Mapping[str, str], version: int) -> list[Decision]:
    """Return the decisions in the properties (name -> text) of a package, oldest first; [] for none.

    A note may be cut (see decision_line). Properties that are no decision, or not in the form of decision_line, are
    ignored. Whoever may update the package can write any name and time there, so they count as unconfirmed.

    - version: the version number of the package.
    """
    found = []
    for name in sorted(name for name in properties if name.startswith(DECISION_PREFIX)):
        parts = re.fullmatch(r"(\S+) (approved|rejected) by ([^:]*):(?: (.*))?", properties[name])
        if parts:
            at, decision, by, note = parts.groups()
            name = unescaped(by)
            found.append(Decision(at, version, cast(Any, decision), name, unescaped(note or ""), recorded=name))
    return found


def with_decision(properties: Mapping[str, str], decision: Decision) -> tuple[dict[str, str], list[str]]:
    """Return a package's properties (name -> text) with one more decision, and the names of properties to remove.

    The names are those of the oldest decisions; they are not in the properties returned, so that at most MOST_DECISIONS
    decisions remain. Usually there are none. The argument is not changed.
    """
    names = sorted(name for name in properties if name.startswith(DECISION_PREFIX))
    number = max((int(n) for n in decision_numbers(names)), default=0) + 1
    removed = names[: max(0, len(names) - MOST_DECISIONS + 1)]
    kept = {name: value for name, value in properties.items() if name not in removed}
    return {**kept, f"{DECISION_PREFIX}{number:06d}": decision_line(decision)}, removed


def decision_numbers(names: Iterable[str]) -> list[str]:
    """Return the numbers in names of properties such as decision.000003, as text such as "000003", in the same order.

    Other names are ignored.
    """
    found = [name.removeprefix(DECISION_PREFIX) for name in names]
    return [number for number in found if number.isdecimal()]
