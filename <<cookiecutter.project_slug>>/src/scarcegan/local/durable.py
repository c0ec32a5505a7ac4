"""Folders that survive a kill: names on disk, removal, and locks that die with their owner. JSON: jsonfile.py."""

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def sync(path: Path) -> None:
    """Have the disk hold a file's bytes or a folder's names before we go on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(folder: Path) -> None:
    """Delete a folder that may not be there and may hold folders without the right to write."""

    def unlock_and_retry(function: Any, path: str, _error: Any) -> None:
        with suppress(OSError):
            os.chmod(os.path.dirname(path), stat.S_IRWXU)
            function(path)

    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder, onerror=unlock_and_retry)
        if folder.exists():
            shutil.rmtree(folder)


class Lock:
    """A file lock (flock). It is free as soon as every process that holds its descriptor is gone, by kill -9 too.

    handle: the descriptor, to be inherited by a child that shall keep the lock held while it lives.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = -1

    def take(self) -> bool:
        """Take it unless somebody has it; never waits."""
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
        """Write into the lock's file who holds it."""
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, text.encode(), 0)

    def free(self) -> None:
        """Give it back, also for children that inherited it."""
        if self.handle >= 0:
            fcntl.flock(self.handle, fcntl.LOCK_UN)
            os.close(self.handle)
            self.handle = -1


def is_held(path: Path) -> bool:
    """Whether a living process has the lock."""
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
def held(path: Path) -> Iterator[bool]:
    """Try to take a lock for the length of a block; gives whether it was taken."""
    lock = Lock(path)
    try:
        yield lock.take()
    finally:
        lock.free()
