"""Categories in statistics, drift and reports: counted by name, compared by shares, and told by name."""

import json
from dataclasses import replace

import numpy as np
import pytest

from populations import CLASSES, Model, request, users
from scarcegan.data.categories import CODES, code
from scarcegan.jsonfile import write_json
from scarcegan.monitoring.baseline import read_baseline
from scarcegan.monitoring.drift import CurrentRows, distances, violations
from scarcegan.monitoring.statistics import (
    REST,
    category_counts,
    category_edges,
    constraints,
    named_codes,
    summarise_columns,
)
from scarcegan.serving import typical_user
from scarcegan.steps import baseline, monitor
from scarcegan.steps.score import score_all
from step_arguments import arguments

TEXTS = ("tcp", "udp", "icmp")
KNOWN = {text: int(code(text)) for text in TEXTS}
NAMES = ("deposits", "visits", "protocol")


class Blind(Model):
    """The model of these tests, which does not read the category."""

    features = NAMES

    def score(self, values, names=None):
        return super().score(values * np.array([1, 1, 0], np.float32))


def told(n, seed, shares=(0.6, 0.3, 0.1), day="2026-03-01", more=()):
    """Users whose protocols have these shares; one in a hundred has one that nobody named, `more` are other texts."""
    rng = np.random.default_rng(seed)
    texts = np.array([*KNOWN.values(), *(code(text) for text in more)])
    table = users(n, seed, day)
    values = table.values.copy()
    values[:, 2] = rng.choice(texts, n, p=shares)
    values[rng.random(n) < 0.01, 2] = code("unnamed")
    return replace(table, values=values, names=NAMES, categories={"protocol": KNOWN})


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A baseline of four thousand users, written and read back."""
    folder = tmp_path_factory.mktemp("watched")
    found = baseline.baseline_statistics(lambda: iter([told(4000, 99)]), {"it": Blind()}, CLASSES)["it"]
    write_json(folder / "statistics.json", found)
    write_json(folder / "constraints.json", constraints(found, (*CLASSES, "unknown")))
    return folder


def broken(watched, table):
    found = read_baseline(watched)
    values = np.column_stack([table.values, np.zeros((len(table), 2), np.float32)])
    current = CurrentRows(summarise_columns(values, found.edges), {}, frozenset({"rarity", "unknown"}))
    return [v for v in violations(found, current, 0.1, "risky") if v.feature_name == "protocol"]


def test_codes_are_counted_one_by_one_even_neighbours_and_the_ends():
    column = np.array([0, 0, 5, 5, 5, 6, CODES - 1, 9], np.float32)
    edges = category_edges(column[:-1])
    counts = summarise_columns(np.append(column, np.nan)[:, None], [edges]).counts[0]
    texts = {"five": 5, "zero": 0, "six": 6, "last": CODES - 1}
    assert category_counts(counts, edges, texts) == {"five": 3, "zero": 2, "six": 1, "last": 1, REST: 1}


def test_only_the_hundred_most_frequent_codes_have_a_count_of_their_own():
    column = np.array([*range(150), 149, 149, 7], np.float32)
    named = named_codes(column, {"seven": 7})
    assert len(named) == 100 and list(named)[:2] == ["code 149", "seven"]
    edges = category_edges(column)
    assert category_counts(summarise_columns(column[:, None], [edges]).counts[0], edges, named)[REST] == 50


def test_the_baseline_says_how_often_each_name_stood(watched):
    found = json.loads((watched / "statistics.json").read_text())["features"][2]
    assert found["inferred_type"] == "Integral" and "mean" not in found["numerical_statistics"]
    buckets = found["category_statistics"]["distribution"]["categorical"]["buckets"]
    assert [b["value"] for b in buckets] == ["tcp", "udp", "icmp", f"code {code('unnamed'):.0f}", REST]
    assert sum(b["count"] for b in buckets) == 4000 and buckets[0]["code"] == 25681
    assert typical_user({"features": [found]}, ["protocol"]) == ("tcp",)
    back = read_baseline(watched)
    assert list(back.categories) == ["protocol"]
    assert back.text_counts("protocol", back.counts)["tcp"] == buckets[0]["count"]


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_the_same_mix_are_no_drift(watched, seed):
    assert not broken(watched, told(300, seed))


def test_a_moved_share_is_drift_and_its_name_is_told(watched):
    (found,) = broken(watched, told(1000, 1, (0.2, 0.7, 0.1)))
    assert found.constraint_check_type == "baseline_drift_check"
    assert found.description.startswith(("share of 'tcp' ", "share of 'udp' "))
    assert "% in the baseline: distance 0." in found.description


def test_the_distance_is_the_largest_gap_between_shares_by_hand(watched):
    found, table = read_baseline(watched), told(2000, 1)
    values = np.column_stack([table.values, np.zeros((2000, 2), np.float32)])
    values[:, 2] = KNOWN["icmp"]
    before = found.text_counts("protocol", found.counts)["icmp"] / 4000
    assert distances(found, summarise_columns(values, found.edges))["protocol"].raw == pytest.approx(1 - before)


def test_names_that_the_baseline_never_saw_are_drift(watched):
    (found,) = broken(watched, told(1000, 1, (0.3, 0.15, 0.05, 0.25, 0.25), more=("quic", "sctp")))
    assert found.description.startswith(f"share of '{REST}' ")


def test_monitoring_reads_names_and_codes_and_reports_by_name(watched, tmp_path):
    (tmp_path / "captured").mkdir()
    table = told(400, 5, (0.1, 0.8, 0.1))
    texts = {code: text for text, code in KNOWN.items()}
    score_all([table.take(np.arange(200))], Blind(), tmp_path / "captured" / "scored")
    lines = [request([[float(a), float(b), texts.get(int(c), "unnamed")]]) for a, b, c in table.values[200:]]
    (tmp_path / "captured" / "a.jsonl").write_text("".join(lines))
    words = [f"--captured={tmp_path / 'captured'}", f"--baseline={watched}", f"--monitoring-out={tmp_path / 'out'}"]
    monitor.main([*words, *arguments("monitor", classes=",".join(CLASSES))])
    found = json.loads((tmp_path / "out" / "constraint_violations.json").read_text())["violations"]
    checks = [(v["feature_name"], v["constraint_check_type"]) for v in found]
    assert [check for check in checks if check[0] in NAMES] == [("protocol", "baseline_drift_check")]
    html = (tmp_path / "out" / "report.html").read_text()
    assert "protocol: most often tcp" in html and "25681" not in html
    now = json.loads((tmp_path / "out" / "statistics.json").read_text())["features"][2]["category_statistics"]
    assert sum(b["count"] for b in now["distribution"]["categorical"]["buckets"]) == 400


def test_a_category_that_nobody_had_is_described_and_compared(tmp_path):
    table = told(500, 1)
    table.values[:, 2] = np.nan
    found = baseline.baseline_statistics(lambda: iter([table]), {"it": Blind()}, CLASSES)["it"]
    write_json(tmp_path / "statistics.json", found)
    write_json(tmp_path / "constraints.json", constraints(found, (*CLASSES, "unknown")))
    assert typical_user(found, NAMES)[2] == 0.0
    (violation,) = broken(tmp_path, told(500, 2))
    assert "distance 0.9" in violation.description or "distance 0.8" in violation.description
