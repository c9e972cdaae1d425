"""Evaluations that are made one after the other: what they took, what is compiled, and what ends them."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.training import evaluating, measuring
from backbones.training.evaluating import EvaluationJob, EvaluationSeries
from backbones.training.measuring import begin_run, run_seconds
from backbones.training.outcome import Outcome
from backbones.training.plan import Evaluation
from tests.support.points_runs import Points, recipe
from tests.support.two_machines import in_two

SECONDS = 4
"""What each evaluation takes."""


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Step(BaseModel):
    """A batch takes a second."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.network, self.clock = nn.Linear(6, 1), clock

    def forward(self, points: Tensor, mode: str, **about: object) -> list[object]:
        self.clock.now += 1
        return [None]


class Nothing(BaseMetric):
    default_prefix = ""
    found = 1.0

    def process(self, data_batch: Any, data_samples: Sequence[object]) -> None:
        self.results.append(1.0)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"error": self.found}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(measuring, "time", clock := Clock())
    return clock


class Call:
    """A command that evaluates parts in folders of their own, after half a minute of other things."""

    def __init__(self, directory: Path, clock: Clock, **runtime: object) -> None:
        self.directory, self.step, self.runtime = directory, Step(clock), runtime
        self.series = EvaluationSeries(4)
        begin_run()
        clock.now += 30

    def evaluate(self, part: int, kept: tuple[str, ...] = ("found",)) -> Outcome:
        job = EvaluationJob(
            model=self.step,
            evaluation=Evaluation(Points(), Nothing(), batch_size=6, kept=kept),
            recipe=recipe(runtime=self.runtime),
            directory=self.directory / str(part),
            seed=0,
            title="test",
        )
        return self.series.run(job)


def test_what_earlier_calls_took_counts_once(tmp_path: Path, clock: Clock) -> None:
    """Only the last call's seconds were told."""
    for last in (2, 3):
        call = Call(tmp_path, clock)
        for part in range(last):
            call.evaluate(part)
        clock.now += 5000  # killed in the next, which was done again and does not count
    call = Call(tmp_path, clock)
    outcomes = [call.evaluate(part) for part in range(4)]
    assert [outcome.evaluation_seconds for outcome in outcomes] == [SECONDS] * 4
    first, second = 30 + 2 * SECONDS, 30 + SECONDS
    assert outcomes[-1].earlier_seconds == first + second
    assert run_seconds() == 30 + SECONDS


def test_an_evaluation_left_alone_has_nothing_before_it(tmp_path: Path, clock: Clock) -> None:
    call = Call(tmp_path, clock)
    assert [call.evaluate(part).earlier_seconds for part in range(2)] == [0, 0]


def test_the_network_is_compiled_once_and_only_where_it_is_needed(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time forgets what was compiled: ImageNet-C's 75 parts took as many minutes."""
    compiled: list[nn.Module] = []
    monkeypatch.setattr(evaluating, "compile_network", compiled.append)
    Call(tmp_path, clock).evaluate(0)
    call = Call(tmp_path, clock, compile=True)
    call.evaluate(0)
    assert compiled == []
    for part in (1, 2):
        call.evaluate(part)
    assert compiled == [call.step.network]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_between_two_ends_them_at_once(tmp_path: Path, clock: Clock, number: signal.Signals) -> None:
    """But for Ctrl-C the process died of it."""
    former, call = signal.getsignal(number), Call(tmp_path, clock)
    with pytest.raises(KeyboardInterrupt), call.series.listening():
        call.evaluate(0)
        os.kill(os.getpid(), number)
        raise AssertionError("went on")
    assert signal.getsignal(number) == former


def test_a_closed_terminal_between_two_ends_them_before_the_next(tmp_path: Path, clock: Clock) -> None:
    call = Call(tmp_path, clock)
    with call.series.listening():
        call.evaluate(0)
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            call.evaluate(0)  # which has been made, so that no batch is left to end at


class Weighing(BaseModel):
    """Tells what it weighs."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.network = nn.Linear(6, 1)
        nn.init.constant_(self.network.weight, weight)

    def forward(self, points: Tensor, mode: str, **about: object) -> list[float]:
        return [self.network.weight.mean().item()]


class Weights(Nothing):
    """The lightest and the heaviest network that took part."""

    def process(self, data_batch: Any, data_samples: Sequence[float]) -> None:
        self.results += data_samples

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"least": min(results), "most": max(results)}


def weigh_in_one(rank: int, directory: Path) -> object:
    model, series = Weighing(1.0 + rank), EvaluationSeries(2)
    found = []
    for part in range(2):
        job = EvaluationJob(
            model=model,
            evaluation=Evaluation(Points(), Weights(), batch_size=6),
            recipe=recipe(),
            directory=directory / str(part),
            seed=0,
            title="test",
        )
        found.append(series.run(job).metrics)
    return found


def test_all_processes_evaluate_the_first_ones_weights(tmp_path: Path) -> None:
    """As in training: another machine's file of the same name may be another, or a model draws weights without a seed.

    Each evaluated its own, and half of the features in the cache were another network's.
    """
    assert in_two(tmp_path, weigh_in_one) == [[{"least": 1.0, "most": 1.0}] * 2] * 2
