"""The filters of a ViT's patch embedding, for patches of another size.

O filters, C channels, side × side pixels
"""

from typing import Any, Literal

import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.weights.conversion import Weights

PatchResampling = Literal["pseudo_inverse", "bicubic"]
FILTERS = "patch_embed.proj.weight"


def pyramid_side(side: int) -> int:
    """The side of patches in a feature pyramid, whose strides are powers of two: 16 for 14 (ViTDet's ViT-H)."""
    return 1 << (side - 1).bit_length()


def has_pyramids_patches(model: nn.Module) -> bool:
    """Whether a feature pyramid takes a model's patches as they are; a model without square ones has none to change."""
    own = model.state_dict().get(FILTERS)
    if not isinstance(model, VisionTransformer) or own is None or own.ndim != 4 or own.shape[2] != own.shape[3]:
        return True
    return pyramid_side(own.shape[3]) == own.shape[3]


def resample_filters(patch_embed: PatchEmbed, side: int, resampling: PatchResampling) -> None:
    """Bring square patches, and the filters that embed them, to another side.

    pseudo_inverse: an enlarged patch is embedded as the patch was (FlexiViT, arXiv 2212.08013; timm's
                    `resample_patch_embed`)
    bicubic:        the filters are interpolated as images are, without antialiasing and at their own scale
                    (baaivision/EVA, EVA-01/eva/interpolate_patch_14to16.py)
    """
    filters_OCHW = patch_embed.proj.weight.detach()
    patch_embed.set_input_size(patch_size=side)
    if resampling == "bicubic":
        enlarged_OCHW = F.interpolate(filters_OCHW.float(), size=(side, side), mode="bicubic")
        patch_embed.proj.weight.data.copy_(enlarged_OCHW)


def hold_filters_of(model: nn.Module, weights: Weights) -> str | None:
    """Give a ViT the patches that a feature pyramid needs, if that is what the file's filters are for.

    The grid of patches becomes that of the file's position embeddings, so that they stay as they are. Returns what was
    done, None if nothing.
    """
    vit: Any = model
    filters = weights.tensors.get(FILTERS)
    if not isinstance(model, VisionTransformer) or not _are_for_pyramid(filters, vit.patch_embed.proj.weight):
        return None
    assert filters is not None
    before, side = vit.patch_embed.patch_size[0], filters.shape[-1]
    rows, columns = vit.patch_embed.grid_size
    positions = weights.tensors.get("pos_embed")
    if vit.pos_embed is not None and positions is not None and positions.ndim == 3:
        tokens = positions.shape[1] - (vit.pos_embed.shape[1] - rows * columns)
        root = round(max(tokens, 0) ** 0.5)
        rows, columns = (root, root) if root and root * root == tokens else (rows, columns)
    vit.set_input_size(img_size=(side * rows, side * columns), patch_size=side)
    return f"filters of {side}×{side} pixels as they are in the file, in place of {before}×{before}"


def require_own_patches(weights: Weights, model: nn.Module) -> None:
    """Raise InputError, which says why, if a file's filters are those of a pyramid and the model's patches are not."""
    filters, own = weights.tensors.get(FILTERS), model.state_dict().get(FILTERS)
    if own is not None and filters is not None and _are_for_pyramid(filters, own):
        side, found = own.shape[-1], filters.shape[-1]
        raise InputError(
            f"its patch filters have {found}×{found} pixels, and this model cuts images into patches of "
            f"{side}×{side}: they were brought to another size for a feature pyramid. Detection and segmentation take "
            f"the file; classification needs the one that has filters of {side}×{side}."
        )


def _are_for_pyramid(filters: Tensor | None, own: Tensor) -> bool:
    """Whether filters are a model's `own` but for their side, which is the one that a pyramid needs."""
    if filters is None or own.ndim != 4 or own.shape[2] != own.shape[3]:
        return False
    side = pyramid_side(own.shape[3])
    return side != own.shape[3] and filters.shape == (*own.shape[:2], side, side)
