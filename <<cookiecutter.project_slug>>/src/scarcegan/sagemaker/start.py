"""Start: which pipeline parameters an execution is given, as data; and the start itself. See executions.py, upsert.py.

Which values may change per execution is what parameters.py reads from the definition; others are fixed by an upsert.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path

from scarcegan.aws.client import Aws
from scarcegan.aws.names import Names
from scarcegan.aws.storage import Bucket, location
from scarcegan.errors import UserError
from scarcegan.pipeline import config as settings
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import value_text
from scarcegan.sagemaker import parameters
from scarcegan.sagemaker.pipelines import deployed_parameters, pipeline_of

DATA_KEYS = {"path": "telemetry", "labels": "labels"}  # key of data: in config.yaml -> source of the pipelines


@dataclass(frozen=True)
class StartPlan:
    """What a start would pass: pipeline parameter -> value. notes: what a person should know of it."""

    pipeline: str
    parameters: Mapping[str, str]
    notes: tuple[str, ...] = ()


def make_plan(path: Path, name: str, changes: Sequence[str], names: Names) -> StartPlan:
    """What `start --set …` would pass, without a look at AWS. UserError for what an execution cannot change.

    path: config.yaml. changes: KEY=VALUE, the key one of config.yaml or a pipeline parameter, such as TelemetryUri.
    """
    typed = [change.partition("=") for change in changes if is_parameter(change)]
    keys = [change for change in changes if not is_parameter(change)]
    base = settings.load(path)
    refuse_what_is_no_parameter(name, base, {parameter: value for parameter, _, value in typed}, names)
    for key in keys:
        refuse_what_changes_nothing(path, name, base, key, names)
    found = difference(name, base, settings.load(path, keys), names)
    found |= {parameter: value for parameter, _, value in typed}
    for parameter, value in found.items():
        if not 0 < len(value) <= parameters.LONGEST:
            raise UserError(
                f"{parameter} has {len(value)} characters, SageMaker takes 1 to {parameters.LONGEST}. Mend the value."
            )
    return StartPlan(name, found)


def refuse_what_is_no_parameter(name: str, config: Config, typed: Mapping[str, str], names: Names) -> None:
    """UserError for a pipeline parameter that this pipeline has not, or for data that does not lie in S3."""
    known = list(parameters.of(pipeline_of(name, config), config, names))
    for parameter, value in typed.items():
        if parameter not in known:
            near = get_close_matches(parameter, known, 1)
            move = f"Did you mean '{near[0]}'?" if near else "Mend the name; a new one is known after: scarcegan upsert"
            raise UserError(
                f"the pipeline {names.pipeline(name)} has no parameter {parameter} (it has: {', '.join(known)}). {move}"
            )
        if value and parameter.endswith("Uri"):
            location(value)


def is_parameter(change: str) -> bool:
    """Whether --set names a pipeline parameter itself: those begin with a capital, keys of config.yaml never do."""
    return bool(re.match(r"[A-Z]\w*=", change))


def difference(name: str, base: Config, wanted: Config, names: Names) -> dict[str, str]:
    """Parameters that turn an execution by `base` into one by `wanted`; UserError for what is fixed by an upsert."""
    before, after = (pipeline_of(name, base), base), (pipeline_of(name, wanted), wanted)
    changed = {key: value_text(value) for key, value in parameters.changed(before, after, names).items()}
    for key, source in DATA_KEYS.items():
        place = getattr(wanted.data, key)
        if place != getattr(base.data, key) and source in before[0].sources:
            if not place.startswith("s3://"):
                raise UserError(
                    f"--set data.{key}={place}: in the cloud, data is read from S3. Copy it there "
                    "(aws s3 sync …), then name the folder: s3://bucket/folder/"
                )
            changed[parameters.uri_name(source)] = place
    return changed


def refuse_what_changes_nothing(path: Path, name: str, base: Config, change: str, names: Names) -> None:
    """UserError for one --set that no part of this pipeline would notice."""
    try:
        alone = settings.load(path, [change])
    except UserError:
        return  # it needs its companions; they are looked at together
    if alone != base and not difference(name, base, alone, names):
        raise UserError(
            f"--set {change}: changes nothing of the {name} pipeline in the cloud. Leave it out, or name the key of a "
            "step, such as train.iterations or gate.minimum."
        )


def complete(plan: StartPlan, door: Aws, config: Config) -> StartPlan:
    """Look at AWS: is the pipeline there, does it know the parameters, which data lies there. Reads only."""
    known = {name: value_text(value) for name, value in deployed_parameters(door, plan.pipeline).items()}
    unknown = sorted(plan.parameters.keys() - known.keys())
    if unknown:
        raise UserError(
            f"the pipeline {door.names.pipeline(plan.pipeline)} has no parameter {', '.join(unknown)} "
            f"(it has: {', '.join(known)}). If config.yaml or the code is newer than it, type: scarcegan upsert"
        )
    present = of_config(plan.pipeline, config, door.names)
    newer = {k: v for k, v in present.items() if k not in plan.parameters and known.get(k, v) != v}
    notes = [f"config.yaml says {k}={v}, the pipeline's default is {known[k]}: passed" for k, v in newer.items()]
    given = {**newer, **plan.parameters}
    given |= data_parameters(door, plan.pipeline, {**known, **given})
    return StartPlan(plan.pipeline, given, tuple(notes))


def of_config(name: str, config: Config, names: Names) -> dict[str, str]:
    """Every parameter that config.yaml has a value for; of sources, those it names in S3."""
    pipeline = pipeline_of(name, config)
    places = {parameters.uri_name(source): getattr(config.data, key) for key, source in DATA_KEYS.items()}
    named = {key: place for key, place in places.items() if place.startswith("s3://")}
    others = {
        make(source) for source in pipeline.sources for make in (parameters.uri_name, parameters.fingerprint_name)
    }
    found = {key: value_text(p.default) for key, p in parameters.of(pipeline, config, names).items()}
    return {key: value for key, value in {**found, **named}.items() if key not in others or key in named}


def data_parameters(door: Aws, name: str, known: Mapping[str, str]) -> dict[str, str]:
    """A fingerprint per source, since SageMaker's cache does not see new data behind an unchanged URI; the empty
    folder for an optional source that is not there. UserError for a source that must hold something and does not."""
    pipeline, found = pipeline_of(name, Config()), {}
    for source in pipeline.sources:
        key, mark = parameters.uri_name(source), parameters.fingerprint_name(source)
        if key not in known:
            continue  # the pipeline is older than this source
        there, digest = listing(door, known[key])
        if not digest and source not in pipeline.optional:
            raise nothing_there(source, key, known[key])
        if not there:
            found[key] = door.names.uri("empty", "")
        found[mark] = digest or parameters.NO_FINGERPRINT
    return found


class NoData(UserError):
    """A source that must hold something is empty."""


def nothing_there(source: str, key: str, uri: str) -> NoData:
    move = (
        "Approve a model and let it be deployed"
        if source == "model"
        else f"Copy it there: aws s3 sync data/{source} {uri}"
    )
    return NoData(f"{uri}: no {source} there. {move}; or name another place: --set {key}=s3://…")


def listing(door: Aws, uri: str) -> tuple[bool, str]:
    """Whether anything lies below a URI, and a digest of names, sizes and ETags; "" when there are but marks and
    empty folders."""
    bucket, prefix = location(uri)
    digest, there, some = sha256(), False, False
    for item in Bucket(door.client("s3"), bucket).listing(prefix):
        there = True
        if item["Key"].rsplit("/", 1)[-1][:1] not in ("", "."):
            some = True
            digest.update(json.dumps([item["Key"].removeprefix(prefix), item["Size"], item["ETag"]]).encode())
    return there, digest.hexdigest()[:16] if some else ""


def start(plan: StartPlan, door: Aws) -> str:
    """Start an execution; returns its ARN.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
    """
    answer = door.client("sagemaker").start_pipeline_execution(
        PipelineName=door.names.pipeline(plan.pipeline),
        PipelineParameters=[{"Name": name, "Value": value} for name, value in sorted(plan.parameters.items())],
    )
    return answer["PipelineExecutionArn"]
