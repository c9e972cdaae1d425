"""Writing a generated data set completely and once: what is there already stays, and the manifest comes last."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from backbones.errors import InputError, not_written
from benchmarks.mini.files import write_text
from benchmarks.mini.layouts import Batch, Layout
from benchmarks.mini.materials import LEVELS
from benchmarks.mini.processes import work_through
from tasks.datasets.identity import CARD

# Raised whenever the same seed would draw other images.
DRAWING_VERSION = 3
MANIFEST = CARD
UNFINISHED_MANIFEST = f"{CARD}.unfinished"
SMALLEST_SIDE = 16
SCENES_PER_BATCH = 250


@dataclass(frozen=True)
class Wanted:
    """What is to lie in a folder.

    manifest: all that decides the files (with `name`, `seed`, `level` and `image_size`); it names the data set for the
    records; growing: those of its entries that are numbers of images, of which more may be asked for later;
    scenes: how many of each split; readme: the text of README.txt.
    """

    manifest: Mapping[str, Any]
    growing: tuple[str, ...]
    scenes: Mapping[str, int]
    layouts: tuple[Layout[Any], ...]
    readme: str


def complete(root: Path, wanted: Wanted, processes: int, on_progress: Callable[[int, int], None] | None) -> int:
    """Draw what is missing in `root`, and return how many images that were.

    `on_progress` is called with the numbers of finished and of all images.

    Raises InputError if seed, level or image size are out of range, or if `root` holds anything else, fewer images were
    asked for than it holds, or it cannot be written.
    """
    _check(wanted.manifest)
    if processes < 1:
        raise InputError(f"processes {processes}: expected at least 1.")
    try:
        return 0 if _is_complete(root, wanted) else _write(root, wanted, processes, on_progress)
    except OSError as error:
        message = f"{root}: cannot write the generated data: {error.strerror or error}."
        raise not_written(message, error.errno) from error


def _check(manifest: Mapping[str, Any]) -> None:
    if manifest["level"] not in LEVELS:
        known = ", ".join(LEVELS)
        raise InputError(f'level "{manifest["level"]}": no such level of the generated data. Known: {known}.')
    if manifest["seed"] < 0:
        raise InputError(f"seed {manifest['seed']}: expected 0 or more.")
    if manifest["image_size"] < SMALLEST_SIDE:
        raise InputError(f"image size {manifest['image_size']}: expected at least {SMALLEST_SIDE} pixels.")


def _is_complete(root: Path, wanted: Wanted) -> bool:
    """Whether `root` holds exactly what is wanted. Raises InputError if what it holds cannot become that."""
    if not root.exists():
        return False
    manifest = next((root / name for name in (UNFINISHED_MANIFEST, MANIFEST) if (root / name).exists()), None)
    if manifest is None:
        if any(root.iterdir()):
            raise InputError(f"{root}: not empty, and not written by `backbench data mini`. Choose a new folder.")
        return False
    try:
        present = json.loads(manifest.read_bytes())
    except ValueError:
        present = None
    if not isinstance(present, dict) or present.keys() != wanted.manifest.keys():
        raise InputError(f"{manifest}: not a manifest of this version of `backbench data mini`. Choose a new folder.")
    for key, value in wanted.manifest.items():
        before = present[key]
        grows = key in wanted.growing and before <= value
        if before != value and not grows:
            raise InputError(f"{root}: holds generated data with {key} {before}, not {value}. Choose a new folder.")
    return manifest.name == MANIFEST and present == wanted.manifest


def _write(root: Path, wanted: Wanted, processes: int, on_progress: Callable[[int, int], None] | None) -> int:
    """Draw what is missing; the manifest takes its final name when all is there."""
    root.mkdir(parents=True, exist_ok=True)
    unfinished = root / UNFINISHED_MANIFEST
    write_text(unfinished, json.dumps(dict(wanted.manifest), indent=2) + "\n")
    batches = _batches(wanted)
    total = sum(len(batch.indices) for batch in batches)
    finished = drawn = 0
    records: dict[Batch, Any] = {}
    draw = partial(_draw, root, wanted.layouts)
    for batch, (newly_drawn, records[batch]) in work_through(batches, draw, processes):
        finished += len(batch.indices)
        drawn += newly_drawn
        if on_progress is not None:
            on_progress(finished, total)
    for layout in wanted.layouts:
        by_split = {split: [records[batch] for batch in batches if batch.split == split] for split in layout.splits}
        files = layout.closing_files(wanted.manifest["name"], wanted.manifest["level"], by_split)
        for path, text in files.items():
            write_text(root / path, text)
    write_text(root / "README.txt", wanted.readme)
    unfinished.replace(root / MANIFEST)
    return drawn


def _batches(wanted: Wanted) -> list[Batch]:
    """All scenes of all splits, those of a split in order."""
    seed, level, image_size = (wanted.manifest[name] for name in ("seed", "level", "image_size"))
    return [
        Batch(seed, split, scenes[start : start + SCENES_PER_BATCH], level, image_size)
        for split, count in wanted.scenes.items()
        for scenes in [range(count)]
        for start in scenes[::SCENES_PER_BATCH]
    ]


def _draw(root: Path, layouts: tuple[Layout[Any], ...], batch: Batch) -> tuple[int, Any]:
    layout = next(layout for layout in layouts if batch.split in layout.splits)
    return layout.write(root, batch)
