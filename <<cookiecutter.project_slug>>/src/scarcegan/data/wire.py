"""What goes over the wire: rows and scores as TensorFlow Serving's JSON, or CSV. Nothing here knows HTTP or a model.

Rows: `{"instances": [[…], …]}` -> `{"predictions": [{…}, …]}`; columns: `{"inputs": …}` -> `{"outputs": {…}}`. An
instance may be a list of numbers or {"features": [numbers]}. CSV: a line per row, no header. A category (see
data/categories.py) may be sent as its text or as its code; a number in its place is a code.
https://www.tensorflow.org/tfx/serving/api_rest
"""

import csv
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scarcegan.data.categories import coded, places

JSON, CSV = "application/json", "text/csv"
SIGNATURE = "serving_default"
INPUT = "features"


class RowScores(Protocol):
    """A model's scores of n rows: probabilities [n, K]; rarity, unknown [n]; label int32 [n], where K means unknown."""

    @property
    def probabilities(self) -> NDArray: ...
    @property
    def rarity(self) -> NDArray: ...
    @property
    def unknown(self) -> NDArray: ...
    @property
    def label(self) -> NDArray: ...


class Refused(Exception):
    """What the caller did wrong and may do instead; status: of HTTP."""

    def __init__(self, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.words, self.status = words, status


@dataclass(frozen=True)
class Asked:
    """Rows to score: values float32 [n, d], NaN = missing. columns: asked in TensorFlow Serving's column format."""

    values: np.ndarray
    columns: bool = False


def read_request(text: str, kind: str, features: Sequence[str], categories: Collection[str] = ()) -> Asked:
    """The rows of a request of content type `kind`. categories: those of the features that may be sent as text.

    Refused for what cannot be read.
    """
    read = read_csv if kind == CSV else read_json
    return read(text, features, categories)


def read_json(text: str, features: Sequence[str], categories: Collection[str] = ()) -> Asked:
    example = f'Send {{"instances": [[…{len(features)} numbers…]]}}.'
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"The body is not JSON ({str(error)[:100]}). {example}") from None
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        raise Refused(f'The body must hold either "instances" (rows) or "inputs" (columns). {example}')
    if body.get("signature_name", SIGNATURE) != SIGNATURE:
        raise Refused(f'There is one signature, "{SIGNATURE}". Leave "signature_name" out, or name it so.')
    columns = "inputs" in body
    rows = body["inputs"] if columns else body["instances"]
    if columns and isinstance(rows, dict):
        rows = named(rows, example)
    elif not columns and isinstance(rows, list):
        rows = [named(row, example) if isinstance(row, dict) else row for row in rows]
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise Refused(f"Rows must be lists of numbers, one list per user. {example}")
    return Asked(to_numbers(rows, features, categories), columns)


def named(tensors: Mapping[str, Any], example: str) -> Any:
    """The one input by its name."""
    if set(tensors) != {INPUT}:
        names = ", ".join(list(tensors)[:3]) or "none"
        raise Refused(f'The model has one input, "{INPUT}", in the order that GET / tells (got: {names}). {example}')
    return tensors[INPUT]


def read_csv(text: str, features: Sequence[str], categories: Collection[str] = ()) -> Asked:
    """One row a line, no header; an empty field or NaN is a missing value."""
    try:
        rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if row]
    except csv.Error as error:
        raise Refused(
            f"The body is not CSV ({error}). Send one row a line: {len(features)} numbers, no header."
        ) from None
    if rows and [cell.strip() for cell in rows[0]] == list(features):
        raise Refused("The first line is a header. Leave it out: rows only, in the order that GET / tells.")
    return Asked(to_numbers([[number(cell) for cell in row] for row in rows], features, categories))


def number(cell: str) -> float | str:
    """A CSV cell as a number, NaN if empty; text stays text: a category, or to be refused with its place."""
    if not cell.strip():
        return math.nan
    try:
        return cell if "_" in cell else float(cell)  # float() would take 1_000
    except ValueError:
        return cell


def to_numbers(rows: Sequence[Sequence[Any]], features: Sequence[str], categories: Collection[str] = ()) -> np.ndarray:
    """Rows of cells -> float32 [n, d]; Refused names the row and the feature of the first fault."""
    where = places(features, categories)
    if not rows:
        raise Refused(f"No rows. Send at least one list of {len(features)} numbers.")
    for i, row in enumerate(rows, 1):
        if len(row) != len(features):
            raise Refused(
                f"Row {i} has {len(row)} values, the model has {len(features)} features. "
                "Send one number per feature, in the order that GET / tells; NaN where one is missing."
            )
    rows = [coded(row, where) for row in rows] if where else rows
    for i, row in enumerate(rows, 1):
        if not {int, float}.issuperset(map(type, row)):
            j = next(j for j, cell in enumerate(row) if type(cell) not in (int, float))
            raise Refused(f"Row {i}, feature '{features[j]}': {fault(row[j])}")
    with np.errstate(over="ignore"):
        try:
            values = np.array(rows, np.float64).astype(np.float32)
        except OverflowError:
            values = np.array([[float(str(cell)) for cell in row] for row in rows]).astype(np.float32)
    if np.isinf(values).any():
        i, j = np.argwhere(np.isinf(values))[0]
        raise Refused(
            f"Row {i + 1}, feature '{features[j]}': infinite or too large. Send a finite number, or NaN if missing."
        )
    return values


def fault(cell: Any) -> str:
    """What is wrong with a cell that is no number."""
    if cell is None:
        return "null. A missing value is written NaN."
    said = json.dumps(cell, default=str, ensure_ascii=False)
    return f"{said[:40]}{'…' if len(said) > 40 else ''} is no number. Send a number, or NaN if it is missing."


def render(scores: RowScores, asked: Asked, kind: str) -> str:
    """The answer's body. CSV: label, rarity, unknown, then a probability per class; a line a row, no header."""
    columns: dict[str, list[Any]] = {
        "probabilities": shortest(scores.probabilities),
        "rarity": shortest(scores.rarity),
        "unknown": shortest(scores.unknown),
        "label": np.asarray(scores.label).tolist(),
    }
    if kind == CSV:
        order = (columns["label"], columns["rarity"], columns["unknown"], columns["probabilities"])
        return "".join(",".join(map(str, (*row[:3], *row[3]))) + "\n" for row in zip(*order, strict=True))
    if asked.columns:
        return json.dumps({"outputs": columns})
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json.dumps({"predictions": rows})


def shortest(values: np.ndarray) -> list[Any]:
    """float32 as the shortest decimals that mean the same number: 0.1, not 0.10000000149011612."""
    return np.asarray(values, np.float32).astype(str).astype(np.float64).tolist()


def media_type(header: str) -> str:
    return header.split(";")[0].strip().lower()


def content_kind(header: str) -> str:
    kind = media_type(header) or JSON
    if kind not in (JSON, CSV):
        raise Refused(f"Content type '{kind}' is not taken. Set the header Content-Type to {JSON} or {CSV}.", 415)
    return kind


def accepted_kind(header: str) -> str:
    for choice in (media_type(part) for part in (header or JSON).split(",")):
        if choice in ("*/*", "application/*", JSON):
            return JSON
        if choice in ("text/*", CSV):
            return CSV
    raise Refused(f"'{header}' cannot be given. Set the header Accept to {JSON} or {CSV}.", 406)
