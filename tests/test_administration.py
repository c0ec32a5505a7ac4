"""What the administrator's stack makes, and by denial what each of its roles may do. All of it statically: the template
is read as CloudFormation reads it, and policies are decided as IAM decides (enforcement.py of the generated project).
"""

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import boto3
import enforcement
import pytest
import yaml
from botocore import xform_name
from cfnlint.api import ManualArgs, lint
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from conftest import ROOT
from enforcement import acts_as, allowed, arn, may_assume, several
from sent_events import event, matches
from stacks import ACCOUNT, REGION, Loader, Stack, Toolchain, log_faults, log_group, policy_faults
from stacks import TOOLCHAIN as TEMPLATES

enforcement.like = cache(enforcement.like)  # the same few hundred patterns, over and over

TEMPLATE = ROOT / "service_catalog/administration.yaml"
PROJECT, OTHER = "rare-players", "fraud-rings"
STUDIO = f"arn:aws:iam::{ACCOUNT}:role/service-role/AmazonSageMaker-ExecutionRole-1"
GIVEN = {
    "HubAccountId": ACCOUNT,
    "TemplateRepositoryUrl": "https://github.com/acme/template.git",
    "StudioRoleArns": STUDIO,
    "StudioRoleNames": "AmazonSageMaker-ExecutionRole-1",
}
SEEDED = {"HandlerKey": "handler/0a.zip", "BuildspecKey": "handler/0a.yml", "FirstVersion": "0.1.0"}
FOR_PROJECTS = {  # parameters of every project's toolchain
    "PermissionsBoundaryArn": "made-boundary",
    "UpdateSchedule": "rate(7 days)",
    "TemplatesBucketName": f"scarcegan-projects-{ACCOUNT}-{REGION}",
}
TAG = "${aws:PrincipalTag/project}"
CONNECTION = arn("codeconnections", "connection/0a")


class Administration(Stack):
    """The administrator's stack as plain data."""

    def read(self, template: str) -> dict[str, Any]:
        return dict(yaml.load(TEMPLATE.read_text(encoding="utf-8"), Loader))

    @cached_property
    def resources(self) -> dict[str, dict[str, Any]]:  # type: ignore[override]
        return super().resources


HUB = Administration("administration.yaml", {**GIVEN, **SEEDED})
SPOKE = Administration(
    "", {**GIVEN, **SEEDED, "HubAccountId": "999988887777", "PortfolioId": "port-1", "FirstVersion": ""}
)
BUCKET = f"arn:aws:s3:::scarcegan-projects-{ACCOUNT}-{REGION}"
LAUNCH = HUB.attribute("LaunchRole", "Arn")
BOUNDARY = HUB.reference("Boundary")


@cache
def statements(name: str, stack: Stack = HUB) -> list[dict[str, Any]]:
    """The statements of a role with its managed policies, or of a managed policy."""
    about = stack.resources[name]
    if "PolicyDocument" in about:
        return list(about["PolicyDocument"]["Statement"])
    own = [statement for policy in about.get("Policies", []) for statement in policy["PolicyDocument"]["Statement"]]
    managed = {stack.reference(name): name for name in stack.of_type("AWS::IAM::ManagedPolicy")}
    return own + [one for arn in about.get("ManagedPolicyArns", []) for one in statements(managed[arn], stack)]


@cache
def as_project(project: str) -> list[dict[str, Any]]:
    """What the deployment role may do in a session for a project."""
    return list(json.loads(json.dumps(statements("DeploymentRole")).replace(TAG, project)))


def allows(name: str, action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
    decided = as_project(PROJECT) if name == "DeploymentRole" else statements(name)
    return allowed(decided, action, resource, context or {})


# -- valid ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", sorted(TEMPLATE.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_cfn_lint_has_nothing_to_say(template: Path) -> None:
    found = lint(template.read_text(encoding="utf-8"), config=ManualArgs(regions=["eu-west-1"]))
    assert not found, "\n".join(f"{match.rule.id} line {match.linenumber}: {match.message}" for match in found)


def test_it_fits_into_a_request_so_that_deploying_it_needs_no_bucket() -> None:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""
    assert TEMPLATE.stat().st_size <= 51_200


def test_every_star_and_every_exception_from_a_linter_has_its_reason() -> None:
    star = re.compile(r'(Action|Resource|Principal): "\*"|[ [][a-z0-9-]+:\*([],\s]|$)')
    lines = TEMPLATE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if star.search(line) and "#" not in line and "Action: s3:*" not in line] == []
    for about in HUB.body["Resources"].values():
        for skip in about.get("Metadata", {}).get("checkov", {}).get("skip", []):
            assert len(skip["comment"]) > 30, skip


def test_every_policy_fits() -> None:
    """6,144 characters of a managed policy, 10,240 of a role's own.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    """
    for stack in (HUB, SPOKE):
        for name in stack.of_type("AWS::IAM::ManagedPolicy"):
            assert len(re.sub(r"\s", "", json.dumps(stack.resources[name]["PolicyDocument"]))) <= 6_144, name
        for name, role in stack.of_type("AWS::IAM::Role").items():
            assert len(re.sub(r"\s", "", json.dumps(role.get("Policies", [])))) <= 10_240, name


def test_every_name_fits_in_the_region_with_the_longest_one() -> None:
    longest = Administration("", {**GIVEN, **SEEDED})
    longest.values |= {"AWS::Region": "ap-southeast-1"}
    for about in longest.resources.values():
        for key, most in {"RoleName": 64, "ManagedPolicyName": 128, "BucketName": 63, "FunctionName": 64}.items():
            assert len(str(about.get(key, ""))) <= most


@pytest.mark.parametrize(
    ("parameter", "taken", "refused"),
    [
        (
            "StudioRoleArns",
            ["", STUDIO, f"{STUDIO},{STUDIO}"],
            [f"{STUDIO},", "*", ",".join([STUDIO] * 4), f"{STUDIO} "],
        ),
        ("SpokeAccountIds", ["", "1" * 12, f"{'1' * 12},{'2' * 12}"], ["*", f"{'1' * 12},", ",".join(["1" * 12] * 4)]),
        ("HubAccountId", ["1" * 12], ["", "*", "1" * 11]),
        ("TemplateRepositoryUrl", ["", "https://a.b/c.git"], ["http://a.b/c", "https://a.b/$(id)", "https://a.b/c d"]),
        ("UpdateSchedule", ["", "rate(7 days)", "cron(0 6 ? * MON *)"], ["weekly", 'rate(7 days)"}']),
        ("HandlerKey", ["", "handler/0a.zip"], ["seed/x.zip", "handler/../x.zip"]),
        ("FirstVersion", ["", "1.20.3"], ["1.2", "latest"]),
    ],
)
def test_a_parameter_takes_what_it_should(parameter: str, taken: list[str], refused: list[str]) -> None:
    """CloudFormation asks for a match of the whole text."""
    pattern = HUB.body["Parameters"][parameter]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in taken)
    assert [value for value in refused if re.fullmatch(pattern, value)] == []


# -- the bucket -------------------------------------------------------------------------------------------------------


def test_the_bucket_is_closed_versioned_and_speaks_tls_only() -> None:
    about = HUB.resources["Templates"]
    kept = HUB.body["Resources"]["Templates"]
    assert (kept["DeletionPolicy"], kept["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), (
        "projects need it"
    )
    [rule] = about["LifecycleConfiguration"]["Rules"]
    assert rule.keys() == {"Id", "Status", "AbortIncompleteMultipartUpload"}, "no template is ever deleted by itself"
    assert all(about["PublicAccessBlockConfiguration"].values())
    assert about["VersioningConfiguration"] == {"Status": "Enabled"}
    denials = {one["Sid"]: one for one in statements("TemplatesPolicy")}
    assert {one["Effect"] for one in denials.values()} == {"Deny"}, (
        "without spokes, nobody is let in by the bucket's policy"
    )
    assert denials["TlsOnly"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert (denials["WrittenOnce"]["Effect"], denials["WrittenOnce"]["Action"]) == ("Deny", "s3:PutObject")
    assert denials["WrittenOnce"]["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    replaced = denials["NoneIsLost"]
    assert replaced["Resource"] == denials["WrittenOnce"]["NotResource"] == f"{BUCKET}/template.bundle"
    assert replaced["Condition"] == {"Null": {"s3:if-none-match": "true", "s3:if-match": "true"}}


def test_the_buckets_policy_is_its_own() -> None:
    spokes = Administration("", {**GIVEN, **SEEDED, "SpokeAccountIds": "222233334444"})
    assert [*policy_faults(HUB), *policy_faults(spokes)] == []


def test_studio_reads_the_bucket_in_the_browser() -> None:
    """AWS's own rules; CloudFormation says ExposedHeaders where S3's API says ExposeHeaders."""
    [rule] = HUB.resources["Templates"]["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == ["https://*.sagemaker.aws"]
    assert rule["AllowedMethods"] == ["POST", "PUT", "GET", "HEAD", "DELETE"]
    assert {"ETag", "x-amz-version-id"} <= set(rule["ExposedHeaders"])


def test_spokes_read_the_bucket_and_do_not_write_it() -> None:
    spokes = {**GIVEN, **SEEDED, "SpokeAccountIds": "222233334444,555566667777"}
    let_in = [one for one in statements("TemplatesPolicy", Administration("", spokes)) if one["Effect"] == "Allow"]
    assert {account for one in let_in for account in one["Principal"]["AWS"]} == {"222233334444", "555566667777"}
    actions = {action for one in let_in for action in several(one["Action"])}
    assert actions == {"s3:GetObject", "s3:GetObjectTagging", "s3:ListBucket"}


# -- what is there when -----------------------------------------------------------------------------------------------


def kinds(stack: Stack) -> set[str]:
    return {stack.body["Resources"][name]["Type"] for name in stack.resources}


def test_the_first_deployment_needs_nothing_in_the_bucket() -> None:
    first = Administration("", GIVEN)
    assert "AWS::S3::Bucket" in kinds(first)
    early = kinds(Administration("", {**GIVEN, "CostCenter": "4711", "SpokeAccountIds": "222233334444"}))
    assert not {"AWS::Lambda::Function", "AWS::CodeBuild::Project"} & (kinds(first) | early)
    assert not [kind for kind in kinds(first) | early if kind.startswith("AWS::ServiceCatalog::")]


def test_a_spoke_has_its_own_roles_and_seed_and_takes_the_rest_from_the_hub() -> None:
    assert not {"AWS::S3::Bucket", "AWS::ServiceCatalog::Portfolio"} & kinds(SPOKE)
    assert {"AWS::ServiceCatalog::AcceptedPortfolioShare", "AWS::Lambda::Function", "AWS::CodeBuild::Project"} <= kinds(
        SPOKE
    )
    assert SPOKE.resources["StudioRole0"]["PortfolioId"] == SPOKE.reference("SharedPortfolio")
    hubs = "scarcegan-projects-999988887777-eu-west-1"
    assert SPOKE.resources["Handler"]["Code"]["S3Bucket"] == hubs
    assert SPOKE.resources["Seed"]["Source"]["BuildSpec"] == f"arn:aws:s3:::{hubs}/handler/0a.yml"
    for policy in ("SeedRole", "StudioUserPolicy"):
        assert hubs in json.dumps(statements(policy, SPOKE)) and BUCKET not in json.dumps(statements(policy, SPOKE))
    assert f"arn:aws:catalog:{REGION}:999988887777:product/*" in json.dumps(statements("StudioUserPolicy", SPOKE))


def test_the_launch_role_has_the_name_that_the_constraint_gives_in_every_account() -> None:
    name = HUB.resources["LaunchConstraint"]["LocalRoleName"]
    assert name == HUB.resources["LaunchRole"]["RoleName"] == SPOKE.resources["LaunchRole"]["RoleName"]
    for constraint in ("LaunchConstraint", "TagsMayChange"):
        assert HUB.body["Resources"][constraint]["DependsOn"] == "ProductInPortfolio"


def test_up_to_three_spokes_and_three_roles_are_served() -> None:
    accounts, roles = ["1" * 12, "2" * 12, "3" * 12], [f"{STUDIO}{number}" for number in range(3)]
    for count in range(4):
        given = {"SpokeAccountIds": ",".join(accounts[:count]), "StudioRoleArns": ",".join(roles[:count])}
        stack = Administration("", {**GIVEN, **SEEDED, **given})
        shares = stack.of_type("AWS::ServiceCatalog::PortfolioShare").values()
        principals = stack.of_type("AWS::ServiceCatalog::PortfolioPrincipalAssociation").values()
        assert [share["AccountId"] for share in shares] == accounts[:count]
        assert all(share["ShareTagOptions"] for share in shares), "the cost-center goes along"
        assert [principal["PrincipalARN"] for principal in principals] == roles[:count]


def test_studio_lists_the_product_and_its_tags_may_change() -> None:
    for name in ("Product", "Portfolio"):
        assert {"Key": "sagemaker:studio-visibility", "Value": "true"} in HUB.resources[name]["Tags"]
    [first] = HUB.resources["Product"]["ProvisioningArtifactParameters"]
    assert first["Name"] == "0.1.0" and first["Info"]["LoadTemplateFromURL"].endswith("/projects/0.1.0/project.yaml")
    assert HUB.resources["TagsMayChange"]["TagUpdateOnProvisionedProduct"] == "ALLOWED"
    assert "CostCenterOption" not in HUB.resources
    with_option = Administration("", {**GIVEN, **SEEDED, "CostCenter": "4711"})
    assert with_option.resources["CostCenterOption"] == {"Key": "cost-center", "Value": "4711"}


def test_the_seed_has_what_its_contract_names() -> None:
    project, function = HUB.resources["Seed"], HUB.resources["Handler"]
    declared = {item["Name"]: item["Value"] for item in project["Environment"]["EnvironmentVariables"]}
    assert declared == {
        "TEMPLATES_BUCKET": BUCKET.rpartition(":")[2],
        "DEPLOYMENT_ROLE_ARN": HUB.attribute("DeploymentRole", "Arn"),
        "TEMPLATE_REPOSITORY_URL": GIVEN["TemplateRepositoryUrl"],
        "TOOLCHAIN_PARAMETERS": json.dumps(FOR_PROJECTS),
    }
    assert FOR_PROJECTS.keys() <= Toolchain(TOOLCHAIN).body["Parameters"].keys(), "and the project's templates take it"
    bundle = Administration("", {**GIVEN, **SEEDED, "TemplateRepositoryUrl": ""}).resources["Seed"]
    [found] = [v for v in bundle["Environment"]["EnvironmentVariables"] if v["Name"] == "TEMPLATE_REPOSITORY_URL"]
    assert found["Value"] == f"s3://{FOR_PROJECTS['TemplatesBucketName']}/template.bundle"
    assert project["Name"] == function["FunctionName"] == "scarcegan-projects-seed"
    given = {"SEED_PROJECT": project["Name"], "TEMPLATES_BUCKET": BUCKET.rpartition(":")[2]}
    assert function["Environment"]["Variables"] == {**given, "ANSWER_KEY": HUB.attribute("AnswerKey", "Arn")}
    assert (function["Handler"], function["Runtime"]) == ("handler.handler", "python3.12")
    assert project["TimeoutInMinutes"] + project["QueuedTimeoutInMinutes"] < 60, "CloudFormation waits for an hour"
    assert function["Code"] == {"S3Bucket": BUCKET.rpartition(":")[2], "S3Key": SEEDED["HandlerKey"]}


def test_the_end_of_the_seeds_build_calls_its_function_by_motos_matcher() -> None:
    """https://docs.aws.amazon.com/codebuild/latest/userguide/sample-build-notifications-ref.html"""
    rule = HUB.resources["EndedRule"]
    for status, project, heard in (
        *((ended, "scarcegan-projects-seed", True) for ended in ("SUCCEEDED", "FAILED", "STOPPED", "TIMED_OUT")),
        ("IN_PROGRESS", "scarcegan-projects-seed", False),
        ("FAILED", f"{PROJECT}-build", False),
    ):
        detail = {"build-status": status, "project-name": project, "build-id": SEED.replace("project/", "build/")}
        assert matches(rule, event("aws.codebuild", "CodeBuild Build State Change", detail)) == heard, (status, project)
    function = HUB.attribute("Handler", "Arn")
    assert [target["Arn"] for target in rule["Targets"]] == [function]
    assert HUB.resources["EndedMayCall"] == {
        "Action": "lambda:InvokeFunction",
        "FunctionName": function,
        "Principal": "events.amazonaws.com",
        "SourceArn": HUB.attribute("EndedRule", "Arn"),
    }


def test_people_and_publish_py_are_told_what_the_stack_made() -> None:
    for stack, account in ((HUB, ACCOUNT), (SPOKE, "999988887777")):
        bucket = f"scarcegan-projects-{account}-{REGION}"
        of_the_hub = {"PortfolioId": stack.reference("Portfolio"), "ProductId": stack.reference("Product")}
        assert stack.outputs == {
            "TemplatesBucket": bucket,
            "S3TemplatesLocation": f"s3://{bucket}/projects/",
            "LaunchRoleArn": stack.attribute("LaunchRole", "Arn"),
            "StudioUserPolicyArn": stack.reference("StudioUserPolicy"),
            **(of_the_hub if stack is HUB else {}),
        }


def test_what_service_catalog_joins_is_the_one_portfolio_and_its_product() -> None:
    full = Administration("", {**GIVEN, **SEEDED, "CostCenter": "4711", "SpokeAccountIds": "222233334444"})
    joined = {name: about for name, about in full.resources.items() if "PortfolioId" in about or "ProductId" in about}
    assert joined.keys() == {"ProductInPortfolio", "LaunchConstraint", "TagsMayChange", "Share0", "StudioRole0"}
    assert {about["PortfolioId"] for about in joined.values()} == {full.reference("Portfolio")}
    assert {about.get("ProductId", full.reference("Product")) for about in joined.values()} == {
        full.reference("Product")
    }
    assert full.resources["CostCenterOfThePortfolio"] == {
        "ResourceId": full.reference("Portfolio"),
        "TagOptionId": full.reference("CostCenterOption"),
    }
    assert SPOKE.resources["SharedPortfolio"] == {"PortfolioId": "port-1"}


@pytest.mark.parametrize("arns", ["", STUDIO])
def test_the_roles_that_are_named_get_the_policy_of_a_user_whoever_is_in_the_portfolio(arns: str) -> None:
    for names in ([], ["AmazonSageMaker-ExecutionRole-1", "another"]):
        given = {**GIVEN, **SEEDED, "StudioRoleArns": arns, "StudioRoleNames": ",".join(names)}
        assert Administration("", given).resources["StudioUserPolicy"].get("Roles", []) == names


TAKES_A_ROLE = {  # type of resource -> property with the role, service that gets it
    "AWS::CodeBuild::Project": ("ServiceRole", "codebuild"),
    "AWS::Lambda::Function": ("Role", "lambda"),
}


@pytest.mark.parametrize("stack", [HUB, SPOKE], ids=["hub", "spoke"])
def test_the_seed_and_its_function_get_their_roles_and_write_to_the_logs_that_are_made_for_them(stack: Stack) -> None:
    assert list(log_faults(stack)) == []
    roles = {stack.attribute(name, "Arn"): name for name in stack.of_type("AWS::IAM::Role")}
    for kind, (key, service) in TAKES_A_ROLE.items():
        [properties] = stack.of_type(kind).values()
        role = roles[properties[key]]
        trust = stack.resources[role]["AssumeRolePolicyDocument"]["Statement"]
        sources = acts_as(kind, properties)
        assert all(may_assume(trust, service, source) for source in sources or [""]), role
        strangers = [source.replace(ACCOUNT, "222233334444") for source in sources]
        strangers += [source.replace("scarcegan-projects-seed", f"{PROJECT}-build") for source in sources]
        assert [source for source in strangers if may_assume(trust, service, source)] == [], role
        group = arn("logs", f"log-group:{log_group(kind, properties)}:log-stream:0a")
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            assert allowed(statements(role, stack), action, group, {}), f"{role}: {action}"


# -- by denial: the roles that are always there -----------------------------------------------------------------------

Need = tuple[str, str] | tuple[str, str, dict[str, str]]
READABLE = {"s3:ExistingObjectTag/servicecatalog:provisioning": "true"}
OPENED = {"aws:ResourceTag/sagemaker": "true"}
WITH_LAUNCH = {"cloudformation:RoleArn": LAUNCH}
TO_CLOUDFORMATION = {"iam:PassedToService": "cloudformation.amazonaws.com"}
OWN = {"servicecatalog:roleLevel": "self"}
SEED_LOG = arn("logs", "log-group:/aws/codebuild/scarcegan-projects-seed:log-stream:0a")
LAMBDA_LOG = arn("logs", "log-group:/aws/lambda/scarcegan-projects-seed:log-stream:0a")
SEED = arn("codebuild", "project/scarcegan-projects-seed")
DEPLOYMENT = HUB.attribute("DeploymentRole", "Arn")
TEMPLATE_URL = f"https://scarcegan-projects-{ACCOUNT}-{REGION}.s3.{REGION}.amazonaws.com/projects/0.1.0/project.yaml"
PRODUCT = f"arn:aws:catalog:{REGION}:{ACCOUNT}:product/{HUB.reference('Product')}"
OLDER = arn("codestar-connections", "connection/0a")
SC, SP = (arn("cloudformation", f"stack/{kind}-{ACCOUNT}-pp-1/0a") for kind in ("SC", "SP"))


def each(actions: str, resource: str, context: dict[str, str] | None = None) -> list[Need]:
    """The needs of several actions of one service: `s3: GetObject PutObject`."""
    service, names = actions.split(": ")
    return [(f"{service}:{name}", resource, context or {}) for name in names.split()]


MUST: dict[str, list[Need]] = {
    "LaunchRole": [
        *each("cloudformation: CreateStack UpdateStack DeleteStack DescribeStacks DescribeStackEvents", SC),
        *each("cloudformation: SetStackPolicy TagResource UntagResource", SC),
        *each("cloudformation: GetTemplateSummary ValidateTemplate", "*"),
        ("s3:GetObject", f"{BUCKET}/projects/0.1.0/project.yaml", READABLE),
        ("lambda:InvokeFunction", arn("lambda", "function:scarcegan-projects-seed")),
        *each(
            "sagemaker: CreateCodeRepository DescribeCodeRepository UpdateCodeRepository DeleteCodeRepository",
            arn("sagemaker", "code-repository/made"),
        ),
        *each("sagemaker: AddTags DeleteTags ListTags", arn("sagemaker", "code-repository/made")),
    ],
    "HandlerRole": [
        *each("codebuild: StartBuild BatchGetBuilds ListBuildsForProject", SEED),
        ("logs:GetLogEvents", SEED_LOG),
        *each("logs: CreateLogStream PutLogEvents", LAMBDA_LOG),
        ("sagemaker:DescribeProject", arn("sagemaker", "project/rare-players")),
    ],
    "SeedRole": [
        ("s3:GetObject", f"{BUCKET}/seed/0.1.0/template.zip"),
        ("s3:GetObject", f"{BUCKET}/handler/0a.yml"),
        ("s3:ListBucket", BUCKET, {"s3:prefix": "seed/0.1.0/wheels/"}),
        *each("sts: AssumeRole TagSession", DEPLOYMENT),
        ("codeconnections:UseConnection", CONNECTION, {**OPENED, "codeconnections:ProviderAction": "GitPush"}),
        ("codeconnections:UseConnection", CONNECTION, {**OPENED, "codeconnections:ProviderAction": "GitPull"}),
        ("codestar-connections:UseConnection", OLDER, {**OPENED, "codestar-connections:ProviderAction": "GitPush"}),
        ("codeconnections:GetConnection", CONNECTION),
        ("codestar-connections:GetConnection", OLDER),
        *each("codecommit: GitPull GitPush GetRepository", arn("codecommit", "rare-players"), OPENED),
        *each("logs: CreateLogStream PutLogEvents", SEED_LOG),
    ],
    "StudioUserPolicy": [
        *each("sagemaker: CreateProject UpdateProject DeleteProject DescribeProject", arn("sagemaker", "project/x")),
        *each("sagemaker: AddTags ListTags", arn("sagemaker", "project/x")),
        ("sagemaker:ListProjects", "*"),
        ("sagemaker:ListTags", arn("sagemaker", "domain/d-1")),
        *each("servicecatalog: SearchProducts DescribeProductView", "*"),
        *each("servicecatalog: DescribeProduct DescribeProvisioningArtifact DescribeProvisioningParameters", PRODUCT),
        *each("servicecatalog: ListLaunchPaths ProvisionProduct", PRODUCT),
        *each("servicecatalog: DescribeProvisionedProduct DescribeRecord ListRecordHistory", "*", OWN),
        *each("servicecatalog: ScanProvisionedProducts SearchProvisionedProducts", "*", OWN),
        *each("servicecatalog: TerminateProvisionedProduct UpdateProvisionedProduct", "*", OWN),
        *each("s3: GetObject GetObjectTagging", f"{BUCKET}/projects/0.1.0/project.yaml", READABLE),
        ("s3:ListBucket", BUCKET, {"s3:prefix": "projects/"}),
        ("cloudformation:CreateStack", SP, WITH_LAUNCH),
        ("cloudformation:CreateStack", SP, {**WITH_LAUNCH, "cloudformation:TemplateUrl": TEMPLATE_URL}),
        *each("cloudformation: UpdateStack DeleteStack", SP, WITH_LAUNCH),
        *each("cloudformation: UpdateStack DeleteStack DescribeStacks TagResource UntagResource", SP),
        ("iam:PassRole", LAUNCH, TO_CLOUDFORMATION),
    ],
}

MUST_NOT: dict[str, list[Need]] = {
    "LaunchRole": [
        ("cloudformation:CreateStack", arn("cloudformation", f"stack/{PROJECT}-toolchain/0a")),
        ("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/x"),
        ("iam:PassRole", DEPLOYMENT, TO_CLOUDFORMATION),
        ("lambda:InvokeFunction", arn("lambda", f"function:{PROJECT}-register")),
        ("s3:GetObject", f"{BUCKET}/seed/0.1.0/template.zip"),
        ("sagemaker:CreateTrainingJob", arn("sagemaker", "training-job/x")),
        ("codebuild:StartBuild", SEED),
    ],
    "HandlerRole": [
        ("codebuild:UpdateProject", SEED),
        ("codebuild:StartBuild", arn("codebuild", f"project/{PROJECT}-promote")),
        ("sts:AssumeRole", DEPLOYMENT),
        ("s3:GetObject", f"{BUCKET}/seed/0.1.0/template.zip"),
        ("logs:GetLogEvents", arn("logs", f"log-group:/aws/codebuild/{PROJECT}-build:log-stream:0a")),
    ],
    "SeedRole": [
        ("s3:PutObject", f"{BUCKET}/seed/0.1.0/template.zip"),
        ("s3:PutObject", f"{BUCKET}/projects/0.1.0/project.yaml"),
        ("s3:ListBucket", BUCKET, {"s3:prefix": ""}),
        ("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/Admin"),
        ("codeconnections:UseConnection", CONNECTION, {"codeconnections:ProviderAction": "GitPush"}),
        (
            "codeconnections:UseConnection",
            CONNECTION,
            {**OPENED, "codeconnections:ProviderAction": "CreatePullRequest"},
        ),
        ("codecommit:GitPush", arn("codecommit", "payroll")),
        ("cloudformation:CreateChangeSet", arn("cloudformation", f"stack/{PROJECT}-toolchain/0a")),
        (
            "iam:CreateRole",
            f"arn:aws:iam::{ACCOUNT}:role/{PROJECT}-{REGION}-job",
            {"iam:PermissionsBoundary": BOUNDARY},
        ),
    ],
    "StudioUserPolicy": [
        ("cloudformation:CreateStack", SP),
        ("cloudformation:CreateStack", SP, {"cloudformation:RoleArn": f"arn:aws:iam::{ACCOUNT}:role/Admin"}),
        ("cloudformation:UpdateStack", SP, {"cloudformation:RoleArn": DEPLOYMENT}),
        ("cloudformation:CreateStack", SP, {**WITH_LAUNCH, "cloudformation:TemplateUrl": "https://mine.s3.aws/a"}),
        ("cloudformation:UpdateStack", SP, {"cloudformation:TemplateUrl": "https://mine.s3.aws/a"}),
        ("cloudformation:CreateStack", arn("cloudformation", f"stack/{PROJECT}-toolchain/0a"), WITH_LAUNCH),
        ("cloudformation:DeleteStack", arn("cloudformation", f"stack/{PROJECT}-storage/0a")),
        ("iam:PassRole", DEPLOYMENT, TO_CLOUDFORMATION),
        ("iam:PassRole", LAUNCH, {"iam:PassedToService": "lambda.amazonaws.com"}),
        ("sts:AssumeRole", LAUNCH),
        ("lambda:InvokeFunction", arn("lambda", "function:scarcegan-projects-seed")),
        ("codebuild:StartBuild", SEED),
        ("s3:GetObject", f"{BUCKET}/projects/0.1.0/project.yaml"),
        ("s3:GetObject", f"{BUCKET}/seed/0.1.0/template.zip", READABLE),
        ("s3:PutObject", f"{BUCKET}/projects/0.1.0/project.yaml", READABLE),
        ("s3:PutObjectTagging", f"{BUCKET}/projects/0.1.0/project.yaml", READABLE),
        ("servicecatalog:ProvisionProduct", f"arn:aws:catalog:{REGION}:{ACCOUNT}:product/prod-another"),
        ("servicecatalog:UpdateProvisionedProduct", "*"),
        ("servicecatalog:TerminateProvisionedProduct", "*", {"servicecatalog:roleLevel": "another"}),
        ("servicecatalog:CreateProvisioningArtifact", PRODUCT),
        ("sagemaker:AddTags", arn("sagemaker", "domain/d-1")),
    ],
}


def context_of(need: Need) -> dict[str, str]:
    return need[2] if len(need) == 3 else {}


@pytest.mark.parametrize("role", MUST)
def test_a_role_may_do_its_work(role: str) -> None:
    assert [need for need in MUST[role] if not allows(role, need[0], need[1], context_of(need))] == []


@pytest.mark.parametrize("role", MUST)
def test_a_role_has_no_right_that_its_work_does_not_need(role: str) -> None:
    granted = {action for one in statements(role) for action in several(one["Action"])}
    assert granted == {need[0] for need in MUST[role]}


@pytest.mark.parametrize("role", MUST_NOT)
def test_a_role_may_not_do_the_others_work(role: str) -> None:
    assert [need for need in MUST_NOT[role] if allows(role, need[0], need[1], context_of(need))] == []


def test_only_the_function_opens_where_an_answer_goes() -> None:
    """Nor does an administrator with every right of IAM, as the key's policy alone gives its use."""
    policy = HUB.resources["AnswerKey"]["KeyPolicy"]["Statement"]
    users = [one["Principal"] for one in policy if allowed([one], "kms:Decrypt", "*", {})]
    assert users == [{"AWS": HUB.attribute("HandlerRole", "Arn")}]
    root = [one for one in policy if one["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}]
    assert all(allowed(root, f"kms:{act}", "*", {}) for act in ("PutKeyPolicy", "ScheduleKeyDeletion", "TagResource"))
    used = ("Encrypt", "GenerateDataKey", "ReEncryptFrom", "CreateGrant")
    assert not any(allowed(policy[:1], f"kms:{act}", "*", {}) for act in used)


def test_studios_roles_carry_their_policy() -> None:
    assert HUB.resources["StudioUserPolicy"]["Roles"] == [GIVEN["StudioRoleNames"]]
    assert "Roles" not in Administration("", {**SEEDED, "HubAccountId": ACCOUNT}).resources["StudioUserPolicy"]


def test_who_takes_a_role() -> None:
    trusted = {
        name: [(one["Principal"], one["Effect"]) for one in about["AssumeRolePolicyDocument"]["Statement"]]
        for name, about in HUB.of_type("AWS::IAM::Role").items()
    }
    seed = {"AWS": HUB.attribute("SeedRole", "Arn")}
    assert trusted == {
        "LaunchRole": [({"Service": ["servicecatalog.amazonaws.com", "cloudformation.amazonaws.com"]}, "Allow")],
        "HandlerRole": [({"Service": "lambda.amazonaws.com"}, "Allow")],
        "SeedRole": [({"Service": "codebuild.amazonaws.com"}, "Allow")],
        "DeploymentRole": [(seed, "Allow"), (seed, "Deny")],
    }
    [only] = HUB.resources["SeedRole"]["AssumeRolePolicyDocument"]["Statement"]
    ours = {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": arn("codebuild", "build/scarcegan-projects-seed:0a")}
    theirs = {**ours, "aws:SourceArn": arn("codebuild", f"build/{PROJECT}-build:0a")}
    assert allowed([only], "sts:AssumeRole", "*", ours) and not allowed([only], "sts:AssumeRole", "*", theirs)


@pytest.mark.parametrize("project", [PROJECT, "scarcegan-demo"])
def test_a_session_of_the_deployment_role_is_for_a_project(project: str) -> None:
    trust = HUB.resources["DeploymentRole"]["AssumeRolePolicyDocument"]["Statement"]
    assert allowed(trust, "sts:AssumeRole", "*", {"aws:RequestTag/project": project})


@pytest.mark.parametrize(
    "tag", [{}, *({"aws:RequestTag/project": name} for name in ("", "scarcegan", "scarcegan-projects"))]
)
def test_nobody_deploys_without_a_project_or_under_the_administrators_names(tag: dict[str, str]) -> None:
    """A project `scarcegan` would be let to `scarcegan-*`, which the administrator's own things are named."""
    trust = HUB.resources["DeploymentRole"]["AssumeRolePolicyDocument"]["Statement"]
    assert not allowed(trust, "sts:AssumeRole", "*", tag)


# -- by denial: the seed's own calls ----------------------------------------------------------------------------------

SEED_FILES = ROOT / "service_catalog/seed"


@pytest.mark.parametrize(
    ("file", "role", "services"),
    [
        ("handler.py", "HandlerRole", ("codebuild", "logs", "sagemaker")),
        ("seed.py", "SeedRole", ("sts", "codeconnections")),
        ("seed.py", "DeploymentRole", ("cloudformation", "ssm")),
    ],
)
def test_what_the_seed_calls_is_granted(file: str, role: str, services: tuple[str, ...]) -> None:
    """Operations of botocore's services that the file's text calls."""
    text = (SEED_FILES / file).read_text(encoding="utf-8")
    granted = {action for one in statements(role) for action in several(one["Action"])}
    called = set()
    for service in services:
        names = boto3.client(service, region_name=REGION).meta.service_model.operation_names
        called |= {f"{service}:{name}" for name in names if f".{xform_name(name)}(" in text}
    assert called and called <= granted, called - granted


def test_the_functions_entry_is_in_its_code() -> None:
    module, entry = HUB.resources["Handler"]["Handler"].split(".")
    assert f"\ndef {entry}(" in (SEED_FILES / f"{module}.py").read_text(encoding="utf-8")


def test_the_seed_names_the_project_in_its_session() -> None:
    """Without it, the deployment role is refused; with another name, it reaches nothing of the project."""
    text = (SEED_FILES / "seed.py").read_text(encoding="utf-8")
    assert 'Tags=[{"Key": "project", "Value": self.project}]' in text


def test_the_launch_role_makes_all_that_project_yaml_holds() -> None:
    made = yaml.load((ROOT / "service_catalog/project.yaml").read_text(encoding="utf-8"), Loader)["Resources"]
    kinds = {about["Type"] for about in made.values() if not about["Type"].startswith("Custom::")}
    granted = {action for one in statements("LaunchRole") for action in several(one["Action"])}
    for kind in kinds:
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
        handlers = {verb: about for verb, about in schema.get("handlers", {}).items() if verb != "list"}
        actions = {one for about in handlers.values() for one in about["permissions"]}
        assert actions <= granted, f"{kind}: {actions - granted}"
    assert kinds == {"AWS::SageMaker::CodeRepository"}, "give the launch role what a new type needs"


# -- by denial: the deployment role against the project's own templates -----------------------------------------------

TOOLCHAIN = {
    "SageMakerProjectName": PROJECT,
    "Repository": "acme/rare-players",
    "ModelPackageGroupName": "rare-group",
    "NotificationEmail": "team@example.org",
    "ConnectionArn": CONNECTION,
    **FOR_PROJECTS,
}
VPC = {"VpcId": "vpc-1", "SubnetIds": "subnet-1", "SecurityGroupIds": "sg-1", "ConnectionArn": ""}
OTHER_GROUP = {"ModelPackageGroupAccount": "555566667777"}
STACKS = [Toolchain(TOOLCHAIN | more) for more in ({}, VPC, OTHER_GROUP)]
TAGGED = {f"aws:{kind}/sagemaker:project-name": PROJECT for kind in ("RequestTag", "ResourceTag")}
ARTIFACTS = f"arn:aws:s3:::{PROJECT}-storage-artifacts-0a1b2c"  # CloudFormation: <stack>-<resource>-<random>


def bucket_arn(name: str) -> str:
    return ARTIFACTS if name.startswith("made-") else f"arn:aws:s3:::{name}"


# Type of resource -> where CloudFormation acts, and the context of its calls. A type that is not here is new: give the
# deployment role what it needs (administration.yaml), then name it here.
WHERE: dict[str, Any] = {
    "AWS::CodeBuild::Project": lambda p: (arn("codebuild", f"project/{p['Name']}"), {}),
    "AWS::CodePipeline::Pipeline": lambda p: (arn("codepipeline", p["Name"]), {}),
    "AWS::Events::EventBusPolicy": lambda p: (arn("events", "event-bus/default"), {}),
    "AWS::Events::Rule": lambda p: (arn("events", f"rule/{p['Name']}"), {}),
    "AWS::IAM::Role": lambda p: (f"arn:aws:iam::{ACCOUNT}:role/{p['RoleName']}", {"iam:PermissionsBoundary": BOUNDARY}),
    "AWS::IAM::Policy": lambda p: (
        f"arn:aws:iam::{ACCOUNT}:role/{p['Roles'][0]}",
        {"iam:PermissionsBoundary": BOUNDARY},
    ),
    "AWS::KMS::Alias": lambda p: (arn("kms", p["AliasName"]), {}),
    "AWS::KMS::Key": lambda p: (arn("kms", "key/0a"), TAGGED),
    "AWS::Lambda::Function": lambda p: (arn("lambda", f"function:{p['FunctionName']}"), {}),
    "AWS::Logs::LogGroup": lambda p: (arn("logs", f"log-group:{p['LogGroupName']}:*"), {}),
    "AWS::S3::Bucket": lambda p: (bucket_arn(p.get("BucketName", "made-artifacts")), {}),
    "AWS::S3::BucketPolicy": lambda p: (bucket_arn(p["Bucket"]), {}),
    "AWS::SNS::Subscription": lambda p: (arn("sns", f"{PROJECT}-notifications"), {}),
    "AWS::SNS::Topic": lambda p: (arn("sns", p["TopicName"]), {}),
    "AWS::SNS::TopicPolicy": lambda p: (arn("sns", f"{PROJECT}-notifications"), {}),
    "AWS::SSM::Parameter": lambda p: (arn("ssm", f"parameter{p['Name']}"), {}),
    "AWS::SageMaker::ModelPackageGroup": lambda p: (
        arn("sagemaker", f"model-package-group/{p['ModelPackageGroupName']}"),
        TAGGED,
    ),
    "AWS::Scheduler::ScheduleGroup": lambda p: (arn("scheduler", f"schedule-group/{p['Name']}"), {}),
}
# CloudFormation's schema of CodeBuild lists no actions.
BY_HAND = {"AWS::CodeBuild::Project": "CreateProject UpdateProject DeleteProject BatchGetProjects"}
ELSEWHERE = {  # actions on another resource than the one that is made
    "scheduler:DeleteSchedule": (arn("scheduler", f"schedule/{PROJECT}/nightly"), {}),
    "s3:GetObject": (f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}/functions/register-0a.zip", {}),
    "s3:GetObjectVersion": (f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}/functions/register-0a.zip", {}),
    "kms:ListAliases": ("*", {}),
    "kms:Decrypt": (arn("kms", "key/0a"), TAGGED),
    "kms:Encrypt": (arn("kms", "key/0a"), TAGGED),
    "kms:GenerateDataKey": (arn("kms", "key/0a"), TAGGED),
    "kms:DescribeKey": (arn("kms", "key/0a"), TAGGED),
    "kms:CreateGrant": (arn("kms", "key/0a"), TAGGED),
    "codestar-connections:PassConnection": (OLDER, OPENED),
    "iam:GetRole": (f"arn:aws:iam::{ACCOUNT}:role/{PROJECT}-{REGION}-build", {}),
}
# Actions that CloudFormation needs only for a property; none of the project's templates sets it.
NOT_SET = {
    "AWS::CodePipeline::Pipeline": {
        "DisableInboundStageTransitions": ["*StageTransition"],
        "RestartExecutionOnUpdate": ["*:Start*"],
    },
    "AWS::IAM::Role": {"ManagedPolicyArns": ["iam:AttachRolePolicy", "iam:DetachRolePolicy"]},
    "AWS::IAM::Policy": {"Users": ["iam:*UserPolicy"], "Groups": ["iam:*GroupPolicy"]},
    "AWS::Lambda::Function": {
        "FileSystemConfigs": ["elasticfilesystem:*", "s3files:*"],
        "CodeSigningConfigArn": ["*CodeSigningConfig"],
        "Layers": ["lambda:GetLayerVersion"],
        "RuntimeManagementConfig": ["lambda:PutRuntimeManagementConfig", "lambda:AssociateRuntimeAlias"],
        "RecursiveLoop": ["lambda:PutFunctionRecursionConfig"],
        "CapacityProviderConfig": ["lambda:PassCapacityProvider", "lambda:PutFunctionScalingConfig"],
        "PublishToLatestPublished": ["lambda:PublishVersion"],
    },
    "AWS::Logs::LogGroup": {
        "DataProtectionPolicy": ["logs:*DataProtectionPolicy", "logs:CreateLogDelivery", "firehose:*", "s3:REST*"],
        "FieldIndexPolicies": ["logs:*IndexPolic*"],
        "ResourcePolicyDocument": ["logs:*ResourcePolic*"],
        "BearerTokenAuthenticationEnabled": ["logs:PutBearerToken*"],
        "DeletionProtectionEnabled": ["logs:PutLogGroupDeletionProtection"],
    },
    "AWS::S3::Bucket": {
        "AbacStatus": ["s3:PutBucketAbac"],
        "AccelerateConfiguration": ["s3:PutAccelerate*"],
        "AccessControl": ["s3:PutBucketAcl", "s3:PutObjectAcl"],
        "AnalyticsConfigurations": ["s3:*AnalyticsConfiguration"],
        "CorsConfiguration": ["s3:PutBucketCORS", "s3:DeleteBucketCors"],
        "IntelligentTieringConfigurations": ["s3:PutIntelligentTiering*"],
        "InventoryConfigurations": ["s3:PutInventory*"],
        "MetadataConfiguration": ["s3:*Metadata*", "s3tables:*"],
        "MetricsConfigurations": ["s3:PutMetrics*", "s3:DeleteBucketMetrics*"],
        "ObjectLockConfiguration": ["s3:PutBucketObjectLock*", "s3:PutObjectLock*"],
        "ReplicationConfiguration": ["s3:Put*Replication*", "s3:DeleteBucketReplication", "iam:PassRole"],
        "WebsiteConfiguration": ["s3:PutBucketWebsite", "s3:DeleteBucketWebsite", "s3:DeleteObject"],
    },
    "AWS::SNS::Topic": {"DataProtectionPolicy": ["sns:PutDataProtectionPolicy"], "DeliveryStatusLogging": ["iam:*"]},
    "AWS::SNS::Subscription": {"SubscriptionRoleArn": ["iam:*"]},
}
# Actions in CloudFormation's schemas that are never asked for, each with the reason.
NEVER = {
    "iam:DeleteRolePermissionsBoundary": "a role keeps its boundary; that is the point",
    "iam:PassRole": "looked at below, with the service that the role goes to",
    "s3:DeleteBucketEncryption": "IAM knows no such action",
    "s3:DeleteBucketLifecycle": "IAM knows no such action",
    "lambda:GetCodeSigningConfig": "there is none",
}


def needs(stack: Stack) -> Iterator[tuple[str, str, dict[str, str]]]:
    """What CloudFormation does for each resource of the toolchain, by its own schemas, as who deploys it."""
    for name, about in stack.resources.items():
        kind = stack.body["Resources"][name]["Type"]
        assert kind in WHERE, f"{kind} is new in the toolchain: the deployment role must be able to make it"
        place, context = WHERE[kind](about)
        handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema.get("handlers", {})
        actions = {one for verb, handler in handlers.items() if verb != "list" for one in handler["permissions"]}
        actions |= {f"{kind.split('::')[1].lower()}:{action}" for action in BY_HAND.get(kind, "").split()}
        left_out = [
            pattern for key, patterns in NOT_SET.get(kind, {}).items() if key not in about for pattern in patterns
        ]
        for action in sorted(actions):
            if action not in NEVER and not any(fnmatchcase(action, pattern) for pattern in left_out):
                yield (action, *ELSEWHERE.get(action, (place, context)))


@pytest.mark.parametrize("stack", STACKS, ids=["connection", "CodeCommit and VPC", "a group of another account"])
def test_the_deployment_role_can_make_change_and_delete_all_that_the_toolchain_holds(stack: Stack) -> None:
    assert [need for need in needs(stack) if not allows("DeploymentRole", *need)] == []


STACK_NAMES = (*(name.removesuffix(".yaml") for name in TEMPLATES), "pipeline", "staging", "production")
# What a session may do outside its project: look, and hand on a connection that is open to all.
SHARED = {"LogsAndNetworkOfFunctions", "LookForAliases", "LookAtModelPackageGroups", "Subscriptions"}
SHARED |= {"ConnectTheirSource"}


def things_of(project: str) -> set[str]:
    """The ARNs of all that a project has, with its stacks and its log groups by both of their ARNs."""
    made = {need[1] for stack in STACKS for need in needs(stack)}
    made |= {place.removesuffix(":*") for place in made}
    made |= {arn("cloudformation", f"stack/{PROJECT}-{name}/0a") for name in STACK_NAMES}
    return {place.replace(PROJECT, project) for place in made if PROJECT in place or "/0a" in place}


@pytest.mark.parametrize("longer", ["rings", "roles-x", "security", "storage-artifacts-x", REGION, f"{REGION}-x"])
def test_the_deployment_role_for_one_project_cannot_touch_another_one_whose_name_begins_alike(longer: str) -> None:
    """With every action that it has, on everything of the other one."""
    names = ("fraud", f"fraud-{longer}")
    for mine, theirs in (names, names[::-1]):
        session = [one for one in as_project(mine) if one["Sid"] not in SHARED]
        actions = {action for one in session if one["Effect"] == "Allow" for action in several(one["Action"])}
        tags = dict.fromkeys(TAGGED, theirs) | {"iam:PermissionsBoundary": BOUNDARY}
        tags |= {"iam:PassedToService": "codebuild.amazonaws.com"}
        reached = {
            (action, place)
            for place in things_of(theirs)
            for action in actions
            if action.split(":")[0] == place.split(":")[2] and allowed(session, action, place, tags)
        }
        assert reached == set(), mine


# -- what lies beside a role's own things -----------------------------------------------------------------------------

# Role -> pattern with one star, where it may do its work on another name too -> why. AWS or a person draws these names.
LOG_STREAMS, STACK_IDS = "AWS draws the names of log streams", "the name before it is of a project; AWS draws the rest"
VERSIONS, OPEN = "every version of the template, and its files", "AWS's tag on what Studio may use is asked"
BESIDE = {
    "LaunchRole": {
        SC.replace("/0a", "/*"): STACK_IDS,
        SC.replace("/0a", "*/0a"): STACK_IDS,
        "arn:aws:s3:::*/projects/0.1.0/project.yaml": "Service Catalog copies it into a bucket of its own",
        f"{BUCKET}/*/0.1.0/project.yaml": "the tag limits it",
        f"{BUCKET}/projects/*/project.yaml": VERSIONS,
        f"{BUCKET}/projects/0.1.0/*": VERSIONS,
        arn("sagemaker", "code-repository/*"): "a project's repository in Studio has any name",
    },
    "HandlerRole": {
        SEED_LOG.replace(":0a", ":*"): LOG_STREAMS,
        LAMBDA_LOG.replace(":0a", ":*"): LOG_STREAMS,
        LAMBDA_LOG.replace("log-stream", "*"): LOG_STREAMS,
        arn("sagemaker", "project/*"): "a project has any name",
    },
    "SeedRole": {
        arn("codecommit", "*"): OPEN,
        arn("codeconnections", "connection/*"): OPEN,
        arn("codestar-connections", "connection/*"): OPEN,
        SEED_LOG.replace(":0a", ":*"): LOG_STREAMS,
        SEED_LOG.replace("log-stream", "*"): LOG_STREAMS,
        f"{BUCKET}/handler/*": VERSIONS,
        f"{BUCKET}/seed/*/template.zip": VERSIONS,
        f"{BUCKET}/seed/0.1.0/*": VERSIONS,
    },
    "StudioUserPolicy": {
        SP.replace("/0a", "/*"): STACK_IDS,
        SP.replace("/0a", "*/0a"): STACK_IDS,
        f"{BUCKET}/projects/*/project.yaml": VERSIONS,
        f"{BUCKET}/projects/0.1.0/*": VERSIONS,
        arn("sagemaker", "domain/*"): "a person's own domain has any name; its tags are listed",
        arn("sagemaker", "project/*"): "a project has any name",
    },
    "DeploymentRole": {
        OLDER.replace("/0a", "/*"): "a connection has any id; the tag that opens it to Studio is asked",
        f"arn:aws:iam::{ACCOUNT}:role/{PROJECT}-{REGION}-*": "all roles of the project, under the boundary",
        arn("kms", "key/*"): "AWS draws the id of a key; its tag is asked",
        f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}/functions/*": "the code of a function lies under its digest",
        arn("sagemaker", "model-package-group/*"): "the team names its group; its tag is asked",
        arn("scheduler", f"schedule/{PROJECT}/*"): "all schedules of the project's own group",
        arn("ssm", f"parameter/{PROJECT}/*"): "all names that the project publishes",
    },
}


def beside(resource: str) -> Iterator[tuple[str, str]]:
    """(pattern with one star, what it stands for): each part of a resource's name another one, or another account."""
    start, parts = resource.split(":", 4)[:4], re.split(r"([/:])", resource.split(":", 4)[4])
    for at, part in enumerate(parts):
        for star, other in (
            (("*", "foreign"), (f"{part}*", f"{part}-foreign")) if part not in ("", "*", "/", ":") else ()
        ):
            pattern, there = (
                ":".join([*start, "".join([*parts[:at], one, *parts[at + 1 :]])]) for one in (star, other)
            )
            yield pattern, there


@pytest.mark.parametrize("role", BESIDE)
def test_a_role_may_do_its_work_on_nothing_beside_it_but_what_has_a_reason(role: str) -> None:
    """Rights that hold for every resource are left out: each has its reason in the template."""
    work = MUST.get(role) or [need for stack in STACKS for need in needs(stack)]
    said = as_project(PROJECT) if role == "DeploymentRole" else statements(role)
    said = [one for one in said if one["Effect"] == "Deny" or one.get("Resource") != "*" or role == "LaunchRole"]
    reached = {
        pattern
        for need in work
        for pattern, there in (beside(need[1]) if need[1] != "*" else ())
        if allowed(said, need[0], there, context_of(need))
    }
    covered = {(kept, one) for kept in BESIDE[role] for one in reached if enforcement.like(kept, one)}
    assert reached - {one for _, one in covered} == set()
    assert set(BESIDE[role]) - {kept for kept, _ in covered} == set(), "no reason is needed for these any more"


def passed_roles(value: Any) -> Iterator[str]:
    """ARNs of roles in properties that hand one over."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key in ("ServiceRole", "Role", "RoleArn") and isinstance(part, str):
                yield part
            elif key != "Configuration":  # CodePipeline passes those itself
                yield from passed_roles(part)
    elif isinstance(value, list):
        for part in value:
            yield from passed_roles(part)


@pytest.mark.parametrize("stack", STACKS, ids=["connection", "CodeCommit and VPC", "a group of another account"])
def test_the_deployment_role_passes_the_roles_that_the_toolchain_hands_over(stack: Stack) -> None:
    services = {"CodeBuild": "codebuild", "CodePipeline": "codepipeline", "Events": "events", "Lambda": "lambda"}
    for name, about in stack.resources.items():
        kind = stack.body["Resources"][name]["Type"].split("::")[1]
        for role in passed_roles(about):
            service = {"iam:PassedToService": f"{services[kind]}.amazonaws.com"}
            assert allows("DeploymentRole", "iam:PassRole", role, service), f"{name}: {role}"


ROLE = f"arn:aws:iam::{ACCOUNT}:role/{PROJECT}-{REGION}-build"
BOUNDED = {"iam:PermissionsBoundary": BOUNDARY}
WIDER = {"iam:PermissionsBoundary": "arn:aws:iam::aws:policy/AdministratorAccess"}
FORBIDDEN: list[Need] = [
    ("iam:CreateRole", ROLE),
    ("iam:CreateRole", ROLE, WIDER),
    ("iam:PutRolePermissionsBoundary", ROLE, WIDER),
    ("iam:DeleteRolePermissionsBoundary", ROLE, BOUNDED),
    ("iam:PutRolePolicy", ROLE),
    ("iam:AttachRolePolicy", ROLE, BOUNDED),
    ("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/Admin", BOUNDED),
    ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/x"),
    ("iam:CreatePolicyVersion", BOUNDARY),
    ("iam:PutRolePolicy", DEPLOYMENT, BOUNDED),
    ("iam:PassRole", ROLE, TO_CLOUDFORMATION),
    ("iam:PassRole", DEPLOYMENT, {"iam:PassedToService": "codebuild.amazonaws.com"}),
    ("cloudformation:CreateChangeSet", arn("cloudformation", f"stack/{PROJECT}-production/0a")),
    ("cloudformation:CreateChangeSet", arn("cloudformation", f"stack/{PROJECT}-staging/0a")),
    ("cloudformation:DeleteStack", arn("cloudformation", f"stack/{PROJECT}-production/0a")),
    ("cloudformation:DeleteStack", arn("cloudformation", "stack/scarcegan-administration/0a")),
    ("s3:PutBucketPolicy", BUCKET),
    ("s3:PutObject", f"{BUCKET}/seed/0.1.0/template.zip"),
    ("s3:PutObject", f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}/packages/set/model.tar.gz"),
    ("s3:GetObject", f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}/data/telemetry.parquet"),
    ("s3:DeleteObject", f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}/packages/set/model.tar.gz"),
    ("kms:ScheduleKeyDeletion", arn("kms", "key/0b"), {"aws:ResourceTag/sagemaker:project-name": OTHER}),
    ("kms:PutKeyPolicy", arn("kms", "key/0b")),
    ("lambda:UpdateFunctionCode", arn("lambda", "function:scarcegan-projects-seed")),
    ("codebuild:UpdateProject", SEED),
    ("codebuild:StartBuild", arn("codebuild", f"project/{PROJECT}-promote")),
    ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
    ("sagemaker:UpdateModelPackage", arn("sagemaker", "model-package/rare-group/1")),
    ("sagemaker:CreateEndpoint", arn("sagemaker", f"endpoint/{PROJECT}-production")),
]


def test_the_deployment_role_gives_no_right_beyond_the_boundary_and_reaches_no_production() -> None:
    assert [need for need in FORBIDDEN if allows("DeploymentRole", need[0], need[1], context_of(need))] == []


def test_the_deployment_role_deploys_the_stacks_and_takes_down_but_production() -> None:
    for name in ("storage", "roles-models", "roles-release", "toolchain"):
        stack = arn("cloudformation", f"stack/{PROJECT}-{name}/0a")
        for action in ("CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet", "DeleteChangeSet", "DeleteStack"):
            assert allows("DeploymentRole", f"cloudformation:{action}", stack), f"{action} {name}"
    for name in ("pipeline", "staging"):
        assert allows(
            "DeploymentRole", "cloudformation:DeleteStack", arn("cloudformation", f"stack/{PROJECT}-{name}/0a")
        )
    for name in ("toolchain", "production"):
        assert allows(
            "DeploymentRole", "cloudformation:DescribeStacks", arn("cloudformation", f"stack/{PROJECT}-{name}/*")
        )
    code = f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}/functions/register-0a.zip"
    assert allows("DeploymentRole", "s3:PutObject", code)


# -- the boundary -----------------------------------------------------------------------------------------------------


def bounded(action: str, resource: str) -> bool:
    return allowed(statements("Boundary"), action, resource, {})


@pytest.mark.parametrize("stack", STACKS, ids=["connection", "CodeCommit and VPC", "a group of another account"])
def test_the_boundary_takes_away_nothing_that_a_role_of_a_project_has(stack: Stack) -> None:
    app = {"MlflowAppArn": arn("sagemaker", "mlflow-app/app")}
    whole = Toolchain({**TOOLCHAIN, **({} if stack is STACKS[0] else VPC), **app})
    policies = [policy for role in whole.of_type("AWS::IAM::Role").values() for policy in role["Policies"]]
    policies += whole.of_type("AWS::IAM::Policy").values()
    given = [one for policy in policies for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Allow"]
    lost = {
        (action, resource)
        for one in given
        for action in several(one["Action"])
        for resource in several(one["Resource"])
        if not bounded(action.replace("*", "x"), resource.replace("*", "x"))
    }
    assert lost == set()


def test_a_role_of_a_project_may_read_templates_at_most() -> None:
    """Of all of S3's operations; its own policy says which objects (infra/roles-build.yaml: *.bundle)."""
    operations = boto3.client("s3", region_name=REGION).meta.service_model.operation_names
    actions = [*(f"s3:{name}" for name in operations), "s3:DeleteObjectVersion", "s3:ReplicateObject"]
    not_of_iam = {"s3:CopyObject", "s3:HeadObject", "s3:RenameObject"}  # which knows them under other actions' names
    can = [one for one in {*actions} - not_of_iam if bounded(one, f"{BUCKET}/template.bundle")]
    assert "s3:GetObject" in can and {name[:6] for name in can} == {"s3:Get"}, can


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/x"),
        ("iam:PutRolePolicy", ROLE),
        ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/Admin"),
        ("iam:PassRole", DEPLOYMENT),
        ("sts:AssumeRole", DEPLOYMENT),
        ("kms:PutKeyPolicy", arn("kms", "key/0a")),
        ("kms:ScheduleKeyDeletion", arn("kms", "key/0a")),
        ("s3:PutBucketPolicy", f"arn:aws:s3:::{PROJECT}-{ACCOUNT}-{REGION}"),
        ("s3:DeleteObjectVersion", f"{BUCKET}/projects/0.1.0/project.yaml"),
        ("s3:PutObject", f"{BUCKET}/seed/0.1.0/template.zip"),
        ("lambda:UpdateFunctionCode", arn("lambda", "function:scarcegan-projects-seed")),
        ("codebuild:StartBuild", SEED),
        ("codebuild:UpdateProject", arn("codebuild", f"project/{PROJECT}-promote")),
        ("codepipeline:UpdatePipeline", arn("codepipeline", f"{PROJECT}-deploy")),
        ("codepipeline:PutApprovalResult", arn("codepipeline", f"{PROJECT}-deploy/Approve/Approve")),
        ("cloudformation:UpdateStack", arn("cloudformation", "stack/scarcegan-administration/0a")),
        ("sagemaker:CreatePresignedDomainUrl", arn("sagemaker", "user-profile/d-1/boss")),
        ("sagemaker:UpdateProject", arn("sagemaker", "project/x")),
        ("organizations:LeaveOrganization", "*"),
    ],
)
def test_no_role_of_a_project_can_have_it_whatever_its_policy_says(action: str, resource: str) -> None:
    assert not bounded(action, resource)
