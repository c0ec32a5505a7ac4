"""Which events start what, by the patterns as the templates have them; moto's matcher stands for EventBridge's."""

import json
import re
from typing import Any

import pytest

from sent_events import codepipeline_event, event, matches, package_event
from stacks import ACCOUNT, INFRA, REGION, Stack, Toolchain, body_of, transformed

PROJECT, GROUP, BRANCH = "rare-players", "rare-group", "main"
TOOLCHAIN = {"SageMakerProjectName": PROJECT, "Repository": "rare-players", "ModelPackageGroupName": GROUP}
PIPELINE = {
    "SageMakerProjectName": PROJECT,
    "TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:{PROJECT}-notifications",
}


def rules(stack: Stack) -> dict[str, dict[str, Any]]:
    return stack.of_type("AWS::Events::Rule")


APPROVAL = rules(Toolchain(TOOLCHAIN))["ApprovalRule"]


@pytest.mark.parametrize("template", sorted(path.name for path in INFRA.glob("*.yaml")))
def test_a_rule_hears_aws_only_and_one_kind_of_event_checked_statically(template: str) -> None:
    """Whoever may send events of their own cannot send them as AWS.

    https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html
    """
    for name, about in body_of(template)["Resources"].items():
        pattern = about.get("Properties", {}).get("EventPattern")
        if about["Type"] == "AWS::Events::Rule" and pattern:
            assert pattern["source"] and all(source.startswith("aws.") for source in pattern["source"]), name
            assert len(pattern["detail-type"]) == 1, name


def test_an_approval_starts_the_deploy_pipeline_by_motos_matcher() -> None:
    assert matches(APPROVAL, package_event(GROUP))
    assert APPROVAL["Targets"][0]["Arn"].endswith(f":{PROJECT}-deploy")


def test_an_approval_that_changes_other_fields_too_starts_it_by_motos_matcher() -> None:
    both = ["ModelApprovalStatus", "CustomerMetadataProperties"]
    assert matches(APPROVAL, package_event(GROUP, UpdatedModelPackageFields=both))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"ModelApprovalStatus": "Rejected"}, id="rejection"),
        pytest.param({"ModelApprovalStatus": "PendingManualApproval"}, id="back to pending"),
        pytest.param(
            {"ModelApprovalStatus": "PendingManualApproval", "UpdatedModelPackageFields": None}, id="registration"
        ),
        pytest.param({"UpdatedModelPackageFields": ["CustomerMetadataProperties"]}, id="metadata edit"),
        pytest.param({"UpdatedModelPackageFields": ["ModelLifeCycle"]}, id="stage edit"),
        pytest.param({"UpdatedModelPackageFields": []}, id="sent again, approved as before"),
        pytest.param({"UpdatedModelPackageFields": None}, id="approved, fields unsaid"),
        pytest.param({"ModelPackageGroupName": "another-group"}, id="another group"),
        pytest.param({"ModelPackageGroupName": f"{GROUP}-2"}, id="a group whose name begins alike"),
        pytest.param({"ModelPackageGroupName": None}, id="a package without a group"),
    ],
)
def test_nothing_else_deploys_by_motos_matcher(changes: dict[str, Any]) -> None:
    assert not matches(APPROVAL, package_event(GROUP, **changes))


def test_an_approval_in_another_service_or_of_another_kind_deploys_nothing_by_motos_matcher() -> None:
    for key, value in (("source", "my.own"), ("detail-type", "SageMaker Training Job State Change")):
        assert not matches(APPROVAL, package_event(GROUP) | {key: value})


def test_an_approval_forwarded_by_an_account_that_does_not_own_the_group_deploys_nothing_by_motos_matcher() -> None:
    elsewhere = {"CreateModelPackageGroup": "no", "ModelPackageGroupAccount": "999988887777"}
    theirs = rules(Toolchain(TOOLCHAIN | elsewhere))["ApprovalRule"]
    for rule, owner in ((APPROVAL, ACCOUNT), (theirs, "999988887777")):
        for account in (ACCOUNT, "999988887777", "555566667777"):
            assert matches(rule, package_event(GROUP) | {"account": account}) == (account == owner)


def test_the_account_of_the_group_sends_decisions_here_and_nothing_else_by_motos_matcher() -> None:
    owner = "999988887777"
    given = {"SageMakerProjectName": PROJECT, "ModelPackageGroupName": GROUP, "ToolchainAccount": ACCOUNT}
    forward = rules(Stack("registry-forward.yaml", given, owner))["ForwardRule"]
    theirs = rules(Toolchain(TOOLCHAIN | {"CreateModelPackageGroup": "no", "ModelPackageGroupAccount": owner}))
    sent = package_event(GROUP) | {"account": owner}
    assert matches(forward, sent) and matches(theirs["ApprovalRule"], sent)
    rejected = package_event(GROUP, ModelApprovalStatus="Rejected") | {"account": owner}
    assert matches(forward, rejected) and not matches(theirs["ApprovalRule"], rejected)
    for changes in (
        {"ModelApprovalStatus": "PendingManualApproval"},
        {"ModelPackageGroupName": "another"},
        {"UpdatedModelPackageFields": None},
    ):
        assert not matches(forward, package_event(GROUP, **changes) | {"account": owner})
    assert not matches(forward, package_event(GROUP) | {"account": ACCOUNT}), "what came from elsewhere is not sent on"
    assert [target["Arn"] for target in forward["Targets"]] == [f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"]


def test_the_approved_version_itself_is_deployed() -> None:
    """The transformer is worked out as EventBridge does it: each <name> is replaced by what its path finds."""
    said = transformed(APPROVAL["Targets"][0]["InputTransformer"], package_event(GROUP))
    assert json.loads(said) == {"variables": [{"name": "VERSION", "value": "7"}]}


def test_a_deploy_pipeline_that_is_given_no_version_skips_every_stage() -> None:
    """CodePipeline starts a pipeline once when it is made; VariableCheck is worked out by re here."""
    pipeline = Toolchain(TOOLCHAIN).resources["DeployPipeline"]
    [variable] = pipeline["Variables"]
    source, *others = pipeline["Stages"]
    assert "BeforeEntry" not in source
    for stage in others:
        [condition] = stage["BeforeEntry"]["Conditions"]
        [rule] = condition["Rules"]
        asked = rule["Configuration"]
        assert (condition["Result"], asked["Variable"], asked["Operator"]) == (
            "SKIP",
            "#{variables.VERSION}",
            "MATCHES",
        )
        assert not re.search(asked["Value"], variable["DefaultValue"])
        assert all(re.search(asked["Value"], version) for version in ("7", "120", "newest"))
        assert not any(re.search(asked["Value"], text) for text in ("7; rm -rf", "$(id)", "0", "newest x"))


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_the_end_of_either_codepipeline_is_told_by_motos_matcher(state: str) -> None:
    rule = rules(Toolchain(TOOLCHAIN))["OutcomeRule"]
    for pipeline in ("build", "deploy"):
        assert matches(rule, codepipeline_event(f"{PROJECT}-{pipeline}", state))


def test_the_start_of_a_codepipeline_and_another_projects_end_are_not_told_by_motos_matcher() -> None:
    rule = rules(Toolchain(TOOLCHAIN))["OutcomeRule"]
    assert not matches(rule, codepipeline_event(f"{PROJECT}-build", "STARTED"))
    assert not matches(rule, codepipeline_event("another-build", "FAILED"))


def test_the_message_names_pipeline_and_outcome_and_leads_to_the_console() -> None:
    rule = rules(Toolchain(TOOLCHAIN))["OutcomeRule"]
    said = transformed(rule["Targets"][0]["InputTransformer"], codepipeline_event(f"{PROJECT}-deploy", "FAILED"))
    assert json.loads(said).startswith(f"{PROJECT}-deploy: FAILED. https://{REGION}.console.aws.amazon.com/")
    assert "<" not in said


def test_a_push_to_the_branch_builds_and_one_elsewhere_does_not_by_motos_matcher() -> None:
    rule = rules(Toolchain(TOOLCHAIN))["PushRule"]
    assert matches(rule, push_event("rare-players", BRANCH))
    for branch in ("topic", f"template-update/{PROJECT}-1.5.0-3f2c1a9b"):
        assert not matches(rule, push_event("rare-players", branch))
    assert not matches(rule, push_event("another", BRANCH))
    assert not matches(rule, push_event("rare-players", BRANCH, "tag"))


def test_there_is_no_push_rule_where_a_connection_has_its_own_trigger() -> None:
    connection = f"arn:aws:codeconnections:{REGION}:{ACCOUNT}:connection/0a1b"
    stack = Toolchain(
        {**TOOLCHAIN, "Repository": "acme/rare", "ConnectionArn": connection, "UpdateSchedule": "rate(7 days)"}
    )
    assert "PushRule" not in stack.resources
    build = stack.resources["BuildPipeline"]
    assert build["Triggers"] == [
        {
            "ProviderType": "CodeStarSourceConnection",
            "GitConfiguration": {"SourceActionName": "Source", "Push": [{"Branches": {"Includes": [BRANCH]}}]},
        }
    ]
    for pipeline in ("DeployPipeline", "UpdatePipeline"):
        assert "Triggers" not in stack.resources[pipeline], "a push must not deploy, nor look for updates"


def test_a_push_builds_a_project_in_a_folder_only_when_it_changes_that_folder() -> None:
    connection = f"arn:aws:codeconnections:{REGION}:{ACCOUNT}:connection/0a1b"
    stack = Toolchain(
        {**TOOLCHAIN, "Repository": "acme/rare", "ConnectionArn": connection, "ProjectFolder": "ml/rare/"}
    )
    [trigger] = stack.resources["BuildPipeline"]["Triggers"]
    assert trigger["GitConfiguration"]["Push"] == [
        {"Branches": {"Includes": [BRANCH]}, "FilePaths": {"Includes": ["ml/rare/**"]}}
    ]


@pytest.mark.parametrize("status", ["Succeeded", "Failed", "Stopped"])
def test_the_end_of_an_execution_is_told_by_motos_matcher(status: str) -> None:
    rule = rules(Stack("pipeline.yaml", PIPELINE))["ExecutionRule"]
    for pipeline in ("training", "scoring"):
        sent = execution_event(f"{PROJECT}-{pipeline}", status)
        assert matches(rule, sent)
        text = transformed(rule["Targets"][0]["InputTransformer"], sent)
        assert f"{status}. " in text and "scarcegan status arn:aws" in text
        assert "gate stayed closed" in text, "SageMaker calls that Failed, too"


def test_running_executions_and_other_pipelines_are_not_told_by_motos_matcher() -> None:
    rule = rules(Stack("pipeline.yaml", PIPELINE))["ExecutionRule"]
    assert not matches(rule, execution_event(f"{PROJECT}-training", "Executing"))
    assert not matches(rule, execution_event(f"{PROJECT}-training-2", "Failed"))


def test_a_rule_calls_what_its_description_says() -> None:
    stack = Toolchain({**TOOLCHAIN, "UpdateSchedule": "rate(7 days)"})
    pipelines = {
        name: f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:{PROJECT}-{name}" for name in ("build", "deploy", "update")
    }
    topic = stack.reference("Topic")
    calls = {name: [target["Arn"] for target in rule["Targets"]] for name, rule in rules(stack).items()}
    assert {name: arns for name, arns in calls.items() if arns != [stack.reference("SecurityTopic")]} == {
        "PushRule": [pipelines["build"]],
        "ApprovalRule": [pipelines["deploy"]],
        "UpdateRule": [pipelines["update"]],
        "OutcomeRule": [topic],
        "UpdateFailedRule": [topic],
    }
    [told] = rules(Stack("pipeline.yaml", PIPELINE)).values()
    assert [target["Arn"] for target in told["Targets"]] == [PIPELINE["TopicArn"]]


def test_a_failed_update_is_told_and_no_other_end_of_one_by_motos_matcher() -> None:
    rule = rules(Toolchain({**TOOLCHAIN, "UpdateSchedule": "rate(7 days)"}))["UpdateFailedRule"]
    assert matches(rule, codepipeline_event(f"{PROJECT}-update", "FAILED"))
    assert not matches(rule, codepipeline_event(f"{PROJECT}-update", "SUCCEEDED"))
    assert not matches(rule, codepipeline_event(f"{PROJECT}-build", "FAILED"))


def push_event(repository: str, name: str, kind: str = "branch") -> dict[str, Any]:
    """https://docs.aws.amazon.com/codecommit/latest/userguide/monitoring-events.html"""
    detail = {
        "event": "referenceUpdated",
        "repositoryName": repository,
        "referenceType": kind,
        "referenceName": name,
        "commitId": "c0ffee",
    }
    arn = f"arn:aws:codecommit:{REGION}:{ACCOUNT}:{repository}"
    return event("aws.codecommit", "CodeCommit Repository State Change", detail, (arn,))


def execution_event(pipeline: str, status: str) -> dict[str, Any]:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html"""
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:pipeline/{pipeline}"
    detail = {
        "pipelineArn": arn,
        "pipelineExecutionArn": f"{arn}/execution/abc",
        "currentPipelineExecutionStatus": status,
        "previousPipelineExecutionStatus": "Executing",
        "executionStartTime": "2026-11-21T09:00:00Z",
    }
    return event("aws.sagemaker", "SageMaker Model Building Pipeline Execution Status Change", detail, (arn,))
