"""Split: a user goes to training, validation or test, and to only one of them; test rows are of a later day.

Users, not rows, are split: neighbouring windows of one user in training and test would flatter recall. A user's split
follows from a hash of the name, ranked within its class, so it hardly changes when users are added: a champion of last
month is not tested on the users it was trained on. Training and validation users keep their first row, test users their
last one. Where rows are of several days, users seen on the last day only are left out.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scarcegan.data.class_sizes import Shares, class_too_small, users_to_split
from scarcegan.data.schema import (
    UNLABELLED,
    UNLABELLED_NAME,
    concatenate,
    iter_features,
    read_feature_categories,
    read_feature_names,
    read_keys,
    write_features,
)
from scarcegan.errors import UserError, run_step
from scarcegan.steps._arguments import parse_classes, parse_folders, parse_number
from scarcegan.steps._outputs import replacing_parts

TRAINING, VALIDATION, TEST = range(3)
LABELLED_OUT, UNLABELLED_OUT, VALIDATION_OUT, TEST_OUT, LEFT_OUT = range(5)
COPY_BATCH_ROWS = 50_000


def assign_splits(users: np.ndarray, label: np.ndarray, shares: Shares, seed: int) -> np.ndarray:
    """TRAINING, VALIDATION or TEST for each user, int8 [u].

    Users of the same label are ranked by a hash of their id and the seed: the first go to test, the next to validation,
    the rest to training. users [u]: ids. label int [u]: class of each user, or UNLABELLED.
    """
    place = np.full(len(users), TRAINING, np.int8)
    rank = user_hashes(users, seed)
    for one in np.unique(label):
        members = np.flatnonzero(label == one)
        members = members[np.argsort(rank[members], kind="stable")]
        _, validation, test = shares.sizes(len(members))
        place[members[:test]] = TEST
        place[members[test : test + validation]] = VALIDATION
    return place


def assign_folds(users: np.ndarray, label: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold from 0 to folds - 1 for each of u users, int8 [u]; each class is spread evenly over the folds.

    users [u]: ids of the labelled training users. label int [u]: class of each. seed: with the ids, it decides the
    folds.
    """
    fold = np.zeros(len(users), np.int8)
    rank = user_hashes(users, seed + 1)
    for one in np.unique(label):
        members = np.flatnonzero(label == one)
        members = members[np.argsort(rank[members], kind="stable")]
        fold[members] = np.arange(len(members)) % max(folds, 1)
    return fold


def user_hashes(users: np.ndarray, seed: int) -> np.ndarray:
    """A pseudo-random number per user, uint64 [u], which depends only on the user's id and the seed. users [u]: ids."""
    key = str(seed).encode()
    digests = b"".join(blake2b(str(user).encode(), digest_size=8, key=key).digest() for user in users)
    return np.frombuffer(digests, np.uint64)


def assign_rows_to_splits(
    user_id: np.ndarray, as_of: np.ndarray, label: np.ndarray, classes: Sequence[str], shares: Shares, seed: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Decide for each row which output it goes to; print days and counts of users to stderr.

    Each user gives one row to an output: its last row if it is a test user, otherwise its first. Its other rows are
    left out, and so are the users that users_to_split leaves out.

    - user_id, as_of, label [n]: user, day of observation and label (class position, or UNLABELLED) of each row, as
      users_to_split takes them.
    - classes: class names, in the order of their label positions. shares: how users are divided.
    - seed: with the user ids, it decides the split and the folds.
    Returns three things:
    - int8 [n]: the output of each row: LABELLED_OUT, UNLABELLED_OUT, VALIDATION_OUT, TEST_OUT, or LEFT_OUT for none.
    - int8 [n]: the label of the row's user where the row goes to an output, UNLABELLED if it has none.
    - {"user_id": ids, "fold": int8} of the labelled training users, two arrays of the same length.
    Raises UserError for a class with too few labelled users.
    """
    found = users_to_split(user_id, as_of, label)
    print_days(as_of, found.left_out)
    if small := class_too_small(Counter(found.label.tolist()), classes, shares):
        raise UserError(small)
    users, its_label = found.user_id, found.label
    row_label = np.full(len(user_id), UNLABELLED, np.int8)
    row_label[found.first] = row_label[found.last] = its_label
    place = assign_splits(users, its_label, shares, seed)
    row_to = np.full(len(user_id), LEFT_OUT, np.int8)
    training, labelled = place == TRAINING, its_label != UNLABELLED
    row_to[found.first[training & labelled]] = LABELLED_OUT
    row_to[found.first[training & ~labelled]] = UNLABELLED_OUT
    row_to[found.first[place == VALIDATION]] = VALIDATION_OUT
    row_to[found.last[place == TEST]] = TEST_OUT
    print_counts(its_label, place, classes)
    fold_users = users[training & labelled]
    return (
        row_to,
        row_label,
        {"user_id": fold_users, "fold": assign_folds(fold_users, its_label[training & labelled], shares.folds, seed)},
    )


def print_days(as_of: np.ndarray, left_out: int) -> None:
    """Print to stderr which days the rows are of, and, if any, how many users are left out.

    as_of [n]: day of observation of each row. left_out: number of users that were seen on the last day only.
    """
    if not as_of.min() < as_of.max():
        print("split: one day of observation, so users are split, not time", file=sys.stderr)
    else:
        print(f"split: training rows from {as_of.min()} on, test rows up to {as_of.max()}", file=sys.stderr)
    if left_out:
        print(f"split: {left_out:,} users seen on the last day only are left out", file=sys.stderr)


def print_counts(label: np.ndarray, place: np.ndarray, classes: Sequence[str]) -> None:
    """Print to stderr how many users of each class, and without a label, go to training, validation and test.

    label int [u]: class of each user, or UNLABELLED. place int [u]: TRAINING, VALIDATION or TEST. classes: class names,
    in the order of their label positions.
    """
    for position, name in [*enumerate(classes), (UNLABELLED, UNLABELLED_NAME)]:
        training, validation, test = np.bincount(place[label == position], minlength=3)
        print(f"split: {name}: {training:,} training, {validation:,} validation, {test:,} test users", file=sys.stderr)


def write_splits(features: Path, row_to: np.ndarray, label: np.ndarray, outputs: Sequence[Path]) -> None:
    """Write a feature table per output, with the rows that go there, in their order, and their users' labels.

    - features: folder of the table that is read.
    - row_to int [n]: for each of its rows the position in `outputs`, or LEFT_OUT: the row is not copied.
    - label int8 [n]: label of each row's user, which replaces the label in the table.
    - outputs: folders. One that gets no row gets an empty table; an older table is replaced at the end.
    Raises UserError when the table is missing, damaged, or its parts have different features.
    """
    parts, begin = [0] * len(outputs), 0
    with ExitStack() as stack:
        unfinished = [stack.enter_context(replacing_parts(folder)) for folder in outputs]
        for table in iter_features(features, COPY_BATCH_ROWS):
            its = row_to[begin : begin + len(table)]
            table = replace(table, label=label[begin : begin + len(table)])
            begin += len(table)
            for number, folder in enumerate(unfinished):
                if (its == number).any():
                    write_features(table.take(its == number), folder, parts[number])
                    parts[number] += 1
        nothing = concatenate([], read_feature_names(features), read_feature_categories(features))
        for number, folder in enumerate(unfinished):
            if not parts[number]:
                write_features(nothing, folder)


def parser() -> argparse.ArgumentParser:
    """The parser of this step's command line: its input folder, its output folders and its settings."""
    arguments = argparse.ArgumentParser(description=__doc__)
    add = arguments.add_argument
    add("--features", type=Path, required=True)
    for output in ("labelled", "unlabelled", "validation", "test", "folds"):
        add(f"--{output}-out", type=Path, required=True)
    add("--classes", type=parse_classes, required=True, help="names, the rare class last")
    add("--test-share", type=parse_number, required=True)
    add("--validation-share", type=parse_number, required=True)
    add("--folds", type=int, required=True)
    add("--seed", type=int, required=True)
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step: write four feature tables (labelled, unlabelled, validation, test) and folds.parquet, the fold of
    each labelled training user, and print days and counts of users to stderr.

    argv: the command line without the program's name; None: that of this process.
    Raises UserError for a feature table that is missing or damaged, shares that leave nothing for a split, or a class
    with too few users.
    """
    args = parse_folders(parser(), argv)
    if not 0 < args.test_share + args.validation_share < 1 or min(args.test_share, args.validation_share) <= 0:
        raise UserError(
            f"test share {args.test_share} and validation share {args.validation_share}: both above 0, and together "
            "below 1, or nothing is left for training. Correct split in config.yaml."
        )
    shares = Shares(args.test_share, args.validation_share, args.folds)
    row_to, label, folds = assign_rows_to_splits(*read_keys(args.features), args.classes, shares, args.seed)
    outputs = (args.labelled_out, args.unlabelled_out, args.validation_out, args.test_out)
    write_splits(args.features, row_to, label, outputs)
    args.folds_out.mkdir(parents=True, exist_ok=True)
    table = pa.table({"user_id": pa.array(folds["user_id"], pa.string()), "fold": pa.array(folds["fold"], pa.int8())})
    pq.write_table(table, args.folds_out / "folds.parquet")


if __name__ == "__main__":
    sys.exit(run_step(main))
