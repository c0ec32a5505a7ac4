"""Toys for the tests of the runner: a package of tiny steps in a temporary folder, and pipelines made of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from scarcegan.local import runner
from scarcegan.pipeline.definition import Gate, Pipeline, Step

WORK = """
import json, os, signal, sys, time
from pathlib import Path
from toy import words

def options(argv):
    found = {}
    for word in argv:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            found[name] = value
        else:
            found[name] = word
    return found

given = options(sys.argv[1:])
diary = Path(os.environ["DIARY"])
with open(diary, "a") as file:
    file.write(f"{given['me']}\\n")
tries = diary.read_text().split().count(given["me"])
out = Path(given["out-out"])
out.mkdir(parents=True)
(out / "half.txt").write_text("half")
print("half way", file=sys.stderr)
act = given.get("act", "")
if act == "hang" and not Path(given["release"]).exists():
    Path(given["release"] + f".{given['me']}.up").write_text(str(os.getpid()))
    while not Path(given["release"]).exists():
        time.sleep(0.01)
if act == "gate":
    (out / "out.json").write_text(json.dumps({"passed": given["open"] == "true", "reason": "0.4 is below 0.5"}))
if act == "mistake":
    print("error: labels.csv: no column 'user_id'. Name it in config.yaml.", file=sys.stderr)
    sys.exit(2)
if act == "bug" or act == "shaky" and tries < int(given["good"]):
    raise ZeroDivisionError("a bug")
if act == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if act == "full":
    from scarcegan.errors import run_step
    def fill():
        raise OSError(28, "No space left on device", str(out))
    sys.exit(run_step(fill))
if act == "nothing":
    (out / "half.txt").unlink(); out.rmdir(); sys.exit(0)
if act == "point":
    place = Path(given["checkpoints"]) / "count"
    (out / "seen.txt").write_text(place.read_text() if place.exists() else "none")
    place.write_text("7")
    if tries == 1:
        sys.exit(1)
sources = [Path(given[name]) for name in ("a", "b") if name in given]
read = "+".join(file.read_text() for place in sources for file in sorted(place.glob("*.txt")))
(out / "whole.txt").write_text(f"{words.PREFIX}{given['me']}({read})")
(out / "half.txt").unlink()
"""

RUNNER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from toy_runs import Toys
toys = Toys(Path({folder!r}))
result = toys.run({pipeline})
print(result.run, result.status, flush=True)
sys.exit(result.exit_code)
"""


def step(name, _reads="", _retries=0, _after=(), _kind="processing", **arguments):
    """A toy step `name` that reads the outputs named in _reads and writes one output, `out`."""
    inputs = dict(zip("ab", _reads.split(), strict=False))
    arguments = {"me": name, **arguments}
    return Step(name, "toy.work", inputs, ("out",), arguments, retries=_retries, after=_after, kind=_kind)


def pipeline(*steps):
    return Pipeline("toy", sources=("source",), steps=steps)


def line(*names, **arguments):
    """Steps in a row, each reading from the one before."""
    origins = ["source", *(f"{name}.out" for name in names)]
    return pipeline(*(step(name, origin, **arguments) for name, origin in zip(names, origins, strict=False)))


def gated(opened):
    return pipeline(
        step("judge", "source", act="gate", open=opened), Gate("gate", "judge.out"), step("last", _after=("gate",))
    )


class Toys:
    """A folder with the toy package, a source, a diary (which step ran, in order) and a runs folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "runs"
        self.package, self.source, self.diary = folder / "code" / "toy", folder / "source", folder / "diary.txt"
        self.release = folder / "release"
        self.events = []
        if not self.package.exists():
            self.package.mkdir(parents=True)
            (self.package / "__init__.py").write_text("")
            (self.package / "words.py").write_text("PREFIX = ''\n")
            (self.package / "other.py").write_text("")
            (self.package / "work.py").write_text(WORK)
            self.source.mkdir()
            (self.source / "data.txt").write_text("data")

    def run(self, pipeline, **options):
        self.events = []
        environment = {"PYTHONPATH": str(self.package.parent), "DIARY": str(self.diary), **options.pop("env", {})}
        options = {"observer": self.events.append, "backoff": 0.01, "workers": 2, **options}
        return runner.run_pipeline(pipeline, {"source": self.source}, self.root, environment=environment, **options)

    def ran(self):
        """The steps whose processes have started since the last call."""
        names = self.diary.read_text().split() if self.diary.exists() else []
        self.diary.unlink(missing_ok=True)
        return names

    def kinds(self, step):
        return [event.kind for event in self.events if event.step == step and event.kind != "line"]

    def in_background(self, code):
        """The same in a process of its own, which a test may kill. code: the pipeline, as an expression."""
        script = RUNNER.format(
            tests=str(Path(__file__).parent), folder=str(self.folder), pipeline="__import__('toy_runs')." + code
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)

    def hanging(self, name):
        """Process id of a hanging step, once it hangs."""
        note = Path(f"{self.release}.{name}.up")
        until(lambda: note.exists() and note.read_text())
        pid = int(note.read_text())
        note.unlink()
        return pid


def until(happened, seconds=20.0):
    """Wait for something another process does; fails after a generous time."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc/self").exists() else True


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


# What `in_background` is asked for by name: pipelines, some of which first arm a trap in the runner's own process.


def two_of_which_hangs(at, release):
    """Two steps in a row; the one named `at` hangs until the file `release` is there."""
    hangs = {"act": "hang", "release": release}
    return pipeline(*(step(n, r, **(hangs if n == at else {})) for n, r in (("one", "source"), ("two", "one.out"))))


def pipeline_of_one(release, retries):
    return pipeline(step("one", "source", act="hang", release=release, _retries=retries))


def orphan(release):
    """A runner whose step outlives it, as on a system without a death signal."""
    from scarcegan.local import process

    process.LIBC = None
    return line("one", act="hang", release=release)


def killed_at(where):
    """A runner that is killed just before an entry is added to the cache, before outputs are linked, or after."""
    from scarcegan.local.cache import Cache

    name = "add" if where == "add" else "link_outputs"
    before = getattr(Cache, name)

    def trap(*arguments):
        if where == "after":
            before(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Cache, name, trap)
    return line("one", "two")


def killed_while_linking():
    """A runner that is killed when a step's new outputs are linked, just before they get their name."""
    from scarcegan.local import cache

    cache.os = SimpleNamespace(**vars(os))
    cache.os.rename = lambda a, b: os.kill(os.getpid(), signal.SIGKILL) if ".new-" in str(a) else os.rename(a, b)
    return line("one", "two")
