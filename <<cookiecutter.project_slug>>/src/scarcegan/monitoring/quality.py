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

from scarcegan.data.files import visible_files
from scarcegan.data.schema import first_line
from scarcegan.errors import UserError
from scarcegan.evaluation import metrics
from scarcegan.monitoring.drift import Violation
from scarcegan.monitoring.rows import Rows
from scarcegan.monitoring.statistics import UNKNOWN

IDS = ("user_id", "inferenceId", "inference_id", "eventId", "event_id")
LABELS = ("label", "behaviour")
RESAMPLES = 200
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
    positions = {text: i for i, name in enumerate(classes) for text in (name, str(i), f"{i}.0")}
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
    inside = sorted(visible_files(place))
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
        return model_quality(self.truth.label[found], self.predicted[found], self.rarity[found], self.classes[:-1])


def model_quality(
    truth: np.ndarray, predicted: np.ndarray, rarity: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """model_quality.json of n users. truth, predicted: class positions [n], K for none of the classes; rarity: [n].

    Beyond the documented metrics: pr_auc, and low and high of the 95 % interval of recall and precision (Wilson's) and
    of pr_auc (bootstrap). Users that are none of the classes have a row of their own in the confusion matrix.
    """
    rare, known = len(classes) - 1, truth < len(classes)
    positive, flagged = truth == rare, predicted == rare
    score = np.where(np.isnan(rarity), flagged, rarity)
    draws = list(metrics.resamples(positive, RESAMPLES, 0))
    alarms, always = (tables(positive, answer, 2, draws) for answer in (flagged, np.ones(len(truth), bool)))
    found, constant = (
        tables(truth[known], answer[known], len(classes), [weights[:, known] for weights in draws])
        for answer in (predicted, np.full(len(truth), np.bincount(truth[known], minlength=1).argmax()))
    )
    binary = metrics.binary(alarms, always, positive, score)
    hits = alarms[0, 1, 1]
    binary["recall"] |= interval(hits, alarms[0, 1].sum())
    binary["precision"] |= interval(hits, alarms[0, :, 1].sum())
    binary["pr_auc"] = ranking(positive, score, draws)
    multiclass = metrics.multiclass(found, constant, tuple(classes))
    if not known.all():
        others = np.bincount(predicted[~known], minlength=len(classes) + 1).tolist()
        multiclass["confusion_matrix"][UNKNOWN] = dict(zip((*classes, UNKNOWN), others, strict=True))
    blocks = {"binary_classification_metrics": binary, "multiclass_classification_metrics": multiclass}
    return spelled({"version": 0, "dataset": {"item_count": len(truth)}, **blocks})


def spelled(value: Any) -> Any:
    """The same, with "NaN" for what is not a number: JSON has none, and Model Monitor writes it so."""
    if isinstance(value, dict):
        return {key: spelled(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [spelled(inside) for inside in value]
    return "NaN" if isinstance(value, float) and np.isnan(value) else value


def tables(truth: np.ndarray, predicted: np.ndarray, classes: int, draws: Sequence[np.ndarray]) -> np.ndarray:
    """The confusion matrix [b, K, K + 1] of every resample."""
    return np.concatenate([metrics.confusion(truth, predicted, classes, weights) for weights in draws])


def interval(hits: float, rows: float) -> dict[str, float]:
    """Both ends of a share's interval; nothing for a share of nothing."""
    if not rows:
        return {}
    low, high = metrics.wilson(np.array([hits]), np.array([rows]))
    return {"low": float(low[0]), "high": float(high[0])}


def ranking(positive: np.ndarray, score: np.ndarray, draws: Sequence[np.ndarray]) -> dict[str, float]:
    """pr_auc with its interval; not a number without users of both kinds."""
    if positive.all() or not positive.any():
        return {"value": np.nan, "standard_deviation": np.nan}
    values = np.concatenate([metrics.pr_auc(metrics.curve(positive, score, weights)) for weights in draws])
    found = metrics.estimate(values)
    return {"value": found.value, "standard_deviation": found.sd, "low": found.low, "high": found.high}


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
