"""KDD Cup 99: the table of methods, then the same data through a generated project, from raw gzip to registered models.

python benchmarks/bench_kddcup99.py /folder/with/the/two/gzip/files
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
sys.dont_write_bytecode = True

PARTS = ("table", "pipeline")


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = arguments.add_argument
    add("data", nargs="?", type=Path, help="folder with kddcup.data_10_percent.gz and corrected.gz")
    add("--quick", action="store_true", help="two seeds instead of ten")
    add("--only", choices=PARTS, help="one part alone")
    add("--keep", type=Path, help="where the generated project is put and left; default: a temporary folder, left too")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.data is None:
        sys.exit(
            "Where is the data? make bench-kddcup99 DATA=/folder, holding kddcup.data_10_percent.gz and corrected.gz "
            "of KDD Cup 1999 (UCI machine learning archive)."
        )
    if args.only != "pipeline":
        import bench_kddcup99_models

        bench_kddcup99_models.main([str(args.data), *(["--quick"] if args.quick else [])])
    if args.only != "table":
        from kddcup99 import project

        folder = args.keep or Path(tempfile.mkdtemp(prefix="kddcup99-"))
        folder.mkdir(parents=True, exist_ok=True)
        project.run(args.data, folder)


if __name__ == "__main__":
    main()
