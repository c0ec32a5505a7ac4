"""The cache of the local engine: the outputs of finished steps by cache key, a digest of all that a step depends on.

An entry is the folder `<cache>/<key>/` with a folder per output, the step's `log.txt`, and `manifest.json`: paths,
sizes, times and hashes of every file. An entry is renamed into place, so it is complete or not there. A run gets hard
links to its files (copies where the disk has no hard links), so an entry may be deleted at any time. RunPlan.key in
plan.py computes the keys.
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
    """The list of what a finished step wrote; manifest.json holds the same fields.

    - key: the cache key of the step.
    - run: the id of the run whose process wrote the outputs.
    - seconds: how long that process ran.
    - outputs: name of an output -> (path below the output's folder, bytes, SHA-256 in hexadecimal, time of the last
      change in ns) for each file and folder in it, sorted by path. A folder's path ends with "/"; its other values are
      0, "" and 0.
    """

    key: str
    run: str
    seconds: float
    outputs: Mapping[str, list[tuple[str, int, str, int]]]

    def digest(self, output: str) -> str:
        """Return a SHA-256, in hexadecimal, of the paths, sizes and contents in one output.

        Equal content gives an equal digest, whichever run wrote it, when, and under which name of the output.

        - output: the name of the output.
        """
        return digest_of((name, size, content) for name, size, content, _ in self.outputs[output])


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest.json in a folder and return it; None when the file is missing or is no valid manifest."""
    try:
        found = find_json(folder / MANIFEST)
        outputs = {name: [tuple(file) for file in files] for name, files in found["outputs"].items()}
        return Manifest(found["key"], found["run"], found["seconds"], outputs)
    except (TypeError, KeyError, AttributeError):
        return None


def finalise_outputs(folder: Path, outputs: Iterable[str], key: str, run: str, seconds: float) -> Manifest:
    """Make the files of a step's outputs read-only, flush them to disk, and write manifest.json. Returns the manifest.

    - folder: the folder that holds a folder per output; manifest.json is written into it.
    - outputs: the names of the outputs.
    - key, run, seconds: as in Manifest.

    Raises ValueError for an output that is missing, or that holds a link or a special file such as a pipe.
    """
    listed = {output: finalise_output(folder / output, output) for output in outputs}
    manifest = Manifest(key, run, seconds, listed)
    write_json(folder / MANIFEST, asdict(manifest))
    sync(folder)
    return manifest


def finalise_output(folder: Path, output: str) -> list[tuple[str, int, str, int]]:
    """Make the files of one output read-only, flush them to disk, and return the output's list for Manifest.outputs.

    - folder: the output's folder.
    - output: its name, for the error message.

    Raises ValueError when the folder is missing, or holds a link or a special file such as a pipe.
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
    """Return whether `folder` still holds, unchanged, every file and folder that a manifest lists.

    A file with the listed size and time of change counts as unchanged; one with the listed size and another time is
    hashed. Files that are not listed do not matter.

    - folder: holds a folder per output.
    """
    return all(
        is_unchanged(folder / output / name, size, content, changed)
        for output, files in manifest.outputs.items()
        for name, size, content, changed in [("", 0, "", 0), *files]
    )


def is_unchanged(path: Path, size: int, content: str, changed: int) -> bool:
    """Return whether a file still has its former size and content; False when it is missing or cannot be read.

    - size: its former size in bytes.
    - content: its former SHA-256 in hexadecimal; "" asks only whether the path is a folder.
    - changed: the time of its last change, in ns, when it was hashed. Only a file that has another time now is hashed
      again.
    """
    try:
        if not content:
            return path.is_dir()
        status = path.stat()
        return status.st_size == size and (status.st_mtime_ns == changed or hash_file(path) == content)
    except OSError:
        return False


class Cache:
    """The cache of finished steps in `folder`, with one entry per cache key.

    Several processes may use it at once; one that adds an entry must hold the lock of its key (RunsFolder.lock).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Manifest | None:
        """Return the manifest of a cache key's entry.

        None when there is no entry, or when a file or folder of its outputs is missing or a file has changed.
        """
        manifest = read_manifest(self.folder / key)
        return manifest if manifest and manifest.key == key and is_intact(self.folder / key, manifest) else None

    def add(self, attempt: Path, key: str) -> None:
        """Move the folder `attempt` into the cache as the entry of a key. An older entry of the key is deleted.

        - attempt: a folder, on the same disk as the cache, for which finalise_outputs was called.

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
        """Link the outputs of a manifest's entry into `folder`; where the disk has no hard links, copy them.

        The entry's log.txt and manifest.json are copied there too. In `folder`, outputs of the same names and a
        manifest.json are replaced; a log.txt stays as it is.

        - folder: the step's folder in a run; it is made when missing.

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
        """Return the cache keys of all entries, sorted; [] when the cache's folder is missing."""
        return sorted(path.name for path in self.folder.glob("[!.]*")) if self.folder.exists() else []


def copy_completely(source: Path, target: Path) -> None:
    """Copy the content of the file `source` to `target`, which is replaced in one step when it exists.

    If the process is killed, `target` is complete or as it was. A copy is used instead of a hard link for files that a
    later attempt at the step may write to.
    """
    new = target.with_name(f".new-{target.name}")
    shutil.copyfile(source, new)
    os.replace(new, target)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to the file `source`, or a copy with the same times where the link fails with an error
    in NO_HARD_LINKS.

    When `source` is a folder, `target` becomes an empty folder.

    Raises OSError for every other error, such as a target that exists.
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
