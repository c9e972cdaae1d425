"""Check a class-folder data set before it is used: what it holds, and every image that cannot be decoded."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from backbones.images.in_threads import each_in_threads
from backbones.images.reading import UnreadableImage
from backbones.images.upright import Orientation, read_upright
from tasks.datasets.check_report import CheckReport
from tasks.datasets.class_folders.layout import ClassFolders
from tasks.datasets.labelled import images_in_both
from tasks.datasets.wording import counted


def check_class_folders(
    root: str | Path, settings: None = None, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Open both splits of `root` and decode every image in full, on all cores.

    There are no settings: the layout is recognised.
    `on_progress(done, total)` is called after each image. Raises DataError where `ClassFolders.open` does.
    """
    splits = [ClassFolders.open(root, "train"), ClassFolders.open(root, "val")]
    images = [(split.split, path) for split in splits for path in split.paths]
    report = CheckReport(
        layout=splits[1].layout,
        classes=splits[0].classes,
        counts={split.split: len(split.paths) for split in splits},
        notes=list(dict.fromkeys(split.note for split in splits if split.note)),
    )
    report.notes += images_in_both(*splits)
    times = Counter(splits[0].labels)
    report.set_extremes([times[label] for label in range(len(report.classes))])
    tagged: Counter[str] = Counter()
    for done, ((split_name, path), found) in enumerate(each_in_threads(_examine, images), start=1):
        if isinstance(found, str):
            report.problems.append(f"unreadable: {path}: {found}")
        elif found.tagged:
            tagged[split_name] += 1
        if on_progress is not None:
            on_progress(done, len(images))
    report.notes += [
        f"{counted(count, f'{name} image')} with an EXIF orientation, not turned by it, as in torchvision."
        for name, count in tagged.items()
    ]
    return report


def _examine(image: tuple[str, Path]) -> Orientation | str:
    """The orientation that the file states, or why it is unreadable."""
    try:
        return read_upright(image[1], None)[1]
    except UnreadableImage as error:
        return error.why
