"""The cloud's verbs as they are typed: what they print, where, and how they end. moto plays AWS where it can."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from botocore import xform_name
from moto import mock_aws

import pages
from pipelines_in_moto import NAMES, download_wheels, keys, make_bucket, make_plan, sign_in
from registry_contract import requests
from scarcegan.aws.names import project_tags
from scarcegan.pipeline import config as settings
from scarcegan.registry.sagemaker.registry import SageMakerRegistry
from scarcegan.sagemaker import bundle, executions, upsert
from scarcegan.sagemaker.executions import ExecutionStatus, StepStatus

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "scarcegan"
ARN = NAMES.arn("sagemaker", "pipeline/rare-players-training/execution/abc123")
NO_NETWORK = """
import socket, sys
def refuse(*args, **kwargs): raise SystemExit("a dry run asked the network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from scarcegan.cli import main as cli
sys.argv = ["scarcegan", *sys.argv[1:]]
cli.main()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder, and the present one; nobody is logged in to AWS."""
    for name in ("src", "infra"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / bundle.REQUIREMENTS, tmp_path)
    (tmp_path / "config.yaml").write_text("train: {iterations: 1000}\n", encoding="utf-8")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def in_moto(project, monkeypatch):
    """AWS as moto plays it, with the project's bucket; plans are small, and pip is not asked."""
    sign_in(monkeypatch)
    monkeypatch.setattr(upsert, "plan_upsert", make_plan)
    monkeypatch.setattr(bundle, "download_wheels", download_wheels)
    with mock_aws():
        yield make_bucket()


# -- upsert ---------------------------------------------------------------------------------------------------------


def dry_run(project, seed):
    """`scarcegan upsert --dry-run` in a process of its own, without network and credentials; what it wrote and said."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONHASHSEED": seed,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", NO_NETWORK, "upsert", "--dry-run"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = {path.name: path.read_bytes() for path in (project / "build").iterdir()}
    for name in written:
        (project / "build" / name).unlink()
    return written, done.stdout


@pytest.mark.slow
def test_a_dry_run_needs_no_account_and_no_network_and_two_of_them_write_the_same_bytes(project):
    written, said = dry_run(project, "1")
    assert dry_run(project, "2") == (written, said)
    assert sorted(written) == ["pipeline.json", "scoring.json", "training.json"]
    training = json.loads(written["training.json"])
    assert [step["Name"] for step in training["Steps"]] == [
        "check",
        "features",
        "split",
        "train",
        "baseline",
        "evaluate",
        "gate",
    ]
    assert "000000000000 is a placeholder for your account" in said
    assert "pipeline  rare-players-training" in said and "pipeline  rare-players-scoring" in said
    assert "TelemetryUri=s3://rare-players-000000000000-eu-west-1/data/telemetry/," in said  # never cut in two
    assert "ml.m5.2xlarge" in said and "TrainIterations=1000" in said
    assert "change nothing in AWS yet:\n  cloud.instances.monitor, monitor.drift_threshold" in said
    assert "source.tar.gz" in said and "Nothing in AWS was read or changed" in said
    assert "one training" in said and "a month in all" in said, "what it would cost"
    given = json.loads(written["pipeline.json"])
    assert given["Parameters"] == {}


def test_the_stack_of_functions_is_given_parameters_that_it_declares_checked_statically(project):
    config = settings.load_config(project / "config.yaml")
    given = upsert.template_configuration(project_tags(config))
    template = (ROOT / "infra" / "pipeline.yaml").read_text(encoding="utf-8")
    declared = re.findall(r"^  (\w+):$", template.partition("\nParameters:")[2].partition("\nResources:")[0], re.M)
    assert given["Parameters"].keys() <= set(declared)
    assert given["Tags"] == {"sagemaker:project-name": "rare-players", "team": "data-science"}


def test_without_the_sdk_an_upsert_names_the_command_that_installs_it(scarcegan, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sagemaker"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sagemaker", None)
    code, out, err = scarcegan("upsert", "--dry-run")
    assert (code, out) == (2, "")
    assert err.startswith("error: sagemaker is not installed") and "pip install -r requirements-cloud.txt" in err


def test_an_upsert_says_what_it_did_and_what_comes_next_in_moto(scarcegan, in_moto):
    code, out, err = scarcegan("upsert")
    assert code == 0
    assert "4 objects and 2 wheels uploaded" in out and "rare-players-training: created" in out
    assert out.endswith("Next: scarcegan start\n")
    assert "uploaded code/1a/source.tar.gz" in err
    code, out, err = scarcegan("upsert", "--json")
    assert json.loads(out)["pipelines"] == {"rare-players-training": "unchanged", "rare-players-scoring": "unchanged"}
    assert "champion/.empty" in keys(in_moto)


def test_one_pipeline_alone_is_written_in_moto(scarcegan, in_moto):
    code, out, _ = scarcegan("upsert", "--pipeline", "training", "--json")
    assert (code, json.loads(out)["pipelines"]) == (0, {"rare-players-training": "created"})
    code, out, _ = scarcegan("upsert", "--pipeline", "scoring", "--json")
    done = json.loads(out)
    assert (code, done["pipelines"], done["uploaded"]) == (0, {"rare-players-scoring": "created"}, [])
    for words, said in (
        (["--pipeline", "both"], "no pipeline 'both'"),
        (["--upload-only", "--pipeline", "training"], ""),
    ):
        code, _, err = scarcegan("upsert", *words)
        assert code == 2 and said in err


@pytest.mark.parametrize(
    "key",
    ["code/1a/source.tar.gz/evil.py", "code/1a/evil.py", "code/1ab/evil.py", "wheels/2b/code.py", "wheels/2b/a/b.whl"],
)
def test_a_release_refuses_an_object_that_jobs_would_get_beside_their_code_in_moto(scarcegan, in_moto, key):
    """A channel of a job is a prefix: it gets every object whose key begins with it."""
    assert scarcegan("upsert")[0] == 0
    in_moto.put_object(Bucket=NAMES.bucket, Key=key, Body=b"evil")
    code, _, err = scarcegan("upsert", "--pipeline", "scoring")
    assert code == 2 and f"/{key}: no upsert of this project writes it" in err


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_copy_is_not_written_by_upsert(scarcegan, words):
    code, out, err = scarcegan("upsert", "--pipeline", "training-faster", *words)
    assert (code, out) == (2, "") and "scarcegan pipeline copy faster" in err


def test_a_dry_run_of_one_pipeline_names_that_one_only(scarcegan, project):
    code, out, _ = scarcegan("upsert", "--pipeline", "scoring", "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0 and "rare-players-training" not in json.dumps(plan["pipelines"]), plan["pipelines"]
    assert not [name for name in plan["written"] if "training" in name], plan["written"]


# -- without what it takes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "call"), [("status", "sagemaker:DescribeTrainingJob"), ("logs", "logs:FilterLogEvents")]
)
def test_a_verb_that_only_reads_says_what_it_would_ask_without_an_account(scarcegan, verb, call):
    code, out, err = scarcegan(verb, "--dry-run")
    assert (code, err) == (0, "")
    assert out.startswith(
        "would ask AWS in eu-west-1, account 000000000000, about the newest execution of rare-players-training"
    )
    assert call in out


@pytest.mark.parametrize("verb", ["upsert --upload-only", "start", "status", "logs", "stop --dry-run"])
def test_without_credentials_every_verb_says_how_to_log_in(scarcegan, monkeypatch, verb):
    monkeypatch.setattr(upsert, "plan_upsert", make_plan)
    code, out, err = scarcegan(*verb.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: no AWS credentials") and "aws sso login" in err and err.count("\n") == 1


@pytest.mark.parametrize("verb", ["start", "status", "logs", "stop --dry-run"])
def test_before_the_first_upsert_every_verb_asks_for_it_in_moto(scarcegan, in_moto, verb):
    code, out, err = scarcegan(*verb.split())
    assert (code, out) == (2, "")
    assert "there is no pipeline 'rare-players-training'" in err
    assert "The build pipeline rare-players-build writes it" in err and err.endswith("type: scarcegan upsert\n")


@pytest.mark.parametrize("words", [["status"], ["upsert", "--dry-run"]])
def test_without_a_region_the_settings_are_named(scarcegan, project, words):
    (project / "config.yaml").write_text("project: {region: ''}\n", encoding="utf-8")
    code, _, err = scarcegan(*words)
    assert code == 2 and "project.region" in err and "eu-west-1" in err


@pytest.mark.slow
def test_docs_name_every_action_that_the_verbs_need_checked_statically():
    needed = set()
    for path in [*(SOURCE / "aws").glob("*.py"), *(SOURCE / "sagemaker").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        called = set(re.findall(r"\.(\w+_\w+)\(", text)) | set(re.findall(r'get_paginator\("(\w+)"\)', text))
        for service in ("sagemaker", "logs"):
            names = boto3.Session().client(service, region_name=NAMES.region).meta.method_to_api_mapping
            listed = {xform_name(operation): operation for operation in names.values()}
            needed |= {f"{service}:{listed[method]}" for method in called & listed.keys()}
    assert {"sagemaker:StartPipelineExecution", "logs:FilterLogEvents", "sagemaker:UpdatePipeline"} <= needed
    assert sorted(needed - pages.actions()) == []


def test_docs_say_who_may_let_a_model_into_production_checked_statically():
    toolchain = (ROOT / "infra" / "toolchain.yaml").read_text(encoding="utf-8")
    assert "{Category: Approval, Owner: AWS, Provider: Manual," in toolchain
    assert "codepipeline:PutApprovalResult" in pages.actions("Let a release into production")


# -- start and status -------------------------------------------------------------------------------------------------


def test_a_dry_start_shows_the_parameters_and_asks_nobody(scarcegan):
    code, out, _ = scarcegan("start", "--set", "train.iterations=2000", "--dry-run")
    assert code == 0
    assert out.splitlines()[:2] == ["start rare-players-training", "  TrainIterations=2000"]
    code, out, _ = scarcegan("start", "--set", "train.iterations=2000", "--dry-run", "--json")
    assert json.loads(out)["parameters"] == {"TrainIterations": "2000"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("TelemetryUrl=s3://bucket/folder/", "has no parameter TelemetryUrl (it has: TelemetryUri, "),
        ("TelemetryUrl=s3://bucket/folder/", "Did you mean 'TelemetryUri'?"),
        ("Colour=red", "a new one needs: scarcegan upsert"),
        ("TelemetryUri=data/telemetry", "'data/telemetry' is not an S3 address. Give one such as s3://"),
        ("TelemetryUri=", "TelemetryUri has 0 characters"),
        ("FeaturesDays=abc", "FeaturesDays=abc: must be a whole number"),
        ("FeaturesStart=soon", "data.start"),
    ],
)
def test_a_dry_start_refuses_what_no_execution_would_be_given(scarcegan, change, words):
    code, out, err = scarcegan("start", "--pipeline", "scoring", "--set", change, "--dry-run")
    assert (code, out, err.count("\n")) == (2, "", 1) and words in err


@pytest.mark.parametrize("pipeline", ["trainig", "monitoring"])
def test_a_pipeline_that_does_not_run_in_the_cloud_is_refused(scarcegan, pipeline):
    code, _, err = scarcegan("start", "--pipeline", pipeline, "--dry-run")
    there = "training, scoring, and training-NAME for a copy"
    assert (code, err) == (2, f"error: no pipeline '{pipeline}' in AWS. There are: {there}.\n")


def test_a_start_names_the_execution_and_the_next_move_in_moto(scarcegan, in_moto):
    scarcegan("upsert")
    in_moto.put_object(Bucket=NAMES.bucket, Key="data/telemetry/part-0.parquet", Body=b"rows")
    code, out, _ = scarcegan("start", "--set", "train.iterations=2000")
    assert code == 0 and "TrainIterations=2000" in out and "TelemetryFingerprint=" in out
    execution = out.split()[1]
    assert out.endswith(f"Next: scarcegan status {execution} --watch\n")


def test_before_the_first_data_a_start_may_do_nothing_and_succeed_in_moto(scarcegan, in_moto):
    scarcegan("upsert")
    code, out, err = scarcegan("start")
    assert (code, out) == (2, "") and "no telemetry there" in err
    code, out, _ = scarcegan("start", "--if-data")
    assert code == 0 and out.startswith("Nothing was started.") and "aws s3 sync" in out


TRAIN = StepStatus("train", "Succeeded", "TrainingJob", 12.5, job="arn:x", metrics={"Generator_Loss": 0.123456})
CLOSED = StepStatus("gate-closed", "Failed", "Fail", 0.0, reason="pr_auc 0.2 is below 0.3")
BUG = StepStatus("evaluate", "Failed", "ProcessingJob", 1.0, reason="ClientError: exit code 1")


def execution(status, *steps):
    return ExecutionStatus("abc123", "rare-players-training", status, "2026-11-21T09:00:00+00:00", 20.0, ARN, "", steps)


@pytest.fixture
def show_statuses(monkeypatch, project):
    """show_statuses(*statuses): what the verbs get each time they ask for the status; the last one is repeated."""
    sign_in(monkeypatch)
    monkeypatch.setattr(upsert, "toolchain_note", lambda *_: "")

    def seen(*statuses):
        left = list(statuses)
        monkeypatch.setattr(executions, "execution_status", lambda *_: left.pop(0) if len(left) > 1 else left[0])
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        monkeypatch.setattr(upsert, "build_note", lambda connection: "")

    return seen


def test_a_status_is_a_line_per_step_with_figures_and_reasons_with_statuses_stubbed(scarcegan, show_statuses):
    show_statuses(execution("Failed", TRAIN, CLOSED))
    code, out, _ = scarcegan("status", ARN)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "execution abc123 of rare-players-training: Failed, 20 min, started 2026-11-21T09:00:00+00:00"
    assert lines[2].split() == ["train", "Succeeded", "12.5", "1", "arn:x"]
    assert "train: Generator_Loss 0.1235" in lines and "gate-closed: pr_auc 0.2 is below 0.3" in lines
    found = json.loads(scarcegan("status", ARN, "--json")[1])
    assert found["gate_closed"] is True and found["steps"][0]["metrics"] == {"Generator_Loss": 0.123456}


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (execution("Succeeded", TRAIN), 0),
        (execution("Failed", TRAIN, CLOSED), 3),
        (execution("Failed", TRAIN, BUG), 1),
        (execution("Stopped", TRAIN), 1),
    ],
    ids=["succeeded", "gate closed", "failed", "stopped"],
)
def test_watching_ends_as_a_run_here_would_with_statuses_stubbed(scarcegan, show_statuses, end, code):
    running = execution("Executing", StepStatus("train", "Executing", "TrainingJob"))
    show_statuses(running, running, end)
    ended, out, err = scarcegan("status", ARN, "--watch")
    assert ended == code
    assert err == "train: Executing\n"
    assert ("Next: scarcegan logs --execution abc123" in out) == (code == 1 and end.status == "Failed")


def test_a_status_says_on_stderr_how_the_build_stands_with_statuses_stubbed(scarcegan, show_statuses, monkeypatch):
    show_statuses(execution("Succeeded", TRAIN))
    monkeypatch.setattr(upsert, "build_note", lambda connection: "the build pipeline x: Failed")
    code, out, err = scarcegan("status", ARN)
    assert (code, err) == (0, "the build pipeline x: Failed\n") and "build" not in out


def test_after_a_closed_gate_the_next_move_is_named_with_statuses_stubbed(scarcegan, show_statuses):
    show_statuses(execution("Failed", TRAIN, CLOSED))
    _, out, _ = scarcegan("status", ARN)
    assert out.endswith("Next: change config.yaml, the code or the data, and start again; nothing is broken\n")


def test_the_report_of_an_evaluation_has_its_address_with_statuses_stubbed(scarcegan, show_statuses, monkeypatch):
    show_statuses(execution("Failed", StepStatus("evaluate", "Succeeded", "ProcessingJob", 1.0), CLOSED))
    uri = "s3://b/runs/abc123/evaluate/evaluation/report.html"
    monkeypatch.setattr(executions, "report_uri", lambda connection, found: uri)
    _, out, _ = scarcegan("status", ARN)
    assert f"report: aws s3 cp {uri} ." in out.splitlines()
    assert json.loads(scarcegan("status", ARN, "--json")[1])["report"] == uri


# -- logs and stop ----------------------------------------------------------------------------------------------------


def test_logs_go_to_stdout_as_they_are_with_lines_stubbed(scarcegan, show_statuses, monkeypatch):
    show_statuses(execution("Executing"))
    monkeypatch.setattr(executions, "log_lines", lambda connection, arn, step: iter([f"{step} one", "two"]))
    assert scarcegan("logs", "train", "--execution", ARN) == (0, "train one\ntwo\n", "")


def test_a_step_that_has_logged_nothing_says_so_with_lines_stubbed(scarcegan, show_statuses, monkeypatch):
    show_statuses(execution("Executing"))
    monkeypatch.setattr(executions, "log_lines", lambda connection, arn, step: iter([]))
    said = "the step has logged nothing so far. Type the command again later, or see: scarcegan status abc123\n"
    assert scarcegan("logs", "train", "--execution", ARN) == (0, "", said)


@pytest.mark.parametrize("verb", ["status", "status --watch", "stop", "logs --execution"])
def test_a_wrong_arn_is_a_sentence_without_asking_aws(scarcegan, show_statuses, verb):
    show_statuses(execution("Executing"))
    code, out, err = scarcegan(*verb.split(), "arn:aws:x")
    assert (code, out) == (2, "") and err.startswith("error: 'arn:aws:x' is neither the id nor the ARN of an execution")


def test_stopping_can_be_tried_and_repeated_with_statuses_stubbed(scarcegan, show_statuses, monkeypatch):
    stopped = []
    monkeypatch.setattr(executions, "stop_execution", lambda connection, arn: stopped.append(arn) or True)
    show_statuses(execution("Executing"))
    assert "would be stopped" in scarcegan("stop", ARN, "--dry-run")[1] and stopped == []
    assert "is being stopped. Next: scarcegan status abc123" in scarcegan("stop", ARN)[1] and stopped == [ARN]
    show_statuses(execution("Stopped"))
    assert "has ended already: Stopped" in scarcegan("stop", ARN)[1] and stopped == [ARN]
    show_statuses(execution("Executing"))
    monkeypatch.setattr(executions, "stop_execution", lambda connection, arn: False)
    assert "has ended meanwhile. Next: scarcegan status abc123" in scarcegan("stop", ARN)[1]


# -- models, approve, reject ------------------------------------------------------------------------------------------


@pytest.fixture
def group(in_moto, tmp_path):
    """Four packages, versions 1 to 4, in the project's model package group in moto."""
    session = boto3.Session(region_name=NAMES.region)
    session.client("sagemaker").create_model_package_group(ModelPackageGroupName="rare-players")
    registry = SageMakerRegistry(NAMES, "rare-players", session)
    registry.register_set("set-1", requests(tmp_path / "made"))
    return registry


def test_models_in_the_cloud_are_listed_and_decided_about_in_moto(scarcegan, group, project):
    code, out, _ = scarcegan("models", "--cloud")
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()[1:]] == ["PendingManualApproval"] * 4
    code, out, _ = scarcegan("approve", "1", "--note", "seen", "--cloud")
    assert code == 0 and "is approved, and the deploy pipeline takes it to staging" in out
    code, out, _ = scarcegan("reject", "2", "--cloud", "--json")
    assert code == 0
    assert [(p.status, p.note) for p in group.packages()][:2] == [("Approved", "seen"), ("Rejected", "")]
    assert not (project / "runs").exists()


def test_a_dry_run_of_a_decision_names_what_it_would_do_and_decides_nothing_in_moto(scarcegan, group, monkeypatch):
    code, out, _ = scarcegan("approve", "1", "--cloud", "--dry-run")
    assert code == 0 and "would be approved, and the deploy pipeline would take it to staging" in out
    code, out, _ = scarcegan("reject", "2", "--cloud", "--dry-run", "--json")
    assert (code, json.loads(out)["version"]) == (0, 2)
    assert [package.status for package in group.packages()] == ["PendingManualApproval"] * 4
    assert scarcegan("approve", "9", "--cloud", "--dry-run")[0] == 2
    champion = replace(group.package(3), champion=True, status="Approved")
    monkeypatch.setattr(SageMakerRegistry, "package", lambda self, version: champion)
    code, _, err = scarcegan("reject", "3", "--cloud", "--dry-run")
    assert code == 2 and "is the champion. Approve another version first" in err
    code, out, _ = scarcegan("approve", "3", "--cloud", "--dry-run")
    assert code == 0 and out.endswith("is the champion already; nothing would change\n")


def test_an_approval_with_a_note_of_two_lines_is_not_told_as_no_change_in_moto(scarcegan, group):
    code, _, err = scarcegan("approve", "1", "--note", "seen\nby the care team", "--cloud")
    assert (code, err) == (0, "")
    assert group.package(1).note == "seen by the care team"


def test_a_version_that_is_not_there_is_a_sentence_in_moto(scarcegan, group):
    code, out, err = scarcegan("approve", "9", "--cloud")
    assert (code, out) == (2, "") and err.startswith("error: ") and "9" in err


@pytest.mark.parametrize("verb", ["models --cloud", "approve 1 --cloud", "reject 1 --cloud"])
def test_without_credentials_deciding_in_the_cloud_says_how_to_log_in(scarcegan, verb):
    code, out, err = scarcegan(*verb.split())
    assert (code, out) == (2, "") and "no AWS credentials" in err
