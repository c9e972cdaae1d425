"""Images that are trained on and evaluated on."""

import filecmp
from collections.abc import Collection, Iterable
from pathlib import Path

from backbones.images.observing import looking_at
from tasks.datasets.wording import describe_shared

MOST_COMPARED = 1000
"""Of the images whose name is in both splits, spread over all of them."""


def shared_images(train: tuple[Path, Iterable[str]], val: tuple[Path, Collection[str]]) -> list[str]:
    """A note if images of the same name below the splits' folders are the same files, or copies; no or one text.

    train, val: the folder, and the images' names below it
    """
    folders = train[0], val[0]
    evaluated = set(val[1])
    names = sorted(name for name in train[1] if name in evaluated)
    if not names:
        return []
    if folders[0].resolve() == folders[1].resolve():
        return [describe_shared(names)]
    step = -(-len(names) // MOST_COMPARED)
    same = [name for name in names[::step] if _are_same(folders[0] / name, folders[1] / name)]
    if not same:
        return []
    return [describe_shared(same, "" if step == 1 else f" (of {len(names[::step]):,} that were compared)")]


def _are_same(one: Path, other: Path) -> bool:
    """Whether both are one file, or equal in size and content."""
    looking_at(one)
    looking_at(other)
    try:
        return one.samefile(other) or (
            one.stat().st_size == other.stat().st_size and filecmp.cmp(one, other, shallow=False)
        )
    except OSError:
        return False
