"""Segmentation's metrics under names of their own, for a linear head's are not to be ranked with UPerNet's."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tasks.outcome import WeightedMetric
from tasks.segmentation.metric import SegmentationMetric

PREFIX = "linear_"

_Value = TypeVar("_Value")


def renamed(by_name: Mapping[str, _Value]) -> dict[str, _Value]:
    """What stands under mIoU, mAcc and aAcc, under linear_mIoU, linear_mAcc and linear_aAcc."""
    return {f"{PREFIX}{name}": value for name, value in by_name.items()}


class DenseProbingMetric(SegmentationMetric):
    """linear_mIoU, linear_mAcc and linear_aAcc in percent, counted as segmentation counts mIoU, mAcc and aAcc."""

    @property
    def weighted(self) -> dict[str, WeightedMetric]:
        """The metrics of the last evaluation by name, for any weights of its images."""
        return renamed(super().weighted)

    def compute_metrics(self, results: Sequence[Any]) -> dict[str, float]:
        """The three in percent, from all pixels together."""
        return renamed(super().compute_metrics(results))
