"""The cache: finished outputs by key. An entry appears in one rename, whole and on disk, or not at all.

`<folder>/<key>/` holds a folder per output and `manifest.json`: names, sizes, times and hashes of every file. A run
gets its own names for these files (hard links, or copies where the disk has none), so an entry may be deleted at any
time.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from scarcegan.jsonfile import find_json, write_json
from scarcegan.local.durable import remove, sync
from scarcegan.local.fingerprint import entries
from scarcegan.pipeline.code import digest_of, hash_file

MANIFEST = "manifest.json"
LOG = "log.txt"
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES)


@dataclass(frozen=True)
class Manifest:
    """What a finished step wrote. outputs: name -> (path, bytes, hash, mtime in ns) per file; folders end in '/'."""

    key: str
    run: str
    seconds: float
    outputs: Mapping[str, list[tuple[str, int, str, int]]]

    def digest(self, output: str) -> str:
        """Digest of an output's names and contents, equal for equal outputs of different runs."""
        return digest_of((name, size, content) for name, size, content, _ in self.outputs[output])


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in a folder, or None when there is none or it cannot be understood."""
    try:
        found = find_json(folder / MANIFEST)
        outputs = {name: [tuple(file) for file in files] for name, files in found["outputs"].items()}
        return Manifest(found["key"], found["run"], found["seconds"], outputs)
    except (TypeError, KeyError, AttributeError):
        return None


def seal(folder: Path, outputs: Iterable[str], key: str, run: str, seconds: float) -> Manifest:
    """Make the outputs in a folder read-only, have them on disk, and write their manifest beside them.

    Raises ValueError for an output that is missing or holds anything but plain files and folders.
    """
    listed = {output: seal_output(folder / output, output) for output in outputs}
    manifest = Manifest(key, run, seconds, listed)
    write_json(folder / MANIFEST, asdict(manifest))
    sync(folder)
    return manifest


def seal_output(folder: Path, output: str) -> list[tuple[str, int, str, int]]:
    if not folder.is_dir():
        raise ValueError(f"the step ended well but wrote no output '{output}'")
    for path in [folder, *sorted(folder.rglob("*"))]:
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ValueError(f"output '{output}' holds {path.name}, a link or a special file; write plain files")
        if path.is_file():
            path.chmod(path.stat().st_mode & 0o555)
        sync(path)
    return [
        (name, size, content, 0 if name.endswith("/") else (folder / name).stat().st_mtime_ns)
        for name, size, content in entries(folder)
    ]


def intact(folder: Path, manifest: Manifest) -> bool:
    """Whether every file of the manifest is there as it was. A file whose time has changed is read again."""
    return all(
        same(folder / output / name, size, content, changed)
        for output, files in manifest.outputs.items()
        for name, size, content, changed in [("", 0, "", 0), *files]
    )


def same(path: Path, size: int, content: str, changed: int) -> bool:
    try:
        if not content:
            return path.is_dir()
        status = path.stat()
        return status.st_size == size and (status.st_mtime_ns == changed or hash_file(path) == content)
    except OSError:
        return False


class Cache:
    """The entries of one runs folder. Several processes may use it at once; see local.py for the lock of each key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def look_up(self, key: str) -> Manifest | None:
        """The entry's manifest when all of its files are intact; a damaged entry counts as none."""
        manifest = read_manifest(self.folder / key)
        return manifest if manifest and manifest.key == key and intact(self.folder / key, manifest) else None

    def add(self, attempt: Path, key: str) -> None:
        """Move a sealed attempt in as the entry of this key, in the place of an older one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        old = self.folder / f".old-{key}"
        remove(old)
        with suppress(FileNotFoundError):
            os.rename(self.folder / key, old)
        os.rename(attempt, self.folder / key)
        sync(self.folder)
        remove(old)

    def hand_out(self, manifest: Manifest, folder: Path) -> None:
        """Give a run's step folder its outputs. OSError when the entry disappears meanwhile; look again then."""
        folder.mkdir(parents=True, exist_ok=True)
        entry = self.folder / manifest.key
        for output, files in manifest.outputs.items():
            new = folder / f".new-{output}"
            remove(new)
            new.mkdir()
            for name, *_ in files:
                link(entry / output / name, new / name)
            remove(folder / output)
            os.rename(new, folder / output)
        for name in (LOG, MANIFEST):
            if (entry / name).exists() and not (name == LOG and (folder / LOG).exists()):
                hand_out_text(entry / name, folder / name)
        sync(folder)

    def keys(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("[!.]*")) if self.folder.exists() else []


def hand_out_text(source: Path, target: Path) -> None:
    """Copy a small file whole or not at all (never a link: a later attempt may write to it)."""
    new = target.with_name(f".new-{target.name}")
    shutil.copyfile(source, new)
    os.replace(new, target)


def link(source: Path, target: Path) -> None:
    """Another name for the file, or a copy where the disk cannot; a folder is made."""
    if source.is_dir():
        target.mkdir()
        return
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copy2(source, target)
