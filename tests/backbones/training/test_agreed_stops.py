"""Several processes: which checkpoint they go on from, when they ask each other whether to stop, and how they do."""

import os
import shutil
import signal
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from backbones.training import interruption
from backbones.training.interruption import Cadence
from backbones.training.job import Evaluation, Job, run_job
from tests.backbones.training.test_evaluation import Errors, Normalised
from tests.support.points_runs import Points, recipe
from tests.support.two_machines import in_two


class SignalAt(Hook):
    """Sends this process a signal after an iteration, or before a batch of the evaluation at one."""

    def __init__(self, number: int, *, iteration: int, batch: int | None = None) -> None:
        self.number, self.iteration, self.batch = number, iteration, batch

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.batch is None and batch_idx + 1 == self.iteration:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if (runner.iter, batch_idx) == (self.iteration, self.batch):
            os.kill(os.getpid(), self.number)


def train(directory: Path, *hooks: Hook, **runtime: object) -> torch.Tensor:
    """Eight updates, with an evaluation after four; the weights."""
    model = Normalised()
    evaluation = Evaluation(Points(), Errors(), batch_size=2, every_epochs=1)
    groups = [{"params": list(model.network.parameters())}]
    settings = recipe(runtime={"checkpoint_every": 8, **runtime})
    run_job(Job(model, Points(), groups, settings, directory, 0, "test", evaluation, hooks))
    return torch.cat([value.flatten().float() for value in model.network.state_dict().values()])


def checkpoints(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def stop_in_training(rank: int, directory: Path) -> object:
    return train(directory / "run", *[SignalAt(signal.SIGUSR1, iteration=2)] * rank)


def stop_in_evaluation(rank: int, directory: Path) -> object:
    return train(directory / "run", *[SignalAt(signal.SIGTERM, iteration=4, batch=1)] * rank)


def go_on(rank: int, directory: Path) -> object:
    return train(directory / "run")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    first, _ = in_two(tmp_path_factory.mktemp("undisturbed"), go_on)
    return first


@pytest.mark.parametrize(("stop", "left"), [(stop_in_training, 3), (stop_in_evaluation, 4)])
def test_one_process_is_told_and_both_stop(
    tmp_path: Path, undisturbed: torch.Tensor, monkeypatch: pytest.MonkeyPatch, stop: Any, left: int
) -> None:
    monkeypatch.setattr(Cadence, "_next", lambda cadence: 1)
    assert in_two(tmp_path, stop) == ["KeyboardInterrupt: "] * 2
    (name,) = checkpoints(tmp_path / "run")
    assert name in (f"iteration_{left - 1}.pth", f"iteration_{left}.pth")
    first, second = in_two(tmp_path, go_on)
    assert torch.equal(first, undisturbed)
    assert first.shape == second.shape


@pytest.fixture(autouse=True)
def not_under_nohup() -> Iterator[None]:
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_stop_in_an_evaluation_leaves_what_was_trained(tmp_path: Path, number: int) -> None:
    expected = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", SignalAt(number, iteration=4, batch=1))
    assert checkpoints(tmp_path / "run") == ["iteration_4.pth"]
    assert torch.equal(train(tmp_path / "run"), expected)


@pytest.mark.parametrize("then", [signal.SIGHUP, signal.SIGTERM])
def test_what_a_closed_terminal_sends_besides_ends_nothing_unsaved(tmp_path: Path, then: int) -> None:
    """It sends SIGHUP, the shell does, and systemd SIGTERM."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, *(SignalAt(number, iteration=2) for number in (signal.SIGHUP, then)))
    assert checkpoints(tmp_path) == ["iteration_2.pth"]


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    train(tmp_path, SignalAt(signal.SIGHUP, iteration=2))
    assert checkpoints(tmp_path) == ["iteration_8.pth"]


def test_nothing_is_printed_to_a_terminal_that_has_gone(tmp_path: Path) -> None:
    """The next line of progress was an error, ahead of the saving."""
    read, write = os.pipe()
    own = os.dup(2)
    os.dup2(write, 2)
    os.close(read)
    os.close(write)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, SignalAt(signal.SIGHUP, iteration=2))
        os.write(2, b"a line of progress")
    finally:
        os.dup2(own, 2)
        os.close(own)
    assert checkpoints(tmp_path) == ["iteration_2.pth"]


def test_training_asks_without_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question goes over gloo, from the processor's memory."""
    asked = []
    monkeypatch.setattr(interruption, "largest", lambda numbers: asked.append(numbers) or [0.0, 1.0])
    monkeypatch.setattr(interruption, "process_count", lambda: 2)
    train(tmp_path)
    assert len(asked) == 8 + 2 * 6
    assert {len(numbers) for numbers in asked} == {2}


def train_on_broken_images(rank: int, directory: Path) -> object:
    """Of 24 images the same are unreadable whatever the process; over ten are too many."""
    model = Normalised()
    groups = [{"params": list(model.network.parameters())}]
    settings = recipe(schedule={"epochs": 1, "warmup_epochs": 0}, runtime={"log_every": 99})
    data = Points(dict.fromkeys(range(14), "broken"))
    return dict(run_job(Job(model, data, groups, settings, directory / "run", 0, "test")).corrupt)


def test_what_processes_cannot_read_counts_together(tmp_path: Path) -> None:
    """Seven in each were too many for none, and training went on to its end."""
    first, second = in_two(tmp_path, train_on_broken_images)
    assert first.startswith("DataError: 14 of 24 training images are unreadable, the first is ")
    assert second == "FirstFailedError: "
    assert not (tmp_path / "run/checkpoints").exists()


class Clock:
    """A clock that goes on by hand."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def steps_between_questions(monkeypatch: pytest.MonkeyPatch, seconds_a_step: list[float]) -> list[int]:
    """The steps after which is asked."""
    clock = Clock()
    monkeypatch.setattr(interruption, "time", clock)
    cadence, asked = Cadence(), []
    for step, seconds in enumerate(seconds_a_step, 1):
        clock.now += seconds
        if cadence.is_due():
            asked.append(step)
            assert not cadence.ask(False)
    return asked


def test_questions_are_three_seconds_apart_by_the_time_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps_between_questions(monkeypatch, [0.5] * 30) == [1, 3, 7, 13, 19, 25]
    assert steps_between_questions(monkeypatch, [5.0] * 4) == [1, 2, 3, 4]
    assert steps_between_questions(monkeypatch, [0.0] * 40) == [1, 3, 7, 15, 25, 35]


def test_steps_that_become_slow_at_once_do_not_wait_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next question was 207 seconds after the last, at 300 steps, a hundred times as long as those before."""
    asked = steps_between_questions(monkeypatch, [0.01] * 3000 + [1.0] * 400)
    ends = list(accumulate([0.01] * 3000 + [1.0] * 400, initial=0.0))
    assert max(ends[later] - ends[sooner] for sooner, later in pairwise(asked)) <= 10


def test_a_slow_first_step_and_slower_steps_later_are_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps_between_questions(monkeypatch, [60.0, *[1.0] * 8]) == [1, 2, 4, 7]
    assert steps_between_questions(monkeypatch, [1.0] * 7 + [4.0] * 6) == [1, 3, 6, 9, 10, 11, 12, 13]


def test_after_a_pause_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cadence = Cadence()
    assert cadence.is_due()
    cadence.steps = cadence.left = 100
    cadence.begin()
    assert cadence.is_due() and cadence.ask(True)


def resume_apart(rank: int, directory: Path) -> object:
    return train(directory / f"run{rank}")


@pytest.mark.parametrize("left", ["nothing", "a damaged file", "another run's"])
def test_all_processes_go_on_from_the_first_ones_checkpoint_or_end(tmp_path: Path, left: str) -> None:
    """Node-local directories, of which the second has not what the first has: no step is taken."""
    train(tmp_path / "run0")
    train(tmp_path / "run1")
    theirs = tmp_path / "run1/checkpoints/iteration_8.pth"
    if left == "nothing":
        shutil.rmtree(tmp_path / "run1")
    elif left == "a damaged file":
        theirs.write_bytes(theirs.read_bytes()[:-200])
    first, second = in_two(tmp_path, resume_apart)
    assert second == "FirstFailedError: "
    assert first.startswith(f"DataError: {theirs} on node1: ")
    assert {"nothing": "No such file", "a damaged file": "cannot be read", "another run's": "another checkpoint"}[
        left
    ] in first


def test_a_checkpoint_that_only_the_first_lacks_is_nobodys(tmp_path: Path) -> None:
    """The second would have gone on from the end."""
    train(tmp_path / "run1")
    before = (tmp_path / "run1/checkpoints/iteration_8.pth").stat().st_mtime_ns
    first, second = in_two(tmp_path, resume_apart)
    assert first.shape == second.shape
    assert (tmp_path / "run0/checkpoints/iteration_8.pth").is_file()
    assert (tmp_path / "run1/checkpoints/iteration_8.pth").stat().st_mtime_ns == before
