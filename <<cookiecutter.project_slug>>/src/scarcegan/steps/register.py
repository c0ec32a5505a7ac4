"""Register: models, evaluation and baseline in, one model set in the registry out, pending approval.

Runs after the gate only. `register` knows no storage: it is handed a registry, by `main` the one on this machine, by
`handler`, a Lambda function that needs nothing but Python's own library and boto3, SageMaker's.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from scarcegan.errors import UserError, run_step
from scarcegan.jsonfile import read_json, write_json
from scarcegan.registry.base import (
    APPROVED,
    HEADLINE,
    PENDING,
    ModelPackage,
    PackageRequest,
    Registry,
    fingerprint,
)

if TYPE_CHECKING:
    from scarcegan.registry.sagemaker import SageMakerRegistry

EVENT = ("models", "evaluation", "gate", "baseline", "packages_out", "group")
SPARE_SECONDS = 60  # of a function's time, kept for the registration itself
AGAIN = "Run the step that writes it, then register again."


@dataclass(frozen=True)
class Lineage:
    """Where a model set comes from. config, gate: as JSON would hold them."""

    run: str = ""
    data_fingerprint: str = ""
    code_version: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)


def register(
    models: Path, evaluation: Path, baseline: Path, lineage: Lineage, registry: Registry, classes: Sequence[str] = ()
) -> list[ModelPackage]:
    """Register every model of a models folder as one set. Trying again registers nothing twice.

    UserError for a model without evaluation or baseline, or one that was trained on other classes.
    """
    requests = requests_of(models, evaluation, baseline, lineage, classes)
    return registry.register_set(fingerprint(requests), requests)


def requests_of(
    models: Path, evaluation: Path, baseline: Path, lineage: Lineage, classes: Sequence[str] = ()
) -> list[PackageRequest]:
    """A request per business definition found in the models folder, in name order."""
    folders = sorted(path.parent for path in models.glob("*/model.json"))
    if not folders:
        raise UserError(f"{models}: no model (<definition>/model.json) in it. Run the train step first.")
    return [request_of(folder, evaluation, baseline, lineage, classes) for folder in folders]


def request_of(
    model: Path, evaluation: Path, baseline: Path, lineage: Lineage, classes: Sequence[str]
) -> PackageRequest:
    """One business definition's package; the folder's name is the definition's."""
    facts = read_json(model / "model.json", AGAIN)
    if classes and tuple(facts.get("classes", classes)) != tuple(classes):
        raise UserError(
            f"{model}: trained on the classes {', '.join(facts['classes'])}, config.yaml says {', '.join(classes)}. "
            "Train again, or set the classes as they were."
        )
    sources = {"model": model, "evaluation": evaluation / model.name, "baseline": baseline / model.name}
    metrics = metrics_of(read_json(sources["evaluation"] / "evaluation.json", AGAIN))
    return PackageRequest(
        definition=model.name,
        files={f"{part}/{name}": path for part, folder in sources.items() for name, path in files_below(folder)},
        metrics=metrics,
        gate=lineage.gate,
        config=lineage.config,
        run=lineage.run,
        data_fingerprint=lineage.data_fingerprint,
        code_version=lineage.code_version,
        description=describe(facts, metrics),
    )


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """(path inside the folder, file) of every file, in name order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def metrics_of(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The single figures of an evaluation.json: SageMaker's of several classes, then ours, which are of the rare class.

    An entry is a number or {"value": number, …}; tables, curves and undefined figures are left out.
    """
    ours = evaluation.get("scarcegan", {})
    found: dict[str, float] = {}
    for block in (evaluation.get("multiclass_classification_metrics", {}), ours, ours.get("metrics", {})):
        for name, entry in block.items():
            value = entry.get("value") if isinstance(entry, Mapping) else entry
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                found[name] = float(value)
    return found


def describe(facts: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """A line for people: what the model was chosen for, and its headline figures on the test users."""
    figures = [f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in HEADLINE if name in metrics]
    words = f"Kept for {str(facts.get('keep', facts.get('definition', ''))).replace('_', ' ')}"
    return f"{words}. On the test users: {', '.join(figures)}." if figures else f"{words}."


def read_gate(folder: Path | None) -> dict[str, Any]:
    """The gate's figures; empty without a gate channel. UserError for a gate that is closed, however we got here."""
    gate = read_json(folder / "gate.json", AGAIN) if folder else {}
    if gate.get("passed") is False:
        raise UserError(f"the gate is closed, nothing was registered: {gate.get('reason', 'no reason given')}")
    return gate


def parse_config(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise argparse.ArgumentTypeError("not a JSON object")
    return config


def parser() -> argparse.ArgumentParser:
    it = argparse.ArgumentParser(description=__doc__)
    for channel in ("models", "evaluation", "baseline", "packages-out"):
        it.add_argument(f"--{channel}", type=Path, required=True)
    it.add_argument("--gate", type=Path, help="folder of gate.json; its figures go with the packages")
    it.add_argument("--group", required=True, help="model package group")
    it.add_argument("--classes", type=lambda text: tuple(text.split(",")), default=())
    it.add_argument("--run", default="")
    it.add_argument("--data-fingerprint", default="")
    it.add_argument("--code-version", default="")
    it.add_argument("--config", type=parse_config, default={}, help="the settings of the run, as JSON")
    return it


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    from scarcegan.registry.local import LocalRegistry

    lineage = Lineage(args.run, args.data_fingerprint, args.code_version, args.config, read_gate(args.gate))
    registry = LocalRegistry(uri, args.group)
    packages = register(args.models, args.evaluation, args.baseline, lineage, registry, args.classes)
    write_json(args.packages_out / "packages.json", [asdict(package) for package in packages])
    versions = ", ".join(f"{package.version} {package.definition}" for package in packages)
    print(f"registered in {args.group} as one set, pending approval: {versions}", file=sys.stderr)


def handler(event: Mapping[str, Any], context: Any = None) -> dict[str, str]:
    """The register step in SageMaker: a Lambda function, which a retry may call again at any moment.

    event: places in S3 of the channels `models` (a .tar.gz, with `models_folder` inside it), `evaluation`, `gate` and
    `baseline`, and of `packages_out`; `group`, `classes`, `run`, `data_fingerprint`, `code_version`, `config` (JSON);
    `approval_status`: Approved also approves the model that the gate judged; `execution_arn`. Everything is text.
    https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
    """
    check_event(event)
    from scarcegan.aws.names import Names
    from scarcegan.aws.storage import bucket_of
    from scarcegan.registry.sagemaker import SageMakerRegistry

    names = Names.of_bucket(bucket_of(event["packages_out"]))
    registry = SageMakerRegistry(
        names, event["group"], made_by=event.get("execution_arn", ""), patience_seconds=patience(context)
    )
    with registry.spoken():
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


def register_event(event: Mapping[str, Any], registry: "SageMakerRegistry") -> list[ModelPackage]:
    """Bring the channels, register the set, approve if asked to, write packages.json, tell the lineage."""
    from scarcegan.registry import lineage

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
    lineage.tell(registry, packages, {name: event[name] for name in ("models", "evaluation", "baseline")})
    return packages


def bring(event: Mapping[str, Any], registry: "SageMakerRegistry", scratch: Path) -> tuple[Path, Path, Path, Path]:
    """Models, evaluation, gate and baseline as folders; of the last three no more than the packages need."""
    models = registry.fetch(event["models"], scratch / "models", below=event.get("models_folder", ""))
    definitions = [path.parent.name for path in models.glob("*/model.json")]
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


if __name__ == "__main__":
    sys.exit(run_step(main))
