"""Stages in accounts of their own: who is asked, with which role. Two accounts of moto; CloudFormation from a table.

moto takes the ARN of any role, whatever its policies say: who may assume which is in infra/test_several_accounts.py.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws

import released
import stacks as templates
from canned_aws import NAMES, Canned, Refusal
from scarcegan.aws import account_checks, accounts, client, quotas, teardown, toolchain
from scarcegan.aws.accounts import STAGES
from scarcegan.aws.client import Aws
from scarcegan.aws.findings import OK, WOULD_FAIL
from scarcegan.aws.names import Names
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from scarcegan.release import release
from scarcegan.sagemaker import bundle

ROOT = templates.INFRA.parent
THERE = "444455556666"
CONFIG = Config.model_validate({"project": {"name": NAMES.project, "region": NAMES.region}})
OUTPUTS = {
    "StageKeyArn": f"arn:aws:kms:{NAMES.region}:{THERE}:key/theirs",
    "StageTopicArn": f"arn:aws:sns:{NAMES.region}:{THERE}:{NAMES.project}-production-alarms",
    "CaptureBucketName": "captures",
}
STORAGE = {
    "KeyArn": f"arn:aws:kms:{NAMES.region}:{NAMES.account}:key/0a1b",
    "BucketName": NAMES.bucket,
    "ArtifactsBucketName": "artifacts",
    "ToolchainAccount": NAMES.account,
}


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """Access to the toolchain's account in moto; the profile acme-production is of another one."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        session = boto3.Session(region_name=NAMES.region)
        key = session.client("sts").assume_role(RoleArn=f"arn:aws:iam::{THERE}:role/admin", RoleSessionName="test")
        key = key["Credentials"]
        words = f"aws_access_key_id={key['AccessKeyId']}\naws_secret_access_key={key['SecretAccessKey']}\n"
        file = tmp_path / "credentials"
        file.write_text(f"[acme-production]\n{words}aws_session_token={key['SessionToken']}\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        yield Aws(NAMES, session)


def there() -> boto3.Session:
    return boto3.Session(profile_name="acme-production", region_name=NAMES.region)


def publish(aws: Aws, **accounts_of_stages: str) -> None:
    aws.client("ssm").put_parameter(
        Name=f"/{NAMES.project}/accounts", Type="String", Value=json.dumps(accounts_of_stages)
    )


class Boto3:
    """In place of boto3: a session for a profile or for keys, which the test gives; `asked` is how it was asked for."""

    def __init__(self, session):
        self.session, self.asked = session, []

    def Session(self, *keys, **options):
        self.asked.append((keys, options))
        return self.session


def described(name="x", outputs=None, status="CREATE_COMPLETE", **parameters):
    about = {
        "StackName": name,
        "StackId": NAMES.arn("cloudformation", f"stack/{name}/1"),
        "CreationTime": datetime(2026, 12, 1, tzinfo=UTC),
        "StackStatus": status,
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in (outputs or {}).items()],
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    }
    return {"Stacks": [about]}


# -- access -----------------------------------------------------------------------------------------------------------


def test_a_stage_is_in_the_toolchains_account_unless_another_is_published(aws):
    assert accounts.access_to_stage(aws, "production") is aws
    publish(aws, production=THERE)
    assert accounts.access_to_stage(aws, "staging") is aws
    assert "sts" not in aws.clients, "nobody is asked for a role"


@pytest.mark.parametrize("actor", ["look", "ask"])
def test_a_stage_in_another_account_is_reached_as_a_role_of_that_account(aws, actor):
    publish(aws, production=THERE)
    found = accounts.access_to_stage(aws, "production", actor)
    assert found.names == NAMES.__class__(NAMES.project, THERE, NAMES.region)
    who = found.client("sts").get_caller_identity()
    assert who["Arn"].startswith(f"arn:aws:sts::{THERE}:assumed-role/{NAMES.role(f'{actor}-production')}/")


def test_status_reads_each_stage_where_it_is(aws):
    publish(aws, production=THERE)
    for client_, name, value in (
        (there().client("ssm"), "production/version", "7"),
        (aws.client("ssm"), "production/version", "3"),
        (aws.client("ssm"), "staging/version", "8"),
    ):
        client_.put_parameter(Name=f"/{NAMES.project}/{name}", Type="String", Value=value)
    assert [(one["stage"], one["version"]) for one in release.stage_statuses(aws)] == [
        ("staging", "8"),
        ("production", "7"),
    ]


DENIED = Refusal("AccessDenied", "User: x is not authorized to perform: sts:AssumeRole", 403)


def test_an_account_that_lets_nobody_in_says_which_role_and_what_to_type():
    aws = Aws(NAMES, Canned({"sts:AssumeRole": DENIED}))
    with pytest.raises(UserError) as error:
        accounts.enter(aws, THERE, "production", "look")
    said = str(error.value)
    assert f"arn:aws:iam::{THERE}:role/{NAMES.role('look-production')}" in said
    assert "scarcegan toolchain deploy-target production" in said and "sts:AssumeRole" in said


def test_status_says_that_an_account_lets_nobody_in_and_goes_on():
    value = {"Parameter": {"Value": json.dumps({"production": THERE})}}
    missing = Refusal("ParameterNotFound")
    answers = {
        "sts:AssumeRole": DENIED,
        "ssm:GetParameter": lambda asked: value if asked["Name"].endswith("/accounts") else missing,
    }
    staging, production = release.stage_statuses(Aws(NAMES, Canned(answers)))
    assert staging["state"] == release.NO_ENDPOINT["staging"]
    assert "deploy-target production" in production["state"]


# -- a release --------------------------------------------------------------------------------------------------------


KEYS = {
    "AccessKeyId": "A" * 16,
    "SecretAccessKey": "s",
    "SessionToken": "t",
    "Expiration": datetime(2026, 12, 1, tzinfo=UTC),
}
NO_STACK = Refusal("ValidationError", "Stack with id x does not exist")


def named(**accounts_of_stages):
    """An account of the toolchain that publishes these accounts and may assume their roles."""
    value = {"Parameter": {"Value": json.dumps(accounts_of_stages)}}
    return Aws(NAMES, Canned({"ssm:GetParameter": value, "sts:AssumeRole": {"Credentials": KEYS}}))


def test_a_stage_in_its_own_account_gets_that_accounts_key_topic_and_bucket_from_a_table(monkeypatch):
    outputs = {**OUTPUTS, "SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"}
    session = Canned({"cloudformation:DescribeStacks": described(outputs=outputs)})
    monkeypatch.setattr(client, "library", lambda _: Boto3(session))
    assert accounts.endpoint_parameters_elsewhere(named(staging=THERE), "production") == {}
    found = accounts.endpoint_parameters_elsewhere(named(production=THERE), "production")
    assert found == {
        "KmsKeyArn": OUTPUTS["StageKeyArn"],
        "TopicArn": OUTPUTS["StageTopicArn"],
        "CodeBucketName": NAMES.bucket,
        "CaptureBucketName": "captures",
        "Subnets": "subnet-1,subnet-2",
        "SecurityGroups": "sg-1",
        "FunctionSubnets": "subnet-1,subnet-2",
        "FunctionSecurityGroups": "sg-1",
    }
    assert session.calls == [("cloudformation:DescribeStacks", {"StackName": f"{NAMES.project}-target-production"})]
    declared = toolchain.read_template(ROOT, Path("infra/endpoint.yaml"))["Parameters"]
    assert found.keys() <= declared.keys()
    made = toolchain.read_template(ROOT, accounts.TEMPLATE)["Outputs"]
    assert outputs.keys() == made.keys()


def test_an_account_that_is_not_prepared_ends_a_release_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(client, "library", lambda _: Boto3(Canned({"cloudformation:DescribeStacks": NO_STACK})))
    with pytest.raises(UserError, match="deploy-target production"):
        accounts.endpoint_parameters_elsewhere(named(production=THERE), "production")


# -- the stack of a stage's account ------------------------------------------------------------------------------------


def plan(stage="production", **given):
    return accounts.plan_target(ROOT, CONFIG, stage, given)


def test_the_plan_takes_what_the_toolchain_knows_from_it_and_asks_for_nothing_else():
    [stack] = plan(NotificationEmail="ops@example.com").stacks
    assert stack.name == f"{NAMES.project}-target-production"
    assert stack.inputs.keys() == STORAGE.keys()
    declared = toolchain.read_template(ROOT, accounts.TEMPLATE)["Parameters"]
    needed = {name for name, about in declared.items() if "Default" not in about}
    assert needed <= stack.inputs.keys() | stack.parameters.keys()
    assert (stack.parameters["Stage"], stack.parameters["NotificationEmail"]) == ("production", "ops@example.com")


def test_the_group_of_another_account_is_that_accounts_in_the_stages_too():
    arn = f"arn:aws:sagemaker:{NAMES.region}:222211110000:model-package-group/shared"
    given = {"name": NAMES.project, "region": NAMES.region, "model_package_group": arn}
    [stack] = accounts.plan_target(ROOT, Config.model_validate({"project": given}), "staging", {}).stacks
    assert stack.parameters["ModelPackageGroupAccount"] == "222211110000"


@pytest.mark.parametrize(
    ("stage", "given", "words"),
    [
        ("test", {}, "no stage 'test'"),
        ("staging", {"Stage": "production"}, "it is the stage that you name"),
        ("staging", {"KeyArn": "x"}, "is an output of the stack"),
        ("staging", {"SageMakerProjectName": "x"}, "project.name"),
        ("staging", {"VpcID": "vpc-1"}, "Did you mean 'VpcId'"),
        ("staging", {"VpcId": "vpc 1"}, "is refused for VpcId"),
    ],
)
def test_what_cannot_be_given_is_refused_before_anything_is_asked(stage, given, words):
    with pytest.raises(UserError, match=words):
        accounts.plan_target(ROOT, CONFIG, stage, given)


def test_the_commands_ask_the_toolchain_with_the_usual_credentials_and_deploy_with_the_profile():
    lines = accounts.target_commands(plan(), "acme production")
    text = "\n".join(lines)
    assert text.count("--profile 'acme production'") == text.count("aws cloudformation deploy ") == 1
    asked = [line for line in lines if "describe-stacks" in line]
    assert len(asked) == len(STORAGE) and not any("--profile" in line for line in asked)
    for name in STORAGE:
        assert f'{name}="${name}"' in text


class TheirCloudFormation:
    """CloudFormation of the stage's account: the stack is there once its change set was executed."""

    def __init__(self, account=THERE):
        self.made = None
        self.session = Canned(
            {
                "sts:GetCallerIdentity": {"Account": account, "Arn": f"arn:aws:iam::{account}:user/ada", "UserId": "u"},
                "cloudformation:DescribeStacks": lambda _: self.made or NO_STACK,
                "cloudformation:CreateChangeSet": {"Id": f"arn:aws:cloudformation:x:{account}:changeSet/x"},
                "cloudformation:DescribeChangeSet": {"Status": "CREATE_COMPLETE"},
                "cloudformation:ExecuteChangeSet": self.execute,
            }
        )

    def execute(self, _):
        self.made = described(outputs=OUTPUTS)
        return {}


def deployed(monkeypatch, theirs, planned=None, **parameters):
    """What deploying production's target says, with a toolchain of these parameters; and how boto3 was asked."""
    stand_in = Boto3(theirs.session)
    monkeypatch.setattr(client, "library", lambda _: stand_in)
    monkeypatch.setattr(toolchain, "STACK_POLL_SECONDS", 0)
    aws = Aws(NAMES, Canned({"cloudformation:DescribeStacks": described(outputs=STORAGE, **parameters)}))
    done = accounts.deploy_target(planned or plan(), "production", "acme", ROOT, aws, lambda _: None)
    return done, stand_in.asked


def test_a_target_is_made_with_the_profiles_credentials_and_the_toolchains_values_from_a_table(monkeypatch):
    theirs = TheirCloudFormation()
    done, asked = deployed(monkeypatch, theirs, ProductionAccount=THERE)
    assert asked == [((), {"profile_name": "acme", "region_name": NAMES.region})]
    assert done == {
        "stack": f"{NAMES.project}-target-production",
        "account": THERE,
        "done": "created",
        "outputs": OUTPUTS,
    }
    [request] = [sent for name, sent in theirs.session.calls if name == "cloudformation:CreateChangeSet"]
    given = {one["ParameterKey"]: one["ParameterValue"] for one in request["Parameters"]}
    assert {name: given[name] for name in STORAGE} == STORAGE and given["Stage"] == "production"
    assert request["TemplateBody"] == (ROOT / accounts.TEMPLATE).read_text(encoding="utf-8")
    assert (request["ChangeSetType"], request["Capabilities"]) == ("CREATE", ["CAPABILITY_NAMED_IAM"])
    assert {"Key": "sagemaker:project-name", "Value": NAMES.project} in request["Tags"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"ProductionAccount": "999900001111"}, "of the toolchain, 999900001111"),
        ({"ProductionAccount": ""}, f"--set ProductionAccount={THERE}"),
        ({"ProductionAccount": NAMES.account}, f"--set ProductionAccount={THERE}"),
        ({}, f"--set ProductionAccount={THERE}"),
    ],
)
def test_a_profile_of_another_account_than_the_toolchain_names_makes_nothing(monkeypatch, parameters, words):
    theirs = TheirCloudFormation()
    with pytest.raises(UserError, match=words):
        deployed(monkeypatch, theirs, **parameters)
    assert theirs.session.made == ["sts:GetCallerIdentity"]


def test_without_a_toolchain_there_is_no_target():
    aws = Aws(NAMES, Canned({"cloudformation:DescribeStacks": NO_STACK}))
    with pytest.raises(UserError, match="the toolchain is not deployed"):
        accounts.deploy_target(plan(), "production", "acme", ROOT, aws, print)


def test_a_vpc_lacks_no_part(monkeypatch):
    theirs = TheirCloudFormation()
    with pytest.raises(UserError, match="only VpcId is given"):
        deployed(monkeypatch, theirs, plan(VpcId="vpc-1a"), ProductionAccount=THERE)
    assert "cloudformation:CreateChangeSet" not in theirs.session.made


def test_a_role_takes_no_boundary_of_another_account(monkeypatch):
    theirs = TheirCloudFormation()
    bounded = plan(PermissionsBoundaryArn=f"arn:aws:iam::{NAMES.account}:policy/edge")
    with pytest.raises(
        UserError, match=f"a policy of account {NAMES.account}, and a role takes one of its own account"
    ):
        deployed(monkeypatch, theirs, bounded, ProductionAccount=THERE)
    assert "cloudformation:CreateChangeSet" not in theirs.session.made


def test_a_target_whose_first_deployment_failed_is_made_again(monkeypatch):
    theirs, deleted = TheirCloudFormation(), []
    theirs.made = described(f"{NAMES.project}-target-production", status="ROLLBACK_COMPLETE")

    def delete(asked):
        theirs.made = None
        deleted.append(asked["StackName"])
        return {}

    theirs.session.answers = {**theirs.session.answers, "cloudformation:DeleteStack": delete}
    done, _ = deployed(monkeypatch, theirs, ProductionAccount=THERE)
    assert (deleted, done["done"]) == ([f"{NAMES.project}-target-production"], "created")


def test_a_target_that_cannot_be_changed_names_the_profile_in_its_command(monkeypatch):
    theirs = TheirCloudFormation()
    theirs.made = described(f"{NAMES.project}-target-production", status="UPDATE_FAILED")
    with pytest.raises(UserError, match="rollback-stack --region eu-west-1 --profile acme --stack-name"):
        deployed(monkeypatch, theirs, ProductionAccount=THERE)


def test_a_stage_in_another_account_has_its_number_in_place_of_a_profile(aws):
    there = Aws(Names(NAMES.project, THERE, NAMES.region), Canned({}))
    assert accounts.profile_to_type(aws, there) == f"PROFILE-OF-{THERE}"
    assert accounts.profile_to_type(aws, aws) == ""


def test_a_machine_that_the_endpoint_of_a_stage_in_another_account_may_not_have_is_refused_with_the_way():
    config = Config.model_validate({"cloud": {"endpoint": {"instance": "ml.inf2.xlarge"}}})
    published = {f"/{NAMES.project}/production/endpoint-instance-types": {"Parameter": {"Value": "ml.m5.large"}}}
    answers = {"ssm:GetParameter": lambda asked: published[asked["Name"]]}
    there = Aws(Names(NAMES.project, THERE, NAMES.region), Canned(answers))
    said = quotas.refused_endpoint_machine(Aws(NAMES, Canned({})), there, config, "production")
    assert "no endpoint have cloud.endpoint.instance=ml.inf2.xlarge" in said
    assert f"deploy-target production --profile PROFILE-OF-{THERE} --set EndpointInstanceTypes=ml.m5.large," in said
    assert quotas.refused_endpoint_machine(Aws(NAMES, Canned({})), there, Config(), "production") == ""


# -- doctor and teardown -----------------------------------------------------------------------------------------------


def test_doctor_says_whether_a_stages_account_is_prepared(aws):
    code = bundle.function_code(ROOT)
    for access, state in ((aws, OK), (Aws(NAMES, Canned({"sts:AssumeRole": DENIED})), WOULD_FAIL)):
        given = {"ProductionAccount": THERE, "StagingAccount": NAMES.account}
        account = account_checks.Account(access, CONFIG, ROOT, given, code, {})
        [finding] = account_checks.stage_account_findings(account)
        assert (finding.check, finding.state) == (f"account {THERE} of production", state)
    assert "does not let you in" in finding.found and "deploy-target production" in finding.fix


def test_teardown_names_the_stacks_of_a_stages_account_and_touches_none_there():
    aws = Aws(NAMES, Canned({"cloudformation:DescribeStacks": described(ProductionAccount=THERE, StagingAccount="")}))
    [left] = teardown.stages_elsewhere(aws)
    assert f"{NAMES.project}-production and {NAMES.project}-target-production in account {THERE}" in left.what
    assert left.by_hand.index(f"delete-stack --region {NAMES.region} --stack-name {NAMES.project}-production") < (
        left.by_hand.index(f"{NAMES.project}-target-production")
    )
    planned = teardown.TeardownPlan(NAMES, [], [], [left])
    assert left.what in "\n".join(teardown.plan_lines(planned)) and planned.describe()["left"][0]["what"] == left.what


def test_an_expired_session_is_no_missing_account():
    expired = Refusal("ExpiredToken", "the token has expired", 403)
    with pytest.raises(Exception, match="ExpiredToken"):
        accounts.enter(Aws(NAMES, Canned({"sts:AssumeRole": expired})), THERE, "staging", "look")


def test_a_release_gives_each_stage_what_its_own_account_has(tmp_path):
    """The template then comes to roles and buckets of that account; in the toolchain's account to today's."""
    released_package, folder = released.package(), tmp_path / "package"
    released.package_files(folder)
    config = Config.model_validate(yaml.safe_load(released.CONFIG))
    elsewhere = {
        "KmsKeyArn": OUTPUTS["StageKeyArn"],
        "TopicArn": OUTPUTS["StageTopicArn"],
        "CodeBucketName": released.NAMES.bucket,
        "CaptureBucketName": "captures",
    }
    inputs = release.ReleaseInputs(
        released.NAMES.arn("sagemaker", "model-package/risky-players/5"),
        released.KEY,
        released.TOPIC,
        "functions/rare-share-0a1b.zip",
        "r5",
        elsewhere={"production": elsewhere},
    )
    stages = release.release_of_package(config, released_package, folder, None, inputs).stages
    staging, production = (stages[stage]["Parameters"] for stage in STAGES)
    assert (staging["KmsKeyArn"], staging["CaptureBucketName"], staging["CodeBucketName"]) == (released.KEY, "", "")
    assert {name: production[name] for name in elsewhere} == elsewhere
    assert production["ModelPackageArn"].split(":")[4] == released.NAMES.account, "the registry stays"
    stack = templates.Stack("endpoint.yaml", production, THERE).resources
    start = f"arn:aws:iam::{THERE}:role/{released.NAMES.project}-{released.NAMES.region}"
    assert stack["Model"]["ExecutionRoleArn"] == f"{start}-serve-production"
    assert stack["RareShareFunction"]["Role"] == f"{start}-count-production"
    assert stack["RareShareFunction"]["KmsKeyArn"] == stack["EndpointConfig"]["KmsKeyId"] == OUTPUTS["StageKeyArn"]
