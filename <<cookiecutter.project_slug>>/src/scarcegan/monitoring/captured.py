"""Captured rows: read, in batches, what an endpoint or a scoring run has written. drift.py compares them.

A folder may hold two kinds of file, also in sub-folders: data capture of an endpoint (`*.jsonl`, see data_capture.py)
and scored users (`*.parquet`, see steps/score.py).
"""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scarcegan.data.categories import as_code, places
from scarcegan.data.files import PARQUET_SUFFIXES, visible_files
from scarcegan.data.reading import left_out_notes
from scarcegan.data.schema import KEYS, first_line
from scarcegan.errors import UserError
from scarcegan.monitoring.data_capture import read_jsonl
from scarcegan.monitoring.rows import JSON_LINES, MISSING_ID, Rows, Tally, day_column, plural, read_column, text_column

CAPTURED_SUFFIXES = (*PARQUET_SUFFIXES, JSON_LINES)
BESIDE_SCORES = ("flagged.csv", "summary.json")  # what the score step writes beside its table: not read, not counted
SCORE_COLUMNS = ("predicted", "rarity", "unknown")
PROBABILITY_PREFIX = "probability_"


def read_captured(
    folder: Path,
    features: Sequence[str],
    classes: Sequence[str],
    tally: Tally,
    batch_rows: int = 10_000,
    categories: Collection[str] = (),
    sizes: Mapping[Path, int] | None = None,
) -> Iterator[Rows]:
    """Yield the rows of all data capture and scored-user files below a folder, in batches of about `batch_rows` rows.

    - folder: the folder, or one such file
    - features: names of the baseline's features, in order
    - classes: class names by label position
    - tally: changed while reading: it counts what was read and what was left out
    - categories: names of those features that are categories
    - sizes: the files that are read, as captured_files gives them -> their bytes; what is behind these in JSON lines is
      left alone, as a server may append to them meanwhile. None: all files, to their ends

    Raises UserError, while it is iterated, when there is no file, for a Parquet file that is damaged or has none of the
    features, and at the end when no row was read from any file.
    """
    files = sizes or dict.fromkeys(captured_files(folder), sys.maxsize)
    where = places(features, categories)
    tally.left_out += left_out_notes(folder, endings=CAPTURED_SUFFIXES + BESIDE_SCORES, kinds="Parquet or JSON lines")
    for path, size in files.items():
        tally.files += 1
        read = read_scored_table if path.name.lower().endswith(PARQUET_SUFFIXES) else partial(read_jsonl, size=size)
        for rows in read(path, features, classes, tally, batch_rows, where):
            tally.rows += len(rows)
            yield rows
    if not tally.rows:
        raise UserError(no_rows_text(folder, features, tally))


def captured_files(folder: Path) -> list[Path]:
    """The JSON lines and Parquet files at any depth below a folder, by their endings in any case, in path order,
    without hidden ones (see visible_files); or `folder` itself when it is such a file.

    Raises UserError when there are none.
    """
    seen = [folder] if folder.is_file() else sorted(visible_files(folder))
    files = [path for path in seen if path.name.lower().endswith(CAPTURED_SUFFIXES)]
    if not files:
        nothing = "nothing" if folder.is_dir() else "no such folder"
        found = ", ".join(p.name for p in seen[:3]) or nothing
        raise UserError(
            f"{folder}: no captured rows. Looked for *.jsonl (data capture) and *.parquet (scored users) in it and "
            f"below, found: {found}. Send requests to the endpoint, or score users, then monitor again."
        )
    return files


def no_rows_text(folder: Path, features: Sequence[str], tally: Tally) -> str:
    """Sentences that say why no row was read from the files that the tally counts, and what to do.

    folder: where the files lie; features: names of the baseline's features.
    """
    if tally.widths:
        width, rows = tally.widths.most_common(1)[0]
        return (
            f"{folder}: the captured rows have nothing in common with the baseline: {plural(rows, 'row')} of {width} "
            f"values, the baseline has {len(features)} features. Use the baseline of the model that scored them."
        )
    if tally.unreadable:
        found = f"{folder}: no row could be read from {plural(tally.files, 'file')} ({tally.first_fault})"
        return f"{found}. Is this data capture of the endpoint?"
    found = f"{folder}: {plural(tally.files, 'file')}, but no row in them"
    return f"{found}. Send requests to the endpoint, then monitor again."


def read_scored_table(
    path: Path,
    features: Sequence[str],
    classes: Sequence[str],
    tally: Tally,
    batch_rows: int,
    categories: Sequence[int] = (),
) -> Iterator[Rows]:
    """Yield the rows of a Parquet table of scored users, in batches of at most `batch_rows` rows.

    - path: the file
    - features: names of the baseline's features, in order; those that the table lacks are NaN
    - classes: class names; the table may have a column `probability_<class>` for each
    - tally: changed: it notes which features the table has, and counts its rows under each column that is no feature,
      key (user_id, as_of, label), score or probability
    - categories: positions of the categories among the features

    Raises UserError, while it is iterated, for a damaged file, or one without any of the features.
    """
    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            common = [name for name in features if name in columns]
            if not common:
                raise UserError(
                    f"{path}: nothing in common with the baseline: columns {', '.join(columns[:4])}…, the baseline has "
                    f"{', '.join(features[:4])}…. Use the baseline of the model that scored these users."
                )
            known = {*features, *KEYS, *SCORE_COLUMNS, *(PROBABILITY_PREFIX + name for name in classes)}
            tally.seen.update(common)
            tally.extra.update({name: file.metadata.num_rows for name in columns if name not in known})
            wanted = [*dict.fromkeys([*common, *(n for n in (*KEYS[:2], *SCORE_COLUMNS) if n in columns)])]
            for batch in file.iter_batches(batch_size=batch_rows, columns=wanted):
                yield from_scored_batch(batch, features, categories)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: damaged Parquet ({first_line(error)}). Score again, or move the file away."
        ) from error


def from_scored_batch(batch: pa.RecordBatch, features: Sequence[str], categories: Sequence[int] = ()) -> Rows:
    """Rows from one batch of a table of scored users, by column name. What the batch lacks is NaN, NaT or "".

    user_id gives the id, as_of the day, predicted the label; the features, rarity and unknown have their own names.
    features: names of the baseline's features, in order; categories: positions of those that are categories, whose
    cells may be codes, or text, which becomes its code.
    """
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
        id=text_column(columns["user_id"]) if "user_id" in columns else np.full(n, MISSING_ID),
        day=day_column(columns["as_of"]) if "as_of" in columns else np.full(n, "NaT", "datetime64[D]"),
        values=values,
        text=text,
        rarity=read_column(columns["rarity"])[0] if "rarity" in columns else np.full(n, np.nan, np.float32),
        unknown=read_column(columns["unknown"])[0] if "unknown" in columns else np.full(n, np.nan, np.float32),
        label=text_column(columns["predicted"]) if "predicted" in columns else np.full(n, ""),
    )
