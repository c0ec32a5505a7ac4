"""Train: labelled and unlabelled rows in; a model per business definition, and the training curves, out.

Reads the splits, trains an ensemble of ScarceGANs (seeds x folds) as one program, looks at rows they have not seen
after every interval, and keeps what each definition prefers. Test rows are never read here.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scarcegan.data.schema import UNLABELLED, FeatureTable, parse_classes, read_features
from scarcegan.errors import UserError, run_step
from scarcegan.model import learnt_from

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

if TYPE_CHECKING:
    from scarcegan.evaluation.selection import Choice
    from scarcegan.model.delivered import Calibration
    from scarcegan.model.gan.scarcegan import Settings
    from scarcegan.model.gan.training import Look, Unseen
    from scarcegan.model.inputs import Inputs


@dataclass(frozen=True)
class Splits:
    """What training reads. fold [n] of the labelled rows. stand_in: unlabelled rows are the labelled ones once more."""

    labelled: FeatureTable
    unlabelled: FeatureTable
    validation: FeatureTable
    fold: NDArray
    classes: tuple[str, ...]
    stand_in: bool = False

    @property
    def rare(self) -> int:
        return len(self.classes) - 1


def read_splits(args: argparse.Namespace) -> Splits:
    """The channels, checked against each other. UserError for other columns, a class without rows, infinite values."""
    classes = parse_classes(args.classes)
    labelled, unlabelled, validation = (
        read_features(folder) for folder in (args.labelled, args.unlabelled, args.validation)
    )
    for folder, table in ((args.unlabelled, unlabelled), (args.validation, validation)):
        if table.names != labelled.names:
            raise UserError(f"{folder}: its features differ from those of {args.labelled}. Run split again.")
    refuse_missing_class(labelled.label, classes, args.labelled)
    stand_in = not len(unlabelled)
    if stand_in:
        unlabelled = labelled
    unlabelled = some(unlabelled, args.most_unlabelled, args.seed)
    validation = some(validation, args.most_unlabelled, args.seed, keep=validation.label != UNLABELLED)
    fold = read_folds(args.folds, labelled.user_id)
    return Splits(labelled, unlabelled, validation, fold, classes, stand_in)


def refuse_missing_class(label: NDArray, classes: Sequence[str], folder: Path) -> None:
    """UserError for a class without a labelled row, or a label that is no class."""
    if len(label) and not (label >= 0).all() & (label < len(classes)).all():
        raise UserError(f"{folder}: a label outside 0 to {len(classes) - 1}. Run split again with these classes.")
    counts = np.bincount(label.astype(int), minlength=len(classes))
    if (counts == 0).any():
        found = ", ".join(f"{name} {count}" for name, count in zip(classes, counts, strict=True))
        raise UserError(
            f"{folder}: class '{classes[int(np.argmin(counts))]}' has no training row (found: {found}). "
            f"Label some users of it, or take it out of the classes."
        )


def some(table: FeatureTable, most: int, seed: int, keep: NDArray | None = None) -> FeatureTable:
    """At most `most` of the rows, drawn without replacement, and all of those to keep; in the order they stand."""
    keep = np.zeros(len(table), bool) if keep is None else keep
    others = np.flatnonzero(~keep)
    if len(others) <= most:
        return table
    drawn = np.random.default_rng(seed).choice(others, most, replace=False)
    return table.take(np.sort(np.concatenate([np.flatnonzero(keep), drawn])))


def read_folds(folder: Path, users: NDArray) -> NDArray:
    """Fold of each labelled row; UserError if a user has none."""
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


def seen_by(fold: NDArray, label: NDArray, seeds: int) -> NDArray:
    """[members, n]: which labelled rows each member trains on: those out of its fold, for each seed in turn.

    A class with rows in one fold only, and everything when there is one fold, is seen by all: a member without a class
    would learn that the class does not exist.
    """
    folds = int(fold.max()) + 1
    seen = fold[None] != np.arange(folds)[:, None]
    for k in np.unique(label):
        rows = label == k
        if len(np.unique(fold[rows])) < 2:
            seen[:, rows] = True
    return np.tile(seen, (seeds, 1))


def unseen_rows(splits: Splits, seen: NDArray, labelled: NDArray, validation: NDArray) -> "Unseen":
    """Labelled rows that some member never saw, then all validation rows. UserError if none of them is rare."""
    from scarcegan.model.gan.training import Unseen

    left_out = ~seen.all(axis=0)
    by = np.concatenate([~seen[:, left_out], np.ones((len(seen), len(validation)), bool)], axis=1)
    label = np.concatenate([splits.labelled.label[left_out], splits.validation.label])
    if not (label == splits.rare).any():
        raise UserError(
            f"no row of '{splits.classes[-1]}' is left to choose a model by. Label more users of it, use two folds "
            f"or more, or raise the validation share."
        )
    return Unseen(np.concatenate([labelled[left_out], validation]), label, by)


@dataclass(frozen=True)
class Trained:
    """What a training leaves: looks, the rows they looked at, and a discriminator to put weights into."""

    looks: "list[Look]"
    unseen: "Unseen"
    preprocessing: "Inputs"
    discriminator: Any
    distance: Any
    trees: Any
    settings: "Settings"
    members: int


def fit(splits: Splits, settings: "Settings", args: argparse.Namespace, tracker: Any) -> Trained:
    """Scale, train and look; progress on stdout and in MLflow."""
    from scarcegan.model import distance, evenness, inputs, preprocessing
    from scarcegan.model.gan import scarcegan, training
    from scarcegan.model.trees import boosting, neighbours

    rows = np.concatenate([splits.labelled.values, splits.unlabelled.values])
    scaling = inputs.learn(rows, splits.labelled.names, splits.labelled.categories, args.scaling)
    preprocessing.refuse_infinite(splits.validation.values, splits.labelled.names)
    labelled, unlabelled, validation = (
        scaling(table.values).numpy() for table in (splits.labelled, splits.unlabelled, splits.validation)
    )
    seen = seen_by(splits.fold, splits.labelled.label, args.seeds)
    seeds = scarcegan.member_seeds(args.seed, args.seeds, len(seen) // args.seeds)
    unseen = unseen_rows(splits, seen, labelled, validation)
    numbers = np.concatenate([labelled, unlabelled])[:, : scaling.numeric_width]
    edges = preprocessing.edges(numbers, settings.bins)
    model = scarcegan.ScarceGAN(scaling.width, len(splits.classes), seeds, settings, args.iterations, edges)
    drawn = scaling.forgetful(labelled, args.seed), scaling.forgetful(unlabelled, args.seed + 1)
    pool = scarcegan.pool(drawn[0], splits.labelled.label, drawn[1], seen, len(splits.classes), settings.even)
    each = -(-args.iterations // args.reports)
    checkpoint = None
    if args.checkpoints:
        checkpoint = training.Checkpoint(args.checkpoints, fingerprint(splits, settings, args))
    program = scarcegan.Program(model, pool, each)
    intervals = -(-args.iterations // each)
    looks = training.train(program, unseen, intervals, reporter(tracker), checkpoint, args.patience)
    if len(looks) < intervals:
        print(
            f"train: stopped at iteration {looks[-1].iteration} of {args.iterations}: validation PR-AUC has not risen "
            f"for {args.patience} reports",
            file=sys.stderr,
        )
    far = None
    if args.unknown_by == "distance":
        size = scaling.numeric_width
        far = distance.learn(labelled, splits.labelled.label, size)
        out_of_fold = distance.out_of_fold(labelled, splits.labelled.label, splits.fold, size)
        strangeness = np.concatenate([out_of_fold[~seen.all(axis=0)], far(validation).numpy()])
        looks = [replace(look, unknown=strangeness) for look in looks]
    trees = None
    if settings.boosting:
        crowd = scaling(splits.unlabelled.values, bound=preprocessing.WIDE).numpy()
        near = neighbours.learn(crowd, settings.neighbours, args.seed)

        def read_by_trees(rows: NDArray, table: FeatureTable) -> NDArray:
            return boosting.inputs(rows, scaling(table.values, bound=preprocessing.WIDE), near).numpy()

        folds, rare = seen[: len(seen) // args.seeds], splits.labelled.label == splits.rare
        weight = evenness.among_all(drawn[0], rare, settings.even)
        known = read_by_trees(drawn[0], splits.labelled)
        print(f"train: growing {settings.boosting} trees for each of {len(folds)} folds", file=sys.stderr)
        trees = boosting.learn(known, rare, weight, folds, settings.boosting, args.seed, near)
        own = read_by_trees(labelled, splits.labelled)[~seen.all(axis=0)]
        asked = np.concatenate([own, read_by_trees(validation, splits.validation)])
        odds = trees.unseen_log_odds(asked, unseen.by[: len(folds)], settings.caution)
        looks = [replace(look, rare=look.rare + settings.boosting_weight * odds) for look in looks]
    return Trained(looks, unseen, scaling, model.discriminator, far, trees, settings, len(seeds))


def reporter(tracker: Any) -> Any:
    """Prints a line per look, in the form the cloud's metric expressions read, and logs it."""
    from scarcegan.model.gan.scarcegan import REPORTED

    def report(look: "Look") -> None:
        figures = dict(zip(REPORTED, look.figures.mean(axis=1).tolist(), strict=True))
        words = "".join(f" {name}={value:.6f};" for name, value in figures.items())
        print(f"Iteration={look.iteration};{words}", flush=True)
        tracker.log(figures | {"Validation_PR_AUC": float(np.nanmean(look.pr_auc))}, look.iteration)

    return report


def fingerprint(splits: Splits, settings: "Settings", args: argparse.Namespace) -> str:
    """Of the data, the settings and the code that a checkpoint belongs to."""
    digest = hashlib.sha256(code_digest().encode())
    for table in (splits.labelled, splits.unlabelled, splits.validation):
        for array in (table.values, table.label):
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(splits.fold.tobytes())
    words = [asdict(settings), splits.classes, splits.labelled.names, args.iterations, args.reports]
    more = [args.seeds, args.seed, args.scaling, args.patience, sorted(splits.labelled.categories)]
    digest.update(json.dumps([*words, *more]).encode())
    return digest.hexdigest()


def code_digest() -> str:
    """Digest of the model's code and of the libraries that run it."""
    import keras
    import tensorflow as tf

    from scarcegan import model
    from scarcegan.evaluation import selection

    digest = hashlib.sha256(f"{tf.__version__} {keras.__version__}".encode())
    code = sorted(Path(model.__file__).parent.rglob("*.py"))
    for file in [Path(__file__), *code, Path(selection.__file__)]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def choose_and_save(
    trained: Trained, splits: Splits, definitions: Mapping[str, Any], facts: Mapping[str, Any], args: argparse.Namespace
) -> None:
    """A model folder per business definition: SavedModel and model.json."""
    from scarcegan.evaluation import selection
    from scarcegan.model import delivered

    label = trained.unseen.label
    labelled = label != UNLABELLED
    calibrations = [
        delivered.calibrate(look.rare[labelled], label[labelled] == splits.rare, look.unknown[labelled])
        for look in trained.looks
    ]
    candidates = [
        selection.Candidate(look.iteration, calibration.rarity(look.rare), calibration.unknown(look.unknown))
        for look, calibration in zip(trained.looks, calibrations, strict=True)
    ]
    for name, definition in definitions.items():
        choice = selection.choose(definition, candidates, label, splits.rare, args.known_share)
        export(trained, choice, calibrations[choice.candidate], args.models_out / name, splits.labelled.values.shape[1])
        chosen = describe(name, definition, choice, trained, args) | dict(facts)
        (args.models_out / name / "model.json").write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
        judges = splits.validation.user_id[splits.validation.label != UNLABELLED]
        learnt_from.record(args.models_out / name, [*splits.labelled.user_id, *judges])
        said = ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in choice.validation.items())
        print(f"train: {name}: iteration {chosen['iterations']}, {said}", file=sys.stderr)


def export(trained: Trained, choice: "Choice", calibration: "Calibration", folder: Path, columns: int) -> None:
    """The SavedModel of a choice below `folder`."""
    from scarcegan.model import delivered

    weights = trained.looks[choice.candidate].weights
    for variable, weight in zip(trained.discriminator.trainable_variables, weights, strict=True):
        variable.assign(weight)
    whole = delivered.Delivered(
        trained.preprocessing,
        trained.discriminator,
        trained.distance,
        calibration,
        choice.rare,
        choice.unknown,
        trained.trees,
        trained.settings.boosting_weight,
        trained.settings.caution,
    )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    delivered.save(whole, columns, folder / "1")


def describe(
    name: str, definition: Mapping[str, Any], choice: "Choice", trained: Trained, args: argparse.Namespace
) -> dict[str, Any]:
    """What model.json says of a choice."""
    look = trained.looks[choice.candidate]
    return {
        "definition": name,
        **definition,
        "floor_met": choice.floor_met,
        "thresholds": {"rare": choice.rare, "unknown": choice.unknown},
        "validation": choice.validation,
        "seeds": args.seeds,
        "members": trained.members,
        "iterations": look.iteration,
        "stopped_at": trained.looks[-1].iteration,
        "stopped_early": trained.looks[-1].iteration < args.iterations,
        "spread": {"pr_auc": {"mean": float(np.nanmean(look.pr_auc)), "sd": float(np.nanstd(look.pr_auc))}},
    }


def write_curves(looks: "list[Look]", folder: Path) -> None:
    """curves.csv: a row per look and member."""
    from scarcegan.model.gan.scarcegan import REPORTED

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["iteration", "member", *(name.lower() for name in REPORTED), "validation_pr_auc"])
        for look in looks:
            for member, figures in enumerate(look.figures.T):
                writer.writerow([look.iteration, member, *figures.tolist(), look.pr_auc[member]])


def parser() -> argparse.ArgumentParser:
    """Channels, outputs, and hyperparameters; the network's own are the fields of gan.Settings."""
    parse = argparse.ArgumentParser(prog="train", description=__doc__)
    for channel in ("labelled", "unlabelled", "validation", "folds", "models-out", "curves-out"):
        parse.add_argument(f"--{channel}", type=Path, required=True)
    parse.add_argument("--checkpoints", type=Path, help="folder that outlives a killed attempt")
    parse.add_argument("--classes", required=True, help="names, the rare class last")
    parse.add_argument("--definitions", required=True, help="business definitions, JSON")
    parse.add_argument("--iterations", type=positive, default=1000)
    parse.add_argument("--seeds", type=positive, default=2, help="members per fold")
    parse.add_argument("--seed", type=int, default=7)
    parse.add_argument("--reports", type=positive, default=20, help="looks at unseen rows, and lines of progress")
    parse.add_argument("--patience", type=int, default=0, help="reports without a better PR-AUC until it ends; 0: off")
    parse.add_argument("--known-share", type=float, default=0.05, help="of the labelled users, sent to unknown")
    parse.add_argument("--scaling", choices=("standard", "robust"), default="standard", help="mean or median")
    parse.add_argument("--unknown-by", choices=("distance", "source"), default="distance", help="what unknown follows")
    parse.add_argument("--most-unlabelled", type=positive, default=100_000, help="unlabelled rows read at most")
    return parse


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def add_settings(parse: argparse.ArgumentParser) -> None:
    """An argument per field of gan.Settings: numbers and words as they are, tuples comma separated, true or false."""
    from scarcegan.model.gan.scarcegan import Settings

    for one in fields(Settings):
        default = one.default
        if isinstance(default, bool):
            kind: Any = truth
        elif isinstance(default, tuple):
            kind = whole_numbers if default else numbers
        else:
            kind = type(default)
        parse.add_argument(f"--{one.name.replace('_', '-')}", type=kind, default=default)


def truth(text: str) -> bool:
    """`true` or `false`."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text == "true"


def numbers(text: str) -> tuple[float, ...]:
    """Comma separated numbers."""
    return tuple(float(part) for part in text.split(",") if part.strip())


def whole_numbers(text: str) -> tuple[int, ...]:
    """Comma separated whole numbers."""
    return tuple(int(part) for part in text.split(",") if part.strip())


def main(argv: Sequence[str] | None = None) -> None:
    parse = parser()
    add_settings(parse)
    args = parse.parse_args(argv)
    from scarcegan.model import lookups
    from scarcegan.model.gan.scarcegan import Settings
    from scarcegan.registry.tracking import Tracker

    settings = Settings(**{one.name: getattr(args, one.name) for one in fields(Settings)})
    definitions = json.loads(args.definitions)
    splits = read_splits(args)
    if splits.stand_in:
        settings = replace(settings, unlabelled_weight=0.0, neighbours=0)
        print(
            "train: no unlabelled rows; the labelled ones stand in for them, without unlabelled_weight and neighbours",
            file=sys.stderr,
        )
    hyperparameters = asdict(settings) | {
        "known_share": args.known_share,
        "unknown_by": args.unknown_by,
        "scaling": args.scaling,
        "patience": args.patience,
        "seed": args.seed,
        "reports": args.reports,
    }
    tracker = Tracker(hyperparameters | {"seeds": args.seeds})
    trained = fit(splits, settings, args, tracker)
    facts = {
        "classes": splits.classes,
        "features": splits.labelled.names,
        "categories": lookups.facts(trained.preprocessing.lookups, splits.labelled.names, splits.labelled.categories),
        "hyperparameters": hyperparameters,
    }
    choose_and_save(trained, splits, definitions, facts, args)
    write_curves(trained.looks, args.curves_out)
    tracker.close()


if __name__ == "__main__":
    sys.exit(run_step(main))
