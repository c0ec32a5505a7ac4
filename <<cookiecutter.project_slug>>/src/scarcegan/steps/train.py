"""Train: labelled and unlabelled rows in; a model per business definition, and the training curves, out.

A business definition is a rule, with a name in config.yaml, by which a model and its thresholds are chosen. The step
reads the splits, trains the members (model/member.py), and for each business definition keeps the version of their
blend that fits the rule best on rows they were not trained on. The test rows are not read here.
"""

import argparse
import csv
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scarcegan.data.schema import UNLABELLED, FeatureTable, read_features
from scarcegan.errors import UserError, run_step
from scarcegan.jsonfile import replace_nan, write_json
from scarcegan.local.durable import remove
from scarcegan.model.gan.settings import GanSettings
from scarcegan.model.trees.settings import TreeSettings
from scarcegan.pipeline.code import step_code_digest
from scarcegan.progress import time_left
from scarcegan.steps._arguments import (
    parse_boolean,
    parse_classes,
    parse_count,
    parse_folders,
    parse_number,
    parse_numbers,
    parse_whole_numbers,
)
from scarcegan.steps._outputs import remove_definitions

if TYPE_CHECKING:
    from scarcegan.evaluation.selection import Choice
    from scarcegan.model.delivered import Calibration
    from scarcegan.model.distance import ClassDistance
    from scarcegan.model.gan.member import FittedNetworks, Networks
    from scarcegan.model.gan.training import Checkpoint, Evaluation
    from scarcegan.model.member import Fitted, Member, MemberScores, TrainingRows
    from scarcegan.registry.tracking import Tracker

SOURCE = Path(__file__).resolve().parents[2]  # the folder that holds the package, for the digest of its code
MOST_UNLABELLED = 100_000  # unlabelled rows that are read; more of them cost time and memory and gained nothing
SETTINGS: tuple[type, ...] = (GanSettings, TreeSettings)  # of the families of models
WITHOUT_UNLABELLED = {
    "unlabelled_weight": 0.0,
    "neighbours": 0,
}  # when there are no unlabelled rows to learn these from

S = TypeVar("S", GanSettings, TreeSettings)


@dataclass(frozen=True)
class Splits:
    """The tables that training reads, which all have the same features.

    - labelled: training rows that have a label. unlabelled: training rows that have none.
    - validation: rows with or without a label.
    - fold: int [n], the fold of each labelled row, from 0 without gaps.
    - classes: names in the order of their label positions, the rare class last.
    - stand_in: True if there were no unlabelled rows; `unlabelled` then holds labelled ones.
    """

    labelled: FeatureTable
    unlabelled: FeatureTable
    validation: FeatureTable
    fold: NDArray
    classes: tuple[str, ...]
    stand_in: bool = False


def read_splits(args: argparse.Namespace) -> Splits:
    """Read the tables that the split step wrote. args: the parsed command line.

    Where there are more than MOST_UNLABELLED unlabelled rows, or validation rows without a label, that many are drawn
    at random with args.seed; validation rows with a label all stay. If there are no unlabelled rows, labelled ones
    stand in for them (see Splits.stand_in).
    Raises UserError if a table is missing or damaged, the tables have different features or another order of them, the
    class names cannot be used (see parse_classes), a labelled row is of none of the classes, a class has no training
    row, or a labelled user has no fold.
    """
    classes = parse_classes(args.classes)
    labelled, unlabelled, validation = (
        read_features(folder) for folder in (args.labelled, args.unlabelled, args.validation)
    )
    for folder, table in ((args.unlabelled, unlabelled), (args.validation, validation)):
        if table.names != labelled.names:
            raise UserError(f"{folder}: its features differ from those of {args.labelled}. Run split again.")
    refuse_missing_class(labelled.label, classes, args.labelled)
    refuse_other_labels(validation.label[validation.label != UNLABELLED], classes, args.validation)
    stand_in = not len(unlabelled)
    if stand_in:
        unlabelled = labelled
    unlabelled = draw_some_rows(unlabelled, MOST_UNLABELLED, args.seed)
    validation = draw_some_rows(validation, MOST_UNLABELLED, args.seed, keep=validation.label != UNLABELLED)
    fold = read_folds(args.folds, labelled.user_id)
    return Splits(labelled, unlabelled, validation, fold, classes, stand_in)


def refuse_missing_class(label: NDArray, classes: Sequence[str], folder: Path) -> None:
    """Check that every class has a labelled training row. label int [n]: of the rows. folder: for the error message.

    Raises UserError if a label is not a position in `classes`, or if a class has no row.
    """
    refuse_other_labels(label, classes, folder)
    counts = np.bincount(label.astype(int), minlength=len(classes))
    if (counts == 0).any():
        found = ", ".join(f"{name} {count}" for name, count in zip(classes, counts, strict=True))
        raise UserError(
            f"{folder}: class '{classes[int(np.argmin(counts))]}' has no training row (found: {found}). "
            f"Label some users of it, or take it out of the classes."
        )


def refuse_other_labels(label: NDArray, classes: Sequence[str], folder: Path) -> None:
    """Check that each label of labelled rows, int [n], is a position in `classes`. folder: for the error message.

    Raises UserError if one is not.
    """
    if ((label < 0) | (label >= len(classes))).any():
        raise UserError(f"{folder}: a label outside 0 to {len(classes) - 1}. Run split again with these classes.")


def draw_some_rows(table: FeatureTable, most: int, seed: int, keep: NDArray | None = None) -> FeatureTable:
    """The rows marked in `keep` (bool [n]; None: no row) and at most `most` of the others, in the table's order.

    If there are more than `most` others, they are drawn at random without replacement, with the random seed `seed`.
    """
    keep = np.zeros(len(table), bool) if keep is None else keep
    others = np.flatnonzero(~keep)
    if len(others) <= most:
        return table
    drawn = np.random.default_rng(seed).choice(others, most, replace=False)
    return table.take(np.sort(np.concatenate([np.flatnonzero(keep), drawn])))


def read_folds(folder: Path, users: NDArray) -> NDArray:
    """int [n]: the fold of each user, from folds.parquet in `folder`, renumbered from 0 without gaps. users [n]: ids.

    Raises UserError if the file cannot be read or a user is not in it.
    """
    path = Path(folder) / "folds.parquet"
    try:
        table = pq.read_table(path, columns=["user_id", "fold"])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({error}). Run split again.") from error
    fold = dict(zip(table["user_id"].to_pylist(), table["fold"].to_pylist(), strict=True))
    without = [user for user in users if user not in fold]
    if without:
        raise UserError(f"{path}: no fold for user '{without[0]}' ({len(without)} such users). Run split again.")
    return np.unique([fold[user] for user in users], return_inverse=True)[1]


def training_rows(splits: Splits, args: argparse.Namespace) -> "TrainingRows":
    """The TrainingRows of these tables. The scaling, args.scaling, is learnt on the labelled and unlabelled training
    rows, without their labels.

    Raises UserError for an infinite value, or if no held-out row (see TrainingRows) is of the rare class.
    """
    from scarcegan.model.inputs import learn_inputs
    from scarcegan.model.member import ScaledRows, TrainingRows
    from scarcegan.model.preprocessing import refuse_infinite

    names = splits.labelled.names
    values = np.concatenate([splits.labelled.values, splits.unlabelled.values])
    inputs = learn_inputs(values, names, splits.labelled.categories, args.scaling)
    refuse_infinite(splits.validation.values, names)
    rows = TrainingRows(
        inputs=inputs,
        classes=len(splits.classes),
        labelled=ScaledRows(splits.labelled.values, inputs),
        label=splits.labelled.label,
        fold=splits.fold,
        unlabelled=ScaledRows(splits.unlabelled.values, inputs),
        validation=ScaledRows(splits.validation.values, inputs),
        validation_label=splits.validation.label,
    )
    if not (rows.held_out_label == rows.classes - 1).any():
        raise UserError(
            f"no row of '{splits.classes[-1]}' is left to choose a model by. Label more users of it, use two folds "
            f"or more, or raise the validation share."
        )
    return rows


def members(
    args: argparse.Namespace, report: "Callable[[Evaluation], None]", checkpoint: "Checkpoint | None"
) -> "tuple[Networks, list[Member]]":
    """The untrained members with the settings in `args`: the networks, and a list of all others (trees, or none).

    The networks are apart because they alone have several versions and logits of the classes that are not rare. A new
    kind of member is added to the list here. report, checkpoint: passed to the networks unchanged, see Networks.
    """
    from scarcegan.model.gan.member import Networks
    from scarcegan.model.trees.member import BoostedTrees

    networks = Networks(
        settings_of(GanSettings, args), args.seeds, args.iterations, args.reports, args.patience, report, checkpoint
    )
    return networks, [BoostedTrees(settings_of(TreeSettings, args))] if args.boosting else []


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    - members: all trained members, the networks first. networks: the same object as the first of them.
    - distance: the layer that gives a row's strangeness; None: the networks' `unknown` is used in its place.
    - held_out: blended scores of the held-out rows (see TrainingRows), one entry per evaluation of the networks, the
      earliest first. With a `distance`, their `unknown` is the strangeness, the same in every entry.
    """

    members: "list[Fitted]"
    networks: "FittedNetworks"
    distance: "ClassDistance | None"
    held_out: "list[MemberScores]"


def train_members(
    rows: "TrainingRows",
    args: argparse.Namespace,
    report: "Callable[[Evaluation], None]",
    checkpoint: "Checkpoint | None" = None,
) -> Trained:
    """Train each member on these rows and blend their scores of the held-out rows.

    A line on stderr tells when the trees are grown, and another one if the training of the networks ended early.

    - args: the parsed command line.
    - report: is called with each evaluation of the networks as soon as it is made; not with those in the checkpoint.
    - checkpoint: the file from which an interrupted training of the networks goes on, and which is written after each
      evaluation; None: none is read or written.
    """
    from scarcegan.model.distance import learn_from_training
    from scarcegan.model.member import blend

    networks, others = members(args, report, checkpoint)
    leading = networks.fit(rows, args.seed)
    fitted = [leading, *(member.fit(rows, args.seed) for member in others)]
    held_out, distance = blend(fitted), None
    if args.unknown_by == "distance":
        distance, strangeness = learn_from_training(rows)
        held_out = [scores._replace(unknown=strangeness) for scores in held_out]
    return Trained(fitted, leading, distance, held_out)


def save_models(trained: Trained, rows: "TrainingRows", splits: Splits, args: argparse.Namespace) -> None:
    """For each business definition, choose a version of the blend by the held-out rows, and write its model folder.

    The folder is <args.models_out>/<definition> with a SavedModel in 1/, model.json and learnt_from.json; older
    folders are deleted. A line of figures per definition goes to stderr. args.definitions: name of a business
    definition -> its rule.
    """
    from scarcegan.evaluation.selection import Candidate, choose_candidate
    from scarcegan.model import learnt_from
    from scarcegan.model.delivered import calibrate

    remove_definitions(args.models_out, "model.json", "learnt_from.json", "1")
    label = rows.held_out_label
    known, rare = label != UNLABELLED, rows.classes - 1
    calibrations = [
        calibrate(scores.rare[known], label[known] == rare, scores.unknown[known]) for scores in trained.held_out
    ]
    candidates = [
        Candidate(calibration.rarity(scores.rare), calibration.unknown(scores.unknown))
        for scores, calibration in zip(trained.held_out, calibrations, strict=True)
    ]
    labelled_in_validation = splits.validation.user_id[splits.validation.label != UNLABELLED]
    for name, definition in args.definitions.items():
        choice = choose_candidate(definition, candidates, label, rare, args.known_share)
        folder = args.models_out / name
        export(trained, rows, choice, calibrations[choice.candidate], folder)
        facts = {
            "definition": name,
            **definition,
            **choice_facts(choice, trained, args),
            **trained_model_facts(rows, splits, args),
        }
        write_json(folder / "model.json", replace_nan(facts), indent=2)
        learnt_from.record(folder, [*splits.labelled.user_id, *labelled_in_validation])
        figures = ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in choice.validation.items())
        print(f"train: {name}: iteration {facts['iterations']}, {figures}", file=sys.stderr)


def export(trained: Trained, rows: "TrainingRows", choice: "Choice", calibration: "Calibration", folder: Path) -> None:
    """Empty `folder` and write the SavedModel of the chosen version, with its calibration and
    thresholds, to folder/1.
    """
    from scarcegan.model import delivered

    whole = delivered.Delivered(
        rows.inputs,
        [(member.weight, member.layer(choice.candidate)) for member in trained.members],
        trained.distance,
        calibration,
        choice.rare,
        choice.unknown,
    )
    remove(folder)
    folder.mkdir(parents=True)
    delivered.save(whole, rows.labelled.raw.shape[1], folder / "1")


def choice_facts(choice: "Choice", trained: Trained, args: argparse.Namespace) -> dict[str, Any]:
    """The part of model.json about the chosen version, with these keys:

    - floor_met: whether the business definition's floor was reached. thresholds: "rare" and "unknown" -> threshold.
    - validation: figures on the held-out rows.
    - seeds: number of networks per fold. members: number of all networks.
    - iterations: those of the chosen version. stopped_at: those of the last one. stopped_early: whether these are fewer
      than args.iterations.
    - spread: mean and standard deviation ("sd") over the networks of PR-AUC at the chosen version.
    """
    evaluations = trained.networks.evaluations
    chosen, last = evaluations[choice.candidate], evaluations[-1]
    return {
        "floor_met": choice.floor_met,
        "thresholds": {"rare": choice.rare, "unknown": choice.unknown},
        "validation": choice.validation,
        "seeds": args.seeds,
        "members": trained.networks.networks,
        "iterations": chosen.iteration,
        "stopped_at": last.iteration,
        "stopped_early": last.iteration < args.iterations,
        "spread": {"pr_auc": {"mean": float(np.nanmean(chosen.pr_auc)), "sd": float(np.nanstd(chosen.pr_auc))}},
    }


def trained_model_facts(rows: "TrainingRows", splits: Splits, args: argparse.Namespace) -> dict[str, Any]:
    """The part of model.json that is the same for every business definition, with these keys:

    - classes, features: names, in the order of their positions.
    - categories: name of each feature of categories -> its known texts with their codes, and the codes and missing
      values that the model tells apart (see lookups.category_facts); {} without such features.
    - hyperparameters: name -> value.
    """
    from scarcegan.model.lookups import category_facts

    table = splits.labelled
    return {
        "classes": splits.classes,
        "features": table.names,
        "categories": category_facts(rows.inputs.lookups, table.names, table.categories),
        "hyperparameters": hyperparameters(args),
    }


def reporter(tracker: "Tracker", iterations: int) -> "Callable[[Evaluation], None]":
    """A function that reports an Evaluation: it prints the figures named in REPORTED, averaged over networks, as one
    line to stdout, from which SageMaker reads them, and how long the rest of the iterations will take to stderr.

    The function also writes them through `tracker` to MLflow, with the networks' mean PR-AUC on held-out rows.
    """
    from scarcegan.model.gan.scarcegan import REPORTED

    first: list[tuple[int, float]] = []

    def report(evaluation: "Evaluation") -> None:
        first.append((evaluation.iteration, time.monotonic()))
        done, seconds = evaluation.iteration - first[0][0], first[-1][1] - first[0][1]
        figures = dict(zip(REPORTED, evaluation.figures.mean(axis=1).tolist(), strict=True))
        words = "".join(f" {name}={value:.6f};" for name, value in figures.items())
        print(f"Iteration={evaluation.iteration};{words}", flush=True)
        tracker.log(figures | {"Validation_PR_AUC": float(np.nanmean(evaluation.pr_auc))}, evaluation.iteration)
        left = time_left(seconds, done, iterations - first[0][0])
        print(f"train: {evaluation.iteration:,} of {iterations:,} iterations{left}", file=sys.stderr, flush=True)

    return report


def write_curves(evaluations: "Sequence[Evaluation]", folder: Path) -> None:
    """Write curves.csv into `folder`, in place of an older file: a line per evaluation and network.

    Its columns are iteration, member (the network's number, from 0), the network's losses and accuracy (the figures
    named in REPORTED, in lower case) and validation_pr_auc (its PR-AUC on held-out rows).
    """
    from scarcegan.model.gan.scarcegan import REPORTED

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["iteration", "member", *(name.lower() for name in REPORTED), "validation_pr_auc"])
        for evaluation in evaluations:
            for network, figures in enumerate(evaluation.figures.T):
                writer.writerow([evaluation.iteration, network, *figures.tolist(), evaluation.pr_auc[network]])


def checkpoint(splits: Splits, args: argparse.Namespace) -> "Checkpoint | None":
    """The Checkpoint in the folder args.checkpoints, for these tables, these arguments and this code; None if
    args.checkpoints is None.
    """
    from scarcegan.model.gan.training import Checkpoint

    return Checkpoint(args.checkpoints, checkpoint_fingerprint(splits, args)) if args.checkpoints else None


def checkpoint_fingerprint(splits: Splits, args: argparse.Namespace) -> str:
    """A digest, 64 hexadecimal digits, that changes with the data, the arguments of the training and
    the step's code.
    """
    digest = hashlib.sha256(step_code_digest("scarcegan.steps.train", (SOURCE,)).encode())
    for table in (splits.labelled, splits.unlabelled, splits.validation):
        for array in (table.values, table.label):
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(splits.fold.tobytes())
    names = [splits.classes, splits.labelled.names, sorted(splits.labelled.categories)]
    digest.update(json.dumps([*names, hyperparameters(args), args.iterations, args.seeds]).encode())
    return digest.hexdigest()


def hyperparameters(args: argparse.Namespace) -> dict[str, Any]:
    """Name -> value of the arguments that are stored in model.json and MLflow: all fields of GanSettings and
    TreeSettings, then known_share, unknown_by, scaling, patience, seed and reports.
    """
    names = [one.name for settings in SETTINGS for one in fields(settings)]
    names += ["known_share", "unknown_by", "scaling", "patience", "seed", "reports"]
    return {name: getattr(args, name) for name in names}


def settings_of(kind: type[S], args: argparse.Namespace) -> S:
    """The settings of one kind of member: an object of the class `kind`, each field from the argument of its name."""
    return kind(**{one.name: getattr(args, one.name) for one in fields(kind)})


def parser() -> argparse.ArgumentParser:
    """The parser of this step's command line: folders and hyperparameters, among them an argument per field of
    GanSettings and TreeSettings."""
    parse = argparse.ArgumentParser(prog="train", description=__doc__)

    def add(name: str, **more: Any) -> None:
        parse.add_argument(f"--{name}", required=True, **more)

    for channel in ("labelled", "unlabelled", "validation", "folds", "models-out", "curves-out"):
        add(channel, type=Path)
    parse.add_argument("--checkpoints", type=Path, help="folder that outlives a killed attempt")
    add("classes", help="names, the rare class last")
    add("definitions", type=json.loads, help="business definitions, JSON")
    add("iterations", type=parse_count)
    add("seeds", type=parse_count, help="networks per fold")
    add("seed", type=int)
    parse.add_argument("--reports", type=parse_count, default=20, help="evaluations on held-out rows")
    add("patience", type=int, help="reports without a better PR-AUC until training ends; 0: off")
    add("known-share", type=parse_number, help="of the labelled users, sent to unknown")
    add("scaling", choices=("standard", "robust"), help="by mean or by median")
    add("unknown-by", choices=("distance", "source"), help="what unknown follows")
    hints = {name: hint for settings in SETTINGS for name, hint in get_type_hints(settings).items()}
    for name, hint in hints.items():
        add(name.replace("_", "-"), **argument_type(hint))
    return parse


def argument_type(hint: Any) -> dict[str, Any]:
    """The keyword arguments of argparse's add_argument for a field of the type `hint`: {"type": a function that reads
    the text}, or {"choices": the values} for a Literal.

    Tuples are read as comma-separated text, booleans as `true` or `false`.
    """
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    kinds = {
        bool: parse_boolean,
        float: parse_number,
        tuple[int, ...]: parse_whole_numbers,
        tuple[float, ...]: parse_numbers,
    }
    return {"type": kinds.get(hint, hint)}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step: train the members, and write a model folder per business definition, and curves.csv.

    Each evaluation is printed to stdout as one line, progress to stderr. Hyperparameters and evaluations also go to
    MLflow if MLFLOW_TRACKING_URI is set. Without unlabelled rows, the labelled ones stand in for them, and
    unlabelled_weight and neighbours are set to 0.
    argv: the command line without the program's name; None: that of this process.
    Raises UserError for tables that are missing, damaged or do not fit together, a class without rows, no row of the
    rare class to choose a model by, an infinite value, or an MLflow database that cannot be used.
    """
    args = parse_folders(parser(), argv)
    from scarcegan.registry.tracking import Tracker

    splits = read_splits(args)
    if splits.stand_in:
        args = argparse.Namespace(**vars(args) | WITHOUT_UNLABELLED)
        print(
            "train: no unlabelled rows; the labelled ones stand in for them, without unlabelled_weight and neighbours",
            file=sys.stderr,
        )
    tracker = Tracker(hyperparameters(args) | {"seeds": args.seeds})
    rows = training_rows(splits, args)
    trained = train_members(rows, args, reporter(tracker, args.iterations), checkpoint(splits, args))
    save_models(trained, rows, splits, args)
    write_curves(trained.networks.evaluations, args.curves_out)
    tracker.close(args.curves_out / "curves.csv")


if __name__ == "__main__":
    sys.exit(run_step(main))
