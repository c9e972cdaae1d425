"""What a cell's numbers were over many nights: since when they are otherwise, and whether they drift.   N nights"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING

from results.metrics import find_metric
from results.regression.accuracy import LEVEL, floor_of
from results.regression.changes import FEWEST_NIGHTS, LEAST_NIGHTS, Step, Trend, explain, night_sigma
from results.regression.costs import COSTS, LEVEL_OF_COSTS, Cost
from results.regression.findings import CellName
from results.regression.noise import Kind, Noise, kind_of, pool_noise
from results.regression.runs import Run, to_runs
from results.regression.wording import spell_amount

if TYPE_CHECKING:
    import pandas as pd

NIGHTS_OF_BAND = 14
"""The most nights that the band is of where the call names none: the first ones, of a shorter history the first half,
and none from a change on."""

BAND = 2.0
"""Standard deviations to each side: 19 of 20 nights of an equal cell lie in the band."""

_REPEATING = 0.75
"""The least share of nights with the number of the night before from which on another number is no noise."""

_COSTS: Mapping[str, Cost] = {cost.kind: cost for cost in COSTS}


@dataclass(frozen=True)
class Change:
    """A new level that lasts, from one night on.

    before, after: the means of the nights up to the change before and the next one, of speed and memory the medians
    size:          after - before in the metric's units, of speed and memory in percent of before
    p_value:       two-sided, corrected for all cells and all nights that it might have begun in
    """

    night: str
    before: float
    after: float
    size: float
    p_value: float
    is_worse: bool


@dataclass(frozen=True)
class Drift:
    """A slow change over many nights, to the last: `before` and `after` are the ends of a line, all else as of
    `Change`."""

    since: str
    until: str
    before: float
    after: float
    size: float
    p_value: float
    is_worse: bool


@dataclass(frozen=True)
class Series:
    """The nights of a cell under one protocol, and one quantity in them, (N,) both.

    quantity: "accuracy", "speed" or "memory"
    values:   the mean over the seeds of a night: of those that all nights have, where there are such; of speed and
              memory the median of its runs, on the machine of the last night
    seeds:    how many a night has, their median
    repeats:  whether it is the same seeds every night; true of speed and memory, which no seed decides
    sigma:    of equal nights, in the metric's units, of speed and memory as a share; None where that is not known; 0
              where the nights repeat each other to the last digit, so that any change at all is a change point
    band:     where the nights of the baseline let expect the others
    """

    cell: CellName
    protocol: str
    quantity: str
    nights: tuple[str, ...]
    values: tuple[float, ...]
    seeds: float
    repeats: bool
    sigma: float | None = None
    band: tuple[float, float] | None = None
    changes: tuple[Change, ...] = ()
    drift: Drift | None = None

    @property
    def label(self) -> str:
        """What is measured, as tables call it."""
        cost = _COSTS.get(self.quantity)
        return cost.label if cost else find_metric(self.cell.metric).label

    @property
    def higher_is_better(self) -> bool:
        cost = _COSTS.get(self.quantity)
        return cost.higher_is_better if cost else find_metric(self.cell.metric).higher_is_better

    @property
    def has_findings(self) -> bool:
        return bool(self.changes or self.drift)

    def shown(self, value: float) -> str:
        """A value as people read it, without its unit."""
        if self.quantity in _COSTS:
            return spell_amount(value)
        return find_metric(self.cell.metric).shown(value).removesuffix(" %")

    def shown_size(self, size: float) -> str:
        """The size of a change or a drift, with its sign: in percent of speed and memory."""
        if self.quantity in _COSTS:
            return f"{size:+.1f} %"
        return f"{'-' if size < 0 else '+'}{find_metric(self.cell.metric).shown_size(abs(size))}"


@dataclass(frozen=True)
class History:
    """All series, by cell: accuracy, then speed and memory."""

    series: tuple[Series, ...]

    @property
    def nights(self) -> tuple[str, ...]:
        return tuple(sorted({night for one in self.series for night in one.nights}))

    @property
    def names(self) -> dict[tuple[CellName, str], str]:
        """What each cell and protocol is called: of those that would be called the same with what differs."""
        alike: dict[str, list[tuple[CellName, str]]] = {}
        for one in dict.fromkeys((one.cell, one.protocol) for one in self.series):
            alike.setdefault(str(one[0]), []).append(one)
        return {one: _name(one, group) for group in alike.values() for one in group}

    def to_frame(self) -> "pd.DataFrame":
        """A row for each series; of several changes the last."""
        import pandas as pd

        rows = [dict(_row(one)) for one in self.series]
        return pd.DataFrame(rows, columns=[*CellName._fields, *_OF_SERIES])


_OF_SERIES = (
    *("protocol", "quantity", "nights", "first_night", "last_night", "first", "latest", "sigma", "band_low"),
    *("band_high", "changes", "change_night", "change_size", "change_p_value", "drift_since", "drift_size"),
    "drift_p_value",
)


def to_history(
    frame: "pd.DataFrame", *, baseline: Collection[str] = (), sigmas: Mapping[str, float] | None = None
) -> History:
    """The history of all cells in the rows of results.csv of many nights, with their change points and drifts.

    baseline: the nights that the band is of; by default the first ones
    sigmas:   standard deviations between seeds, by metric, in the place of what the nights themselves tell

    How far equal nights lie apart is told by the differences from each night to the next: the larger of the cell's own
    sigma and that of all cells of one kind, of which those that repeat their seeds stand apart, for they have less
    noise than seeds have between them. That of seeds (`pool_noise`) stands in where the nights tell nothing.
    Where nothing has changed, in less than `LEVEL` of histories anything is found in the accuracy of any cell, in speed
    and memory each in less than `LEVEL_OF_COSTS`; `results.regression.changes` has the tests.
    """
    runs = to_runs(frame)
    of_cells: dict[tuple[CellName, str], list[Run]] = {}
    for run in runs:
        of_cells.setdefault((run.cell, run.protocol), []).append(run)
    noise = pool_noise(runs, sigmas)
    accuracy = [_of_accuracy(of_cell) for of_cell in of_cells.values()]
    found = _explained(_with_sigma(accuracy, noise), LEVEL)
    for cost in COSTS:
        costs = [one for of_cell in of_cells.values() if (one := _of_cost(of_cell, cost))]
        found += _explained(_with_sigma(costs, {}), LEVEL_OF_COSTS)
    order = {cell: place for place, cell in enumerate(of_cells)}
    found.sort(key=lambda one: order[one.cell, one.protocol])
    return History(tuple(replace(one, band=_band(one, baseline)) for one in found))


def _of_accuracy(runs: Sequence[Run]) -> Series:
    nights: dict[str, dict[int, float]] = {}
    for run in runs:
        nights.setdefault(run.night, {})[run.seed] = run.value
    shared = set.intersection(*(set(of_night) for of_night in nights.values()))
    chosen = {
        night: [value for seed, value in of_night.items() if not shared or seed in shared]
        for night, of_night in sorted(nights.items())
    }
    means, seeds = tuple(map(fmean, chosen.values())), median(map(len, chosen.values()))
    return Series(runs[0].cell, runs[0].protocol, "accuracy", tuple(chosen), means, seeds, bool(shared))


def _of_cost(runs: Sequence[Run], cost: Cost) -> Series | None:
    measured = [run for run in runs if run.row[cost.column]]
    if not measured:
        return None
    last = max(measured, key=lambda run: run.night)
    nights: dict[str, list[float]] = {}
    for run in sorted(measured, key=lambda run: run.night):
        if run.machine == last.machine:
            nights.setdefault(run.night, []).append(float(run.row[cost.column]))
    medians, seeds = tuple(map(median, nights.values())), median(map(len, nights.values()))
    return Series(last.cell, last.protocol, cost.kind, tuple(nights), medians, seeds, True)


def _scaled(one: Series) -> list[float]:
    """The values in which noise is the same at every level: of speed and memory the logarithms."""
    return [math.log(value) for value in one.values] if one.quantity in _COSTS else [*one.values]


def _is_exact(one: Series) -> bool:
    """Whether nights repeat each other to the last digit, but for a few that do not."""
    pairs = [before == after for before, after in zip(one.values, one.values[1:], strict=False)]
    return one.repeats and bool(pairs) and sum(pairs) >= _REPEATING * len(pairs)


def _with_sigma(series: Iterable[Series], noise: Mapping[Kind, Noise]) -> list[tuple[Series, float]]:
    """Each with its sigma, and the degrees of freedom of that, pooled over the cells of one kind.

    Noise is held to fall with the number of seeds n a night, by sqrt(n); so is that of `noise`, between seeds.
    """
    series = list(series)
    kinds: dict[tuple[Kind, bool], tuple[float, float]] = {}
    for one in series:
        if len(one.nights) >= FEWEST_NIGHTS and not _is_exact(one):
            sigma, degrees = night_sigma(_scaled(one))
            total, before = kinds.get((kind_of(one.cell), one.repeats), (0.0, 0.0))
            kinds[kind_of(one.cell), one.repeats] = total + one.seeds * sigma**2 * degrees, before + degrees
    found = []
    for one in series:
        of_seeds = noise.get(kind_of(one.cell))
        total, degrees = kinds.get((kind_of(one.cell), one.repeats), (0.0, 0.0))
        own = night_sigma(_scaled(one))[0] if len(one.nights) >= FEWEST_NIGHTS else 0.0
        if of_seeds and math.isinf(of_seeds.degrees):
            found.append((replace(one, sigma=of_seeds.sigma / math.sqrt(one.seeds)), math.inf))
        elif _is_exact(one):
            found.append((replace(one, sigma=0.0), math.inf))
        elif total:
            found.append((replace(one, sigma=max(own, math.sqrt(total / degrees / one.seeds))), degrees))
        elif of_seeds and of_seeds.sigma:
            found.append((replace(one, sigma=of_seeds.sigma / math.sqrt(one.seeds)), of_seeds.degrees))
        else:
            found.append((one, 0.0))
    return found


def _explained(series: Sequence[tuple[Series, float]], level: float) -> list[Series]:
    """Each with its changes and its drift, so that all together alarm as often as `level` says."""
    cells = sum(len(one.nights) >= FEWEST_NIGHTS for one, _ in series)
    found = []
    for one, degrees in series:
        cost = _COSTS.get(one.quantity)
        floor = _floor_of_logs(cost) if cost else floor_of(one.cell.metric, one.values[0])
        steps, trend = explain(
            _scaled(one),
            one.sigma,
            degrees,
            cells=max(cells, 1),
            level=level,
            floor=0.0 if one.sigma == 0 and not cost else floor,
            is_cost=cost is not None,
        )
        changes = tuple(Change(one.nights[step.place], *_told(one, step)) for step in steps)
        drift = Drift(one.nights[trend.place], one.nights[-1], *_told(one, trend)) if trend else None
        found.append(replace(one, changes=changes, drift=drift))
    return found


def _floor_of_logs(cost: Cost) -> float:
    """The least difference of a cost's logarithms, of what is worse: of speed as a share of what there was before."""
    return -math.log1p(-cost.floor) if cost.higher_is_better else math.log1p(cost.floor)


def _told(one: Series, found: Step | Trend) -> tuple[float, float, float, float, bool]:
    before, after = found.before, found.after
    if is_cost := one.quantity in _COSTS:
        before, after = math.exp(before), math.exp(after)
    size = 100 * (after / before - 1) if is_cost else after - before
    return before, after, size, found.p_value, (size < 0) == one.higher_is_better


def _band(one: Series, baseline: Collection[str]) -> tuple[float, float] | None:
    if one.sigma is None:
        return None
    first = max(min(NIGHTS_OF_BAND, len(one.nights) // 2), LEAST_NIGHTS)
    until = one.nights.index(one.changes[0].night) if one.changes else len(one.nights)
    chosen = set(baseline) or set(one.nights[: min(first, until)])
    values = [value for night, value in zip(one.nights, _scaled(one), strict=True) if night in chosen]
    if not values:
        return None
    low, high = fmean(values) - BAND * one.sigma, fmean(values) + BAND * one.sigma
    return (math.exp(low), math.exp(high)) if one.quantity in _COSTS else (low, high)


def _name(one: tuple[CellName, str], alike: Sequence[tuple[CellName, str]]) -> str:
    cell, protocol = one
    differing = [value for place, value in enumerate(cell) if value and len({other[place] for other, _ in alike}) > 1]
    if len({other for _, other in alike}) > 1:
        differing.append(f"protocol {protocol[:8]}")
    return ", ".join([str(cell), *differing])


def _row(one: Series) -> Iterator[tuple[str, object]]:
    yield from one.cell._asdict().items()
    change, drift = one.changes[-1] if one.changes else None, one.drift
    low, high = one.band or (None, None)
    values = (
        *(one.protocol, one.quantity, len(one.nights), one.nights[0], one.nights[-1], one.values[0], one.values[-1]),
        *(one.sigma, low, high, len(one.changes)),
        *((change.night, change.size, change.p_value) if change else (None, None, None)),
        *((drift.since, drift.size, drift.p_value) if drift else (None, None, None)),
    )
    yield from zip(_OF_SERIES, values, strict=True)
