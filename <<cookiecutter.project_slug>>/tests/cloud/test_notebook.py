"""The notebook, executed as a data scientist would: on this machine's runner, with tiny data; AWS is not asked."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from scarcegan import retraining
from scarcegan.data import synthetic
from scarcegan.errors import UserError
from scarcegan.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "retrain.ipynb"
CONFIG = """
split: {folds: 2}
train: {iterations: 20, seeds: 1}
business_definitions:
  best_ranking: {keep: highest_pr_auc}
evaluate: {bootstrap: 100}
gate: {minimum: 0.0, champion: report}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a champion: 900 players, one quick run, its model approved."""
    root = tmp_path_factory.mktemp("project")
    (root / "config.yaml").write_text(CONFIG, encoding="utf-8")
    place = Workspace.open(root / "config.yaml")
    synthetic.generate(root / "data", users=900, days=60, seed=7, classes=place.config.labels.classes)
    made = place.train()
    assert made.status == "finished", made.reason
    place.registry().approve(made.suggested, "first")
    return root


@pytest.fixture
def execute(monkeypatch):
    """execute(folder, settings) -> the notebook as it stands after running there, its settings cell replaced."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def executed(folder, settings):
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        cell.source += f"\n{settings}"
        client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
        client.create_kernel_manager()
        client.km.kernel_spec.argv[0] = sys.executable  # this environment, whatever kernels are installed
        client.execute()
        return notebook

    return executed


def said(notebook, cell):
    """All that one cell printed or showed, as text; pictures count as their kind."""
    (found,) = [c for c in notebook.cells if c.id == cell]
    words = []
    for output in found.outputs:
        data = output.get("data", {})
        words += [output.get("text", ""), data.get("text/plain", ""), *(kind for kind in data if "image" in kind)]
    return "".join(words)


def test_a_notebook_run_is_trained_watched_and_compared_with_the_champion_here(project, execute):
    (project / "notebooks").mkdir()
    done = execute(project / "notebooks", 'CHANGES = {"train.iterations": 30, "train.batch_size": 32}')
    assert "image/svg+xml" in said(done, "open")
    assert "split: finished (cached)" in said(done, "watch") and "train: finished," in said(done, "watch")
    assert "pr_auc" in said(done, "verdict") and "champion" in said(done, "verdict")
    assert "nothing" in said(done, "compare")
    assert "train.iterations=30, train.batch_size=32" in said(done, "compare")
    for plot in ("precision-recall", "training-curves", "compare-plot"):
        assert "image/png" in said(done, plot), plot
    assert len(Workspace.open(project / "config.yaml").runs()) == 2


def test_a_mistyped_key_stops_the_notebook_with_one_sentence(project, execute):
    with pytest.raises(CellExecutionError) as stopped:
        execute(project, 'CHANGES = {"train.iteration": 30}')
    assert "Did you mean 'iterations'?" in str(stopped.value)


def test_the_notebook_is_kept_without_outputs_and_begins_on_this_machine():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}
    assert "CLOUD = False" in code[0].source


def test_a_notebook_outside_any_project_is_told_where_to_be_opened(tmp_path):
    with pytest.raises(UserError, match=r"no config\.yaml here or above"):
        retraining.open_project(start=tmp_path)


def test_what_was_changed_is_named_by_its_key():
    before = {"train": {"iterations": 5, "trunk": [1]}, "seed": 1}
    after = {"train": {"iterations": 6, "trunk": [1]}, "seed": 2}
    assert dict(retraining.differences(before, after)) == {"train.iterations": 6, "seed": 2}
