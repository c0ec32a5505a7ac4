"""Shared by the template's tests: a clean copy of the template, and what is baked from it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

ROOT = Path(__file__).parents[1]
PROJECT = "<<cookiecutter.project_slug>>"


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """The template as a clone would hold it: what git tracks or would track, without caches and environments."""
    copy = tmp_path_factory.mktemp("template")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def bake(template, tmp_path_factory):
    """bake(**answers) -> the folder of a new project."""

    def baked(folder: Path | None = None, **answers: str) -> Path:
        out = folder or tmp_path_factory.mktemp("baked")
        return Path(cookiecutter(str(template), no_input=True, output_dir=str(out), extra_context=answers))

    return baked


@pytest.fixture(scope="session")
def project(bake) -> Path:
    """A project baked from the default answers. Tests leave it as it is."""
    return bake()
