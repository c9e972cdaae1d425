"""Pictures of what a segmentor sees beside what is there: few classes in colours far apart, more in ADE20K's.

H and W are pixels.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from backbones.images.panels import FONT, MARGIN, arrange, shorten
from backbones.images.reading import UnreadableImage
from backbones.images.upright import read_upright
from tasks.datasets.label_maps.layout import SegmentationSet
from tasks.datasets.label_maps.maps import IGNORED
from tasks.pictures import (
    DISTINCT_COLOURS,
    describe_evaluation,
    resize_labels,
    save_picture,
    show_image,
    spread_numbers,
)
from tasks.segmentation.metric import SegmentationMetric
from tasks.segmentation.mmseg_parts import get_palette

IMAGES = 6
METRICS = ("mIoU", "mAcc", "aAcc", "linear_mIoU", "linear_mAcc", "linear_aAcc")
"""Those that a heading tells, as far as they were measured."""

TITLES = ("image", "truth", "prediction")
ENTRY_WIDTH = 190
"""Of the legend: eight beside each other below three images of the usual width."""

ENTRY_HEIGHT = 22
SWATCH = 16

Row = tuple[Tensor, np.ndarray, np.ndarray]
"""An image, uint8 (3, H, W); the class numbers that are annotated and those predicted, both (H, W)."""


def numbers_shown(images: int) -> list[int]:
    """Which of so many evaluation images the pictures show: the metric has to keep the predictions of these."""
    return spread_numbers(images, IMAGES)


def draw_evaluation(
    dataset: SegmentationSet,
    metric: SegmentationMetric,
    directory: Path,
    iteration: int,
    metrics: Mapping[str, float],
) -> None:
    """Show a few of the images that were just evaluated, spread over all of them and the same ones each time.

    One that cannot be read, or not any more, is left out.
    """
    rows = []
    for number in sorted(metric.shown):
        if number not in metric.predictions:
            continue
        with suppress(UnreadableImage):
            image = dataset.images[number]
            labels = dataset.labels(image)
            pixels, _ = read_upright(image.image, labels.shape)
            rows.append((pixels, labels, metric.predictions[number]))
    if rows:
        heading = describe_evaluation(iteration, metrics, METRICS)
        save_segmentations(directory / f"segmentations_{iteration}.png", rows, dataset.classes, heading)


def save_segmentations(path: Path, rows: Sequence[Row], classes: Sequence[str], heading: str = "") -> None:
    """Write a PNG with a row for each image: the image, the truth, the prediction; below them a legend.

    Args:
        path: of the PNG. It is there in full or not at all.
        rows: at least one. Class numbers are below len(classes), or `IGNORED`, which is black.
        classes: names of all. The legend has those that occur in the picture, the most frequent first.
        heading: what stands above it all.
    """
    palette = colours_of(len(classes))
    panels, pixels = [], np.zeros(len(palette), dtype=np.int64)
    for image, *maps in rows:
        shown = show_image(image)
        labels = [resize_labels(numbers.astype(np.uint8), shown.shape[:2]) for numbers in maps]
        panels.append([shown, *(palette[numbers] for numbers in labels)])
        pixels += np.bincount(np.concatenate(labels, axis=None), minlength=len(palette))
    frequent = [number for number in np.argsort(-pixels, kind="stable").tolist() if pixels[number]]
    entries = [("not annotated" if number == IGNORED else classes[number], palette[number]) for number in frequent]
    save_picture(with_legend(arrange(panels, TITLES, heading), entries), path)


def colours_of(classes: int) -> np.ndarray:
    """The colour of every uint8 number where there are so many classes, uint8 (256, 3)."""
    return _few_colours() if classes <= len(DISTINCT_COLOURS) else _ade20k_colours()


def _few_colours() -> np.ndarray:
    """The colour of every uint8 number, uint8 (256, 3), as far as there are `DISTINCT_COLOURS`."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(DISTINCT_COLOURS)] = DISTINCT_COLOURS
    return palette


@cache
def _ade20k_colours() -> np.ndarray:
    """The colour of every uint8 number, uint8 (256, 3): ADE20K's 150, then drawn ones, always the same.

    ADE20K's road and skyscraper, 6 and 48, have one colour.
    """
    palette = np.random.default_rng(0).integers(32, 256, (256, 3), dtype=np.uint8)
    ade20k = get_palette("ade20k")
    palette[: len(ade20k)] = ade20k
    palette[IGNORED] = 0
    return palette


def with_legend(picture: Image.Image, entries: Sequence[tuple[str, np.ndarray]]) -> Image.Image:
    """The picture above its legend: lines of coloured squares with names."""
    columns = max(1, (picture.width - MARGIN) // ENTRY_WIDTH)
    lines = -(-len(entries) // columns)
    size = (max(picture.width, MARGIN + ENTRY_WIDTH), picture.height + lines * ENTRY_HEIGHT)
    whole = Image.new("RGB", size, "white")
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for index, (name, colour) in enumerate(entries):
        line, column = divmod(index, columns)
        left, top = MARGIN + column * ENTRY_WIDTH, picture.height + line * ENTRY_HEIGHT
        draw.rectangle((left, top, left + SWATCH - 1, top + SWATCH - 1), fill=tuple(colour.tolist()))
        text = shorten(name, ENTRY_WIDTH - SWATCH - 3 * MARGIN)
        draw.text((left + SWATCH + MARGIN, top), text, fill="black", font=FONT)
    return whole
