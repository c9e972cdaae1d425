"""Which patches are kept and which are masked."""

import math
import random

import pytest
import torch
from torch import Tensor
from transformers.models.flava.image_processing_pil_flava import FlavaMaskingGenerator

from backbones.errors import InputError
from backbones.mae.masking import (
    MaskSampling,
    kept_patches,
    numbers_for,
    random_masking,
    rank_patches,
    require_sampling,
)


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


def ranked(sampling: MaskSampling, grid: tuple[int, int], ratio: float, images: int = 500) -> tuple[Tensor, Tensor]:
    """The random numbers of so many images, and which patches they mask, (B, rows, columns)."""
    patches = grid[0] * grid[1]
    noise = torch.rand(images, numbers_for(sampling, patches), generator=torch.Generator().manual_seed(0))
    _, masked = random_masking(rank_patches(noise, sampling, grid, ratio), ratio)
    mask = torch.zeros(images, patches, dtype=torch.bool).scatter_(1, masked, True)
    return noise, mask.view(images, *grid)


def test_random_sampling_is_the_noise_itself() -> None:
    noise = torch.rand(3, 36)
    assert torch.equal(rank_patches(noise, "random", (6, 6), 0.75), noise)


@pytest.mark.parametrize("grid", [(14, 14), (6, 6), (4, 30), (3, 3), (40, 2)])
@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.85])
def test_blocks_mask_as_many_patches_in_every_image(grid: tuple[int, int], ratio: float) -> None:
    patches = grid[0] * grid[1]
    kept = kept_patches(patches, ratio)
    _, mask = ranked("block", grid, ratio)
    assert set(mask.sum((1, 2)).tolist()) == {patches - kept}


def rectangles(sampling_noise: Tensor, grid: tuple[int, int], masked: int) -> list[list[tuple[int, int, int, int]]]:
    """Each image's blocks, by algorithm 1 of BEiT written out for one at a time: top, left, height, width."""
    found = []
    for numbers in sampling_noise:
        blocks, covered = [], torch.zeros(grid, dtype=torch.bool)
        draws = iter(numbers[grid[0] * grid[1] :].tolist())
        while covered.sum() < masked:
            area_draw, shape_draw, top_draw, left_draw = (next(draws) for _ in range(4))
            most = max(16, masked - int(covered.sum()))
            area = 16 + area_draw * (most - 16)
            low, high = max(0.3, area / grid[1] ** 2), min(1 / 0.3, grid[0] ** 2 / area)
            shape = math.exp(math.log(low) + shape_draw * (math.log(high) - math.log(low)))
            height, width = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            top, left = int(top_draw * (grid[0] - height + 1)), int(left_draw * (grid[1] - width + 1))
            covered[top : top + height, left : left + width] = True
            blocks.append((top, left, height, width))
        found.append(blocks)
    return found


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_blocks_are_those_of_algorithm_1(ratio: float) -> None:
    """All but the last are masked whole, the last as far as is needed; they have its sizes and shapes."""
    grid, masked = (14, 14), 196 - kept_patches(196, ratio)
    noise, mask = ranked("block", grid, ratio, images=40)
    for image, blocks in zip(mask, rectangles(noise, grid, masked), strict=True):
        whole, last = torch.zeros(grid, dtype=torch.bool), torch.zeros(grid, dtype=torch.bool)
        for part, chosen in ((whole, blocks[:-1]), (last, blocks[-1:])):
            for top, left, height, width in chosen:
                part[top : top + height, left : left + width] = True
                assert 12 <= height * width <= masked + 14 and 0.2 < height / width < 5  # sides are rounded
        assert (image & whole).sum() == whole.sum()
        assert not (image & ~whole & ~last).any()


def joined(mask: Tensor) -> float:
    """How often the neighbour of a masked patch is masked."""
    beside = (mask[:, :, 1:] & mask[:, :, :-1]).sum() / mask[:, :, :-1].sum()
    return beside.item()


def test_blocks_are_as_large_as_those_of_an_independent_generator() -> None:
    """transformers' for FLAVA, adapted from BEiT's, which ends a little short of what is wanted."""
    random.seed(0)
    generator = FlavaMaskingGenerator(input_size=14, total_mask_patches=98)
    theirs = torch.stack([generator().bool() for _ in range(300)])
    _, ours = ranked("block", (14, 14), 0.5)
    _, scattered = ranked("random", (14, 14), 0.5)
    assert joined(ours) == pytest.approx(joined(theirs), abs=0.03)
    assert joined(scattered) == pytest.approx(0.5, abs=0.02) and joined(ours) > 0.75


@pytest.mark.parametrize("grid", [(14, 14), (6, 4)])
def test_a_grid_keeps_one_of_every_four_patches(grid: tuple[int, int]) -> None:
    _, mask = ranked("grid", grid, 0.75)
    kept = ~mask.unflatten(2, (grid[1] // 2, 2)).unflatten(1, (grid[0] // 2, 2))
    assert (kept.sum((2, 4)) == 1).all()
    corners = kept.permute(0, 2, 4, 1, 3).flatten(3)
    assert (corners.all(-1) == corners.any(-1)).all()  # the same of all fours of an image
    assert (corners[..., 0].float().mean(0) - 0.25).abs().max() < 0.08  # and any of them


@pytest.mark.parametrize(
    ("sampling", "grid", "ratio", "expected"),
    [
        ("grid", (14, 14), 0.5, "mask_ratio 0.5 keeps 98 of 14 × 14"),
        ("grid", (7, 8), 0.75, "even numbers of rows and columns"),
        ("blocks", (14, 14), 0.75, "mask_sampling 'blocks': expected one of random, block, grid"),
        ("block", (2, 2), 0.9, "mask_ratio 0.9 keeps 0 of 4"),
    ],
)
def test_what_cannot_be_sampled_is_refused(sampling: str, grid: tuple[int, int], ratio: float, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        require_sampling(sampling, grid, ratio)
