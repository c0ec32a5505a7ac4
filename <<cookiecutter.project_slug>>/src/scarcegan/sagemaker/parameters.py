"""Pipeline parameters: the values that may differ between executions in AWS, each with name, type and default.

They are derived from the pipelines of pipeline/definition.py. An argument of a step becomes `<Step><Argument>`
(TrainIterations), its instance type `<Step>InstanceType`, a source `<Source>Uri` if it is movable, and one of data
`<Source>Fingerprint`.

Whoever may only start an execution must decide neither about an approval nor about what the gate compares nor about
which bytes run. So of the training pipeline only these are parameters:

- the hyperparameters of the train step: they make another model, which the same gate measures on the same users.
- instance types: they change what a job costs and how long it takes.
- fingerprints: they make SageMaker's cache notice new data, and are recorded. The data itself lies at a fixed address.
  A fingerprint of old data brings back what its execution made of it, within cloud.cache_days, and the set is
  registered with that fingerprint. The champion has none: what reads it never comes from the cache.

And of the scoring pipeline, whose results nothing else reads: the address of the telemetry, which days of it and
whether bad rows are refused (who is scored), instance types and fingerprints. The model is the champion.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from scarcegan.aws.names import Names
from scarcegan.pipeline.config import LOCAL_DISK, Config
from scarcegan.pipeline.definition import DATA, DATA_FINGERPRINT, Gate, Pipeline, Step, Value, value_text
from scarcegan.sagemaker.job import EMPTY_VALUE
from scarcegan.sagemaker.refusals import LONGEST_PARAMETER, MOST_PARAMETERS, InvalidPipeline

NO_FINGERPRINT = "none"  # SageMaker refuses an empty parameter
FINGERPRINT_RULE = {"type": "string", "pattern": "^[A-Za-z0-9:.+-]{1,64}$"}  # a digest, or the time of a schedule
# Files of data, as data/files.py reads them; any other address is a folder.
FILE = re.compile(r"\.(parquet|pq|csv|tsv|txt|gz)$", re.IGNORECASE)
DATA_KEYS = {"telemetry": "path", "labels": "labels"}  # source of a pipeline -> key of the section data
# Settings of the section cloud that are part of the definition and that no parameter sets.
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
    """Return name -> parameter for a pipeline: sources first, then steps in order.

    - config: the settings, for the S3 URIs of data.
    - names: the project's names in AWS, for the S3 URIs in the project's bucket.

    Raises InvalidPipeline when two parameters have one name, a default is too long, or there are too many.
    """
    found: dict[str, Parameter] = {}
    for parameter in [
        *source_parameters(pipeline, config, names),
        *step_parameters(pipeline),
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


def source_parameters(pipeline: Pipeline, config: Config, names: Names) -> Iterator[Parameter]:
    """Yield the parameters of a pipeline's sources: the S3 URI of each that is movable, and the fingerprint of each of
    DATA, whose default is "none".
    """
    for source in pipeline.sources:
        if source in pipeline.movable:
            yield Parameter(uri_name(source), "String", source_uri(source, pipeline, config, names), origin=source)
        if source in DATA:
            yield Parameter(fingerprint_name(source), "String", NO_FINGERPRINT, origin=source)


def source_uri(source: str, pipeline: Pipeline, config: Config, names: Names) -> str:
    """Return the S3 URI that a source is read from: a folder with a slash at its end, or a file.

    Telemetry and labels are read from data.path and data.labels when these are in S3. Otherwise a source is read from
    the project's bucket: champion and model below champion/, the others below data/<source>/. An optional source, other
    than labels and champion, is read from an empty folder.
    """
    place = getattr(config.data, DATA_KEYS[source]) if source in DATA_KEYS else ""
    if place.startswith("s3://"):
        return folder_uri(place)
    if source in DATA_KEYS:
        return names.uri("data", source, "")
    if source in ("champion", "model"):
        return names.uri("champion", "")
    return names.uri("empty", "") if source in pipeline.optional else names.uri("data", source, "")


def folder_uri(uri: str) -> str:
    """Return an S3 URI with a slash at its end, unless its name ends like a file of data, such as labels.csv.

    Without the slash, SageMaker would also read folders whose names begin alike: data2/ for s3://bucket/data.
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProcessingS3Input.html
    """
    return uri if uri.endswith("/") or FILE.search(uri) else f"{uri}/"


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

    - key: a key that exists, with dots, such as train.scaling.
    """
    model: Any = Config
    for part in key.split("."):
        model = model.model_fields[part].annotation
    return tuple(get_args(model)) if get_origin(model) is Literal else ()


def rules(found: Mapping[str, Parameter], config: Config) -> dict[str, dict[str, Any]]:
    """Return pipeline parameter -> rule of its values, as sagemaker/values.py takes it. Addresses have no rule.

    - found: name -> parameter, of one pipeline.
    """
    return {name: rule_of(parameter, config) for name, parameter in found.items() if not name.endswith("Uri")}


def rule_of(parameter: Parameter, config: Config) -> dict[str, Any]:
    """Return the rule of a pipeline parameter's values: that of the key in config.yaml that it sets, with "key".

    The rule also has what config.yaml checks across keys: a row of each class in a batch, a weight for each class, and
    disks that take cloud.volume_key.
    """
    if "." not in parameter.origin:
        return FINGERPRINT_RULE
    *sections, key = parameter.origin.split(".")
    model: Any = Config
    for part in sections:
        model = model.model_fields[part].annotation
    schemas = model.model_json_schema()["properties"]
    schema = schemas.get(key, next(iter(schemas.values())))  # a step of one's own needs no machine in config.yaml
    rule = {name: value for name, value in schema.items() if name not in ("default", "title", "description")}
    rule["key"] = parameter.origin
    classes = len(config.labels.classes)
    if parameter.origin == "train.batch_size":
        rule["minimum"] = max(rule["minimum"], classes)
    if parameter.origin == "train.class_weights":
        rule["lengths"] = [0, classes]
    if parameter.origin.startswith("cloud.instances.") and config.cloud.volume_key != "none":
        rule["not"] = LOCAL_DISK.pattern
    return rule


def rules_text(found: Mapping[str, Parameter], config: Config) -> str:
    """Return `rules` as JSON text, the same for equal rules."""
    return json.dumps(rules(found, config), sort_keys=True)


def fixed_values(pipeline: Pipeline, config: Config, names: Names) -> Mapping[str, str]:
    """Return key -> value as text for all that no execution can change, because no pipeline parameter sets it.

    These are arguments of steps, with the key "step.argument", addresses of sources that are not movable, with the name
    of the source, and, with their keys of config.yaml, the settings of the section cloud that JOB_SETTINGS names
    ("cloud.volume_gb"), project.team and retries. Arguments that are only recorded with registered models are left out.
    To change one of these values, the pipeline in AWS must be updated.
    """
    found = {
        f"{step.name}.{argument}": value_text(value)
        for step in pipeline.steps
        if isinstance(step, Step)
        for argument, value in step.arguments.items()
        if argument not in step.parameters and not is_lineage(step, argument, value)
    }
    found |= {source: source_uri(source, pipeline, config, names) for source in fixed_sources(pipeline)}
    jobs = config.cloud.model_dump(include=set(JOB_SETTINGS.split()))
    found |= {f"cloud.{key}": value_text(value) for key, value in jobs.items()}
    return found | {"project.team": config.project.team, "retries": value_text(config.retries)}


def fixed_sources(pipeline: Pipeline) -> list[str]:
    """Return the sources of a pipeline whose addresses no execution can change, in order."""
    return [source for source in pipeline.sources if source not in pipeline.movable]


def is_lineage(step: Step, argument: str, value: Value) -> bool:
    """Whether an argument of a step is only recorded with registered models: config, code version, data fingerprint."""
    return step.kind == "lambda" and (argument in ("config", "code-version") or value == DATA_FINGERPRINT)
