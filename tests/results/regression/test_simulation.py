"""How often a night alarms for nothing, and for something: 40 cells, simulated; `pytest -s` prints the whole curve."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from results.regression.costs import COSTS, LEVEL_OF_COSTS, CostOfCell, p_costlier, spread_of, spread_of_cell
from results.regression.findings import CellName, Severity, Verdict
from results.regression.judging import judge
from tests.support.result_rows import make_rows

CELLS = 40
BEFORE = [f"2026-01-{day:02d}" for day in range(1, 15)]
SIGMAS = (0.08, 3.0)
"""Of accuracies as steady as ImageNet's, and as unsteady as those of a small data set."""


@dataclass
class World:
    """Cells that differ from seed to seed by `sigma`, in speed from night to night by 2 %; the first may be worse.

    unsteady: the first cells differ by so many times `sigma`
    """

    sigma: float
    random: np.random.Generator
    seed: int = 0
    unsteady: tuple[float, ...] = ()

    def nights(
        self, nights: list[str], runs: int = 1, worse: float = 0.0, slower: float = 0.0, cells: int = CELLS
    ) -> pd.DataFrame:
        """So many runs of each cell in each night, each with another seed."""
        seeds = self.seed + np.arange(len(nights) * runs)
        self.seed += len(seeds)
        night, seed = (np.repeat(each, cells) for each in (np.repeat(nights, runs), seeds))
        cell = np.tile(np.arange(cells), len(seeds))
        sigma = self.sigma * np.array([*self.unsteady, *[1.0] * CELLS])[cell]
        value = 20 + 1.5 * cell + sigma * self.random.normal(size=len(cell)) - np.where(cell == 0, worse, 0.0)
        speed = 500 * np.exp(self.random.normal(0, 0.02, len(nights)))[np.repeat(np.arange(len(nights)), runs * cells)]
        speed = speed * np.exp(self.random.normal(0, 0.01, len(cell))) / np.where(cell == 0, 1 + slower, 1.0)
        told = {
            "task": "classification",
            "dataset": "simulated",
            "split": "val",
            "metric": "top1",
            "value": value,
            "backbone": [f"b{number}" for number in cell],
            "recipe": "r",
            "protocol": "p",
            "seed": seed,
            "key": [f"{one}-{other}" for one, other in zip(seed, cell, strict=True)],
            "train_images_per_second": speed,
            "peak_memory_mb": 1000 * np.exp(self.random.normal(0, 0.003, len(cell))),
            "device": "GPU",
            "finished_at": night,
            "night": night,
        }
        return make_rows(len(cell), **told)


def alarms(verdict: Verdict, *, of_first: bool = False) -> bool:
    found = verdict.of(Severity.regression)
    return any(finding.cell.backbone == "b0" for finding in found) if of_first else bool(found)


def is_found(world: World, worse: float, how: str) -> bool:
    """Whether one night finds that the first cell is worse: by a run a night, by three, or by one and two more."""
    baseline = world.nights(BEFORE)
    tonight = world.nights(["2026-02-01"], 3 if how == "three runs" else 1, worse)
    verdict = judge(baseline, tonight)
    if how != "confirmed":
        return alarms(verdict, of_first=True)
    if not any(cell.suspicious and cell.cell.backbone == "b0" for cell in verdict.cells):
        return False
    more = world.nights(["2026-02-01"], 2, worse, cells=1)
    return alarms(judge(baseline, pd.concat([tonight, more], ignore_index=True)), of_first=True)


def share(answers: Iterator[bool]) -> float:
    return float(np.mean(list(answers)))


def worlds(sigma: float, count: int, unsteady: tuple[float, ...] = ()) -> Iterator[World]:
    for number in range(count):
        yield World(sigma, np.random.default_rng([number, int(100 * sigma)]), unsteady=unsteady)


def false_alarms(sigma: float, count: int, unsteady: tuple[float, ...] = (), nights: int = len(BEFORE)) -> float:
    return share(
        alarms(judge(each.nights(BEFORE[:nights]), each.nights(["2026-02-01"])))
        for each in worlds(sigma, count, unsteady)
    )


def power(sigma: float, sigmas: float, how: str, count: int) -> float:
    return share(is_found(each, sigmas * sigma, how) for each in worlds(sigma, count))


def finds_slow(nights: int, count: int) -> float:
    tonight = [f"2026-02-{day:02d}" for day in range(1, nights + 1)]
    return share(
        alarms(judge(each.nights(BEFORE), each.nights(tonight, slower=0.1)), of_first=True)
        for each in worlds(0.08, count)
    )


@pytest.mark.parametrize("sigma", SIGMAS)
def test_equal_nights_rarely_alarm(sigma: float) -> None:
    assert false_alarms(sigma, 50) <= 0.05


def test_a_cell_that_is_noisier_rarely_alarms() -> None:
    """By the pooled sigma alone it does in one night of four."""
    assert false_alarms(0.1, 40, (10.0,)) <= 0.05


@pytest.mark.parametrize(("sigmas", "how"), [(5, "a run a night"), (3, "three runs"), (3, "confirmed")])
def test_what_is_worse_is_found(sigmas: float, how: str) -> None:
    assert power(0.08, sigmas, how, 40) >= 0.9


def costs_of_nights(
    random: np.random.Generator, nights: int, common: float, own: float, unsteady: float = 1.0
) -> tuple[list[CostOfCell], float, float]:
    """Speeds of all cells, by so many nights of the baseline and one, and their spread with its degrees of freedom.

    common: how far nights lie apart in all cells alike, beside what each cell has of its `own`; shares both
    """
    logs = random.normal(0, common, nights + 1) + random.normal(0, own, (CELLS, nights + 1))
    logs[0] *= unsteady
    speeds = 500 * np.exp(logs)
    cell = CellName("", "", "", "", "", "", "", "", "")
    costs = [CostOfCell(cell, COSTS[0], (one[0],), tuple(one[1:])) for one in speeds]
    return costs, *spread_of(costs)


def false_alarms_of_speed(nights: int, common: float, own: float, count: int, unsteady: float = 1.0) -> float:
    random = np.random.default_rng(nights)
    found = 0
    for _ in range(count):
        costs, spread, degrees = costs_of_nights(random, nights, common, own, unsteady)
        found += any(
            one.change >= one.cost.floor
            and CELLS * p_costlier(one, *spread_of_cell(one, spread, degrees), CELLS) < LEVEL_OF_COSTS
            for one in costs
        )
    return found / count


@pytest.mark.parametrize("nights", [3, 5, 14])
def test_the_spread_of_nights_is_that_of_nights(nights: int) -> None:
    random = np.random.default_rng(0)
    spreads = [costs_of_nights(random, nights, 0.0, 0.03)[1] for _ in range(100)]
    assert np.mean(spreads) == pytest.approx(0.03, rel=0.03)


@pytest.mark.parametrize(("nights", "most"), [(3, 0.035), (14, 0.025)])
@pytest.mark.parametrize(("common", "own"), [(0.0, 0.03), (0.05, 0.01)])
def test_equal_nights_are_rarely_slower(common: float, own: float, nights: int, most: float) -> None:
    """0.01 is promised, of three nights that all cells share 0.02; the rest is what 400 nights may tell more."""
    assert false_alarms_of_speed(nights, common, own, 400) <= most


def test_a_cell_of_unsteady_speed_is_rarely_slower() -> None:
    """By the spread of all cells it is in one night of three."""
    assert false_alarms_of_speed(14, 0.0, 0.01, 300, unsteady=10.0) <= 0.025


def test_what_is_slower_is_found_within_two_nights() -> None:
    assert finds_slow(2, 20) >= 0.8


@pytest.mark.slow
def test_the_whole_curve() -> None:
    """As required: at most one equal night in 20 alarms; 5 σ by one run, 3 σ by three, or by two more, in 9 of 10."""
    wrong = {sigma: false_alarms(sigma, 1000) for sigma in SIGMAS}
    print(f"\nequal nights that alarm: {', '.join(f'{100 * found:.1f} % at {s}' for s, found in wrong.items())}")
    assert max(wrong.values()) <= 0.05
    for unsteady in ((10.0,), (3.0,) * 5):
        alarming = false_alarms(0.1, 500, unsteady)
        print(f"with {len(unsteady)} of {CELLS} cells of {unsteady[0]:g} times the σ: {100 * alarming:.1f} %")
        assert alarming <= 0.05
    for how, enough in (("a run a night", 5), ("three runs", 3), ("confirmed", 3)):
        curve = {sigma: [power(sigma, size, how, 200) for size in (1, 2, 3, 4, 5)] for sigma in SIGMAS}
        for sigma, found in curve.items():
            shown = ", ".join(f"{size} σ {100 * each:.0f} %" for size, each in enumerate(found, start=1))
            print(f"{how}, σ {sigma}: {shown}")
            assert found[enough - 1] >= 0.9
    for common, own in ((0.0, 0.03), (0.02, 0.01), (0.05, 0.01)):
        found_wrong = {nights: false_alarms_of_speed(nights, common, own, 4000) for nights in (3, 5, 7, 14)}
        shown = ", ".join(f"{nights} nights {100 * each:.1f} %" for nights, each in found_wrong.items())
        print(f"equal nights found slower, {100 * common:g} % by night and {100 * own:g} % by cell: {shown}")
        assert max(found_wrong.values()) <= 0.025 and found_wrong[14] <= 0.015
    slow = {nights: finds_slow(nights, 200) for nights in (1, 2)}
    print(f"10 % slower: {100 * slow[1]:.0f} % in one night, {100 * slow[2]:.0f} % within two")
    assert slow[2] >= 0.8
