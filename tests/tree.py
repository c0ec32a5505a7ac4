"""The list of files a project is made of: `make tree` writes it to tree.txt, test_bake.py compares."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bake import bake

LISTED = Path(__file__).with_name("tree.txt")


def tree(folder: Path) -> list[str]:
    """Paths of all files below a folder, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as out:
        LISTED.write_text("\n".join(tree(bake(Path(out)))) + "\n", encoding="utf-8")
