"""Synthetic telemetry: ScarceGAN against every simple model on several populations, and what unknown catches.

python benchmarks/bench_telemetry.py [--populations 16] [--users 20000] [--set train.scarcegan.alpha=1 …]
Each population is made from its own seed, split, trained on and tested by the project's own steps.
"""

import argparse
import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path

import measure
import numpy as np
import pyarrow.parquet as pq
from kddcup99.scores import paired
from scarcegan.data import synthetic
from scarcegan.local import live, runner
from scarcegan.pipeline import config
from scarcegan.pipeline.definition import Gate, Pipeline, training
from sklearn.metrics import average_precision_score

OURS = "best_ranking"


def evaluated(place: Path, seed: int, users: int, changes: Sequence[str]) -> dict[str, np.ndarray]:
    """Make a population, run the pipeline up to the evaluation; the test users' columns and their true behaviour."""
    data = place / f"data-{seed}"
    if not data.exists():
        synthetic.generate(data, users=users, seed=seed)
    settings = place / "config.yaml"
    settings.write_text("{}", encoding="utf-8")
    whole = training(config.load_config(settings, [f"train.seed={seed}", f"split.seed={seed}", *changes]))
    steps = tuple(step for step in whole.steps if not isinstance(step, Gate) and step.name != "register")
    pipeline = Pipeline("telemetry", whole.sources, steps, whole.optional)
    sources = {"telemetry": data / "telemetry", "labels": data / "labels.csv"}
    with live.watching(pipeline) as observer:
        result = runner.run_pipeline(pipeline, sources, place / "runs", observer=observer)
    if not result.finished:
        raise SystemExit(result.reason)
    table = pq.read_table(result.output("evaluate", "evaluation") / "predictions.parquet")
    with (data / "truth.csv").open(encoding="utf-8", newline="") as file:
        truth = {row["user_id"]: row["behaviour"] for row in csv.DictReader(file)}
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return {**columns, "truth": np.array([truth[user] for user in columns["user_id"]])}


def figures(test: dict[str, np.ndarray]) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """PR-AUC of each method by weak labels, and by the truth of everybody; share of each behaviour sent to unknown."""
    classes = config.LabelSettings().classes
    labelled, rare = test["label"] >= 0, test["label"] == len(classes) - 1
    methods = [
        OURS,
        *(n.removeprefix("rarity_") for n in test if n.startswith("rarity_") and "label" + n[6:] not in test),
    ]
    weak = {m: average_precision_score(rare[labelled], test[f"rarity_{m}"][labelled]) for m in methods}
    true = {m: average_precision_score(test["truth"] == classes[-1], test[f"rarity_{m}"]) for m in methods}
    unknown = test[f"label_{OURS}"] == len(classes)
    seen = np.isin(test["truth"], classes)
    shares = {"known": unknown[seen].mean(), "never labelled": unknown[~seen].mean()}
    return weak, true, shares | {str(b): unknown[test["truth"] == b].mean() for b in np.unique(test["truth"])}


def ahead(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Mean difference over the same populations with its 95 % interval, and in how many of them ours is ahead."""
    versus = paired(ours, theirs)
    return (
        f"{versus['difference']:+.3f} [{versus['low']:+.3f}, {versus['high']:+.3f}] {versus['wins']} of {versus['of']}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--populations", type=int, default=16)
    arguments.add_argument("--users", type=int, default=20_000)
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of config.yaml")
    arguments.add_argument("--keep", type=Path, help="where data and runs are left, and found again")
    args = arguments.parse_args(argv)
    place = args.keep or Path(tempfile.mkdtemp(prefix="telemetry-"))
    place.mkdir(parents=True, exist_ok=True)
    found = [figures(evaluated(place, seed, args.users, args.set)) for seed in range(1, args.populations + 1)]
    weak, true, shares = ([one[i] for one in found] for i in range(3))
    print(
        f"{args.populations} populations of {args.users:,} players, test users: by their weak labels, and by the truth"
    )
    rows = []
    for method in weak[0]:
        values, truths = (np.array([one[method] for one in table]) for table in (weak, true))
        ours, ours_true = (np.array([one[OURS] for one in table]) for table in (weak, true))
        rows.append(
            [
                method,
                f"{values.mean():.3f} ± {values.std(ddof=1):.3f}",
                ahead(ours, values) if method != OURS else "",
                f"{truths.mean():.3f} ± {truths.std(ddof=1):.3f}",
                ahead(ours_true, truths) if method != OURS else "",
            ]
        )
    measure.show(["method", "PR-AUC", "ScarceGAN ahead by", "PR-AUC by truth", "ahead by"], rows)
    names = shares[0]
    mean = {name: np.mean([one.get(name, np.nan) for one in shares]) for name in names}
    measure.show(
        ["sent to unknown", "share", "times known"],
        [[n, f"{mean[n]:.1%}", f"{mean[n] / mean['known']:.1f}"] for n in names],
    )


if __name__ == "__main__":
    main()
