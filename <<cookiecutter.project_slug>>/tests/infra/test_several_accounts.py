"""Stages and readers in accounts of their own: what each account may of the other, and that one account is as before.

Between accounts both sides must allow a call: the caller's own policies, and the policy of what is asked for. Both are
taken from the templates and weighed by tests/helpers/enforcement.py. IAM itself was never asked.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic-cross-account.html
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

import authorization
from enforcement import Roles, allowed, arn, concerns, several
from reach import GIVEN, GROUP, PROJECT, target
from stacks import ACCOUNT, REGION, Stack, Toolchain

STAGING, PRODUCTION, READER, STRANGER = "444455556666", "777788889999", "222211110000", "999900001111"
ELSEWHERE = {"StagingAccount": STAGING, "ProductionAccount": PRODUCTION}
ACCOUNTS = {"staging": STAGING, "production": PRODUCTION}
VPC = {"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"}
BUCKET = f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}"
PACKAGE = arn("sagemaker", f"model-package/{GROUP}/7")
MODEL = f"{BUCKET}/packages/set/best_ranking/model.tar.gz"
CODE = f"{BUCKET}/functions/rare-share-0a.zip"
OURS, APART = Toolchain(GIVEN), Toolchain({**GIVEN, **ELSEWHERE})
SOURCE = f"{APART.attribute('Artifacts', 'Arn')}/rare-players-deploy/DeploySrc/a1.zip"
TARGETS = {stage: Roles(target(APART, stage, account)) for stage, account in ACCOUNTS.items()}
TLS = {"aws:SecureTransport": "true", "s3:ObjectCreationOperation": "true"}


def role(account: str, actor: str) -> str:
    return f"arn:aws:iam::{account}:role/{PROJECT}-{REGION}-{actor}"


def lent(statements: Iterable[Mapping[str, Any]], caller: str, action: str, about: str, **context: str) -> bool:
    """Whether the policy of a resource lets a caller in from another account. caller: ARN of a role."""
    account, there = caller.split(":")[4], {"aws:PrincipalArn": caller, **TLS, **context}
    said = [s for s in statements if speaks_to(s["Principal"], account) and concerns(s, action, about, there)]
    return {s["Effect"] for s in said} == {"Allow"}


def speaks_to(principal: Any, account: str) -> bool:
    named = several(principal.get("AWS", [])) if isinstance(principal, dict) else [principal]
    return any(one in ("*", account, f"arn:aws:iam::{account}:root") for one in named)


def policy(stack: Stack, resource: str) -> list[dict[str, Any]]:
    about = stack.resources[resource]
    kinds = ("PolicyDocument", "KeyPolicy", "ModelPackageGroupPolicy")
    return next((about[kind]["Statement"] for kind in kinds if kind in about), [])


def through_s3(bucket: str) -> dict[str, str]:
    return {"kms:ViaService": f"s3.{REGION}.amazonaws.com", "kms:EncryptionContext:aws:s3:arn": bucket}


# -- one account ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"StagingAccount": ACCOUNT, "ProductionAccount": ACCOUNT}])
def test_with_one_account_no_policy_names_another_and_no_role_enters_one_checked_statically(given) -> None:
    stack = Toolchain({**GIVEN, **given})
    assert stack.resources == OURS.resources
    said = json.dumps(stack.resources)
    assert "sts:AssumeRole" not in json.dumps([role["Policies"] for role in stack.of_type("AWS::IAM::Role").values()])
    assert set(re.findall(r"arn:aws:iam::(\d*):", said)) == {ACCOUNT}
    assert not {"AccountsParameter", "ForwardedApprovals"} & set(stack.resources)
    assert "ModelPackageGroupPolicy" not in stack.resources["ModelPackageGroup"]
    for name in ("BucketPolicy", "ArtifactsPolicy"):
        assert {statement["Effect"] for statement in policy(stack, name)} == {"Deny"}
    for stage in stack.resources["DeployPipeline"]["Stages"]:
        assert not any("RoleArn" in action for action in stage["Actions"])


# -- the deploy pipeline ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ACCOUNTS)
def test_the_deploy_pipeline_enters_a_stages_account_and_deploys_with_that_accounts_role(stage: str) -> None:
    """Action role and CloudFormation's role: https://docs.aws.amazon.com/codepipeline/latest/userguide/pipelines-create-cross-account.html"""
    [found] = [
        action
        for each in APART.resources["DeployPipeline"]["Stages"]
        for action in each["Actions"]
        if action["Configuration"].get("StackName") == f"{PROJECT}-{stage}" and action["Name"] == "Endpoint"
    ]
    assert found["RoleArn"] == role(ACCOUNTS[stage], f"enter-{stage}")
    assert found["Configuration"]["RoleArn"] == role(ACCOUNTS[stage], f"stack-{stage}")
    assert APART.resources["DeployPipeline"]["ArtifactStore"]["EncryptionKey"]["Type"] == "KMS"
    deploying = Roles(APART)
    assert deploying.may("deploy-pipeline", "sts:AssumeRole", found["RoleArn"], {})
    assert TARGETS[stage].arn(f"enter-{stage}") == found["RoleArn"]


@pytest.mark.parametrize("moved", ACCOUNTS)
def test_a_stage_that_stays_is_deployed_here_as_before(moved: str) -> None:
    parameter = f"{moved.capitalize()}Account"
    stack, found = Toolchain({**GIVEN, parameter: ELSEWHERE[parameter]}), {}
    for each in stack.resources["DeployPipeline"]["Stages"]:
        for action in each["Actions"]:
            if "StackName" in action["Configuration"]:
                found[each["Name"].lower()] = (action.get("RoleArn"), action["Configuration"]["RoleArn"])
    [stays] = set(ACCOUNTS) - {moved}
    assert found == {
        moved: (role(ACCOUNTS[moved], f"enter-{moved}"), role(ACCOUNTS[moved], f"stack-{moved}")),
        stays: (None, role(ACCOUNT, f"stack-{stays}")),
    }


@pytest.mark.parametrize(
    ("given", "accounts"),
    [
        (ELSEWHERE, ACCOUNTS),
        ({"StagingAccount": STAGING, "ProductionAccount": STAGING}, {"staging": STAGING, "production": STAGING}),
        ({"ProductionAccount": PRODUCTION}, {"production": PRODUCTION}),
        ({"StagingAccount": STAGING}, {"staging": STAGING}),
    ],
)
def test_verbs_find_the_stages_accounts_and_no_policy_names_an_account_twice(given, accounts) -> None:
    stack = Toolchain({**GIVEN, **given})
    assert json.loads(stack.resources["AccountsParameter"]["Value"]) == accounts
    expected = sorted({f"arn:aws:iam::{account}:root" for account in accounts.values()})
    lending = [
        statement
        for name in ("BucketPolicy", "ArtifactsPolicy", "Key", "ModelPackageGroup")
        for statement in policy(stack, name)
        if statement["Sid"].startswith("Stages")
    ]
    assert len(lending) == 7
    for statement in lending:
        assert sorted(several(statement["Principal"]["AWS"])) == expected, statement["Sid"]
        named = statement["Condition"]["ArnEquals"]["aws:PrincipalArn"]
        assert len(named) == len(set(named)) and all(one.endswith(tuple(accounts)) for one in named)


# -- who may come in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ACCOUNTS)
def test_a_stages_account_lets_in_one_role_to_deploy_and_one_to_ask(stage: str) -> None:
    callers = [role(ACCOUNT, actor) for actor in Roles(APART).properties]
    callers += [role(STRANGER, "deploy-pipeline"), role(ACCOUNT, "x"), f"arn:aws:iam::{ACCOUNT}:user/ada"]
    expected = {
        "enter": {role(ACCOUNT, "deploy-pipeline")},
        "ask": {role(ACCOUNT, "prepare" if stage == "staging" else "promote")},
    }
    for actor, names in expected.items():
        trust, itself = TARGETS[stage].trust(f"{actor}-{stage}"), TARGETS[stage].arn(f"{actor}-{stage}")
        assert {c for c in callers if lent(trust, c, "sts:AssumeRole", itself)} == names
    looking = TARGETS[stage].trust(f"look-{stage}")
    assert {c.split(":")[4] for c in callers if lent(looking, c, "sts:AssumeRole", "*")} == {ACCOUNT}
    for actor in ("stack", "serve", "count"):
        assert all("Service" in s["Principal"] for s in TARGETS[stage].trust(f"{actor}-{stage}"))


def test_before_the_approval_production_in_its_own_account_can_be_looked_at_only() -> None:
    ours = Roles(APART)
    entered = {
        (actor, there.rpartition(f"{REGION}-")[2])
        for actor in ours.properties
        for roles in TARGETS.values()
        for there in map(roles.arn, roles.properties)
        if ours.may(actor, "sts:AssumeRole", there, {})
        and lent(roles.trust(there.rpartition(f"{REGION}-")[2]), ours.arn(actor), "sts:AssumeRole", there)
    }
    assert entered == {
        ("deploy-pipeline", "enter-staging"),
        ("deploy-pipeline", "enter-production"),
        ("prepare", "look-staging"),
        ("prepare", "ask-staging"),
        ("prepare", "look-production"),
        ("promote", "look-production"),
        ("promote", "ask-production"),
    }
    reading = re.compile(r"\w+(-\w+)*:(Describe|Get|List)\w+")
    for stage, roles in TARGETS.items():
        actions = {a for s in roles.statements(f"look-{stage}") for a in several(s["Action"])}
        assert all(map(reading.fullmatch, actions)), actions
        asks = {a for s in roles.statements(f"ask-{stage}") for a in several(s["Action"])} - actions
        assert asks == {"sagemaker:InvokeEndpoint"} | ({"cloudwatch:GetMetricData"} if stage == "staging" else set())


# -- what a stage's account may of the toolchain's --------------------------------------------------------------------

OBJECTS = {  # actor -> objects that it reads over there
    "serve": {MODEL},
    "stack": {CODE, SOURCE},
    "enter": {SOURCE},
}
THINGS = (MODEL, CODE, SOURCE, f"{BUCKET}/data/labels.csv", f"{BUCKET}/functions/register-0a.zip", f"{BUCKET}/runs/x/y")


@pytest.mark.parametrize("stage", ACCOUNTS)
@pytest.mark.parametrize("actor", ["enter", "stack", "look", "ask", "serve", "count"])
def test_a_stages_role_reads_of_the_toolchains_objects_what_its_work_is_and_writes_none(actor: str, stage: str) -> None:
    itself, roles = TARGETS[stage].arn(f"{actor}-{stage}"), TARGETS[stage]
    buckets = [*policy(APART, "BucketPolicy")]
    artifacts = [*policy(APART, "ArtifactsPolicy")]

    def may(action: str, about: str) -> bool:
        lender = artifacts if about == SOURCE else buckets
        mine = allowed(roles.statements(f"{actor}-{stage}"), action, about, {"aws:PrincipalArn": itself, **TLS})
        return mine and lent(lender, itself, action, about)

    assert {about for about in THINGS if may("s3:GetObject", about)} == OBJECTS.get(actor, set())
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:PutBucketPolicy"):
        assert not [about for about in (*THINGS, BUCKET) if lent(buckets, itself, action, about)]
        assert not [about for about in THINGS if lent(artifacts, itself, action, about)]


@pytest.mark.parametrize("stage", ACCOUNTS)
def test_a_stages_role_decrypts_what_it_reads_and_nothing_that_is_not_in_s3(stage: str) -> None:
    key, policy_of_key = APART.attribute("Key", "Arn"), policy(APART, "Key")
    there = {actor: TARGETS[stage].arn(f"{actor}-{stage}") for actor in ("serve", "stack", "enter", "look", "count")}
    for actor, itself in there.items():
        mine = allowed(TARGETS[stage].statements(f"{actor}-{stage}"), "kms:Decrypt", key, {})
        assert mine == (actor in OBJECTS)
        assert lent(policy_of_key, itself, "kms:Decrypt", key, **through_s3(BUCKET)) == (actor in OBJECTS)
        assert not lent(policy_of_key, itself, "kms:Decrypt", key)
        assert not lent(policy_of_key, itself, "kms:Decrypt", key, **through_s3("arn:aws:s3:::another"))
        for action in ("kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant", "kms:PutKeyPolicy"):
            assert not lent(policy_of_key, itself, action, key, **through_s3(BUCKET))
    artifacts = f"arn:aws:s3:::{PROJECT}-storage-artifacts-1a2b3c"
    assert lent(policy_of_key, there["enter"], "kms:Decrypt", key, **through_s3(artifacts))


@pytest.mark.parametrize("stage", ACCOUNTS)
def test_a_stages_stack_makes_a_model_of_a_package_and_decides_about_none(stage: str) -> None:
    group, roles = policy(APART, "ModelPackageGroup"), TARGETS[stage]
    for actor in ("enter", "stack", "look", "ask", "serve", "count"):
        itself = roles.arn(f"{actor}-{stage}")
        for action in ("sagemaker:DescribeModelPackage", "sagemaker:CreateModel"):
            mine = allowed(roles.statements(f"{actor}-{stage}"), action, PACKAGE, {})
            assert (mine and lent(group, itself, action, PACKAGE)) == (actor == "stack")
        for action in ("UpdateModelPackage", "DeleteModelPackage", "CreateModelPackage"):
            assert not lent(group, itself, f"sagemaker:{action}", PACKAGE)


def test_a_role_of_that_name_in_a_third_account_gets_nothing() -> None:
    for actor in ("serve-production", "stack-production", "enter-production"):
        stranger = role(STRANGER, actor)
        assert not lent(policy(APART, "BucketPolicy"), stranger, "s3:GetObject", MODEL)
        assert not lent(policy(APART, "ArtifactsPolicy"), stranger, "s3:GetObject", SOURCE)
        assert not lent(policy(APART, "ModelPackageGroup"), stranger, "sagemaker:CreateModel", PACKAGE)
    swapped = role(STAGING, "serve-production")  # an account may call its roles as it likes
    assert not lent(policy(APART, "BucketPolicy"), swapped, "s3:GetObject", MODEL)


@pytest.mark.parametrize("actor", ["enter", "stack", "look", "ask", "serve", "count"])
def test_stagings_roles_reach_nothing_of_production_where_one_account_has_both(actor: str) -> None:
    both = Toolchain({**GIVEN, "StagingAccount": STAGING, "ProductionAccount": STAGING})
    staging = Roles(target(both, "staging", STAGING))
    tags = {
        "aws:ResourceTag/sagemaker:project-name": PROJECT,
        "aws:ResourceTag/sagemaker:deployment-stage": "production",
    }
    for action, about in (
        ("sagemaker:UpdateEndpoint", f"endpoint/{PROJECT}-production"),
        ("sagemaker:InvokeEndpoint", f"endpoint/{PROJECT}-production"),
        ("cloudformation:UpdateStack", f"stack/{PROJECT}-production/x"),
        ("lambda:UpdateFunctionCode", f"function:{PROJECT}-production-rare-share"),
        ("ssm:PutParameter", f"parameter/{PROJECT}/production/version"),
        ("sagemaker:DeleteModel", "model/x"),
    ):
        service = action.split(":")[0]
        assert not staging.may(f"{actor}-staging", action, arn(service, about, STAGING), tags), action
    production = f"arn:aws:iam::{STAGING}:role/{PROJECT}-{REGION}-"
    for passed in ("stack-production", "serve-production", "count-production"):
        for service in ("cloudformation", "sagemaker", "lambda"):
            context = {"iam:PassedToService": f"{service}.amazonaws.com"}
            assert not staging.may(f"{actor}-staging", "iam:PassRole", production + passed, context)


@pytest.mark.parametrize("stage", ACCOUNTS)
@pytest.mark.parametrize("network", [{}, VPC], ids=["no VPC", "a VPC"])
@pytest.mark.parametrize(
    ("there", "here", "more"),
    [
        ("stack", "stack", {"ReadTheRelease", "ReadWhatTheToolchainEncrypts"}),
        ("serve", "serve", {"ReadWhatTheToolchainEncrypts"}),
        ("count", "count", set()),
    ],
)
def test_a_stages_role_may_in_its_own_account_what_it_may_in_the_toolchains(there, here, more, network, stage) -> None:
    """Where a role of infra/roles-*.yaml changes, infra/target.yaml has to follow."""
    actor = f"{here}-{stage}"

    def place(resource: str) -> str:
        """A resource as it is called where one account has everything; AWS's own accounts hold the images."""
        ours = resource.replace(ACCOUNTS[stage], ACCOUNT).replace("arn:aws:s3:::made-captures", BUCKET)
        return re.sub(r"(:ecr:[^:]*):\d+:", r"\1:*:", ours)

    def rights(roles: Roles, whose: str) -> dict[str, tuple[list[str], set[str], str]]:
        return {
            s["Sid"]: (
                sorted(several(s["Action"])),
                set(map(place, several(s["Resource"]))),
                place(json.dumps(s.get("Condition"))),
            )
            for s in roles.statements(whose)
            if s["Sid"] not in more
        }

    theirs = Roles(target(APART, stage, ACCOUNTS[stage], **network))
    assert rights(theirs, f"{there}-{stage}") == rights(Roles(Toolchain({**GIVEN, **network})), actor)


def test_a_stages_account_lets_its_endpoint_have_what_the_toolchains_would() -> None:
    theirs = target(APART, "production", PRODUCTION)
    assert theirs.values["EndpointInstanceTypes"] == APART.values["EndpointInstanceTypes"]
    published = {about["Name"] for about in theirs.of_type("AWS::SSM::Parameter").values()}
    assert published == {f"/{PROJECT}/production/endpoint-instance-types"}, "scarcegan release prepare reads it"


def test_releases_are_told_what_a_stages_account_holds() -> None:
    """accounts.py hands the outputs on to endpoint.yaml."""
    given = {"EndpointInstanceTypes": "ml.m5.large,ml.c5.large"}
    for network, told in (({}, {}), (VPC, {name: VPC[name] for name in ("SubnetIds", "SecurityGroupIds")})):
        there = target(APART, "production", PRODUCTION, **network, **given)
        assert there.outputs == {
            "StageKeyArn": there.attribute("Key", "Arn"),
            "StageTopicArn": there.reference("Topic"),
            "CaptureBucketName": there.reference("Captures"),
            **told,
        }
        [published] = there.of_type("AWS::SSM::Parameter").values()
        assert (published["Type"], published["Value"]) == ("String", given["EndpointInstanceTypes"])


@pytest.mark.parametrize("given", [{}, {"AccessLogBucketName": "logs-of-acme"}])
def test_what_a_stage_records_in_its_own_account_is_kept_as_in_the_toolchains(given) -> None:
    there, here = target(APART, "staging", STAGING, KeepCaptureDays="7", **given), Toolchain({**GIVEN, **given})
    theirs, ours = there.resources["Captures"], here.resources["Bucket"]
    kept_apart = {"BucketName", "LifecycleConfiguration", "BucketEncryption", "LoggingConfiguration"}
    assert {**theirs, **dict.fromkeys(kept_apart)} == {**ours, **dict.fromkeys(kept_apart)}
    for made, bucket in ((there, theirs), (here, ours)):
        [encryption] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert encryption["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == made.attribute("Key", "Arn")
    assert ("LoggingConfiguration" in theirs) == ("LoggingConfiguration" in ours) == bool(given)
    [rule] = theirs["LifecycleConfiguration"]["Rules"]
    assert (rule["ExpirationInDays"], rule["NoncurrentVersionExpiration"]) == ("7", {"NoncurrentDays": 30})
    for mine, its in (("Bucket", "Captures"), ("Key", "Key")):
        for policy_of in ("DeletionPolicy", "UpdateReplacePolicy"):
            assert there.body["Resources"][its][policy_of] == here.body["Resources"][mine][policy_of]
    assert there.resources["Key"]["EnableKeyRotation"] is True
    assert there.resources["Topic"]["KmsMasterKeyId"] == there.attribute("Key", "Arn")


def test_who_is_named_hears_of_alarms_and_of_changes_in_a_stages_account_and_of_nothing_else() -> None:
    named = {"NotificationEmail": ("Topic", "ada@example.com"), "SecurityEmail": ("SecurityTopic", "grace@example.com")}
    assert not target(APART, "staging", STAGING).of_type("AWS::SNS::Subscription")
    for parameter, (topic, address) in named.items():
        there = target(APART, "staging", STAGING, **{parameter: address})
        assert list(there.of_type("AWS::SNS::Subscription").values()) == [
            {"TopicArn": there.reference(topic), "Protocol": "email", "Endpoint": address}
        ]


def test_lambda_may_put_a_stages_function_into_the_vpc_and_the_functions_code_may_not() -> None:
    roles = Roles(target(APART, "production", PRODUCTION, **VPC))
    subnet, place = arn("ec2", "subnet/subnet-1", PRODUCTION), {"ec2:Vpc": arn("ec2", "vpc/vpc-1", PRODUCTION)}
    assert roles.may("count-production", "ec2:CreateNetworkInterface", subnet, place)
    itself = {"lambda:SourceFunctionArn": arn("lambda", f"function:{PROJECT}-production-rare-share", PRODUCTION)}
    assert not roles.may("count-production", "ec2:CreateNetworkInterface", subnet, place | itself)
    assert roles.may("stack-production", "ec2:DescribeSecurityGroups", "*", {})


def test_every_role_in_a_stages_account_takes_the_permissions_boundary_and_fits_a_name() -> None:
    boundary = f"arn:aws:iam::{PRODUCTION}:policy/boundary"
    bounded = target(APART, "production", PRODUCTION, PermissionsBoundaryArn=boundary).of_type("AWS::IAM::Role")
    assert {about["PermissionsBoundary"] for about in bounded.values()} == {boundary}
    longest = max(len(actor) for roles in TARGETS.values() for actor in roles.properties)
    assert longest <= 16, "project 32, region 14, two hyphens: 64"


def test_the_endpoints_stack_uses_the_roles_and_the_bucket_that_its_account_holds() -> None:
    from reach import example_stack

    for stage, account in ACCOUNTS.items():
        given = {"SageMakerProjectName": PROJECT, "Stage": stage, "Serverless": "false"}
        buckets = {"CodeBucketName": BUCKET[13:], "CaptureBucketName": f"captures-of-{stage}"}
        stack = example_stack("endpoint.yaml", {**given, **buckets}, account).resources
        assert stack["Model"]["ExecutionRoleArn"] == TARGETS[stage].arn(f"serve-{stage}")
        assert stack["RareShareFunction"]["Role"] == TARGETS[stage].arn(f"count-{stage}")
        assert stack["RareShareFunction"]["Code"]["S3Bucket"] == BUCKET[13:]
        where = f"s3://captures-of-{stage}/capture/{stage}"
        assert stack["EndpointConfig"]["DataCaptureConfig"]["DestinationS3Uri"] == where
        assert stack["CapturedRule"]["EventPattern"]["detail"]["bucket"] == {"name": [f"captures-of-{stage}"]}


@pytest.mark.parametrize("stage", ACCOUNTS)
def test_alarms_of_a_stage_reach_its_own_topic_and_another_projects_do_not(stage: str) -> None:
    there, account = target(APART, stage, ACCOUNTS[stage]), ACCOUNTS[stage]
    topic = there.resources["TopicPolicy"]["PolicyDocument"]["Statement"]
    for name, rings in ((f"{PROJECT}-{stage}-ErrorAlarm-1A", True), ("another-ErrorAlarm-1A", False)):
        told = {"aws:SourceAccount": account, "aws:SourceArn": arn("cloudwatch", f"alarm:{name}", account), **TLS}
        for statements, action in ((topic, "sns:Publish"), (policy(there, "Key"), "kms:GenerateDataKey")):
            ours = [s for s in statements if s["Effect"] == "Deny" or "cloudwatch" in str(s["Principal"])]
            about = "made-topic" if action == "sns:Publish" else "*"
            assert allowed(ours, action, about, told) == rings


@pytest.mark.parametrize("stage", ACCOUNTS)
def test_logs_of_a_stages_function_are_encrypted_with_its_own_key_and_others_are_not(stage: str) -> None:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html"""
    key, logs = policy(target(APART, stage, ACCOUNTS[stage]), "Key"), f"logs.{REGION}.amazonaws.com"
    said = [statement for statement in key if statement["Principal"] == {"Service": logs}]
    for function, may in ((f"{PROJECT}-{stage}-rare-share", True), (f"another-{stage}-rare-share", False)):
        group = arn("logs", f"log-group:/aws/lambda/{function}", ACCOUNTS[stage])
        for action in ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"):
            assert allowed(said, action, "*", {"kms:EncryptionContext:aws:logs:arn": group}) == may


# -- readers of the registry -------------------------------------------------------------------------------------------

SHARED = Toolchain({**GIVEN, "ModelPackageGroupReaders": READER})


def test_readers_get_models_with_their_bytes_and_their_key_and_may_change_nothing() -> None:
    reader, key = f"arn:aws:iam::{READER}:role/scoring", SHARED.attribute("Key", "Arn")
    group, bucket, keys = (policy(SHARED, name) for name in ("ModelPackageGroup", "BucketPolicy", "Key"))
    for action in ("DescribeModelPackage", "ListModelPackages", "CreateModel"):
        assert lent(group, reader, f"sagemaker:{action}", PACKAGE)
    assert lent(bucket, reader, "s3:GetObject", MODEL)
    assert lent(bucket, reader, "s3:ListBucket", BUCKET, **{"s3:prefix": "packages/set/"})
    assert lent(keys, reader, "kms:Decrypt", key, **through_s3(BUCKET))
    assert lent(keys, reader, "kms:Decrypt", key, **through_s3(MODEL))
    for about in ("data/labels.csv", "champion/package.tar.gz", "code/abc/source.tar.gz", "scored/scored.parquet"):
        assert not lent(bucket, reader, "s3:GetObject", f"{BUCKET}/{about}")
    assert not lent(bucket, reader, "s3:ListBucket", BUCKET, **{"s3:prefix": "data/"})
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        assert not lent(bucket, reader, action, MODEL, **{"s3:if-none-match": "*"})
    assert not lent(keys, reader, "kms:Decrypt", key)
    assert not lent(keys, reader, "kms:Decrypt", key, **through_s3("arn:aws:s3:::made-artifacts"))
    for via in ({}, {"kms:ViaService": f"lambda.{REGION}.amazonaws.com"}):
        assert not lent(keys, reader, "kms:Decrypt", key, **{"kms:EncryptionContext:aws:s3:arn": BUCKET}, **via)
    assert not lent(keys, reader, "kms:GenerateDataKey", key, **through_s3(BUCKET))
    for action in ("UpdateModelPackage", "CreateModelPackage", "DeleteModelPackage"):
        assert not lent(group, reader, f"sagemaker:{action}", PACKAGE)


def test_the_denials_of_the_bucket_stay_whoever_reads() -> None:
    denials = [statement for statement in policy(OURS, "BucketPolicy") if statement["Effect"] == "Deny"]
    for stack in (SHARED, APART):
        assert [statement for statement in policy(stack, "BucketPolicy") if statement["Effect"] == "Deny"] == denials


# -- a group of another account ----------------------------------------------------------------------------------------

THEIRS = {"CreateModelPackageGroup": "no", "ModelPackageGroupAccount": READER}
FORWARD = {"SageMakerProjectName": PROJECT, "ModelPackageGroupName": GROUP, "ToolchainAccount": ACCOUNT}


KIND = {"events:source": "aws.sagemaker", "events:detail-type": "SageMaker Model Package State Change"}
BUS = arn("events", "event-bus/default")


def test_the_account_of_the_group_may_send_approvals_to_the_bus_here() -> None:
    """Which events its rule sends is in test_events.py."""
    theirs = Stack("registry-forward.yaml", FORWARD, READER)
    sender = Roles(theirs)
    targets = [target for rule in theirs.of_type("AWS::Events::Rule").values() for target in rule["Targets"]]
    assert {(to["Arn"], to.get("RoleArn")) for to in targets} == {(BUS, sender.arn("registry-forward"))}
    to = targets[0]
    assert sender.may("registry-forward", "events:PutEvents", BUS, KIND)
    [trust] = sender.trust("registry-forward")
    assert trust["Principal"] == {"Service": "events.amazonaws.com"} and READER in json.dumps(trust["Condition"])
    statement = Toolchain({**GIVEN, **THEIRS}).resources["ForwardedApprovals"]["Statement"]
    assert lent([statement], to["RoleArn"], "events:PutEvents", BUS, **KIND)
    who = {**KIND, "events:detail-type": "AWS API Call via CloudTrail"}
    assert lent([statement], to["RoleArn"], "events:PutEvents", BUS, **who)
    assert {rule["Name"] for rule in theirs.of_type("AWS::Events::Rule").values()} == {
        one.rpartition("/")[2] for one in trust["Condition"]["ArnEquals"]["aws:SourceArn"]
    }
    assert list(authorization.faults(statement, about_itself=True)) == []


@pytest.mark.parametrize(
    ("caller", "action", "changes"),
    [
        (role(STRANGER, "forward"), "events:PutEvents", {}),
        (role(READER, "forward"), "events:PutEvents", {"events:source": "my.own"}),
        (role(READER, "forward"), "events:PutEvents", {"events:source": "aws.codecommit"}),
        (role(READER, "forward"), "events:PutEvents", {"events:detail-type": "Object Created"}),
        (role(READER, "forward"), "events:PutRule", {}),
        (role(READER, "forward"), "events:PutTargets", {}),
    ],
)
def test_the_bus_takes_nothing_else_from_that_account_and_nothing_from_others(caller, action, changes) -> None:
    statement = Toolchain({**GIVEN, **THEIRS}).resources["ForwardedApprovals"]["Statement"]
    assert not lent([statement], caller, action, BUS, **{**KIND, **changes})
