"""Bad input ends with one sentence: the file, the row, the column, and what to do. Good rows beside it can be kept."""

import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scarcegan.data import files
from scarcegan.data.rules import Layout
from scarcegan.errors import UserError
from scarcegan.profile.check import check_data
from step_arguments import arguments
from telemetry_samples import GOOD, HEADER, LABELS, run_features, write

LAYOUT = Layout(("calm", "risky"), counters=("sessions", "wagers"), start="2026-01-05", days=3)

BAD_ROWS = {
    "text in a counter": ("ann,2026-01-06,many,0", "row 3, column 'sessions': 'many' is not a number"),
    "decimal comma": ('ann,2026-01-06,0,"1,5"', "row 3, column 'wagers': '1,5' is not a number"),
    "infinite": ("ann,2026-01-06,0,inf", "row 3, column 'wagers': 'inf' is infinite"),
    "not a number": ("ann,2026-01-06,0,nan", "row 3, column 'wagers': 'nan' is empty"),
    "huge": ("ann,2026-01-06,0,1e300", "row 3, column 'wagers': '1e300' is infinite or far too large"),
    "negative": ("ann,2026-01-06,-1,0", "row 3, column 'sessions': '-1' is negative"),
    "empty counter": ("ann,2026-01-06,,0", "row 3, column 'sessions' is empty"),
    "empty user": (",2026-01-06,0,0", "row 3, column 'user_id' is empty"),
    "no date": ("ann,06/01/2026,0,0", "row 3, column 'date': '06/01/2026' is not a date"),
    "end of time": ("ann,9999-12-31,0,0", "row 3, column 'date': '9999-12-31' is not a date"),
}


def refusal(telemetry: Path, out: Path, labels: Path | None = None, **arguments: Any) -> str:
    """What the features step says instead of working."""
    with pytest.raises(UserError) as refused:
        run_features(telemetry, out, labels, **arguments)
    return str(refused.value)


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_refused_with_its_place(tmp_path, case):
    row, expected = BAD_ROWS[case]
    path = write(tmp_path / "in.csv", GOOD[0], GOOD[1], row, *GOOD[3:])
    said = refusal(path, tmp_path / "out")
    assert said.startswith(str(path)) and expected in said
    assert "data.bad_rows to drop" in said
    assert not list((tmp_path / "out").iterdir()), "nothing half-written is left"


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_can_be_dropped_and_is_counted(tmp_path, case, capsys):
    without = write(tmp_path / "good.csv", GOOD[0], GOOD[1], *GOOD[3:])
    path = write(tmp_path / "in.csv", GOOD[0], GOOD[1], BAD_ROWS[case][0], *GOOD[3:])
    kept = run_features(path, tmp_path / "out", bad_rows="drop")
    np.testing.assert_array_equal(kept.values, run_features(without, tmp_path / "expected").values)
    assert [entry["rows"] for entry in json.loads((tmp_path / "out/dropped.json").read_text())] == [1]
    assert "dropped: " in capsys.readouterr().err
    run_features(without, tmp_path / "out", bad_rows="drop")
    assert not (tmp_path / "out/dropped.json").exists(), "nothing was dropped this time"


def test_the_row_number_is_the_line_an_editor_shows(tmp_path):
    path = write(tmp_path / "in.csv", HEADER, "", '"an\nn",2026-01-05,1,1', "", "bob,2026-01-05,x,1")
    assert f"{path} row 6, " in refusal(path, tmp_path / "out")


def test_many_bad_rows_are_counted_and_the_first_is_shown(tmp_path):
    path = write(tmp_path / "in.csv", *GOOD, *(f"ann,2026-01-06,{word},0" for word in ("one", "two", "three")))
    assert "row 7, column 'sessions': 'one' is not a number (3 such rows)" in refusal(path, tmp_path / "out")


def test_the_first_bad_file_among_many_is_named(tmp_path):
    for number in range(30):
        bad = number in (17, 23)
        write(tmp_path / f"in/{number:02}.csv", HEADER, f"u{number},2026-01-05,{'x' if bad else 1},1")
    assert refusal(tmp_path / "in", tmp_path / "out").startswith(f"{tmp_path / 'in/17.csv'} row 2")


def test_a_bad_row_in_parquet_has_its_record_number(tmp_path):
    table = pa.table({"user_id": ["a", "b"], "date": ["2026-01-05"] * 2, "sessions": [1, 2], "wagers": [1.0, -2.0]})
    pq.write_table(table, tmp_path / "in.parquet")
    assert "in.parquet row 2, column 'wagers': '-2.0' is negative" in refusal(tmp_path / "in.parquet", tmp_path / "out")


def test_two_records_of_one_user_and_day_are_both_named(tmp_path):
    one = write(tmp_path / "in/1.csv", *GOOD)
    two = write(tmp_path / "in/2.csv", HEADER, "bob,2026-01-07,5,5")
    said = refusal(tmp_path / "in", tmp_path / "out")
    assert f"{one} row 6 and {two} row 2: two records of user 'bob' on 2026-01-07" in said


def test_a_mistake_found_late_leaves_no_part_behind(tmp_path):
    rows = [f"u{number:03},2026-01-05,1,1" for number in range(300)]
    path = write(tmp_path / "in.csv", HEADER, *rows, rows[150])
    assert "two records of user 'u150'" in refusal(path, tmp_path / "out", batch_users=10)
    assert not list((tmp_path / "out").iterdir())


def test_of_two_records_of_one_day_the_larger_is_kept_whatever_the_order(tmp_path):
    forth = write(tmp_path / "1.csv", *GOOD, "bob,2026-01-07,5,5")
    back = write(tmp_path / "2.csv", HEADER, "bob,2026-01-07,5,5", *GOOD[1:])
    tables = [run_features(path, tmp_path / path.stem, bad_rows="drop") for path in (forth, back)]
    np.testing.assert_array_equal(tables[0].values, tables[1].values)
    row, column = tables[0].user_id.tolist().index("bob"), tables[0].names.index("sessions_mean")
    assert tables[0].values[row, column] == (3 + 5) / 2


def test_a_missing_column_is_refused_with_the_nearest_one(tmp_path):
    path = write(tmp_path / "in.csv", "user_id,date,session,wagers", "ann,2026-01-05,1,1")
    said = refusal(path, tmp_path / "out")
    assert "no column 'sessions' (found: user_id, date, session, wagers). Did you mean 'session'?" in said
    assert "data.counters" in said
    path = write(tmp_path / "in.csv", "User_ID,date,sessions,wagers", "ann,2026-01-05,1,1")
    assert "Did you mean 'User_ID'?" in refusal(path, tmp_path / "out")
    path = write(tmp_path / "in.csv", "user_id,date,sessions,wagers,sessions", "ann,2026-01-05,1,1,2")
    assert "two columns are named 'sessions'" in refusal(path, tmp_path / "out")


def test_odd_names_do_no_harm(tmp_path):
    strange = 'user id,"da""te",sess\'ions,Sess\'ions,,filename,wagers'
    rows = [f"ann,2026-01-0{day},1,x,y,z,2" for day in (5, 6, 7)]
    path = write(tmp_path / "o'brien [1]*; ü.csv", strange, *rows)
    names: dict[str, Any] = {"user_column": "user id", "time_column": 'da"te', "counters": "sess'ions,wagers"}
    assert run_features(path, tmp_path / "out", **names).user_id.tolist() == ["ann"]


def test_a_column_that_only_one_file_lacks_is_found(tmp_path):
    write(tmp_path / "in/1.csv", *GOOD)
    lacking = write(tmp_path / "in/2.csv", "user_id,day,sessions,wagers", "cyd,2026-01-05,1,1")
    assert f"{lacking}: no column 'date'" in refusal(tmp_path / "in", tmp_path / "out")


def test_places_without_data_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no such file or folder" in refusal(tmp_path / "nowhere", tmp_path / "out")
    assert "no Parquet or CSV file in it" in refusal(tmp_path / "empty", tmp_path / "out")
    assert "a header but no rows" in refusal(write(tmp_path / "header.csv", HEADER), tmp_path / "out")
    (tmp_path / "nothing.csv").touch()
    assert "nothing.csv: empty" in refusal(tmp_path / "nothing.csv", tmp_path / "out")


def test_damaged_files_are_named(tmp_path):
    text = "\n".join([HEADER, *(f"u{n},2026-01-05,1,1" for n in range(5000))]).encode()
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(text)[:-50])
    pq.write_table(pa.table({"user_id": ["a"] * 999}), tmp_path / "cut.parquet")
    os.truncate(tmp_path / "cut.parquet", 300)
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\nJosé,2026-01-05,1,1\n".encode("latin-1"))
    for name in ("cut.csv.gz", "cut.parquet", "latin.csv"):
        assert str(tmp_path / name) in refusal(tmp_path / name, tmp_path / "out")


def test_a_row_with_too_few_or_too_many_values_is_refused(tmp_path):
    for row in ("ann,2026-01-06,1", "ann,2026-01-06,1,1,1"):
        said = refusal(write(tmp_path / "in.csv", GOOD[0], GOOD[1], row), tmp_path / "out")
        assert f"{tmp_path / 'in.csv'} row 3: expected number of columns: 4" in said


def test_lines_that_end_in_two_ways_are_told(tmp_path):
    (tmp_path / "in.csv").write_bytes(f"{HEADER}\r\nann,2026-01-05,1,1\r\n\n\n".encode())
    assert "its lines end in more than one way" in refusal(tmp_path / "in.csv", tmp_path / "out")


BAD_LABELS = {
    "unknown label": (
        ("ann,calm", "bob,risk"),
        "row 3, column 'label': 'risk' is not one of the classes (calm, risky)",
    ),
    "empty class": (("ann,calm", "bob,calm"), "no user is labelled 'risky' (found: calm 2, risky 0)"),
    "two labels": (("ann,calm", "bob,risky", "ann,risky"), "user 'ann' is labelled 'calm' and 'risky'"),
    "stranger": (("ann,calm", "bob,risky", "cyd,calm"), "user 'cyd' is labelled, but is not in the data"),
    "strangers only": (
        ("1,calm", "2,risky"),
        "user '1' is labelled, but is not in the data (2 such users), where a user is called 'ann'. Export both",
    ),
    "empty user": (("ann,calm", ",risky"), "row 3, column 'user_id' is empty"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels_are_refused(tmp_path, case):
    rows, expected = BAD_LABELS[case]
    labels = write(tmp_path / "labels.csv", LABELS[0], *rows)
    said = refusal(write(tmp_path / "in.csv", *GOOD), tmp_path / "out", labels)
    assert said.startswith(str(labels)) and expected in said


def test_labels_without_names_of_columns_get_a_hint(tmp_path):
    labels = write(tmp_path / "labels.csv", "ann,calm", "bob,risky")
    assert "Its first line looks like a record" in refusal(write(tmp_path / "in.csv", *GOOD), tmp_path / "out", labels)


def test_a_class_folder_with_a_strange_name_is_refused(tmp_path):
    write(tmp_path / "in/calm/1.csv", *GOOD[:3])
    write(tmp_path / "in/riski/1.csv", HEADER, *GOOD[4:])
    assert "'riski' is not one of the classes (calm, risky). Did you mean 'risky'?" in refusal(
        tmp_path / "in", tmp_path / "out"
    )


def test_a_user_in_two_class_folders_is_refused(tmp_path):
    write(tmp_path / "in/calm/1.csv", *GOOD[:3])
    write(tmp_path / "in/risky/1.csv", HEADER, "ann,2026-01-07,1,1")
    assert "user 'ann' is labelled 'calm' and 'risky'" in refusal(tmp_path / "in", tmp_path / "out")


def test_dropping_a_bad_row_keeps_rows_without_a_label(tmp_path):
    lines = [f"{HEADER},label", "ann,2026-01-05,1,1,calm", "bob,2026-01-05,1,1,", "cyd,2026-01-05,x,1,risky"]
    kept = run_features(write(tmp_path / "in.csv", *lines), tmp_path / "out", bad_rows="drop")
    assert dict(zip(kept.user_id, kept.label.tolist(), strict=True)) == {"ann": 0, "bob": -1}


def test_dropping_everything_is_refused(tmp_path):
    path = write(tmp_path / "in.csv", HEADER, "ann,2026-01-05,x,1")
    assert "no row is left" in refusal(path, tmp_path / "out", bad_rows="drop")


def test_a_full_disk_is_not_taken_for_a_damaged_file():
    with pytest.raises(OSError) as refused, files.naming_the_damaged_file([]):
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")
    assert refused.value.errno == errno.ENOSPC


def test_a_ready_table_is_checked_too(tmp_path):
    def said(*lines: str, **arguments: Any) -> str:
        return refusal(write(tmp_path / "in.csv", *lines), tmp_path / "out", kind="features", **arguments)

    assert "row 3, column 'a': 'x' is not a number" in said("user_id,a", "u1,1", "u2,x", columns="a")
    assert "row 3, column 'a': 'inf' is infinite" in said("user_id,a", "u1,1", "u2,inf")
    assert "'1e39' is infinite or far too large" in said("user_id,a", "u1,1", "u2,1e39")
    assert "'u1' has more than one row" in said("user_id,a", "u1,1", "u1,2")
    assert "no column 'user_id'" in said("a,b", "1,2")
    assert "'rosky' is not one of the classes" in said("user_id,a,label", "u1,1,rosky")
    dated = "user_id,date,a,label", "u1,2026-01-05,1,calm", "u1,2026-01-06,1,risky", "u2,2026-01-05,1,calm"
    assert "user 'u1' is labelled 'calm' and 'risky'. Keep one label" in said(*dated)
    assert "'label' is a reserved column name" in said(
        "a,label", "1,2", user_column="", label_column="", columns="label"
    )
    assert "no numeric column" in said("user_id,a", "u1,x")


def test_check_lists_every_problem_and_sums_up(tmp_path):
    path = write(tmp_path / "in.csv", *GOOD, "cyd,2026-01-06,x,-1", "cyd,2026-03-01,1,1", "bob,2026-01-07,9,9")
    labels = write(tmp_path / "labels.csv", *LABELS, "dan,calm")
    problems, summary = check_data(path, labels, LAYOUT)
    found = ["is not a number", "is negative", "is labelled, but", "two records of user 'bob'"]
    assert len(problems) == len(found)
    assert all(any(words in problem for problem in problems) for words in found)
    assert summary["rows"] == 8 and summary["users_per_class"] == {"calm": 1, "risky": 1, "unlabelled": 0}


def test_check_finds_a_class_folder_without_users(tmp_path):
    write(tmp_path / "in/calm/1.csv", *GOOD)
    assert "no user is labelled 'risky'" in check_data(tmp_path / "in", None, LAYOUT)[0][0]


def test_check_has_nothing_to_say_of_good_data(tmp_path):
    problems, summary = check_data(write(tmp_path / "in.csv", *GOOD), write(tmp_path / "labels.csv", *LABELS), LAYOUT)
    assert not problems
    assert summary["users"] == 2 and summary["days"] == "2026-01-05 to 2026-01-07"


def test_the_step_ends_with_code_2_and_no_traceback(tmp_path):
    path = write(tmp_path / "with space" / "in.csv", GOOD[0], "ann,2026-01-06,many,0")
    command = [sys.executable, "-m", "scarcegan.steps.features", "--telemetry", str(path)]
    command += ["--features-out", str(tmp_path / "out")]
    command += arguments("features", classes="calm,risky", counters="sessions", as_of_weeks=0)
    source = Path(__file__).resolve().parents[2] / "src"
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(source)})
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {path} row 2") and "Traceback" not in ended.stderr


def test_a_linked_folder_is_read_once_and_hidden_files_are_not(tmp_path):
    for name in ("real/day.csv", "real/_SUCCESS.csv", "real/.old/day.csv"):
        write(tmp_path / name, *GOOD)
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "given")
    assert files.find_data_files(tmp_path / "given") == [tmp_path / "given" / "linked" / "day.csv"]


def test_blank_and_repeated_names_of_a_csv_file_never_become_a_name_that_it_has():
    assert files.unique_names(["column 2", "", "a", "A"], ("a",)) == ["column 2", "column 2_", "a", "A (column 4)"]
    assert files.unique_names(["a", ""], ("column 2",)) == ["a", "column 2_"]


def test_all_missing_columns_are_named_at_once(tmp_path):
    path = write(tmp_path / "in.csv", "user_id,Date,session,wagers", "ann,2026-01-05,1,1")
    said = refusal(path, tmp_path / "out")
    assert f"{path}: no columns 'date', 'sessions' (found: user_id, Date, session, wagers). " in said
    assert "Did you mean 'Date', 'session'? Name them under data.time_column, data.counters in config.yaml." in said


def test_columns_that_differ_in_case_only_are_shown_by_their_own_names(tmp_path):
    path = write(tmp_path / "in.csv", "user_id,DATE,Date,sessions,wagers,", "ann,2026-01-05,1,1,1,1")
    assert "(found: user_id, DATE, Date (column 3), sessions, wagers, column 6)" in refusal(path, tmp_path / "out")
    table = pa.table({"user_id": ["a"], "DATE": ["2026-01-05"], "Date": ["x"], "sessions": [1], "wagers": [1]})
    pq.write_table(table, tmp_path / "in.parquet")
    said = refusal(tmp_path / "in.parquet", tmp_path / "out")
    assert "(found: user_id, DATE, Date (column 3), sessions, wagers). Did you mean 'DATE'?" in said
    ready = write(tmp_path / "ready.csv", "user_id,Text,TEXT", "u1,x,y")
    assert "no numeric column (found: user_id, Text, TEXT (column 3))" in refusal(
        ready, tmp_path / "out", kind="features"
    )


def test_the_keys_of_folders_are_among_what_is_found(tmp_path):
    write(tmp_path / "in/dt=2026-01-05/Region=eu/in.csv", "user_id,sessions,wagers", "ann,1,1")
    said = refusal(tmp_path / "in", tmp_path / "out")
    assert "no column 'date' (found: user_id, sessions, wagers; folders give: dt, Region). Did you mean 'dt'?" in said


@pytest.mark.parametrize("first", ["ann,2026-01-05,1,1", "ann;2026-01-05;1.5;x", "ann,05.01.2026,,"])
def test_a_file_without_a_header_is_told(tmp_path, first):
    said = refusal(write(tmp_path / "in.csv", first, first), tmp_path / "out")
    assert "Its first line looks like a record: give the file a first line with the names of its columns." in said
    named = write(tmp_path / "in.csv", "user_id,2025,2026", "ann,1,1")
    assert "looks like a record" not in refusal(named, tmp_path / "out")


def test_nobody_who_drops_bad_rows_is_told_to_drop_them(tmp_path, capsys):
    bad = (
        "cyd,2026-01-06,x,-1",
        ",2026-01-05,1,1",
        "dan,2026-01-06,1,1,risk",
        "bob,2026-01-07,9,9",
        "ann,2026-01-04,1,1,calm",
    )
    rows = [f"{HEADER},label", *(line if line.count(",") == 4 else f"{line}," for line in (*GOOD[1:], *bad))]
    path = write(tmp_path / "in.csv", *rows)
    labels = write(tmp_path / "labels.csv", *LABELS, "eve,calm")
    refused = check_data(path, labels, LAYOUT)[0]
    assert len(refused) == 6 and all("or set data.bad_rows to drop." in message for message in refused)
    problems, summary = check_data(path, labels, LAYOUT, drop=True)
    assert problems == [] and len(summary["notes"]) >= 6 and "data.bad_rows" not in str(summary)
    run_features(path, tmp_path / "out", labels, bad_rows="drop")
    said = capsys.readouterr().err + "".join(file.read_text() for file in (tmp_path / "out").glob("*.json"))
    assert said.count("'x' is not a number") == 3 and "data.bad_rows" not in said


def test_of_two_records_of_a_day_it_is_said_which_one_dropping_keeps(tmp_path):
    path = write(tmp_path / "in.csv", *GOOD, "bob,2026-01-07,5,5")
    for problems, summary in (check_data(path, None, LAYOUT), check_data(path, None, LAYOUT, drop=True)):
        said = " ".join([*problems, *summary.get("notes", [])])
        assert "row 6 and " in said and "dropping keeps the one with the largest 'sessions'" in said


def test_a_wide_table_is_checked_column_by_column_whatever_the_number_of_scans(tmp_path):
    names = [f"f{n}" for n in range(450)]
    rows = [["u1", *["1"] * 450], ["u2", *["1"] * 450], ["u3", *["1"] * 450]]
    rows[1][1], rows[1][450], rows[2][250] = "x", "inf", "1_0"
    path = write(tmp_path / "in.csv", ",".join(["user_id", *names]), *(",".join(row) for row in rows))
    problems, summary = check_data(path, None, LAYOUT, "features", names)
    assert [problem.split(". ")[0] for problem in problems] == [
        f"{path} row 3, column 'f0': 'x' is not a number",
        f"{path} row 4, column 'f249': '1_0' is not a number",
        f"{path} row 3, column 'f449': 'inf' is infinite or far too large",
    ]
    kept = run_features(path, tmp_path / "out", kind="features", columns=",".join(names), bad_rows="drop")
    assert kept.user_id.tolist() == ["u1"] and summary["rows"] == 3
