"""Comparing two probes image by image, from their `per_image.csv`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from results import paired_difference
from results.errors import StoreError
from results.metrics import METRICS
from tasks.outcome import ANEW
from tasks.pairing import PairedRuns, require_same_images


def compare(a: Sequence[Path], b: Sequence[Path], only: str | None = None) -> PairedRuns:
    """Test the runs in two lists of directories on the same images, by all metrics that all have, or by one.

    Several runs a side are averaged, image by image. Raises ResultsError unless all have their results of the same
    images.
    """
    runs = [*a, *b]
    frames = [_per_image(run) for run in runs]
    require_same_images(runs, [frame.index.tolist() for frame in frames])
    values = [frame.loc[frames[0].index] for frame in frames]
    names = [name for name in map(str, frames[0]) if all(name in frame for frame in frames) and only in (None, name)]
    differences = {}
    for name in names:
        ours, theirs = (np.mean([each[name] for each in side], axis=0) for side in (values[: len(a)], values[len(a) :]))
        differences[name] = paired_difference(ours, theirs)
    return PairedRuns(len(frames[0]), differences)


def _per_image(directory: Path) -> pd.DataFrame:
    path = directory / "per_image.csv"
    try:
        frame = pd.read_csv(path, dtype={"image": str}, na_filter=False, float_precision="round_trip")
        frame = frame.set_index("image")
        frame = frame[[name for name in frame if name in METRICS]].astype(np.float64)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file. A finished probe has one; {ANEW} {directory}") from None
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: not a table of metrics by image: {error}") from error
    if frame.empty or not frame.index.is_unique:
        raise StoreError(f"{path}: expected metrics of each image once")
    return frame
