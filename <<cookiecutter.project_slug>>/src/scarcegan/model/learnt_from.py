"""Whom a model has learnt from: hashed user ids beside the model, so that it is never tested on them later.

The hash hides names from a reader, not from somebody who can guess them: treat the file like the model itself.
"""

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np

from scarcegan.jsonfile import find_json, write_json

FILE = "learnt_from.json"


def fingerprint(user: object) -> str:
    """16 hexadecimal digits."""
    return blake2b(str(user).encode(), digest_size=8).hexdigest()


def record(folder: Path, users: Iterable[object]) -> None:
    """Write the users whose labels a model saw, in training or in validation, beside its model.json."""
    write_json(folder / FILE, sorted({fingerprint(user) for user in users}))


def learnt_from(folder: Path, users: np.ndarray) -> np.ndarray:
    """bool [n]: which of these users the model in a folder saw the labels of; none when it kept no record."""
    seen = set(find_json(folder / FILE) or ())
    return np.array([fingerprint(user) in seen for user in users], bool) if seen else np.zeros(len(users), bool)
