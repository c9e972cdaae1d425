"""What lies on the disk, beside what a list names: each folder is listed once, no file is asked for by itself."""

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backbones.errors import DataError
from backbones.images.folders import DROPPINGS, IMAGE_SUFFIXES
from backbones.images.in_threads import each_in_threads
from backbones.images.observing import looking_at
from backbones.images.packed import Paths


def is_filled(folder: Path) -> bool:
    """Whether it is a folder with anything in it that is not hidden. Raises DataError if it cannot be read."""
    looking_at(folder)
    try:
        if not folder.is_dir():
            return False
        with os.scandir(folder) as entries:
            return any(not entry.name.startswith(".") for entry in entries)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read: {error.strerror}.") from None


@dataclass
class Difference:
    """Names below a folder: of each split the `missing` files, and the images that are `unlisted` in every one."""

    missing: dict[str, list[str]] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)


def compare_with_disk(folder: Path, lists: Mapping[str, Paths]) -> Difference:
    """Hold what is below `folder` against the names in the `lists`, by split, all of them below `folder`.

    Names and folders that start with a dot and what programs left behind count as unlisted no more than files that are
    no images. Raises DataError for a folder that cannot be read.
    """
    difference = Difference({split: [] for split in lists})
    names = {split: _Names(paths) for split, paths in lists.items()}
    for parent, found in _walk(folder):
        unlisted = set(filter(_is_image, found))
        for split, listed in names.items():
            wanted = listed.take(parent)
            difference.missing[split] += [f"{parent}{name}" for name in wanted if name not in found]
            unlisted -= wanted
        difference.unlisted += [f"{parent}{name}" for name in unlisted]
    for split, listed in names.items():
        difference.missing[split] = sorted(difference.missing[split] + listed.rest())
    difference.unlisted.sort()
    return difference


class _Names:
    """Names by the folder that they are in, as positions: of two million texts no copy is made."""

    def __init__(self, paths: Paths) -> None:
        self.content, self.ends = paths.content.data, paths.ends
        self.positions: dict[str, array[int]] = {}
        for position, name in enumerate(paths.names()):
            self.positions.setdefault(name[: name.rfind("/") + 1], array("q")).append(position)

    def take(self, parent: str) -> set[str]:
        """The names in the folder, without it, which is forgotten then."""
        return {self._name(position)[len(parent) :] for position in self.positions.pop(parent, ())}

    def rest(self) -> list[str]:
        """The names in folders that were not taken."""
        return [self._name(position) for positions in self.positions.values() for position in positions]

    def _name(self, position: int) -> str:
        start = int(self.ends[position - 1]) if position else 0
        return os.fsdecode(bytes(self.content[start : int(self.ends[position])]))


def _walk(root: Path) -> Iterator[tuple[str, set[str]]]:
    """Each folder's prefix below `root`, "" or "a/b/", with the names of its files; one depth after the other."""
    # A folder still to be listed: its prefix, and the identities of the folders above it.
    level = [("", frozenset[tuple[int, int]]())]
    while level:
        below = []
        for (prefix, above), (identity, files, folders) in each_in_threads(
            lambda folder: _list(root, folder[0]), _watched(root, level)
        ):
            if identity not in above:
                below += [(f"{prefix}{name}/", above | {identity}) for name in folders]
                yield prefix, files
        level = below


def _watched(
    root: Path, folders: Iterable[tuple[str, frozenset[tuple[int, int]]]]
) -> Iterator[tuple[str, frozenset[tuple[int, int]]]]:
    """The folders, each looked at when it is its turn, by one thread."""
    for prefix, above in folders:
        looking_at(root / prefix)
        yield prefix, above


def _list(root: Path, prefix: str) -> tuple[tuple[int, int], set[str], list[str]]:
    """A folder's identity, its files and its folders, without what is hidden or left behind."""
    files, folders = set(), []
    path = root / prefix
    try:
        status = path.stat()
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_dir():
                    files.add(entry.name)
                elif not entry.name.startswith(".") and entry.name not in DROPPINGS:
                    folders.append(entry.name)
    except OSError as error:
        raise DataError(f"{path}: the folder cannot be read: {error.strerror}.") from None
    return (status.st_dev, status.st_ino), files, sorted(folders)


def _is_image(name: str) -> bool:
    dot = name.rfind(".")
    return dot > 0 and not name.startswith(".") and name[dot:].lower() in IMAGE_SUFFIXES and name not in DROPPINGS
