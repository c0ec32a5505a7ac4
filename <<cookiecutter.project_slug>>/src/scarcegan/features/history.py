"""Feature rows: one per user and day of observation, from the daily counters of a batch of users."""

from dataclasses import dataclass

import numpy as np

from scarcegan.data import telemetry
from scarcegan.data.coverage import DaysNeeded
from scarcegan.data.schema import FeatureTable, concatenate
from scarcegan.features.user_features import user_features

CHUNK_USERS = 500  # small enough for the processor's cache


@dataclass(frozen=True)
class History:
    """How feature rows are computed from the days of telemetry.

    - needed: the days a row is computed from, and the days of observation for which there are rows
    - windows: lengths, in days, of shorter windows that end on the same day; each has features of its own
    - missing_is_zero: whether a day without a record counts as a day of zeros; otherwise it is unknown
    """

    needed: DaysNeeded
    windows: tuple[int, ...]
    missing_is_zero: bool = False


def feature_rows(
    users: telemetry.UserRecords, window: telemetry.DayRange, history: History, names: tuple[str, ...]
) -> FeatureTable:
    """A feature table with a row per user and day of observation, in the order of the weeks, then of the users.

    A user without any record in the days up to a day of observation has no row for that day, also when a day without a
    record is a day of zeros. When no user has one, the table is empty.
    - users: records of users, over the days in `window`; a user's label is that of all its rows.
    - window: must reach back the days and the most weeks of history.needed.
    - names: names of the features, as feature_names gives them.
    """
    tables = []
    needed = history.needed
    for weeks, recorded in zip(needed.weeks, needed.recorded(users).T, strict=True):
        stop = window.days - 7 * weeks
        days = slice(stop - needed.days, stop)
        last = np.datetime64(window.last, "D") - 7 * weeks
        weekend = telemetry.is_weekend(last - needed.days + 1, needed.days)
        known = np.flatnonzero(recorded)
        if not len(known):
            continue
        chunks = np.split(known, range(CHUNK_USERS, len(known), CHUNK_USERS))
        values = [
            user_features(
                users.counts[chunk, days],
                users.records[chunk, days] > 0,
                weekend,
                history.windows,
                history.missing_is_zero,
            )
            for chunk in chunks
        ]
        as_of = np.full(len(known), last)
        label = users.label[known].astype(np.int8)
        tables.append(FeatureTable(users.user_id[known], as_of, label, names, np.concatenate(values)))
    return concatenate(tables, names)
