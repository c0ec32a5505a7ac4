"""Output folders: a step deletes nothing but what it has written, and nothing that it reads."""

import shutil
from importlib import import_module
from pathlib import Path

import pytest

from scarcegan.errors import UserError
from scarcegan.steps._outputs import remove_definitions
from step_arguments import arguments
from telemetry_samples import GOOD, LABELS, run_features, write


@pytest.mark.parametrize("out", ["in", "in/out", ".", "link", "in/../in"])
def test_an_output_folder_that_is_holds_or_lies_in_an_input_is_refused_before_anything_is_deleted(tmp_path, out):
    given = write(tmp_path / "in/part-00000.csv", *GOOD)
    shutil.copy(given, tmp_path / "in/part-00000.parquet")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(UserError, match=r"--features-out .* and --telemetry .*Name another output folder"):
        run_features(tmp_path / "in", tmp_path / out)
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["part-00000.csv", "part-00000.parquet"]


def test_the_folder_of_an_input_file_is_no_output_folder(tmp_path):
    labels = write(tmp_path / "labels/labels.csv", *LABELS)
    with pytest.raises(UserError, match=r"--features-out .* and --labels"):
        run_features(write(tmp_path / "in.csv", *GOOD), tmp_path / "labels", labels)


@pytest.mark.parametrize("step", ["baseline", "evaluate", "features", "monitor", "register", "score", "split", "train"])
def test_no_step_takes_one_folder_as_input_and_as_output(step, tmp_path):
    module = import_module(f"scarcegan.steps.{step}")
    folders = [one.option_strings[0] for one in module.parser()._actions if one.type is Path and one.required]
    with pytest.raises(UserError, match="Name another output folder"):
        module.main([*(f"{name}={tmp_path}" for name in folders), *arguments(step)])


def test_two_folders_of_which_one_name_begins_like_the_other_do_not_overlap(tmp_path):
    run_features(write(tmp_path / "in/a.csv", *GOOD).parent, tmp_path / "in out")


def test_a_step_that_fails_leaves_the_table_of_an_earlier_call_as_it_was(tmp_path):
    good, bad = write(tmp_path / "good.csv", *GOOD), write(tmp_path / "bad.csv", *GOOD, "eve,2026-01-07,much,1")
    run_features(good, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UserError):
        run_features(bad, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_sub_folder_that_holds_something_else_than_a_step_writes_stays_and_so_does_what_a_link_leads_to(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for folder, names in {
        out / "old": ["model.json", "learnt_from.json", "1/saved_model.pb"],
        out / "mine": ["model.json", "thesis.txt"],
        out / "notes": ["a.txt"],
        elsewhere: ["model.json"],
    }.items():
        for name in names:
            write(folder / name, "{}")
    (out / "latest").symlink_to(elsewhere)
    remove_definitions(out, "model.json", "learnt_from.json", "1")
    assert sorted(path.name for path in out.iterdir()) == ["mine", "notes"]
    assert sorted(path.name for path in (out / "mine").iterdir()) == ["model.json", "thesis.txt"]
    assert (elsewhere / "model.json").exists()
