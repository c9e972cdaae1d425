"""Whether one finished run is better than another: paired tests on the images that both were evaluated on."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from results import PairedDifference, Record, ResultsError, find_records, paired_difference, paired_statistic_difference
from results.measurements import differences, measurements, protocol

MEANS = ("top1", "top5", "loss")
"""What `per_image.csv` holds of every image, and whose mean is the metric."""

AVERAGE_PRECISIONS = ("AP_box", "AP_mask")
LOWER_IS_BETTER = {"loss"}
SIGNIFICANT = 0.05
LONGEST = 60
"""Characters that are shown of a setting's value."""

Differences = dict[str, PairedDifference]


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
        return (low > 0) != (self.metric in LOWER_IS_BETTER)

    @property
    def verdict(self) -> str:
        """One sentence. Intervals are over images: between seeds there is more noise."""
        direction = " (lower is better)" if self.metric in LOWER_IS_BETTER else ""
        if self.better is None:
            return f"{self.metric}: no difference that these images could tell"
        return f"{self.metric}: {'A' if self.better else 'B'} is better{direction}"


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
    if a_record.task not in TESTS:
        raise ResultsError(
            f"{a}: a run of {a_record.task}, which has no results image by image. Expected runs of {' or '.join(TESTS)}"
        )
    images, tested = TESTS[a_record.task](a, b)
    a_metrics, b_metrics = _values(a_record), _values(b_record)
    rows = [Row(name, a_metrics[name], b_metrics[name], difference) for name, difference in tested.items()]
    return Comparison(a, b, a_record, b_record, images, rows, _protocol_differences(a_record, b_record, rows[0].metric))


def show_comparison(a: Path, b: Path) -> None:
    """Compare two runs and print what came out. Raises as `compare_cells` does."""
    console = Console(highlight=False, markup=False)
    with console.status("testing on the same images"):
        comparison = compare_cells(a, b)
    for name, directory, record in (
        ("A", comparison.a, comparison.a_record),
        ("B", comparison.b, comparison.b_record),
    ):
        about = f"{record.backbone}, recipe {record.recipe}, seed {record.seed}"
        console.print(f"{name}  {about}\n   {directory}", soft_wrap=True)
    if comparison.protocol_differences:
        console.print("\nnot the same protocol: the difference is not the backbone's alone", style="bold")
        for line in comparison.protocol_differences:
            console.print(f"  {line}", soft_wrap=True)
    console.print(f"\n{comparison.a_record.dataset}: both on the same {comparison.images:,} images")
    console.print(_table(comparison.rows))
    for row in comparison.rows:
        console.print(row.verdict)
    console.print("Intervals (95 %) and tests are over images; the noise between seeds comes on top.", soft_wrap=True)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric")
    for heading in ("A", "B", "A − B", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    for row in rows:
        difference = row.difference
        table.add_row(
            row.metric,
            f"{row.a:.2f}",
            f"{row.b:.2f}",
            f"{difference.mean:+.2f}",
            f"{difference.low:+.2f} to {difference.high:+.2f}",
            f"{difference.p_value:.4f}",
        )
    return table


def _finished_run(path: Path) -> tuple[Path, Record]:
    runs = find_records([path])
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


def _require_same_images(a: Path, a_images: Sequence[Hashable], b: Path, b_images: Sequence[Hashable]) -> None:
    only_a, only_b = set(a_images).difference(b_images), set(b_images).difference(a_images)
    if only_a or only_b:
        raise ResultsError(
            f"{a} and {b}: not evaluated on the same images. {len(only_a):,} of {len(a_images):,} images are only in "
            f"the first, {len(only_b):,} of {len(b_images):,} only in the second, for example "
            f"{min(only_a or only_b, key=str)}. Evaluate both on the same images; record.json names those left out"
        )


def _test_means(a: Path, b: Path) -> tuple[int, Differences]:
    """Metrics that are means over images, from `per_image.csv`."""
    a_frame, b_frame = _per_image(a), _per_image(b)
    _require_same_images(a, a_frame.index.tolist(), b, b_frame.index.tolist())
    b_frame = b_frame.loc[a_frame.index]
    return len(a_frame), {name: paired_difference(a_frame[name], b_frame[name]) for name in MEANS}


def _per_image(directory: Path) -> pd.DataFrame:
    path = directory / "per_image.csv"
    try:
        frame = pd.read_csv(path, dtype={"image": str}, na_filter=False, float_precision="round_trip")
        frame = frame.set_index("image")[list(MEANS)].astype(np.float64)
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file. A finished classification run has one; repeat the run") from None
    except (OSError, ValueError, KeyError) as error:
        raise ResultsError(f"{path}: not a table of {', '.join(MEANS)} by image: {error}") from error
    if not frame.index.is_unique:
        raise ResultsError(f"{path}: expected each image once, found {frame.index[frame.index.duplicated()][0]} again")
    return frame


def _test_average_precision(a: Path, b: Path) -> tuple[int, Differences]:
    """AP, which is no mean over images, from `matches_AP_box.npz` and `matches_AP_mask.npz`."""
    from tasks.detection.matches import load_matches

    images, tested = 0, {}
    for metric in AVERAGE_PRECISIONS:
        ours, theirs = (load_matches(directory / f"matches_{metric}.npz") for directory in (a, b))
        _require_same_images(a, ours.image_ids.tolist(), b, theirs.image_ids.tolist())
        images = len(ours.image_ids)
        tested[metric] = paired_statistic_difference(ours.average_precision, theirs.average_precision, images)
    return images, tested


def _test_mean_iou(a: Path, b: Path) -> tuple[int, Differences]:
    """mIoU and its kin, which are no means over images, from `areas.npz`."""
    from tasks.segmentation.areas import AREAS, load_areas

    ours, theirs = (load_areas(directory / AREAS) for directory in (a, b))
    _require_same_images(a, ours.image_names, b, theirs.image_names)
    images, others = len(ours.image_names), theirs.weighted
    return images, {
        name: paired_statistic_difference(statistic, others[name], images) for name, statistic in ours.weighted.items()
    }


TESTS: dict[str, Callable[[Path, Path], tuple[int, Differences]]] = {
    "classification": _test_means,
    "detection": _test_average_precision,
    "segmentation": _test_mean_iou,
}
"""By task, how two runs' directories become the number of images and each metric's difference on them."""


def _shortened(value: str) -> str:
    value = value or "none"
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
