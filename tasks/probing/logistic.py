"""Multinomial logistic regression on features, as scikit-learn's.   N images, B of a block, C channels, K classes

Minimised is the mean cross entropy plus |W|² / (2 N strength), with biases that cost nothing: scikit-learn's problem
with C = `strength`; of two classes, for which it has one column of weights where there are two here, with twice that.
DINOv2 (facebookresearch/dinov2, dinov2/eval/log_regression.py) solves it for 45 strengths on features as they come from
the backbone, and keeps the best.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

STRENGTHS = tuple(10.0 ** (-6 + 11 * step / 44) for step in range(45))
"""DINOv2's C: ten to the power of 45 numbers from -6 to 5 in equal steps."""

BLOCK = 16_384
"""Images whose logits are in memory at once."""

ITERATIONS, TOLERANCE = 1000, 1e-7
"""At most, for each strength; the largest derivative at which it is done."""

_HISTORY = 10


@dataclass(frozen=True)
class Regression:
    """A solution for a strength: weight (K, C) and bias (K,) in double precision, and whether it `converged`."""

    strength: float
    weight: Tensor
    bias: Tensor
    converged: bool

    def logits(self, features_NC: Tensor) -> Tensor:
        """(N, K) in double precision."""
        return torch.addmm(self.bias, features_NC.double(), self.weight.T)


class _Problem:
    """The function that is minimised, whose data are looked at block by block.

    Its variables are the parameters divided by `scale_D`, which makes the second derivatives at the beginning about 1:
    weights under a heavy penalty and biases without one otherwise differ by a million times.
    """

    def __init__(self, features_NC: Tensor, targets_N: Tensor, classes: int, strength: float) -> None:
        self.features_NC, self.targets_N = features_NC, targets_N
        self.penalty = 1 / (strength * len(targets_N))
        blocks = features_NC.split(BLOCK)
        square = float(sum(block.double().square().sum() for block in blocks)) / features_NC.numel()
        curvature_D = torch.full((features_NC.shape[1] + 1,), self.penalty + square / classes, dtype=torch.float64)
        curvature_D[-1] = 1 / classes
        self.scale_D = curvature_D.rsqrt().to(features_NC.device)

    def __call__(self, parameters_KD: Tensor) -> tuple[Tensor, Tensor]:
        """Value and derivative of weights and, in the last column, biases: (K, C + 1)."""
        weight_KC, bias_K = parameters_KD[:, :-1], parameters_KD[:, -1]
        value = self.penalty / 2 * weight_KC.square().sum()
        gradient_KD = torch.zeros_like(parameters_KD)
        gradient_KD[:, :-1] = self.penalty * weight_KC
        count = len(self.targets_N)
        for start in range(0, count, BLOCK):
            features_BC = self.features_NC[start : start + BLOCK].double()
            targets_B = self.targets_N[start : start + BLOCK]
            log_BK = F.log_softmax(torch.addmm(bias_K, features_BC, weight_KC.T), 1)
            value = value + F.nll_loss(log_BK, targets_B, reduction="sum") / count
            errors_BK = log_BK.exp()
            errors_BK[torch.arange(len(targets_B), device=targets_B.device), targets_B] -= 1
            gradient_KD[:, :-1] += errors_BK.T @ features_BC / count
            gradient_KD[:, -1] += errors_BK.sum(0) / count
        return value, gradient_KD


def solve(
    features_NC: Tensor, targets_N: Tensor, classes: int, strengths: Sequence[float] = STRENGTHS
) -> Iterator[Regression]:
    """The solution for each strength, in this order, each begun at the one before."""
    parameters_KD = torch.zeros((classes, features_NC.shape[1] + 1), dtype=torch.float64, device=features_NC.device)
    for strength in strengths:
        parameters_KD, converged = _minimise(_Problem(features_NC, targets_N, classes, strength), parameters_KD)
        yield Regression(strength, parameters_KD[:, :-1], parameters_KD[:, -1], converged)


def _minimise(problem: _Problem, parameters_KD: Tensor) -> tuple[Tensor, bool]:
    """By L-BFGS; the solution, and whether the derivative has become small enough."""
    variables_KD = (parameters_KD / problem.scale_D).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [variables_KD],
        max_iter=ITERATIONS,
        max_eval=2 * ITERATIONS,
        tolerance_grad=TOLERANCE,
        tolerance_change=0,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        with torch.no_grad():
            value, gradient_KD = problem(variables_KD * problem.scale_D)
            variables_KD.grad = gradient_KD * problem.scale_D
        return float(value)

    optimizer.step(closure)
    closure()
    assert variables_KD.grad is not None
    return variables_KD.detach() * problem.scale_D, bool(variables_KD.grad.abs().max() <= TOLERANCE)
