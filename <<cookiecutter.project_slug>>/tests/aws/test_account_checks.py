"""What the checks of an AWS account find. AWS answers from a table; a call that the table lacks is denied."""

from datetime import UTC, datetime

import pytest

import pages
import stacks as templates
from canned_aws import ME, MISSING, NAMES, Refusal, connected
from scarcegan.aws import account_checks, toolchain
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WARNING, WOULD_FAIL, look
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from scarcegan.sagemaker import bundle

ROOT = templates.INFRA.parent
CODE = bundle.function_code(ROOT)
MOMENT = datetime(2026, 12, 1, tzinfo=UTC)
CONNECTION = "arn:aws:codeconnections:eu-west-1:123456789012:connection/0a1b"
KEY = NAMES.arn("kms", "key/1234")
TRAIL = NAMES.arn("cloudtrail", "trail/all")
BOUNDARY = f"arn:aws:iam::{NAMES.account}:policy/edge"
FORBIDDEN = Refusal("403", "Forbidden", 403)
NO_STACK = Refusal("ValidationError", "Stack with id x does not exist")
READS = ("Get", "List", "Describe", "Head", "Simulate")


def settings(**sections):
    return Config.model_validate({"project": {"name": NAMES.project, "region": NAMES.region}, **sections})


def deployed(**stacks):
    """DescribeStacks, of an account with these stacks: name -> status, or status and outputs."""

    def describe(asked):
        name = asked["StackName"].removeprefix(f"{NAMES.project}-").replace("-", "_")
        if name not in stacks:
            return NO_STACK
        status, outputs, parameters = (stacks[name], {}, {}) if isinstance(stacks[name], str) else stacks[name]
        about = {"StackName": asked["StackName"], "CreationTime": MOMENT, "StackStatus": status}
        about["Outputs"] = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
        about["Parameters"] = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        return {"Stacks": [about]}

    return {"cloudformation:DescribeStacks": describe}


STORAGE = (
    "CREATE_COMPLETE",
    {"KeyArn": KEY, "BucketName": NAMES.bucket},
    {"Repository": "acme/rare", "ModelPackageGroupName": NAMES.project},
)
ALL = dict.fromkeys((name.replace("-", "_") for name in toolchain.STACKS), "CREATE_COMPLETE") | {"storage": STORAGE}


def connection(**changes):
    about = {"ConnectionArn": CONNECTION, "ProviderType": "GitHub", "ConnectionStatus": "AVAILABLE", **changes}
    return {"Connection": about}


def role(asked):
    arn = f"arn:aws:iam::{NAMES.account}:role/{asked['RoleName']}"
    return {"Role": {"Path": "/", "RoleName": asked["RoleName"], "RoleId": "A" * 16, "Arn": arn, "CreateDate": MOMENT}}


def findings(check, answers, given=None, config=None):
    """The findings of one check, in an account that answers so."""
    aws, _ = connected({**deployed(), **answers})
    found: dict = {}
    list(look("stacks", lambda: account_checks.stack_findings(aws, found)))
    account = account_checks.Account(aws, config or settings(), ROOT, given or {}, CODE, found)
    return look("check", lambda: check(account))


def test_a_user_who_may_do_nothing_gets_a_finding_per_check_with_the_action_and_no_error():
    aws, session = connected({})
    given = {"VpcId": "vpc-1", "SubnetIds": "subnet-1", "SecurityGroupIds": "sg-1"}
    found = list(account_checks.check_account(aws, settings(), ROOT, given, CODE))
    unseen = {finding.check: finding.found for finding in found if finding.state == COULD_NOT_LOOK}
    assert unseen["stacks"] == "you lack cloudformation:DescribeStacks"
    assert unseen["quotas"] == "you lack servicequotas:ListServiceQuotas"
    assert unseen["cost tags"] == "you lack ce:ListCostAllocationTags"
    assert unseen["VPC"] == "you lack ec2:DescribeSubnets"
    assert unseen["bucket"].endswith("the stacks cannot be seen")
    assert not [finding for finding in found if finding.state == WOULD_FAIL]
    assert session.made


def test_every_call_of_the_checks_only_reads():
    answers = {
        **deployed(**ALL),
        "sts:GetCallerIdentity": {"Account": NAMES.account, "Arn": ME},
        "iam:GetRole": role,
        "iam:GetPolicy": {"Policy": {"Arn": BOUNDARY}},
        "iam:SimulatePrincipalPolicy": {"EvaluationResults": [], "IsTruncated": False},
        "codeconnections:GetConnection": connection(),
        "s3:HeadBucket": {},
        "kms:DescribeKey": {"KeyMetadata": {"KeyId": "1234", "KeyState": "Enabled"}},
        "ce:ListCostAllocationTags": {"CostAllocationTags": []},
        "sagemaker:ListMonitoringSchedules": {"MonitoringScheduleSummaries": []},
        "service-quotas:ListServiceQuotas": {"Quotas": []},
        "service-quotas:ListAWSDefaultServiceQuotas": {"Quotas": []},
        "ec2:DescribeSubnets": {"Subnets": []},
        "ec2:DescribeSecurityGroups": {"SecurityGroups": []},
        "ec2:DescribeVpcEndpoints": {"VpcEndpoints": []},
        "ec2:DescribeRouteTables": {"RouteTables": []},
        "cloudtrail:DescribeTrails": {"trailList": [{"TrailARN": TRAIL, "Name": "all", "IsMultiRegionTrail": True}]},
        "cloudtrail:GetTrailStatus": {"IsLogging": True},
        "cloudtrail:GetEventSelectors": {"EventSelectors": [{}]},
        "sns:ListSubscriptionsByTopic": {"Subscriptions": []},
        "events:DescribeRule": {"State": "ENABLED"},
    }
    given = {"ConnectionArn": CONNECTION, "PermissionsBoundaryArn": BOUNDARY, "VpcId": "vpc-1", "SubnetIds": "subnet-1"}
    aws, session = connected(answers)
    list(account_checks.check_account(aws, settings(), ROOT, given, CODE))
    assert set(answers) - {"ec2:DescribeSecurityGroups"} <= set(session.made)
    assert [name for name in session.made if not name.split(":")[1].startswith(READS)] == []
    assert sorted(session.actions - pages.actions("Look before anything is made")) == []


def test_an_error_of_aws_that_is_no_denial_is_told_in_its_words():
    refusal = Refusal("ValidationException", "Linked account does not have access.")
    (finding,) = findings(account_checks.tag_findings, {"ce:ListCostAllocationTags": refusal})
    assert finding.state == COULD_NOT_LOOK
    said = "ListCostAllocationTags was refused (ValidationException: Linked account does not have access)"
    assert finding.found == said


def test_credentials_of_another_account_than_AWS_ACCOUNT_ID_would_fail():
    aws, _ = connected({"sts:GetCallerIdentity": {"Account": "999999999999", "Arn": ME}})
    (finding,) = account_checks.check_credentials(aws)
    assert finding.state == WOULD_FAIL and "AWS_ACCOUNT_ID is 123456789012" in finding.found


# -- stacks and names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stack", "status", "state", "said"),
    [
        ("storage", "ROLLBACK_COMPLETE", WARNING, "the next deployment replaces it"),
        ("pipeline", "ROLLBACK_COMPLETE", WARNING, "the next push replaces it"),
        (
            "staging",
            "ROLLBACK_COMPLETE",
            WOULD_FAIL,
            "delete-stack --region eu-west-1 --stack-name rare-players-staging",
        ),
        ("toolchain", "UPDATE_ROLLBACK_FAILED", WOULD_FAIL, "continue-update-rollback --region eu-west-1"),
        ("production", "DELETE_FAILED", WOULD_FAIL, "its deletion failed"),
        ("toolchain", "UPDATE_IN_PROGRESS", WARNING, "is being changed now"),
    ],
)
def test_a_stack_that_cannot_be_changed_is_named_with_its_mend(stack, status, state, said):
    aws, _ = connected(deployed(**{stack: status}))
    first, *_ = account_checks.stack_findings(aws, {})
    assert (first.check, first.state) == (f"stack rare-players-{stack}", state)
    assert said in f"{first.found} {first.fix}"


def test_stacks_that_are_fine_are_one_finding():
    aws, _ = connected(deployed(**ALL, staging="UPDATE_COMPLETE"))
    (finding,) = account_checks.stack_findings(aws, {})
    assert finding.state == OK and "rare-players-staging" in finding.found


@pytest.mark.parametrize(
    ("answer", "stacks", "state", "said"),
    [
        (Refusal("404", "Not Found", 404), {}, OK, "is free"),
        ({}, {}, WOULD_FAIL, "left from an earlier toolchain"),
        ({}, {"storage": STORAGE}, OK, "is the toolchain's"),
        (FORBIDDEN, {}, WOULD_FAIL, "it is another account's or you lack s3:ListBucket"),
        (FORBIDDEN, {"storage": STORAGE}, COULD_NOT_LOOK, "you lack s3:ListBucket"),
        (Refusal("301", "Moved", 301), {}, WOULD_FAIL, "exists, but not in eu-west-1"),
    ],
)
def test_the_bucket_is_free_ours_or_taken(answer, stacks, state, said):
    (finding,) = findings(account_checks.bucket_findings, {"s3:HeadBucket": answer, **deployed(**stacks)})
    assert finding.state == state and said in finding.found


GROUP = {
    "ModelPackageGroupName": "g",
    "ModelPackageGroupArn": NAMES.arn("sagemaker", "model-package-group/g"),
    "CreationTime": MOMENT,
    "CreatedBy": {},
    "ModelPackageGroupStatus": "Completed",
}
NO_GROUP = Refusal("ValidationException", "ModelPackageGroup g does not exist.")


@pytest.mark.parametrize(
    ("answer", "stacks", "given", "state"),
    [
        (NO_GROUP, {}, {}, OK),
        (GROUP, {}, {}, WOULD_FAIL),
        (GROUP, {"storage": ("CREATE_COMPLETE", {}, {"ModelPackageGroupName": "another"})}, {}, WOULD_FAIL),
        (GROUP, {"storage": ("ROLLBACK_COMPLETE", {}, {"ModelPackageGroupName": NAMES.project})}, {}, WOULD_FAIL),
        (GROUP, {"storage": STORAGE}, {}, OK),
        (GROUP, {}, {"CreateModelPackageGroup": "no"}, OK),
        (NO_GROUP, {}, {"CreateModelPackageGroup": "no"}, WOULD_FAIL),
    ],
)
def test_the_group_is_made_or_there_as_the_parameters_say(answer, stacks, given, state):
    answers = {"sagemaker:DescribeModelPackageGroup": answer, **deployed(**stacks)}
    (finding,) = findings(account_checks.group_findings, answers, given)
    assert finding.state == state
    if answer is GROUP and state == WOULD_FAIL:
        assert GROUP["ModelPackageGroupArn"] in finding.fix and "CreateModelPackageGroup=no" in finding.fix


def test_a_group_of_another_region_is_named_and_not_asked_for():
    arn = GROUP["ModelPackageGroupArn"].replace("eu-west-1", "us-east-1")
    project = {"name": NAMES.project, "region": NAMES.region, "model_package_group": arn}
    (finding,) = findings(account_checks.group_findings, {}, config=settings(project=project))
    assert finding.state == WOULD_FAIL and "is in us-east-1, the project in eu-west-1" in finding.found
    assert "Give a group of that region" in finding.fix


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ModelPackageGroupReaders": NAMES.account}, "the toolchain's own account"),
        ({"VpcId": "vpc-1"}, "SubnetIds and SecurityGroupIds are empty"),
        ({"PermissionsBoundaryArn": BOUNDARY, "SecondApprover": "yes"}, "ApproverIdentities is empty"),
    ],
)
def test_parameters_that_do_not_fit_each_other_or_the_account_would_fail(given, words):
    (finding,) = findings(account_checks.combination_findings, {}, given)
    assert finding.state == WOULD_FAIL and words in finding.found and "Type the command again" in finding.fix
    assert findings(account_checks.combination_findings, {}, {"Repository": "acme/rare"}) == [], "said elsewhere"


def test_roles_that_an_earlier_toolchain_left_would_fail():
    job = NAMES.role("job")

    def only_job(asked):
        return role(asked) if asked["RoleName"] == job else Refusal("NoSuchEntity", "no such role", 404)

    (finding,) = findings(account_checks.role_findings, {"iam:GetRole": only_job})
    assert finding.state == WOULD_FAIL and job in finding.found


def test_roles_that_somebody_deleted_from_a_toolchain_are_named():
    missing = {"iam:GetRole": Refusal("NoSuchEntity", "no such role", 404), **deployed(**ALL)}
    (finding,) = findings(account_checks.role_findings, missing)
    assert finding.state == WARNING and NAMES.role("serve-staging") in finding.found


def test_the_roles_that_are_looked_for_are_those_of_the_templates():
    bodies = [templates.body_of(name) for name in templates.TOOLCHAIN]
    roles = sum(about["Type"] == "AWS::IAM::Role" for body in bodies for about in body["Resources"].values())
    assert len(account_checks.role_actors(ROOT)) == roles
    assert {"job", "serve-staging"} <= set(account_checks.role_actors(ROOT))


@pytest.mark.parametrize(("answer", "state"), [({"Policy": {}}, OK), (Refusal("NoSuchEntity", "no", 404), WOULD_FAIL)])
def test_a_boundary_exists_or_would_fail(answer, state):
    given = {"PermissionsBoundaryArn": BOUNDARY}
    (finding,) = findings(account_checks.boundary_findings, {"iam:GetPolicy": answer}, given)
    assert finding.state == state


def test_without_a_boundary_nothing_is_said_about_it():
    assert findings(account_checks.boundary_findings, {}) == []


# -- who may deploy -------------------------------------------------------------------------------------------------


def simulated(*denied):
    def answer(asked):
        decided = [
            {"EvalActionName": name, "EvalDecision": "implicitDeny" if name in denied else "allowed"}
            for name in asked["ActionNames"]
        ]
        return {"EvaluationResults": decided, "IsTruncated": False}

    return {"iam:SimulatePrincipalPolicy": answer}


def test_the_simulator_is_asked_about_the_role_behind_a_session():
    session = f"arn:aws:sts::{NAMES.account}:assumed-role/developer/ada"
    answers = {"sts:GetCallerIdentity": {"Account": NAMES.account, "Arn": session}, "iam:GetRole": role}
    aws, calls = connected({**answers, **simulated()})
    account = account_checks.Account(aws, settings(), ROOT, {}, CODE, {})
    (finding,) = account_checks.deploying_findings(account)
    assert finding.state == OK
    assert calls.calls[-1][1]["PolicySourceArn"] == f"arn:aws:iam::{NAMES.account}:role/developer"


def test_actions_that_the_user_lacks_are_a_warning_because_the_simulator_does_not_know_all():
    who = {"sts:GetCallerIdentity": {"Account": NAMES.account, "Arn": ME}}
    (finding,) = findings(account_checks.deploying_findings, {**who, **simulated("iam:CreateRole", "kms:CreateKey")})
    assert (finding.state, finding.found) == (WARNING, "by IAM's simulator you may not iam:CreateRole, kms:CreateKey")


def test_every_type_of_resource_of_the_toolchain_has_the_action_that_creates_it():
    """Statically; the actions are names of operations of AWS's APIs."""
    import botocore.session

    types = {about["Type"] for name in templates.TOOLCHAIN for about in templates.body_of(name)["Resources"].values()}
    assert types - set(account_checks.CREATES) == set()
    service_of = {"codebuild": "codebuild", "logs": "logs", "monitoring": "cloudwatch"}
    session = botocore.session.get_session()
    for action in account_checks.CREATES.values():
        service, operation = action.split(":")
        model = session.get_service_model(service_of.get(service, service))
        assert operation in model.operation_names, action


# -- repository and connection --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "answer", "state", "said"),
    [
        ({}, None, COULD_NOT_LOOK, "not given yet"),
        ({"Repository": "acme/rare"}, None, WOULD_FAIL, "needs a connection"),
        ({"Repository": "acme/rare", "ConnectionArn": CONNECTION}, connection(), OK, "AVAILABLE"),
        (
            {"Repository": "acme/rare", "ConnectionArn": CONNECTION},
            connection(ConnectionStatus="PENDING"),
            WOULD_FAIL,
            "the connection to GitHub is PENDING",
        ),
        ({"Repository": "acme/rare", "ConnectionArn": CONNECTION}, MISSING, WOULD_FAIL, "there is no connection"),
        ({"Repository": "rare", "ConnectionArn": CONNECTION}, connection(), WOULD_FAIL, "has no owner"),
    ],
)
def test_a_connection_is_available_or_the_finding_says_what_to_do(given, answer, state, said):
    (finding,) = findings(account_checks.repository_findings, {"codeconnections:GetConnection": answer}, given)
    assert finding.state == state and said in finding.found


@pytest.mark.parametrize("arn", ["foo", "arn:1", f"{CONNECTION}?"])
def test_an_arn_that_is_none_of_a_connection_is_one_finding_and_asks_nothing(arn):
    aws, session = connected(deployed())
    given = {"Repository": "a/b", "ConnectionArn": arn}
    found = list(account_checks.check_account(aws, settings(), ROOT, given, CODE))
    (bad,) = [finding for finding in found if "onnection" in finding.found]
    assert bad.state == WOULD_FAIL
    assert f"--connection-arn: '{arn}' is refused for ConnectionArn" in bad.found
    assert not [name for name in session.made if name.endswith("GetConnection")]


def test_a_connection_of_another_region_would_fail_in_the_words_of_a_deployment():
    far = CONNECTION.replace("eu-west-1", "us-east-1").replace("codeconnections", "codestar-connections")
    given = {"Repository": "a/b", "ConnectionArn": far}
    (finding,) = findings(account_checks.repository_findings, {}, given)
    with pytest.raises(UserError) as refused:
        toolchain.plan_toolchain(ROOT, settings(), given, CODE)
    assert (finding.state, f"{finding.found}. {finding.fix}") == (WOULD_FAIL, str(refused.value))


def test_the_parameters_that_a_deployed_toolchain_has_count_until_others_are_given():
    answers = {**deployed(**ALL), "codeconnections:GetConnection": connection()}
    (kept,) = findings(account_checks.repository_findings, answers, {"ConnectionArn": CONNECTION})
    assert kept.found.startswith("acme/rare")
    (given,) = findings(account_checks.repository_findings, answers, {"ConnectionArn": CONNECTION, "Repository": "a/b"})
    assert given.found.startswith("a/b")


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"repositoryMetadata": {}}, OK),
        (Refusal("RepositoryDoesNotExistException", "rare does not exist"), WOULD_FAIL),
    ],
)
def test_a_repository_of_codecommit_exists_or_would_fail(answer, state):
    answers = {"codecommit:GetRepository": answer}
    (finding,) = findings(account_checks.repository_findings, answers, {"Repository": "rare"})
    assert finding.state == state


# -- region, key, tags, the rest --------------------------------------------------------------------------------------


def test_a_region_without_an_image_or_a_resource_would_fail():
    aws, _ = connected({})
    for region, said in (("eu-isoe-west-1", "no TensorFlow image"), ("ca-west-1", "has no AWS::CodeBuild::Project")):
        there = account_checks.Aws(account_checks.Names(NAMES.project, NAMES.account, region), aws.session)
        config = Config.model_validate({"project": {"region": region}})
        account = account_checks.Account(there, config, ROOT, {}, CODE, {})
        (finding,) = look("region", lambda account=account: account_checks.region_findings(account))
        assert finding.state == WOULD_FAIL and said in finding.found


def test_what_the_region_lacks_for_later_stacks_is_a_warning():
    aws, _ = connected({})
    there = account_checks.Aws(account_checks.Names(NAMES.project, NAMES.account, "me-central-1"), aws.session)
    config = Config.model_validate({"project": {"region": "me-central-1"}})
    found = list(account_checks.region_findings(account_checks.Account(there, config, ROOT, {}, CODE, {})))
    assert [finding.state for finding in found] == [WARNING, OK]


@pytest.mark.parametrize(
    ("state", "wanted"), [("Enabled", OK), ("Disabled", WOULD_FAIL), ("PendingDeletion", WOULD_FAIL)]
)
def test_the_key_is_enabled_or_would_fail(state, wanted):
    answers = {**deployed(**ALL), "kms:DescribeKey": {"KeyMetadata": {"KeyId": "1234", "KeyState": state}}}
    (finding,) = findings(account_checks.key_findings, answers)
    assert finding.state == wanted


def test_a_key_that_config_yaml_names_is_looked_at_too():
    answers = {"kms:DescribeKey": Refusal("NotFoundException", "no such key")}
    config = settings(cloud={"volume_key": KEY})
    made, named = findings(account_checks.key_findings, answers, config=config)
    assert (made.state, named.check, named.state) == (OK, "key of disks", WOULD_FAIL)


def test_cost_tags_that_are_not_active_are_a_warning_with_the_way():
    tags = [
        {"TagKey": "team", "Type": "UserDefined", "Status": "Active"},
        {"TagKey": "sagemaker:project-name", "Type": "UserDefined", "Status": "Inactive"},
    ]
    (finding,) = findings(account_checks.tag_findings, {"ce:ListCostAllocationTags": {"CostAllocationTags": tags}})
    assert (finding.state, finding.found) == (WARNING, "bills do not tell costs by sagemaker:project-name")


def test_model_monitor_is_open_only_where_schedules_show_it():
    one = {
        "MonitoringScheduleName": "m",
        "MonitoringScheduleArn": NAMES.arn("sagemaker", "monitoring-schedule/m"),
        "CreationTime": MOMENT,
        "LastModifiedTime": MOMENT,
        "MonitoringScheduleStatus": "Scheduled",
    }
    for schedules, state in (([one], OK), ([], COULD_NOT_LOOK)):
        answer = {"sagemaker:ListMonitoringSchedules": {"MonitoringScheduleSummaries": schedules}}
        (finding,) = findings(account_checks.model_monitor_findings, answer)
        assert finding.state == state
    assert "AWS has no call that says whether" in finding.found


@pytest.mark.parametrize(
    ("place", "given", "state"),
    [
        ("s3://acme/players/telemetry", {"DataBucketName": "acme", "DataPrefix": "players/"}, OK),
        ("s3://acme/players", {"DataBucketName": "acme", "DataPrefix": "players/"}, OK),
        (f"s3://{NAMES.bucket}/data/telemetry/", {}, OK),
        ("s3://acme/payroll/", {"DataBucketName": "acme", "DataPrefix": "players/"}, WOULD_FAIL),
        ("s3://acme/players/", {}, WOULD_FAIL),
        (f"s3://{NAMES.bucket}/elsewhere/", {}, WOULD_FAIL),
    ],
)
def test_data_where_no_job_may_read_is_found_before_a_job_fails(place, given, state):
    found = findings(account_checks.data_findings, {}, given, settings(data={"path": place}))
    assert [finding.state for finding in found] == [state] and place in found[0].found
    assert findings(account_checks.data_findings, {}) == []


@pytest.mark.parametrize(
    ("machine", "given", "state"),
    [
        ("ml.m5.4xlarge", {}, OK),
        ("ml.p3.2xlarge", {}, WOULD_FAIL),
        ("ml.p3.2xlarge", {"JobInstanceTypes": "ml.m5.*,ml.p3.2xlarge"}, OK),
    ],
)
def test_a_machine_that_no_job_may_have_is_found_with_the_command_that_allows_it(machine, given, state):
    config = settings(cloud={"instances": {"train": machine}})
    finding, _ = findings(account_checks.machine_findings, {}, given, config)
    assert finding.state == state
    if state == WOULD_FAIL:
        assert finding.found == "the toolchain lets no job have cloud.instances.train=ml.p3.2xlarge"
        assert finding.fix.endswith(",ml.p3.2xlarge") and "--set JobInstanceTypes=ml.t3.medium," in finding.fix


@pytest.mark.parametrize(
    ("machine", "given", "state"),
    [
        ("ml.m5.4xlarge", {}, OK),
        ("ml.m5.24xlarge", {}, WOULD_FAIL),
        ("ml.inf2.xlarge", {}, WOULD_FAIL),
        ("ml.inf2.xlarge", {"EndpointInstanceTypes": "ml.inf2.*"}, OK),
    ],
)
def test_a_machine_that_no_endpoint_may_have_is_found_with_the_command_that_allows_it(machine, given, state):
    config = settings(cloud={"endpoint": {"instance": machine}})
    _, finding = findings(account_checks.machine_findings, {}, given, config)
    assert finding.state == state
    if state == WOULD_FAIL:
        assert finding.found == f"the toolchain lets no endpoint have cloud.endpoint.instance={machine}"
        assert "--set EndpointInstanceTypes='ml.t2.*," in finding.fix and finding.fix.endswith(f",{machine}'")


def test_the_machines_of_endpoints_in_other_accounts_are_not_this_toolchains_matter():
    elsewhere = {"StagingAccount": "222233334444", "ProductionAccount": "333344445555"}
    config = settings(cloud={"endpoint": {"instance": "ml.m5.24xlarge"}})
    assert [one.state for one in findings(account_checks.machine_findings, {}, elsewhere, config)] == [OK]
