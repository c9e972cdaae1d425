"""The classes and images of sets that their makers did not divide, as torchvision finds them, from folders' names.

torchvision's own classes take whatever lies there: a `.DS_Store` for a class or an image of Caltech-101, a copy in
`.ipynb_checkpoints` for one more picture of EuroSAT.
"""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from backbones.errors import DataError
from backbones.images.folders import describe, folder_names, image_names, list_suffixes
from backbones.images.observing import looking_at
from tasks.datasets.wording import counted, name_some

Listing = Callable[[Path], tuple[list[str], list[tuple[str, int]]]]
"""Finds in a set's folder the names of the classes, and the names of the images below it with their labels, sorted."""


def class_folders_in(folder: str, but: str | None = None) -> Listing:
    """Each folder in `folder` is a class, sorted by code point, but for the one that is called `but`."""

    def find(base: Path) -> tuple[list[str], list[tuple[str, int]]]:
        classes = [name for name in folder_names(base / folder) if name != but]
        images = [image_names(base / folder / name) for name in classes]
        empty = [
            f"{name} ({describe(base / folder / name)})" for name, some in zip(classes, images, strict=True) if not some
        ]
        if not classes:
            raise DataError(f"{base / folder}: no class folders; found {describe(base / folder)}. Unpack the set anew.")
        if empty:
            raise DataError(
                f"{base / folder}: {counted(len(empty), 'class folder')} without images: "
                f"{name_some(empty, len(empty))}. An image is a file ending in {list_suffixes()}. Add images or remove "
                f"the folders."
            )
        return classes, [
            (f"{folder}/{name}/{image}", label)
            for label, (name, some) in enumerate(zip(classes, images, strict=True))
            for image in some
        ]

    return find


def sun_folders(base: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """`ClassName.txt` names the classes in their order, `/a/abbey`, and their folders hold `sun_*.jpg`.

    Raises DataError for such images in other folders.
    """
    path = base / "ClassName.txt"
    looking_at(path)
    folders = [line.strip().strip("/") for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    label_of = {folder: label for label, folder in enumerate(folders)}
    names = [name for name in image_names(base) if PurePosixPath(name).match("sun_*.jpg")]
    unknown = [name for name in names if str(PurePosixPath(name).parent) not in label_of]
    if unknown:
        raise DataError(
            f"{base}: {counted(len(unknown), 'image')} in folders that {path.name} does not name: "
            f"{name_some(unknown, len(unknown))}. Move them away, or unpack SUN397.tar.gz anew."
        )
    classes = [folder.split("/", 1)[-1] for folder in folders]
    return classes, [(name, label_of[str(PurePosixPath(name).parent)]) for name in names]
