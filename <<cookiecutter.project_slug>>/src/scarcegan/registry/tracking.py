"""Tracking: writes the parameters and metrics of a training to MLflow, when the environment names a tracking server.

MLFLOW_TRACKING_URI turns it on. MLFLOW_RUN_ID names an existing run to write to; without it a new run is created in the
experiment MLFLOW_EXPERIMENT_NAME (default: scarcegan), with the tags that MLFLOW_RUN_CONTEXT holds as JSON. Models are
not logged, as the registry stores them.
"""

import csv
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from scarcegan.jsonfile import find_json
from scarcegan.pipeline.code import hash_file

PARAMETER_LENGTH = 500  # characters that MLflow stores of a parameter
CURVES_FILE = "curves.csv"
CURVES_TAG = "curves"  # tag of an MLflow run: SHA-256 of the curves.csv that holds what was logged


class Tracker:
    """Writes the parameters and metrics of one MLflow run. All of it does nothing when MLFLOW_TRACKING_URI is not set.

    - parameters: name -> value. They are written when the object is created, as text that is cut to PARAMETER_LENGTH. A
      parameter that the run has already keeps its value.
    - environment: name -> value of the environment variables; default: those of this process.

    Raises UserError when the database that MLFLOW_TRACKING_URI names cannot be used, and MlflowException when there is
    no run with the id MLFLOW_RUN_ID.
    """

    def __init__(self, parameters: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> None:
        self._client: Any = None
        self._ours, self._environment = False, environment
        if environment.get("MLFLOW_TRACKING_URI"):
            self._open(parameters)

    def _open(self, parameters: Mapping[str, Any]) -> None:
        """Connect to MLflow, find the run (MLFLOW_RUN_ID) or create one, and write the parameters that it lacks."""
        from mlflow.entities import Param

        from scarcegan.registry.database import open_database

        self._client = open_database(self._environment["MLFLOW_TRACKING_URI"])
        self._run = self._environment.get("MLFLOW_RUN_ID") or self._new_run()
        # A retried step writes the same values again, which MLflow accepts; other values it would refuse.
        known = self._client.get_run(self._run).data.params
        wanted = {key: str(value)[:PARAMETER_LENGTH] for key, value in parameters.items()}
        new = [Param(key, value) for key, value in wanted.items() if key not in known]
        self._client.log_batch(self._run, params=new)

    def _new_run(self) -> str:
        """Create a run in the experiment MLFLOW_EXPERIMENT_NAME and return its id; `close` will mark it as finished.

        The experiment is created when it is missing. The run has the tags in MLFLOW_RUN_CONTEXT.
        """
        from scarcegan.registry.database import open_experiment

        experiment = open_experiment(self._client, experiment_name(self._environment))
        self._ours = True
        tags = json.loads(self._environment.get("MLFLOW_RUN_CONTEXT", "{}"))
        return self._client.create_run(experiment, run_name="train", tags=tags).info.run_id

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write metrics, name -> value, to the run. step: the training iteration they belong to."""
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(key, value, now, step) for key, value in metrics.items()])

    def close(self, curves: Path | None = None) -> None:
        """Mark the run as finished when this tracker created it. A run from MLFLOW_RUN_ID is left open.

        - curves: the curves.csv of the training, by whose digest restore_training finds the run; None: it will not.
        """
        if self._client is not None and curves is not None:
            self._client.set_tag(self._run, CURVES_TAG, hash_file(curves))
        if self._ours:
            self._client.set_terminated(self._run)


def experiment_name(environment: Mapping[str, str]) -> str:
    """Return the name of the MLflow experiment of trainings."""
    return environment.get("MLFLOW_EXPERIMENT_NAME", "scarcegan")


def restore_training(models: Path, curves: Path, names: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Write the parameters and metrics of a finished training to MLflow again, unless a run, even a deleted one, has
    them. Returns whether they were written.

    - models, curves: folders that the train step has written.
    - names: of the metrics; in curves.csv they are in lower case.
    - environment: as for a Tracker; it has MLFLOW_TRACKING_URI, which names a SQLite file.

    Raises UserError when the database cannot be used, also while it is read or written.
    """
    from scarcegan.registry.database import database_of, errors_as_sentences

    file = curves / CURVES_FILE
    with errors_as_sentences(database_of(environment["MLFLOW_TRACKING_URI"])):
        if is_logged(file, environment):
            return False
        facts = find_json(next(models.glob("*/model.json")))
        parameters = {**facts["hyperparameters"], "seeds": facts["seeds"]}
        # JSON knows no tuples, and the text that was logged was a tuple's.
        parameters = {name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()}
        tracker = Tracker(parameters, environment)
        for iteration, metrics in mean_curves(file, names).items():
            tracker.log(metrics, iteration)
        tracker.close(file)
    return True


def is_logged(curves: Path, environment: Mapping[str, str]) -> bool:
    """Return whether MLflow has a run, even a deleted one, that was closed with this curves.csv.

    - environment: as for a Tracker; it has MLFLOW_TRACKING_URI.
    """
    from mlflow.entities import ViewType

    from scarcegan.registry.database import open_database

    client = open_database(environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(experiment_name(environment))
    query = f"tags.{CURVES_TAG} = '{hash_file(curves)}'"
    return experiment is not None and bool(
        client.search_runs([experiment.experiment_id], query, ViewType.ALL, max_results=1)
    )


def mean_curves(file: Path, names: Sequence[str]) -> dict[int, dict[str, float]]:
    """Return iteration -> name of a metric -> its mean over the networks where it is not NaN; NaN when it always is.

    - file: the curves.csv of the train step.
    - names: of the metrics; those of the columns are the same in lower case.
    """
    found: dict[int, dict[str, list[float]]] = defaultdict(lambda: {name: [] for name in names})
    with file.open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            for name, values in found[int(row["iteration"])].items():
                value = float(row[name.lower()])
                values += [] if math.isnan(value) else [value]
    return {
        iteration: {name: fmean(values) if values else math.nan for name, values in metrics.items()}
        for iteration, metrics in found.items()
    }
