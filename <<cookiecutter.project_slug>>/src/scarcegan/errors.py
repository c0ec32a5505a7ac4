"""The line between a user's mistake (one clear sentence, exit code 2) and a bug (a traceback, exit code 1)."""

import errno
import sys
from collections.abc import Callable

USER_ERROR = 2
REFUSALS = {
    errno.ENOSPC: "the disk is full. Free some space",
    errno.EDQUOT: "the disk quota is used up. Free some space",
    errno.EACCES: "permission denied. Give yourself the right to it",
    errno.EROFS: "the file system is read-only. Choose a folder you can write to",
}


class UserError(Exception):
    """A mistake the user can mend. The message gives the fact, what was there, and the next move."""


def run_step(main: Callable[[], object]) -> int:
    """Run a step's main; return 0, or 2 after printing the sentence of a user's mistake. Bugs pass through."""
    try:
        main()
    except (UserError, OSError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return USER_ERROR
    return 0


def sentence(error: UserError | OSError) -> str:
    """What to tell the user. An operating system error that is nobody's mistake but ours is raised again."""
    if isinstance(error, UserError):
        return str(error)
    if error.errno not in REFUSALS:
        raise error
    place = error.filename or "a write failed"
    return f"{place}: {REFUSALS[error.errno]}, then run the same command again; finished steps are kept."
