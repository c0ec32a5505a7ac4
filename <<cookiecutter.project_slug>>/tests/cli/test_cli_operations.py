"""The verbs doctor and teardown as they are typed: what they print, and how they end. What they call is stubbed."""

import io
import json
import sys

import pytest

from canned_aws import NAMES, connected
from scarcegan import doctor
from scarcegan.aws import client, teardown
from scarcegan.aws.findings import OK, WARNING, WOULD_FAIL, Finding

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
