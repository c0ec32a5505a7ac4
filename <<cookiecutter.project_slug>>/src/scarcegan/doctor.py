"""Checks before anything is created: this machine, the project's folder and, if asked, the AWS account.

What is checked in AWS stands in aws/account_checks.py, aws/quotas.py and aws/vpc.py.
"""

import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from scarcegan.aws import client, toolchain
from scarcegan.aws.account_checks import check_account, check_credentials
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WARNING, WOULD_FAIL, Finding, from_sentence, look
from scarcegan.errors import UserError
from scarcegan.local.plan import BYTES_PER_WORKER, memory_bytes
from scarcegan.sagemaker import bundle
from scarcegan.workspace import Workspace

PYTHONS = ((3, 11), (3, 13))  # the oldest and the newest, as requires-python in pyproject.toml
GIGABYTE = 1 << 30
DISK_TO_RUN, DISK_TO_INSTALL = 1 * GIGABYTE, 5 * GIGABYTE  # the libraries take 2.3 GB, AWS's 1 GB more
UI_PORT = 5000  # of `scarcegan ui`, by default
SHOWN = 5  # names in one finding


def examine(file: Path, cloud: bool, given: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what all checks find, in the order in which they are made.

    - file: the path of config.yaml.
    - cloud: whether the AWS account is checked too.
    - given: template parameter -> value, as `scarcegan toolchain deploy` would be given it.
    """
    yield from python_findings()
    yield from library_findings(file.parent, cloud)
    try:
        project = Workspace.open(file)
    except UserError as error:
        yield from_sentence("config.yaml", WOULD_FAIL, str(error))
        yield Finding("everything else", COULD_NOT_LOOK, "it depends on config.yaml", "Correct that first.")
        return
    yield Finding("config.yaml", OK, f"{project.file} is valid")
    yield from machine_findings(project)
    yield from port_findings(project)
    yield git_finding(project.root)
    yield data_finding(project, cloud)
    if cloud:
        yield from cloud_findings(project, given)


def python_findings() -> Iterator[Finding]:
    """Yield a finding about the version of Python."""
    oldest, newest = (".".join(map(str, one)) for one in PYTHONS)
    here = ".".join(map(str, sys.version_info[:3]))
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        yield Finding("Python", OK, here)
    else:
        fix = "uv python install 3.12 brings one; then make setup PYTHON=python3.12"
        yield Finding("Python", WOULD_FAIL, f"{here}, needed {oldest} to {newest}", fix)


def library_findings(root: Path, cloud: bool) -> Iterator[Finding]:
    """Yield a finding about the libraries: which of requirements.txt are missing or have another version.

    - root: the project's folder.
    - cloud: whether AWS's libraries are needed.
    """
    file, command = ("requirements-cloud.txt", "make cloud") if cloud else ("requirements.txt", "make setup")
    try:
        lines = (root / file).read_text(encoding="utf-8").splitlines()
    except OSError:
        yield Finding("libraries", COULD_NOT_LOOK, f"there is no {file}", "Restore it.")
        return
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        yield Finding("libraries", WOULD_FAIL, "packaging is missing", f"Type: {command}")
        return
    wanted = [Requirement(line) for line in lines if line[:1].isalnum()]
    pins = {one.name: str(one.specifier) for one in wanted if one.marker is None or one.marker.evaluate()}
    installed = {name: installed_version(name) for name in pins}
    missing = [name for name, found in installed.items() if not found]
    other = [f"{name} {found}" for name, found in installed.items() if found and f"=={found}" != pins[name]]
    if missing:
        fact = f"{len(missing)} of {file} are missing: {some(missing)}"
        yield Finding("libraries", WOULD_FAIL, fact, f"Type: {command}")
    elif other:
        fact = f"{len(other)} have another version than {file} pins: {some(other)}"
        yield Finding("libraries", WARNING, fact, f"Type: {command}")
    else:
        yield Finding("libraries", OK, f"all {len(pins)} of {file} are there")


def installed_version(library: str) -> str:
    """Return the version of an installed library; "" when it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def some(names: list[str]) -> str:
    """Return names as text; of more than SHOWN the first ones, followed by "…"."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def machine_findings(project: Workspace) -> Iterator[Finding]:
    """Yield findings about the free disk below the project's folder, and the machine's memory."""
    free = shutil.disk_usage(project.root).free
    fact = f"{free / GIGABYTE:.1f} GB are free"
    fix = "Free some space: scarcegan runs --clean-but 5 deletes older runs."
    if free < DISK_TO_RUN:
        yield Finding("disk", WOULD_FAIL, fact, fix)
    elif free < DISK_TO_INSTALL:
        yield Finding("disk", WARNING, f"{fact}; setting everything up takes up to {DISK_TO_INSTALL // GIGABYTE}", fix)
    else:
        yield Finding("disk", OK, fact)
    memory = memory_bytes()
    fact = f"{memory / GIGABYTE:.1f} GB"
    if memory < BYTES_PER_WORKER:
        fix = "Lower features.batch_users in config.yaml, and close other programs while a run trains."
        yield Finding("memory", WARNING, f"{fact}; a step may take {BYTES_PER_WORKER // GIGABYTE} GB", fix)
    else:
        yield Finding("memory", OK, fact)


def port_findings(project: Workspace) -> Iterator[Finding]:
    """Yield a finding for each TCP port that a verb listens on: whether somebody else has it."""
    ports = {
        project.config.serve.port: "scarcegan serve --port 0 takes a free one, serve.port in config.yaml another.",
        UI_PORT: "scarcegan ui --port 0 takes a free one.",
    }
    for port, fix in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, for ports just closed
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                yield Finding(f"port {port}", WARNING, f"cannot be listened on ({error.strerror})", fix)
            else:
                yield Finding(f"port {port}", OK, "is free")


def git_finding(root: Path) -> Finding:
    """Return the finding about git: AWS builds from a repository, this machine needs none.

    - root: the project's folder.
    """
    if not shutil.which("git"):
        return Finding(
            "git", WARNING, "is not installed", "Install it before you deploy to AWS; here nothing needs it."
        )
    folder = toolchain.folder_in_repository(root)
    if folder is None:
        fix = "Before you deploy to AWS: git init -b main && git add -A && git commit (README, 'In AWS')."
        return Finding("git", WARNING, "the project is not committed to a repository", fix)
    return Finding("git", OK, f"the project is {folder or 'the top'} of its repository")


def data_finding(project: Workspace, cloud: bool) -> Finding:
    """Return the finding about the data that config.yaml names: whether it is there. What is in it is not looked at.

    - cloud: whether AWS is looked at too. It reads its data from S3, so that data may be missing here.
    """
    data = project.config.data
    if data.path.startswith("s3://") or data.labels.startswith("s3://"):
        return Finding("data", COULD_NOT_LOOK, "it is in S3, which the execution reads", "To train here, copy it.")
    try:
        found = project.data_sources()
    except UserError as error:
        return from_sentence("data", WARNING if cloud else WOULD_FAIL, str(error))
    return Finding("data", OK, f"{', '.join(map(project.show, found.values()))}; scarcegan data check reads it")


def cloud_findings(project: Workspace, given: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what the checks of the AWS account find; without credentials only that, and whether parameters are refused.

    - given: template parameter -> value, as `scarcegan toolchain deploy` would be given it.

    Raises UserError when a file of the functions' code is missing.
    """
    config = project.config
    try:
        with client.errors_as_sentences(config):
            aws = client.connect_to_aws(config)
            yield from check_credentials(aws)
    except UserError as error:
        yield from_sentence("credentials", WOULD_FAIL, str(error))
        yield from look("plan of the toolchain", lambda: offline_findings(project, given))
        yield Finding("AWS", COULD_NOT_LOOK, "it cannot be asked without credentials", "Correct these first.")
        return
    yield from check_account(aws, config, project.root, given, bundle.function_code(project.root))


def offline_findings(project: Workspace, given: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding about the toolchain's parameters, without asking AWS. The arguments are those of
    `cloud_findings`.

    Raises UserError when a parameter is refused, and when a template is missing.
    """
    values = {name: value for name, value in given.items() if value}
    toolchain.plan_toolchain(project.root, project.config, values, toolchain.FunctionCode({}, {}))
    yield Finding("plan of the toolchain", OK, "no parameter is refused")
