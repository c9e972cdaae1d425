"""A killed or interrupted segmentation run, repeated, ends with the numbers of one that never was, bit for bit."""

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.commands import Moment, backbench, log_lines, run_directory
from tests.support.resuming import (
    LOG,
    WRITE,
    WRITE_RECORD,
    WRITE_RESULTS,
    assert_same_result,
    finish,
    finish_interrupted,
    finish_killed,
)
from tests.support.segmentation_runs import VAL, segmentation

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

EVALUATE = "tasks.segmentation.metric.SegmentationMetric.process"


@pytest.fixture(scope="module")
def reference(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a run that was never killed."""
    out = tmp_path_factory.mktemp("reference") / "runs"
    return finish(segmentation(few, out, **SETTINGS), out)


def pixels(out: Path) -> np.ndarray:
    """Of the last picture."""
    with Image.open(run_directory(out) / "pictures/segmentations_6.png") as picture:
        return np.asarray(picture.convert("RGB"))


def assert_same_areas(out: Path, reference: Path) -> None:
    assert_same_result(out, reference, "areas.npz")
    assert np.array_equal(pixels(out), pixels(reference))


@pytest.mark.slow
def test_killed_over_and_over_it_ends_the_same(few: Path, reference: Path, tmp_path: Path) -> None:
    """In training, writing a checkpoint, in both evaluations, between them and the record, and after it."""
    out = tmp_path / "runs"
    moments = [
        Moment(LOG, 3),
        Moment(WRITE, 1),
        Moment(EVALUATE, 2),
        Moment(EVALUATE, len(VAL) + 2),
        Moment("tasks.segmentation.task.save_areas"),
        WRITE_RECORD,
        WRITE_RESULTS,
    ]
    arguments = segmentation(few, out, **SETTINGS)
    finish_killed(arguments, out, moments)
    assert "finished before" in (tmp_path / "log").read_text()
    assert (run_directory(out) / "pictures/segmentations_4.png").exists()
    assert_same_areas(out, reference)


def test_what_was_evaluated_before_a_kill_is_not_evaluated_again(few: Path, reference: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "runs", tmp_path / "log"
    arguments = segmentation(few, out, **SETTINGS)
    assert backbench(arguments, log, WRITE_RECORD) == -signal.SIGKILL
    assert list(out.rglob("evaluation.pt"))
    assert backbench(arguments, log, Moment(EVALUATE)) == 0, log.read_text()
    assert_same_areas(out, reference)
    assert not list(out.rglob("evaluation.pt"))


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
    finish_interrupted(segmentation(few, out, **SETTINGS), out, moment, number, iterations)
    assert_same_areas(out, reference)


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
    finish_killed(segmentation(few, out, **SETTINGS | changes), out, [Moment(LOG, 3)])
    if "evaluation__every_iterations" in changes:
        assert not (run_directory(out) / "pictures/segmentations_4.png").exists()
    assert_same_areas(out, reference)


@pytest.mark.slow
def test_killed_between_the_steps_of_an_update_it_ends_the_same(few: Path, tmp_path: Path) -> None:
    changes = SETTINGS | {"optimizer__batch_size": 4, "runtime__batch_per_device": 2, "schedule__iterations": 3}
    whole = finish(segmentation(few, tmp_path / "whole/runs", **changes), tmp_path / "whole/runs")
    assert log_lines(whole) == 6
    cut = tmp_path / "cut/runs"
    finish_killed(segmentation(few, cut, **changes), cut, [Moment(LOG, 5), Moment(EVALUATE, 2)])
    assert_same_areas(cut, whole)
