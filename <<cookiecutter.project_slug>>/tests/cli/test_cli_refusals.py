"""Every verb of the cloud, typed by somebody whom AWS does not let in, ends with one sentence and the next move."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines_in_moto import NAMES, make_plan
from scarcegan.sagemaker import upsert

ROOT = Path(__file__).resolve().parents[2]
VERBS = [
    "upsert",
    "start",
    "status",
    "logs",
    "stop",
    "audit",
    "teardown --cloud --dry-run",
    "toolchain deploy",
    "toolchain deploy-target production --profile nobody",
    "pipeline copy faster",
    "pipeline copies",
    "pipeline remove faster",
    "pipeline versions",
    "pipeline restore 3",
    "release status",
    "release --rollback 3",
    "release prepare",
    "release smoke production",
    "release load staging",
    "release promote 3",
    "models --cloud",
    "approve 3 --cloud",
]
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "none", "AWS_SESSION_TOKEN": "old"}
SSO = """
[profile studio]
sso_session = acme
sso_account_id = 123456789012
sso_role_name = Team
[sso-session acme]
sso_start_url = https://acme.awsapps.com/start
sso_region = eu-west-1
"""
FILES = {  # what ~/.aws/config holds, and what is said of it
    "an SSO session that has ended": (SSO, "the AWS session has expired"),
    "a program that gives no credentials": ("[profile studio]\ncredential_process = false\n", "no AWS credentials"),
    "half of a key": ("[profile studio]\naws_access_key_id = AKIA\n", "no AWS credentials"),
    "a file that is none": ("no section\n", "Correct ~/.aws/config"),
    "a source that does not exist": (
        "[profile studio]\nrole_arn = arn:aws:iam::123456789012:role/Team\nsource_profile = gone\n",
        "Correct ~/.aws/config",
    ),
    "a session of `aws login`, without the library that it needs or its token": (
        "[profile studio]\nlogin_session = arn:aws:iam::123456789012:user/ada\n",
        "AWS_PROFILE",
    ),
    "a role without a source": (
        "[profile studio]\nrole_arn = arn:aws:iam::123456789012:role/Team\n",
        "no AWS credentials",
    ),
}
WITHOUT_LIBRARIES = """
import contextlib, io, json, sys
sys.modules["boto3"] = sys.modules["botocore"] = sys.modules["sagemaker"] = None
from scarcegan.cli import main as cli
said = {}
for verb in json.loads(sys.argv[1]):
    sys.argv = ["scarcegan", *verb.split()]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        except BaseException as error:
            code = repr(error)
    said[verb] = (code, err.getvalue(), out.getvalue())
print(json.dumps(said))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder, and the present one; no credentials anywhere."""
    for name in ("src", "infra", "requirements-jobs.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    settings = f"project: {{name: {NAMES.project}, region: {NAMES.region}}}\n"
    (tmp_path / "config.yaml").write_text(settings, encoding="utf-8")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(upsert, "plan_upsert", make_plan)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Expired(BaseHTTPRequestHandler):
    """AWS's answer to a token that has expired."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        error = "<Code>ExpiredToken</Code><Message>The security token included in the request is expired</Message>"
        text = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>".encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Nothing: the tests' output stays theirs."""


@pytest.fixture(scope="module")
def expired():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Expired)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def is_one_sentence(code, out, err):
    return code == 2 and not out and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("verb", VERBS)
def test_without_credentials_it_is_said_how_to_log_in(scarcegan, verb):
    code, out, err = scarcegan(*verb.split())
    assert is_one_sentence(code, out, err)
    assert "aws sso login" in err or "The config profile (nobody) could not be found" in err


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_profile_is_named(scarcegan, monkeypatch, verb):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    code, out, err = scarcegan(*verb.split())
    assert is_one_sentence(code, out, err)
    assert "(nobody) could not be found. Set AWS_PROFILE to a profile of ~/.aws/config, or unset it." in err


@pytest.mark.parametrize("verb", VERBS)
def test_a_token_that_has_expired_is_said_with_how_to_get_another(scarcegan, monkeypatch, expired, verb):
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": expired}.items():
        monkeypatch.setenv(name, value)
    code, out, err = scarcegan(*verb.split())
    assert is_one_sentence(code, out, err)
    assert "AWS does not accept the credentials (ExpiredToken" in err and "aws sso login" in err


@pytest.mark.parametrize("verb", VERBS)
def test_without_a_region_the_key_of_config_yaml_is_named(scarcegan, project, verb):
    (project / "config.yaml").write_text(f"project: {{name: {NAMES.project}, region: ''}}\n", encoding="utf-8")
    code, out, err = scarcegan(*verb.split())
    assert is_one_sentence(code, out, err)
    assert "config.yaml: project.region is empty. Name the region the project lives in, e.g. eu-west-1." in err


@pytest.mark.parametrize("kind", FILES)
def test_a_profile_that_gives_no_credentials_is_a_sentence(scarcegan, project, monkeypatch, kind):
    text, words = FILES[kind]
    (project / "aws").write_text(text, encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(project / "aws"))
    monkeypatch.setenv("AWS_PROFILE", "studio")
    code, out, err = scarcegan("status")
    assert is_one_sentence(code, out, err), err
    assert words in err


def test_without_the_libraries_for_aws_the_command_that_installs_them_is_named(project):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", WITHOUT_LIBRARIES, json.dumps(VERBS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb, (code, err, out) in json.loads(done.stdout).items():
        assert is_one_sentence(code, out, err), (verb, code, err)
        assert "is not installed" in err and "Type: make cloud" in err, verb


def test_the_doctor_finds_that_nobody_is_logged_in_and_goes_on(scarcegan):
    code, out, err = scarcegan("doctor", "--cloud")
    assert (code, err) == (2, "")
    assert "credentials: no AWS credentials" in out and "aws sso login" in out
