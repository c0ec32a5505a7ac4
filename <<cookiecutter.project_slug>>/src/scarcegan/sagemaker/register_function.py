"""The register step in SageMaker: a Lambda function. A retry may call it again, so it is safe to repeat.

It downloads the step's channels from S3 and passes them to steps/register.py with SageMaker's Model Registry. It
imports Python's own library and boto3 only, which Lambda provides.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scarcegan.aws.names import Names
from scarcegan.aws.storage import split_s3_uri
from scarcegan.errors import UserError
from scarcegan.jsonfile import write_json
from scarcegan.model.saved import model_folders
from scarcegan.registry.contract import ModelPackage
from scarcegan.registry.sagemaker import lineage
from scarcegan.registry.sagemaker.registry import SageMakerRegistry
from scarcegan.sagemaker.values import checked_values, with_values
from scarcegan.steps._arguments import parse_classes
from scarcegan.steps.register import Lineage, parse_config, read_gate, register

REQUIRED_IN_EVENT = ("models", "evaluation", "gate", "baseline", "packages_out", "group")
SPARE_SECONDS = 60  # of the function's time that are kept for the registration itself


def handler(event: Mapping[str, Any], context: Any = None) -> dict[str, str]:
    """Register the models of one execution as a model set, in the group of the toolchain.

    A push writes the event, so bucket and group are the function's environment variables BUCKET and GROUP (a name, or
    the ARN of a group in another account), which an administrator sets.

    Returns `set_id` (of the model set), `versions` (of the packages, as "1,2,3,4") and `group`, all as text, and prints
    group and versions to stderr. It also does what `register_from_event` does beside registering.

    The event holds text only. Its fields models, evaluation, gate, baseline, packages_out and group are required; any
    other may be missing or "":
    - models: S3 URI of the models, a .tar.gz.
    - models_folder: the folder of that archive that holds the models; "" for the whole archive.
    - evaluation, gate, baseline: S3 URIs of the step's other inputs.
    - packages_out: S3 URI of the folder to write packages.json into, below runs/ in BUCKET.
    - group: model package group, the same as GROUP.
    - classes: the names of the classes that the models must have, in order, joined with commas; "" leaves them
      unchecked.
    - run, data_fingerprint, code_version, execution_arn: recorded with each package.
    - config: config.yaml as JSON, recorded with each package, with the values of the execution's parameters.
    - rules and the parameters: as `values.checked_values` takes them.

    An event with rules and without models only has its parameters checked; the answer is then {"checked": how many}.
    With the field digest_of, whose value is champion, the answer has model_digest too: see `champion_digest`.

    context: Lambda's, which knows how much time is left; None outside Lambda.

    Raises UserError for an event that `check_event` refuses, for what `register_from_event` refuses, and for errors of
    AWS.
    """
    bucket, group = os.environ.get("BUCKET", ""), os.environ.get("GROUP", "")
    if event.get("rules") and not event.get("models"):
        checked = {"checked": str(len(checked_values(event)))}
        return checked | ({"model_digest": champion_digest(bucket, group)} if event.get("digest_of") else {})
    check_event(event, bucket, group)
    registry = SageMakerRegistry(
        Names.of_bucket(bucket),
        group,
        made_by=event.get("execution_arn", ""),
        patience_seconds=seconds_to_wait(context),
    )
    with registry.errors_as_sentences():
        packages = register_from_event(event, registry)
    versions = ",".join(str(package.version) for package in packages)
    print(f"registered in {group} as one set: {versions}", file=sys.stderr)
    return {"set_id": packages[0].set_id, "versions": versions, "group": group}


def champion_digest(bucket: str, group: str) -> str:
    """Return the digest of the champion's model, as the registry has it.

    - bucket, group: the toolchain's.

    Raises UserError when there is no champion, when it was registered without a digest, or when its package in
    SageMaker is not the one that was registered; and for errors of AWS.
    """
    champion = SageMakerRegistry(Names.of_bucket(bucket), group).checked_champion()
    if not champion.model_digest:
        raise UserError(
            f"version {champion.version} of {group}, the champion, was registered without a digest, so nothing tells "
            "whether its files in S3 are those that were approved. Train again, then approve and release a new version."
        )
    return champion.model_digest


def check_event(event: Mapping[str, Any], bucket: str, group: str) -> None:
    """Check the event of `handler`.

    - bucket, group: the toolchain's.

    Raises UserError when a required field is missing or empty, for another group, and for a packages_out that is not
    below runs/ in the bucket.
    """
    missing = [name for name in REQUIRED_IN_EVENT if not event.get(name)]
    if missing:
        raise UserError(
            f"the event lacks {', '.join(missing)} (it has: {', '.join(sorted(event))}). Type: scarcegan upsert"
        )
    if event["group"] != group:
        raise UserError(
            f"the pipeline asks for the model package group '{event['group']}', but the toolchain has "
            f"'{group}'. Nothing was registered. Change project.model_package_group in config.yaml back, or let an "
            "administrator type: scarcegan toolchain deploy"
        )
    place, key = split_s3_uri(event["packages_out"])
    if place != bucket or not key.startswith("runs/"):
        raise UserError(
            f"packages_out is {event['packages_out']}, not below s3://{bucket}/runs/. Nothing was registered. Type: "
            "scarcegan upsert"
        )


def seconds_to_wait(context: Any) -> float:
    """Return how many seconds to wait while another call registers the same model set.

    That is the time the Lambda function has left, less SPARE_SECONDS, and at least 0.

    - context: the context that Lambda passes to the function; None gives 300.
    """
    return max(0.0, context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS) if context else 300.0


def register_from_event(event: Mapping[str, Any], registry: SageMakerRegistry) -> list[ModelPackage]:
    """Register the model set that an event of `handler` describes. Returns the packages of the set.

    It also writes packages.json (the fields of each package) to S3, and records the lineage of the packages in
    SageMaker. All packages wait for the approval of a person.

    Raises UserError for a parameter that its rule refuses, for a gate that did not pass, for no model, for a model
    without evaluation or baseline or with other classes than the event names, or when evaluation, gate or baseline is
    not in S3; botocore's ClientError when the archive of the models is not in S3, and for other errors of AWS.
    """
    with TemporaryDirectory() as scratch:
        models, evaluation, gate, baseline = download_channels(event, registry, Path(scratch))
        facts = Lineage(
            event.get("run", ""),
            event.get("data_fingerprint", "").strip("-"),  # "-" joins the sources' fingerprints; alone it means none
            event.get("code_version", ""),
            settings_of(event),
            read_gate(gate),
        )
        classes = parse_classes(event["classes"]) if event.get("classes") else ()
        packages = register(models, evaluation, baseline, facts, registry, classes)
        write_json(Path(scratch) / "packages.json", [asdict(package) for package in packages])
        registry.put(Path(scratch) / "packages.json", event["packages_out"])
    lineage.record_lineage(registry, packages, {name: event[name] for name in ("models", "evaluation", "baseline")})
    return packages


def download_channels(
    event: Mapping[str, Any], registry: SageMakerRegistry, scratch: Path
) -> tuple[Path, Path, Path, Path]:
    """Download the inputs of the register step below the folder `scratch`.

    Returns their folders: models, evaluation, gate, baseline. Of evaluation and baseline, only the folders that are
    named like a model (by its business definition) are downloaded; of gate, only gate.json.

    - event: as `handler` takes it.

    Raises UserError when the archive holds no model, or when there is nothing to download for another input; botocore's
    ClientError when the archive does not exist.
    """
    models = registry.fetch(event["models"], scratch / "models", below=event.get("models_folder", ""))
    definitions = list(model_folders(models))
    return (
        models,
        registry.fetch(event["evaluation"], scratch / "evaluation", only=definitions),
        registry.fetch(event["gate"], scratch / "gate", only=["gate.json"]),
        registry.fetch(event["baseline"], scratch / "baseline", only=definitions),
    )


def settings_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a model was trained with: the event's config with the values of its parameters.

    Raises UserError for a parameter that its rule refuses.
    """
    config = parse_config(event.get("config") or "{}")
    if not event.get("rules"):
        return config
    return with_values(config, json.loads(event["rules"]), checked_values(event))
