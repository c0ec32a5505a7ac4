"""Who started, approved and released what. AWS answers from a table (canned_aws.py), the registry from a list."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.response import StreamingBody

import pages
from canned_aws import MISSING, NAMES, Refusal, connected
from scarcegan import audit as auditing
from scarcegan.aws import accounts
from scarcegan.registry.contract import APPROVED, Decision, ModelPackage
from scarcegan.registry.sagemaker.package_group import decisions_of

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=90)
ADA = f"arn:aws:sts::{NAMES.account}:assumed-role/Developer/ada"
GRACE = f"arn:aws:sts::{NAMES.account}:assumed-role/Approver/grace"
BUILD = f"arn:aws:sts::{NAMES.account}:assumed-role/{NAMES.role('build')}/AWSCodeBuild-1"
COMMIT, DIGEST = "c0ffee" * 6 + "c0de", "ab" * 32
RUN = "0a1b2c3d-0000-4000-8000-000000000005"
KEY = f"releases/5/{RUN}.json"
RECORD = {
    "pipeline": "rare-players-deploy",
    "execution": RUN,
    "version": "5",
    "digest": DIGEST,
    "commit": COMMIT,
    "approver": GRACE,
    "reason": "seen",
    "approved": "2026-11-21T10:00:00+00:00",
    "model_approvers": [ADA],
    "starter": "",
    "checked": "2026-11-21T10:00:05+00:00",
}
PACKAGE = ModelPackage(5, "group", "s1", "best", APPROVED, True, "2026-11-20T00:00:00Z", model_digest=DIGEST)
APPROVAL = Decision("2026-11-21T08:00:00Z", 5, "approved", ADA, "better recall")


class Registry:
    """The two lists that an audit reads of a registry."""

    def __init__(self, packages=(PACKAGE,), decisions=(APPROVAL,)):
        self.packages, self.history = lambda: list(packages), lambda: list(decisions)


def at(hour, minute=0):
    return datetime(2026, 11, 21, hour, minute, tzinfo=UTC)


def action(stage, name, category, hour, by=GRACE, status="Succeeded", summary="", run=RUN):
    return {
        "pipelineExecutionId": run,
        "stageName": stage,
        "actionName": name,
        "status": status,
        "lastUpdateTime": at(hour),
        "updatedBy": by,
        "input": {"actionTypeId": {"category": category, "owner": "AWS", "provider": "x", "version": "1"}},
        "output": {"executionResult": {"externalExecutionSummary": summary}},
    }


LET_IN = action("Approve", "Approve", "Approval", 10, summary="figures are fine")
CHANGED = action("Production", "Endpoint", "Deploy", 11, by="")
SUMMARY = {
    "pipelineExecutionId": RUN,
    "status": "Succeeded",
    "startTime": at(9),
    "sourceRevisions": [{"actionName": "Source", "revisionId": COMMIT}],
    "trigger": {
        "triggerType": "CloudWatchEvent",
        "triggerDetail": NAMES.arn("events", "rule/rare-players-model-package-approved"),
    },
}


def body(value):
    text = (value if isinstance(value, str) else json.dumps(value)).encode()
    return {"Body": StreamingBody(io.BytesIO(text), len(text)), "ETag": "e"}


def account(records=None, actions=(LET_IN, CHANGED), production="5", run=SUMMARY):
    """An account after one release of version 5. records: key -> content."""
    records = {KEY: RECORD} if records is None else records
    arn = NAMES.arn("sagemaker", "pipeline/rare-players-training/execution/e1")
    return {
        "ssm:GetParameter": lambda asked: (
            {"Parameter": {"Value": production}} if production and asked["Name"].endswith("/version") else MISSING
        ),
        "s3:ListObjectsV2": {"Contents": [{"Key": key, "LastModified": at(10)} for key in records]},
        "s3:GetObject": lambda asked: body(records[asked["Key"]]),
        "codepipeline:ListPipelineExecutions": lambda asked: {
            "pipelineExecutionSummaries": [run] if asked["pipelineName"].endswith("-deploy") else []
        },
        "codepipeline:ListActionExecutions": {"actionExecutionDetails": list(actions)},
        "sagemaker:ListPipelineExecutions": lambda asked: (
            {"PipelineExecutionSummaries": [{"PipelineExecutionArn": arn}]}
            if asked["PipelineName"].endswith("-training")
            else MISSING
        ),
        "sagemaker:DescribePipelineExecution": {
            "PipelineExecutionArn": arn,
            "PipelineExecutionStatus": "Succeeded",
            "CreationTime": at(7),
            "CreatedBy": {"IamIdentity": {"Arn": ADA}},
        },
    }


def audited(answers, registry=None):
    return auditing.audit(connected(answers)[0], registry or Registry(), SINCE)


def test_a_release_is_told_from_its_start_to_production_newest_first_by_a_table_of_answers():
    found = audited(account())
    assert [(act.act, act.what, auditing.short_name(act.by)) for act in found.acts] == [
        ("released", "version 5", "grace (Approver)"),
        ("let in", "version 5", "grace (Approver)"),
        ("started", "deploy", "rule rare-players-model-package-approved"),
        ("approved", "version 5", "ada (Developer)"),
        ("started", "training", "ada (Developer)"),
    ]
    released, let_in, started, approved, _ = found.acts
    assert released.details == f"commit {COMMIT[:12]}, model {DIGEST[:12]}, in production since then"
    assert (let_in.details, approved.details) == ("figures are fine", "better recall")
    assert f"commit {COMMIT[:12]}" in started.details
    assert (found.problems, found.unknown) == ([], [])


def test_every_call_of_an_audit_only_reads_and_docs_name_each_by_a_table_of_answers():
    aws, session = connected(account())
    auditing.audit(aws, Registry(), SINCE)
    assert [name for name in session.made if not name.split(":")[1].startswith(("Get", "List", "Describe"))] == []
    assert sorted(session.actions - pages.actions("Read the audit")) == []


def test_what_is_older_is_left_out_but_the_record_of_what_serves_is_read():
    old = {**account(), "s3:ListObjectsV2": {"Contents": [{"Key": KEY, "LastModified": SINCE - timedelta(days=1)}]}}
    aws, session = connected(old)
    later = auditing.audit(aws, Registry(), NOW)
    assert later.acts == [] and later.problems == []
    assert "s3:GetObject" in session.made


def test_the_next_release_says_until_when_the_one_before_was_in_production():
    second = RUN.replace("5", "6")
    records = {KEY: RECORD, f"releases/6/{second}.json": {**RECORD, "version": "6", "execution": second}}
    changed = action("Production", "Endpoint", "Deploy", 15, by="", run=second)
    six = replace(PACKAGE, version=6)
    found = audited(
        account(records, (LET_IN, CHANGED, changed), "6"), Registry([replace(PACKAGE, champion=False), six])
    )
    ends = [act.details.rsplit(", ", 1)[1] for act in found.acts if act.act == "released"]
    assert ends == ["in production since then", "in production until 2026-11-21 15:00"]
    assert found.problems == []


def test_a_release_that_was_checked_and_changed_nothing_is_no_release():
    found = audited(account(actions=(LET_IN,)))
    assert [act.act for act in found.acts if act.what == "version 5"] == ["recorded", "let in", "approved"]


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_production_and_the_champion_without_a_record_are_pointed_out():
    found = audited(account(records={}, actions=()))
    assert [sentence.split(",")[0] for sentence in found.problems] == [
        "production is version 5",
        "the champion is version 5",
    ]


def test_a_change_of_production_that_passed_no_check_is_pointed_out():
    other = RUN.replace("5", "9")
    found = audited(account(actions=(LET_IN, CHANGED, action("Production", "Endpoint", "Deploy", 12, run=other))))
    assert found.problems == [
        f"execution {other} changed production (2026-11-21 12:00), but releases/ holds no record of it."
    ]


def test_a_package_whose_digest_is_not_the_recorded_one_is_pointed_out():
    found = audited(account(), Registry([replace(PACKAGE, model_digest="cd" * 32)]))
    assert len(found.problems) == 1 and "records the model abababababab, but version 5" in found.problems[0]
    gone = audited(account(), Registry([]))
    assert len(gone.problems) == 1 and "which the model registry does not hold" in gone.problems[0]


def test_a_commit_that_codepipeline_did_not_take_is_pointed_out():
    run = {**SUMMARY, "sourceRevisions": [{"actionName": "Source", "revisionId": "d" * 40}]}
    [problem] = audited(account(run=run)).problems
    assert "records the commit c0ffeec0ffee, but CodePipeline took dddddddddddd" in problem


@pytest.mark.parametrize("by", ["", BUILD, "codepipeline.amazonaws.com"])
def test_an_approval_without_a_person_is_pointed_out(by):
    found = audited(account({KEY: {**RECORD, "approver": by}}, ({**LET_IN, "updatedBy": by}, CHANGED)))
    assert len(found.problems) == 2
    assert all((by or "nobody") in sentence for sentence in found.problems)


def test_a_package_that_a_role_of_this_project_approved_is_pointed_out():
    [problem] = audited(account(), Registry(decisions=[replace(APPROVAL, by=BUILD)])).problems
    assert problem.startswith("version 5 was approved by ") and "no person" in problem


MALLORY = f"arn:aws:iam::{NAMES.account}:user/mallory"


def approved_package(line="2026-11-21T08:00:00Z approved by assumed-role/Developer/ada: reviewed", by=ADA, later=0):
    """Version 5 as DescribeModelPackage gives it. line: its property. later: hours until its last change."""
    return {
        "ModelPackageArn": NAMES.arn("sagemaker", "model-package/group/5"),
        "ModelApprovalStatus": "Approved",
        "ApprovalDescription": "reviewed",
        "CreationTime": at(7),
        "LastModifiedTime": at(8 + later),
        "LastModifiedBy": {"IamIdentity": {"Arn": by}} if by else {},
        "CustomerMetadataProperties": {"decision.000001": line},
    }


def audited_package(**facts):
    return audited(account(), Registry(decisions=decisions_of(approved_package(**facts))))


def test_who_approved_is_whom_aws_names_and_another_name_in_the_package_is_pointed_out():
    """Whoever may update a package can write any name and time into it."""
    found = audited_package(by=MALLORY)
    [approved] = [act for act in found.acts if act.act == "approved"]
    assert (approved.by, approved.at[:16]) == (MALLORY, "2026-11-21T08:00")
    [problem] = found.problems
    assert "assumed-role/Developer/ada approved it, but AWS names" in problem and MALLORY in problem
    assert "Either mallory wrote that name, or changed something else of the package later" in problem
    assert found.unknown == []


def test_a_name_that_aws_confirms_is_neither_a_problem_nor_unknown():
    found = audited_package()
    [approved] = [act for act in found.acts if act.act == "approved"]
    assert approved.by == ADA
    assert (found.problems, found.unknown) == ([], [])


@pytest.mark.parametrize("time", ["x", "2020-01-01T00:00:00Z", "2026-11-21T08:00:00"])
def test_nobody_hides_an_approval_from_the_audit_with_another_time(time):
    found = audited_package(line=f"{time} approved by assumed-role/Developer/ada: reviewed")
    [approved] = [act for act in found.acts if act.act == "approved"]
    assert (approved.by, approved.at[:16]) == (ADA, "2026-11-21T08:00")
    assert found.problems == [] and "is what was written into the package" in found.unknown[0]


@pytest.mark.parametrize("facts", [{"later": 3}, {"by": ""}])
def test_what_only_the_package_tells_about_an_approval_is_said_to_be_unknown(facts):
    """Changed again later by the same person, or by nobody whom AWS names."""
    found = audited_package(**facts)
    [unknown] = found.unknown
    assert unknown.startswith("version 5, approved 2026-11-21 ")
    assert "by assumed-role/Developer/ada is what was written into the package. AWS tells only who" in unknown
    assert found.problems == []


def test_a_recorded_name_without_an_account_may_be_a_role_of_this_project_too():
    [problem] = audited_package(
        line=f"2026-11-21T08:00:00Z approved by {BUILD.split(':', 5)[5]}: reviewed", by=""
    ).problems
    assert "a role of this project and no person" in problem


@pytest.mark.parametrize("content", ["no JSON", [], {**RECORD, "version": "4"}, {**RECORD, "execution": "x"}])
def test_an_object_that_is_not_the_record_its_name_says_is_pointed_out(content):
    [problem, *_] = audited(account({KEY: content})).problems
    assert problem.startswith(f"{KEY} is no record of the release that its name says")


# -- production in another account -------------------------------------------------------------------------------------

THERE = "999999999999"


def with_production_elsewhere(**answers):
    """An account whose production is in another one, which holds production's parameters."""
    elsewhere = {"Parameter": {"Value": json.dumps({"production": THERE})}}
    return {
        **account(),
        "ssm:GetParameter": lambda asked: elsewhere if asked["Name"].endswith("/accounts") else MISSING,
        **answers,
    }


def test_productions_version_is_read_in_the_account_of_production(monkeypatch):
    there, _ = connected({"ssm:GetParameter": {"Parameter": {"Value": "6"}}})
    entered = []
    monkeypatch.setattr(accounts, "enter", lambda aws, *where: entered.append(where) or there)
    found = audited(with_production_elsewhere())
    assert entered == [(THERE, "production", "look")]
    assert found.problems[0].startswith("production is version 6, but releases/6/ holds no record")


def test_an_account_of_production_that_lets_nobody_in_is_not_known():
    found = audited(with_production_elsewhere(**{"sts:AssumeRole": Refusal("AccessDenied", "no", 403)}))
    [unknown] = found.unknown
    assert unknown.startswith(f"version in production: production is in account {THERE}, which does not let you in")
    assert "sts:AssumeRole" in unknown and found.problems == []


def test_without_a_version_in_production_after_a_release_the_comparison_is_not_made_and_that_is_said():
    found = audited(account(production=""))
    assert found.unknown == [
        "version in production: there is no SSM parameter /rare-players/production/version, so it is not compared "
        "with the records of releases."
    ]


# -- what is not known -------------------------------------------------------------------------------------------------


def test_an_approval_without_a_reason_or_a_name_is_said_not_guessed():
    found = audited(account(), Registry(decisions=[replace(APPROVAL, by="unknown", note="")]))
    assert found.unknown == [
        "version 5, approved 2026-11-21 08:00: AWS does not tell by whom.",
        "version 5, approved 2026-11-21 08:00: no reason was written.",
    ]
    assert found.problems == []


def test_who_may_see_nothing_gets_each_missing_action_and_no_problem():
    found = audited({}, Registry([], []))
    assert (found.acts, found.problems) == ([], [])
    assert [sentence.split("you lack ")[1] for sentence in found.unknown] == [
        "ssm:GetParameter",
        "codepipeline:ListPipelineExecutions",
        "codepipeline:ListActionExecutions",
        "s3:ListObjectsV2",
        "sagemaker:ListPipelineExecutions",
        "sagemaker:ListPipelineExecutions",
    ]


def test_records_that_may_be_listed_and_not_read_are_said_once():
    found = audited({**account(), "s3:GetObject": Refusal("AccessDenied", "Access Denied", 403)})
    assert found.unknown == ["records of releases: you lack s3:GetObject"]
    assert found.problems == []


def test_before_anything_was_released_there_is_nothing_to_point_out():
    nothing = {
        "ssm:GetParameter": Refusal("ParameterNotFound"),
        "s3:ListObjectsV2": {},
        "codepipeline:ListPipelineExecutions": Refusal("PipelineNotFoundException"),
        "codepipeline:ListActionExecutions": Refusal("PipelineNotFoundException"),
        "sagemaker:ListPipelineExecutions": MISSING,
    }
    found = audited(nothing, Registry([], []))
    assert (found.acts, found.problems, found.unknown) == ([], [], [])


@pytest.mark.parametrize(
    ("identity", "short"),
    [
        (ADA, "ada (Developer)"),
        (f"arn:aws:iam::{NAMES.account}:user/team/ada", "ada"),
        (NAMES.arn("events", "rule/x"), "rule x"),
        ("ada", "ada"),
        ("", "unknown"),
    ],
)
def test_a_table_names_people_in_short(identity, short):
    assert auditing.short_name(identity) == short
