"""The record of the files that a step has read: their digests and their columns."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from scarcegan.data.files import PARQUET_SUFFIXES, Source, group_by_header, has_data_suffix, visible_files
from scarcegan.errors import UserError
from scarcegan.local.fingerprint import HASHES_VARIABLE, has_only_grown, signature, size_of, stored_hashes
from scarcegan.pipeline.code import hash_file

INPUTS_FILE = "inputs.json"


def signatures(files: Iterable[Path], root: Path) -> dict[Path, str]:
    """File -> its `signature`. The step calls this before it reads the files, and compares the signatures afterwards.

    files: of the input; root: its file or folder.
    """
    found: dict[Path, str] = {}
    for file in files:
        with suppress(FileNotFoundError):  # deleted meanwhile: refuse_changed tells when the step reads it
            found[file] = signature(path_below(file, root), file.stat())
    return found


def visible_signatures(root: Path | None) -> dict[Path, str]:
    """`signatures` of every visible file of an input; {} without one. root: its file or folder."""
    return signatures([root] if root.is_file() else visible_files(root), root) if root else {}


def path_below(file: Path, root: Path) -> str:
    """The path of a file of an input, relative to its folder; the name, when the input is the file itself."""
    return file.relative_to(root).as_posix() if root in file.parents else file.name


def describe_files(
    sources: Sequence[Source], root: Path, before: Mapping[Path, str], growing: bool = False
) -> list[dict[str, Any]]:
    """The files of the sources, an entry for each source, as JSON can hold them:

    - columns: {name: type}, as the step reads them; in a CSV file each is text
    - delimiter: the character between two fields of CSV files; "" for others
    - files: a dictionary per file: path (below `root`), bytes, sha256, and of a Parquet file rows

    The digest of a file is the one that the runner has stored for it, or else the file is read once more, on two
    threads; rows and columns come from headers and footers.

    - root: the file or folder of the input.
    - before: what `signatures` returned before the step read the files.
    - growing: a file may have grown since as by has_only_grown, and the step has read what was there before.

    Raises UserError when a file has changed since, or is gone.
    """
    files = [file for source in sources for file in source.files]
    refuse_changed(files, root, before, growing)
    hashes = os.environ.get(HASHES_VARIABLE)
    known = stored_hashes(root, Path(hashes)) if hashes else {}

    def digest(file: Path) -> str:
        return known.get(before[file]) or hash_file(file, size_of(before[file]))

    with suppress(FileNotFoundError), ThreadPoolExecutor(2) as pool:
        digests = dict(zip(files, pool.map(digest, files), strict=True))
    refuse_changed(files, root, before, growing)
    return [
        {
            "columns": {name: str(type_) for name, type_ in source.columns.items()},
            "delimiter": source.delimiter,
            "files": [describe_file(file, root, size_of(before[file]), digests[file]) for file in source.files],
        }
        for source in sources
    ]


def refuse_changed(files: Sequence[Path], root: Path, before: Mapping[Path, str], growing: bool = False) -> None:
    """Check that these files of an input are those that the step has read. root, before, growing: as in describe_files.

    Raises UserError when one has changed since, or is gone.
    """
    for file in files:
        try:
            seen, now = before[file], signature(path_below(file, root), file.stat())
            same = seen == now or (growing and has_only_grown(seen, now))
        except (FileNotFoundError, KeyError):
            same = False
        if not same:
            raise UserError(
                f"{file}: changed, or was deleted, while it was read. Run again once nobody writes to it, or on a copy."
            )


def describe_file(file: Path, root: Path, size: int, sha256: str) -> dict[str, Any]:
    """The entry of one file in describe_files. size: its bytes."""
    found: dict[str, Any] = {"path": path_below(file, root), "bytes": size, "sha256": sha256}
    return found | ({"rows": pq.read_metadata(file).num_rows} if file.name.lower().endswith(PARQUET_SUFFIXES) else {})


def sources_of(
    before: Mapping[Path, str], root: Path, expected: Sequence[str] = (), growing: bool = False
) -> list[Source]:
    """Files by their columns; those that are no tables, such as JSON lines, are a Source without columns, the last one.

    before, root, growing: the files, as in describe_files; expected: column names that are looked for.

    Raises UserError for a file that has changed, and a table that cannot be read.
    """
    files = list(before)
    refuse_changed(files, root, before, growing)
    tables = [file for file in files if has_data_suffix(file)]
    others = tuple(file for file in files if file not in tables)
    found = group_by_header(tables, tuple(expected), root=root)
    return [*found, Source(others, {}, root=root)] if others else found
