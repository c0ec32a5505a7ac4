"""One process of a step: started in its own session, watched, stopped with all it started, and measured."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from scarcegan.local.durable import Lock

TAIL_BYTES = 8192
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Process:
    """A running attempt. The child inherits the lock, so the lock is held while any of its processes lives."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], log: Path, lock: Lock, owner: Mapping[str, str]
    ) -> None:
        lock.note(json.dumps({**owner, "host": os.uname().nodename}) + "\n")
        self.log = log
        self.offset = log.stat().st_size if log.exists() else 0
        self.read_to = self.offset
        self.begun = time.monotonic()
        self.exit_code: int | None = None
        self.max_rss_bytes = 0
        self.last_line = ""
        parent = os.getpid()
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(environment),
                start_new_session=True,
                pass_fds=(lock.handle,),
                preexec_fn=lambda: in_child(lock.handle, parent),
            )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def poll(self) -> bool:
        """Whether it has ended; then nothing it started is left, and exit_code and max_rss_bytes are known."""
        if self.exit_code is not None:
            return True
        if hasattr(os, "waitid"):
            # Look without reaping: while the leader is a zombie, its group's number cannot be given to strangers.
            if os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            self.send(signal.SIGKILL)
        pid, status, usage = os.wait4(self.popen.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.exit_code = self.popen.returncode = os.waitstatus_to_exitcode(status)
        self.max_rss_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return True

    def send(self, number: int) -> None:
        """Signal the whole group; a group that is gone is fine."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, number)

    def new_line(self) -> str:
        """The last line written since the last call, or ""; a progress bar's carriage return ends a line too."""
        with suppress(OSError), open(self.log, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            if end > self.read_to:
                file.seek(max(self.read_to, end - TAIL_BYTES))
                lines = [line for line in text(file.read()).splitlines() if line.strip()]
                self.read_to = end
                self.last_line = lines[-1].strip() if lines else self.last_line
                return self.last_line if lines else ""
        return ""

    def tail(self) -> str:
        """The end of what this attempt wrote."""
        with suppress(OSError), open(self.log, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self.offset, end - TAIL_BYTES))
            return text(file.read()).strip()
        return ""


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def in_child(handle: int, parent: int) -> None:
    """Between fork and exec: say who holds the lock, and (Linux) die with the runner."""
    os.lseek(handle, 0, os.SEEK_END)
    os.write(handle, b"%d\n" % os.getpid())
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def owner_of(lock: Path) -> tuple[dict, int]:
    """Who wrote into a held lock, and the process group of its step (0: not known, or on another machine)."""
    try:
        first, *rest = lock.read_text(encoding="utf-8").splitlines()
        owner = json.loads(first)
        here = owner.get("host") == os.uname().nodename
        return owner, int(rest[0]) if rest and here else 0
    except (OSError, ValueError, IndexError):
        return {}, 0


def kill_group(group: int) -> None:
    """Kill what a dead runner left behind; its group's number is its own as long as one of it lives."""
    if group > 1:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
