"""Bake a project from this checkout: `python bake.py FOLDER`. What git would not track is left out.

cookiecutter copies the caches that it finds among the project's files into the new project. So a clean copy of the
template is made first.
"""

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent
PARTS = ("cookiecutter.json", "literal_answers.py", "VERSION", "hooks", "<<cookiecutter.project_slug>>")
CACHES = ("__pycache__", ".*_cache", "*.pyc", "*.egg-info", ".venv", "runs", ".DS_Store")


def copy_template(to: Path, parts: tuple[str, ...] = PARTS) -> Path:
    """Copy the template as a clone would hold it: what git tracks or would track; all but caches where git is not."""
    for name in listed_by_git(parts) or walked(parts):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def listed_by_git(parts: tuple[str, ...]) -> list[str]:
    """Files that git tracks or would track, relative to the root; none where it is not installed or no repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *parts]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def walked(parts: tuple[str, ...]) -> list[str]:
    """The files of a template that came as an archive, relative to its root."""
    ignore = shutil.ignore_patterns(*CACHES)
    names = [part for part in parts if (ROOT / part).is_file()]
    for part in parts:
        for folder, folders, files in os.walk(ROOT / part):
            skipped = ignore(folder, [*folders, *files])
            folders[:] = [name for name in folders if name not in skipped]
            names += [str((Path(folder) / name).relative_to(ROOT)) for name in files if name not in skipped]
    return names


def bake(out: Path, answers: Mapping[str, str] | None = None) -> Path:
    """Bake into a folder of `out`; it appears there whole or not at all. answers: those that are not the default.

    Raises FileExistsError when the folder is there, another OSError when `out` cannot be written to, and cookiecutter's
    FailedHookException for refused answers.
    """
    from cookiecutter.main import cookiecutter

    out.mkdir(parents=True, exist_ok=True)
    places = {"BAKED_FROM": str(ROOT), "BAKED_INTO": str(out.resolve())}  # the hooks name these, not the scratch folder
    with tempfile.TemporaryDirectory(dir=out, prefix=".baking-") as scratch, patch.dict(os.environ, places):
        template = copy_template(Path(scratch) / "template")
        settings = Path(scratch) / "settings.yaml"  # the home folder is neither written to nor read
        settings.write_text(f"replay_dir: {json.dumps(scratch)}\n", encoding="utf-8")
        given = {"extra_context": dict(answers or {}), "output_dir": scratch}
        baked = Path(cookiecutter(str(template), no_input=True, config_file=str(settings), **given))
        if (out / baked.name).exists():
            raise FileExistsError(f"{out / baked.name} is there already. Remove it, or name another folder than {out}.")
        return baked.rename(out / baked.name)


def say(stream: int, words: str) -> None:
    """Write a line with paths as the file system has them, whatever the locale is. A closed pipe is no error."""
    with contextlib.suppress(OSError):
        os.write(stream, os.fsencode(f"{words}\n"))


def main(words: Sequence[str]) -> int:
    """Bake into the one folder that is named, and print where the project is. Returns the exit code."""
    if len(words) != 1 or words[0].startswith("-"):
        sys.exit("usage: python bake.py FOLDER (the project becomes a folder of it)")
    try:
        from cookiecutter.exceptions import FailedHookException
    except ModuleNotFoundError:
        sys.exit(f"{sys.executable} has no cookiecutter. Type: {sys.executable} -m pip install -r requirements.txt")
    logging.getLogger("cookiecutter").addHandler(logging.NullHandler())  # the hook says why; a traceback adds nothing
    try:
        say(1, str(bake(Path(words[0]))))
    except FailedHookException:
        return 1
    except OSError as error:
        say(2, f"{error.filename}: {error.strerror}. Name another folder." if error.filename else str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
