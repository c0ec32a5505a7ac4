"""Updates from the template in the toolchain: what exists, when it starts, what its two roles may do.

Checked statically: moto's matcher stands for EventBridge's, and tests/helpers/enforcement.py for IAM.
"""

import json
import re

import pytest

from enforcement import Roles, arn
from rare_players import ARTIFACTS, BUCKET, GIVEN, GROUP, KEY, PROJECT, TO_SAGEMAKER, excesses, role, sagemaker
from sent_events import codepipeline_event, matches
from stacks import ACCOUNT, REGION, Toolchain, transformed

WEEKLY = {**GIVEN, "UpdateSchedule": "rate(7 days)"}
STACK = Toolchain(WEEKLY)
CONNECTION = arn("codeconnections", "connection/0a1b")
CONNECTED = Roles(Toolchain(WEEKLY | {"ConnectionArn": CONNECTION, "TemplateRepository": "platform/template"}))
IN_CODECOMMIT = Roles(Toolchain(WEEKLY | {"Repository": "rare", "TemplateRepository": "template"}))
REPOSITORY = arn("codecommit", "rare")


def using(repository: str, action: str, service: str = "codeconnections") -> tuple[str, str, dict[str, str]]:
    keys = {f"{service}:FullRepositoryId": repository, f"{service}:ProviderAction": action}
    return f"{service}:UseConnection", CONNECTION, keys


def test_without_a_schedule_there_is_nothing_of_it() -> None:
    without, weekly = Toolchain(GIVEN).resources, Toolchain(WEEKLY).resources
    more = {"UpdateLogs", "UpdateProject", "UpdatePipeline", "UpdateRule", "UpdateFailedRule"}
    assert set(weekly) - set(without) == more | {"UpdateRole", "UpdatePipelineRole", "UpdateByCodeCommit"}
    assert "update" not in json.dumps(without["EventsRole"])


@pytest.mark.parametrize(
    "schedule", ["rate(7 days)", "rate(1 day)", "cron(0 6 ? * MON *)", "cron(0/15 6 1,15 * ? *)", ""]
)
def test_a_schedule_is_written_as_eventbridge_takes_it(schedule: str) -> None:
    """https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html"""
    stack = Toolchain(WEEKLY)
    pattern = stack.body["Parameters"]["UpdateSchedule"]["AllowedPattern"]
    assert re.fullmatch(pattern, schedule)
    assert not any(re.fullmatch(pattern, wrong) for wrong in ("weekly", "7 days", "rate(7 days); x", "rate($(id))"))
    [target] = stack.resources["UpdateRule"]["Targets"]
    assert target["Arn"] == arn("codepipeline", f"{PROJECT}-update")
    actor = target["RoleArn"].removeprefix(role(""))
    assert Roles(stack).may(actor, "codepipeline:StartPipelineExecution", target["Arn"], {})


def test_a_failed_update_is_told_and_one_without_news_is_not_by_motos_matcher() -> None:
    rule = STACK.resources["UpdateFailedRule"]
    failed, succeeded = (codepipeline_event(f"{PROJECT}-update", state) for state in ("FAILED", "SUCCEEDED"))
    assert matches(rule, failed) and not matches(rule, succeeded)
    said = transformed(rule["Targets"][0]["InputTransformer"], failed)
    assert json.loads(said).startswith(f"{PROJECT}-update: FAILED. https://{REGION}.console.aws.amazon.com/")


def test_the_build_clones_the_repository_with_its_history() -> None:
    for more in ({}, {"ConnectionArn": CONNECTION}):
        [source] = Toolchain(WEEKLY | more).resources["UpdatePipeline"]["Stages"][0]["Actions"]
        assert source["Configuration"]["OutputArtifactFormat"] == "CODEBUILD_CLONE_REF"


def test_a_pull_request_is_asked_for_in_codecommit_only() -> None:
    for more, asked in (({}, "yes"), ({"ConnectionArn": CONNECTION}, "no")):
        project = Toolchain(WEEKLY | more).resources["UpdateProject"]
        assert {"Name": "PULL_REQUEST", "Value": asked} in project["Environment"]["EnvironmentVariables"]


@pytest.mark.parametrize("service", ["codeconnections", "codestar-connections"])
def test_by_a_connection_the_update_pulls_two_repositories_and_pushes_to_its_own(service: str) -> None:
    may = lambda *call: CONNECTED.may("update", *using(*call, service))  # noqa: E731
    assert may("acme/rare-players", "GitPull") and may("acme/rare-players", "GitPush")
    assert may("platform/template", "GitPull") and not may("platform/template", "GitPush")
    assert not may("acme/other", "GitPull") and not may("acme/rare-players", "ListRepositories")
    assert not CONNECTED.may("update", f"{service}:UseConnection", CONNECTION, {})


@pytest.mark.parametrize("service", ["codeconnections", "codestar-connections"])
def test_by_a_connection_a_pipeline_reads_its_own_repository_and_no_other(service: str) -> None:
    for actor in ("build-pipeline", "deploy-pipeline", "update-pipeline"):
        for repository, reads in (("acme/rare-players", True), ("acme/other", False)):
            key = {f"{service}:FullRepositoryId": repository}
            assert CONNECTED.may(actor, f"{service}:UseConnection", CONNECTION, key) == reads, actor


def test_in_codecommit_the_update_pushes_to_its_own_branches_only() -> None:
    def push(**context: str) -> bool:
        return IN_CODECOMMIT.may("update", "codecommit:GitPush", REPOSITORY, context)

    key = "codecommit:References"
    assert push(**{key: f"refs/heads/template-update/{PROJECT}-1.5.0-3f2c1a9b"})
    assert push(), "the first call of a push names no branch"
    for other in ("refs/heads/main", "refs/heads/template-updates", "refs/tags/template-update/x", "refs/heads/x"):
        assert not push(**{key: other}), other
    assert IN_CODECOMMIT.may("update", "codecommit:GitPull", arn("codecommit", "template"), {})
    assert not IN_CODECOMMIT.may("update", "codecommit:GitPush", arn("codecommit", "template"), {})
    assert IN_CODECOMMIT.may("update", "codecommit:CreatePullRequest", REPOSITORY, {})
    for action in ("DeleteBranch", "PutFile", "CreateCommit", "MergePullRequestByFastForward", "CreateBranch"):
        assert not IN_CODECOMMIT.may("update", f"codecommit:{action}", REPOSITORY, {}), action


NEITHER_MAY = [
    ("s3:GetObject", f"{BUCKET}/data/telemetry/part-0.parquet"),
    ("s3:GetObject", f"{BUCKET}/packages/set/best_ranking/model.tar.gz"),
    ("s3:PutObject", f"{BUCKET}/code/abc/source.tar.gz"),
    ("s3:PutObject", f"{BUCKET}/champion/package.tar.gz"),
    ("s3:PutObject", f"{ARTIFACTS}/rare-players-build/BuildSrc/a.zip"),
    ("s3:PutObject", f"{ARTIFACTS}/rare-players-deploy/DeploySrc/a.zip"),
    ("sagemaker:UpdatePipeline", sagemaker(f"pipeline/{PROJECT}-training")),
    ("sagemaker:UpdateModelPackage", sagemaker(f"model-package/{GROUP}/3")),
    ("codebuild:StartBuild", arn("codebuild", f"project/{PROJECT}-build")),
    ("codepipeline:StartPipelineExecution", arn("codepipeline", f"{PROJECT}-build")),
    ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
    ("cloudformation:UpdateStack", arn("cloudformation", f"stack/{PROJECT}-staging/x")),
    ("ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/champion")),
    ("iam:PassRole", role("pipeline"), TO_SAGEMAKER),
    ("sts:AssumeRole", role("build")),
]


@pytest.mark.parametrize("roles", [CONNECTED, IN_CODECOMMIT], ids=["connection", "CodeCommit"])
@pytest.mark.parametrize("actor", ["update", "update-pipeline"])
def test_an_update_reaches_nothing_else(roles: Roles, actor: str) -> None:
    assert excesses(roles, actor, NEITHER_MAY) == []
    [trust] = roles.trust(actor)
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}
    assert trust["Condition"]["ArnLike"]["aws:SourceArn"].rstrip("*").endswith(f"{PROJECT}-update")


def test_the_two_roles_may_do_their_work() -> None:
    for call in (
        ("s3:GetObject", f"{ARTIFACTS}/rare-players-update/UpdateSrc/a.zip"),
        ("kms:Decrypt", KEY),
        ("sns:Publish", arn("sns", f"{PROJECT}-notifications")),
        ("kms:GenerateDataKey", KEY),  # to write to the encrypted topic
        ("logs:PutLogEvents", arn("logs", f"log-group:/aws/codebuild/{PROJECT}-update:log-stream:x")),
    ):
        assert CONNECTED.may("update", *call, {}), call
    for call in (
        ("s3:PutObject", f"{ARTIFACTS}/rare-players-update/UpdateSrc/a.zip"),
        ("codebuild:StartBuild", arn("codebuild", f"project/{PROJECT}-update")),
    ):
        assert CONNECTED.may("update-pipeline", *call, {}), call
    assert IN_CODECOMMIT.may("update-pipeline", "codecommit:GetRepository", REPOSITORY, {})
    assert not IN_CODECOMMIT.may("update-pipeline", "codecommit:GitPush", REPOSITORY, {})


def test_a_bundle_of_the_template_is_all_that_is_read_of_its_bucket() -> None:
    roles = Roles(Toolchain(WEEKLY | {"TemplatesBucketName": "templates"}))
    assert roles.may("update", "s3:GetObject", "arn:aws:s3:::templates/scarcegan/template.bundle", {})
    assert not roles.may("update", "s3:GetObject", "arn:aws:s3:::templates/scarcegan/answers.json", {})
    assert not roles.may("update", "s3:PutObject", "arn:aws:s3:::templates/scarcegan/template.bundle", {})


def test_in_a_vpc_the_build_gets_its_interface() -> None:
    stack = Toolchain(WEEKLY | {"VpcId": "vpc-1", "SubnetIds": "s", "SecurityGroupIds": "g"})
    assert stack.resources["UpdateProject"]["VpcConfig"]["VpcId"] == "vpc-1"
    there = ("ec2:CreateNetworkInterface", arn("ec2", "subnet/subnet-1"))
    vpc = {"ec2:Vpc": arn("ec2", "vpc/vpc-1")}
    assert Roles(stack).may("update", *there, vpc) and not Roles(stack).may("update-pipeline", *there, vpc)


def test_no_new_role_has_the_name_of_another_and_all_names_fit() -> None:
    actors = set(Roles(STACK).properties) - set(Roles(Toolchain(GIVEN)).properties)
    assert actors == {"update", "update-pipeline"}
    assert all(len(actor) <= 16 for actor in actors)


def test_commands_hold_no_text_of_parameters() -> None:
    stack = Toolchain(WEEKLY)
    assert stack.resources["UpdateProject"]["Source"]["BuildSpec"] == "infra/update.buildspec.yml"
    [action] = stack.resources["UpdatePipeline"]["Stages"][1]["Actions"]
    assert set(action["Configuration"]) == {"ProjectName"}
