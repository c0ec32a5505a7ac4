"""What each role of the toolchain may do and what it may not, by its policies as they are written."""

from collections.abc import Mapping

import pytest

from enforcement import Roles, arn
from scarcegan.aws.names import IMAGE_ACCOUNTS
from scarcegan.pipeline.config import InstanceTypes
from stacks import ACCOUNT, REGION, Toolchain

PROJECT, GROUP = "rare-players", "rare-group"
PARAMETERS = {"SageMakerProjectName": PROJECT, "Repository": "acme/rare-players", "ModelPackageGroupName": GROUP}
STACK = Toolchain(PARAMETERS)
ROLES = Roles(STACK)
BUCKET = f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}"
ARTIFACTS = STACK.attribute("Artifacts", "Arn")
KEY = STACK.attribute("Key", "Arn")


def role(actor: str, project: str = PROJECT) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{project}-{REGION}-{actor}"


def sagemaker(resource: str) -> str:
    return arn("sagemaker", resource)


TO_SAGEMAKER = {"iam:PassedToService": "sagemaker.amazonaws.com"}
SMALL = {"sagemaker:InstanceTypes": "ml.m5.2xlarge"}
TAGGED = {"aws:ResourceTag/sagemaker:project-name": PROJECT}
OF_ANOTHER = {"aws:ResourceTag/sagemaker:project-name": "another"}
METRICS = {"cloudwatch:namespace": "/aws/sagemaker/TrainingJobs"}

MUST = {
    "job": [
        ("s3:GetObject", f"{BUCKET}/code/abc/source.tar.gz"),
        ("s3:GetObject", f"{BUCKET}/wheels/abc/numpy.whl"),
        ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("s3:GetObject", f"{BUCKET}/champion/package.tar.gz"),
        ("s3:PutObject", f"{BUCKET}/runs/e1/features/features/part-0.parquet"),
        ("s3:PutObject", f"{BUCKET}/checkpoints/train/checkpoint.npz"),
        ("s3:GetObject", f"{BUCKET}/checkpoints/train/checkpoint.npz"),
        ("s3:ListBucket", BUCKET),
        ("kms:Decrypt", KEY),
        ("kms:GenerateDataKey", KEY),
        ("logs:PutLogEvents", arn("logs", "log-group:/aws/sagemaker/ProcessingJobs:log-stream:x")),
        ("cloudwatch:PutMetricData", "*", METRICS),
        ("ecr:GetAuthorizationToken", "*"),
        ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:763104351884:repository/tensorflow-training"),
    ],
    "pipeline": [
        ("sagemaker:CreateProcessingJob", sagemaker("processing-job/pipelines-abc-features-1"), SMALL),
        ("sagemaker:CreateTrainingJob", sagemaker("training-job/pipelines-abc-train-1"), SMALL),
        ("sagemaker:StopTrainingJob", sagemaker("training-job/pipelines-abc-train-1"), TAGGED),
        ("sagemaker:AddTags", sagemaker("training-job/pipelines-abc-train-1")),
        ("iam:PassRole", role("job"), TO_SAGEMAKER),
        ("lambda:InvokeFunction", arn("lambda", f"function:{PROJECT}-register")),
        ("s3:GetObject", f"{BUCKET}/runs/e1/evaluate/gate/gate.json"),
        ("kms:CreateGrant", KEY, {"kms:GrantIsForAWSResource": "true"}),
    ],
    "register": [
        ("sagemaker:CreateModelPackage", sagemaker(f"model-package-group/{GROUP}")),
        ("sagemaker:UpdateModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("sagemaker:DeleteModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("sagemaker:ListModelPackages", "*"),
        ("s3:GetObject", f"{BUCKET}/runs/e1/train/output/model.tar.gz"),
        ("s3:PutObject", f"{BUCKET}/packages/set/best_ranking/model.tar.gz"),
        ("s3:DeleteObject", f"{BUCKET}/packages/set/best_ranking/model.tar.gz"),
    ],
    "endpoint": [
        ("s3:GetObject", f"{BUCKET}/packages/set/best_ranking/model.tar.gz"),
        ("s3:PutObject", f"{BUCKET}/capture/production/x.jsonl"),
        ("kms:Decrypt", KEY),
    ],
    "rare-share": [
        ("s3:GetObject", f"{BUCKET}/capture/staging/x.jsonl"),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": f"{PROJECT}/endpoint"}),
    ],
    "build": [
        ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz"),
        ("s3:PutObject", f"{BUCKET}/lambda/register-abc.zip"),
        ("s3:PutObject", f"{BUCKET}/champion/.empty"),
        ("sagemaker:CreatePipeline", sagemaker(f"pipeline/{PROJECT}-training")),
        ("sagemaker:UpdatePipeline", sagemaker(f"pipeline/{PROJECT}-scoring")),
        ("sagemaker:StartPipelineExecution", sagemaker(f"pipeline/{PROJECT}-training")),
        ("iam:PassRole", role("pipeline"), TO_SAGEMAKER),
        ("s3:GetObject", f"{ARTIFACTS}/rare-players-build/BuildSrc/a.zip"),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-build/BuildOut/a.zip"),
    ],
    "deploy": [
        ("s3:GetObject", f"{ARTIFACTS}/rare-players-deploy/DeploySrc/a.zip"),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeployOut/a.zip"),
        ("sagemaker:DescribeModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("s3:GetObject", f"{BUCKET}/packages/set/best_ranking/package.json"),
        ("s3:PutObject", f"{BUCKET}/champion/package.tar.gz"),
        ("sagemaker:InvokeEndpoint", sagemaker(f"endpoint/{PROJECT}-staging")),
        ("sagemaker:DescribeEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/champion")),
    ],
    "codepipeline": [
        ("codebuild:StartBuild", arn("codebuild", f"project/{PROJECT}-build")),
        ("cloudformation:UpdateStack", arn("cloudformation", f"stack/{PROJECT}-staging/x")),
        ("iam:PassRole", role("cloudformation"), {"iam:PassedToService": "cloudformation.amazonaws.com"}),
        ("sns:Publish", arn("sns", f"{PROJECT}-notifications")),
    ],
    "cloudformation": [
        ("sagemaker:UpdateEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("sagemaker:CreateModel", sagemaker("model/made"), {"aws:RequestTag/sagemaker:project-name": PROJECT}),
        ("sagemaker:CreateModel", sagemaker(f"model-package/{GROUP}/3")),
        ("iam:PassRole", role("endpoint"), TO_SAGEMAKER),
        ("iam:PassRole", role("register"), {"iam:PassedToService": "lambda.amazonaws.com"}),
        ("lambda:UpdateFunctionCode", arn("lambda", f"function:{PROJECT}-register")),
        ("cloudwatch:PutMetricAlarm", arn("cloudwatch", f"alarm:{PROJECT}-staging-errors")),
    ],
    "events": [
        ("codepipeline:StartPipelineExecution", arn("codepipeline", f"{PROJECT}-deploy")),
    ],
    "schedule": [
        ("sagemaker:StartPipelineExecution", sagemaker(f"pipeline/{PROJECT}-scoring")),
    ],
}

MUST_NOT = {
    "job": [
        ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz"),
        ("s3:PutObject", f"{BUCKET}/champion/package.tar.gz"),
        ("s3:PutObject", f"{BUCKET}/packages/set/best_ranking/model.tar.gz"),
        ("s3:DeleteObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("sagemaker:CreateModelPackage", sagemaker(f"model-package-group/{GROUP}")),
        ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/secrets"),
        ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:999988887777:repository/tensorflow-training"),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "AWS/Billing"}),
    ],
    "pipeline": [
        ("sagemaker:CreateProcessingJob", sagemaker("processing-job/by-hand"), SMALL),
        (
            "sagemaker:CreateTrainingJob",
            sagemaker("training-job/pipelines-abc-train-1"),
            {"sagemaker:InstanceTypes": "ml.p5.48xlarge"},
        ),
        ("sagemaker:StopTrainingJob", sagemaker("training-job/pipelines-abc-train-1"), OF_ANOTHER),
        ("iam:PassRole", role("job"), {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("lambda:InvokeFunction", arn("lambda", "function:somebody-elses")),
        ("sagemaker:CreateEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("kms:CreateGrant", KEY),
    ],
    "register": [
        ("sagemaker:CreateModelPackage", sagemaker("model-package-group/another-group")),
        ("sagemaker:DeleteModelPackageGroup", sagemaker(f"model-package-group/{GROUP}")),
        ("s3:PutObject", f"{BUCKET}/champion/package.tar.gz"),
        ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz"),
        ("sagemaker:CreateEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
    ],
    "endpoint": [
        ("s3:PutObject", f"{BUCKET}/packages/set/best_ranking/model.tar.gz"),
        ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:999988887777:repository/tensorflow-inference"),
    ],
    "rare-share": [
        ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("s3:PutObject", f"{BUCKET}/capture/staging/x.jsonl"),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "another/endpoint"}),
    ],
    "build": [
        # What a build could write there, CloudFormation's role would deploy: into production, past the person.
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-build/BuildSrc/a.zip"),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeployOut/a.zip"),
        ("sagemaker:UpdateModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("sagemaker:CreateEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("s3:PutObject", f"{BUCKET}/champion/package.tar.gz"),
        ("s3:PutObject", f"{BUCKET}/packages/set/best_ranking/model.tar.gz"),
        ("iam:PassRole", role("deploy"), TO_SAGEMAKER),
        ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
    ],
    "deploy": [
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeploySrc/a.zip"),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-build/BuildOut/a.zip"),
        ("sagemaker:UpdateModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("sagemaker:DeleteEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("sagemaker:CreateEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
        ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz"),
        ("ssm:PutParameter", arn("ssm", "parameter/another-project/champion")),
    ],
    "codepipeline": [
        ("codebuild:StartBuild", arn("codebuild", "project/somebody-elses")),
        ("iam:PassRole", role("build"), {"iam:PassedToService": "codebuild.amazonaws.com"}),
        ("iam:PassRole", role("cloudformation"), {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("cloudformation:UpdateStack", arn("cloudformation", f"stack/{PROJECT}-toolchain/x")),
    ],
    "cloudformation": [
        ("iam:CreateServiceLinkedRole", f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/ec2.amazonaws.com/x"),
        ("iam:PassRole", role("endpoint"), {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("iam:PassRole", role("build"), TO_SAGEMAKER),
        ("sagemaker:CreateModel", sagemaker("model/made")),
        ("sagemaker:DeleteModel", sagemaker("model/made"), {"aws:ResourceTag/sagemaker:project-name": "another"}),
        ("sagemaker:DeleteModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("events:PutRule", arn("events", f"rule/{PROJECT}-model-package-approved")),  # which says what deploys
    ],
    "events": [
        ("codepipeline:StartPipelineExecution", arn("codepipeline", "somebody-elses")),
        ("sagemaker:StartPipelineExecution", sagemaker(f"pipeline/{PROJECT}-training")),  # no rule starts it
        ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
    ],
    "schedule": [
        ("sagemaker:StartPipelineExecution", sagemaker("pipeline/somebody-elses")),
        ("sagemaker:UpdatePipeline", sagemaker(f"pipeline/{PROJECT}-scoring")),
    ],
}

NOBODY_MAY = [
    ("iam:CreateRole", role("new")),
    ("iam:PutRolePolicy", role("job")),
    ("iam:AttachRolePolicy", role("job")),
    ("iam:UpdateAssumeRolePolicy", role("job")),
    ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/new"),
    ("iam:CreateAccessKey", f"arn:aws:iam::{ACCOUNT}:user/somebody"),
    ("sts:AssumeRole", role("deploy")),
    ("iam:PassRole", role("job", project="another-project"), TO_SAGEMAKER),
    ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", TO_SAGEMAKER),
    ("s3:GetObject", f"arn:aws:s3:::another-project-{ACCOUNT}-{REGION}/data/telemetry/part-0.parquet"),
    ("s3:PutObject", f"arn:aws:s3:::another-project-{ACCOUNT}-{REGION}/champion/package.tar.gz"),
    ("s3:PutBucketPolicy", BUCKET),
    ("s3:PutBucketPublicAccessBlock", BUCKET),
    ("s3:DeleteBucket", BUCKET),
    ("s3:DeleteObjectVersion", f"{BUCKET}/packages/set/best_ranking/model.tar.gz"),
    ("kms:ScheduleKeyDeletion", KEY),
    ("kms:PutKeyPolicy", KEY),
    ("kms:Decrypt", arn("kms", "key/another")),
    ("sagemaker:CreateNotebookInstance", sagemaker("notebook-instance/x")),
    ("sagemaker:CreatePresignedDomainUrl", sagemaker("user-profile/d/x")),
    ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:x")),
    ("cloudtrail:StopLogging", arn("cloudtrail", "trail/x")),
]


def calls(table: Mapping[str, list]) -> list:
    """(actor, action, resource, context) of every line of a table."""
    return [
        pytest.param(actor, *call[:2], dict(*call[2:]), id=f"{actor} {call[0]} {call[1].rsplit(':', 1)[-1]}")
        for actor, lines in table.items()
        for call in lines
    ]


def test_the_machines_of_config_yaml_are_among_those_that_jobs_may_have() -> None:
    for machine in InstanceTypes().model_dump().values():
        job = sagemaker("training-job/pipelines-abc-train-1")
        assert ROLES.may("pipeline", "sagemaker:CreateTrainingJob", job, {"sagemaker:InstanceTypes": machine})


def test_images_are_pulled_from_the_accounts_that_names_py_knows() -> None:
    images = STACK.body["Mappings"]["Images"]
    assert {region: about["Account"] for region, about in images.items()} == IMAGE_ACCOUNTS


def test_in_a_vpc_nobody_may_raise_their_rights_either_checked_statically() -> None:
    roles = Roles(Toolchain(PARAMETERS | {"VpcId": "vpc-1", "SubnetIds": "s", "SecurityGroupIds": "g"}))
    of = f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/"
    for actor in MUST:
        assert [call for call in NOBODY_MAY if roles.may(actor, *call[:2], dict(*call[2:]))] == []
        there = ("ec2:CreateNetworkInterface", arn("ec2", "subnet/subnet-1"))
        assert roles.may(actor, *there, {"ec2:Vpc": f"{of}vpc-1"}) == (actor in ("job", "endpoint", "build", "deploy"))
        assert not roles.may(actor, *there, {"ec2:Vpc": f"{of}vpc-2"})


def test_every_actor_has_a_role_and_every_role_an_actor() -> None:
    assert sorted(ROLES.properties) == sorted(MUST) == sorted(MUST_NOT)


@pytest.mark.parametrize(("actor", "action", "resource", "context"), calls(MUST))
def test_a_role_may_do_its_work_checked_statically(actor, action, resource, context) -> None:
    assert ROLES.may(actor, action, resource, context)


@pytest.mark.parametrize(("actor", "action", "resource", "context"), calls(MUST_NOT))
def test_a_role_may_not_do_anothers_work_checked_statically(actor, action, resource, context) -> None:
    assert not ROLES.may(actor, action, resource, context)


@pytest.mark.parametrize("actor", sorted(MUST))
def test_nobody_may_raise_their_rights_or_reach_into_another_project_checked_statically(actor) -> None:
    assert [call for call in NOBODY_MAY if ROLES.may(actor, *call[:2], dict(*call[2:]))] == []


def test_a_project_whose_name_begins_like_another_cannot_reach_into_it_checked_statically() -> None:
    bucket = f"arn:aws:s3:::{PROJECT}-two-{ACCOUNT}-{REGION}"
    for actor in MUST:
        for key in ("data/x", "packages/x", "champion/package.tar.gz"):
            assert not ROLES.may(actor, "s3:GetObject", f"{bucket}/{key}", {})
        assert not ROLES.may(actor, "iam:PassRole", role("job", f"{PROJECT}-two"), TO_SAGEMAKER)
    for action, resource in (
        ("events:PutRule", arn("events", f"rule/{PROJECT}-two-model-package-approved")),
        ("cloudwatch:DeleteAlarms", arn("cloudwatch", f"alarm:{PROJECT}-two-production-ErrorAlarm")),
        ("sqs:DeleteQueue", arn("sqs", f"{PROJECT}-two-production-rare-share")),
        ("lambda:UpdateFunctionCode", arn("lambda", f"function:{PROJECT}-two-production-rare-share")),
        ("logs:DeleteLogGroup", arn("logs", f"log-group:/aws/lambda/{PROJECT}-two-register")),
        ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}-two/champion")),
    ):
        there = resource.replace("-two", "")
        assert not ROLES.may("cloudformation", action, resource, {}), resource
        assert "model-package-approved" in there or ROLES.may("cloudformation", action, there, {}), there


UNTOLD = {"lambda.amazonaws.com", "cloudformation.amazonaws.com"}  # they do not tell IAM for whom they act


@pytest.mark.parametrize("actor", sorted(MUST))
def test_a_role_trusts_one_service_and_for_this_account_only_checked_statically(actor) -> None:
    for statement in ROLES.trust(actor):
        [service] = statement["Principal"].values()
        assert list(statement["Principal"]) == ["Service"] and isinstance(service, str)
        asked = {key for operator in statement.get("Condition", {}).values() for key in operator}
        if service not in UNTOLD:
            assert asked == {"aws:SourceAccount", "aws:SourceArn"}, f"{actor}: a confused deputy could use it"
            assert statement["Condition"]["StringEquals"]["aws:SourceAccount"] == ACCOUNT


@pytest.mark.parametrize("actor", sorted(MUST))
def test_no_role_may_do_all_of_a_service_checked_statically(actor) -> None:
    several = [
        action
        for statement in ROLES.statements(actor)
        for action in (statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])
        if "*" in action
    ]
    assert several == []


def test_with_a_boundary_every_role_has_it() -> None:
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
    roles = Roles(Toolchain(PARAMETERS | {"PermissionsBoundaryArn": boundary}))
    assert {name: about.get("PermissionsBoundary") for name, about in roles.properties.items()} == dict.fromkeys(
        MUST, boundary
    )
