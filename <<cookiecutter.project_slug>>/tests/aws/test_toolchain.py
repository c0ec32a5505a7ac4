"""The plan of the toolchain's stacks, and the walk that deploys them. CloudFormation is botocore's Stubber here.

The commands of a dry run are run by bash, with a stand-in for the AWS CLI that records them.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from moto import mock_aws

import stacks
from canned_aws import Canned, Refusal
from scarcegan.aws import parameter_rules, toolchain
from scarcegan.aws.client import Aws
from scarcegan.aws.names import Names
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config, load_config

ROOT = stacks.INFRA.parent
NAMES = Names("rare-players", "123456789012", "eu-west-1")
ALL = [NAMES.stack(name) for name in toolchain.STACKS]
STORAGE, MODELS, *BETWEEN, TOOLCHAIN = ALL
KEY = NAMES.arn("kms", "key/1234")
OUTPUTS = {
    STORAGE: {"KeyArn": KEY, "BucketName": NAMES.bucket, "ArtifactsBucketName": "made-artifacts"},
    MODELS: {"JobRoleArn": NAMES.role_arn("job")},
    TOOLCHAIN: {"TopicArn": NAMES.arn("sns", "topic")},
}
GIVEN = {"Repository": "rare"}  # on CodeCommit, so without a connection
CODE = toolchain.FunctionCode(
    {"functions/register-0a.zip": b"zip", "functions/rare-share-0b.zip": b"another"},
    {
        "RegisterCodeKey": "functions/register-0a.zip",
        "CheckApprovalCodeKey": "functions/check-approval-0c.zip",
        "RareShareCodeKey": "functions/rare-share-0b.zip",
        "ToolchainVersion": "0123456789abcdef",
    },
)
ID = "arn:aws:cloudformation:eu-west-1:123456789012:stack/"  # of a stack, before its name
MOMENT = datetime(2026, 11, 21, tzinfo=UTC)
STAND_IN = r"""#!/usr/bin/env bash
printf '%s\037' "$@" >> "$CALLS"; printf '\036' >> "$CALLS"
if [ "$2" = describe-stacks ]; then echo "of $6: $8"; fi
[ "$6" != "$FAIL" ]
"""


@pytest.fixture
def settings(tmp_path):
    """Settings of config.yaml that a test names."""

    def of(text: str = "{}") -> Config:
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
        return load_config(tmp_path / "config.yaml")

    return of


def make_plan(config: Config | None = None, **given: str) -> toolchain.ToolchainPlan:
    return toolchain.plan_toolchain(ROOT, config or Config(), given, CODE)


def declared(stack: toolchain.Stack) -> dict[str, Any]:
    return stacks.body_of(stack.template.name)["Parameters"]


# -- the plan -------------------------------------------------------------------------------------------------------


def test_the_stacks_are_the_templates_in_the_order_in_which_they_are_deployed():
    assert tuple(stack.template.name for stack in make_plan().stacks) == stacks.TOOLCHAIN
    assert [stack.name for stack in make_plan().stacks] == ALL


def test_every_parameter_of_every_template_can_be_given_and_no_stack_gets_one_it_does_not_know_checked_statically():
    defaults = {name: about for stack in make_plan().stacks for name, about in declared(stack).items()}
    free = {name: str(about.get("Default", "acme/rare")) for name, about in defaults.items()}
    makers = {name for stack in make_plan().stacks for name in stack.inputs}
    fixed = {*toolchain.FROM_CONFIG, *makers, *CODE.parameters}
    given = {name: value for name, value in free.items() if name not in fixed}
    for stack in make_plan(**given).stacks:
        assert sorted([*stack.parameters, *stack.inputs]) == sorted(declared(stack)), stack.name
        assert set(stack.declared) == set(declared(stack))


def test_an_output_is_taken_from_a_stack_that_is_deployed_before_checked_statically():
    plan = make_plan()
    order = [stack.name for stack in plan.stacks]
    for stack in plan.stacks:
        for name, maker in stack.inputs.items():
            assert order.index(maker) < order.index(stack.name)
            assert (
                name in stacks.Stack.read(SimpleNamespace(), plan.stacks[order.index(maker)].template.name)["Outputs"]
            )
    assert plan.stacks[-1].inputs == dict.fromkeys(("KeyArn", "BucketName", "ArtifactsBucketName"), STORAGE)


def test_only_the_stacks_of_roles_ask_for_the_right_to_make_roles():
    asked = {stack.name: list(stack.capabilities) for stack in make_plan().stacks}
    roles = {name: ["CAPABILITY_NAMED_IAM"] for name in (MODELS, *BETWEEN) if "-roles-" in name}
    assert len(roles) == 3 and asked == {**{name: [] for name in ALL}, **roles}


def test_the_project_the_group_and_the_mlflow_app_come_from_the_settings(settings):
    app = NAMES.arn("sagemaker", "mlflow-app/a")
    project = "project: {name: risky, model_package_group: group, description: 'Fraud\u200d rings'}"
    config = settings(f"{project}\ncloud: {{mlflow_app: '{app}', network_isolation: false}}")
    storage, models, *_ = make_plan(config).stacks
    assert storage.name == "risky-storage"
    assert storage.parameters == {
        "SageMakerProjectName": "risky",
        "ModelPackageGroupName": "group",
        "ModelPackageGroupDescription": "Fraud rings",
    }, "without the zero-width joiner, which SageMaker would refuse"
    assert models.parameters["MlflowAppArn"] == app


def test_a_group_that_is_named_by_its_arn_is_not_made_and_its_account_is_known(settings):
    config = settings(
        "project: {model_package_group: 'arn:aws:sagemaker:eu-west-1:999988887777:model-package-group/g'}"
    )
    group = {"ModelPackageGroupName": "g", "ModelPackageGroupAccount": "999988887777"}
    storage, *others = make_plan(config).stacks
    assert storage.parameters.items() >= {**group, "CreateModelPackageGroup": "no"}.items()
    for stack in others:
        known = {name: value for name, value in group.items() if name in stack.declared}
        assert stack.parameters.items() >= known.items()
        assert "CreateModelPackageGroup" not in stack.parameters


def test_the_stacks_are_tagged_with_project_team_and_the_tags_of_the_settings(settings):
    config = settings("project: {team: 'R+D Malmö'}\ncloud: {tags: {owner: care team}}")
    assert make_plan(config).tags == {
        "sagemaker:project-name": "rare-players",
        "team": "R+D Malmö",
        "owner": "care team",
    }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("VpcID", "vpc-1", "--set VpcID: no template of the toolchain has that parameter. Did you mean 'VpcId'?"),
        ("DataBucketName", "a" * 5000, "it has at most 4096 characters"),
        (
            "Nonsense",
            "1",
            "Nonsense: no template of the toolchain has that parameter. There are: AccessLogBucketName, ",
        ),
        ("x" * 5000, "1", "x…: no template of the toolchain has that parameter. There are: AccessLogBucketName, "),
        ("SageMakerProjectName", "x", "it is project.name in config.yaml. Change it there."),
        ("KeyArn", KEY, "it is an output of the stack 'storage' and is not given by hand."),
        ("RegisterCodeKey", "functions/register-0.zip", "RegisterCodeKey: it is computed from infra/ and src/ of this"),
        ("ToolchainVersion", "0a0a0a0a", "ToolchainVersion: it is computed from infra/ and src/ of this project."),
        ("BuildPipeline", "x", "no template of the toolchain has that parameter"),
        ("Repository", "a b", "--repository: 'a b' is refused for Repository: Write letters"),
        ("ConnectionArn", "arn:…:…", "is refused for ConnectionArn: Write an ARN such as arn:aws:codeconnections:"),
        ("LogDays", "8", "--set LogDays: '8' is refused for LogDays: it is one of 7, 14, 30,"),
        ("KeepRunsDays", "0", "--set KeepRunsDays: '0' is refused for KeepRunsDays: it is a number from 1 on."),
        ("KeepRunsDays", "many", "it is a number from 1 on."),
        (
            "ConnectionArn",
            NAMES.arn("codeconnections", "connection/0a1b").replace("eu-west-1", "us-east-1"),
            "the connection is in us-east-1, the project in eu-west-1 (config.yaml: project.region). Give a",
        ),
        ("JobInstanceTypes", "ml.m5.*,gpu", "--set JobInstanceTypes: 'ml.m5.*,gpu' is refused"),
        ("SageMakerProjectId", "p" * 21, "it has at most 20 characters."),
        ("ModelPackageGroupReaders", "*", "Account numbers of 12 digits; a star would open the group to everybody."),
        ("ModelPackageGroupReaders", "١" * 12, "Account numbers of 12 digits"),
    ],
)
def test_what_a_template_would_refuse_is_refused_before_anything_is_asked(name, value, words):
    with pytest.raises(UserError) as refused:
        make_plan(**{name: value})
    assert words in str(refused.value)


def test_a_project_name_that_only_aws_refuses_is_refused_by_its_setting(settings):
    with pytest.raises(UserError, match=r"project\.name: AWS keeps names that begin with aws, .*'aws-x'"):
        make_plan(settings("project: {name: aws-x}"))


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (
            "cn-north-1",
            r"cn-north-1 has no AWS::SageMaker::ModelPackageGroup, .*storage.yaml.*aws sagemaker create-model",
        ),
        ("cn-north-1", r"to its ARN: arn:aws-cn:sagemaker:cn-north-1:<account>:model-package-group/rare-players"),
        (
            "ca-west-1",
            r"ca-west-1 has no AWS::CodeBuild::Project, .*toolchain.yaml.* another region under project.region",
        ),
    ],
)
def test_a_region_that_lacks_a_resource_is_named_with_it_and_the_next_move(settings, region, words):
    with pytest.raises(UserError, match=words):
        make_plan(settings(f"project: {{region: {region}}}"))


def test_a_group_that_is_there_already_is_not_missed_in_a_region_that_cannot_create_one(settings):
    arn = "arn:aws-cn:sagemaker:cn-north-1:123456789012:model-package-group/rare"
    plan = make_plan(settings(f"project: {{region: cn-north-1, model_package_group: '{arn}'}}"))
    assert plan.region == "cn-north-1" and plan.notes == ()


def test_what_a_later_stack_cannot_have_in_a_region_is_a_note(settings):
    [note] = make_plan(settings("project: {region: me-central-1}")).notes
    kinds = ", ".join(f"AWS::SageMaker::{name}" for name in ("Endpoint", "EndpointConfig", "Model"))
    assert (
        note == f"CloudFormation in me-central-1 has no {kinds}: everything but infra/endpoint.yaml can be used there."
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Resources: [", "infra/storage.yaml, line 1: not valid YAML"),
        ("a: b: c", "infra/storage.yaml, line 1: not valid YAML"),
        ("", "infra/storage.yaml: no CloudFormation template"),
        ("[]", "infra/storage.yaml: no CloudFormation template"),
        ("Resources: {Key: []}", "infra/storage.yaml: no CloudFormation template"),
        ("Parameters: {A: {Type: String}}", "infra/storage.yaml: no CloudFormation template"),
        ("Parameters: {}\nResources: {Key: {Type: A}}", "no template has the parameter ModelPackageGroup"),
        ("x: " + "[" * 2000, "infra/storage.yaml: not valid YAML"),
        (b"\xff", "infra/storage.yaml: not UTF-8"),
        (None, "infra/storage.yaml: no such file"),
    ],
)
def test_a_template_that_is_none_is_a_sentence(tmp_path, text, words):
    shutil.copytree(ROOT / "infra", tmp_path / "infra")
    path = tmp_path / "infra" / "storage.yaml"
    path.unlink() if text is None else path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as refused:
        toolchain.plan_toolchain(tmp_path, Config(), {}, CODE)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "has no .cruft.json, so no build can look for later templates. Type the `cruft link` command"),
        ('{"template": "/home/me/template"}', "names /home/me/template, which only this machine has."),
        ('{"template": "../template"}', "names ../template, which only this machine has."),
        ('{"template": "https://example.com/template.git"}', ""),
        ('{"template": "git@example.com:us/template.git"}', ""),
        ('{"template": "s3://bucket/template.bundle"}', ""),
        ("{", ""),
    ],
)
def test_a_schedule_of_updates_that_no_build_could_follow_is_pointed_out(tmp_path, record, words):
    if record is not None:
        (tmp_path / ".cruft.json").write_text(record, encoding="utf-8")
    found = toolchain.update_note(tmp_path, "rate(7 days)")
    assert words in found and bool(words) == bool(found)
    assert toolchain.update_note(tmp_path, "") == ""


# -- the commands of a dry run --------------------------------------------------------------------------------------


def run_commands(
    plan: toolchain.ToolchainPlan, folder: Path, fail: str = "", stand_in: str = STAND_IN
) -> list[list[str]]:
    """The commands as bash runs them: the words of each call of the AWS CLI."""
    (folder / "aws").write_text(stand_in, encoding="utf-8")
    (folder / "aws").chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "CALLS": str(folder / "calls"), "FAIL": fail}
    done = subprocess.run(["bash", "-c", "\n".join(toolchain.shell_commands(plan))], env=environment, check=False)
    assert (done.returncode == 0) == (not fail)
    text = (folder / "calls").read_text(encoding="utf-8")
    return [call.split("\x1f")[:-1] for call in text.split("\x1e")[:-1]]


def values_after(words: list[str], option: str) -> dict[str, str]:
    """The KEY=VALUE words behind an option."""
    start = words.index(option) + 1
    end = next((i for i, word in enumerate(words) if i > start and word.startswith("--")), len(words))
    return dict(word.split("=", 1) for word in words[start:end])


def test_the_commands_hand_over_what_the_plan_says_run_by_bash_with_a_stand_in_for_the_aws_cli(tmp_path, settings):
    config = settings("project: {description: 'R&D $HOME'}\ncloud: {tags: {owner: care team}}")
    plan = make_plan(config, **GIVEN, VpcId="vpc-1", SubnetIds="subnet-1,subnet-2", NotificationEmail="$(id)@x.y")
    calls = run_commands(plan, tmp_path)
    deployed = [call for call in calls if call[1] == "deploy"]
    assert [call[1] for call in calls if call[0] == "cloudformation"].count("describe-stacks") == 3
    for stack, call in zip(plan.stacks, deployed, strict=True):
        assert call[:6] == ["cloudformation", "deploy", "--region", "eu-west-1", "--stack-name", stack.name]
        assert call[call.index("--template-file") + 1] == stack.template.as_posix()
        fetched = {
            name: f"of {maker}: Stacks[0].Outputs[?OutputKey=='{name}'].OutputValue"
            for name, maker in stack.inputs.items()
        }
        assert values_after(call, "--parameter-overrides") == {**stack.parameters, **fetched}
        assert values_after(call, "--tags") == plan.tags
        assert ("CAPABILITY_NAMED_IAM" in call) == bool(stack.capabilities)
        assert "--s3-bucket" not in call


def test_the_commands_end_with_the_first_failure_run_by_bash_with_a_stand_in_for_the_aws_cli(tmp_path):
    calls = run_commands(make_plan(**GIVEN), tmp_path, fail=MODELS)
    assert [call[5] for call in calls if call[1] == "deploy"] == [STORAGE, MODELS]


def test_the_commands_upload_the_functions_once_before_the_stack_that_needs_them_run_by_bash(tmp_path):
    """The stand-in answers head-object with success; told to fail there, the code is uploaded."""
    order = [call[1] if call[1] != "deploy" else call[5] for call in run_commands(make_plan(**GIVEN), tmp_path)]
    assert order[-3:] == ["head-object", "head-object", TOOLCHAIN]
    (tmp_path / "calls").unlink()
    stand_in = STAND_IN.replace('[ "$6" != "$FAIL" ]', '[ "$2" != head-object ]')
    (tmp_path / "missing").mkdir()
    calls = run_commands(make_plan(**GIVEN), tmp_path / "missing", stand_in=stand_in)
    put = [call for call in calls if call[1] == "put-object"]
    assert [call[call.index("--key") + 1] for call in put] == list(CODE.objects)
    for call in put:
        assert call[call.index("--bucket") + 1].startswith(f"of {STORAGE}: Stacks[0].Outputs[?OutputKey=='BucketName']")
        assert call[call.index("--body") + 1] == f"build/{call[call.index('--key') + 1]}"
        assert call[call.index("--if-none-match") + 1] == "*"


@pytest.fixture
def large(tmp_path) -> Path:
    """A project whose template of the last stack is too large for a request."""
    shutil.copytree(ROOT / "infra", tmp_path / "project" / "infra")
    with (tmp_path / "project/infra/toolchain.yaml").open("a", encoding="utf-8") as file:
        file.write(f"# {'…' * toolchain.LARGEST_REQUEST}\n")
    return tmp_path / "project"


def large_plan(large: Path) -> toolchain.ToolchainPlan:
    return toolchain.plan_toolchain(large, Config(), GIVEN, CODE)


def test_a_template_too_large_for_a_request_lies_where_only_an_administrator_writes_under_its_digest(large):
    plan = large_plan(large)
    small = [stack.template_key for stack in plan.stacks[:-1]]
    text = (large / "infra/toolchain.yaml").read_bytes()
    assert set(small) == {""}
    assert plan.stacks[-1].template_key == f"functions/{hashlib.md5(text).hexdigest()}.template"


def test_the_commands_upload_a_large_template_where_the_aws_cli_then_finds_it_run_by_bash(tmp_path, large):
    """`aws cloudformation deploy` looks below its prefix for the template's MD5 before it uploads.

    https://github.com/aws/aws-cli/blob/develop/awscli/customizations/s3uploader.py
    """
    stand_in = STAND_IN.replace('[ "$6" != "$FAIL" ]', '[ "$2" != head-object ]')
    *_, put, deployed = run_commands(large_plan(large), tmp_path, stand_in=stand_in)
    assert put[:2] == ["s3api", "put-object"] and put[put.index("--body") + 1] == "infra/toolchain.yaml"
    assert put[put.index("--if-none-match") + 1] == "*"
    bucket, prefix = deployed[deployed.index("--s3-bucket") + 1], deployed[deployed.index("--s3-prefix") + 1]
    assert bucket == put[put.index("--bucket") + 1] and "OutputKey=='BucketName'" in bucket
    digest = hashlib.md5((large / "infra/toolchain.yaml").read_bytes()).hexdigest()
    assert put[put.index("--key") + 1] == f"{prefix}/{digest}.template"


def test_the_files_that_the_commands_upload_are_written_and_those_of_earlier_code_go(tmp_path):
    (tmp_path / "build/functions").mkdir(parents=True)
    (tmp_path / "build/functions/register-ff.zip").write_bytes(b"old")
    written = toolchain.write_function_files(make_plan(**GIVEN), tmp_path)
    assert {path.relative_to(tmp_path / "build").as_posix(): path.read_bytes() for path in written} == CODE.objects
    assert sorted((tmp_path / "build/functions").iterdir()) == sorted(written)


# -- the walk -------------------------------------------------------------------------------------------------------


NO_GROUP = Refusal("ValidationException", "ModelPackageGroup rare-players does not exist.")


class Account:
    """CloudFormation as a test wants it: each method adds the answers to calls that it expects, in order."""

    def __init__(self) -> None:
        self.client = boto3.client(
            "cloudformation", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        self.stub = Stubber(self.client)
        self.group: Any = NO_GROUP
        asked = Canned({"sagemaker:DescribeModelPackageGroup": lambda _: self.group})
        clients = {"cloudformation": self.client, "sagemaker": asked.client("sagemaker")}
        self.connection = Aws(NAMES, SimpleNamespace(client=lambda service, **_: clients[service]))
        self.said: list[str] = []

    def has(self, name: str, status: str = "", parameters: Mapping[str, str] | None = None, reason: str = "") -> None:
        """The next look at a stack finds it so; without a status there is none."""
        asked = {"StackName": name}
        if not status:
            self.stub.add_client_error(
                "describe_stacks", "ValidationError", f"Stack with id {name} does not exist", expected_params=asked
            )
            return
        stack = name.removeprefix(ID)
        found: dict[str, Any] = {"StackName": stack, "StackId": ID + stack}
        found |= {"StackStatus": status, "CreationTime": MOMENT}
        found |= {"StackStatusReason": reason} if reason else {}
        listed = (parameters or {}).items()
        found["Parameters"] = [{"ParameterKey": key, "ParameterValue": value} for key, value in listed]
        outputs = OUTPUTS.get(name, {}).items() if status.endswith("_COMPLETE") else ()
        found["Outputs"] = [{"OutputKey": key, "OutputValue": value} for key, value in outputs]
        self.stub.add_response("describe_stacks", {"Stacks": [found]}, asked)

    def plans(self, name: str, kind: str, parameters: Any = ANY, refusal: str = "") -> None:
        """A change set is made; CloudFormation answers at the second look."""
        asked = {"StackName": name, "ChangeSetType": kind, "Parameters": parameters}
        more = dict.fromkeys(("ChangeSetName", "TemplateBody", "Capabilities", "Tags"), ANY)
        self.stub.add_response("create_change_set", {"Id": "c"}, {**asked, **more})
        of = {"StackName": name, "ChangeSetName": ANY}
        end = {"Status": "FAILED", "StatusReason": refusal} if refusal else {"Status": "CREATE_COMPLETE"}
        self.stub.add_response("describe_change_set", {"Status": "CREATE_IN_PROGRESS"}, of)
        self.stub.add_response("describe_change_set", end, of)
        self.stub.add_response("delete_change_set" if refusal else "execute_change_set", {}, of)

    def changes(self, name: str, kind: str, parameters: Any = ANY) -> None:
        """A stack is created or updated."""
        self.plans(name, kind, parameters)
        self.has(name, f"{kind}_IN_PROGRESS")
        self.has(name, f"{kind}_COMPLETE")
        self.has(name, f"{kind}_COMPLETE")

    def stays(self, name: str) -> None:
        """A stack is as it should be."""
        self.plans(name, "UPDATE", refusal="The submitted information didn't contain changes. Submit different info")
        self.has(name, "UPDATE_COMPLETE")

    def deploy(self, plan: toolchain.ToolchainPlan) -> tuple[dict[str, Any], list[str]]:
        """What the walk returns, and the lines it says. Every answer has been asked for."""
        with self.stub:
            done = toolchain.deploy_toolchain(plan, ROOT, self.connection, self.said.append)
        self.stub.assert_no_pending_responses()
        return done, self.said

    def refuses(self, plan: toolchain.ToolchainPlan) -> str:
        with self.stub, pytest.raises(UserError) as refused:
            toolchain.deploy_toolchain(plan, ROOT, self.connection, lambda line: None)
        self.stub.assert_no_pending_responses()
        return str(refused.value)


@pytest.fixture
def account(monkeypatch) -> Account:
    monkeypatch.setattr(toolchain.time, "sleep", lambda seconds: None)
    found = Account()
    monkeypatch.setattr(
        toolchain, "upload_functions", lambda plan, aws, report: found.said.append("functions uploaded")
    )
    return found


def of_stack(name: str, given: Mapping[str, str | bool]) -> list[dict[str, Any]]:
    """Parameters of a stack as a change set has them: those of the given ones and of the code that its template has."""
    values = {"ScoringSchedule": "", **given, **CODE.parameters}
    declared = stacks.body_of(f"{name.removeprefix(f'{NAMES.project}-')}.yaml")["Parameters"]
    return as_request({key: values[key] for key in declared if key in values})


def as_request(given: Mapping[str, str | bool]) -> list[dict[str, Any]]:
    """Parameters as a change set has them; True keeps the previous value."""
    return [
        {"ParameterKey": key, **({"UsePreviousValue": True} if value is True else {"ParameterValue": value})}
        for key, value in given.items()
    ]


def test_the_first_deployment_creates_every_stack_and_hands_outputs_on_stubbed(account):
    for name in ALL:
        account.has(name)
    project = {"SageMakerProjectName": "rare-players"}
    group = {"ModelPackageGroupName": "rare-players"}
    fed = OUTPUTS[STORAGE]
    account.changes(STORAGE, "CREATE", as_request({**project, **group, "ModelPackageGroupDescription": ""}))
    account.changes(
        MODELS,
        "CREATE",
        as_request({**project, **fed, **group, "MlflowAppArn": ""}),
    )
    for name in BETWEEN:
        account.changes(name, "CREATE", of_stack(name, {**project, **fed, **GIVEN, **group}))
    account.changes(TOOLCHAIN, "CREATE", of_stack(TOOLCHAIN, {**project, **fed, **GIVEN, **group}))
    done, said = account.deploy(make_plan(**GIVEN))
    assert done["stacks"] == dict.fromkeys(ALL, "created")
    assert done["outputs"] == {**OUTPUTS[STORAGE], **OUTPUTS[MODELS], **OUTPUTS[TOOLCHAIN]}
    assert said[:2] == [f"{STORAGE}: is being created", f"{STORAGE}: created"]
    assert said[-3:] == ["functions uploaded", f"{TOOLCHAIN}: is being created", f"{TOOLCHAIN}: created"]


def test_a_second_deployment_changes_nothing_stubbed(account):
    for name in ALL:
        account.has(name, "CREATE_COMPLETE", GIVEN)
    for name in ALL:
        account.stays(name)
    done, said = account.deploy(make_plan(**GIVEN))
    assert set(done["stacks"].values()) == {"unchanged"}
    unchanged = [f"{name}: unchanged" for name in ALL]
    assert said == [*unchanged[:-1], "functions uploaded", unchanged[-1]]


def test_values_that_are_not_given_again_are_kept_stubbed(account):
    before = {"Repository": "rare", "NotificationEmail": "a@b.c", "LogDays": "30", "Removed": "long ago"}
    account.has(STORAGE, "UPDATE_COMPLETE")
    account.has(MODELS, "CREATE_COMPLETE")
    for name in BETWEEN:
        account.has(name, "CREATE_COMPLETE", before)
    account.has(TOOLCHAIN, "UPDATE_ROLLBACK_COMPLETE", before)
    for name in ALL[:-1]:
        account.stays(name)
    kept = {"NotificationEmail": True, **OUTPUTS[STORAGE], "Repository": True}
    expected = {"SageMakerProjectName": "rare-players", **kept, "ModelPackageGroupName": "rare-players"}
    account.changes(TOOLCHAIN, "UPDATE", of_stack(TOOLCHAIN, {**expected, "LogDays": "60"}))
    assert account.deploy(make_plan(LogDays="60"))[0]["stacks"][TOOLCHAIN] == "updated"


def test_after_a_deployment_that_broke_off_later_stacks_get_what_the_earlier_ones_were_given_stubbed(account):
    account.has(STORAGE, "CREATE_COMPLETE")
    account.has(MODELS, "CREATE_COMPLETE")
    for name in BETWEEN:
        account.has(name, "CREATE_COMPLETE", {"Repository": "rare", "VpcId": "vpc-1"})
    account.has(TOOLCHAIN)
    for name in ALL[:-1]:
        account.stays(name)
    given = {"SubnetIds": "subnet-1", "SecurityGroupIds": "sg-1"}  # the broken-off stack has lost these
    expected = {"SageMakerProjectName": "rare-players", **OUTPUTS[STORAGE], "Repository": "rare"}
    expected |= {"ModelPackageGroupName": "rare-players", "VpcId": "vpc-1", **given}
    account.changes(TOOLCHAIN, "CREATE", of_stack(TOOLCHAIN, expected))
    assert account.deploy(make_plan(**given))[0]["stacks"][TOOLCHAIN] == "created"


def test_a_first_deployment_without_a_repository_is_refused_before_anything_is_changed_stubbed(account):
    for name in ALL:
        account.has(name)
    assert account.refuses(make_plan()) == (
        "the toolchain needs Repository. Type the command again with --repository …"
    )


CONNECTION = NAMES.arn("codeconnections", "connection/0a1b")


@pytest.mark.parametrize(
    ("kept", "given"),
    [
        ({}, {"Repository": "acme/rare"}),
        ({"Repository": "rare", "ConnectionArn": ""}, {"Repository": "acme/rare"}),
        ({"Repository": "acme/rare", "ConnectionArn": CONNECTION}, {"ConnectionArn": ""}),
        ({"Repository": "acme/rare", "ConnectionArn": ""}, {}),
    ],
)
def test_a_repository_of_an_owner_needs_a_connection_as_codecommit_has_no_owners_stubbed(account, kept, given):
    for name in ALL:
        account.has(name, "CREATE_COMPLETE" if kept else "", kept)
    assert account.refuses(make_plan(**given)).startswith("the repository acme/rare needs a connection: without one")


GROUP = {
    "ModelPackageGroupName": "rare-players",
    "ModelPackageGroupArn": NAMES.arn("sagemaker", "model-package-group/rare-players"),
    "CreationTime": MOMENT,
    "CreatedBy": {},
    "ModelPackageGroupStatus": "Completed",
}


@pytest.mark.parametrize("kept", [None, {"ModelPackageGroupName": "risky"}, {"CreateModelPackageGroup": "no"}])
def test_a_group_that_is_there_before_the_toolchain_makes_it_is_named_with_the_ways_to_keep_it_stubbed(account, kept):
    """Also where config.yaml names another group than before, or the stack is to make one that it took over."""
    account.group = GROUP
    given = {} if kept is None else {"CreateModelPackageGroup": "yes"}
    for name in ALL:
        account.has(name, "" if kept is None else "CREATE_COMPLETE", {**GIVEN, **(kept or {})})
    refused = account.refuses(make_plan(**GIVEN, **given))
    assert refused.startswith("the model package group rare-players is there already. To keep it, write")
    assert GROUP["ModelPackageGroupArn"] in refused and "--set CreateModelPackageGroup=no" in refused


@pytest.mark.parametrize(
    ("group", "kept", "given"),
    [
        (GROUP, {"ModelPackageGroupName": "rare-players"}, {}),
        (GROUP, {"ModelPackageGroupName": "rare-players", "CreateModelPackageGroup": "yes"}, {}),
        (GROUP, {}, {"CreateModelPackageGroup": "no"}),
        (Refusal("AccessDeniedException", "no", 403), {}, {}),
    ],
)
def test_a_group_that_the_toolchain_made_or_takes_over_or_may_not_see_stops_nothing_stubbed(
    account, group, kept, given
):
    account.group = group
    for name in ALL:
        account.has(name, "CREATE_COMPLETE", {**GIVEN, **kept})
    for name in ALL:
        account.stays(name)
    assert set(account.deploy(make_plan(**GIVEN, **given))[0]["stacks"].values()) == {"unchanged"}


NETWORK = {"VpcId": "vpc-0a", "SubnetIds": "subnet-0a", "SecurityGroupIds": "sg-0a"}


@pytest.mark.parametrize(
    ("kept", "given", "lacking"),
    [
        ({}, {"VpcId": "vpc-0a"}, "SubnetIds and SecurityGroupIds are"),
        ({}, {"SubnetIds": "subnet-0a", "SecurityGroupIds": "sg-0a"}, "VpcId is"),
        (NETWORK, {"SubnetIds": ""}, "SubnetIds is"),
    ],
)
def test_a_network_without_one_of_its_parts_is_refused_before_any_change_stubbed(account, kept, given, lacking):
    for name in ALL:
        account.has(name, "CREATE_COMPLETE" if kept else "", kept)
    assert f"but {lacking} empty. Type the command again" in account.refuses(make_plan(Repository="rare", **given))


def test_a_part_of_a_network_may_change_when_aws_has_the_others():
    assert parameter_rules.combination_problem({**NETWORK, "SubnetIds": "subnet-0b"}) == ""
    assert parameter_rules.combination_problem(dict.fromkeys(NETWORK, "")) == ""


def test_a_bucket_of_yours_without_its_folder_is_refused_also_when_aws_has_kept_the_bucket():
    assert "--set DataPrefix=…/" in parameter_rules.combination_problem({"DataBucketName": "acme"})
    assert parameter_rules.combination_problem({"DataBucketName": "acme", "DataPrefix": "players/"}) == ""


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        ({"MaxValue": 5}, "6", "it is a number from 0 to 5."),
        ({"MinValue": 2, "MaxValue": 5}, "1", "it is a number from 2 to 5."),
        ({"MinValue": 2, "MaxValue": 5}, "5", ""),
        ({"Type": "String", "MinLength": 3}, "ab", "it has at least 3 characters."),
        ({"Type": "String", "MinLength": 3}, "abc", ""),
    ],
)
def test_every_limit_of_a_template_parameter_is_checked(rule, value, words):
    assert toolchain.why_refused({"Type": "Number", **rule}, value) == words


def test_a_repository_of_an_owner_takes_the_connection_that_aws_already_has_stubbed(account):
    for name in ALL:
        account.has(name, "CREATE_COMPLETE", {"Repository": "acme/rare", "ConnectionArn": CONNECTION})
    for name in ALL:
        account.stays(name)
    assert set(account.deploy(make_plan(Repository="acme/risky"))[0]["stacks"].values()) == {"unchanged"}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("UPDATE_IN_PROGRESS", "is UPDATE_IN_PROGRESS (so it is): it is being changed now. Wait until"),
        ("UPDATE_ROLLBACK_FAILED", "is UPDATE_ROLLBACK_FAILED (so it is): its last change could not be undone"),
    ],
)
def test_a_stack_that_cannot_be_changed_now_is_named_stubbed(account, status, words):
    for name in ALL[:-1]:
        account.has(name, "CREATE_COMPLETE")
    account.has(TOOLCHAIN, status, reason="so it is")
    assert f"stack {TOOLCHAIN} {words}" in account.refuses(make_plan(**GIVEN))


def test_a_stack_whose_first_deployment_failed_is_deleted_and_made_again_stubbed(account):
    account.has(STORAGE, "ROLLBACK_COMPLETE")
    for name in ALL[1:]:
        account.has(name, "CREATE_COMPLETE")
    account.stub.add_response("delete_stack", {}, {"StackName": STORAGE})
    account.has(ID + STORAGE, "ROLLBACK_COMPLETE")  # CloudFormation does not know of the deletion yet
    account.has(ID + STORAGE, "DELETE_IN_PROGRESS")
    account.has(ID + STORAGE, "DELETE_COMPLETE")
    account.changes(STORAGE, "CREATE")
    for name in ALL[1:]:
        account.stays(name)
    done, said = account.deploy(make_plan(**GIVEN))
    assert done["stacks"][STORAGE] == "created"
    assert said[0].startswith(f"{STORAGE}: its first deployment failed")


def test_a_stack_that_was_only_planned_is_created_stubbed(account):
    account.has(STORAGE, "REVIEW_IN_PROGRESS")
    for name in ALL[1:]:
        account.has(name, "CREATE_COMPLETE")
    account.changes(STORAGE, "CREATE")
    for name in ALL[1:]:
        account.stays(name)
    assert account.deploy(make_plan(**GIVEN))[0]["stacks"][STORAGE] == "created"


def event(resource: str, kind: str, status: str, reason: str = "") -> dict[str, Any]:
    about = {"LogicalResourceId": resource, "ResourceType": kind, "ResourceStatus": status}
    required = {"StackId": "s", "EventId": resource + status, "StackName": STORAGE, "Timestamp": MOMENT}
    return {**required, **about, "ResourceStatusReason": reason}


STACK = "AWS::CloudFormation::Stack"
HISTORY = [  # newest first
    event(STORAGE, STACK, "ROLLBACK_COMPLETE"),
    event(STORAGE, STACK, "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [Bucket, KeyAlias]."),
    event("KeyAlias", "AWS::KMS::Alias", "CREATE_FAILED", "Resource creation cancelled"),
    event("ModelPackageGroup", "AWS::SageMaker::ModelPackageGroup", "CREATE_FAILED", "later"),
    event("Bucket", "AWS::S3::Bucket", "CREATE_FAILED", "rare-players-1234 already exists"),
    event(STORAGE, STACK, "CREATE_IN_PROGRESS", "User Initiated"),
    event("Key", "AWS::KMS::Key", "CREATE_FAILED", "of an earlier change"),
]


def test_the_first_resource_that_failed_is_named_with_its_reason_and_the_next_move_stubbed(account):
    for name in ALL:
        account.has(name)
    account.plans(STORAGE, "CREATE")
    account.has(STORAGE, "ROLLBACK_IN_PROGRESS")
    account.has(STORAGE, "ROLLBACK_COMPLETE")
    more = {"StackName": STORAGE, "NextToken": "more"}
    account.stub.add_response(
        "describe_stack_events", {"StackEvents": HISTORY[:4], "NextToken": "more"}, {"StackName": STORAGE}
    )
    account.stub.add_response("describe_stack_events", {"StackEvents": HISTORY[4:], "NextToken": "earlier"}, more)
    assert account.refuses(make_plan(**GIVEN)) == (
        f"stack {STORAGE} failed at Bucket (AWS::S3::Bucket): rare-players-1234 already exists. It is left from an "
        "earlier toolchain, or another project's (docs/toolchain.md, 'Take it down'). CloudFormation has undone the "
        "changes of this stack. Correct the cause, then type the same command again."
    )


def test_a_stack_that_failed_without_a_failed_resource_is_said_with_its_own_reason_stubbed(account):
    for name in ALL:
        account.has(name)
    account.plans(STORAGE, "CREATE")
    account.has(STORAGE, "ROLLBACK_COMPLETE", reason="A hook said no")
    account.stub.add_response("describe_stack_events", {"StackEvents": HISTORY[:2]}, {"StackName": STORAGE})
    assert "is ROLLBACK_COMPLETE: A hook said no" in account.refuses(make_plan(**GIVEN))


def test_a_template_that_cloudformation_refuses_is_named_stubbed(account):
    for name in ALL:
        account.has(name)
    account.plans(STORAGE, "CREATE", refusal="A group of another account cannot be made here.")
    said = account.refuses(make_plan(**GIVEN))
    assert said == (
        f"CloudFormation refuses infra/storage.yaml for stack {STORAGE}: "
        "A group of another account cannot be made here. It is unchanged."
    )


def test_a_request_that_cloudformation_refuses_is_named_stubbed(account):
    for name in ALL:
        account.has(name)
    account.stub.add_client_error("create_change_set", "ValidationError", "Template error")
    assert account.refuses(make_plan(**GIVEN)).startswith("CloudFormation refuses infra/storage.yaml for stack")


# -- the functions' code --------------------------------------------------------------------------------------------


def test_the_functions_are_uploaded_once_and_an_object_with_another_content_is_refused_in_moto(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        aws, said = Aws(NAMES), []
        place = {"LocationConstraint": NAMES.region}
        aws.client("s3").create_bucket(Bucket=NAMES.bucket, CreateBucketConfiguration=place)
        for _ in range(2):
            toolchain.upload_functions(make_plan(**GIVEN), aws, said.append)
        assert said == [f"uploaded {key}" for key in CODE.objects]
        aws.client("s3").put_object(Bucket=NAMES.bucket, Key="functions/register-0a.zip", Body=b"hostile")
        with pytest.raises(UserError, match=r"functions/register-0a\.zip is there already, but with another content"):
            toolchain.upload_functions(make_plan(**GIVEN), aws, said.append)


def test_a_large_template_is_uploaded_and_named_by_its_address_and_nobody_elses_is_taken(large, monkeypatch):
    """S3 is moto's; the change set is recorded by a stand-in for CloudFormation."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        aws, stack = Aws(NAMES), large_plan(large).stacks[-1]
        s3 = aws.client("s3")
        s3.create_bucket(Bucket=NAMES.bucket, CreateBucketConfiguration={"LocationConstraint": NAMES.region})
        for _ in range(2):
            sent = toolchain.template_in_request(stack, large, aws)
            assert sent == {"TemplateURL": f"https://s3.eu-west-1.amazonaws.com/{NAMES.bucket}/{stack.template_key}"}
        there = s3.get_object(Bucket=NAMES.bucket, Key=stack.template_key)["Body"].read()
        assert there == (large / stack.template).read_bytes()
        s3.put_object(Bucket=NAMES.bucket, Key=stack.template_key, Body=b"hostile")
        with pytest.raises(UserError, match="is there already, but with another content"):
            toolchain.template_in_request(stack, large, aws)
