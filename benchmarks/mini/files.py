"""The image files of the generated data: which scene lies where, and how it is encoded."""

import io
from pathlib import Path

import simplejpeg
from PIL import Image

from benchmarks.mini.materials import Level
from benchmarks.mini.scenes import Scene, draw_scene, shape_of
from benchmarks.mini.shapes import SHAPES

# One file in so many is a PNG, taking turns over the classes, so that both decoders are used.
PNG_EVERY = 16
# Full colour resolution: the usual halving would blur objects of this size.
JPEG_QUALITY = 95
JPEG_SUBSAMPLING = "444"


def image_path(split: str, index: int) -> Path:
    """Where a scene lies below the root: SPLIT/CLASS/NUMBER.jpg, without the class where there are no labels."""
    folder = Path(split) if split == "unlabelled" else Path(split, shape_of(index))
    suffix = "png" if index // len(SHAPES) % PNG_EVERY == PNG_EVERY - 1 else "jpg"
    return folder / f"{index:06d}.{suffix}"


def encode(scene: Scene, suffix: str) -> bytes:
    """The scene's image as the content of a .jpg or .png file."""
    if suffix == ".jpg":
        return simplejpeg.encode_jpeg(scene.image, JPEG_QUALITY, colorsubsampling=JPEG_SUBSAMPLING)
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def write_image(path: Path, scene: Scene) -> None:
    """Write the scene's image, a .jpg or .png file by its name, which appears complete or not at all."""
    partial = path.with_suffix(".part")
    partial.write_bytes(encode(scene, path.suffix))
    partial.replace(path)


def write_scenes(root: Path, seed: int, split: str, indices: range, level: Level, image_size: int) -> int:
    """Draw the scenes whose files are missing and return how many."""
    drawn = 0
    for index in indices:
        path = root / image_path(split, index)
        if not path.exists():
            write_image(path, draw_scene(seed, split, index, level, image_size))
            drawn += 1
    return drawn
