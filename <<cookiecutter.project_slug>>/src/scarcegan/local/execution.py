"""One run of a pipeline: starts the steps that are ready and checks those that run, until all have an outcome.

runner.py states the rules that this file follows.
"""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scarcegan.errors import USER_ERROR
from scarcegan.jsonfile import find_json, write_json
from scarcegan.local.cache import LOG, Manifest, finalise_outputs, is_intact, read_manifest
from scarcegan.local.durable import Lock, is_held, remove
from scarcegan.local.estimate import expected_seconds, remaining_seconds
from scarcegan.local.events import Event, Expected, Observer, RunResult
from scarcegan.local.fingerprint import has_changed
from scarcegan.local.plan import RunPlan, code_version
from scarcegan.local.process import Process, kill_group, lock_owner
from scarcegan.local.state import CLOSED, FAILED, FINISHED, INTERRUPTED, RUNNING, RunsFolder, StepState, now
from scarcegan.pipeline.definition import Gate, Step, value_text

GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
TAIL_LINES = 12  # of a failed step's log, shown to the user
FULL_DISK_BYTES = 1 << 20  # a disk with less free space counts as full
GATE_CLOSED_CODE = 3


@dataclass
class Attempt:
    """A step that this run is computing, with one process after another until one succeeds or retries are used up.

    - key: the step's cache key.
    - lock: of that key, which this run holds.
    - signatures: name of each source that the step reads -> its Fingerprint.signatures when the run was planned.
    - tries: how many processes have been started in this attempt.
    - folder: where the present process writes its outputs.
    - process: the present process; None while the step waits for its next try.
    - again_at: while it waits, the time of the next try, on the clock of time.monotonic.
    - reason: while it waits, why the process before failed.
    """

    step: Step
    key: str
    lock: Lock
    signatures: Mapping[str, Mapping[str, str]]
    tries: int = 0
    folder: Path = Path()
    process: Process | None = None
    again_at: float = 0.0
    reason: str = ""


class Execution:
    """One run of a pipeline, in one thread: starts steps that are ready and checks those that run. Call run_all once.

    - plan: the plan of the run.
    - runs_folder: the folder of all runs.
    - run: the run's id; its folder exists, and the caller holds the run's lock.
    - workers: how many steps may run at once.
    - observer: is called with each Event.
    - backoff: seconds before the first retry of a failed step, doubled for each further one.
    - still_there: as in run_pipeline.
    - expected: name of a step -> how long it will take, as `expected_seconds` returns it.
    - effects_gone: what `effect_is_gone` has found, by step, cache key and run that made the outputs.
    - settled: the names of the steps and gates whose outcome is known: finished, failed or skipped, open or closed.
    """

    def __init__(
        self,
        plan: RunPlan,
        runs_folder: RunsFolder,
        run: str,
        workers: int,
        observer: Observer,
        backoff: float,
        still_there: Mapping[str, Callable[[Path], bool]],
    ) -> None:
        self.plan, self.runs_folder, self.run = plan, runs_folder, run
        self.workers, self.observer, self.backoff, self.still_there = workers, observer, backoff, still_there
        self.folder = runs_folder.root / run
        self.states = {step.name: runs_folder.read_state(run, step.name) for step in plan.pipeline.steps}
        self.digests = {name: found.digest for name, found in plan.fingerprints.items()}
        self.effects_gone: dict[tuple[str, str, str], bool] = {}
        self.settled: set[str] = set()
        self.attempts: dict[str, Attempt] = {}
        self.waiting_reported: set[str] = set()
        self.signals: list[int] = []
        self.begun = time.monotonic()
        self.expected = expected_seconds(plan, runs_folder)

    # The run as a whole

    def run_all(self, about: Mapping[str, Any], settings: Mapping[str, Any]) -> RunResult:
        """Run until every step has an outcome, a step has failed or a signal has come, and return how the run ended.

        After a failure no further step starts, and those that run may finish; a signal stops them, as does an error
        that is raised. run.json is written at the beginning and at the end.

        - about: the content of run.json when an earlier run is continued, else {}. Only its "started" and "seconds" are
          used.
        - settings: stored in run.json under "settings".

        Raises OSError when files cannot be written, such as on a full disk.
        """
        about = {
            "run": self.run,
            "started": about.get("started", now()),
            "seconds": about.get("seconds", 0.0),
            "reason": "",
            **self.plan.describe(),
            "settings": settings,
            "code_version": code_version(),
            "status": RUNNING,
        }
        write_json(self.folder / "run.json", about)
        expected = remaining_seconds(self.plan, self.runs_folder, self.expected, self.workers)
        self.report("begin", text=self.run, expected=expected)
        with self.collecting_signals():
            try:
                while not self.is_over():
                    moved = [self.begin(step) for step in self.plan.pipeline.steps if step.name not in self.settled]
                    moved += [self.check(attempt) for attempt in list(self.attempts.values())]
                    self.report("tick")
                    if not any(moved):
                        time.sleep(self.poll_seconds())
            finally:
                self.stop_processes()
        result = self.result()
        seconds = about["seconds"] + result.seconds
        write_json(
            self.folder / "run.json",
            {**about, "status": result.status, "reason": result.reason, "seconds": seconds, "ended": now()},
        )
        self.report("end", text=result.reason)
        return result

    def is_over(self) -> bool:
        """Return whether the run must end: at once after a signal; otherwise when no step runs or waits for a retry,
        and one has failed or all have an outcome.
        """
        if self.signals:
            return True
        return not self.attempts and (bool(self.failed()) or len(self.settled) == len(self.states))

    def failed(self) -> list[StepState]:
        """Return the states of the steps and gates that have failed since this object was created.

        When an earlier run is continued, a failure of that run is not among them: its step starts again.
        """
        return [state for state in self.states.values() if state.status == FAILED and state.step in self.settled]

    def poll_seconds(self) -> float:
        """Return the seconds to wait before processes are checked again: 0.005 just after one has started, rising to
        0.1 when none is younger than 2 s; 0.05 when none is running.
        """
        ages = [attempt.process.seconds for attempt in self.attempts.values() if attempt.process]
        return min(0.1, max(0.005, min(ages, default=1.0) / 20))

    def result(self) -> RunResult:
        """Return the RunResult so far: interrupted if a signal has come, else failed if a step has failed, else gate
        closed if a gate is closed, else finished.
        """
        failed, closed = self.failed(), [s for s in self.states.values() if s.status == "closed"]
        status, reason, code = FINISHED, "", 0
        if self.signals:
            status, code = INTERRUPTED, 128 + self.signals[0]
            reason = "stopped; finished steps are kept. Run the same command again to continue."
        elif failed:
            status, reason = FAILED, "\n".join(state.reason for state in failed)
            code = USER_ERROR if all(state.exit_code == USER_ERROR for state in failed) else 1
        elif closed:
            status, reason, code = CLOSED, closed[0].reason, GATE_CLOSED_CODE
        return RunResult(self.run, self.folder, status, reason, code, time.monotonic() - self.begun, self.states)

    # The start of a step

    def begin(self, step: Step | Gate) -> bool:
        """Begin a step or gate if all that it waits for (Pipeline.parents) have an outcome.

        It is skipped if one of these is a closed gate or was skipped itself. Otherwise a gate is read, and a step gets
        its outputs from this run or the cache, or is started. Nothing begins after a failure or a signal.

        Returns whether it has been skipped, read, finished or started by this call.
        """
        if step.name in self.attempts or self.failed() or self.signals:
            return False
        parents = self.plan.pipeline.parents(step)
        if not self.settled.issuperset(parents):
            return False
        if any(self.states[parent].status in ("skipped", "closed") for parent in parents):
            self.record_outcome(step.name, "skipped", "skipped", reason="a gate before it is closed")
            return True
        return self.read_gate(step) if isinstance(step, Gate) else self.begin_step(step)

    def begin_step(self, step: Step) -> bool:
        """Take a step's outputs from this run or the cache; otherwise start it if fewer than `workers` steps run and
        the lock of its cache key can be taken.

        Returns whether the step was finished or started; when not, call it again later.
        """
        key = self.plan.key(step, self.digests)
        if self.keep_finished(step, key) or self.use_cached(step, key):
            return True
        if len(self.attempts) >= self.workers:
            return False
        lock = Lock(self.runs_folder.lock(key))
        if not lock.take():
            self.handle_held_lock(step, key)
            return False
        if self.use_cached(step, key):  # another run may have finished it before the lock was free
            lock.free()
            return True
        self.prepare_step(step, key, lock)
        return True

    def keep_finished(self, step: Step, key: str) -> bool:
        """Mark a step as finished if this run finished it with this cache key before an interruption, and its outputs
        are unchanged and `still_there` does not say that something is gone.

        Returns whether it was marked.
        """
        state, folder = self.states[step.name], self.folder / step.name
        manifest = read_manifest(folder) if (state.status, state.key) == (FINISHED, key) else None
        if manifest is None or not is_intact(folder, manifest) or self.effect_is_gone(step, manifest, folder):
            return False
        self.finish(step, manifest, "kept")
        return True

    def use_cached(self, step: Step, key: str) -> bool:
        """Link a step's outputs from the cache entry of this key, if there is one, and mark the step as finished.

        Returns whether it was marked. For a forced step only an entry that this very run has computed counts. False
        also when `still_there` says that what the step wrote elsewhere is gone.
        """
        manifest = self.runs_folder.cache.find(key)
        if manifest is None or (step.name in self.plan.forced and manifest.run != self.run):
            return False
        try:
            if self.effect_is_gone(step, manifest, self.runs_folder.cache.folder / key):
                return False
            self.runs_folder.cache.link_outputs(manifest, self.folder / step.name)
        except FileNotFoundError:
            return False  # replaced or cleaned away meanwhile
        self.finish(step, manifest, "cached")
        return True

    def effect_is_gone(self, step: Step, manifest: Manifest, outputs: Path) -> bool:
        """Return whether something that a finished step wrote outside its outputs is gone.

        - manifest, outputs: of these outputs, and their folder.

        It is asked once for these outputs: the answer may take long, and a step that waits comes here at every poll.
        """
        if step.name not in self.still_there:
            return False
        made = (step.name, manifest.key, manifest.run)  # another run that makes them again also writes the rest again
        if made not in self.effects_gone:
            self.effects_gone[made] = not self.still_there[step.name](outputs)
        return self.effects_gone[made]

    def handle_held_lock(self, step: Step, key: str) -> None:
        """Report that a step waits for another run that holds the lock of its cache key, or kill a left-over process
        that does.

        A process on this machine is killed, which frees the lock, if it is left over from a run that no process works
        on, or from this run before it was continued. If another run that goes on holds the lock, the observer gets an
        event "waiting", once for the step. Nothing is done if another step of this run holds the lock.
        """
        if any(attempt.key == key for attempt in self.attempts.values()):
            return
        owner, group = lock_owner(self.runs_folder.lock(key))
        if owner.get("run") == self.run or (owner and not is_held(self.runs_folder.run_lock(owner.get("run", "")))):
            kill_group(group)
        elif owner and step.name not in self.waiting_reported:  # its name comes a moment after the lock is taken
            self.waiting_reported.add(step.name)
            self.report("waiting", step.name, f"run {owner.get('run', '')} is computing the same")

    def prepare_step(self, step: Step, key: str, lock: Lock) -> None:
        """Begin an attempt at a step and start its first process.

        For a forced step of which this run has started no process with this key, the checkpoints of the key are deleted
        first.

        - key: the step's cache key.
        - lock: of that key, already taken.
        """
        state = self.states[step.name]
        if step.name in self.plan.forced and state.key != key:
            # A forced step starts without old checkpoints, but keeps its own when this run is continued.
            remove(self.runs_folder.checkpoints(key))
        paths = {name: self.plan.paths[name] for name in step.inputs.values() if name in self.plan.paths}
        signatures = {name: self.plan.fingerprints[name].signatures for name in paths}
        self.states[step.name] = StepState(step.name, key=key, attempts=state.attempts if state.key == key else 0)
        attempt = Attempt(step, key, lock, signatures)
        self.attempts[step.name] = attempt
        self.start(attempt)

    def start(self, attempt: Attempt) -> None:
        """Start the next process of an attempt, and write to the step's state.json that it runs.

        The process writes its outputs into a new folder .attempt-N in the run's folder of the step; those of earlier
        tries are deleted.
        """
        step, state = attempt.step, self.states[attempt.step.name]
        folder = self.folder / step.name
        for stale in folder.glob(".attempt-*"):
            remove(stale)
        attempt.tries += 1
        state.attempts += 1
        state.status, state.started, state.exit_code = RUNNING, now(), None
        attempt.folder = folder / f".attempt-{state.attempts}"
        attempt.folder.mkdir(parents=True)
        if step.checkpoints:
            self.runs_folder.checkpoints(attempt.key).mkdir(parents=True, exist_ok=True)
        self.runs_folder.write_state(self.run, state)
        attempt.process = Process(
            self.plan.command(step, self.runs_folder, self.run, attempt.folder, attempt.key),
            self.plan.step_environment(self.runs_folder),
            folder / LOG,
            attempt.lock,
            {"run": self.run, "step": step.name},
        )
        self.report("started", step.name, expected=self.expected.get(step.name))

    # The end of a step

    def check(self, attempt: Attempt) -> bool:
        """Check an attempt: report a new line of its log, and call `end` if its process has ended.

        If the attempt waits for a retry, the next process is started when it is time, or the step fails because another
        one has failed. Returns whether a process has ended or been started.
        """
        if attempt.process is None:
            if self.failed():
                self.fail(attempt, f"{attempt.reason}\nIt was not started again, because another step has failed.")
            elif time.monotonic() >= attempt.again_at:
                self.start(attempt)
            return attempt.process is not None
        ended = attempt.process.poll()
        if line := attempt.process.new_line():
            self.report("line", attempt.step.name, line)
        if ended:
            self.end(attempt, attempt.process)
        return ended

    def end(self, attempt: Attempt, process: Process) -> None:
        """Store the outputs of an attempt whose process has ended with exit code 0 (`store_outputs`); otherwise delete
        them, and plan a retry or mark the step as failed.

        The exit code, seconds and memory of the process go into the step's state.

        There is no retry when step.retries are used up, after a mistake of the user (exit code 2), on a full disk, or
        when another step has failed. The step fails, whatever its exit code, when a source that it reads has changed
        since the run was planned.
        """
        step, state = attempt.step, self.states[attempt.step.name]
        state.exit_code, state.seconds = process.exit_code, round(process.seconds, 3)
        state.max_rss_bytes = max(state.max_rss_bytes, process.max_rss_bytes)
        read = {self.plan.paths[name]: before for name, before in attempt.signatures.items()}
        if changed := [path for path, before in read.items() if has_changed(path, before)]:
            state.exit_code = USER_ERROR
            self.fail(attempt, f"{changed[0]}: changed while step '{step.name}' was reading it. Run again.")
            return
        if process.exit_code == 0:
            self.store_outputs(attempt)
            return
        full = self.disk_is_full()  # asked before the half-written output is deleted, which frees space
        reason = self.failure_message(attempt, process, full)
        remove(attempt.folder)
        if full:
            state.exit_code = USER_ERROR
        final = state.exit_code == USER_ERROR or bool(self.failed())
        if final or attempt.tries > step.retries:
            self.fail(attempt, reason)
            return
        wait = self.backoff * 2 ** (attempt.tries - 1)
        attempt.process, attempt.again_at, attempt.reason = None, time.monotonic() + wait, reason
        self.report("retry", step.name, f"exit code {process.exit_code}; next try in {wait:g} s")

    def store_outputs(self, attempt: Attempt) -> None:
        """Move the outputs of an attempt into the cache, link them into the run's folder, mark the step as finished,
        delete its checkpoints, and end the attempt.

        The step fails instead, without another try, when an output is missing or holds links or special files. The
        attempt then ends too; its outputs are deleted, the checkpoints stay.
        """
        step, state = attempt.step, self.states[attempt.step.name]
        try:
            manifest = finalise_outputs(attempt.folder, step.outputs, attempt.key, self.run, state.seconds)
        except ValueError as error:
            self.fail(attempt, f"step '{step.name}': {error}. Its log: {self.folder / step.name / LOG}")
            return
        shutil.copyfile(self.folder / step.name / LOG, attempt.folder / LOG)
        self.runs_folder.cache.add(attempt.folder, attempt.key)
        self.runs_folder.cache.link_outputs(manifest, self.folder / step.name)
        self.finish(step, manifest, "finished")
        remove(self.runs_folder.checkpoints(attempt.key))
        self.close_attempt(attempt)

    def finish(self, step: Step, manifest: Manifest, kind: str) -> None:
        """Mark a step as finished, and keep the digests of its outputs for the cache keys of later steps.

        The outputs must be in the run's folder already.

        - manifest: of these outputs.
        - kind: of the Event to report: "finished" when its process has just ended, "cached" when the outputs come from
          the cache, or "kept" when this run had finished it earlier.
        """
        self.digests.update({f"{step.name}.{output}": manifest.digest(output) for output in step.outputs})
        if kind == "cached":
            tried = self.states[step.name].attempts
            self.states[step.name] = StepState(
                step.name, cached=True, attempts=tried, started=now(), seconds=manifest.seconds
            )
        self.states[step.name].key = manifest.key
        self.record_outcome(step.name, FINISHED, kind)

    def record_outcome(self, name: str, status: str, kind: str, reason: str = "") -> None:
        """Write the outcome of the step or gate called `name` into its state.json, add the name to `settled`, and
        report the outcome to the observer.

        - status, reason: as in StepState.
        - kind: of the Event. For "kept" state.json is up to date and not written.
        """
        state = self.states[name]
        state.status, state.reason = status, reason
        if kind != "kept":
            self.runs_folder.write_state(self.run, state)
        self.settled.add(name)
        self.report(kind, name, reason)

    def fail(self, attempt: Attempt, reason: str) -> None:
        """Mark the step of an attempt as failed, delete the outputs that it has written, and end the attempt. reason:
        as in StepState.
        """
        remove(attempt.folder)
        self.record_outcome(attempt.step.name, FAILED, "failed", reason)
        self.close_attempt(attempt)

    def close_attempt(self, attempt: Attempt) -> None:
        """End an attempt: remove it from those that run, and release its lock, so that another step may start."""
        attempt.lock.free()
        del self.attempts[attempt.step.name]

    def failure_message(self, attempt: Attempt, process: Process, full: bool) -> str:
        """Return the error message for the failed process of an attempt.

        - full: whether the disk is full; the message then says only that.

        After exit code 2 it is the step's own error message, if its log has one, and the path of the log. Otherwise it
        names the exit code or signal and the path of the log, and shows the log's last lines.
        """
        tail, name, code = process.tail(), attempt.step.name, process.exit_code or 0
        log = f"Its log: {self.folder / name / LOG}"
        if full:
            return f"{self.runs_folder.root}: the disk is full. Free some space, then run the same command again."
        if code == USER_ERROR and (at := max(tail.rfind("\nerror: "), 0 if tail.startswith("error: ") else -1)) >= 0:
            return f"{tail[at:].strip().removeprefix('error: ')}\n{log}"
        how = f"exit code {code}"
        if code < 0:
            memory = "; memory may have run out" if code == -signal.SIGKILL else ""
            how = f"killed by {signal.Signals(-code).name}{memory}"
        lines = "\n".join(f"  {line}" for line in tail.splitlines()[-TAIL_LINES:])
        return f"step '{name}' failed ({how}). {log}" + (f"\n{lines}" if lines else "")

    def disk_is_full(self) -> bool:
        """Return whether the disk that holds the runs folder has less free space than FULL_DISK_BYTES."""
        return shutil.disk_usage(self.runs_folder.root).free < FULL_DISK_BYTES

    def read_gate(self, gate: Gate) -> bool:
        """Read the true or false in a gate's file, and record that the gate is open or closed.

        The gate is recorded as failed when the file is missing or holds neither. Always returns True: something has
        changed, as `begin` returns it.
        """
        step, output = gate.on.split(".", 1)
        path = self.folder / step / output / f"{output}.json"
        found = find_json(path)
        value = found.get(gate.field) if isinstance(found, dict) else None
        if not isinstance(value, bool):
            reason = f"{path}: '{gate.field}' must be true or false for the gate '{gate.name}' (found: {value!r})."
            self.record_outcome(gate.name, FAILED, "failed", reason)
            return True
        reason = str(found.get("reason", "")) or f"{gate.field} is {value_text(value)} in {path}"
        self.record_outcome(gate.name, FINISHED if value else "closed", "opened" if value else "closed", reason)
        return True

    # Observer and signals

    def report(self, kind: str, step: str = "", text: str = "", expected: Expected | None = None) -> None:
        """Call the observer with an Event of this kind; the step's state is added.

        step, text, expected: as in Event.
        """
        self.observer(Event(kind, step, text, self.states.get(step), expected))

    @contextmanager
    def collecting_signals(self) -> Iterator[None]:
        """Context manager: inside the block, SIGINT, SIGTERM and SIGHUP are appended to self.signals and do not end
        this process. The old handlers come back afterwards.

        One signal stops the run; a second one kills its processes without waiting. Outside the main thread, where
        Python allows no signal handlers, the context manager does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, lambda got, _frame: self.signals.append(got)) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop_processes(self) -> None:
        """Stop the processes of all steps that run: SIGTERM, then SIGKILL after GRACE_SECONDS or at a second signal.
        Returns when all have ended.

        The outputs of a step that ends with exit code 0 meanwhile are stored; the other steps, also those that wait for
        a retry, are marked as interrupted. An OSError meanwhile, such as on a full disk, is ignored.
        """
        left = [attempt.process for attempt in self.attempts.values() if attempt.process]
        for process in left:
            process.send(signal.SIGTERM)
        until = time.monotonic() + GRACE_SECONDS
        while left := [process for process in left if not process.poll()]:
            if time.monotonic() > until or len(self.signals) > 1:
                for process in left:
                    process.send(signal.SIGKILL)
            time.sleep(0.01)
        for attempt in list(self.attempts.values()):
            with suppress(OSError):  # an error while stopping, such as a full disk, must not hide the first one
                if attempt.process and attempt.process.exit_code == 0:
                    self.end(attempt, attempt.process)
                    continue
                remove(attempt.folder)
                self.states[attempt.step.name].status = INTERRUPTED
                self.runs_folder.write_state(self.run, self.states[attempt.step.name])
                self.report("interrupted", attempt.step.name)
            attempt.lock.free()
