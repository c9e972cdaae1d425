"""Top-1, top-5, loss and per-class accuracy, every image counted once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from tasks.classification.paired import MEANS
from tasks.datasets.evaluation_images import nothing_readable, unreadable_image

FIELDS = ("labels", "predictions", *MEANS)


class ClassificationMetric(BaseMetric):
    """Collects each image's result from all processes by the image's number.

    After evaluation `numbers` says which images were evaluated, ascending, and `per_image` holds arrays of that length:
    `labels`, `predictions`, `top1` and `top5` (0 or 100) and `loss`. Raises InputError for an unreadable image unless
    `allow_unreadable`; then it is left out and named in `unreadable`. All three are those of the last evaluation.
    """

    default_prefix = ""

    def __init__(self, *, allow_unreadable: bool) -> None:
        super().__init__()
        self.allow_unreadable = allow_unreadable
        self.numbers = np.zeros(0, dtype=np.int64)
        self.per_image: dict[str, np.ndarray] = {}
        self.unreadable: dict[str, str] = {}
        self.faults: dict[str, str] = {}

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Any]]) -> None:
        """Take in one batch: the loader's fields and, as the only sample, `ClassificationStep.predict`'s dict."""
        (results,) = data_samples
        for path, why in data_batch["corrupt"].items():
            if not self.allow_unreadable:
                raise unreadable_image(path, why)
            self.faults[path] = why
        columns = [data_batch["numbers"].tolist(), *(results[name].tolist() for name in FIELDS)]
        readable = data_batch["readable"].tolist()
        self.results.extend(row for row, good in zip(zip(*columns, strict=True), readable, strict=True) if good)

    def evaluate(self, size: int) -> dict[str, float]:
        """Unite all processes' results and compute the metrics. `size`: images in the data set."""
        rows = {row[0]: row for part in all_gather_object(self.results) for row in part}
        self.unreadable = {path: why for part in all_gather_object(self.faults) for path, why in part.items()}
        self.results.clear()
        self.faults.clear()
        if len(rows) + len(self.unreadable) != size:
            raise RuntimeError(f"{len(rows)} results for {size} evaluation images")
        return self.compute_metrics([rows[number] for number in sorted(rows)])

    def compute_metrics(self, results: Sequence[tuple[Any, ...]]) -> dict[str, float]:
        """Percentages and the mean loss."""
        if not results:
            raise nothing_readable(self.unreadable)
        self.numbers, *columns = (np.asarray(column) for column in zip(*results, strict=True))
        self.per_image = dict(zip(FIELDS, columns, strict=True))
        for name in ("top1", "top5"):
            self.per_image[name] = self.per_image[name] * 100.0
        return {name: float(self.per_image[name].mean()) for name in MEANS}

    def per_class(self, classes: Sequence[str]) -> dict[str, float]:
        """Top-1 of each class that has an evaluated image, in percent."""
        labels, top1 = self.per_image["labels"], self.per_image["top1"]
        return {name: float(top1[labels == c].mean()) for c, name in enumerate(classes) if (labels == c).any()}
