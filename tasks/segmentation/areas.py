"""The pixels of every class, image by image, from which mIoU follows for the images as they are and for any resample.

N images, C classes, R resamples
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.errors import DataError
from backbones.training.writing import written_whole
from tasks.outcome import ANEW, WeightedMetric, checked_weights, mean_percentage

Array = NDArray[Any]
Floats = NDArray[np.float64]


AREAS = "areas.npz"
"""The file of a run that holds its evaluation's areas."""


@dataclass(frozen=True)
class Areas:
    """One evaluation's pixels by image and class, (N, C) whole numbers. Pixels without a label count nowhere.

    image_names:   the N images, in the data set's order
    intersection:  pixels of a class that were given to it
    annotated:     pixels of a class
    predicted:     pixels that were given to a class, rightly or not

    Its metrics take weights (R, N), how often each image counts, and give percentages (R,): with all weights 1 the
    evaluation's own, as mmsegmentation's IoUMetric defines them, with whole numbers those of a set in which each image
    is repeated so often. They are NaN where no drawn image has an annotated pixel. Counts are whole numbers and their
    sums far below 2 ** 53, so that in float64 matrix products sum them exactly, in whatever order.
    The metrics raise ValueError for weights of another shape, or below 0; the constructor for arrays that don't fit.
    """

    image_names: list[str]
    intersection: Array
    annotated: Array
    predicted: Array

    def __post_init__(self) -> None:
        shapes = [array.shape for array in (self.intersection, self.annotated, self.predicted)]
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or shapes[0][0] != len(self.image_names):
            raise ValueError(f"expected three arrays ({len(self.image_names)}, classes), found {shapes}")

    @property
    def weighted(self) -> dict[str, WeightedMetric]:
        """The three metrics by name."""
        return {"mIoU": self.mean_iou, "mAcc": self.mean_accuracy, "aAcc": self.all_pixel_accuracy}

    def mean_iou(self, weights_RN: Array) -> Floats:
        """Intersection over union, averaged over the classes that are annotated or predicted anywhere."""
        weights_RN = checked_weights(weights_RN, len(self.image_names))
        union_NC = self.annotated + self.predicted - self.intersection
        return mean_percentage(weights_RN @ self.intersection, weights_RN @ union_NC)

    def mean_accuracy(self, weights_RN: Array) -> Floats:
        """The share of a class's pixels that were given to it, averaged over the classes that are annotated."""
        weights_RN = checked_weights(weights_RN, len(self.image_names))
        return mean_percentage(weights_RN @ self.intersection, weights_RN @ self.annotated)

    def all_pixel_accuracy(self, weights_RN: Array) -> Floats:
        """The share of all annotated pixels that were given to their class."""
        weights_RN = checked_weights(weights_RN, len(self.image_names))
        right_N1, annotated_N1 = (array.sum(axis=1, keepdims=True) for array in (self.intersection, self.annotated))
        return mean_percentage(weights_RN @ right_N1, weights_RN @ annotated_N1)


def save_areas(path: Path, areas: Areas) -> None:
    """Write areas as a compressed `.npz` file, whole or not at all."""
    with written_whole(path) as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            image_names=np.array(areas.image_names, dtype=np.str_),
            intersection=areas.intersection,
            annotated=areas.annotated,
            predicted=areas.predicted,
        )


def load_areas(path: Path) -> Areas:
    """Read what `save_areas` wrote. Raises DataError, naming the file, if it is missing or broken."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pixels = [arrays[name] for name in ("intersection", "annotated", "predicted")]
            return Areas(arrays["image_names"].tolist(), *pixels)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. A finished segmentation run has one; {ANEW} {path.parent}") from None
    except (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a file of areas ({error}); {ANEW} {path.parent}") from error
