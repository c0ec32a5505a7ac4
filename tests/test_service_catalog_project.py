"""A project is created from Studio on both routes, updated and deleted, as SageMaker and CloudFormation would have it.

Requests are checked against botocore's shapes, CodeBuild, KMS and SageMaker are botocore's Stubber, the buildspec
really runs (seed_build.py), CloudFormation, STS, S3 and CodeConnections are answered by aws_answers.py, and an HTTP
server here takes the answers.
"""

import copy
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.machinery import SourceFileLoader
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import boto3
import botocore.session
import package
import pytest
import seed
import yaml
from aws_answers import Aws, Stack
from botocore.stub import ANY, Stubber
from botocore.validate import ParamValidator
from conftest import PROJECT, ROOT
from enforcement import allowed
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pre_gen_project import refusals
from seed_build import (
    CONNECTION,
    REPOSITORY_URL,
    ROLE,
    TEMPLATE_URL,
    Build,
    Machine,
    checked_out,
    files,
    git,
    machine,
    seed_of,
)
from stacks import ACCOUNT as THEIR_ACCOUNT
from stacks import PUBLISHED, Loader
from stacks import TOOLCHAIN as STACKS
from stacks import Stack as Template
from test_administration import as_project

from bake import bake as bake_here

__all__ = ["machine"]

PROJECT_YAML = ROOT / "service_catalog/project.yaml"
BODY = yaml.load(PROJECT_YAML.read_text(encoding="utf-8"), Loader)
QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
ASKED = [name for name in QUESTIONS if not name.startswith("_")]
ANSWERED_BY_SAGEMAKER = {"project_slug": "SageMakerProjectName", "aws_region": "AWS::Region"}
OWNERS = ".github/CODEOWNERS"
ACCOUNT, REGION = "123456789012", "eu-west-1"
TOKEN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:scarcegan-projects-seed"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/answers"
TOOLCHAIN = tuple(name.removesuffix(".yaml") for name in STACKS)
FORM = {
    "ProjectName": 'Fraud Rings\' "best" $(touch pwned)',
    "Team": "R and D",
    "RareClass": "fraudster",
    "NegativeClasses": "honest, careless",
    "Repository": "acme/fraud-rings",
    "ConnectionArn": CONNECTION,
    "NotificationEmail": "ops@example.com",
}
ANSWERS = {
    "project_name": FORM["ProjectName"],
    "project_slug": "fraud-rings",
    "team": FORM["Team"],
    "aws_region": REGION,
    "rare_class": FORM["RareClass"],
    "negative_classes": FORM["NegativeClasses"],
}


# -- SageMaker: CreateProject to a stack's parameters -----------------------------------------------------------------


def service_catalog(name: str, form: Mapping[str, str]) -> dict[str, Any]:
    """CreateProject as Studio sends it for a product of Service Catalog."""
    values = [{"Key": key, "Value": value} for key, value in form.items()]
    product = {"ProductId": "prod-0a1b2c3d4e5f6", "ProvisioningArtifactId": "pa-0a1b2c3d4e5f6"}
    return {
        "ProjectName": name,
        "ServiceCatalogProvisioningDetails": {**product, "ProvisioningParameters": values},
        "Tags": [
            {"Key": "sagemaker:user-profile-arn", "Value": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:user-profile/d-1/a"}
        ],
    }


def from_s3(name: str, form: Mapping[str, str]) -> dict[str, Any]:
    """CreateProject as Studio sends it for a template in S3."""
    values = [{"Key": key, "Value": value} for key, value in form.items()]
    role = f"arn:aws:iam::{ACCOUNT}:role/scarcegan-projects-launch"
    about = {"TemplateName": "scarcegan", "TemplateURL": TEMPLATE_IN_S3, "RoleARN": role, "Parameters": values}
    return {"ProjectName": name, "TemplateProviders": [{"CfnTemplateProvider": about}]}


TEMPLATE_IN_S3 = f"https://templates.s3.{REGION}.amazonaws.com/projects/0.1.0/project.yaml"
MADE = {  # route -> the stack that SageMaker makes
    service_catalog: f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/SC-{ACCOUNT}-pp-0a1b2c/1",
    from_s3: f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/SP-fraud-rings-0a1b2c/1",
}


def described(name: str, id_: str, route: Any, **by_s3: Any) -> dict[str, Any]:
    """SageMaker's answer to DescribeProject. by_s3: other members of a template in S3."""
    about: dict[str, Any] = {"ProjectArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:project/{name}", "ProjectName": name}
    about |= {"ProjectId": id_, "ProjectStatus": "CreateInProgress", "CreationTime": datetime.now(UTC)}
    if route is service_catalog:
        return {**about, "ServiceCatalogProvisionedProductDetails": {"ProvisionedProductId": "pp-0a1b2c"}}
    stack = {"Name": "SP-fraud-rings-0a1b2c", "Id": MADE[from_s3], "StatusMessage": "begun"}
    one = {"TemplateName": "scarcegan", "TemplateURL": TEMPLATE_IN_S3, "StackDetail": stack, **by_s3}
    return {**about, "TemplateProviderDetails": [{"CfnTemplateProviderDetail": one}]}


def parameters_of(request: Mapping[str, Any], version: str) -> dict[str, str]:
    """The parameters of the stack that SageMaker makes of CreateProject; it adds the project's name and id.

    TemplateVersion is no parameter: it stands for the version that publish.py wrote into the template.
    """
    shape = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateProject").input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    assert re.fullmatch(shape.members["ProjectName"].metadata["pattern"], request["ProjectName"])
    for provider in request.get("TemplateProviders", []):
        listed = provider["CfnTemplateProvider"]["Parameters"]
    if "ServiceCatalogProvisioningDetails" in request:
        listed = request["ServiceCatalogProvisioningDetails"]["ProvisioningParameters"]
    added = {"SageMakerProjectName": request["ProjectName"], "SageMakerProjectId": "p-0a1b2c3d4e5f"}
    return {**{item["Key"]: item["Value"] for item in listed}, **added, "TemplateVersion": version}


class ProjectStack(Template):
    """project.yaml with values; `made` are the attributes that the custom resource answered."""

    def __init__(self, parameters: Mapping[str, str], made: Mapping[str, str]) -> None:
        super().__init__("project.yaml", {key: text for key, text in parameters.items() if key != "TemplateVersion"})
        assert {name: list(rows) for name, rows in BODY["Mappings"].items()} == {"Template": ["Version"]}
        published = {"Template": {"Version": {"Default": parameters["TemplateVersion"]}}}
        self.body = {**BODY, "Mappings": published}
        self.made = made
        self.values |= {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION}
        for name, about in self.body["Parameters"].items():
            assert fits(about, self.values[name]), f"CloudFormation refuses {name}={self.values[name]!r}"

    def read(self, template: str) -> dict[str, Any]:
        return BODY

    def attribute(self, resource: str, attribute: str) -> str:
        assert resource == "Project"
        return self.made[attribute]

    @property
    def outputs(self) -> dict[str, str]:
        return {name: self.resolve(about["Value"]) for name, about in self.body["Outputs"].items()}


def fits(about: Mapping[str, Any], value: str) -> bool:
    """Whether CloudFormation takes a value of a parameter. The whole value must match AllowedPattern."""
    return (
        about.get("MinLength", 0) <= len(value) <= about.get("MaxLength", 4096)
        and re.fullmatch(about.get("AllowedPattern", "(?s).*"), value, re.ASCII) is not None
    )


# -- CloudFormation and CodeBuild ------------------------------------------------------------------------------------


@dataclass
class Answers:
    """The server behind the presigned address. taken: the answers, in order."""

    url: str
    taken: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[int | bytes] = field(default_factory=list)  # that come before 200; bytes: all that is answered
    path: str = ""  # at which the last one was taken


@pytest.fixture
def answers() -> Iterator[Answers]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            status = found.statuses.pop(0) if found.statuses else 200
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if isinstance(status, bytes):
                self.wfile.write(status)
                self.close_connection = True
                return
            assert self.headers["Content-Type"] == "", "the signature of the address holds an empty content type"
            assert len(body) <= 4096
            if status == 200:
                found.taken.append(json.loads(body))
                found.path = self.path
            self.send_response(status)
            if status == 307:
                self.send_header("Location", f"{found.url}&moved")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found = Answers(f"http://127.0.0.1:{server.server_port}/answer?X-Amz-Signature=abc")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield found
    server.shutdown()


class Captured:
    """Equals anything, and keeps it."""

    def __eq__(self, other: object) -> bool:
        self.value = other
        return True


SEALED = b"\x00 only the function's key opens it"


def sealing(request: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What KMS is asked about a request."""
    return {"KeyId": KEY, "EncryptionContext": {"request": request["RequestId"]}, **more}


class Account:
    """CloudFormation, SageMaker and CodeBuild round one custom resource.

    builds: those that were started, newest first. route: by which the project is created.
    """

    def __init__(
        self, machine: Machine, function: Any, answers: Answers, monkeypatch: pytest.MonkeyPatch, repository: str
    ) -> None:
        self.machine, self.function, self.answers = machine, function, answers
        self.repository = machine.repository(repository)
        self.builds: list[dict[str, Any]] = []
        self.log: list[str] = []
        self.requests = 0
        self.route: Any = service_catalog
        machine.server.aws = Aws()
        credentials = {"aws_access_key_id": "a", "aws_secret_access_key": "s", "region_name": REGION}
        clients = {name: boto3.client(name, **credentials) for name in ("codebuild", "logs", "kms", "sagemaker")}
        self.codebuild, self.logs, self.kms, self.sagemaker = clients.values()
        monkeypatch.setattr(self.function, "client", clients.__getitem__)
        monkeypatch.setattr(self.function.time, "sleep", lambda _: None)
        for name, value in {
            "SEED_PROJECT": "scarcegan-projects-seed",
            "TEMPLATES_BUCKET": "templates",
            "ANSWER_KEY": KEY,
        }.items():
            monkeypatch.setenv(name, value)

    @property
    def aws(self) -> Aws:
        return self.machine.aws

    def event(self, kind: str, parameters: Mapping[str, str], old: Mapping[str, str] | None = None) -> dict[str, Any]:
        """CloudFormation's request.

        https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
        """
        self.requests += 1
        properties = ProjectStack(parameters, {}).resolve(BODY["Resources"]["Project"]["Properties"])
        assert properties["ServiceToken"] == TOKEN
        found = {
            "RequestType": kind,
            "ServiceToken": TOKEN,
            "ResponseURL": self.answers.url,
            "StackId": MADE[self.route],
            "RequestId": f"request-{self.requests}",
            "LogicalResourceId": "Project",
            "ResourceType": BODY["Resources"]["Project"]["Type"],
            "ResourceProperties": properties,
        }
        if old is not None:
            found["OldResourceProperties"] = ProjectStack(old, {}).resolve(BODY["Resources"]["Project"]["Properties"])
        return found if kind == "Create" else {**found, "PhysicalResourceId": parameters["SageMakerProjectName"]}

    def deliver(self, event: Mapping[str, Any], starts: bool = True) -> dict[str, str]:
        """Hand a request to the function. Returns the variables of the build that it started."""
        sent = Captured()
        properties = event["ResourceProperties"]
        with Stubber(self.codebuild) as stub, Stubber(self.kms) as kms, Stubber(self.sagemaker) as sagemaker:
            name, id_ = properties["Answers"]["project_slug"], properties["SageMakerProjectId"]
            sagemaker.add_response("describe_project", described(name, id_, self.route), {"ProjectName": name})
            kms.add_response(
                "encrypt", {"CiphertextBlob": SEALED}, sealing(event, Plaintext=event["ResponseURL"].encode())
            )
            ids = [build["id"] for build in self.builds]
            stub.add_response(
                "list_builds_for_project",
                {"ids": ids} if ids else {},
                {"projectName": "scarcegan-projects-seed", "sortOrder": "DESCENDING"},
            )
            if ids:
                stub.add_response("batch_get_builds", {"builds": self.builds}, {"ids": ids})
            if starts:
                started = {"build": {"id": f"scarcegan-projects-seed:{len(ids)}", "buildStatus": "IN_PROGRESS"}}
                asked = {
                    "projectName": "scarcegan-projects-seed",
                    "idempotencyToken": event["RequestId"],
                    "environmentVariablesOverride": sent,
                }
                stub.add_response("start_build", started, asked)
            self.function.handler(event, None)
            stub.assert_no_pending_responses()
            sagemaker.assert_no_pending_responses()
        if not starts:
            return {}
        assert isinstance(sent.value, list)
        assert event["ResponseURL"] not in json.dumps(sent.value), "which every reader of builds could answer at"
        self.builds.insert(
            0,
            {
                "id": f"scarcegan-projects-seed:{len(self.builds)}",
                "buildStatus": "IN_PROGRESS",
                "environment": {
                    "type": "LINUX_CONTAINER",
                    "image": "aws/codebuild/amazonlinux-x86_64-standard:5.0",
                    "computeType": "BUILD_GENERAL1_SMALL",
                    "environmentVariables": sent.value,
                },
                "logs": {"groupName": "group", "streamName": "stream", "deepLink": "https://console.example.com/log"},
            },
        )
        return {variable["name"]: variable["value"] for variable in sent.value}

    def run(self, variables: Mapping[str, str], whole: bool = False) -> Build:
        """Run the build that was started last. whole: with its buildspec, over bash."""
        built = (self.machine.build if whole else self.machine.run_seed)(self.repository, variables)
        result = built.exported["RESULT"]
        self.builds[0]["exportedEnvironmentVariables"] = [{"name": "RESULT", "value": result}] if result else []
        self.log = built.log.splitlines()
        return built

    def end(self, status: str, lags: bool = False) -> dict[str, Any]:
        """Hand the end of the build to the function. Returns the answer that CloudFormation gets.

        https://docs.aws.amazon.com/codebuild/latest/userguide/sample-build-notifications.html
        """
        build = self.builds[0]
        build |= {"buildStatus": status, "buildComplete": True}
        event = {
            "source": "aws.codebuild",
            "detail-type": "CodeBuild Build State Change",
            "detail": {
                "build-status": status,
                "project-name": "scarcegan-projects-seed",
                "build-id": f"arn:aws:codebuild:{REGION}:{ACCOUNT}:build/{build['id']}",
                "current-phase": "COMPLETED",
            },
        }
        before = len(self.answers.taken)
        [request] = [one["value"] for one in build["environment"]["environmentVariables"] if one["name"] == "RESPONSE"]
        with Stubber(self.codebuild) as stub, Stubber(self.logs) as logs, Stubber(self.kms) as kms:
            asked = sealing(json.loads(request), CiphertextBlob=SEALED)
            kms.add_response("decrypt", {"Plaintext": self.answers.url.encode()}, asked)
            if lags:
                running = {"id": build["id"], "buildStatus": "IN_PROGRESS", "buildComplete": False}
                stub.add_response("batch_get_builds", {"builds": [running]}, {"ids": [build["id"]]})
            stub.add_response("batch_get_builds", {"builds": [build]}, {"ids": [build["id"]]})
            if status != "SUCCEEDED":
                lines = [{"message": f"{line}\n"} for line in self.log[-30:]]
                asked = {"logGroupName": "group", "logStreamName": "stream", "limit": ANY, "startFromHead": False}
                logs.add_response("get_log_events", {"events": lines}, asked)
            self.function.handler(event, None)
            stub.assert_no_pending_responses()
            logs.assert_no_pending_responses()
        assert len(self.answers.taken) == before + 1, "each request is answered once"
        return self.answers.taken[-1]

    def play(
        self,
        kind: str,
        parameters: Mapping[str, str],
        old: Mapping[str, str] | None = None,
        whole: bool = False,
    ) -> dict[str, Any]:
        """A request from CloudFormation's event to its answer. whole: as of `run`."""
        event = self.event(kind, parameters, old)
        built = self.run(self.deliver(event), whole)
        answer = self.end("SUCCEEDED" if built.succeeded else "FAILED")
        assert answer["PhysicalResourceId"] == parameters["SageMakerProjectName"], "another id would delete this one"
        same = ("StackId", "RequestId", "LogicalResourceId")
        assert {name: answer[name] for name in same} == {name: event[name] for name in same}
        return answer


@pytest.fixture(scope="session")
def function(tmp_path_factory):
    """The module `handler` out of the zip that AWS gets."""
    folder = tmp_path_factory.mktemp("function")
    zipfile.ZipFile(io.BytesIO(package.handler_zip())).extractall(folder)
    spec = importlib.util.spec_from_file_location("shipped_handler", folder / "handler.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def account(machine, function, answers, monkeypatch, request):
    return Account(machine, function, answers, monkeypatch, request.node.name)


@pytest.fixture
def parameters():
    return parameters_of(service_catalog("fraud-rings", FORM), "0.1.0")


@pytest.fixture(scope="session")
def first(machine):
    """The first project, once it is created: its repository and AWS. Filled by `created`."""
    return SimpleNamespace(repository=machine.folder / "first", aws=None, answer={})


@pytest.fixture
def created(account, parameters, first):
    """The answer to a Create through Service Catalog; the account has the project. Played once, then copied."""
    if first.aws is None:
        first.answer = account.play("Create", parameters, whole=True)
        assert first.answer["Status"] == "SUCCESS", first.answer["Reason"]
        shutil.copytree(account.repository, first.repository)
        first.aws = copy.deepcopy(account.aws)
    else:
        shutil.copytree(first.repository, account.repository, dirs_exist_ok=True)
        account.machine.server.aws = copy.deepcopy(first.aws)
    return first.answer


# -- create ----------------------------------------------------------------------------------------------------------


def test_both_routes_ask_the_build_for_the_same(account):
    """So the next test, of a project by Service Catalog, is one of a project from a template in S3 too."""
    asked = []
    for route in (service_catalog, from_s3):
        account.route, account.builds = route, []
        parameters = parameters_of(route("fraud-rings", FORM), "0.1.0")
        variables = account.deliver(account.event("Create", parameters))
        assert json.loads(variables.pop("RESPONSE"))["StackId"] == MADE[route]
        asked.append(variables)
    assert asked[0] == asked[1] and asked[0]["MODE"] == "create"


def test_a_project_of_studio_is_a_bake_with_the_same_answers_byte_for_byte(account, parameters, created, tmp_path):
    answer = created
    project = checked_out(account.repository, "main", tmp_path / "clone")
    baked = bake_here(tmp_path / "baked", ANSWERS)
    pushed, expected = files(project), files(baked)
    record, other = json.loads(pushed.pop(".cruft.json")), yaml.safe_load(expected.pop(".template.yaml"))
    assert pushed == expected
    assert not list(account.machine.folder.rglob("pwned"))
    asked = {name: text for name, text in record["context"]["cookiecutter"].items() if not name.startswith("_")}
    assert asked == other["answers"], "both records hold the same answers"
    assert (record["template"], record["checkout"]) == (TEMPLATE_URL, None), "no tag, which would be taken for ever"
    assert record["commit"] == git(account.machine.template, "rev-parse", "v0.1.0")
    assert answer["Data"]["RepositoryUrl"] == REPOSITORY_URL
    outputs = ProjectStack(parameters, answer["Data"]).outputs
    told = {"Repository", "BuildPipeline", "DeployPipeline", "ModelPackageGroup", "Bucket", "TemplateVersion"}
    assert set(outputs) == told | {"UpdateBranch", "Note"}
    assert outputs["TemplateVersion"] == "0.1.0" and outputs["Bucket"] == "made-bucketname"
    assert list(account.aws.stacks) == [f"fraud-rings-{name}" for name in TOOLCHAIN]
    given = account.aws.stacks["fraud-rings-toolchain"].parameters
    assert given["SageMakerProjectId"] == parameters["SageMakerProjectId"]
    assert (given["Repository"], given["ConnectionArn"], given["Branch"]) == (FORM["Repository"], CONNECTION, "main")
    assert given["NotificationEmail"] == FORM["NotificationEmail"]
    assert all(session == {"role": ROLE, "project": "fraud-rings"} for session in account.aws.assumed)
    boundary = account.aws.stacks["fraud-rings-roles-models"].parameters["PermissionsBoundaryArn"]
    assert boundary == "arn:aws:iam::123456789012:policy/boundary", "the administrator's parameters go to every project"


def assert_let(calls: list[str]) -> None:
    """Whether the administrator's deployment role may make the calls of a build, as the stand-in recorded them."""
    role = as_project("fraud-rings")
    for call in calls:
        verb, _, name = call.partition(" ")
        if verb in ("HEAD", "PUT"):
            key = name.partition("/")[2]
            action = "s3:PutObject" if verb == "PUT" else "s3:GetObject" if key else "s3:ListBucket"
            resource = f"arn:aws:s3:::{name if key else name.rstrip('/')}"
        elif verb in ("AssumeRole", "GetCallerIdentity", "GetConnection"):  # as the build itself, or free to all
            continue
        elif verb in ("GetParameter", "PutParameter"):
            action, resource = f"ssm:{verb}", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}"
        elif verb == "DescribeModelPackageGroup":
            action, resource = f"sagemaker:{verb}", f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package-group/{name}"
        else:
            action, stack = f"cloudformation:{verb}", name.split("/")[1] if ":" in name else name
            resource = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{stack}/1"
        assert allowed(role, action, resource.replace(ACCOUNT, THEIR_ACCOUNT), {}), call


def test_the_deployment_role_may_make_every_call_of_a_creation(created, account):
    assert [call for call in account.aws.calls if call.startswith("PUT")], "the functions' code"
    assert_let(account.aws.calls)
    with pytest.raises(AssertionError):
        assert_let(["CreateChangeSet fraud-rings-production"])


def test_creating_twice_does_nothing_twice(account, parameters, created):
    history = git(account.repository, "rev-list", "--all")
    event = account.event("Create", parameters)
    variables = account.deliver(event)
    account.deliver(event, starts=False)
    taken = len(account.answers.taken)
    assert account.run(variables).succeeded
    again = account.end("SUCCEEDED", lags=True)
    assert len(account.answers.taken) == taken + 1, (
        "a request that is delivered again while its build runs waits for it"
    )
    account.deliver(event, starts=False)
    assert account.answers.taken[-1] == again, "and after its end, when CloudFormation may not have had the answer"
    assert again["Status"] == "SUCCESS" and "holds this project already" in again["Reason"]
    assert {**again["Data"], "Note": created["Data"]["Note"]} == created["Data"]
    assert git(account.repository, "rev-list", "--all") == history
    assert [call for call in account.aws.calls if call.startswith("Execute")] == [
        f"ExecuteChangeSet fraud-rings-{name}" for name in TOOLCHAIN
    ], "each stack once"


def test_a_project_can_be_created_again_on_peoples_commits_with_the_same_answers_only(account, parameters, created):
    """As after a deletion, which leaves the repository. Also when a build was stopped before it made the last stack."""
    theirs = checked_out_new(account.repository, account.machine.folder)
    (theirs / "ours.txt").write_text("ours\n", encoding="utf-8")
    git(theirs, "add", "-A")
    git(theirs, "commit", "-qm", "ours")
    git(theirs, "push", "-q")
    history = git(account.repository, "rev-list", "--all")
    account.aws.values["/fraud-rings/repository"] = REPOSITORY_URL
    account.aws.stacks["fraud-rings-toolchain"] = Stack({}, status="REVIEW_IN_PROGRESS")
    answer = account.play("Create", {**parameters, "RareClass": "ringleader"})
    assert_tells(answer, "it holds fraud-rings with other answers")
    answer = account.play("Create", {**parameters, "SageMakerProjectId": "p-later"})
    assert answer["Status"] == "SUCCESS" and "with later commits" in answer["Reason"]
    assert account.aws.stacks["fraud-rings-storage"].parameters["SageMakerProjectId"] == "p-later", "taken over"
    assert git(account.repository, "rev-list", "--all") == history


# -- update ----------------------------------------------------------------------------------------------------------


def checked_out_new(repository: Path, to: Path) -> Path:
    """A clone of an empty repository."""
    git(to, "clone", "-q", str(repository), "theirs")
    return to / "theirs"


def newer(machine: Machine) -> str:
    """Publish a later version of the template, with news in its README and a file that git ignores. Returns it."""
    readme = machine.template / PROJECT / "README.md"
    if not (machine.bucket / "seed/0.2.0").exists():
        readme.write_text(readme.read_text(encoding="utf-8") + "\nNews.\n", encoding="utf-8")
        ignored = machine.template / PROJECT / "build/kept.txt"
        ignored.parent.mkdir()
        ignored.write_text("kept\n", encoding="utf-8")
        git(machine.template, "add", "--force", str(ignored))
        machine.publish("0.2.0")
    return "0.2.0"


def test_an_update_opens_a_branch_that_git_merges_with_peoples_commits(account, parameters, created, tmp_path):
    ours = checked_out(account.repository, "main", tmp_path / "ours")
    config = ours / "config.yaml"
    config.write_text(
        config.read_text(encoding="utf-8").replace("iterations: 1000", "iterations: 77"), encoding="utf-8"
    )
    git(ours, "commit", "-aqm", "our iterations")
    git(ours, "push", "-q", "origin", "main")
    version = newer(account.machine)
    later = {
        **parameters,
        "TemplateVersion": version,
        "RareClass": "ringleader",
        "NotificationEmail": "new@example.com",
    }
    answer = account.play("Update", later, parameters, whole=True)
    assert answer["Status"] == "SUCCESS", answer["Reason"]
    outputs = ProjectStack(later, answer["Data"]).outputs
    branch = outputs["UpdateBranch"]
    assert outputs["TemplateVersion"] == version and branch.startswith(f"template-{version}-")
    assert branch in outputs["Note"]
    assert account.aws.stacks["fraud-rings-toolchain"].parameters["NotificationEmail"] == "new@example.com"
    assert git(account.repository, "log", "-1", "--format=%s", "main") == "our iterations", (
        "people merge, the build does not"
    )
    proposed = files(checked_out(account.repository, branch, tmp_path / "proposed"))
    whole = json.loads(proposed.pop(".cruft.json"))
    assert whole["context"]["cookiecutter"]["rare_class"] == "ringleader" and b"News." in proposed["README.md"]
    assert proposed["build/kept.txt"] == b"kept\n", "every file of the template, also one that .gitignore names"
    git(ours, "fetch", "-q")
    git(ours, "merge", "-q", "--squash", f"origin/{branch}")
    git(ours, "commit", "-qm", "the template's, squashed as a pull request may be")
    merged = config.read_text(encoding="utf-8")
    assert "iterations: 77" in merged and 'rare_class: "ringleader"' in merged
    assert (ours / "README.md").read_text(encoding="utf-8").endswith("\nNews.\n")
    recorded = json.loads((ours / ".cruft.json").read_text(encoding="utf-8"))
    assert recorded["commit"] == git(account.machine.template, "rev-parse", f"v{version}")
    git(ours, "push", "-q", "origin", "main")
    again = account.play("Update", later, later)
    assert again["Data"]["UpdateBranch"] == "none", "what is merged is not proposed again"


def test_a_project_that_the_seed_pushed_is_updated_from_the_bundle_in_the_bucket(
    account, parameters, created, tmp_path, monkeypatch
):
    """By the project's own infra/template_update.py and the real cruft; the AWS CLI copies from a folder."""
    newer(account.machine)
    project = checked_out(account.repository, "main", tmp_path / "clone")
    tools = f"{account.machine.tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name, value in {"PATH": tools, "BUCKET": str(account.machine.bucket)}.items():
        monkeypatch.setenv(name, value)
    script = SourceFileLoader("template_update", str(project / "infra/template_update.py")).load_module()
    names = ["--project", "fraud-rings", "--repository", "acme/fraud-rings", "--branch", "main", "--topic", "arn"]
    outcome = script.take_update(project, script.parser().parse_args(names))
    assert "version 0.2.0" in outcome.sentence and "(0.1.0" in outcome.sentence
    [branch] = set(git(account.repository, "branch", "--format=%(refname:lstrip=2)").splitlines()) - {"main"}
    assert git(account.repository, "show", f"{branch}:README.md").endswith("\nNews.")
    changed = git(account.repository, "diff", "--name-only", "main", branch).splitlines()
    assert changed == [".cruft.json", "README.md", "build/kept.txt"], "the record was what cruft would have written"
    assert json.loads(git(account.repository, "show", f"{branch}:.cruft.json"))["template"] == TEMPLATE_URL
    ours = People(account.repository, tmp_path)
    ours.merge(branch)
    config = account.machine.template / PROJECT / "config.yaml"
    config.write_text(
        config.read_text(encoding="utf-8").replace("bad_rows: refuse", "bad_rows: drop"), encoding="utf-8"
    )
    version = account.machine.publish("0.3.0")
    answer = account.play("Update", {**parameters, "TemplateVersion": version}, parameters)
    assert answer["Status"] == "SUCCESS", answer["Reason"]
    before = files(ours.folder)
    ours.merge(answer["Data"]["UpdateBranch"])
    after = files(ours.folder)
    assert {name for name in after if before.get(name) != after[name]} == {".cruft.json", "config.yaml"}
    assert ours.recorded["_version"] == version and b"bad_rows: drop" in after["config.yaml"]


class People:
    """Those who work on a project, with a clone of its branch main."""

    def __init__(self, repository: Path, to: Path) -> None:
        self.folder = checked_out(repository, "main", to / "people")

    def commit(self, changes: Mapping[str, str | None], subject: str = "ours") -> None:
        """Push a commit. changes: file -> its text, None to delete it."""
        for name, text in changes.items():
            if text is None:
                (self.folder / name).unlink()
            else:
                (self.folder / name).write_text(text, encoding="utf-8")
        git(self.folder, "add", "-A", "--force")
        git(self.folder, "commit", "-qm", subject)
        git(self.folder, "push", "-q", "--force", "origin", "HEAD:main")

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def merge(self, branch: str) -> None:
        git(self.folder, "fetch", "-q")
        git(self.folder, "merge", "-q", "--no-edit", f"origin/{branch}")
        git(self.folder, "push", "-q", "origin", "HEAD:main")

    def squash(self, branch: str) -> None:
        """As GitHub does: the message of the one commit of a branch becomes that of another commit."""
        git(self.folder, "fetch", "-q")
        git(self.folder, "merge", "-q", "--squash", f"origin/{branch}")
        self.commit({}, git(self.folder, "show", "-s", "--format=%B", f"origin/{branch}"))

    def forget(self) -> None:
        """Begin the history anew."""
        git(self.folder, "checkout", "-q", "--orphan", "anew")
        self.commit({})

    @property
    def recorded(self) -> dict[str, str]:
        return dict(json.loads(self.read(".cruft.json"))["context"]["cookiecutter"])


def proposed(account: Account, parameters: Mapping[str, str]) -> tuple[str, str]:
    """Branch and note of an update to parameters; its build leaves the toolchain as it is."""
    variables = account.deliver(account.event("Update", parameters))
    account.builds.clear()
    program = seed_of(account.machine.bucket / "seed" / variables["TEMPLATE_VERSION"] / "template.zip")
    with (
        patch.dict(os.environ, {**account.machine.environment(account.repository), **variables}),
        tempfile.TemporaryDirectory() as scratch,
    ):
        request = program.Request.from_environment()
        found = program.Repository(request, Path(scratch)).propose(program.render(request, Path(scratch)))
        return (str(found[0]), str(found[1]))


def test_an_update_after_a_squashed_one_goes_on_from_what_main_holds(account, parameters, created, tmp_path):
    people = People(account.repository, tmp_path)
    second = {**parameters, "Team": "second"}
    people.commit({"config.yaml": people.read("config.yaml").replace("iterations: 1000", "iterations: 77")})
    branch, _ = proposed(account, second)
    people.squash(branch)
    back, _ = proposed(account, parameters)
    people.merge(back)
    assert people.recorded["team"] == parameters["Team"] and "iterations: 77" in people.read("config.yaml")
    again, _ = proposed(account, second)
    assert again not in (branch, back), "that branch does not begin at what main holds now"
    people.merge(again)
    assert people.recorded["team"] == "second" and "iterations: 77" in people.read("config.yaml")


def test_where_changes_do_not_fit_people_take_them_with_the_command_that_the_note_tells(
    account, parameters, created, tmp_path
):
    people = People(account.repository, tmp_path)
    people.forget()
    people.commit({OWNERS: "* @ours\n", "README.md": None})
    later = {**parameters, "TemplateVersion": newer(account.machine), "Team": "second"}
    branch, note = proposed(account, later)
    assert f"do not fit main in {OWNERS}" in note and git(people.folder, "log", "-1", "--format=%s") == "ours"
    assert proposed(account, later) == (branch, note)
    (command,) = re.findall("`git (cherry-pick [^`]*)`", note)
    git(people.folder, "fetch", "-q")
    with pytest.raises(subprocess.CalledProcessError):
        git(people.folder, *command.split())
    assert git(people.folder, "diff", "--name-only", "--diff-filter=U").splitlines() == [OWNERS, "README.md"]
    git(people.folder, "rm", "-q", "README.md")
    people.commit({OWNERS: "* @ours\n"})
    assert people.recorded["team"] == "second" and people.read("build/kept.txt") == "kept\n"
    assert proposed(account, later) == ("", "The code is up to date")


def test_what_people_deleted_stays_so_and_the_note_says_what_the_template_changed_there(
    account, parameters, created, tmp_path, capsys
):
    people = People(account.repository, tmp_path)
    people.forget()
    git(people.folder, "mv", OWNERS, "docs-owners")
    people.commit({"README.md": None})
    branch, note = proposed(account, {**parameters, "TemplateVersion": newer(account.machine), "Team": "second"})
    assert "Not among them" in note and "README.md" in note and OWNERS not in note
    assert "+News." in capsys.readouterr().out
    people.merge(branch)
    assert "second" in people.read("docs-owners") and not (people.folder / "README.md").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"_version": "0.1.0"', '"_version": "0.0.1"', "names version 0.0.1 of the template, which cannot be read"),
        ('"commit": "', '"commit": "f', "of the template, and the one published as 0.1.0 is"),
    ],
)
def test_a_record_of_what_was_not_published_leaves_the_code_alone_and_the_note_says_so(
    account, parameters, created, tmp_path, old, new, words
):
    """It is no failure: CloudFormation would ask for the earlier state then, and could not have it either."""
    people = People(account.repository, tmp_path)
    people.commit({".cruft.json": people.read(".cruft.json").replace(old, new)})
    history = git(account.repository, "rev-list", "--all")
    branch, note = proposed(account, {**parameters, "Team": "second"})
    assert branch == "" and words in note and "`make update`" in note
    assert git(account.repository, "rev-list", "--all") == history


@pytest.mark.parametrize("text", [None, '{"commit": "é"}'])
def test_a_project_without_a_record_cannot_be_updated(account, parameters, created, tmp_path, text):
    people = People(account.repository, tmp_path)
    people.commit({".cruft.json": text})
    if text:
        record = people.folder / ".cruft.json"
        record.write_bytes(text.encode("latin-1"))
        people.commit({})
    assert_tells(account.play("Update", parameters), "has no .cruft.json on main", "Restore that file")


# -- delete ----------------------------------------------------------------------------------------------------------


def test_deleting_takes_down_what_holds_no_data_and_lists_what_stays(account, parameters, created):
    account.aws.stacks |= {"fraud-rings-staging": Stack({}), "fraud-rings-pipeline": Stack({})}
    history = git(account.repository, "rev-list", "--all")
    answer = account.play("Delete", parameters, whole=True)
    assert answer["Status"] == "SUCCESS", answer["Reason"]
    assert_let(account.aws.calls)
    deleted = [call.split("/")[1] for call in account.aws.calls if call.startswith("DeleteStack")]
    assert deleted == [f"fraud-rings-{name}" for name in ("staging", "pipeline", *reversed(TOOLCHAIN[1:]))]
    assert account.aws.stacks["fraud-rings-storage"].status == "CREATE_COMPLETE"
    assert git(account.repository, "rev-list", "--all") == history
    for kept in (FORM["Repository"], "fraud-rings-storage", "models", "data", "logs", "/fraud-rings/champion"):
        assert kept in answer["Reason"]
    for kept in (
        "fraud-rings-training-…",
        "endpoint configs",
        "/fraud-rings/repository",
        "fraud-rings-eu-west-1-forward",
    ):
        assert kept in answer["Reason"]
    assert account.aws.values == {"/fraud-rings/repository": REPOSITORY_URL}, "which may take over what stays"
    again = account.play("Delete", parameters)
    assert again["Status"] == "SUCCESS" and "These stay" in again["Reason"]


def test_what_a_deleted_project_left_goes_to_no_repository_but_its_own_unless_an_administrator_says_so(
    account, parameters
):
    """Not to any team that takes the name. By hand means: by `scarcegan toolchain deploy` of a person."""
    for owner in ("p-another", "by-hand"):
        account.aws.stacks = {"fraud-rings-storage": Stack({"SageMakerProjectId": owner})}
        for left_to in ({}, {"/fraud-rings/repository": REPOSITORY_URL.replace("acme", "others")}):
            account.aws.values = left_to
            answer = account.play("Create", parameters)
            assert_tells(answer, f"of an earlier project ({owner})", "Choose another name. Or an administrator hands")
            assert answer["Reason"].count(f"--name /fraud-rings/repository --value {REPOSITORY_URL}") == 2, "log too"
    assert not [call for call in account.aws.calls if call.startswith("CreateChangeSet")]
    assert git(account.repository, "rev-list", "--all") == ""
    assert_let(account.aws.calls)


def test_a_model_package_group_that_is_there_is_taken_by_its_arn_only(account, parameters):
    account.aws.groups = ["fraud-rings", "fraud-models"]
    for group, name in (("", "fraud-rings"), ("fraud-models", "fraud-models")):
        arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package-group/{name}"
        answer = account.play("Create", {**parameters, "ModelPackageGroup": group})
        assert_tells(answer, f"a model package group {name} already", f"its ARN instead: {arn}")
    assert not [call for call in account.aws.calls if call.startswith("CreateChangeSet")]
    assert_let(account.aws.calls)
    account.aws.fails["fraud-rings-storage"] = "no"
    assert_tells(account.play("Create", {**parameters, "ModelPackageGroup": arn}), "fraud-rings-storage failed")
    given = account.aws.stacks["fraud-rings-storage"].parameters
    assert (given["ModelPackageGroupName"], given["CreateModelPackageGroup"]) == (name, "no")


def test_deleting_touches_neither_production_nor_what_another_project_deployed(account, parameters):
    """Also what CloudFormation deletes after a creation that was refused because the name was taken."""
    for name in TOOLCHAIN:
        account.aws.stacks[f"fraud-rings-{name}"] = Stack({"SageMakerProjectId": "by-hand"})
    refused = account.play("Create", parameters)
    assert refused["Status"] == "FAILED" and "Choose another name" in refused["Reason"]
    answer = account.play("Delete", parameters)
    assert answer["Status"] == "SUCCESS" and "by-hand" in answer["Reason"]
    for name in (*TOOLCHAIN, "production"):
        account.aws.stacks[f"fraud-rings-{name}"] = Stack({"SageMakerProjectId": parameters["SageMakerProjectId"]})
    answer = account.play("Delete", parameters)
    assert answer["Status"] == "FAILED" and "fraud-rings-production still serves a model" in answer["Reason"]
    assert not [call for call in account.aws.calls if call.startswith("DeleteStack")]


def test_deleting_leaves_the_toolchain_to_a_production_in_its_own_account(account, parameters):
    mine = {"SageMakerProjectId": parameters["SageMakerProjectId"]}
    apart = {**mine, "StagingAccount": "222233334444", "ProductionAccount": "777788889999"}
    account.aws.stacks = {f"fraud-rings-{name}": Stack(dict(apart)) for name in TOOLCHAIN}
    answer = account.play("Delete", parameters)
    told = "production of fraud-rings is in account 777788889999, where a model may still be served"
    assert_tells(answer, told, "fraud-rings-target-production", "`scarcegan toolchain deploy --set ProductionAccount=`")
    assert not [call for call in account.aws.calls if call.startswith("DeleteStack")]
    for name in TOOLCHAIN:
        account.aws.stacks[f"fraud-rings-{name}"].parameters["ProductionAccount"] = ACCOUNT
    answer = account.play("Delete", parameters)
    assert answer["Status"] == "SUCCESS" and account.aws.stacks["fraud-rings-toolchain"].status == "DELETE_COMPLETE"
    assert "in account 222233334444 the stacks fraud-rings-staging and fraud-rings-target-staging" in answer["Reason"]
    assert_let(account.aws.calls)


@pytest.mark.parametrize("ended", ["", "ROLLBACK_COMPLETE", "DELETE_FAILED"])
def test_a_toolchain_that_was_never_made_is_deleted_whatever_accounts_its_stages_were_to_have(
    account, parameters, ended
):
    """As CloudFormation does after a creation that failed; nothing was released then."""
    mine = {"SageMakerProjectId": parameters["SageMakerProjectId"], "ProductionAccount": "777788889999"}
    account.aws.stacks = {f"fraud-rings-{name}": Stack(dict(mine)) for name in TOOLCHAIN[:2]}
    if ended:
        account.aws.stacks["fraud-rings-toolchain"] = Stack(dict(mine), status=ended)
    answer = account.play("Delete", parameters)
    assert answer["Status"] == "SUCCESS", answer["Reason"]
    assert account.aws.stacks[f"fraud-rings-{TOOLCHAIN[1]}"].status == "DELETE_COMPLETE"


WITHOUT_NAME_OR_VERSION: tuple[dict[str, Any], ...] = (
    {"TemplateVersion": "unpublished"},
    {"TemplateVersion": ["0.1.0"]},
    {"Answers": {"project_slug": "Bad Name"}},
    {"Answers": {"project_slug": "a" * 5000}},
    {"Answers": {"project_slug": ["fraud-rings"]}},
    {"Answers": ["fraud-rings"]},
)


def asked(
    account: Account, kind: str, event: Mapping[str, Any], changed: Mapping[str, Any] | None, id_: str = ""
) -> Any:
    """The answer to a request with other properties, or without any."""
    properties = None if changed is None else {**event["ResourceProperties"], **changed}
    known = {"PhysicalResourceId": id_} if id_ else {}
    account.function.handler({**event, **known, "RequestType": kind, "ResourceProperties": properties}, None)
    return account.answers.taken[-1]


def test_what_was_never_created_is_deleted_without_a_build(account, parameters):
    """Its creation is answered with an id of its own. Where that answer was lost, CloudFormation makes one up."""
    event = account.event("Create", parameters)
    for changed in (*WITHOUT_NAME_OR_VERSION, None, {"Repository": "a..b"}, {"Branch": ["main"]}):
        refused = asked(account, "Create", event, changed)
        assert refused["Status"] == "FAILED"
        made_up = [] if changed and changed.keys() & {"Repository", "Branch"} else ["SC-1-pp-0a1b2c-Project-1XYZABC"]
        for there in (refused["PhysicalResourceId"], *made_up):
            answer = asked(account, "Delete", event, changed, there)
            assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", there), answer
            assert answer["Reason"] == "Nothing was created, so nothing is deleted"


def test_a_project_is_not_taken_for_never_created_when_its_deletion_cannot_be_read(account, parameters):
    """Only a project that was created has its own name as id. A later template of somebody's own may ask so."""
    event = account.event("Delete", parameters)
    for changed in (*WITHOUT_NAME_OR_VERSION, None):
        answer = asked(account, "Delete", event, changed)
        assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", "fraud-rings")
        assert "fraud-rings cannot be deleted" in answer["Reason"], answer
        assert "`scarcegan teardown --cloud`" in answer["Reason"]


def test_a_project_whose_creation_was_never_answered_is_deleted_under_the_id_that_cloudformation_makes_up(
    account, parameters
):
    creation = account.event("Create", parameters)
    account.deliver(creation)
    deletion = {**account.event("Delete", parameters), "PhysicalResourceId": "SC-1-pp-0a1b2c-Project-1XYZABC"}
    account.deliver(deletion, starts=False)
    assert "still runs" in account.answers.taken[-1]["Reason"], "also one that began under the project's name"
    account.builds[0] |= {"buildStatus": "TIMED_OUT"}
    for name in TOOLCHAIN:
        account.aws.stacks[f"fraud-rings-{name}"] = Stack({"SageMakerProjectId": parameters["SageMakerProjectId"]})
    later = {**deletion, "RequestId": "request-later"}
    assert account.run(account.deliver(later)).succeeded
    answer = account.end("SUCCEEDED")
    assert answer["PhysicalResourceId"] == deletion["PhysicalResourceId"] and "These stay" in answer["Reason"]
    assert account.aws.stacks["fraud-rings-toolchain"].status == "DELETE_COMPLETE"


def test_a_request_of_another_template_is_answered_too(account, parameters):
    event = account.event("Create", parameters)
    for properties, words in (
        ({}, "TemplateVersion '' is no version"),
        ({"Answers": "all"}, "Answers is no list of names with texts"),
        ({"TemplateVersion": ["0.1.0"], "Answers": {"team": ["a"]}}, "TemplateVersion, team: a text is wanted"),
    ):
        account.function.handler({**event, "ResourceProperties": properties}, None)
        assert account.answers.taken[-1]["Status"] == "FAILED" and words in account.answers.taken[-1]["Reason"]
    assert len(account.answers.taken) == 3


OWN = "https://mine.s3.eu-west-1.amazonaws.com/projects/0.1.0/project.yaml"


@pytest.mark.parametrize(
    ("stack", "project", "words"),
    [
        ("stack/mine/1", None, "was not made by SageMaker"),
        ("stack/SP-mine/1", "missing", "SageMaker has no project fraud-rings with the id p-0a1b2c3d4e5f"),
        ("stack/SP-mine/1", described("fraud-rings", "p-other", from_s3), "SageMaker has no project fraud-rings with"),
        ("stack/SP-mine/1", described("fraud-rings", "p-0a1b2c3d4e5f", from_s3), "is not that of the project"),
        ("stack/SP-mine/1", described("fraud-rings", "p-0a1b2c3d4e5f", service_catalog), "is not that of the project"),
        ("stack/SC-mine-pp-9/1", described("fraud-rings", "p-0a1b2c3d4e5f", service_catalog), "is not that of the"),
        ("stack/SC-mine-pp-9/1", described("fraud-rings", "p-0a1b2c3d4e5f", from_s3), "is not that of the project"),
        (
            "stack/SP-mine/1",
            described(
                "fraud-rings", "p-0a1b2c3d4e5f", from_s3, TemplateURL=OWN, StackDetail={"StatusMessage": "begun"}
            ),
            f"the template {OWN} is not the administrator's",
        ),
    ],
)
def test_a_stack_that_is_not_the_projects_own_builds_and_deletes_nothing(account, parameters, stack, project, words):
    """As a template of a user's own could ask, with the launch role and another project's name and id."""
    for kind, status in (("Create", "FAILED"), ("Update", "FAILED"), ("Delete", "SUCCESS")):
        event = {**account.event(kind, parameters), "StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:{stack}"}
        with Stubber(account.sagemaker) as stub, Stubber(account.codebuild):  # which would fail if it were asked
            if project == "missing":
                stub.add_client_error("describe_project", "ValidationException", "Project does not exist")
            elif project:
                stub.add_response("describe_project", project)
            account.function.handler(event, None)
        answer = account.answers.taken[-1]
        assert answer["Status"] == status and words in answer["Reason"], answer


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        (TEMPLATE_IN_S3, True),
        ("https://templates.s3.amazonaws.com/projects/1.0.0/project.yaml", True),
        ("https://s3.eu-west-1.amazonaws.com/templates/projects/1.0.0/project.yaml?versionId=a", True),
        ("https://templates.s3.eu-west-1.amazonaws.com/mine/project.yaml", False),
        ("https://s3.eu-west-1.amazonaws.com/mine/projects/1.0.0/project.yaml", False),
        ("https://templates.s3.example.com/projects/1.0.0/project.yaml", False),
        ("https://templates.s3.mine.s3.eu-west-1.amazonaws.com/projects/1.0.0/project.yaml", False),
        ("https://example.com/templates.s3.amazonaws.com/projects/project.yaml", False),
    ],
)
def test_the_administrators_templates_are_those_in_the_bucket(account, address, ours):
    assert account.function.is_ours(address) is ours


def test_the_administrators_own_names_are_refused_with_a_sentence_where_the_trust_policy_refuses_them(function):
    named = ["scarcegan", "scarcegan-projects", "scarcegan-projects-eu", "scarcegan-administration"]
    others = ["scarcegan-demo", "scarcegan-projectsx", "my-scarcegan"]
    trust = yaml.load((ROOT / "service_catalog/administration.yaml").read_text(encoding="utf-8"), Loader)
    trust = trust["Resources"]["DeploymentRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    [denied] = [one["Condition"]["StringLike"]["aws:RequestTag/project"] for one in trust if one["Effect"] == "Deny"]
    for name in named + others:
        told = " ".join(function.refused({"TemplateVersion": "0.1.0", "Answers": {**GOOD, "project_slug": name}}))
        assert any(fnmatchcase(name, pattern) for pattern in denied) is (name in named)
        assert (f"the name '{name}' is the administrator's own. Choose another one" in told) is (name in named)


# -- seven failures tell their reason --------------------------------------------------------------------------------


def assert_tells(answer: Mapping[str, Any], *words: str) -> None:
    """Whether a failed answer begins with a reason, and has the link to the log and its last lines after it."""
    assert answer["Status"] == "FAILED" and len(json.dumps(answer, ensure_ascii=False).encode()) <= 4096
    sentence, _, lines = answer["Reason"].partition(". Log: https://console.example.com/log")
    assert lines, answer["Reason"]
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"RareClass": "lambda"}, "class name 'lambda' is reserved"),
        ({"Team": "R\u2028D"}, "team holds a line break"),
        ({"SageMakerProjectName": "numpy"}, "is the name of a library"),
        (
            {"ModelPackageGroup": "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/g"},
            "the model package group is in us-east-1, the project in eu-west-1",
        ),
        ({"NegativeClasses": "fraudster, normal"}, "rare_class 'fraudster' is one of the negative_classes too"),
        ({"TemplateVersion": "unpublished"}, "is no version of the template"),
    ],
)
def test_a_bad_answer_that_the_form_lets_through_fails_at_once_with_the_hooks_own_words(
    account, parameters, changed, words
):
    account.function.handler(account.event("Create", {**parameters, **changed}), None)
    [answer] = account.answers.taken
    assert answer["Status"] == "FAILED" and words in answer["Reason"]


def test_a_repository_that_is_not_empty_is_refused_and_left_as_it_is(account, parameters, tmp_path):
    theirs = checked_out_new(account.repository, tmp_path)
    (theirs / "README.md").write_text("ours\n", encoding="utf-8")
    git(theirs, "add", "-A")
    git(theirs, "commit", "-qm", "ours")
    git(theirs, "push", "-q", "origin", "HEAD:main")
    assert_tells(
        account.play("Create", parameters), "acme/fraud-rings is not empty (it holds main)", "Name an empty one"
    )
    assert git(account.repository, "log", "--format=%s", "--all") == "ours"
    assert not account.aws.stacks


LATIN = "Grüße".encode("latin-1")


@pytest.mark.parametrize(
    ("branch", "held"),
    [(LATIN, r"it holds Gr\xfc\xdfe, main)"), ("a\u2028b".encode(), "it holds a b, main)")],
)
def test_a_repository_is_not_empty_whatever_bytes_the_names_of_its_branches_have(
    account, parameters, tmp_path, branch, held
):
    theirs = checked_out_new(account.repository, tmp_path)
    git(theirs, "commit", "-q", "--allow-empty", "-m", "ours")
    git(theirs, "push", "-q", "origin", "HEAD:main")
    tip = git(theirs, "rev-parse", "HEAD").encode()
    (account.repository / "packed-refs").write_bytes(tip + b" refs/heads/" + branch + b"\n")
    assert_tells(account.play("Create", parameters), f"acme/fraud-rings is not empty ({held}")


def test_a_result_is_json_whatever_letters_it_has(tmp_path):
    for text in ("Grüße", "\udcfc", "\ud800"):
        with seed.result(tmp_path / "result.json") as found:
            found["reason"] = text
        assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == {"reason": text}


def test_what_git_says_in_other_bytes_is_told(account, parameters):
    hook = account.repository / "hooks/pre-receive"
    hook.write_bytes(b"#!/bin/sh\necho '" + LATIN + b"' >&2; exit 1\n")
    hook.chmod(0o755)
    assert_tells(account.play("Create", parameters), "git cannot push to the repository", r"Gr\xfc\xdfe")


def test_a_connection_that_waits_for_its_handshake_is_told(account, parameters):
    account.aws.connection = "PENDING"
    assert_tells(account.play("Create", parameters), "the connection ours is PENDING", "'Update pending connection'")


@pytest.mark.parametrize(
    ("kind", "changed", "words"),
    [
        ("Create", {"ConnectionArn": ""}, "the repository acme/fraud-rings needs a connection"),
        ("Create", {"ConnectionArn": CONNECTION.replace("0a1b", "ffff")}, "cannot be used: Connection not found"),
        ("Update", {"Repository": "acme/other"}, "Repository is acme/fraud-rings and cannot become acme/other"),
        ("Update", {"ModelPackageGroup": "other"}, "ModelPackageGroupName is fraud-rings and cannot become other"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(account, parameters, kind, changed, words):
    if "not found" in words:
        account.aws.connection = ""
    if kind == "Update":
        there = {"Repository": FORM["Repository"], "ModelPackageGroupName": "fraud-rings"}
        project = {"SageMakerProjectId": parameters["SageMakerProjectId"]}
        account.aws.stacks["fraud-rings-toolchain"] = Stack({**there, **project})
    assert_tells(account.play(kind, {**parameters, **changed}), words)
    assert git(account.repository, "rev-list", "--all") == ""
    assert not [call for call in account.aws.calls if call.startswith("CreateChangeSet")]


def spoil(machine: Machine, version: str, changes: Mapping[str, tuple[str, str]], only: str = "") -> None:
    """Publish a template with mistakes. changes: end of a file's name -> old and new text. only: pattern of names."""
    place = machine.bucket / "seed" / version
    if place.exists():
        return
    (place / "wheels").mkdir(parents=True)
    with (
        zipfile.ZipFile(machine.bucket / "seed/0.1.0/template.zip") as good,
        zipfile.ZipFile(place / "template.zip", "w") as bad,
    ):
        for name in filter(re.compile(only).search, good.namelist()):
            text = good.read(name)
            for end, (old, new) in changes.items():
                text = text.replace(old.encode(), new.encode()) if name.endswith(end) else text
            bad.writestr(name, text)


def test_a_template_that_cannot_be_rendered_is_told(account, parameters):
    """As a template that was published without its tests would be."""
    spoil(account.machine, "0.0.9", {"VERSION": ("0.1.0", "0.0.9"), "slug>>/README.md": ("# ", "<% for %>")})
    answer = account.play("Create", {**parameters, "TemplateVersion": "0.0.9"}, whole=True)
    assert_tells(answer, "the template 0.0.9 cannot be rendered", "README.md")
    assert git(account.repository, "rev-list", "--all") == "" and not account.aws.stacks


@pytest.mark.parametrize(
    ("version", "changes", "words"),
    [
        ("0.0.8", {}, "the template published as 0.0.8 says that it is 0.1.0"),
        ("0.0.7", {"cookiecutter.json": ('"team"', '"crew"')}, "version 0.0.7 of the template does not ask for team"),
        ("0.0.6", {"post_gen_project.py": ("ARCHIVED", "LOST")}, "the published template does not tell its commit"),
    ],
)
def test_a_template_that_was_not_published_by_publish_py_is_told(account, parameters, version, changes, words):
    if changes:
        changes = {**changes, "VERSION": ("0.1.0", version)}
    spoil(account.machine, version, changes, r"VERSION|cookiecutter\.json|\.py$")
    assert_tells(account.play("Create", {**parameters, "TemplateVersion": version}), words)
    assert git(account.repository, "rev-list", "--all") == "" and not account.aws.stacks


def test_git_asks_the_aws_cli_who_may_push_to_the_repository(tmp_path, monkeypatch):
    """With its path: connections and CodeCommit sign it. git itself asks a program `aws` that notes what it is told."""
    aws = tmp_path / "aws"
    aws.write_text(
        f"#!/bin/sh\necho $* > {tmp_path}/asked\ncat >> {tmp_path}/asked\necho username=u; echo password=p\n"
    )
    aws.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    asked = f"url={REPOSITORY_URL}\n\n"
    told = subprocess.run([*seed.GIT, "credential", "fill"], input=asked, capture_output=True, text=True, check=True)
    assert "username=u\npassword=p" in told.stdout
    command, *lines = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert command == "codecommit credential-helper get"
    assert "path=git-http/123456789012/eu-west-1/0a1b2c3d/acme/fraud-rings.git" in lines


def test_a_refused_push_is_told_in_gits_words(account, parameters):
    hook = account.repository / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'GH006: protected branch' >&2; exit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    assert_tells(account.play("Create", parameters), "git cannot push to the repository acme/fraud-rings", "GH006")
    assert not account.aws.stacks


def test_github_may_refuse_the_workflow_alone(account, parameters, tmp_path):
    """Its words for an app without the permission, as in public reports; the stacks fail, to save their deployment."""
    hook = account.repository / "hooks/pre-receive"
    refuses = "refusing to allow a GitHub App to create or update workflow `check.yml` without `workflows` permission"
    hook.write_text(
        "#!/bin/sh\nread old new ref\n"
        f"[ -z \"$(git ls-tree $new .github/workflows)\" ] || {{ echo '{refuses}' >&2; exit 1; }}\n",
        encoding="utf-8",
    )
    hook.chmod(0o755)
    account.aws.fails["fraud-rings-storage"] = "no"
    assert_tells(account.play("Create", parameters), "fraud-rings-storage failed")
    pushed = files(checked_out(account.repository, "main", tmp_path / "clone"))
    assert not [name for name in pushed if name.startswith(seed.WORKFLOWS)]
    assert ".github/dependabot.yml" in pushed and ".cruft.json" in pushed


def test_a_stack_that_cannot_be_created_or_deleted_is_told(account, parameters):
    account.aws.fails["fraud-rings-toolchain"] = "Resource limit of 10 keys is reached"
    answer = account.play("Create", parameters)
    assert_tells(answer, "stack fraud-rings-toolchain failed at Key", "Resource limit of 10 keys is reached")
    answer = account.play("Delete", parameters)
    assert_tells(answer, "the stack fraud-rings-toolchain cannot be deleted: Key: Resource limit")
    account.aws.fails["fraud-rings-toolchain"] = "the key has another alias"
    answer = account.play("Delete", parameters)
    assert_tells(answer, "the stack fraud-rings-toolchain cannot be deleted: Key: the key has another alias")
    account.aws.fails.clear()
    assert account.play("Delete", parameters)["Status"] == "SUCCESS", "CloudFormation's own, after a failed creation"


@pytest.mark.parametrize(
    ("status", "words"),
    [("TIMED_OUT", "ran longer than its time-out"), ("STOPPED", "somebody stopped"), ("FAULT", "an error of its own")],
)
def test_a_build_that_never_wrote_a_result_is_answered_too(account, parameters, status, words):
    account.deliver(account.event("Create", parameters))
    account.log = ["é" * 200 for _ in range(30)]
    assert_tells(account.end(status), words)


def test_libraries_that_cannot_be_installed_are_told_with_codebuilds_words(account, parameters):
    account.deliver(account.event("Create", parameters))
    why = "COMMAND_EXECUTION_ERROR: Error while executing command: aws s3 cp"
    account.builds[0]["phases"] = [
        {"phaseType": "PROVISIONING", "phaseStatus": "SUCCEEDED", "contexts": [{"message": ""}]},
        {"phaseType": "INSTALL", "phaseStatus": "FAILED", "contexts": [{"message": why}]},
    ]
    account.log = ["fatal error: Access Denied"]
    assert_tells(account.end("FAILED"), "in the phase INSTALL", why)
    assert account.answers.taken[-1]["Reason"].endswith("Access Denied")


def test_an_answer_has_room_for_a_reason_of_any_letters(function):
    """A letter may have four bytes, and the limit counts bytes."""
    request = {"StackId": MADE[service_catalog], "RequestId": "r" * 36, "LogicalResourceId": "Project"}
    request |= {"PhysicalResourceId": "p" * 32}
    for text in ("x" * 9000, "🦊" * 9000, '"' * 9000, "a\x00" * 9000, "a\ud800" * 9000):
        answer = function.failed(request, text, ". Log: https://console.example.com/log", [text] * 30)
        assert 500 < len(function.as_bytes(answer)) <= 4096 and answer["Reason"].endswith(
            "…. Log: https://console.example.com/log"
        )
        done = function.succeeded(request, {"Note": text, "Repository": "r" * 256, "RepositoryUrl": "r" * 600}, text)
        assert len(function.as_bytes(done)) <= 4096 and done["Data"]["Repository"] == "r" * 256


NO_NAMES = ["..", "../x/owner/name", "a/..", "a..b", "x.lock", "a/x.lock", ".hidden", "a/.x", "-x", "a/", "a b", "é"]


@pytest.mark.parametrize(
    ("field", "refused"), [("Repository", [*NO_NAMES, ""]), ("Branch", [*NO_NAMES, "HEAD"])], ids=list("RB")
)
def test_names_that_cannot_be_are_refused_by_the_form_and_by_the_function(function, field, refused):
    """By the function too, as a template of somebody's own has other patterns."""
    good = {"TemplateVersion": "0.1.0", "Repository": "acme/rare.players", "Branch": "release/1.0", "Answers": GOOD}
    assert BODY["Parameters"][field]["AllowedPattern"] == f"^{function.NAMES[field].pattern}$", "one rule"
    for name in refused:
        assert not fits(BODY["Parameters"][field], name)
        assert [told[: len(field)] for told in function.refused({**good, field: name})] == [field], name
    for name in ("main", "a/HEAD.x", "A_b-c/d.e"):
        assert fits(BODY["Parameters"][field], name) and not list(function.refused({**good, field: name}))


def test_names_of_any_length_are_answered(account, parameters):
    """The form sets no limit to some; a template of somebody's own sets none at all."""
    for changed in ({"Repository": f"acme/{'r' * 4000}"}, {"Branch": "b" * 4000}):
        account.function.handler(account.event("Create", {**parameters, **changed}), None)
        assert "characters, 256 are taken" in account.answers.taken[-1]["Reason"]
    event = account.event("Create", parameters)
    event["ResourceProperties"]["Answers"]["project_slug"] = "\x01" * 4000
    account.function.handler(event, None)
    assert account.answers.taken[-1]["Status"] == "FAILED"


def test_an_error_of_the_function_itself_is_answered(account, parameters):
    """CloudFormation would otherwise wait for an hour. Here SageMaker refuses."""
    with Stubber(account.sagemaker) as stub:
        stub.add_client_error("describe_project", "AccessDeniedException", "not you")
        account.function.handler(account.event("Create", parameters), None)
    answer = account.answers.taken[-1]
    assert answer["Status"] == "FAILED" and "not you. Try the same again. If it fails again" in answer["Reason"]


def test_a_project_whose_earlier_build_still_runs_is_not_built_beside_it(account, parameters):
    account.deliver(account.event("Create", parameters))
    account.deliver(account.event("Delete", parameters), starts=False)
    assert "still runs" in account.answers.taken[-1]["Reason"]
    other = account.deliver(account.event("Create", {**parameters, "SageMakerProjectName": "other-rings"}))
    assert other["MODE"] == "create", "another project does not wait for it"


def test_an_answer_is_sent_again_when_s3_is_busy_and_given_up_when_nobody_waits(account, parameters):
    account.answers.statuses = [503, 429, 307]
    account.function.handler(account.event("Create", {**parameters, "TemplateVersion": "unpublished"}), None)
    assert len(account.answers.taken) == 1 and account.answers.path.endswith("&moved"), "where 307 says"
    account.answers.statuses = [b"", b"no HTTP\r\n\r\n"]  # as of a connection that is dropped or damaged
    account.function.handler(account.event("Create", {**parameters, "TemplateVersion": "unpublished"}), None)
    assert len(account.answers.taken) == 2
    account.answers.statuses = [403]
    account.function.handler(account.event("Create", {**parameters, "TemplateVersion": "unpublished"}), None)
    assert len(account.answers.taken) == 2


# -- the form and the parts ------------------------------------------------------------------------------------------


def parameter_of(question: str) -> str:
    """The parameter that asks a question of cookiecutter.json."""
    return question.title().replace("_", "")


FORM_ASKS = [name for name in ASKED if name not in ANSWERED_BY_SAGEMAKER]


def test_the_form_asks_what_cookiecutter_asks_with_the_same_defaults_and_sagemaker_answers_two():
    """SageMaker names the project, and the region is the one that the form was opened in."""
    answers = BODY["Resources"]["Project"]["Properties"]["Answers"]
    assert answers == {name: {"Ref": ANSWERED_BY_SAGEMAKER.get(name, parameter_of(name))} for name in ASKED}
    for name in FORM_ASKS:
        derived = "<<" in QUESTIONS[name]
        about = BODY["Parameters"][parameter_of(name)]
        assert about["Default"] == ("" if derived else QUESTIONS[name])
        assert about["Description"].startswith("Optional. Empty for ") is derived


def test_the_form_asks_beyond_that_what_the_toolchain_needs_with_its_rules():
    """What infra/*.yaml wants without a default, config.yaml, the code or an earlier stack gives; else it is asked."""
    templates = [Template.read(SimpleNamespace(), f"{name}.yaml") for name in TOOLCHAIN]  # type: ignore[arg-type]
    declared = {name: about for body in templates for name, about in body["Parameters"].items()}
    made = {name for body in templates for name in body.get("Outputs", {})} | set(PUBLISHED)
    needed = {name for name, about in declared.items() if "Default" not in about} - made
    from_config = {"SageMakerProjectName", "ModelPackageGroupName"}
    asked = set(BODY["Parameters"]) - {parameter_of(name) for name in FORM_ASKS}
    assert needed - from_config <= asked
    rules = ("Type", "AllowedPattern", "MaxLength", "MinLength")
    for name in asked:
        ours, theirs = BODY["Parameters"][name], declared[name]
        assert {rule: ours.get(rule) for rule in rules} == {rule: theirs.get(rule) for rule in rules}, name
        assert ours.get("Default") == (None if name == "SageMakerProjectId" else theirs.get("Default")), name


GOOD = {
    **{name: text for name, text in QUESTIONS.items() if name in ASKED and "<<" not in text},
    "project_slug": "rare-players",
    "description": "Finds rare players",
    "model_package_group": "rare-players",
}
TEXTS = [
    *("Rare Players", "R&D", "", " ", "é", "日本 語", "a<b", "a<<b", "a<%b", "a<#", "tab\t", "line\nbreak", "\x7f"),
    *("\u2028", "nul\0", "'", '"', "$(x)", "a_b", "a-b", "A", "9a", "-a", "a-", "a--b", "a,b", "a, b", "a,,b", ",a"),
    *("a" * length for length in (1, 32, 33, 40, 41, 63, 64, 256, 257, 1024, 1025)),
    *(" a , b ", "a,a", "risky", "risky, normal", "normal\n", "normal,", "unknown", "unlabelled", "generated", "class"),
    *("awsome", "ssm-x", "numpy", "sthree-x", "amzn-s3-demo-x"),
    *(f"arn:aws:sagemaker:eu-west-1:123456789012:model-package-group/{'g' * length}" for length in (63, 64)),
    *("arn:aws:sagemaker:eu-west-1:1234:model-package-group/g", "a/b", "team: x=y+z@w/u._-", "{{ x }}", "emoji 🦊"),
]


@pytest.mark.parametrize("question", [*FORM_ASKS, "project_slug"])
def test_the_form_refuses_nothing_that_the_hook_takes_and_the_function_refuses_the_rest(function, question):
    """The form's rules are one pattern and two lengths; what they cannot say, the function says before a build."""
    name = ANSWERED_BY_SAGEMAKER.get(question, parameter_of(question))
    about = BODY["Parameters"][name]
    left = set()
    for text in TEXTS:
        if text == "" and about.get("Default") == "":
            continue  # stands for what the template derives
        given = {**GOOD, question: text}
        taken = not list(refusals(given))
        assert fits(about, text) or not taken, f"the form refuses {text!r}"
        if fits(about, text) and not taken:
            left.add(text)
            told = list(function.refused({"TemplateVersion": "0.1.0", "Repository": "r", "Answers": given}))
            assert told == list(refusals(given))
    allowed = {
        "project_name": {"\u2028"},
        "description": {"\u2028"},
        "team": {"\u2028", "emoji 🦊"},
        "rare_class": {"class", "normal"},
        "negative_classes": {"unknown", "class", "generated", "unlabelled", "a,a", "risky", "risky, normal"},
        "project_slug": {"numpy"},
    }
    assert left <= allowed.get(question, set()), "the form lets through what a pattern could have refused"


def test_optional_fields_are_marked_and_every_field_has_a_label_and_a_group():
    """SageMaker fills two in itself, so they need no label."""
    about = BODY["Metadata"]
    optional = {name for name, one in BODY["Parameters"].items() if one["Description"].startswith("Optional. ")}
    rules = about["SagemakerTemplateParameterRules"]
    assert rules == {name: {"Optional": True} for name in optional}
    assert all("Default" in BODY["Parameters"][name] for name in optional)
    shown = about["AWS::CloudFormation::Interface"]
    grouped = [name for group in shown["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(BODY["Parameters"]), "each in one group"
    assert set(shown["ParameterLabels"]) == set(BODY["Parameters"]) - {"SageMakerProjectName", "SageMakerProjectId"}
    for name in FORM_ASKS:
        assert shown["ParameterLabels"][parameter_of(name)]["default"] == QUESTIONS["__prompts__"][name]


def test_what_the_form_makes_beside_the_seed_carries_the_teams_tag(parameters):
    made = ProjectStack(parameters, {"RepositoryUrl": REPOSITORY_URL}).of_type("AWS::SageMaker::CodeRepository")
    assert [about["Tags"] for about in made.values()] == [[{"Key": "team", "Value": FORM["Team"]}]]


def test_either_route_can_provision_the_template():
    """The S3 route passes no capabilities, so no roles, macros and nested stacks; SageMaker wants two parameters."""
    text = PROJECT_YAML.read_text(encoding="utf-8")
    kinds = {about["Type"] for about in BODY["Resources"].values()}
    assert kinds == {"Custom::ScarceganProject", "AWS::SageMaker::CodeRepository"}
    for forbidden in ("AWS::IAM", "Transform", "AWS::CloudFormation::Stack", "ForEach", "AWS::LanguageExtensions"):
        assert forbidden not in text
    assert {"SageMakerProjectName", "SageMakerProjectId"} <= set(BODY["Parameters"])
    properties = BODY["Resources"]["Project"]["Properties"]
    assert int(properties["ServiceTimeout"]) <= 3600
    assert BODY["Mappings"]["Template"]["Version"] == {"Default": "unpublished"}, "which publish.py replaces"


@pytest.mark.parametrize(
    ("connection", "region", "url"),
    [
        ("", "eu-west-1", "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/rare"),
        ("", "cn-north-1", "https://git-codecommit.cn-north-1.amazonaws.com.cn/v1/repos/rare"),
        (
            "arn:aws:codeconnections:eu-west-1:123456789012:connection/0a-1b",
            "eu-west-1",
            "https://codeconnections.eu-west-1.amazonaws.com/git-http/123456789012/eu-west-1/0a-1b/rare.git",
        ),
    ],
)
def test_git_finds_a_repository_behind_a_connection_or_on_codecommit(connection, region, url):
    assert seed.repository_url("rare", connection, region) == url
    shape = botocore.session.get_session().get_service_model("sagemaker").shape_for("GitConfigUrl")
    assert re.fullmatch(shape.metadata["pattern"], url), "Studio shows it"


def test_a_build_has_no_network(machine):
    """As far as this machine allows; a listening port of the test cannot be reached from a build's shell."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.server_port}), 1)"
        stand_in = {"PYTHONPATH": str(ROOT / "tests/aws_stand_in"), "PATH": "/usr/bin:/bin"}
        command = [machine.tools / "bash", "-c", f'{machine.tools / "python"} -c "{code}"']
        tried = subprocess.run(command, env=stand_in, capture_output=True, text=True)
    assert tried.returncode != 0 and "OSError" in tried.stderr


def test_what_a_build_installs_comes_from_its_wheels_with_hashes_and_is_complete(machine, created):
    """pip was not run here: its command is read, and the list is compared with what the libraries declare."""
    asked = (machine.folder / "pip-calls").read_text(encoding="utf-8").splitlines()[0].split()
    assert {"--no-index", "--require-hashes", "--find-links"} <= set(asked)
    text = package.wheel_requirements().read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))
    assert text.count("--hash=sha256:") >= len(pinned)
    needed = set(re.findall(r"^([\w-]+)", (package.SEED / "requirements.in").read_text(encoding="utf-8"), re.MULTILINE))
    groups = tomllib.loads(re.sub("<<.*?>>", "x", (ROOT / PROJECT / "pyproject.toml").read_text(encoding="utf-8")))
    assert needed == {"cookiecutter", *groups["dependency-groups"]["release"]}
    python = {"python_version": "3.12", "python_full_version": "3.12.0", "sys_platform": "linux", "extra": ""}
    while needed:
        name = needed.pop()
        assert name in pinned, f"{name} has no line in requirements.txt"
        for declared in map(Requirement, distribution(name).requires or ()):
            if declared.marker is None or declared.marker.evaluate(python):
                dependency = canonicalize_name(declared.name)
                assert declared.specifier.contains(pinned.get(dependency, "0"), prereleases=True), (
                    f"{name} needs {declared}"
                )
                needed.add(dependency)
    theirs = (ROOT / PROJECT / "infra/requirements-release.txt").read_text(encoding="utf-8")
    assert dict(re.findall(r"^([\w.-]+)==([\w.]+)", theirs, re.MULTILINE)).items() <= pinned.items()


def test_the_functions_zip_runs_with_boto3_alone(tmp_path):
    """In a Python that sees no other library of this environment and no file of the template."""
    zipfile.ZipFile(io.BytesIO(package.handler_zip())).extractall(tmp_path)
    code = "import handler; print(list(handler.refused({'TemplateVersion': 'x', 'Answers': {'project_slug': 'a--b'}})))"
    ran = subprocess.run([sys.executable, "-B", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "no version of the template" in ran.stdout and "project_slug 'a--b' is refused" in ran.stdout, ran.stderr


def test_a_zip_has_the_same_bytes_on_every_machine(machine, monkeypatch):
    """Whatever its time zone, its system, its settings of git, and the zlib of its Python and its git are."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.autocrlf")
    zips = set()
    for zone, system, converts in (("UTC", "linux", "false"), ("Asia/Tokyo", "win32", "true")):
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", converts)
        monkeypatch.setattr(sys, "platform", system)
        zips.add((package.template_zip(machine.template, "v0.1.0"), package.handler_zip()))
    [pair] = zips
    packed = [about for one in pair for about in zipfile.ZipFile(io.BytesIO(one)).infolist()]
    assert {about.compress_type for about in packed} == {zipfile.ZIP_STORED}


def test_the_template_has_no_executable_file_whose_mode_the_zip_would_lose():
    listed = subprocess.run(["git", "ls-files", "-s", PROJECT], cwd=ROOT, capture_output=True, text=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} <= {"100644"}
