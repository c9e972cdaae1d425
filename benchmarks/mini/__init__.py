"""A small generated data set that needs understanding, not colour counting, and takes seconds to draw.

Objects of eight shapes in many materials before many backgrounds. Where one dominates, its shape is the label; where
they are scattered, each is to be found. Each scene knows the exact mask of every object in it.
"""

from benchmarks.mini.materials import LEVELS, Level
from benchmarks.mini.scenes import Instance, Scene, draw_scattered_scene, draw_scene
from benchmarks.mini.shapes import SHAPES
from benchmarks.mini.transfer import FEWEST_IMAGES, TRANSFER_SETS, TransferSummary, write_transfer_set
from benchmarks.mini.writing import MiniSummary, write_mini

__all__ = [
    "FEWEST_IMAGES",
    "LEVELS",
    "SHAPES",
    "TRANSFER_SETS",
    "Instance",
    "Level",
    "MiniSummary",
    "Scene",
    "TransferSummary",
    "draw_scattered_scene",
    "draw_scene",
    "write_mini",
    "write_transfer_set",
]
