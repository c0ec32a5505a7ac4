"""Which of the supported Pythons are on this machine."""

import glob
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from bake import ROOT

SETTINGS = ROOT / "<<cookiecutter.project_slug>>" / "pyproject.toml"


def supported() -> list[str]:
    """The Pythons that the project's pyproject.toml names, such as 3.12."""
    names = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["project"]["classifiers"]
    return [name.rsplit(" ", 1)[1] for name in names if name.startswith("Programming Language :: Python :: 3.")]


def find(version: str) -> Path | None:
    """An interpreter of this version on the path, of pyenv or of uv that can make environments; None without one."""
    pyenv = glob.glob(str(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions/*/bin")))
    path = os.pathsep.join([*map(str, pyenv), os.environ["PATH"]])  # a shim of pyenv's may run nothing
    uv = [
        str(Path(sys.executable).with_name("uv")),
        "python",
        "find",
        "--system",
        "--no-project",
        "--no-python-downloads",
    ]
    found = subprocess.run([*uv, version], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    python = found.stdout.strip()
    able = found.returncode == 0 and subprocess.run([python, "-c", "import ensurepip"]).returncode == 0
    return Path(python) if able else None
