"""CodeBuild's part for the seed: its buildspec run by bash, without network, against a local bare repository.

unshare takes the network away where the kernel allows it; elsewhere Python's sockets refuse. The bucket is a folder.
pip is recorded and installs nothing: the libraries are those of the environment that the tests run in. Where a test is
not about the buildspec, only its one command of interest runs, seed.py of the published zip, in the test's own process.
"""

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from aws_answers import Aws, Server
from botocore import httpsession
from buildspec import Build, run
from conftest import DECOY, ROOT
from package import template_zip
from versions import BUNDLE, bundle, references

from bake import PARTS, copy_template

BUILDSPEC = ROOT / "service_catalog/seed/buildspec.yml"
TEMPLATE_URL = "s3://templates/template.bundle"
ROLE = "arn:aws:iam::123456789012:role/scarcegan-projects-deployment"
CONNECTION = "arn:aws:codestar-connections:eu-west-1:123456789012:connection/0a1b2c3d"
# As AWS's own project templates write it; the host is named after the service in the connection's ARN.
REPOSITORY_URL = (
    "https://codestar-connections.eu-west-1.amazonaws.com/git-http/123456789012/eu-west-1/0a1b2c3d/acme/fraud-rings.git"
)
STAND_IN = Path(__file__).with_name("aws_stand_in")
aws_line = SourceFileLoader("aws_line", str(STAND_IN / "aws_line.py")).load_module()
NO_NETWORK = (
    "unshare -rn" if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0 else "exec"
)
TOOLS = {
    "bash": f'#!/bin/sh\nexec {NO_NETWORK.removeprefix("exec")} /bin/bash "$@"\n',
    "aws": r"""#!/bin/sh
[ "$1 $2" = "s3 cp" ] || { echo "aws $*: not here" >&2; exit 1; }
while [ $# -gt 2 ]; do shift; done
mkdir -p "$(dirname "$2")" && cp -r "$BUCKET/${1#s3://templates/}" "$2"
""",
    "python": rf"""#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && ln -s "$0" "$3/bin/python" ;;
"-m pip") echo "$*" >> "$PIP_CALLS" ;;
*) exec "{sys.executable}" -B "$@" ;;
esac
""",
}


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Machine:
    """Template, bucket, tools and AWS for builds of the seed."""

    def __init__(self, folder: Path, hook_marker: str) -> None:
        self.folder = folder
        self.template = copy_template(folder / "template", (*PARTS, DECOY, ".gitattributes", "service_catalog"))
        hook = self.template / "hooks/post_gen_project.py"
        assert hook_marker in hook.read_text(encoding="utf-8"), "a clone has the marker, git archive fills it in"
        git(self.template, "init", "-q", "-b", "main")
        self.bucket = folder / "bucket"
        self.publish()
        self.tools = folder / "tools"
        self.tools.mkdir()
        for name, text in TOOLS.items():
            (self.tools / name).write_text(text, encoding="utf-8")
            (self.tools / name).chmod(0o755)
        self.server = Server(folder / "aws", Aws())
        self.session = boto3.Session("ASIABUILD", "s", region_name="eu-west-1")  # it keeps what it has read
        self.builds = 0

    @property
    def aws(self) -> Aws:
        return self.server.aws

    def publish(self, version: str = "") -> str:
        """Commit the template as it stands, and put it into the bucket. Returns its version."""
        if version:
            old = (self.template / "VERSION").read_text(encoding="utf-8").strip()
            for name in ("VERSION", "cookiecutter.json"):
                path = self.template / name
                path.write_text(path.read_text(encoding="utf-8").replace(old, version), encoding="utf-8")
        version = (self.template / "VERSION").read_text(encoding="utf-8").strip()
        git(self.template, "add", "-A")
        git(self.template, "commit", "-q", "-m", version)
        git(self.template, "tag", f"v{version}")
        place = self.bucket / "seed" / version
        (place / "wheels").mkdir(parents=True)
        (place / "template.zip").write_bytes(template_zip(self.template, f"v{version}"))
        tags = git(self.template, "tag", "--list").splitlines()
        commits = {tag[1:]: git(self.template, "rev-parse", tag) for tag in tags}
        bundle(self.template, references(commits, {}), self.bucket / BUNDLE)
        return version

    @property
    def versions(self) -> int:
        """How many versions of the template are in the bucket."""
        return len(list((self.bucket / "seed").iterdir()))

    def repository(self, name: str) -> Path:
        """An empty bare repository of a test's own."""
        folder = self.folder / "repositories" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            git(folder, "init", "-q", "--bare", "-b", "main")
        return folder

    def build(self, repository: Path, variables: Mapping[str, str]) -> Build:
        """Run the buildspec as CodeBuild would. variables: those of the request."""
        scratch = self.scratch()
        (scratch / "source").mkdir()
        own = {**self.environment(repository), "SEED": str(scratch / "seed"), "VENV": str(scratch / "venv")}
        return run(BUILDSPEC, scratch / "source", scratch / "steps", {**own, **variables}, path=str(self.tools))

    def run_seed(self, repository: Path, variables: Mapping[str, str]) -> Build:
        """Run what the buildspec runs, without a shell. variables: those of the request."""
        result, said = self.scratch() / "result.json", io.StringIO()
        program = seed_of(self.bucket / "seed" / variables["TEMPLATE_VERSION"] / "template.zip")
        with ExitStack() as stack:
            for change in (
                patch.dict(os.environ, {**self.environment(repository), **variables}),
                patch.object(httpsession.URLLib3Session, "send", aws_line.send),
                patch.object(boto3, "DEFAULT_SESSION", self.session),
                patch("time.sleep"),
                redirect_stdout(said),
                redirect_stderr(said),
            ):
                stack.enter_context(change)  # type: ignore[arg-type]
            code = program.main([str(result)])
        return Build(code == 0, said.getvalue(), {"RESULT": result.read_text(encoding="utf-8")}, {})

    def scratch(self) -> Path:
        """A new folder."""
        self.builds += 1
        folder = self.folder / f"build-{self.builds}"
        folder.mkdir()
        return folder

    def environment(self, repository: Path) -> dict[str, str]:
        """What the build project declares, and this machine's ways to AWS and to the repository."""
        return {
            "TEMPLATES_BUCKET": "templates",
            "TEMPLATE_REPOSITORY_URL": TEMPLATE_URL,
            "DEPLOYMENT_ROLE_ARN": ROLE,
            "TOOLCHAIN_PARAMETERS": '{"PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/boundary"}',
            "GIT_CONFIG_COUNT": "1",  # git's own way to say that an address is here
            "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf",
            "GIT_CONFIG_VALUE_0": REPOSITORY_URL,
            "BUCKET": str(self.bucket),
            "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}",
            "PIP_CALLS": str(self.folder / "pip-calls"),
            "AWS_ANSWERS": str(self.folder / "aws"),
            "PYTHONPATH": str(STAND_IN),
            "AWS_ACCESS_KEY_ID": "ASIABUILD",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }


@cache
def seed_of(archive: Path) -> Any:
    """The module seed.py of a published zip, unpacked beside it."""
    folder = archive.parent / "unpacked"
    zipfile.ZipFile(archive).extractall(folder)
    name = f"seed_{archive.parent.name.replace('.', '_')}"
    return SourceFileLoader(name, str(folder / "template/service_catalog/seed/seed.py")).load_module()


def checked_out(repository: Path, branch: str, to: Path) -> Path:
    """A branch of a repository as files."""
    git(to.parent, "clone", "-q", "-b", branch, str(repository), str(to))
    return to


def files(folder: Path) -> dict[str, bytes]:
    """Path -> content of every file, without git's own."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("seed"), 'ARCHIVED = "$Format:%H$"')


__all__ = ["TEMPLATE_URL", "Build", "Machine", "checked_out", "files", "git", "machine"]
