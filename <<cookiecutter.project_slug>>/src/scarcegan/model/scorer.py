"""Scorer: a delivered model is loaded from its folder and scores raw rows, in this process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scarcegan.data.categories import Categories, texts_of
from scarcegan.errors import UserError
from scarcegan.jsonfile import read_json
from scarcegan.model.saved import EXPORT_AGAIN

ROWS_PER_CALL = 2_000  # what the trees walk through then stays in the processor's cache


@dataclass(frozen=True)
class Scores:
    """A delivered model's scores of n rows, for K classes of which the rare one is the last.

    - probabilities float32 [n, K]: calibrated probability of each class, in class order; they sum to 1.
    - rarity float32 [n]: the probability of the rare class.
    - unknown float32 [n] in [0, 1): about the share of labelled rows that are less strange than the row.
    - label int32 [n]: position of the predicted class in class order; K means "unknown".
    """

    probabilities: NDArray
    rarity: NDArray
    unknown: NDArray
    label: NDArray


class Scorer:
    """A delivered model that scores rows; a row's scores do not depend on the other rows of a call.

    signature: the SavedModel's function serving_default. facts: the content of the model's model.json. Attributes:
    - facts: a copy of that content.
    - classes, features: names in the model's order; the rare class is the last.
    - thresholds: "rare" and "unknown" -> the lowest rarity, and the lowest `unknown`, that get this label.
    - categories: name of each feature of categories -> text -> code, of its most frequent texts only (code() of
      data/categories.py gives that of any text); {} without such features.
    """

    def __init__(self, signature: Any, facts: Mapping[str, Any]) -> None:
        self._signature = signature
        self.facts = dict(facts)
        self.classes: tuple[str, ...] = tuple(facts["classes"])
        self.features: tuple[str, ...] = tuple(facts["features"])
        self.thresholds: dict[str, float] = dict(facts["thresholds"])
        self.categories: Categories = texts_of(facts)

    def score(self, values: NDArray, names: Sequence[str] | None = None) -> Scores:
        """The Scores of raw rows [n, d], NaN for missing, in the order of the rows. n may be 0.

        Features of categories hold codes (see the attribute `categories`); a code without a column in the model counts
        as "other".
        names: of the d features; None: they are assumed to be the model's features, in its order.
        Raises UserError when d, the names or their order differ from the features that the model was trained on.
        """
        values = np.asarray(values, np.float32)
        self._refuse_other_columns(values, names)
        parts = [self._call(values[i : i + ROWS_PER_CALL]) for i in range(0, max(len(values), 1), ROWS_PER_CALL)]
        joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        return Scores(**joined)

    def _call(self, values: NDArray) -> dict[str, NDArray]:
        """The arrays of a Scores, by field name, for raw rows float32 [n, d] in one call of the SavedModel."""
        import tensorflow as tf

        found = self._signature(features=tf.constant(values))
        return {key: found[key].numpy() for key in ("probabilities", "rarity", "unknown", "label")}

    def _refuse_other_columns(self, values: NDArray, names: Sequence[str] | None) -> None:
        """Check that values are [n, number of features] and that names, if given, are the model's, in its order.

        Raises UserError if not.
        """
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
    """Load the Scorer of the model in a folder, which must hold 1/saved_model.pb and model.json.

    One row is scored, because TensorFlow's first call is slow, and because some damage shows only then.

    Raises UserError if one of these is missing or damaged, or if model.json lacks classes, features or thresholds.
    """
    folder = Path(folder)
    facts = _facts(folder / "model.json")
    if not (folder / "1" / "saved_model.pb").is_file():
        raise UserError(f"{folder}: no SavedModel (1/saved_model.pb) in it. Name the folder of a trained model.")
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(folder / "1"))
        scorer = Scorer(model.signatures["serving_default"], facts)
        scorer._keep_alive = model  # type: ignore[attr-defined]  # the signature holds only weak references
        scorer.score(np.full((1, len(scorer.features)), np.nan, np.float32))
    except Exception as error:  # of many types, as the damage is
        words = " ".join(str(error).split())[:200]
        raise UserError(f"{folder / '1'}: damaged SavedModel ({words}). {EXPORT_AGAIN}") from error
    return scorer


def _facts(path: Path) -> dict[str, Any]:
    """The content of the model.json at `path`.

    Raises UserError when the file is missing, holds no JSON object, or lacks a key that a Scorer needs: classes,
    features or thresholds.
    """
    if not path.exists():
        raise UserError(f"{path.parent}: no model.json in it. Name the folder of a trained model.")
    facts = read_json(path, EXPORT_AGAIN)
    missing = [key for key in ("classes", "features", "thresholds") if key not in facts]
    if missing:
        raise UserError(f"{path}: no '{missing[0]}' in it. {EXPORT_AGAIN}")
    return facts
