"""What jobs and functions in the cloud run: code and wheels under the hash of what they hold, and no timestamps.

A change of code is a new key, so SageMaker's cache misses; an upsert of unchanged code is not. Only files that a step
may read are in the code's bundle: a change of the command line leaves every step's cache as it was.
"""

import io
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scarcegan.aws.archive import pack_into
from scarcegan.errors import UserError
from scarcegan.pipeline.code import code_files, digest_of

REQUIREMENTS = "requirements-jobs.txt"
PYTHON = "3.12"  # of the TensorFlow 2.21 image
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64")
PLACEHOLDER = b"This object stands for an empty folder.\n"
MARKERS = ("empty/.empty", "champion/.empty", "data/telemetry/.empty", "data/labels/.empty")
LAMBDAS = {"register": "scarcegan.sagemaker.register_function"}  # function -> module whose `handler` it calls
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can tell


@dataclass(frozen=True)
class Bundle:
    """Objects of the project's bucket, by key. wheels: digest of the list of libraries, below wheels/<digest>/."""

    digest: str
    objects: Mapping[str, bytes]
    wheels: str = ""

    @property
    def code_prefix(self) -> str:
        return f"code/{self.digest}"

    @property
    def wheels_prefix(self) -> str:
        return f"wheels/{self.wheels}"


def code_bundle(root: Path) -> Bundle:
    """The code of every job of a project: `source.tar.gz` and `job.sh` below code/<digest>/.

    The digest is of names and contents, not of the archive: another zlib packs otherwise. UserError without the list of
    libraries.
    """
    requirements = root / REQUIREMENTS
    if not requirements.is_file():
        raise UserError(f"{requirements}: not there, and jobs in the cloud install what it lists. Type: make lock")
    files = {f"src/{name}": path for name, path in job_files(root / "src").items()} | {REQUIREMENTS: requirements}
    contents = {name: path.read_bytes() for name, path in sorted(files.items())}
    start = (root / "src/scarcegan/sagemaker/job.sh").read_bytes()
    digest = content_digest(contents | {"job.sh": start})
    objects = {f"code/{digest}/source.tar.gz": tar(contents), f"code/{digest}/job.sh": start}
    return Bundle(digest, objects, content_digest({REQUIREMENTS: contents[REQUIREMENTS]}))


def job_files(source: Path) -> dict[str, Path]:
    """Files that a job may read, by path below `source`: every step's, and those of job.py."""
    steps = sorted(path.stem for path in (source / "scarcegan/steps").glob("[!_]*.py"))
    modules = [f"scarcegan.steps.{step}" for step in steps if step not in LAMBDAS] + ["scarcegan.sagemaker.job"]
    search = (source.absolute(),)
    found = {path for module in modules for path in code_files(module, search)}
    return {path.relative_to(source.absolute()).as_posix(): path for path in sorted(found)}


def lambda_bundle(root: Path, name: str) -> Bundle:
    """A function's code as lambda/<name>-<digest>.zip: `register` from the package, any other from infra/lambdas/.

    UserError for a function that is not there.
    """
    if name in LAMBDAS:
        source = (root / "src").absolute()
        files = {path.relative_to(source).as_posix(): path for path in code_files(LAMBDAS[name], (source,))}
    else:
        path = root / "infra/lambdas" / f"{name.replace('-', '_')}.py"
        if not path.is_file():
            raise UserError(f"{path}: no such function. There are: {', '.join(lambda_names(root))}.")
        files = {path.name: path}
    contents = {name: path.read_bytes() for name, path in sorted(files.items())}
    digest = content_digest(contents)
    return Bundle(digest, {f"lambda/{name}-{digest}.zip": packed(contents)})


def lambda_names(root: Path) -> list[str]:
    """Every function of a project."""
    return [*LAMBDAS, *sorted(path.stem.replace("_", "-") for path in (root / "infra/lambdas").glob("[!_]*.py"))]


def markers() -> dict[str, bytes]:
    """Objects that stand for empty folders: a job fails when nothing at all lies under a channel's prefix."""
    return dict.fromkeys(MARKERS, PLACEHOLDER)


def content_digest(contents: Mapping[str, bytes]) -> str:
    """32 hexadecimal digits of names and contents."""
    return digest_of(f"{name} {len(data)} {data.hex()}" for name, data in sorted(contents.items()))[:32]


def tar(contents: Mapping[str, bytes]) -> bytes:
    """The bytes of a .tar.gz of these files."""
    out = io.BytesIO()
    pack_into(out, contents)
    return out.getvalue()


def packed(contents: Mapping[str, bytes]) -> bytes:
    """A zip of these files, all of the same time, readable by everybody as Lambda wants it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in sorted(contents.items()):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, data)
    return out.getvalue()


def wheel_command(requirements: Path, folder: Path) -> list[str]:
    """Downloads the wheels of the list for the image's Python, checked against its hashes; nothing is built."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    target = ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp", *platforms]
    return [*pip, *target, "--dest", str(folder), "--requirement", str(requirements)]


def download_wheels(requirements: Path, folder: Path) -> list[Path]:
    """The wheels of the list, in a folder. UserError when one is not to be had; pip has said why."""
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(wheel_command(requirements, folder)).returncode:
        raise UserError(
            f"{requirements}: a wheel of the list cannot be fetched, see above. Is the package index in reach?"
        )
    return sorted(folder.glob("*.whl"))
