"""The toolchain of a project called rare-players: names of what it makes, and what no role of it may do."""

from collections.abc import Iterable
from typing import Any

from enforcement import Roles, arn
from stacks import ACCOUNT, REGION, Toolchain

PROJECT, GROUP = "rare-players", "rare-group"
GIVEN = {"SageMakerProjectName": PROJECT, "Repository": "acme/rare-players", "ModelPackageGroupName": GROUP}
BUCKET = f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}"
ARTIFACTS, KEY = (Toolchain(GIVEN).attribute(name, "Arn") for name in ("Artifacts", "Key"))
TO_SAGEMAKER = {"iam:PassedToService": "sagemaker.amazonaws.com"}


def role(actor: str, project: str = PROJECT) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{project}-{REGION}-{actor}"


def sagemaker(resource: str) -> str:
    return arn("sagemaker", resource)


# (action, resource) or (action, resource, context)
NOBODY_MAY = [
    ("iam:CreateRole", role("new")),
    ("iam:PutRolePolicy", role("job")),
    ("iam:AttachRolePolicy", role("job")),
    ("iam:UpdateAssumeRolePolicy", role("job")),
    ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/new"),
    ("iam:CreateAccessKey", f"arn:aws:iam::{ACCOUNT}:user/somebody"),
    ("sts:AssumeRole", role("promote")),
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


def excesses(roles: Roles, actor: str, more: Iterable[tuple[Any, ...]] = ()) -> list[tuple[Any, ...]]:
    """The calls that nobody may make, and `more`, that an actor may make all the same."""
    return [call for call in (*NOBODY_MAY, *more) if roles.may(actor, *call[:2], dict(*call[2:]))]
