"""Captured rows: data capture in its encodings, scored tables, and what can be wrong with either."""

import base64
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from populations import CLASSES, NAMES, Model, request, users
from scarcegan.data import wire
from scarcegan.data.categories import code
from scarcegan.errors import UserError
from scarcegan.monitoring.captured import read_captured
from scarcegan.monitoring.data_capture import Capture
from scarcegan.monitoring.rows import Tally, read_cells
from scarcegan.steps.score import scored_table

ANSWER = {"probabilities": [0.1, 0.2, 0.7], "rarity": 0.7, "unknown": 0.2, "label": 2}


def read(folder, batch_rows=10_000):
    tally = Tally()
    return list(read_captured(folder, NAMES, CLASSES, tally, batch_rows)), tally


def one(folder):
    rows, tally = read(folder)
    assert len(rows) == 1
    return rows[0], tally


def record(data, encoding, content_type="application/json", name="e1"):
    side = {"observedContentType": content_type, "mode": "INPUT", "data": data, "encoding": encoding}
    meta = {"eventId": name, "inferenceTime": "2026-03-01T23:59:59Z"}
    return json.dumps({"captureData": {"endpointInput": side}, "eventMetadata": meta, "eventVersion": "0"}) + "\n"


def write_scored(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(scored_table(table, Model().score(table.values), CLASSES), path)


def test_a_json_request_and_its_answer_become_a_row(tmp_path):
    (tmp_path / "a.jsonl").write_text(request([[1, 2.5, None]], "e7", answers=[ANSWER]))
    rows, tally = one(tmp_path)
    assert rows.id.tolist() == ["e7"]
    assert str(rows.day[0]) == "2026-03-01"
    np.testing.assert_array_equal(rows.values, np.array([[1, 2.5, np.nan]], np.float32))
    assert rows.label.tolist() == ["risky"]
    assert (rows.rarity[0], rows.unknown[0]) == (np.float32(0.7), np.float32(0.2))
    assert tally.as_sentence() == "1 row in 1 file"


def test_rows_of_one_request_are_numbered(tmp_path):
    (tmp_path / "a.jsonl").write_text(request([[1, 2, 3], [4, 5, 6]], "e7", answers=[ANSWER, ANSWER]))
    assert one(tmp_path)[0].id.tolist() == ["e7/0", "e7/1"]


def test_the_callers_inference_id_is_preferred(tmp_path):
    line = json.loads(request([[1, 2, 3]]))
    line["eventMetadata"]["inferenceId"] = "user-9"
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    assert one(tmp_path)[0].id.tolist() == ["user-9"]


@pytest.mark.parametrize(
    "data",
    [
        {"instances": [[1, 2, 3]]},
        {"instances": [{"features": [1, 2, 3]}]},
        {"inputs": [[1, 2, 3]]},
        {"inputs": {"features": [[1, 2, 3]]}},
        {"instances": [{"deposits": 1, "visits": 2, "trend": 3}]},
        [[1, 2, 3]],
        [{"features": [1, 2, 3]}],
        [1, 2, 3],
    ],
)
def test_every_way_of_asking_in_json_is_read(tmp_path, data):
    (tmp_path / "a.jsonl").write_text(record(json.dumps(data), "JSON"))
    assert one(tmp_path)[0].values.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("data", ["1,2,3", "1,2,3\n", "deposits,visits,trend\n1,2,3\n", "trend,deposits,visits\n3,1,2"])
def test_csv_is_read_with_and_without_names(tmp_path, data):
    (tmp_path / "a.jsonl").write_text(record(data, "CSV", "text/csv"))
    assert one(tmp_path)[0].values.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("kind", ["text/csv; charset=utf-8", "TEXT/CSV"])
def test_base64_is_read_as_its_content_type_says(kind, tmp_path):
    coded = base64.b64encode(b"1,2,3").decode()
    (tmp_path / "a.jsonl").write_text(record(coded, "BASE64", kind))
    assert one(tmp_path)[0].values.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    "outputs",
    [
        {"predictions": [{"rarity": [0.7], "unknown": [0.2], "label": [2]}]},
        {"outputs": {"rarity": [0.7], "unknown": [0.2], "label": [2]}},
        {"predictions": [{"rarity": 0.7, "unknown": 0.2, "label": "risky"}]},
    ],
)
def test_every_shape_of_an_answer_is_read(tmp_path, outputs):
    line = json.loads(request([[1, 2, 3]]))
    line["captureData"]["endpointOutput"] = {"encoding": "JSON", "data": json.dumps(outputs)}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    rows, _ = one(tmp_path)
    assert rows.label.tolist() == ["risky"]
    assert rows.rarity[0] == np.float32(0.7)


@pytest.mark.parametrize("shape", ["instances", "inputs", "csv", "csv asked, json given"])
def test_what_the_endpoint_on_this_machine_captures_is_read_back(tmp_path, shape):
    table = users(5)
    if shape.startswith("csv"):
        kind, body = wire.CSV, "".join(",".join(map(str, row)) + "\n" for row in table.values.tolist())
    else:
        kind, body = wire.JSON, json.dumps({shape: table.values.tolist()})
    answer = wire.CSV if shape == "csv" else wire.JSON
    scores = Model().score(table.values)
    answered = wire.render_scores(scores, wire.read_request(body, kind, NAMES), answer)
    Capture(tmp_path).record((kind, body), (answer, answered), "team-7")
    rows, tally = one(tmp_path)
    np.testing.assert_array_equal(rows.values, table.values)
    np.testing.assert_array_equal(rows.rarity, scores.rarity)
    np.testing.assert_array_equal(rows.unknown, scores.unknown)
    assert rows.label.tolist() == [(*CLASSES, "unknown")[label] for label in scores.label]
    assert rows.id[0] == "team-7/0"
    assert tally.unreadable == 0


@pytest.mark.parametrize("kind", [wire.JSON, wire.CSV])
def test_a_category_is_read_back_as_the_endpoint_read_it(tmp_path, kind):
    """Text is text in JSON; in CSV, as for the endpoint, what reads as a number is a code."""
    rows = [[1, "tcp", 3], [1, 25681, 3], [1, "", 3], [1, "none", 3], [1, "1_0", 3]]
    rows += [[1, "6", 3]] if kind == wire.JSON else []
    csv_body = "".join(",".join(map(str, row)) + "\n" for row in rows)
    body = csv_body if kind == wire.CSV else json.dumps({"instances": rows})
    names = (NAMES[0], "protocol", NAMES[2])
    asked = wire.read_request(body, kind, names, ["protocol"])
    Capture(tmp_path).record((kind, body), (wire.JSON, '{"predictions": []}'))
    (found,) = read_captured(tmp_path, names, CLASSES, Tally(), categories=["protocol"])
    np.testing.assert_array_equal(found.values, asked.values)
    assert not found.text.any() and asked.values[3, 1] == code("none")


def test_a_scored_table_may_hold_categories_as_text(tmp_path):
    table = pa.table({"deposits": [1.0, 2.0, 3.0], "protocol": ["tcp", None, "25681"]})
    pq.write_table(table, tmp_path / "a.parquet")
    names = ("deposits", "protocol")
    (found,) = read_captured(tmp_path, names, CLASSES, Tally(), categories=["protocol"])
    np.testing.assert_array_equal(found.values[:, 1], np.array([25681, np.nan, code("25681")], np.float32))


def test_an_answer_in_csv_is_read(tmp_path):
    line = json.loads(request([[1, 2, 3], [4, 5, 6]]))
    line["captureData"]["endpointOutput"] = {
        "encoding": "CSV",
        "data": "2,0.7,0.2,0.1,0.2,0.7\n3,0.1,0.9,0.5,0.4,0.1\n",
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    rows, _ = one(tmp_path)
    assert rows.label.tolist() == ["risky", "unknown"]
    assert rows.rarity.tolist() == np.array([0.7, 0.1], np.float32).tolist()


def test_a_request_without_its_answer_has_no_scores(tmp_path):
    (tmp_path / "a.jsonl").write_text(request([[1, 2, 3]]))
    rows, _ = one(tmp_path)
    assert np.isnan(rows.rarity).all()
    assert rows.label.tolist() == [""]


def test_blank_cells_are_missing_and_words_are_text(tmp_path):
    (tmp_path / "a.jsonl").write_text(record(" ,seven,inf\nNaN,2,3", "CSV", "text/csv"))
    rows, _ = one(tmp_path)
    np.testing.assert_array_equal(rows.values, np.array([[np.nan, np.nan, np.inf], [np.nan, 2, 3]], np.float32))
    assert rows.text.tolist() == [[False, True, False], [False, False, False]]


def test_a_number_too_large_for_a_float_is_infinite_with_its_sign():
    values, text = read_cells([[10**400, -(10**400)], ["a", 1]], 2)
    np.testing.assert_array_equal(values, np.array([[np.inf, -np.inf], [np.nan, 1]], np.float32))
    assert text.tolist() == [[False, False], [True, False]]


def test_an_unfinished_last_line_is_left_out_and_counted(tmp_path):
    whole = request([[1, 2, 3]])
    (tmp_path / "a.jsonl").write_text(whole + whole[:50])
    rows, tally = one(tmp_path)
    assert len(rows) == 1
    assert (tally.partial, tally.unreadable) == (1, 0)
    assert tally.as_sentence() == "1 row in 1 file; 1 unfinished last line left out"


def test_a_line_cut_in_the_middle_is_left_out_and_named(tmp_path):
    whole = request([[1, 2, 3]])
    (tmp_path / "a.jsonl").write_text(whole + whole[:50] + "\n" + whole)
    rows, tally = one(tmp_path)
    assert len(rows) == 2
    assert tally.unreadable == 1
    assert tally.first_fault.startswith("a.jsonl line 2: ")


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        (
            {"encoding": "JSON", "data": "[[1, 2, 3]]"},
            {"encoding": "JSON", "data": json.dumps({"predictions": [{**ANSWER, "label": float("inf")}]})},
        ),
        ({"encoding": "CSV", "data": "9" * 2_000_001 + ",2,3"}, {"encoding": "JSON", "data": ""}),
    ],
    ids=["an infinite label", "a cell longer than csv takes"],
)
def test_a_request_or_an_answer_that_cannot_be_read_is_left_out_and_named(tmp_path, given, answered):
    broken = {"captureData": {"endpointInput": given, "endpointOutput": answered}, "eventMetadata": {"eventId": "e"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(broken) + "\n" + request([[1, 2, 3]]))
    rows, tally = one(tmp_path)
    assert (len(rows), tally.unreadable) == (1, 1)
    assert tally.first_fault.startswith("a.jsonl line 1: ")


def test_rows_of_another_width_are_left_out_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text(request([[1, 2, 3]]) + request([[1, 2]]))
    rows, tally = one(tmp_path)
    assert len(rows) == 1
    assert dict(tally.widths) == {2: 1}


def test_columns_that_only_one_side_has_are_noted(tmp_path):
    (tmp_path / "a.jsonl").write_text(request([{"deposits": 1, "visits": 2, "age": 40}]))
    rows, tally = one(tmp_path)
    np.testing.assert_array_equal(rows.values, np.array([[1, 2, np.nan]], np.float32))
    assert tally.seen == {"deposits", "visits"}
    assert dict(tally.extra) == {"age": 1}


def test_scored_tables_and_data_capture_are_read_together_wherever_they_lie(tmp_path):
    table = users(30)
    write_scored(tmp_path / "scored" / "run-1" / "part-00000.parquet", table)
    (tmp_path / "2026" / "03").mkdir(parents=True)
    (tmp_path / "2026" / "03" / "requests.jsonl").write_text(request([[1, 2, 3]]))
    rows, tally = read(tmp_path)
    assert sorted(len(batch) for batch in rows) == [1, 30]
    np.testing.assert_array_equal(rows[1].values, table.values)
    assert rows[1].id.tolist() == table.user_id.tolist()
    assert str(rows[1].day[0]) == "2026-03-01"
    assert tally.extra == {}


def test_linked_folders_are_read_once_even_in_a_circle(tmp_path):
    write_scored(tmp_path / "elsewhere" / "part-00000.parquet", users(30))
    (tmp_path / "captured").mkdir()
    (tmp_path / "captured" / "champion").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "captured")
    assert len(one(tmp_path / "captured")[0]) == 30


def test_batches_are_no_larger_than_asked(tmp_path):
    write_scored(tmp_path / "part-00000.parquet", users(25))
    assert [len(rows) for rows in read(tmp_path, batch_rows=10)[0]] == [10, 10, 5]


def test_text_columns_of_a_table_become_numbers_where_they_are_numbers(tmp_path):
    columns = {"user_id": ["a", "b"], "deposits": ["1.5", "many"], "visits": [1, None], "trend": [True, False]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    rows, _ = one(tmp_path)
    np.testing.assert_array_equal(rows.values, np.array([[1.5, 1, 1], [np.nan, np.nan, 0]], np.float32))
    assert rows.text[:, 0].tolist() == [False, True]
    assert np.isnat(rows.day).all()


@pytest.mark.parametrize(
    ("days", "first"),
    [(["2026-03-01", None], "2026-03-01"), (["2026-03-01T23:59:59Z", "then"], "2026-03-01"), (["then", None], "NaT")],
)
def test_days_written_as_text_are_read_and_what_is_no_day_is_none(tmp_path, days, first):
    columns = {"as_of": days, "predicted": ["risky", None], "deposits": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    rows, _ = one(tmp_path)
    assert rows.day.astype(str).tolist() == [first, "NaT"]
    assert rows.label.tolist() == ["risky", ""]


def test_an_empty_folder_is_refused_with_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"Looked for \*\.jsonl .* and \*\.parquet .* found: nothing\. Send requests"):
        read(tmp_path)


def test_a_file_may_be_named_instead_of_a_folder(tmp_path):
    (tmp_path / "a.jsonl").write_text(request([[1, 2, 3]]))
    assert len(one(tmp_path / "a.jsonl")[0]) == 1
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"notes\.txt: no captured rows"):
        read(tmp_path / "notes.txt")


def test_a_folder_of_other_files_is_refused_with_what_was_there(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"found: notes\.txt"):
        read(tmp_path)


def test_endings_count_in_any_case(tmp_path):
    (tmp_path / "a.JSONL").write_text(request([[1, 2, 3]]))
    write_scored(tmp_path / "b.Parquet", users(5))
    write_scored(tmp_path / "c.pq", users(5))
    rows, tally = read(tmp_path)
    assert (sum(map(len, rows)), tally.as_sentence()) == (11, "11 rows in 3 files")


def test_files_that_are_not_read_are_counted_and_told_but_not_those_of_a_scoring(tmp_path):
    (tmp_path / "a.jsonl").write_text(request([[1, 2, 3]]))
    for name in ("a.jsonl.gz", "old.csv", "flagged.csv", "summary.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    assert one(tmp_path)[1].as_sentence() == (
        f"1 row in 1 file; 2 files are not read, no Parquet or JSON lines by their ending: {tmp_path / 'a.jsonl.gz'} "
        f"and others; 1 file is not read, links to nothing: {tmp_path / 'gone.jsonl'}"
    )


def test_half_written_hidden_files_are_not_read(tmp_path):
    (tmp_path / ".part-00000.parquet.unfinished").write_text("")
    (tmp_path / ".hidden.parquet").write_text("")
    with pytest.raises(UserError, match="no captured rows"):
        read(tmp_path)


def test_rows_with_nothing_in_common_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text(request([[1, 2]]))
    with pytest.raises(UserError, match="1 row of 2 values, the baseline has 3 features"):
        read(tmp_path)


def test_a_table_with_nothing_in_common_is_refused(tmp_path):
    pq.write_table(pa.table({"colour": ["red"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"nothing in common with the baseline: columns colour.*deposits"):
        read(tmp_path)


def test_files_of_something_else_are_refused_with_the_first_fault(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"hello": 1}\n' * 3)
    with pytest.raises(UserError, match=r"no row could be read from 1 file \(a\.jsonl line 1: 'captureData'\)"):
        read(tmp_path)


def test_a_truncated_table_is_refused_by_name(tmp_path):
    write_scored(tmp_path / "part-00000.parquet", users(25))
    path = tmp_path / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"part-00000\.parquet: damaged Parquet"):
        read(tmp_path)
