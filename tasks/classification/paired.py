"""Comparing two classifiers image by image, from their `per_image.csv`."""

from pathlib import Path

import numpy as np
import pandas as pd

from results import ResultsError, paired_difference
from tasks.classification.metric import MEANS
from tasks.pairing import PairedRuns, require_same_images


def compare(a: Path, b: Path) -> PairedRuns:
    """Test the runs in two directories on the same images: metrics that are means over images.

    Raises ResultsError unless both have their results of the same images.
    """
    a_frame, b_frame = _per_image(a), _per_image(b)
    require_same_images(a, a_frame.index.tolist(), b, b_frame.index.tolist())
    b_frame = b_frame.loc[a_frame.index]
    return PairedRuns(len(a_frame), {name: paired_difference(a_frame[name], b_frame[name]) for name in MEANS})


def _per_image(directory: Path) -> pd.DataFrame:
    path = directory / "per_image.csv"
    try:
        frame = pd.read_csv(path, dtype={"image": str}, na_filter=False, float_precision="round_trip")
        frame = frame.set_index("image")[list(MEANS)].astype(np.float64)
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file. A finished classification run has one; repeat the run") from None
    except (OSError, ValueError, KeyError) as error:
        raise ResultsError(f"{path}: not a table of {', '.join(MEANS)} by image: {error}") from error
    if not frame.index.is_unique:
        raise ResultsError(f"{path}: expected each image once, found {frame.index[frame.index.duplicated()][0]} again")
    return frame
