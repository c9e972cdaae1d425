"""What a classifier said of every image, and the metrics of it that are no plain means over images.

N images, M of them that count, B bins, R resamples
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array  # type: ignore[import-untyped]

from tasks.outcome import WeightedMetric, WeightedShare, checked_weights

MANY, FEW = 100, 20
"""Of a class with more training images than the one there are many shots, with fewer than the other few (Liu et al.
2019, "Large-Scale Long-Tailed Recognition in an Open World", section 4.1; facebookresearch/classifier-balancing,
utils.py, shot_acc). The authors' own code counts a class with exactly 100 or 20 to the outer groups
(zhmiao/OpenLongTailRecognition-OLTR, utils.py, lines 70 and 72 at commit f50e375)."""

BINS = 15
"""Of equal width, each with its upper end (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 5)."""

SHOTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "many_shot": lambda images: images > MANY,
    "medium_shot": lambda images: (images >= FEW) & (images <= MANY),
    "few_shot": lambda images: images < FEW,
}


@dataclass(frozen=True)
class Answers:
    """One evaluation's answers, each of N images.

    labels, predictions: its class, and the one that the classifier takes it for
    confidences:         the softmax probability of that, in 0-1
    train_images:        how many training images its class has; None where that is not known
    """

    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    train_images: np.ndarray | None = None

    @property
    def shares(self) -> dict[str, WeightedShare]:
        """By name the metrics that are a mean over images in which those of each class have the same weight together.

        The mean over classes of each class's accuracy: of all, and by how often a class was seen in training if that is
        not of one kind for all, and known. Groups without an image have none.
        """
        found = {"mean_class_accuracy": self._class_accuracy(np.ones(len(self.labels), dtype=bool))}
        if self.train_images is None:
            return found
        groups = {name: group(self.train_images) for name, group in SHOTS.items()}
        if sum(group_N.any() for group_N in groups.values()) > 1:
            found |= {name: self._class_accuracy(group_N) for name, group_N in groups.items() if group_N.any()}
        return found

    @property
    def weighted(self) -> dict[str, WeightedMetric]:
        """The expected calibration error, for any resample of the images, in percent; NaN where no image counts."""
        return {"ECE": self._calibration_error()}

    @property
    def metrics(self) -> dict[str, float]:
        """All of them by name, in percent."""
        ones_1N = np.ones((1, len(self.labels)), dtype=np.int64)
        shares = {name: share.value for name, share in self.shares.items()}
        return shares | {name: float(metric(ones_1N)[0]) for name, metric in self.weighted.items()}

    def _class_accuracy(self, chosen_N: np.ndarray) -> WeightedShare:
        """The share of a class's images that were recognised, averaged over the classes of the chosen images."""
        images_M = np.flatnonzero(chosen_N)
        labels_M = self.labels[images_M]
        classes, class_M, sizes = np.unique(labels_M, return_inverse=True, return_counts=True)
        weights_M = len(images_M) / (len(classes) * sizes[class_M])
        return WeightedShare(images_M, labels_M == self.predictions[images_M], weights_M)

    def _calibration_error(self) -> WeightedMetric:
        """How far confidence and accuracy are apart within a bin, averaged over the images."""
        edges = np.linspace(0, 1, BINS + 1)
        bins_N = np.clip(np.searchsorted(edges, self.confidences, side="left") - 1, 0, BINS - 1)
        gaps_N = (self.labels == self.predictions) - self.confidences
        gaps_NB = csr_array((gaps_N, (np.arange(len(bins_N)), bins_N)), shape=(len(bins_N), BINS))

        def error(weights_RN: np.ndarray) -> np.ndarray:
            weights_RN = checked_weights(weights_RN, len(self.labels))
            images_R = weights_RN.sum(axis=1)
            gaps_R = np.abs(weights_RN @ gaps_NB).sum(axis=1)
            return 100 * np.divide(gaps_R, images_R, out=np.full(len(images_R), np.nan), where=images_R > 0)

        return error
