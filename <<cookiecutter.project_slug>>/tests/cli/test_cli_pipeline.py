"""The verbs of the group `pipeline` as they are typed. moto plays AWS; versions, which it lacks, are the Stubber's."""

import json
import os
from datetime import UTC, datetime

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from pipelines_in_moto import NAMES, Compiled, make_bucket, sign_in
from scarcegan.aws import client
from scarcegan.aws.names import COPY_TAG
from scarcegan.sagemaker import bundle, copies, upsert
from scarcegan.sagemaker.versions import with_commit

COMMIT = "a" * 40


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("train: {iterations: 1000}\n", encoding="utf-8")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def in_moto(project, monkeypatch):
    """AWS as moto plays it; plans of copies are small, and pip is not asked."""

    def plan_copy(root, config, names, name):
        made = {f"training-{name}": Compiled(f"training-{name}", config)}
        return upsert.UpsertPlan(names, root, {}, "wheels/2b/", made, {}, {COPY_TAG: name})

    sign_in(monkeypatch)
    monkeypatch.setattr(copies, "plan_copy", plan_copy)
    monkeypatch.setattr(bundle, "download_wheels", lambda *_: [])
    with mock_aws():
        yield make_bucket()


def test_a_copy_is_made_started_listed_and_removed_in_moto(scarcegan, in_moto):
    assert scarcegan("pipeline", "copies")[1] == "There is no copy. Make one: scarcegan pipeline copy NAME\n"
    code, out, _ = scarcegan("pipeline", "copy", "faster")
    made = "rare-players-training-faster: created\nNext: scarcegan start --pipeline training-faster\n"
    assert (code, out) == (0, made)
    for key in ("data/telemetry/part-0.parquet", "data/labels/.empty", "champion/.empty"):
        in_moto.put_object(Bucket=NAMES.bucket, Key=key, Body=b"rows")
    code, out, _ = scarcegan("start", "--pipeline", "training-faster")
    assert code == 0
    move = out.splitlines()[-1].split()
    assert move[:3] == ["Next:", "scarcegan", "status"] and ":pipeline/rare-players-training-faster/" in move[3]
    assert scarcegan("pipeline", "copies")[1] == "faster\n"
    assert scarcegan("pipeline", "remove", "faster")[:2] == (0, "rare-players-training-faster is deleted\n")


def test_a_dry_run_removes_nothing_and_asks_nothing(scarcegan, project):
    code, out, _ = scarcegan("pipeline", "remove", "faster", "--dry-run")
    assert code == 0 and out.startswith("rare-players-training-faster would be deleted")


@pytest.mark.parametrize("verb", ["copy", "remove"])
def test_a_name_that_no_copy_can_have_is_a_sentence(scarcegan, project, verb):
    code, _, err = scarcegan("pipeline", verb, "My Copy", "--dry-run")
    assert code == 2 and err.startswith("error: 'My Copy' cannot be the name of a copy: at most 30")


def answers(stub, newest_iterations):
    def described(iterations, hour):
        listed = [{"Name": "TrainIterations", "Type": "Integer", "DefaultValue": iterations}]
        text = with_commit(json.dumps({"Metadata": {}, "Parameters": listed, "Steps": []}), COMMIT)
        when = datetime(2026, 11, 21, hour, tzinfo=UTC)
        return {"PipelineDefinition": text, "LastModifiedTime": when}

    stub.add_response("describe_pipeline", described(newest_iterations, 10))
    stub.add_response("describe_pipeline", described(1000, 9))


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_an_earlier_version_is_restored_unless_the_run_is_dry_stubbed(scarcegan, in_moto, monkeypatch, dry):
    sagemaker = boto3.client("sagemaker", region_name=NAMES.region)
    usual = client.Aws.client
    monkeypatch.setattr(
        client.Aws, "client", lambda self, name: sagemaker if name == "sagemaker" else usual(self, name)
    )
    with Stubber(sagemaker) as stub:
        answers(stub, 2000)
        if not dry:
            stub.add_response("update_pipeline", {"PipelineVersionId": 8})
        code, out, _ = scarcegan("pipeline", "restore", "3", *dry)
        stub.assert_no_pending_responses()
    assert code == 0
    assert f"version 3 of rare-players-training (2026-11-21 09:00, commit {COMMIT})" in out
    assert "  TrainIterations: 2000 -> 1000\n" in out and "git revert" in out
    assert ("would become" in out) == bool(dry)
