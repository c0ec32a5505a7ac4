"""Feature rows: one per user and day of observation, from the daily counters of a batch of users."""

from dataclasses import dataclass

import numpy as np

from scarcegan.data import telemetry
from scarcegan.data.schema import FeatureTable, concatenate
from scarcegan.features.user_features import user_features

CHUNK_USERS = 500  # small enough for the processor's cache


@dataclass(frozen=True)
class History:
    """The days from which feature rows are computed, and the days of observation for which there are rows.

    - days: how many days a row is computed from, up to and with its day of observation
    - windows: lengths, in days, of shorter windows that end on the same day; each has features of its own
    - weeks: one number per day of observation: how many weeks that day lies before the last day of the data
    """

    days: int
    windows: tuple[int, ...]
    weeks: tuple[int, ...]


def feature_rows(
    users: telemetry.UserRecords, window: telemetry.DayRange, history: History, names: tuple[str, ...]
) -> FeatureTable:
    """A feature table with a row per user and day of observation, in the order of history.weeks, then of the users.

    A user without any record in the history.days days up to a day of observation has no row for that day. When no user
    has one, the table is empty.
    - users: records of users, over the days in `window`; a user's label is that of all its rows.
    - window: must reach back history.days days and the most of history.weeks weeks.
    - names: names of the features, as feature_names gives them.
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
