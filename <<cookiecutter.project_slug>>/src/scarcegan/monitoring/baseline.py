"""Baseline: statistics.json and constraints.json read back, as what later rows are compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scarcegan.data.categories import Categories
from scarcegan.errors import UserError
from scarcegan.jsonfile import read_json
from scarcegan.monitoring.statistics import CATEGORY, LABEL, SCORES, category_buckets, category_counts

MOVE = "Give the baseline folder of a model package, or run the baseline step."


@dataclass(frozen=True)
class Baseline:
    """A baseline as read back: what `drift.py` compares with.

    names: columns (features, then the scores); counts: per column int64 [len(edges) + 1]; labels: how often
    each class name was predicted, or nothing; columns, types: numerical_statistics and inferred_type of each; rows: of
    the population; constraints: the file; categories: of the columns that are names, what the counted codes are called.
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
        """The model's inputs, in the order it takes them."""
        return self.names[: -len(SCORES)] if self.scored else self.names

    @property
    def scored(self) -> bool:
        return self.names[-len(SCORES) :] == SCORES

    def column(self, name: str) -> Mapping[str, Any]:
        """The statistics of a numeric column."""
        return self.columns[self.names.index(name)]

    def by_name(self, name: str, counts: Sequence[np.ndarray]) -> dict[str, int]:
        """How often each text of a category stood, out of all columns' counts (these or later rows')."""
        i = self.names.index(name)
        return category_counts(counts[i], self.edges[i], self.categories[name])

    def constraint(self, name: str) -> Mapping[str, Any]:
        """The constraints on a column; empty if a person has taken them out."""
        return next((entry for entry in self.constraints["features"] if entry["name"] == name), {})


def read_baseline(folder: Path) -> Baseline:
    """Read statistics.json and constraints.json; UserError if either is absent, damaged or of another shape."""
    found, rules = (read_json(folder / name, MOVE) for name in ("statistics.json", "constraints.json"))
    try:
        numeric = [feature for feature in found["features"] if feature["inferred_type"] != "String"]
        edges = tuple(edges_of(feature) for feature in numeric)
        return Baseline(
            names=tuple(feature["name"] for feature in numeric),
            edges=edges,
            counts=tuple(counts_of(feature, len(edge)) for feature, edge in zip(numeric, edges, strict=True)),
            labels=labels_of(found["features"]),
            columns=tuple(feature["numerical_statistics"] for feature in numeric),
            types=tuple(feature["inferred_type"] for feature in numeric),
            rows=int(found["dataset"]["item_count"]),
            constraints=rules | {"features": list(rules["features"])},
            categories={
                feature["name"]: {bucket["value"]: int(bucket["code"]) for bucket in category_buckets(feature)}
                for feature in numeric
                if CATEGORY in feature
            },
        )
    except (KeyError, TypeError, AttributeError) as error:
        what = f"{folder}: not a baseline ({type(error).__name__}: {error})"
        raise UserError(f"{what}. Use the baseline of a model package.") from error


def labels_of(features: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How often each class was predicted; empty for a baseline without predictions."""
    found = next((f for f in features if f["name"] == LABEL and f["inferred_type"] == "String"), None)
    if found is None:
        return {}
    return {b["value"]: int(b["count"]) for b in found["string_statistics"]["distribution"]["categorical"]["buckets"]}


def edges_of(feature: Mapping[str, Any]) -> np.ndarray:
    found = feature["numerical_statistics"]["distribution"]["kll"]["buckets"]
    return np.array([*(b["lower_bound"] for b in found), *(b["upper_bound"] for b in found[-1:])], np.float64)


def counts_of(feature: Mapping[str, Any], edges: int) -> np.ndarray:
    found = [b["count"] for b in feature["numerical_statistics"]["distribution"]["kll"]["buckets"]]
    return np.array([0, *found, 0] if edges else [0], np.int64)
