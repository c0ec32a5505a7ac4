"""The code and libraries that SageMaker jobs and Lambda functions run, as S3 objects whose keys name their content.

Changed code gets a new key, so SageMaker's cache does not return results of older code; unchanged code keeps its key.
The code of jobs holds only files that a step may read: a change of the command line keeps the cache valid.
"""

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scarcegan.archive import pack_into
from scarcegan.aws.toolchain import STACKS, FunctionCode
from scarcegan.errors import UserError
from scarcegan.pipeline.code import code_files, digest_of

REQUIREMENTS = "requirements-jobs.txt"
PYTHON = "3.12"  # of the TensorFlow 2.21 image
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64")
PLACEHOLDER = b"This object stands for an empty folder.\n"
COMPLETE = ".complete"  # object beside the wheels, written after the last one
MARKERS = ("empty/.empty", "champion/.empty", "data/telemetry/.empty", "data/labels/.empty")
PACKAGE_FUNCTIONS = {"register": "scarcegan.sagemaker.register_function"}  # Lambda function -> module of its `handler`
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold
DIGEST_DIGITS = 32  # of ToolchainVersion; what follows is the time of its commit
PUBLISHED = ("infra", "src")  # folders that `scarcegan toolchain deploy` publishes from


@dataclass(frozen=True)
class Bundle:
    """Objects to upload into the project's bucket.

    - digest: 32 hexadecimal digits, a digest of the code. An object with the digest in its key is written once.
    - objects: key in the bucket -> content. They hold the code; the wheels are no part of them.
    - wheels: 32 hexadecimal digits, a digest of requirements-jobs.txt; "" for a Lambda function, which needs no wheels.
    """

    digest: str
    objects: Mapping[str, bytes]
    wheels: str = ""

    @property
    def code_prefix(self) -> str:
        """The S3 prefix below which the code of jobs lies: code/<digest of the code>, without a slash at the end."""
        return f"code/{self.digest}"

    @property
    def wheels_prefix(self) -> str:
        """The S3 prefix below which the wheels of jobs lie: wheels/<digest of requirements-jobs.txt>, without a slash
        at the end.
        """
        return f"wheels/{self.wheels}"


def code_bundle(root: Path) -> Bundle:
    """Return the code of the jobs of a project: `source.tar.gz` and `job.sh` below code/<digest>/.

    The archive holds the files of `job_files` below src/, and requirements-jobs.txt. The digest is made of the names
    and contents of these files and of job.sh, not of the archive, whose bytes differ between zlib versions.

    - root: the project's folder.

    Raises UserError when the project has no requirements-jobs.txt.
    """
    requirements = root / REQUIREMENTS
    if not requirements.is_file():
        raise UserError(f"{requirements}: not there, but jobs in AWS install what it lists. Type: make lock")
    files = {f"src/{name}": path for name, path in job_files(root / "src").items()} | {REQUIREMENTS: requirements}
    contents = {name: path.read_bytes() for name, path in sorted(files.items())}
    start = (root / "src/scarcegan/sagemaker/job.sh").read_bytes()
    digest = content_digest(contents | {"job.sh": start})
    objects = {f"code/{digest}/source.tar.gz": tar_gz(contents), f"code/{digest}/job.sh": start}
    return Bundle(digest, objects, content_digest({REQUIREMENTS: contents[REQUIREMENTS]}))


def job_files(source: Path) -> dict[str, Path]:
    """Return the code that jobs may run: path relative to `source` -> absolute path of the file.

    That is job.py, the steps that run as jobs (not as a Lambda function), and every file of this package that they
    import, directly or through another one.

    - source: the project's folder src.
    """
    steps = sorted(path.stem for path in (source / "scarcegan/steps").glob("[!_]*.py"))
    modules = [f"scarcegan.steps.{step}" for step in steps if step not in PACKAGE_FUNCTIONS] + [
        "scarcegan.sagemaker.job"
    ]
    search = (source.absolute(),)
    found = {path for module in modules for path in code_files(module, search)}
    return {path.relative_to(source.absolute()).as_posix(): path for path in sorted(found)}


def lambda_bundle(root: Path, name: str) -> Bundle:
    """Return the code of a Lambda function as one object, functions/<name>-<digest>.zip.

    - root: the project's folder.
    - name: "register", whose code lies in the package, or the name of a file of infra/lambdas/ without .py and with
      hyphens, such as "rare-share".

    Raises UserError for a function that does not exist.
    """
    if name in PACKAGE_FUNCTIONS:
        source = (root / "src").absolute()
        files = {path.relative_to(source).as_posix(): path for path in code_files(PACKAGE_FUNCTIONS[name], (source,))}
    else:
        path = root / "infra/lambdas" / f"{name.replace('-', '_')}.py"
        if not path.is_file():
            raise UserError(f"{path}: no such Lambda function. There are: {', '.join(lambda_names(root))}.")
        files = {path.name: path}
    contents = {name: path.read_bytes() for name, path in sorted(files.items())}
    digest = content_digest(contents)
    return Bundle(digest, {f"functions/{name}-{digest}.zip": zipped(contents)})


def lambda_names(root: Path) -> list[str]:
    """Return the names of all Lambda functions of a project, as `lambda_bundle` takes them.

    First comes "register", then the functions of infra/lambdas/, such as "rare-share", in name order.

    - root: the project's folder.
    """
    return [
        *PACKAGE_FUNCTIONS,
        *sorted(path.stem.replace("_", "-") for path in (root / "infra/lambdas").glob("[!_]*.py")),
    ]


def function_code(root: Path) -> FunctionCode:
    """Return the code of all Lambda functions of a project, which `scarcegan toolchain deploy` brings to AWS.

    - root: the project's folder.

    ToolchainVersion is a digest of the content, and eight digits for the time of the commit if it is known.

    Raises UserError when a template of the toolchain is missing.
    """
    objects, parameters = {}, {}
    for name in lambda_names(root):
        [(key, code)] = lambda_bundle(root, name).objects.items()
        objects[key] = code
        parameters[f"{name.title().replace('-', '')}CodeKey"] = key
    templates = {f"{name}.yaml": root / "infra" / f"{name}.yaml" for name in STACKS}
    missing = [path for path in templates.values() if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: no such file. Restore it, or run the command in the project's folder.")
    version = content_digest(
        {name: path.read_bytes() for name, path in templates.items()} | dict.fromkeys(objects, b"")
    )
    moment = commit_seconds(root)
    return FunctionCode(objects, {**parameters, "ToolchainVersion": version + (f"{moment:08x}" if moment else "")})


def commit_seconds(root: Path) -> int:
    """Return when infra/ and src/ of a project's folder were last committed, in seconds since 1970.

    0 when git does not tell: files differ from the last commit, the clone is shallow, or there is no repository.
    """
    asked = (["status", "--porcelain", *PUBLISHED], ["rev-parse", "--is-shallow-repository"])
    try:
        changed, shallow = (git(root, *words) for words in asked)
        found = git(root, "log", "-1", "--format=%ct", "--", *PUBLISHED)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return 0
    return 0 if changed or shallow == "true" else int(found or 0)


def git(root: Path, *words: str) -> str:
    """Run git in a folder. Returns what it prints.

    Raises CalledProcessError when it fails, and FileNotFoundError without git.
    """
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def split_version(version: str) -> tuple[str, int]:
    """Return the digest in a ToolchainVersion, and the time of its commit in seconds since 1970; 0: unknown."""
    return version[:DIGEST_DIGITS], int(version[DIGEST_DIGITS:] or "0", 16)


def markers() -> dict[str, bytes]:
    """Return key in the bucket -> content of an object for each folder of the bucket that may otherwise be empty.

    Each is called .empty, and its content is a sentence. Without any object below a channel's S3 prefix, SageMaker
    fails the job.
    """
    return dict.fromkeys(MARKERS, PLACEHOLDER)


def content_digest(contents: Mapping[str, bytes]) -> str:
    """Return a digest of the names and contents of files, 32 hexadecimal digits; their order does not matter.

    - contents: name -> content.
    """
    return digest_of(f"{name} {len(data)} {data.hex()}" for name, data in sorted(contents.items()))[:32]


def tar_gz(contents: Mapping[str, bytes]) -> bytes:
    """Return files as the bytes of a .tar.gz, equal for equal files. contents: path in the archive -> content."""
    out = io.BytesIO()
    pack_into(out, contents)
    return out.getvalue()


def zipped(contents: Mapping[str, bytes]) -> bytes:
    """Return files as the bytes of a zip for Lambda, equal for equal files. contents: path in the zip -> content.

    Nothing is compressed: compressed bytes differ between versions of zlib.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in sorted(contents.items()):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            file.writestr(info, data)
    return out.getvalue()


def wheel_command(requirements: Path, folder: Path) -> list[str]:
    """Return the words of the pip command that downloads the wheels of a list of requirements.

    The wheels are for the Python of the jobs (3.12 on Linux, x86-64), whatever runs here.

    - requirements: the file with the list; pip checks each wheel against the hash in it, and adds no dependencies.
    - folder: where pip writes the wheels.
    """
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    target = ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp", *platforms]
    return [*pip, *target, "--dest", str(folder), "--requirement", str(requirements)]


def lacking_wheels(requirements: Path, files: Iterable[str]) -> list[str]:
    """Return the libraries of a list of requirements, as name==version, of which no wheel is among some files.

    - requirements: the file with the list.
    - files: names of wheels: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    there = {tuple(name.lower().split("-")[:2]) for name in files}
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        f"{name}=={version}"
        for name, version in pins
        if (re.sub(r"[-_.]+", "_", name).lower(), version.lower()) not in there
    ]


def download_wheels(requirements: Path, folder: Path) -> list[Path]:
    """Download the wheels of a list of requirements for the Python of the jobs. Returns their paths, sorted.

    - requirements: the file with the list, such as requirements-jobs.txt.
    - folder: where to write the wheels; it is made when it is missing. Wheels that it held before are returned too.

    Raises UserError when pip fails; pip prints the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(wheel_command(requirements, folder)).returncode:
        raise UserError(
            f"{requirements}: pip cannot download a wheel of this list, see above. Can this machine reach the package "
            "index?"
        )
    return sorted(folder.glob("*.whl"))
