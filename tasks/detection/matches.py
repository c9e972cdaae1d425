"""Which detection found which object, kept so that AP can be computed for any resample of the images.

Matching goes image by image, so it does not depend on which images are drawn: a resample only changes how often each
image counts.   N images, R resamples, T = 10 IoU thresholds, D detections of one category, P of them true positives
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.errors import DataError
from backbones.training.writing import written_whole
from tasks.outcome import ANEW, checked_weights

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
"""Where COCO reads precision off: 0, 0.01, …, 1."""

PIECE = 2_000_000
"""Resamples are worked on in pieces of about this many numbers."""

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CategoryMatches:
    """The detections of one category over all images, best score first, equal scores in COCO's order.

    objects:        (N,) how many objects each image has to be found, crowds not counted
    images:         (D,) in which image each detection lies, as its position in `Matches.image_ids`
    true_positive:  (T, D) whether it found an object at each IoU threshold
    ignored:        (T, D) whether it counts neither as right nor as wrong there (it lies on a crowd)
    """

    category_id: int
    objects: Array
    images: Array
    true_positive: Array
    ignored: Array


@dataclass(frozen=True)
class Matches:
    """One evaluation's matches: its image ids (N,), ascending, and every category that has an object.

    Two evaluations of the same images are paired by giving both the same weights.
    """

    image_ids: Array
    categories: tuple[CategoryMatches, ...]

    def average_precision(self, weights_RN: Array) -> Floats:
        """COCO's AP (R,) in percent (all sizes, at most 100 detections an image), with each image counted w times.

        With all weights 1 it is the evaluation's own AP. With whole numbers it is the AP of a set in which each image
        is repeated so often, copies side by side; exactly so unless detections of one image and category have equal
        scores: of those, all copies of one are counted before the next. NaN where no object is drawn.
        Raises ValueError for weights of another shape, or below 0.
        """
        weights_RN = checked_weights(weights_RN, len(self.image_ids))
        sums_R, defined_R = np.zeros(len(weights_RN)), np.zeros(len(weights_RN))
        for category in self.categories:
            objects_R = weights_RN @ category.objects
            sums_R += _average_precision(category, weights_RN, objects_R)
            defined_R += objects_R > 0
        return 100 * np.divide(sums_R, defined_R, out=np.full(len(sums_R), np.nan), where=defined_R > 0)

    def arrays(self) -> dict[str, Array]:
        """Everything in a few arrays, for a file; `from_arrays` takes them back."""
        categories = self.categories
        return {
            "image_ids": self.image_ids,
            "category_ids": np.array([category.category_id for category in categories], dtype=np.int64),
            "detections": np.array([len(category.images) for category in categories], dtype=np.int64),
            "objects": np.array([category.objects for category in categories]).reshape(-1, len(self.image_ids)),
            "images": np.concatenate([np.zeros(0, np.int32), *(category.images for category in categories)]),
            "true_positive": _side_by_side([category.true_positive for category in categories]),
            "ignored": _side_by_side([category.ignored for category in categories]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Matches":
        """What `arrays` gave. Raises KeyError for a missing array, ValueError for arrays that don't fit together."""
        ends = np.cumsum(arrays["detections"])
        images, true_positive, ignored = (
            np.split(arrays[name], ends, axis=-1)[:-1] for name in ("images", "true_positive", "ignored")
        )
        fields = zip(arrays["category_ids"].tolist(), arrays["objects"], images, true_positive, ignored, strict=True)
        return cls(arrays["image_ids"], tuple(CategoryMatches(*values) for values in fields))


def matches_file(metric: str) -> str:
    """The file of a run that holds what a metric such as "AP_box" was computed from."""
    return f"matches_{metric}.npz"


def save_matches(path: Path, matches: Matches) -> None:
    """Write matches as a compressed `.npz` file, whole or not at all."""
    with written_whole(path) as file:
        np.savez_compressed(file, allow_pickle=False, **matches.arrays())


def load_matches(path: Path) -> Matches:
    """Read what `save_matches` wrote. Raises DataError, naming the file, if it is missing or broken."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Matches.from_arrays(arrays)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. A finished detection run has one; {ANEW} {path.parent}") from None
    except (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a file of matches ({error}); {ANEW} {path.parent}") from error


def _average_precision(category: CategoryMatches, weights_RN: Floats, objects_R: Floats) -> Floats:
    """AP (R,) of one category as a fraction, averaged over the IoU thresholds; 0 where no object is drawn."""
    rows = max(1, PIECE // max(1, len(category.images)))
    pieces = [slice(start, start + rows) for start in range(0, len(weights_RN), rows)]
    parts = [_average_precision_of_piece(category, weights_RN[piece], objects_R[piece]) for piece in pieces]
    return np.concatenate([np.zeros(0), *parts])


def _average_precision_of_piece(category: CategoryMatches, weights_RN: Floats, objects_R: Floats) -> Floats:
    """Only true positives are looked at: precision is highest, and recall grows, nowhere else."""
    weights_RD = np.take(weights_RN, category.images, axis=1)
    detections_RD = np.cumsum(weights_RD, axis=1)
    sums_R = np.zeros(len(weights_RN))
    for true_positive_D, ignored_D in zip(category.true_positive, category.ignored, strict=True):
        true, ignored = np.flatnonzero(true_positive_D), np.flatnonzero(ignored_D)
        found_RP = np.cumsum(weights_RD[:, true], axis=1)
        counted_RP = detections_RD[:, true]
        if len(ignored):
            ignored_so_far = np.cumsum(weights_RD[:, ignored], axis=1)
            before = np.searchsorted(ignored, true)
            counted_RP[:, before > 0] -= ignored_so_far[:, before[before > 0] - 1]
        precision_RP = found_RP / np.maximum(counted_RP, 1)
        best_from_here_RP = np.maximum.accumulate(precision_RP[:, ::-1], axis=1)[:, ::-1]
        recall_RP = found_RP / np.maximum(objects_R, 1)[:, None]
        read_off_RP = np.searchsorted(RECALLS, recall_RP, side="right")
        sums_R += (best_from_here_RP * np.diff(read_off_RP, axis=1, prepend=0)).sum(axis=1)
    return sums_R / (len(IOU_THRESHOLDS) * len(RECALLS))


def _side_by_side(flags: list[Array]) -> Array:
    return np.concatenate([np.zeros((len(IOU_THRESHOLDS), 0), np.bool_), *flags], axis=1)
