"""The generated counterparts of the data sets of the paper's third table, each in its own folder and layout."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from benchmarks.mini.completing import DRAWING_VERSION, Wanted, complete
from benchmarks.mini.inaturalist import INATURALIST, NUMBER_OF_SPECIES, species_of
from benchmarks.mini.layouts import Layout
from benchmarks.mini.materials import Level
from benchmarks.mini.places import PLACES, places_of

TRANSFER_SETS: dict[str, Layout[Any]] = {**INATURALIST, **PLACES}
FEWEST_IMAGES = NUMBER_OF_SPECIES

README = """\
Generated images in the layout of {set}: {train} to train on, {val} to evaluate on, {classes} classes.
{what}

dataset.json has its name, and the settings from which `backbench data mini` draws these same images again.
Level {level}, seed {seed}, {image_size} x {image_size} pixels. Drawing version {version}.
"""
SPECIES = (
    "A species is a shape of one material. Few have most of the training images; all have as many to evaluate on. The\n"
    "class of an image is the category_id of its annotation, whatever its folder."
)
SCENES = "A class is a background, of some of them with objects or without. The lists have the class of each image."


@dataclass(frozen=True)
class TransferSummary:
    """What lies in `root` now, and how many of the images this call drew."""

    root: Path
    classes: tuple[str, ...]
    train: int
    val: int
    drawn: int


def write_transfer_set(
    root: Path,
    name: str,
    *,
    train: int = 480,
    val: int = 80,
    seed: int = 0,
    level: Level = "smooth",
    image_size: int = 56,
    processes: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> TransferSummary:
    """Draw the counterpart of one of TRANSFER_SETS into `root`, named "mini-NAME" for the records.

    What holds for `write_mini` holds here: the same bytes from the same arguments, completed after an interruption,
    larger on request. Raises InputError as it does.
    """
    for split, count in {"train": train, "val": val}.items():
        if count < FEWEST_IMAGES:
            raise InputError(f"{name} {split} {count}: expected at least {FEWEST_IMAGES}, one image per class.")
    manifest = {
        "version": DRAWING_VERSION,
        "seed": seed,
        "level": level,
        "image_size": image_size,
        "train": train,
        "val": val,
        "name": f"mini-{name}" if level == "smooth" else f"mini-{level}-{name}",
    }
    species = name in INATURALIST
    classes = tuple(each.name for each in species_of(level)) if species else _scenes(level)
    readme = README.format(set=name, classes=len(classes), what=SPECIES if species else SCENES, **manifest)
    scenes = {f"{name}_train": train, f"{name}_val": val}
    wanted = Wanted(manifest, ("train", "val"), scenes, (TRANSFER_SETS[name],), readme)
    drawn = complete(root, wanted, processes, on_progress)
    return TransferSummary(root, classes, train, val, drawn)


def _scenes(level: Level) -> tuple[str, ...]:
    return tuple(place.folder for place in places_of(level))
