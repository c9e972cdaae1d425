"""ImageNet-C in its folders: `blur/defocus_blur/1/n01440764/*.JPEG`, or without the category's.

The same images lie in each of the 75 folders, under the same names.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from backbones.errors import DataError
from backbones.images.folders import describe, folder_names
from backbones.images.observing import looking_at
from backbones.images.packed import Paths
from results.metrics import CORRUPTIONS
from tasks.datasets.imagenet_variants.classes import imagenet_classes
from tasks.datasets.imagenet_variants.corruptions import EXTRA, SEVERITIES, category_of
from tasks.datasets.imagenet_variants.layout import Classes, absent_classes, list_classes
from tasks.datasets.labelled import LabelledSplit, kept_split
from tasks.datasets.wording import counted, name_some

_FOLDERS = ("imagenet-c", "ImageNet-C")
_SHOWN = 5


def open_imagenet_c(root: Path) -> tuple[None, LabelledSplit]:
    """The images of the first part, and the folders of all 75. Raises DataError for what is not all of them."""

    def find() -> LabelledSplit:
        split, problems = list_corrupted(Path(root))
        if problems:
            more = f"; and {len(problems) - _SHOWN} more, which `backbench data check imagenet-c` names"
            raise DataError("; ".join(problems[:_SHOWN]) + (more if len(problems) > _SHOWN else ""))
        assert split is not None
        return split

    return None, replace(kept_split("imagenet-c", Path(root), {}, find), is_listed=True)


def list_corrupted(root: Path) -> tuple[LabelledSplit | None, list[str]]:
    """What lies there, and every mistake: parts that are missing, that are of other classes, that lack images.

    None where no part can be listed. Raises DataError for a folder without any corruption in it.
    """
    root = _find_root(root)
    parts, problems = _find_parts(root)
    first: Classes | None = None
    names: frozenset[str] = frozenset()
    for folder in parts:
        try:
            found = list_classes(root / folder, _labels(), "none of ImageNet's")
        except DataError as error:
            problems.append(str(error))
            continue
        if first is None:
            first, names, origin = found, frozenset(found.names), folder
        elif found.names != first.names:
            problems += _unlike(root, folder, found.names, origin, names)
    if first is None:
        return None, problems
    notes = [*absent_classes(first.labels, _labels()), *first.notes, *_extra(root)]
    split = LabelledSplit(
        root=root,
        split="test",
        layout="ImageNet-C as distributed",
        paths=Paths.of(root / origin, first.names),
        labels=first.labels,
        classes=[*imagenet_classes()],
        note=" ".join(notes) or None,
        parts=parts,
    )
    return split, problems


def _labels() -> dict[str, int]:
    return {name: position for position, name in enumerate(imagenet_classes())}


def _find_root(root: Path) -> Path:
    for folder in (root, *(root / name for name in _FOLDERS)):
        looking_at(folder)
        if folder.is_dir() and any(_find(folder, corruption) for corruption in CORRUPTIONS):
            return folder
    found = f"found {describe(root)}" if root.is_dir() else "there is no such folder"
    raise DataError(
        f"{root}: no corruption of ImageNet-C. Expected blur/defocus_blur/1/n01440764/*.JPEG and so on, unpacked from "
        f"blur.tar, digital.tar, noise.tar and weather.tar, or the same without the first folder; {found}"
    )


def _find(root: Path, corruption: str) -> str | None:
    """A corruption's folder below `root`."""
    for name in (f"{category_of(corruption)}/{corruption}", corruption):
        looking_at(root / name)
        if (root / name).is_dir():
            return name
    return None


def _find_parts(root: Path) -> tuple[list[str], list[str]]:
    """The folders of corruptions and severities that are there, and what is missing or none of them."""
    parts, problems = [], []
    for corruption in CORRUPTIONS:
        folder = _find(root, corruption)
        if folder is None:
            category = category_of(corruption)
            problems.append(f"{root}: no {corruption}, which {category}.tar has as {category}/{corruption}/")
            continue
        there = folder_names(root / folder)
        parts += [f"{folder}/{severity}" for severity in SEVERITIES if str(severity) in there]
        if missing := [str(severity) for severity in SEVERITIES if str(severity) not in there]:
            problems.append(f"{root / folder}: no severity {', '.join(missing)}. Expected the folders 1 to 5")
        if other := sorted({*there} - {*map(str, SEVERITIES)}):
            problems.append(f"{root / folder}: {name_some(other, len(other))} is no severity. Expected 1 to 5")
    return parts, problems


def _unlike(root: Path, folder: str, names: Iterable[str], origin: str, known: frozenset[str]) -> list[str]:
    """What a part has that another does not, and the other way round."""
    found = frozenset(names)
    texts = []
    for verb, some in (("lacks", sorted(known - found)), ("has", sorted(found - known))):
        if some:
            other = f"that {origin} has" if verb == "lacks" else f"that {origin} lacks"
            texts.append(f"{root / folder}: {verb} {counted(len(some), 'image')} {other}: {name_some(some, len(some))}")
    return texts


def _extra(root: Path) -> list[str]:
    """A note on the corruptions that are no part of the mean."""
    there = [name for name in EXTRA if _find(root, name)]
    return [f"{', '.join(there)}: no part of mCE, and not looked at."] if there else []
