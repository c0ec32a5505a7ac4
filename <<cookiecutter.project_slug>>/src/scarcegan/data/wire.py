"""Wire format: rows of a request and scores of an answer, as TensorFlow Serving's JSON or as CSV.

Rows: `{"instances": [[…], …]}` -> `{"predictions": [{…}, …]}`; columns: `{"inputs": …}` -> `{"outputs": {…}}`. An
instance may be a list of numbers or {"features": [numbers]}. CSV: a line per row, no header. A category (see
data/categories.py) may be sent as its text or as its code; a number in its place is a code. HTTP and the model are not
known here.

A body of megabytes is read and written a row, or BLOCK rows, at a time. One call of C code for all of it, such as
json.loads, would hold the interpreter's lock, and /ping would wait for it.
https://www.tensorflow.org/tfx/serving/api_rest
"""

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from json.decoder import JSONArray  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scarcegan.data.categories import places, with_codes_at

JSON, CSV = "application/json", "text/csv"
SIGNATURE = "serving_default"
INPUT = "features"
BLOCK = 500  # rows that are turned into numbers, or numbers into text, by one call
HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # UTF-8 has no form for it, so no answer could name it


class RowScores(Protocol):
    """A model's scores of n rows, for K classes: one array per property."""

    @property
    def probabilities(self) -> NDArray:
        """Probability of each class for each row: float [n, K], in the order of the classes, the rare one last."""

    @property
    def rarity(self) -> NDArray:
        """Probability of the rare class for each row: float [n]."""

    @property
    def unknown(self) -> NDArray:
        """How unlike the training rows each row is: float [n], larger for a more unusual row."""

    @property
    def label(self) -> NDArray:
        """Decision for each row: int32 [n], class position, K for unknown."""


class RequestError(Exception):
    """A request that cannot be answered.

    words: what is wrong and what to send instead; status: the HTTP status to answer with.
    """

    def __init__(self, words: str, status: int = 400) -> None:
        """words: what is wrong and what to send instead; status: the HTTP status to answer with."""
        super().__init__(words)
        self.words, self.status = words, status


@dataclass(frozen=True)
class ScoreRequest:
    """The rows of a request, read.

    - values: float32 [n, d], NaN for missing, codes for categories
    - columns: whether the request was in TensorFlow Serving's column format, so that the answer must be too
    """

    values: np.ndarray
    columns: bool = False


class RowByRow(json.JSONDecoder):
    """Reads what json.loads reads. Python walks to the rows; C code reads each of them."""

    def __init__(self) -> None:
        """One object serves all bodies and threads."""
        super().__init__()
        read_row = self.scan_once  # type: ignore[has-type]
        self.parse_array = lambda start, _: JSONArray(start, read_row)
        self.scan_once = py_make_scanner(self)


BODIES = RowByRow()


def read_request(text: str, kind: str, features: Sequence[str], categories: Collection[str] = ()) -> ScoreRequest:
    """Read the rows of a request body. kind: its content type, the constant JSON or CSV.

    features: the names of the model's inputs, in the order of the cells of a row; categories: those of them that may
    be sent as text.

    Raises RequestError (400), with row and feature where they are known, for whatever read_json_rows or read_csv_rows
    refuses: a body in another form, no rows, a row of another length, or a cell that cannot be an input.
    """
    read = read_csv_rows if kind == CSV else read_json_rows
    return read(text, features, categories)


def read_json_rows(text: str, features: Sequence[str], categories: Collection[str] = ()) -> ScoreRequest:
    """Read the rows of a JSON body, in row format ("instances") or column format ("inputs").

    features: the names of the model's inputs, in the order of the cells of a row; categories: those of them that may
    be sent as text.

    Raises RequestError for any other body (also with both), a text with a lone surrogate, a "signature_name" other than
    SIGNATURE, no rows, a row of another length, or a cell that is not a finite number of 32 bits, NaN or a category's
    text. NaN has no quotes; null, true and false are refused.
    """
    example = f'Send {{"instances": [[…{len(features)} numbers…]]}}.'
    try:
        body = BODIES.decode(text)
        halves = ("\\ud" in text or "\\uD" in text) and HALF_CHARACTER.search(json.dumps(body, ensure_ascii=False))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is not JSON ({str(error)[:100]}). {example}") from None
    if halves:
        raise RequestError("The body holds half a character (a lone surrogate such as \\ud800). Send whole characters.")
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        raise RequestError(f'The body must hold either "instances" (rows) or "inputs" (columns). {example}')
    if body.get("signature_name", SIGNATURE) != SIGNATURE:
        raise RequestError(f'There is one signature, "{SIGNATURE}". Leave out "signature_name", or set it to this.')
    rows = rows_in_body(body)
    for tensor in rows if isinstance(rows, list) else [rows]:
        if isinstance(tensor, dict) and set(tensor) != {INPUT}:
            names = ", ".join(list(tensor)[:3]) or "none"
            words = f'The model has one input, "{INPUT}", in the order that GET / lists (got: {names}).'
            raise RequestError(f"{words} {example}")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise RequestError(f"Rows must be lists of numbers, one list per user. {example}")
    return ScoreRequest(to_float32(rows, features, categories), "inputs" in body)


def rows_in_body(body: Mapping[str, Any]) -> Any:
    """The rows in a parsed request in TensorFlow Serving's JSON: the value of "instances" or, without it, of "inputs".

    A {"features": […]} is removed: around each row of "instances", around all rows of "inputs". Anything else, such as
    a mapping of other names, is returned as it is, so that the caller can read or refuse it.

    Raises KeyError when the body has neither "instances" nor "inputs".
    """
    if "instances" not in body:
        return without_input_name(body["inputs"])
    rows = body["instances"]
    return [without_input_name(row) for row in rows] if isinstance(rows, list) else rows


def without_input_name(tensor: Any) -> Any:
    """The list in a mapping {"features": [...]} that has no other key. Anything else is returned unchanged, also such a
    mapping whose value is not a list.
    """
    named = isinstance(tensor, Mapping) and set(tensor) == {INPUT} and isinstance(tensor[INPUT], list)
    return tensor[INPUT] if named else tensor


def read_csv_rows(text: str, features: Sequence[str], categories: Collection[str] = ()) -> ScoreRequest:
    """Read the rows of a CSV body: a line per row, commas between the fields, no header.

    A blank field or NaN is a missing value. features: the names of the model's inputs, in the order of the fields;
    categories: those of them that may be sent as text. In a category, a field that is a number is taken as a code, not
    as text. Blank lines are skipped.

    Raises RequestError for text that is not CSV, whose first line is a header, without rows, with a row of another
    length, or with a field that is not a finite number of 32 bits, NaN, blank or a category's text.
    """
    rows = (row for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if row)
    try:
        first = list(islice(rows, 1))
        if first and [cell.strip() for cell in first[0]] == list(features):
            raise RequestError("The first line is a header. Leave it out: rows only, in the order that GET / lists.")
        numbers = ([read_number(cell) for cell in row] for row in chain(first, rows))
        return ScoreRequest(to_float32(numbers, features, categories))
    except csv.Error as error:
        raise RequestError(
            f"The body is not CSV ({error}). Send one row a line: {len(features)} numbers, no header."
        ) from None


def read_number(cell: str) -> float | str:
    """A CSV cell as a number, NaN when blank or "nan" in any case. Text that is no number is returned unchanged.

    As in files, text with an underscore, such as 1_000, and digits of other scripts are no numbers. The number may be
    infinite, which to_float32 refuses.
    """
    if not cell.strip():
        return math.nan
    try:
        return cell if "_" in cell or not cell.strip().isascii() else float(cell)  # float() would take both
    except ValueError:
        return cell


def to_float32(rows: Iterable[Sequence[Any]], features: Sequence[str], categories: Collection[str] = ()) -> np.ndarray:
    """Rows of cells as float32 [n, d]; the text of a category is replaced by its code, NaN for blank text.

    features: the d column names; categories: those of them that may hold text.

    A missing value is NaN.

    Raises RequestError for no rows, a row of another length than d, a number that is infinite or too large for 32 bits,
    and a cell that is not an int or float (None, a bool, text in a column that is not a category). The message names
    the row, from 1 on, and the feature of a cell.
    """
    where, rows, blocks, first = places(features, categories), iter(rows), [], 1
    while block := list(islice(rows, BLOCK)):
        blocks.append(block_to_float32(block, first, features, where))
        first += len(block)
    if not blocks:
        raise RequestError(f"No rows. Send at least one list of {len(features)} numbers.")
    return np.concatenate(blocks)


def block_to_float32(
    rows: Sequence[Sequence[Any]], first: int, features: Sequence[str], categories: Sequence[int]
) -> np.ndarray:
    """Some of the rows of to_float32, of which the first is row number `first`. categories: positions of these.

    Raises RequestError as to_float32.
    """
    for i, row in enumerate(rows, first):
        if len(row) != len(features):
            raise RequestError(
                f"Row {i} has {len(row)} values, the model has {len(features)} features. "
                "Send one number per feature, in the order that GET / lists; NaN where one is missing."
            )
    rows = [with_codes_at(row, categories) for row in rows] if categories else rows
    for i, row in enumerate(rows, first):
        if not {int, float}.issuperset(map(type, row)):
            j = next(j for j, cell in enumerate(row) if type(cell) not in (int, float))
            raise RequestError(f"Row {i}, feature '{features[j]}': {cell_error(row[j])}")
    with np.errstate(over="ignore"):
        try:
            values = np.array(rows, np.float64).astype(np.float32)
        except OverflowError:
            values = np.array([[float(str(cell)) for cell in row] for row in rows]).astype(np.float32)
    if np.isinf(values).any():
        i, j = np.argwhere(np.isinf(values))[0]
        raise RequestError(
            f"Row {i + first}, feature '{features[j]}': infinite or too large. Send a finite number, or NaN if missing."
        )
    return values


def cell_error(cell: Any) -> str:
    """What is wrong with a cell that is not a number, and what to send instead, to follow "Row 3, feature 'x': "."""
    if cell is None:
        return "null. Write a missing value as NaN."
    text = json.dumps(cell, default=str, ensure_ascii=False)
    return f"{text[:40]}{'…' if len(text) > 40 else ''} is not a number. Send a number, or NaN if it is missing."


def render_scores(scores: RowScores, asked: ScoreRequest, kind: str) -> str:
    """The body of the answer to a request, as text. kind: the constant JSON or CSV.

    - JSON, `asked` in row format: {"predictions": [{"probabilities": […], "rarity": …, "unknown": …, "label": …}, …]}
    - JSON, `asked` in column format: {"outputs": {"probabilities": [[…], …], "rarity": […], "unknown": […], …}}
    - CSV, without a header: a line per row with label, rarity, unknown, then a probability per class

    asked: the request that is answered. A label is a class position, the number of classes for unknown.
    """
    columns: dict[str, list[Any]] = {
        "probabilities": shortest_decimals(scores.probabilities),
        "rarity": shortest_decimals(scores.rarity),
        "unknown": shortest_decimals(scores.unknown),
        "label": np.asarray(scores.label).tolist(),
    }
    if kind == CSV:
        order = (columns["label"], columns["rarity"], columns["unknown"], columns["probabilities"])
        return "".join(",".join(map(str, (*row[:3], *row[3]))) + "\n" for row in zip(*order, strict=True))
    if asked.columns:
        lists = ", ".join(f'"{name}": {json_list(column)}' for name, column in columns.items())
        return f'{{"outputs": {{{lists}}}}}'
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return f'{{"predictions": {json_list(rows)}}}'


def json_list(items: Iterable[Any]) -> str:
    """The items as a list in JSON, as json.dumps writes it."""
    return f"[{', '.join(map(json.dumps, items))}]"


def shortest_decimals(values: np.ndarray) -> list[Any]:
    """float32 values as nested lists of the shortest decimals with the same value: 0.1, not 0.10000000149011612."""
    blocks = (np.asarray(values[i : i + BLOCK], np.float32) for i in range(0, len(values), BLOCK))
    return [cell for block in blocks for cell in block.astype(str).astype(np.float64).tolist()]


def media_type(header: str) -> str:
    """The media type of one Content-Type or Accept value, in lower case.

    Parameters, such as `; charset=utf-8`, are cut off.
    """
    return header.split(";")[0].strip().lower()


def content_kind(header: str) -> str:
    """The content type of a request, the constant JSON or CSV, from its Content-Type header.

    Raises RequestError with status 415 for another one, and without any: a web page may send that to any address.
    """
    kind = media_type(header)
    if kind not in (JSON, CSV):
        fact = f"Content type '{kind}' is not supported" if kind else "The request has no content type"
        raise RequestError(f"{fact}. Set the header Content-Type to {JSON} or {CSV}.", 415)
    return kind


def accepted_kind(header: str) -> str:
    """The content type of the answer, the constant JSON or CSV, from the request's Accept header ("" means JSON).

    It is that of the first entry that can be given, whatever the weights (q=) of the entries. "*/*" and "application/*"
    mean JSON, "text/*" means CSV.

    Raises RequestError with status 406 when none can.
    """
    for choice in (media_type(part) for part in (header or JSON).split(",")):
        if choice in ("*/*", "application/*", JSON):
            return JSON
        if choice in ("text/*", CSV):
            return CSV
    raise RequestError(f"'{header}' is not supported. Set the header Accept to {JSON} or {CSV}.", 406)
