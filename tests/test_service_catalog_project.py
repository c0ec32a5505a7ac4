"""A project is created from Studio on both routes, updated and deleted, as SageMaker and CloudFormation would have it.

Requests are checked against botocore's shapes, CodeBuild is botocore's Stubber, the buildspec really runs (seed_build.py),
CloudFormation, STS and CodeConnections are answered by aws_answers.py, and an HTTP server here takes the answers.
"""

import importlib.util
import io
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.session
import cruft
import pytest
import yaml
from aws_answers import Aws, Stack
from botocore.stub import ANY, Stubber
from botocore.validate import ParamValidator
from conftest import PROJECT, ROOT
from pre_gen_project import refusals
from seed_build import TEMPLATE_URL, Build, Machine, checked_out, files, git, machine
from stacks import Loader, NO_VALUE
from stacks import Stack as Template

import package
import seed
from bake import bake as bake_here

__all__ = ["machine"]

PROJECT_YAML = ROOT / "service_catalog/project.yaml"
BODY = yaml.load(PROJECT_YAML.read_text(encoding="utf-8"), Loader)
QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
ASKED = [name for name in QUESTIONS if not name.startswith("_")]
ANSWERED_BY_SAGEMAKER = {"project_slug": "SageMakerProjectName", "aws_region": "AWS::Region"}
ACCOUNT, REGION = "123456789012", "eu-west-1"
CONNECTION = f"arn:aws:codestar-connections:{REGION}:{ACCOUNT}:connection/0a1b2c3d"
TOKEN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:scarcegan-projects-seed"
TOOLCHAIN = ("storage", "roles-models", "roles-delivery", "toolchain")
FORM = {
    "ProjectName": "Fraud Rings' \"best\" $(touch pwned)",
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
        "Tags": [{"Key": "sagemaker:user-profile-arn", "Value": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:user-profile/d-1/a"}],
    }


def from_s3(name: str, form: Mapping[str, str]) -> dict[str, Any]:
    """CreateProject as Studio sends it for a template in S3."""
    values = [{"Key": key, "Value": value} for key, value in form.items()]
    url = f"https://templates.s3.{REGION}.amazonaws.com/0.1.0/project.yaml"
    role = f"arn:aws:iam::{ACCOUNT}:role/scarcegan-projects-launch"
    about = {"TemplateName": "scarcegan", "TemplateURL": url, "RoleARN": role, "Parameters": values}
    return {"ProjectName": name, "TemplateProviders": [{"CfnTemplateProvider": about}]}


def parameters_of(request: Mapping[str, Any], version: str) -> dict[str, str]:
    """The parameters of the stack that SageMaker makes of CreateProject; it adds the project's name and id."""
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
        super().__init__("project.yaml", parameters)
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
    statuses: list[int] = field(default_factory=list)  # that come before 200


@pytest.fixture
def answers() -> Iterator[Answers]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            status = found.statuses.pop(0) if found.statuses else 200
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "", "the signature of the address holds an empty content type"
            assert len(body) <= 4096
            if status == 200:
                found.taken.append(json.loads(body))
            self.send_response(status)
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


class Account:
    """CloudFormation and CodeBuild round one custom resource. builds: those that were started, newest first."""

    def __init__(
        self, machine: Machine, function: Any, answers: Answers, monkeypatch: pytest.MonkeyPatch, repository: str
    ) -> None:
        self.machine, self.function, self.answers = machine, function, answers
        self.repository = machine.repository(repository)
        self.builds: list[dict[str, Any]] = []
        self.log: list[str] = []
        self.requests = 0
        machine.server.aws = Aws()
        credentials = {"aws_access_key_id": "a", "aws_secret_access_key": "s", "region_name": REGION}
        self.codebuild = boto3.client("codebuild", **credentials)
        self.logs = boto3.client("logs", **credentials)
        monkeypatch.setattr(self.function, "client", {"codebuild": self.codebuild, "logs": self.logs}.__getitem__)
        monkeypatch.setattr(self.function.time, "sleep", lambda _: None)
        monkeypatch.setenv("SEED_PROJECT", "scarcegan-projects-seed")

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
            "StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/SC-{ACCOUNT}-pp-1/1",
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
        with Stubber(self.codebuild) as stub:
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
            self.function.handle(event, None)
            stub.assert_no_pending_responses()
        if not starts:
            return {}
        assert isinstance(sent.value, list)
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

    def run(self, variables: Mapping[str, str]) -> Build:
        """Run the build that was started last."""
        built = self.machine.build(self.repository, variables)
        result = built.exported["RESULT"]
        self.builds[0]["exportedEnvironmentVariables"] = [{"name": "RESULT", "value": result}] if result else []
        self.log = built.log.splitlines()
        return built

    def end(self, status: str) -> dict[str, Any]:
        """Hand the end of the build to the function. Returns the answer that CloudFormation gets.

        https://docs.aws.amazon.com/codebuild/latest/userguide/sample-build-notifications.html
        """
        build = self.builds[0]
        build["buildStatus"] = status
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
        with Stubber(self.codebuild) as stub, Stubber(self.logs) as logs:
            stub.add_response("batch_get_builds", {"builds": [build]}, {"ids": [build["id"]]})
            if status != "SUCCEEDED":
                lines = [{"message": f"{line}\n"} for line in self.log[-30:]]
                asked = {"logGroupName": "group", "logStreamName": "stream", "limit": ANY, "startFromHead": False}
                logs.add_response("get_log_events", {"events": lines}, asked)
            self.function.handle(event, None)
            stub.assert_no_pending_responses()
            logs.assert_no_pending_responses()
        assert len(self.answers.taken) == before + 1, "each request is answered once"
        return self.answers.taken[-1]

    def play(self, kind: str, parameters: Mapping[str, str], old: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A request from CloudFormation's event to its answer."""
        event = self.event(kind, parameters, old)
        built = self.run(self.deliver(event))
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


# -- create ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", [service_catalog, from_s3])
def test_a_project_of_studio_is_a_bake_with_the_same_answers_byte_for_byte(account, route, tmp_path):
    parameters = parameters_of(route("fraud-rings", FORM), "0.1.0")
    answer = account.play("Create", parameters)
    assert answer["Status"] == "SUCCESS", answer["Reason"]
    project = checked_out(account.repository, "main", tmp_path / "clone")
    baked = bake_here(tmp_path / "baked", ANSWERS)
    pushed, expected = files(project), files(baked)
    record, other = json.loads(pushed.pop(".cruft.json")), yaml.safe_load(expected.pop(".template.yaml"))
    assert pushed == expected
    assert not list(account.machine.folder.rglob("pwned"))
    asked = {name: text for name, text in record["context"]["cookiecutter"].items() if not name.startswith("_")}
    assert asked == other["answers"], "both records hold the same answers"
    assert (record["template"], record["checkout"]) == (TEMPLATE_URL, "v0.1.0")
    assert record["commit"] == git(account.machine.template, "rev-parse", "v0.1.0")
    outputs = ProjectStack(parameters, answer["Data"]).outputs
    assert set(outputs) == {
        *("Repository", "BuildPipeline", "DeployPipeline", "ModelPackageGroup", "Bucket", "TemplateVersion"),
        "UpdateBranch",
    }
    assert outputs["TemplateVersion"] == "0.1.0" and outputs["Bucket"] == "made-bucketname"
    assert list(account.aws.stacks) == [f"fraud-rings-{name}" for name in TOOLCHAIN]
    given = account.aws.stacks["fraud-rings-toolchain"].parameters
    assert given["SageMakerProjectId"] == parameters["SageMakerProjectId"]
    assert (given["Repository"], given["ConnectionArn"], given["Branch"]) == (FORM["Repository"], CONNECTION, "main")
    assert given["NotificationEmail"] == FORM["NotificationEmail"]
    boundary = account.aws.stacks["fraud-rings-roles-models"].parameters["PermissionsBoundaryArn"]
    assert boundary == "arn:aws:iam::123456789012:policy/boundary", "the administrator's parameters go to every project"


def test_creating_twice_does_nothing_twice(account, parameters):
    event = account.event("Create", parameters)
    variables = account.deliver(event)
    assert account.deliver(event, starts=False) == {}, "the same request, delivered again while its build runs"
    assert account.run(variables).succeeded
    first = account.end("SUCCEEDED")
    account.deliver(event, starts=False)
    assert account.answers.taken[-1] == first, "and again after its end, when CloudFormation may not have had the answer"
    history = git(account.repository, "rev-list", "--all")
    again = account.play("Create", parameters)
    assert again["Status"] == "SUCCESS" and "holds this project already" in again["Reason"]
    assert again["Data"] == first["Data"]
    assert git(account.repository, "rev-list", "--all") == history
    assert [call for call in account.aws.calls if call.startswith("Execute")] == [
        f"ExecuteChangeSet fraud-rings-{name}" for name in TOOLCHAIN
    ], "each stack once"


# -- update ----------------------------------------------------------------------------------------------------------


def newer(machine: Machine) -> str:
    """Publish a later version of the template, with news in its README. Returns it."""
    readme = machine.template / PROJECT / "README.md"
    if machine.versions == 1:
        readme.write_text(readme.read_text(encoding="utf-8") + "\nNews.\n", encoding="utf-8")
        machine.publish("0.2.0")
    return "0.2.0"


def test_an_update_opens_a_branch_that_git_merges_with_peoples_commits(account, parameters, tmp_path):
    """Also cruft, in the project as it was pushed, from the administrator's repository."""
    account.play("Create", parameters)
    ours = checked_out(account.repository, "main", tmp_path / "ours")
    config = ours / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("iterations: 1000", "iterations: 77"), encoding="utf-8")
    git(ours, "commit", "-aqm", "our iterations")
    git(ours, "push", "-q", "origin", "main")
    version = newer(account.machine)
    later = {**parameters, "TemplateVersion": version, "RareClass": "ringleader", "NotificationEmail": "new@example.com"}
    answer = account.play("Update", later, parameters)
    assert answer["Status"] == "SUCCESS", answer["Reason"]
    outputs = ProjectStack(later, answer["Data"]).outputs
    branch = outputs["UpdateBranch"]
    assert outputs["TemplateVersion"] == version and branch.startswith(f"template-{version}-") and branch in answer["Reason"]
    assert account.aws.stacks["fraud-rings-toolchain"].parameters["NotificationEmail"] == "new@example.com"
    assert git(account.repository, "log", "-1", "--format=%s", "main") == "our iterations", "people merge, the build does not"
    proposed = files(checked_out(account.repository, branch, tmp_path / "proposed"))
    whole = json.loads(proposed.pop(".cruft.json"))
    assert whole["context"]["cookiecutter"]["rare_class"] == "ringleader" and b"News." in proposed["README.md"]
    git(ours, "fetch", "-q")
    git(ours, "merge", "-q", "-m", "merge", f"origin/{branch}")
    merged = config.read_text(encoding="utf-8")
    assert "iterations: 77" in merged and 'rare_class: "ringleader"' in merged
    assert (ours / "README.md").read_text(encoding="utf-8").endswith("\nNews.\n")
    assert json.loads((ours / ".cruft.json").read_text(encoding="utf-8"))["checkout"] == f"v{version}"
    git(ours, "push", "-q", "origin", "main")
    again = account.play("Update", later, later)
    assert again["Data"]["UpdateBranch"] == "none", "what is merged is not proposed again"
