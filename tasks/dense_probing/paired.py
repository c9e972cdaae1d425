"""Comparing two dense probes image by image, from their `areas.npz`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tasks.dense_probing.metric import PREFIX, renamed
from tasks.pairing import PairedRuns
from tasks.segmentation.paired import compare as compare_segmentors


def compare(a: Sequence[Path], b: Sequence[Path], only: str | None = None) -> PairedRuns:
    """Test the runs in two lists of directories on the same images: linear_mIoU and its kin, or with `only` that alone.

    Several runs a side are averaged. Raises InputError for a missing or broken file, ResultsError for other images.
    """
    runs = compare_segmentors(a, b, only and only.removeprefix(PREFIX))
    return replace(runs, differences=renamed(runs.differences))
