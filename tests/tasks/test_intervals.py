"""How sure a number is, as the record says it."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from tasks.classification.answers import Answers
from tasks.intervals import image_interval, metrics_with_intervals
from tasks.outcome import TaskOutcome


@pytest.mark.parametrize(("right", "images"), [(4, 4), (0, 7), (1931, 2000)])
def test_an_accuracy_has_wilsons_interval_also_where_all_answers_agree(right: int, images: int) -> None:
    values = np.repeat([100.0, 0.0], [right, images - right])
    expected = binomtest(right, images).proportion_ci(method="wilson")
    assert image_interval(values) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-6)


def test_other_values_have_the_bootstraps_interval() -> None:
    losses = np.random.default_rng(0).gamma(2.0, 1.0, 4000)
    half = 1.96 * losses.std() / len(losses) ** 0.5
    assert image_interval(losses) == pytest.approx((losses.mean() - half, losses.mean() + half), rel=0.01)


def intervals(answers: Answers) -> dict[str, tuple[float, float]]:
    """Those of a classification's record, in fractions."""
    images = len(answers.labels)
    named: dict[str, Any] = {"image_names": [str(number) for number in range(images)], "per_class": {}, "split": "val"}
    outcome = TaskOutcome(
        answers.metrics, shares=answers.shares, **named, training=Any, load_report=None, network=Any, classes=[]
    )  # type: ignore[arg-type]
    return {
        each.name: (each.ci_low / 100, each.ci_high / 100)
        for each in metrics_with_intervals(outcome)
        if each.ci_low is not None and each.ci_high is not None
    }


def test_by_class_with_as_many_images_of_each_the_interval_is_that_of_top1() -> None:
    labels = np.repeat(np.arange(300), 1)
    right = np.random.default_rng(0).random(300) < 0.8
    found = intervals(Answers(labels, np.where(right, labels, -1), np.ones(300), np.full(300, 50)))
    expected = binomtest(int(right.sum()), 300).proportion_ci(method="wilson")
    assert found["mean_class_accuracy"] == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("answer", [0, 1])
def test_of_three_images_all_right_or_all_wrong_nothing_is_certain(answer: int) -> None:
    labels = np.append(np.zeros(50), [1, 2, 3])
    said = np.append(np.zeros(50), [1, 2, 3] if answer else [0, 0, 0])
    found = intervals(Answers(labels, said, np.ones(53), np.append(np.full(50, 500), np.full(3, 5))))
    expected = binomtest(3 * answer, 3).proportion_ci(method="wilson")
    assert found["few_shot"] == pytest.approx((expected.low, expected.high))
    assert found["mean_class_accuracy"][1] - found["mean_class_accuracy"][0] > 0.3  # three of four classes have one


def test_by_class_with_unlike_numbers_of_images_the_interval_covers() -> None:
    """95 of 100 times it should hold what the classes would have of ever more images; rare ones are harder here."""
    sizes, odds = np.repeat([1, 4, 20], 40), np.repeat([0.5, 0.7, 0.95], 40)
    labels = np.repeat(np.arange(120), sizes)
    covered = 0
    for seed in range(200):
        right = np.random.default_rng(seed).random(len(labels)) < odds[labels]
        found = intervals(Answers(labels, np.where(right, labels, -1), np.ones(len(labels)), np.full(len(labels), 50)))
        low, high = found["mean_class_accuracy"]
        covered += low <= odds.mean() <= high
    assert covered >= 186
