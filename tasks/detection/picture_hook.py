"""Saves a picture of detections beside the truth after each evaluation."""

from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from backbones.images.reading import read_image
from tasks.datasets.coco.layout import CocoSet
from tasks.detection.metric import DetectionMetric
from tasks.detection.pictures import save_detections
from tasks.pictures import spread_numbers

IMAGES = 6
LEAST_SCORE = 0.3
"""Of a detection that is shown."""


class PictureHook(Hook):
    """Shows a few of the evaluated images, spread over all of them and the same ones each time."""

    def __init__(self, coco: CocoSet, metric: DetectionMetric, directory: Path) -> None:
        self.coco, self.metric, self.directory = coco, metric, directory

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        evaluated = set(self.metric.evaluated)
        images = [image for image in self.coco.images if image.id in evaluated]
        shown = [images[number] for number in spread_numbers(len(images), IMAGES)]
        found: dict[int, list[dict[str, Any]]] = {image.id: [] for image in shown}
        for detection in self.metric.detections:
            if detection["image_id"] in found:
                found[detection["image_id"]].append(detection)
        rows = [(read_image(image.path), image.annotations, found[image.id]) for image in shown]
        names = dict(zip(self.coco.category_ids, self.coco.categories, strict=True))
        save_detections(self.directory / f"detections_{runner.iter}.png", rows, names, LEAST_SCORE)
