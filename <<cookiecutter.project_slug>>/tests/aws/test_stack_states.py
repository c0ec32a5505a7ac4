"""Every status that CloudFormation has for a stack, as botocore lists them, against what this project says of it."""

import pytest
from botocore import xform_name
from botocore.loaders import Loader

from scarcegan.aws.stack_states import is_new, obstacle

API = Loader().load_service_model("cloudformation", "service-2")
STATUSES = API["shapes"]["StackStatus"]["enum"]
TAKES_A_CHANGE = {
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
    "REVIEW_IN_PROGRESS",  # a change set that was never executed: there is nothing yet
    "DELETE_COMPLETE",
}


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_either_takes_a_change_or_has_a_fact_and_a_move(status):
    found = obstacle("s", "eu-west-1", {"StackStatus": status})
    assert (found is None) == (status in TAKES_A_CHANGE)
    if found:
        assert found.fact.startswith(f"{status}: ") and found.move.endswith(".")
        assert found.passes == status.endswith("_IN_PROGRESS")


@pytest.mark.parametrize(
    ("status", "verb"),
    [
        ("ROLLBACK_COMPLETE", "delete-stack"),
        ("ROLLBACK_FAILED", "delete-stack"),
        ("CREATE_FAILED", "delete-stack"),
        ("DELETE_FAILED", "delete-stack"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"),
        ("UPDATE_FAILED", "rollback-stack"),
    ],
)
def test_a_stack_in_the_way_comes_with_the_command_that_ends_that(status, verb):
    found = obstacle("risky-staging", "eu-west-1", {"StackStatus": status, "StackStatusReason": "The quota\nis 0."})
    assert f"aws cloudformation {verb} --region eu-west-1 --stack-name risky-staging;" in found.move
    assert found.fact.startswith(f"{status} (The quota is 0): ")


@pytest.mark.parametrize(
    ("operation", "statuses"),
    [
        ("RollbackStack", {"CREATE_FAILED", "UPDATE_FAILED"}),
        ("ContinueUpdateRollback", {"UPDATE_ROLLBACK_FAILED"}),
    ],
)
def test_a_command_is_named_only_for_a_status_that_it_takes(operation, statuses):
    """Which it takes, botocore's description of the operation says."""
    words = API["operations"][operation]["documentation"]
    assert all(f"<code>{status}</code>" in words for status in statuses)
    verb = xform_name(operation, "-")
    named = {
        status for status in STATUSES if f" {verb} " in getattr(obstacle("s", "r", {"StackStatus": status}), "move", "")
    }
    assert named <= statuses


def test_an_import_that_could_not_be_undone_has_no_command():
    found = obstacle("s", "eu-west-1", {"StackStatus": "IMPORT_ROLLBACK_FAILED"})
    assert "import" in found.fact and "aws cloudformation" not in found.move and "AWS Support" in found.move


def test_the_command_for_a_stack_in_another_account_names_its_profile():
    found = obstacle("s", "eu-west-1", {"StackStatus": "UPDATE_FAILED"}, "PROFILE-OF-333344445555")
    assert "rollback-stack --region eu-west-1 --profile PROFILE-OF-333344445555 --stack-name s;" in found.move


def test_a_stack_that_is_missing_takes_a_change_and_is_new():
    assert obstacle("s", "eu-west-1", None) is None and is_new(None)
