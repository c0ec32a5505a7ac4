"""Quotas that the settings need, and Service Quotas' answers about them, which come from a table here."""

import pytest

from canned_aws import connected
from scarcegan.aws import quotas
from scarcegan.aws.findings import OK, WARNING, WOULD_FAIL
from scarcegan.pipeline.config import Config


def settings(**cloud):
    return Config.model_validate({"cloud": cloud})


def answers(applied, default=()):
    """Service Quotas, which knows quotas of these names and values."""

    def page(values):
        made = [
            {"QuotaName": name, "Value": float(value), "QuotaCode": f"L-{number:08}"}
            for number, (name, value) in enumerate(dict(values).items())
        ]
        return {"Quotas": made}

    return {
        "service-quotas:ListServiceQuotas": page(applied),
        "service-quotas:ListAWSDefaultServiceQuotas": page(default),
    }


def findings(applied, default=(), **cloud):
    aws, session = connected(answers(applied, default))
    found = {finding.check: finding for finding in quotas.quota_findings(aws, settings(**cloud))}
    return found, session


def needed(**cloud):
    return {need.quota: (need.least, need.most) for need in quotas.needs(settings(**cloud))}


def test_baseline_and_evaluate_run_at_the_same_time_so_that_two_of_their_machine_are_needed():
    found = needed(instances={"baseline": "ml.c5.xlarge", "evaluate": "ml.c5.xlarge", "split": "ml.c5.xlarge"})
    assert found["ml.c5.xlarge for processing job usage"] == (2, 2)
    assert found["ml.m5.2xlarge for processing job usage"] == (1, 1), "features or score, one after the other"


def test_training_on_spot_instances_needs_another_quota():
    assert "ml.m5.2xlarge for training job usage" in needed()
    assert "ml.m5.2xlarge for spot training job usage" in needed(spot=True)
    assert "ml.m5.2xlarge for training job usage" not in needed(spot=True)


def test_an_endpoint_needs_both_stages_at_first_and_twice_the_largest_production_while_a_model_takes_over():
    endpoint = {"instance": "ml.c5.large", "min_instances": 2, "max_instances": 5}
    assert needed(endpoint=endpoint)["ml.c5.large for endpoint usage"] == (3, 11)
    serverless = {**endpoint, "serverless_staging": True}
    assert needed(endpoint=serverless)["ml.c5.large for endpoint usage"] == (2, 10)


@pytest.mark.parametrize(("value", "state"), [(0, WOULD_FAIL), (2, WOULD_FAIL), (3, WARNING), (9, OK)])
def test_an_endpoint_quota_is_judged_by_what_the_first_release_and_autoscaling_need(value, state):
    found, _ = findings({"ml.m5.large for endpoint usage": value})
    assert found["quota ml.m5.large for endpoint usage"].state == state


def test_a_quota_of_0_says_that_it_is_normal_and_how_to_ask():
    finding = findings({"ml.m5.large for endpoint usage": 0})[0]["quota ml.m5.large for endpoint usage"]
    assert finding.found.startswith("0, needed 3 (staging 1 and production 2; with 4 in production, 9 while")
    assert "A new account often has 0" in finding.fix
    assert finding.fix.endswith(
        "aws service-quotas request-service-quota-increase --region eu-west-1 --service-code sagemaker "
        "--quota-code L-00000000 --desired-value 9"
    )


def test_a_quota_without_a_value_of_the_account_has_the_default_of_aws():
    found, session = findings({}, {"ml.m5.large for endpoint usage": 9})
    assert found["quota ml.m5.large for endpoint usage"].state == OK
    assert session.made == ["service-quotas:ListServiceQuotas", "service-quotas:ListAWSDefaultServiceQuotas"]


def test_the_value_of_the_account_goes_before_the_default():
    found, _ = findings({"ml.m5.large for endpoint usage": 0}, {"ml.m5.large for endpoint usage": 9})
    assert found["quota ml.m5.large for endpoint usage"].state == WOULD_FAIL


def test_a_machine_that_service_quotas_does_not_know_may_be_misspelt():
    found, _ = findings({}, instances={"train": "ml.m5.3xlarge"})
    finding = found["quota ml.m5.3xlarge for training job usage"]
    assert finding.state == WARNING and "may be misspelt" in finding.fix
    assert f"quota {quotas.ALL_ENDPOINTS}" not in found, "not every account has that one"
