"""What every task gives back: its numbers, and what must be known to compare them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from backbones.forward_cost import ForwardCost
    from backbones.training.outcome import Outcome
    from backbones.weights.loading import LoadReport

WeightedMetric = Callable[[np.ndarray], np.ndarray]
"""A metric that is no mean over images, such as AP, given how often each image counts: (R, N) integers to (R,)."""

ANEW = "this makes another run that has it: backbench evaluate --data DATA --weights"
"""What to do where a finished run lacks what its evaluation left; the run's directory follows."""


@dataclass(frozen=True)
class WeightedShare:
    """How many of some images were recognised, in percent, where images count unequally but always alike.

    images:  which of the N evaluated images count, ascending, (M,)
    right:   whether each of these was recognised, (M,)
    weights: above 0, with mean 1, (M,)
    """

    images: np.ndarray
    right: np.ndarray
    weights: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """A value for each image that counts, (M,), whose mean is the metric."""
        return 100.0 * self.right * self.weights

    @property
    def value(self) -> float:
        """The metric."""
        return float(self.values.mean())


def checked_weights(weights: np.ndarray, images: int) -> np.ndarray:
    """Weights (R, N) for a `WeightedMetric` as float64. Raises ValueError for another shape, or weights below 0."""
    weights_RN = np.asarray(weights)
    if weights_RN.ndim != 2 or weights_RN.shape[1] != images or (weights_RN < 0).any():
        raise ValueError(f"expected weights (R, {images}) of at least 0, found {weights_RN.shape}")
    return weights_RN.astype(np.float64)


def mean_percentage(parts_RC: np.ndarray, wholes_RC: np.ndarray) -> np.ndarray:
    """100 × part / whole, averaged over the classes that have a whole: both (R, C) to (R,); NaN where none has one."""
    present_RC = wholes_RC > 0
    shares_RC = np.divide(parts_RC, wholes_RC, out=np.zeros_like(wholes_RC), where=present_RC)
    classes_R = present_RC.sum(axis=1)
    return 100 * np.divide(shares_RC.sum(axis=1), classes_R, out=np.full(len(classes_R), np.nan), where=classes_R > 0)


def _write_nothing(directory: Path) -> None:
    pass


@dataclass(frozen=True)
class TaskOutcome:
    """The result of one task on one data set.

    metrics:      percentages and losses by name, over all evaluated images
    image_names:  the N evaluated images
    per_image:    one value an image (N,) by name; a metric that has its values here (on the metric's own scale) gets a
                  confidence interval over images
    shares:       the metrics that are a mean over images of different weights
    weighted:     the metrics that are no mean over images but can be computed for any resample of the N
    per_class:    percentages by class name
    split:        what the images are called that it was evaluated on ("val", "test", "holdout")
    unreadable:   evaluation images that were left out, and why
    notes:        what a reader of the numbers has to know
    write:        leaves the task's own files in the run's directory
    parameters:   how many the encoder has, without head and pyramid
    network:      as it was trained, trunk and head, under the names of `weights.safetensors`; None where none is left
    classes:      their names, in the order of its outputs
    class_ids:    the number of each in the data, where they have others than their positions
    cost:         of a forward pass: of the classifier, or in dense tasks of encoder and pyramid
    """

    metrics: dict[str, float]
    image_names: list[str]
    per_class: dict[str, float]
    split: str
    training: "Outcome"
    load_report: "LoadReport | None"
    network: "nn.Module | None"
    classes: list[str]
    class_ids: Sequence[int] = ()
    per_image: dict[str, np.ndarray] = field(default_factory=dict)
    shares: dict[str, WeightedShare] = field(default_factory=dict)
    weighted: dict[str, WeightedMetric] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    write: Callable[[Path], Any] = _write_nothing
    parameters: int | None = None
    cost: "ForwardCost | None" = None

    def without_network(self, top1: str) -> "TaskOutcome":
        """The same, leaving no network, and with `top1` under a name of its own, so that it is ranked with its like."""
        names = {"top1": top1}
        return replace(
            self,
            metrics={names.get(name, name): value for name, value in self.metrics.items()},
            per_image={names.get(name, name): values for name, values in self.per_image.items()},
            network=None,
        )
