"""Versions of the pipelines: the commit of each, and an earlier one restored. moto has no versions; the Stubber has."""

import json
import subprocess
from datetime import UTC, datetime

import pytest
from botocore.stub import Stubber
from moto import mock_aws

from pipelines_in_moto import NAMES, download_wheels, make_bucket, make_plan
from scarcegan.aws import client as aws
from scarcegan.errors import UserError
from scarcegan.sagemaker import bundle, upsert, versions

TRAINING = "rare-players-training"
ROLE = NAMES.role_arn("pipeline")
OLD_COMMIT, NEW_COMMIT = "a" * 40, "b" * 40
MISSING = {"service_error_code": "ResourceNotFound", "http_status_code": 400}


def made(code="1a", iterations=1000, commit="", steps=()) -> str:
    places = [NAMES.uri("code", code, ""), NAMES.uri("wheels", "2b", "")]
    listed = [{"Name": "TrainIterations", "Type": "Integer", "DefaultValue": iterations}]
    whole = {"Version": "2020-12-01", "Metadata": {}, "Parameters": listed, "Steps": [*places, *steps]}
    return versions.with_commit(json.dumps(whole), commit)


def described(definition, hour=9):
    about = {"PipelineArn": NAMES.arn("sagemaker", f"pipeline/{TRAINING}"), "RoleArn": ROLE}
    when = datetime(2026, 11, 21, hour, tzinfo=UTC)
    return {**about, "PipelineName": TRAINING, "PipelineDefinition": definition, "LastModifiedTime": when}


@pytest.fixture
def connection(config, monkeypatch):
    """moto plays S3; SageMaker is stubbed by each test."""
    monkeypatch.delenv("CODEBUILD_RESOLVED_SOURCE_VERSION", raising=False)
    with mock_aws():
        s3 = make_bucket()
        for key in ("code/1a/source.tar.gz", "code/2c/source.tar.gz"):
            s3.put_object(Bucket=NAMES.bucket, Key=key, Body=b"code")
        s3.put_object(Bucket=NAMES.bucket, Key="wheels/2b/.complete", Body=bundle.PLACEHOLDER)
        yield aws.connect_to_aws(config)


@pytest.fixture
def stub(connection):
    with Stubber(connection.client("sagemaker")) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def test_versions_are_listed_newest_first_with_commit_code_and_last_execution_stubbed(connection, stub):
    summaries = [
        {"PipelineVersionId": 2, "CreationTime": datetime(2026, 11, 22, 8, tzinfo=UTC)},
        {
            "PipelineVersionId": 1,
            "CreationTime": datetime(2026, 11, 21, 8, tzinfo=UTC),
            "LastExecutionPipelineExecutionArn": NAMES.arn("sagemaker", f"pipeline/{TRAINING}/execution/abc123"),
        },
    ]
    asked = {"PipelineName": TRAINING, "SortOrder": "Descending", "MaxResults": 10}
    stub.add_response("list_pipeline_versions", {"PipelineVersionSummaries": summaries}, asked)
    for number, definition in ((2, made("2c", commit=NEW_COMMIT)), (1, made())):
        wanted = {"PipelineName": TRAINING, "PipelineVersionId": number}
        stub.add_response("describe_pipeline", described(definition), wanted)
    assert versions.newest_versions(connection, "training", 10) == [
        versions.PipelineVersion(2, "2026-11-22 08:00", NEW_COMMIT, "2c"),
        versions.PipelineVersion(1, "2026-11-21 08:00", "", "1a", "abc123"),
    ]


def test_versions_of_a_pipeline_that_is_not_there_name_the_command_stubbed(connection, stub):
    stub.add_client_error("list_pipeline_versions", **MISSING)
    with pytest.raises(UserError, match="type: scarcegan upsert"):
        versions.newest_versions(connection, "training", 10)


def plan(connection, stub, newest, earlier):
    stub.add_response("describe_pipeline", described(newest, 10), {"PipelineName": TRAINING})
    stub.add_response("describe_pipeline", described(earlier), {"PipelineName": TRAINING, "PipelineVersionId": 3})
    return versions.plan_restoration(connection, 3)


def test_an_earlier_version_is_planned_with_its_commit_and_what_it_changes_stubbed(connection, stub):
    earlier = made("1a", 1000, OLD_COMMIT)
    found = plan(connection, stub, made("2c", 2000, NEW_COMMIT, ["more"]), earlier)
    assert found.version == versions.PipelineVersion(3, "2026-11-21 09:00", OLD_COMMIT, "1a")
    assert found.changes == [
        "code: code/2c -> code/1a",
        "TrainIterations: 2000 -> 1000",
        "steps: they differ in more than their code",
    ]
    wanted = {"PipelineName": TRAINING, "PipelineDefinition": earlier, "RoleArn": ROLE}
    stub.add_response("update_pipeline", {"PipelineVersionId": 8}, wanted)
    versions.restore(connection, found)


def test_a_version_that_does_what_the_newest_does_changes_nothing_stubbed(connection, stub):
    found = plan(connection, stub, made(commit=NEW_COMMIT), made(commit=OLD_COMMIT))
    assert (found.definition, found.changes) == ("", [])
    versions.restore(connection, found)


def test_a_version_that_is_not_there_is_a_sentence_stubbed(connection, stub):
    stub.add_response("describe_pipeline", described(made()))
    stub.add_client_error("describe_pipeline", **MISSING)
    with pytest.raises(UserError, match=r"has no version 3\. See those that there are: scarcegan pipeline versions"):
        versions.plan_restoration(connection, 3)


@pytest.mark.parametrize("gone", ["code/1a/source.tar.gz", "wheels/2b/.complete"])
def test_a_version_whose_code_or_wheels_are_gone_is_refused_with_the_way_stubbed(connection, stub, gone):
    connection.client("s3").delete_object(Bucket=NAMES.bucket, Key=gone)
    with pytest.raises(UserError, match=rf"{gone} is gone.*git checkout {OLD_COMMIT}, then scarcegan upsert"):
        plan(connection, stub, made("2c"), made("1a", commit=OLD_COMMIT))


# -- the commit -----------------------------------------------------------------------------------------------------


def git(folder, *words):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_of_a_folder_is_gits_or_that_of_the_build(tmp_path, config, monkeypatch):
    assert versions.commit_of(tmp_path) == "", "no repository"
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert versions.commit_of(tmp_path) == head
    (tmp_path / "config.yaml").write_text("changed: since\n", encoding="utf-8")
    assert versions.commit_of(tmp_path) == f"{head}+"
    monkeypatch.setenv("CODEBUILD_RESOLVED_SOURCE_VERSION", OLD_COMMIT)
    assert versions.commit_of(tmp_path) == OLD_COMMIT
    monkeypatch.setenv("CODEBUILD_RESOLVED_SOURCE_VERSION", '"; touch pwned')
    assert versions.commit_of(tmp_path) == f"{head}+", "no commit, so it is not written anywhere"
    monkeypatch.setenv("PATH", "")
    assert versions.commit_of(tmp_path) == "", "no git"


def test_an_upsert_names_the_commit_and_another_commit_alone_makes_no_version_in_moto(
    connection, config, tmp_path, monkeypatch
):
    monkeypatch.setattr(bundle, "download_wheels", download_wheels)

    def walk(commit):
        monkeypatch.setenv("CODEBUILD_RESOLVED_SOURCE_VERSION", commit)
        return upsert.apply_plan(make_plan(tmp_path, config, NAMES), connection, False, lambda line: None)["pipelines"]

    assert set(walk(OLD_COMMIT).values()) == {"created"}
    assert set(walk(NEW_COMMIT).values()) == {"unchanged"}
    text = connection.client("sagemaker").describe_pipeline(PipelineName=TRAINING)["PipelineDefinition"]
    assert json.loads(text)["Metadata"] == {"commit": OLD_COMMIT}
