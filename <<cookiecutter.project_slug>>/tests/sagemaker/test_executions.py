"""Upsert, start, status, logs and stop below the command line. moto plays AWS where it can, else the Stubber."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import boto3
import botocore.endpoint
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, EndpointConnectionError, InvalidRegionError, NoCredentialsError
from botocore.stub import Stubber
from moto import mock_aws

import canned_aws
from compiled import BUNDLE
from pipelines_in_moto import (
    ACCOUNT,
    BEGUN,
    JOB,
    NAMES,
    Compiled,
    download_wheels,
    keys,
    make_bucket,
    make_plan,
    step,
)
from scarcegan.aws import client as aws
from scarcegan.aws import storage
from scarcegan.aws.quotas import job_machines, require_allowed_machines
from scarcegan.errors import UserError
from scarcegan.pipeline import config as settings
from scarcegan.pipeline import definition
from scarcegan.pipeline.config import Config
from scarcegan.sagemaker import bundle, compiler, executions, start, upsert
from scarcegan.sagemaker.pipelines import configured, deployed_parameters

ROOT = Path(__file__).parents[2]
ARN = NAMES.arn("sagemaker", "pipeline/rare-players-training/execution/abc123")


@pytest.fixture
def connection(config):
    """AWS as moto plays it, with nothing in it."""
    with mock_aws():
        yield aws.connect_to_aws(config)


@pytest.fixture
def wheels(monkeypatch):
    """Stands in for pip: two wheels; the list it returns fills when they are asked for."""
    asked = []

    def download(requirements, folder):
        asked.append(requirements.name)
        return download_wheels(requirements, folder)

    monkeypatch.setattr(bundle, "download_wheels", download)
    return asked


def walk(connection, tmp_path, config, upload_only=False, pipelines=("training", "scoring")):
    return upsert.apply_plan(make_plan(tmp_path, config, NAMES), connection, upload_only, lambda line: None, pipelines)


# -- upsert ---------------------------------------------------------------------------------------------------------


def test_volumes_are_encrypted_with_the_arn_of_the_projects_key_as_the_toolchain_publishes_it_in_moto(
    connection, config
):
    with pytest.raises(UserError, match=r"no SSM parameter /rare-players/key .* Type: scarcegan toolchain deploy"):
        upsert.with_volume_key(config, connection)
    arn = NAMES.arn("kms", "key/1234")
    connection.client("ssm").put_parameter(Name="/rare-players/key", Value=arn, Type="String")
    assert upsert.with_volume_key(config, connection).cloud.volume_key == arn
    chosen = config.model_copy(update={"cloud": config.cloud.model_copy(update={"volume_key": "none"})})
    assert upsert.with_volume_key(chosen, connection) == chosen


def test_an_upsert_uploads_code_and_wheels_and_creates_both_pipelines_in_moto(connection, tmp_path, config, wheels):
    s3 = make_bucket()
    done = walk(connection, tmp_path, config)
    assert done["pipelines"] == {"rare-players-training": "created", "rare-players-scoring": "created"}
    assert keys(s3) == {
        "champion/.empty",
        "data/labels/.empty",
        "code/1a/source.tar.gz",
        "code/1a/job.sh",
        "wheels/2b/.complete",
        "wheels/2b/a-1-py3-none-any.whl",
        "wheels/2b/b-2-py3-none-any.whl",
    }
    made = connection.client("sagemaker").describe_pipeline(PipelineName="rare-players-training")
    assert made["RoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/rare-players-eu-west-1-pipeline"
    tags = connection.client("sagemaker").list_tags(ResourceArn=made["PipelineArn"])["Tags"]
    assert tags == [{"Key": "owner", "Value": "us"}]


def test_a_second_upsert_does_nothing_and_a_changed_definition_is_changed_in_moto(connection, tmp_path, config, wheels):
    make_bucket()
    walk(connection, tmp_path, config)
    assert walk(connection, tmp_path, config) == {
        "uploaded": [],
        "wheels": 0,
        "pipelines": {"rare-players-training": "unchanged", "rare-players-scoring": "unchanged"},
    }
    assert wheels == ["requirements-jobs.txt"]
    other = settings.load_config(tmp_path / "config.yaml", ["train.iterations=5"])
    done = walk(connection, tmp_path, other)
    assert done["pipelines"] == {"rare-players-training": "changed", "rare-players-scoring": "unchanged"}


def test_a_pipeline_of_an_earlier_version_gets_the_tags_of_today_when_it_is_changed_in_moto(
    connection, tmp_path, config, wheels
):
    make_bucket()
    walk(connection, tmp_path, config)
    other = settings.load_config(tmp_path / "config.yaml", ["train.iterations=5"])
    plan = replace(make_plan(tmp_path, other, NAMES), tags={"team": "care team"})
    upsert.apply_plan(plan, connection, False, lambda line: None)
    made = connection.client("sagemaker").describe_pipeline(PipelineName="rare-players-training")
    tags = connection.client("sagemaker").list_tags(ResourceArn=made["PipelineArn"])["Tags"]
    assert {"Key": "team", "Value": "care team"} in tags


def test_changed_tags_alone_reach_a_pipeline_in_moto(connection, tmp_path, config, wheels):
    make_bucket()
    walk(connection, tmp_path, config)
    plan = replace(make_plan(tmp_path, config, NAMES), tags={"owner": "care team"})
    for outcome in ("changed", "unchanged"):
        done = upsert.apply_plan(plan, connection, False, lambda line: None)
        assert set(done["pipelines"].values()) == {outcome}
    made = connection.client("sagemaker").describe_pipeline(PipelineName="rare-players-scoring")
    tags = connection.client("sagemaker").list_tags(ResourceArn=made["PipelineArn"])["Tags"]
    assert tags[-1] == {"Key": "owner", "Value": "care team"}  # moto keeps the old one beside it


def test_a_toolchain_that_is_not_this_folders_is_noticed_and_an_older_folder_is_not_told_to_deploy_in_moto(
    connection, monkeypatch
):
    update = "An administrator can update it: scarcegan toolchain deploy"
    monkeypatch.setattr(bundle, "commit_seconds", lambda root: 0x6A000000)
    assert upsert.toolchain_note(connection, ROOT).endswith(update), "one of before there were versions"
    about = {"Name": NAMES.parameter("toolchain-version"), "Type": "String", "Overwrite": True}

    def note(version):
        connection.client("ssm").put_parameter(**about, Value=version)
        return upsert.toolchain_note(connection, ROOT)

    assert note(f"{'0' * 32}69000000") == f"The toolchain in AWS is older than that of this folder. {update}"
    later = note(f"{'0' * 32}6b000000")
    assert later.startswith("The toolchain of this folder (2026-05-10 03:48) is older than the one in AWS (2026-11-20")
    assert "would take the toolchain back" in later
    assert "which is newer is not known" in note("0" * 32), "no commit was known when it was deployed"
    digest = bundle.function_code(ROOT).parameters["ToolchainVersion"][:32]
    assert [note(digest), note(f"{digest}69000000")] == ["", ""], "another commit of the same content"


@pytest.fixture
def build(config):
    """build(*runs): AWS, whose build pipeline has these executions, newest first."""

    def made(*runs):
        return canned_aws.connected({"codepipeline:ListPipelineExecutions": {"pipelineExecutionSummaries": [*runs]}})[0]

    return made


def run(status):
    source = {"actionName": "Source", "revisionId": "c0ffee" * 6 + "c0de"}
    return {"pipelineExecutionId": "e-1", "status": status, "startTime": BEGUN, "sourceRevisions": [source]}


def test_a_build_that_has_not_succeeded_is_told_with_its_commit_by_a_table_of_answers(build):
    head = "the build pipeline rare-players-build: {}, started 2026-11-21 09:00 UTC, commit c0ffeec0ffee"
    assert upsert.build_note(build(run("InProgress"), run("Failed"))) == head.format("InProgress")
    command = (
        "aws codepipeline list-action-executions --pipeline-name rare-players-build --filter pipelineExecutionId=e-1"
    )
    assert upsert.build_note(build(run("Failed"))) == f"{head.format('Failed')}. Why: {command}"


def test_a_build_that_succeeded_or_may_not_be_seen_is_not_mentioned_by_a_table_of_answers(build):
    assert upsert.build_note(build(run("Succeeded"), run("Failed"))) == ""
    assert upsert.build_note(build()) == ""
    assert upsert.build_note(canned_aws.connected({})[0]) == ""


def test_a_toolchains_version_that_may_not_be_read_stops_nobody_and_is_said_stubbed(config, tmp_path):
    connection = aws.connect_to_aws(config)
    with Stubber(connection.client("ssm")) as stub:
        stub.add_client_error("get_parameter", "AccessDeniedException", http_status_code=400)
        said = "Whether the toolchain in AWS is that of this folder is not known: you lack GetParameter."
        assert upsert.toolchain_note(connection, ROOT) == said
    assert upsert.toolchain_note(connection, tmp_path) == "", "a folder without the toolchain's files"


def test_before_the_first_release_there_is_no_scoring_pipeline_and_a_start_says_who_writes_it_in_moto(
    connection, tmp_path, config, wheels
):
    make_bucket()
    walk(connection, tmp_path, config, pipelines=["training"])
    with pytest.raises(
        UserError, match=r"no pipeline 'rare-players-scoring' .* the first release to production writes"
    ):
        completed(connection, tmp_path, pipeline="scoring")


def test_an_upsert_that_was_broken_off_before_its_tags_is_repeated_in_moto(
    connection, tmp_path, config, wheels, monkeypatch
):
    make_bucket()
    walk(connection, tmp_path, config)
    other = settings.load_config(tmp_path / "config.yaml", ["train.iterations=5"])

    def broken_off(**_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(connection.client("sagemaker"), "add_tags", broken_off)
        walk(connection, tmp_path, other)
    assert walk(connection, tmp_path, other)["pipelines"]["rare-players-training"] == "changed"


def test_uploading_only_touches_no_pipeline_in_moto(connection, tmp_path, config, wheels):
    make_bucket()
    assert walk(connection, tmp_path, config, upload_only=True)["pipelines"] == {}
    assert connection.client("sagemaker").list_pipelines()["PipelineSummaries"] == []


def test_an_upload_of_wheels_that_was_broken_off_is_begun_again_in_moto(connection, tmp_path, config, wheels):
    s3 = make_bucket()
    s3.put_object(Bucket=NAMES.bucket, Key="wheels/2b/a-1-py3-none-any.whl", Body=b"wheel")
    assert walk(connection, tmp_path, config)["wheels"] == 1
    assert "wheels/2b/.complete" in keys(s3)


def test_a_marker_without_the_wheels_it_stands_for_is_not_believed_in_moto(connection, tmp_path, config, wheels):
    """A push may write wheels/<digest>/.complete before the wheels are there, and jobs of other commits would stop."""
    s3 = make_bucket()
    s3.put_object(Bucket=NAMES.bucket, Key="wheels/2b/.complete", Body=bundle.PLACEHOLDER)
    s3.put_object(Bucket=NAMES.bucket, Key="wheels/2b/a-1-py3-none-any.whl", Body=b"wheel")
    assert walk(connection, tmp_path, config)["wheels"] == 1
    assert "wheels/2b/b-2-py3-none-any.whl" in keys(s3)
    assert walk(connection, tmp_path, config)["wheels"] == 0 and len(wheels) == 1, "nothing is downloaded again"


def test_a_release_refuses_a_set_of_wheels_that_is_marked_and_not_complete_in_moto(
    connection, tmp_path, config, wheels
):
    s3 = make_bucket()
    walk(connection, tmp_path, config)
    s3.delete_object(Bucket=NAMES.bucket, Key="wheels/2b/b-2-py3-none-any.whl")
    with pytest.raises(UserError, match=r"wheels/2b/: not there\. .*type: scarcegan upsert"):
        walk(connection, tmp_path, config, pipelines=("scoring",))


@pytest.mark.parametrize("key", ["code/1a/source.tar.gz", "code/1a/job.sh", "wheels/2b/b-2-py3-none-any.whl"])
def test_an_object_under_the_right_key_with_other_bytes_stops_an_upsert_in_moto(
    connection, tmp_path, config, wheels, key
):
    """A digest in a key proves nothing about who wrote the object."""
    s3 = make_bucket()
    s3.put_object(Bucket=NAMES.bucket, Key=key, Body=b"hostile")
    with pytest.raises(UserError, match=f"{key} is there already, but with another content"):
        walk(connection, tmp_path, config)
    assert connection.client("sagemaker").list_pipelines()["PipelineSummaries"] == []


def test_every_upload_asks_s3_not_to_replace_an_object_in_moto(connection, tmp_path, config, wheels):
    make_bucket()
    sent = []
    connection.client("s3").meta.events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: sent.append(params)
    )
    walk(connection, tmp_path, config)
    assert len(sent) == len(keys(connection.client("s3"))) == 7 and {each["IfNoneMatch"] for each in sent} == {"*"}


def test_the_scoring_pipeline_alone_is_written_without_an_upload_and_with_the_role_of_scoring_in_moto(
    connection, tmp_path, config, wheels
):
    s3 = make_bucket()
    walk(connection, tmp_path, config, pipelines=["training"])
    assert pipelines_there(connection) == ["rare-players-training"]
    before = keys(s3)
    done = walk(connection, tmp_path, config, pipelines=["scoring"])
    assert done == {"uploaded": [], "wheels": 0, "pipelines": {"rare-players-scoring": "created"}}
    assert keys(s3) == before
    made = connection.client("sagemaker").describe_pipeline(PipelineName="rare-players-scoring")
    assert made["RoleArn"] == NAMES.role_arn("scoring-pipeline")


def test_the_scoring_pipeline_alone_is_changed_where_it_differs_in_moto(connection, tmp_path, config, wheels):
    make_bucket()
    walk(connection, tmp_path, config)
    other = settings.load_config(tmp_path / "config.yaml", ["data.path=s3://elsewhere/data"])
    for wanted, what in ((config, "unchanged"), (other, "changed")):
        done = walk(connection, tmp_path, wanted, pipelines=["scoring"])
        assert done == {"uploaded": [], "wheels": 0, "pipelines": {"rare-players-scoring": what}}


@pytest.mark.parametrize("lost", ["code/1a/source.tar.gz", "code/1a/job.sh", "wheels/2b/.complete"])
def test_the_scoring_pipeline_is_not_written_before_the_code_of_its_commit_is_there_in_moto(
    connection, tmp_path, config, wheels, lost
):
    s3 = make_bucket()
    walk(connection, tmp_path, config, upload_only=True)
    s3.delete_object(Bucket=NAMES.bucket, Key=lost)
    with pytest.raises(UserError, match=r"not there\. A push uploads the code and the wheels of its commit"):
        walk(connection, tmp_path, config, pipelines=["scoring"])
    if lost.startswith("code/"):
        s3.put_object(Bucket=NAMES.bucket, Key=lost, Body=b"hostile")
        with pytest.raises(UserError, match=f"{lost} is there already, but with another content"):
            walk(connection, tmp_path, config, pipelines=["scoring"])
    assert pipelines_there(connection) == []


def pipelines_there(connection):
    return [item["PipelineName"] for item in connection.client("sagemaker").list_pipelines()["PipelineSummaries"]]


def test_the_present_champion_survives_an_upsert_in_moto(connection, tmp_path, config, wheels):
    s3 = make_bucket()
    s3.put_object(Bucket=NAMES.bucket, Key="champion/package.tar.gz", Body=b"champion")
    walk(connection, tmp_path, config)
    assert s3.get_object(Bucket=NAMES.bucket, Key="champion/package.tar.gz")["Body"].read() == b"champion"


def test_without_a_bucket_the_toolchain_is_the_next_move_in_moto(connection, tmp_path, config):
    with pytest.raises(
        UserError,
        match=r"there is no bucket .* \(account 123456789012\) .* scarcegan toolchain deploy \(README, 'In AWS'\)",
    ):
        walk(connection, tmp_path, config)


def test_a_bucket_of_that_name_in_another_account_is_not_written_to_stubbed(config, tmp_path):
    connection = aws.connect_to_aws(config)
    with Stubber(connection.client("s3")) as stub:
        owner = {"Bucket": NAMES.bucket, "ExpectedBucketOwner": ACCOUNT}
        stub.add_client_error("head_bucket", service_error_code="403", http_status_code=403, expected_params=owner)
        with pytest.raises(UserError, match="it belongs to another account, or you lack s3:ListBucket"):
            walk(connection, tmp_path, config)


def test_a_plan_shows_steps_behind_the_gate_and_the_machine_a_parameter_stands_for():
    definition = {
        "Parameters": [{"Name": "TrainInstanceType", "DefaultValue": "ml.m5.large"}],
        "Steps": [
            {
                "Name": "train",
                "Type": "Training",
                "Arguments": {"ResourceConfig": {"InstanceType": {"Get": "Parameters.TrainInstanceType"}}},
            },
            {
                "Name": "gate",
                "Type": "Condition",
                "Arguments": {"IfSteps": [{"Name": "register", "Type": "Lambda"}], "ElseSteps": []},
            },
        ],
    }
    found = [tuple(step.values()) for step in upsert.compiled_steps(definition)]
    assert found == [("train", "Training", "ml.m5.large"), ("gate", "Condition", ""), ("register", "Lambda", "")]


# -- start ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def deployed(connection, config, tmp_path, wheels):
    """Both pipelines in moto, and telemetry in the bucket."""
    s3 = make_bucket()
    walk(connection, tmp_path, config)
    s3.put_object(Bucket=NAMES.bucket, Key="data/telemetry/part-0.parquet", Body=b"rows")
    return s3


def base_of(tmp_path, pipeline="training"):
    return configured(pipeline, settings.load_config(tmp_path / "config.yaml"), NAMES)


def plan_of(tmp_path, *changes, pipeline="training"):
    return start.plan_start(base_of(tmp_path, pipeline), tmp_path / "config.yaml", changes)


def completed(connection, tmp_path, *changes, pipeline="training"):
    base = base_of(tmp_path, pipeline)
    return start.complete(start.plan_start(base, tmp_path / "config.yaml", changes), base, connection)


def test_one_change_reads_the_settings_twice_and_builds_the_pipeline_twice_in_moto(
    connection, deployed, tmp_path, monkeypatch
):
    done = {"load": 0, "build": 0}

    def counted(what, real):
        def call(*words, **more):
            done[what] += 1
            return real(*words, **more)

        return call

    monkeypatch.setattr(settings, "load_config", counted("load", settings.load_config))
    monkeypatch.setattr(definition, "training", counted("build", definition.training))
    completed(connection, tmp_path, "train.iterations=30")
    assert done == {"load": 2, "build": 2}, "as config.yaml has it, and with the change"


def test_what_an_execution_may_change_becomes_parameters(tmp_path, config):
    changes = [
        "train.iterations=2000",
        "cloud.instances.train=ml.c5.4xlarge",
        "train.scarcegan.expert=false",
    ]
    assert plan_of(tmp_path, *changes).parameters == {
        "TrainIterations": "2000",
        "TrainInstanceType": "ml.c5.4xlarge",
        "TrainExpert": "false",
    }


def test_a_value_as_it_is_changes_nothing_and_is_no_mistake(tmp_path, config):
    assert plan_of(tmp_path, "train.iterations=1000").parameters == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("labels.rare_class=odd", r"one execution: labels\.rare_class\. .*scarcegan upsert"),
        ("data.counters=[minutes]", r"one execution: data\.counters\. "),
        ("project.description=odd", r"one execution: project\.description\. "),
        ("cloud.max_hours=3", "cloud.max_hours.*scarcegan upsert"),
        ("serve.port=1", "changes nothing of the training pipeline"),
        ("data.path=elsewhere", "read from S3"),
        ("train.iteration=1", "Did you mean 'train.iterations'"),
        ("TrainIterations=", "TrainIterations has 0 characters"),
        ("TrainTrunk=" + "1" * 1025, "takes 1 to 1024"),
        ("TrainIterations=abc", "TrainIterations=abc: must be a whole number at least 1 and at most 1000000000"),
        ("TrainIterations=-5", "TrainIterations=-5: must be a whole number at least 1"),
        ("TrainIterations=1e3", "must be a whole number"),
        ("TrainIterations=٣", "must be a whole number"),
        ("TrainLearningRate=nan", "must be a number more than 0 and less than 1"),
        ("TrainLearningRate=1", "must be a number more than 0 and less than 1"),
        ("TrainExpert=True", "must be true or false"),
        ("TrainScaling=odd", "must be one of standard, robust"),
        ("TrainTrunk=(empty)", "must be a list of at least 1 items"),
        ('TrainTrunk=64],"x":[1', "must be a list with commas, each a whole number"),
        ("TrainClassWeights=1,2", "must be a list of 0 or 4 items"),
        ("TrainClassWeights=0,0,0,0", "train.class_weights are all 0"),
        ("TrainBatchSize=3", "must be a whole number at least 4"),
        ("TrainInstanceType=large", "must be a text such as"),
        ('TelemetryFingerprint="', "must be a text such as"),
        ("EvaluateGateMinimum=0", r"gate\.minimum is fixed when the pipeline is written.* scarcegan upsert"),
        ("EvaluateGateChampion=report", r"gate\.champion is fixed .* config\.yaml, then type: scarcegan upsert"),
        ("SplitSeed=8", r"split\.seed is fixed"),
        ("FeaturesStart=2026-01-05", r"data\.start is fixed"),
        ("TelemetryUri=s3://mine/data/", r"address of the telemetry is fixed .* data\.path in config\.yaml, then type"),
        ("LabelsUri=s3://mine/data/", r"address of the labels is fixed .* data\.labels in config\.yaml, then type"),
        ("ChampionUri=s3://mine/", "approve another: scarcegan approve 5 --cloud"),
        ("ApprovalStatus=Approved", "no execution approves a model. A person does"),
        ("gate.minimum=0", r"one execution: gate\.minimum\. .*scarcegan upsert"),
        ("data.path=s3://mine/data/", r"one execution: data\.path\. .*scarcegan upsert"),
        ("TrainInstanceType=ml.g5.xlarge", "TrainInstanceType=ml.g5.xlarge: this machine has a local disk, .* none"),
    ],
)
def test_what_an_execution_cannot_change_is_refused_with_the_next_move(tmp_path, config, change, words):
    with pytest.raises(UserError, match=words):
        plan_of(tmp_path, change)


@pytest.mark.parametrize(
    "change", ["A" * 5000 + "=1", "TrainTrunk=" + "x" * 900, "data.path=" + "x" * 5000, "project.team=" + "x" * 200]
)
def test_a_long_change_is_cut_where_it_is_refused(tmp_path, config, change):
    with pytest.raises(UserError) as error:
        plan_of(tmp_path, change)
    assert change[80:200] not in str(error.value)


def test_a_start_passes_what_was_changed_and_fingerprints_of_the_data_in_moto(connection, deployed, tmp_path):
    plan = completed(connection, tmp_path, "train.iterations=2000")
    assert plan.parameters == {
        "TrainIterations": "2000",
        "TelemetryFingerprint": plan.parameters["TelemetryFingerprint"],
        "LabelsFingerprint": "none",
    }
    arn = start.start_execution(plan, connection)
    given = connection.client("sagemaker").list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)
    assert {item["Name"]: item["Value"] for item in given["PipelineParameters"]} == plan.parameters
    assert executions.find_execution(connection) == arn
    changed = executions.changed_parameters(connection, arn, deployed_parameters(connection, "training"))
    assert changed == {"TrainIterations": "2000"}


def test_a_machine_that_no_job_may_have_is_refused_before_anything_starts_in_moto(connection, deployed, tmp_path):
    change = "cloud.instances.train=ml.p3.2xlarge"
    assert completed(connection, tmp_path, change).parameters["TrainInstanceType"] == "ml.p3.2xlarge", "an older one"
    connection.client("ssm").put_parameter(
        Name=NAMES.parameter("job-instance-types"), Type="String", Value="ml.m5.xlarge,ml.m5.2xlarge"
    )
    with pytest.raises(UserError, match=r"no job have cloud.instances.train=ml.p3.2xlarge. Choose among ml.m5.xlarge"):
        completed(connection, tmp_path, change)
    completed(connection, tmp_path, "cloud.instances.train=ml.m5.xlarge")
    machines = job_machines(Config.model_validate({"cloud": {"instances": {"score": "ml.p3.2xlarge"}}}))
    with pytest.raises(UserError, match=r"cloud.instances.score=ml.p3.2xlarge"):
        require_allowed_machines(connection, machines)


def test_new_data_changes_its_fingerprint_and_old_data_does_not_in_moto(connection, deployed, tmp_path):
    mark = "TelemetryFingerprint"
    before = completed(connection, tmp_path).parameters[mark]
    assert completed(connection, tmp_path).parameters[mark] == before
    deployed.put_object(Bucket=NAMES.bucket, Key="data/telemetry/part-0.parquet", Body=b"ROWS")
    mended = completed(connection, tmp_path).parameters[mark]
    deployed.put_object(Bucket=NAMES.bucket, Key="data/telemetry/part-1.parquet", Body=b"more")
    assert len({before, mended, completed(connection, tmp_path).parameters[mark]}) == 3
    elsewhere = "data/telemetry2/part-0.parquet"  # shares the beginning of its name, not the folder
    now = completed(connection, tmp_path).parameters[mark]
    deployed.put_object(Bucket=NAMES.bucket, Key=elsewhere, Body=b"other")
    assert completed(connection, tmp_path).parameters[mark] == now


def test_more_executions_than_a_page_are_listed_with_answers_stubbed(answers):
    pages = [{"PipelineExecutionSummaries": [{"PipelineExecutionArn": f"{ARN}{n}"} for n in range(100)]} for _ in "12"]
    pages[0]["NextToken"] = "more"
    for page in pages:
        connection = answers("sagemaker", "list_pipeline_executions", page)
    assert len(executions.newest_executions(connection, "training", 150)) == 150


def test_a_scoring_is_started_only_with_the_files_of_the_registrys_champion_in_moto(connection, deployed, tmp_path):
    """What the champion's files are compared with: test_sagemaker_registry.py."""
    deployed.put_object(Bucket=NAMES.bucket, Key="champion/package.tar.gz", Body=b"model")
    connection.client("sagemaker").create_model_package_group(ModelPackageGroupName="rare-players")
    with pytest.raises(UserError, match="rare-players has no champion yet: nothing was released to production"):
        completed(connection, tmp_path, pipeline="scoring")


def test_a_training_is_not_started_where_a_job_would_find_no_folder_of_the_champion_in_moto(
    connection, deployed, tmp_path
):
    deployed.delete_object(Bucket=NAMES.bucket, Key="champion/.empty")
    with pytest.raises(UserError, match=r"champion/: no champion there\. Type: scarcegan upsert"):
        completed(connection, tmp_path)


def test_a_folder_without_its_slash_is_not_the_folder_whose_name_begins_alike_in_moto(connection, deployed, tmp_path):
    deployed.put_object(Bucket=NAMES.bucket, Key="mine/data2/a.csv", Body=b"other")
    assert start.data_digest(connection, NAMES.uri("mine", "data")) == (False, "")
    deployed.put_object(Bucket=NAMES.bucket, Key="mine/data/a.csv", Body=b"rows")
    same = {start.data_digest(connection, NAMES.uri("mine", "data", *end)) for end in ([], [""])}
    assert len(same) == 1 and (True, "") not in same
    assert start.data_digest(connection, NAMES.uri("mine", "data", "a.csv"))[0]
    plan = plan_of(tmp_path, "TelemetryUri=s3://bucket/data", pipeline="scoring")
    assert plan.parameters == {"TelemetryUri": "s3://bucket/data/"}, "SageMaker reads every key that begins so"


def test_a_training_is_not_started_with_a_gate_or_data_that_config_yaml_no_longer_has_in_moto(
    connection, deployed, tmp_path
):
    made = compiler.compile_pipeline(compiler.pipelines(Config(), "v1")[0], Config(), NAMES, BUNDLE)
    sagemaker = connection.client("sagemaker")
    sagemaker.update_pipeline(PipelineName=made.name, PipelineDefinition=made.definition, RoleArn=NAMES.role_arn("x"))
    completed(connection, tmp_path)
    (tmp_path / "config.yaml").write_text("gate: {minimum: 0.4}\ndata: {path: 's3://b-b/x'}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"evaluate --gate-minimum=0\.4 \(in AWS: 0\.3\).*scarcegan upsert") as error:
        completed(connection, tmp_path)
    assert f"telemetry s3://b-b/x/ (in AWS: {NAMES.uri('data', 'telemetry', '')})" in str(error.value)


def test_config_yaml_has_the_last_word_over_an_older_pipeline_and_says_so_in_moto(connection, deployed, tmp_path):
    (tmp_path / "config.yaml").write_text("train: {iterations: 3000}\n", encoding="utf-8")
    plan = completed(connection, tmp_path)
    assert plan.parameters["TrainIterations"] == "3000"
    assert plan.notes == ("config.yaml says TrainIterations=3000, the pipeline's default is 1000: passed",)


def test_a_start_without_data_or_without_a_model_says_where_it_belongs_in_moto(
    connection, deployed, tmp_path, monkeypatch
):
    monkeypatch.setattr(start, "check_champion", lambda aws, config: None)
    with pytest.raises(UserError, match="no model there"):
        completed(connection, tmp_path, pipeline="scoring")
    with pytest.raises(UserError, match=r"s3://elsewhere/: no telemetry there. Copy it there: aws s3 sync"):
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="elsewhere")
        completed(connection, tmp_path, "TelemetryUri=s3://elsewhere/", pipeline="scoring")
    with pytest.raises(UserError, match=r"s3://elsewhere/old/: no labels there. .* data.labels in config.yaml"):
        (tmp_path / "config.yaml").write_text("data: {labels: 's3://elsewhere/old'}\n", encoding="utf-8")
        completed(connection, tmp_path)


@pytest.mark.parametrize(
    ("data", "source", "command"),
    [
        ({}, "labels", "aws s3 cp data/labels.csv s3://b/d/;"),
        ({}, "telemetry", "aws s3 sync data/telemetry s3://b/d/;"),
        ({"path": "my data/all.parquet"}, "telemetry", "aws s3 cp 'my data/all.parquet' s3://b/d/;"),
        ({"labels": "truth"}, "labels", "aws s3 sync truth s3://b/d/;"),
        ({"path": "s3://bucket/d"}, "telemetry", "aws s3 sync FOLDER s3://b/d/;"),
    ],
)
def test_data_that_is_missing_in_aws_is_copied_from_where_config_yaml_has_it_here(data, source, command):
    error = start.no_data_error(source, "s3://b/d/", movable=True, data=Config(data=data).data)
    assert command in str(error)


def test_a_pipeline_that_is_not_there_or_is_older_asks_for_an_upsert_in_moto(connection, deployed, tmp_path):
    newer = start.StartPlan("training", {"ModelColour": "red"})
    with pytest.raises(
        UserError, match=r"has no parameter ModelColour \(it has: .*the code is newer .*scarcegan upsert"
    ):
        start.complete(newer, base_of(tmp_path), connection)
    connection.client("sagemaker").delete_pipeline(PipelineName="rare-players-training")
    with pytest.raises(UserError, match=r"no pipeline 'rare-players-training' in eu-west-1 .*scarcegan upsert"):
        completed(connection, tmp_path)


# -- patience -------------------------------------------------------------------------------------------------------

TEMPORARY = [(400, "ThrottlingException"), (500, "InternalFailure"), (503, "Busy"), (400, "ConflictException")]


@pytest.fixture
def answer_http(config, monkeypatch):
    """answer_http(*answers): what AWS answers over HTTP, (status, code) for an error, else a dictionary; the last one
    is repeated. Returns the connection, and a list that holds the seconds of every wait between two attempts.
    """
    waited = []
    monkeypatch.setattr(botocore.endpoint.time, "sleep", waited.append)

    def answer(*answers):
        left = list(answers)

        def send(request, **_):
            found = left.pop(0) if len(left) > 1 else left[0]
            status, code = found if isinstance(found, tuple) else (200, "")
            body = json.dumps({"__type": code, "message": "is busy"} if code else found).encode()
            return AWSResponse(request.url, status, {}, type("Raw", (), {"stream": lambda self: iter([body])})())

        connection = aws.connect_to_aws(config)
        for service in ("sagemaker", "logs"):
            connection.client(service).meta.events.register("before-send", send)
        return connection, waited

    return answer


@pytest.mark.parametrize("error", TEMPORARY, ids=lambda error: error[1])
def test_an_error_that_passes_is_waited_for_and_nobody_sees_it(answer_http, error):
    about = {"PipelineExecutionStatus": "Executing", "CreationTime": 0, "LastModifiedTime": 0}
    connection, waited = answer_http(*[error] * 9, about, {"PipelineExecutionSteps": []})
    assert executions.execution_status(connection, ARN).status == "Executing"
    assert len(waited) == 9 and max(waited) <= 20
    assert executions.stop_execution(answer_http(*[error] * 9, {})[0], ARN)


@pytest.mark.parametrize("error", TEMPORARY, ids=lambda error: error[1])
@pytest.mark.parametrize(
    "look",
    [
        lambda connection: executions.find_execution(connection),
        lambda connection: executions.execution_status(connection, ARN),
        lambda connection: list(executions.watch(connection, ARN)),
        lambda connection: list(executions.log_lines(connection, ARN)),
        lambda connection: executions.stop_execution(connection, ARN),
    ],
    ids=["find", "status", "watch", "logs", "stop"],
)
def test_an_error_that_does_not_pass_is_a_sentence_after_some_minutes(config, answer_http, error, look):
    connection, waited = answer_http(error)
    with pytest.raises(UserError, match="Wait a minute, then type the command again"), aws.errors_as_sentences(config):
        look(connection)
    assert 60 < sum(waited) < 600


def test_a_mistake_is_told_at_once(config, answer_http):
    connection, waited = answer_http((400, "ValidationException"))
    with pytest.raises(UserError, match="AWS refuses DescribePipelineExecution"), aws.errors_as_sentences(config):
        executions.execution_status(connection, ARN)
    assert waited == []


def test_stopping_what_has_ended_meanwhile_is_no_mistake_stubbed(config):
    connection = aws.connect_to_aws(config)
    with Stubber(connection.client("sagemaker")) as stub:
        ended = "Only pipelines with 'Executing' status can be stopped"
        stub.add_client_error("stop_pipeline_execution", "ValidationException", ended, http_status_code=400)
        assert not executions.stop_execution(connection, ARN)


@pytest.mark.parametrize(
    "name", ["arn:x", "arn:aws:s3:::bucket", ARN + "/x", ARN + " ", "a b", "../x", "x" * 5000, "ü"]
)
def test_what_is_neither_an_id_nor_an_arn_of_an_execution_is_refused_without_asking(config, name):
    with pytest.raises(UserError, match="is neither the id nor the ARN of an execution") as error:
        executions.find_execution(aws.connect_to_aws(config), name)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("look", [executions.execution_status, lambda *place: list(executions.log_lines(*place))])
def test_an_arn_of_no_execution_is_a_sentence(answer_http, look):
    with pytest.raises(UserError, match=r"no execution 'abc123'.* scarcegan status"):
        look(answer_http((400, "ResourceNotFound"))[0], ARN)


# -- look -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def answers(config):
    """answers(service, operation, answer, **expected): what AWS will answer next, in order."""
    connection = aws.connect_to_aws(config)
    stubs = {}

    def answer(service, operation, response, **expected):
        stub = stubs.setdefault(service, Stubber(connection.client(service)))
        stub.add_response(operation, response, expected or None)
        stub.activate()
        return connection

    yield answer
    for stub in stubs.values():
        stub.assert_no_pending_responses()


def describe(answers, status="Executing", **more):
    about = {"PipelineExecutionStatus": status, "CreationTime": BEGUN, "LastModifiedTime": BEGUN, **more}
    return answers("sagemaker", "describe_pipeline_execution", about, PipelineExecutionArn=ARN)


def list_steps(answers, *steps):
    listed = {"PipelineExecutionSteps": list(steps)}
    return answers(
        "sagemaker", "list_pipeline_execution_steps", listed, PipelineExecutionArn=ARN, SortOrder="Ascending"
    )


def test_an_execution_tells_its_steps_minutes_and_the_trainings_metrics_stubbed(answers):
    describe(answers)
    cached = {"SourcePipelineExecutionArn": ARN}
    connection = list_steps(
        answers,
        step("features", CacheHitResult=cached),
        step("train", "TrainingJob", status="Executing", minutes=None, AttemptCount=2),
    )
    metric = {"MetricName": "Generator_Loss", "Value": 0.5, "Timestamp": BEGUN}
    about = {"FinalMetricDataList": [metric]}
    answers("sagemaker", "describe_training_job", about_training(**about), TrainingJobName="pipelines-x-train")
    found = executions.execution_status(connection, ARN)
    assert (found.execution, found.pipeline, found.status) == ("abc123", "rare-players-training", "Executing")
    first, second = found.steps
    assert (first.cached, first.minutes, first.job) == (True, 3.0, f"{JOB}:processing-job/pipelines-x-features")
    assert (second.attempts, second.metrics) == (2, {"Generator_Loss": 0.5})
    assert not found.ended


def about_training(**more):
    """The least that DescribeTrainingJob answers."""
    return {
        "TrainingJobName": "x",
        "TrainingJobArn": f"{JOB}:training-job/x",
        "ModelArtifacts": {"S3ModelArtifacts": f"s3://{NAMES.bucket}/runs/abc123/train/model.tar.gz"},
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "ResourceConfig": {"VolumeSizeInGB": 1},
        "StoppingCondition": {},
        "CreationTime": BEGUN,
        **more,
    }


@pytest.mark.parametrize(("failed", "closed"), [("Fail", True), ("ProcessingJob", False)])
def test_a_closed_gate_is_told_from_a_failure_stubbed(answers, failed, closed):
    describe(answers, "Failed", FailureReason="a step failed")
    about = step("gate-closed", failed, status="Failed", FailureReason="pr_auc 0.2 is below 0.3")
    found = executions.execution_status(list_steps(answers, step("evaluate"), about), ARN)
    assert found.ended and found.gate_closed is closed
    assert found.steps[-1].reason == "pr_auc 0.2 is below 0.3"


def test_an_execution_is_found_by_its_id_in_either_pipeline_stubbed(config):
    connection = aws.connect_to_aws(config)
    scoring = ARN.replace("training", "scoring")
    with Stubber(connection.client("sagemaker")) as stub:
        missing = {"service_error_code": "ResourceNotFound", "http_status_code": 400}
        stub.add_client_error("describe_pipeline_execution", expected_params={"PipelineExecutionArn": ARN}, **missing)
        stub.add_response("describe_pipeline_execution", {}, {"PipelineExecutionArn": scoring})
        assert executions.find_execution(connection, "abc123") == scoring
        stub.add_client_error("describe_pipeline_execution", **missing)
        stub.add_client_error("describe_pipeline_execution", **missing)
        with pytest.raises(UserError, match=r"no execution 'abc124' of this project.*of a copy.* its ARN"):
            executions.find_execution(connection, "abc124")


def test_a_pipeline_that_never_ran_or_is_not_there_says_what_comes_first_in_moto(connection, config, tmp_path, wheels):
    make_bucket()
    with pytest.raises(UserError, match="from here, type: scarcegan upsert"):
        executions.find_execution(connection)
    walk(connection, tmp_path, config)
    with pytest.raises(UserError, match="has never run"):
        executions.find_execution(connection)


# -- logs -----------------------------------------------------------------------------------------------------------


def log(answers, lines, **expected):
    events = [{"message": f"{line}\n"} for line in lines]
    return answers("logs", "filter_log_events", {"events": events}, **expected)


def test_logs_are_those_of_the_step_that_failed_stubbed(answers):
    list_steps(answers, step("features", status="Failed"), step("split", status="Succeeded"))
    group = {"logGroupName": "/aws/sagemaker/ProcessingJobs", "logStreamNamePrefix": "pipelines-x-features/"}
    connection = log(answers, ["one", "two"], **group)
    assert list(executions.log_lines(connection, ARN)) == ["one", "two"]


def test_logs_of_a_training_and_of_a_function_lie_elsewhere_stubbed(answers):
    function = step("register", "Lambda")
    function["Metadata"]["Lambda"] = {"Arn": NAMES.register_function_arn}
    group = {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamNamePrefix": "pipelines-x-train/"}
    list_steps(answers, step("train", "TrainingJob"), function)
    connection = log(answers, ["loss"], **group)
    assert list(executions.log_lines(connection, ARN, "train")) == ["loss"]
    list_steps(answers, step("train", "TrainingJob"), function)
    begun = int(BEGUN.timestamp() * 1000)
    log(
        answers,
        ["four packages"],
        logGroupName="/aws/lambda/rare-players-register",
        startTime=begun,
        endTime=begun + 180_000,
    )
    assert list(executions.log_lines(connection, ARN)) == ["four packages"]


def test_a_step_without_logs_names_those_that_have_some_stubbed(answers):
    connection = list_steps(answers, step("features"), step("gate", "Condition"))
    with pytest.raises(UserError, match=r"no log of step 'gate' .* Steps with a log: features"):
        list(executions.log_lines(connection, ARN, "gate"))


@pytest.mark.parametrize("missing", [False, True])
def test_a_step_that_has_ended_without_a_log_says_so_stubbed(answers, missing):
    connection = list_steps(answers, step("features", status="Failed"))
    with Stubber(connection.client("logs")) as stub:
        if missing:
            stub.add_client_error("filter_log_events", "ResourceNotFoundException")
        else:
            stub.add_response("filter_log_events", {"events": []})
        with pytest.raises(UserError, match=r"'features' has ended \(Failed\) and logged nothing: .* scarcegan status"):
            list(executions.log_lines(connection, ARN))


def test_an_arn_of_another_account_or_region_is_refused_without_asking(config):
    connection = aws.connect_to_aws(config)
    for other in (ARN.replace("eu-west-1", "us-east-1"), ARN.replace(ACCOUNT, "999999999999")):
        with pytest.raises(UserError, match=r"is in .* this project in eu-west-1 \(account 123456789012\)\. Name"):
            executions.find_execution(connection, other)


def test_a_step_without_files_says_what_it_is_stubbed(answers, tmp_path):
    connection = list_steps(answers, step("gate", "Condition"))
    with pytest.raises(UserError, match=r"step 'gate' is of the kind Condition, which writes no output .* evaluate"):
        executions.fetch_output(connection, ARN, "gate", "gate", tmp_path / "x")


# -- stop and fetch -------------------------------------------------------------------------------------------------


def test_stopping_asks_for_that_execution_stubbed(config):
    connection = aws.connect_to_aws(config)
    asked = []
    with Stubber(connection.client("sagemaker")) as stub:
        stub.add_response("stop_pipeline_execution", {"PipelineExecutionArn": ARN})
        events = connection.client("sagemaker").meta.events
        events.register(
            "before-parameter-build.*.StopPipelineExecution", lambda params, **_: asked.append(dict(params))
        )
        executions.stop_execution(connection, ARN)
    assert [params["PipelineExecutionArn"] for params in asked] == [ARN]


def archive(**files):
    """A tar.gz of these files: path with __ for / -> text."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(text)
            packed.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture
def finished(connection, monkeypatch):
    """An execution whose jobs are told by the test, its outputs in moto's S3."""
    s3 = make_bucket()
    uri = f"s3://{NAMES.bucket}/runs/first/evaluate/gate"
    report = {"OutputName": "evaluation", "S3Output": {"S3Uri": uri.replace("/gate", "/evaluation")}}
    outputs = {"Outputs": [{"OutputName": "gate", "S3Output": {"S3Uri": uri}}, report]}
    s3.put_object(Bucket=NAMES.bucket, Key="runs/first/evaluate/gate/gate.json", Body=b"{}")
    model = archive(models__a="model", curves__curves="curve")
    s3.put_object(Bucket=NAMES.bucket, Key="runs/abc123/train/model.tar.gz", Body=model)
    client = connection.client("sagemaker")
    monkeypatch.setattr(client, "describe_processing_job", lambda **_: {"ProcessingOutputConfig": outputs})
    monkeypatch.setattr(client, "describe_training_job", lambda **_: about_training())
    listed = {
        "abc123": [step("evaluate", CacheHitResult={}), step("train", "TrainingJob"), step("split", status="Failed")]
    }
    monkeypatch.setattr(executions, "raw_steps", lambda _, arn: listed[arn.rsplit("/", 1)[1]])
    return listed


def test_an_output_is_fetched_from_where_its_job_wrote_it_with_jobs_stubbed(connection, finished, tmp_path):
    assert (
        executions.fetch_output(connection, ARN, "evaluate", "gate", tmp_path / "gate") / "gate.json"
    ).read_text() == "{}"
    curves = executions.fetch_output(connection, ARN, "train", "curves", tmp_path / "curves")
    assert [path.name for path in curves.iterdir()] == ["curves"]
    with pytest.raises(UserError, match="step 'split' has not succeeded"):
        executions.fetch_output(connection, ARN, "split", "test", tmp_path / "x")
    with pytest.raises(UserError, match=r"no output 'gates'. It has: gate"):
        executions.fetch_output(connection, ARN, "evaluate", "gates", tmp_path / "x")


def test_a_step_from_the_cache_is_fetched_from_the_execution_it_ran_in_with_jobs_stubbed(
    connection, finished, tmp_path
):
    finished["first"] = [step("evaluate")]
    cached = step("evaluate", CacheHitResult={"SourcePipelineExecutionArn": ARN.replace("abc123", "first")})
    finished["abc123"] = [cached | {"Metadata": {}}]
    assert (executions.fetch_output(connection, ARN, "evaluate", "gate", tmp_path / "gate") / "gate.json").exists()


def test_the_report_lies_where_the_evaluation_wrote_it_also_from_the_cache_with_jobs_stubbed(connection, finished):
    found = executions.ExecutionStatus("abc123", "rare-players-training", "Failed", "", 1.0, ARN)
    assert executions.report_uri(connection, found) == "", "before the evaluation"
    found = replace(found, steps=[executions.StepStatus("evaluate", "Succeeded")])
    place = f"s3://{NAMES.bucket}/runs/first/evaluate/evaluation/report.html"
    assert executions.report_uri(connection, found) == place
    cached = step("evaluate", CacheHitResult={"SourcePipelineExecutionArn": ARN.replace("abc123", "first")})
    finished.update(first=finished["abc123"], abc123=[cached | {"Metadata": {}}])
    assert executions.report_uri(connection, found) == place
    finished["abc123"] = []
    assert executions.report_uri(connection, found) == "", "what AWS no longer tells stops no status"


def test_an_object_whose_key_leads_out_of_the_folder_is_not_fetched_in_moto(connection, tmp_path):
    s3 = make_bucket()
    s3.put_object(Bucket=NAMES.bucket, Key="runs/../../x", Body=b"")
    with pytest.raises(UserError, match="leads out of the folder"):
        storage.download(s3, f"s3://{NAMES.bucket}/runs", tmp_path / "in")
    assert not (tmp_path / "x").exists()


# -- refusals -------------------------------------------------------------------------------------------------------


def refused(code, message, operation="CreatePipeline", status=400):
    metadata = {"HTTPStatusCode": status}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, operation)


DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/Dev/me is not authorized to perform: sagemaker:CreatePipeline on "
    "resource: arn:aws:sagemaker:eu-west-1:123456789012:pipeline/x because no identity-based policy allows it"
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentialsError(), "no AWS credentials .*aws sso login"),
        (refused("ExpiredTokenException", "The security token included in the request is expired"), "aws sso login"),
        (
            refused("AccessDeniedException", DENIED),
            "may not sagemaker:CreatePipeline on .*-build may do it",
        ),
        (refused("403", "Forbidden", "PutObject"), "may not s3:PutObject.*docs/permissions.md"),
        (refused("AccessDenied", "Access Denied", "ListObjectsV2"), "may not s3:ListBucket"),
        (refused("NoSuchBucket", "no"), "scarcegan toolchain deploy"),
        (
            refused("ValidationException", "TrainIterations: not an Integer", "StartX"),
            "refuses StartX: TrainIterations",
        ),
        (InvalidRegionError(region_name="eu west"), "eu west.*project.region"),
        (refused("ResourceLimitExceeded", "ml.p4d"), "Service Quotas"),
        (refused("ThrottlingException", "slow down"), "Wait a minute"),
        (refused("SlowDown", "slow down"), "Wait a minute"),
        (
            refused("InternalFailure", "try later", status=500),
            r"an error of its own \(InternalFailure: .*Wait a minute",
        ),
        (refused("Unheard", "", status=503), r"CreatePipeline failed in AWS by an error of its own \(Unheard\)\. Wait"),
        (refused("Unheard", "", status=429), r"AWS is busy \(Unheard\)\. Wait"),
        (
            refused("ConflictException", "is being updated"),
            "at work on the same thing, .*is being updated.*Wait a minute",
        ),
        (EndpointConnectionError(endpoint_url="https://x"), "AWS cannot be reached in 'eu-west-1'"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_aws_refuses_is_a_sentence_with_the_next_move(config, error, words):
    with pytest.raises(UserError, match=words), aws.errors_as_sentences(config):
        raise error


def test_what_is_nobodys_mistake_stays_a_bug(config):
    with pytest.raises(ClientError), aws.errors_as_sentences(config):
        raise refused("TellMeWhatThisIs", "oops")


@pytest.mark.parametrize("account", ["12", "١" * 12])
def test_an_account_that_is_none_is_refused(config, monkeypatch, account):
    monkeypatch.setenv("AWS_ACCOUNT_ID", account)
    with pytest.raises(UserError, match="an account has 12 digits"):
        aws.connect_to_aws(config)


def test_without_a_named_account_aws_is_asked_for_it_in_moto(config, monkeypatch):
    monkeypatch.delenv("AWS_ACCOUNT_ID")
    with mock_aws():
        assert aws.connect_to_aws(config).names.account == ACCOUNT


def test_a_library_that_is_not_installed_names_the_command_and_a_broken_one_is_a_bug(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"nosuchsdk is not installed.*pip install -r requirements-cloud.txt"):
        aws.library("nosuchsdk.core")
    (tmp_path / "brokensdk.py").write_text("import nosuchmodule\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nosuchmodule"):
        aws.library("brokensdk")


def test_the_toy_pipeline_of_these_tests_has_the_parameters_of_the_real_one(config):
    found = [item["Name"] for item in json.loads(Compiled("training", config).definition)["Parameters"]]
    assert {"TrainIterations", "TelemetryFingerprint", "TrainInstanceType"} <= set(found)
