"""Evaluate: measure models on test users, compare them with simple models and the champion, and decide the gate.

Test rows without a label count only for the shares that are flagged or unknown. Metrics are in evaluation/metrics.py,
the comparison and the gate's rules in evaluation/comparison.py, the page in report/evaluation.py.
"""

import argparse
import csv
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
from scarcegan.data.schema import FeatureTable, iter_features, read_features
from scarcegan.errors import UserError, run_step
from scarcegan.evaluation import comparison, metrics
from scarcegan.evaluation.comparison import CHAMPION_METHOD, Comparison, GateRules, MethodScores
from scarcegan.evaluation.explain import permutation_importance, shapley_values, typical_training_row
from scarcegan.jsonfile import read_json, replace_nan, write_json
from scarcegan.model import lookups
from scarcegan.model.learnt_from import learnt_from
from scarcegan.model.saved import model_folders
from scarcegan.model.simple import simple_models
from scarcegan.report import evaluation as page
from scarcegan.report.evaluation import ExplainedUser, Findings, Predictions
from scarcegan.steps._arguments import parse_classes, parse_folders, parse_number
from scarcegan.steps._outputs import remove_definitions

if TYPE_CHECKING:
    from scarcegan.model.scorer import Scorer

EXPLAINED = 5  # users
REASONS = 8  # features per explained user
INFLUENCES = 15
UNLABELLED_ROWS = 100_000  # rows read for self-training
RERUN_ADVICE = "Run the step that wrote it again."
INFLUENCE_ROWS = 1_500  # labelled rows of other classes used for permutation importance
STARTED = time.monotonic()


def print_with_elapsed(words: str) -> None:
    """Print a line to stderr: "evaluate: ", the message `words`, and the seconds since this module was imported."""
    print(f"evaluate: {words} ({time.monotonic() - STARTED:.1f} s)", file=sys.stderr, flush=True)


def predict(scorer: "Scorer", name: str, values: NDArray, names: Sequence[str]) -> Predictions:
    """Score n test rows with a model and return its Predictions, in the order of the rows.

    - name: of the model, for the error message.
    - values [n, d]: raw features of the rows, NaN for missing. names: of the d features.
    Raises UserError when some rarity is not finite, or when the features or their order are not those of the model.
    """
    scores = scorer.score(values, names)
    wrong = int((~np.isfinite(scores.rarity)).sum())
    if wrong:
        raise UserError(
            f"the model {name} gives a rarity that is not finite for {wrong} of {len(values)} test rows. "
            "Check its training curves, then train again with a lower train.learning_rate."
        )
    return Predictions(np.asarray(scores.rarity, np.float64), np.asarray(scores.unknown), np.asarray(scores.label))


def predict_with_champion(
    folder: Path | None, test: FeatureTable, classes: Sequence[str]
) -> tuple[Predictions | None, dict, str]:
    """Score the test rows with the champion. Returns (its Predictions, the content of its model.json, "").

    - folder: the champion's model package. Without a champion it is None, missing or empty, and (None, {}, "") is
      returned.
    - test: may have more features than the champion, in another order; they are taken by name.
    - classes: class names of this run; the predicted labels are positions among them.
    For a champion that cannot be compared (see why_not_comparable), (None, content of its model.json, why) is returned.
    If the package has a package.json, the content returned also has "version", the champion's number in the registry.
    Raises UserError when a file of the package is missing or cannot be read, or when the champion gives a rarity that
    is not finite.
    """
    if folder is None or not folder.is_dir() or not any(folder.iterdir()):
        return None, {}, ""
    model = folder / "model"
    card = read_json(model / "model.json", RERUN_ADVICE)
    package = folder / "package.json"
    card |= {"version": read_json(package, RERUN_ADVICE).get("version")} if package.is_file() else {}
    refused = why_not_comparable(card, test.names, classes, test.categories)
    if refused:
        return None, card, refused
    from scarcegan.model.scorer import load_scorer

    columns = [test.names.index(name) for name in card["features"]]
    predictions = predict(
        load_scorer(model), CHAMPION_METHOD, np.ascontiguousarray(test.values[:, columns]), card["features"]
    )
    return (
        Predictions(
            predictions.rarity, predictions.unknown, in_our_classes(predictions.label, card["classes"], classes)
        ),
        card,
        "",
    )


def why_not_comparable(
    card: Mapping[str, Any], names: Sequence[str], classes: Sequence[str], categories: Iterable[str] = ()
) -> str:
    """Why a champion cannot be compared on test rows with these features and classes: a clause without a full stop,
    "" when it can.

    It cannot when its model.json names no features, when it needs a feature that the rows lack, when one of its
    features was a category and is a number now (or the reverse), or when its rare class has another name.
    - card: content of the champion's model.json.
    - names: of the rows' features. categories: names of those that hold categories.
    - classes: of this run, the rare class last.
    """
    if not card.get("features"):
        return "its model.json names no features"
    absent = [name for name in card["features"] if name not in names]
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


def in_our_classes(label: NDArray, theirs: Sequence[str], ours: Sequence[str]) -> NDArray:
    """The champion's predicted labels, int [n], as positions among the classes of this run, `ours`.

    label int [n]: positions among the champion's classes, `theirs`; len(theirs) means unknown. Unknown rows, and rows
    of a class that is not among `ours`, get len(ours), which means unknown.
    """
    places = [ours.index(name) if name in ours else len(ours) for name in theirs]
    return np.array([*places, len(ours)])[label]


def without_learnt_users(test: FeatureTable, champion: Path | None) -> FeatureTable:
    """The test rows without those of users whose labels the champion saw in training or validation.

    On such users it would look too good. They are in the test rows when labels were added, or the split got another
    seed, after the champion was trained. If any row is left out, a line on stderr says how many.
    champion: the folder of its model package; None, or a package without learnt_from.json: all rows are returned.
    """
    known = learnt_from(champion / "model", test.user_id) if champion else np.zeros(len(test), bool)
    if known.any():
        print_with_elapsed(
            f"leaving out {known.sum():,} of {len(test):,} test users, because the champion learnt from their labels"
        )
    return test.take(~known)


def check_test_rows(test: FeatureTable, classes: Sequence[str]) -> None:
    """Check that some test row has a label, of whichever class, and that no label is above the last position in
    `classes`.

    Raises UserError when one of these does not hold.
    """
    if not (test.label >= 0).any():
        raise UserError("the test split holds no labelled row, so nothing can be measured. Raise split.test_share.")
    if test.label.max() >= len(classes):
        raise UserError(
            f"the test split has label {test.label.max()}, but there are only {len(classes)} classes "
            f"({', '.join(classes)}). Run the split step again with the same classes."
        )


def fit_simple_models(
    labelled: FeatureTable,
    unlabelled: Path | None,
    names: Sequence[str],
    classes: Sequence[str],
    seed: int,
    expand: Callable[[NDArray], NDArray],
) -> list[simple_models.SimpleModel]:
    """Train the simple models and return them in the order of train_simple_models. Progress goes to stderr.

    - labelled: the training rows with a label.
    - unlabelled: the folder of a feature table for self-training, read by first_rows; None: there is none.
    - names: features of the test rows, in order. classes: names, the rare class last. seed: of the whole training.
    - expand: a function that replaces columns of category codes by columns of 0 and 1, [n, d] -> [n, e]; it is applied
      to all training rows here. The caller must apply it to the rows that the simple models score.
    Raises UserError when the features of the labelled rows or their order are not `names`, when none or all of these
    rows are rare, or when the unlabelled table is damaged.
    """
    if labelled.names != tuple(names):
        raise UserError("the labelled rows and the test rows have different features. Run the split step again.")
    if not (labelled.label == len(classes) - 1).any():
        raise UserError(f"the labelled training rows hold no '{classes[-1]}' row. Label some users with it.")
    rows = first_rows(unlabelled)
    others = None if rows is None else expand(rows)
    return simple_models.train_simple_models(
        expand(labelled.values), labelled.label, seed, unlabelled=others, say=print_with_elapsed
    )


def first_rows(folder: Path | None) -> NDArray | None:
    """The first rows, float32 [u, d], of the feature table in a folder, NaN for missing.

    Whole batches are read until there are at least UNLABELLED_ROWS rows, and all rows read are returned. None when the
    folder is None or missing, or has no table or no row.
    Raises UserError when the table is damaged or its parts have different features.
    """
    if folder is None or not folder.is_dir() or not any(folder.glob("part-*.parquet")):
        return None
    batches, count = [], 0
    for batch in iter_features(folder):
        batches.append(batch.values)
        count += len(batch)
        if count >= UNLABELLED_ROWS:
            break
    return np.concatenate(batches) if batches else None


def most_influential_features(scorer: "Scorer", table: FeatureTable, rare: int, seed: int) -> list[tuple[str, float]]:
    """Pairs (feature name, how much PR-AUC falls when that feature's values are shuffled among rows), the largest fall
    first. PR-AUC is that of the model's rarity.

    At most INFLUENCES pairs are returned, only those whose fall is above 0; none when no row is rare or no labelled row
    is of another class.
    - table: the test rows. All rare ones and at most INFLUENCE_ROWS other labelled ones, drawn at random, are used.
    - rare: label of the rare class. seed: of the draw and the shuffles.
    """
    rng = np.random.default_rng(seed)
    positive = table.label == rare
    others = rng.permutation(np.flatnonzero((table.label >= 0) & ~positive))[:INFLUENCE_ROWS]
    rows = np.sort(np.append(np.flatnonzero(positive), others))
    if not positive.any() or not len(others):
        return []
    losses = permutation_importance(
        scorer,
        table.values[rows],
        lambda rarity: float(metrics.pr_auc(metrics.threshold_curve(positive[rows], np.asarray(rarity, float)))[0]),
        rng,
    )
    most = np.argsort(-losses, kind="stable")[:INFLUENCES]
    return [(table.names[j], float(losses[j])) for j in most if losses[j] > 0]


def explain_flagged_users(
    scorer: "Scorer", predictions: Predictions, table: FeatureTable, usual: NDArray, rare: int, seed: int
) -> list[ExplainedUser]:
    """Why test rows are predicted rare: an ExplainedUser for each such row, but at most EXPLAINED, those of highest
    rarity, the highest first. [] when no row is predicted rare.

    Each has at most REASONS features, those with the largest effects on its rarity, up or down (Shapley values), the
    largest first.
    - predictions: of the rows of `table`.
    - usual [d]: the typical training row, from which effects are counted.
    - rare: position of the rare class. seed: of the sampling.
    """
    flagged = np.flatnonzero(predictions.label == rare)
    top = flagged[np.argsort(-predictions.rarity[flagged], kind="stable")][:EXPLAINED]
    if not len(top):
        return []
    added = shapley_values(scorer, table.values[top], usual, seed=seed)
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
        explained.append(ExplainedUser(str(table.user_id[row]), float(predictions.rarity[row]), start, why))
    return explained


def evaluation_json(found: Findings, name: str, count: int, seed: int) -> dict[str, Any]:
    """The content of one model's evaluation.json: SageMaker's model quality metrics on the labelled test rows, and
    under "scarcegan" this project's figures.

    - name: the business definition of the model.
    - count, seed: number and seed of the bootstrap resamples behind SageMaker's metrics; a count above 200 is taken as
      200. The figures under "scarcegan" come from found.samples instead.
    """
    predictions, rows = found.models[name], found.known
    label = found.test.label[rows].astype(np.int64)
    quality = metrics.model_quality(
        label, predictions.label[rows], predictions.rarity[rows], found.classes, min(count, 200), seed
    )
    at = metrics.reliability(found.positive, predictions.rarity[rows])
    unlabelled = predictions.label[~rows]
    ours = {
        "definition": name,
        "classes": list(found.classes),
        "rare_class": found.rare,
        "beta": found.beta,
        "thresholds": found.cards[name].get("thresholds", {}),
        "test_rows": {"labelled": int(rows.sum()), "rare": int(found.positive.sum()), "unlabelled": int((~rows).sum())},
        "metrics": {metric: estimate_json(values) for metric, values in samples_by_class_name(found, name).items()},
        "share_unknown_unlabelled": share_true(unlabelled == len(found.classes)),
        "share_flagged_unlabelled": share_true(unlabelled == len(found.classes) - 1),
        "calibration": {
            "error": at.error,
            "expected": at.expected.tolist(),
            "observed": at.observed.tolist(),
            "rows": at.rows.tolist(),
        },
        "simple_models": {
            simple: {
                "pr_auc": estimate_json(found.samples[simple]["pr_auc"]),
                "difference": estimate_json(found.samples[name]["pr_auc"] - found.samples[simple]["pr_auc"]),
            }
            for simple in found.simple_models
        },
        "preference": found.preference.sentence,
        "gate": found.gate["reason"] if name == found.definition else None,
    }
    return {**quality, "scarcegan": ours}


def samples_by_class_name(found: Findings, method: str) -> dict[str, NDArray]:
    """The metrics of one method: name of a metric -> its samples (the value on all rows, then on each resample).

    method: a key of found.samples. A metric of one class has the class name in its name, not its position:
    "recall_risky", not "recall_2".
    """
    titles = {f"{m}_{k}": f"{m}_{c}" for m in ("recall", "precision", "f_beta") for k, c in enumerate(found.classes)}
    return {titles.get(metric, metric): values for metric, values in found.samples[method].items()}


def estimate_json(values: NDArray) -> dict[str, float | None]:
    """A metric's estimate as a dictionary: "value", and "low" and "high" of its 95 % interval; None where undefined.

    values: the metric on all rows, which is the "value", then on each resample.
    """
    figure = metrics.estimate(values)
    return replace_nan({"value": figure.value, "low": figure.low, "high": figure.high})


def share_true(rows: NDArray) -> float | None:
    """The share, from 0 to 1, of the n entries of `rows`, bool [n], that are True; None when n is 0."""
    return float(rows.mean()) if len(rows) else None


def write_evaluation_csv(path: Path, found: Findings) -> None:
    """Write evaluation.csv to `path`, in place of an older file: a header, then a line per method and metric.

    - model: the method, a key of found.samples: a business definition, "champion", or a simple model's name.
    - metric: its name as in samples_by_class_name.
    - value, low, high: the metric, and the ends of its 95 % interval; blank where undefined.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "metric", "value", "low", "high"])
        for method in found.samples:
            for metric, values in samples_by_class_name(found, method).items():
                ends = estimate_json(values)
                writer.writerow([method, metric, *("" if x is None else f"{x:.6g}" for x in ends.values())])


def write_predictions(path: Path, found: Findings) -> None:
    """Write predictions.parquet to `path`, in place of an older file: a row per test row.

    - user_id, label: the user and the true label (class position, -1 without a label).
    - rarity_<name>, unknown_<name>, label_<name>: scores and predicted label (class position; the number of classes
      means unknown) by each model, whose name is its business definition, and by the champion, named "champion", if
      it can be compared.
    - rarity_<name>: score by each simple model.
    """
    columns: dict[str, Any] = {
        "user_id": pa.array(found.test.user_id, pa.string()),
        "label": pa.array(found.test.label, pa.int8()),
    }
    everyone = {**found.models, **({CHAMPION_METHOD: found.champion} if found.champion else {})}
    for name, predictions in everyone.items():
        columns[f"rarity_{name}"] = pa.array(predictions.rarity, pa.float32())
        columns[f"unknown_{name}"] = pa.array(predictions.unknown, pa.float32())
        columns[f"label_{name}"] = pa.array(predictions.label, pa.int8())
    columns |= {f"rarity_{name}": pa.array(rarity, pa.float32()) for name, rarity in found.simple_models.items()}
    pq.write_table(pa.table(columns), path, compression="zstd")


def parser() -> argparse.ArgumentParser:
    """The parser of this step's command line: folders, settings of the evaluation, and rules of the gate."""
    it = argparse.ArgumentParser(description=__doc__)
    for channel in ("models", "labelled", "test", "evaluation-out", "gate-out"):
        it.add_argument(f"--{channel}", type=Path, required=True)
    for channel in ("curves", "champion", "unlabelled"):
        it.add_argument(f"--{channel}", type=Path, help="optional")
    it.add_argument("--description", required=True, help="the project's, for the report; may be empty")
    it.add_argument("--classes", type=parse_classes, required=True, help="names, the rare class last")
    it.add_argument("--beta", type=parse_number, required=True, help="how much recall counts in F-beta")
    it.add_argument("--bootstrap", type=int, required=True, help="resamples behind each interval")
    it.add_argument("--seed", type=int, required=True)
    it.add_argument("--gate-definition", required=True, help="the business definition whose model is judged")
    it.add_argument("--gate-metric", required=True, help="the figure that is judged")
    it.add_argument("--gate-minimum", type=parse_number, required=True)
    it.add_argument("--gate-champion", choices=("not_worse", "better", "report"), required=True)
    it.add_argument("--gate-simple-models", choices=("report", "required"), required=True)
    it.add_argument("--gate-alpha", type=parse_number, required=True, help="1 less the level of the intervals")
    return it


def evaluate_models(args: argparse.Namespace, rules: GateRules) -> Findings:
    """Score the test rows with all methods (models, champion, simple models), measure the methods on the same
    resamples, decide the gate, and return all of this as Findings.

    Test users whose labels the champion learnt from are left out. No file is written; progress goes to stderr.
    args: the parsed command line. rules: of the gate.
    Raises UserError when a table or a model's file is missing or damaged, when the gate's definition has no model, when
    the test rows cannot be used (see check_test_rows), when models and rows have different features, when none or all
    of the labelled training rows are rare, or when a model gives a rarity that is not finite.
    """
    from scarcegan.model.scorer import load_scorer

    classes, rare = args.classes, len(args.classes) - 1
    folders = model_folders(args.models)
    if rules.definition not in folders:
        raise UserError(
            f"gate definition '{rules.definition}' has no model (there are: {', '.join(folders)}). "
            "Name one of them under gate.definition in config.yaml."
        )
    test, labelled = without_learnt_users(read_features(args.test), args.champion), read_features(args.labelled)
    check_test_rows(test, classes)
    scorers = {name: load_scorer(folder) for name, folder in folders.items()}
    print_with_elapsed(f"scoring {len(test):,} test rows with {len(scorers)} models")
    models = {name: predict(scorer, name, test.values, test.names) for name, scorer in scorers.items()}
    champion, champion_card, refused = predict_with_champion(args.champion, test, classes)
    cards = {name: read_json(folder / "model.json", RERUN_ADVICE) for name, folder in folders.items()}
    expand = lookups.expander(cards[rules.definition], test.names)
    fitted = fit_simple_models(labelled, args.unlabelled, test.names, classes, args.seed, expand)
    simple = {model.name: model.score(expand(test.values)) for model in fitted}

    print_with_elapsed(f"measuring on {args.bootstrap:,} resamples")
    known = test.label >= 0
    everyone = {**models, **({CHAMPION_METHOD: champion} if champion else {})}
    scores = {
        name: MethodScores(predictions.rarity[known], predictions.label[known], True)
        for name, predictions in everyone.items()
    }
    scores |= {name: MethodScores(rarity[known]) for name, rarity in simple.items()}
    label = test.label[known].astype(np.int64)
    samples = comparison.resample_metrics(label, scores, len(classes), args.beta, args.bootstrap, args.seed)

    ours = rules.definition
    titles = {name: f"ScarceGAN ({name})" for name in models} | {CHAMPION_METHOD: "the champion"}
    titles |= {model.name: model.title for model in fitted}
    ranked = {name: samples[name]["pr_auc"] for name in (*simple, ours)}
    print_with_elapsed("explaining which features matter")
    usual = typical_training_row(labelled.values, places(labelled.names, labelled.categories))
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
        gate=gate_verdict(rules, samples, list(simple), titles, champion_card, refused),
        champion=champion,
        champion_card=champion_card,
        champion_refused=refused,
        curves=find_curves(args.curves),
        importance=most_influential_features(scorers[ours], test, rare, args.seed),
        explained=explain_flagged_users(scorers[ours], models[ours], test, usual, rare, args.seed),
    )


def find_curves(folder: Path | None) -> Path | None:
    """The path of curves.csv in a folder; None when folder is None or has no such file."""
    path = folder / "curves.csv" if folder else None
    return path if path and path.is_file() else None


def gate_verdict(
    rules: GateRules,
    samples: Mapping[str, Mapping[str, NDArray]],
    simple: Sequence[str],
    titles: Mapping[str, str],
    champion_card: Mapping[str, Any],
    refused: str,
) -> dict:
    """The content of gate.json: whether the gate is open ("passed"), why ("reason"), and the figures behind it.

    - rules: of the gate; rules.definition names the model that is tested.
    - samples: method -> metric -> its samples (the value on all rows, then on each resample). A champion that can be
      compared is among the methods.
    - simple: names of the simple models. The model is compared by PR-AUC with the best of them, and by rules.metric
      with the champion.
    - titles: method -> its name in sentences.
    - champion_card: content of the champion's model.json, {} without a champion. refused: why the champion cannot be
      compared, or "".
    """
    ours = samples[rules.definition]
    champion = None
    if champion_card:
        version = f"version {champion_card['version']}" if champion_card.get("version") else ""
        theirs = samples[CHAMPION_METHOD][rules.metric] if CHAMPION_METHOD in samples else None
        champion = Comparison(version, ours[rules.metric], theirs, refused)
    best = comparison.best_method({name: samples[name]["pr_auc"] for name in simple}, simple)
    simple_model = Comparison(titles[best], ours["pr_auc"], samples[best]["pr_auc"]) if best else None
    return comparison.decide_gate(rules, ours[rules.metric], champion, simple_model)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step: evaluate the models and write the results into two output folders. Older files are replaced.

    - evaluation: evaluation.csv, predictions.parquet, report.html, and <business definition>/evaluation.json per model.
    - gate: gate.json. A closed gate is no error.
    Progress goes to stderr, at the end the gate's reason and the sentence on which method to prefer.
    argv: the command line without the program's name; None: that of this process.
    Raises UserError for models or tables that are missing, damaged or do not fit together (see evaluate_models), or
    for rules that GateRules refuses.
    """
    args = parse_folders(parser(), argv)
    rules = GateRules(
        args.gate_definition,
        args.gate_metric,
        args.gate_minimum,
        args.gate_champion,
        args.gate_simple_models,
        args.gate_alpha,
    )
    found = evaluate_models(args, rules)
    out = args.evaluation_out
    out.mkdir(parents=True, exist_ok=True)
    remove_definitions(out, "evaluation.json")
    print_with_elapsed("writing the report")
    for name in found.models:
        write_json(out / name / "evaluation.json", evaluation_json(found, name, args.bootstrap, args.seed), indent=2)
    write_evaluation_csv(out / "evaluation.csv", found)
    write_predictions(out / "predictions.parquet", found)
    page.write_evaluation_page(out / "report.html", found, args.description)
    write_json(args.gate_out / "gate.json", found.gate, indent=2)
    print_with_elapsed(found.gate["reason"])
    print_with_elapsed(found.preference.sentence)


if __name__ == "__main__":
    sys.exit(run_step(main))
