"""Before the first question: is this cookiecutter new enough for this template's delimiters?"""

import sys

from cookiecutter import __version__

NEEDED = (2, 6)


def new_enough(version: str) -> bool:
    """Whether a version such as "2.7.1" has what the template needs."""
    return tuple(int(part) for part in version.split(".")[:2]) >= NEEDED


if __name__ == "__main__" and not new_enough(__version__):
    sys.exit(f"This template needs cookiecutter 2.6 or newer, this is {__version__}. Type: pip install -U cookiecutter")
