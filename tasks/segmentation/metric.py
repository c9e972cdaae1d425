"""Counts the segmentor's pixels by class and scores them, every image counted once."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from hotcoco.semantic import SemanticEval
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from backbones.errors import DataError
from tasks.datasets.evaluation_images import nothing_readable, unreadable_image
from tasks.datasets.label_maps.layout import SegmentationSet
from tasks.datasets.label_maps.maps import IGNORED
from tasks.outcome import WeightedMetric
from tasks.segmentation.areas import Areas


class SegmentationMetric(BaseMetric):
    """mIoU, mAcc and aAcc as mmsegmentation's IoUMetric has them, and the pixels of each image behind them.

    Means are over classes, pixels without a label count nowhere. A class that is neither annotated nor predicted in the
    whole set is left out; one that is predicted but nowhere annotated has an IoU of 0, and takes no part in mAcc.

    After evaluation `areas` holds the pixels by image and class, `per_class` the IoU in percent of each class that
    occurs, and `predictions` the label map, uint8 (H, W), of each readable image whose number is in `shown`; all of the
    last evaluation, and the same in every process.
    Raises DataError for an unreadable image unless `allow_unreadable`; then it is left out and named in `unreadable`.
    """

    default_prefix = ""

    def __init__(self, dataset: SegmentationSet, *, allow_unreadable: bool, shown: Collection[int] = ()) -> None:
        super().__init__()
        self.dataset, self.allow_unreadable, self.shown = dataset, allow_unreadable, frozenset(shown)
        self.areas: Areas | None = None
        self.per_class: dict[str, float] = {}
        self.predictions: dict[int, np.ndarray] = {}
        self.unreadable: dict[str, str] = {}
        self._start_afresh()

    @property
    def weighted(self) -> dict[str, WeightedMetric]:
        """The metrics of the last evaluation by name, for any weights of its images."""
        assert self.areas is not None
        return self.areas.weighted

    def _start_afresh(self) -> None:
        """Begin to collect anew what this process contributes to an evaluation."""
        self.results.clear()
        self.counts = self._new_counts()
        self.kept: dict[int, np.ndarray] = {}
        self.faults: dict[str, str] = {}

    def _new_counts(self) -> SemanticEval:
        return SemanticEval(self.dataset.classes, ignore_index=IGNORED)

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Any]]) -> None:
        """Take in one batch: the loader's fields and, as the only sample, the predicted label maps (B, H, W)."""
        for path, why in data_batch["corrupt"].items():
            if not self.allow_unreadable:
                raise unreadable_image(path, why)
            self.faults[path] = why
        (results,) = data_samples
        numbers, readable = data_batch["numbers"].tolist(), data_batch["readable"].tolist()
        labels_BHW, predictions_BHW = (maps.cpu().numpy() for maps in (data_batch["labels"], results["predictions"]))
        for number, good, labels_HW, prediction_HW in zip(numbers, readable, labels_BHW, predictions_BHW, strict=True):
            self.results.append((number, self._count(labels_HW, prediction_HW) if good else None))
            if good and number in self.shown:
                self.kept[number] = prediction_HW.astype(np.uint8)

    def _count(self, labels_HW: np.ndarray, prediction_HW: np.ndarray) -> np.ndarray:
        """One image's pixels by class (3, C): those of both, the annotated, the predicted."""
        counts = self._new_counts()
        counts.update(labels_HW, prediction_HW)
        self.counts.merge(counts)
        confusion_CC = counts.confusion().astype(np.int64)  # a row for each annotated class
        return np.stack([confusion_CC.diagonal(), confusion_CC.sum(axis=1), confusion_CC.sum(axis=0)])

    def evaluate(self, size: int) -> dict[str, float]:
        """Unite all processes' counts and score them. `size`: images in the data set."""
        counts, found = self._new_counts(), {}
        self.predictions, self.unreadable = {}, {}
        for results, counted, kept, faults in all_gather_object((self.results, self.counts, self.kept, self.faults)):
            found.update(results)
            counts.merge(counted)
            self.predictions.update(kept)
            self.unreadable.update(faults)
        self._start_afresh()
        readable = {number: found[number] for number in sorted(found) if found[number] is not None}
        if len(found) != size:
            raise RuntimeError(f"results of {len(found)} images for {size} evaluation images")
        if counts.n_images != len(readable):
            raise RuntimeError(f"{counts.n_images} images counted, of {len(readable)}: some were evaluated twice")
        return self.compute_metrics([(counts, readable)])

    def compute_metrics(self, results: Sequence[tuple[SemanticEval, dict[int, np.ndarray]]]) -> dict[str, float]:
        """mIoU, mAcc and aAcc in percent, from all pixels together; `results` also has each image's by its number."""
        ((counts, found),) = results
        if not found:
            raise nothing_readable(self.unreadable)
        scores = counts.results()
        if not scores["n_pixels"]:
            raise DataError(
                f"{self.dataset.images[0].annotation}: neither here nor in any other annotation of the {len(found):,} "
                "evaluation images is a pixel of a class, so there is nothing to score. Annotate some of them"
            )
        areas_N3C = np.stack(list(found.values()))
        names = [self.dataset.images[number].name for number in found]
        self.areas = Areas(names, areas_N3C[:, 0], areas_N3C[:, 1], areas_N3C[:, 2])
        occurring = [one for one in scores["per_class"] if one["gt_area"] + one["pred_area"] > 0]
        self.per_class = {one["name"]: 100 * one["IoU"] for one in occurring}
        return {name: 100 * scores[name] for name in ("mIoU", "mAcc", "aAcc")}
