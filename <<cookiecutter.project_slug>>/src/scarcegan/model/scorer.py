"""Scorer: a delivered model is loaded from its folder and scores raw rows, in this process."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scarcegan.data.categories import Categories, texts_of
from scarcegan.errors import UserError

ROWS_PER_CALL = 50_000


@dataclass(frozen=True)
class Scores:
    """What a delivered model says of n rows.

    - probabilities float32 [n, K]: of the classes, in their order; they sum to 1.
    - rarity float32 [n]: probability of the rare class.
    - unknown float32 [n] in [0, 1): the share of labelled rows that look more usual.
    - label int32 [n]: position of the class; K is unknown.
    """

    probabilities: NDArray
    rarity: NDArray
    unknown: NDArray
    label: NDArray


class Scorer:
    """A delivered model that scores rows; a row's scores do not depend on the rows beside it.

    signature: the SavedModel's function serving_default. facts: the model.json beside it. Of the attributes, `classes`
    and `features` are names in order, `thresholds` those of "rare" and "unknown", `categories` the code of each known
    category by feature.
    """

    def __init__(self, signature: Any, facts: Mapping[str, Any]) -> None:
        self._signature = signature
        self.facts = dict(facts)
        self.classes: tuple[str, ...] = tuple(facts["classes"])
        self.features: tuple[str, ...] = tuple(facts["features"])
        self.thresholds: dict[str, float] = dict(facts["thresholds"])
        self.categories: Categories = texts_of(facts)

    def score(self, values: NDArray, names: Sequence[str] | None = None) -> Scores:
        """Scores of raw rows [n, d], NaN for missing, in their order.

        names: of the d columns; None: they are taken for the model's own.
        Raises UserError for another width or other names than the model was trained on.
        """
        values = np.asarray(values, np.float32)
        self._refuse_other_columns(values, names)
        parts = [self._call(values[i : i + ROWS_PER_CALL]) for i in range(0, max(len(values), 1), ROWS_PER_CALL)]
        joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        return Scores(**joined)

    def _call(self, values: NDArray) -> dict[str, NDArray]:
        import tensorflow as tf

        found = self._signature(features=tf.constant(values))
        return {key: found[key].numpy() for key in ("probabilities", "rarity", "unknown", "label")}

    def _refuse_other_columns(self, values: NDArray, names: Sequence[str] | None) -> None:
        if values.ndim != 2 or values.shape[1] != len(self.features):
            raise UserError(
                f"rows of shape {list(values.shape)}; the model reads [n, {len(self.features)}] "
                f"({', '.join(self.features[:5])}, …). Score the features it was trained on."
            )
        if names is not None and tuple(names) != self.features:
            place = next(i for i, pair in enumerate(zip(names, self.features, strict=True)) if pair[0] != pair[1])
            raise UserError(
                f"feature {place + 1} is '{names[place]}'; the model was trained with '{self.features[place]}' there. "
                f"Make the features with the settings the model was trained with."
            )


def load_scorer(folder: Path) -> Scorer:
    """The Scorer of the model in a folder, which holds 1/saved_model.pb and model.json.

    Raises UserError if one of these is missing or damaged.
    """
    folder = Path(folder)
    facts = _facts(folder / "model.json")
    if not (folder / "1" / "saved_model.pb").is_file():
        raise UserError(f"{folder}: no SavedModel (1/saved_model.pb) in it. Name the folder of a trained model.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(folder / "1"))
        signature = model.signatures["serving_default"]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise UserError(f"{folder / '1'}: damaged SavedModel ({str(error)[:200]}). Export the model again.") from error
    scorer = Scorer(signature, facts)
    scorer._keep_alive = model  # type: ignore[attr-defined]  # the signature holds only weak references
    return scorer


def _facts(path: Path) -> dict[str, Any]:
    """The content of a model.json that has the keys a Scorer needs.

    Raises UserError for a file that is missing or damaged or lacks one.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent}: no model.json in it. Name the folder of a trained model.") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}). Export the model again.") from error
    missing = [key for key in ("classes", "features", "thresholds") if key not in facts]
    if missing:
        raise UserError(f"{path}: no '{missing[0]}' in it. Export the model again.")
    return facts
