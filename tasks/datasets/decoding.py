"""Decode every image of a data set to classify, to find those that cannot be."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from backbones.images.in_threads import each_in_threads
from backbones.images.reading import UnreadableImage
from backbones.images.upright import Orientation, read_upright
from tasks.datasets.check_report import CheckReport
from tasks.datasets.labelled import LabelledSplit
from tasks.datasets.wording import counted


def decode_all(
    splits: Mapping[str, LabelledSplit], report: CheckReport, on_progress: Callable[[int, int], None] | None
) -> None:
    """Decode every image in full, on all cores, and add to the `report` which are unreadable or ask to be turned.

    `on_progress(done, total)` is called after each image.
    """
    total = sum(len(split.paths) for split in splits.values())
    tagged: Counter[str] = Counter()
    for done, ((name, path), found) in enumerate(each_in_threads(_examine, _images(splits)), start=1):
        if isinstance(found, str):
            report.problems.append(f"unreadable: {path}: {found}")
        elif found.tagged:
            tagged[name] += 1
        if on_progress is not None:
            on_progress(done, total)
    report.notes += [
        f"{counted(count, f'{name} image')} with an EXIF orientation, not turned by it, as in torchvision."
        for name, count in tagged.items()
    ]


def _images(splits: Mapping[str, LabelledSplit]) -> Iterator[tuple[str, Path]]:
    return ((name, path) for name, split in splits.items() for path in split.paths)


def _examine(image: tuple[str, Path]) -> Orientation | str:
    """The orientation that the file states, or why it is unreadable."""
    try:
        return read_upright(image[1], None)[1]
    except UnreadableImage as error:
        return error.why
