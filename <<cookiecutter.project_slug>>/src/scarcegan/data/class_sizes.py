"""Class sizes: how many labelled users each class needs, so that training, validation and test get some of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scarcegan.data.schema import UNLABELLED


@dataclass(frozen=True)
class Shares:
    """How users are split. The values are not checked here.

    - test, validation: shares, between 0 and 1, of the users of each class (users without a label count as one class);
      the rest are training users.
    - folds: into how many folds the labelled training users are divided.
    """

    test: float
    validation: float
    folds: int

    def sizes(self, users: int) -> tuple[int, int, int]:
        """How many of the `users` users of one class go to (training, validation, test).

        Validation and test get their shares, rounded, but at least one user each; training gets the rest, which may be
        0 or negative when there are fewer than three.
        """
        test = max(round(self.test * users), 1)
        validation = max(round(self.validation * users), 1)
        return users - validation - test, validation, test

    def fewest(self) -> int:
        """The smallest number of users of one class for which training gets at least one per fold, and at least two."""
        return next(users for users in range(3, 10**9) if self.sizes(users)[0] >= max(self.folds, 2))


def class_too_small(counts: Mapping[int, int], classes: Sequence[str], shares: Shares) -> str:
    """A sentence or two about the first class with fewer labelled users than shares.fewest(); "" when each has enough.

    counts: class position -> number of labelled users. classes: class names, in the order of their label positions.
    """
    for position, name in enumerate(classes):
        count, fewest = counts.get(position, 0), shares.fewest()
        if count < fewest:
            if shares.folds > 2 and replace(shares, folds=2).fewest() <= count:
                move = "Label more users, or lower split.folds in config.yaml."
            elif not count:
                move = "Say under data.labels where their labels are, or bring more days of these users."
            else:
                move = "Label more users."
            return (
                f"class '{name}' has {count} labelled {'user' if count == 1 else 'users'} with a row to train on; "
                f"{fewest} are the fewest for "
                f"{shares.folds} folds, a validation share of {shares.validation} and a test share of {shares.test}. "
                f"{move}"
            )
    return ""


@dataclass(frozen=True)
class SplitUsers:
    """The u users that a split divides, with the positions of their rows. The arrays are [u].

    - user_id: ids, ascending
    - first, last: the positions of each user's earliest and latest row
    - label: class position of the user, UNLABELLED for none
    - left_out: how many users were seen on the last day only and are not among the u
    """

    user_id: np.ndarray
    first: np.ndarray
    last: np.ndarray
    label: np.ndarray
    left_out: int


def users_to_split(user_id: np.ndarray, as_of: np.ndarray, label: np.ndarray) -> SplitUsers:
    """The users of n rows that a split may divide.

    When there are several days, a user with rows on the last day only is left out: training on it would use the future.

    user_id, as_of, label [n]: user, day of observation and label (class position, or UNLABELLED) of each row. A user
    may have several rows and a label in only one of them; the label then counts for all (the highest, if they differ).
    """
    users, user = np.unique(user_id, return_inverse=True)
    first, last = first_and_last_rows(user, as_of)
    its_label = np.full(len(users), UNLABELLED, np.int8)
    np.maximum.at(its_label, user, label)
    if len(as_of) and as_of.min() < as_of.max():
        usable = np.flatnonzero(as_of[first] < as_of.max())
    else:
        usable = np.arange(len(users))
    left_out = len(users) - len(usable)
    return SplitUsers(users[usable], first[usable], last[usable], its_label[usable], left_out)


def first_and_last_rows(user: np.ndarray, as_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of each user's earliest row, int [u], and of its latest row, int [u], in the order of the users'
    numbers.

    user int [n]: the user of each row, numbered from 0 to u - 1 without gaps. as_of [n]: the day of each row.
    """
    order = np.lexsort((as_of, user))
    starts = np.flatnonzero(np.diff(user[order], prepend=-1))
    stops = np.append(starts[1:], len(order)) - 1
    return order[starts], order[stops]
