"""The compiled pipelines: made without AWS, the same twice, what SageMaker would take, and what we refuse ourselves.

Nothing here runs a pipeline (test_rehearsal.py does); shapes are held against botocore's own service model.
"""

import ast
import copy
import dataclasses
import json
import re
from pathlib import Path

import pytest

import wiring
from compiled import (
    BUNDLE,
    NAMES,
    SOURCE,
    compiled,
    compiled_alone,
    compiled_training,
    defaults,
    jobs,
    problems,
    sample,
    step,
)
from scarcegan.errors import UserError
from scarcegan.pipeline import definition
from scarcegan.pipeline.config import Config, load_config
from scarcegan.pipeline.definition import Gate, Pipeline, Step
from scarcegan.sagemaker import compiler, job, parameters, refusals, register_function, start, upsert
from scarcegan.sagemaker.pipelines import configured
from scarcegan.sagemaker.refusals import all_steps


@pytest.fixture(scope="module")
def pipelines() -> dict[str, dict]:
    return compiled()


@pytest.fixture
def training(pipelines) -> dict:
    """The training pipeline, to be changed at will."""
    return copy.deepcopy(pipelines["training"])


ALL_ON = {
    "cloud": {
        "spot": True,
        "network_isolation": False,
        "subnets": ["subnet-0a1b2c3d"],
        "security_groups": ["sg-0a1b2c3d"],
        "mlflow_app": "arn:aws:sagemaker:eu-west-1:111122223333:mlflow-app/app-ABC",
        "tags": {"cost-centre": "42"},
    }
}


@pytest.fixture(scope="module")
def all_on() -> dict[str, dict]:
    """The pipelines with every option of the cloud section."""
    return compiled(**ALL_ON)


@pytest.mark.slow
def test_a_compile_needs_no_network_no_credentials_no_home_and_gives_the_same_bytes_twice(tmp_path):
    first, second = (compiled_alone(tmp_path, seed) for seed in (1, 2))
    assert first.returncode == 0, first.stderr[-3000:]
    told = json.loads(first.stdout)
    assert told["tried"] == []
    assert told["kept"], "environment, boto3's default session and log handlers"
    assert first.stderr == ""
    assert json.loads(second.stdout)["definitions"] == told["definitions"]
    assert set(told["definitions"]) == {"training", "scoring"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("options", ["pipelines", "all_on"])
def test_every_jobs_arguments_pass_the_service_model_of_the_call_they_become(options, request):
    for pipeline in request.getfixturevalue(options).values():
        for found in jobs(pipeline):
            assert problems(found, pipeline) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.update(Extra=1), "unknown member Extra"),
        (lambda a: a.pop("RoleArn"), "RoleArn is missing"),
        (
            lambda a: a["ProcessingResources"]["ClusterConfig"].update(InstanceType="ml.none.large"),
            "is none of the service's values",
        ),
        (lambda a: a["ProcessingResources"]["ClusterConfig"].update(InstanceCount="1"), "is no integer"),
        (lambda a: a["AppSpecification"]["ContainerArguments"].append("x" * 257), "is above the most, 256"),
        (lambda a: a["ProcessingInputs"][0]["S3Input"].update(S3Uri="bucket/key"), "does not fit"),
    ],
)
def test_the_service_model_notices_what_sagemaker_would_refuse(training, change, words):
    split = step(training, "split")
    change(split["Arguments"])
    assert any(words in problem for problem in problems(split, training))


def test_the_first_two_channels_of_a_job_are_code_and_wheels_below_their_digests(pipelines):
    for pipeline in pipelines.values():
        for found in jobs(pipeline):
            arguments = found["Arguments"]
            places = [i["S3Input"]["S3Uri"] for i in arguments.get("ProcessingInputs", ())]
            places += [c["DataSource"]["S3DataSource"]["S3Uri"] for c in arguments.get("InputDataConfig", ())]
            assert places[:2] == [NAMES.uri("code", BUNDLE.digest, ""), NAMES.uri("wheels", BUNDLE.wheels, "")]


def test_a_compiled_job_contains_no_date_and_no_job_name(pipelines):
    for pipeline in pipelines.values():
        for found in jobs(pipeline):
            assert not re.search(r"20\d\d-\d\d-\d\d|-20\d{6,}", json.dumps(found).replace(NAMES.image("training"), ""))
            assert not {"ProcessingJobName", "TrainingJobName"} & set(found["Arguments"])


# Why an execution may set it -> the parameters. Whoever may only start an execution must decide neither about an
# approval nor about what the gate compares nor about which bytes run.
KEPT = {
    "training": {
        "another model, which the same gate measures on the same users": "Train(?!InstanceType).*",
        "the cost and the time of a job, nothing of its result": ".*InstanceType",
        "makes the cache notice new data at the fixed address; recorded": "(Telemetry|Labels)Fingerprint",
    },
    "scoring": {
        "who is scored; nothing but people reads the result": "TelemetryUri|FeaturesStart|FeaturesDays|FeaturesBadRows",
        "the cost and the time of a job, nothing of its result": ".*InstanceType",
        "makes the cache notice new data": "TelemetryFingerprint",
    },
}


@pytest.mark.parametrize("name", KEPT)
def test_every_parameter_of_an_execution_has_a_reason_and_every_reason_a_parameter(pipelines, name):
    reasons = {
        parameter: [why for why, pattern in KEPT[name].items() if re.fullmatch(pattern, parameter)]
        for parameter in defaults(pipelines[name])
    }
    assert [parameter for parameter, found in reasons.items() if len(found) != 1] == []
    assert {found[0] for found in reasons.values()} == set(KEPT[name])


def test_scoring_begins_with_the_check_whose_answer_from_the_registry_is_what_the_model_is_compared_with(pipelines):
    scoring = pipelines["scoring"]
    check, features = scoring["Steps"][:2]
    assert (check["Name"], check["Type"], features["DependsOn"]) == ("check", "Lambda", ["check"])
    assert check["FunctionArn"] == NAMES.register_function_arn
    asked = check["Arguments"]
    assert asked["digest_of"] == "champion"
    assert set(json.loads(asked["rules"])) == set(defaults(scoring)) - {"TelemetryUri"}
    words = step(scoring, "score")["Arguments"]["AppSpecification"]["ContainerArguments"]
    digest = {"Get": "Steps.check.OutputParameters['model_digest']"}
    assert {"Std:Join": {"On": "", "Values": ["--model-digest=", digest]}} in words


def test_training_asks_for_no_champions_digest(pipelines):
    check = step(pipelines["training"], "check")
    assert "digest_of" not in check["Arguments"]
    assert [each["OutputName"] for each in check["OutputParameters"]] == ["checked"]


def test_what_the_gate_compares_and_where_models_and_data_lie_is_fixed_in_the_definition(pipelines):
    training, scoring = pipelines["training"], pipelines["scoring"]
    for name in ("split", "evaluate"):
        words = step(training, name)["Arguments"]["AppSpecification"]["ContainerArguments"]
        assert all(isinstance(word, str) for word in words)
    read = {
        i["InputName"]: i["S3Input"]["S3Uri"]
        for pipeline, name in ((training, "features"), (training, "evaluate"), (scoring, "score"))
        for i in step(pipeline, name)["Arguments"]["ProcessingInputs"]
    }
    assert read["telemetry"] == NAMES.uri("data", "telemetry", "")
    assert read["labels"] == NAMES.uri("data", "labels", "")
    assert read["champion"] == read["model"] == NAMES.uri("champion", "")


def test_data_elsewhere_in_s3_is_read_as_a_folder_that_no_other_folder_shares():
    data = {"path": "s3://other/data", "labels": "s3://other/labels.csv"}
    features = step(compiled_training(data=data), "features")["Arguments"]["ProcessingInputs"]
    read = {i["InputName"]: i["S3Input"]["S3Uri"] for i in features}
    assert (read["telemetry"], read["labels"]) == ("s3://other/data/", "s3://other/labels.csv")


def test_every_hyperparameter_and_machine_is_a_parameter(pipelines):
    found = defaults(pipelines["training"])
    config = Config()
    values = config.train.model_dump(exclude={"scarcegan"}) | config.train.scarcegan.model_dump()
    for name, value in values.items():
        given = found[parameters.argument_name("train", name.replace("_", "-"))]
        expected = definition.argument_value(value)
        assert given == (
            str(expected).lower()
            if isinstance(expected, bool)
            else expected or job.EMPTY_VALUE
            if expected == ""
            else expected
        )
    for name in ("features", "split", "train", "baseline", "evaluate"):
        assert found[parameters.instance_name(name)] == getattr(config.cloud.instances, name)
    assert "" not in found.values(), "SageMaker refuses an empty parameter"


def test_steps_read_what_earlier_steps_wrote_by_reference_so_that_a_cached_step_leads_to_its_old_output(pipelines):
    evaluate = step(pipelines["training"], "evaluate")["Arguments"]
    read = {i["InputName"]: i["S3Input"]["S3Uri"] for i in evaluate["ProcessingInputs"]}
    assert read["test"] == {"Get": "Steps.split.ProcessingOutputConfig.Outputs['test'].S3Output.S3Uri"}
    assert read["models"] == {"Get": "Steps.train.ModelArtifacts.S3ModelArtifacts"}
    words = evaluate["AppSpecification"]["ContainerArguments"]
    assert words[words.index("--models") + 1] == "/opt/ml/processing/input/models/models"
    assert words[words.index("--champion") + 1] == "/opt/ml/processing/input/champion"


@pytest.mark.slow
def test_a_new_step_is_an_entry_and_nothing_more_in_the_cloud_too():
    config = Config()
    pipeline = compiler.pipelines(config, "v1")[0]
    entry = Step("headcount", "scarcegan.steps.headcount", {"features": "features.features"}, ("count",))
    steps = (*pipeline.steps[:1], entry, *pipeline.steps[1:])
    longer = Pipeline(pipeline.name, pipeline.sources, steps, pipeline.optional)
    found = json.loads(compiler.compile_pipeline(longer, config, NAMES, BUNDLE).definition)
    assert defaults(found)["HeadcountInstanceType"] == "ml.m5.xlarge"
    assert problems(step(found, "headcount"), found) == []


def test_new_data_behind_an_unchanged_place_is_a_cache_miss_for_the_steps_that_read_it_and_for_no_other(pipelines):
    training = pipelines["training"]
    variables = {found["Name"]: found["Arguments"].get("Environment", {}) for found in jobs(training)}
    assert variables == {
        "features": {
            "TELEMETRY_FINGERPRINT": get("Parameters.TelemetryFingerprint"),
            "LABELS_FINGERPRINT": get("Parameters.LabelsFingerprint"),
        },
        **{name: {} for name in ("split", "train", "baseline", "evaluate")},
    }


def test_the_cache_is_on_every_job_but_never_on_the_registration_nor_on_what_is_measured_against_the_champion(
    pipelines,
):
    cached = {found["Name"]: found.get("CacheConfig") for pipeline in pipelines.values() for found in jobs(pipeline)}
    assert [name for name, config in cached.items() if not config] == ["evaluate"]
    assert {str(config) for config in cached.values() if config} == {"{'Enabled': True, 'ExpireAfter': 'P30D'}"}
    assert "CacheConfig" not in step(pipelines["training"], "register")


def test_every_job_is_tried_again_after_throttling_missing_capacity_and_faults_of_sagemaker(pipelines):
    wait = {"BackoffRate": 2.0, "IntervalSeconds": 60, "MaxAttempts": Config().retries}
    reasons = (
        ["Step.SERVICE_FAULT", "Step.THROTTLING"],
        ["SageMaker.RESOURCE_LIMIT"],
        ["SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR"],
    )
    for pipeline in pipelines.values():
        for found in jobs(pipeline):
            assert found["RetryPolicies"] == [{**wait, "ExceptionType": reason} for reason in reasons]


def test_scores_are_written_where_only_the_scoring_pipelines_jobs_may_write(pipelines):
    def folders(pipeline):
        text = json.dumps(pipelines[pipeline])
        return {folder for folder in ("runs", "scoring", "scored") if f'"s3://{NAMES.bucket}/{folder}"' in text}

    assert (folders("training"), folders("scoring")) == ({"runs"}, {"scoring", "scored"})


def test_no_retries_and_no_cache_when_none_are_wanted():
    for found in jobs(compiled_training(retries=0, cloud={"cache_days": 0})):
        assert "RetryPolicies" not in found and "CacheConfig" not in found


def test_everything_a_job_writes_and_its_disk_are_encrypted_with_the_projects_key_and_it_reaches_no_network(pipelines):
    for name, found in [(name, found) for name, pipeline in pipelines.items() for found in jobs(pipeline)]:
        arguments = found["Arguments"]
        output = arguments.get("ProcessingOutputConfig") or arguments["OutputDataConfig"]
        machine = (
            arguments["ProcessingResources"]["ClusterConfig"]
            if "ProcessingResources" in arguments
            else arguments["ResourceConfig"]
        )
        assert output["KmsKeyId"] == NAMES.key_alias_arn and machine["VolumeKmsKeyId"] == NAMES.arn("kms", "key/KEY-ID")
        assert arguments.get("NetworkConfig", arguments)["EnableNetworkIsolation"] is True
        assert arguments["RoleArn"] == NAMES.role_arn({"training": "job", "scoring": "scoring-job"}[name])
        assert arguments["StoppingCondition"]["MaxRuntimeInSeconds"] == 12 * 3600
        project, team = (
            {"Key": "sagemaker:project-name", "Value": NAMES.project},
            {"Key": "team", "Value": "data-science"},
        )
        assert project in arguments["Tags"] and team in arguments["Tags"]


def test_vpc_spot_mlflow_and_tags_are_there_when_config_yaml_says_so(all_on):
    train = copy.deepcopy(step(all_on["training"], "train")["Arguments"])
    assert train["EnableManagedSpotTraining"] is True
    assert train["StoppingCondition"]["MaxWaitTimeInSeconds"] == 24 * 3600
    assert train["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"
    assert train["CheckpointConfig"]["S3Uri"] == NAMES.uri("checkpoints", "train"), (
        "part of the cache key: no execution"
    )
    assert train["VpcConfig"] == {"SecurityGroupIds": ["sg-0a1b2c3d"], "Subnets": ["subnet-0a1b2c3d"]}
    assert train["EnableNetworkIsolation"] is False
    assert json.loads(train["Environment"].pop("MLFLOW_RUN_CONTEXT")) == {"team": "data-science"}
    assert train["Environment"] == {
        "MLFLOW_TRACKING_URI": ALL_ON["cloud"]["mlflow_app"],
        "MLFLOW_EXPERIMENT_NAME": NAMES.project,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    split = step(all_on["training"], "split")["Arguments"]
    assert split["NetworkConfig"]["VpcConfig"] == train["VpcConfig"]
    assert split["NetworkConfig"]["EnableNetworkIsolation"] is False
    assert "MLFLOW_TRACKING_URI" not in split["Environment"]
    assert {"Key": "cost-centre", "Value": "42"} in split["Tags"]


def test_without_aws_the_id_of_the_projects_key_is_a_placeholder_as_disks_take_no_alias(pipelines):
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProcessingClusterConfig.html"""
    split, train = (step(pipelines["training"], name)["Arguments"] for name in ("split", "train"))
    for volume in (split["ProcessingResources"]["ClusterConfig"], train["ResourceConfig"]):
        assert volume["VolumeKmsKeyId"] == NAMES.arn("kms", "key/KEY-ID")


@pytest.mark.slow
def test_a_key_of_ones_own_or_none_for_machines_with_local_disks():
    own = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    for chosen, expected in ((own, own), ("none", None)):
        split = step(compiled_training(cloud={"volume_key": chosen}), "split")["Arguments"]
        assert split["ProcessingResources"]["ClusterConfig"].get("VolumeKmsKeyId") == expected


def test_nothing_is_registered_unless_gate_json_says_so_and_the_failure_says_its_reason(pipelines):
    gate = step(pipelines["training"], "gate")
    evaluate = step(pipelines["training"], "evaluate")
    assert evaluate["PropertyFiles"] == [{"PropertyFileName": "gate", "OutputName": "gate", "FilePath": "gate.json"}]
    read = {"Get": "Steps.evaluate.PropertyFiles.gate"}
    [condition] = gate["Arguments"]["Conditions"]
    assert condition == {
        "Type": "Equals",
        "LeftValue": {"Std:JsonGet": {"PropertyFile": read, "Path": "passed"}},
        "RightValue": True,
    }
    assert [found["Name"] for found in gate["Arguments"]["IfSteps"]] == ["register"]
    [closed] = gate["Arguments"]["ElseSteps"]
    assert {"Std:JsonGet": {"PropertyFile": read, "Path": "reason"}} in closed["Arguments"]["ErrorMessage"]["Std:Join"][
        "Values"
    ]


def get(name: str) -> dict[str, str]:
    return {"Get": name}


def own_parameters(event: dict) -> dict[str, dict[str, str]]:
    """The fields that an event must have for the parameters that its rules name: each the parameter of its name."""
    return {name: get(f"Parameters.{name}") for name in json.loads(event["rules"])}


def test_registration_calls_the_projects_function_with_exactly_this_flat_event(pipelines):
    register = step(pipelines["training"], "register")
    assert register["FunctionArn"] == NAMES.register_function_arn
    event = register["Arguments"]
    folder = {"On": "/", "Values": [NAMES.uri("runs"), get("Execution.PipelineExecutionId"), "register", "packages"]}
    prints = {"On": "-", "Values": [get("Parameters.TelemetryFingerprint"), get("Parameters.LabelsFingerprint")]}
    assert event == {
        "models": get(TRAINED),
        "models_folder": "models",
        "evaluation": get(of_output("evaluate", "evaluation")),
        "gate": get(of_output("evaluate", "gate")),
        "baseline": get(BASELINE),
        "packages_out": {"Std:Join": folder},
        "group": "rare-players",
        "classes": "dormant,normal,heavy,risky",
        "run": get("Execution.PipelineExecutionId"),
        "execution_arn": get("Execution.PipelineExecutionArn"),
        "data_fingerprint": {"Std:Join": prints},
        "code_version": BUNDLE.digest,
        "config": event["config"],  # test_the_settings_a_model_is_registered_with_are_those_of_its_execution
        "rules": event["rules"],
        **own_parameters(event),
    }
    assert {"TrainIterations", "TrainInstanceType"} < set(own_parameters(event)) == set(defaults(pipelines["training"]))
    assert [output["OutputName"] for output in register["OutputParameters"]] == ["set_id", "versions", "group"]


@pytest.mark.parametrize(("name", "asked"), [("training", {}), ("scoring", {"digest_of": "champion"})])
def test_the_check_is_asked_for_the_parameters_of_the_execution_and_nothing_else(pipelines, name, asked):
    event = step(pipelines[name], "check")["Arguments"]
    assert event == {"rules": event["rules"], **own_parameters(event), **asked}


def test_every_step_waits_for_the_check_or_for_what_it_reads(pipelines):
    found = {name: {s["Name"]: s.get("DependsOn") for s in all_steps(p["Steps"])} for name, p in pipelines.items()}
    nothing = dict.fromkeys(("check", "split", "train", "baseline", "evaluate", "gate", "register", "gate-closed"))
    assert found["training"] == {**nothing, "features": ["check"]}
    assert found["scoring"] == {"check": None, "features": ["check"], "score": None}


def test_a_step_that_is_to_wait_for_one_of_which_it_reads_nothing_does_so():
    source = compiler.pipelines(Config(), "v1")[0]
    waiting = tuple(
        dataclasses.replace(s, after=(*s.after, "baseline")) if s.name in ("evaluate", "register") else s
        for s in source.steps
    )
    pipeline = json.loads(
        compiler.compile_pipeline(dataclasses.replace(source, steps=waiting), Config(), NAMES, BUNDLE).definition
    )
    for name in ("evaluate", "register"):
        assert "baseline" in step(pipeline, name)["DependsOn"]


def test_a_job_gets_the_machine_and_the_parameters_that_carry_its_name(pipelines):
    size, image = Config().cloud.volume_gb, NAMES.image("training")
    for source in compiler.pipelines(Config(), "v1"):
        for found in jobs(pipelines[source.name]):
            arguments, of_step = found["Arguments"], source.step(found["Name"])
            machine = arguments.get("ResourceConfig") or arguments["ProcessingResources"]["ClusterConfig"]
            instance = get(f"Parameters.{parameters.instance_name(found['Name'])}")
            assert (machine["InstanceType"], machine["InstanceCount"], machine["VolumeSizeInGB"]) == (instance, 1, size)
            container = arguments.get("AppSpecification") or arguments["AlgorithmSpecification"]
            assert container.get("ImageUri", container.get("TrainingImage")) == image
            given = values_of(arguments)
            assert given.keys() == of_step.arguments.keys()
            for argument in of_step.parameters:
                assert given[argument] == get(f"Parameters.{parameters.argument_name(found['Name'], argument)}")


def test_a_job_starts_the_script_that_lies_in_its_channel_of_code(pipelines):
    """The toolkit in AWS's image reads a training job's: https://github.com/aws/sagemaker-training-toolkit"""
    for source in compiler.pipelines(Config(), "v1"):
        for found in jobs(pipelines[source.name]):
            arguments, of_step = found["Arguments"], source.step(found["Name"])
            if found["Type"] == "Processing":
                started = arguments["AppSpecification"]
                assert started["ContainerEntrypoint"] == ["bash", "/opt/ml/processing/input/code/job.sh"]
                assert started["ContainerArguments"][0] == of_step.module
                modes = {channel["S3Input"]["S3InputMode"] for channel in arguments["ProcessingInputs"]}
                uploads = {each["S3Output"]["S3UploadMode"] for each in arguments["ProcessingOutputConfig"]["Outputs"]}
                assert (modes, uploads) == ({"File"}, {"EndOfJob"}), "job.py reads whole files, and writes at its end"
            else:
                given = arguments["HyperParameters"]
                assert {name: given[name] for name in given if name not in of_step.arguments} == {
                    "sagemaker_program": "job.sh",
                    "sagemaker_submit_directory": "/opt/ml/input/data/code",
                    "sagemaker_region": NAMES.region,
                    "sagemaker_container_log_level": "20",
                    job.MODULE_PARAMETER: of_step.module,
                    job.OUTPUTS_PARAMETER: ",".join(of_step.outputs),
                }


def values_of(arguments: dict) -> dict[str, object]:
    """A step's own arguments in those of its job, by name; a reference stands alone."""
    if "HyperParameters" in arguments:
        ours = ("sagemaker_", job.MODULE_PARAMETER, job.OUTPUTS_PARAMETER)
        given = {key: value for key, value in arguments["HyperParameters"].items() if not key.startswith(ours)}
        return {key: alone(value) for key, value in given.items()}
    found: dict[str, object] = {}
    for word in arguments["AppSpecification"]["ContainerArguments"]:
        name, _, value = (word["Std:Join"]["Values"][0] if isinstance(word, dict) else word).partition("=")
        if name.startswith("--") and (isinstance(word, dict) or "=" in word):
            found[name[2:]] = word["Std:Join"]["Values"][1] if isinstance(word, dict) else value
    return found


def alone(value: object) -> object:
    return value["Std:Join"]["Values"][0] if isinstance(value, dict) and "Std:Join" in value else value


def test_the_settings_a_model_is_registered_with_are_those_of_its_execution(pipelines):
    training = pipelines["training"]
    event = step(training, "register")["Arguments"]
    compiled_with = json.loads(Config().model_dump_json(exclude={"local", "serve", "cloud", "retries"}))
    assert register_function.settings_of(sample(event, defaults(training))) == compiled_with
    other = {"TrainIterations": 2000, "TrainTrunk": "8,4", "TrainExpert": "false", "TrainClassWeights": "1,1,1,2.5"}
    found = register_function.settings_of(sample(event, defaults(training) | other))["train"]
    research = found["scarcegan"]
    assert (found["iterations"], research["trunk"], research["expert"]) == (2000, [8, 4], False)
    assert found["class_weights"] == [1, 1, 1, 2.5]


def test_no_value_of_a_parameter_is_part_of_a_json_text(pipelines):
    for found in all_steps(pipelines["training"]["Steps"]):
        if found["Type"] == "Lambda":
            joined = [text for text in map(json.dumps, found["Arguments"].values()) if "Std:Join" in text]
            assert all(text.count("Parameters.") == text.count("Fingerprint") for text in joined)
            assert isinstance(found["Arguments"]["rules"], str)


def test_words_from_a_list_are_refused_by_sagemaker_itself_when_they_are_not_in_it(pipelines):
    choices = {found["Name"]: found.get("EnumValues") for found in pipelines["training"]["Parameters"]}
    assert choices["TrainScaling"] == ["standard", "robust"]
    assert choices["TrainExpert"] == ["true", "false"]
    assert choices["TrainTrunk"] is None


def test_the_metric_expressions_read_the_lines_the_train_step_prints(pipelines):
    source = (SOURCE / "scarcegan/model/gan/scarcegan.py").read_text(encoding="utf-8")
    [reported] = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "REPORTED"
    ]
    line = "Iteration=50;" + "".join(
        f" {name}={value:.6f};" for name, value in zip(reported, (0.5, -1.25, 1e-7, 3e9), strict=True)
    )
    metrics = step(pipelines["training"], "train")["Arguments"]["AlgorithmSpecification"]["MetricDefinitions"]
    found = {metric["Name"]: float(re.search(metric["Regex"], line)[1]) for metric in metrics}
    assert found == dict(zip(reported, (0.5, -1.25, 0.0, 3e9), strict=True))


def test_a_long_value_travels_in_pieces_that_the_job_joins_again():
    columns = [f"feature_number_{number}" for number in range(60)]
    words = step(compiled_training(data={"columns": columns}), "features")["Arguments"]["AppSpecification"][
        "ContainerArguments"
    ]
    fixed = [word for word in words if isinstance(word, str)]
    assert max(map(len, fixed)) <= 256
    assert f"--columns={','.join(columns)}" in job.join_arguments(fixed)


def test_more_than_sagemaker_takes_is_refused_before_it_is_sent():
    columns = [f"feature_number_{number}" for number in range(3000)]
    with pytest.raises(ValueError, match=r"step 'features': \d+ container arguments, SageMaker takes 100"):
        compiled_training(data={"columns": columns})


def wired(name: str, pipeline: dict, **settings) -> list[str]:
    """What a compiled pipeline wires otherwise than its definition; settings: sections of config.yaml."""
    source = {"training": definition.training, "scoring": definition.scoring}[name](Config.model_validate(settings))
    return list(wiring.faults(pipeline, source, NAMES.bucket))


@pytest.mark.parametrize(("options", "settings"), [("pipelines", {}), ("all_on", ALL_ON)])
def test_every_step_reads_what_the_definition_names_and_writes_for_its_execution_alone(options, settings, request):
    for name, pipeline in request.getfixturevalue(options).items():
        assert wired(name, pipeline, **settings) == []


RUN_ID = {"Get": "Execution.PipelineExecutionId"}
TRAINED = "Steps.train.ModelArtifacts.S3ModelArtifacts"


def of_output(step: str, output: str) -> str:
    return f"Steps.{step}.ProcessingOutputConfig.Outputs['{output}'].S3Output.S3Uri"


BASELINE = of_output("baseline", "baseline")


def everywhere(old, new):
    return lambda pipeline: json.loads(json.dumps(pipeline).replace(json.dumps(old), json.dumps(new)))


def in_step(name: str, old, new):
    """Replace a value in the arguments of one step."""

    def change(pipeline: dict) -> dict:
        found = step(pipeline, name)
        found["Arguments"] = everywhere(old, new)(found["Arguments"])
        return pipeline

    return change


@pytest.mark.parametrize(
    ("name", "seed", "words"),
    [
        ("training", everywhere(RUN_ID, "latest"), "split: writes labelled to s3://.*/runs/latest/split/labelled"),
        ("scoring", everywhere(RUN_ID, "latest"), "score: writes scored to .*, which belongs to no execution"),
        ("training", in_step("train", RUN_ID, "latest"), "train: writes  to .*/latest/train, which belongs to no"),
        (
            "training",
            in_step(
                "register", {"Get": of_output("baseline", "baseline")}, {"Get": of_output("evaluate", "evaluation")}
            ),
            "register: reads .*'evaluation'.* as baseline, not .*'baseline'",
        ),
        (
            "training",
            in_step("register", "models", "curves"),
            "register: is told that models is in curves, not in models",
        ),
        (
            "training",
            in_step("evaluate", {"Get": of_output("split", "test")}, {"Get": of_output("split", "validation")}),
            "evaluate: reads .*'validation'.* as test, not",
        ),
        (
            "training",
            in_step("evaluate", "/opt/ml/processing/input/labelled", "/opt/ml/processing/input/unlabelled"),
            "evaluate: is told that labelled is in .*/unlabelled",
        ),
        (
            "training",
            in_step("train", {"Get": of_output("split", "folds")}, {"Get": of_output("split", "test")}),
            "train: reads .*'test'.* as folds, not",
        ),
        (
            "training",
            in_step("features", NAMES.uri("data", "telemetry", ""), NAMES.uri("data", "labels", "")),
            "features: reads .*data/labels/.* as telemetry, not",
        ),
        (
            "scoring",
            in_step("score", NAMES.uri("champion", ""), NAMES.uri("runs", "e1", "")),
            "score: names s3://.*/runs/e1/, which is neither its execution's nor shared",
        ),
        (
            "training",
            in_step("baseline", {"Get": TRAINED}, f"s3://{NAMES.bucket}/runs/e1/train/output/model.tar.gz"),
            "baseline: names s3://.*/runs/e1/.*, which is neither its execution's nor shared",
        ),
        (
            "training",
            in_step("split", "validation", "labelled"),
            "split: writes labelled to .*, where split.labelled is|split: writes .*, not",
        ),
    ],
)
def test_a_step_that_is_wired_otherwise_than_the_definition_says_is_seen(pipelines, name, seed, words):
    seeded = seed(copy.deepcopy(pipelines[name]))
    assert any(re.match(words, fault) for fault in wired(name, seeded)), wired(name, seeded)


def replace(pipeline: dict, old: str, new: str) -> dict:
    return json.loads(json.dumps(pipeline).replace(old, new))


def rename_output(pipeline: dict) -> dict:
    step(pipeline, "split")["Arguments"]["ProcessingOutputConfig"]["Outputs"][3]["OutputName"] = "tset"
    return pipeline


def rename_file(pipeline: dict) -> dict:
    step(pipeline, "evaluate")["PropertyFiles"][0]["OutputName"] = "gaet"
    return pipeline


def drop_file(pipeline: dict) -> dict:
    del step(pipeline, "evaluate")["PropertyFiles"]
    return pipeline


def rename_channel(pipeline: dict) -> dict:
    channel = step(pipeline, "split")["Arguments"]["ProcessingInputs"][2]["S3Input"]
    channel["LocalPath"] = "/opt/ml/processing/input/feature"
    return pipeline


def swap(pipeline: dict) -> dict:
    pipeline["Steps"][1], pipeline["Steps"][2] = pipeline["Steps"][2], pipeline["Steps"][1]
    return pipeline


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (rename_output, r"refers to Steps\.split\.\S+'test'\S+: it has"),
        (rename_file, "property file 'gate' is in output 'gaet', which the step does not have"),
        (drop_file, r"step 'gate' refers to Steps\.evaluate\.PropertyFiles\.gate: it has"),
        (rename_channel, "the arguments name /opt/ml/processing/input/features, which is neither a channel"),
        (
            rename_channel,
            "'features' is the folder /opt/ml/processing/input/feature, which the arguments of the job do not name",
        ),
        (swap, "step 'split' refers to .*: no step 'features' before it"),
        (lambda p: replace(p, "Parameters.TrainIterations", "Parameters.TrainIteration"), "no such parameter"),
        (
            lambda p: replace(p, "Parameters.TrainIterations", "Parameters.TrainSeeds"),
            "'TrainIterations' is read by no step",
        ),
        (lambda p: replace(p, "Execution.PipelineExecutionId", "Execution.Id"), "executions have no such variable"),
        (lambda p: replace(p, '"Name": "baseline"', '"Name": "split"'), "two steps are called 'split'"),
        (
            lambda p: replace(p, '"OutputName": "folds"', '"OutputName": "test2"'),
            "output 'test' is a prefix of output 'test2'",
        ),
        (
            lambda p: replace(p, '"ChannelName": "wheels"', '"ChannelName": "weels"'),
            "step 'train': no channel 'wheels'",
        ),
    ],
)
def test_what_the_sdk_lets_pass_and_no_execution_survives_is_refused_and_named(training, seed, words):
    refusals.refuse_invalid_pipeline(training)
    with pytest.raises(ValueError, match=words):
        refusals.refuse_invalid_pipeline(seed(training))


def test_gates_that_stand_side_by_side_are_refused_for_sagemaker_nests_them():
    source = Step("a", "toy.a", {"x": "x"}, ("one", "two"))
    both = Step("b", "toy.b", {"x": "x"}, ("out",), after=("first", "second"))
    toy = Pipeline("toy", ("x",), (source, Gate("first", "a.one"), Gate("second", "a.two"), both))
    with pytest.raises(ValueError, match=r"waits for the gates .* neither waits for the other"):
        compiler.gate_of(toy, both)


def test_a_parameter_must_be_an_argument_and_two_must_not_share_a_name():
    with pytest.raises(ValueError, match="step 'a' has no argument 'iterations' to be a parameter"):
        Pipeline("toy", (), (Step("a", "toy.a", {}, ("out",), parameters={"iterations": "train.iterations"}),))
    steps = (
        Step("a", "toy.a", {}, ("out",), {"b-c": 1}, parameters={"b-c": "train.seeds"}),
        Step("a-b", "toy.b", {}, ("out",), {"c": 1}, parameters={"c": "train.seed"}),
    )
    with pytest.raises(ValueError, match="would both be called ABC"):
        parameters.pipeline_parameters(Pipeline("toy", (), steps), Config(), NAMES)


def changed(**settings):
    return start.parameter_overrides(configured("training", Config(), NAMES), Config.model_validate(settings))


def test_what_may_change_for_one_execution_is_passed_and_nothing_else():
    assert changed() == {}
    assert changed(cloud={"endpoint": {"wait_minutes": 7}}) == {}, "no part of a pipeline"
    assert changed(train={"iterations": 2000}) == {"TrainIterations": "2000"}
    assert changed(cloud={"instances": {"train": "ml.c5.4xlarge"}}) == {"TrainInstanceType": "ml.c5.4xlarge"}
    assert changed(train={"scarcegan": {"expert": False}, "class_weights": [1.0, 1.0, 1.0, 2.0]}) == {
        "TrainExpert": "false",
        "TrainClassWeights": "1.0,1.0,1.0,2.0",
    }


@pytest.mark.parametrize("key", upsert.WITHOUT_EFFECT)
def test_a_key_that_is_said_to_change_nothing_in_aws_changes_no_pipeline(tmp_path, key):
    (tmp_path / "config.yaml").write_text("{}")
    value = {"cloud.instances.monitor": "ml.m5.large", "monitor.drift_threshold": "0.2"}.get(key, "3")
    before, after = Config(), load_config(tmp_path / "config.yaml", [f"{key}={value}", "monitor.of_windows=4"])
    assert changed(**after.model_dump()) == {} and after != before


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"features": {"window_days": 40}}, r"features\.window_days\."),
        ({"gate": {"minimum": 0.0}}, r"gate\.minimum\."),
        ({"gate": {"champion": "report"}}, r"gate\.champion\."),
        ({"evaluate": {"seed": 8}}, r"evaluate\.seed\."),
        ({"split": {"test_share": 0.01}}, r"split\.test_share\."),
        ({"data": {"start": "2026-01-05"}}, r"data\.start\."),
        ({"data": {"path": "s3://mine/data/"}}, r"data\.path\."),
        ({"labels": {"rare_class": "fraud"}}, r" labels\.rare_class\. Write"),
        ({"cloud": {"spot": True}}, "cloud.spot"),
        ({"cloud": {"tags": {"a": "b"}}}, "cloud.tags"),
        ({"retries": 3}, r" retries\. Write"),
        ({"project": {"team": "fraud"}}, "project.team"),
    ],
)
def test_what_only_a_new_definition_can_change_is_refused_for_one_execution(settings, key):
    with pytest.raises(UserError, match=f"cannot change for one execution:.*{key}.*scarcegan upsert"):
        changed(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"subnets": ["subnet-1"]}, "give both or neither"),
        ({"mlflow_app": ALL_ON["cloud"]["mlflow_app"]}, "no job reaches mlflow_app"),
        ({"tags": {"aws:mine": "1"}}, "AWS keeps tags"),
        ({"instances": {"train": "m5.large"}}, "should match pattern"),
    ],
)
def test_a_cloud_section_that_would_fail_is_refused_when_it_is_read(tmp_path: Path, settings, words):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"cloud": settings}), encoding="utf-8")
    with pytest.raises(UserError, match=words):
        load_config(path)
