"""Functions that compute fingerprints of files and folders: digests of their content.

Hashes of files are stored with their path, size, times and inode, so that an unchanged file is not read again. The
digest of a step's code is in pipeline/code.py.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scarcegan.jsonfile import find_json, write_json
from scarcegan.pipeline.code import digest_of, hash_file

SETTLED_NS = 2_000_000_000  # a file changed this recently may change again with the same time: its hash is not stored
Entry = tuple[str, int, str]  # path below the folder, bytes, SHA-256 ("" for a folder)


@dataclass(frozen=True)
class Fingerprint:
    """Digests and sizes that stand for the content of a folder or file. Digests are SHA-256 in hexadecimal.

    Paths are those below the folder, so that a moved folder keeps its digest. A single file has its name as its path.

    - digest: of the paths of all files and folders in it, and the contents of the files.
    - files: how many files there are.
    - size: the bytes of all files together.
    - stat_digest: of paths, sizes, times and inodes, as stat_digest_of returns it. It is quick to compute again, as no
      file is read; when it differs, somebody has written meanwhile.
    """

    digest: str
    files: int
    size: int
    stat_digest: str


def files_and_folders(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (path, os.stat_result) of every file and folder below a folder, at any depth, sorted by path.

    A path is relative to the folder and has "/" between its parts, none at the end. Links are followed; a link to a
    folder above it causes no endless walk. When `folder` is a file, only its name and stat are yielded.

    Raises OSError, before the first item, when `folder` or what a link points to does not exist, or a folder cannot be
    read.
    """
    found: dict[str, os.stat_result] = {}

    def visit(path: str, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        for entry in os.scandir(path):
            known = entry.stat()
            found[prefix + entry.name] = known
            here = (known.st_dev, known.st_ino)
            if entry.is_dir() and here not in above:
                visit(entry.path, f"{prefix}{entry.name}/", above | {here})

    if folder.is_dir():
        visit(str(folder), "", frozenset())
    else:
        found[folder.name] = folder.stat()
    yield from sorted(found.items())


def entries(folder: Path, known: dict[str, str] | None = None) -> list[Entry]:
    """Return (path, bytes, SHA-256 in hexadecimal) of every file below a folder, at any depth, and (path + "/", 0, "")
    of every folder, sorted by path.

    Paths are relative to `folder`. When `folder` is a file, it is the only entry, with its name as the path. Files are
    hashed on two threads.

    - known: `signature` of a file -> its SHA-256; such a file is not read.

    Raises OSError when something does not exist or cannot be read.
    """
    base = folder if folder.is_dir() else folder.parent
    known = {} if known is None else known
    listed = list(files_and_folders(folder))

    def entry(item: tuple[str, os.stat_result]) -> Entry:
        name, status = item
        if (status.st_mode & 0o170000) == 0o040000:
            return name + "/", 0, ""
        return name, status.st_size, known.get(signature(name, status)) or hash_file(base / name)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(entry, listed))


def signature(name: str, status: os.stat_result) -> str:
    """Return a text that changes when a file is written to or replaced, also when its time of change is set back
    afterwards.

    - name: the file's path below the folder that is read; it is part of the text.
    - status: the file's os.stat.
    """
    return f"{name}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"


def stat_digest_of(folder: Path) -> str:
    """Return a SHA-256, in hexadecimal, of the signatures of a file, or of all files and folders below a folder.

    No file is read. If the digest is the same before and after a step, nobody has written to them meanwhile.

    Raises OSError when something does not exist or a folder cannot be read.
    """
    return digest_of(signature(name, status) for name, status in files_and_folders(folder))


def has_changed(folder: Path, stat_digest: str) -> bool:
    """Return whether a file or folder differs from when its stat_digest was taken, or cannot be read any more."""
    try:
        return stat_digest_of(folder) != stat_digest
    except OSError:
        return True


def fingerprint_of(folder: Path, hashes: Path) -> Fingerprint:
    """Return the Fingerprint of a folder or file.

    - hashes: a folder, made when missing, in which the hashes of its files are stored, so that the next call for the
      same path does not read unchanged files again. Hashes of files that have just changed are not stored.

    Raises OSError when something does not exist or cannot be read, or when the hashes cannot be written.
    """
    stored = hashes / f"{digest_of([folder])[:32]}.json"
    known = find_json(stored) or {}
    listed = list(files_and_folders(folder))
    found = entries(folder, known)
    settled = time.time_ns() - SETTLED_NS
    fresh = {
        signature(name, status): content
        for (name, status), (_, _, content) in zip(listed, found, strict=True)
        if content and max(status.st_mtime_ns, status.st_ctime_ns) < settled
    }
    if fresh != known:
        hashes.mkdir(parents=True, exist_ok=True)
        write_json(stored, fresh)
    stat_digest = digest_of(signature(name, status) for name, status in listed)
    files = [entry for entry in found if entry[2]]
    return Fingerprint(digest_of(found), len(files), sum(size for _, size, _ in files), stat_digest)
