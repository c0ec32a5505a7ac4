"""Schema: the one table that every step reads, a row per user and day of observation. Raw telemetry: telemetry.py.

A feature table is a folder of `part-*.parquet` with the same columns in the same order in every part: `user_id` (text),
`as_of` (the last day the row knows about), `label` (position in the class list, or UNLABELLED), then one float32 column
per feature, where NaN means missing. A category is such a column too (see categories.py): the column's own metadata in
the Parquet file says so, and names its most frequent texts.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scarcegan.data.categories import Categories
from scarcegan.errors import UserError

UNLABELLED = -1
UNLABELLED_NAME = "unlabelled"
RESERVED = ("unknown", UNLABELLED_NAME, "generated")
KEYS = ("user_id", "as_of", "label")
CATEGORY = b"category"  # key of a column's metadata: its texts and codes, as JSON


@dataclass(frozen=True)
class FeatureTable:
    """n rows of d features: user_id str [n], as_of datetime64[D] [n], label int8 [n], values float32 [n, d].

    categories: which of the columns hold codes of categories, with the texts that are known of each.
    """

    user_id: np.ndarray
    as_of: np.ndarray
    label: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    categories: Categories = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = {len(self.user_id), len(self.as_of), len(self.label), len(self.values)}
        if len(rows) != 1 or self.values.shape[1:] != (len(self.names),):
            raise ValueError(
                f"a feature table of {sorted(rows)} rows, values {self.values.shape}, {len(self.names)} names"
            )

    def __len__(self) -> int:
        return len(self.user_id)

    def take(self, rows: np.ndarray) -> "FeatureTable":
        """The rows of a boolean mask or of positions, in the order given."""
        keys = {key: getattr(self, key)[rows] for key in KEYS}
        return replace(self, **keys, values=self.values[rows])


def parse_classes(text: str) -> tuple[str, ...]:
    """`dormant,normal,risky` -> names in label order, the rare class last. UserError if that is no list of classes."""
    classes = tuple(name.strip() for name in text.split(",") if name.strip())
    if len(classes) < 2:
        raise UserError(f"classes '{text}': at least one negative class and the rare class (last) are needed.")
    for name in classes:
        if classes.count(name) > 1:
            raise UserError(f"classes '{text}': '{name}' stands twice. Give every class its own name.")
        if name in RESERVED:
            raise UserError(f"classes '{text}': '{name}' is reserved (so are {', '.join(RESERVED)}). Rename the class.")
    return classes


def write_features(table: FeatureTable, folder: Path, part: int = 0) -> Path:
    """Write one part and return its path. A part appears whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{part:05d}.parquet"
    unfinished = folder / f".{path.name}.unfinished"
    pq.write_table(to_arrow(table), unfinished)
    os.replace(unfinished, path)
    return path


def to_arrow(table: FeatureTable) -> pa.Table:
    """The table as Arrow columns, keys first."""
    columns = {
        "user_id": pa.array(table.user_id, pa.string()),
        "as_of": pa.array(table.as_of.astype("datetime64[D]"), pa.date32()),
        "label": pa.array(table.label, pa.int8()),
    }
    values = np.asarray(table.values, np.float32)
    features = {name: pa.array(np.ascontiguousarray(values[:, i])) for i, name in enumerate(table.names)}
    plain = pa.table(columns | features)
    fields = [described(one, table.categories) for one in plain.schema]
    return plain.cast(pa.schema(fields)) if table.categories else plain


def described(column: pa.Field, categories: Categories) -> pa.Field:
    """A column's field, which says whether it is a category."""
    if column.name not in categories:
        return column
    return column.with_metadata({CATEGORY: json.dumps(categories[column.name], ensure_ascii=False)})


def read_features(folder: Path) -> FeatureTable:
    """The whole table in memory, parts in name order. UserError if it is absent, empty or damaged."""
    return concatenate(list(iter_features(folder)), feature_names(folder), feature_categories(folder))


def iter_features(folder: Path, batch_rows: int = 50_000) -> Iterator[FeatureTable]:
    """The table in pieces of at most `batch_rows` rows, so that memory does not grow with the number of users."""
    names, categories = feature_names(folder), feature_categories(folder)
    for path in parts(folder):
        with open_part(path) as file:
            found = feature_columns(file, path)
            if found != names:
                raise UserError(
                    f"{path}: its features differ from those of {parts(folder)[0].name}. Run features again."
                )
            try:
                for batch in file.iter_batches(batch_size=batch_rows):
                    yield from_arrow(batch, names, categories)
            except (pa.ArrowException, OSError) as error:
                raise UserError(
                    f"{path}: damaged Parquet ({first_line(error)}). Run the step that wrote it again."
                ) from error


def read_keys(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """user_id [n], as_of [n] and label [n] of the whole table, without its values."""
    feature_names(folder)
    tables = []
    for path in parts(folder):
        with open_part(path) as file, refusing_damage(path):
            tables.append(from_arrow(file.read(columns=list(KEYS)), ()))
    table = concatenate(tables, ())
    return table.user_id, table.as_of, table.label


def feature_names(folder: Path) -> tuple[str, ...]:
    """Names of the features, in column order."""
    path = parts(folder)[0]
    with open_part(path) as file:
        return feature_columns(file, path)


def feature_categories(folder: Path) -> dict[str, dict[str, int]]:
    """The columns that are categories, each with its most frequent texts and their codes."""
    with open_part(parts(folder)[0]) as file:
        columns = [column for column in file.schema_arrow if CATEGORY in (column.metadata or {})]
    return {column.name: json.loads(column.metadata[CATEGORY]) for column in columns}


def concatenate(
    tables: Sequence[FeatureTable], names: tuple[str, ...], categories: Categories | None = None
) -> FeatureTable:
    """One table under another; no tables give a table of no rows."""
    if not tables:
        none = np.empty(0, object), np.empty(0, "datetime64[D]"), np.empty(0, np.int8)
        return FeatureTable(*none, names, np.empty((0, len(names)), np.float32), categories or {})
    user_id, as_of, label = (np.concatenate([getattr(table, key) for table in tables]) for key in KEYS)
    values = np.concatenate([table.values for table in tables])
    return FeatureTable(user_id, as_of, label, names, values, categories or {})


def parts(folder: Path) -> list[Path]:
    """The files of a feature table in name order; UserError if there are none."""
    found = sorted(Path(folder).glob("part-*.parquet"))
    if not found:
        raise UserError(f"{folder}: no feature table (part-*.parquet) in it. Run the step that writes it first.")
    return found


def open_part(path: Path) -> pq.ParquetFile:
    """Open a part; UserError if it is no whole Parquet file."""
    with refusing_damage(path):
        return pq.ParquetFile(path)


@contextmanager
def refusing_damage(path: Path) -> Iterator[None]:
    """Turn what Arrow says of a damaged file into a UserError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged Parquet ({first_line(error)}). Run the step that wrote it again.") from error


def feature_columns(file: pq.ParquetFile, path: Path) -> tuple[str, ...]:
    """What comes after the keys; UserError if the keys are not there."""
    columns = tuple(file.schema_arrow.names)
    if columns[: len(KEYS)] != KEYS:
        raise UserError(f"{path}: no feature table: it begins with {', '.join(columns[:3])}, not {', '.join(KEYS)}.")
    return columns[len(KEYS) :]


def from_arrow(
    batch: pa.RecordBatch | pa.Table, names: tuple[str, ...], categories: Categories | None = None
) -> FeatureTable:
    """Arrow columns (keys first) as numpy arrays."""
    values = np.empty((batch.num_rows, len(names)), np.float32)
    for i in range(len(names)):
        values[:, i] = batch.column(len(KEYS) + i).to_numpy(zero_copy_only=False)
    user_id, as_of, label = (batch.column(i).to_numpy(zero_copy_only=False) for i in range(len(KEYS)))
    keys = user_id.astype(object), as_of.astype("datetime64[D]"), label.astype(np.int8)
    return FeatureTable(*keys, names, values, categories or {})


def first_line(error: Exception) -> str:
    """The first line of another library's message, without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
