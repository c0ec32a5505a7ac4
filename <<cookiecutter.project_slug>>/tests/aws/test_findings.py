"""Every finding that is not "ok" says what to do: all calls of Finding in the source, and what errors of AWS become."""

import ast
import re

import pytest

import stacks as templates
from canned_aws import Refusal, connected
from scarcegan import doctor
from scarcegan.aws import account_checks, client, findings, quotas
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WOULD_FAIL, from_sentence
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from scarcegan.sagemaker import bundle

ROOT = templates.INFRA.parent
CODE = bundle.function_code(ROOT)
SOURCE = sorted((ROOT / "src").rglob("*.py"))


def made(tree):
    """The calls of Finding in a module."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Finding"]


def test_every_finding_that_the_source_makes_has_a_fix_or_is_ok_checked_statically():
    calls = [(path.name, call) for path in SOURCE for call in made(ast.parse(path.read_text(encoding="utf-8")))]
    assert len(calls) > 50
    for name, call in calls:
        (_, state, _), fix = call.args[:3], call.args[3:]
        assert not call.keywords, (name, call.lineno)
        if not (isinstance(state, ast.Name) and state.id == "OK"):
            assert fix and not (isinstance(fix[0], ast.Constant) and not fix[0].value), (name, call.lineno)


ERRORS = {
    "denied": None,
    "throttled": Refusal("ThrottlingException", "Rate exceeded"),
    "missing": Refusal("ResourceNotFoundException", "it does not exist"),
    "unknown": Refusal("InternalFailure", "", 500),
}


class Always(dict):
    """A table that has the same answer for every call."""

    def __init__(self, answer):
        self.answer = answer

    def get(self, name, default=None):
        return self.answer or default


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"Repository": "rare", "VpcId": "vpc-1", "SubnetIds": "subnet-1", "SecurityGroupIds": "sg-1"},
        {"Repository": "acme/rare", "StagingAccount": "222233334444", "ProductionAccount": "333344445555"},
        {
            "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/edge",
            "LogDays": "8",
            "JobInstanceTypes": "ml.a.b",
        },
    ],
)
def test_whatever_aws_answers_a_finding_that_is_not_ok_has_a_fix(error, given, monkeypatch):
    aws, _ = connected(Always(ERRORS[error]))
    config = Config.model_validate({"project": {"name": aws.names.project, "region": aws.names.region}})
    found = list(account_checks.check_account(aws, config, ROOT, given, CODE))
    assert {finding.check for finding in found if finding.state != OK}
    assert [finding for finding in found if finding.state != OK and not finding.fix] == []


@pytest.mark.parametrize("config", ["serve: {port: many}", "serve: [", "data: {path: nowhere}"])
def test_without_settings_data_or_credentials_a_finding_that_is_not_ok_has_a_fix(config, tmp_path, monkeypatch):
    def refuse(config):
        raise UserError("no AWS credentials")

    monkeypatch.setattr(client, "connect_to_aws", refuse)
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
    found = list(doctor.examine(tmp_path / "config.yaml", True, {}))
    assert len([finding for finding in found if finding.state != OK]) > 1
    assert [finding for finding in found if finding.state != OK and not finding.fix] == []


@pytest.mark.parametrize(
    ("sentence", "fact", "fix"),
    [
        (
            "stack a is being changed. Wait, then type it. Or not.",
            "stack a is being changed",
            "Wait, then type it. Or not.",
        ),
        ("b does not let you in (User: x. Denied.). If it", "b does not let you in (User: x. Denied.)", "If it"),
        ("it is in us-east-1 (a: b.c). Give one.", "it is in us-east-1 (a: b.c)", "Give one."),
        (
            "no AWS credentials",
            "no AWS credentials",
            "Correct what it names, then look again: scarcegan doctor --cloud",
        ),
    ],
)
def test_the_text_of_an_error_is_parted_into_fact_and_fix(sentence, fact, fix):
    finding = from_sentence("check", WOULD_FAIL, sentence)
    assert (finding.found, finding.fix) == (fact, fix)


def test_a_machine_that_jobs_may_not_have_is_parted_behind_all_its_names():
    finding = from_sentence(
        "machines", WOULD_FAIL, quotas.refused_machines({"cloud.instances.train": "ml.p3.2xlarge"}, "ml.m5.*")
    )
    assert re.search(r"train=ml\.p3\.2xlarge$", finding.found) and finding.fix.startswith("Choose among ml.m5.*")


def test_a_refusal_that_is_no_denial_says_to_look_again():
    (finding,) = findings.look(
        "cost tags", lambda: list(connected(Always(ERRORS["throttled"]))[0].client("ce").list_cost_allocation_tags())
    )
    assert finding.state == COULD_NOT_LOOK and finding.fix.startswith("Look again in some minutes")
