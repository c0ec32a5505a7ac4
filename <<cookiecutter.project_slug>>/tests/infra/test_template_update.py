"""The scheduled update from the template: the buildspec's phases run by bash against local repositories.

git is the real one. pip and the AWS CLI are recorded by stand-ins, and a stand-in for cruft changes the files: cruft is
not among a project's libraries. AWS is never asked.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildspec import Build, run

INFRA = Path(__file__).resolve().parents[2] / "infra"
BUILDSPEC = INFRA / "update.buildspec.yml"
OLD, NEW = "a" * 40, "3f2c1a9b" + "0" * 32
BRANCH = "template-update/rare-1.5.0-3f2c1a9b"
TEMPLATE = "https://example.com/acme/template.git"
TOPIC = "arn:aws:sns:eu-west-1:111122223333:rare-notifications"
PYTHON = r"""#!/usr/bin/env bash
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin" && ln -sf "$0" "$3/bin/python"; exit; fi
if [ "$1 $2" = "-m pip" ]; then exit 0; fi
exec "$REAL" "$@"
"""
AWS = r"""#!/usr/bin/env bash
{ printf '%s\037' "$@"; printf '\036'; } >> "$CALLS"
if [ "$1" = "$AWS_REFUSES" ]; then echo "AccessDenied: $1" >&2; exit 255; fi
if [ "$1 $2" = "s3 cp" ]; then echo bundle > "$5"; fi
if [ "$1" = codecommit ]; then echo '{"pullRequest": {"pullRequestId": "7"}}'; fi
"""
CRUFT = """
import os, subprocess, sys
words = " ".join(sys.argv[1:])
configured = subprocess.run(["git", "config", "--get-regexp", "insteadof"], capture_output=True, text=True).stdout
with open(os.environ["CALLS"] + ".cruft", "a") as file:
    file.write(f"{os.getcwd()}|{words}|{configured.strip()}\\n")
raise SystemExit(subprocess.run(["bash", "-ec", os.environ["CRUFT_DOES"]]).returncode)
"""
RENDERS_NOTHING = """
import os

def create(output_dir, **_):
    os.mkdir(f"{output_dir}/rare")
"""


def record(commit: str, version: str, **more: str | None) -> str:
    answers = {"cookiecutter": {"_version": version}}
    return json.dumps({"template": TEMPLATE, "commit": commit, "context": answers, **more})


UPDATES = f"echo new > added.txt; echo '{record(NEW, '1.5.0')}' > .cruft.json"
CONFLICTS = f"""{UPDATES}
git checkout -q -b theirs && echo theirs > README.md && git commit -qam theirs --no-verify
git checkout -q --detach HEAD~1 && echo ours > README.md && git commit -qam ours --no-verify
git merge -q theirs || true"""
REJECTS = f"{UPDATES}; echo '+theirs' > Makefile.rej"


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Machine:
    """A CodeBuild machine: `source` is a clone of the bare repository `remote`, whose branch main holds a project."""

    remote: Path
    source: Path
    tools: Path

    def build(self, does: str, folder: str = "", **variables: str) -> Build:
        """Run the buildspec; `does`: what cruft does, in bash."""
        number = len(list(self.tools.glob("steps-*")))
        values = {
            "SAGEMAKER_PROJECT_NAME": "rare",
            "REPOSITORY": "acme/rare",
            "BRANCH": "main",
            "TOPIC_ARN": TOPIC,
            "TEMPLATE_REPOSITORY": "",
            "PULL_REQUEST": "no",
            "PROJECT_FOLDER": folder,
            "VENV": str(self.tools / f"venv-{number}"),
            "REAL": sys.executable,
            "PYTHONPATH": str(self.tools),
            "CALLS": str(self.tools / "calls"),
            "AWS_REFUSES": "",
            "CRUFT_DOES": does,
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.com",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.com",
            **variables,
        }
        return run(BUILDSPEC, self.source, self.tools / f"steps-{number}", values, path=str(self.tools))

    @property
    def calls(self) -> list[list[str]]:
        """Words of each call of the AWS CLI."""
        path = self.tools / "calls"
        return [call.split("\x1f")[:-1] for call in path.read_text().split("\x1e")[:-1]] if path.exists() else []

    @property
    def told(self) -> list[tuple[str, str]]:
        """(subject, message) of each message to the topic."""
        sent = [words for words in self.calls if words[:2] == ["sns", "publish"]]
        assert all(words[2:4] == ["--topic-arn", TOPIC] for words in sent)
        return [(words[5], words[7]) for words in sent]

    @property
    def cruft(self) -> list[list[str]]:
        """Folder, arguments and rewritten addresses of each call of cruft."""
        return [line.split("|") for line in (self.tools / "calls.cruft").read_text().splitlines()]

    @property
    def branches(self) -> dict[str, str]:
        """Branch of the remote repository -> commit."""
        lines = git(self.remote, "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)").splitlines()
        return dict(line.split() for line in lines)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return machine_with(tmp_path)


def machine_with(tmp_path: Path, folder: str = "", cruft: str | None = None) -> Machine:
    remote, source, tools = tmp_path / "acme/rare.git", tmp_path / "source", tmp_path / "tools"
    for name, text in (("python", PYTHON), ("aws", AWS)):
        tools.mkdir(exist_ok=True)
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tools / "cruft").mkdir()
    (tools / "cruft/__init__.py").write_text(RENDERS_NOTHING)  # or an installed cruft comes first
    (tools / "cruft/__main__.py").write_text(CRUFT)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", remote], check=True)
    subprocess.run(["git", "clone", "-q", remote, source], check=True, capture_output=True)
    project = source / folder
    (project / "infra").mkdir(parents=True)
    (project / "infra/template_update.py").write_text((INFRA / "template_update.py").read_text())
    (project / "README.md").write_text("base\n")
    if cruft != "":
        (project / ".cruft.json").write_text(cruft or record(OLD, "1.4.0"))
    commit(source, "born")
    git(source, "push", "-q", "origin", "HEAD:main")
    git(source, "checkout", "-q", "--detach")  # as CodeBuild does
    return Machine(remote, source, tools)


def commit(folder: Path, subject: str) -> None:
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", subject)


def test_a_new_version_comes_as_a_branch_of_one_commit_and_the_topic_is_told(machine: Machine) -> None:
    before = machine.branches
    build = machine.build(UPDATES)
    assert build.succeeded, build.log
    assert set(machine.branches) == {"main", BRANCH} and machine.branches["main"] == before["main"]
    assert git(machine.remote, "rev-parse", f"{BRANCH}~1") == before["main"]
    assert git(machine.remote, "show", f"{BRANCH}:added.txt") == "new"
    assert git(machine.remote, "log", "-1", "--format=%s", BRANCH) == "template: 1.4.0-aaaaaaaa -> 1.5.0-3f2c1a9b"
    [(subject, message)] = machine.told
    assert subject == "rare: update from the template"
    assert BRANCH in message and "2 files changed" in message and "acme/rare" in message


def test_the_checkout_of_the_build_stays_as_it_is(machine: Machine) -> None:
    head = git(machine.source, "rev-parse", "HEAD")
    machine.build(UPDATES)
    assert git(machine.source, "rev-parse", "HEAD") == head
    assert git(machine.source, "status", "--porcelain") == ""
    assert len(git(machine.source, "worktree", "list").splitlines()) == 1


def test_without_a_new_version_nothing_is_pushed_and_nobody_is_told(machine: Machine) -> None:
    build = machine.build("true")
    assert build.succeeded, build.log
    assert "nothing to do: the project has the template's newest version, 1.4.0-aaaaaaaa" in build.log
    assert set(machine.branches) == {"main"} and machine.calls == []


@pytest.mark.parametrize(("does", "file"), [(CONFLICTS, "README.md"), (REJECTS, "Makefile.rej")], ids=["lines", "rej"])
def test_changes_that_do_not_fit_fail_the_build_push_nothing_and_are_named(
    machine: Machine, does: str, file: str
) -> None:
    build = machine.build(does)
    assert not build.succeeded
    assert set(machine.branches) == {"main"}
    [(subject, message)] = machine.told
    assert subject == "rare: the update from the template failed"
    assert f"\n  {file}\n" in message and f"git switch -c {BRANCH} main" in message


def test_a_rej_file_that_git_ignores_is_found_and_one_of_the_projects_own_is_not(machine: Machine) -> None:
    git(machine.source, "switch", "-q", "main")
    (machine.source / ".gitignore").write_text("*.rej\n")
    (machine.source / "ours.rej").write_text("data\n")
    git(machine.source, "add", "-f", "ours.rej")
    commit(machine.source, "a file of ours")
    assert machine.build(UPDATES).succeeded
    git(machine.remote, "branch", "-D", BRANCH)
    build = machine.build(REJECTS)
    assert not build.succeeded and "Makefile.rej" in build.log and "ours.rej" not in build.log


@pytest.mark.parametrize("does", [UPDATES, CONFLICTS, REJECTS], ids=["fits", "conflict", "rej"])
def test_a_branch_of_the_same_version_is_left_alone_and_told_again(machine: Machine, does: str) -> None:
    """Told again: the first run may have been killed between push and message."""
    git(machine.source, "push", "-q", "origin", f"HEAD:refs/heads/{BRANCH}")
    before = machine.branches
    build = machine.build(does)
    assert build.succeeded, build.log
    assert machine.branches == before
    [(_, message)] = machine.told
    assert "was left as it is" in message


def test_a_branch_of_an_earlier_version_stays_beside_the_new_one(machine: Machine) -> None:
    earlier = "template-update/rare-1.4.5-bbbbbbbb"
    git(machine.source, "push", "-q", "origin", f"HEAD:refs/heads/{earlier}")
    assert machine.build(UPDATES).succeeded
    assert set(machine.branches) == {"main", BRANCH, earlier}


def test_a_push_never_replaces_a_branch_that_came_meanwhile(machine: Machine) -> None:
    """Between the question whether it is there and the push, somebody makes that branch."""
    theirs = git(
        machine.remote, "-c", "user.name=t", "-c", "user.email=t@x", "commit-tree", "-m", "theirs", "main^{tree}"
    )
    hook = machine.source / ".git/hooks/post-commit"
    hook.write_text(f"#!/bin/sh\nunset GIT_DIR; git --git-dir={machine.remote} branch {BRANCH} {theirs}\n")
    hook.chmod(0o755)
    assert not machine.build(UPDATES).succeeded
    assert machine.branches[BRANCH] == theirs
    assert "failed" in machine.told[0][0]


@pytest.mark.parametrize("when", ["while cruft works", "after the push"])
def test_a_run_that_was_killed_can_be_repeated(machine: Machine, when: str) -> None:
    if when == "while cruft works":
        assert not machine.build("kill -9 $PPID; sleep 1").succeeded
    else:
        (machine.tools / "aws").write_text('#!/usr/bin/env bash\nkill -9 "$PPID"; sleep 1\n')
        assert not machine.build(UPDATES).succeeded
        (machine.tools / "aws").write_text(AWS)
    build = machine.build(UPDATES)
    assert build.succeeded, build.log
    assert set(machine.branches) == {"main", BRANCH}
    assert BRANCH in machine.told[-1][1]


def test_a_cruft_that_fails_fails_the_build_and_the_topic_is_told_why(machine: Machine) -> None:
    build = machine.build("echo 'fatal: repository not found' >&2; exit 1")
    assert not build.succeeded
    assert "cruft update" in machine.told[0][1] and "repository not found" in machine.told[0][1]


def test_a_branch_of_which_nobody_could_be_told_fails_the_build(machine: Machine) -> None:
    build = machine.build(UPDATES, AWS_REFUSES="sns")
    assert not build.succeeded and BRANCH in machine.branches
    assert [subject for subject, _ in machine.told] == ["rare: update from the template"], "it has not failed"


def test_without_the_aws_cli_the_build_fails_with_a_sentence(tmp_path: Path) -> None:
    words = ["--project", "rare", "--repository", "rare", "--branch", "main", "--topic", TOPIC]
    env = {**os.environ, "PATH": str(tmp_path)}
    script = INFRA / "template_update.py"
    done = subprocess.run([sys.executable, str(script), *words], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "nobody could be told: `aws …` cannot be started" in done.stderr


def test_in_codecommit_a_pull_request_is_opened(machine: Machine) -> None:
    assert machine.build(UPDATES, REPOSITORY="rare", PULL_REQUEST="yes").succeeded
    words = next(words for words in machine.calls if words[:2] == ["codecommit", "create-pull-request"])
    [target] = json.loads(words[words.index("--targets") + 1])
    assert target == {"repositoryName": "rare", "sourceReference": BRANCH, "destinationReference": "main"}
    assert "pull request 7" in machine.told[0][1]


def test_a_project_in_a_folder_is_updated_there(tmp_path: Path) -> None:
    machine = machine_with(tmp_path, "models/rare")
    build = machine.build(UPDATES, folder="models/rare/")
    assert build.succeeded, build.log
    assert machine.cruft[0][0].endswith("/tree/models/rare")
    assert git(machine.remote, "show", f"{BRANCH}:models/rare/added.txt") == "new"


def test_a_pinned_branch_of_the_template_is_followed(tmp_path: Path) -> None:
    machine = machine_with(tmp_path, cruft=record(OLD, "1.4.0", checkout="stable"))
    machine.build("true")
    assert machine.cruft[0][1] == "update --skip-apply-ask --checkout stable"


def test_a_private_template_is_read_the_way_the_project_is(machine: Machine) -> None:
    assert machine.build(UPDATES, TEMPLATE_REPOSITORY="platform/template").succeeded
    theirs = machine.remote.parents[1] / "platform/template.git"
    assert machine.cruft[0][2].lower() == f"url.{theirs}.insteadof {TEMPLATE}".lower()


def test_a_template_in_a_bucket_is_downloaded_first(tmp_path: Path) -> None:
    place = "s3://templates/scarcegan/template.bundle"
    machine = machine_with(tmp_path, cruft=json.dumps({**json.loads(record(OLD, "1.4.0")), "template": place}))
    assert machine.build("true").succeeded
    assert machine.calls[0][:4] == ["s3", "cp", "--only-show-errors", place]
    assert machine.cruft[0][2].endswith(f"template.bundle.insteadof {place}")


@pytest.mark.parametrize(
    ("cruft", "why"),
    [
        ("", "there is no .cruft.json"),
        ("[]", ".cruft.json names no template"),
        ("{", ".cruft.json names no template"),
        (json.dumps({"template": "/home/me/template", "commit": OLD}), "which is on one machine only"),
        (json.dumps({"template": "../template", "commit": OLD}), "which is on one machine only"),
    ],
)
def test_a_record_that_names_no_template_is_told_with_the_way(tmp_path: Path, cruft: str, why: str) -> None:
    machine = machine_with(tmp_path, cruft=cruft)
    build = machine.build(UPDATES)
    assert not build.succeeded and "Traceback" not in build.log
    assert why in machine.told[0][1]


@pytest.mark.parametrize("value", ["$(touch pwned)", "'; touch pwned; '", '"; touch pwned; "', "a b"])
def test_no_value_becomes_a_command(machine: Machine, value: str) -> None:
    machine.build(UPDATES, SAGEMAKER_PROJECT_NAME=value, REPOSITORY=value, BRANCH=value, TEMPLATE_REPOSITORY="")
    assert not [path for path in machine.source.rglob("pwned*") if ".git" not in path.parts]
    assert not (Path(os.getcwd()) / "pwned").exists()
