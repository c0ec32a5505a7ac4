"""Baseline: statistics.json and constraints.json, read for the comparison with later rows."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scarcegan.data.categories import Categories
from scarcegan.errors import UserError
from scarcegan.jsonfile import read_json
from scarcegan.monitoring.statistics import CATEGORY_STATISTICS, LABEL, SCORES, category_buckets, category_counts

LIMITED = ("recall", "precision", "pr_auc")  # quality metrics that have an interval, so that a limit on them counts
KINDS = {float: "a number", str: "text", bool: "true or false"}
SWITCH = ("Enabled", "Disabled")
RULES: dict[str, Any] = {
    "evaluate_constraints": SWITCH,
    "datatype_check_threshold": float,
    "domain_content_threshold": float,
    "distribution_constraints": {
        "perform_comparison": SWITCH,
        "comparison_threshold": float,
        "categorical_comparison_threshold": float,
    },
}
# The shape of what is read of constraints.json, for wrong_entry.
CONSTRAINTS: dict[str, Any] = {
    "!features": [
        {
            "!name": str,
            "inferred_type": str,
            "completeness": float,
            "num_constraints": {"is_non_negative": bool},
            "string_constraints": {"domains": [str]},
            "monitoringConfigOverrides": RULES,
        }
    ],
    "monitoring_config": RULES,
    "binary_classification_constraints": {
        "*": {"!threshold": float, "!comparison_operator": ("LessThanThreshold", "GreaterThanThreshold")}
    },
}
NEXT_MOVE = "Give the baseline folder of a model package, or run the baseline step."


@dataclass(frozen=True)
class Baseline:
    """A baseline as read from its two files. Its columns are numeric: features (a category as its codes), then the
    scores `rarity` and `unknown`, if it was made with a model's scores.

    - names: of the columns
    - edges: per column float64, the edges of its buckets; empty when the column had no values
    - counts: per column int64 [len(edges) + 1], how many values lie below the first edge, in each
      bucket, above the last
    - labels: predicted class -> rows; {} for a baseline without predictions
    - columns: numerical_statistics of each column in statistics.json
    - types: inferred_type of each column in statistics.json: "Integral", "Fractional" or "Unknown"
    - rows: number of rows in the baseline
    - constraints: the content of constraints.json
    - categories: name of a category column -> {text: code} of its most frequent texts (see categories.code)
    """

    names: tuple[str, ...]
    edges: tuple[np.ndarray, ...]
    counts: tuple[np.ndarray, ...]
    labels: Mapping[str, int]
    columns: tuple[Mapping[str, Any], ...]
    types: tuple[str, ...]
    rows: int
    constraints: Mapping[str, Any]
    categories: Categories = field(default_factory=dict)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of all columns but the scores: the model's inputs, in the order in which the model takes them."""
        return self.names[: -len(SCORES)] if self.scored else self.names

    @property
    def scored(self) -> bool:
        """Whether the last columns of the baseline are the scores of a model, rarity and unknown."""
        return self.names[-len(SCORES) :] == SCORES

    def column(self, name: str) -> Mapping[str, Any]:
        """The numerical_statistics, from statistics.json, of a column in `names`.

        Raises ValueError for any other name, also for the text column of the predicted classes.
        """
        return self.columns[self.names.index(name)]

    def text_counts(self, name: str, counts: Sequence[np.ndarray]) -> dict[str, int]:
        """Text -> number of rows, for the category column `name`; rows of all other texts are under "(all others)".

        counts: bucket counts of all columns, of the baseline or of later rows.

        Raises ValueError when the baseline has no such column, KeyError when the column is not a category.
        """
        i = self.names.index(name)
        return category_counts(counts[i], self.edges[i], self.categories[name])

    def constraint(self, name: str) -> Mapping[str, Any]:
        """The entry of the column `name` in constraints.json; {} when there is none."""
        return next((entry for entry in self.constraints["features"] if entry["name"] == name), {})


def read_baseline(folder: Path) -> Baseline:
    """Read statistics.json and constraints.json in a folder.

    Raises UserError when one of them is missing, damaged, or has another structure, and when constraints.json names a
    column or metric that there is not.
    """
    found, rules = (read_json(folder / name, NEXT_MOVE) for name in ("statistics.json", "constraints.json"))
    if wrong := wrong_entry(rules, CONSTRAINTS):
        raise UserError(f"{folder / 'constraints.json'}: {wrong}. Correct it there.")
    try:
        if wrong := unknown_name(rules, [feature["name"] for feature in found["features"]]):
            raise UserError(f"{folder / 'constraints.json'}: {wrong} Correct it there.")
        numeric = [feature for feature in found["features"] if feature["inferred_type"] != "String"]
        edges = tuple(read_edges(feature) for feature in numeric)
        return Baseline(
            names=tuple(feature["name"] for feature in numeric),
            edges=edges,
            counts=tuple(read_counts(feature, len(edge)) for feature, edge in zip(numeric, edges, strict=True)),
            labels=read_label_counts(found["features"]),
            columns=tuple(feature["numerical_statistics"] for feature in numeric),
            types=tuple(feature["inferred_type"] for feature in numeric),
            rows=int(found["dataset"]["item_count"]),
            constraints=rules | {"features": list(rules["features"])},
            categories={
                feature["name"]: {bucket["value"]: int(bucket["code"]) for bucket in category_buckets(feature)}
                for feature in numeric
                if CATEGORY_STATISTICS in feature
            },
        )
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        what = f"{folder}: this is not a baseline ({type(error).__name__}: {error})"
        raise UserError(f"{what}. Use the baseline of a model package.") from error


def unknown_name(rules: Mapping[str, Any], columns: Sequence[str]) -> str:
    """A sentence about the first name in constraints.json that names nothing, so that its limits would never count; ""
    without one.

    rules: the content of the file; columns: names in statistics.json.
    """
    metric = next((name for name in rules.get("binary_classification_constraints", {}) if name not in LIMITED), "")
    if metric:
        return f"'binary_classification_constraints.{metric}' limits no metric (known: {', '.join(LIMITED)})."
    column = next((entry["name"] for entry in rules["features"] if entry["name"] not in columns), None)
    if column is None:
        return ""
    near = difflib.get_close_matches(column, columns, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"no column '{column}' in the baseline{hint}"


def wrong_entry(value: Any, shape: Any, where: str = "") -> str:
    """What is wrong with a value of constraints.json that a person may have edited: a clause; "" when nothing is.

    - shape: a type or types, a tuple of allowed texts, a list with the shape of every item, or a dictionary: name ->
      shape of the entry. An entry may be missing unless its name begins with "!"; "*" is any name, others are ignored.
    - where: the path of the value in the file.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"'{where}' must hold entries (found: {value!r:.60})"
        absent = [name[1:] for name in shape if name.startswith("!") and name[1:] not in value]
        if absent:
            return f"no '{absent[0]}' in {where or 'it'}"
        shapes = {name.removeprefix("!"): inner for name, inner in shape.items()}
        inside = ((name, each, shapes.get(name, shapes.get("*"))) for name, each in value.items())
        found = (wrong_entry(each, inner, f"{where}.{name}".strip(".")) for name, each, inner in inside if inner)
        return next(filter(None, found), "")
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"'{where}' must be a list (found: {value!r:.60})"
        return next(filter(None, (wrong_entry(each, shape[0], f"{where}[{i}]") for i, each in enumerate(value))), "")
    if isinstance(shape, tuple):
        return "" if value in shape else f"'{where}' must be one of {', '.join(shape)} (found: {value!r:.60})"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = number if shape is float else isinstance(value, shape)
    return "" if right else f"'{where}' must be {KINDS[shape]} (found: {value!r:.60})"


def read_label_counts(features: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Predicted class -> rows; {} for a baseline without predictions. features: the entries of statistics.json."""
    found = next((f for f in features if f["name"] == LABEL and f["inferred_type"] == "String"), None)
    if found is None:
        return {}
    return {b["value"]: int(b["count"]) for b in found["string_statistics"]["distribution"]["categorical"]["buckets"]}


def read_edges(feature: Mapping[str, Any]) -> np.ndarray:
    """The bucket edges of a column, float64, ascending; empty when it has no buckets.

    feature: the column's entry in statistics.json.
    """
    found = feature["numerical_statistics"]["distribution"]["kll"]["buckets"]
    return np.array([*(b["lower_bound"] for b in found), *(b["upper_bound"] for b in found[-1:])], np.float64)


def read_counts(feature: Mapping[str, Any], edges: int) -> np.ndarray:
    """How many values of a column lie below, in each and above its buckets, int64 [edges + 1].

    Below and above are always 0. feature: the column's entry in statistics.json; edges: number of its bucket edges.
    """
    found = [b["count"] for b in feature["numerical_statistics"]["distribution"]["kll"]["buckets"]]
    return np.array([0, *found, 0] if edges else [0], np.int64)
