"""What the status of a CloudFormation stack says about its next change: why it cannot be made now, and the way past.

https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_Stack.html
https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ContinueUpdateRollback.html
https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_RollbackStack.html
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scarcegan.aws.client import flat
from scarcegan.errors import UserError

CREATION_UNDONE = "ROLLBACK_COMPLETE"  # the toolchain's deployments replace such a stack by themselves
DELETE = (
    "Its events in CloudFormation say why (in a new account often a quota of 0, under Service Quotas). Correct that, "
    "then type: {command}; and try again when it is gone."
)
DELETE_AGAIN = (
    "Its events in CloudFormation name what could not be deleted. Delete that by hand, then type: {command}; and try "
    "again when it is gone."
)
ROLL_BACK = "Type: {command}; then try again when that has ended."
CONTINUE = (
    "Its events in CloudFormation name what could not be undone. Correct that, then type: {command}; and try again "
    "when that has ended."
)
IMPORTED = (
    "No command of AWS goes on with it. Undo in CloudFormation's console what its events name, or ask AWS Support; "
    "then try again."
)
WAIT = "Wait until that has ended, then try again."
# Pattern of a status -> what it means, what to do, and the verb of that command. The first that matches counts.
OBSTACLES = {
    f"{CREATION_UNDONE}|ROLLBACK_FAILED|CREATE_FAILED": (
        "its creation failed, and nothing can update it",
        DELETE,
        "delete-stack",
    ),
    "DELETE_FAILED": ("its deletion failed, and nothing can update it", DELETE_AGAIN, "delete-stack"),
    "UPDATE_FAILED": ("its last change failed half-way and was not undone", ROLL_BACK, "rollback-stack"),
    "UPDATE_ROLLBACK_FAILED": (
        "its last change could not be undone; what it holds goes on as it is",
        CONTINUE,
        "continue-update-rollback",
    ),
    "IMPORT_ROLLBACK_FAILED": ("an import of resources into it could not be undone", IMPORTED, ""),
    ".*_IN_PROGRESS": ("it is being changed now", WAIT, ""),
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


def obstacle(name: str, region: str, found: Mapping[str, Any] | None, profile: str = "") -> Obstacle | None:
    """Return why a stack can be neither created nor updated now; None when it can.

    - name: the name of the stack in AWS.
    - found: CloudFormation's description of the stack, or None when there is no such stack.
    - profile: of ~/.aws/config, for the commands to type; "" for the usual credentials.
    """
    status = "" if found is None or is_new(found) else str(found["StackStatus"])
    for pattern, (meaning, move, verb) in OBSTACLES.items():
        if re.fullmatch(pattern, status):
            why = flat((found or {}).get("StackStatusReason", ""))
            fact = f"{status}{f' ({why})' if why else ''}: {meaning}"
            command = stack_command(verb, name, region, profile)
            return Obstacle(fact, move.format(command=command), status.endswith("_IN_PROGRESS"))
    return None


def stack_command(verb: str, name: str, region: str, profile: str = "") -> str:
    """Return the command of the AWS CLI that does something with a stack, such as delete-stack.

    - profile: as for `obstacle`.
    """
    whose = f" --profile {profile}" if profile else ""
    return f"aws cloudformation {verb} --region {region}{whose} --stack-name {name}"


def refuse_unless_changeable(name: str, region: str, found: Mapping[str, Any] | None, profile: str = "") -> None:
    """Check that a stack can be created or updated now. The arguments are those of `obstacle`.

    Raises UserError when it cannot, with what to do.
    """
    stands = obstacle(name, region, found, profile)
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
