"""Find the classes of validation images that lie in one flat folder, as ImageNet's do.

ImageNet ships its 50,000 validation images unsorted, and half a dozen files that say which is what are in circulation.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from backbones.errors import DataError
from backbones.images.folders import IMAGE_SUFFIXES
from backbones.images.observing import looking_at

NAMED_FILES = (
    "LOC_val_solution.csv",
    "val_annotations.txt",
    "val.txt",
    "val_map.txt",
    "imagenet_val_map.txt",
    "val_label.txt",
    "val_labels.txt",
)
"""One image a line: its name, with or without suffix, and its class, as the class folder's name or its position.

Kaggle's ImageNet (ImageId,PredictionString); Tiny ImageNet; Caffe's and mmpretrain's; various home-made ones. What
follows the class on a line (boxes) is passed over.
"""

ORDERED_FILES = ("imagenet_2012_validation_synset_labels.txt", "synset_labels.txt")
"""One class a line, in the order of the images' names (TensorFlow's)."""

DEVKIT_FILE = "ILSVRC2012_validation_ground_truth.txt"
"""One ILSVRC2012 id a line, in the order of the images' names; `meta.mat` beside it translates the ids."""

_WORDNET = re.compile(r"n\d{8}")


def read_validation_labels(
    images: Sequence[str], folders: Sequence[Path], classes: Sequence[str]
) -> tuple[list[int], Path]:
    """Label the validation images from the first mapping file found in `folders`.

    Args:
        images: names of the image files, sorted.
        folders: where to look for a mapping file, in this order.
        classes: names of the classes, sorted; a label is a position in this list.

    Returns the label of each image and the mapping file's path. Raises DataError if there is no mapping file, or if
    it doesn't give each image one of the classes.
    """
    named, path = _find_entries(images, folders)
    positions = {name: position for position, name in enumerate(classes)}
    return [_find_label(entry, positions, image, path) for image, entry in named], path


def validation_classes(images: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The names of the classes, sorted, where nothing but the mapping file knows them.

    Raises DataError as `read_validation_labels`, and for a file that has numbers where names are needed.
    """
    named, path = _find_entries(images, folders)
    entries = [entry for _, entry in named]
    words = [entry.split(maxsplit=1)[0] if entry else "" for entry in entries]
    names = words if all(map(_WORDNET.fullmatch, words)) else entries
    if all(map(str.isdecimal, names)):
        raise DataError(
            f"{path}: says which class an image is of by a number alone, and no train/ is there that has their names. "
            "Sort the images into class folders, or take a file with the classes' names"
        )
    return sorted(set(names))


def _find_entries(images: Sequence[str], folders: Sequence[Path]) -> tuple[Iterator[tuple[str, str]], Path]:
    """Each image with what the first mapping file says of it, and that file. Raises DataError without one."""
    for name in (*NAMED_FILES, *ORDERED_FILES, DEVKIT_FILE):
        for path in (folder / name for folder in folders):
            looking_at(path)
            if path.is_file():
                return (_read_named if name in NAMED_FILES else _read_ordered)(path, images), path
    raise DataError(
        f"{folders[0]}: {len(images):,} images without class folders, and no file that says which class they are. "
        f"Sort them into class folders, or put one of these there or in {folders[1]}: "
        f"{', '.join((*NAMED_FILES, *ORDERED_FILES))}, or {DEVKIT_FILE} with meta.mat."
    )


def _read_named(path: Path, images: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pair each image with what the file's line for it says after the name."""
    entries = {_without_suffix(name): entry for name, entry in _name_and_entry(path)}
    missing = [image for image in images if _without_suffix(image) not in entries]
    if missing:
        raise DataError(
            f"{path}: no class for {len(missing):,} of {len(images):,} validation images, {missing[0]} among them."
        )
    return ((image, entries[_without_suffix(image)]) for image in images)


def _name_and_entry(path: Path) -> Iterator[tuple[str, str]]:
    lines = _read_lines(path)
    if path.suffix == ".csv":
        rows: Iterator[list[str]] = iter(csv.reader(lines))
    else:
        rows = (line.split("\t") if "\t" in line else line.split(maxsplit=1) for line in lines)
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise DataError(f"{path}, line {number}: expected an image and its class, found {' '.join(row)!r}.")
        yield row[0], row[1].strip()


def _read_ordered(path: Path, images: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pair each image with the line of the same number."""
    lines = _read_lines(path)
    if len(lines) != len(images):
        raise DataError(
            f"{path}: {len(lines):,} lines for {len(images):,} validation images. The file goes by the order of all "
            f"images; for a part of them use one that names them, such as val.txt."
        )
    if path.name == DEVKIT_FILE:
        identifiers = _read_devkit_classes(path.with_name("meta.mat"))
        lines = [identifiers.get(line, line) for line in lines]
    return zip(images, lines, strict=True)


def _read_devkit_classes(path: Path) -> dict[str, str]:
    """Read from the development kit's meta.mat which WordNet id each ILSVRC2012 id stands for."""
    looking_at(path)
    if not path.is_file():
        raise DataError(
            f"{path}: not found. {DEVKIT_FILE} numbers the classes in an order of its own, which only meta.mat from "
            f"the same folder of the development kit (ILSVRC2012_devkit_t12/data) translates. Copy it there."
        )
    from scipy.io import loadmat  # type: ignore[import-untyped]  # only this rare file needs scipy

    try:
        synsets = loadmat(path, squeeze_me=True)["synsets"]
        return {
            str(int(number)): str(name) for number, name in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
        }
    except (ValueError, KeyError, TypeError, IndexError, NotImplementedError) as error:
        raise DataError(f"{path}: not the development kit's table of classes: {error}.") from None


def _find_label(entry: str, positions: dict[str, int], image: str, path: Path) -> int:
    """Read a class: a folder's name, a folder's name with something after it, or a position from 0."""
    first_word = entry.split(maxsplit=1)[0] if entry else ""
    for name in (entry, first_word):
        if name in positions:
            return positions[name]
    if first_word.isdecimal() and int(first_word) < len(positions):
        return int(first_word)
    raise DataError(
        f"{path}: {image} is of class {entry!r}. Expected the name of a folder in train/ or its position there, "
        f"0 to {len(positions) - 1:,}."
    )


def _read_lines(path: Path) -> list[str]:
    """Read the lines that say something; not the head of Kaggle's table."""
    looking_at(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}.") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("ImageId,")]


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
