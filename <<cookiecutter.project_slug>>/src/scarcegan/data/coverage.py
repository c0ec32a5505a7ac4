"""Coverage: which users and days of telemetry are used, which are left out and why, and what a missing day means."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from scarcegan.data.rules import Layout
from scarcegan.data.telemetry import DayRange, TelemetryScan, UserRecords

COVERAGE_FILE = "coverage.json"  # beside a feature table of telemetry
MANY_MISSING = 0.2  # share of missing days from which their meaning changes the features much
FEW_ZEROS = 0.01  # records of zeros per missing day; fewer are free orders and the like


@dataclass(frozen=True)
class DaysNeeded:
    """The days from which a feature row is computed, and the days of observation for which there are rows.

    - days: how many days a row is computed from, up to and with its day of observation
    - weeks: one number per day of observation: how many weeks that day lies before the last day of the data
    """

    days: int
    weeks: tuple[int, ...]

    def recorded(self, users: UserRecords) -> np.ndarray:
        """Whether each user has a record in the days of each of `weeks`: bool [u, w]."""
        stops = [users.records.shape[1] - 7 * weeks for weeks in self.weeks]
        return np.stack([users.records[:, stop - self.days : stop].any(axis=1) for stop in stops], axis=1)


@dataclass
class Coverage:
    """Counts over all users of telemetry; `add` fills them, a batch of users at a time.

    - window: the days that are read
    - needed: the days that feature rows need; None when no rows are computed
    - users: users with a good record in the window; with_rows: those with a record in `needed`; nowhere: users without
      a good record in the window
    - early: class position (UNLABELLED too) -> users with a row of an earlier day of observation than the last;
      labelled: the same of users with any row
    - per_day: int [t], users with a record on each day
    - lifetime: user-days from each user's first record to the last day; recorded: those with a record
    - zero_records: user-days with a record that has 0 in every counter
    """

    window: DayRange
    needed: DaysNeeded | None = None
    users: int = 0
    with_rows: int = 0
    nowhere: int = 0
    early: Counter[int] = field(default_factory=Counter)
    labelled: Counter[int] = field(default_factory=Counter)
    per_day: np.ndarray = field(init=False)
    lifetime: int = 0
    recorded: int = 0
    zero_records: int = 0

    def __post_init__(self) -> None:
        """No user is counted at first."""
        self.per_day = np.zeros(self.window.days, int)

    def add(self, users: UserRecords) -> None:
        """Count a batch of users over the days of the window."""
        there = users.records > 0
        self.users += len(there)
        self.per_day += there.sum(axis=0)
        self.lifetime += int((there.shape[1] - there.argmax(axis=1)).sum())
        self.recorded += int(there.sum())
        self.zero_records += int((there & ~users.counts.any(axis=2)).sum())
        if self.needed:
            known = self.needed.recorded(users)
            self.with_rows += int(known.any(axis=1).sum())
            before_last = np.array(self.needed.weeks) > min(self.needed.weeks)
            self.early.update(users.label[known[:, before_last].any(axis=1)].tolist())
            self.labelled.update(users.label[known.any(axis=1)].tolist())

    @property
    def trainable(self) -> Counter[int]:
        """Class position (UNLABELLED too) -> users who can be split, as users_to_split finds them in the rows."""
        return self.early or self.labelled

    def left_out(self) -> dict[str, int]:
        """{why: how many users have no feature row}; {} for none."""
        found = {}
        if self.nowhere:
            found[f"no good record in the days that are read ({self.window})"] = self.nowhere
        if self.needed and self.users > self.with_rows:
            days, back = self.needed.days, max(self.needed.weeks)
            before = f", or {back} weeks before it" if back else ""
            found[f"no record in the {days} days up to {self.window.last}{before}"] = self.users - self.with_rows
        return found

    def missing(self) -> float:
        """The share of days without a record, from each user's first record to the last record of all: 0 to 1."""
        return 1 - self.recorded / self.days_of_users if self.days_of_users else 0.0

    @property
    def days_of_users(self) -> int:
        """The number of user-days from each user's first record to the last record of all."""
        return self.lifetime - self.users * self.empty_at_the_end

    @property
    def empty_at_the_end(self) -> int:
        """The number of days at the end of the window on which nobody has a record."""
        seen = np.flatnonzero(self.per_day)
        return len(self.per_day) - 1 - int(seen[-1]) if len(seen) else 0

    def notes(self, layout: Layout, found: TelemetryScan) -> list[str]:
        """Sentences about days and users that are left out, or whose meaning should be looked at; [] for none.

        layout: names and meaning of the data; found: the scan whose users were added.
        """
        notes = []
        if found.unlabelled_files:
            notes.append(
                f"files without the column '{layout.label}', which others have: {found.unlabelled_files:,}. Unless a "
                "labels file names them, their users have no label."
            )
        if not found.dated:
            return notes
        if self.users and self.empty_at_the_end:
            last = self.window.last - timedelta(self.empty_at_the_end)
            notes.append(
                f"the records end on {last}, but the days that are read end on {self.window.last}, so the last days "
                "are empty for everybody. Set data.start earlier, or lower data.days."
            )
        others = f"the days that are read ({found.window}), left out"
        if found.before:
            notes.append(f"records before {others}: {found.before:,}.")
        if found.after:
            move = " To read them, set data.start later, or leave it empty." if layout.start else ""
            notes.append(f"records after {others}: {found.after:,}, the last on {found.latest}.{move}")
        days = int((self.per_day > 0).sum())
        begins = int((self.per_day > 0).argmax())
        looks_back = len(self.per_day) - 7 * max(self.needed.weeks) - self.needed.days if self.needed else 0
        if days and begins > looks_back:
            first, looked_for = (self.window.first + timedelta(day) for day in (begins, looks_back))
            notes.append(
                f"the records begin on {first}, but feature rows look back to {looked_for}, so their first days are "
                "empty. Bring more days, or lower features.window_days and data.days."
            )
        if 0 < days * 2 < len(self.per_day):
            apart = np.diff(np.flatnonzero(self.per_day))
            weekly = ", as if a record stood for a week" if len(apart) and np.median(apart) == 7 else ""
            notes.append(
                f"only {days} of the {len(self.per_day)} days that are read have records{weekly}. If the last day "
                f"({found.window.last}) is a mistake, correct it or set data.start; if there is less history, lower "
                "data.days."
            )
        if self.missing() >= MANY_MISSING:
            missing = self.days_of_users - self.recorded
            few = self.zero_records < FEW_ZEROS * missing
            reading, looks = ("zero", "looks like") if few else ("unknown", "is more than")
            why = (
                f"{self.zero_records:,} of the {self.recorded:,} days with one hold only zeros, so a missing day "
                f"{looks} a day without activity"
            )
            advice = "" if layout.missing_days == reading else f" Set data.missing_days to {reading} if that is so."
            notes.append(
                f"{self.missing():.0%} of the days from a user's first record on have no record: {why}. They are read "
                f"as {layout.missing_days}.{advice}"
            )
        notes += [
            f"users left out, as they have no feature row: {count:,}, {why}." for why, count in self.left_out().items()
        ]
        return notes
