"""Every phase of every buildspec is run by bash, in a copy of the project; see buildspec.py for CodeBuild's part.

Tools that install or test (pip, make) are recorded by a stand-in on PATH. `python -m scarcegan` is recorded too,
except where a test's name says that the real one ran.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from buildspec import PHASES, Build, load, run
from stacks import Toolchain

ROOT = Path(__file__).resolve().parents[2]
BUILDSPECS = sorted((ROOT / "infra").glob("*.buildspec.yml"))
PROJECT, REGION = "rare-players", "eu-west-1"
GIVEN = {"SageMakerProjectName": PROJECT, "Repository": "rare-players", "ModelPackageGroupName": "rare-group"}
TOOLCHAIN = Toolchain({**GIVEN, "UpdateSchedule": "rate(7 days)"})
VALUES = {"VERSION": "7", "STAGE": "staging", "SAGEMAKER_PROJECT_NAME": PROJECT, "SAGEMAKER_PROJECT_ID": "p-1"}
HOSTILE = [
    "7; touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    '"; touch pwned; "',
    "'; touch pwned; '",
    "7\ntouch pwned",
    "7 && touch pwned #",
    "* ? [a]",
]
CALLS = {
    "build": ["upsert --upload-only"],
    "upsert": ["upsert --pipeline training", "start --if-data"],
    "prepare": ["release prepare --version 7"],
    "smoke": ["release smoke staging --version 7"],
    "load": ["release load staging"],
    "scoring": ["upsert --pipeline scoring"],
    "promote": ["release promote 7"],
    "update": [],  # test_template_update.py runs what it calls
}
# Records its name and arguments; makes what later commands need; fails when it is called as $FAIL says.
STAND_IN = r"""#!/usr/bin/env bash
{ printf '%s\037' "${0##*/}" "$@"; printf '\036'; } >> "$CALLS"
pwd >> "$CALLS.folders"
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin" && ln -s "$0" "$3/bin/python"; fi
if [ "$1 $2" = "-m scarcegan" ]; then
  [ -z "$REAL" ] || exec "$REAL" "$@"
  mkdir -p build/variables
  for name in pipeline training scoring staging production; do echo '{}' > "build/$name.json"; done
  for name in VERSION DEFINITION SUMMARY DIGEST LOAD; do printf '%s' "$SAYS" > "build/variables/$name"; done
fi
[ -z "$FAIL" ] || [ "$FAIL" != "${0##*/} $1" ]
"""


@dataclass(frozen=True)
class Machine:
    """A CodeBuild machine's source folder and the tools on its PATH."""

    source: Path
    tools: Path

    @property
    def folders(self) -> set[Path]:
        """The folders in which tools were called."""
        return {Path(line) for line in (self.tools / "calls.folders").read_text().splitlines()}

    def build(self, buildspec: Path, **variables: str) -> Build:
        shared = {"CALLS": str(self.tools / "calls"), "SAYS": "said", "REAL": "", "FAIL": ""}
        own = {"VENV": str(self.tools / buildspec.name)}
        scratch = self.tools / f"{buildspec.name}-steps"
        return run(buildspec, self.source, scratch, {**VALUES, **shared, **own, **variables}, path=str(self.tools))

    @property
    def calls(self) -> list[list[str]]:
        """Each call as its words: tool, arguments."""
        path = self.tools / "calls"
        text = path.read_bytes().decode() if path.exists() else ""
        return [call.split("\x1f")[:-1] for call in text.split("\x1e")[:-1]]

    @property
    def verbs(self) -> list[list[str]]:
        """Arguments of each `python -m scarcegan`."""
        return [call[3:] for call in self.calls if call[1:3] == ["-m", "scarcegan"]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    source, tools = tmp_path / "source with space", tmp_path / "tools"
    source.mkdir()
    tools.mkdir()
    for name in ("make", "python"):
        (tools / name).write_text(STAND_IN)
        (tools / name).chmod(0o755)
    return Machine(source, tools)


def actions() -> Iterator[tuple[str, dict]]:
    """(name of its buildspec, action) of every CodeBuild action of both CodePipelines."""
    projects = TOOLCHAIN.of_type("AWS::CodeBuild::Project").values()
    usual = {project["Name"]: project["Source"]["BuildSpec"] for project in projects}
    for pipeline in TOOLCHAIN.of_type("AWS::CodePipeline::Pipeline").values():
        for action in (action for stage in pipeline["Stages"] for action in stage["Actions"]):
            if action["ActionTypeId"]["Provider"] == "CodeBuild":
                asked = action["Configuration"]
                yield Path(asked.get("BuildspecOverride", usual[asked["ProjectName"]])).name, action


def given(action: Mapping) -> dict[str, str]:
    """Environment variables an action sets."""
    return {
        item["name"]: item["value"] for item in json.loads(action["Configuration"].get("EnvironmentVariables", "[]"))
    }


@pytest.mark.parametrize("buildspec", BUILDSPECS, ids=lambda path: path.name)
def test_every_phase_runs_with_tools_recorded_by_stand_ins(buildspec: Path, machine: Machine) -> None:
    build = machine.build(buildspec)
    assert build.succeeded, build.log
    phases = yaml.safe_load(buildspec.read_text())["phases"]
    for phase, about in phases.items():
        assert build.log.count(f"[{phase}.commands] ") == len(about["commands"]), build.log
    assert [" ".join(verb) for verb in machine.verbs] == CALLS[buildspec.name.split(".")[0]]


@pytest.mark.parametrize("buildspec", BUILDSPECS, ids=lambda path: path.name)
def test_a_build_of_a_project_in_a_folder_works_there_with_tools_recorded_by_stand_ins(
    buildspec: Path, machine: Machine
) -> None:
    folder = machine.source / "models/rare"
    folder.mkdir(parents=True)
    usual, there = machine.build(buildspec), machine.folders
    assert there == {machine.source}
    (machine.tools / "calls.folders").unlink()
    shutil.rmtree(machine.source / "build", ignore_errors=True)
    shutil.rmtree(machine.tools / f"{buildspec.name}-steps")
    build = machine.build(buildspec, PROJECT_FOLDER="models/rare/", VENV=str(machine.tools / "other"))
    assert build.succeeded, build.log
    assert machine.folders == {folder}
    assert set(build.artifacts) == set(usual.artifacts)


def test_codepipeline_finds_buildspecs_and_templates_of_a_project_in_a_folder() -> None:
    for folder in ("", "models/rare/"):
        stack = Toolchain({**GIVEN, "ProjectFolder": folder})
        text = json.dumps(stack.resources, default=str)
        named = set(re.findall(r'[":]([^":]*)infra/[\w.-]+\.ya?ml"', text))
        assert named == {folder}
        for project in stack.of_type("AWS::CodeBuild::Project").values():
            assert {"Name": "PROJECT_FOLDER", "Value": folder} in project["Environment"]["EnvironmentVariables"]


@pytest.mark.parametrize("buildspec", BUILDSPECS, ids=lambda path: path.name)
def test_the_first_failure_fails_the_build_with_tools_recorded_by_stand_ins(buildspec: Path, machine: Machine) -> None:
    build = machine.build(buildspec, FAIL="python -m")
    assert not build.succeeded
    assert not build.artifacts


def test_code_whose_tests_fail_is_not_published_with_tools_recorded_by_stand_ins(machine: Machine) -> None:
    build = machine.build(ROOT / "infra/build.buildspec.yml", FAIL="make check")
    assert not build.succeeded
    assert machine.verbs == []
    assert ["make", "check"] in [call[:2] for call in machine.calls]


def test_no_buildspec_waits_for_a_pipeline() -> None:
    text = "".join(path.read_text() for path in BUILDSPECS)
    assert not re.search(r"--watch|sleep|\baws\b.* wait|scarcegan status", text)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("buildspec", BUILDSPECS, ids=lambda path: path.name)
def test_hostile_values_stay_one_word_with_tools_recorded_by_stand_ins(
    buildspec: Path, value: str, machine: Machine
) -> None:
    names = ("VERSION", "STAGE", "SAGEMAKER_PROJECT_NAME", "SAGEMAKER_PROJECT_ID", "CODEBUILD_RESOLVED_SOURCE_VERSION")
    build = machine.build(buildspec, **dict.fromkeys(names, value), SAYS=value)
    assert build.succeeded, build.log
    assert not list(machine.source.rglob("pwned*")), build.log
    usual = [word for call in CALLS[buildspec.name.split(".")[0]] for word in call.split(" ")]
    got = [word for verb in machine.verbs for word in verb]
    assert got == [value if word in ("7", "staging") else word for word in usual]
    digest = build.exported.get("PREPARED", "0" * 64)  # of a file, whatever stands in it
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert all(text == value for name, text in build.exported.items() if name != "PREPARED")


def test_every_buildspec_is_an_action_of_a_codepipeline_and_the_other_way_round() -> None:
    assert {name for name, _ in actions()} == {path.name for path in BUILDSPECS}


def test_a_buildspec_reads_no_variable_that_nobody_sets() -> None:
    ours = {"VENV", "CODEBUILD_SRC_DIR"}
    projects = {
        about["Name"]: {variable["Name"] for variable in about["Environment"]["EnvironmentVariables"]}
        for about in TOOLCHAIN.of_type("AWS::CodeBuild::Project").values()
    }
    for name, action in actions():
        spec = load(ROOT / "infra" / name)
        commands = [command for phase in spec["phases"].values() for command in phase["commands"]]
        read = {found for command in commands for found in re.findall(r"\$\{?([A-Z_]+)", command)}
        project = projects[action["Configuration"]["ProjectName"]]
        assigned = set(re.findall(r"\b([A-Z_]+)=", "\n".join(commands)))
        unset = read - ours - project - assigned - set(given(action)) - set(spec["env"].get("variables", {}))
        assert not unset, f"{name}: {unset}"


def test_what_the_templates_are_configured_by_is_what_the_buildspecs_hand_over() -> None:
    handed = {
        action["OutputArtifacts"][0]["Name"]: load(ROOT / "infra" / name)["artifacts"]["files"]
        for name, action in actions()
        if "OutputArtifacts" in action
    }
    handed["Checked"] = handed["DeployOut"]  # check_approval.py hands over the file that it has checked
    wanted = re.findall(r"TemplateConfiguration: (\w+)::(\S+)", (ROOT / "infra/toolchain.yaml").read_text())
    assert len(wanted) == 3
    for artifact, file in wanted:
        assert any(Path(file).match(pattern) for pattern in handed[artifact]), file


def test_what_the_approval_shows_and_production_is_given_is_what_prepare_exports() -> None:
    used = set(re.findall(r"#\{Prepare\.(\w+)\}", (ROOT / "infra/toolchain.yaml").read_text()))
    exported = load(ROOT / "infra/prepare.buildspec.yml")["env"]["exported-variables"]
    assert used == {"VERSION", "SUMMARY", "DIGEST", "PREPARED"} <= set(exported)


def test_what_the_approval_shows_of_the_load_test_is_what_that_exports() -> None:
    used = set(re.findall(r"#\{Load\.(\w+)\}", (ROOT / "infra/toolchain.yaml").read_text()))
    assert used == set(load(ROOT / "infra/load.buildspec.yml")["env"]["exported-variables"]) == {"LOAD"}
    before = [action for name, action in actions() if name == "load.buildspec.yml"]
    assert [(action["Namespace"], action["Name"]) for action in before] == [("Load", "Load")]


@pytest.mark.parametrize("buildspec", BUILDSPECS, ids=lambda path: path.name)
def test_what_a_build_downloads_is_known_by_its_hash(buildspec: Path) -> None:
    """Builds act as roles: whoever tampers with a package index must not."""
    for command in (c for phase in load(buildspec)["phases"].values() for c in phase["commands"]):
        assert not re.search(r"\b(curl|wget|npm|npx|uv|uvx|dnf|yum|apt-get)\b", command), command
        words = command.strip("'").partition("pip install ")[2].split()
        if words:
            of_a_list = re.fullmatch(r"--quiet --require-hashes -r (infra/requirements-\w+\.txt)", " ".join(words))
            assert of_a_list or words == ["--quiet", "--no-deps", "--no-build-isolation", "-e", "."], command
            assert not of_a_list or (ROOT / of_a_list[1]).is_file()
    assert load(buildspec)["phases"]["install"]["runtime-versions"] == {"python": "3.12"}


@pytest.mark.parametrize("name", ["build", "release", "lint", "update"])
def test_every_library_of_a_build_has_a_hash_and_the_version_of_the_whole_list(name: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / f"infra/requirements-{name}.txt").read_text().strip())
    hashed = r"([\w.-]+==[^\\]+?) \\\n( +--hash=sha256:[0-9a-f]{64}( \\\n)?)+\n?"
    found = [re.fullmatch(hashed, entry) for entry in entries]
    assert all(found), [entry for entry, match in zip(entries, found, strict=True) if not match]
    pinned = (ROOT / "requirements-cloud.txt").read_text().splitlines()
    listed = [match[1] for match in found if match]
    if name == "build":
        assert listed == pinned
    if name == "release":
        assert set(listed) <= {line.partition(" ;")[0] for line in pinned}


def test_the_list_of_releases_holds_what_pyproject_names_for_them() -> None:
    groups = tomllib.loads(re.sub(r"<< .*? >>", "x", (ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    listed = set(re.findall(r"(?m)^([\w.-]+)==", (ROOT / "infra/requirements-release.txt").read_text()))
    assert set(groups["dependency-groups"]["release"]) <= listed


def test_the_runner_stops_where_codebuild_stops(machine: Machine) -> None:
    """install and pre_build end the build; after a failed build phase post_build still runs; finally always does."""
    for failing, seen in (("install", "i"), ("pre_build", "ip"), ("build", "ipbo"), ("post_build", "ipbo")):
        letters = dict(zip(PHASES, "ipbo", strict=True))
        phases = {
            phase: {"commands": [f"printf {letters[phase]} >> seen", "false" if phase == failing else "true"]}
            for phase in PHASES
        }
        path = machine.tools / f"{failing}.yml"
        phases["build"]["finally"] = ["printf f >> seen"]
        path.write_text(yaml.safe_dump({"version": 0.2, "env": {"shell": "bash"}, "phases": phases}))
        (machine.source / "seen").write_text("")
        assert not run(path, machine.source, machine.tools / failing, {}).succeeded
        assert (machine.source / "seen").read_text() == seen.replace("b", "bf")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """moto's server in this process, and the environment that leads to it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    found = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ACCOUNT_ID": "123456789012",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    yield found
    server.stop()


@pytest.mark.slow
def test_a_push_publishes_and_starts_and_a_release_writes_scoring_with_the_real_scarcegan_against_moto(
    machine: Machine, aws: dict[str, str]
) -> None:
    import boto3

    copy_project(machine.source)
    bucket = f"{PROJECT}-{aws['AWS_ACCOUNT_ID']}-{REGION}"
    s3, sagemaker = boto3.client("s3", REGION), boto3.client("sagemaker", REGION)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    key = f"arn:aws:kms:{REGION}:{aws['AWS_ACCOUNT_ID']}:key/1234abcd"
    boto3.client("ssm", REGION).put_parameter(Name=f"/{PROJECT}/key", Value=key, Type="String")
    real = {**aws, "REAL": sys.executable, "PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1"}

    pretend_wheels_are_there(s3, bucket, machine.source)
    build = machine.build(ROOT / "infra/build.buildspec.yml", **real)
    assert build.succeeded, build.log
    assert set(build.artifacts) == {f"build/{name}.json" for name in ("pipeline", "training", "scoring")}
    told = json.loads(build.artifacts["build/pipeline.json"].read_text())
    keys = {item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert told["Parameters"] == {}
    assert {key.partition("/")[0] for key in keys} == {"code", "wheels", "champion", "data", "empty"}
    assert told["Tags"] == {"sagemaker:project-name": PROJECT, "sagemaker:project-id": "p-1", "team": "data-science"}
    assert sagemaker.list_pipelines()["PipelineSummaries"] == [], "only the last action writes pipelines"

    build = machine.build(ROOT / "infra/upsert.buildspec.yml", **real)
    assert build.succeeded, build.log
    written = [found["PipelineName"] for found in sagemaker.list_pipelines()["PipelineSummaries"]]
    assert written == [f"{PROJECT}-training"], "the scoring pipeline is a release's"
    assert "Nothing was started" in build.log, "a first push, before any data, is no failure"
    assert executions(sagemaker) == 0
    s3.put_object(Bucket=bucket, Key="data/telemetry/part-0.parquet", Body=b"telemetry")
    start = [sys.executable, "-m", "scarcegan", "start", "--if-data"]
    subprocess.run(start, cwd=machine.source, env={**os.environ, **real, **VALUES}, check=True)
    assert executions(sagemaker) == 1

    build = machine.build(ROOT / "infra/scoring.buildspec.yml", **real)
    assert build.succeeded, build.log
    written = sagemaker.describe_pipeline(PipelineName=f"{PROJECT}-scoring")
    assert written["RoleArn"].endswith(f":role/{PROJECT}-{REGION}-scoring-pipeline")


def test_a_repository_of_another_project_is_refused_with_the_real_scarcegan(
    machine: Machine, aws: dict[str, str]
) -> None:
    copy_project(machine.source)
    real = {**aws, "REAL": sys.executable, "PYTHONPATH": "src", "SAGEMAKER_PROJECT_NAME": "another"}
    build = machine.build(ROOT / "infra/prepare.buildspec.yml", **real)
    assert not build.succeeded
    assert "project.name is 'rare-players', but this toolchain belongs to project 'another'" in build.log


def copy_project(source: Path) -> None:
    """What a push brings, as far as upsert looks; config.yaml with a name and a region."""
    for name in ("src", "infra"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("requirements*.txt"):
        shutil.copy(path, source)
    settings = {"project": {"name": PROJECT, "region": REGION}}
    (source / "config.yaml").write_text(yaml.safe_dump(settings))


def pretend_wheels_are_there(s3, bucket: str, source: Path) -> None:
    """Downloading them needs a package index; here are empty files of their names, and the mark behind the last one."""
    from scarcegan.sagemaker import bundle

    prefix, wanted = bundle.code_bundle(source).wheels_prefix, bundle.lacking_wheels(source / bundle.REQUIREMENTS, [])
    wheels = [f"{pin.replace('-', '_').replace('==', '-')}-py3-none-any.whl" for pin in wanted]
    for name in (*wheels, bundle.COMPLETE):
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"")


def executions(sagemaker) -> int:
    found = sagemaker.list_pipeline_executions(PipelineName=f"{PROJECT}-training")
    return len(found["PipelineExecutionSummaries"])


def test_the_environment_of_a_test_reaches_no_buildspec(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    path = machine.tools / "env.yml"
    phases = {"build": {"commands": ['test -z "$AWS_PROFILE"']}}
    path.write_text(yaml.safe_dump({"version": 0.2, "env": {"shell": "bash"}, "phases": phases}))
    assert run(path, machine.source, machine.tools / "env", {}).succeeded
    assert os.environ["AWS_PROFILE"] == "mine"
