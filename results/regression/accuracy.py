"""Whether a cell's numbers have become worse by more than seeds do."""

import math
from collections.abc import Sequence

import numpy as np

from results.metrics import find_metric
from results.regression.noise import Noise

LEVEL = 0.035
"""How often a night of equal cells may alarm by accuracy. With speed and memory, 0.005 each, it is less than one night
in 20."""

SUSPICION = 0.15
"""Up to which p-value of a cell by itself it is worth more runs. One run of what is 3 sigma worse is below it in 97
nights of 100, and with two more is found in 92; with 0.1 it would be 95 and 90."""

FLOOR_POINTS, FLOOR_SHARE = 0.1, 0.01
"""Below which no difference alarms: points of what is in percent, a share of anything else."""


def is_suspicious(difference: float, floor: float, p_value: float) -> bool:
    """Whether a cell that is worse by as much may be so for good, and more runs would tell.

    From half the floor on: what is worse by more than that may be below it in one run.
    """
    return p_value < SUSPICION and difference >= floor / 2


def floor_of(metric: str, baseline: float) -> float:
    """The least difference that may alarm, in the metric's units."""
    return FLOOR_POINTS if find_metric(metric).unit == "%" else FLOOR_SHARE * abs(baseline)


def worse_by(metric: str, value: float, baseline: float) -> float:
    """By how much a value is worse, in the metric's units; below 0 where it is better."""
    return baseline - value if find_metric(metric).higher_is_better else value - baseline


def p_worse(difference: float, noise: Noise, draws: int, baseline_draws: int) -> float:
    """Student's one-sided p-value of means of so many seeds each that differ by as much, or more.

    Two means over n and m seeds of equal cells differ by a standard deviation of sigma · sqrt(1/n + 1/m).
    """
    from scipy.special import ndtr, stdtr  # type: ignore[import-untyped]

    error = noise.sigma * math.sqrt(1 / draws + 1 / baseline_draws)
    if error == 0:
        return 1.0 if difference <= 0 else 0.0
    score = difference / error
    return float(ndtr(-score) if math.isinf(noise.degrees) else stdtr(noise.degrees, -score))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for how many there are (Holm 1979, "A simple sequentially rejective multiple test")."""
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(values) else scaled
    return [float(value) for value in corrected]
