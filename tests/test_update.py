"""Later changes of the template reach a project through cruft, and what its owner changed stays."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, ROOT
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from cruft import check, create, diff, update
from tree import tree

RECORD = ".template.yaml"


def git(folder, *words):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def commit(folder, subject):
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", subject)


@pytest.fixture
def repository(template, tmp_path):
    """The template as a git repository of its own, free to change."""
    clone = tmp_path / "template"
    subprocess.run(["cp", "-r", str(template), str(clone)], check=True)
    git(clone, "init", "-q", "-b", "main")
    commit(clone, "template")
    return clone


@pytest.fixture
def born(repository, tmp_path):
    """A project made by cruft and committed."""
    project = create(str(repository), output_dir=tmp_path, no_input=True, extra_context={"project_name": "Fraud Rings"})
    git(project, "init", "-q", "-b", "main")
    commit(project, "born")
    return project


def test_cruft_makes_the_same_project_as_cookiecutter(born, project):
    made = {name for name in tree(born) if not name.startswith(".git/")}
    assert made - {".cruft.json"} == set(tree(project)) - {RECORD}, "each has a record of its own"
    told = json.loads((born / ".cruft.json").read_text())["context"]["cookiecutter"]
    assert told["project_slug"] == "fraud-rings"
    assert told["_version"] == (ROOT / "VERSION").read_text(encoding="utf-8").strip()


def test_an_update_brings_the_templates_change_and_keeps_the_owners(repository, born, capfd):
    config = born / "config.yaml"
    config.write_text(
        config.read_text(encoding="utf-8").replace("iterations: 1000", "iterations: 77"), encoding="utf-8"
    )
    commit(born, "ours")
    readme = repository / PROJECT / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8") + "\nNews.\n", encoding="utf-8")
    questions = json.loads((repository / "cookiecutter.json").read_text(encoding="utf-8"))
    (repository / "cookiecutter.json").write_text(json.dumps({**questions, "_version": "9.8.7"}), encoding="utf-8")
    (repository / PROJECT / "src/scarcegan/news.py").write_text('"""News."""\n', encoding="utf-8")
    commit(repository, "news")
    assert check(born, checkout=None, strict=True) is False
    assert update(born, skip_apply_ask=True) is True
    assert (born / "README.md").read_text(encoding="utf-8").endswith("\nNews.\n")
    assert (born / "src/scarcegan/news.py").exists()
    assert "iterations: 77" in config.read_text(encoding="utf-8")
    assert json.loads((born / ".cruft.json").read_text())["context"]["cookiecutter"]["_version"] == "9.8.7"
    assert "is ready" not in capfd.readouterr().out.partition("cruft is out of date")[2], "temporary folders of cruft"
    assert check(born, checkout=None, strict=True) is True


def test_an_answer_can_be_changed_later(born):
    """Private answers are derived ones; cruft derives them anew only when asked to."""
    changed = {"rare_class": "fraudster", "negative_classes": "honest, careless"}
    assert update(born, strict=False, extra_context=changed, refresh_private_variables=True) is True
    labels = yaml.safe_load((born / "config.yaml").read_text(encoding="utf-8"))["labels"]
    assert labels == {"rare_class": "fraudster", "negative_classes": ["honest", "careless"]}


def test_diff_shows_nothing_for_an_untouched_project_and_shows_a_change(born, capfd):
    assert diff(born, exit_code=True) is True
    (born / "README.md").write_text("mine\n", encoding="utf-8")
    assert diff(born, exit_code=True) is False
    assert "-mine" in capfd.readouterr().out


def test_a_project_of_plain_cookiecutter_is_linked_by_the_command_in_its_record_and_then_updated(repository, tmp_path):
    answers = {"project_name": 'Fraud\'s "Rings"', "project_slug": "fraud"}
    answers |= {"rare_class": "fraudster", "negative_classes": "normal"}
    project = Path(cookiecutter(str(repository), no_input=True, output_dir=str(tmp_path), extra_context=answers))
    told = yaml.safe_load((project / RECORD).read_text(encoding="utf-8"))
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True).stdout.strip()
    assert told["commit"] == head and told["template"] == str(repository) and told["answers"].items() >= answers.items()
    readme = repository / PROJECT / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8") + "\nNews.\n", encoding="utf-8")
    commit(repository, "news")
    link = next(line for line in (project / RECORD).read_text(encoding="utf-8").splitlines() if "cruft link" in line)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(["bash", "-c", link.lstrip("# ")], cwd=project, env=os.environ | {"PATH": path}, check=True)
    (project / RECORD).unlink()
    git(project, "init", "-q", "-b", "main")
    commit(project, "born")
    assert diff(project, exit_code=True) is True, "the same answers give the same project"
    assert update(project, skip_apply_ask=True) is True
    assert (project / "README.md").read_text(encoding="utf-8").endswith("\nNews.\n")
    assert 'rare_class: "fraudster"' in (project / "config.yaml").read_text(encoding="utf-8")


def test_a_refused_answer_of_an_update_comes_back_as_the_command_of_an_update(born, capfd):
    with pytest.raises(FailedHookException):
        update(born, strict=False, extra_context={"team": "R&D"}, refresh_private_variables=True)
    said = capfd.readouterr().err
    assert 'cruft update --refresh-private-variables --variables-to-update \'{"team": "RandD"}\'\n' in said
    assert tempfile.gettempdir() + "/tmp" not in said


@pytest.mark.parametrize("first_commit", ["untouched", "with our changes"])
def test_lines_that_both_sides_changed_are_left_as_a_conflict_or_in_a_rej_file(repository, born, first_commit):
    """A conflict where git knows the template's old lines, a .rej file where it does not, as the README says."""
    if first_commit != "untouched":
        shutil.rmtree(born / ".git")
        git(born, "init", "-q", "-b", "main")
    mine = born / "Makefile"
    for path, text in ((mine, "WORKERS ?= 3"), (repository / PROJECT / "Makefile", "WORKERS ?= 4")):
        path.write_text(path.read_text(encoding="utf-8").replace("WORKERS ?= 2", text), encoding="utf-8")
    commit(born, "ours")
    commit(repository, "theirs")
    assert update(born, skip_apply_ask=True) is True
    conflict = "<<<<<<< ours\nWORKERS ?= 3\n" in mine.read_text(encoding="utf-8")
    rejected = [(path.name, "+WORKERS ?= 4" in path.read_text(encoding="utf-8")) for path in born.glob("*.rej")]
    assert (conflict, rejected) == ((True, []) if first_commit == "untouched" else (False, [("Makefile.rej", True)]))


def git_archive(repository, to):
    subprocess.run(f"git archive HEAD --prefix=template/ | tar x -C '{to}'", shell=True, cwd=repository, check=True)
    return to / "template"


def test_a_template_that_came_as_an_archive_still_tells_its_commit(repository, tmp_path):
    """git fills in the commit, in a zip of GitHub too."""
    (repository / ".gitattributes").write_text((ROOT / ".gitattributes").read_text(encoding="utf-8"), encoding="utf-8")
    commit(repository, "attributes")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True).stdout.strip()
    project = Path(cookiecutter(str(git_archive(repository, tmp_path)), no_input=True, output_dir=str(tmp_path)))
    assert yaml.safe_load((project / RECORD).read_text(encoding="utf-8"))["commit"] == head


def test_a_copy_of_the_template_in_another_repository_does_not_tell_that_ones_commit(repository, template, tmp_path):
    subprocess.run(["cp", "-r", str(template), str(repository / "copy")], check=True)
    (repository / ".git/info/exclude").write_text("copy\n", encoding="utf-8")
    project = Path(cookiecutter(str(repository / "copy"), no_input=True, output_dir=str(tmp_path)))
    assert yaml.safe_load((project / RECORD).read_text(encoding="utf-8"))["commit"] == ""
