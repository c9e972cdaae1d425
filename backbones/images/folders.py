"""Find the images in a folder, in an order that depends on nothing but their names."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath

from backbones.errors import DataError
from backbones.images.in_threads import each_in_threads
from backbones.images.observing import looking_at
from backbones.images.packed import Paths

_WATCHED = 1000
"""Files of a fingerprint that are looked at by themselves: all of a small set, some all over a large one."""

_ASKING, _AT_A_TIME = 32, 64
"""Threads that ask for the sizes of files, each for so many at a time: shared disks may take milliseconds to answer."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".jp2"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)

DROPPINGS = frozenset(
    {"__MACOSX", "@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
    | {"Thumbs.db", "desktop.ini"}
)
"""What packers, network storage and systems leave beside people's files; the rest of it begins with a dot."""


def find_images(root: str | Path) -> Paths:
    """List every image below `root`, at any depth, sorted by `image_names`' order.

    Raises DataError if `root` is no folder, cannot be read, or holds no image.
    """
    names = image_names(root)
    if not names:
        raise DataError(f"{root}: no images found. Expected files ending in {list_suffixes()}; found {describe(root)}.")
    return Paths.of(root, names)


def image_names(root: str | Path) -> list[str]:
    """List the paths of all images below `root`, the first of what `list_folder` finds. Raises as it does."""
    return list_folder(root)[0]


def list_folder(root: str | Path) -> tuple[list[str], list[str]]:
    """List the paths of all images below `root`, relative to it, with forward slashes, and those of all other files.

    Both are sorted by code point. An image is a file with one of `IMAGE_SUFFIXES`, in upper or lower case. Names that
    start with a dot are passed over, files and folders alike, and so are `DROPPINGS`: with them or without, a data set
    is the same and has the same fingerprint. Links to folders are followed, except back into a folder that contains
    them.
    Raises DataError if `root` is no folder or a folder below it cannot be read.
    """
    if not Path(root).is_dir():
        raise DataError(f"{root}: {'a file, not a folder' if Path(root).exists() else 'no such folder'}.")
    images: list[str] = []
    others: list[str] = []
    # Folders still to be listed: path, prefix of the names below it, identities of the folders above it.
    pending = [(os.fspath(root), "", frozenset[tuple[int, int]]())]
    while pending:
        folder, prefix, above = pending.pop()
        looking_at(folder)
        try:
            status = Path(folder).stat()
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name in DROPPINGS:
                        continue
                    if _is_folder(entry):
                        pending.append((entry.path, f"{prefix}{entry.name}/", above | {identity}))
                    else:
                        (images if _has_image_suffix(entry.name) else others).append(prefix + entry.name)
        except OSError as error:
            raise DataError(f"{folder}: the folder cannot be read: {error.strerror}.") from None
    return sorted(images), sorted(others)


def folder_names(root: str | Path) -> list[str]:
    """List the names of the folders directly in `root`, sorted: links to folders too, hidden ones and `DROPPINGS` not.

    Raises DataError if `root` is no folder or cannot be read.
    """
    return sorted(name for name in _names_of_folders(root) if name not in DROPPINGS)


def find_droppings(root: str | Path) -> list[str]:
    """The names of the folders directly in `root` that are `DROPPINGS`, sorted. Raises as `folder_names` does."""
    return sorted(name for name in _names_of_folders(root) if name in DROPPINGS)


def _names_of_folders(root: str | Path) -> list[str]:
    looking_at(root)
    try:
        with os.scandir(root) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]
    except OSError as error:
        raise DataError(f"{root}: the folder cannot be read: {error.strerror}.") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is one, or a link to one. A link that leads nowhere may lead to one later: it is looked at."""
    if entry.is_dir():
        return True
    if not entry.is_file():
        looking_at(entry.path)
    return False


def fingerprint(paths: Iterable[str | Path], root: str | Path) -> str:
    """Hash the names of `paths` relative to `root`, and the files' sizes, to 16 hexadecimal digits of SHA-256.

    The same for a copy of the data elsewhere, whatever order the paths come in. Contents are not read: a changed file
    of unchanged size goes unnoticed. Raises DataError if a file is missing.

    Whoever observes what is looked at comes to know of a thousand files, not of all: a change of others within their
    folder, which has no other time for it, goes unnoticed.
    """
    # str.removeprefix, because Path.relative_to takes minutes for a million paths.
    prefix = os.path.join(Path(root), "")  # noqa: PTH118
    digest = hashlib.sha256()
    files = sorted((os.fspath(path).removeprefix(prefix).replace(os.sep, "/"), path) for path in paths)
    for _, path in files[:: max(1, len(files) // _WATCHED)]:
        looking_at(path)
    parts = (files[start : start + _AT_A_TIME] for start in range(0, len(files), _AT_A_TIME))
    for part, sizes in each_in_threads(_sizes, parts, _ASKING):
        for (name, _), size in zip(part, sizes, strict=True):
            digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _sizes(files: Iterable[tuple[str, str | Path]]) -> list[int]:
    """The sizes of files, given with their names, in bytes. Raises DataError for the first that is missing."""
    sizes = []
    for _, path in files:
        try:
            sizes.append(os.stat(path).st_size)  # noqa: PTH116 - half the time of Path.stat
        except OSError as error:
            raise DataError(f"{path}: the file cannot be read: {error.strerror}.") from None
    return sizes


def describe(root: str | Path) -> str:
    """Say in a few words what lies directly in the folder `root`, for the message that it isn't what was expected."""
    with os.scandir(root) as entries:
        kinds = Counter("folder" if entry.is_dir() else _file_kind(entry.name) for entry in entries)
    return _count(kinds) or "an empty folder"


def describe_files(names: Iterable[str]) -> str:
    """Say in a few words of which kinds these files are; an empty text if there are none."""
    return _count(Counter(map(_file_kind, names)))


def _count(kinds: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind}{'' if count == 1 else 's'}" for kind, count in kinds.most_common(3))


def _file_kind(name: str) -> str:
    return f"{PurePath(name).suffix.lower() or 'other'} file"


def _has_image_suffix(name: str) -> bool:
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in IMAGE_SUFFIXES


def list_suffixes() -> str:
    """`IMAGE_SUFFIXES` in words."""
    return ", ".join(sorted(IMAGE_SUFFIXES))
