"""What the security contact is told, by the patterns of security.yaml; moto's matcher stands for EventBridge's.

The examples of events have the fields that AWS documents; each source is named beside its example. Statically: no event
of AWS was ever received.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session
import pytest

from enforcement import Roles, may_assume
from every_template import Named
from scarcegan.aws import toolchain, watch
from scarcegan.aws.names import Names
from sent_events import event, matches, package_event
from stacks import ACCOUNT, REGION, Stack, Toolchain, transformed

PROJECT, GROUP = "rare-players", "rare-group"
NAMES = Names(PROJECT, ACCOUNT, REGION)
TOOLCHAIN = {"SageMakerProjectName": PROJECT, "Repository": "rare-players", "ModelPackageGroupName": GROUP}
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
FED = {
    "SageMakerProjectName": PROJECT,
    "ModelPackageGroupName": GROUP,
    "KeyArn": NAMES.arn("kms", f"key/{KEY_ID}"),
    "BucketName": NAMES.bucket,
    "ArtifactsBucketName": f"{PROJECT}-storage-artifacts-0a1b2c",
    "PermissionsBoundaryArn": BOUNDARY,
}
ADA = f"arn:aws:sts::{ACCOUNT}:assumed-role/Admin/ada"
BY_HAND, BY_A_STACK = "203.0.113.7", "cloudformation.amazonaws.com"


def rules(**given: str) -> dict[str, dict[str, Any]]:
    return Named("security.yaml", {**FED, **given}).of_type("AWS::Events::Rule")


RULES = rules()


def told(sent: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]] = RULES) -> dict[str, str]:
    """Rule -> its message, for every rule that an event matches."""
    return {
        name: json.loads(transformed(rule["Targets"][0]["InputTransformer"], sent))
        for name, rule in known.items()
        if matches(rule, sent)
    }


def call(service: str, name: str, asked: Mapping[str, Any], source: str = BY_HAND, **more: Any) -> dict[str, Any]:
    """A call of AWS's API, as CloudTrail hands it to EventBridge.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
    """
    detail = {
        "eventVersion": "1.09",
        "userIdentity": {"type": "AssumedRole", "arn": ADA, "accountId": ACCOUNT},
        "eventTime": "2026-11-21T09:59:58Z",
        "eventSource": f"{service}.amazonaws.com",
        "eventName": name,
        "awsRegion": REGION,
        "sourceIPAddress": source,
        "requestParameters": dict(asked),
        "responseElements": None,
        "eventID": "e-1",
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "readOnly": False,
        **more,
    }
    return event(f"aws.{service}", "AWS API Call via CloudTrail", detail)


def action_event(pipeline: str, category: str, state: str) -> dict[str, Any]:
    """https://docs.aws.amazon.com/codepipeline/latest/userguide/detect-state-changes-cloudwatch-events.html"""
    detail = {
        "pipeline": f"{PROJECT}-{pipeline}",
        "version": 3.0,
        "execution-id": "e-1",
        "stage": "Approve",
        "action": "Approve",
        "state": state,
        "type": {"owner": "AWS", "category": category, "provider": "Manual", "version": "1"},
    }
    return event("aws.codepipeline", "CodePipeline Action Execution State Change", detail)


# -- approvals ---------------------------------------------------------------------------------------------------------


def test_an_approved_and_a_rejected_package_are_told_with_version_and_note_by_motos_matcher() -> None:
    for status in ("Approved", "Rejected"):
        said = told(package_event(GROUP, ModelApprovalStatus=status, ApprovalDescription="seen the report"))
        assert list(said) == ["ModelDecidedRule"]
        words = said["ModelDecidedRule"]
        assert f"Version 7 of the models {GROUP} is {status} since 2026-11-21T10:00:00Z" in words
        assert "Note: seen the report" in words and "scarcegan audit" in words


def test_a_registration_and_an_edit_of_an_approved_package_are_not_told_by_motos_matcher() -> None:
    assert not told(package_event(GROUP, ModelApprovalStatus="PendingManualApproval"))
    assert not told(package_event(GROUP, UpdatedModelPackageFields=["CustomerMetadataProperties"]))
    assert not told(package_event("another"))


def test_an_approval_counts_only_from_the_account_that_owns_the_group_by_motos_matcher() -> None:
    forwarded = package_event(GROUP) | {"account": "999988887777"}
    assert not told(forwarded)
    assert told(forwarded, rules(ModelPackageGroupAccount="999988887777"))


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
def test_the_answer_of_the_person_before_production_is_told_with_a_link_by_motos_matcher(state: str) -> None:
    said = told(action_event("deploy", "Approval", state))
    assert list(said) == ["ReleaseDecidedRule"]
    assert f"is {state} since" in said["ReleaseDecidedRule"]
    assert said["ReleaseDecidedRule"].endswith(f"/pipelines/{PROJECT}-deploy/executions/e-1")


def test_a_waiting_approval_and_other_actions_are_not_told_by_motos_matcher() -> None:
    assert not told(action_event("deploy", "Approval", "STARTED"))
    assert not told(action_event("deploy", "Deploy", "SUCCEEDED"))
    assert not told(action_event("build", "Approval", "SUCCEEDED"))


DEPLOY = f"{PROJECT}-deploy"
PUT_APPROVAL = {
    "pipelineName": DEPLOY,
    "stageName": "Approve",
    "actionName": "Approve",
    "result": {"summary": "seen", "status": "Approved"},
    "token": "t",
}
UPDATE_PACKAGE = {
    "modelPackageArn": NAMES.arn("sagemaker", f"model-package/{GROUP}/7"),
    "modelApprovalStatus": "Approved",
}


DECISIONS = [
    ("DeciderRule", "codepipeline", "PutApprovalResult", PUT_APPROVAL, DEPLOY),
    ("DeciderRule", "sagemaker", "UpdateModelPackage", UPDATE_PACKAGE, UPDATE_PACKAGE["modelPackageArn"]),
]


def test_who_approved_is_told_where_a_trail_is_on_by_motos_matcher() -> None:
    """Parameters as CloudTrail writes those of botocore's operations: with a small first letter."""
    for rule, service, name, asked, what in DECISIONS:
        said = told(call(service, name, asked))
        assert list(said) == [rule] and what in said[rule] and f"({name})" in said[rule]
        assert said["DeciderRule"].startswith(f"{ADA} decided about ")
        assert ": Approved (" in said["DeciderRule"] and said["DeciderRule"].endswith("#/events/e-1")


def test_a_metadata_edit_and_another_projects_approval_have_no_decider_by_motos_matcher() -> None:
    edit = {"modelPackageArn": UPDATE_PACKAGE["modelPackageArn"], "customerMetadataProperties": {"a": "b"}}
    assert not told(call("sagemaker", "UpdateModelPackage", edit))
    other = NAMES.arn("sagemaker", f"model-package/{GROUP}-2/7")
    assert not told(call("sagemaker", "UpdateModelPackage", {**UPDATE_PACKAGE, "modelPackageArn": other}))
    assert not told(call("codepipeline", "PutApprovalResult", {**PUT_APPROVAL, "pipelineName": "another-deploy"}))


# -- changes -----------------------------------------------------------------------------------------------------------

JOB = f"{PROJECT}-{REGION}-job"
ALIAS = f"alias/{PROJECT}"
ARTIFACTS = FED["ArtifactsBucketName"]
FUNCTION = f"{PROJECT}-register"
PRODUCTION = f"{PROJECT}-production"
SCORING = f"{PROJECT}-scoring"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:{PROJECT}-security"
Row = tuple[str, str, str, dict[str, Any], str]  # rule, service, name of the event, what is asked, what is told of it
# Names as CloudTrail has them, which its pages say that security.yaml names.
OF_A_ROLE = """
    CreateRole DeleteRole UpdateRole UpdateAssumeRolePolicy PutRolePolicy DeleteRolePolicy AttachRolePolicy
    DetachRolePolicy PutRolePermissionsBoundary DeleteRolePermissionsBoundary
"""
OF_A_POLICY = "CreatePolicyVersion SetDefaultPolicyVersion DeletePolicy"
OF_A_KEY = "PutKeyPolicy ScheduleKeyDeletion DisableKey"
OF_A_BUCKET = """
    PutBucketPolicy DeleteBucketPolicy PutBucketAcl PutBucketPublicAccessBlock DeleteBucketPublicAccessBlock
    PutBucketOwnershipControls DeleteBucketOwnershipControls PutBucketReplication PutBucketVersioning PutBucketLifecycle
"""
OF_A_STACK = "ExecuteChangeSet CreateStack UpdateStack DeleteStack"
OF_A_FUNCTION = """
    UpdateFunctionCode20150331v2 UpdateFunctionConfiguration20150331v2 DeleteFunction20150331 AddPermission20150331v2
"""


def rows(rule: str, service: str, names: str, asked: dict[str, Any], what: str) -> list[Row]:
    return [(rule, service, name, asked, what) for name in names.split()]


def watch_rows(rule: str, topic: str) -> list[Row]:
    """Return the rows of calls that change a rule, or the topic to which the rules write."""
    return [
        *rows("WatchChangedRule", "events", "PutRule DisableRule DeleteRule", {"name": rule}, rule),
        *rows("WatchChangedRule", "events", "PutTargets RemoveTargets", {"rule": rule}, rule),
        *rows("WatchChangedRule", "sns", "DeleteTopic SetTopicAttributes", {"topicArn": topic}, topic),
        *rows("WatchChangedRule", "sns", "Unsubscribe", {"subscriptionArn": f"{topic}:5d1c"}, f"{topic}:5d1c"),
    ]


def stack_rows(rule: str, stack: str) -> list[Row]:
    """Of a stack, by its name and by its ARN."""
    names = (stack, NAMES.arn("cloudformation", f"stack/{stack}/0a1b"))
    return [row for name in names for row in rows(rule, "cloudformation", OF_A_STACK, {"stackName": name}, stack)]


def function_rows(rule: str, function: str) -> list[Row]:
    """Of a function, by its name and by its ARN."""
    names = (function, NAMES.arn("lambda", f"function:{function}"))
    return [row for name in names for row in rows(rule, "lambda", OF_A_FUNCTION, {"functionName": name}, function)]


SCHEDULE = {"name": SCORING, "groupName": PROJECT}
CHANGES = [
    *rows("RoleChangedRule", "iam", OF_A_ROLE, {"roleName": JOB}, JOB),
    *rows("RoleChangedRule", "iam", OF_A_POLICY, {"policyArn": BOUNDARY}, BOUNDARY),
    *rows("KeyChangedRule", "kms", "UpdateAlias DeleteAlias", {"aliasName": ALIAS}, ALIAS),
    *rows("KeyChangedRule", "kms", OF_A_KEY, {"keyId": KEY_ID}, KEY_ID),
    *rows("KeyChangedRule", "kms", OF_A_KEY, {"keyId": FED["KeyArn"]}, KEY_ID),
    *rows("BucketChangedRule", "s3", OF_A_BUCKET, {"bucketName": NAMES.bucket}, NAMES.bucket),
    *rows("BucketChangedRule", "s3", OF_A_BUCKET, {"bucketName": ARTIFACTS}, ARTIFACTS),
    *rows("AccountOpenedRule", "s3", "PutAccountPublicAccessBlock DeleteAccountPublicAccessBlock", {}, "whole account"),
    *function_rows("ToolchainChangedRule", FUNCTION),
    *rows("ToolchainChangedRule", "codepipeline", "UpdatePipeline", {"pipeline": {"name": DEPLOY}}, DEPLOY),
    *rows("ToolchainChangedRule", "codepipeline", "DeletePipeline", {"name": DEPLOY}, DEPLOY),
    *rows("ToolchainChangedRule", "codebuild", "UpdateProject DeleteProject", {"name": DEPLOY}, DEPLOY),
    *rows("ToolchainChangedRule", "scheduler", "UpdateSchedule DeleteSchedule", SCHEDULE, SCORING),
    *rows(
        "ToolchainChangedRule", "sagemaker", "UpdateEndpoint DeleteEndpoint", {"endpointName": PRODUCTION}, PRODUCTION
    ),
    *rows("ProductionChangedRule", "sagemaker", "UpdatePipeline DeletePipeline", {"pipelineName": SCORING}, SCORING),
    *stack_rows("ProductionChangedRule", PRODUCTION),
    *watch_rows(f"{PROJECT}-security-key", TOPIC),
    *stack_rows("DeployedRule", f"{PROJECT}-toolchain"),
    *stack_rows("DeployedRule", f"{PROJECT}-security"),
]


@pytest.mark.parametrize(
    ("rule", "service", "name", "asked", "what"), CHANGES, ids=[f"{c[2]} {n}" for n, c in enumerate(CHANGES)]
)
def test_a_change_is_told_once_with_who_did_what_when_and_a_link_by_motos_matcher(
    rule: str, service: str, name: str, asked: dict[str, Any], what: str
) -> None:
    """Names of the events: the pages of CloudTrail of each service, which security.yaml names beside its rules."""
    said = told(call(service, name, asked))
    assert list(said) == [rule]
    words = said[rule]
    assert words.startswith(f"{ADA} change") and what in words and f"({name}), at 2026-11-21T09:59:58Z" in words
    assert words.endswith(f"https://{REGION}.console.aws.amazon.com/cloudtrailv2/home?region={REGION}#/events/e-1")
    assert "<" not in words


@pytest.mark.parametrize(("rule", "service", "name", "asked", "what"), CHANGES[:-1:3])
def test_a_change_that_aws_refused_is_not_told_by_motos_matcher(
    rule: str, service: str, name: str, asked: dict[str, Any], what: str
) -> None:
    assert not told(call(service, name, asked, errorCode="AccessDenied"))


OTHERS = [
    ("iam", "PutRolePolicy", {"roleName": f"{PROJECT}-2-{REGION}-job"}),
    ("iam", "PutRolePolicy", {"roleName": f"{PROJECT}-us-west-2-job"}),
    ("iam", "TagRole", {"roleName": JOB}),
    ("kms", "PutKeyPolicy", {"keyId": "ffffffff-12ab-34cd-56ef-1234567890ab"}),
    ("kms", "CreateGrant", {"keyId": KEY_ID}),
    ("s3", "PutBucketPolicy", {"bucketName": f"{NAMES.bucket}-2"}),
    ("s3", "PutBucketTagging", {"bucketName": NAMES.bucket}),
    ("lambda", "UpdateFunctionCode20150331v2", {"functionName": "another-register"}),
    ("lambda", "Invoke", {"functionName": FUNCTION}),
    ("codepipeline", "UpdatePipeline", {"pipeline": {"name": "another-deploy"}}),
    ("events", "DisableRule", {"name": "another-security-key"}),
    ("sns", "Unsubscribe", {"subscriptionArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:another-security:5d1c"}),
    ("cloudformation", "ExecuteChangeSet", {"stackName": f"{PROJECT}-staging"}),
    ("cloudformation", "UpdateStack", {"stackName": f"{PROJECT}-production-2"}),
    ("sagemaker", "UpdatePipeline", {"pipelineName": PROJECT}),
    ("sagemaker", "UpdateEndpoint", {"endpointName": f"{PROJECT}-staging"}),
    ("scheduler", "UpdateSchedule", {"name": "another-scoring", "groupName": "another"}),
    ("kms", "UpdateAlias", {"aliasName": f"alias/{PROJECT}-2", "targetKeyId": "f0"}),
    ("iam", "CreatePolicyVersion", {"policyArn": f"{BOUNDARY}-2"}),
    ("iam", "AttachRolePolicy", {"roleName": "another", "policyArn": BOUNDARY}),
    ("cloudformation", "ExecuteChangeSet", {"stackName": f"{PROJECT}-toolchain-2"}),
]


@pytest.mark.parametrize(("service", "name", "asked"), OTHERS)
def test_other_projects_and_harmless_calls_are_not_told_by_motos_matcher(
    service: str, name: str, asked: dict[str, Any]
) -> None:
    assert not told(call(service, name, asked))


@pytest.mark.parametrize(("rule", "service", "name", "asked", "what"), CHANGES)
def test_a_deployment_is_told_by_its_stacks_and_by_roles_key_and_buckets_by_motos_matcher(
    rule: str, service: str, name: str, asked: dict[str, Any], what: str
) -> None:
    silent = ("ToolchainChangedRule", "WatchChangedRule")
    assert list(told(call(service, name, asked, BY_A_STACK))) == ([] if rule in silent else [rule])


@pytest.mark.parametrize(
    ("service", "name", "asked", "actor"),
    [
        ("sagemaker", "UpdatePipeline", {"pipelineName": f"{PROJECT}-scoring"}, "promote"),
        ("cloudformation", "UpdateStack", {"stackName": PRODUCTION}, "deploy-pipeline"),
    ],
)
def test_what_a_release_changes_is_told_only_of_others_by_motos_matcher(
    service: str, name: str, asked: dict[str, Any], actor: str
) -> None:
    """A user of IAM has no session, so its name is that of nobody's role."""
    assert actor in Roles(Toolchain(TOOLCHAIN)).properties
    for arn, rules_told in (
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/{NAMES.role(actor)}/1234", []),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/{NAMES.role('job')}/1234", ["ProductionChangedRule"]),
        (f"arn:aws:iam::{ACCOUNT}:user/mallory", ["ProductionChangedRule"]),
    ):
        assert list(told(call(service, name, asked, userIdentity={"arn": arn}))) == rules_told


def test_a_project_without_a_boundary_is_told_of_no_policy_by_motos_matcher() -> None:
    assert not told(call("iam", "CreatePolicyVersion", {"policyArn": BOUNDARY}), rules(PermissionsBoundaryArn=""))


def test_every_stack_of_the_toolchain_is_watched() -> None:
    for stack in toolchain.STACKS:
        assert told(call("cloudformation", "UpdateStack", {"stackName": NAMES.stack(stack)})), stack


# -- who is told -------------------------------------------------------------------------------------------------------


def test_an_address_is_subscribed_and_without_one_topic_and_rules_are_there_for_a_subscriber_of_yours() -> None:
    plain, given = (Named("security.yaml", {**FED, "SecurityEmail": email}) for email in ("", "grace@example.com"))
    assert plain.of_type("AWS::SNS::Topic") and plain.of_type("AWS::Events::Rule") == RULES
    assert not plain.of_type("AWS::SNS::Subscription")
    [subscription] = given.of_type("AWS::SNS::Subscription").values()
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "grace@example.com")


def test_the_message_that_the_key_is_disabled_needs_no_key() -> None:
    """SNS refuses to send what it cannot encrypt: KMSDisabled, KMSInvalidState.

    https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
    """
    topic = Named("security.yaml", FED).resources["SecurityTopic"]
    assert "KmsMasterKeyId" not in topic


def test_every_rule_tells_the_security_topic_and_not_the_team() -> None:
    whole = Toolchain(TOOLCHAIN)
    watching = {name: rule for name, rule in whole.of_type("AWS::Events::Rule").items() if name in RULES}
    assert {target["Arn"] for rule in watching.values() for target in rule["Targets"]} == {
        whole.reference("SecurityTopic")
    }
    assert len(watching) == len(RULES)


# -- the region where IAM reports --------------------------------------------------------------------------------------

HOME = Stack(
    "home-region.yaml",
    {"SageMakerProjectName": PROJECT, "ProjectRegion": REGION, "PermissionsBoundaryArn": BOUNDARY},
)
HOME.values["AWS::Region"] = "us-east-1"


def test_the_home_region_hands_on_every_change_of_a_role_that_is_told_by_motos_matcher() -> None:
    [rule] = HOME.of_type("AWS::Events::Rule").values()
    changes = [case for case in CHANGES if case[0] == "RoleChangedRule"]
    assert changes and all(matches(rule, call(service, name, asked)) for _, service, name, asked, _ in changes)
    assert not matches(rule, call("iam", "PutRolePolicy", {"roleName": f"{PROJECT}-us-west-2-job"}))
    [target] = rule["Targets"]
    assert target["Arn"] == f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
    roles = Roles(HOME)
    assert target["RoleArn"] == roles.arn("forward") and list(roles.properties) == ["forward"]
    assert roles.may("forward", "events:PutEvents", target["Arn"], {})
    itself = f"arn:aws:events:us-east-1:{ACCOUNT}:rule/{rule['Name']}"
    assert may_assume(roles.trust("forward"), "events", itself)


def test_the_doctor_looks_for_the_rule_that_home_region_yaml_makes() -> None:
    [rule] = HOME.of_type("AWS::Events::Rule").values()
    assert rule["Name"] == watch.forward_rule(NAMES)
    assert Named("security.yaml", FED).resources["SecurityTopic"]["TopicName"] == watch.topic(NAMES)


# -- a stage in an account of its own, a group in another --------------------------------------------------------------

STAGE_STACK = Named("target.yaml", {"ToolchainAccount": ACCOUNT, "Stage": "production", **FED})
STAGE_RULES = STAGE_STACK.of_type("AWS::Events::Rule")
STAGE_KEY, STAGE_KEY_ARN = STAGE_STACK.reference("Key"), STAGE_STACK.attribute("Key", "Arn")
STAGE_BUCKET = STAGE_STACK.reference("Captures")
STACK_ROLE = f"{PROJECT}-{REGION}-stack-production"
SERVES = f"{PROJECT}-{REGION}-serve-production"
THERE = [
    *rows("ProtectionChangedRule", "iam", OF_A_ROLE, {"roleName": STACK_ROLE}, STACK_ROLE),
    *rows("ProtectionChangedRule", "iam", "UpdateAssumeRolePolicy", {"roleName": SERVES}, SERVES),
    *rows("ProtectionChangedRule", "iam", OF_A_POLICY, {"policyArn": BOUNDARY}, BOUNDARY),
    *rows("ProtectionChangedRule", "kms", OF_A_KEY, {"keyId": STAGE_KEY}, STAGE_KEY),
    *rows("ProtectionChangedRule", "kms", OF_A_KEY, {"keyId": STAGE_KEY_ARN}, STAGE_KEY_ARN),
    *rows("ProtectionChangedRule", "s3", OF_A_BUCKET, {"bucketName": STAGE_BUCKET}, STAGE_BUCKET),
    *rows(
        "EndpointChangedRule", "sagemaker", "UpdateEndpoint DeleteEndpoint", {"endpointName": PRODUCTION}, PRODUCTION
    ),
    *function_rows("EndpointChangedRule", f"{PRODUCTION}-rare-share"),
    *stack_rows("StackChangedRule", f"{PROJECT}-target-production"),
    *stack_rows("StackChangedRule", PRODUCTION),
    *watch_rows(f"{PRODUCTION}-security-key", STAGE_STACK.reference("SecurityTopic")),
]


@pytest.mark.parametrize(("rule", "service", "name", "asked", "what"), THERE)
def test_a_change_in_a_stages_own_account_is_told_there_once_with_who_did_it_by_motos_matcher(
    rule: str, service: str, name: str, asked: dict[str, Any], what: str
) -> None:
    said = told(call(service, name, asked), STAGE_RULES)
    assert list(said) == [rule]
    assert said[rule].startswith(f"{ADA} changed ") and what in said[rule] and "<" not in said[rule]
    assert not told(call(service, name, asked, errorCode="AccessDenied"), STAGE_RULES)


@pytest.mark.parametrize(
    ("service", "name", "asked", "more"),
    [
        ("iam", "PutRolePolicy", {"roleName": f"{PROJECT}-{REGION}-stack-staging"}, {}),
        ("iam", "AttachRolePolicy", {"roleName": "another", "policyArn": BOUNDARY}, {}),
        ("sagemaker", "UpdateEndpoint", {"endpointName": f"{PROJECT}-staging"}, {}),
        ("sagemaker", "UpdateEndpoint", {"endpointName": PRODUCTION}, {"sourceIPAddress": BY_A_STACK}),
        (
            "cloudformation",
            "UpdateStack",
            {"stackName": PRODUCTION},
            {"userIdentity": {"arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{NAMES.role('enter-production')}/1"}},
        ),
    ],
)
def test_a_release_and_another_stage_are_not_told_in_a_stages_own_account_by_motos_matcher(
    service: str, name: str, asked: dict[str, Any], more: dict[str, Any]
) -> None:
    assert not told(call(service, name, asked, **more), STAGE_RULES)


def test_every_role_of_a_stages_own_account_and_its_topic_are_watched() -> None:
    for properties in STAGE_STACK.of_type("AWS::IAM::Role").values():
        assert told(call("iam", "PutRolePolicy", {"roleName": properties["RoleName"]}), STAGE_RULES)
    topic = STAGE_STACK.reference("SecurityTopic")
    assert {target["Arn"] for rule in STAGE_RULES.values() for target in rule["Targets"]} == {topic}
    assert "KmsMasterKeyId" not in STAGE_STACK.resources["SecurityTopic"]
    assert told(call("sns", "SetTopicAttributes", {"topicArn": topic}), STAGE_RULES)


GROUP_ACCOUNT = "999988887777"
FORWARD = {"SageMakerProjectName": PROJECT, "ModelPackageGroupName": GROUP, "ToolchainAccount": ACCOUNT}
FORWARDED = Stack("registry-forward.yaml", FORWARD, GROUP_ACCOUNT).of_type("AWS::Events::Rule")


def test_an_approval_and_a_rejection_in_the_account_of_the_group_are_told_here_with_who_by_motos_matcher() -> None:
    """Forwarded events keep their source and their account."""
    here = rules(ModelPackageGroupAccount=GROUP_ACCOUNT)
    package = f"arn:aws:sagemaker:{REGION}:{GROUP_ACCOUNT}:model-package/{GROUP}/7"
    for status in ("Approved", "Rejected"):
        decided = package_event(GROUP, ModelApprovalStatus=status) | {"account": GROUP_ACCOUNT}
        asked = {"modelPackageArn": package, "modelApprovalStatus": status}
        who = call("sagemaker", "UpdateModelPackage", asked) | {"account": GROUP_ACCOUNT}
        for sent, forwards, tells in (
            (decided, "ForwardRule", "ModelDecidedRule"),
            (who, "DeciderRule", "DeciderRule"),
        ):
            assert [name for name, rule in FORWARDED.items() if matches(rule, sent)] == [forwards]
            assert list(told(sent, here)) == [tells]
        assert told(who, here)["DeciderRule"].startswith(f"{ADA} decided about {package}: {status}")


def test_the_account_of_the_group_forwards_no_other_call_by_motos_matcher() -> None:
    package = f"arn:aws:sagemaker:{REGION}:{GROUP_ACCOUNT}:model-package/{GROUP}/7"
    for name, asked in (
        ("UpdateModelPackage", {"modelPackageArn": package}),
        ("DeleteModelPackage", {"modelPackageName": package}),
        ("UpdateEndpoint", {"endpointName": PRODUCTION}),
    ):
        sent = call("sagemaker", name, asked) | {"account": GROUP_ACCOUNT}
        assert not [rule for rule in FORWARDED.values() if matches(rule, sent)]


@pytest.mark.parametrize(
    ("name", "asked"),
    [("UpdateEndpoint", {"endpointName": PRODUCTION}), ("DeletePipeline", {"pipelineName": f"{PROJECT}-scoring"})],
)
def test_a_call_in_the_account_of_the_group_is_not_told_as_one_of_this_account_by_motos_matcher(
    name: str, asked: dict[str, Any]
) -> None:
    here = rules(ModelPackageGroupAccount=GROUP_ACCOUNT)
    assert told(call("sagemaker", name, asked), here)
    assert not told(call("sagemaker", name, asked) | {"account": GROUP_ACCOUNT}, here)


def test_roles_that_two_stacks_make_in_one_account_have_names_of_their_own() -> None:
    """The group's account can be a stage's too, whose changes of roles are forwarded from its home region."""
    home = Stack("home-region.yaml", {"SageMakerProjectName": PROJECT, "ProjectRegion": REGION}, GROUP_ACCOUNT)
    stacks = (home, Stack("registry-forward.yaml", FORWARD, GROUP_ACCOUNT))
    names = [role["RoleName"] for stack in stacks for role in stack.of_type("AWS::IAM::Role").values()]
    assert len(names) == len(set(names)) == len(stacks)


# -- names of calls ---------------------------------------------------------------------------------------------------

# CloudTrail's name -> service and operation in the API, where they are not alike.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/cloudtrail-logging-s3-info.html
IN_THE_API = {
    "PutBucketPublicAccessBlock": ("s3", "PutPublicAccessBlock"),
    "DeleteBucketPublicAccessBlock": ("s3", "DeletePublicAccessBlock"),
    "PutAccountPublicAccessBlock": ("s3control", "PutPublicAccessBlock"),
    "DeleteAccountPublicAccessBlock": ("s3control", "DeletePublicAccessBlock"),
}


@cache
def operations(service: str) -> frozenset[str]:
    return frozenset(botocore.session.get_session().get_service_model(service).operation_names)


def names_in(detail: Mapping[str, Any]) -> Iterator[str | dict[str, str]]:
    """The event names of a pattern, also of its alternatives."""
    for each in (detail, *detail.get("$or", ())):
        yield from each.get("eventName", ())


def heard(known: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, set[str], str]]:
    """(rule, services that it hears, name or beginning of a name) of every call that a rule tells."""
    for rule, about in known.items():
        services = {source.removeprefix("aws.") for source in about["EventPattern"]["source"]}
        for name in names_in(about["EventPattern"]["detail"]):
            yield rule, services, name if isinstance(name, str) else name["prefix"]


WORLDS = {
    "here": (RULES, [*CHANGES, *DECISIONS]),
    "in a stage's own account": (STAGE_RULES, THERE),
    "of the group": (FORWARDED, DECISIONS),
}


@pytest.mark.parametrize("world", WORLDS)
def test_every_call_that_a_rule_names_is_one_of_its_services_and_has_a_row_above_checked_statically(world: str) -> None:
    known, sent = WORLDS[world]
    calls = list(heard(known))
    by_calls = {r for r, about in known.items() if about["EventPattern"]["detail-type"][0].endswith("via CloudTrail")}
    assert {rule for rule, *_ in calls} == by_calls
    for rule, services, name in calls:
        apis = [IN_THE_API[name]] if name in IN_THE_API else [(service, name) for service in services]
        assert any(operation in operations(service) for service, operation in apis), f"{rule}: {name}"
        assert any(row[0] == rule and row[2].startswith(name) and row[1] in services for row in sent), f"{rule}: {name}"


def members(shape: Any) -> set[str]:
    return {name[0].lower() + name[1:] for name in shape.members}


@pytest.mark.parametrize("row", sorted({(r[1], r[2], *r[3]) for r in (*CHANGES, *THERE, *DECISIONS)}), ids=" ".join)
def test_a_row_asks_for_what_the_call_has_checked_statically(row: tuple[str, ...]) -> None:
    """CloudTrail writes the parameters of botocore's operations with a small first letter. S3's are its own."""
    service, name, *asked = row
    if service != "s3":
        unversioned = re.sub(r"20\d{6}(v2)?$", "", name)
        shape = botocore.session.get_session().get_service_model(service).operation_model(unversioned).input_shape
        assert set(asked) <= members(shape)
