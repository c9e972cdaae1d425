"""A killed or interrupted segmentation run, repeated, ends with the numbers of one that never was, bit for bit."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.commands import Moment, backbench, checkpoint_tensors, last_checkpoint, read_record, run_directory
from tests.support.segmentation_runs import VAL, few_scenes, segmentation

SETTINGS = {
    "schedule__iterations": 6,
    "evaluation__every_iterations": 4,
    "augment__ratio": "[0.5, 2.0]",
    "augment__photometric_distortion": "true",
    "model__drop_path": 0.2,
    "model__relative_position": "true",
    "model__layer_scale": 1.0,
    "precision": "fp32",
}
"""Six iterations, the last two of a second epoch, with everything that is drawn at random; an evaluation on the way."""

LOG = "backbones.training.progress.ProgressHook._log"
WRITE = "torch.save"
EVALUATE = "tasks.segmentation.metric.SegmentationMetric.process"


@pytest.fixture(scope="module")
def few(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return few_scenes(mini / "ade20k", tmp_path_factory.mktemp("few") / "scenes")


@pytest.fixture(scope="module")
def reference(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a run that was never killed."""
    out = tmp_path_factory.mktemp("reference") / "runs"
    assert backbench(segmentation(few, out, **SETTINGS), out.with_name("log")) == 0
    return out


def log_lines(out: Path) -> int:
    return (run_directory(out) / "log.jsonl").read_text().count("\n")


def pixels(out: Path) -> np.ndarray:
    """Of the last picture."""
    with Image.open(run_directory(out) / "pictures/segmentations_6.png") as picture:
        return np.asarray(picture.convert("RGB"))


def assert_same_weights(out: Path, reference: Path) -> None:
    """Every tensor of the last checkpoint, optimizer state included."""
    tensors, others = checkpoint_tensors(out), checkpoint_tensors(reference)
    assert tensors.keys() == others.keys()
    assert [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])] == []


def assert_same_result(out: Path, reference: Path) -> None:
    expected, found = read_record(reference), read_record(out)
    for name in ("metrics", "train_loss", "per_class", "notes", "corrupt_images"):
        assert found[name] == expected[name], name
    assert_same_weights(out, reference)
    assert log_lines(out) == log_lines(reference)
    ours, theirs = run_directory(out), run_directory(reference)
    assert (ours / "areas.npz").read_bytes() == (theirs / "areas.npz").read_bytes()
    assert np.array_equal(pixels(out), pixels(reference))
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    assert (out / "results.csv").read_text().count("\n") == (reference / "results.csv").read_text().count("\n")


def test_killed_over_and_over_it_ends_the_same(few: Path, reference: Path, tmp_path: Path) -> None:
    """In training, writing a checkpoint, in both evaluations, between them and the record, and after it."""
    out = tmp_path / "runs"
    moments = [
        Moment(LOG, 3),
        Moment(WRITE, 1),
        Moment(EVALUATE, 2),
        Moment(EVALUATE, len(VAL) + 2),
        Moment("tasks.segmentation.task.save_areas"),
        Moment("benchmarks.running.cells.write_record"),
        Moment("benchmarks.running.cells.write_results_csv"),
    ]
    arguments = segmentation(few, out, **SETTINGS)
    statuses = [backbench(arguments, tmp_path / "log", moment) for moment in moments]
    assert statuses == [-signal.SIGKILL] * len(moments)
    assert backbench(arguments, tmp_path / "log") == 0
    assert "finished before" in (tmp_path / "log").read_text()
    assert read_record(out)["key"] == read_record(reference)["key"]
    assert (run_directory(out) / "pictures/segmentations_4.png").exists()
    assert_same_result(out, reference)


@pytest.mark.parametrize(
    ("moment", "number", "iterations"),
    [
        (Moment(LOG, 3), signal.SIGINT, 3),
        pytest.param(Moment(LOG, 3), signal.SIGTERM, 3, marks=pytest.mark.slow),
        pytest.param(Moment(WRITE, 1), signal.SIGINT, 2, marks=pytest.mark.slow),
        (Moment(EVALUATE, len(VAL) + 2), signal.SIGTERM, 6),
    ],
)
def test_interrupted_it_goes_on_where_it_stopped(
    few: Path, reference: Path, tmp_path: Path, moment: Moment, number: signal.Signals, iterations: int
) -> None:
    """Ctrl-C and the scheduler's SIGTERM: exit status 130, a checkpoint of the last iteration, the same end."""
    out = tmp_path / "runs"
    arguments = segmentation(few, out, **SETTINGS)
    assert backbench(arguments, tmp_path / "log", moment, number) == 130
    text = (tmp_path / "log").read_text()
    assert "interrupted; repeat the command" in text
    assert "Traceback" not in text
    assert (last_checkpoint(out).name, log_lines(out)) == (f"iteration_{iterations}.pth", iterations)
    assert not list(out.glob("**/record.json"))
    assert backbench(arguments, tmp_path / "log") == 0
    assert_same_result(out, reference)


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime__workers": 1},
        pytest.param({"evaluation__every_iterations": "null"}, marks=pytest.mark.slow),
        pytest.param({"runtime__activation_checkpointing": "true"}, marks=pytest.mark.slow),
    ],
    ids=["a loader process", "evaluated at the end only", "less memory"],
)
def test_how_it_is_run_changes_nothing_killed_or_not(
    few: Path, reference: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    out = tmp_path / "runs"
    arguments = segmentation(few, out, **SETTINGS | changes)
    assert backbench(arguments, tmp_path / "log", Moment(LOG, 3)) == -signal.SIGKILL
    assert backbench(arguments, tmp_path / "log") == 0
    if "evaluation__every_iterations" in changes:
        assert not (run_directory(out) / "pictures/segmentations_4.png").exists()
    assert_same_result(out, reference)


@pytest.mark.slow
def test_killed_between_the_steps_of_an_update_it_ends_the_same(few: Path, tmp_path: Path) -> None:
    changes = SETTINGS | {"optimizer__batch_size": 4, "runtime__batch_per_device": 2, "schedule__iterations": 3}
    whole, cut = tmp_path / "whole/runs", tmp_path / "cut/runs"
    whole.parent.mkdir()
    assert backbench(segmentation(few, whole, **changes), tmp_path / "log") == 0
    assert log_lines(whole) == 6
    cut.parent.mkdir()
    arguments = segmentation(few, cut, **changes)
    statuses = [backbench(arguments, tmp_path / "log", moment) for moment in (Moment(LOG, 5), Moment(EVALUATE, 2))]
    assert statuses == [-signal.SIGKILL] * 2
    assert backbench(arguments, tmp_path / "log") == 0
    assert_same_result(cut, whole)
