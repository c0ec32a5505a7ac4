"""Baseline: from training rows and models to statistics.json and constraints.json of each business definition.

The rows are the labelled and the unlabelled training users together. The split gives every training user to exactly one
of the two, so together they have the mix of the whole user base; unlabelled rows alone would lack the rare users that
somebody labelled, labelled rows alone have far too many of them. Where labels for rare users were bought, both together
still hold a few too many; drift.allowed_share allows the share of flagged users to double or halve, which is more.
"""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scarcegan.data.schema import FeatureTable, count_rows, iter_features, read_feature_names
from scarcegan.errors import UserError, run_step
from scarcegan.jsonfile import read_json, write_json
from scarcegan.model.saved import model_folders
from scarcegan.monitoring.statistics import (
    SCORE_CUTS,
    SCORES,
    UNKNOWN,
    ColumnSummary,
    bucket_edges,
    category_edges,
    combine_all,
    constraints,
    join_columns,
    named_codes,
    sample_rows,
    statistics,
    stretch_outer_edges,
    summarise_columns,
)
from scarcegan.progress import Progress
from scarcegan.steps._arguments import parse_classes, parse_folders
from scarcegan.steps._outputs import remove_definitions

if TYPE_CHECKING:
    from scarcegan.model.scorer import Scorer, Scores

SUMMARY_BATCH_ROWS = 20_000
SAMPLE_ROWS = 50_000


def baseline_statistics(
    tables: Callable[[], Iterator[FeatureTable]],
    scorers: Mapping[str, "Scorer"],
    classes: Sequence[str],
    total: int = 0,
) -> dict[str, dict[str, Any]]:
    """Business definition -> content of its statistics.json: distributions of all features, of the model's scores and
    of its predicted classes. Progress goes to stderr.

    - tables: a function that yields all training rows in batches, the same ones at each call. It is called several
      times: a sample of the rows sets the bucket edges, then all rows are counted.
    - scorers: business definition -> the scorer of its model. The result has an entry for each of them.
    - classes: class names in the order of their label positions.
    - total: how many training rows there are; 0: not known.
    Raises UserError when there is no row, or when the features of the rows or their order are not those of a model.
    """
    names, categories = next(((table.names, table.categories) for table in tables()), ((), {}))
    sample = sample_rows((table.values for table in tables()), SAMPLE_ROWS, np.random.default_rng(0))
    if not len(sample):
        raise UserError("no training row to make a baseline from. Run the split step again and check its counts.")
    edges = [
        category_edges(column) if name in categories else bucket_edges(column)
        for name, column in zip(names, sample.T, strict=True)
    ]
    named = {name: named_codes(sample[:, names.index(name)], texts) for name, texts in categories.items()}
    given = {name: score_columns(scorer.score(sample, names)) for name, scorer in scorers.items()}
    score_edges = {name: [bucket_edges(column, SCORE_CUTS) for column in found.T] for name, found in given.items()}
    features: list[ColumnSummary] = []
    scores: dict[str, list[ColumnSummary]] = {name: [] for name in scorers}
    labels: dict[str, Counter[str]] = {name: Counter() for name in scorers}
    progress = Progress("baseline", total=total)
    for table in tables():
        features.append(summarise_columns(table.values, edges))
        for name, scorer in scorers.items():
            answer = scorer.score(table.values, names)
            scores[name].append(summarise_columns(score_columns(answer), score_edges[name]))
            labels[name].update(count_labels(answer.label, classes))
        progress.add(len(table))
    progress.write()
    plain = combine_all(features, edges)
    found = {}
    for name in scorers:
        numbers, own = stretch_outer_edges(
            join_columns(plain, combine_all(scores[name], score_edges[name])), [*edges, *score_edges[name]]
        )
        found[name] = statistics((*names, *SCORES), numbers, own, labels[name], named)
    return found


def score_columns(scores: "Scores") -> np.ndarray:
    """The scores that are monitored, float32 [n, 2]: the columns rarity and unknown, as SCORES lists them."""
    return np.column_stack([getattr(scores, name) for name in SCORES]).astype(np.float32)


def count_labels(labels: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    """Predicted class -> number of rows, for each of `classes` and then UNKNOWN, 0 included.

    labels int [n]: positions of the predicted classes; len(classes) is unknown.
    """
    names = [*classes, UNKNOWN]
    return dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))


def validation_recall(folder: Path) -> float | None:
    """The model's recall of the rare class on rows it was not trained on: "recall" under "validation" in model.json;
    None if that entry is missing or no number. folder: the model's, which holds model.json.

    Raises UserError when model.json is missing or holds no JSON object.
    """
    found = read_json(folder / "model.json", "Run the train step again.").get("validation")
    recall = found.get("recall") if isinstance(found, dict) else None
    return recall if isinstance(recall, int | float) else None


def parser() -> argparse.ArgumentParser:
    """The parser of this step's command line: its input folders, its output folder and the class names."""
    it = argparse.ArgumentParser(description=__doc__)
    for channel in ("models", "labelled", "unlabelled", "baseline-out"):
        it.add_argument(f"--{channel}", type=Path, required=True)
    it.add_argument("--classes", type=parse_classes, required=True)
    return it


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step: write statistics.json and constraints.json into a folder per business definition, and print the
    names of the definitions to stdout. Those of an earlier call are replaced.

    argv: the command line without the program's name; None: that of this process.
    Raises UserError when a table or a model is missing or damaged, when the two training tables have different features
    or not those of the models, or when there is no row.
    """
    args = parse_folders(parser(), argv)
    from scarcegan.model import scorer

    def tables() -> Iterator[FeatureTable]:
        return itertools.chain(
            iter_features(args.labelled, SUMMARY_BATCH_ROWS), iter_features(args.unlabelled, SUMMARY_BATCH_ROWS)
        )

    if read_feature_names(args.labelled) != read_feature_names(args.unlabelled):
        raise UserError(
            f"{args.unlabelled}: its features differ from those of {args.labelled}. Run the split step again."
        )
    models = model_folders(args.models)
    described = baseline_statistics(
        tables,
        {name: scorer.load_scorer(folder) for name, folder in models.items()},
        args.classes,
        count_rows(args.labelled) + count_rows(args.unlabelled),
    )
    remove_definitions(args.baseline_out, "statistics.json", "constraints.json")
    for name, found in described.items():
        write_json(args.baseline_out / name / "statistics.json", found)
        rules = constraints(found, (*args.classes, UNKNOWN), validation_recall(models[name]))
        write_json(args.baseline_out / name / "constraints.json", rules)
    print(f"baseline: {', '.join(described)}")


if __name__ == "__main__":
    sys.exit(run_step(main))
