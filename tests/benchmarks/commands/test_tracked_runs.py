"""What trackers are told of runs of the commands, and that kills and signals end a tracked run as any other."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backbones.training.trackers import tracking
from tests.support import wandb_files
from tests.support.commands import Moment, backbench, read_record, run_directory
from tests.support.evaluated_runs import RUNS
from tests.support.in_process import pretrain, refusal_before_training, run, success
from tests.support.resuming import LOG
from tests.support.trackers import Recorder, record


def test_a_fine_tuning_is_told_as_the_cell_that_it_is(
    small: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = record(monkeypatch, Recorder())
    success(*run(small, tmp_path, f"mae_vit_mini={encoder}", runtime__trackers="[wandb]", runtime__log_every=1))
    ((told, _),) = shown.begun
    directory, found = run_directory(tmp_path), read_record(tmp_path)
    assert told.directory == directory and told.store == tmp_path
    assert told.name == f"classification/shapes/mae_vit_mini/seed0-{found['key']}"
    assert told.group == "shapes/mae_vit_mini"
    about = {name: told.settings[name] for name in ("backbone", "method", "pretrain_data", "seed", "key", "dataset")}
    assert about == {name: found[name] for name in about}
    assert {name: told.settings[name] for name in found["recipe_settings"]} == found["recipe_settings"] | {
        "dataset": "shapes"
    }
    final = {f"final/{metric['name']}": metric["value"] for metric in found["metrics"]}
    assert shown.finished == [("finished", final)] and "final/top1" in final
    success(*run(small, tmp_path, f"mae_vit_mini={encoder}", runtime__trackers="[mlflow]"))  # decides no key
    assert len(shown.begun) == 1


def test_cells_of_a_suite_are_one_group(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pre-training has the method and the data of the encoder that it is to leave."""
    shown = record(monkeypatch, Recorder())
    monkeypatch.setenv("BACKBENCH_SUITE", "paper-mini")
    success(*pretrain(small / "unlabelled", tmp_path, runtime__trackers="[wandb]"))
    ((told, _),) = shown.begun
    assert told.group == "paper-mini"
    assert told.settings["method"] == "MAE" and told.settings["pretrain_data"] == read_record(tmp_path)["pretrain_data"]
    assert shown.finished[0][1].keys() == {"final/reconstruction_loss"}


def test_a_missing_package_is_told_before_training(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    told = refusal_before_training(*run(small, tmp_path, runtime__trackers="[mlflow]"))
    assert "the package mlflow is not installed" in told and "pip install 'backbench[trackers]'" in told
    assert not [*tmp_path.iterdir()]


def losses(out: Path) -> list[tuple[int, float]]:
    lines = (run_directory(out) / "log.jsonl").read_text().splitlines()
    return [(line["update"], line["loss"]) for line in map(json.loads, lines)]


def shown_losses(out: Path) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """By both trackers, in the order in which they were."""
    directory = run_directory(out)
    rows = [row for path in wandb_files.files(directory) for row in wandb_files.history(path)]
    client = pytest.importorskip("mlflow").MlflowClient(tracking_uri=(out / "mlruns").as_uri())
    known = json.loads((directory / "trackers.json").read_text())["mlflow"]["id"]
    history = client.get_metric_history(known, "train/loss")
    return (
        [(row["update"], row["train/loss"]) for row in rows if "train/loss" in row],
        [(point.step, point.value) for point in history],
    )


def commands(task: str, sources: dict[str, Path], out: Path) -> tuple[list[str], list[str]]:
    """A run of four updates without trackers, and the same with both."""
    settings: dict[str, Any] = {"runtime__log_every": 1, "runtime__checkpoint_every": 2}
    arguments, data = RUNS.get(task, pretrain), sources.get(task, sources["classification"] / "unlabelled")
    if task in ("pretraining", "classification"):
        settings["schedule__epochs"] = 2
    tracked = settings | {"runtime__trackers": "[wandb,mlflow]"}
    return arguments(data, out / "alone", **settings), arguments(data, out / "stopped", **tracked)


def by_itself(
    arguments: list[str], output: Path, moment: Moment | None = None, number: signal.Signals = signal.SIGKILL
) -> int:
    """The exit status of the command in a process as a shell starts it, whose exit handlers wait for wandb's own."""
    moments = (moment,) if moment else ()
    program = (
        "import signal; from pathlib import Path; from tests.support.commands import Moment, call_command; "
        f"call_command({arguments!r}, Path({str(output)!r}), {moments!r}, signal.Signals({int(number)}))"
    )
    return subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3]).returncode


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("task", ["pretraining", *RUNS])
def test_a_stopped_run_goes_on_in_both_to_the_same_losses(
    task: str, number: signal.Signals, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, through the commands; a run that was told to stop has saved first, and shown all."""
    for package in ("wandb", "mlflow"):
        pytest.importorskip(package, reason="make test-trackers installs it")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_SERVICE", f"3-{os.getpid()}-unix-{tmp_path}/another")  # of the process that started them
    alone, tracked = commands(task, sources, tmp_path)
    assert backbench(alone, tmp_path / "log") == 0
    killed = number == signal.SIGKILL
    status = by_itself(tracked, tmp_path / "log", Moment(LOG, 4 if killed else 3), number)
    assert status == (-number if killed else 130), (tmp_path / "log").read_text()
    assert by_itself(tracked, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    expected = losses(tmp_path / "alone")
    assert losses(tmp_path / "stopped") == expected and [update for update, _ in expected] == [1, 2, 3, 4]
    in_wandb, in_mlflow = shown_losses(tmp_path / "stopped")
    assert in_mlflow == expected
    assert in_wandb[-1] == expected[-1], (tmp_path / "log").read_text()
    before = len(in_wandb) - 1 if killed else 3  # of the killed process the last second is lost to wandb
    assert in_wandb[:-1] == expected[:before]
