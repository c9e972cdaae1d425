"""Backbones as feature pyramids, for detection and segmentation.

pyramid = build_pyramid(create_backbone("mae_vit_base", FILE), "fpn", image_size=1024, window=16)
maps = pyramid(images)  # four, of strides 4, 8, 16 and 32
"""

from typing import Literal, get_args

from torch import nn

from backbones.adapters.hierarchical import HierarchicalTrunk, stage_indices
from backbones.adapters.layer_decay import parameter_groups
from backbones.adapters.plain_vit import PlainTrunk, Positions, foreign_part
from backbones.adapters.pyramids import Pyramid, hierarchical_pyramid, quarters_pyramid, simple_pyramid
from backbones.errors import InputError

__all__ = ["Adapter", "Pyramid", "build_pyramid", "parameter_groups"]

Adapter = Literal["fpn", "simple"]


def build_pyramid(
    backbone: nn.Module,
    adapter: Adapter,
    *,
    image_size: int,
    window: int,
    relative_position: bool = True,
    channels: int = 256,
    activation_checkpointing: bool = False,
) -> Pyramid:
    """Turn a backbone into a feature pyramid; the backbone is taken over and must not be used afterwards.

    adapter:                  "fpn" (Li et al. 2021, the MAE paper's protocol): each quarter of a plain ViT gives one
                              map, as wide as the ViT; hierarchical models (Swin, ConvNeXt, ResNet) give their own
                              maps. "simple" (ViTDet): all maps from the last, plain ViTs only
    image_size:               side in pixels of the images to expect; plain ViTs take others as well
    window:                   side in patches of the attention windows of a plain ViT, 16 in `fpn` and 14 in `simple`
    relative_position:        add zero-initialised relative positions to a plain ViT: shared bias tables in `fpn`,
                              decomposed ones in `simple`. A BEiT has its own and keeps them either way
    channels:                 of each map of `simple`
    activation_checkpointing: compute the trunk's activations again in the backward pass instead of keeping them

    Raises InputError for a backbone that has no such maps, and for settings that do not fit.
    """
    if adapter not in get_args(Adapter):
        raise InputError(f"adapter {adapter!r}: no such adapter. There are fpn and simple.")
    for name, value in {"image size": image_size, "window": window, "channels": channels}.items():
        if value < 1:
            raise InputError(f"{name} {value}: expected a positive number.")
    if (foreign := foreign_part(backbone)) is None:
        positions: Positions = "tables" if adapter == "fpn" else "decomposed"
        trunk = PlainTrunk(
            backbone, image_size, window, positions if relative_position else None, activation_checkpointing
        )
        return quarters_pyramid(trunk) if adapter == "fpn" else simple_pyramid(trunk, channels)
    if stage_indices(backbone) is None:
        raise InputError(
            f"{type(backbone).__name__} has no spatial feature maps that an adapter can use: {foreign}, and its "
            "feature_info lacks the strides 4, 8, 16 and 32. Use timm's VisionTransformer or BEiT with their own "
            "attention, or a hierarchical model such as Swin, ConvNeXt or ResNet."
        )
    if adapter == "simple":
        raise InputError(
            f"{type(backbone).__name__}: the adapter `simple` needs a plain ViT, and this model is a pyramid already. "
            "Use the adapter `fpn`."
        )
    return hierarchical_pyramid(HierarchicalTrunk(backbone, image_size, activation_checkpointing))
