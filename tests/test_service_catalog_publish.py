"""publish.py: what a version consists of, plans and their walk, and every command of the administrator's README.

S3, STS and IAM are moto's. moto has no versions of products, and its CloudFormation passes over resources that it does
not know: both are stand-ins here, `Catalog` and `Stacks`, behind botocore's own validation of requests. Nothing is
downloaded: wheels are made up.
"""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import account
import acts
import boto3
import jmespath
import publish
import pytest
import versions
import yaml
from acts import Aws, Call, UserError
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from conftest import ROOT
from moto import mock_aws
from versions import KEPT, OFFERED, WITHDRAWN, Artifact, State

ACCOUNT, REGION = "111122223333", "eu-west-1"
BUCKET = f"scarcegan-projects-{ACCOUNT}-{REGION}"
STUDIO = f"arn:aws:iam::{ACCOUNT}:role/service-role/AmazonSageMaker-ExecutionRole-1"
TWO_WHEELS = "boto3==1.44.8 \\\n    --hash=sha256:0a\npyyaml==6.0.3\n"  # stand for thirty
PARTS = ("VERSION", "CHANGELOG.md", "cookiecutter.json", "hooks", "service_catalog")


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the template's parts that are published, at version 0.1.0, committed. publish.py works in it."""
    root = tmp_path / "template"
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        (root / part).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / part, root / part)
    (root / "service_catalog/seed/requirements.txt").write_text(TWO_WHEELS, encoding="utf-8")
    (root / ".gitignore").write_text("build/\n__pycache__/\n", encoding="utf-8")
    git(root, "init", "-q")
    commit(root, VERSION="0.1.0")
    monkeypatch.setattr(publish, "ROOT", root)
    monkeypatch.setattr(publish, "OUT", root / "build/service_catalog")
    monkeypatch.setattr(publish, "validate", lambda: None)
    monkeypatch.setattr(versions, "download", wheels)
    return root


def wheels(requirements: Path, folder: Path) -> list[Path]:
    """Made-up wheels of what is pinned."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        versions.write(folder / f"{start}py3-none-any.whl", start.encode()) for start in versions.pins(requirements)
    ]


def commit(root: Path, **files: str) -> None:
    """Write files and commit them. With VERSION, the number is also written where it has to be the same."""
    if "VERSION" in files:
        questions = json.loads((root / "cookiecutter.json").read_text(encoding="utf-8"))
        files["cookiecutter.json"] = json.dumps({**questions, "_version": files["VERSION"]})
        files["CHANGELOG.md"] = f"# Changelog\n\n## {files['VERSION']}"
    for name, text in files.items():
        (root / name).write_text(f"{text}\n", encoding="utf-8")
    git(root, "add", "--all")
    git(root, "commit", "-q", "--allow-empty", "-m", "one")


class Catalog:
    """Service Catalog's versions of one product. `requests` are all that changed something."""

    is_gone = False

    def __init__(self) -> None:
        self.details: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.tokens: dict[str, str] = {}

    def answer(self, model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        if self.is_gone:
            return refusal("ResourceNotFoundException", "Product not found.")
        asked = json.loads(params["body"])
        answered = getattr(self, xform_name(model.name))(asked)
        return SimpleNamespace(status_code=200), {**answered, "ResponseMetadata": {"HTTPStatusCode": 200}}

    def list_provisioning_artifacts(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"ProvisioningArtifactDetails": list(self.details.values())}

    def create_provisioning_artifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(("create", asked))
        name, url = asked["Parameters"]["Name"], asked["Parameters"]["Info"]["LoadTemplateFromURL"]
        client("s3").head_object(Bucket=BUCKET, Key=url.partition(".com/")[2])  # which Service Catalog reads now
        assert self.tokens.setdefault(asked["IdempotencyToken"], name) == name
        self.details[name] = {"Id": f"pa-{name}", "Name": name, "Active": True, "Guidance": "DEFAULT"}
        return {"ProvisioningArtifactDetail": self.details[name]}

    def update_provisioning_artifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(("update", asked))
        about = next(one for one in self.details.values() if one["Id"] == asked["ProvisioningArtifactId"])
        about |= {key: asked[key] for key in ("Active", "Guidance") if key in asked}
        return {"ProvisioningArtifactDetail": about}


class Stacks:
    """CloudFormation with one stack, whose changes succeed. With the stack comes the bucket.

    - coming: what the stack will be. Until somebody waits it has its earlier status, as AWS may tell it for a moment.
    - refuses: code and message that every call is answered with.
    - no_change: why a change set fails. fails: why a resource does, and the change is undone.
    """

    refuses: tuple[str, str] | None = None
    no_change = ""
    fails = ""

    def __init__(self) -> None:
        self.stack: dict[str, Any] | None = None
        self.change: dict[str, str] = {}
        self.coming: list[dict[str, Any]] = []

    def wait(self, _: float = 0) -> None:
        self.stack = self.coming.pop(0) if self.coming else self.stack

    def answer(self, model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        asked = params["body"]
        if self.refuses:
            return refusal(*self.refuses)
        if model.name == "CreateChangeSet":
            places = [key.removesuffix(".ParameterKey") for key in asked if key.endswith(".ParameterKey")]
            unknown = {asked[f"{at}.ParameterKey"] for at in places} - declared(asked["TemplateBody"])
            if unknown:
                return refusal("ValidationError", f"Parameters: [{', '.join(unknown)}] do not exist in the template")
            kept = parameters(self.stack) if self.stack else {}
            given = {asked[f"{at}.ParameterKey"]: asked.get(f"{at}.ParameterValue") for at in places}
            defaults = {"HandlerKey": "", "FirstVersion": ""}
            self.change = {
                **defaults,
                **{name: kept[name] if value is None else value for name, value in given.items()},
            }
        elif model.name == "ExecuteChangeSet":
            self.execute()
        elif model.name == "DeleteStack":
            assert self.stack
            self.coming = [{**self.stack, "StackStatus": f"DELETE_{end}"} for end in ("IN_PROGRESS", "COMPLETE")]
        return self.described(model.name, asked)

    def execute(self) -> None:
        outputs = {"TemplatesBucket": BUCKET} | ({"ProductId": "prod-1"} if self.change["FirstVersion"] else {})
        verb = "UPDATE" if self.stack and self.stack["StackStatus"] != "DELETE_COMPLETE" else "CREATE"
        status = f"{verb}_COMPLETE"
        if self.fails:
            status, outputs = f"{verb}_ROLLBACK_COMPLETE".removeprefix("CREATE_"), {}
        elif verb == "CREATE":
            client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        ended = {
            "StackId": "arn:stack",
            "StackStatus": status,
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in self.change.items()],
            "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
        }
        self.coming = [{**ended, "StackStatus": f"{verb}_IN_PROGRESS"}, ended]

    def described(self, operation: str, asked: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        answer: dict[str, Any] = {"ResponseMetadata": {"HTTPStatusCode": 200}}
        gone = self.stack is None or (
            self.stack["StackStatus"] == "DELETE_COMPLETE" and asked.get("StackName") == acts.STACK
        )
        if operation == "DescribeStacks" and gone:
            return refusal("ValidationError", f"Stack with id {asked['StackName']} does not exist")
        told: dict[str, dict[str, Any]] = {
            "DescribeStacks": {"Stacks": [self.stack]},
            "DescribeChangeSet": (
                {"Status": "FAILED", "StatusReason": self.no_change}
                if self.no_change
                else {"Status": "CREATE_COMPLETE"}
            ),
            "DescribeStackEvents": self.page_of_events(int(asked.get("NextToken", 0))),
            "GetTemplateSummary": {
                "Parameters": [{"ParameterKey": name} for name in declared(asked.get("TemplateBody", ""))]
            },
        }
        return SimpleNamespace(status_code=200), {**told.get(operation, {}), **answer}

    def page_of_events(self, number: int) -> dict[str, Any]:
        """One event, as answers hold a part of them only."""
        events = list(self.events())
        more = {"NextToken": str(number + 1)} if number + 1 < len(events) else {}
        return {"StackEvents": [events[number]], **more}

    def events(self) -> Iterator[dict[str, str]]:
        """Of the last change and of an earlier one, newest first."""
        for name, status, why in (
            ("Seed", "CREATE_FAILED", "Resource creation cancelled"),
            ("AnswerKey", "CREATE_FAILED", self.fails),
            (acts.STACK, "CREATE_IN_PROGRESS", "User Initiated"),
            ("Handler", "UPDATE_FAILED", "of last week"),
        ):
            kind = "AWS::CloudFormation::Stack" if name == acts.STACK else "AWS::KMS::Key"
            about = {"LogicalResourceId": name, "ResourceType": kind, "ResourceStatus": status}
            yield {**about, "ResourceStatusReason": why}


def declared(template: str) -> set[str]:
    """The parameters of a template."""
    [_, *sections] = re.split(r"^(\w+):\n", template, flags=re.MULTILINE)
    named = dict(zip(sections[::2], sections[1::2], strict=True))
    return set(re.findall(r"^  (\w+):$", named.get("Parameters", ""), re.MULTILINE))


def refusal(code: str, message: str) -> tuple[Any, dict[str, Any]]:
    """What botocore makes of an error that AWS answers with."""
    about = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return SimpleNamespace(status_code=400), about


@pytest.fixture
def stacks() -> Stacks:
    return Stacks()


@cache
def client(service: str) -> Any:
    """One client for all tests, as to make one takes longest. moto answers it inside `cloud`."""
    return boto3.client(service, region_name=REGION, aws_access_key_id="nobody", aws_secret_access_key="nothing")


@pytest.fixture
def catalog(cloud: None, monkeypatch: pytest.MonkeyPatch, stacks: Stacks) -> Iterator[Catalog]:
    """Both stand-ins answer every `Aws` that is made."""
    made = Catalog()
    events = {"servicecatalog": ("service-catalog", made.answer), "cloudformation": ("cloudformation", stacks.answer)}

    def with_these_clients(self: Aws, region: str = "") -> None:
        self.region, self.partition = REGION, "aws"
        self.session = SimpleNamespace(get_credentials=lambda: "some", client=client)

    monkeypatch.setattr(Aws, "__init__", with_these_clients)
    monkeypatch.setattr(Aws, "client", lambda self, service: client(service))
    for service, (event, answer) in events.items():
        client(service).meta.events.register(f"before-call.{event}", answer, unique_id="stand-in")
    yield made
    for service, (event, _) in events.items():
        client(service).meta.events.unregister(f"before-call.{event}", unique_id="stand-in")


def parameters(stack: dict[str, Any] | None) -> dict[str, str]:
    assert stack
    return {item["ParameterKey"]: item["ParameterValue"] for item in stack["Parameters"]}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, stacks: Stacks) -> Iterator[None]:
    """moto's account."""
    monkeypatch.setenv("MOTO_ACCOUNT_ID", ACCOUNT)
    monkeypatch.setattr(acts, "sleep", stacks.wait)
    with mock_aws():
        yield


@pytest.fixture
def administered(cloud: None, stacks: Stacks) -> Any:
    """An account with the administration. Returns a client of S3."""
    stacks.change = {"HandlerKey": "handler/0a.zip", "FirstVersion": "0.1.0"}
    stacks.execute()
    stacks.stack = stacks.coming[-1]
    return client("s3")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials are to be found, and a region is."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


def objects(s3: Any) -> dict[str, tuple[str, dict[str, str]]]:
    """Key -> ETag and tags of every object in the bucket."""
    found = {}
    for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        tags = s3.get_object_tagging(Bucket=BUCKET, Key=item["Key"])["TagSet"]
        found[item["Key"]] = (item["ETag"], {tag["Key"]: tag["Value"] for tag in tags})
    return found


def run(*words: str) -> None:
    assert publish.main(words) == 0


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that fails says."""
    assert publish.main(words) == 1
    return capsys.readouterr().err.strip().splitlines()[-1].removeprefix("error: ")


# -- what a version consists of ---------------------------------------------------------------------------------------


def build(root: Path, out: Path) -> versions.Package:
    return versions.build(root, "0.1.0", versions.commit_of(root, "0.1.0"), out)


def test_project_yaml_is_published_with_its_version_in_it(repository: Path, tmp_path: Path) -> None:
    made = build(repository, tmp_path / "out")
    before = (repository / versions.TEMPLATE).read_text(encoding="utf-8").splitlines()
    after = made.files[made.template].read_text(encoding="utf-8").splitlines()
    changed = [(old.strip(), new.strip()) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [("Default: unpublished", "Default: 0.1.0")]
    assert list(made.files)[-1] == made.template == "projects/0.1.0/project.yaml", "last, so that its seed is there"
    assert {key.split("/")[0] for key in made.files} == {"projects", "seed"}


def test_the_same_commit_gives_the_same_bytes_in_another_time_zone(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(repository, tmp_path / "first")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    second = build(repository, tmp_path / "second")
    assert first.files.keys() == second.files.keys()
    assert [path.read_bytes() for path in first.files.values()] == [path.read_bytes() for path in second.files.values()]
    assert (first.handler[0], first.buildspec[0]) == (second.handler[0], second.buildspec[0])


def test_a_wheel_that_is_pinned_no_more_is_not_published(tmp_path: Path) -> None:
    """A folder of an earlier build of the same version."""
    pins = tmp_path / "requirements.txt"
    pins.write_text("boto3==1.44.8 \\\n    --hash=sha256:0a\npython-dateutil==2.9.0.post0\n", encoding="utf-8")
    new = ["boto3-1.44.8-py3-none-any.whl", "python_dateutil-2.9.0.post0-py2.py3-none-any.whl"]
    for name in [*new, "boto3-1.44.7-py3-none-any.whl"]:
        (tmp_path / name).touch()
    assert [wheel.name for wheel in versions.wheels_of(pins, tmp_path)] == new


def test_wheels_are_downloaded_for_the_python_of_the_seeds_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip is a program that notes its words here, and then one that fails."""
    pins, pip = tmp_path / "requirements.txt", tmp_path / "python"
    pins.write_text(TWO_WHEELS, encoding="utf-8")
    monkeypatch.setattr(sys, "executable", str(pip))

    def download(script: str) -> list[Path]:
        pip.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        pip.chmod(0o755)
        return versions.download(pins, tmp_path / "wheels")

    wheel = tmp_path / "wheels/boto3-1.44.8-py3-none-any.whl"
    assert download(f"echo $* > {tmp_path}/asked; touch {wheel}") == [wheel]
    asked = (tmp_path / "asked").read_text(encoding="utf-8")
    runtime = yaml.safe_load((ROOT / versions.BUILDSPEC).read_text(encoding="utf-8"))["phases"]["install"]
    assert f"--python-version {runtime['runtime-versions']['python']} " in asked
    assert "--require-hashes" in asked and "--only-binary :all:" in asked
    with pytest.raises(UserError, match="could not be downloaded: no such host"):
        download("echo no such host >&2; exit 1")


def test_the_templates_zip_holds_the_commit_and_no_file_beside_it(repository: Path, tmp_path: Path) -> None:
    made = build(repository, tmp_path / "out")
    names = zipfile.ZipFile(made.files["seed/0.1.0/template.zip"]).namelist()
    assert {name.split("/")[0] for name in names} == {"template"} and "template/VERSION" in names


@pytest.mark.parametrize("text", ["Default: 1.0.0", "Default: unpublished\nDefault: unpublished"])
def test_a_template_with_no_or_two_places_for_its_version_is_refused(
    repository: Path, tmp_path: Path, text: str
) -> None:
    commit(repository, **{versions.TEMPLATE: text})
    with pytest.raises(UserError, match="must stand there once"):
        build(repository, tmp_path / "out")


def test_a_tree_that_is_not_clean_is_not_published(repository: Path) -> None:
    (repository / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"not clean \(\?\? notes.txt\)"):
        versions.commit_of(repository, "0.1.0")


def test_a_version_that_was_tagged_at_another_commit_is_not_published(repository: Path) -> None:
    git(repository, "tag", "v0.1.0")
    assert versions.commit_of(repository, "0.1.0") == versions.git(repository, "rev-parse", "HEAD")
    commit(repository, notes="later")
    with pytest.raises(UserError, match=r"the tag v0\.1\.0 is at"):
        versions.commit_of(repository, "0.1.0")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"VERSION": "0.2.0"}, "in cookiecutter.json it is 0.1.0"),
        ({"CHANGELOG.md": "# Changelog"}, "in CHANGELOG.md it is none"),
        ({"CHANGELOG.md": "## 0.2.0\n\n## 0.1.0"}, "in CHANGELOG.md it is 0.2.0"),
    ],
)
def test_a_version_whose_number_is_not_the_same_everywhere_is_not_published(
    repository: Path, nobody: None, capsys: pytest.CaptureFixture[str], changed: dict[str, str], told: str
) -> None:
    for name, text in changed.items():
        (repository / name).write_text(text, encoding="utf-8")
    commit(repository)
    assert told in refused(capsys, "package")
    run("publish", "--dry-run")
    assert f"A real run stops here: VERSION is {versions.version_of(repository)}, {told}" in capsys.readouterr().err


# -- publishing -------------------------------------------------------------------------------------------------------


def test_a_version_is_published_by_both_routes(repository: Path, catalog: Catalog, administered: Any) -> None:
    run("publish")
    there = objects(administered)
    assert there.keys() - {versions.BUNDLE} == build(repository, repository.parent / "again").files.keys()
    assert there["projects/0.1.0/project.yaml"][1] == {versions.LISTED: "true", versions.READABLE: "true"}
    [(_, asked)] = catalog.requests
    assert asked["ProductId"] == "prod-1" and asked["Parameters"]["Name"] == "0.1.0"
    url = f"https://{BUCKET}.s3.{REGION}.amazonaws.com/projects/0.1.0/project.yaml"
    assert asked["Parameters"]["Info"] == {"LoadTemplateFromURL": url}


@pytest.mark.parametrize(("route", "listed", "versions_made"), [("s3", "true", 0), ("service-catalog", None, 1)])
def test_one_route_alone_can_be_published(
    repository: Path, catalog: Catalog, administered: Any, route: str, listed: str | None, versions_made: int
) -> None:
    run("publish", "--route", route)
    tags = objects(administered)["projects/0.1.0/project.yaml"][1]
    assert (tags.get(versions.LISTED), tags[versions.READABLE]) == (listed, "true")
    assert len(catalog.requests) == versions_made
    run("publish")
    assert objects(administered)["projects/0.1.0/project.yaml"][1][versions.LISTED] == "true"
    assert len(catalog.requests) == 1, "the other route was added, and nothing twice"


def test_a_version_whose_checks_fail_is_not_published(
    repository: Path,
    catalog: Catalog,
    administered: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails() -> None:
        raise UserError("this is not so: a project can be generated")

    monkeypatch.setattr(publish, "validate", fails)
    assert "a project can be generated" in refused(capsys, "publish")
    assert not objects(administered) and not catalog.requests


def test_a_spoke_is_told_to_publish_in_the_hub(
    repository: Path, catalog: Catalog, administered: Any, stacks: Stacks, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stacks.stack
    stacks.stack["Outputs"] = [one for one in stacks.stack["Outputs"] if one["OutputKey"] != "ProductId"]
    assert "Publish in the hub" in refused(capsys, "publish")
    assert not objects(administered)


def test_publishing_twice_does_nothing_twice(
    repository: Path, catalog: Catalog, administered: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run("publish")
    before = objects(administered)
    run("publish")
    assert objects(administered) == before and len(catalog.requests) == 1
    assert "so already" in capsys.readouterr().err


def test_other_bytes_under_a_published_version_are_refused_and_nothing_is_changed(
    repository: Path, catalog: Catalog, administered: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run("publish")
    before = objects(administered)
    commit(repository, notes="later, and VERSION is forgotten")
    assert "0.1.0 is published with other bytes" in refused(capsys, "publish")
    assert objects(administered) == before and len(catalog.requests) == 1
    commit(repository, VERSION="0.2.0")
    run("publish")
    assert list(catalog.details) == ["0.1.0", "0.2.0"]


def test_a_publication_that_was_killed_after_any_act_is_completed_by_the_same_command(
    repository: Path, catalog: Catalog, administered: Any
) -> None:
    aws = Aws()
    package = build(repository, repository.parent / "out")
    keys = list(package.files)
    for done in range(len(package.files) + 2):
        for item in administered.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            administered.delete_object(Bucket=BUCKET, Key=item["Key"])
        catalog.details.clear()
        acts.walk(versions.plan_publish(package, versions.read_state(aws, keys), REGION)[:done], aws, lambda _: None)
        run("publish")
        assert objects(administered).keys() - {versions.BUNDLE} == package.files.keys()
        assert list(catalog.details) == ["0.1.0"]
        assert versions.plan_publish(package, versions.read_state(aws, keys), REGION) == []


def test_nothing_of_an_object_is_replaced_also_when_two_publish_at_once(
    repository: Path, catalog: Catalog, administered: Any
) -> None:
    aws = Aws()
    package = build(repository, repository.parent / "out")
    plan = versions.plan_publish(package, versions.read_state(aws), REGION)  # nobody has published yet
    run("publish")
    with pytest.raises(ClientError, match="PutObject"):
        acts.walk(plan, aws, lambda _: None)


def versions_in_the_bundle(s3: Any, folder: Path) -> tuple[str, set[str]]:
    """The version on the main branch, and all tags, of a clone of what is in the bucket."""
    (folder / "b").write_bytes(s3.get_object(Bucket=BUCKET, Key=versions.BUNDLE)["Body"].read())
    subprocess.run(["git", "clone", "-q", "b", "clone"], cwd=folder, check=True, capture_output=True)
    assert versions.git(folder / "clone", "branch", "--show-current") == "main"
    return versions.version_of(folder / "clone"), set(versions.git(folder / "clone", "tag").split())


def test_the_bundle_holds_the_published_versions_and_no_other_branch_of_the_clone(
    repository: Path, catalog: Catalog, administered: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also when an older version is published later, as a correction is: projects never go back by themselves."""
    run("publish")
    git(repository, "tag", "v0.1.0")
    git(repository, "checkout", "-q", "-b", "secret-plans")
    commit(repository, VERSION="0.3.0")
    run("publish")
    git(repository, "tag", "v0.3.0")
    git(repository, "checkout", "-q", "v0.1.0")
    commit(repository, VERSION="0.2.0")
    run("publish")
    main, tags = versions_in_the_bundle(administered, tmp_path_factory.mktemp("clone"))
    assert (main, tags) == ("0.3.0", {"v0.1.0", "v0.2.0", "v0.3.0"})
    run("withdraw", "0.3.0")
    commit(repository, VERSION="0.2.1")
    run("publish")
    main, tags = versions_in_the_bundle(administered, tmp_path_factory.mktemp("clone"))
    assert main == "0.2.1" and "v0.3.0" not in tags, "what is withdrawn reaches nobody"


def test_a_withdrawn_version_leaves_the_bundle_at_once(
    repository: Path,
    catalog: Catalog,
    administered: Any,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """So no build of a project proposes it; its commit stays under another tag, from which projects go back."""
    run("publish")
    git(repository, "tag", "v0.1.0")
    commit(repository, VERSION="0.2.0")
    run("publish")
    git(repository, "tag", "v0.2.0")
    run("withdraw", "0.2.0")
    main, tags = versions_in_the_bundle(administered, tmp_path_factory.mktemp("clone"))
    assert (main, tags) == ("0.1.0", {"v0.1.0", "withdrawn-v0.2.0"})
    before = administered.head_object(Bucket=BUCKET, Key=versions.BUNDLE)["ETag"]
    capsys.readouterr()
    run("withdraw", "0.1.0")
    assert "template.bundle stays as it is" in capsys.readouterr().err, "nothing else is left"
    assert administered.head_object(Bucket=BUCKET, Key=versions.BUNDLE)["ETag"] == before


@pytest.fixture
def two(repository: Path, catalog: Catalog, administered: Any) -> Any:
    """Versions 0.1.0 and 0.2.0, published from a clone that has their tags. Returns a client of S3."""
    for version in ("0.1.0", "0.2.0"):
        commit(repository, VERSION=version)
        run("publish")
        git(repository, "tag", f"v{version}")
    return administered


def uploaded(s3: Any) -> str:
    """The ETag of the bundle."""
    return str(s3.head_object(Bucket=BUCKET, Key=versions.BUNDLE)["ETag"])


@pytest.mark.parametrize("verb", ["make-default", "deprecate"])
def test_a_withdrawn_version_that_is_brought_back_is_in_the_bundle_again_at_once(
    two: Any, tmp_path_factory: pytest.TempPathFactory, verb: str
) -> None:
    run("withdraw", "0.2.0")
    run(verb, "0.2.0")
    assert versions_in_the_bundle(two, tmp_path_factory.mktemp("clone")) == ("0.2.0", {"v0.1.0", "v0.2.0"})


def test_a_verb_after_which_the_same_versions_are_withdrawn_leaves_the_bundle_alone(
    repository: Path, two: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a clone without tags, whose bundle would hold less."""
    git(repository, "tag", "--delete", "v0.1.0", "v0.2.0")
    before = uploaded(two)
    capsys.readouterr()
    for words in (("deprecate", "0.1.0"), ("make-default", "0.2.0"), ("roll-back",)):
        run(*words)
    assert uploaded(two) == before
    assert versions.BUNDLE not in capsys.readouterr().err


def test_what_the_bundle_does_not_follow_is_said_listed_and_done_by_the_same_command_after_a_fetch(
    repository: Path, two: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It cannot be made in a clone without the tag of the version left, or of the one that is brought back."""
    for verb, tag, told, command in (
        ("withdraw", "v0.1.0", "not withdrawn", "withdraw 0.2.0"),
        ("deprecate", "v0.2.0", "withdrawn", "deprecate 0.2.0"),
    ):
        place = versions.git(repository, "rev-parse", tag)
        git(repository, "tag", "--delete", tag)
        before = uploaded(two)
        capsys.readouterr()
        run(verb, "0.2.0")
        assert f"template.bundle stays as it is, and builds of projects follow it: version {tag[1:]} is published" in (
            capsys.readouterr().err
        )
        assert uploaded(two) == before
        assert f"  {told} in template.bundle: publish.py {command}" in listed(capsys, "0.2.0")
        git(repository, "tag", tag, place)
        run(verb, "0.2.0")
        assert uploaded(two) != before and "bundle" not in listed(capsys, "0.2.0")


def test_a_version_of_one_route_can_be_withdrawn_and_is_not_published_by_the_other_one_then(
    repository: Path, catalog: Catalog, administered: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run("publish", "--route", "service-catalog")
    for verb, readable in (("withdraw", "false"), ("make-default", "true"), ("withdraw", "false")):
        run(verb, "0.1.0")
        assert objects(administered)["projects/0.1.0/project.yaml"][1] == {versions.READABLE: readable}
    capsys.readouterr()
    run("withdraw", "0.1.0")
    assert "so already" in capsys.readouterr().err
    assert "version 0.1.0 is withdrawn. Raise VERSION" in refused(capsys, "publish")
    assert objects(administered)["projects/0.1.0/project.yaml"][1] == {versions.READABLE: "false"}


def test_a_clone_that_lacks_a_newer_published_version_is_told_to_fetch_it(
    repository: Path, catalog: Catalog, administered: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.details["0.9.0"] = {"Id": "pa-9", "Name": "0.9.0", "Active": True, "Guidance": "DEFAULT"}
    assert "Type: git fetch --tags" in refused(capsys, "publish")
    assert not objects(administered)


def test_a_published_version_without_a_tag_here_is_named(
    repository: Path, catalog: Catalog, administered: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older one, which the bundle lacks then, and the one that is published, which a later bundle would lack."""
    run("publish")
    assert "No tag here: v0.1.0." in capsys.readouterr().err
    commit(repository, VERSION="0.2.0")
    git(repository, "tag", "v0.2.0")
    run("publish", "--dry-run")
    assert "No tag here: v0.1.0." in capsys.readouterr().err
    git(repository, "tag", "v0.1.0", "HEAD~1")
    run("publish")
    run("withdraw", "0.2.0")
    assert "No tag here" not in capsys.readouterr().err
    git(repository, "tag", "--delete", "v0.2.0")
    run("withdraw", "0.1.0")
    assert "No tag here: v0.2.0." in capsys.readouterr().err


def test_a_bundle_that_somebody_else_replaced_meanwhile_is_not_lost(
    repository: Path, catalog: Catalog, administered: Any
) -> None:
    """The act names what it replaces; S3 then refuses, and the bucket's policy takes no other act."""
    run("publish")
    before = versions.read_state(Aws()).bundle
    commit(repository, VERSION="0.2.0")
    package = versions.build(repository, "0.2.0", versions.commit_of(repository, "0.2.0"), repository.parent / "out")
    [act] = versions.plan_bundle(package, versions.read_state(Aws()))
    assert isinstance(act, Call) and act.parameters["IfMatch"] == before.etag and before.tags


def test_an_account_without_administration_is_told_what_to_type(
    repository: Path, cloud: None, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("publish",), ("list",), ("administration", "show-in-domain", "d-1")):
        assert "publish.py administration deploy" in refused(capsys, *words)


# -- which version is offered -----------------------------------------------------------------------------------------


@pytest.fixture
def three(catalog: Catalog, administered: Any) -> Any:
    """Versions 0.1.0, 0.2.0 and 0.10.0, published by both routes."""
    for version in ("0.1.0", "0.2.0", "0.10.0"):
        catalog.details[version] = {"Id": f"pa-{version}", "Name": version, "Active": True, "Guidance": "DEFAULT"}
        tags = urlencode(versions.TAGS[OFFERED])
        administered.put_object(Bucket=BUCKET, Key=versions.key_of(version), Body=b"template", Tagging=tags)
    return administered


def states() -> dict[str, tuple[str, str]]:
    """Version -> its state in Service Catalog and in S3."""
    state = versions.read_state(Aws())
    return {version: (state.artifacts[version].state, state.templates[version]) for version in state.versions}


def both(**wanted: str) -> dict[str, tuple[str, str]]:
    return {version: (state, state) for version, state in wanted.items()}


def test_a_new_version_is_offered_beside_the_others(three: Any) -> None:
    assert states() == both(**{"0.1.0": OFFERED, "0.2.0": OFFERED, "0.10.0": OFFERED})


def test_the_default_is_the_only_version_that_is_offered(three: Any) -> None:
    run("make-default", "0.10.0")
    assert states() == both(**{"0.1.0": KEPT, "0.2.0": KEPT, "0.10.0": OFFERED})


def test_a_deprecated_version_stays_for_projects_that_have_it(three: Any) -> None:
    run("deprecate", "0.1.0")
    assert states() == both(**{"0.1.0": KEPT, "0.2.0": OFFERED, "0.10.0": OFFERED})


def test_a_withdrawn_version_is_neither_listed_nor_readable_and_can_come_back(three: Any, catalog: Catalog) -> None:
    run("withdraw", "0.2.0")
    assert states()["0.2.0"] == (WITHDRAWN, WITHDRAWN)
    assert not catalog.details["0.2.0"]["Active"]
    assert objects(three)["projects/0.2.0/project.yaml"][1] == {versions.LISTED: "false", versions.READABLE: "false"}
    run("make-default", "0.2.0")
    assert states() == both(**{"0.1.0": KEPT, "0.2.0": OFFERED, "0.10.0": KEPT})


def test_rolling_back_offers_the_version_before_by_number_and_passes_withdrawn_ones(three: Any) -> None:
    run("make-default", "0.10.0")
    run("roll-back")
    assert states() == both(**{"0.1.0": KEPT, "0.2.0": OFFERED, "0.10.0": KEPT})
    run("make-default", "0.10.0")
    run("withdraw", "0.2.0")
    run("roll-back")
    assert states() == both(**{"0.1.0": OFFERED, "0.2.0": WITHDRAWN, "0.10.0": KEPT})


def withdraw_in_service_catalog_only(version: str) -> None:
    """`withdraw`, killed after its first act."""
    acts.walk(versions.plan_state(version, WITHDRAWN, versions.read_state(Aws()))[:1], Aws(), lambda _: None)


@pytest.mark.parametrize("words", [("roll-back",), ("make-default", "0.1.0")], ids=" ".join)
@pytest.mark.parametrize("half", ["0.2.0", "0.10.0"])
def test_a_withdrawal_that_was_killed_is_not_undone_by_another_verb(three: Any, half: str, words: Any) -> None:
    """Neither as the version to go back to, nor as one that is the default no more. It is offered nowhere then."""
    withdraw_in_service_catalog_only(half)
    run(*words)
    assert states()[half] == (WITHDRAWN, WITHDRAWN)
    offered = [version for version, state in states().items() if OFFERED in state]
    assert offered == ["0.2.0" if (half, words[0]) == ("0.10.0", "roll-back") else "0.1.0"]


def test_a_version_that_is_kept_and_half_withdrawn_is_passed_by_the_way_back(three: Any) -> None:
    run("make-default", "0.10.0")
    withdraw_in_service_catalog_only("0.2.0")
    run("roll-back")
    assert states() == {"0.1.0": (OFFERED, OFFERED), "0.2.0": (WITHDRAWN, KEPT), "0.10.0": (KEPT, KEPT)}


def listed(capsys: pytest.CaptureFixture[str], version: str) -> str:
    """The line of a version in `list`."""
    capsys.readouterr()
    run("list")
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.split()[0] == version]
    return line


def test_a_version_that_is_half_withdrawn_is_listed_with_the_command_that_completes_it(
    three: Any, repository: Path, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    withdraw_in_service_catalog_only("0.2.0")
    line = listed(capsys, "0.2.0")
    assert "half withdrawn: publish.py withdraw 0.2.0 completes it, make-default 0.2.0 brings it back" in line
    commit(repository, VERSION="0.2.0")
    assert "0.2.0 is withdrawn. Raise VERSION" in refused(capsys, "publish")
    run("withdraw", "0.2.0")
    assert "half" not in listed(capsys, "0.2.0")
    catalog.details["0.2.0"] |= {"Active": True, "Guidance": "DEFAULT"}  # make-default, killed after its first act
    assert "make-default 0.2.0 brings it back" in listed(capsys, "0.2.0")
    run("make-default", "0.2.0")
    assert "half" not in listed(capsys, "0.2.0") and states()["0.2.0"] == (OFFERED, OFFERED)


def test_a_version_of_one_route_is_half_withdrawn_while_its_template_is_readable(
    catalog: Catalog, administered: Any, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("publish", "--route", "service-catalog")
    assert "half" not in listed(capsys, "0.1.0")
    withdraw_in_service_catalog_only("0.1.0")
    assert "half withdrawn" in listed(capsys, "0.1.0")
    run("withdraw", "0.1.0")
    assert "half" not in listed(capsys, "0.1.0")
    catalog.details["0.1.0"] |= {"Active": True, "Guidance": "DEFAULT"}
    assert "half withdrawn" in listed(capsys, "0.1.0")
    assert "version 0.1.0 is withdrawn" in refused(capsys, "publish")


def test_there_is_no_way_back_from_the_first_version(three: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("make-default", "0.1.0")
    before = states()
    assert "no version before 0.1.0" in refused(capsys, "roll-back")
    assert states() == before


def test_a_version_that_is_not_published_is_refused_with_those_that_are(
    three: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "published: 0.1.0, 0.2.0, 0.10.0" in refused(capsys, "withdraw", "9.9.9")


def test_the_list_shows_both_routes_newest_first(three: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("make-default", "0.2.0")
    capsys.readouterr()
    run("list")
    rows = [line.split(maxsplit=1)[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["version", "0.10.0", "0.2.0", "0.1.0"]


def test_what_is_no_version_is_left_alone_and_the_list_names_it(
    three: Any, repository: Path, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody else's template, or product version, that Studio lists."""
    for folder in ("test", "1.0.0-rc1", "1.4"):
        tags = urlencode(versions.TAGS[OFFERED])
        three.put_object(Bucket=BUCKET, Key=f"projects/{folder}/project.yaml", Body=b"theirs", Tagging=tags)
    catalog.details["trial"] = {"Id": "pa-trial", "Name": "trial", "Active": True, "Guidance": "DEFAULT"}
    theirs = {key: value for key, value in objects(three).items() if not re.search(r"projects/0\.", key)}
    run("list")
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["version", "0.10.0", "0.2.0", "0.1.0"]
    assert "Left alone, as they are no versions such as 1.4.0: 1.0.0-rc1, 1.4, test, trial." in told.err
    commit(repository, VERSION="0.11.0")
    for version in ("0.1.0", "0.2.0", "0.10.0"):
        git(repository, "tag", f"v{version}")
    for words in (("publish",), ("make-default", "0.10.0"), ("roll-back",), ("withdraw", "0.1.0")):
        run(*words)
    assert theirs.items() <= objects(three).items() and catalog.details["trial"]["Guidance"] == "DEFAULT"


CHANGES: list[tuple[str, ...]] = [
    ("publish",),
    ("make-default", "0.2.0"),
    ("deprecate", "0.1.0"),
    ("withdraw", "0.1.0"),
    ("roll-back",),
]


@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
def test_a_dry_run_prints_what_the_real_run_then_does_and_changes_nothing(
    three: Any, repository: Path, catalog: Catalog, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    commit(repository, VERSION="0.11.0")
    run("package")  # the wheels, whose names a dry run cannot know
    before, asked = objects(three), len(catalog.requests)
    capsys.readouterr()
    run(*words, "--dry-run")
    script = capsys.readouterr().out
    printed = [line[2:] for line in script.splitlines() if line.startswith("# ")]
    for command in commands_of(script):
        check_command(command)
    assert objects(three) == before and len(catalog.requests) == asked
    run(*words)
    done = capsys.readouterr().err.splitlines()
    assert [line for line in printed if line not in done] == [] and printed


# -- killed and repeated ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a command as a closed terminal does."""


READS = ("Describe", "Get", "Head", "List")


@contextmanager
def killed_before(number: int) -> Iterator[None]:
    """Whatever runs in it is killed before it changes something for the time of that number, counted from 0."""
    left = iter(range(number))

    def count(model: Any, **_: Any) -> None:
        if not model.name.startswith(READS) and next(left, None) is None:
            raise Killed

    services = [client(service) for service in ("s3", "servicecatalog", "cloudformation")]
    for service in services:
        service.meta.events.register("before-parameter-build", count, unique_id="kills")
    try:
        yield
    finally:
        for service in services:
            service.meta.events.unregister("before-parameter-build", unique_id="kills")


def killed_after_each_call(*words: str, restore: Callable[[], None]) -> Iterator[int]:
    """A command is killed, each time one call later and in the account as it was; until it ends by itself."""
    for number in range(100):
        restore()
        try:
            with killed_before(number):
                run(*words)
        except Killed:
            yield number
        else:
            return


def snapshot(s3: Any, catalog: Catalog) -> Callable[[], None]:
    """Returns what brings templates, bundle and product back to what they are now."""
    details = {version: dict(about) for version, about in catalog.details.items()}
    tags = {key: found for key, (_, found) in objects(s3).items() if key.startswith("projects/")}
    there = s3.get_object(Bucket=BUCKET, Key=versions.BUNDLE)
    body = there["Body"].read()

    def restore() -> None:
        catalog.details = {version: dict(about) for version, about in details.items()}
        for key, found in tags.items():
            tag_set = [{"Key": name, "Value": value} for name, value in found.items()]
            s3.put_object_tagging(Bucket=BUCKET, Key=key, Tagging={"TagSet": tag_set})
        s3.put_object(Bucket=BUCKET, Key=versions.BUNDLE, Body=body, Metadata=there["Metadata"])

    return restore


def published() -> State:
    """What people and projects see: every version by both routes, and what is in the bundle."""
    state = versions.read_state(Aws())
    return replace(state, bundle=replace(state.bundle, etag=""))


@pytest.mark.parametrize(
    ("first", "words", "calls"),
    [
        ([], ["withdraw", "0.2.0"], 3),
        (["withdraw", "0.2.0"], ["make-default", "0.2.0"], 5),
        (["withdraw", "0.2.0"], ["deprecate", "0.2.0"], 3),
        (["make-default", "0.2.0"], ["roll-back"], 4),
    ],
    ids=str,
)
def test_a_verb_that_was_killed_after_any_call_is_completed_by_the_same_command(
    two: Any, catalog: Catalog, first: list[str], words: list[str], calls: int
) -> None:
    if first:
        run(*first)
    restore = snapshot(two, catalog)
    run(*words)
    wanted = published()
    killed = []
    for number in killed_after_each_call(*words, restore=restore):
        run(*words)
        assert published() == wanted, number
        killed.append(number)
    assert killed == list(range(calls))


def test_a_withdrawal_that_was_killed_after_any_call_is_listed_and_no_roll_back_undoes_it(
    two: Any, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in killed_after_each_call("withdraw", "0.2.0", restore=snapshot(two, catalog)):
        assert ("withdraw 0.2.0" in listed(capsys, "0.2.0")) == (number > 0)
        if number:
            run(*(["roll-back"] if number == 1 else ["make-default", "0.1.0"]))  # then no other one is offered
            assert states()["0.2.0"] == (WITHDRAWN, WITHDRAWN)
            assert published().bundle.withdrawn == {"0.2.0"} and "bundle" not in listed(capsys, "0.2.0")


def test_a_roll_back_mends_the_bundle_that_a_killed_withdrawal_left_and_killed_itself_goes_back_no_further(
    two: Any, catalog: Catalog, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Once it is complete, the same command goes further back."""
    withdraw_in_service_catalog_only("0.2.0")
    restore = snapshot(two, catalog)
    for _ in killed_after_each_call("roll-back", restore=restore):
        run("roll-back")
        assert states() == {"0.1.0": (OFFERED, OFFERED), "0.2.0": (WITHDRAWN, WITHDRAWN)}
    main, tags = versions_in_the_bundle(two, tmp_path_factory.mktemp("clone"))
    assert (main, tags) == ("0.1.0", {"v0.1.0", "withdrawn-v0.2.0"})


def test_a_teardown_that_was_killed_after_any_call_is_completed_by_the_same_command(
    catalog: Catalog, stacks: Stacks, cloud: None
) -> None:
    def restore() -> None:
        stacks.stack = None
        stacks.change = {"HandlerKey": "handler/0a.zip", "FirstVersion": "0.1.0"}
        if BUCKET not in buckets():
            stacks.execute()
        stacks.stack = stacks.coming[-1]
        client("s3").put_object(Bucket=BUCKET, Key="handler/0a.zip", Body=b"code")

    def buckets() -> list[str]:
        return [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]]

    killed = []
    for number in killed_after_each_call("administration", "teardown", "--templates", restore=restore):
        run("administration", "teardown", "--templates")
        assert acts.find_stack(Aws()) is None and BUCKET not in buckets()
        killed.append(number)
    assert killed == [0, 1, 2], "the stack, the objects, the bucket"


# -- without an account -----------------------------------------------------------------------------------------------


def commands_of(text: str) -> list[list[str]]:
    """The words of each command of the AWS CLI in lines for a shell."""
    found: list[list[str]] = []
    for line in text.splitlines():
        words, runs = shlex.shlex(line, posix=True, punctuation_chars=True), False
        words.whitespace_split = True
        for word in words if line.startswith("aws ") else ():
            if word == "aws":
                found.append([])
                runs = True
            runs = runs and word not in ("&&", "|", ";")
            if runs:
                found[-1].append(word)
    return found


def check_command(words: list[str]) -> None:
    """A printed command names an operation of that service and members of its input. Against botocore's model."""
    _, service, operation, *options = words
    asked = client({"s3api": "s3"}.get(service, service))
    if operation == "wait":
        assert options[0].replace("-", "_") in asked.waiter_names
        return
    if operation == "deploy":
        check_deploy(options)
        return
    model = asked.meta.service_model
    names = {xform_name(name): name for name in model.operation_names}
    shape = model.operation_model(names[operation.replace("-", "_")]).input_shape
    known = {xform_name(member).replace("_", "-") for member in shape.members} | {"query", "output"}
    given = {word[2:].removeprefix("no-") for word in options if word.startswith("--")}
    assert given <= known, given - known


# https://docs.aws.amazon.com/cli/latest/reference/cloudformation/deploy/ -- the AWS CLI's own, of no service's model
DEPLOY_OPTIONS = {"--stack-name", "--template-file", "--capabilities", "--no-fail-on-empty-changeset"}


def check_deploy(options: list[str]) -> None:
    """A printed deployment has the options of the AWS CLI, and values that the stack's parameters take."""
    place = options.index("--parameter-overrides")
    given = dict(word.split("=", 1) for word in options[place + 1 :])
    assert {word for word in options[:place] if word.startswith("--")} == DEPLOY_OPTIONS
    template = Path(options[options.index("--template-file") + 1]).read_text(encoding="utf-8")
    assert given.keys() <= declared(template)
    account.refuse_values(given, "another account")


README = (ROOT / "service_catalog/README.md").read_text(encoding="utf-8")
TYPED = sorted(set(re.findall(r"^ +(python service_catalog/publish\.py .*)$", README, re.MULTILINE)))


def dry(words: list[str]) -> list[str]:
    return words if "--dry-run" in words or words[0] in ("list", "validate") else [*words, "--dry-run"]


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every verb and every option, of the verbs too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, part in action.choices.items():
                yield from (name, *options(part))
        else:
            yield from (word for word in action.option_strings if word not in ("-h", "--help"))


def test_the_readme_names_every_verb_and_every_option() -> None:
    assert {word for word in options(publish.parser()) if not re.search(rf"{word}\b", README)} == set()


ASK_FIRST = ("make-default", "deprecate", "withdraw", "roll-back")  # their plan depends on what is published


@pytest.mark.parametrize("line", TYPED)
def test_every_command_of_the_readme_runs_dry_without_an_account(
    repository: Path, nobody: None, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    words = shlex.split(line, comments=True)[2:]
    code = publish.main(dry(words))
    told = capsys.readouterr()
    if words[0] in ("list", *ASK_FIRST):
        assert code == 1 and "Log in" in told.err
        return
    assert code == 0, told.err
    for command in commands_of(told.out):
        check_command(command)


@pytest.mark.parametrize("verb", ASK_FIRST)
def test_nothing_is_planned_for_a_version_of_which_nobody_knows_whether_it_is_published(
    nobody: None, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert publish.main([verb, *(["1.3.1"] if verb != "roll-back" else []), "--dry-run"]) == 1
    told = capsys.readouterr()
    assert "Log in" in told.err and not told.out


def pasted(lines: str, folder: Path, fails: str = "no such word") -> list[str]:
    """What bash asks of a program `aws`, which fails at calls that hold a word. It finds versions of objects."""
    asked, aws = folder / "asked", folder / "aws"
    asked.write_text("", encoding="utf-8")
    listed = "[ $2 != list-object-versions ] || printf 'a/b\\t1\\na/b\\t2\\nc\\t3\\n'"
    aws.write_text(f'#!/bin/sh\necho "$*" >> {asked}\ncase "$*" in *"{fails}"*) exit 1; esac\n{listed}\n')
    aws.chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    subprocess.run(["bash"], input=f"{lines}\n", text=True, env=environment, check=False)  # as lines are pasted
    return [line.split(" --query")[0] for line in asked.read_text(encoding="utf-8").splitlines()]


def test_a_plan_without_credentials_is_to_be_read_and_does_nothing_when_it_is_pasted(
    repository: Path, nobody: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("administration", "deploy", "--dry-run")
    lines = capsys.readouterr().out
    assert lines.startswith("# To read, not to paste: without credentials") and len(commands_of(lines)) > 3
    assert pasted(lines, tmp_path) == []


def test_a_plan_whose_wheels_are_not_here_is_to_be_read_and_says_how_to_get_them(
    repository: Path, catalog: Catalog, administered: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("publish", "--dry-run")
    lines = capsys.readouterr().out
    assert "the wheels are not downloaded. Type: publish.py package" in lines.splitlines()[0]
    assert pasted(lines, tmp_path) == []


def test_a_pasted_plan_ends_at_the_first_command_that_fails(
    repository: Path, catalog: Catalog, administered: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("package")
    capsys.readouterr()
    run("publish", "--dry-run")
    lines = capsys.readouterr().out
    assert len(pasted(lines, tmp_path)) == len(commands_of(lines))
    done = pasted(lines, tmp_path, fails="wheels/boto3")
    assert "wheels/boto3" in done[-1] and len(done) < len(commands_of(lines))


def test_a_pasted_teardown_ends_at_the_first_command_that_fails(
    catalog: Catalog, three: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "bounded_roles", lambda aws: [])
    run("administration", "teardown", "--templates", "--dry-run")
    lines = capsys.readouterr().out
    for word, asked in (("delete-stack", 1), ("stack-delete-complete", 2), ("list-object", 3), ("--version-id 2", 5)):
        assert len(pasted(lines, tmp_path, fails=word)) == asked, word


def test_a_dry_run_without_a_region_says_so(
    repository: Path, nobody: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "--region" in refused(capsys, "publish", "--dry-run")


PROFILES = """
[profile sso]
sso_start_url = https://acme.awsapps.com/start
sso_region = eu-west-1
sso_account_id = 111122223333
sso_role_name = Admin
[profile half]
aws_access_key_id = a
"""
ROUTED = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("environment", "why", "move"),
    [
        ({"AWS_PROFILE": "typo"}, "The config profile (typo) could not be found", "`aws configure list-profiles`"),
        ({}, "Unable to locate credentials", "`aws sso login`"),
        ({"AWS_PROFILE": "half"}, "missing: aws_secret_access_key", "`aws sso login`"),
        ({"AWS_PROFILE": "sso"}, "Error loading SSO Token", "`aws sso login`"),
        ({"AWS_DEFAULT_REGION": "nowhere"}, "Unknown region: 'nowhere'", "Check the region"),
        ({**ROUTED, "AWS_MAX_ATTEMPTS": "1"}, "Could not connect to the endpoint URL", "Check the region"),
    ],
)
def test_who_cannot_ask_aws_gets_a_sentence_with_the_next_move(
    nobody: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    why: str,
    move: str,
) -> None:
    (tmp_path / "none").write_text(PROFILES, encoding="utf-8")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = refused(capsys, "list")
    assert why in told and move in told


@pytest.mark.parametrize("words", [("publish",), ("administration", "deploy")], ids=" ".join)
def test_who_is_not_logged_in_learns_it_before_minutes_of_work(
    nobody: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    for work in ("validate", "package_of"):
        monkeypatch.setattr(publish, work, lambda *_: pytest.fail("it began"))
    assert "Unable to locate credentials" in refused(capsys, *words)


@pytest.mark.parametrize(
    ("code", "begins"),
    [("ExpiredToken", "AWS does not take your credentials: no"), ("AccessDenied", "AWS refused DescribeStacks: no")],
)
def test_what_aws_refuses_is_told_with_the_next_move(
    catalog: Catalog, stacks: Stacks, capsys: pytest.CaptureFixture[str], code: str, begins: str
) -> None:
    stacks.refuses = (code, "no")
    told = refused(capsys, "list")
    assert told.startswith(begins) and told.endswith("hen type the same again.")


def test_without_boto3_it_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert refused(capsys, "list").startswith("boto3 is not installed. Type:")


def test_a_dry_run_says_what_a_real_run_would_refuse(
    repository: Path, nobody: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "notes.txt").write_text("mine", encoding="utf-8")
    run("publish", "--dry-run")
    assert "A real run stops here: the working tree is not clean" in capsys.readouterr().err


# -- the checks -------------------------------------------------------------------------------------------------------


def test_the_checks_run_in_order_and_the_first_that_fails_ends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "is_installed", lambda check: True)
    ran: list[str] = []

    def fails_at(place: int) -> Callable[..., Any]:
        def one(command: list[str], **_: Any) -> Any:
            ran.append(" ".join(command))
            return SimpleNamespace(returncode=int(len(ran) == place), stdout="line 1: wrong", stderr="")

        return one

    publish.validate(fails_at(0))
    assert len(ran) == 5 and "cfn-lint" in ran[0] and "checkov" in ran[1] and "pytest" in ran[4]
    assert all("administration.yaml" in command for command in ran[:1])
    ran.clear()
    with pytest.raises(UserError, match=r"a project can be generated.*\n.*line 1: wrong"):
        publish.validate(fails_at(3))
    assert len(ran) == 3


def test_a_tool_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    publish.validate(lambda command, **_: subprocess.CompletedProcess(command, 0, "", ""))
    assert "not checked, as checkov is not installed" in capsys.readouterr().err


def test_a_project_is_generated_from_odd_answers(tmp_path: Path) -> None:
    checks = {check.name: check.command for check in publish.checks(tmp_path)}
    subprocess.run(checks["… also from odd answers"], cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "odd/odd/config.yaml").is_file()


# -- the administration -----------------------------------------------------------------------------------------------

DEPLOY = ("administration", "deploy", "--template-repository", "https://github.com/acme/template.git")


def test_the_first_deployment_makes_the_bucket_fills_it_and_then_makes_the_rest(
    repository: Path, nobody: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*DEPLOY, "--studio-role", STUDIO, "--dry-run")
    kinds = [words[1:3] for words in commands_of(capsys.readouterr().out)]
    assert kinds[0] == kinds[-1] == ["cloudformation", "deploy"]
    assert {tuple(kind) for kind in kinds[1:-1]} == {("s3api", "put-object")}


def test_a_deployment_after_which_nobody_sees_the_product_says_so(
    repository: Path, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*DEPLOY)
    assert "No --studio-role: nobody sees the product" in capsys.readouterr().err
    for words in (["--studio-role", STUDIO], []):  # a role that is not given stays
        run(*DEPLOY, *words)
        assert "No --studio-role" not in capsys.readouterr().err


def test_a_deployment_in_an_account_can_be_repeated_and_keeps_what_is_not_given(
    repository: Path, catalog: Catalog, stacks: Stacks, cloud: None
) -> None:
    run(*DEPLOY, "--studio-role", STUDIO)
    first = parameters(stacks.stack)
    assert first["HubAccountId"] == ACCOUNT and first["FirstVersion"] == "0.1.0"
    assert (first["StudioRoleArns"], first["StudioRoleNames"]) == (STUDIO, STUDIO.rpartition("/")[2])
    assert first["HandlerKey"] in objects(client("s3"))
    assert "projects/0.1.0/project.yaml" in objects(client("s3"))
    commit(repository, VERSION="0.2.0")
    run("administration", "deploy", "--cost-center", "4711")
    second = parameters(stacks.stack)
    assert second == {**first, "CostCenter": "4711", "HandlerKey": second["HandlerKey"]}, "FirstVersion stays"
    assert second["HandlerKey"] != first["HandlerKey"], "the function has the form's questions of the newer version"
    assert "projects/0.2.0/project.yaml" not in objects(client("s3")), "which `publish` does"


def test_a_deployment_that_was_killed_after_any_act_is_completed_by_the_same_command(
    repository: Path, catalog: Catalog, stacks: Stacks, cloud: None
) -> None:
    aws = Aws()
    package = build(repository, repository.parent / "out")
    keys = [*package.files, package.handler[0], package.buildspec[0]]
    given = {"TemplateRepositoryUrl": "https://github.com/acme/template.git"}
    whole = len(account.plan_deploy(package, versions.read_state(aws, keys), given, aws))
    for done in range(whole):
        left = account.plan_deploy(package, versions.read_state(aws, keys), given, aws)
        acts.walk(left[:1], aws, lambda _: None)  # and is killed
        if done == 0:
            assert not parameters(stacks.stack)["HandlerKey"]
    run(*DEPLOY)
    assert parameters(stacks.stack)["HandlerKey"] == package.handler[0]
    assert package.files.keys() <= objects(client("s3")).keys()
    [again] = account.plan_deploy(package, versions.read_state(aws, keys), given, aws)
    assert isinstance(again, acts.DeployStack), "and nothing is uploaded again"


def test_a_parameter_that_the_template_lost_is_not_kept(repository: Path, catalog: Catalog, stacks: Stacks) -> None:
    """CloudFormation refuses a value for it, the previous one too."""
    run(*DEPLOY)
    assert stacks.stack
    stacks.stack["Parameters"].append({"ParameterKey": "Abolished", "ParameterValue": "yes"})
    before = parameters(stacks.stack)
    run(*DEPLOY)
    assert parameters(stacks.stack) == {name: value for name, value in before.items() if name != "Abolished"}


def test_a_deployment_that_failed_is_told_and_the_same_command_replaces_what_is_left(
    repository: Path, catalog: Catalog, stacks: Stacks, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stack whose creation was undone can only be deleted."""
    stacks.fails = "too many keys."
    told = refused(capsys, *DEPLOY)
    assert "failed at AnswerKey (AWS::KMS::Key): too many keys. Correct the cause" in told
    assert stacks.stack and stacks.stack["StackStatus"] == "ROLLBACK_COMPLETE"
    stacks.fails = ""
    run(*DEPLOY)
    assert parameters(stacks.stack)["FirstVersion"] == "0.1.0"


def test_a_change_that_cloudformation_refuses_is_told_and_no_change_is_none(
    repository: Path, catalog: Catalog, stacks: Stacks, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*DEPLOY)
    before = stacks.stack
    stacks.no_change = "Template error: no such function."
    assert "refuses administration.yaml: Template error: no such function. Nothing was changed" in refused(
        capsys, *DEPLOY
    )
    stacks.no_change = "The submitted information didn't contain changes."
    run(*DEPLOY)
    assert stacks.stack is before
    stacks.stack = {**(before or {}), "StackStatus": "UPDATE_ROLLBACK_FAILED"}
    assert "is UPDATE_ROLLBACK_FAILED. Wait or repair it" in refused(capsys, *DEPLOY)


def plan(given: dict[str, str], state: State | None = None) -> list[acts.Act]:
    package = versions.Package("0.1.0", "c" * 40, {}, ("handler/0a.zip", Path()), ("handler/0a.yml", Path()))
    aws = SimpleNamespace(account=ACCOUNT, region=REGION, arn=lambda service, resource: f"arn:{service}:{resource}")
    url = {"TemplateRepositoryUrl": "https://github.com/acme/template.git"}
    return account.plan_deploy(package, state or State("", ""), {**url, **given}, aws)  # type: ignore[arg-type]


def test_a_version_that_was_withdrawn_before_the_first_deployment_was_completed_is_not_published_by_it() -> None:
    with pytest.raises(UserError, match=r"0\.1\.0 is withdrawn. Raise VERSION"):
        plan({}, State(BUCKET, "", templates={"0.1.0": WITHDRAWN}))


def test_a_spoke_is_one_stack_and_uploads_nothing() -> None:
    [only] = plan({"HubAccountId": "999988887777", "PortfolioId": "port-1"})
    assert isinstance(only, acts.DeployStack) and only.parameters["HandlerKey"] == "handler/0a.zip"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"PortfolioId": "port-1"}, "--portfolio is for a spoke"),
        ({"HubAccountId": "999988887777"}, "a spoke needs --portfolio"),
        ({"HubAccountId": "999988887777", "PortfolioId": "port-1", "SpokeAccountIds": "1" * 12}, "no spokes"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(given: dict[str, str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        plan(given)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--spoke", "12"), "--spoke: '12' is refused. At most three account numbers of 12 digits"),
        (("--spoke", "2" * 12, "--spoke", "2" * 12), "--spoke 222222222222 is given twice"),
        (("--spoke", acts.NO_ACCOUNT), "is this account, the hub"),
        (("--studio-role", STUDIO, "--studio-role", STUDIO), "is given twice"),
        (("--log-days", "33"), "--log-days: '33' is refused. One of 7, 14, 30"),
        (("--owner", ""), "--owner: '' is refused"),
        (("--template-repository", "git@github.com:acme/template.git"), "--template-repository: 'git@github"),
        (("--portfolio", "prod-1", "--hub", "2" * 12), "--portfolio: 'prod-1' is refused"),
        (("--update-schedule", "rate(7)"), "--update-schedule 'rate(7)': expected rate(7 days)"),
        (("--update-schedule", "rate(0 days)"), "a rate is at least 1"),
        (("--update-schedule", "rate(1 days)"), "a rate of 1 has minute, hour or day"),
        (("--update-schedule", "cron(0 5 * * *)"), "has 5 fields"),
    ],
)
def test_a_value_that_the_stack_or_aws_would_refuse_gets_no_plan(
    repository: Path, nobody: None, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    assert reason in refused(capsys, "administration", "deploy", *words, "--dry-run")


def test_the_first_deployment_checks_the_version_that_it_publishes_and_later_ones_publish_none(
    repository: Path, catalog: Catalog, stacks: Stacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    monkeypatch.setattr(publish, "validate", lambda: checked.append(1))
    run(*DEPLOY)
    run(*DEPLOY, "--cost-center", "4711")
    assert checked == [1]


def test_what_is_no_role_and_a_fourth_role_are_refused() -> None:
    with pytest.raises(UserError, match="no ARN of a role"):
        account.studio_roles(["AmazonSageMaker-ExecutionRole-1"])
    with pytest.raises(UserError, match="the stack takes three"):
        account.studio_roles([f"{STUDIO}{number}" for number in range(4)])


def test_a_domain_shows_one_location_and_another_one_is_not_replaced() -> None:
    aws = SimpleNamespace(arn=lambda service, resource: f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}")
    state = State(BUCKET, "")
    [tag] = account.plan_domain("d-1", {}, state, aws)  # type: ignore[arg-type]
    assert isinstance(tag, Call)
    assert tag.parameters["Tags"] == [{"Key": account.LOCATION, "Value": f"s3://{BUCKET}/projects/"}]
    assert account.plan_domain("d-1", {account.LOCATION: f"s3://{BUCKET}/projects/"}, state, aws) == []  # type: ignore[arg-type]
    with pytest.raises(UserError, match="shows the templates in s3://theirs/ already"):
        account.plan_domain("d-1", {account.LOCATION: "s3://theirs/"}, state, aws)  # type: ignore[arg-type]


def test_teardown_waits_for_the_projects_and_names_them(
    catalog: Catalog,
    stacks: Stacks,
    administered: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roles = [f"rare-players-{REGION}-job", f"rare-players-{REGION}-stack-production", f"fraud-{REGION}-job"]
    monkeypatch.setattr(account, "bounded_roles", lambda aws: roles)
    assert "there are projects still (fraud, rare-players)" in refused(capsys, "administration", "teardown")
    assert stacks.stack and stacks.stack["StackStatus"] == "CREATE_COMPLETE"


def test_teardown_keeps_the_templates_unless_they_are_named(
    catalog: Catalog, three: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "bounded_roles", lambda aws: [])
    before = versions.read_state(Aws())
    kept = account.plan_teardown([], ["d-1"], before, Aws(), with_templates=False)
    assert [type(act) for act in kept] == [Call, acts.DeleteStack]
    assert f"the bucket {BUCKET}" in account.what_stays(before, with_templates=False)[0]
    run("administration", "teardown", "--templates")
    assert "These stay: the repositories" in capsys.readouterr().err
    assert acts.find_stack(Aws()) is None
    assert BUCKET not in [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]]


def test_templates_that_cannot_be_deleted_are_told_and_the_same_command_goes_on(
    catalog: Catalog, three: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack is gone by then."""
    monkeypatch.setattr(account, "bounded_roles", lambda aws: [])
    events, why = three.meta.events, {"Key": "seed/a", "Code": "AccessDenied", "Message": "Access Denied"}
    about = {"Errors": [why], "ResponseMetadata": {"HTTPStatusCode": 200}}
    events.register("before-call.s3.DeleteObjects", lambda **_: (SimpleNamespace(status_code=200), about), "refuses")
    assert "seed/a: Access Denied" in refused(capsys, "administration", "teardown", "--templates")
    events.unregister("before-call.s3.DeleteObjects", unique_id="refuses")
    run("administration", "teardown", "--templates")
    assert BUCKET not in [bucket["Name"] for bucket in three.list_buckets()["Buckets"]]
    run("administration", "teardown", "--templates")


def test_the_printed_teardown_waits_for_the_stack_and_deletes_every_version_of_the_templates(
    nobody: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("administration", "teardown", "--templates", "--dry-run")
    lines, said = capsys.readouterr()
    assert "A real run refuses while a role of a project is left" in said
    [listing] = [words for words in commands_of(lines) if "list-object-versions" in words]
    page = {"Versions": [{"Key": "a/b", "VersionId": "1"}], "DeleteMarkers": [{"Key": "a/b", "VersionId": "2"}]}
    query = listing[listing.index("--query") + 1]
    assert [jmespath.search(query, one) for one in (page, {})] == [[["a/b", "1"], ["a/b", "2"]], []]
    told = pasted(lines.replace("\nexit 1\n", "\n", 1), tmp_path)
    bucket = f"--bucket scarcegan-projects-{acts.NO_ACCOUNT}-{REGION}"
    assert told == [
        f"cloudformation delete-stack --stack-name {acts.STACK}",
        f"cloudformation wait stack-delete-complete --stack-name {acts.STACK}",
        f"s3api list-object-versions {bucket} --output text",
        *(
            f"s3api delete-object {bucket} --key {key} --version-id {id_}"
            for key, id_ in (("a/b", 1), ("a/b", 2), ("c", 3))
        ),
        f"s3api delete-bucket {bucket}",
    ]


def test_the_roles_of_projects_are_found_by_their_boundary(catalog: Catalog) -> None:
    """Against botocore's Stubber."""
    aws = Aws()
    arn = f"arn:aws:iam::{ACCOUNT}:policy/scarcegan-projects-{REGION}-boundary"
    with Stubber(aws.client("iam")) as stub:
        asked = {"PolicyArn": arn, "EntityFilter": "Role", "PolicyUsageFilter": "PermissionsBoundary"}
        roles = [{"RoleName": name} for name in ("rare-job", "fraud-job")]
        stub.add_response("list_entities_for_policy", {"PolicyRoles": roles, "IsTruncated": False}, asked)
        assert account.bounded_roles(aws) == ["fraud-job", "rare-job"]


def test_a_boundary_that_a_teardown_has_deleted_has_no_roles_and_other_refusals_stay() -> None:
    """Against botocore's Stubber: moto answers an empty list."""
    aws = SimpleNamespace(partition="aws", account=ACCOUNT, region=REGION, client=client)
    with Stubber(client("iam")) as stub:
        stub.add_client_error("list_entities_for_policy", "NoSuchEntity", "Policy … was not found.")
        assert account.bounded_roles(aws) == []  # type: ignore[arg-type]
        stub.add_client_error("list_entities_for_policy", "AccessDenied", "no")
        with pytest.raises(ClientError, match="AccessDenied"):
            account.bounded_roles(aws)  # type: ignore[arg-type]


@pytest.mark.parametrize("told", [True, False], ids=["with outputs", "without outputs"])
def test_a_teardown_goes_on_whatever_an_earlier_one_has_deleted(
    catalog: Catalog, stacks: Stacks, administered: Any, capsys: pytest.CaptureFixture[str], told: bool
) -> None:
    """The product, the boundary, and the bucket, which an administrator may empty and delete by hand."""
    assert stacks.stack
    stacks.stack["StackStatus"] = "DELETE_FAILED"
    stacks.stack["Outputs"] = stacks.stack["Outputs"] if told else []
    catalog.is_gone = True
    administered.delete_bucket(Bucket=BUCKET)
    run("administration", "teardown", "--dry-run")
    assert "delete-stack" in capsys.readouterr().out
    run("administration", "teardown")
    assert acts.find_stack(Aws()) is None
    assert "there is no stack scarcegan-administration" in refused(capsys, "administration", "teardown")


@pytest.mark.parametrize("words", [("list",), ("publish",), ("withdraw", "0.1.0"), DEPLOY], ids=" ".join)
def test_an_administration_that_is_half_taken_down_is_told_with_the_command_that_completes_it(
    repository: Path,
    catalog: Catalog,
    stacks: Stacks,
    administered: Any,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    assert stacks.stack
    stacks.stack["StackStatus"] = "DELETE_FAILED"
    catalog.is_gone = True
    assert "is DELETE_FAILED: it is being taken down. Type publish.py administration teardown" in refused(
        capsys, *words
    )


def test_a_version_in_a_state_stays_known_by_either_route_alone() -> None:
    state = State(BUCKET, "prod-1", {"0.1.0": Artifact("pa-1", WITHDRAWN)}, {"0.2.0": OFFERED})
    assert state.versions == ["0.1.0", "0.2.0"] and state.is_withdrawn("0.1.0") and state.is_offered("0.2.0")
