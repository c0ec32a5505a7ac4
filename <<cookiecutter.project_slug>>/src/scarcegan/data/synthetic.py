"""Synthetic telemetry: reproducible players, a rare risky kind among them, with weak labels and unlabelled behaviours.

Every user depends on the seed and the user's number alone: users are drawn in blocks of fixed size, each with its own
random generator, and a block is always drawn as a whole, even when only some of its users are needed. So the first
10,000 of 1,000,000 users are the 10,000 users of a smaller call, and memory does not grow with the number of users.
Only which users have a label, and which label, depends on the number of users.

The behaviours (means over days; HABITS has the medians that they are drawn from):

    behaviour     share   days played  minutes  deposits  wagers  at night
    dormant       36 %    9 %              2       0.2       1     9 %      three in ten stop playing over time
    normal        43 %    37 %            18         4      23    15 %      a tenth stop playing
    heavy         18 %    71 %            79        24     169    22 %
    risky          1 %    65 %            69        33     168    38 %      deposits and nights grow, bursts of both
    bot          0.8 %    96 %           354         2     176    30 %      never labelled
    bonus_hunter 0.8 %    41 %             9         5      27     7 %      never labelled

A fifth of heavy and of normal players grow in deposits alone, another fifth in nights alone, and more strongly than
risky ones do. Labels: half the risky players (at least 40), 4 % of all users for each other class, 6 % of them wrong.
Of 10,000 users, on the labelled 40 % held out, logistic regression on the features ranks risky players with a PR-AUC of
about 0.55, extra trees of about 0.63 (some thirty risky players are left to learn from).
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from scarcegan.data.telemetry import is_weekend

CLASSES = ("dormant", "normal", "heavy", "risky")
NEVER_LABELLED = ("bot", "bonus_hunter")
BEHAVIOURS = CLASSES + NEVER_LABELLED
SHARES = (0.36, 0.434, 0.18, 0.010, 0.008, 0.008)
COUNTERS = ("sessions", "minutes", "deposits", "wagers", "night_minutes")
BLOCK_USERS = 1_000
PART_USERS = 5_000
LABELLED_SHARE = 0.04  # of all users, for each negative class
WRONG_SHARE = 0.06  # of the labels


@dataclass(frozen=True)
class Habits:
    """How one kind of player plays: medians over its users. Each user draws a level of their own around them.

    - active: chance to play on a weekday
    - sessions: number per active day
    - minutes: per session
    - stake: amount wagered per minute
    - deposit_chance: chance of a deposit per active day
    - deposit: amount of one deposit
    - night: share of the minutes that is between midnight and six
    - weekend: log-odds added to the chance to play on Saturday and Sunday

    `user_habits` returns each user's own levels: the fields are then arrays [users, 1], and active, deposit_chance and
    night are log-odds. HABIT_SPREAD has the standard deviations of these levels, in logarithms or log-odds.
    """

    active: float
    sessions: float
    minutes: float
    stake: float
    deposit_chance: float
    deposit: float
    night: float
    weekend: float


HABITS = {
    "dormant": Habits(0.05, 1.1, 12, 0.6, 0.08, 10, 0.06, 0.3),
    "normal": Habits(0.32, 1.5, 25, 0.9, 0.20, 18, 0.07, 0.8),
    "heavy": Habits(0.70, 2.5, 36, 1.5, 0.42, 32, 0.12, 0.4),
    "risky": Habits(0.60, 2.3, 34, 1.4, 0.40, 30, 0.12, 0.3),
    "bot": Habits(0.97, 6.0, 50, 0.4, 0.06, 20, 0.26, 0.0),
    "bonus_hunter": Habits(0.40, 1.2, 14, 2.4, 0.80, 11, 0.05, -0.2),
}
HABIT_SPREAD = Habits(0.7, 0.2, 0.35, 0.5, 0.6, 0.45, 0.7, 0.3)  # standard deviation over users, in logs or log-odds


def generate(
    out: Path,
    users: int = 10_000,
    days: int = 60,
    seed: int = 7,
    start: str = "2026-01-05",
    drift: float = 0.0,
    classes: Sequence[str] = CLASSES,
) -> None:
    """Write synthetic players to the folder `out`, made when it is missing; files of these names are replaced.

    - `telemetry/part-*.parquet`: user_id, date and COUNTERS, a row per user and recorded day. Parts that an earlier
      call wrote for more users stay
    - `labels.csv`: user_id and label of some users; the label may be wrong
    - `truth.csv`: user_id and the behaviour of every user, which training never reads

    Arguments:

    - users: number of users, at least 1; which users have a label, and which label, depends on it
    - days: number of days, from `start` on
    - seed: the same seed gives the same users
    - start: first day, as 2026-01-05
    - drift: how far the population has moved; at 1.0 deposits are half as large again and much more is played at night
    - classes: what the project calls its classes, two or more, the rare class last; the players stay the same

    Raises pyarrow.ArrowInvalid for a class name with a comma, a quotation mark or a line break.
    """
    telemetry = Path(out) / "telemetry"
    telemetry.mkdir(parents=True, exist_ok=True)
    for part, first in enumerate(range(0, users, PART_USERS)):
        last = min(first + PART_USERS, users)
        tables = list(telemetry_tables(first, last, days, seed, start, drift))
        pq.write_table(pa.concat_tables(tables), telemetry / f"part-{part:05d}.parquet")
    behaviour = np.concatenate([behaviours(seed, block) for block in range(-(-users // BLOCK_USERS))])[:users]
    names = user_names(0, users)
    write_columns_csv(
        Path(out) / "truth.csv", {"user_id": names, "behaviour": class_names(behaviour, np.arange(users), classes)}
    )
    chosen, label = weak_labels(behaviour, seed)
    write_columns_csv(
        Path(out) / "labels.csv", {"user_id": names[chosen], "label": class_names(label, chosen, classes)}
    )


def class_names(behaviour: np.ndarray, users: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The project's class name for each of n users: text [n]. A bot or bonus hunter gets the name of its behaviour,
    whatever the classes are.

    behaviour: positions in BEHAVIOURS [n]; users: user numbers [n]; classes: class names, the rare class last. There
    are three negative kinds of players: dormant, normal, heavy. With more negative classes, the users of a kind are
    spread over several classes by their numbers; with fewer, the last negative class takes the kinds that are left.
    """
    *negatives, rare = classes
    kinds = len(CLASSES) - 1
    names = [negatives[kind::kinds] or negatives[-1:] for kind in range(kinds)]
    names += [[rare], *([name] for name in NEVER_LABELLED)]
    return np.array([names[kind][user % len(names[kind])] for kind, user in zip(behaviour, users, strict=True)])


def behaviours(seed: int, block: int) -> np.ndarray:
    """Draw the behaviour of every user of a block: position in BEHAVIOURS, int [BLOCK_USERS].

    seed: the same seed gives the same users. block: the block's number, from 0; it holds the users from
    block * BLOCK_USERS on.
    """
    return np.random.default_rng([seed, block, 0]).choice(len(BEHAVIOURS), BLOCK_USERS, p=SHARES)


def user_names(first: int, last: int) -> np.ndarray:
    """The names `u0000000`, `u0000001`, … of users first … last - 1: text [last - first]."""
    return np.array([f"u{number:07d}" for number in range(first, last)])


def telemetry_tables(first: int, last: int, days: int, seed: int, start: str, drift: float) -> Iterator[pa.Table]:
    """Yield the telemetry of users first … last - 1, an Arrow table per block of BLOCK_USERS users.

    Columns: user_id, date, then COUNTERS; one row per user and recorded day. days: number of days; start: the first
    day, as 2026-01-05; seed, drift: as for `generate`.
    """
    for block in range(first // BLOCK_USERS, -(-last // BLOCK_USERS)):
        counters, present = simulate_block(behaviours(seed, block), days, np.datetime64(start), seed, block, drift)
        numbers = np.arange(block * BLOCK_USERS, (block + 1) * BLOCK_USERS)
        wanted = (numbers >= first) & (numbers < last)
        user, day = np.nonzero(present & wanted[:, None])
        columns = {"user_id": pa.array(user_names(numbers[0], numbers[-1] + 1)[user])}
        columns["date"] = pa.array((np.datetime64(start, "D") + day), pa.date32())
        yield pa.table(columns | {name: pa.array(values[user, day]) for name, values in counters.items()})


def simulate_block(
    behaviour: np.ndarray, days: int, start: np.datetime64, seed: int, block: int, drift: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Simulate a block of users over `days` days.

    behaviour: position in BEHAVIOURS of each user [users]; start: the first day; block: the block's number, which seeds
    its random numbers together with `seed`; drift: how far the population has moved, 0 for not at all.

    Returns the counters, {name in COUNTERS: [users, days]}, and which days have a record, bool [users, days]. The
    counters are also drawn for days without one.
    """
    rng = np.random.default_rng([seed, block, 1])
    habits = user_habits(behaviour, rng)
    ramp, deposit_growth, night_growth, fade = behaviour_changes(behaviour, days, rng)
    shape = (len(behaviour), days)
    weekend = is_weekend(start, days)
    risky = behaviour == BEHAVIOURS.index("risky")
    burst = rng.random(shape) < np.where(risky[:, None], 0.05 + 0.12 * ramp, 0.03)

    chance = sigmoid(habits.active + habits.weekend * weekend - fade + 2.0 * burst)
    active = rng.random(shape) < chance
    sessions = np.where(active, 1 + rng.poisson(np.maximum(habits.sessions - 1, 0.05) * np.ones(shape)), 0)
    heat = rng.lognormal(0, 0.45, shape) * np.where(burst, 1.8, 1.0)
    minutes = sessions * habits.minutes * heat
    night_odds = habits.night + night_growth * ramp + 1.2 * burst * risky[:, None] + 1.0 * drift
    night = minutes * sigmoid(night_odds + rng.normal(0, 0.8, shape))
    growth = np.exp(deposit_growth * ramp + np.log1p(0.5 * max(drift, -1)))
    pays = active & (rng.random(shape) < sigmoid(habits.deposit_chance + 1.5 * burst + 0.6 * deposit_growth * ramp))
    deposits = pays * habits.deposit * growth * rng.lognormal(0, 0.5, shape) * np.where(burst, 1.6, 1.0)
    wagers = minutes * habits.stake * growth**0.5 * rng.lognormal(0, 0.4, shape)
    counters = {
        "sessions": sessions.astype(np.int32),
        "minutes": np.round(minutes).astype(np.int32),
        "deposits": np.round(deposits, 2),
        "wagers": np.round(wagers, 2),
        "night_minutes": np.round(night).astype(np.int32),
    }
    return counters, recorded_days(shape, rng)


def user_habits(behaviour: np.ndarray, rng: np.random.Generator) -> Habits:
    """Draw each user's own level of each habit around the median of its behaviour: arrays [users, 1].

    behaviour: position in BEHAVIOURS of each user [users]. The fields active, deposit_chance and night are returned as
    log-odds, the others in the units of `Habits`.
    """
    medians = np.array([astuple(HABITS[name]) for name in BEHAVIOURS])[behaviour]
    noise = rng.normal(size=medians.shape) * np.array(astuple(HABIT_SPREAD))
    active, sessions, minutes, stake, deposit_chance, deposit, night, weekend = (medians[:, [i]] for i in range(8))
    n = [noise[:, [i]] for i in range(8)]
    return Habits(
        logit(active) + n[0],
        sessions * np.exp(n[1]),
        minutes * np.exp(n[2]),
        stake * np.exp(n[3]),
        logit(deposit_chance) + n[4],
        deposit * np.exp(n[5]),
        logit(night) + n[6],
        weekend + n[7],
    )


def behaviour_changes(behaviour: np.ndarray, days: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Draw how users change over the days. behaviour: position in BEHAVIOURS of each user [users].

    Returns four arrays:

    - the course of each user's change from 0 (not begun) to 1 (complete), [users, days]
    - how much the complete change adds to the logarithm of deposits, [users, 1]
    - how much the complete change adds to the log-odds of night play, [users, 1]
    - how much is taken from the log-odds of playing on each day, [users, days]; negative where a user plays more

    Deposits and night play of risky players grow. Of heavy and normal players, a fifth grow in deposits alone and
    another fifth in night play alone, both more strongly: so neither growth identifies a risky player, nor does their
    sum.
    """
    users = len(behaviour)
    kind = np.array(BEHAVIOURS)[behaviour][:, None]
    onset = rng.uniform(-10, 0.5 * days, (users, 1))
    ramp = np.clip((np.arange(days) - onset) / rng.uniform(10, 25, (users, 1)), 0, 1)
    which = rng.random((users, 1))
    amount = rng.uniform(0.5, 1.3, (users, 1))
    ordinary = (kind == "heavy") | (kind == "normal")
    deposit_growth = np.where(kind == "risky", amount, np.where(ordinary & (which < 0.2), 1.7 * amount, 0.0))
    shift = rng.uniform(0.8, 2.0, (users, 1))
    night_growth = np.where(kind == "risky", shift, np.where(ordinary & (which > 0.8), 1.7 * shift, 0.0))
    fades = ((kind == "dormant") & (which < 0.3)) | ((kind == "normal") & (which > 0.4) & (which < 0.5))
    more_active = np.where((kind == "dormant") & fades, 2.2, 0.0)
    return ramp, deposit_growth, night_growth, fades * 3.0 * ramp - more_active


def recorded_days(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw which days of each user have a record: bool [users, days] for shape (users, days).

    Each day is lost with probability 3 %; one user in five has an outage of 2-6 days; one in twenty has no record
    before a day in the first half.
    """
    users, days = shape
    day = np.arange(days)
    begin = rng.integers(0, days, (users, 1))
    outage = (rng.random((users, 1)) < 0.2) & (day >= begin) & (day < begin + rng.integers(2, 7, (users, 1)))
    joined = np.where(rng.random((users, 1)) < 0.05, rng.integers(0, max(days // 2, 1), (users, 1)), 0)
    return (rng.random(shape) >= 0.03) & ~outage & (day >= joined)


def weak_labels(behaviour: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw which users have a label, and the labels: n user positions, ascending, and each label's place in CLASSES.

    behaviour: position in BEHAVIOURS of every user. seed: the same seed and behaviours give the same labels. Both
    results are int [n].

    Half of the risky users get a label, but at least 40. Of each other class, as many get one as 4 % of all users are
    (LABELLED_SHARE), but at least 10. A class with fewer users is labelled whole. Users whose behaviour is in
    NEVER_LABELLED get none. Each label is wrong with probability WRONG_SHARE (6 %): dormant has then become normal,
    normal dormant, heavy normal, or risky heavy.
    """
    rng = np.random.default_rng([seed, 2])
    order = rng.permutation(len(behaviour))
    rare = len(CLASSES) - 1
    chosen = []
    for kind in range(len(CLASSES)):
        candidates = order[behaviour[order] == kind]
        wanted = max(len(candidates) // 2, 40) if kind == rare else max(int(LABELLED_SHARE * len(behaviour)), 10)
        chosen.append(candidates[:wanted])
    positions = np.sort(np.concatenate(chosen))
    label = behaviour[positions].astype(np.int64)
    wrong = rng.random(len(positions)) < WRONG_SHARE
    neighbour = np.array([1, 0, 1, 2])  # dormant <-> normal, heavy -> normal, risky -> heavy
    return positions, np.where(wrong, neighbour[label], label)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)): log-odds to a probability."""
    return 1 / (1 + np.exp(-x))


def logit(p: np.ndarray) -> np.ndarray:
    """The log-odds of a probability, the inverse of `sigmoid`."""
    return np.log(p / (1 - p))


def write_columns_csv(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Write columns (name -> values) as a CSV file with a header, text without quotes. An existing file is replaced.

    Raises pyarrow.ArrowInvalid for text with a comma, a quotation mark or a line break.
    """
    options = pyarrow.csv.WriteOptions(quoting_style="none")
    pyarrow.csv.write_csv(pa.table(columns), path, options)
