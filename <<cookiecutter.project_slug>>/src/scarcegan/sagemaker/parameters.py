"""Pipeline parameters: what may change from one execution in the cloud to the next, by name, type and default.

Derived from the definition; nothing here knows the SDK. An argument of a step becomes `<Step><Argument>`
(TrainIterations), its machine `<Step>InstanceType`, a source `<Source>Uri` and `<Source>Fingerprint`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_origin

from scarcegan.aws.names import Names
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import DATA_FINGERPRINT, Gate, Pipeline, Step, Value, value_text
from scarcegan.sagemaker.job import EMPTY
from scarcegan.sagemaker.refusals import LONGEST_PARAMETER, MOST_PARAMETERS, Refused

APPROVAL = "ApprovalStatus"
NO_FINGERPRINT = "none"  # SageMaker refuses an empty parameter
LONGEST = LONGEST_PARAMETER
ABOUT_JOBS = (  # settings of the cloud section that are part of the definition, beside instances and approval
    "volume_gb",
    "volume_key",
    "max_hours",
    "spot",
    "spot_wait_hours",
    "cache_days",
    "network_isolation",
    "subnets",
    "security_groups",
    "mlflow_app",
    "tags",
)


@dataclass(frozen=True)
class Parameter:
    """type: String, Integer or Float. choices: the only values a String may have, or none for any.

    origin: what it stands for: a key of config.yaml such as train.iterations, or a source's name.
    """

    name: str
    type: str
    default: str | int | float
    choices: tuple[str, ...] = ()
    origin: str = ""


def pascal(*words: str) -> str:
    """Words joined in PascalCase: train, learning-rate -> TrainLearningRate."""
    return "".join(part[:1].upper() + part[1:] for word in words for part in word.replace("_", "-").split("-"))


def uri_name(source: str) -> str:
    return pascal(source, "uri")


def fingerprint_name(source: str) -> str:
    return pascal(source, "fingerprint")


def instance_name(step: str) -> str:
    return pascal(step, "instance-type")


def argument_name(step: str, argument: str) -> str:
    return pascal(step, argument)


def of(pipeline: Pipeline, config: Config, names: Names) -> dict[str, Parameter]:
    """Every parameter of a pipeline, by name, in a fixed order. Refused when SageMaker would not take them."""
    found: dict[str, Parameter] = {}
    for parameter in [*of_sources(pipeline, names), *of_steps(pipeline), *of_approval(pipeline, config)]:
        if parameter.name in found:
            raise Refused(
                f"{pipeline.name}: the parameters of {found[parameter.name].origin} and {parameter.origin} would both "
                f"be called {parameter.name}. Rename one."
            )
        if len(str(parameter.default)) > LONGEST:
            raise Refused(
                f"{pipeline.name}: {parameter.origin} has {len(str(parameter.default))} characters, a pipeline "
                f"parameter takes {LONGEST}. Shorten it."
            )
        found[parameter.name] = parameter
    if len(found) > MOST_PARAMETERS:
        raise Refused(
            f"{pipeline.name}: {len(found)} parameters, SageMaker takes {MOST_PARAMETERS}. Declare fewer in the steps."
        )
    return found


def of_sources(pipeline: Pipeline, names: Names) -> Iterator[Parameter]:
    for source in pipeline.sources:
        yield Parameter(uri_name(source), "String", default_uri(source, pipeline, names), origin=source)
        yield Parameter(fingerprint_name(source), "String", NO_FINGERPRINT, origin=source)


def default_uri(source: str, pipeline: Pipeline, names: Names) -> str:
    """Where a source lies unless an execution says otherwise. The slash keeps data/labels-old out of data/labels/."""
    if source in ("telemetry", "labels"):
        return names.uri("data", source, "")
    if source in ("champion", "model"):
        return names.uri("champion", "")
    return names.uri("empty", "") if source in pipeline.optional else names.uri("data", source, "")


def of_steps(pipeline: Pipeline) -> Iterator[Parameter]:
    for step in pipeline.steps:
        if isinstance(step, Gate):
            continue
        if step.kind != "lambda":
            yield Parameter(instance_name(step.name), "String", step.instance, origin=f"cloud.instances.{step.name}")
        for argument in step.parameters:
            yield of_argument(step, argument)


def of_argument(step: Step, argument: str) -> Parameter:
    """Whole numbers and fractions are typed; true and false are words, as the steps read them; nothing is empty."""
    value, name, key = step.arguments[argument], argument_name(step.name, argument), step.parameters[argument]
    if isinstance(value, bool):
        return Parameter(name, "String", value_text(value), ("true", "false"), key)
    if isinstance(value, int):
        return Parameter(name, "Integer", value, origin=key)
    if isinstance(value, float):
        return Parameter(name, "Float", value, origin=key)
    return Parameter(name, "String", value or EMPTY, choices(key), key)


def choices(key: str) -> tuple[str, ...]:
    """The values a key of config.yaml may have, when they are a list of words; SageMaker then refuses any other."""
    model: Any = Config
    for part in key.split("."):
        model = model.model_fields[part].annotation
    return tuple(get_args(model)) if get_origin(model) is Literal else ()


def of_approval(pipeline: Pipeline, config: Config) -> Iterator[Parameter]:
    if any(isinstance(step, Step) and step.kind == "lambda" for step in pipeline.steps):
        yield Parameter(APPROVAL, "String", config.cloud.approval, choices("cloud.approval"), "cloud.approval")


def fixed_values(pipeline: Pipeline, config: Config) -> Mapping[str, str]:
    """What only a new definition changes: arguments that are no parameters, and how jobs run."""
    found = {
        f"{step.name}.{argument}": value_text(value)
        for step in pipeline.steps
        if isinstance(step, Step)
        for argument, value in step.arguments.items()
        if argument not in step.parameters and not about_the_run(step, argument, value)
    }
    jobs = config.cloud.model_dump(include=set(ABOUT_JOBS))
    found |= {f"cloud.{key}": value_text(value) for key, value in jobs.items()}
    return found | {"project.team": config.project.team, "retries": value_text(config.retries)}


def about_the_run(step: Step, argument: str, value: Value) -> bool:
    """Whether an argument of a lambda step only says where its packages come from."""
    return step.kind == "lambda" and (argument in ("config", "code-version") or value == DATA_FINGERPRINT)


def as_json(parameters: Mapping[str, Parameter]) -> list[dict]:
    """For plans and machines."""
    return [asdict(parameter) for parameter in parameters.values()]
