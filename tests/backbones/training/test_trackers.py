"""Weights & Biases and MLflow themselves, offline: what they keep of a run, and how they leave the process."""

import json
import os
import random
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from backbones.training.interruption import SIGNALS
from backbones.training.trackers import mlflow_run, wandb_run
from backbones.training.trackers.tracker import TrackedRun
from backbones.training.trackers.tracking import Tracking, conclude, tracked
from tests.backbones.training.test_evaluation import Errors, KilledAt, KilledError, train
from tests.backbones.training.test_tracking import logged
from tests.support import wandb_files
from tests.support.trackers import run_in


@pytest.fixture(autouse=True)
def _no_tracker_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")  # so that it is put back after the test
    for name, value in mlflow_run.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def mlflow_runs(store: Path, experiment: str) -> tuple[MlflowClient, list[Run]]:
    client = MlflowClient(tracking_uri=(store / "mlruns").as_uri())
    found = client.get_experiment_by_name(experiment)
    return client, list(client.search_runs([found.experiment_id]))


def points(client: MlflowClient, run: Run, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def process_as_it_is() -> list[Any]:
    """What a library could change behind a run's back."""
    states = [repr(random.getstate()), repr(np.random.get_state()), torch.get_rng_state().tolist()]
    handlers = [signal.getsignal(number) for number in sorted(SIGNALS)]
    streams = [sys.stdout, sys.stderr, vars(sys.stdout).get("write"), vars(sys.stderr).get("write")]
    return [*states, handlers, sys.exit, sys.excepthook, *streams]


def test_a_killed_and_resumed_run_is_one_in_both_and_its_losses_are_the_same(tmp_path: Path) -> None:
    directory, options = tmp_path / "run", {"trackers": ["wandb", "mlflow"], "log_every": 1, "every_epochs": 1}
    train(tmp_path / "alone", Errors(), every_epochs=1, log_every=1)
    described = TrackedRun(("wandb", "mlflow"), "a/b/c", "suite", {"seed": 3, "optimizer": {}}, directory, tmp_path)
    before = process_as_it_is()
    with pytest.raises(KilledError), tracked(described):
        train(directory, Errors(), hooks=[KilledAt(7)], kept=("found",), **options)
    with tracked(described) as tracking:
        train(directory, Errors(), kept=("found",), **options)
        assert process_as_it_is()[3:] == before[3:]
        conclude({"top1": 83.6, "AP@50": 0.5})
        state = process_as_it_is()
        tracking.log("val", 9, {"error": 0.5})
    assert process_as_it_is() == state

    assert [line["loss"] for line in logged(directory)] == [line["loss"] for line in logged(tmp_path / "alone")]
    losses = [(line["update"], line["loss"]) for line in logged(directory)]
    parts = wandb_files.files(directory)
    rows = [row for path in parts for row in wandb_files.history(path)]
    assert [(row["update"], row["train/loss"]) for row in rows if "train/loss" in row] == losses
    assert [row["update"] for row in rows if "val/error" in row] == [4, 8, 9]
    (identity,) = {wandb_files.run_of(path).run_id for path in parts}
    shown = wandb_files.run_of(parts[0])
    assert (shown.display_name, shown.run_group, shown.project) == ("a/b/c", "suite", "backbench")
    assert {item.key: item.value_json for item in shown.config.update}["seed"] == "3"
    summary = wandb_files.summary(parts[-1])
    assert (summary["final/top1"], summary["final/AP@50"]) == (83.6, 0.5)

    client, (run,) = mlflow_runs(tmp_path, "suite")
    assert (run.info.run_name, run.info.status, run.data.params["seed"]) == ("a/b/c", "FINISHED", "3")
    assert points(client, run, "train/loss") == losses
    assert [update for update, _ in points(client, run, "val/error")] == [4, 8, 9]
    assert (run.data.metrics["final/top1"], run.data.metrics["final/AP_50"]) == (83.6, 0.5)
    assert json.loads((directory / "trackers.json").read_text()) == {
        name: {"id": known, "logged": {"train": 8, "val": 9}}
        for name, known in (("wandb", identity), ("mlflow", run.info.run_id))
    }


def test_random_states_are_the_same_after_they_have_begun(tmp_path: Path) -> None:
    tracking, before = Tracking(run_in(tmp_path, "wandb", "mlflow")), process_as_it_is()
    tracking.begin()
    assert set(tracking.open) == {"wandb", "mlflow"}
    tracking.finish("interrupted")
    assert process_as_it_is() == before
    _, (run,) = mlflow_runs(tmp_path, "group")
    assert run.info.status == "KILLED"


def test_the_environment_says_where_mlflow_keeps_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has gone from there, or was another store's, is begun anew."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere/mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    begun = mlflow_run.begin(run_in(tmp_path, "mlflow"), "0123456789abcdef0123456789abcdef")
    _, (run,) = mlflow_runs(tmp_path / "elsewhere", "mine")
    assert run.info.run_id == begun.id
    assert mlflow_run.begin(run_in(tmp_path, "mlflow"), begun.id).id == begun.id


def test_an_experiment_that_processes_made_at_the_same_time_is_one_for_all(tmp_path: Path) -> None:
    made = [SimpleNamespace(creation_time=time, experiment_id=name) for time, name in ((7, "b"), (5, "a"))]
    client = SimpleNamespace(
        get_experiment_by_name=lambda name: None,
        create_experiment=lambda name: "b",
        search_experiments=lambda filter_string: made,
    )
    assert mlflow_run._experiment(client, "suite") == "a"


def test_a_server_that_is_not_there_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking = Tracking(run_in(tmp_path, "mlflow"))
    tracking.begin()
    assert not tracking.open
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"{tmp_path}: mlflow failed (" in told and "goes on without it" in told


@pytest.mark.parametrize(
    ("variables", "settings", "mode"),
    [
        ({}, {}, "offline"),
        ({"WANDB_API_KEY": "k" * 40}, {}, "online"),
        ({}, {"base_url": "https://wandb.example.org:8080"}, "online"),
        ({"NETRC": "/nowhere"}, {"base_url": "https://wandb.example.org"}, "offline"),
        ({"WANDB_API_KEY": "k" * 40}, {"mode": "offline"}, "offline"),
    ],
)
def test_wandb_is_online_for_those_who_have_logged_in(
    variables: dict[str, str], settings: dict[str, str], mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine wandb.example.org\n  login user\n  password secret\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    usual = {"mode": "online", "api_key": None, "base_url": "https://api.wandb.ai"}
    assert wandb_run._mode(SimpleNamespace(**usual | settings)) == mode
