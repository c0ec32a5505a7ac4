"""Later changes of the template reach a project through cruft, and what its owner changed stays."""

import json
import subprocess

import pytest
import yaml
from conftest import PROJECT
from cruft import check, create, diff, update
from tree import tree


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
    git_and_cruft = {".cruft.json"}
    made = {name for name in tree(born) if not name.startswith(".git/")} - git_and_cruft
    assert made == set(tree(project))
    assert json.loads((born / ".cruft.json").read_text())["context"]["cookiecutter"]["project_slug"] == "fraud-rings"


def test_an_update_brings_the_templates_change_and_keeps_the_owners(repository, born):
    config = born / "config.yaml"
    config.write_text(
        config.read_text(encoding="utf-8").replace("iterations: 1000", "iterations: 77"), encoding="utf-8"
    )
    commit(born, "ours")
    readme = repository / PROJECT / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8") + "\nNews.\n", encoding="utf-8")
    (repository / PROJECT / "src/scarcegan/news.py").write_text('"""News."""\n', encoding="utf-8")
    commit(repository, "news")
    assert check(born, checkout=None, strict=True) is False
    assert update(born, skip_apply_ask=True) is True
    assert (born / "README.md").read_text(encoding="utf-8").endswith("\nNews.\n")
    assert (born / "src/scarcegan/news.py").exists()
    assert "iterations: 77" in config.read_text(encoding="utf-8")
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
