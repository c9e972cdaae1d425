import math
from typing import Any

import numpy as np
import pytest
import scipy.stats  # type: ignore[import-untyped]

from results import (
    PairedDifference,
    ResultsError,
    Statistic,
    bootstrap_interval,
    paired_difference,
    paired_statistic_difference,
    proportion_interval,
    seed_difference,
    seed_interval,
    statistic_interval,
    weighted_proportion_interval,
)


def answers(correct: int, total: int) -> np.ndarray:
    return np.repeat([100.0, 0.0], [correct, total - correct])


def test_the_bootstrap_of_an_accuracy_is_the_binomial_distribution() -> None:
    """Resampling 0/1 values draws from Binomial(N, p), whose quantiles scipy knows."""
    low, high = bootstrap_interval(answers(41_800, 50_000), resamples=20_000)
    truth = scipy.stats.binom(50_000, 0.836)
    assert low == pytest.approx(truth.ppf(0.025) / 500, abs=0.01)
    assert high == pytest.approx(truth.ppf(0.975) / 500, abs=0.01)


@pytest.mark.parametrize("distinct", [40, 4_000])
def test_the_bootstrap_agrees_with_scipys(distinct: int) -> None:
    """Few distinct values and many take different routes."""
    generator = np.random.default_rng(0)
    values = generator.choice(generator.exponential(size=distinct), size=1_000)
    ours = bootstrap_interval(values, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1), batch=500
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours[0] == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours[1] == pytest.approx(theirs.high, abs=0.03 * width)


def test_the_bootstrap_repeats_for_a_seed_and_differs_between_seeds() -> None:
    values = np.random.default_rng(0).normal(size=300)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_more_confidence_is_wider() -> None:
    values = answers(30, 100)
    inner, outer = bootstrap_interval(values, confidence=0.8), bootstrap_interval(values, confidence=0.99)
    assert outer[0] < inner[0] < 30 < inner[1] < outer[1]


def test_the_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    trials = [bootstrap_interval(generator.random(400) < 0.7, resamples=500) for _ in range(600)]
    covered = sum(low <= 0.7 <= high for low, high in trials)
    assert 0.92 <= covered / 600 <= 0.97


def test_equal_values_have_an_interval_without_width() -> None:
    assert bootstrap_interval([5.0, 5.0, 5.0]) == (5.0, 5.0)


@pytest.mark.parametrize(("successes", "total"), [(0, 40), (40, 40), (1, 1), (13, 40), (41_800, 50_000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilsons_interval_is_scipys(successes: int, total: int, confidence: float) -> None:
    theirs = scipy.stats.binomtest(successes, total).proportion_ci(confidence, method="wilson")
    assert proportion_interval(successes, total, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_a_perfect_score_is_not_certain() -> None:
    low, high = proportion_interval(40, 40)
    assert high == 1
    assert low == pytest.approx(1 / (1 + 1.959964**2 / 40), abs=1e-6)


def test_nothing_lies_outside_zero_and_one() -> None:
    for total in range(1, 200):
        assert proportion_interval(0, total)[0] == 0
        assert proportion_interval(total, total)[1] == 1


@pytest.mark.parametrize(("successes", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts_are_refused(successes: int, total: int) -> None:
    with pytest.raises(ResultsError, match="successes"):
        proportion_interval(successes, total)


def test_the_interval_over_seeds_is_students() -> None:
    seeds = [83.63, 83.66, 83.52, 83.46]
    theirs = scipy.stats.t(3, np.mean(seeds), scipy.stats.sem(seeds)).interval(0.95)
    assert seed_interval(seeds) == pytest.approx(theirs, abs=1e-9)


def test_two_seeds_are_enough_and_wide() -> None:
    low, high = seed_interval([10.0, 12.0])
    assert (low + high) / 2 == pytest.approx(11)
    assert high - 11 == pytest.approx(12.7062, abs=1e-3)


def test_one_seed_has_no_interval() -> None:
    with pytest.raises(ResultsError, match="at least 2"):
        seed_interval([83.6])


def test_the_difference_over_seeds_is_students_paired_test() -> None:
    a, b = np.array([83.6, 83.7, 83.5, 83.4]), np.array([83.0, 83.4, 83.3, 83.3])
    found, expected = seed_difference(a - b), scipy.stats.ttest_rel(a, b)
    low, high = expected.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.mean, found.p_value) == (pytest.approx(0.3), pytest.approx(expected.pvalue))
    assert seed_difference(b - a).p_value == pytest.approx(found.p_value)


def test_equal_differences_over_seeds_are_certain_and_none_are_none() -> None:
    assert seed_difference([0.5, 0.5]) == PairedDifference(0.5, 0.5, 0.5, 0.0)
    assert seed_difference([0.0, 0.0, 0.0]) == PairedDifference(0.0, 0.0, 0.0, 1.0)
    with pytest.raises(ResultsError, match="at least 2"):
        seed_difference([0.5])


def test_a_paired_difference_is_mcnemars() -> None:
    """Of the images on which exactly one is right, 60 favour a and 35 favour b."""
    a = np.repeat([1, 1, 0, 0], [700, 60, 35, 205])
    b = np.repeat([1, 0, 1, 0], [700, 60, 35, 205])
    result = paired_difference(a, b, resamples=50_000)
    assert result.mean == pytest.approx(0.025)
    exact = scipy.stats.binomtest(60, 95).pvalue
    assert result.p_value == pytest.approx(exact, abs=5 * math.sqrt(exact / 50_000))
    assert (result.low, result.high) == bootstrap_interval(a - b, resamples=50_000)
    spread = 1.96 * np.std(a - b) / math.sqrt(1000)
    assert result.low == pytest.approx(0.025 - spread, abs=0.001)
    assert result.high == pytest.approx(0.025 + spread, abs=0.001)


def test_a_paired_difference_of_losses_is_scipys_permutation_test() -> None:
    generator = np.random.default_rng(3)
    a = generator.normal(size=200)
    b = a + generator.normal(0.12, size=200)
    ours = paired_difference(a, b, resamples=20_000)
    theirs = scipy.stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(4),
    )
    assert 0.01 < theirs.pvalue < 0.9
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=5 * math.sqrt(theirs.pvalue / 10_000))


def test_rounding_does_not_lose_the_extreme_case() -> None:
    """Of the eight sign patterns, all plus and all minus are as extreme as what was seen, up to the order of adding."""
    result = paired_difference([0.7, 0.8, 0.6], [0.0, 0.0, 0.0])
    assert result.p_value == pytest.approx(2 / 8, abs=0.02)


def test_pairing_sees_what_separate_intervals_hide() -> None:
    generator = np.random.default_rng(5)
    difficulty = generator.normal(size=500)
    a, b = difficulty + 0.1, difficulty + generator.normal(0, 0.1, size=500)
    assert bootstrap_interval(a)[0] < bootstrap_interval(b)[1]
    assert paired_difference(a, b).low > 0
    assert paired_difference(a, b).p_value == pytest.approx(1 / 10_001)


def test_the_p_value_is_uniform_where_there_is_no_difference() -> None:
    generator = np.random.default_rng(11)
    p_values = [
        paired_difference(generator.random(300) < 0.5, generator.random(300) < 0.5, resamples=400, seed=trial).p_value
        for trial in range(500)
    ]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08
    assert 0.45 <= np.mean(p_values) <= 0.6


def test_a_backbone_does_not_differ_from_itself() -> None:
    result = paired_difference([1, 0, 1], [1, 0, 1])
    assert (result.mean, result.low, result.high, result.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, float("nan")], [float("inf")]])
def test_values_that_have_no_mean_are_refused(values: list[float]) -> None:
    with pytest.raises(ResultsError, match="expected"):
        bootstrap_interval(values)


def test_different_images_are_not_compared() -> None:
    with pytest.raises(ResultsError, match="same images: found 3 and 2"):
        paired_difference([1, 0, 1], [1, 0])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_fraction(confidence: float) -> None:
    with pytest.raises(ResultsError, match="confidence"):
        bootstrap_interval([1.0, 2.0], confidence)


def mean_of(values_N: np.ndarray) -> Statistic:
    """The mean as a number that weighs images."""
    return lambda weights_RN: np.asarray(weights_RN @ values_N / weights_RN.sum(axis=1))


def ratio_of(values_N: np.ndarray, sizes_N: np.ndarray) -> Statistic:
    return lambda weights_RN: np.asarray((weights_RN @ values_N) / (weights_RN @ sizes_N))


def test_the_interval_of_a_ratio_is_scipys_less_its_bias() -> None:
    """A ratio of sums, like AP, is no mean over images."""
    generator = np.random.default_rng(0)
    sizes = generator.exponential(size=40) + 0.1
    values = sizes**2 * generator.random(40)
    ours = statistic_interval(ratio_of(values, sizes), 40, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values, sizes),
        lambda v, s, axis: v.sum(axis=axis) / s.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    bias = theirs.bootstrap_distribution.mean() - values.sum() / sizes.sum()
    low, high = theirs.confidence_interval
    assert ours == pytest.approx((low - bias, high - bias), abs=0.03 * (high - low))


def test_the_interval_covers_a_number_that_grows_under_resampling() -> None:
    """The squared length of a mean is 1 / N too large per dimension, once more in every resample: 1.4 deviations here.

    What has to be covered is the number's expectation for as many images. Plain percentiles manage less than 0.75.
    """
    generator = np.random.default_rng(11)
    images, dimensions = 100, 200
    expected = dimensions * (0.25 + 1 / images)
    covered = 0
    for trial in range(300):
        features_NK = generator.normal(0.5, 1, (images, dimensions)).astype(np.float32)

        def squared_length(weights_RN: np.ndarray, features_NK: np.ndarray = features_NK) -> np.ndarray:
            means_RK = weights_RN.astype(np.float32) @ features_NK / images
            return np.asarray((means_RK**2).sum(axis=1))

        low, high = statistic_interval(squared_length, images, resamples=200, seed=trial)
        covered += low <= expected <= high
    assert 0.9 <= covered / 300 <= 0.98


def test_each_resample_draws_as_many_images_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, too, of which the last is smaller."""
    monkeypatch.setattr("results.statistics.PIECE", 70)
    seen: list[np.ndarray] = []

    def first_image(weights_RN: np.ndarray) -> np.ndarray:
        seen.append(weights_RN)
        return weights_RN[:, 0].astype(float)

    statistic_interval(first_image, 10, resamples=2_000)
    assert (seen.pop() == 1).all()  # the images as they are
    weights = np.concatenate(seen)
    assert {len(piece) for piece in seen} == {7, 2_000 % 7}
    assert weights.shape == (2_000, 10)
    assert (weights.sum(axis=1) == 10).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.1)
    assert weights.var(axis=0) == pytest.approx(0.9, abs=0.15)  # multinomial: N p (1 - p)


def test_the_interval_of_a_number_repeats_for_a_seed_and_widens_with_confidence() -> None:
    statistic = mean_of(np.random.default_rng(0).normal(size=100))
    inner = statistic_interval(statistic, 100, confidence=0.8)
    assert inner == statistic_interval(statistic, 100, confidence=0.8)
    assert inner != statistic_interval(statistic, 100, confidence=0.8, seed=1)
    outer = statistic_interval(statistic, 100, confidence=0.99)
    assert outer[0] < inner[0] < inner[1] < outer[1]


def test_resamples_without_the_number_are_left_out() -> None:
    """Two images, of which only the first has the number: in a quarter of the resamples it is not drawn.

    It is 10 when drawn once and 20 when drawn twice, 13.3 on average, a third of which is the bootstrap's bias.
    """

    def number(weights_RN: np.ndarray) -> np.ndarray:
        return np.array([np.nan, 10.0, 20.0])[weights_RN[:, 0]]

    low, high = statistic_interval(number, 2, resamples=4_000)
    assert (low, high) == pytest.approx((10 - 10 / 3, 20 - 10 / 3), abs=0.4)
    assert statistic_interval(number, 2, resamples=4_000, bounds=(8, 12)) == (8, 12)
    assert statistic_interval(number, 2, resamples=4_000, bounds=(0, 100)) == (low, high)
    with pytest.raises(ResultsError, match="undefined"):
        statistic_interval(lambda weights_RN: np.full(len(weights_RN), np.nan), 2)


def test_the_paired_difference_of_means_agrees_with_the_test_for_means() -> None:
    generator = np.random.default_rng(3)
    b = generator.normal(size=500)
    a = b + generator.normal(0.035, 0.5, size=500)
    ours = paired_statistic_difference(mean_of(a), mean_of(b), 500, resamples=20_000)
    theirs = paired_difference(a, b, resamples=20_000)
    assert ours.mean == pytest.approx((a - b).mean(), abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * (theirs.high - theirs.low))
    assert 0.01 < theirs.p_value < 0.2
    assert ours.p_value == pytest.approx(theirs.p_value, rel=0.25)


def test_the_p_value_of_a_number_says_what_the_interval_says_and_has_a_floor() -> None:
    values = np.random.default_rng(0).normal(size=200)
    same = paired_statistic_difference(mean_of(values), mean_of(values), 200)
    assert (same.mean, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    far = paired_statistic_difference(mean_of(values + 5), mean_of(values), 200, resamples=99)
    assert far.p_value == 1 / 100
    for shift in (0.05, 0.4):
        a, b = mean_of(values), mean_of(values[::-1] - shift)
        near = paired_statistic_difference(a, b, 200)
        assert near.p_value == paired_statistic_difference(b, a, 200).p_value
        assert (near.p_value < 0.05) == (near.low > 0) == (shift > 0.1)


def test_a_difference_that_is_not_there_is_seldom_found() -> None:
    generator = np.random.default_rng(5)
    found = 0
    for trial in range(300):
        a, b = generator.normal(size=(2, 100))
        found += paired_statistic_difference(mean_of(a), mean_of(b), 100, resamples=199, seed=trial).p_value <= 0.05
    assert 3 <= found <= 28


@pytest.mark.parametrize("arguments", [{"images": 0}, {"images": 3, "resamples": 0}, {"images": 3, "confidence": 1}])
def test_impossible_resamplings_are_refused(arguments: dict[str, Any]) -> None:
    statistic = mean_of(np.ones(arguments["images"]))
    with pytest.raises(ResultsError):
        statistic_interval(statistic, **arguments)
    with pytest.raises(ResultsError):
        paired_statistic_difference(statistic, statistic, **arguments)


@pytest.mark.parametrize("right", [0, 1, 150, 300])
def test_a_proportion_among_equals_has_wilsons_interval_whatever_the_weight(right: int) -> None:
    assert weighted_proportion_interval(answers(right, 300) / 100, np.full(300, 0.2)) == pytest.approx(
        proportion_interval(right, 300), abs=1e-9
    )


def test_an_image_of_more_weight_widens_the_interval() -> None:
    right = answers(150, 300) / 100
    low, high = weighted_proportion_interval(right, np.tile([1.0, 9.0], 150))
    assert (low, high) == pytest.approx(proportion_interval(91, 183), abs=0.003)  # 300² · 5² / (150 · 1 + 150 · 81)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, np.nan]])
def test_weights_have_to_be_one_an_image_and_above_0(weights: list[float]) -> None:
    with pytest.raises(ResultsError, match="expected"):
        weighted_proportion_interval([1.0, 0.0], weights)
