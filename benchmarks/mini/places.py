"""Scenes as Places205 and Places365-Standard are distributed: images in folders, and lists with a number for each.

A class is a background; of every second one it is told whether objects stand before it, as Places tells church/indoor
from church/outdoor. The numbers are in no order of the names.
"""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from benchmarks.mini.files import write_image
from benchmarks.mini.layouts import Batch, Layout
from benchmarks.mini.materials import BACKGROUNDS, Level, surfaces_of
from benchmarks.mini.scenes import draw_place

IMAGES_205 = Path("data/vision/torralba/deeplearning/images256")
LISTS_205 = Path("trainvalsplit_places205")


@dataclass(frozen=True)
class Place:
    """A class. furnished: whether objects stand there, None for with and without them by turns."""

    background: str
    furnished: bool | None

    @property
    def folder(self) -> str:
        """As the lists name it: f/fog/bare."""
        variant = {None: "", True: "/furnished", False: "/bare"}[self.furnished]
        return f"{self.background[0]}/{self.background}{variant}"


def places_of(level: Level) -> list[Place]:
    """The classes in the order of their numbers."""
    places = []
    for number, background in enumerate(sorted(surfaces_of(BACKGROUNDS, level))):
        places += [Place(background, kind) for kind in ((False, True) if number % 2 == 0 else (None,))]
    return [*places[1::2], *places[::2]]


def _draw(batch: Batch, index: int, path: Path) -> int:
    """Draw the scene if its file is missing; the number of scenes drawn."""
    if path.exists():
        return 0
    places = places_of(batch.level)
    place, turn = places[index % len(places)], index // len(places)
    furnished = turn % 2 == 0 if place.furnished is None else place.furnished
    scene = draw_place(batch.seed, batch.split, index, place.background, furnished, batch.level, batch.image_size)
    write_image(path, scene.image)
    return 1


def name_205(level: Level, split: str, index: int) -> str:
    """As the lists of Places205 name a scene: f/fog/bare/gsun_DIGITS.jpg."""
    places = places_of(level)
    digits = blake2b(f"{split} {index}".encode(), digest_size=16).hexdigest()
    return f"{places[index % len(places)].folder}/gsun_{digits}.jpg"


def write_205(root: Path, batch: Batch) -> tuple[int, range]:
    """Draw the scenes whose files are missing; return how many, and the batch's scenes."""
    names = {index: name_205(batch.level, batch.split, index) for index in batch.indices}
    return sum(_draw(batch, index, root / IMAGES_205 / name) for index, name in names.items()), batch.indices


def lists_205(name: str, level: Level, records: dict[str, list[range]]) -> dict[Path, str]:
    """The list of each split."""
    number = len(places_of(level))
    return {
        LISTS_205 / f"{split.removeprefix('places205_')}_places205.csv": "".join(
            f"{name_205(level, split, index)} {index % number}\n" for part in parts for index in part
        )
        for split, parts in records.items()
    }


def path_365(level: Level, split: str, index: int) -> Path:
    """Where a scene lies: training images in the folders of their classes, the others in one."""
    if split == "places365_val":
        return Path("val_256", f"Places365_val_{index + 1:08d}.jpg")
    places = places_of(level)
    return Path("data_256", places[index % len(places)].folder, f"{index // len(places) + 1:08d}.jpg")


def write_365(root: Path, batch: Batch) -> tuple[int, range]:
    """Draw the scenes whose files are missing; return how many, and the batch's scenes."""
    paths = {index: root / path_365(batch.level, batch.split, index) for index in batch.indices}
    return sum(_draw(batch, index, path) for index, path in paths.items()), batch.indices


def lists_365(name: str, level: Level, records: dict[str, list[range]]) -> dict[Path, str]:
    """The list of each split, and that of the classes."""
    places = places_of(level)
    lines: dict[str, list[str]] = {split: [] for split in records}
    for split, parts in records.items():
        for index in (index for part in parts for index in part):
            path = path_365(level, split, index)
            listed = path.name if split == "places365_val" else f"/{path.relative_to('data_256').as_posix()}"
            lines[split].append(f"{listed} {index % len(places)}\n")
    return {
        Path("places365_train_standard.txt"): "".join(lines["places365_train"]),
        Path("places365_val.txt"): "".join(lines["places365_val"]),
        Path("categories_places365.txt"): "".join(f"/{place.folder} {at}\n" for at, place in enumerate(places)),
    }


PLACES = {
    "places205": Layout(("places205_train", "places205_val"), write_205, lists_205),
    "places365": Layout(("places365_train", "places365_val"), write_365, lists_365),
}
