"""The KDD Cup 99 protocol: two gzip files in, labelled, unlabelled and test rows out. No model here; see variants.py.

Train is the 10 % file, test is `corrected`. A task is one attack family against normal traffic; the test keeps rows
that are normal or of an attack name seen in training, because the new R2L attacks are nearly all identical to normal
rows. Drawn by seed, with replacement, as in the ScarceGAN paper (CIKM 2021, arXiv 2505.03811).
"""

import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

TRAIN_FILE, TEST_FILE = "kddcup.data_10_percent.gz", "corrected.gz"
UNLABELLED_NORMAL = 92_000

HEADER = """
    duration protocol_type service flag src_bytes dst_bytes land wrong_fragment urgent hot num_failed_logins
    logged_in num_compromised root_shell su_attempted num_root num_file_creations num_shells num_access_files
    num_outbound_cmds is_host_login is_guest_login count srv_count serror_rate srv_serror_rate rerror_rate
    srv_rerror_rate same_srv_rate diff_srv_rate srv_diff_host_rate dst_host_count dst_host_srv_count
    dst_host_same_srv_rate dst_host_diff_srv_rate dst_host_same_src_port_rate dst_host_srv_diff_host_rate
    dst_host_serror_rate dst_host_srv_serror_rate dst_host_rerror_rate dst_host_srv_rerror_rate attack
"""
COLUMNS = tuple(HEADER.split())
TEXT = ("protocol_type", "service", "flag")
NUMERIC = tuple(name for name in COLUMNS[:-1] if name not in TEXT)  # 38
EIGHT = (
    "dst_bytes",
    "logged_in",
    "count",
    "srv_count",
    "dst_host_count",
    "dst_host_srv_count",
    "dst_host_same_srv_rate",
    "dst_host_same_src_port_rate",
)
FAMILIES = {
    "r2l": ["ftp_write", "guess_passwd", "imap", "multihop", "phf", "spy", "warezclient", "warezmaster"],
    "u2r": ["buffer_overflow", "loadmodule", "perl", "rootkit"],
}


@dataclass(frozen=True)
class Task:
    """One attack family against normal, by some features; how many labelled rows of either are drawn."""

    family: str
    features: tuple[str, ...]
    normal: int
    rare: int

    @property
    def name(self) -> str:
        return f"{self.family}-{len(self.features)}"


TASKS = (
    Task("r2l", EIGHT, 5_000, 1_000),
    Task("r2l", NUMERIC, 5_000, 1_000),
    Task("u2r", EIGHT, 2_500, 90),
    Task("u2r", NUMERIC, 2_500, 90),
)


@dataclass(frozen=True)
class Rows:
    """Rows of normal traffic and of one attack family: values float32 [n, d], attack names [n] ("normal" included)."""

    values: np.ndarray
    attack: np.ndarray

    @property
    def rare(self) -> np.ndarray:
        """bool [n]: is the row of the attack family?"""
        return self.attack != "normal"

    def take(self, rows: np.ndarray) -> "Rows":
        return Rows(self.values[rows], self.attack[rows])


@dataclass(frozen=True)
class Draw:
    """What a method is given (labelled, unlabelled values) and what it is asked about (test), for one seed.

    weights float [n] of the test rows: all one on the test file; held-out training rows have their own (held_out).
    """

    task: Task
    seed: int
    labelled: Rows
    unlabelled: np.ndarray
    test: Rows
    weights: np.ndarray


@lru_cache(maxsize=2)
def read(path: Path) -> pd.DataFrame:
    """One of the two files, columns named. Normal, R2L and U2R rows only; the flood of other attacks is left out.

    Raises SystemExit with one sentence when the file is missing, damaged or not of 42 columns.
    """
    try:
        table = pd.read_csv(path, header=None, compression="gzip", dtype={41: str}, low_memory=False)
    except FileNotFoundError:
        sys.exit(f"{path}: no such file. Give the folder that holds {TRAIN_FILE} and {TEST_FILE}: --data FOLDER")
    except (EOFError, OSError, zlib.error, pd.errors.ParserError, UnicodeDecodeError) as error:
        sys.exit(f"{path}: not a whole gzip of comma separated rows ({error}). Fetch the file again.")
    if table.shape[1] != len(COLUMNS):
        sys.exit(f"{path}: {table.shape[1]} columns, KDD Cup 99 has {len(COLUMNS)}. Is it another file?")
    table.columns = list(COLUMNS)
    table["attack"] = table["attack"].str.rstrip(".")
    wanted = ["normal", *FAMILIES["r2l"], *FAMILIES["u2r"]]
    return table[table["attack"].isin(wanted)].reset_index(drop=True)


def rows_of(table: pd.DataFrame, task: Task) -> Rows:
    """The task's rows in file order: normal and its family."""
    chosen = table[table["attack"].isin(["normal", *FAMILIES[task.family]])]
    return Rows(chosen[list(task.features)].to_numpy(np.float32), chosen["attack"].to_numpy(str))


def training_rows(folder: Path, task: Task) -> Rows:
    return rows_of(read(folder / TRAIN_FILE), task)


def test_rows(folder: Path, task: Task) -> Rows:
    """Rows of the test file that are normal or of an attack name that training knows."""
    rows = rows_of(read(folder / TEST_FILE), task)
    return rows.take(np.isin(rows.attack, np.unique(training_rows(folder, task).attack)))


def sample(train: Rows, task: Task, seed: int) -> tuple[Rows, np.ndarray]:
    """Labelled rows, and values of unlabelled ones: drawn with replacement; rare rows not drawn are unlabelled."""
    rng = np.random.default_rng([seed, len(task.features)])
    normal, rare = np.flatnonzero(~train.rare), np.flatnonzero(train.rare)
    drawn = rng.choice(rare, task.rare)
    labelled = np.concatenate([rng.choice(normal, task.normal), drawn])
    unlabelled = np.concatenate([rng.choice(normal, UNLABELLED_NORMAL), np.setdiff1d(rare, drawn)])
    return train.take(labelled), train.values[rng.permutation(unlabelled)]


def draw(folder: Path, task: Task, seed: int) -> Draw:
    """The protocol itself: train from the 10 % file, test on the labelled test file."""
    labelled, unlabelled = sample(training_rows(folder, task), task, seed)
    test = test_rows(folder, task)
    return Draw(task, seed, labelled, unlabelled, test, np.ones(len(test.attack)))


def held_out(folder: Path, task: Task, seed: int, left_out: Sequence[str] = ()) -> Draw:
    """The same, wholly inside the 10 % file, for choosing settings: no row of the test file is read.

    A third of the normal rows (whole stretches of the file, so that times differ) and half of the distinct rows of
    every attack name are asked about. Equal rows stay on one side. Every name weighs the same, because the mix of
    attacks will change; together they are as rare as the family is in the file. left_out: attack names that are
    only asked about, never trained on.
    """
    rows = training_rows(folder, task)
    rng = np.random.default_rng([seed, 99])
    _, same = np.unique(rows.values, axis=0, return_inverse=True)
    kept = rng.random(same.max() + 1)[same] < 0.5
    stretch = np.arange(len(rows.attack)) * 30 // len(rows.attack)
    asked = np.where(rows.rare, kept, np.isin(stretch, rng.choice(30, 10, replace=False)))
    asked |= np.isin(rows.attack, list(left_out))
    wanted = list(left_out) or np.unique(rows.attack[rows.rare])
    test = rows.take(asked & (~rows.rare | np.isin(rows.attack, wanted)))
    labelled, unlabelled = sample(rows.take(~asked), task, seed)
    return Draw(task, seed, labelled, unlabelled, test, by_name(test.attack, rows.rare.sum() / (~rows.rare).sum()))


def later(folder: Path, task: Task, seed: int, normal: bool = False) -> Draw:
    """As held_out, but every attack name is cut in two by its place in the file: one half trains, the other is asked.

    Rows of one attack stand together, so this half is of other attacks under the same name. Even seeds train on the
    first half, odd ones on the second. normal: normal traffic is cut the same way, so it is of another time too.
    """
    rows = training_rows(folder, task)
    rng = np.random.default_rng([seed, 99])
    _, same = np.unique(rows.values, axis=0, return_inverse=True)
    asked = np.zeros(len(rows.attack), bool)
    for name in np.unique(rows.attack if normal else rows.attack[rows.rare]):
        first, second = np.array_split(np.flatnonzero(rows.attack == name), 2)
        asked[first if seed % 2 else second] = True
    if not normal:
        stretch = np.arange(len(rows.attack)) * 30 // len(rows.attack)
        asked |= ~rows.rare & np.isin(stretch, rng.choice(30, 10, replace=False))
    asked &= ~(rows.rare & np.isin(same, same[~asked & rows.rare]))
    labelled, unlabelled = sample(rows.take(~asked), task, seed)
    test = rows.take(asked)
    return Draw(task, seed, labelled, unlabelled, test, by_name(test.attack, rows.rare.sum() / (~rows.rare).sum()))


def by_name(attack: np.ndarray, odds: float) -> np.ndarray:
    """Weights: 1 for a normal row; attack names weigh alike, together `odds` times as much as the normal rows."""
    names, place, counts = np.unique(attack, return_inverse=True, return_counts=True)
    normal = names == "normal"
    each = odds * counts[normal].sum() / max((~normal).sum(), 1) / counts
    return np.where(normal, 1.0, each)[place]
