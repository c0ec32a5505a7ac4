"""The record of the files that a step has read: their digests and their columns."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from scarcegan.data.files import PARQUET_SUFFIXES, Source, group_by_header, has_data_suffix
from scarcegan.pipeline.code import hash_file

INPUTS_FILE = "inputs.json"


def describe_files(sources: Sequence[Source], root: Path) -> list[dict[str, Any]]:
    """The files of the sources, an entry for each source, as JSON can hold them:

    - columns: {name: type}, as the step reads them; in a CSV file each is text
    - delimiter: the character between two fields of CSV files; "" for others
    - files: a dictionary per file: path (below `root`), bytes, sha256, and of a Parquet file rows

    The files are read once more for their digests, on two threads; rows and columns come from headers and footers.
    root: the file or folder of the input.

    Raises OSError when a file can no longer be read.
    """
    with ThreadPoolExecutor(2) as pool:
        digests = [list(pool.map(hash_file, source.files)) for source in sources]
    return [
        {
            "columns": {name: str(type_) for name, type_ in source.columns.items()},
            "delimiter": source.delimiter,
            "files": [describe_file(file, root, sha256) for file, sha256 in zip(source.files, own, strict=True)],
        }
        for source, own in zip(sources, digests, strict=True)
    ]


def describe_file(file: Path, root: Path, sha256: str) -> dict[str, Any]:
    """The entry of one file in describe_files."""
    path = file.relative_to(root).as_posix() if root in file.parents else file.name
    found: dict[str, Any] = {"path": path, "bytes": file.stat().st_size, "sha256": sha256}
    return found | ({"rows": pq.read_metadata(file).num_rows} if file.name.lower().endswith(PARQUET_SUFFIXES) else {})


def sources_of(files: Sequence[Path], root: Path, expected: Sequence[str] = ()) -> list[Source]:
    """Files by their columns; those that are no tables, such as JSON lines, are a Source without columns, the last one.

    root: the file or folder of the input; expected: column names that are looked for.

    Raises UserError for a table that cannot be read.
    """
    tables = [file for file in files if has_data_suffix(file)]
    others = tuple(file for file in files if file not in tables)
    found = group_by_header(tables, tuple(expected), root=root)
    return [*found, Source(others, {}, root=root)] if others else found
