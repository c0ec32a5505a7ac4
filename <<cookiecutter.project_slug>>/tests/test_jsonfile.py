"""One home for JSON files: what is written is whole, what is read is sound or refused in a sentence."""

import json
import math
import os
import stat
from pathlib import Path

import pytest

from scarcegan.errors import UserError
from scarcegan.jsonfile import find_json, read_json, replace_nan, write_json


def test_names_stand_as_typed_and_come_back(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"überweisungen": [1, None]})
    assert "überweisungen" in (tmp_path / "new" / "a.json").read_text("utf-8")
    assert find_json(tmp_path / "new" / "a.json") == {"überweisungen": [1, None]}


def test_a_file_name_that_is_no_utf8_comes_back(tmp_path):
    name = os.fsdecode(b"caf\xe9.csv")
    write_json(tmp_path / "a.json", {name: 1})
    assert find_json(tmp_path / "a.json") == {name: 1}


@pytest.mark.parametrize("value", [float("nan"), {"path": object()}])
def test_what_json_cannot_say_leaves_the_old_file_alone(tmp_path, value):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert find_json(tmp_path / "a.json") == 1


def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", 1)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "a.json", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == 1


def test_a_private_folder_stays_private(tmp_path):
    before = os.umask(0o077)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (None, "no such file"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid"),
        (b"[]", "holds no JSON object"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_next_move(tmp_path, content, fact):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json: {fact}.* Run the step again\."):
        read_json(tmp_path / "a.json", "Run the step again.")
    assert content == b"[]" or find_json(tmp_path / "a.json") is None


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_the_place_of_a_file_is_told_at_once(tmp_path, make):
    make(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"a\.json: a folder, a pipe or a device, where a file is needed\. Run again\."):
        read_json(tmp_path / "a.json", "Run again.")
    assert find_json(tmp_path / "a.json") is None


def test_numbers_that_json_does_not_know_become_null_or_a_given_text():
    value = {"a": math.nan, "b": [1.5, math.inf, {"c": -math.inf}], "d": "nan", "e": 3}
    assert replace_nan((math.nan, "x")) == [None, "x"]
    assert replace_nan(value) == {"a": None, "b": [1.5, None, {"c": None}], "d": "nan", "e": 3}
    assert replace_nan(value, "NaN") == {"a": "NaN", "b": [1.5, "NaN", {"c": "NaN"}], "d": "nan", "e": 3}
    assert math.isnan(value["a"])
