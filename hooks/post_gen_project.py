"""After the project stands: the next three commands. No repository is made; `git init` is yours to type."""

import json

# Doubly JSON-encoded; see pre_gen_project.py.
ANSWERS = "<< (cookiecutter | jsonify | jsonify)[1:-1] >>"


def next_commands(slug: str) -> str:
    """What a newcomer types next."""
    return f"""
{slug}/ is ready. Next:

    cd {slug}
    make local                      # the whole loop on this machine, with sample telemetry
    .venv/bin/scarcegan --help      # every verb, with an example
"""


if __name__ == "__main__":
    print(next_commands(json.loads(ANSWERS)["project_slug"]))
