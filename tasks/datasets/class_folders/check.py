"""Check a class-folder data set before it is used: what it holds, and every image that cannot be decoded."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from backbones.images.reading import find_fault
from tasks.datasets.check_report import CheckReport
from tasks.datasets.class_folders.layout import ClassFolders
from tasks.datasets.in_threads import each_in_threads


def check_class_folders(
    root: str | Path, settings: None = None, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Open both splits of `root` and decode every image in full, on all cores.

    There are no settings: the layout is recognised.
    `on_progress(done, total)` is called after each image. Raises InputError where `ClassFolders.open` does.
    """
    splits = [ClassFolders.open(root, "train"), ClassFolders.open(root, "val")]
    paths = [path for split in splits for path in split.paths]
    report = CheckReport(
        layout=splits[1].layout,
        classes=splits[0].classes,
        counts={split.split: len(split.paths) for split in splits},
        notes=list(dict.fromkeys(split.note for split in splits if split.note)),
    )
    times = Counter(splits[0].labels)
    report.set_extremes([times[label] for label in range(len(report.classes))])
    for done, (path, why) in enumerate(each_in_threads(find_fault, paths), start=1):
        if why is not None:
            report.problems.append(f"unreadable: {path}: {why}")
        if on_progress is not None:
            on_progress(done, len(paths))
    return report
