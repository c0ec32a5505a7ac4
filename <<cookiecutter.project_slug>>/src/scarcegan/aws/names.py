"""The names of everything a project has in AWS, derived from the project's name.

The templates infra/*.yaml derive the same names from their parameter SageMakerProjectName; a test compares the two. The
project's name has at most 32 characters, so that the longest derived name stays within AWS's limits.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scarcegan.errors import UserError

if TYPE_CHECKING:
    from scarcegan.pipeline.config import Config

UNKNOWN_ACCOUNT = "000000000000"  # used in plans when the account is not known

# AWS's TensorFlow images: jobs run in the first, endpoints serve with the second. Patched until 2027-07. Tags, not
# digests, because AWS patches the images behind a tag. Roles may pull only from the accounts below, which are AWS's own
# (Images in infra/roles-models.yaml).
# https://docs.aws.amazon.com/deep-learning-containers/latest/devguide/what-is-dlc.html
IMAGES = {
    "training": "tensorflow-training:2.21-cpu-py312-amzn2023-sagemaker",
    "inference": "tensorflow-inference:2.20-cpu-py312-amzn2023-sagemaker",
}
COMMON_ACCOUNT = "763104351884"
COMMON_REGIONS = """
    ap-northeast-1 ap-northeast-2 ap-south-1 ap-southeast-1 ap-southeast-2 ca-central-1 eu-central-1 eu-north-1
    eu-west-1 eu-west-2 eu-west-3 sa-east-1 us-east-1 us-east-2 us-west-1 us-west-2
"""
IMAGE_ACCOUNTS = dict.fromkeys(COMMON_REGIONS.split(), COMMON_ACCOUNT) | {
    "af-south-1": "626614931356",
    "ap-east-1": "871362719292",
    "ap-east-2": "975050140332",
    "ap-northeast-3": "364406365360",
    "ap-south-2": "772153158452",
    "ap-southeast-3": "907027046896",
    "ap-southeast-4": "457447274322",
    "ap-southeast-5": "550225433462",
    "ap-southeast-6": "633930458069",
    "ap-southeast-7": "590183813437",
    "ca-west-1": "204538143572",
    "cn-north-1": "727897471807",
    "cn-northwest-1": "727897471807",
    "eu-central-2": "380420809688",
    "eu-south-1": "692866216735",
    "eu-south-2": "503227376785",
    "il-central-1": "780543022126",
    "me-central-1": "914824155844",
    "me-south-1": "217643126080",
    "mx-central-1": "637423239942",
    "us-gov-east-1": "446045086412",
    "us-gov-west-1": "442386744353",
}
# CloudFormation's types of resources in infra/ -> the regions above that lack them, as cfn-lint's data has it.
NO_ENDPOINTS = {"me-central-1", "us-gov-east-1"}
LACKING = {
    "AWS::Budgets::Budget": {
        "af-south-1",
        "ap-east-1",
        "ap-east-2",
        "ap-northeast-3",
        "ap-south-2",
        "ap-southeast-3",
        "ap-southeast-4",
        "ap-southeast-5",
        "ap-southeast-6",
        "ap-southeast-7",
        "ca-west-1",
        "eu-central-2",
        "eu-north-1",
        "eu-south-1",
        "eu-south-2",
        "il-central-1",
        "me-central-1",
        "mx-central-1",
        "us-gov-east-1",
        "us-gov-west-1",
    },
    "AWS::CodeBuild::Project": {"ap-east-2", "ca-west-1", "mx-central-1"},
    "AWS::SageMaker::Endpoint": NO_ENDPOINTS,
    "AWS::SageMaker::EndpointConfig": NO_ENDPOINTS,
    "AWS::SageMaker::Model": NO_ENDPOINTS,
    "AWS::SageMaker::ModelPackageGroup": {
        "ap-east-2",
        "ap-south-2",
        "ap-southeast-4",
        "ap-southeast-6",
        "cn-north-1",
        "cn-northwest-1",
        "us-gov-east-1",
    },
}
PIPELINES = ("training", "scoring")  # of SageMaker
COPY_TAG = "scarcegan:copy"  # of a copy of the training pipeline; its value is the copy's name
# SageMaker pipeline -> the actors that execute it and run its jobs. A push writes the training pipeline, a release the
# scoring pipeline, so their roles differ (infra/roles-models.yaml).
PIPELINE_ACTORS = {"training": ("pipeline", "job"), "scoring": ("scoring-pipeline", "scoring-job")}
BUCKET = re.compile(r"(?P<project>.+)-(?P<account>[0-9]{12})-(?P<region>[a-z]+(-[a-z]+)+-[0-9])")


@dataclass(frozen=True)
class Names:
    """The names in AWS of one project in one account and region.

    - project: project.name of config.yaml, at most 32 characters. AWS allows 64 characters for a role, function or
      rule, and 63 for a bucket or endpoint.
    - account: the number of the AWS account, 12 digits; UNKNOWN_ACCOUNT in plans when it is not known.
    - region: such as eu-west-1.
    """

    project: str
    account: str
    region: str

    @classmethod
    def of_bucket(cls, bucket: str) -> "Names":
        """Return the names of the project that a bucket belongs to, derived from the bucket's name.

        Raises UserError for a bucket that is not named <project>-<account>-<region>.
        """
        found = BUCKET.fullmatch(bucket)
        if not found:
            raise UserError(f"bucket '{bucket}' is not named <project>-<account>-<region>. Use the toolchain's bucket.")
        return cls(found["project"], found["account"], found["region"])

    @property
    def partition(self) -> str:
        """The AWS partition of the region, the second part of every ARN: aws, aws-cn or aws-us-gov.

        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
        """
        special = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
        return next((name for start, name in special.items() if self.region.startswith(start)), "aws")

    @property
    def bucket(self) -> str:
        """The name of the project's S3 bucket, <project>-<account>-<region>.

        The bucket holds code, wheels, outputs of runs, model packages and captured requests.
        """
        return f"{self.project}-{self.account}-{self.region}"

    def uri(self, *parts: str) -> str:
        """Return an S3 address in the project's bucket: s3://<bucket>, then the parts, joined with slashes.

        The parts stay as they are. A last part "" ends the address with a slash.
        """
        return "/".join([f"s3://{self.bucket}", *parts])

    def pipeline(self, name: str) -> str:
        """Return the name in AWS of a SageMaker pipeline or CodePipeline, <project>-<name>. name: such as training."""
        return f"{self.project}-{name}"

    def role(self, actor: str) -> str:
        """Return the name of an IAM role, <project>-<region>-<actor>. actor: who takes the role, such as job.

        Role names are unique in an account across all regions, so the region is part of the name.
        """
        return f"{self.project}-{self.region}-{actor}"

    def role_arn(self, actor: str) -> str:
        """Return the ARN of an IAM role of the project. actor: who takes the role, such as job or endpoint."""
        return f"arn:{self.partition}:iam::{self.account}:role/{self.role(actor)}"

    def image(self, kind: str) -> str:
        """Return the URI of AWS's TensorFlow container image in the project's region.

        - kind: training (for jobs) or inference (for endpoints).

        Raises UserError for a region that IMAGE_ACCOUNTS does not list.
        """
        account = IMAGE_ACCOUNTS.get(self.region)
        if account is None:
            raise UserError(
                f"no TensorFlow image of AWS is known in '{self.region}' (known: {', '.join(sorted(IMAGE_ACCOUNTS))}). "
                "Choose one of these regions, or add its account to IMAGE_ACCOUNTS in aws/names.py."
            )
        suffix = "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"
        return f"{account}.dkr.ecr.{self.region}.{suffix}/{IMAGES[kind]}"

    def pipeline_role_arn(self, pipeline: str) -> str:
        """Return the ARN of the role that executes a SageMaker pipeline.

        - pipeline: training, scoring or training-<name>, a copy of training.
        """
        return self.role_arn(PIPELINE_ACTORS[pipeline.partition("-")[0]][0])

    def job_role_arn(self, pipeline: str) -> str:
        """Return the ARN of the role of a SageMaker pipeline's jobs.

        - pipeline: training, scoring or training-<name>, a copy of training.
        """
        return self.role_arn(PIPELINE_ACTORS[pipeline.partition("-")[0]][1])

    @property
    def register_function(self) -> str:
        """The name of the Lambda function that runs the register step."""
        return f"{self.project}-register"

    @property
    def register_function_arn(self) -> str:
        """The ARN of the Lambda function that runs the register step."""
        return self.arn("lambda", f"function:{self.register_function}")

    @property
    def key_alias_arn(self) -> str:
        """The ARN of the alias of the KMS key that encrypts everything the project writes."""
        return self.arn("kms", f"alias/{self.project}")

    def endpoint(self, stage: str) -> str:
        """Return the name of a stage's SageMaker endpoint, <project>-<stage>. stage: staging or production."""
        return f"{self.project}-{stage}"

    def stack(self, name: str) -> str:
        """Return the name in AWS of a CloudFormation stack of the project, <project>-<name>.

        - name: storage, roles-models, roles-build, roles-release, security, toolchain, pipeline, staging or production.
        """
        return f"{self.project}-{name}"

    def parameter(self, name: str) -> str:
        """Return the full name of an SSM parameter, /<project>/<name>. name: such as champion or staging/version."""
        return f"/{self.project}/{name}"

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in the project's account and region.

        - service: the third part of the ARN, the AWS service, such as "lambda".
        - resource: the last part, such as "function:x".
        """
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


def project_tags(config: "Config", project_id: str = "") -> dict[str, str]:
    """Return tag -> value for all that the project has in AWS.

    These are sagemaker:project-name, sagemaker:project-id, team, then cloud.tags in name order.

    - project_id: the id of the SageMaker project, by which Studio finds what belongs to it; "" leaves out that tag.
    """
    born = {"sagemaker:project-id": project_id} if project_id else {}
    fixed = {"sagemaker:project-name": config.project.name, **born, "team": config.project.team}
    return {**fixed, **dict(sorted(config.cloud.tags.items()))}
