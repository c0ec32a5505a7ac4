"""Monitor: compare captured rows with a baseline; write statistics, violations, a verdict on retraining and a report.

Rows are summarised by day as they are read, days are joined to windows that end on the last day, and every window with
enough rows is compared with the baseline on its own. Statistics and violations are of the latest such window; the
verdict is based on the last n of them. With ground truth the model's quality is measured as well.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scarcegan.data.files import visible_files
from scarcegan.errors import run_step
from scarcegan.jsonfile import write_json
from scarcegan.local.fingerprint import size_of
from scarcegan.monitoring.baseline import Baseline, read_baseline
from scarcegan.monitoring.captured import captured_files, read_captured
from scarcegan.monitoring.drift import violations_json
from scarcegan.monitoring.quality import MatchedRows, quality_violations, read_truth, truth_files
from scarcegan.monitoring.rows import Tally
from scarcegan.monitoring.statistics import statistics
from scarcegan.monitoring.windows import MonitoringRules, compare_windows, count_days, retraining_verdict
from scarcegan.steps._arguments import parse_classes, parse_days, parse_folders, parse_number
from scarcegan.steps._inputs import INPUTS_FILE, describe_files, signatures, sources_of


def applied_constraints(baseline: Baseline, threshold: float) -> dict[str, Any]:
    """The content of the baseline's constraints.json, copied, with `threshold` as the largest distribution distance
    allowed to columns of numbers and to categories, where the file gives none itself.
    """
    config = baseline.constraints.get("monitoring_config", {})
    distribution = config.get("distribution_constraints", {})
    asked = {"comparison_threshold": threshold, "categorical_comparison_threshold": threshold}
    config = {**config, "distribution_constraints": {**asked, **distribution}}
    return {**baseline.constraints, "monitoring_config": config}


def parser() -> argparse.ArgumentParser:
    """The parser of this step's command line: folders, and rules for windows and for the verdict on retraining."""
    it = argparse.ArgumentParser(description=__doc__)
    for channel in ("captured", "baseline", "monitoring-out"):
        it.add_argument(f"--{channel}", type=Path, required=True)
    it.add_argument("--truth", type=Path)
    it.add_argument("--description", required=True, help="the project's, for the report; may be empty")
    it.add_argument("--classes", type=parse_classes, required=True)
    it.add_argument("--drift-threshold", type=parse_number, required=True)
    it.add_argument("--window-days", type=parse_days, required=True)
    it.add_argument("--retrain-windows", type=int, required=True)
    it.add_argument("--of-windows", type=int, required=True)
    it.add_argument("--minimum-rows", type=int, required=True)
    return it


def signatures_of_inputs(args: argparse.Namespace) -> dict[str, tuple[Path, dict[Path, str]]]:
    """The input channels "captured", "baseline" and "truth": name -> (file or folder, `signatures` of the files that
    are read). Without ground truth there are two.

    Raises UserError when captured rows or ground truth are missing.
    """
    read = {"captured": captured_files(args.captured), "baseline": sorted(visible_files(args.baseline))}
    read |= {"truth": truth_files(args.truth)} if args.truth else {}
    return {name: (getattr(args, name), signatures(files, getattr(args, name))) for name, files in read.items()}


def inputs_json(before: Mapping[str, tuple[Path, Mapping[Path, str]]]) -> dict[str, Any]:
    """The content of inputs.json: {"captured", "baseline" or "truth": what describe_files returns}; truth may be [].

    before: what signatures_of_inputs returned before the files were read.

    Raises UserError when a file has changed since, or is gone. What a server has appended to captured requests is no
    change.
    """
    described = {}
    for name, (root, seen) in before.items():
        growing = name == "captured"
        described[name] = describe_files(sources_of(seen, root, growing=growing), root, seen, growing)
    return {"truth": [], **described}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step: write statistics.json, constraints.json, constraint_violations.json, verdict.json, inputs.json and
    report.html into the output folder, and model_quality.json when there is ground truth. Older files of these names
    are replaced; without ground truth an older model_quality.json is deleted.

    It prints what was read and what was left out to stderr, and the verdict's reason to stdout. Drift is no error.
    argv: the command line without the program's name; None: that of this process.
    Raises UserError for a baseline, captured rows or ground truth that cannot be used, for fewer captured rows than
    --minimum-rows, for ground truth that names no user or request among the captured rows, or when a file changes
    meanwhile.
    """
    args = parse_folders(parser(), argv)
    rules = MonitoringRules(
        args.drift_threshold, args.window_days, args.retrain_windows, args.of_windows, args.minimum_rows
    )
    before = signatures_of_inputs(args)
    baseline, rare = read_baseline(args.baseline), args.classes[-1]
    truth = read_truth(args.truth, args.classes) if args.truth else None
    matches = MatchedRows(truth, args.classes) if truth else None
    tally = Tally()
    # What a server records from here on is left to the next window.
    sizes = {file: size_of(seen) for file, seen in before["captured"][1].items()}
    batches = read_captured(
        args.captured, baseline.features, args.classes, tally, categories=baseline.categories, sizes=sizes
    )
    days = count_days(matches.add_each(batches) if matches else batches, baseline)
    print(tally.as_sentence(), file=sys.stderr)
    windows = compare_windows(days, baseline, tally, rules, rare)
    quality = matches.quality() if matches else None
    broken = quality_violations(quality, baseline.constraints) if quality else []
    now = [window for window in windows if window.judged][-1]
    found = retraining_verdict(windows, broken, rules, rare)

    out = args.monitoring_out
    (out / "model_quality.json").unlink(missing_ok=True)
    current, labels = now.current.numbers, now.current.labels
    described = statistics(baseline.names, current, baseline.edges, labels, baseline.categories)
    write_json(out / "statistics.json", described)
    write_json(out / "constraints.json", applied_constraints(baseline, rules.threshold))
    write_json(out / "constraint_violations.json", violations_json([*now.violations, *broken]))
    if quality:
        write_json(out / "model_quality.json", quality)
    write_json(out / "verdict.json", found)
    write_json(out / INPUTS_FILE, inputs_json(before))
    from scarcegan.report import monitoring

    monitoring.write_monitoring_page(
        out / "report.html", baseline, windows, found, broken, quality, truth, tally, rules, rare, args.description
    )
    print(found["reason"])


if __name__ == "__main__":
    sys.exit(run_step(main))
