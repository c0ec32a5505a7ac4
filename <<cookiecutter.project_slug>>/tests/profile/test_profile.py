"""The data profile: right counts of good and of bad data, and a page for both."""

import datetime
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scarcegan.data.rules import Layout
from scarcegan.errors import UserError
from scarcegan.profile.columns import ABSENT
from scarcegan.profile.profile import Profile, make_profile
from scarcegan.profile.records import DataSource
from scarcegan.report.profile import write_profile_page
from scarcegan.sql import EXPRESSIONS_PER_SCAN
from telemetry_samples import GOOD, HEADER, LABELS, write

CLASSES = ("calm", "risky")


def profile(path: Path, against: Path | None = None, labels: Path | None = None, **changes: Any) -> Profile:
    """The profile of telemetry with the counters sessions and wagers, unless `changes` of the layout say otherwise."""
    telemetry, columns = changes.pop("telemetry", True), changes.pop("columns", ())
    layout = Layout(**{"classes": CLASSES, "counters": ("sessions", "wagers")} | changes)
    return make_profile(DataSource(path, labels, layout, telemetry, columns), against)


def column(found: Profile, name: str) -> dict[str, Any]:
    """The figures of one column."""
    return next(one for one in found.as_json()["columns"] if one["name"] == name)


def page_of(found: Profile, folder: Path) -> str:
    """The HTML of the page."""
    return write_profile_page(folder / "page.html", found, "", 0.1).read_text("utf-8")


def months(path: Path, users: int = 200, since: int = 55, **shift: float) -> Path:
    """Telemetry of users from 2026-01-05 to 2026-03-05; from day `since` (1 March) on, counters are multiplied."""
    rng = np.random.default_rng(1)
    days = [datetime.date(2026, 1, 5) + datetime.timedelta(n) for n in range(60)]
    table: dict[str, Any] = {"user_id": np.repeat([f"u{i:03}" for i in range(users)], 60), "date": days * users}
    late = np.tile(np.arange(60) >= since, users)
    for name in ("sessions", "wagers"):
        table[name] = rng.poisson(10, users * 60) * np.where(late, shift.get(name, 1), 1.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture
def good(tmp_path):
    """Two users, three days, two counters."""
    return write(tmp_path / "in/a.csv", *GOOD)


def test_records_users_days_and_labels_are_counted(tmp_path, good):
    found = profile(good, labels=write(tmp_path / "labels.csv", *LABELS[:2], "bob,risky"))
    facts = found.as_json()
    assert (facts["records"], facts["users"]) == (5, 2)
    assert (facts["first_day"], facts["last_day"]) == ("2026-01-05", "2026-01-07")
    assert facts["labels"] == {"calm": 1, "risky": 1, "unlabelled": 0}
    assert found.days.records.tolist() == [2, 1, 2]
    assert found.days.first_seen.tolist() == [2, 0, 0]
    assert found.population.days_per_user == {2: 1, 3: 1}
    assert found.population.class_days[1][1].tolist() == [1, 1]
    assert found.population.class_means[0] == {"sessions": 1, "wagers": pytest.approx(13.5)}


def test_a_column_has_its_zeros_its_mean_and_its_limits(good):
    facts = column(profile(good), "wagers")
    assert (facts["role"], facts["values"], facts["missing"], facts["zero"]) == ("counter", 5, 0, 1)
    assert (facts["mean"], facts["minimum"], facts["maximum"]) == (pytest.approx(8.7), 0, 30.5)


def test_an_outlier_is_named_with_user_day_and_distance(tmp_path):
    rows = [f"u{i},2026-01-{day:02},{5 + (i + day) % 3},{10 + i}" for i in range(9) for day in range(5, 15)]
    rows[40] = "u4,2026-01-05,6000,14"
    (outlier,) = profile(write(tmp_path / "a.csv", HEADER, *rows)).as_json()["outliers"]
    assert (outlier["column"], outlier["user"], outlier["day"], outlier["value"]) == (
        "sessions",
        "u4",
        "2026-01-05",
        6000,
    )
    assert outlier["times"] == 1000


def test_types_headers_and_missing_values_are_told_by_file(tmp_path):
    write(tmp_path / "in/a.csv", *GOOD)
    days = [datetime.date(2026, 1, 5), datetime.date(2026, 1, 6)]
    for name, sessions in (("b", pa.array([1, 2], pa.int8())), ("c", pa.array([float("nan"), None]))):
        pq.write_table(
            pa.table({"user_id": ["eve"] * 2, "date": days, "sessions": sessions}), tmp_path / f"in/{name}.parquet"
        )
    found = profile(tmp_path / "in")
    assert column(found, "sessions")["types"] == {"CSV text": 1, "int8": 1, "double": 1}
    assert column(found, "wagers")["types"] == {ABSENT: 2, "CSV text": 1}
    assert column(found, "wagers")["values"] == 5
    (emptier,) = found.emptier
    assert (emptier.file, emptier.column, emptier.missing) == (str(tmp_path / "in/c.parquet"), "sessions", 1)
    assert "wagers: 2 of 3 files have no such column." in page_of(found, tmp_path)


def test_bad_values_are_counted_and_the_page_is_made(tmp_path):
    rows = ("ann,2026-01-05,190.5x,1", "ann,yesterday,-3,inf", ",2026-01-07,,7", "ann,2062-01-01,1,1")
    found = profile(write(tmp_path / "a.csv", HEADER, *rows, *GOOD[1:]))
    sessions, wagers = (column(found, name) for name in ("sessions", "wagers"))
    assert (sessions["text"], sessions["missing"], sessions["negative"], wagers["infinite"]) == (1, 1, 1, 1)
    assert (found.days.undated, found.population.nameless) == (1, 1)
    assert len(found.problems) >= 5
    page = page_of(found, tmp_path)
    assert all(problem[:40] in page for problem in ("yesterday", "is negative", "is not a number"))


def test_a_damaged_file_is_left_out_and_named(tmp_path):
    whole = months(tmp_path / "in/a.parquet", users=3).read_bytes()
    (tmp_path / "in/b.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in/c.parquet").write_bytes(whole[:50] + b"\0" * 800 + whole[850:])
    found = profile(tmp_path / "in")
    assert found.population.records == 180
    assert [any(name in problem for problem in found.problems) for name in ("b.parquet", "c.parquet")] == [True, True]
    assert sum(group.files for group in found.groups) == 1


@pytest.mark.parametrize("content", ["", HEADER + "\n"])
def test_data_of_which_nothing_can_be_read_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError, match=r"a\.csv"):
        profile(tmp_path / "a.csv")


def test_events_are_described_as_one_value_a_day(tmp_path):
    rows = ("ann,2026-01-05,1,10", "ann,2026-01-05,1,20", "ann,2026-01-06,1,5")
    found = profile(write(tmp_path / "a.csv", HEADER, *rows), aggregate={"sessions": "count", "wagers": "sum"})
    assert found.population.records == 3
    assert (column(found, "wagers")["maximum"], column(found, "sessions")["maximum"]) == (30, 2)


def test_a_month_that_differs_from_the_one_before_is_found(tmp_path):
    found = profile(months(tmp_path / "a.parquet", wagers=2))
    assert [part.name for part in found.months] == ["2026-01", "2026-02", "2026-03"]
    quiet, moved = (
        dict(zip(found.buckets.names, before.distance(after), strict=True))
        for before, after in zip(found.months, found.months[1:], strict=False)
    )
    assert max(one.robust for one in quiet.values()) < 0.1
    assert moved["wagers"].robust > 0.5 > moved["sessions"].robust


def test_data_that_is_scored_is_compared_with_the_data_of_training(tmp_path):
    own, other = (
        months(tmp_path / "a/a.parquet"),
        months(tmp_path / "b/b.parquet", users=100, since=0, sessions=9, wagers=9),
    )
    assert set(profile(own, own).as_json()["distances"].values()) == {0}
    against = profile(own, other).against
    assert against is not None
    assert (against.shared_users, against.days) == (100, "2026-01-05 to 2026-03-05")
    assert min(one.robust for one in against.distances) > 0.3


def test_a_ready_table_without_users_and_days_is_described(tmp_path):
    rows = [f"{i},tcp,{'risky' if i % 2 else 'calm'},note" for i in range(20)] + [",udp,,"]
    table = write(tmp_path / "a.csv", "x,protocol,label,remark", *rows)
    other = write(tmp_path / "b.csv", "x,protocol", *[f"{i},udp" for i in range(500)])
    names = {"user": "", "time": "", "categories": ("protocol",), "labels_in": "inside", "counters": ()}
    found = profile(table, other, telemetry=False, **names)
    assert {one["name"]: one["role"] for one in found.as_json()["columns"]} == {
        "x": "number",
        "protocol": "category",
        "label": "label",
        "remark": "not used",
    }
    assert found.as_json()["labels"] == {"calm": 10, "risky": 10, "unlabelled": 1}
    assert column(found, "x")["missing"] == 1
    assert min(found.as_json()["distances"].values()) > 0.3
    assert "protocol: distance" in page_of(found, tmp_path)


def test_labels_in_class_folders_are_counted(tmp_path):
    for name in CLASSES:
        write(tmp_path / f"in/{name}/a.csv", HEADER, f"{name} user,2026-01-05,1,1", f"{name} user,2026-01-06,1,1")
    assert profile(tmp_path / "in", labels_in="folders").as_json()["labels"] == {"calm": 1, "risky": 1, "unlabelled": 0}


def test_every_picture_of_the_page_has_a_sentence_and_nothing_comes_from_the_network(tmp_path):
    html = page_of(
        profile(months(tmp_path / "a.parquet", users=20), months(tmp_path / "b.parquet", users=10)), tmp_path
    )
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert len(captions) == html.count("<figure") >= 7
    assert all(caption.endswith(".") for caption in captions)
    assert not re.findall(r"(?:src|href)=[\"'](?!#)", html)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the bad telemetry and the labels of a careless export."""
    write(
        tmp_path / "config.yaml",
        "labels: {rare_class: risky, negative_classes: [calm]}",
        "data: {counters: [sessions, wagers]}",
    )
    write(tmp_path / "data/telemetry/a.csv", *GOOD, "ann,2026-01-08,many,1")
    write(tmp_path / "data/labels.csv", *LABELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_verb_names_the_page_and_ends_well_also_for_bad_data(project, scarcegan):
    code, out, err = scarcegan("data", "profile", "--json")
    assert code == 0
    facts = json.loads(out)
    assert any("'many' is not a number" in problem for problem in facts["problems"])
    assert Path(facts["page"]) == project / "runs/data-profile.html"
    assert "1 of 1 files read" in err
    assert scarcegan("data", "profile", "--out", "a/page.html")[1].endswith("page: a/page.html\n")
    assert (project / "a/page.html").exists()


def test_the_verb_refuses_what_is_not_there_in_a_sentence(project, scarcegan):
    code, _, err = scarcegan("data", "profile", "--against", "nowhere")
    assert (code, err) == (2, "error: nowhere: no data there. Name a file or folder that exists.\n")


def test_a_table_of_more_columns_than_one_scan_counts_is_profiled_whole(tmp_path):
    names = [f"f{n}" for n in range(EXPRESSIONS_PER_SCAN + 100)]
    path = write(tmp_path / "wide.csv", ",".join(["user_id", *names]), ",".join(["u1", *map(str, range(len(names)))]))
    found = profile(path, telemetry=False, counters=(), columns=names)
    assert [column(found, name)["mean"] for name in names] == [*range(len(names))]
