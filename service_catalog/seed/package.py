"""What the seed needs in AWS, as bytes: the template's zip and the function's zip. publish.py uploads them.

A version is published once, so whoever publishes it again must get the same bytes. Neither zip is compressed: what
deflate makes depends on the zlib of Python or git. No file's line ends are changed, whatever git's settings are.
"""

import io
import os
import subprocess
import zipfile
from pathlib import Path

SEED = Path(__file__).resolve().parent
ROOT = SEED.parents[1]
FUNCTION = (SEED / "handler.py", ROOT / "hooks/pre_gen_project.py", ROOT / "cookiecutter.json")
OLDEST = (1980, 1, 1, 0, 0, 0)  # zip knows no earlier time; a fixed one makes equal contents equal bytes


def template_zip(repository: Path, commit: str) -> bytes:
    """The template at a commit, in one folder `template`. Its post-generation hook holds the commit's full name.

    Raises CalledProcessError for an unknown commit, or a folder that is no git repository.
    """
    command = ["git", "-C", str(repository), "-c", "core.autocrlf=false", "archive"]
    command += ["--format=zip", "-0", "--prefix=template/", commit]
    utc = {**os.environ, "TZ": "UTC"}  # git writes local times into a zip
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=utc).stdout


def wheel_requirements() -> Path:
    """The pinned list, with hashes, of what the seed installs. Its wheels are for Python 3.12 on Linux, x86_64."""
    return SEED / "requirements.txt"


def handler_zip() -> bytes:
    """The code of the Lambda function; its handler is `handler.handler`. The same files give the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in FUNCTION:
            about = zipfile.ZipInfo(path.name, OLDEST)
            about.create_system = 3  # Unix, also where this runs on Windows
            about.external_attr = 0o644 << 16  # Lambda needs to read it
            archive.writestr(about, path.read_bytes())
    return packed.getvalue()
