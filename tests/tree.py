"""The list of files a project is made of: `make tree` writes it to tree.txt, test_bake.py compares."""

import tempfile
from pathlib import Path

from cookiecutter.main import cookiecutter


def tree(folder: Path) -> list[str]:
    """Paths of all files below a folder, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as out:
        print("\n".join(tree(Path(cookiecutter(str(Path(__file__).parents[1]), no_input=True, output_dir=out)))))
