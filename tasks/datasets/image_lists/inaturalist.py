"""iNaturalist 2017, 2018 and 2019: images in one folder, listed by train2018.json and val2018.json beside it.

The competitions' pages (github.com/visipedia/inat_comp) call each list's paths from the data set's folder on:
`train_val2018/Aves/3118/….jpg`. Three other places are known, and looked into where the images are not there:

- `2018/Aves/3118/….jpg`, as torchvision's INaturalist renames the archive's folder;
- `train_val2018/3118/….jpg`, without the level above the species, as DeiT's INatDataset wants them;
- the archive's folder once more inside itself, which is told and not taken.

A class is a category_id, in that order, and has its name from categories.json where there is one: in 2018 and 2019 the
lists themselves have numbers for names. Folders decide nothing: 2018's are numbers, which sort as texts in another
order, and 2017's are names without what is not ASCII.
"""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbones.errors import DataError
from backbones.images.observing import looking_at
from backbones.images.packed import Paths
from tasks.datasets.check_report import CheckReport
from tasks.datasets.identity import Counts
from tasks.datasets.image_lists.check import check_listed
from tasks.datasets.image_lists.counts import INAT2017, INAT2018, INAT2019
from tasks.datasets.image_lists.inaturalist_images import find_images
from tasks.datasets.image_lists.inaturalist_json import SpeciesList, read_category_names, read_species_list
from tasks.datasets.image_lists.listed import Layout, Listed, open_listed, refuse_absent
from tasks.datasets.labelled import LabelledSplit
from tasks.datasets.wording import counted, name_some

CATEGORIES = "categories.json"


@dataclass(frozen=True)
class Release:
    """One year's: its archive's folder of images, how large it is, and whether its lists have the classes' names."""

    year: int
    folder: str
    counts: Counts
    is_named: bool = False

    @property
    def layout(self) -> Layout:
        """How it is recognised and read."""
        lists = tuple(self.list_name(split) for split in ("train", "val"))
        names = "" if self.is_named else f", and {CATEGORIES} for the classes' names"
        return Layout(
            name=f"inat{self.year}",
            lists=lists,
            expected=f"{lists[0]}, {lists[1]} and {self.folder}/ ({self.page}){names}",
            read=functools.partial(read_release, self),
            counts=self.counts,
            images=(self.folder, str(self.year)),
        )

    @property
    def page(self) -> str:
        """Where it is distributed."""
        return f"github.com/visipedia/inat_comp/tree/master/{self.year}"

    def list_name(self, split: str) -> str:
        """The file that lists a split."""
        return f"{split}{self.year}.json"


_2017 = Release(2017, "train_val_images", INAT2017, is_named=True)
_2018 = Release(2018, "train_val2018", INAT2018)
_2019 = Release(2019, "train_val2019", INAT2019)


def open_inat2017(root: Path) -> tuple[LabelledSplit, LabelledSplit]:
    """Both splits of iNaturalist 2017, training first. Raises DataError where `open_listed` does."""
    return open_listed(_2017.layout, root)


def open_inat2018(root: Path) -> tuple[LabelledSplit, LabelledSplit]:
    """Both splits of iNaturalist 2018, training first. Raises DataError where `open_listed` does."""
    return open_listed(_2018.layout, root)


def open_inat2019(root: Path) -> tuple[LabelledSplit, LabelledSplit]:
    """Both splits of iNaturalist 2019, training first. Raises DataError where `open_listed` does."""
    return open_listed(_2019.layout, root)


def check_inat2017(
    root: Path, settings: None = None, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Look for every mistake in iNaturalist 2017, see `check_listed`."""
    return check_listed(_2017.layout, root, on_progress)


def check_inat2018(
    root: Path, settings: None = None, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Look for every mistake in iNaturalist 2018, see `check_listed`."""
    return check_listed(_2018.layout, root, on_progress)


def check_inat2019(
    root: Path, settings: None = None, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Look for every mistake in iNaturalist 2019, see `check_listed`."""
    return check_listed(_2019.layout, root, on_progress)


def read_release(release: Release, root: Path) -> Listed:
    """All that is below `root` of one year's release, and all that is wrong with it."""
    found = Listed(f"iNaturalist {release.year}'s lists")
    lists: dict[str, SpeciesList] = {}
    for split in ("train", "val"):
        path = root / release.list_name(split)
        try:
            refuse_absent(path, f"from {release.page}")
            lists[split] = read_species_list(path)
        except DataError as error:
            found.faults.append(str(error))
    for each in lists.values():
        found.faults += each.faults
        found.flaws += each.flaws
        _examine_folders(found, each)
    names = _class_names(found, release, root, lists)
    _examine_classes(found, lists, names)
    _fill_splits(found, release, root, lists, names)
    return found


def _class_names(found: Listed, release: Release, root: Path, lists: dict[str, SpeciesList]) -> dict[int, str]:
    """The classes' names by category_id, in its order, no two alike."""
    _compare_categories(found, lists)
    known = {identity: name for each in reversed(lists.values()) for identity, name in each.categories.items()}
    path = root / CATEGORIES
    looking_at(path)
    if known and not release.is_named and path.exists():
        try:
            known |= _released_names(path, known)
        except DataError as error:
            found.flaws.append(
                f"{error} The classes are called as in the lists: move {CATEGORIES} away, or replace it."
            )
    times = Counter(known.values())
    return {identity: name if times[name] == 1 else f"{name} ({identity})" for identity, name in sorted(known.items())}


def _released_names(path: Path, known: dict[int, str]) -> dict[int, str]:
    """The names in the file at `path`. Raises DataError if it is broken, or of other categories than the `known`."""
    released = read_category_names(path)
    for ids, what in (
        (known.keys() - released.keys(), "no name for {}"),
        (released.keys() - known.keys(), "{} that no list has"),
    ):
        if ids:
            some = f"{counted(len(ids), 'category', 'categories')}"
            raise DataError(
                f"{path}: {what.format(some)}: ids {name_some(sorted(ids), len(ids))}. Is it of another year?"
            )
    if unlike := _unlike(known, released):
        raise DataError(f"{path}: other names than in the lists for {unlike}. Is it of another year?")
    return released


def _compare_categories(found: Listed, lists: dict[str, SpeciesList]) -> None:
    """Both lists have to speak of the same categories; names that are numbers stand for some that were kept back."""
    if len(lists) < 2:
        return
    train, val = lists["train"], lists["val"]
    for one, other in ((train, val), (val, train)):
        if lacking := sorted(one.categories.keys() - other.categories.keys()):
            found.faults.append(
                f"{other.path}: lacks {counted(len(lacking), 'category', 'categories')} of {one.path}: ids "
                f"{name_some(lacking, len(lacking))}. Both lists must be of one release."
            )
    if unlike := _unlike(train.categories, val.categories):
        found.faults.append(
            f"{val.path}: other names than in the list of training images for {unlike}. Are both of one release?"
        )


def _unlike(known: dict[int, str], names: dict[int, str]) -> str:
    """Which categories have other names, where both are names and no numbers; or nothing."""
    unlike = [
        f"{identity} is {known[identity]} and {name}"
        for identity, name in sorted(names.items())
        if identity in known and name != known[identity] and not (name.isdecimal() or known[identity].isdecimal())
    ]
    return f"{counted(len(unlike), 'category_id')}: {name_some(unlike, len(unlike))}" if unlike else ""


def _examine_folders(found: Listed, listed: SpeciesList) -> None:
    """Where a folder has images of several species and these have several folders, labels were mixed up.

    Either alone may be somebody's way to keep images; the releases have one folder for each species.
    """
    folders_of = (name.rpartition("/")[0] for name in listed.names)
    pairs = set(zip(folders_of, listed.category_ids, strict=True))
    folders, categories = Counter(folder for folder, _ in pairs), Counter(category for _, category in pairs)
    mixed = sorted({folder for folder, category in pairs if folders[folder] > 1 and categories[category] > 1})
    if mixed:
        found.flaws.append(
            f"{listed.path}: {counted(len(mixed), 'folder')} with images of several categories, which lie in other "
            f"folders too: {name_some(mixed, len(mixed))}. Were labels given to the wrong images?"
        )


def _examine_classes(found: Listed, lists: dict[str, SpeciesList], names: dict[int, str]) -> None:
    """Add what classes lack images to train on."""
    if "train" not in lists or not lists["train"].names:
        return
    trained = set(lists["train"].category_ids)
    evaluated = set(lists["val"].category_ids) if "val" in lists else set()
    untrained = [names[identity] for identity in sorted(evaluated - trained)]
    if untrained:
        found.faults.append(
            f"{lists['train'].path}: no image of {counted(len(untrained), 'class', 'classes')} that are evaluated: "
            f"{name_some(untrained, len(untrained))}. Is the list whole?"
        )
    shown = trained | evaluated
    absent = [name for identity, name in names.items() if identity not in shown]
    if absent:
        found.flaws.append(
            f"{counted(len(absent), 'class', 'classes')} of {len(names):,} without any image: "
            f"{name_some(absent, len(absent))}."
        )
    if len(names) < 2:
        found.faults.append(f"{lists['train'].path}: {len(names)} category. Telling classes apart takes at least two.")


def _fill_splits(
    found: Listed, release: Release, root: Path, lists: dict[str, SpeciesList], names: dict[int, str]
) -> None:
    """The splits, of the images that are there."""
    found.classes = [*names.values()]
    positions = {identity: position for position, identity in enumerate(names)}
    images = find_images(root, release.folder, str(release.year), {split: each.names for split, each in lists.items()})
    for split, message in images.missing.items():
        found.faults.append(f"{lists[split].path}: {message}")
    notes = {split: each.notes for split, each in lists.items()}
    notes.setdefault("train", []).extend(images.notes)
    for split, each in lists.items():
        labels = [positions[identity] for identity in each.category_ids]
        ordered = _ordered(images.names[split], labels)
        found.splits[split] = LabelledSplit(
            root,
            split,
            found.layout,
            Paths.of(images.folder, (name for name, _ in ordered)),
            np.array([label for _, label in ordered], np.int32),
            found.classes,
            " ".join(notes[split]) or None,
        )
        if not each.names and not each.faults:
            found.faults.append(f"{each.path}: no images are listed.")


def _ordered(names: Sequence[str | None], labels: Sequence[int]) -> list[tuple[str, int]]:
    """The images that are there, in an order that depends on nothing but their own names.

    Those of their folders, which differ between copies of one release, do not count, but for images of one name.
    """
    there = [(name, label) for name, label in zip(names, labels, strict=True) if name is not None]
    return sorted(there, key=lambda image: (image[0].rpartition("/")[2], image[0]))
