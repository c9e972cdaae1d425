"""Check a segmentation data set before it is used: every mistake in both splits, every image and annotation decoded."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from backbones.errors import DataError
from backbones.images.in_threads import each_in_threads
from backbones.images.reading import UnreadableImage
from backbones.images.upright import Orientation, read_upright
from tasks.datasets.check_report import CheckReport
from tasks.datasets.label_maps.class_lists import find_class_list, read_class_list
from tasks.datasets.label_maps.images import AnnotatedImage
from tasks.datasets.label_maps.layout import (
    KIND,
    SegmentationDataSettings,
    describe_unlabelled,
    images_in_both,
    pair_files,
    require_size,
    split_folders,
)
from tasks.datasets.label_maps.maps import IGNORED, MAX_CLASSES, WrongLabels, has_palette, read_label_map
from tasks.datasets.orientations import describe_orientations
from tasks.datasets.places import Split, explain_absence
from tasks.datasets.wording import counted, name_some

LAYOUT = "images with a label map each"


@dataclass(frozen=True)
class _Examined:
    """What one image and its annotation hold: pixels by the number of their class, (256,), and what is wrong.

    The orientation is that of an image that can be read.
    """

    pixels: np.ndarray
    palette: bool
    orientation: Orientation | None
    problems: list[str]


def check_ade20k(
    root: Path,
    settings: SegmentationDataSettings | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Look for every mistake in both splits below `root`, and decode every image and annotation.

    `on_progress(done, total)` is called after each image. Raises nothing about the data: what cannot be read is a
    problem in the report. A class's size is in pixels.
    """
    settings = settings or SegmentationDataSettings()
    report = CheckReport(LAYOUT, size_unit="pixel")
    if absent := explain_absence(root, settings.folders, KIND):
        report.problems.append(absent)
        return report
    try:
        report.classes = read_class_list(find_class_list(root, settings.classes))
    except DataError as error:
        report.problems.append(str(error))
    pairs: dict[Split, list[AnnotatedImage]] = {}
    for split in ("train", "val"):
        pairs[split], problems = pair_files(*split_folders(root, settings, split), split)
        report.problems += problems
        if pairs[split]:
            report.counts[split] = len(pairs[split])
    report.notes += images_in_both(root, settings, pairs["train"], pairs["val"])
    _examine_files(pairs, settings.reduce_zero_label, report, on_progress)
    return report


def _examine_files(
    pairs: dict[Split, list[AnnotatedImage]],
    reduce_zero_label: bool,
    report: CheckReport,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    # Without a class list no label is known to be wrong, but sizes and colours still are.
    examine = partial(_examine, classes=len(report.classes) or MAX_CLASSES, reduce_zero_label=reduce_zero_label)
    done, total = 0, sum(len(images) for images in pairs.values())
    for split, images in pairs.items():
        pixels = np.zeros(256, dtype=np.int64)
        palettes = wrong = 0
        orientations: list[Orientation] = []
        for _, examined in each_in_threads(examine, images):
            pixels += examined.pixels
            palettes += examined.palette
            if examined.orientation is not None:
                orientations.append(examined.orientation)
            wrong += bool(examined.problems)
            report.problems += examined.problems
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        report.notes += describe_orientations(split, orientations)
        if not images or wrong == len(images):
            continue
        if not wrong and not pixels[:IGNORED].any():
            report.problems.append(describe_unlabelled(images, split, reduce_zero_label))
        _note_pixels(split, pixels, report)
        if palettes:
            report.notes.append(
                f"{counted(palettes, f'{split} annotation')} with a palette: its indices are the labels."
            )


def _examine(image: AnnotatedImage, classes: int, reduce_zero_label: bool) -> _Examined:
    pixels = np.zeros(256, dtype=np.int64)
    palette = False
    problems = []
    labels = size = orientation = None
    try:
        labels = read_label_map(image.annotation, classes, reduce_zero_label=reduce_zero_label)
        palette = has_palette(image.annotation)
        pixels += np.bincount(labels.reshape(-1), minlength=256)
    except (WrongLabels, UnreadableImage) as error:
        problems.append(str(error))
    try:
        read, orientation = read_upright(image.image, None if labels is None else labels.shape)
        size = read.shape[1:]
    except UnreadableImage as error:
        problems.append(str(error))
    if labels is not None and size is not None:
        try:
            require_size(image, labels, *size)
        except WrongLabels as error:
            problems.append(str(error))
    return _Examined(pixels, palette, orientation, problems)


def _note_pixels(split: Split, pixels: np.ndarray, report: CheckReport) -> None:
    """Which classes the split lacks, how much of it has no class, and in training the extreme classes."""
    report.notes.append(f"{pixels[IGNORED] / pixels.sum():.1%} of the {split} pixels are unlabelled.")
    sizes = pixels[: len(report.classes)].tolist()
    if not any(sizes):
        return
    if split == "train":
        report.set_extremes(sizes)
    absent = [name for name, size in zip(report.classes, sizes, strict=True) if not size]
    if absent:
        consequence = (
            "which cannot be learned"
            if split == "train"
            else "which enter mIoU with 0 where they are predicted, and are left out otherwise"
        )
        report.notes.append(
            f"no {split} pixel of {len(absent):,} of {counted(len(sizes), 'class', 'classes')}, {consequence}: "
            f"{name_some(absent, len(absent))}."
        )
