"""Sides of a comparison that take turns on one device, in one process, so that whatever slows the machine slows all.

A GPU still works when a call returns. Clocks are read when it has caught up, round turns of many steps, so that waiting
for it takes no part in the figures.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

Step = Callable[[], object]
Side = Callable[[], Step]
"""Builds a model, with all that its step needs, and returns that step."""

WARM_UP_STEPS = 3
LONG = 2.0
"""Seconds of a step that is warm after one, and of which one is enough to see who waits for whom."""

SECONDS_OF_A_TURN = 0.3
STEADY = 0.05
"""How far apart a side's turns may be, as a share of their median, before more are taken."""

MOST_REPEATS = 3
"""As often as was asked for, at most, while a side is not steady."""

PATIENCE = 60.0
"""Seconds of all turns after which no more are taken than were asked for."""


@dataclass(frozen=True)
class Turns:
    """What a side took.

    seconds:    of one step, for each turn
    memory_gib: the most that it held at once, None where nobody looked
    host_share: as `measure_host_share` has it, None on a CPU
    """

    seconds: list[float]
    memory_gib: float | None = None
    host_share: float | None = None


def take_turns(sides: Mapping[str, Side], repeats: int, device: str) -> dict[str, Turns]:
    """Let every side take `repeats` turns on "cuda" or "cpu", all of them equally many.

    On a GPU a turn is as many steps as fill 0.3 seconds, after three to warm up and a round of turns that does not
    count: in it each side gets memory for a step beside what the others keep. While a side's turns are further apart
    than 5 % of their median, all take more, up to three times as many or until a minute is over; a single turn is taken
    for steady. Each side's memory is what it allocates there while no other has been built. On a CPU a turn is one
    step, after one to warm up.
    """
    on_gpu = device == "cuda"
    memory = {name: peak_memory_gib(side) if on_gpu else None for name, side in sides.items()}
    if on_gpu:
        _free_memory()
    steps = {name: side() for name, side in sides.items()}
    counts = {name: _steps_of_a_turn(step) if on_gpu else _warm_up(step) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}

    def take_a_round() -> dict[str, float]:
        return {name: time_turn(step, counts[name]) for name, step in steps.items()}

    if on_gpu:
        take_a_round()
    began = time.perf_counter()
    for number in range(MOST_REPEATS * repeats if on_gpu else repeats):
        out_of_patience = time.perf_counter() - began >= PATIENCE
        if number >= repeats and (out_of_patience or all(is_steady(each) for each in seconds.values())):
            break
        for name, taken in take_a_round().items():
            seconds[name].append(taken)
    hosts = {name: measure_host_share(step) if on_gpu else None for name, step in steps.items()}
    return {name: Turns(seconds[name], memory[name], hosts[name]) for name in sides}


def is_steady(figures: Sequence[float]) -> bool:
    """Whether they lie within 5 % of their median of each other."""
    return max(figures) - min(figures) <= STEADY * median(figures)


def time_turn(step: Step, steps: int) -> float:
    """Seconds of one step, the mean of so many in a row."""
    _catch_up()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _catch_up()
    return (time.perf_counter() - start) / steps


def measure_host_share(step: Step) -> float:
    """The part of a single step's time after which its call returns, the median of three that begin on an idle GPU,
    or of one that is long.

    Near 1 the GPU has nothing left to do by then: it waits for the program, which is slow, or waits for it in turn.
    """
    shares = []
    for _ in range(3):
        _catch_up()
        start = time.perf_counter()
        step()
        returned = time.perf_counter()
        _catch_up()
        seconds = time.perf_counter() - start
        shares.append((returned - start) / seconds)
        if seconds >= LONG:
            break
    return median(shares)


def peak_memory_gib(side: Side) -> float:
    """The most that a side allocates on the GPU at once: weights, gradients, optimizer, activations, input.

    The second step is the first with all of them.
    """
    _free_memory()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step = side()
    for _ in range(2):
        step()
    _catch_up()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def _warm_up(step: Step) -> int:
    step()
    return 1


def _steps_of_a_turn(step: Step) -> int:
    """How many steps a turn takes, after warming up."""
    if time_turn(step, 1) >= LONG:
        return 1
    for _ in range(WARM_UP_STEPS - 2):
        step()
    return max(1, math.ceil(SECONDS_OF_A_TURN / time_turn(step, 1)))


def _catch_up() -> None:
    """Wait until the GPU, if one is at work, has done all that it was told."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _free_memory() -> None:
    """Give back what the GPU holds for models that are no more."""
    gc.collect()
    torch.cuda.empty_cache()
