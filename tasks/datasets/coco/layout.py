"""Object annotations in COCO's format: COCO as it is distributed, and any other set with its own categories.

    ROOT/train2017/*.jpg   ROOT/annotations/instances_train2017.json
    ROOT/val2017/*.jpg     ROOT/annotations/instances_val2017.json

What could only go wrong later is refused when a file is read, with one message that names the file and the ids. COCO
itself passes: its few annotations that show nothing are left out of training, and the notes say so.
"""

import hashlib
import os
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from backbones.cache import Finding, kept
from backbones.errors import DataError
from backbones.images.folders import fingerprint
from backbones.training.progress_line import progress_line
from backbones.training.same_lists import Listing
from backbones.training.settings import Settings
from results.code import code_digest
from results.garbage_collection import garbage_collection_paused
from tasks.datasets.coco.annotation_json import CocoJson, read_coco_json
from tasks.datasets.coco.images import CocoImages
from tasks.datasets.coco.missing import missing_files
from tasks.datasets.coco.rules import Findings, Split, examine
from tasks.datasets.identity import Contents, draw_sample, evaluation_contents, join_fingerprints
from tasks.datasets.places import explain_absence
from tasks.datasets.shared_images import shared_images
from tasks.datasets.wording import name_some, unlike_spelling

KIND = "data set in COCO's format"

_SECONDS_OF_READING = 2**26
"""Bytes of JSON from which on reading takes seconds, and shows how far it is."""

_FACTS = ("categories", "category_ids", "annotation_sha256", "notes")

_KEPT = ("id", "bbox", "category_id", "iscrowd", "area", "segmentation")


class CocoDataSettings(Settings):
    """Where the images and annotations of both splits are: paths below the data folder, or absolute ones."""

    train_images: str = "train2017"
    train_json: str = "annotations/instances_train2017.json"
    val_images: str = "val2017"
    val_json: str = "annotations/instances_val2017.json"


@dataclass(frozen=True, eq=False)
class CocoSet:
    """One split of a data set in COCO's format, opened with `CocoSet.open`.

    Attributes:
        split: "train" or "val".
        images: sorted by id; those without annotations are among them.
        categories: names, sorted by id; a category's position is its label.
        category_ids: the id of each in the file. They may have gaps.
        annotation_file: what was read; scores are computed from this file as it stands.
        notes: what a reader of the numbers should know about this split.
    """

    split: str
    images: CocoImages
    categories: list[str]
    category_ids: list[int]
    annotation_file: Path
    annotation_sha256: str
    image_folder: Path
    notes: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, images: Path, annotations: Path, split: Split) -> "CocoSet":
        """Read the file `annotations` about the images below the folder `images`.

        "train" leaves out the annotations that show nothing (a box of no size or outside its image, an empty mask),
        and polygons of less than three points; "val" keeps everything as it is. The notes name them.
        Raises DataError for a file that is not sound COCO, and for missing images.
        """
        if not images.is_dir():
            raise DataError(
                f"{images}: {'a file, not a folder' if images.exists() else 'no such folder'}. {_hint(split)}"
            )
        if not annotations.is_file():
            raise DataError(f"{annotations}: no such file. {_hint(split)}")
        with garbage_collection_paused():
            file, found = _read(annotations, split)
            problems = [*found.problems, *missing_files(file, images, split)]
            if problems:
                more = f" Other mistakes in this file: {len(problems) - 1}; `backbench data check coco` lists all."
                raise DataError(f"{annotations}: {problems[0]}{more if len(problems) > 1 else ''}")
            return _assemble(file, found, images, split)

    @property
    def listing(self) -> Listing:
        """What other processes of a job have to find too."""
        decided = [self.annotation_sha256.encode()]
        return Listing(f"{self.split} images", len(self.images), decided, lambda: (each.name for each in self.images))

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the annotations and with the name or size of an image.

        Computed when it is first asked for, at the cost of a stat call for each image.
        """
        images = fingerprint((image.path for image in self.images), self.image_folder)
        return hashlib.sha256(f"{self.annotation_sha256} {images}".encode()).hexdigest()[:16]


def open_coco(root: Path, settings: CocoDataSettings) -> tuple[CocoSet, CocoSet]:
    """Open the training and the evaluation split below `root`.

    Raises DataError where `CocoSet.open` does, and if the splits don't have the same categories.
    """
    if absent := explain_absence(root, settings.model_dump(), KIND):
        raise DataError(absent)
    train = _open_kept(root / settings.train_images, root / settings.train_json, "train")
    val = _open_kept(root / settings.val_images, root / settings.val_json, "val")
    difference = compare_categories(
        dict(zip(train.category_ids, train.categories, strict=True)),
        dict(zip(val.category_ids, val.categories, strict=True)),
    )
    if difference:
        raise DataError(f"{val.annotation_file}: not the categories of {train.annotation_file}: {difference}")
    return train, val


def open_coco_to_evaluate(root: Path, settings: CocoDataSettings) -> tuple[CocoSet | None, CocoSet]:
    """What `open_coco` opens; where the training images or their annotations are not there, the evaluation split alone.

    Raises DataError where `open_coco` does.
    """
    if has_training_split(root, settings):
        return open_coco(root, settings)
    if absent := explain_absence(root, settings.model_dump(include={"val_images", "val_json"}), KIND):
        raise DataError(absent)
    return None, _open_kept(root / settings.val_images, root / settings.val_json, "val")


def has_training_split(root: Path, settings: CocoDataSettings) -> bool:
    """Whether training images lie there with their annotations, right or wrong."""
    return (root / settings.train_images).is_dir() and (root / settings.train_json).is_file()


def _open_kept(images: Path, annotations: Path, split: Split) -> CocoSet:
    """`CocoSet.open`, or what it found before of the same file and folders, mapped into memory."""
    question = {"split": split, "images": os.path.abspath(images), "code": code_digest(), "python": sys.version}  # noqa: PTH100

    def find() -> Finding:
        found = CocoSet.open(images, annotations, split)
        facts = {name: getattr(found, name) for name in _FACTS}
        return Finding(facts, found.images.arrays)

    finding = kept("annotations", annotations, question, find)
    return CocoSet(
        split=split,
        images=CocoImages(images, finding.arrays),
        annotation_file=annotations,
        image_folder=images,
        **finding.facts,
    )


def contents_of(train: CocoSet | None, val: CocoSet) -> Contents:
    """What tells which data set the splits are. Raises DataError if an image has gone since they were opened."""
    if train is None:
        evaluated = [image.path for image in val.images]
        counts = len(val.images), len(val.categories)
        return evaluation_contents(*counts, val.fingerprint, evaluated, always=[val.annotation_file])
    fingerprint = join_fingerprints(train.fingerprint, val.fingerprint)
    images = [[(image.name, image.path) for image in split.images] for split in (train, val)]
    paths = ([path for _, path in part] for part in images)
    sample = draw_sample(fingerprint, *paths, always=[train.annotation_file, val.annotation_file])
    names = [[name for name, _ in part] for part in images]
    shared = shared_images((train.image_folder, names[0]), (val.image_folder, names[1]))
    return Contents(len(train.images), len(val.images), len(train.categories), fingerprint, sample, notes=tuple(shared))


def compare_categories(train: dict[int, str], val: dict[int, str]) -> str | None:
    """Say how the splits' categories, names by id, differ and what to do; None if they are the same."""
    only_train = [f"{identity} {train[identity]!r}" for identity in sorted(train.keys() - val.keys())]
    only_val = [f"{identity} {val[identity]!r}" for identity in sorted(val.keys() - train.keys())]
    renamed = [
        f"{identity} is {train[identity]!r} in train, {_renamed(val[identity], train[identity])} in val"
        for identity in sorted(train.keys() & val.keys())
        if train[identity] != val[identity]
    ]
    parts = [f"only in train {name_some(only_train, len(only_train))}"] if only_train else []
    parts += [f"only in val {name_some(only_val, len(only_val))}"] if only_val else []
    parts += [name_some(renamed, len(renamed))] if renamed else []
    return f"{'; '.join(parts)}. Give both files the same ids and names." if parts else None


def _renamed(name: str, before: str) -> str:
    why = unlike_spelling(name, before)
    return f"{name!r} ({why})" if why else repr(name)


def _read(path: Path, split: Split) -> tuple[CocoJson, Findings]:
    if path.stat().st_size < _SECONDS_OF_READING:
        file = read_coco_json(path)
        return file, examine(file, split)
    with progress_line(f"reading {path.name}", 1, "file") as line:
        file = read_coco_json(path)
        line.update(1)
    with progress_line(f"examining {path.name}", len(file.annotations), "annotations") as line:
        return file, examine(file, split, line.update)


def _assemble(file: CocoJson, found: Findings, folder: Path, split: Split) -> CocoSet:
    """Sort the annotations to their images. Empties the list of `file` on the way, to hold no annotation twice."""
    by_image: dict[int, list[dict[str, Any]]] = {entry["id"]: [] for entry in file.images}
    for position in reversed(range(len(file.annotations))):
        entry = file.annotations.pop()
        if split == "train" and position in found.unusable:
            continue
        segmentation = entry.get("segmentation")
        if split == "train" or isinstance(segmentation, dict):
            segmentation = found.segmentations.get(position, segmentation)
        kept = {**entry, "segmentation": segmentation, "iscrowd": int(entry.get("iscrowd", 0))}
        by_image[entry["image_id"]].append({key: kept[key] for key in _KEPT if key in kept})
    images = sorted(file.images, key=lambda entry: entry["id"])
    categories = sorted(file.categories, key=lambda entry: entry["id"])
    return CocoSet(
        split=split,
        images=CocoImages.of(folder, ((entry, tuple(reversed(by_image.pop(entry["id"])))) for entry in images)),
        categories=[entry["name"] for entry in categories],
        category_ids=[entry["id"] for entry in categories],
        annotation_file=file.path,
        annotation_sha256=file.sha256,
        image_folder=folder,
        notes=found.notes,
    )


def _hint(split: Split) -> str:
    return (
        "Expected COCO's layout below the data folder: train2017/, val2017/, annotations/instances_train2017.json and "
        f"instances_val2017.json. Other places: --set data.{split}_images=FOLDER --set data.{split}_json=FILE."
    )
