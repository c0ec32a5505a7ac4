"""What AWS refuses of the toolchain's parameters although the pattern of the template takes it.

`value_problem` looks at one value, `combination_problem` at all of them together. Neither asks AWS. What the templates
themselves say (AllowedPattern, AllowedValues, MinValue, …) is checked by aws/toolchain.py.
"""

import re
from collections.abc import Callable, Mapping

from scarcegan.aws.names import Names
from scarcegan.pipeline.schedule import rule_schedule_problem

VPC_PARTS = ("VpcId", "SubnetIds", "SecurityGroupIds")
MOST_SUBNETS, MOST_SECURITY_GROUPS = 16, 5  # https://docs.aws.amazon.com/lambda/latest/api/API_VpcConfig.html
LONGEST_CODECOMMIT_NAME = 100  # https://docs.aws.amazon.com/codecommit/latest/APIReference/API_RepositoryMetadata.html
LARGEST_PORT = 65535


def value_problem(name: str, value: str, region: str) -> str:
    """Return why AWS refuses the value of a template parameter, as the end of a sentence; "" when nothing was found.

    - value: one that the template's own pattern takes; "" passes.
    - region: the project's.
    """
    if not value:
        return ""
    partition = Names("project", "0" * 12, region).partition
    if value.startswith("arn:") and value.split(":")[1] != partition:
        return f"the ARN is of the partition {value.split(':')[1]}, the region {region} of {partition}."
    return RULES[name](value) if name in RULES else ""


def update_schedule_problem(value: str) -> str:
    """Return why a rule of EventBridge refuses a schedule, as the end of a sentence; "" for one that it takes."""
    problem = rule_schedule_problem(value)
    return f"{problem}." if problem else ""


def bucket_problem(value: str) -> str:
    """Return why no bucket has a name, as the end of a sentence; "" for one that a bucket may have.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    """
    if ".." in value or re.fullmatch(r"\d+\.\d+\.\d+\.\d+", value):
        return "a bucket's name has no two dots in a row and is no IP address."
    return ""


def email_problem(value: str) -> str:
    """Return why nobody gets mail at an address, as the end of a sentence; "" when nothing was found."""
    if re.search(r"[,;<>]", value):
        return "it is one address, without a name. For more people give the address of a list."
    if not re.fullmatch(r"[^.]+(\.[^.]+)+", value.partition("@")[2]):
        return "the part behind the @ is no domain, such as example.com."
    return ""


def ids_problem(kind: str, most: int) -> Callable[[str], str]:
    """Return the rule of ids of EC2, separated by commas.

    - kind: the beginning of an id, such as subnet.
    - most: so many may be given.
    """

    def rule(value: str) -> str:
        ids = value.split(",")
        bad = [one for one in ids if not re.fullmatch(rf"{kind}-[0-9a-f]+", one)]
        if bad:
            return f"'{bad[0]}' is no id such as {kind}-0a1b2c3d."
        return f"there may be {most} at most." if len(ids) > most else ""

    return rule


def index_problem(value: str) -> str:
    """Return why no package index has an address, as the end of a sentence; "" when nothing was found."""
    host, _, port = value.removeprefix("https://").partition("/")[0].partition(":")
    if not all(host.split(".")):
        return f"'{host}' is no name of a host."
    return f"a port is a number from 1 to {LARGEST_PORT}." if port and not 0 < int(port) <= LARGEST_PORT else ""


RULES: Mapping[str, Callable[[str], str]] = {
    "UpdateSchedule": update_schedule_problem,
    "AccessLogBucketName": bucket_problem,
    "DataBucketName": bucket_problem,
    "TemplatesBucketName": bucket_problem,
    "NotificationEmail": email_problem,
    "SecurityEmail": email_problem,
    "SubnetIds": ids_problem("subnet", MOST_SUBNETS),
    "SecurityGroupIds": ids_problem("sg", MOST_SECURITY_GROUPS),
    "PackageIndexUrl": index_problem,
}


def combination_problem(values: Mapping[str, str], account: str = "") -> str:
    """Return why values of template parameters do not fit each other, as a sentence; "" when they do.

    A repository owner/name needs a connection, a network all three parts, a bucket of yours its folder, a second
    approver the people who may be it, and a group of another account is not made here.

    - values: template parameter -> value; one without a value may be missing or "".
    - account: the toolchain's; "" when it is not known.
    """
    lacking = [name for name in VPC_PARTS if not values.get(name)]
    if 0 < len(lacking) < len(VPC_PARTS):
        needed = " and ".join(f"--set {name}=…" for name in lacking)
        empty = f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} empty"
        return (
            f"builds in a VPC need {', '.join(VPC_PARTS)}, but {empty}. Type the command again with {needed}, or with "
            "none of the three."
        )
    if values.get("DataBucketName") and not values.get("DataPrefix"):
        return (
            f"jobs read one folder of the bucket {values['DataBucketName']}, but DataPrefix is empty. Type the command "
            "again with --set DataPrefix=…/, the folder that holds telemetry and labels."
        )
    if values.get("SecondApprover") == "yes" and not values.get("ApproverIdentities"):
        return (
            "SecondApprover needs to know whose names can be trusted, but ApproverIdentities is empty. Type the "
            "command again with --set ApproverIdentities=assumed-role/…"
        )
    if values.get("ModelPackageGroupAccount") and values.get("CreateModelPackageGroup", "yes") == "yes":
        return (
            "a group of another account cannot be made here, but CreateModelPackageGroup is yes. Give its ARN as "
            "project.model_package_group in config.yaml, and neither of the two."
        )
    return connection_problem(values) or account_problem(values, account)


def connection_problem(values: Mapping[str, str]) -> str:
    """Return why a repository cannot be reached as it is given, as a sentence; "" when it can.

    - values: template parameter -> value. Without ConnectionArn, the repositories are CodeCommit's.
    """
    connection = values.get("ConnectionArn", "")
    for name, option in (("Repository", "--repository "), ("TemplateRepository", "--set TemplateRepository=")):
        repository = values.get(name, "")
        if repository and connection and "/" not in repository:
            return (
                f"the repository {repository} has no owner, and a connection needs one. Type the command again with "
                f"{option}OWNER/{repository}, or for CodeCommit with --connection-arn ''."
            )
        if not connection and "/" in repository:
            return (
                f"the repository {repository} needs a connection: without one it is CodeCommit's, whose names have no "
                "owner. Type the command again with --connection-arn …, or for CodeCommit with the repository's name "
                "alone."
            )
        if not connection and (repository.endswith(".git") or len(repository) > LONGEST_CODECOMMIT_NAME):
            return (
                f"CodeCommit has no repository {repository}: a name has at most {LONGEST_CODECOMMIT_NAME} characters "
                f"and does not end in .git. Type the command again with {option}…"
            )
    return ""


def account_problem(values: Mapping[str, str], account: str) -> str:
    """Return why values do not fit the account of the toolchain, as a sentence; "" when they do.

    - account: "" when it is not known.
    """
    if account and account in values.get("ModelPackageGroupReaders", "").split(","):
        return (
            f"ModelPackageGroupReaders names {account}, the toolchain's own account, whose people read the group by "
            "their own policies. Type the command again without it."
        )
    return boundary_problem(values, account)


def boundary_problem(values: Mapping[str, str], account: str) -> str:
    """Return why the roles of an account cannot have the permissions boundary, as a sentence; "" when they can.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html

    - account: "" when it is not known.
    """
    boundary = values.get("PermissionsBoundaryArn", "")
    owner = boundary.split(":")[4] if boundary else "aws"
    if not account or owner in ("aws", account):
        return ""
    return (
        f"PermissionsBoundaryArn is a policy of account {owner}, and a role takes one of its own account, {account}, "
        f"only. Make the policy there, then type the command again with --set PermissionsBoundaryArn=…"
    )
