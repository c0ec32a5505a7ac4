"""The local engine: runs a pipeline here, one process per step, in parallel, with a cache; a killed run can continue.

It knows nothing of the model. A step is finished in this order: its outputs are renamed into the cache, linked into the
run's folder, and then state.json says "finished". A kill between two of these leaves nothing half-written, and the next
command with the same plan continues the run.
Each cache key has a lock, which the step's process inherits. So two runs never compute the same step at once, and when
a runner was killed but its step lives on (the step's lock is held, the run's is not), the step is killed and run again.

When a step fails, steps that are running may finish, their results are kept, and no other step starts. When a gate is
closed, the steps after it are skipped.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scarcegan.errors import REFUSALS, UserError, as_sentence, is_correctable
from scarcegan.local.events import Event, Observer, RunResult
from scarcegan.local.execution import Execution
from scarcegan.local.plan import check_from_step, default_workers, make_run_plan
from scarcegan.local.state import RunsFolder, RunSummary, claim_run, clean, list_runs, read_run
from scarcegan.pipeline.definition import Pipeline

__all__ = ["Event", "RunResult", "RunSummary", "clean", "list_runs", "read_run", "run_pipeline"]


def run_pipeline(
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
    still_there: Mapping[str, Callable[[Path], bool]] | None = None,
    backoff: float = 1.0,
) -> RunResult:
    """Run a pipeline on this machine until it has ended, and return how it ended, also when a step failed.

    If the newest run of the same plan (RunPlan.digest) that no process works on was interrupted or failed, that run is
    continued and no new one is started. In the main thread, SIGINT, SIGTERM and SIGHUP stop the run and end it as
    "interrupted".

    - sources: name of each source -> its file or folder; optional sources may be left out.
    - root: the folder of runs; it is made when it is missing.
    - settings: saved in run.json under "settings", and not used otherwise; default: {}.
    - from_step: this step and all that depend on it run again, even if their outputs are cached.
    - cache: False runs every step again.
    - workers: how many steps may run at once; default: one per core, as far as memory allows.
    - environment: variables added to the environment of each step, as RunPlan.extra_environment.
    - observer: is called with each Event; default: nothing is shown.
    - still_there: name of a step that writes something outside its outputs, such as the registry -> a function that is
      given the folder of its outputs and returns whether that is still there; if not, the step is not taken from the
      cache but runs again. Default: no step does.
    - backoff: seconds before the first retry of a failed step, doubled for each further one.

    Raises UserError for a source that is unknown, missing or cannot be read, an unknown from_step, a from_step whose
    inputs are not cached, a folder that cannot be written, or a full disk.
    """
    runs_folder = RunsFolder(Path(os.path.abspath(root)))
    with errors_as_sentences(runs_folder.root):
        make_runs_folder(runs_folder)
        plan = make_run_plan(pipeline, sources, runs_folder, environment or {}, from_step, cache)
        check_from_step(plan, runs_folder)
        name, lock, about = claim_run(runs_folder, plan.digest)
        try:
            execution = Execution(
                plan,
                runs_folder,
                name,
                workers or default_workers(),
                observer or show_nothing,
                backoff,
                still_there or {},
            )
            return execution.run_all(about, settings or {})
        finally:
            lock.free()


def show_nothing(_event: Event) -> None:
    """The observer that ignores every event."""


@contextmanager
def errors_as_sentences(root: Path) -> Iterator[None]:
    """Context manager: turn a system error inside the block that a user can correct into a UserError of one sentence.

    - root: the folder to name in the message when the system error names no file.

    Raises UserError for an error that `is_correctable` of errors.py knows, such as a full disk or a missing permission;
    other errors pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if not is_correctable(error):
            raise
        if error.filename is None:
            error.filename = str(root)
        raise UserError(as_sentence(error)) from error


def make_runs_folder(runs_folder: RunsFolder) -> None:
    """Make the folder of runs if it is missing, and check that files can be written to it.

    Raises OSError for a full disk, a missing permission or another of REFUSALS, and UserError for any other reason why
    files cannot be written.
    """
    try:
        runs_folder.empty_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_folder.root):
            pass
    except OSError as error:
        if error.errno in REFUSALS:
            raise
        raise UserError(
            f"{runs_folder.root}: runs cannot be stored here ({error.strerror}). "
            "Set local.folder in config.yaml to another folder."
        ) from error
