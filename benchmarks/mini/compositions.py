"""Where the objects of a scene stand: one that dominates the image, or several scattered over it.

Positions count in the image's longer side from its centre, and so do sizes: the root of an object's area.
"""

from dataclasses import dataclass
from math import cos, pi, sin, sqrt, tau

import numpy as np
from numpy.typing import NDArray

from benchmarks.mini.fields import Array
from benchmarks.mini.materials import MATERIALS, Level, Surface, choose_surface
from benchmarks.mini.shapes import SHAPES, signed_distance

Mask = NDArray[np.bool_]


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


@dataclass(frozen=True)
class Scattering:
    """The ranges (low, high) of scattered scenes; turn and noise are those of the level's Composition.

    Lengths count in widths of an image with a dominant object, so that objects have the same size in pixels there and
    here. sides: the image's height and width; objects: their number; size: the root of an object's area;
    inset: the least distance of a centre from the image's edge, in sizes of the object;
    visible_share: the least part of an object's area that is neither hidden nor beyond the image's edge;
    members: the number of objects in a crowd; member_size: the size of each.
    """

    sides: tuple[float, float] = (80 / 56, 128 / 56)
    objects: tuple[int, int] = (1, 4)
    size: tuple[float, float] = (22 / 56, 36 / 56)
    inset: float = 0.35
    visible_share: float = 0.5
    members: tuple[int, int] = (6, 9)
    member_size: tuple[float, float] = (6 / 56, 9 / 56)


SCATTERING = Scattering()
# Places tried for an object of a scattered scene; one that hides too much, or is cut too short, everywhere is left out.
TRIES = 20
# The members of a crowd stand in a square of so many places, this many sizes apart.
CROWD_SIDE = 3
CROWD_SPACING = 1.4


@dataclass(frozen=True)
class Placed:
    """An object that has its place and material, not its colours yet; with several members, a crowd of one shape.

    x, y: the pixels in its own coordinates; distance: from its outline in pixels, negative inside, all (H, W).
    """

    shape: str
    material: str
    surface: Surface
    size: float
    x: Array
    y: Array
    distance: Array
    members: int = 1

    @property
    def whole(self) -> Mask:
        return self.distance < 0

    @property
    def area(self) -> float:
        """Its pixels, had the image no edge and nothing stood in front."""
        return self.members * (self.size * max(self.distance.shape)) ** 2


def place_dominant(
    rng: np.random.Generator, shape: str, x: Array, y: Array, level: Level, material: str | None = None
) -> list[Placed]:
    """One large object of this shape and its companions in front of it and behind it, from back to front.

    It is of this material, or of any. `x`, `y`: the positions of the pixels (H, W), of a square image.
    """
    composition = COMPOSITIONS[level]
    size = sqrt(rng.uniform(*composition.area))
    centre = rng.uniform(-composition.shift, composition.shift, 2)
    turn = rng.uniform(-composition.turn, composition.turn)
    dominant = _place(rng, shape, size, centre, turn, x, y, level, material)
    in_front: list[Placed] = []
    at_back: list[Placed] = []
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
    return [*at_back, dominant, *in_front]


def place_scattered(
    rng: np.random.Generator, shape: str, x: Array, y: Array, level: Level, *, unit: float, crowd: bool
) -> list[Placed]:
    """Some objects anywhere in the image, from back to front; one has this shape, and behind them there may be a crowd.

    Each object, and the crowd as a whole, shows at least `visible_share` of its area.
    `x`, `y`: the positions of the pixels (H, W); `unit`: the length in which SCATTERING counts, in longer sides.
    """
    low, high = SCATTERING.objects
    others = rng.integers(len(SHAPES), size=rng.integers(low, high + 1) - 1)
    wanted = [(shape, _place_single), *((SHAPES[number], _place_single) for number in others)]
    if crowd:
        wanted.insert(0, (SHAPES[rng.integers(len(SHAPES))], _place_crowd))
    objects: list[Placed] = []
    visible: list[Mask] = []
    for kind, place in wanted:
        for _ in range(TRIES):
            tried = place(rng, kind, x, y, level, unit)
            whole = tried.whole
            remaining = [*(mask & ~whole for mask in visible), whole]
            least = [SCATTERING.visible_share * placed.area for placed in (*objects, tried)]
            if all(mask.sum() >= pixels for mask, pixels in zip(remaining, least, strict=True)):
                objects.append(tried)
                visible = remaining
                break
    return objects


def _anywhere(rng: np.random.Generator, size: float, x: Array, y: Array) -> NDArray[np.float64]:
    """A centre for an object of this size."""
    reach = np.array([x[0, -1], y[-1, 0]]) - SCATTERING.inset * size
    return rng.uniform(-reach, reach)


def _place_single(rng: np.random.Generator, shape: str, x: Array, y: Array, level: Level, unit: float) -> Placed:
    size, turn = unit * rng.uniform(*SCATTERING.size), COMPOSITIONS[level].turn
    return _place(rng, shape, size, _anywhere(rng, size, x, y), rng.uniform(-turn, turn), x, y, level)


def _place_crowd(rng: np.random.Generator, shape: str, x: Array, y: Array, level: Level, unit: float) -> Placed:
    """Many small objects of one shape and material, close together, as one object."""
    size = unit * rng.uniform(*SCATTERING.member_size)
    centre = _anywhere(rng, CROWD_SIDE * CROWD_SPACING * size, x, y)
    low, high = SCATTERING.members
    numbers = rng.permutation(CROWD_SIDE**2)[: rng.integers(low, high + 1)]
    steps = np.stack(np.divmod(numbers, CROWD_SIDE), axis=1) - (CROWD_SIDE - 1) / 2
    steps += rng.uniform(-0.15, 0.15, steps.shape)
    turn = COMPOSITIONS[level].turn
    members = [
        _place(rng, shape, size, centre + step * size * CROWD_SPACING, rng.uniform(-turn, turn), x, y, level)
        for step in steps
    ]
    nearest = np.argmin([member.distance for member in members], axis=0)[None]
    own_x, own_y, distance = (
        np.take_along_axis(np.stack([getattr(member, name) for member in members]), nearest, axis=0)[0]
        for name in ("x", "y", "distance")
    )
    first = members[0]
    return Placed(shape, first.material, first.surface, size, own_x, own_y, distance, len(members))


def _place(
    rng: np.random.Generator,
    shape: str,
    size: float,
    centre: NDArray[np.float64],
    turn: float,
    x: Array,
    y: Array,
    level: Level,
    material: str | None = None,
) -> Placed:
    material, surface = choose_surface(MATERIALS, level, rng, material)
    across, down = x - np.float32(centre[0]), y - np.float32(centre[1])
    along_x, along_y = np.float32(cos(turn) / size), np.float32(sin(turn) / size)
    own_x, own_y = across * along_x + down * along_y, down * along_x - across * along_y
    distance = signed_distance(shape, own_x, own_y) * np.float32(size * max(x.shape))
    return Placed(shape, material, surface, size, own_x, own_y, distance)
