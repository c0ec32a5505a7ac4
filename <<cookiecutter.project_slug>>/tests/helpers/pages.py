"""The pages that people read, README.md and docs/*.md, as text: chapters, headings, links, commands, rights."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
PERMISSIONS = "docs/permissions.md"


def text_of(page: str) -> str:
    """The text of a page. page: its path in the project's folder."""
    return (ROOT / page).read_text(encoding="utf-8")


def chapter(title: str, page: str = "README.md") -> str:
    """The text of a chapter, up to the next one of the same level."""
    return text_of(page).partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def anchors(page: str) -> set[str]:
    """What a link may name behind the #: each heading as GitHub and GitLab write it."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> Iterator[tuple[str, str]]:
    """(path in the project's folder, what stands behind the #) of each link to a file; "" for what is left out."""
    for link in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            yield str(target.resolve().relative_to(ROOT)), anchor


def commands(page: str) -> Iterator[str]:
    """Each `scarcegan …` that a page shows, in a block or in a line, without what follows it: a comment, a file."""
    text = re.sub(r" *\\\n +", " ", text_of(page))
    typed = re.findall(r"^ {4,}(scarcegan .*)$", text, re.MULTILINE)
    typed += [" ".join(found.split()) for found in re.findall(r"`(scarcegan [^`]+)`", text)]
    for words in typed:
        yield re.sub(r"( +#| >).*", "", words)


def actions(*titles: str) -> set[str]:
    """The actions of IAM that chapters of docs/permissions.md list, one a line; of all chapters without titles."""
    texts = [chapter(title, PERMISSIONS) for title in titles] or [text_of(PERMISSIONS)]
    assert all(texts), f"a chapter of {titles} is not there"
    return {action for text in texts for action in re.findall(r"^ {4}([\w-]+:\w+)", text, re.MULTILINE)}
