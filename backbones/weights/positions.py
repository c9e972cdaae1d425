"""Which kind of position embeddings a ViT has: fixed sin-cos ones, by the order of their axes, or learned ones.

D numbers encode each of L = R × C patches (rows, columns), row by row. Of the fixed ones, half of the numbers depend on
the row alone and the other half on the column alone; which half is which differs between code bases, and survives
interpolation, half precision and the little that fine-tuning moves them. Learned ones mix the two in every number.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Positions = Literal["column first", "row first", "learned"]
"""What the first half of the numbers encodes: the column in facebookresearch/mae (util/pos_embed.py, lines 28 and
41-45) and in transformers' ViTMAE; the row in facebookresearch/moco-v3 (vits.py, lines 28-37) and in mmpretrain, whose
MAE has it so as well (models/selfsup/mae.py and build_2d_sincos_position_embedding)."""

_FIXED, _LEARNED = 0.85, 0.65
"""Shares of the variance. The fixed ones have 1. Where both halves mix rows and columns alike, the smaller of the two
shares is at most 0.5. Nothing is said of what lies between."""


def kind_of_positions(position_1LD: Tensor, grid: tuple[int, int]) -> Positions | None:
    """Tell the kind from the embeddings of (rows, columns) patches, tokens without a place before them.

    None where it cannot be told: fewer than three rows or columns, a width that is no
    multiple of 4, a constant, another number of patches
    than the grid has.
    """
    rows, columns = grid
    extra = position_1LD.shape[-2] - rows * columns
    if position_1LD.ndim != 3 or min(rows, columns) < 3 or extra < 0 or position_1LD.shape[-1] % 4:
        return None
    if position_1LD.is_meta:
        return None
    patches_RCD = position_1LD[0, extra:].double().reshape(rows, columns, -1)
    halves = [_fast_varying(half) for half in patches_RCD.chunk(2, dim=2)]
    by_row, by_column = [[_share(half, other) for half in halves] for other in (1, 0)]
    shares = {"column first": min(by_column[0], by_row[1]), "row first": min(by_row[0], by_column[1])}
    if not all(torch.isfinite(torch.tensor([*by_row, *by_column]))):
        return None
    for kind, share in shares.items():
        if share >= _FIXED:
            return kind  # type: ignore[return-value]
    return "learned" if max(shares.values()) <= _LEARNED else None


def _fast_varying(half_RCD: Tensor) -> Tensor:
    """The numbers of the higher frequencies, the first third of the sines and of the cosines.

    The others hardly change over a grid, so that a little training would hide what they encode.
    """
    sines_and_cosines = half_RCD.chunk(2, dim=2)
    return torch.cat([part[..., : max(1, part.shape[2] // 3)] for part in sines_and_cosines], dim=2)


def _share(half_RCD: Tensor, other_axis: int) -> float:
    """The share of the variance that is left when the other axis is averaged out; undefined for a constant."""
    centred = half_RCD - half_RCD.mean(dim=(0, 1))
    kept = centred.mean(dim=other_axis).square().mean(dim=0).sum()
    return float(kept / centred.square().mean(dim=(0, 1)).sum())


def may_have_grid(position_1LD: Tensor, grid: tuple[int, int]) -> bool:
    """Whether nothing speaks against this grid of (rows, columns) patches.

    Vertical neighbours are much alike in the true grid. In no other grid of as many patches, up to four times as long
    as wide, may they be clearly more so.
    """
    rows, columns = grid
    count = rows * columns
    patches_ND = position_1LD[0, position_1LD.shape[-2] - count :].double()
    if position_1LD.is_meta or min(grid) < 3 or not torch.isfinite(patches_ND).all():
        return True
    side = math.isqrt(count)
    others = [width for width in range(max(side // 2, 2), 2 * side + 1) if count % width == 0]
    steps = [float((patches_ND[width:] - patches_ND[:-width]).square().mean()) for width in (columns, *others)]
    return steps[0] <= 1.5 * min(steps)
