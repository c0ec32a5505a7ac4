"""The local runner: a process per step, parallel where the graph allows, cached by content, resumable after any kill.

It knows nothing of the model. What is finished is told by files that appear in one rename: an attempt's outputs
become an entry of the cache, the run gets its own names for them, and only then does state.json say "finished".
Each cache key has a lock, inherited by the step's process: two runs never compute the same thing at once, and a step
whose runner was killed is found (its lock is held though its run is not), killed, and begun again.

When a step fails, those already running finish (their results are kept) and no other begins. When a gate closes,
what comes after it is skipped.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scarcegan.errors import REFUSALS, UserError, as_sentence
from scarcegan.local.events import Event, Observer, RunResult
from scarcegan.local.execution import Execution
from scarcegan.local.plan import default_workers, fingerprint, make_plan, refuse_what_is_missing
from scarcegan.local.state import Places, RunSummary, claim_run, clean, list_runs, read_run
from scarcegan.pipeline.definition import Pipeline

__all__ = ["Event", "RunResult", "RunSummary", "clean", "fingerprint", "list_runs", "read_run", "run"]


def run(
    pipeline: Pipeline,
    sources: Mapping[str, Path],
    root: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    from_step: str | None = None,
    cache: bool = True,
    workers: int | None = None,
    environment: Mapping[str, str] | None = None,
    observer: Observer | None = None,
    backoff: float = 1.0,
) -> RunResult:
    """Run a pipeline in the runs folder `root`; go on with the same plan's last run if it was cut short or failed.

    settings: saved in run.json; from_step: it and all after it run again; cache=False: every step runs;
    environment: added to each step's; backoff: seconds before the first retry, doubled each time.
    Raises UserError for what must be mended first: a missing source, a folder that cannot be written, a full disk.
    """
    places = Places(Path(os.path.abspath(root)))
    with said_plainly(places.root):
        prepare(places)
        plan = make_plan(pipeline, sources, places, environment or {}, from_step, cache)
        refuse_what_is_missing(plan, places)
        name, lock, about = claim_run(places, plan.digest)
        try:
            execution = Execution(plan, places, name, workers or default_workers(), observer or ignore, backoff)
            return execution.go(about, settings or {})
        finally:
            lock.free()


def ignore(_event: Event) -> None:
    """The observer that shows nothing."""


@contextmanager
def said_plainly(root: Path) -> Iterator[None]:
    """A full disk or a missing right becomes a UserError with the next move; other system errors stay bugs."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        if error.filename is None:
            error.filename = str(root)
        raise UserError(as_sentence(error)) from error


def prepare(places: Places) -> None:
    """Make the runs folder and see that it can be written to."""
    try:
        places.empty.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=places.root):
            pass
    except OSError as error:
        if error.errno in REFUSALS:
            raise
        raise UserError(f"{places.root}: cannot hold runs ({error.strerror}). Name another folder.") from error
