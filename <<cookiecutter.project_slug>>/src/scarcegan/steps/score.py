"""Score: score every user of a feature table with a model package, and list the users flagged as rare.

Rows are read in batches, so memory does not grow with the number of users. The features are written beside the scores,
so that the monitor step can compare them with the baseline.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scarcegan.data.cells import cell_of
from scarcegan.data.coverage import COVERAGE_FILE
from scarcegan.data.schema import FeatureTable, count_rows, iter_features, read_feature_categories
from scarcegan.errors import UserError, run_step, short
from scarcegan.jsonfile import read_json, write_json
from scarcegan.model.saved import EXPORT_AGAIN
from scarcegan.monitoring.captured import PROBABILITY_PREFIX
from scarcegan.monitoring.statistics import UNKNOWN
from scarcegan.progress import Progress
from scarcegan.registry.contract import check_model
from scarcegan.steps._arguments import parse_classes, parse_folders
from scarcegan.steps._outputs import replacing_parts

if TYPE_CHECKING:
    from scarcegan.model.scorer import Scorer, Scores

SCORE_BATCH_ROWS = 50_000
FLAGGED_COLUMNS = ("user_id", "as_of", "rarity", "unknown")


def score_all(tables: Iterable[FeatureTable], scorer: "Scorer", folder: Path, total: int = 0) -> dict[str, Any]:
    """Score all rows and write them into `folder`: part-00000.parquet and so on, one part per table, and flagged.csv.

    Older files of these names are replaced at the end; after an error they stay. Progress goes to stderr. tables:
    batches of feature rows. total: how many rows they have together; 0: not known. Returns the counts and shares of
    score_summary.
    Raises UserError when there is no row, when a feature has the name of another column (see scored_table), or when the
    features or their order are not those of the model.
    """
    labels: Counter[str] = Counter(dict.fromkeys((*scorer.classes, UNKNOWN), 0))
    days: Counter[str] = Counter()
    flagged = []
    progress = Progress("score", "users", total=total)
    with replacing_parts(folder) as unfinished:
        for part, table in enumerate(tables):
            scores = scorer.score(table.values, table.names)
            path = unfinished / f"part-{part:05d}.parquet"
            pq.write_table(scored_table(table, scores, scorer.classes), path, compression="zstd")
            labels.update(predicted_classes(scores.label, scorer.classes).tolist())
            days.update(day_texts(table.as_of))
            flagged.append(flagged_rows(table, scores, len(scorer.classes) - 1))
            progress.add(len(table))
        progress.write()
        if not labels.total():
            raise UserError(
                "the feature table has no rows, so there is no user to score. Check the features step's counts."
            )
        write_flagged(unfinished / "flagged.csv", flagged)
    return score_summary(labels, days, scorer.classes)


def scored_table(table: FeatureTable, scores: "Scores", classes: Sequence[str]) -> pa.Table:
    """The scored rows as an Arrow table with the columns user_id, as_of (the day of observation), predicted (a class
    name or UNKNOWN), rarity, unknown, a probability_<class> per class, then the features.

    scores: of the rows of `table`. classes: names in label order.
    Raises UserError when a feature has the name of one of the columns before it.
    """
    columns: dict[str, Any] = {
        "user_id": pa.array(table.user_id, pa.string()),
        "as_of": pa.array(table.as_of.astype("datetime64[D]"), pa.date32()),
        "predicted": pa.array(predicted_classes(scores.label, classes), pa.string()),
        "rarity": pa.array(scores.rarity, pa.float32()),
        "unknown": pa.array(scores.unknown, pa.float32()),
    }
    for i, name in enumerate(classes):
        columns[PROBABILITY_PREFIX + name] = pa.array(np.ascontiguousarray(scores.probabilities[:, i]), pa.float32())
    taken = sorted(set(columns) & set(table.names))
    if taken:
        raise UserError(f"a feature is called '{taken[0]}', which is the name of a score. Rename the feature.")
    return pa.table(columns | {name: np.ascontiguousarray(table.values[:, i]) for i, name in enumerate(table.names)})


def predicted_classes(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Names [n] of the predicted classes. labels int [n]: their positions in `classes`; len(classes) gives UNKNOWN."""
    return np.array([*classes, UNKNOWN], object)[labels]


def flagged_rows(table: FeatureTable, scores: "Scores", rare: int) -> list[tuple[str, str, float, float]]:
    """(user id, day as by day_texts, rarity, unknown) of each row that is predicted rare, in table order.

    scores: of the rows of `table`. rare: position of the rare class.
    """
    rows = np.flatnonzero(scores.label == rare)
    days = day_texts(table.as_of[rows])
    return list(
        zip(table.user_id[rows], days, scores.rarity[rows].tolist(), scores.unknown[rows].tolist(), strict=True)
    )


def day_texts(days: np.ndarray) -> list[str]:
    """Days, datetime64[D] [n], as text such as "2026-01-31"; "" for a row without a day (NaT)."""
    return ["" if np.isnat(day) else str(day) for day in days]


def write_flagged(path: Path, batches: Iterable[Sequence[tuple[str, str, float, float]]]) -> None:
    """Write flagged.csv to `path`, in place of an older file: FLAGGED_COLUMNS as header, then a line per flagged row.

    The highest rarity comes first; rows of equal rarity are sorted by user, then day. People open the file in a
    spreadsheet, so ids are cells of data/cells.py; the scored rows beside it have them as they are. batches: lists from
    flagged_rows.
    """
    rows = sorted((row for batch in batches for row in batch), key=lambda row: (-row[2], row[0], row[1]))
    with path.open("w", encoding="utf-8", newline="") as file:
        # Quotes around every text: without them, a carriage return in an id would begin another row.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(FLAGGED_COLUMNS)
        for user, day, rarity, unknown in rows:
            writer.writerow((cell_of(user), day, float(f"{rarity:.6g}"), float(f"{unknown:.6g}")))


def score_summary(labels: Mapping[str, int], days: Mapping[str, int], classes: Sequence[str]) -> dict[str, Any]:
    """The counts and shares in summary.json; every share is of all rows, from 0 to 1.

    - users: number of rows of the last day. rows: number of all rows. as_of: day -> number of rows, oldest first; rows
      without a day stand under "".
    - predicted: class name, or UNKNOWN -> its "rows" and "share".
    - rare_class: its name. flagged, flagged_share: number and share of rows predicted rare.
    - unknown_share: share of rows predicted UNKNOWN.
    Arguments:
    - labels: class name, or UNKNOWN -> number of rows predicted so. It has every class and UNKNOWN, also with 0.
    - days: day of observation -> number of rows, at least one day. classes: names, the rare class last.
    """
    rows = sum(labels.values())
    return {
        "users": days[max(days)],
        "rows": rows,
        "as_of": dict(sorted(days.items())),
        "predicted": {name: {"rows": count, "share": round(count / rows, 6)} for name, count in labels.items()},
        "rare_class": classes[-1],
        "flagged": labels[classes[-1]],
        "flagged_share": round(labels[classes[-1]] / rows, 6),
        "unknown_share": round(labels[UNKNOWN] / rows, 6),
    }


def refuse_other_categories(found: Iterable[str], model: "Scorer") -> None:
    """Check that the same features are categories in the feature table as when the model was trained.

    found: names of the features that are categories in the table.
    Raises UserError for a feature that is a category in only one of the two.
    """
    changed = sorted(set(found) ^ set(model.categories))
    if changed:
        before = "a category" if changed[0] in model.categories else "a number"
        raise UserError(
            f"feature '{changed[0]}' was {before} when the model was trained. Set data.categories as it was then, or "
            "train again."
        )


def users_without_row(features: Path) -> dict[str, int]:
    """{why: how many users of telemetry, or rows of a ready table, are not in the features}, as the features step wrote
    it beside its table.

    {} for a table of another origin, or when nobody is left out.

    Raises UserError when that file is damaged.
    """
    path = features / COVERAGE_FILE
    found = read_json(path, "Run the features step again.") if path.is_file() else {}
    return dict(found.get("without_row", {}))


def model_folder(package: Path) -> Path:
    """The folder that holds model.json: <package>/model if it does, otherwise `package` itself.

    Raises UserError when neither holds model.json.
    """
    found = [folder for folder in (package / "model", package) if (folder / "model.json").is_file()]
    if not found:
        raise UserError(
            f"{package}: no model package (model/model.json) in it. Approve a model first, or name a version."
        )
    return found[0]


def check_registered(package: Path, digest: str) -> None:
    """Check that the model in a package's folder is the one that the registry names.

    What lies in the folder proves nothing alone: who changes the model can change package.json beside it. package:
    folder of a model package. digest: of the model, as the registry has it; "" when it has none, which is printed to
    stderr.
    Raises UserError for another model, and for one without the registered digest in package.json.
    """
    found = check_model(package)
    if digest and found != digest:
        raise UserError(
            f"{package}: its model has the digest {short(found) or 'none'}, but the registry has {short(digest)}, so "
            "it is not used. Export the version again, or in AWS retry the stage Production of its release."
        )
    if not found:
        print("score: the model was registered without a digest, so its bytes were not compared", file=sys.stderr)


def model_facts(package: Path) -> dict[str, Any]:
    """What summary.json tells of the model: version, definition, group and set_id, as far as package.json has them; {}
    without a package.json.

    package: folder of a model package.
    Raises UserError when package.json holds no JSON object.
    """
    path = package / "package.json"
    facts = read_json(path, EXPORT_AGAIN) if path.is_file() else {}
    return {key: facts[key] for key in ("version", "definition", "group", "set_id") if key in facts}


def parser() -> argparse.ArgumentParser:
    """The parser of this step's command line: folders of features and model, the output folder, the class names and the
    digest of the model.
    """
    it = argparse.ArgumentParser(description=__doc__)
    for channel in ("features", "model", "scored-out"):
        it.add_argument(f"--{channel}", type=Path, required=True)
    it.add_argument("--classes", type=parse_classes, required=True)
    it.add_argument("--model-digest", required=True, help="of the model as the registry has it; empty for none")
    return it


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step: write the scored rows, flagged.csv and summary.json into the output folder, and print the number of
    flagged rows and the share of unknown ones to stdout.

    summary.json has the keys of score_summary, "thresholds" (of the model), "model" (see model_facts) and "not_scored"
    (see users_without_row), which is printed to stderr.
    argv: the command line without the program's name; None: that of this process.
    Raises UserError when the model is not the one that was registered (its digest differs from that in package.json or
    from --model-digest), when the model or the feature table is missing or damaged, when there is no row, when the
    classes, the features, their order or which of them are categories are not those of the model, or when a feature has
    the name of another column (see scored_table).
    """
    args = parse_folders(parser(), argv)
    from scarcegan.model import scorer

    check_registered(args.model, args.model_digest)
    model = scorer.load_scorer(model_folder(args.model))
    if tuple(model.classes) != args.classes:
        raise UserError(
            f"{args.model}: the model was trained on the classes {', '.join(model.classes)}, config.yaml says "
            f"{', '.join(args.classes)}. Set labels as they were when it was trained, or train again."
        )
    refuse_other_categories(read_feature_categories(args.features), model)
    found = score_all(iter_features(args.features, SCORE_BATCH_ROWS), model, args.scored_out, count_rows(args.features))
    found |= {"thresholds": dict(model.thresholds), "model": model_facts(args.model)}
    found["not_scored"] = users_without_row(args.features)
    for why, count in found["not_scored"].items():
        print(f"score: not scored: {count:,}, {why}", file=sys.stderr)
    write_json(args.scored_out / "summary.json", found)
    print(f"score: {found['flagged']:,} flagged as {found['rare_class']}, {found['unknown_share']:.1%} unknown")


if __name__ == "__main__":
    sys.exit(run_step(main))
