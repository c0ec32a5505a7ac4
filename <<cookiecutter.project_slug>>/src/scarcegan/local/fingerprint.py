"""Functions that compute fingerprints of files and folders: digests of their content.

Hashes of files are stored with their path, size, times and inode, so that an unchanged file is not read again. The
digest of a step's code is in pipeline/code.py.
"""

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scarcegan.jsonfile import find_json, write_json
from scarcegan.pipeline.code import digest_of, hash_file

HASHES_VARIABLE = "SCARCEGAN_HASHES"  # environment variable of a step: the folder that fingerprint_of stores hashes in
SETTLED_NS = 2_000_000_000  # a file changed this recently may change again with the same time: its hash is not stored
APPENDED = ".jsonl"  # ending of files that a server appends captured requests to
Entry = tuple[str, int, str]  # path below the folder, bytes, SHA-256 ("" for a folder)


@dataclass(frozen=True)
class Fingerprint:
    """Digests and sizes that stand for the content of a folder or file. Digests are SHA-256 in hexadecimal.

    Paths are those below the folder, so that a moved folder keeps its digest. A single file has its name as its path.

    - digest: of the paths of all files and folders in it, and the contents of the files.
    - files: how many files there are.
    - size: the bytes of all files together.
    - signatures: as signatures_of returns them, for has_changed.
    """

    digest: str
    files: int
    size: int
    signatures: Mapping[str, str]


def files_and_folders(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (path, os.stat_result) of every file and folder below a folder, at any depth, sorted by path.

    A path is relative to the folder and has "/" between its parts, none at the end. Links are followed, each folder is
    entered once: a link that leads to one entered before, such as a folder above it, or nowhere, is listed with the
    stat of the link itself. When `folder` is a file, only its name and stat are yielded.

    Raises OSError, before the first item, when `folder` does not exist, a folder cannot be read, or there is a pipe or
    a device.
    """
    found: dict[str, os.stat_result] = {}
    entered: set[tuple[int, int]] = set()

    def visit(path: str, prefix: str, status: os.stat_result) -> None:
        entered.add((status.st_dev, status.st_ino))
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            known = stat_of(entry)
            is_folder, seen = stat.S_ISDIR(known.st_mode), (known.st_dev, known.st_ino) in entered
            found[prefix + entry.name] = entry.stat(follow_symlinks=False) if is_folder and seen else known
            if is_folder and not seen:
                visit(entry.path, f"{prefix}{entry.name}/", known)

    status = folder.stat()
    refuse_special_file(str(folder), status)
    if stat.S_ISDIR(status.st_mode):
        visit(str(folder), "", status)
    else:
        found[folder.name] = status
    yield from sorted(found.items())


def stat_of(entry: "os.DirEntry[str]") -> os.stat_result:
    """Return the stat of what an entry of a folder is or leads to; that of the link itself if it leads nowhere.

    Raises OSError for a pipe or a device.
    """
    try:
        status = entry.stat()
    except OSError:
        status = entry.stat(follow_symlinks=False)
    refuse_special_file(entry.path, status)
    return status


def refuse_special_file(path: str, status: os.stat_result) -> None:
    """Raise OSError for what is no file, folder or link, as whoever reads a pipe may wait for ever.

    status: the path's os.stat.
    """
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise OSError(errno.EINVAL, "a pipe or a device, not a file", path)


def entries(
    folder: Path, known: Mapping[str, str] | None = None, listed: Sequence[tuple[str, os.stat_result]] | None = None
) -> list[Entry]:
    """Return (path, bytes, SHA-256 in hexadecimal) of every file below a folder, at any depth, and (path + "/", 0, "")
    of every folder, sorted by path.

    Paths are relative to `folder`. When `folder` is a file, it is the only entry, with its name as the path. A link
    that is not followed has 0 bytes and the hash of where it leads. Files are hashed on two threads.

    - known: `signature` of a file -> its SHA-256; such a file is not read.
    - listed: what files_and_folders has yielded, if the caller knows.

    Raises OSError when something does not exist or cannot be read.
    """
    base = folder if folder.is_dir() else folder.parent
    known = {} if known is None else known
    listed = list(files_and_folders(folder)) if listed is None else listed

    def entry(item: tuple[str, os.stat_result]) -> Entry:
        name, status = item
        if stat.S_ISDIR(status.st_mode):
            return name + "/", 0, ""
        if stat.S_ISLNK(status.st_mode):
            return name, 0, digest_of([os.readlink(base / name)])
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


def size_of(signature: str) -> int:
    """Return the bytes of the file that a `signature` is of."""
    return int(signature.rsplit("|", 4)[1])


def has_only_grown(before: str, now: str) -> bool:
    """Return whether two signatures are of one file whose name ends with APPENDED and that is no shorter now."""
    (name, size, *_, inode), (now_name, now_size, *_, now_inode) = before.rsplit("|", 4), now.rsplit("|", 4)
    appended = name.lower().endswith(APPENDED) and int(now_size) >= int(size)
    return appended and (name, inode) == (now_name, now_inode)


def signatures_of(listed: Iterable[tuple[str, os.stat_result]]) -> dict[str, str]:
    """Return path -> `signature` of what files_and_folders yields; the path of a folder ends with "/"."""
    return {name + "/" * stat.S_ISDIR(status.st_mode): signature(name, status) for name, status in listed}


def has_changed(folder: Path, before: Mapping[str, str]) -> bool:
    """Return whether a file or folder differs from when its signatures were taken, or cannot be read any more.

    Requests that a server captures meanwhile are no change: files that have only grown (has_only_grown), and new ones
    whose names end with APPENDED, also in new folders. No file is read.

    before: as signatures_of returns them.
    """
    try:
        now = signatures_of(files_and_folders(folder))
    except OSError:
        return True
    new = now.keys() - before.keys()
    with_new = {name.rstrip("/").rpartition("/")[0] + "/" for name in new}
    same = (
        name in now and (now[name] == text or name in with_new or has_only_grown(text, now[name]))
        for name, text in before.items()
    )
    return not all(same) or not all(name.lower().endswith((APPENDED, "/")) for name in new)


def fingerprint_of(folder: Path, hashes: Path) -> Fingerprint:
    """Return the Fingerprint of a folder or file.

    - hashes: a folder, made when missing, in which the hashes of its files are stored, so that the next call for the
      same path does not read unchanged files again. Hashes of files that have just changed are not stored.

    Raises OSError when something does not exist or cannot be read, or when the hashes cannot be written.
    """
    known = stored_hashes(folder, hashes)
    listed = list(files_and_folders(folder))
    found = entries(folder, known, listed)  # the same list, as a server may add a file meanwhile
    settled = time.time_ns() - SETTLED_NS
    fresh = {
        signature(name, status): content
        for (name, status), (_, _, content) in zip(listed, found, strict=True)
        if content and max(status.st_mtime_ns, status.st_ctime_ns) < settled
    }
    if fresh != known:
        hashes.mkdir(parents=True, exist_ok=True)
        write_json(hashes_file(folder, hashes), fresh)
    files = sum(stat.S_ISREG(status.st_mode) for _, status in listed)
    return Fingerprint(digest_of(found), files, sum(size for _, size, _ in found), signatures_of(listed))


def stored_hashes(folder: Path, hashes: Path) -> dict[str, str]:
    """Return `signature` of a file -> its SHA-256, as fingerprint_of has stored them in `hashes` for a folder or file;
    {} when it has not.
    """
    found = find_json(hashes_file(folder, hashes))
    return found if isinstance(found, dict) else {}


def hashes_file(folder: Path, hashes: Path) -> Path:
    """Return the path of the file in `hashes` that stores the hashes of the files of a folder or file."""
    return hashes / f"{digest_of([folder])[:32]}.json"
