"""Data sets whose classes are told by lists, in folders that would be taken for their classes."""

import re
from pathlib import Path

from backbones.errors import DataError
from backbones.images.folders import folder_names
from backbones.images.observing import looking_at

_LISTS: tuple[tuple[str, str], ...] = (
    (r"(?:train|val)(2017|2018|2019)\.json", r"inat\1"),
    (r"(?:categories_)?places365(?:_.*)?\.txt", "places365"),
    (r"trainvalsplit_places205", "places205"),
    (r"cifar-10-batches-py", "cifar10"),
    (r"cifar-100-python", "cifar100"),
    (r"setid\.mat", "flowers102"),
    (r"cars_test_annos_withlabels\.mat", "cars"),
    (r"ClassName\.txt", "sun397"),
    (r"101_ObjectCategories", "caltech101"),
)
"""Files and folders of such names directly in a root, and the data set that they are of."""

_DEEPER = {
    "flowers-102/setid.mat": "flowers102",
    "oxford-iiit-pet/annotations": "pets",
    "annotations/trainval.txt": "pets",
    "stanford_cars/devkit": "cars",
    "fgvc-aircraft-2013b/data": "aircraft",
    "data/images_variant_trainval.txt": "aircraft",
    "dtd/dtd/labels": "dtd",
    "dtd/labels/train1.txt": "dtd",
    "labels/train1.txt": "dtd",
    "food-101/meta/train.json": "food101",
    "meta/train.json": "food101",
    "SUN397/ClassName.txt": "sun397",
    "caltech101/101_ObjectCategories": "caltech101",
    "eurosat/2750": "eurosat",
}
"""The same for files and folders further down."""


def refuse_foreign_lists(root: Path) -> None:
    """Raise DataError for the root of a data set that is read by its lists, or lies in folders of its own.

    Its folders, such as Places' `data_256` and `val_256`, are no classes.
    """
    found = _find(root) if root.is_dir() else []
    if found:
        path, name = found[0]
        raise DataError(
            f"{root}: {path} is of the data set {name}, whose folders here are not its classes. Give "
            f"that name for it: --set dataset={name}, or backbench data check {name}. For folders of classes all the "
            f"same, move it away."
        )


def _find(root: Path) -> list[tuple[str, str]]:
    """Names below `root` that tell a data set, with its name."""
    folder_names(root)  # raises DataError for a root that cannot be read
    found = [
        (path.name, match.expand(name))
        for path in sorted(root.iterdir())
        for pattern, name in _LISTS
        if (match := re.fullmatch(pattern, path.name))
    ]
    for path in _DEEPER:
        looking_at(root / path)
    return found + [(path, name) for path, name in _DEEPER.items() if (root / path).exists()]
