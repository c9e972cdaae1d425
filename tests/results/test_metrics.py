"""What a metric is, and that every metric of the tasks is known."""

import math
from dataclasses import fields
from typing import Any

import hotcoco
import numpy as np
import pytest
from torch import nn

from backbones.training.outcome import Outcome
from results import METRICS, ResultsError, find_metric, statistic_interval
from results.metrics import CORRUPTIONS, LABELS_PER_CLASS, NEIGHBOURS
from tasks.classification.corrupted import CorruptionErrors
from tasks.classification.metric import ClassificationMetric
from tasks.datasets.imagenet_variants.corruptions import all_parts
from tasks.detection.scoring import KINDS
from tasks.intervals import metrics_with_intervals
from tasks.outcome import TaskOutcome
from tasks.segmentation.areas import Areas

LOSSES = ["loss", "reconstruction_loss"]
ERRORS = ["ECE"]
SPREADS = [f"labels{count}_spread" for count in LABELS_PER_CLASS]
PROBES = [
    *(f"knn{count}_top1" for count in NEIGHBOURS),
    *("linear_grid_top1", "linear_probe_top1", "logistic_top1", "partial_top1"),
    *("linear_mIoU", "linear_mAcc", "linear_aAcc"),
    *(f"labels{count}_top1" for count in LABELS_PER_CLASS),
]


def make_outcome(metrics: dict[str, float], **evaluation: Any) -> TaskOutcome:
    unknown: dict[str, Any] = {field.name: None for field in fields(Outcome)}
    settings: dict[str, Any] = {"per_class": {}, "split": "val", "load_report": None, "image_names": ["a", "b", "c"]}
    settings |= {"network": nn.Identity(), "classes": []}
    return TaskOutcome(metrics=metrics, training=Outcome(**unknown), **settings, **evaluation)


def test_every_metric_of_every_task_is_known_and_no_other() -> None:
    answers = [(number, number, 0, 0.9, number == 0, True, 0.5) for number in range(5)]
    metric = ClassificationMetric(5, np.array([200, 50, 2, 2, 2]), allow_unreadable=False)
    classification = metric.compute_metrics(answers)
    areas = np.ones((1, 2), dtype=np.int64)
    segmentation = Areas(["a"], areas, areas, areas).weighted
    detection = [
        f"{definition['name']}_{kind}"
        for kind, iou_type in KINDS.items()
        for definition in hotcoco.COCOeval(hotcoco.COCO(), hotcoco.COCO(), iou_type).metric_defs()
    ]
    assert len(detection) == 24
    corrupted = CorruptionErrors(all_parts(), np.zeros((75, 1), dtype=bool)).per_image
    assert {*METRICS} - {*PROBES, *SPREADS} == {
        *classification,
        *corrupted,
        "reconstruction_loss",
        *detection,
        *segmentation,
    }
    assert all(name == metric.name for name, metric in METRICS.items())


def test_the_losses_are_low_where_they_are_good_and_the_others_percentages() -> None:
    relative = {"mCE", *(f"CE_{name}" for name in CORRUPTIONS)}
    worse = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert worse == {*LOSSES, *ERRORS, *SPREADS, "mean_error", *relative}
    for name, metric in METRICS.items():
        expected = ("" if name in LOSSES else "%", (0, math.inf if name in {*LOSSES, *relative} else 100))
        assert (metric.unit, metric.bounds) == expected
    assert find_metric("loss").best([0.7, 0.2, 1.9]) == 0.2
    assert find_metric("top1").best([70, 20, 90]) == 90


@pytest.mark.parametrize(
    ("name", "label", "shown"),
    [
        ("top1", "top-1", "83.60 %"),
        ("AP_box", "AP box", "83.60 %"),
        ("AR100_mask", "AR100 mask", "83.60 %"),
        ("mIoU", "mIoU", "83.60 %"),
        ("reconstruction_loss", "reconstruction loss", "83.60"),
    ],
)
def test_a_metric_is_shown_as_people_know_it(name: str, label: str, shown: str) -> None:
    metric = find_metric(name)
    assert (metric.label, metric.shown(83.6)) == (label, shown)


@pytest.mark.parametrize(
    ("name", "size", "shown"),
    [
        *(("top1", 2.571, "2.57"), ("top1", 0.1, "0.10"), ("top1", 0.0042, "0.0042"), ("top1", 0.0, "0.00")),
        *(("loss", 0.07517, "0.07517"), ("loss", 0.002, "0.002"), ("loss", 0.0, "0")),
    ],
)
def test_a_small_difference_is_not_shown_as_none(name: str, size: float, shown: str) -> None:
    assert find_metric(name).shown_size(size) == shown


def test_losses_are_shown_to_four_digits() -> None:
    assert [find_metric("loss").shown(value) for value in (0.66853, 0.4, 1057.3)] == ["0.6685", "0.4000", "1057"]


@pytest.mark.parametrize(
    ("name", "value", "difference"), [("top1", (0, 100), (-100, 100)), ("loss", (0, 300), (-300, 300))]
)
def test_an_interval_is_cut_to_where_values_and_differences_lie(
    name: str, value: tuple[float, float], difference: tuple[float, float]
) -> None:
    assert find_metric(name).clip(-300, 300) == value
    assert find_metric(name).clip_difference(-300, 300) == difference


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(ResultsError, match=r'^metric "topl": no such metric\. Did you mean "top5" or "top1"\?$'):
        find_metric("topl")
    with pytest.raises(ResultsError, match=r'^metric "xyz": no such metric\. There are: top1, top5, loss, .*aAcc, .*$'):
        find_metric("xyz")


def test_an_interval_keeps_within_its_metrics_bounds() -> None:
    """A number that varies widely from resample to resample, as a percentage and as a loss."""

    def varying(weights_RN: np.ndarray) -> np.ndarray:
        return np.asarray(weights_RN @ np.array([0.0, 50.0, 250.0]) / 3)

    low, high = statistic_interval(varying, 3)
    assert low < 0
    assert high > 100
    weighted = {"mIoU": varying, "loss": varying}
    percentage, loss = metrics_with_intervals(make_outcome(dict.fromkeys(weighted, 100.0), weighted=weighted))
    assert (percentage.ci_low, percentage.ci_high) == (0, 100)
    assert (loss.ci_low, loss.ci_high) == (0, high)


def test_a_metric_that_is_not_known_has_no_interval() -> None:
    with pytest.raises(ResultsError, match=r'"mIOU": no such metric\. Did you mean "mIoU"'):
        metrics_with_intervals(make_outcome({"mIOU": 50.0}))
