"""The repository round the project: what its README and requirements say is so."""

import json
import re
import shutil
import subprocess
from pathlib import Path

from conftest import PROJECT, ROOT

from bake import listed_by_git, walked

README = (ROOT / "README.md").read_text(encoding="utf-8")


def tracked() -> list[str]:
    """What git tracks or would track; all but caches in a template that came as an archive."""
    return listed_by_git((".",)) or walked((".",))


def pins(requirements: str) -> dict[str, set[str]]:
    """Package -> its pinned versions (one per marker)."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", requirements, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_the_readmes_tree_names_everything_at_the_top_and_nothing_else():
    tree = re.search(r"```\n(cookiecutter\.json.*?)```", README, re.DOTALL)
    assert tree
    named = {name.strip().rstrip("/") for line in tree[1].splitlines() for name in re.split(r"  +", line)[0].split(",")}
    top = {name.split("/")[0] for name in tracked()} - {"README.md", "LICENSE", ".gitignore", ".gitattributes"}
    assert named == top


def test_version_changelog_and_the_recorded_version_say_the_same():
    version = (ROOT / "VERSION").read_text(encoding="utf-8").removesuffix("\n")
    changes = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    questions = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version)
    assert version == changes[0] == questions["_version"]


def targets(makefile: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):.*##", makefile.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_make_target_the_readme_names_can_be_made():
    """Here; in two chapters, in a generated project."""
    in_a_project = {"Take later changes of the template", "Then AWS"}
    for title, text in re.findall(r"(?ms)^## ([^\n]+)(.*?)(?=^## |\Z)", README):
        makefile = ROOT / PROJECT / "Makefile" if title in in_a_project else ROOT / "Makefile"
        named = set(re.findall(r"(?:`|^    )make ([a-z0-9-]+)", text, re.MULTILINE))
        assert named <= targets(makefile)
        assert named or title not in in_a_project


def test_the_table_for_forks_names_every_file_that_knows_the_metric_f_beta():
    rows = README.partition("| another metric")[2].partition("\n| another model")[0]
    project = ROOT / PROJECT
    files = [ROOT / name for name in tracked() if name.startswith(f"{PROJECT}/")]
    texts = {path.relative_to(project).as_posix(): path.read_text(encoding="utf-8") for path in files}
    knowing = {name for name, text in texts.items() if re.search(r"\bf_beta\b", text)}
    named = set(re.findall(r"`([\w/]+\.\w+)`", rows))
    assert [name for name in named if not (project / name).is_file()] == []
    assert knowing - named == {"tests/steps/test_evaluate.py"}, "which looks at one metric of many"


def test_files_the_readme_links_to_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_template_and_the_project_pin_the_same_versions():
    """Both are installed into one environment for the tests."""
    ours = pins((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    theirs = pins((ROOT / PROJECT / "requirements-cloud.txt").read_text(encoding="utf-8"))
    assert "cookiecutter" in ours and "tensorflow" in theirs
    assert {
        name: (ours[name], theirs[name]) for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]
    } == {}


def test_a_laptop_and_a_job_have_the_versions_the_whole_list_names():
    whole, laptop, job = (
        pins((ROOT / PROJECT / f"requirements{kind}.txt").read_text(encoding="utf-8"))
        for kind in ("-cloud", "", "-jobs")
    )
    assert {name: versions for name, versions in laptop.items() if versions != whole.get(name)} == {}
    assert {name: versions for name, versions in job.items() if not versions <= whole.get(name, set())} == {}
    assert "sagemaker" in whole and "sagemaker" not in laptop and "sagemaker" not in job
    assert "tensorflow" not in job, "the image of a job brings its own"


def test_requirements_name_no_host_and_no_path_of_a_machine():
    for path in (ROOT / "requirements.txt", *(ROOT / PROJECT).glob("requirements*.txt")):
        assert not re.search(r"https?:|file:|^--|/", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_make_works_in_a_folder_with_spaces_in_its_name(tmp_path):
    folder = tmp_path / "my house"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    said = subprocess.run(["make", "help"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^demo +\w", said, re.MULTILINE) and "bench-kddcup99" in said
