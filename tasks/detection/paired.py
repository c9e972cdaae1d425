"""Comparing two detectors image by image, from their `matches_AP_box.npz` and `matches_AP_mask.npz`."""

from pathlib import Path

from results import PairedDifference, paired_statistic_difference
from tasks.detection.matches import load_matches, matches_file
from tasks.pairing import PairedRuns, require_same_images

AVERAGE_PRECISIONS = ("AP_box", "AP_mask")


def compare(a: Path, b: Path) -> PairedRuns:
    """Test the runs in two directories on the same images: AP, which is no mean over images. COCO takes half a minute.

    Raises InputError for a missing or broken file, ResultsError for other images.
    """
    images = 0
    differences: dict[str, PairedDifference] = {}
    for metric in AVERAGE_PRECISIONS:
        ours, theirs = (load_matches(directory / matches_file(metric)) for directory in (a, b))
        require_same_images(a, ours.image_ids.tolist(), b, theirs.image_ids.tolist())
        images = len(ours.image_ids)
        differences[metric] = paired_statistic_difference(ours.average_precision, theirs.average_precision, images)
    return PairedRuns(images, differences)
