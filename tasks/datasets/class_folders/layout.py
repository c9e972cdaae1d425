"""Images in one folder per class: ImageNet as it is usually laid out, and anybody's own photographs.

Three layouts are recognised:

- `train/CLASS/…` and `val/CLASS/…` (or `validation/`), images at any depth below CLASS;
- the same with the validation images in one flat folder and a file that maps them to classes, as ImageNet
  (Kaggle's archive included) and Tiny ImageNet come;
- `CLASS/…` alone: a fifth of each class is held out for validation, the same one every time. A `train/` or `val/`
  beside the other is refused: the folder above was meant. So are `Train/` and `Test/`, which are no classes, and
  sets whose classes are told by lists.

An evaluation alone also takes the validation images of the first two without a `train/`.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from backbones.errors import DataError
from backbones.images.folders import (
    describe,
    describe_files,
    find_droppings,
    folder_names,
    list_folder,
    list_suffixes,
)
from backbones.images.observing import looking_at
from backbones.images.packed import Paths
from tasks.datasets.class_folders.foreign_lists import refuse_foreign_lists
from tasks.datasets.class_folders.halves import (
    KAGGLE_FOLDER,
    VALIDATION_FOLDERS,
    evaluation_folders,
    refuse_half,
    refuse_halves_as_classes,
    training_folders,
)
from tasks.datasets.class_folders.validation_labels import read_validation_labels, validation_classes
from tasks.datasets.labelled import LabelledSplit, kept_split
from tasks.datasets.wording import name_some, unlike_spelling

_VALIDATION_EXPECTED = "Expected val/CLASS/*.jpg, or validation images and a file that maps them to classes."

HELD_OUT_SHARE = 0.2
"""Share of each class that validates where there is no val folder."""


class ClassFolders(LabelledSplit):
    """One split of a labelled image folder, opened with `ClassFolders.open`.

    `classes` are the names of the training folders, sorted by code point, as torchvision's ImageFolder does.
    """

    @classmethod
    def open(cls, root: str | Path, split: Literal["train", "val"]) -> "ClassFolders":
        """List one split of the folder `root`, in any of the layouts that the module describes.

        Raises DataError for a folder in none of them, and where training could only go wrong: fewer than two classes,
        a class without images, a validation class that training doesn't know.
        """
        root = Path(root)
        images = _images_below(root)
        if not _is_divided(images):
            return _open_undivided(root, split)
        classes = _find_classes(images / "train", f"train/CLASS/*.jpg{_other_training_folders(images)}")
        if split == "train":
            return _open_classes(root, images / "train", "train", classes)
        validation = _find_validation_folder(images)
        flat = _find_flat_folder(validation, classes)
        if flat is None:
            return _open_classes(root, validation, "val", classes)
        return _open_flat(root, flat, _mapping_folders(root, images, validation), classes)

    @classmethod
    def open_alone(cls, root: str | Path, classes: Sequence[str] = ()) -> "ClassFolders":
        """List the validation images of a folder without training images, see `has_validation_alone`.

        `classes` are known from elsewhere, and in the order that counts: some may have no image. If they are not known,
        or other ones lie there, the classes are those of the validation folder or its mapping file.
        Raises DataError where `ClassFolders.open` does.
        """
        root = Path(root)
        images = _images_below(root)
        validation = _find_validation_folder(images)
        flat = _find_flat_folder(validation, classes)
        if flat is None:
            found = _find_classes(validation, "val/CLASS/*.jpg")
            return _open_classes(root, validation, "val", [*classes] if {*found} <= {*classes} else found)
        folders = _mapping_folders(root, images, validation)
        if not classes:
            classes = validation_classes([name for name in list_folder(flat)[0] if "/" not in name], folders)
        return _open_flat(root, flat, folders, [*classes])


def has_validation_alone(root: Path) -> bool:
    """Whether a folder has validation images, and nothing that may be its training images.

    Raises DataError for a folder that is itself called so, below another that would be one.
    """
    images = _images_below(root)
    folders = folder_names(images) if images.is_dir() else []
    if any(name in folders for name in VALIDATION_FOLDERS):
        return not training_folders(folders)
    absolute = Path(os.path.abspath(root))  # noqa: PTH100 - a link stays a link
    if folders and absolute.name in VALIDATION_FOLDERS and not training_folders(folder_names(absolute.parent)):
        raise DataError(f"{root}: the validation images themselves. Pass the folder above, {absolute.parent}")
    return False


def _images_below(root: Path) -> Path:
    looking_at(root / KAGGLE_FOLDER)
    return root / KAGGLE_FOLDER if (root / KAGGLE_FOLDER).is_dir() else root


def open_class_folders(root: Path) -> tuple[LabelledSplit, LabelledSplit]:
    """Both splits of the folder `root`, training first, or what was found before in the same folders.

    Raises DataError where `ClassFolders.open` does.
    """
    return _open_kept(root, "train"), _open_kept(root, "val")


def open_validation_alone(root: Path, classes: Sequence[str]) -> LabelledSplit:
    """`ClassFolders.open_alone`, or what it found before in the same folders for the same classes."""
    digest = hashlib.sha256("\0".join(classes).encode(errors="surrogateescape")).hexdigest()
    question = {"split": "val alone", "classes": digest}
    return kept_split("class folders", root, question, lambda: ClassFolders.open_alone(root, classes))


def _open_kept(root: Path, split: Literal["train", "val"]) -> LabelledSplit:
    return kept_split("class folders", root, {"split": split}, lambda: ClassFolders.open(root, split))


def _is_divided(images: Path) -> bool:
    """Whether `images` has a training folder, and not a class that happens to be called "train"."""
    folders = folder_names(images) if images.is_dir() else []
    if any(name in folders for name in VALIDATION_FOLDERS):
        return True
    return "train" in folders and (len(folders) == 1 or bool(folder_names(images / "train")))


def _find_classes(folder: Path, expected: str) -> list[str]:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: {'a file, not a folder' if folder.exists() else 'no such folder'}. Expected {expected}."
        )
    classes = folder_names(folder)
    if not classes:
        raise DataError(
            f"{folder}: no class folders found. Expected {expected}; found {describe(folder)} directly in it. "
            f"Sort the images into one folder per class."
        )
    if len(classes) == 1:
        raise DataError(f"{folder}: only one class, {classes[0]!r}. Telling classes apart takes at least two folders.")
    return classes


def _find_validation_folder(images: Path) -> Path:
    for name in VALIDATION_FOLDERS:
        if (images / name).is_dir():
            return images / name
    others = ", ".join(f"{name}/" for name in evaluation_folders(folder_names(images)))
    expected = f"{others} lies there: rename it to val, or link to it." if others else _VALIDATION_EXPECTED
    raise DataError(
        f"{images / 'val'}: no such folder. {expected} To hold out a part of the training images "
        f"instead, pass {images / 'train'}."
    )


def _mapping_folders(root: Path, images: Path, validation: Path) -> list[Path]:
    """Where the file may lie that says which class an image of a flat validation folder is of."""
    return [validation, images, root, images / "meta", root / "ILSVRC2012_devkit_t12" / "data"]


def _other_training_folders(images: Path) -> str:
    others = [] if (images / "train").exists() else training_folders(folder_names(images))
    return f"; {', '.join(f'{name}/' for name in others)} lies there: rename it to train" if others else ""


def _find_flat_folder(validation: Path, classes: Sequence[str]) -> Path | None:
    """The folder that holds the validation images unsorted: `validation`, or its `images` in Tiny ImageNet; or None."""
    folders = folder_names(validation)
    if folders == ["images"] and "images" not in classes:
        return validation / "images"
    return validation if not folders else None


def _open_classes(root: Path, folder: Path, split: str, classes: list[str]) -> ClassFolders:
    """List folder/CLASS/…; every training class needs images, a validation class may be absent."""
    unknown = sorted(set(folder_names(folder)) - set(classes))
    if unknown:
        raise DataError(
            f"{folder}: {len(unknown):,} class folders that train/ doesn't have: "
            f"{_name_some([_with_near_match(name, classes) for name in unknown])}. Rename or remove them."
        )
    names, labels, left_out = _label_by_folder(folder, classes)
    absent = _absent_classes(labels, classes)
    if split == "train":
        _refuse_empty(folder, absent)
    if not names:
        raise DataError(f"{folder}: no images found in its class folders: {_describe_each(folder, absent)}.")
    notes = _describe_left_out(folder, left_out)
    if absent:
        notes.append(
            f"{folder.name}/ has no image of {len(absent):,} of {len(classes):,} classes: {_name_some(absent)}."
        )
    return _split(root, split, "class folders", folder, names, labels, classes, _join(notes))


def _open_flat(root: Path, folder: Path, mapping_folders: Sequence[Path], classes: list[str]) -> ClassFolders:
    names, others = ([name for name in part if "/" not in name] for part in list_folder(folder))
    if not names:
        raise DataError(f"{folder}: no images found. Expected CLASS/*.jpg or images; found {describe(folder)}.")
    labels, mapping = read_validation_labels(names, mapping_folders, classes)
    layout = f"class folders; flat validation folder labelled by {mapping.name}"
    others = [name for name in others if folder / name != mapping]
    note = _describe_others(folder, others) if others else None
    return _split(root, "val", layout, folder, names, labels, classes, note)


def _open_undivided(root: Path, split: str) -> ClassFolders:
    refuse_half(root)
    refuse_foreign_lists(root)
    refuse_halves_as_classes(root)
    classes = _find_classes(root, "train/CLASS/*.jpg and val/CLASS/*.jpg, or CLASS/*.jpg")
    names, labels, left_out = _label_by_folder(root, classes)
    _refuse_empty(root, _absent_classes(labels, classes))
    held_out = _hold_out(names, labels)
    if not held_out:
        raise DataError(f"{root}: one image per class leaves none to validate on. Add images or a val/ folder.")
    wanted = [index for index in range(len(names)) if (index in held_out) == (split == "val")]
    single = [classes[label] for label, count in sorted(Counter(labels).items()) if count == 1]
    notes = [
        f"No train/ and val/: {len(held_out):,} of {len(names):,} images, about {HELD_OUT_SHARE:.0%} of each class, "
        f"are held out for validation, chosen by a hash of their names."
    ]
    if single:
        notes.append(f"{len(single):,} classes with a single image are in training only: {_name_some(single)}.")
    notes += _describe_left_out(root, left_out)
    return _split(
        *(root, "train" if split == "train" else "holdout", "class folders, undivided", root),
        names=[names[index] for index in wanted],
        labels=[labels[index] for index in wanted],
        classes=classes,
        note=_join(notes),
    )


def _split(
    root: Path,
    split: str,
    layout: str,
    folder: Path,
    names: Sequence[str],
    labels: Sequence[int],
    classes: list[str],
    note: str | None = None,
) -> ClassFolders:
    """The images of these `names` below `folder`."""
    return ClassFolders(root, split, layout, Paths.of(folder, names), np.array(labels, np.int32), classes, note)


@dataclass(frozen=True)
class _LeftOut:
    """What lies in a folder of class folders and is no image of a class: images beside them, other files in them."""

    stray: int
    others: list[str]


def _label_by_folder(folder: Path, classes: Sequence[str]) -> tuple[list[str], list[int], _LeftOut]:
    """The images below the class folders, their labels, and what is left out."""
    positions = {name: position for position, name in enumerate(classes)}
    names, others = list_folder(folder)
    inside = [name for name in names if "/" in name]
    left_out = _LeftOut(len(names) - len(inside), [name for name in others if "/" in name])
    return inside, [positions[name.partition("/")[0]] for name in inside], left_out


def _hold_out(names: Sequence[str], labels: Sequence[int]) -> set[int]:
    """Choose the indices to validate on: of each class with two images or more at least one, never all."""
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    held_out: set[int] = set()
    for indices in by_class.values():
        ranked = sorted(indices, key=lambda index: _hash(names[index]))
        count = min(max(1, round(HELD_OUT_SHARE * len(ranked))), len(ranked) - 1)
        held_out.update(ranked[:count])
    return held_out


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


def _with_near_match(name: str, classes: Sequence[str]) -> str:
    """`Cat (train/ has cat, in other capitals)`, or the name alone."""
    for known in classes:
        if why := unlike_spelling(name, known):
            return f"{name} (train/ has {known}, {why})"
    return name


def _absent_classes(labels: Sequence[int], classes: Sequence[str]) -> list[str]:
    present = set(labels)
    return [name for label, name in enumerate(classes) if label not in present]


def _refuse_empty(folder: Path, empty: Sequence[str]) -> None:
    if empty:
        raise DataError(
            f"{folder}: {len(empty):,} class folders without images: {_describe_each(folder, empty)}. An image is a "
            f"file ending in {list_suffixes()}. Add images or remove the folders."
        )


def _describe_each(folder: Path, empty: Sequence[str]) -> str:
    """What lies in class folders without images instead: "cat (12 .heic files), dog (an empty folder)"."""
    return _name_some([f"{name} ({describe(folder / name)})" for name in empty if (folder / name).is_dir()])


def _describe_others(folder: Path, names: Sequence[str]) -> str:
    return f"{folder.name}/ holds files that are no images, left out: {describe_files(names)}."


def _describe_left_out(folder: Path, left_out: _LeftOut) -> list[str]:
    notes = []
    if left_out.stray:
        notes.append(
            f"{left_out.stray:,} images lie directly in {folder.name}/ and belong to no class; they are left out."
        )
    if left_out.others:
        notes.append(_describe_others(folder, left_out.others))
    if droppings := find_droppings(folder):
        notes.append(f"{', '.join(droppings)} in {folder.name}/: passed over, no class but what a program left there.")
    return notes


def _name_some(names: Sequence[str]) -> str:
    return name_some(names, len(names))


def _join(notes: Sequence[str]) -> str | None:
    return " ".join(notes) or None
