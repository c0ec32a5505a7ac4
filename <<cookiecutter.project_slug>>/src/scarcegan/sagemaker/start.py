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
from scarcegan.aws.storage import Bucket, split_s3_uri
from scarcegan.errors import UserError
from scarcegan.pipeline import config as settings
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Pipeline, value_text
from scarcegan.sagemaker import parameters
from scarcegan.sagemaker.pipelines import ConfiguredPipeline, configured, deployed_parameters

DATA_KEYS = {"path": "telemetry", "labels": "labels"}  # key of data: in config.yaml -> source of the pipelines


@dataclass(frozen=True)
class StartPlan:
    """What a start would pass: pipeline parameter -> value. notes: what a person should know of it."""

    pipeline: str
    parameters: Mapping[str, str]
    notes: tuple[str, ...] = ()


def make_plan(base: ConfiguredPipeline, path: Path, changes: Sequence[str]) -> StartPlan:
    """What `scarcegan start --set …` would pass, without asking AWS.

    - base: the pipeline as config.yaml has it.
    - path: that config.yaml, read again with the changes.
    - changes: KEY=VALUE each; the key is one of config.yaml, or a pipeline parameter such as TelemetryUri.

    Raises UserError for what no execution can change, and for a change that this pipeline would not notice.
    """
    typed = {key: value for key, _, value in (change.partition("=") for change in changes if is_parameter(change))}
    keys = [change for change in changes if not is_parameter(change)]
    refuse_what_is_no_parameter(base, typed)
    if len(keys) > 1:
        for key in keys:
            refuse_what_changes_nothing(base, path, key)
    wanted = settings.load_config(path, keys) if keys else base.config
    found = difference(base, wanted) if keys else {}
    if len(keys) == 1 and not found and wanted != base.config:
        raise changes_nothing(base, keys[0])
    found |= typed
    for parameter, value in found.items():
        if not 0 < len(value) <= parameters.LONGEST:
            raise UserError(
                f"{parameter} has {len(value)} characters, SageMaker takes 1 to {parameters.LONGEST}. Mend the value."
            )
    return StartPlan(base.name, found)


def refuse_what_is_no_parameter(base: ConfiguredPipeline, typed: Mapping[str, str]) -> None:
    """Raise UserError for a parameter that this pipeline does not have, or for data that does not lie in S3.

    - typed: pipeline parameter -> value, as given on the command line.
    """
    for parameter, value in typed.items():
        if parameter not in base.parameters:
            near = get_close_matches(parameter, list(base.parameters), 1)
            move = f"Did you mean '{near[0]}'?" if near else "Mend the name; a new one is known after: scarcegan upsert"
            raise UserError(
                f"the pipeline {base.names.pipeline(base.name)} has no parameter {parameter} "
                f"(it has: {', '.join(base.parameters)}). {move}"
            )
        if value and parameter.endswith("Uri"):
            split_s3_uri(value)


def is_parameter(change: str) -> bool:
    """Whether --set names a pipeline parameter itself: those begin with a capital, keys of config.yaml never do."""
    return bool(re.match(r"[A-Z]\w*=", change))


def difference(base: ConfiguredPipeline, config: Config) -> dict[str, str]:
    """Pipeline parameters that make an execution of `base` run as `config` says: those whose value differs.

    Raises UserError for a difference that no parameter carries (the definition itself must be updated), and for data
    that does not lie in S3.
    """
    wanted = configured(base.name, config, base.names)
    refuse_what_is_fixed(base, wanted)
    changed = {
        name: value_text(parameter.default)
        for name, parameter in wanted.parameters.items()
        if parameter.default != base.parameters[name].default
    }
    for key, source in DATA_KEYS.items():
        place = getattr(config.data, key)
        if place != getattr(base.config.data, key) and source in base.pipeline.sources:
            if not place.startswith("s3://"):
                raise UserError(
                    f"--set data.{key}={place}: in AWS, data is read from S3. Copy it there "
                    "(aws s3 sync …), then name the folder: s3://bucket/folder/"
                )
            changed[parameters.uri_name(source)] = place
    return changed


def refuse_what_is_fixed(base: ConfiguredPipeline, wanted: ConfiguredPipeline) -> None:
    """Raise UserError, naming the keys, when the two differ in what only a new definition changes."""
    before, after = (parameters.fixed_values(one.pipeline, one.config) for one in (base, wanted))
    fixed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    if fixed:
        raise UserError(
            f"fixed in the {base.name} pipeline, so it cannot change for one execution: {', '.join(sorted(fixed))}. "
            "Write the value into config.yaml, then type: scarcegan upsert"
        )


def refuse_what_changes_nothing(base: ConfiguredPipeline, path: Path, change: str) -> None:
    """Raise UserError for one --set of several that no part of this pipeline would notice."""
    try:
        alone = settings.load_config(path, [change])
    except UserError:
        return  # it is valid only together with the others, and they are looked at together
    if alone != base.config and not difference(base, alone):
        raise changes_nothing(base, change)


def changes_nothing(base: ConfiguredPipeline, change: str) -> UserError:
    """The error for a --set that this pipeline would not notice."""
    return UserError(
        f"--set {change}: changes nothing of the {base.name} pipeline in AWS. Leave it out, or name the key of a "
        "step, such as train.iterations or gate.minimum."
    )


def complete(plan: StartPlan, base: ConfiguredPipeline, aws: Aws) -> StartPlan:
    """The plan with what AWS knows: newer values of config.yaml, and which data lies in S3. Only reads.

    - base: the pipeline as config.yaml has it.

    Raises UserError when the pipeline is not in AWS yet, lacks a parameter of the plan, or has no data to read.
    """
    known = {name: value_text(value) for name, value in deployed_parameters(aws, plan.pipeline).items()}
    unknown = sorted(plan.parameters.keys() - known.keys())
    if unknown:
        raise UserError(
            f"the pipeline {aws.names.pipeline(plan.pipeline)} has no parameter {', '.join(unknown)} "
            f"(it has: {', '.join(known)}). If config.yaml or the code is newer than it, type: scarcegan upsert"
        )
    present = of_config(base)
    newer = {k: v for k, v in present.items() if k not in plan.parameters and known.get(k, v) != v}
    notes = [f"config.yaml says {k}={v}, the pipeline's default is {known[k]}: passed" for k, v in newer.items()]
    given = {**newer, **plan.parameters}
    given |= data_parameters(aws, base.pipeline, {**known, **given})
    return StartPlan(plan.pipeline, given, tuple(notes))


def of_config(base: ConfiguredPipeline) -> dict[str, str]:
    """Parameter -> value for every parameter that config.yaml has a value for; of sources, those it names in S3."""
    places = {parameters.uri_name(source): getattr(base.config.data, key) for key, source in DATA_KEYS.items()}
    named = {key: place for key, place in places.items() if place.startswith("s3://")}
    others = {
        make(source) for source in base.pipeline.sources for make in (parameters.uri_name, parameters.fingerprint_name)
    }
    found = {key: value_text(parameter.default) for key, parameter in base.parameters.items()}
    return {key: value for key, value in {**found, **named}.items() if key not in others or key in named}


def data_parameters(aws: Aws, pipeline: Pipeline, known: Mapping[str, str]) -> dict[str, str]:
    """A fingerprint parameter per source, since SageMaker's cache does not see new data behind an unchanged address;
    and the address of the empty folder for an optional source that is not there.

    - known: the parameters that the execution is given so far, with the pipeline's defaults.

    Raises NoData for a source that must hold something and does not.
    """
    found = {}
    for source in pipeline.sources:
        key, mark = parameters.uri_name(source), parameters.fingerprint_name(source)
        if key not in known:
            continue  # the pipeline is older than this source
        there, digest = listing(aws, known[key])
        if not digest and source not in pipeline.optional:
            raise nothing_there(source, key, known[key])
        if not there:
            found[key] = aws.names.uri("empty", "")
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


def listing(aws: Aws, uri: str) -> tuple[bool, str]:
    """Whether anything lies below a URI, and a digest of names, sizes and ETags; "" when there are but marks and
    empty folders."""
    bucket, prefix = split_s3_uri(uri)
    digest, there, some = sha256(), False, False
    for item in Bucket(aws.client("s3"), bucket).listing(prefix):
        there = True
        if item["Key"].rsplit("/", 1)[-1][:1] not in ("", "."):
            some = True
            digest.update(json.dumps([item["Key"].removeprefix(prefix), item["Size"], item["ETag"]]).encode())
    return there, digest.hexdigest()[:16] if some else ""


def start(plan: StartPlan, aws: Aws) -> str:
    """Start an execution; returns its ARN.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
    """
    answer = aws.client("sagemaker").start_pipeline_execution(
        PipelineName=aws.names.pipeline(plan.pipeline),
        PipelineParameters=[{"Name": name, "Value": value} for name, value in sorted(plan.parameters.items())],
    )
    return answer["PipelineExecutionArn"]
