"""A data set whose images are named by files: recognised, opened, or told what is wrong with it.

How to add one: a function that reads everything below a root into a `Listed` and raises nothing about the data, and a
`Layout` that names it. `open_listed` and `check.check_listed` do the rest, class folders included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from backbones.errors import DataError
from backbones.images.folders import describe, folder_names
from backbones.images.observing import looking_at
from tasks.datasets.class_folders.halves import VALIDATION_FOLDERS
from tasks.datasets.class_folders.layout import ClassFolders, open_class_folders
from tasks.datasets.identity import Counts
from tasks.datasets.image_lists.files import is_filled
from tasks.datasets.labelled import LabelledSplit, kept_splits
from tasks.datasets.wording import counted, name_some


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
        notes: what a reader of the numbers should know: of each split in the split's own note, of both here.
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
    images:   the folders in the root that may hold the listed images
    """

    name: str
    lists: Sequence[str]
    expected: str
    read: Callable[[Path], Listed]
    counts: Counts
    images: Sequence[str] = ()


def open_listed(layout: Layout, root: Path) -> tuple[LabelledSplit, LabelledSplit]:
    """Both splits below `root`, training first, as they are distributed or in class folders.

    Raises DataError for neither, and for the first fault that is found, with how many more there are.
    """
    if not is_as_distributed(layout, root):
        return open_class_folders(root)

    def find() -> tuple[LabelledSplit, LabelledSplit]:
        found = layout.read(root)
        if is_tree_beside_lists(layout, root, found):
            tree = ClassFolders.open(root, "train")
            return replace(tree, note=_joined(tree.note, beside_lists(layout))), ClassFolders.open(root, "val")
        if found.faults:
            more = len(found.faults) - 1
            others = f" {more:,} more: backbench data check {layout.name} --data {root} tells all." if more else ""
            raise DataError(f"{found.faults[0]}{others}")
        train = found.splits["train"]
        return replace(train, note=_joined(train.note, *found.notes, *found.flaws)), found.splits["val"]

    train, val = kept_splits(layout.name, root, find)
    return replace(train, is_listed=True), replace(val, is_listed=True)


def _joined(*notes: str | None) -> str | None:
    """The notes one after the other, each once."""
    return " ".join(dict.fromkeys(filter(None, notes))) or None


def is_tree_beside_lists(layout: Layout, root: Path, found: Listed) -> bool:
    """Whether the lists name nothing that is there, and class folders lie beside them, which serve then.

    Raises DataError for class folders with folders of their own, see `_refuse_inner_folders`.
    """
    if not layout.images or any(len(split.paths) for split in found.splits.values()):
        return False
    folders = folder_names(root)
    if "train" not in folders or not any(name in folders for name in VALIDATION_FOLDERS):
        return False
    if any(is_filled(root / name) for name in layout.images):
        return False
    _refuse_inner_folders(layout, root / "train")
    return True


def beside_lists(layout: Layout) -> str:
    """What is said of such class folders."""
    return f"Opened as class folders, train/ and val/: of the images that {layout.name}'s lists name none is there."


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
    has_validation = any(name in folders for name in VALIDATION_FOLDERS)
    if "train" in folders and (has_validation or folder_names(root / "train")):
        _refuse_inner_folders(layout, root / "train")
        return False
    raise DataError(f"{root}: no {layout.name} found. {_expected(layout)} {_what_is_there(layout, root, folders)}")


def _expected(layout: Layout) -> str:
    return f"Expected {layout.expected}; or train/CLASS/*.jpg and val/CLASS/*.jpg."


def _refuse_inner_folders(layout: Layout, train: Path) -> None:
    """Raise DataError for folders of class folders, such as Places' letters, which would be taken for classes.

    As many folders as there are classes are the classes, whatever is in them.
    """
    folders = folder_names(train)
    if len(folders) == layout.counts.classes:
        return
    inner = [name for name in folders if folder_names(train / name)]
    if inner:
        raise DataError(
            f"{train}: folders of folders, {name_some(inner, len(inner))}, and {counted(len(folders), 'folder')} for "
            f"{layout.counts.classes:,} classes: which of them are classes is told by the lists alone. "
            f"{_expected(layout)} Classes of your own: dataset=folders."
        )


def _what_to_do_with(layout: Layout, root: Path, folder: Path) -> str:
    """To pass the folder that the lists are in, unless the images are not there too."""
    if folder == root.resolve().parent:
        return f"pass {folder}"
    has_images = any(is_filled(folder / name) for name in layout.images)
    if not has_images and any(is_filled(root / name) for name in layout.images if name != folder.name):
        return f"move what is in {folder} up to {root}, where the images are"
    return f"pass {folder}, or move what is in it up"


def _what_is_there(layout: Layout, root: Path, folders: Sequence[str]) -> str:
    above = root.resolve().parent
    for folder in (*(root / name for name in folders), above):
        for name in layout.lists:
            if (folder / name).exists():
                return f"{folder / name} is there: {_what_to_do_with(layout, root, folder)}."
    for below in (root / name for name in folders):
        if (below / "train").is_dir() and (below / "val").is_dir():
            return f"{below} has train/ and val/: pass that folder."
    names = f": {name_some([f'{name}/' for name in folders], len(folders))}" if folders else ""
    return f"Found {describe(root)}{names}."


def refuse_absent(path: Path, source: str) -> None:
    """Raise DataError for a list that is not there, or is a folder, with what to do; `source` says where it comes from.

    Archives of several sites unpack a file into a folder of its name.
    """
    looking_at(path)
    if path.is_dir():
        inner = path / path.name
        advice = f"Put {inner} in its place" if inner.is_file() else f"Put the file in its place, {source}"
        raise DataError(f"{path}: a folder, where a list of images was expected. {advice}.")
    if not path.exists():
        raise DataError(f"{path}: no such file. Expected a list of images: put it there, {source}.")
