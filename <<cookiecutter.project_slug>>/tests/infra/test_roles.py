"""What each role of the toolchain may do and what it may not, by its policies as they are written.

Statically: the tests' own evaluator (enforcement.py) weighs them; IAM itself was never asked.
"""

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

import pytest

from enforcement import Roles, allowed, arn
from rare_players import ARTIFACTS, BUCKET, GIVEN, GROUP, KEY, PROJECT, TO_SAGEMAKER, excesses, role, sagemaker
from scarcegan.aws.accounts import STAGES
from scarcegan.aws.names import IMAGE_ACCOUNTS
from scarcegan.aws.prices import load_prices
from scarcegan.pipeline.config import Config, InstanceTypes
from scarcegan.sagemaker import bundle
from stacks import ACCOUNT, INFRA, REGION, Toolchain, body_of

STACK = Toolchain(GIVEN)
ROLES = Roles(STACK)

SMALL = {"sagemaker:InstanceTypes": "ml.m5.2xlarge"}
TAGGED = {"aws:ResourceTag/sagemaker:project-name": PROJECT}
OF_ANOTHER = {"aws:ResourceTag/sagemaker:project-name": "another"}
METRICS = {"cloudwatch:namespace": "/aws/sagemaker/TrainingJobs"}
NEW = {"s3:if-none-match": "*"}  # an upload that S3 refuses when the key is taken
PENDING = {"sagemaker:ModelApprovalStatus": "PendingManualApproval"}
APPROVED = {"sagemaker:ModelApprovalStatus": "Approved"}
MODEL = f"{BUCKET}/packages/set/best_ranking/model.tar.gz"
TO_CLOUDFORMATION = {"iam:PassedToService": "cloudformation.amazonaws.com"}
TO_LAMBDA = {"iam:PassedToService": "lambda.amazonaws.com"}
BY_SAGEMAKER = {"kms:ViaService": f"sagemaker.{REGION}.amazonaws.com"}
BY_LAMBDA = {"kms:ViaService": f"lambda.{REGION}.amazonaws.com"}


def stage_tags(kind: str, stage: str) -> dict[str, str]:
    """Tags of a request or of a resource, as IAM is told of them."""
    return {f"aws:{kind}Tag/sagemaker:project-name": PROJECT, f"aws:{kind}Tag/sagemaker:deployment-stage": stage}


JOB_READS = [
    ("s3:GetObject", f"{BUCKET}/code/abc/source.tar.gz"),
    ("s3:GetObject", f"{BUCKET}/wheels/abc/numpy.whl"),
    ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
    ("s3:GetObject", f"{BUCKET}/champion/package.tar.gz"),
    ("s3:ListBucket", BUCKET),
    ("kms:Decrypt", KEY),
    ("kms:Encrypt", KEY),  # its output names the key by an alias
    ("kms:GenerateDataKey", KEY),
    ("kms:CreateGrant", KEY, BY_SAGEMAKER),  # for its volume
    ("logs:PutLogEvents", arn("logs", "log-group:/aws/sagemaker/ProcessingJobs:log-stream:x")),
    ("cloudwatch:PutMetricData", "*", METRICS),
    ("ecr:GetAuthorizationToken", "*"),
    ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:763104351884:repository/tensorflow-training"),
]
READS_PACKAGES = [
    ("sagemaker:DescribeModelPackage", sagemaker(f"model-package/{GROUP}/3")),
    ("sagemaker:ListModelPackages", "*"),
    ("s3:GetObject", f"{BUCKET}/packages/set/best_ranking/package.json"),
    ("s3:GetObject", f"{ARTIFACTS}/rare-players-deploy/DeploySrc/a.zip"),
    ("sagemaker:DescribeEndpointConfig", sagemaker("endpoint-config/made")),
    ("ssm:GetParameter", arn("ssm", f"parameter/{PROJECT}/rare-share-code")),
]


def stage_work(stage: str) -> list:
    """What CloudFormation calls for one stage's stack."""
    mine, made = stage_tags("Request", stage), stage_tags("Resource", stage)
    return [
        ("sagemaker:CreateEndpoint", sagemaker(f"endpoint/{PROJECT}-{stage}")),
        ("sagemaker:CreateEndpoint", sagemaker("endpoint-config/made"), made),
        ("sagemaker:UpdateEndpoint", sagemaker(f"endpoint/{PROJECT}-{stage}")),
        ("sagemaker:UpdateEndpoint", sagemaker("endpoint-config/made"), made),
        ("sagemaker:CreateModel", sagemaker("model/made"), mine),
        ("sagemaker:CreateModel", sagemaker(f"model-package/{GROUP}/3")),
        ("sagemaker:CreateEndpointConfig", sagemaker("endpoint-config/made"), mine),
        ("sagemaker:AddTags", sagemaker("model/made"), {"sagemaker:TaggingAction": "CreateModel"}),
        ("sagemaker:DeleteModel", sagemaker("model/made"), made),
        ("iam:PassRole", role(f"serve-{stage}"), TO_SAGEMAKER),
        ("iam:PassRole", role(f"count-{stage}"), TO_LAMBDA),
        ("kms:CreateGrant", KEY, BY_SAGEMAKER),
        ("kms:CreateGrant", KEY, BY_LAMBDA),
        ("lambda:UpdateFunctionCode", arn("lambda", f"function:{PROJECT}-{stage}-rare-share")),
        ("s3:GetObject", f"{BUCKET}/functions/rare-share-0a.zip"),
        ("cloudwatch:PutMetricAlarm", arn("cloudwatch", f"alarm:{PROJECT}-{stage}-errors")),
        ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/{stage}/version")),
        ("events:PutRule", arn("events", f"rule/{PROJECT}-{stage}-captured")),
    ]


TARGET = arn("application-autoscaling", "scalable-target/0a1b")
SCALES = [
    *((f"application-autoscaling:{each}ScalableTarget", TARGET) for each in ("Register", "Deregister")),
    *((f"application-autoscaling:{each}ScalingPolicy", TARGET) for each in ("Put", "Delete")),
    *((f"application-autoscaling:{each}Resource", TARGET) for each in ("Tag", "Untag")),
]
OF_THIS, OF_NEIGHBOUR = ({"aws:ResourceTag/sagemaker:project-name": name} for name in (PROJECT, "neighbour"))
SCALING = [
    *SCALES,
    *((action, target, OF_THIS) for action, target in SCALES),
    # Application Auto Scaling names its alarms so, and asks its caller for them.
    *(
        (f"cloudwatch:{action}", arn("cloudwatch", f"alarm:TargetTracking-endpoint/{PROJECT}-production/variant/A-1"))
        for action in ("PutMetricAlarm", "DescribeAlarms", "DeleteAlarms")
    ),
]


def serving(stage: str) -> list:
    """What the served model of one stage does."""
    return [
        ("s3:GetObject", MODEL),
        ("s3:PutObject", f"{BUCKET}/capture/{stage}/x.jsonl"),
        ("kms:Decrypt", KEY),
        ("cloudwatch:DescribeAlarms", arn("cloudwatch", f"alarm:{PROJECT}-{stage}-ErrorAlarm-1")),  # to roll back
    ]


def counting(stage: str) -> list:
    """What the function does that counts one stage's answers."""
    return [
        ("s3:GetObject", f"{BUCKET}/capture/{stage}/x.jsonl"),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": f"{PROJECT}/{stage}"}),
        ("sqs:SendMessage", arn("sqs", f"{PROJECT}-{stage}-rare-share")),
        ("logs:PutLogEvents", arn("logs", f"log-group:/aws/lambda/{PROJECT}-{stage}-rare-share:log-stream:x")),
    ]


MUST = {
    "job": [
        *JOB_READS,
        ("s3:PutObject", f"{BUCKET}/runs/e1/features/features/part-0.parquet"),
        ("s3:PutObject", f"{BUCKET}/checkpoints/train/checkpoint.npz"),
        ("s3:GetObject", f"{BUCKET}/checkpoints/train/checkpoint.npz"),
    ],
    "scoring-job": [
        *JOB_READS,
        ("s3:PutObject", f"{BUCKET}/scoring/e1/features/features/part-0.parquet"),
        ("s3:GetObject", f"{BUCKET}/scoring/e1/features/features/part-0.parquet"),
        ("s3:PutObject", f"{BUCKET}/scored/scored.parquet"),
    ],
    "pipeline": [
        ("sagemaker:CreateProcessingJob", sagemaker("processing-job/pipelines-abc-features-1"), SMALL),
        ("sagemaker:CreateTrainingJob", sagemaker("training-job/pipelines-abc-train-1"), SMALL),
        ("sagemaker:StopTrainingJob", sagemaker("training-job/pipelines-abc-train-1"), TAGGED),
        ("sagemaker:AddTags", sagemaker("training-job/pipelines-abc-train-1")),
        ("iam:PassRole", role("job"), TO_SAGEMAKER),
        ("lambda:InvokeFunction", arn("lambda", f"function:{PROJECT}-register")),
        ("s3:GetObject", f"{BUCKET}/runs/e1/evaluate/gate/gate.json"),
        ("kms:CreateGrant", KEY, BY_SAGEMAKER),
    ],
    "scoring-pipeline": [
        ("sagemaker:CreateProcessingJob", sagemaker("processing-job/pipelines-abc-score-1"), SMALL),
        ("sagemaker:StopProcessingJob", sagemaker("processing-job/pipelines-abc-score-1"), TAGGED),
        ("iam:PassRole", role("scoring-job"), TO_SAGEMAKER),
        ("lambda:InvokeFunction", arn("lambda", f"function:{PROJECT}-register")),
        ("kms:CreateGrant", KEY, BY_SAGEMAKER),
    ],
    "register": [
        ("sagemaker:CreateModelPackage", sagemaker(f"model-package-group/{GROUP}"), PENDING),
        ("sagemaker:CreateModelPackage", sagemaker(f"model-package/{GROUP}/3"), PENDING),
        ("sagemaker:DeleteModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("sagemaker:ListModelPackages", "*"),
        ("s3:GetObject", f"{BUCKET}/runs/e1/train/output/model.tar.gz"),
        ("s3:PutObject", MODEL, NEW),
        ("s3:PutObject", f"{BUCKET}/packages/set/best_ranking/package.json"),
        ("s3:DeleteObject", MODEL),
    ],
    "check-approval": [
        ("codepipeline:ListActionExecutions", arn("codepipeline", f"{PROJECT}-deploy")),
        ("codepipeline:GetPipelineExecution", arn("codepipeline", f"{PROJECT}-deploy")),
        ("codepipeline:PutJobSuccessResult", "*"),
        ("codepipeline:PutJobFailureResult", "*"),
        ("sagemaker:DescribeModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("s3:GetObject", MODEL),
        ("s3:GetObject", f"{BUCKET}/releases/3/e1.json"),  # when the stage is tried again
        ("s3:PutObject", f"{BUCKET}/releases/3/e1.json", NEW),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/Checked/a.zip"),  # what production is given
        ("logs:PutLogEvents", arn("logs", f"log-group:/aws/lambda/{PROJECT}-check-approval:log-stream:x")),
    ],
    **{f"serve-{stage}": serving(stage) for stage in STAGES},
    **{f"count-{stage}": counting(stage) for stage in STAGES},
    "build": [
        ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz", NEW),
        ("s3:PutObject", f"{BUCKET}/wheels/abc/numpy.whl", NEW),
        *(("s3:PutObject", f"{BUCKET}/{key}") for key in bundle.markers()),
        ("sagemaker:CreatePipeline", sagemaker(f"pipeline/{PROJECT}-training")),
        ("sagemaker:UpdatePipeline", sagemaker(f"pipeline/{PROJECT}-training")),
        ("sagemaker:StartPipelineExecution", sagemaker(f"pipeline/{PROJECT}-training")),
        ("iam:PassRole", role("pipeline"), TO_SAGEMAKER),
        ("s3:GetObject", f"{ARTIFACTS}/rare-players-build/BuildSrc/a.zip"),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-build/BuildOut/a.zip"),
    ],
    "build-pipeline": [
        ("codebuild:StartBuild", arn("codebuild", f"project/{PROJECT}-build")),
        ("cloudformation:UpdateStack", arn("cloudformation", f"stack/{PROJECT}-pipeline/x")),
        ("cloudformation:DeleteStack", arn("cloudformation", f"stack/{PROJECT}-pipeline/x")),  # one that failed
        ("iam:PassRole", role("stack-pipeline"), TO_CLOUDFORMATION),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-build/BuildSrc/a.zip"),
        ("s3:GetObject", f"{ARTIFACTS}/rare-players-build/BuildOut/a.zip"),
    ],
    "stack-pipeline": [
        ("events:PutRule", arn("events", f"rule/{PROJECT}-execution")),
    ],
    "prepare": [
        *READS_PACKAGES,
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeployOut/a.zip"),
        ("sagemaker:InvokeEndpoint", sagemaker(f"endpoint/{PROJECT}-staging")),
        *(("cloudformation:DescribeStacks", arn("cloudformation", f"stack/{PROJECT}-{stage}/x")) for stage in STAGES),
        ("sagemaker:DescribeEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),  # can it take a release?
        ("application-autoscaling:DescribeScalableTargets", "*"),
        ("cloudwatch:GetMetricData", "*"),  # of the load test
    ],
    "promote": [
        *READS_PACKAGES,
        ("sagemaker:InvokeEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("sagemaker:DescribeEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("cloudformation:DescribeStacks", arn("cloudformation", f"stack/{PROJECT}-production/x")),
        ("s3:PutObject", f"{BUCKET}/champion/package.tar.gz"),
        ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/champion")),
        ("s3:GetObject", f"{BUCKET}/code/abc/source.tar.gz"),
        ("s3:GetObject", f"{BUCKET}/wheels/abc/.complete"),
        ("sagemaker:CreatePipeline", sagemaker(f"pipeline/{PROJECT}-scoring")),
        ("sagemaker:UpdatePipeline", sagemaker(f"pipeline/{PROJECT}-scoring")),
        ("iam:PassRole", role("scoring-pipeline"), TO_SAGEMAKER),
    ],
    "deploy-pipeline": [
        ("codebuild:StartBuild", arn("codebuild", f"project/{PROJECT}-prepare")),
        ("codebuild:StartBuild", arn("codebuild", f"project/{PROJECT}-promote")),
        ("cloudformation:UpdateStack", arn("cloudformation", f"stack/{PROJECT}-staging/x")),
        ("cloudformation:DeleteStack", arn("cloudformation", f"stack/{PROJECT}-staging/x")),
        ("iam:PassRole", role("stack-staging"), TO_CLOUDFORMATION),
        ("iam:PassRole", role("stack-production"), TO_CLOUDFORMATION),
        ("sns:Publish", arn("sns", f"{PROJECT}-notifications")),
        ("lambda:InvokeFunction", arn("lambda", f"function:{PROJECT}-check-approval")),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeploySrc/a.zip"),
    ],
    "stack-staging": stage_work("staging"),
    "stack-production": [*stage_work("production"), *SCALING],
    "events": [
        ("codepipeline:StartPipelineExecution", arn("codepipeline", f"{PROJECT}-deploy")),
    ],
    "schedule": [
        ("sagemaker:StartPipelineExecution", sagemaker(f"pipeline/{PROJECT}-scoring")),
    ],
}

FOREIGN_JOBS = [
    ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz", NEW),
    ("s3:PutObject", f"{BUCKET}/champion/package.tar.gz"),
    ("s3:PutObject", MODEL, NEW),
    ("s3:DeleteObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
    ("sagemaker:CreateModelPackage", sagemaker(f"model-package-group/{GROUP}"), PENDING),
    ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/secrets"),
    ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:999988887777:repository/tensorflow-training"),
    ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "AWS/Billing"}),
    # A deployment is rolled back, or not, by what lies in such a namespace.
    *(("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": f"{PROJECT}/{end}"}) for end in ("endpoint", *STAGES)),
    ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "AWS/SageMaker"}),
    ("kms:CreateGrant", KEY, {"kms:ViaService": f"ec2.{REGION}.amazonaws.com"}),
    ("kms:CreateGrant", KEY),  # by itself, to whomever it likes
]


def stages_limits(stage: str, other: str) -> list:
    """What a stage's stack may not do, the other stage's work above all."""
    return [
        ("iam:CreateServiceLinkedRole", f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/ec2.amazonaws.com/x"),
        ("iam:PassRole", role(f"serve-{stage}"), {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("iam:PassRole", role(f"serve-{other}"), TO_SAGEMAKER),
        ("iam:PassRole", role(f"count-{other}"), TO_LAMBDA),
        ("iam:PassRole", role("build"), TO_SAGEMAKER),
        ("iam:PassRole", role("register"), TO_LAMBDA),
        ("iam:PassRole", role("check-approval"), TO_LAMBDA),
        ("iam:PassRole", role("events"), {"iam:PassedToService": "events.amazonaws.com"}),
        ("sagemaker:CreateModel", sagemaker("model/made")),
        ("sagemaker:CreateEndpointConfig", sagemaker("endpoint-config/made"), stage_tags("Request", other)),
        ("sagemaker:UpdateEndpoint", sagemaker("endpoint-config/made"), stage_tags("Resource", other)),
        ("sagemaker:DeleteModel", sagemaker("model/made"), stage_tags("Resource", other)),
        ("sagemaker:DeleteEndpointConfig", sagemaker("endpoint-config/made"), OF_ANOTHER),
        # With a tag of its own it could take what is another's.
        ("sagemaker:AddTags", sagemaker("endpoint-config/made"), stage_tags("Request", stage)),
        ("sagemaker:UpdateEndpoint", sagemaker(f"endpoint/{PROJECT}-{other}")),
        ("sagemaker:DeleteEndpoint", sagemaker(f"endpoint/{PROJECT}-{other}")),
        ("lambda:UpdateFunctionCode", arn("lambda", f"function:{PROJECT}-{other}-rare-share")),
        ("lambda:UpdateFunctionCode", arn("lambda", f"function:{PROJECT}-register")),
        ("lambda:UpdateFunctionConfiguration", arn("lambda", f"function:{PROJECT}-check-approval")),
        ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/{other}/version")),
        ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/champion")),
        ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/rare-share-code")),
        ("cloudwatch:DeleteAlarms", arn("cloudwatch", f"alarm:{PROJECT}-{other}-ErrorAlarm-1")),
        ("cloudwatch:DeleteAlarms", arn("cloudwatch", "alarm:TargetTracking-endpoint/another/variant/A-1")),
        ("events:PutTargets", arn("events", f"rule/{PROJECT}-{other}-captured")),
        ("events:PutRule", arn("events", f"rule/{PROJECT}-model-package-approved")),  # which says what deploys
        ("sagemaker:DeleteModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("s3:PutObject", f"{BUCKET}/functions/rare-share-0a.zip", NEW),
        ("cloudformation:UpdateStack", arn("cloudformation", f"stack/{PROJECT}-{other}/x")),
    ]


def servings_limits(stage: str) -> list:
    """What the served model of one stage may not do, such as the other's work."""
    [other] = {*STAGES} - {stage}
    return [
        ("s3:PutObject", MODEL, NEW),
        ("s3:PutObject", f"{BUCKET}/capture/{other}/x.jsonl"),
        ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": f"{PROJECT}/{stage}"}),
        ("logs:PutLogEvents", arn("logs", f"log-group:/aws/sagemaker/Endpoints/{PROJECT}-{other}:log-stream:x")),
        ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:999988887777:repository/tensorflow-inference"),
        ("cloudwatch:DescribeAlarms", arn("cloudwatch", "alarm:somebody-elses")),
    ]


def countings_limits(stage: str) -> list:
    """What one stage's function may not do: a pushed template gives staging's whatever code it likes."""
    [other] = {*STAGES} - {stage}
    return [
        ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("s3:GetObject", f"{BUCKET}/capture/{other}/x.jsonl"),
        ("s3:PutObject", f"{BUCKET}/capture/{stage}/x.jsonl"),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": f"{PROJECT}/{other}"}),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": f"another/{stage}"}),
        ("sqs:SendMessage", arn("sqs", f"{PROJECT}-{other}-rare-share")),
    ]


MUST_NOT = {
    "job": [
        *FOREIGN_JOBS,
        ("s3:PutObject", f"{BUCKET}/scored/scored.parquet"),
        ("s3:PutObject", f"{BUCKET}/scoring/e1/features/features/part-0.parquet"),
    ],
    "scoring-job": [
        *FOREIGN_JOBS,
        ("s3:PutObject", f"{BUCKET}/checkpoints/train/checkpoint.npz"),
        ("s3:GetObject", f"{BUCKET}/runs/e1/features/features/part-0.parquet"),  # whatever was pushed writes there
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
        ("iam:PassRole", role("scoring-job"), TO_SAGEMAKER),
        ("lambda:InvokeFunction", arn("lambda", "function:somebody-elses")),
        ("lambda:InvokeFunction", arn("lambda", f"function:{PROJECT}-check-approval")),
        ("sagemaker:CreateEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("kms:CreateGrant", KEY),
    ],
    "scoring-pipeline": [
        ("sagemaker:CreateTrainingJob", sagemaker("training-job/pipelines-abc-train-1"), SMALL),
        ("iam:PassRole", role("job"), TO_SAGEMAKER),
        ("lambda:InvokeFunction", arn("lambda", f"function:{PROJECT}-check-approval")),
        ("kms:CreateGrant", KEY),
    ],
    "register": [
        ("sagemaker:CreateModelPackage", sagemaker("model-package-group/another-group"), PENDING),
        ("sagemaker:CreateModelPackage", sagemaker(f"model-package-group/{GROUP}"), APPROVED),
        ("sagemaker:CreateModelPackage", sagemaker(f"model-package-group/{GROUP}")),
        ("sagemaker:UpdateModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("sagemaker:UpdateModelPackage", sagemaker(f"model-package/{GROUP}/3"), APPROVED),
        ("sagemaker:DeleteModelPackageGroup", sagemaker(f"model-package-group/{GROUP}")),
        ("s3:PutObject", MODEL),  # over the bytes that are there
        ("s3:PutObject", f"{BUCKET}/champion/package.tar.gz"),
        ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz", NEW),
        ("s3:PutObject", f"{BUCKET}/functions/register-0a.zip", NEW),
        ("sagemaker:CreateEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
    ],
    "check-approval": [
        ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
        ("codepipeline:ListActionExecutions", arn("codepipeline", "somebody-elses")),
        ("codepipeline:StartPipelineExecution", arn("codepipeline", f"{PROJECT}-deploy")),
        ("sagemaker:UpdateModelPackage", sagemaker(f"model-package/{GROUP}/3"), APPROVED),
        ("s3:PutObject", f"{BUCKET}/releases/3/e1.json"),  # over the record that is there
        ("s3:DeleteObject", f"{BUCKET}/releases/3/e1.json"),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeploySrc/a.zip"),
        ("s3:PutObject", MODEL, NEW),
    ],
    **{f"serve-{stage}": servings_limits(stage) for stage in STAGES},
    **{f"count-{stage}": countings_limits(stage) for stage in STAGES},
    "build": [
        # What a build could write there, CloudFormation's role would deploy: into production, past the person.
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-build/BuildSrc/a.zip"),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeployOut/a.zip"),
        ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz"),  # over the code that is there
        ("s3:PutObject", f"{BUCKET}/functions/register-0a.zip", NEW),
        ("s3:PutObject", f"{BUCKET}/functions/rare-share-0a.zip", NEW),
        ("s3:PutObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("sagemaker:UpdateModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("sagemaker:CreateEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("sagemaker:UpdatePipeline", sagemaker(f"pipeline/{PROJECT}-scoring")),
        ("s3:PutObject", f"{BUCKET}/champion/package.tar.gz"),
        ("s3:PutObject", MODEL, NEW),
        ("iam:PassRole", role("promote"), TO_SAGEMAKER),
        ("iam:PassRole", role("scoring-pipeline"), TO_SAGEMAKER),
        ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
    ],
    "build-pipeline": [
        ("codebuild:StartBuild", arn("codebuild", f"project/{PROJECT}-promote")),
        ("cloudformation:UpdateStack", arn("cloudformation", f"stack/{PROJECT}-production/x")),
        ("cloudformation:DeleteStack", arn("cloudformation", f"stack/{PROJECT}-production/x")),
        ("cloudformation:UpdateStack", arn("cloudformation", f"stack/{PROJECT}-toolchain/x")),
        ("iam:PassRole", role("stack-production"), TO_CLOUDFORMATION),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeploySrc/a.zip"),
    ],
    "stack-pipeline": [
        ("iam:PassRole", role("register"), TO_LAMBDA),
        ("lambda:UpdateFunctionCode", arn("lambda", f"function:{PROJECT}-register")),
        ("lambda:CreateFunction", arn("lambda", f"function:{PROJECT}-register")),
        ("events:PutRule", arn("events", f"rule/{PROJECT}-model-package-approved")),
        ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/champion")),
        # A schedule of its own would start scoring with data and a version of its choice.
        ("scheduler:CreateSchedule", arn("scheduler", f"schedule/{PROJECT}/{PROJECT}-scoring")),
        ("scheduler:UpdateSchedule", arn("scheduler", f"schedule/{PROJECT}/{PROJECT}-scoring")),
        ("iam:PassRole", role("schedule"), {"iam:PassedToService": "scheduler.amazonaws.com"}),
        ("iam:PassRole", role("events"), {"iam:PassedToService": "events.amazonaws.com"}),
    ],
    "prepare": [
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeploySrc/a.zip"),
        ("s3:ListBucket", ARTIFACTS),  # the keys of other executions are random, and not for it to find
        ("s3:PutObject", f"{BUCKET}/champion/package.tar.gz"),
        ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/champion")),
        ("s3:PutObject", f"{BUCKET}/functions/rare-share-0a.zip", NEW),
        ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz", NEW),
        ("sagemaker:UpdatePipeline", sagemaker(f"pipeline/{PROJECT}-scoring")),
        ("sagemaker:UpdateModelPackage", sagemaker(f"model-package/{GROUP}/3"), APPROVED),
        ("sagemaker:InvokeEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": f"{PROJECT}/endpoint"}),
        ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
    ],
    "promote": [
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeploySrc/a.zip"),
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeployOut/a.zip"),
        ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz", NEW),
        ("s3:PutObject", MODEL, NEW),
        ("s3:PutObject", f"{BUCKET}/scored/scored.parquet"),
        ("sagemaker:UpdateModelPackage", sagemaker(f"model-package/{GROUP}/3")),
        ("sagemaker:DeleteEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("sagemaker:CreateEndpoint", sagemaker(f"endpoint/{PROJECT}-production")),
        ("sagemaker:UpdatePipeline", sagemaker(f"pipeline/{PROJECT}-training")),
        ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
        ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
        ("ssm:PutParameter", arn("ssm", "parameter/another-project/champion")),
    ],
    "deploy-pipeline": [
        ("codebuild:StartBuild", arn("codebuild", "project/somebody-elses")),
        ("iam:PassRole", role("build"), {"iam:PassedToService": "codebuild.amazonaws.com"}),
        ("iam:PassRole", role("stack-production"), {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("cloudformation:UpdateStack", arn("cloudformation", f"stack/{PROJECT}-toolchain/x")),
        ("cloudformation:DeleteStack", arn("cloudformation", f"stack/{PROJECT}-production/x")),
        ("lambda:InvokeFunction", arn("lambda", f"function:{PROJECT}-register")),
        ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
    ],
    "stack-staging": [*stages_limits("staging", "production"), *SCALES],  # production's, as only production scales
    "stack-production": [
        *stages_limits("production", "staging"),
        *((action, target, OF_NEIGHBOUR) for action, target in SCALES),
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


def test_what_a_mistake_with_machines_can_cost_is_limited_checked_statically() -> None:
    """Of a family without a price in the table, a size costs no more than about that of r5 does."""
    allowed = STACK.values["JobInstanceTypes"]
    assert not [machine for machine in allowed if "*" in machine or machine.endswith(("8xlarge", "2.xlarge", "metal"))]
    prices = load_prices().machine_hour
    assert max(prices[machine] for machine in allowed if machine in prices) * Config().cloud.max_hours < 15
    for actor, kind in (("pipeline", "CreateTrainingJob"), ("scoring-pipeline", "CreateProcessingJob")):
        job = sagemaker(f"{'training' if 'Training' in kind else 'processing'}-job/pipelines-abc-x-1")
        for machine, may in (("ml.m5.4xlarge", True), ("ml.m5.24xlarge", False), ("ml.p4d.24xlarge", False)):
            assert ROLES.may(actor, f"sagemaker:{kind}", job, {"sagemaker:InstanceTypes": machine}) == may


@pytest.mark.parametrize("stage", ["staging", "production"])
@pytest.mark.parametrize(
    ("machine", "may"),
    [
        ("ml.m5.large", True),
        ("ml.m7i.4xlarge", True),
        ("ml.r5.4xlarge", True),
        ("ml.c6i.xlarge", True),
        ("ml.m5.8xlarge", False),
        ("ml.m5.24xlarge", False),
        ("ml.g5.xlarge", False),
        ("ml.inf2.xlarge", False),
        ("ml.p4d.24xlarge", False),
        ("", True),  # serverless: AWS sends no such key
    ],
)
def test_an_endpoint_gets_no_accelerator_and_nothing_above_a_4xlarge(stage: str, machine: str, may: bool) -> None:
    tags = {"aws:RequestTag/sagemaker:project-name": PROJECT, "aws:RequestTag/sagemaker:deployment-stage": stage}
    asked = tags | ({"sagemaker:InstanceTypes": machine} if machine else {})
    config = sagemaker("endpoint-config/config-1")
    assert ROLES.may(f"stack-{stage}", "sagemaker:CreateEndpointConfig", config, asked) == may


def test_the_machine_of_config_yaml_is_among_those_that_endpoints_may_have() -> None:
    listed = STACK.values["EndpointInstanceTypes"]
    assert any(fnmatchcase(Config().cloud.endpoint.instance, one) for one in listed)
    assert not [one for one in listed if fnmatchcase("ml.g5.xlarge", one) or fnmatchcase("ml.trn1.2xlarge", one)]


def test_images_are_pulled_from_the_accounts_that_names_py_knows() -> None:
    images = STACK.body["Mappings"]["Images"]
    assert {region: about["Account"] for region, about in images.items()} == IMAGE_ACCOUNTS


FUNCTIONS = ("register", "check-approval", "count-staging", "count-production")
IN_THE_VPC = ("job", "scoring-job", "serve-staging", "serve-production", "build", "prepare", "promote", *FUNCTIONS)


def test_in_a_vpc_nobody_may_raise_their_rights_either_checked_statically() -> None:
    roles = Roles(Toolchain(GIVEN | {"VpcId": "vpc-1", "SubnetIds": "s", "SecurityGroupIds": "g"}))
    of = f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/"
    for actor in MUST:
        assert excesses(roles, actor) == []
        there = ("ec2:CreateNetworkInterface", arn("ec2", "subnet/subnet-1"))
        assert roles.may(actor, *there, {"ec2:Vpc": f"{of}vpc-1"}) == (actor in IN_THE_VPC)
        assert not roles.may(actor, *there, {"ec2:Vpc": f"{of}vpc-2"})


def test_of_a_bucket_of_yours_one_folder_is_read_and_listed_checked_statically() -> None:
    roles = Roles(Toolchain(GIVEN | {"DataBucketName": "acme-data", "DataPrefix": "players/"}))
    bucket = "arn:aws:s3:::acme-data"
    for actor in MUST:
        reads, lists = actor in ("job", "scoring-job"), actor in ("job", "scoring-job", "build")
        for prefix, is_its in (("players/", True), ("players/2026/", True), ("payroll/", False), ("", False)):
            assert roles.may(actor, "s3:ListBucket", bucket, {"s3:prefix": prefix}) == (lists and is_its), prefix
            assert roles.may(actor, "s3:GetObject", f"{bucket}/{prefix}x.csv", {}) == (reads and is_its), prefix
        assert not roles.may(actor, "s3:ListBucket", bucket, {})
        assert roles.may(actor, "s3:GetBucketLocation", bucket, {}) == lists


@pytest.mark.parametrize("template", ["roles-models.yaml", "roles-build.yaml"])
def test_a_bucket_of_yours_is_given_with_its_folder_checked_statically(template) -> None:
    rule = body_of(template)["Rules"]["OneFolderOfYourBucket"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "DataBucketName"}, ""]}]}
    assert rule["Assertions"][0]["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "DataPrefix"}, ""]}]}
    pattern = body_of(template)["Parameters"]["DataPrefix"]["AllowedPattern"]
    for prefix, fits in (
        ("", True),
        ("players/", True),
        ("a/b=1/", True),
        ("players", False),
        ("/", False),
        ("a*/", False),
    ):
        assert bool(re.fullmatch(pattern, prefix)) == fits, prefix


def test_lambda_uses_the_rights_for_a_vpc_and_a_functions_code_may_not_checked_statically() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html"""
    roles = Roles(Toolchain(GIVEN | {"VpcId": "vpc-1", "SubnetIds": "s", "SecurityGroupIds": "g"}))
    interface, place = arn("ec2", "network-interface/eni-1"), {"ec2:Vpc": arn("ec2", "vpc/vpc-1")}
    calls = [("ec2:CreateNetworkInterface", interface), ("ec2:CreateNetworkInterface", arn("ec2", "subnet/subnet-1"))]
    calls += [("ec2:DeleteNetworkInterface", interface), ("ec2:AssignPrivateIpAddresses", interface)]
    calls += [("ec2:UnassignPrivateIpAddresses", interface)]
    calls += [("ec2:DescribeNetworkInterfaces", "*"), ("ec2:DescribeSubnets", "*")]
    for actor in FUNCTIONS:
        for function in (f"{PROJECT}-{actor}", f"{PROJECT}-production-{actor}"):
            itself = {"lambda:SourceFunctionArn": arn("lambda", f"function:{function}")}
            for action, resource in calls:
                assert roles.may(actor, action, resource, place), (actor, action)
                assert not roles.may(actor, action, resource, place | itself), (actor, action)
    for stage in STAGES:
        assert roles.may(f"stack-{stage}", "ec2:DescribeSecurityGroups", "*", {})


def test_every_actor_has_a_role_and_every_role_an_actor() -> None:
    assert sorted(ROLES.properties) == sorted(MUST) == sorted(MUST_NOT)


def test_staging_and_production_are_written_alike_but_for_the_stages_name() -> None:
    """What is mended in one of the two is mended in the other, in every template."""
    alike = []
    for template in sorted(path.name for path in INFRA.glob("*.yaml")):
        for section in ("Parameters", "Conditions", "Resources"):
            entries = body_of(template).get(section, {})
            for name in entries:
                twin = name.replace("Staging", "Production")
                if twin != name and twin in entries:
                    one, other = ({**entries[each]} for each in (name, twin))
                    if section == "Parameters":  # the second description may say: likewise
                        del one["Description"], other["Description"]
                    said = json.dumps(one).replace("staging", "production").replace("Staging", "Production")
                    assert json.loads(said) == other, f"{template}: {name} and {twin}"
                    alike.append(name)
    assert {"StackStagingRole", "ServeStagingRole", "CountStagingRole", "StagingElsewhere"} <= set(alike)


@pytest.mark.parametrize(("actor", "action", "resource", "context"), calls(MUST))
def test_a_role_may_do_its_work_checked_statically(actor, action, resource, context) -> None:
    assert ROLES.may(actor, action, resource, context)


@pytest.mark.parametrize(("actor", "action", "resource", "context"), calls(MUST_NOT))
def test_a_role_may_not_do_anothers_work_checked_statically(actor, action, resource, context) -> None:
    assert not ROLES.may(actor, action, resource, context)


@pytest.mark.parametrize("actor", sorted(MUST))
def test_nobody_may_raise_their_rights_or_reach_into_another_project_checked_statically(actor) -> None:
    assert excesses(ROLES, actor) == []


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
        ("logs:DeleteLogGroup", arn("logs", f"log-group:/aws/lambda/{PROJECT}-two-production-rare-share")),
        ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}-two/production/version")),
    ):
        there = resource.replace("-two", "")
        assert not ROLES.may("stack-production", action, resource, {}), resource
        assert "model-package-approved" in there or ROLES.may("stack-production", action, there, {}), there


@pytest.mark.parametrize("actor", sorted(MUST))
def test_no_role_may_do_all_of_a_service_checked_statically(actor) -> None:
    several = [
        action
        for statement in ROLES.statements(actor)
        for action in (statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])
        if "*" in action
    ]
    assert several == []


# -- the bucket's own policy ------------------------------------------------------------------------------------------

ADMINISTRATOR = {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/administrator"}
EVERYTHING = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}


def with_every_right(action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether the bucket's policy leaves it to somebody whom IAM allows everything in S3."""
    usual = {"aws:SecureTransport": "true", "s3:ObjectCreationOperation": "true"}
    return allowed([EVERYTHING, *ROLES.denials], action, resource, {**usual, **context})


@pytest.mark.parametrize("key", ["code/abc/job.sh", "wheels/abc/numpy.whl", "functions/register-0a.zip"])
def test_nobody_replaces_what_lies_under_its_digest_checked_statically(key) -> None:
    resource = f"{BUCKET}/{key}"
    assert not with_every_right("s3:PutObject", resource, ADMINISTRATOR)
    assert with_every_right("s3:PutObject", resource, {**ADMINISTRATOR, **NEW})
    # A part of an upload carries no condition; the request that completes the upload does.
    assert with_every_right("s3:PutObject", resource, {**ADMINISTRATOR, "s3:ObjectCreationOperation": "false"})


@pytest.mark.parametrize("key", ["code/abc/job.sh", "wheels/abc/numpy.whl", "functions/register-0a.zip"])
def test_nobody_deletes_what_lies_under_its_digest_or_its_key_would_be_free_checked_statically(key) -> None:
    """S3's If-None-Match passes over a delete marker, and over what is gone."""
    for who in (*map(role, MUST), *ADMINISTRATOR.values()):
        for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
            assert not with_every_right(action, f"{BUCKET}/{key}", {"aws:PrincipalArn": who}), (who, action)


@pytest.mark.parametrize("key", ["code/abc/job.sh", "wheels/abc/numpy.whl"])
def test_of_the_projects_roles_the_build_alone_publishes_code_and_people_may_checked_statically(key) -> None:
    for actor in MUST:
        asked = {"aws:PrincipalArn": role(actor), **NEW}
        assert with_every_right("s3:PutObject", f"{BUCKET}/{key}", asked) == (actor == "build"), actor
    assert with_every_right("s3:PutObject", f"{BUCKET}/{key}", {**ADMINISTRATOR, **NEW}), "scarcegan upsert from here"


@pytest.mark.parametrize(
    ("key", "writer"),
    [
        ("packages/set/best_ranking/model.tar.gz", "register"),
        ("packages/set/best_ranking/package.json", "register"),
        ("champion/package.tar.gz", "promote"),
        ("releases/3/e1.json", "check-approval"),
        ("scored/scored.parquet", "scoring-job"),
        ("scoring/e1/features/features/part-0.parquet", "scoring-job"),
    ],
)
def test_only_one_role_writes_what_others_rely_on_checked_statically(key, writer) -> None:
    for who in (*map(role, MUST), ADMINISTRATOR["aws:PrincipalArn"], f"arn:aws:iam::{ACCOUNT}:root"):
        asked = {"aws:PrincipalArn": who, **NEW}
        assert with_every_right("s3:PutObject", f"{BUCKET}/{key}", asked) == (who == role(writer)), who
        if not key.startswith(("scored", "scoring")):
            assert with_every_right("s3:DeleteObject", f"{BUCKET}/{key}", asked) == (who == role(writer)), who
    assert not with_every_right("s3:PutObject", f"{BUCKET}/{key}", NEW), "a service that has no role"


@pytest.mark.parametrize(
    ("artifact", "writers"),
    [
        ("rare-players-build/BuildSrc", {"build-pipeline"}),
        ("rare-players-deploy/DeploySrc", {"deploy-pipeline"}),
        ("rare-players-update/UpdateSrc", {"update-pipeline"}),
        ("rare-players-build/BuildOut", {"build", "build-pipeline"}),
        ("rare-players-deploy/DeployOut", {"prepare", "deploy-pipeline"}),
        ("rare-players-deploy/Checked", {"check-approval"}),
    ],
)
def test_what_a_pipeline_hands_over_is_written_by_the_role_whose_work_it_is_checked_statically(artifact, writers):
    """Whoever has all rights on objects, and waits until a person has looked, replaces nothing all the same."""
    colleague = f"arn:aws:iam::{ACCOUNT}:role/StudioExecution"
    for who in (*map(role, (*MUST, "update-pipeline")), colleague, f"arn:aws:iam::{ACCOUNT}:root"):
        for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
            may = with_every_right(action, f"{ARTIFACTS}/{artifact}/AbC1234", {"aws:PrincipalArn": who})
            assert may == (who in map(role, writers)), (who, action)


def encrypted(algorithm: str, key: str | None = None) -> dict[str, str]:
    """The headers of an upload that asks for an encryption, as IAM is told of them."""
    named = {"s3:x-amz-server-side-encryption-aws-kms-key-id": key} if key else {}
    return {"s3:x-amz-server-side-encryption": algorithm, **named}


@pytest.mark.parametrize("place", [f"{BUCKET}/data/telemetry/x", f"{ARTIFACTS}/rare-players-build/BuildSrc/a"])
def test_nothing_is_uploaded_that_another_key_encrypts_checked_statically(place) -> None:
    writer = {"aws:PrincipalArn": role("build-pipeline")}
    alias = arn("kms", f"alias/{PROJECT}")
    assert with_every_right("s3:PutObject", place, writer), "the bucket encrypts by itself"
    for key in (None, KEY, alias):
        assert with_every_right("s3:PutObject", place, {**writer, **encrypted("aws:kms", key)})
    assert not with_every_right("s3:PutObject", place, {**writer, **encrypted("AES256")})
    assert not with_every_right("s3:PutObject", place, {**writer, **encrypted("aws:kms", arn("kms", "key/another"))})


def test_functions_are_an_administrators_checked_statically() -> None:
    for actor in MUST:
        for action in ("s3:PutObject", "s3:DeleteObject"):
            asked = {"aws:PrincipalArn": role(actor), **NEW}
            assert not with_every_right(action, f"{BUCKET}/functions/register-0a.zip", asked)
    assert with_every_right("s3:PutObject", f"{BUCKET}/functions/register-0a.zip", {**ADMINISTRATOR, **NEW})
