"""Whose labels a model has seen: hashed user ids beside the model, so that it is never tested on these users later.

The hash hides names from a reader, not from somebody who can guess them: treat the file like the model itself.
"""

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np

from scarcegan.jsonfile import find_json, write_json

LEARNT_FROM = "learnt_from.json"


def hash_user(user: object) -> str:
    """16 hexadecimal digits that stand for a user id."""
    return blake2b(str(user).encode(), digest_size=8).hexdigest()


def record(folder: Path, users: Iterable[object]) -> None:
    """Write folder/learnt_from.json: the hashes of the users whose labels a model saw, in training or in validation."""
    write_json(folder / LEARNT_FROM, sorted({hash_user(user) for user in users}))


def learnt_from(folder: Path, users: np.ndarray) -> np.ndarray:
    """bool [n]: for each of these n user ids, whether the model in `folder` saw that user's label.

    All False when the folder has no readable learnt_from.json.
    """
    seen = set(find_json(folder / LEARNT_FROM) or ())
    return np.array([hash_user(user) in seen for user in users], bool) if seen else np.zeros(len(users), bool)
