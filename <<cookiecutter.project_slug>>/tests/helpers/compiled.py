"""Compiled pipelines for tests: a bundle without looking at files, and a compile in a process that AWS cannot reach."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rehearsal import shapes
from scarcegan.aws.names import Names
from scarcegan.pipeline.config import Config
from scarcegan.sagemaker import compiler
from scarcegan.sagemaker.bundle import Bundle
from scarcegan.sagemaker.refusals import all_steps

SOURCE = Path(compiler.__file__).parents[2]
NAMES = Names("rare-players", "111122223333", "eu-west-1")
BUNDLE = Bundle("c0de" * 8, {}, "3d0e" * 8)
CALLS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName"),
    "Training": ("CreateTrainingJob", "TrainingJobName"),
}
ALONE = """
import json, os, socket, sys
tried = []
def refuse(*call, **more):
    tried.append(repr(call))
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
before = dict(os.environ)
from scarcegan.sagemaker import compiler
from scarcegan.sagemaker.bundle import Bundle
from scarcegan.pipeline.config import Config
from scarcegan.aws.names import Names
done = compiler.compile_all(Config(), Names(*sys.argv[1:4]), Bundle(sys.argv[4], {}, sys.argv[5]))
import boto3, logging
kept = (dict(os.environ), boto3.DEFAULT_SESSION, logging.root.handlers) == (before, None, [])
told = {name: compiled.definition for name, compiled in done.items()}
print(json.dumps({"definitions": told, "tried": tried, "kept": kept}))
"""


def compiled(**settings) -> dict[str, dict]:
    """Pipeline -> its definition as SageMaker would read it. settings: sections of config.yaml."""
    config = Config.model_validate(settings)
    return {name: json.loads(c.definition) for name, c in compiler.compile_all(config, NAMES, BUNDLE).items()}


def compiled_training(**settings) -> dict:
    """The training pipeline alone, for half the time."""
    config = Config.model_validate(settings)
    pipeline = compiler.pipelines(config, "v1")[0]
    return json.loads(compiler.compile_pipeline(pipeline, config, NAMES, BUNDLE).definition)


def compiled_alone(home: Path, seed: int) -> subprocess.CompletedProcess:
    """A compile in a process of its own: no AWS_* variable, no home, no network, another order of sets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAGEMAKER_"))}
    environment = {**kept, "HOME": str(home), "PYTHONPATH": str(SOURCE), "PYTHONHASHSEED": str(seed)}
    words = [NAMES.project, NAMES.account, NAMES.region, BUNDLE.digest, BUNDLE.wheels]
    return subprocess.run([sys.executable, "-c", ALONE, *words], env=environment, capture_output=True, text=True)


def step(pipeline: dict, name: str) -> dict:
    """A step of a definition, wherever it stands."""
    return next(found for found in all_steps(pipeline["Steps"]) if found["Name"] == name)


def jobs(pipeline: dict) -> list[dict]:
    """The steps that become jobs."""
    return [found for found in all_steps(pipeline["Steps"]) if found["Type"] in CALLS]


def defaults(pipeline: dict) -> dict[str, Any]:
    return {parameter["Name"]: parameter["DefaultValue"] for parameter in pipeline["Parameters"]}


def problems(job: dict, pipeline: dict) -> list[str]:
    """What botocore's model of the service has against a job's arguments; variables have the values of a first run."""
    operation, name = CALLS[job["Type"]]
    return shapes.problems(operation, sample(job["Arguments"], defaults(pipeline)) | {name: "pipelines-abc-split"})


def sample(value: Any, parameters: dict[str, Any]) -> Any:
    """The value an execution would have, by its parameters' defaults."""
    if isinstance(value, list):
        return [sample(part, parameters) for part in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Get"}:
        kind, _, name = value["Get"].partition(".")
        return {"Parameters": parameters.get(name), "Execution": "abcdef123456"}.get(kind, "s3://bucket/prefix/object")
    if set(value) == {"Std:Join"}:
        join = value["Std:Join"]
        return join["On"].join(str(sample(part, parameters)) for part in join["Values"])
    return {key: sample(part, parameters) for key, part in value.items()}
