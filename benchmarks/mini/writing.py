"""Writing the generated data in the layouts of ImageNet, COCO and ADE20K, completely and once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from benchmarks.mini.ade20k import ADE20K
from benchmarks.mini.coco import COCO
from benchmarks.mini.completing import DRAWING_VERSION, Wanted, complete
from benchmarks.mini.imagenet import IMAGENET
from benchmarks.mini.layouts import Layout
from benchmarks.mini.materials import Level
from benchmarks.mini.scenes import MAIN_SPLITS, SCATTERED_SPLITS
from benchmarks.mini.shapes import SHAPES

LAYOUTS: tuple[Layout[Any], ...] = (IMAGENET, COCO, ADE20K)

README = """\
Generated images: one dominant object per image, whose shape is the label ({classes}).
Materials, colours, backgrounds, pose, size, light and the smaller objects beside it are independent of the label.

train/CLASS/       {train} labelled images to fine-tune on
val/CLASS/         {val} labelled images to evaluate on
unlabelled/        {unlabelled} images to pre-train on
classes.txt        the classes, one a line, in the order of their numbers
dataset.json       its name, and the settings from which `backbench data mini` draws these same images again
site.yaml          where each of the sets is, for `backbench suite`
weights/           unless left out: random numbers in place of pre-trained weights, which mean nothing

coco/ holds the same kinds of objects in COCO's layout, several in an image, each with its box and mask. A few images
are empty; a few show a crowd, many small objects of a shape, annotated as one with iscrowd 1.

coco/train2017/, coco/annotations/instances_train2017.json      {coco_train} images to train on
coco/val2017/, coco/annotations/instances_val2017.json          {coco_val} images to evaluate on

ade20k/ holds such images in ADE20K's layout, each with a map of what its pixels show: the material of an object, or
the background. Label 0 stands for no class, as in crowds; objectInfo*.txt names the others.

ade20k/images/training/, ade20k/annotations/training/           {ade_train} images to train on
ade20k/images/validation/, ade20k/annotations/validation/       {ade_val} images to evaluate on

Level {level}, seed {seed}, {image_size} x {image_size} pixels (in coco/ and ade20k/, other sizes).
Drawing version {version}.
"""


@dataclass(frozen=True)
class MiniSummary:
    """What lies in `root` now: the number of images in each split, and how many of them this call drew."""

    root: Path
    classes: tuple[str, ...]
    level: Level
    image_size: int
    train: int
    val: int
    unlabelled: int
    coco_train: int
    coco_val: int
    ade_train: int
    ade_val: int
    drawn: int


def write_mini(
    root: Path,
    *,
    seed: int = 0,
    unlabelled: int = 12_000,
    train: int = 1_000,
    val: int = 2_000,
    coco_train: int = 1_000,
    coco_val: int = 500,
    ade_train: int = 1_000,
    ade_val: int = 500,
    level: Level = "smooth",
    image_size: int = 56,
    processes: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> MiniSummary:
    """Draw the data set into `root`: train/CLASS, val/CLASS and unlabelled, with classes.txt; and coco/ and ade20k/.

    These two are data sets in the layouts of COCO and ADE20K, with cards of their own. `image_size` is the side of all
    other images, and decides the size of the objects in all of them.

    The same arguments give the same bytes, whatever the number of processes. A call that was cut short is completed by
    the next, a complete set is recognised and left as it is, and a larger number of images is added to what is there.
    `on_progress` is called with the numbers of finished and of all images.

    Raises InputError if an argument is out of range, or if `root` holds anything else, fewer images were asked for than
    it holds, or it cannot be written.
    """
    name = "mini" if level == "smooth" else f"mini-{level}"
    counts = {
        "train": train,
        "val": val,
        "unlabelled": unlabelled,
        "coco_train": coco_train,
        "coco_val": coco_val,
        "ade_train": ade_train,
        "ade_val": ade_val,
    }
    _check_counts(counts)
    manifest = {"version": DRAWING_VERSION, "seed": seed, "level": level, "image_size": image_size, **counts}
    readme = README.format(classes=", ".join(SHAPES), **manifest)
    wanted = Wanted(manifest | {"name": name}, MAIN_SPLITS, counts, LAYOUTS, readme)
    drawn = complete(root, wanted, processes, on_progress)
    return MiniSummary(root=root, classes=SHAPES, level=level, image_size=image_size, drawn=drawn, **counts)


def _check_counts(counts: Mapping[str, int]) -> None:
    for split in ("train", "val"):
        if counts[split] < len(SHAPES):
            raise InputError(f"{split} {counts[split]}: expected at least {len(SHAPES)}, one image per class.")
    if counts["unlabelled"] < 0:
        raise InputError(f"unlabelled {counts['unlabelled']}: expected 0 or more.")
    for split in SCATTERED_SPLITS:
        if counts[split] < 1:
            raise InputError(f"{split.replace('_', ' ')} {counts[split]}: expected at least 1.")
