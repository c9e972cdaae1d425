"""Accuracy by class and calibration error against the formulas, written out image by image."""

import numpy as np
import pytest

from results import statistic_interval
from tasks.classification.answers import Answers

CLASS_IMAGES = np.array([1000, 101, 100, 20, 19, 0])
MANY, MEDIUM, FEW = (0, 1), (2, 3), (4, 5)


def draw(images: int = 300, class_images: np.ndarray = CLASS_IMAGES) -> Answers:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, len(class_images), images)
    wrong = generator.integers(0, len(class_images), images)
    predictions = np.where(generator.random(images) < 0.6, labels, wrong)
    return Answers(labels, predictions, generator.uniform(0.2, 1, images), class_images[labels])


def repeated(answers: Answers, times: np.ndarray) -> Answers:
    return Answers(*(np.repeat(array, times) for array in vars(answers).values()))


def class_accuracy(answers: Answers, classes: tuple[int, ...]) -> float:
    shares = []
    for number in classes:
        said = [said for label, said in zip(answers.labels, answers.predictions, strict=True) if label == number]
        if said:
            shares.append(sum(each == number for each in said) / len(said))
    return 100 * sum(shares) / len(shares)


def calibration_error(answers: Answers) -> float:
    """Guo et al. 2017, equations 2 and 3 in equation 5: the m-th of M = 15 bins is ((m - 1) / M, m / M]."""
    total = 0.0
    for m in range(1, 16):
        inside = [i for i, p in enumerate(answers.confidences) if (m - 1) / 15 < p <= m / 15]
        if inside:
            accuracy = sum(answers.labels[i] == answers.predictions[i] for i in inside) / len(inside)
            confidence = sum(answers.confidences[i] for i in inside) / len(inside)
            total += len(inside) / len(answers.labels) * abs(accuracy - confidence)
    return 100 * total


def expected(answers: Answers) -> dict[str, float]:
    shots = {"many_shot": MANY, "medium_shot": MEDIUM, "few_shot": FEW, "mean_class_accuracy": MANY + MEDIUM + FEW}
    found = {name: class_accuracy(answers, classes) for name, classes in shots.items()}
    return found | {"ECE": calibration_error(answers)}


def test_metrics_are_those_of_the_formulas() -> None:
    answers = draw()
    ones = np.ones((1, 300), dtype=int)
    assert {name: metric(ones)[0] for name, metric in answers.weighted.items()} == pytest.approx(expected(answers))


def test_weights_say_how_often_an_image_counts() -> None:
    answers = draw()
    times = np.random.default_rng(1).integers(0, 3, (2, 300))
    for row, weights in enumerate(times):
        alone = expected(repeated(answers, weights))
        found = {name: metric(times)[row] for name, metric in answers.weighted.items()}
        assert found == pytest.approx(alone)


def test_a_confidence_at_the_end_of_a_bin_belongs_to_it() -> None:
    """Two answers of one bin, right and wrong, make up for each other; of two bins they do not."""
    right, wrong = 0.55, 0.6  # 9 / 15 is the upper end of the ninth
    answers = Answers(np.array([0, 0]), np.array([0, 1]), np.array([right, wrong]), np.array([5, 5]))
    assert answers.weighted["ECE"](np.ones((1, 2), dtype=int))[0] == pytest.approx(100 * abs(0.5 - (right + wrong) / 2))


@pytest.mark.parametrize("class_images", [np.full(6, 1300), np.full(6, 50), np.full(6, 5)])
def test_shots_are_told_apart_only_where_classes_differ_in_them(class_images: np.ndarray) -> None:
    assert list(draw(class_images=class_images).weighted) == ["mean_class_accuracy", "ECE"]


def test_a_group_without_images_has_no_number() -> None:
    assert list(draw(class_images=np.array([500, 400, 300, 200, 3, 2])).weighted) == [
        *("mean_class_accuracy", "many_shot", "few_shot", "ECE")
    ]


def test_nothing_drawn_of_a_group_is_not_a_number() -> None:
    answers = draw()
    none_of_few = (answers.train_images >= 20).astype(int)[None]
    found = {name: metric(none_of_few)[0] for name, metric in answers.weighted.items()}
    assert {name for name, value in found.items() if np.isnan(value)} == {"few_shot"}


def test_intervals_hold_the_number() -> None:
    answers = draw()
    for name, metric in answers.weighted.items():
        low, high = statistic_interval(metric, 300, bounds=(0, 100))
        assert 0 <= low < metric(np.ones((1, 300), dtype=int))[0] < high <= 100, name
