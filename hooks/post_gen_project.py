"""After the project stands: record which template it came from, and say the next three commands.

No repository is made: a project may be born inside one, and cruft bakes twice and compares the folders.
"""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONTEXT = "<< (cookiecutter | jsonify | jsonify)[1:-1] >>"
ARCHIVED = "$Format:%H$"  # `git archive` writes the commit here, and with it GitHub's zip
RECORD = ".template.yaml"
UNKNOWN = "(cruft link needs the commit of this version, and this template was no git repository)"


def origin(template: Path, given: str, version: str) -> dict[str, Any]:
    """Where a project comes from: template, version, commit ("" when unknown) and whether the commit is all of it.

    template: its folder. given, version: what counts where that folder is no repository and has no file VERSION.
    """
    numbered = template / "VERSION"
    found: dict[str, Any] = {
        "template": given,
        "version": numbered.read_text(encoding="utf-8").strip() if numbered.is_file() else version,
        "commit": ARCHIVED if re.fullmatch("[0-9a-f]{40}", ARCHIVED) else "",
        "uncommitted_changes": False,
    }
    if git(template, "ls-files", "cookiecutter.json"):  # not a copy that lies in somebody else's repository
        found["template"] = git(template, "remote", "get-url", "origin") or str(template.resolve())
        found["commit"] = git(template, "rev-parse", "HEAD")
        found["uncommitted_changes"] = bool(git(template, "status", "--porcelain"))
    found["template"] = without_password(found["template"])
    return found


def git(folder: Path, *words: str) -> str:
    """What git says about a folder; "" where it fails, or is not installed."""
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), *words]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(command, env=clean, capture_output=True, check=True).stdout.decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def without_password(address: str) -> str:
    """The address of a template without what only its owner may know."""
    return re.sub(r"^(https?://)[^/]*@", r"\1", address).partition("?")[0] if "://" in address else address


def record(found: Mapping[str, Any], answers: Mapping[str, str]) -> str:
    """The text of RECORD. Its command makes the project one that `cruft update` brings up to date."""
    words = ["cruft", "link", found["template"], "--checkout", found["commit"], "--no-input", "--extra-context"]
    link = shlex.join([*words, json.dumps(answers, ensure_ascii=False)])
    lines = [
        "# The template that this project was made from, and the answers it was made with.",
        "# Later changes of the template come with cruft (pip install cruft). Paste this once, then delete this file:",
        f"#     {link if found['commit'] else UNKNOWN}",
        *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in found.items()),
        "answers:",
        *(f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in answers.items()),
    ]
    return "\n".join(lines) + "\n"


def as_typed(project: Path, shell: Path) -> str:
    """The project's folder as one would type it in a shell that stands in `shell`."""
    near = os.path.relpath(project, shell)
    return shlex.quote(str(project) if near.startswith("..") else near)


def next_commands(folder: str) -> str:
    """What a newcomer types next."""
    return f"""
{folder} is ready. Next:

    cd {folder}
    make local                      # the whole loop on this machine, with sample telemetry
    .venv/bin/scarcegan --help      # every verb, with an example

"""


def is_scratch_of_cruft(project: Path) -> bool:
    """Whether cruft bakes to compare, in a folder that nobody will see."""
    out = project.parent
    return out.name.startswith("tmp") and out.parent == Path(tempfile.gettempdir()).resolve()


def main() -> None:
    context, project = json.loads(CONTEXT), Path.cwd()
    by_cruft = "_commit" in context  # it keeps a record of its own, .cruft.json
    if not by_cruft:
        template = Path(os.environ.get("PWD", ""), os.environ.get("BAKED_FROM", context.get("_repo_dir", "")))
        answers = {name: text for name, text in context.items() if not name.startswith("_")}
        found = origin(template, os.environ.get("BAKED_FROM", context.get("_template", "")), context["_version"])
        Path(RECORD).write_text(record(found, answers), encoding="utf-8")
    here = Path(os.environ.get("BAKED_INTO", project.parent), project.name)
    if sys.stdout and not (by_cruft and is_scratch_of_cruft(project)):
        said = next_commands(as_typed(here, Path(os.environ.get("PWD", here.parent))))
        # As bytes, and written at once: a terminal that knows ASCII only, or a closed pipe, must not undo the project.
        with contextlib.suppress(OSError):
            os.write(sys.stdout.fileno(), os.fsencode(said))


if __name__ == "__main__":
    main()
