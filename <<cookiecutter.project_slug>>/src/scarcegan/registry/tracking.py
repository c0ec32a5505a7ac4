"""Tracking: writes the parameters and metrics of a training to MLflow, when the environment names a tracking server.

MLFLOW_TRACKING_URI turns it on. MLFLOW_RUN_ID names an existing run to write to; without it a new run is created in the
experiment MLFLOW_EXPERIMENT_NAME (default: scarcegan), with the tags that MLFLOW_RUN_CONTEXT holds as JSON. Models are
not logged, as the registry stores them.
"""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

PARAMETER_LENGTH = 500  # characters that MLflow stores of a parameter


class Tracker:
    """Writes the parameters and metrics of one MLflow run. All of it does nothing when MLFLOW_TRACKING_URI is not set.

    - parameters: name -> value. They are written when the object is created, as text that is cut to PARAMETER_LENGTH. A
      parameter that the run has already keeps its value.

    Raises UserError when the database that MLFLOW_TRACKING_URI names cannot be used, and MlflowException when there is
    no run with the id MLFLOW_RUN_ID.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._client: Any = None
        self._ours = False
        if os.environ.get("MLFLOW_TRACKING_URI"):
            self._open(parameters)

    def _open(self, parameters: Mapping[str, Any]) -> None:
        """Connect to MLflow, find the run (MLFLOW_RUN_ID) or create one, and write the parameters that it lacks."""
        from mlflow.entities import Param

        from scarcegan.registry.database import open_database

        self._client = open_database(os.environ["MLFLOW_TRACKING_URI"])
        self._run = os.environ.get("MLFLOW_RUN_ID") or self._new_run()
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

        experiment = open_experiment(self._client, os.environ.get("MLFLOW_EXPERIMENT_NAME", "scarcegan"))
        self._ours = True
        tags = json.loads(os.environ.get("MLFLOW_RUN_CONTEXT", "{}"))
        return self._client.create_run(experiment, run_name="train", tags=tags).info.run_id

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write metrics, name -> value, to the run. step: the training iteration they belong to."""
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(key, value, now, step) for key, value in metrics.items()])

    def close(self) -> None:
        """Mark the run as finished when this tracker created it. A run from MLFLOW_RUN_ID is left open."""
        if self._ours:
            self._client.set_terminated(self._run)
