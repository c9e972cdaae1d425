"""Saves a picture of segmentations beside the truth after each evaluation."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from backbones.images.reading import read_image
from tasks.datasets.label_maps.layout import SegmentationSet
from tasks.pictures import spread_numbers
from tasks.segmentation.metric import SegmentationMetric
from tasks.segmentation.pictures import save_segmentations

IMAGES = 6


def numbers_shown(images: int) -> list[int]:
    """Which of so many evaluation images the pictures show: the metric has to keep the predictions of these."""
    return spread_numbers(images, IMAGES)


class PictureHook(Hook):
    """Shows a few of the evaluation images, spread over all of them and the same ones each time."""

    def __init__(self, dataset: SegmentationSet, metric: SegmentationMetric, directory: Path) -> None:
        self.dataset, self.metric, self.directory = dataset, metric, directory

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        rows = []
        for number in numbers_shown(len(self.dataset.images)):
            if number in self.metric.predictions:  # not where the image could not be read
                image = self.dataset.images[number]
                rows.append((read_image(image.image), self.dataset.labels(image), self.metric.predictions[number]))
        if rows:
            save_segmentations(self.directory / f"segmentations_{runner.iter}.png", rows, self.dataset.classes)
