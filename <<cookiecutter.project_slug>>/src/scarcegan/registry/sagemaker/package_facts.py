"""What SageMaker keeps with a model package: short facts and decisions as CustomerMetadataProperties. Pure functions.

At most 50 entries of at most 256 characters out of a narrow set
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html); longer things are in
package.json beside the model.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, cast

from scarcegan.registry.contract import HEADLINE, Event, PackageRequest

ENTRIES, LENGTH = 50, 256
DECISIONS = 16  # the newest of them are kept
FACTS = ENTRIES - DECISIONS - 1  # one is the claim's
DECISION = "decision."  # + number
GATE = ("passed", "definition", "metric", "challenger", "minimum", "champion")


def facts(set_id: str, request: PackageRequest) -> dict[str, str]:
    """The short facts of a package, for people in Studio and for filters; the registry reads package.json."""
    lines: dict[str, Any] = {
        "set_id": set_id,
        "business_definition": request.definition,
        "run": request.run,
        "data_fingerprint": request.data_fingerprint,
        "code_version": request.code_version,
        **{f"gate_{name}": request.gate.get(name) for name in GATE},
        "gate_reason": request.gate.get("reason"),
        **{f"metric_{name}": request.metrics.get(name) for name in HEADLINE},
        **{f"metric_{name}": value for name, value in sorted(request.metrics.items())},
    }
    found = {plain(name)[:128]: plain(text(value))[:LENGTH] for name, value in lines.items()}
    return dict([(name, value) for name, value in found.items() if value][:FACTS])


def text(value: Any) -> str:
    """A figure with six digits, a truth in lower case, nothing for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def allowed(character: str) -> bool:
    return character in "_.:/=+-@" or unicodedata.category(character)[0] in "LN" or character == " "


def plain(words: str) -> str:
    """The words without the characters that SageMaker refuses."""
    return " ".join("".join(c if allowed(c) else " " for c in words).split())


def spelled(words: str, also: str = "") -> str:
    """The words with refused characters (and those in `also`) spelled out as =XX, as in quoted-printable."""
    kept = (c if allowed(c) and c not in f"={also}" else "".join(f"={b:02X}" for b in c.encode()) for c in words)
    return "".join(kept)


def read_out(words: str) -> str:
    """What `spelled` was given."""
    return re.sub(
        r"(=[0-9A-F]{2})+", lambda found: bytes.fromhex(found[0].replace("=", "")).decode(errors="replace"), words
    )


def decision_of(event: Event) -> str:
    """A decision as one line: `2026-03-01T12:00:00Z approved by ada: reviewed`. A long note is cut."""
    line = f"{event.at} {event.decision} by {spelled(event.by, also=':')[:100]}: {spelled(event.note)}".rstrip()
    return re.sub(r"(=[0-9A-F]?)$", "", line[: LENGTH - 3]) + "..." if len(line) > LENGTH else line


def decisions(properties: Mapping[str, str], version: int) -> list[Event]:
    """The decisions kept with a package, oldest first. Entries that are not ours are left alone."""
    found = []
    for name in sorted(name for name in properties if name.startswith(DECISION)):
        parts = re.fullmatch(r"(\S+) (approved|rejected) by ([^:]*):(?: (.*))?", properties[name])
        if parts:
            at, decision, by, note = parts.groups()
            found.append(Event(at, version, cast(Any, decision), read_out(by), read_out(note or "")))
    return found


def with_decision(properties: Mapping[str, str], event: Event) -> tuple[dict[str, str], list[str]]:
    """The properties with one decision more, and the names of those that must go so that they fit."""
    names = sorted(name for name in properties if name.startswith(DECISION))
    number = max((int(n) for n in numbers(names)), default=0) + 1
    gone = names[: max(0, len(names) - DECISIONS + 1)]
    kept = {name: value for name, value in properties.items() if name not in gone}
    return {**kept, f"{DECISION}{number:06d}": decision_of(event)}, gone


def numbers(names: Iterable[str]) -> list[str]:
    return [name.removeprefix(DECISION) for name in names if name.removeprefix(DECISION).isdecimal()]
