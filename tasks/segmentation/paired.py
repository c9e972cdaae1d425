"""Comparing two segmentors image by image, from their `areas.npz`."""

from pathlib import Path

from results import paired_statistic_difference
from tasks.pairing import PairedRuns, require_same_images
from tasks.segmentation.areas import AREAS, load_areas


def compare(a: Path, b: Path) -> PairedRuns:
    """Test the runs in two directories on the same images: mIoU and its kin, which are no means over images.

    Raises InputError for a missing or broken file, ResultsError for other images.
    """
    ours, theirs = (load_areas(directory / AREAS) for directory in (a, b))
    require_same_images(a, ours.image_names, b, theirs.image_names)
    images, others = len(ours.image_names), theirs.weighted
    return PairedRuns(
        images,
        {
            name: paired_statistic_difference(statistic, others[name], images)
            for name, statistic in ours.weighted.items()
        },
    )
