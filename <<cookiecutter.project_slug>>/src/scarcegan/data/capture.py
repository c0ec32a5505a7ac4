"""Captured rows: what an endpoint or a scoring run wrote, as batches in the baseline's columns. Comparing: drift.py.

Two kinds of file, mixed and nested as they come: data capture of an endpoint (`*.jsonl`, SageMaker's format: a record
per request, its input and output as JSON, CSV or base64) and scored users (`*.parquet`, see steps/score.py).
"""

import base64
import binascii
import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scarcegan.data.schema import KEYS, first_line
from scarcegan.data.statistics import UNKNOWN
from scarcegan.errors import UserError

INPUT_NAME = "features"
SCORE_COLUMNS = ("predicted", "rarity", "unknown")
PROBABILITY = "probability_"
BLANK = frozenset({"", "na", "nan", "null", "none"})
MISSING_ID = ""


@dataclass(frozen=True)
class Rows:
    """n captured rows in the baseline's columns.

    id: user, inference or event, str [n]; day: datetime64[D] [n], NaT if not told; values: float32 [n, d]; text: bool
    [n, d], where something unreadable stood; rarity, unknown: float32 [n], NaN where the output was not captured;
    label: predicted class, str [n], "" where it was not captured.
    """

    id: np.ndarray
    day: np.ndarray
    values: np.ndarray
    text: np.ndarray
    rarity: np.ndarray
    unknown: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.id)


@dataclass
class Tally:
    """What was met while reading: filled by read_captured as it goes."""

    files: int = 0
    rows: int = 0
    partial: int = 0
    unreadable: int = 0
    complaint: str = ""
    widths: Counter[int] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    extra: Counter[str] = field(default_factory=Counter)

    def complain(self, words: str) -> None:
        """Count something unreadable; the first of them is remembered."""
        self.unreadable += 1
        self.complaint = self.complaint or words

    def words(self) -> str:
        """A sentence for the report and for stderr."""
        parts = [f"{plural(self.rows, 'row')} in {plural(self.files, 'file')}"]
        if self.partial:
            parts.append(f"{plural(self.partial, 'unfinished last line')} left out")
        if self.unreadable:
            parts.append(f"{plural(self.unreadable, 'unreadable record')} left out ({self.complaint})")
        if self.widths:
            parts.append(f"{plural(self.widths.total(), 'row')} of another width left out")
        return "; ".join(parts)


def plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def read_captured(
    folder: Path, features: Sequence[str], classes: Sequence[str], tally: Tally, batch_rows: int = 10_000
) -> Iterator[Rows]:
    """Batches of the rows below a folder. features: the baseline's, in order; classes: names by label position.

    UserError if there is no file, no row, a damaged Parquet file, or nothing in common with the baseline.
    """
    files = captured_files(folder)
    for path in files:
        tally.files += 1
        read = read_parquet if path.suffix == ".parquet" else read_jsonl
        for rows in read(path, features, classes, tally, batch_rows):
            tally.rows += len(rows)
            yield rows
    if not tally.rows:
        raise UserError(no_rows(folder, features, tally))


def captured_files(folder: Path) -> list[Path]:
    """The files to read, in name order; UserError if there are none."""
    seen = sorted(visible_files(folder))
    files = [p for p in seen if p.suffix in (".jsonl", ".parquet")]
    if not files:
        found = ", ".join(str(p.relative_to(folder)) for p in seen[:3]) or (
            "nothing" if folder.is_dir() else "no such folder"
        )
        raise UserError(
            f"{folder}: no captured rows. Looked for *.jsonl (data capture) and *.parquet (scored users) in it and "
            f"below, found: {found}. Send requests to the endpoint, or score users, then monitor again."
        )
    return files


def visible_files(folder: Path) -> Iterator[Path]:
    """Files below a folder, linked folders included, each once; names with a leading dot or underscore are left out."""
    met = set()
    for place, inside, names in os.walk(folder, followlinks=True):
        inside[:] = [name for name in inside if not name.startswith((".", "_"))]
        if os.path.realpath(place) in met:
            inside.clear()
            continue
        met.add(os.path.realpath(place))
        yield from (Path(place, name) for name in names if not name.startswith((".", "_")))


def no_rows(folder: Path, features: Sequence[str], tally: Tally) -> str:
    if tally.widths:
        width, rows = tally.widths.most_common(1)[0]
        return (
            f"{folder}: the captured rows have nothing in common with the baseline: {plural(rows, 'row')} of {width} "
            f"values, the baseline has {len(features)} features. Give the baseline of the model that answered them."
        )
    if tally.unreadable:
        found = f"{folder}: no row could be read from {plural(tally.files, 'file')} ({tally.complaint})"
        return f"{found}. Is this data capture of the endpoint?"
    found = f"{folder}: {plural(tally.files, 'file')}, but not one row in them"
    return f"{found}. Send requests to the endpoint, then monitor again."


def read_parquet(
    path: Path, features: Sequence[str], classes: Sequence[str], tally: Tally, batch_rows: int
) -> Iterator[Rows]:
    """Batches of a scored table; columns that the baseline lacks are counted, those that it alone has are NaN."""
    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            common = [name for name in features if name in columns]
            if not common:
                raise UserError(
                    f"{path}: nothing in common with the baseline: columns {', '.join(columns[:4])}…, the baseline has "
                    f"{', '.join(features[:4])}…. Give the baseline of the model that scored these users."
                )
            known = {*features, *KEYS, *SCORE_COLUMNS, *(PROBABILITY + name for name in classes)}
            tally.seen.update(common)
            tally.extra.update({name: file.metadata.num_rows for name in columns if name not in known})
            wanted = [*dict.fromkeys([*common, *(n for n in (*KEYS[:2], *SCORE_COLUMNS) if n in columns)])]
            for batch in file.iter_batches(batch_size=batch_rows, columns=wanted):
                yield scored_rows(batch, features)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: damaged Parquet ({first_line(error)}). Score again, or move the file away."
        ) from error


def scored_rows(batch: pa.RecordBatch, features: Sequence[str]) -> Rows:
    """One batch of a scored table."""
    n = batch.num_rows
    columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
    values, text = np.full((n, len(features)), np.nan, np.float32), np.zeros((n, len(features)), bool)
    for i, name in enumerate(features):
        if name in columns:
            values[:, i], text[:, i] = read_column(columns[name])
    return Rows(
        id=words(columns["user_id"]) if "user_id" in columns else np.full(n, MISSING_ID),
        day=days(columns["as_of"]) if "as_of" in columns else np.full(n, "NaT", "datetime64[D]"),
        values=values,
        text=text,
        rarity=read_column(columns["rarity"])[0] if "rarity" in columns else np.full(n, np.nan, np.float32),
        unknown=read_column(columns["unknown"])[0] if "unknown" in columns else np.full(n, np.nan, np.float32),
        label=words(columns["predicted"]) if "predicted" in columns else np.full(n, ""),
    )


def words(column: np.ndarray) -> np.ndarray:
    """A column of names [n] -> str [n], "" where there is none."""
    return np.array(["" if cell is None else str(cell) for cell in column.tolist()], str)


def days(column: np.ndarray) -> np.ndarray:
    """A column of dates, times or ISO 8601 text [n] -> datetime64[D] [n], NaT where there is none."""
    if column.dtype.kind == "M":
        return column.astype("datetime64[D]")
    return np.array([day_of(None if cell is None else str(cell)) for cell in column.tolist()], "datetime64[D]")


def read_column(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A column of anything [n] -> float32 [n], and where it was text: bool [n]."""
    if column.dtype.kind in "fiub":
        with np.errstate(over="ignore"):
            return column.astype(np.float32), np.zeros(len(column), bool)
    values, text = read_cells([[cell] for cell in column.tolist()], 1)
    return values[:, 0], text[:, 0]


def read_cells(rows: Sequence[Sequence[Any]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of cells as they came (numbers, text, None) -> float32 [n, width], and where text stood: bool [n, width]."""
    with np.errstate(over="ignore"):
        try:
            values = np.array(rows, np.float32).reshape(len(rows), width)
            return values, np.zeros(values.shape, bool)
        except (ValueError, TypeError, OverflowError):
            pairs = [[read_cell(cell) for cell in row] for row in rows]
            both = np.array(pairs, np.float64).reshape(len(rows), width, 2)
            return both[..., 0].astype(np.float32), both[..., 1] > 0


def read_cell(cell: Any) -> tuple[float, bool]:
    """One cell -> (its number or NaN, whether it was text)."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in BLANK):
        return np.nan, False
    try:
        return float(cell), False
    except OverflowError:
        return np.inf, False
    except (ValueError, TypeError):
        return np.nan, True


def read_jsonl(
    path: Path, features: Sequence[str], classes: Sequence[str], tally: Tally, batch_rows: int
) -> Iterator[Rows]:
    """Batches of data capture. A last line without its end (the endpoint is writing, or was killed) is left out."""
    batch: list[tuple] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                batch += read_record(json.loads(line), features, classes, tally)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    tally.partial += 1
                else:
                    tally.complain(f"{path.name} line {number}: {first_line(error)}")
            if len(batch) >= batch_rows:
                yield captured_rows(batch, features)
                batch = []
    if batch:
        yield captured_rows(batch, features)


def captured_rows(batch: Sequence[tuple], features: Sequence[str]) -> Rows:
    """Rows out of what read_record gave."""
    ids, moments, cells, rarity, unknown, label = zip(*batch, strict=True)
    values, text = read_cells(cells, len(features))
    scores = [read_cells([[cell] for cell in column], 1)[0][:, 0] for column in (rarity, unknown)]
    return Rows(
        np.array(ids), np.array(moments, "datetime64[D]"), values, text, scores[0], scores[1], np.array(label, str)
    )


def read_record(
    record: Mapping[str, Any], features: Sequence[str], classes: Sequence[str], tally: Tally
) -> list[tuple]:
    """The rows of one request: (id, day, cells, rarity, unknown, label) each.

    Row i of a request of several is called `<id>/<i>`; the id is the caller's inferenceId, or else the eventId.
    """
    inputs = input_rows(*payload(record["captureData"]["endpointInput"]), features)
    answer = record["captureData"].get("endpointOutput")
    outputs = output_rows(*payload(answer), classes) if answer and answer.get("data") else []
    if len(outputs) != len(inputs):
        outputs = [(None, None, "")] * len(inputs)
    meta = record.get("eventMetadata", {})
    name, day = str(meta.get("inferenceId") or meta.get("eventId") or MISSING_ID), day_of(meta.get("inferenceTime"))
    names = [name] if len(inputs) == 1 else [f"{name}/{i}" for i in range(len(inputs))]
    rows = [
        (row_name, day, cells_of(row, features, tally), *output)
        for row_name, row, output in zip(names, inputs, outputs, strict=True)
    ]
    return [row for row in rows if row[2] is not None]


def payload(side: Mapping[str, Any]) -> tuple[str, Any]:
    """(JSON or CSV, the content) of one side of a record."""
    kind, data = side.get("encoding", "JSON"), side["data"]
    if kind == "BASE64":
        try:
            data = base64.b64decode(data, validate=True).decode("utf-8")
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from error
        kind = "CSV" if "csv" in side.get("observedContentType", "") else "JSON"
    return kind, json.loads(data) if kind == "JSON" and isinstance(data, str) else data


def input_rows(kind: str, data: Any, features: Sequence[str]) -> list[Any]:
    """The rows of a request's input: lists of cells in order, or mappings from feature names."""
    if kind == "CSV":
        return csv_rows(data, features)
    if isinstance(data, Mapping):
        data = data["instances"] if "instances" in data else data["inputs"]
    if isinstance(data, Mapping):
        data = data[INPUT_NAME]
    rows = [
        row[INPUT_NAME] if isinstance(row, Mapping) and isinstance(row.get(INPUT_NAME), list) else row for row in data
    ]
    return rows if rows and isinstance(rows[0], list | Mapping) else [rows]


def csv_rows(data: str, features: Sequence[str]) -> list[Any]:
    """Lines of cells; where the first line names features, mappings from its names."""
    lines = [line for line in csv.reader(data.splitlines()) if line]
    if lines and set(lines[0]) & set(features):
        return [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]
    return lines


def cells_of(row: Any, features: Sequence[str], tally: Tally) -> list[Any] | None:
    """One row's cells in the baseline's order; None (and counted) if it cannot be matched with the features."""
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


def output_rows(kind: str, data: Any, classes: Sequence[str]) -> list[tuple[Any, Any, str]]:
    """(rarity, unknown, predicted class) per row of a request's output; nothing if it has another shape.

    CSV has a line per row: label, rarity, unknown, then a probability per class.
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
    scores = [[only(cell) for cell in columns[key]] for key in ("rarity", "unknown")]
    names = [class_name(only(cell), classes) for cell in columns["label"]]
    return list(zip(*scores, names, strict=True))


def only(cell: Any) -> Any:
    """TensorFlow Serving gives a list of one where the graph says [n, 1]."""
    return cell[0] if isinstance(cell, list) else cell


def class_name(label: Any, classes: Sequence[str]) -> str:
    """A label as the model gives it (position, or already a name) -> class name; "" for none."""
    names = [*classes, UNKNOWN]
    if label is None or isinstance(label, str):
        return label or ""
    return names[int(label)] if 0 <= int(label) < len(names) else str(label)


def day_of(moment: str | None) -> np.datetime64:
    """The day of an ISO 8601 time in UTC; NaT if there is none."""
    try:
        return np.datetime64((moment or "NaT")[:10], "D")
    except ValueError:
        return np.datetime64("NaT", "D")
