"""Register: models, evaluation and baseline in, one model set in the registry out, pending approval.

It runs only after an open gate, and knows only folders and the interface of the registry. In SageMaker,
sagemaker/register_function.py downloads the folders and uses the registry there.
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
from scarcegan.model.saved import model_folders
from scarcegan.registry.contract import (
    HEADLINE_METRICS,
    ModelPackage,
    PackageRequest,
    Registry,
    set_id_of,
)
from scarcegan.steps._arguments import parse_classes, parse_folders

RERUN_ADVICE = "Run the step that writes it, then register again."


@dataclass(frozen=True)
class Lineage:
    """What a model set was made from; it is stored with each of its packages. An entry that is not known is "" or {}.

    - run: the id of the run on this machine, or of the execution in SageMaker, that trained the models.
    - data_fingerprint: a digest of the training data.
    - code_version: the git commit of the code.
    - config: the settings of the run, as read from config.yaml.
    - gate: the content of gate.json.
    """

    run: str = ""
    data_fingerprint: str = ""
    code_version: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)


def register(
    models: Path, evaluation: Path, baseline: Path, lineage: Lineage, registry: Registry, classes: Sequence[str] = ()
) -> list[ModelPackage]:
    """Register every model of a folder as one model set, pending approval; return the packages, sorted by definition.

    - models, evaluation, baseline: output folders of the steps, each with a folder per business definition.
    - lineage: stored with each package.
    - classes: the class names that the models must have been trained on; empty: not checked.
    Registering equal models and baselines again makes no new packages and returns those there are.
    Raises UserError when there is no model, when a file of a model, its evaluation or its baseline is missing, when
    model.json or evaluation.json is damaged, or when a model was trained on other classes.
    """
    requests = requests_of(models, evaluation, baseline, lineage, classes)
    return registry.register_set(set_id_of(requests), requests)


def requests_of(
    models: Path, evaluation: Path, baseline: Path, lineage: Lineage, classes: Sequence[str] = ()
) -> list[PackageRequest]:
    """The requests to register the models in the folder `models`, one per business definition, sorted by its name.

    Arguments as for `register`. Nothing is registered yet.
    Raises UserError when the folder has no model, when a model.json or evaluation.json is missing or damaged, or when a
    model was trained on other classes. Whether the other files are there is not checked here.
    """
    folders = model_folders(models).values()
    return [request_of(folder, evaluation, baseline, lineage, classes) for folder in folders]


def request_of(
    model: Path, evaluation: Path, baseline: Path, lineage: Lineage, classes: Sequence[str]
) -> PackageRequest:
    """The request to register one model with its evaluation and baseline.

    - model: the model's folder, whose name is the business definition.
    - evaluation, baseline: folders that hold a folder of that name.
    - lineage: stored with the package.
    - classes: class names that the model must have been trained on; empty: not checked.
    Raises UserError for a missing or damaged model.json or evaluation.json, or a model that was trained on other
    classes.
    """
    facts = read_json(model / "model.json", RERUN_ADVICE)
    if classes and tuple(facts.get("classes", classes)) != tuple(classes):
        raise UserError(
            f"{model}: trained on the classes {', '.join(facts['classes'])}, config.yaml says {', '.join(classes)}. "
            "Train again, or change the classes in config.yaml back."
        )
    sources = {"model": model, "evaluation": evaluation / model.name, "baseline": baseline / model.name}
    metrics = metrics_of(read_json(sources["evaluation"] / "evaluation.json", RERUN_ADVICE))
    return PackageRequest(
        definition=model.name,
        files={f"{part}/{name}": path for part, folder in sources.items() for name, path in files_below(folder)},
        metrics=metrics,
        gate=lineage.gate,
        config=lineage.config,
        run=lineage.run,
        data_fingerprint=lineage.data_fingerprint,
        code_version=lineage.code_version,
        description=package_description(facts, metrics),
    )


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Pairs (path relative to the folder, with "/", and the file's path) of every file at any depth, sorted by path.

    Hidden files are among them. None when the folder is missing.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def metrics_of(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an evaluation.json that are single finite numbers: name -> value.

    SageMaker's multiclass metrics come first, then the figures under "scarcegan", then those under its "metrics". Each
    has the name it has there, without a prefix; of equal names the later one counts. SageMaker's binary metrics are not
    read. An entry is a number, or has one under "value"; tables, curves, texts, booleans and undefined values are left
    out. evaluation: content of the file.
    """
    rare_class = as_mapping(evaluation.get("scarcegan"))
    found: dict[str, float] = {}
    for block in (evaluation.get("multiclass_classification_metrics"), rare_class, rare_class.get("metrics")):
        for name, entry in as_mapping(block).items():
            value = entry.get("value") if isinstance(entry, Mapping) else entry
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                found[name] = float(value)
    return found


def as_mapping(value: Any) -> Mapping[str, Any]:
    """The value itself if it is a mapping; otherwise {}."""
    return value if isinstance(value, Mapping) else {}


def package_description(facts: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """One or two sentences about a model: what it was chosen for, then its metrics on the test users.

    - facts: the content of its model.json. Its "keep" says what the model was chosen for, or else its "definition".
    - metrics: name -> value, as metrics_of returns them. Those of HEADLINE_METRICS are named; without any of them there
      is no second sentence.
    """
    figures = [f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in HEADLINE_METRICS if name in metrics]
    chosen_for = f"Chosen for {str(facts.get('keep', facts.get('definition', ''))).replace('_', ' ')}"
    return f"{chosen_for}. On the test users: {', '.join(figures)}." if figures else f"{chosen_for}."


def read_gate(folder: Path | None) -> dict[str, Any]:
    """The content of the gate.json in a folder, whose gate must be open; {} when folder is None.

    A file without "passed" counts as an open gate.
    Raises UserError when the gate is closed ("passed" is false), or when the file is missing or holds no JSON object.
    """
    gate = read_json(folder / "gate.json", RERUN_ADVICE) if folder else {}
    if gate.get("passed") is False:
        raise UserError(f"the gate is closed, nothing was registered: {gate.get('reason', 'no reason given')}")
    return gate


def parse_config(text: str) -> dict[str, Any]:
    """The dictionary that a text holds as a JSON object, for the argument --config.

    Raises argparse.ArgumentTypeError for any other text.
    """
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise argparse.ArgumentTypeError("not a JSON object")
    return config


def parser() -> argparse.ArgumentParser:
    """The parser of this step's command line: folders, model package group, and what the models were made from."""
    it = argparse.ArgumentParser(description=__doc__)
    for channel in ("models", "evaluation", "baseline", "packages-out"):
        it.add_argument(f"--{channel}", type=Path, required=True)
    it.add_argument("--gate", type=Path, help="folder of gate.json, which is stored with the packages")
    it.add_argument("--group", required=True, help="model package group")
    it.add_argument("--classes", type=parse_classes, required=True, help="names, the rare class last")
    it.add_argument("--run", required=True)
    it.add_argument("--data-fingerprint", required=True)
    it.add_argument("--code-version", required=True)
    it.add_argument("--config", type=parse_config, required=True, help="the settings of the run, as JSON")
    return it


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step on this machine: register the models in MLflow, and write packages.json, a list with the fields of
    each package, into the output folder.

    The versions are printed to stderr. The environment variable MLFLOW_TRACKING_URI names the SQLite database.
    argv: the command line without the program's name; None: that of this process.
    Raises UserError for a closed gate, no model, a missing or damaged file, models that were trained on other classes,
    or an MLFLOW_TRACKING_URI that is not set or names no SQLite database.
    """
    args = parse_folders(parser(), argv)
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
