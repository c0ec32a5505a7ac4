"""Features of users on several days of observation: which days a row looks at, and the rows of a batch of users."""

from dataclasses import dataclass

import numpy as np

from scarcegan.data import telemetry
from scarcegan.data.schema import FeatureTable, concatenate
from scarcegan.features.user_features import user_features

CHUNK_USERS = 500  # small enough for the processor's cache


@dataclass(frozen=True)
class History:
    """Which days a row looks at: `days` of them, ending `weeks` before the last day; windows: the shorter looks."""

    days: int
    windows: tuple[int, ...]
    weeks: tuple[int, ...]


def rows_of(users: telemetry.Users, window: telemetry.Window, history: History, names: tuple[str, ...]) -> FeatureTable:
    """A row per user and day of observation; none for a user without a record in the history of that day."""
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
