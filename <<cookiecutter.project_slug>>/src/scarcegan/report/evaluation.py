"""The evaluation's page: what was found, in the order a reader asks. Nothing is measured here but curves to draw."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scarcegan import report
from scarcegan.data.schema import FeatureTable
from scarcegan.evaluation import comparison, metrics
from scarcegan.evaluation.comparison import Preference, Samples
from scarcegan.report import Cell, Section

STEPS = 80  # positions of the threshold slider
FEW = 20  # rare test rows below which intervals are called rough
KEPT = {
    "highest_recall": "highest recall with precision at least {precision_floor}",
    "highest_precision": "highest precision with recall at least {recall_floor}",
    "highest_pr_auc": "highest PR-AUC",
    "fewest_unknown": "fewest unknown with recall within {recall_tolerance} of the best",
}


@dataclass(frozen=True)
class Said:
    """What one model says of all test rows: rarity, unknown float [n]; label int [n], K = unknown."""

    rarity: NDArray
    unknown: NDArray
    label: NDArray


@dataclass(frozen=True)
class Findings:
    """All that the page tells. Methods are the models, the simple models and, if comparable, `champion`."""

    classes: tuple[str, ...]
    beta: float
    test: FeatureTable
    definition: str
    models: Mapping[str, Said]
    cards: Mapping[str, dict]
    simple_models: Mapping[str, NDArray]
    titles: Mapping[str, str]
    samples: Mapping[str, Mapping[str, Samples]]
    preference: Preference
    gate: dict
    champion: Said | None
    champion_card: dict
    champion_refused: str
    curves: Path | None
    importance: Sequence[tuple[str, float]]
    explained: Sequence["Explained"]

    @property
    def known(self) -> NDArray:
        return self.test.label >= 0

    @property
    def positive(self) -> NDArray:
        """Which of the labelled test rows are of the rare class."""
        return self.test.label[self.known] == len(self.classes) - 1

    @property
    def rare(self) -> str:
        return self.classes[-1]

    def figure(self, method: str, metric: str) -> metrics.Estimate:
        return metrics.estimate(self.samples[method][metric])


@dataclass(frozen=True)
class Explained:
    """Why one user is flagged. reasons: (feature, own value, usual value, what it adds to rarity), strongest first.

    The value of a category is its text.
    """

    user: str
    rarity: float
    usual: float
    reasons: Sequence[tuple[str, float | str, float | str, float]]


def write(path: Path, found: Findings, description: str) -> Path:
    """Write the evaluation's page. description: what the project is for; may be empty."""
    sections = [
        summary(found),
        definitions(found),
        against_simple_models(found),
        thresholds(found),
        confusion(found),
        unknown(found),
        calibration(found),
        *optional(found),
        by_class(found),
        how(found),
    ]
    lead = f"How well each model finds “{found.rare}” users it has never seen, and what would do as well."
    return report.write(path, "Evaluation", lead, sections, description)


def optional(found: Findings) -> list[Section]:
    """Sections that exist only where there is something to tell."""
    parts = [training(found)] if found.curves else []
    parts += [influence(found)] if found.importance else []
    parts += [reasons(found)] if found.explained else []
    parts += [champion(found)] if found.champion_card or found.champion_refused else []
    return parts


def spread(figure: metrics.Estimate, form: str = ".3f") -> Markup:
    """The figure with its interval in small print below, a dash where there is none."""
    if np.isnan(figure.value):
        return Markup("–")
    value = signed(f"{figure.value:{form}}")
    if np.isnan(figure.low):
        return Markup(value)
    joint = " to " if form.startswith("+") else "–"
    return Markup("{}<small>{}</small>").format(value, signed(f"{figure.low:{form}}{joint}{figure.high:{form}}"))


def signed(number: str) -> str:
    """With a real minus sign."""
    return number.replace("-", "−")


def tile(found: Findings, label: str, metric: str) -> tuple[str, Cell, str]:
    figure = found.figure(found.definition, metric)
    words = "" if np.isnan(figure.low) else f"95 % interval {figure.low:.3f} to {figure.high:.3f}"
    return label, figure.value, words


def summary(found: Findings) -> Section:
    said, rare = found.models[found.definition], len(found.classes) - 1
    flagged = int((said.label[~found.known] == rare).sum())
    body = [
        report.tiles(
            [
                tile(found, "PR-AUC", "pr_auc"),
                tile(found, "Recall", "recall"),
                tile(found, "Precision", "precision"),
                tile(found, f"F-beta (beta {found.beta:g})", "f_beta"),
                tile(found, "Recall at 1 % false alarms", "recall_at_fpr_0.01"),
                tile(found, "False alarms per hit", "false_alarms_per_hit"),
                tile(found, "Labelled users sent to unknown", "share_unknown"),
                ("Unlabelled users flagged", flagged, f"of {int((~found.known).sum()):,} in the test split"),
            ]
        ),
        report.note(found.gate["reason"], "good" if found.gate["passed"] else "bad"),
        report.note(found.preference.sentence),
        *(report.note(words, "bad") for words in warnings(found)),
    ]
    words = (
        f"The model of “{found.definition}”, which the gate judges, on {int(found.known.sum()):,} labelled test users, "
        f"{int(found.positive.sum()):,} of them {found.rare}."
    )
    return Section("In short", words, body)


def warnings(found: Findings) -> list[str]:
    """What makes the figures less sure than they look."""
    rows = int(found.positive.sum())
    absent = [name for k, name in enumerate(found.classes) if not (found.test.label == k).any()]
    words = [f"The test split holds no user of: {', '.join(absent)}. Their figures are left blank."] if absent else []
    if 0 < rows < FEW:
        words.append(
            f"Only {rows} {found.rare} users in the test split: the intervals are rough and may be too narrow. "
            "More labelled users, or a larger split.test_share, make them sounder."
        )
    return words


def definitions(found: Findings) -> Section:
    header = ["definition", "keeps", "PR-AUC", "recall", "precision", f"F{found.beta:g}", "false alarms per hit"]
    header += ["unknown", "threshold", "flagged"]
    rows = []
    for name in found.models:
        cells = [spread(found.figure(name, m)) for m in ("pr_auc", "recall", "precision", "f_beta")]
        alarms, share = (found.figure(name, m).value for m in ("false_alarms_per_hit", "share_unknown"))
        flagged = int((found.models[name].label == len(found.classes) - 1).sum())
        threshold = found.cards[name].get("thresholds", {}).get("rare", float("nan"))
        rows.append([title(found, name), kept(found.cards[name]), *cells, alarms, percent(share), threshold, flagged])
    words = (
        "One model per business definition, chosen on validation users. Intervals are 95 %; flagged counts all test "
        "users, labelled or not."
    )
    return Section("The business definitions", words, [report.table(header, rows)])


def title(found: Findings, name: str) -> Markup:
    words = Markup("<strong>{}</strong> (judged by the gate)") if name == found.definition else Markup("{}")
    return words.format(name)


def kept(card: dict) -> str:
    """What a business definition keeps, in words. `keep` is its name, or the name with its settings."""
    keep = card.get("keep", "")
    settings = keep if isinstance(keep, dict) else card
    name = settings.get("keep", "")
    try:
        return KEPT.get(name, str(name)).format(**settings)
    except KeyError:
        return str(name).replace("_", " ")


def percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f} %"


def against_simple_models(found: Findings) -> Section:
    ours = found.definition
    rivals = [*found.simple_models, *([comparison.CHAMPION] if found.champion else [])]
    header = ["method", "PR-AUC", "ScarceGAN less this", "recall at 0.1 % false alarms", "at 1 %", "at 5 %"]
    rows: list[list[Cell]] = []
    ranked = sorted([ours, *rivals], key=lambda m: -np.nan_to_num(found.samples[m]["pr_auc"][0]))
    for method in ranked:
        gap = comparison.difference(found.samples[ours]["pr_auc"], found.samples[method]["pr_auc"])
        ahead = None if method == ours else spread(gap, "+.3f")
        at = [spread(found.figure(method, f"recall_at_fpr_{rate}")) for rate in comparison.RATES]
        name = Markup("<strong>{}</strong>") if method == ours else Markup("{}")
        rows.append([name.format(found.titles[method]), spread(found.figure(method, "pr_auc")), ahead, *at])
    body = [report.note(found.preference.sentence), report.table(header, rows)]
    if found.positive.any():
        body += [
            curves_of(
                found,
                {found.titles[m]: rarity_of(found, m) for m in [ours, *rivals]},
                "ScarceGAN and what it is held against",
            ),
            curves_of(found, {m: said.rarity for m, said in found.models.items()}, "The four business definitions"),
        ]
    words = (
        "Simple models trained on the same labelled users and measured on the same resamples. They rank users; only "
        "ScarceGAN also sends behaviour it does not know to “unknown”."
    )
    return Section("Against simple models", words, body)


def rarity_of(found: Findings, method: str) -> NDArray:
    if method == comparison.CHAMPION and found.champion is not None:
        return found.champion.rarity
    return found.models[method].rarity if method in found.models else found.simple_models[method]


def curves_of(found: Findings, scores: Mapping[str, NDArray], caption: str) -> Markup:
    """Precision over recall, a line per method (different dashes, so that colour is not all that tells)."""
    fig, ax = report.new_figure(500, 350)
    for i, (name, rarity) in enumerate(scores.items()):
        at = metrics.threshold_curve(found.positive, rarity[found.known])
        kept = metrics.spread_evenly(len(at.thresholds), metrics.CURVE_POINTS)
        recalls, precisions = at.hits[0] / at.positives[0], at.hits[0] / at.flagged[0]
        style = ("-", "--", "-.", ":")[i % 4] if i else "-"
        ax.plot(recalls[kept], precisions[kept], style, label=name, linewidth=2.2 if i == 0 else 1.6)
    share = found.positive.mean()
    ax.axhline(share, color=report.MUTED, linewidth=1, linestyle=":", label="by chance")
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    ax.legend(fontsize=8.5)
    return report.figure(fig, f"{caption}: precision at every recall of {found.rare} users.")


def thresholds(found: Findings) -> Section:
    said = found.models[found.definition]
    own = found.cards[found.definition].get("thresholds", {}).get("rare")
    steps = threshold_steps(found, said.rarity, own)
    header = ["threshold", "flagged", "hits", "recall", "precision", "false alarms per hit", "unlabelled flagged"]
    some = sorted({*metrics.spread_evenly(len(steps), 12).tolist(), *(i for i, s in enumerate(steps) if s["own"])})
    rows = [[mark(steps[i]), *[steps[i][key] for key in list(steps[i])[1:7]]] for i in some]
    words = (
        f"What another threshold would do to “{found.definition}” on the test users. A user is flagged when the rarity "
        "score reaches it. Choose on validation users; this shows the price."
    )
    return Section("Move the threshold", words, [slider(steps), report.table(header, rows)])


def mark(step: dict) -> Markup:
    words = Markup("<strong>{:.4f}</strong> (its own)") if step["own"] else Markup("{:.4f}")
    return words.format(step["threshold"])


def threshold_steps(found: Findings, rarity: NDArray, own: float | None) -> list[dict]:
    """What each of some thresholds flags, lowest first; the model's own among them."""
    known, positive = rarity[found.known], found.positive
    distinct = np.unique(rarity)[::-1]
    # Closer together where few users are flagged: that is where thresholds are chosen.
    places = np.geomspace(1, max(np.searchsorted(-distinct, -np.quantile(rarity, 0.7)), 1), STEPS) - 1
    chosen = set(distinct[np.unique(places.astype(int))].tolist()) | ({float(own)} if own is not None else set())
    steps = []
    for threshold in sorted(chosen):
        flagged = known >= threshold
        hits, count = int(flagged[positive].sum()), int(flagged.sum())
        steps.append(
            {
                "threshold": threshold,
                "flagged": count,
                "hits": hits,
                "recall": hits / positive.sum() if positive.any() else None,
                "precision": hits / count if count else None,
                "alarms": (count - hits) / hits if hits else None,
                "unlabelled": int((rarity[~found.known] >= threshold).sum()),
                "own": threshold == own,
            }
        )
    return steps


SLIDER = Markup("""
<div class="wide slider" hidden>
<label for="threshold">Threshold <output id="threshold-value"></output></label>
<input type="range" id="threshold" min="0" max="{most}" value="{start}">
{tiles}
</div>
<script type="application/json" id="threshold-steps">{steps}</script>
<script>
(() => {{
  const steps = JSON.parse(document.getElementById("threshold-steps").textContent);
  const box = document.querySelector(".slider"), input = document.getElementById("threshold");
  const values = box.querySelectorAll("dd");
  const write = (x, digits) => x === null ? "–" : x.toLocaleString("en", {{maximumFractionDigits: digits}});
  const show = () => {{
    const s = steps[input.value];
    document.getElementById("threshold-value").textContent =
      s.threshold.toFixed(4) + (s.own ? " (the model’s own)" : "");
    const all = [[s.flagged, 0], [s.hits, 0], [s.recall, 3], [s.precision, 3], [s.alarms, 2], [s.unlabelled, 0]];
    all.forEach(([x, digits], i) => values[i].textContent = write(x, digits));
  }};
  input.addEventListener("input", show);
  box.hidden = false;
  show();
}})();
</script>""")


def slider(steps: Sequence[dict]) -> Markup:
    """A slider over the steps; a reader without JavaScript sees the table alone."""
    labels = ("Flagged", "Hits", "Recall", "Precision", "False alarms per hit", "Unlabelled flagged")
    start = next((i for i, step in enumerate(steps) if step["own"]), len(steps) // 2)
    text = json.dumps(steps, separators=(",", ":")).replace("<", "\\u003c")
    empty = report.tiles([(label, "", "") for label in labels])
    return SLIDER.format(most=len(steps) - 1, start=start, tiles=empty, steps=Markup(text))


def confusion(found: Findings) -> Section:
    columns = [*found.classes, "unknown"]
    body = []
    for name, said in found.models.items():
        counts = metrics.confusion_matrix(found.test.label[found.known], said.label[found.known], len(found.classes))[0]
        body.append(report.matrix(found.classes, columns, counts.astype(int).tolist(), f"{name}: rows are the labels"))
    words = "Labelled test users by their label (rows) and by what the model says (columns)."
    return Section("Confusion", words, body)


def unknown(found: Findings) -> Section:
    k = len(found.classes)
    rows = []
    for name, said in found.models.items():
        labelled, rest = said.label[found.known], said.label[~found.known]
        known_share = float(np.mean(labelled == k)) if len(labelled) else float("nan")
        rest_share = float(np.mean(rest == k)) if len(rest) else float("nan")
        ratio = rest_share / known_share if known_share > 0 else float("nan")
        flagged = float(np.mean(rest == k - 1)) if len(rest) else float("nan")
        rows.append(
            [
                name,
                percent(known_share),
                percent(rest_share),
                f"{ratio:.1f}" if ratio == ratio else "–",
                percent(flagged),
            ]
        )
    header = ["definition", "labelled sent to unknown", "unlabelled sent to unknown", "ratio", "unlabelled flagged"]
    words = (
        "A useful “unknown” takes few labelled users and many of those whose behaviour no label covers. The picture "
        "shows where each class lies on the rarity score."
    )
    return Section("Unknown and unlabelled users", words, [rarity_figure(found), report.table(header, rows)])


def rarity_figure(found: Findings) -> Markup:
    """Share of each class's users at or above a rarity score."""
    rarity = found.models[found.definition].rarity
    fig, ax = report.new_figure(1020, 300)
    groups = [(name, found.test.label == k) for k, name in enumerate(found.classes)] + [("unlabelled", ~found.known)]
    for i, (name, rows) in enumerate(groups):
        if not rows.any():
            continue
        score = np.sort(rarity[rows])
        kept = metrics.spread_evenly(len(score), metrics.CURVE_POINTS)
        colour = report.MUTED if name == "unlabelled" else report.SERIES[i % len(report.SERIES)]
        above = 1 - np.arange(len(score)) / len(score)
        ax.step(score[kept], above[kept], where="pre", label=name, color=colour, linewidth=2)
    threshold = found.cards[found.definition].get("thresholds", {}).get("rare")
    if threshold is not None and np.isfinite(threshold):
        ax.axvline(threshold, color=report.BAD, linestyle="--", linewidth=1, label="threshold")
    ax.set(xlabel="rarity score", ylabel="share of users at or above", yscale="log", ylim=(1e-3, 1.2))
    ax.set_yticks([1, 0.1, 0.01, 0.001], ["100 %", "10 %", "1 %", "0.1 %"])
    ax.minorticks_off()
    ax.legend(fontsize=8.5)
    return report.figure(
        fig, f"Share of each class's test users at or above a rarity score ({found.definition}).", wide=True
    )


def calibration(found: Findings) -> Section:
    rows: list[list[Cell]] = []
    drawn = []
    for name, said in found.models.items():
        at = metrics.reliability(found.positive, said.rarity[found.known])
        drawn.append((name, at))
        rows.append([name, spread(found.figure(name, "brier")), at.error])
    base = float(found.positive.mean() * (1 - found.positive.mean()))
    rows.append(["always the share of the rare class", f"{base:.3f}", 0.0])
    words = (
        "Whether a rarity of 0.3 means that 3 in 10 such users are of the rare class. Brier score and expected "
        "calibration error: 0 is perfect. Bins hold equally many users."
    )
    name, at = next(pair for pair in drawn if pair[0] == found.definition)
    body = [
        reliability_figure(at, name),
        report.table(["definition", "Brier score", "calibration error"], rows, wide=False),
    ]
    return Section("Calibration", words, body)


def reliability_figure(at: metrics.Reliability, name: str) -> Markup:
    fig, ax = report.new_figure(500, 340)
    most = float(max(at.expected.max(), at.high.max(), 0.01))
    ax.plot([0, most], [0, most], color=report.MUTED, linestyle=":", linewidth=1, label="perfect")
    bars = [at.observed - at.low, at.high - at.observed]
    ax.errorbar(at.expected, at.observed, yerr=np.maximum(bars, 0), fmt="o-", capsize=3, label=name)
    ax.set(xlabel="rarity said", ylabel="share that was of the rare class")
    ax.legend(fontsize=8.5)
    return report.figure(fig, "Reliability: said against seen, with 95 % intervals per bin.")


def training(found: Findings) -> Section:
    columns = read_curves(found.curves) if found.curves else {}
    steps = columns.pop("iteration", np.zeros(0))
    members = columns.pop("member", None)
    body = []
    quality = {name: values for name, values in columns.items() if name.startswith("validation")}
    losses = {name: values for name, values in columns.items() if "loss" in name.lower()}
    for group, caption in ((losses, "Losses"), (quality, "PR-AUC on validation users")):
        if group and len(np.unique(steps)) > 1:
            body.append(training_figure(steps, group, caption))
    count = len(np.unique(members)) if members is not None else 1
    words = f"Means over {count} models of different seeds and folds; the band is from the lowest to the highest."
    card = found.cards[found.definition]
    if card.get("stopped_early"):
        words += f" Training ended early, at iteration {card['stopped_at']:,}: PR-AUC on unseen users rose no more."
    return Section("Training", words, [*body, *seeds(found)])


def read_curves(path: Path) -> dict[str, NDArray]:
    """The numeric columns of curves.csv; a cell that is no number is NaN."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([to_float(row[name]) for row in rows]) for name in (rows[0] if rows else {})}
    return {name: values for name, values in columns.items() if not np.isnan(values).all()}


def to_float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def training_figure(steps: NDArray, group: Mapping[str, NDArray], caption: str) -> Markup:
    fig, ax = report.new_figure(500, 300)
    at = np.unique(steps)
    for i, (name, values) in enumerate(group.items()):
        lines = [values[(steps == step) & ~np.isnan(values)] for step in at]
        drawn = [j for j, line in enumerate(lines) if len(line)]
        colour = report.SERIES[i % len(report.SERIES)]
        mean, low, high = ([how(lines[j]) for j in drawn] for how in (np.mean, np.min, np.max))
        ax.plot(at[drawn], mean, color=colour, label=name.replace("_", " "), linewidth=1.8)
        ax.fill_between(at[drawn], low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set(xlabel="iteration")
    ax.legend(fontsize=8.5)
    return report.figure(fig, f"{caption} while training.")


def seeds(found: Findings) -> list[Markup]:
    """The spread over seeds that training measured on validation users."""
    spreads = found.cards[found.definition].get("spread") or {}
    rows = [
        [name, s["mean"], s["sd"]] for name, s in spreads.items() if isinstance(s, dict) and {"mean", "sd"} <= set(s)
    ]
    caption = "From seed to seed, on validation users: what one model alone would have scored."
    return [report.table(["metric", "mean", "standard deviation"], rows, caption, wide=False)] if rows else []


def influence(found: Findings) -> Section:
    names = [name for name, _ in found.importance][::-1]
    losses = [loss for _, loss in found.importance][::-1]
    fig, ax = report.new_figure(760, 60 + 24 * len(names))
    ax.barh(range(len(names)), losses, color=report.SERIES[0])
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="PR-AUC lost when the feature is shuffled among the test users")
    ax.grid(False, axis="y")
    words = (
        "What the ranking loses without a feature. Features that say the same thing share their influence, so a small "
        "bar does not mean that a habit does not matter."
    )
    return Section(
        "What the model looks at",
        words,
        [report.figure(fig, "The features that matter most to the ranking.", wide=True)],
    )


def reasons(found: Findings) -> Section:
    body = []
    for user in found.explained:
        rows: list[list[Cell]] = [
            [name, value, usual, signed(f"{added:+.3f}")] for name, value, usual, added in user.reasons
        ]
        caption = f"{user.user}: rarity {user.rarity:.3f}; a usual user has {user.usual:.3f}"
        body.append(report.table(["feature", "this user", "usual user", "adds"], rows, caption, wide=False))
    words = (
        "The test users with the highest rarity, and what sets each apart from the median training user (Shapley "
        "values: over all features they add up to the difference in rarity)."
    )
    return Section("Why these users", words, body)


def champion(found: Findings) -> Section:
    if found.champion is None:
        return Section("Since the champion", f"The champion cannot be compared: {found.champion_refused}.")
    ours, theirs = found.samples[found.definition], found.samples[comparison.CHAMPION]
    rows: list[list[Cell]] = []
    for metric, name in MEASURED.items():
        if metric in ours and metric in theirs:
            gap = comparison.difference(ours[metric], theirs[metric])
            rows.append([name, theirs[metric][0], ours[metric][0], spread(gap, "+.3f")])
    rare = len(found.classes) - 1
    before, now = found.champion.label == rare, found.models[found.definition].label == rare
    words = (
        f"{champion_name(found.champion_card)} on the same test users. {int((now & ~before).sum()):,} users are newly "
        f"flagged, {int((before & ~now).sum()):,} no longer, {int((before & now).sum()):,} still. If the champion was "
        "trained on some of these users, that flatters it."
    )
    body = [report.table(["metric", "champion", "challenger", "difference"], rows), *settings(found)]
    return Section("Since the champion", words, body)


MEASURED = {
    "pr_auc": "PR-AUC",
    "recall": "recall",
    "precision": "precision",
    "f_beta": "F-beta",
    "recall_at_fpr_0.01": "recall at 1 % false alarms",
    "false_alarms_per_hit": "false alarms per hit",
    "share_unknown": "labelled users sent to unknown",
    "brier": "Brier score",
}


def champion_name(card: dict) -> str:
    version = card.get("version")
    return f"The champion (version {version}, {card.get('definition', '')})" if version else "The champion"


def settings(found: Findings) -> list[Markup]:
    """The settings in which the two models differ."""
    old, new = found.champion_card, found.cards[found.definition]
    flat = [dict(card.get("hyperparameters") or {}) | {"definition": card.get("definition")} for card in (old, new)]
    keys = [key for key in dict.fromkeys([*flat[0], *flat[1]]) if flat[0].get(key) != flat[1].get(key)]
    rows = [[key, str(flat[0].get(key, "–")), str(flat[1].get(key, "–"))] for key in keys]
    gone, came = (set(a.get("features", ())) - set(b.get("features", ())) for a, b in ((old, new), (new, old)))
    rows += [["features", f"{len(gone)} of its own", f"{len(came)} of its own"]] if gone or came else []
    return [report.table(["setting", "champion", "challenger"], rows, "What was set differently")] if rows else []


def by_class(found: Findings) -> Section:
    rows: list[list[Cell]]
    header = ["definition", "class", "test users", "recall", "precision", f"F{found.beta:g}"]
    rows = [
        [
            name,
            one,
            int((found.test.label == k).sum()),
            *(spread(found.figure(name, f"{m}_{k}")) for m in ("recall", "precision", "f_beta")),
        ]
        for name in found.models
        for k, one in enumerate(found.classes)
    ]
    return Section("Every class", "Unknown counts as a miss here.", [report.table(header, rows)])


def how(found: Findings) -> Section:
    count = len(next(iter(found.samples.values()))["pr_auc"]) - 1
    words = (
        f"Test users were never seen in training nor in the choice of thresholds. Intervals: {count:,} stratified "
        "bootstrap resamples of the test users, percentiles 2.5 and 97.5; every method is measured on the same "
        "resamples, so differences are paired. They speak of the luck of the test users, not of the seed (see "
        "Training). A method is "
        "preferred when it is the simplest one that is not shown to be worse than the best. PR-AUC is average "
        "precision. Labels may be weak: a user counted as a false alarm may be a find."
    )
    return Section("How this was measured", words)
