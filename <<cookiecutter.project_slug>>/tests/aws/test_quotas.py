"""Quotas that the settings need, and Service Quotas' answers about them, which come from a table here."""

from datetime import UTC, datetime

import pytest

from canned_aws import ME, NAMES, Canned, Refusal, connected
from scarcegan.aws import client, quotas
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WARNING, WOULD_FAIL
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
    found = {finding.check: finding for finding in quotas.quota_findings(aws, settings(**cloud), {})}
    return found, session


def needed(**cloud):
    return {need.quota: (need.least, need.most) for need in all_needs(settings(**cloud))}


def all_needs(config):
    return [*quotas.job_needs(config), *quotas.endpoint_needs(config)]


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


THERE, ALSO = "222233334444", "333344445555"
OF_ENDPOINTS = f"quota {quotas.ENDPOINT.format('ml.m5.large')}"


class Boto3:
    """In place of boto3, whose sessions with keys of another account answer from a table of that account's."""

    def __init__(self, sessions):
        self.sessions = sessions

    def Session(self, key, *_):
        return self.sessions[key]


def in_accounts(monkeypatch, parameters, **theirs):
    """The findings with stages in other accounts: number -> the answers of Service Quotas there, None for no access."""
    theirs = {number.removeprefix("a"): answer for number, answer in theirs.items()}

    def assume(asked):
        number = asked["RoleArn"].split(":")[4]
        if theirs.get(number) is None:
            return Refusal("AccessDenied", f"User: {ME} is not authorized to perform: sts:AssumeRole. No.", 403)
        key = {"AccessKeyId": number + "0000", "SecretAccessKey": "x", "SessionToken": "x"}
        return {"Credentials": {**key, "Expiration": datetime(2026, 12, 1, tzinfo=UTC)}}

    sessions = {number + "0000": Canned(answer) for number, answer in theirs.items() if answer is not None}
    monkeypatch.setattr(client, "library", lambda _: Boto3(sessions))
    aws, ours = connected({**answers({"ml.m5.large for endpoint usage": 100}), "sts:AssumeRole": assume})
    found = {finding.check: finding for finding in quotas.quota_findings(aws, settings(), parameters)}
    return found, ours, sessions


def test_an_account_that_hosts_both_stages_is_asked_for_their_endpoints_and_the_toolchains_is_not(monkeypatch):
    both = {"StagingAccount": THERE, "ProductionAccount": THERE}
    found, ours, theirs = in_accounts(monkeypatch, both, a222233334444=answers({"ml.m5.large for endpoint usage": 0}))
    finding = found[f"{OF_ENDPOINTS} in account {THERE} of staging and production"]
    assert finding.state == WOULD_FAIL and finding.found.startswith("0, needed 3 (staging 1 and production 2;")
    assert f"Ask for more in account {THERE}" in finding.fix
    assert OF_ENDPOINTS not in found and "quota ml.m5.2xlarge for training job usage" in found
    roles = [asked["RoleArn"] for name, asked in ours.calls if name == "sts:AssumeRole"]
    assert roles == [f"arn:aws:iam::{THERE}:role/{NAMES.project}-{NAMES.region}-look-staging"]
    assert {name.split(":")[0] for name in theirs[f"{THERE}0000"].made} == {"service-quotas"}


def test_each_account_needs_the_instances_of_the_stage_that_it_hosts(monkeypatch):
    enough = answers({"ml.m5.large for endpoint usage": 8})
    apart = {"StagingAccount": THERE, "ProductionAccount": ALSO}
    found, *_ = in_accounts(monkeypatch, apart, a222233334444=enough, a333344445555=enough)
    assert found[f"{OF_ENDPOINTS} in account {THERE} of staging"].found.startswith(
        "8, needed 1 (staging 1; endpoints of"
    )
    assert found[f"{OF_ENDPOINTS} in account {ALSO} of production"].state == OK
    half, *_ = in_accounts(monkeypatch, {"ProductionAccount": ALSO}, a333344445555=enough)
    assert half[OF_ENDPOINTS].found.startswith("100, needed 1 (staging 1;")
    assert quotas.endpoint_needs(settings(endpoint={"serverless_staging": True}), ["staging"]) == []


def test_an_account_that_cannot_be_asked_is_named_with_the_reason_and_a_fix(monkeypatch):
    apart = {"StagingAccount": THERE, "ProductionAccount": ALSO}
    found, *_ = in_accounts(monkeypatch, apart, a333344445555={})
    closed, blind = found[f"quotas in account {THERE} of staging"], found[f"quotas in account {ALSO} of production"]
    assert closed.state == blind.state == COULD_NOT_LOOK
    assert "does not let you in as" in closed.found and "deploy-target staging" in closed.fix
    assert blind.found == "you lack servicequotas:ListServiceQuotas" and blind.fix
