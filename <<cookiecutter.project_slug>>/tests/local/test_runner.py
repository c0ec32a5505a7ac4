"""The local runner on toy steps: order, failure, gates, kills, resumption, two runs at once."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest

from scarcegan.errors import UserError, run_step
from scarcegan.local import cache as cache_module
from scarcegan.local import execution, process, state
from scarcegan.local import runner as local
from scarcegan.pipeline.definition import Pipeline, Step
from toy_runs import Toys, alive, gated, kill, line, pipeline, step, two_of_which_hangs, until


@pytest.fixture
def toys(tmp_path):
    return Toys(tmp_path / "a folder, größer")


def hang(toys, *names):
    """A row of steps, all of which hang until the file `release` is there."""
    return line(*names, act="hang", release=str(toys.release))


def test_each_step_reads_what_the_one_before_wrote(toys):
    result = toys.run(line("one", "two", "three"))
    assert (result.status, result.exit_code) == ("finished", 0)
    assert (result.output("three", "out") / "whole.txt").read_text() == "three(two(one(data)))"
    assert toys.ran() == ["one", "two", "three"]


def test_two_steps_that_do_not_need_each_other_run_side_by_side(toys):
    # Each waits until both have begun: one after the other they would hang.
    meet = "import os\nfrom pathlib import Path\nimport sys, time\nplace = Path(os.environ['DIARY']).parent\n"
    meet += "(place / sys.argv[-1]).touch()\nPath(sys.argv[sys.argv.index('--out-out') + 1]).mkdir()\n"
    meet += "while not all((place / name).exists() for name in ('left', 'right')):\n    time.sleep(0.01)\n"
    (toys.package / "meet.py").write_text(meet)
    both = pipeline(*(Step(n, "toy.meet", {"a": "source"}, ("out",), {"me": n}) for n in ("left", "right")))
    assert toys.run(both, workers=2).finished


def test_arguments_arrive_as_text_with_booleans_in_small_letters_and_the_run_id_filled_in(toys):
    (toys.package / "echo.py").write_text(
        "import json, sys\nfrom pathlib import Path\nout = Path(sys.argv[sys.argv.index('--out-out') + 1])\n"
        "out.mkdir()\n(out / 'argv.json').write_text(json.dumps(sys.argv[1:]))\n"
    )
    values = {"yes": True, "number": 0.5, "negative": -1, "empty": "", "run": "{run_id}", "json": '{"é": [1]}'}
    result = toys.run(Pipeline("toy", ("source",), (Step("echo", "toy.echo", {}, ("out",), values),)))
    said = json.loads((result.output("echo", "out") / "argv.json").read_text())
    assert said[2:6] == ["--yes", "true", "--number", "0.5"]
    assert said[6:] == ["--negative=-1", "--empty", "", "--run", result.run, "--json", '{"é": [1]}']


def test_an_optional_source_that_is_not_given_is_an_empty_folder(toys):
    optional = Pipeline("toy", ("source", "labels"), (step("one", "source labels"),), optional=("labels",))
    result = toys.run(optional)
    assert (result.output("one", "out") / "whole.txt").read_text() == "one(data)"


def test_outputs_are_read_only_and_no_attempt_is_left_beside_them(toys):
    folder = toys.run(line("one")).folder / "one"
    assert (folder / "out" / "whole.txt").stat().st_mode & 0o222 == 0
    assert sorted(path.name for path in folder.iterdir()) == ["log.txt", "manifest.json", "out", "state.json"]


def test_a_users_mistake_is_said_in_its_own_words_and_not_tried_again(toys):
    result = toys.run(pipeline(step("one", "source", act="mistake", _retries=3), step("two", "one.out")))
    assert (result.status, result.exit_code) == ("failed", 2)
    sentence, log = result.reason.splitlines()
    assert sentence == "labels.csv: no column 'user_id'. Name it in config.yaml."
    assert log == f"Its log: {result.folder / 'one' / 'log.txt'}"
    assert toys.ran() == ["one"]


def test_a_bug_is_tried_again_as_often_as_the_step_allows_and_its_log_is_named(toys):
    result = toys.run(pipeline(step("one", "source", act="bug", _retries=2)))
    assert (result.status, result.exit_code) == ("failed", 1)
    assert "ZeroDivisionError: a bug" in result.reason
    assert str(result.folder / "one" / "log.txt") in result.reason
    assert toys.ran() == ["one"] * 3


def test_a_shaky_step_succeeds_at_its_second_try(toys):
    result = toys.run(pipeline(step("one", "source", act="shaky", good=2, _retries=1)))
    assert (result.status, result.steps["one"].attempts) == ("finished", 2)
    assert toys.kinds("one") == ["started", "retry", "started", "finished"]


def test_a_killed_step_is_tried_again_and_at_last_named_with_its_signal(toys):
    result = toys.run(pipeline(step("one", "source", act="die", _retries=1)))
    assert "killed by SIGKILL; memory may have run out" in result.reason
    assert toys.ran() == ["one", "one"]


def test_a_step_that_was_waiting_for_its_next_try_keeps_its_own_reason_when_another_one_fails(toys):
    shaky = step("shaky", "source", act="bug", _retries=1)
    (toys.package / "fail.py").write_text(
        "import os, sys, time\nwhile not os.path.exists(sys.argv[-1]): time.sleep(0.01)\nsys.exit('no')"
    )
    bad = Step("bad", "toy.fail", {"a": "source"}, ("out",), {"release": str(toys.release)})
    result = toys.run(
        pipeline(shaky, bad), observer=lambda e: toys.release.touch() if e.kind == "retry" else None, backoff=60.0
    )
    reason = result.steps["shaky"].reason
    assert "ZeroDivisionError: a bug" in reason
    assert reason.endswith("It was not started again, because another step has failed.")
    assert toys.ran() == ["shaky"]


def test_a_try_that_runs_has_no_exit_code_of_the_try_before(toys):
    seen = []

    def look(event):
        if event.kind == "started":
            seen.append(event.state.exit_code)

    toys.run(pipeline(step("one", "source", act="shaky", good=2, _retries=1)), observer=look)
    assert seen == [None, None]


def test_a_step_that_ends_well_without_its_output_has_failed(toys):
    result = toys.run(line("one", act="nothing"))
    assert result.status == "failed"
    assert "wrote no output 'out'" in result.reason


def test_when_a_step_fails_its_neighbours_finish_and_nothing_new_begins(toys):
    good = step("good", "source", act="hang", release=str(toys.release))
    both = pipeline(step("bad", "source", act="bug"), good, step("next", "good.out"))
    result = toys.run(both, observer=lambda event: toys.release.touch() if event.kind == "failed" else None)
    assert [result.steps[name].status for name in ("bad", "good", "next")] == ["failed", "finished", "waiting"]


def test_an_open_gate_lets_the_run_go_on(toys):
    result = toys.run(gated(opened=True))
    assert (result.status, toys.ran()) == ("finished", ["judge", "last"])


def test_a_closed_gate_skips_what_comes_after_it_and_says_why(toys):
    result = toys.run(gated(opened=False))
    assert (result.status, result.exit_code, result.reason) == ("gate closed", 3, "0.4 is below 0.5")
    assert (toys.ran(), result.steps["last"].status) == (["judge"], "skipped")


def test_a_gate_without_an_answer_fails_the_run(toys):
    from scarcegan.pipeline.definition import Gate

    result = toys.run(pipeline(step("judge", "source"), Gate("gate", "judge.out")))
    assert result.status == "failed"
    assert "'passed' must be true or false" in result.reason


def test_a_failed_run_is_continued_under_its_own_name_and_finished_steps_are_kept(toys):
    steps = line("one", "two")
    shaky = pipeline(*steps.steps, step("three", "two.out", act="shaky", good=2))
    first = toys.run(shaky)
    second = toys.run(shaky)
    assert (first.status, second.status, second.run) == ("failed", "finished", first.run)
    assert toys.kinds("two") == ["kept"]
    assert toys.ran() == ["one", "two", "three", "three"]
    assert toys.run(shaky).run != first.run


@pytest.mark.parametrize(("at", "ran"), [("one", ["one", "one", "two"]), ("two", ["one", "two", "two"])])
def test_a_killed_runner_takes_its_step_with_it_and_the_next_run_goes_on(toys, at, ran):
    runner = toys.in_background(f"two_of_which_hangs({at!r}, {str(toys.release)!r})")
    pid = toys.hanging(at)
    kill(runner)
    until(lambda: not alive(pid))
    [left] = local.list_runs(toys.root)
    assert (left.status, left.steps[at]) == ("interrupted", "interrupted")
    toys.release.touch()
    result = toys.run(two_of_which_hangs(at, str(toys.release)))
    assert (result.status, result.run) == ("finished", left.run)
    assert toys.ran() == ran


def test_an_orphan_that_outlived_its_runner_is_ended_before_its_step_begins_again(toys):
    runner = toys.in_background(f"orphan({str(toys.release)!r})")
    pid = toys.hanging("one")
    kill(runner)
    assert alive(pid)
    orphan_lives = []

    def look(event):
        if event.kind == "started":
            orphan_lives.append(alive(pid))
            toys.release.touch()

    assert toys.run(hang(toys, "one"), observer=look).finished
    assert (orphan_lives, toys.ran()) == ([False], ["one", "one"])


def test_killing_the_step_alone_is_a_failure_that_is_tried_again(toys):
    runner = toys.in_background(f"pipeline_of_one({str(toys.release)!r}, retries=1)")
    pid = toys.hanging("one")
    toys.release.touch()
    os.kill(pid, signal.SIGKILL)
    assert "finished" in runner.communicate()[0]


def test_half_written_output_is_never_taken_for_a_finished_one(toys):
    runner = toys.in_background(f"line('one', act='hang', release={str(toys.release)!r})")
    toys.hanging("one")
    kill(runner)
    left = [path.relative_to(toys.root).parts for path in toys.root.rglob("half.txt")]
    assert all(any(part.startswith(".attempt-") for part in parts) for parts in left)
    toys.release.touch()
    result = toys.run(hang(toys, "one"))
    assert sorted(path.name for path in result.output("one", "out").iterdir()) == ["whole.txt"]


@pytest.mark.parametrize("where", ["add", "link_outputs", "after"])
def test_a_runner_killed_while_it_puts_outputs_in_place_does_nothing_twice(toys, where):
    runner = toys.in_background(f"killed_at({where!r})")
    runner.wait()
    result = toys.run(line("one", "two"))
    assert (runner.returncode, result.status) == (-signal.SIGKILL, "finished")
    assert toys.ran() == (["one", "one", "two"] if where == "add" else ["one", "two"])
    assert (result.output("two", "out") / "whole.txt").read_text() == "two(one(data))"


def test_a_runner_killed_before_it_handed_out_does_nothing_twice_without_the_cache_either(toys):
    toys.in_background("killed_at('hand_out'), cache=False").wait()
    assert toys.run(line("one", "two"), cache=False).finished
    assert toys.ran() == ["one", "two"]


def test_a_result_that_comes_while_the_lock_is_taken_is_used(toys, monkeypatch):
    real = execution.Lock.take

    def take_after_another_run(lock):
        monkeypatch.setattr(execution.Lock, "take", real)
        assert toys.run(line("one")).finished
        return lock.take()

    def arm(event):
        if event.kind == "begin":
            monkeypatch.setattr(execution.Lock, "take", take_after_another_run)

    assert toys.run(line("one"), observer=arm).finished
    assert toys.ran() == ["one"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_the_steps_and_says_how_to_go_on(toys, number):
    runner = toys.in_background(f"line('one', act='hang', release={str(toys.release)!r})")
    pid = toys.hanging("one")
    runner.send_signal(number)
    said, _ = runner.communicate()
    assert (runner.returncode, "interrupted" in said, alive(pid)) == (128 + number, True, False)
    [left] = local.list_runs(toys.root)
    assert (left.status, left.steps["one"]) == ("interrupted", "interrupted")
    assert "Run the same command again" in left.reason
    toys.release.touch()
    assert toys.run(hang(toys, "one")).run == left.run


def test_two_identical_runs_at_once_share_the_work(toys):
    text = f"line('one', 'two', act='hang', release={str(toys.release)!r})"
    first, second = toys.in_background(text), toys.in_background(text)
    toys.hanging("one")
    until(lambda: len(local.list_runs(toys.root)) == 2)
    assert {run.status for run in local.list_runs(toys.root)} == {"running"}
    toys.release.touch()
    said = [process.communicate()[0].split() for process in (first, second)]
    assert [words[1] for words in said] == ["finished", "finished"]
    assert said[0][0] != said[1][0]
    assert sorted(toys.ran()) == ["one", "two"]


def test_a_killed_training_finds_its_checkpoints_and_a_finished_one_leaves_none(toys):
    training = pipeline(step("train", "source", act="point", _kind="training", _retries=0))
    assert toys.run(training).status == "failed"
    result = toys.run(training)
    assert (result.output("train", "out") / "seen.txt").read_text() == "7"
    assert not list((toys.root / ".cache" / "checkpoints").iterdir())


def test_a_disk_that_fills_up_in_a_step_is_said_plainly_and_the_run_can_go_on(toys):
    result = toys.run(pipeline(step("one", "source", act="full", _retries=3)))
    assert (result.exit_code, toys.ran()) == (2, ["one"])
    assert "the disk is full. Free some space, then run the same command again" in result.reason


def test_a_disk_that_fills_up_under_the_runner_is_said_plainly_and_the_run_can_go_on(toys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(cache_module.Cache, "add", full)
        with pytest.raises(UserError, match="somewhere: the disk is full"):
            toys.run(line("one"))
    [left] = local.list_runs(toys.root)
    assert (left.status, toys.run(line("one")).run) == ("interrupted", left.run)


def test_a_full_disk_explains_a_step_that_could_not_even_say_so(toys, monkeypatch):
    def full_while_half_written(self):
        return any(self.folder.rglob("half.txt"))

    monkeypatch.setattr(execution.Execution, "disk_is_full", full_while_half_written)
    result = toys.run(pipeline(step("one", "source", act="bug", _retries=3)))
    assert "the disk is full" in result.reason
    assert (result.exit_code, toys.ran()) == (2, ["one"])


def test_a_runs_folder_that_cannot_be_one_is_refused(toys):
    (toys.folder / "runs").write_text("a file")
    with pytest.raises(UserError, match=r"runs.*Set local\.folder"):
        toys.run(line("one"))


def test_a_source_that_is_missing_or_not_known_is_refused(toys):
    with pytest.raises(UserError, match=r"nowhere.*\(source 'source'\): No such file"):
        local.run_pipeline(line("one"), {"source": toys.folder / "nowhere"}, toys.root)
    with pytest.raises(UserError, match="missing: source; unknown: sauce"):
        local.run_pipeline(line("one"), {"sauce": toys.source}, toys.root)


def test_a_source_that_changes_while_a_step_reads_it_fails_the_step(toys):
    def spoil(event):
        if event.kind == "started":
            (toys.source / "data.txt").write_text("other data")
            toys.release.touch()

    result = toys.run(hang(toys, "one"), observer=spoil)
    assert "changed while step 'one' was reading it" in result.reason


def test_a_server_may_go_on_capturing_requests_while_a_step_reads_them(toys):
    (toys.source / "10").mkdir()
    (toys.source / "10/a.jsonl").write_text("{}\n")

    def capture(event):
        if event.kind == "started":
            with (toys.source / "10/a.jsonl").open("a") as file:
                file.write("{}\n")
            (toys.source / "11").mkdir()
            (toys.source / "11/b.jsonl").write_text("{}\n")
            toys.release.touch()

    assert toys.run(hang(toys, "one"), observer=capture).status == "finished"


@pytest.mark.parametrize("name", ["10/a.jsonl", "10/new.csv", "10/other.jsonl"])
def test_captured_requests_that_are_lost_and_files_of_another_kind_fail_the_step(toys, name):
    (toys.source / "10").mkdir()
    (toys.source / "10/a.jsonl").write_text("{}\n")
    (toys.source / "10/other.jsonl").write_text("{}\n")

    def spoil(event):
        if event.kind == "started":
            file = toys.source / name
            file.unlink() if "other" in name else file.write_text("")
            toys.release.touch()

    assert "changed while step 'one' was reading it" in toys.run(hang(toys, "one"), observer=spoil).reason


def test_an_odd_locale_changes_nothing(toys):
    code = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\nfrom pathlib import Path\n"
    code += f"from toy_runs import *\nprint(Toys(Path({str(toys.folder)!r})).run(line('one')).status)"
    environment = {"LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("finished", "")


def test_a_run_is_listed_with_what_it_read_and_the_settings_it_had(toys):
    result = toys.run(line("one"), settings={"labels": {"rare_class": "risky"}})
    about = local.read_run(toys.root, result.run)
    assert about["settings"] == {"labels": {"rare_class": "risky"}}
    assert about["sources"]["source"]["files"] == 1
    assert about["steps"]["one"]["max_rss_bytes"] > 1_000_000
    with pytest.raises(UserError, match=f"no run 'nope' .*{result.run}"):
        local.read_run(toys.root, "nope")


def test_cleaning_keeps_the_newest_runs_and_what_they_need(toys):
    old = toys.run(line("one"))
    (toys.source / "data.txt").write_text("new data")
    new = toys.run(line("one"))
    assert local.clean(toys.root, keep=1) == [old.run]
    assert [run.run for run in local.list_runs(toys.root)] == [new.run]
    toys.ran()
    assert toys.run(line("one")).finished
    assert toys.ran() == []
    (toys.source / "data.txt").write_text("data")
    toys.run(line("one"))
    assert toys.ran() == ["one"]


def test_cleaning_leaves_a_living_run_alone(toys):
    runner = toys.in_background(f"line('one', act='hang', release={str(toys.release)!r})")
    toys.hanging("one")
    assert local.clean(toys.root, keep=0) == []
    toys.release.touch()
    assert "finished" in runner.communicate()[0]


@pytest.mark.parametrize("text", ["", "[]\n7\n", "not json\n"])
def test_a_lock_that_names_no_owner_has_none(tmp_path, text):
    (tmp_path / "lock").write_text(text)
    assert process.lock_owner(tmp_path / "lock") == ({}, 0)


def spoil(path, how):
    """Put something odd in the place of a file."""
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    else:
        path.write_text(how)


ODD = ["[]", "{}", "7", "{", "folder", "pipe", '{"run": 1, "steps": "one"}']


@pytest.mark.parametrize("how", ODD)
def test_a_run_of_an_odd_run_json_is_listed_as_damaged_and_can_be_deleted(toys, how):
    odd = toys.run(line("one"))
    spoil(odd.folder / "run.json", how)
    assert toys.run(line("one")).finished
    new, old = local.list_runs(toys.root)
    assert (new.status, old.status, old.run) == ("finished", "damaged", odd.run)
    assert "run.json" in old.reason
    with pytest.raises(UserError, match=rf"{odd.run}/run\.json: .*scarcegan runs --clean-but"):
        local.read_run(toys.root, odd.run)
    assert local.clean(toys.root, keep=1) == [odd.run]


@pytest.mark.parametrize("how", [*ODD, '{"status": 7, "seconds": "long", "key": null}'])
def test_an_odd_state_json_is_a_step_that_waits(toys, how):
    shaky = pipeline(step("one", "source"), step("two", "one.out", act="shaky", good=2))
    first = toys.run(shaky)
    spoil(first.folder / "one" / "state.json", how)
    assert local.read_run(toys.root, first.run)["steps"]["one"]["status"] == "waiting"
    if how == "folder":
        with pytest.raises(UserError, match=r"one/state\.json: a folder, where a file is needed\. Move it away"):
            toys.run(shaky)
    else:
        assert toys.run(shaky).run == first.run


def test_a_folder_in_the_place_of_a_lock_is_told_and_nothing_is_lost(toys, capsys):
    result = toys.run(line("one"))
    lock = toys.root / ".cache" / "locks" / result.steps["one"].key
    spoil(lock, "folder")
    (result.folder / "run.json").unlink()
    assert run_step(lambda: local.clean(toys.root, keep=0)) == 2
    assert re.search(r"locks/\w+: a folder, where a file is needed\. Move it away", capsys.readouterr().err)
    lock.rmdir()
    local.clean(toys.root, keep=0)
    assert not lock.exists()


def test_two_may_clean_at_once(toys, monkeypatch):
    result = toys.run(line("one"))
    real = state.lock_if_free

    @contextmanager
    def after_another_clean(path):
        monkeypatch.setattr(state, "lock_if_free", real)
        assert local.clean(toys.root, keep=0) == [result.run]
        with real(path) as mine:
            yield mine

    monkeypatch.setattr(state, "lock_if_free", after_another_clean)
    assert local.clean(toys.root, keep=0) == []
    assert local.list_runs(toys.root) == []
    assert not result.folder.exists()


def test_a_source_that_is_deleted_while_a_step_reads_it_fails_the_step(toys):
    def delete(event):
        if event.kind == "started":
            shutil.rmtree(toys.source)
            toys.release.touch()

    result = toys.run(hang(toys, "one"), observer=delete)
    assert (result.status, result.exit_code) == ("failed", 2)
    assert "changed while step 'one' was reading it" in result.reason
    assert toys.ran() == ["one"]


def test_a_runner_killed_in_the_middle_of_linking_outputs_leaves_nothing_behind(toys):
    runner = toys.in_background("killed_while_linking()")
    runner.wait()
    result = toys.run(line("one", "two"))
    assert (runner.returncode, result.status, toys.ran()) == (-signal.SIGKILL, "finished", ["one", "two"])
    assert not list(toys.root.rglob(".new-*"))
    assert (result.output("two", "out") / "whole.txt").read_text() == "two(one(data))"


@pytest.mark.parametrize(("workers", "seconds"), [(1, 36.0), (2, 21.0), (9, 21.0)])
def test_steps_that_cannot_run_at_once_are_expected_one_after_the_other(toys, workers, seconds):
    """One step of 1 s, after which three need 20, 10 and 5 s: two workers need 21 s, as 20 s are longer than 10 + 5."""
    after = [
        replace(step(name, "one.out"), seconds=(long, 0.0)) for name, long in (("a", 20.0), ("b", 10.0), ("c", 5.0))
    ]
    four = pipeline(replace(step("one", "source"), seconds=(1.0, 0.0)), *after)
    said = []
    toys.run(
        four, workers=workers, observer=lambda event: said.append(event.expected) if event.kind == "begin" else None
    )
    assert said == [(seconds, True)]
    said.clear()
    toys.run(
        four, workers=workers, observer=lambda event: said.append(event.expected) if event.kind == "begin" else None
    )
    assert said == [(0.0, False)]
