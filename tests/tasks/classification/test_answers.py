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
    assert answers.metrics == pytest.approx(expected(answers))


def test_weights_say_how_often_an_image_counts() -> None:
    answers = draw()
    times = np.random.default_rng(1).integers(0, 3, (2, 300))
    for row, weights in enumerate(times):
        assert answers.weighted["ECE"](times)[row] == pytest.approx(calibration_error(repeated(answers, weights)))


def test_a_confidence_at_the_end_of_a_bin_belongs_to_it() -> None:
    """Two answers of one bin, right and wrong, make up for each other; of two bins they do not."""
    right, wrong = 0.55, 0.6  # 9 / 15 is the upper end of the ninth
    answers = Answers(np.array([0, 0]), np.array([0, 1]), np.array([right, wrong]), np.array([5, 5]))
    assert answers.weighted["ECE"](np.ones((1, 2), dtype=int))[0] == pytest.approx(100 * abs(0.5 - (right + wrong) / 2))


@pytest.mark.parametrize("class_images", [np.full(6, 1300), np.full(6, 50), np.full(6, 5)])
def test_shots_are_told_apart_only_where_classes_differ_in_them(class_images: np.ndarray) -> None:
    assert list(draw(class_images=class_images).metrics) == ["mean_class_accuracy", "ECE"]


def test_a_group_without_images_has_no_number() -> None:
    assert list(draw(class_images=np.array([500, 400, 300, 200, 3, 2])).metrics) == [
        *("mean_class_accuracy", "many_shot", "few_shot", "ECE")
    ]


def test_a_class_counts_as_much_as_another_however_many_images_it_has() -> None:
    labels = np.array([0, 1, 1, 1, 2])
    share = Answers(labels, np.array([0, 1, 0, 0, 2]), np.ones(5), np.array([500, 5, 5, 5, 500])).shares
    assert share["mean_class_accuracy"].weights == pytest.approx([5 / 3, 5 / 9, 5 / 9, 5 / 9, 5 / 3])
    assert {name: each.images.tolist() for name, each in share.items()} == {
        **{"mean_class_accuracy": [0, 1, 2, 3, 4], "many_shot": [0, 4], "few_shot": [1, 2, 3]}
    }
    assert [share[name].value for name in ("many_shot", "few_shot")] == pytest.approx([100, 100 / 3])


def test_the_interval_of_a_calibration_error_holds_it() -> None:
    answers = draw()
    low, high = statistic_interval(answers.weighted["ECE"], 300, bounds=(0, 100))
    assert 0 <= low < answers.metrics["ECE"] < high <= 100
