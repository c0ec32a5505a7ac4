"""Model quality: predictions compared with ground truth that arrived later.

model_quality.json has the structure of Model Monitor's model quality statistics (developer guide, "Model quality
metrics"): the rare class against all others under `binary_classification_metrics`, every class under
`multiclass_classification_metrics`. The evaluate step measures the test split.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scarcegan.data.files import (
    PARQUET_SUFFIXES,
    TEXT_SUFFIXES,
    connect_duckdb,
    group_by_header,
    has_data_suffix,
    naming_the_damaged_file,
    visible_files,
)
from scarcegan.data.reading import left_out_notes
from scarcegan.data.rules import count_broken_rules
from scarcegan.data.users import number_key, unusable_user_rules, user_sql
from scarcegan.errors import UserError
from scarcegan.evaluation import metrics
from scarcegan.jsonfile import replace_nan
from scarcegan.monitoring.drift import Violation
from scarcegan.monitoring.rows import JSON_LINES, UNREADABLE, Rows
from scarcegan.monitoring.statistics import UNKNOWN

ID_COLUMNS = ("user_id", "inferenceId", "inference_id", "eventId", "event_id")
LABEL_COLUMNS = ("label", "behaviour")
RESAMPLES = 200
MOST_NAMES = 10  # labels that are no class, which are named
LESS, MORE = "LessThanThreshold", "GreaterThanThreshold"


@dataclass(frozen=True)
class Truth:
    """Ground truth: what n users (or requests) turned out to be.

    - id: str [n], ascending, each once: of users, inferences or events
    - label: int [n], class position, K (the number of classes) for behaviour that is none of the classes
    - other_names: each name in the ground truth that is none of the classes -> number of users (or requests)
    """

    id: np.ndarray
    label: np.ndarray
    other_names: Mapping[str, int] = field(default_factory=dict)

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """The position in `id` of each of the `ids` [m], int [m]; -1 for one that the ground truth does not have."""
        at = np.searchsorted(self.id, ids)
        found = self.id[np.minimum(at, len(self.id) - 1)] == ids
        return np.where(found, at, -1)


def read_truth(place: Path, classes: Sequence[str]) -> Truth | None:
    """Read ground truth from a file or a folder: CSV, Parquet or SageMaker's JSON lines. None for an empty folder.

    - place: the file, or the folder, whose files are read at any depth, in path order
    - classes: class names, the rare class last

    A table has a column with the id of the user, inference or event, and one with its class, as a name or position (see
    key_columns). Any other text is behaviour that the model does not know, with the label len(classes). Rows without an
    id or a label are left out. When an id occurs twice, the record that is read later counts. Ids with two labels, and
    labels that are no class, are counted and named on stderr.

    Raises UserError when `place` does not exist, when the folder has only other files, when no label is a class (also
    when there is no row), when the columns cannot be found, or when a file cannot be read.
    """
    files = truth_files(place)
    if not files:
        return None
    for note in left_out_notes(place, endings=(*PARQUET_SUFFIXES, *TEXT_SUFFIXES, JSON_LINES)):
        print(f"ground truth: {note}", file=sys.stderr)
    names: dict[str, str] = {}
    twice: set[str] = set()
    for path in files:
        for one, name in read_pairs(path):
            twice.update([one] if names.get(one, name) != name else [])
            names[one] = name
    positions = {text: i for i, name in enumerate(classes) for text in (name, str(i), f"{i}.0")}
    other_names = Counter(label for label in names.values() if label not in positions)
    if other_names.total() == len(names):
        given = ", ".join(sorted(other_names)[:4]) or "no row"
        raise UserError(
            f"{place}: no label is a class (found: {given}; classes: {', '.join(classes)}). Correct the labels."
        )
    if twice:
        first = min(twice)
        print(
            f"ground truth: {place}: ids with two labels, of which the one read last counts: {len(twice):,}, such as "
            f"'{first}', now '{names[first]}'",
            file=sys.stderr,
        )
    if other_names:
        given = ", ".join(f"'{name}' {count:,}" for name, count in other_names.most_common(MOST_NAMES))
        more = ", …" if len(other_names) > MOST_NAMES else ""
        print(f"ground truth: {place}: labels that are no class: {given}{more}", file=sys.stderr)
    ids = np.array(sorted(names), str)
    labels = np.array([positions.get(names[user], len(classes)) for user in ids.tolist()])
    return Truth(ids, labels, dict(other_names))


def truth_files(place: Path) -> list[Path]:
    """The ground truth files at any depth of a folder, in path order: JSON lines (*.jsonl), and CSV and Parquet.

    [] for a folder without files, not counting hidden ones (see visible_files). When `place` is a file, it alone is
    returned, whatever its name.

    Raises UserError when the path does not exist, or when the folder has only other files.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError(f"{place}: no such file or folder. Correct the path to the ground truth, or leave it out.")
    inside = sorted(visible_files(place))
    found = [path for path in inside if has_data_suffix(path) or path.name.lower().endswith(JSON_LINES)]
    if inside and not found:
        raise UserError(f"{place}: no ground truth. Looked for CSV, Parquet and *.jsonl; found: {inside[0].name}.")
    return found


def read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, label), both as text, for every row of a ground truth file that has both.

    path: a JSON lines file (.jsonl), or a table, which is read as the features step reads labels.

    Raises UserError, while it is iterated, when the file cannot be read, or when its id and label columns cannot be
    found.
    """
    if path.name.lower().endswith(JSON_LINES):
        yield from json_pairs(path)
        return
    (source,) = group_by_header([path], (*ID_COLUMNS, *LABEL_COLUMNS))
    user, label = key_columns(list(source.columns), path)
    query = f"SELECT {user_sql(source, user)} AS u, {user_sql(source, label)} AS l FROM {source.table}"
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(connect_duckdb(Path(scratch))) as connection,
        naming_the_damaged_file([source]),
    ):
        # A row without a user is left out, a user that cannot be used is not.
        _, _, problems = count_broken_rules(
            connection, [source], lambda source: unusable_user_rules(source, user), can_drop=False
        )
        if problems:
            raise UserError(problems[0].message)
        rows = connection.execute(f"SELECT u, l FROM ({query})").fetchall()
    whole = [(one, name) for one, name in rows if one is not None and name is not None]
    if len(whole) < len(rows):
        count = len(rows) - len(whole)
        print(f"ground truth: {path}: rows without an id or a label, left out: {count:,}", file=sys.stderr)
    yield from whole


def key_columns(names: Sequence[str], path: Path) -> tuple[str, str]:
    """The names of the id column and of the label column of a table with the columns `names`.

    The id column is the first of ID_COLUMNS that the table has, the label column the first of LABEL_COLUMNS. When one
    of them is missing from a table of two columns, the first column is the id and the second the label. path: named
    in the error.

    Raises UserError when they cannot be found.
    """
    user, label = (next((name for name in known if name in names), None) for known in (ID_COLUMNS, LABEL_COLUMNS))
    if user and label:
        return user, label
    if len(names) == 2:
        return names[0], names[1]
    raise UserError(f"{path}: no columns 'user_id' and 'label' (found: {', '.join(names) or 'none'}). Rename them.")


def json_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, label), both as text, from a file of SageMaker's ground truth records.

    A record is a line of the file. The id is the record's inferenceId, or else its eventId. `data` holds the labels of
    the request's rows, separated by line ends or blanks; of several rows, row i (from 0) is called `<id>/<i>`, as in
    data capture. Blank lines of the file are skipped.

    Raises UserError, while it is iterated, for a line that is not such a record.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line) if line.strip() else None
                if record is not None:
                    meta, data = record["eventMetadata"], str(record["groundTruthData"]["data"]).split()
                    name = str(meta.get("inferenceId") or meta["eventId"])
                    yield from ((name if len(data) == 1 else f"{name}/{i}", label) for i, label in enumerate(data))
            except UNREADABLE as error:
                raise UserError(
                    f"{path}, line {number}: no ground truth record ({type(error).__name__}: {error}). "
                    'Expected {"groundTruthData": {"data": "risky", …}, "eventMetadata": {"eventId": …}}.'
                ) from error


class MatchedRows:
    """The latest captured prediction of each of the n users (or requests) in the ground truth, in the order of its ids.

    - truth: the ground truth
    - classes: class names, then "unknown"
    - day: int [n], days since 1970 of that prediction; the smallest integer when its day is unknown or there is none
    - predicted: int [n], class position, K for unknown; -1 without a prediction
    - rarity: float [n], NaN without a prediction or where its rarity was not captured
    """

    def __init__(self, truth: Truth, classes: Sequence[str]) -> None:
        """truth: the ground truth; classes: class names, the rare class last. No prediction is known at first."""
        self.truth, self.classes = truth, (*classes, UNKNOWN)
        n = len(truth.id)
        self.day = np.full(n, np.iinfo(np.int64).min)
        self.predicted = np.full(n, -1)
        self.rarity = np.full(n, np.nan)
        self._by_key = {key: at for at, name in enumerate(truth.id.tolist()) if (key := number_key(name))}
        self._other_spelling: dict[int, str] = {}

    def add(self, rows: Rows) -> None:
        """Remember the predictions in these rows for users with ground truth, unless one of a later day is known.

        Of two predictions of the same day, the one that is added later is kept; one without a day never replaces one
        with a day. A row without a predicted class, or with a name that is neither a class nor "unknown", is ignored.
        """
        at = self.truth.positions(rows.id)
        for name in rows.id[at < 0].tolist() if self._by_key else []:
            if (key := number_key(name)) in self._by_key:
                self._other_spelling[self._by_key[key]] = name
        code = {name: i for i, name in enumerate(self.classes)}
        label = np.array([code.get(name, -1) for name in rows.label.tolist()])
        day = rows.day.astype(np.int64)
        usable = np.flatnonzero((at >= 0) & (label >= 0))
        usable = usable[np.argsort(day[usable], kind="stable")]
        usable = usable[day[usable] >= self.day[at[usable]]]
        self.day[at[usable]], self.predicted[at[usable]], self.rarity[at[usable]] = (
            day[usable],
            label[usable],
            rows.rarity[usable],
        )

    def add_each(self, batches: Iterable[Rows]) -> Iterator[Rows]:
        """Yield the same batches unchanged; the predictions in each are remembered (`add`) before it is yielded."""
        for rows in batches:
            self.add(rows)
            yield rows

    def quality(self) -> dict[str, Any]:
        """The content of model_quality.json (see monitored_quality) for the users with a prediction and ground truth.

        Raises UserError when there is no such user, or when an id of the ground truth was only seen with other leading
        zeros or another trailing .0.
        """
        found = self.predicted >= 0
        lost = [(at, name) for at, name in self._other_spelling.items() if not found[at]]
        if lost:
            at, name = lost[0]
            more = f" ({len(lost):,} such ids)" if len(lost) > 1 else ""
            raise UserError(
                f"ground truth: user '{self.truth.id[at]}', but the scored rows: user '{name}'{more}. These look like "
                "one user whose id lost its leading zeros or became a number with a decimal point. Export ids as text, "
                "the same in both."
            )
        if not found.any():
            raise UserError(
                f"ground truth names {len(found):,} users or requests (such as '{self.truth.id[0]}'), none of them "
                "among the captured predictions. Its ids must be the user_id of scored users, or the inferenceId or "
                "eventId of requests."
            )
        return monitored_quality(self.truth.label[found], self.predicted[found], self.rarity[found], self.classes[:-1])


def monitored_quality(
    truth: np.ndarray, predicted: np.ndarray, rarity: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """The content of model_quality.json for n users.

    - truth: int [n], class position, K for behaviour that is none of the classes
    - predicted: int [n], class position, K for unknown
    - rarity: float [n], NaN where it was not captured; such a row counts as 1 when it is predicted rare, otherwise 0
    - classes: the K class names, the rare class last

    Beyond SageMaker's metrics it has pr_auc, and `low` and `high`, the 95 % interval, of recall and precision (Wilson)
    and of pr_auc (bootstrap). What cannot be measured is the text "NaN".
    """
    positive, flagged = truth == len(classes) - 1, predicted == len(classes) - 1
    score = np.where(np.isnan(rarity), flagged, rarity)
    found = metrics.model_quality(truth, predicted, score, tuple(classes), RESAMPLES)
    binary = found["binary_classification_metrics"]
    hits = int((positive & flagged).sum())
    binary["recall"] |= wilson_interval(hits, int(positive.sum()))
    binary["precision"] |= wilson_interval(hits, int(flagged.sum()))
    binary["pr_auc"] = replace_nan(pr_auc_with_interval(positive, score), "NaN")
    return {
        "version": 0,
        "dataset": {"item_count": len(truth)},
        "binary_classification_metrics": binary,
        "multiclass_classification_metrics": found["multiclass_classification_metrics"],
    }


def wilson_interval(hits: float, rows: float) -> dict[str, float]:
    """{low, high}: the 95 % interval of the share hits / rows, by Wilson's formula; {} when there are no rows."""
    if not rows:
        return {}
    low, high = metrics.wilson(np.array([hits]), np.array([rows]))
    return {"low": float(low[0]), "high": float(high[0])}


def pr_auc_with_interval(positive: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """{value, standard_deviation, low, high} of PR-AUC; only the first two, as NaN, when all rows are rare or none is.

    positive: bool [n], rows of the rare class; score: float [n], rarity. low and high are the 95 % interval,
    from RESAMPLES bootstrap resamples.

    Raises ValueError for a rarity that is NaN.
    """
    if positive.all() or not positive.any():
        return {"value": np.nan, "standard_deviation": np.nan}
    draws = metrics.resamples(positive, RESAMPLES, seed=0)
    values = np.concatenate([metrics.pr_auc(metrics.threshold_curve(positive, score, weights)) for weights in draws])
    found = metrics.estimate(values)
    return {"value": found.value, "standard_deviation": found.sd, "low": found.low, "high": found.high}


def quality_violations(found: Mapping[str, Any], constraints: Mapping[str, Any]) -> list[Violation]:
    """A violation for each quality metric whose whole 95 % interval lies beyond its limit; [] when there is none.

    found: the content of model_quality.json; constraints: that of constraints.json, which has the limits of the rare
    class's metrics in binary_classification_constraints. A metric without an interval breaks no limit.
    """
    broken = []
    for name, rule in constraints.get("binary_classification_constraints", {}).items():
        metric = found["binary_classification_metrics"].get(name, {})
        least, operator = rule["threshold"], rule["comparison_operator"]
        low, high = metric.get("low"), metric.get("high")
        if (operator == LESS and high is not None and high < least) or (
            operator == MORE and low is not None and low > least
        ):
            side = "below" if operator == LESS else "above"
            words = f"{name} of the rare class is {metric['value']:.3f} ({low:.3f} to {high:.3f}), {side} {least:g}"
            broken.append(Violation(name, operator, words))
    return broken
