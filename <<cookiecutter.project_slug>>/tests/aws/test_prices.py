"""Costs: hours times list price, worked out from the settings. Nothing is asked."""

import json
import re
from collections import Counter

import pytest

import stacks
from scarcegan.aws import prices
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import training

TABLE = prices.Prices(
    prices.SHOWN,
    "us-east-1",
    "USD",
    "2026-12-01",
    {"ml.m5.large": 0.1, "ml.m5.xlarge": 0.2},
    {"BUILD_GENERAL1_MEDIUM": 0.01, "BUILD_GENERAL1_SMALL": 0.005},
    1.0,
    0.02,
)
ALL_XLARGE = dict.fromkeys(("features", "split", "train", "baseline", "evaluate", "score"), "ml.m5.xlarge")


def settings(**cloud):
    return Config.model_validate({"project": {"region": "eu-west-1"}, "cloud": {"instances": ALL_XLARGE, **cloud}})


def test_a_training_costs_five_minutes_of_each_of_its_jobs_and_a_scoring_likewise():
    found = prices.estimate(settings(), TABLE)
    assert found.one_training.hours == {"ml.m5.xlarge": (pytest.approx(25 / 60),) * 2}
    assert found.one_training.price == (pytest.approx(0.2 * 25 / 60),) * 2
    assert found.one_scoring.price == (pytest.approx(0.2 * 10 / 60),) * 2


def test_a_training_costs_at_most_max_hours_of_each_of_its_jobs():
    assert prices.estimate(settings(max_hours=3), TABLE).longest_training.price == (pytest.approx(5 * 3 * 0.2),) * 2


def test_production_costs_from_its_least_to_its_most_instances_and_staging_one_while_it_is_tested():
    endpoint = {"instance": "ml.m5.large", "min_instances": 2, "max_instances": 4}
    found = prices.estimate(settings(endpoint=endpoint), TABLE)
    assert found.production.price == (pytest.approx(146.0), pytest.approx(292.0))
    assert found.staging.price == (pytest.approx(0.05),) * 2
    once = 0.2 * 25 / 60
    assert found.month.price == (pytest.approx(1 + once + 0.05 + 146), pytest.approx(1 + once + 0.05 + 292))
    assert any("With the toolchain's StagingRuns=always it costs 73.00 a month." in note for note in found.notes)


def test_serverless_staging_is_not_counted_and_that_is_said():
    found = prices.estimate(settings(endpoint={"instance": "ml.m5.large", "serverless_staging": True}), TABLE)
    assert found.staging.price == (0, 0)
    assert any(note.startswith("Serverless staging is paid per request") for note in found.notes)


@pytest.mark.parametrize(
    ("schedule", "times"),
    [("", 0), ("rate(1 day)", 365 / 12), ("rate(7 days)", 365 / 84), ("rate(12 hours)", 365 / 6)],
)
def test_a_month_has_the_scorings_of_a_rate(schedule, times):
    assert prices.scorings_a_month(schedule) == pytest.approx(times)
    without = prices.estimate(settings(), TABLE).month.price[0]
    scored = prices.estimate(settings(scoring_schedule=schedule), TABLE)
    assert scored.month.price[0] == pytest.approx(without + times * scored.one_scoring.price[0])


def test_how_often_a_cron_scores_is_not_counted_and_that_is_said():
    found = prices.estimate(settings(scoring_schedule="cron(0 5 ? * MON *)"), TABLE)
    assert found.month.what == "a month in all, no scorings"
    assert any("cron(…) scores is not counted" in note for note in found.notes)


def test_a_machine_without_a_price_gets_none_and_is_named_with_how_to_add_it():
    found = prices.estimate(settings(endpoint={"instance": "ml.m7i.large"}), TABLE)
    assert found.production.price == (0, 0) and found.month.unknown == ["ml.m7i.large"]
    text = "\n".join(prices.cost_lines(found))
    assert (
        "No price is known of ml.m7i.large" in text
        and "Add it under machine_hour in prices.json beside config.yaml" in text
    )
    assert "a month in all" in text and "at least 1.08" in text


def test_the_lines_say_date_region_and_assumptions():
    text = "\n".join(prices.cost_lines(prices.estimate(settings(), TABLE)))
    assert "Prices of us-east-1, 2026-12-01, from src/scarcegan/aws/prices.json. Copy it beside config.yaml" in text
    assert "replace its figures by those of eu-west-1 or of your contract." in text
    assert "5 minutes a job, assumed and not measured in AWS" in text
    assert "builds (a push has 2 at 0.01 a minute, a release has 6 at 0.005 a minute)" in text


def test_a_push_and_a_release_have_the_builds_of_the_toolchains_template():
    """Each CodeBuild action of the build and of the deploy pipeline, and the compute type of its project."""
    resources = stacks.body_of("toolchain.yaml")["Resources"]
    for cause, pipeline in {"push": "BuildPipeline", "release": "DeployPipeline"}.items():
        text = json.dumps(resources[pipeline])
        projects = re.findall(r'"ProjectName": {"Ref": "(\w+)"}', text)
        kinds = {resources[name]["Properties"]["Environment"]["ComputeType"] for name in projects}
        assert (len(projects), *kinds) == prices.BUILDS[cause]


def test_the_table_of_the_project_has_a_price_of_every_machine_that_config_yaml_names_by_default():
    found = prices.estimate(Config(), prices.load_prices())
    assert not found.month.unknown and not found.one_scoring.unknown
    assert sum(count for count in prices.jobs_by_machine(training(Config())).values()) == 5


def test_a_machine_of_twice_the_size_has_about_twice_the_price():
    """A slip of a digit in the table would break this."""
    table = prices.load_prices().machine_hour
    sizes = Counter({"large": 1, "xlarge": 2, "medium": 0})
    for machine, price in table.items():
        _, family, size = machine.split(".")
        units = sizes[size] or (2 * int(size.removesuffix("xlarge")) if size != "medium" else 0)
        if units and f"ml.{family}.2xlarge" in table:
            assert price / units == pytest.approx(table[f"ml.{family}.2xlarge"] / 4, rel=0.01), machine


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({"machine_hour": {"ml.m5.large": "0.1"}, "build_minute": {}}),
        prices.TABLE.read_text(encoding="utf-8").replace("BUILD_GENERAL1_SMALL", "BUILD_GENERAL1_TINY"),
    ],
)
def test_a_damaged_table_is_a_mistake_in_one_sentence(tmp_path, text):
    (tmp_path / "prices.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"no table of prices .* Correct or delete it: without it the template's"):
        prices.load_prices(tmp_path)


def test_a_table_beside_config_yaml_wins_and_the_lines_say_so(tmp_path):
    assert prices.load_prices(tmp_path) == prices.load_prices(), "there is none"
    own = json.loads(prices.TABLE.read_text(encoding="utf-8")) | {"region": "eu-west-1", "date": "2027-01-01"}
    own["machine_hour"] = {"ml.m5.large": 5}
    (tmp_path / "prices.json").write_text(json.dumps(own), encoding="utf-8")
    found = prices.estimate(settings(), prices.load_prices(tmp_path))
    assert found.production.price == (2 * 730 * 5, 4 * 730 * 5)
    assert "  Prices of eu-west-1, 2027-01-01, from prices.json beside config.yaml." in prices.cost_lines(found)
    assert found.describe()["table"] == "prices.json beside config.yaml"
