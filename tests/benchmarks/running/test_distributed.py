"""Two processes under torchrun (gloo, CPU) against one."""

import csv
import select
import time
from pathlib import Path

import pytest
import torch

from tests.support.commands import (
    PATIENCE,
    backbench,
    checkpoint_tensors,
    last_checkpoint,
    pretrain_arguments,
    read_record,
    run_arguments,
    run_directory,
    start_torchrun,
    torchrun,
)

FINE_TUNING = {
    "optimizer__batch_size": 16,
    "schedule__epochs": 2,
    "schedule__warmup_epochs": 1,
    "precision": "fp32",
    "runtime__workers": 0,
}
"""Eight updates of the mini classification, whose recipe has no drop path, mixup or erasing."""

PRETRAINING = {
    "optimizer__batch_size": 64,
    "schedule__warmup_epochs": 1,
    "schedule__epochs": 2,
    "precision": "fp32",
    "runtime__workers": 0,
}


@pytest.fixture(scope="module")
def odd_data(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini images with an odd number of evaluation images."""
    root = tmp_path_factory.mktemp("odd") / "images"
    root.mkdir()
    (root / "train").symlink_to(mini / "train")
    for source in sorted((mini / "val").glob("*/*"))[:-1]:
        target = root / "val" / source.parent.name / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
    return root


def per_image(out: Path) -> list[dict[str, str]]:
    with (run_directory(out) / "per_image.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_fine_tuning_and_evaluation_equal_one_process(odd_data: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert backbench(run_arguments(odd_data, alone, **FINE_TUNING), tmp_path / "log") == 0
    text = torchrun(run_arguments(odd_data, together, **FINE_TUNING))
    assert text.count("random_vit_mini on ") == 1

    expected, found = checkpoint_tensors(alone), checkpoint_tensors(together)
    assert found.keys() == expected.keys()
    rate = 1e-3 * 16 / 256  # about what one update of AdamW can move a weight by
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=0.05 * rate)

    first, second = read_record(alone), read_record(together)
    assert (first["world_size"], second["world_size"]) == (1, 2)
    assert first["key"] == second["key"]
    assert second["train_loss"] == pytest.approx(first["train_loss"], rel=1e-4)
    rows, expected_rows = per_image(together), per_image(alone)
    assert len(rows) == 79
    assert [row["image"] for row in rows] == [row["image"] for row in expected_rows]
    assert [row["labels"] for row in rows] == [row["labels"] for row in expected_rows]
    for row, expected_row in zip(rows, expected_rows, strict=True):
        assert float(row["loss"]) == pytest.approx(float(expected_row["loss"]), rel=1e-3)
    assert {metric["n_eval"] for metric in second["metrics"]} == {79}
    assert len((together / "results.csv").read_text().splitlines()) == 1 + len(second["metrics"])


@pytest.mark.slow
def test_two_processes_evaluate_one_checkpoint_as_one_does(odd_data: Path, tmp_path: Path) -> None:
    """Evaluation alone: the run has its last checkpoint, and its record is removed."""
    assert backbench(run_arguments(odd_data, tmp_path, **FINE_TUNING), tmp_path / "log") == 0
    expected, rows = read_record(tmp_path), per_image(tmp_path)
    checkpoint = last_checkpoint(tmp_path).read_bytes()
    for name in ("record.json", "per_image.csv"):
        (run_directory(tmp_path) / name).unlink()
    torchrun(run_arguments(odd_data, tmp_path, **FINE_TUNING))
    assert last_checkpoint(tmp_path).read_bytes() == checkpoint
    found = read_record(tmp_path)
    assert found["train_loss"] == expected["train_loss"]
    for metric, other in zip(expected["metrics"], found["metrics"], strict=True):
        assert other["value"] == pytest.approx(metric["value"], rel=1e-6), metric["name"]
    found_rows = per_image(tmp_path)
    assert [(row["image"], row["predictions"]) for row in found_rows] == [
        (row["image"], row["predictions"]) for row in rows
    ]


def test_pretraining_runs_and_resumes(mini: Path, tmp_path: Path) -> None:
    """Ten iterations in two processes; a run that lost its second half repeats it to the same weights."""
    arguments = pretrain_arguments(mini / "unlabelled", tmp_path, **PRETRAINING)
    torchrun(arguments)
    directory, record = run_directory(tmp_path), read_record(tmp_path)
    expected = checkpoint_tensors(tmp_path)
    pictures = sorted(path.name for path in (directory / "pictures").iterdir())
    assert (record["world_size"], len(list(tmp_path.glob("**/record.json")))) == (2, 1)
    assert last_checkpoint(tmp_path).name == "iteration_10.pth"

    last_checkpoint(tmp_path).unlink()
    for name in ("record.json", "checkpoints/encoder.pth", "checkpoints/autoencoder.pth"):
        (directory / name).unlink()
    assert last_checkpoint(tmp_path).name == "iteration_5.pth"
    torchrun(arguments)
    again = checkpoint_tensors(tmp_path)
    assert again.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.items())
    repeated = read_record(tmp_path)
    assert repeated["checkpoint_sha256"] == record["checkpoint_sha256"]
    assert repeated["train_loss"] == record["train_loss"]
    assert sorted(path.name for path in (directory / "pictures").iterdir()) == pictures
    assert not list(tmp_path.glob("**/*.partial"))


@pytest.mark.slow
def test_two_processes_stop_together(mini: Path, tmp_path: Path) -> None:
    """A signal to the launcher, as from a scheduler: both leave one checkpoint, and the command goes on from there."""
    arguments = run_arguments(mini, tmp_path, **{**FINE_TUNING, "schedule__epochs": 25, "runtime__log_every": 1})

    def begun() -> bool:
        return any(path.read_text().count("\n") >= 2 for path in tmp_path.glob("**/log.jsonl"))

    launcher = start_torchrun(arguments)
    deadline = time.monotonic() + PATIENCE
    while not begun():
        assert launcher.poll() is None and time.monotonic() < deadline
        select.select([], [], [], 0.01)
    launcher.terminate()
    assert launcher.wait(PATIENCE) != 0
    stopped_at = int(last_checkpoint(tmp_path).stem.removeprefix("iteration_"))
    assert 0 < stopped_at < 100
    assert not list(tmp_path.glob("**/record.json"))
    torchrun(arguments)
    assert last_checkpoint(tmp_path).name == "iteration_100.pth"
    assert read_record(tmp_path)["world_size"] == 2


@pytest.mark.slow
def test_accumulation_in_two_processes_equals_one_step_in_one(mini: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert backbench(run_arguments(mini, alone, **FINE_TUNING), tmp_path / "log") == 0
    torchrun(run_arguments(mini, together, runtime__batch_per_device=2, **FINE_TUNING))
    expected, found = checkpoint_tensors(alone), checkpoint_tensors(together)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=3e-6)
