"""The monitoring report: an HTML page of the windows and the verdict. All figures come from the monitor step."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from scarcegan.monitoring.baseline import Baseline
from scarcegan.monitoring.drift import UNKNOWN, Violation, allowed_class_share, distance_limit, share_of
from scarcegan.monitoring.quality import LESS, Truth
from scarcegan.monitoring.rows import Tally
from scarcegan.monitoring.statistics import REST, SCORES, ColumnSummary
from scarcegan.monitoring.windows import MonitoringRules, Window
from scarcegan.report import (
    SERIES,
    Section,
    drawn_as_it_is,
    html_matrix,
    html_note,
    html_table,
    html_tiles,
    new_figure,
    svg_figure,
)
from scarcegan.report import write_page as write_page

FIGURES_SHOWN = 6
TICKS = 6  # and the most texts of a category that are drawn side by side
TABLE_ROWS = 25
HEAT_ROWS = 20
FEWEST_ROWS = 5
VISIBLE = 0.005
HEAT_WINDOWS = 12
METRICS = {"recall": "recall", "precision": "precision", "pr_auc": "PR-AUC", "f2": "F2", "accuracy": "accuracy"}
BEFORE, NOW = SERIES[0], SERIES[1]


def write_monitoring_page(
    path: Path,
    baseline: Baseline,
    windows: Sequence[Window],
    verdict: Mapping[str, Any],
    broken: Sequence[Violation],
    quality: Mapping[str, Any] | None,
    truth: Truth | None,
    tally: Tally,
    rules: MonitoringRules,
    rare: str,
    description: str,
) -> Path:
    """Write the monitoring report to `path`, in place of an older one, and return `path`.

    - baseline: that the windows were compared with
    - windows: oldest first, at least one with enough rows; the last of these is called "now"
    - verdict: the content of verdict.json
    - broken: violations of the model quality constraints
    - quality: the content of model_quality.json, None without ground truth
    - truth: the ground truth, or None
    - tally: counts of what was read and left out
    - rules: by which the windows were compared
    - rare: name of the rare class
    - description: what the project is for; may be empty

    Raises IndexError when no window has enough rows.
    """
    now = [window for window in windows if window.judged][-1]
    sections = [
        Section(
            "Verdict",
            "",
            [
                html_note(verdict["reason"], "bad" if verdict["retrain"] else "good"),
                key_figures(baseline, now, verdict, quality, rules, rare),
            ],
        ),
        violations_section([*now.violations, *broken]),
        windows_section(baseline, windows, rules),
        columns_section(baseline, now, rules),
        figures_section(baseline, now),
    ]
    if baseline.scored and now.current.labels:
        sections.append(scores_section(baseline, now, rules, rare))
    if quality:
        sections.append(quality_section(quality, baseline, truth))
    sections.append(Section("How this was measured", method_text(tally, rules)))
    days = f" from {now.start} to {now.end}" if now.start else ""
    lead = f"{now.rows:,} captured rows{days}, against a baseline of {baseline.rows:,} training rows."
    return write_page(path, "Monitoring: captured rows against the baseline", lead, sections, description)


def key_figures(
    baseline: Baseline,
    now: Window,
    verdict: Mapping[str, Any],
    quality: Mapping[str, Any] | None,
    rules: MonitoringRules,
    rare: str,
) -> Markup:
    """The tiles, as HTML, with the key figures of the window `now`, the latest with enough rows.

    There are always tiles for the rows compared, the violations of `now`, the columns that moved in it and the windows
    that moved. There are tiles for the rare class and for unknown only when baseline and window have predicted classes,
    and for recall only when it was measured. verdict: the content of verdict.json; quality: that of model_quality.json,
    None without ground truth; rules: by which the windows were compared; rare: name of the rare class.
    """
    moved = [
        name for name in baseline.names if now.drift[name].robust > distance_limit(baseline, name, rules.threshold)
    ]
    far = max(now.drift, key=lambda name: now.drift[name].robust)
    found: list[tuple[str, Any, str]] = [
        ("rows compared", now.rows, f"{baseline.rows:,} in the baseline"),
        ("violations", len(now.violations), "in the latest window"),
        (
            "columns that moved",
            f"{len(moved)} of {len(baseline.names)}",
            Markup("farthest: {} ({:.2f})").format(breakable(far), now.drift[far].robust),
        ),
        (
            "windows that moved",
            f"{verdict['drifted_windows']} of {verdict['judged_windows']}",
            f"retraining from {rules.retrain} of {rules.of}",
        ),
    ]
    n = sum(now.current.labels.values())
    if n and baseline.labels:
        for name, words in ((rare, f"flagged as {rare}"), (UNKNOWN, "sent to unknown")):
            low, high = allowed_class_share(baseline, name, n, rules.threshold)
            before = share_of(baseline.labels, name)
            remark = f"{before:.2%} in the baseline; {low:.2%} to {high:.2%} allowed"
            found.append((words, f"{share_of(now.current.labels, name):.2%}", remark))
    if quality:
        recall = quality["binary_classification_metrics"]["recall"]
        if "low" in recall:
            found.append(
                (f"recall of {rare}", f"{recall['value']:.2f}", f"{recall['low']:.2f} to {recall['high']:.2f}")
            )
    return html_tiles(found)


def breakable(name: str) -> Markup:
    """A column name as HTML that a browser may break after an underscore; the name is escaped."""
    return Markup("_<wbr>").join(name.split("_"))


def violations_section(found: Sequence[Violation]) -> Section:
    """The section that lists violations, or says that there are none.

    found: the violations of the latest window and of the model quality.
    """
    words = "Constraints of the baseline that the latest window breaks; constraint_violations.json has the same list."
    if not found:
        return Section("Violations", "The latest window keeps every constraint of the baseline.")
    two = Markup("{}<br><small>{}</small>")
    rows = [(two.format(v.feature_name, check_name(v)), v.description) for v in found]
    return Section("Violations", words, [html_table(("column and check", "what was found"), rows)])


def check_name(violation: Violation) -> str:
    """The check of a violation in words: "baseline drift" for baseline_drift_check. A quality metric's stays as it is,
    such as LessThanThreshold.
    """
    return violation.constraint_check_type.removesuffix("_check").replace("_", " ")


def windows_section(baseline: Baseline, windows: Sequence[Window], rules: MonitoringRules) -> Section:
    """The section with a table of the distances of the columns that moved most, a column of cells per window.

    windows: oldest first, at least one with enough rows. Shown, oldest first, are the latest HEAT_WINDOWS of those that
    have enough rows or are the very last. The table's rows are the columns of largest robust distance in any window
    with enough rows, shown or not, the largest first: at least FEWEST_ROWS, further ones only if that distance is at
    least VISIBLE, and at most HEAT_ROWS. rules: by which the windows were compared.
    """
    judged = [window for window in windows if window.judged]
    shown = [window for window in windows if window.judged or window is windows[-1]][-HEAT_WINDOWS:]
    most = {name: max(window.drift[name].robust for window in judged) for name in baseline.names}
    ranked = sorted(baseline.names, key=lambda name: -most[name])[:HEAT_ROWS]
    names = [name for i, name in enumerate(ranked) if i < FEWEST_ROWS or most[name] >= VISIBLE]
    words = (
        f"Distance of the columns that moved most, window by window (of {rules.window_days} days, the latest on the "
        "right). Red cells lie beyond what is allowed. Windows of fewer than "
        f"{rules.minimum_rows:,} rows are not compared, and are left out except for the last."
    )
    head = [Markup("{}<br><small>{:,} rows</small>").format(w.end or "no day", w.rows) for w in shown]
    body = [(name, [heat_cell(baseline, window, name, rules) for window in shown]) for name in names]
    return Section("Window by window", words, [heat_table(head, body)])


def heat_cell(baseline: Baseline, window: Window, name: str, rules: MonitoringRules) -> Markup:
    """The table cell of the robust distance of column `name` in one window, red when it is larger than allowed.

    The cell holds a dash when the window has too few rows, or when no row of any window has the column. rules: hold the
    largest distance that is allowed to a column without a limit of its own in constraints.json.
    """
    if not window.judged or name in window.current.absent:
        return Markup('<td class="number">–</td>')
    return distance_cell(window.drift[name].robust, distance_limit(baseline, name, rules.threshold))


def distance_cell(found: float, allowed: float) -> Markup:
    """The table cell of a distance: bold on red when it is larger than allowed, darker the larger it is."""
    colour = "bad" if found > allowed else "accent"
    heat = 12 + 55 * min(1.0, found / (3 * allowed)) if found > 0 and allowed else 0
    style = f"background: color-mix(in srgb, var(--{colour}) {heat:.0f}%, transparent)"
    text = Markup("<strong>{:.2f}</strong>" if found > allowed else "{:.2f}").format(found)
    return Markup('<td class="number" style="{}">{}</td>').format(style, text)


def heat_table(head: Sequence[Markup], body: Sequence[tuple[str, Sequence[Markup]]]) -> Markup:
    """The HTML of a table of the cells that heat_cell returns, a row per entry of `body`.

    head: a heading per window; body: (name of a column of the baseline, its cell in each window). Names are escaped.
    """
    columns = Markup("").join(Markup('<th scope="col" class="number">{}</th>').format(cell) for cell in head)
    rows = Markup("").join(
        Markup('<tr><th scope="row" style="font-weight: 500">{}</th>{}</tr>').format(name, Markup("").join(cells))
        for name, cells in body
    )
    return Markup(
        '<div class="table wide" tabindex="0"><table><thead><tr><th scope="col">column</th>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(columns, rows)


def columns_section(baseline: Baseline, now: Window, rules: MonitoringRules) -> Section:
    """The section with a table of the baseline's columns in the window `now`, the largest robust distance first.

    At least the first FEWEST_ROWS columns have a row; further ones have a row if their robust distance is at least
    VISIBLE, up to TABLE_ROWS rows in all. The columns without a row are only counted. rules: hold the largest distance
    that is allowed to a column without a limit of its own in constraints.json.
    """
    names = sorted(baseline.names, key=lambda name: (-now.drift[name].robust, -now.drift[name].raw))
    shown = max(FEWEST_ROWS, sum(now.drift[name].robust >= VISIBLE for name in names[:TABLE_ROWS]))
    rows = [column_row(baseline, now, name, rules) for name in names[:shown]]
    header = ("column", "distance", "allowed", "PSI", "usual before", "usual now", "missing before", "missing now")
    rest = names[shown:]
    words = "The latest window against the baseline, sorted by distance. Usual: the mean, or the most frequent name."
    if rest:
        most = now.drift[rest[0]].robust
        words += (
            f" {len(rest)} more columns moved by {f'{most:.3f} or less' if most >= VISIBLE else 'no more than chance'}."
        )
    return Section("Columns by drift", words, [html_table(header, rows)])


def column_row(baseline: Baseline, now: Window, name: str, rules: MonitoringRules) -> tuple[Any, ...]:
    """The table row of the column `name`: its name, robust distance, limit of the distance, PSI, usual value before and
    now, share of missing values before and now.

    Before is the baseline, now the window. Shares are text such as "12.3%". When no row of any window has the column,
    distance, limit, PSI and the usual value now are dashes, and the last cell is "not captured"; when only this window
    lacks it, all its values count as missing. rules: hold the limit
    of a column without one of its own in constraints.json.
    """
    i, numbers, before = baseline.names.index(name), now.current.numbers, baseline.column(name)
    common, found = before["common"], now.drift[name]
    gap = common["num_missing"] / max(common["num_missing"] + common["num_present"], 1)
    if name in now.current.absent:
        return (name, "–", "–", "–", usual_value(baseline, None, name), "–", f"{gap:.1%}", "not captured")
    missing = numbers.missing[i] / max(numbers.rows, 1)
    return (
        name,
        found.robust,
        distance_limit(baseline, name, rules.threshold),
        round(found.psi, 3),
        usual_value(baseline, None, name),
        usual_value(baseline, numbers, name),
        f"{gap:.1%}",
        f"{missing:.1%}",
    )


def usual_value(baseline: Baseline, numbers: ColumnSummary | None, name: str) -> float | str:
    """The mean of the column `name`, NaN without values; of a category the most frequent text and its share: "tcp 62%".

    numbers: the summary of the rows to take it from; None: the baseline. All texts that the baseline does not name
    count as one, REST, which may be the most frequent. A category that had no values in the baseline gives a dash.
    """
    i = baseline.names.index(name)
    if name in baseline.categories:
        here = numbers.counts if numbers else baseline.counts
        counts = baseline.text_counts(name, here) if len(baseline.edges[i]) else {}
        text = max(counts, key=lambda text: counts[text], default="")
        return f"{text} {share_of(counts, text):.0%}" if text else "–"
    if numbers is None:
        return float(baseline.column(name).get("mean", np.nan))
    return float(numbers.mean[i]) if numbers.finite[i] else float("nan")


def figures_section(baseline: Baseline, now: Window) -> Section:
    """The section with a small figure, of the baseline and the window `now`, of each of the features that moved most.

    They are the FIGURES_SHOWN features of largest raw distance (the tables are sorted by the robust one). The scores
    are no features. Features without values in the baseline, or that no row of any window has, are left out.
    """
    here = [
        name
        for name in baseline.features
        if name not in now.current.absent and len(baseline.edges[baseline.names.index(name)])
    ]
    names = sorted(here, key=lambda name: -now.drift[name].raw)[:FIGURES_SHOWN]
    words = (
        "Every bar is a range of values that held about a twentieth of the baseline (a tail, or a value that many "
        "users share, has its own bar), so that long tails take no room. Where the line leaves the bars, users moved."
    )
    return Section(
        "The columns that moved most", words, [column_figure(baseline, now.current.numbers, name) for name in names]
    )


def column_figure(baseline: Baseline, numbers: ColumnSummary, name: str) -> Markup:
    """Figure of the share of rows in each bucket of the column `name`: the baseline as bars, now as a line of steps.

    numbers: the summary of the window `now`. For a category there is a bar per frequent text, and one for the rest. The
    column must have had values in the baseline.
    """
    i = baseline.names.index(name)
    if name in baseline.categories:
        texts = [baseline.text_counts(name, counts) for counts in (baseline.counts, numbers.counts)]
        most = usual_value(baseline, None, name), usual_value(baseline, numbers, name)
        caption = f"{name}: most often {most[0]} in the baseline, {most[1]} now."
        return shares_figure(name, category_shares(*texts), caption)
    mean, its = baseline.column(name)["mean"], float(numbers.mean[i])
    caption = f"{name}: mean {short_number(mean)} in the baseline, {short_number(its)} now."
    whole = baseline.types[i] == "Integral"
    return shares_figure(name, bucket_shares(baseline.counts[i], numbers.counts[i], baseline.edges[i], whole), caption)


BarShares = tuple[np.ndarray, np.ndarray, Sequence[str]]


def shares_figure(
    title: str, shown: BarShares, caption: str, before: str = "baseline", now: str = "now", wide: bool = False
) -> Markup:
    """Figure of two lists of shares of the same m buckets: the first as bars, the second as a line of steps.

    shown: from bucket_shares or category_shares; before, now: names of the two in the legend.
    """
    first, second, bounds = shown
    fig, ax = new_figure(860 if wide else 420, 250)
    at = np.arange(len(second))
    ax.bar(at, first, width=0.92, color=BEFORE, alpha=0.45, label=before)
    ax.stairs(second, np.arange(len(second) + 1) - 0.5, color=NOW, linewidth=1.8, label=now)
    ticks = np.unique(np.linspace(0, len(second) - 1, min(len(second), TICKS)).round().astype(int))
    ax.set_xticks(ticks, [drawn_as_it_is(bounds[k]) for k in ticks])
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=4))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    ax.grid(visible=False, axis="x")
    ax.set_title(drawn_as_it_is(title), loc="left")
    ax.legend(fontsize=9, loc="best")
    return svg_figure(fig, caption, wide)


def bucket_shares(before: np.ndarray, now: np.ndarray, edges: np.ndarray, whole: bool) -> BarShares:
    """Shares of rows in each of the m buckets of a column of numbers: [m] before, [m] now, and the buckets' names.

    Shares are 0 … 1. A bucket is named after its lower edge (see bucket_bounds). The buckets below the first and above
    the last edge are left out where no row is in them. before, now: counts, int [len(edges) + 1]; whole: the column
    holds whole numbers.
    """
    first, second = shares(before), shares(now)
    keep = slice(0 if first[0] + second[0] else 1, len(second) if first[-1] + second[-1] else -1)
    return first[keep], second[keep], bucket_bounds(edges, whole)[keep]


def category_shares(before: Mapping[str, int], now: Mapping[str, int]) -> BarShares:
    """Shares of rows per text of a category: [m] before, [m] now, and the texts. before, now: text -> rows.

    They are those texts of `before` that are most frequent in both together, at most TICKS - 1, the most frequent first
    (long ones cut to nine characters); then "others", with the rest.
    """
    own = sorted((text for text in before if text != REST), key=lambda t: -share_of(before, t) - share_of(now, t))
    shown = own[: TICKS - 1]
    found = [np.array([share_of(counts, text) for text in shown]) for counts in (before, now)]
    first, second = (np.append(each, max(0.0, 1 - each.sum())) for each in found)
    return first, second, [*(text if len(text) <= 9 else f"{text[:8]}…" for text in shown), "others"]


def shares(counts: np.ndarray) -> np.ndarray:
    """Counts as shares of their sum, float of the same length; all 0 when the sum is 0."""
    return counts / max(int(counts.sum()), 1)


def bucket_bounds(edges: np.ndarray, whole: bool) -> list[str]:
    """The names of the len(edges) + 1 buckets of a column: the lower edge of each; for the first bucket, which is below
    all edges, "< " and the first edge, for the last one "> " and the last edge.

    edges: ascending, at least one; whole: the column holds whole numbers, so that edges are rounded up.
    """
    edges = np.ceil(edges) if whole else edges
    return [f"< {short_number(edges[0])}", *(short_number(edge) for edge in edges[:-1]), f"> {short_number(edges[-1])}"]


def short_number(value: float) -> str:
    """A number as text with three significant digits. A number of either sign from 1,000 up to ten million is written
    as a whole number with commas.
    """
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 and abs(value) < 1e7 else f"{value:.3g}"


def scores_section(baseline: Baseline, now: Window, rules: MonitoringRules, rare: str) -> Section:
    """The section on the model's answers in the window `now`: a figure per score, a table of the predicted classes.

    Baseline and window must have predicted classes. A score that no captured row has, in this window or another, gets
    no figure. rules: hold how far the share of the rare class, and of unknown, may move; rare: name of the rare class.
    """
    words = "What the model makes of the captured rows. Shares are drawn on a logarithmic scale: rare users are few."
    drawn = [
        score_figure(baseline, now.current.numbers, name, rare) for name in SCORES if name not in now.current.absent
    ]
    names = list(baseline.labels) + sorted(set(now.current.labels) - set(baseline.labels))
    n = sum(now.current.labels.values())
    rows = []
    for name in names:
        allowed = "–"
        if name in (rare, UNKNOWN):
            low, high = allowed_class_share(baseline, name, n, rules.threshold)
            allowed = f"{low:.2%} to {high:.2%}"
        rows.append(
            (name, f"{share_of(baseline.labels, name):.2%}", f"{share_of(now.current.labels, name):.2%}", allowed)
        )
    header = ("predicted class", "share before", "share now", f"allowed at {n:,} rows")
    return Section("Scores and classes", words, [*drawn, html_table(header, rows)])


def score_figure(baseline: Baseline, numbers: ColumnSummary, name: str, rare: str) -> Markup:
    """Figure of a score's histogram in 20 bins from 0 to 1, shares on a logarithmic scale: the baseline as bars, now as
    a line of steps.

    numbers: the summary of the window `now`. name: "rarity" or "unknown". rare: name of the rare class.
    """
    i = baseline.names.index(name)
    before, now = (in_twentieths(baseline.edges[i], counts) for counts in (baseline.counts[i], numbers.counts[i]))
    fig, ax = new_figure(420, 260)
    left = np.arange(20) / 20
    ax.bar(left, before, width=0.046, align="edge", color=BEFORE, alpha=0.45, label="baseline")
    ax.stairs(now, np.arange(21) / 20, color=NOW, linewidth=1.8, label="now")
    ax.set_yscale("log")
    ax.set_ylim(bottom=max(1e-5, 0.5 * min([*before[before > 0], *now[now > 0]], default=1e-3)), top=1.5)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.4g}" if share < 0.01 else f"{share:.2g}"))
    ax.minorticks_off()
    ax.set(xlabel=name, ylabel="share of rows")
    ax.legend(fontsize=9)
    what = f"how much like {rare}" if name == "rarity" else "how unlike every labelled class"
    return svg_figure(fig, f"{name}: {what}, 0 to 1; share of rows per twentieth, logarithmic.")


def in_twentieths(edges: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Shares [20] of the rows in bins of equal width from 0 to 1, from the counts in the buckets of a score.

    edges: of the buckets, each of which lies within one bin; without edges, all shares are 0. counts: [len(edges) + 1].
    """
    if not len(edges):
        return np.zeros(20)
    middle = np.concatenate([edges[:1], (edges[:-1] + edges[1:]) / 2, edges[-1:]])
    at = np.clip((middle * 20).astype(int), 0, 19)
    return np.bincount(at, weights=counts, minlength=20)[:20] / max(int(counts.sum()), 1)


def quality_section(quality: Mapping[str, Any], baseline: Baseline, truth: Truth | None) -> Section:
    """The section with the rare class's metrics on ground truth (recall, precision, PR-AUC, F2 and accuracy), their
    limits in the baseline's constraints, and the confusion matrix of all classes.

    Metrics that could not be measured are left out. quality: the content of model_quality.json; truth: the ground
    truth, of which the first five names that are no class are given; None: they are not named.
    """
    metrics = quality["binary_classification_metrics"]
    rules = baseline.constraints.get("binary_classification_constraints", {})
    rows = []
    for name, title in METRICS.items():
        found = metrics.get(name, {"value": "NaN"})
        if found["value"] != "NaN":
            interval = f"{found['low']:.3f} to {found['high']:.3f}" if "low" in found else "–"
            rows.append((title, found["value"], interval, limit_text(rules.get(name))))
    counts = quality["multiclass_classification_metrics"]["confusion_matrix"]
    kinds, names = list(counts), list(next(iter(counts.values())))
    grid = html_matrix(
        [f"is {kind}" for kind in kinds],
        names,
        [[counts[kind][name] for name in names] for kind in kinds],
        "rows: ground truth; columns: predicted",
    )
    words = f"{quality['dataset']['item_count']:,} users with ground truth, the latest prediction of each."
    words += " The metrics set the rare class against all others."
    if truth and truth.other_names:
        other_names = ", ".join(sorted(truth.other_names)[:5])
        words += f" Behaviour that is none of the classes ({other_names}) is listed under unknown."
    if "recall" in rules:
        words += (
            " The constraint comes from validation users; where labels are weak, the truth may be harder than these."
        )
    if metrics["recall"]["value"] == "NaN":
        words += " None of them is of the rare class yet, so there is no recall."
    return Section("Model quality", words, [html_table(("metric", "value", "95 % interval", "constraint"), rows), grid])


def limit_text(rule: Mapping[str, Any] | None) -> str:
    """A constraint on a metric in words, such as "at least 0.5"; a dash for None.

    rule: the metric's entry in binary_classification_constraints of constraints.json, None when it has none.
    """
    if rule is None:
        return "–"
    return f"{'at least' if rule['comparison_operator'] == LESS else 'at most'} {rule['threshold']:g}"


def method_text(tally: Tally, rules: MonitoringRules) -> str:
    """The paragraph, as plain text, that says what was read and how the figures were measured.

    tally: counts of what was read and left out; rules: hold the limit of the distance.
    """
    return (
        f"Read: {tally.as_sentence()}. The distance is the largest gap between the two distribution functions "
        "(Kolmogorov-Smirnov, over the baseline's buckets) less what chance alone explains at so many rows, so few "
        f"rows raise no alarm; more than {rules.threshold:g} is a violation unless constraints.json says otherwise for "
        "a column. The share of flagged users and of unknown may halve or double within that limit. PSI is the "
        "population stability index less its expectation without drift. Precision depends on how rare the class is "
        "among the rows at hand; recall does not."
    )
