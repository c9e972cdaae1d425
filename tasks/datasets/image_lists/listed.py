"""A data set whose images are named by files: recognised, opened, or told what is wrong with it.

How to add one: a function that reads everything below a root into a `Listed` and raises nothing about the data, and a
`Layout` that names it. `open_listed` and `check.check_listed` do the rest, class folders included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from backbones.errors import DataError
from backbones.images.folders import describe, folder_names, list_folder
from backbones.images.observing import looking_at
from tasks.datasets.class_folders.halves import VALIDATION_FOLDERS
from tasks.datasets.class_folders.layout import open_class_folders
from tasks.datasets.identity import Counts
from tasks.datasets.labelled import LabelledSplit, kept_splits
from tasks.datasets.wording import name_some


@dataclass
class Listed:
    """What was found of a data set.

    Attributes:
        layout: which of its layouts, in words.
        classes: their names, in the order of what identifies them.
        splits: "train" and "val", without the images that are missing on the disk, which are a fault; one whose list
            cannot be read is absent.
        faults: what makes it unusable, each with the file and what to do. Nothing is opened, the check fails.
        flaws: what is wrong but can be trained on, such as a line that names an image again. The check fails; who
            opens it finds it in the training split's note, where `open_listed` adds it.
        notes: what a reader of the numbers should know, of each split in the split's own note.
    """

    layout: str
    classes: list[str] = field(default_factory=list)
    splits: dict[str, LabelledSplit] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """A data set as its makers distribute it.

    name:     as `backbench data check` takes it
    lists:    the files in the root by which it is told, any of them
    expected: all that has to be there, in words
    read:     finds everything below the root, and all that is wrong with it; raises nothing about the data
    counts:   as published
    """

    name: str
    lists: Sequence[str]
    expected: str
    read: Callable[[Path], Listed]
    counts: Counts


def open_listed(layout: Layout, root: Path) -> tuple[LabelledSplit, LabelledSplit]:
    """Both splits below `root`, training first, as they are distributed or in class folders.

    Raises DataError for neither, and for the first fault that is found, with how many more there are.
    """
    if not is_as_distributed(layout, root):
        return open_class_folders(root)

    def find() -> tuple[LabelledSplit, LabelledSplit]:
        found = layout.read(root)
        if found.faults:
            more = len(found.faults) - 1
            others = f" {more:,} more: backbench data check {layout.name} --data {root} tells all." if more else ""
            raise DataError(f"{found.faults[0]}{others}")
        train = found.splits["train"]
        note = " ".join(filter(None, [train.note, *found.flaws])) or None
        return replace(train, note=note), found.splits["val"]

    train, val = kept_splits(layout.name, root, find)
    return replace(train, is_listed=True), replace(val, is_listed=True)


def is_as_distributed(layout: Layout, root: Path) -> bool:
    """Whether the lists lie there; otherwise it is a tree of class folders.

    Raises DataError where neither is there, and says what is, and where the lists may be.
    """
    if not root.is_dir():
        raise DataError(f"{root}: {'a file, not a folder' if root.exists() else 'no such folder'}.")
    looking_at(root)
    for name in layout.lists:
        looking_at(root / name)
        if (root / name).exists():
            return True
    folders = folder_names(root)
    expected = f"Expected {layout.expected}; or train/CLASS/*.jpg and val/CLASS/*.jpg."
    if "train" in folders and any(name in folders for name in VALIDATION_FOLDERS):
        _refuse_inner_folders(root / "train", expected)
        return False
    raise DataError(f"{root}: no {layout.name} found. {expected} {_what_is_there(layout, root, folders)}")


def _refuse_inner_folders(train: Path, expected: str) -> None:
    """Raise DataError for folders of class folders, such as Places' letters: they are taken for classes."""
    folders = folder_names(train)
    inner = [name for name in folders if folder_names(train / name)]
    if folders and inner == folders and not any("/" not in name for each in folders for name in _images(train / each)):
        raise DataError(
            f"{train}: folders of folders, {name_some(folders, len(folders))}: which of them are classes is told by "
            f"the lists, and they are not there. {expected}"
        )


def _images(folder: Path) -> list[str]:
    return list_folder(folder)[0]


def _what_is_there(layout: Layout, root: Path, folders: Sequence[str]) -> str:
    above = root.resolve().parent
    for folder in (*(root / name for name in folders), above):
        for name in layout.lists:
            if (folder / name).exists():
                other = "" if folder == above else ", or move what is in it up"
                return f"{folder / name} is there: pass {folder}{other}."
    for below in (root / name for name in folders):
        if (below / "train").is_dir() and (below / "val").is_dir():
            return f"{below} has train/ and val/: pass that folder."
    names = f": {name_some([f'{name}/' for name in folders], len(folders))}" if folders else ""
    return f"Found {describe(root)}{names}."
