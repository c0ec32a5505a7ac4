"""Start: which pipeline parameters an execution is given, as data; and the start itself. See executions.py, upsert.py.

Which values may change per execution is what definition.py says of each step; all others are fixed by an upsert.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from scarcegan.errors import UserError
from scarcegan.pipeline import aws, executions
from scarcegan.pipeline import config as settings
from scarcegan.pipeline.aws import Aws
from scarcegan.pipeline.cache import value_text
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Pipeline, Step
from scarcegan.pipeline.executions import pipeline_of

LINEAGE = ("config", "data-fingerprint", "code-version")  # what a registration tells of itself; changes no result
LONGEST_VALUE = 1024  # characters; https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html


@dataclass(frozen=True)
class Difference:
    """How two settings differ as a pipeline sees it: pipeline parameters, and arguments fixed by an upsert."""

    parameters: Mapping[str, str]
    fixed: tuple[str, ...]


@dataclass(frozen=True)
class StartPlan:
    """What a start would pass. given: the names and values typed; parameters: those and what they bring along."""

    pipeline: str
    parameters: Mapping[str, str]
    notes: tuple[str, ...] = ()


def parameter_name(*words: str) -> str:
    """A step and its argument as a pipeline parameter: train, weight-decay -> TrainWeightDecay."""
    return "".join(part.capitalize() for word in words for part in re.split(r"[-_]", word))


def parameters_of(pipeline: Pipeline) -> dict[str, str]:
    """Every pipeline parameter that config.yaml has a value for."""
    found = {}
    for step in pipeline.steps:
        if isinstance(step, Step):
            found.update({parameter_name(step.name, a): value_text(step.arguments[a]) for a in step.parameters})
            if step.instance:
                found[parameter_name(step.name, "instance-type")] = step.instance
    return found


def difference(base: Pipeline, other: Pipeline) -> Difference:
    """What of `other` an execution of `base` can be told, and what it cannot."""
    before, after = parameters_of(base), parameters_of(other)
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    fixed = []
    for old, new in zip(base.steps, other.steps, strict=True):
        if isinstance(old, Step) and isinstance(new, Step):
            free = {*new.parameters, *(LINEAGE if new.kind == "lambda" else ())}
            names = [name for name in {**old.arguments, **new.arguments} if name not in free]
            fixed += [f"{new.name}.{n}" for n in names if old.arguments.get(n) != new.arguments.get(n)]
    return Difference(changed, tuple(fixed))


def plan_start(path: Path, name: str, changes: Sequence[str]) -> StartPlan:
    """What `start --set …` would pass, without looking at AWS. UserError for what an execution cannot change.

    changes: KEY=VALUE with a key of config.yaml, or with the name of a pipeline parameter, such as TelemetryUri.
    """
    direct = dict(parameter(change) for change in changes if is_parameter(change))
    keys = [change for change in changes if not is_parameter(change)]
    base, wanted = settings.load(path), settings.load(path, keys)
    for key in keys:
        refuse_what_is_fixed(path, name, base, key)
    found = difference(pipeline_of(name, base), pipeline_of(name, wanted))
    refuse_fixed(found.fixed, ", ".join(keys))
    parameters = {**found.parameters, **sources(base, wanted), **direct}
    for key, value in parameters.items():
        if len(value) > LONGEST_VALUE:
            raise UserError(f"{key} is {len(value)} characters long, SageMaker takes {LONGEST_VALUE}. Shorten it.")
    return StartPlan(name, parameters)


def is_parameter(change: str) -> bool:
    """Whether --set names a pipeline parameter itself: those begin with a capital, keys of config.yaml never do."""
    return bool(re.match(r"[A-Z]\w*=", change))


def parameter(change: str) -> tuple[str, str]:
    name, _, value = change.partition("=")
    return name, value


def sources(base: Config, wanted: Config) -> dict[str, str]:
    """Data that was named anew: it must lie in S3."""
    found = {}
    for name, old, new in (
        ("TelemetryUri", base.data.path, wanted.data.path),
        ("LabelsUri", base.data.labels, wanted.data.labels),
    ):
        if new != old:
            aws.location(new)
            found[name] = new
    return found


def refuse_what_is_fixed(path: Path, name: str, base: Config, change: str) -> None:
    """UserError for one --set that an execution of this pipeline cannot follow."""
    try:
        alone = settings.load(path, [change])
    except UserError:
        return  # it needs its companions; they are looked at together
    if alone == base:
        return
    found = difference(pipeline_of(name, base), pipeline_of(name, alone))
    follows = bool({**found.parameters, **sources(base, alone)})
    refuse_fixed(found.fixed, change)
    if not follows and change.startswith("cloud."):
        refuse_fixed([change.partition("=")[0]], change)
    if not follows:
        raise UserError(
            f"--set {change}: changes nothing of the {name} pipeline. Leave it out, or name a key of a step: "
            "train.iterations, gate.minimum …"
        )


def refuse_fixed(fixed: Sequence[str], change: str) -> None:
    if fixed:
        raise UserError(
            f"--set {change}: fixed when the pipeline was made ({', '.join(fixed)}), so an execution cannot change it. "
            "Change config.yaml, then type: scarcegan upsert"
        )


def complete(plan: StartPlan, door: Aws, config: Config) -> StartPlan:
    """Look at AWS: is the pipeline there, does it know the parameters, has the data changed. Reads only."""
    known = deployed_parameters(door, plan.pipeline)
    wanted = {**parameters_of(pipeline_of(plan.pipeline, config)), **plan.parameters}
    unknown = sorted(name for name in plan.parameters if name not in known)
    if unknown:
        raise UserError(
            f"the pipeline {door.names.pipeline(plan.pipeline)} has no parameter {', '.join(unknown)} "
            f"(it has: {', '.join(known)}). If config.yaml or the code is newer, type: scarcegan upsert"
        )
    moved = {name: value for name, value in wanted.items() if name in known and value_text(known[name]) != value}
    notes = [
        f"config.yaml says {name}={value}, the pipeline's default is {known[name]}: passed"
        for name, value in moved.items()
        if name not in plan.parameters
    ]
    given = {**moved, **plan.parameters}
    given |= data_parameters(door, plan.pipeline, {name: str(value) for name, value in {**known, **given}.items()})
    return StartPlan(plan.pipeline, given, tuple(notes))


def deployed_parameters(door: Aws, name: str) -> dict[str, Any]:
    """Parameter -> default of the pipeline as it is in AWS; UserError when it is not there yet."""
    from scarcegan.pipeline.upsert import defaults, described

    found = described(door, door.names.pipeline(name))
    if found is None:
        raise executions.not_there(door, name)
    return defaults(json.loads(found["PipelineDefinition"]))


def data_parameters(door: Aws, name: str, known: Mapping[str, str]) -> dict[str, str]:
    """A fingerprint per source, since SageMaker's cache does not see new data behind an unchanged URI; the empty
    folder for an optional source that holds nothing. UserError for a source that must hold something and does not."""
    pipeline, found = pipeline_of(name, Config()), {}
    for source in pipeline.sources:
        key, mark = parameter_name(source, "uri"), parameter_name(source, "fingerprint")
        if key not in known:
            continue
        digest = listing_digest(door, known[key])
        if not digest and source not in pipeline.optional:
            raise UserError(
                f"{known[key]}: no {source} there. Copy some with 'aws s3 cp --recursive … {known[key]}/', "
                f"approve a model if it is the model that is missing, or name another place: --set {key}=s3://…"
            )
        if not digest:
            found[key] = door.names.uri("empty")
        if mark in known:
            found[mark] = digest
    return found


def listing_digest(door: Aws, uri: str) -> str:
    """Digest of names, sizes and ETags below a URI; "" when nothing lies there. Hidden marks do not count."""
    bucket, prefix = aws.location(uri)
    digest, some = sha256(), False
    pages = door.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for item in (item for page in pages for item in page.get("Contents", [])):
        below = item["Key"].removeprefix(prefix.rstrip("/"))
        if below[:1] not in ("", "/") or below.rsplit("/", 1)[-1].startswith("."):
            continue
        some = some or item["Size"] > 0
        digest.update(json.dumps([below, item["Size"], item["ETag"]]).encode())
    return digest.hexdigest()[:16] if some else ""


def start(plan: StartPlan, door: Aws) -> str:
    """Start an execution; returns its ARN.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
    """
    answer = door.client("sagemaker").start_pipeline_execution(
        PipelineName=door.names.pipeline(plan.pipeline),
        PipelineParameters=[{"Name": name, "Value": value} for name, value in sorted(plan.parameters.items())],
    )
    return answer["PipelineExecutionArn"]
