"""Writing the generated data in the layouts of ImageNet, COCO and ADE20K, completely and once."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from backbones.errors import InputError, not_written
from benchmarks.mini.ade20k import ADE20K
from benchmarks.mini.coco import COCO
from benchmarks.mini.files import write_text
from benchmarks.mini.imagenet import IMAGENET
from benchmarks.mini.layouts import Batch, Layout
from benchmarks.mini.materials import LEVELS, Level
from benchmarks.mini.processes import work_through
from benchmarks.mini.scenes import ALL_SPLITS, SCATTERED_SPLITS
from benchmarks.mini.shapes import SHAPES
from tasks.datasets.identity import CARD

LAYOUTS: tuple[Layout[Any], ...] = (IMAGENET, COCO, ADE20K)
# Raised whenever the same seed would draw other images.
DRAWING_VERSION = 3
MANIFEST = CARD
UNFINISHED_MANIFEST = f"{CARD}.unfinished"
SMALLEST_SIDE = 16
SCENES_PER_BATCH = 250

README = """\
Generated images: one dominant object per image, whose shape is the label ({classes}).
Materials, colours, backgrounds, pose, size, light and the smaller objects beside it are independent of the label.

train/CLASS/       {train} labelled images to fine-tune on
val/CLASS/         {val} labelled images to evaluate on
unlabelled/        {unlabelled} images to pre-train on
classes.txt        the classes, one a line, in the order of their numbers
dataset.json       its name, and the settings from which `backbench data mini` draws these same images again

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
class _Settings:
    """What decides the files; the manifest holds it, and names the data set for the records."""

    version: int
    seed: int
    level: Level
    image_size: int
    train: int
    val: int
    unlabelled: int
    coco_train: int
    coco_val: int
    ade_train: int
    ade_val: int
    name: str

    def count(self, split: str) -> int:
        return int(getattr(self, split))


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
    settings = _Settings(version=DRAWING_VERSION, seed=seed, level=level, image_size=image_size, name=name, **counts)
    _check(settings)
    if processes < 1:
        raise InputError(f"processes {processes}: expected at least 1.")
    drawn = 0
    try:
        if not _is_complete(root, settings):
            drawn = _write(root, settings, processes, on_progress)
    except OSError as error:
        message = f"{root}: cannot write the generated data: {error.strerror or error}."
        raise not_written(message, error.errno) from error
    return MiniSummary(root=root, classes=SHAPES, level=level, image_size=image_size, drawn=drawn, **counts)


def _check(settings: _Settings) -> None:
    if settings.level not in LEVELS:
        raise InputError(f'level "{settings.level}": no such level of the generated data. Known: {", ".join(LEVELS)}.')
    if settings.seed < 0:
        raise InputError(f"seed {settings.seed}: expected 0 or more.")
    if settings.image_size < SMALLEST_SIDE:
        raise InputError(f"image size {settings.image_size}: expected at least {SMALLEST_SIDE} pixels.")
    for split in ("train", "val"):
        if settings.count(split) < len(SHAPES):
            raise InputError(f"{split} {settings.count(split)}: expected at least {len(SHAPES)}, one image per class.")
    if settings.unlabelled < 0:
        raise InputError(f"unlabelled {settings.unlabelled}: expected 0 or more.")
    for split in SCATTERED_SPLITS:
        if settings.count(split) < 1:
            raise InputError(f"{split.replace('_', ' ')} {settings.count(split)}: expected at least 1.")


def _is_complete(root: Path, wanted: _Settings) -> bool:
    """Whether `root` holds exactly what is wanted. Raises InputError if what it holds cannot become that."""
    if not root.exists():
        return False
    manifest = next((root / name for name in (UNFINISHED_MANIFEST, MANIFEST) if (root / name).exists()), None)
    if manifest is None:
        if any(root.iterdir()):
            raise InputError(f"{root}: not empty, and not written by `backbench data mini`. Choose a new folder.")
        return False
    try:
        present = _Settings(**json.loads(manifest.read_bytes()))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{manifest}: not a manifest of this version of `backbench data mini`. Choose a new folder."
        ) from error
    for key, value in asdict(wanted).items():
        before = getattr(present, key)
        grows = key in ALL_SPLITS and before <= value
        if before != value and not grows:
            raise InputError(f"{root}: holds generated data with {key} {before}, not {value}. Choose a new folder.")
    return manifest.name == MANIFEST and present == wanted


def _write(root: Path, settings: _Settings, processes: int, on_progress: Callable[[int, int], None] | None) -> int:
    """Draw what is missing; the manifest takes its final name when all is there."""
    root.mkdir(parents=True, exist_ok=True)
    unfinished = root / UNFINISHED_MANIFEST
    write_text(unfinished, json.dumps(asdict(settings), indent=2) + "\n")
    batches = _batches(settings)
    total = sum(len(batch.indices) for batch in batches)
    finished = drawn = 0
    records: dict[Batch, Any] = {}
    for batch, (newly_drawn, records[batch]) in work_through(batches, partial(_draw, root), processes):
        finished += len(batch.indices)
        drawn += newly_drawn
        if on_progress is not None:
            on_progress(finished, total)
    for layout in LAYOUTS:
        by_split = {split: [records[batch] for batch in batches if batch.split == split] for split in layout.splits}
        for path, text in layout.closing_files(settings.name, settings.level, by_split).items():
            write_text(root / path, text)
    write_text(root / "README.txt", README.format(classes=", ".join(SHAPES), **asdict(settings)))
    unfinished.replace(root / MANIFEST)
    return drawn


def _batches(settings: _Settings) -> list[Batch]:
    """All scenes of all splits, those of a split in order."""
    return [
        Batch(settings.seed, split, scenes[start : start + SCENES_PER_BATCH], settings.level, settings.image_size)
        for split in ALL_SPLITS
        for scenes in [range(settings.count(split))]
        for start in scenes[::SCENES_PER_BATCH]
    ]


def _draw(root: Path, batch: Batch) -> tuple[int, Any]:
    layout = next(layout for layout in LAYOUTS if batch.split in layout.splits)
    return layout.write(root, batch)
