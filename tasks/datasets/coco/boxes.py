"""Boxes that are written in another way than COCO's [left, top, width, height] in pixels, told by their masks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_codec

LOOKED_AT = 1000
"""Of a file's annotations, spread over all: their boxes are all written in one way."""

_SLACK = (1.5, 0.05)
"""How far a box may be from its mask to belong to it: pixels, and as a share of the mask's longer side."""

_Readings = dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]]

_OTHER_READINGS: _Readings = {
    "[left, top, right, bottom]": (
        lambda boxes: boxes,
        "Write [left, top, right - left, bottom - top]",
    ),
    "[centre x, centre y, width, height]": (
        lambda boxes: np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2]),
        "Write [centre x - width / 2, centre y - height / 2, width, height]",
    ),
    "[top, left, bottom, right]": (
        lambda boxes: boxes[:, [1, 0, 3, 2]],
        "Write [left, top, right - left, bottom - top]",
    ),
    "[top, left, height, width]": (
        lambda boxes: np.hstack([boxes[:, [1, 0]], boxes[:, [1, 0]] + boxes[:, [3, 2]]]),
        "Write [left, top, width, height]",
    ),
}
"""How else people write boxes (N, 4): the corners (left, top, right, bottom) that they would mean, and what to do."""


def misread_boxes(boxes: Sequence[Sequence[float]], segmentations: Sequence[Any]) -> list[str]:
    """Say in what way boxes, or masks, are written that is not COCO's, and what to do; no text if they seem right.

    boxes:         of sound form
    segmentations: one for each, polygons or compressed run lengths that cover something
    """
    if not boxes:
        return []
    problems = []
    extents = np.array([_extent(segmentation) for segmentation in segmentations])
    if extents.min() >= 0 and extents.max() <= 1:
        problems.append(
            "all masks lie within 0 and 1, as fractions of the image. Expected pixels: multiply each x by the image's "
            "width and each y by its height."
        )
    array = np.array(boxes, dtype=np.float64)
    if array.min() >= 0 and array.max() <= 1:
        problems.append(
            "all boxes lie within 0 and 1, as fractions of the image. Expected pixels, [left, top, width, height]: "
            "multiply by the image's width and height; YOLO's begin with the centre, from which half the box goes off."
        )
    return problems or _misread_pixels(array, extents)


def _misread_pixels(boxes: np.ndarray, extents: np.ndarray) -> list[str]:
    """Most boxes fit their masks in another reading, and hardly one in COCO's. Those that fit in both tell nothing."""
    fits = _fits(np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]), extents)
    for name, (corners, remedy) in _OTHER_READINGS.items():
        fits_otherwise = _fits(corners(boxes), extents)
        only_otherwise = int((fits_otherwise & ~fits).sum())
        telling = len(boxes) - int((fits_otherwise & fits).sum())
        if 2 * only_otherwise > telling and 10 * int((fits & ~fits_otherwise).sum()) <= only_otherwise:
            return [
                f"the boxes seem to be written as {name}: so {only_otherwise:,} of {len(boxes):,} that were looked at "
                f"fit their masks, and not as COCO's [left, top, width, height]. {remedy}."
            ]
    return []


def _fits(corners: np.ndarray, extents: np.ndarray) -> np.ndarray:
    """Whether boxes and masks, both as (left, top, right, bottom) (N, 4), lie in the same places, bool (N,)."""
    sides = (extents[:, 2:] - extents[:, :2]).max(axis=1)
    pixels, share = _SLACK
    return np.asarray(np.abs(corners - extents).max(axis=1) <= np.maximum(pixels, share * sides))


def _extent(segmentation: Any) -> list[float]:
    """The mask's left, top, right and bottom."""
    if isinstance(segmentation, dict):
        left, top, width, height = mask_codec.toBbox(segmentation).tolist()
        return [left, top, left + width, top + height]
    xs = [x for polygon in segmentation for x in polygon[::2]]
    ys = [y for polygon in segmentation for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs), max(ys)]
