"""Which data set a folder holds: what the record calls it, and whether its name is earned."""

import json
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError

CARD = "dataset.json"
"""A folder that names itself does so in this file, `{"name": "…"}`, in it or in the folder above."""

KNOWN_SETS = {
    "imagenet1k": (1_281_167, 1_000),
    "coco2017": (118_287, 80),
    "ade20k": (20_210, 150),
}
"""Training images and classes of ILSVRC 2012, COCO 2017 and ADE20K (SceneParsing, 2016), as distributed."""


@dataclass(frozen=True)
class NamedData:
    """A data set as the record tells of it: its name, a fingerprint of its files, and remarks."""

    name: str
    fingerprint: str
    notes: tuple[str, ...] = ()


def name_data(claimed: str, root: Path, *, train_images: int, classes: int | None) -> tuple[str, tuple[str, ...]]:
    """The data set's name, and a remark where it is not the one that the recipe speaks of.

    A folder's own card decides; else the recipe's `claimed` name holds if the counts are that data set's; else the
    folder's name serves. `classes` is None for unlabelled images.
    Raises InputError for a card that cannot be read.
    """
    name = _card_name(root) or _card_name(root.resolve().parent)
    if name is None:
        known_images, known_classes = KNOWN_SETS.get(claimed, (None, None))
        if train_images == known_images and classes in (known_classes, None):
            return claimed, ()
        name = root.resolve().name or "data"
    if name == claimed:
        return name, ()
    images = f"{train_images:,} training image{'' if train_images == 1 else 's'}"
    kinds = "" if classes is None else f" in {classes:,} class{'' if classes == 1 else 'es'}"
    return name, (f"recorded as data set {name} ({images}{kinds}), not {claimed}",)


def _card_name(folder: Path) -> str | None:
    card = folder / CARD
    if not card.is_file():
        return None
    try:
        return str(json.loads(card.read_text())["name"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(f'{card}: cannot be read. Expected {{"name": "…"}}, the name of the data set') from error
