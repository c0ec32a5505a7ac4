"""After the project stands: the next three commands.

No repository is made: a project may be born inside one, and cruft bakes twice and compares the folders.
"""

import os
import shlex
from pathlib import Path


def as_typed(project: Path, shell: Path) -> str:
    """The project's folder as one would type it in a shell that stands in `shell`."""
    near = os.path.relpath(project, shell)
    return shlex.quote(str(project) if near.startswith("..") else near)


def next_commands(folder: str) -> str:
    """What a newcomer types next."""
    return f"""
{folder} is ready. Next:

    cd {folder}
    make local                      # the whole loop on this machine, with sample telemetry
    .venv/bin/scarcegan --help      # every verb, with an example
"""


if __name__ == "__main__":
    here = Path(os.environ.get("BAKED_INTO", Path.cwd().parent), Path.cwd().name)
    print(next_commands(as_typed(here, Path(os.environ.get("PWD", here.parent)))))
