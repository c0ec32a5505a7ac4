"""Windows: captured rows counted by day, joined to windows, compared with the baseline; and the verdict."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scarcegan.errors import UserError
from scarcegan.monitoring.baseline import Baseline
from scarcegan.monitoring.drift import DRIFT, CurrentRows, DriftDistance, Violation, distances, share_of, violations
from scarcegan.monitoring.rows import Rows, Tally
from scarcegan.monitoring.statistics import SCORES, UNKNOWN, ColumnSummary, combine, summarise_columns
from scarcegan.progress import Progress

UNDATED = "NaT"


@dataclass(frozen=True)
class MonitoringRules:
    """When a window breaks its constraints, and when that suggests retraining.

    - threshold: largest distance beyond chance (DriftDistance.robust) allowed to a column, and to the share of a class
    - window_days: days in a window
    - retrain, of: retraining is suggested when at least `retrain` of the last `of` windows have drifted
    - minimum_rows: a window with fewer rows is not compared
    """

    threshold: float
    window_days: int
    retrain: int
    of: int
    minimum_rows: int


@dataclass(frozen=True)
class Day:
    """The captured rows of one day or several: the summary of their columns, and predicted class -> rows.

    numbers: the baseline's columns, in its order; labels: rows without a predicted class are not counted.
    """

    numbers: ColumnSummary
    labels: Counter[str]

    def __add__(self, other: "Day") -> "Day":
        """The rows of both together."""
        return Day(combine(self.numbers, other.numbers), self.labels + other.labels)


@dataclass(frozen=True)
class Window:
    """A window of days, compared with the baseline.

    - start, end: first and last day, as 2026-01-31; "" when the rows have no day
    - current: its rows, summarised
    - drift: column -> distance from the baseline, also for a window with too few rows
    - violations: its broken constraints, from drift.violations
    - judged: whether it has enough rows for its violations to be looked for; otherwise `violations` is empty
    """

    start: str
    end: str
    current: CurrentRows
    drift: Mapping[str, DriftDistance]
    violations: tuple[Violation, ...]
    judged: bool

    @property
    def rows(self) -> int:
        """The number of captured rows in the window."""
        return self.current.numbers.rows

    @property
    def drifted(self) -> bool:
        """Whether a distribution (of a column or of the predicted classes) has moved further than is allowed.

        Missing values and wrong types do not count: retraining cures neither.
        """
        return any(violation.constraint_check_type == DRIFT for violation in self.violations)


def count_days(batches: Iterable[Rows], baseline: Baseline) -> dict[str, Day]:
    """Summarise batches of rows by day: {day: its rows}, oldest first. The day is text such as 2026-01-31.

    Rows without a day come first, under the key "NaT". Progress is written to stderr.
    """
    days: dict[str, Day] = {}
    progress = Progress("monitor")
    for rows in batches:
        values, text = columns_of(rows, baseline)
        for day in np.unique(rows.day):
            there = np.isnat(rows.day) if np.isnat(day) else rows.day == day
            labels = Counter(label for label in rows.label[there].tolist() if label)
            found = Day(summarise_columns(values[there], baseline.edges, text[there]), labels)
            days[str(day)] = days[str(day)] + found if str(day) in days else found
        progress.add(len(rows))
    progress.write()
    return dict(sorted(days.items(), key=lambda item: (item[0] != UNDATED, item[0])))


def columns_of(rows: Rows, baseline: Baseline) -> tuple[np.ndarray, np.ndarray]:
    """The baseline's d columns of a batch of n rows, float32 [n, d], NaN for missing, and where they were text that is
    not a number, bool [n, d].

    The columns are the features, then, for a baseline with scores, rarity and unknown.
    """
    if not baseline.scored:
        return rows.values, rows.text
    values = np.column_stack([rows.values, *(getattr(rows, name) for name in SCORES)])
    return values, np.pad(rows.text, ((0, 0), (0, len(SCORES))))


def group_days(days: Mapping[str, Day], window_days: int) -> list[tuple[str, str, Day]]:
    """(first day, last day, rows) of each window of `window_days` days that has rows, oldest first.

    The days are text, as 2026-01-31; there may be no rows on the first and last day of a window. days: day -> its
    rows, from count_days. The last window ends on the last day in `days`. Rows without a day are a window of their own,
    first, with "" for both days.
    """
    dated = [day for day in days if day != UNDATED]
    found: dict[int, list[str]] = {}
    for day in dated:
        found.setdefault(int((np.datetime64(dated[-1]) - np.datetime64(day)).astype(int)) // window_days, []).append(
            day
        )
    joined = [("", "", days[UNDATED])] if UNDATED in days else []
    for back, members in sorted(found.items(), reverse=True):
        last = np.datetime64(dated[-1]) - back * window_days
        joined.append((str(last - (window_days - 1)), str(last), add_days([days[day] for day in members])))
    return joined


def add_days(days: Sequence[Day]) -> Day:
    """The rows of all `days`, at least one, together as one Day."""
    whole = days[0]
    for day in days[1:]:
        whole = whole + day
    return whole


def compare_windows(
    days: Mapping[str, Day], baseline: Baseline, tally: Tally, rules: MonitoringRules, rare: str
) -> list[Window]:
    """Group days to windows, compare each window with the baseline, and return all windows, oldest first.

    - days: day -> its rows, from count_days; at least one day
    - tally: of the reading. It names the columns that are absent or extra, in all rows together, not per window
    - rules: length of a window, how many rows it needs to be compared, and the distance allowed
    - rare: name of the rare class

    When no window has enough rows, all rows together are one window.

    Raises UserError when even all rows together are fewer than rules.minimum_rows.
    """
    whole = add_days(list(days.values()))
    if whole.numbers.rows < rules.minimum_rows:
        raise UserError(
            f"only {whole.numbers.rows:,} captured rows, but {rules.minimum_rows:,} are needed for a "
            "comparison. Capture more, or lower monitor.minimum_rows in config.yaml."
        )
    absent = frozenset(baseline.features) - tally.seen
    if baseline.scored:
        absent |= {name for i, name in enumerate(SCORES, len(baseline.features)) if not whole.numbers.finite[i]}
    parts = group_days(days, rules.window_days)
    if all(day.numbers.rows < rules.minimum_rows for _, _, day in parts):
        dated = [day for day in days if day != UNDATED] or [""]
        parts = [(dated[0], dated[-1], whole)]
    windows = []
    for start, end, day in parts:
        current = CurrentRows(day.numbers, day.labels, absent, dict(tally.extra))
        judged = day.numbers.rows >= rules.minimum_rows
        found = distances(baseline, day.numbers)
        broken = violations(baseline, current, rules.threshold, rare, found) if judged else []
        windows.append(Window(start, end, current, found, tuple(broken), judged))
    return windows


def retraining_verdict(
    windows: Sequence[Window], quality: Sequence[Violation], rules: MonitoringRules, rare: str
) -> dict[str, Any]:
    """The content of verdict.json: whether to retrain, why in a sentence or two, and an entry per window, in order.

    - windows: oldest first; the verdict rests on the last `rules.of` of those that have enough rows, and suggests
      retraining when at least rules.retrain of these have drifted
    - quality: violations of the model quality constraints; any of them suggests retraining
    - rare: name of the rare class
    """
    recent = [window for window in windows if window.judged][-rules.of :]
    drifted = [window for window in recent if window.drifted]
    retrain = len(drifted) >= rules.retrain or bool(quality)
    return {
        "retrain": retrain,
        "reason": verdict_sentence(recent, drifted, quality, rules),
        "judged_windows": len(recent),
        "drifted_windows": len(drifted),
        "retrain_windows": rules.retrain,
        "of_windows": rules.of,
        "quality_violations": [violation.description for violation in quality],
        "windows": [window_entry(window, rare) for window in windows],
    }


def verdict_sentence(
    recent: Sequence[Window], drifted: Sequence[Window], quality: Sequence[Violation], rules: MonitoringRules
) -> str:
    """The verdict in one or two sentences: whether to retrain, and why.

    - recent: the windows that the verdict rests on: the last rules.of, or fewer, that have enough rows
    - drifted: those of them that have drifted
    - quality: violations of the model quality constraints
    """
    many = (
        f"{len(drifted)} of the last {len(recent)} window{'s' if len(recent) != 1 else ''} moved away from the baseline"
    )
    if quality:
        words = f"Retrain: {'; '.join(v.description for v in quality)}."
        return f"{words} Besides, {many}." if drifted else words
    if len(drifted) >= rules.retrain:
        return f"Retrain: {many} (retraining is suggested from {rules.retrain} of {rules.of})."
    if len(recent) < rules.of:
        few = f"only {len(recent)} of the {rules.of} windows that a verdict is based on"
        return f"No retraining yet: {few} can be compared so far, and {len(drifted)} moved away from the baseline."
    return f"No retraining: {many} (retraining is suggested from {rules.retrain} of {rules.of})."


def window_entry(window: Window, rare: str) -> dict[str, Any]:
    """The entry of a window in verdict.json. rare: name of the rare class.

    `worst` is the column with the largest robust distance, `violations` the number of broken constraints. start and end
    are None when the rows have no day. flagged_share (of the rare class) and unknown_share are shares of the rows with
    a predicted class, None without any.
    """
    name, worst = max(window.drift.items(), key=lambda item: item[1].robust)
    scored = bool(window.current.labels)
    return {
        "start": window.start or None,
        "end": window.end or None,
        "rows": window.rows,
        "judged": window.judged,
        "drifted": window.drifted,
        "violations": len(window.violations),
        "worst": {"feature": name, "distance": round(worst.robust, 4)},
        "flagged_share": round(share_of(window.current.labels, rare), 6) if scored else None,
        "unknown_share": round(share_of(window.current.labels, UNKNOWN), 6) if scored else None,
    }
