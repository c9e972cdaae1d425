"""Where a number that is measured every night changed its level for good, and where it drifts.   N nights"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEAST_NIGHTS = 3
"""On each side of a change: one bad night, or two, are no new level."""

FEWEST_NIGHTS = 2 * LEAST_NIGHTS
"""Of a series in which a change can be found, and that tells how far its nights lie apart."""

LEAST_OF_COSTS = 7
"""On each side of a change of speed or memory: of a shared machine several bad nights in one week are no news."""

FEWEST_OF_DRIFT = 8
"""Of seven nights not even a number that falls every night is significant among 45 cells, p being 2 / 7! of each; of
eight it is among 352, of their speed and memory among 50."""

PENALTY = 3.0
"""Of a change point, in sigma² · log N. BIC has 2, with which noise is cut up and each piece is too short to test."""

_TO_SIGMA = 1.4826
"""Of a normal distribution, its standard deviation in median absolute deviations."""

_EFFICIENCY = 0.3
"""The estimate of `night_sigma` varies as a standard deviation of so many times N - 1 degrees of freedom does: 0.35 for
N of 10 and 0.31 for 100, simulated."""

_FAR = 2.0
"""Standard deviations from its neighbours' median up to which a night counts in full (Hampel 1974, "The influence curve
and its role in robust estimation"). With 3 in place of 2 no more is found, and noise with the tails of Student's t of
three degrees of freedom alarms in one history of five."""


@dataclass(frozen=True)
class Step:
    """A new level from the night of this place on. p_value: two-sided, corrected for all places of all cells."""

    place: int
    before: float
    after: float
    p_value: float


@dataclass(frozen=True)
class Trend:
    """A slow change from the night of this place to the last: both ends of the line. p_value: as that of `Step`."""

    place: int
    before: float
    after: float
    p_value: float


def night_sigma(values: ArrayLike) -> tuple[float, float]:
    """How far equal nights lie apart, as a standard deviation, and of how many degrees of freedom that is.

    From the median of the absolute differences from night to night, over sqrt(2): a change of level is one difference
    among many, a slow drift hardly any. Where more than half of the nights repeat the one before, from the mean of the
    squared differences (von Neumann 1941, "Distribution of the ratio of the mean square successive difference").
    """
    differences = np.abs(np.diff(np.asarray(values, dtype=float)))
    degrees = _EFFICIENCY * len(differences)
    if not len(differences):
        return math.nan, 0.0
    if middle := float(np.median(differences)):
        return _TO_SIGMA * middle / math.sqrt(2), degrees
    return math.sqrt(float((differences**2).mean()) / 2), degrees


def explain(
    values: Sequence[float],
    sigma: float | None,
    degrees: float,
    *,
    cells: int,
    level: float,
    floor: float = 0.0,
    is_cost: bool = False,
) -> tuple[list[Step], Trend | None]:
    """The lasting changes of a series (N,), and its drift since the last of them.

    Of steps, of a line, and of some steps with a line after them it is what explains the nights best, where each passes
    its test.

    sigma:  of equal nights, with its degrees of freedom; 0 where these are the same to the last digit, so that every
            difference is a change; None where it is not known, which leaves the drift
    cells:  how many series are looked at together
    level:  how often any of these may alarm where nothing has changed, half by a change and half by a drift
    floor:  the least size of either
    is_cost: whether single nights may lie far off, as those of a shared machine do
    """
    values_N = np.asarray(values, dtype=float)
    steps: list[Step] = []
    if sigma is not None:
        steps = find_steps(values_N, sigma, degrees, cells=cells, level=level / 2, floor=floor, is_cost=is_cost)
    if not sigma:
        return steps, None if steps else find_trend(values_N, cells=cells, level=level / 2, floor=floor)
    smooth_N = _without_outliers(values_N, sigma)
    best: tuple[list[Step], Trend | None] = (steps, None)
    least = _misfit(smooth_N, steps, None, sigma)
    for count in range(len(steps) + 1):
        start = steps[count - 1].place if count else 0
        if trend := find_trend(values_N, cells=cells, level=level / 2, floor=floor, start=start):
            kept = [*steps[: count - 1], replace(steps[count - 1], after=trend.before)] if count else []
            if (misfit := _misfit(smooth_N, kept, trend, sigma)) < least:
                best, least = (kept, trend), misfit
    return best


def find_steps(
    values_N: Floats,
    sigma: float,
    degrees: float,
    *,
    cells: int,
    level: float,
    floor: float = 0.0,
    is_cost: bool = False,
) -> list[Step]:
    """The change points of the mean, by the optimal partition under a penalty (Killick et al. 2012, "Optimal detection
    of changepoints with a linear computational cost", PELT), each of which passes a test.

    The means of the two neighbouring segments, of costs the medians, are compared by Student's t, corrected for all
    cells and all nights that a change may begin in (Bonferroni). The least significant change is taken away, and its
    segments are joined, until all that are left are below `level` and at least as large as `floor`.
    """
    least = LEAST_OF_COSTS if is_cost else LEAST_NIGHTS
    if sigma == 0:
        places = [int(place) for place in np.flatnonzero(np.diff(values_N)) + 1]
    elif len(values_N) < 2 * least:
        return []
    else:
        values_N = _without_outliers(values_N, sigma)
        places = _partition(values_N, least, PENALTY * sigma**2 * math.log(len(values_N)))
    tests = cells * max(len(values_N) - 2 * least + 1, 1)
    while places:
        steps = _tested(values_N, places, sigma, degrees, tests, is_cost=is_cost)
        failing = [step for step in steps if step.p_value >= level or abs(step.after - step.before) < floor]
        if not failing:
            return steps
        places.remove(max(failing, key=lambda step: (step.p_value, -abs(step.after - step.before))).place)
    return []


def find_trend(values_N: Floats, *, cells: int, level: float, floor: float = 0.0, start: int = 0) -> Trend | None:
    """The drift since the night `start`, if it is significant among all cells and at least as large as `floor`.

    Mann and Kendall's test for a trend (Mann 1945, "Nonparametric tests against trend"), which needs no sigma, and the
    line through the median with the median slope (Theil 1950; Sen 1968).
    """
    from scipy.stats import kendalltau, theilslopes  # type: ignore[import-untyped]

    nights = len(values_N) - start
    if nights < FEWEST_OF_DRIFT or np.ptp(values_N[start:]) == 0:
        return None
    days = np.arange(nights)
    p_value = min(float(kendalltau(days, values_N[start:]).pvalue) * cells, 1.0)
    if p_value >= level:
        return None
    slope, intercept = theilslopes(values_N[start:], days)[:2]
    if abs(slope) * (nights - 1) < floor or slope == 0:
        return None
    return Trend(start, float(intercept), float(intercept + slope * (nights - 1)), p_value)


def _partition(values_N: Floats, least: int, penalty: float) -> list[int]:
    """Where segments begin, but the first: those of the least sum of squares and penalties.

    The linear kernel's cost is that of the model "l2", and with a penalty its search is PELT, compiled.
    """
    import ruptures

    found = ruptures.KernelCPD(kernel="linear", min_size=least, jump=1).fit(values_N[:, None])
    return [int(place) for place in found.predict(pen=penalty)[:-1]]


def _tested(
    values_N: Floats, places: Sequence[int], sigma: float, degrees: float, tests: int, *, is_cost: bool
) -> list[Step]:
    from scipy.special import ndtr, stdtr  # type: ignore[import-untyped]

    segments = np.split(values_N, places)
    levels = [float(np.median(segment) if is_cost else segment.mean()) for segment in segments]
    variances = [(math.pi / 2 if is_cost else 1) / len(segment) for segment in segments]
    steps = []
    for number, place in enumerate(places):
        before, after = levels[number : number + 2]
        error = sigma * math.sqrt(sum(variances[number : number + 2]))
        score = abs(after - before) / error if error else math.inf
        tail = ndtr(-score) if math.isinf(degrees) else stdtr(degrees, -score)
        steps.append(Step(place, before, after, min(2 * float(tail) * tests, 1.0)))
    return steps


def _without_outliers(values_N: Floats, sigma: float) -> Floats:
    """The values, none further than `_FAR` sigma from the median of the five nights around it."""
    values = values_N.tolist()
    medians = [median(values[max(place - 2, 0) : place + 3]) for place in range(len(values))]
    return np.clip(values_N, np.subtract(medians, _FAR * sigma), np.add(medians, _FAR * sigma))


def _misfit(values_N: Floats, steps: Sequence[Step], trend: Trend | None, sigma: float) -> float:
    """The Bayesian information criterion of levels, the last of which may be a line, less what all of these share.

    A step has a place and a size, a line a slope.
    """
    *segments, last_N = np.split(values_N, [step.place for step in steps])
    days = np.arange(len(last_N))
    line = np.polyval(np.polyfit(days, last_N, 1), days) if trend else last_N.mean()
    squares = sum(float(((segment - segment.mean()) ** 2).sum()) for segment in segments)
    squares += float(((last_N - line) ** 2).sum())
    return squares / sigma**2 + (2 * len(steps) + (trend is not None)) * math.log(len(values_N))
