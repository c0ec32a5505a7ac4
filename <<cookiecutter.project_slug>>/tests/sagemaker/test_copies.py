"""Copies of the training pipeline: what they compile to, and how they are written, started and removed in moto."""

import json

import pytest
from botocore.stub import Stubber
from moto import mock_aws

from compiled import BUNDLE, NAMES, compiled_training, defaults, jobs, problems
from pipelines_in_moto import NAMES as HERE
from pipelines_in_moto import Compiled, keys, make_bucket
from scarcegan.aws import client as aws
from scarcegan.aws.names import COPY_TAG
from scarcegan.errors import UserError
from scarcegan.pipeline import config as settings
from scarcegan.pipeline import definition
from scarcegan.pipeline.config import Config
from scarcegan.sagemaker import bundle, compiler, copies, executions, start, upsert
from scarcegan.sagemaker.pipelines import configured

SPOT = {"cloud": {"spot": True}}


def compiled_copy(**sections) -> dict:
    made = compiler.compile_copy(Config.model_validate(sections), NAMES, BUNDLE, "faster")
    assert made.name == "rare-players-training-faster"
    return json.loads(made.definition)


# -- what it is -----------------------------------------------------------------------------------------------------


def test_a_copy_ends_with_the_evaluation_and_registers_nothing():
    steps = [step.name for step in definition.training_copy(Config(), "faster").steps]
    assert steps == ["features", "split", "train", "baseline", "evaluate"]
    text = json.dumps(compiled_copy())
    assert "lambda" not in text.lower() and "register" not in text and "ApprovalStatus" not in text


def test_a_copy_writes_to_the_folders_of_its_own_executions_only():
    """Statically: every address that a job writes to."""
    for found in jobs(compiled_copy()):
        arguments = found["Arguments"]
        outputs = [o["S3Output"]["S3Uri"] for o in arguments.get("ProcessingOutputConfig", {}).get("Outputs", ())]
        outputs += [arguments["OutputDataConfig"]["S3OutputPath"]] if "OutputDataConfig" in arguments else []
        assert outputs
        for output in outputs:
            run = output["Std:Join"]["Values"]
            assert run[0].endswith("/runs") and run[1] == {"Get": "Execution.PipelineExecutionId"}


def test_a_copys_checkpoints_lie_beside_those_of_the_pipeline_that_it_copies():
    def place(pipeline):
        [train] = [found for found in jobs(pipeline) if found["Name"] == "train"]
        return train["Arguments"]["CheckpointConfig"]["S3Uri"]

    assert place(compiled_copy(**SPOT)) == NAMES.uri("checkpoints", "training-faster", "train")
    assert place(compiled_training(**SPOT)) == NAMES.uri("checkpoints", "train")


def test_every_job_of_a_copy_passes_the_service_model_of_the_call_it_becomes():
    pipeline = compiled_copy()
    assert [problems(found, pipeline) for found in jobs(pipeline)] == [[]] * 5


def test_a_copy_differs_from_the_pipeline_in_its_sample_and_what_the_gate_holds_only():
    copy, whole = compiled_copy(), compiled_training()
    assert defaults(copy).pop("FeaturesSample") == 0.1
    of_copy = {found["Name"]: found["Arguments"] for found in jobs(copy)}
    of_whole = {found["Name"]: found["Arguments"] for found in jobs(whole)}
    assert of_copy.keys() == of_whole.keys()
    same = [name for name in of_copy if json.dumps(of_copy[name]) == json.dumps(of_whole[name])]
    assert same == ["split", "train", "baseline", "evaluate"]
    assert "--sample=1.0" in of_whole["features"]["AppSpecification"]["ContainerArguments"]
    assert set(defaults(copy)) - set(defaults(whole)) == {"FeaturesSample"}
    assert set(defaults(whole)) <= set(defaults(copy))


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "a--b", "-a", "a-", "a_b", "x" * 31, "training", "my-training", "rescoring", "a/b", "a b"]
)
def test_a_name_that_no_copy_can_have_is_refused(name):
    with pytest.raises(UserError, match="cannot be the name of a copy"):
        copies.copy_pipeline(name)
    assert definition.copy_name(f"training-{name}") == ""
    with pytest.raises(ValueError):
        definition.training_copy(Config(), name)


def test_a_copy_and_another_projects_pipeline_never_share_a_name():
    """The training pipeline of a project called rare-players-training-x could otherwise be the copy x-training."""
    for other in ("rare-players-training-x", "rare-players-training"):
        for pipeline in ("training", "scoring"):
            assert not definition.copy_name(f"{other}-{pipeline}".removeprefix("rare-players-"))


# -- in AWS, as moto plays it ---------------------------------------------------------------------------------------


@pytest.fixture
def connection(config, monkeypatch):
    monkeypatch.setattr(bundle, "download_wheels", lambda *_: [])
    with mock_aws():
        made = aws.connect_to_aws(config)
        make_bucket()
        yield made


def plan(tmp_path, config, name="faster"):
    """As plan_copy makes it, of one small object."""
    made = {f"training-{name}": Compiled(f"training-{name}", config)}
    tags = {"sagemaker:project-name": "rare-players", COPY_TAG: name}
    return upsert.UpsertPlan(HERE, tmp_path, {"code/1a/source.tar.gz": b"code"}, "wheels/2b/", made, {}, tags)


def write(connection, tmp_path, config, name="faster"):
    return copies.write_copy(plan(tmp_path, config, name), connection, lambda line: None)


def pipelines(connection):
    return {p["PipelineName"] for p in connection.client("sagemaker").list_pipelines()["PipelineSummaries"]}


def test_a_copy_is_written_beside_the_pipeline_and_tagged_in_moto(connection, tmp_path, config):
    assert write(connection, tmp_path, config)["pipelines"] == {"rare-players-training-faster": "created"}
    assert write(connection, tmp_path, config)["pipelines"] == {"rare-players-training-faster": "unchanged"}
    assert pipelines(connection) == {"rare-players-training-faster"}
    made = connection.client("sagemaker").describe_pipeline(PipelineName="rare-players-training-faster")
    tags = connection.client("sagemaker").list_tags(ResourceArn=made["PipelineArn"])["Tags"]
    assert {"Key": "sagemaker:project-name", "Value": "rare-players"} in tags
    assert copies.copies(connection) == ["faster"]


def test_a_pipeline_that_is_no_copy_is_neither_replaced_nor_removed_in_moto(connection, tmp_path, config):
    sagemaker = connection.client("sagemaker")
    role = HERE.role_arn("pipeline")
    sagemaker.create_pipeline(PipelineName="rare-players-training-x", PipelineDefinition="{}", RoleArn=role)
    for act in (lambda: write(connection, tmp_path, config, "x"), lambda: copies.remove_copy(connection, "x")):
        with pytest.raises(UserError, match="no copy that `scarcegan pipeline copy` made"):
            act()
    assert sagemaker.describe_pipeline(PipelineName="rare-players-training-x")["PipelineDefinition"] == "{}"


def test_a_copy_is_removed_and_one_that_is_not_there_is_answered_with_those_that_are_in_moto(
    connection, tmp_path, config
):
    write(connection, tmp_path, config)
    write(connection, tmp_path, config, "slower")
    assert copies.remove_copy(connection, "faster") == "rare-players-training-faster"
    assert pipelines(connection) == {"rare-players-training-slower"}
    with pytest.raises(UserError, match=r"no copy 'faster' in eu-west-1 \(there are: slower\)"):
        copies.remove_copy(connection, "faster")


def test_a_copy_that_is_running_is_not_removed_in_moto(connection, tmp_path, config):
    write(connection, tmp_path, config)
    sagemaker = connection.client("sagemaker")
    arn = sagemaker.start_pipeline_execution(PipelineName="rare-players-training-faster")["PipelineExecutionArn"]
    stub = Stubber(sagemaker)  # moto deletes a pipeline whose execution is running
    about = {"PipelineName": "rare-players-training-faster"}
    stub.add_response("describe_pipeline", sagemaker.describe_pipeline(**about), about)
    described = {"ResourceArn": arn.partition("/execution/")[0]}
    stub.add_response("list_tags", sagemaker.list_tags(**described), described)
    said = "Pipeline has an execution that is running."
    stub.add_client_error("delete_pipeline", "ConflictException", said, 400)
    move = r"SageMaker does not delete .*: Pipeline has .* scarcegan status --pipeline training-faster"
    stub.activate()
    with pytest.raises(UserError, match=move):
        copies.remove_copy(connection, "faster")
    stub.deactivate()
    assert pipelines(connection) == {"rare-players-training-faster"}


def started(connection, tmp_path, *changes):
    base = configured("training-faster", settings.load_config(tmp_path / "config.yaml"), HERE)
    return start.complete(start.plan_start(base, tmp_path / "config.yaml", changes), base, connection)


def test_a_copy_is_started_on_another_sample_and_found_again_in_moto(connection, tmp_path, config):
    write(connection, tmp_path, config)
    s3 = connection.client("s3")
    for key in ("data/telemetry/part-0.parquet", "data/labels/.empty", "champion/.empty"):
        s3.put_object(Bucket=HERE.bucket, Key=key, Body=b"rows")
    before = keys(s3)
    made = started(connection, tmp_path, "cloud.copy_sample=0.5", "train.iterations=9")
    assert made.parameters["FeaturesSample"] == "0.5" and made.parameters["TrainIterations"] == "9"
    arn = start.start_execution(made, connection)
    assert ":pipeline/rare-players-training-faster/execution/" in arn
    assert executions.find_execution(connection, None, "training-faster") == arn
    assert keys(s3) == before


def test_the_pipeline_itself_takes_no_sample(tmp_path, config):
    base = configured("training", config, HERE)
    with pytest.raises(UserError, match="changes nothing of the training pipeline"):
        start.plan_start(base, tmp_path / "config.yaml", ["cloud.copy_sample=0.5"])
    assert "FeaturesSample" not in base.parameters


def test_a_copy_that_is_not_there_names_the_command_that_writes_it_in_moto(connection, tmp_path):
    with pytest.raises(UserError, match="Type: scarcegan pipeline copy faster"):
        started(connection, tmp_path)
