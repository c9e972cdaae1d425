"""Scenes as iNaturalist 2017, 2018 and 2019 are distributed: images in folders, a JSON file for each split.

A species is a shape of one material, its genus the shape; families of shapes are the supercategories. Few species have
most of the training images, and all have as many to evaluate on. Ids are sparse and in no order, neither are
annotations in that of the images, and the names of 2018 and 2019 stand in categories.json alone.
"""

import json
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.mini.files import write_image
from benchmarks.mini.layouts import Batch, Layout
from benchmarks.mini.materials import MATERIALS, Level, surfaces_of
from benchmarks.mini.scenes import draw_species
from benchmarks.mini.shapes import SHAPES

SUPERCATEGORIES = {
    "Pointed": ("arrow", "star", "triangle"),
    "Rectangular": ("cross", "square"),
    "Round": ("crescent", "heart", "ring"),
}
MATERIALS_PER_SHAPE = 2
NUMBER_OF_SPECIES = MATERIALS_PER_SHAPE * len(SHAPES)
# Each species has this share of the training images of the next more frequent one.
TAIL = 0.75
# The fractions of its multiples are spread evenly over 0 to 1, however many there are.
GOLDEN_RATIO = (5**0.5 - 1) / 2
# Numbers are multiplied by one number modulo a prime, by which different ones stay different.
FACTOR, PRIME = 618_033, 1_000_003


@dataclass(frozen=True)
class Species:
    """A class: the shape that it has in the scenes, their material, and as what the files know it."""

    id: int
    shape: str
    material: str
    supercategory: str

    @property
    def genus(self) -> str:
        return self.shape.capitalize()

    @property
    def name(self) -> str:
        return f"{self.genus} {self.material}"


@dataclass(frozen=True)
class Year:
    """One of the competitions. images: the folder of all images; named: whether its folders have names, not ids."""

    number: int
    images: str
    named: bool = False

    @property
    def splits(self) -> tuple[str, str]:
        return f"inat{self.number}_train", f"inat{self.number}_val"


YEARS = (Year(2017, "train_val_images", named=True), Year(2018, "train_val2018"), Year(2019, "train_val2019"))


def species_of(level: Level) -> list[Species]:
    """The species from the most frequent to the least frequent one."""
    materials = [*surfaces_of(MATERIALS, level)]
    found = []
    for rank in range(NUMBER_OF_SPECIES):
        number = (5 * rank + 3) % NUMBER_OF_SPECIES
        shape = SHAPES[number // MATERIALS_PER_SHAPE]
        family = next(name for name, shapes in SUPERCATEGORIES.items() if shape in shapes)
        found.append(Species(3 + 7 * ((11 * rank + 6) % 17), shape, materials[number % len(materials)], family))
    return found


def rank_of(split: str, index: int) -> int:
    """Of which species a scene is. The first of a split show each once; then its frequency decides, in training."""
    if index < NUMBER_OF_SPECIES or split.endswith("val"):
        return index % NUMBER_OF_SPECIES
    shares = [TAIL**rank for rank in range(NUMBER_OF_SPECIES)]
    place = (index * GOLDEN_RATIO % 1) * sum(shares)
    return next(rank for rank, reached in enumerate(accumulate(shares)) if place < reached)


def file_name(year: Year, species: Species, split: str, index: int) -> str:
    """As the JSON file has it, from the root on: IMAGES/SUPERCATEGORY/SPECIES/DIGITS.jpg."""
    digits = blake2b(f"{split} {index}".encode(), digest_size=16).hexdigest()
    return f"{year.images}/{species.supercategory}/{species.name if year.named else species.id}/{digits}.jpg"


def write_scenes(year: Year, root: Path, batch: Batch) -> tuple[int, tuple[range, int]]:
    """Draw the scenes whose files are missing; return how many, the batch's scenes, and the images' side."""
    drawn, species = 0, species_of(batch.level)
    for index in batch.indices:
        shown = species[rank_of(batch.split, index)]
        path = root / file_name(year, shown, batch.split, index)
        if not path.exists():
            about = (shown.shape, shown.material, batch.level, batch.image_size)
            write_image(path, draw_species(batch.seed, batch.split, index, *about).image)
            drawn += 1
    return drawn, (batch.indices, batch.image_size)


def lists(year: Year, name: str, level: Level, records: dict[str, list[tuple[range, int]]]) -> dict[Path, str]:
    """The JSON file of each split, and the one of the names where they were released later."""
    files = {
        Path(f"{kind}{year.number}.json"): json.dumps(annotation_file(year, split, level, records[split]))
        for kind, split in zip(("train", "val"), year.splits, strict=True)
    }
    if not year.named:
        named = sorted(species_of(level), key=lambda species: species.name)
        files[Path("categories.json")] = json.dumps([category(species, species.name) for species in named])
    return files


def annotation_file(year: Year, split: str, level: Level, parts: list[tuple[range, int]]) -> dict[str, Any]:
    """The content of a split's JSON file."""
    species = species_of(level)
    in_order = sorted(species, key=lambda each: each.id)
    images, annotations = [], []
    for indices, side in parts:
        for index in indices:
            shown = species[rank_of(split, index)]
            number = (2 * index + year.splits.index(split) + 1) * FACTOR % PRIME
            path = file_name(year, shown, split, index)
            about = {"license": 0, "rights_holder": "nobody"}
            images.append({"id": number, "width": side, "height": side, "file_name": path, **about})
            annotations.append({"id": number, "image_id": number, "category_id": shown.id})
    return {
        "info": {"year": year.number, "version": "1", "description": split},
        "images": images,
        "categories": [category(each, each.name if year.named else str(each.id)) for each in in_order],
        "annotations": annotations[::-1],
        "licenses": [{"id": 0, "name": "Apache-2.0", "url": ""}],
    }


def category(species: Species, name: str) -> dict[str, Any]:
    """A species as one of the `categories`; without its own name, without its genus's too."""
    known = {"genus": species.genus} if name == species.name else {}
    return {"id": species.id, "name": name, "supercategory": species.supercategory, **known}


INATURALIST = {
    f"inat{year.number}": Layout(year.splits, partial(write_scenes, year), partial(lists, year)) for year in YEARS
}
