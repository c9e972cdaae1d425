"""Position embeddings as the code bases make them: written from the formulas, apart from the project's own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _encoded(place: int, width: int) -> list[float]:
    """Sines, then cosines, of one coordinate at width / 2 frequencies from 1 down to almost 1/10000."""
    angles = [place / 10000 ** (index / (width // 2)) for index in range(width // 2)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


def fixed(rows: int, columns: int, width: int, first: str) -> Tensor:
    """Sin-cos embeddings (1, 1 + rows × columns, width), the class token's zero; the first half of `first`."""
    coordinates = [(row, column) for row in range(rows) for column in range(columns)]
    order = [(column, row) if first == "column" else (row, column) for row, column in coordinates]
    values = [_encoded(one, width // 2) + _encoded(other, width // 2) for one, other in order]
    return torch.tensor([[0.0] * width, *values])[None]


def mae(rows: int, columns: int, width: int) -> Tensor:
    """As facebookresearch/mae, util/pos_embed.py: numpy's meshgrid of columns and rows, "w goes first"."""
    return fixed(rows, columns, width, "column")


def moco(rows: int, columns: int, width: int) -> Tensor:
    """As facebookresearch/moco-v3, vits.py: torch's meshgrid runs along rows first."""
    return fixed(rows, columns, width, "row")


def learned(rows: int, columns: int, width: int, seed: int = 0) -> Tensor:
    """Smooth over the grid and the same for no two numbers, as learned ones come to be."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, width, 3, 3, generator=generator)
    smooth = F.interpolate(coarse, size=(rows, columns), mode="bicubic", align_corners=True)
    patches = 0.1 * smooth.flatten(2).transpose(1, 2)
    return torch.cat([torch.zeros(1, 1, width), patches + 0.01 * torch.randn(patches.shape, generator=generator)], 1)


def interpolated(position: Tensor, side: int, to: tuple[int, int]) -> Tensor:
    """As MAE's and DeiT's fine-tuning interpolate them."""
    grid = position[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    new = F.interpolate(grid, size=to, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    return torch.cat([position[:, :1], new], dim=1)


def trained(position: Tensor, spread: float = 0.1) -> Tensor:
    """Moved a little everywhere, as fine-tuning moves them."""
    return position + spread * torch.randn(position.shape, generator=torch.Generator().manual_seed(3))
