"""Lambda function `scarcegan-projects-seed`: starts the build of a project, and answers CloudFormation at its end.

CloudFormation's requests come in, and CodeBuild's events. What an answer needs stands in the environment of the build,
so nothing is lost when this function dies; where it goes is encrypted there, as whoever knows the address can answer.
A request counts when SageMaker itself says that it comes from the stack of the project that it names. It runs with
Python's own library and boto3; the rules for answers are those of the template's hook, packed beside it (package.py).
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html
"""

import base64
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pre_gen_project import LONGEST, SLUG, refusals, short

LONGEST_ANSWER = 4096  # bytes: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
LONGEST_SENTENCE = 1000  # bytes in an answer of a reason, before the lines of the log
# Of a field of the form: https://docs.aws.amazon.com/codeconnections/latest/APIReference/API_Connection.html
LONGEST_FIELD = 256
LOG_LINES = 30
NEWEST_BUILDS = 100  # as many as BatchGetBuilds takes
ATTEMPTS = 4
MOVED = (307, 308)
BUSY = (408, 429, 500, 502, 503, 504)
ADMINISTRATORS = re.compile(r"scarcegan(-administration|-projects(-.*)?)?")  # their own things are named so
STACKS = re.compile(r"arn:[^:]+:cloudformation:[^:]+:[0-9]+:stack/(S[CP]-[^/]+)/.+")  # of the two routes
# A repository stays in its address, and git takes the branch: https://git-scm.com/docs/git-check-ref-format
PARTS = r"(?!(.*/)?[.-])(?!.*(\.\.|\.(lock)?(/|$)))[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*"
NAMES = {"Repository": re.compile(PARTS), "Branch": re.compile(f"(?!HEAD$){PARTS}")}  # as project.yaml has them
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+([.-][0-9A-Za-z.-]+)?")
NOTHING = "nothing.was.created"  # the id of a creation that was refused: no project has such a name
NOT_ANSWERS = ("ServiceToken", "ServiceTimeout", "TemplateVersion")
QUESTIONS = "cookiecutter.json"
UNREADABLE = (
    ", as this request has no name and version of a project. Restore the stack's template and try again; or take the "
    "project down with `scarcegan teardown --cloud`, then delete the stack and keep this resource"
)
NEXT_MOVE = "Try the same again. If it fails again, show this to the administrator"
ENDED = {
    "SUCCEEDED": "the build wrote no result",
    "FAILED": "the build failed",
    "FAULT": "CodeBuild failed by an error of its own. Try again",
    "STOPPED": "somebody stopped the build. Try again",
    "TIMED_OUT": "the build ran longer than its time-out. Try again, or give it more time",
}


def client(service: str) -> Any:
    """A boto3 client of a service."""
    import boto3

    return boto3.client(service)


def handler(event: Mapping[str, Any], _context: object) -> None:
    """Lambda's entry: a request of CloudFormation for a custom resource, or an event of EventBridge."""
    if event.get("detail-type") == "CodeBuild Build State Change":
        answer_ended_build(str(event["detail"]["build-id"]), str(event["detail"]["build-status"]))
        return
    try:
        answer = begin(event)
    except Exception as error:  # an unanswered request makes CloudFormation wait for an hour
        print(f"{type(error).__name__}: {error}")
        answer = failed(event, f"{sentence(f'{type(error).__name__}: {error}')}. {NEXT_MOVE}")
    if answer:
        send(str(event["ResponseURL"]), answer)


# -- a request of CloudFormation ------------------------------------------------------------------------------------


def begin(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Start the build of a request, once. Returns the answer when there is nothing to build, None while it runs."""
    mode = event["RequestType"].lower()
    if mode == "delete":
        if never_created(event):
            return succeeded(event, {}, "Nothing was created, so nothing is deleted.")
        if not is_readable(event):
            return failed(event, f"{physical_id(event)} cannot be deleted{UNREADABLE}")
    elif problems := list(refused(properties_of(event))):
        return failed({"PhysicalResourceId": NOTHING, **event}, "; ".join(problems))
    if why := foreign(event):
        if mode == "delete":
            return succeeded(event, {}, f"{why}, so nothing was deleted")
        return failed(event, why, ". Create the project in Studio, from a template that Studio lists")
    codebuild, project = client("codebuild"), os.environ["SEED_PROJECT"]
    mine, running = earlier_builds(codebuild, project, event)
    if mine:  # Lambda delivers an event again when it is not sure of the first time
        build = mine[0]
        return None if build["buildStatus"] == "IN_PROGRESS" else answer_of(build, build["buildStatus"])
    if running:
        return failed(event, "an earlier build of this project still runs. Wait until it has ended, then try again")
    started = codebuild.start_build(
        projectName=project,
        idempotencyToken=event["RequestId"],
        environmentVariablesOverride=[
            {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables(event, mode).items()
        ],
    )["build"]["id"]
    print(f"{mode} of {physical_id(event)}: build {started}")
    return None


def refused(properties: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each property of the resource that cannot be right."""
    if no_texts := list(misshapen(properties)):
        yield from no_texts
        return
    version = properties.get("TemplateVersion", "")
    if not VERSION.fullmatch(version):
        yield f"TemplateVersion '{version}' is no version of the template. Publish it with publish.py"
    answers = completed(properties.get("Answers", {}))
    name = answers["project_slug"]
    if ADMINISTRATORS.fullmatch(name):
        yield f"the name '{name}' is the administrator's own. Choose another one, for example: rare-players"
    group, region = answers["model_package_group"].split(":"), answers["aws_region"]
    if len(group) > 3 and group[3] != region:
        yield f"the model package group is in {group[3]}, the project in {region}. Name a group of {region}"
    for field in ("Repository", "Branch", "ConnectionArn"):
        if len(properties.get(field, "")) > LONGEST_FIELD:
            yield f"{field} has {len(properties[field])} characters, {LONGEST_FIELD} are taken"
    for field, pattern in NAMES.items():
        given = properties.get(field, "")
        if not pattern.fullmatch(given) and (given or field == "Repository"):
            yield (
                f"{field} {short(given)} cannot be: it has letters, digits and ._- with / between, and no part begins "
                "with . or -, holds .. or ends in . or .lock; HEAD is no branch"
            )
    yield from refusals(answers)


def misshapen(properties: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for properties that are no texts, as another template than project.yaml may send them."""
    answers = properties.get("Answers", {})
    if not isinstance(answers, Mapping):
        yield f"Answers is no list of names with texts: {short(str(answers))}"
        return
    given = {**properties, **answers, "Answers": ""}
    if odd := [name for name, text in given.items() if not isinstance(text, str)]:
        yield f"{', '.join(odd)}: a text is wanted, no list and no map"


def completed(given: Mapping[str, str]) -> dict[str, str]:
    """An answer to each question, as the rules want them. An empty one stands for what the template derives."""
    questions = json.loads(Path(__file__).with_name(QUESTIONS).read_text(encoding="utf-8"))
    asked = {name: text for name, text in questions.items() if isinstance(text, str) and not name.startswith("_")}
    literal = {name: "" if "<" + "<" in text else text for name, text in asked.items()}
    answers = {**literal, **{name: text for name, text in given.items() if text and name in asked}}
    return {**answers, "model_package_group": answers["model_package_group"] or answers["project_slug"]}


def never_created(event: Mapping[str, Any]) -> bool:
    """Whether it is certain that no build was started for what is to be deleted.

    A creation that was refused is answered with an id of its own. Of one that was never answered, CloudFormation makes
    up the id; with such a name or version it was refused. A project that was created has its name as id, whatever a
    later template asks.
    """
    id_ = str(event.get("PhysicalResourceId", ""))
    return id_ == NOTHING or not (is_name(id_) or is_readable(event))


def is_readable(event: Mapping[str, Any]) -> bool:
    """Whether a request names a project and a version, without which no build is started."""
    version = properties_of(event).get("TemplateVersion")
    return is_name(project_name(event)) and isinstance(version, str) and VERSION.fullmatch(version) is not None


def is_name(text: str) -> bool:
    """Whether a project can have a name."""
    return len(text) <= LONGEST["project_slug"] and SLUG.fullmatch(text) is not None


def foreign(event: Mapping[str, Any]) -> str:
    """Why a request is not from the SageMaker project that it names; "" when it is.

    A template of somebody's own can call this function with whatever names it likes. SageMaker's word cannot be written
    by a template: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeProject.html
    """
    name, id_, stack = project_name(event), event["ResourceProperties"].get("SageMakerProjectId"), event["StackId"]
    found = STACKS.fullmatch(stack)
    if not found:
        return f"the stack {stack} was not made by SageMaker"
    project = find_project(name)
    if project is None or project["ProjectId"] != id_:
        return f"SageMaker has no project {name} with the id {id_}"
    providers = [one["CfnTemplateProviderDetail"] for one in project.get("TemplateProviderDetails", [])]
    for provider in providers:
        if not is_ours(provider["TemplateURL"]):
            return f"the template {provider['TemplateURL']} is not the administrator's"
    known = [provider.get("StackDetail", {}).get("Id", stack) == stack for provider in providers]
    product = project.get("ServiceCatalogProvisionedProductDetails", {}).get("ProvisionedProductId", "")
    known += [found[1].startswith("SP-") if providers else found[1].startswith("SC-") and found[1].endswith(product)]
    return "" if all(known) else f"the stack {found[1]} is not that of the project {name}"


def find_project(name: str) -> Mapping[str, Any] | None:
    """SageMaker's description of a project, None when there is none."""
    from botocore.exceptions import ClientError

    try:
        described: Mapping[str, Any] = client("sagemaker").describe_project(ProjectName=name)
        return described
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise


def is_ours(address: str) -> bool:
    """Whether a template's address is in the bucket of templates, as either style of S3's addresses has it."""
    parts, bucket = urlsplit(address), os.environ["TEMPLATES_BUCKET"]
    host, path = parts.netloc, parts.path
    if host.startswith(f"{bucket}.s3."):
        host, path = host.removeprefix(f"{bucket}."), f"/{bucket}{path}"
    is_s3 = re.fullmatch(r"s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?", host)
    return bool(is_s3) and path.startswith(f"/{bucket}/projects/")


def earlier_builds(
    codebuild: Any, project: str, event: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The builds of this very request, and those of other requests for the same project that still run."""
    ids = codebuild.list_builds_for_project(projectName=project, sortOrder="DESCENDING").get("ids", [])
    builds = codebuild.batch_get_builds(ids=ids[:NEWEST_BUILDS])["builds"] if ids else []
    mine, running = [], []
    for build in builds:
        asked = response_of(build)
        if asked.get("RequestId") == event["RequestId"]:
            mine.append(build)
        elif asked.get("Project") == project_name(event) and build["buildStatus"] == "IN_PROGRESS":
            running.append(build)
    return mine, running


def variables(event: Mapping[str, Any], mode: str) -> dict[str, str]:
    """The environment of the build. Answers are one JSON text, which no shell takes apart."""
    properties = event["ResourceProperties"]
    answers = {name: value for name, value in properties.items() if name not in NOT_ANSWERS}
    response = {
        **{name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
        "PhysicalResourceId": physical_id(event),
        "Project": project_name(event),
        "Sealed": sealed(event["ResponseURL"], event["RequestId"]),
    }
    return {
        "MODE": mode,
        "TEMPLATE_VERSION": properties["TemplateVersion"],
        "ANSWERS": json.dumps(answers, ensure_ascii=False),
        "RESPONSE": json.dumps(response),
    }


def sealed(address: str, request: str) -> str:
    """An address, encrypted for this function and this request."""
    found = client("kms").encrypt(
        KeyId=os.environ["ANSWER_KEY"], Plaintext=address.encode(), EncryptionContext={"request": request}
    )
    return base64.b64encode(found["CiphertextBlob"]).decode()


def opened(text: str, request: str) -> str:
    """The address that `sealed` encrypted. Raises ClientError for one of another request."""
    blob, key = base64.b64decode(text), os.environ["ANSWER_KEY"]
    found = client("kms").decrypt(CiphertextBlob=blob, KeyId=key, EncryptionContext={"request": request})
    return str(found["Plaintext"].decode())


def physical_id(event: Mapping[str, Any]) -> str:
    """The project's name. It never changes: CloudFormation deletes what had the earlier id."""
    name = project_name(event)
    return str(event.get("PhysicalResourceId") or (name if is_name(name) else NOTHING))


def properties_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The properties in a request, {} in one without."""
    found = event.get("ResourceProperties")
    return found if isinstance(found, Mapping) else {}


def project_name(event: Mapping[str, Any]) -> str:
    """The name in a request, "" in one that another template than project.yaml made."""
    answers = properties_of(event).get("Answers")
    return str(answers.get("project_slug", "")) if isinstance(answers, Mapping) else ""


# -- the end of a build ---------------------------------------------------------------------------------------------


def answer_ended_build(build_id: str, status: str) -> None:
    """Answer the request of a build that has ended.

    - build_id: its id or ARN.
    - status: as the event has it. BatchGetBuilds can lag behind, so it is asked until it knows the end too.
    """
    if status not in ENDED:
        return
    codebuild = client("codebuild")
    for attempt in range(1, ATTEMPTS + 1):
        [build] = codebuild.batch_get_builds(ids=[build_id.split("build/")[-1]])["builds"]
        if build.get("buildComplete"):
            break
        time.sleep(2.0**attempt)
    request = response_of(build)
    if request:  # otherwise a person started it by hand
        send(opened(request["Sealed"], request["RequestId"]), answer_of(build, status))


def answer_of(build: Mapping[str, Any], status: str) -> dict[str, Any]:
    """The answer to the request of a build that has ended with this status."""
    request, result = response_of(build), result_of(build)
    if status == "SUCCEEDED" and result.get("outputs") is not None:
        return succeeded(request, result["outputs"], str(result.get("reason", "")))
    logs = build.get("logs", {})
    link = f". Log: {logs['deepLink']}" if logs.get("deepLink") else ""
    return failed(request, result.get("reason") or f"{ENDED[status]}{failed_phase(build)}", link, last_lines(logs))


def response_of(build: Mapping[str, Any]) -> dict[str, Any]:
    """Whom a build answers, {} for nobody; `variables` wrote it."""
    declared = build.get("environment", {}).get("environmentVariables", [])
    values = {variable["name"]: variable["value"] for variable in declared}
    return dict(json.loads(values.get("RESPONSE", "{}")))


def result_of(build: Mapping[str, Any]) -> dict[str, Any]:
    """What seed.py wrote: outputs, or a reason; {} when it came to no end.

    The buildspec exports it: https://docs.aws.amazon.com/codebuild/latest/APIReference/API_ExportedEnvironmentVariable.html
    """
    exported = {one["name"]: one.get("value") for one in build.get("exportedEnvironmentVariables", [])}
    try:
        return dict(json.loads(exported.get("RESULT") or "{}"))
    except ValueError:
        return {}


def failed_phase(build: Mapping[str, Any]) -> str:
    """What CodeBuild says about the first phase that failed."""
    for phase in build.get("phases", []):
        said = [context["message"] for context in phase.get("contexts", []) if context.get("message")]
        if said and phase.get("phaseStatus") not in ("SUCCEEDED", None):
            return f" in the phase {phase['phaseType']}: {said[0]}"
    return ""


def last_lines(logs: Mapping[str, Any]) -> list[str]:
    """The last lines of a build's log. None when they cannot be read: the reason and the link count more."""
    if not logs.get("groupName") or not logs.get("streamName"):
        return []
    try:
        events = client("logs").get_log_events(
            logGroupName=logs["groupName"], logStreamName=logs["streamName"], limit=LOG_LINES, startFromHead=False
        )["events"]
    except Exception as error:
        print(f"no lines of the log: {type(error).__name__}: {error}")
        return []
    return [event["message"].rstrip() for event in events]


# -- answers --------------------------------------------------------------------------------------------------------


def succeeded(request: Mapping[str, Any], outputs: Mapping[str, str], reason: str) -> dict[str, Any]:
    """The answer of a success; outputs are the attributes of the resource."""
    told = {name: sentence(text) if name == "Note" else text for name, text in outputs.items()}
    return {**identified(request, "SUCCESS"), "Reason": sentence(reason), "Data": told}


def failed(request: Mapping[str, Any], reason: str, more: str = "", lines: list[str] | None = None) -> dict[str, Any]:
    """The answer of a failure: a sentence, more that is never cut, and as many of the log's last lines as fit."""
    answer, first = identified(request, "FAILED"), sentence(reason) + more
    return fitting(lines or [], lambda last: {**answer, "Reason": "\n".join([first, *last])})


def identified(request: Mapping[str, Any], status: str) -> dict[str, Any]:
    """The members of every answer. request: CloudFormation's, or what a build kept of it."""
    same = {name: request[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    return {"Status": status, "PhysicalResourceId": physical_id(request), **same}


def fitting(lines: list[str], make: Callable[[list[str]], dict[str, Any]]) -> dict[str, Any]:
    """The answer with the longest tail of lines that stays within CloudFormation's limit."""
    while lines and len(as_bytes(make(lines))) > LONGEST_ANSWER:
        lines = lines[1:]
    return make(lines)


def sentence(text: str) -> str:
    """A reason on one line, cut where it is very long."""
    flat = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split()).rstrip(".")
    sizes = accumulate(len(as_bytes(letter)) - 2 for letter in flat)  # without the quotes
    kept = flat[: sum(size <= LONGEST_SENTENCE for size in sizes)]
    return flat if kept == flat else f"{kept}…"


def as_bytes(answer: Any) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode(errors="replace")


def send(address: str, answer: Mapping[str, Any]) -> None:
    """Put an answer at the presigned address, whose signature wants an empty content type.

    An address that S3 no longer takes is passed over: CloudFormation has given up waiting. Raises OSError or
    HTTPException when it cannot be reached, so that Lambda tries again later.
    """
    body = as_bytes(answer)
    print(f"answer: {answer['Status']} {answer.get('Reason', '')}")
    for attempt in range(1, ATTEMPTS + 1):
        request = urllib.request.Request(address, data=body, headers={"Content-Type": ""}, method="PUT")
        try:
            urllib.request.urlopen(request, timeout=10).close()
            return
        except urllib.error.HTTPError as error:
            if error.code not in (*MOVED, *BUSY):
                print(f"the answer was refused ({error.code}); nobody waits for it any more")
                return
            if attempt == ATTEMPTS:
                raise
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html
            address = error.headers.get("Location", address) if error.code in MOVED else address
        except (OSError, http.client.HTTPException):  # what follows the connection is no URLError
            if attempt == ATTEMPTS:
                raise
        time.sleep(2.0**attempt)
