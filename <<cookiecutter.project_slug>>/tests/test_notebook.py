"""The notebook, executed as a data scientist would: on this machine's runner, with tiny data; AWS is not asked."""

import csv
import os
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

import tiny_models
from scarcegan import notebook
from scarcegan.errors import UserError
from scarcegan.registry.contract import PackageRequest
from scarcegan.registry.local import LocalRegistry
from scarcegan.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "retrain.ipynb"
CONFIG = """
labels: {rare_class: risky, negative_classes: [calm, keen]}
data: {kind: features, path: users.csv, labels: inside}
split: {folds: 2}
train: {iterations: 20, seeds: 1}
business_definitions:
  best_ranking: {keep: highest_pr_auc}
evaluate: {bootstrap: 100}
gate: {minimum: 0.0, champion: report}
"""


@pytest.fixture
def project(tmp_path):
    """A project with a ready table of 360 users and a champion."""
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    users = tiny_models.users({0: 120, 1: 80, 2: 40, -1: 120})
    with open(tmp_path / "users.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["user_id", "label", *users.names])
        for user, label, values in zip(users.user_id, users.label, users.values, strict=True):
            table.writerow([user, "" if label < 0 else tiny_models.CLASSES[label], *values.round(3)])
    place = Workspace.open(tmp_path / "config.yaml")
    registry = LocalRegistry(place.environment["MLFLOW_TRACKING_URI"], place.config.project.model_package_group)
    registry.approve(registry.register_set("first", [champion(tmp_path / "champion")])[0].version)
    return tmp_path


def champion(folder):
    """A package of a model that looks at deposits alone."""
    tiny_models.save(folder / "model")
    for name in ("evaluation/evaluation.json", "baseline/statistics.json", "baseline/constraints.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}", encoding="utf-8")
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return PackageRequest("best_ranking", files)


@pytest.fixture
def execute(monkeypatch):
    """execute(folder, settings) -> the notebook as it stands after running there, its settings cell replaced."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def executed(folder, settings):
        document = nbformat.read(NOTEBOOK, as_version=4)
        (cell,) = [cell for cell in document.cells if "parameters" in cell.metadata.get("tags", [])]
        cell.source += f"\n{settings}"
        client = NotebookClient(document, timeout=300, resources={"metadata": {"path": str(folder)}})
        client.create_kernel_manager()
        client.km.kernel_spec.argv[0] = sys.executable  # this environment, whatever kernels are installed
        client.execute()
        return document

    return executed


def said(document, cell):
    """All that one cell printed or showed, as text; pictures count as their kind."""
    (found,) = [c for c in document.cells if c.id == cell]
    words = []
    for output in found.outputs:
        data = output.get("data", {})
        words += [output.get("text", ""), data.get("text/plain", ""), *(kind for kind in data if "image" in kind)]
    return "".join(words)


@pytest.mark.slow
def test_a_notebook_run_is_trained_watched_and_compared_with_the_champion_here(project, execute):
    (project / "notebooks").mkdir()
    done = execute(project / "notebooks", 'CHANGES = {"train.iterations": 30, "train.batch_size": 32}')
    assert "image/svg+xml" in said(done, "open")
    assert "features: finished," in said(done, "watch") and "train: finished," in said(done, "watch")
    assert "logistic_regression" in said(done, "verdict") and "champion" in said(done, "verdict")
    assert "train.iterations=30, train.batch_size=32" in said(done, "compare")
    for plot in ("precision-recall", "training-curves", "compare-plot"):
        assert "image/png" in said(done, plot), plot
    (row,) = notebook.comparison(notebook.open_project(start=project))
    assert row["gate"] == "open" and row["champion"] > 0.5
    assert len(Workspace.open(project / "config.yaml").models()) == 2


def test_a_mistyped_key_fails_its_cell_with_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell.instance()
    try:
        shell.run_cell("from scarcegan import notebook; project = notebook.open_project()")
        capsys.readouterr()
        assert not shell.run_cell("project.start({'train.iteration': 5})").success
        said = capsys.readouterr()
    finally:
        InteractiveShell.clear_instance()
    assert said.err.startswith("error: --set train.iteration=5") and said.err.endswith(
        "Did you mean 'train.iterations'?\n"
    )
    assert "Traceback" not in said.out + said.err


def test_the_notebook_is_kept_without_outputs_and_begins_on_this_machine():
    document = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(document)
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}
    assert "CLOUD = False" in code[0].source


def test_a_notebook_outside_any_project_is_told_where_to_be_opened(tmp_path):
    with pytest.raises(UserError, match=r"no config\.yaml in this folder or above"):
        notebook.open_project(start=tmp_path)
