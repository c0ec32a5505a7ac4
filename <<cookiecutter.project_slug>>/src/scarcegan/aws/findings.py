"""Findings: what a check found and what to do about it, and how an error of AWS becomes one."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from scarcegan.aws.client import denied_action, flat, is_denied
from scarcegan.errors import UserError

OK, COULD_NOT_LOOK, WARNING, WOULD_FAIL = "ok", "could not look", "warning", "would fail"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    - check: what was looked at, such as "bucket".
    - state: OK, COULD_NOT_LOOK, WARNING or WOULD_FAIL.
    - found: the fact, as a sentence or the part of one.
    - fix: what the user can do; "" only for OK.
    """

    check: str
    state: str
    found: str
    fix: str = ""


def from_sentence(check: str, state: str, sentence: str) -> Finding:
    """Return the finding of an error's text, which gives the fact and, after its first sentence, what to do.

    A full stop between parentheses, where AWS's own words are, ends no sentence.
    """
    parts = re.fullmatch(r"((?:[^()]|\([^()]*\))+?)\. ((?=[A-Z']).+)", sentence, re.DOTALL)
    if parts:
        return Finding(check, state, parts[1], parts[2])
    return Finding(check, state, sentence, "Correct what it names, then look again: scarcegan doctor --cloud")


def look(check: str, findings: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Run one check that calls AWS. Returns its findings; an error of AWS ends the check and becomes a last finding.

    - check: what is looked at, the `check` of that last finding.
    - findings: makes the calls and yields the findings. A UserError of it becomes a finding that would fail.

    Other errors pass unchanged.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    found: list[Finding] = []
    try:
        found.extend(findings())
    except UserError as error:
        found.append(from_sentence(check, WOULD_FAIL, str(error)))
    except ClientError as error:
        found.append(refused(check, error))
    except BotoCoreError as error:
        fix = "Check the network and project.region in config.yaml. In a VPC without internet, look from elsewhere."
        found.append(Finding(check, COULD_NOT_LOOK, f"AWS does not answer: {flat(error)}", fix))
    return found


def refused(check: str, error: Any) -> Finding:
    """Return the finding for a call that AWS refused.

    - check: what was looked at.
    - error: the botocore ClientError.
    """
    if is_denied(error):
        action = denied_action(error)
        return Finding(
            check, COULD_NOT_LOOK, f"you lack {action}", f"Ask an administrator for {action}, or look there."
        )
    code, message = error.response["Error"].get("Code", ""), flat(error.response["Error"].get("Message", ""))
    fact = f"{error.operation_name} was refused ({code}: {message})"
    return Finding(check, COULD_NOT_LOOK, fact, "Look again in some minutes. If it stays so, follow AWS's words.")
