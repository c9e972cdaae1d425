"""From a task's outcome to the record's metrics: each number with how sure it is."""

import numpy as np

from results import (
    Metric,
    bootstrap_interval,
    find_metric,
    proportion_interval,
    statistic_interval,
    weighted_proportion_interval,
)
from tasks.outcome import TaskOutcome


def metrics_with_intervals(outcome: TaskOutcome) -> list[Metric]:
    """The metrics as the record holds them, with a 95 % interval over images wherever the task allows one.

    Raises ResultsError for a metric that `results.metrics` doesn't know.
    """
    images = len(outcome.image_names)
    metrics = []
    for name, value in outcome.metrics.items():
        kind = find_metric(name)
        low, high = None, None
        if name in outcome.per_image:
            low, high = image_interval(outcome.per_image[name])
        elif name in outcome.shares:
            share = outcome.shares[name]
            low, high = (100 * end for end in weighted_proportion_interval(share.right, share.weights))
        elif name in outcome.weighted:
            low, high = statistic_interval(outcome.weighted[name], images, bounds=kind.bounds)
        metrics.append(Metric(name=name, value=value, split=outcome.split, ci_low=low, ci_high=high, n_eval=images))
    return metrics


def image_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a mean over images (N,): Wilson's for right (100) and wrong (0) answers, else by bootstrap.

    Where all answers are right or all wrong the bootstrap would claim certainty, from however few images.
    """
    if np.isin(values, (0.0, 100.0)).all():
        low, high = proportion_interval(int((values == 100.0).sum()), len(values))
        return 100 * low, 100 * high
    return bootstrap_interval(values)
