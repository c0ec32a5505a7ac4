"""Train: splits in; four SavedModels, training curves and checkpoints out. The algorithm is in model/gan.py."""

import argparse
import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from scarcegan.data.schema import UNLABELLED, FeatureTable, parse_classes, read_features
from scarcegan.errors import UserError, run_step
from scarcegan.model.gan import Hyperparameters

CHANNELS = ("labelled", "unlabelled", "validation", "folds")
LOSSES = ("discriminator_supervised_loss", "discriminator_unsupervised_loss", "generator_loss", "accuracy_supervised")


@dataclass(frozen=True)
class Members:
    """Who learns from whom: seeds [members]; seen bool [members, n] of the labelled rows; fold of the member left out."""

    seeds: tuple[int, ...]
    seen: np.ndarray


@dataclass(frozen=True)
class Judges:
    """Users the members are judged on. rows: scaled, float32 [n, d]; labels int [n], -1 unlabelled; heard bool [members, n]:
    whether a member has a say on a row, because it did not learn from it; training: whether the row is a training row."""

    rows: np.ndarray
    labels: np.ndarray
    heard: np.ndarray
    training: np.ndarray


def read_folds(folder: Path, users: np.ndarray) -> np.ndarray:
    """The fold of each user, int [n]."""
    table = pq.read_table(folder / "folds.parquet")
    fold = dict(zip(table["user_id"].to_pylist(), table["fold"].to_pylist(), strict=True))
    return np.array([fold[user] for user in users], int)


def members_of(labels: np.ndarray, fold: np.ndarray, classes: int, seeds: int, seed: int) -> Members:
    """A member per fold and seed, which learns from the other folds. A class that lies in one fold alone is shown to all."""
    folds = int(fold.max()) + 1
    seen = np.stack([fold != k for k in range(folds)])
    for c in range(classes):
        blind = ~(seen & (labels == c)).any(axis=1)
        seen[np.ix_(blind, labels == c)] = True
    numbers = np.random.SeedSequence(seed).generate_state(seeds * folds)
    return Members(tuple(int(n) % 2**31 for n in numbers), np.tile(seen, (seeds, 1)))


def refuse(table: FeatureTable, unlabelled: FeatureTable, classes: Sequence[str]) -> None:
    """UserError for a class without rows, no unlabelled rows, or tables of different features."""
    for number, name in enumerate(classes):
        if not (table.label == number).any():
            raise UserError(f"class '{name}' has no labelled training row. Label some users of it, or leave the class out.")
    if not len(unlabelled):
        raise UserError("there is no unlabelled training row. ScarceGAN learns from them; leave some users without a label.")
    if table.names != unlabelled.names:
        raise UserError("labelled and unlabelled rows have different features. Make both in one run of the features step.")


def metric_line(iteration: int, means: np.ndarray) -> str:
    """The line a training job's metric definitions look for."""
    supervised, unsupervised, generator, accuracy = means
    return (
        f"Iteration={iteration}; Discriminator_Supervised_Loss={supervised:.6f}; "
        f"Discriminator_UnSupervised_Loss={unsupervised:.6f}; Generator_Loss={generator:.6f}; "
        f"Accuracy_Supervised={accuracy:.6f};"
    )


class Tracker:
    """Logs to MLflow when MLFLOW_TRACKING_URI is set; otherwise does nothing."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.run = None
        if os.environ.get("MLFLOW_TRACKING_URI"):
            from mlflow import MlflowClient
            from mlflow.entities import Param

            self.client = MlflowClient()
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "scarcegan")
            found = self.client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self.client.create_experiment(name)
            self.run = os.environ.get("MLFLOW_RUN_ID") or self.client.create_run(experiment, run_name="train").info.run_id
            self.client.log_batch(self.run, params=[Param(key, str(value)) for key, value in settings.items()])

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self.run:
            from mlflow.entities import Metric

            self.client.log_batch(self.run, metrics=[Metric(k, float(v), 0, step) for k, v in values.items()])

    def end(self) -> None:
        if self.run:
            self.client.set_terminated(self.run)


def judges_of(preprocess: Any, labelled: FeatureTable, validation: FeatureTable, members: Members) -> Judges:
    """Validation users, heard by every member, and labelled training users, heard by the members that left them out."""
    tables, count = (validation, labelled), len(members.seeds)
    heard = np.concatenate([np.ones((count, len(validation)), bool), ~members.seen], axis=1)
    judged = heard.any(axis=0)
    labels = np.concatenate([table.label for table in tables]).astype(int)
    training = np.repeat([False, True], [len(table) for table in tables])
    rows = preprocess(np.concatenate([table.values for table in tables]))
    return Judges(rows[judged], labels[judged], heard[:, judged], training[judged])


def mean_heard(values: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """Mean over the members that have a say: values [members, n] -> [n]."""
    return (values * heard).sum(axis=0) / heard.sum(axis=0)


def calibrate(odds: np.ndarray, rare: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of Platt scaling; the slope is held above zero, so the order of users stays."""
    fitted = LogisticRegression(C=10.0).fit(odds[:, None], rare)
    return max(float(fitted.coef_[0, 0]), 1e-3), float(fitted.intercept_[0])


@dataclass(frozen=True)
class Judged:
    """One snapshot: its calibration, and what selection sees of it."""

    calibration: Any
    candidate: Any
    member_pr_auc: np.ndarray


def judge(snapshot: Any, near: Any, judges: Judges, classes: int, unknown_threshold: float) -> Judged:
    """Score the judges' rows by one snapshot and calibrate it on them."""
    import tensorflow as tf

    from scarcegan.model import delivered
    from scarcegan.model.selection import Candidate

    logits, source = delivered.heads([tf.constant(w) for w in snapshot.weights], tf.constant(judges.rows))
    odds = delivered.log_odds(logits).numpy()
    known, rare = judges.labels != UNLABELLED, judges.labels == classes - 1
    pooled = mean_heard(odds, judges.heard)
    slope, intercept = calibrate(pooled[known], rare[known])
    strange = delivered.strangeness(near, tf.constant(judges.rows), source).numpy()
    fresh = ~judges.training
    quantiles = np.quantile(strange[known & fresh], delivered.KNOTS)
    unknown = delivered.share_below(tf.constant(strange), quantiles).numpy()
    rarity = 1 / (1 + np.exp(-(slope * pooled + intercept)))
    crowd = fresh & ~known
    share = float((unknown[crowd] >= unknown_threshold).mean()) if crowd.any() else 0.0
    calibration = delivered.Calibration(slope, intercept, quantiles)
    own = [average_precision_score(rare[known & fresh], member[known & fresh]) for member in odds]
    return Judged(calibration, Candidate(snapshot.iteration, rarity[known], rare[known], share), np.array(own))


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    classes, definitions = args.classes, json.loads(args.definitions)
    labelled, unlabelled, validation = (read_features(getattr(args, name)) for name in CHANNELS[:3])
    refuse(labelled, unlabelled, classes)
    if not (validation.label == len(classes) - 1).any():
        raise UserError(f"no '{classes[-1]}' user among the validation users. Label more of them, or raise validation_share.")
    settings = Hyperparameters(**{field.name: getattr(args, field.name) for field in fields(Hyperparameters)})

    import tensorflow as tf

    from scarcegan.model import delivered, preprocessing, training
    from scarcegan.model.gan import Rows, rows_of_members
    from scarcegan.model.selection import choose

    layer = preprocessing.learn(np.concatenate([labelled.values, unlabelled.values]), labelled.names)

    def preprocess(values: np.ndarray) -> np.ndarray:
        return layer(tf.constant(values)).numpy()

    labels = labelled.label.astype(int)
    fold = read_folds(args.folds, labelled.user_id)
    members = members_of(labels, fold, len(classes), args.seeds, args.seed)
    scaled = preprocess(labelled.values)
    rows = Rows(scaled, preprocess(unlabelled.values), *rows_of_members(labels, members.seen, len(classes)))
    tracker = Tracker({**asdict(settings), "seeds": args.seeds, "seed": args.seed})

    def report(snapshot: Any) -> None:
        print(metric_line(snapshot.iteration, snapshot.losses.mean(axis=1)), flush=True)
        tracker.log(dict(zip(LOSSES, snapshot.losses.mean(axis=1), strict=True)), snapshot.iteration)

    history = training.train(rows, settings, members.seeds, args.checkpoints, report)
    near = delivered.neighbourhood(scaled, labels, len(classes))
    judges = judges_of(preprocess, labelled, validation, members)
    settled = history[len(history) // 2 :]
    threshold = 1.0 - args.unknown_share
    judged = [judge(snapshot, near, judges, len(classes), threshold) for snapshot in settled]
    candidates = [one.candidate for one in judged]
    for name, definition in definitions.items():
        kept = choose(definition, candidates)
        one, snapshot = judged[kept.candidate], settled[kept.candidate]
        model = delivered.Delivered(layer, snapshot.weights, near, one.calibration, kept.threshold, threshold)
        folder = args.models_out / name
        model.save(folder)
        facts = {
            "definition": name,
            **definition,
            "floor_met": kept.floor_met,
            "classes": list(classes),
            "features": list(labelled.names),
            "thresholds": {"rare": kept.threshold, "unknown": threshold},
            "validation": dict(kept.figures),
            "spread": {"pr_auc": {"mean": float(one.member_pr_auc.mean()), "sd": float(one.member_pr_auc.std())}},
            "members": len(members.seeds),
            "seeds": list(members.seeds),
            "iteration": snapshot.iteration,
            "hyperparameters": asdict(settings),
        }
        (folder / "model.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        tracker.log({f"validation_{figure}_{name}": value for figure, value in kept.figures.items()}, snapshot.iteration)
    write_curves(args.curves_out / "curves.csv", history, settled, judged)
    tracker.end()


def write_curves(path: Path, history: Sequence[Any], settled: Sequence[Any], judged: Sequence[Judged]) -> None:
    """A line per snapshot and member: losses, labelled accuracy, and the PR-AUC on validation users where it was judged."""
    own = {snapshot.iteration: one.member_pr_auc for snapshot, one in zip(settled, judged, strict=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["iteration", "member", *LOSSES, "validation_pr_auc"])
        for snapshot in history:
            for member, values in enumerate(snapshot.losses.T):
                area = own[snapshot.iteration][member] if snapshot.iteration in own else ""
                writer.writerow([snapshot.iteration, member, *(f"{value:.6f}" for value in values), area])


def parser() -> argparse.ArgumentParser:
    it = argparse.ArgumentParser(description=__doc__)
    for channel in (*CHANNELS, "models-out", "curves-out"):
        it.add_argument(f"--{channel}", type=Path, required=True)
    it.add_argument("--checkpoints", type=Path)
    it.add_argument("--classes", type=parse_classes, required=True)
    it.add_argument("--definitions", required=True, help="business definitions as JSON")
    it.add_argument("--seeds", type=int, default=2, help="members per fold")
    it.add_argument("--seed", type=int, default=7)
    it.add_argument("--unknown-share", type=float, default=0.05, help="of the known users, sent to unknown")
    for field in fields(Hyperparameters):
        kind = type(field.default)
        it.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=sizes if kind is tuple else truth if kind is bool else kind,
            default=field.default,
        )
    return it


def sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def truth(text: str) -> bool:
    return {"true": True, "false": False}[text]


if __name__ == "__main__":
    sys.exit(run_step(main))
