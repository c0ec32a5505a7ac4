"""The CloudFormation templates: valid, named as names.py names, every star with its reason. Nothing is deployed here.

checkov pins another boto3, so it has an environment of its own: `make lint-infra`.
"""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from scarcegan.aws.names import IMAGE_ACCOUNTS, LACKING, PIPELINE_ACTORS, Names, project_tags
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import scoring
from scarcegan.release.load import LOAD_CHARACTERS
from scarcegan.release.release import SUMMARY_CHARACTERS
from scarcegan.sagemaker import parameters, upsert
from stacks import ACCOUNT, INFRA, PUBLISHED, TOOLCHAIN, Stack, Toolchain, body_of, log_faults, policy_faults

TEMPLATES = sorted(INFRA.glob("*.yaml"))
LONGEST = "a" + "-bc" * 10 + "d"  # 32 characters
REGION = max([*IMAGE_ACCOUNTS, "ap-southeast-1"], key=len)
NAMES = Names(LONGEST, ACCOUNT, REGION)
ACTORS = {
    *("job", "pipeline", "scoring-job", "scoring-pipeline", "register", "check-approval"),
    *("serve-staging", "serve-production", "count-staging", "count-production"),
    *("build", "build-pipeline", "stack-pipeline", "prepare", "promote", "deploy-pipeline"),
    *("stack-staging", "stack-production", "events", "schedule"),
}
# Characters that AWS gives each name; https://docs.aws.amazon.com/general/latest/gr/aws-service-information.html
BUDGETS = {
    "AWS::S3::Bucket": ("BucketName", 63),
    "AWS::IAM::Role": ("RoleName", 64),
    "AWS::Lambda::Function": ("FunctionName", 64),
    "AWS::Events::Rule": ("Name", 64),
    "AWS::Scheduler::Schedule": ("Name", 64),
    "AWS::Scheduler::ScheduleGroup": ("Name", 64),
    "AWS::SageMaker::Endpoint": ("EndpointName", 63),
    "AWS::SageMaker::ModelPackageGroup": ("ModelPackageGroupName", 63),
    "AWS::CodeBuild::Project": ("Name", 150),
    "AWS::CodePipeline::Pipeline": ("Name", 100),
    "AWS::SNS::Topic": ("TopicName", 256),
    "AWS::SQS::Queue": ("QueueName", 80),
    "AWS::KMS::Alias": ("AliasName", 256),
    "AWS::Logs::LogGroup": ("LogGroupName", 512),
    "AWS::SSM::Parameter": ("Name", 1011),
    "AWS::ApplicationAutoScaling::ScalingPolicy": ("PolicyName", 256),
    "AWS::CloudWatch::Alarm": ("AlarmName", 255),
    "AWS::SageMaker::Model": ("ModelName", 63),
    "AWS::SageMaker::EndpointConfig": ("EndpointConfigName", 63),
}


EXAMPLE = {
    "SageMakerProjectName": LONGEST,
    "Repository": "acme/rare-players",
    "ModelPackageGroupName": "g" * 63,
    "KmsKeyArn": NAMES.arn("kms", "key/k"),
    "TopicArn": NAMES.arn("sns", f"{LONGEST}-notifications"),
    "KeyArn": NAMES.arn("kms", "key/k"),
    "BucketName": NAMES.bucket,
    "ArtifactsBucketName": "b" * 63,
    **PUBLISHED,
    "ScoringSchedule": "rate(7 days)",
}


BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary"


def body(template: Path) -> dict[str, Any]:
    return body_of(template.name)


def stack(template: str, **values: Any) -> Stack:
    """A template with the longest names there can be, in the region with the longest one."""
    declared = body(INFRA / template)["Parameters"]
    given = {name: EXAMPLE.get(name, guess(about)) for name, about in declared.items() if "Default" not in about}
    known = {name: value for name, value in EXAMPLE.items() if name in declared}
    made = Stack(template, {**given, **known, **values})
    made.values |= {"AWS::Region": REGION}
    return made


def toolchain(**values: Any) -> Toolchain:
    """The stacks of the toolchain as one, likewise."""
    given = {name: EXAMPLE[name] for name in ("SageMakerProjectName", "Repository", "ModelPackageGroupName")}
    made = Toolchain({**given, **values})
    made.values |= {"AWS::Region": REGION}
    return made


def guess(about: Mapping[str, Any]) -> Any:
    """Some value of a parameter's kind."""
    return about["AllowedValues"][-1] if "AllowedValues" in about else about.get("MaxValue", about.get("MinValue", "x"))


WHOLE = toolchain()


def lines(template: Path) -> Iterator[tuple[int, str]]:
    yield from enumerate(template.read_text(encoding="utf-8").splitlines(), start=1)


# -- valid ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_cfn_lint_has_nothing_to_say(template: Path) -> None:
    found = lint(template.read_text(encoding="utf-8"), config=ManualArgs(regions=["eu-west-1"]))
    assert not found, "\n".join(f"{match.rule.id} line {match.linenumber}: {match.message}" for match in found)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_star_has_its_reason_at_the_line(template: Path) -> None:
    star = re.compile(r'"\*"|Action: (\[.*)?[a-z0-9]+:\*')
    silent = [f"{number}: {line.strip()}" for number, line in lines(template) if star.search(line) and "#" not in line]
    denials = [number for number, line in lines(template) if "Action: s3:*" in line or "Action: sqs:*" in line]
    assert not [line for line in silent if int(line.split(":")[0]) not in denials]
    text = template.read_text(encoding="utf-8").splitlines()
    assert all("deni" in text[number - 2] for number in denials), "such an action stands in a denial only"


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_exception_from_a_linter_has_its_reason(template: Path) -> None:
    for about in body(template)["Resources"].values():
        for skip in about.get("Metadata", {}).get("checkov", {}).get("skip", []):
            assert len(skip["comment"]) > 30, skip
    for number, line in lines(template):
        assert "ignore_checks" not in line or "#" in line, f"{template.name}:{number}"
        assert "checkov:skip" not in line


def test_a_policy_fits_into_a_role() -> None:
    """10,240 characters of inline policies, blanks not counted. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
    vpc = {"VpcId": "vpc-1", "SubnetIds": "subnet-1", "SecurityGroupIds": "sg-1"}
    data = {"DataBucketName": "b" * 63, "DataPrefix": "p" * 199 + "/", "DataKeyArn": NAMES.arn("kms", "key/k")}
    full = toolchain(**vpc, **data, MlflowAppArn=NAMES.arn("sagemaker", "mlflow-app/app"))
    shared = full.of_type("AWS::IAM::Policy").values()
    for name, role in full.of_type("AWS::IAM::Role").items():
        documents = [policy["PolicyDocument"] for policy in role["Policies"]]
        documents += [policy["PolicyDocument"] for policy in shared if role["RoleName"] in policy["Roles"]]
        size = sum(len(re.sub(r"\s", "", json.dumps(document))) for document in documents)
        assert size <= 10240, f"{name}: {size}"


# -- five stacks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_fits_into_a_request_or_into_s3_where_the_toolchain_is_deployed_with_it(template: Path) -> None:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""
    uploaded = template.name in TOOLCHAIN and template.name != "storage.yaml"
    assert template.stat().st_size <= (1_000_000 if uploaded else 51_200)


def test_no_resource_and_no_output_stands_in_two_stacks_of_the_toolchain() -> None:
    for section in ("Resources", "Outputs"):
        names = [name for template in TOOLCHAIN for name in body(INFRA / template).get(section, {})]
        assert len(names) == len(set(names))


def test_only_the_stacks_of_roles_make_anything_of_iam() -> None:
    for template in TOOLCHAIN:
        kinds = {about["Type"] for about in body(INFRA / template)["Resources"].values()}
        assert any(kind.startswith("AWS::IAM::") for kind in kinds) == template.startswith("roles-")


def test_what_outlives_the_toolchain_is_all_in_the_storage_stack() -> None:
    for template in TOOLCHAIN:
        resources = body(INFRA / template)["Resources"]
        kept = {name for name, about in resources.items() if about.get("DeletionPolicy") == "RetainExceptOnCreate"}
        assert kept == ({"Key", "Bucket", "Artifacts", "ModelPackageGroup"} if template == "storage.yaml" else set())


def test_the_last_stack_names_roles_that_the_stacks_before_it_make() -> None:
    made = {NAMES.role(actor) for actor in ACTORS}
    named = set(re.findall(rf"role/({LONGEST}-{REGION}-[a-z-]+)", json.dumps(stack("toolchain.yaml").resources)))
    assert named and named <= made
    assert made == {
        role["RoleName"]
        for template in ("roles-models.yaml", "roles-build.yaml", "roles-release.yaml")
        for role in stack(template).of_type("AWS::IAM::Role").values()
    }


# -- names ------------------------------------------------------------------------------------------------------------


def test_the_toolchain_names_as_names_py_does() -> None:
    resources = WHOLE.resources
    assert resources["Bucket"]["BucketName"] == NAMES.bucket
    assert NAMES.key_alias_arn == NAMES.arn("kms", resources["KeyAlias"]["AliasName"])
    assert {role["RoleName"] for role in WHOLE.of_type("AWS::IAM::Role").values()} == {
        NAMES.role(actor) for actor in ACTORS
    }
    actions = [
        action["Configuration"]
        for pipeline in WHOLE.of_type("AWS::CodePipeline::Pipeline").values()
        for stage in pipeline["Stages"]
        for action in stage["Actions"]
    ]
    stacks = {action["StackName"] for action in actions if "StackName" in action}
    assert stacks == {NAMES.stack("pipeline"), NAMES.stack("staging"), NAMES.stack("production")}


def test_the_other_stacks_look_for_what_the_toolchain_made() -> None:
    for stage in ("staging", "production"):
        endpoint = stack("endpoint.yaml", Stage=stage).resources
        assert endpoint["Endpoint"]["EndpointName"] == NAMES.endpoint(stage)
        assert endpoint["Model"]["ExecutionRoleArn"] == NAMES.role_arn(f"serve-{stage}")
        for made in ("Model", "EndpointConfig"):  # the stage's role may make and delete what has these tags only
            tags = {tag["Key"]: tag["Value"] for tag in endpoint[made]["Tags"]}
            assert tags == {"sagemaker:project-name": LONGEST, "sagemaker:deployment-stage": stage}


def test_functions_that_no_push_may_change_stand_in_the_toolchain_alone() -> None:
    """A stack that a CodePipeline deploys is whatever template was pushed, with whatever code it names."""
    there = stack("toolchain.yaml").of_type("AWS::Lambda::Function")
    assert {function["FunctionName"]: function["Role"] for function in there.values()} == {
        NAMES.register_function: NAMES.role_arn("register"),
        f"{NAMES.project}-check-approval": NAMES.role_arn("check-approval"),
    }
    for function in there.values():
        assert function["Code"]["S3Bucket"] == NAMES.bucket
        assert function["Code"]["S3Key"].startswith(f"functions/{function['FunctionName'].removeprefix(LONGEST)[1:]}-")
    assert not stack("pipeline.yaml").of_type("AWS::Lambda::Function")


@pytest.mark.parametrize("parameter", ["RegisterCodeKey", "CheckApprovalCodeKey", "RareShareCodeKey"])
def test_a_function_takes_no_other_functions_code_and_nothing_from_elsewhere(parameter: str) -> None:
    pattern = body(INFRA / "toolchain.yaml")["Parameters"][parameter]["AllowedPattern"]
    others = [key for name, key in PUBLISHED.items() if key.endswith(".zip") and name != parameter]
    assert re.fullmatch(pattern, PUBLISHED[parameter])
    for key in (*others, PUBLISHED[parameter].replace("functions/", "code/"), "functions/x.zip"):
        assert not re.fullmatch(pattern, key), key


def test_what_others_look_up_is_published() -> None:
    vpc = {"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"}
    machines = {"JobInstanceTypes": "ml.m5.large,ml.c5.large", "EndpointInstanceTypes": "ml.m5.xlarge"}
    accounts = {"StagingAccount": "444455556666", "ProductionAccount": "777788889999"}
    whole = toolchain(**vpc, **machines, **accounts)
    published = whole.of_type("AWS::SSM::Parameter").values()
    assert {about["Type"] for about in published} == {"String"}
    assert {about["Name"]: about["Value"] for about in published} == {
        NAMES.parameter(name): value
        for name, value in {
            "bucket": NAMES.bucket,
            "key": whole.attribute("Key", "Arn"),
            "topic": whole.reference("Topic"),
            "model-package-group": EXAMPLE["ModelPackageGroupName"],
            "build-pipeline": NAMES.pipeline("build"),
            "deploy-pipeline": NAMES.pipeline("deploy"),
            "rare-share-code": PUBLISHED["RareShareCodeKey"],
            "toolchain-version": PUBLISHED["ToolchainVersion"],
            "network": "subnet-1,subnet-2 sg-1",
            "job-instance-types": machines["JobInstanceTypes"],
            "endpoint-instance-types": machines["EndpointInstanceTypes"],
            "accounts": '{"staging": "444455556666", "production": "777788889999"}',
        }.items()
    }


def test_outputs_are_what_their_names_and_the_parameters_that_they_fill_say() -> None:
    assert WHOLE.outputs == {
        "BucketName": NAMES.bucket,
        "ArtifactsBucketName": WHOLE.reference("Artifacts"),
        "KeyArn": WHOLE.attribute("Key", "Arn"),
        "ToolchainAccount": ACCOUNT,
        "PipelineRoleArn": NAMES.pipeline_role_arn("training"),
        "JobRoleArn": NAMES.job_role_arn("training"),
        "SecurityTopicArn": WHOLE.reference("SecurityTopic"),
        "TopicArn": WHOLE.reference("Topic"),
        "ModelPackageGroup": EXAMPLE["ModelPackageGroupName"],
        "BuildPipeline": NAMES.pipeline("build"),
        "DeployPipeline": NAMES.pipeline("deploy"),
        "RegisterFunctionArn": WHOLE.attribute("RegisterFunction", "Arn"),
    }
    endpoint = stack("endpoint.yaml", Stage="production", Version="7")
    assert endpoint.outputs == {
        "EndpointName": NAMES.endpoint("production"),
        "EndpointConfigName": endpoint.attribute("EndpointConfig", "EndpointConfigName"),
        "Version": "7",
    }


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_function_and_a_build_write_to_a_log_group_that_is_there_before_them(template: Path) -> None:
    for given in ({}, {"UpdateSchedule": "rate(7 days)"}):
        known = {name: value for name, value in given.items() if name in body(template)["Parameters"]}
        assert list(log_faults(stack(template.name, **known))) == []


def test_the_team_and_the_security_contact_are_subscribed_each_to_its_own_topic() -> None:
    named = {"NotificationEmail": ("Topic", "ada@example.com"), "SecurityEmail": ("SecurityTopic", "grace@example.com")}
    assert not WHOLE.of_type("AWS::SNS::Subscription")
    for parameter, (topic, address) in named.items():
        assert list(toolchain(**{parameter: address}).of_type("AWS::SNS::Subscription").values()) == [
            {"TopicArn": WHOLE.reference(topic), "Protocol": "email", "Endpoint": address}
        ]


GIVEN = {  # each parameter another value, so that none stands for another
    "Repository": "acme/rare",
    "Branch": "trunk",
    "ProjectFolder": "ml/rare/",
    "SageMakerProjectId": "p-1a2b",
    "TemplateRepository": "acme/template",
    "UpdateSchedule": "rate(7 days)",
    "ScoringSchedule": "rate(3 days)",
    "ApproverIdentities": "user/ada",
    "LogDays": "30",
}


@pytest.mark.parametrize("connection", ["", NAMES.arn("codeconnections", "connection/0a1b")])
def test_builds_and_functions_are_told_what_was_given(connection: str) -> None:
    whole = toolchain(**GIVEN, ConnectionArn=connection)
    every = {"SAGEMAKER_PROJECT_NAME": NAMES.project, "PROJECT_FOLDER": GIVEN["ProjectFolder"]}
    release = {**every, "SAGEMAKER_PROJECT_ID": GIVEN["SageMakerProjectId"]}
    update = {"REPOSITORY": GIVEN["Repository"], "BRANCH": "trunk", "TEMPLATE_REPOSITORY": GIVEN["TemplateRepository"]}
    update |= {**every, "TOPIC_ARN": whole.reference("Topic"), "PULL_REQUEST": "no" if connection else "yes"}
    told = {
        about["Name"]: {one["Name"]: one["Value"] for one in about["Environment"]["EnvironmentVariables"]}
        for about in whole.of_type("AWS::CodeBuild::Project").values()
    }
    assert told == {
        **{f"{NAMES.project}-{build}": release for build in ("build", "prepare", "promote")},
        f"{NAMES.project}-update": update,
    }
    group = EXAMPLE["ModelPackageGroupName"]
    functions = whole.of_type("AWS::Lambda::Function")
    assert {name: about["Environment"]["Variables"] for name, about in functions.items()} == {
        "RegisterFunction": {"BUCKET": NAMES.bucket, "GROUP": group},
        "CheckApprovalFunction": {
            "BUCKET": NAMES.bucket,
            "MODEL_PACKAGE_GROUP": NAMES.arn("sagemaker", f"model-package-group/{group}"),
            "SECOND_APPROVER": "no",
            "APPROVERS": GIVEN["ApproverIdentities"],
        },
    }
    assert {about["RetentionInDays"] for about in whole.of_type("AWS::Logs::LogGroup").values()} == {GIVEN["LogDays"]}


@pytest.mark.parametrize("connection", ["", NAMES.arn("codeconnections", "connection/0a1b")])
def test_every_codepipeline_fetches_the_branch_and_hands_over_in_the_bucket_of_the_pipelines(connection: str) -> None:
    whole = toolchain(**GIVEN, ConnectionArn=connection)
    repository = "FullRepositoryId" if connection else "RepositoryName"
    asked = {repository: GIVEN["Repository"], "BranchName": "trunk"} | (
        {"ConnectionArn": connection} if connection else {}
    )
    pipelines = whole.of_type("AWS::CodePipeline::Pipeline").values()
    assert len(pipelines) == 3
    for pipeline in pipelines:
        [source] = pipeline["Stages"][0]["Actions"]
        assert asked.items() <= source["Configuration"].items(), pipeline["Name"]
        assert pipeline["ArtifactStore"] == {
            "Type": "S3",
            "Location": whole.reference("Artifacts"),
            "EncryptionKey": {"Type": "KMS", "Id": whole.attribute("Key", "Arn")},
        }


def test_each_schedule_is_the_one_that_was_given() -> None:
    whole = toolchain(**GIVEN).resources
    assert whole["ScoringScheduled"]["ScheduleExpression"] == GIVEN["ScoringSchedule"]
    assert whole["UpdateRule"]["ScheduleExpression"] == GIVEN["UpdateSchedule"]


# -- the way of a release ---------------------------------------------------------------------------------------------


def release_actions() -> list[tuple[str, str, dict[str, Any]]]:
    """(stage, action, the action as a whole) of the deploy pipeline, in the order in which they run."""
    stages = WHOLE.resources["DeployPipeline"]["Stages"]
    ordered = [(stage, sorted(stage["Actions"], key=lambda action: action.get("RunOrder", 1))) for stage in stages]
    return [(stage["Name"], action["Name"], action) for stage, actions in ordered for action in actions]


def test_a_release_is_checked_before_production_and_is_the_champion_last() -> None:
    assert [(stage, action) for stage, action, _ in release_actions()] == [
        ("Source", "Source"),
        ("Prepare", "Prepare"),
        ("Staging", "Endpoint"),
        ("Staging", "Smoke"),
        ("Staging", "Load"),
        ("Staging", "SwitchOff"),
        ("Approve", "WhoStartedIt"),
        ("Approve", "Approve"),
        ("Production", "CheckApproval"),
        ("Production", "Endpoint"),
        ("Production", "Verify"),
        ("Production", "Scoring"),
        ("Production", "Promote"),
    ]
    orders = [action.get("RunOrder", 1) for stage, _, action in release_actions() if stage == "Production"]
    assert orders == sorted(set(orders)), "one after the other"


def test_each_part_of_a_release_gets_the_commits_files_and_a_build_runs_its_own_buildspec() -> None:
    """Without an override a build runs the buildspec of its project, which does another part's work."""
    projects = {p["Name"]: p["Source"]["BuildSpec"] for p in WHOLE.of_type("AWS::CodeBuild::Project").values()}
    files, buildspecs, variables = {}, {}, {}
    for stage, action, about in release_actions():
        given = about["Configuration"]
        files[stage, action] = [artifact["Name"] for artifact in about.get("InputArtifacts", ())]
        if "ProjectName" in given:
            path = given.get("BuildspecOverride", projects[given["ProjectName"]])
            told = json.loads(given.get("EnvironmentVariables", "[]"))
            variables[stage, action] = {each["name"]: each["value"] for each in told}
            buildspecs[stage, action] = Path(path).name.removesuffix(".buildspec.yml")
    assert buildspecs == {
        ("Prepare", "Prepare"): "prepare",
        ("Staging", "Smoke"): "smoke",
        ("Staging", "Load"): "load",
        ("Production", "Verify"): "smoke",
        ("Production", "Scoring"): "scoring",
        ("Production", "Promote"): "promote",
    }
    prepared = {"VERSION": "#{Prepare.VERSION}"}
    assert {part: told for part, told in variables.items() if told} == {
        ("Prepare", "Prepare"): {"VERSION": "#{variables.VERSION}"},
        ("Staging", "Smoke"): {"STAGE": "staging", **prepared},
        ("Staging", "Load"): {"STAGE": "staging"},
        ("Production", "Verify"): {"STAGE": "production", **prepared},
        ("Production", "Promote"): prepared,
    }
    assert {part: files.pop(part) for part in buildspecs} == {part: ["DeploySrc"] for part in buildspecs}
    assert {part: names for part, names in files.items() if names} == {
        ("Staging", "Endpoint"): ["DeploySrc", "DeployOut"],
        ("Production", "CheckApproval"): ["DeployOut"],
        ("Production", "Endpoint"): ["DeploySrc", "Checked"],
    }


def test_before_the_approval_a_release_acts_with_roles_that_write_nothing_of_production() -> None:
    projects = {about["Name"]: about["ServiceRole"] for about in WHOLE.of_type("AWS::CodeBuild::Project").values()}
    roles: dict[str, list[str]] = {}
    for stage, _, action in release_actions():
        asked = action["Configuration"]
        found = projects.get(asked.get("ProjectName"), asked.get("RoleArn"))
        roles.setdefault(stage, []).extend([found.rpartition(f"{REGION}-")[2]] if found else [])
    assert roles == {
        "Source": [],
        "Prepare": ["prepare"],
        "Staging": ["stack-staging", "prepare", "prepare", "stack-staging"],
        "Approve": [],
        "Production": ["stack-production", "promote", "promote", "promote"],
    }


def test_the_approvals_text_begins_with_what_codepipeline_knows_of_commit_version_and_model() -> None:
    """1,000 characters at most, https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_ActionConfigurationProperty.html"""
    [text] = [action["Configuration"]["CustomData"] for _, name, action in release_actions() if name == "Approve"]
    first = "Commit #{Source.CommitId}, version #{Prepare.VERSION}, model #{Prepare.DIGEST}, started by #{Started.BY}."
    assert text.startswith(f"{first} Its code says: ")
    filled = text.replace("#{Source.CommitId}", "c" * 40).replace("#{Prepare.SUMMARY}", "s" * SUMMARY_CHARACTERS)
    filled = filled.replace("#{Load.LOAD}", "l" * LOAD_CHARACTERS).replace("#{Started.BY}", "b" * 44)
    filled = filled.replace("#{Prepare.VERSION}", "7" * 6).replace("#{Prepare.DIGEST}", "d" * 64)
    assert len(filled) <= 1000 and "#{" not in filled
    sources = [source for stage, _, source in release_actions() if stage == "Source"]
    assert [source["Namespace"] for source in sources] == ["Source"]
    connected = toolchain(ConnectionArn=NAMES.arn("codeconnections", "connection/0a1b")).resources["DeployPipeline"]
    assert connected["Stages"][0]["Actions"][0]["Namespace"] == "Source"


def test_what_the_check_is_told_by_codepipeline_wins_over_what_a_build_exports() -> None:
    """A build exports VERSION and DIGEST; the text is JSON, in which the later of two fields with one name counts."""
    [check] = [action["Configuration"] for _, name, action in release_actions() if name == "CheckApproval"]
    filled = check["UserParameters"]
    for name, value in (
        ("Prepare.VERSION", "7"),
        ("Prepare.DIGEST", 'd", "commit": "mine", "execution": "mine'),
        ("Prepare.PREPARED", "p"),
        ("codepipeline.PipelineExecutionId", "e-1"),
        ("Source.CommitId", "c0ffee"),
    ):
        filled = filled.replace(f"#{{{name}}}", value)
    assert json.loads(filled) == {
        **{"version": "7", "digest": "d", "prepared": "p", "pipeline": NAMES.pipeline("deploy")},
        **{"execution": "e-1", "commit": "c0ffee"},
    }
    assert check["FunctionName"] == WHOLE.reference("CheckApprovalFunction")
    assert len(filled) <= 1000


def test_production_is_given_what_was_checked_and_staging_what_prepare_hands_over() -> None:
    stages = {stage["Name"]: stage["Actions"] for stage in WHOLE.resources["DeployPipeline"]["Stages"]}
    for stage, artifact in (("Staging", "DeployOut"), ("Production", "Checked")):
        [endpoint] = [action for action in stages[stage] if action["Name"] == "Endpoint"]
        assert endpoint["Configuration"]["TemplateConfiguration"] == f"{artifact}::build/{stage.lower()}.json"
        assert [given["Name"] for given in endpoint["InputArtifacts"]] == ["DeploySrc", artifact]
        assert "ParameterOverrides" not in endpoint["Configuration"], "of two sources of a value, one is not checked"
    check = stages["Production"][0]
    assert (check["Name"], check["OutputArtifacts"]) == ("CheckApproval", [{"Name": "Checked"}])


def test_a_second_approver_is_asked_for_where_the_toolchain_says_so() -> None:
    for asked in ("yes", "no"):
        function = toolchain(SecondApprover=asked).resources["CheckApprovalFunction"]
        assert function["Environment"]["Variables"]["SECOND_APPROVER"] == asked
    assert WHOLE.resources["CheckApprovalFunction"]["Environment"]["Variables"]["SECOND_APPROVER"] == "no"


def roles_of(pipeline: str) -> tuple[str, str]:
    return NAMES.pipeline_role_arn(pipeline), NAMES.job_role_arn(pipeline)


def test_policies_speak_of_the_things_as_names_py_names_them() -> None:
    shared = list(WHOLE.of_type("AWS::IAM::Policy").values())
    said = json.dumps([shared, *(role["Policies"] for role in WHOLE.of_type("AWS::IAM::Role").values())])
    for arn in (
        NAMES.register_function_arn,
        NAMES.arn("lambda", f"function:{NAMES.project}-check-approval"),
        NAMES.arn("sagemaker", f"pipeline/{NAMES.pipeline('training')}"),
        NAMES.arn("sagemaker", f"pipeline/{NAMES.pipeline('scoring')}"),
        NAMES.arn("sagemaker", f"endpoint/{NAMES.endpoint('production')}"),
        NAMES.arn("ssm", f"parameter{NAMES.parameter('champion')}"),
        *(NAMES.role_arn(actor) for actor in ("serve-production", "count-production", "stack-production")),
        *(part for pipeline in PIPELINE_ACTORS for part in roles_of(pipeline)),
    ):
        assert f'"{arn}"' in said, arn


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_name_fits_with_the_longest_project_in_the_longest_region(template: Path) -> None:
    made = stack(template.name)
    assert len(LONGEST) == 32
    for kind, (key, most) in BUDGETS.items():
        for name, about in made.of_type(kind).items():
            assert len(str(about.get(key, ""))) <= most, f"{name}: {about[key]}"


# -- regions and partitions -------------------------------------------------------------------------------------------


def test_the_regions_that_lack_a_resource_are_those_of_cfn_lints_own_data() -> None:
    kinds = {about["Type"] for template in TEMPLATES for about in body(template)["Resources"].values()}
    known = {region: set(PROVIDER_SCHEMA_MANAGER.get_resource_types(region)) for region in IMAGE_ACCOUNTS}
    lacking = {kind: {region for region, there in known.items() if kind not in there} for kind in kinds}
    assert {kind: regions for kind, regions in lacking.items() if regions} == LACKING


def principals(value: Any) -> Iterator[str]:
    """Every service principal in a part of a template."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "Principal" and isinstance(part, str) and part != "*":
                yield part
            elif key == "Service":
                yield from [part] if isinstance(part, str) else part
            else:
                yield from principals(part)
    elif isinstance(value, list):
        for part in value:
            yield from principals(part)


@pytest.mark.parametrize(("region", "suffix"), [("eu-west-1", "amazonaws.com"), ("cn-north-1", "amazonaws.com.cn")])
def test_only_the_principal_of_logs_has_a_region_and_the_ending_of_its_partition(region: str, suffix: str) -> None:
    """Of the services here; KMS and IAM refuse a policy with any other principal."""
    found = set()
    for template in TEMPLATES:
        made = stack(template.name)
        made.values |= {"AWS::Region": region, "AWS::URLSuffix": suffix}
        found |= set(principals(made.resources))
    assert f"logs.{region}.{suffix}" in found and len(found) > 8
    services = {name.removesuffix(".amazonaws.com") for name in found - {f"logs.{region}.{suffix}"}}
    assert services == {
        *("cloudformation", "cloudwatch", "codebuild", "codepipeline", "events", "lambda", "sagemaker", "scheduler")
    }


# -- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TOOLCHAIN)
def test_optional_parameters_say_so_and_every_parameter_has_its_place_in_the_console(template: str) -> None:
    read = body(INFRA / template)
    declared = read["Parameters"]
    for name, about in declared.items():
        assert about["Description"].startswith("Optional. ") == ("Default" in about), name
    groups = read["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(declared)


ONE_NETWORK = {"VpcId": "vpc-1", "SubnetIds": "subnet-1", "SecurityGroupIds": "sg-1"}
DATA = ({"DataBucketName": "telemetry"}, {"DataPrefix": "players/"})
REFUSED = [  # template, rule, what is refused, and what mends it
    (
        "endpoint.yaml",
        "AShiftInStepsNeedsTwoInstances",
        {"Traffic": "CANARY", "MinInstances": "1"},
        {"MinInstances": "2"},
    ),
    (
        "endpoint.yaml",
        "AShiftInStepsNeedsTwoInstances",
        {"Traffic": "LINEAR", "MinInstances": "1"},
        {"MinInstances": "2"},
    ),
    ("roles-build.yaml", "OneFolderOfYourBucket", *DATA),
    ("roles-models.yaml", "OneFolderOfYourBucket", *DATA),
    (
        "storage.yaml",
        "AnotherAccountsGroupExists",
        {"ModelPackageGroupAccount": "999988887777"},
        {"CreateModelPackageGroup": "no"},
    ),
    ("target.yaml", "AVpcHasAllItsParts", {**ONE_NETWORK, "SubnetIds": ""}, ONE_NETWORK),
    ("target.yaml", "AVpcHasAllItsParts", {**ONE_NETWORK, "SecurityGroupIds": ""}, ONE_NETWORK),
    ("toolchain.yaml", "SecondApproverIsAPerson", {"SecondApprover": "yes"}, {"ApproverIdentities": "user/ada"}),
]


@pytest.mark.parametrize(("template", "rule", "given", "mend"), REFUSED)
def test_a_template_refuses_what_cannot_work(template: str, rule: str, given: dict[str, str], mend: dict[str, str]):
    assert stack(template).refusals == []
    assert stack(template, **given).refusals == [rule]
    assert stack(template, **{**given, **mend}).refusals == []


def test_every_rule_of_a_template_is_looked_at_above() -> None:
    rules = {(template.name, rule) for template in TEMPLATES for rule in body(template).get("Rules", {})}
    assert {row[:2] for row in REFUSED} == rules


def test_a_parameter_and_a_condition_are_declared_alike_in_every_stack_of_the_toolchain() -> None:
    for section in ("Parameters", "Conditions"):
        first: dict[str, Any] = {}
        for template in TOOLCHAIN:
            for name, about in body(INFRA / template)[section].items():
                assert first.setdefault(name, about) == about, f"{template}: {name}"


HOSTILE = ["", "-a", "a-", "A", "a--b", "aws-x", "ssm", "a b", "a;b", "$(id)", "a'b", 'a"b', "a\nb", "${x}", "#{x}"]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("parameter", ["SageMakerProjectName", "Repository", "Branch", "ConnectionArn"])
def test_no_parameter_takes_what_a_shell_would_read(parameter: str, value: str) -> None:
    """CloudFormation asks for a match of the whole text."""
    pattern = WHOLE.body["Parameters"][parameter]["AllowedPattern"]
    harmless = {"Repository": HOSTILE[2:7], "Branch": HOSTILE[2:7], "ConnectionArn": [""], "SageMakerProjectName": []}
    assert bool(re.fullmatch(pattern, value)) == (value in harmless[parameter])


NO_NAMES = ["..", "../x/owner/name", "a/..", "a..b", "x.lock", "x.lock/a", ".x", "a/.x", "-x", "x.", "a//b", "/a", "a/"]


@pytest.mark.parametrize("parameter", ["Repository", "TemplateRepository", "Branch"])
def test_a_repository_stays_in_its_address_and_a_branch_is_one_that_git_takes(parameter: str) -> None:
    for template in ("toolchain", "roles-build", "roles-release"):
        declared = body(INFRA / f"{template}.yaml")["Parameters"]
        pattern = declared.get(parameter, WHOLE.body["Parameters"][parameter])["AllowedPattern"]
        assert [name for name in NO_NAMES if re.fullmatch(pattern, name)] == []
        for name in ("main", "release/1.0", "a.b-c_d", "group/sub/x.locks", "a/HEAD", "HEAD"):
            asked = subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True)
            assert bool(re.fullmatch(pattern, name)) == (asked.returncode == 0 or parameter != "Branch"), name


def test_a_projects_folder_lies_in_the_repository_and_is_written_with_a_slash_at_its_end() -> None:
    pattern = WHOLE.body["Parameters"]["ProjectFolder"]["AllowedPattern"]
    refused = [*HOSTILE[1:], "models", "/models/", "../", "models/../", "./", "models//", "a b/", "$(id)/", "a/**/"]
    assert [folder for folder in refused if re.fullmatch(pattern, folder)] == []
    assert all(re.fullmatch(pattern, folder) for folder in ("", "models/", "models/fraud-2/", ".ml/a..b/"))


def test_commands_hold_no_text_of_parameters_or_commits() -> None:
    """Buildspecs are files; CodePipeline puts a version and a stage into variables, and words into the approval."""
    for project in WHOLE.of_type("AWS::CodeBuild::Project").values():
        assert re.fullmatch(r"infra/[a-z]+\.buildspec\.yml", project["Source"]["BuildSpec"])
    for pipeline in WHOLE.of_type("AWS::CodePipeline::Pipeline").values():
        for action in (action for stage in pipeline["Stages"] for action in stage["Actions"]):
            asked = action["Configuration"]
            assert action["ActionTypeId"]["Provider"] in (
                ("CodeBuild", "CloudFormation", "Manual", "CodeCommit", "CodeStarSourceConnection", "Lambda")
            )
            no_commands = ("CustomData", "UserParameters", "ParameterOverrides")
            commands = {key: value for key, value in asked.items() if key not in no_commands}
            inserted = re.findall(r"#\{([^}]*)\}", json.dumps(commands))
            assert set(inserted) <= {"variables.VERSION", "Prepare.VERSION"}, "only numbers"


def test_the_pipeline_stack_is_given_every_parameter_it_has() -> None:
    functions = next(
        action["Configuration"]
        for stage in WHOLE.resources["BuildPipeline"]["Stages"]
        for action in stage["Actions"]
        if action["Name"] == "Surroundings"
    )
    overrides = json.loads(functions["ParameterOverrides"])
    assert len(functions["ParameterOverrides"]) <= 1000
    tags = project_tags(Config())
    written = upsert.template_configuration(tags)["Parameters"]
    assert not set(overrides) & set(written)
    declared = body(INFRA / "pipeline.yaml")["Parameters"]
    assert {*overrides, *written} == set(declared)
    for name, value in {**overrides, **written}.items():
        pattern = declared[name]["AllowedPattern"]
        assert name == "TopicArn" or re.fullmatch(pattern, value), f"{name}: {value}"


def test_outputs_are_kept_longer_than_the_cache_points_at_them() -> None:
    assert WHOLE.body["Parameters"]["KeepRunsDays"]["Default"] > Config().cloud.cache_days


# -- the schedule -----------------------------------------------------------------------------------------------------


def test_the_schedule_starts_scoring_with_parameters_it_has_and_a_fresh_fingerprint() -> None:
    whole = toolchain(ScoringSchedule="rate(7 days)").resources
    target = whole["ScoringScheduled"]["Target"]
    assert whole["ScoringScheduled"]["GroupName"] == NAMES.project
    assert target["RoleArn"] == NAMES.role_arn("schedule")
    assert stack("pipeline.yaml").of_type("AWS::Scheduler::Schedule") == {}, "a push changes that template"
    sent = json.loads(target["Input"].replace("<aws.scheduler.scheduled-time>", "2026-11-21T10:00:00Z"))
    assert sent["PipelineName"] == NAMES.pipeline("scoring")
    assert 32 <= len(sent["ClientRequestToken"]) <= 128
    known = parameters.pipeline_parameters(scoring(Config()), Config(), NAMES)
    fingerprints = {name for name in known if name.endswith("Fingerprint")}
    assert {item["Name"] for item in sent["PipelineParameters"]} == fingerprints
    assert all(item["Value"] == "2026-11-21T10:00:00Z" for item in sent["PipelineParameters"])


def test_without_a_schedule_nobody_is_scored_by_itself() -> None:
    assert "ScoringScheduled" not in WHOLE.resources


# -- what is kept, what is closed -------------------------------------------------------------------------------------


def test_buckets_are_closed_encrypted_versioned_and_speak_tls_only() -> None:
    buckets = WHOLE.of_type("AWS::S3::Bucket")
    policies = WHOLE.of_type("AWS::S3::BucketPolicy")
    assert len(buckets) == len(policies) == 2
    for about in buckets.values():
        assert all(about["PublicAccessBlockConfiguration"].values())
        assert about["VersioningConfiguration"] == {"Status": "Enabled"}
        [rule] = about["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    logged = toolchain(AccessLogBucketName="logs-of-acme").of_type("AWS::S3::Bucket").values()
    places = [tuple(about["LoggingConfiguration"].values()) for about in logged]
    assert sorted(places) == [("logs-of-acme", f"{LONGEST}-artifacts/"), ("logs-of-acme", f"{LONGEST}/")]
    for about in policies.values():
        statement = about["PolicyDocument"]["Statement"][0]
        assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_bucket_topic_and_queue_has_a_policy_that_speaks_of_it(template: Path) -> None:
    assert list(policy_faults(stack(template.name))) == []


def test_the_alias_by_which_jobs_find_the_key_is_the_keys() -> None:
    assert WHOLE.resources["KeyAlias"]["TargetKeyId"] == WHOLE.reference("Key")
    assert WHOLE.resources["Key"]["EnableKeyRotation"] is True


def test_a_service_uses_the_key_for_this_project_only() -> None:
    account, *services = WHOLE.resources["Key"]["KeyPolicy"]["Statement"]
    assert account["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    for statement in services:
        asked = json.dumps(statement["Condition"])
        assert ACCOUNT in asked and LONGEST in asked, statement["Sid"]


def test_what_holds_models_or_their_key_outlives_the_stack() -> None:
    for name in ("Bucket", "Key", "ModelPackageGroup"):
        about = WHOLE.body["Resources"][name]
        assert (about["DeletionPolicy"], about["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_a_given_group_is_not_made_and_policies_speak_of_its_account() -> None:
    given = toolchain(CreateModelPackageGroup="no", ModelPackageGroupAccount="999988887777")
    assert not given.of_type("AWS::SageMaker::ModelPackageGroup")
    said = json.dumps(given.resources["RegisterRole"]["Policies"])
    assert f"arn:aws:sagemaker:{REGION}:999988887777:model-package/{'g' * 63}/*" in said


def test_a_group_is_shared_only_with_accounts_that_are_named() -> None:
    assert "ModelPackageGroupPolicy" not in WHOLE.resources["ModelPackageGroup"]
    shared = toolchain(ModelPackageGroupReaders="999988887777").resources["ModelPackageGroup"]
    pattern = WHOLE.body["Parameters"]["ModelPackageGroupReaders"]["AllowedPattern"]
    assert re.fullmatch(pattern, "999988887777") and not re.fullmatch(pattern, "*"), "a star is everybody"
    for statement in shared["ModelPackageGroupPolicy"]["Statement"]:
        assert statement["Principal"] == {"AWS": ["999988887777"]}
        assert "UpdateModelPackage" not in json.dumps(statement), "another account does not approve"


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_role_takes_the_permissions_boundary_that_is_given(template: Path) -> None:
    if any(about["Type"] == "AWS::IAM::Role" for about in body(template)["Resources"].values()):
        for given, boundary in (({}, None), ({"PermissionsBoundaryArn": BOUNDARY}, BOUNDARY)):
            roles = stack(template.name, **given).of_type("AWS::IAM::Role").values()
            assert {about.get("PermissionsBoundary") for about in roles} == {boundary}


def test_builds_are_logged_limited_encrypted_and_of_a_named_python() -> None:
    for project in WHOLE.of_type("AWS::CodeBuild::Project").values():
        assert project["Environment"]["Image"] == "aws/codebuild/amazonlinux-x86_64-standard:5.0"
        assert project["TimeoutInMinutes"] <= 60 and project["ConcurrentBuildLimit"] == 1 and project["EncryptionKey"]
        assert "PrivilegedMode" not in project["Environment"]
    for group in WHOLE.of_type("AWS::Logs::LogGroup").values():
        assert group["RetentionInDays"] and group["KmsKeyId"]


def test_builds_enter_the_vpc_only_where_one_is_given() -> None:
    assert not any("VpcConfig" in about for about in WHOLE.of_type("AWS::CodeBuild::Project").values())
    assert "VpcPolicy" not in WHOLE.resources
    inside = toolchain(VpcId="vpc-1", SubnetIds="subnet-1,subnet-2", SecurityGroupIds="sg-1")
    for project in inside.of_type("AWS::CodeBuild::Project").values():
        assert project["VpcConfig"] == {
            "VpcId": "vpc-1",
            "Subnets": ["subnet-1", "subnet-2"],
            "SecurityGroupIds": ["sg-1"],
        }


def test_functions_enter_the_vpc_only_where_one_is_given() -> None:
    assert not any("VpcConfig" in about for about in WHOLE.of_type("AWS::Lambda::Function").values())
    for part in ({"VpcId": "vpc-1"}, {"SubnetIds": "subnet-1", "SecurityGroupIds": "sg-1"}):
        without = toolchain(**part)
        assert not any("VpcConfig" in about for about in without.of_type("AWS::Lambda::Function").values())
        assert "NetworkParameter" not in without.resources
    inside = toolchain(VpcId="vpc-1", SubnetIds="subnet-1,subnet-2", SecurityGroupIds="sg-1")
    functions = inside.of_type("AWS::Lambda::Function")
    assert set(functions) == {"RegisterFunction", "CheckApprovalFunction"}
    for function in functions.values():
        assert function["VpcConfig"] == {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}


def test_every_build_takes_its_packages_from_the_mirror_that_is_given() -> None:
    """pip reads PIP_INDEX_URL, also where `scarcegan upsert` calls it for wheels. https://pip.pypa.io/en/stable/cli/pip_install/#cmdoption-i"""
    mirror = "https://packages.example.com/simple/"
    for given in ("", mirror):
        inside = toolchain(PackageIndexUrl=given, UpdateSchedule="rate(7 days)")
        for project in inside.of_type("AWS::CodeBuild::Project").values():
            named = {one["Name"]: one["Value"] for one in project["Environment"]["EnvironmentVariables"]}
            assert named.get("PIP_INDEX_URL", "") == given, project["Name"]


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("", True),
        ("https://packages.example.com:8443/repository/pypi/simple/", True),
        ("http://packages.example.com/simple/", False),
        ("https://ada:secret@packages.example.com/simple/", False),  # a parameter is no place for a password
        ("https://packages.example.com/simple/ --extra-index-url=x", False),
    ],
)
def test_a_mirror_is_an_address_without_a_password(url: str, taken: bool) -> None:
    pattern = WHOLE.body["Parameters"]["PackageIndexUrl"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, url)) == taken


def test_a_stack_that_failed_is_replaced_by_itself_where_nothing_is_lost_and_nowhere_else() -> None:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/continuous-delivery-codepipeline-action-reference.html"""
    modes = {
        action["Configuration"]["StackName"].rsplit("-", 1)[1]: action["Configuration"]["ActionMode"]
        for pipeline in WHOLE.of_type("AWS::CodePipeline::Pipeline").values()
        for stage in pipeline["Stages"]
        for action in stage["Actions"]
        if action["ActionTypeId"]["Provider"] == "CloudFormation" and action["Name"] != "SwitchOff"
    }
    assert modes == {"pipeline": "REPLACE_ON_FAILURE", "staging": "CREATE_UPDATE", "production": "CREATE_UPDATE"}


def test_staging_is_off_once_its_tests_have_passed_unless_it_shall_always_run() -> None:
    """It is deleted within the stage that tests it, where no other release can be, and by the role that makes it."""
    for when, last in (("while-tested", "SwitchOff"), ("always", "Smoke")):
        [staging] = [
            stage
            for pipeline in toolchain(StagingRuns=when).of_type("AWS::CodePipeline::Pipeline").values()
            for stage in pipeline["Stages"]
            if stage["Name"] == "Staging"
        ]
        actions = sorted(staging["Actions"], key=lambda action: action["RunOrder"])
        assert actions[0]["Name"] == "Endpoint" and (actions[-1]["Name"] == "SwitchOff") == (last == "SwitchOff")
        if last == "SwitchOff":
            made, deleted = actions[0]["Configuration"], actions[-1]["Configuration"]
            assert actions[-1]["RunOrder"] > actions[-2]["RunOrder"]
            assert deleted == {"ActionMode": "DELETE_ONLY", "StackName": made["StackName"], "RoleArn": made["RoleArn"]}


def test_nothing_of_staging_outlives_its_stack_or_a_deletion_would_leave_what_is_paid() -> None:
    for name, about in body(INFRA / "endpoint.yaml")["Resources"].items():
        assert about.get("DeletionPolicy", "Delete") == "Delete", name


def test_what_names_people_does_not_stay_for_ever() -> None:
    rules = toolchain(KeepScoresDays="30").resources["Bucket"]["LifecycleConfiguration"]["Rules"]
    kept = {rule["Prefix"]: str(rule["ExpirationInDays"]) for rule in rules if "Prefix" in rule}
    assert kept == {"runs/": "90", "scoring/": "90", "capture/": "90", "scored/": "30"}


def test_old_versions_of_what_names_people_go_too_also_of_a_file_that_was_written_once() -> None:
    rules = toolchain().resources["Bucket"]["LifecycleConfiguration"]["Rules"]
    [old] = [rule for rule in rules if "NoncurrentVersionExpiration" in rule]
    assert old.keys().isdisjoint({"Prefix", "TagFilters"}), "it is for every object"
    assert old["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}, "S3 keeps NewerNoncurrentVersions for ever"
