"""How sides take turns: on a CPU step by step, on a GPU in turns that are long enough to be measured."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from benchmarks.speed.comparing import turns
from benchmarks.speed.comparing.turns import Step, is_steady, take_turns


@dataclass
class Machine:
    """A GPU and a clock: work takes its time when the program waits for it, and weights their room.

    said: all that happened, in order
    """

    now: float = 0.0
    queued: float = 0.0
    allocated: int = 0
    peak: int = 0
    said: list[str] = field(default_factory=list)

    def perf_counter(self) -> float:
        return self.now

    def is_initialized(self) -> bool:
        return True

    def synchronize(self) -> None:
        self.now, self.queued = self.now + self.queued, 0.0
        self.said.append("caught up")

    def empty_cache(self) -> None:
        self.said.append("freed")

    def reset_peak_memory_stats(self) -> None:
        self.peak = self.allocated

    def memory_allocated(self) -> int:
        return self.allocated

    def max_memory_allocated(self) -> int:
        return self.peak


class Model:
    """What a side builds; holds its weights until it is collected."""

    def __init__(self, machine: Machine, name: str, seconds: float, weights: int, activations: int) -> None:
        self.machine, self.name, self.seconds, self.weights = machine, name, seconds, weights
        self.activations = activations
        machine.allocated += weights
        machine.said.append(f"{name} built")

    def __del__(self) -> None:
        self.machine.allocated -= self.weights

    def step(self) -> None:
        self.machine.queued += self.seconds
        self.machine.peak = max(self.machine.peak, self.machine.allocated + self.activations)
        self.machine.said.append(self.name)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine()
    for name in ("is_initialized", "synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(turns.torch.cuda, name, getattr(machine, name))
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(turns.torch.cuda, name, getattr(machine, name))
    monkeypatch.setattr(turns.time, "perf_counter", machine.perf_counter)
    yield machine


def build(machine: Machine, name: str, seconds: float, weights: int = 0, activations: int = 0) -> Step:
    return Model(machine, name, seconds, weights, activations).step


def build_uneven(machine: Machine, turns: list[float]) -> Step:
    """A step of 0.16 s, two of which fill a turn, but for those of its first turns, of which one does not count.

    Before the turns come five: two for the memory and three to warm up.
    """
    seconds = iter([0.16] * 5 + [second for turn in turns for second in (turn, turn)])

    def step() -> None:
        machine.queued += next(seconds, 0.16)

    return step


def test_turns_on_a_gpu_take_as_many_steps_as_can_be_measured(machine: Machine) -> None:
    sides = {"fast": partial(build, machine, "fast", 0.07), "slow": partial(build, machine, "slow", 2.0)}
    found = take_turns(sides, 3, "cuda")
    assert found["fast"].seconds == pytest.approx([0.07] * 3) and found["slow"].seconds == pytest.approx([2.0] * 3)
    turn = ["caught up", *["fast"] * 5, "caught up", "caught up", "slow", "caught up"]
    host = ["caught up", "fast", "caught up"] * 3 + ["caught up", "slow", "caught up"]
    assert machine.said[-len(host) :] == host
    said = machine.said[: -len(host)]
    assert said[-4 * len(turn) :] == turn * 4
    warming = [each for each in said[: -4 * len(turn)] if each in sides]
    assert warming == ["fast"] * 2 + ["slow"] * 2 + ["fast"] * 3 + ["slow"]


def test_the_first_round_beside_each_other_does_not_count(machine: Machine) -> None:
    """Who has been built first may find its memory taken, and has to ask the device for more."""
    uneven = build_uneven(machine, [0.3])
    found = take_turns({"uneven": lambda: uneven, "even": partial(build, machine, "even", 0.1)}, 2, "cuda")
    assert found["uneven"].seconds == pytest.approx([0.16] * 2)


def test_sides_take_more_turns_while_one_is_not_steady(machine: Machine) -> None:
    uneven = build_uneven(machine, [0.16, 0.16, 0.18])
    found = take_turns({"uneven": lambda: uneven, "even": partial(build, machine, "even", 0.1)}, 2, "cuda")
    assert found["uneven"].seconds == pytest.approx([0.16, 0.18, 0.16, 0.16, 0.16, 0.16])
    assert len(found["even"].seconds) == 6
    assert not is_steady([1.0, 1.06, 1.0]) and is_steady([1.0, 1.04, 1.0])


def test_no_more_turns_are_taken_than_were_asked_for_once_a_minute_is_over(machine: Machine) -> None:
    """Of fifty heads one after the other a turn took eight seconds, and fifteen were taken of each side."""
    seconds = itertools.cycle([20.0, 30.0])

    def step() -> None:
        machine.queued += next(seconds)

    assert len(take_turns({"long": lambda: step}, 2, "cuda")["long"].seconds) == 3
    assert len(take_turns({"long": lambda: step}, 4, "cuda")["long"].seconds) == 4


def test_one_turn_of_each_is_enough_where_no_more_were_asked_for(machine: Machine) -> None:
    uneven = build_uneven(machine, [0.16, 0.3])
    assert take_turns({"uneven": lambda: uneven}, 1, "cuda")["uneven"].seconds == pytest.approx([0.3])


def test_a_step_that_waits_for_the_host_is_told_from_one_that_does_not(machine: Machine) -> None:
    """Of two steps of 0.5 s one is told to the GPU in 0.1 s, and the other has it wait in between."""

    def step(program: float, left_to_the_gpu: float) -> None:
        machine.now += program
        machine.queued += left_to_the_gpu

    sides = {"ahead": lambda: partial(step, 0.1, 0.4), "behind": lambda: partial(step, 0.49, 0.01)}
    found = take_turns(sides, 1, "cuda")
    assert found["ahead"].host_share == pytest.approx(0.2) and found["behind"].host_share == pytest.approx(0.98)


def test_memory_on_a_gpu_is_that_of_a_side_alone(machine: Machine) -> None:
    gib = 2**30
    machine.allocated = gib  # of something else
    sides = {
        "large": partial(build, machine, "large", 1.0, 4 * gib, 2 * gib),
        "small": partial(build, machine, "small", 1.0, gib, gib // 2),
    }
    found = take_turns(sides, 1, "cuda")
    assert [side.memory_gib for side in found.values()] == [6.0, 1.5]
    assert machine.said.count("large built") == machine.said.count("small built") == 2
    assert machine.said[0] == "freed" and machine.said.count("freed") == 3


def test_a_turn_on_a_cpu_is_a_step() -> None:
    said: list[str] = []
    sides = {name: partial(lambda name: lambda: said.append(name), name) for name in ("ours", "theirs")}
    found = take_turns(sides, 2, "cpu")
    assert said == ["ours", "theirs"] * 3
    assert [len(side.seconds) for side in found.values()] == [2, 2]
    assert [(side.memory_gib, side.host_share) for side in found.values()] == [(None, None)] * 2
