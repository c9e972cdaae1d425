"""Segmentation runs of a second or two, and generated scenes that are few enough for them."""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.support.commands import run_arguments

TINY: dict[str, Any] = {
    "schedule__iterations": 4,
    "schedule__warmup_iterations": 1,
    "optimizer__batch_size": 2,
    "model__image_size": 32,
    "model__channels": 8,
    "model__auxiliary_channels": 8,
    "augment__resize": "[128, 32]",
    "inference__resize": "[128, 32]",
    "inference__stride": 24,
    "runtime__workers": 0,
    "runtime__log_every": 1,
    "runtime__checkpoint_every": 2,
}

TRAIN, VAL = range(1, 9), (1, 3, 4, 10)
"""The images of `few_scenes`: one pass over them makes four iterations."""

FOLDERS = {"train": "training", "val": "validation"}


def segmentation(
    data: Path, out: Path, backbone: str = "random_vit_mini", seed: int = 0, **changes: object
) -> list[str]:
    """The arguments of a run with `TINY` settings."""
    return run_arguments(data, out, backbone, seed, "mini_segmentation", **TINY | changes)


def few_scenes(ade20k: Path, root: Path, val: Collection[int] = VAL) -> Path:
    """Copy the images `TRAIN` and `val` of the generated scenes, with their label maps."""
    root.mkdir(parents=True)
    for path in ade20k.glob("*.*"):
        shutil.copy(path, root)
    for split, kept in (("train", TRAIN), ("val", val)):
        for place in (image_file, annotation_file):
            for number in kept:
                target = place(root, split, number)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(place(ade20k, split, number), target)
    return root


def image_file(root: Path, split: str, number: int) -> Path:
    return root / f"images/{FOLDERS[split]}/ADE_{split}_{number:08d}.jpg"


def annotation_file(root: Path, split: str, number: int) -> Path:
    return root / f"annotations/{FOLDERS[split]}/ADE_{split}_{number:08d}.png"
