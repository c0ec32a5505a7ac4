"""Register: models, evaluation and baseline in, one model set in the registry out, pending approval.

Runs after the gate only. It knows folders and the registry's interface; in SageMaker, sagemaker/register_function.py
brings the folders and the other registry.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scarcegan.errors import UserError, run_step
from scarcegan.jsonfile import read_json, write_json
from scarcegan.registry.contract import (
    HEADLINE_METRICS,
    ModelPackage,
    PackageRequest,
    Registry,
    set_id_of,
)

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
    return registry.register_set(set_id_of(requests), requests)


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
    figures = [f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in HEADLINE_METRICS if name in metrics]
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
    it.add_argument("--classes", type=lambda text: tuple(text.split(",")), required=True)
    it.add_argument("--run", required=True)
    it.add_argument("--data-fingerprint", required=True)
    it.add_argument("--code-version", required=True)
    it.add_argument("--config", type=parse_config, required=True, help="the settings of the run, as JSON")
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


if __name__ == "__main__":
    sys.exit(run_step(main))
