"""Whether one backbone's finished runs are better than another's: paired tests on the same images, over seeds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NoReturn

from benchmarks.planning.records import load_records
from benchmarks.running.collecting import warn
from results import PairedDifference, Record, ResultsError, seed_difference
from results.errors import StoreError
from results.latest import latest_of_each_key, latest_of_each_seed
from results.measurements import (
    Measurement,
    differences,
    measurements,
    protocol,
    unlike_origins,
    unlike_repeats,
    weights_of,
)
from results.metrics import find_metric
from results.store import RECORD
from tasks.pairing import PairedRuns
from tasks.registry import TASKS

SIGNIFICANT = 0.05
LONGEST = 60
"""Characters that are shown of a setting's value."""


@dataclass(frozen=True)
class Row:
    """One metric of both sides: A's value, B's, and A's minus B's, each averaged over the `seeds`.

    difference: with its 95 % interval and two-sided p-value over the images, for these seeds
    over_seeds: the same over the seeds, for these images; None where there is one
    """

    metric: str
    a: float
    b: float
    difference: PairedDifference
    over_seeds: PairedDifference | None = None
    seeds: int = 1

    @property
    def better(self) -> bool | None:
        """Whether A is better than B; None unless all intervals and tests tell them apart."""
        tests = [self.difference, *([self.over_seeds] if self.over_seeds else [])]
        if any(test.p_value > SIGNIFICANT or test.low <= 0 <= test.high for test in tests):
            return None
        return (self.difference.mean > 0) == find_metric(self.metric).higher_is_better

    @property
    def verdict(self) -> str:
        """One sentence, which says how much it rests on."""
        direction = "" if find_metric(self.metric).higher_is_better else " (lower is better)"
        if self.better is None:
            seeds = f" and {self.seeds} seeds" if self.seeds > 1 else ""
            return f"{self.metric}: no difference that these images{seeds} could tell"
        seeds = f"{self.seeds} seeds" if self.seeds > 1 else "one seed"
        return f"{self.metric}: {'A' if self.better else 'B'} is better on these images, {seeds} each{direction}"


@dataclass(frozen=True)
class Side:
    """One of the two that are compared: its runs by seed, ascending, each with its directory.

    repeats: what to say of seeds that were run more than once with different numbers
    """

    runs: dict[int, tuple[Path, Record]]
    repeats: tuple[str, ...] = ()

    @property
    def directories(self) -> list[Path]:
        return [directory for directory, _ in self.runs.values()]

    @property
    def records(self) -> list[Record]:
        return [record for _, record in self.runs.values()]

    def only(self, seeds: list[int]) -> "Side":
        """The runs of these seeds."""
        return Side({seed: self.runs[seed] for seed in seeds}, self.repeats)


@dataclass(frozen=True)
class Comparison:
    """Both sides on the same images.

    protocol_differences: what else than the backbone sets them apart
    remarks:              seeds that were left out, and what else than the seed sets one side's runs apart
    which:                what tells them from other cells of the same task, data set and backbone, where there are some
    """

    a: Side
    b: Side
    images: int
    rows: list[Row]
    protocol_differences: list[str]
    remarks: list[str]
    which: str = ""


def compare_cells(a: Path, b: Path) -> Comparison:
    """Test finished runs against each other, from what their directories hold.

    Each path is a run's directory, or one below which finished runs differ in the seed alone. Where a side has several,
    runs of the same seed are paired, and a difference has to show over the images, averaged over the seeds, as well as
    over the seeds (Student's t). Two detectors on COCO take half a minute.
    Raises ResultsError or InputError unless all are finished runs of one task, on one data set and the same images, and
    where several seeds have none in common.
    """
    return compare_sides(a, only_cell(a, read_runs(a)), b, only_cell(b, read_runs(b)))


def compare_sides(a: Path, ours: Side, b: Path, theirs: Side) -> Comparison:
    """`compare_cells` of runs that are read already; `a` and `b` are what messages call them."""
    _require_same_data(a, ours.records[0], b, theirs.records[0])
    task = ours.records[0].task
    if task not in TASKS:
        raise ResultsError(
            f"{a}: a run of {task}, which has no results image by image. Expected runs of {' or '.join(TASKS)}"
        )
    left_out = _without_counterpart(ours, theirs)
    if len(ours.runs) > 1 or len(theirs.runs) > 1:
        shared = _shared_seeds(a, ours, b, theirs)
        ours, theirs = ours.only(shared), theirs.only(shared)
    tested: PairedRuns = TASKS[task].module("paired").compare(ours.directories, theirs.directories)
    rows = [_row(name, ours, theirs, difference) for name, difference in tested.differences.items()]
    unlike = _protocol_differences(ours.records[0], theirs.records[0], rows[0].metric)
    origins = [
        f"{name}'s seeds differ in {', '.join(found)}"
        for name, side in (("A", ours), ("B", theirs))
        if (found := unlike_origins(side.records))
    ]
    repeats = [f"{name}'s {told}" for name, side in (("A", ours), ("B", theirs)) for told in side.repeats]
    remarks = [*left_out, *origins, *repeats, *_one_key(ours, theirs)]
    return Comparison(ours, theirs, tested.images, rows, unlike, remarks)


def read_runs(path: Path, on_unreadable: Callable[[ResultsError], None] = warn) -> list[tuple[Path, Record]]:
    """The finished runs below a directory. One that can't be read is passed over, unless it is named itself."""
    return load_records([path], on_unreadable=None if (path / RECORD).is_file() else on_unreadable)


def only_cell(path: Path, runs: list[tuple[Path, Record]]) -> Side:
    """What was read below a directory, if it is one cell. Raises ResultsError for none, and for several."""
    if not runs:
        _refuse_nothing(path)
    standing = latest_of_each_key(record for _, record in runs)
    if unlike := _differences(standing):
        raise ResultsError(
            f"{path}: holds {len(standing)} finished runs that differ in {'; '.join(unlike)}. Name one of them, for "
            f"example {runs[0][0]}, or a folder whose runs differ in the seed alone"
        )
    return side_of(runs)


def side_of(runs: list[tuple[Path, Record]]) -> Side:
    """Runs that differ in the seed alone, or were run anew: of each seed the latest counts."""
    records = [record for _, record in runs]
    directories = {id(record): directory for directory, record in runs}
    latest = {record.seed: (directories[id(record)], record) for record in latest_of_each_seed(records)}
    names = dict.fromkeys(metric.name for record in records for metric in record.metrics)
    return Side(latest, tuple(unlike_repeats(records, list(names))))


def _one_key(a: Side, b: Side) -> list[str]:
    """What sets two runs of one key apart: as they should not differ, that is what is being compared."""
    pairs = [(a.runs[seed][1], b.runs[seed][1]) for seed in a.runs.keys() & b.runs.keys()]
    return [
        f"A and B are runs {ours.run} and {theirs.run} of one key, "
        f"{ours.key}; they differ in {', '.join(unlike_origins([ours, theirs])) or 'nothing that is recorded'}"
        for ours, theirs in pairs
        if ours.key == theirs.key and ours.run != theirs.run
    ]


def _refuse_nothing(path: Path) -> NoReturn:
    if unfinished := next(path.rglob("recipe.yaml"), None):
        raise StoreError(f"{unfinished.parent}: the run has not finished. Repeat its command, then compare")
    raise StoreError(
        f"{path}: not a run. Expected a directory with a record.json, such as OUT/detection/coco2017/NAME/seed0-KEY, "
        "or one of several seeds, such as OUT/detection/coco2017/NAME"
    )


def _differences(records: list[Record]) -> list[str]:
    """In what runs differ that are not the seeds of one cell."""
    named = {
        "task": [record.task for record in records],
        "backbone": [record.backbone for record in records],
        "checkpoint": [weights_of(record, 8) or "none" for record in records],
    }
    found = [f"{what} ({', '.join(sorted(set(values)))})" for what, values in named.items() if len(set(values)) > 1]
    return found or differences([protocol(Measurement(record, record.metrics[0])) for record in records])


def _without_counterpart(a: Side, b: Side) -> list[str]:
    if len(a.runs) == len(b.runs) == 1:
        return []
    alone = (("A", a.runs.keys() - b.runs.keys(), "B"), ("B", b.runs.keys() - a.runs.keys(), "A"))
    return [f"left out: {_seeds(seeds)} of {name}, which {other} has not" for name, seeds, other in alone if seeds]


def _shared_seeds(a: Path, ours: Side, b: Path, theirs: Side) -> list[int]:
    shared = sorted(ours.runs.keys() & theirs.runs.keys())
    if not shared:
        raise ResultsError(
            f"{a} and {b}: they have {_seeds(ours.runs)} and {_seeds(theirs.runs)}, none in common. Several runs are "
            "paired by their seed: run the same seeds, or name one run of each"
        )
    return shared


def _row(metric: str, a: Side, b: Side, difference: PairedDifference) -> Row:
    a_values, b_values = ([_value(*run, metric) for run in side.runs.values()] for side in (a, b))
    values = (fmean(a_values), fmean(b_values))
    if len(a_values) == 1:
        return Row(metric, *values, difference)
    found = seed_difference([ours - theirs for ours, theirs in zip(a_values, b_values, strict=True)])
    low, high = find_metric(metric).clip_difference(found.low, found.high)
    return Row(metric, *values, difference, PairedDifference(found.mean, low, high, found.p_value), len(a_values))


def _value(directory: Path, record: Record, name: str) -> float:
    for metric in record.metrics:
        if metric.name == name:
            return metric.value
    raise StoreError(
        f"{directory / RECORD}: has no {name}, which is tested of runs of {record.task}. It has "
        f"{', '.join(metric.name for metric in record.metrics)}. Run it anew, or compare others"
    )


def _protocol_differences(a: Record, b: Record, metric: str) -> list[str]:
    protocols = [protocol(measurement) for record in (a, b) for measurement in measurements([record], [metric])]
    return [
        f"{name}: {' against '.join(shortened(of.get(name, 'not set')) for of in protocols)}"
        for name in differences(protocols)
    ]


def _require_same_data(a: Path, a_record: Record, b: Path, b_record: Record) -> None:
    for what, values in (
        ("task", [record.task for record in (a_record, b_record)]),
        ("data set", [record.dataset for record in (a_record, b_record)]),
        ("split", [record.metrics[0].split for record in (a_record, b_record)]),
        ("contents of the data set", [record.data_fingerprint[:12] for record in (a_record, b_record)]),
    ):
        if values[0] != values[1]:
            raise ResultsError(
                f"{a} and {b}: they differ in {what}, {values[0]} against {values[1]}. "
                "Only runs of one task on the same data can be compared image by image"
            )


def _seeds(seeds: Iterable[int]) -> str:
    ordered = sorted(seeds)
    return f"{'seed' if len(ordered) == 1 else 'seeds'} {', '.join(map(str, ordered))}"


def shortened(value: str) -> str:
    """A setting's value as it is shown."""
    value = value or "none"
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
