"""What every task gives back: its numbers, and what must be known to compare them."""

from dataclasses import dataclass, field

import numpy as np

from backbones.loading import LoadReport
from backbones.training.job import Outcome


@dataclass(frozen=True)
class TaskOutcome:
    """The result of one task on one data set.

    metrics:      percentages and losses by name, over all evaluated images
    per_image:    one value an image, all of one length, in the order of `image_names`; a metric that has its values
                  here (on the metric's own scale) gets a confidence interval over images
    per_class:    percentages by class name
    split:        what the images are called that it was evaluated on ("val", "holdout")
    unreadable:   evaluation images that were left out, and why
    notes:        what a reader of the numbers has to know
    """

    metrics: dict[str, float]
    per_image: dict[str, np.ndarray]
    image_names: list[str]
    per_class: dict[str, float]
    split: str
    training: Outcome
    load_report: LoadReport | None
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
