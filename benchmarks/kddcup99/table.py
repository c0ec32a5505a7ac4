"""The one table: mean ± sd over seeds, and what ScarceGAN wins against each method on the same draws."""

from collections.abc import Mapping, Sequence

import numpy as np

from kddcup99.scores import paired, spread

Results = Mapping[str, Sequence[Mapping[str, float]]]  # method -> figures of every seed

COLUMNS = {
    "PR-AUC": "pr_auc",
    "F1": "f1",
    "recall": "recall",
    "F1, labelled": "f1_labelled",
    "recall, lab.": "recall_labelled",
    "at 0.1 %": "recall_at_0.001",
    "at 1 %": "recall_at_0.01",
    "at 5 %": "recall_at_0.05",
}


def lines(task: str, results: Results, ours: str) -> list[str]:
    """A head line and a line per method; the best PR-AUC carries a star."""
    best = max(results, key=lambda name: mean(results[name], "pr_auc"))
    head = f"{task:<36}" + "".join(f"{name:>15}" for name in COLUMNS) + f"{'alarms/hit':>12}   ours: wins, PR-AUC won"
    rows = [head, "-" * len(head)]
    for name, seeds in results.items():
        cells = "".join(f"{cell(seeds, figure):>15}" for figure in COLUMNS.values())
        versus = "" if name == ours or ours not in results else won(results[ours], seeds)
        star = " *" if name == best else ""
        rows.append(f"{name + star:<36}{cells}{alarms(seeds):>12}   {versus}")
    return rows


def by_view(results: Results, views: Sequence[str]) -> list[str]:
    """PR-AUC of every method: the mean of the views, then each; views: of every draw in order."""
    names = list(dict.fromkeys(views))
    rows = [f"{'PR-AUC by view':<36}" + "".join(f"{name:>15}" for name in ("mean of views", *names))]
    for method, draws in results.items():
        each = [mean([one for one, view in zip(draws, views, strict=True) if view == name], "pr_auc") for name in names]
        rows.append(f"{method:<36}" + "".join(f"{value:>15.3f}" for value in (np.mean(each), *each)))
    return rows


def cell(seeds: Sequence[Mapping[str, float]], figure: str) -> str:
    average, deviation = spread([seed[figure] for seed in seeds])
    return f"{average:.3f} ± {deviation:.3f}"


def mean(seeds: Sequence[Mapping[str, float]], figure: str) -> float:
    return spread([seed[figure] for seed in seeds])[0]


def alarms(seeds: Sequence[Mapping[str, float]]) -> str:
    """Median over seeds: a seed without a hit has infinitely many alarms per hit."""
    return f"{np.median([seed['alarms_per_hit'] for seed in seeds]):.1f}"


def won(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> str:
    """Wins of ours over theirs on the same draws, mean difference in PR-AUC and its 95 % interval."""
    versus = paired([seed["pr_auc"] for seed in ours], [seed["pr_auc"] for seed in theirs])
    return f"{versus['wins']}/{versus['of']}  {versus['difference']:+.3f} [{versus['low']:+.3f}, {versus['high']:+.3f}]"
