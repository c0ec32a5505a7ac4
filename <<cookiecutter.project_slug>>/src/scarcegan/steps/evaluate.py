"""Evaluate: models on the untouched test users, next to simple models and the champion. Out come figures and a gate.

Test rows without a label only count for the share that is flagged or sent to unknown. Metrics are in
evaluation/metrics.py, the comparison and the gate's rule in evaluation/comparison.py, the page in report/evaluation.py.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scarcegan.data.categories import display_value, places
from scarcegan.data.schema import FeatureTable, iter_features, parse_classes, read_features
from scarcegan.errors import UserError, run_step
from scarcegan.evaluation import comparison, metrics
from scarcegan.evaluation.comparison import CHAMPION, Answers, Rival, Rules
from scarcegan.evaluation.explain import explain, importance, reference
from scarcegan.jsonfile import replace_nan, write_json
from scarcegan.model import lookups
from scarcegan.model.learnt_from import learnt_from
from scarcegan.model.saved import model_folders
from scarcegan.model.simple import simple_models
from scarcegan.report import evaluation as page
from scarcegan.report.evaluation import Explained, Findings, Said

if TYPE_CHECKING:
    from scarcegan.model.scorer import Scorer

EXPLAINED = 5  # users
REASONS = 8  # features per explained user
INFLUENCES = 15
UNLABELLED_ROWS = 100_000  # read for self-training
INFLUENCE_ROWS = 1_500  # negatives that permutation importance looks at
STARTED = time.monotonic()


def say(words: str) -> None:
    print(f"evaluate: {words} ({time.monotonic() - STARTED:.1f} s)", file=sys.stderr, flush=True)


def read_card(path: Path) -> dict[str, Any]:
    """model.json or package.json; UserError if it is no JSON object."""
    try:
        card = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Run the step that wrote it again.") from error
    if not isinstance(card, dict):
        raise UserError(f"{path}: holds no JSON object. Run the step that wrote it again.")
    return card


def ask(scorer: "Scorer", name: str, values: NDArray, names: Sequence[str]) -> Said:
    """A model's answers on all test rows; UserError if some are not finite."""
    scores = scorer.score(values, names)
    wrong = int((~np.isfinite(scores.rarity)).sum())
    if wrong:
        raise UserError(
            f"the model {name} gives no finite rarity for {wrong} of {len(values)} test rows. "
            "Look at its training curves, then train again with a lower train.learning_rate."
        )
    return Said(np.asarray(scores.rarity, np.float64), np.asarray(scores.unknown), np.asarray(scores.label))


def ask_champion(folder: Path | None, test: FeatureTable, classes: Sequence[str]) -> tuple[Said | None, dict, str]:
    """(answers, card, refusal). No champion: (None, {}, ""). One that cannot be compared: (None, card, why)."""
    if folder is None or not folder.is_dir() or not any(folder.iterdir()):
        return None, {}, ""
    model = folder / "model"
    card = read_card(model / "model.json")
    package = folder / "package.json"
    card |= {"version": read_card(package).get("version")} if package.is_file() else {}
    refused = refusal(card, test.names, classes, test.categories)
    if refused:
        return None, card, refused
    from scarcegan.model.scorer import load

    columns = [test.names.index(name) for name in card["features"]]
    said = ask(load(model), CHAMPION, np.ascontiguousarray(test.values[:, columns]), card["features"])
    return Said(said.rarity, said.unknown, translate(said.label, card["classes"], classes)), card, ""


def refusal(
    card: Mapping[str, Any], names: Sequence[str], classes: Sequence[str], categories: Iterable[str] = ()
) -> str:
    """Why a champion with this model.json cannot be compared on rows with these features, or ""."""
    absent = [name for name in card.get("features", ()) if name not in names]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        return f"it needs features that the test rows lack ({', '.join(absent[:3])}{more})"
    changed = [n for n in card.get("features", ()) if (n in card.get("categories", ())) != (n in tuple(categories))]
    if changed:
        return f"it was trained when '{changed[0]}' was {'no' if changed[0] in tuple(categories) else 'a'} category"
    rare = (card.get("classes") or [""])[-1]
    if rare != classes[-1]:
        return f"its rare class is '{rare}', not '{classes[-1]}'"
    return ""


def translate(label: NDArray, theirs: Sequence[str], ours: Sequence[str]) -> NDArray:
    """Predicted labels [n] from the champion's class positions to ours; a class we do not have becomes unknown."""
    places = [ours.index(name) if name in ours else len(ours) for name in theirs]
    return np.array([*places, len(ours)])[label]


def untouched(test: FeatureTable, champion: Path | None) -> FeatureTable:
    """Test rows without the users whose labels the champion learnt from, for whom it would look too good.

    There are some when labels have been added, or the split has another seed, since the champion was trained.
    """
    known = learnt_from(champion / "model", test.user_id) if champion else np.zeros(len(test), bool)
    if known.any():
        say(f"leaving out {known.sum():,} of {len(test):,} test users, because the champion learnt from their labels")
    return test.take(~known)


def check_test(test: FeatureTable, classes: Sequence[str]) -> None:
    """UserError unless there is a labelled row and every label is a class."""
    if not (test.label >= 0).any():
        raise UserError("the test split holds no labelled row, so nothing can be measured. Raise split.test_share.")
    if test.label.max() >= len(classes):
        raise UserError(
            f"the test split has label {test.label.max()}, but there are only {len(classes)} classes "
            f"({', '.join(classes)}). Run split again with the same classes."
        )


def train_simple_models(
    labelled: FeatureTable,
    unlabelled: Path | None,
    names: Sequence[str],
    classes: Sequence[str],
    seed: int,
    expand: Callable[[NDArray], NDArray],
) -> list[simple_models.SimpleModel]:
    """The simple models on the labelled training rows; UserError if those cannot train any.

    expand: gives them the columns that the model makes of categories (see lookups.expander).
    """
    if labelled.names != tuple(names):
        raise UserError("the labelled rows and the test rows have different features. Run split again.")
    if not (labelled.label == len(classes) - 1).any():
        raise UserError(f"the labelled training rows hold no '{classes[-1]}' row. Label some, then run again.")
    rows = some_rows(unlabelled)
    others = None if rows is None else expand(rows)
    return simple_models.train_simple_models(expand(labelled.values), labelled.label, seed, unlabelled=others, say=say)


def some_rows(folder: Path | None) -> NDArray | None:
    """The first rows [u, d] of a feature table, None if the folder holds none."""
    if folder is None or not folder.is_dir() or not any(folder.glob("part-*.parquet")):
        return None
    batches, count = [], 0
    for batch in iter_features(folder):
        batches.append(batch.values)
        count += len(batch)
        if count >= UNLABELLED_ROWS:
            break
    return np.concatenate(batches) if batches else None


def influence(scorer: "Scorer", table: FeatureTable, rare: int, seed: int) -> list[tuple[str, float]]:
    """The features whose shuffling costs most PR-AUC, on all rare and some other labelled test rows."""
    rng = np.random.default_rng(seed)
    positive = table.label == rare
    others = rng.permutation(np.flatnonzero((table.label >= 0) & ~positive))[:INFLUENCE_ROWS]
    rows = np.sort(np.append(np.flatnonzero(positive), others))
    if not positive.any() or not len(others):
        return []
    losses = importance(
        scorer,
        table.values[rows],
        lambda rarity: float(metrics.pr_auc(metrics.threshold_curve(positive[rows], np.asarray(rarity, float)))[0]),
        rng,
    )
    most = np.argsort(-losses, kind="stable")[:INFLUENCES]
    return [(table.names[j], float(losses[j])) for j in most if losses[j] > 0]


def reasons(scorer: "Scorer", said: Said, table: FeatureTable, usual: NDArray, rare: int, seed: int) -> list[Explained]:
    """Why the flagged test users of highest rarity are flagged."""
    flagged = np.flatnonzero(said.label == rare)
    top = flagged[np.argsort(-said.rarity[flagged], kind="stable")][:EXPLAINED]
    if not len(top):
        return []
    added = explain(scorer, table.values[top], usual, seed=seed)
    start = float(scorer.score(usual[None]).rarity[0])
    explained = []
    for i, row in enumerate(top):
        most = np.argsort(-np.abs(added[i]), kind="stable")[:REASONS]
        own, typical = (
            [display_value(float(values[j]), table.names[j], table.categories) for j in most]
            for values in (table.values[row], usual)
        )
        names = [table.names[j] for j in most]
        why = list(zip(names, own, typical, added[i, most].tolist(), strict=True))
        explained.append(Explained(str(table.user_id[row]), float(said.rarity[row]), start, why))
    return explained


def document(found: Findings, name: str, count: int, seed: int) -> dict[str, Any]:
    """evaluation.json of one model: SageMaker's model quality blocks, and ours under `scarcegan`."""
    said, rows = found.models[name], found.known
    label = found.test.label[rows].astype(np.int64)
    quality = metrics.model_quality(label, said.label[rows], said.rarity[rows], found.classes, min(count, 200), seed)
    at = metrics.reliability(found.positive, said.rarity[rows])
    unlabelled = said.label[~rows]
    ours = {
        "definition": name,
        "classes": list(found.classes),
        "rare_class": found.rare,
        "beta": found.beta,
        "thresholds": found.cards[name].get("thresholds", {}),
        "test_rows": {"labelled": int(rows.sum()), "rare": int(found.positive.sum()), "unlabelled": int((~rows).sum())},
        "metrics": {metric: span(values) for metric, values in named(found, name).items()},
        "share_unknown_unlabelled": share(unlabelled == len(found.classes)),
        "share_flagged_unlabelled": share(unlabelled == len(found.classes) - 1),
        "calibration": {
            "error": at.error,
            "expected": at.expected.tolist(),
            "observed": at.observed.tolist(),
            "rows": at.rows.tolist(),
        },
        "simple_models": {
            simple: {
                "pr_auc": span(found.samples[simple]["pr_auc"]),
                "difference": span(found.samples[name]["pr_auc"] - found.samples[simple]["pr_auc"]),
            }
            for simple in found.simple_models
        },
        "preference": found.preference.sentence,
        "gate": found.gate["reason"] if name == found.definition else None,
    }
    return {**quality, "scarcegan": ours}


def named(found: Findings, method: str) -> dict[str, NDArray]:
    """A method's samples, metrics of a class called by its name (`recall_2` becomes `recall_risky`)."""
    titles = {f"{m}_{k}": f"{m}_{c}" for m in ("recall", "precision", "f_beta") for k, c in enumerate(found.classes)}
    return {titles.get(metric, metric): values for metric, values in found.samples[method].items()}


def span(values: NDArray) -> dict[str, float | None]:
    figure = metrics.estimate(values)
    return replace_nan({"value": figure.value, "low": figure.low, "high": figure.high})


def share(rows: NDArray) -> float | None:
    return float(rows.mean()) if len(rows) else None


def write_csv(path: Path, found: Findings) -> None:
    """evaluation.csv: a line per method and metric with value, low and high (95 %), blank where undefined."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "metric", "value", "low", "high"])
        for method in found.samples:
            for metric, values in named(found, method).items():
                ends = span(values)
                writer.writerow([method, metric, *("" if x is None else f"{x:.6g}" for x in ends.values())])


def write_predictions(path: Path, found: Findings) -> None:
    """predictions.parquet: the test rows with what every method said of them."""
    columns: dict[str, Any] = {
        "user_id": pa.array(found.test.user_id, pa.string()),
        "label": pa.array(found.test.label, pa.int8()),
    }
    everyone = {**found.models, **({CHAMPION: found.champion} if found.champion else {})}
    for name, said in everyone.items():
        columns[f"rarity_{name}"] = pa.array(said.rarity, pa.float32())
        columns[f"unknown_{name}"] = pa.array(said.unknown, pa.float32())
        columns[f"label_{name}"] = pa.array(said.label, pa.int8())
    columns |= {f"rarity_{name}": pa.array(rarity, pa.float32()) for name, rarity in found.simple_models.items()}
    pq.write_table(pa.table(columns), path, compression="zstd")


def parser() -> argparse.ArgumentParser:
    it = argparse.ArgumentParser(description=__doc__)
    for channel in ("models", "labelled", "test", "evaluation-out", "gate-out"):
        it.add_argument(f"--{channel}", type=Path, required=True)
    for channel in ("curves", "champion", "unlabelled"):
        it.add_argument(f"--{channel}", type=Path, help="optional")
    it.add_argument("--description", required=True, help="the project's, for the report; may be empty")
    it.add_argument("--classes", type=parse_classes, required=True, help="names, the rare class last")
    it.add_argument("--beta", type=float, required=True, help="how much recall counts in F-beta")
    it.add_argument("--bootstrap", type=int, required=True, help="resamples behind each interval")
    it.add_argument("--seed", type=int, required=True)
    it.add_argument("--gate-definition", required=True, help="the business definition whose model is judged")
    it.add_argument("--gate-metric", required=True, help="the figure that is judged")
    it.add_argument("--gate-minimum", type=float, required=True)
    it.add_argument("--gate-champion", choices=("not_worse", "better", "report"), required=True)
    it.add_argument("--gate-simple-models", choices=("report", "required"), required=True)
    it.add_argument("--gate-alpha", type=float, required=True, help="1 less the level of the intervals")
    return it


def gather(args: argparse.Namespace, rules: Rules) -> Findings:
    """Ask every method, measure all on the same resamples, and judge."""
    from scarcegan.model.scorer import load

    classes, rare = args.classes, len(args.classes) - 1
    folders = model_folders(args.models)
    if rules.definition not in folders:
        raise UserError(
            f"gate definition '{rules.definition}' has no model (there are: {', '.join(folders)}). "
            "Name one of them under gate.definition in config.yaml."
        )
    test, labelled = untouched(read_features(args.test), args.champion), read_features(args.labelled)
    check_test(test, classes)
    scorers = {name: load(folder) for name, folder in folders.items()}
    say(f"scoring {len(test):,} test rows with {len(scorers)} models")
    models = {name: ask(scorer, name, test.values, test.names) for name, scorer in scorers.items()}
    champion, champion_card, refused = ask_champion(args.champion, test, classes)
    cards = {name: read_card(folder / "model.json") for name, folder in folders.items()}
    expand = lookups.expander(cards[rules.definition], test.names)
    fitted = train_simple_models(labelled, args.unlabelled, test.names, classes, args.seed, expand)
    simple = {model.name: model.score(expand(test.values)) for model in fitted}

    say(f"measuring on {args.bootstrap:,} resamples")
    known = test.label >= 0
    everyone = {**models, **({CHAMPION: champion} if champion else {})}
    answers = {name: Answers(said.rarity[known], said.label[known], True) for name, said in everyone.items()}
    answers |= {name: Answers(rarity[known]) for name, rarity in simple.items()}
    label = test.label[known].astype(np.int64)
    samples = comparison.sample(label, answers, len(classes), args.beta, args.bootstrap, args.seed)

    ours = rules.definition
    titles = {name: f"ScarceGAN ({name})" for name in models} | {CHAMPION: "the champion"}
    titles |= {model.name: model.title for model in fitted}
    ranked = {name: samples[name]["pr_auc"] for name in (*simple, ours)}
    say("explaining what the model looks at")
    usual = reference(labelled.values, places(labelled.names, labelled.categories))
    return Findings(
        classes=classes,
        beta=args.beta,
        test=test,
        definition=ours,
        models=models,
        cards=cards,
        simple_models=simple,
        titles=titles,
        samples=samples,
        preference=comparison.prefer(ranked, titles, ours),
        gate=decide(rules, samples, list(simple), titles, champion_card, refused),
        champion=champion,
        champion_card=champion_card,
        champion_refused=refused,
        curves=find_curves(args.curves),
        importance=influence(scorers[ours], test, rare, args.seed),
        explained=reasons(scorers[ours], models[ours], test, usual, rare, args.seed),
    )


def find_curves(folder: Path | None) -> Path | None:
    path = folder / "curves.csv" if folder else None
    return path if path and path.is_file() else None


def decide(
    rules: Rules,
    samples: Mapping[str, Mapping[str, NDArray]],
    simple: Sequence[str],
    titles: Mapping[str, str],
    champion_card: Mapping[str, Any],
    refused: str,
) -> dict:
    """The gate's verdict from everybody's samples."""
    ours = samples[rules.definition]
    champion = None
    if champion_card:
        version = f"version {champion_card['version']}" if champion_card.get("version") else ""
        theirs = samples[CHAMPION][rules.metric] if CHAMPION in samples else None
        champion = Rival(version, ours[rules.metric], theirs, refused)
    best = comparison.best({name: samples[name]["pr_auc"] for name in simple}, simple)
    simple_model = Rival(titles[best], ours["pr_auc"], samples[best]["pr_auc"]) if best else None
    return comparison.judge(rules, ours[rules.metric], champion, simple_model)


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    rules = Rules(
        args.gate_definition,
        args.gate_metric,
        args.gate_minimum,
        args.gate_champion,
        args.gate_simple_models,
        args.gate_alpha,
    )
    found = gather(args, rules)
    out = args.evaluation_out
    out.mkdir(parents=True, exist_ok=True)
    say("writing the report")
    for name in found.models:
        write_json(out / name / "evaluation.json", document(found, name, args.bootstrap, args.seed), indent=2)
    write_csv(out / "evaluation.csv", found)
    write_predictions(out / "predictions.parquet", found)
    page.write(out / "report.html", found, args.description)
    write_json(args.gate_out / "gate.json", found.gate, indent=2)
    say(found.gate["reason"])
    say(found.preference.sentence)


if __name__ == "__main__":
    sys.exit(run_step(main))
