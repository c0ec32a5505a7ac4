"""Rare-class methods on KDD Cup 99: one table, ScarceGAN with its ablations beside eight simple models.

python benchmarks/bench_kddcup99_models.py /folder/with/the/two/gzip/files [--quick]
python benchmarks/bench_kddcup99_models.py FOLDER --choose   # held-out training rows; the test file stays shut
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PYTHONWARNINGS", "ignore")
# A process per method: threads within one would only stand in each other's way.
for library in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(library, "1")

from kddcup99 import compare, protocol, simple_models, table, variants  # noqa: E402
from kddcup99.protocol import TASKS, Draw, Task  # noqa: E402

SEEDS, QUICK_SEEDS = 10, 2
HALVES = 4  # draws of the views that cut the file in two
ONE_MLP = "MLP, one member"
LEFT_OUT = {
    "r2l": ["guess_passwd", "warezmaster", "imap", "ftp_write", "multihop", "warezclient"],
    "u2r": ["buffer_overflow", "rootkit", "loadmodule", "perl"],
}

Figures = dict[str, float]


def method(name: str) -> Callable[[Draw], compare.Rated]:
    """What rates the draws of one task: a variant of ScarceGAN or a simple model."""
    if name in variants.VARIANTS:
        return variants.Runner(variants.VARIANTS[name])
    if name == ONE_MLP:
        return lambda draw: compare.cross_fitted(simple_models.mlp, draw, members=1)
    return lambda draw: compare.cross_fitted(simple_models.METHODS[name], draw)


def names() -> list[str]:
    return [*variants.VARIANTS, *simple_models.METHODS, ONE_MLP]


def draws(folder: Path, task: Task, seeds: int, choose: bool) -> Iterator[Draw]:
    """The protocol's draws; or, to choose settings by, held-out training rows (`views`)."""
    if not choose:
        yield from (protocol.draw(folder, task, seed) for seed in range(seeds))
        return
    names = LEFT_OUT[task.family]
    yield from (protocol.held_out(folder, task, seed) for seed in range(len(names)))
    yield from (protocol.held_out(folder, task, seed, (name,)) for seed, name in enumerate(names))
    yield from (protocol.later(folder, task, seed) for seed in range(HALVES))
    yield from (protocol.later(folder, task, seed, normal=True) for seed in range(HALVES))


def views(task: Task) -> list[str]:
    """What each draw of held-out training rows asks about: half of a name's rows, a whole name, the later or earlier
    half of every name, or that with normal traffic of another time."""
    names = len(LEFT_OUT[task.family])
    return ["half"] * names + ["whole names"] * names + ["later"] * HALVES + ["another time"] * HALVES


def run(folder: Path, task: Task, name: str, seeds: int, choose: bool) -> list[Figures]:
    """Figures of one method on every draw of one task."""
    warnings.filterwarnings("ignore")
    rate = method(name)
    return [compare.judge(rate(draw), draw) for draw in draws(folder, task, seeds, choose)]


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = arguments.add_argument
    add("data", type=Path, help="folder with kddcup.data_10_percent.gz and corrected.gz")
    add("--quick", action="store_true", help="two seeds instead of ten")
    add("--choose", action="store_true", help="held-out training rows instead of the test file")
    add("--tasks", default=",".join(task.name for task in TASKS), help="of r2l-8, r2l-38, u2r-8, u2r-38")
    add("--methods", default="", help="names, separated by semicolons; default: all")
    add("--jobs", type=int, default=2, help="methods at once")
    add("--save", type=Path, help="JSON of all figures; what stands in it already is not computed again")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    started = time.monotonic()
    seeds = QUICK_SEEDS if args.quick else SEEDS
    tasks = [task for task in TASKS if task.name in args.tasks.split(",")]
    wanted = [name for name in names() if not args.methods or name.strip() in args.methods.split(";")]
    protocol.read(args.data / protocol.TRAIN_FILE)  # a missing or damaged file ends here, before anything is trained
    known = json.loads(args.save.read_text()) if args.save and args.save.exists() else {}
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {
            (task.name, name): pool.submit(run, args.data, task, name, seeds, args.choose)
            for task in tasks
            for name in wanted
            if name not in known.get(task.name, {})
        }
        for (task_name, name), future in waiting.items():
            known.setdefault(task_name, {})[name] = future.result()
            print(f"{time.monotonic() - started:5.0f} s  {task_name}  {name.strip()}", file=sys.stderr, flush=True)
            if args.save:
                args.save.write_text(json.dumps(known, indent=1))
    rows = "held-out training rows" if args.choose else f"test file, {seeds} seeds"
    print(f"KDD Cup 99, {rows}, mean ± sd; five members each unless said otherwise; * best PR-AUC\n")
    for task in tasks:
        results = {name: known[task.name][name] for name in wanted}
        print("\n".join(table.lines(task.name, results, variants.DEFAULT)) + "\n")
        if args.choose:
            print("\n".join(table.by_view(results, views(task))) + "\n")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
