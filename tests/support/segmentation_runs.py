"""Segmentation runs of a second or two, and generated scenes that are few enough for them."""

import shutil
from pathlib import Path

TINY: dict[str, object] = {
    "schedule.iterations": 4,
    "schedule.warmup_iterations": 1,
    "optimizer.batch_size": 2,
    "model.image_size": 32,
    "model.channels": 8,
    "model.auxiliary_channels": 8,
    "augment.resize": "[128, 32]",
    "inference.resize": "[128, 32]",
    "inference.stride": 24,
    "runtime.workers": 0,
    "runtime.log_every": 1,
    "runtime.checkpoint_every": 2,
}

TRAIN, VAL = range(1, 9), (1, 3, 4, 10)
"""The images of `few_scenes`: one pass over them makes four iterations."""

FOLDERS = {"train": "training", "val": "validation"}


def segmentation(
    data: Path, out: Path, backbone: str = "random_vit_mini", seed: int = 0, **changes: object
) -> list[str]:
    """A run with `TINY` settings; `model__drop_path=0.1` becomes `--set model.drop_path=0.1`."""
    fixed = ["run", "--recipe", "mini_segmentation", "--data", str(data), "--backbone", backbone, "--out", str(out)]
    settings = TINY | {key.replace("__", "."): value for key, value in changes.items()}
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [*fixed, "--seed", str(seed), *overrides]


def few_scenes(ade20k: Path, root: Path) -> Path:
    """Copy the images `TRAIN` and `VAL` of the generated scenes, with their label maps."""
    root.mkdir(parents=True)
    for path in ade20k.glob("*.*"):
        shutil.copy(path, root)
    for split, kept in (("train", TRAIN), ("val", VAL)):
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
