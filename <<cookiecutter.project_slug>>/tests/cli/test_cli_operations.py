"""The verbs doctor, teardown and audit as they are typed: what they print, how they end. What they call is stubbed."""

import io
import json
import sys
from datetime import UTC, datetime

import pytest

from canned_aws import NAMES, connected
from scarcegan import audit, doctor
from scarcegan.aws import client, teardown
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WARNING, WOULD_FAIL, Finding

FINE = Finding("Python", OK, "3.12.1")
ODD = Finding("git", WARNING, "is not installed", "Install it.")
BAD = Finding("disk", WOULD_FAIL, "0.5 GB are free", "Free some space.")
VALID = Finding("config.yaml", OK, "config.yaml is valid")
PLAN = teardown.TeardownPlan(
    NAMES,
    [teardown.Removal("pipeline", "rare-players-training"), teardown.Removal("stack", "rare-players-storage")],
    [teardown.Left(f"bucket {NAMES.bucket}: models", "aws s3 rb …")],
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with settings; the tests' current folder."""
    (tmp_path / "config.yaml").write_text(f"project: {{name: {NAMES.project}, region: {NAMES.region}}}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def found(monkeypatch):
    """The findings of the doctor, which a test fills, and what it was asked."""
    findings, asked = [VALID], []

    def examine(file, cloud, given):
        asked.append((cloud, dict(given)))
        yield from findings

    monkeypatch.setattr(doctor, "examine", examine)
    findings_and_asked = (findings, asked)
    return findings_and_asked


@pytest.fixture
def removed(monkeypatch):
    """The plans that were carried out, with AWS stubbed."""
    plans = []

    def carry_out(plan, aws, report):
        plans.append(plan)
        report("1/2 delete SageMaker pipeline rare-players-training")

    monkeypatch.setattr(client, "connect_to_aws", lambda config: connected({})[0])
    monkeypatch.setattr(teardown, "plan_teardown", lambda aws, config: PLAN)
    monkeypatch.setattr(teardown, "carry_out", carry_out)
    monkeypatch.setattr(teardown, "what_stays", lambda aws, config: PLAN.left)
    return plans


def typed(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


# -- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_prints_each_finding_with_its_fix_and_ends_with_2_when_something_would_fail(scarcegan, project, found):
    found[0].extend([FINE, ODD, BAD])
    code, out, err = scarcegan("doctor")
    assert (code, err) == (2, "")
    assert out.splitlines() == [
        "ok              config.yaml: config.yaml is valid",
        "ok              Python: 3.12.1",
        "warning         git: is not installed",
        "                  -> Install it.",
        "would fail      disk: 0.5 GB are free",
        "                  -> Free some space.",
        "1 of 4 would fail",
    ]


def test_doctor_counts_what_it_could_not_look_at(scarcegan, project, found):
    found[0].extend([FINE, Finding("AWS", COULD_NOT_LOOK, "it cannot be asked without credentials")])
    assert scarcegan("doctor")[1].endswith("3 checks, none would fail, 1 could not look\n")
    found[0].append(BAD)
    assert scarcegan("doctor")[1].endswith("1 of 4 would fail, 1 could not look\n")


def test_warnings_alone_end_with_0(scarcegan, project, found):
    found[0].append(ODD)
    assert scarcegan("doctor")[0] == 0


def test_doctor_for_machines_holds_findings_and_with_cloud_the_costs(scarcegan, project, found):
    code, out, _ = scarcegan("doctor", "--json")
    assert code == 0 and set(json.loads(out)) == {"findings", "would_fail"}
    code, out, _ = scarcegan("doctor", "--cloud", "--json")
    assert code == 0 and json.loads(out)["costs"]["date"]


def test_doctor_of_a_cloud_prints_what_a_month_costs(scarcegan, project, found):
    assert "a month in all" in scarcegan("doctor", "--cloud")[1]


def test_doctor_takes_what_a_deployment_would_be_given(scarcegan, project, found):
    scarcegan("doctor", "--cloud", "--repository", "acme/rare", "--connection-arn", "arn:1", "--set", "VpcId=vpc-1")
    assert found[1] == [(True, {"VpcId": "vpc-1", "Repository": "acme/rare", "ConnectionArn": "arn:1"})]


def test_what_a_deployment_would_be_given_needs_cloud(scarcegan, project, found):
    code, _, err = scarcegan("doctor", "--set", "VpcId=vpc-1")
    assert code == 2 and "scarcegan doctor --cloud" in err and not found[1]


# -- teardown -------------------------------------------------------------------------------------------------------


def test_teardown_prints_the_plan_asks_for_the_name_then_acts_and_names_what_stays(
    scarcegan, project, removed, monkeypatch
):
    typed(monkeypatch, "rare-players\n")
    code, out, err = scarcegan("teardown", "--cloud")
    assert code == 0 and removed == [PLAN]
    assert out.startswith("rare-players in eu-west-1, account 123456789012\n  delete SageMaker pipeline")
    assert err.startswith("Type the project's name, rare-players,") and "1/2 delete" in err
    assert out.rstrip().endswith("aws s3 rb …")


@pytest.mark.parametrize("text", ["", "yes\n", "rare-player\n"])
def test_another_name_removes_nothing(scarcegan, project, removed, monkeypatch, text):
    typed(monkeypatch, text)
    code, out, err = scarcegan("teardown", "--cloud")
    assert code == 2 and removed == []
    assert "delete stack rare-players-storage" in out and "so nothing was removed" in err and "--yes" in err


def test_a_dry_run_prints_the_plan_asks_nothing_and_removes_nothing(scarcegan, project, removed, monkeypatch):
    typed(monkeypatch, "rare-players\n")
    code, out, err = scarcegan("teardown", "--cloud", "--dry-run")
    assert (code, err, removed) == (0, "", []) and out.endswith("Nothing was removed.\n")
    code, out, _ = scarcegan("teardown", "--cloud", "--dry-run", "--json")
    assert code == 0 and json.loads(out)["removed"][1]["line"] == "delete stack rare-players-storage"


def test_yes_asks_nothing_and_for_machines_stdout_is_json_alone(scarcegan, project, removed):
    code, out, err = scarcegan("teardown", "--cloud", "--yes", "--json")
    assert code == 0 and removed == [PLAN] and "What stays:" in err
    assert json.loads(out)["left"][0]["by_hand"] == "aws s3 rb …"


def test_teardown_without_cloud_says_what_it_is_for(scarcegan, project, removed):
    code, _, err = scarcegan("teardown")
    assert code == 2 and "scarcegan teardown --cloud --dry-run" in err and removed == []


# -- audit ----------------------------------------------------------------------------------------------------------

ADA = f"arn:aws:sts::{NAMES.account}:assumed-role/Admin/ada"


@pytest.fixture
def audited(monkeypatch):
    """The audit that is found, with AWS stubbed: one act, and the problems and unknown that a test fills in."""
    problems, unknown, asked = [], [], []

    def found(aws, registry, since):
        asked.append(since)
        act = audit.Act("2026-11-21T10:00:00.000000Z", "let in", "version 5", ADA, "figures\nare fine", "e1")
        return audit.Audit("2026-09-01T00:00:00.000000Z", [act], problems, unknown)

    monkeypatch.setattr(client, "connect_to_aws", lambda config: connected({})[0])
    monkeypatch.setattr(audit, "audit", found)
    return problems, unknown, asked


def test_audit_prints_a_table_and_ends_with_0_when_all_fits(scarcegan, project, audited):
    code, out, _ = scarcegan("audit")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["when", "UTC", "act", "what", "by", "details"],
        ["2026-11-21", "10:00", "let", "in", "version", "5", "ada", "(Admin)", "figures", "are", "fine"],
        [],
        ["Nothing", "of", "what", "was", "seen", "contradicts", "itself."],
    ]


def test_audit_points_out_what_does_not_fit_and_ends_with_2(scarcegan, project, audited):
    audited[0].append("the champion is version 5, but releases/5/ holds no record of a release.")
    audited[1].append("records of releases: you lack s3:GetObject")
    code, out, _ = scarcegan("audit", "--days", "7")
    assert code == 2
    assert out.splitlines()[2:] == [
        "",
        "What does not fit:",
        "- the champion is version 5, but releases/5/ holds no record of a release.",
        "",
        "What is not known:",
        "- records of releases: you lack s3:GetObject",
    ]
    [since] = audited[2]
    assert (datetime.now(UTC) - since).days == 7


def test_audit_as_json_has_the_whole_identity(scarcegan, project, audited):
    code, out, _ = scarcegan("audit", "--json")
    found = json.loads(out)
    assert (code, found["acts"][0]["by"], found["problems"]) == (0, ADA, [])


FORGED = "ok\x1b[2K\x1b[1A\u202e\n2026-03-01 12:00  let in  version 7  ada (Admin)"


def test_an_audit_prints_no_escape_and_no_line_that_somebody_wrote_as_a_reason(scarcegan, project, monkeypatch):
    act = audit.Act("2026-03-01T12:00:00Z", "let in", "version 5", f"arn:aws:iam::1:user/{FORGED}", FORGED)
    found = audit.Audit("2026-01-01T00:00:00Z", [act], [FORGED], [FORGED])
    monkeypatch.setattr(client, "connect_to_aws", lambda config: connected({})[0])
    monkeypatch.setattr(audit, "audit", lambda *_: found)
    _, out, _ = scarcegan("audit")
    assert "\x1b" not in out and "\u202e" not in out and r"ok\x1b[2K\x1b[1A\u202e" in out
    assert not [line for line in out.splitlines()[2:] if line.startswith("2026-03-01 12:00  let in  version 7")]
    assert json.loads(scarcegan("audit", "--json")[1])["acts"][0]["details"] == FORGED


def test_a_finding_of_the_doctor_has_no_escapes_and_begins_no_second_line(scarcegan, project, found):
    found[0].append(Finding("bucket", OK, FORGED))
    _, out, _ = scarcegan("doctor")
    assert "\x1b" not in out and " " * 18 + "2026-03-01 12:00" in out
