"""Scenes of one dominant object in ImageNet's layout: a folder for each class, and one of unlabelled images."""

from pathlib import Path

from benchmarks.mini.files import write_image
from benchmarks.mini.layouts import Batch, Layout
from benchmarks.mini.materials import Level
from benchmarks.mini.scenes import SPLITS, draw_scene, shape_of
from benchmarks.mini.shapes import SHAPES

# One file in so many is a PNG, taking turns over the classes, so that both decoders are used.
PNG_EVERY = 16


def image_path(split: str, index: int) -> Path:
    """Where a scene lies below the root: SPLIT/CLASS/NUMBER.jpg, without the class where there are no labels."""
    folder = Path(split) if split == "unlabelled" else Path(split, shape_of(index))
    suffix = "png" if index // len(SHAPES) % PNG_EVERY == PNG_EVERY - 1 else "jpg"
    return folder / f"{index:06d}.{suffix}"


def write_scenes(root: Path, batch: Batch) -> tuple[int, None]:
    """Draw the scenes whose files are missing and return how many."""
    drawn = 0
    for index in batch.indices:
        path = root / image_path(batch.split, index)
        if not path.exists():
            scene = draw_scene(batch.seed, batch.split, index, batch.level, batch.image_size)
            write_image(path, scene.image)
            drawn += 1
    return drawn, None


def class_list(name: str, level: Level, records: dict[str, list[None]]) -> dict[Path, str]:
    """The file that names the classes, one a line, in the order of their numbers."""
    return {Path("classes.txt"): "".join(f"{shape}\n" for shape in SHAPES)}


IMAGENET = Layout(SPLITS, write_scenes, class_list)
