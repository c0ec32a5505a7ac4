"""The notebook's other side: the same calls, with executions in AWS. moto and stubs stand in for it."""

import json
import os

import pytest
from moto import mock_aws

from pipelines_in_moto import CREDENTIALS, NAMES, make_bucket, make_plan, sign_in
from scarcegan import notebook
from scarcegan.errors import UserError
from scarcegan.sagemaker import bundle, executions, upsert
from scarcegan.sagemaker.executions import ExecutionStatus, StepStatus

SCORES = """model,metric,value,low,high
best_ranking,pr_auc,0.5,0.4,0.6
champion,pr_auc,0.3,0.2,0.4
logistic_regression,recall_at_fpr_0.01,,,
"""
GATE = {"passed": True, "reason": "0.5 is over 0.3", "definition": "best_ranking", "metric": "pr_auc"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with both pipelines and some telemetry in moto."""
    sign_in(monkeypatch)
    (tmp_path / "config.yaml").write_text("train: {iterations: 1000}\n", encoding="utf-8")
    monkeypatch.setattr(bundle, "download_wheels", lambda requirements, folder: [])
    with mock_aws():
        make_bucket().put_object(Bucket=NAMES.bucket, Key="data/telemetry/part-0.parquet", Body=b"rows")
        found = notebook.open_project(cloud=True, start=tmp_path)
        with found.engine.aws() as connection:
            upsert.apply_plan(make_plan(tmp_path, found.workspace.config, NAMES), connection, False, lambda line: None)
        yield found


@pytest.fixture
def outputs(monkeypatch):
    """Every execution has written the same evaluation and gate; what was fetched is listed."""
    fetched = []

    def fetch(connection, arn, step, output, folder):
        fetched.append((step, output))
        if output == "models":
            raise UserError("no such output")
        (folder / "evaluation.csv").write_text(SCORES)
        (folder / "gate.json").write_text(json.dumps(GATE))
        return folder

    monkeypatch.setattr(executions, "fetch_output", fetch)
    return fetched


def test_executions_are_started_with_changes_and_listed_with_them_in_moto(project):
    first = project.start({})
    second = project.start({"train.iterations": 2000, "train.scarcegan.expert": False})
    with pytest.raises(UserError, match=r"Did you mean 'train\.iterations'"):
        project.start({"train.iteration": 1})
    changed = {run["run"]: run["changed"] for run in project.runs(8)}
    assert changed == {first: {}, second: {"TrainIterations": "2000", "TrainExpert": "false"}}


def test_what_an_execution_wrote_is_compared_with_the_champion_and_fetched_once_with_outputs_stubbed(project, outputs):
    run = project.start({"train.iterations": 2000})
    (row,) = notebook.comparison(project)
    assert (row["run"], row["value"], row["champion"], row["gate"]) == (run, 0.5, 0.3, "open")
    assert "TrainIterations=2000" in row["changed"]
    assert notebook.scores(project, run)[2]["value"] is None
    assert notebook.gate_result(project, run)["reason"] == "0.5 is over 0.3"
    assert sorted(outputs) == [("evaluate", "evaluation"), ("evaluate", "gate")]


def test_an_output_that_could_not_be_fetched_leaves_no_folder_behind_with_outputs_stubbed(project, outputs):
    run = project.start({})
    for _ in range(2):
        with pytest.raises(UserError, match="no such output"):
            project.folder(run, "train", "models")
    assert outputs == [("train", "models")] * 2


def test_watching_tells_each_change_once_and_waits_for_the_end_with_statuses_stubbed(project, monkeypatch, capsys):
    run = project.start({})
    statuses = [
        [],
        [("train", "Executing")],
        [("train", "Executing")],
        [("train", "Failed")],
        [("train", "Executing")],
        [("train", "Succeeded")],
    ]

    def status(connection, arn):
        steps = [StepStatus(*step) for step in statuses.pop(0)]
        return ExecutionStatus(run, "training", "Executing" if statuses else "Succeeded", "", 1.0, arn, "", steps)

    monkeypatch.setattr(executions, "execution_status", status)
    monkeypatch.setattr(executions.time, "sleep", lambda seconds: None)
    assert project.watch(run) == "Succeeded"
    assert capsys.readouterr().out.splitlines() == [
        "train: Executing",
        "train: Failed",
        "train: Executing",
        "train: Succeeded",
        "Succeeded",
    ], "a retried step is told again"


def test_without_credentials_the_notebook_says_how_to_log_in(project, monkeypatch):
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    with pytest.raises(UserError, match="no AWS credentials"):
        project.runs(1)
