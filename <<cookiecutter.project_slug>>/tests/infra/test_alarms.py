"""An alarm rings only for a metric that somebody publishes: with these dimensions, in this unit, as this statistic.

Statically: CloudWatch was never asked. What SageMaker publishes is what its documentation lists, what we publish is
what the function's own code hands to CloudWatch.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

import every_template
import lambdas
from every_template import VARIANTS, Everything

Alarm = Mapping[str, Any]
rare_share = lambdas.load("rare_share")


class Metric(NamedTuple):
    """As it is published. dimensions: names, each given; statistics: that mean something; "p" for percentiles."""

    unit: str
    statistics: tuple[str, ...]
    dimensions: tuple[str, ...]


OF_A_VARIANT = ("EndpointName", "VariantName")
TIMES = ("Average", "Sum", "Minimum", "Maximum", "SampleCount", "p")
# https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html, endpoint invocation metrics
SAGEMAKER = {
    "Invocation4XXErrors": Metric("None", ("Average", "Sum"), OF_A_VARIANT),
    "Invocation5XXErrors": Metric("None", ("Average", "Sum"), OF_A_VARIANT),
    "InvocationModelErrors": Metric("None", ("Average", "Sum"), OF_A_VARIANT),
    "Invocations": Metric("None", ("Sum",), OF_A_VARIANT),
    "InvocationsPerInstance": Metric("None", ("Sum",), OF_A_VARIANT),
    "ModelLatency": Metric("Microseconds", TIMES, OF_A_VARIANT),
    "OverheadLatency": Metric("Microseconds", TIMES, OF_A_VARIANT),
}
# Alarm -> the metrics that it is for, and why these and no other. Another one is published too, and would never ring.
FOR = {
    # Of each request, whether the model or SageMaker failed. 4XX is the caller's fault.
    # https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
    "ErrorAlarm": {"Invocation5XXErrors"},
    # How long the model's container takes. OverheadLatency is what SageMaker adds, whatever the model does.
    # https://repost.aws/knowledge-center/sagemaker-endpoint-latency
    "LatencyAlarm": {"ModelLatency"},
    # The share of two counts of infra/lambdas/rare_share.py.
    "ManyFlaggedAlarm": {"FlaggedRows", "Rows"},
    "FewFlaggedAlarm": {"FlaggedRows", "Rows"},
}
COUNTED = ("Sum",)  # of ours: rows of a file of captured requests, of which there are several in a period


def published(everything: Everything) -> dict[tuple[str, str], tuple[Metric, Mapping[str, set[str]]]]:
    """(namespace, metric) -> as it is published, and the values that its dimensions have."""
    endpoints = of("SageMaker::Endpoint", everything)
    variants = {v["VariantName"] for c in of("SageMaker::EndpointConfig", everything) for v in c["ProductionVariants"]}
    theirs = {"EndpointName": {endpoint["EndpointName"] for endpoint in endpoints}, "VariantName": variants}
    found = {("AWS/SageMaker", name): (metric, theirs) for name, metric in SAGEMAKER.items()}
    for function in of("Lambda::Function", everything):
        if function["Handler"] == "rare_share.handler":
            told = function["Environment"]["Variables"]
            for data in rare_share.metric_data(rare_share.Counts(10, 1, 0), told["ENDPOINT"]):
                dimensions = {each["Name"]: {each["Value"]} for each in data["Dimensions"]}
                metric = Metric(data["Unit"], COUNTED, tuple(dimensions))
                found[told["NAMESPACE"], data["MetricName"]] = metric, dimensions
    return found


def of(kind: str, everything: Everything) -> list[dict[str, Any]]:
    return list(everything.of_type(f"AWS::{kind}").values())


def looked_at(alarm: Alarm) -> Iterator[tuple[Mapping[str, Any], str, str | None]]:
    """(metric, statistic, unit) of everything that an alarm reads."""
    if "Metrics" not in alarm:
        yield alarm, alarm.get("Statistic") or alarm["ExtendedStatistic"], alarm.get("Unit")
    for each in alarm.get("Metrics", ()):
        if "MetricStat" in each:
            yield each["MetricStat"]["Metric"], each["MetricStat"]["Stat"], each["MetricStat"].get("Unit")


def silences(alarm: Alarm, everything: Everything) -> Iterator[str]:
    """Why an alarm would never ring."""
    known = published(everything)
    for metric, statistic, unit in looked_at(alarm):
        name = (metric["Namespace"], metric["MetricName"])
        if name not in known:
            yield f"nobody publishes {' '.join(name)}"
            continue
        about, values = known[name]
        asked = {each["Name"]: each["Value"] for each in metric.get("Dimensions", ())}
        if set(asked) != set(about.dimensions):
            yield f"{name[1]} is published by {about.dimensions}, not by {tuple(asked)}"
        yield from (f"no {key} is called {value}" for key, value in asked.items() if value not in values.get(key, ()))
        if unit not in (None, about.unit):
            yield f"{name[1]} is published in {about.unit}, not in {unit}"
        if statistic not in about.statistics and not (statistic[0] == "p" and "p" in about.statistics):
            yield f"{statistic} says nothing about {name[1]}"
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDataQuery.html
    watched = [each for each in alarm.get("Metrics", ()) if each.get("ReturnData", True)]
    if "Metrics" in alarm and ["Expression" in each for each in watched] != [True]:
        yield f"one result is watched, and not {[each['Id'] for each in watched]}"


@pytest.mark.parametrize("stage", ["staging", "production"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_alarm_looks_at_a_metric_as_it_is_published_checked_statically(variant: str, stage: str) -> None:
    everything = Everything(variant, Stage=stage)
    alarms = everything.of_type("AWS::CloudWatch::Alarm")
    assert alarms
    assert [(name, why) for name, alarm in alarms.items() for why in silences(alarm, everything)] == []
    watched = {name.split()[-1]: {m["MetricName"] for m, *_ in looked_at(alarm)} for name, alarm in alarms.items()}
    assert watched == {name: FOR[name] for name in watched}
    assert "serverless" in variant or set(watched) == set(FOR)


@pytest.mark.parametrize("variant", VARIANTS)
def test_who_publishes_a_metric_of_ours_may_write_to_its_namespace_checked_statically(variant: str) -> None:
    everything = every_template.everything(variant)
    for namespace, _ in published(everything):
        if namespace != "AWS/SageMaker":
            told = {"cloudwatch:namespace": namespace}
            assert everything.roles.may("count-production", "cloudwatch:PutMetricData", "*", told)


def alarm(name: str) -> dict[str, Any]:
    [found] = [
        a
        for n, a in every_template.everything("plain").of_type("AWS::CloudWatch::Alarm").items()
        if n.endswith(f" {name}")
    ]
    return copy.deepcopy(found)


@pytest.mark.parametrize(
    ("name", "seed", "words"),
    [
        ("LatencyAlarm", lambda a: a.update(Unit="Milliseconds"), "published in Microseconds, not in Milliseconds"),
        ("LatencyAlarm", lambda a: a.update(MetricName="ModelLatencies"), "nobody publishes AWS/SageMaker"),
        ("LatencyAlarm", lambda a: a.update(Namespace="/aws/sagemaker/Endpoints"), "nobody publishes /aws/sagemaker"),
        ("LatencyAlarm", lambda a: a["Dimensions"].pop(), "is published by"),
        ("LatencyAlarm", lambda a: a["Dimensions"][0].update(Value="rare-players"), "no EndpointName is called"),
        ("LatencyAlarm", lambda a: a["Dimensions"][1].update(Value="variant-1"), "no VariantName is called"),
        ("ErrorAlarm", lambda a: a.update(Statistic="Maximum"), "Maximum says nothing about Invocation5XXErrors"),
        ("FewFlaggedAlarm", lambda a: stat(a)["Metric"].update(MetricName="Flagged"), "nobody publishes"),
        ("FewFlaggedAlarm", lambda a: stat(a).update(Stat="Minimum"), "Minimum says nothing about FlaggedRows"),
        ("FewFlaggedAlarm", lambda a: stat(a).update(Unit="Percent"), "published in Count, not in Percent"),
        ("FewFlaggedAlarm", lambda a: a["Metrics"][1].update(ReturnData=True), "one result is watched, and not"),
        ("FewFlaggedAlarm", lambda a: a["Metrics"][0].update(ReturnData=False), "one result is watched, and not []"),
    ],
)
def test_an_alarm_that_would_never_ring_is_seen(name: str, seed: Callable[[Any], object], words: str) -> None:
    seeded = alarm(name)
    seed(seeded)
    assert any(words in why for why in silences(seeded, every_template.everything("plain")))


def stat(alarm: Alarm) -> dict[str, Any]:
    """The first metric of an alarm that calculates."""
    return next(each["MetricStat"] for each in alarm["Metrics"] if "MetricStat" in each)
