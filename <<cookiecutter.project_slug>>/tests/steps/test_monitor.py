"""The monitor step: windows, the verdict, model quality, the files and the report."""

import hashlib
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from populations import CLASSES, Model, a_baseline, request, users
from scarcegan.errors import UserError
from scarcegan.jsonfile import write_json
from scarcegan.monitoring.drift import Violation
from scarcegan.monitoring.quality import (
    MatchedRows,
    Truth,
    monitored_quality,
    quality_violations,
    read_truth,
    wilson_interval,
)
from scarcegan.monitoring.rows import Rows, Tally
from scarcegan.monitoring.windows import MonitoringRules, compare_windows, count_days, group_days, retraining_verdict
from scarcegan.steps import monitor
from scarcegan.steps.score import score_all
from step_arguments import arguments

RULES = MonitoringRules(threshold=0.1, window_days=7, retrain=2, of=3, minimum_rows=100)


def rows_of(table):
    """What reading the scored table back would give."""
    scores = Model().score(table.values)
    label = np.array([*CLASSES, "unknown"])[scores.label]
    text = np.zeros(table.values.shape, bool)
    return Rows(table.user_id.astype(str), table.as_of, table.values, text, scores.rarity, scores.unknown, label)


def windows_of(baseline, tables, rules=RULES):
    tally = Tally(seen=set(baseline.features))
    return compare_windows(count_days((rows_of(table) for table in tables), baseline), baseline, tally, rules, "risky")


def weeks(*moves, rows=300):
    """A table a week, so far moved each."""
    first = np.datetime64("2026-01-05")
    return [users(rows, i, str(first + 7 * i), more) for i, more in enumerate(moves)]


def said(baseline, *moves, rows=300):
    return retraining_verdict(windows_of(baseline, weeks(*moves, rows=rows)), [], RULES, "risky")


def score_weeks(folder, *moves):
    for table in weeks(*moves):
        score_all([table], Model(), folder / "captured" / str(table.as_of[0]))


def run(folder, *more, **changes):
    channels = [f"--{name}={folder / name}" for name in ("captured", "baseline")]
    values = arguments("monitor", classes=",".join(CLASSES), **changes)
    monitor.main([*channels, f"--monitoring-out={folder / 'monitoring'}", *values, *more])
    return json.loads((folder / "monitoring" / "verdict.json").read_text())


@pytest.mark.parametrize("act", [Path.unlink, lambda file: file.write_bytes(file.read_bytes() + b" ")])
def test_captured_rows_that_somebody_deletes_or_replaces_while_they_are_read_are_told(tmp_path, monkeypatch, act):
    a_baseline(tmp_path / "baseline")
    score_weeks(tmp_path, 0.0)
    [file] = (tmp_path / "captured").rglob("*.parquet")
    monkeypatch.setattr(monitor, "applied_constraints", lambda *_: act(file))
    with pytest.raises(UserError, match=r"part-00000\.parquet: changed, or was deleted, while it was read\. Run again"):
        run(tmp_path)


@pytest.mark.parametrize("moment", ["read_baseline", "applied_constraints"])
def test_requests_that_a_server_records_meanwhile_are_left_to_the_next_window(tmp_path, monkeypatch, moment):
    a_baseline(tmp_path / "baseline")
    file = tmp_path / "captured" / "10" / "a.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(request(users(300).values.tolist()))
    before, real = file.read_bytes(), getattr(monitor, moment)

    def record(*given):
        with file.open("a") as more:
            more.write(request(users(300, 1).values.tolist(), "e2")[:-9])
        (tmp_path / "captured" / "b.jsonl").write_text(request(users(300, 2).values.tolist(), "e3"))
        return real(*given)

    monkeypatch.setattr(monitor, moment, record)
    assert run(tmp_path)["windows"][0]["rows"] == 300
    [source] = json.loads((tmp_path / "monitoring" / "inputs.json").read_text())["captured"]
    digest = hashlib.sha256(before).hexdigest()
    assert source["files"] == [{"path": "10/a.jsonl", "bytes": len(before), "sha256": digest}]


@pytest.mark.parametrize("act", [lambda file: file.write_text("{}\n"), Path.unlink])
def test_recorded_requests_that_are_lost_while_they_are_read_are_told(tmp_path, monkeypatch, act):
    a_baseline(tmp_path / "baseline")
    (tmp_path / "captured").mkdir()
    (tmp_path / "captured" / "a.jsonl").write_text(request(users(300).values.tolist()))
    monkeypatch.setattr(monitor, "applied_constraints", lambda *_: act(tmp_path / "captured" / "a.jsonl"))
    with pytest.raises(UserError, match=r"a\.jsonl: changed, or was deleted, while it was read"):
        run(tmp_path)


def test_windows_end_on_the_last_day_and_gaps_have_none(tmp_path):
    baseline = a_baseline(tmp_path)
    tables = [users(200, i, day) for i, day in enumerate(["2026-01-01", "2026-01-20", "2026-01-25", "2026-01-26"])]
    days = count_days((rows_of(table) for table in tables), baseline)
    found = [(start, end, day.numbers.rows) for start, end, day in group_days(days, 7)]
    assert found == [("2025-12-30", "2026-01-05", 200), ("2026-01-20", "2026-01-26", 600)]


def test_days_of_one_batch_are_told_apart(tmp_path):
    baseline = a_baseline(tmp_path)
    rows = rows_of(users(10))
    days = np.array(["2026-01-05", "NaT"] * 5, "datetime64[D]")
    counted = count_days([Rows(**(vars(rows) | {"day": days}))], baseline)
    assert {day: found.numbers.rows for day, found in counted.items()} == {"NaT": 5, "2026-01-05": 5}


def test_steady_weeks_suggest_no_retraining(tmp_path):
    found = said(a_baseline(tmp_path), 0, 0, 0, 0)
    assert not found["retrain"]
    assert found["reason"].startswith("No retraining: 0 of the last 3 windows moved")
    assert [window["violations"] for window in found["windows"]] == [0, 0, 0, 0]


def test_two_moved_weeks_of_three_suggest_retraining(tmp_path):
    found = said(a_baseline(tmp_path), 0, 1, 0, 1)
    assert found["retrain"]
    assert found["reason"].startswith("Retrain: 2 of the last 3 windows moved")
    assert [window["drifted"] for window in found["windows"]] == [False, True, False, True]


def test_one_moved_week_of_three_does_not(tmp_path):
    assert not said(a_baseline(tmp_path), 1, 1, 0, 0, 1)["retrain"]


def test_too_few_windows_are_told(tmp_path):
    found = said(a_baseline(tmp_path), 1)
    assert not found["retrain"]
    assert "only 1 of the 3 windows that a verdict is based on" in found["reason"]


def test_two_moved_weeks_suffice_before_there_are_three(tmp_path):
    assert said(a_baseline(tmp_path), 1, 1)["retrain"]


def test_windows_of_few_rows_are_not_judged(tmp_path):
    baseline = a_baseline(tmp_path)
    tables = [*weeks(0, 0), users(20, 9, "2026-01-26", more=3)]
    windows = windows_of(baseline, tables)
    assert [window.judged for window in windows] == [True, True, False]
    assert retraining_verdict(windows, [], RULES, "risky")["judged_windows"] == 2


def test_small_windows_are_judged_together_when_none_has_enough_rows(tmp_path):
    windows = windows_of(a_baseline(tmp_path), weeks(0, 0, 0, rows=50))
    assert [(w.start, w.end, w.rows, w.judged) for w in windows] == [("2026-01-05", "2026-01-19", 150, True)]


def test_fewer_rows_than_the_minimum_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"only 99 captured rows, but 100 are needed.*monitor\.minimum_rows"):
        windows_of(a_baseline(tmp_path), weeks(0, rows=99))


def test_gaps_alone_are_mended_in_the_data_not_by_retraining(tmp_path):
    baseline = a_baseline(tmp_path)
    tables = weeks(0, 0, 0)
    for table in tables:
        table.values[:45, 0] = np.nan
    windows = windows_of(baseline, tables)
    assert {v.constraint_check_type for v in windows[-1].violations} == {"completeness_check"}
    assert not retraining_verdict(windows, [], RULES, "risky")["retrain"]


def test_quality_below_its_constraint_suggests_retraining(tmp_path):
    broken = [Violation("recall", "LessThanThreshold", "recall of the rare class is 0.100 (0.050 to 0.190), below 0.4")]
    found = retraining_verdict(windows_of(a_baseline(tmp_path), weeks(0, 0, 0)), broken, RULES, "risky")
    assert found["retrain"]
    assert found["reason"] == "Retrain: recall of the rare class is 0.100 (0.050 to 0.190), below 0.4."


def test_the_step_writes_the_documented_files_and_a_report(tmp_path, capsys):
    a_baseline(tmp_path / "baseline", recall=0.5)
    score_weeks(tmp_path, 0, 1, 1)
    found = run(tmp_path, description="Finds risky players")
    out = tmp_path / "monitoring"
    names = ["constraint_violations.json", "constraints.json", "inputs.json", "report.html"]
    names += ["statistics.json", "verdict.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    inputs = json.loads((out / "inputs.json").read_text())
    assert [file["rows"] for file in inputs["captured"][0]["files"]] == [300, 300, 300]
    assert [file["path"] for file in inputs["baseline"][0]["files"]] == ["constraints.json", "statistics.json"]
    statistics = json.loads((out / "statistics.json").read_text())
    assert statistics["dataset"] == {"item_count": 300}
    assert [f["name"] for f in statistics["features"]] == ["deposits", "visits", "trend", "rarity", "unknown", "label"]
    violations = json.loads((out / "constraint_violations.json").read_text())["violations"]
    assert {"deposits", "visits", "trend"} <= {v["feature_name"] for v in violations}
    html = (out / "report.html").read_text()
    assert found["reason"] in html and "Finds risky players</p>" in html
    assert html.count("<svg") == 5
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert found["retrain"] is True
    assert capsys.readouterr().out.strip() == found["reason"]


def test_what_an_earlier_call_measured_is_not_left_beside_the_new_files(tmp_path):
    a_baseline(tmp_path / "baseline")
    score_weeks(tmp_path, 0)
    (tmp_path / "monitoring").mkdir()
    (tmp_path / "monitoring" / "model_quality.json").write_text("{}")
    run(tmp_path)
    assert not (tmp_path / "monitoring" / "model_quality.json").exists()


def test_a_long_tail_of_tiny_windows_is_reported_on(tmp_path):
    a_baseline(tmp_path / "baseline")
    score_weeks(tmp_path, 0)
    for i in range(15):
        day = str(np.datetime64("2026-02-01") + 7 * i)
        score_all([users(2, 50 + i, day)], Model(), tmp_path / "captured" / day)
    found = run(tmp_path)
    assert (len(found["windows"]), found["judged_windows"]) == (16, 1)
    assert "300 captured rows from 2026-01-05 to 2026-01-11" in (tmp_path / "monitoring" / "report.html").read_text()


def test_the_threshold_asked_for_is_the_one_applied(tmp_path):
    a_baseline(tmp_path / "baseline")
    score_weeks(tmp_path, 0.4)
    assert run(tmp_path, drift_threshold=0.9)["windows"][0]["violations"] == 0
    applied = json.loads((tmp_path / "monitoring" / "constraints.json").read_text())
    assert applied["monitoring_config"]["distribution_constraints"]["comparison_threshold"] == 0.9
    assert run(tmp_path, drift_threshold=0.01)["windows"][0]["violations"] > 0


def test_captured_requests_without_answers_are_compared_by_their_features(tmp_path):
    a_baseline(tmp_path / "baseline")
    (tmp_path / "captured").mkdir()
    lines = [request([[None if np.isnan(v) else float(v) for v in row]]) for row in users(300, more=1).values]
    (tmp_path / "captured" / "a.jsonl").write_text("".join(lines))
    found = run(tmp_path)
    assert found["windows"][0]["drifted"]
    assert found["windows"][0]["flagged_share"] is None
    violations = json.loads((tmp_path / "monitoring" / "constraint_violations.json").read_text())["violations"]
    assert {v["constraint_check_type"] for v in violations} == {"baseline_drift_check"}
    assert {v["feature_name"] for v in violations} == {"deposits", "visits", "trend"}


def test_a_column_that_was_never_captured_is_a_violation(tmp_path):
    a_baseline(tmp_path / "baseline")
    (tmp_path / "captured").mkdir()
    rows = [{"deposits": float(a), "visits": float(b), "age": 1} for a, b, _ in users(300).values]
    (tmp_path / "captured" / "a.jsonl").write_text("".join(request([row]) for row in rows))
    run(tmp_path)
    violations = json.loads((tmp_path / "monitoring" / "constraint_violations.json").read_text())["violations"]
    assert [(v["feature_name"], v["constraint_check_type"]) for v in violations] == [
        ("trend", "missing_column_check"),
        ("age", "extra_column_check"),
    ]


def test_a_baseline_of_constant_and_empty_columns_is_reported_on(tmp_path):
    still = users(2000)
    still.values[:, 0], still.values[:, 2] = 3, np.nan
    from scarcegan.monitoring.statistics import constraints
    from scarcegan.steps.baseline import baseline_statistics

    found = baseline_statistics(lambda: iter([still]), {"it": Model()}, CLASSES)["it"]
    write_json(tmp_path / "baseline" / "statistics.json", found)
    write_json(tmp_path / "baseline" / "constraints.json", constraints(found, (*CLASSES, "unknown")))
    same = users(300, 1)
    same.values[:, 0], same.values[:, 2] = 3, np.nan
    score_all([same], Model(), tmp_path / "captured")
    assert run(tmp_path)["windows"][0]["violations"] == 0


def test_ground_truth_measures_recall_and_precision_of_the_rare_class():
    truth = np.array([2, 2, 2, 2, 0, 0, 1, 3])
    predicted = np.array([2, 2, 2, 0, 0, 2, 1, 3])
    rarity = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.6, 0.1, 0.1])
    found = monitored_quality(truth, predicted, rarity, CLASSES)
    rare = found["binary_classification_metrics"]
    assert rare["confusion_matrix"] == {"0": {"0": 3, "1": 1}, "1": {"0": 1, "1": 3}}
    assert rare["recall"]["value"] == rare["precision"]["value"] == 0.75
    assert (rare["recall"]["low"], rare["recall"]["high"]) == (
        pytest.approx(0.301, abs=1e-3),
        pytest.approx(0.954, abs=1e-3),
    )
    assert rare["pr_auc"]["value"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    assert rare["pr_auc"]["low"] <= rare["pr_auc"]["value"] <= rare["pr_auc"]["high"]


def test_users_of_no_class_have_a_row_of_their_own_in_the_confusion_matrix():
    found = monitored_quality(np.array([2, 0, 3, 3]), np.array([2, 0, 3, 0]), np.array([0.9, 0.1, 0.2, 0.2]), CLASSES)
    matrix = found["multiclass_classification_metrics"]["confusion_matrix"]
    assert matrix["risky"] == {"normal": 0, "heavy": 0, "risky": 1, "unknown": 0}
    assert matrix["unknown"] == {"normal": 1, "heavy": 0, "risky": 0, "unknown": 1}
    assert found["multiclass_classification_metrics"]["accuracy"]["value"] == 1


@pytest.mark.parametrize("truth", [[0, 0, 1], [2, 2, 2], [3, 3, 3]])
def test_what_cannot_be_measured_is_not_a_number(truth):
    found = monitored_quality(np.array(truth), np.array([0, 2, 3]), np.array([0.1, 0.9, np.nan]), CLASSES)
    json.dumps(found, allow_nan=False)
    assert found["binary_classification_metrics"]["pr_auc"]["value"] == "NaN"


def test_a_constraint_is_broken_only_when_the_whole_interval_lies_beyond():
    rules = {
        "binary_classification_constraints": {"recall": {"threshold": 0.5, "comparison_operator": "LessThanThreshold"}}
    }
    unsure, sure = (
        {"binary_classification_metrics": {"recall": {"value": 0.25, **wilson_interval(*counts)}}}
        for counts in [(1, 4), (100, 400)]
    )
    assert quality_violations(unsure, rules) == []
    assert [v.feature_name for v in quality_violations(sure, rules)] == ["recall"]
    assert quality_violations(sure, {}) == []


def test_the_latest_prediction_of_a_user_counts():
    truth = Truth(np.array(["ann", "bob"]), np.array([2, 0]))
    matches = MatchedRows(truth, CLASSES)
    for day, label, rarity in [("2026-01-02", "risky", 0.9), ("2026-01-01", "normal", 0.1)]:
        one = np.array([rarity], np.float32)
        values, text = np.zeros((1, 3), np.float32), np.zeros((1, 3), bool)
        days = np.array([day], "datetime64[D]")
        matches.add(Rows(np.array(["ann"]), days, values, text, one, one, np.array([label])))
    found = matches.quality()
    assert found["dataset"]["item_count"] == 1
    assert found["binary_classification_metrics"]["recall"]["value"] == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "user_id,label\nann,risky\nbob,normal\n"),
        ("t.csv", "user_id,label\nann,2\nbob,0\n"),
        ("t.csv", "user_id,label\nann,2.0\nbob,0.0\n"),
        ("t.csv", "label,day,user_id\nrisky,1,ann\nnormal,1,bob\n"),
        ("t.csv", "player,kind\nann,risky\nbob,normal\n"),
        ("t.csv", "user_id,behaviour\nann,risky\nbob,normal\n"),
        ("t.TSV", "user_id\tlabel\nann\trisky\nbob \t normal\n"),
        ("label=2/t.csv", "user_id;label\n\u00a0ann;risky\nbob;normal\n"),
        (
            "t.jsonl",
            '{"groundTruthData": {"data": "2", "encoding": "CSV"}, "eventMetadata": {"eventId": "ann"}}\n'
            '{"groundTruthData": {"data": "normal", "encoding": "CSV"}, "eventMetadata": {"eventId": "bob"}}\n',
        ),
    ],
)
def test_ground_truth_is_read_in_its_forms(tmp_path, name, content):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    for place in (tmp_path, tmp_path / name):
        truth = read_truth(place, CLASSES)
        assert (truth.id.tolist(), truth.label.tolist()) == (["ann", "bob"], [2, 0])
    assert truth.positions(np.array(["bob", "zoe", "ann", ""])).tolist() == [1, -1, 0, -1]


def test_ids_of_ground_truth_that_became_floats_are_the_same_ids(tmp_path):
    pq.write_table(pa.table({"user_id": [100_000.0, 7.0], "label": ["risky", "normal "]}), tmp_path / "t.parquet")
    truth = read_truth(tmp_path, CLASSES)
    assert (truth.id.tolist(), truth.label.tolist()) == (["100000", "7"], [2, 0])


def test_a_class_of_ground_truth_may_be_a_decimal(tmp_path):
    table = pa.table({"user_id": ["ann", "bob"], "label": pa.array([Decimal(2), Decimal(0)], pa.decimal128(9, 2))})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_truth(tmp_path, CLASSES).label.tolist() == [2, 0]


def test_ground_truth_that_is_left_out_is_counted(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("user_id,label\nann,risky\nbob,\n,normal\n")
    (tmp_path / "more.xlsx").write_text("?")
    assert read_truth(tmp_path, CLASSES).id.tolist() == ["ann"]
    said = capsys.readouterr().err
    assert "rows without an id or a label, left out: 2" in said and "more.xlsx" in said


def test_ground_truth_that_contradicts_itself_or_names_no_class_is_counted(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("user_id,label\nann,risky\nann,normal\nbob,Risky\ncyd,risky\ncyd,risky\n")
    assert read_truth(tmp_path, CLASSES).label.tolist() == [0, 3, 2]
    said = capsys.readouterr().err
    assert "ids with two labels, of which the one read last counts: 1, such as 'ann', now 'normal'" in said
    assert "labels that are no class: 'Risky' 1" in said


def test_an_id_of_ground_truth_with_a_fraction_is_refused(tmp_path):
    pq.write_table(pa.table({"user_id": [2.5], "label": ["risky"]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"column 'user_id': '2\.5'"):
        read_truth(tmp_path, CLASSES)


def test_nobody_is_told_to_drop_rows_of_ground_truth(tmp_path):
    (tmp_path / "t.csv").write_text("user_id,label\nann,risky\nbo\0b,normal\n")
    with pytest.raises(UserError, match="holds a NUL character") as refused:
        read_truth(tmp_path, CLASSES)
    assert "bad_rows" not in str(refused.value)


def test_an_id_that_was_scored_in_another_spelling_is_refused_with_both(tmp_path):
    matched = MatchedRows(Truth(np.array(["007", "ann"]), np.array([2, 0])), CLASSES)
    nothing = np.zeros((2, 0), np.float32)
    rows = Rows(
        np.array(["7", "ann"]),
        np.full(2, "2026-01-05", "datetime64[D]"),
        nothing,
        nothing > 0,
        np.ones(2, np.float32),
        np.ones(2, np.float32),
        np.array(["risky", "normal"]),
    )
    matched.add(rows)
    with pytest.raises(UserError, match=r"user '007', but the scored rows: user '7'"):
        matched.quality()
    matched.add(replace(rows, id=np.array(["007", "x"])))
    assert matched.quality()["dataset"]["item_count"] == 2


def test_behaviour_that_is_no_class_counts_as_unknown(tmp_path):
    (tmp_path / "t.csv").write_text("user_id,label\nann,risky\nbob,bonus_hunter\n")
    truth = read_truth(tmp_path, CLASSES)
    assert truth.label.tolist() == [2, 3]
    assert truth.other_names == {"bonus_hunter": 1}


def test_an_empty_folder_is_no_ground_truth(tmp_path):
    assert read_truth(tmp_path, CLASSES) is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "user_id,label\nann,good\n", r"no label is a class \(found: good; classes: normal, heavy, risky\)"),
        ("t.csv", "a,b,c\n1,2,3\n", r"no columns 'user_id' and 'label' \(found: a, b, c\)"),
        ("t.jsonl", '{"label": 1}\n', "line 1: no ground truth record"),
        ("t.jsonl", '{"eventMetadata": [], "groundTruthData": {"data": "risky"}}\n', "line 1: no ground truth record"),
        ("t.jsonl", "[" * 100_000 + "\n", "line 1: no ground truth record"),
        ("t.md", "hello", r"no ground truth\. Looked for CSV"),
        ("t.parquet", "hello", "damaged or truncated Parquet"),
    ],
)
def test_what_is_no_ground_truth_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_truth(tmp_path, CLASSES)


def test_ground_truth_of_other_users_is_refused(tmp_path):
    a_baseline(tmp_path / "baseline")
    score_weeks(tmp_path, 0)
    (tmp_path / "truth.csv").write_text("user_id,label\nzoe,risky\n")
    with pytest.raises(UserError, match=r"such as 'zoe'.*none of them among the captured predictions"):
        run(tmp_path, f"--truth={tmp_path / 'truth.csv'}")


def test_ground_truth_that_the_model_missed_suggests_retraining(tmp_path):
    a_baseline(tmp_path / "baseline", recall=0.9)
    score_weeks(tmp_path, 0, 0, 0)
    lines = [f"user-2-{i},{'risky' if i < 60 else 'normal'}" for i in range(300)]
    (tmp_path / "truth.csv").write_text("\n".join(["user_id,label", *lines]))
    found = run(tmp_path, f"--truth={tmp_path / 'truth.csv'}")
    assert found["retrain"]
    assert found["reason"].startswith("Retrain: recall of the rare class is 0.")
    quality = json.loads((tmp_path / "monitoring" / "model_quality.json").read_text())
    assert quality["dataset"]["item_count"] == 300
    assert "Model quality" in (tmp_path / "monitoring" / "report.html").read_text()
    violations = json.loads((tmp_path / "monitoring" / "constraint_violations.json").read_text())["violations"]
    assert [v["constraint_check_type"] for v in violations] == ["LessThanThreshold"]
