"""Registering: what a package is made of, and that trying again registers nothing twice."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from registry_contract import CONTENT, DEFINITIONS
from scarcegan.errors import UserError, run_step
from scarcegan.registry.contract import ModelPackage, PackageRequest, check_set
from scarcegan.registry.database import tracking_uri
from scarcegan.registry.local import LocalRegistry
from scarcegan.steps.register import Lineage, main, metrics_of, read_gate, register

CLASSES = ("dormant", "normal", "risky")
EVALUATION = {
    "multiclass_classification_metrics": {
        "accuracy": {"value": 0.9, "standard_deviation": 0.01},
        "confusion_matrix": {"risky": {"risky": 3, "normal": 1}},
    },
    "binary_classification_metrics": {"recall": {"value": 0.4, "standard_deviation": "NaN"}},
    "scarcegan": {
        "rare_class": "risky",
        "share_flagged_unlabelled": 0.02,
        "metrics": {
            "pr_auc": {"value": 0.75, "low": 0.6, "high": 0.8},
            "recall": {"value": 0.5, "low": 0.2, "high": 0.7},
            "precision": {"value": None, "low": None, "high": None},
        },
    },
}


class Notes:
    """A registry that checks and remembers what it was asked."""

    def __init__(self) -> None:
        self.sets: dict[str, list[PackageRequest]] = {}

    def register_set(self, set_id: str, requests: Sequence[PackageRequest]) -> list[ModelPackage]:
        check_set(requests)
        self.sets[set_id] = list(requests)
        return []


@pytest.fixture
def channels(tmp_path: Path) -> dict[str, Path]:
    """models/, evaluation/ and baseline/ as the steps before write them, for four business definitions."""
    for definition in DEFINITIONS:
        for name in CONTENT:
            part, rest = name.split("/", 1)
            path = tmp_path / {"model": "models"}.get(part, part) / definition / rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content(name, definition))
    (tmp_path / "evaluation" / "report.html").write_text("for people, in no package")
    return {part: tmp_path / part for part in ("models", "evaluation", "baseline")}


def content(name: str, definition: str) -> str:
    if name == "model/model.json":
        return json.dumps({"definition": definition, "keep": "highest_pr_auc", "classes": CLASSES})
    return json.dumps(EVALUATION) if name == "evaluation/evaluation.json" else definition


def test_every_definition_becomes_a_package_of_its_own_files(channels: dict[str, Path]) -> None:
    notes = Notes()
    register(**channels, lineage=Lineage(run="run-1"), registry=notes, classes=CLASSES)
    [requests] = notes.sets.values()
    assert [request.definition for request in requests] == list(DEFINITIONS)
    for request in requests:
        assert set(request.files) == set(CONTENT)
        assert request.files["baseline/statistics.json"].read_text() == request.definition
        assert request.run == "run-1"
        assert request.description == "Chosen for highest pr auc. On the test users: pr auc 0.750, recall 0.500."


def test_the_set_is_named_by_its_content(channels: dict[str, Path]) -> None:
    notes = Notes()
    for run in ("run-1", "run-2"):
        register(**channels, lineage=Lineage(run=run), registry=notes)
    assert len(notes.sets) == 1
    (channels["baseline"] / "few_unknown" / "statistics.json").write_text("other")
    register(**channels, lineage=Lineage(run="run-2"), registry=notes)
    assert len(notes.sets) == 2


def test_single_figures_are_metrics_and_tables_or_undefined_ones_are_not() -> None:
    assert metrics_of(EVALUATION) == {
        "accuracy": 0.9,
        "share_flagged_unlabelled": 0.02,
        "pr_auc": 0.75,
        "recall": 0.5,
    }


@pytest.mark.parametrize("lost", ["evaluation", "baseline"])
def test_a_model_without_evaluation_or_baseline_is_refused(channels: dict[str, Path], lost: str) -> None:
    shutil.rmtree(channels[lost] / "high_recall")
    notes = Notes()
    with pytest.raises(UserError, match=r"high_recall.* (no such file|lacks)"):
        register(**channels, lineage=Lineage(), registry=notes)
    assert notes.sets == {}


def test_a_model_of_other_classes_is_refused(channels: dict[str, Path]) -> None:
    with pytest.raises(
        UserError, match=r"trained on the classes dormant, normal, risky, config\.yaml says normal, risky"
    ):
        register(**channels, lineage=Lineage(), registry=Notes(), classes=("normal", "risky"))


def test_a_folder_without_models_is_refused(channels: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model"):
        register(tmp_path / "none", channels["evaluation"], channels["baseline"], Lineage(), Notes())


def test_a_damaged_evaluation_is_refused(channels: dict[str, Path]) -> None:
    (channels["evaluation"] / "high_recall" / "evaluation.json").write_text('{"half')
    with pytest.raises(UserError, match=r"high_recall/evaluation\.json: not valid JSON"):
        register(**channels, lineage=Lineage(), registry=Notes())


@pytest.fixture
def arguments(channels: dict[str, Path], tmp_path: Path) -> list[str]:
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "gate.json").write_text('{"passed": true, "reason": "0.75 is over 0.3"}')
    folders = [f"--{name}={path}" for name, path in channels.items()]
    return [
        *folders,
        f"--gate={tmp_path / 'gate'}",
        f"--packages-out={tmp_path / 'out' / 'packages'}",
        "--group=risky-players",
        f"--classes={','.join(CLASSES)}",
        "--run=run-1",
        "--data-fingerprint=d4t4",
        "--code-version=c0de",
        '--config={"train": {"seed": 7}}',
    ]


def test_the_step_registers_once_and_lists_the_packages(
    arguments: list[str],
    empty_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(database))
    for _ in range(2):
        main(arguments)
        listed = json.loads((tmp_path / "out" / "packages" / "packages.json").read_text())
        assert [package["version"] for package in listed] == [1, 2, 3, 4]
    assert {p["status"] for p in listed} == {"PendingManualApproval"}
    assert listed[0]["gate"] == {"passed": True, "reason": "0.75 is over 0.3"}
    assert (listed[0]["data_fingerprint"], listed[0]["code_version"]) == ("d4t4", "c0de")
    assert len(LocalRegistry(tracking_uri(database), "risky-players").packages()) == 4
    assert "registered in risky-players as one set, pending approval: 1 best_ranking, 2 few" in capsys.readouterr().err


def test_without_a_registry_the_step_says_what_to_set(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run_step(lambda: main(arguments)) == 2
    assert "Set it to sqlite:////<folder>/mlflow.db" in capsys.readouterr().err


def test_a_config_that_is_no_json_object_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments[:-1], "--config=[7]"])
    assert "--config: not a JSON object" in capsys.readouterr().err


def test_a_closed_gate_registers_nothing_however_the_step_was_called(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text('{"passed": false, "reason": "0.2 is under 0.3"}')
    with pytest.raises(UserError, match="closed, nothing was registered"):
        read_gate(tmp_path)


def test_a_gate_that_is_no_json_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text("[]")
    with pytest.raises(UserError, match=r"gate\.json: holds no JSON object\. Run the step that writes it"):
        read_gate(tmp_path)


def test_an_evaluation_of_odd_parts_has_no_metrics_of_them() -> None:
    assert metrics_of({"scarcegan": [], "multiclass_classification_metrics": {"accuracy": 0.5}}) == {"accuracy": 0.5}
