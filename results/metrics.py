"""What a metric is: how tables head it, where its values lie, which of them are better, and how one is shown."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from results.errors import ResultsError


@dataclass(frozen=True)
class MetricKind:
    """A metric, by the name that records give it. `label` is what tables call it, `bounds` hold all of its values."""

    name: str
    label: str
    unit: Literal["%", ""] = "%"
    bounds: tuple[float, float] = (0, 100)
    higher_is_better: bool = True

    def shown(self, value: float) -> str:
        """A value as people read it: "83.60 %", or "0.6685" of a metric without a unit."""
        return f"{value:.2f} %" if self.unit else f"{value:#.4g}".removesuffix(".")

    def shown_size(self, size: float) -> str:
        """Of a difference or a spread, without the unit: "2.57", or "0.0042" of what is too small for two digits."""
        if self.unit:
            return f"{size:.2f}" if size >= 0.1 or size == 0 else f"{size:.2g}"
        return f"{size:.4g}"

    def clip(self, low: float, high: float) -> tuple[float, float]:
        """The part of an interval where a value can lie: Student's t knows nothing of 0 and 100 %."""
        least, most = self.bounds
        return max(low, least), min(high, most)

    def clip_difference(self, low: float, high: float) -> tuple[float, float]:
        """The part of an interval where the difference of two values can lie."""
        most = self.bounds[1] - self.bounds[0]
        return max(low, -most), min(high, most)

    def best(self, values: Iterable[float]) -> float:
        """The highest of the values, or the lowest where that is better."""
        return max(values) if self.higher_is_better else min(values)


def _loss(name: str, label: str) -> MetricKind:
    return MetricKind(name, label, unit="", bounds=(0, math.inf), higher_is_better=False)


def _error(name: str, label: str) -> MetricKind:
    """In percent of another classifier's error, which it can be above."""
    return MetricKind(name, label, bounds=(0, math.inf), higher_is_better=False)


# COCO's twelve: average precision, overall, at two overlaps and by the object's size; recall by detections and size.
_COCO = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""Of ImageNet-C, in the order of its authors' table: under each a classifier has an error in relation to AlexNet's."""

CORRUPTION_ERROR = "CE_"
"""What comes before a corruption's name in that of the metric."""

NEIGHBOURS = (10, 20, 100, 200)
"""How many of the nearest training images vote (facebookresearch/dino, eval_knn.py, `--nb_knn`)."""

LABELS_PER_CLASS = (1, 2, 5, 10, 20)
"""How many labelled images of each class a probe with few labels may have."""

METRICS = {
    metric.name: metric
    for metric in (
        MetricKind("top1", "top-1"),
        MetricKind("top5", "top-5"),
        _loss("loss", "loss"),
        _loss("reconstruction_loss", "reconstruction loss"),
        MetricKind("mean_class_accuracy", "mean per-class"),
        MetricKind("many_shot", "many-shot"),
        MetricKind("medium_shot", "medium-shot"),
        MetricKind("few_shot", "few-shot"),
        MetricKind("ECE", "ECE", higher_is_better=False),
        _error("mCE", "mCE"),
        MetricKind("mean_error", "mean error", higher_is_better=False),
        *(_error(f"{CORRUPTION_ERROR}{name}", f"CE {name.replace('_', ' ')}") for name in CORRUPTIONS),
        *(MetricKind(f"{name}_{kind}", f"{name} {kind}") for kind in ("box", "mask") for name in _COCO),
        MetricKind("mIoU", "mIoU"),
        MetricKind("mAcc", "mAcc"),
        MetricKind("aAcc", "aAcc"),
        *(MetricKind(f"linear_{name}", f"linear {name}") for name in ("mIoU", "mAcc", "aAcc")),
        *(MetricKind(f"knn{count}_top1", f"{count}-NN") for count in NEIGHBOURS),
        MetricKind("linear_grid_top1", "linear grid"),
        MetricKind("linear_probe_top1", "linear probe"),
        MetricKind("logistic_top1", "logistic"),
        MetricKind("partial_top1", "partial fine-tuning"),
        *(MetricKind(f"labels{count}_top1", f"{count} label{'s'[: count - 1]}") for count in LABELS_PER_CLASS),
        *(
            MetricKind(f"labels{count}_spread", f"{count} label{'s'[: count - 1]}, spread", higher_is_better=False)
            for count in LABELS_PER_CLASS
        ),
    )
}
"""Every metric that a record may hold."""

PRIMARY = (
    *("top1", "AP_box", "mIoU", "mCE", "reconstruction_loss"),
    *("linear_mIoU", "knn20_top1", "linear_grid_top1", "linear_probe_top1", "logistic_top1", "partial_top1"),
    *(f"labels{count}_top1" for count in reversed(LABELS_PER_CLASS)),
    "loss",
)
"""The metrics that a cell is judged by, by itself; of several the first."""


def find_metric(name: str) -> MetricKind:
    """The metric of that name. Raises ResultsError that names the nearest ones."""
    if name in METRICS:
        return METRICS[name]
    nearest = [f'"{near}"' for near in difflib.get_close_matches(name, METRICS)]
    hint = f"Did you mean {' or '.join(nearest)}?" if nearest else f"There are: {', '.join(METRICS)}"
    raise ResultsError(f'metric "{name}": no such metric. {hint}')
