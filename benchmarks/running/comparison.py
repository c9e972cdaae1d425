"""Whether one finished run is better than another: paired tests on the images that both were evaluated on."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.planning.records import load_records
from results import PairedDifference, Record, ResultsError
from results.measurements import differences, measurements, protocol
from results.metrics import find_metric
from tasks.pairing import PairedRuns
from tasks.registry import TASKS

SIGNIFICANT = 0.05
LONGEST = 60
"""Characters that are shown of a setting's value."""


@dataclass(frozen=True)
class Row:
    """One metric of both runs: A's value, B's, and A's minus B's with its 95 % interval and two-sided p-value."""

    metric: str
    a: float
    b: float
    difference: PairedDifference

    @property
    def better(self) -> bool | None:
        """Whether A is better than B; None unless the interval and the test both tell them apart."""
        low, high = self.difference.low, self.difference.high
        if self.difference.p_value > SIGNIFICANT or low <= 0 <= high:
            return None
        return (low > 0) == find_metric(self.metric).higher_is_better

    @property
    def verdict(self) -> str:
        """One sentence. Intervals are over images: between seeds there is more noise."""
        direction = "" if find_metric(self.metric).higher_is_better else " (lower is better)"
        if self.better is None:
            return f"{self.metric}: no difference that these images could tell"
        return f"{self.metric}: {'A' if self.better else 'B'} is better on these images, one seed each{direction}"


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same images. `protocol_differences` says what else than the backbone sets them apart."""

    a: Path
    b: Path
    a_record: Record
    b_record: Record
    images: int
    rows: list[Row]
    protocol_differences: list[str]


def compare_cells(a: Path, b: Path) -> Comparison:
    """Test two finished runs against each other, from what their directories hold.

    Each path is a run's directory, or one with a single finished run below it. Detection on COCO takes half a minute.
    Raises ResultsError or InputError unless both are finished runs of one task, on one data set and the same images.
    """
    (a, a_record), (b, b_record) = _finished_run(a), _finished_run(b)
    _require_same_data(a, a_record, b, b_record)
    if a_record.task not in TASKS:
        raise ResultsError(
            f"{a}: a run of {a_record.task}, which has no results image by image. Expected runs of {' or '.join(TASKS)}"
        )
    tested: PairedRuns = TASKS[a_record.task].module("paired").compare(a, b)
    a_metrics, b_metrics = _values(a_record), _values(b_record)
    rows = [Row(name, a_metrics[name], b_metrics[name], each) for name, each in tested.differences.items()]
    unlike = _protocol_differences(a_record, b_record, rows[0].metric)
    return Comparison(a, b, a_record, b_record, tested.images, rows, unlike)


def _finished_run(path: Path) -> tuple[Path, Record]:
    runs = load_records([path])
    if len(runs) == 1:
        return runs[0]
    if runs:
        raise ResultsError(f"{path}: holds {len(runs)} finished runs. Name one of them, for example {runs[0][0]}")
    if unfinished := next(path.rglob("recipe.yaml"), None):
        raise ResultsError(f"{unfinished.parent}: the run has not finished. Repeat its command, then compare")
    raise ResultsError(
        f"{path}: not a run. Expected a directory with a record.json, such as OUT/detection/coco2017/NAME/seed0-KEY"
    )


def _values(record: Record) -> dict[str, float]:
    return {metric.name: metric.value for metric in record.metrics}


def _protocol_differences(a: Record, b: Record, metric: str) -> list[str]:
    protocols = [protocol(measurement) for record in (a, b) for measurement in measurements([record], [metric])]
    return [
        f"{name}: {' against '.join(_shortened(of.get(name, 'not set')) for of in protocols)}"
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


def _shortened(value: str) -> str:
    value = value or "none"
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
