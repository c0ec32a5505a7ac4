"""A saved model and rows -> class probabilities, rarity, unknown, label. The only reader of a model folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from scarcegan.errors import UserError

BATCH = 8192


@dataclass(frozen=True)
class Scores:
    """n scored rows: probabilities float32 [n, K], rarity [n], unknown [n], label int32 [n] (K is unknown)."""

    probabilities: np.ndarray
    rarity: np.ndarray
    unknown: np.ndarray
    label: np.ndarray


class Scorer:
    """A loaded model. `facts` is its model.json."""

    def __init__(self, saved: Any, facts: dict[str, Any]) -> None:
        self.saved, self.facts = saved, facts
        self.signature = saved.signatures["serving_default"]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.facts["classes"])

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(self.facts["features"])

    @property
    def thresholds(self) -> dict[str, float]:
        return dict(self.facts["thresholds"])

    def score(self, values: np.ndarray, names: Sequence[str] | None = None) -> Scores:
        """Score raw feature rows float32 [n, d], NaN where missing; a row's answer does not depend on its neighbours.

        Raises UserError for another number of features, or (when names are given) other names or another order.
        """
        values = np.asarray(values, np.float32)
        if values.ndim != 2 or values.shape[1] != len(self.features):
            raise UserError(
                f"rows of {values.shape[-1] if values.ndim else 0} features, the model takes {len(self.features)}. "
                "Make the features with the settings it was trained with."
            )
        if names is not None and tuple(names) != self.features:
            missing = [name for name in self.features if name not in names]
            raise UserError(
                f"the features are not the model's: {', '.join(missing[:3]) + ' missing' if missing else 'another order'}. "
                "Make the features with the settings it was trained with."
            )
        parts = [self._batch(values[start : start + BATCH]) for start in range(0, max(len(values), 1), BATCH)]
        return Scores(*(np.concatenate([part[name] for part in parts]) for name in Scores.__dataclass_fields__))

    def _batch(self, values: np.ndarray) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.signature(features=tf.constant(values)).items()}


def load(folder: Path) -> Scorer:
    """Load a model folder (`1/saved_model.pb` and model.json). Raises UserError when it is none."""
    folder = Path(folder)
    if not (folder / "1" / "saved_model.pb").exists() or not (folder / "model.json").exists():
        raise UserError(f"{folder}: no model there (1/saved_model.pb and model.json). Name a model's folder.")
    try:
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        saved = tf.saved_model.load(str(folder / "1"))
    except (json.JSONDecodeError, tf.errors.OpError, OSError) as error:
        raise UserError(f"{folder}: the model is damaged ({type(error).__name__}). Export it from the registry again.") from error
    return Scorer(saved, facts)
