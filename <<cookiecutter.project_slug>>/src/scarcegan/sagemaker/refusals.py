"""What SageMaker would refuse only when it is too late, found in a compiled pipeline: the SDK looks at none of this.

References to steps, outputs, property files and parameters that are not there; folders no channel brings; limits.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateProcessingJob.html
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scarcegan.errors import UserError
from scarcegan.sagemaker.job import MODULE, OURS, OUTPUTS, ROOT

Json = dict[str, Any]
STEP_NAME = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,63}")
REFERENCE = re.compile(r"Steps\.([A-Za-z0-9-]+)\.(.+)")
LIMITS = {  # characters of each, and how many
    "container argument": (256, 100),
    "environment variable": (256, 100),
    "hyperparameter": (2500, 100),
}
MOST_PARAMETERS = 200  # https://docs.aws.amazon.com/general/latest/gr/sagemaker.html
LONGEST_PARAMETER = 1024
MOST_CHANNELS = {"Processing": 10, "Training": 20}
LONGEST_DEFINITION = 1_048_576
EXECUTION = ("PipelineExecutionId", "PipelineExecutionArn", "PipelineName", "PipelineArn", "StartDateTime")


class Refused(UserError, ValueError):
    """A pipeline that SageMaker would not take, or that no execution would survive."""


def check(pipeline: Json, size: int = 0) -> None:
    """Raise Refused naming every problem, a line each. size: characters of the definition."""
    problems = list(find(pipeline))
    if size > LONGEST_DEFINITION:
        problems.append(f"the definition has {size:,} characters, SageMaker takes {LONGEST_DEFINITION:,}")
    if problems:
        told = "\n".join(f"- {problem}" for problem in problems)
        raise Refused(
            f"SageMaker would not run this pipeline:\n{told}\n"
            "Mend pipeline/definition.py, or the values of config.yaml that stand in it."
        )


def find(pipeline: Json) -> Iterator[str]:
    """Every problem, in the order of the steps."""
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
            yield f"step '{step['Name']}': a name has at most 64 letters, digits and single hyphens"
        for reference in references(own_part(step)):
            read.add(reference.removeprefix("Parameters."))
            problem = unresolved(reference, set(declared), seen)
            if problem:
                yield f"step '{step['Name']}' refers to {reference}: {problem}"
        for name in depends_on(step):
            if name not in seen:
                yield f"step '{step['Name']}' depends on '{name}', which is not above it"
        yield from (f"step '{step['Name']}': {problem}" for problem in in_step(step))
        seen[step["Name"]] = step
    yield from (f"parameter '{name}' is read by no step" for name in declared if name not in read)


def all_steps(steps: Sequence[Json]) -> Iterator[Json]:
    """Every step, those inside conditions after the condition."""
    for step in steps:
        yield step
        for branch in ("IfSteps", "ElseSteps"):
            yield from all_steps(step["Arguments"].get(branch, ())) if step["Type"] == "Condition" else ()


def own_part(step: Json) -> Any:
    """A step without the steps inside it."""
    if step["Type"] != "Condition":
        return step["Arguments"]
    return step["Arguments"]["Conditions"]


def depends_on(step: Json) -> list[str]:
    return [entry if isinstance(entry, str) else entry["Step"] for entry in step.get("DependsOn", ())]


def references(value: Any) -> Iterator[str]:
    """Every {"Get": …} below a value."""
    if isinstance(value, Mapping):
        if set(value) == {"Get"}:
            yield value["Get"]
        else:
            for part in value.values():
                yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def unresolved(reference: str, declared: set[str], seen: Mapping[str, Json]) -> str:
    """Why a reference leads nowhere; "" when it leads somewhere."""
    if reference.startswith("Parameters."):
        return "" if reference.removeprefix("Parameters.") in declared else "no such parameter"
    if reference.startswith("Execution."):
        return "" if reference.removeprefix("Execution.") in EXECUTION else "executions have no such variable"
    found = REFERENCE.fullmatch(reference)
    if not found:
        return "neither a parameter, an execution variable nor a step"
    name, path = found.groups()
    if name not in seen:
        return f"no step '{name}' above it"
    known = set(readable(seen[name]))
    return "" if path in known else f"it has {', '.join(sorted(known)) or 'nothing to read'}"


def readable(step: Json) -> Iterator[str]:
    """What other steps may read of a step, as the rest of a reference."""
    if step["Type"] == "Processing":
        for output in outputs(step):
            yield f"ProcessingOutputConfig.Outputs['{output}'].S3Output.S3Uri"
        yield from (f"PropertyFiles.{file['PropertyFileName']}" for file in step.get("PropertyFiles", ()))
    elif step["Type"] == "Training":
        yield "ModelArtifacts.S3ModelArtifacts"
    elif step["Type"] == "Lambda":
        yield from (f"OutputParameters['{output['OutputName']}']" for output in step["OutputParameters"])


def outputs(step: Json) -> list[str]:
    return [output["OutputName"] for output in step["Arguments"].get("ProcessingOutputConfig", {}).get("Outputs", ())]


def in_step(step: Json) -> Iterator[str]:
    """Problems of one step by itself."""
    arguments = step["Arguments"]
    yield from too_much("environment variable", arguments.get("Environment", {}))
    if step["Type"] == "Processing":
        words = arguments["AppSpecification"].get("ContainerArguments", [])
        yield from too_much("container argument", dict(enumerate(words)))
        yield from property_files(step)
        yield from folders(step, words)
        yield from channels([entry["InputName"] for entry in arguments.get("ProcessingInputs", ())], "Processing")
    elif step["Type"] == "Training":
        hyperparameters = arguments["HyperParameters"]
        yield from too_much("hyperparameter", hyperparameters)
        yield from (f"no hyperparameter '{name}'" for name in (MODULE, OUTPUTS) if name not in hyperparameters)
        yield from channels([entry["ChannelName"] for entry in arguments.get("InputDataConfig", ())], "Training")


def too_much(what: str, values: Mapping[Any, Any]) -> Iterator[str]:
    longest, most = LIMITS[what]
    if len(values) > most:
        yield f"{len(values)} {what}s, SageMaker takes {most}"
    for name, value in values.items():
        length = len(value) if isinstance(value, str) else sum(map(len, literals(value)))
        if length > longest:
            yield f"{what} {name} has {length} characters, SageMaker takes {longest}"


def literals(value: Any) -> list[str]:
    """The texts of a Std:Join that are there already."""
    parts = value.get("Std:Join", {}).get("Values", []) if isinstance(value, Mapping) else []
    return [part for part in parts if isinstance(part, str)]


def channels(names: Sequence[str], kind: str) -> Iterator[str]:
    if len(names) > MOST_CHANNELS[kind]:
        yield f"{len(names)} channels, SageMaker takes {MOST_CHANNELS[kind]}. Let a step read less."
    yield from (f"two channels are called '{name}'" for name in sorted({n for n in names if names.count(n) > 1}))
    yield from (f"no channel '{name}'" for name in OURS if name not in names)


def property_files(step: Json) -> Iterator[str]:
    for file in step.get("PropertyFiles", ()):
        if file["OutputName"] not in outputs(step):
            yield (
                f"property file '{file['PropertyFileName']}' lies in output '{file['OutputName']}', which is not there "
                f"(there are: {', '.join(outputs(step))})"
            )


def folders(step: Json, words: Sequence[Any]) -> Iterator[str]:
    """Folders named in the words of a job against those SageMaker brings and fetches, both ways."""
    arguments = step["Arguments"]
    brought = {entry["S3Input"]["LocalPath"]: entry["InputName"] for entry in arguments.get("ProcessingInputs", ())}
    fetched = {
        entry["S3Output"]["LocalPath"]: entry["OutputName"] for entry in arguments["ProcessingOutputConfig"]["Outputs"]
    }
    named = [word for word in words if isinstance(word, str) and word.startswith(f"{ROOT}/processing/")]
    tops = {"/".join(word.split("/")[:6]): word for word in named}
    for top, word in tops.items():
        if top not in brought and top not in fetched:
            yield f"the words name {word}, which no channel brings and no output fetches"
    ours = {f"{ROOT}/processing/input/{name}" for name in OURS}
    for path, name in (brought | fetched).items():
        if path not in tops and path not in ours:
            yield f"'{name}' lies at {path}, which the words of the job do not name"
    names = sorted(fetched.values())
    for short in names:
        clash = [name for name in names if name != short and name.startswith(short)]
        if clash:  # S3 knows prefixes, not folders: reading the one would bring the other as well
            yield f"output '{short}' begins output '{clash[0]}', and S3 would bring both. Rename one."
