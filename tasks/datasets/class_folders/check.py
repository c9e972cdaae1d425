"""Check a class-folder data set before it is used: what it holds, and every image that cannot be decoded."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tasks.datasets.check_report import CheckReport
from tasks.datasets.class_folders.layout import ClassFolders
from tasks.datasets.decoding import decode_all
from tasks.datasets.labelled import images_in_both


def check_class_folders(
    root: str | Path, settings: None = None, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Open both splits of `root` and decode every image in full, on all cores.

    There are no settings: the layout is recognised.
    `on_progress(done, total)` is called after each image. Raises DataError where `ClassFolders.open` does.
    """
    splits = [ClassFolders.open(root, "train"), ClassFolders.open(root, "val")]
    report = CheckReport(
        layout=splits[1].layout,
        classes=splits[0].classes,
        counts={split.split: len(split.paths) for split in splits},
        notes=list(dict.fromkeys(split.note for split in splits if split.note)),
    )
    report.notes += images_in_both(*splits)
    times = Counter(splits[0].labels)
    report.set_extremes([times[label] for label in range(len(report.classes))])
    decode_all({split.split: split for split in splits}, report, on_progress)
    return report
