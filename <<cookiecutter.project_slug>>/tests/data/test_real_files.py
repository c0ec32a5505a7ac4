"""Files as other programs write them: no value changes without a word, and what is left out is counted."""

import datetime
import gzip
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scarcegan.data import files, telemetry
from scarcegan.data.categories import code
from scarcegan.data.class_sizes import Shares
from scarcegan.data.coverage import DaysNeeded
from scarcegan.data.rules import Layout
from scarcegan.data.wire import read_number
from scarcegan.errors import UserError
from scarcegan.profile.check import check_data
from telemetry_samples import GOOD, HEADER, LABELS, run_features, write

DAYS = [datetime.date(2026, 1, 5) + datetime.timedelta(n) for n in range(3)]


def layout(**changes: Any) -> Layout:
    """Three days from 2026-01-05 on, one counter."""
    return Layout(**{"classes": ("calm", "risky"), "counters": ("n",), "start": "2026-01-05", "days": 3} | changes)


def parquet(path: Path, **columns: Any) -> Path:
    """A Parquet file of these columns, with the days of DAYS and the user ann unless the columns say otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    length = len(next(values for values in columns.values() if values is not None))
    base = {"user_id": ["ann"] * length, "date": DAYS[:length]}
    pq.write_table(pa.table({name: values for name, values in (base | columns).items() if values is not None}), path)
    return path


def read_counts(path: Path, scratch: Path, **changes: Any) -> dict[tuple[str, str], float]:
    """(user, day) -> the value of the one counter, as the features step reads it."""
    known = layout(**changes)
    scratch.mkdir(exist_ok=True)
    with files.connect_duckdb(scratch, known.time_zone) as connection:
        found = telemetry.scan_telemetry(connection, telemetry.open_telemetry(path, known), known)
        assert [problem.message for problem in found.problems] == []
        ways = tuple(known.aggregate.values())
        values = {}
        for bucket in telemetry.write_buckets(connection, found, known, scratch, 100):
            users = telemetry.read_bucket(bucket, found.window.days, 1, ways)
            for who, day in np.argwhere(users.records > 0):
                values[users.user_id[who], str(found.window.first + datetime.timedelta(int(day)))] = float(
                    users.counts[who, day, 0]
                )
    return values


def refusal_of_features(path: Path, out: Path, **settings: Any) -> str:
    """What the features step says instead of working."""
    with pytest.raises(UserError) as refused:
        run_features(path, out, **settings)
    return str(refused.value)


TYPES = {
    "int8": pa.array([2, 0, 1], pa.int8()),
    "int64": pa.array([200, 70_000, 1], pa.int64()),
    "uint64": pa.array([2, 2**40, 1], pa.uint64()),
    "float32": pa.array([0.4, 15.5, 17], pa.float32()),
    "float64": pa.array([0.4, 15.5, 17.25]),
    "decimal": pa.array([Decimal("0.40"), Decimal("15.50"), Decimal("17")], pa.decimal128(9, 2)),
    "bool": pa.array([True, False, True]),
    "text": pa.array(["0.4", "15.5", "17"]),
    "dictionary": pa.array(["0.4", "15.5", "17"]).dictionary_encode(),
}


@pytest.mark.parametrize("second", TYPES)
@pytest.mark.parametrize("first", TYPES)
def test_each_file_is_read_by_its_own_types(tmp_path, first, second):
    for name, type_ in (("1", first), ("2", second)):
        parquet(tmp_path / f"in/{name}.parquet", user_id=[f"user {name}"] * 3, n=TYPES[type_])
    expected = {
        (f"user {name}", str(day)): float(np.float32(float(value)))
        for name, type_ in (("1", first), ("2", second))
        for day, value in zip(DAYS, TYPES[type_].to_pylist(), strict=True)
    }
    assert read_counts(tmp_path / "in", tmp_path / "scratch") == expected


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_folder_named_like_a_column_does_not_replace_the_files_own(tmp_path, suffix):
    place = tmp_path / f"in/date=2026-01-07/n=99/a.{suffix}"
    write(place, "user_id,date,n", "ann,2026-01-05,3") if suffix == "csv" else parquet(place, n=[3])
    assert read_counts(tmp_path / "in", tmp_path / "scratch") == {("ann", "2026-01-05"): 3}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("folder", ["date=2026-01-06", "year=2026/month=01/day=06", "date=2026-01-06%2012%3A00"])
def test_a_day_that_stands_only_in_the_folder_name_is_read(tmp_path, suffix, folder):
    place = tmp_path / "date=2020-01-01/in" / folder / f"a.{suffix}"
    write(place, "user_id,n", "ann,3") if suffix == "csv" else parquet(place, date=None, n=[3])
    assert read_counts(tmp_path / "date=2020-01-01/in", tmp_path / "scratch") == {("ann", "2026-01-06"): 3}


def test_a_label_that_stands_only_in_the_folder_name_is_read(tmp_path):
    for name in ("calm", "risky"):
        write(tmp_path / f"in/label={name}/a.csv", HEADER, f"{name} user,2026-01-05,1,1")
    found = run_features(tmp_path / "in", tmp_path / "out")
    assert dict(zip(found.user_id, found.label.tolist(), strict=True)) == {"calm user": 0, "risky user": 1}


def test_nan_behind_ordinary_statistics_is_refused(tmp_path):
    path = parquet(tmp_path / "a.parquet", n=pa.array([1.0, float("nan"), 2.0]))
    assert pq.read_metadata(path).row_group(0).column(2).statistics.has_min_max
    assert "row 2, column 'n': 'nan' is empty" in check_data(path, None, layout())[0][0]


@pytest.mark.parametrize("names", [("N", "n", "x", "x"), ("n", "N", "x", "x"), ("x", "X", "N", "n")])
def test_a_column_is_found_among_names_that_differ_in_case_only(tmp_path, names):
    values = [pa.array([5 if name == "n" else 999]) for name in names]
    keys = [pa.array(["ann"]), pa.array(DAYS[:1])]
    for part in ("1", "2"):
        (tmp_path / "in").mkdir(exist_ok=True)
        table = pa.Table.from_arrays([pa.array([f"ann {part}"]), keys[1], *values], names=["user_id", "date", *names])
        pq.write_table(table, tmp_path / f"in/{part}.parquet")
    assert set(read_counts(tmp_path / "in", tmp_path / "scratch").values()) == {5}


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    table = pa.Table.from_arrays(
        [pa.array(["ann"]), pa.array(DAYS[:1]), *[pa.array([1])] * 2], ["user_id", "date", "n", "n"]
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert "two columns are named 'n'" in check_data(tmp_path / "a.parquet", None, layout())[0][0]
    with_case = layout(counters=("n", "N"))
    assert "'n' and 'N' differ in case only" in check_data(tmp_path / "a.parquet", None, with_case)[0][0]


INSTANTS = {
    "text with an offset": (pa.array(["2026-01-05T23:30:00-05:00"]), {}),
    "text in UTC": (pa.array(["2026-01-06 04:30:00Z"]), {}),
    "Parquet with a zone": (
        pa.array([datetime.datetime(2026, 1, 6, 4, 30)], pa.timestamp("us", "America/New_York")),
        {},
    ),
    "nanoseconds with a zone": (pa.array([1_767_673_800_000_000_000], pa.timestamp("ns", "UTC")), {}),
    "seconds since 1970": (pa.array([1_767_673_800]), {"time_format": "epoch"}),
    "milliseconds since 1970, as text": (pa.array(["1767673800000"]), {"time_format": "epoch_ms"}),
    "a pattern with an offset": (pa.array(["05.01.2026 23:30 -0500"]), {"time_format": "%d.%m.%Y %H:%M %z"}),
}


@pytest.mark.parametrize("machine", ["UTC", "Pacific/Auckland"])
@pytest.mark.parametrize("case", INSTANTS)
def test_an_instant_belongs_to_the_day_of_the_time_zone(tmp_path, case, machine, monkeypatch):
    monkeypatch.setenv("TZ", machine)
    times, settings = INSTANTS[case]
    path = parquet(tmp_path / "a.parquet", date=times, n=[1])
    assert list(read_counts(path, tmp_path / "s", **settings)) == [("ann", "2026-01-06")]
    assert list(read_counts(path, tmp_path / "s", time_zone="America/New_York", **settings)) == [("ann", "2026-01-05")]


WRITTEN = {
    "a date": (pa.array([datetime.date(2026, 1, 5)]), ""),
    "a timestamp": (pa.array([datetime.datetime(2026, 1, 5, 23, 30)]), ""),
    "text": (pa.array(["2026-01-05 23:30:00"]), ""),
    "a number": (pa.array([20260105]), "%Y%m%d"),
    "a number that became a float": (pa.array([20260105.0]), "%Y%m%d"),
    "German": (pa.array(["05.01.2026"]), "%d.%m.%Y"),
}


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/New_York"])
@pytest.mark.parametrize("case", WRITTEN)
def test_a_time_without_an_offset_belongs_to_the_day_that_is_written(tmp_path, case, zone):
    times, time_format = WRITTEN[case]
    path = parquet(tmp_path / "a.parquet", date=times, n=[1])
    found = read_counts(path, tmp_path / "s", time_zone=zone, time_format=time_format)
    assert list(found) == [("ann", "2026-01-05")]


@pytest.mark.parametrize(
    ("text", "fits"), [("20260105", "%Y%m%d"), ("13.01.2026", "%d.%m.%Y"), ("1767673800", "epoch")]
)
def test_an_unreadable_time_names_the_setting_and_what_fits(tmp_path, text, fits):
    path = write(tmp_path / "a.csv", "user_id,date,n", f"ann,{text},1")
    said = check_data(path, None, layout())[0][0]
    assert "'date'" in said and "data.time_format" in said and f"This fits all of them: {fits}" in said


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([100_000.0]),
        pa.array([Decimal("100000.00")], pa.decimal128(9, 2)),
        pa.array(["\t100000 \u00a0"]),
        pa.array(["\u3000100000\u2009"]),
    ],
)
def test_whole_numbers_and_blanks_make_the_same_user(tmp_path, ids):
    path = parquet(tmp_path / "a.parquet", user_id=ids, n=[1])
    labels = write(tmp_path / "labels.csv", "user_id,label", "100000\t,risky", "bob,calm")
    parquet(tmp_path / "in/b.parquet", user_id=["bob"], n=[1])
    os.rename(path, tmp_path / "in/a.parquet")
    assert check_data(tmp_path / "in", labels, layout())[1]["users_per_class"] == {
        "calm": 1,
        "risky": 1,
        "unlabelled": 0,
    }


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([1.5]),
        pa.array([float(2**60)]),
        pa.array([2.0**25], pa.float32()),
        pa.array([Decimal(10) ** 40 + 1], pa.decimal256(60, 0)),
    ],
)
def test_a_user_that_is_no_exact_whole_number_is_refused(tmp_path, ids):
    path = parquet(tmp_path / "a.parquet", user_id=ids, n=[1])
    assert "column 'user_id'" in check_data(path, None, layout())[0][0]


@pytest.mark.parametrize(("one", "other"), [("007", "7"), ("100000.0", "100000"), ("0100", "100.0")])
def test_two_spellings_of_a_user_in_two_files_are_refused_with_both(tmp_path, one, other):
    first = write(tmp_path / "in/1.csv", "user_id,date,n", f"{one},2026-01-05,1")
    second = write(tmp_path / "in/2.csv", "user_id,date,n", f"{other},2026-01-06,1")
    said = check_data(tmp_path / "in", None, layout())[0][0]
    assert f"{first}: user '{one}'" in said and f"{second}: user '{other}'" in said
    labels = write(tmp_path / "labels.csv", "user_id,label", f"{other},risky")
    said = " ".join(check_data(first, labels, layout())[0])
    assert f"{first}: user '{one}'" in said and f"{labels}: user '{other}'" in said


def test_two_spellings_in_one_file_are_two_users(tmp_path):
    path = write(tmp_path / "1.csv", "user_id,date,n", "007,2026-01-05,1", "7,2026-01-05,2")
    assert check_data(path, None, layout())[0] == []
    assert read_counts(path, tmp_path / "s") == {("007", "2026-01-05"): 1, ("7", "2026-01-05"): 2}


def test_two_spellings_in_one_file_show_that_spellings_are_users_everywhere(tmp_path):
    write(tmp_path / "in/1.csv", "user_id,date,n", "007,2026-01-05,1", "7,2026-01-05,2", "012,2026-01-05,1")
    write(tmp_path / "in/2.csv", "user_id,date,n", "12,2026-01-05,1")
    assert check_data(tmp_path / "in", None, layout())[0] == []


def test_two_spellings_in_two_labels_files_are_refused(tmp_path):
    data = write(tmp_path / "a.csv", "user_id,date,n", "007,2026-01-05,1", "bob,2026-01-05,1")
    for name, row in (("1", "007,risky"), ("2", "7,calm")):
        write(tmp_path / f"labels/{name}.csv", "user_id,label", row)
    said = " ".join(check_data(data, tmp_path / "labels", layout())[0])
    assert "user '007'" in said and "user '7'" in said


def test_a_column_of_another_case_is_no_reason_to_take_the_day_from_folders_instead(tmp_path):
    write(tmp_path / "in/year=2026/month=01/day=05/a.csv", "user_id,Date,n", "ann,2020-03-03,1")
    assert "Did you mean 'Date'?" in check_data(tmp_path / "in", None, layout())[0][0]


def test_a_link_in_an_earlier_folder_does_not_hide_the_name_of_the_folder_it_leads_to(tmp_path):
    write(tmp_path / "in/z/date=2026-01-05/a.csv", "user_id,n", "ann,1")
    (tmp_path / "in/a").mkdir()
    (tmp_path / "in/a/latest").symlink_to(tmp_path / "in/z/date=2026-01-05")
    assert read_counts(tmp_path / "in", tmp_path / "s") == {("ann", "2026-01-05"): 1}


@pytest.mark.parametrize("where", [".", "../in", ".."])
def test_a_folder_gives_its_day_whatever_the_path_that_was_typed(tmp_path, monkeypatch, where):
    write(tmp_path / "in/date=2026-01-05/a.csv", "user_id,n", "ann,1")
    (tmp_path / "in/inside").mkdir()
    monkeypatch.chdir(tmp_path / "in" / ("inside" if where == ".." else ""))
    assert read_counts(Path(where), tmp_path / "s") == {("ann", "2026-01-05"): 1}


def test_a_link_beside_its_folder_does_not_hide_the_folders_name(tmp_path):
    write(tmp_path / "in/z/date=2026-01-05/a.csv", "user_id,n", "ann,1")
    (tmp_path / "in/z/a-link").symlink_to(tmp_path / "in/z/date=2026-01-05")
    assert read_counts(tmp_path / "in", tmp_path / "s") == {("ann", "2026-01-05"): 1}


def test_a_folder_that_cannot_be_opened_is_no_empty_folder(tmp_path, monkeypatch):
    write(tmp_path / "in/open/a.csv", "user_id,date,n", "ann,2026-01-05,1")
    (tmp_path / "in/shut").mkdir()
    real = os.scandir

    def refuse(place: Any) -> Any:
        if str(place).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        check_data(tmp_path / "in", None, layout())


def test_rows_of_a_ready_table_that_are_dropped_are_no_second_rows(tmp_path):
    rows = ["u1,2026-01-05,1", "u1,2026-01-05,oops", "u2,x,1", "u2,y,2", "u3,2026-01-05,3"]
    path = write(tmp_path / "a.csv", "user_id,date,a", *rows)
    ready = layout(counters=())
    assert check_data(path, None, ready, "features", ["a"], drop=True)[0] == []
    found = run_features(path, tmp_path / "out", kind="features", columns="a", bad_rows="drop")
    assert found.user_id.tolist() == ["u1", "u3"]
    without_row = json.loads((tmp_path / "out/coverage.json").read_text())["without_row"]
    assert sorted(without_row.values()) == [1, 2]


def test_a_category_that_is_a_number_here_and_text_there_is_refused(tmp_path):
    pq.write_table(pa.table({"user_id": ["u1"], "port": [6.0]}), tmp_path / "a.parquet")
    write(tmp_path / "b.csv", "user_id,port", "u2,6.0")
    ready = layout(counters=(), categories=("port",))
    assert "category 'port' is text such as '6.0', but a number" in check_data(tmp_path, None, ready, "features")[0][0]
    write(tmp_path / "b.csv", "user_id,port", "u2,6")
    assert check_data(tmp_path, None, ready, "features")[0] == []


def test_users_of_one_day_of_observation_can_all_be_split(tmp_path):
    rows = [f"u{n},2026-01-{day:02},1" for n in range(20) for day in (19, 20)]
    path = write(tmp_path / "a.csv", "user_id,date,n", *rows)
    labels = write(tmp_path / "l.csv", "user_id,label", *(f"u{n},{'calm' if n < 10 else 'risky'}" for n in range(20)))
    known = layout(start="", days=20)
    assert check_data(path, labels, known, needed=DaysNeeded(6, (2, 0)), shares=Shares(0.3, 0.2, 2))[0] == []


def test_a_check_that_must_stop_keeps_what_it_knew(tmp_path):
    write(tmp_path / "in/a.csv", "user_id,date,n", "ann,2026-01-05,1")
    write(tmp_path / "in/b.xlsx", "?")
    labels = write(tmp_path / "labels.csv", "user_id,kind", "ann,calm")
    problems, summary = check_data(tmp_path / "in", labels, layout())
    assert "no column 'label'" in problems[-1] and summary["rows"] == 1
    assert "b.xlsx" in summary["notes"][0]


def test_a_zipped_file_with_a_changed_byte_is_refused(tmp_path):
    whole = gzip.compress(b"user_id,date,n\nann,2026-01-05,0\n", compresslevel=0)
    (tmp_path / "a.csv.gz").write_bytes(whole.replace(b"-05,0", b"-05,9"))
    assert "CRC check failed" in check_data(tmp_path / "a.csv.gz", None, layout())[0][0]


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_last_line_that_is_too_long_is_refused_and_not_lost(tmp_path, zipped, end):
    text = f"user_id,date,n\nann,2026-01-05,1\n{'u' * 2_000_001},2026-01-05,1{end}".encode()
    path = tmp_path / ("a.csv.gz" if zipped else "a.csv")
    path.write_bytes(gzip.compress(text) if zipped else text)
    assert "its last line is longer than 2,000,000 bytes" in check_data(path, None, layout())[0][0]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("tail", [1_500_000, 2_000_000 - len(",2026-01-05,1")])
def test_a_line_counts_alone_wherever_a_block_of_the_file_ends(tmp_path, zipped, tail):
    head = b"user_id,date,n\nann,2026-01-05,1\n"
    head += b"u" * ((1 << 20) - len(head) - len(",2026-01-05,1\n")) + b",2026-01-05,1\n"  # fills a block of 1 MiB
    text = head + b"v" * tail + b",2026-01-05,1" + b"\n" * 20
    path = tmp_path / ("a.csv.gz" if zipped else "a.csv")
    path.write_bytes(gzip.compress(text, 1) if zipped else text)
    files.refuse_unfinished_text(path)
    path.write_bytes(gzip.compress(text.replace(b"v,", b"vv,"), 1) if zipped else text.replace(b"v,", b"vv,"))
    if tail > 1_600_000:
        with pytest.raises(UserError, match="last line is longer"):
            files.refuse_unfinished_text(path)


def test_a_column_may_be_called_as_the_column_of_files_was(tmp_path):
    path = parquet(tmp_path / "a.parquet", n=[1], **{"file of the record": ["x"]})
    assert read_counts(path, tmp_path / "s") == {("ann", "2026-01-05"): 1}


def test_advice_that_would_leave_no_row_is_not_given(tmp_path):
    path = write(tmp_path / "a.csv", "user_id;date;n", "ann;2026-01-05;1,5", "bob;2026-01-05;2,5")
    said = check_data(path, None, layout())[0][0]
    assert "Numbers are written as 1234.5. Every row has it" in said and "bad_rows" not in said


def test_one_bad_row_in_a_file_of_its_own_is_not_every_row(tmp_path):
    write(tmp_path / "in/good.csv", "user_id,date,n", *(f"u{i},2026-01-05,1" for i in range(50)))
    write(tmp_path / "in/bad.csv", "user_id;date;n", "ann;2026-01-05;1,5")
    (said,) = check_data(tmp_path / "in", None, layout())[0]
    assert said.endswith("Correct it, or set data.bad_rows to drop.")
    write(tmp_path / "in/good.csv", "user_id,date,n", "bob,2026-01-05,many")
    both = check_data(tmp_path / "in", None, layout())[0]
    assert len(both) == 2 and all("Every row has it" in said and "bad_rows" not in said for said in both)


def test_labels_that_all_are_unknown_are_not_to_be_dropped(tmp_path):
    data = write(tmp_path / "a.csv", "user_id,date,n,label", "ann,2026-01-05,1,clam", "ann,2026-01-06,1,")
    own = check_data(data, None, layout())[0][0]
    labels = write(tmp_path / "labels.csv", "user_id,label", "ann,clam", "bob,")
    beside = check_data(write(tmp_path / "b.csv", "user_id,date,n", "ann,2026-01-05,1"), labels, layout())[0][0]
    for said in (own, beside):
        assert "Every row with a 'label' has it" in said and "labels in config.yaml" in said and "bad_rows" not in said
    write(labels, "user_id,label", "ann,clam", "bob,calm")
    assert "set data.bad_rows to drop" in check_data(tmp_path / "b.csv", labels, layout())[0][0]


def test_labels_of_other_users_than_those_of_the_data_are_not_to_be_dropped(tmp_path):
    data = write(tmp_path / "a.csv", "user_id,date,n", "u1,2026-01-05,1", "u2,2026-01-05,1")
    labels = write(tmp_path / "labels.csv", "user_id,label", "ann,calm", "bob,risky")
    for drop in (False, True):
        (said,) = check_data(data, labels, layout(), drop=drop)[0]
        assert "where a user is called 'u1'. Export both with the same ids." in said and "bad_rows" not in said


def test_minus_infinity_is_infinite_and_not_also_negative(tmp_path):
    path = write(tmp_path / "a.csv", "user_id,date,n", "ann,2026-01-05,-inf", "ann,2026-01-06,1")
    assert [" is infinite" in problem for problem in check_data(path, None, layout())[0]] == [True]


def test_a_table_without_a_time_column_is_told_of_the_other_kind(tmp_path):
    path = write(tmp_path / "a.csv", "user_id,n", "ann,1")
    assert "set data.kind to features" in check_data(path, None, layout())[0][0]


def test_times_that_cannot_be_read_make_no_days(tmp_path):
    path = write(tmp_path / "a.csv", "user_id,date,n", "ann,31.01.2026,1")
    problems, summary = check_data(path, None, layout(start=""), needed=DaysNeeded(1, (0,)))
    assert len(problems) == 1 and summary["days"] == "none could be read" and "notes" not in summary


def test_records_that_end_before_the_days_that_are_read_are_told(tmp_path):
    rows = [f"u{n},2026-01-0{day},1" for n in range(9) for day in (5, 6)]
    summary = check_data(write(tmp_path / "a.csv", "user_id,date,n", *rows), None, layout())[1]
    assert "records end on 2026-01-06, but the days that are read end on 2026-01-07" in summary["notes"][0]
    assert summary["missing_days"].startswith("0%")


def test_files_that_are_not_read_are_counted_with_the_reason(tmp_path):
    for name in ("calm", "risky"):
        write(tmp_path / f"in/{name}/a.csv", HEADER, f"{name} user,2026-01-05,1,1")
    write(tmp_path / "in/extra.csv", *GOOD)
    write(tmp_path / "in/calm/b.xlsx", "?")
    (tmp_path / "in/risky/gone.csv").symlink_to(tmp_path / "nowhere.csv")
    notes = " ".join(check_data(tmp_path / "in", None, layout(counters=("sessions",)))[1]["notes"])
    assert "1 file is not read, beside the class folders: " in notes and "extra.csv" in notes
    assert "no Parquet or CSV by their ending" in notes and "b.xlsx" in notes
    assert "links to nothing" in notes and "gone.csv" in notes


def test_labels_that_are_said_to_be_in_the_data_must_be_there(tmp_path):
    path = write(tmp_path / "in/a.csv", f"{HEADER},Label", "ann,2026-01-05,1,1,calm")
    said = check_data(tmp_path / "in", None, layout(counters=("sessions",), labels_in="inside"))[0][0]
    assert "no column 'label'" in said and "Did you mean 'Label'?" in said and str(path) in said
    said = check_data(tmp_path / "in", None, layout(counters=("sessions",), labels_in="folders"))[0][0]
    assert "no folder of it is named after a class (calm, risky)" in said


def test_files_without_the_label_column_of_others_are_counted(tmp_path):
    write(tmp_path / "in/a.csv", "user_id,date,n,label", "ann,2026-01-05,1,calm", "bob,2026-01-05,1,risky")
    write(tmp_path / "in/b.csv", "user_id,date,n", "cyd,2026-01-05,1")
    assert "the column 'label', which others have: 1." in check_data(tmp_path / "in", None, layout())[1]["notes"][0]


@pytest.mark.parametrize("text", ["1_000", "0x1F", "1,5", "٣", "５", "1e", "--1", "true", "1d"])
def test_what_is_no_number_in_a_file_is_none_in_a_request(tmp_path, text):
    path = write(tmp_path / "a.csv", "user_id;date;n", f"ann;2026-01-05;{text}")
    assert "is not a number" in check_data(path, None, layout())[0][0]
    assert read_number(text) == text


@pytest.mark.parametrize("text", ["1", "+1.0", "1.", ".5", "1e5", "1E+05", " 7 ", "5\u00a0"])
def test_what_is_a_number_in_a_file_is_the_same_in_a_request(tmp_path, text):
    path = write(tmp_path / "a.csv", "user_id;date;n", f"ann;2026-01-05;{text}")
    assert read_counts(path, tmp_path / "s") == {("ann", "2026-01-05"): read_number(text)}


def test_a_column_of_lists_or_times_of_day_is_refused(tmp_path):
    for number, values in enumerate((pa.array([[1]]), pa.array([3], pa.time64("us")), pa.array([3], pa.duration("s")))):
        path = parquet(tmp_path / f"{number}.parquet", n=values)
        assert "column 'n' holds " in check_data(path, None, layout())[0][0]


def test_text_that_is_stored_as_bytes_is_text(tmp_path):
    path = parquet(tmp_path / "a.parquet", user_id=pa.array(["zoë".encode()]), n=[1])
    assert read_counts(path, tmp_path / "s") == {("zoë", "2026-01-05"): 1}


def test_a_file_name_that_is_not_utf8_is_refused(tmp_path):
    bad = os.path.join(os.fsencode(tmp_path), b"\xff.csv")
    with open(bad, "w") as file:
        file.write("user_id,date,n\nann,2026-01-05,1\n")
    assert "the file's name is not UTF-8" in check_data(tmp_path, None, layout())[0][0]


def test_a_zipped_file_is_read_whatever_its_folder_is_called(tmp_path):
    write(tmp_path / "in/new?/plain.csv", "user_id,date,n", "ann,2026-01-05,1")
    (tmp_path / "in/new?/zipped.CSV.GZ").write_bytes(gzip.compress(b"user_id,date,n\nbob,2026-01-05,1\n"))
    problems, summary = check_data(tmp_path / "in", None, layout())
    assert not problems and summary["rows"] == 2


def test_a_damaged_gzip_is_named(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 40)
    assert str(tmp_path / "a.csv.gz") in check_data(tmp_path / "a.csv.gz", None, layout())[0][0]


def test_the_records_of_a_day_become_one_value_when_asked(tmp_path):
    rows = ["ann,2026-01-05T08:00,1.5", "ann,2026-01-05T23:59,2", "ann,2026-01-06T00:00,4", "bob,2026-01-05T00:00,0.25"]
    path = write(tmp_path / "a.csv", "user_id,date,n", *rows)
    assert "data.aggregate" in check_data(path, None, layout())[0][0]
    expected = {"sum": 3.5, "mean": 1.75, "max": 2.0, "count": 2.0}
    for how, value in expected.items():
        found = read_counts(path, tmp_path / "s", aggregate={"n": how})
        assert found[("ann", "2026-01-05")] == value
        assert found[("ann", "2026-01-06")] == (1 if how == "count" else 4)
    without = write(tmp_path / "b.csv", "user_id,date", "ann,2026-01-05", "ann,2026-01-05")
    assert read_counts(without, tmp_path / "s", aggregate={"n": "count"}) == {("ann", "2026-01-05"): 2}


def test_a_declared_counter_may_be_negative(tmp_path):
    path = write(tmp_path / "a.csv", "user_id,date,n", "ann,2026-01-05,-3.5")
    assert "data.signed_counters" in check_data(path, None, layout())[0][0]
    assert read_counts(path, tmp_path / "s", signed=("n",)) == {("ann", "2026-01-05"): -3.5}


LATER = "To read them, set data.start later, or leave it empty."


def test_records_of_other_days_are_left_out_and_counted(tmp_path):
    path = write(tmp_path / "a.csv", "user_id,date,n", *(f"ann,2026-01-0{day},1" for day in range(1, 10)))
    problems, summary = check_data(path, None, layout())
    assert problems == [] and summary["days"] == "2026-01-05 to 2026-01-07"
    assert any(
        note.startswith("records before the days") and note.endswith("left out: 4.") for note in summary["notes"]
    )
    after = next(note for note in summary["notes"] if note.startswith("records after the days"))
    assert after.endswith(f"left out: 2, the last on 2026-01-09: {path} row 10. {LATER}")
    assert len(read_counts(path, tmp_path / "s")) == 3
    with pytest.raises(UserError, match=r"no record in the days .*2026-01-01 to 2026-01-09"):
        run_features(path, tmp_path / "out", counters="n", start="2027-01-01")


def test_users_that_are_left_out_are_counted_with_the_reason(tmp_path, capsys):
    rows = ["ann,2026-01-07,1,1", "bob,2026-01-05,1,1", "cyd,2025-12-01,1,1", "dan,2026-01-06,x,1"]
    path = write(tmp_path / "a.csv", HEADER, *rows)
    found = run_features(path, tmp_path / "out", window_days=1, windows=1, bad_rows="drop")
    assert found.user_id.tolist() == ["ann"]
    said = json.loads((tmp_path / "out/coverage.json").read_text())
    assert said["users"] == 4
    assert said["without_row"] == {
        "no good record in the days that are read (2026-01-05 to 2026-01-07)": 2,
        "no record in the 1 days up to 2026-01-07": 1,
    }
    assert "note: users left out, as they have no feature row: 2, no good record" in capsys.readouterr().err
    assert [note.partition(":")[0] for note in said["notes"]][:1] == ["left out"], "the dropped row too"


def test_what_is_dropped_is_a_note_of_the_check_and_no_problem(tmp_path):
    path = write(tmp_path / "a.csv", *GOOD, "ann,2026-01-05,1,1")
    known = layout(counters=("sessions", "wagers"))
    assert len(check_data(path, None, known)[0]) == 1
    problems, summary = check_data(path, None, known, drop=True)
    assert problems == [] and summary["notes"][0].startswith("left out: ")


def test_check_says_what_a_missing_day_looks_like(tmp_path):
    def note(*rows: str) -> str:
        path = write(tmp_path / "a.csv", "user_id,date,n", *rows)
        return " ".join(check_data(path, None, layout())[1]["notes"])

    assert "Set data.missing_days to zero if that is so" in note("ann,2026-01-05,1", "bob,2026-01-07,1")
    said = note("ann,2026-01-05,1", "ann,2026-01-06,0", "bob,2026-01-05,1")
    assert "1 of the 3 days with one hold only zeros, so a missing day is more than" in said


def test_a_few_free_orders_do_not_make_a_missing_day_unknown(tmp_path):
    for free, reading in ((1, "looks like"), (2, "is more than")):
        orders = [f"u{n},2026-01-05,{0 if n < free else 9}" for n in range(100)]  # 200 days have none
        orders.append("last,2026-01-07,9")
        path = write(tmp_path / "a.csv", "user_id,date,n", *orders)
        assert f"{free} of the 101 days with one hold only zeros, so a missing day {reading}" in str(
            check_data(path, None, layout())[1]["notes"]
        )


def test_a_wrong_date_that_moves_the_days_that_are_read_is_refused_with_its_place(tmp_path):
    rows = [f"u{n},2026-01-{day:02},1" for n in range(9) for day in range(1, 16)]
    for wrong, days in (("2099-01-01", 60), ("2026-02-20", 60), ("2026-01-28", 14)):
        path = write(tmp_path / "a.csv", "user_id,date,n", *rows[:4], f"u0,{wrong},1", *rows[4:])
        said = check_data(path, None, layout(start="", days=days))[0][0]
        assert said.startswith(f"{path} row 6, column 'date': {wrong} is ") and "days after 2026-01-15" in said
        assert "1 of the 136 records is so late" in said
        problems, summary = check_data(path, None, layout(start="", days=days), drop=True)
        assert problems == [] and summary["days"].endswith("2026-01-15"), "the advice works"
        assert f"left out: {path} row 6, column 'date': {wrong} is " in " ".join(summary["notes"])
    refused = refusal_of_features(path, tmp_path / "out", counters="n", start="", days=14, window_days=14)
    assert f"{path} row 6" in refused
    kept = run_features(path, tmp_path / "out", counters="n", start="", days=14, window_days=14, bad_rows="drop")
    assert {str(day) for day in kept.as_of} == {"2026-01-15"}


def test_a_record_that_is_dropped_does_not_move_the_days_that_are_read(tmp_path):
    rows = [f"u{n},2026-01-{day:02},1" for n in range(9) for day in range(1, 16)]
    for bad in ("u0,2026-01-18,-1", ",2026-01-18,1"):
        path = write(tmp_path / "a.csv", "user_id,date,n", *rows, bad)
        assert check_data(path, None, layout(start="", days=10), drop=True)[1]["days"].endswith("2026-01-15")


def test_a_column_of_a_ready_table_that_is_blank_in_one_file_is_a_column_of_numbers(tmp_path):
    for name, values in (("a", pa.nulls(2)), ("b", pa.array([1.5, 2.5]))):
        users = [f"{name}0", f"{name}1"]
        pq.write_table(pa.table({"user_id": users, "score": values, "n": [1, 2]}), tmp_path / f"{name}.parquet")
    ready = layout(time="", counters=(), start="")
    assert check_data(tmp_path, None, ready, "features")[1]["features"] == 2


def test_a_column_named_like_one_of_a_feature_table_is_told_when_nothing_reads_it(tmp_path):
    path = write(tmp_path / "a.csv", "user_id,as_of,n,label", "ann,2026-01-05,1,risky", "bob,2026-01-05,1,calm")
    ready = layout(time="", label="class", counters=(), start="")
    left_out = check_data(path, None, ready, "features")[1]["columns_left_out"]
    assert left_out.startswith("as_of, label (") and "a label under data.label_column" in left_out


def test_a_time_column_that_a_ready_table_lacks_is_told_when_another_has_nearly_its_name(tmp_path):
    path = write(tmp_path / "a.csv", "user_id,snapshot_date,n", "ann,2026-01-05,1", "bob,2026-01-05,1")
    for named, noted in (("snapshot_dat", True), ("snapshot_date", False), ("", False), ("quarter", False)):
        ready = layout(time=named, counters=(), start="")
        notes = check_data(path, None, ready, "features")[1].get("notes")
        assert ("If 'snapshot_date' is theirs, set data.time_column to it." in str(notes)) == noted


@pytest.mark.parametrize("target", ["a.csv", "b.csv"])
def test_a_file_that_is_there_under_two_names_is_read_once_and_the_link_is_told(tmp_path, target):
    write(tmp_path / "in/a.csv", "user_id,date,n", "ann,2026-01-05,1")
    write(tmp_path / "in/b.csv", "user_id,date,n", "bob,2026-01-05,2")
    (tmp_path / "in/0-latest.csv").symlink_to(tmp_path / "in" / target)
    found = read_counts(tmp_path / "in", tmp_path / "s", aggregate={"n": "sum"})
    assert found == {("ann", "2026-01-05"): 1.0, ("bob", "2026-01-05"): 2.0}
    notes = check_data(tmp_path / "in", None, layout(aggregate={"n": "sum"}))[1]["notes"]
    assert f"1 file is not read, links to a file that is read itself: {tmp_path}/in/0-latest.csv." in notes


LABELLED_TWICE = "user 'ann' is labelled 'calm' and 'risky'"


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ("ann,2025-11-01,1,risky", {"ann": 1, "bob": 0}),
        ("ann,2026-01-06,-1,risky", {"ann": 1, "bob": 0}),
        ("cyd,2025-11-01,1,risky", {"ann": -1, "bob": 0}),
    ],
)
def test_a_label_counts_also_on_a_record_that_is_left_out(tmp_path, old, expected):
    rows = ["ann,2026-01-07,1,", "bob,2026-01-07,1,calm"]
    path = write(tmp_path / "a.csv", "user_id,date,n,label", old, *rows)
    settings = {"counters": "n", "start": "", "days": 14, "bad_rows": "drop"}
    kept = run_features(path, tmp_path / "out", **settings)
    assert dict(zip(kept.user_id.tolist(), kept.label.tolist(), strict=True)) == expected


def test_two_labels_of_a_user_are_refused_also_when_one_is_on_a_record_before_the_days_that_are_read(tmp_path):
    rows = ["ann,2025-11-01,1,risky", "ann,2026-01-07,1,calm", "bob,2026-01-07,1,risky"]
    path = write(tmp_path / "a.csv", "user_id,date,n,label", *rows)
    assert LABELLED_TWICE in " ".join(check_data(path, None, layout(start="", days=14))[0])


def test_records_after_a_pause_of_everybody_are_no_wrong_date(tmp_path):
    rows = [f"u{n},2026-01-{day:02},1" for n in range(9) for day in (*range(1, 16), 28)]
    path = write(tmp_path / "a.csv", "user_id,date,n", *rows)
    assert check_data(path, None, layout(start="", days=60))[0] == []
    path = write(tmp_path / "a.csv", "user_id,date,n", "u0,2026-01-01,1", "u1,2026-01-01,1", "u0,2026-03-01,1")
    assert check_data(path, None, layout(start="", days=3))[0] == []


def test_check_warns_of_a_window_that_is_mostly_empty(tmp_path):
    rows = [f"u{n},2026-01-{day:02},1" for n in range(5) for day in (1, 8, 15)]
    path = write(tmp_path / "a.csv", "user_id,date,n", *rows)
    notes = check_data(path, None, layout(start="", days=15))[1]["notes"]
    assert any("only 3 of the 15 days" in note and "as if a record stood for a week" in note for note in notes)


def test_check_says_when_there_is_less_history_than_rows_look_back(tmp_path):
    rows = [f"u{n},2026-01-{day:02},1" for n in range(5) for day in range(11, 20)]
    path = write(tmp_path / "a.csv", "user_id,date,n", *rows)
    known = layout(start="", days=12)
    notes = check_data(path, None, known, needed=DaysNeeded(12, (0,)))[1]["notes"]
    assert any("begin on 2026-01-11, but feature rows look back to 2026-01-08" in note for note in notes)
    assert "notes" not in check_data(path, None, known, needed=DaysNeeded(9, (0,)))[1]


def test_check_refuses_data_of_which_no_user_has_a_row(tmp_path):
    path = write(tmp_path / "a.csv", "user_id,date,n", "u,2026-01-05,1")
    said = check_data(path, None, layout(), needed=DaysNeeded(1, (0,)))[0]
    assert "no user has a feature row: no record in the 1 days up to 2026-01-07" in said[0]


def test_check_refuses_the_classes_that_training_would_refuse(tmp_path):
    rows = [f"u{n},2026-01-{5 + n % 3:02},1" for n in range(20)]
    path = write(tmp_path / "a.csv", "user_id,date,n", *rows)
    labels = write(
        tmp_path / "labels.csv", "user_id,label", *(f"u{n},{'calm' if n < 12 else 'risky'}" for n in range(20))
    )
    needed, shares = DaysNeeded(1, (0,)), Shares(0.3, 0.2, 2)
    said = check_data(path, labels, layout(), needed=needed, shares=shares)[0]
    assert len(said) == 1 and "class 'risky' has 2 labelled users with a row to train on" in said[0]
    assert "lower split.folds" not in said[0]
    assert check_data(path, labels, layout(), needed=DaysNeeded(3, (0,)), shares=shares)[0] == []


def test_labels_of_parquet_and_csv_are_read_alike(tmp_path):
    data = write(tmp_path / "a.csv", "user_id,date,n", "ann,2026-01-05,1", "bob,2026-01-05,1")
    pq.write_table(pa.table({"user_id": ["ann\t", "bob"], "label": ["calm ", "risky"]}), tmp_path / "l.parquet")
    for labels in (tmp_path / "l.parquet", write(tmp_path / "l.csv", *LABELS)):
        assert check_data(data, labels, layout())[1]["users_per_class"] == {"calm": 1, "risky": 1, "unlabelled": 0}


@pytest.mark.parametrize("folders", ["date=2026-01-05/date=2026-01-06", "year=2026/month=01/day=05/day=06"])
def test_a_day_that_two_folders_of_one_path_give_is_refused(tmp_path, folders):
    path = write(tmp_path / "in" / folders / "a.csv", "user_id,n", "ann,1")
    key = folders.rpartition("/")[2].partition("=")[0]
    said = check_data(tmp_path / "in", None, layout())[0][0]
    assert said.startswith(f"{path}: two of its folders are named '{key}=…', and the column 'date' is taken from them.")
    write(path, "user_id,date,n", "ann,2026-01-05,1")
    assert check_data(tmp_path / "in", None, layout())[0] == []


ZONED = {
    "text with an offset": (pa.array(["2026-01-05T23:30:00-05:00"]), ""),
    "text with the name of a zone": (pa.array(["2026-01-05 23:30:00 America/New_York"]), ""),
    "text with the name of an offset": (pa.array(["2026-01-05 23:30:00 EST"]), ""),
    "text in UTC": (pa.array(["2026-01-05 04:30:00Z"]), ""),
    "Parquet with a zone": (pa.array([datetime.datetime(2026, 1, 6, 4)], pa.timestamp("us", "America/New_York")), ""),
    "seconds since 1970": (pa.array([1_767_673_800]), "epoch"),
    "a pattern with an offset": (pa.array(["05.01.2026 23:30 -0500"]), "%d.%m.%Y %H:%M %z"),
}
UNZONED = {
    "a date": (pa.array([datetime.date(2026, 1, 5)]), ""),
    "a time without an offset": (pa.array(["2026-01-05T23:30:00"]), ""),
    "midnight in UTC": (pa.array(["2026-01-05T00:00:00Z", "2026-01-06T00:00:00+00:00"]), ""),
    "a pattern": (pa.array(["05.01.2026 23:30"]), "%d.%m.%Y %H:%M"),
}


@pytest.mark.parametrize("case", ZONED | UNZONED)
def test_check_says_when_days_depend_on_a_time_zone_that_nobody_chose(tmp_path, case):
    times, time_format = (ZONED | UNZONED)[case]
    path = parquet(tmp_path / "a.parquet", date=times, n=[1] * len(times))
    notes = str(check_data(path, None, layout(time_format=time_format))[1].get("notes"))
    assert (f"{path}: times in 'date' are instants, and data.time_zone is UTC, so a day begins" in notes) == (
        case in ZONED
    )
    chosen = layout(time_format=time_format, time_zone="Europe/Berlin")
    assert "instants" not in str(check_data(path, None, chosen)[1].get("notes"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", gzip.compress(b"user_id,date,n\n", mtime=0), "it is a gzip file. Name it a.csv.gz."),
        ("a.csv.gz", b"user_id,date,n\nann,2026-01-05,1\n", "it is no gzip file. Name it a.csv."),
        ("a.csv", b"PAR1\x15\x04", "it is a Parquet file. Name it a.parquet."),
        ("a.csv", b"PK\x03\x04\x14\x00", "it is an Excel workbook or a zip archive. Export it as UTF-8 CSV."),
    ],
)
def test_a_file_whose_name_ends_in_the_wrong_way_is_told_its_right_name(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert check_data(tmp_path / name, None, layout())[0] == [f"{tmp_path / name}: {words}"]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ('"bob,2026-01-05,1', "a quotation mark opens here and is not closed"),
        ('bob,2026-01-05,"1', "a quotation mark opens here and is not closed"),
        ('bob,2026-01-05,"1" "', "text follows a closing quotation mark"),
        ("b" * 40_000_000 + ",2026-01-05,1", "the line is longer than 2,000,000 bytes"),
        ("bob,2026-01-05,1" + "," * 40_000_000, "the line is longer than 2,000,000 bytes"),
    ],
    ids=["quote", "last quote", "text after", "long field", "long line"],
)
def test_the_row_of_a_csv_file_that_cannot_be_read_is_named(tmp_path, odd, words, zipped):
    rows = ["ann,2026-01-05,1"] * 20_000
    text = "\n".join(["user_id,date,n", *rows, odd, *rows, ""]).encode()
    path = tmp_path / ("a.csv.gz" if zipped else "a.csv")
    path.write_bytes(gzip.compress(text, 1) if zipped else text)
    said = check_data(path, None, layout())[0][0]
    assert said == f"{path} row 20002: {words}. Repair the file, or export it again."


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_user_with_a_nul_is_refused(tmp_path, suffix):
    if suffix == "csv":
        path = write(tmp_path / "a.csv", "user_id,date,n", "ann,2026-01-05,1", "a\0nn,2026-01-05,1")
    else:
        path = parquet(tmp_path / "a.parquet", user_id=["ann", "a\0nn"], n=[1, 1])
    said = check_data(path, None, layout())[0][0]
    assert "column 'user_id'" in said and "holds a NUL character" in said and "\0" not in said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1e16, -0.0, 2.0**60]), pa.array([10**16, 0, 2**60])),
        (pa.array([True, False, None]), pa.array(["True", "FALSE", ""])),
        (pa.array([True, False, None]), pa.array(["true", "false ", " "])),
        (pa.array([6.0, 7.0, float("nan")]), pa.array(["6", "7", None])),
    ],
)
def test_a_category_has_one_code_whatever_the_type_of_its_column(tmp_path, one, other):
    found = []
    for name, values in (("a", one), ("b", other)):
        pq.write_table(pa.table({"user_id": ["x", "y", "z"], "c": values}), tmp_path / f"{name}.parquet")
        found.append(
            run_features(tmp_path / f"{name}.parquet", tmp_path / name, kind="features", categories="c", columns="")
        )
    np.testing.assert_array_equal(found[0].values, found[1].values)
    assert found[0].categories == found[1].categories


def test_true_and_false_of_a_request_are_those_of_a_file():
    assert code("True") == code("TRUE ") == code("true") != code("false")
