"""What is uploaded: the same tree gives the same keys, only what a job may read is in it, functions stand alone."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from job_folders import SOURCE
from scarcegan.errors import UserError
from scarcegan.pipeline import code
from scarcegan.sagemaker import bundle

ROOT = SOURCE.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's sources that a test may change."""
    shutil.copytree(SOURCE, tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / bundle.REQUIREMENTS).write_text("numpy==2.5.5\n", encoding="utf-8")
    return tmp_path


def names(found: bundle.Bundle) -> set[str]:
    data = next(data for key, data in found.objects.items() if key.endswith("source.tar.gz"))
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        return set(file.getnames())


def append(path: Path, text: str = "\n# changed\n") -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_the_same_tree_gives_the_same_objects_whenever_and_wherever_it_lies(project, tmp_path_factory):
    before = bundle.code_bundle(project)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(project, elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (1, 1))
    (elsewhere / "src/scarcegan/__pycache__").mkdir()
    (elsewhere / "src/scarcegan/__pycache__/cli.cpython-312.pyc").write_bytes(b"cache")
    assert bundle.code_bundle(elsewhere) == before
    archive = before.objects[f"code/{before.digest}/source.tar.gz"]
    assert archive[4:8] == bytes(4), "the time in the head of a gzip file"
    assert set(before.objects) == {f"code/{before.digest}/source.tar.gz", f"code/{before.digest}/job.sh"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["steps/split.py", "monitoring/windows.py", "report/style.css", "sagemaker/job.py", "sagemaker/job.sh"]
)
def test_what_a_job_reads_changes_the_key(project, name):
    before = bundle.code_bundle(project)
    append(project / "src/scarcegan" / name)
    assert bundle.code_bundle(project).digest != before.digest


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["cli/main.py", "workspace.py", "sagemaker/compiler.py", "pipeline/config.py", "steps/register.py"]
)
def test_what_no_job_reads_leaves_every_steps_cache_as_it_was(project, name):
    before = bundle.code_bundle(project)
    append(project / "src/scarcegan" / name)
    assert bundle.code_bundle(project) == before


def test_other_libraries_are_another_place_of_wheels_and_another_key_of_code(project):
    before = bundle.code_bundle(project)
    append(project / bundle.REQUIREMENTS, "duckdb==2.0.0\n")
    after = bundle.code_bundle(project)
    assert after.wheels != before.wheels and after.digest != before.digest


def test_without_the_list_of_libraries_nothing_is_bundled_and_the_way_out_is_named(project):
    (project / bundle.REQUIREMENTS).unlink()
    with pytest.raises(UserError, match=r"requirements-jobs.txt: not there.*make lock"):
        bundle.code_bundle(project)


def test_whatever_a_bundled_file_imports_of_the_package_is_bundled(project):
    bundled = names(bundle.code_bundle(project))
    for name in sorted(bundled):
        if name.endswith(".py"):
            module = name.removeprefix("src/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            for needed in code.code_files(module, (project / "src",)):
                assert needed.relative_to(project).as_posix() in bundled


def test_every_library_a_job_imports_is_in_its_list_or_comes_with_the_image():
    """TensorFlow's image brings TensorFlow and what that needs; boto3 is the toolkit's."""
    listed = set(re.findall(r"^([\w.-]+)==", (ROOT / bundle.REQUIREMENTS).read_text(encoding="utf-8"), re.MULTILINE))
    called = {"sklearn": "scikit-learn", "mlflow": "mlflow-skinny"}
    files = bundle.job_files(SOURCE)
    imported = {
        name for path in files.values() if path.suffix == ".py" for name in code.imported_libraries(path, (SOURCE,))
    }
    local_only = {"sqlalchemy"}  # registry/database.py, for a database file: jobs log to a server
    assert {called.get(name, name) for name in imported} - listed - {"tensorflow"} == local_only


def test_the_list_of_a_job_pins_a_hash_of_everything_and_follows_pyproject():
    text = (ROOT / bundle.REQUIREMENTS).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 40
    assert [
        entry for entry in entries if not re.match(r"[\w.-]+==\S+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\\n)?)+$", entry)
    ] == []
    groups = tomllib.loads(re.sub(r"<< .*? >>", "x", (ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    assert {f"{name}==" for name in groups["dependency-groups"]["jobs"]} <= set(
        re.findall(r"^[\w.-]+==", text, re.MULTILINE)
    )


def test_wheels_are_fetched_for_the_image_whole_and_never_built_here(tmp_path):
    words = bundle.wheel_command(Path("list.txt"), tmp_path)
    told = dict(pairwise(words))
    assert told["--only-binary"] == ":all:" and told["--python-version"] == "3.12"
    assert "manylinux_2_28_x86_64" in words and "--no-deps" in words


def test_the_register_functions_zip_needs_nothing_but_python_and_itself(tmp_path):
    found = bundle.lambda_bundle(ROOT, "register")
    [(key, data)] = found.objects.items()
    assert re.fullmatch(r"functions/register-[0-9a-f]{32}\.zip", key)
    assert bundle.lambda_bundle(ROOT, "register") == found
    (tmp_path / "function.zip").write_bytes(data)
    told = "from scarcegan.sagemaker.register_function import handler; print('stands')"
    program = f"import sys; sys.path.insert(0, sys.argv[1]); {told}"
    command = [sys.executable, "-I", "-S", "-c", program, str(tmp_path / "function.zip")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "stands\n", done.stderr


def test_other_functions_are_single_files_and_an_unknown_one_is_refused(project):
    (project / "infra/lambdas").mkdir(parents=True)
    (project / "infra/lambdas/rare_share.py").write_text("def handler(event, context): ...\n", encoding="utf-8")
    assert bundle.lambda_names(project) == ["register", "rare-share"]
    [key] = bundle.lambda_bundle(project, "rare-share").objects
    assert key.startswith("functions/rare-share-")
    with pytest.raises(UserError, match=r"no such Lambda function. There are: register, rare-share"):
        bundle.lambda_bundle(project, "rare")


def test_every_place_a_job_may_read_has_something_in_it_from_the_start():
    assert {"empty/.empty", "champion/.empty", "data/telemetry/.empty", "data/labels/.empty"} == set(bundle.markers())
    assert all(bundle.markers().values()), "an object without content might be skipped"


def test_a_toolchains_version_has_the_time_of_its_commit_only_where_git_tells_it(tmp_path):
    assert bundle.commit_seconds(tmp_path) == 0, "no repository"
    words = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    environment = {**os.environ, **words, "GIT_COMMITTER_DATE": "@1700000000 +0000"}

    def git(folder, *asked):
        subprocess.run(["git", "-C", str(folder), *asked], env=environment, check=True, capture_output=True)

    first, copy = tmp_path / "first", tmp_path / "copy"
    for name in ("infra/a.yaml", "src/a.py"):
        (first / name).parent.mkdir(parents=True)
        (first / name).write_text("a")
    git(tmp_path, "init", "-q", str(first))
    git(first, "add", "-A")
    git(first, "commit", "-qm", "first")
    assert bundle.commit_seconds(first) == 1_700_000_000
    environment["GIT_COMMITTER_DATE"] = "@1700009999 +0000"
    git(first, "commit", "-qm", "nothing there", "--allow-empty")
    assert bundle.commit_seconds(first) == 1_700_000_000, "a commit that changes neither folder"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{first}", str(copy))
    assert bundle.commit_seconds(copy) == 0, "a shallow clone"
    (first / "src/a.py").write_text("b")
    assert bundle.commit_seconds(first) == 0, "changed since"


def test_a_toolchains_version_is_split_into_digest_and_time():
    assert bundle.split_version(f"{'0a' * 16}6553f100") == ("0a" * 16, 1_700_000_000)
    assert bundle.split_version("0a" * 16) == ("0a" * 16, 0)
    assert bundle.split_version("") == ("", 0)
