"""GitHub's workflows, of the template and of a project: actionlint finds nothing, and they run what people type."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from pythons import supported
from test_repository import targets


@pytest.fixture(params=["template", "project"])
def folder(request, project) -> Path:
    return ROOT if request.param == "template" else project


def workflows(folder: Path) -> list[Path]:
    found = sorted(folder.glob(".github/workflows/*.yml"))
    assert found
    return found


def test_actionlint_finds_nothing(folder):
    command = [
        str(Path(sys.executable).with_name("actionlint")),
        "-shellcheck=",
        "-pyflakes=",
        *map(str, workflows(folder)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_workflow_runs_make_on_every_supported_python(folder):
    for path in workflows(folder):
        [job] = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
        assert job["strategy"]["matrix"] == {"python": supported()}
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert len(commands) == 1
        command = re.fullmatch(r"make ((?:[a-z-]+ )+)PYTHON=python\$\{\{ matrix\.python \}\}", commands[0])
        assert command and set(command[1].split()) <= targets(folder / "Makefile")
