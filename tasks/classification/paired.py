"""Comparing two classifiers image by image, from their `per_image.csv`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from backbones.training.progress_line import with_progress
from results import paired_difference
from results.errors import StoreError
from tasks.pairing import PairedRuns, require_same_images

MEANS = ("top1", "top5", "loss")
"""What is measured of every image, and whose mean is the metric."""


def compare(a: Sequence[Path], b: Sequence[Path]) -> PairedRuns:
    """Test the runs in two lists of directories on the same images: metrics that are means over images.

    Several runs a side are averaged, image by image. Raises ResultsError unless all have their results of the same
    images.
    """
    runs = [*a, *b]
    frames = [_per_image(run) for run in runs]
    require_same_images(runs, [frame.index.tolist() for frame in frames])
    values = [frame.loc[frames[0].index] for frame in frames]
    differences = {}
    for name in with_progress(MEANS, "comparing", len(MEANS), "metrics"):
        ours, theirs = (
            np.mean([frame[name].to_numpy() for frame in side], axis=0) for side in (values[: len(a)], values[len(a) :])
        )
        differences[name] = paired_difference(ours, theirs)
    return PairedRuns(len(values[0]), differences)


def _per_image(directory: Path) -> pd.DataFrame:
    path = directory / "per_image.csv"
    try:
        frame = pd.read_csv(path, dtype={"image": str}, na_filter=False, float_precision="round_trip")
        frame = frame.set_index("image")[list(MEANS)].astype(np.float64)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file. A finished classification run has one; repeat the run") from None
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: not a table of {', '.join(MEANS)} by image: {error}") from error
    if not frame.index.is_unique:
        raise StoreError(f"{path}: expected each image once, found {frame.index[frame.index.duplicated()][0]} again")
    return frame
