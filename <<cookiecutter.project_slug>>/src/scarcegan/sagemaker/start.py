"""Start an execution in SageMaker: first plan which pipeline parameters it is given, then start it.

Only values that are pipeline parameters (parameters.py) can differ per execution; others need `scarcegan upsert`.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

from scarcegan.aws.client import Aws
from scarcegan.aws.quotas import require_allowed_machines
from scarcegan.aws.storage import Bucket, split_s3_uri
from scarcegan.errors import UserError, shortened
from scarcegan.pipeline import config as settings
from scarcegan.pipeline.config import Config, DataSettings
from scarcegan.pipeline.definition import Step, copy_name, value_text
from scarcegan.sagemaker import job, parameters
from scarcegan.sagemaker.parameters import DATA_KEYS
from scarcegan.sagemaker.pipelines import ConfiguredPipeline, configured, deployed_definition, parameter_defaults
from scarcegan.sagemaker.refusals import LONGEST_PARAMETER, all_steps
from scarcegan.sagemaker.values import checked_value


@dataclass(frozen=True)
class StartPlan:
    """The parameters that an execution will be started with.

    - pipeline: training, scoring or training-NAME, a copy.
    - parameters: pipeline parameter -> value as text, for those that the execution is given; any other has its default
      in AWS. `plan_start` gives those of --set, `complete` those that depend on AWS.
    - notes: sentences for the user, one per value of config.yaml that `complete` has added, as AWS has another default.
    """

    pipeline: str
    parameters: Mapping[str, str]
    notes: tuple[str, ...] = ()


def plan_start(base: ConfiguredPipeline, path: Path, changes: Sequence[str]) -> StartPlan:
    """Plan an execution from the changes of `scarcegan start --set …`, without asking AWS.

    - base: the pipeline as config.yaml defines it.
    - path: the path of that config.yaml, which is read again with the changes.
    - changes: KEY=VALUE each. KEY is a key of config.yaml, or a pipeline parameter such as TelemetryUri, which prevails
      over the key that sets the same parameter. A value that a key has in config.yaml already is accepted, and changes
      nothing. A pipeline parameter is always part of the plan, even with its default.

    Raises UserError for an unknown key or parameter, for a value that config.yaml may not have, for a change that no
    execution can make or that has no effect on this pipeline, and for an empty or too long value of a parameter.
    """
    typed = {key: value for key, _, value in (change.partition("=") for change in changes if is_parameter(change))}
    keys = [change for change in changes if not is_parameter(change)]
    check_pipeline_parameters(base, typed)
    check_together(base, path, keys, typed)
    typed = {key: parameters.folder_uri(value) if key.endswith("Uri") else value for key, value in typed.items()}
    if len(keys) > 1:
        for key in keys:
            check_ineffective_settings(base, path, key)
    wanted = settings.load_config(path, keys) if keys else base.config
    found = parameter_overrides(base, wanted) if keys else {}
    if len(keys) == 1 and not found and wanted != base.config:
        raise no_effect_error(base, keys[0])
    found |= typed
    for parameter, value in found.items():
        check_length(parameter, value)
    return StartPlan(base.name, found)


def check_length(parameter: str, value: str) -> None:
    """Check that SageMaker would take a value of a pipeline parameter.

    Raises UserError for an empty or too long one.
    """
    if not 0 < len(value) <= LONGEST_PARAMETER:
        raise UserError(
            f"{parameter} has {len(value)} characters, SageMaker takes 1 to {LONGEST_PARAMETER}. Change the value."
        )


def check_pipeline_parameters(base: ConfiguredPipeline, typed: Mapping[str, str]) -> None:
    """Check pipeline parameters that were given on the command line.

    - typed: pipeline parameter -> value.

    Raises UserError for one that the pipeline does not have, for the value of a parameter …Uri that is no S3 address,
    for a machine whose disk does not take cloud.volume_key, and for any other value that config.yaml would refuse.
    """
    ruled = parameters.rules(base.parameters, base.config)
    for parameter, value in typed.items():
        if parameter not in base.parameters and parameter in former_parameters():
            raise UserError(f"--set {parameter}: {former_parameters()[parameter]}")
        if parameter not in base.parameters:
            near = get_close_matches(shortened(parameter), list(base.parameters), 1)
            move = f"Did you mean '{near[0]}'?" if near else "Correct the name; a new one needs: scarcegan upsert"
            raise UserError(
                f"the pipeline {base.names.pipeline(base.name)} has no parameter "
                f"{shortened(parameter)} (it has: {', '.join(base.parameters)}). {move}"
            )
        check_length(parameter, value)
        if parameter.endswith("Uri"):
            split_s3_uri(value)
        if settings.LOCAL_DISK.match(value) and base.config.cloud.volume_key != "none":
            raise UserError(
                f"--set {shortened(f'{parameter}={value}')}: this machine has a local disk, which takes no key. "
                "Set cloud.volume_key to none in config.yaml and type: scarcegan upsert; or name a machine such as "
                "ml.m5.xlarge."
            )
        if parameter in ruled:
            checked_value(parameter, ruled[parameter], value)


def check_together(base: ConfiguredPipeline, path: Path, keys: Sequence[str], typed: Mapping[str, str]) -> None:
    """Check that the values of pipeline parameters fit config.yaml and the other changes, as its own values must.

    - path: the path of config.yaml.
    - keys: changes KEY=VALUE whose KEY is a key of config.yaml.
    - typed: pipeline parameter -> value, each allowed by its own rule.

    Raises UserError for values that config.yaml refuses together, such as a batch with fewer rows than classes.
    """
    ruled = parameters.rules(base.parameters, base.config)
    more = [
        f"{ruled[name]['key']}={json.dumps(checked_value(name, ruled[name], value))}"
        for name, value in typed.items()
        if "key" in ruled.get(name, {})
    ]
    if more:
        settings.load_config(path, [*keys, *more])


def former_parameters() -> dict[str, str]:
    """Return pipeline parameters that earlier versions had, but no execution may set -> the sentence that says so.

    A pipeline may have some of them all the same: scoring has TelemetryUri and those of the features step.
    """
    upsert = "in config.yaml, then type: scarcegan upsert"
    fixed = "is fixed when the pipeline is written, as it decides what the gate compares. Change"
    sections = {"features": "data", "split": "split", "evaluate": "evaluate", "evaluate-gate": "gate"}
    found = {
        parameters.argument_name(step, name): f"{section}.{name} {fixed} it {upsert}"
        for step, section in sections.items()
        for name in settings.Config.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    }
    champion = "the address of the champion is fixed. To change the model, approve another: scarcegan approve 5 --cloud"
    return found | {
        "TelemetryUri": f"the address of the telemetry {fixed} data.path {upsert}",
        "LabelsUri": f"the address of the labels {fixed} data.labels {upsert}",
        "ChampionUri": champion,
        "ModelUri": champion,
        "ApprovalStatus": "no execution approves a model. A person does: scarcegan approve 5 --cloud",
    }


def is_parameter(change: str) -> bool:
    """Whether a text KEY=VALUE of --set names a pipeline parameter, which begins with a capital letter.

    Keys of config.yaml begin with a small letter.
    """
    return bool(re.match(r"[A-Z]\w*=", change))


def parameter_overrides(base: ConfiguredPipeline, config: Config) -> dict[str, str]:
    """Return the pipeline parameters (name -> value) that make an execution of a pipeline run with other settings.

    The result is {} when the settings do not differ for this pipeline.

    - base: the pipeline, with its present settings.
    - config: the other settings.

    Raises UserError for a difference that no parameter can express, and for data that is not in S3.
    """
    for source, key in DATA_KEYS.items():
        place = getattr(config.data, key)
        changed = place != getattr(base.config.data, key) and source in base.pipeline.sources
        if changed and not place.startswith("s3://"):
            raise UserError(
                f"--set data.{key}={shortened(place)}: in AWS, data is read from S3. Copy it there "
                "(aws s3 sync …), then name the folder: s3://bucket/folder/"
            )
    wanted = configured(base.name, config, base.names)
    check_fixed_settings(base, wanted)
    return {
        name: value_text(parameter.default)
        for name, parameter in wanted.parameters.items()
        if parameter.default != base.parameters[name].default
    }


def check_fixed_settings(base: ConfiguredPipeline, wanted: ConfiguredPipeline) -> None:
    """Check that two versions of a pipeline differ in pipeline parameters only.

    - base, wanted: the pipeline with its present settings and with others.

    Raises UserError, with the keys of config.yaml that no parameter sets, when they differ in more.
    """
    before, after = (parameters.fixed_values(one.pipeline, one.config, one.names) for one in (base, wanted))
    if before != after:
        changed = [key for key, _ in settings.differences(base.config.model_dump(), wanted.config.model_dump())]
        origins = {parameter.origin for parameter in base.parameters.values()}
        fixed = sorted(key for key in changed if key not in origins)
        raise UserError(
            f"fixed in the {base.name} pipeline, so it cannot change for one execution: {', '.join(fixed)}. "
            "Write the value into config.yaml, then type: scarcegan upsert"
        )


def check_ineffective_settings(base: ConfiguredPipeline, path: Path, change: str) -> None:
    """Check that one --set of several has an effect on this pipeline. Makes no call to AWS.

    - path: the path of config.yaml.
    - change: KEY=VALUE, with a key of config.yaml. A change that `load_config` refuses is accepted here, because it may
      be valid together with the others; so is a value that config.yaml has already.

    Raises UserError when it has no effect, or when no execution can make the change.
    """
    try:
        alone = settings.load_config(path, [change])
    except UserError:
        return  # it is valid only together with the others, and `plan_start` checks them together
    if alone != base.config and not parameter_overrides(base, alone):
        raise no_effect_error(base, change)


def no_effect_error(base: ConfiguredPipeline, change: str) -> UserError:
    """Return, without raising it, the error for a --set that has no effect on a pipeline. change: KEY=VALUE."""
    return UserError(
        f"--set {shortened(change)}: changes nothing of the {base.name} pipeline in AWS. Leave it out, or name the key "
        "of a step, such as train.iterations."
    )


def complete(plan: StartPlan, base: ConfiguredPipeline, aws: Aws) -> StartPlan:
    """Return a plan completed with what only AWS can tell. Reads from AWS and changes nothing there.

    Added are:
    - the values of config.yaml that differ from the defaults in AWS, because it was changed after the last upsert.
      Parameters that the plan sets, and those that the pipeline in AWS lacks, are left out.
    - a note for each of these values.
    - what `data_parameters` returns, which replaces what the plan has for the same parameter.

    base: the same pipeline, as config.yaml defines it.

    Raises UserError when the pipeline is not in AWS yet or lacks a parameter of the plan, when config.yaml has other
    values than the training pipeline for what no execution can change, and when scoring would read other files than
    those of the registry's champion, or for a machine that no job may have; NoData when a source that must hold data
    is empty.
    """
    compiled = deployed_definition(aws, plan.pipeline)
    known = {name: value_text(value) for name, value in parameter_defaults(compiled).items()}
    unknown = sorted(plan.parameters.keys() - known.keys())
    if unknown:
        raise UserError(
            f"the pipeline {aws.names.pipeline(plan.pipeline)} has no parameter {', '.join(unknown)} "
            f"(it has: {', '.join(known)}). If config.yaml or the code is newer than it, type: scarcegan upsert"
        )
    present = config_values(base)
    newer = {k: v for k, v in present.items() if k not in plan.parameters and known.get(k, v) != v}
    notes = [f"config.yaml says {k}={v}, the pipeline's default is {known[k]}: passed" for k, v in newer.items()]
    given = {**newer, **plan.parameters}
    here = replace(base, names=aws.names)  # a plan may be made before the account is known
    if plan.pipeline == "scoring":
        check_champion(aws, base.config)
    else:
        check_up_to_date(here, compiled)
    machines = {base.parameters[name].origin: given[name] for name in given if name.endswith("InstanceType")}
    require_allowed_machines(aws, machines)
    given |= data_parameters(aws, here, {**known, **given})
    return StartPlan(plan.pipeline, given, tuple(notes))


def check_champion(aws: Aws, config: Config) -> None:
    """Check that the champion's files in S3 are those of the registry's champion.

    Raises UserError when they are not.
    """
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry

    SageMakerRegistry(aws.names, config.project.model_package_group, aws.session).check_champion()


def check_up_to_date(base: ConfiguredPipeline, compiled: Mapping[str, Any]) -> None:
    """Check that a pipeline in AWS has the values of config.yaml that no execution can change.

    - base: the pipeline as config.yaml defines it, with the project's names in its account.
    - compiled: the JSON of the pipeline in AWS, parsed. A step that it lacks is not compared.

    Raises UserError with the differences.
    """
    differing = []
    for found in all_steps(compiled.get("Steps", [])):
        step = next((one for one in base.pipeline.steps if one.name == found["Name"]), None)
        if not isinstance(step, Step) or step.kind != "processing":
            continue
        arguments = found["Arguments"]
        words = arguments["AppSpecification"]["ContainerArguments"]
        texts = job.join_arguments(word for word in words if isinstance(word, str))
        there = dict(text.removeprefix("--").partition("=")[::2] for text in texts)
        places = {one["InputName"]: one["S3Input"]["S3Uri"] for one in arguments["ProcessingInputs"]}
        ours = {name: value_text(value) for name, value in step.arguments.items() if name not in step.parameters}
        differing += [
            f"{step.name} --{name}={shortened(value)} (in AWS: {shortened(there.get(name, 'none'))})"
            for name, value in ours.items()
            if there.get(name) != value
        ]
        for channel, source in step.inputs.items():
            if source in parameters.fixed_sources(base.pipeline):
                place = parameters.source_uri(source, base.pipeline, base.config, base.names)
                if places.get(channel) != place:
                    differing.append(f"{source} {place} (in AWS: {places.get(channel)})")
    if differing:
        copy = copy_name(base.name)
        move = f"Type: scarcegan pipeline copy {copy}" if copy else "Push config.yaml, or type: scarcegan upsert"
        raise UserError(
            f"the {base.name} pipeline in AWS was written with another config.yaml, and no execution can change these: "
            f"{'; '.join(differing)}. {move}"
        )


def config_values(base: ConfiguredPipeline) -> dict[str, str]:
    """Return pipeline parameter -> value as text, for every pipeline parameter that config.yaml sets.

    Fingerprints of sources are left out. TelemetryUri is in the result when data.path is in S3.

    - base: the pipeline as config.yaml defines it.
    """
    others = {parameters.fingerprint_name(source) for source in base.pipeline.sources}
    if not base.config.data.path.startswith("s3://"):
        others.add(parameters.uri_name("telemetry"))
    return {key: value_text(parameter.default) for key, parameter in base.parameters.items() if key not in others}


def data_parameters(aws: Aws, base: ConfiguredPipeline, known: Mapping[str, str]) -> dict[str, str]:
    """Return pipeline parameter -> value for the data of a pipeline's sources, as it is in S3 now.

    These are the fingerprints of the sources that the pipeline in AWS has as parameters, "none" without data.
    SageMaker's cache compares URIs only; the fingerprint makes it notice new data behind an unchanged URI.

    - base: the pipeline as config.yaml defines it, with the project's names in its account.
    - known: pipeline parameter -> value, as the execution would have it without the result.

    Raises NoData for a source without data that is not optional, and for an address without any object, of which
    SageMaker would fail the job; UserError for a URI that is not an S3 address.
    """
    found = {}
    for source in base.pipeline.sources:
        key, mark = parameters.uri_name(source), parameters.fingerprint_name(source)
        uri = known[key] if key in known else parameters.source_uri(source, base.pipeline, base.config, base.names)
        there, digest = data_digest(aws, uri)
        if not there or (not digest and source not in base.pipeline.optional):
            raise no_data_error(source, uri, source in base.pipeline.movable, base.config.data)
        if mark in known:
            found[mark] = digest or parameters.NO_FINGERPRINT
    return found


class NoData(UserError):
    """A source of a pipeline that must hold data is empty."""


def no_data_error(source: str, uri: str, movable: bool, data: DataSettings) -> NoData:
    """Return, without raising it, the error for a source without data.

    - source: such as telemetry or model.
    - uri: its S3 URI.
    - movable: whether an execution may name another one.
    - data: the settings that say where the data is on this machine.
    """
    if source == "model":
        move = "Approve a model and let it be deployed"
    elif source == "champion":
        move = "Type: scarcegan upsert"
    else:
        key = DATA_KEYS[source]
        move = f"Copy it there: {copy_command(getattr(data, key), uri)}; or name another place: "
        move += f"--set {parameters.uri_name(source)}=s3://…" if movable else f"data.{key} in config.yaml, and upsert"
    return NoData(f"{uri}: no {source} there. {move}")


def copy_command(place: str, uri: str) -> str:
    """Return the command that copies data to S3.

    - place: file or folder on this machine; for data that config.yaml has in S3, FOLDER stands for it.
    - uri: where it belongs, an S3 URI.
    """
    here = "FOLDER" if place.startswith("s3://") else shlex.quote(place)
    return f"aws s3 {'cp' if parameters.FILE.search(place) else 'sync'} {here} {uri}"


def data_digest(aws: Aws, uri: str) -> tuple[bool, str]:
    """Return whether any object is below an S3 URI, and a digest of the data there, 16 hexadecimal digits.

    Below the URI are the object that it names and every object in the folder that it names, with or without a slash at
    its end: data2/x is not below s3://bucket/data. Objects whose name begins with a dot, or whose
    key ends with a slash, are no data. The digest is made of sizes, ETags and the rest of the keys; it is "" without
    data.

    Raises UserError for text that is not an S3 address.
    """
    bucket, prefix = split_s3_uri(uri)
    digest, there, some = sha256(), False, False
    owner = aws.names.account if bucket == aws.names.bucket else ""
    for item in Bucket(aws.client("s3"), bucket, owner).listing(prefix):
        if prefix and not f"{item['Key']}/".startswith(f"{prefix.rstrip('/')}/"):
            continue
        there = True
        if item["Key"].rsplit("/", 1)[-1][:1] not in ("", "."):
            some = True
            digest.update(
                json.dumps([item["Key"].removeprefix(prefix).lstrip("/"), item["Size"], item["ETag"]]).encode()
            )
    return there, digest.hexdigest()[:16] if some else ""


def start_execution(plan: StartPlan, aws: Aws) -> str:
    """Start an execution of the plan's pipeline with the parameters of the plan, and return its ARN at once.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
    """
    answer = aws.client("sagemaker").start_pipeline_execution(
        PipelineName=aws.names.pipeline(plan.pipeline),
        PipelineParameters=[{"Name": name, "Value": value} for name, value in sorted(plan.parameters.items())],
    )
    return answer["PipelineExecutionArn"]
