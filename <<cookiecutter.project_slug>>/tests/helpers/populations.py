"""Small populations, a model without TensorFlow, and a baseline of both, for the tests of scoring and monitoring."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

from scarcegan.data.schema import UNLABELLED, FeatureTable
from scarcegan.jsonfile import write_json
from scarcegan.monitoring.baseline import Baseline, read_baseline
from scarcegan.monitoring.statistics import constraints
from scarcegan.steps.baseline import baseline_statistics

CLASSES = ("normal", "heavy", "risky")
NAMES = ("deposits", "visits", "trend")


class Model:
    """Rarity grows with deposits, unknown with the trend's size; a user of more than 5 visits is heavy."""

    classes, features, thresholds = CLASSES, NAMES, {"rare": 0.5, "unknown": 0.9}
    categories: dict[str, dict[str, int]] = {}  # noqa: RUF012

    def score(self, values: np.ndarray, names: tuple[str, ...] | None = None) -> SimpleNamespace:
        known = np.nan_to_num(values)
        rarity = 1 / (1 + np.exp(10 - known[:, 0]))
        unknown = np.clip(np.abs(known[:, 2]) / 4, 0, 1)
        label = np.where(rarity >= 0.5, 2, np.where(unknown >= 0.9, 3, known[:, 1] > 5)).astype(np.int32)
        rest = (1 - rarity) / 2
        columns = (np.column_stack([rest, rest, rarity]), rarity, unknown)
        probabilities, rarity, unknown = (column.astype(np.float32) for column in columns)
        return SimpleNamespace(probabilities=probabilities, rarity=rarity, unknown=unknown, label=label)


def stand_in(monkeypatch) -> None:
    """Put the model of these tests in the place of every saved one."""
    module = ModuleType("scarcegan.model.scorer")
    module.load_scorer = lambda folder: Model()
    monkeypatch.setitem(sys.modules, "scarcegan.model.scorer", module)
    monkeypatch.setattr("scarcegan.model.scorer", module, raising=False)


def users(n: int, seed: int = 0, day: str = "2026-03-01", more: float = 0.0) -> FeatureTable:
    """n users seen on a day: skewed deposits, visits with many zeros, a trend with gaps. more: how far they moved."""
    rng = np.random.default_rng(seed)
    deposits = np.exp(rng.normal(size=n) + more)
    visits = np.where(rng.random(n) < 0.4, 0, rng.poisson(4 + 3 * more, n))
    trend = np.where(rng.random(n) < 0.05, np.nan, rng.normal(size=n) + more)
    names = np.array([f"user-{seed}-{i}" for i in range(n)], object)
    values = np.column_stack([deposits, visits, trend]).astype(np.float32)
    return FeatureTable(names, np.full(n, day, "datetime64[D]"), np.full(n, UNLABELLED, np.int8), NAMES, values)


def a_baseline(folder: Path, n: int = 4000, seed: int = 99, recall: float | None = None) -> Baseline:
    """The baseline of n users under the model, written to a folder and read back."""
    found = baseline_statistics(lambda: iter([users(n, seed)]), {"it": Model()}, CLASSES)["it"]
    write_json(folder / "statistics.json", found)
    write_json(folder / "constraints.json", constraints(found, (*CLASSES, "unknown"), recall))
    return read_baseline(folder)


def request(rows: list, name: str = "e1", day: str = "2026-03-01", answers: list | None = None) -> str:
    """A line of data capture: JSON in, JSON out."""
    sides = {"endpointInput": {"mode": "INPUT", "encoding": "JSON", "data": json.dumps({"instances": rows})}}
    if answers is not None:
        sides["endpointOutput"] = {"mode": "OUTPUT", "encoding": "JSON", "data": json.dumps({"predictions": answers})}
    meta = {"eventId": name, "inferenceTime": f"{day}T10:00:00Z"}
    return json.dumps({"captureData": sides, "eventMetadata": meta, "eventVersion": "0"}) + "\n"
