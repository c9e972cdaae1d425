"""What objects are made of and what lies behind them: a pattern of two colours, and how much it shines.

Both are drawn independently of the shape. The level says which take part: "smooth" ones have no detail smaller than a
patch of pixels, so that a small encoder learns from a few hundred thousand views; "textured" adds the others.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from benchmarks.mini import fields
from benchmarks.mini.fields import Field

Level = Literal["smooth", "textured"]
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True)
class Surface:
    """A pattern between two colours.

    spread: how far apart the two colours may lie, 0 to 1; shine: the strength of the highlight, 0 to 1.
    """

    pattern: Field
    spread: float
    shine: float = 0.0


MATERIALS: dict[Level, dict[str, Surface]] = {
    "smooth": {
        "clay": Surface(fields.plain, 0.0),
        "silk": Surface(fields.gradient, 0.35),
        "pearl": Surface(fields.glow, 0.3, shine=0.5),
        "brass": Surface(fields.bands, 0.3, shine=0.3),
    },
    "textured": {
        "candy": Surface(fields.stripes, 0.6, shine=0.4),
        "cloth": Surface(fields.checks, 0.5),
        "confetti": Surface(fields.dots, 0.6),
        "marble": Surface(fields.veins, 0.5, shine=0.4),
        "wood": Surface(fields.rings, 0.4),
        "felt": Surface(fields.grain, 0.5),
    },
}
BACKGROUNDS: dict[Level, dict[str, Surface]] = {
    "smooth": {
        "wall": Surface(fields.plain, 0.0),
        "sky": Surface(fields.gradient, 0.35),
        "spotlight": Surface(fields.glow, 0.3),
        "fog": Surface(fields.blotches, 0.25),
    },
    "textured": {
        "planks": Surface(fields.stripes, 0.4),
        "tiles": Surface(fields.checks, 0.4),
        "carpet": Surface(fields.dots, 0.4),
        "rock": Surface(fields.veins, 0.5),
        "sand": Surface(fields.rings, 0.4),
        "gravel": Surface(fields.grain, 0.6),
    },
}


def surfaces_of(surfaces: dict[Level, dict[str, Surface]], level: Level) -> dict[str, Surface]:
    """The surfaces of the level by name, in a fixed order; the textured level keeps the smooth ones."""
    return surfaces["smooth"] | surfaces["textured"] if level == "textured" else surfaces["smooth"]


def choose_surface(
    surfaces: dict[Level, dict[str, Surface]], level: Level, rng: np.random.Generator, name: str | None = None
) -> tuple[str, Surface]:
    """The surface of that name, or any of the level, with its name."""
    choice = surfaces_of(surfaces, level)
    if name is not None:
        return name, choice[name]
    return list(choice.items())[rng.integers(len(choice))]
