"""Write and unpack .tar.gz files. Equal files give equal bytes; nothing is unpacked outside the chosen folder, and
nothing of an archive that is damaged or far too large.
"""

import errno
import gzip
import hashlib
import io
import os
import posixpath
import shutil
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from scarcegan.errors import UserError, shortened

GZIP = b"\x1f\x8b"
GZIP_HEAD = bytes.fromhex("1f8b08000000000000ff")  # deflate, no name, no time, no operating system
LONGEST_BLOCK = 0xFFFF  # bytes in a block of deflate that is stored as it is
# A model with its curves has some MB and some hundred files. These are far above that, and fit a job's disk. The
# register function has 4 GiB, and fails with a message of its own when they are full.
MOST_BYTES = 10 * 2**30
MOST_MEMBERS = 100_000
# Weights hardly shrink, JSON shrinks to a tenth, zeros to a thousandth. Below FREE_BYTES any content is taken.
MOST_RATIO = 100
FREE_BYTES = 100 * 2**20
BAD_NAMES = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
# Headers are read into memory whole, and the register function has 1 GiB. A name has 4 KiB at most.
MOST_READ = 2**20  # bytes at once: a header, or a piece of a file; also of all headers before one file
MOST_HEADERS = 64 * 2**20  # bytes in all: those of MOST_MEMBERS files without long names have 49 MiB
MOST_CHAINED = 8  # headers before one file; GNU tar writes up to four


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


class Refused(UserError):
    """An archive that is damaged, too large, or would write outside its folder. Nothing of it was unpacked."""


class Limited(io.RawIOBase):
    """A stream of the content of a .tar or .tar.gz that ends with Refused where it is far more than a model can be.

    Python's tarfile reads headers whole, so one read and what is read inside `header` are limited too.
    """

    def __init__(self, content: Any, packed_bytes: int) -> None:
        super().__init__()
        self.content = content
        self.depth = self.reads = self.before_file = self.in_headers = 0
        self.most = min(MOST_BYTES, max(FREE_BYTES, MOST_RATIO * packed_bytes))

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_READ:
            raise Refused(f"a header of {size:,} bytes")
        if self.depth:
            self.count_header(size)
        found = self.content.read(size)
        self.allow(self.content.tell())
        return found

    @contextmanager
    def header(self) -> Iterator[None]:
        """Context manager inside which the headers of one file are read. Some Pythons enter it for each of them."""
        if not self.depth:
            self.reads = self.before_file = 0
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def count_header(self, size: int) -> None:
        """Count a read inside `header`. Raises Refused for too many headers before one file, and for too many bytes."""
        self.reads += 1
        self.before_file += size
        self.in_headers += size
        if self.reads > 2 * MOST_CHAINED + 1:  # of each the header and its content, and the file's own header
            raise Refused(f"more than {MOST_CHAINED} headers before one file")
        if self.before_file > MOST_READ:
            raise Refused(f"headers of more than {MOST_READ:,} bytes before one file")
        if self.in_headers > MOST_HEADERS:
            raise Refused(f"headers of more than {MOST_HEADERS:,} bytes in all")

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        self.allow(place)
        return self.content.seek(place, whence)

    def tell(self) -> int:
        return self.content.tell()

    def allow(self, end: int) -> None:
        """Raises Refused when the content up to `end` is too large."""
        if end > self.most:
            raise Refused(f"more than {self.most:,} bytes of content")


class Member(tarfile.TarInfo):
    """A file of an archive whose stream is a Limited one, which counts its headers."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Any:
        """Read the headers of the next file."""
        with tarfile.fileobj.header():
            return super().fromtarfile(tarfile)


def unpack(archive: Path, folder: Path, below: str = "") -> Path:
    """Unpack the files of a .tar or .tar.gz into a folder, all of them or none. Returns the folder.

    Folders are made as files need them, existing files are replaced, and empty folders of the archive are left out.

    - below: unpack only what lies in this folder of the archive (no slash at its end), without the folder's own name.
      When the archive has no such folder, nothing is written, and `folder` is not made. "" unpacks everything.

    An absolute path is taken as one below the folder.

    Raises Refused for a file that is no such archive or is cut off, for a link or special file anywhere in it, for a
    path with ".." that would lead out of the folder, for names that cannot all be files, for more content, files or
    headers than the limits at the top of this file allow, and for a file or folder that is in the way of another kind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        try:
            names = unpack_into(Path(work), archive, f"{below}/" if below else "")
        except (Refused, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Refused(
                f"{archive.name} was not unpacked: {str(error).rstrip('.')}. It is damaged, or this project did not "
                "write it. Copy or train it again."
            ) from error
        for name in names:
            refuse_in_the_way(archive, folder, name)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(work) / name, folder / name)
    return folder


def refuse_in_the_way(archive: Path, folder: Path, name: str) -> None:
    """Raises Refused when a file of an archive cannot be written: a folder is at its place, or a file where its folder
    would be.

    - name: of the file, in the folder.
    """
    target = folder / name
    above = [folder, *(folder / part for part in Path(name).parents)]
    hindrance = [target] if target.is_dir() else [one for one in above if one.exists() and not one.is_dir()]
    if hindrance:
        raise Refused(f"{archive.name} was not unpacked: {hindrance[0]} is in the way. Move it away, then try again.")


def unpack_into(work: Path, archive: Path, start: str) -> list[str]:
    """Unpack the files whose names begin with `start` into an empty folder. Returns their names without `start`.

    Raises Refused, or an error of tarfile, gzip or zlib, as `unpack` says.
    """
    names: dict[str, None] = {}
    with archive.open("rb") as raw:
        zipped = raw.read(2) == GZIP
        raw.seek(0)
        with gzip.GzipFile(fileobj=raw) if zipped else raw as content:  # type: ignore[attr-defined]
            stream = Limited(content, archive.stat().st_size)
            with tarfile.open(fileobj=stream, mode="r:", tarinfo=Member) as packed:  # type: ignore[call-overload]
                for count, entry in enumerate(packed, 1):
                    # tarfile would keep every header, also the global ones, which pack does not write
                    packed.members.clear()  # type: ignore[attr-defined]
                    packed.pax_headers.clear()  # type: ignore[attr-defined]
                    name = posixpath.normpath(entry.name).lstrip("/")
                    if count > MOST_MEMBERS:
                        raise Refused(f"more than {MOST_MEMBERS:,} files")
                    if not (entry.isfile() or entry.isdir()):
                        raise Refused(f"'{shortened(entry.name)}' is a link or a special file")
                    if entry.isfile() and name.startswith(start):
                        if name == ".." or name.startswith("../"):
                            raise Refused(f"'{shortened(entry.name)}' leads out of the folder")
                        stream.allow(stream.tell() + entry.size)
                        write_entry(packed, entry, work / name.removeprefix(start))
                        names[name.removeprefix(start)] = None
            while zipped and stream.read(MOST_READ):  # the checksum is at the end
                pass
    return list(names)


def write_entry(packed: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    """Write one file of an open archive to `path`; its folder is made, an existing file is replaced.

    tarfile's own filters, which would do the same, came with Python 3.11.4; Debian 12 has 3.11.2.

    Raises Refused for a name that no file can have, or not beside the archive's other files.
    """
    content = packed.extractfile(entry)
    assert content is not None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            path.unlink()
        file = path.open("wb")
    except OSError as error:
        if error.errno not in BAD_NAMES:
            raise
        raise Refused(f"'{shortened(entry.name)}' cannot be a file there ({error.strerror})") from error
    with content, file:
        shutil.copyfileobj(content, file)
