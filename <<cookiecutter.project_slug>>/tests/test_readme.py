"""README.md names the files that are there: in its tree, in "Where do I find …?", and in links, as docs/ does."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import house
from pages import PAGES, anchors, chapter, links, text_of

ROOT = house.ROOT
FILES_OF = ("src/scarcegan", "infra", "notebooks", "docs")  # folders whose every file has a line
FOLDERS_OF = "tests"  # a line for each of its folders
LONGEST = 100  # characters of what a line says of its file
PACKAGE = "src/scarcegan/"


def tree(text: str) -> dict[str, str]:
    """Path -> what its line says, of a tree in a code block; a folder's path ends with "/"."""
    found, above = {}, [""]
    for line in text.partition("```\n")[2].partition("```")[0].splitlines():
        parts = re.fullmatch(r"( *)(\S+) +(\S.*)", line)
        assert parts, f"no name with words behind it: {line}"
        indent, name, words = parts.groups()
        depth = len(indent) // 2
        path = above[depth] + name
        above[depth + 1 :] = [path]
        assert path not in found, f"{path} has two lines"
        found[path] = words
    return found


def files_on_disk() -> Iterator[str]:
    """Files of the folders FILES_OF that are no empty package file and no cache, and the folders of tests."""
    for folder in FILES_OF:
        for path in (ROOT / folder).rglob("*"):
            inner = path.relative_to(ROOT)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in inner.parts)
            if path.is_file() and not hidden and not (path.name == "__init__.py" and not path.stat().st_size):
                yield inner.as_posix()
    for path in (ROOT / FOLDERS_OF).iterdir():
        if path.is_dir() and not path.name.startswith((".", "__")):
            yield f"{FOLDERS_OF}/{path.name}/"


def committed_at_the_top() -> set[str]:
    """Files beside the folders that git knows; none outside of a repository, where a user's own may lie there too."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    return {name for name in names if "/" not in name} - {".cruft.json", ".template.yaml"}


TREE = tree(chapter("What lies where"))
ANSWERS = [line for line in chapter("Where do I find …?").splitlines() if line.startswith("| ") and "`" in line]


def test_every_file_has_a_line_in_the_tree():
    assert sorted({*files_on_disk(), *committed_at_the_top()} - TREE.keys()) == []


def test_every_line_of_the_tree_names_a_file_or_folder_that_is_there():
    missing = [path for path in TREE if not (ROOT / path).exists() or (ROOT / path).is_dir() != path.endswith("/")]
    assert missing == []


def test_a_line_of_the_tree_is_short():
    assert [path for path, words in TREE.items() if len(words) > LONGEST] == []


def test_the_tree_has_the_rooms_from_top_to_bottom_with_the_purpose_of_each():
    rooms = [path.removeprefix(PACKAGE) for path in TREE if re.fullmatch(rf"{PACKAGE}(?!__init__)[^/]+(/|\.py)", path)]
    names = [room.removesuffix("/").removesuffix(".py") for room in rooms]
    floors = [set(floor) for floor in house.FLOORS]
    assert sorted(names, key=house.floor_of) == names and set(names) == set().union(*floors)
    purposes = {room: words for floor in house.FLOORS for room, words in floor.items()}
    said = {room[:-1]: TREE[PACKAGE + room] for room in rooms if room.endswith("/")}
    assert said == {room: purposes[room] for room in said}


def definitions(path: Path) -> set[str]:
    """Names of a file's functions, classes and values at the top, and of methods as Class.method."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("line", ANSWERS, ids=lambda line: line.split("|")[1].strip())
def test_an_answer_names_files_that_are_there_and_functions_that_they_define(line):
    """A function stands behind its file. A path is relative to src/scarcegan or to the project's folder."""
    file = None
    for name in re.findall(r"`([^`]+)`", line.split("|")[2]):
        if re.search(r"\.(py|sh|yaml|md)$", name):
            file = next((place for place in (ROOT / PACKAGE / name, ROOT / name) if place.is_file()), None)
            assert file, f"there is no {name}"
        else:
            assert file and name in definitions(file), f"{file} defines no {name}"


def test_the_chapter_answers_questions():
    assert len(ANSWERS) > 10


def test_the_glossary_has_at_most_fifteen_words():
    words = re.findall(r"^\| \*\*.+\*\* \|", chapter("Words"), re.MULTILINE)
    assert 10 < len(words) <= 15


@pytest.mark.parametrize("page", [*PAGES, "SECURITY.md", "CONTRIBUTING.md"])
def test_files_and_chapters_that_a_page_links_to_are_there(page):
    found = list(links(page))
    assert [path for path, _ in found if not (ROOT / path).is_file()] == []
    assert [(path, anchor) for path, anchor in found if anchor and anchor not in anchors(path)] == []


@pytest.mark.parametrize("page", sorted({*PAGES} - {"README.md"}))
def test_the_readme_leads_to_every_page_of_docs(page):
    assert page in {path for path, _ in links("README.md")}


def test_the_readme_links_at_its_top_how_each_claim_was_checked():
    assert "(docs/claims.md)" in text_of("README.md").partition("\n## ")[0]
    rows = [line for line in text_of("docs/claims.md").splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 30 and all(re.fullmatch(r"\| [^|]+ \| [^|]+ \|", row) for row in rows)


def test_files_of_the_tests_that_prove_a_claim_are_there():
    named = re.findall(r"`((?:tests|infra|pipeline)/[\w/]+\.\w+)`", text_of("docs/claims.md"))
    assert len(named) > 2
    assert [name for name in named if not any((ROOT / top / name).is_file() for top in ("", PACKAGE))] == []
