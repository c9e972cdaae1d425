"""What a probe measures: of every evaluation image whether its class is told, and how sure the mean of that is."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Probed:
    """What came of a probe on N evaluation images.

    per_image: by metric, 0 or 100 an image, of several draws their mean, (N,)
    metrics:   those that are no mean over images
    notes:     what was chosen, and what a reader of the numbers has to know
    """

    per_image: dict[str, np.ndarray]
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def percent_right(predictions_N: Tensor, targets_N: Tensor) -> np.ndarray:
    """100 where a prediction is the class, else 0: (N,)."""
    return (predictions_N == targets_N).double().mul(100).cpu().numpy()
