"""Comparing two detectors image by image, from their `matches_AP_box.npz` and `matches_AP_mask.npz`."""

from collections.abc import Sequence
from pathlib import Path

from tasks.detection.matches import load_matches, matches_file
from tasks.pairing import PairedRuns, compare_statistics, require_same_images

AVERAGE_PRECISIONS = ("AP_box", "AP_mask")


def compare(a: Sequence[Path], b: Sequence[Path], only: str | None = None) -> PairedRuns:
    """Test the runs in two lists of directories on the same images: AP, which is no mean over images.

    With `only`, that metric alone, whose files are all that is read.
    Several runs a side are averaged. Raises InputError for a missing or broken file, ResultsError for other images.
    """
    runs = [*a, *b]
    tested = [metric for metric in AVERAGE_PRECISIONS if only in (None, metric)]
    matches = {metric: [load_matches(run / matches_file(metric)) for run in runs] for metric in tested}
    for found in matches.values():
        require_same_images(runs, [each.image_ids.tolist() for each in found])
    ours, theirs = (
        {metric: [each.average_precision for each in found[side]] for metric, found in matches.items()}
        for side in (slice(len(a)), slice(len(a), None))
    )
    images = len(matches[tested[0]][0].image_ids)
    return PairedRuns(images, compare_statistics(ours, theirs, images))
