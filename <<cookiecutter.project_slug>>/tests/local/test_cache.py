"""What makes a step run again and what does not; what a damaged cache does."""

import os
from pathlib import Path

import pytest

from scarcegan.errors import UserError
from scarcegan.local import cache, fingerprint, plan, runner
from scarcegan.local.durable import Lock, remove
from scarcegan.pipeline import code
from scarcegan.pipeline.definition import Pipeline
from toy_runs import Toys, line, pipeline, step


@pytest.fixture
def toys(tmp_path):
    return Toys(tmp_path)


@pytest.fixture
def ran(toys):
    """Three steps have run once; a function that runs them again and tells which did anything."""
    toys.run(line("one", "two", "three"))
    toys.ran()

    def again(**options):
        assert toys.run(options.pop("pipeline", line("one", "two", "three")), **options).finished
        return toys.ran()

    return again


def entry_of(toys, step):
    [run, *_] = runner.list_runs(toys.root)
    return toys.root / ".cache" / "outputs" / runner.read_run(toys.root, run.run)["steps"][step]["key"]


def test_when_nothing_has_changed_nothing_runs_and_the_outputs_are_there(toys, ran):
    assert ran() == []
    [new, old] = runner.list_runs(toys.root)
    files = [toys.root / run.run / "three" / "out" / "whole.txt" for run in (new, old)]
    assert files[0].read_text() == "three(two(one(data)))"
    assert files[0].samefile(files[1])


def test_other_data_run_all_again(toys, ran):
    (toys.source / "data.txt").write_text("DATA")
    assert ran() == ["one", "two", "three"]


def test_the_same_data_under_another_date_run_nothing(toys, ran):
    os.utime(toys.source / "data.txt", (1, 1))
    assert ran() == []


def test_a_file_more_in_the_data_runs_all_again(toys, ran):
    (toys.source / "more.txt").write_text("")
    assert ran() == ["one", "two", "three"]


def test_another_argument_runs_its_step_and_those_that_read_it(toys, ran):
    changed = pipeline(step("one", "source"), step("two", "one.out", act="else"), step("three", "two.out"))
    # two writes the very same file, so three has nothing new to read.
    assert ran(pipeline=changed) == ["two"]


def test_an_imported_module_is_code_and_an_unrelated_one_is_not(toys, ran):
    (toys.package / "other.py").write_text("x = 1\n")
    assert ran() == []
    (toys.package / "words.py").write_text("PREFIX = '!'\n")
    assert ran() == ["one", "two", "three"]


def test_a_template_of_an_imported_package_is_code(toys, ran):
    (toys.package / "page.html").write_text("<p>")
    assert ran() == ["one", "two", "three"]


def test_imports_are_followed_through_functions_relative_names_and_packages(tmp_path):
    for path, text in {
        "pack/__init__.py": "",
        "pack/a.py": "def f():\n    from pack.deep import b\n",
        "pack/deep/__init__.py": "",
        "pack/deep/b.py": "from . import c\nfrom ..d import thing\nimport numpy\n",
        "pack/deep/c.py": "",
        "pack/d.py": "thing = 1\n",
        "pack/unused.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text(text)
    files = code.code_files("pack.a", (tmp_path,))
    names = {file.relative_to(tmp_path / "pack").as_posix() for file in files}
    assert names == {"__init__.py", "a.py", "deep/__init__.py", "deep/b.py", "deep/c.py", "d.py"}
    assert code.imported_libraries(tmp_path / "pack/deep/b.py", (tmp_path,)) >= {"numpy"}


def test_another_version_of_a_library_is_other_code(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text("import numpy\n")
    before = code.step_code_digest("one", (tmp_path,))
    monkeypatch.setattr(code, "library_version", lambda name: "0.0.1")
    assert code.step_code_digest("one", (tmp_path,)) != before


def test_the_environment_counts_for_a_lambda_step_only(toys):
    acting = pipeline(step("one", "source"), step("act", "one.out", _kind="lambda"))
    toys.run(acting, env={"REGISTRY": "here"})
    toys.ran()
    toys.run(acting, env={"REGISTRY": "there"})
    assert toys.ran() == ["act"]


def test_without_the_cache_every_step_runs(ran):
    assert ran(cache=False) == ["one", "two", "three"]
    assert ran() == []


def test_from_a_step_it_and_all_after_it_run(ran):
    assert ran(from_step="two") == ["two", "three"]


def test_from_a_step_whose_predecessors_have_no_outputs_is_refused_before_anything_runs(toys):
    with pytest.raises(UserError, match="--from two needs the outputs of 'one'"):
        toys.run(line("one", "two"), from_step="two")
    with pytest.raises(UserError, match=r"no step 'tow' .* did you mean 'two'\? There are: one, two\."):
        toys.run(line("one", "two"), from_step="tow")
    assert runner.list_runs(toys.root) == []


def test_a_failed_run_without_cache_keeps_what_it_had_finished(toys):
    shaky = pipeline(step("one", "source"), step("two", "one.out", act="shaky", good=2))
    toys.run(shaky, cache=False)
    assert toys.run(shaky, cache=False).finished
    assert toys.ran() == ["one", "two", "two"]


def test_a_cached_step_whose_outside_effect_is_gone_runs_again_and_those_before_it_do_not(toys, ran):
    asked = []

    def look(folder, answer):
        asked.append((folder / "out" / "whole.txt").read_text())
        return answer

    assert ran(still_there={"three": lambda folder: look(folder, False)}) == ["three"]
    assert ran(still_there={"three": lambda folder: look(folder, True)}) == []
    assert set(asked) == {"three(two(one(data)))"}


def test_an_entry_that_is_cleaned_away_while_its_outside_effect_is_looked_for_is_made_again(toys, ran):
    asked = []

    def look(folder):
        asked.append(folder)
        remove(folder)
        return (folder / "out" / "whole.txt").read_text() != ""

    assert ran(still_there={"three": look}) == ["three"]
    assert len(asked) == 1


def test_a_step_that_waits_for_another_run_asks_once_whether_its_outside_effect_is_there(toys, ran):
    asked, polls = [], []
    other = Lock(toys.root / ".cache" / "locks" / entry_of(toys, "three").name)

    def look(folder):
        asked.append(folder)
        return False

    def free_at_last(event):
        polls.extend([event] if event.kind == "tick" else [])
        if len(polls) == 5:
            other.free()

    assert other.take()
    other.note("{}")
    assert ran(still_there={"three": look}, observer=free_at_last) == ["three"]
    assert len(polls) > 5
    assert len(asked) == 1


def test_a_finished_step_of_an_interrupted_run_runs_again_too_when_its_outside_effect_is_gone(toys):
    shaky = pipeline(step("one", "source"), step("two", "one.out", act="shaky", good=2))
    toys.run(shaky)
    assert toys.run(shaky, still_there={"one": lambda _: False}).finished
    assert toys.ran() == ["one", "two", "one", "two"]


def test_a_step_is_told_where_the_hashes_of_its_sources_are(toys, monkeypatch):
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 0)
    (toys.package / "words.py").write_text(f"import os\nPREFIX = os.environ['{fingerprint.HASHES_VARIABLE}'] + '!'\n")
    folder, _, _ = (toys.run(line("one")).output("one", "out") / "whole.txt").read_text().partition("!")
    [known] = fingerprint.stored_hashes(toys.source, Path(folder)).values()
    assert known == code.hash_file(toys.source / "data.txt")


@pytest.mark.parametrize("damage", ["shorter", "other", "gone", "manifest", "garbled"])
def test_a_damaged_entry_is_noticed_and_made_again(toys, ran, damage):
    entry = entry_of(toys, "two")
    file = entry / "out" / "whole.txt"
    text = file.read_text()
    file.chmod(0o644)
    if damage in ("shorter", "other"):
        file.write_text(text[:-1] if damage == "shorter" else text.swapcase())
    elif damage == "gone":
        file.unlink()
    elif damage == "manifest":
        (entry / "manifest.json").unlink()
    else:
        (entry / "manifest.json").write_text('{"outputs": [')
    assert ran() == ["two"]
    assert file.read_text() == text


def test_a_run_without_the_cache_folder_keeps_its_own_outputs_when_it_goes_on(toys):
    shaky = pipeline(step("one", "source"), step("two", "one.out", act="shaky", good=2))
    toys.run(shaky)
    (toys.root / ".cache").rename(toys.root / "elsewhere")
    assert toys.run(shaky).finished
    assert toys.ran() == ["one", "two", "two"]


def test_where_the_disk_has_no_hard_links_outputs_are_copied(toys, ran, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(cache.os, "link", refuse)
    assert ran() == []
    [new, old] = runner.list_runs(toys.root)
    one, other = (toys.root / run.run / "one" / "out" / "whole.txt" for run in (new, old))
    assert one.read_text() == other.read_text()
    assert not one.samefile(other)


def test_empty_folders_are_part_of_an_output(tmp_path):
    (tmp_path / "attempt" / "out" / "assets").mkdir(parents=True)
    manifest = cache.finalise_outputs(tmp_path / "attempt", ["out"], "key", "run", 0.0)
    store = cache.Cache(tmp_path / "cache")
    store.add(tmp_path / "attempt", "key")
    store.link_outputs(manifest, tmp_path / "run")
    assert (tmp_path / "run" / "out" / "assets").is_dir()


def test_a_link_in_an_output_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "away").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="away, a link or a special file"):
        cache.finalise_outputs(tmp_path, ["out"], "key", "run", 0.0)


def test_a_big_source_is_read_once_and_again_when_it_is_written_to(tmp_path, monkeypatch):
    read = []
    real = fingerprint.hash_file
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 0)
    monkeypatch.setattr(fingerprint, "hash_file", lambda path: read.append(path.name) or real(path))
    source = tmp_path / "source"
    source.mkdir()
    for name in "abc":
        (source / name).write_text(name)
    first = fingerprint.fingerprint_of(source, tmp_path / "memory")
    assert fingerprint.fingerprint_of(source, tmp_path / "memory") == first
    assert sorted(read) == ["a", "b", "c"]
    (source / "b").write_text("B")
    assert fingerprint.fingerprint_of(source, tmp_path / "memory").digest != first.digest
    assert sorted(read) == ["a", "b", "b", "c"]


def test_a_link_that_leads_back_into_its_folder_is_counted_once_and_followed_no_further(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "in" / "up").symlink_to("..")
    (tmp_path / "in" / "a").write_text("a")
    assert [name for name, _ in fingerprint.files_and_folders(tmp_path)] == ["in", "in/a", "in/up", "loop"]
    assert fingerprint.fingerprint_of(tmp_path, tmp_path.parent / "memory").files == 1


def test_a_folder_that_a_link_names_again_is_counted_once_and_another_target_is_other_data(tmp_path):
    for name in "ac":
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / f"{name}.txt").write_text(name)
    found = []
    for target in "ac":
        (tmp_path / "data" / "d").symlink_to(target)
        found.append(fingerprint.fingerprint_of(tmp_path / "data", tmp_path / "memory"))
        (tmp_path / "data" / "d").unlink()
    assert [one.files for one in found] == [2, 2]
    assert found[0].digest != found[1].digest


def test_a_link_that_leads_nowhere_ends_no_run_and_counts_by_where_it_leads(toys):
    link = toys.source / "gone.txt"
    digests = []
    for target in ("nowhere", "elsewhere"):
        link.symlink_to(target)
        digests.append(fingerprint.fingerprint_of(toys.source, toys.folder / "memory").digest)
        link.unlink()
    assert digests[0] != digests[1]
    link.symlink_to("gone.txt")
    (toys.package / "work.py").write_text((toys.package / "work.py").read_text().replace('"*.txt"', '"data.txt"'))
    assert toys.run(line("one")).finished


def test_a_pipe_among_the_data_is_refused_at_once(tmp_path):
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / "pipe.csv")
    with pytest.raises(UserError, match=r"data/pipe\.csv: .*a pipe or a device.* Name a file or folder"):
        plan.fingerprint_data([tmp_path / "data"], tmp_path / "runs")


def test_hashes_that_cannot_be_stored_are_not_blamed_on_the_data(toys, monkeypatch):
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 0)
    (toys.root / ".cache").mkdir(parents=True)
    (toys.root / ".cache" / "fingerprints").write_text("a file")
    with pytest.raises(UserError, match=r"\.cache/fingerprints: a file, where a folder is needed\. Move it away"):
        toys.run(line("one"))


def test_stored_hashes_that_are_no_json_object_are_not_used(toys):
    source = fingerprint.fingerprint_of(toys.source, toys.folder / "memory")
    [stored] = [toys.folder / "memory" / f"{code.digest_of([toys.source])[:32]}.json"]
    stored.parent.mkdir(exist_ok=True)
    stored.write_text("[1]")
    assert fingerprint.fingerprint_of(toys.source, toys.folder / "memory") == source


def test_one_digest_for_several_sources(tmp_path):
    (tmp_path / "labels.csv").write_text("user_id,label\n")
    (tmp_path / "telemetry").mkdir()
    sources = [tmp_path / "labels.csv", tmp_path / "telemetry"]
    assert plan.fingerprint_data(sources, tmp_path / "runs") == plan.fingerprint_data(sources, tmp_path / "other")
    with pytest.raises(UserError, match=r"gone: No such file"):
        plan.fingerprint_data([tmp_path / "gone"], tmp_path / "runs")


def test_a_pipelines_name_and_step_names_do_not_decide_what_is_reused(toys, ran):
    same = Pipeline("another", ("source",), line("one").steps)
    assert ran(pipeline=same) == []


def test_a_file_that_appears_while_a_folder_is_hashed_does_not_end_the_plan(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text("{}\n")
    real, calls = fingerprint.files_and_folders, []

    def listing(folder):
        found = list(real(folder))
        calls.append(folder)
        (tmp_path / f"in/{len(calls)}.jsonl").write_text("{}\n")
        return iter(found)

    monkeypatch.setattr(fingerprint, "files_and_folders", listing)
    assert fingerprint.fingerprint_of(tmp_path / "in", tmp_path / "hashes").files == 1
