"""Check a data set whose images are named by files: everything that is wrong, at once, and every image decoded.

How to use it: give `check_listed` the data set's `Layout`. Everything that its `read` puts into `faults` and `flaws`
is a problem of the report; what is asked here is alike for all of them: published counts, classes without images,
images in both splits, images that cannot be decoded.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from backbones.errors import DataError
from tasks.datasets.check_report import CheckReport
from tasks.datasets.class_folders.check import check_class_folders
from tasks.datasets.decoding import decode_all
from tasks.datasets.identity import Contents, Counts, card_name
from tasks.datasets.image_lists.listed import Layout, Listed, beside_lists, is_as_distributed, is_tree_beside_lists
from tasks.datasets.labelled import images_in_both

_LAYOUT_UNKNOWN = "no known layout"


def check_listed(layout: Layout, root: Path, on_progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Look for every mistake in both splits below `root`, and decode every image in full, on all cores.

    `on_progress(done, total)` is called after each image. Raises nothing about the data: what cannot be read is a
    problem in the report.
    """
    try:
        if is_as_distributed(layout, root):
            return _check_lists(layout, root, on_progress)
        report = check_class_folders(root, None, on_progress)
    except DataError as error:
        return CheckReport(_LAYOUT_UNKNOWN, problems=[str(error)])
    _compare_counts(layout, root, report)
    return report


def _check_lists(layout: Layout, root: Path, on_progress: Callable[[int, int], None] | None) -> CheckReport:
    found = layout.read(root)
    if is_tree_beside_lists(layout, root, found):
        report = check_class_folders(root, None, on_progress)
        report.notes.append(beside_lists(layout))
        _compare_counts(layout, root, report)
        return report
    report = CheckReport(
        layout=found.layout,
        classes=found.classes,
        counts={name: len(split.paths) for name, split in found.splits.items()},
        problems=[*found.faults, *found.flaws],
        notes=list(dict.fromkeys([*found.notes, *(split.note for split in found.splits.values() if split.note)])),
    )
    _count_classes(found, report)
    _compare_counts(layout, root, report)
    if len(found.splits) == 2:
        report.problems += images_in_both(found.splits["train"], found.splits["val"])
    decode_all(found.splits, report, on_progress)
    return report


def _count_classes(found: Listed, report: CheckReport) -> None:
    if "train" in found.splits and found.classes:
        sizes = np.bincount(found.splits["train"].labels, minlength=len(found.classes))
        report.set_extremes(sizes.tolist())


def _compare_counts(layout: Layout, root: Path, report: CheckReport) -> None:
    """Numbers other than the published ones are a problem, unless a card says that these are other images."""
    if set(report.counts) != {"train", "val"}:
        return
    found = Counts(report.counts["train"], report.counts["val"], len(report.classes))
    contents = Contents(found.train_images, found.evaluation_images, found.classes, fingerprint="")
    if str(found) == str(layout.counts):
        return
    differs = f"{found}; published are {layout.counts}."
    if layout.counts.fit(contents):
        report.notes.append(f"{differs} How many train is uncertain: it is {layout.name} all the same.")
    elif name := card_name(root):
        report.notes.append(f"{differs} By its dataset.json it is {name}.")
    else:
        report.problems.append(
            f'{root}: {differs} Complete it, or say whose these images are in a dataset.json, {{"name": "…"}}.'
        )
