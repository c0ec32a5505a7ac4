"""Splits small enough to train on within seconds, and the command line that reads them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scarcegan.data.schema import FeatureTable, write_features
from scarcegan.pipeline.config import Config

T = TypeVar("T")

CLASSES = ("calm", "busy", "risky")
NAMES = ("a", "b", "flat")
DEFINITIONS = {
    "high_recall": {"keep": "highest_recall", "precision_floor": 0.5},
    "high_precision": {"keep": "highest_precision", "recall_floor": 0.5},
    "best_ranking": {"keep": "highest_pr_auc"},
    "few_unknown": {"keep": "fewest_unknown", "recall_tolerance": 0.05},
}


def table(label, first=0):
    """Users whose `a` follows their class; `b` is noise with a hole; `flat` is always 1."""
    label = np.array(label, np.int8)
    rng = np.random.default_rng(first)
    values = np.stack([3.0 * np.maximum(label, 0) + rng.normal(size=len(label)), rng.normal(size=len(label))], axis=1)
    values = np.concatenate([values, np.ones((len(label), 1))], axis=1).astype(np.float32)
    values[:1, 1] = np.nan
    users = np.array([f"u{first + i}" for i in range(len(label))], object)
    return FeatureTable(users, np.full(len(label), "2026-01-01", "datetime64[D]"), label, NAMES, values)


def write(folder, labelled=None, validation=None, folds=2, **more):
    """Splits below `folder`; the command line that reads them. more: see command."""
    labelled = labelled or table([0] * 12 + [1] * 8 + [2] * 4)
    write_features(labelled, folder / "labelled")
    write_features(table([-1] * 30, 100), folder / "unlabelled")
    write_features(validation or table([0] * 8 + [1] * 6 + [2] * 4 + [-1] * 6, 200), folder / "validation")
    (folder / "folds").mkdir()
    fold = pa.array(np.arange(len(labelled)) % folds, pa.int8())
    users = pa.array(labelled.user_id, pa.string())
    pq.write_table(pa.table({"user_id": users, "fold": fold}), folder / "folds" / "folds.parquet")
    return command(folder, **more)


TINY = {
    "iterations": 60,
    "reports": 3,
    "seeds": 1,
    "batch_size": 12,
    "learning_rate": 0.01,
    "trunk": (6, 4),
    "bins": 2,
    "boosting": 10,
}


def command(folder, out="out", definitions=DEFINITIONS, **changes):
    """Arguments of a short training of `folder`'s splits into folder/out; changes: of its hyperparameters."""
    words = []
    for channel in ("labelled", "unlabelled", "validation", "folds"):
        words += [f"--{channel}", str(folder / channel)]
    words += ["--models-out", str(folder / out / "models"), "--curves-out", str(folder / out / "curves")]
    words += ["--classes", ",".join(CLASSES), "--definitions", json.dumps(definitions)]
    for name, value in (defaults() | TINY | changes).items():
        words += [f"--{name.replace('_', '-')}", as_argument(value)]
    return words


def as_argument(value):
    """A hyperparameter as the step's command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def settings(kind: type[T], **changes: Any) -> T:
    """The settings of a family of models as a new project has them, with some changed."""
    values = {one.name: defaults()[one.name] for one in fields(kind)} | changes  # type: ignore[arg-type]
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def defaults() -> dict[str, Any]:
    """Hyperparameter -> the value that a new project has, whatever sections of config.yaml they stand in."""
    return dict(_leaves(Config().train.model_dump()))


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        yield from _leaves(value) if isinstance(value, Mapping) else [(name, value)]
