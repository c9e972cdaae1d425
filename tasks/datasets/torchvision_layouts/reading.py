"""Everything that lies in a set's folder, and all that is wrong with it."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets
from torchvision.datasets.utils import check_integrity

from backbones.errors import DataError
from backbones.images.observing import looking_at
from backbones.images.packed import Paths
from tasks.datasets.image_lists.files import compare_with_disk
from tasks.datasets.image_lists.listed import Listed
from tasks.datasets.labelled import LabelledSplit
from tasks.datasets.torchvision_layouts.cifar import unpack
from tasks.datasets.torchvision_layouts.places import find_misplaced
from tasks.datasets.torchvision_layouts.sets import TorchvisionSet
from tasks.datasets.wording import counted, name_some

_FAILURES = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, NotImplementedError)
"""What torchvision, scipy and json raise for files that are not as they expect."""

Samples = list[tuple[str, int]]
"""Names below a folder, with their labels."""


def read_set(spec: TorchvisionSet, root: Path) -> Listed:
    """What is in `spec.folder` below `root`, and what is wrong with it. Raises InputError if the disk is full."""
    base = root / spec.folder
    found = Listed(f"torchvision's {spec.kind}")
    again = f"Unpack {spec.source} as torchvision.datasets.{spec.kind} does"
    misplaced = find_misplaced(spec, base)
    if misplaced:
        found.faults.append(misplaced)
        return found
    for name in spec.files:
        looking_at(base / name)
        if not (base / name).exists():
            found.faults.append(f"{base / name}: not there. {again}.")
    if not found.faults:
        found.faults += [
            f"{base / name}: not the file that is distributed, whose MD5 is {md5}. {again} anew."
            for name, md5 in _checksums(spec)
            if not check_integrity(os.fspath(base / name), md5)
        ]
    if found.faults:
        return found
    try:
        _divide(spec, root, found)
    except DataError as error:
        found.faults.append(str(error))
    except _FAILURES as error:
        told = f"no entry {error}" if isinstance(error, KeyError) else error
        found.faults.append(f"{base}: torchvision's {spec.kind} cannot read it: {told}. {again} anew.")
    return found


def is_pickled(spec: TorchvisionSet) -> bool:
    """Whether the images lie in pickles and not in files of their own."""
    return issubclass(_kind(spec), torchvision.datasets.CIFAR10)


def _kind(spec: TorchvisionSet) -> Any:
    return getattr(torchvision.datasets, spec.kind)


def _checksums(spec: TorchvisionSet) -> Iterator[tuple[str, str]]:
    """The files of which torchvision knows what they hold. Pickles are opened only after that."""
    kind = _kind(spec)
    if is_pickled(spec):
        yield from (*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"]))
    elif spec.kind == "Flowers102":
        yield from (kind._file_dict[part] for part in ("label", "setid"))


def _divide(spec: TorchvisionSet, root: Path, found: Listed) -> None:
    """Fill in the splits and what is wrong with them."""
    if spec.listing and spec.splitting:
        found.classes, whole = spec.listing(root / spec.folder)
        division = spec.splitting(root / spec.folder, [name for name, _ in whole], [label for _, label in whole])
        found.layout += f": {division.how}"
        positions = {"train": division.train, "val": division.val}
        samples = {split: sorted(whole[at] for at in several) for split, several in positions.items()}
        _leave_out_missing(spec, root / spec.folder, samples, found)
        _add(found, root, root / spec.folder, samples, is_drawn=division.is_drawn)
        return
    place = root.absolute()
    parts = {
        split: [_kind(spec)(place, download=False, **arguments) for arguments in several]
        for split, several in (("train", spec.train), ("val", spec.val))
    }
    found.classes = _classes(parts)
    if is_pickled(spec):
        first = {split: several[0] for split, several in parts.items()}
        folder, samples = unpack(spec.name, place / spec.folder, first, dict(_checksums(spec)))
        found.layout += ": train to train on, test to evaluate on; unpacked"
        _add(found, folder, folder, samples)
        return
    prefix = os.path.join(place / spec.folder, "")  # noqa: PTH118
    samples = {
        split: sorted(
            (os.fspath(file).removeprefix(prefix), int(label)) for each in several for file, label in spec.samples(each)
        )
        for split, several in parts.items()
    }
    found.layout += f": {_names(spec.train)} to train on, {_names(spec.val)} to evaluate on"
    _leave_out_missing(spec, root / spec.folder, samples, found)
    _add(found, root, root / spec.folder, samples)


def _classes(parts: dict[str, list[Any]]) -> list[str]:
    """The names of the classes. Raises ValueError if the splits do not have the same.

    DTD and Pets have no list of classes: they are those of the images.
    """
    each = [[str(name) for name in part.classes] for several in parts.values() for part in several]
    for other in each[1:]:
        if other != each[0]:
            unlike = sorted(set(other) ^ set(each[0])) or other
            raise ValueError(f"its splits have other classes, {name_some(unlike, len(unlike))}")
    return each[0]


def _names(several: Sequence[Any]) -> str:
    return " and ".join(arguments["split"] for arguments in several)


def _add(found: Listed, root: Path, folder: Path, samples: dict[str, Samples], is_drawn: bool = False) -> None:
    """Make splits of the `samples` below `folder`; the makers' own to evaluate on are called "test" by all of them."""
    note = f"{found.layout}." if is_drawn else None
    for split, listed in samples.items():
        if not listed:
            continue
        labels = np.array([label for _, label in listed], np.int32)
        if not 0 <= labels.min() <= labels.max() < len(found.classes):
            found.faults.append(
                f"{folder}: {split} images of classes {labels.min() + 1} to {labels.max() + 1}. Expected 1 to "
                f"{len(found.classes)}, as many as there are names."
            )
            continue
        called = split if split == "train" else "holdout" if is_drawn else "test"
        paths = Paths.of(folder, [name for name, _ in listed])
        found.splits[split] = LabelledSplit(root, called, found.layout, paths, labels, found.classes, note)
        _find_absent(split, labels, found)
        _find_repeated(folder, split, listed, found)


def _purpose(split: str) -> str:
    return "train" if split == "train" else "evaluate"


def _find_absent(split: str, labels: np.ndarray, found: Listed) -> None:
    sizes = np.bincount(labels, minlength=len(found.classes))
    absent = [name for name, size in zip(found.classes, sizes, strict=True) if not size]
    if absent:
        where = found.flaws if split == "train" else found.notes
        missing = f"{counted(len(absent), 'class', 'classes')}: {name_some(absent, len(absent))}"
        where.append(f"no image to {_purpose(split)} on of {missing}.")


def _find_repeated(folder: Path, split: str, listed: Samples, found: Listed) -> None:
    repeated = sorted(name for name, times in Counter(name for name, _ in listed).items() if times > 1)
    if repeated:
        found.flaws.append(
            f"{folder}: {counted(len(repeated), f'{split} image')} listed more than once: "
            f"{name_some(repeated, len(repeated))}."
        )


def _leave_out_missing(spec: TorchvisionSet, base: Path, samples: dict[str, Samples], found: Listed) -> None:
    """Tell what is listed and not there, which is taken out of `samples`, and what is there and not listed."""
    names = sorted({name for listed in samples.values() for name, _ in listed})
    difference = compare_with_disk(base, {"listed": Paths.of(base, names)})
    absent = {*difference.missing["listed"]}
    for split, listed in samples.items():
        if not listed:
            found.faults.append(f"{base}: no images to {_purpose(split)} on.")
        samples[split] = [(name, label) for name, label in listed if name not in absent]
        missing = [name for name, _ in listed if name in absent]
        if missing:
            found.faults.append(
                f"{base}: {counted(len(missing), f'{split} image')} listed and not there: "
                f"{name_some(missing, len(missing))}. {_remedy(spec, base / missing[0])}"
            )
    extra = [name for name in difference.unlisted if name.startswith(tuple(f"{folder}/" for folder in spec.images))]
    if extra:
        found.notes.append(f"{counted(len(extra), 'image')} in no list, left out: {name_some(extra, len(extra))}.")


def _remedy(spec: TorchvisionSet, missing: Path) -> str:
    """What to do about an image that is not there: an archive's own folder may lie in the one that was made for it."""
    inner = missing.parent / missing.parent.name
    if (inner / missing.name).exists():
        return f"{inner} is one folder too many: move what is in it up."
    return f"Unpack {spec.source} as torchvision.datasets.{spec.kind} does."
