"""The process of a step: it starts in a session of its own, and is stopped together with all processes it started."""

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
    """The process of a step; creating the object starts it.

    - command, environment: its command line, and all its environment variables.
    - log: the file to which its stdout and stderr are appended.
    - lock: a lock that the caller holds. The step's process inherits it, so that it stays held as long as that process
      or a child of it lives.
    - owner: {"run": id of the run, "step": name}; it is written into the lock's file, with the host's name.
    - exit_code: None until `poll` sees the end; minus the number of the signal if one killed it.
    - max_rss_bytes: its largest memory; 0 until `poll` sees the end.
    """

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
                preexec_fn=lambda: prepare_child(lock.handle, parent),
            )

    @property
    def seconds(self) -> float:
        """The seconds since the process was started. They go on counting after its end."""
        return time.monotonic() - self.begun

    def poll(self) -> bool:
        """Return, without waiting, whether the process has ended.

        At its end exit_code and max_rss_bytes are set, and processes that it started and that still run are killed
        (SIGKILL; not on a system without os.waitid).
        """
        if self.exit_code is not None:
            return True
        if hasattr(os, "waitid"):
            # WNOWAIT leaves the process a zombie, so that no other process gets its group's number before the kill.
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
        """Send the signal with this number to all processes of the process's group: itself and those that it has
        started. Does nothing when they have ended.
        """
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, number)

    def new_line(self) -> str:
        """Return the last line with text, stripped, among those that the log has got since the last call of this
        method, or since the process started; "" if there is none.

        The line may be unfinished. A carriage return also ends a line, as progress bars use it.
        """
        with suppress(OSError), open(self.log, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            if end > self.read_to:
                file.seek(max(self.read_to, end - TAIL_BYTES))
                lines = [line for line in decoded(file.read()).splitlines() if line.strip()]
                self.read_to = end
                self.last_line = lines[-1].strip() if lines else self.last_line
                return self.last_line if lines else ""
        return ""

    def tail(self) -> str:
        """Return the end, at most TAIL_BYTES, of what this process wrote to the log, as text; "" if the log cannot be
        read.
        """
        with suppress(OSError), open(self.log, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self.offset, end - TAIL_BYTES))
            return decoded(file.read()).strip()
        return ""


def decoded(data: bytes) -> str:
    """Return bytes of a log as text; bytes that are not UTF-8 become replacement characters."""
    return data.decode("utf-8", "replace")


def prepare_child(handle: int, parent: int) -> None:
    """Append the id of this process, the child between fork and exec, to the lock's file, as line 2.

    On Linux it also asks the kernel to kill the child when its parent dies, and ends it if the parent is dead already.

    - handle: descriptor of the lock's file.
    - parent: process id of the parent, which runs the pipeline.
    """
    os.lseek(handle, 0, os.SEEK_END)
    os.write(handle, b"%d\n" % os.getpid())
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def lock_owner(lock: Path) -> tuple[dict, int]:
    """Return (owner, process group) of the process that holds, or last held, a step's lock.

    - lock: the lock's file, in which both are written.

    The owner is {"run": id, "step": name, "host": name}; {} when the file cannot be read or holds no owner. The process
    group is a number; 0 when it is unknown or on another machine.
    """
    try:
        first, *rest = lock.read_text(encoding="utf-8").splitlines()
        owner = json.loads(first)
        here = owner.get("host") == os.uname().nodename
        return owner, int(rest[0]) if rest and here else 0
    except (OSError, ValueError, IndexError, AttributeError):
        return {}, 0


def kill_group(group: int) -> None:
    """Kill (SIGKILL) all processes of the process group with this number. Does nothing for 0, 1 or a group that has
    ended.
    """
    if group > 1:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
