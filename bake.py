"""Bake a project from this checkout: `python bake.py FOLDER`. What git would not track is left out.

cookiecutter copies the caches that it finds among the project's files into the new project. So a clean copy of the
template is made first.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PARTS = ("cookiecutter.json", "VERSION", "hooks", "<<cookiecutter.project_slug>>")
CACHES = ("__pycache__", ".*_cache", "*.pyc", "*.egg-info", ".venv", "runs", ".DS_Store")


def copy_template(to: Path, parts: tuple[str, ...] = PARTS) -> Path:
    """Copy the template as a clone would hold it: what git tracks or would track; all but caches where git is not."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *parts],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = [name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else []
    for name in names or walked(parts):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


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
    """Bake into a folder of `out`; it appears there whole or not at all. answers: those that are not the default."""
    from cookiecutter.main import cookiecutter

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".baking-") as scratch:
        template = copy_template(Path(scratch) / "template")
        given = {"extra_context": dict(answers or {}), "output_dir": scratch}
        baked = Path(cookiecutter(str(template), no_input=True, default_config=True, **given))
        return baked.rename(out / baked.name)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit("usage: python bake.py FOLDER (the project becomes a folder of it)")
    os.environ["BAKED_INTO"] = str(Path(sys.argv[1]).resolve())  # the last hook names this place
    print(bake(Path(sys.argv[1])))
