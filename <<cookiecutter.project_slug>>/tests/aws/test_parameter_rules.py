"""Values of the toolchain's parameters that AWS refuses and the templates' patterns take, told before they are sent."""

import pytest
from botocore.session import get_session

import stacks
from scarcegan.aws import accounts, parameter_rules, toolchain
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from scarcegan.sagemaker import bundle

ROOT = stacks.INFRA.parent
CODE = bundle.function_code(ROOT)
OWN, OTHER = "123456789012", "222211110000"
GROUP = "arn:aws:sagemaker:{}:999988887777:model-package-group/g"


def plan(settings=None, **given):
    return toolchain.plan_toolchain(ROOT, Config.model_validate(settings or {}), given, CODE)


def refusal(settings=None, **given):
    with pytest.raises(UserError) as refused:
        plan(settings, **given)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("UpdateSchedule", "cron(0 5 * * *)", "has 5 fields, EventBridge takes 6"),
        ("UpdateSchedule", "rate(7)", "expected rate(7 days) or cron(0 5 ? * MON *)."),
        ("UpdateSchedule", "rate(0 days)", "a rate is at least 1"),
        ("UpdateSchedule", "rate(1 days)", "a rate of 1 has minute, hour or day, any other minutes, hours or days"),
        ("UpdateSchedule", "rate(7 day)", "a rate of 1 has minute, hour or day, any other minutes, hours or days"),
        ("UpdateSchedule", "cron(61 99 ? * FOO *)", "'61' is not minutes"),
        ("ModelPackageGroupReaders", f"{OTHER},{OTHER}", f"it names {OTHER} twice."),
        ("ModelPackageGroupReaders", f"{OTHER},", "there is nothing between two of its commas"),
        ("SubnetIds", "subnet-1,subnet-1", "it names subnet-1 twice."),
        ("SubnetIds", "mine", "'mine' is no id such as subnet-0a1b2c3d."),
        ("SubnetIds", ",".join(f"subnet-{number}" for number in range(17)), "there may be 16 at most."),
        ("SecurityGroupIds", "subnet-1", "'subnet-1' is no id such as sg-0a1b2c3d."),
        ("SecurityGroupIds", ",".join(f"sg-{number}" for number in range(6)), "there may be 5 at most."),
        ("KeepScoresDays", "2147483648", "it is a number of at most 2147483647."),
        ("KeepRunsDays", "30", "steps come from the cache for cloud.cache_days (30) days"),
        ("NotificationEmail", "a@b", "the part behind the @ is no domain"),
        ("SecurityEmail", "a@b..com", "the part behind the @ is no domain"),
        ("NotificationEmail", "a@b.com,c", "it is one address"),
        (
            "PermissionsBoundaryArn",
            "arn:aws-cn:iam::aws:policy/edge",
            "of the partition aws-cn, the region eu-west-1 of",
        ),
        ("DataKeyArn", f"arn:aws-us-gov:kms:us-gov-west-1:{OWN}:key/a", "of the partition aws-us-gov, the region"),
        ("DataBucketName", "a..b", "a bucket's name has no two dots in a row"),
        ("AccessLogBucketName", "192.168.0.1", "is no IP address"),
        ("PackageIndexUrl", "https://a..b/simple/", "'a..b' is no name of a host."),
        ("PackageIndexUrl", "https://mirror:99999/simple/", "a port is a number from 1 to 65535."),
    ],
)
def test_what_aws_refuses_and_a_pattern_takes_is_refused_with_one_sentence(name, value, words):
    assert words in refusal(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UpdateSchedule", "rate(1 day)"),
        ("UpdateSchedule", "rate(10 days)"),
        ("UpdateSchedule", "cron(0 6 ? * MON *)"),
        ("ModelPackageGroupReaders", f"{OTHER},333322221111"),
        ("KeepRunsDays", "31"),
        ("NotificationEmail", "a.b+c@mail.example.com"),
        ("PermissionsBoundaryArn", "arn:aws:iam::aws:policy/edge"),
        ("DataBucketName", "a.b-c"),
        ("PackageIndexUrl", "https://mirror.example.com:8443/simple/"),
        ("StagingAccount", OWN),
    ],
)
def test_what_aws_takes_passes(name, value):
    assert plan(**{name: value}).given[name] == value


def test_a_branch_that_git_refuses_is_told_in_words():
    assert "no part begins with . or -, holds .. or ends in . or .lock" in refusal(Branch="main.lock")


def test_limits_of_a_network_are_those_of_aws_own_description_of_lambda():
    shape = get_session().get_service_model("lambda").shape_for("VpcConfig")
    assert shape.members["SubnetIds"].metadata["max"] == parameter_rules.MOST_SUBNETS
    assert shape.members["SecurityGroupIds"].metadata["max"] == parameter_rules.MOST_SECURITY_GROUPS


def test_a_group_of_another_region_is_refused_with_both_regions():
    settings = {"project": {"region": "eu-west-1", "model_package_group": GROUP.format("us-east-1")}}
    assert refusal(settings) == (
        "config.yaml: project.model_package_group: the group is in us-east-1, the project in eu-west-1 (config.yaml: "
        "project.region). Give a group of that region."
    )
    settings["project"]["model_package_group"] = GROUP.format("eu-west-1")
    assert plan(settings).given["ModelPackageGroupAccount"] == "999988887777"


@pytest.mark.parametrize("given", [{"CreateModelPackageGroup": "yes"}, {"ModelPackageGroupAccount": OTHER}])
def test_what_the_arn_of_the_group_says_is_not_said_otherwise(given):
    settings = {"project": {"model_package_group": GROUP.format("eu-west-1")}}
    assert "project.model_package_group in config.yaml is an ARN" in refusal(settings, **given)
    assert plan(settings, CreateModelPackageGroup="no", ModelPackageGroupAccount="999988887777")


COMBINATIONS = {  # Rules of the templates, which CloudFormation asserts -> values against them
    "AnotherAccountsGroupExists": {"ModelPackageGroupAccount": OTHER},
    "OneFolderOfYourBucket": {"DataBucketName": "acme"},
    "SecondApproverIsAPerson": {"SecondApprover": "yes"},
}


def test_every_rule_of_a_template_is_checked_before_cloudformation_asserts_it():
    assert {rule for stack in stacks.TOOLCHAIN for rule in stacks.body_of(stack).get("Rules", {})} == set(COMBINATIONS)
    for values in COMBINATIONS.values():
        assert parameter_rules.combination_problem(values).endswith(("…", "labels.", "two."))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ModelPackageGroupReaders": f"{OTHER},{OWN}"}, f"names {OWN}, the toolchain's own account"),
        ({"PermissionsBoundaryArn": f"arn:aws:iam::{OTHER}:policy/edge"}, f"a policy of account {OTHER}"),
        ({"Repository": "rare.git"}, "CodeCommit has no repository rare.git"),
        ({"Repository": "r" * 101}, "a name has at most 100 characters"),
        ({"Repository": "rare", "ConnectionArn": "arn"}, "--repository OWNER/rare"),
        ({"Repository": "rare", "TemplateRepository": "acme/template"}, "acme/template needs a connection"),
        ({"ModelPackageGroupReaders": OTHER, "PermissionsBoundaryArn": f"arn:aws:iam::{OWN}:policy/edge"}, ""),
        ({"Repository": "r" * 100}, ""),
    ],
)
def test_values_fit_the_account_and_the_kind_of_repository(values, words):
    problem = parameter_rules.combination_problem(values, OWN)
    assert (words in problem) if words else not problem
    assert not parameter_rules.account_problem(values, ""), "of an unknown account nothing is said"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"SubnetIds": "subnet-1,subnet-1"}, "it names subnet-1 twice"),
        ({"NotificationEmail": "a@b"}, "is no domain"),
    ],
)
def test_the_stack_of_a_stages_account_is_held_to_the_same_rules(given, words):
    with pytest.raises(UserError, match=words):
        accounts.plan_target(ROOT, Config(), "staging", given)
