"""Two projects in folders of one repository: hooks and the tests of what changed keep to their own project."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from test_update import commit, git

STAND_IN = '#!/bin/sh\necho "$@" >> "$CALLS"\n'


@pytest.fixture
def repository(bake, tmp_path):
    """A repository with models/rare and models/fraud, pre-commit set up as their READMEs say, and make recorded."""
    top = tmp_path / "repository"
    entries = []
    for name in ("rare", "fraud"):
        readme = (bake(top / "models", project_name=name) / "README.md").read_text(encoding="utf-8")
        block = re.search(r"(?m)^ +repos:\n +- repo: local\n +hooks:\n((?: +.*\n)+)", readme)
        assert block
        entries.append(textwrap.dedent(block[1]))
    hooks = textwrap.indent("".join(entries), " " * 6)
    (top / ".pre-commit-config.yaml").write_text(f"repos:\n  - repo: local\n    hooks:\n{hooks}", encoding="utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/make").write_text(STAND_IN, encoding="utf-8")
    (tmp_path / "bin/make").chmod(0o755)
    git(top, "init", "-q", "-b", "main")
    commit(top, "both")
    return top


def pre_commit(repository: Path, *words: str) -> str:
    """What make was called with by the hooks of the files that are staged."""
    calls = repository.parent / "calls"
    calls.write_text("", encoding="utf-8")
    environment = os.environ | {"PATH": f"{repository.parent / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls)}
    environment["PRE_COMMIT_HOME"] = str(repository.parent / "pre-commit")
    command = [sys.executable, "-m", "pre_commit", "run"]
    done = subprocess.run([*command, *words], cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return calls.read_text(encoding="utf-8")


def test_a_commit_checks_the_projects_that_it_changes_and_no_other(repository):
    fraud = repository / "models/fraud/src/scarcegan/errors.py"
    fraud.write_text(fraud.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    git(repository, "add", "-A")
    assert pre_commit(repository) == "-C models/fraud lint types\n"
    assert pre_commit(repository, "--all-files") == "-C models/rare lint types\n-C models/fraud lint types\n"


def test_the_tests_of_what_changed_are_those_of_the_project_they_are_asked_in(repository):
    changed = repository / "models/fraud/src/scarcegan/data/schema.py"
    changed.write_text(changed.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    command = [sys.executable, "tests/helpers/changed.py"]
    commit(repository, "fraud")
    listed = {}
    for name in ("rare", "fraud"):
        folder = repository / "models" / name
        listed[name] = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    everywhere = ["tests/test_house.py", "tests/test_readme.py"]
    assert listed == {"fraud": ["tests/data", *everywhere], "rare": everywhere}
