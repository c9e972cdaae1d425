"""Comparing two classifiers image by image, from their `per_image.csv`."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd

from backbones.training.progress_line import with_progress
from results import paired_difference
from results.errors import StoreError
from tasks.classification.answers import Answers
from tasks.pairing import PairedRuns, compare_statistics, require_same_images

TOP5 = "top5"
MEANS = ("top1", TOP5, "loss")
"""What is measured of every image, and whose mean is the metric."""

_ANSWERS = tuple(field.name for field in fields(Answers))


def compare(a: Sequence[Path], b: Sequence[Path]) -> PairedRuns:
    """Test the runs in two lists of directories on the same images: metrics that are means over images, and others.

    Several runs a side are averaged, image by image. What not all have is passed over: top-5 of fewer than five
    classes, and of runs of earlier versions what they did not measure. Raises ResultsError unless all have their
    results of the same images.
    """
    runs = [*a, *b]
    frames = [_per_image(run) for run in runs]
    require_same_images(runs, [frame.index.tolist() for frame in frames])
    values = [frame.loc[frames[0].index] for frame in frames]
    sides = values[: len(a)], values[len(a) :]
    differences = {}
    means = [name for name in MEANS if all(name in frame for frame in values)]
    for name in with_progress(means, "comparing", len(means), "metrics"):
        ours, theirs = (np.mean([frame[name].to_numpy() for frame in side], axis=0) for side in sides)
        differences[name] = paired_difference(ours, theirs)
    if all(name in frame for name in _ANSWERS for frame in values):
        our_statistics, their_statistics = ([_answers(frame).weighted for frame in side] for side in sides)
        names = [name for name in our_statistics[0] if all(name in each for each in their_statistics)]
        differences |= compare_statistics(
            {name: [each[name] for each in our_statistics] for name in names},
            {name: [each[name] for each in their_statistics] for name in names},
            len(values[0]),
        )
    return PairedRuns(len(values[0]), differences)


def _answers(frame: pd.DataFrame) -> Answers:
    return Answers(**{name: frame[name].to_numpy() for name in _ANSWERS})


def _per_image(directory: Path) -> pd.DataFrame:
    """What a run says of each image, by name: as numbers `MEANS`, of which top-5 may be missing, and its answers."""
    path = directory / "per_image.csv"
    try:
        frame = pd.read_csv(path, dtype={"image": str}, na_filter=False, float_precision="round_trip")
        columns = ["top1", "loss", *(name for name in (TOP5, *_ANSWERS) if name in frame)]
        frame = frame.set_index("image")[columns].astype(np.float64)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file. A finished classification run has one; repeat the run") from None
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: not a table of {', '.join(MEANS)} by image: {error}") from error
    if not frame.index.is_unique:
        raise StoreError(f"{path}: expected each image once, found {frame.index[frame.index.duplicated()][0]} again")
    return frame
