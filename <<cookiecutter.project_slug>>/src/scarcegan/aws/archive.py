"""Write and unpack .tar.gz files. Equal files give equal bytes; nothing is unpacked outside the chosen folder."""

import hashlib
import io
import posixpath
import shutil
import struct
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

GZIP_HEAD = bytes.fromhex("1f8b08000000000000ff")  # deflate, no name, no time, no operating system
LONGEST_BLOCK = 0xFFFF  # bytes in a block of deflate that is stored as it is


class Writer(Protocol):
    """What an archive is written into: an open binary file, or anything else with its `write`."""

    def write(self, data: bytes, /) -> object: ...


def pack(files: Mapping[str, Path], target: Path) -> Path:
    """Write files into a .tar.gz file, which is overwritten if it exists. Returns its path, which is `target`.

    - files: path inside the archive -> the file to read.
    - target: the file to write; its folder must exist.

    Times, owners and permissions of the files are left out, so equal files give equal bytes on every machine.
    """
    with target.open("wb") as raw:
        pack_into(raw, files)
    return target


def pack_into(stream: Writer, files: Mapping[str, Path | bytes]) -> None:
    """Write files as a .tar.gz into a stream, and leave the stream open. Equal files give equal bytes.

    - files: path inside the archive -> the file to read, or its content as bytes.
    """
    zipped = StoredGzip(stream)
    with tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                entry.size = file.seek(0, io.SEEK_END)
                file.seek(0)
                archive.addfile(entry, file)
    zipped.close()


def packed_digest(files: Mapping[str, Path | bytes]) -> str:
    """Return the SHA-256, in hexadecimal, of the archive that `pack` makes of these files. Nothing is written."""
    digest = hashlib.sha256()
    pack_into(SimpleNamespace(write=digest.update), files)
    return digest.hexdigest()


class StoredGzip:
    """Writes what it is given as a gzip file without compressing it.

    Compressed bytes differ between versions of zlib. A digest of these bytes is the same on every machine, and can be
    computed again from the unpacked files. https://www.rfc-editor.org/rfc/rfc1951 (3.2.4) and rfc1952

    - stream: where the gzip file goes; it stays open.
    """

    def __init__(self, stream: Writer) -> None:
        self.stream, self.waiting, self.check, self.size = stream, bytearray(), 0, 0
        stream.write(GZIP_HEAD)

    def write(self, data: bytes) -> None:
        """Take more bytes of the file's content."""
        self.check, self.size = zlib.crc32(data, self.check), self.size + len(data)
        self.waiting += data
        while len(self.waiting) > LONGEST_BLOCK:
            self._store(LONGEST_BLOCK, last=False)

    def close(self) -> None:
        """Write the end of the gzip file."""
        self._store(len(self.waiting), last=True)
        self.stream.write(struct.pack("<II", self.check, self.size & 0xFFFFFFFF))

    def _store(self, length: int, *, last: bool) -> None:
        """Write the first `length` bytes that wait as a block of deflate. last: whether it is the last one."""
        self.stream.write(struct.pack("<BHH", last, length, length ^ 0xFFFF) + self.waiting[:length])
        del self.waiting[:length]


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
