"""The tests of the rooms that changed since the last commit, or in it when nothing has changed since: for `make quick`.

`python tests/helpers/changed.py` prints their paths, a line each.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALWAYS = ("tests/test_house.py", "tests/test_readme.py")  # seconds, and they see every file
BESIDE = {"notebooks": "tests/test_notebook*.py", "infra": "tests/infra", "config.yaml": "tests/pipeline"}


def changed_files() -> list[str]:
    """Paths from the project's folder of files that differ from the last commit, new ones included.

    When none does: the files of the last commit, which may be none in this folder. Without an earlier commit, or
    outside a git repository: every file below src.
    """
    now = git("diff", "--name-only", "--relative", "HEAD") + git("ls-files", "--others", "--exclude-standard")
    if now or git("rev-parse", "--quiet", "--verify", "HEAD~1"):
        return now or git("diff", "--name-only", "--relative", "HEAD~1", "HEAD")
    return [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "src").rglob("*.py"))]


def git(*words: str) -> list[str]:
    """The lines that a git command prints; none when it fails."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else []


def tests_of(file: str) -> str:
    """The tests of a changed file as a path that may hold a star, "" when it has none.

    A room's tests lie in tests/<room>, those of a file beside the rooms in tests/test_<file>*.py.
    """
    first, *rest = file.split("/")
    if first == "tests":
        return file if Path(file).name.startswith("test_") and file.endswith(".py") else ""
    if first == "src" and len(rest) > 2:
        return f"tests/{rest[1]}"
    if first == "src" and len(rest) == 2:
        return f"tests/test_{Path(rest[1]).stem}*.py"
    return BESIDE.get(first, "")


def tests(files: list[str]) -> list[str]:
    """What pytest is given for these files: each path once, and no file of a folder that is given whole."""
    found = {*ALWAYS, *(tests_of(file) for file in files)} - {""}
    there = {path.relative_to(ROOT).as_posix() for pattern in found for path in ROOT.glob(pattern)}
    return sorted(path for path in there if not there & {str(above) for above in Path(path).parents})


if __name__ == "__main__":
    print("\n".join(tests(changed_files())))
