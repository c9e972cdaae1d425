"""Which data set a folder holds: what the record calls it, and whether its name is earned."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from backbones.cache import Finding, kept
from backbones.errors import DataError
from backbones.images.observing import looking_at
from results.code import code_digest
from results.measurements import simplified

CARD = "dataset.json"
"""A folder that names itself does so in this file, `{"name": "…"}`, in it or in the folder above.

Other programs keep files of this name too: one that holds anything else is not ours, unless `backbench data mini` wrote
it.
"""
_DRAWN = {"name", "version", "seed", "level", "image_size", "train", "val"}
"""What `backbench data mini` says in the card of every set that it draws."""

SAMPLE_SIZE = 1000


@dataclass(frozen=True)
class Contents:
    """What lies in a data set's folder, as far as it tells which data set it is.

    train_images, evaluation_images: how many there are; None for what was not looked at, or is not there
    classes:                         how many there are, None for unlabelled images
    fingerprint:                     16 hexadecimal digits that change with the files
    sample:                          some of the files, absolute, with their sizes in bytes, by which another machine's
                                     data are known to be these
    notes:                           what a reader of the numbers should know of both splits together
    """

    train_images: int | None
    evaluation_images: int | None
    classes: int | None
    fingerprint: str
    sample: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Counts:
    """How large a data set is as it is distributed.

    train_images: None where there are none
    tolerance:    the share by which the number of training images may be off, where the published one is not certain
    """

    train_images: int | None
    evaluation_images: int
    classes: int
    tolerance: float = 0.0

    def fit(self, contents: Contents) -> bool:
        """Whether a folder holds the whole of it and nothing else, as far as it was looked at."""
        return (
            (
                contents.train_images is None
                or self.train_images is None
                or abs(contents.train_images - self.train_images) <= self.tolerance * self.train_images
            )
            and contents.evaluation_images in (self.evaluation_images, None)
            and contents.classes in (self.classes, None)
        )

    def __str__(self) -> str:
        training = "" if self.train_images is None else f"{self.train_images:,} training and "
        return f"{training}{self.evaluation_images:,} evaluation images in {self.classes:,} classes"


@dataclass(frozen=True)
class NamedData:
    """A data set as the record tells of it: its name, a fingerprint of its files, and remarks."""

    name: str
    fingerprint: str
    notes: tuple[str, ...] = ()


def kept_contents(task: str, data: Path, places: Mapping[str, Any], find: Callable[[], Contents]) -> Contents:
    """What `find` finds below `data`, unless it is known from before; `places` are the settings that it goes by.

    A file that was changed in its place, among more than a thousand, can go unnoticed, unless it is one of the sample;
    `found_anew` looks at all.
    """
    question = {"task": task, "places": dict(places), "code": code_digest()}
    prefix = os.path.join(os.path.abspath(data), "")  # noqa: PTH100, PTH118

    def facts() -> Finding:
        found = find()
        sample = [(path.removeprefix(prefix), size) for path, size in found.sample]
        return Finding(asdict(replace(found, sample=())) | {"sample": sample})

    known = dict(kept("contents", data, question, facts).facts)
    sample = tuple((os.path.join(prefix, path), size) for path, size in known.pop("sample"))  # noqa: PTH118
    return Contents(**known | {"sample": sample, "notes": tuple(known["notes"])})


def join_fingerprints(train: str, val: str) -> str:
    """One fingerprint, 16 hexadecimal digits, from those of both splits."""
    return hashlib.sha256(f"{train} {val}".encode()).hexdigest()[:16]


def draw_sample(fingerprint: str, *files: Sequence[Path], always: Sequence[Path] = ()) -> tuple[tuple[str, int], ...]:
    """`SAMPLE_SIZE` of the files with their sizes, drawn by the fingerprint from all lists, and some `always`.

    Raises OSError for one that has gone.
    """
    total = sum(len(part) for part in files)
    drawn = [*always]
    for number in sorted(Random(fingerprint).sample(range(total), min(SAMPLE_SIZE, total))):
        for part in files:
            if number < len(part):
                drawn.append(part[number])
                break
            number -= len(part)
    for path in drawn:
        looking_at(path)
    return tuple((os.path.abspath(path), path.stat().st_size) for path in drawn)  # noqa: PTH100


def evaluation_contents(
    images: int, classes: int, fingerprint: str, *files: Sequence[Path], always: Sequence[Path] = ()
) -> Contents:
    """What tells which data set evaluation images are that lie there without training images.

    The fingerprint is that of the evaluation images alone. It differs from that of a run on both splits, so such an
    evaluation has another key, and is not taken for one that could see how many training images each class has.
    Raises OSError for a file that has gone.
    """
    note = (
        "no training images lie beside the evaluation images: which data set they are is told by these alone, and what "
        "goes by the number of a class's training images is left out"
    )
    sample = draw_sample(fingerprint, *files, always=always)
    return Contents(None, images, classes, fingerprint, sample, notes=(note,))


def name_data(
    claimed: str, root: Path, contents: Contents, published: Mapping[str, Counts], otherwise: str = ""
) -> NamedData:
    """The data set's name, and a remark where it is not the one that the recipe speaks of.

    A folder's own card decides; else the recipe's `claimed` name holds if the counts are those of that data set; else
    the folder's name serves, or `otherwise`. Whichever it is, the name of a `published` data set, in any spelling, has
    to be earned by its counts: other images stand under "own-NAME", so that nobody takes their numbers for that data
    set's.
    Raises DataError for a card whose name is none.
    """
    known = {simplified(name): name for name in published}
    name = card_name(root)
    if name is None:
        fits = claimed in published and published[claimed].fit(contents)
        name = claimed if fits else otherwise or root.resolve().name or "data"
    meant = known.get(simplified(name))
    if meant is not None:
        name = meant if published[meant].fit(contents) else f"own-{meant}"
    notes = [] if name == claimed else [_describe_difference(name, claimed, contents, published)]
    if name in published and contents.train_images not in (published[name].train_images, None):
        notes.append(
            f"{contents.train_images:,} training images of data set {name}, where {published[name].train_images:,} are "
            "published: that number is uncertain"
        )
    return NamedData(name, contents.fingerprint, (*notes, *contents.notes))


def _describe_difference(name: str, claimed: str, contents: Contents, published: Mapping[str, Counts]) -> str:
    parts = []
    if contents.train_images is not None:
        parts.append(f"{contents.train_images:,} training image{'' if contents.train_images == 1 else 's'}")
    if contents.evaluation_images is not None:
        parts.append(f"{contents.evaluation_images:,} to evaluate on")
    images = " and ".join(parts)
    classes = contents.classes
    kinds = "" if classes is None else f" in {classes:,} class{'' if classes == 1 else 'es'}"
    text = f"recorded as data set {name} ({images}{kinds}), not {claimed}"
    return f"{text}, which has {published[claimed]}" if claimed in published else text


def card_name(root: Path) -> str | None:
    """The name on the card of a folder, or of the one above it; None without one. Raises DataError for no name."""
    return _name_on_card(root) or _name_on_card(root.resolve().parent)


def _name_on_card(folder: Path) -> str | None:
    """The name on a folder's card; None without one, and for another program's file."""
    path = folder / CARD
    card = _read_json(path) if path.is_file() else None
    if not isinstance(card, dict) or not (card.keys() == {"name"} or card.keys() >= _DRAWN):
        return None
    name = card["name"]
    if not (isinstance(name, str) and _names_a_folder(name)):
        raise DataError(
            f'{path}: its "name" is {name!r}. Expected the name of the data set, which its runs\' folder is to have: '
            "printable characters, without / and \\"
        )
    return name


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def _names_a_folder(name: str) -> bool:
    return name.strip(" .") != "" and name.isprintable() and not {"/", "\\"} & set(name)
