"""Pictures of what a detector finds beside what is there."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import Visualizer
from pycocotools import mask as mask_codec
from torch import Tensor

from backbones.images.panels import arrange
from backbones.images.reading import UnreadableImage
from backbones.images.upright import read_upright
from tasks.datasets.coco.layout import CocoSet
from tasks.detection.metric import DetectionMetric
from tasks.pictures import (
    DISTINCT_COLOURS,
    SHOWN_SIDE,
    describe_evaluation,
    resize_labels,
    save_picture,
    show_image,
    spread_numbers,
)

IMAGES = 6
LEAST_SCORE = 0.3
"""Of a detection that is shown after an evaluation."""

BEST = 3
"""Detections shown of an image where none reaches that."""

LABEL_POINTS = 8
_SMALL_AREA = 1000
_SMALL_HEIGHT = 40
"""Of a box, in the picture's pixels: a label in it would hide the object."""

METRICS = ("AP_box", "AP50_box", "AP_mask", "AP50_mask")

Row = tuple[Tensor, Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]
"""An image, uint8 (3, H, W); its annotations; the detections on it, in COCO's results format."""


def draw_evaluation(
    coco: CocoSet, metric: DetectionMetric, directory: Path, iteration: int, metrics: Mapping[str, float]
) -> None:
    """Show a few of the images that were just evaluated, spread over all of them and the same ones each time.

    One that cannot be read any more is left out.
    """
    evaluated = set(metric.evaluated)
    images = [image for image in coco.images if image.id in evaluated]
    shown = [images[number] for number in spread_numbers(len(images), IMAGES)]
    found: dict[int, list[dict[str, Any]]] = {image.id: [] for image in shown}
    for detection in metric.detections:
        if detection["image_id"] in found:
            found[detection["image_id"]].append(detection)
    rows = []
    for image in shown:
        with suppress(UnreadableImage):
            pixels, _ = read_upright(image.path, (image.height, image.width))
            rows.append((pixels, image.annotations, found[image.id]))
    if rows:
        names = dict(zip(coco.category_ids, coco.categories, strict=True))
        heading = describe_evaluation(iteration, metrics, METRICS)
        save_detections(directory / f"detections_{iteration}.png", rows, names, LEAST_SCORE, heading)


def save_detections(
    path: Path, rows: Sequence[Row], categories: Mapping[int, str], threshold: float = 0.5, heading: str = ""
) -> None:
    """Write a PNG with a row for each image: left the truth, right the detections that score at least `threshold`.

    Where none of an image's does, its best few are shown: that they are there and in vain tells more than nothing.

    Args:
        path: of the PNG. It is there in full or not at all.
        rows: at least one. Boxes are (left, top, width, height) in the image's own pixels. Masks are polygons or run
            lengths of the image's size; without one, the box is drawn alone.
        categories: name of each `category_id`. A category has one colour in the whole picture.
        heading: what stands above it all.
    """
    panels = []
    for image, truth, detections in rows:
        ranked = sorted(detections, key=lambda detection: -detection["score"])
        found = [detection for detection in ranked if detection["score"] >= threshold] or ranked[:BEST]
        panels.append([draw_objects(image, objects, categories) for objects in (truth, found)])
    title = f"detections that score at least {threshold:.0%}, or else the best {BEST}"
    save_picture(arrange(panels, ("truth", title), heading), path)


def draw_objects(
    image: Tensor, objects: Sequence[Mapping[str, Any]], categories: Mapping[int, str], side: int = SHOWN_SIDE
) -> np.ndarray:
    """The image, uint8 (3, H, W), with its objects, as `save_detections` has them: uint8 (H', W', 3), of that long
    side."""
    few = len(categories) <= len(DISTINCT_COLOURS)
    palette = DISTINCT_COLOURS / 255 if few else colormap(rgb=True, maximum=1)
    colours = {identity: palette[index % len(palette)] for index, identity in enumerate(sorted(categories))}
    height, width = image.shape[1:]
    pixels = show_image(image, side)
    shown = pixels.shape[:2]
    canvas = Visualizer(pixels)
    if not objects:
        return canvas.img
    boxes = np.array([entry["bbox"] for entry in objects], dtype=np.float64)
    boxes[:, 2:] += boxes[:, :2]
    boxes = boxes.clip(0, [width, height] * 2) * np.array([shown[1] / width, shown[0] / height] * 2)
    canvas.overlay_instances(
        boxes=boxes,
        masks=[resize_labels(decode_mask(entry.get("segmentation"), height, width), shown) for entry in objects],
        assigned_colors=[colours[entry["category_id"]] for entry in objects],
        alpha=0.4,
    )
    for box, entry in reversed(list(zip(boxes, objects, strict=True))):  # the best detection's label lies on top
        _write_label(canvas, box, _label(entry, categories), colours[entry["category_id"]])
    return canvas.output.get_image()


def _write_label(canvas: Visualizer, box: np.ndarray, label: str, colour: np.ndarray) -> None:
    """Write it into the box's upper left corner, or below the box where that is small, and in full into the image.

    `canvas.overlay_instances` cuts labels off at the image's borders, and writes those of small objects too small.
    """
    left, top, right, bottom = box
    small = (right - left) * (bottom - top) < _SMALL_AREA or bottom - top < _SMALL_HEIGHT
    place = np.array([left, bottom if small else top])
    canvas.draw_text(label, place, font_size=LABEL_POINTS, color=colour, horizontal_alignment="left")
    text = canvas.output.ax.texts[-1]
    text.draw(canvas.output.canvas.get_renderer())  # the frame gets its size
    frame = text.get_bbox_patch().get_window_extent()
    image = np.array([canvas.output.width, canvas.output.height])
    start = np.array([frame.x0, image[1] - frame.y1])
    end = np.array([frame.x1, image[1] - frame.y0])
    text.set_position(place + np.maximum(np.minimum(0, image - end), -start))


def _label(entry: Mapping[str, Any], categories: Mapping[int, str]) -> str:
    name = categories[entry["category_id"]]
    if "score" in entry:
        return f"{name} {entry['score']:.{0 if entry['score'] >= 0.1 else 1}%}"
    return f"{name} (crowd)" if entry.get("iscrowd") else name


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Bring a segmentation in any of COCO's forms to pixels, uint8 (H, W); all zero where it covers nothing."""
    if isinstance(segmentation, list):
        # pycocotools takes a polygon of two points for a box, and fails on a shorter one.
        segmentation = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not segmentation:
        return np.zeros((height, width), dtype=np.uint8)
    if isinstance(segmentation, list):
        segmentation = mask_codec.merge(mask_codec.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = mask_codec.frPyObjects(segmentation, height, width)
    return mask_codec.decode(segmentation)
