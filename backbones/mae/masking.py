"""Masked image modelling: which patches the encoder sees.   B images, L patches, K kept patches, R blocks."""

from typing import Literal, get_args

import torch
from torch import Tensor

from backbones.errors import InputError

MaskSampling = Literal["random", "block", "grid"]
"""How masked patches are chosen (MAE, table 1f and figure 6)."""

# L × (1 − mask_ratio) may come out a hair below the whole number that was meant: 10 × (1 − 0.9) = 0.9999999999999998.
_ROUNDING_SLACK = 1e-6

_BLOCKS = 48
"""So many blocks are drawn for each image. 147 of 14 × 14 patches take ten on average; where these are too few, patches
of no block are masked as well."""

_BLOCK_DRAWS = 4  # numbers that a block takes: its area, its shape, its two coordinates
_SMALLEST_BLOCK, _FLATTEST_BLOCK = 16, 0.3  # patches; height over width, or the reverse (BEiT, algorithm 1)


def kept_patches(patches: int, mask_ratio: float) -> int:
    """How many of an image's patches stay visible: L × (1 − mask_ratio), rounded down.

    Raises InputError if nothing would be kept or nothing masked.
    """
    kept = int(patches * (1.0 - mask_ratio) + _ROUNDING_SLACK)
    if not 0 < kept < patches:
        raise InputError(
            f"mask_ratio {mask_ratio} keeps {kept} of {patches} patches. "
            f"Expected a ratio between 0 and 1 that leaves at least one patch visible and one masked; MAE uses 0.75."
        )
    return kept


def require_sampling(sampling: str, grid: tuple[int, int], mask_ratio: float) -> None:
    """Raise InputError if images of that many rows and columns of patches cannot be masked so."""
    if sampling not in get_args(MaskSampling):
        raise InputError(f"mask_sampling {sampling!r}: expected one of {', '.join(get_args(MaskSampling))}.")
    rows, columns = grid
    kept = kept_patches(rows * columns, mask_ratio)
    if sampling == "grid" and (rows % 2 or columns % 2 or 4 * kept != rows * columns):
        raise InputError(
            f"mask_sampling grid keeps one of every four patches, and mask_ratio {mask_ratio} keeps {kept} of "
            f"{rows} × {columns}. Expected mask_ratio 0.75 and even numbers of rows and columns of patches."
        )


def numbers_for(sampling: MaskSampling, patches: int) -> int:
    """How many random numbers decide which of an image's patches are masked, those for each patch first."""
    return patches + (_BLOCKS * _BLOCK_DRAWS if sampling == "block" else 0)


def rank_patches(noise: Tensor, sampling: MaskSampling, grid: tuple[int, int], mask_ratio: float) -> Tensor:
    """Turn random numbers (B, `numbers_for`) between 0 and 1 into (B, L): the patches with the smallest are kept.

    So all images of a batch have exactly as many masked patches as the ratio says, however they are sampled.

    random: the first L numbers as they are.
    block:  rectangles are drawn one after the other (BEiT, arXiv 2106.08254, algorithm 1). What an earlier one covers
            is masked before what a later one covers, that before what none covers, and patches of the same one in
            random order: of the last that is needed, as many stay visible as would be too many.
    grid:   of every 2 × 2 patches one is kept, the same of all in an image. The paper does not say which: it is drawn.
    """
    rows, columns = grid
    patches = rows * columns
    noise_BL = noise[:, :patches]
    if sampling == "block":
        draws_BRN = noise[:, patches:].unflatten(1, (_BLOCKS, _BLOCK_DRAWS))
        return noise_BL + (_BLOCKS - _first_block(draws_BRN, grid, patches - kept_patches(patches, mask_ratio)))
    if sampling == "grid":
        corner_B1 = noise_BL[:, :4].argmin(dim=1, keepdim=True)
        row_L = torch.arange(rows, device=noise.device).repeat_interleave(columns)
        column_L = torch.arange(columns, device=noise.device).repeat(rows)
        return noise_BL + (row_L % 2 * 2 + column_L % 2 != corner_B1)
    return noise_BL


def _first_block(draws_BRN: Tensor, grid: tuple[int, int], masked: int) -> Tensor:
    """Which block is the first to cover each patch (B, L), counted from 0; R where none does.

    A block's area is uniform between 16 patches and as many as are left to mask, its height over its width log-uniform
    between 0.3 and 1 / 0.3 (BEiT's paper says Rand for both, its code this) as far as that fits the image, and its
    place uniform. `masked` patches are wanted; blocks that come after those change nothing.
    """
    rows, columns = grid
    row_H, column_W = (torch.arange(side, device=draws_BRN.device) for side in grid)
    first_BHW = torch.full((len(draws_BRN), rows, columns), _BLOCKS, device=draws_BRN.device)
    smallest = min(_SMALLEST_BLOCK, masked)
    for block, draws_BN in enumerate(draws_BRN.unbind(1)):
        of_area, of_shape, of_top, of_left = draws_BN.unbind(1)
        left_to_mask = masked - (first_BHW < _BLOCKS).sum((1, 2))
        area_B = smallest + of_area * (left_to_mask - smallest).clamp(min=0)
        lowest, highest = (area_B / columns**2).clamp(min=_FLATTEST_BLOCK), rows**2 / area_B
        highest = highest.clamp(max=1 / _FLATTEST_BLOCK)
        shape_B = lowest * (highest / lowest) ** of_shape
        height_B = (area_B * shape_B).sqrt().round().clamp(1, rows)
        width_B = (area_B / shape_B).sqrt().round().clamp(1, columns)
        top_B = (of_top * (rows - height_B + 1)).floor()
        left_B = (of_left * (columns - width_B + 1)).floor()
        in_rows_BH = _within(row_H, top_B, height_B)
        covered_BHW = in_rows_BH[:, :, None] & _within(column_W, left_B, width_B)[:, None]
        first_BHW = torch.where(covered_BHW, first_BHW.clamp(max=block), first_BHW)
    return first_BHW.flatten(1)


def _within(positions_N: Tensor, start_B: Tensor, length_B: Tensor) -> Tensor:
    """Which positions lie in a stretch, (B, N)."""
    return (positions_N >= start_B[:, None]) & (positions_N < (start_B + length_B)[:, None])


def random_masking(noise_BL: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor]:
    """Split each image's patches into kept and masked ones, uniformly at random if the noise is.

    The patches with the smallest noise are kept (MAE, section 3, "Simple implementation").
    Returns the indices of the kept (B, K) and of the masked (B, L − K) patches.
    Raises InputError if nothing would be kept or nothing masked.
    """
    kept = kept_patches(noise_BL.shape[1], mask_ratio)
    shuffled_BL = noise_BL.argsort(dim=1)
    return shuffled_BL[:, :kept], shuffled_BL[:, kept:]


def take_patches(patches_BLP: Tensor, indices_BN: Tensor) -> Tensor:
    """The patches that the indices name, per image: (B, L, P) and (B, N) give (B, N, P)."""
    return torch.take_along_dim(patches_BLP, indices_BN.unsqueeze(-1), dim=1)
