"""Comparing two classifiers image by image, from their `per_image.csv`."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd

from backbones.training.progress_line import with_progress
from results import paired_difference
from results.errors import StoreError
from results.metrics import CORRUPTION_ERROR, CORRUPTIONS
from tasks.classification.answers import SHOTS, Answers
from tasks.outcome import ANEW, WeightedMetric
from tasks.pairing import PairedRuns, compare_statistics, require_same_images

TOP5 = "top5"
MEANS = ("top1", TOP5, "loss")
"""What is measured of every image, and whose mean is the metric."""

CORRUPTED = ("mCE", "mean_error", *(f"{CORRUPTION_ERROR}{name}" for name in CORRUPTIONS))
"""The same of images that were changed in several ways."""

_ANSWERS = tuple(field.name for field in fields(Answers))
_OPTIONAL = "train_images"
"""Of them, what an evaluation does not say that saw no training images."""


def compare(a: Sequence[Path], b: Sequence[Path], only: str | None = None) -> PairedRuns:
    """Test the runs in two lists of directories on the same images: metrics that are means over images, and others.

    With `only`, that metric alone, in a fraction of the time.
    Several runs a side are averaged, image by image. What not all have is passed over: top-5 of fewer than five
    classes, of runs of earlier versions what they did not measure, and many, medium and few shots of runs that were not
    trained on as many images of each class. Raises ResultsError unless all have their results of the same images.
    """
    runs = [*a, *b]
    frames = [_per_image(run) for run in runs]
    require_same_images(runs, [frame.index.tolist() for frame in frames])
    values = [frame.loc[frames[0].index] for frame in frames]
    measured = [_means(frame) for frame in values]
    means = [name for name in measured[0] if all(name in each for each in measured)]
    if not _trained_alike(values):
        means = [name for name in means if name not in SHOTS]
    means = [name for name in means if only in (None, name)]
    differences = {}
    for name in means if only else with_progress(means, "comparing", len(means), "metrics"):
        a_M, b_M = (np.mean([each[name] for each in side], axis=0) for side in (measured[: len(a)], measured[len(a) :]))
        differences[name] = paired_difference(a_M, b_M)
    if all(_has_answers(frame) for frame in values):
        answers = [_answers(frame) for frame in values]
        ours, theirs = (_statistics(side, only) for side in (answers[: len(a)], answers[len(a) :]))
        differences |= compare_statistics(ours, theirs, len(values[0])) if ours else {}
    return PairedRuns(len(values[0]), differences)


def _means(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """By name, a value for each image that counts, whose mean is the metric."""
    means = {name: frame[name].to_numpy() for name in (*MEANS, *CORRUPTED) if name in frame}
    shares = _answers(frame).shares if _has_answers(frame) else {}
    return means | {name: share.values for name, share in shares.items()}


def _statistics(runs: Sequence[Answers], only: str | None) -> dict[str, list[WeightedMetric]]:
    """By name, what is no mean over images, of each run."""
    found = [run.weighted for run in runs]
    return {name: [each[name] for each in found] for name in found[0] if only in (None, name)}


def _trained_alike(frames: Sequence[pd.DataFrame]) -> bool:
    """Whether the runs saw as many images of each image's class in training, as far as they say so."""
    answered = [frame for frame in frames if _has_answers(frame)]
    if not all(_OPTIONAL in frame for frame in answered):
        return False
    seen = [frame[_OPTIONAL].to_numpy() for frame in answered]
    return all(np.array_equal(seen[0], each) for each in seen[1:])


def _has_answers(frame: pd.DataFrame) -> bool:
    return all(name in frame for name in _ANSWERS if name != _OPTIONAL)


def _answers(frame: pd.DataFrame) -> Answers:
    return Answers(**{name: frame[name].to_numpy() for name in _ANSWERS if name in frame})


def _per_image(directory: Path) -> pd.DataFrame:
    """What a run says of each image, by name: as numbers `MEANS`, of which top-5 may be missing, and its answers."""
    path = directory / "per_image.csv"
    try:
        frame = pd.read_csv(path, dtype={"image": str}, na_filter=False, float_precision="round_trip")
        required = ["mCE"] if "mCE" in frame else ["top1", "loss"]
        others = (name for name in (*MEANS, *CORRUPTED, *_ANSWERS) if name in frame and name not in required)
        columns = [*required, *others]
        frame = frame.set_index("image")[columns].astype(np.float64)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file. A finished classification run has one; {ANEW} {directory}") from None
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: not a table of {', '.join(MEANS)} by image: {error}") from error
    if not frame.index.is_unique:
        raise StoreError(f"{path}: expected each image once, found {frame.index[frame.index.duplicated()][0]} again")
    return frame
