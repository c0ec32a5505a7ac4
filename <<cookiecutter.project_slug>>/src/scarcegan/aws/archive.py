"""Archives of files: written so that the same files give the same bytes, unpacked so that nothing leaves the folder."""

import gzip
import posixpath
import tarfile
from collections.abc import Mapping
from pathlib import Path


def pack(files: Mapping[str, Path], target: Path) -> Path:
    """Write a .tar.gz of path inside -> file. Names, times and owners are the same wherever it is written."""
    with (
        open(target, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, path in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(entry, file)
    return target


def unpack(archive: Path, folder: Path, below: str = "") -> Path:
    """Unpack what lies below a folder of the archive; that folder's own name is left out."""
    start = f"{below}/" if below else ""
    with tarfile.open(archive, "r:*") as packed:
        for entry in packed:
            name = posixpath.normpath(entry.name)
            if entry.isfile() and name.startswith(start):
                entry.name = name.removeprefix(start)
                packed.extract(entry, folder, filter="data")
    return folder
