"""What a person sees of a run."""

import io
import json
import re
from dataclasses import replace

from scarcegan.local.events import Event
from scarcegan.local.live import Lines, event_line, final_line, watching
from scarcegan.progress import Progress, seconds_text
from scarcegan.terminal import VisibleStream
from toy_runs import Toys, gated, line, pipeline, step


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def seen(tmp_path, pipeline, stream, **options):
    with watching(pipeline, stream) as observer:
        Toys(tmp_path).run(pipeline, observer=observer, **options)
    return stream.getvalue()


def test_a_log_gets_a_plain_line_per_change_and_no_control_codes(tmp_path):
    text = seen(tmp_path, line("one", "two"), io.StringIO())
    assert "\x1b" not in text
    shape = re.sub(r"[\d.]+ (s|MB)\b", r"N \1", text).splitlines()
    assert shape[1:] == [
        "one: started",
        "one: done in N s, N MB",
        "two: started",
        "two: done in N s, N MB",
        "2 done in N s",
    ]


def test_what_comes_from_the_cache_is_said(tmp_path):
    seen(tmp_path, line("one"), io.StringIO())
    text = seen(tmp_path, line("one"), io.StringIO())
    assert "one: cached (nothing it depends on has changed)" in text
    assert "1 cached in" in text


def test_a_closed_gate_is_shown_with_its_figures(tmp_path):
    text = seen(tmp_path, gated(opened=False), io.StringIO())
    assert "gate: closed: 0.4 is below 0.5" in text
    assert "last: skipped: a gate before it is closed" in text


def test_a_log_says_how_long_earlier_runs_took_for_as_much_data(tmp_path):
    toys = Toys(tmp_path)
    first = toys.run(line("one", "two"))
    assert "(no earlier run tells how long it will take)" in event_line(toys.events[0], {}, 0)
    for name, seconds in (("one", 20.0), ("two", 40.0)):
        path = first.folder / name / "state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))
    (toys.source / "data.txt").write_text("data" * 3)
    text = seen(tmp_path, line("one", "two"), io.StringIO())
    assert re.search(r"run \S+, about 3 min 00 s, as earlier runs took\n", text)
    assert "one: started, about 1 min 00 s, as earlier runs took\n" in text


def test_a_first_run_is_guessed_from_the_size_of_the_data_and_said_to_be_rough(tmp_path, monkeypatch):
    toys = Toys(tmp_path)
    (toys.source / "data.txt").write_bytes(b"1234" * 1_000_000)
    one, two = line("one", "two").steps
    three = replace(line("one", "two", "three").steps[2], seconds=(2.0, 0.0))
    guessed = pipeline(replace(one, seconds=(10.0, 30.0)), replace(two, seconds=(48.0, 0.0)), three)
    text = seen(tmp_path, guessed, io.StringIO())
    assert re.search(r"run \S+, roughly 3 min: a guess from data and settings, as no earlier run tells\n", text)
    assert "one: started, roughly 2 min\n" in text and "two: started, roughly 50 s\n" in text
    assert "three: started, a few seconds\n" in text
    monkeypatch.setattr("scarcegan.local.live.REFRESH_SECONDS", 0)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    text = seen(tmp_path, pipeline(replace(step("new", "source"), seconds=(20.0, 0.0))), Terminal())
    assert re.search(r"running +0\.\d s of roughly 20 s", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text))


def test_what_is_cached_is_not_waited_for_and_what_runs_at_once_counts_once(tmp_path):
    toys = Toys(tmp_path)
    steps = (
        step("one", "source"),
        step("left", "one.out"),
        step("right", "one.out"),
        step("train", "source", _kind="training"),
    )
    toys.run(pipeline(*steps))
    toys.run(pipeline(*steps), from_step="left")
    began, *_ = toys.events
    seconds = {event.step: event.expected for event in toys.events if event.kind == "started"}
    assert list(seconds) == ["left"]
    assert began.expected == seconds["left"]


def test_a_table_shows_the_time_so_far_of_the_time_expected(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    toys = Toys(tmp_path)
    toys.run(line("one"))
    monkeypatch.setattr("scarcegan.local.live.REFRESH_SECONDS", 0)
    text = seen(tmp_path, line("one"), Terminal(), cache=False)
    assert re.search(r"running +0\.\d s of about 0\.\d s", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text))


def test_a_loop_of_known_length_says_how_much_is_left(capsys):
    progress = Progress("score", "users", seconds=0.0, total=200)
    progress.begun -= 30
    progress.add(50)
    progress.add(150)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("score: 50 of 200 users, about 1 min 3")
    assert last == "score: 200 users"


def test_a_log_says_why_a_step_failed(tmp_path):
    text = seen(tmp_path, line("one", act="mistake"), io.StringIO())
    assert re.search(r"one: failed in [\d.]+ s: labels\.csv: no column 'user_id'\. Name it in config\.yaml\.\n", text)


def test_a_terminal_gets_a_table_with_every_step_and_its_last_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = seen(tmp_path, pipeline(step("one", "source", act="mistake"), step("two", "one.out")), Terminal())
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)
    assert re.search(r"one +failed +\d\.\d s +labels\.csv: no column", plain)
    assert re.search(r"two +waiting", plain)
    assert "\x1b[31m" in text


def test_no_color_is_respected(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    text = seen(tmp_path, line("one"), Terminal())
    assert not re.search(r"\x1b\[[\d;]*3[1-7]m", text)


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with watching(line("one"), Terminal()) as observer:
        assert isinstance(observer, Lines)


def test_the_last_line_counts_steps_of_each_kind():
    assert final_line({"a": "finished", "b": "cached", "c": "finished"}, 65) == "2 done, 1 cached in 1 min 05 s"


def test_times_are_written_as_people_say_them():
    assert [seconds_text(s) for s in (0.44, 12.3, 125, 7620)] == ["0.4 s", "12 s", "2 min 05 s", "2 h 07 min"]
    assert [seconds_text(s) for s in (9.97, 59.7, 3599.8)] == ["10 s", "1 min 00 s", "1 h 00 min"]


def test_a_step_that_names_itself_is_named_once():
    event = Event("line", "train", "train: iteration 5")
    assert event_line(event, {}, 0.0) == "train: iteration 5"


def test_on_a_terminal_a_line_of_a_step_moves_no_cursor(tmp_path):
    table, terminal = line("one"), Terminal()
    with watching(table, VisibleStream(terminal)) as observer:
        observer(Event("begin", text="r1"))
        observer(Event("line", "one", text="ok\x1b[7Jno\u202e"))
        observer(Event("end", text="\x1b[7Jend"))
    text = terminal.getvalue()
    assert r"ok\x1b[7Jno" in text and "\x1b[7J" not in text and "\u202e" not in text
    assert "\x1b[" in text, "the table's own are written"
