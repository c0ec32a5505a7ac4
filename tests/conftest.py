"""Shared by the template's tests: a clean copy of the template, and what is baked from it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

from bake import PARTS, ROOT, copy_template

PROJECT = "<<cookiecutter.project_slug>>"
DECOY = "{{cookiecutter.decoy}}"
Bake = Callable[..., Path]

VENV = Path(sys.executable).parents[1]

__all__ = ["PROJECT", "ROOT", "Bake"]


def make(project: Path, *targets: str) -> str:
    """Run make in a project with this environment; fail with all that was said."""
    environment = {**os.environ, "MAKEFLAGS": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["make", *targets, f"VENV={VENV}"], cwd=project, env=environment, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-10_000:]
    return said


@pytest.fixture(scope="session", autouse=True)
def nobody_elses_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither the defaults nor the recorded answers of whoever runs the tests play a part."""
    home = tmp_path_factory.mktemp("cookiecutter")
    settings = home / "config.yaml"
    settings.write_text(f"cookiecutters_dir: '{home}/templates'\nreplay_dir: '{home}/replay'\n", encoding="utf-8")
    os.environ["COOKIECUTTER_CONFIG"] = str(settings)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a clone would hold it: what git tracks or would track, without caches and environments."""
    copy = copy_template(tmp_path_factory.mktemp("template"), (*PARTS, DECOY))
    hook = copy / "hooks/post_gen_project.py"  # a zip of the template has the commit in it, a clone does not
    text = hook.read_text(encoding="utf-8")
    hook.write_text(re.sub(r'(?m)^ARCHIVED = ".*?"', 'ARCHIVED = "$Format:%H$"', text), encoding="utf-8")
    return copy


@pytest.fixture(scope="session")
def bake(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """bake(**answers) -> the folder of a new project."""

    def baked(folder: Path | None = None, **answers: str) -> Path:
        out = folder or tmp_path_factory.mktemp("baked")
        return Path(cookiecutter(str(template), no_input=True, output_dir=str(out), extra_context=answers))

    return baked


@pytest.fixture(scope="session")
def project(bake: Bake) -> Path:
    """A project baked from the default answers. Tests leave it as it is."""
    return bake()
