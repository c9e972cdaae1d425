"""Scenes in COCO's format: numbered images, and one JSON file with the objects of all images of a split.

Every object of a scene is annotated: by construction each shows a good part of itself. Most masks are polygons; some
are run lengths, plain or compressed, as other tools write them; crowds are plain run lengths, as in COCO.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from pycocotools import mask as run_lengths

from benchmarks.mini.compositions import Mask
from benchmarks.mini.files import write_image
from benchmarks.mini.layouts import Batch, Layout, card
from benchmarks.mini.materials import Level
from benchmarks.mini.scenes import COCO_SPLITS, Instance, draw_scattered_scene
from benchmarks.mini.shapes import SHAPES
from tasks.datasets.identity import CARD

FOLDER = "coco"
YEARS = dict(zip(COCO_SPLITS, ("train2017", "val2017"), strict=True))
# The numbers have a gap, as COCO's have.
CATEGORY_IDS = dict(zip(SHAPES, (1, 2, 3, 4, 6, 7, 8, 9), strict=True))
# Of so many annotations one has plain, and one compressed run lengths.
RUN_LENGTHS_EVERY = 10
# An image's annotations are numbered from this multiple of its own number.
MOST_ANNOTATIONS = 10


@dataclass
class CocoRecords:
    """What the JSON file says of some images."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)


def image_path(split: str, index: int) -> Path:
    """Where a scene lies below the root: the images of a split are numbered from 1."""
    return Path(FOLDER, YEARS[split], f"{index + 1:012d}.jpg")


def annotation_path(split: str) -> Path:
    """Where the JSON file of a split lies below the root."""
    return Path(FOLDER, "annotations", f"instances_{YEARS[split]}.json")


def write_scenes(root: Path, batch: Batch) -> tuple[int, CocoRecords]:
    """Write the images that are missing; return how many, and the records of all of them."""
    records, drawn = CocoRecords(), 0
    for index in batch.indices:
        scene = draw_scattered_scene(batch.seed, batch.split, index, batch.level, batch.image_size)
        path = root / image_path(batch.split, index)
        if not path.exists():
            write_image(path, scene.image)
            drawn += 1
        height, width, _ = scene.image.shape
        records.images.append({"id": index + 1, "file_name": path.name, "height": height, "width": width})
        for number, instance in enumerate(scene.instances, start=1):
            records.annotations.append(annotate(instance, index + 1, MOST_ANNOTATIONS * (index + 1) + number))
    return drawn, records


def coco_files(name: str, level: Level, records: dict[str, list[CocoRecords]]) -> dict[Path, str]:
    """The JSON file of each split, and the card that names the folder."""
    name = f"{name}-coco"
    files = {
        annotation_path(split): json.dumps(annotation_file(parts, f"{name}, {split}"))
        for split, parts in records.items()
    }
    return files | {Path(FOLDER, CARD): card(name)}


def annotation_file(records: list[CocoRecords], description: str) -> dict[str, Any]:
    """The content of a split's JSON file."""
    categories = [{"id": number, "name": shape, "supercategory": "shape"} for shape, number in CATEGORY_IDS.items()]
    return {
        "info": {"description": description},
        "licenses": [],
        "images": [image for part in records for image in part.images],
        "annotations": [annotation for part in records for annotation in part.annotations],
        "categories": categories,
    }


def annotate(instance: Instance, image_id: int, annotation_id: int) -> dict[str, Any]:
    """COCO's record of one object; area and box are those of its visible pixels."""
    compressed = run_lengths.encode(np.asfortranarray(instance.mask, dtype=np.uint8))
    turn = (annotation_id + image_id) % RUN_LENGTHS_EVERY
    segmentation: dict[str, Any] | list[list[float]]
    if instance.crowd or turn == 0:
        segmentation = {"size": list(instance.mask.shape), "counts": _counts(instance.mask)}
    elif turn == 1:
        segmentation = {"size": list(instance.mask.shape), "counts": compressed["counts"].decode()}
    else:
        segmentation = trace(instance.mask)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": CATEGORY_IDS[instance.shape],
        "iscrowd": int(instance.crowd),
        "bbox": run_lengths.toBbox(compressed).tolist(),
        "area": int(instance.mask.sum()),
        "segmentation": segmentation,
    }


def _counts(mask: Mask) -> list[int]:
    """The lengths of the runs of equal pixels, down the columns, the first of them (perhaps none) not in the mask."""
    pixels = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(pixels[1:] != pixels[:-1])
    return np.diff(np.concatenate([[0], starts, [mask.size]])).tolist()


def trace(mask: Mask) -> list[list[float]]:
    """The polygons round the pixels of a mask (H, W), each x, y, x, y, …, with pixel corners at whole numbers.

    COCO's polygons know no holes: a mask with one is cut through it, and each side traced.
    """
    framed = np.pad(mask, 1).astype(np.float32)
    regions: Any = contour_generator(z=framed, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    for points, offsets in zip(*regions, strict=True):
        if len(offsets) > 2:
            hole = points[offsets[1] : offsets[2]]
            cut = int(hole[:, 0].mean())
            left, right = mask.copy(), mask.copy()
            left[:, cut:] = False
            right[:, :cut] = False
            return trace(left) + trace(right)
    # The frame moved the pixels by 1, and their centres lie at halves.
    return [_corners(points - 0.5).ravel().tolist() for points in regions[0]]


def _corners(closed: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points (N, 2) of a closed outline, the last of them the first again, at which it turns."""
    points = closed[:-1]
    arriving, leaving = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = arriving[:, 0] * leaving[:, 1] != arriving[:, 1] * leaving[:, 0]
    return points[turns]


COCO = Layout(COCO_SPLITS, write_scenes, coco_files)
