"""The shape classes: closed outlines, and the signed distance to them.

Every shape covers the area 1, so that neither the area nor the amount of any colour tells the class; its centre of
gravity is the origin, and y points down as in an image. Adding a shape means adding an outline.
"""

from collections.abc import Callable
from functools import cache
from math import pi, tau

import numpy as np
from numpy.typing import NDArray

from benchmarks.mini.fields import Array, sample_bilinear

Outline = NDArray[np.float64]

# The table of distances covers [-REACH, REACH] squared; every outline lies well inside.
REACH = 1.3
TABLE_SIDE = 209


def _polar(angles: NDArray[np.float64], radii: NDArray[np.float64] | float) -> Outline:
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def _circle(radius: float, points: int = 72) -> Outline:
    return _polar(np.linspace(0, tau, points, endpoint=False), radius)


def _arrow() -> list[Outline]:
    right = [(0.0, -1.0), (0.75, -0.1), (0.3, -0.1), (0.3, 1.0)]
    left = [(-x, y) for x, y in reversed(right[1:])]
    return [np.array(right + left)]


def _crescent() -> list[Outline]:
    outer = np.linspace(0.23 * pi, 1.77 * pi, 56)
    tip_x, tip_y = np.sin(outer[0]), np.cos(outer[0])
    centre_y = tip_y + 0.05
    inner_radius = np.hypot(tip_x, tip_y - centre_y)
    inner_tip = np.arctan2(tip_x, tip_y - centre_y)
    inner = np.linspace(tau - inner_tip, inner_tip, 40)[1:-1]
    return [np.concatenate([_polar(outer, 1.0), _polar(inner, inner_radius) - (0, centre_y)])]


def _cross() -> list[Outline]:
    a, b = 0.32, 1.0
    arms = [(a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a), (-a, -b)]
    return [np.array(arms)]


def _heart() -> list[Outline]:
    t = np.linspace(0, tau, 72, endpoint=False)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [np.stack([16 * np.sin(t) ** 3, y], axis=1)]


def _ring() -> list[Outline]:
    return [_circle(1.0), _circle(0.52)]


def _square() -> list[Outline]:
    return [np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])]


def _star() -> list[Outline]:
    return [_polar(np.linspace(0, tau, 10, endpoint=False), np.tile([1.0, 0.42], 5))]


def _triangle() -> list[Outline]:
    return [_polar(np.linspace(0, tau, 3, endpoint=False), 1.0)]


_OUTLINES: dict[str, Callable[[], list[Outline]]] = {
    "arrow": _arrow,
    "crescent": _crescent,
    "cross": _cross,
    "heart": _heart,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}
SHAPES = tuple(_OUTLINES)


@cache
def outlines(shape: str) -> tuple[Outline, ...]:
    """The closed polygons (N, 2) of a shape, area 1 round the origin; a polygon within another is a hole."""
    polygons = _OUTLINES[shape]()
    solid, *holes = [_area_and_moment(polygon) for polygon in polygons]
    area = solid[0] - sum(hole[0] for hole in holes)
    centre = (solid[1] - sum(hole[1] for hole in holes)) / area
    return tuple((polygon - centre) / np.sqrt(area) for polygon in polygons)


def _area_and_moment(polygon: Outline) -> tuple[float, NDArray[np.float64]]:
    following = np.roll(polygon, -1, axis=0)
    twice = polygon[:, 0] * following[:, 1] - following[:, 0] * polygon[:, 1]
    orientation = np.sign(twice.sum())
    moment = ((polygon + following) * twice[:, None]).sum(axis=0) / 6
    return float(abs(twice.sum()) / 2), orientation * moment


@cache
def _distance_table(shape: str) -> Array:
    """The signed distances (TABLE_SIDE, TABLE_SIDE) to a shape's outline, negative inside."""
    axis = np.linspace(-REACH, REACH, TABLE_SIDE)
    x, y = axis[None, :], axis[:, None]
    squared = np.full((TABLE_SIDE, TABLE_SIDE), np.inf)
    inside = np.zeros((TABLE_SIDE, TABLE_SIDE), bool)
    for polygon in outlines(shape):
        for (from_x, from_y), (to_x, to_y) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            edge_x, edge_y = to_x - from_x, to_y - from_y
            share = ((x - from_x) * edge_x + (y - from_y) * edge_y) / (edge_x**2 + edge_y**2)
            share = np.clip(share, 0, 1)
            np.minimum(squared, (x - from_x - share * edge_x) ** 2 + (y - from_y - share * edge_y) ** 2, out=squared)
            if edge_y != 0:
                inside ^= ((from_y > y) != (to_y > y)) & (x < from_x + (y - from_y) * edge_x / edge_y)
    return np.where(inside, -np.sqrt(squared), np.sqrt(squared)).astype(np.float32)


def signed_distance(shape: str, x: Array, y: Array) -> Array:
    """The distance from each point (H, W) to the shape's outline, negative inside, in units of the root of its area.

    Interpolated from a table: exact to 0.01 within REACH of the centre. Farther points take the table's border value.
    """
    scale, offset = np.float32((TABLE_SIDE - 1) / (2 * REACH)), np.float32((TABLE_SIDE - 1) / 2)
    return sample_bilinear(_distance_table(shape), x * scale + offset, y * scale + offset)
