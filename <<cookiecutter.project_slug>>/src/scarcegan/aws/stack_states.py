"""What the status of a CloudFormation stack says about its next change: why it cannot be made now, and the way past.

https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_Stack.html
https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ContinueUpdateRollback.html
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scarcegan.aws.client import flat
from scarcegan.errors import UserError

CREATION_UNDONE = "ROLLBACK_COMPLETE"  # the toolchain's deployments replace such a stack by themselves
AWS_CLI = "aws cloudformation {verb} --region {region} --stack-name {name}"
DELETE = (
    "Its events in CloudFormation say why (in a new account often a quota of 0, under Service Quotas). Correct that, "
    f"then type: {AWS_CLI.replace('{verb}', 'delete-stack')}; and try again when it is gone."
)
CONTINUE = f"Type: {AWS_CLI.replace('{verb}', 'continue-update-rollback')}; then try again."
# Pattern of a status -> what it means, and what to do. The first that matches counts.
OBSTACLES = {
    f"{CREATION_UNDONE}|ROLLBACK_FAILED|CREATE_FAILED": ("its creation failed, and nothing can update it", DELETE),
    "DELETE_FAILED": ("its deletion failed, and nothing can update it", DELETE),
    "UPDATE_ROLLBACK_FAILED": ("its last change could not be undone; what it holds goes on as it is", CONTINUE),
    ".*_FAILED": ("it cannot be changed", "Repair it in CloudFormation's console, then try again."),
    ".*_IN_PROGRESS": ("it is being changed now", "Wait until that has ended, then try again."),
}


@dataclass(frozen=True)
class Obstacle:
    """Why a stack cannot be changed now.

    - fact: its status and what that means.
    - move: what to do, as sentences.
    - passes: whether it is enough to wait.
    """

    fact: str
    move: str
    passes: bool


def obstacle(name: str, region: str, found: Mapping[str, Any] | None) -> Obstacle | None:
    """Return why a stack can be neither created nor updated now; None when it can.

    - name: the name of the stack in AWS.
    - found: CloudFormation's description of the stack, or None when there is no such stack.
    """
    status = "" if found is None or is_new(found) else str(found["StackStatus"])
    for pattern, (meaning, move) in OBSTACLES.items():
        if re.fullmatch(pattern, status):
            why = flat((found or {}).get("StackStatusReason", ""))
            fact = f"{status}{f' ({why})' if why else ''}: {meaning}"
            return Obstacle(fact, move.format(region=region, name=name), status.endswith("_IN_PROGRESS"))
    return None


def refuse_unless_changeable(name: str, region: str, found: Mapping[str, Any] | None) -> None:
    """Check that a stack can be created or updated now. The arguments are those of `obstacle`.

    Raises UserError when it cannot, with what to do.
    """
    stands = obstacle(name, region, found)
    if stands:
        raise UserError(f"stack {name} is {stands.fact}. {stands.move}")


def is_new(found: Mapping[str, Any] | None) -> bool:
    """Whether a stack has no resources yet.

    - found: CloudFormation's description of the stack, or None when there is no such stack.

    A stack in the status REVIEW_IN_PROGRESS counts as new: it only has a change set that was never executed.
    """
    return found is None or found["StackStatus"] == "REVIEW_IN_PROGRESS"


def creation_was_undone(found: Mapping[str, Any] | None) -> bool:
    """Whether the first creation of a stack failed and was undone: it holds nothing, and can only be deleted."""
    return found is not None and found["StackStatus"] == CREATION_UNDONE
