"""LARS without weight decay, written out from what facebookresearch/mae's util/lars.py computes."""

from collections.abc import Sequence

import torch
from torch import Tensor


class RestatedLars:
    """Each update is the sum of gradients, older ones weaker; those of matrices are scaled to the matrix's norm."""

    def __init__(self, weights: Sequence[Tensor], momentum: float = 0.9, trust_coefficient: float = 0.001) -> None:
        self.weights, self.momentum, self.trust = weights, momentum, trust_coefficient
        self.updates = [torch.zeros_like(each) for each in weights]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the weights by their gradients."""
        for weight, update in zip(self.weights, self.updates, strict=True):
            assert weight.grad is not None
            factor = 1.0
            if weight.ndim >= 2:
                norm, of_gradient = weight.norm().item(), weight.grad.norm().item()
                factor = self.trust * norm / of_gradient if norm and of_gradient else 1.0
            update.copy_(self.momentum * update + factor * weight.grad)
            weight.sub_(rate * update)
