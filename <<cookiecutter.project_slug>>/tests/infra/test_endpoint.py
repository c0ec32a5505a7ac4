"""endpoint.yaml: what `scarcegan release prepare` writes fits it, and what it comes to is what AWS's services take.

Nothing is deployed: the template is worked out (stacks.py) and held against botocore's own descriptions of the calls.
"""

import re
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from released import CONFIG, KEY, NAMES, TOPIC, package, package_files
from scarcegan.aws.accounts import STAGES
from scarcegan.aws.names import Names
from scarcegan.pipeline.config import Config, load_config
from scarcegan.release import release
from scarcegan.release.release import ReleaseInputs, stage_parameters
from stacks import Stack

HERE = Names(NAMES.project, "111122223333", "eu-west-1")  # stacks.py's account
GIVEN = {
    "as it comes": (),
    "linear": ("cloud.endpoint.traffic=linear",),
    "all at once": ("cloud.endpoint.traffic=all_at_once", "cloud.endpoint.min_instances=1"),
    "serverless staging": ("cloud.endpoint.serverless_staging=true", "cloud.endpoint.capture_percentage=0"),
    "vpc": ("cloud.subnets=[subnet-1a, subnet-2b]", "cloud.security_groups=[sg-1]", "cloud.tags={owner: care team}"),
}
CASES = [(given, stage) for given in GIVEN for stage in STAGES]


@pytest.fixture
def parameters(tmp_path):
    """The parameters of a stage for some of config.yaml's choices."""

    def of(given: str, stage: str) -> dict[str, str]:
        (tmp_path / "config.yaml").write_text(CONFIG)
        config = load_config(tmp_path / "config.yaml", GIVEN[given])
        package_files(tmp_path / "package")
        arn = HERE.arn("sagemaker", "model-package/risky-players/5")
        around = ReleaseInputs(arn, KEY, TOPIC, "functions/rare-share-0a1b.zip", "20261121T100000Z")
        found = release.release_of_package(config, package(), tmp_path / "package", None, around)
        return dict(found.stages[stage]["Parameters"])

    return of


@pytest.fixture
def stack(parameters):
    return lambda given="as it comes", stage="production": Stack("endpoint.yaml", parameters(given, stage))


def one(stack: Stack, kind: str) -> dict[str, Any]:
    [found] = stack.of_type(kind).values()
    return found


# -- parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "stage"), CASES)
def test_every_parameter_is_written_and_accepted_checked_statically(parameters, given, stage):
    declared = Stack("endpoint.yaml", parameters(given, stage)).body["Parameters"]
    written = parameters(given, stage)
    assert set(written) == set(declared)
    for name, value in written.items():
        rule = declared[name]
        assert re.fullmatch(rule.get("AllowedPattern", "(?s).*"), value), name
        assert value in [str(known) for known in rule.get("AllowedValues", [value])], name
        if rule["Type"] == "Number":
            assert float(rule.get("MinValue", "-inf")) <= float(value) <= float(rule.get("MaxValue", "inf")), name
        assert len(value) <= int(rule.get("MaxLength", 4096)), name


def test_the_function_beside_an_endpoint_runs_no_other_functions_code_checked_statically(parameters):
    pattern = Stack("endpoint.yaml", parameters("as it comes", "staging")).body["Parameters"]["RareShareCodeKey"]
    for key, fits in (
        ("functions/rare-share-0a1b.zip", True),
        ("functions/register-0a1b.zip", False),
        ("code/x.zip", False),
    ):
        assert bool(re.fullmatch(pattern["AllowedPattern"], key)) == fits


def test_every_choice_of_config_yaml_lies_within_the_template_checked_statically(parameters):
    body = Stack("endpoint.yaml", parameters("as it comes", "staging")).body["Parameters"]
    assert {"CANARY", "LINEAR", "ALL_AT_ONCE"} == set(body["Traffic"]["AllowedValues"])
    assert (body["WaitSeconds"]["MinValue"], body["WaitSeconds"]["MaxValue"]) == (60, 30 * 60)
    assert body["ServerlessMemory"]["AllowedValues"] == [1024, 2048, 3072, 4096, 5120, 6144]


# -- what it comes to -----------------------------------------------------------------------------------------------

# Resource -> service, operation, and what CloudFormation adds to the properties by itself.
CALLS = {
    "AWS::SageMaker::Model": ("sagemaker", "CreateModel", {"ModelName": "m"}),
    "AWS::SageMaker::EndpointConfig": ("sagemaker", "CreateEndpointConfig", {"EndpointConfigName": "c"}),
    "AWS::SageMaker::Endpoint": ("sagemaker", "UpdateEndpoint", {}),
    "AWS::CloudWatch::Alarm": ("cloudwatch", "PutMetricAlarm", {"AlarmName": "a"}),
    "AWS::Lambda::Function": ("lambda", "CreateFunction", {}),
}
CALLED = {"AWS::Lambda::Function": {"KmsKeyArn": "KMSKeyArn"}}  # otherwise than CloudFormation calls it
NUMBERS = ("integer", "long", "float", "double")


def as_called(value: Any, shape: Any) -> Any:
    """The value as CloudFormation hands it on: text becomes a number where the service wants one."""
    if shape.type_name == "structure" and isinstance(value, dict):
        return {name: as_called(v, shape.members[name]) if name in shape.members else v for name, v in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [as_called(item, shape.member) for item in value]
    if shape.type_name in NUMBERS and isinstance(value, str):
        return float(value) if shape.type_name in ("float", "double") else int(value)
    return value


def problems(kind: str, properties: dict[str, Any]) -> str:
    """What botocore's description of the call has against the properties of a resource; "" for nothing."""
    service, operation, named = CALLS[kind]
    shape = boto3.client(service, "eu-west-1").meta.service_model.operation_model(operation).input_shape
    renamed = {CALLED.get(kind, {}).get(name, name): value for name, value in properties.items()}
    asked = as_called({**named, **renamed}, shape)
    unknown = set(asked) - set(shape.members)
    report = ParamValidator().validate({k: v for k, v in asked.items() if k not in unknown}, shape)
    return report.generate_report() + "".join(f"unknown: {name}" for name in sorted(unknown))


@pytest.mark.parametrize(("given", "stage"), CASES)
def test_what_the_template_comes_to_fits_the_services_own_models_checked_statically(stack, given, stage):
    made = stack(given, stage)
    for kind in CALLS:
        for name, properties in made.of_type(kind).items():
            assert problems(kind, properties) == "", name


def test_a_wrong_property_would_be_seen(stack):
    properties = one(stack(), "AWS::SageMaker::EndpointConfig")
    properties["ProductionVariants"][0]["InstanceCount"] = 1
    assert "InstanceCount" in problems("AWS::SageMaker::EndpointConfig", properties)


def test_names_are_those_of_names_py_checked_statically(stack):
    for stage in STAGES:
        made = stack(stage=stage)
        assert one(made, "AWS::SageMaker::Endpoint")["EndpointName"] == HERE.endpoint(stage)
        assert one(made, "AWS::SageMaker::Model")["ExecutionRoleArn"] == HERE.role_arn(f"serve-{stage}")
        function = one(made, "AWS::Lambda::Function")
        assert function["Role"] == HERE.role_arn(f"count-{stage}")
        assert function["Code"] == {"S3Bucket": HERE.bucket, "S3Key": "functions/rare-share-0a1b.zip"}
        names = {parameter["Name"] for parameter in made.of_type("AWS::SSM::Parameter").values()}
        assert names == {
            HERE.parameter(f"{stage}/{what}") for what in ("endpoint", "endpoint-config", "model", "version")
        }


def test_the_longest_project_name_stays_within_the_limits(parameters):
    written = parameters("as it comes", "production") | {"SageMakerProjectName": "p" * 32}
    made = Stack("endpoint.yaml", written)
    assert len(one(made, "AWS::SageMaker::Endpoint")["EndpointName"]) <= 63
    assert len(one(made, "AWS::Lambda::Function")["FunctionName"]) <= 64
    assert len(one(made, "AWS::SQS::Queue")["QueueName"]) <= 80


# -- traffic --------------------------------------------------------------------------------------------------------


def shift(stack: Stack) -> dict[str, Any]:
    return one(stack, "AWS::SageMaker::Endpoint")["DeploymentConfig"]["BlueGreenUpdatePolicy"]


def test_traffic_moves_as_config_says_and_at_once_in_staging_checked_statically(stack):
    routing = {g: shift(stack(g))["TrafficRoutingConfiguration"] for g in ("as it comes", "linear", "all at once")}
    assert routing["as it comes"] == {
        "Type": "CANARY",
        "WaitIntervalInSeconds": "600",
        "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
    }
    assert routing["linear"] == {
        "Type": "LINEAR",
        "WaitIntervalInSeconds": "600",
        "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
    }
    assert routing["all at once"] == {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": "600"}
    assert shift(stack(stage="staging"))["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"


def test_the_longest_shift_ends_before_its_deadline(stack):
    """Four steps of a linear shift and the wait before the old instances go."""
    longest = 5 * int(stack().body["Parameters"]["WaitSeconds"]["MaxValue"])
    assert longest < shift(stack())["MaximumExecutionTimeoutInSeconds"]


def test_a_canary_is_never_more_than_half_of_the_instances(stack):
    [variant] = one(stack(), "AWS::SageMaker::EndpointConfig")["ProductionVariants"]
    assert int(variant["InitialInstanceCount"]) >= 2
    [rule] = stack().body["Rules"].values()
    assert rule["Assertions"][0]["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "MinInstances"}, "1"]}]}


def test_a_release_keeps_the_number_of_instances_but_takes_the_new_data_capture(stack):
    endpoint = one(stack(), "AWS::SageMaker::Endpoint")
    assert endpoint["RetainAllVariantProperties"] is True
    dropped = {item["VariantPropertyType"] for item in endpoint["ExcludeRetainedVariantProperties"]}
    assert dropped == {"DataCaptureConfig", "DesiredWeight"}


# -- roll back ------------------------------------------------------------------------------------------------------


def test_errors_latency_and_the_share_of_flagged_rows_roll_back_checked_statically(stack):
    made = stack()
    alarms = one(made, "AWS::SageMaker::Endpoint")["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert {a["AlarmName"] for a in alarms} == {made.reference(name) for name in made.of_type("AWS::CloudWatch::Alarm")}
    assert len(alarms) == 4 <= 10
    assert all(alarm["AlarmActions"] == [TOPIC] for alarm in made.of_type("AWS::CloudWatch::Alarm").values())


def breaches(alarm: dict[str, Any], rows: int, flagged: int) -> bool:
    """Whether one period of so many rows is over an alarm's threshold: CloudWatch's IF(a, b, c), worked out."""
    expression = next(metric["Expression"] for metric in alarm["Metrics"] if "Expression" in metric)
    condition, then, otherwise = re.fullmatch(r"IF\((.+), (.+), (.+)\)", expression).groups()
    counted = {"Rows": rows, "FlaggedRows": flagged}
    assert {m["MetricStat"]["Period"] for m in alarm["Metrics"] if "MetricStat" in m} == {300}
    values = {m["Id"]: counted[m["MetricStat"]["Metric"]["MetricName"]] for m in alarm["Metrics"] if "MetricStat" in m}
    value = eval(then if eval(condition, {}, values) else otherwise, {}, values)
    assert alarm["TreatMissingData"] == "notBreaching", "nobody asks at night"
    over = alarm["ComparisonOperator"] == "GreaterThanThreshold"
    return value > float(alarm["Threshold"]) if over else value < float(alarm["Threshold"])


@pytest.mark.parametrize(
    ("rows", "flagged", "rings"),
    [(1000, 40, set()), (1000, 300, {"Many"}), (1000, 0, {"Few"}), (999, 999, set()), (10, 0, set()), (0, 0, set())],
)
def test_the_share_alarms_ring_outside_the_band_and_only_for_enough_rows(parameters, rows, flagged, rings):
    written = parameters("as it comes", "production")
    written |= {"LowestRareShare": "0.005", "HighestRareShare": "0.15", "MinimumRows": "1000"}
    alarms = Stack("endpoint.yaml", written).of_type("AWS::CloudWatch::Alarm")
    assert {name for name in ("Many", "Few") if breaches(alarms[f"{name}FlaggedAlarm"], rows, flagged)} == rings


def rings(alarm: dict[str, Any], minutes: list[list[float]]) -> bool:
    """Whether an alarm rings after minutes with these values, one for each request.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
    """
    assert (alarm["Period"], alarm["ComparisonOperator"]) == (60, "GreaterThanThreshold")
    assert alarm["TreatMissingData"] == "notBreaching", "nobody asks at night"
    over = [bool(values) and statistic(alarm, values) > float(alarm["Threshold"]) for values in minutes]
    return sum(over[-alarm["EvaluationPeriods"] :]) >= alarm["DatapointsToAlarm"]


def statistic(alarm: dict[str, Any], values: list[float]) -> float:
    if alarm.get("Statistic") == "Average":
        return sum(values) / len(values)
    share = float(alarm["ExtendedStatistic"].removeprefix("p")) / 100
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


ONE_IN_FIFTY, ONE_IN_HUNDRED, NONE = [1.0] * 2 + [0.0] * 98, [1.0] + [0.0] * 99, [0.0] * 100
SLOW, FAST, ONE_SLOW = [1e3] * 98 + [600e3] * 2, [1e3] * 100, [1e3] * 199 + [600e3]


@pytest.mark.parametrize(
    ("name", "minutes", "rung"),
    [
        ("ErrorAlarm", [NONE, ONE_IN_FIFTY, ONE_IN_FIFTY], True),
        ("ErrorAlarm", [ONE_IN_FIFTY, [], ONE_IN_FIFTY], True),
        ("ErrorAlarm", [ONE_IN_HUNDRED] * 3, False),
        ("ErrorAlarm", [NONE, ONE_IN_FIFTY, NONE], False),
        ("ErrorAlarm", [[]] * 3, False),
        ("LatencyAlarm", [FAST, FAST, SLOW, SLOW, SLOW], True),
        ("LatencyAlarm", [ONE_SLOW] * 5, False),
        ("LatencyAlarm", [FAST, SLOW, FAST, SLOW, FAST], False),
        ("LatencyAlarm", [[]] * 5, False),
    ],
)
def test_errors_and_latency_ring_when_they_last_and_silence_does_not_checked_statically(
    parameters, name, minutes, rung
):
    alarm = Stack("endpoint.yaml", parameters("as it comes", "production")).of_type("AWS::CloudWatch::Alarm")[name]
    assert rings(alarm, minutes) == rung


@pytest.mark.parametrize("stage", STAGES)
def test_latency_ms_500_in_config_yaml_gives_an_alarm_above_500_000_microseconds(parameters, stage):
    config = Config.model_validate({"cloud": {"endpoint": {"latency_ms": 500}}})
    written = parameters("as it comes", stage) | release.parameter_texts(release.stage_parameters(config, stage))
    alarm = Stack("endpoint.yaml", written).of_type("AWS::CloudWatch::Alarm")["LatencyAlarm"]
    assert (float(alarm["Threshold"]), alarm["Unit"]) == (500_000, "Microseconds")


def test_captured_files_reach_the_function_and_nothing_else_does(stack):
    for stage in STAGES:
        made = stack(stage=stage)
        place = one(made, "AWS::SageMaker::EndpointConfig")["DataCaptureConfig"]["DestinationS3Uri"]
        detail = one(made, "AWS::Events::Rule")["EventPattern"]["detail"]
        assert place == HERE.uri("capture", stage)
        assert detail["bucket"]["name"] == [HERE.bucket]
        assert detail["object"]["key"] == [{"prefix": f"capture/{stage}/"}]
        permission = one(made, "AWS::Lambda::Permission")
        assert permission["Principal"] == "events.amazonaws.com"
        assert permission["SourceArn"] == made.attribute("CapturedRule", "Arn")
        [target] = one(made, "AWS::Events::Rule")["Targets"]
        assert target["Arn"] == made.attribute("RareShareFunction", "Arn")
        lost = {target["DeadLetterConfig"]["Arn"], one(made, "AWS::Lambda::Function")["DeadLetterConfig"]["TargetArn"]}
        assert lost == {made.attribute("DeadLetters", "Arn")}


# -- serverless -----------------------------------------------------------------------------------------------------


def test_a_serverless_endpoint_has_nothing_that_sagemaker_refuses_there(stack):
    """https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html, "Feature exclusions"."""
    made = stack("serverless staging", "staging")
    assert one(made, "AWS::SageMaker::Model")["EnableNetworkIsolation"] is False
    config = one(made, "AWS::SageMaker::EndpointConfig")
    assert {"DataCaptureConfig", "KmsKeyId"}.isdisjoint(config)
    [variant] = config["ProductionVariants"]
    assert variant["ServerlessConfig"]["MemorySizeInMB"] == "3072"
    assert {"InstanceType", "InitialInstanceCount"}.isdisjoint(variant)
    kinds = {made.body["Resources"][name]["Type"] for name in made.resources}
    assert not [kind for kind in kinds if "AutoScaling" in kind or "Lambda" in kind or "SQS" in kind]
    alarms = one(made, "AWS::SageMaker::Endpoint")["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert len(alarms) == 2


def test_a_serverless_endpoint_is_in_no_vpc(parameters):
    written = parameters("vpc", "staging") | {"Serverless": "true"}
    assert "VpcConfig" not in one(Stack("endpoint.yaml", written), "AWS::SageMaker::Model")
    assert one(Stack("endpoint.yaml", written | {"Serverless": "false"}), "AWS::SageMaker::Model")["VpcConfig"] == {
        "Subnets": ["subnet-1a", "subnet-2b"],
        "SecurityGroupIds": ["sg-1"],
    }


def test_the_function_beside_an_endpoint_is_in_the_vpc_of_the_toolchain_wherever_the_endpoint_is(parameters):
    own = {"FunctionSubnets": "subnet-3c,subnet-4d", "FunctionSecurityGroups": "sg-2"}
    for name in ("vpc", "as it comes"):
        function = one(Stack("endpoint.yaml", parameters(name, "production") | own), "AWS::Lambda::Function")
        assert function["VpcConfig"] == {"SubnetIds": ["subnet-3c", "subnet-4d"], "SecurityGroupIds": ["sg-2"]}
    assert "VpcConfig" not in one(Stack("endpoint.yaml", parameters("vpc", "production")), "AWS::Lambda::Function")


# -- secure ---------------------------------------------------------------------------------------------------------


def test_everything_at_rest_has_the_projects_key_and_the_model_no_network(stack):
    made = stack()
    config = one(made, "AWS::SageMaker::EndpointConfig")
    assert config["KmsKeyId"] == config["DataCaptureConfig"]["KmsKeyId"] == KEY
    assert one(made, "AWS::Lambda::Function")["KmsKeyArn"] == one(made, "AWS::Logs::LogGroup")["KmsKeyId"] == KEY
    assert one(made, "AWS::SageMaker::Model")["EnableNetworkIsolation"] is True


def test_the_template_makes_no_role(stack):
    assert not [r for r in stack().body["Resources"].values() if r["Type"].startswith("AWS::IAM")]


def test_what_a_silent_roll_back_still_runs_on_is_not_deleted(stack):
    for name in ("Model", "EndpointConfig"):
        assert stack().body["Resources"][name]["UpdateReplacePolicy"] == "Retain"


def test_every_release_makes_a_new_model_so_that_a_rolled_back_version_can_be_tried_again(parameters):
    written = parameters("as it comes", "production")
    first, second = (one(Stack("endpoint.yaml", written | {"Release": r}), "AWS::SageMaker::Model") for r in "ab")
    assert first != second


def test_only_an_endpoint_that_may_grow_is_scaled_checked_statically(parameters):
    """With as many instances at least as at most there is nothing to scale; SageMaker then takes another machine."""
    for least, most, scales in (("2", "4", 1), ("2", "2", 0)):
        made = Stack(
            "endpoint.yaml", parameters("as it comes", "production") | {"MinInstances": least, "MaxInstances": most}
        )
        assert len(made.of_type("AWS::ApplicationAutoScaling::ScalableTarget")) == scales
        assert len(made.of_type("AWS::ApplicationAutoScaling::ScalingPolicy")) == scales


def test_what_is_scaled_is_the_endpoints_variant_by_its_requests_checked_statically(stack):
    """https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-add-policy.html"""
    made = stack()
    target, policy = (one(made, f"AWS::ApplicationAutoScaling::{kind}") for kind in ("ScalableTarget", "ScalingPolicy"))
    [variant] = one(made, "AWS::SageMaker::EndpointConfig")["ProductionVariants"]
    endpoint = one(made, "AWS::SageMaker::Endpoint")
    assert target["ResourceId"] == f"endpoint/{endpoint['EndpointName']}/variant/{variant['VariantName']}"
    assert endpoint["EndpointConfigName"] == made.attribute("EndpointConfig", "EndpointConfigName")
    assert variant["ModelName"] == made.attribute("Model", "ModelName")
    assert (target["ServiceNamespace"], target["ScalableDimension"]) == (
        "sagemaker",
        "sagemaker:variant:DesiredInstanceCount",
    )
    assert (target["MinCapacity"], target["MaxCapacity"]) == ("2", "4")
    assert policy["ScalingTargetId"] == made.reference("ScalableTarget")
    followed = policy["TargetTrackingScalingPolicyConfiguration"]
    assert followed["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    }
    assert followed["TargetValue"] == made.values["InvocationsPerInstance"]


def test_staging_is_never_scaled_as_its_stack_may_touch_no_scalable_target():
    """Nothing in the ARN of a scalable target tells whose it is, so that its role could touch production's too."""
    production, staging = (stage_parameters(Config(), stage) for stage in ("production", "staging"))
    assert production["MinInstances"] < production["MaxInstances"]
    assert staging["MinInstances"] == staging["MaxInstances"]


def test_what_a_stage_runs_is_published_in_one_place_checked_statically(stack):
    for given, stage in (("as it comes", "production"), ("serverless staging", "staging")):
        made = stack(given, stage)
        published = {about["Name"]: about["Value"] for about in made.of_type("AWS::SSM::Parameter").values()}
        assert published == {
            HERE.parameter(f"{stage}/endpoint"): made.attribute("Endpoint", "EndpointName"),
            HERE.parameter(f"{stage}/endpoint-config"): made.attribute("EndpointConfig", "EndpointConfigName"),
            HERE.parameter(f"{stage}/model"): made.attribute("Model", "ModelName"),
            HERE.parameter(f"{stage}/version"): "5",
        }
    waits = {name for name, about in made.body["Resources"].items() if about.get("DependsOn") == "Endpoint"}
    assert waits == {"VersionParameter", "ModelParameter", "EndpointConfigParameter"}, "not before it serves them"
