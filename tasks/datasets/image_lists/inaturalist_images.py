"""Where the images lie that iNaturalist's lists name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backbones.errors import DataError
from backbones.images.observing import looking_at
from backbones.images.packed import Paths
from tasks.datasets.image_lists.files import compare_with_disk
from tasks.datasets.image_lists.missing import spelled_otherwise
from tasks.datasets.wording import counted, name_some


@dataclass
class Images:
    """Where they lie.

    folder:  what their names count from
    names:   by split, of each listed image its name below the folder, None if it is missing
    missing: by split, how many and which are missing, and what to do; no entry where all are there
    notes:   what else lies there
    """

    folder: Path
    names: dict[str, list[str | None]]
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_images(root: Path, archive: str, year: str, lists: Mapping[str, Sequence[str]]) -> Images:
    """Find the listed images, named from `root` on, of which the lists' own folder is `archive`.

    Each folder is listed once, in threads; no file is asked for by itself.
    """
    folder, prefix = _folder(root, archive, year, lists)
    looking_at(folder)
    if not folder.is_dir():
        return _none_of(lists, folder, f"{folder}: no such folder. Unpack the archive of images there.")
    below = {split: [name.removeprefix(prefix) for name in names] for split, names in lists.items()}
    try:
        images, unlisted = _compare(folder, below)
        if all(name is None for names in images.names.values() for name in names):
            others = {split: [_without_level(name) for name in names] for split, names in below.items()}
            flat, beside = _compare(folder, others)
            if not flat.missing:
                images, unlisted = flat, beside
            elif _holds_itself(folder, prefix, below):
                inner = folder / prefix.rstrip("/")
                advice = f"{inner} has them, one folder too deep: move what is in it to {folder}."
                return _none_of(lists, folder, advice)
    except DataError as error:
        return _none_of(lists, folder, str(error))
    if unlisted and folder != root:
        images.notes.append(
            f"{counted(len(unlisted), 'image')} in {folder.name}/ on neither list, left out: "
            f"{name_some(unlisted, len(unlisted))}."
        )
    return images


def _folder(root: Path, archive: str, year: str, lists: Mapping[str, Sequence[str]]) -> tuple[Path, str]:
    """The folder that all names lie in, and what they have before their name below it.

    Names may lack the archive's folder. Where torchvision has renamed it, it is that; where the lists were put into it,
    it is `root`.
    """
    tops = {name.partition("/")[0] if "/" in name else "" for names in lists.values() for name in names}
    if tops - {archive}:
        if inside := _folder_around(root, (archive, year), tops):
            return inside, ""
        top = next(iter(tops))
        return (root / top, f"{top}/") if len(tops) == 1 and top else (root, "")
    looking_at(root / archive)
    looking_at(root / year)
    if (root / archive).is_dir():
        return root / archive, f"{archive}/"
    if (root / year).is_dir():
        return root / year, f"{archive}/"
    return root if root.resolve().name in (archive, year) else root / archive, f"{archive}/"


def _folder_around(root: Path, names: Sequence[str], tops: set[str]) -> Path | None:
    """The one of the folders `names` that has all the `tops`, if none of them lies in `root` itself."""
    for folder in (root / name for name in names if name not in tops):
        looking_at(folder)
        if folder.is_dir() and all((folder / top).exists() and not (root / top).exists() for top in tops):
            return folder
    return None


def _compare(folder: Path, lists: Mapping[str, Sequence[str]]) -> tuple[Images, list[str]]:
    """What is there of the names below the folder, and which images are on no list."""
    difference = compare_with_disk(folder, {split: Paths.of(folder, names) for split, names in lists.items()})
    images = Images(folder, {})
    for split, names in lists.items():
        lacking = set(difference.missing[split])
        images.names[split] = [None if name in lacking else name for name in names]
        if lacking:
            some = difference.missing[split]
            advice = spelled_otherwise(some, difference.unlisted)
            images.missing[split] = (
                f"{counted(len(some), 'image')} of {len(names):,} not found in {folder}: {name_some(some, len(some))}. "
                f"{advice or 'Unpack the archive of images again, or remove them from the list.'}"
            )
    return images, difference.unlisted


def _none_of(lists: Mapping[str, Sequence[str]], folder: Path, why: str) -> Images:
    """Nothing is there, for one reason."""
    names: dict[str, list[str | None]] = {split: [None] * len(listed) for split, listed in lists.items()}
    return Images(folder, names, dict.fromkeys(lists, f"none of its images was found. {why}"))


def _without_level(name: str) -> str:
    """`3118/a.jpg` for `Aves/3118/a.jpg`."""
    rest = name.partition("/")[2]
    return rest if "/" in rest else name


def _holds_itself(folder: Path, prefix: str, lists: Mapping[str, Sequence[str]]) -> bool:
    """Whether the archive's folder lies in itself, with the first image of one of the lists."""
    inner = folder / prefix
    looking_at(inner)
    return bool(prefix) and any((inner / names[0]).exists() for names in lists.values() if names)
