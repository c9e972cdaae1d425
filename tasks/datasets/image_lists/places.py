"""What Places205 and Places365 have in common: images in folders that are named after their classes, and lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbones.errors import DataError
from backbones.images.observing import looking_at
from tasks.datasets.image_lists.files import compare_with_disk
from tasks.datasets.image_lists.lines import ImageList, read_list
from tasks.datasets.image_lists.listed import Listed, refuse_absent
from tasks.datasets.image_lists.missing import lies_elsewhere, spelled_otherwise
from tasks.datasets.labelled import LabelledSplit
from tasks.datasets.wording import counted, name_some


@dataclass(frozen=True)
class Files:
    """Where the lists of a data set are, and the folders from which they name images, by split.

    categories: the list of classes; without it the training images' folders have the same names
    source: by split, what archive its list comes from, in words
    is_complete_without: whether the data set is distributed without the list of classes
    """

    lists: Mapping[str, Path]
    images: Mapping[str, Path]
    categories: Path
    source: Mapping[str, str]
    is_complete_without: bool = False


def read_places(root: Path, layout: str, files: Files) -> Listed:
    """Everything that the lists and the folders tell."""
    found = Listed(layout)
    lists: dict[str, ImageList] = {}
    for split, path in files.lists.items():
        try:
            refuse_absent(path, files.source[split])
            lists[split] = _named_below(files.images[split], root, read_list(path))
        except DataError as error:
            found.faults.append(str(error))
            continue
        found.faults += lists[split].faults
        found.flaws += lists[split].flaws
    if not (files.categories.exists() or files.is_complete_without):
        found.flaws.append(f"{files.categories}: no such file. The classes are named by the training images' folders.")
    folders = _folders_of_classes(files.categories, lists, found)
    found.classes = [_class_name(folder) for folder in folders]
    for split, images in lists.items():
        _check_classes(split, images, folders, found)
    lists = _present(root, files.images, lists, found)
    for split, images in lists.items():
        inside = images.only(images.labels < len(folders)) if folders else images
        labels, paths = inside.labels.astype(np.int32), inside.paths(files.images[split])
        note = _absent_note(inside, found.classes) if split == "val" else None
        found.splits[split] = LabelledSplit(root, split, layout, paths, labels, found.classes, note)
    return found


def _named_below(folder: Path, root: Path, images: ImageList) -> ImageList:
    """Without the folder of images itself, which some lists name too."""
    return images.without(folder.relative_to(root).as_posix()).without(folder.name)


def _folders_of_classes(path: Path, lists: Mapping[str, ImageList], found: Listed) -> list[str]:
    """The folder that each class is named after, in the order of the classes' numbers; none where that is not told."""
    looking_at(path)
    if path.exists():
        try:
            categories = read_list(path)
        except DataError as error:
            found.faults.append(str(error))
            return []
        if sorted(categories.labels.tolist()) == [*range(len(categories.labels))]:
            order = np.argsort(categories.labels)
            return [name.decode(errors="surrogateescape") for name in categories.names[order]]
        found.faults.append(
            f"{path}: its classes are not numbered from 0 to {len(categories.labels) - 1:,}, each once. Expected lines "
            'such as "/a/airfield 0".'
        )
        return []
    if "train" not in lists:
        return []
    names, of_images = lists["train"].folders()
    known = lists["train"].labels < len(names)
    pairs, counts = np.unique(
        lists["train"].labels[known] * len(names) + of_images[known],
        return_counts=True,
    )
    folders = [""] * len(names)
    for pair in pairs[np.argsort(counts, kind="stable")].tolist():  # of several folders the one with most images
        folders[pair // len(names)] = names[pair % len(names)]
    return folders


def _check_classes(split: str, images: ImageList, folders: Sequence[str], found: Listed) -> None:
    """Every number has to be a class's, and where images lie in folders, that of their folder."""
    if not folders:
        return
    labels = images.labels
    outside = labels >= len(folders)
    if outside.any():
        at = int(np.flatnonzero(outside)[0])
        hint = " They are numbered from 1: subtract 1 from each." if labels.min() == 1 else ""
        found.faults.append(
            f"{images.path}: {counted(int(outside.sum()), 'image')} of a class that there is not: "
            f"{_name(images, at)} of class {labels[at]}. Expected 0 to {len(folders) - 1:,}.{hint}"
        )
    elif labels.min() == 1 and split == "train":
        found.faults.append(f"{images.path}: no image of class 0, {folders[0]}. Expected numbers from 0, not from 1.")
    _check_folders(split, images, folders, found)
    absent = sorted(set(range(len(folders))) - set(np.unique(labels).tolist()))
    if absent and split == "train":
        found.flaws.append(
            f"{images.path}: no training image of {len(absent):,} of {len(folders):,} classes: "
            f"{name_some([folders[label] or label for label in absent], len(absent))}."
        )


def _check_folders(split: str, images: ImageList, folders: Sequence[str], found: Listed) -> None:
    """An image in some class's folder has to be of that class; where no folder is a class's they say nothing."""
    names, of_images = images.folders()
    numbers = {folder: number for number, folder in enumerate(folders) if folder}
    if not numbers.keys() & set(names):
        if split == "train":
            at = int(np.argmax(images.labels < len(folders)))
            found.flaws.append(
                f"{images.path}: no folder of its images is a class's: {_name(images, at)} is of class "
                f"{images.labels[at]}, {folders[images.labels[at] % len(folders)]}. The classes are taken by their "
                "numbers all the same."
            )
        return
    expected = np.array([numbers.get(name, -1) for name in names])[of_images]
    wrong = (expected >= 0) & (expected != images.labels) & (images.labels < len(folders))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        found.faults.append(
            f"{images.path}: {counted(int(wrong.sum()), 'image')} of another class than their folder: "
            f"{_name(images, at)} of class {images.labels[at]}, which is {folders[images.labels[at]] or 'none'}. The "
            "lists of one release belong together: replace the one that is of another."
        )
    if (expected < 0).any():
        at = int(np.flatnonzero(expected < 0)[0])
        found.faults.append(
            f"{images.path}: {counted(int((expected < 0).sum()), 'image')} in folders that are no class's: "
            f"{_name(images, at)} of class {images.labels[at]}. The lists of one release belong together: replace the "
            "one that is of another."
        )


def _present(
    root: Path, folders: Mapping[str, Path], lists: dict[str, ImageList], found: Listed
) -> dict[str, ImageList]:
    """The lists without the images that are missing on the disk."""
    kept = dict(lists)
    for folder in dict.fromkeys(folders.values()):
        below = {split: images for split, images in lists.items() if folders[split] == folder}
        if not folder.is_dir():
            found.faults.append(f"{folder}: no such folder of images. {_where_else(root, folder)}")
            kept = {split: images for split, images in kept.items() if split not in below}
            continue
        try:
            difference = compare_with_disk(folder, {split: images.paths(folder) for split, images in below.items()})
        except DataError as error:
            found.faults.append(str(error))
            continue
        for split, missing in difference.missing.items():
            if missing:
                found.faults.append(_describe_missing(below[split], folder, missing, difference.unlisted))
                gone = np.array([name.encode(errors="surrogateescape") for name in missing])
                kept[split] = below[split].only(~np.isin(below[split].names, gone))
        if difference.unlisted and len(below) == list(folders.values()).count(folder):
            found.flaws.append(
                f"{folder}: {counted(len(difference.unlisted), 'image')} in no list, left out: "
                f"{name_some(difference.unlisted, len(difference.unlisted))}."
            )
    return kept


def _where_else(root: Path, folder: Path) -> str:
    """Where the archive's own folder may have put them, or the lists may have been put."""
    place = folder.relative_to(root)
    for other in sorted(root.glob(f"*/{place}")):
        return f"{other} is there: move it up."
    above = root.resolve().parent
    if (above / place).is_dir():
        return f"{above / place} is there: move what is in {root} up to {above}, and pass {above}."
    return "Unpack the images there."


def _describe_missing(images: ImageList, folder: Path, missing: Sequence[str], unlisted: Sequence[str]) -> str:
    advice = (
        spelled_otherwise(missing, unlisted)
        or lies_elsewhere(folder, missing, unlisted)
        or ("Unpack or copy them again." if len(missing) < len(images.names) else "Unpack the images there.")
    )
    return (
        f"{images.path}: {counted(len(missing), 'image')} of {len(images.names):,} not found in {folder}: "
        f"{name_some(missing, len(missing))}. {advice}"
    )


def _absent_note(images: ImageList, classes: Sequence[str]) -> str | None:
    absent = sorted(set(range(len(classes))) - set(np.unique(images.labels).tolist()))
    if not absent:
        return None
    names = name_some([classes[label] for label in absent], len(absent))
    return f"{images.path.name} has no image of {len(absent):,} of {len(classes):,} classes: {names}."


def _class_name(folder: str) -> str:
    """`bus_station/indoor` for `b/bus_station/indoor`: the first level is the initial."""
    initial, _, name = folder.partition("/")
    return name if len(initial) == 1 and name else folder


def _name(images: ImageList, at: int) -> str:
    name: bytes = images.names[at]
    return name.decode(errors="replace")
