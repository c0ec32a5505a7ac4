"""Model quality: predictions against ground truth that came later. The test split is evaluated elsewhere.

The file has the shape of Model Monitor's model quality statistics (developer guide, "Model quality metrics"): the rare
class against all others under `binary_classification_metrics`, every class under `multiclass_classification_metrics`.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scarcegan.data.capture import Rows
from scarcegan.data.drift import Violation
from scarcegan.data.schema import first_line
from scarcegan.data.statistics import UNKNOWN
from scarcegan.errors import UserError

IDS = ("user_id", "inferenceId", "inference_id", "eventId", "event_id")
LABELS = ("label", "behaviour")
CONFIDENCE = 1.96
CURVE_POINTS = 101
LESS, MORE = "LessThanThreshold", "GreaterThanThreshold"


@dataclass(frozen=True)
class Truth:
    """What n users turned out to be.

    id: str [n], sorted; label: int [n], class position, or K for behaviour that is none of the classes; strange: names
    that are no class -> users.
    """

    id: np.ndarray
    label: np.ndarray
    strange: Mapping[str, int] = field(default_factory=dict)

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Position of each id [m] in this table, -1 where it has none."""
        at = np.searchsorted(self.id, ids)
        found = self.id[np.minimum(at, len(self.id) - 1)] == ids
        return np.where(found, at, -1)


def read_truth(place: Path, classes: Sequence[str]) -> Truth | None:
    """Ground truth of a file or of all files of a folder (CSV, Parquet, SageMaker's JSON lines); None if there is none.

    A table names a user, inference or event, and its class by name or position. A name that is no class stands for
    behaviour the model does not know; UserError if no name at all is a class, or if the columns cannot be told.
    """
    files = truth_files(place)
    if not files:
        return None
    names: dict[str, str] = {}
    for path in files:
        names.update(read_pairs(path))
    positions = {name: i for i, name in enumerate(classes)} | {str(i): i for i in range(len(classes))}
    strange = Counter(label for label in names.values() if label not in positions)
    if strange.total() == len(names):
        given = ", ".join(sorted(strange)[:4]) or "no row"
        raise UserError(
            f"{place}: no label is a class (found: {given}; classes: {', '.join(classes)}). Correct the labels."
        )
    ids = np.array(sorted(names), str)
    labels = np.array([positions.get(names[user], len(classes)) for user in ids.tolist()])
    return Truth(ids, labels, dict(strange))


def truth_files(place: Path) -> list[Path]:
    """The files of ground truth; UserError for a path that is neither file nor folder, or a folder of other files."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError(f"{place}: no such file or folder. Name the ground truth, or leave it out.")
    inside = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith((".", "_")))
    found = [path for path in inside if path.suffix in (".csv", ".parquet", ".jsonl")]
    if inside and not found:
        raise UserError(f"{place}: no ground truth. Looked for *.csv, *.parquet, *.jsonl; found: {inside[0].name}.")
    return found


def read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """(id, label) of every row of a file."""
    try:
        if path.suffix == ".jsonl":
            yield from json_pairs(path)
        elif path.suffix == ".parquet":
            table = pq.read_table(path)
            user, label = key_columns(table.column_names, path)
            columns = (table.column(name).to_pylist() for name in (user, label))
            yield from ((str(a), str(b)) for a, b in zip(*columns, strict=True) if a is not None and b is not None)
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                user, label = key_columns(rows.fieldnames or [], path)
                yield from ((row[user], row[label].strip()) for row in rows if row[user] and row[label])
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}). Give CSV, Parquet or JSON lines.") from error


def key_columns(names: Sequence[str], path: Path) -> tuple[str, str]:
    """Which column names the user or request, and which the class; two of other names are taken in that order."""
    user, label = (next((name for name in known if name in names), None) for known in (IDS, LABELS))
    if user and label:
        return user, label
    if len(names) == 2:
        return names[0], names[1]
    raise UserError(f"{path}: no columns 'user_id' and 'label' (found: {', '.join(names) or 'none'}). Name them so.")


def json_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """SageMaker's ground truth records; a request of several rows has a line of `data` each (capture.read_record)."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line) if line.strip() else None
                if record is not None:
                    meta, data = record["eventMetadata"], str(record["groundTruthData"]["data"]).split()
                    name = str(meta.get("inferenceId") or meta["eventId"])
                    yield from ((name if len(data) == 1 else f"{name}/{i}", label) for i, label in enumerate(data))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number}: no ground truth record ({type(error).__name__}: {error}). "
                    'Expected {"groundTruthData": {"data": "risky", …}, "eventMetadata": {"eventId": …}}.'
                ) from error


class Matches:
    """The captured rows that ground truth speaks of; of a user's rows the latest counts."""

    def __init__(self, truth: Truth, classes: Sequence[str]) -> None:
        self.truth, self.classes = truth, (*classes, UNKNOWN)
        n = len(truth.id)
        self.day = np.full(n, np.iinfo(np.int64).min)
        self.predicted = np.full(n, -1)
        self.rarity = np.full(n, np.nan)

    def add(self, rows: Rows) -> None:
        at = self.truth.of(rows.id)
        code = {name: i for i, name in enumerate(self.classes)}
        label = np.array([code.get(name, -1) for name in rows.label.tolist()])
        day = rows.day.astype(np.int64)
        told = np.flatnonzero((at >= 0) & (label >= 0))
        told = told[np.argsort(day[told], kind="stable")]
        told = told[day[told] >= self.day[at[told]]]
        self.day[at[told]], self.predicted[at[told]], self.rarity[at[told]] = day[told], label[told], rows.rarity[told]

    def watch(self, batches: Iterable[Rows]) -> Iterator[Rows]:
        """The same batches, taken note of as they pass."""
        for rows in batches:
            self.add(rows)
            yield rows

    def quality(self) -> dict[str, Any]:
        """model_quality.json; UserError if ground truth and captured rows have no user or request in common."""
        found = self.predicted >= 0
        if not found.any():
            raise UserError(
                f"ground truth names {len(found):,} users or requests (such as '{self.truth.id[0]}'), none of them "
                "among the captured predictions. Its ids must be the user_id of scored users, or the inferenceId or "
                "eventId of requests."
            )
        rng = np.random.default_rng(0)
        predicted, rarity = self.predicted[found], self.rarity[found]
        return model_quality(self.truth.label[found], predicted, rarity, self.classes[:-1], rng)


def model_quality(
    truth: np.ndarray, predicted: np.ndarray, rarity: np.ndarray, classes: Sequence[str], rng: np.random.Generator
) -> dict[str, Any]:
    """model_quality.json of n users. truth, predicted: class positions [n], K for unknown; rarity: [n], may hold NaN.

    Every metric has value, standard_deviation, and low and high of its 95 % interval (Wilson's; bootstrap for pr_auc).
    """
    names = [*classes, UNKNOWN]
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (truth, predicted), 1)
    matrix = {a: {b: int(counts[i, j]) for j, b in enumerate(names)} for i, a in enumerate(names)}
    rare = len(classes) - 1
    return {
        "version": 0,
        "dataset": {"item_count": len(truth)},
        "binary_classification_metrics": rare_metrics(truth == rare, predicted == rare, rarity, rng),
        "multiclass_classification_metrics": {
            "confusion_matrix": matrix,
            "accuracy": proportion(int(np.trace(counts)), len(truth)),
        },
    }


def rare_metrics(
    truth: np.ndarray, flagged: np.ndarray, rarity: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """The rare class ("1") against all others ("0"): bool [n], bool [n], float [n]."""
    tp, fp, fn, tn = (
        int((t & f).sum()) for t, f in [(truth, flagged), (~truth, flagged), (truth, ~flagged), (~truth, ~flagged)]
    )
    found: dict[str, Any] = {
        "confusion_matrix": {"0": {"0": tn, "1": fp}, "1": {"0": fn, "1": tp}},
        "recall": proportion(tp, tp + fn),
        "precision": proportion(tp, tp + fp),
        "accuracy": proportion(tp + tn, len(truth)),
        "true_positive_rate": proportion(tp, tp + fn),
        "true_negative_rate": proportion(tn, tn + fp),
        "false_positive_rate": proportion(fp, tn + fp),
        "false_negative_rate": proportion(fn, tp + fn),
    }
    for name, beta in (("f0_5", 0.5), ("f1", 1.0), ("f2", 2.0)):
        weight = beta**2
        below = (1 + weight) * tp + weight * fn + fp
        found[name] = {"value": (1 + weight) * tp / below if below else None}
    told = np.isfinite(rarity)
    if (truth & told).any() and (~truth & told).any():
        found |= ranking(truth[told], rarity[told], rng)
    return found


def proportion(count: int, of: int) -> dict[str, float | None]:
    """A share with Wilson's interval; nothing of nothing is nothing."""
    if not of:
        return {"value": None, "standard_deviation": None, "low": None, "high": None}
    share, z = count / of, CONFIDENCE
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * np.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    deviation = float(np.sqrt(share * (1 - share) / of))
    return {
        "value": share,
        "standard_deviation": deviation,
        "low": max(0.0, float(middle - half)),
        "high": min(1.0, float(middle + half)),
    }


def ranking(truth: np.ndarray, rarity: np.ndarray, rng: np.random.Generator, resamples: int = 200) -> dict[str, Any]:
    """How well rarity ranks: pr_auc (average precision) with a bootstrap over users, and the curve."""
    order = np.argsort(-rarity, kind="stable")
    hits = truth[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(-rarity[order])), len(hits) - 1)
    drawn = [
        average_precision(hits, rng.multinomial(len(hits), np.full(len(hits), 1 / len(hits))), last)
        for _ in range(resamples)
    ]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    precision, recall = curve(hits, np.ones(len(hits)), last)
    shown = np.unique(np.searchsorted(recall, np.linspace(0, 1, CURVE_POINTS)).clip(max=len(recall) - 1))
    return {
        "pr_auc": {
            "value": average_precision(hits, np.ones(len(hits)), last),
            "standard_deviation": float(np.nanstd(drawn)),
            "low": float(low),
            "high": float(high),
        },
        "precision_recall_curve": {"precisions": precision[shown].tolist(), "recalls": recall[shown].tolist()},
    }


def curve(hits: np.ndarray, weight: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall at every distinct score. hits, weight: [n], highest score first; last: end of each tie."""
    found, seen = np.cumsum(hits * weight)[last], np.cumsum(weight)[last]
    return found / np.maximum(seen, 1), found / max(found[-1], 1)


def average_precision(hits: np.ndarray, weight: np.ndarray, last: np.ndarray) -> float:
    """Area under the precision-recall curve as a sum of steps; NaN if the draw holds no hit."""
    if not (hits * weight).any():
        return float("nan")
    precision, recall = curve(hits, weight, last)
    return float((np.diff(recall, prepend=0) * precision).sum())


def quality_violations(found: Mapping[str, Any], constraints: Mapping[str, Any]) -> list[Violation]:
    """Metrics whose whole interval lies beyond their constraint in constraints.json (binary_classification_...)."""
    broken = []
    for name, rule in constraints.get("binary_classification_constraints", {}).items():
        metric = found["binary_classification_metrics"].get(name, {})
        least, operator = rule["threshold"], rule["comparison_operator"]
        low, high = metric.get("low"), metric.get("high")
        if (operator == LESS and high is not None and high < least) or (
            operator == MORE and low is not None and low > least
        ):
            side = "below" if operator == LESS else "above"
            words = f"{name} of the rare class is {metric['value']:.3f} ({low:.3f} to {high:.3f}), {side} {least:g}"
            broken.append(Violation(name, operator, words))
    return broken
