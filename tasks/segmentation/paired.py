"""Comparing two segmentors image by image, from their `areas.npz`."""

from collections.abc import Sequence
from pathlib import Path

from tasks.pairing import PairedRuns, compare_statistics, require_same_images
from tasks.segmentation.areas import AREAS, load_areas


def compare(a: Sequence[Path], b: Sequence[Path], only: str | None = None) -> PairedRuns:
    """Test the runs in two lists of directories on the same images: mIoU and its kin, which are no means over images.

    With `only`, that metric alone.
    Several runs a side are averaged. Raises InputError for a missing or broken file, ResultsError for other images.
    """
    runs = [*a, *b]
    areas = [load_areas(run / AREAS) for run in runs]
    require_same_images(runs, [each.image_names for each in areas])
    ours, theirs = (
        {name: [each.weighted[name] for each in side] for name in areas[0].weighted if only in (None, name)}
        for side in (areas[: len(a)], areas[len(a) :])
    )
    images = len(areas[0].image_names)
    return PairedRuns(images, compare_statistics(ours, theirs, images))
