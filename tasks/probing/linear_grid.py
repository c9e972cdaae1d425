"""Many linear classifiers on the same features, trained at once.   N images, B a batch, C channels, K classes, L rates

DINOv2 (arXiv 2304.07193, B.3) trains one linear layer for each learning rate and each way of taking features, and keeps
the best. Layers on the same features that differ by their rate alone are one product with all their weights.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
"""For a batch of 256 images, in proportion for others (facebookresearch/dinov2, dinov2/eval/linear.py)."""

MOMENTUM, DEVIATION = 0.9, 0.01
"""Of stochastic gradient descent without weight decay; standard deviation of weights before training, biases are 0."""

PROGRESS = Callable[[int, int], None]
"""Told after each iteration how many of how many are done."""


class Rows(Protocol):
    """Features (N, C), of which those of some images are taken at a time: a tensor, or `SideBySide`."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, C)."""

    def __getitem__(self, numbers_B: Tensor) -> Tensor:
        """Those of the images of these numbers, (B, C)."""


@dataclass(frozen=True)
class SideBySide:
    """Features of several blocks side by side, put together for the images that are asked for.

    All at once would take a GPU's memory several times: 52 heads see four ways of taking the same features.

    views:   of each view of the images, one after the other, the features that stand side by side, (M, C') each
    numbers: which of the M images these are
    """

    views: Sequence[Sequence[Tensor]]
    numbers: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(N, C)."""
        return len(self.views) * len(self.numbers), sum(part.shape[1] for part in self.views[0])

    def __getitem__(self, numbers_B: Tensor) -> Tensor:
        """Those of the images of these numbers, (B, C)."""
        rows_B = self.numbers[numbers_B % len(self.numbers)]
        found_BC = torch.cat([part[rows_B] for part in self.views[0]], 1)
        for place, view in enumerate(self.views[1:], start=1):
            is_seen_B1 = (numbers_B // len(self.numbers) == place)[:, None]
            found_BC = torch.where(is_seen_B1, torch.cat([part[rows_B] for part in view], 1), found_BC)
        return found_BC


@dataclass(frozen=True)
class Head:
    """A linear layer: on which `features`, trained at which `rate` for 256 images; weight (K, C) and bias (K,)."""

    features: str
    rate: float
    weight: Tensor
    bias: Tensor

    @property
    def is_finite(self) -> bool:
        """Whether its training has not diverged."""
        return bool(self.weight.isfinite().all() and self.bias.isfinite().all())


@dataclass(frozen=True)
class Schedule:
    """So many `iterations` of `batch_size` images each, while the rate falls by half a cosine to 0."""

    iterations: int
    batch_size: int

    def factor(self, iteration: int) -> float:
        """The rate's, in 0…1, as PyTorch's CosineAnnealingLR has it."""
        return (1 + math.cos(math.pi * iteration / self.iterations)) / 2


def batches(count: int, schedule: Schedule, seed: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Which of so many images each iteration has, (B,): every image once before any comes again, the rest dropped.

    They are drawn on the processor, and brought to the device all at once.
    """
    size = min(schedule.batch_size, count)
    rng = torch.Generator().manual_seed(seed)
    left = schedule.iterations
    while left:
        order = torch.randperm(count, generator=rng)[: count // size * size].to(device)
        for batch in order.split(size)[:left]:
            left -= 1
            yield batch


class _Group:
    """The heads on one kind of features, a rate each."""

    def __init__(self, rates_L: Tensor, classes: int, channels: int, rng: torch.Generator) -> None:
        initial_KC = torch.randn((classes, channels), generator=rng) * DEVIATION
        self.rates_L = rates_L
        self.weights_LKC = initial_KC.to(rates_L.device).repeat(len(rates_L), 1, 1)
        self.biases_LK = torch.zeros((len(rates_L), classes), device=rates_L.device)
        self.momenta = torch.zeros_like(self.weights_LKC), torch.zeros_like(self.biases_LK)

    def step(self, features_BC: Tensor, targets_B: Tensor, factor: float) -> None:
        """Descend along the mean cross entropy of a batch, as PyTorch's SGD does."""
        count, classes = self.biases_LK.shape
        flat_MC = self.weights_LKC.view(count * classes, -1)
        logits_BLK = torch.addmm(self.biases_LK.view(-1), features_BC, flat_MC.T).view(-1, count, classes)
        errors_BLK = torch.softmax(logits_BLK, 2)
        errors_BLK[torch.arange(len(targets_B), device=targets_B.device), :, targets_B] -= 1
        errors_BM = errors_BLK.view(len(targets_B), -1).div_(len(targets_B))
        rates_L11 = (self.rates_L * factor)[:, None, None]
        momentum_LKC, momentum_LK = self.momenta
        momentum_LKC.mul_(MOMENTUM).view(count * classes, -1).addmm_(errors_BM.T, features_BC)
        momentum_LK.mul_(MOMENTUM).add_(errors_BM.sum(0).view(count, classes))
        self.weights_LKC.addcmul_(momentum_LKC, rates_L11, value=-1)
        self.biases_LK.addcmul_(momentum_LK, rates_L11[:, 0], value=-1)


def train(
    features: Mapping[str, Rows],
    targets_N: Tensor,
    classes: int,
    schedule: Schedule,
    seed: int,
    rates: Sequence[float] = RATES,
    progress: PROGRESS = lambda done, of: None,
) -> list[Head]:
    """A head for each kind of `features`, (N, C) each, and each rate, in this order; every one as if trained alone.

    Heads of one kind begin with the same weights, so that the rate is what tells them apart.
    """
    rng = torch.Generator().manual_seed(seed)
    batch = min(schedule.batch_size, len(targets_N))
    rates_L = torch.tensor(rates, device=targets_N.device) * batch / 256
    groups = {name: _Group(rates_L, classes, values.shape[1], rng) for name, values in features.items()}
    for iteration, chosen_B in enumerate(batches(len(targets_N), schedule, seed, targets_N.device)):
        for name, group in groups.items():
            group.step(features[name][chosen_B], targets_N[chosen_B], schedule.factor(iteration))
        progress(iteration + 1, schedule.iterations)
    return [
        Head(name, rate, group.weights_LKC[place], group.biases_LK[place])
        for name, group in groups.items()
        for place, rate in enumerate(rates)
    ]


def right(heads: Sequence[Head], features: Mapping[str, Rows], targets_N: Tensor, block: int = 4096) -> Tensor:
    """How many images each head names rightly, (heads,), -1 of one whose training has diverged.

    Equal logits count for the class that stands first.
    """
    counts = torch.zeros(len(heads), dtype=torch.long, device=targets_N.device)
    for part in torch.arange(len(targets_N), device=targets_N.device).split(block):
        seen = {name: each[part] for name, each in features.items()}
        for place, head in enumerate(heads):
            logits_BK = torch.addmm(head.bias, seen[head.features], head.weight.T)
            counts[place] += (logits_BK.argmax(1) == targets_N[part]).sum()
    counts = counts.cpu()
    counts[[place for place, head in enumerate(heads) if not head.is_finite]] = -1
    return counts
