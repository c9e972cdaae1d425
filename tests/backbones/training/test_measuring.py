"""Time, speed and memory of a run: of it alone, and of all its parts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.training import measuring, progress
from backbones.training.job import Evaluation, Job, Outcome, run_job
from backbones.training.measuring import begin_run, peak_memory_mb, run_seconds
from tests.support.points_runs import POINTS, Points, recipe
from tests.support.two_machines import in_two

MUCH = 200
"""MiB that a run holds for a moment."""

IMAGES = 2 * POINTS
"""Trained on in two epochs."""


class Clock:
    """Time as the tests have it go by."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Step(BaseModel):
    """A training step takes ten seconds, the evaluation of a batch one; a call may be the last that succeeds."""

    def __init__(self, clock: Clock, stop_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.network = nn.Linear(6, 1)
        self.clock, self.stop_at, self.calls = clock, stop_at, 0

    def forward(self, points: Tensor, mode: str, **about: object) -> Any:
        self.clock.now += 10 if mode == "loss" else 1
        self.calls += mode == "loss"
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        errors = (self.network(points)[:, 0] - points.sum(1)).square()
        return {"loss": errors.mean(), "loss_again": errors.mean()} if mode == "loss" else [{"errors": errors}]


class Nothing(BaseMetric):
    default_prefix = ""
    found = 1.0

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        self.results.append(1.0)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"error": self.found}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("measuring", "progress"):
        monkeypatch.setattr(f"backbones.training.{module}.time", clock)
    return clock


def train(directory: Path, step: Step, kept: tuple[str, ...] = (), **runtime: object) -> Outcome:
    evaluation = Evaluation(Points(), Nothing(), batch_size=6, every_epochs=1, kept=kept)
    groups = [{"params": list(step.network.parameters())}]
    settings = recipe(runtime=runtime)
    return run_job(Job(step, Points(), groups, settings, directory, seed=0, title="test", evaluation=evaluation))


def hold_for_a_moment(mib: int) -> None:
    assert torch.ones(mib * 2**18).sum() > 0


def test_seconds_and_speed_are_those_of_the_run(tmp_path: Path, clock: Clock) -> None:
    """Eight steps of ten seconds, two evaluations of four batches, and thirty seconds before them."""
    begin_run()
    clock.now += 30
    outcome = train(tmp_path, Step(clock))
    assert (outcome.seconds, outcome.evaluation_seconds, outcome.earlier_seconds) == (80, 8, 0)
    assert outcome.images_per_second == IMAGES / 80
    assert run_seconds() == 30 + 80 + 8


def test_a_resumed_run_counts_all_its_parts(tmp_path: Path, clock: Clock) -> None:
    """The first is killed in its seventh step, three after the checkpoint and the evaluation of the fourth.

    Only its last part's speed was told.
    """
    begin_run()
    clock.now += 30
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Step(clock, stop_at=7), checkpoint_every=4)
    clock.now += 5000
    begin_run()
    clock.now += 30
    outcome = train(tmp_path, Step(clock))
    assert (outcome.seconds, outcome.evaluation_seconds) == (80, 8)  # the first evaluation was made again
    assert outcome.images_per_second == IMAGES / 80
    assert outcome.earlier_seconds == 30 + 40
    assert run_seconds() == 30 + 4 + 40 + 4


def test_an_evaluation_that_is_not_made_again_counts(tmp_path: Path, clock: Clock) -> None:
    """Killed in the step after it: the total was without it."""
    begin_run()
    clock.now += 30
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Step(clock, stop_at=5), kept=("found",), checkpoint_every=4)
    begin_run()
    clock.now += 30
    outcome = train(tmp_path, Step(clock), kept=("found",))
    assert (outcome.seconds, outcome.evaluation_seconds) == (80, 8)
    assert outcome.earlier_seconds == 30 + 40 + 4
    assert run_seconds() == 30 + 40 + 4


@pytest.mark.parametrize("wrong", [{"costs": {"evaluation_seconds": 4.0}}, {"seconds": 4.0}])
def test_an_evaluation_whose_costs_are_not_known_is_made_again(
    tmp_path: Path, clock: Clock, wrong: dict[str, Any]
) -> None:
    train(tmp_path, Step(clock), kept=("found",))
    path = tmp_path / "checkpoints/evaluation.pt"
    content = torch.load(path, weights_only=True)
    del content["costs"]
    torch.save(content | wrong, path)
    began = clock.now
    train(tmp_path, Step(clock), kept=("found",))
    assert clock.now == began + 4


def test_a_checkpoint_of_an_earlier_version_tells_what_it_knows(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Step(clock, stop_at=7), checkpoint_every=4)
    path = tmp_path / "checkpoints/iteration_4.pth"
    content = torch.load(path, weights_only=True)
    before = {"seconds", "loss_sum", "loss_count", "corrupt", "step_images"}
    content["tally"] = {name: value for name, value in content["tally"].items() if name in before}
    torch.save(content, path)
    outcome = train(tmp_path, Step(clock))
    assert (outcome.seconds, outcome.earlier_seconds) == (80, 40)


def test_a_resumed_runs_log_is_that_of_a_run_left_alone(tmp_path: Path, clock: Clock) -> None:
    """A checkpoint between two lines of the log: the next told of the steps since the checkpoint alone."""
    train(tmp_path / "whole", Step(clock))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "resumed", Step(clock, stop_at=3), checkpoint_every=2)
    train(tmp_path / "resumed", Step(clock))
    whole, resumed = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "resumed")
    )
    assert resumed == whole
    assert {entry["images_per_second"] for entry in whole} == {0.6}
    assert [entry["update"] for entry in whole] == [3, 4, 6, 8]


def test_a_checkpoint_between_two_lines_of_the_log_leaves_the_speed_alone(tmp_path: Path, clock: Clock) -> None:
    """Only the time since the checkpoint counted, and all images."""
    train(tmp_path, Step(clock), checkpoint_every=1)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(lines) == 4 and all('"images_per_second": 0.6,' in line for line in lines)


@pytest.mark.parametrize("resettable", [True, False])
def test_peak_memory_is_the_runs_own(resettable: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was the most since the process began: every run's was at least the one's before."""
    if not resettable:
        (tmp_path / "clear_refs").mkdir()
        (tmp_path / "status").symlink_to("/proc/self/status")
        monkeypatch.setattr(measuring, "PROC", tmp_path)
    begin_run()
    before = peak_memory_mb()
    hold_for_a_moment(MUCH)
    if resettable:
        assert peak_memory_mb() > before + 0.9 * MUCH
    begin_run()
    assert peak_memory_mb() < before + 0.5 * MUCH


def test_a_runs_peak_outlasts_its_interruption(tmp_path: Path) -> None:
    begin_run()
    hold_for_a_moment(MUCH)
    peak = peak_memory_mb()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Step(Clock(), stop_at=7), checkpoint_every=4)
    begin_run()
    assert train(tmp_path, Step(Clock())).peak_memory_mb >= peak


class Wide(Step):
    """Holds much for a moment while it is evaluated."""

    def forward(self, points: Tensor, mode: str, **about: object) -> Any:
        if mode == "predict":
            hold_for_a_moment(MUCH)
        return super().forward(points, mode, **about)


def test_so_does_that_of_an_evaluation_that_is_not_made_again(tmp_path: Path) -> None:
    begin_run()
    before = peak_memory_mb()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Wide(Clock(), stop_at=5), kept=("found",), checkpoint_every=4)
    begin_run()
    assert train(tmp_path, Step(Clock()), kept=("found",)).peak_memory_mb > before + 0.9 * MUCH


def hold_much_in_the_second(rank: int, directory: Path) -> object:
    begin_run()
    hold_for_a_moment(MUCH * rank + 1)
    train(directory, Step(Clock()))
    return peak_memory_mb()


def test_a_checkpoint_knows_the_peak_of_all_processes(tmp_path: Path) -> None:
    """It was the first one's, and who went on from there knew nothing of the others'."""
    first, second = in_two(tmp_path, hold_much_in_the_second)
    assert second > first + 0.5 * MUCH
    tally = torch.load(tmp_path / "checkpoints/iteration_4.pth", weights_only=True)["tally"]
    assert tally["peak_memory_mb"] > first + 0.5 * MUCH


def test_a_gpus_memory_is_counted_from_the_beginning_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(measuring, "device_type", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**20)
    begin_run()
    assert (calls, peak_memory_mb()) == (["reset"], 3)


def test_what_only_evaluates_leaves_alone_what_the_run_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was trained on eight GPUs and evaluated again on one stood as one GPU's."""
    for name, value in {"device_name": "a GPU", "process_count": 8, "cuda_version": "13.0"}.items():
        monkeypatch.setattr(progress, name, lambda value=value: value)
    trained = train(tmp_path, Step(Clock()))
    monkeypatch.undo()
    assert train(tmp_path, Step(Clock())).processes == trained.processes == 8
    monkeypatch.setattr(progress, "device_name", lambda: "another GPU")
    again = train(tmp_path, Step(Clock()))
    assert (again.device, again.cuda, again.processes) == ("a GPU", "13.0", 8)
