"""The cache of the local engine: the outputs of finished steps by cache key, a digest of all that a step depends on.

An entry is the folder `<cache>/<key>/` with a folder per output and `manifest.json`: names, sizes, times and hashes of
every file. It is renamed into place, so it is complete or not there. A run gets hard links to its files (copies where
the disk has no hard links), so an entry may be deleted at any time. RunPlan.key in plan.py computes the keys.
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
NO_HARD_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES)


@dataclass(frozen=True)
class Manifest:
    """What a finished step has written; the content of manifest.json.

    key: the cache key of the step.
    run: the id of the run whose process wrote it.
    seconds: how long that process took.
    outputs: name of an output -> (path below its folder, bytes, SHA-256, time of change in ns) of each file and folder;
    the path of a folder ends with "/", its other values are 0, "" and 0.
    """

    key: str
    run: str
    seconds: float
    outputs: Mapping[str, list[tuple[str, int, str, int]]]

    def digest(self, output: str) -> str:
        """Digest, in hexadecimal, of the names and contents of the output called `output`; times and
        runs do not count.
        """
        return digest_of((name, size, content) for name, size, content, _ in self.outputs[output])


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest.json of a folder, or None when it is missing or is not a valid manifest."""
    try:
        found = find_json(folder / MANIFEST)
        outputs = {name: [tuple(file) for file in files] for name, files in found["outputs"].items()}
        return Manifest(found["key"], found["run"], found["seconds"], outputs)
    except (TypeError, KeyError, AttributeError):
        return None


def finalise_outputs(folder: Path, outputs: Iterable[str], key: str, run: str, seconds: float) -> Manifest:
    """Make a step's outputs read-only, flush them to disk, write manifest.json beside them, and return the manifest.

    folder: holds a folder per output. outputs: their names. key, run, seconds: stored in the manifest, see Manifest.
    Raises ValueError for an output that is missing or holds a link or a special file.
    """
    listed = {output: finalise_output(folder / output, output) for output in outputs}
    manifest = Manifest(key, run, seconds, listed)
    write_json(folder / MANIFEST, asdict(manifest))
    sync(folder)
    return manifest


def finalise_output(folder: Path, output: str) -> list[tuple[str, int, str, int]]:
    """Make the files of one output read-only, flush them to disk, and return them as Manifest.outputs lists them.

    folder: of the output. output: its name, for the error message.
    Raises ValueError when it is missing or holds a link or a special file.
    """
    if not folder.is_dir():
        raise ValueError(f"the step ended with exit code 0 but wrote no output '{output}'")
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


def is_intact(folder: Path, manifest: Manifest) -> bool:
    """Whether every file and folder that a manifest lists is in `folder`/<output>, unchanged. Further files do
    not count.

    A file with the listed size and time of change counts as unchanged; one with another time is hashed again.
    """
    return all(
        is_unchanged(folder / output / name, size, content, changed)
        for output, files in manifest.outputs.items()
        for name, size, content, changed in [("", 0, "", 0), *files]
    )


def is_unchanged(path: Path, size: int, content: str, changed: int) -> bool:
    """Whether a file still has this size in bytes and this SHA-256 (`content`); False if it cannot be read.

    content "": whether the path is a folder. changed: the file's time of change in ns when it was hashed; a file that
    still has this time is not hashed again.
    """
    try:
        if not content:
            return path.is_dir()
        status = path.stat()
        return status.st_size == size and (status.st_mtime_ns == changed or hash_file(path) == content)
    except OSError:
        return False


class Cache:
    """The cache in `folder`. Several processes may use it: one that adds an entry must hold the lock of its
    key (RunsFolder.lock).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Manifest | None:
        """The manifest of the entry of a cache key; None when there is no entry, or a file of it is
        missing or changed.
        """
        manifest = read_manifest(self.folder / key)
        return manifest if manifest and manifest.key == key and is_intact(self.folder / key, manifest) else None

    def add(self, attempt: Path, key: str) -> None:
        """Move the folder `attempt`, after finalise_outputs, into the cache as the entry of a key; an older one
        is replaced.

        The caller must hold the lock of the key.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        old = self.folder / f".old-{key}"
        remove(old)
        with suppress(FileNotFoundError):
            os.rename(self.folder / key, old)
        os.rename(attempt, self.folder / key)
        sync(self.folder)
        remove(old)

    def link_outputs(self, manifest: Manifest, folder: Path) -> None:
        """Put the outputs of the entry of this manifest into `folder`, a run's folder of the step, as hard links; its
        log and manifest.json as copies.

        Each output replaces an older one in one rename; a log that is there already is kept.
        Raises FileNotFoundError when another process deletes or replaces the entry meanwhile.
        """
        folder.mkdir(parents=True, exist_ok=True)
        entry = self.folder / manifest.key
        for output, files in manifest.outputs.items():
            new = folder / f".new-{output}"
            remove(new)
            new.mkdir()
            for name, *_ in files:
                link_or_copy(entry / output / name, new / name)
            remove(folder / output)
            os.rename(new, folder / output)
        for name in (LOG, MANIFEST):
            if (entry / name).exists() and not (name == LOG and (folder / LOG).exists()):
                copy_completely(entry / name, folder / name)
        sync(folder)

    def keys(self) -> list[str]:
        """The cache keys of all entries, sorted; [] when the cache's folder is missing."""
        return sorted(path.name for path in self.folder.glob("[!.]*")) if self.folder.exists() else []


def copy_completely(source: Path, target: Path) -> None:
    """Copy the file `source` to `target`, which is replaced in one step, so it is complete or as before.

    It is used instead of a link for files that a later attempt at the step may write to.
    """
    new = target.with_name(f".new-{target.name}")
    shutil.copyfile(source, new)
    os.replace(new, target)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target`: a hard link to the file `source`, or a copy where hard links are not possible (NO_HARD_LINKS).

    When `source` is a folder, `target` becomes an empty folder. Other errors are raised as OSError.
    """
    if source.is_dir():
        target.mkdir()
        return
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        shutil.copy2(source, target)
