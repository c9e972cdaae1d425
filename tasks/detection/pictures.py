"""Pictures of what a detector finds beside what is there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import Visualizer
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as mask_codec
from torch import Tensor

SHOWN_SIDE = 512
"""Pixels of an image's long side in the picture: lines and letters look alike whatever the image's own size."""

MARGIN = 6
HEADER = 24

Row = tuple[Tensor, Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]
"""An image, uint8 (3, H, W); its annotations; the detections on it, in COCO's results format."""


def save_detections(path: Path, rows: Sequence[Row], categories: Mapping[int, str], threshold: float = 0.5) -> None:
    """Write a PNG with a row for each image: left the truth, right the detections that score at least `threshold`.

    Args:
        path: of the PNG. It is there in full or not at all.
        rows: at least one. Boxes are (left, top, width, height) in the image's own pixels. Masks are polygons or run
            lengths of the image's size; without one, the box is drawn alone.
        categories: name of each `category_id`. A category has one colour in the whole picture.
    """
    palette = colormap(rgb=True, maximum=1)
    colours = {identity: palette[index % len(palette)] for index, identity in enumerate(sorted(categories))}
    panels = []
    for image, truth, detections in rows:
        found = [detection for detection in detections if detection["score"] >= threshold]
        panels.append([_draw(image, objects, categories, colours) for objects in (truth, found)])
    picture = _arrange(panels, ("truth", f"detections that score at least {threshold:g}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    try:
        picture.save(partial, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _draw(
    image: Tensor,
    objects: Sequence[Mapping[str, Any]],
    categories: Mapping[int, str],
    colours: Mapping[int, np.ndarray],
) -> np.ndarray:
    """The image with its objects, uint8 (H, W, 3), resized to `SHOWN_SIDE`."""
    height, width = image.shape[1:]
    scale = SHOWN_SIDE / max(height, width)
    shown = (max(1, round(height * scale)), max(1, round(width * scale)))
    pixels = F.interpolate(image[None].float(), size=shown, mode="bilinear", antialias=True)[0].round().byte()
    canvas = Visualizer(pixels.permute(1, 2, 0).cpu().numpy())
    if not objects:
        return canvas.img
    boxes = np.array([entry["bbox"] for entry in objects], dtype=np.float64)
    boxes[:, 2:] += boxes[:, :2]
    # A label at a corner outside the image would be cut off.
    boxes = boxes.clip(0, [width, height] * 2) * np.array([shown[1] / width, shown[0] / height] * 2)
    canvas.overlay_instances(
        boxes=boxes,
        labels=[_label(entry, categories) for entry in objects],
        masks=[_resize_mask(decode_mask(entry.get("segmentation"), height, width), shown) for entry in objects],
        assigned_colors=[colours[entry["category_id"]] for entry in objects],
        alpha=0.4,
    )
    return canvas.output.get_image()


def _label(entry: Mapping[str, Any], categories: Mapping[int, str]) -> str:
    name = categories[entry["category_id"]]
    if "score" in entry:
        return f"{name} {entry['score']:.0%}"
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


def _resize_mask(mask: np.ndarray, shown: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(shown[::-1], Image.Resampling.NEAREST))


def _arrange(panels: Sequence[Sequence[np.ndarray]], titles: Sequence[str]) -> Image.Image:
    """Put the panels into rows below the titles of their columns."""
    width = max(panel.shape[1] for row in panels for panel in row)
    heights = [max(panel.shape[0] for panel in row) for row in panels]
    size = (len(titles) * (width + MARGIN) + MARGIN, HEADER + sum(heights) + MARGIN * len(heights))
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for column, title in enumerate(titles):
        left = MARGIN + column * (width + MARGIN)
        draw.text((left, 4), title, fill="black", font=ImageFont.load_default(size=14))
        top = HEADER
        for row, height in zip(panels, heights, strict=True):
            picture.paste(Image.fromarray(row[column]), (left, top))
            top += height + MARGIN
    return picture
