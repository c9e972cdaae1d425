"""Two stores compared: every cell of the one with the same cell of the other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from backbones.errors import InputError
from benchmarks.planning.records import load_records
from benchmarks.running.collecting import warn
from benchmarks.running.comparison import Comparison, Row, Side, compare_cells, compare_sides, side_of
from results import Record, ResultsError, find_metric
from results.measurements import Measurement, protocol
from results.store import RECORD
from tasks.registry import TASKS

Place: TypeAlias = tuple[str, str, str]
"""Task, data set and backbone: what two cells have in common that are the same in two stores."""

_OF_THE_DATA = ("data fingerprint", "evaluated images")


@dataclass(frozen=True)
class Comparisons:
    """What came out of comparing all that two directories hold, and what of it could not be compared."""

    pairs: list[Comparison]
    left_out: list[str]
    of_stores: bool


@dataclass(frozen=True)
class Allowance:
    """How much worse A's mean of a metric may be than B's."""

    metric: str
    points: float

    def excess(self, row: Row) -> float:
        """How many points A is worse than that; 0 where it is not."""
        worse = -row.difference.mean if find_metric(self.metric).higher_is_better else row.difference.mean
        return worse if row.metric == self.metric and worse > self.points + 1e-9 else 0.0


def read_allowances(texts: Iterable[str]) -> list[Allowance]:
    """From `top1=0.5`. Raises InputError for another form, ResultsError for an unknown metric."""
    allowances = []
    for text in texts:
        name, _, number = text.partition("=")
        try:
            points = float(number)
        except ValueError:
            points = -1.0
        if not 0 <= points < float("inf"):
            raise InputError(f'--fail-if-worse {text}: expected METRIC=POINTS, for example "top1=0.5"')
        allowances.append(Allowance(find_metric(name).name, points))
    return allowances


def worse_than_allowed(comparisons: Comparisons, allowances: Sequence[Allowance]) -> list[str]:
    """A sentence for each metric of A that is worse than allowed. Raises ResultsError for a metric that has no row."""
    compared = {row.metric for pair in comparisons.pairs for row in pair.rows}
    if missing := [one.metric for one in allowances if one.metric not in compared]:
        raise ResultsError(f"--fail-if-worse {missing[0]}: not compared here. There are: {', '.join(sorted(compared))}")
    return [
        f"{one.metric} of {place_of(pair)}: A is {excess:.2f} worse than B, allowed are {one.points:g}"
        for pair in comparisons.pairs
        for row in pair.rows
        for one in allowances
        if (excess := one.excess(row))
    ]


def place_of(pair: Comparison) -> str:
    """What was compared, in a few words."""
    a, b = pair.a.records[0], pair.b.records[0]
    return f"{a.backbone if a.backbone == b.backbone else f'{a.backbone} against {b.backbone}'} on {a.dataset}"


def compare_paths(a: Path, b: Path) -> Comparisons:
    """Compare two runs, or the seeds of two cells; or all cells of two stores that are in both.

    Raises ResultsError or InputError as `compare_cells` does, of stores only if nothing of them can be compared.
    """
    if (a / RECORD).is_file() or (b / RECORD).is_file():
        return Comparisons([compare_cells(a, b)], [], of_stores=False)
    ours, theirs = _cells(a), _cells(b)
    if all(sum(map(len, cells.values())) <= 1 for cells in (ours, theirs)):
        return Comparisons([compare_cells(a, b)], [], of_stores=False)
    left_out = [
        f"{_named(place)}: {other} has no such run"
        for mine, yours, other in ((ours, theirs, "B"), (theirs, ours, "A"))
        for place in mine
        if place not in yours
    ]
    pairs = []
    for place in [place for place in ours if place in theirs]:
        for found in _paired(place, ours[place], theirs[place]):
            try:
                pairs.append(_compare(a, b, place, found))
            except (ResultsError, InputError) as error:
                left_out.append(f"{_named(place)}: {error}")
    if not pairs:
        why = "; ".join(left_out[:3]) or "no finished runs"
        raise ResultsError(
            f"{a} and {b}: nothing to compare. Stores are paired by task, data set and backbone: {why}. "
            "Or name one run of each, or folders whose runs differ in the seed alone"
        )
    return Comparisons(pairs, left_out, of_stores=True)


def _compare(a: Path, b: Path, place: Place, found: tuple[Side, Side] | None) -> Comparison:
    if place[0] not in TASKS:
        raise ResultsError("has no results image by image")
    if found is None:
        raise ResultsError("run with several settings, and which belong together is not clear. Name the runs")
    ours, theirs = found
    if not ours.runs.keys() & theirs.runs.keys():
        raise ResultsError("no seed is in both")
    comparison = compare_sides(a, ours, b, theirs)
    weights = [(side.records[0].checkpoint_sha256 or "none")[:12] for side in (ours, theirs)]
    if weights[0] == weights[1]:
        return comparison
    return replace(comparison, remarks=[*comparison.remarks, f"weights: {weights[0]} against {weights[1]}"])


def _paired(place: Place, ours: list[Side], theirs: list[Side]) -> list[tuple[Side, Side] | None]:
    """Cells of one place with one another: by their settings where there are several. None for what stays alone."""
    pairs: list[tuple[Side, Side] | None] = []
    if len(ours) > 1 or len(theirs) > 1:
        by_settings = {_settings(side.records[0]): side for side in theirs}
        pairs = [(side, by_settings[of]) for side in ours if (of := _settings(side.records[0])) in by_settings]
        ours = [side for side in ours if all(side is not pair[0] for pair in pairs if pair)]
        theirs = [side for side in theirs if all(side is not pair[1] for pair in pairs if pair)]
    if len(ours) == len(theirs) == 1:
        pairs.append((ours[0], theirs[0]))
    elif ours or theirs:
        pairs.append(None)
    return pairs


def _cells(path: Path) -> dict[Place, list[Side]]:
    """The cells below a directory, each with its seeds, by their place."""
    runs = sorted(load_records([path], on_unreadable=warn), key=lambda run: _identity(run[1]))
    cells: dict[Place, list[Side]] = {}
    for _, group in groupby(runs, key=lambda run: _identity(run[1])):
        side = side_of(list(group))
        record = side.records[0]
        cells.setdefault((record.task, record.dataset, record.backbone), []).append(side)
    return cells


def _identity(record: Record) -> tuple[str, ...]:
    return record.task, record.dataset, record.backbone, record.checkpoint_sha256 or "", repr(_all_settings(record))


def _settings(record: Record) -> str:
    """How the cell was run, whatever its weights and its data."""
    return repr({name: value for name, value in _all_settings(record).items() if name not in _OF_THE_DATA})


def _all_settings(record: Record) -> dict[str, str]:
    return protocol(Measurement(record, record.metrics[0]))


def _named(place: Place) -> str:
    task, dataset, backbone = place
    return f"{task} of {backbone} on {dataset}"
