"""The data profile: an HTML page of what is in the user's files. All figures come from profile/profile.py."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter

from scarcegan.data.schema import UNLABELLED, UNLABELLED_NAME
from scarcegan.profile.columns import ABSENT, FAR, SAMPLE_RECORDS, ColumnFacts, Distribution
from scarcegan.profile.comparison import UNDATED, Part
from scarcegan.profile.population import Days
from scarcegan.profile.profile import Against, Profile
from scarcegan.profile.records import COUNTER, LABEL, UNUSED
from scarcegan.report import (
    SERIES,
    Cell,
    Section,
    drawn_as_it_is,
    html_note,
    html_table,
    html_tiles,
    new_figure,
    svg_figure,
    write_page,
)
from scarcegan.report.monitoring import (
    bucket_shares,
    category_shares,
    distance_cell,
    heat_table,
    shares_figure,
    short_number,
)

NOTES_SHOWN = 15
COLUMNS_DRAWN = 8
OUTLIERS_SHOWN = 20
GROUPS_SHOWN = 12
MEANS_SHOWN = 5
MONTHS_SHOWN = 12
MOVED_SHOWN = 6
COLUMNS_COMPARED = 25
HISTOGRAM_BINS = 24
LONG_TAIL = 30  # times the usual size: such columns are drawn on a logarithmic scale
STRAY_SHARE, STRAY_SPAN = 0.001, 3  # days of so few records are not drawn when they make the picture so much wider
INCOMPLETE = 0.5  # of the usual number of records: the last day may be incomplete


def write_profile_page(path: Path, profile: Profile, description: str, threshold: float) -> Path:
    """Write the page to `path`, in place of an older one, and return `path`.

    description: what the project is for; threshold: the distance from which a column counts as moved.
    """
    sections = [
        problems_section(profile),
        days_section(profile),
        *([users_section(profile)] if profile.population.users else []),
        labels_section(profile),
        numbers_section(profile),
        outliers_section(profile),
        files_section(profile),
        *([months_section(profile, threshold)] if len(dated_months(profile)) > 1 else []),
        *([against_section(profile.against, threshold, profile)] if profile.against else []),
        Section("How this was counted", method_text(threshold)),
    ]
    return write_page(path, "Data profile", lead(profile), sections, description)


def lead(profile: Profile) -> str:
    """One sentence on what was read."""
    days, people = profile.days.day, profile.population
    users = f" of {people.users:,} users" if people.users else ""
    when = f" from {days[0]} to {days[-1]}" if len(days) else ", without days"
    return f"{people.records:,} records{users}{when}, {in_files(profile)}."


def in_files(profile: Profile) -> str:
    """How many files were read, as "in 3 files"."""
    files = sum(group.files for group in profile.groups)
    return f"in {files:,} {'file' if files == 1 else 'files'}"


def problems_section(profile: Profile) -> Section:
    """The section with the key figures, the problems and the notes of `scarcegan data check`."""
    people, days = profile.population, profile.days
    labelled = sum(count for position, count in people.per_class.items() if position != UNLABELLED)
    total = sum(people.per_class.values())
    span = int((days.day[-1] - days.day[0]).astype(int)) + 1 if len(days.day) else 0
    gaps = span - len(days.day)
    counted = [column.numbers for column in profile.columns if column.numbers]
    tiles = [
        (
            "problems",
            len(profile.problems),
            "training stops at the first" if profile.problems else "training can read it",
        ),
        ("records", people.records, in_files(profile)),
        ("users", people.users or "–", "named in the records" if people.users else "records have no user"),
        ("days", span or "–", f"{gaps:,} without a record" if span else "records have no day"),
        ("labelled", labelled, f"{labelled / max(total, 1):.2%} of {total:,}"),
        ("outliers", sum(one.outliers for one in counted), f"in {len(counted)} columns of numbers"),
    ]
    notes = [html_note(words, "bad") for words in profile.problems[:NOTES_SHOWN]]
    if len(profile.problems) > NOTES_SHOWN:
        notes.append(html_note(f"{len(profile.problems) - NOTES_SHOWN} more: scarcegan data check lists all.", "bad"))
    if not profile.problems:
        notes.append(html_note("No problem found.", "good"))
    notes += [html_note(words) for words in profile.notes]
    words = "Red: what training would stop at. Blue: what is left out, or should be looked at."
    return Section("Problems and notes", words, [html_tiles(tiles), *notes])


def days_section(profile: Profile) -> Section:
    """The section with a picture of the records and users of each day."""
    days = profile.days
    if not len(days.day):
        return Section("Days", "The records have no day that can be read, so there is nothing to draw over time.")
    words = [f"Records from {days.day[0]} to {days.day[-1]}."]
    if profile.window:
        words.append(f"A training reads the days {profile.window}.")
    if days.undated:
        words.append(f"{days.undated:,} records have no day that can be read.")
    shown = drawn_days(days)
    stray = int(days.records[~shown].sum())
    if stray:
        words.append(f"{stray:,} records are too far from the others to be drawn; these days are most likely mistakes.")
    day, counts = every_day(days.day[shown], days.records[shown], days.users[shown])
    usual = float(np.median(counts[0][counts[0] > 0]))
    empty = int((counts[0] == 0).sum())
    caption = f"Each day has about {usual:,.0f} records; {empty:,} of {len(day):,} days have none."
    if counts[0][-1] < INCOMPLETE * usual:
        caption += f" The last day has only {counts[0][-1]:,}: it may be incomplete."
    fig, ax = new_figure(1060, 260)
    ax.plot(day, counts[0], color=SERIES[0], linewidth=1.8, label="records")
    if profile.population.users and not np.allclose(counts[0], counts[1], rtol=0.01):
        ax.plot(day, counts[1], color=SERIES[1], linewidth=1.8, label="users")
    if profile.window:
        first, last = np.datetime64(profile.window.first), np.datetime64(profile.window.last)
        inside = (day >= first) & (day <= last)
        if inside.any() and not inside.all():
            ax.axvspan(
                day[inside][0], day[inside][-1], color=SERIES[0], alpha=0.12, linewidth=0, label="read by a training"
            )
    date_axis(ax, max(map(np.max, counts)))
    return Section("Days", " ".join(words), [svg_figure(fig, caption, wide=True)])


def drawn_days(days: Days) -> np.ndarray:
    """Which days are drawn, bool [t]: all, unless some with few records lie far from the others."""
    shares = np.cumsum(days.records) / days.records.sum()
    usual = (shares >= STRAY_SHARE) & (np.append(0, shares[:-1]) <= 1 - STRAY_SHARE)
    inner = days.day[usual]
    spans = [int((part[-1] - part[0]).astype(int)) + 1 for part in (days.day, inner)]
    return usual if spans[0] > STRAY_SPAN * spans[1] else np.ones(len(days.day), bool)


def every_day(day: np.ndarray, *counts: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """All days from the first to the last, and the counts on them, 0 on a day that is not in `day`."""
    every = np.arange(day[0], day[-1] + 1)
    found = []
    for one in counts:
        filled = np.zeros(len(every), np.int64)
        filled[(day - day[0]).astype(int)] = one
        found.append(filled)
    return every, found


def date_axis(ax: Axes, top: float, bottom: float = 0.0) -> None:
    """Finish a picture over days: short date labels, numbers from `bottom` to a little above `top`, and a legend."""
    locator = AutoDateLocator(minticks=3, maxticks=8)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    room = 0.2 * (top - bottom) or 1.0  # for the legend
    ax.set_ylim(bottom - (room if bottom else 0), top + room)
    ax.legend(fontsize=9, loc="upper left", ncols=4)


def users_section(profile: Profile) -> Section:
    """The section with pictures of when users are first seen, and on how many days they have a record."""
    people, days = profile.population, profile.days
    words = f"{people.users:,} users."
    if people.nameless:
        words += f" {people.nameless:,} records name no user."
    if len(days.day) < 2:
        return Section("Users", words + f" On average, a user has {people.records / people.users:.1f} records.")
    shown = drawn_days(days)
    day, (new, active) = every_day(days.day[shown], days.first_seen[shown], days.users[shown])
    new = np.where(day == days.day[0], 0, new)  # all users are new on the first day
    fig, ax = new_figure(520, 260)
    ax.plot(day, active, color=SERIES[0], linewidth=1.6, label="users with a record")
    ax.plot(day, new, color=SERIES[1], linewidth=1.6, label="new users, from the second day on")
    date_axis(ax, active.max())
    later = int(new.sum()) / people.users
    caption = f"{later:.0%} of the users come after the first day; the last day has {active[-1]:,} users with a record."
    per_user, counts = np.array(list(people.days_per_user)), np.array(list(people.days_per_user.values()))
    halves = np.cumsum(counts)
    median = int(per_user[np.searchsorted(halves, halves[-1] / 2)])
    few = int(counts[per_user == 1].sum())
    return Section(
        "Users",
        words,
        [
            svg_figure(fig, caption),
            days_per_user_figure(
                per_user,
                counts,
                f"Half of the users have a record on at most {median:,} days; {few:,} have one on a single day.",
            ),
        ],
    )


def days_per_user_figure(per_user: np.ndarray, counts: np.ndarray, caption: str) -> Markup:
    """Histogram of on how many days a user has a record. per_user: days, ascending; counts: users of each."""
    fig, ax = new_figure(520, 260)
    edges = np.unique(np.linspace(1, per_user[-1] + 1, min(per_user[-1], HISTOGRAM_BINS) + 1).round())
    heights = np.histogram(per_user, edges, weights=counts)[0]
    ax.stairs(heights, edges, fill=True, color=SERIES[0], alpha=0.75)
    ax.set(xlabel="days with a record", ylabel="users")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    ax.grid(visible=False, axis="x")
    return svg_figure(fig, caption)


def class_names(profile: Profile) -> dict[int, str]:
    """{class position: name}, with UNLABELLED last."""
    return {**dict(enumerate(profile.source.layout.classes)), UNLABELLED: UNLABELLED_NAME}


def labels_section(profile: Profile) -> Section:
    """The section with the users of each class, when they have records, and how their columns differ."""
    people, names = profile.population, class_names(profile)
    what = "users" if people.users else "records"
    total = sum(people.per_class.values())
    known = {position: count for position, count in people.per_class.items() if position != UNLABELLED}
    if not known:
        where = "is named" if profile.source.labels else "is in the data"
        return Section("Labels", f"No label {where} that can be read: all {total:,} {what} are unlabelled.")
    rare = profile.source.layout.classes[-1]
    words = (
        f"{sum(known.values()):,} of {total:,} {what} are labelled, {known.get(len(names) - 2, 0):,} of them "
        f"as {rare}, the rare class."
    )
    numbers = telling_columns(profile)
    rows: list[list[Cell]] = []
    for position, name in names.items():
        count = people.per_class.get(position, 0)
        means = people.class_means.get(position, {})
        rows.append([name, count, f"{count / total:.2%}", *(means.get(column, float("nan")) for column in numbers)])
    caption = f"Beside the share: means of the columns in which {rare} differs most from the largest other class."
    table = html_table(("class", what, "share", *numbers), rows, caption)
    if not people.class_days:
        return Section("Labels", words, [table])
    return Section("Labels", words, [class_days_figure(profile, names), table])


def telling_columns(profile: Profile) -> list[str]:
    """The columns of numbers, at most MEANS_SHOWN, in whose mean the rare class differs most from the largest other
    class, or from the unlabelled; the first columns when the rare class has no records.
    """
    means, rare = profile.population.class_means, len(profile.source.layout.classes) - 1
    others = [position for position in means if position != rare]
    if not others or rare not in means:
        return list(next(iter(means.values()), {}))[:MEANS_SHOWN]
    most = max(others, key=lambda position: profile.population.per_class.get(position, 0))

    def difference(name: str) -> float:
        a, b = means[rare][name], means[most][name]
        return -abs(a - b) / (abs(a) + abs(b)) if a != b and np.isfinite([a, b]).all() else 0.0

    return sorted(means[rare], key=difference)[:MEANS_SHOWN]


def class_days_figure(profile: Profile, names: Mapping[int, str]) -> Markup:
    """Picture of the share of each class's users who have a record on each day."""
    people = profile.population
    shown = profile.days.day[drawn_days(profile.days)]
    fig, ax = new_figure(1060, 260)
    weakest, least, highest = "", 2.0, 0.0
    for position, (day, counts) in people.class_days.items():
        inside = (day >= shown[0]) & (day <= shown[-1])
        if not inside.any():
            continue
        every = np.arange(shown[0], shown[-1] + 1)
        filled = np.zeros(len(every))
        filled[(day[inside] - every[0]).astype(int)] = counts[inside]
        share = filled / max(people.per_class.get(position, 0), 1)
        ax.plot(
            every, share, color=SERIES[position % len(SERIES)], linewidth=1.6, label=drawn_as_it_is(names[position])
        )
        highest = max(highest, float(share.max()))
        if share[-1] < least:
            weakest, least = names[position], float(share[-1])
    date_axis(ax, highest)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    caption = (
        f"Share of the labelled users of each class with a record; the last day's lowest is {least:.0%} ({weakest}). "
        "A line that leaves the others is a class whose users came later, or left."
    )
    if not people.users:
        caption = "Share of the labelled records of each class on each day."
    return svg_figure(fig, caption, wide=True)


def described(profile: Profile) -> list[tuple[ColumnFacts, Distribution]]:
    """The columns of numbers that have values."""
    return [(column, column.numbers) for column in profile.columns if column.numbers]


def numbers_section(profile: Profile) -> Section:
    """The section with a table and pictures of the columns of numbers."""
    found = described(profile)
    title = "Counters" if profile.source.telemetry else "Columns of numbers"
    if not found:
        return Section(title, "No column of numbers has a value that can be read.")
    per_day = profile.source.layout.aggregate if profile.source.telemetry else {}
    words = "One value per record."
    if profile.source.telemetry:
        words = f"One value per user and day{', as data.aggregate says' if per_day else ''}."
    header = ["column", "zero", "mean", "25 %", "median", "75 %", "99 %", "least", "most", "outliers"]
    rows: list[list[Cell]] = [
        [
            column.name,
            f"{numbers.zero / max(numbers.values, 1):.1%}",
            *map(short_number, (numbers.mean, *numbers.quantiles.values(), numbers.minimum, numbers.maximum)),
            numbers.outliers,
        ]
        for column, numbers in found
    ]
    drawn = found if len(found) <= COLUMNS_DRAWN else sorted(found, key=lambda one: -farthest(one[1]))[:COLUMNS_DRAWN]
    if len(drawn) < len(found):
        words += f" Drawn are the {len(drawn)} of {len(found)} columns with the farthest outliers."
    figures = [
        figure
        for column, numbers in drawn
        for figure in (
            value_figure(column.name, numbers),
            *([band_figure(column.name, numbers)] if numbers.by_day else []),
        )
    ]
    return Section(title, words, [html_table(header, rows), *figures])


def farthest(numbers: Distribution) -> float:
    """How many times its usual size the farthest outlier of a column has, 0 without one."""
    return max((abs(outlier.times) for outlier in numbers.farthest), default=0.0)


def value_figure(name: str, numbers: Distribution) -> Markup:
    """Histogram of a column's values but 0: of records as bars, and of the means of users, if any, as a line."""
    values, means = (part[part != 0] for part in (numbers.sample, numbers.per_user))
    if not len(values):
        values, means = numbers.sample, numbers.per_user
    edges = value_edges(values, means, numbers.usual)
    bounds = [short_number(edge) for edge in edges[:-1]]
    records, users = (np.histogram(part, edges)[0] / max(len(part), 1) for part in (values, means))
    zero = numbers.zero / max(numbers.values, 1)
    usual, largest = short_number(numbers.usual), short_number(numbers.maximum)
    caption = f"{name}: {zero:.1%} are zero; the others are usually about {usual}, at most {largest}."
    if not len(means):
        users = np.full(len(bounds), np.nan)
    return shares_figure(name, (records, users, bounds), caption, "records", "means of users" if len(means) else "")


def value_edges(values: np.ndarray, means: np.ndarray, usual: float) -> np.ndarray:
    """Edges of a histogram's bins, of equal width; of a column with a long tail, of equal width in its logarithm. Few
    whole numbers have a bin each.

    values, means: what is drawn; usual: the median size of the values but 0, NaN when all are 0.
    """
    low, high = float(min(values.min(), means.min(initial=np.inf))), float(values.max())
    whole = high - low < HISTOGRAM_BINS and bool((values == np.trunc(values)).all())
    if whole:
        return np.arange(np.floor(low), high + 2)
    if max(abs(low), abs(high)) > LONG_TAIL * usual:
        tail = np.linspace(np.arcsinh(low / usual), np.arcsinh(high / usual), HISTOGRAM_BINS + 1)
        return np.array([low, *np.sinh(tail[1:-1]) * usual, high])
    return np.linspace(low, high, HISTOGRAM_BINS + 1) if high > low else np.array([low, low + 1])


def band_figure(name: str, numbers: Distribution) -> Markup:
    """Picture of the values but 0 of each day: the median as a line, from the lowest to the highest tenth as a band."""
    day = np.array([one.day for one in numbers.by_day])
    low, middle, high = np.array([one.quantiles for one in numbers.by_day]).T
    fig, ax = new_figure(420, 250)
    ax.fill_between(day, low, high, color=SERIES[0], alpha=0.25, linewidth=0, label="10 % to 90 %")
    ax.plot(day, middle, color=SERIES[0], linewidth=1.8, label="median")
    date_axis(ax, high.max(), min(0.0, low.min()))
    ax.set_title(drawn_as_it_is(f"{name} by day, without 0"), loc="left")
    third = max(1, len(day) // 3)
    zero = np.array([one.zero for one in numbers.by_day])
    early, late = (
        f"{short_number(float(middle[part].mean()))} ({zero[part].mean():.1%} of the values are zero)"
        for part in (slice(third), slice(-third, None))
    )
    return svg_figure(fig, f"{name}: the usual value of the first third of the days is {early}, of the last {late}.")


def outliers_section(profile: Profile) -> Section:
    """The section that names the farthest outliers."""
    found = [outlier for _, numbers in described(profile) for outlier in numbers.farthest]
    if not found:
        return Section("Outliers", "No value lies far from the others of its column.")
    found.sort(key=lambda outlier: -abs(outlier.times))
    total = sum(numbers.outliers for _, numbers in described(profile))
    words = (
        f"{total:,} values are far from the others of their column; named are the farthest, at most five per column."
    )
    words += " How far: the value, divided by the median size of the column's values but 0."
    rows: list[list[Cell]] = [
        [
            one.column,
            one.user or "–",
            one.day or "–",
            short_number(one.value),
            f"{short_number(one.times)} times",
            place(profile, one.file),
        ]
        for one in found[:OUTLIERS_SHOWN]
    ]
    return Section("Outliers", words, [html_table(("column", "user", "day", "value", "how far", "file"), rows)])


def place(profile: Profile, file: str) -> str:
    """A file's path below the folder of the data; its name when the data is one file."""
    path, root = Path(file), profile.source.path
    return str(path.relative_to(root)) if path != root and path.is_relative_to(root) else path.name


def files_section(profile: Profile) -> Section:
    """The section with the types of the columns and their missing values, by groups of files and by file."""
    groups = profile.groups
    differ = len(groups) > 1
    words = (
        "All files have the same columns, of the same types."
        if not differ
        else (f"The files have {len(groups)} different sets of columns and types. Each file is read by its own.")
    )
    columns: list[list[Cell]] = [
        [
            column.name,
            column.role,
            "; ".join(f"{name} ({count:,} {'file' if count == 1 else 'files'})" for name, count in column.types.items())
            or "number of records",
            f"{column.missing / column.values:.1%}" if column.values else "–",
            column.text,
        ]
        for column in profile.columns
    ]
    faults = [html_note(words, "bad") for column in profile.columns for words in column_faults(column, profile)]
    body = [
        *faults,
        html_table(("column", "used as", "type", "missing", "no number"), columns),
    ]
    if differ:
        rows: list[list[Cell]] = [
            [place(profile, group.first), group.files, group.records, group.form] for group in groups[:GROUPS_SHOWN]
        ]
        more = f" {len(groups) - GROUPS_SHOWN} more are not listed." if len(groups) > GROUPS_SHOWN else ""
        body.append(
            html_table(
                ("first file", "files", "records", "form"), rows, f"Files with the same columns and types.{more}"
            )
        )
    if profile.emptier:
        emptier: list[list[Cell]] = [
            [place(profile, one.file), one.column, f"{one.missing:.1%}", f"{one.everywhere:.1%}"]
            for one in profile.emptier
        ]
        body.append(
            html_table(
                ("file", "column", "missing here", "in all files"),
                emptier,
                "Files in which a column is emptier than in the others.",
            )
        )
    elif sum(group.files for group in groups) > 1:
        words += " No file has notably more missing values than the others."
    return Section("Files, types and missing values", words, body)


def column_faults(column: ColumnFacts, profile: Profile) -> list[str]:
    """Sentences on what training would refuse in a column: files without it, text that is no number, and numbers below
    zero in a counter that may not be negative.
    """
    found = []
    lacking, files = column.types.get(ABSENT, 0), sum(column.types.values())
    if lacking and column.role not in (UNUSED, LABEL):
        found.append(f"{column.name}: {lacking:,} of {files:,} files have no such column.")
    if column.text:
        found.append(f"{column.name}: {column.text:,} of {column.values:,} values are no numbers.")
    negative = column.numbers.negative if column.numbers else 0
    if negative and column.role == COUNTER and column.name not in profile.source.layout.signed:
        found.append(f"{column.name}: {negative:,} of {column.values:,} values are negative.")
    return found


def dated_months(profile: Profile) -> list[Part]:
    """The months of the records, in order, without the records that have no day."""
    return [part for part in profile.months if part.name != UNDATED]


def months_section(profile: Profile, threshold: float) -> Section:
    """The section that compares each month with the one before. threshold: the distance of a moved column."""
    shown = dated_months(profile)[-MONTHS_SHOWN:]
    distances = [before.distance(after) for before, after in pairwise(shown)]
    names = profile.buckets.names
    most = [max(found[i].robust for found in distances) for i in range(len(names))]
    order = sorted(range(len(names)), key=lambda i: -most[i])[:COLUMNS_COMPARED]
    head = [
        Markup("{}<br><small>{:,} records, {:,} users</small>").format(part.name, part.records, part.users)
        for part in shown[1:]
    ]
    body = [(names[i], [distance_cell(found[i].robust, threshold) for found in distances]) for i in order]
    moved = [names[i] for i in order if most[i] > threshold]
    found = f"{len(moved)} of {len(names)} columns moved, {moved[0]} the farthest." if moved else "No column moved."
    words = f"How far the values of each column are from the month before. Cells above {threshold:g} are red. {found}"
    return Section("Month against month", words, [heat_table(head, body)])


def against_section(against: Against, threshold: float, profile: Profile) -> Section:
    """The section that compares the profiled data with other data. threshold: the distance of a moved column."""
    before, now, names = against.before, against.now, against.buckets.names
    order = sorted(range(len(names)), key=lambda i: (-against.distances[i].robust, -against.distances[i].raw))
    moved = [i for i in order if against.distances[i].robust > threshold]
    words = f"{before.records:,} records here, {now.records:,} in {against.path}"
    words += f" ({against.days}). " if against.days else ". "
    if now.users:
        words += f"{against.shared_users:,} of its {now.users:,} users are also here. "
    words += f"{len(moved)} of {len(names)} columns moved by more than {threshold:g}."
    rows: list[list[Cell]] = [
        [
            names[i],
            against.distances[i].robust,
            round(against.distances[i].psi, 3),
            before.mean[i],
            now.mean[i],
            f"{before.missing[i]:.1%}",
            f"{now.missing[i]:.1%}",
        ]
        for i in order[:COLUMNS_COMPARED]
    ]
    header = ("column", "distance", "PSI", "mean here", "mean there", "missing here", "missing there")
    notes = [html_note(words, "bad") for words in against.problems[:NOTES_SHOWN]]
    drawn = [comparison_figure(against, i) for i in order[:MOVED_SHOWN] if drawable(against, i)]
    return Section("Against other data", words, [*notes, html_table(header, rows), *drawn])


def drawable(against: Against, i: int) -> bool:
    """Whether a compared column has values on both sides."""
    sizes = [
        sum(counts.values()) if isinstance(counts, dict) else counts.sum()
        for counts in (against.before.counts[i], against.now.counts[i])
    ]
    return all(sizes)


def comparison_figure(against: Against, i: int) -> Markup:
    """Figure of a compared column: the profiled data as bars, the other as a line."""
    name, before, now = against.buckets.names[i], against.before.counts[i], against.now.counts[i]
    caption = f"{name}: distance {against.distances[i].robust:.2f} beyond chance."
    if isinstance(before, dict) or isinstance(now, dict):
        return shares_figure(name, category_shares(dict(before), dict(now)), caption, "here", "there")
    edges = against.buckets.edges[i]
    whole = bool((edges[[0, -1]] == edges[[0, -1]].round()).all() and (edges[1:-1] * 2 % 1 == 0).all())
    caption += f" Mean {short_number(against.before.mean[i])} here, {short_number(against.now.mean[i])} there."
    return shares_figure(name, bucket_shares(before, now, edges, whole), caption, "here", "there")


def method_text(threshold: float) -> str:
    """The paragraph that says how the figures were counted. threshold: the distance of a moved column."""
    return (
        "All records of the files are counted, also those that training would refuse or leave out; only files that "
        "cannot be read are missing. An outlier is a value whose logarithm, relative to the median size of the values "
        f"but 0 of its column, is more than {FAR:g} robust standard deviations above the median of these values. The "
        "distance of two months, or of two data sets, is the largest gap between their distribution functions "
        "(Kolmogorov-Smirnov, for a category the largest change of a share) less what chance explains. Monitoring uses "
        f"the same, and calls a column moved from {threshold:g} on (monitor.drift_threshold). Histograms and quantiles "
        f"are taken from at most {SAMPLE_RECORDS:,} records and users."
    )
