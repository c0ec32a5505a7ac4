"""Every name in AWS, derived from the project's name in one place. infra/*.yaml derive theirs alike; a test compares.

`project` is SageMakerProjectName: at most 32 characters, so that the longest of these stay within AWS's limits.
"""

from dataclasses import dataclass

UNKNOWN_ACCOUNT = "000000000000"  # stands for the account while none is known: plans and rehearsals


@dataclass(frozen=True)
class Names:
    """The names of one project in one account and region. Limits: role, function, rule 64; bucket, endpoint 63."""

    project: str
    account: str
    region: str

    @property
    def partition(self) -> str:
        """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html"""
        special = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
        return next((name for start, name in special.items() if self.region.startswith(start)), "aws")

    @property
    def bucket(self) -> str:
        """Code, wheels, outputs of runs, packages, data capture."""
        return f"{self.project}-{self.account}-{self.region}"

    def uri(self, *parts: str) -> str:
        return "/".join([f"s3://{self.bucket}", *parts])

    def pipeline(self, name: str) -> str:
        """A SageMaker pipeline: training, scoring."""
        return f"{self.project}-{name}"

    def role(self, actor: str) -> str:
        """One role per actor. Roles are global, so the region is part of the name."""
        return f"{self.project}-{self.region}-{actor}"

    def role_arn(self, actor: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:role/{self.role(actor)}"

    @property
    def register_function(self) -> str:
        """The Lambda function behind the register step."""
        return f"{self.project}-register"

    @property
    def register_function_arn(self) -> str:
        return self.arn("lambda", f"function:{self.register_function}")

    @property
    def key_alias_arn(self) -> str:
        """The KMS key of everything this project writes."""
        return self.arn("kms", f"alias/{self.project}")

    def endpoint(self, stage: str) -> str:
        """The served model of a stage: staging, production."""
        return f"{self.project}-{stage}"

    def stack(self, name: str) -> str:
        """A CloudFormation stack: toolchain, pipeline, staging, production."""
        return f"{self.project}-{name}"

    def parameter(self, name: str) -> str:
        """An SSM parameter, such as champion or staging/version."""
        return f"/{self.project}/{name}"

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"
