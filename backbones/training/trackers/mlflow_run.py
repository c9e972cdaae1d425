"""A run in MLflow: on the server of MLFLOW_TRACKING_URI, else in the folder `mlruns` beside all runs of an `--out`."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from backbones.training.trackers.tracker import Status, TrackedRun

FOLDER = "mlruns"
LONGEST_VALUE = 500
"""Characters of a setting that every store of MLflow's takes."""

MOST_SETTINGS = 100
"""That MLflow takes at a time."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # to its makers
    "MLFLOW_ALLOW_FILE_STORE": "true",  # of which MLflow warns, and which alone serves many processes of a cluster
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default a server that is gone holds up a run for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""What holds where the environment says nothing else."""

STATUS: dict[Status, str] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MlflowRun:
    """What has been begun in MLflow, by its client, which leaves the process's own present run alone."""

    def __init__(self, client: Any, identity: str, where: str) -> None:
        self.client, self.id, self.where = client, identity, where
        self.update = 0

    def log(self, update: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        self.update = update
        now = int(time.time() * 1000)
        metrics = [Metric(_plain(name), float(value), now, update) for name, value in figures.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def finish(self, status: Status, final: Mapping[str, float]) -> None:
        self.log(self.update, final)
        self.client.set_terminated(self.id, STATUS[status])


def begin(run: TrackedRun, known: str) -> MlflowRun:
    """Begin a run in MLflow, in the experiment of its group, or go on with the one of that id, where it is there."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI") or (run.store / FOLDER).absolute().as_uri()
    client = MlflowClient(tracking_uri=uri)
    if known and _goes_on(client, known):
        return MlflowRun(client, known, f"goes on as {known} in {uri}")
    experiment = _experiment(client, os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.group)
    identity = client.create_run(experiment, run_name=run.name, tags={"group": run.group}).info.run_id
    _tell_settings(client, identity, run.settings)
    return MlflowRun(client, identity, f"{identity} in {uri}")


def _goes_on(client: Any, identity: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.update_run(identity, status="RUNNING")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # a run that somebody removed, or of another store
            return False
        raise
    return True


def _experiment(client: Any, name: str) -> str:
    """The experiment's id. Of several that processes have made at the same time it is the first, for all of them."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            client.create_experiment(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    named = client.search_experiments(filter_string=f"name = '{name}'")
    return str(min(named or [found], key=lambda each: (each.creation_time or 0, each.experiment_id)).experiment_id)


def _tell_settings(client: Any, identity: str, settings: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    told = [Param(_plain(name), str(value)[:LONGEST_VALUE]) for name, value in _flat(settings)]
    for first in range(0, len(told), MOST_SETTINGS):
        client.log_batch(identity, params=told[first : first + MOST_SETTINGS])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(name: str) -> str:
    """The name in the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name)
