"""The verb `toolchain` as it is typed: what it prints, where, and how it ends. The walk in AWS is stubbed."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from pipelines_in_moto import NAMES, sign_in
from scarcegan.aws import toolchain
from scarcegan.sagemaker import bundle
from stacks import INFRA

OFFLINE = """
import socket, sys
def refuse(*args, **kwargs): raise SystemExit("a dry run asked the network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from scarcegan.cli import main as cli
try: cli.main()
finally: assert "boto3" not in sys.modules
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with settings and templates; no credentials."""
    (tmp_path / "config.yaml").write_text(f"project: {{name: {NAMES.project}, region: {NAMES.region}}}\n")
    shutil.copytree(INFRA, tmp_path / "infra")
    (tmp_path / "src").symlink_to(INFRA.parent / "src")
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "SAGEMAKER_PROJECT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


DONE = {
    "stacks": {"rare-players-storage": "created"},
    "outputs": {"BucketName": NAMES.bucket, "KeyArn": NAMES.arn("kms", "key/1")},
}


@pytest.fixture
def asked(monkeypatch):
    """The plans that were deployed, with the walk stubbed."""
    sign_in(monkeypatch)
    plans = []

    def deploy(plan, root, connection, say):
        plans.append(plan)
        say("rare-players-storage: created")
        return DONE

    monkeypatch.setattr(toolchain, "deploy_toolchain", deploy)
    return plans


def test_a_dry_run_prints_commands_and_needs_no_account_no_network_and_no_sdk(project):
    words = [sys.executable, "-c", OFFLINE, "toolchain", "deploy", "--repository", "rare", "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("aws cloudformation deploy --region eu-west-1 --stack-name rare-players-storage \\\n")
    assert done.stdout.count("aws cloudformation deploy") == len(toolchain.STACKS)
    zips = sorted(path.name.rpartition("-")[0] for path in (project / "build/functions").iterdir())
    assert zips == sorted(bundle.lambda_names(project))
    sizes = {name: (project / f"infra/{name}.yaml").stat().st_size for name in toolchain.STACKS}
    too_large = [name for name, size in sizes.items() if size > toolchain.LARGEST_REQUEST]
    assert done.stdout.count("aws s3api put-object") == len(zips) + len(too_large)


def test_a_dry_run_says_what_a_first_deployment_still_needs(scarcegan):
    code, out, err = scarcegan("toolchain", "deploy", "--dry-run")
    assert code == 0 and "Repository=" not in out
    assert err == "Repository is not given. A first deployment needs --repository; a later one keeps its value.\n"


def test_a_dry_run_says_that_a_repository_of_an_owner_needs_a_connection(scarcegan):
    code, _, err = scarcegan("toolchain", "deploy", "--repository", "acme/rare", "--dry-run")
    assert code == 0 and err.startswith("For a first deployment, the repository acme/rare needs a connection")


def test_the_projects_folder_in_its_repository_is_found_and_given(scarcegan, project, monkeypatch):
    folder = project / "models/rare"
    folder.mkdir(parents=True)
    shutil.move(project / "config.yaml", folder)
    shutil.move(project / "infra", folder)
    shutil.move(project / "src", folder)
    monkeypatch.chdir(folder)

    def given(*words):
        stack = json.loads(scarcegan("toolchain", "deploy", *words, "--dry-run", "--json")[1])["stacks"][-1]
        return stack["parameters"].get("ProjectFolder")

    assert given() is None, "no repository"
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    assert given() is None, "not tracked"
    subprocess.run(["git", "add", "."], check=True)
    assert given() == "models/rare/"
    assert given("--set", "ProjectFolder=ml/") == "ml/"
    monkeypatch.setenv("PATH", "")
    assert given() is None, "no git"


def test_a_dry_run_for_machines_holds_the_stacks_and_the_commands(scarcegan):
    code, out, _ = scarcegan("toolchain", "deploy", "--set", "VpcId=vpc-1", "--dry-run", "--json")
    found = json.loads(out)
    assert code == 0 and found["commands"].count("aws cloudformation deploy") == len(toolchain.STACKS)
    assert [stack["parameters"].get("VpcId") for stack in found["stacks"]] == [None, None, None, "vpc-1", None, "vpc-1"]


def test_a_deployment_shows_progress_outputs_and_the_next_move_with_the_walk_stubbed(scarcegan, asked):
    email, connection = "you@example.com", NAMES.arn("codeconnections", "connection/0a1b")
    options = ("--repository", "acme/rare", "--connection-arn", connection, "--notification-email", email)
    code, out, err = scarcegan("toolchain", "deploy", *options, "--set", "LogDays=30")
    assert (code, err) == (0, "rare-players-storage: created\n")
    assert out.splitlines() == [
        f"BucketName  {NAMES.bucket}",
        f"KeyArn      {NAMES.arn('kms', 'key/1')}",
        "Next: git push, which starts the build pipeline",
    ]
    given = asked[0].stacks[-1].parameters
    assert (given["Repository"], given["ConnectionArn"]) == ("acme/rare", connection)
    assert (given["NotificationEmail"], given["LogDays"]) == (email, "30")
    assert json.loads(scarcegan("toolchain", "deploy", "--json")[1]) == DONE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "VpcId"], "--set VpcId: write NAME=VALUE"),
        (["--set", "VpcID=vpc-1"], "Did you mean 'VpcId'?"),
        (["--repository", "a b"], "--repository: 'a b' is refused"),
    ],
)
def test_a_mistake_in_a_value_is_one_sentence(scarcegan, words, said):
    code, out, err = scarcegan("toolchain", "deploy", *words, "--dry-run")
    assert (code, out, err.count("\n")) == (2, "", 1) and said in err


def test_without_credentials_a_deployment_says_how_to_log_in(scarcegan):
    code, out, err = scarcegan("toolchain", "deploy", "--repository", "acme/rare")
    assert (code, out) == (2, "") and err.startswith("error: no AWS credentials") and "aws sso login" in err


def test_without_a_region_a_dry_run_names_the_setting(scarcegan, project):
    (project / "config.yaml").write_text("project: {region: ''}\n", encoding="utf-8")
    code, _, err = scarcegan("toolchain", "deploy", "--dry-run")
    assert code == 2 and "project.region is empty" in err


# -- a stage's own account --------------------------------------------------------------------------------------------


def test_a_dry_run_for_a_stages_account_prints_commands_that_bash_reads(scarcegan):
    code, out, _ = scarcegan("toolchain", "deploy-target", "production", "--profile", "acme", "--dry-run")
    assert code == 0 and "--profile acme" in out and "infra/target.yaml" in out and "Stage=production" in out
    assert subprocess.run(["bash", "-n"], input=out, text=True, capture_output=True).stderr == ""


def test_a_stages_account_needs_a_profile_and_a_stage_that_there_is(scarcegan):
    assert scarcegan("toolchain", "deploy-target", "production")[0] == 2
    code, _, err = scarcegan("toolchain", "deploy-target", "test", "--profile", "acme", "--dry-run")
    assert code == 2 and "no stage 'test'. There are: staging, production." in err
