"""Does what is learnt from frozen features come to the same on the device?

Neighbours are to be the same ones on every machine; linear heads and logistic regression as near as rounding allows.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.selftest.exactness import exact_products, relative
from benchmarks.selftest.lines import Bench, Found, Line
from tasks.probing import linear_grid, logistic
from tasks.probing.neighbours import nearest

QUERIES, KEPT, CHANNELS, CLASSES, NEIGHBOURS = 600, 5000, 192, 10, 200

OTHERS = 12
"""Of the neighbours, at most: a cosine on a border of rounding, some 30 of a million, may set equal ones apart."""

TOLERANCE = 1e-4
"""Of weights, relatively: another order of the channels, which rounds otherwise, puts 2e-7 between those of heads."""

_SCHEDULE = linear_grid.Schedule(iterations=100, batch_size=256)
_STRENGTHS, _LABELLED = (1e-2, 1.0), 500


def features_and_targets() -> tuple[Tensor, Tensor, Tensor]:
    """Of queries (Q, C), and of what is kept (N, C) and its classes (N,): scattered about a centre each, some twice."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, CHANNELS, generator=rng)
    targets = torch.randint(CLASSES, (KEPT,), generator=rng)
    kept = centres[targets] + torch.randn(KEPT, CHANNELS, generator=rng)
    kept[KEPT // 2 :: 7] = kept[: KEPT // 2 : 7][: len(kept[KEPT // 2 :: 7])]
    return kept[:QUERIES] + torch.randn(QUERIES, CHANNELS, generator=rng), kept, targets


def by_brute_force(queries: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines in double precision and indices of the neighbours, equal ones by their index."""
    cosines = F.normalize(queries.double(), dim=1) @ F.normalize(kept.double(), dim=1).T
    values, order = (torch.round(cosines * 2**40) / 2**40).sort(dim=1, descending=True, stable=True)
    return values[:, :NEIGHBOURS], order[:, :NEIGHBOURS]


def probes(bench: Bench) -> Found:
    """All three on the device, beside the processor."""
    queries, kept, targets = features_and_targets()
    with exact_products():
        cosines, indices = nearest(queries.to(bench.device), kept.to(bench.device), NEIGHBOURS)
    exact_cosines, exact_indices = by_brute_force(queries, kept)
    others = int((indices.cpu() != exact_indices).sum())
    cosine_error = float((cosines.cpu() - exact_cosines).abs().max())
    of_heads = [_heads(kept, targets, device) for device in (bench.device, "cpu")]
    of_regressions = [_regressions(kept, targets, device) for device in (bench.device, "cpu")]
    head_error, regression_error = relative(*of_heads), relative(*of_regressions)
    return Found(
        others <= OTHERS and cosine_error <= 2**-39 and max(head_error, regression_error) <= TOLERANCE,
        f"{others} of {indices.numel():,} neighbours are others, cosines off by {cosine_error:.1e}; weights of heads "
        f"by {head_error:.1e}, of regressions by {regression_error:.1e}",
        f"at most {OTHERS} others; weights within {TOLERANCE:g}",
        {
            "other_neighbours": others,
            "largest_cosine_error": cosine_error,
            "head_error": head_error,
            "regression_error": regression_error,
        },
    )


def _heads(features: Tensor, targets: Tensor, device: str) -> Tensor:
    with exact_products():
        heads = linear_grid.train({"": features.to(device)}, targets.to(device), CLASSES, _SCHEDULE, 0)
    return torch.stack([head.weight for head in heads]).cpu()


def _regressions(features: Tensor, targets: Tensor, device: str) -> Tensor:
    few = F.normalize(features[:_LABELLED], dim=1).to(device)
    solved = logistic.solve(few, targets[:_LABELLED].to(device), CLASSES, _STRENGTHS)
    return torch.stack([each.weight for each in solved]).cpu()


PROBES = (
    Line(
        "probes",
        "neighbours, linear heads and logistic regression from the same features, beside the processor",
        {"cuda": 5, "cpu": 10},
        probes,
    ),
)
