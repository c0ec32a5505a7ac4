"""An untouched project on every supported Python on this machine but the one that runs these tests.

All tests run on that one (test_check.py). The others get lint, types and the quick tests of what
depends on Python and its libraries most: archives, and the rooms named below.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pythons import find, supported

NAMES = ("test_archive.py", "data", "evaluation", "features", "model", "monitoring", "report")
OTHERS = [version for version in supported() if version != f"{sys.version_info[0]}.{sys.version_info[1]}"]


def prove(project: Path, python: Path) -> tuple[int, str]:
    """Exit code and words of lint, types and quick tests, in an environment that the project makes of this Python."""
    tests = f".venv/bin/python -m pytest -m 'not slow' {' '.join(f'tests/{name}' for name in NAMES)}"
    uv = f"{os.environ['PATH']}:{Path(sys.executable).parent}"
    environment = {**os.environ, "PATH": uv, "MAKEFLAGS": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PIP_NO_COMPILE"] = "1"  # most of what it installs is never imported
    done = subprocess.run(
        ["sh", "-c", f'make lint types PYTHON="{python}" && {tests}'],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    shutil.rmtree(project)  # gigabytes
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def proofs(bake):
    """Version -> what `prove` gives for it; at the same time, as most of it keeps one core busy."""
    here = {version: python for version in OTHERS if (python := find(version))}
    projects = [bake(project_name=f"On Python {version}") for version in here]
    with ThreadPoolExecutor() as pool:
        return dict(zip(here, pool.map(prove, projects, here.values()), strict=True))


@pytest.mark.parametrize("version", OTHERS)
def test_lint_types_and_quick_tests_of_an_untouched_project_pass_on_python(proofs, version):
    if version not in proofs:
        pytest.skip(f"Python {version} is not on this machine")
    code, said = proofs[version]
    assert code == 0 and " passed" in said, said[-10_000:]
