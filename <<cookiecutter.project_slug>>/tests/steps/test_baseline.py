"""The baseline step: what is described, of whom, and into which files."""

import json

import numpy as np
import pytest

from populations import CLASSES, NAMES, Model, stand_in, users
from scarcegan.data.schema import write_features
from scarcegan.errors import UserError
from scarcegan.jsonfile import write_json
from scarcegan.monitoring.baseline import read_baseline
from scarcegan.monitoring.drift import distance
from scarcegan.monitoring.statistics import bucket_counts, constraints
from scarcegan.steps import baseline


@pytest.fixture
def tiny_model(monkeypatch):
    """The model of these tests, in place of every saved one."""
    stand_in(monkeypatch)


def arguments(folder, labelled, unlabelled, definitions=("one", "two")):
    write_features(labelled, folder / "labelled")
    write_features(unlabelled, folder / "unlabelled")
    for name in definitions:
        (folder / "models" / name).mkdir(parents=True)
        (folder / "models" / name / "model.json").write_text(json.dumps({"validation": {"recall": 0.5}}))
    channels = [f"--{name}={folder / name}" for name in ("models", "labelled", "unlabelled")]
    return [*channels, f"--baseline-out={folder / 'baseline'}", f"--classes={','.join(CLASSES)}"]


def test_every_definition_gets_statistics_and_constraints_of_all_training_rows(tmp_path, tiny_model, capsys):
    baseline.main(arguments(tmp_path, users(50, 1), users(250, 2)))
    for name in ("one", "two"):
        found = read_baseline(tmp_path / "baseline" / name)
        assert found.rows == 300
        assert found.names == (*NAMES, "rarity", "unknown")
        assert found.features == NAMES
        assert sum(found.labels.values()) == 300
        assert list(found.labels) == [*CLASSES, "unknown"]
    assert capsys.readouterr().out == "baseline: one, two\n"


def test_the_recall_of_validation_becomes_a_constraint(tmp_path, tiny_model):
    baseline.main(arguments(tmp_path, users(50, 1), users(250, 2)))
    rules = read_baseline(tmp_path / "baseline" / "one").constraints["binary_classification_constraints"]
    assert rules == {"recall": {"threshold": 0.4, "comparison_operator": "LessThanThreshold"}}


def test_the_scores_described_are_the_models_own():
    table = users(500)
    found = baseline.baseline_statistics(lambda: iter([table]), {"it": Model()}, CLASSES)["it"]
    rarity = next(f for f in found["features"] if f["name"] == "rarity")["numerical_statistics"]
    assert rarity["mean"] == pytest.approx(Model().score(table.values).rarity.mean(), rel=1e-5)


def test_more_rows_than_the_sample_are_all_counted(monkeypatch):
    monkeypatch.setattr(baseline, "SAMPLE_ROWS", 100)
    tables = [users(300, seed) for seed in range(4)]
    found = baseline.baseline_statistics(lambda: iter(tables), {"it": Model()}, CLASSES)["it"]
    assert found["dataset"]["item_count"] == 1200
    deposits = found["features"][0]["numerical_statistics"]
    buckets = deposits["distribution"]["kll"]["buckets"]
    everyone = np.concatenate([table.values[:, 0] for table in tables])
    assert sum(bucket["count"] for bucket in buckets) == 1200
    assert (buckets[0]["lower_bound"], buckets[-1]["upper_bound"]) == (everyone.min(), everyone.max())


def test_a_maximum_that_the_sample_missed_moves_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(baseline, "SAMPLE_ROWS", 50)
    table = users(2000)
    table.values[:, 0] = np.arange(2000) % 2
    table.values[7, 0] = 9
    found = baseline.baseline_statistics(lambda: iter([table]), {"it": Model()}, CLASSES)["it"]
    write_json(tmp_path / "statistics.json", found)
    write_json(tmp_path / "constraints.json", constraints(found, CLASSES))
    read = read_baseline(tmp_path)
    assert distance(read.counts[0], bucket_counts(table.values[:, 0], read.edges[0])).raw == 0


def test_a_definition_that_was_taken_out_of_the_settings_leaves_no_baseline(tmp_path, tiny_model):
    write_json(tmp_path / "baseline" / "old" / "statistics.json", {})
    baseline.main(arguments(tmp_path, users(50, 1), users(250, 2)))
    assert sorted(path.name for path in (tmp_path / "baseline").iterdir()) == ["one", "two"]


def test_no_training_row_is_refused():
    with pytest.raises(UserError, match="no training row"):
        baseline.baseline_statistics(lambda: iter([users(0)]), {"it": Model()}, CLASSES)


def test_a_folder_without_models_is_refused(tmp_path, tiny_model):
    with pytest.raises(UserError, match="no model"):
        baseline.main(arguments(tmp_path, users(5, 1), users(5, 2), definitions=()))


@pytest.mark.parametrize(
    ("content", "recall"),
    [({}, None), ([], None), ({"recall": "high"}, None), ({"recall": 1}, 1)],
)
def test_a_recall_that_model_json_does_not_tell_is_none(tmp_path, content, recall):
    (tmp_path / "model.json").write_text(json.dumps({"validation": content}))
    assert baseline.validation_recall(tmp_path) == recall


def test_a_model_json_that_is_no_json_object_is_refused(tmp_path):
    (tmp_path / "model.json").write_text("[1]")
    with pytest.raises(UserError, match=r"model\.json: holds no JSON object"):
        baseline.validation_recall(tmp_path)
