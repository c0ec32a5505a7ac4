"""The evaluation report: an HTML page with a model's figures, in the order in which a reader asks for them.

Only the curves are computed here; all other figures come from the evaluate step.
"""

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

SLIDER_STEPS = 80  # positions of the threshold slider
FEW_RARE_ROWS = 20  # fewer rare test rows give rough intervals
KEEP_RULES = {
    "highest_recall": "highest recall with precision at least {precision_floor}",
    "highest_precision": "highest precision with recall at least {recall_floor}",
    "highest_pr_auc": "highest PR-AUC",
    "fewest_unknown": "fewest unknown with recall within {recall_tolerance} of the best",
}


@dataclass(frozen=True)
class Predictions:
    """A model's scores of all n test rows.

    - rarity: float [n], higher is more like the rare class
    - unknown: float [n], higher is less like the training rows
    - label: int [n], predicted class position, K for unknown
    """

    rarity: NDArray
    unknown: NDArray
    label: NDArray


@dataclass(frozen=True)
class Findings:
    """All results of an evaluation. A method is a model, a simple model or the champion.

    - classes: class names, the rare class last
    - beta: of F-beta
    - test: all n test rows, labelled or not
    - definition: name of the business definition whose model the gate checks
    - models: name of a business definition -> its model's predictions
    - cards: name of a business definition -> its model.json
    - simple_models: name of a simple model -> rarity [n]
    - titles: name of a method -> what to call it
    - samples: name of a method -> metric -> samples [1 + b]: the figure on the labelled test rows, then
      on each of b bootstrap resamples
    - preference: the method to use
    - gate: the content of gate.json
    - champion: its predictions, None when it is absent or cannot be compared
    - champion_card: its model.json, {} without a champion
    - champion_refused: why it cannot be compared, or ""
    - curves: path of curves.csv of the training, or None
    - importance: (feature, PR-AUC that the gate's model loses when it is shuffled) of the features that matter, the
      most important first
    - explained: some test users that the gate's model flags, with the reasons, the highest rarity first
    """

    classes: tuple[str, ...]
    beta: float
    test: FeatureTable
    definition: str
    models: Mapping[str, Predictions]
    cards: Mapping[str, dict]
    simple_models: Mapping[str, NDArray]
    titles: Mapping[str, str]
    samples: Mapping[str, Mapping[str, Samples]]
    preference: Preference
    gate: dict
    champion: Predictions | None
    champion_card: dict
    champion_refused: str
    curves: Path | None
    importance: Sequence[tuple[str, float]]
    explained: Sequence["ExplainedUser"]

    @property
    def known(self) -> NDArray:
        """Which test rows are labelled, bool [n]."""
        return self.test.label >= 0

    @property
    def positive(self) -> NDArray:
        """Which of the labelled test rows are of the rare class: bool, one per labelled row (not per test row)."""
        return self.test.label[self.known] == len(self.classes) - 1

    @property
    def rare(self) -> str:
        """The name of the rare class."""
        return self.classes[-1]

    def figure(self, method: str, metric: str) -> metrics.Estimate:
        """A method's metric on the labelled test rows, with 95 % interval and standard deviation over the resamples.

        method, metric: keys of `samples`.
        Raises KeyError for a method or a metric that was not measured.
        """
        return metrics.estimate(self.samples[method][metric])


@dataclass(frozen=True)
class ExplainedUser:
    """Why one user is flagged.

    - user: the user's id
    - rarity: the user's rarity
    - usual: the rarity of a typical training user
    - reasons: (feature, the user's value, the typical value, what the difference adds to rarity, which may be
      negative), the largest effect up or down first; the value of a category is its text
    """

    user: str
    rarity: float
    usual: float
    reasons: Sequence[tuple[str, float | str, float | str, float]]


def write_evaluation_page(path: Path, found: Findings, description: str) -> Path:
    """Write the evaluation report to `path`, in place of an older one, and return `path`.

    description: what the project is for; may be empty.
    """
    sections = [
        summary_section(found),
        definitions_section(found),
        simple_models_section(found),
        thresholds_section(found),
        confusion_section(found),
        unknown_section(found),
        calibration_section(found),
        *optional_sections(found),
        classes_section(found),
        method_section(found),
    ]
    lead = f"How well each model finds “{found.rare}” users it has never seen, and what would do as well."
    return report.write_page(path, "Evaluation", lead, sections, description)


def optional_sections(found: Findings) -> list[Section]:
    """The sections on training, influence, reasons and champion, in this order, without those with nothing to show."""
    parts = [training_section(found)] if found.curves else []
    parts += [influence_section(found)] if found.importance else []
    parts += [reasons_section(found)] if found.explained else []
    parts += [champion_section(found)] if found.champion_card or found.champion_refused else []
    return parts


def with_interval(figure: metrics.Estimate, form: str = ".3f") -> Markup:
    """The figure with its 95 % interval in small print below, as a table cell; a dash where the figure is NaN.

    form: Python's format of the numbers, such as "+.3f" for those with a sign. When the interval is NaN, the cell holds
    the figure alone.
    """
    if np.isnan(figure.value):
        return Markup("–")
    value = with_minus_sign(f"{figure.value:{form}}")
    if np.isnan(figure.low):
        return Markup(value)
    joint = " to " if form.startswith("+") else "–"
    return Markup("{}<small>{}</small>").format(
        value, with_minus_sign(f"{figure.low:{form}}{joint}{figure.high:{form}}")
    )


def with_minus_sign(number: str) -> str:
    """The text of a number with its hyphens replaced by minus signs."""
    return number.replace("-", "−")


def metric_tile(found: Findings, label: str, metric: str) -> tuple[str, Cell, str]:
    """A tile for html_tiles with a metric of the model that the gate checks: (label, value, its 95 % interval as text).

    label: the title of the tile. metric: key of the metric, such as "recall" (see Findings.figure). The text of the
    interval is "" when the interval is NaN.

    Raises KeyError for a metric that was not measured.
    """
    figure = found.figure(found.definition, metric)
    words = "" if np.isnan(figure.low) else f"95 % interval {figure.low:.3f} to {figure.high:.3f}"
    return label, figure.value, words


def summary_section(found: Findings) -> Section:
    """The section with the key figures of the gate's model, the gate's verdict, the preferred method, and the sentences
    of small_sample_warnings."""
    predictions, rare = found.models[found.definition], len(found.classes) - 1
    flagged = int((predictions.label[~found.known] == rare).sum())
    body = [
        report.html_tiles(
            [
                metric_tile(found, "PR-AUC", "pr_auc"),
                metric_tile(found, "Recall", "recall"),
                metric_tile(found, "Precision", "precision"),
                metric_tile(found, f"F-beta (beta {found.beta:g})", "f_beta"),
                metric_tile(found, "Recall at 1 % false alarms", "recall_at_fpr_0.01"),
                metric_tile(found, "False alarms per hit", "false_alarms_per_hit"),
                metric_tile(found, "Labelled users sent to unknown", "share_unknown"),
                ("Unlabelled users flagged", flagged, f"of {int((~found.known).sum()):,} in the test split"),
            ]
        ),
        report.html_note(found.gate["reason"], "good" if found.gate["passed"] else "bad"),
        report.html_note(found.preference.sentence),
        *(report.html_note(words, "bad") for words in small_sample_warnings(found)),
    ]
    words = (
        f"The model of “{found.definition}”, which the gate checks, on {int(found.known.sum()):,} labelled test users, "
        f"{int(found.positive.sum()):,} of them {found.rare}."
    )
    return Section("In short", words, body)


def small_sample_warnings(found: Findings) -> list[str]:
    """Sentences on what makes the figures less certain: classes without a labelled test user, and fewer than
    FEW_RARE_ROWS rare test users, but at least one; [] for neither."""
    rows = int(found.positive.sum())
    absent = [name for k, name in enumerate(found.classes) if not (found.test.label == k).any()]
    words = [f"The test split holds no user of: {', '.join(absent)}. Their figures are left blank."] if absent else []
    if 0 < rows < FEW_RARE_ROWS:
        words.append(
            f"Only {rows} {found.rare} users in the test split: the intervals are rough and may be too narrow. "
            "More labelled users, or a larger split.test_share, make them more certain."
        )
    return words


def definitions_section(found: Findings) -> Section:
    """The section with a table of each business definition's rule, metrics on the labelled test users, threshold of
    rarity and number of flagged test users, labelled or not."""
    header = ["definition", "keeps", "PR-AUC", "recall", "precision", f"F{found.beta:g}", "false alarms per hit"]
    header += ["unknown", "threshold", "flagged"]
    rows = []
    for name in found.models:
        cells = [with_interval(found.figure(name, m)) for m in ("pr_auc", "recall", "precision", "f_beta")]
        alarms, share = (found.figure(name, m).value for m in ("false_alarms_per_hit", "share_unknown"))
        flagged = int((found.models[name].label == len(found.classes) - 1).sum())
        threshold = found.cards[name].get("thresholds", {}).get("rare", float("nan"))
        rows.append(
            [
                definition_title(found, name),
                keep_rule_text(found.cards[name]),
                *cells,
                alarms,
                percent_text(share),
                threshold,
                flagged,
            ]
        )
    words = (
        "One model per business definition, chosen on validation users. Intervals are 95 %; flagged counts all test "
        "users, labelled or not."
    )
    return Section("The business definitions", words, [report.html_table(header, rows)])


def definition_title(found: Findings, name: str) -> Markup:
    """The name of a business definition as HTML, escaped; for the one whose model the gate checks in bold, with
    "(checked by the gate)" after it."""
    words = Markup("<strong>{}</strong> (checked by the gate)") if name == found.definition else Markup("{}")
    return words.format(name)


def keep_rule_text(card: dict) -> str:
    """By which rule a business definition chooses its model, in words; the rule's own name when KEEP_RULES lacks it;
    that name with blanks for underscores when the rule's settings are missing; "" without a rule.

    card: its model.json, whose `keep` is the name of the rule, or a mapping with that name under "keep" and the
    rule's settings.
    """
    keep = card.get("keep", "")
    settings = keep if isinstance(keep, dict) else card
    name = settings.get("keep", "")
    try:
        return KEEP_RULES.get(name, str(name)).format(**settings)
    except KeyError:
        return str(name).replace("_", " ")


def percent_text(share: float) -> str:
    """A share 0 … 1 as a percentage with one digit after the point, "12.3 %"; a dash for NaN."""
    return "–" if np.isnan(share) else f"{100 * share:.1f} %"


def simple_models_section(found: Findings) -> Section:
    """The section that compares the gate's model with simple models and the champion: the preference, a table, two
    figures.

    The table has the highest PR-AUC first. The second figure compares the business definitions' models. The figures are
    left out when the test split holds no row of the rare class.
    """
    ours = found.definition
    rivals = [*found.simple_models, *([comparison.CHAMPION_METHOD] if found.champion else [])]
    header = ["method", "PR-AUC", "ScarceGAN less this", "recall at 0.1 % false alarms", "at 1 %", "at 5 %"]
    rows: list[list[Cell]] = []
    ranked = sorted([ours, *rivals], key=lambda m: -np.nan_to_num(found.samples[m]["pr_auc"][0]))
    for method in ranked:
        gap = comparison.paired_difference(found.samples[ours]["pr_auc"], found.samples[method]["pr_auc"])
        ahead = None if method == ours else with_interval(gap, "+.3f")
        at = [with_interval(found.figure(method, f"recall_at_fpr_{rate}")) for rate in comparison.FALSE_POSITIVE_RATES]
        name = Markup("<strong>{}</strong>") if method == ours else Markup("{}")
        rows.append([name.format(found.titles[method]), with_interval(found.figure(method, "pr_auc")), ahead, *at])
    body = [report.html_note(found.preference.sentence), report.html_table(header, rows)]
    if found.positive.any():
        body += [
            precision_recall_figure(
                found,
                {found.titles[m]: rarity_of(found, m) for m in [ours, *rivals]},
                "ScarceGAN, simple models and the champion",
            ),
            precision_recall_figure(
                found,
                {m: model.rarity for m, model in found.models.items()},
                "The business definitions",
            ),
        ]
    words = (
        "Simple models trained on the same labelled users and measured on the same resamples. They rank users; only "
        "ScarceGAN also sends behaviour it does not know to “unknown”."
    )
    return Section("Compared with simple models", words, body)


def rarity_of(found: Findings, method: str) -> NDArray:
    """The rarity of all test rows by one method, float [n].

    method: a business definition, a simple model, or CHAMPION_METHOD. Raises KeyError when there is no such method.
    """
    if method == comparison.CHAMPION_METHOD and found.champion is not None:
        return found.champion.rarity
    return found.models[method].rarity if method in found.models else found.simple_models[method]


def precision_recall_figure(found: Findings, scores: Mapping[str, NDArray], caption: str) -> Markup:
    """Figure of precision over recall on the labelled test rows: a line per method, in four kinds of dashes by turns,
    and a line for flagging by chance, at the share of the rare class.

    scores: title of a method -> its rarity [n] of all test rows; the first is drawn thicker. caption: begins the
    text below the figure. At least one labelled test row must be of the rare class.
    """
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
    return report.svg_figure(fig, f"{caption}: precision at every recall of {found.rare} users.")


def thresholds_section(found: Findings) -> Section:
    """The section that shows what other thresholds of the gate's model would flag: by a slider over all
    threshold_steps, and by a table of about twelve of them and the model's own."""
    predictions = found.models[found.definition]
    own = found.cards[found.definition].get("thresholds", {}).get("rare")
    steps = threshold_steps(found, predictions.rarity, own)
    header = ["threshold", "flagged", "hits", "recall", "precision", "false alarms per hit", "unlabelled flagged"]
    some = sorted({*metrics.spread_evenly(len(steps), 12).tolist(), *(i for i, s in enumerate(steps) if s["own"])})
    rows = [[threshold_cell(steps[i]), *[steps[i][key] for key in list(steps[i])[1:7]]] for i in some]
    words = (
        f"What another threshold would do to “{found.definition}” on the test users. A user is flagged when the rarity "
        "score reaches it. Choose on validation users; this shows the price."
    )
    return Section("Move the threshold", words, [slider(steps), report.html_table(header, rows)])


def threshold_cell(step: dict) -> Markup:
    """A threshold as a table cell, in bold for the model's own. step: an entry of threshold_steps."""
    words = Markup("<strong>{:.4f}</strong> (its own)") if step["own"] else Markup("{:.4f}")
    return words.format(step["threshold"])


def threshold_steps(found: Findings, rarity: NDArray, own: float | None) -> list[dict]:
    """What some thresholds would flag, the lowest threshold first: a dict of figures each.

    The thresholds are at most SLIDER_STEPS of the rarities in the highest 30 % of all test rows, closer together the
    fewer rows they flag, and the model's own. A row is flagged when its rarity is at least the threshold. The keys of a
    dict, in order:

    - threshold
    - flagged, hits, recall, precision and alarms (false alarms per hit): on the labelled test rows; the last three are
      None where undefined
    - unlabelled: how many unlabelled rows are flagged
    - own: whether it is the model's own threshold

    rarity: float [n] of all test rows; own: the model's own threshold, which then is one of those returned, or None.
    """
    known, positive = rarity[found.known], found.positive
    distinct = np.unique(rarity)[::-1]
    # Closer together where few users are flagged: that is where thresholds are chosen.
    places = np.geomspace(1, max(np.searchsorted(-distinct, -np.quantile(rarity, 0.7)), 1), SLIDER_STEPS) - 1
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
    """A slider over the thresholds with the figures at each, as HTML with a script. steps: from threshold_steps.

    It starts at the model's own threshold, without one in the middle. A page can hold only one, because its ids are
    fixed. Without JavaScript it stays hidden.
    """
    labels = ("Flagged", "Hits", "Recall", "Precision", "False alarms per hit", "Unlabelled flagged")
    start = next((i for i, step in enumerate(steps) if step["own"]), len(steps) // 2)
    text = json.dumps(steps, separators=(",", ":")).replace("<", "\\u003c")
    empty = report.html_tiles([(label, "", "") for label in labels])
    return SLIDER.format(most=len(steps) - 1, start=start, tiles=empty, steps=Markup(text))


def confusion_section(found: Findings) -> Section:
    """The section with a confusion matrix of the labelled test rows per business definition."""
    columns = [*found.classes, "unknown"]
    body = []
    for name, predictions in found.models.items():
        counts = metrics.confusion_matrix(
            found.test.label[found.known], predictions.label[found.known], len(found.classes)
        )[0]
        body.append(
            report.html_matrix(found.classes, columns, counts.astype(int).tolist(), f"{name}: rows are the labels")
        )
    words = "Labelled test users by their label (rows) and by the predicted class (columns)."
    return Section("Confusion", words, body)


def unknown_section(found: Findings) -> Section:
    """The section on unknown: which shares of the labelled and of the unlabelled users each business definition's model
    predicts as unknown, and which share of the unlabelled ones it flags.

    It begins with the figure of rarity_figure.
    """
    k = len(found.classes)
    rows = []
    for name, predictions in found.models.items():
        labelled, rest = predictions.label[found.known], predictions.label[~found.known]
        known_share = float(np.mean(labelled == k)) if len(labelled) else float("nan")
        rest_share = float(np.mean(rest == k)) if len(rest) else float("nan")
        ratio = rest_share / known_share if known_share > 0 else float("nan")
        flagged = float(np.mean(rest == k - 1)) if len(rest) else float("nan")
        rows.append(
            [
                name,
                percent_text(known_share),
                percent_text(rest_share),
                f"{ratio:.1f}" if ratio == ratio else "–",
                percent_text(flagged),
            ]
        )
    header = ["definition", "labelled sent to unknown", "unlabelled sent to unknown", "ratio", "unlabelled flagged"]
    words = (
        "A useful “unknown” takes few labelled users and many of those whose behaviour no label covers. The picture "
        "shows where each class lies on the rarity score."
    )
    return Section("Unknown and unlabelled users", words, [rarity_figure(found), report.html_table(header, rows)])


def rarity_figure(found: Findings) -> Markup:
    """Figure with a line per class, and one for unlabelled users: the share of its users at or above each rarity score.

    It is of the model that the gate checks, whose threshold is a vertical line. The share is on a logarithmic scale.
    Classes without test users have no line.
    """
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
    return report.svg_figure(
        fig, f"Share of each class's test users at or above a rarity score ({found.definition}).", wide=True
    )


def calibration_section(found: Findings) -> Section:
    """The section on whether rarity is a probability, on the labelled test rows: a table of Brier score and calibration
    error of each business definition's model, and the reliability diagram of the gate's model.

    The last row of the table is what always predicting the share of the rare class would give.
    """
    rows: list[list[Cell]] = []
    drawn = []
    for name, predictions in found.models.items():
        at = metrics.reliability(found.positive, predictions.rarity[found.known])
        drawn.append((name, at))
        rows.append([name, with_interval(found.figure(name, "brier")), at.error])
    base = float(found.positive.mean() * (1 - found.positive.mean()))
    rows.append(["always the share of the rare class", f"{base:.3f}", 0.0])
    words = (
        "Whether a rarity of 0.3 means that 3 in 10 such users are of the rare class. Brier score and expected "
        "calibration error: 0 is perfect. Bins hold equally many users."
    )
    name, at = next(pair for pair in drawn if pair[0] == found.definition)
    body = [
        reliability_figure(at, name),
        report.html_table(["definition", "Brier score", "calibration error"], rows, wide=False),
    ]
    return Section("Calibration", words, body)


def reliability_figure(at: metrics.Reliability, name: str) -> Markup:
    """Figure of the share of the rare class over the predicted rarity, a point per bin with its 95 % interval.

    at: the points; name: the line's name in the legend.
    """
    fig, ax = report.new_figure(500, 340)
    most = max(float(at.expected.max()), float(at.high.max()), 0.01)
    ax.plot([0, most], [0, most], color=report.MUTED, linestyle=":", linewidth=1, label="perfect")
    bars = [at.observed - at.low, at.high - at.observed]
    ax.errorbar(at.expected, at.observed, yerr=np.maximum(bars, 0), fmt="o-", capsize=3, label=name)
    ax.set(xlabel="predicted rarity", ylabel="share of the rare class")
    ax.legend(fontsize=8.5)
    return report.svg_figure(fig, "Reliability: predicted against observed, with 95 % intervals per bin.")


def training_section(found: Findings) -> Section:
    """The section with figures of the training's losses and of its PR-AUC on validation users, and a table of the
    spread from seed to seed where it was measured.
    """
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
    return Section("Training", words, [*body, *seed_spread(found)])


def read_curves(path: Path) -> dict[str, NDArray]:
    """The columns of curves.csv that hold at least one number, name -> float [rows]; a cell without a number is NaN.

    Without rows the result is {}.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([to_float(row[name]) for row in rows]) for name in (rows[0] if rows else {})}
    return {name: values for name, values in columns.items() if not np.isnan(values).all()}


def to_float(text: str | None) -> float:
    """A text as a number; NaN for None, "" and text that is no number."""
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def training_figure(steps: NDArray, group: Mapping[str, NDArray], caption: str) -> Markup:
    """Figure of each curve over the iterations: the mean over models, with a band from the lowest to the highest value.

    - steps: iteration of each row [r] of curves.csv, which has a row per model (seed and fold) and iteration
    - group: name of a curve -> its values [r], of which NaN is left out
    - caption: begins the text below the figure
    """
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
    return report.svg_figure(fig, f"{caption} while training.")


def seed_spread(found: Findings) -> list[Markup]:
    """A list with one table: mean and standard deviation over seeds of the gate's model's metrics on validation users.

    [] when they were not measured.
    """
    spreads = found.cards[found.definition].get("spread") or {}
    rows = [
        [name, s["mean"], s["sd"]] for name, s in spreads.items() if isinstance(s, dict) and {"mean", "sd"} <= set(s)
    ]
    caption = "From seed to seed, on validation users: what one model alone would have scored."
    return [report.html_table(["metric", "mean", "standard deviation"], rows, caption, wide=False)] if rows else []


def influence_section(found: Findings) -> Section:
    """The section with the features that matter most to the ranking (found.importance), as bars, the longest on top."""
    names = [name for name, _ in found.importance][::-1]
    losses = [loss for _, loss in found.importance][::-1]
    fig, ax = report.new_figure(760, 60 + 24 * len(names))
    ax.barh(range(len(names)), losses, color=report.SERIES[0])
    ax.set_yticks(range(len(names)), [report.drawn_as_it_is(name) for name in names])
    ax.set(xlabel="PR-AUC lost when the feature is shuffled among the test users")
    ax.grid(False, axis="y")
    words = (
        "What the ranking loses without a feature. Features that say the same thing share their influence, so a small "
        "bar does not mean that a habit does not matter."
    )
    return Section(
        "What the ranking depends on",
        words,
        [report.svg_figure(fig, "The features that matter most to the ranking.", wide=True)],
    )


def reasons_section(found: Findings) -> Section:
    """The section that explains why users are flagged, a table of reasons for each user in found.explained."""
    body = []
    for user in found.explained:
        rows: list[list[Cell]] = [
            [name, value, usual, with_minus_sign(f"{added:+.3f}")] for name, value, usual, added in user.reasons
        ]
        caption = f"{user.user}: rarity {user.rarity:.3f}; a usual user has {user.usual:.3f}"
        body.append(report.html_table(["feature", "this user", "usual user", "adds"], rows, caption, wide=False))
    words = (
        "The test users with the highest rarity, and what sets each apart from the median training user (Shapley "
        "values: over all features they add up to the difference in rarity)."
    )
    return Section("Why these users", words, body)


def champion_section(found: Findings) -> Section:
    """The section that compares the gate's model with the champion, or says why that cannot be done."""
    if found.champion is None:
        return Section("Since the champion", f"The champion cannot be compared: {found.champion_refused}.")
    ours, theirs = found.samples[found.definition], found.samples[comparison.CHAMPION_METHOD]
    rows: list[list[Cell]] = []
    for metric, name in COMPARED_METRICS.items():
        if metric in ours and metric in theirs:
            gap = comparison.paired_difference(ours[metric], theirs[metric])
            rows.append([name, theirs[metric][0], ours[metric][0], with_interval(gap, "+.3f")])
    rare = len(found.classes) - 1
    before, now = found.champion.label == rare, found.models[found.definition].label == rare
    words = (
        f"{champion_name(found.champion_card)} on the same test users. {int((now & ~before).sum()):,} users are newly "
        f"flagged, {int((before & ~now).sum()):,} no longer, {int((before & now).sum()):,} still. If the champion was "
        "trained on some of these users, that flatters it."
    )
    body = [report.html_table(["metric", "champion", "challenger", "difference"], rows), *changed_settings(found)]
    return Section("Since the champion", words, body)


COMPARED_METRICS = {
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
    """What to call the champion at the start of a sentence: "The champion (version 3, best_ranking)".

    card: its model.json; without a version in it, the result is "The champion".
    """
    version = card.get("version")
    return f"The champion (version {version}, {card.get('definition', '')})" if version else "The champion"


def changed_settings(found: Findings) -> list[Markup]:
    """A list with one table of what differs between the champion and the gate's model; [] when nothing does.

    It has a row for each hyperparameter that differs, one if the business definition differs, and one if the features
    differ, which gives for each of the two how many features only it has.
    """
    old, new = found.champion_card, found.cards[found.definition]
    flat = [dict(card.get("hyperparameters") or {}) | {"definition": card.get("definition")} for card in (old, new)]
    keys = [key for key in dict.fromkeys([*flat[0], *flat[1]]) if flat[0].get(key) != flat[1].get(key)]
    rows = [[key, str(flat[0].get(key, "–")), str(flat[1].get(key, "–"))] for key in keys]
    gone, came = (set(a.get("features", ())) - set(b.get("features", ())) for a, b in ((old, new), (new, old)))
    rows += [["features", f"{len(gone)} of its own", f"{len(came)} of its own"]] if gone or came else []
    return [report.html_table(["setting", "champion", "challenger"], rows, "What was set differently")] if rows else []


def classes_section(found: Findings) -> Section:
    """The section with a table of recall, precision and F-beta of every class, for each business definition's model."""
    rows: list[list[Cell]]
    header = ["definition", "class", "test users", "recall", "precision", f"F{found.beta:g}"]
    rows = [
        [
            name,
            one,
            int((found.test.label == k).sum()),
            *(with_interval(found.figure(name, f"{m}_{k}")) for m in ("recall", "precision", "f_beta")),
        ]
        for name in found.models
        for k, one in enumerate(found.classes)
    ]
    return Section("Every class", "Unknown counts as a miss here.", [report.html_table(header, rows)])


def method_section(found: Findings) -> Section:
    """The section that explains how the figures were measured, in words alone."""
    count = len(next(iter(found.samples.values()))["pr_auc"]) - 1
    words = (
        f"Test users were never seen in training nor in the choice of thresholds. Intervals: {count:,} stratified "
        "bootstrap resamples of the test users, percentiles 2.5 and 97.5; every method is measured on the same "
        "resamples, so differences are paired. They cover chance in the choice of test users, not in the seed (see "
        "Training). A method is "
        "preferred when it is the simplest one that is not shown to be worse than the best. PR-AUC is average "
        "precision. Labels may be weak: a user counted as a false alarm may be a find."
    )
    return Section("How this was measured", words)
