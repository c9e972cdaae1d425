"""Whether training has become slower, or takes more memory.   N nights"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from statistics import median

import numpy as np
from numpy.typing import NDArray

from results.regression.findings import CellName
from results.regression.joining import Pair
from results.regression.runs import MACHINE, Run


@dataclass(frozen=True)
class Cost:
    """A column that a machine decides, and how much of it nobody minds."""

    kind: str
    column: str
    label: str
    floor: float
    higher_is_better: bool


COSTS = (
    Cost("speed", "train_images_per_second", "images/s", 0.05, True),
    Cost("memory", "peak_memory_mb", "MiB", 0.02, False),
)

LEVEL_OF_COSTS = 0.005
"""How often a night of equal cells may alarm by its speed, and by its memory."""

UNLIKE = 0.01
"""Below which p-value of the variances' quotient (F) a cell's nights are held to lie further apart than all others'."""

FEWEST_NIGHTS = 3
"""Of a baseline, before its nights tell how far they lie apart."""

NIGHTS_OF_RANKS = 5
"""Of both sides, from which on ranks are compared (Mann and Whitney 1947), which need no spread."""

_EFFICIENCY = 0.46
"""The estimate of `spread_of` varies as a standard deviation of so many times the degrees of freedom does: simulated,
for three nights of many cells; of 14 nights it is 0.73."""

_TO_SIGMA = 1.0483
"""Of a normal distribution, its standard deviation in medians of the absolute difference of two of its numbers."""


@dataclass(frozen=True)
class CostOfCell:
    """A cost on both sides: medians of each night (N,), on one machine."""

    cell: CellName
    cost: Cost
    nights: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def change(self) -> float:
        """By what share of the baseline's it is worse; below 0 where it is better."""
        share = median(self.nights) / median(self.baseline) - 1
        return -share if self.cost.higher_is_better else share

    @cached_property
    def differences(self) -> NDArray[np.float64]:
        """Of the logarithms of each pair of nights of the baseline (N · (N - 1) / 2,), absolute."""
        first, second = _pairs_of(len(self.baseline))
        logs = np.log(self.baseline)
        return np.abs(logs[first] - logs[second])

    @cached_property
    def own_spread(self) -> tuple[float, float]:
        """That of this cell alone, as `spread_of` has it."""
        return spread_of([self])


@cache
def _pairs_of(nights: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(nights, 1)


def costs_of(pairs: Iterable[Pair], cost: Cost) -> tuple[list[CostOfCell], list[tuple[CellName, list[str]]]]:
    """What a cost was in the runs of each cell, and the cells whose runs share no machine, with where these differ.

    Of several machines of tonight it is of the one that most nights of the baseline were run on: further seeds, before
    a verdict, may be run on another than the night's own.
    """
    found, elsewhere = [], []
    for pair in pairs:
        mine, theirs = (_of_machines(runs, cost) for runs in (pair.current, pair.baseline))
        if not mine or not theirs:
            continue
        shared = [machine for machine in mine if machine in theirs]
        if not shared:
            elsewhere.append((pair.cell, _unlike([*theirs][-1], [*mine][-1])))
            continue
        last = max(max(mine[machine]) for machine in shared)
        tonights = [machine for machine in reversed(shared) if last in mine[machine]]
        machine = max(tonights, key=lambda one: len(theirs[one]))
        now, before = (tuple(map(median, side[machine].values())) for side in (mine, theirs))
        found.append(CostOfCell(pair.cell, cost, now, before))
    return found, elsewhere


def spread_of(costs: Iterable[CostOfCell]) -> tuple[float, float]:
    """How far a night's median lies from that of other nights, as a standard deviation, as a share, and of how many
    degrees of freedom that is.

    The median of the absolute differences of all pairs of nights of a cell, of all cells together: some nights of a
    shared machine are much slower than all others, and a quarter of them changes little (Shamos 1976; Rousseeuw & Croux
    1993, "Alternatives to the median absolute deviation"). Two nights of three differ as much as two of fourteen,
    whereas the deviations from a median of three are too small, by a third over many cells.
    """
    differences, degrees = [], 0.0
    for one in costs:
        if (nights := len(one.baseline)) >= FEWEST_NIGHTS:
            differences.append(one.differences)
            degrees += _EFFICIENCY * (nights - 1)
    if not differences:
        return math.nan, 0.0
    return float(_TO_SIGMA * np.median(np.concatenate(differences))), degrees


def spread_of_cell(one: CostOfCell, spread: float, degrees: float) -> tuple[float, float]:
    """The spread of all cells, or the cell's own where its nights lie further apart than these by more than chance."""
    from scipy.special import fdtrc  # type: ignore[import-untyped]

    own, of_own = one.own_spread
    if own > spread and (spread == 0 or fdtrc(of_own, degrees, (own / spread) ** 2) < UNLIKE):
        return own, of_own
    return spread, degrees


def p_costlier(one: CostOfCell, spread: float, degrees: float, cells: int) -> float:
    """The one-sided p-value of nights at least as costly, of one of so many cells that are as they were.

    By ranks where there are nights enough that these could tell among so many cells, else by Student's t. Where most
    nights of the baseline are equal, and some cost as much as tonight's, by how many these are: of a peak of memory
    with two levels, the spread of medians knows one.
    """
    from scipy.special import stdtr
    from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]

    fewest, most = sorted((len(one.nights), len(one.baseline)))
    if fewest >= NIGHTS_OF_RANKS and cells / math.comb(fewest + most, fewest) <= LEVEL_OF_COSTS:
        side = "less" if one.cost.higher_is_better else "greater"
        return float(mannwhitneyu(one.nights, one.baseline, alternative=side).pvalue)
    error = spread * math.sqrt(sum(_variance_of_median(len(nights)) for nights in (one.nights, one.baseline)))
    least = _share_as_costly(one) if one.own_spread[0] == 0 else 0.0
    if error == 0:
        return 1.0 if one.change <= 0 else least
    ratio = math.log(median(one.nights) / median(one.baseline))
    return max(least, float(stdtr(degrees, (ratio if one.cost.higher_is_better else -ratio) / error)))


def _share_as_costly(one: CostOfCell) -> float:
    """Of the baseline's nights and tonight, those that cost as much as tonight or more; 0 where tonight alone does."""
    now = median(one.nights)
    count = sum(night <= now if one.cost.higher_is_better else night >= now for night in one.baseline)
    return (count + 1) / (len(one.baseline) + 1) if count else 0.0


def _variance_of_median(nights: int) -> float:
    """Of so many numbers of variance 1: that of the mean for one or two, else about π / 2 times as much."""
    return 1 / nights if nights < 3 else math.pi / 2 / nights


def _of_machines(runs: Iterable[Run], cost: Cost) -> dict[tuple[str, ...], dict[str, list[float]]]:
    """By machine, the one of the last night last, the numbers of each night."""
    values: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for run in runs:
        if value := run.row[cost.column]:
            of_machine = values.pop(run.machine, {})
            of_machine.setdefault(run.night, []).append(float(value))
            values[run.machine] = of_machine
    return values


def _unlike(before: tuple[str, ...], now: tuple[str, ...]) -> list[str]:
    pairs = zip(MACHINE, before, now, strict=True)
    return [f"{name} {old or 'unknown'} → {new or 'unknown'}" for name, old, new in pairs if old != new]
