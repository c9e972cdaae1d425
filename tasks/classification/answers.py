"""What a classifier said of every image, and the metrics of it that are no means over images.

N images, C classes, M bins, R resamples
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array  # type: ignore[import-untyped]

from tasks.outcome import WeightedMetric, checked_weights, mean_percentage

MANY, FEW = 100, 20
"""Of a class with more training images than the one there are many shots, with fewer than the other few (Liu et al.
2019, "Large-Scale Long-Tailed Recognition in an Open World", section 4.1; facebookresearch/classifier-balancing,
utils.py, shot_acc). The authors' own utils.py, lines 45 and 47, counts a class with exactly 100 or 20 to the outer
groups."""

BINS = 15
"""Of equal width, each with its upper end (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 5)."""

_SHOTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "many_shot": lambda images: images > MANY,
    "medium_shot": lambda images: (images >= FEW) & (images <= MANY),
    "few_shot": lambda images: images < FEW,
}


@dataclass(frozen=True)
class Answers:
    """One evaluation's answers, each of N images.

    labels, predictions: its class, and the one that the classifier takes it for
    confidences:         the softmax probability of that, in 0-1
    train_images:        how many training images its class has
    """

    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    train_images: np.ndarray

    @property
    def weighted(self) -> dict[str, WeightedMetric]:
        """By name the metrics that can be computed for any resample of the images, in percent.

        The mean over classes of each class's accuracy: of all, and by how often a class was seen in training if that is
        not of one kind for all. The expected calibration error. NaN where no image counts that would be needed.
        """
        groups = {name: group(self.train_images) for name, group in _SHOTS.items()}
        found = {"mean_class_accuracy": self._class_accuracy(np.ones(len(self.labels), dtype=bool))}
        if sum(group_N.any() for group_N in groups.values()) > 1:
            found |= {name: self._class_accuracy(group_N) for name, group_N in groups.items() if group_N.any()}
        return found | {"ECE": self._calibration_error()}

    def _class_accuracy(self, chosen_N: np.ndarray) -> WeightedMetric:
        """The share of a class's images that were recognised, averaged over the classes of the chosen images."""
        images = np.flatnonzero(chosen_N)
        classes, columns = np.unique(self.labels[images], return_inverse=True)
        shape = (len(self.labels), len(classes))
        right = (self.labels == self.predictions)[images].astype(np.float64)
        right_NC = csr_array((right, (images, columns)), shape=shape)
        all_NC = csr_array((np.ones(len(images)), (images, columns)), shape=shape)

        def accuracy(weights_RN: np.ndarray) -> np.ndarray:
            weights_RN = checked_weights(weights_RN, len(self.labels))
            return mean_percentage(weights_RN @ right_NC, weights_RN @ all_NC)

        return accuracy

    def _calibration_error(self) -> WeightedMetric:
        """How far confidence and accuracy are apart within a bin, averaged over the images."""
        edges = np.linspace(0, 1, BINS + 1)
        bins_N = np.clip(np.searchsorted(edges, self.confidences, side="left") - 1, 0, BINS - 1)
        gaps_N = (self.labels == self.predictions) - self.confidences
        gaps_NM = csr_array((gaps_N, (np.arange(len(bins_N)), bins_N)), shape=(len(bins_N), BINS))

        def error(weights_RN: np.ndarray) -> np.ndarray:
            weights_RN = checked_weights(weights_RN, len(self.labels))
            images_R = weights_RN.sum(axis=1)
            gaps_R = np.abs(weights_RN @ gaps_NM).sum(axis=1)
            return 100 * np.divide(gaps_R, images_R, out=np.full(len(images_R), np.nan), where=images_R > 0)

        return error
