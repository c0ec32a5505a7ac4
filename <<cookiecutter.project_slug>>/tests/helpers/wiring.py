"""A compiled pipeline against its definition: where each step reads, where it writes, and for whom.

Nothing of the compiler is used: what an input must be compiled to follows from pipeline/definition.py and from the
names that SageMaker gives to properties of steps.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-properties.html
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rehearsal.references import references
from scarcegan.pipeline.definition import Pipeline, Step
from scarcegan.sagemaker.refusals import all_steps

CONTAINER = "/opt/ml/processing"
RUN = "<Execution.PipelineExecutionId>"
# Read by every execution, and below a digest of its content: the code of jobs, and the libraries they install.
SHARED = r"(code|wheels)/[0-9a-f]{32,}/"
# Written by every execution. It is part of the cache key, so it cannot name one; train looks at what made a checkpoint.
CHECKPOINTS = r"checkpoints/\w+"
Compiled = Mapping[str, Any]


def faults(compiled: Compiled, pipeline: Pipeline, bucket: str) -> Iterator[str]:
    """What is wired otherwise than the definition says, in words. compiled: the pipeline as SageMaker reads it."""
    steps = {step["Name"]: step for step in all_steps(compiled["Steps"])}
    written: dict[str, str] = {}
    before: list[str] = []
    for step in (step for step in pipeline.steps if isinstance(step, Step)):
        body = steps[step.name]
        for problem in [*inputs(step, body, pipeline, bucket), *outputs(step, body, bucket, written)]:
            yield f"{step.name}: {problem}"
        fixed = [reference(origin, pipeline, bucket) for origin in step.inputs.values()]
        for problem in addresses(body, bucket, before, {each["Name"] for each in compiled["Parameters"]}, fixed):
            yield f"{step.name}: {problem}"
        before.append(step.name)


def inputs(step: Step, body: Compiled, pipeline: Pipeline, bucket: str) -> Iterator[str]:
    """Every input of the definition, and no other, comes from the source or the output that it names."""
    read = {name: where for name, where in channels(body, step).items() if name not in ("code", "wheels")}
    wanted = {name: reference(origin, pipeline, bucket) for name, origin in step.inputs.items()}
    for name in sorted({*read, *wanted}):
        if read.get(name) != wanted.get(name):
            yield f"reads {json.dumps(read.get(name))} as {name}, not {json.dumps(wanted.get(name))}"
    told, folders = dict(named_folders(body, step)), {}
    for name, origin in step.inputs.items():
        packed = "." in origin and kind(origin, pipeline) == "training"  # one archive with a folder per output
        below = f"/{origin.split('.')[1]}" if packed else ""
        folders[name] = {"lambda": below.strip("/"), "processing": f"{CONTAINER}/input/{name}{below}"}.get(
            step.kind, ""
        )
    for name, folder in folders.items():
        if folder and told.get(name) != folder:
            yield f"is told that {name} is in {told.get(name)}, not in {folder}"


def reference(origin: str, pipeline: Pipeline, bucket: str) -> dict[str, str] | str:
    """What SageMaker calls the address of a source that an execution may move, or of a step's output; else the address.

    The sources that nothing may move lie below champion/ or data/<source>/, unless config.yaml says otherwise.
    """
    if origin in pipeline.movable:
        return {"Get": f"Parameters.{origin.capitalize()}Uri"}
    if "." not in origin:
        return f"s3://{bucket}/" + ("champion/" if origin in ("champion", "model") else f"data/{origin}/")
    name, output = origin.split(".")
    if kind(origin, pipeline) == "training":
        return {"Get": f"Steps.{name}.ModelArtifacts.S3ModelArtifacts"}
    return {"Get": f"Steps.{name}.ProcessingOutputConfig.Outputs['{output}'].S3Output.S3Uri"}


def kind(origin: str, pipeline: Pipeline) -> str:
    return getattr(pipeline.step(origin.split(".")[0]), "kind", "")


def channels(body: Compiled, step: Step) -> dict[str, Any]:
    """Name -> address of what a compiled step reads; of a Lambda's event, the entries that refer to addresses."""
    own = body["Arguments"]
    if step.kind == "lambda":
        return {name: value for name, value in own.items() if any(is_address(each) for each in references(value))}
    found = {each["InputName"]: each["S3Input"]["S3Uri"] for each in own.get("ProcessingInputs", ())}
    return found | {
        each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"] for each in own.get("InputDataConfig", ())
    }


def is_address(name: str) -> bool:
    """Whether a reference is to where something lies in S3."""
    return name.endswith((".S3Uri", ".S3ModelArtifacts")) or bool(re.fullmatch(r"Parameters\.\w+Uri", name))


def named_folders(body: Compiled, step: Step) -> Iterator[tuple[str, str]]:
    """(input or output, folder in which the step looks for it) as its arguments have it."""
    if step.kind == "lambda":
        for name, value in body["Arguments"].items():
            if name.endswith("_folder"):
                yield name.removesuffix("_folder"), value
        for name in set(step.inputs) - {key.removesuffix("_folder") for key in body["Arguments"] if "_folder" in key}:
            yield name, ""
    words = body["Arguments"].get("AppSpecification", {}).get("ContainerArguments", [])
    for word, following in pairwise(words):
        if isinstance(word, str) and re.fullmatch(r"--[a-z-]+", word) and isinstance(following, str):
            yield word.removeprefix("--"), following


def outputs(step: Step, body: Compiled, bucket: str, written: dict[str, str]) -> Iterator[str]:
    """Every output of the definition, and no other, has a place of its own that belongs to the execution.

    written: address -> output, of the steps before; this step's are added.
    """
    own = body["Arguments"]
    if step.kind == "training":
        places, wanted = {"": own["OutputDataConfig"]["S3OutputPath"]}, {""}
        if set(own["HyperParameters"]["scarcegan_outputs"].split(",")) != set(step.outputs):
            yield f"writes {own['HyperParameters']['scarcegan_outputs']}, not {', '.join(step.outputs)}"
    elif step.kind == "lambda":
        places = {name.removesuffix("_out"): value for name, value in own.items() if name.endswith("_out")}
        wanted = set(step.outputs)
    else:
        made = own["ProcessingOutputConfig"]["Outputs"]
        places, wanted = {each["OutputName"]: each["S3Output"]["S3Uri"] for each in made}, set(step.outputs)
        told = dict(named_folders(body, step))
        for each in made:
            folder = each["S3Output"]["LocalPath"]
            if told.get(f"{each['OutputName']}-out") != folder:
                yield f"writes {each['OutputName']} to {told.get(each['OutputName'] + '-out')}, not to {folder}"
    if set(places) != wanted:
        yield f"writes {sorted(places)}, not {sorted(wanted)}"
    for name, place in places.items():
        address = spelt(place)
        if not re.match(rf"s3://{bucket}/[\w-]+/{re.escape(RUN)}(/|$)", address):
            yield f"writes {name} to {address}, which belongs to no execution"
        if address in written:
            yield f"writes {name} to {address}, where {written[address]} is"
        written[address] = f"{step.name}.{name}"


def addresses(
    body: Compiled, bucket: str, before: list[str], parameters: set[str], fixed: Sequence[Any]
) -> Iterator[str]:
    """Every S3 address anywhere in a step is its execution's, an earlier step's, a parameter's, fixed or shared."""
    for text in texts(body["Arguments"]):
        for address in re.findall(r"s3://[^\s\"']*", text):
            place = address.removeprefix(f"s3://{bucket}/")
            ours = rf"{SHARED}|{CHECKPOINTS}|[\w-]+/{re.escape(RUN)}(/[\w/.-]*)?"
            if address not in fixed and not re.fullmatch(ours, place):
                yield f"names {address}, which is neither its execution's nor shared"
    for each in filter(is_address, references(body["Arguments"])):
        root, name = each.split(".")[:2]
        if (root == "Steps" and name not in before) or (root == "Parameters" and name not in parameters):
            yield f"reads {each}, which is of no step before it and no parameter"


def texts(value: Any) -> Iterator[str]:
    """Every text below a value; what is joined at run time as one, with its references in angle brackets."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping) and "Std:Join" in value:
        yield spelt(value)
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from texts(part)


def spelt(value: Any) -> str:
    """A text of which parts are known at run time only: s3://bucket/runs/<Execution.PipelineExecutionId>/split."""
    if isinstance(value, Mapping) and "Std:Join" in value:
        return value["Std:Join"]["On"].join(map(spelt, value["Std:Join"]["Values"]))
    if isinstance(value, Mapping) and "Get" in value:
        return f"<{value['Get']}>"
    return str(value)
