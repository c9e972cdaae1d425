"""Check a class-folder data set before it is used: what it holds, and every image that cannot be decoded."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backbones.images.reading import find_fault
from tasks.datasets.class_folders import ClassFolders
from tasks.datasets.in_threads import each_in_threads


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes:
        layout: which layout, in words.
        classes: number of classes.
        counts: images in each split.
        smallest, largest: name and number of training images of the extreme classes.
        unreadable: each file that cannot be decoded, with the reason.
        notes: what a reader of the numbers should know.
    """

    layout: str
    classes: int
    counts: dict[str, int]
    smallest: tuple[str, int]
    largest: tuple[str, int]
    unreadable: list[tuple[Path, str]]
    notes: list[str]

    @property
    def problems(self) -> list[str]:
        """What makes the data set unusable."""
        return [f"unreadable: {path}: {why}" for path, why in self.unreadable]


def check(root: str | Path, on_progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Open both splits of `root` and decode every image in full, on all cores.

    `on_progress(done, total)` is called now and then, and at the end. Raises InputError where `ClassFolders.open` does.
    """
    splits = [ClassFolders.open(root, "train"), ClassFolders.open(root, "val")]
    paths = [path for split in splits for path in split.paths]
    unreadable: list[tuple[Path, str]] = []
    for done, (path, why) in enumerate(each_in_threads(find_fault, paths), start=1):
        if why is not None:
            unreadable.append((path, why))
        if on_progress is not None:
            on_progress(done, len(paths))
    sizes = Counter(splits[0].labels)
    by_size = sorted(sizes, key=lambda label: (sizes[label], label))
    smallest, largest = ((splits[0].classes[label], sizes[label]) for label in (by_size[0], by_size[-1]))
    return CheckReport(
        layout=splits[1].layout,
        classes=len(splits[0].classes),
        counts={split.split: len(split.paths) for split in splits},
        smallest=smallest,
        largest=largest,
        unreadable=unreadable,
        notes=list(dict.fromkeys(split.note for split in splits if split.note)),
    )
