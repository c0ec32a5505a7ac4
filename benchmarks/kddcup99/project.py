"""From the raw gzip file to four registered models: bake a project, give it a ready feature table, run it.

What is measured against what stands in table.py; here the generated project itself does the work, by its own commands.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.append(str(Path(__file__).resolve().parents[2]))

from bake import bake
from kddcup99.protocol import FAMILIES, NUMERIC, TRAIN_FILE, read

LABELLED_NORMAL = 5_000
ANSWERS = {
    "project_name": "KDD Cup 99",
    "project_slug": "kddcup99",
    "description": "Finds R2L attacks among connections",
    "team": "benchmarks",
    "rare_class": "r2l",
    "negative_classes": "normal",
}
SETTINGS = {"data.kind": "features", "data.labels": "inside", "data.columns": f"[{', '.join(NUMERIC)}]"}


def ready_table(folder: Path, seed: int = 0) -> pd.DataFrame:
    """user_id, label, 38 numeric columns: every R2L row and 5,000 normal ones labelled, the other normal rows not.

    Equal rows are kept once: a row in training and its twin in the test would flatter every figure.
    """
    rows = read(folder / TRAIN_FILE).drop_duplicates(list(NUMERIC))
    rows = rows[rows["attack"].isin(["normal", *FAMILIES["r2l"]])]
    normal = rows["attack"] == "normal"
    labelled = np.random.default_rng(seed).choice(np.flatnonzero(normal), LABELLED_NORMAL, replace=False)
    label = np.where(normal, "", "r2l").astype(object)
    label[labelled] = "normal"
    names = [f"row-{place:06d}" for place in rows.index]
    return pd.DataFrame({"user_id": names, "label": np.where(label == "", None, label)}).join(
        rows[list(NUMERIC)].reset_index(drop=True)
    )


def scarcegan(project: Path, *words: str) -> dict:
    """Run the project's command line and return its JSON; its progress goes to our stderr. SystemExit if it fails."""
    command = [sys.executable, "-m", "scarcegan", *words, "--json"]
    environment = os.environ | {"PYTHONPATH": str(project / "src")}
    done = subprocess.run(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stdout)
        sys.exit(f"`{' '.join(words[:1])}` ended with code {done.returncode} in {project}.")
    return json.loads(done.stdout)


def run(data: Path, folder: Path) -> None:
    """Bake, run, and print where the report lies and what the registered models can do."""
    project = bake(folder, ANSWERS)
    table = ready_table(data)
    (project / "data").mkdir(exist_ok=True)
    path = project / "data" / "connections.parquet"
    table.to_parquet(path, index=False)
    counts = table["label"].fillna("unlabelled").value_counts()
    print(f"{path}: " + ", ".join(f"{count:,} {label}" for label, count in counts.items()))
    settings = SETTINGS | {"data.path": "data/connections.parquet"}
    result = scarcegan(
        project, "run", *[word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    )
    print(f"run {result['run']}: {result['status']}. {result['reason']}".strip())
    for report in result["reports"]:
        print(f"report: {report}")
        print_evaluation(Path(report).with_name("evaluation.csv"))
    print(f"{len(result['packages'])} registered models:")
    for package in result["packages"]:
        print(f"  version {package['version']}: {package['definition']}")


def print_evaluation(path: Path) -> None:
    """The rare class on the project's own test split, a line per model, simple models included."""
    rows = pd.read_csv(path)
    chosen = rows[rows["metric"].isin(["pr_auc", "recall", "precision"])]
    print(chosen.pivot(index="model", columns="metric", values="value").round(3).to_string())
