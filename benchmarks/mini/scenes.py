"""Drawing one scene: shaded objects that hide parts of each other before a background, and their exact masks.

Everything random about a scene comes from (seed, split, index), and the image size enters last: a scene keeps its
composition at any size, and drawing more scenes leaves the earlier ones as they are.
"""

from dataclasses import dataclass
from math import cos, pi, sin, sqrt, tau

import numpy as np
from numpy.typing import NDArray

from benchmarks.mini.fields import Array, shifted
from benchmarks.mini.materials import BACKGROUNDS, MATERIALS, Level, Surface
from benchmarks.mini.shapes import SHAPES, signed_distance

SPLITS = ("train", "val", "unlabelled")

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Instance:
    """One object of a scene.

    mask: its visible pixels, bool (H, W); whole: those it would have if nothing were in front, cut at the image's edge.
    A pixel belongs to an object when its centre does.
    """

    shape: str
    material: str
    mask: Mask
    whole: Mask


@dataclass(frozen=True)
class Scene:
    """image: uint8 (H, W, 3) RGB. instances: the objects of which a pixel is visible, the dominant one first."""

    image: NDArray[np.uint8]
    instances: tuple[Instance, ...]
    background: str

    @property
    def label(self) -> str:
        """The shape of the dominant object, which is at least three times as large as any other."""
        return self.instances[0].shape


@dataclass(frozen=True)
class Composition:
    """The ranges (low, high) from which a level draws.

    area: the dominant object's share of the image; shift: how far its centre may lie from the image's, in widths;
    turn: how far it may be turned either way, in radians;
    companions: the largest number of further objects; companion_area: their area as a share of the dominant one's;
    noise: the standard deviation of the pixel noise, in levels of 255.
    """

    area: tuple[float, float]
    shift: float
    turn: float
    companions: int
    companion_area: tuple[float, float]
    noise: tuple[float, float]


COMPOSITIONS: dict[Level, Composition] = {
    "smooth": Composition((0.22, 0.30), 0.05, pi / 9, 0, (0.08, 0.2), (0.5, 1.0)),
    "textured": Composition((0.12, 0.30), 0.12, pi, 3, (0.08, 0.3), (1.0, 6.0)),
}
# Of the dominant object, at least this share of what lies within the image stays visible.
VISIBLE_SHARE = 0.8
# The least distance between an object's colour and the background's, in the RGB cube with edges of length 1.
CONTRAST = 0.45


@dataclass(frozen=True)
class _Placed:
    """An object that has its place and material, not its colours yet.

    x, y: the pixels in its own coordinates; distance: from its outline in pixels, negative inside, all (H, W).
    """

    shape: str
    material: str
    surface: Surface
    size: float
    x: Array
    y: Array
    distance: Array

    @property
    def whole(self) -> Mask:
        return self.distance < 0


def shape_of(index: int) -> str:
    """The label of the scene with this index: the classes take turns."""
    return SHAPES[index % len(SHAPES)]


def draw_scene(seed: int, split: str, index: int, level: Level = "smooth", image_size: int = 64) -> Scene:
    """Draw the scene with this index of a split ("train", "val" or "unlabelled"), `image_size` pixels wide and high."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    axis: Array = (np.arange(image_size, dtype=np.float32) + 0.5) / np.float32(image_size) - np.float32(0.5)
    x, y = np.tile(axis, (image_size, 1)), np.repeat(axis[:, None], image_size, axis=1)
    light = rng.uniform(0, tau)
    background, surface = _choose(BACKGROUNDS, level, rng)
    behind = rng.uniform(0.1, 0.9, 3)
    canvas = _coloured(surface, behind, x, y, rng)
    dominant, in_front, at_back = _place_objects(rng, shape_of(index), x, y, level)
    for placed in (*at_back, dominant, *in_front):
        _paint(canvas, placed, _contrasting(behind, rng), light, rng)
    canvas *= 1 + rng.uniform(0, 0.4) * (x * np.float32(cos(light)) + y * np.float32(sin(light)))
    noise = rng.uniform(*COMPOSITIONS[level].noise) * rng.standard_normal((image_size, image_size), dtype=np.float32)
    image = np.clip(canvas * 255 + (noise + 0.5).astype(np.float32), 0, 255).astype(np.uint8)
    return Scene(np.ascontiguousarray(image.transpose(1, 2, 0)), _instances(dominant, in_front, at_back), background)


def _choose(surfaces: dict[Level, dict[str, Surface]], level: Level, rng: np.random.Generator) -> tuple[str, Surface]:
    """Any surface of the level; the textured level keeps the smooth ones."""
    choice = surfaces["smooth"] | surfaces["textured"] if level == "textured" else surfaces["smooth"]
    return list(choice.items())[rng.integers(len(choice))]


def _coloured(surface: Surface, colour: NDArray[np.float64], x: Array, y: Array, rng: np.random.Generator) -> Array:
    """The surface's pattern from `colour` to a second one near it, (3, H, W) in [0, 1]."""
    other = np.clip(colour + surface.spread * rng.uniform(-1, 1, 3), 0, 1)
    step = (other - colour).astype(np.float32)[:, None, None]
    return colour.astype(np.float32)[:, None, None] + step * surface.pattern(x, y, rng)


def _contrasting(behind: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour that stands out from `behind`; half of the cube does, so that few tries are needed."""
    while True:
        colour = rng.uniform(0.05, 0.95, 3)
        if np.linalg.norm(colour - behind) >= CONTRAST:
            return colour


def _place_objects(
    rng: np.random.Generator, shape: str, x: Array, y: Array, level: Level
) -> tuple[_Placed, list[_Placed], list[_Placed]]:
    """The dominant object, and its companions in front of it and behind it, each list from back to front."""
    composition = COMPOSITIONS[level]
    size = sqrt(rng.uniform(*composition.area))
    centre = rng.uniform(-composition.shift, composition.shift, 2)
    dominant = _place(rng, shape, size, centre, rng.uniform(-composition.turn, composition.turn), x, y, level)
    in_front: list[_Placed] = []
    at_back: list[_Placed] = []
    visible = dominant.whole
    least = VISIBLE_SHARE * visible.sum()
    for _ in range(rng.integers(composition.companions + 1)):
        small = size * sqrt(rng.uniform(*composition.companion_area))
        bearing, away = rng.uniform(0, tau), rng.uniform(0.3, 0.5)
        beside = np.array([cos(bearing), sin(bearing)]) * away
        companion = _place(rng, SHAPES[rng.integers(len(SHAPES))], small, beside, rng.uniform(0, tau), x, y, level)
        still_visible = visible & ~companion.whole
        if rng.random() < 0.6 and still_visible.sum() >= least:
            visible = still_visible
            in_front.append(companion)
        else:
            at_back.append(companion)
    return dominant, in_front, at_back


def _place(
    rng: np.random.Generator,
    shape: str,
    size: float,
    centre: NDArray[np.float64],
    turn: float,
    x: Array,
    y: Array,
    level: Level,
) -> _Placed:
    material, surface = _choose(MATERIALS, level, rng)
    across, down = x - np.float32(centre[0]), y - np.float32(centre[1])
    along_x, along_y = np.float32(cos(turn) / size), np.float32(sin(turn) / size)
    own_x, own_y = across * along_x + down * along_y, down * along_x - across * along_y
    distance = signed_distance(shape, own_x, own_y) * np.float32(size * len(x))
    return _Placed(shape, material, surface, size, own_x, own_y, distance)


def _paint(canvas: Array, placed: _Placed, colour: NDArray[np.float64], light: float, rng: np.random.Generator) -> None:
    """Draw the object and the shadow it casts on `canvas` (3, H, W), in place.

    Its edge is bevelled: it brightens towards the light and darkens away from it, and shines where it faces the light.
    """
    side = canvas.shape[-1]
    width = max(1.5, 0.16 * placed.size * side)
    towards_x, towards_y = np.float32(cos(light)), np.float32(sin(light))
    away = shifted(placed.distance, down=round(-width * sin(light)), across=round(-width * cos(light)))
    shadow = np.clip(0.5 - away / np.float32(width), 0, 1)
    canvas *= 1 - np.float32(rng.uniform(0.2, 0.5)) * shadow
    down, across = np.gradient(placed.distance)
    facing = np.clip(1 + placed.distance / np.float32(width), 0, 1) * (across * towards_x + down * towards_y)
    body = _coloured(placed.surface, colour, placed.x, placed.y, rng)
    body *= 1 + np.float32(rng.uniform(0.3, 0.6)) * facing
    body += np.float32(placed.surface.shine) * np.maximum(facing, 0) ** 3
    canvas += np.clip(0.5 - placed.distance, 0, 1) * (body - canvas)


def _instances(dominant: _Placed, in_front: list[_Placed], at_back: list[_Placed]) -> tuple[Instance, ...]:
    """The visible objects, the dominant one first, then the others from front to back."""
    covered = np.zeros_like(dominant.whole)
    found = {}
    for placed in (*reversed(in_front), dominant, *reversed(at_back)):
        whole = placed.whole
        mask = whole & ~covered
        covered |= whole
        if mask.any():
            found[id(placed)] = Instance(placed.shape, placed.material, mask, whole)
    return (found.pop(id(dominant)), *found.values())
