"""COCO's three ways to write a mask: polygons, run lengths, compressed run lengths. Which are sound, which empty."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from pycocotools import mask as mask_codec

from backbones.images.sizes import in_words

SMALLEST_AREA = 1e-6
"""Square pixels. What collinear points seem to span through rounding is far below, any polygon meant as one above."""

_ANNOTATIONS_AT_ONCE = 20_000
_LONGEST_NUMBER = 7
"""Characters of 5 bits that a run length below 2 ** 31 can take in a compressed string."""


@dataclass
class Masks:
    """What the segmentations of a list of annotations turned out to be, by position in that list.

    Attributes:
        wrong: those of no known form, and why.
        absent: those that are not there: the key is missing, or null.
        empty: those that cover nothing.
        replaced: what to use instead of the file's segmentation: run lengths in compressed form; polygons without
            those that cover nothing.
    """

    wrong: dict[int, str] = field(default_factory=dict)
    absent: set[int] = field(default_factory=set)
    empty: set[int] = field(default_factory=set)
    replaced: dict[int, Any] = field(default_factory=dict)


def examine_masks(segmentations: Sequence[Any], sizes: Sequence[tuple[int, int] | None]) -> Iterator[tuple[int, Masks]]:
    """Look at every segmentation, thousands at once: yields how many are done, and what was found in the latest.

    sizes: (height, width) of each one's image; None where that is unknown, which run lengths then are not held against.
    """
    for start in range(0, len(segmentations), _ANNOTATIONS_AT_ONCE):
        stop = min(start + _ANNOTATIONS_AT_ONCE, len(segmentations))
        yield stop, _examine(range(start, stop), segmentations, sizes)


def _examine(positions: range, segmentations: Sequence[Any], sizes: Sequence[tuple[int, int] | None]) -> Masks:
    masks = Masks()
    with_polygons: list[int] = []
    for position in positions:
        segmentation = segmentations[position]
        if segmentation is None:
            masks.absent.add(position)
        elif segmentation == []:
            masks.empty.add(position)
        elif type(segmentation) is dict:
            try:
                masks.replaced[position], area = compress(segmentation, sizes[position])
            except ValueError as error:
                masks.wrong[position] = str(error)
            else:
                if area == 0:
                    masks.empty.add(position)
        elif type(segmentation) is not list or not all(type(polygon) is list for polygon in segmentation):
            masks.wrong[position] = "neither a list of polygons, [[x, y, x, y, …], …], nor run lengths"
        elif any(len(polygon) % 2 for polygon in segmentation):
            masks.wrong[position] = "a polygon with an odd number of coordinates"
        else:
            with_polygons.append(position)
    _examine_polygons(with_polygons, segmentations, masks)
    return masks


def _examine_polygons(positions: list[int], segmentations: Sequence[Any], masks: Masks) -> None:
    covering = _cover([polygon for position in positions for polygon in segmentations[position]])
    if covering is None:
        if len(positions) == 1:
            masks.wrong[positions[0]] = "a polygon whose coordinates are not all finite numbers"
            return
        for part in (positions[: len(positions) // 2], positions[len(positions) // 2 :]):
            _examine_polygons(part, segmentations, masks)
        return
    if covering.all():
        return
    flags = iter(covering.tolist())
    for position in positions:
        polygons = segmentations[position]
        kept = [polygon for polygon in polygons if next(flags)]
        if not kept:
            masks.empty.add(position)
        elif len(kept) < len(polygons):
            masks.replaced[position] = kept


def _cover(polygons: list[list[Any]]) -> np.ndarray | None:
    """Whether each polygon covers anything, bool (N,); None if a coordinate is no finite number.

    A polygon covers nothing if all the triangles that its first point spans with the sides are flat. Unlike the
    enclosed area, their sum does not cancel out where a polygon crosses itself.
    """
    lengths = np.array([len(polygon) // 2 for polygon in polygons], dtype=np.int64)
    covering = lengths >= 3
    try:
        flat = np.array(list(chain.from_iterable(polygons)))
    except ValueError:
        return None
    if flat.size == 0:
        return covering
    if flat.ndim != 1 or flat.dtype.kind not in "iuf" or not np.isfinite(flat).all():
        return None
    points = flat.reshape(-1, 2).astype(np.float64)
    filled = np.flatnonzero(lengths)
    starts = (np.cumsum(lengths) - lengths)[filled]
    points -= np.repeat(points[starts], lengths[filled], axis=0)
    x, y = points[:-1, 0], points[:-1, 1]
    next_x, next_y = points[1:, 0], points[1:, 1]
    # From a polygon's last point to the next polygon's first, which is now at 0: nothing is added there.
    doubled = np.append(np.abs(x * next_y - y * next_x), 0.0)
    covering[filled] &= np.add.reduceat(doubled, starts) > 2 * SMALLEST_AREA
    return covering


def compress(segmentation: dict[str, Any], size: tuple[int, int] | None) -> tuple[dict[str, Any], int]:
    """Bring run lengths to COCO's compressed form, `{"size": [height, width], "counts": str}`.

    Returns that and the number of pixels that they cover. `size` is the image's (height, width), None if unknown.
    Raises ValueError, with the reason alone, if they are not run lengths of a mask of that size.
    """
    shape, counts = segmentation.get("size"), segmentation.get("counts")
    if type(shape) is not list or len(shape) != 2 or not all(type(side) is int and side > 0 for side in shape):
        raise ValueError('run lengths without "size": [height, width]')
    if size is not None and tuple(shape) != size:
        raise ValueError(f"run lengths of a mask of {in_words(*shape)} for an image of {in_words(*size)} pixels")
    pixels = shape[0] * shape[1]
    if type(counts) is str:
        runs = _decode_counts(counts)
    elif type(counts) is list and counts and all(type(run) is int and 0 <= run <= pixels for run in counts):
        runs = np.array(counts)
    else:
        raise ValueError('run lengths whose "counts" are neither a text nor whole numbers within the mask')
    if runs.min() < 0 or runs.sum() != pixels:
        raise ValueError(f"run lengths that do not add up to {in_words(*shape)} pixels")
    if type(counts) is list:
        counts = mask_codec.frPyObjects(segmentation, *shape)["counts"].decode("ascii")
    return {"size": shape, "counts": counts}, int(runs[1::2].sum())


def _decode_counts(text: str) -> np.ndarray:
    """The run lengths in COCO's compressed text, int64 (R,).

    A character carries 5 bits and whether another follows, the low bits first; the last one's highest bit is the sign.
    From the fourth on, a run is written as the difference to the last but one (cocodataset/cocoapi,
    common/maskApi.c). That decoder itself reads past the end of a text that breaks off, so it must not see one.
    """
    codes = np.frombuffer(text.encode(errors="surrogatepass"), dtype=np.uint8).astype(np.int64) - ord("0")
    if codes.size == 0 or codes.min() < 0 or codes.max() >= 64 or codes[-1] & 32:
        raise ValueError("compressed run lengths that break off or hold foreign characters")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST_NUMBER:
        raise ValueError("compressed run lengths beyond any image")
    places = np.arange(codes.size) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << 5 * places, starts)
    runs -= np.where(codes[ends] & 16, 1 << 5 * lengths, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
