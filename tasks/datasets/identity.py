"""Which data set a folder holds: what the record calls it, and whether its name is earned."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError

CARD = "dataset.json"
"""A folder that names itself does so in this file, `{"name": "…"}`, in it or in the folder above."""


@dataclass(frozen=True)
class Contents:
    """What lies in a data set's folder, as far as it tells which data set it is.

    train_images: how many there are to train on
    classes:      how many there are, None for unlabelled images
    fingerprint:  16 hexadecimal digits that change with the files
    """

    train_images: int
    classes: int | None
    fingerprint: str


@dataclass(frozen=True)
class Counts:
    """How large a data set is as it is distributed: its training images, and its classes."""

    train_images: int
    classes: int


@dataclass(frozen=True)
class NamedData:
    """A data set as the record tells of it: its name, a fingerprint of its files, and remarks."""

    name: str
    fingerprint: str
    notes: tuple[str, ...] = ()


def join_fingerprints(train: str, val: str) -> str:
    """One fingerprint, 16 hexadecimal digits, from those of both splits."""
    return hashlib.sha256(f"{train} {val}".encode()).hexdigest()[:16]


def name_data(claimed: str, root: Path, contents: Contents, published: Counts | None) -> NamedData:
    """The data set's name, and a remark where it is not the one that the recipe speaks of.

    A folder's own card decides; else the recipe's `claimed` name holds if the counts are the `published` ones of that
    data set; else the folder's name serves.
    Raises InputError for a card that cannot be read.
    """
    name = _card_name(root) or _card_name(root.resolve().parent)
    if name is None:
        name = claimed if _counts_are(published, contents) else root.resolve().name or "data"
    notes = () if name == claimed else (_describe_difference(name, claimed, contents),)
    return NamedData(name, contents.fingerprint, notes)


def _counts_are(published: Counts | None, contents: Contents) -> bool:
    if published is None:
        return False
    return contents.train_images == published.train_images and contents.classes in (published.classes, None)


def _describe_difference(name: str, claimed: str, contents: Contents) -> str:
    images = f"{contents.train_images:,} training image{'' if contents.train_images == 1 else 's'}"
    classes = contents.classes
    kinds = "" if classes is None else f" in {classes:,} class{'' if classes == 1 else 'es'}"
    return f"recorded as data set {name} ({images}{kinds}), not {claimed}"


def _card_name(folder: Path) -> str | None:
    card = folder / CARD
    if not card.is_file():
        return None
    try:
        return str(json.loads(card.read_text())["name"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(f'{card}: cannot be read. Expected {{"name": "…"}}, the name of the data set') from error
