"""Two kinds of error: a user's mistake is shown as one sentence (exit code 2), a bug as a traceback (exit code 1)."""

import errno
import os
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
# The same for something odd in the place of a file or folder of ours.
MISPLACED = {
    errno.EISDIR: "a folder, where a file is needed. Move it away",
    errno.ENOTDIR: "a file, where a folder is needed. Move it away",
    errno.EEXIST: "a file, where a folder is needed. Move it away",
}
LONGEST_VALUE = 80


class UserError(Exception):
    """A mistake that the user can correct. The message says what is wrong, what was found, and what to do next."""


def run_step(main: Callable[[], object]) -> int:
    """Call a step's main and return the exit code of its process: 0, or 2 after an error message on stderr.

    Code 2 is for a UserError and for a system error that the user can correct (is_correctable), such as a full disk.

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

    Raises the error itself when it is a system error that the user cannot correct, as that is a bug.
    """
    if isinstance(error, UserError):
        return str(error)
    if not is_correctable(error):
        raise error
    subject = error.filename2 or error.filename or "a write failed"
    cause = (REFUSALS | MISPLACED)[error.errno or 0]
    return f"{subject}: {cause}, then run the same command again; finished steps are kept."


def is_correctable(error: OSError) -> bool:
    """Return whether a user can correct a system error: REFUSALS or MISPLACED lists it.

    Not so for a folder that should be made and exists already, which is a bug.
    """
    known_folder = error.errno == errno.EEXIST and error.filename is not None and os.path.isdir(error.filename)
    return error.errno in REFUSALS | MISPLACED and not known_folder


def shortened(value: object, most: int = LONGEST_VALUE) -> str:
    """Return a value as text for a message: as str() gives it, cut after `most` characters, with "…" in their place."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"


def short(digest: object) -> str:
    """Return the part of a digest or commit that people are shown and compare, as text."""
    return str(digest)[:12]
