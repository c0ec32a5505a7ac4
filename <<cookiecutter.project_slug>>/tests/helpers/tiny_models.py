"""Saved models small enough to read, and test splits to try them on, for the tests of evaluation."""

import json
from pathlib import Path

import numpy as np

from scarcegan.data.schema import FeatureTable, write_features

CLASSES = ("calm", "keen", "risky")
NAMES = ("deposits", "visits", "nights")


def save(
    folder: Path,
    weights: tuple[float, ...] = (1.0, 0.0, 0.0),
    bias: float = -2.0,
    classes: tuple[str, ...] = CLASSES,
    names: tuple[str, ...] = NAMES,
    threshold: float = 0.5,
    **card: object,
) -> Path:
    """Write `folder`/1/saved_model.pb and model.json; rarity = sigmoid(weights . features + bias), NaN counting as 0.

    A user of more than 4 visits is of the second class; one whose features are all below -2 is unknown.
    """
    import tensorflow as tf

    rare = len(classes) - 1

    class Tiny(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, len(names)], tf.float32, name="features")])
        def __call__(self, features):
            known = tf.where(tf.math.is_nan(features), 0.0, features)
            rarity = tf.sigmoid(tf.linalg.matvec(known, tf.constant(weights, tf.float32)) + bias)
            unknown = tf.cast(tf.reduce_all(known < -2, axis=1), tf.float32)
            rest = tf.repeat(((1 - rarity) / rare)[:, None], rare, axis=1)
            keen = tf.cast(known[:, 1] > 4, tf.int32)
            label = tf.where(rarity >= threshold, rare, tf.where(unknown >= 0.5, rare + 1, keen))
            probabilities = tf.concat([rest, rarity[:, None]], axis=1)
            return {"probabilities": probabilities, "rarity": rarity, "unknown": unknown, "label": label}

    tiny = Tiny()
    tf.saved_model.save(tiny, str(folder / "1"), signatures={"serving_default": tiny.__call__})
    thresholds = {"rare": threshold, "unknown": 0.5}
    known = {"definition": folder.name, "classes": classes, "features": names, "thresholds": thresholds}
    (folder / "model.json").write_text(json.dumps(known | card))
    return folder


def users(counts: dict[int, int], seed: int = 0, gap: float = 3.0, names: tuple[str, ...] = NAMES) -> FeatureTable:
    """So many users per label: risky ones (2) deposit `gap` more than others, keen ones (1) visit more."""
    rng = np.random.default_rng(seed)
    label = np.repeat(list(counts), list(counts.values())).astype(np.int8)
    values = rng.normal(size=(len(label), len(names)))
    values[:, 0] += gap * (label == 2)
    values[:, 1] += 6 * (label == 1)
    values[rng.random(values.shape) < 0.02] = np.nan
    ids = np.array([f"user-{seed}-{i}" for i in range(len(label))], object)
    day = np.full(len(label), "2026-03-01", "datetime64[D]")
    return FeatureTable(ids, day, label, names, values.astype(np.float32))


def split(folder: Path, test: FeatureTable | None = None, labelled: FeatureTable | None = None) -> Path:
    """Write `test` and `labelled` below the folder, 240 and 120 users unless given."""
    default = {0: 90, 1: 60, 2: 30, -1: 60}
    write_features(test if test is not None else users(default, seed=1), folder / "test")
    write_features(labelled if labelled is not None else users({0: 60, 1: 40, 2: 20}, seed=2), folder / "labelled")
    return folder
