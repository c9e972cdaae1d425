"""Scenes in ADE20K's layout: numbered images, for each a map of what its pixels show, and the list of the classes.

The classes are the materials of the objects and the backgrounds. Each pixel has that of the object visible there, or
of the background; crowds have none, as what ADE20K calls "other".
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.mini.files import write_image
from benchmarks.mini.layouts import Batch, Layout, card
from benchmarks.mini.materials import BACKGROUNDS, MATERIALS, Level, surfaces_of
from benchmarks.mini.scenes import ADE20K_SPLITS, Scene, draw_scattered_scene
from tasks.datasets.identity import CARD

FOLDER = "ade20k"
# The splits' names in ADE20K: those of the folders, and those within the file names.
FOLDER_NAMES = dict(zip(ADE20K_SPLITS, ("training", "validation"), strict=True))
FILE_NAMES = dict(zip(ADE20K_SPLITS, ("train", "val"), strict=True))
# The label of pixels without a class; the classes are numbered from 1.
OTHER = 0


@dataclass(frozen=True)
class ClassCounts:
    """In how many images each label occurs, and in how many pixels, (1 + classes,) both, the first that of no class."""

    images: NDArray[np.int64]
    pixels: NDArray[np.int64]


def classes_of(level: Level) -> list[str]:
    """The classes in the order of their numbers: the materials, then the backgrounds."""
    return [*surfaces_of(MATERIALS, level), *surfaces_of(BACKGROUNDS, level)]


def image_path(split: str, index: int) -> Path:
    """Where a scene lies below the root: the images of a split are numbered from 1."""
    return Path(FOLDER, "images", FOLDER_NAMES[split], f"ADE_{FILE_NAMES[split]}_{index + 1:08d}.jpg")


def annotation_path(split: str, index: int) -> Path:
    """Where a scene's label map lies below the root."""
    return Path(FOLDER, "annotations", FOLDER_NAMES[split], image_path(split, index).with_suffix(".png").name)


def label_map(scene: Scene, level: Level) -> NDArray[np.uint8]:
    """The label of each pixel of a scene of this level, (H, W)."""
    numbers = {name: number for number, name in enumerate(classes_of(level), start=1)}
    labels = np.full(scene.image.shape[:2], numbers[scene.background], np.uint8)
    for instance in scene.instances:
        labels[instance.mask] = OTHER if instance.crowd else numbers[instance.material]
    return labels


def write_scenes(root: Path, batch: Batch) -> tuple[int, ClassCounts]:
    """Write the images and label maps that are missing; return of how many scenes, and the counts of all of them."""
    drawn = 0
    images, pixels = np.zeros((2, 1 + len(classes_of(batch.level))), np.int64)
    for index in batch.indices:
        scene = draw_scattered_scene(batch.seed, batch.split, index, batch.level, batch.image_size)
        labels = label_map(scene, batch.level)
        contents = {image_path(batch.split, index): scene.image, annotation_path(batch.split, index): labels}
        missing = [path for path in contents if not (root / path).exists()]
        for path in missing:
            write_image(root / path, contents[path])
        drawn += bool(missing)
        counts = np.bincount(labels.ravel(), minlength=len(pixels))
        pixels += counts
        images += counts > 0
    return drawn, ClassCounts(images, pixels)


def ade20k_files(name: str, level: Level, records: dict[str, list[ClassCounts]]) -> dict[Path, str]:
    """The list of the classes, and the card that names the folder."""
    classes = Path(FOLDER, f"objectInfo{len(classes_of(level))}.txt")
    return {classes: object_info(level, records), Path(FOLDER, CARD): card(f"{name}-ade20k")}


def object_info(level: Level, records: dict[str, list[ClassCounts]]) -> str:
    """The table of the classes, separated by tabs, with the columns of ADE20K's own.

    Idx: the label; Ratio: the class's share of all pixels of both splits; Train, Val: the number of each split's images
    that show it; Name.
    """
    pixels = np.sum([part.pixels for parts in records.values() for part in parts], axis=0)
    train, val = (np.sum([part.images for part in records[split]], axis=0) for split in ADE20K_SPLITS)
    rows = ["Idx\tRatio\tTrain\tVal\tName"]
    for label, name in enumerate(classes_of(level), start=1):
        ratio = pixels[label] / pixels.sum()
        rows.append(f"{label}\t{ratio:.4f}\t{train[label]}\t{val[label]}\t{name}")
    return "".join(f"{row}\n" for row in rows)


ADE20K = Layout(ADE20K_SPLITS, write_scenes, ade20k_files)
