"""Labelled images in two splits, whatever layout they were found in."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from backbones.cache import Finding, kept
from backbones.images.folders import fingerprint
from backbones.images.packed import Paths
from backbones.training.same_lists import Listing
from results.code import code_digest
from tasks.datasets.identity import Contents, draw_sample, evaluation_contents, join_fingerprints
from tasks.datasets.shared_images import shared_images


@dataclass(frozen=True, eq=False)
class LabelledSplit:
    """One split of a set of labelled images.

    Attributes:
        root: the folder that was opened.
        split: "train", "val", "test" where the makers call so what is evaluated, or "holdout" for images that were held
            out of what is undivided.
        layout: which of the layouts was found, in words.
        paths: the images, in an order that depends on nothing but their names.
        labels: the class of each image, a position in `classes`, int32.
        classes: their names, the same in both splits.
        note: what a reader of the numbers should know about this split, or None.
        is_listed: whether files or torchvision tell which images there are: the folder that they lie in, which may be
            called otherwise, is then no part of their names.
        candidates: the classes, ascending positions in `classes`, that an answer can be; None for all.
        accepted: of each image the classes of which each is right, where that can be several; `labels` are the first.
        parts: folders below `root` that hold the same images, changed in different ways; `paths` are those of the
            first. Of each the last two names say what was done.
    """

    root: Path
    split: str
    layout: str
    paths: Paths
    labels: np.ndarray
    classes: list[str]
    note: str | None = None
    is_listed: bool = False
    candidates: list[int] | None = None
    accepted: list[list[int]] | None = None
    parts: list[str] = field(default_factory=list)

    def part(self, folder: str) -> "LabelledSplit":
        """One of `parts`, by itself."""
        paths = Paths(self.root / folder, self.paths.content, self.paths.ends)
        return replace(self, paths=paths, parts=[])

    @property
    def names_root(self) -> Path:
        """The folder below which an image has the name that the record and the fingerprint have of it."""
        return self.paths.root if self.is_listed else self.root

    @property
    def listing(self) -> Listing:
        """What other processes of a job have to find too."""
        told = [json.dumps(each).encode() for each in (self.classes, *self._told_otherwise)]
        decided: list[bytes | np.ndarray] = [*self.paths.arrays.values(), self.labels, *told]
        return Listing(f"{self.split} images", len(self.paths), decided, self.paths.names)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with a file's name, size or class, and not with the place on disk.

        Computed when it is first asked for, at the cost of a stat call for each image.
        """
        digest = hashlib.sha256(fingerprint(self.paths, self.names_root).encode())
        for label in self.labels.tolist():
            digest.update(f"{self.classes[label]}\n".encode(errors="surrogateescape"))
        for told in self._told_otherwise:
            digest.update(json.dumps(told).encode())
        for folder in self.parts:
            part = self.part(folder)
            digest.update(f"{part_name(folder)} {fingerprint(part.paths, part.names_root)}\n".encode())
        return digest.hexdigest()[:16]

    @property
    def _told_otherwise(self) -> list[object]:
        """What decides answers or scores and most sets do not have."""
        return [told for told in (self.candidates, self.accepted, self.parts and [*map(part_name, self.parts)]) if told]


def part_name(folder: str) -> str:
    """What was done to the images of one of `LabelledSplit.parts`: `fog/3` of `weather/fog/3`."""
    return "/".join(folder.split("/")[-2:])


def kept_split(
    kind: str, root: Path, question: Mapping[str, Any], open_split: Callable[[], LabelledSplit]
) -> LabelledSplit:
    """What `open_split` finds below `root`, or what it found before in the same folders and files.

    `kind` and `question` tell apart what may be found below one root; the code of the project counts by itself.
    """

    def find() -> Finding:
        facts, arrays = _taken_apart(root, open_split())
        return Finding(facts, arrays)

    finding = kept(kind, root, {**question, "code": code_digest()}, find)
    return _put_together(root, finding.facts, finding.arrays)


def kept_splits(
    kind: str, root: Path, open_splits: Callable[[], tuple[LabelledSplit, LabelledSplit]]
) -> tuple[LabelledSplit, LabelledSplit]:
    """`kept_split` for two splits that are found together."""

    def find() -> Finding:
        facts, arrays = zip(*(_taken_apart(root, split) for split in open_splits()), strict=True)
        return Finding(
            {"splits": facts}, {f"{at} {name}": part[name] for at, part in enumerate(arrays) for name in part}
        )

    finding = kept(kind, root, {"code": code_digest()}, find)
    train, val = (
        _put_together(root, facts, {name: finding.arrays[f"{at} {name}"] for name in _ARRAYS})
        for at, facts in enumerate(finding.facts["splits"])
    )
    return train, val


_ARRAYS = ("content", "ends", "labels")


def _taken_apart(root: Path, split: LabelledSplit) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The facts and the arrays of a split, without its root where that is `root`."""
    told = ("split", "layout", "classes", "note", "candidates", "accepted", "parts")
    facts = {name: getattr(split, name) for name in told}
    folder = split.paths.root.relative_to(split.root).as_posix()
    elsewhere = None if split.root == root else str(split.root)
    return facts | {"folder": folder, "elsewhere": elsewhere}, {**split.paths.arrays, "labels": split.labels}


def _put_together(root: Path, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> LabelledSplit:
    known = dict(facts)
    root = Path(known.pop("elsewhere") or root)
    paths = Paths(root / known.pop("folder"), arrays["content"], arrays["ends"])
    return LabelledSplit(root, paths=paths, labels=arrays["labels"], **known)


def contents_of(train: LabelledSplit | None, val: LabelledSplit) -> Contents:
    """What tells which data set the splits are. Raises DataError if an image has gone since they were opened."""
    if train is None:
        return evaluation_contents(len(val.paths), len(val.classes), val.fingerprint, val.paths)
    fingerprint = join_fingerprints(train.fingerprint, val.fingerprint)
    sample = draw_sample(fingerprint, train.paths, val.paths)
    shared = images_in_both(train, val)
    return Contents(len(train.paths), len(val.paths), len(train.classes), fingerprint, sample, notes=tuple(shared))


def images_in_both(train: LabelledSplit, val: LabelledSplit) -> list[str]:
    """A note if the same images are trained and evaluated on; no or one text."""
    return shared_images((train.paths.root, train.paths.names()), (val.paths.root, [*val.paths.names()]))
