"""The strongest test runs the thing: a baked project's whole loop on the sample."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make


def scarcegan(project: Path, *words: str) -> subprocess.CompletedProcess:
    """Run a verb in a project."""
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    command = [sys.executable, "-m", "scarcegan", *words]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def lived_in(bake):
    """A project from the default answers, after its whole loop has run once."""
    project = bake(project_name="Lived In")
    return project, make(project, "local")


def test_the_whole_loop_ends_with_a_champion_an_answer_and_a_drift_report(lived_in):
    project, said = lived_in
    models = json.loads(scarcegan(project, "models", "--json").stdout)
    assert len(models) == 4
    assert [model["champion"] for model in models].count(True) == 1
    assert '"predictions"' in said
    for page in ("evaluation/report.html", "monitoring/report.html"):
        found = list(project.glob(f"runs/*/*/{page}"))
        assert found and "<html" in found[0].read_text(encoding="utf-8")
    assert list(project.glob("runs/*/score/scored/flagged.csv"))


def test_a_second_run_takes_every_step_from_the_cache_and_registers_nothing_twice(lived_in):
    project, _ = lived_in
    before = json.loads(scarcegan(project, "models", "--json").stdout)
    assert scarcegan(project, "run", "--json").returncode == 0
    assert len(json.loads(scarcegan(project, "models", "--json").stdout)) == len(before)


def test_rolling_back_is_one_command(lived_in):
    project, _ = lived_in
    assert scarcegan(project, "approve", "1").returncode == 0
    assert scarcegan(project, "approve", "2").returncode == 0
    assert scarcegan(project, "approve", "1").returncode == 0
    models = json.loads(scarcegan(project, "models", "--json").stdout)
    assert [model["version"] for model in models if model["champion"]] == [1]
    assert scarcegan(project, "reject", "1").returncode == 2


def test_a_project_with_classes_of_its_own_runs_from_sample_to_gate(bake):
    project = bake(project_name="Fraud Rings", rare_class="fraudster", negative_classes="honest, careless")
    assert scarcegan(project, "data", "make", "--users", "2000").returncode == 0
    quick = ["train.iterations=200", "train.seeds=1", "evaluate.bootstrap=100", "gate.minimum=0.01"]
    ran = scarcegan(project, "run", "--json", *(word for change in quick for word in ("--set", change)))
    assert ran.returncode == 0, ran.stderr[-10_000:]
    assert len(json.loads(scarcegan(project, "models", "--json").stdout)) == 4
    report = next(project.glob("runs/*/evaluate/evaluation/report.html")).read_text(encoding="utf-8")
    assert "fraudster" in report and "careless" in report


@pytest.mark.parametrize(
    ("words", "move"),
    [
        (["run", "--set", "train.iteratons=3"], "Did you mean 'train.iterations'?"),
        (["run", "--from", "trian"], "did you mean 'train'"),
        (["approve", "99"], "99"),
        (["score", "nowhere"], "nowhere"),
        (["--config", "nowhere.yaml", "runs"], "nowhere.yaml"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence_and_exit_code_2(lived_in, words, move):
    project, _ = lived_in
    done = scarcegan(project, *words)
    assert done.returncode == 2, done.stderr
    assert move in done.stderr
    assert "Traceback" not in done.stderr
