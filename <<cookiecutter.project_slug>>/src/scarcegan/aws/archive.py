"""Archives of files: written so that the same files give the same bytes, unpacked so that nothing leaves the folder."""

import gzip
import io
import posixpath
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO


def pack(files: Mapping[str, Path], target: Path) -> Path:
    """Write a .tar.gz file; returns it.

    - files: path inside the archive -> the file.

    No times and no owners are kept, so the same files give the same bytes wherever they are written.
    """
    with target.open("wb") as raw:
        pack_into(raw, files)
    return target


def pack_into(stream: BinaryIO, files: Mapping[str, Path | bytes]) -> None:
    """Write a .tar.gz, as `pack` does, into an open stream; a file may be given as its content."""
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                entry.size = file.seek(0, io.SEEK_END)
                file.seek(0)
                archive.addfile(entry, file)


def unpack(archive: Path, folder: Path, below: str = "") -> Path:
    """Unpack an archive into a folder; returns the folder.

    - below: the folder inside the archive whose content is wanted, without its own name; empty: everything.

    Raises tarfile.TarError for a link, a special file, or a path that leads out of the folder: a model needs none.
    """
    start = f"{below}/" if below else ""
    with tarfile.open(archive, "r:*") as packed:
        for entry in packed:
            entry.name = posixpath.normpath(entry.name)
            if not (entry.isfile() or entry.isdir()):
                raise tarfile.SpecialFileError(entry)
            if entry.isfile() and entry.name.startswith(start):
                entry.name = entry.name.removeprefix(start)
                packed.extract(entry, folder, filter="data")
    return folder
