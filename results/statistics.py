"""Confidence intervals and paired comparisons: how sure a number is.   N images, R resamples"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.errors import ResultsError

Floats = NDArray[np.float64]

Statistic = Callable[[NDArray[np.int64]], Floats]
"""A number of a whole evaluation, such as AP, that is no mean over images: from how often each image counts, (R, N), to
its values (R,), NaN where it is undefined."""

# Up to this many distinct values, images are resampled by how often each value is drawn.
FEW_VALUES = 64
# Resamples drawn image by image are drawn in pieces of about this many numbers.
PIECE = 4_000_000


@dataclass(frozen=True)
class PairedDifference:
    """How far two backbones are apart on the same images: a mean difference, its interval, and a two-sided p-value."""

    mean: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(
    per_image_values: ArrayLike, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of one value per image (N,) (Efron & Tibshirani 1993, chapter 13).

    The same seed gives the same interval. Where all values are equal the interval has no width, for resampling knows
    nothing else: an accuracy of 0 or 100 % is better served by `proportion_interval`.
    Raises ResultsError for no values, more than one dimension, NaN or infinity, a confidence outside (0, 1).
    """
    values_N = _values(per_image_values, least=1)
    tail = _tail(confidence)
    means_R = _resampled_means(values_N, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means_R, [tail, 1 - tail])
    return float(low), float(high)


def proportion_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, as fractions in 0-1 (Wilson 1927).

    For an accuracy it says what the bootstrap over images says, without chance, and keeps its coverage near 0 and 1.
    Raises ResultsError unless 0 <= successes <= total and total >= 1.
    """
    if not 0 <= successes <= total or total < 1:
        raise ResultsError(f"expected 0 <= successes <= total and total >= 1, found {successes} of {total}")
    return _wilson(successes / total, total, confidence)


def weighted_proportion_interval(
    successes: ArrayLike, weights: ArrayLike, confidence: float = 0.95
) -> tuple[float, float]:
    """Wilson's score interval of a proportion in which images (N,) have weights above 0, as fractions in 0-1.

    With the effective number of images in the place of their number, as of a weighted sample (Franco et al. 2019,
    "Comparative study of confidence intervals for proportions in complex sample surveys"): that at which a proportion
    among equals varies as this one does, and no more than that of the weights alone (Kish 1965, "Survey Sampling",
    section 11.7). With equal weights it is `proportion_interval`.
    Raises ResultsError if the lengths differ, for weights of 0 or less, or as `bootstrap_interval` does.
    """
    right_N, weights_N = _values(successes, least=1), _values(weights, least=1)
    if len(right_N) != len(weights_N) or not (weights_N > 0).all():
        raise ResultsError(f"expected {len(right_N)} weights above 0, found {len(weights_N)}, from {weights_N.min()}")
    weights_N = weights_N / weights_N.sum()
    share = min(float(weights_N @ right_N), 1.0)
    effective = 1 / float((weights_N**2).sum())
    variance = float((weights_N**2) @ (right_N - share) ** 2)
    if right_N.all() or not right_N.any():
        return _wilson(float(right_N[0]), effective, confidence)
    return _wilson(share, min(effective, share * (1 - share) / variance), confidence)


def _wilson(share: float, total: float, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf(1 - _tail(confidence))
    shrink = 1 + z**2 / total
    centre = (share + z**2 / (2 * total)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    low = 0.0 if share == 0 else centre - half
    high = 1.0 if share == 1 else centre + half
    return low, high


def seed_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean over seeds (S,), S >= 2.

    It says where the mean over all seeds lies, not where the next seed's number will. With two seeds it is honest and
    very wide. Raises ResultsError for fewer than two values, NaN or infinity.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    values_S = _values(values, least=2)
    quantile = float(stdtrit(len(values_S) - 1, 1 - _tail(confidence)))
    half = quantile * float(values_S.std(ddof=1)) / math.sqrt(len(values_S))
    mean = float(values_S.mean())
    return mean - half, mean + half


def seed_difference(differences: ArrayLike, confidence: float = 0.95) -> PairedDifference:
    """Compare two backbones seed by seed: the mean of one difference of their numbers a seed (S,), S >= 2.

    Interval and two-sided p-value are those of Student's t test of paired values (Student 1908, "The probable error of
    a mean"). It takes in all that differs from seed to seed, for these images; `paired_difference` of values that are
    averaged over the seeds takes in the choice of images, for these seeds.
    Raises ResultsError as `seed_interval` does.
    """
    from scipy.special import stdtr

    low, high = seed_interval(differences, confidence)
    values_S = _values(differences, least=2)
    mean, error = float(values_S.mean()), float(values_S.std(ddof=1)) / math.sqrt(len(values_S))
    if error == 0:
        return PairedDifference(mean, low, high, 1.0 if mean == 0 else 0.0)
    return PairedDifference(mean, low, high, 2 * float(stdtr(len(values_S) - 1, -abs(mean) / error)))


def paired_difference(
    a: ArrayLike, b: ArrayLike, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> PairedDifference:
    """Compare two backbones image by image: mean of a - b over the same images (N,) in the same order.

    The interval is the bootstrap's over images. The p-value is that of the sign-flip permutation test, for right and
    wrong answers the randomised form of McNemar's exact test: how often differences at least as large arise when each
    image's two values change places at random. It is never below 1 / (resamples + 1).
    Raises ResultsError if the lengths differ, or as `bootstrap_interval` does.
    """
    a_N, b_N = _values(a, least=1), _values(b, least=1)
    if len(a_N) != len(b_N):
        raise ResultsError(f"a paired comparison needs the same images: found {len(a_N)} and {len(b_N)} values")
    difference_N = a_N - b_N
    low, high = bootstrap_interval(difference_N, confidence, resamples, seed)
    observed = float(difference_N.mean())
    flipped_R = _sign_flipped_means(np.abs(difference_N), resamples, np.random.default_rng([seed, 1]))
    rounding = 1e-9 * float(np.abs(difference_N).max())
    extreme = int(np.count_nonzero(np.abs(flipped_R) >= abs(observed) - rounding))
    return PairedDifference(observed, low, high, (extreme + 1) / (resamples + 1))


def statistic_interval(
    statistic: Statistic,
    images: int,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float, float]:
    """The bootstrap interval over images of any number, within `bounds` (Efron & Tibshirani 1993, chapters 10 and 13).

    The percentile interval less the bootstrap's estimate of bias, so that it lies around the number itself. AP needs
    that: in resamples, where images recur, it is higher than in the images themselves, by up to half the width of an
    interval where many of the categories have few objects. Resamples in which the number is undefined, such as AP where
    no object is drawn, are left out. The same seed gives the same interval.
    Raises ResultsError for no images, a confidence outside (0, 1), a number that is undefined everywhere.
    """
    spread_R = _spread(_resampled(statistic, images, resamples, seed))
    low, high = np.quantile(spread_R, [_tail(confidence), 1 - _tail(confidence)])
    value = _once(statistic, images)
    return max(value + float(low), bounds[0]), min(value + float(high), bounds[1])


def paired_statistic_difference(
    a: Statistic, b: Statistic, images: int, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> PairedDifference:
    """Compare two backbones by any number of the same images in the same order: a - b, both on the same resamples.

    The interval is that of `statistic_interval`. The p-value is two-sided, by shifting the resampled differences to
    mean zero, which is what they would be around if there were no difference (Efron & Tibshirani 1993, section 16.4):
    how often they are then at least as large as the difference found. It is never below 1 / (resamples + 1).
    Raises ResultsError as `statistic_interval` does.
    """

    def difference(weights_RN: NDArray[np.int64]) -> Floats:
        return np.asarray(a(weights_RN) - b(weights_RN))

    spread_R = _spread(_resampled(difference, images, resamples, seed))
    low, high = np.quantile(spread_R, [_tail(confidence), 1 - _tail(confidence)])
    observed = _once(difference, images)
    rounding = 1e-9 * abs(observed)
    extreme = int(np.count_nonzero(np.abs(spread_R) >= abs(observed) - rounding))
    return PairedDifference(
        observed, observed + float(low), observed + float(high), (extreme + 1) / (len(spread_R) + 1)
    )


def _resampled(statistic: Statistic, images: int, resamples: int, seed: int) -> Floats:
    """The statistic of each resample (R,)."""
    return np.concatenate([np.asarray(statistic(weights_RN)) for weights_RN in _image_weights(images, resamples, seed)])


def _once(statistic: Statistic, images: int) -> float:
    """The statistic of the images as they are."""
    return float(statistic(np.ones((1, images), dtype=np.int64))[0])


def _spread(values_R: Floats) -> Floats:
    """The defined values, less their mean."""
    defined_R = values_R[~np.isnan(values_R)]
    if len(defined_R) == 0:
        raise ResultsError("the number is undefined in every resample of the images, so it has no interval")
    return np.asarray(defined_R - defined_R.mean())


def _image_weights(images: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each image is drawn in each resample (R, N), multinomial, in pieces that need little memory."""
    if images < 1 or resamples < 1:
        raise ResultsError(f"expected images and resamples to draw, found {images} images and {resamples} resamples")
    generator = np.random.default_rng(seed)
    rows = max(1, PIECE // images)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = generator.integers(images, size=(count, images)) + images * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images)


def _resampled_means(values_N: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """Means (R,) of N images drawn with replacement."""
    distinct, counts = np.unique(values_N, return_counts=True)
    total = len(values_N)
    if len(distinct) <= FEW_VALUES:
        draws = generator.multinomial(total, counts / total, size=resamples)
        return np.asarray(draws @ distinct / total)
    rows = max(1, PIECE // total)
    pieces = [
        values_N[generator.integers(total, size=(min(rows, resamples - start), total))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(pieces)


def _sign_flipped_means(sizes_N: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """Means (R,) of N differences of the given sizes under random signs."""
    distinct, counts = np.unique(sizes_N, return_counts=True)
    total = len(sizes_N)
    if len(distinct) <= FEW_VALUES:
        positive = generator.binomial(counts, 0.5, size=(resamples, len(distinct)))
        return np.asarray((2 * positive - counts) @ distinct / total)
    rows = max(1, PIECE // total)
    pieces = [
        (2 * generator.integers(2, size=(min(rows, resamples - start), total), dtype=np.int8) - 1) @ sizes_N / total
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(pieces)


def _values(values: ArrayLike, least: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < least:
        raise ResultsError(f"expected a list of at least {least} values, found an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ResultsError(f"expected finite values, found {np.count_nonzero(~np.isfinite(array))} that are not")
    return array


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ResultsError(f"confidence must lie between 0 and 1, found {confidence}")
    return (1 - confidence) / 2
