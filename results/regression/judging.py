"""The verdict on a night: accuracy, behaviour, speed and memory of every cell, and what cannot be told."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING

from results.metrics import find_metric
from results.regression.accuracy import LEVEL, floor_of, holm, is_suspicious, p_worse, worse_by
from results.regression.costs import (
    COSTS,
    FEWEST_NIGHTS,
    LEVEL_OF_COSTS,
    CostOfCell,
    costs_of,
    p_costlier,
    spread_of,
    spread_of_cell,
)
from results.regression.findings import CellName, Finding, Judged, Kind, Severity, Verdict, in_order
from results.regression.joining import Pair, join
from results.regression.noise import Noise, mean_of_seeds, noise_of_cells
from results.regression.runs import Run, to_runs
from results.regression.wording import counted, spell_amount, spell_p

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Failure:
    """A cell that has no number tonight, and why. severity: of one that only ran out of time, `Severity.unclear`."""

    task: str
    dataset: str
    backbone: str
    recipe: str
    reason: str
    severity: Severity = Severity.regression


@dataclass(frozen=True)
class _Accuracy:
    """A pair with the means of its seeds, how far these differ, and how sure it is that they are worse, or better."""

    pair: Pair
    value: float
    baseline: float
    draws: tuple[int, int]
    noise: Noise | None
    p_worse: float | None
    p_better: float | None

    @property
    def worse_by(self) -> float:
        return worse_by(self.pair.cell.metric, self.value, self.baseline)


def judge(
    baseline: "pd.DataFrame",
    current: "pd.DataFrame",
    *,
    failures: Iterable[Failure] = (),
    sigmas: Mapping[str, float] | None = None,
) -> Verdict:
    """Hold the rows of results.csv of tonight, or of the last nights, against those of a baseline.

    failures: cells that were to be run tonight and have no number
    sigmas:   standard deviations between seeds, by metric, in the place of what is measured or known

    Of a cell one metric counts, the first of `results.metrics.PRIMARY`. One-sided tests of the means over seeds, where
    sigma is that of the cells of one kind as far as they are alike, are corrected for the number of cells (Holm); only
    differences above a floor count. Numbers that a seed repeats to the last digit are equal without a test.
    """
    before, now = to_runs(baseline), to_runs(current)
    pairs, findings = join(before, now)
    findings = _with_failures(findings, failures)
    noise = noise_of_cells(before, sigmas)
    judged = [_accuracy(pair, noise.get((pair.cell, pair.protocol))) for pair in pairs]
    findings += _of_accuracy(judged)
    costs = [costs_of(pairs, cost) for cost in COSTS]
    for of_cost in costs:
        findings += _of_costs(*of_cost)
    cells = tuple(_judged(one) for one in judged)
    remarks = [*_remarks(before, now), *_too_few_nights(one for found, _ in costs for one in found)]
    return Verdict(in_order(findings), cells, tuple(remarks))


def _accuracy(pair: Pair, known: Noise | None) -> _Accuracy:
    now, before = (mean_of_seeds(runs).values() for runs in (pair.current, pair.baseline))
    counts = len(now), len(before)
    one = _Accuracy(pair, fmean(now), fmean(before), counts, known, None, None)
    if _are_identical(pair):
        return replace(one, p_worse=1.0, p_better=1.0)
    if known is None:
        return one
    return replace(
        one,
        p_worse=p_worse(one.worse_by, known, *counts),
        p_better=p_worse(-one.worse_by, known, *counts),
    )


def _are_identical(pair: Pair) -> bool:
    """Whether every seed of tonight has a number that the same seed of the baseline has, to the last digit."""
    known = {(run.seed, run.value) for run in pair.baseline}
    return all((run.seed, run.value) in known for run in pair.current)


def _of_accuracy(judged: Sequence[_Accuracy]) -> list[Finding]:
    tested = [one for one in judged if one.p_worse is not None and one.p_better is not None]
    worse = holm([one.p_worse for one in tested if one.p_worse is not None])
    better = holm([one.p_better for one in tested if one.p_better is not None])
    findings = [_without_noise(one) for one in judged if one.p_worse is None]
    for one, p_value, p_improved in zip(tested, worse, better, strict=True):
        size, floor = one.worse_by, floor_of(one.pair.cell.metric, one.baseline)
        known = one.noise
        if known is None or abs(size) < floor:
            continue
        if size > 0 and p_value < LEVEL:
            findings.append(_differs(one, known, p_value, Severity.regression))
        elif size < 0 and p_improved < LEVEL:
            findings.append(_differs(one, known, p_improved, Severity.improvement))
    return findings


def _differs(one: _Accuracy, noise: Noise, p_value: float, severity: Severity) -> Finding:
    metric = find_metric(one.pair.cell.metric)
    seeds, seeds_before = one.draws
    way = "better" if severity is Severity.improvement else "worse"
    return Finding(
        one.pair.cell,
        "accuracy",
        severity,
        f"{metric.label} {metric.shown(one.value)} over {counted(seeds, 'seed')}, in the baseline "
        f"{metric.shown(one.baseline)} over {counted(seeds_before, 'seed')}: {metric.shown_size(abs(one.worse_by))} "
        f"{way} (p {spell_p(p_value)}; seeds differ by {metric.shown_size(noise.sigma)}, {noise.source})",
        one.value,
        one.baseline,
        one.worse_by,
        p_value,
        pair=one.pair,
    )


def _without_noise(one: _Accuracy) -> Finding:
    metric, size = find_metric(one.pair.cell.metric), one.worse_by
    return Finding(
        one.pair.cell,
        "noise",
        Severity.unclear,
        f"{metric.label} {metric.shown(one.value)}, in the baseline {metric.shown(one.baseline)}: by how much seeds "
        "differ is not known. Run the baseline with three seeds or more, or state it: --sigma "
        f"{one.pair.cell.metric}=POINTS",
        one.value,
        one.baseline,
        size,
        pair=one.pair,
    )


def _of_costs(costs: Sequence[CostOfCell], elsewhere: Sequence[tuple[CellName, Sequence[str]]]) -> list[Finding]:
    findings = [
        Finding(cell, "machine", Severity.notice, f"speed and memory are not compared: {'; '.join(differing)}")
        for cell, differing in elsewhere
    ]
    spread, degrees = spread_of(costs)
    tested = [one for one in costs if len(one.baseline) >= FEWEST_NIGHTS] if degrees else []
    spreads = [spread_of_cell(one, spread, degrees) for one in tested]
    corrected = holm([p_costlier(one, *known, len(tested)) for one, known in zip(tested, spreads, strict=True)])
    for one, (of_cell, _), p_value in zip(tested, spreads, corrected, strict=True):
        if one.change >= one.cost.floor and p_value < LEVEL_OF_COSTS:
            findings.append(_costlier(one, of_cell, p_value))
    return findings


def _too_few_nights(costs: Iterable[CostOfCell]) -> list[str]:
    """What says of how many cells the speed and memory are not tested, for nights of tonight's machine are lacking."""
    cells = {one.cell for one in costs if len(one.baseline) < FEWEST_NIGHTS}
    if not cells:
        return []
    return [
        f"speed and memory of {counted(len(cells), 'cell')} not tested: this takes {FEWEST_NIGHTS} nights of the "
        "baseline on the same machine"
    ]


def _costlier(one: CostOfCell, spread: float, p_value: float) -> Finding:
    now, before = median(one.nights), median(one.baseline)
    what = "slower" if one.cost.higher_is_better else "more memory"
    return Finding(
        one.cell,
        "speed" if one.cost.higher_is_better else "memory",
        Severity.regression,
        f"{spell_amount(now)} {one.cost.label}, in {counted(len(one.baseline), 'night')} of the baseline "
        f"{spell_amount(before)}: {100 * one.change:.1f} % {what} (p {spell_p(p_value)}; nights differ by "
        f"{100 * spread:.1f} %)",
        now,
        before,
        100 * one.change,
        p_value,
    )


def _with_failures(findings: Sequence[Finding], failures: Iterable[Failure]) -> list[Finding]:
    """The findings, in which a cell that failed has not only vanished. A suite may know its data by another name."""
    left, told = list(findings), list(failures)
    for failure in told:
        alike = (failure.task, failure.backbone, failure.recipe)
        vanished = [finding for finding in left if finding.kind == "vanished"]
        of_cell = [one for one in vanished if (one.cell.task, one.cell.backbone, one.cell.recipe) == alike]
        of_cell.sort(key=lambda finding: finding.cell.dataset != failure.dataset)
        place = left.index(of_cell[0]) if of_cell else len(left)
        unnamed = CellName(failure.task, failure.dataset, "", "", "", "", "", failure.backbone, failure.recipe)
        cell = of_cell[0].cell if of_cell else unnamed
        kind: Kind = "failed" if failure.severity is Severity.regression else "unfinished"
        left[place : place + len(of_cell[:1])] = [Finding(cell, kind, failure.severity, failure.reason)]
    return left


def _remarks(before: Sequence[Run], now: Sequence[Run]) -> list[str]:
    """What holds for all cells: which nights, and what of code, libraries and machines is otherwise."""
    nights = sorted({run.night for run in before})
    span = f"{nights[0]} to {nights[-1]}" if len(nights) > 1 else "".join(nights)
    found = [f"baseline: {counted(len(nights), 'night')}, {span}" if nights else "baseline: no runs"]
    for column, what in _NAMED.items():
        old, new = ({str(run.row[column]) for run in runs if run.row[column]} for runs in (before, now))
        if old and new and not new <= old:
            found.append(f"{what} {', '.join(sorted(new))}, in the baseline {', '.join(sorted(old))}")
    return found


_NAMED = {
    "device": "device",
    "driver": "driver",
    "cuda": "CUDA",
    "torch": "PyTorch",
    "world_size": "processes",
    "code": "code",
}
"""Columns that are named where they are otherwise than in the baseline."""


def _judged(one: _Accuracy) -> Judged:
    floor = floor_of(one.pair.cell.metric, one.baseline)
    return Judged(
        one.pair.cell,
        one.value,
        one.baseline,
        len(one.pair.current),
        len(one.pair.baseline),
        one.worse_by,
        one.p_worse,
        one.p_worse is not None and is_suspicious(one.worse_by, floor, one.p_worse),
        _are_identical(one.pair),
    )
