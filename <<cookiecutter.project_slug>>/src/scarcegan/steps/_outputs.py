"""Output folders of the steps, which may hold files of an earlier call when a step is run by hand."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scarcegan.local.durable import remove

PARTS = "part-*.parquet"


@contextmanager
def replacing_parts(folder: Path) -> Iterator[Path]:
    """Context manager: give a new folder for the files of a table, which then replace the table in `folder`.

    All PARTS in `folder`, and its files of the same names, are replaced at the end. After an error, all is as it was.
    folder: is made when it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as unfinished:
        yield Path(unfinished)
        for path in list(folder.glob(PARTS)):
            remove(path)
        for path in Path(unfinished).iterdir():
            os.replace(path, folder / path.name)


def remove_definitions(folder: Path, *names: str) -> None:
    """Delete the sub-folders that a step has written, one for each business definition, in an earlier call.

    They hold names[0], and nothing else than `names`. Of a link to a folder with names[0] only the link is deleted.
    """
    for path in list(folder.glob(f"*/{names[0]}")):
        if path.parent.is_symlink() or {inside.name for inside in path.parent.iterdir()} <= set(names):
            remove(path.parent)
