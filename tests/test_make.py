"""Both Makefiles: which Python an environment is made of, when it is made anew, and what `make clean` leaves."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from conftest import PROJECT, ROOT

# Answers as a Python of one version; makes an environment that holds itself, and a project; does nothing else.
STAND_IN = """#!/bin/sh
case "$1" in
-V) echo "Python {version}.1" ;;
-c) echo "$2" | grep -q '"[0-9. ]*{version}' ;;
-m) test "$2" != venv || {{ rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python; }} ;;
bake.py)
    mkdir -p "$2/fraud-rings/infra" && cd "$2/fraud-rings" && touch config.yaml requirements.txt infra/requirements.txt
    echo 'local lock: ; @echo made $@ in $(notdir $(CURDIR))' > Makefile ;;
esac
"""
TOOLS = ("sh", "cksum", "cut", "echo", "grep", "rm", "mkdir", "cp", "touch", "test", "make", "find", "sed", "env")


def pythons(path: Path) -> set[str]:
    return set(re.findall(r"\b3\.1\d\b", path.read_text(encoding="utf-8")))


def classified() -> set[str]:
    settings = tomllib.loads((ROOT / PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return {name.rsplit(" ", 1)[1] for name in settings["project"]["classifiers"] if name[-4:].startswith("3.")}


@pytest.fixture(params=["template", "project"])
def kind(request):
    return request.param


@pytest.fixture
def folder(kind, tmp_path):
    """A folder with one of the Makefiles, and no Python on the path but the stand-ins that `add` puts there."""
    shutil.copy((ROOT if kind == "template" else ROOT / PROJECT) / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").write_text("uv==0\n", encoding="utf-8")
    (tmp_path / "requirements-cloud.txt").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/uv").symlink_to(shutil.which("true") or "/bin/true")
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    return tmp_path


def add(folder: Path, version: str, name: str = "") -> Path:
    path = folder / "bin" / (name or f"python{version}")
    path.write_text(STAND_IN.format(version=version), encoding="utf-8")
    path.chmod(0o755)
    return path


def make(folder: Path, *words: str) -> tuple[int, str]:
    environment = {"PATH": str(folder / "bin")}
    done = subprocess.run(["make", *words], cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def setup(folder: Path, *words: str) -> tuple[int, str]:
    target = ".venv/.tools-ready" if "bake.py" in (folder / "Makefile").read_text(encoding="utf-8") else "setup"
    return make(folder, target, *words)


def version(folder: Path) -> str:
    return subprocess.run([folder / ".venv/bin/python", "-V"], capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("supported", ["3.11", "3.12", "3.13"])
def test_any_supported_python_makes_an_environment_and_a_second_time_nothing_is_done(folder, supported):
    add(folder, supported)
    add(folder, "3.10", "python3")
    assert setup(folder) == (0, "Setting up .venv ...\n")
    assert version(folder) == f"Python {supported}.1"
    code, said = setup(folder)
    assert code == 0 and "Setting up" not in said


def test_with_a_wrong_python_only_make_says_what_to_type(folder):
    add(folder, "3.10", "python3")
    code, said = setup(folder)
    assert code and "No Python 3.11, 3.12 or 3.13" in said
    assert "uv python install 3.12" in said and "PYTHON=/path/to/python3.12" in said
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("broken", ["gone", "3.10"])
def test_an_environment_whose_python_is_gone_or_not_supported_is_made_anew(folder, broken):
    add(folder, "3.12")
    assert setup(folder)[0] == 0
    python = folder / ".venv/bin/python"
    python.unlink()
    if broken == "gone":
        python.symlink_to(folder / "nowhere")
    else:
        shutil.copy(add(folder, broken), python)
    assert setup(folder) == (0, "Setting up .venv ...\n")
    assert version(folder) == "Python 3.12.1"


def test_a_python_that_is_named_replaces_the_environment_of_another(folder):
    add(folder, "3.12")
    assert setup(folder)[0] == 0
    other = add(folder, "3.11")
    assert setup(folder, f"PYTHON={other}") == (0, "Setting up .venv ...\n")
    assert version(folder) == "Python 3.11.1"
    assert "Setting up" not in setup(folder)[1]


def test_after_make_clean_nothing_is_left_that_git_ignores_but_runs_and_data_of_a_project(folder, kind):
    if kind == "template":
        ignored, kept, runs = ROOT / ".gitignore", set(), folder / PROJECT / "runs"
    else:
        ignored, kept, runs = ROOT / PROJECT / ".gitignore", {"runs", "data"}, folder / "runs"
    names = [name.strip("/").replace("*", "some") for name in ignored.read_text(encoding="utf-8").split()]
    places = {"runs": runs, "some.egg-info": folder / "src/some.egg-info"}
    for name in names:
        places.get(name, folder / name).mkdir(parents=True)
    (folder / "src/deep/__pycache__").mkdir(parents=True)
    subprocess.run(["make", "-s", "clean"], cwd=folder, check=True)
    assert {path.name for path in folder.rglob("*")} & set(names) == kept


@pytest.mark.parametrize("kind", ["template"], indirect=True)
def test_demo_and_lock_take_the_project_that_a_fork_makes_by_default(folder):
    add(folder, "3.12")
    (folder / PROJECT / "infra").mkdir(parents=True)
    code, said = make(folder, "demo")
    assert code == 0 and "made local in fraud-rings" in said and "cd demo/fraud-rings" in said
    assert make(folder, "demo")[1].startswith("demo/fraud-rings stands already")
    code, said = make(folder, "lock")
    assert code == 0 and "made lock in fraud-rings" in said
    assert (folder / PROJECT / "requirements.txt").exists() and (folder / PROJECT / "infra/requirements.txt").exists()


def test_makefiles_settings_and_pages_name_the_same_pythons():
    supported = classified()
    assert supported == {"3.11", "3.12", "3.13"}
    for makefile in (ROOT / "Makefile", ROOT / PROJECT / "Makefile"):
        listed = re.search(r"^PYTHONS := (.*)", makefile.read_text(encoding="utf-8"), re.MULTILINE)
        assert listed and set(listed[1].split()) == supported
        assert pythons(makefile) == supported
    for readme in (ROOT / "README.md", ROOT / PROJECT / "README.md"):
        assert "Python 3.11, 3.12 or 3.13" in readme.read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["requires-python"] == ">=3.11,<3.14"
    for buildspec in (ROOT / PROJECT / "infra").glob("*.buildspec.yml"):
        assert pythons(buildspec) <= supported
