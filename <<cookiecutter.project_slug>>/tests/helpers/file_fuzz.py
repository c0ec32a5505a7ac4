"""Compares how the project reads generated files with what an independent reader says they hold.

`make fuzz` runs the cases of seeds 0 to 5,999, among them every pair of types in every role. It ends with 1 on a
finding, prints the seed, and keeps the files of that case in build/fuzz.
"""

import argparse
import contextlib
import io
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from generated_files import Case, make_case
from independent_reader import Reader, Row, Said
from scarcegan.data import categories
from scarcegan.data.reading import Reading
from scarcegan.data.rules import Layout, Problem
from scarcegan.data.schema import FeatureTable
from scarcegan.data.telemetry import UserRecords
from scarcegan.errors import UserError
from scarcegan.monitoring.quality import read_truth
from scarcegan.profile import check

KEPT = Path("build/fuzz")


@dataclass
class Read:
    """What the project reads of a case.

    - refused: the sentences of check_data or of the ground truth; [] when it has none
    - problems: what it found in the rows
    - rows: a row per user and day, or per row of a ready table
    - given: how many rows it counted; outside: how many of them lie before or after the days that are read
    - complete: whether it read to the end
    - columns: the features of a ready table, without the categories
    - summary: that of check_data
    """

    refused: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    given: int = 0
    outside: int = 0
    complete: bool = False
    columns: tuple[str, ...] = ()
    summary: dict[str, object] = field(default_factory=dict)


def findings_of(seed: int, folder: Path) -> tuple[Case, list[str]]:
    """The case of a seed, written to an empty folder, and what is wrong with how the project reads it ([]: nothing)."""
    case = make_case(seed)
    case.write(folder)
    try:
        read = read_case(case, folder)
    except Exception as error:
        return case, [f"raised {type(error).__name__}: {str(error)[:300]}"]
    to_be_found = case.kind == "features" and not case.columns
    case.columns = case.columns or read.columns
    said = Reader(case, folder).read()
    said.may += ["features are to be found"] * to_be_found
    usable = {name for name in ("score", "rate") if all(file.column(name) for file in case.data())}
    if to_be_found and not read.refused and not usable <= {*case.columns}:
        return case, [f"features {case.columns} are found"]
    return case, list(dict.fromkeys(compare(case, said, read)))


# What the project reads


def read_case(case: Case, folder: Path) -> Read:
    """What the project reads of a case, watched while it checks it. Raises whatever the project raises."""
    layout = Layout(**case.layout)
    if case.kind == "truth":
        return read_ground_truth(folder / "truth", layout)
    read = Read()
    labels = folder / "labels" if case.has("labels") else None
    kind: Any = "telemetry" if case.kind == "telemetry" else "features"
    with mock.patch.object(check, "Reading", partial(WatchedReading, read)):
        read.refused, read.summary = check.check_data(folder / case.place("data"), labels, layout, kind, case.columns)
    return read


def read_ground_truth(path: Path, layout: Layout) -> Read:
    """What the project reads of ground truth."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # what is left out is counted there
            truth = read_truth(path, layout.classes)
    except UserError as error:
        return Read(refused=[str(error)])
    pairs = zip(truth.id.tolist(), truth.label.tolist(), strict=True) if truth else ()
    return Read(rows=[Row("", user, label=(*layout.classes, "other")[label]) for user, label in pairs])


class WatchedReading(Reading):
    """A Reading that adds all that it yields and reports to a Read."""

    def __init__(self, read: Read, *given: Any) -> None:
        """read: what is added to; given: the arguments of Reading."""
        super().__init__(*given)
        self.read, report = read, self.report

        def watched(problems: Sequence[Problem]) -> None:
            read.problems += problems
            report(problems)

        self.report = watched

    def users(self, scratch: Path, batch_users: int) -> Iterator[UserRecords]:
        """The users of telemetry; each user and day with a record is added as a row."""
        read, layout = self.read, self.layout
        for users in super().users(scratch, batch_users):
            for u, day in np.argwhere(users.records > 0):
                label = None if users.label[u] < 0 else layout.classes[users.label[u]]
                then = self.scan.window.first + timedelta(int(day)) if self.scan else None
                row = Row("", str(users.user_id[u]), then, label, tuple(users.counts[u, day].tolist()))
                row.records = int(users.records[u, day])
                read.rows.append(row)
            yield users
        read.given, read.complete = self.rows, True
        read.outside = self.scan.before + self.scan.after if self.scan else 0

    def table(self, columns: Sequence[str], batch_rows: int) -> Iterator[FeatureTable]:
        """The rows of a ready table; each is added."""
        read, layout = self.read, self.layout
        for table in super().table(columns, batch_rows):
            for i, user in enumerate(table.user_id.tolist()):
                label = None if table.label[i] < 0 else layout.classes[table.label[i]]
                read.rows.append(Row("", user, table.as_of[i].item(), label, tuple(table.values[i].tolist())))
            yield table
        read.given, read.complete = self.rows, True
        read.columns = self.columns[: len(self.columns) - len(layout.categories)]


# Compared with what the files say


def compare(case: Case, said: Said, read: Read) -> Iterator[str]:
    """Yield what is wrong, a line each."""
    if said.must and not read.refused:
        yield f"accepted, though {said.must[0]}"
    if not said.must and not said.may and read.refused and not case.extras and not unread(case):
        yield f"good data refused: {read.refused[0]}"
    left_out = [*case.extras, *unread(case)]
    told = sum(map(int, re.findall(r"(\d+) files? (?:is|are) not read", str(read.summary))))
    for name in left_out:
        if not read.refused and Path(name).name not in str(read.summary) and told < len(left_out):
            yield f"{name} is left out without a word"
    if case.kind == "truth":
        if not read.refused:
            yield from compare_truth(said, read)
    elif read.complete and all(problem.droppable for problem in read.problems):
        yield from compare_rows(case, said, read)


def unread(case: Case) -> list[str]:
    """The paths of files that are left out and are not hidden."""
    return [file.name for file in case.files if not file.read and "hidden" not in case.notes]


def compare_rows(case: Case, said: Said, read: Read) -> Iterator[str]:
    """Yield a line for each row that is read otherwise than the files say, and for rows that are lost uncounted."""
    if read.given != len(said.rows):
        yield f"{len(said.rows)} rows are counted as {read.given}"
    lost = read.given - sum(row.records for row in read.rows) - read.outside
    counted = sum(problem.rows for problem in read.problems)
    if lost > counted or (lost and not read.refused):
        yield f"{lost} rows are lost, {counted} are counted"
    good = [row for row in said.rows if not row.bad]
    for row in read.rows:
        alike = [own for own in good if own.user in (row.user, None) and (own.day is None or own.day == row.day)]
        if not alike:
            near = next((own.bad for own in said.rows if own.bad and own.user in (row.user, None)), "")
            yield f"row {shown(row)} is in no file ({near})"
        elif not any(same_numbers(numbers, row.numbers) for numbers in values_of(case, alike)):
            yield f"row {shown(row)}: the file says {shown(alike[0])}"
        elif not read.refused and row.label not in labels_of(case, said, good, row):
            yield f"row {shown(row)}: the label is {labels_of(case, said, good, row)}"
    for own in good:
        yield from unlike_the_server(own)


def values_of(case: Case, rows: Sequence[Row]) -> list[Sequence[Any]]:
    """The numbers that a user may have on a day: of each row, or aggregated."""
    if not case.layout.get("aggregate"):
        return [row.numbers for row in rows]
    how: dict[str, Any] = {"sum": math.fsum, "mean": lambda own: math.fsum(own) / len(own), "max": max, "count": len}
    names = case.layout["counters"]
    return [[how[case.layout["aggregate"][name]]([row.numbers[i] for row in rows]) for i, name in enumerate(names)]]


def labels_of(case: Case, said: Said, good: Sequence[Row], row: Row) -> set[str | None]:
    """The labels that a row may have: of its user in the labels files, without them in the data."""
    if not case.has("labels"):
        own = {one.label for one in good if one.user in (row.user, None)}
        return own - {None} if case.kind == "telemetry" and own != {None} else own
    return {own.label for own in said.labels if own.user == row.user and own.label} or {None}


def same_numbers(own: Sequence[Any], read: Sequence[float]) -> bool:
    """Whether numbers are equal as 32-bit numbers; None is NaN."""
    return all(
        math.isnan(b) if a is None else math.isclose(a, b, rel_tol=3e-7, abs_tol=1e-44)
        for a, b in zip(own, read, strict=True)
    )


def unlike_the_server(row: Row) -> Iterator[str]:
    """Yield a line when the server's code of a category is another than the file's."""
    for value, cell in zip(row.numbers[len(row.numbers) - len(row.raw) :], row.raw, strict=True):
        if isinstance(cell, str) and not same_numbers([value], [categories.code(cell)]):
            yield f"category {cell!r} has another code in a request"


def compare_truth(said: Said, read: Read) -> Iterator[str]:
    """Yield a line when the ground truth is other than the files say."""
    expected = {row.user: row.label for row in said.truth if row.label and not row.bad and no_time(row)}
    found = {row.user: row.label for row in read.rows if no_time(row)}
    odd = sum(bool(row.bad) for row in said.truth)
    if expected.items() - found.items() or len(found) > len(expected) + odd:
        yield f"ground truth {found}: the files say {expected}"


def no_time(row: Row) -> bool:
    """Whether a user is no time and no truth value, of which the text has several forms."""
    return not str(row.user).startswith(("2026-", "1800-", "9999-", "True", "False", "true", "false"))


def shown(row: Row) -> str:
    """A row in a few words."""
    return f"{row.user!r} {row.day} {row.label or ''} {list(row.numbers)}"


# The long run


def run_seed(seed: int) -> tuple[int, str, int, list[str]]:
    """The seed, its case in a line, how many files it has, and its findings."""
    with tempfile.TemporaryDirectory() as folder:
        case, found = findings_of(seed, Path(folder))
        return seed, str(case), len(case.files), found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases of `--cases` seeds from `--seed` on; 1 when there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    begun, files_made, kept = time.monotonic(), 0, []
    seeds = range(args.seed, args.seed + args.cases)
    with ProcessPoolExecutor(args.workers) as pool:
        results = pool.map(run_seed, seeds, chunksize=20) if args.workers > 1 else map(run_seed, seeds)
        for done, (seed, name, count, found) in enumerate(results, 1):
            files_made += count
            if found:
                kept.append(seed)
                keep(seed)
                print(f"{name}\n  " + "\n  ".join(found[:3]), flush=True)
            if done % 500 == 0:
                print(
                    f"{done:,} of {args.cases:,} cases, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True
                )
    print(f"{args.cases:,} cases, {files_made:,} files, {time.monotonic() - begun:.0f} s, {len(kept)} with a finding")
    if kept:
        print(f"The files are in {KEPT}. Again: make fuzz CASES=1 SEED={kept[0]}")
    return int(bool(kept))


def keep(seed: int) -> None:
    """Write the files of a case below KEPT."""
    folder = KEPT / str(seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make_case(seed).write(folder)


if __name__ == "__main__":
    sys.exit(main())
