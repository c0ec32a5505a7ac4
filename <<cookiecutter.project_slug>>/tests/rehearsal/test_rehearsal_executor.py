"""The executor that stands for SageMaker Pipelines, on toy pipelines: what it runs and what it refuses."""

import copy
import io
import sys
import tarfile
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from rehearsal.executor import Refused, execute

REGISTER = "arn:aws:lambda:eu-west-1:123456789012:function:toy-register"
ROLE = "arn:aws:iam::123456789012:role/toy"
COUNT = """
set -e
in="$SAGEMAKER_BASE_DIR/${2#/opt/ml/}" out="$SAGEMAKER_BASE_DIR/${4#/opt/ml/}"
lines=$(find "$in" -type f -exec cat {} + | wc -l | tr -d ' ')
echo "{\\"passed\\": $([ $lines -ge $6 ] && echo true || echo false), \\"lines\\": $lines}" > "$out/gate.json"
echo "counted $lines for $TEAM" > "$out/said.txt"
"""
PROGRAM = """
import os, json, argparse
parse = argparse.ArgumentParser()
parse.add_argument("--iterations", type=int)
given = parse.parse_args()
open(os.path.join(os.environ["SM_MODEL_DIR"], "weights.txt"), "w").write(
    " ".join([*sorted(os.listdir(os.environ["SM_CHANNEL_COUNTED"])), str(given.iterations)]))
open(os.path.join(os.environ["SAGEMAKER_BASE_DIR"], "checkpoints", "last"), "w").write("3")
print("Loss=0.5;")
print("Loss=0.25;")
"""


def source(uri) -> dict:
    return {"S3DataType": "S3Prefix", "S3Uri": uri}


def processing_input(name: str, uri) -> dict:
    return {
        "InputName": name,
        "S3Input": {"S3InputMode": "File", "LocalPath": f"/opt/ml/processing/input/{name}", **source(uri)},
    }


def joined(*values) -> dict:
    return {"Std:Join": {"On": "/", "Values": list(values)}}


def get(reference: str) -> dict:
    return {"Get": reference}


COUNTED = get("Steps.count.ProcessingOutputConfig.Outputs['counted'].S3Output.S3Uri")
RUN = get("Execution.PipelineExecutionId")
JOB = {
    "RoleArn": ROLE,
    "ProcessingResources": {"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 9}},
}


@pytest.fixture
def toy(trained) -> dict:
    """count lines -> if enough lines: register, else fail. Training begins with seconds of imports."""
    trained["Steps"] = [each for each in trained["Steps"] if each["Name"] != "train"]
    step(trained, "register")["Arguments"]["models"] = COUNTED
    return trained


@pytest.fixture
def trained() -> dict:
    """count lines -> train on the count -> if enough lines: register, else fail."""
    count = {
        **JOB,
        "AppSpecification": {
            "ImageUri": "image",
            "ContainerEntrypoint": ["bash", "/opt/ml/processing/input/code/count.sh"],
            "ContainerArguments": [
                *("--lines", "/opt/ml/processing/input/lines", "--out", "/opt/ml/processing/output/counted"),
                *("--least", joined(get("Parameters.Least"))),
            ],
        },
        "Environment": {"TEAM": "risk"},
        "ProcessingInputs": [
            processing_input("code", "s3://toy/code"),
            processing_input("lines", get("Parameters.Lines")),
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "counted",
                    "S3Output": {
                        "S3Uri": joined("s3://toy/runs", RUN, "counted"),
                        "LocalPath": "/opt/ml/processing/output/counted",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
    }
    train = {
        "RoleArn": ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": "image",
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": r"Loss=([\d.]+);"}],
        },
        "HyperParameters": {
            "sagemaker_program": "program.py",
            "sagemaker_submit_directory": "/opt/ml/input/data/code/source.tar.gz",
            "iterations": joined(get("Parameters.Iterations")),
        },
        "InputDataConfig": [
            {"ChannelName": "code", "DataSource": {"S3DataSource": source("s3://toy/source")}},
            {"ChannelName": "counted", "DataSource": {"S3DataSource": source(COUNTED)}},
        ],
        "OutputDataConfig": {"S3OutputPath": joined("s3://toy/runs", RUN, "train")},
        "CheckpointConfig": {"S3Uri": "s3://toy/checkpoints", "LocalPath": "/opt/ml/checkpoints"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 9},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }
    register = {
        "Name": "register",
        "Type": "Lambda",
        "FunctionArn": REGISTER,
        "Arguments": {"models": get("Steps.train.ModelArtifacts.S3ModelArtifacts"), "least": get("Parameters.Least")},
        "OutputParameters": [{"OutputName": "set_id", "OutputType": "String"}],
    }
    gate = {"PropertyFile": get("Steps.count.PropertyFiles.gate")}
    closed = {
        "Name": "closed",
        "Type": "Fail",
        "Arguments": {
            "ErrorMessage": {
                "Std:Join": {"On": " ", "Values": [{"Std:JsonGet": {**gate, "Path": "lines"}}, "lines are too few"]}
            }
        },
    }
    passed = {"Type": "Equals", "LeftValue": {"Std:JsonGet": {**gate, "Path": "passed"}}, "RightValue": True}
    return {
        "Version": "2020-12-01",
        "Parameters": [
            {"Name": "Lines", "Type": "String", "DefaultValue": "s3://toy/lines"},
            {"Name": "Least", "Type": "Integer", "DefaultValue": 2},
            {"Name": "Iterations", "Type": "Integer", "DefaultValue": 5},
            {"Name": "Status", "Type": "String", "DefaultValue": "Pending", "EnumValues": ["Pending", "Approved"]},
        ],
        "Steps": [
            {
                "Name": "gate",
                "Type": "Condition",
                "Arguments": {"Conditions": [passed], "IfSteps": [register], "ElseSteps": [closed]},
            },
            {
                "Name": "train",
                "Type": "Training",
                "Arguments": train,
                "RetryPolicies": [{"ExceptionType": ["SageMaker.CAPACITY_ERROR"], "MaxAttempts": 2}],
                "CacheConfig": {"Enabled": True, "ExpireAfter": "P30D"},
            },
            {
                "Name": "count",
                "Type": "Processing",
                "Arguments": count,
                "PropertyFiles": [{"PropertyFileName": "gate", "OutputName": "counted", "FilePath": "gate.json"}],
                "CacheConfig": {"Enabled": True, "ExpireAfter": "P30D"},
            },
        ],
    }


@pytest.fixture
def s3(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="toy", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        program = io.BytesIO()
        with tarfile.open(fileobj=program, mode="w:gz") as archive:
            entry = tarfile.TarInfo("program.py")
            entry.size = len(PROGRAM)
            archive.addfile(entry, io.BytesIO(PROGRAM.encode()))
        for key, body in {
            "code/count.sh": COUNT.encode(),
            "lines/a.txt": b"1\n2\n",
            "lines/deep/b.txt": b"",
            "source/source.tar.gz": program.getvalue(),
        }.items():
            client.put_object(Bucket="toy", Key=key, Body=body)
        yield client


def step(definition: dict, name: str) -> dict:
    (found,) = (each for each in [*definition["Steps"], *branch(definition)] if each["Name"] == name)
    return found


def branch(definition: dict) -> list[dict]:
    arguments = definition["Steps"][0]["Arguments"]
    return [*arguments["IfSteps"], *arguments["ElseSteps"]]


def run(definition: dict, folder: Path, handler=lambda event, context: {"set_id": "abc"}, **given):
    parameters = {name: value for name, value in given.items() if name != "cache"}
    return execute(definition, parameters, folder, {REGISTER: handler}, cache=given.get("cache"))


@pytest.mark.skipif(sys.platform != "linux", reason="the training image's toolkit is for Linux only")
def test_steps_run_in_the_order_of_their_references_and_hand_over_files_through_s3_in_moto(trained, s3, tmp_path):
    events = []

    def register(event, context):
        events.append(event)
        return {"set_id": "abc"}

    execution = run(trained, tmp_path, register, Iterations="7")
    assert execution.status == "Succeeded", execution.reason
    assert next(iter(execution.steps)) == "count" and set(execution.steps) == {"count", "gate", "train", "register"}
    model = execution.steps["train"].outputs["model"]
    assert model == f"s3://toy/runs/{execution.id}/train/pipelines-{execution.id}-train/output/model.tar.gz"
    packed = s3.get_object(Bucket="toy", Key=model.removeprefix("s3://toy/"))["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.extractfile("weights.txt").read() == b"gate.json said.txt 7"
    assert events == [{"models": model, "least": 2}]
    assert execution.steps["register"].outputs == {"set_id": "abc"}
    assert execution.steps["train"].metrics == {"loss": 0.25}
    said = s3.get_object(Bucket="toy", Key=f"runs/{execution.id}/counted/said.txt")["Body"].read()
    assert said == b"counted 2 for risk\n"
    assert s3.get_object(Bucket="toy", Key="checkpoints/last")["Body"].read() == b"3"


def test_a_closed_gate_ends_in_the_fail_step_with_its_figures_and_registers_nothing_in_moto(toy, s3, tmp_path):
    execution = run(toy, tmp_path, Least="3")
    assert execution.status == "Failed"
    assert execution.reason == "Step failure: closed: 2 lines are too few"
    assert "register" not in execution.steps


def test_an_unchanged_step_comes_from_the_cache_and_a_changed_one_runs_again_in_moto(toy, s3, tmp_path):
    cache: dict = {}
    first = run(toy, tmp_path / "1", cache=cache)
    again = run(toy, tmp_path / "2", cache=cache)
    changed = run(toy, tmp_path / "3", cache=cache, Least="1")
    assert [each.steps["count"].cached for each in (first, again, changed)] == [False, True, False]
    assert again.steps["count"].outputs == first.steps["count"].outputs != changed.steps["count"].outputs


def failed(execution, step: str) -> str:
    assert execution.status == "Failed"
    assert execution.steps[step].status == "Failed"
    return execution.steps[step].reason


def test_a_job_that_fails_ends_the_execution_with_what_it_said_in_moto(toy, s3, tmp_path):
    s3.put_object(Bucket="toy", Key="code/count.sh", Body=b"echo the data is gone >&2; exit 3")
    execution = run(toy, tmp_path)
    assert "exit code 3: the data is gone" in failed(execution, "count")
    assert list(execution.steps) == ["count"]


def test_an_input_prefix_without_objects_fails_the_job_in_moto(toy, s3, tmp_path):
    assert "no S3 objects found under s3://toy/nowhere" in failed(run(toy, tmp_path, Lines="s3://toy/nowhere"), "count")


def test_an_output_that_stays_empty_fails_the_job_in_moto(toy, s3, tmp_path):
    s3.put_object(Bucket="toy", Key="code/count.sh", Body=b"true")
    assert "left nothing in /opt/ml/processing/output/counted" in failed(run(toy, tmp_path), "count")


def test_an_input_of_one_object_arrives_under_its_name_in_moto(toy, s3, tmp_path):
    assert run(toy, tmp_path, Lines="s3://toy/lines/a.txt").status == "Succeeded"
    assert (tmp_path / "count/ml/processing/input/lines/a.txt").read_text() == "1\n2\n"


def test_a_missing_property_file_fails_the_condition_in_moto(toy, s3, tmp_path):
    step(toy, "count")["PropertyFiles"][0]["FilePath"] = "verdict.json"
    assert "counted/verdict.json" in failed(run(toy, tmp_path), "gate")


def test_a_wrong_path_into_a_property_file_fails_the_condition_and_names_what_is_there_in_moto(toy, s3, tmp_path):
    toy["Steps"][0]["Arguments"]["Conditions"][0]["LeftValue"]["Std:JsonGet"]["Path"] = "pased"
    assert "no 'pased' (there are: passed, lines)" in failed(run(toy, tmp_path), "gate")


def test_values_of_different_types_are_not_compared_in_moto(toy, s3, tmp_path):
    toy["Steps"][0]["Arguments"]["Conditions"][0]["RightValue"] = "true"
    assert "compares true (bool) with true (str)" in failed(run(toy, tmp_path), "gate")


def test_a_number_where_the_service_takes_text_is_refused_in_moto(trained, s3, tmp_path):
    step(trained, "train")["Arguments"]["HyperParameters"]["iterations"] = get("Parameters.Iterations")
    assert "CreateTrainingJob.HyperParameters.iterations: 5 is no string" in failed(run(trained, tmp_path), "train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Colour": "red"}, "unknown member Colour"),
        ({"RoleArn": "nobody"}, "does not fit"),
        ({"Environment": {"TEAM": "x" * 5000}}, "above the most"),
        ({"NetworkConfig": {"VpcConfig": {"Subnets": ["s-1"]}}}, "SecurityGroupIds is missing"),
    ],
)
def test_a_request_that_the_service_would_refuse_fails_the_step_in_moto(toy, s3, tmp_path, change, words):
    step(toy, "count")["Arguments"].update(change)
    assert words in failed(run(toy, tmp_path), "count")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "no output 'set_id'"),
        ({"set_id": 7}, "'set_id' is 7, declared as String"),
        (None, "no output 'set_id'"),
    ],
)
def test_a_function_must_answer_with_its_declared_outputs_in_moto(toy, s3, tmp_path, answer, words):
    assert words in failed(run(toy, tmp_path, lambda event, context: answer), "register")


def test_what_a_function_raises_is_the_reason_in_moto(toy, s3, tmp_path):
    def register(event, context):
        raise KeyError("models")

    assert "KeyError: 'models'" in failed(run(toy, tmp_path, register), "register")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"Least": "many"}, "parameter 'Least': 'many' is no Integer"),
        ({"Lesat": "2"}, r"no pipeline parameter 'Lesat' \(there are: Lines, Least"),
        ({"Least": 2}, "given as text"),
        ({"Status": "Agreed"}, "'Agreed' is none of Pending, Approved"),
    ],
)
def test_a_wrong_parameter_starts_nothing(toy, tmp_path, given, words):
    with pytest.raises(Refused, match=words):
        run(toy, tmp_path, **given)


def misspelt_step(trained):
    step(trained, "register")["Arguments"]["models"] = get("Steps.trian.ModelArtifacts.S3ModelArtifacts")


def misspelt_output(trained):
    wrong = get("Steps.count.ProcessingOutputConfig.Outputs['conted'].S3Output.S3Uri")
    step(trained, "train")["Arguments"]["InputDataConfig"][1]["DataSource"]["S3DataSource"]["S3Uri"] = wrong


def undeclared_property_file(trained):
    step(trained, "count")["PropertyFiles"] = []


def property_file_of_no_output(trained):
    step(trained, "count")["PropertyFiles"][0]["OutputName"] = "conted"


def undeclared_parameter(trained):
    del trained["Parameters"][0]


def unknown_variable(trained):
    step(trained, "register")["Arguments"]["run"] = get("Execution.Id")


def circle(trained):
    step(trained, "count")["DependsOn"] = ["train"]


def name_twice(trained):
    trained["Steps"].append(copy.deepcopy(step(trained, "count")))


def unknown_type(trained):
    step(trained, "train")["Type"] = "Trainning"


def endless_cache(trained):
    step(trained, "train")["CacheConfig"]["ExpireAfter"] = "a month"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (misspelt_step, r"'trian' \(there are: register, closed, gate, train, count\)"),
        (misspelt_output, r"no 'conted' \(there are: counted\)"),
        (undeclared_property_file, "no 'gate'"),
        (property_file_of_no_output, r"'conted', which it does not have \(there are: counted\)"),
        (undeclared_parameter, r"no 'Lines' \(there are: Least"),
        (unknown_variable, r"no 'Id' \(there are: PipelineName"),
        (circle, "in a circle"),
        (name_twice, "two steps are called 'count'"),
        (unknown_type, "type Trainning"),
        (endless_cache, "'a month' is no duration"),
    ],
)
def test_a_definition_that_leads_nowhere_is_refused_before_anything_runs(trained, tmp_path, fault, words):
    fault(trained)
    with pytest.raises(Refused, match=words):
        run(trained, tmp_path)
    assert not list(tmp_path.iterdir())
