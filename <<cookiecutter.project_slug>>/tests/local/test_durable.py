"""What is deleted is gone, whatever it is; what a link points to stays."""

import os
import subprocess
import sys
from subprocess import PIPE
from tempfile import TemporaryDirectory

import pytest

from scarcegan.local import durable

AS_NOBODY = """
import os, sys
from pathlib import Path
from scarcegan.local import durable
folder = Path(sys.argv[1])
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
(folder / "locked" / "inner").mkdir(parents=True)
(folder / "locked" / "inner" / "file").write_text("x")
(folder / "locked" / "inner").chmod(0)
(folder / "locked").chmod(0)
durable.remove(folder / "locked")
assert not (folder / "locked").exists()
"""


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("nowhere"), lambda path: path.write_text("x")]
)
def test_whatever_is_no_folder_is_deleted(tmp_path, make):
    make(tmp_path / "it")
    durable.remove(tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_folder_is_deleted_and_the_folder_stays(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    durable.remove(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_nothing_to_delete_is_no_error(tmp_path):
    durable.remove(tmp_path / "never was")


def test_folders_that_nobody_may_open_are_deleted_by_an_ordinary_user():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    with TemporaryDirectory(dir="/tmp") as folder:  # pytest's own folder is closed to others
        os.chmod(folder, 0o777)
        words = [sys.executable, "-c", AS_NOBODY, folder]
        ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_two_processes_may_delete_one_folder_at_once(tmp_path):
    code = "import sys; from pathlib import Path; from scarcegan.local import durable; sys.stdin.read(1)\n"
    code += "for number in range(20): durable.remove(Path(sys.argv[1]) / str(number))"
    for number in range(20):
        for inner in range(40):
            (tmp_path / str(number) / str(inner)).mkdir(parents=True)
            (tmp_path / str(number) / str(inner) / "file").touch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(words, stdin=PIPE, stderr=PIPE, env=environment, text=True) for _ in range(2)]
    for one in both:
        one.stdin.write("x")
        one.stdin.flush()
    assert [one.communicate()[1] for one in both] == ["", ""]
    assert list(tmp_path.iterdir()) == []
