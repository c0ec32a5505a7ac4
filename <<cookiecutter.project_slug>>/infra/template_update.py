"""Takes the template's newest version into a branch of its own; run by update.buildspec.yml, in the project's folder.

cruft works the changes out in a second worktree, so that the checkout stays as it is and a run can be repeated after it
was killed. What fits is pushed to a new branch template-update/…, and nothing is merged. What does not fit is pushed
nowhere. Either way the notification topic is told. A change to a file that the project deleted, moved or keeps is left
out and named. Imports the standard library only; runs git, cruft and the AWS CLI.

`make update` takes it into the working tree (--here), and pushes and tells nothing.
"""

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORD = ".cruft.json"
BRANCHES = "template-update"  # the role `update` may push to branches below this name only
LONGEST_SUBJECT = 100  # https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
LONGEST_DESCRIPTION = 10240  # https://docs.aws.amazon.com/codecommit/latest/APIReference/API_CreatePullRequest.html
IDENTITY = ("-c", "user.name=Template update", "-c", "user.email=template-update@localhost", "-c", "commit.gpgsign=no")
RENDERS = "import json, sys; from cruft import create; [create(**one) for one in json.loads(sys.argv[1])]"
ADDRESS = re.compile(r"[a-z0-9+]+://|[^/:@]+@[^/:]+:")  # https://…, git@host:…; anything else is a path


class Refused(Exception):
    """An update that cannot be taken; the message says why, and what to do."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended that did not fail: a sentence for people, and whether the topic is told of it."""

    sentence: str
    told: bool


@dataclass(frozen=True)
class Arrived:
    """What came into a project's folder. Paths of `unfitting` begin at the top of the repository, others at the folder.

    - old, new: the template's version before and after.
    - commit: of the template, from now on.
    - unfitting: files that need a person.
    - left_out: file with a change of the template that the project has no place for -> why.
    """

    old: str
    new: str
    commit: str
    unfitting: Sequence[str]
    left_out: Mapping[str, str]


def run(words: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed to stdout, without the last newline.

    - folder: where it runs.
    - env: further environment variables.

    Raises Refused, with the end of what it printed, when it fails.
    """
    try:
        done = subprocess.run(words, cwd=folder, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    except OSError as error:  # such as a program that is not there
        raise Refused(f"`{words[0]} …` cannot be started: {error.strerror}. Install it.") from error
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip()
        print(said, file=sys.stderr)
        shown = " ".join(Path(word).name if word == sys.executable else word for word in words[:4] if word != RENDERS)
        raise Refused(f"`{shown} …` failed: {' / '.join(said.splitlines()[-5:]) or f'exit code {done.returncode}'}")
    print(done.stderr, end="", file=sys.stderr)
    return done.stdout.removesuffix("\n")


def git(folder: Path, *words: str) -> str:
    """Run git in a folder and return what it printed. It never asks for a password.

    Raises Refused when it fails.
    """
    return run(["git", *words], folder, {"GIT_TERMINAL_PROMPT": "0"})


def read_record(project: Path) -> dict[str, Any]:
    """Return the content of .cruft.json in the project's folder.

    Raises Refused when the project has none, or when it is not one.
    """
    path = project / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(record[key], str) for key in ("template", "commit")):
            return dict(record)
        raise KeyError
    except FileNotFoundError:
        raise Refused(
            f"there is no {RECORD}, which names the template. Link the project to it once: type the command in "
            ".template.yaml, delete that file, commit both."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise Refused(f"{RECORD} names no template and commit. Restore it from an earlier commit.") from None


def template_version(record: Mapping[str, Any]) -> str:
    """Return the template's version and the first 8 digits of its commit, such as "1.4.0-3f2c1a9b"."""
    version = str(record.get("context", {}).get("cookiecutter", {}).get("_version", ""))
    plain = re.sub(r"[^A-Za-z0-9]+", ".", version).strip(".")
    return "-".join(part for part in (plain, record["commit"][:8]) if part)


def private_address(origin: str, repository: str, template_repository: str) -> str:
    """Return the address of another repository that is reached as this project's own is.

    - origin: the address that this project was cloned from.
    - repository, template_repository: the names of the two as the provider has them, such as owner/name.

    Raises Refused when `origin` does not end with `repository`.
    """
    ending = ".git" if origin.endswith(".git") else ""
    start = origin.removesuffix(ending)
    if not start.lower().endswith(f"/{repository.lower()}"):
        raise Refused(f"the checkout's origin is {origin}, which is not {repository}. Deploy the toolchain again.")
    return f"{start[: -len(repository)]}{template_repository}{ending}"


def where_template_is(project: Path, recorded: str, names: argparse.Namespace, scratch: Path) -> str:
    """Return the address that git can clone the template from. A git bundle in S3 is downloaded first.

    - recorded: the address in .cruft.json.
    - names: with `repository` and `template_repository`; the latter is "" for a template that needs no connection.
    - scratch: folder for the download.

    Raises Refused for a path of somebody's machine, and when the download fails.
    """
    if names.template_repository:
        origin = git(project, "remote", "get-url", "origin")
        return private_address(origin, names.repository, names.template_repository)
    if recorded.startswith("s3://"):
        bundle = scratch / "template.bundle"
        run(["aws", "s3", "cp", "--only-show-errors", recorded, str(bundle)], project)
        return str(bundle)
    if not ADDRESS.match(recorded):
        raise Refused(
            f"{RECORD} names the template by a path, {recorded}, which is on one machine only. Write the address of "
            "its repository there, such as https://github.com/owner/name."
        )
    return recorded


@contextmanager
def second_worktree(project: Path) -> Iterator[Path]:
    """Context manager: check HEAD out a second time, and yield the project's folder in it. It is removed at the end."""
    prefix = git(project, "rev-parse", "--show-prefix")
    git(project, "worktree", "prune")  # those whose folder is gone, as after a kill
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git(project, "worktree", "add", "--quiet", "--detach", str(tree), "HEAD")
        try:
            yield tree / prefix
        finally:
            git(project, "worktree", "remove", "--force", str(tree))


def for_cruft(recorded: Mapping[str, Any], address: str) -> dict[str, str]:
    """Environment variables with which cruft reads the template from an address; .cruft.json keeps what it says."""
    elsewhere = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{address}.insteadOf",
        "GIT_CONFIG_VALUE_0": recorded["template"],
    }
    return {"GIT_TERMINAL_PROMPT": "0", **(elsewhere if address != recorded["template"] else {})}


def run_cruft(project: Path, recorded: Mapping[str, Any], address: str) -> None:
    """Let cruft bring the template's changes into the project's folder.

    - recorded: the content of .cruft.json. A branch or tag that it names under "checkout" is taken from then on, too.
    - address: where git finds the template.

    Raises Refused when cruft fails. It does not when changes do not fit.
    """
    pinned = ["--checkout", recorded["checkout"]] if recorded.get("checkout") else []
    words = [sys.executable, "-m", "cruft", "update", "--skip-apply-ask", *pinned]
    print(run(words, project, for_cruft(recorded, address)))


def template_changes(
    project: Path, recorded: Mapping[str, Any], commit: str, address: str
) -> dict[str, tuple[bytes | None, bytes | None]]:
    """Render the template as it was and as it is at a commit, with the project's answers.

    Returns each file that differs -> its content before and after, None where it is not.
    """
    asked = recorded.get("context", {}).get("cookiecutter", {})
    answers = {name: text for name, text in asked.items() if not name.startswith("_")}
    common = {"template_git_url": recorded["template"], "extra_context": answers, "no_input": True}
    common |= {"directory": recorded["directory"]} if recorded.get("directory") else {}
    with tempfile.TemporaryDirectory() as before, tempfile.TemporaryDirectory() as after:
        both = [(before, recorded["commit"]), (after, commit)]
        orders = json.dumps([{**common, "output_dir": out, "checkout": one} for out, one in both])
        run([sys.executable, "-c", RENDERS, orders], project, for_cruft(recorded, address))
        old, new = (files_of(next(Path(out).iterdir())) for out in (before, after))
    return {name: (old.get(name), new.get(name)) for name in sorted({*old, *new}) if old.get(name) != new.get(name)}


def files_of(folder: Path) -> dict[str, bytes]:
    """Path in a folder -> content of every file, without cruft's record."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != RECORD}


def changed_files(project: Path) -> set[str]:
    """Return the files of the project's folder that are not as HEAD has them; ignored ones too."""
    tracked = git(project, "diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD").split("\0")
    return {*tracked, *git(project, "ls-files", "--others", "-z").split("\0")}


def bring(project: Path, recorded: Mapping[str, Any], address: str) -> Arrived:
    """Bring the template's newest version into the project's folder, and find out what of it did not come.

    cruft leaves out, without a word, what is no conflict of lines: it compares what is there on both sides only.

    Raises Refused when the template cannot be read.
    """
    run_cruft(project, recorded, address)
    record = read_record(project)
    commit, old, new = record["commit"], template_version(recorded), template_version(record)
    if commit == recorded["commit"]:
        return Arrived(old, new, commit, [], {})
    unfitting, left_out = set(unfitting_files(project)), {}
    changed, prefix = changed_files(project), git(project, "rev-parse", "--show-prefix")
    for name, (before, after) in template_changes(project, recorded, commit, address).items():
        path = project / name
        if after is not None and not path.exists():
            left_out[name] = "changed by the template, not in this project (deleted or moved)"
        elif name in changed or not path.exists() or path.read_bytes() == after:
            continue
        elif after is None:
            left_out[name] = "deleted by the template, changed in this project"
        else:
            unfitting.add(prefix + name)
            continue
        print(difference(name, before, after))
    return Arrived(old, new, commit, sorted(unfitting), left_out)


def difference(name: str, before: bytes | None, after: bytes | None) -> str:
    """Return what the template changed in a file, as a unified diff."""
    texts = [(text or b"").decode("utf-8", "replace").splitlines() for text in (before, after)]
    return "\n".join(difflib.unified_diff(*texts, f"a/{name}", f"b/{name}", lineterm=""))


def left_out_sentence(left_out: Mapping[str, str], where: str = "the build's log shows them") -> str:
    """Return what people are told about changes that have no place in their project; "" without any."""
    if not left_out:
        return ""
    listed = "".join(f"\n  {name}: {why}" for name, why in left_out.items())
    return f"\nNot among the changes, and no later version brings them; {where}:{listed}"


def unfitting_files(project: Path) -> list[str]:
    """Return the files of the worktree that need a person: those with a conflict, and *.rej files that git made.

    The paths begin at the top of the repository.
    """
    top = Path(git(project, "rev-parse", "--show-toplevel"))
    conflicts = git(top, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")
    new = git(top, "ls-files", "--others", "-z").split("\0")  # ignored ones too
    return sorted({*filter(None, conflicts), *(path for path in new if path.endswith(".rej"))})


def unfitting_sentence(version: str, files: Sequence[str], branch: str, into: str) -> str:
    """Return what people are told about an update that does not fit.

    - version: of the template. files: those that need a person.
    - branch: the branch to make by hand. into: the branch that it is merged into.
    """
    listed = "\n  ".join(files)
    return (
        f"version {version} of the template does not fit this project's own changes. Nothing was pushed. These files "
        f"have a conflict, hold the template's change that found no place (.rej), or are such as git cannot merge:\n"
        f"  {listed}\n"
        f"Take it by hand: `git switch -c {branch} {into}`, `make update`, then as the README says under 'Later "
        "changes of the template'. Push that branch, and later runs leave it alone."
    )


def push_branch(project: Path, branch: str, subject: str, body: str) -> int:
    """Commit everything in the worktree and push the commit to a new branch. Returns how many files it changes.

    Raises Refused when git refuses, such as for a branch of that name that has other commits.
    """
    git(project, "add", "--all", ":/")
    git(project, *IDENTITY, "commit", "--quiet", "--no-verify", "-m", subject, "-m", body)
    git(project, "push", "origin", f"HEAD:refs/heads/{branch}")
    return len(git(project, "show", "--format=", "--name-only").splitlines())


def open_pull_request(project: Path, names: argparse.Namespace, branch: str, title: str, body: str) -> str:
    """Open a pull request in CodeCommit and return its number."""
    target = {"repositoryName": names.repository, "sourceReference": branch, "destinationReference": names.branch}
    words = ["aws", "codecommit", "create-pull-request", "--title", title, "--targets", json.dumps([target])]
    words += ["--description", body[:LONGEST_DESCRIPTION]]
    return str(json.loads(run([*words, "--output", "json"], project))["pullRequest"]["pullRequestId"])


def take_update(project: Path, names: argparse.Namespace) -> Outcome:
    """Bring the template's newest version onto a branch of its own, unless there is none or the branch is there.

    - project: the project's folder in a clone of its repository, whose remote is `origin`.
    - names: the arguments of the command line.

    Raises Refused when the project names no template, the template cannot be read, changes do not fit, or the push is
    refused.
    """
    recorded = read_record(project)
    with tempfile.TemporaryDirectory() as scratch, second_worktree(project) as tree:
        arrived = bring(tree, recorded, where_template_is(project, recorded["template"], names, Path(scratch)))
        old, new = arrived.old, arrived.new
        if arrived.commit == recorded["commit"]:
            return Outcome(newest_sentence(old), told=False)
        branch = f"{BRANCHES}/{names.project}-{new}"
        if git(project, "ls-remote", "origin", f"refs/heads/{branch}"):
            return Outcome(f"branch {branch} is there already and was left as it is. Merge it or delete it.", told=True)
        if arrived.unfitting:
            raise Refused(unfitting_sentence(new, arrived.unfitting, branch, names.branch))
        left_out = left_out_sentence(arrived.left_out)
        subject = f"template: {old} -> {new}"
        body = f"Template: {recorded['template']}\nCommit: {arrived.commit}\n{left_out}"
        files = push_branch(tree, branch, subject, body)
    request = ""
    if names.pull_request == "yes":
        request = f"pull request {open_pull_request(project, names, branch, subject, body)}, "
    return Outcome(
        f"version {new} of the template ({old} until now) is on branch {branch}, {request}{files} files changed. "
        f"Nothing is merged: look at the changes, then merge the branch into {names.branch}.{left_out}",
        told=True,
    )


def newest_sentence(version: str) -> str:
    """Return what is said when there is nothing new."""
    return f"nothing to do: the project has the template's newest version, {version}."


def check_here(project: Path, recorded: Mapping[str, Any], address: str) -> str:
    """Return whether the template has changes, as a sentence."""
    pinned = recorded.get("checkout") or "HEAD"
    lines = git(project, "ls-remote", address, pinned, pinned + "^{}").splitlines()
    commits = {ref: commit for commit, ref in (line.split("\t") for line in lines)}
    names = (pinned, f"refs/heads/{pinned}", f"refs/tags/{pinned}" + "^{}", f"refs/tags/{pinned}")
    if recorded["commit"] == next((commits[name] for name in names if name in commits), pinned):
        return newest_sentence(template_version(recorded))
    return f"the template has changes since {template_version(recorded)}. `make update` takes them."


def diff_here(project: Path, recorded: Mapping[str, Any], address: str) -> str:
    """Return how the project differs from its template as it was made, as a patch."""
    return run([sys.executable, "-m", "cruft", "diff"], project, for_cruft(recorded, address))


def update_here(project: Path, recorded: Mapping[str, Any], address: str) -> str:
    """Bring the template's newest version into the working tree. Returns how it ended, as a sentence.

    Raises Refused when something in the working tree is not committed, or when changes do not fit.
    """
    if git(project, "status", "--porcelain"):
        raise Refused("the working tree has changes that are not committed. Commit or stash them first.")
    arrived = bring(project, recorded, address)
    if arrived.commit == recorded["commit"]:
        return newest_sentence(arrived.old)
    left_out = left_out_sentence(arrived.left_out, "they are shown above")
    if arrived.unfitting:
        raise Refused(
            f"version {arrived.new} of the template is in the working tree, and these files need you, as the README "
            "says under 'Later changes of the template':\n  " + "\n  ".join(arrived.unfitting) + left_out
        )
    return (
        f"version {arrived.new} of the template ({arrived.old} until now) is in the working tree: look at it, then "
        f"commit.{left_out}"
    )


HERE = {"update": update_here, "check": check_here, "diff": diff_here}


def here(argv: Sequence[str]) -> int:
    """Do what cruft does for a person in the current folder, also for a template in a bucket. Returns the exit code."""
    arguments = argparse.ArgumentParser(prog="make update DO=…")
    arguments.add_argument("act", choices=tuple(HERE))
    act = HERE[arguments.parse_args(argv).act]
    try:
        project = Path.cwd()
        recorded = read_record(project)
        with tempfile.TemporaryDirectory() as scratch:
            names = argparse.Namespace(template_repository="")
            print(act(project, recorded, where_template_is(project, recorded["template"], names, Path(scratch))))
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def tell(names: argparse.Namespace, subject: str, sentence: str) -> None:
    """Send a message to the notification topic.

    Raises Refused when it cannot be sent.
    """
    words = ["aws", "sns", "publish", "--topic-arn", names.topic, "--subject", subject[:LONGEST_SUBJECT]]
    run([*words, "--message", f"{names.project} ({names.repository}): {sentence}"], Path.cwd())


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; infra/toolchain.yaml has the values."""
    arguments = argparse.ArgumentParser(description=__doc__)
    add = arguments.add_argument
    add("--project", required=True, help="name of the project; part of the branch's name")
    add("--repository", required=True, help="owner/name, or a CodeCommit repository's name")
    add("--branch", required=True, help="the branch that updates are merged into")
    add("--topic", required=True, help="ARN of the notification topic")
    add("--template-repository", default="", help="like --repository, of a template that is read through the same way")
    add("--pull-request", choices=("yes", "no"), default="no", help="yes: ask CodeCommit for one")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Take the update in the current folder, print and tell how it ended. Returns 0, or 1 when it failed."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--here"]:
        return here(words[1:])
    names = parser().parse_args(words)
    subject, told, failed = f"{names.project}: update from the template", True, False
    try:
        outcome = take_update(Path.cwd(), names)
        sentence, told = outcome.sentence, outcome.told
        print(sentence)
    except Refused as error:
        subject, sentence, failed = f"{names.project}: the update from the template failed", str(error), True
        print(f"error: {error}", file=sys.stderr)
    try:
        if told:
            tell(names, subject, sentence)
    except Refused as error:
        print(f"error: nobody could be told: {error}", file=sys.stderr)
        failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
