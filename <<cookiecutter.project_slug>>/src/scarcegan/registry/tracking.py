"""Tracking: the figures of a training in MLflow, if the environment names a tracking server; nothing otherwise.

MLFLOW_TRACKING_URI turns it on. MLFLOW_RUN_ID, set by who runs the step, names a run to write into; without it a run is
made in the experiment MLFLOW_EXPERIMENT_NAME (or `scarcegan`). Models are not logged: the registry keeps them.
"""

import os
import time
from collections.abc import Mapping
from typing import Any

LONGEST = 500  # characters MLflow keeps of a parameter


class Tracker:
    """Writes parameters and metrics of one run. Without a tracking server it does nothing."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._client: Any = None
        self._ours = False
        if os.environ.get("MLFLOW_TRACKING_URI"):
            self._open(parameters)

    def _open(self, parameters: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        from scarcegan.registry.database import open_database

        self._client = open_database(os.environ["MLFLOW_TRACKING_URI"])
        self._run = os.environ.get("MLFLOW_RUN_ID") or self._new_run()
        # A retried step writes the same values again, which MLflow accepts; other values it would refuse.
        known = self._client.get_run(self._run).data.params
        wanted = {key: str(value)[:LONGEST] for key, value in parameters.items()}
        new = [Param(key, value) for key, value in wanted.items() if key not in known]
        self._client.log_batch(self._run, params=new)

    def _new_run(self) -> str:
        from scarcegan.registry.database import open_experiment

        experiment = open_experiment(self._client, os.environ.get("MLFLOW_EXPERIMENT_NAME", "scarcegan"))
        self._ours = True
        return self._client.create_run(experiment, run_name="train").info.run_id

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Metrics at an iteration."""
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(key, value, now, step) for key, value in figures.items()])

    def close(self) -> None:
        """End a run that we began; one that was handed to us is its owner's to end."""
        if self._ours:
            self._client.set_terminated(self._run)
