"""Statistics and drift: figures worked out by hand, and the rate of false alarms."""

import json

import numpy as np
import pytest

from populations import CLASSES, NAMES, Model, a_baseline, users
from scarcegan.errors import UserError
from scarcegan.jsonfile import write_json
from scarcegan.monitoring.baseline import read_baseline
from scarcegan.monitoring.drift import (
    CurrentRows,
    allowed_share,
    chance_distance,
    distance,
    distances,
    label_distance,
    violations,
    violations_json,
)
from scarcegan.monitoring.statistics import (
    bucket_edges,
    combine,
    combine_all,
    constraints,
    sample_rows,
    statistics,
    stretch_outer_edges,
    summarise_columns,
)


def column(*values):
    return np.array(values, np.float32)[:, None]


def described(values, names=("a",), labels=None):
    edges = [bucket_edges(c) for c in values.T]
    return statistics(names, summarise_columns(values, edges), edges, labels)


def written(folder, values, names=("a",), labels=None):
    found = described(values, names, labels)
    write_json(folder / "statistics.json", found)
    write_json(folder / "constraints.json", constraints(found, ("normal", "risky", "unknown")))
    return read_baseline(folder)


def checks(baseline, values, threshold=0.1, **current):
    found = CurrentRows(summarise_columns(values, baseline.edges), current.pop("labels", {}), **current)
    return [(v.feature_name, v.constraint_check_type) for v in violations(baseline, found, threshold, "risky")]


def test_a_column_is_described_as_model_monitor_does():
    feature = described(column(1, 2, 2, 3, np.nan))["features"][0]
    figures = feature["numerical_statistics"]
    assert feature["inferred_type"] == "Integral"
    assert figures["common"] == {"num_present": 4, "num_missing": 1}
    assert (figures["mean"], figures["sum"], figures["min"], figures["max"]) == (2, 8, 1, 3)
    assert figures["std_dev"] == pytest.approx(np.sqrt(0.5))
    assert figures["distribution"]["kll"]["buckets"] == [
        {"lower_bound": 1, "upper_bound": 1.5, "count": 1},
        {"lower_bound": 1.5, "upper_bound": 2.5, "count": 2},
        {"lower_bound": 2.5, "upper_bound": 3, "count": 1},
    ]


def test_a_value_that_many_users_share_has_a_bucket_of_its_own():
    zeros_and_more = np.concatenate([np.zeros(600), np.linspace(0.01, 1, 400)]).astype(np.float32)
    counts = summarise_columns(zeros_and_more[:, None], [bucket_edges(zeros_and_more)]).counts[0]
    assert counts[1] == 600


def test_a_number_rounded_on_its_way_stays_in_its_bucket():
    thirds = np.repeat([1 / 3, 2 / 3], 50).astype(np.float32)
    edges = [bucket_edges(thirds)]
    exact, rounded = (summarise_columns(v[:, None], edges).counts[0] for v in (thirds, thirds.round(7)))
    assert exact.tolist() == rounded.tolist() == [0, 50, 50, 0]


def test_batches_add_up_to_the_whole():
    values = np.random.default_rng(0).normal(5, 2, (1000, 3)).astype(np.float32)
    values[::7, 1] = np.nan
    edges = [bucket_edges(c) for c in values.T]
    whole, parts = (
        summarise_columns(values, edges),
        combine_all((summarise_columns(v, edges) for v in np.array_split(values, 7)), edges),
    )
    for key in ("mean", "m2", "minimum", "maximum", "missing", "finite"):
        np.testing.assert_allclose(getattr(parts, key), getattr(whole, key), rtol=1e-9)
    assert all((a == b).all() for a, b in zip(parts.counts, whole.counts, strict=True))


def test_a_batch_without_rows_changes_nothing():
    values = column(1, 2, 3)
    edges = [bucket_edges(values[:, 0])]
    whole = summarise_columns(values, edges)
    assert combine(whole, summarise_columns(values[:0], edges)).mean.tolist() == whole.mean.tolist() == [2]


def test_the_sample_is_bounded_and_every_row_has_its_chance():
    batches = [np.arange(i, i + 100, dtype=np.float32)[:, None] for i in range(0, 10_000, 100)]
    sample = sample_rows(batches, 2000, np.random.default_rng(0))
    assert sample.shape == (2000, 1)
    assert len(np.unique(sample)) == 2000
    assert abs(sample.mean() - 5000) < 200


def test_a_baseline_read_back_counts_as_it_did(tmp_path):
    values = users(500).values
    baseline = written(tmp_path, values, NAMES)
    assert baseline.features == NAMES
    assert not baseline.scored
    assert all(d.raw == 0 for d in distances(baseline, summarise_columns(values, baseline.edges)).values())


def test_edges_of_a_sample_stretch_to_the_true_extremes():
    edges = [bucket_edges(np.array([2.0, 3, 4]))]
    numbers, stretched = stretch_outer_edges(summarise_columns(column(0, 2, 3, 4, 9), edges), edges)
    assert (stretched[0][0], stretched[0][-1]) == (0, 9)
    assert numbers.counts[0].tolist() == [0, 2, 1, 2, 0]


def test_the_distance_is_the_largest_gap_less_what_chance_explains():
    before, now = np.array([0, 50, 50, 0]), np.array([0, 10, 90, 0])
    found = distance(before, now)
    assert found.raw == pytest.approx(0.4)
    assert found.robust == pytest.approx(0.4 - 1.8 * np.sqrt(200 / 10_000))
    assert chance_distance(100, 100) == pytest.approx(1.8 * np.sqrt(0.02))


def test_the_psi_of_moved_shares_is_worked_out_by_hand():
    big = 1_000_000
    found = distance(np.array([big // 2, big // 2]), np.array([big // 4, 3 * big // 4]))
    assert found.psi == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5), abs=1e-4)


def test_no_rows_are_no_drift():
    assert distance(np.array([5, 5]), np.array([0, 0])).robust == 0
    assert label_distance({"a": 1}, {}).robust == 0


@pytest.mark.parametrize("rows", [100, 200, 1000])
def test_rows_of_the_same_population_raise_no_alarm(tmp_path, rows):
    baseline, model = a_baseline(tmp_path), Model()
    alarms = 0
    for seed in range(200):
        table = users(rows, seed)
        given = model.score(table.values)
        values = np.column_stack([table.values, given.rarity, given.unknown])
        names = np.array([*CLASSES, "unknown"])[given.label]
        labels = dict(zip(*(a.tolist() for a in np.unique(names, return_counts=True)), strict=True))
        alarms += bool(checks(baseline, values, labels=labels))
    assert alarms <= 1, f"{alarms} false alarms in 200 windows of {rows} rows"


def test_two_hundred_rows_of_a_moved_population_raise_an_alarm(tmp_path):
    baseline = written(tmp_path, users(4000).values, NAMES)
    assert ("deposits", "baseline_drift_check") in checks(baseline, users(200, 1, more=0.8).values)


def test_the_farthest_column_comes_first(tmp_path):
    baseline = written(tmp_path, users(4000).values, NAMES)
    moved = users(4000, 1).values.copy()
    moved[:, 0] *= 2
    moved[:, 2] += 3
    assert [name for name, _ in checks(baseline, moved)] == ["trend", "deposits"]


def test_a_constant_column_drifts_when_it_is_constant_no_more(tmp_path):
    baseline = written(tmp_path, np.full((300, 1), 0.1, np.float32))
    assert checks(baseline, np.full((300, 1), 0.1)) == []
    assert checks(baseline, np.full((300, 1), 0.2)) == [("a", "baseline_drift_check")]


def test_a_column_that_was_empty_and_fills_up_is_a_violation(tmp_path):
    baseline = written(tmp_path, np.full((300, 1), np.nan, np.float32))
    assert baseline.column("a") == {
        "common": {"num_present": 0, "num_missing": 300},
        "distribution": {"kll": {"buckets": []}},
    }
    assert checks(baseline, np.full((300, 1), np.nan)) == []
    assert checks(baseline, np.ones((300, 1))) == [("a", "baseline_drift_check")]


def test_a_column_that_was_complete_may_not_lose_its_values(tmp_path):
    baseline = written(tmp_path, np.arange(1000, dtype=np.float32)[:, None])
    gaps = np.random.default_rng(0).permutation(1000).astype(np.float32)[:, None]
    gaps[:2] = np.nan
    assert checks(baseline, gaps) == []
    gaps[:50] = np.nan
    assert checks(baseline, gaps) == [("a", "completeness_check")]


def test_infinite_values_are_counted_apart_and_break_the_type(tmp_path):
    values = np.arange(100, dtype=np.float32)[:, None]
    baseline = written(tmp_path, values)
    some = values.copy()
    some[:3, 0] = np.inf, -np.inf, np.inf
    feature = statistics(("a",), summarise_columns(some, baseline.edges), baseline.edges)["features"][0]
    assert feature["numerical_statistics"]["common"] == {"num_present": 100, "num_missing": 0, "num_infinite": 3}
    assert feature["numerical_statistics"]["max"] == 99
    assert checks(baseline, some) == []
    some[:20] = np.inf
    assert ("a", "data_type_check") in checks(baseline, some)


def test_text_among_numbers_breaks_the_type(tmp_path):
    values = np.arange(100, dtype=np.float32)[:, None]
    baseline = written(tmp_path, values)
    text = np.zeros((100, 1), bool)
    text[80:] = True
    some = np.where(text, np.nan, values)
    found = violations(baseline, CurrentRows(summarise_columns(some, baseline.edges, text), {}), 0.5, "risky")
    assert [v.constraint_check_type for v in found] == ["data_type_check"]
    assert found[0].description == "text: 20.0% of 100 values, at most 10% allowed"


def test_fractions_and_negatives_break_the_type_where_there_were_none(tmp_path):
    baseline = written(tmp_path, np.arange(100, dtype=np.float32)[:, None])
    assert ("a", "data_type_check") in checks(baseline, np.arange(100)[:, None] + 0.5)
    assert ("a", "data_type_check") in checks(baseline, -np.arange(100.0)[:, None])


def test_a_threshold_of_its_own_overrides_the_general_one(tmp_path):
    baseline = written(tmp_path, users(4000).values, NAMES)
    baseline.constraints["features"][0]["monitoringConfigOverrides"] = {
        "distribution_constraints": {"comparison_threshold": 0.9}
    }
    moved = users(1000, 1, more=0.8).values
    assert ("deposits", "baseline_drift_check") not in checks(baseline, moved)
    assert ("trend", "baseline_drift_check") in checks(baseline, moved)


def test_a_general_threshold_that_a_person_writes_counts_for_every_column_without_its_own(tmp_path):
    baseline = written(tmp_path, users(4000).values, NAMES)
    moved = users(1000, 1, more=0.8).values
    assert ("trend", "baseline_drift_check") in checks(baseline, moved)
    baseline.constraints["monitoring_config"]["distribution_constraints"]["comparison_threshold"] = 0.9
    assert checks(baseline, moved) == []


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("features",), {}, "'features' must be a list"),
        (("features", 0), {"inferred_type": "Integral"}, r"no 'name' in features\[0\]"),
        (("features", 0), {"name": 7}, r"'features\[0\]\.name' must be text \(found: 7\)"),
        (("features", 0, "completeness"), "all", "completeness' must be a number"),
        (("features", 0, "num_constraints"), [], "num_constraints' must hold entries"),
        (("monitoring_config",), None, "'monitoring_config' must hold entries"),
        (("monitoring_config", "evaluate_constraints"), "off", "must be one of Enabled, Disabled"),
        (("monitoring_config", "distribution_constraints", "comparison_threshold"), True, "must be a number"),
        (("binary_classification_constraints",), {"recall": {"threshold": 0.4}}, "no 'comparison_operator' in"),
        (
            ("binary_classification_constraints",),
            {"recal": {"threshold": 0.4, "comparison_operator": "LessThanThreshold"}},
            r"'binary_classification_constraints\.recal' limits no metric \(known: recall, precision, pr_auc\)",
        ),
        (("features", 0), {"name": "deposit"}, r"no column 'deposit' in the baseline; did you mean 'deposits'\?"),
        (("features", 0), {"name": "zzz"}, r"no column 'zzz' in the baseline\."),
    ],
)
def test_a_constraint_that_was_edited_wrongly_is_named_with_its_place(tmp_path, place, value, words):
    written(tmp_path, users(100).values, NAMES)
    path = tmp_path / "constraints.json"
    rules = json.loads(path.read_text())
    inside = rules
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = value
    path.write_text(json.dumps(rules))
    with pytest.raises(UserError, match=rf"constraints\.json: .*{words}.* Correct it there\."):
        read_baseline(tmp_path)


def test_a_constraint_that_somebody_took_out_is_not_looked_for(tmp_path):
    baseline = written(tmp_path, users(400).values, NAMES)
    for entry in baseline.constraints["features"]:
        entry.pop("inferred_type")
    assert checks(baseline, users(400, 1).values) == []


def test_comparison_can_be_disabled(tmp_path):
    baseline = written(tmp_path, users(4000).values, NAMES)
    baseline.constraints["monitoring_config"]["distribution_constraints"]["perform_comparison"] = "Disabled"
    assert checks(baseline, users(1000, 1, more=0.8).values) == []


def test_the_band_of_a_rare_share_grants_a_factor_of_two_and_chance():
    low, high = allowed_share(100, 10_000, 1_000_000, 0.1)
    assert low == pytest.approx(97 / 10_000 / 2, rel=0.06)
    assert high == pytest.approx(2 * 103 / 10_000, rel=0.06)
    assert allowed_share(100, 10_000, 50, 0.1)[0] == 0
    assert 0.05 < allowed_share(100, 10_000, 50, 0.1)[1] < 0.2


def test_twice_as_many_flagged_users_is_no_violation_and_five_times_is(tmp_path):
    values = users(4000).values
    baseline = written(tmp_path, values, NAMES, {"normal": 3960, "risky": 40, "unknown": 0})
    assert checks(baseline, values, labels={"normal": 3920, "risky": 80}) == []
    assert checks(baseline, values, labels={"normal": 3800, "risky": 200}) == [("label", "baseline_drift_check")]


def test_the_violation_of_the_predicted_classes_names_the_limit_that_was_applied(tmp_path):
    values = users(4000).values
    baseline = written(tmp_path, values, NAMES, {"normal": 3960, "risky": 40, "unknown": 0})
    own = {"distribution_constraints": {"comparison_threshold": 0.02}}
    baseline.constraint("label")["monitoringConfigOverrides"] = own
    current = CurrentRows(summarise_columns(values, baseline.edges), {"normal": 3000, "risky": 1000})
    words = [v.description for v in violations(baseline, current, 0.1, "risky") if "share of a class" in v.description]
    assert len(words) == 1 and words[0].endswith("at most 0.02 allowed")


def test_classes_that_the_model_does_not_give_are_unknown_values(tmp_path):
    values = users(400).values
    baseline = written(tmp_path, values, NAMES, {"normal": 400, "risky": 0, "unknown": 0})
    assert ("label", "categorical_values_check") in checks(baseline, values, labels={"normal": 200, "whale": 200})


def test_missing_and_extra_columns_are_named(tmp_path):
    values = users(4000).values
    baseline = written(tmp_path, values, NAMES)
    found = checks(baseline, values, absent=frozenset({"trend"}), extra={"age": 12})
    assert found == [("trend", "missing_column_check"), ("age", "extra_column_check")]


def test_violations_have_the_documented_keys(tmp_path):
    baseline = written(tmp_path, users(400).values, NAMES)
    current = CurrentRows(summarise_columns(users(400, 1, more=2).values, baseline.edges), {})
    entry = violations_json(violations(baseline, current, 0.1, "risky"))["violations"][0]
    assert list(entry) == ["feature_name", "constraint_check_type", "description"]


def test_constraints_have_the_documented_shape():
    found = constraints(described(column(1, 2, np.nan), labels={"normal": 2, "risky": 1}), ("normal", "risky"), 0.5)
    number, label = found["features"]
    assert number == {
        "name": "a",
        "inferred_type": "Integral",
        "completeness": round(2 / 3 - 0.05, 4),
        "num_constraints": {"is_non_negative": True},
    }
    assert label["string_constraints"] == {"domains": ["normal", "risky"]}
    assert found["monitoring_config"]["distribution_constraints"]["comparison_method"] == "Robust"
    assert found["binary_classification_constraints"]["recall"]["threshold"] == 0.4


@pytest.mark.parametrize("content", ["{", "[]", '{"features": [{"name": "a"}]}'])
def test_what_is_no_baseline_is_refused(tmp_path, content):
    for name in ("statistics.json", "constraints.json"):
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)):
        read_baseline(tmp_path)


@pytest.mark.parametrize("count", ['"x"', "1e999"])
def test_a_baseline_with_a_count_that_is_no_whole_number_is_refused(tmp_path, count):
    written(tmp_path, column(1, 2, 3), labels={"normal": 2, "risky": 1})
    path = tmp_path / "statistics.json"
    path.write_text(path.read_text().replace('"count": ', f'"was": 0, "count": {count}, "then": '))
    with pytest.raises(UserError, match="this is not a baseline"):
        read_baseline(tmp_path)


def test_an_absent_baseline_is_refused_with_the_next_move(tmp_path):
    with pytest.raises(UserError, match=r"statistics\.json: no such file\. Give the baseline folder"):
        read_baseline(tmp_path)
