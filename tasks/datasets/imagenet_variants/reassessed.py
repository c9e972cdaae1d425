"""ImageNet-ReaL: ImageNet's validation images, each with all labels that fit it (Beyer et al. 2020, arXiv 2006.07159).

The labels are `real.json` of google-research/reassessed-imagenet, beside the images, or else timm's copy of it. They go
by the images' numbers, so the images may lie in class folders or all in one.
"""

import json
import re
from pathlib import Path

import numpy as np

from backbones.errors import DataError
from backbones.images.folders import describe, list_folder
from backbones.images.observing import looking_at
from backbones.images.packed import Paths
from tasks.datasets.imagenet_variants.classes import imagenet_classes, reassessed_labels
from tasks.datasets.labelled import LabelledSplit, kept_split
from tasks.datasets.wording import counted

LABELS = "real.json"
IMAGES = 50_000
_SOURCE = "google-research/reassessed-imagenet"
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")
_FOLDERS = ("val", "validation", "ILSVRC/Data/CLS-LOC/val")


def open_imagenet_real(root: Path) -> tuple[None, LabelledSplit]:
    """The images that have labels, in the order of their numbers.

    `root` is the folder of ImageNet or of its validation images. Raises DataError for images that are not called as
    ImageNet's, and for a real.json that is not as published.
    """
    return None, kept_split("imagenet-real", Path(root), {}, lambda: _list_images(Path(root)))


def _list_images(root: Path) -> LabelledSplit:
    folder = _find_folder(root)
    labels, source = _read_labels(root, folder)
    numbered: dict[int, str] = {}
    for name in list_folder(folder)[0]:
        found = _NUMBER.search(name.rpartition("/")[2])
        number = int(found[1]) if found else 0
        if not 1 <= number <= IMAGES:
            raise DataError(
                f"{folder / name}: is not called as ImageNet's validation images are, by whose numbers the labels go. "
                "Expected ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG, in class folders or not"
            )
        if number in numbered:
            raise DataError(f"{folder / name}: has the number of {numbered[number]} too. Remove one of them")
        numbered[number] = name
    if not numbered:
        raise DataError(f"{folder}: no images found; found {describe(folder)}")
    chosen = [number for number in sorted(numbered) if labels[number - 1]]
    left_out = len(numbered) - len(chosen)
    if not chosen:
        raise DataError(f"{folder}: {source} has no label for any of its {counted(len(numbered), 'image')}")
    accepted = [labels[number - 1] for number in chosen]
    return LabelledSplit(
        root=folder,
        split="val",
        layout=f"ImageNet's validation images, labelled by {source}",
        paths=Paths.of(folder, [numbered[number] for number in chosen]),
        labels=np.array([fitting[0] for fitting in accepted], np.int32),
        classes=[*imagenet_classes()],
        note=f"{left_out:,} of {len(numbered):,} images left out, for which {source} has no label.",
        accepted=accepted,
    )


def _find_folder(root: Path) -> Path:
    for folder in (*(root / name for name in _FOLDERS), root):
        looking_at(folder)
        if folder.is_dir():
            return folder
    raise DataError(f"{root}: no such folder. Expected ImageNet, with its validation images in val/, or these alone")


def _read_labels(root: Path, folder: Path) -> tuple[list[list[int]], str]:
    """The labels of all 50,000, and where they are from."""
    for place in dict.fromkeys((root, folder, folder.parent)):
        path = place / LABELS
        looking_at(path)
        if path.is_file():
            return _checked(path), LABELS
    return reassessed_labels(), f"timm's copy of {LABELS}"


def _checked(path: Path) -> list[list[int]]:
    try:
        labels = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}). Take it from {_SOURCE} again") from error
    if not isinstance(labels, list) or len(labels) != IMAGES or not all(map(_are_labels, labels)):
        raise DataError(f"{path}: expected {IMAGES:,} lists of classes from 0 to 999. Take it from {_SOURCE} again")
    return labels


def _are_labels(labels: object) -> bool:
    classes = range(len(imagenet_classes()))
    return isinstance(labels, list) and all(type(label) is int and label in classes for label in labels)
