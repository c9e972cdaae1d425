"""Which patches are kept and which are masked."""

import pytest
import torch

from backbones.errors import InputError
from backbones.mae.masking import kept_patches, random_masking


@pytest.mark.parametrize(("length", "ratio", "kept"), [(196, 0.75, 49), (196, 0.8, 39), (10, 0.9, 1), (36, 0.75, 9)])
def test_masking_keeps_the_smallest_noise(length: int, ratio: float, kept: int) -> None:
    noise = torch.rand(4, length, generator=torch.Generator().manual_seed(0))
    kept_indices, masked_indices = random_masking(noise, ratio)
    assert kept_indices.shape == (4, kept) and masked_indices.shape == (4, length - kept)
    assert (noise.gather(1, kept_indices).amax(1) < noise.gather(1, masked_indices).amin(1)).all()
    everything = torch.cat([kept_indices, masked_indices], dim=1).sort(dim=1).values
    assert torch.equal(everything, torch.arange(length).expand(4, -1))


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 1.5, 0.99])
def test_masking_refuses_to_keep_or_to_mask_nothing(ratio: float) -> None:
    with pytest.raises(InputError, match="mask_ratio"):
        kept_patches(36, ratio)
