"""Two kinds of error: a user's mistake is shown as one sentence (exit code 2), a bug as a traceback (exit code 1)."""

import errno
import sys
from collections.abc import Callable

USER_ERROR = 2
# System errors that a user can correct: error number -> the cause and what to do.
REFUSALS = {
    errno.ENOSPC: "the disk is full. Free some space",
    errno.EDQUOT: "the disk quota is used up. Free some space",
    errno.EACCES: "permission denied. Give your user account access to it",
    errno.ELOOP: "the link leads back to itself. Correct it",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one",
    errno.EROFS: "the file system is read-only. Choose a folder you can write to",
}


LONGEST_VALUE = 80


class UserError(Exception):
    """A mistake that the user can correct. The message says what is wrong, what was found, and what to do next."""


def run_step(main: Callable[[], object]) -> int:
    """Call a step's main and return the exit code of its process: 0, or 2 after an error message on stderr.

    Code 2 is for a UserError and for a system error that the user can correct (REFUSALS: a full disk, no permission).

    Raises every other exception of `main` unchanged.
    """
    try:
        main()
    except (UserError, OSError) as error:
        print(f"error: {as_sentence(error)}", file=sys.stderr)
        return USER_ERROR
    return 0


def as_sentence(error: UserError | OSError) -> str:
    """Return the text to show to the user: a UserError's message, or what a system error means and what to do next.

    Raises the error itself when it is a system error that REFUSALS does not list, as that is a bug.
    """
    if isinstance(error, UserError):
        return str(error)
    if error.errno not in REFUSALS:
        raise error
    subject = error.filename or "a write failed"
    return f"{subject}: {REFUSALS[error.errno]}, then run the same command again; finished steps are kept."


def shortened(value: object, most: int = LONGEST_VALUE) -> str:
    """Return a value as text for a message: as str() gives it, cut after `most` characters, with "…" in their place."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"
