"""The evaluate step on saved models of one formula each, from folders to files."""

import csv
import functools
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

import tiny_models as tiny
from scarcegan.data.schema import read_features
from scarcegan.errors import UserError
from scarcegan.evaluation import metrics
from scarcegan.model import learnt_from
from scarcegan.model.scorer import load_scorer
from scarcegan.model.simple import simple_models
from scarcegan.steps import evaluate
from step_arguments import arguments

FIT = simple_models.train_simple_models
GOOD, POOR = (1.5, 0.0, 0.0), (0.0, 0.0, 1.0)  # rarity from deposits, which tell; from nights, which do not


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Saved models made once: `good` and `poor`, and a `champion` that reads two features in another order."""
    folder = tmp_path_factory.mktemp("saved")
    tiny.save(folder / "good", GOOD, keep="highest_pr_auc", hyperparameters={"iterations": 200})
    tiny.save(folder / "poor", POOR, keep="highest_recall", precision_floor=0.5)
    tiny.save(folder / "champion", (0.5, 1.0), names=("visits", "deposits"), hyperparameters={"iterations": 100})
    return folder


@pytest.fixture
def place(saved, tmp_path):
    """A folder with models, test and labelled rows, as the step finds them."""
    for name in ("good", "poor"):
        shutil.copytree(saved / name, tmp_path / "models" / name)
    return tiny.split(tmp_path)


def run(place, *more, definition="good", bootstrap=60, report=False, fit=FIT, **changes):
    """Run the step and return gate.json; without `report` no page is drawn, which takes most of the time."""
    channels = [f"--{channel}={place / channel}" for channel in ("models", "labelled", "test", "curves", "champion")]
    outputs = [f"--{output}-out={place / output}" for output in ("evaluation", "gate")]
    changes |= {"classes": ",".join(tiny.CLASSES), "gate_definition": definition, "bootstrap": bootstrap}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.simple_models, "train_simple_models", functools.partial(fit, seeds=1))
        if not report:
            patch.setattr(
                evaluate.page, "write_evaluation_page", lambda path, found, about: path.write_text("not drawn")
            )
        evaluate.main([*channels, *outputs, *arguments("evaluate", **changes), *more])
    return json.loads((place / "gate" / "gate.json").read_text())


def crown(place, saved, name="champion", **facts):
    """Make a saved model the champion, with these facts changed."""
    shutil.copytree(saved / name, place / "champion" / "model")
    path = place / "champion" / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    (place / "champion" / "package.json").write_text(json.dumps({"version": 3}))


def test_every_promised_file_is_written_and_none_of_an_earlier_call_is_left(place):
    (place / "evaluation" / "of yesterday").mkdir(parents=True)
    (place / "evaluation" / "of yesterday" / "evaluation.json").write_text("{}")
    run(place, report=True)
    found = {str(path.relative_to(place / "evaluation")) for path in (place / "evaluation").rglob("*.*")}
    each = {f"{name}/evaluation.json" for name in ("good", "poor")}
    assert found == each | {"evaluation.csv", "predictions.parquet", "report.html"}


def test_the_figures_are_those_of_the_labelled_test_users(place):
    run(place)
    test = tiny.users({0: 90, 1: 60, 2: 30, -1: 60}, seed=1)
    said = load_scorer(place / "models" / "good").score(test.values).label
    rare = test.label == 2
    document = json.loads((place / "evaluation" / "good" / "evaluation.json").read_text())
    measured = document["scarcegan"]["metrics"]
    assert measured["recall"]["value"] == pytest.approx((said[rare] == 2).mean())
    assert measured["precision"]["value"] == pytest.approx(rare[(said == 2) & (test.label >= 0)].mean())
    assert measured["recall"]["low"] <= measured["recall"]["value"] <= measured["recall"]["high"]
    assert document["scarcegan"]["test_rows"] == {"labelled": 180, "rare": 30, "unlabelled": 60}
    matrix = document["multiclass_classification_metrics"]["confusion_matrix"]
    assert sum(matrix["risky"].values()) == 30 and sum(map(sum, (m.values() for m in matrix.values()))) == 180
    assert document["binary_classification_metrics"]["recall"]["value"] == measured["recall"]["value"]


def test_the_table_names_every_method_and_no_metric_by_a_number(place):
    run(place)
    with (place / "evaluation" / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} >= {"good", "poor", "logistic_regression", "gradient_boosting"}
    assert {row["metric"] for row in rows} >= {"pr_auc", "f_beta", "brier", "recall_calm", "recall_at_fpr_0.01"}


def test_the_predictions_hold_every_test_user_with_what_each_method_said(place, saved):
    crown(place, saved)
    run(place)
    table = pq.read_table(place / "evaluation" / "predictions.parquet")
    assert table.num_rows == 240
    assert {"user_id", "label", "rarity_good", "unknown_poor", "label_champion", "rarity_balanced_mlp"} <= set(
        table.column_names
    )


def test_the_same_seed_gives_the_same_figures(place):
    run(place)
    first = (place / "evaluation" / "evaluation.csv").read_text()
    run(place)
    assert (place / "evaluation" / "evaluation.csv").read_text() == first


def test_a_good_model_passes_and_a_poor_one_does_not(place):
    assert run(place)["passed"]
    verdict = run(place, definition="poor", gate_minimum=0.5)
    assert not verdict["passed"] and "below the minimum" in verdict["reason"]


def test_the_champion_is_measured_on_the_same_users_with_its_own_columns(place, saved):
    crown(place, saved)
    verdict = run(place)
    test = tiny.users({0: 90, 1: 60, 2: 30, -1: 60}, seed=1)
    rarity = load_scorer(saved / "champion").score(test.values[:, [1, 0]]).rarity
    known = test.label >= 0
    expected = metrics.pr_auc(metrics.threshold_curve(test.label[known] == 2, rarity[known].astype(float)))[0]
    assert verdict["champion"] == pytest.approx(expected)
    assert verdict["challenger"] != verdict["champion"]


def test_a_challenger_that_is_worse_than_the_champion_is_stopped(place, saved):
    crown(place, saved, "good")
    verdict = run(place, definition="poor", gate_minimum=0.0)
    assert not verdict["passed"] and verdict["difference"]["high"] < 0


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"features": []}, "its model.json names no features"),
        ({"features": ["visits", "hours"]}, "features that the test rows lack (hours)"),
        ({"classes": ["calm", "keen", "rare"]}, "its rare class is 'rare', not 'risky'"),
    ],
)
def test_a_champion_of_another_kind_is_not_compared_and_the_gate_says_why(place, saved, facts, why):
    crown(place, saved, **facts)
    verdict = run(place)
    assert not verdict["passed"] and why in verdict["reason"] and verdict["champion"] is None
    assert run(place, gate_champion="report")["passed"]


def test_a_class_the_champion_knows_and_we_do_not_counts_as_unknown():
    label = np.array([0, 1, 2, 3])
    assert evaluate.in_our_classes(label, ("old", "calm", "risky"), tiny.CLASSES).tolist() == [3, 0, 2, 3]


def test_users_whose_labels_the_champion_learnt_from_are_no_test_users_for_anybody(place, saved):
    crown(place, saved)
    users = [str(user) for user in read_features(place / "test").user_id]
    learnt_from.record(place / "champion" / "model", [*users[:25], "somebody else"])
    run(place)
    judged = pq.read_table(place / "evaluation" / "predictions.parquet")["user_id"].to_pylist()
    assert sorted(judged) == sorted(users[25:])


def test_an_empty_champion_folder_means_there_is_none(place):
    (place / "champion").mkdir()
    assert "no champion" in run(place)["reason"]


def test_self_training_joins_where_the_unlabelled_rows_are_given(place):
    tiny.write_features(tiny.users({-1: 50}, seed=4), place / "unlabelled")
    run(place, f"--unlabelled={place / 'unlabelled'}")
    assert "self_training,pr_auc" in (place / "evaluation" / "evaluation.csv").read_text()


def test_a_win_over_the_best_simple_model_can_be_required(place):
    verdict = run(place, gate_simple_models="required", definition="poor", gate_minimum=0.0)
    assert not verdict["passed"] and "not shown to beat the best simple model" in verdict["reason"]


def test_the_report_tells_the_gate_the_preference_and_the_champion(place, saved):
    crown(place, saved)
    (place / "curves").mkdir()
    (place / "curves" / "curves.csv").write_text(
        "iteration,member,generator_loss,validation_pr_auc\n10,0,1.0,0.2\n20,0,0.5,0.4\n10,1,0.9,\n20,1,0.6,0.3\n"
    )
    verdict = run(place, report=True, description="Finds <risky> players")
    html = (place / "evaluation" / "report.html").read_text("utf-8")
    assert '<p class="words">Finds &lt;risky&gt; players</p>' in html
    text = html.replace("&#39;", "'")
    assert verdict["reason"] in text and "Prefer " in text and "version 3" in text
    for section in ("Training", "Why these users", "Move the threshold", "Calibration", "Since the champion"):
        assert f">{section}</h2>" in html
    assert len(html) < 2_000_000 and "http://" not in html.replace("http://www.w3.org", "")


def test_the_threshold_slider_counts_what_its_threshold_flags(place):
    run(place, report=True)
    html = (place / "evaluation" / "report.html").read_text("utf-8")
    steps = json.loads(html.split('id="threshold-steps">')[1].split("</script>")[0])
    own = next(step for step in steps if step["own"])
    document = json.loads((place / "evaluation" / "good" / "evaluation.json").read_text())["scarcegan"]
    assert own["threshold"] == 0.5 and own["recall"] == pytest.approx(document["metrics"]["recall"]["value"])
    assert own["unlabelled"] == round(document["share_flagged_unlabelled"] * 60)


def test_a_test_split_without_a_rare_user_keeps_the_gate_shut_and_still_reports(place):
    tiny.split(place, test=tiny.users({0: 40, 1: 30, -1: 10}, seed=1))
    verdict = run(place, report=True)
    assert not verdict["passed"] and "no row of the rare class" in verdict["reason"]
    assert "holds no user of: risky" in (place / "evaluation" / "report.html").read_text("utf-8")


def test_one_rare_user_is_measured_and_the_report_warns(place):
    tiny.split(place, test=tiny.users({0: 40, 1: 30, 2: 1}, seed=1))
    assert run(place, report=True)["challenger"] > 0
    assert "Only 1 risky users" in (place / "evaluation" / "report.html").read_text("utf-8")


def test_a_class_without_test_users_is_left_blank(place):
    tiny.split(place, test=tiny.users({0: 40, 2: 10, -1: 5}, seed=1))
    run(place, report=True)
    document = json.loads((place / "evaluation" / "good" / "evaluation.json").read_text())
    assert document["scarcegan"]["metrics"]["recall_keen"]["value"] is None
    assert "holds no user of: keen" in (place / "evaluation" / "report.html").read_text("utf-8")


def test_a_model_that_says_the_same_of_everybody_has_the_pr_auc_of_chance(place):
    tiny.save(place / "models" / "flat", (0.0, 0.0, 0.0), bias=-3.0)
    verdict = run(place, definition="flat")
    assert verdict["challenger"] == pytest.approx(30 / 180) and not verdict["passed"]


def test_a_model_that_gives_no_number_is_refused(place):
    tiny.save(place / "models" / "broken", (np.inf, 0.0, 0.0))
    with pytest.raises(UserError, match=r"broken gives a rarity that is not finite for \d+ of 240"):
        run(place)


def test_a_test_split_without_labels_is_refused(place):
    tiny.split(place, test=tiny.users({-1: 20}, seed=1))
    with pytest.raises(UserError, match="holds no labelled row"):
        run(place)


def test_training_rows_without_a_rare_user_are_refused(place):
    tiny.split(place, labelled=tiny.users({0: 20, 1: 20}, seed=2))
    with pytest.raises(UserError, match="hold no 'risky' row"):
        run(place)


def test_a_definition_without_a_model_is_refused(place):
    with pytest.raises(UserError, match=r"'best' has no model \(there are: good, poor\)"):
        run(place, definition="best")


def test_a_folder_without_models_is_refused(place):
    shutil.rmtree(place / "models")
    with pytest.raises(UserError, match="Run the train step first"):
        run(place)


def with_a_category(table):
    """The table with the name of a bank in the place of its nights: two banks, by turns."""
    values = table.values.copy()
    values[:, 2] = [25681, 9][: len(values)] * (len(values) // 2)
    texts = {"bank": {"tcp": 25681}}
    return replace(table, values=values, names=("deposits", "visits", "bank"), categories=texts)


def test_simple_models_get_the_columns_that_the_model_makes_of_a_category_and_reports_name_it(tmp_path):
    told = {"bank": {"columns": [25681], "missing": False, "texts": {"tcp": 25681}}}
    tiny.save(tmp_path / "told" / "good", GOOD, names=("deposits", "visits", "bank"), categories=told)
    test, labelled = tiny.users({0: 90, 1: 60, 2: 30}, seed=1), tiny.users({0: 60, 1: 40, 2: 20})
    tiny.split(tmp_path / "banks", with_a_category(test), with_a_category(labelled))
    shutil.copytree(tmp_path / "told", tmp_path / "banks" / "models")
    seen = []

    def fit(values, *more, **named):
        seen.append(values)
        return FIT(values, *more, **named)

    run(tmp_path / "banks", report=True, fit=fit)
    assert seen[0].shape == (120, 4) and seen[0][:2, 2:].tolist() == [[1, 0], [0, 1]]
    page = (tmp_path / "banks" / "evaluation" / "report.html").read_text()
    assert ">tcp<" in page and "25681" not in page


def test_a_champion_for_which_a_column_was_no_category_is_not_compared():
    why = evaluate.why_not_comparable({"features": ["a"], "classes": ["x", "risky"]}, ("a",), ("x", "risky"), ["a"])
    assert why == "it was trained when 'a' was no category"
    card = {"features": ["a"], "classes": ["x", "risky"], "categories": {"a": {}}}
    assert evaluate.why_not_comparable(card, ("a",), ("x", "risky"), ["a"]) == ""
    assert "was a category" in evaluate.why_not_comparable(card, ("a",), ("x", "risky"))
