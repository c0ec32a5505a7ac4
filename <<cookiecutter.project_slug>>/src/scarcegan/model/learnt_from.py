"""Whose labels a model has seen: a file of hashed user ids in the model's folder, so that it is never tested on them.

The hash hides names from a reader, not from somebody who can guess them: treat the file like the model itself.
"""

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np

from scarcegan.jsonfile import find_json, write_json

LEARNT_FROM = "learnt_from.json"


def hash_user(user: object) -> str:
    """The hash of a user id: 16 lower-case hexadecimal digits, equal for equal str(user)."""
    return blake2b(str(user).encode(), digest_size=8).hexdigest()


def record(folder: Path, users: Iterable[object]) -> None:
    """Write learnt_from.json into a model's folder, in place of an older one: a sorted JSON list of the users' hashes.

    users: ids of all users whose labels the model saw, in training or in validation; repeats are allowed. The folder
    is made when missing.
    """
    write_json(folder / LEARNT_FROM, sorted({hash_user(user) for user in users}))


def learnt_from(folder: Path, users: np.ndarray) -> np.ndarray:
    """bool [n]: for each of n user ids, whether the model in `folder` saw that user's label in training or validation.

    It compares hashes of the ids. All False when the folder has no learnt_from.json, or one that cannot be read or is
    not JSON.
    """
    seen = set(find_json(folder / LEARNT_FROM) or ())
    return np.array([hash_user(user) in seen for user in users], bool) if seen else np.zeros(len(users), bool)
