"""Checks of this machine and of the project's folder. AWS is a table of answers, or has no credentials."""

import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from canned_aws import ME, NAMES, connected
from scarcegan import doctor
from scarcegan.aws import client
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WARNING, WOULD_FAIL
from scarcegan.errors import UserError

PINS = "packaging==1.0\nno-such-library==1.0 ; sys_platform != 'nowhere'\nonly-there==1 ; sys_platform == 'nowhere'\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with settings, data and labels; the tests' current folder."""
    (tmp_path / "config.yaml").write_text(f"project: {{name: {NAMES.project}, region: {NAMES.region}}}\n")
    (tmp_path / "data" / "telemetry").mkdir(parents=True)
    (tmp_path / "data" / "labels.csv").write_text("user_id,label\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examined(project, cloud=False, given=None):
    return {finding.check: finding for finding in doctor.examine(project / "config.yaml", cloud, given or {})}


def test_a_python_that_is_too_old_would_fail(monkeypatch):
    (now,) = doctor.python_findings()
    assert now.state == OK
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    (old,) = doctor.python_findings()
    assert (old.state, old.found) == (WOULD_FAIL, "3.10.4, needed 3.11 to 3.13")


def test_libraries_that_are_missing_would_fail_and_others_than_pinned_are_a_warning(project):
    (project / "requirements.txt").write_text(PINS, encoding="utf-8")
    missing = examined(project)["libraries"]
    assert (missing.state, missing.fix) == (WOULD_FAIL, "Type: make setup")
    assert missing.found == "1 of requirements.txt are missing: no-such-library"
    (project / "requirements.txt").write_text("packaging==1.0\n", encoding="utf-8")
    assert examined(project)["libraries"].state == WARNING
    pinned = f"packaging=={doctor.installed_version('packaging')}\n"
    (project / "requirements.txt").write_text(pinned, encoding="utf-8")
    assert examined(project)["libraries"].state == OK


def test_a_config_yaml_that_is_refused_ends_the_checks(project):
    (project / "config.yaml").write_text("serve: {port: many}\n", encoding="utf-8")
    found = examined(project, cloud=True)
    assert found["config.yaml"].state == WOULD_FAIL and "serve.port" in found["config.yaml"].found
    assert found["everything else"].state == COULD_NOT_LOOK and "data" not in found


@pytest.mark.parametrize(("free", "state"), [(0.5, WOULD_FAIL), (3, WARNING), (50, OK)])
def test_a_disk_that_is_nearly_full_would_fail(project, monkeypatch, free, state):
    usage = SimpleNamespace(free=int(free * doctor.GIGABYTE))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert examined(project)["disk"].state == state


def test_little_memory_is_a_warning(project, monkeypatch):
    monkeypatch.setattr(doctor, "memory_bytes", lambda: doctor.GIGABYTE)
    assert examined(project)["memory"].state == WARNING


def test_a_port_that_somebody_else_has_is_a_warning_with_the_way_round(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (project / "config.yaml").write_text(f"serve: {{port: {port}}}\n", encoding="utf-8")
        finding = examined(project)[f"port {port}"]
    assert finding.state == WARNING and "scarcegan serve --port 0" in finding.fix


def test_data_that_is_missing_would_fail_and_data_in_s3_is_not_looked_at(project):
    assert examined(project)["data"].state == OK
    (project / "data" / "labels.csv").unlink()
    assert examined(project)["data"].state == WOULD_FAIL
    assert examined(project, cloud=True)["data"].state == WARNING, "AWS reads its own"
    (project / "config.yaml").write_text("data: {path: 's3://bucket/telemetry'}\n", encoding="utf-8")
    assert examined(project)["data"].state == COULD_NOT_LOOK


def test_a_project_that_is_in_no_repository_is_a_warning(project, monkeypatch):
    assert examined(project)["git"].state == WARNING
    monkeypatch.setattr(doctor.toolchain, "folder_in_repository", lambda root: "models/rare/")
    assert examined(project)["git"].found == "the project is models/rare/ of its repository"
    monkeypatch.setenv("PATH", "")
    assert examined(project)["git"].found == "is not installed"


def test_the_doctor_needs_no_library_that_may_be_missing():
    """Typer and pydantic run the command line itself."""
    heavy = ("tensorflow", "duckdb", "numpy", "pyarrow", "mlflow", "sklearn", "boto3")
    code = f"import sys, scarcegan.doctor; print([name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_cloud_aws_is_not_asked(project, monkeypatch):
    monkeypatch.setattr(client, "connect_to_aws", lambda config: pytest.fail("AWS was asked"))
    assert "credentials" not in examined(project)


def test_without_credentials_only_that_is_said_about_aws(project, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ACCOUNT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = examined(project, cloud=True)
    assert found["credentials"].state == WOULD_FAIL and "no AWS credentials" in found["credentials"].found
    assert list(found)[-1] == "AWS"


def test_without_credentials_parameters_are_checked_all_the_same(project, monkeypatch):
    import stacks as templates

    for folder in ("infra", "src"):
        (project / folder).symlink_to(templates.INFRA.parent / folder)

    def nobody(config):
        raise UserError("no AWS credentials")

    monkeypatch.setattr(client, "connect_to_aws", nobody)
    for arn, state in (("arn:…:…", WOULD_FAIL), (NAMES.arn("codeconnections", "connection/0a-1b"), OK)):
        given = {"Repository": "us/rare", "ConnectionArn": arn}
        found = {one.check: one for one in doctor.examine(project / "config.yaml", True, given)}
        assert found["plan of the toolchain"].state == state
        assert list(found)[-2:] == ["plan of the toolchain", "AWS"]


def test_with_credentials_the_account_is_checked_and_nothing_is_said_about_a_vpc(project, monkeypatch):
    import stacks as templates

    for folder in ("infra", "src"):
        (project / folder).symlink_to(templates.INFRA.parent / folder)
    aws, _ = connected({"sts:GetCallerIdentity": {"Account": NAMES.account, "Arn": ME}})
    monkeypatch.setattr(client, "connect_to_aws", lambda config: aws)
    found = examined(project, cloud=True)
    assert found["credentials"].state == OK and found["quotas"].state == COULD_NOT_LOOK
    assert not [check for check in found if "VPC" in check]
