"""Collects what the detector finds and scores it, every image counted once."""

from collections.abc import Sequence
from typing import Any

from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from backbones.images.upright import Orientation
from tasks.datasets.coco.layout import CocoSet
from tasks.datasets.evaluation_images import nothing_readable, unreadable_image
from tasks.detection.scoring import Scores, score


def coco_results(outputs: dict[str, Any], image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """detectron2's outputs for an image in COCO's results format; `category_ids` has the id of each class."""
    found = instances_to_coco_json(outputs["instances"].to("cpu"), image_id)
    return [each | {"category_id": category_ids[each["category_id"]]} for each in found]


class DetectionMetric(BaseMetric):
    """COCO's average precision and recall of boxes and masks.

    After evaluation `evaluated` holds the ids of the images, `orientations` by id how each was turned, `detections`
    every detection in COCO's results format, and `scores` what became of them, all four of the last evaluation.
    Raises InputError for an unreadable image unless `allow_unreadable`; then it is left out and named in `unreadable`.
    """

    default_prefix = ""

    def __init__(self, coco: CocoSet, *, allow_unreadable: bool) -> None:
        super().__init__()
        self.coco, self.allow_unreadable = coco, allow_unreadable
        self.unreadable: dict[str, str] = {}
        self.faults: dict[str, str] = {}
        self.turns: dict[int, Orientation] = {}
        self.orientations: dict[int, Orientation] = {}
        self.evaluated: list[int] = []
        self.detections: list[dict[str, Any]] = []
        self.scores: Scores | None = None

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Any]]) -> None:
        """Take in one batch: `gather`'s, and detectron2's outputs for it."""
        for path, why in data_batch["corrupt"].items():
            if not self.allow_unreadable:
                raise unreadable_image(path, why)
            self.faults[path] = why
        for inputs, outputs in zip(data_batch["inputs"], data_samples, strict=True):
            self.results.append((inputs["image_id"], self._found(inputs, outputs) if inputs["readable"] else None))
            self.turns[inputs["image_id"]] = inputs["orientation"]

    def _found(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> list[dict[str, Any]]:
        return coco_results(outputs, inputs["image_id"], self.coco.category_ids)

    def evaluate(self, size: int) -> dict[str, float]:
        """Unite all processes' detections and score them. `size`: images in the data set."""
        found: dict[int, list[dict[str, Any]] | None] = {}
        self.unreadable, self.orientations = {}, {}
        for results, faults, turns in all_gather_object((self.results, self.faults, self.turns)):
            found.update(results)
            self.unreadable.update(faults)
            self.orientations.update(turns)
        self.results.clear()
        self.faults.clear()
        self.turns.clear()
        if len(found) != size:
            raise RuntimeError(f"results of {len(found)} images for {size} evaluation images")
        readable = ((image, detections) for image, detections in sorted(found.items()) if detections is not None)
        return self.compute_metrics(list(readable))

    def compute_metrics(self, results: Sequence[tuple[int, list[dict[str, Any]]]]) -> dict[str, float]:
        """The 12 statistics of boxes and of masks, in percent."""
        if not results:
            raise nothing_readable(self.unreadable)
        self.detections = [detection for _, detections in results for detection in detections]
        self.evaluated = [image for image, _ in results]
        self.scores = score(self.coco.annotation_file, self.detections, self.evaluated)
        return self.scores.metrics
