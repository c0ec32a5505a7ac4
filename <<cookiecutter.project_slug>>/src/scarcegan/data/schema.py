"""Schema: the feature table that every step reads and writes, one row per user and day of observation.

A feature table is a folder of `part-*.parquet` with the same columns in the same order in every part: `user_id` (text),
`as_of` (the last day the row knows about), `label` (position in the class list, or UNLABELLED), then one float32 column
per feature, where NaN means missing. A category is such a column too (see categories.py): the metadata of its Parquet
column says so, and holds its most frequent texts. Raw telemetry is read by telemetry.py.
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
KEYS = ("user_id", "as_of", "label")
CATEGORY_KEY = b"category"  # key of a column's metadata: its texts and codes, as JSON


@dataclass(frozen=True)
class FeatureTable:
    """A feature table in memory: n rows of d features.

    - user_id: str [n]
    - as_of: datetime64[D] [n], the last day that the row's features take into account
    - label: int8 [n], class position or UNLABELLED
    - names: the d feature names
    - values: float32 [n, d], NaN for missing
    - categories: {feature name: {text: code}} of the features that hold category codes (categories.code), with their
      most frequent texts

    Raises ValueError when the lengths of the fields differ.
    """

    user_id: np.ndarray
    as_of: np.ndarray
    label: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    categories: Categories = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError when the lengths of the fields differ."""
        rows = {len(self.user_id), len(self.as_of), len(self.label), len(self.values)}
        if len(rows) != 1 or self.values.shape[1:] != (len(self.names),):
            raise ValueError(
                f"a feature table of {sorted(rows)} rows, values {self.values.shape}, {len(self.names)} names"
            )

    def __len__(self) -> int:
        """The number of rows, n."""
        return len(self.user_id)

    def take(self, rows: np.ndarray) -> "FeatureTable":
        """A new table of some of the rows. rows: a boolean mask [n] (order kept), or positions, in the order wanted."""
        keys = {key: getattr(self, key)[rows] for key in KEYS}
        return replace(self, **keys, values=self.values[rows])


def write_features(table: FeatureTable, folder: Path, part: int = 0) -> Path:
    """Write a table as one part of the feature table `folder`, part-00000.parquet for part 0, and return that path.

    The folder is made when it is missing, and an earlier file of that part is replaced; other parts stay. The file
    appears complete or not at all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{part:05d}.parquet"
    unfinished = folder / f".{path.name}.unfinished"
    pq.write_table(to_arrow(table), unfinished)
    os.replace(unfinished, path)
    return path


def to_arrow(table: FeatureTable) -> pa.Table:
    """The table as an Arrow table with the columns user_id, as_of, label, then one per feature.

    The metadata of a category's column has its texts and codes.
    """
    columns = {
        "user_id": pa.array(table.user_id, pa.string()),
        "as_of": pa.array(table.as_of.astype("datetime64[D]"), pa.date32()),
        "label": pa.array(table.label, pa.int8()),
    }
    values = np.asarray(table.values, np.float32)
    features = {name: pa.array(np.ascontiguousarray(values[:, i])) for i, name in enumerate(table.names)}
    plain = pa.table(columns | features)
    fields = [with_category_metadata(one, table.categories) for one in plain.schema]
    return plain.cast(pa.schema(fields)) if table.categories else plain


def with_category_metadata(column: pa.Field, categories: Categories) -> pa.Field:
    """The Arrow field unchanged, or, for a category, a copy with the category's texts and codes in its metadata.

    categories: {feature name: {text: code}}.
    """
    if column.name not in categories:
        return column
    return column.with_metadata({CATEGORY_KEY: json.dumps(categories[column.name], ensure_ascii=False)})


def read_features(folder: Path) -> FeatureTable:
    """Read the whole feature table in `folder` into memory, its parts in name order.

    Raises UserError when the table is missing or damaged, or when its parts have different features.
    """
    return concatenate(list(iter_features(folder)), read_feature_names(folder), read_feature_categories(folder))


def count_rows(folder: Path) -> int:
    """The number of rows of the feature table in `folder`, from its files' metadata; 0 when one cannot be read."""
    try:
        return sum(pq.read_metadata(path).num_rows for path in sorted(Path(folder).glob("part-*.parquet")))
    except (OSError, pa.ArrowException):
        return 0


def iter_features(folder: Path, batch_rows: int = 50_000) -> Iterator[FeatureTable]:
    """Yield a feature table in pieces of at most `batch_rows` rows, so that any number of users fits into memory.

    folder: the folder of the feature table; its parts are read in name order. A table without rows yields nothing.

    Raises UserError, when pieces are asked for, if the table is missing or damaged, or when its parts have different
    features.
    """
    names, categories = read_feature_names(folder), read_feature_categories(folder)
    for path in part_files(folder):
        with open_part(path) as file:
            found = columns_after_keys(file, path)
            if found != names:
                raise UserError(
                    f"{path}: its features differ from those of {part_files(folder)[0].name}. Run features again."
                )
            try:
                for batch in file.iter_batches(batch_size=batch_rows):
                    yield from_arrow(batch, names, categories)
            except (pa.ArrowException, OSError) as error:
                raise UserError(
                    f"{path}: damaged Parquet ({first_line(error)}). Run the step that wrote it again."
                ) from error


def read_keys(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the user_id (str), as_of (datetime64[D]) and label (int8), [n] each, of a whole feature table of n rows.

    The feature values are not read; whether the parts have the same features is not checked.

    Raises UserError when the table is missing or damaged.
    """
    read_feature_names(folder)
    tables = []
    for path in part_files(folder):
        with open_part(path) as file, naming_the_damaged_part(path):
            tables.append(from_arrow(file.read(columns=list(KEYS)), ()))
    table = concatenate(tables, ())
    return table.user_id, table.as_of, table.label


def read_feature_names(folder: Path) -> tuple[str, ...]:
    """The feature names of the feature table in `folder`, in column order, from its first part.

    Raises UserError when the table is missing or that part is damaged.
    """
    path = part_files(folder)[0]
    with open_part(path) as file:
        return columns_after_keys(file, path)


def read_feature_categories(folder: Path) -> dict[str, dict[str, int]]:
    """The categories of the feature table in `folder`, from its first part: {feature name: {text: code}}, {} for none.

    The texts are the most frequent ones; categories.code tells how a code is made.

    Raises UserError when the table is missing or that part is damaged.
    """
    with open_part(part_files(folder)[0]) as file:
        columns = [column for column in file.schema_arrow if CATEGORY_KEY in (column.metadata or {})]
    return {column.name: json.loads(column.metadata[CATEGORY_KEY]) for column in columns}


def concatenate(
    tables: Sequence[FeatureTable], names: tuple[str, ...], categories: Categories | None = None
) -> FeatureTable:
    """One table with the rows of all `tables`, one after another; a table without rows when there are no tables.

    names: the features of the result, which each table must have in this order; the tables' own names are not compared.
    categories: those of the result, as in FeatureTable; the tables' own are not read.
    """
    if not tables:
        none = np.empty(0, object), np.empty(0, "datetime64[D]"), np.empty(0, np.int8)
        return FeatureTable(*none, names, np.empty((0, len(names)), np.float32), categories or {})
    user_id, as_of, label = (np.concatenate([getattr(table, key) for table in tables]) for key in KEYS)
    values = np.concatenate([table.values for table in tables])
    return FeatureTable(user_id, as_of, label, names, values, categories or {})


def part_files(folder: Path) -> list[Path]:
    """The Parquet files `part-*.parquet` in the folder of a feature table, in name order.

    Raises UserError when there are none.
    """
    found = sorted(Path(folder).glob("part-*.parquet"))
    if not found:
        raise UserError(f"{folder}: no feature table (part-*.parquet) in it. Run the step that writes it first.")
    return found


def open_part(path: Path) -> pq.ParquetFile:
    """Open one Parquet file of a feature table; the caller closes it.

    Raises UserError when the file cannot be opened or is damaged.
    """
    with naming_the_damaged_part(path):
        return pq.ParquetFile(path)


@contextmanager
def naming_the_damaged_part(path: Path) -> Iterator[None]:
    """Context manager: turn an Arrow or operating system error into a UserError that calls the file damaged.

    path: the feature table's Parquet file that is read inside.

    Raises UserError for such an error.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged Parquet ({first_line(error)}). Run the step that wrote it again.") from error


def columns_after_keys(file: pq.ParquetFile, path: Path) -> tuple[str, ...]:
    """The columns of a Parquet file after user_id, as_of and label: the feature names. path: the file's, for the error.

    Raises UserError when the file does not begin with these three.
    """
    columns = tuple(file.schema_arrow.names)
    if columns[: len(KEYS)] != KEYS:
        raise UserError(f"{path}: not a feature table: it begins with {', '.join(columns[:3])}, not {', '.join(KEYS)}.")
    return columns[len(KEYS) :]


def from_arrow(
    batch: pa.RecordBatch | pa.Table, names: tuple[str, ...], categories: Categories | None = None
) -> FeatureTable:
    """A FeatureTable from Arrow columns: user_id, as_of, label, then one column per feature.

    Columns are taken by position, so those of the features must be in the order of `names`; their own names are not
    read. categories: {feature name: {text: code}} of the categories, kept in the result; None for no categories.
    """
    values = np.empty((batch.num_rows, len(names)), np.float32)
    for i in range(len(names)):
        values[:, i] = batch.column(len(KEYS) + i).to_numpy(zero_copy_only=False)
    user_id, as_of, label = (batch.column(i).to_numpy(zero_copy_only=False) for i in range(len(KEYS)))
    keys = user_id.astype(object), as_of.astype("datetime64[D]"), label.astype(np.int8)
    return FeatureTable(*keys, names, values, categories or {})


def first_line(error: Exception) -> str:
    """The first line of an exception's message without its full stop; the name of its type when there is no message."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
