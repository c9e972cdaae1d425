"""The folders in which the sets are distributed, and the images, classes and parts in them.

`open_…` take the set's own folder or the one above it, and give what all data sets to classify do: the images to train
on, of which there are none, and those to evaluate on. All have the 1,000 classes of ImageNet's classifiers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from backbones.errors import DataError
from backbones.images.folders import describe, describe_files, folder_names, list_folder
from backbones.images.observing import looking_at
from backbones.images.packed import Paths
from tasks.datasets.imagenet_variants.classes import classes_of_subset, imagenet_classes
from tasks.datasets.labelled import LabelledSplit, kept_split
from tasks.datasets.wording import counted, name_some


@dataclass(frozen=True)
class Variant:
    """A set in class folders.

    name:    as data sets are called
    title:   as its authors call it
    folders: what its own folder is called as distributed
    subset:  "a" or "r" where it is of 200 classes only, to which answers are restricted
    numbered: whether its folders are called by the class's position, not by its WordNet id
    """

    name: str
    title: str
    folders: tuple[str, ...]
    subset: str = ""
    numbered: bool = False

    @property
    def labels(self) -> dict[str, int]:
        """By a class folder's name, the position among the 1,000 classes."""
        classes = imagenet_classes()
        if self.numbered:
            return {str(position): position for position in range(len(classes))}
        positions = {name: position for position, name in enumerate(classes)}
        return {name: positions[name] for name in classes_of_subset(self.subset)} if self.subset else positions

    @property
    def expected(self) -> str:
        """Its layout in words."""
        example = "{0..999}" if self.numbered else next(iter(self.labels))
        return f"{' or '.join(f'{name}/{example}/*' for name in self.folders)}"


VARIANTS = {
    each.name: each
    for each in (
        Variant("imagenet-a", "ImageNet-A", ("imagenet-a",), subset="a"),
        Variant("imagenet-r", "ImageNet-R", ("imagenet-r",), subset="r"),
        Variant("imagenet-sketch", "ImageNet-Sketch", ("sketch", "ImageNet-Sketch", "imagenet-sketch")),
        *(
            Variant(name, f"ImageNet-V2 {kind}", (f"imagenetv2-{kind}-format-val", f"imagenetv2-{kind}"), numbered=True)
            for name, kind in (
                ("imagenet-v2", "matched-frequency"),
                ("imagenet-v2-threshold", "threshold0.7"),
                ("imagenet-v2-top", "top-images"),
            )
        ),
    )
}


def open_variant(name: str, root: Path) -> tuple[None, LabelledSplit]:
    """The images of one of `VARIANTS`. Raises DataError for a folder in another layout, or of other classes."""
    return None, kept_split(name, Path(root), {}, partial(_list_variant, VARIANTS[name], Path(root)))


def _list_variant(variant: Variant, root: Path) -> LabelledSplit:
    folder = find_variant(variant, root)
    images = list_classes(folder, variant.labels, f"none of {variant.title}'s")
    candidates = sorted(variant.labels.values()) if variant.subset else None
    lacking = absent_classes(images.labels, variant.labels)
    return LabelledSplit(
        root=folder,
        split="test",
        layout=f"{variant.title} as distributed",
        paths=Paths.of(folder, images.names),
        labels=images.labels,
        classes=[*imagenet_classes()],
        note=" ".join([*lacking, *images.notes]) or None,
        candidates=candidates,
    )


def find_variant(variant: Variant, root: Path) -> Path:
    """The folder with the class folders: `root` or one of the set's own in it. Raises DataError for neither."""
    _refuse_other(variant, root)
    for folder in (*(root / name for name in variant.folders), root):
        looking_at(folder)
        if folder.is_dir() and not variant.labels.keys().isdisjoint(folder_names(folder)):
            return folder
    found = f"found {describe(root)}" if root.is_dir() else "there is no such folder"
    raise DataError(f"{root}: no class folders of {variant.title}. Expected {variant.expected}; {found}")


def _refuse_other(variant: Variant, root: Path) -> None:
    """Raise DataError for the folder of a sister set, whose classes are called the same."""
    for other in VARIANTS.values():
        if other.numbered and variant.numbered and other is not variant and root.resolve().name in other.folders:
            raise DataError(f"{root}: is {other.title}, not {variant.title}. Evaluate on the data set {other.name}")


@dataclass(frozen=True)
class Classes:
    """What lies in class folders: the images' names below it, the class of each, and what a reader should know."""

    names: list[str]
    labels: np.ndarray
    notes: list[str]


def list_classes(folder: Path, labels: Mapping[str, int], none_of: str) -> Classes:
    """The images in the class folders below `folder`, which are called as `labels` has it.

    In the order of the labels, so that 2 comes before 10. Raises DataError for other folders, and where there is none.
    """
    names, others = list_folder(folder)
    places = [name.partition("/") for name in names]
    unknown = sorted({place for place, below, _ in places if below} - labels.keys())
    if unknown:
        raise DataError(
            f"{folder}: {counted(len(unknown), 'folder')} that are {none_of} {len(labels):,} classes: "
            f"{name_some(unknown, len(unknown))}. Give the set as it is distributed, or remove them"
        )
    stray = sum(not below for _, below, _ in places)
    inside = sorted((labels[place], name) for name, (place, below, _) in zip(names, places, strict=True) if below)
    if not inside:
        raise DataError(f"{folder}: no images found in class folders; found {describe(folder)}")
    notes = [f"{counted(stray, 'image')} directly in {folder.name}/, of no class, left out."] if stray else []
    if others := [name for name in others if "/" in name]:
        notes.append(f"{folder.name}/ holds files that are no images, left out: {describe_files(others)}.")
    return Classes([name for _, name in inside], np.array([label for label, _ in inside], np.int32), notes)


def absent_classes(labels: np.ndarray, known: Mapping[str, int]) -> list[str]:
    """A note on the classes without an image; no or one text."""
    present = {*labels.tolist()}
    absent = [name for name, label in known.items() if label not in present]
    return (
        [f"No image of {len(absent):,} of {len(known):,} classes: {name_some(absent, len(absent))}."] if absent else []
    )


open_imagenet_a = partial(open_variant, "imagenet-a")
open_imagenet_r = partial(open_variant, "imagenet-r")
open_imagenet_sketch = partial(open_variant, "imagenet-sketch")
open_imagenet_v2 = partial(open_variant, "imagenet-v2")
open_imagenet_v2_threshold = partial(open_variant, "imagenet-v2-threshold")
open_imagenet_v2_top = partial(open_variant, "imagenet-v2-top")
