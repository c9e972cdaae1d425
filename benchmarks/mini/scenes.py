"""Drawing one scene: shaded objects that hide parts of each other before a background, and their exact masks.

Everything random about a scene comes from (seed, split, index), and the image size enters last: a scene keeps its
composition at any size, and drawing more scenes leaves the earlier ones as they are.
"""

from dataclasses import dataclass
from math import cos, sin, tau

import numpy as np
from numpy.typing import NDArray

from benchmarks.mini.compositions import COMPOSITIONS, SCATTERING, Mask, Placed, place_dominant, place_scattered
from benchmarks.mini.fields import Array, shifted
from benchmarks.mini.materials import BACKGROUNDS, Level, Surface, choose_surface
from benchmarks.mini.shapes import SHAPES

SPLITS = ("train", "val", "unlabelled")
COCO_SPLITS = ("coco_train", "coco_val")
ADE20K_SPLITS = ("ade_train", "ade_val")
SCATTERED_SPLITS = COCO_SPLITS + ADE20K_SPLITS
MAIN_SPLITS = SPLITS + SCATTERED_SPLITS
SPECIES_SPLITS = tuple(f"inat{year}_{split}" for year in (2017, 2018, 2019) for split in ("train", "val"))
PLACES_SPLITS = tuple(f"places{number}_{split}" for number in (205, 365) for split in ("train", "val"))
# A split's place among these is part of the random seed: further ones come last.
ALL_SPLITS = MAIN_SPLITS + SPECIES_SPLITS + PLACES_SPLITS

# Among scattered scenes, one in so many has no object, and one in so many a crowd. Both are coprime to the number of
# shapes, which take turns; they never meet, and the first of each come early, so that small sets have them too.
EMPTY_EVERY, FIRST_EMPTY = 25, 9
CROWD_EVERY, FIRST_CROWD = 15, 3
# The least distance between an object's colour and the background's, and between the two colours of a vivid pattern, in
# the RGB cube with edges of length 1.
CONTRAST = 0.45
# The size of the objects in places, by which several have room, as a share of that in scattered scenes.
PLACES_UNIT = 0.6


@dataclass(frozen=True)
class Instance:
    """One object of a scene, or a crowd: several small ones of one shape, close together.

    mask: its visible pixels, bool (H, W); whole: those it would have if nothing were in front, cut at the image's edge.
    A pixel belongs to an object when its centre does.
    """

    shape: str
    material: str
    mask: Mask
    whole: Mask
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """image: uint8 (H, W, 3) RGB. instances: the objects of which a pixel is visible, the largest `whole` first.

    In a scene of one dominant object this one is the first, and its shape the label.
    """

    image: NDArray[np.uint8]
    instances: tuple[Instance, ...]
    background: str


@dataclass
class _Backdrop:
    """A background that objects are painted on.

    canvas: (3, H, W), mostly within [0, 1]; x, y: the positions of the pixels (H, W) in longer sides from the centre;
    colour: one of the background's; light: the direction it comes from, in radians; vivid: whether the two colours of
    every pattern stand out from each other.
    """

    name: str
    colour: NDArray[np.float64]
    light: float
    x: Array
    y: Array
    canvas: Array
    vivid: bool


def shape_of(index: int) -> str:
    """The label of the scene with this index: the classes take turns."""
    return SHAPES[index % len(SHAPES)]


def draw_scene(seed: int, split: str, index: int, level: Level = "smooth", image_size: int = 64) -> Scene:
    """Draw the scene with this index of a split (one of SPLITS), `image_size` pixels wide and high."""
    rng = np.random.default_rng([seed, ALL_SPLITS.index(split), index])
    backdrop = _backdrop(rng, image_size, image_size, level, vivid=False)
    objects = place_dominant(rng, shape_of(index), backdrop.x, backdrop.y, level)
    return _picture(rng, backdrop, objects, level)


def draw_scattered_scene(seed: int, split: str, index: int, level: Level = "smooth", image_size: int = 64) -> Scene:
    """Draw the scene with this index of a split (one of SCATTERED_SPLITS): several objects in an image of any aspect.

    The objects are about as large, in pixels, as those of `draw_scene` with the same `image_size`; the image's height
    and width are between 80 / 56 and 128 / 56 of it. In ADE20K_SPLITS, whose labels are the materials and backgrounds,
    the two colours of each pattern stand out from each other, so that the labels can be told from the image.
    """
    rng = np.random.default_rng([seed, ALL_SPLITS.index(split), index])
    height, width = (round(image_size * share) for share in rng.uniform(*SCATTERING.sides, 2))
    backdrop = _backdrop(rng, height, width, level, vivid=split in ADE20K_SPLITS)
    objects: list[Placed] = []
    if index % EMPTY_EVERY != FIRST_EMPTY:
        unit, crowd = image_size / max(height, width), index % CROWD_EVERY == FIRST_CROWD
        objects = place_scattered(rng, shape_of(index), backdrop.x, backdrop.y, level, unit=unit, crowd=crowd)
    return _picture(rng, backdrop, objects, level)


def draw_species(
    seed: int, split: str, index: int, shape: str, material: str, level: Level = "smooth", image_size: int = 64
) -> Scene:
    """Draw the scene with this index of a split (one of SPECIES_SPLITS): one object of this shape and this material.

    As `draw_scene`, but that the two colours of each pattern stand out from each other: the material is to be told too.
    """
    rng = np.random.default_rng([seed, ALL_SPLITS.index(split), index])
    backdrop = _backdrop(rng, image_size, image_size, level, vivid=True)
    objects = place_dominant(rng, shape, backdrop.x, backdrop.y, level, material)
    return _picture(rng, backdrop, objects, level)


def draw_place(
    seed: int, split: str, index: int, background: str, furnished: bool, level: Level = "smooth", image_size: int = 64
) -> Scene:
    """Draw the scene with this index of a split (one of PLACES_SPLITS): this background, bare or with objects.

    The image is square, the objects are smaller than those of `draw_scene`, and patterns as in `draw_species`.
    """
    rng = np.random.default_rng([seed, ALL_SPLITS.index(split), index])
    backdrop = _backdrop(rng, image_size, image_size, level, vivid=True, background=background)
    objects: list[Placed] = []
    if furnished:
        shape = SHAPES[rng.integers(len(SHAPES))]
        objects = place_scattered(rng, shape, backdrop.x, backdrop.y, level, unit=PLACES_UNIT, crowd=False)
    return _picture(rng, backdrop, objects, level)


def _backdrop(
    rng: np.random.Generator, height: int, width: int, level: Level, vivid: bool, background: str | None = None
) -> _Backdrop:
    across, down = _positions(width, max(height, width)), _positions(height, max(height, width))
    x, y = np.tile(across, (height, 1)), np.repeat(down[:, None], width, axis=1)
    light = rng.uniform(0, tau)
    name, surface = choose_surface(BACKGROUNDS, level, rng, background)
    colour = rng.uniform(0.1, 0.9, 3)
    return _Backdrop(name, colour, light, x, y, _coloured(surface, colour, x, y, rng, vivid), vivid)


def _positions(pixels: int, longer_side: int) -> Array:
    """The centres of the pixels of one axis, from the image's centre, in longer sides."""
    return (np.arange(pixels, dtype=np.float32) + 0.5) / np.float32(longer_side) - np.float32(pixels / longer_side / 2)


def _picture(rng: np.random.Generator, backdrop: _Backdrop, objects: list[Placed], level: Level) -> Scene:
    """The scene of these objects, which come from back to front."""
    canvas, light = backdrop.canvas, backdrop.light
    for placed in objects:
        _paint(canvas, placed, _contrasting(backdrop.colour, rng), light, rng, backdrop.vivid)
    towards_light = backdrop.x * np.float32(cos(light)) + backdrop.y * np.float32(sin(light))
    canvas *= 1 + rng.uniform(0, 0.4) * towards_light
    noise = rng.uniform(*COMPOSITIONS[level].noise) * rng.standard_normal(canvas.shape[1:], dtype=np.float32)
    image = np.clip(canvas * 255 + (noise + 0.5).astype(np.float32), 0, 255).astype(np.uint8)
    return Scene(np.ascontiguousarray(image.transpose(1, 2, 0)), _instances(objects), backdrop.name)


def _coloured(
    surface: Surface, colour: NDArray[np.float64], x: Array, y: Array, rng: np.random.Generator, vivid: bool
) -> Array:
    """The surface's pattern from `colour` to a second one, near it or `vivid`, (3, H, W) in [0, 1]."""
    if vivid and surface.spread:
        other = _contrasting(colour, rng)
    else:
        other = np.clip(colour + surface.spread * rng.uniform(-1, 1, 3), 0, 1)
    step = (other - colour).astype(np.float32)[:, None, None]
    return colour.astype(np.float32)[:, None, None] + step * surface.pattern(x, y, rng)


def _contrasting(behind: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour that stands out from `behind`; half of the cube does, so that few tries are needed."""
    while True:
        colour = rng.uniform(0.05, 0.95, 3)
        if np.linalg.norm(colour - behind) >= CONTRAST:
            return colour


def _paint(
    canvas: Array, placed: Placed, colour: NDArray[np.float64], light: float, rng: np.random.Generator, vivid: bool
) -> None:
    """Draw the object and the shadow it casts on `canvas` (3, H, W), in place.

    Its edge is bevelled: it brightens towards the light and darkens away from it, and shines where it faces the light.
    """
    width = max(1.5, 0.16 * placed.size * max(placed.distance.shape))
    towards_x, towards_y = np.float32(cos(light)), np.float32(sin(light))
    away = shifted(placed.distance, down=round(-width * sin(light)), across=round(-width * cos(light)))
    shadow = np.clip(0.5 - away / np.float32(width), 0, 1)
    canvas *= 1 - np.float32(rng.uniform(0.2, 0.5)) * shadow
    down, across = np.gradient(placed.distance)
    facing = np.clip(1 + placed.distance / np.float32(width), 0, 1) * (across * towards_x + down * towards_y)
    body = _coloured(placed.surface, colour, placed.x, placed.y, rng, vivid)
    body *= 1 + np.float32(rng.uniform(0.3, 0.6)) * facing
    body += np.float32(placed.surface.shine) * np.maximum(facing, 0) ** 3
    canvas += np.clip(0.5 - placed.distance, 0, 1) * (body - canvas)


def _instances(objects: list[Placed]) -> tuple[Instance, ...]:
    """The visible ones of the objects, which come from back to front; the largest first."""
    covered: Mask = np.zeros((), bool)
    found = []
    for placed in reversed(objects):
        whole = placed.whole
        mask = whole & ~covered
        covered = covered | whole
        if mask.any():
            found.append(Instance(placed.shape, placed.material, mask, whole, placed.members > 1))
    return tuple(sorted(found, key=lambda instance: -instance.whole.sum()))
