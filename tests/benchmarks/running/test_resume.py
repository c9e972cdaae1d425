"""A killed run, repeated until it is done, ends with the numbers of the run that was never killed, bit for bit."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backbones.weights.directories import file_sha256
from tests.support.commands import Moment, backbench, pretrain_arguments, read_record, run_arguments
from tests.support.resuming import (
    LOG,
    WRITE,
    WRITE_RECORD,
    WRITE_RESULTS,
    WRITE_WEIGHTS,
    assert_same_result,
    finish,
    finish_after,
    finish_interrupted,
    finish_killed,
)

Settings = Mapping[str, Any]

PRETRAINING: Settings = {
    "optimizer__batch_size": 32,
    "runtime__batch_per_device": 16,
    "schedule__epochs": 2,
    "schedule__warmup_epochs": 1,
    "runtime__checkpoint_every": 6,
    "runtime__log_every": 1,
    "runtime__workers": 0,
    "precision": "fp32",
}
"""Forty iterations of accumulated gradients; checkpoints within epochs."""

FINE_TUNING: Settings = {
    "optimizer__batch_size": 16,
    "schedule__epochs": 4,
    "schedule__warmup_epochs": 1,
    "model__drop_path": 0.2,
    "augment__rand_augment": "rand-m9-mstd0.5-inc1",
    "augment__mixup": 0.8,
    "augment__cutmix": 1.0,
    "augment__random_erasing": 0.5,
    "runtime__checkpoint_every": 3,
    "runtime__log_every": 1,
    "runtime__workers": 0,
    "evaluation__every_epochs": 2,
    "precision": "fp32",
}
"""Sixteen iterations with everything that is drawn at random; an evaluation on the way."""


EVALUATE = "tasks.classification.metric.ClassificationMetric.process"


@pytest.fixture(scope="module")
def pretrained(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training that was never killed."""
    out = tmp_path_factory.mktemp("pretrained") / "runs"
    return finish(pretrain_arguments(mini / "unlabelled", out, **PRETRAINING), out)


@pytest.fixture(scope="module")
def fine_tuned(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuning that was never killed."""
    out = tmp_path_factory.mktemp("fine_tuned") / "runs"
    return finish(run_arguments(mini, out, **FINE_TUNING), out)


def test_killed_pretraining_ends_the_same(mini: Path, pretrained: Path, tmp_path: Path) -> None:
    """Killed before the first checkpoint, within an accumulation after one, while writing one, and exporting."""
    out = tmp_path / "runs"
    moments = [
        Moment(LOG, 3),
        Moment(LOG, 15),
        Moment(WRITE, 2),
        Moment("backbones.pretraining.job.save_atomically", 1),
        Moment("backbones.pretraining.job.save_atomically", 2),
    ]
    finish_killed(pretrain_arguments(mini / "unlabelled", out, **PRETRAINING), out, moments)
    assert_same_result(out, pretrained)
    (encoder,), (expected,) = out.glob("**/encoder.pth"), pretrained.glob("**/encoder.pth")
    assert file_sha256(encoder) == file_sha256(expected) == read_record(out)["checkpoint_sha256"]
    pictures = [sorted(path.name for path in root.glob("**/*.png")) for root in (out, pretrained)]
    assert pictures[0] == pictures[1]


def test_killed_fine_tuning_ends_the_same(mini: Path, fine_tuned: Path, tmp_path: Path) -> None:
    """Killed in training, in the evaluation on the way and the last, and thrice between that and the end."""
    out = tmp_path / "runs"
    moments = [
        Moment(LOG, 5),
        Moment(EVALUATE, 2),
        Moment(EVALUATE, 3),
        WRITE_WEIGHTS,
        WRITE_RECORD,
        WRITE_RESULTS,
    ]
    finish_killed(run_arguments(mini, out, **FINE_TUNING), out, moments)
    assert_same_result(out, fine_tuned)
    for name in ("per_image.csv", "weights.safetensors"):
        files = [next(root.glob(f"**/{name}")).read_bytes() for root in (out, fine_tuned)]
        assert files[0] == files[1]
    assert len((out / "results.csv").read_text().splitlines()) == 1 + len(read_record(out)["metrics"])


def test_what_was_evaluated_before_a_kill_is_not_evaluated_again(mini: Path, fine_tuned: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "runs", tmp_path / "log"
    arguments = run_arguments(mini, out, **FINE_TUNING)
    assert backbench(arguments, log, WRITE_RECORD) == -signal.SIGKILL
    assert list(out.rglob("evaluation.pt"))
    assert backbench(arguments, log, Moment(EVALUATE)) == 0, log.read_text()
    assert_same_result(out, fine_tuned)
    assert not list(out.rglob("evaluation.pt"))


def test_loader_processes_change_nothing_killed_or_not(mini: Path, fine_tuned: Path, tmp_path: Path) -> None:
    """With two loader processes, which outlive the killed one for a moment, the command can be repeated at once."""
    out = tmp_path / "runs"
    arguments = run_arguments(mini, out, **{**FINE_TUNING, "runtime__workers": 2})
    finish_killed(arguments, out, [Moment(LOG, 5)])
    assert_same_result(out, fine_tuned)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_where_it_stopped(
    mini: Path, fine_tuned: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C and the scheduler's SIGTERM: exit status 130, a checkpoint of the last iteration, the same end."""
    out = tmp_path / "runs"
    finish_interrupted(run_arguments(mini, out, **FINE_TUNING), out, Moment(LOG, 5), number, 5)
    assert_same_result(out, fine_tuned)


def test_a_finished_run_is_not_repeated(mini: Path, fine_tuned: Path, tmp_path: Path) -> None:
    (record,) = fine_tuned.glob("**/record.json")
    before = record.read_bytes(), record.stat().st_mtime_ns
    assert backbench(run_arguments(mini, fine_tuned, **FINE_TUNING), tmp_path / "log") == 0
    assert (record.read_bytes(), record.stat().st_mtime_ns) == before
    assert "finished before" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_fine_tuning_killed_over_and_over(mini: Path, fine_tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    moments = [Moment(LOG, 1 + count % 4) for count in range(10)]
    statuses = finish_after(run_arguments(mini, out, **FINE_TUNING), out, moments)
    assert -signal.SIGKILL in statuses
    assert_same_result(out, fine_tuned)


@pytest.mark.slow
def test_pretraining_killed_over_and_over(mini: Path, pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    arguments = pretrain_arguments(mini / "unlabelled", out, **{**PRETRAINING, "runtime__workers": 2})
    statuses = finish_after(arguments, out, [Moment(LOG, 1 + count) for count in range(10)])
    assert -signal.SIGKILL in statuses
    assert_same_result(out, pretrained)
