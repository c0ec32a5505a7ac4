"""The state of runs on disk: a folder per run with run.json, and in it a folder per step with state.json.

A run is alive while its lock is held. Process ids are not used for this, so the state is right after any kill.
"""

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from scarcegan.errors import UserError
from scarcegan.jsonfile import find_json, write_json
from scarcegan.local.cache import Cache
from scarcegan.local.durable import Lock, is_held, lock_if_free, remove

CACHE = ".cache"
FINISHED, FAILED, CLOSED, INTERRUPTED, RUNNING = "finished", "failed", "gate closed", "interrupted", "running"
ENDED_WELL = (FINISHED, CLOSED)
DAMAGED = "this is not the record of a run. Delete the run's folder, or type: scarcegan runs --clean-but N"


@dataclass
class StepState:
    """The state of one step or gate of one run, as state.json holds it.

    - step: the name of the step or gate.
    - status: "waiting", "running", "finished", "failed", "skipped" or "interrupted"; an open gate has "finished", a
      closed one "closed".
    - key: its cache key; "" before it is known, and for a gate.
    - attempts: how many processes this run has started for it with this key.
    - started: when its last process was started, or its outputs were taken from the cache; local time, ISO 8601; ""
      before, and for a gate.
    - seconds: how long the last process ran that ended while the run went on; for a cached step, how long the process
      ran that computed its outputs.
    - cached: whether the outputs were taken from the cache.
    - exit_code: of the last process, if that ended while the run went on; else None. It is 2 also when the disk was
      full or a source had changed.
    - max_rss_bytes: the largest memory that one of these processes used.
    - reason: why it failed or was skipped, what a gate decided, or "".
    """

    step: str
    status: str = "waiting"
    key: str = ""
    attempts: int = 0
    started: str = ""
    seconds: float = 0.0
    cached: bool = False
    exit_code: int | None = None
    max_rss_bytes: int = 0
    reason: str = ""


# Name of each field of StepState that state.json is read for -> the types that its value may have.
STATE_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("status", "key", "started", "reason"), (str,)),
    **dict.fromkeys(("attempts", "max_rss_bytes"), (int,)),
    "seconds": (int, float),
    "cached": (bool,),
    "exit_code": (int, NoneType),
}
# Name of each key of run.json that every reader needs -> the types that its value may have.
RUN_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("run", "pipeline", "status", "started", "reason", "plan_digest"), (str,)),
    **dict.fromkeys(("sources", "settings"), (dict,)),
    "seconds": (int, float),
    "steps": (list,),
}


@dataclass(frozen=True)
class RunSummary:
    """A run in the list of runs.

    - run: its id.
    - pipeline: "training", "scoring" or "monitoring".
    - status: "running", "finished", "failed", "gate closed" or "interrupted"; "damaged" when its run.json cannot be
      used, and then pipeline and started are "", seconds is 0 and reason says what is wrong.
    - started: when the run first started; local time, ISO 8601.
    - seconds: how long it ran, without the time between an interruption and its continuation. The time of a process
      that was killed or still runs is not counted.
    - reason: why it did not finish, or "".
    - steps: name of a step or gate -> its status, as in StepState.
    """

    run: str
    pipeline: str
    status: str
    started: str
    seconds: float
    reason: str = ""
    steps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunsFolder:
    """The folder that holds all runs and the cache: its paths, and the states of steps in it.

    - root: its path; run_pipeline gives an absolute one.
    """

    root: Path

    @property
    def cache(self) -> Cache:
        """The cache of finished steps."""
        return Cache(self.root / CACHE / "outputs")

    @property
    def hashes(self) -> Path:
        """The path of the folder that stores the hashes of source files, so that unchanged files are not read again."""
        return self.root / CACHE / "fingerprints"

    @property
    def empty_folder(self) -> Path:
        """The path of an empty folder, given to a step for an optional source that was left out. make_runs_folder in
        runner.py makes it.
        """
        return self.root / CACHE / "empty"

    def checkpoints(self, key: str) -> Path:
        """Return the path of the folder in which a step with this cache key saves its checkpoints; for "", that of the
        folder above all of them.
        """
        return self.root / CACHE / "checkpoints" / key

    def lock(self, key: str) -> Path:
        """Return the path of a cache key's lock file, locked while a run computes a step with this key; for "", that of
        the folder of all lock files.
        """
        return self.root / CACHE / "locks" / key

    def run_lock(self, run: str) -> Path:
        """Return the path of the lock file of the run with this id, locked while a process works on the run."""
        return self.root / run / ".lock"

    def read_state(self, run: str, step: str) -> StepState:
        """Return a step's state in a run, read from its state.json; a new StepState ("waiting") when the file is
        missing, cannot be read or is no JSON object, and where a value in it has another type.

        - run: the id of the run.
        - step: the name of the step or gate.
        """
        state = StepState(step)
        found = find_json(self.root / run / step / "state.json")
        for name, kinds in STATE_TYPES.items():
            if isinstance(found, dict) and name in found and isinstance(found[name], kinds):
                setattr(state, name, found[name])
        return state

    def write_state(self, run: str, state: StepState) -> None:
        """Write a step's state to its state.json in the run with this id. The run's folder must exist."""
        folder = self.root / run / state.step
        folder.mkdir(exist_ok=True)
        write_json(folder / "state.json", asdict(state))


def now() -> str:
    """Return the present local time with its offset from UTC, as text: 2026-11-21T09:15:03+0100."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def new_run_id() -> str:
    """Return a new id of a run: time in UTC and four hexadecimal digits, as in 2026-11-21T08-15-03-ab12.

    Sorted as text, ids are in the order of their times, to 1/256 s. They are valid folder names on every system.
    """
    seconds = time.time()
    day_and_time = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(seconds))
    return f"{day_and_time}-{int(seconds % 1 * 256):02x}{secrets.token_hex(1)}"


def claim_run(runs_folder: RunsFolder, plan: str) -> tuple[str, Lock, dict[str, Any]]:
    """Choose the run that a command continues or starts, and take its lock. A new run gets its folder.

    Of the runs with this plan that no process works on, only the newest counts. It is continued if it was interrupted
    or failed; if it finished or its gate closed, or if there is none, a new run is started.

    - plan: the digest of the command's plan.

    Returns the run's id, the lock, which is held, and the content of its run.json; {} for a new run.
    """
    for run in reversed(run_ids(runs_folder.root)):
        about = find_run(runs_folder.root, run)
        if about is None or about["plan_digest"] != plan or is_held(runs_folder.run_lock(run)):
            continue
        if about["status"] in ENDED_WELL:
            break
        lock = Lock(runs_folder.run_lock(run))
        if lock.take():
            return run, lock, about
    while True:
        run = new_run_id()
        try:
            (runs_folder.root / run).mkdir()
        except FileExistsError:
            continue
        lock = Lock(runs_folder.run_lock(run))
        lock.take()
        return run, lock, {}


def run_ids(root: Path) -> list[str]:
    """Return the ids of the runs in a folder (those with a run.json), oldest first; [] when the folder is missing."""
    return sorted(path.parent.name for path in root.glob("*/run.json")) if root.is_dir() else []


def find_run(root: Path, run: str) -> dict[str, Any] | None:
    """Return the content of a run's run.json; None when it is missing, or lacks something that RUN_TYPES lists."""
    about = find_json(root / run / "run.json")
    if not isinstance(about, dict) or not all(isinstance(about.get(key), kinds) for key, kinds in RUN_TYPES.items()):
        return None
    return about if all(isinstance(step, str) for step in about["steps"]) else None


def read_run(root: Path, run: str) -> dict[str, Any]:
    """Return a run's run.json as a dictionary, with the states of its steps. Its keys are:

    - run, pipeline, started, seconds, reason: as in RunSummary.
    - status: "running" exactly while a process works on the run; otherwise as recorded, or "interrupted" for a run that
      is recorded as running.
    - steps: name of a step or gate, in pipeline order -> its StepState as a dictionary. A step that is recorded as
      running although no process works on the run has the status "interrupted".
    - plan_digest, sources, plan, forced: as in RunPlan.describe.
    - settings: as given to run_pipeline.
    - code_version: as `code_version` in plan.py returned it.
    - ended: local time, ISO 8601; missing before the run has ended, or when it was killed.

    Raises UserError when there is no such run, or its run.json cannot be used.
    """
    about = find_run(root, run)
    if about is None and run in run_ids(root):
        raise UserError(f"{root / run / 'run.json'}: {DAMAGED}")
    if about is None:
        newest = ", ".join(run_ids(root)[-3:]) or "none"
        raise UserError(f"{root}: no run '{run}' (newest: {newest}). List them all with: scarcegan runs")
    runs_folder = RunsFolder(root)
    alive = is_held(runs_folder.run_lock(run))
    states = {step: asdict(runs_folder.read_state(run, step)) for step in about["steps"]}
    for state in states.values():
        if state["status"] == RUNNING and not alive:
            state["status"] = INTERRUPTED
    if alive or about["status"] == RUNNING:
        about["status"] = RUNNING if alive else INTERRUPTED
    return {**about, "steps": states}


def list_runs(root: Path) -> list[RunSummary]:
    """Return a RunSummary of every run in the folder of runs, newest first; [] when the folder is missing."""
    return [
        run_summary(read_run(root, run))
        if find_run(root, run)
        else RunSummary(run, "", "damaged", "", 0.0, f"{root / run / 'run.json'}: {DAMAGED}")
        for run in reversed(run_ids(root))
    ]


def run_summary(about: Mapping[str, Any]) -> RunSummary:
    """Return the RunSummary of a run. about: what `read_run` returned for the run."""
    statuses = {step: state["status"] for step, state in about["steps"].items()}
    return RunSummary(
        about["run"], about["pipeline"], about["status"], about["started"], about["seconds"], about["reason"], statuses
    )


def clean(root: Path, keep: int = 5) -> list[str]:
    """Delete all but the newest `keep` runs in the folder `root`, and all cache entries, checkpoints and lock files of
    keys that no remaining run uses.

    A run that a process works on stays even when it is older, and so does a key that is locked. Returns the ids of the
    deleted runs, oldest first.
    """
    runs_folder = RunsFolder(root)
    ids = run_ids(root)
    deleted = [run for run in ids[: max(0, len(ids) - keep)] if delete_run(runs_folder, run)]
    left = [run for run in run_ids(root) if find_run(root, run)]
    needed = {state["key"] for run in left for state in read_run(root, run)["steps"].values()}
    for key in cached_keys(runs_folder):
        if key not in needed:
            with lock_if_free(runs_folder.lock(key)) as mine:
                if mine:
                    remove(runs_folder.cache.folder / key)
                    remove(runs_folder.checkpoints(key))
                    runs_folder.lock(key).unlink(missing_ok=True)
    for rest in (root / CACHE).glob(".deleted-*"):
        remove(rest)
    return deleted


def cached_keys(runs_folder: RunsFolder) -> Iterator[str]:
    """Yield the cache keys for which there is an entry, checkpoints or a lock file, sorted, each once."""
    folders = (runs_folder.cache.folder, runs_folder.checkpoints(""), runs_folder.lock(""))
    yield from sorted({path.name for folder in folders if folder.is_dir() for path in folder.iterdir()})


def delete_run(runs_folder: RunsFolder, run: str) -> bool:
    """Delete the folder of the run with this id unless a process works on the run. Returns whether it was deleted.

    The folder is renamed first, so that a kill in between leaves no half-deleted run in the list. False also when
    another process has deleted it meanwhile.
    """
    folder = runs_folder.root / run
    with lock_if_free(runs_folder.run_lock(run)) as mine:
        if mine:
            gone = runs_folder.root / CACHE / f".deleted-{run}-{secrets.token_hex(4)}"
            gone.parent.mkdir(exist_ok=True)
            there = run in run_ids(runs_folder.root)
            os.rename(folder, gone)  # what taking the lock has just made is deleted too
            remove(gone)
            return there
    return False
