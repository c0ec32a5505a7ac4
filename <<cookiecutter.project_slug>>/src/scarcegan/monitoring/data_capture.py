"""Data capture of an endpoint in SageMaker's JSON lines: `Capture` writes them, `read_jsonl` reads them as rows.

A record holds a request and its answer, each as JSON (TensorFlow Serving's, in rows or columns), CSV or base64.
https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture.html
"""

import base64
import binascii
import csv
import errno
import json
import os
import random
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from scarcegan.data.categories import as_code
from scarcegan.data.schema import first_line
from scarcegan.data.wire import CSV, media_type, read_number, rows_in_body
from scarcegan.monitoring.rows import LOAD_TEST, MISSING_ID, UNREADABLE, Rows, Tally, day_of, read_cells
from scarcegan.monitoring.statistics import UNKNOWN

PIECE = 2**16  # characters of a body that are written by one call


def read_jsonl(
    path: Path,
    features: Sequence[str],
    classes: Sequence[str],
    tally: Tally,
    batch_rows: int,
    categories: Sequence[int] = (),
    size: int = sys.maxsize,
) -> Iterator[Rows]:
    """Yield the rows of a data capture file, in batches of at least `batch_rows` rows, except the last.

    - features: names of the baseline's features, in order
    - classes: class names by label position
    - tally: changed: lines that cannot be read are counted in it and left out; so is an unfinished last line, which an
      endpoint that is writing, or was killed, leaves. See read_record for what else is counted. Blank lines are skipped
    - categories: positions of the categories among the features
    - size: how many bytes of the file are read
    """
    batch: list[tuple] = []
    for place, line in enumerate(first_lines(path, size), 1):
        if not line.strip():
            continue
        try:
            batch += read_record(json.loads(line), features, classes, tally, categories)
        except UNREADABLE as error:
            if not line.endswith(b"\n"):
                tally.partial += 1
            else:
                tally.add_unreadable(f"{path.name} line {place}: {first_line(error)}")
        if len(batch) >= batch_rows:
            yield to_rows(batch, features)
            batch = []
    if batch:
        yield to_rows(batch, features)


def first_lines(path: Path, size: int) -> Iterator[bytes]:
    """Yield the lines in the first `size` bytes of a file, with their ends; the last one may be a part of a line."""
    with path.open("rb") as file:
        while line := file.readline(size):
            yield line
            size -= len(line)


def to_rows(batch: Sequence[tuple], features: Sequence[str]) -> Rows:
    """One `Rows` of the rows in `batch`: at least one, as read_record returns them.

    features: names of the baseline's features, in the order of the cells.
    """
    ids, moments, cells, rarity, unknown, label = zip(*batch, strict=True)
    values, text = read_cells(cells, len(features))
    scores = [read_cells([[cell] for cell in column], 1)[0][:, 0] for column in (rarity, unknown)]
    return Rows(
        np.array(ids), np.array(moments, "datetime64[D]"), values, text, scores[0], scores[1], np.array(label, str)
    )


def read_record(
    record: Mapping[str, Any],
    features: Sequence[str],
    classes: Sequence[str],
    tally: Tally,
    categories: Sequence[int] = (),
) -> list[tuple]:
    """The rows of one captured request, each as (id, day, cells, rarity, unknown, predicted class).

    - record: one parsed line of a data capture file
    - features: names of the baseline's features, in order, which is that of the cells
    - classes: class names by label position
    - tally: changed: requests of a load test, and rows with another number of values than there are features, are
      counted in it and left out; the features and the other columns that occur are noted
    - categories: positions of the categories among the features

    The id is the caller's inferenceId, or else the eventId, "" without either; in a request of several rows, row i
    (from 0, rows that are left out included) is called `<id>/<i>`. The day is that of inferenceTime, NaT without one.
    Cells, rarity and unknown are as they were captured: numbers, text or None; the text of a category is replaced by
    its code. Without an answer, or with one of another number of rows, rarity and unknown are None and the class is "".

    Raises one of the errors in UNREADABLE for a record, or an answer in it, that is not in the expected format.
    """
    meta = record.get("eventMetadata", {})
    if meta.get("inferenceId") == LOAD_TEST:
        tally.load_tests += 1
        return []
    kind, data = payload(record["captureData"]["endpointInput"])
    inputs = input_rows(kind, data, features)
    answer = record["captureData"].get("endpointOutput")
    outputs = output_rows(*payload(answer), classes) if answer and answer.get("data") else []
    if len(outputs) != len(inputs):
        outputs = [(None, None, "")] * len(inputs)
    name, day = str(meta.get("inferenceId") or meta.get("eventId") or MISSING_ID), day_of(meta.get("inferenceTime"))
    names = [name] if len(inputs) == 1 else [f"{name}/{i}" for i in range(len(inputs))]
    rows = [
        (row_name, day, with_category_codes(in_feature_order(row, features, tally), categories, kind), *output)
        for row_name, row, output in zip(names, inputs, outputs, strict=True)
    ]
    return [row for row in rows if row[2] is not None]


def payload(side: Mapping[str, Any]) -> tuple[str, Any]:
    """The format ("JSON" or "CSV") and the content of one side of a record: JSON as Python values, CSV as text.

    side: the record's endpointInput or endpointOutput. Base64 is decoded; what it holds is CSV when "csv" is in the
    content type, otherwise JSON. Without an encoding it is JSON.

    Raises ValueError for broken base64 or JSON, KeyError when `data` is missing.
    """
    kind, data = side.get("encoding", "JSON"), side["data"]
    if kind == "BASE64":
        try:
            data = base64.b64decode(data, validate=True).decode("utf-8")
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from error
        kind = "CSV" if "csv" in side.get("observedContentType", "").lower() else "JSON"
    return kind, json.loads(data) if kind == "JSON" and isinstance(data, str) else data


def input_rows(kind: str, data: Any, features: Sequence[str]) -> list[Any]:
    """The rows of a request: each a list of cells in the features' order, or a mapping of feature name -> cell.

    kind, data: format and content, from `payload`. JSON is the body of a request to TensorFlow Serving, a list of rows,
    or one row alone as a list of cells. features: names of the baseline's features, in order.

    Raises KeyError for a JSON mapping without "instances" and "inputs".
    """
    if kind == "CSV":
        return csv_input_rows(data, features)
    rows = rows_in_body(data if isinstance(data, Mapping) else {"instances": data})
    return rows if rows and isinstance(rows[0], list | Mapping) else [rows]


def csv_input_rows(data: str, features: Sequence[str]) -> list[Any]:
    """The rows of CSV text as lists of text cells; as mappings of name -> cell when the first line is a header.

    The first line is a header when one of its cells is the name of a feature. Blank lines are left out. features: the
    names of the baseline's features.
    """
    lines = [line for line in csv.reader(data.splitlines()) if line]
    if lines and set(lines[0]) & set(features):
        return [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]
    return lines


def in_feature_order(row: Any, features: Sequence[str], tally: Tally) -> list[Any] | None:
    """One row's cells in the features' order, with None for a feature that the row lacks.

    row: a list of cells, which is taken to be in that order, or a mapping of feature name -> cell. tally: changed: the
    features that the row has are noted in it, and columns that are no features are counted.

    Returns None, instead of cells, for a list of another length than the features; the tally counts it by its length.
    """
    if isinstance(row, Mapping):
        if not tally.seen.issuperset(row):
            tally.seen.update(name for name in features if name in row)
        tally.extra.update(name for name in row if name not in features)
        return [row.get(name) for name in features]
    if len(row) != len(features):
        tally.widths[len(row)] += 1
        return None
    if len(tally.seen) < len(features):
        tally.seen.update(features)
    return row


def with_category_codes(cells: list[Any] | None, categories: Sequence[int], kind: str) -> list[Any] | None:
    """One row's cells, in which the text of each category is replaced by its code (see categories.code).

    cells: the row, which is not changed, or None, which is returned as it is. categories: positions of the category
    cells. kind: "CSV" or "JSON", the format that the row came in. As in the endpoint, the text of a number in CSV is
    read as a number; in JSON all text becomes a code. Blank text becomes NaN.
    """
    if cells is None or not categories:
        return cells
    found = list(cells)
    for place in categories:
        cell = found[place]
        found[place] = as_code(read_number(cell) if kind == "CSV" and isinstance(cell, str) else cell)
    return found


def output_rows(kind: str, data: Any, classes: Sequence[str]) -> list[tuple[Any, Any, str]]:
    """(rarity, unknown, predicted class) for each row of an answer; [] for JSON that is not a mapping.

    kind, data: format and content, from `payload`; classes: class names by label position. CSV has a line per row:
    label (its position), rarity, unknown, then a probability per class; lines of another length are left out. JSON has
    a mapping per row under "predictions", or a list per output under "outputs"; the keys are rarity, unknown and label.

    rarity and unknown are not converted: text from CSV, the value in the answer from JSON, None where "predictions"
    lacks them. The class is a name, see class_name.

    Raises LookupError, TypeError, AttributeError or ValueError for an answer of another structure; OverflowError for a
    predicted class that is infinite.
    """
    if kind == "CSV":
        lines = [line for line in csv.reader(data.splitlines()) if len(line) == 3 + len(classes)]
        return [(rarity, unknown, class_name(float(label), classes)) for label, rarity, unknown, *_ in lines]
    if not isinstance(data, Mapping):
        return []
    if "predictions" in data:
        columns = {key: [row.get(key) for row in data["predictions"]] for key in ("rarity", "unknown", "label")}
    else:
        columns = {key: data["outputs"][key] for key in ("rarity", "unknown", "label")}
    scores = [[unwrap_single(cell) for cell in columns[key]] for key in ("rarity", "unknown")]
    names = [class_name(unwrap_single(cell), classes) for cell in columns["label"]]
    return list(zip(*scores, names, strict=True))


def unwrap_single(cell: Any) -> Any:
    """The first value of a list; anything else is returned as it is.

    TensorFlow Serving returns a list of one value per row where the graph's output is [n, 1].

    Raises IndexError for an empty list.
    """
    return cell[0] if isinstance(cell, list) else cell


def class_name(label: Any, classes: Sequence[str]) -> str:
    """The name of a predicted class. label: its position among `classes` as a number, or already a name.

    The fraction of a number is cut off. The position len(classes) is "unknown"; a position that no class has is
    returned as text. Text is taken as a name and returned as it is, "2" too. None gives "".

    Raises ValueError for NaN, OverflowError for infinity, TypeError for what is neither a number nor a text.
    """
    names = [*classes, UNKNOWN]
    if label is None or isinstance(label, str):
        return label or ""
    return names[int(label)] if 0 <= int(label) < len(names) else str(label)


class Capture:
    """Writes requests and answers as SageMaker's data capture: JSON lines in <folder>/yyyy/mm/dd/hh/<name>.jsonl.

    A record is appended by a single write to a file that no other process writes, so a kill leaves at most one
    unfinished line, the last of its file. Threads may share one object.
    https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture.html
    """

    def __init__(
        self,
        folder: Path,
        percentage: float = 100,
        rng: random.Random | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Nothing is written yet: `folder` is made with the first record.

        percentage: chance, 0 … 100, that a request is recorded, drawn at random from `rng` (None: an unseeded one).
        clock: returns the present time in UTC.
        """
        self.folder, self.percentage = folder, percentage
        self._rng, self._clock, self._lock = rng or random.Random(), clock, threading.Lock()
        self._hour, self._file = "", -1

    def record(self, asked: tuple[str, str], answered: tuple[str, str], inference_id: str = "") -> None:
        """Append one line with a request and its answer, or nothing, by chance: see `percentage` of the constructor.

        asked, answered: (content type, body) of the request and of its answer. inference_id: the caller's id of the
        request, "" for none. The line also gets a random eventId and the present time.

        Raises OSError when the disk is full or cannot be written.
        """
        if self._rng.random() * 100 >= self.percentage:
            return
        now = self._clock()
        event = {"eventId": str(uuid.uuid4()), "inferenceTime": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
        event |= {"inferenceId": inference_id} if inference_id else {}
        sides = f'{{"endpointInput": {side_json("INPUT", *asked)}, "endpointOutput": {side_json("OUTPUT", *answered)}}}'
        line = f'{{"captureData": {sides}, "eventMetadata": {json.dumps(event)}, "eventVersion": "0"}}\n'
        self._append(now, line.encode())

    def _append(self, now: datetime, line: bytes) -> None:
        """Write one line to the file of the hour of `now`.

        Raises OSError when the file cannot be opened or the line not be written whole; the next line then goes
        to a new file.
        """
        with self._lock:
            try:
                written = os.write(self._file_of(now), line)
                if written < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
            except OSError:
                self._close()  # the next record goes to a new file, not behind an unfinished line
                raise

    def _file_of(self, now: datetime) -> int:
        """The open descriptor of the file for the hour of `now`; the first record of an hour opens a new file."""
        hour = now.strftime("%Y/%m/%d/%H")
        if hour != self._hour:
            self._close()
            folder = self.folder / hour
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{now:%M-%S}-{now.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._hour = hour
        return self._file

    def _close(self) -> None:
        """Close the file that is open, if one is."""
        if self._hour:
            os.close(self._file)
        self._hour = ""


def side_json(mode: str, content_type: str, body: str) -> str:
    """One side of a record, as JSON: observedContentType, mode, data (the body) and encoding.

    mode: "INPUT" for the request, "OUTPUT" for the answer; encoding is "CSV" for the content
    type text/csv, otherwise "JSON".
    """
    # In pieces: json.dumps of megabytes would hold the interpreter's lock, and the endpoint's /ping would wait for it.
    pieces = (json.dumps(body[i : i + PIECE])[1:-1] for i in range(0, len(body), PIECE))
    kind = "CSV" if media_type(content_type) == CSV else "JSON"
    start = f'{{"observedContentType": {json.dumps(content_type)}, "mode": "{mode}"'
    return f'{start}, "data": "{"".join(pieces)}", "encoding": "{kind}"}}'
