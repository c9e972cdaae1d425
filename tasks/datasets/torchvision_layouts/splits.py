"""Images that their makers did not divide: which train, and which evaluate.

What is drawn depends on the names of the images alone, class by class: in the order of a hash of their names.

- Caltech-101: 30 images of a class train and all others evaluate, as in the suite of Kornblith et al. (arXiv
  1805.08974), which has the background as a class too; torchvision leaves it out.
- EuroSAT: a fifth of each class evaluates, so many as in VTAB (arXiv 1910.04867: 21,600 images to train and to choose
  settings on, 5,400 to test on). VTAB takes them by their order in its own files.
- SUN397: the makers' first of ten partitions, 50 images of a class each, where its lists are there; they come in an
  archive of their own. Otherwise as many are drawn.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.images.observing import looking_at

EVALUATED_SHARE = 0.2
PARTITION = ("Training_01.txt", "Testing_01.txt")
"""The lists of SUN397's first partition, in its folder or in `Partitions` there."""


@dataclass(frozen=True)
class Division:
    """The positions of the images that train and of those that evaluate, and how they came about, in words.

    is_drawn: whether that was done here
    """

    train: list[int]
    val: list[int]
    how: str
    is_drawn: bool = True


Splitting = Callable[[Path, Sequence[str], Sequence[int]], Division]
"""Divides images, given by their names below a folder and their labels."""


def first_drawn(train: int, evaluated: int | None = None) -> Splitting:
    """So many images of each class train, and `evaluated` further ones, or all, evaluate."""

    def divide(folder: Path, names: Sequence[str], labels: Sequence[int]) -> Division:
        division = Division([], [], f"{train} images of each class, drawn by a hash of their names, to train on")
        for ranked in _ranked(names, labels):
            division.train.extend(ranked[:train])
            division.val.extend(ranked[train : None if evaluated is None else train + evaluated])
        return division

    return divide


def draw_share(folder: Path, names: Sequence[str], labels: Sequence[int]) -> Division:
    """`EVALUATED_SHARE` of each class evaluate."""
    division = Division([], [], f"{EVALUATED_SHARE:.0%} of each class, drawn by a hash of their names, to evaluate on")
    for ranked in _ranked(names, labels):
        count = round(EVALUATED_SHARE * len(ranked))
        division.val.extend(ranked[:count])
        division.train.extend(ranked[count:])
    return division


def sun_partition(folder: Path, names: Sequence[str], labels: Sequence[int]) -> Division:
    """The published partition, or one like it. Raises ValueError for a list that names an image that is not there."""
    for place in (folder, folder / "Partitions"):
        lists = [place / name for name in PARTITION]
        for path in lists:
            looking_at(path)
        if any(path.exists() for path in lists):
            position = {name: number for number, name in enumerate(names)}
            train, val = (_listed(path, position) for path in lists)
            return Division(train, val, f"the makers' first partition, {' and '.join(PARTITION)}", is_drawn=False)
    drawn = first_drawn(50, 50)(folder, names, labels)
    how = f"{drawn.how}, 50 to evaluate on: not the makers' partition, whose lists {' and '.join(PARTITION)} are not"
    return Division(drawn.train, drawn.val, f"{how} in {folder}")


def _listed(path: Path, position: dict[str, int]) -> list[int]:
    names = [line.strip().lstrip("/") for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    missing = [name for name in names if name not in position]
    if missing:
        raise ValueError(f"{path} names {len(missing):,} images that are not there, {missing[0]} among them")
    return [position[name] for name in names]


def _ranked(names: Sequence[str], labels: Sequence[int]) -> list[list[int]]:
    """Of each class, the positions of its images in the order of their names' hashes."""
    by_class: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        by_class.setdefault(label, []).append(position)
    return [sorted(by_class[label], key=lambda at: _hash(names[at])) for label in sorted(by_class)]


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()
