"""The register step in SageMaker: a Lambda function, which a retry may call again at any moment.

It brings the step's channels from S3 and hands them to steps/register.py with SageMaker's Model Registry. It needs
nothing but Python's own library and boto3, which Lambda has.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scarcegan.aws.names import Names
from scarcegan.aws.storage import split_s3_uri
from scarcegan.errors import UserError
from scarcegan.jsonfile import write_json
from scarcegan.model.saved import model_folders
from scarcegan.registry.contract import APPROVED, PENDING, ModelPackage, Registry
from scarcegan.registry.sagemaker import lineage
from scarcegan.registry.sagemaker.registry import SageMakerRegistry
from scarcegan.steps.register import Lineage, parse_config, read_gate, register

EVENT = ("models", "evaluation", "gate", "baseline", "packages_out", "group")


SPARE_SECONDS = 60  # of a function's time, kept for the registration itself


def handler(event: Mapping[str, Any], context: Any = None) -> dict[str, str]:
    """Register the models of one execution as a set; returns its `set_id`, `versions` and `group`.

    event: places in S3 of the channels `models` (a .tar.gz, with `models_folder` inside it), `evaluation`, `gate` and
    `baseline`, and of `packages_out`; `group`, `classes`, `run`, `data_fingerprint`, `code_version`, `config` (JSON);
    `approval_status`: Approved also approves the model that the gate judged; `execution_arn`. Everything is text.

    Raises UserError for an event that lacks something, a closed gate, a model without evaluation or baseline.
    """
    check_event(event)
    names = Names.of_bucket(split_s3_uri(event["packages_out"])[0])
    registry = SageMakerRegistry(
        names, event["group"], made_by=event.get("execution_arn", ""), patience_seconds=patience(context)
    )
    with registry.errors_as_sentences():
        packages = register_event(event, registry)
    versions = ",".join(str(package.version) for package in packages)
    print(f"registered in {event['group']} as one set: {versions}", file=sys.stderr)
    return {"set_id": packages[0].set_id, "versions": versions, "group": event["group"]}


def check_event(event: Mapping[str, Any]) -> None:
    """UserError for an event that lacks something, or that asks for a status which is none to begin with."""
    missing = [name for name in EVENT if not event.get(name)]
    if missing:
        raise UserError(f"the event lacks {', '.join(missing)} (it has: {', '.join(sorted(event))}). Upsert again.")
    status = event.get("approval_status") or PENDING
    if status not in (PENDING, APPROVED):
        raise UserError(
            f"approval_status is '{status}', a new model is {PENDING} or {APPROVED}. Set the pipeline parameter "
            "ApprovalStatus to one of these."
        )


def patience(context: Any) -> float:
    """Seconds to wait for somebody else who registers the same set."""
    return max(0.0, context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS) if context else 300.0


def register_event(event: Mapping[str, Any], registry: SageMakerRegistry) -> list[ModelPackage]:
    """Bring the channels, register the set, approve if asked to, write packages.json, tell the lineage."""
    with TemporaryDirectory() as scratch:
        models, evaluation, gate, baseline = bring(event, registry, Path(scratch))
        facts = Lineage(
            event.get("run", ""),
            event.get("data_fingerprint", "").strip("-"),  # no fingerprint of any source: none at all
            event.get("code_version", ""),
            parse_config(event.get("config") or "{}"),
            read_gate(gate),
        )
        classes = tuple(event["classes"].split(",")) if event.get("classes") else ()
        packages = register(models, evaluation, baseline, facts, registry, classes)
        if event.get("approval_status") == APPROVED:
            packages = approve_judged(packages, facts.gate, registry)
        write_json(Path(scratch) / "packages.json", [asdict(package) for package in packages])
        registry.put(Path(scratch) / "packages.json", event["packages_out"])
    lineage.record_lineage(registry, packages, {name: event[name] for name in ("models", "evaluation", "baseline")})
    return packages


def bring(event: Mapping[str, Any], registry: SageMakerRegistry, scratch: Path) -> tuple[Path, Path, Path, Path]:
    """Models, evaluation, gate and baseline as folders; of the last three no more than the packages need."""
    models = registry.fetch(event["models"], scratch / "models", below=event.get("models_folder", ""))
    definitions = list(model_folders(models))
    return (
        models,
        registry.fetch(event["evaluation"], scratch / "evaluation", only=definitions),
        registry.fetch(event["gate"], scratch / "gate", only=["gate.json"]),
        registry.fetch(event["baseline"], scratch / "baseline", only=definitions),
    )


def approve_judged(packages: Sequence[ModelPackage], gate: Mapping[str, Any], registry: Registry) -> list[ModelPackage]:
    """Approve the package that the gate judged, as nobody has looked at the others; not against an earlier decision."""
    return [
        registry.approve(package.version, "approved by the execution's parameter ApprovalStatus")
        if package.definition == gate.get("definition") and package.status == PENDING
        else package
        for package in packages
    ]
