"""Position embeddings of a plain ViT in a pyramid.   H × W patches, T tokens before them, C channels"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.mae.positions import sincos_position_embedding

PositionEmbeddings = Literal["loaded", "resized", "sincos"]


def position_parameter(
    backbone: Any, own_grid: tuple[int, int], grid: int, choice: PositionEmbeddings, tokens: bool
) -> nn.Parameter | None:
    """The position embeddings that a pyramid trains: (1, H, W, C), or (1, T + H × W, C) with those of the tokens.

    own_grid: rows and columns of the patches that the backbone has them for
    grid:     rows, and columns, of the patches of the images to expect
    choice:   "loaded", the backbone's as they are (ViTDet's `get_abs_pos` interpolates them at every step: detectron2,
              modeling/backbone/utils.py); "resized", the backbone's interpolated once to `grid` (mmsegmentation,
              models/backbones/mae.py, `resize_abs_pos_embed`); "sincos", new ones for `grid` in place of the backbone's
              (MIMDet, models/benchmarking.py:592-634)
    tokens:   whether to keep the positions of class and register tokens, if these have any, which come first

    None for a backbone without.
    """
    position = getattr(backbone, "pos_embed", None)
    if position is None:
        return None
    patches = own_grid[0] * own_grid[1]
    of_tokens, of_patches = position.detach().tensor_split((position.shape[1] - patches,), 1)
    of_patches = of_patches.unflatten(1, own_grid)
    if choice == "resized":
        of_patches = resized(of_patches, (grid, grid), has_registers(backbone))
    if choice == "sincos":
        sincos = sincos_position_embedding((grid, grid), position.shape[2], class_token=False, rows_first=True)
        of_patches = sincos.to(position).unflatten(1, (grid, grid))
    whole = torch.cat([of_tokens, of_patches.flatten(1, 2)], 1) if tokens else of_patches.clone()
    return nn.Parameter(whole, requires_grad=choice == "sincos" or position.requires_grad)


def has_registers(backbone: nn.Module) -> bool:
    """Whether a ViT has register tokens, beside which its position embeddings are interpolated with antialiasing."""
    return getattr(backbone, "reg_token", None) is not None


def resized(position_1HWC: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    """Interpolate as the fine-tuning codes of MAE, BEiT and ViTDet do: bicubic without antialiasing.

    DINOv2's does it with antialiasing where there are registers (facebookresearch/dinov2, hub/backbones.py).
    """
    if position_1HWC.shape[1:3] == size:
        return position_1HWC
    position = F.interpolate(position_1HWC.permute(0, 3, 1, 2), size=size, mode="bicubic", antialias=antialias)
    return position.permute(0, 2, 3, 1)
