"""LARS as MAE's linear probing has it, computed by timm's."""

from collections.abc import Iterable, Mapping
from typing import Any

from timm.optim.lars import Lars


def make_lars(groups: Iterable[Mapping[str, Any]], lr: float, momentum: float, trust_coefficient: float) -> Lars:
    """LARS without weight decay, which scales each matrix's gradient to `trust_coefficient` of the matrix's own norm.

    Biases and whatever else has one dimension learn as with SGD, and so does a matrix while it or its gradient is 0
    (facebookresearch/mae, util/lars.py, lines 31 to 47). timm's scales all or nothing of a group, so each of `groups`,
    which have their parameters under "params", becomes two.
    """
    parts: list[dict[str, Any]] = []
    for group in groups:
        matrices = [each for each in group["params"] if each.ndim > 1]
        others = [each for each in group["params"] if each.ndim <= 1]
        parts += [{**group, "params": matrices, "always_adapt": True}] if matrices else []
        parts += [{**group, "params": others, "always_adapt": False}] if others else []
    return Lars(parts, lr=lr, momentum=momentum, trust_coeff=trust_coefficient, eps=0.0)
