"""What a benchmark measures: a command's time and peak memory in a process of its own. Import it first: it puts the
project's source on the path and gives numpy one core, so that one core is compared with one core.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "<<cookiecutter.project_slug>>"
MIB_OF_MAXRSS = 1 / 1024 if sys.platform == "linux" else 1 / 1024**2  # macOS counts bytes

sys.path.insert(0, str(PROJECT / "src"))
sys.dont_write_bytecode = True
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for library in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM"):
    os.environ[f"{library}_NUM_THREADS"] = "1"


def measured(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak MiB of `python <command>`. If it fails, what it said is shown and the benchmark ends.

    Linux lets a process inherit its parent's peak; so this small file, run alone, is the parent.
    """
    variables = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    alone = [sys.executable, __file__, sys.executable, *command]
    ended = subprocess.run(alone, env=variables, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"{' '.join(command)}\n{ended.stderr}")
    seconds, peak = ended.stdout.split()[-2:]
    return float(seconds), float(peak)


def watch(command: Sequence[str]) -> int:
    """Run a command and print its seconds and peak MiB; its exit status."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    print(time.perf_counter() - begun, usage.ru_maxrss * MIB_OF_MAXRSS)
    return os.waitstatus_to_exitcode(status)


def show(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        print(
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    print(flush=True)


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1:]))
