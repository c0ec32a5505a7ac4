"""Fingerprints of folders: short digests of their content. What code a step depends on is pipeline/code.py's question.

Hashes of big files are remembered by path, size, times and inode, so that a second look costs a stat.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scarcegan.jsonfile import find_json, write_json
from scarcegan.pipeline.code import digest_of, hash_file

SETTLED_NS = 2_000_000_000  # a file touched this recently may change again within the clock's grain: not remembered
Entry = tuple[str, int, str]  # path below the folder, bytes, SHA-256 ("" for a folder)


@dataclass(frozen=True)
class Fingerprint:
    """digest: of names and contents; files and size (bytes) for people to read; looks: of names, sizes and times."""

    digest: str
    files: int
    size: int
    looks: str


def walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file and folder below, as (path with '/', stat), links followed, sorted by path; loops are cut."""
    found: dict[str, os.stat_result] = {}

    def visit(place: str, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        for entry in os.scandir(place):
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
    """Content of a folder or a file, hashed on two threads. known: signature -> hash, from an earlier look."""
    base = folder if folder.is_dir() else folder.parent
    known = {} if known is None else known
    listed = list(walk(folder))

    def entry(item: tuple[str, os.stat_result]) -> Entry:
        name, status = item
        if (status.st_mode & 0o170000) == 0o040000:
            return name + "/", 0, ""
        return name, status.st_size, known.get(signature(name, status)) or hash_file(base / name)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(entry, listed))


def signature(name: str, status: os.stat_result) -> str:
    """Changes whenever the file is written to, replaced or has its times put back (ctime cannot be)."""
    return f"{name}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"


def looks_of(folder: Path) -> str:
    """Digest of names, sizes and times only: equal before and after means that nobody wrote meanwhile."""
    return digest_of(signature(name, status) for name, status in walk(folder))


def fingerprint_of(folder: Path, memory: Path) -> Fingerprint:
    """Fingerprint of a source. memory: folder with the hashes of earlier looks. OSError when it cannot be read."""
    remembered = memory / f"{digest_of([folder])[:32]}.json"
    known = find_json(remembered) or {}
    listed = list(walk(folder))
    found = entries(folder, known)
    settled = time.time_ns() - SETTLED_NS
    fresh = {
        signature(name, status): content
        for (name, status), (_, _, content) in zip(listed, found, strict=True)
        if content and max(status.st_mtime_ns, status.st_ctime_ns) < settled
    }
    if fresh != known:
        memory.mkdir(parents=True, exist_ok=True)
        write_json(remembered, fresh)
    looks = digest_of(signature(name, status) for name, status in listed)
    files = [entry for entry in found if entry[2]]
    return Fingerprint(digest_of(found), len(files), sum(size for _, size, _ in files), looks)
