"""The rooms of src/scarcegan: which may import which, and how large each may grow. Checked on the files, statically."""

import pytest

import house


def test_every_import_goes_down_the_floors():
    assert house.forbidden() == []


def test_every_room_stands_on_exactly_one_floor_and_no_floor_names_a_room_that_is_gone():
    named = [room for rooms in house.FLOORS for room in rooms]
    assert sorted(named) == sorted({house.room_of(path) for path in house.files()} - {"__init__"})


def test_no_room_holds_more_than_its_share_of_the_lines():
    assert {room: share for room, share in house.shares().items() if share > house.LARGEST} == {}


@pytest.mark.parametrize(
    ("file", "line", "room"),
    [
        ("data/synthetic.py", "from scarcegan.model import preprocessing", "model"),
        ("data/wire.py", "from scarcegan.model.scorer import Scores", "model"),
        ("pipeline/definition.py", "from scarcegan.registry.contract import HEADLINE_METRICS", "registry"),
        ("registry/local.py", "from scarcegan.sagemaker import compiler", "sagemaker"),
        ("registry/local.py", "import os, scarcegan.sagemaker.compiler as c", "sagemaker"),
        ("registry/local.py", "from .. import sagemaker", "sagemaker"),
        ("registry/sagemaker/registry.py", "from ...sagemaker import compiler", "sagemaker"),
        ("errors.py", "from .jsonfile import read_json", "jsonfile"),
        ("data/wire.py", "import importlib; importlib.import_module('scarcegan.model.scorer')", "model"),
    ],
)
def test_an_import_that_goes_up_is_named_with_its_file(file, line, room, tmp_path, monkeypatch):
    import shutil

    source = shutil.copytree(house.SOURCE, tmp_path / "scarcegan")
    (source / file).write_text(f"{line}\n" + (source / file).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(house, "SOURCE", source)
    assert house.forbidden() == [f"{file} imports {room}"]


def test_the_picture_of_the_rooms_is_todays():
    assert (house.ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8") == house.picture()
