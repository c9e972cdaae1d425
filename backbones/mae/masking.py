"""Masked image modelling: which patches the encoder sees.   B images, L patches, K kept patches."""

import torch
from torch import Tensor

from backbones.errors import InputError

# L × (1 − mask_ratio) may come out a hair below the whole number that was meant: 10 × (1 − 0.9) = 0.9999999999999998.
_ROUNDING_SLACK = 1e-6


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


def random_masking(noise_BL: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor]:
    """Split each image's patches, uniformly at random, into kept and masked ones.

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
