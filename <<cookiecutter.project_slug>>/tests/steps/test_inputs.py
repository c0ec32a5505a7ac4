"""Every run records which files it has read: path, bytes, SHA-256, rows where they are known, and columns."""

import datetime
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scarcegan.errors import UserError
from scarcegan.local import fingerprint
from scarcegan.steps import _inputs, features
from telemetry_samples import GOOD, LABELS, run_features, write


def test_the_features_step_records_the_digest_and_the_columns_of_every_file(tmp_path):
    csv = write(tmp_path / "in/a.csv", *GOOD)
    table = {"user_id": ["eve"], "date": [datetime.date(2026, 1, 6)], "sessions": [1], "wagers": [2.5]}
    (tmp_path / "in/date=2026").mkdir()
    pq.write_table(pa.table(table), tmp_path / "in/date=2026/b.parquet")
    labels = write(tmp_path / "labels.csv", *LABELS)
    run_features(tmp_path / "in", tmp_path / "out", labels, inputs=tmp_path / "inputs")
    found = json.loads((tmp_path / "inputs/inputs.json").read_text())
    digest = hashlib.sha256(csv.read_bytes()).hexdigest()
    text, parquet = found["telemetry"]
    assert text == {
        "columns": dict.fromkeys(GOOD[0].split(","), "string"),
        "delimiter": ",",
        "files": [{"path": "a.csv", "bytes": csv.stat().st_size, "sha256": digest}],
    }
    assert parquet["columns"] == {"user_id": "string", "date": "date32[day]", "sessions": "int64", "wagers": "double"}
    assert [(file["path"], file["rows"]) for file in parquet["files"]] == [("date=2026/b.parquet", 1)]
    assert found["labels"][0]["files"][0]["path"] == "labels.csv"


def test_files_that_are_divided_in_another_way_give_the_same_table_to_the_steps_that_follow(tmp_path):
    write(tmp_path / "one/a.csv", *GOOD)
    write(tmp_path / "two/a.csv", *GOOD[:3])
    write(tmp_path / "two/b.csv", GOOD[0], *GOOD[3:])
    for name in ("one", "two"):
        run_features(tmp_path / name, tmp_path / f"{name} out", inputs=tmp_path / f"{name} inputs")
    for path in (tmp_path / "one out").iterdir():
        assert path.read_bytes() == (tmp_path / "two out" / path.name).read_bytes()


@pytest.mark.parametrize("change", [lambda file: file.write_text(file.read_text().replace("1", "2")), Path.unlink])
@pytest.mark.parametrize("which", ["in/a.csv", "labels.csv"])
def test_a_file_that_somebody_replaces_or_deletes_while_the_step_runs_is_told(tmp_path, monkeypatch, change, which):
    write(tmp_path / "in/a.csv", *GOOD)
    labels = write(tmp_path / "labels.csv", *LABELS)
    monkeypatch.setattr(features, "write_left_out", lambda *_: change(tmp_path / which))
    with pytest.raises(UserError, match=rf"{which}: changed, or was deleted, while it was read\. Run again"):
        run_features(tmp_path / "in", tmp_path / "out", labels, inputs=tmp_path / "inputs")
    assert not (tmp_path / "inputs/inputs.json").exists()


def test_a_file_that_the_runner_has_hashed_is_not_hashed_again_unless_it_has_changed_since(tmp_path, monkeypatch):
    csv = write(tmp_path / "in/a.csv", *GOOD)
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 0)
    fingerprint.fingerprint_of(tmp_path / "in", tmp_path / "hashes")
    monkeypatch.setenv(fingerprint.HASHES_VARIABLE, str(tmp_path / "hashes"))
    hashed, real = [], _inputs.hash_file
    monkeypatch.setattr(_inputs, "hash_file", lambda file, size: hashed.append(file) or real(file, size))
    for expected in ([], [csv]):
        run_features(tmp_path / "in", tmp_path / "out", inputs=tmp_path / "inputs")
        [source] = json.loads((tmp_path / "inputs/inputs.json").read_text())["telemetry"]
        assert source["files"][0]["sha256"] == hashlib.sha256(csv.read_bytes()).hexdigest()
        assert hashed == expected
        csv.write_text(csv.read_text() + "\n")
