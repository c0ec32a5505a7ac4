"""What is known of runs, on disk: a folder per run with run.json, and a folder per step with state.json.

Whether a run is alive is told by its lock, never by a process id, so a kill at any moment leaves the truth behind.
"""

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from scarcegan.errors import UserError
from scarcegan.jsonfile import find_json, write_json
from scarcegan.local.cache import Cache
from scarcegan.local.durable import Lock, held, is_held, remove

CACHE = ".cache"
FINISHED, FAILED, CLOSED, INTERRUPTED, RUNNING = "finished", "failed", "gate closed", "interrupted", "running"
ENDED_WELL = (FINISHED, CLOSED)


@dataclass
class StepState:
    """One step of one run. status: waiting, running, finished, failed, skipped or interrupted.

    cached: taken from the cache; attempts: processes started; max_rss_bytes: the largest of them; log: path in the run.
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


@dataclass(frozen=True)
class RunSummary:
    """A line of the list of runs. started: local time, ISO 8601; seconds: from start to end, pauses left out."""

    run: str
    pipeline: str
    status: str
    started: str
    seconds: float
    reason: str = ""
    steps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Where things lie below the runs folder."""

    root: Path

    @property
    def cache(self) -> Cache:
        return Cache(self.root / CACHE / "outputs")

    @property
    def memory(self) -> Path:
        return self.root / CACHE / "fingerprints"

    @property
    def empty(self) -> Path:
        return self.root / CACHE / "empty"

    def checkpoints(self, key: str) -> Path:
        return self.root / CACHE / "checkpoints" / key

    def lock(self, key: str) -> Path:
        return self.root / CACHE / "locks" / key

    def run_lock(self, run: str) -> Path:
        return self.root / run / ".lock"

    def state(self, run: str, step: str) -> StepState:
        """The step's state; that of a step never begun when there is none."""
        known = {item.name for item in fields(StepState)}
        found = find_json(self.root / run / step / "state.json") or {}
        return StepState(**{"step": step, **{name: value for name, value in found.items() if name in known}})

    def write_state(self, run: str, state: StepState) -> None:
        folder = self.root / run / state.step
        folder.mkdir(exist_ok=True)
        write_json(folder / "state.json", asdict(state))


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def new_run_id() -> str:
    """Sorts by time (UTC, to 1/256 s) and names a folder anywhere: 2026-11-21T08-15-03-ab12."""
    seconds = time.time()
    day_and_time = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(seconds))
    return f"{day_and_time}-{int(seconds % 1 * 256):02x}{secrets.token_hex(1)}"


def claim_run(places: Places, plan: str) -> tuple[str, Lock, dict[str, Any]]:
    """The newest run of this plan when it was cut short or failed, else a new one; its lock; what its run.json says."""
    for run in reversed(run_ids(places.root)):
        about = find_json(places.root / run / "run.json")
        if not about or about.get("plan_digest") != plan or is_held(places.run_lock(run)):
            continue
        if about["status"] in ENDED_WELL:
            break
        lock = Lock(places.run_lock(run))
        if lock.take():
            return run, lock, about
    while True:
        run = new_run_id()
        try:
            (places.root / run).mkdir()
        except FileExistsError:
            continue
        lock = Lock(places.run_lock(run))
        lock.take()
        return run, lock, {}


def run_ids(root: Path) -> list[str]:
    """Ids of the runs in a folder, oldest first."""
    return sorted(path.parent.name for path in root.glob("*/run.json")) if root.is_dir() else []


def read_run(root: Path, run: str) -> dict[str, Any]:
    """run.json with `steps`: each step's state. UserError when there is no such run."""
    about = find_json(root / run / "run.json")
    if about is None:
        newest = ", ".join(run_ids(root)[-3:]) or "none"
        raise UserError(f"{root}: no run '{run}' (newest: {newest}). List them all with: scarcegan runs")
    places = Places(root)
    alive = is_held(places.run_lock(run))
    states = {step: asdict(places.state(run, step)) for step in about["steps"]}
    for state in states.values():
        if state["status"] == RUNNING and not alive:
            state["status"] = INTERRUPTED
    if alive or about["status"] == RUNNING:
        about["status"] = RUNNING if alive else INTERRUPTED
    return {**about, "steps": states}


def list_runs(root: Path) -> list[RunSummary]:
    """Every run in a runs folder, newest first."""
    return [summarise(read_run(root, run)) for run in reversed(run_ids(root))]


def summarise(about: Mapping[str, Any]) -> RunSummary:
    words = {step: state["status"] for step, state in about["steps"].items()}
    return RunSummary(
        about["run"], about["pipeline"], about["status"], about["started"], about["seconds"], about["reason"], words
    )


def clean(root: Path, keep: int = 5) -> list[str]:
    """Delete all but the newest `keep` runs, and what only they needed of the cache. Returns the runs deleted.

    A run that is alive stays, and so does whatever a living step has locked.
    """
    places = Places(root)
    ids = run_ids(root)
    deleted = [run for run in ids[: max(0, len(ids) - keep)] if delete_run(places, run)]
    needed = {state["key"] for run in run_ids(root) for state in read_run(root, run)["steps"].values()}
    for key in cached_keys(places):
        if key not in needed:
            with held(places.lock(key)) as mine:
                if mine:
                    remove(places.cache.folder / key)
                    remove(places.checkpoints(key))
                    places.lock(key).unlink(missing_ok=True)
    for rest in (root / CACHE).glob(".deleted-*"):
        remove(rest)
    return deleted


def cached_keys(places: Places) -> Iterator[str]:
    """Keys of all entries, checkpoints and locks in the cache."""
    folders = (places.cache.folder, places.checkpoints(""), places.lock(""))
    yield from sorted({path.name for folder in folders if folder.is_dir() for path in folder.iterdir()})


def delete_run(places: Places, run: str) -> bool:
    """Delete a run unless it is alive. It leaves the list in one rename, then its files go."""
    with held(places.run_lock(run)) as mine:
        if mine:
            gone = places.root / CACHE / f".deleted-{run}"
            gone.parent.mkdir(exist_ok=True)
            os.rename(places.root / run, gone)
            remove(gone)
    return mine
