"""What the layouts have in common: each writes its splits' scenes in batches, and some files when all are there."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from benchmarks.mini.materials import Level

Records = TypeVar("Records")


@dataclass(frozen=True)
class Batch:
    """Some scenes of one split, drawn in one go, and all that decides them."""

    seed: int
    split: str
    indices: range
    level: Level
    image_size: int


@dataclass(frozen=True)
class Layout(Generic[Records]):
    """The form in which the scenes of some splits are written below the root of the data set.

    write: writes those of a batch's files that are missing below the root; returns of how many scenes, and what the
    closing files need to know of all the batch's scenes, drawn before or now.
    closing_files: the text of the files that are written when all scenes are there, by their paths below the root;
    it takes the data set's name, its level, and of each split what `write` returned, in the order of the scenes.
    """

    splits: tuple[str, ...]
    write: Callable[[Path, Batch], tuple[int, Records]]
    closing_files: Callable[[str, Level, dict[str, list[Records]]], dict[Path, str]]


def card(name: str) -> str:
    """The content of the file with which a folder names the data set that it holds."""
    return json.dumps({"name": name}) + "\n"
