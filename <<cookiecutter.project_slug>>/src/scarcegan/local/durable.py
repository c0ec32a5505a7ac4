"""Functions that flush, delete and lock files and folders that must survive a killed process. JSON: jsonfile.py."""

import fcntl
import itertools
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk and would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(folder: Path) -> None:
    """Delete the file, link or folder at this path; a folder with all it holds, a link without what it points to.

    Read-only folders are made writable first. A path that does not exist, or that another process deletes at the same
    time, is ignored.

    Raises OSError when something cannot be deleted.
    """
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        make_folders_writable(folder)
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def make_folders_writable(folder: Path) -> None:
    """Let the owner list and change a folder and all folders below it, where that is allowed. Links are left alone."""
    paths = itertools.chain([str(folder)], (os.path.join(a, name) for a, names, _ in os.walk(folder) for name in names))
    for path in paths:
        if not os.path.islink(path):
            with suppress(OSError):
                os.chmod(path, stat.S_IRWXU)


class Lock:
    """An exclusive lock between processes on the file at `path` (flock). Creating the object does not take the lock.

    The lock is released by `free`, or when every process that holds its descriptor has ended, also by kill -9.

    - handle: the descriptor of the file; -1 while this object does not hold the lock. A child process that inherits the
      descriptor keeps the lock held.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = -1

    def take(self) -> bool:
        """Take the lock without waiting, and return whether it was taken.

        False when it is held, by another Lock or by this one, or when the file is deleted meanwhile. The file and its
        parent folders are made when missing.

        Raises OSError when the file cannot be made, such as IsADirectoryError when a folder is in its place.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == os.stat(self.path).st_ino:
                self.handle = handle
                return True
        except (BlockingIOError, FileNotFoundError):
            pass  # held by another, or deleted by `clean` in between: the next try makes a new file
        os.close(handle)
        return False

    def note(self, text: str) -> None:
        """Replace the content of the lock's file by `text`, which tells other processes who holds the lock.

        Call it only while this object holds the lock.
        """
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, text.encode(), 0)

    def free(self) -> None:
        """Release the lock, also for child processes that inherited it. Does nothing when it is not held."""
        if self.handle >= 0:
            fcntl.flock(self.handle, fcntl.LOCK_UN)
            os.close(self.handle)
            self.handle = -1


def is_held(path: Path) -> bool:
    """Return whether a process, also this one, holds a Lock on the file. False for a file that is missing or cannot be
    opened for writing.
    """
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


@contextmanager
def lock_if_free(path: Path) -> Iterator[bool]:
    """Context manager: try, without waiting, to take the lock on a file, and release it after the block.

    Yields whether the lock was taken; the block runs in both cases. The file and its parent folders are made when
    missing.
    """
    lock = Lock(path)
    try:
        yield lock.take()
    finally:
        lock.free()
