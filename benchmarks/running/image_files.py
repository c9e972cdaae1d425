"""Images that a command is given, one by one or by folders, and the names of what is made of them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from backbones.errors import DataError
from backbones.images.folders import describe, list_folder, list_suffixes

FOREIGN_SUFFIXES = frozenset({".heic", ".heif"})
"""Of images that cannot be read, and that nobody is to think were looked at."""


@dataclass(frozen=True)
class ImageFile:
    """An image, where it was given, and its name among all, with folders and without a suffix."""

    path: Path
    name: str


def find_image_files(
    given: Sequence[Path], passed_over: Sequence[Path] = (), is_no_image: Callable[[Path], bool] = lambda path: True
) -> list[ImageFile]:
    """The files, and the images in folders at any depth, each once, in the order in which they are given.

    No two have the same name. That is the path below the folder that was given, or the file's own, if those differ;
    else the path below the folder that all have in common. The suffix is left out if all names differ without.
    Of folders, what lies below those that are `passed_over` is left out where it `is_no_image`.

    Raises DataError for what does not exist, and for a folder without images.
    """
    found: dict[str, tuple[Path, str]] = {}
    for path in given:
        for file, name in _images_of(path, passed_over, is_no_image):
            found.setdefault(os.path.abspath(file), (file, name))  # noqa: PTH100 - which leaves links alone
    names = [name for _, name in found.values()]
    if not _differ(names):
        common = os.path.commonpath([PurePath(file).parent for file in found])
        names = [str(PurePath(file).relative_to(common)) for file in found]
    bare = [str(PurePath(name).with_suffix("")) for name in names]
    chosen = bare if _differ(bare) else names
    return [ImageFile(path, name) for (path, _), name in zip(found.values(), chosen, strict=True)]


def _images_of(path: Path, passed_over: Sequence[Path], is_no_image: Callable[[Path], bool]) -> list[tuple[Path, str]]:
    """Each with its name below what was given."""
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: no such file or folder. Expected images, or folders of images")
        return [(path, path.name)]
    images, others = list_folder(path)
    images += [name for name in others if PurePath(name).suffix.lower() in FOREIGN_SUFFIXES]
    root = path.resolve()
    hidden = [f"{each.resolve().relative_to(root)}/" for each in passed_over if each.resolve().is_relative_to(root)]
    kept = [name for name in sorted(images) if not (name.startswith(tuple(hidden)) and is_no_image(path / name))]
    if not kept:
        raise DataError(f"{path}: no images found. Expected files ending in {list_suffixes()}; found {describe(path)}")
    return [(path / name, name) for name in kept]


def _differ(names: Sequence[str]) -> bool:
    """Whether no two are the same, on systems that do not tell capitals apart either."""
    return len({name.casefold() for name in names}) == len(names)
