"""The scheduled build takes a new version of the template into a branch, with the real cruft and local repositories.

So does `make update` in a working copy.
The project's own buildspec is run by bash, as the project's tests run it. A stand-in for pip and the AWS CLI records
what would be installed and told; no AWS is asked.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PROJECT, ROOT
from cruft import create
from test_update import commit, git
from versions import bundle, references

sys.path.append(str(ROOT / PROJECT / "tests/helpers"))
from buildspec import Build, run

PYTHON = f"""#!/usr/bin/env bash
if [ "$1 $2" = "-m venv" ]; then mkdir -p "${{@: -1}}/bin" && ln -sf "$0" "${{@: -1}}/bin/python"; exit; fi
if [ "$1 $2" = "-m pip" ]; then exit 0; fi
exec "{sys.executable}" "$@"
"""
AWS = """#!/usr/bin/env bash
if [ "$1" = sns ]; then echo "$8" >> "$TOLD"; fi
if [ "$1" = s3 ]; then cp "$BUNDLE" "$5"; fi
"""


@dataclass(frozen=True)
class Team:
    """A team's project, born from a template: `project` is a working copy, `remote` its bare repository."""

    folder: Path
    template: Path
    project: Path
    remote: Path

    def push(self, subject: str) -> None:
        commit(self.project, subject)
        git(self.project, "push", "-q", "origin", "HEAD:main")

    def publish(self, subject: str) -> str:
        """Commit the template's changes; returns the commit."""
        commit(self.template, subject)
        return said(self.template, "rev-parse", "HEAD")

    def build(self, **more: str) -> Build:
        """A build in a fresh clone, as CodeBuild's."""
        number = len(list(self.folder.glob("build-*")))
        scratch = self.folder / f"build-{number}"
        scratch.mkdir()
        git(scratch, "clone", "-q", str(self.remote), "source")
        git(scratch / "source", "checkout", "-q", "--detach", "origin/main")
        tools = self.folder / "tools"
        values = {"SAGEMAKER_PROJECT_NAME": "fraud-rings", "REPOSITORY": "acme/fraud-rings", "BRANCH": "main"}
        values |= {"TOPIC_ARN": "arn:aws:sns:eu-west-1:111122223333:t", "TEMPLATE_REPOSITORY": "", "PULL_REQUEST": "no"}
        values |= {"PROJECT_FOLDER": "", "VENV": str(scratch / "venv"), "TOLD": str(self.folder / "told"), **more}
        buildspec = ROOT / PROJECT / "infra/update.buildspec.yml"
        return run(buildspec, scratch / "source", scratch / "steps", values, path=str(tools))

    def by_hand(self, act: str, **more: str) -> subprocess.CompletedProcess[str]:
        """`make update` in the working copy; what would be installed is there."""
        tools = self.folder / "tools"
        command = ["make", "-s", "update", f"DO={act}", f"PYTHON={tools / 'python'}", f"VENV={self.folder / 'venv'}"]
        env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", **more}
        return subprocess.run(command, cwd=self.project, env=env, capture_output=True, text=True)

    @property
    def branches(self) -> set[str]:
        return set(said(self.remote, "for-each-ref", "--format=%(refname:lstrip=2)").splitlines())

    @property
    def told(self) -> str:
        path = self.folder / "told"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def said(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def team_of(tmp_path: Path, template: Path) -> Team:
    """A project born from the template's first version, pushed."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("python", PYTHON), ("aws", AWS)):
        (tools / name).write_text(text, encoding="utf-8")
        (tools / name).chmod(0o755)
    answers = {"project_name": "Fraud Rings"}
    project = create(str(template), output_dir=tmp_path, no_input=True, extra_context=answers)
    change(project / ".cruft.json", json.dumps(str(template)), json.dumps(template.as_uri()))  # as if it had a server
    remote = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(remote))
    git(project, "init", "-q", "-b", "main")
    git(project, "remote", "add", "origin", str(remote))
    team = Team(tmp_path, template, project, remote)
    team.push("born")
    return team


@pytest.fixture
def tiny(tmp_path: Path) -> Team:
    """Of a template of a few files; the script, what it installs and the Makefile are this template's."""
    template = tmp_path / "tiny"
    project = template / "{{cookiecutter.project_slug}}"
    (project / "infra").mkdir(parents=True)
    questions = {"project_name": "x", "project_slug": "{{ cookiecutter.project_name|lower|replace(' ', '-') }}"}
    verbatim = {"_copy_without_render": ["Makefile", "infra/*"]}
    (template / "cookiecutter.json").write_text(
        json.dumps({**questions, **verbatim, "_version": "1.0"}), encoding="utf-8"
    )
    (project / "settings.txt").write_text("".join(f"line {n}\n" for n in range(1, 21)), encoding="utf-8")
    (project / "infra/template_update.py").write_bytes((ROOT / PROJECT / "infra/template_update.py").read_bytes())
    for name in ("Makefile", "infra/requirements-update.txt"):
        (project / name).write_bytes((ROOT / PROJECT / name).read_bytes())
    for name in ("edited", "moved", "gone", "folder/old"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("".join(f"{name} {n}\n" for n in range(1, 9)), encoding="utf-8")
    (project / "picture").write_bytes(b"\0" * 99)
    git(tmp_path, "init", "-q", "-b", "main", str(template))
    commit(template, "1.0")
    return team_of(tmp_path, template)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def newer(team: Team, line: str = "line 1\n") -> str:
    """Publish version 1.1 of the tiny template, which changes that line. Returns the branch that it comes in."""
    change(team.template / "cookiecutter.json", '"1.0"', '"1.1"')
    change(team.template / "{{cookiecutter.project_slug}}/settings.txt", line, "theirs\n")
    return f"template-update/fraud-rings-1.1-{team.publish('1.1')[:8]}"


def test_a_new_version_comes_as_a_branch_beside_the_teams_own_changes(tiny: Team) -> None:
    change(tiny.project / "settings.txt", "line 20\n", "ours\n")
    tiny.push("ours")
    branch = newer(tiny)
    build = tiny.build()
    assert build.succeeded, build.log
    assert tiny.branches == {"main", branch} and branch in tiny.told
    settings = said(tiny.remote, "show", f"{branch}:settings.txt")
    assert settings.startswith("theirs\n") and settings.endswith("ours")
    git(tiny.project, "fetch", "-q")
    git(tiny.project, "merge", "-q", f"origin/{branch}")
    git(tiny.project, "push", "-q", "origin", "HEAD:main")
    again = tiny.build()
    assert again.succeeded and "nothing to do" in again.log, "once merged, the project has the newest version"


def test_the_same_version_is_brought_once(tiny: Team) -> None:
    branch = newer(tiny)
    assert tiny.build().succeeded
    before = said(tiny.remote, "rev-parse", branch)
    assert tiny.build().succeeded
    assert said(tiny.remote, "rev-parse", branch) == before


@pytest.mark.parametrize("history", ["the template's lines are in git", "they never were"])
def test_a_conflict_fails_the_build_whether_cruft_leaves_markers_or_a_rej_file(tiny: Team, history: str) -> None:
    if history == "they never were":
        first = tiny.project / ".git"
        subprocess.run(["rm", "-rf", str(first), str(tiny.remote)], check=True)
        git(tiny.folder, "init", "-q", "--bare", "-b", "main", str(tiny.remote))
        git(tiny.project, "init", "-q", "-b", "main")
        git(tiny.project, "remote", "add", "origin", str(tiny.remote))
    change(tiny.project / "settings.txt", "line 1\n", "ours\n")
    tiny.push("ours")
    newer(tiny)
    build = tiny.build()
    assert not build.succeeded
    assert tiny.branches == {"main"}
    assert ("settings.txt.rej\n" if history == "they never were" else "  settings.txt\n") in tiny.told


def test_what_has_no_place_in_the_project_is_named_and_everything_else_comes(tiny: Team) -> None:
    """cruft alone ends well and names nothing of it."""
    change(tiny.project / "edited", "edited 1\n", "ours\n")
    git(tiny.project, "mv", "moved", "elsewhere")
    git(tiny.project, "rm", "-q", "-r", "gone", "folder")
    tiny.push("ours")
    theirs = tiny.template / "{{cookiecutter.project_slug}}"
    (theirs / "edited").unlink()
    change(theirs / "moved", "moved 5\n", "theirs\n")
    change(theirs / "gone", "gone 5\n", "theirs\n")
    (theirs / "folder/new").write_text("new\n", encoding="utf-8")
    branch = newer(tiny)
    build = tiny.build()
    assert build.succeeded, build.log
    assert said(tiny.remote, "show", f"{branch}:settings.txt").startswith("theirs\n")
    named = dict.fromkeys(("moved", "gone", "folder/new"), "changed by the template, not in this project")
    for text in (tiny.told, said(tiny.remote, "log", "-1", "--format=%b", branch)):
        for name, why in {**named, "edited": "deleted by the template, changed in this project"}.items():
            assert f"  {name}: {why}" in text
        assert text.count(": changed by") == 3
    assert "-gone 5\n+theirs\n" in build.log and "does not apply" in build.log


def test_a_file_that_both_sides_changed_and_that_has_no_lines_fails_the_build(tiny: Team) -> None:
    """Also where cruft gives git's three-way merge up, because of another file, and leaves this one as it is."""
    (tiny.project / "picture").write_bytes(b"\0ours")
    change(tiny.project / "edited", "edited 1\n", "ours\n")
    tiny.push("ours")
    (tiny.template / "{{cookiecutter.project_slug}}/picture").write_bytes(b"\0theirs")
    (tiny.template / "{{cookiecutter.project_slug}}/edited").unlink()
    newer(tiny)
    build = tiny.build()
    assert not build.succeeded and tiny.branches == {"main"}
    assert "\n  picture\n" in tiny.told


def test_by_hand_a_bundle_in_a_bucket_serves_too_and_nothing_is_pushed(tiny: Team) -> None:
    bundle = {"BUNDLE": str(tiny.folder / "template.bundle")}
    change(tiny.project / ".cruft.json", tiny.template.as_uri(), "s3://templates/template.bundle")
    change(tiny.project / "settings.txt", "line 20\n", "ours\n")
    tiny.push("from Studio")
    newer(tiny)
    git(tiny.template, "bundle", "create", bundle["BUNDLE"], "HEAD", "main")
    checked = tiny.by_hand("check", **bundle)
    assert "has changes since 1.0-" in checked.stdout and "`make update` takes them" in checked.stdout, checked.stderr
    assert "-ours\n+line 20\n" in tiny.by_hand("diff", **bundle).stdout
    (tiny.project / "gone").unlink()
    assert "not committed" in tiny.by_hand("update", **bundle).stderr
    git(tiny.project, "checkout", "-q", "gone")
    updated = tiny.by_hand("update", **bundle)
    assert updated.returncode == 0 and "is in the working tree: look at it, then commit." in updated.stdout
    settings = (tiny.project / "settings.txt").read_text(encoding="utf-8")
    assert settings.startswith("theirs\n") and settings.endswith("ours\n")
    assert tiny.branches == {"main"} and tiny.told == ""
    assert (
        "nothing to do: the project has the template's newest version, 1.1-" in tiny.by_hand("check", **bundle).stdout
    )


def test_by_hand_a_tag_that_the_record_names_is_asked_for(tiny: Team) -> None:
    change(tiny.project / ".cruft.json", '"checkout": null', '"checkout": "stable"')
    tiny.push("to stable versions")
    git(tiny.template, "tag", "-a", "stable", "-m", "1.0")
    newer(tiny)
    assert "nothing to do" in tiny.by_hand("check").stdout
    git(tiny.template, "tag", "-f", "-a", "stable", "-m", "1.1")
    assert "has changes" in tiny.by_hand("check").stdout


def test_by_hand_a_conflict_is_named_and_stays_in_the_working_tree(tiny: Team) -> None:
    change(tiny.project / "settings.txt", "line 1\n", "ours\n")
    tiny.push("ours")
    newer(tiny)
    updated = tiny.by_hand("update")
    assert updated.returncode and "these files need you" in updated.stderr and "\n  settings.txt\n" in updated.stderr
    assert "<<<<<<<" in (tiny.project / "settings.txt").read_text(encoding="utf-8")


def test_a_template_that_nobody_can_reach_is_told(tiny: Team) -> None:
    tiny.template.rename(tiny.folder / "gone")
    build = tiny.build()
    assert not build.succeeded and tiny.branches == {"main"}
    assert "cruft update" in tiny.told and "failed" in tiny.told


def test_a_git_bundle_in_a_bucket_serves_as_the_template(tiny: Team) -> None:
    branch = newer(tiny)
    git(tiny.template, "bundle", "create", str(tiny.folder / "template.bundle"), "HEAD", "main")
    change(tiny.project / ".cruft.json", tiny.template.as_uri(), "s3://templates/template.bundle")
    tiny.push("from Studio")
    tiny.template.rename(tiny.folder / "gone")
    build = tiny.build(BUNDLE=str(tiny.folder / "template.bundle"))
    assert build.succeeded, build.log
    recorded = json.loads(said(tiny.remote, "show", f"{branch}:.cruft.json"))
    assert recorded["template"] == "s3://templates/template.bundle"
    git(tiny.project, "fetch", "-q")
    git(tiny.project, "merge", "-q", f"origin/{branch}")
    git(tiny.project, "push", "-q", "origin", "HEAD:main")
    old, new = (said(tiny.folder / "gone", "rev-parse", name) for name in ("HEAD~1", "HEAD"))
    bundle(tiny.folder / "gone", references({"1.0": old}, {"1.1": new}), tiny.folder / "template.bundle")
    build = tiny.build(BUNDLE=str(tiny.folder / "template.bundle"))
    assert build.succeeded, build.log
    back = said(tiny.remote, "show", f"template-update/fraud-rings-1.0-{old[:8]}:settings.txt")
    assert back.startswith("line 1\n"), (
        "from a version that `publish.py withdraw` took away, a build proposes the way back"
    )


def test_a_later_version_of_this_template_comes_as_a_branch(template: Path, tmp_path: Path) -> None:
    clone = tmp_path / "template"
    subprocess.run(["cp", "-r", str(template), str(clone)], check=True)
    git(clone, "init", "-q", "-b", "main")
    commit(clone, "template")
    team = team_of(tmp_path, clone)
    change(team.project / "config.yaml", "iterations: 1000", "iterations: 77")
    team.push("ours")
    (clone / PROJECT / "src/scarcegan/news.py").write_text('"""News."""\n', encoding="utf-8")
    change(clone / PROJECT / "config.yaml", "bad_rows: refuse", "bad_rows: drop")
    team.publish("news")
    build = team.build()
    assert build.succeeded, build.log
    [branch] = team.branches - {"main"}
    assert said(team.remote, "show", f"{branch}:src/scarcegan/news.py") == '"""News."""'
    config = said(team.remote, "show", f"{branch}:config.yaml")
    assert "iterations: 77" in config and "bad_rows: drop" in config
