"""Errors that SageMaker reports only while the execution is running, found in a compiled pipeline before it is sent.

Missing steps, outputs, property files and parameters; folders without a channel; limits of SageMaker.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateProcessingJob.html
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scarcegan.errors import UserError
from scarcegan.sagemaker.job import CODE_CHANNELS, CONTAINER_ROOT, MODULE_PARAMETER, OUTPUTS_PARAMETER

Json = dict[str, Any]
STEP_NAME = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,63}")
REFERENCE = re.compile(r"Steps\.([A-Za-z0-9-]+)\.(.+)")
LIMITS = {  # most characters of one, and most per job
    "container argument": (256, 100),
    "environment variable": (256, 100),
    "hyperparameter": (2500, 100),
}
MOST_PARAMETERS = 200  # https://docs.aws.amazon.com/general/latest/gr/sagemaker.html
LONGEST_PARAMETER = 1024
MOST_CHANNELS = {"Processing": 10, "Training": 20}
LONGEST_DEFINITION = 1_048_576
EXECUTION_VARIABLES = ("PipelineExecutionId", "PipelineExecutionArn", "PipelineName", "PipelineArn", "StartDateTime")


class InvalidPipeline(UserError, ValueError):
    """A pipeline that SageMaker would not accept, or of which every execution would fail."""


def refuse_invalid_pipeline(pipeline: Json, size: int = 0) -> None:
    """Check a compiled pipeline for errors that SageMaker would report only while an execution is running.

    - pipeline: the JSON of the SageMaker pipeline, parsed.
    - size: the number of characters of that JSON; 0 leaves it unchecked.

    Raises InvalidPipeline, with a line per problem.
    """
    problems = list(pipeline_problems(pipeline))
    if size > LONGEST_DEFINITION:
        problems.append(f"the definition has {size:,} characters, SageMaker takes {LONGEST_DEFINITION:,}")
    if problems:
        lines = "\n".join(f"- {problem}" for problem in problems)
        raise InvalidPipeline(
            f"SageMaker would not run this pipeline:\n{lines}\n"
            "Correct pipeline/definition.py, or the values of config.yaml that it uses."
        )


def pipeline_problems(pipeline: Json) -> Iterator[str]:
    """Yield a sentence for every problem of a compiled pipeline.

    First come problems of its parameters, then of its steps in order, then parameters that no step reads.

    - pipeline: the JSON of the SageMaker pipeline, parsed.
    """
    declared = [parameter["Name"] for parameter in pipeline["Parameters"]]
    yield from (
        f"two parameters are called '{name}'" for name in sorted({n for n in declared if declared.count(n) > 1})
    )
    if len(declared) > MOST_PARAMETERS:
        yield f"{len(declared)} parameters, SageMaker takes {MOST_PARAMETERS}"
    read = set()
    seen: dict[str, Json] = {}
    for step in all_steps(pipeline["Steps"]):
        if step["Name"] in seen:
            yield f"two steps are called '{step['Name']}'"
        if not STEP_NAME.fullmatch(step["Name"]):
            yield f"step '{step['Name']}': a name may have up to 64 letters, digits and single hyphens"
        for reference in references(own_arguments(step)):
            if step["Type"] != "Lambda":  # the register function is given them all
                read.add(reference.removeprefix("Parameters."))
            problem = reference_problem(reference, set(declared), seen)
            if problem:
                yield f"step '{step['Name']}' refers to {reference}: {problem}"
        for name in depends_on(step):
            if name not in seen:
                yield f"step '{step['Name']}' depends on '{name}', which is not a step before it"
        yield from (f"step '{step['Name']}': {problem}" for problem in step_problems(step))
        seen[step["Name"]] = step
    yield from (f"parameter '{name}' is read by no step" for name in declared if name not in read)


def all_steps(steps: Sequence[Json]) -> Iterator[Json]:
    """Yield every step of a compiled pipeline, in order; the steps inside a condition follow the condition.

    - steps: the outermost steps, as the JSON of the pipeline holds them.
    """
    for step in steps:
        yield step
        for branch in ("IfSteps", "ElseSteps"):
            yield from all_steps(step["Arguments"].get(branch, ())) if step["Type"] == "Condition" else ()


def own_arguments(step: Json) -> Any:
    """Return the arguments of a compiled step; of a condition only what it compares, without the steps inside it."""
    if step["Type"] != "Condition":
        return step["Arguments"]
    return step["Arguments"]["Conditions"]


def depends_on(step: Json) -> list[str]:
    """Return the names of the steps that a compiled step waits for by its entry DependsOn; [] when it has none."""
    return [entry if isinstance(entry, str) else entry["Step"] for entry in step.get("DependsOn", ())]


def references(value: Any) -> Iterator[str]:
    """Yield every reference in a part of a compiled pipeline, at any depth: the text of each {"Get": text}."""
    if isinstance(value, Mapping):
        if set(value) == {"Get"}:
            yield value["Get"]
        else:
            for part in value.values():
                yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def reference_problem(reference: str, declared: set[str], seen: Mapping[str, Json]) -> str:
    """Return why a reference cannot be resolved, as the end of a sentence; "" when it can.

    - reference: such as Parameters.TrainIterations, Execution.PipelineName or Steps.split.ProcessingOutputConfig….
    - declared: names of the pipeline's parameters.
    - seen: name -> compiled step, for the steps before the one that refers.
    """
    if reference.startswith("Parameters."):
        return "" if reference.removeprefix("Parameters.") in declared else "no such parameter"
    if reference.startswith("Execution."):
        return "" if reference.removeprefix("Execution.") in EXECUTION_VARIABLES else "executions have no such variable"
    found = REFERENCE.fullmatch(reference)
    if not found:
        return "neither a parameter, an execution variable nor a step"
    name, path = found.groups()
    if name not in seen:
        return f"no step '{name}' before it"
    known = set(readable_paths(seen[name]))
    return "" if path in known else f"it has {', '.join(sorted(known)) or 'nothing to read'}"


def readable_paths(step: Json) -> Iterator[str]:
    """Yield each thing that other steps may read of a compiled step, as the text after Steps.<name>. in a reference."""
    if step["Type"] == "Processing":
        for output in processing_outputs(step):
            yield f"ProcessingOutputConfig.Outputs['{output}'].S3Output.S3Uri"
        yield from (f"PropertyFiles.{file['PropertyFileName']}" for file in step.get("PropertyFiles", ()))
    elif step["Type"] == "Training":
        yield "ModelArtifacts.S3ModelArtifacts"
    elif step["Type"] == "Lambda":
        yield from (f"OutputParameters['{output['OutputName']}']" for output in step["OutputParameters"])


def processing_outputs(step: Json) -> list[str]:
    """Return the names of the outputs of a compiled processing step."""
    return [output["OutputName"] for output in step["Arguments"].get("ProcessingOutputConfig", {}).get("Outputs", ())]


def step_problems(step: Json) -> Iterator[str]:
    """Yield a sentence for every problem within one compiled step, without the name of the step.

    Of any step, the environment variables are checked; of a processing step also arguments, property files, folders and
    channels; of a training step also hyperparameters and channels.
    """
    arguments = step["Arguments"]
    yield from limit_problems("environment variable", arguments.get("Environment", {}))
    if step["Type"] == "Processing":
        container_arguments = arguments["AppSpecification"].get("ContainerArguments", [])
        yield from limit_problems("container argument", dict(enumerate(container_arguments)))
        yield from property_file_problems(step)
        yield from folder_problems(step, container_arguments)
        yield from channel_problems(
            [entry["InputName"] for entry in arguments.get("ProcessingInputs", ())], "Processing"
        )
    elif step["Type"] == "Training":
        hyperparameters = arguments["HyperParameters"]
        yield from limit_problems("hyperparameter", hyperparameters)
        yield from (
            f"no hyperparameter '{name}'"
            for name in (MODULE_PARAMETER, OUTPUTS_PARAMETER)
            if name not in hyperparameters
        )
        yield from channel_problems(
            [entry["ChannelName"] for entry in arguments.get("InputDataConfig", ())], "Training"
        )


def limit_problems(what: str, values: Mapping[Any, Any]) -> Iterator[str]:
    """Yield a sentence if a job has too many values of one kind, and one for each value that is too long.

    - what: the kind, a key of LIMITS, such as "hyperparameter".
    - values: name of the value -> text, or what SageMaker replaces by text at run time. Of that, only the fixed parts
      count that are joined; a reference counts 0 characters.
    """
    longest, most = LIMITS[what]
    if len(values) > most:
        yield f"{len(values)} {what}s, SageMaker takes {most}"
    for name, value in values.items():
        length = len(value) if isinstance(value, str) else sum(map(len, literals(value)))
        if length > longest:
            yield f"{what} {name} has {length} characters, SageMaker takes {longest}"


def literals(value: Any) -> list[str]:
    """Return the fixed parts of a value that SageMaker joins at run time (Std:Join); [] for any other value."""
    parts = value.get("Std:Join", {}).get("Values", []) if isinstance(value, Mapping) else []
    return [part for part in parts if isinstance(part, str)]


def channel_problems(names: Sequence[str], kind: str) -> Iterator[str]:
    """Yield a sentence for each fault of a job's channels: too many, two of one name, or `code` or `wheels` missing.

    - names: of the channels.
    - kind: Processing or Training.
    """
    if len(names) > MOST_CHANNELS[kind]:
        yield f"{len(names)} channels, SageMaker takes {MOST_CHANNELS[kind]}. Let the step read fewer."
    yield from (f"two channels are called '{name}'" for name in sorted({n for n in names if names.count(n) > 1}))
    yield from (f"no channel '{name}'" for name in CODE_CHANNELS if name not in names)


def property_file_problems(step: Json) -> Iterator[str]:
    """Yield a sentence for every property file (JSON that a gate reads) that is in no output of its compiled step."""
    for file in step.get("PropertyFiles", ()):
        if file["OutputName"] not in processing_outputs(step):
            yield (
                f"property file '{file['PropertyFileName']}' is in output '{file['OutputName']}', which the step does "
                f"not have (it has: {', '.join(processing_outputs(step))})"
            )


def folder_problems(step: Json, container_arguments: Sequence[Any]) -> Iterator[str]:
    """Yield a sentence for every fault of the folders of a compiled processing step:

    - a folder that the arguments name, but that is no channel and no output.
    - a channel, other than `code` and `wheels`, or an output whose folder the arguments do not name.
    - an output whose name is the beginning of another output's, because S3 would read both as one.

    container_arguments: the command line of the step; entries that are references, not text, are not checked.
    """
    arguments = step["Arguments"]
    channels = {entry["S3Input"]["LocalPath"]: entry["InputName"] for entry in arguments.get("ProcessingInputs", ())}
    outputs = {
        entry["S3Output"]["LocalPath"]: entry["OutputName"] for entry in arguments["ProcessingOutputConfig"]["Outputs"]
    }
    texts = [text for text in container_arguments if isinstance(text, str)]
    named = [text for text in texts if text.startswith(f"{CONTAINER_ROOT}/processing/")]
    tops = {"/".join(path.split("/")[:6]): path for path in named}
    for top, path in tops.items():
        if top not in channels and top not in outputs:
            yield f"the arguments name {path}, which is neither a channel nor an output"
    code = {f"{CONTAINER_ROOT}/processing/input/{name}" for name in CODE_CHANNELS}
    for path, name in (channels | outputs).items():
        if path not in tops and path not in code:
            yield f"'{name}' is the folder {path}, which the arguments of the job do not name"
    names = sorted(outputs.values())
    for short in names:
        clash = [name for name in names if name != short and name.startswith(short)]
        if clash:  # S3 knows prefixes, not folders
            yield f"output '{short}' is a prefix of output '{clash[0]}', so reading one reads both. Rename one."
