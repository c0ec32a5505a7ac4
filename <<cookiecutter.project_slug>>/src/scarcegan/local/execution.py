"""One run on its way: begins what is ready, watches what runs, until all is settled. See local.py for the rules."""

import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scarcegan.errors import USER_ERROR
from scarcegan.jsonfile import find_json, write_json
from scarcegan.local.cache import LOG, Manifest, intact, read_manifest, seal
from scarcegan.local.durable import Lock, is_held, remove
from scarcegan.local.events import Event, Observer, RunResult
from scarcegan.local.fingerprint import looks_of
from scarcegan.local.plan import Plan, code_version
from scarcegan.local.process import Process, kill_group, owner_of
from scarcegan.local.state import CLOSED, FAILED, FINISHED, INTERRUPTED, RUNNING, Places, StepState, now
from scarcegan.pipeline.definition import Gate, Step, value_text

GRACE_SECONDS = 5.0
TAIL_LINES = 12
FULL_DISK_BYTES = 1 << 20
GATE_CLOSED_CODE = 3


@dataclass
class Attempt:
    """A step in hand: its lock is ours; process is None while it waits to be tried again."""

    step: Step
    key: str
    lock: Lock
    looks: Mapping[str, str]
    tries: int = 0
    folder: Path = Path()
    process: Process | None = None
    again_at: float = 0.0


class Execution:
    """One run, in one thread: begin what is ready, watch what runs, until all is settled."""

    def __init__(self, plan: Plan, places: Places, run: str, workers: int, observer: Observer, backoff: float) -> None:
        self.plan, self.places, self.run = plan, places, run
        self.workers, self.observer, self.backoff = workers, observer, backoff
        self.folder = places.root / run
        self.states = {step.name: places.state(run, step.name) for step in plan.pipeline.steps}
        self.digests = {name: print_.digest for name, print_ in plan.prints.items()}
        self.settled: set[str] = set()
        self.attempts: dict[str, Attempt] = {}
        self.waiting_said: set[str] = set()
        self.signals: list[int] = []
        self.begun = time.monotonic()

    # The run as a whole

    def go(self, about: Mapping[str, Any], settings: Mapping[str, Any]) -> RunResult:
        """Run to the end. about: what run.json said, when an earlier run is continued."""
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
        self.say("begin", text=self.run)
        with self.listening_to_signals():
            try:
                while not self.over():
                    moved = [self.begin(step) for step in self.plan.pipeline.steps if step.name not in self.settled]
                    moved += [self.watch(attempt) for attempt in list(self.attempts.values())]
                    self.say("tick")
                    if not any(moved):
                        time.sleep(self.pause())
            finally:
                self.stop()
        result = self.result()
        seconds = about["seconds"] + result.seconds
        write_json(
            self.folder / "run.json",
            {**about, "status": result.status, "reason": result.reason, "seconds": seconds, "ended": now()},
        )
        self.say("end", text=result.reason)
        return result

    def over(self) -> bool:
        if self.signals:
            return True
        return not self.attempts and (bool(self.failed()) or len(self.settled) == len(self.states))

    def failed(self) -> list[StepState]:
        return [state for state in self.states.values() if state.status == FAILED and state.step in self.settled]

    def pause(self) -> float:
        """Look often while steps are young, seldom when they have run for long."""
        ages = [attempt.process.seconds for attempt in self.attempts.values() if attempt.process]
        return min(0.1, max(0.005, min(ages, default=1.0) / 20))

    def result(self) -> RunResult:
        failed, closed = self.failed(), [s for s in self.states.values() if s.status == "closed"]
        status, reason, code = FINISHED, "", 0
        if self.signals:
            status, code = INTERRUPTED, 128 + self.signals[0]
            reason = "stopped; finished steps are kept. Run the same command again to go on."
        elif failed:
            status, reason = FAILED, "\n".join(state.reason for state in failed)
            code = USER_ERROR if all(state.exit_code == USER_ERROR for state in failed) else 1
        elif closed:
            status, reason, code = CLOSED, closed[0].reason, GATE_CLOSED_CODE
        return RunResult(self.run, self.folder, status, reason, code, time.monotonic() - self.begun, self.states)

    # A step's beginning

    def begin(self, step: Step | Gate) -> bool:
        """Bring a step on its way if it can go; whether something has changed."""
        if step.name in self.attempts or self.failed() or self.signals:
            return False
        parents = self.plan.pipeline.parents(step)
        if not self.settled.issuperset(parents):
            return False
        if any(self.states[parent].status in ("skipped", "closed") for parent in parents):
            self.settle(step.name, "skipped", "skipped", reason="a gate before it is closed")
            return True
        return self.pass_gate(step) if isinstance(step, Gate) else self.begin_step(step)

    def begin_step(self, step: Step) -> bool:
        key = self.plan.key(step, self.digests)
        if self.keep(step, key) or self.reuse(step, key):
            return True
        if len(self.attempts) >= self.workers:
            return False
        lock = Lock(self.places.lock(key))
        if not lock.take():
            self.wait_for(step, key)
            return False
        if self.reuse(step, key):  # another run may have finished it before we had the lock
            lock.free()
            return True
        self.prepare_step(step, key, lock)
        return True

    def keep(self, step: Step, key: str) -> bool:
        """Whether this very run has finished the step before it was cut short, and its outputs are still whole."""
        state, folder = self.states[step.name], self.folder / step.name
        manifest = read_manifest(folder) if (state.status, state.key) == (FINISHED, key) else None
        if manifest is None or not intact(folder, manifest):
            return False
        self.finish(step, manifest, "kept")
        return True

    def reuse(self, step: Step, key: str) -> bool:
        """Take the outputs from the cache: another run's unless the step is forced, this run's always."""
        manifest = self.places.cache.look_up(key)
        if manifest is None or (step.name in self.plan.forced and manifest.run != self.run):
            return False
        try:
            self.places.cache.hand_out(manifest, self.folder / step.name)
        except FileNotFoundError:
            return False  # replaced or cleaned away meanwhile
        self.finish(step, manifest, "cached")
        return True

    def wait_for(self, step: Step, key: str) -> None:
        """Somebody has the lock: a living run, for which we wait, or an orphan of a dead one, which we end."""
        if any(attempt.key == key for attempt in self.attempts.values()):
            return
        owner, group = owner_of(self.places.lock(key))
        if owner.get("run") == self.run or (owner and not is_held(self.places.run_lock(owner.get("run", "")))):
            kill_group(group)
        elif step.name not in self.waiting_said:
            self.waiting_said.add(step.name)
            self.say("waiting", step.name, f"run {owner.get('run', '')} is computing the same")

    def prepare_step(self, step: Step, key: str, lock: Lock) -> None:
        state = self.states[step.name]
        if step.name in self.plan.forced and state.key != key:
            remove(self.places.checkpoints(key))  # from scratch means from scratch, but only the first time
        paths = {name: self.plan.paths[name] for name in step.inputs.values() if name in self.plan.paths}
        looks = {name: self.plan.prints[name].looks for name in paths}
        self.states[step.name] = StepState(step.name, key=key, attempts=state.attempts if state.key == key else 0)
        attempt = Attempt(step, key, lock, looks)
        self.attempts[step.name] = attempt
        self.start(attempt)

    def start(self, attempt: Attempt) -> None:
        """Start a process that writes into a folder of its own, which nobody takes for an output."""
        step, state = attempt.step, self.states[attempt.step.name]
        folder = self.folder / step.name
        for stale in folder.glob(".attempt-*"):
            remove(stale)
        attempt.tries += 1
        state.attempts += 1
        state.status, state.started = RUNNING, now()
        attempt.folder = folder / f".attempt-{state.attempts}"
        attempt.folder.mkdir(parents=True)
        if step.checkpoints:
            self.places.checkpoints(attempt.key).mkdir(parents=True, exist_ok=True)
        self.places.write_state(self.run, state)
        attempt.process = Process(
            self.plan.command(step, self.places, self.run, attempt.folder, attempt.key),
            self.plan.environment(),
            folder / LOG,
            attempt.lock,
            {"run": self.run, "step": step.name},
        )
        self.say("started", step.name)

    # A step's end

    def watch(self, attempt: Attempt) -> bool:
        """See how a step in hand is doing; whether something has changed."""
        if attempt.process is None:
            if self.failed():
                self.give_up(attempt, "not tried again, as another step has failed")
            elif time.monotonic() >= attempt.again_at:
                self.start(attempt)
            return attempt.process is not None
        ended = attempt.process.poll()
        if line := attempt.process.new_line():
            self.say("line", attempt.step.name, line)
        if ended:
            self.end(attempt, attempt.process)
        return ended

    def end(self, attempt: Attempt, process: Process) -> None:
        step, state = attempt.step, self.states[attempt.step.name]
        state.exit_code, state.seconds = process.exit_code, round(process.seconds, 3)
        state.max_rss_bytes = max(state.max_rss_bytes, process.max_rss_bytes)
        if process.exit_code == 0:
            self.promote(attempt)
            return
        full = self.disk_is_full()  # asked before the half-written output goes and leaves room again
        reason = self.why(attempt, process, full)
        remove(attempt.folder)
        if full:
            state.exit_code = USER_ERROR
        final = state.exit_code == USER_ERROR or bool(self.failed())
        if final or attempt.tries > step.retries:
            self.give_up(attempt, reason)
            return
        wait = self.backoff * 2 ** (attempt.tries - 1)
        attempt.process, attempt.again_at = None, time.monotonic() + wait
        self.say("retry", step.name, f"exit code {process.exit_code}; trying again in {wait:g} s")

    def promote(self, attempt: Attempt) -> None:
        """Exit code 0: make the attempt the cache's entry, then the run's output. One rename decides."""
        step, state = attempt.step, self.states[attempt.step.name]
        changed = [name for name, looks in attempt.looks.items() if looks_of(self.plan.paths[name]) != looks]
        if changed:
            state.exit_code = USER_ERROR
            self.give_up(
                attempt, f"{self.plan.paths[changed[0]]}: changed while '{step.name}' was reading it. Run again."
            )
            return
        try:
            manifest = seal(attempt.folder, step.outputs, attempt.key, self.run, state.seconds)
        except ValueError as error:
            self.give_up(attempt, f"step '{step.name}': {error}. Its log: {self.folder / step.name / LOG}")
            return
        shutil.copyfile(self.folder / step.name / LOG, attempt.folder / LOG)
        self.places.cache.add(attempt.folder, attempt.key)
        self.places.cache.hand_out(manifest, self.folder / step.name)
        self.finish(step, manifest, "finished")
        remove(self.places.checkpoints(attempt.key))
        self.let_go(attempt)

    def finish(self, step: Step, manifest: Manifest, kind: str) -> None:
        """kind: finished (just now), cached, or kept from before this run was cut short."""
        self.digests.update({f"{step.name}.{output}": manifest.digest(output) for output in step.outputs})
        if kind == "cached":
            tried = self.states[step.name].attempts
            self.states[step.name] = StepState(
                step.name, cached=True, attempts=tried, started=now(), seconds=manifest.seconds
            )
        self.states[step.name].key = manifest.key
        self.settle(step.name, FINISHED, kind)

    def settle(self, name: str, status: str, kind: str, reason: str = "") -> None:
        state = self.states[name]
        state.status, state.reason = status, reason
        if kind != "kept":
            self.places.write_state(self.run, state)
        self.settled.add(name)
        self.say(kind, name, reason)

    def give_up(self, attempt: Attempt, reason: str) -> None:
        remove(attempt.folder)
        self.settle(attempt.step.name, FAILED, "failed", reason)
        self.let_go(attempt)

    def let_go(self, attempt: Attempt) -> None:
        attempt.lock.free()
        del self.attempts[attempt.step.name]

    def why(self, attempt: Attempt, process: Process, full: bool) -> str:
        """What to tell the user: the step's own sentence, or how it ended, its last lines and where the rest is."""
        said, name, code = process.tail(), attempt.step.name, process.exit_code or 0
        if full:
            return f"{self.places.root}: the disk is full. Free some space, then run the same command again."
        if code == USER_ERROR and (at := max(said.rfind("\nerror: "), 0 if said.startswith("error: ") else -1)) >= 0:
            return said[at:].strip().removeprefix("error: ")
        how = f"exit code {code}"
        if code < 0:
            memory = "; memory may have run out" if code == -signal.SIGKILL else ""
            how = f"killed by {signal.Signals(-code).name}{memory}"
        lines = "\n".join(f"  {line}" for line in said.splitlines()[-TAIL_LINES:])
        return f"step '{name}' failed ({how}). Its log: {self.folder / name / LOG}" + (f"\n{lines}" if lines else "")

    def disk_is_full(self) -> bool:
        return shutil.disk_usage(self.places.root).free < FULL_DISK_BYTES

    def pass_gate(self, gate: Gate) -> bool:
        """Read the gate's file. Open: go on; closed: what comes after is skipped; unreadable: the run fails."""
        step, output = gate.on.split(".", 1)
        path = self.folder / step / output / f"{output}.json"
        found = find_json(path)
        value = found.get(gate.field) if isinstance(found, dict) else None
        if not isinstance(value, bool):
            reason = f"{path}: '{gate.field}' must be true or false for the gate '{gate.name}' (found: {value!r})."
            self.settle(gate.name, FAILED, "failed", reason)
            return True
        reason = str(found.get("reason", "")) or f"{gate.field} is {value_text(value)} in {path}"
        self.settle(gate.name, FINISHED if value else "closed", "opened" if value else "closed", reason)
        return True

    # The outside

    def say(self, kind: str, step: str = "", text: str = "") -> None:
        self.observer(Event(kind, step, text, self.states.get(step)))

    @contextmanager
    def listening_to_signals(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM and a closed terminal ask for a stop; twice, for one without grace."""
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

    def stop(self) -> None:
        """End whatever still runs: politely, then not. A step that ends well meanwhile is kept."""
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
            with suppress(OSError):  # a full disk must not hide the error that brought us here
                if attempt.process and attempt.process.exit_code == 0:
                    self.end(attempt, attempt.process)
                    continue
                remove(attempt.folder)
                self.states[attempt.step.name].status = INTERRUPTED
                self.places.write_state(self.run, self.states[attempt.step.name])
                self.say("interrupted", attempt.step.name)
            attempt.lock.free()
