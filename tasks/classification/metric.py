"""Top-1, top-5, loss, accuracy by class and calibration error, every image counted once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from tasks.classification.answers import Answers
from tasks.classification.paired import MEANS, TOP5
from tasks.datasets.evaluation_images import nothing_readable, unreadable_image

FIELDS = ("labels", "predictions", "confidences", *MEANS)
"""Of what `ClassificationStep.predict` says."""


class ClassificationMetric(BaseMetric):
    """Collects each image's result from all processes by the image's number.

    `classes` is how many there are; `class_images` says how many training images each has, (C,), if that is known.

    After evaluation `numbers` says which images were evaluated, ascending, `answers` what was said of them, and
    `per_image` holds arrays of that length: `top1` and, with five classes or more, `top5` (0 or 100), and `loss`.
    Raises InputError for an unreadable image unless `allow_unreadable`; then it is left out and named in `unreadable`.
    All four are those of the last evaluation.
    """

    default_prefix = ""

    def __init__(self, classes: int, class_images: np.ndarray | None, *, allow_unreadable: bool) -> None:
        super().__init__()
        self.classes = classes
        self.class_images = class_images
        self.allow_unreadable = allow_unreadable
        self.numbers = np.zeros(0, dtype=np.int64)
        self.answers: dict[str, np.ndarray] = {}
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
        numbers, *columns = (np.asarray(column) for column in zip(*results, strict=True))
        fields = dict(zip(FIELDS, columns, strict=True))
        means = [name for name in MEANS if name != TOP5 or self.classes >= 5]
        self.numbers = numbers
        self.answers = {name: fields[name] for name in ("labels", "predictions", "confidences")}
        if self.class_images is not None:
            self.answers["train_images"] = self.class_images[fields["labels"]]
        self.per_image = {name: fields[name] * (1.0 if name == "loss" else 100.0) for name in means}
        return {name: float(values.mean()) for name, values in self.per_image.items()} | Answers(**self.answers).metrics

    def per_class(self, classes: Sequence[str]) -> dict[str, float]:
        """Top-1 of each class that has an evaluated image, in percent."""
        labels, top1 = self.answers["labels"], self.per_image["top1"]
        return {name: float(top1[labels == c].mean()) for c, name in enumerate(classes) if (labels == c).any()}
