"""Connection to AWS: boto3 clients in the project's region, the account, and errors of AWS as sentences for users.

boto3 is imported inside functions, so that commands which need no AWS work without it. The Lambda function of the
register step uses this file too, so it imports Python's own library only.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from scarcegan.aws.names import UNKNOWN_ACCOUNT, Names
from scarcegan.errors import UserError

if TYPE_CHECKING:
    from scarcegan.pipeline.config import Config

T = TypeVar("T")
LOG_IN = (
    "Log in: 'aws sso login' (or 'aws login', 'aws configure'), or name a profile in AWS_PROFILE. "
    "Then type the command again."
)
DEPLOY_TOOLCHAIN = "Type: scarcegan toolchain deploy (README, 'In AWS')"
NOT_FOUND_CODES = (
    "ResourceNotFound",
    "ResourceNotFoundException",
    "ParameterNotFound",
    "PipelineNotFoundException",
    "NoSuchKey",
    "NoSuchEntity",  # IAM
    "NotFoundException",  # KMS
    "RepositoryDoesNotExistException",
    "NotFound",
    "404",
)
ACCESS_DENIED_CODES = (
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "AuthorizationError",
    "403",
    "Forbidden",
)
# Errors that pass by themselves.
BUSY_CODES = (
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "PriorRequestNotComplete",
    "SlowDown",
)
CONFLICT_CODES = ("ConflictException",)  # something else changes the same thing at the moment
SERVER_CODES = ("InternalFailure", "InternalError", "InternalServerError", "ServiceUnavailable")
TOO_MANY_REQUESTS = 429
ATTEMPTS = 8  # by botocore, with waits that grow fast, the first call included
PATIENT_ATTEMPTS = 14  # in all, by `seconds_until_retry`, before an error of AWS that should pass is told
LONGEST_RETRY_WAIT = 20  # seconds
CONNECTIONS = 10  # open at once to one service: the registry reads records on several threads
CREDENTIAL_CODES = (
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
)
# Operation -> the IAM action it needs, because S3 answers "Access Denied" without naming the action.
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
S3_ACTIONS = {
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
}
BUILD_ACTIONS = (  # IAM actions that the role of the build pipeline has
    "s3:PutObject",
    "s3:ListBucket",
    "kms:GenerateDataKey",
    "iam:PassRole",
    "sagemaker:AddTags",
    "sagemaker:CreatePipeline",
    "sagemaker:UpdatePipeline",
    "sagemaker:StartPipelineExecution",
)


@dataclass(frozen=True)
class Aws:
    """Access to AWS for one project: its names in AWS, and one boto3 client per service.

    - names: the project's names in one account and region.
    - session: the boto3 session to use; None makes one in the project's region with the first client.
    - clients: service -> its boto3 client; `client` adds each client that it makes.
    """

    names: Names
    session: Any = None
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service, such as "s3". It is made once, and is patient with errors that pass.

        Raises UserError when boto3 is not installed, which `connect_to_aws` checks.
        """
        if service not in self.clients:
            from botocore.config import Config as ClientConfig

            options = ClientConfig(
                retries={"mode": "standard", "max_attempts": ATTEMPTS},
                connect_timeout=10,
                max_pool_connections=CONNECTIONS,
            )
            session = self.session or library("boto3").Session(region_name=self.names.region)
            made = session.client(service, region_name=self.names.region, config=options)
            made.meta.events.register("needs-retry", seconds_until_retry)
            self.clients[service] = made
        return self.clients[service]


def seconds_until_retry(response: Any, attempts: int, **_: Any) -> float | None:
    """Return after how many seconds botocore repeats a call that AWS refused; None: it does not.

    botocore asks this after its own ATTEMPTS, which cover throttling and errors of a server for about half a minute,
    and at once for a conflict, which it does not repeat itself.

    - response: HTTP response and parsed answer; None when there was no answer at all.
    - attempts: how often the call was made.
    """
    if response is None or attempts >= PATIENT_ATTEMPTS:
        return None
    http, parsed = response
    passes = is_temporary(http.status_code, str(parsed.get("Error", {}).get("Code", "")))
    return min(LONGEST_RETRY_WAIT, 2.0**attempts) if passes else None


def is_temporary(status: int, code: str) -> bool:
    """Whether an error of AWS passes by itself. status: of HTTP, 0 when unknown; code: as AWS calls the error."""
    return status in (TOO_MANY_REQUESTS, 500, 502, 503, 504) or code in (*BUSY_CODES, *CONFLICT_CODES, *SERVER_CODES)


def connect_to_aws(config: "Config") -> Aws:
    """Return access to AWS in the region of config.yaml, with the user's own credentials.

    The account is AWS_ACCOUNT_ID; when that is not set, STS is asked for it. Errors of botocore pass through unchanged,
    so call this inside `errors_as_sentences`.

    Raises UserError when config.yaml has no region, when SAGEMAKER_PROJECT_NAME (set in builds) is another project than
    project.name, when AWS_ACCOUNT_ID is not 12 digits, or when boto3 is not installed.
    """
    region = region_of(config)
    built = os.environ.get("SAGEMAKER_PROJECT_NAME", config.project.name)
    if built != config.project.name:
        raise UserError(
            f"config.yaml: project.name is '{config.project.name}', but this toolchain belongs to project '{built}' "
            f"and may change nothing else. Set project.name to {built}, or deploy a toolchain for the other project."
        )
    session = library("boto3").Session(region_name=region)
    account = account_from_environment() or session.client("sts").get_caller_identity()["Account"]
    return Aws(Names(config.project.name, account, region), session)


def region_of(config: "Config") -> str:
    """Return the AWS region of the project, such as eu-west-1: project.region of config.yaml.

    Raises UserError when that is empty.
    """
    if not config.project.region:
        raise UserError("config.yaml: project.region is empty. Name the region the project lives in, e.g. eu-west-1.")
    return config.project.region


def account_from_environment() -> str:
    """Return the AWS account in the environment variable AWS_ACCOUNT_ID, or "" when it is not set.

    Raises UserError for a value that is not 12 digits.
    """
    account = os.environ.get("AWS_ACCOUNT_ID", "")
    if account and not re.fullmatch("[0-9]{12}", account):
        raise UserError(
            f"AWS_ACCOUNT_ID is '{account}', but an account has 12 digits. Correct it, or unset it to ask AWS."
        )
    return account


def planned_names(config: "Config") -> Names:
    """Return the project's names in AWS, without asking AWS.

    The account is AWS_ACCOUNT_ID, or 000000000000 while that is not set. The region is that of config.yaml, "" when it
    names none.

    Raises UserError when AWS_ACCOUNT_ID is not 12 digits.
    """
    return Names(config.project.name, account_from_environment() or UNKNOWN_ACCOUNT, config.project.region)


def library(name: str) -> Any:
    """Import a library of requirements-cloud.txt, such as boto3, and return its module.

    Raises UserError, with the command that installs it, when the library is not installed; ModuleNotFoundError when the
    library itself needs another one that is missing.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != name.split(".")[0]:
            raise
        raise UserError(
            f"{name.split('.')[0]} is not installed. The libraries for AWS are installed separately. "
            "Type: make cloud (or: pip install -r requirements-cloud.txt)"
        ) from None


@contextmanager
def errors_as_sentences(config: "Config") -> Iterator[None]:
    """Context manager: replace an error of AWS inside the block by a UserError, a sentence with what the user can do.

    Raises UserError when the user has no credentials, profile or region, or settings of AWS that botocore cannot use,
    and when AWS denies access, refuses credentials or a value, is still busy, in conflict or failing after all
    attempts, has reached a limit, lacks the project's bucket, or cannot be reached. Every other error passes unchanged,
    and when boto3 is not installed all errors do.
    """
    try:
        from botocore import exceptions as refused
    except ModuleNotFoundError:
        yield
        return
    try:
        yield
    except refused.ClientError as error:
        raise UserError(client_error_sentence(error, planned_names(config))) from error
    except (refused.NoCredentialsError, refused.PartialCredentialsError, refused.CredentialRetrievalError) as error:
        raise UserError(f"no AWS credentials ({flat(error)}). {LOG_IN}") from error
    except refused.ProfileNotFound as error:
        raise UserError(f"{flat(error)}. Set AWS_PROFILE to a profile of ~/.aws/config, or unset it.") from error
    except (refused.ConfigParseError, refused.InvalidConfigError, refused.MissingDependencyException) as error:
        raise UserError(f"{flat(error)}. Correct ~/.aws/config, or name another profile in AWS_PROFILE.") from error
    except (
        refused.SSOError,
        refused.LoginError,
        refused.TokenRetrievalError,
        refused.RefreshWithMFAUnsupportedError,
    ) as error:
        raise UserError(f"the AWS session has expired ({flat(error)}). {LOG_IN}") from error
    except (refused.NoRegionError, refused.InvalidRegionError) as error:
        raise UserError(f"{flat(error)}. Set project.region in config.yaml, for example eu-west-1.") from error
    except (refused.HTTPClientError, refused.ConnectionError, refused.IncompleteReadError) as error:
        raise UserError(
            f"AWS cannot be reached in '{config.project.region}' ({flat(error)}). "
            "Check the network and project.region in config.yaml, then type the command again."
        ) from error


def client_error_sentence(error: Any, names: Names) -> str:
    """Return a sentence for users about a botocore ClientError: what AWS answered, and what to do next.

    - error: the ClientError.
    - names: the project's names in AWS.

    Raises `error` itself when its code is not one that a user can act on, because then it is a bug.
    """
    code, message = str(error.response["Error"].get("Code", "")), flat(error.response["Error"].get("Message", ""))
    if code in CREDENTIAL_CODES:
        return f"AWS does not accept the credentials ({code}: {message}). {LOG_IN}"
    if code in ACCESS_DENIED_CODES:
        return access_denied_sentence(error.operation_name, message, names)
    if code == "NoSuchBucket":
        return missing_bucket_sentence(names)
    if code in ("ValidationException", "ValidationError"):
        return (
            f"AWS refuses {error.operation_name}: {message}. Correct that value; "
            "if the pipeline in AWS is older than the code, type: scarcegan upsert"
        )
    if code in ("ResourceLimitExceeded", "ServiceQuotaExceededException"):
        return f"a limit of the AWS account is reached: {message}. Ask AWS for more under Service Quotas, or wait."
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if not is_temporary(status, code):
        raise error
    if code in CONFLICT_CODES:
        fact = f"AWS is at work on the same thing, so {error.operation_name} failed"
    elif code in BUSY_CODES or status == TOO_MANY_REQUESTS:
        fact = "AWS is busy"
    else:
        fact = f"{error.operation_name} failed in AWS by an error of its own"
    return f"{fact} ({': '.join(filter(None, (code, message)))}). Wait a minute, then type the command again."


def access_denied_sentence(operation: str, message: str, names: Names) -> str:
    """Return a sentence about a call that AWS denied: who may not do what, on which resource, and who can change that.

    - operation: the operation of AWS's API, such as PutObject. S3 does not name the action it denied; it is derived
      from this.
    - message: the text of the error; most services name user, action and resource in it.
    - names: the project's names in AWS.
    """
    said = re.search(r"User: (\S+) is not authorized to perform: (\S+)(?: on resource: (\S+))?(.*)", message)
    who, action, on, why = said.groups() if said else ("your role", S3_ACTIONS.get(operation, operation), None, "")
    tail = f" ({why.strip(' .')})" if why and why.strip(" .") else ""
    push = f", or push: the build pipeline's role {names.role('build')} may do it" if action in BUILD_ACTIONS else ""
    return (
        f"access denied: {who} may not {action}{f' on {on}' if on else ''}{tail}. "
        f"Ask an administrator to allow that action (docs/permissions.md){push}."
    )


def is_denied(error: Any) -> bool:
    """Whether a botocore ClientError says that the user's permissions do not allow the call."""
    return str(error.response["Error"].get("Code", "")) in ACCESS_DENIED_CODES


def denied_action(error: Any) -> str:
    """Return the IAM action that a denied call needs, such as iam:GetRole; the name of the call when AWS does not tell.

    - error: the botocore ClientError.
    """
    said = re.search(r"not authorized to perform: ([\w-]+:\w+)", str(error.response["Error"].get("Message", "")))
    return said[1] if said else S3_ACTIONS.get(error.operation_name, error.operation_name)


def missing_bucket_sentence(names: Names) -> str:
    """Return a sentence that says that the project's bucket does not exist, and which command creates it."""
    return (
        f"there is no bucket for '{names.project}' in {names.region} (account {names.account}) yet: the toolchain "
        "creates it. If it is in another account, log in there, or set AWS_ACCOUNT_ID. "
        f"{DEPLOY_TOOLCHAIN}"
    )


def has_tags(sagemaker: Any, arn: str, wanted: Sequence[Mapping[str, str]]) -> bool:
    """Whether a resource of SageMaker has all of these tags, perhaps among others.

    - sagemaker: boto3's SageMaker client.
    - wanted: the tags as AWS takes them, a list of {"Key": …, "Value": …}.
    """
    pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    there = [tag for page in pages for tag in page["Tags"]]
    return all(tag in there for tag in wanted)


def none_if_missing(call: Callable[[], T]) -> T | None:
    """Run a call to AWS and return its answer, or None when AWS answers that what was asked for does not exist.

    - call: a function without arguments that makes the call.

    Raises botocore's ClientError for any other error of the call.
    """
    from botocore.exceptions import ClientError

    try:
        return call()
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def is_missing(error: Any) -> bool:
    """Whether a botocore ClientError says that what was asked for does not exist in AWS.

    It says so by its code (NOT_FOUND_CODES), or, with the code of a validation error, by its message. NoSuchBucket is
    not among the codes.
    """
    code, message = str(error.response["Error"].get("Code", "")), str(error.response["Error"].get("Message", ""))
    absent = re.search(r"could not find|does not exist|not found", message, re.IGNORECASE)
    return code in NOT_FOUND_CODES or (code in ("ValidationException", "ValidationError") and bool(absent))


def flat(words: object) -> str:
    """Return a value as text on one line, with single spaces between the words and without full stops at the end."""
    return " ".join(str(words).split()).rstrip(".")


def find_ssm_parameter(aws: Aws, name: str) -> str:
    """Ask AWS for an SSM parameter of the project. Returns its value, or "" when there is no such parameter.

    - name: the parameter's name without the project's prefix, such as "champion" or "staging/version".
    """
    found = none_if_missing(lambda: aws.client("ssm").get_parameter(Name=aws.names.parameter(name)))
    return str(found["Parameter"]["Value"]) if found else ""


def require_ssm_parameter(aws: Aws, name: str) -> str:
    """Ask AWS for an SSM parameter that the toolchain creates. Returns its value.

    - name: the parameter's name without the project's prefix, such as "key", which holds the ARN of the KMS key.

    Raises UserError when there is no such parameter.
    """
    found = find_ssm_parameter(aws, name)
    if not found:
        raise UserError(
            f"there is no SSM parameter {aws.names.parameter(name)} in {aws.names.region}: the toolchain creates it. "
            f"{DEPLOY_TOOLCHAIN}"
        )
    return found
