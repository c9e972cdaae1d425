"""Two stores compared: every cell of the one with the same cell of the other."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from backbones.errors import InputError
from benchmarks.running.collecting import warn
from benchmarks.running.comparison import (
    Comparison,
    Row,
    Side,
    compare_sides,
    only_cell,
    read_runs,
    shortened,
    side_of,
)
from benchmarks.running.points import read_points
from results import Record, ResultsError, find_metric
from results.latest import latest_run
from results.measurements import SETTING, Measurement, differences, protocol, told_apart, weights_of
from results.store import RECORD
from tasks.registry import TASKS

Place: TypeAlias = tuple[str, str, str]
"""Task, data set and backbone: what two cells have in common that are the same in two stores."""

_OF_THE_DATA = ("data fingerprint", "evaluated images")

_MOST_NAMED = 3
"""How many settings are named to tell one cell from another."""


@dataclass(frozen=True)
class Comparisons:
    """What came out of comparing all that two directories hold.

    left_out:   what could not be compared, or stands on one side only
    unanswered: what of B was not compared with anything of A, though it is of a kind that can be: a gate on A has no
                answer there
    """

    pairs: list[Comparison]
    left_out: list[str]
    of_stores: bool
    unanswered: list[str] = field(default_factory=list)


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
    """From `top1=0.5`. Raises InputError as `read_points` does."""
    return [Allowance(*each) for each in read_points("--fail-if-worse", texts, "top1=0.5")]


def worse_than_allowed(comparisons: Comparisons, allowances: Sequence[Allowance]) -> list[str]:
    """A sentence for each metric of A that is worse than allowed.

    Raises ResultsError for a metric that has no row, unless it may be one of what could not be compared.
    """
    compared = {row.metric for pair in comparisons.pairs for row in pair.rows}
    missing = [one.metric for one in allowances if one.metric not in compared]
    if missing and not comparisons.unanswered:
        raise ResultsError(f"--fail-if-worse {missing[0]}: not compared here. There are: {', '.join(sorted(compared))}")
    return [
        f"{one.metric} of {place_of(pair)}: A is {told_apart([excess, one.points])[0]} worse than B, "
        f"allowed are {one.points:g}"
        for pair in comparisons.pairs
        for row in pair.rows
        for one in allowances
        if (excess := one.excess(row))
    ]


def place_of(pair: Comparison) -> str:
    """What was compared, in a few words."""
    a, b = pair.a.records[0], pair.b.records[0]
    backbones = a.backbone if a.backbone == b.backbone else f"{a.backbone} against {b.backbone}"
    return f"{backbones} on {a.dataset}{pair.which}"


def compare_paths(a: Path, b: Path) -> Comparisons:
    """Compare two runs, or the seeds of two cells; or all cells of two stores that are in both.

    Raises ResultsError or InputError as `compare_cells` does, of stores only if nothing of them can be compared.
    """
    unreadable: list[ResultsError] = []

    def report(error: ResultsError) -> None:
        warn(error)
        unreadable.append(error)

    ours, theirs = read_runs(a), read_runs(b, report)
    unanswered = [f"{len(unreadable)} of B's records, which cannot be read"] if unreadable else []
    are_runs = [(path / RECORD).is_file() for path in (a, b)]
    our_cells, their_cells = _cells(ours), _cells(theirs)
    if any(are_runs) or all(sum(map(len, cells.values())) <= 1 for cells in (our_cells, their_cells)):
        sides = only_cell(a, ours), only_cell(b, theirs)
        if not any(are_runs):
            unanswered += _lacking(_named(_place(sides[1].records[0])), *sides)
        return Comparisons([compare_sides(a, sides[0], b, sides[1])], [], False, unanswered)
    found = Comparisons([], [], True, unanswered)
    for place in dict.fromkeys([*our_cells, *their_cells]):
        _compare_place(a, b, place, our_cells.get(place, []), their_cells.get(place, []), found)
    if not found.pairs:
        why = "; ".join(found.left_out[:3]) or "no finished runs"
        raise ResultsError(
            f"{a} and {b}: nothing to compare. Stores are paired by task, data set and backbone: {why}. "
            "Or name one run of each, or folders whose runs differ in the seed alone"
        )
    return found


def _compare_place(a: Path, b: Path, place: Place, ours: list[Side], theirs: list[Side], into: Comparisons) -> None:
    """Compare the cells of one place with one another, and add what comes out."""
    if place[0] not in TASKS and ours and theirs:
        into.left_out.append(f"{_named(place)}: has no results image by image")
        return
    names = _names(ours, theirs)
    pairs, alone, missed = _paired(ours, theirs)
    for mine, yours in pairs:
        name = f"{_named(place)}{names(yours)}"
        try:
            into.pairs.append(replace(_compare(a, mine, b, yours), which=names(mine)))
        except (ResultsError, InputError) as error:
            into.left_out.append(f"{name}: {error}")
            into.unanswered.append(into.left_out[-1])
        else:
            into.unanswered.extend(_lacking(name, mine, yours))
    for sides, others, own, other in ((alone, missed, "A", "B"), (missed, alone, "B", "A")):
        for side in sides:
            unclear = f"{own} has it, and which of {other}'s runs it belongs to is not clear. Name the runs"
            why = unclear if others else f"{other} has no such run"
            into.left_out.append(f"{_named(place)}{names(side)}: {why}")
            if place[0] in TASKS and (own == "B" or others):
                into.unanswered.append(into.left_out[-1])


def _compare(a: Path, ours: Side, b: Path, theirs: Side) -> Comparison:
    if not ours.runs.keys() & theirs.runs.keys():
        raise ResultsError("no seed is in both")
    comparison = compare_sides(a, ours, b, theirs)
    weights = [_weights(side) for side in (ours, theirs)]
    if weights[0] == weights[1]:
        return comparison
    return replace(comparison, remarks=[*comparison.remarks, f"weights: {weights[0]} against {weights[1]}"])


def _lacking(name: str, ours: Side, theirs: Side) -> Iterator[str]:
    """The seeds of B that A has not. One run of each is compared whatever their seeds."""
    if len(ours.runs) == len(theirs.runs) == 1:
        return
    if seeds := sorted(theirs.runs.keys() - ours.runs.keys()):
        yield f"{name}: A has no seed {', '.join(map(str, seeds))}"


def _paired(ours: list[Side], theirs: list[Side]) -> tuple[list[tuple[Side, Side]], list[Side], list[Side]]:
    """Cells of one place with one another, and what is left of both.

    Those of the same weights and settings belong together; then, of what is left, the only ones of both with the same
    settings, or with the same weights; and a cell that is alone on either side, whatever its settings.
    """
    rules: list[Callable[[Side], Hashable]] = [
        lambda side: (weights_of(side.records[0]), repr(_all_settings(side.records[0]))),
        lambda side: (weights_of(side.records[0]), _settings(side.records[0])),
        lambda side: _settings(side.records[0]),
        lambda side: weights_of(side.records[0]),
    ]
    if len(ours) == len(theirs) == 1:
        rules = [lambda side: None]
    pairs: list[tuple[Side, Side]] = []
    for rule in rules:
        mine, yours = _by(rule, ours), _by(rule, theirs)
        found = [(mine[key], yours[key]) for key in mine if len(mine[key]) == len(yours.get(key, [])) == 1]
        pairs += [(one[0], other[0]) for one, other in found]
        ours = [side for side in ours if all(side is not pair[0] for pair in pairs)]
        theirs = [side for side in theirs if all(side is not pair[1] for pair in pairs)]
    return pairs, ours, theirs


def _by(rule: Callable[[Side], Hashable], sides: list[Side]) -> dict[Hashable, list[Side]]:
    found: dict[Hashable, list[Side]] = {}
    for side in sides:
        found.setdefault(rule(side), []).append(side)
    return found


def _names(*sides: list[Side]) -> Callable[[Side], str]:
    """What tells the cells that one side has of one place from each other: ", weights 0a1b2c3d4e5f, recipe long"."""
    protocols = [[_all_settings(cell.records[0]) for cell in cells] for cells in sides]
    names = [*dict.fromkeys(name for each in protocols for name in differences(each))][:_MOST_NAMED]
    several = any(len({_weights(cell) for cell in cells}) > 1 for cells in sides)

    def name(side: Side) -> str:
        settings = _all_settings(side.records[0])
        parts = [f"weights {_weights(side)}"] if several else []
        parts += [f"{each.removeprefix(SETTING)} {shortened(settings.get(each, 'not set'))}" for each in names]
        return "".join(f", {part}" for part in parts)

    return name


def _weights(side: Side) -> str:
    return weights_of(side.records[0], 12) or "none"


def _cells(runs: list[tuple[Path, Record]]) -> dict[Place, list[Side]]:
    """The cells among runs, each with its seeds, by their place; what is superseded stands with what supersedes it."""
    of_key: dict[str, list[tuple[Path, Record]]] = {}
    for run in runs:
        of_key.setdefault(run[1].key, []).append(run)
    standing = sorted((latest_run(repeats)[1] for repeats in of_key.values()), key=_identity)
    cells: dict[Place, list[Side]] = {}
    for _, group in groupby(standing, key=_identity):
        side = side_of([run for record in group for run in of_key[record.key]])
        cells.setdefault(_place(side.records[0]), []).append(side)
    return cells


def _place(record: Record) -> Place:
    return record.task, record.dataset, record.backbone


def _identity(record: Record) -> tuple[str, ...]:
    return *_place(record), weights_of(record), repr(_all_settings(record))


def _settings(record: Record) -> str:
    """How the cell was run, whatever its weights and its data."""
    return repr({name: value for name, value in _all_settings(record).items() if name not in _OF_THE_DATA})


def _all_settings(record: Record) -> dict[str, str]:
    return protocol(Measurement(record, record.metrics[0]))


def _named(place: Place) -> str:
    task, dataset, backbone = place
    return f"{task} of {backbone} on {dataset}"
