"""Logistic regression against scikit-learn's."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from tasks.probing import logistic
from tasks.probing.logistic import STRENGTHS, solve

CLASSES = 4


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn((240, 12), generator=rng))
    knowledge = torch.randn((12, CLASSES), generator=rng)
    return features, (features @ knowledge + 0.3 * torch.randn((240, CLASSES), generator=rng)).argmax(1)


def test_it_is_scikit_learns(data: tuple[Tensor, Tensor]) -> None:
    features, targets = data
    for found in solve(features, targets, CLASSES, [1e-5, 1e-2, 1.0, 30.0]):
        peer = LogisticRegression(C=found.strength, tol=1e-9, max_iter=10_000, solver="newton-cg")
        peer.fit(features.double().numpy(), targets.numpy())
        assert found.converged
        torch.testing.assert_close(found.weight, torch.from_numpy(peer.coef_), atol=3e-4, rtol=1e-4)
        expected = torch.from_numpy(peer.predict_proba(features.double().numpy()))
        torch.testing.assert_close(found.logits(features).softmax(1), expected, atol=1e-5, rtol=0)


def test_of_two_classes_it_is_scikit_learns_with_twice_the_strength(data: tuple[Tensor, Tensor]) -> None:
    features, targets = data[0], data[1].clamp(max=1)
    for found in solve(features, targets, 2, [1e-2, 1.0, 30.0]):
        peer = LogisticRegression(C=2 * found.strength, tol=1e-9, max_iter=10_000, solver="newton-cg")
        expected = peer.fit(features.double().numpy(), targets.numpy()).predict_proba(features.double().numpy())
        torch.testing.assert_close(found.logits(features).softmax(1), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_where_it_begins_and_its_blocks_change_nothing(
    data: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, targets = data
    *_, warm = solve(features, targets, CLASSES, [0.01, 0.1, 1.0])
    monkeypatch.setattr(logistic, "BLOCK", 50)
    (cold,) = solve(features, targets, CLASSES, [1.0])
    torch.testing.assert_close(cold.weight, warm.weight, atol=1e-4, rtol=1e-4)


def test_what_does_not_converge_says_so(data: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "ITERATIONS", 2)
    assert [found.converged for found in solve(*data, CLASSES, [100.0])] == [False]


def test_strengths_are_dinov2s() -> None:
    assert len(STRENGTHS) == 45
    assert STRENGTHS[0] == pytest.approx(1e-6) and STRENGTHS[-1] == pytest.approx(1e5)
    assert STRENGTHS[24] == pytest.approx(1.0)
