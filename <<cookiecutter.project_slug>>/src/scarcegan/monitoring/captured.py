"""Captured rows: what an endpoint or a scoring run wrote, file by file, as batches. Comparing: drift.py.

Two kinds of file, mixed and nested as they come: data capture of an endpoint (`*.jsonl`, see requests.py) and scored
users (`*.parquet`, see steps/score.py).
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scarcegan.data.categories import as_code, places
from scarcegan.data.files import visible_files
from scarcegan.data.schema import KEYS, first_line
from scarcegan.errors import UserError
from scarcegan.monitoring.data_capture import read_jsonl
from scarcegan.monitoring.rows import MISSING_ID, Rows, Tally, days, plural, read_column, words

SCORE_COLUMNS = ("predicted", "rarity", "unknown")
PROBABILITY = "probability_"


def read_captured(
    folder: Path,
    features: Sequence[str],
    classes: Sequence[str],
    tally: Tally,
    batch_rows: int = 10_000,
    categories: Collection[str] = (),
) -> Iterator[Rows]:
    """Batches of the rows below a folder. features: the baseline's, in order; classes: names by label position;
    categories: those of the features that are names.

    UserError if there is no file, no row, a damaged Parquet file, or nothing in common with the baseline.
    """
    files, where = captured_files(folder), places(features, categories)
    for path in files:
        tally.files += 1
        read = read_parquet if path.suffix == ".parquet" else read_jsonl
        for rows in read(path, features, classes, tally, batch_rows, where):
            tally.rows += len(rows)
            yield rows
    if not tally.rows:
        raise UserError(no_rows(folder, features, tally))


def captured_files(folder: Path) -> list[Path]:
    """The files to read, in name order (or the one named); UserError if there are none."""
    seen = [folder] if folder.is_file() else sorted(visible_files(folder))
    files = [p for p in seen if p.suffix in (".jsonl", ".parquet")]
    if not files:
        nothing = "nothing" if folder.is_dir() else "no such folder"
        found = ", ".join(p.name for p in seen[:3]) or nothing
        raise UserError(
            f"{folder}: no captured rows. Looked for *.jsonl (data capture) and *.parquet (scored users) in it and "
            f"below, found: {found}. Send requests to the endpoint, or score users, then monitor again."
        )
    return files


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
    path: Path,
    features: Sequence[str],
    classes: Sequence[str],
    tally: Tally,
    batch_rows: int,
    categories: Sequence[int] = (),
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
                yield scored_rows(batch, features, categories)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: damaged Parquet ({first_line(error)}). Score again, or move the file away."
        ) from error


def scored_rows(batch: pa.RecordBatch, features: Sequence[str], categories: Sequence[int] = ()) -> Rows:
    """One batch of a scored table; a category may be there as its code or as text."""
    n = batch.num_rows
    columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
    values, text = np.full((n, len(features)), np.nan, np.float32), np.zeros((n, len(features)), bool)
    for i, name in enumerate(features):
        if name in columns:
            column = columns[name]
            if i in categories and column.dtype == object:
                column = np.array([as_code(cell) for cell in column], object)
            values[:, i], text[:, i] = read_column(column)
    return Rows(
        id=words(columns["user_id"]) if "user_id" in columns else np.full(n, MISSING_ID),
        day=days(columns["as_of"]) if "as_of" in columns else np.full(n, "NaT", "datetime64[D]"),
        values=values,
        text=text,
        rarity=read_column(columns["rarity"])[0] if "rarity" in columns else np.full(n, np.nan, np.float32),
        unknown=read_column(columns["unknown"])[0] if "unknown" in columns else np.full(n, np.nan, np.float32),
        label=words(columns["predicted"]) if "predicted" in columns else np.full(n, ""),
    )
