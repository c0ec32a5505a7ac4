"""Feature rows: one per user and day of observation, from the daily counters of a batch of users."""

from dataclasses import dataclass

import numpy as np

from scarcegan.data import telemetry
from scarcegan.data.schema import FeatureTable, concatenate
from scarcegan.features.user_features import user_features

CHUNK_USERS = 500  # small enough for the processor's cache


@dataclass(frozen=True)
class History:
    """The days that a feature row is made of.

    - days: how many days, up to and with the day of observation
    - windows: lengths of shorter windows, in days, that end on the same day; each has features of its own
    - weeks: a number per day of observation: how many weeks it is before the last day of the data
    """

    days: int
    windows: tuple[int, ...]
    weeks: tuple[int, ...]


def feature_rows(
    users: telemetry.UserRecords, window: telemetry.DayRange, history: History, names: tuple[str, ...]
) -> FeatureTable:
    """A feature table with a row per user and day of observation.

    A user without a record in the row's days has no such row. users: records of users over the days in `window`; names:
    names of the features, in the order of `user_features`. Rows are in the order of history.weeks, then of the users.
    Without any row the table is empty.
    """
    tables = []
    for weeks in history.weeks:
        stop = window.days - 7 * weeks
        days = slice(stop - history.days, stop)
        last = np.datetime64(window.last, "D") - 7 * weeks
        weekend = telemetry.is_weekend(last - history.days + 1, history.days)
        known = np.flatnonzero(users.records[:, days].any(axis=1))
        if not len(known):
            continue
        chunks = np.split(known, range(CHUNK_USERS, len(known), CHUNK_USERS))
        values = [
            user_features(users.counts[chunk, days], users.records[chunk, days] > 0, weekend, history.windows)
            for chunk in chunks
        ]
        as_of = np.full(len(known), last)
        label = users.label[known].astype(np.int8)
        tables.append(FeatureTable(users.user_id[known], as_of, label, names, np.concatenate(values)))
    return concatenate(tables, names)
