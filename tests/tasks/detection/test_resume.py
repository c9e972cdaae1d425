"""A killed or interrupted detection run, repeated, ends with the numbers of one that never was, bit for bit."""

import signal
from pathlib import Path

import pytest

from tests.support.commands import Moment, backbench
from tests.support.detection_runs import VAL, detection
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

SETTINGS = {
    "schedule__iterations": 6,
    "evaluation__every_iterations": 4,
    "augment__flip": 0.5,
    "augment__scale": "[0.5, 2.0]",
    "model__drop_path": 0.2,
    "model__relative_position": "true",
    "precision": "fp32",
}
"""Six iterations, the last two of a second epoch, with everything that is drawn at random; an evaluation on the way."""

FILES = ("detections.json", "pictures/detections_6.png")
EVALUATE = "tasks.detection.metric.DetectionMetric.process"


@pytest.fixture(scope="module")
def reference(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a run that was never killed."""
    out = tmp_path_factory.mktemp("reference") / "runs"
    return finish(detection(few, out, **SETTINGS), out)


@pytest.mark.slow
def test_killed_over_and_over_it_ends_the_same(few: Path, reference: Path, tmp_path: Path) -> None:
    """In training, writing a checkpoint, in both evaluations, between them and the record, and after it."""
    out = tmp_path / "runs"
    moments = [
        Moment(LOG, 3),
        Moment(WRITE, 1),
        Moment(EVALUATE, 2),
        Moment(EVALUATE, len(VAL) + 2),
        Moment("tasks.detection.task.save_matches", 2),
        WRITE_RECORD,
        WRITE_RESULTS,
    ]
    arguments = detection(few, out, **SETTINGS)
    finish_killed(arguments, out, moments)
    assert "finished before" in (tmp_path / "log").read_text()
    assert_same_result(out, reference, *FILES)


def test_what_was_evaluated_before_a_kill_is_not_evaluated_again(few: Path, reference: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "runs", tmp_path / "log"
    arguments = detection(few, out, **SETTINGS)
    assert backbench(arguments, log, WRITE_RECORD) == -signal.SIGKILL
    assert list(out.rglob("evaluation.pt"))
    assert backbench(arguments, log, Moment(EVALUATE)) == 0, log.read_text()
    assert_same_result(out, reference, *FILES)
    assert not list(out.rglob("evaluation.pt"))


@pytest.mark.parametrize(
    ("moment", "number", "iterations"),
    [
        (Moment(LOG, 3), signal.SIGINT, 3),
        pytest.param(Moment(LOG, 3), signal.SIGTERM, 3, marks=pytest.mark.slow),
        pytest.param(Moment(WRITE, 1), signal.SIGINT, 2, marks=pytest.mark.slow),
        (Moment(EVALUATE, len(VAL) + 2), signal.SIGINT, 6),
    ],
)
def test_interrupted_it_goes_on_where_it_stopped(
    few: Path, reference: Path, tmp_path: Path, moment: Moment, number: signal.Signals, iterations: int
) -> None:
    """Ctrl-C and the scheduler's SIGTERM: exit status 130, a checkpoint of the last iteration, the same end."""
    out = tmp_path / "runs"
    finish_interrupted(detection(few, out, **SETTINGS), out, moment, number, iterations)
    assert_same_result(out, reference, *FILES)


@pytest.mark.slow
def test_loader_processes_change_nothing_killed_or_not(few: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    finish_killed(detection(few, out, **SETTINGS, runtime__workers=2), out, [Moment(LOG, 3)])
    assert_same_result(out, reference, *FILES)
