"""Pipeline parameters: the values that may differ between executions in AWS, each with name, type and default.

They are derived from the pipelines of pipeline/definition.py. An argument of a step becomes `<Step><Argument>`
(TrainIterations), its instance type `<Step>InstanceType`, a source `<Source>Uri` and `<Source>Fingerprint`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from scarcegan.aws.names import Names
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import DATA_FINGERPRINT, Gate, Pipeline, Step, Value, value_text
from scarcegan.sagemaker.job import EMPTY_VALUE
from scarcegan.sagemaker.refusals import LONGEST_PARAMETER, MOST_PARAMETERS, InvalidPipeline

APPROVAL_PARAMETER = "ApprovalStatus"
NO_FINGERPRINT = "none"  # SageMaker refuses an empty parameter
# Keys of the section cloud that are part of the compiled pipeline and that no parameter sets.
# Settings of the section cloud: that are part of the definition, beside the instances and the approval.
JOB_SETTINGS = """
    volume_gb volume_key max_hours spot spot_wait_hours cache_days network_isolation subnets security_groups mlflow_app
    tags
"""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a SageMaker pipeline.

    - name: such as TrainIterations.
    - type: String, Integer or Float.
    - default: its value in an execution that is given no other: a text, int or float, as `type` says.
    - choices: the only values that a String may have; empty for any.
    - origin: the key of config.yaml that it sets, such as train.iterations, or the name of a source.
    """

    name: str
    type: str
    default: str | int | float
    choices: tuple[str, ...] = ()
    origin: str = ""


def pascal_case(*words: str) -> str:
    """Join words in PascalCase; hyphens and underscores split a word: "train", "max-rows" -> "TrainMaxRows"."""
    return "".join(part[:1].upper() + part[1:] for word in words for part in word.replace("_", "-").split("-"))


def uri_name(source: str) -> str:
    """Return the name of the parameter that holds the S3 URI of a source: telemetry -> TelemetryUri."""
    return pascal_case(source, "uri")


def fingerprint_name(source: str) -> str:
    """Return the name of the parameter that holds the fingerprint of a source: telemetry -> TelemetryFingerprint."""
    return pascal_case(source, "fingerprint")


def instance_name(step: str) -> str:
    """Return the name of the parameter that holds the instance type of a step: train -> TrainInstanceType."""
    return pascal_case(step, "instance-type")


def argument_name(step: str, argument: str) -> str:
    """Return the name of the parameter that sets an argument of a step: train, iterations -> TrainIterations."""
    return pascal_case(step, argument)


def pipeline_parameters(pipeline: Pipeline, config: Config, names: Names) -> dict[str, Parameter]:
    """Return name -> parameter for a pipeline: sources first, then steps in order, then the approval status.

    - config: the settings, for the default approval status.
    - names: the project's names in AWS, for the default S3 URIs.

    Raises InvalidPipeline when two parameters have one name, a default is too long, or there are too many.
    """
    found: dict[str, Parameter] = {}
    for parameter in [
        *source_parameters(pipeline, names),
        *step_parameters(pipeline),
        *approval_parameter(pipeline, config),
    ]:
        if parameter.name in found:
            raise InvalidPipeline(
                f"{pipeline.name}: the parameters of {found[parameter.name].origin} and {parameter.origin} would both "
                f"be called {parameter.name}. Rename one."
            )
        if len(str(parameter.default)) > LONGEST_PARAMETER:
            raise InvalidPipeline(
                f"{pipeline.name}: {parameter.origin} has {len(str(parameter.default))} characters, but a pipeline "
                f"parameter takes at most {LONGEST_PARAMETER}. Shorten it."
            )
        found[parameter.name] = parameter
    if len(found) > MOST_PARAMETERS:
        raise InvalidPipeline(
            f"{pipeline.name}: {len(found)} parameters, but SageMaker takes at most {MOST_PARAMETERS}. Declare fewer "
            "in the steps of pipeline/definition.py."
        )
    return found


def source_parameters(pipeline: Pipeline, names: Names) -> Iterator[Parameter]:
    """Yield two parameters per source of a pipeline: its S3 URI, and its fingerprint, whose default is "none"."""
    for source in pipeline.sources:
        yield Parameter(uri_name(source), "String", default_uri(source, pipeline, names), origin=source)
        yield Parameter(fingerprint_name(source), "String", NO_FINGERPRINT, origin=source)


def default_uri(source: str, pipeline: Pipeline, names: Names) -> str:
    """Return the S3 URI in the project's bucket that a source is read from by default, with a slash at the end.

    The sources champion and model are read below champion/, the others below data/<source>/. An optional source, other
    than labels and champion, is read from an empty folder.
    """
    if source in ("telemetry", "labels"):
        return names.uri("data", source, "")
    if source in ("champion", "model"):
        return names.uri("champion", "")
    return names.uri("empty", "") if source in pipeline.optional else names.uri("data", source, "")


def step_parameters(pipeline: Pipeline) -> Iterator[Parameter]:
    """Yield the parameters of the steps of a pipeline: for each step, its instance type, then its declared arguments.

    A step that runs as a Lambda function has no instance type. The declared arguments are those of Step.parameters.
    """
    for step in pipeline.steps:
        if isinstance(step, Gate):
            continue
        if step.kind != "lambda":
            yield Parameter(instance_name(step.name), "String", step.instance, origin=f"cloud.instances.{step.name}")
        for argument in step.parameters:
            yield argument_parameter(step, argument)


def argument_parameter(step: Step, argument: str) -> Parameter:
    """Return the pipeline parameter that sets an argument of a step, with the argument's value as its default.

    The type is Integer for an int, Float for a float, otherwise String. A bool becomes "true" or "false"; an empty text
    becomes "(empty)". The argument must be one of Step.parameters.
    """
    value, name, key = step.arguments[argument], argument_name(step.name, argument), step.parameters[argument]
    if isinstance(value, bool):
        return Parameter(name, "String", value_text(value), ("true", "false"), key)
    if isinstance(value, int):
        return Parameter(name, "Integer", value, origin=key)
    if isinstance(value, float):
        return Parameter(name, "Float", value, origin=key)
    return Parameter(name, "String", value or EMPTY_VALUE, allowed_values(key), key)


def allowed_values(key: str) -> tuple[str, ...]:
    """Return the texts that a key of config.yaml may have, if they are a fixed list; () for any other key.

    - key: a key that exists, with dots, such as cloud.approval.
    """
    model: Any = Config
    for part in key.split("."):
        model = model.model_fields[part].annotation
    return tuple(get_args(model)) if get_origin(model) is Literal else ()


def approval_parameter(pipeline: Pipeline, config: Config) -> Iterator[Parameter]:
    """Yield the pipeline parameter ApprovalStatus if the pipeline registers models; nothing if it does not."""
    if any(isinstance(step, Step) and step.kind == "lambda" for step in pipeline.steps):
        yield Parameter(
            APPROVAL_PARAMETER, "String", config.cloud.approval, allowed_values("cloud.approval"), "cloud.approval"
        )


def fixed_values(pipeline: Pipeline, config: Config) -> Mapping[str, str]:
    """Return key -> value as text for all that no execution can change, because no pipeline parameter sets it.

    These are arguments of steps, with the key "step.argument", and, with their keys of config.yaml, the settings of the
    section cloud that JOB_SETTINGS names ("cloud.volume_gb"), project.team and retries. Arguments that are only
    recorded with registered models are left out. To change one of these values, the pipeline in AWS must be updated.
    """
    found = {
        f"{step.name}.{argument}": value_text(value)
        for step in pipeline.steps
        if isinstance(step, Step)
        for argument, value in step.arguments.items()
        if argument not in step.parameters and not is_lineage(step, argument, value)
    }
    jobs = config.cloud.model_dump(include=set(JOB_SETTINGS.split()))
    found |= {f"cloud.{key}": value_text(value) for key, value in jobs.items()}
    return found | {"project.team": config.project.team, "retries": value_text(config.retries)}


def is_lineage(step: Step, argument: str, value: Value) -> bool:
    """Whether an argument of a step is only recorded with registered models: config, code version, data fingerprint."""
    return step.kind == "lambda" and (argument in ("config", "code-version") or value == DATA_FINGERPRINT)
