"""Lambda function that the deploy pipeline calls before production changes: who approved this release, and which bytes?

It is called twice. Before a person is asked, and without an artifact, it tells CodePipeline who or what started the
release, for the text that is shown: whoever starts one by hand may name any commit of the repository. After the
approval, it checks.

It refuses a release that nobody approved, whose model package is not approved, whose prepared parameters were replaced
or name another package, or whose model, evaluation or baseline in S3 has not the digest that was registered. With
SECOND_APPROVER it also refuses when the person who let the release into production is the one who approved the model or
started the execution. What it finds is recorded in S3 once, below releases/. The parameters that it has checked are its
output, which no other role writes: production's stack is given them, and not what lies under Prepare's name by then.
It imports only what the Lambda runtime has.
https://docs.aws.amazon.com/codepipeline/latest/userguide/actions-invoke-lambda-function.html
"""

import base64
import fnmatch
import hashlib
import io
import json
import os
import re
import traceback
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

PATTERNS = {  # of the fields of UserParameters
    "pipeline": r"[A-Za-z0-9.@_-]{1,100}",
    "execution": r"[0-9a-f-]{36}",
    "version": r"[1-9][0-9]*",
    "digest": r"[0-9a-f]{64}",
    "prepared": r"[0-9a-f]{64}",
    "commit": r"[0-9a-f]{7,64}",
}
DECISION = re.compile(r"(\S+) approved by ([^:]*):")  # registry/sagemaker/package_facts.py writes it
FIGURES = ("baseline/constraints.json", "baseline/statistics.json", "evaluation/evaluation.json")
# Names of sessions that boto3, the AWS CLI, other SDKs, SageMaker and EC2 choose, and numbers.
NO_PERSON = re.compile(r".*session.*|aws-(go-)?sdk-.*|sagemaker.*|i-[0-9a-f]+|[0-9]+|root", re.IGNORECASE)
MESSAGE_CHARACTERS = 2000
# Of the approval's text, which has 1,000: https://docs.aws.amazon.com/codepipeline/latest/userguide/limits.html
STARTER_CHARACTERS = 44
BY_HAND = "StartPipelineExecution"  # which may name any revision of the repository
PREPARED = "build/production.json"  # in the artifact that infra/prepare.buildspec.yml hands over
PREPARED_BYTES = 2**20
STOPPED = "Production stays as it is."


class Refused(Exception):
    """Why a release may not enter production, as a sentence."""


@dataclass(frozen=True)
class Asked:
    """What the pipeline asks about, from its UserParameters.

    - pipeline, execution: name of the CodePipeline and id of its execution.
    - version: of the model package, a number as text.
    - digest: SHA-256 of the model that was prepared, in hexadecimal.
    - prepared: SHA-256 of the file PREPARED that this execution wrote, in hexadecimal.
    - commit: whose templates are deployed.
    """

    pipeline: str
    execution: str
    version: str
    digest: str
    prepared: str
    commit: str


@dataclass(frozen=True)
class Approval:
    """The approval that let an execution pass. What AWS does not tell is "".

    - by: ARN of the person or role session. reason: what it wrote. at: when, ISO 8601.
    - shown: the text that was shown to it.
    """

    by: str
    reason: str
    at: str
    shown: str


def handler(event: Mapping[str, Any], context: Any) -> None:
    """Check a release, or say who started it, and answer CodePipeline: success, or failure with a sentence.

    - event: CodePipeline's, with the job under "CodePipeline.job".

    Environment variables: BUCKET is the project's bucket, MODEL_PACKAGE_GROUP the ARN of the model package group,
    SECOND_APPROVER "yes" or "no", and APPROVERS the identities that may approve if it is "yes": patterns, joined with
    commas, of the last part of an ARN, such as assumed-role/AWSReservedSSO_*.
    """
    import boto3

    job = event["CodePipeline.job"]
    codepipeline = boto3.client("codepipeline")
    parameters = job["data"]["actionConfiguration"]["configuration"].get("UserParameters", "")
    try:
        if job["data"]["inputArtifacts"]:  # the toolchain says so; in the parameters stand words of the commit's code
            answer = checked(asked_in(parameters), job["data"], codepipeline)
        else:
            answer = who_started(parameters, codepipeline)
    except Refused as why:
        fail(codepipeline, job["id"], f"{why} {STOPPED}")
    except Exception as error:  # without an answer, CodePipeline would wait for twenty minutes
        traceback.print_exc()
        fail(codepipeline, job["id"], f"the check itself failed ({type(error).__name__}: {error}). {STOPPED}")
    else:
        codepipeline.put_job_success_result(jobId=job["id"], **answer)


def who_started(parameters: str, codepipeline: Any) -> dict[str, Any]:
    """Return the answer that says who or what started an execution: in its variable BY, and whole in its summary.

    - parameters: UserParameters with the name of the CodePipeline and the id of its execution.

    Raises Refused when they are not as the toolchain writes them.

    https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_ExecutionTrigger.html
    """
    asked = parameters_in(parameters, ("pipeline", "execution"))
    trigger = trigger_of(asked["pipeline"], asked["execution"], codepipeline)
    kind, who = trigger.get("triggerType", ""), trigger.get("triggerDetail", "")
    name = who.rpartition("/")[2][:25]
    words = {"CloudWatchEvent": "an event", BY_HAND: f"hand ({name}; any commit)"}.get(kind, f"{kind} ({name})")
    about = {"summary": f"started by {kind} {who}"}
    return {"outputVariables": {"BY": words[:STARTER_CHARACTERS]}, "executionDetails": about}


def trigger_of(pipeline: str, execution: str, codepipeline: Any) -> dict[str, str]:
    """Return what started an execution of a CodePipeline, as GetPipelineExecution has it."""
    found = codepipeline.get_pipeline_execution(pipelineName=pipeline, pipelineExecutionId=execution)
    return dict(found["pipelineExecution"].get("trigger", {}))


def checked(asked: Asked, data: Mapping[str, Any], codepipeline: Any) -> dict[str, Any]:
    """Check a release, record it, and hand over what was prepared. Returns the answer for CodePipeline.

    - data: of the job, in the event's form.

    Raises Refused when the release may not enter production; errors of AWS pass through.
    """
    import boto3

    s3, prepared = boto3.client("s3"), prepared_file(data)
    require_prepared(asked, prepared, package_arn(asked, os.environ))
    record = check(asked, codepipeline, boto3.client("sagemaker"), s3, os.environ)
    hand_over(prepared, data, s3)
    print(json.dumps(record))
    words = f"version {asked.version}, model {asked.digest[:12]}, approved by {record['approver']}"
    if record["started_by"] == BY_HAND:
        words += f"; started by hand by {record['starter']}: is {asked.commit[:12]} a commit of the branch?"
    return {"executionDetails": {"summary": words}}


def fail(codepipeline: Any, job: str, message: str) -> None:
    """Answer CodePipeline that the release is refused. job: id of the job."""
    print(message)
    details = {"type": "JobFailed", "message": message[:MESSAGE_CHARACTERS]}
    codepipeline.put_job_failure_result(jobId=job, failureDetails=details)


def asked_in(parameters: str) -> Asked:
    """Return what a text of UserParameters asks about.

    Raises Refused for a text that is not as the toolchain writes it.
    """
    return Asked(**parameters_in(parameters, PATTERNS))


def without_repeats(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the fields of a JSON object.

    Raises ValueError for a name that stands twice: readers disagree on which one counts.
    """
    found = dict(fields)
    if len(found) < len(fields):
        raise ValueError("a name stands twice")
    return found


def parameters_in(parameters: str, names: Iterable[str]) -> dict[str, str]:
    """Return the fields of a text of UserParameters.

    - names: of PATTERNS; the text has these fields and no others.

    Raises Refused for a text that is not as the toolchain writes it.
    """
    try:
        found = json.loads(parameters, object_pairs_hook=without_repeats)
        wrong = [name for name in names if not re.fullmatch(PATTERNS[name], found[name], re.ASCII)]
        wrong += sorted(set(found) - set(names))
    except (ValueError, LookupError, TypeError):
        wrong = ["UserParameters"]
    if wrong:
        raise Refused(f"the pipeline does not say what is released ({wrong[0]}: {parameters[:200]!r}).")
    return {name: found[name] for name in names}


def package_arn(asked: Asked, settings: Mapping[str, str]) -> str:
    """Return the ARN of the model package that is asked about. settings: the environment variables of `handler`."""
    return settings["MODEL_PACKAGE_GROUP"].replace(":model-package-group/", ":model-package/") + f"/{asked.version}"


def prepared_file(data: Mapping[str, Any]) -> bytes:
    """Return the file PREPARED, production's parameters, from the action's input artifact, a zip file.

    It is read with the credentials that CodePipeline lends with the job.

    - data: of the job, in the event's form.

    Raises Refused for an artifact that does not hold it.

    https://docs.aws.amazon.com/codepipeline/latest/userguide/actions-invoke-lambda-function.html
    """
    import boto3

    try:
        [artifact] = data["inputArtifacts"]
        place, lent = artifact["location"]["s3Location"], data["artifactCredentials"]
        s3 = boto3.client(
            "s3",
            aws_access_key_id=lent["accessKeyId"],
            aws_secret_access_key=lent["secretAccessKey"],
            aws_session_token=lent["sessionToken"],
        )
        found = s3.get_object(Bucket=place["bucketName"], Key=place["objectKey"])
        if found["ContentLength"] > PREPARED_BYTES:
            raise ValueError
        with zipfile.ZipFile(io.BytesIO(found["Body"].read())) as archive:
            if archive.getinfo(PREPARED).file_size > PREPARED_BYTES:
                raise ValueError
            return archive.read(PREPARED)
    except (LookupError, ValueError, TypeError, zipfile.BadZipFile):
        raise Refused(f"the pipeline hands over no prepared release with {PREPARED}.") from None


def require_prepared(asked: Asked, prepared: bytes, arn: str) -> None:
    """Check that production's stack would be given what this execution prepared, and the package that was approved.

    - prepared: the file PREPARED.
    - arn: of the model package that is asked about.

    Raises Refused when it would be given something else.
    """
    digest = hashlib.sha256(prepared).hexdigest()
    if digest != asked.prepared:
        raise Refused(
            f"the parameters in {PREPARED} ({digest[:12]}) are not the ones that this execution has prepared "
            f"({asked.prepared[:12]}). Find out who replaced them (CloudTrail), then start a new release."
        )
    try:
        found = dict(json.loads(prepared, object_pairs_hook=without_repeats)["Parameters"])
    except (ValueError, LookupError, TypeError) as error:
        raise Refused(f"{PREPARED} cannot be read ({error}).") from None
    wanted = {"Stage": "production", "ModelPackageArn": arn, "Version": asked.version}
    for name, value in wanted.items():
        if found.get(name) != value:
            raise Refused(f"{PREPARED} gives production the {name} {found.get(name)!r}, but {value!r} was approved.")


def hand_over(prepared: bytes, data: Mapping[str, Any], s3: Any) -> None:
    """Upload the file PREPARED as the action's output artifact, a zip file with nothing else in it.

    With this function's own role, which the bucket's policy lets write it.

    - data: of the job, in the event's form.
    """
    [artifact] = data["outputArtifacts"]
    place, packed = artifact["location"]["s3Location"], io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(PREPARED, prepared)
    s3.put_object(Bucket=place["bucketName"], Key=place["objectKey"], Body=packed.getvalue())


def check(asked: Asked, codepipeline: Any, sagemaker: Any, s3: Any, settings: Mapping[str, str]) -> dict[str, Any]:
    """Check a release, and record in S3 who let it into production. Returns the record.

    - codepipeline, sagemaker, s3: boto3's clients.
    - settings: the environment variables of `handler`.

    Raises Refused when the release may not enter production; errors of AWS pass through.
    """
    pages = codepipeline.get_paginator("list_action_executions").paginate(
        pipelineName=asked.pipeline, filter={"pipelineExecutionId": asked.execution}
    )
    actions = [action for page in pages for action in page["actionExecutionDetails"]]
    approval = approval_in(actions)
    trigger = trigger_of(asked.pipeline, asked.execution, codepipeline)
    package = sagemaker.describe_model_package(ModelPackageName=package_arn(asked, settings))
    approvers = package_approvers(package)
    require_approved_model(asked, package)
    require_digest(asked, package, s3, settings["BUCKET"])
    require_registered(package_arn(asked, settings), package, s3, settings)
    starter = trigger.get("triggerDetail", "")
    if settings["SECOND_APPROVER"] == "yes":
        require_second_person(approval.by, approvers, trigger, settings.get("APPROVERS", ""))
    record = {
        **asdict(asked),
        "approver": approval.by,
        "reason": approval.reason,
        "shown": approval.shown,
        "approved": approval.at,
        "model_approvers": approvers,
        "model_reason": package.get("ApprovalDescription", ""),
        "starter": starter,
        "started_by": trigger.get("triggerType", ""),
        "started": time_text(min((action["startTime"] for action in actions), default=None)),
        "second_approver": settings["SECOND_APPROVER"],
    }
    return write_once(s3, settings["BUCKET"], f"releases/{asked.version}/{asked.execution}.json", record)


def approval_in(actions: Iterable[Mapping[str, Any]]) -> Approval:
    """Return the approval among the actions of an execution; of several, the newest.

    - actions: as ListActionExecutions returns them.

    Raises Refused without one.

    https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_ActionExecutionDetail.html
    """
    found = [
        action
        for action in actions
        if action.get("status") == "Succeeded"
        and action.get("input", {}).get("actionTypeId", {}).get("category") == "Approval"
    ]
    if not found:
        raise Refused("nobody has approved this execution.")
    newest = max(found, key=lambda action: action["lastUpdateTime"])
    return Approval(
        by=newest.get("updatedBy", ""),
        reason=newest.get("output", {}).get("executionResult", {}).get("externalExecutionSummary", ""),
        at=time_text(newest["lastUpdateTime"]),
        shown=newest["input"].get("resolvedConfiguration", {}).get("CustomData", ""),
    )


def time_text(moment: datetime | None) -> str:
    """Return a time as ISO 8601 text in UTC; "" for None."""
    return moment.astimezone(UTC).isoformat() if moment else ""


def package_approvers(package: Mapping[str, Any]) -> list[str]:
    """Return who may have approved a model package, sorted: the last recorded approval, and who changed it last.

    Both, because either can be overwritten by somebody who may update the package.

    - package: as DescribeModelPackage returns it.
    """
    properties = package.get("CustomerMetadataProperties", {})
    lines = [properties[name] for name in sorted(properties) if name.startswith("decision.")]
    recorded = [unescaped(found[2]) for found in map(DECISION.match, lines) if found]
    who = package.get("LastModifiedBy", {})
    last = who.get("IamIdentity", {}).get("Arn", ""), who.get("UserProfileName", "")
    return sorted({name for name in (*recorded[-1:], *last) if name})


def unescaped(text: str) -> str:
    """Return the original of a name in a recorded decision, in which =XX stands for a byte of UTF-8."""
    return re.sub(
        r"(=[0-9A-F]{2})+", lambda found: bytes.fromhex(found[0].replace("=", "")).decode(errors="replace"), text
    )


def require_approved_model(asked: Asked, package: Mapping[str, Any]) -> None:
    """Check that a model package is approved now. Raises Refused when it is not."""
    status = package.get("ModelApprovalStatus", "PendingManualApproval")
    if status != "Approved":
        raise Refused(f"version {asked.version} is {status}. Approve it, which starts a new release.")


def require_digest(asked: Asked, package: Mapping[str, Any], s3: Any, bucket: str) -> None:
    """Check that the model that an endpoint would load has the digest that was registered, prepared and shown, and that
    its evaluation and its baseline, which the figures and the alarms come from, are the registered ones.

    - package: as DescribeModelPackage returns it.
    - bucket: in which the model must be.

    Raises Refused when one has another digest, or the model is not where registered models are.
    """
    properties = package.get("CustomerMetadataProperties", {})
    registered, figures = properties.get("model_digest", ""), properties.get("evaluation_digest", "")
    containers = package.get("InferenceSpecification", {}).get("Containers", [])
    urls = [container.get("ModelDataUrl", "") for container in containers]
    place = re.fullmatch(rf"s3://{re.escape(bucket)}/(packages/.+/model\.tar\.gz)", urls[0]) if len(urls) == 1 else None
    if place is None:
        raise Refused(f"version {asked.version} would load {urls}, not one model below s3://{bucket}/packages/.")
    if registered != asked.digest:
        raise Refused(
            f"version {asked.version} was registered with the model {registered[:12] or 'of no digest'}, but "
            f"{asked.digest[:12]} was prepared. Start a new release."
        )
    found = sha256(s3, bucket, place[1])
    if found != registered:
        raise Refused(
            f"{urls[0]} has the SHA-256 {found[:12]}, but {registered[:12]} was registered. Find out who changed it "
            "(CloudTrail), then register the model again."
        )
    if not figures:
        raise Refused(f"version {asked.version} has no digest of its evaluation. Register the model again.")
    seen = figures_digest({name: sha256(s3, bucket, place[1].removesuffix("model.tar.gz") + name) for name in FIGURES})
    if seen != figures:
        raise Refused(
            f"evaluation and baseline of version {asked.version} have the digest {seen[:12]}, but {figures[:12]} was "
            "registered. Find out who changed them (CloudTrail), then register the model again."
        )


def require_registered(arn: str, package: Mapping[str, Any], s3: Any, settings: Mapping[str, str]) -> None:
    """Check that a package is as the record of its model set has it, which only the register function writes:
    UpdateModelPackage changes image, environment and properties of a package.

    - arn: of the package. package: as DescribeModelPackage returns it.
    - settings: as for `check`.

    Raises Refused when it is not; errors of S3 pass through.
    """
    containers = package["InferenceSpecification"]["Containers"]
    folder = containers[0]["ModelDataUrl"].removeprefix(f"s3://{settings['BUCKET']}/").split("/")[:2]
    *_, account, group = settings["MODEL_PACKAGE_GROUP"].split(":")
    key = f"{'/'.join(folder)}/set.{account}.{group.partition('/')[2]}.json"
    record = json.loads(s3.get_object(Bucket=settings["BUCKET"], Key=key)["Body"].read())
    facts = next((facts for facts in record["packages"] if facts["arn"] == arn), {})
    properties = package["CustomerMetadataProperties"]
    found = {name: properties[name] for name in ("model_digest", "evaluation_digest")}
    found["served_digest"] = served_digest(containers)
    changed = [name for name, value in found.items() if facts.get(name) != value]
    if changed:
        raise Refused(
            f"{arn} is not as it was registered ({', '.join(changed)} differs from s3://{settings['BUCKET']}/{key}). "
            "Somebody has changed the package in SageMaker. Find out who (CloudTrail), then register the model again."
        )


def served_digest(containers: Iterable[Mapping[str, Any]]) -> str:
    """Return a digest of what an endpoint of a package would run, as
    src/scarcegan/registry/sagemaker/package_request.py calculates it.

    A copy, as is `figures_digest`: what guards production is in this one file, which no change of src/ changes.

    - containers: of the package's InferenceSpecification.
    """
    facts = [
        [
            container.get("Image", ""),
            container.get("ModelDataUrl", ""),
            sorted(container.get("Environment", {}).items()),
            sorted(set(re.findall(r's3://[^"]*', json.dumps(container, default=str)))),
        ]
        for container in containers
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def figures_digest(hashes: Mapping[str, str]) -> str:
    """Return the digest of a package's figures, as src/scarcegan/registry/contract.py calculates it.

    - hashes: path of each of FIGURES -> the SHA-256 of the file, in hexadecimal.
    """
    return hashlib.sha256(json.dumps([[name, hashes[name]] for name in FIGURES]).encode()).hexdigest()


def sha256(s3: Any, bucket: str, key: str) -> str:
    """Return the SHA-256, in hexadecimal, of an object's content: as S3 knows it, or else from reading the object.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    """
    about = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    known = about.get("ChecksumSHA256", "")
    if known and "-" not in known and about.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
        return base64.b64decode(known).hex()
    digest = hashlib.sha256()
    for piece in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def require_second_person(
    approver: str, model_approvers: Iterable[str], trigger: Mapping[str, str], allowed: str
) -> None:
    """Check that the person who let a release into production neither approved its model nor started the execution.

    Names are compared as `person` returns them. They prove who it was only if people cannot choose the names of their
    sessions, so each identity must be an allowed one. The name of a Studio profile is compared too, but proves nothing.
    Two names of one person, such as ada and ada+1@acme.com, are two people here. Who started the training is not
    compared: a build or a schedule may, and SageMaker documents no IAM identity for an execution.
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UserContext.html

    - trigger: what started the execution, as GetPipelineExecution has it. An event has no person: it is sent when the
      package is approved, so the person is the one who approved it.
    - allowed: as APPROVERS of `handler`.

    Raises Refused when it is the same person, when AWS does not tell one of them, and for an identity that is not
    allowed or names no person.
    """
    others = list(model_approvers)
    kind, starter = trigger.get("triggerType", ""), trigger.get("triggerDetail", "")
    if not approver or not any("/" in name for name in others):
        raise Refused("a second approver is wanted, but AWS does not tell who approved the model and the release.")
    started = [starter] if re.match(r"arn:[\w-]+:(sts|iam):", starter) else []
    if not started and kind != "CloudWatchEvent":
        raise Refused(
            f"a second approver is wanted, but AWS does not tell who started this release ({kind or 'no trigger'}). "
            "Approve the package again, which starts a new one."
        )
    for identity in (approver, *others, *started):
        if "/" in identity or ":" in identity:
            require_person(identity, allowed)
    if person(approver) in map(person, others):
        raise Refused(f"{approver} approved the model too. Another person must let it into production.")
    if started and person(approver) == person(starter):
        raise Refused(f"{approver} started this release too. Another person must let it into production.")


def require_person(identity: str, allowed: str) -> None:
    """Check that an AWS identity is an allowed one and names a person. allowed: as APPROVERS of `handler`.

    Raises Refused when it is not, or does not.
    """
    last = identity.split(":", 5)[-1]
    if not any(fnmatch.fnmatchcase(last, pattern.strip()) for pattern in allowed.split(",")):
        raise Refused(
            f"{identity} is none of the identities that may approve ({allowed or 'none'}). Approve with one of them, "
            "or let an administrator change them: scarcegan toolchain deploy --set ApproverIdentities=..."
        )
    if NO_PERSON.fullmatch(re.split("[/:]", last)[-1]):
        raise Refused(
            f"{identity} names no person: a program has named the session. Approve with a session of your own."
        )


def person(identity: str) -> str:
    """Return the name of a person in an AWS identity: a user's name, or the name of a role's session, without what
    follows an @.

    arn:aws:sts::123456789012:assumed-role/Admin/ada@acme.com, arn:aws:iam::123456789012:user/ada and user/ada give ada.
    """
    return re.split("[/:]", identity)[-1].partition("@")[0].casefold()


def write_once(s3: Any, bucket: str, key: str, record: dict[str, Any]) -> dict[str, Any]:
    """Write a record as JSON to S3, with the time under "checked", unless it is there. Returns the record in S3.

    CodePipeline may call again for the same execution, when a person retries the stage.

    Raises Refused when there is a record that says something else.
    """
    from botocore.exceptions import ClientError

    whole = {**record, "checked": time_text(datetime.now(UTC))}
    body = json.dumps(whole, indent=1, sort_keys=True).encode()
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*")
    except ClientError as error:
        if error.response["Error"].get("Code") not in ("PreconditionFailed", "ConditionalRequestConflict"):
            raise
        there = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        if {**there, "checked": ""} != {**record, "checked": ""}:
            raise Refused(f"s3://{bucket}/{key} says something else about this execution.") from None
        return there
    return whole
