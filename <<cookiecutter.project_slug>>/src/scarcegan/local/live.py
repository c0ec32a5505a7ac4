"""Observers that show a run's progress on stderr: a table of its steps, redrawn on a terminal, or lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from scarcegan.local.estimate import MEGABYTE
from scarcegan.local.events import Event, Expected, Observer
from scarcegan.local.state import StepState
from scarcegan.pipeline.definition import Gate, Pipeline
from scarcegan.progress import seconds_text
from scarcegan.terminal import VisibleStream, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

REFRESH_SECONDS = 0.2
LINE_SECONDS = 10.0  # between two progress lines of a step in a log
STATUS_WORDS = {"finished": "done", "cached": "cached", "kept": "kept", "opened": "open", "retry": "will retry"}
COLOURS = {"done": "green", "open": "green", "cached": "cyan", "kept": "cyan", "running": "bold", "failed": "red"}
COLOURS |= {"closed": "yellow", "interrupted": "yellow", "will retry": "yellow", "queued": "yellow"}


@contextmanager
def watching(pipeline: Pipeline, stream: TextIO | None = None) -> Iterator[Observer]:
    """Context manager that yields an observer for `run_pipeline`, which shows the progress of one run of this pipeline.

    On a terminal that can move its cursor the observer redraws a table of the steps until the run or the block ends;
    elsewhere it writes plain lines. The environment variable NO_COLOR is respected.

    - stream: where it writes; None: stderr.
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        yield Lines(stream)
        return
    from rich.console import Console
    from rich.live import Live

    # rich moves the cursor itself; what it is given is made visible below
    console = Console(file=stream.stream if isinstance(stream, VisibleStream) else stream, highlight=False)
    if console.is_dumb_terminal:
        yield Lines(stream)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield StepTable(pipeline, console, live)


class Lines:
    """An observer that writes a line of text to `stream` when a run begins or ends or a step changes.

    It shows a line of a step's log only when LINE_SECONDS have passed since the step's last shown line or other event.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.begun = time.monotonic()
        self.shown_at: dict[str, float] = {}
        self.steps: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Write the line of an event to the stream; nothing for an event that has no line."""
        if event.kind == "line" and time.monotonic() - self.shown_at.get(event.step, self.begun) < LINE_SECONDS:
            return
        self.shown_at[event.step] = time.monotonic()
        if event.step and event.kind != "line":
            self.steps[event.step] = event.kind
        words = event_line(event, self.steps, time.monotonic() - self.begun)
        if words:
            print(words, file=self.stream, flush=True)


class StepTable:
    """An observer that shows a table of a pipeline's steps on a terminal and redraws it as they change.

    - pipeline: the pipeline whose steps and gates are the rows.
    - console, live: objects of the library rich; `live` has been started, with auto_refresh=False. The observer stops
      it when the run ends.
    """

    def __init__(self, pipeline: Pipeline, console: "Console", live: "Live") -> None:
        self.pipeline, self.console, self.live = pipeline, console, live
        self.begun = self.drawn = time.monotonic()
        self.steps: dict[str, str] = {}
        self.started: dict[str, float] = {}
        self.expected: dict[str, Expected | None] = {}
        self.states: dict[str, StepState] = {}
        self.texts: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Store an event; redraw the table if the last drawing is older than REFRESH_SECONDS or the run has ended.

        When the run begins, its id is printed above the table. When it ends, `live` is stopped, and how many steps had
        each outcome is printed below.
        """
        if event.step:
            self.store(event)
        elif event.kind == "begin":
            self.console.print(visible(event_line(event, {}, 0)), style="dim", markup=False)
        if event.kind == "end" or time.monotonic() - self.drawn > REFRESH_SECONDS:
            self.drawn = time.monotonic()
            self.live.update(self.table(), refresh=True)
        if event.kind == "end":
            self.live.stop()
            self.console.print(event_line(event, self.steps, time.monotonic() - self.begun), markup=False)

    def store(self, event: Event) -> None:
        """Store the state, the kind and the first line of the text of a step's event for the next drawing."""
        if event.state:
            self.states[event.step] = event.state
        if event.kind != "line":
            self.steps[event.step] = {"started": "running", "waiting": "queued"}.get(event.kind, event.kind)
        if event.kind == "started":
            self.started[event.step], self.expected[event.step] = time.monotonic(), event.expected
        self.texts[event.step] = visible(event.text.partition("\n")[0])

    def table(self) -> "Table":
        """Return the table, with a row per step or gate: name, status, time, and the text of its last event (the last
        line of its log, or a reason).
        """
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, min_width=11)
        table.add_column(no_wrap=True, justify="right", min_width=7)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
        for step in self.pipeline.steps:
            word = STATUS_WORDS.get(self.steps.get(step.name, ""), self.steps.get(step.name, "waiting"))
            colour = COLOURS.get(word, "dim")
            name = step.name + (" (gate)" if isinstance(step, Gate) and step.name != "gate" else "")
            table.add_row(
                name, Text(word, style=colour), self.clock(step.name, word), Text(self.texts.get(step.name, ""))
            )
        return table

    def clock(self, name: str, word: str) -> str:
        """Return the time of a step as text: so far while it runs (and the expected one, if known), of its last process
        when it is done or has failed, else "".

        - name: of the step or gate.
        - word: its status as the table shows it, such as "running".
        """
        if word == "running":
            expected = self.expected[name]
            of = f" of {expected_text(expected)}" if expected else ""
            return f"{seconds_text(time.monotonic() - self.started[name])}{of}"
        state = self.states.get(name)
        return seconds_text(state.seconds) if state and word in ("done", "failed") else ""


def event_line(event: Event, steps: dict[str, str], seconds: float) -> str:
    """Return an event as one line of text, such as "train: done in 12 s, 900 MB"; "" for an event that is not shown,
    such as a tick.

    Of the text of "failed", which may have several lines, the first is shown; that of "end" is left out.

    - steps, seconds: as in final_line; used only for the event "end".
    """
    state = event.state
    used = f" in {seconds_text(state.seconds)}" if state else ""
    memory = f", {state.max_rss_bytes / MEGABYTE:.0f} MB" if state and state.max_rss_bytes else ""
    text = f": {event.text}" if event.text else ""
    about = ""
    if event.expected and event.expected.seconds:
        about = f", {expected_text(event.expected)}{'' if event.expected.rough else ', as earlier runs took'}"
    if event.kind == "begin" and event.expected is None:
        about = " (no earlier run tells how long it will take)"
    elif event.kind == "begin" and event.expected and event.expected.rough:
        about += ": a guess from data and settings, as no earlier run tells"
    texts = {
        "begin": f"run {event.text}{about}",
        "started": f"started{about}",
        "line": event.text.removeprefix(f"{event.step}: "),
        "finished": f"done{used}{memory}",
        "cached": "cached (nothing it depends on has changed)",
        "kept": "done earlier in this run",
        "opened": f"open{text}",
        "closed": f"closed{text}",
        "waiting": f"waiting{text}",
        "retry": f"failed{text}",
        "failed": f"failed{used}{text.partition(chr(10))[0]}",
        "skipped": f"skipped{text}",
        "interrupted": "stopped",
        "end": final_line(steps, seconds),
    }
    line = texts.get(event.kind, "")
    return f"{event.step}: {line}" if event.step and line else line


def expected_text(expected: Expected) -> str:
    """Return an expected time as text: "about 1 min 05 s", or rounded, "roughly 20 s", for a rough guess."""
    seconds = expected.seconds
    if not expected.rough:
        return f"about {seconds_text(seconds)}"
    if seconds < 60:
        return f"roughly {round(seconds / 10) * 10} s" if seconds > 5 else "a few seconds"
    return f"roughly {round(seconds / 60)} min" if seconds < 3600 else f"roughly {seconds_text(seconds)}"


def final_line(steps: dict[str, str], seconds: float) -> str:
    """Return the last line of a run: how many steps had each outcome, and the time.

    It looks like "7 done, 1 open in 3 min 05 s".

    - steps: name of each step or gate that had an event -> the kind of its last event.
    - seconds: since the start of the run.
    """
    counts: dict[str, int] = {}
    for kind in steps.values():
        word = STATUS_WORDS.get(kind, kind)
        counts[word] = counts.get(word, 0) + 1
    return f"{', '.join(f'{count} {word}' for word, count in counts.items())} in {seconds_text(seconds)}"
