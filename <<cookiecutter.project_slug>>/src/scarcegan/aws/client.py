"""The door to AWS: clients in the project's region, the account, and every refusal as a sentence with its next move.

boto3 is imported inside functions: nothing on this machine needs it until a verb of the cloud is typed. The Lambda
function of the register step uses this file too, so it needs nothing but Python's own library.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from scarcegan.aws.names import UNKNOWN_ACCOUNT, Names
from scarcegan.errors import UserError

if TYPE_CHECKING:
    from scarcegan.pipeline.config import Config

T = TypeVar("T")
LOG_IN = "Log in: 'aws sso login' (or 'aws configure'), or name a profile in AWS_PROFILE. Then type the command again."
GONE = (
    "ResourceNotFound",
    "ResourceNotFoundException",
    "ParameterNotFound",
    "NoSuchKey",
    "NotFound",
    "404",
)
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403", "Forbidden")
ATTEMPTS = 8  # of a call that AWS throttles, the first included
CONNECTIONS = 10  # at once to one service: the registry reads records on several threads
EXPIRED = (
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
)
# S3 refuses without saying what; https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
ACTIONS = {
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
}
BUILD_ACTIONS = (
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
    """The door to AWS: the names of one project, and clients that are made once and retry when throttled.

    session: a boto3 session; None: one in the project's region, made with the first client.
    """

    names: Names
    session: Any = None
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        if service not in self.clients:
            from botocore.config import Config as ClientConfig

            options = ClientConfig(
                retries={"mode": "standard", "max_attempts": ATTEMPTS},
                connect_timeout=10,
                max_pool_connections=CONNECTIONS,
            )
            session = self.session or library("boto3").Session(region_name=self.names.region)
            self.clients[service] = session.client(service, region_name=self.names.region, config=options)
        return self.clients[service]


def connect(config: "Config") -> Aws:
    """A session in the project's region; the account by AWS_ACCOUNT_ID or by STS. Use inside `errors_as_sentences`."""
    if not config.project.region:
        raise UserError("config.yaml: project.region is empty. Name the region the project lives in, e.g. eu-west-1.")
    built = os.environ.get("SAGEMAKER_PROJECT_NAME", config.project.name)
    if built != config.project.name:
        raise UserError(
            f"config.yaml: project.name is '{config.project.name}', but this toolchain is that of '{built}', and may "
            "touch nothing else. Set project.name to it, or deploy a toolchain of the other name."
        )
    session = library("boto3").Session(region_name=config.project.region)
    account = known_account() or session.client("sts").get_caller_identity()["Account"]
    return Aws(Names(config.project.name, account, config.project.region), session)


def known_account() -> str:
    """The account AWS_ACCOUNT_ID names, or ""; UserError for one that is no account."""
    account = os.environ.get("AWS_ACCOUNT_ID", "")
    if account and not re.fullmatch(r"\d{12}", account):
        raise UserError(f"AWS_ACCOUNT_ID is '{account}', an account has 12 digits. Mend it, or unset it to ask AWS.")
    return account


def planned_names(config: "Config") -> Names:
    """Names for a plan made without AWS: 000000000000 stands for an account that nobody has named."""
    return Names(config.project.name, known_account() or UNKNOWN_ACCOUNT, config.project.region)


def library(name: str) -> Any:
    """Import a library of the cloud group; UserError with the command that installs it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != name.split(".")[0]:
            raise
        raise UserError(
            f"{name.split('.')[0]} is not installed: the cloud's libraries are a group of their own. "
            "Type: make cloud (or: pip install -r requirements-cloud.txt)"
        ) from None


@contextmanager
def errors_as_sentences(config: "Config") -> Iterator[None]:
    """Turn what AWS refuses into a UserError: the fact, what was there, the next move. Bugs pass through."""
    try:
        from botocore import exceptions as refused
    except ModuleNotFoundError:
        yield
        return
    try:
        yield
    except refused.ClientError as error:
        raise UserError(refusal(error, planned_names(config))) from error
    except (refused.NoCredentialsError, refused.PartialCredentialsError, refused.CredentialRetrievalError) as error:
        raise UserError(f"no AWS credentials ({flat(error)}). {LOG_IN}") from error
    except refused.ProfileNotFound as error:
        raise UserError(f"{flat(error)}. Name one of ~/.aws/config in AWS_PROFILE, or unset it.") from error
    except (refused.SSOError, refused.TokenRetrievalError) as error:
        raise UserError(f"the AWS session has expired ({flat(error)}). {LOG_IN}") from error
    except (refused.NoRegionError, refused.InvalidRegionError) as error:
        raise UserError(f"{flat(error)}. Name a region under project.region in config.yaml, e.g. eu-west-1.") from error
    except (refused.HTTPClientError, refused.ConnectionError) as error:
        raise UserError(
            f"AWS cannot be reached in '{config.project.region}' ({flat(error)}). "
            "Look at the network and at project.region in config.yaml, then type the command again."
        ) from error


def refusal(error: Any, names: Names) -> str:
    """One sentence for what a service answered. Raises the error again when it is nobody's mistake but ours."""
    code, message = str(error.response["Error"].get("Code", "")), flat(error.response["Error"].get("Message", ""))
    if code in EXPIRED:
        return f"AWS does not accept the credentials ({code}: {message}). {LOG_IN}"
    if code in DENIED:
        return denied(error.operation_name, message, names)
    if code == "NoSuchBucket":
        return no_bucket(names)
    if code in ("ValidationException", "ValidationError"):
        return (
            f"AWS refuses {error.operation_name}: {message}. Mend what it names; "
            "if the pipeline in AWS is older than the code, type: scarcegan upsert"
        )
    if code in ("ResourceLimitExceeded", "ServiceQuotaExceededException"):
        return f"a limit of the AWS account is reached: {message}. Ask for more under Service Quotas, or wait."
    if code in ("Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"):
        return f"AWS is busy ({code}: {message}). Wait a minute, then type the command again."
    raise error


def denied(operation: str, message: str, names: Names) -> str:
    """Who may not do what, on what; and who should. AWS names all three, but for S3's bare 'Access Denied'."""
    said = re.search(r"User: (\S+) is not authorized to perform: (\S+)(?: on resource: (\S+))?(.*)", message)
    who, action, on, why = said.groups() if said else ("your role", ACTIONS.get(operation, operation), None, "")
    tail = f" ({why.strip(' .')})" if why and why.strip(" .") else ""
    push = f", or push: the build pipeline's role {names.role('build')} has it" if action in BUILD_ACTIONS else ""
    return (
        f"access denied: {who} may not {action}{f' on {on}' if on else ''}{tail}. "
        f"Let an administrator give it that action (README, 'Permissions'){push}."
    )


def no_bucket(names: Names) -> str:
    """There is no bucket: the toolchain makes it."""
    return (
        f"there is no bucket for '{names.project}' in {names.region} (account {names.account}) yet: the toolchain "
        "makes it. Another account: log in there, or name it in AWS_ACCOUNT_ID. "
        f"Type: aws cloudformation deploy --stack-name {names.stack('toolchain')} --template-file infra/toolchain.yaml "
        "… (README, 'In AWS')"
    )


def known(call: Callable[[], T]) -> T | None:
    """What a call to AWS answers, or None when AWS does not know the name that it asks for."""
    from botocore.exceptions import ClientError

    try:
        return call()
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def is_missing(error: Any) -> bool:
    """Whether a botocore ClientError says that AWS does not know the name it was asked for."""
    code, message = str(error.response["Error"].get("Code", "")), str(error.response["Error"].get("Message", ""))
    absent = re.search(r"could not find|does not exist|not found", message, re.IGNORECASE)
    return code in GONE or (code in ("ValidationException", "ValidationError") and bool(absent))


def flat(words: object) -> str:
    return " ".join(str(words).split()).rstrip(".")


def look_up(door: Aws, name: str) -> str:
    """The value of an SSM parameter of the project, "" while there is none."""
    found = known(lambda: door.client("ssm").get_parameter(Name=door.names.parameter(name)))
    return str(found["Parameter"]["Value"]) if found else ""


def published(door: Aws, name: str) -> str:
    """An SSM parameter that the toolchain publishes; UserError while it does not."""
    found = look_up(door, name)
    if not found:
        raise UserError(
            f"there is no SSM parameter {door.names.parameter(name)} in {door.names.region}: the toolchain makes it. "
            f"Deploy infra/toolchain.yaml as {door.names.stack('toolchain')} first."
        )
    return found
