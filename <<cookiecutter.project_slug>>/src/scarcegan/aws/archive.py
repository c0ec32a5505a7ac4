"""Write and unpack .tar.gz files. Equal files give equal bytes; nothing is unpacked outside the chosen folder."""

import gzip
import io
import posixpath
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO


def pack(files: Mapping[str, Path], target: Path) -> Path:
    """Write files into a .tar.gz file, which is overwritten if it exists. Returns its path, which is `target`.

    - files: path inside the archive -> the file to read.
    - target: the file to write; its folder must exist.

    Times, owners and permissions of the files are left out, so equal files give equal bytes on every machine.
    """
    with target.open("wb") as raw:
        pack_into(raw, files)
    return target


def pack_into(stream: BinaryIO, files: Mapping[str, Path | bytes]) -> None:
    """Write files as a .tar.gz into an open binary stream, and leave the stream open. Equal files give equal bytes.

    - files: path inside the archive -> the file to read, or its content as bytes.
    """
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
    """Unpack the files of a tar archive, compressed or not, into a folder. Returns the folder.

    Folders are made as files need them, existing files are replaced, and empty folders of the archive are left out.

    - below: unpack only what lies in this folder of the archive (no slash at its end), without the folder's own name.
      When the archive has no such folder, nothing is written, and `folder` is not made. "" unpacks everything.

    Raises tarfile.TarError for a file that is no tar archive, for a link or special file anywhere in it, and for a path
    with ".." that would lead out of the folder; EOFError for a compressed archive that is cut off. Files before the
    faulty one are written by then. An absolute path is taken as one below the folder.
    """
    start = f"{below}/" if below else ""
    with tarfile.open(archive, "r:*") as packed:
        for entry in packed:
            name = posixpath.normpath(entry.name).lstrip("/")
            if not (entry.isfile() or entry.isdir()):
                raise tarfile.ExtractError(f"'{entry.name}' is a link or a special file")
            if entry.isfile() and name.startswith(start):
                if name.startswith("../"):
                    raise tarfile.ExtractError(f"'{entry.name}' leads out of the folder")
                write_entry(packed, entry, folder / name.removeprefix(start))
    return folder


def write_entry(packed: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    """Write one file of an open archive to `path`; its folder is made, an existing file is replaced.

    tarfile's own filters, which would do the same, came with Python 3.11.4; Debian 12 has 3.11.2.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    content = packed.extractfile(entry)
    assert content is not None
    with content, path.open("wb") as file:
        shutil.copyfileobj(content, file)
