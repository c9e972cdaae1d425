"""Detection runs of a second or two, and generated scenes that are few enough for them."""

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tests.support.commands import run_arguments

TINY: dict[str, Any] = {
    "schedule__iterations": 4,
    "schedule__warmup_iterations": 1,
    "optimizer__batch_size": 2,
    "model__channels": 16,
    "model__regions": 8,
    "model__proposals": 20,
    "model__box_features": 32,
    "model__image_size": 64,
    "runtime__workers": 0,
    "runtime__log_every": 1,
    "runtime__checkpoint_every": 2,
}

TRAIN, VAL = range(1, 9), (1, 3, 4, 10)
"""The images of `few_scenes`: one pass over them makes four iterations; the last one shows nothing, 4 has a crowd."""


def detection(data: Path, out: Path, backbone: str = "random_vit_mini", seed: int = 0, **changes: object) -> list[str]:
    """The arguments of a run with `TINY` settings."""
    return run_arguments(data, out, backbone, seed, "mini_detection", **TINY | changes)


def few_scenes(coco: Path, root: Path, val: Collection[int] = VAL) -> Path:
    """Copy the images `TRAIN` and `val` of the generated scenes, with what is to be seen in them."""
    shutil.copytree(coco, root)
    for split, kept in (("train", TRAIN), ("val", val)):

        def leave_out(content: dict[str, Any], kept: Any = kept) -> None:
            content["images"] = [image for image in content["images"] if image["id"] in kept]
            content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]

        change_annotations(root, split, leave_out)
        for path in (root / f"{split}2017").iterdir():
            if int(path.stem) not in kept:
                path.unlink()
    return root


def annotation_file(root: Path, split: str) -> Path:
    return root / f"annotations/instances_{split}2017.json"


def image_file(root: Path, split: str, identity: int) -> Path:
    return root / f"{split}2017/{identity:012d}.jpg"


def change_annotations(root: Path, split: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = annotation_file(root, split)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
