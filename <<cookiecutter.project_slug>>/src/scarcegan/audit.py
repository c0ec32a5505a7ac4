"""Who started, approved and released what in AWS, and what does not fit together. Every call only reads.

AWS keeps it in four places: executions in SageMaker and CodePipeline, decisions with each model package, answers of the
approval before production, and the records that the function check-approval writes once, below releases/ in the bucket.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from scarcegan.aws.accounts import access_to_stage
from scarcegan.aws.client import Aws, find_ssm_parameter
from scarcegan.aws.findings import refused
from scarcegan.aws.names import PIPELINES, Names
from scarcegan.aws.storage import project_bucket
from scarcegan.aws.teardown import listed
from scarcegan.errors import UserError, short
from scarcegan.registry.contract import Decision, ModelPackage, Registry, iso
from scarcegan.registry.sagemaker.package_facts import recorded_name

T = TypeVar("T")
STARTED, LET_IN, REFUSED, RELEASED, RECORDED = "started", "let in", "refused", "released", "recorded"
AUDITED_PIPELINES = ("build", "deploy")
RECORDS = "releases/"
RECORD_KEY = re.compile(r"releases/(?P<version>[1-9][0-9]*)/(?P<execution>[0-9a-f-]{36})\.json")
Action = Mapping[str, Any]  # as ListActionExecutions returns it


@dataclass(frozen=True)
class Act:
    """Something that somebody did.

    - at: when, ISO 8601 in UTC.
    - act: started; approved or rejected, of a package; let in or refused, of a release; released, when
      production changed; recorded, of a release that was checked and of which AWS tells no change of production.
    - what: a pipeline or a version of the model.
    - by: who, as AWS names them, an ARN mostly; "" when AWS does not tell.
    - details: commit, digest, reason, outcome.
    - execution: its id or ARN, "" for a decision about a package.
    """

    at: str
    act: str
    what: str
    by: str
    details: str
    execution: str = ""


@dataclass(frozen=True)
class Audit:
    """What was found.

    - since: the acts before it are left out; ISO 8601 in UTC.
    - acts: newest first.
    - problems: sentences about what does not fit together.
    - unknown: sentences about what could not be seen, and what AWS does not tell.
    """

    since: str
    acts: Sequence[Act]
    problems: Sequence[str]
    unknown: Sequence[str]

    def describe(self) -> dict[str, Any]:
        """Return the audit as values that JSON can hold."""
        return asdict(self)


@dataclass
class Evidence:
    """What AWS has told, each None when it could not be asked.

    - packages: version -> package. decisions: about them, oldest first.
    - keys: of all records in the bucket.
    - records: key -> record, of those since the beginning of the audit and of the versions in use; a record that is no
      JSON object is {}.
    - runs: of CodePipeline, execution id -> its summary, of all that CodePipeline still has.
    - actions: of the deploy pipeline, likewise.
    - production: the version that was last released, "" for none.
    - unseen: why something is None, a sentence each.
    """

    packages: Mapping[int, ModelPackage] | None = None
    decisions: Sequence[Decision] | None = None
    keys: Sequence[str] | None = None
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: Mapping[str, Mapping[str, Any]] | None = None
    actions: Sequence[Action] | None = None
    production: str | None = None
    unseen: list[str] = field(default_factory=list)

    def ask(self, what: str, call: Callable[[], T]) -> T | None:
        """Run a call that reads from AWS. Returns its result, or None when AWS refuses it, which is noted.

        - what: is asked for, as the beginning of a sentence.
        """
        from botocore.exceptions import ClientError

        try:
            return call()
        except UserError as error:
            self.unseen.append(f"{what}: {error}")
        except ClientError as error:
            self.unseen.append(f"{what}: {refused(what, error).found}")
        return None


def audit(aws: Aws, registry: Registry, since: datetime) -> Audit:
    """Return who did what since a time, and what does not fit together.

    A call that the user may not make is noted under `unknown`, and what depends on it is not checked.

    - registry: the model registry in AWS.
    - since: with a time zone.
    """
    evidence = gathered(aws, registry, since)
    runs = [evidence.ask(f"executions of {name}", partial(runs_of, aws, name, since)) or [] for name in PIPELINES]
    told = [codepipeline_acts(aws.names, evidence), decision_acts(evidence), release_acts(evidence)]
    acts = (act for some in (*runs, *told) for act in some if act.at >= iso(since))
    recent = sorted(acts, key=lambda act: act.at, reverse=True)
    unknown = [*dict.fromkeys(evidence.unseen), *untold(recent), *unconfirmed(evidence, iso(since))]
    return Audit(iso(since), recent, list(problems(aws.names, evidence)), unknown)


def gathered(aws: Aws, registry: Registry, since: datetime) -> Evidence:
    """Ask AWS for all evidence. since: records before it are read for the versions in use only."""
    found = Evidence()
    packages = found.ask("model packages", registry.packages)
    found.packages = None if packages is None else {package.version: package for package in packages}
    found.decisions = found.ask("decisions about packages", registry.history)
    found.production = found.ask("version in production", partial(version_in_production, aws))
    found.runs = found.ask("executions of CodePipeline", lambda: code_runs(aws))
    found.actions = found.ask("approvals before production", lambda: deploy_actions(aws))
    objects = found.ask("records of releases", lambda: list(project_bucket(aws).listing(RECORDS)))
    found.keys = None if objects is None else [one["Key"] for one in objects]
    if found.keys and found.production == "":
        name = aws.names.parameter("production/version")
        found.unseen.append(
            f"version in production: there is no SSM parameter {name}, so it is not compared with the records of "
            "releases."
        )
    used = {found.production or "", *(str(package.version) for package in packages or [] if package.champion)}
    for one in objects or []:
        if one["LastModified"] >= since or one["Key"].split("/")[1] in used:
            record = found.ask("records of releases", partial(read_record, aws, one["Key"]))
            if record is not None:
                found.records[one["Key"]] = record
    return found


def version_in_production(aws: Aws) -> str:
    """Return the version that was last released; "" for none. It is asked for in the account that production is in.

    Raises UserError when that account lets nobody in.
    """
    return find_ssm_parameter(access_to_stage(aws, "production"), "production/version")


def read_record(aws: Aws, key: str) -> Mapping[str, Any]:
    """Return a record of a release; {} for an object that is no JSON object, or is gone."""
    try:
        found = project_bucket(aws).read_json(key)
    except ValueError:
        return {}
    return found[0] if found and isinstance(found[0], dict) else {}


def runs_of(aws: Aws, name: str, since: datetime) -> list[Act]:
    """Return who started the executions of a SageMaker pipeline. name: training or scoring.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html
    """
    sagemaker = aws.client("sagemaker")
    pages = sagemaker.get_paginator("list_pipeline_executions")
    asked = pages.paginate(PipelineName=aws.names.pipeline(name), CreatedAfter=since)
    arns = [one["PipelineExecutionArn"] for one in listed(asked, "PipelineExecutionSummaries")]
    return [run_act(name, sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)) for arn in arns]


def run_act(name: str, run: Mapping[str, Any]) -> Act:
    """Return the start of an execution. run: as DescribePipelineExecution returns it."""
    words = [run["PipelineExecutionStatus"], run.get("PipelineExecutionDescription", "")]
    by = user_name(run.get("CreatedBy", {}))
    return Act(iso(run["CreationTime"]), STARTED, name, by, ", ".join(filter(None, words)), run["PipelineExecutionArn"])


def user_name(context: Mapping[str, Any]) -> str:
    """Return the ARN or the user profile in a UserContext of SageMaker; "" when it names nobody.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UserContext.html
    """
    return str(context.get("IamIdentity", {}).get("Arn") or context.get("UserProfileName") or "")


def code_runs(aws: Aws) -> dict[str, Mapping[str, Any]]:
    """Return execution id -> summary of both CodePipelines' executions, with the name under "pipeline"."""
    pages = aws.client("codepipeline").get_paginator("list_pipeline_executions")
    return {
        run["pipelineExecutionId"]: {**run, "pipeline": name}
        for name in AUDITED_PIPELINES
        for run in listed(pages.paginate(pipelineName=aws.names.pipeline(name)), "pipelineExecutionSummaries")
    }


def deploy_actions(aws: Aws) -> list[Action]:
    """Return the actions of all executions of the deploy pipeline that CodePipeline still has."""
    pages = aws.client("codepipeline").get_paginator("list_action_executions")
    return list(listed(pages.paginate(pipelineName=aws.names.pipeline("deploy")), "actionExecutionDetails"))


# -- acts -----------------------------------------------------------------------------------------------------------


def codepipeline_acts(names: Names, evidence: Evidence) -> Iterator[Act]:
    """Yield the starts of both CodePipelines, and the answers before production."""
    for execution, run in (evidence.runs or {}).items():
        trigger = run.get("trigger", {})
        commit = short(commit_of(run))
        words = [run["status"], f"commit {commit}" if commit else "", trigger.get("triggerType")]
        by = trigger.get("triggerDetail", "")
        yield Act(iso(run["startTime"]), STARTED, run["pipeline"], by, ", ".join(filter(None, words)), execution)
    versions = {record.get("execution"): record.get("version") for record in evidence.records.values()}
    for action in answers(evidence):
        execution = action["pipelineExecutionId"]
        what = f"version {versions[execution]}" if execution in versions else names.pipeline("deploy")
        act = LET_IN if action["status"] == "Succeeded" else REFUSED
        yield Act(iso(action["lastUpdateTime"]), act, what, action.get("updatedBy", ""), reason_of(action), execution)


def commit_of(run: Mapping[str, Any]) -> str:
    """Return the commit of an execution of CodePipeline; "" when it took none. run: as `code_runs` has it."""
    found = {source["actionName"]: source.get("revisionId", "") for source in run.get("sourceRevisions", [])}
    return str(found.get("Source", ""))


def answers(evidence: Evidence) -> list[Action]:
    """Return the actions by which a person let a release into production or refused it."""
    return [
        action
        for action in evidence.actions or []
        if action.get("input", {}).get("actionTypeId", {}).get("category") == "Approval"
        and action["status"] in ("Succeeded", "Failed")
    ]


def reason_of(action: Action) -> str:
    """Return what a person wrote with an approval; "" for nothing."""
    return str(action.get("output", {}).get("executionResult", {}).get("externalExecutionSummary", ""))


def decision_acts(evidence: Evidence) -> Iterator[Act]:
    """Yield the decisions about packages."""
    for one in evidence.decisions or []:
        yield Act(utc(one.at), one.decision, f"version {one.version}", "" if one.by == "unknown" else one.by, one.note)


def changes_of_production(evidence: Evidence) -> dict[str, str]:
    """Return execution id -> when its deployment to production had ended well, ISO 8601, oldest first."""
    ended = [
        (iso(action["lastUpdateTime"]), action["pipelineExecutionId"])
        for action in evidence.actions or []
        if (action["stageName"], action["actionName"], action["status"]) == ("Production", "Endpoint", "Succeeded")
    ]
    return {execution: at for at, execution in sorted(ended)}


def release_acts(evidence: Evidence) -> Iterator[Act]:
    """Yield the releases: of what production changed to, and of what was recorded only."""
    changed = changes_of_production(evidence)
    records = {record.get("execution"): record for record in evidence.records.values()}
    order = list(changed)
    for execution, record in records.items():
        what, by = f"version {record.get('version')}", str(record.get("approver", ""))
        words = f"commit {short(record.get('commit'))}, model {short(record.get('digest'))}"
        if execution in changed:
            later = order[order.index(execution) + 1 :]
            end = f"in production until {minute(changed[later[0]])}" if later else "in production since then"
            yield Act(changed[execution], RELEASED, what, by, f"{words}, {end}", str(execution))
        elif record:
            end = "AWS tells no change of production"
            yield Act(utc(record.get("checked", "")), RECORDED, what, by, f"{words}, {end}", str(execution))


def utc(text: Any) -> str:
    """Return a time in ISO 8601 with an offset as `iso` writes it; "" for another text."""
    try:
        return iso(datetime.fromisoformat(str(text)).astimezone(UTC))
    except ValueError:
        return ""


# -- what does not fit ----------------------------------------------------------------------------------------------


def problems(names: Names, evidence: Evidence) -> Iterator[str]:
    """Yield a sentence for all that does not fit together. What could not be seen is not compared."""
    if evidence.keys is not None:
        yield from unrecorded(evidence, evidence.keys)
    for key, record in evidence.records.items():
        yield from record_problems(names, evidence, key, record)
    for action in answers(evidence):
        if action["status"] == "Succeeded" and not is_person(names, action.get("updatedBy", "")):
            by = action.get("updatedBy") or "nobody whom AWS names"
            yield f"execution {action['pipelineExecutionId']} was let into production by {by}, who is no person."
    for one in evidence.decisions or []:
        if one.decision == "approved" and is_own_role(names, one.by):
            yield f"version {one.version} was approved by {one.by}, a role of this project and no person."
        if one.recorded not in ("", one.by, recorded_name(one.by)):
            yield (
                f"version {one.version} says that {one.recorded} {one.decision} it, but AWS names {one.by} as who "
                f"changed it last ({minute(utc(one.at))}). Either {short_name(one.by)} wrote that name, or changed "
                "something else of the package later: see UpdateModelPackage in CloudTrail."
            )


def unrecorded(evidence: Evidence, keys: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each version in use, and each change of production, that has no record.

    - keys: of all records.
    """
    found = [match for match in map(RECORD_KEY.fullmatch, keys) if match]
    versions, executions = {match["version"] for match in found}, {match["execution"] for match in found}
    champion = [str(package.version) for package in (evidence.packages or {}).values() if package.champion]
    for name, version in [("production", evidence.production), *(("the champion", version) for version in champion)]:
        if version and version not in versions:
            yield (
                f"{name} is version {version}, but {RECORDS}{version}/ holds no record of a release. An earlier "
                "toolchain wrote none; otherwise find out who changed it (CloudTrail)."
            )
    for execution, at in changes_of_production(evidence).items():
        if execution not in executions:
            yield f"execution {execution} changed production ({minute(at)}), but {RECORDS} holds no record of it."


def record_problems(names: Names, evidence: Evidence, key: str, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for all that does not fit in one record. key: of the record."""
    place = RECORD_KEY.fullmatch(key)
    if place is None or (place["version"], place["execution"]) != (record.get("version"), record.get("execution")):
        yield f"{key} is no record of the release that its name says. Only the function check-approval may write there."
        return
    by = str(record.get("approver", ""))
    if not is_person(names, by):
        yield f"{key} names {by or 'nobody'} as the person who let version {place['version']} into production."
    digest, commit = record.get("digest"), record.get("commit")
    package = (evidence.packages or {}).get(int(place["version"]))
    if evidence.packages is not None and package is None:
        yield f"{key} is of version {place['version']}, which the model registry does not hold."
    elif package is not None and package.model_digest != digest:
        yield (
            f"{key} records the model {short(digest)}, but version {place['version']} is registered with "
            f"{short(package.model_digest) or 'none'}. Find out who changed the package (CloudTrail)."
        )
    run = commit_of((evidence.runs or {}).get(place["execution"], {}))
    if run and run != commit:
        yield f"{key} records the commit {short(commit)}, but CodePipeline took {short(run)} for it."


def is_person(names: Names, identity: str) -> bool:
    """Whether an identity may be a person: AWS names one, and it is no service and no role of this project."""
    return bool(identity) and not identity.endswith(".amazonaws.com") and not is_own_role(names, identity)


def is_own_role(names: Names, identity: str) -> bool:
    """Whether an identity is a role of this project, or a session of one."""
    return bool(re.search(rf"(^|[:/])(assumed-role|role)/{re.escape(names.role(''))}", identity))


def untold(acts: Sequence[Act]) -> Iterator[str]:
    """Yield a sentence for what AWS does not tell about acts."""
    for act in acts:
        name = f"{act.what}, {act.act} {minute(act.at)}"
        if not act.by:
            yield f"{name}: AWS does not tell by whom."
        if act.act in ("approved", LET_IN) and not act.details:
            yield f"{name}: no reason was written."


def unconfirmed(evidence: Evidence, since: str) -> Iterator[str]:
    """Yield a sentence for each decision since a time of which only the package itself tells who made it, or when.

    - since: ISO 8601 in UTC.
    """
    for one in evidence.decisions or []:
        at = utc(one.at)
        if one.recorded in (one.by, recorded_name(one.by)) and (at >= since or not at):
            yield (
                f"version {one.version}, {one.decision} {minute(at)}: by {one.recorded} is what was written into the "
                "package. AWS tells only who changed a package last, not who decided before that (CloudTrail does)."
            )


# -- for people -----------------------------------------------------------------------------------------------------


def minute(at: str) -> str:
    """Return a time of an act for people, in UTC: 2026-03-01 12:00."""
    return at[:16].replace("T", " ")


def short_name(identity: str) -> str:
    """Return an identity of AWS for a table: "ada (Admin)" for a session of a role, "ada" for a user, "rule x"."""
    session = re.fullmatch(r"arn:[\w-]+:sts::\d+:assumed-role/([^/]+)/(.+)", identity)
    if session:
        return f"{session[2]} ({session[1]})"
    other = re.fullmatch(r"arn:[\w-]+:(\w+):[\w-]*:\d*:([\w-]+)/(.+)", identity)
    if not other:
        return identity or "unknown"
    name = other[3].rsplit("/", 1)[-1]
    return name if other[2] == "user" else f"{other[2]} {name}"
