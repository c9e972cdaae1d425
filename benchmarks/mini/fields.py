"""Scalar fields over the plane, the patterns of which materials and backgrounds are made.

A field takes the coordinates of pixels, two float32 arrays (H, W), and a random generator that decides its frequency,
direction and phase; it returns float32 (H, W) in [0, 1]. Coordinates count in image widths for a background and in
object sizes for an object, so that a pattern moves, turns and grows with what it covers.
"""

from collections.abc import Callable
from math import cos, pi, sin, tau

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Field = Callable[[Array, Array, np.random.Generator], Array]


def sample_bilinear(table: Array, column: Array, row: Array) -> Array:
    """Interpolate `table` (R, C) at fractional positions; positions outside take the value of the border."""
    rows, columns = table.shape
    column = np.clip(column, 0, columns - 1.001)
    row = np.clip(row, 0, rows - 1.001)
    left, top = column.astype(np.int32), row.astype(np.int32)
    right_share, bottom_share = column - left, row - top
    corner, flat = top * columns + left, table.ravel()
    upper, lower = flat.take(corner), flat.take(corner + columns)
    upper += right_share * (flat.take(corner + 1) - upper)
    lower += right_share * (flat.take(corner + columns + 1) - lower)
    return upper + bottom_share * (lower - upper)


def shifted(field: Array, down: int, across: int) -> Array:
    """The field (H, W) moved by whole pixels; what enters from outside repeats the border."""
    rows = np.clip(np.arange(field.shape[0]) - down, 0, field.shape[0] - 1)
    columns = np.clip(np.arange(field.shape[1]) - across, 0, field.shape[1] - 1)
    return field[rows[:, None], columns]


def value_noise(x: Array, y: Array, rng: np.random.Generator, frequency: float) -> Array:
    """Smooth random blotches, `frequency` of them per unit length, repeating only beyond the unit square and a half."""
    side = int(3 * frequency) + 4
    table = rng.random((side, side), dtype=np.float32)
    return sample_bilinear(table, (x + 1) * frequency, (y + 1) * frequency)


def _along(x: Array, y: Array, angle: float) -> Array:
    return x * np.float32(cos(angle)) + y * np.float32(sin(angle))


def _wave(distance: Array, frequency: float, phase: float) -> Array:
    return 0.5 + 0.5 * np.sin(distance * np.float32(tau * frequency) + np.float32(phase))


def plain(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """The same value everywhere."""
    return np.full(np.broadcast_shapes(x.shape, y.shape), rng.random(), np.float32)


def gradient(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """A straight passage from one colour to the other, about one unit long."""
    return np.clip(_along(x, y, rng.uniform(0, tau)) * 0.8 + rng.uniform(0.3, 0.7), 0, 1)


def glow(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """A round patch that fades outwards."""
    centre_x, centre_y = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
    return np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) * np.float32(rng.uniform(2, 4)))


def bands(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Broad soft bands, as light gives on bent metal."""
    return _wave(_along(x, y, rng.uniform(0, tau)), rng.uniform(0.7, 1.3), rng.uniform(0, tau))


def blotches(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Large soft clouds."""
    return value_noise(x, y, rng, rng.uniform(1.5, 2.5))


def stripes(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Sharp parallel stripes."""
    wave = _wave(_along(x, y, rng.uniform(0, tau)), rng.uniform(3, 6), rng.uniform(0, tau))
    return np.clip((wave - 0.5) * 4 + 0.5, 0, 1)


def checks(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """A turned chessboard."""
    angle, frequency = rng.uniform(0, tau), rng.uniform(2, 4)
    across = _wave(_along(x, y, angle), frequency, rng.uniform(0, tau)) - 0.5
    along = _wave(_along(x, y, angle + pi / 2), frequency, rng.uniform(0, tau)) - 0.5
    return np.clip(across * along * 16 + 0.5, 0, 1)


def dots(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Round dots on a turned grid."""
    angle, frequency = rng.uniform(0, tau), rng.uniform(3, 5)
    across = _wave(_along(x, y, angle), frequency, rng.uniform(0, tau))
    along = _wave(_along(x, y, angle + pi / 2), frequency, rng.uniform(0, tau))
    return np.clip((across + along - rng.uniform(1.1, 1.4)) * 5, 0, 1)


def veins(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Thin bent lines through large blotches, as in marble."""
    warp = value_noise(x, y, rng, 3.0) + 0.5 * value_noise(x, y, rng, 7.0)
    wave = np.sin(_along(x, y, rng.uniform(0, tau)) * np.float32(rng.uniform(4, 8)) + 7 * warp)
    return np.sqrt(np.abs(wave))


def rings(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Bent rings round a point outside, as in wood."""
    angle = rng.uniform(0, tau)
    radius = np.hypot(x - np.float32(1.2 * cos(angle)), y - np.float32(1.2 * sin(angle)))
    return _wave(radius + 0.15 * value_noise(x, y, rng, 4.0), rng.uniform(4, 8), rng.uniform(0, tau))


def grain(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Fine irregular speckles over larger ones."""
    return 0.6 * value_noise(x, y, rng, rng.uniform(14, 22)) + 0.4 * value_noise(x, y, rng, 5.0)
