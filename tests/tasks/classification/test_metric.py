"""Top-1, top-5, loss and per-class accuracy against an independent computation; images missing and unreadable."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backbones.errors import InputError
from tasks.classification.metric import ClassificationMetric


def results(labels: np.ndarray, logits: np.ndarray, numbers: range, **about: Any) -> tuple[dict[str, Any], Any]:
    """The loader's fields and what the model says, for the images `numbers`."""
    chosen = torch.tensor(list(numbers))
    label, logit = torch.tensor(labels)[chosen], torch.tensor(logits)[chosen]
    hit = logit.topk(5, 1).indices == label[:, None]
    fields = {"numbers": chosen, "readable": torch.ones(len(chosen), dtype=torch.bool), "corrupt": {}} | about
    loss = F.cross_entropy(logit, label, reduction="none")
    said = {"labels": label, "predictions": logit.argmax(1), "top1": hit[:, 0], "top5": hit.any(1), "loss": loss}
    return fields, [said | {"confidences": logit.softmax(1).amax(1)}]


def metric_of(classes: int, *, allow_unreadable: bool = False) -> ClassificationMetric:
    return ClassificationMetric(classes, np.full(classes, 50), allow_unreadable=allow_unreadable)


def test_metrics_equal_an_independent_computation() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 9, 50), rng.normal(size=(50, 10))
    logits[np.arange(50), labels] += 1.0
    metric = metric_of(10)
    for numbers in (range(30, 50), range(10), range(10, 30), range(45, 50)):  # any order, some of them twice
        metric.process(*results(labels, logits, numbers))
    found = metric.evaluate(50)

    order = np.argsort(-logits, axis=1)
    right = order[:, 0] == labels
    assert found["top1"] == pytest.approx(100 * right.mean())
    assert found["top5"] == pytest.approx(100 * np.mean([label in row[:5] for label, row in zip(labels, order)]))  # noqa: B905
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found["loss"] == pytest.approx(-np.log(probabilities[np.arange(50), labels]).mean())
    assert metric.numbers.tolist() == list(range(50))
    assert metric.answers["predictions"].tolist() == order[:, 0].tolist()
    assert set(metric.per_image["top1"].tolist()) == {0.0, 100.0}
    names = [f"class {number}" for number in range(10)]
    expected = {names[c]: 100 * right[labels == c].mean() for c in range(9)}
    assert metric.per_class(names) == pytest.approx(expected)
    assert "class 9" not in metric.per_class(names)


def test_a_missing_image_is_noticed() -> None:
    metric = metric_of(6)
    metric.process(*results(np.zeros(8, dtype=int), np.ones((8, 6)), range(7)))
    with pytest.raises(RuntimeError, match="7 results for 8 evaluation images"):
        metric.evaluate(8)


def test_unreadable_images_are_left_out_where_allowed() -> None:
    labels, logits = np.zeros(4, dtype=int), np.eye(6)[[0, 1, 0, 0]]
    readable = torch.tensor([True, True, False, True])
    fields, said = results(labels, logits, range(4), readable=readable, corrupt={"b.jpg": "truncated"})
    strict, tolerant = (metric_of(6, allow_unreadable=allowed) for allowed in (False, True))
    with pytest.raises(InputError, match=r"b\.jpg: unreadable evaluation image: truncated.*allow_unreadable=true"):
        strict.process(fields, said)
    tolerant.process(fields, said)
    assert tolerant.evaluate(4)["top1"] == pytest.approx(200 / 3)
    assert tolerant.numbers.tolist() == [0, 1, 3]
    assert tolerant.unreadable == {"b.jpg": "truncated"}


def test_an_image_that_is_unreadable_once_counts_in_the_next_evaluation() -> None:
    """It was held against the size of the set for ever, and ended runs with `evaluation.every_epochs`."""
    labels, logits = np.zeros(4, dtype=int), np.eye(6)[[0, 1, 0, 0]]
    readable = torch.tensor([True, True, False, True])
    metric = metric_of(6, allow_unreadable=True)
    metric.process(*results(labels, logits, range(4), readable=readable, corrupt={"b.jpg": "Stale file handle"}))
    metric.evaluate(4)
    metric.process(*results(labels, logits, range(4)))
    assert metric.evaluate(4)["top1"] == 75
    assert (metric.numbers.tolist(), metric.unreadable) == ([0, 1, 2, 3], {})


@pytest.mark.parametrize(("classes", "has_top5"), [(4, False), (5, True)])
def test_top_5_is_measured_of_five_classes_or_more(classes: int, has_top5: bool) -> None:
    metric = metric_of(classes)
    answers = [(number, number % classes, 0, 0.9, number % classes == 0, True, 0.5) for number in range(20)]
    assert ("top5" in metric.compute_metrics(answers)) == has_top5
    assert ("top5" in metric.per_image) == has_top5
